//! What comes behind an upgrade request.

use super::harness::settle;
use crate::listener::guard::{Control, Guard, Limits, PREFACE, Preface, limits::HELD_BYTES, preface};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::UPGRADE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const UPGRADING: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
const UPGRADING_WITH_BODY: &[u8] =
    b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 9\r\n\r\nhello";

/// A request that waits for its answer.
struct Waiting {
    upgrade: bool,
    answer: tokio::sync::oneshot::Sender<StatusCode>,
    on_upgrade: OnUpgrade,
}

/// A connection whose requests come out of a channel, and wait there for the status of their answer.
fn connection(io: DuplexStream) -> (UnboundedReceiver<Waiting>, Control) {
    let (guard, control) = Guard::new(io, Bytes::new(), Limits::default());
    let (sender, receiver) = unbounded_channel();
    let tally = control.clone();
    let service = service_fn(move |request| answer(request, tally.clone(), sender.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(guard), service).with_upgrades();
    tokio::spawn(async move { drop(connection.await) });
    (receiver, control)
}

async fn answer(
    mut request: Request<Incoming>,
    control: Control,
    sender: UnboundedSender<Waiting>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let upgrade = control.take().expect("every request is in the tally").upgrade;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (answer, status) = tokio::sync::oneshot::channel();
    assert!(sender.send(Waiting { upgrade, answer, on_upgrade }).is_ok(), "the test listens");
    let mut response = Response::new(Full::default());
    *response.status_mut() = status.await.expect("the test answers");
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("x"));
    }
    Ok(response)
}

/// Answers with 101 and takes the connection out of hyper.
async fn switch(waiting: Waiting) -> Option<(DuplexStream, Bytes)> {
    waiting.answer.send(StatusCode::SWITCHING_PROTOCOLS).expect("the service waits");
    let upgraded = waiting.on_upgrade.await.expect("an upgrade");
    let parts = upgraded.downcast::<TokioIo<Guard<DuplexStream>>>().expect("a guard below hyper");
    assert!(parts.read_buf.is_empty(), "the guard kept all");
    parts.io.into_inner().into_tunnel()
}

async fn head(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("an answer"));
    }
    String::from_utf8(head).expect("ASCII")
}

/// S-20: what comes behind an upgrade request is no request; with 101 it is the tunnel's, in whole.
#[tokio::test]
async fn s20_bytes_behind_an_upgrade_belong_to_the_tunnel() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (mut requests, _) = connection(server);
    client.write_all(&[GET, UPGRADING, GET, b"early"].concat()).await.expect("sent");
    let first = requests.recv().await.expect("a request");
    assert!(!first.upgrade);
    first.answer.send(StatusCode::OK).expect("the service waits");
    let second = requests.recv().await.expect("a request");
    assert!(second.upgrade);
    let (mut tunnel, early) = switch(second).await.expect("a tunnel");
    assert_eq!(early, [GET, b"early"].concat());
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101"));
    client.write_all(b"late").await.expect("sent");
    tunnel.write_all(b"back").await.expect("sent");
    let (mut there, mut here) = ([0; 4], [0; 4]);
    tunnel.read_exact(&mut there).await.expect("the client's bytes");
    client.read_exact(&mut here).await.expect("the server's bytes");
    assert_eq!((&there, &here), (b"late", b"back"));
    assert!(requests.recv().await.is_none(), "no other request was seen");
}

/// S-20: answered otherwise, what was held is the next request, and not before.
#[tokio::test]
async fn s20_bytes_behind_a_refused_upgrade_are_the_next_request() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (mut requests, control) = connection(server);
    client.write_all(&[GET, UPGRADING, GET].concat()).await.expect("sent");
    let first = requests.recv().await.expect("a request");
    control.resume(); // of no upgrade: nothing
    first.answer.send(StatusCode::OK).expect("the service waits");
    let second = requests.recv().await.expect("a request");
    assert!(second.upgrade);
    second.answer.send(StatusCode::OK).expect("the service waits");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    settle().await;
    assert!(requests.try_recv().is_err(), "held until it is resumed");
    control.resume();
    let third = requests.recv().await.expect("a request");
    assert!(!third.upgrade);
    third.answer.send(StatusCode::OK).expect("the service waits");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200"));
    control.resume(); // a second time: nothing
    client.write_all(UPGRADING).await.expect("sent");
    let fourth = requests.recv().await.expect("a request");
    let (_, early) = switch(fourth).await.expect("a tunnel");
    assert!(early.is_empty());
}

/// S-20: an upgrade request whose body has not come whole does not become a tunnel: its rest would be the first bytes.
#[tokio::test]
async fn s20_an_unfinished_body_does_not_become_a_tunnel() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (mut requests, _) = connection(server);
    client.write_all(UPGRADING_WITH_BODY).await.expect("sent");
    let waiting = requests.recv().await.expect("a request");
    assert!(switch(waiting).await.is_none());
}

/// S-20: hyper fulfils an upgrade after any last answer; a connection that was resumed is no tunnel.
#[tokio::test]
async fn s20_a_resumed_connection_does_not_become_a_tunnel() {
    let (mut client, server) = tokio::io::duplex(4096);
    let (mut requests, control) = connection(server);
    client.write_all(UPGRADING).await.expect("sent");
    let waiting = requests.recv().await.expect("a request");
    control.resume();
    assert!(switch(waiting).await.is_none());
}

/// What is held has a bound; the rest waits in the socket.
#[tokio::test]
async fn s20_no_more_than_a_bound_is_held() {
    let (mut client, server) = tokio::io::duplex(1024);
    let (mut requests, _) = connection(server);
    let flood = [UPGRADING, &vec![b'x'; 1 << 20]].concat();
    let sending = tokio::spawn(async move { client.write_all(&flood).await.map(|()| client) });
    let waiting = requests.recv().await.expect("a request");
    settle().await;
    assert!(!sending.is_finished());
    let (tunnel, early) = switch(waiting).await.expect("a tunnel");
    assert!((HELD_BYTES..HELD_BYTES + 64 * 1024).contains(&early.len()), "{}", early.len());
    drop(tunnel);
    sending.await.expect("no panic").expect_err("closed");
}

#[test]
fn tells_http2_by_its_preface() {
    let get = b"GET / HTTP/1.1\r\n";
    for length in 0..PREFACE.len() {
        assert_eq!(preface(&PREFACE[..length]), Preface::Unclear, "{length}");
        let other = [&PREFACE[..length], b"\0"].concat();
        assert_eq!(preface(&other), Preface::Http1, "{length}");
    }
    assert_eq!(preface(PREFACE), Preface::Http2);
    assert_eq!(preface(&[&PREFACE[..], get].concat()), Preface::Http2);
    assert_eq!(preface(get), Preface::Http1);
}
