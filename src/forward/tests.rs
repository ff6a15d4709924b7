//! Forwarding against real upstreams on loopback, some of them hostile.

use super::{assertion::AssertionKeys, streams::Streams, upgrade::open_plain, *};
use crate::{
    canonical::{Canonical, Class, Host, OwnCookie, RequestId, Target},
    principal::{Groups, Membership, MembershipSource, Person, UserId},
    route::{ErrorBody, GroupPattern, Timeouts, Upstream},
};
use futures_util::{SinkExt, StreamExt};
use http::header::{HOST, HeaderMap};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(super) fn keys() -> Arc<AssertionKeys> {
    static KEYS: LazyLock<Arc<AssertionKeys>> = LazyLock::new(|| {
        let directory = tempfile::tempdir().expect("a directory");
        Arc::new(AssertionKeys::load(directory.path(), SystemTime::now()).expect("keys"))
    });
    KEYS.clone()
}

pub(super) fn person() -> Person {
    Person {
        id: UserId { provider: "gitlab".parse().expect("a name"), subject: "907".into() },
        issuer: "https://gitlab.test".into(),
        login: "andré".into(),
        email: Some("andre@example.com".into()),
        name: None,
    }
}

pub(super) fn known(paths: &[&str]) -> Membership {
    static VERSION: AtomicU64 = AtomicU64::new(1);
    Membership::Known(Groups {
        paths: paths.iter().map(|path| path.parse().expect("a path")).collect(),
        source: MembershipSource::Userinfo,
        read: SystemTime::now(),
        version: VERSION.fetch_add(1, Ordering::Relaxed),
        stale: false,
    })
}

pub(super) fn user(groups: &[&str]) -> Principal {
    Principal::User { person: Arc::new(person()), membership: known(groups), strength: Arc::default() }
}

pub(super) fn route(authority: &str) -> Route {
    let gitlab: crate::principal::Name = "gitlab".parse().expect("a name");
    Route {
        index: 0,
        name: "portal".parse().expect("a name"),
        host: "app.test".parse().expect("a host"),
        path: "/".into(),
        exact: false,
        upstream: Upstream { authority: authority.into() },
        providers: [gitlab.clone()].into(),
        header_provider: Some(gitlab.clone()),
        audience: "portal".into(),
        labels: Default::default(),
        groups_header: [GroupPattern::Tree(gitlab, "acme".parse().expect("a path"))].into(),
        origins: Arc::new([]),
        encoded_slash: false,
        errors: ErrorBody::Problem,
        timeouts: Timeouts {
            connect: Duration::from_millis(500),
            first_byte: Duration::from_millis(400),
            request_idle: Duration::from_millis(400),
            stream_idle: Duration::from_secs(5),
        },
        allow: Vec::new(),
    }
}

pub(super) fn judged(target: &str) -> Judged {
    let host: Host = "app.test".parse().expect("a host");
    Judged {
        asked: Canonical {
            id: RequestId(7),
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            method: Method::GET,
            host,
            authority: "app.test:8443".into(),
            target: Target::parse(target).expect("a target"),
            class: Class::Machine,
            client: [192, 0, 2, 1].into(),
            https: true,
            headers: HeaderMap::new(),
            session: OwnCookie::Absent,
            binding: OwnCookie::Absent,
            websocket: false,
        },
    }
}

/// An upstream that speaks as `script` says, connection by connection, and tells what it was asked.
struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    async fn start<F, S>(script: F) -> Self
    where
        F: Fn(usize, TcpStream) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                tokio::spawn(script(counter.fetch_add(1, Ordering::SeqCst), stream));
            }
        });
        Self { address, connections }
    }

    /// Answers every request with `answer` and tells its head and body (as far as its length is known).
    async fn echo(answer: &'static str) -> (Self, mpsc::UnboundedReceiver<String>) {
        let (heard, hear) = mpsc::unbounded_channel();
        let upstream = Self::start(move |_, mut stream| {
            let heard = heard.clone();
            async move {
                while let Some(request) = read_message(&mut stream).await {
                    let _ = heard.send(request);
                    stream.write_all(answer.as_bytes()).await.expect("written");
                }
            }
        })
        .await;
        (upstream, hear)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn authority(&self) -> String {
        self.address.to_string()
    }
}

/// A client-facing server whose only step is forwarding.
struct Front {
    address: SocketAddr,
    forward: Arc<Forward>,
    streams: Arc<Streams>,
}

impl Front {
    async fn start(upstream: &Scripted) -> Self {
        Self::with(route(&upstream.authority()), user(&["acme/größe", "other"])).await
    }

    async fn with(route: Route, principal: Principal) -> Self {
        let streams = Arc::<Streams>::default();
        let shared = Shared {
            streams: streams.clone(),
            keys: keys(),
            issuer: "https://app.test".into(),
            cookies: ["__Host-vestibule".into(), "__Host-vestibule-binding".into()],
            open: open_plain,
        };
        let forward = Arc::new(Forward::new(Arc::new(shared)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (route, served) = (Arc::new(route), forward.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (forward, route, principal) = (served.clone(), route.clone(), principal.clone());
                let service = service_fn(move |request| {
                    let (forward, route, principal) = (forward.clone(), route.clone(), principal.clone());
                    async move { Ok::<_, Infallible>(serve(&forward, &route, &principal, request).await) }
                });
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection.with_upgrades());
            }
        });
        Self { address, forward, streams }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// One request on a connection of its own; all of the answer.
    async fn ask(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("written");
        read_message(&mut stream).await.expect("an answer")
    }

    async fn get(&self) -> String {
        self.ask("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await
    }
}

async fn serve(
    forward: &Forward,
    route: &Arc<Route>,
    principal: &Principal,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let mut judged = judged(&parts.uri.to_string());
    let asked = &mut judged.asked;
    asked.method = parts.method;
    asked.headers = parts.headers;
    asked.websocket = asked.headers.contains_key("upgrade");
    for name in ["connection", "upgrade", "keep-alive", "te", "trailer", "transfer-encoding"] {
        asked.headers.remove(name);
    }
    asked.headers.remove(HOST);
    let session = SessionRef { key: [9; 32], hash: "s9".into() };
    let crossing = Crossing::for_test();
    let permit = Permit::for_test();
    let sent = forward.send(permit, principal, judged, body, Some(upgrade), route, &crossing, Some(&session)).await;
    sent.unwrap_or_else(|refusal| {
        let text = format!("{}: {}", refusal.reason.code(), refusal.cause.unwrap_or_default());
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = refusal.reason.status();
        response
    })
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8(head).expect("text"))
}

/// Head and body of the next message.
async fn read_message(stream: &mut TcpStream) -> Option<String> {
    let head = read_head(stream).await?;
    let mut body = Vec::new();
    if let Some(length) = field(&head, "content-length") {
        body.resize(length.parse().expect("a number"), 0);
        stream.read_exact(&mut body).await.ok()?;
    } else if field(&head, "transfer-encoding").is_some() {
        while !body.ends_with(b"0\r\n\r\n") {
            body.push(stream.read_u8().await.ok()?);
        }
    }
    Some(head + &String::from_utf8_lossy(&body))
}

fn fields<'a>(message: &'a str, name: &str) -> Vec<&'a str> {
    let head = message.split("\r\n\r\n").next().unwrap_or_default();
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

fn field<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    match fields(message, name)[..] {
        [value] => Some(value),
        [] => None,
        _ => panic!("several `{name}` in {message}"),
    }
}

fn status(answer: &str) -> &str {
    &answer["HTTP/1.1 ".len()..][..3]
}

async fn within<F: Future>(work: F) -> F::Output {
    timeout(Duration::from_secs(20), work).await.expect("in time")
}

#[tokio::test]
async fn tells_the_upstream_who_asks_exactly_once() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let answer = front
        .ask("GET /a%20b?q=1 HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer theirs\r\nCookie: a=1\r\nX-Forwarded-User: root\r\nX-Forwarded-User: root2\r\nConnection: close, X-Forwarded-Login\r\n\r\n")
        .await;
    assert_eq!(status(&answer), "200");
    let request = heard.recv().await.expect("a request");
    assert!(request.starts_with("GET /a%20b?q=1 HTTP/1.1\r\n"), "{request}");
    for (name, value) in [
        ("host", "app.test:8443"),
        ("x-forwarded-user", "907"),
        ("x-forwarded-preferred-username", "andr%C3%A9"),
        ("x-forwarded-email", "andre@example.com"),
        ("x-forwarded-groups", "acme/gr%C3%B6%C3%9Fe"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "app.test:8443"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "00000000000000000000000000000007"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("authorization", "Bearer theirs"),
        ("cookie", "a=1"),
    ] {
        assert_eq!(field(&request, name), Some(value), "{name}");
    }
    assert!(field(&request, "vestibule-assertion").is_some_and(|token| token.split('.').count() == 3));
    assert_eq!(field(&request, "connection"), None);
    assert_eq!(field(&request, "content-length").or(field(&request, "transfer-encoding")), None);
}

#[tokio::test]
async fn tells_nothing_of_nobody_and_no_plain_names_of_another_provider() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let nobody = Front::with(route(&upstream.authority()), Principal::Anonymous).await;
    nobody.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Email: root\r\nVestibule-Assertion: x\r\n\r\n").await;
    let request = heard.recv().await.expect("a request");
    assert_eq!((field(&request, "x-forwarded-email"), field(&request, "vestibule-assertion")), (None, None));
    let mut other = route(&upstream.authority());
    other.header_provider = Some("okta".parse().expect("a name"));
    Front::with(other, user(&[])).await.get().await;
    let request = heard.recv().await.expect("a request");
    assert_eq!(field(&request, "x-forwarded-user"), None);
    assert!(field(&request, "vestibule-assertion").is_some());
}

#[tokio::test]
async fn says_that_groups_are_truncated() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let groups: Vec<String> = (0..300).map(|number| format!("acme/team-{number:03}")).collect();
    let front =
        Front::with(route(&upstream.authority()), user(&groups.iter().map(String::as_str).collect::<Vec<_>>())).await;
    front.get().await;
    let request = heard.recv().await.expect("a request");
    assert_eq!(field(&request, "vestibule-groups-truncated"), Some("true"));
    assert!(field(&request, "x-forwarded-groups").is_some_and(|groups| groups.len() <= 2048));
    assert!(request.len() < 8000);
}

#[tokio::test]
async fn signs_once_and_keeps_the_connection_for_the_next_request() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let mut assertions = Vec::new();
    for _ in 0..3 {
        front.get().await;
        let request = heard.recv().await.expect("a request");
        assertions.push(field(&request, "vestibule-assertion").expect("an assertion").to_owned());
    }
    assert_eq!(upstream.connections(), 1);
    assert!(assertions.iter().all(|assertion| *assertion == assertions[0]));
}

#[tokio::test]
async fn frames_bodies_anew() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let table = [
        ("POST", "Content-Length: 0\r\n\r\n", Some("0"), None, ""),
        ("POST", "Content-Length: 3\r\n\r\nabc", Some("3"), None, "abc"),
        ("GET", "Content-Length: 3\r\n\r\nabc", Some("3"), None, "abc"),
        (
            "PUT",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Forwarded-User: root\r\n\r\n",
            None,
            Some("chunked"),
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            None,
            Some("chunked"),
            "3\r\nabc\r\n0\r\n\r\n",
        ),
    ];
    for (method, rest, length, coding, body) in table {
        let answer = within(front.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{rest}"))).await;
        assert_eq!(status(&answer), "200", "{method} {rest}");
        let request = heard.recv().await.expect("a request");
        assert_eq!(
            (field(&request, "content-length"), field(&request, "transfer-encoding")),
            (length, coding),
            "{rest}"
        );
        assert_eq!(request.split_once("\r\n\r\n").expect("a body").1, body);
    }
}

#[tokio::test]
async fn asks_for_the_body_once_it_goes_upstream_and_forwards_no_expectation() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("written");
    assert!(within(read_head(&mut client)).await.expect("interim").starts_with("HTTP/1.1 100 "));
    client.write_all(b"abc").await.expect("written");
    assert_eq!(status(&within(read_message(&mut client)).await.expect("an answer")), "200");
    assert_eq!(field(&heard.recv().await.expect("a request"), "expect"), None);
}

#[tokio::test]
async fn does_not_ask_for_a_body_that_cannot_be_forwarded() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let front = Front::with(route(&unused.to_string()), Principal::Anonymous).await;
    let answer = front.ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(status(&answer), "502");
    assert!(answer.contains("upstream_failed: cannot connect to `127.0.0.1:"), "{answer}");
}

#[tokio::test]
async fn cleans_answers() {
    let (upstream, _heard) = Scripted::echo(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nVestibule-Login: x\r\nSet-Cookie: __Host-vestibule=evil\r\nSet-Cookie: theirs=1\r\nCache-Control: public, s-maxage=5, max-age=9\r\nServer: up\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let answer = Front::start(&upstream).await.get().await;
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "vestibule-login", "connection"] {
        assert_eq!(field(&answer, gone), None, "{gone}");
    }
    assert_eq!(field(&answer, "set-cookie"), Some("theirs=1"));
    assert_eq!(field(&answer, "cache-control"), Some("private, max-age=9"));
    assert_eq!(field(&answer, "vary"), Some("Cookie, Authorization"));
    assert_eq!(field(&answer, "server"), Some("up"));
    let nobody = Front::with(route(&upstream.authority()), Principal::Anonymous).await.get().await;
    assert_eq!(field(&nobody, "cache-control"), Some("public, s-maxage=5, max-age=9"));
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, sent) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (upstream, _heard) = Scripted::echo(sent).await;
        let front = Front::start(&upstream).await;
        let mut client = front.connect().await;
        for _ in 0..2 {
            client.write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.expect("written");
            let answer = within(read_head(&mut client)).await.expect("an answer");
            let last = sent.rsplit("HTTP/1.1 ").next().expect("a status");
            assert_eq!(status(&answer), &last[..3]);
            if method == "HEAD" {
                assert_eq!(field(&answer, "content-length"), Some("500"));
            }
        }
        assert_eq!(upstream.connections(), 1, "{sent}");
    }
}

/// The next person is unharmed, whatever an upstream did to the one before.
#[tokio::test]
async fn hostile_answers_poison_no_connection() {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let table = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "502"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "502"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "502"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "502"),
        ("nonsense\r\n\r\n", "502"),
        ("HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", "502"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204"), // `evil` follows each of them
        (OK, "200"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200"),
    ];
    for (sent, expected) in table {
        let upstream = Scripted::start(move |nth, mut stream| async move {
            while read_message(&mut stream).await.is_some() {
                let answer = if nth == 0 { format!("{sent}{evil}") } else { OK.to_owned() };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let front = Front::start(&upstream).await;
        let first = within(front.get()).await;
        assert_eq!(status(&first), expected, "{sent}");
        assert!(!first.contains("evil"), "{sent}");
        for _ in 0..2 {
            assert!(within(front.get()).await.ends_with("\r\n\r\nok"), "{sent}");
        }
        assert_eq!(upstream.connections(), 2, "{sent}");
    }
}

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
    assert_eq!((upstream.connections(), front.forward.pool.kept(&upstream.authority())), (2, 1));
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
    assert_eq!(front.forward.pool.kept(&upstream.authority()), 0);
}

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
    let front = Front::start(&upstream).await;
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
    assert_eq!(front.forward.pool.kept(&upstream.authority()), 0);
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
        assert_eq!(front.forward.pool.kept(&upstream.authority()), 0, "{sent}");
    }
}
