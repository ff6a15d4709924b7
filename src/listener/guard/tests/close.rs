//! How connections end: after a fault, with unread input, and with a client that does not read.

use super::harness::settle;
use crate::listener::guard::{
    Control, Fault, Guard, Limits, REFUSED,
    chunk::{ChunkLine, Overhead},
    limits::{HEAD_BYTES, LINGER_BYTES},
    stall::Stall,
};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const BAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n";

/// Bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(20);

type Connection = JoinHandle<hyper::Result<()>>;

/// A connection whose service answers with `body`, each time that `gate` lets it.
fn connection(io: DuplexStream, gate: &Arc<Semaphore>, body: &'static [u8], limits: Limits) -> (Connection, Control) {
    let (guard, control) = Guard::new(io, Bytes::new(), limits);
    let (seen, gate) = (control.clone(), gate.clone());
    let service = service_fn(move |_: Request<Incoming>| {
        let (seen, gate) = (seen.take(), gate.clone());
        async move {
            gate.acquire().await.expect("an open gate").forget();
            let mut response = Response::new(Full::new(Bytes::from_static(body)));
            if seen.is_none_or(|seen| seen.fault.is_some()) {
                *response.status_mut() = StatusCode::BAD_REQUEST;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(guard), service);
    (tokio::spawn(connection), control)
}

/// The statuses of all answers until the server closes.
async fn statuses(client: &mut DuplexStream) -> Vec<String> {
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.expect("answers");
    answers.match_indices("HTTP/1.1 ").map(|(at, _)| answers[at + 9..at + 12].to_owned()).collect()
}

/// S-17: the refusal of a bad head comes behind all that was asked before, also to a client that has closed its side.
#[tokio::test]
async fn s17_a_refusal_comes_behind_all_pending_answers() {
    for half_closed in [false, true] {
        let (mut client, server) = tokio::io::duplex(4096);
        let gate = Arc::new(Semaphore::new(0));
        let (connection, control) = connection(server, &gate, b"-", Limits::default());
        client.write_all(&[GET, GET, BAD, GET].concat()).await.expect("sent");
        if half_closed {
            client.shutdown().await.expect("closed");
        }
        settle().await;
        gate.add_permits(3);
        assert_eq!(statuses(&mut client).await, ["200", "200", "400"]);
        drop(client);
        connection.await.expect("no panic").expect("an orderly end");
        assert_eq!(control.fault(), Some(Fault::BareLineFeed));
    }
}

/// Bytes that were read before the guard was made come first, and are judged like any other.
#[tokio::test]
async fn s17_what_was_read_before_is_judged() {
    for (first, second, expected) in [(GET, LAST, "200"), (BAD, LAST, "400")] {
        for cut in 1..first.len() {
            let (mut client, server) = tokio::io::duplex(4096);
            let early = Bytes::from_static(&first[..cut]);
            let (mut guard, control) = Guard::new(server, early, Limits::default());
            client.write_all(&[&first[cut..], second].concat()).await.expect("sent");
            let mut read = vec![0; 4096];
            let mut length = guard.read(&mut read).await.expect("a head");
            while !read[..length].ends_with(b"\r\n\r\n") {
                length += guard.read(&mut read[length..]).await.expect("a head");
            }
            let passed = if expected == "200" { first } else { REFUSED };
            assert_eq!(String::from_utf8_lossy(&read[..length]), String::from_utf8_lossy(passed), "cut at {cut}");
            assert_eq!(control.fault().is_some(), expected == "400");
        }
    }
}

/// What an idle connection costs beside its stream.
#[test]
fn the_guard_is_small() {
    assert!(size_of::<Guard<()>>() <= 320, "{} bytes", size_of::<Guard<()>>());
}

/// The refusal outlives the end of the client's side while its service still works on it.
#[tokio::test]
async fn s17_the_end_of_the_clients_side_does_not_stop_a_refusal() {
    let (mut client, server) = tokio::io::duplex(4096);
    let gate = Arc::new(Semaphore::new(0));
    let (connection, _) = connection(server, &gate, b"-", Limits::default());
    client.write_all(BAD).await.expect("sent");
    settle().await;
    client.shutdown().await.expect("closed");
    settle().await;
    assert!(!connection.is_finished());
    gate.add_permits(1);
    assert_eq!(statuses(&mut client).await, ["400"]);
    connection.await.expect("no panic").expect("an orderly end");
}

/// A client that is gone does not keep the connection once the refusal is made.
#[tokio::test]
async fn s17_a_client_that_is_gone_does_not_keep_the_connection() {
    let (mut client, server) = tokio::io::duplex(4096);
    let gate = Arc::new(Semaphore::new(0));
    let (connection, _) = connection(server, &gate, b"-", Limits::default());
    client.write_all(BAD).await.expect("sent");
    drop(client);
    gate.add_permits(1);
    let _ = connection.await.expect("no panic");
}

/// How long the connection lives when the client goes on with `more` behind the answer and does not close.
async fn lives(sent: &[u8], more: usize, limits: Limits) -> Duration {
    let start = Instant::now();
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let (connection, _) = connection(server, &Arc::new(Semaphore::new(1)), b"-", limits);
    client.write_all(sent).await.expect("sent");
    let answers = statuses(&mut client).await;
    assert_eq!(answers.len(), 1, "{answers:?}");
    let rest = vec![b'x'; more];
    let _ = client.write_all(&rest).await; // fails once the connection is gone
    timeout(PATIENCE, connection).await.expect("bounded").expect("no panic").expect("an orderly end");
    start.elapsed()
}

/// RFC 9112, section 9.6: what the client still sends is discarded before the connection goes, within bounds.
#[tokio::test]
async fn s19_unread_input_does_not_cost_the_answer() {
    let shortly = Limits { linger: Duration::from_millis(50), ..Limits::default() };
    for (sent, more) in [(BAD.to_vec(), 0), (BAD.to_vec(), 100_000), ([LAST, GET, GET].concat(), 0)] {
        assert!(lives(&sent, more, shortly).await >= shortly.linger, "something may be unread");
    }
    let for_ever = Limits { linger: 100 * PATIENCE, ..Limits::default() };
    lives(LAST, 0, for_ever).await; // nothing unread
    lives(BAD, 2 * LINGER_BYTES + HEAD_BYTES, for_ever).await; // too much to discard
}

/// The wait for unread input ends with the client's side.
#[tokio::test]
async fn s19_the_end_of_the_clients_side_ends_the_wait() {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let for_ever = Limits { linger: 100 * PATIENCE, ..Limits::default() };
    let (connection, _) = connection(server, &Arc::new(Semaphore::new(1)), b"-", for_ever);
    client.write_all(BAD).await.expect("sent");
    assert_eq!(statuses(&mut client).await, ["400"]);
    client.write_all(b"more").await.expect("sent");
    settle().await;
    assert!(!connection.is_finished());
    client.shutdown().await.expect("closed");
    timeout(PATIENCE, connection).await.expect("bounded").expect("no panic").expect("an orderly end");
}

/// S-86: a head that has begun has to be completed, and is answered if it is not; before it begins there is time.
#[tokio::test]
async fn s86_a_slow_head_is_refused() {
    let shortly = Limits { head_time: Duration::from_millis(50), ..Limits::default() };
    for sent in [&GET[..1], &GET[..GET.len() - 1], &[GET, &GET[..9]].concat()] {
        let (mut client, server) = tokio::io::duplex(4096);
        let (connection, control) = connection(server, &Arc::new(Semaphore::new(2)), b"-", shortly);
        client.write_all(sent).await.expect("sent");
        let answers = timeout(PATIENCE, statuses(&mut client)).await.expect("answered");
        assert_eq!(answers.last().map(String::as_str), Some("400"), "{answers:?}");
        assert_eq!(control.fault(), Some(Fault::HeadTimeout));
        drop(client);
        connection.await.expect("no panic").expect("an orderly end");
    }
    let (mut client, server) = tokio::io::duplex(4096);
    let (connection, control) = connection(server, &Arc::new(Semaphore::new(2)), b"-", shortly);
    client.write_all(GET).await.expect("sent");
    assert!(timeout(4 * shortly.head_time, statuses(&mut client)).await.is_err(), "idle, and open");
    assert_eq!(control.fault(), None);
    client.write_all(LAST).await.expect("sent");
    assert_eq!(statuses(&mut client).await.len(), 1);
    connection.await.expect("no panic").expect("an orderly end");
}

/// S-86: a client that takes nothing of an answer is dropped.
#[tokio::test]
async fn s86_a_client_that_does_not_read_is_dropped() {
    let (mut client, server) = tokio::io::duplex(64);
    let shortly = Limits { write: Duration::from_millis(50), ..Limits::default() };
    let (connection, _) = connection(server, &Arc::new(Semaphore::new(1)), &[b'x'; 100_000], shortly);
    let start = Instant::now();
    client.write_all(GET).await.expect("sent");
    timeout(PATIENCE, connection).await.expect("bounded").expect("no panic").expect_err("timed out");
    assert!(start.elapsed() >= shortly.write);
}

/// S-86: only a wait without progress counts, even if the timer of an earlier one has fired.
#[tokio::test]
async fn s86_a_wait_that_is_over_does_not_count() {
    let (short, long) = (Duration::from_millis(1), 100 * PATIENCE);
    let mut stall = Stall::default();
    std::future::poll_fn(|cx| stall.poll_wait(short, cx)).await;
    stall.over();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(stall.poll_wait(long, &mut cx).is_pending(), "a new wait");
    stall.over();
    std::future::poll_fn(|cx| stall.poll_wait(short, cx)).await;
}

/// S-16: small chunks are a budget of the body and of time: a stream of keystrokes may go on for as long as it likes.
#[test]
fn s16_small_chunks_are_bounded_in_relation_to_data_and_time() {
    let start = Instant::now();
    let last = |size: u64, pause: Duration| {
        let (mut overhead, line) = (Overhead::new(start), ChunkLine { length: 3, size });
        (0..1_000_000_u32).find(|count| overhead.spend(line, || start + pause * *count).is_err())
    };
    assert_eq!(last(1, Duration::from_millis(10)), None, "keystrokes");
    assert_eq!(last(10, Duration::ZERO), None, "small writes at once");
    let flood = last(1, Duration::ZERO).expect("refused");
    assert!((10_000..20_000).contains(&flood), "{flood} single bytes at once");
}

/// S-86: a connection without a request is closed; one whose answer is under way is not.
#[tokio::test(start_paused = true)]
async fn s86_a_connection_without_a_request_is_closed() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (guard, control) = Guard::new(server, Bytes::new(), Limits::default());
    let service = service_fn(move |_: Request<Incoming>| {
        let in_hand = control.take().map(|_| control.begin());
        async move {
            tokio::time::sleep(Duration::from_secs(300)).await;
            drop(in_hand);
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"late"))))
        }
    });
    tokio::spawn(http1::Builder::new().header_read_timeout(None).serve_connection(TokioIo::new(guard), service));
    let start = tokio::time::Instant::now();
    client.write_all(GET).await.expect("sent");
    let mut answers = String::new();
    client.read_to_string(&mut answers).await.expect("answers");
    assert!(answers.ends_with("late"), "{answers}");
    assert_eq!(start.elapsed().as_secs(), 375);
}
