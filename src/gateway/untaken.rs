//! The body of a request until somebody takes it.

use bytes::Bytes;
use http::Version;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::time::Duration;
use tokio::{runtime::Handle, time::timeout};

/// So much of a body that nobody wants is read.
const MOST: usize = 64 << 10;
/// And for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The body of a request that nobody has taken yet. Over HTTP/2 one that nobody takes is read for a while and thrown away: its
/// stream would be reset else, and clients that are still sending take that for the end of the answer, which is a refusal that
/// they should read.
///
/// Source: RFC 9113, section 8.1.
pub(super) struct Untaken(Option<Incoming>, Version);

impl Untaken {
    /// Of a request of this version of HTTP.
    pub(super) fn new(body: Incoming, version: Version) -> Self {
        Self(Some(body), version)
    }

    /// The body itself.
    pub(super) fn take(mut self) -> Incoming {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        let left = self.0.take().filter(|body| self.1 == Version::HTTP_2 && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (left, Handle::try_current()) {
            runtime.spawn(timeout(PATIENCE, discard(body)));
        }
    }
}

async fn discard(mut body: Incoming) {
    let mut left = MOST;
    while let Some(Ok(frame)) = body.frame().await {
        let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
        left = rest;
    }
}
