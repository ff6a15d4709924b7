//! The body of a request, from the moment it arrives.

use super::room::Room;
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
/// So much of a body that was read goes up at once.
const PIECE: usize = 64 << 10;
/// So long the answer has to arrive before a longer body is cut off.
const PAUSE: Duration = Duration::from_millis(100);

/// The body of a request. Over HTTP/2 what nobody reads of it is read for a while and thrown away: its stream would be reset
/// else, and clients that are still sending take that for the end of the answer, which is a refusal that they should read.
///
/// One that was read before the request was decided about is kept whole, and goes up as it was read.
///
/// Source: RFC 9113, section 8.1.
pub struct RequestBody {
    incoming: Option<Incoming>,
    http2: bool,
    whole: Option<Box<Whole>>,
}

/// A body that was read, and its room among all of these.
struct Whole {
    bytes: Option<Bytes>,
    _room: Room,
}

impl Whole {
    /// The next piece, none longer than what is read at once of other bodies, so that a slow upstream is seen to move.
    fn piece(&mut self) -> Option<Bytes> {
        let mut piece = self.bytes.take()?;
        let rest = piece.split_off(piece.len().min(PIECE));
        self.bytes = Some(rest).filter(|rest| !rest.is_empty());
        Some(piece)
    }
}

/// Why a body was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum WholeError {
    /// More bytes than were asked for.
    #[error("body has more than {0} bytes")]
    Large(u64),
    /// More bytes than there is room for.
    #[error("there is no room for the body")]
    Full,
    /// The client took too long.
    #[error("body took longer than {} s", .0.as_secs())]
    Late(Duration),
    /// The client left, or broke the framing.
    #[error("body broke off")]
    Broken(#[source] hyper::Error),
}

impl RequestBody {
    /// The request, with such a body.
    pub fn of(request: Request<Incoming>) -> Request<Self> {
        let http2 = request.version() == Version::HTTP_2;
        request.map(|incoming| Self { incoming: Some(incoming), http2, whole: None })
    }

    /// Reads all of it, at most `most` bytes in at most `limit`, each piece as far as `takes` says yes to its length. Trailers are
    /// left out.
    ///
    /// # Errors
    /// [`WholeError`]; what was read is gone then.
    pub async fn read(
        &mut self,
        most: u64,
        limit: Duration,
        mut takes: impl FnMut(u64) -> bool,
    ) -> Result<Bytes, WholeError> {
        let declared = self.size_hint().exact().filter(|length| *length <= most);
        let mut bytes =
            Vec::with_capacity(declared.and_then(|length| usize::try_from(length).ok()).unwrap_or_default());
        let reading = async {
            while let Some(frame) = self.frame().await {
                let Ok(data) = frame.map_err(WholeError::Broken)?.into_data() else { continue };
                let is_taken = takes(data.len() as u64);
                if bytes.len() as u64 + data.len() as u64 > most {
                    return Err(WholeError::Large(most));
                }
                if !is_taken {
                    return Err(WholeError::Full);
                }
                bytes.extend_from_slice(&data);
            }
            Ok(())
        };
        timeout(limit, reading).await.map_err(|_| WholeError::Late(limit))??;
        Ok(bytes.into())
    }

    /// A body of exactly these bytes, which were read and hold `room`.
    pub fn whole(bytes: Bytes, room: Room) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { incoming: None, http2: false, whole: Some(Box::new(Whole { bytes, _room: room })) }
    }

    /// It was read before, so that its bytes are counted.
    pub fn was_read(&self) -> bool {
        self.whole.is_some()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(whole) = &mut self.whole {
            return Poll::Ready(whole.piece().map(|bytes| Ok(Frame::data(bytes))));
        }
        self.incoming.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        match &self.whole {
            Some(whole) => whole.bytes.is_none(),
            None => self.incoming.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.whole {
            Some(whole) => SizeHint::with_exact(whole.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            None => self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint),
        }
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
