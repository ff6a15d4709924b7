//! Listeners: TLS by name, client certificates, HTTP/2, the PROXY protocol, sockets of the file system, limits.

use crate::support::{
    gateway::{CLIENT, Gateway, free_port},
    http1::Wire,
    http2::Http2,
    tls::{Authority, Pair},
    upstream::Upstream,
};
use std::{os::unix::fs::symlink, time::Duration};
use tokio::net::{TcpStream, UnixStream};

const OPEN: &str = r#"
@id("open")
@reason("Open.")
permit (principal, action, resource);
"#;

/// A configuration whose `public_url` is https; `listen` is the list of listeners, `more` is added at the end.
fn https(upstream: &Upstream, listen: &str, more: &str) -> String {
    format!(
        "public_url: https://portal.test\nlisten:\n{listen}workers: 2\ndrain: 0s\n{CLIENT}routes:\n\
         \x20 - {{ name: app, host: portal.test, upstream: \"http://127.0.0.1:{port}\" }}\n\
         \x20 - {{ name: api, host: api.test, upstream: \"http://127.0.0.1:{port}\" }}\n\
         policies: ./policies\n{more}",
        port = upstream.port
    )
}

fn write(gateway: &Gateway, name: &str, pair: &Pair) {
    gateway.write(&format!("{name}.pem"), &pair.pem);
    gateway.write_secret(&format!("{name}.key"), &pair.key);
}

const TLS: &str = "  - address: 127.0.0.1:PORT\n    tls: { certificate: a.pem, key: a.key }\n";

/// The program with a TLS listener that shows `pairs`, the first one by default.
async fn with_tls(listen: &str, more: &str, upstream: &Upstream, pairs: &[(&str, &Pair)]) -> Gateway {
    Gateway::start_with(&https(upstream, listen, more), OPEN, |gateway| {
        pairs.iter().for_each(|(name, pair)| write(gateway, name, pair));
    })
    .await
}

async fn get(wire: &mut Wire, host: &str, lines: &str) -> u16 {
    if wire.try_send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n")).await.is_err() {
        return 0;
    }
    wire.answer().await.map_or(0, |answer| answer.status)
}

/// The certificate follows the name that was asked for, and the host of a request must be one of that certificate.
#[tokio::test]
async fn s32_certificates_are_chosen_by_name_and_bind_the_host() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let (portal, api) = (authority.server(&["portal.test"]), authority.server(&["api.test", "*.api.test"]));
    let listen = TLS.replace(" }\n", ", certificates: [{ certificate: b.pem, key: b.key }] }\n");
    let gateway = with_tls(&listen, "", &upstream, &[("a", &portal), ("b", &api)]).await;
    for (name, pair, host, status) in [
        ("portal.test", &portal, "portal.test", 200),
        ("api.test", &api, "api.test", 200),
        ("API.test", &api, "api.test", 200),
        ("portal.test", &portal, "api.test", 421),
        ("api.test", &api, "portal.test", 421),
        ("api.test", &api, "portal.test:443", 421),
    ] {
        let stream = authority.connect(gateway.port, name, None, &[]).await.expect("TLS");
        assert!(pair.is_shown_on(&stream), "{name}");
        assert_eq!(get(&mut Wire::over(stream), host, "").await, status, "{name} {host}");
    }
    assert!(authority.connect(gateway.port, "x.api.test", None, &[]).await.is_ok(), "a star stands for one label");
    let stranger = authority.connect(gateway.port, "other.test", None, &[]).await;
    assert!(stranger.is_err(), "the default certificate is not for that name, and the client knows");
    assert!(upstream.take().iter().all(|seen| seen.one("x-forwarded-proto") == Some("https")));
    let event = gateway.audited("the refusal", |event| event.to_string().contains("misdirected")).await;
    assert_eq!(event["disposition"], "Rejected");
}

/// S-86, P46: certificates change while it runs, also behind a swapped link, and a wrong pair leaves the old one in force.
#[tokio::test]
async fn a_changed_certificate_is_taken_and_a_wrong_one_refused() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let (one, two, three) =
        (authority.server(&["portal.test"]), authority.server(&["portal.test"]), authority.server(&["portal.test"]));
    let listen = "  - address: 127.0.0.1:PORT\n    tls: { certificate: now/tls.pem, key: now/tls.key }\n";
    let gateway = Gateway::start_with(&https(&upstream, listen, ""), OPEN, |gateway| {
        for (name, pair) in [("one", &one), ("two", &two)] {
            std::fs::create_dir(gateway.path(name)).expect("a directory");
            write(gateway, &format!("{name}/tls"), pair);
        }
        symlink("one", gateway.path("now")).expect("a link");
    })
    .await;
    let shown = async |pair: &Pair| {
        let stream = authority.connect(gateway.port, "portal.test", None, &[]).await.expect("TLS");
        pair.is_shown_on(&stream)
    };
    assert!(shown(&one).await);
    let mut open = Wire::over(authority.connect(gateway.port, "portal.test", None, &[]).await.expect("TLS"));
    symlink("two", gateway.path("next")).expect("a link");
    std::fs::rename(gateway.path("next"), gateway.path("now")).expect("as Kubernetes swaps");
    gateway.until("the new pair is shown", async || shown(&two).await).await;
    assert_eq!(get(&mut open, "portal.test", "").await, 200, "what was open goes on");
    gateway.write("two/tls.pem", &three.pem); // the key is still that of the second
    gateway
        .until("the mistake is told", async || gateway.log().contains("is the key of another certificate than"))
        .await;
    assert!(shown(&two).await, "the old pair is in force");
    gateway.write_secret("two/tls.key", &three.key);
    gateway.until("the pair is whole again", async || shown(&three).await).await;
}

/// Whoever shows a certificate is known to policies by its subject and SPIFFE id; who shows none or another's is turned away.
#[tokio::test]
async fn client_certificates_are_verified_and_policies_read_them() {
    let (upstream, authority, other) = (Upstream::start().await, Authority::new(), Authority::new());
    let listen = format!("{TLS}    client_certificates: {{ ca: ca.pem }}\n");
    let policy = "@id(\"runners\")\n@reason(\"For runners.\")\npermit (principal, action, resource) when {\n\
                  context has tls_spiffe_id && context.tls_spiffe_id == \"spiffe://acme/runner\"\n\
                  && context has tls_subject && context.tls_subject == \"CN=runner-7\" };\n";
    let gateway = Gateway::start_with(&https(&upstream, &listen, ""), policy, |gateway| {
        write(gateway, "a", &authority.server(&["portal.test"]));
        gateway.write("ca.pem", &authority.pem);
    })
    .await;
    let status = async |pair: Option<&Pair>| {
        let stream = authority.connect(gateway.port, "portal.test", pair, &[]).await.ok()?;
        let mut wire = Wire::over(stream);
        wire.try_send("GET / HTTP/1.1\r\nHost: portal.test\r\n\r\n").await.ok()?;
        wire.answer().await.map(|answer| answer.status)
    };
    let spiffe = Some("spiffe://acme/runner");
    assert_eq!(status(Some(&authority.client("runner-7", spiffe))).await, Some(200));
    assert_eq!(status(Some(&authority.client("runner-8", spiffe))).await, Some(401));
    assert_eq!(status(Some(&authority.client("runner-7", Some("https://acme/runner")))).await, Some(401));
    assert_eq!(status(Some(&authority.client("runner-7", None))).await, Some(401));
    assert_eq!(status(None).await, None, "no certificate");
    assert_eq!(status(Some(&other.client("runner-7", spiffe))).await, None, "another authority's certificate");
    assert_eq!(upstream.take().len(), 1);
    let event = gateway.audited("the runner", |event| event["unmapped"]["certificate"] == "CN=runner-7").await;
    assert_eq!(event["disposition"], "Allowed");
}

/// HTTP/2 by ALPN and by prior knowledge; cookies in crumbs are one field upstream.
#[tokio::test]
async fn http2_is_spoken_by_alpn_and_by_prior_knowledge() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let plain = free_port();
    let listen = format!("{TLS}  - address: 127.0.0.1:{plain}\n");
    let pair = authority.server(&["portal.test", "api.test"]);
    let gateway = with_tls(&listen, "trusted_proxies: [127.0.0.1]\n", &upstream, &[("a", &pair)]).await;
    let stream = authority.connect(gateway.port, "portal.test", None, &["h2", "http/1.1"]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Http2::over(stream).await;
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2")];
    let answer = client.ask("GET", "https://portal.test/x?y", &crumbs).await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "/x?y"));
    assert_eq!(answer.header("strict-transport-security"), Some("max-age=63072000"));
    let seen = upstream.take().remove(0);
    assert_eq!((seen.one("cookie"), seen.one("host")), (Some("a=1; b=2"), Some("portal.test")));
    assert_eq!(
        client.ask("GET", "https://api.test/", &[]).await.expect("an answer").status,
        200,
        "one certificate, one connection"
    );
    assert_eq!(client.ask("GET", "https://elsewhere.test/", &[]).await.expect("an answer").status, 421);

    let mut client = Http2::over(TcpStream::connect(("127.0.0.1", plain)).await.expect("connected")).await;
    let proto = [("x-forwarded-proto", "https")];
    assert_eq!(client.ask("GET", "http://portal.test/", &proto).await.expect("an answer").status, 200);
    assert_eq!(
        client.ask("GET", "http://portal.test/", &[]).await.expect("an answer").status,
        403,
        "nobody said https"
    );
    let stream = authority.connect(gateway.port, "portal.test", None, &["spdy/3"]).await;
    assert!(stream.is_err(), "no protocol in common");
}

/// S-08: a balancer for TCP says who the client is, and only a trusted one may.
#[tokio::test]
async fn s08_the_proxy_protocol_names_the_client() {
    let upstream = Upstream::start().await;
    let listen = "  - { address: \"127.0.0.1:PORT\", proxy_protocol: true }\n";
    let gateway = with_tls(listen, "trusted_proxies: [127.0.0.1]\n", &upstream, &[]).await;
    let header = |tls: bool| {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xc0\0\x02\x07\x0a\0\0\x01\x9c\x40\x01\xbb".to_vec();
        bytes.extend([0x20, 0, 5, u8::from(tls), 0, 0, 0, 0]);
        bytes
    };
    let ask = async |start: &[u8], lines: &str| {
        let mut wire = Wire::connect(gateway.port).await;
        wire.send(start).await;
        get(&mut wire, "portal.test", lines).await
    };
    assert_eq!(ask(&header(true), "X-Forwarded-For: 203.0.113.9\r\n").await, 200);
    assert_eq!(upstream.take()[0].one("x-forwarded-for"), Some("192.0.2.7"), "not what the client says");
    assert_eq!(ask(&header(false), "X-Forwarded-Proto: https\r\n").await, 403, "the client cannot say it came by TLS");
    assert_eq!(ask(b"", "").await, 0, "no header, no HTTP");
    assert!(upstream.take().is_empty());

    let other = with_tls(listen, "trusted_proxies: [192.0.2.1]\n", &upstream, &[]).await;
    let mut wire = Wire::connect(other.port).await;
    wire.send(header(true)).await;
    assert!(wire.rest().await.is_empty(), "a stranger may not say who the client is");
    other.until("the operator hears of it", async || other.log().contains("so it may not say who the client is")).await;
}

/// A socket of the file system: for its owner and group, trusted as a proxy is, taken away at the end.
#[tokio::test]
async fn a_socket_of_the_file_system_is_served() {
    use std::os::unix::fs::PermissionsExt;
    let upstream = Upstream::start().await;
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("gate.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("left behind by a crash"));
    let listen = format!("  - address: unix:{}\n", path.display());
    let mut gateway = with_tls(&listen, "", &upstream, &[]).await;
    assert_eq!(std::fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
    let mut wire = Wire::over(UnixStream::connect(&path).await.expect("connected"));
    let lines = "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.9\r\n";
    assert_eq!(get(&mut wire, "portal.test", lines).await, 200);
    assert_eq!(upstream.take()[0].one("x-forwarded-for"), Some("192.0.2.9"));
    assert_eq!(get(&mut wire, "portal.test", "").await, 403, "nobody said https");
    gateway.stop().await;
    assert!(!path.exists());
}

/// S-86: connections of one address are bounded; others are served meanwhile.
#[tokio::test]
async fn s86_connections_of_one_address_are_bounded() {
    let upstream = Upstream::start().await;
    let plain = free_port();
    let listen =
        format!("  - {{ address: \"127.0.0.1:PORT\", proxy_protocol: true }}\n  - address: 127.0.0.1:{plain}\n");
    let more = "trusted_proxies: [127.0.0.1]\nlimits: { connections_per_address: 3, connections: 12 }\n";
    let gateway = with_tls(&listen, more, &upstream, &[]).await;
    let header = |last: u8| {
        [
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x14\xc0\0\x02",
            &[last][..],
            b"\x0a\0\0\x01\x9c\x40\x01\xbb\x20\0\x05\x01\0\0\0\0",
        ]
        .concat()
    };
    let ask = async |last: u8| {
        let mut wire = Wire::connect(gateway.port).await;
        wire.send(header(last)).await;
        let status = get(&mut wire, "portal.test", "").await;
        (wire, status)
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        let (wire, status) = ask(7).await;
        assert_eq!(status, 200);
        held.push(wire);
    }
    assert_eq!(ask(7).await.1, 0, "the fourth of one address");
    assert_eq!(ask(8).await.1, 200, "another address");
    held.pop();
    gateway.until("the place is free again", async || ask(7).await.1 == 200).await;
    let taken = async || {
        held.push(Wire::connect(plain).await); // one more, should the last place have come free since
        ask(9).await.1 == 0
    };
    gateway.until("all places are taken", taken).await;
    drop(held);
    gateway.until("they are free again", async || ask(9).await.1 == 200).await;
}

/// S-86: who begins TLS and does not go on is let go, and so is who begins a head.
#[tokio::test]
async fn s86_slow_beginnings_are_let_go() {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let plain = free_port();
    let listen = format!("{TLS}  - address: 127.0.0.1:{plain}\n");
    let pair = authority.server(&["portal.test"]);
    let gateway = with_tls(&listen, "trusted_proxies: [127.0.0.1]\n", &upstream, &[("a", &pair)]).await;
    let (mut tls, mut head, mut nothing) =
        (Wire::connect(gateway.port).await, Wire::connect(plain).await, Wire::connect(plain).await);
    tls.send([0x16, 0x03, 0x01]).await;
    head.send("GET / HTTP/1.1\r\nHost: portal.test\r\nX-").await;
    let start = std::time::Instant::now();
    let (tls, head, nothing) = tokio::join!(tls.rest(), head.answer(), nothing.rest());
    assert!(tls.is_empty() && nothing.is_empty());
    assert_eq!(head.map(|answer| answer.status), Some(408), "who was late is told");
    let took = start.elapsed();
    assert!(took > Duration::from_secs(9) && took < Duration::from_secs(13), "{took:?}");
    assert!(upstream.take().is_empty());
}

/// S-13, S-100: what has two readings is refused in the order of the requests, with a page or JSON like any refusal, and recorded.
#[tokio::test]
async fn s13_what_has_two_readings_is_refused_and_recorded() {
    let upstream = Upstream::start().await;
    let listen = "  - address: 127.0.0.1:PORT\n";
    let gateway = with_tls(listen, "trusted_proxies: [127.0.0.1]\n", &upstream, &[]).await;
    let mut wire = Wire::connect(gateway.port).await;
    let good = "GET /good HTTP/1.1\r\nHost: portal.test\r\nX-Forwarded-Proto: https\r\n\r\n";
    let bad = "POST /bad HTTP/1.1\r\nHost: portal.test\r\nX-Forwarded-Proto: https\r\nContent-Length: 4\r\n\
               Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    wire.send(format!("{good}{bad}{good}")).await;
    let first = wire.answer().await.expect("an answer");
    assert_eq!((first.status, first.text().as_str()), (200, "/good"));
    let second = wire.answer().await.expect("an answer");
    assert_eq!((second.status, second.header("connection")), (400, Some("close")));
    let problem = second.json();
    assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some("bad_request"), Some(400)));
    assert!(wire.rest().await.is_empty(), "nothing behind it is answered");
    assert_eq!(upstream.take().len(), 1);
    let id = problem["request_id"].as_str().expect("a request id");
    let event = gateway.audited("the refusal", |event| event["metadata"]["correlation_uid"] == id).await;
    assert_eq!(
        (event["disposition"].as_str(), event["src_endpoint"]["ip"].as_str()),
        (Some("Rejected"), Some("127.0.0.1"))
    );
    assert!(event["status_detail"].as_str().is_some_and(|why| why.contains("Transfer-Encoding")), "{event}");
}

/// A connection that became a WebSocket keeps its place among all.
#[tokio::test]
async fn s86_websockets_count_among_the_connections_of_an_address() {
    let mut upstream = Upstream::start().await;
    upstream.port = echo().await;
    let more = "trusted_proxies: [192.0.2.1]\nlimits: { connections_per_address: 3 }\n";
    let authority = Authority::new();
    let pair = authority.server(&["portal.test"]);
    let gateway = with_tls(TLS, more, &upstream, &[("a", &pair)]).await;
    let open = async || {
        let mut wire = Wire::over(authority.connect(gateway.port, "portal.test", None, &[]).await.ok()?);
        let lines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let answered = get(&mut wire, "portal.test", lines).await;
        (answered == 101).then_some(wire)
    };
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(open().await.expect("a WebSocket"));
    }
    assert!(open().await.is_none(), "the fourth of one address");
    held.pop();
    gateway.until("the place is free again", async || open().await.is_some()).await;
}

/// A server that takes every WebSocket and reads it until its end.
async fn echo() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use futures_util::StreamExt;
                let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
                while let Some(Ok(_)) = socket.next().await {}
            });
        }
    });
    port
}

/// A connection whose certificate was verified by an authority that is gone ends with it.
#[tokio::test]
async fn connections_end_with_the_authority_of_their_certificate() {
    let (upstream, authority, other) = (Upstream::start().await, Authority::new(), Authority::new());
    let listen = format!("{TLS}    client_certificates: {{ ca: ca.pem }}\n");
    let gateway = Gateway::start_with(&https(&upstream, &listen, ""), OPEN, |gateway| {
        write(gateway, "a", &authority.server(&["portal.test"]));
        gateway.write("ca.pem", &authority.pem);
    })
    .await;
    let pair = authority.client("runner-7", None);
    let stream = authority.connect(gateway.port, "portal.test", Some(&pair), &[]).await.expect("TLS");
    let mut wire = Wire::over(stream);
    assert_eq!(get(&mut wire, "portal.test", "").await, 200);
    gateway.write("ca.pem", &other.pem);
    let closed = tokio::time::timeout(Duration::from_secs(15), wire.rest()).await;
    assert_eq!(closed, Ok(Vec::new()), "closed without another answer");
}

/// What cannot be read is recorded with the client's address, not with that of the proxy in front.
#[tokio::test]
async fn what_cannot_be_read_is_recorded_with_the_clients_address() {
    let upstream = Upstream::start().await;
    let gateway = with_tls("  - address: 127.0.0.1:PORT\n", "trusted_proxies: [127.0.0.1]\n", &upstream, &[]).await;
    let mut wire = Wire::connect(gateway.port).await;
    wire.send("GET /a/..%2f..%2fadmin HTTP/1.1\r\nHost: portal.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.66\r\n\r\n").await;
    assert_eq!(wire.answer().await.map(|answer| answer.status), Some(400));
    gateway.audited("the refusal", |event| event["src_endpoint"]["ip"] == "192.0.2.66").await;
}
