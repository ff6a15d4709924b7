use super::*;
use crate::demo::server::{
    self,
    tests::{asked, body},
};
use futures_util::{SinkExt, StreamExt};
use http_body_util::BodyExt;
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
