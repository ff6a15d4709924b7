//! One request and the head of its answer, over one connection.

use super::{
    answer::Watch,
    failed,
    idle::Idle,
    pool::{Line, Sender},
    strict::{Asked, Flaw},
    upload::{Ended, Streaming, Upload},
};
use crate::{
    audit::Crossing,
    refusal::{Reason, Refusal},
    route::Timeouts,
};
use http::{Method, Request, Response};
use hyper::{body::Incoming, client::conn::TrySendError};
use std::{
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;
use tokio_util::either::Either;

/// How long a body that nobody took anything of may need to come back from a connection that died.
const RETURN: Duration = Duration::from_millis(200);

/// One request's exchange with an upstream, over one connection after the other.
pub(super) struct Exchange<'a> {
    upload: Uploading,
    /// There is no body, so that it can be sent any number of times.
    bodiless: bool,
    /// The body, which nobody took anything of.
    untouched: Option<Box<Streaming>>,
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
    /// The body, if the upstream has not acted on the request: no byte of it was sent, or it said so.
    pub(super) unsent: Option<Upload>,
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
        let bodiless = ended.is_none();
        let upload = ended.map_or(Uploading::Over, Uploading::Running);
        Self { upload, bodiless, untouched: None, watch, timeouts, crossing, taken: 0 }
    }

    /// Sends the request and waits for the head of the answer. The clock for its first byte starts when the request's
    /// body is wholly sent. Giving up drops the connection.
    pub(super) async fn run(&mut self, mut line: Line, request: Request<Upload>) -> Result<Answered, Refusal> {
        line.idle.moved();
        let mut answer = pin!(match &mut line.sender {
            Sender::Http1 { sender, control } => {
                control.expect(if request.method() == Method::HEAD { Asked::Head } else { Asked::Anything });
                Either::Left(sender.try_send_request(request))
            }
            Sender::Http2(slot) => Either::Right(slot.sender.try_send_request(request)),
        });
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
            Err(error) => self.dead(error, &line).await.map(Err),
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
        (in_time && self.untouched.is_none(), self.watch)
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
            let taken = self.crossing.taken_so_far();
            if std::mem::replace(&mut self.taken, taken) == taken {
                let cause = format!("the request's body was not taken for {} ms", limit.as_millis());
                return Poll::Ready(too_late(cause));
            }
            idle.moved();
        }
    }

    /// Whose fault it is that a body ended.
    fn judge(&mut self, ended: Option<Ended>) -> Result<(), Refusal> {
        match ended {
            None | Some(Ended::Wholly) => Ok(()), // without a word the connection died, and the answer will say so
            Some(Ended::Untouched(streaming)) => {
                self.untouched = Some(streaming);
                Ok(())
            }
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

    async fn dead(&mut self, mut error: TrySendError<Request<Upload>>, line: &Line) -> Result<Dead, Refusal> {
        let mut unsent = error.take_message().map(Request::into_body);
        let error = error.into_error();
        let silent = is_silent(&error);
        let left = left_alone(&error);
        if let Sender::Http2(slot) = &line.sender
            && (silent || left == Some(Left::Away))
        {
            slot.retire();
        }
        if unsent.is_none() && left.is_some() {
            unsent = self.recovered().await?;
        }
        if unsent.is_none()
            && let Uploading::Running(ended) = &mut self.upload
        {
            let ended = ended.try_recv().ok();
            self.judge(ended)?;
        }
        if error.is_user() {
            return Err(failed(crate::text::chain(&error)));
        }
        Ok(Dead { unsent, silent, cause: crate::text::chain(&error) })
    }

    /// The body of a request that the upstream has not acted on, if nobody took anything of it.
    async fn recovered(&mut self) -> Result<Option<Upload>, Refusal> {
        if self.bodiless {
            return Ok(Some(Upload::none()));
        }
        if self.untouched.is_none()
            && let Uploading::Running(ended) = &mut self.upload
            && let Ok(ended) = tokio::time::timeout(RETURN, ended).await
        {
            self.judge(ended.ok())?;
        }
        Ok(self.untouched.take().map(|streaming| {
            let (upload, ended) = Upload::again(*streaming);
            self.upload = Uploading::Running(ended);
            upload
        }))
    }
}

fn too_late(cause: String) -> Refusal {
    Refusal::new(Reason::UpstreamTimeout, "The service behind this address did not answer in time.")
        .because(cause)
        .closing()
}

/// The connection ended, as opposed to: something came that is no answer.
fn is_silent(error: &hyper::Error) -> bool {
    let broken = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let flawed = broken.and_then(io::Error::get_ref).is_some_and(|cause| cause.is::<Flaw>());
    let ended = error.is_incomplete_message() || error.is_canceled() || error.is_closed();
    !flawed && (ended || (!error.is_parse() && broken.is_some()))
}

/// How an HTTP/2 peer says that it has not acted on a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Left {
    /// It refused the stream (RFC 9113, section 8.7).
    Refused,
    /// It went away before it (RFC 9113, section 6.8).
    Away,
}

/// What a peer of HTTP/2 says of a request that it has not acted on (RFC 9113, sections 6.8 and 8.7).
fn left_alone(error: &hyper::Error) -> Option<Left> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    match error.reason()? {
        h2::Reason::REFUSED_STREAM if error.is_reset() && error.is_remote() => Some(Left::Refused),
        h2::Reason::NO_ERROR if error.is_go_away() && error.is_remote() => Some(Left::Away),
        _ => None,
    }
}
