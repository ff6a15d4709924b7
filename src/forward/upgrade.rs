//! WebSocket handshakes. Nothing but a 101 from the upstream opens a tunnel.

use super::{
    Forward, Passage, headers,
    pool::{self, Line},
    tunnel,
    upload::Upload,
};
use crate::{
    body::Body,
    refusal::{Reason, Refusal},
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE},
};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// How long an upstream may take for its answer to a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Takes the client's stream out of what hyper hands over after a 101; `None` where it cannot be used, so that the
/// connection is dropped.
pub type Open = fn(Upgraded) -> Option<Box<dyn Duplex>>;

/// For listeners that put nothing between the socket and hyper.
pub fn open_plain(upgraded: Upgraded) -> Option<Box<dyn Duplex>> {
    Some(Box::new(TokioIo::new(upgraded)))
}

impl Forward {
    /// Asks the upstream for a WebSocket, once and on a connection of its own.
    pub(super) async fn upgrade(
        &self,
        passage: Passage<'_>,
        body: &Incoming,
        client: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let (true, Some(client)) = (hyper::body::Body::is_end_stream(body), client) else {
            let detail = "A WebSocket handshake is a GET without a body on a connection that can be upgraded.";
            return Err(Refusal::new(Reason::BadRequest, detail).closing());
        };
        let asked = &passage.judged.asked;
        let expected = asked.headers.get(SEC_WEBSOCKET_KEY).map(accept);
        let request = handshake(passage.request(Upload::none())?);
        let limit = passage.route.timeouts.connect;
        let (mut sender, connection) =
            pool::open(&passage.route.upstream.authority, limit).await.map_err(super::unreachable)?;
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await; // its errors reach the request
        });
        let late = || {
            Refusal::new(
                Reason::UpstreamTimeout,
                "The service behind this address did not answer the WebSocket handshake in time.",
            )
        };
        let answer = tokio::time::timeout(HANDSHAKE, sender.send_request(request)).await.map_err(|_| late())?;
        let mut answer = answer.map_err(|error| super::failed(crate::text::chain(&error)))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let line = Line { sender, idle: super::idle::Idle::default() };
            return self.answer(passage, answer, line, None, None);
        }
        if expected.is_none()
            || expected != answer.headers().get(SEC_WEBSOCKET_ACCEPT).map(|it| it.as_bytes().to_vec())
            || !headers::list(answer.headers(), &UPGRADE).any(|it| it.eq_ignore_ascii_case("websocket"))
        {
            return Err(super::failed("upstream answered the WebSocket handshake with a wrong 101".into()));
        }
        let upstream = hyper::upgrade::on(&mut answer);
        let response = self.switch(&passage, std::mem::take(answer.headers_mut()));
        self.tunnel(passage, client, upstream);
        Ok(response)
    }

    /// Our own 101.
    fn switch(&self, passage: &Passage<'_>, mut headers: HeaderMap) -> Response<Body> {
        headers::clean_answer(&mut headers, &self.shared.cookies, passage.personal);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        response
    }

    /// Joins both ends once our 101 is out.
    fn tunnel(&self, passage: Passage<'_>, client: OnUpgrade, upstream: OnUpgrade) {
        let (idle, crossing, open) = (passage.route.timeouts.stream_idle, passage.crossing.clone(), self.shared.open);
        let registered = self.shared.streams.register(passage.into_stream());
        crossing.stream_opened();
        tokio::spawn(async move {
            match tokio::try_join!(client, upstream) {
                Ok((client, upstream)) => match open(client) {
                    Some(client) => tunnel::join(client, TokioIo::new(upstream), registered, idle, crossing).await,
                    None => tracing::debug!("client sent bytes of a WebSocket before its handshake was over"),
                },
                Err(error) => tracing::debug!(%error, "one end left during a WebSocket handshake"),
            }
        });
    }
}

/// `Sec-WebSocket-*` are still as the client sent them; only what is about one hop is made anew.
fn handshake(mut request: Request<Upload>) -> Request<Upload> {
    let headers = request.headers_mut();
    headers.remove(TRANSFER_ENCODING);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    request
}

/// What `Sec-WebSocket-Accept` must be (RFC 6455, section 4.2.2).
fn accept(key: &HeaderValue) -> Vec<u8> {
    let text = [key.as_bytes(), b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text)).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    #[test]
    fn accepts_as_the_rfc_does() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
