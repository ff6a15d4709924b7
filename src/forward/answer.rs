//! The upstream's answer on its way down.

use super::{
    headers,
    idle::Idle,
    pool::{Line, Pool},
    streams::Registered,
};
use crate::{audit::Crossing, body::BodyError, refusal::Reason, upstream::Flight};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

/// The body of an upstream's answer: frames as they come, trailers only where they are `wanted`. The request's crossing
/// lives until it ends.
pub struct Answer {
    body: Incoming,
    limit: Duration,
    idle: Idle,
    crossing: Crossing,
    lease: Option<Lease>,
    watch: Option<Box<Watch>>,
    trailers: bool,
    /// Its last byte has come.
    finished: bool,
    /// It was ended before that.
    over: bool,
}

/// What a request holds while its answer comes: its connection, and its place among those in flight.
pub(super) struct Lease {
    pub(super) line: Line,
    pub(super) flight: Flight,
    /// Where the connection goes when the answer has ended well, if it may be used again.
    pub(super) home: Option<Arc<Pool>>,
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

impl AnswerError {
    /// The reason that a gRPC client is told in its status.
    fn reason(&self) -> Reason {
        match self {
            Self::Late(_) => Reason::UpstreamTimeout,
            Self::Broken(_) => Reason::UpstreamFailed,
            Self::Cut(reason) => *reason,
        }
    }
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
    /// This body, read over the line of `lease`. `trailers` if they are passed on.
    pub(super) fn new(
        body: Incoming,
        limit: Duration,
        mut lease: Lease,
        crossing: Crossing,
        watch: Option<Watch>,
        trailers: bool,
    ) -> Self {
        let mut idle = std::mem::take(&mut lease.line.idle);
        idle.moved();
        let finished = body.is_end_stream();
        Self {
            body,
            limit,
            idle,
            crossing,
            lease: Some(lease),
            watch: watch.map(Box::new),
            trailers,
            finished,
            over: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if let Some(Poll::Ready(reason)) = self.watch.as_mut().map(|watch| watch.poll_cut(cx)) {
            self.crossing.cut(reason);
            return self.fail(AnswerError::Cut(reason));
        }
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle.moved();
                    let data = match frame.into_data() {
                        Ok(data) => data,
                        Err(frame) => match self.kept(frame) {
                            Some(frame) => return Poll::Ready(Some(Ok(frame))),
                            None => continue,
                        },
                    };
                    self.crossing.sent(data.len() as u64);
                    self.finished = self.body.is_end_stream();
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    if let Some(lease) = &self.lease {
                        lease.flight.failed();
                    }
                    return self.fail(AnswerError::Broken(error));
                }
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

    /// What is passed on of trailers.
    fn kept(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let mut trailers = frame.into_trailers().ok().filter(|_| self.trailers)?;
        headers::clean_trailers(&mut trailers);
        Some(Frame::trailers(trailers))
    }

    /// Ends the answer before its time: a gRPC call by a status (gRPC over HTTP/2, "Trailers"), any other by breaking off.
    fn fail(&mut self, error: AnswerError) -> Poll<Option<Result<Frame<Bytes>, AnswerError>>> {
        self.lease = None;
        self.watch = None;
        self.over = true;
        if !self.trailers {
            return Poll::Ready(Some(Err(error)));
        }
        tracing::debug!(error = crate::text::chain(&error), "a gRPC call ended before its time");
        let reason = error.reason();
        let mut trailers = HeaderMap::with_capacity(2);
        trailers.insert("grpc-status", HeaderValue::from(u16::from(reason.grpc())));
        trailers.insert("grpc-message", HeaderValue::from_static(reason.code()));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let (true, Some(Lease { mut line, flight, home: Some(pool) })) = (self.finished, self.lease.take()) {
            line.idle = std::mem::take(&mut self.idle);
            pool.keep(flight.endpoint(), line);
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
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
