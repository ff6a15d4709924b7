//! One request and the head of its answer, over one connection.

use super::{
    answer::Watch,
    failed,
    idle::Idle,
    pool::Line,
    upload::{Ended, Upload},
};
use crate::{
    audit::Crossing,
    refusal::{Reason, Refusal},
    route::Timeouts,
};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// One request's exchange with an upstream; at most one connection is tried after a dead one.
pub(super) struct Exchange<'a> {
    upload: Uploading,
    watch: Option<Watch>,
    timeouts: &'a Timeouts,
    crossing: &'a Crossing,
    /// How much of the body the upstream had taken when that was looked at last.
    taken: u64,
}

/// How far the request's body is.
enum Uploading {
    /// The upstream has all of it, or will not get more.
    Over,
    /// The client is still sending.
    Running(oneshot::Receiver<Ended>),
}

/// The connection was dead before an answer came.
pub(super) struct Dead {
    /// The request, if no byte of it was sent.
    pub(super) unsent: Option<Request<Upload>>,
    /// The connection ended without an answer, rather than with one that breaks the protocol.
    pub(super) silent: bool,
    /// What happened.
    pub(super) cause: String,
}

type Answered = Result<(Response<Incoming>, Line), Dead>;

impl<'a> Exchange<'a> {
    pub(super) fn new(
        ended: Option<oneshot::Receiver<Ended>>,
        watch: Option<Watch>,
        timeouts: &'a Timeouts,
        crossing: &'a Crossing,
    ) -> Self {
        Self { upload: ended.map_or(Uploading::Over, Uploading::Running), watch, timeouts, crossing, taken: 0 }
    }

    /// Sends the request and waits for the head of the answer. The clock for its first byte starts when the request's
    /// body is wholly sent. Giving up drops the connection.
    pub(super) async fn run(&mut self, mut line: Line, request: Request<Upload>) -> Result<Answered, Refusal> {
        line.idle.moved();
        let mut answer = pin!(line.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            if let Poll::Ready(answered) = answer.as_mut().poll(cx) {
                return Poll::Ready(Ok(answered));
            }
            if let Poll::Ready(refusal) = self.poll_cut(cx).map(Err) {
                return Poll::Ready(refusal);
            }
            let sending = matches!(self.upload, Uploading::Running(_));
            match self.poll_upload(cx) {
                Poll::Pending => return self.poll_stalled(&mut line.idle, cx).map(Err),
                Poll::Ready(Err(refusal)) => return Poll::Ready(Err(refusal)),
                Poll::Ready(Ok(())) if sending => line.idle.moved(),
                Poll::Ready(Ok(())) => {}
            }
            line.idle.poll_over(self.timeouts.first_byte, cx).map(|()| Err(self.late()))
        })
        .await?;
        match answered {
            Ok(answer) => Ok(Ok((answer, line))),
            Err(error) => self.dead(error).map(Err),
        }
    }

    /// Waits for `work`, unless the right to it ends first.
    pub(super) async fn unless_cut<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        let mut work = pin!(work);
        poll_fn(|cx| match self.poll_cut(cx) {
            Poll::Ready(refusal) => Poll::Ready(Err(refusal)),
            Poll::Pending => work.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Whether the answer came after all of the request, and the place in the register, if it has one.
    pub(super) fn close(mut self) -> (bool, Option<Watch>) {
        let in_time = match &mut self.upload {
            Uploading::Over => true,
            Uploading::Running(ended) => matches!(ended.try_recv(), Ok(Ended::Wholly)),
        };
        (in_time, self.watch)
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let Some(watch) = &mut self.watch else { return Poll::Pending };
        let reason = std::task::ready!(watch.poll_cut(cx));
        self.crossing.cut(reason);
        Poll::Ready(Refusal::new(reason, "The right to this request ended while it was under way.").closing())
    }

    /// Ready once the client has sent everything.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        let Uploading::Running(ended) = &mut self.upload else { return Poll::Ready(Ok(())) };
        let ended = std::task::ready!(Pin::new(ended).poll(cx));
        self.upload = Uploading::Over;
        Poll::Ready(self.judge(ended.ok()))
    }

    /// Ready once the upstream has taken nothing of the body for so long that it cannot be the client's fault, whose
    /// silence ends the upload by itself.
    fn poll_stalled(&mut self, idle: &mut Idle, cx: &mut Context<'_>) -> Poll<Refusal> {
        let limit = self.timeouts.first_byte + self.timeouts.request_idle;
        loop {
            std::task::ready!(idle.poll_over(limit, cx));
            let taken = self.crossing.received_so_far();
            if std::mem::replace(&mut self.taken, taken) == taken {
                let cause = format!("the request's body was not taken for {} ms", limit.as_millis());
                return Poll::Ready(too_late(cause));
            }
            idle.moved();
        }
    }

    /// Whose fault it is that a body ended.
    fn judge(&self, ended: Option<Ended>) -> Result<(), Refusal> {
        match ended {
            None | Some(Ended::Wholly) => Ok(()), // without a word the connection died, and the answer will say so
            Some(Ended::Late) => {
                let detail = format!("The request's body stopped for {} s.", self.timeouts.request_idle.as_secs());
                Err(Refusal::new(Reason::ClientTimeout, detail).closing())
            }
            Some(Ended::Broken(cause)) => {
                Err(Refusal::new(Reason::BadRequest, "The request's body broke off.").because(cause).closing())
            }
        }
    }

    fn late(&self) -> Refusal {
        too_late(format!("no byte of an answer within {} ms", self.timeouts.first_byte.as_millis()))
    }

    fn dead(&mut self, mut error: TrySendError<Request<Upload>>) -> Result<Dead, Refusal> {
        let unsent = error.take_message();
        if unsent.is_none()
            && let Uploading::Running(ended) = &mut self.upload
        {
            let ended = ended.try_recv().ok();
            self.judge(ended)?;
        }
        let error = error.into_error();
        if error.is_user() {
            return Err(failed(crate::text::chain(&error)));
        }
        Ok(Dead { unsent, silent: is_silent(&error), cause: crate::text::chain(&error) })
    }
}

fn too_late(cause: String) -> Refusal {
    Refusal::new(Reason::UpstreamTimeout, "The service behind this address did not answer in time.")
        .because(cause)
        .closing()
}

/// The connection ended, as opposed to: something came that is no answer.
fn is_silent(error: &hyper::Error) -> bool {
    use std::error::Error;
    let broken = || error.source().is_some_and(|cause| cause.downcast_ref::<io::Error>().is_some());
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || (!error.is_parse() && broken())
}
