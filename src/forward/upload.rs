//! The request's body on its way up.

use super::idle::Idle;
use crate::{
    audit::Crossing,
    body::{BodyError, RequestBody},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;

/// A request's body: frames as the client sends them, none faster than the upstream takes them, trailers dropped. Dropped
/// before anything was taken of it, it hands itself back.
pub(super) struct Upload(Option<Streaming>);

/// A body on its way.
pub(super) struct Streaming {
    body: RequestBody,
    limit: Duration,
    idle: Idle,
    crossing: Crossing,
    ended: Option<oneshot::Sender<Ended>>,
    /// Something was taken of it.
    begun: bool,
}

/// How a request's body ended.
pub(super) enum Ended {
    /// Its last byte was handed on.
    Wholly,
    /// The client sent nothing for too long.
    Late,
    /// The client left, or broke the framing.
    Broken(String),
    /// Nobody took anything of it: here it is again.
    Untouched(Box<Streaming>),
}

/// Why an upload stopped half-way; the words go to the log only.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("client sent nothing of the request body for {} s", .0.as_secs())]
    Late(Duration),
    #[error("request body broke off")]
    Broken(#[source] hyper::Error),
}

impl Upload {
    /// No body at all.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// This body, and where to learn how it ended. The receiver gets nothing if the connection dies first.
    pub(super) fn new(
        body: RequestBody,
        limit: Duration,
        crossing: Crossing,
    ) -> (Self, Option<oneshot::Receiver<Ended>>) {
        if body.is_end_stream() {
            return (Self::none(), None);
        }
        let (sender, receiver) = oneshot::channel();
        let idle = Idle::default();
        (Self(Some(Streaming { body, limit, idle, crossing, ended: Some(sender), begun: false })), Some(receiver))
    }

    /// A body that was handed back, and where to learn how it ends this time.
    pub(super) fn again(mut streaming: Streaming) -> (Self, oneshot::Receiver<Ended>) {
        let (sender, receiver) = oneshot::channel();
        streaming.ended = Some(sender);
        (Self(Some(streaming)), receiver)
    }

    /// True if it has a length that only its end will tell.
    pub(super) fn unsized_body(&self) -> bool {
        self.0.as_ref().is_some_and(|streaming| streaming.body.size_hint().exact().is_none())
    }

    /// True if there is no byte to send.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Streaming {
    fn end(&mut self, how: Ended) {
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(how); // nobody waits for it after an early answer
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        loop {
            let polled = Pin::new(&mut self.body).poll_frame(cx);
            self.begun |= polled.is_ready();
            match polled {
                Poll::Ready(Some(Ok(frame))) => {
                    self.idle.moved();
                    let Ok(data) = frame.into_data() else { continue };
                    self.crossing.taken(data.len() as u64);
                    if !self.body.was_read() {
                        self.crossing.received(data.len() as u64);
                    }
                    if self.body.is_end_stream() {
                        self.end(Ended::Wholly);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    self.end(Ended::Broken(error.to_string()));
                    return Poll::Ready(Some(Err(UploadError::Broken(error))));
                }
                Poll::Ready(None) => {
                    self.end(Ended::Wholly);
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    std::task::ready!(self.idle.poll_over(self.limit, cx));
                    self.end(Ended::Late);
                    return Poll::Ready(Some(Err(UploadError::Late(self.limit))));
                }
            }
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(mut streaming) = self.0.take()
            && !streaming.begun
            && let Some(ended) = streaming.ended.take()
        {
            let _ = ended.send(Ended::Untouched(Box::new(streaming)));
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(streaming) => streaming.poll(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|streaming| streaming.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(|| SizeHint::with_exact(0), |streaming| streaming.body.size_hint())
    }
}
