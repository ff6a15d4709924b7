use super::*;
use crate::demo::server::{
    self, json,
    tests::{asked, body},
};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde_json::Value;
use std::sync::Arc;
use tokio_tungstenite::tungstenite::Message;

fn portal() -> Portal {
    Portal::new(SocketAddr::from(([127, 0, 0, 1], 9)), "http://portal.localhost:9")
}

#[tokio::test]
async fn shows_what_it_was_told_and_that_nothing_proves_it() {
    let headers = [("x-forwarded-preferred-username", "ada<b>"), ("x-forwarded-groups", "acme,acme/platform")];
    let response = portal().answer(asked("GET", "/", &headers, "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let shown = body(response).await;
    assert!(shown.contains("ada&lt;b&gt;") && shown.contains("acme/platform"), "{shown}");
    assert!(shown.contains("Not proved"), "{shown}");
    assert!(shown.contains("<a href=\"/.vestibule/sign-in?to=%2F&amp;switch=1\">Be somebody else</a>"), "{shown}");
}

#[tokio::test]
async fn events_tick() {
    let response = portal().answer(asked("GET", "/events", &[], "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let frame = response.into_body().frame().await.expect("a tick").expect("own bytes");
    let data = frame.into_data().expect("data");
    assert!(data.starts_with(b"event: tick\ndata: {"), "{data:?}");
}

/// A key like the proxy's, and a loopback server that publishes it.
async fn front() -> (SocketAddr, EncodingKey) {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
    let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("it can be written").as_ref());
    let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).expect("an EC key");
    public.common.key_id = Some("k1".to_owned());
    let keys = serde_json::json!({ "keys": [public] });
    let listener = server::bind(0).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(server::serve(listener, move |asked| {
        let known = asked.what() == (&Method::GET, "/.well-known/vestibule/jwks.json");
        let answer = json(if known { StatusCode::OK } else { StatusCode::NOT_FOUND }, &keys);
        async move { answer }
    }));
    (address, private)
}

fn assertion(key: &EncodingKey, kid: &str, changed: &[(&str, Value)], typ: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = serde_json::json!({
        "iss": "http://portal.localhost:9", "aud": "portal", "sub": "user:gitlab:101", "iat": now, "exp": now + 60,
    });
    for (name, value) in changed {
        claims[*name] = value.clone();
    }
    let header = Header { kid: Some(kid.to_owned()), typ: Some(typ.to_owned()), ..Header::new(Algorithm::ES256) };
    jsonwebtoken::encode(&header, &claims, key).expect("it can be signed")
}

#[tokio::test]
async fn believes_only_an_assertion_that_passes_every_check() {
    let (front, key) = front().await;
    let other = front_key();
    let verifier = Arc::new(Verifier::new(front, "http://portal.localhost:9", "portal"));
    let verify = |token: String| {
        let verifier = verifier.clone();
        async move { verifier.verify(Some(&token), SystemTime::now()).await }
    };
    let good = verify(assertion(&key, "k1", &[], "vestibule+jwt")).await.expect("it is good");
    assert_eq!(good["sub"], "user:gitlab:101");
    for (why, token) in [
        ("another audience", assertion(&key, "k1", &[("aud", "api".into())], "vestibule+jwt")),
        ("another issuer", assertion(&key, "k1", &[("iss", "http://evil".into())], "vestibule+jwt")),
        ("expired", assertion(&key, "k1", &[("exp", 1_000_000.into())], "vestibule+jwt")),
        ("another type", assertion(&key, "k1", &[], "JWT")),
        ("an unknown key", assertion(&key, "k2", &[], "vestibule+jwt")),
        ("another key under the same id", assertion(&other, "k1", &[], "vestibule+jwt")),
    ] {
        assert!(verify(token).await.is_err(), "{why}");
    }
}

fn front_key() -> EncodingKey {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
    EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("it can be written").as_ref())
}

#[tokio::test]
async fn echoes_over_a_web_socket_until_it_is_closed() {
    let listener = server::bind(0).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let portal = Arc::new(portal());
    tokio::spawn(server::serve(listener, move |asked| {
        let portal = portal.clone();
        async move { portal.answer(asked).await }
    }));
    let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let url = format!("ws://{address}/ws");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.expect("the handshake");
    for text in ["short".to_owned(), "m".repeat(300), "l".repeat(65_536)] {
        socket.send(Message::text(text.clone())).await.expect("it is open");
        assert_eq!(socket.next().await.expect("an answer").expect("a frame"), Message::text(text));
    }
    socket.send(Message::Ping("p".into())).await.expect("it is open");
    assert_eq!(socket.next().await.expect("an answer").expect("a frame"), Message::Pong("p".into()));
    socket.close(None).await.expect("it is open");
    while let Some(Ok(frame)) = socket.next().await {
        assert!(frame.is_close(), "{frame}");
    }
}
