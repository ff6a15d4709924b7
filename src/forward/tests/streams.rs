//! Event streams, large bodies and WebSockets.

use super::*;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

#[tokio::test]
async fn events_pass_one_by_one_and_end_when_cut() {
    let (next, tell) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let step = next.clone();
    let gone = tell.clone();
    let upstream = Scripted::start(move |_, mut stream| {
        let (step, gone) = (step.clone(), gone.clone());
        async move {
            read_head(&mut stream).await.expect("a request");
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("written");
            for number in 0..3 {
                step.notified().await;
                stream.write_all(format!("8\r\ndata: {number}\n\r\n").as_bytes()).await.expect("written");
            }
            let _ = stream.read_u8().await;
            gone.notify_one();
        }
    })
    .await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    within(read_head(&mut client)).await.expect("an answer");
    for number in 0..3 {
        next.notify_one();
        let mut event = [0; 13];
        within(client.read_exact(&mut event)).await.expect("an event");
        assert_eq!(event, *format!("8\r\ndata: {number}\n\r\n").as_bytes());
    }
    let open = front.streams.snapshot();
    assert_eq!(open.len(), 1);
    assert_eq!(&*open[0].1.judged.asked.target.path, "/");
    assert_eq!(front.streams.cut_session(&[9; 32], Reason::NoSession), 1);
    let mut rest = Vec::new();
    let _ = timeout(Duration::from_secs(1), client.read_to_end(&mut rest)).await.expect("closed within a second");
    assert_eq!(rest, b"", "no last chunk: the client sees that the stream broke off");
    within(tell.notified()).await; // the upstream's connection went too
    assert!(front.streams.is_empty());
}

#[tokio::test]
async fn small_answers_are_not_registered() {
    let (upstream, _heard) = Scripted::echo("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    within(read_head(&mut client)).await.expect("an answer");
    assert!(front.streams.is_empty());
}

#[tokio::test]
async fn a_silent_answer_is_given_up() {
    let (upstream, _heard) = Scripted::echo("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
    let mut impatient = route(&upstream.authority());
    impatient.timeouts.stream_idle = Duration::from_millis(200);
    let front = Front::with(impatient, Principal::Anonymous).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let mut all = Vec::new();
    within(client.read_to_end(&mut all)).await.expect("closed");
    assert!(all.ends_with(b"\r\n\r\no"));
}

const LARGE: usize = 64 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_whole_and_wait_for_a_slow_reader() {
    let moved = Arc::new(AtomicUsize::new(0));
    let counter = moved.clone();
    let upstream = Scripted::start(move |_, mut stream| {
        let counter = counter.clone();
        async move {
            read_head(&mut stream).await.expect("a request");
            let mut received = vec![0; 1 << 20];
            for _ in 0..LARGE >> 20 {
                stream.read_exact(&mut received).await.expect("a body");
                assert!(received.iter().all(|byte| *byte == b'u'));
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.expect("written");
            let piece = vec![b'd'; 1 << 16];
            for _ in 0..LARGE >> 16 {
                stream.write_all(&piece).await.expect("written");
                counter.fetch_add(piece.len(), Ordering::SeqCst);
            }
        }
    })
    .await;
    let front = Front::over(Upstream::plain(&upstream.authority())).await;
    let mut client = front.connect().await;
    client
        .write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())
        .await
        .expect("written");
    let piece = vec![b'u'; 1 << 16];
    for _ in 0..LARGE >> 16 {
        within(client.write_all(&piece)).await.expect("written");
    }
    within(read_head(&mut client)).await.expect("an answer");
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = moved.load(Ordering::SeqCst);
        if now > 0 && now == before {
            break; // the upstream stands still: nobody buffers without bound
        }
        before = now;
    }
    assert!(before < LARGE / 2, "{before} bytes went into buffers");
    let mut received = vec![0; 1 << 20];
    for _ in 0..LARGE >> 20 {
        within(client.read_exact(&mut received)).await.expect("a body");
        assert!(received.iter().all(|byte| *byte == b'd'));
    }
}

/// Speaks WebSocket: sends back what it gets.
async fn websocket_upstream() -> Scripted {
    Scripted::start(|_, stream| async move {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_passes_and_is_closed_with_1008_when_cut() {
    let upstream = websocket_upstream().await;
    let front = Front::start(&upstream).await;
    let (mut socket, answer) = within(tokio_tungstenite::client_async("ws://app.test/signals", front.connect().await))
        .await
        .expect("a websocket");
    assert_eq!(answer.status(), 101);
    for text in ["one", "zwölf", &"x".repeat(200_000)] {
        socket.send(Message::text(text)).await.expect("sent");
        let echo = within(socket.next()).await.expect("an echo").expect("a message");
        assert_eq!(echo.to_text().expect("text"), text);
    }
    let (id, _) = front.streams.snapshot().pop().expect("registered");
    let begun = std::time::Instant::now();
    front.streams.cut(id, Reason::NotPermitted);
    let Message::Close(Some(close)) = within(socket.next()).await.expect("a frame").expect("a message") else {
        panic!("no close frame")
    };
    assert_eq!((close.code, close.reason.as_str()), (CloseCode::Policy, "not_permitted"));
    drop(socket);
    while !front.streams.is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(front.kept(), 0);
}

const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: the-token\r\n\r\n";

#[tokio::test]
async fn a_cut_in_the_middle_of_a_frame_still_ends_within_a_second() {
    let upstream = Scripted::start(|_, mut stream| async move {
        let request = read_head(&mut stream).await.expect("a request");
        assert_eq!(field(&request, "connection"), Some("Upgrade"));
        assert_eq!(field(&request, "sec-websocket-protocol"), Some("the-token"));
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: the-token\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("written");
        stream.write_all(&[0x81, 100, b'h', b'a', b'l', b'f']).await.expect("written");
        let _ = stream.read_u8().await;
    })
    .await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    client.write_all(HANDSHAKE.as_bytes()).await.expect("written");
    let answer = within(read_head(&mut client)).await.expect("an answer");
    assert_eq!((status(&answer), field(&answer, "sec-websocket-protocol")), ("101", Some("the-token")));
    let mut half = [0; 6];
    within(client.read_exact(&mut half)).await.expect("half a frame");
    let begun = std::time::Instant::now();
    front.streams.cut_session(&[9; 32], Reason::NoSession);
    let mut rest = Vec::new();
    within(client.read_to_end(&mut rest)).await.expect("closed");
    assert!(rest.is_empty() && begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn only_a_right_101_opens_a_tunnel() {
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "200"),
        ("HTTP/1.1 401 Unauthorized\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", "401"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502"),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "502",
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
            "502",
        ),
    ];
    for (sent, expected) in table {
        let (upstream, mut heard) = Scripted::echo(sent).await;
        let front = Front::start(&upstream).await;
        let smuggled = format!("{HANDSHAKE}GET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = within(front.ask(&smuggled)).await;
        assert_eq!(status(&answer), expected, "{sent}");
        assert_eq!(field(&answer, "upgrade"), None);
        assert!(heard.recv().await.expect("a handshake").starts_with("GET / "));
        if let Ok(Some(next)) = timeout(Duration::from_millis(300), heard.recv()).await {
            assert!(
                field(&next, "x-forwarded-user").is_some(),
                "read as a request of its own, never as a tunnel's bytes"
            );
        }
        assert_eq!(front.kept(), 0, "{sent}");
    }
}
