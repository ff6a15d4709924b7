//! The upstream's answer on its way down.

use super::{
    idle::Idle,
    pool::{Line, Pool},
    streams::Registered,
    upload::Upload,
};
use crate::{audit::Crossing, body::BodyError, refusal::Reason};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// The body of an upstream's answer: frames as they come, trailers dropped. The request's crossing lives until it ends.
pub struct Answer {
    body: Incoming,
    limit: Duration,
    idle: Idle,
    crossing: Crossing,
    lease: Option<(SendRequest<Upload>, Home)>,
    watch: Option<Box<Watch>>,
    finished: bool,
}

/// Where the connection goes when the answer has ended well.
pub(super) struct Home {
    pub(super) pool: Arc<Pool>,
    pub(super) authority: Arc<str>,
}

/// A place in the register of streams, and the signal that ends the stream.
pub(super) struct Watch {
    registered: Registered,
    signal: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// Why an answer broke off; the client sees only that it did.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("upstream sent nothing of its answer for {} s", .0.as_secs())]
    Late(Duration),
    #[error("upstream broke off its answer")]
    Broken(#[source] hyper::Error),
    #[error("stream was cut: `{}`", .0.code())]
    Cut(Reason),
}

impl Watch {
    pub(super) fn new(registered: Registered) -> Self {
        Self { signal: Box::pin(registered.signal()), registered }
    }

    /// Ready once the stream is cut.
    pub(super) fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<Reason> {
        self.signal.as_mut().poll(cx).map(|()| self.registered.reason())
    }
}

impl Answer {
    /// This body, read from `line`, which goes `home` when the body has ended well, if it may.
    pub(super) fn new(
        body: Incoming,
        limit: Duration,
        line: Line,
        crossing: Crossing,
        home: Option<Home>,
        watch: Option<Watch>,
    ) -> Self {
        let Line { sender, mut idle } = line;
        idle.moved();
        let finished = body.is_end_stream();
        let lease = home.map(|home| (sender, home));
        Self { body, limit, idle, crossing, lease, watch: watch.map(Box::new), finished }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if let Some(Poll::Ready(reason)) = self.watch.as_mut().map(|watch| watch.poll_cut(cx)) {
            self.crossing.cut(reason);
            return self.fail(AnswerError::Cut(reason));
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle.moved();
                    let Ok(data) = frame.into_data() else { continue };
                    self.crossing.sent(data.len() as u64);
                    self.finished = self.body.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => return self.fail(AnswerError::Broken(error)),
                Poll::Ready(None) => {
                    self.finished = true;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    std::task::ready!(self.idle.poll_over(self.limit, cx));
                    return self.fail(AnswerError::Late(self.limit));
                }
            }
        }
    }

    fn fail(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.lease = None;
        self.watch = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let (true, Some((sender, home))) = (self.finished, self.lease.take()) {
            home.pool.keep(&home.authority, Line { sender, idle: std::mem::take(&mut self.idle) });
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Answer::poll(&mut self, cx).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
