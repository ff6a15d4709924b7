//! Long-lived connections end with the right that they rest on, and only then.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    http1::Wire,
    provider::Provider,
    upstream::Upstream,
};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode};

async fn scene(env: &[(&str, &str)], refresh: &str, more: &str) -> Option<(Provider, Upstream, Gateway, Browser)> {
    let provider = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let membership = format!("    membership: {{ refresh: {refresh} }}\n");
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, &membership, "", more), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    Some((provider, upstream, gateway, browser))
}

/// Opens `/sse` and waits for its first event.
pub(crate) async fn open_events(gateway: &Gateway, browser: &Browser) -> Wire {
    let mut wire = Wire::connect(gateway.port).await;
    let (host, cookies) = (gateway.port, gateway.cookies(browser));
    wire.send(format!("GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{host}\r\nAccept: text/event-stream\r\n{cookies}\r\n\r\n"))
        .await;
    let first = String::from_utf8_lossy(&wire.some().await).into_owned();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    wire
}

/// How long the stream goes on; at most `limit`.
pub(crate) async fn lasts(wire: &mut Wire, limit: Duration) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if wire.some().await.is_empty() {
            return Some(start.elapsed());
        }
    }
    None
}

/// P31: events pass one by one, as they come.
#[tokio::test]
async fn events_pass_one_by_one() {
    let Some((_provider, _upstream, gateway, browser)) = scene(&[], "30s", "").await else { return };
    let mut wire = open_events(&gateway, &browser).await;
    let start = Instant::now();
    let mut arrivals = 0;
    while start.elapsed() < Duration::from_secs(1) {
        let piece = wire.some().await;
        arrivals += usize::from(!piece.is_empty());
    }
    assert!((12..=30).contains(&arrivals), "{arrivals} pieces in a second, 20 were sent");
}

/// P30: sign-out ends an open stream, and the trail says so.
#[tokio::test]
async fn sign_out_ends_an_open_stream() {
    let Some((_provider, _upstream, gateway, browser)) = scene(&[], "30s", "").await else { return };
    let mut wire = open_events(&gateway, &browser).await;
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let out = gateway.request("POST", "/.vestibule/sign-out", &[&gateway.cookies(&browser), &own]).await;
    assert_eq!(out.status, 303);
    let lasted = lasts(&mut wire, Duration::from_secs(5)).await.expect("the stream ends");
    assert!(lasted < Duration::from_secs(1), "{lasted:?}");
    let events = gateway.audit();
    let ended = |record: &serde_json::Value| {
        record["unmapped"]["phase"] == "stream_ended" || record.to_string().contains("stream_ended")
    };
    assert!(
        events.iter().any(ended) || {
            gateway.audited("the stream's end", ended).await;
            true
        }
    );
}

/// P30: whoever leaves the group loses open streams within the clock.
#[tokio::test]
async fn leaving_the_group_ends_an_open_stream() {
    let Some((provider, _upstream, gateway, browser)) = scene(&[], "1s", "").await else { return };
    let mut wire = open_events(&gateway, &browser).await;
    assert!(lasts(&mut wire, Duration::from_secs(3)).await.is_none(), "it goes on while the right does");
    provider.admin("/admin/user", json!({ "user": "alice", "memberships": {} })).await;
    let lasted = lasts(&mut wire, Duration::from_secs(6)).await.expect("the stream ends");
    assert!(lasted < Duration::from_secs(4), "{lasted:?}");
}

/// P30: a changed policy ends what it no longer permits; a policy that still permits ends nothing.
#[tokio::test]
async fn a_changed_policy_ends_what_it_no_longer_permits() {
    let Some((_provider, _upstream, gateway, browser)) = scene(&[], "30s", "").await else { return };
    let mut wire = open_events(&gateway, &browser).await;
    gateway.write("policies/app.cedar", &POLICIES.replace("is for everyone in platform", "is for all of platform"));
    assert!(lasts(&mut wire, Duration::from_secs(4)).await.is_none(), "it is still permitted");
    gateway.write("policies/app.cedar", &POLICIES.replace("gitlab:platform", "gitlab:security/none"));
    let lasted = lasts(&mut wire, Duration::from_secs(8)).await.expect("the stream ends");
    assert!(lasted < Duration::from_secs(5), "{lasted:?}");
}

/// P30: a route that no longer accepts people of a provider ends their streams, though no policy changed.
#[tokio::test]
async fn a_route_that_accepts_the_provider_no_longer_ends_an_open_stream() {
    let Some((_provider, _upstream, gateway, browser)) = scene(&[], "30s", "").await else { return };
    let other = "  - { name: other, kind: oidc, issuer: \"http://127.0.0.1:9\", client_id: x, client_secret: { file: secret } }\nroutes:";
    let text = std::fs::read_to_string(gateway.path("vestibule.yaml")).expect("there").replace("routes:", other);
    let mut wire = open_events(&gateway, &browser).await;
    gateway.write("vestibule.yaml", &text);
    assert!(lasts(&mut wire, Duration::from_secs(4)).await.is_none(), "the provider is still accepted");
    gateway.write("vestibule.yaml", &text.replace("- name: app\n", "- name: app\n    providers: [other]\n"));
    let lasted = lasts(&mut wire, Duration::from_secs(8)).await.expect("the stream ends");
    assert!(lasted < Duration::from_secs(5), "{lasted:?}");
}

/// A stream survives a refresh of the session's tokens.
#[tokio::test]
async fn a_stream_survives_a_token_refresh() {
    let Some((provider, _upstream, gateway, browser)) = scene(&[("ACCESS_TOKEN_TTL", "4")], "2s", "").await else {
        return;
    };
    let mut wire = open_events(&gateway, &browser).await;
    assert!(lasts(&mut wire, Duration::from_secs(9)).await.is_none(), "the stream goes on");
    assert!(provider.seen("/oauth/token").await >= 2, "the tokens were refreshed meanwhile");
}

/// An upstream whose WebSockets echo.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        let _ = socket.send(message).await;
                    }
                }
            });
        }
    });
    port
}

/// P29, P30: a WebSocket passes, and is closed with 1008 when the session ends.
#[tokio::test]
async fn a_websocket_passes_and_is_closed_with_the_session() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let port = echo().await;
    let text = configuration(&provider.issuer, &upstream, "", "", "")
        .replace(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{port}"));
    let gateway = Gateway::start(&text, POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let mut request = format!("ws://127.0.0.1:{}/ws?x=1", gateway.port).into_client_request().expect("a request");
    let own = format!("http://127.0.0.1:{}", gateway.port);
    let cookies = gateway.cookies(&browser);
    request.headers_mut().insert("origin", own.parse().expect("a value"));
    request.headers_mut().insert("cookie", cookies["Cookie: ".len()..].parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("it opens");
    for text in ["one", "two"] {
        socket.send(Message::text(text)).await.expect("sent");
        assert_eq!(socket.next().await.expect("there").expect("whole").to_text().ok(), Some(text));
    }
    let own = format!("Origin: {own}");
    gateway.request("POST", "/.vestibule/sign-out", &[&gateway.cookies(&browser), &own]).await;
    let closed = tokio::time::timeout(Duration::from_secs(2), socket.next()).await.expect("in time");
    match closed.expect("a frame").expect("whole") {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Policy),
        other => panic!("{other:?}"),
    }
}

/// A refused handshake is a plain refusal without upgrade headers (P29).
#[tokio::test]
async fn a_refused_handshake_is_a_plain_refusal() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let lines = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", key];
    let answer = gateway.get("/ws", &lines).await;
    assert_eq!(answer.status, 401);
    assert_eq!((answer.header("upgrade"), answer.header("sec-websocket-accept")), (None, None));
    assert!(upstream.take().is_empty());
}
