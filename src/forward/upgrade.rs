//! WebSocket handshakes. Nothing but a 101 from the upstream opens a tunnel.

use super::{
    Forward, Passage,
    again::Attempts,
    answer::Lease,
    connect::{self, ConnectError},
    credential, headers,
    pool::{Line, Sender},
    strict::Asked,
    tunnel,
    upload::Upload,
};
use crate::{
    body::{Body, RequestBody},
    refusal::{Reason, Refusal},
    route::Route,
    upstream::{Endpoint, Flight},
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRANSFER_ENCODING, UPGRADE},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::OwnedSemaphorePermit,
};

/// How long an upstream may take for its answer to a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A stream of bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Takes the client's stream out of what hyper hands over after a 101; `None` where it cannot be used, so that the
/// connection is dropped.
pub type Open = fn(Upgraded) -> Option<Box<dyn Duplex>>;

/// Where nothing stands between the socket and hyper.
#[cfg(test)]
pub(super) fn open_plain(upgraded: Upgraded) -> Option<Box<dyn Duplex>> {
    Some(Box::new(TokioIo::new(upgraded)))
}

/// A tunnel counts as one request in flight and as one connection of its endpoint.
struct Counted {
    flight: Flight,
    #[expect(dead_code, reason = "held until the tunnel is gone")]
    permit: OwnedSemaphorePermit,
}

impl Forward {
    /// Asks the upstream for a WebSocket, once and on a connection of its own; another endpoint only where there is none.
    pub(super) async fn upgrade(
        &self,
        passage: Passage<'_>,
        body: &RequestBody,
        client: Option<OnUpgrade>,
    ) -> Result<Response<Body>, Refusal> {
        let (true, Some(client)) = (hyper::body::Body::is_end_stream(body), client) else {
            let detail = "A WebSocket handshake is a GET without a body on a connection that can be upgraded.";
            return Err(Refusal::new(Reason::BadRequest, detail).closing());
        };
        let asked = &passage.judged.asked;
        let expected = asked.headers.get(SEC_WEBSOCKET_KEY).map(accept);
        let (flight, (mut sender, connection, control), permit) = self.dial(passage.route).await?;
        let request = handshake(passage.request(Upload::none(), flight.endpoint(), false)?);
        control.expect(Asked::WebSocket);
        let counted = Counted { flight, permit };
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await; // its errors reach the request
        });
        let late = || {
            Refusal::new(
                Reason::UpstreamTimeout,
                "The service behind this address did not answer the WebSocket handshake in time.",
            )
        };
        let answer = tokio::time::timeout(HANDSHAKE, sender.send_request(request)).await;
        let answer = answer
            .map_err(|_| late())
            .and_then(|answered| answered.map_err(|error| super::failed(crate::text::chain(&error))));
        let mut answer = answer.inspect_err(|_| counted.flight.failed())?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let line = Line::new(Sender::Http1 { sender, control });
            return self.answer(passage, answer, Lease { line, flight: counted.flight, home: None }, None);
        }
        if expected.is_none()
            || expected != answer.headers().get(SEC_WEBSOCKET_ACCEPT).map(|it| it.as_bytes().to_vec())
            || !headers::list(answer.headers(), &UPGRADE).any(|it| it.eq_ignore_ascii_case("websocket"))
        {
            return Err(super::failed("upstream answered the WebSocket handshake with a wrong 101".into()));
        }
        let upstream = hyper::upgrade::on(&mut answer);
        let response = self.switch(&passage, std::mem::take(answer.headers_mut()));
        counted.flight.succeeded();
        self.tunnel(passage, client, upstream, counted);
        Ok(response)
    }

    /// A connection for one handshake, to whichever endpoint there is one.
    async fn dial(&self, route: &Route) -> Result<(Flight, connect::Http1, OwnedSemaphorePermit), Refusal> {
        let settings = &route.upstream.settings;
        if settings.http2 && settings.tls.is_none() {
            let place = settings.places[0].clone();
            return Err(super::unreachable(&ConnectError::OnlyHttp2 { place }));
        }
        let mut attempts = Attempts::new(Upload::none(), false);
        loop {
            let (flight, _) = self.next(route, &mut attempts).await?;
            match self.open_one(route, flight.endpoint()).await {
                Ok((opened, permit)) => return Ok((flight, opened, permit)),
                Err(error) => attempts.unconnected(&flight, route, &error)?,
            }
        }
    }

    async fn open_one(
        &self,
        route: &Route,
        endpoint: &Arc<Endpoint>,
    ) -> Result<(connect::Http1, OwnedSemaphorePermit), ConnectError> {
        let (upstream, limit) = (&route.upstream, route.timeouts.connect);
        let permit = self.pool.permit(endpoint, upstream, &self.shared.connections.0, limit).await?;
        let opened = async {
            let (wire, _) = connect::dial(endpoint, &upstream.settings, false).await?;
            connect::http1(endpoint, wire).await
        };
        let late = |_| ConnectError::Timeout { address: endpoint.address.clone(), limit };
        Ok((tokio::time::timeout(limit, opened).await.map_err(late)??, permit))
    }

    /// Our own 101.
    fn switch(&self, passage: &Passage<'_>, mut headers: HeaderMap) -> Response<Body> {
        headers::clean_answer(&mut headers, &self.shared.cookies, passage.personal);
        credential::clean_answer(&mut headers, passage.route);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        response
    }

    /// Joins both ends once our 101 is out.
    fn tunnel(&self, passage: Passage<'_>, client: OnUpgrade, upstream: OnUpgrade, counted: Counted) {
        let (idle, crossing, open) = (passage.route.timeouts.stream_idle, passage.crossing.clone(), self.shared.open);
        let registered = self.shared.streams.register(passage.into_stream());
        crossing.stream_opened();
        tokio::spawn(async move {
            let _counted = counted;
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
