//! Which connections are used again, and what happens when one dies or nobody answers.

use super::*;

#[tokio::test]
async fn a_reset_in_a_body_breaks_off_that_answer_only() {
    let upstream = Scripted::start(|nth, mut stream| async move {
        while read_message(&mut stream).await.is_some() {
            if nth == 0 {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").await.expect("written");
                return;
            }
            stream.write_all(OK.as_bytes()).await.expect("written");
        }
    })
    .await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let mut all = Vec::new();
    within(client.read_to_end(&mut all)).await.expect("closed");
    assert!(String::from_utf8_lossy(&all).ends_with("\r\n\r\nshort"));
    assert!(front.get().await.ends_with("ok"));
}

#[tokio::test]
async fn a_connection_with_an_early_answer_is_not_used_again() {
    let upstream = Scripted::start(|nth, mut stream| async move {
        if nth == 0 {
            read_head(&mut stream).await.expect("a request");
            stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.expect("written");
        }
        while read_message(&mut stream).await.is_some() {
            stream.write_all(OK.as_bytes()).await.expect("written");
        }
    })
    .await;
    let front = Front::start(&upstream).await;
    let mut early = front.connect().await;
    early.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.expect("written");
    assert_eq!(status(&within(read_head(&mut early)).await.expect("an answer")), "413");
    let _ = early.write_all(b"GET / ").await; // the rest of the body looks like a request
    assert!(within(front.get()).await.ends_with("ok"));
    assert_eq!((upstream.connections(), front.kept()), (2, 1));
}

/// Answers the first request of its first connection, and leaves at the second.
async fn leaving() -> Scripted {
    Scripted::start(|nth, mut stream| async move {
        let mut answered = 0;
        while read_message(&mut stream).await.is_some() {
            if nth == 0 && answered == 1 {
                return;
            }
            stream.write_all(OK.as_bytes()).await.expect("written");
            answered += 1;
        }
    })
    .await
}

#[tokio::test]
async fn a_dead_warm_connection_is_replaced_for_a_get() {
    let upstream = leaving().await;
    let front = Front::start(&upstream).await;
    assert_eq!(status(&front.get().await), "200");
    assert_eq!(status(&front.get().await), "200");
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn a_post_that_was_sent_is_never_sent_again() {
    let upstream = leaving().await;
    let front = Front::start(&upstream).await;
    assert_eq!(status(&front.get().await), "200");
    let answer = front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!((status(&answer), upstream.connections()), ("502", 1));
}

#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let upstream = Scripted::start(|_, mut stream| async move {
        read_head(&mut stream).await;
    })
    .await;
    let front = Front::start(&upstream).await;
    assert_eq!((status(&front.get().await), upstream.connections()), ("502", 1));
}

#[tokio::test]
async fn late_upstreams_are_given_up() {
    let upstream = Scripted::start(|_, mut stream| async move {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all).await;
    })
    .await;
    let front = Front::start(&upstream).await;
    let answer = within(front.get()).await;
    assert_eq!(status(&answer), "504");
    assert!(answer.contains("no byte of an answer within 400 ms"), "{answer}");
    let full = full_listener();
    let front = Front::with(route(&full.1.to_string()), Principal::Anonymous).await;
    let answer = within(front.get()).await;
    assert_eq!(status(&answer), "504");
    assert!(answer.contains("within 500 ms"), "{answer}");
}

#[tokio::test]
async fn an_upstream_that_takes_no_more_of_a_body_is_given_up() {
    let upstream = Scripted::start(|_, stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let front = Front::start(&upstream).await;
    let (mut from, mut to) = front.connect().await.into_split();
    to.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n").await.expect("written");
    let sending = tokio::spawn(async move { while to.write_all(&[b'x'; 65_536]).await.is_ok() {} });
    let mut answer = [0; 12];
    within(from.read_exact(&mut answer)).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 504");
    sending.abort();
}

/// A listener whose queue is full, so that connecting takes for ever.
fn full_listener() -> (Vec<socket2::Socket>, SocketAddr) {
    let new = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let listener = new();
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("bound");
    listener.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound").as_socket().expect("an address");
    let mut sockets = vec![listener];
    for _ in 0..4 {
        let filler = new();
        filler.set_nonblocking(true).expect("set");
        let _ = filler.connect(&address.into());
        sockets.push(filler);
    }
    (sockets, address)
}

#[tokio::test]
async fn the_clock_for_the_first_byte_starts_after_the_body() {
    let (upstream, _heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await.expect("written");
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(200)).await; // longer in all than `first_byte`, never than `request_idle`
        client.write_all(b"x").await.expect("written");
    }
    assert_eq!(status(&within(read_message(&mut client)).await.expect("an answer")), "200");
}

#[tokio::test]
async fn a_client_that_stops_in_its_body_is_given_up() {
    let (upstream, _heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let answer = within(front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nx")).await;
    assert_eq!(status(&answer), "408");
    assert_eq!(front.kept(), 0);
}
