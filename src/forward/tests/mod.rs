//! Forwarding against real upstreams on loopback, some of them hostile.

use super::{assertion::AssertionKeys, streams::Streams, upgrade::open_plain, *};
use crate::{
    canonical::{Canonical, Class, Host, Inspected, OwnCookie, RequestId, Target},
    principal::{Groups, Membership, MembershipSource, Person, UserId},
    route::{GroupPattern, HostHeader, Timeouts},
    upstream::Upstream,
};
use http::header::{HOST, HeaderMap};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
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
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

mod balance;
mod connections;
mod credentials;
mod heads;
mod hostile;
mod multiplexed;
mod streams;
mod tls;

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
        roles: Arc::default(),
        unread: Arc::default(),
        source: MembershipSource::Userinfo,
        read: SystemTime::now(),
        version: VERSION.fetch_add(1, Ordering::Relaxed),
        stale: false,
        aside: None,
    })
}

pub(super) fn user(groups: &[&str]) -> Principal {
    Principal::User { person: Arc::new(person()), membership: known(groups), strength: Arc::default() }
}

pub(super) fn route(authority: &str) -> Route {
    let gitlab: crate::principal::Name = "gitlab".parse().expect("a name");
    let short = Duration::from_millis(400);
    Route {
        upstream: Upstream::plain(authority),
        providers: [gitlab.clone()].into(),
        header_provider: Some(gitlab.clone()),
        groups_header: [GroupPattern::Tree(gitlab, "acme".parse().expect("a path"))].into(),
        timeouts: Timeouts {
            connect: Duration::from_millis(500),
            first_byte: short,
            request_idle: short,
            stream_idle: Duration::from_secs(5),
        },
        ..crate::route::testing::route("portal")
    }
}

/// A route whose clocks a loaded machine does not trip.
fn patient(upstream: Arc<Upstream>) -> Route {
    let long = Duration::from_secs(10);
    let timeouts = Timeouts { connect: long, first_byte: long, request_idle: long, stream_idle: long };
    Route { upstream, timeouts, ..route("127.0.0.1:1") }
}

pub(super) fn judged(target: &str) -> Judged {
    let host: Host = "app.test".parse().expect("a host");
    Judged {
        body: Inspected::Unnamed,
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
            certificate: None,
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
    upstream: Arc<Upstream>,
}

impl Front {
    async fn start(upstream: &Scripted) -> Self {
        Self::with(route(&upstream.authority()), user(&["acme/größe", "other"])).await
    }

    /// For nobody, with time enough for a loaded machine.
    async fn over(upstream: Arc<Upstream>) -> Self {
        Self::with(patient(upstream), Principal::Anonymous).await
    }

    async fn with(route: Route, principal: Principal) -> Self {
        Self::speaking(route, principal, false).await
    }

    /// `multiplexed` if it speaks HTTP/2 to its clients.
    async fn speaking(route: Route, principal: Principal, multiplexed: bool) -> Self {
        let streams = Arc::<Streams>::default();
        let shared = Shared {
            streams: streams.clone(),
            keys: keys(),
            issuer: "https://app.test".into(),
            cookies: ["__Host-vestibule".into(), "__Host-vestibule-binding".into()],
            open: open_plain,
            connections: Connections::default(),
        };
        let forward = Arc::new(Forward::new(Arc::new(shared)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let upstream = route.upstream.clone();
        let (route, served) = (Arc::new(route), forward.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (forward, route, principal) = (served.clone(), route.clone(), principal.clone());
                let service = service_fn(move |request| {
                    let (forward, route, principal) = (forward.clone(), route.clone(), principal.clone());
                    async move { Ok::<_, Infallible>(serve(&forward, &route, &principal, request).await) }
                });
                if multiplexed {
                    let builder = http2::Builder::new(TokioExecutor::new());
                    tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
                } else {
                    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    tokio::spawn(connection.with_upgrades());
                }
            }
        });
        Self { address, forward, streams, upstream }
    }

    /// How many connections to the upstream are kept.
    fn kept(&self) -> usize {
        self.upstream.endpoints().iter().map(|endpoint| self.forward.pool.kept(endpoint)).sum()
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
    let (parts, body) = RequestBody::of(request).into_parts();
    let target = parts.uri.path_and_query().expect("a path").as_str();
    let mut judged = judged(target);
    let asked = &mut judged.asked;
    asked.class = Class::of(&parts.method, &parts.headers, false);
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
    let sent =
        forward.send(permit, principal, judged, body, Some(upgrade), route, &crossing, Some(&session), None).await;
    sent.unwrap_or_else(|refusal| {
        let text = format!("{}: {}", refusal.reason.code(), refusal.cause.unwrap_or_default());
        let mut response = Response::new(Body::full(text));
        *response.status_mut() = refusal.reason.status();
        response
    })
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
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
async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
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
