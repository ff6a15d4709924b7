//! Starting, reloading and stopping, while connections are open.

use crate::support::{
    gateway::{CLIENT, Gateway, free_port},
    http1::Wire,
    http2::Http2,
    upstream::Upstream,
};
use std::{os::unix::net::UnixDatagram, time::Duration};
use tokio::net::TcpStream;

const OPEN: &str = "@id(\"open\")\n@reason(\"Open.\")\npermit (principal, action, resource);\n";

fn configuration(upstream: &Upstream, listen: &str, drain: &str) -> String {
    format!(
        "public_url: http://localhost:9\nlisten:\n{listen}workers: 2\ndrain: {drain}\n{CLIENT}routes:\n\
         \x20 - {{ name: app, upstream: \"http://127.0.0.1:{}\" }}\npolicies: ./policies\n",
        upstream.port
    )
}

async fn get(wire: &mut Wire, target: &str) -> Option<crate::support::http1::Answer> {
    wire.try_send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await.ok()?;
    wire.answer().await
}

/// A reload opens and closes listeners; what is open goes on, and what cannot be opened leaves all as it was.
#[tokio::test]
async fn listeners_come_and_go_with_a_reload() {
    let (upstream, other) = (Upstream::start().await, free_port());
    let one = "  - address: 127.0.0.1:PORT\n";
    let gateway = Gateway::start(&configuration(&upstream, one, "0s"), OPEN).await;
    let rewrite = |listen: &str| {
        let text = configuration(&upstream, listen, "0s").replace("PORT", &gateway.port.to_string());
        gateway.write("vestibule.yaml", &text);
    };
    let answers = async |port: u16| match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => get(&mut Wire::over(stream), "/").await.is_some_and(|answer| answer.status == 200),
        Err(_) => false,
    };
    assert!(answers(gateway.port).await && !answers(other).await);
    let mut open = Wire::connect(gateway.port).await;
    assert!(get(&mut open, "/").await.is_some());

    rewrite(&format!("{one}  - address: 127.0.0.1:{other}\n"));
    gateway.until("the second listener is open", async || answers(other).await).await;
    assert!(answers(gateway.port).await);

    rewrite(&format!("  - address: 127.0.0.1:{other}\n"));
    gateway.until("the first is closed", async || !answers(gateway.port).await).await;
    assert!(get(&mut open, "/").await.is_some_and(|answer| answer.status == 200), "what is open goes on");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    rewrite(&format!("  - address: 127.0.0.1:{other}\n  - address: 127.0.0.1:{port}\n"));
    gateway.until("the mistake is told", async || gateway.log().contains("stop what listens there")).await;
    assert!(answers(other).await, "the old listeners are in force");
}

/// DESIGN, `run`: after SIGTERM who comes within the drain is served, and asked to go elsewhere; what is in hand is finished.
#[tokio::test]
async fn a_stop_finishes_what_is_in_hand() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&configuration(&upstream, "  - address: 127.0.0.1:PORT\n", "2s"), OPEN).await;
    let mut idle = Wire::connect(gateway.port).await;
    assert!(get(&mut idle, "/").await.is_some_and(|answer| answer.header("connection").is_none()));
    let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.expect("connected");
    let mut http2 = Http2::over(stream).await;
    let slow = {
        let mut http2 = http2.clone();
        tokio::spawn(async move { http2.ask("GET", "http://localhost/slow/3000", &[]).await })
    };
    let mut wire = Wire::connect(gateway.port).await;
    wire.send("GET /slow/3000 HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    gateway.until("both are under way", async || upstream.seen() >= 3).await;
    gateway.terminate();
    gateway.until("it stops", async || gateway.log().contains("\"message\":\"stopping\"")).await;

    let late = get(&mut Wire::connect(gateway.port).await, "/late").await.expect("an answer");
    assert_eq!((late.status, late.header("connection")), (200, Some("close")));
    assert_eq!(get(&mut idle, "/").await.expect("an answer").header("connection"), Some("close"));
    gateway
        .until("HTTP/2 was told to go away", async || http2.ask("GET", "http://localhost/", &[]).await.is_err())
        .await;
    let slow = slow.await.expect("no panic").expect("an answer");
    assert_eq!((slow.status, slow.text().as_str()), (200, "/slow/3000"), "over HTTP/2");
    let slow = wire.answer().await.expect("an answer");
    assert_eq!((slow.status, slow.text().as_str()), (200, "/slow/3000"), "over HTTP/1.1");
    gateway.ended().await;
}

/// A stream that is open when we stop has its time, and then ends; nothing waits for it forever.
#[tokio::test]
async fn a_stop_gives_streams_a_deadline() {
    let upstream = Upstream::start().await;
    let mut gateway = Gateway::start(&configuration(&upstream, "  - address: 127.0.0.1:PORT\n", "0s"), OPEN).await;
    let mut wire = Wire::connect(gateway.port).await;
    wire.send("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(String::from_utf8_lossy(&wire.some().await).starts_with("HTTP/1.1 200"));
    gateway.terminate();
    let start = std::time::Instant::now();
    let rest = wire.rest().await;
    let took = start.elapsed();
    assert!(!rest.is_empty() && took > Duration::from_secs(9) && took < Duration::from_secs(13), "{took:?}");
    gateway.ended().await;
    let event = gateway.audited("its end", |event| event["unmapped"]["cut"] == "shutting_down").await;
    assert_eq!(event["unmapped"]["phase"], "stream_ended");
}

/// `Type=notify`: systemd is told when we serve and when we stop.
#[tokio::test]
async fn systemd_is_told_how_far_we_are() {
    let upstream = Upstream::start().await;
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let text = configuration(&upstream, "  - address: 127.0.0.1:PORT\n", "0s");
    let mut gateway = Gateway::start_in(&text, OPEN, &[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]).await;
    let said = || {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).expect("a word within 10 s");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    assert!(said().contains("READY=1"));
    gateway.terminate();
    assert!(said().contains("STOPPING=1"));
    gateway.ended().await;
}
