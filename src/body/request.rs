//! The body of a request, from the moment it arrives.

use bytes::Bytes;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    time::{sleep, timeout},
};

/// So many bytes are read that nobody wants.
const MOST: usize = 64 << 10;
/// And for so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// So long the answer has to arrive before a longer body is cut off.
const PAUSE: Duration = Duration::from_millis(100);

/// The body of a request. Over HTTP/2 what nobody reads of it is read for a while and thrown away: its stream would be reset
/// else, and clients that are still sending take that for the end of the answer, which is a refusal that they should read.
///
/// Source: RFC 9113, section 8.1.
pub struct RequestBody {
    incoming: Option<Incoming>,
    http2: bool,
}

impl RequestBody {
    /// The request, with such a body.
    pub fn of(request: Request<Incoming>) -> Request<Self> {
        let http2 = request.version() == Version::HTTP_2;
        request.map(|incoming| Self { incoming: Some(incoming), http2 })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.incoming.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        let left = self.incoming.take().filter(|body| self.http2 && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (left, Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else {
            return sleep(PAUSE).await;
        };
        left = rest;
    }
}
