//! Bodies: of requests as they come, and of every response that leaves us: our own bytes, or an upstream's.

mod request;
mod room;

pub use request::{RequestBody, WholeError};
pub use room::{Room, Space};

use crate::forward::Answer;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// An error while a body is on its way.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

type Streamed = Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError> + Send>>;

/// A response body.
pub struct Body(Kind);

enum Kind {
    Full(Option<Bytes>),
    Upstream(Answer),
    Streamed(Streamed),
}

impl Body {
    /// No bytes at all.
    pub fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// An upstream's answer, without a box around it.
    pub fn upstream(answer: Answer) -> Self {
        Self(Kind::Upstream(answer))
    }

    /// Another body, frame by frame.
    pub fn streamed<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self(Kind::Streamed(Box::pin(body)))
    }
}

impl From<Infallible> for Body {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Upstream(answer) => Pin::new(answer).poll_frame(cx),
            Kind::Streamed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Upstream(answer) => answer.is_end_stream(),
            Kind::Streamed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Upstream(answer) => answer.size_hint(),
            Kind::Streamed(body) => body.size_hint(),
        }
    }
}
