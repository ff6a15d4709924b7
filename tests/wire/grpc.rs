//! gRPC through the gateway, with a client and a server that tonic generated from `grpc/echo.proto`.

#[allow(unreachable_pub, missing_docs, clippy::all, clippy::pedantic)]
mod echo;

use crate::support::{
    gateway::{Browser, Gateway, POLICIES},
    provider::{CLIENT_ID, Provider},
};
use echo::{
    Message,
    echo_client::EchoClient,
    echo_server::{Echo, EchoServer},
};
use futures_util::{Stream, StreamExt, stream};
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use serde_json::{Value, json};
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{MetadataMap, MetadataValue},
    transport::{Channel, Endpoint},
};

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

/// The upstream: it does what `echo.proto` says, and counts the calls that reached it.
#[derive(Clone, Default)]
struct Upstream {
    calls: Arc<AtomicUsize>,
}

impl Upstream {
    /// Counts a call, and answers as the message asks: with a status, or with metadata of its own.
    fn answer<T>(&self, asked: &MetadataMap, status: u32, body: T) -> Result<Response<T>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if status != 0 {
            let code = Code::from_i32(i32::try_from(status).expect("a code"));
            let mut answer = Status::with_details(code, "no täble “7”", (&b"\x00details\xff"[..]).into());
            answer.metadata_mut().insert("x-left", MetadataValue::from_static("3"));
            return Err(answer);
        }
        let mut response = Response::new(body);
        for name in ["x-asked", "x-user"] {
            if let Some(value) = asked.get(name) {
                response.metadata_mut().insert(name, value.clone());
            }
        }
        if let Some(value) = asked.get_bin("x-asked-bin") {
            response.metadata_mut().insert_bin("x-asked-bin", value.clone());
        }
        if let Some(value) = asked.get("x-forwarded-preferred-username") {
            response.metadata_mut().insert("x-saw-user", value.clone());
        }
        Ok(response)
    }
}

#[tonic::async_trait]
impl Echo for Upstream {
    type ExpandStream = Messages;
    type ChatStream = Messages;

    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.answer(&metadata, message.status, message)
    }

    async fn expand(&self, request: Request<Message>) -> Result<Response<Messages>, Status> {
        let (metadata, _, Message { text, count, status }) = request.into_parts();
        let numbered = move |count| Ok(Message { text: format!("{text} {count}"), count, status: 0 });
        let all = stream::iter(0..count).map(numbered);
        match status {
            0 => self.answer(&metadata, 0, Box::pin(all)),
            // a stream that goes well for a while and then ends with the status
            _ => {
                self.answer(&metadata, 0, Box::pin(all.chain(stream::iter([Err(Status::resource_exhausted("full"))]))))
            }
        }
    }

    async fn collect(&self, request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
        let (metadata, _, mut messages) = request.into_parts();
        let mut all = Message::default();
        while let Some(message) = messages.message().await? {
            all.text.push_str(&message.text);
            all.count += 1;
        }
        self.answer(&metadata, 0, all)
    }

    async fn chat(&self, request: Request<Streaming<Message>>) -> Result<Response<Messages>, Status> {
        let (metadata, _, messages) = request.into_parts();
        self.answer(&metadata, 0, Box::pin(messages))
    }
}

/// A generated server, a gateway that speaks HTTP/2 to it, and a channel to the gateway by prior knowledge.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
    /// Every connection between gateway and server; `abort_all` cuts them.
    wires: Arc<tokio::sync::Mutex<JoinSet<()>>>,
}

impl Scene {
    /// `None` where the provider is not installed.
    async fn start() -> Option<Self> {
        Self::with("").await
    }

    /// The same, with more keys of the route.
    async fn with(route: &str) -> Option<Self> {
        let provider = Gateway::provider(&[])?;
        let upstream = Upstream::default();
        let wires = Arc::<tokio::sync::Mutex<JoinSet<()>>>::default();
        let port = serve(upstream.clone(), wires.clone()).await;
        let gateway = Gateway::start(&configuration(&provider.issuer, port, route), POLICIES).await;
        Some(Self { provider, upstream, gateway, wires })
    }

    async fn client(&self) -> EchoClient<Channel> {
        let address = format!("http://127.0.0.1:{}", self.gateway.port);
        let endpoint = Endpoint::from_shared(address).expect("an address").timeout(Duration::from_secs(20));
        EchoClient::new(endpoint.connect().await.expect("a connection")).max_decoding_message_size(32 << 20)
    }

    /// A request of a person who is signed in.
    fn signed<T>(&self, browser: &Browser, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let cookies = self.gateway.cookies(browser);
        let value = cookies.strip_prefix("Cookie: ").expect("a line").parse().expect("ASCII");
        request.metadata_mut().insert("cookie", value);
        let origin = format!("http://127.0.0.1:{}", self.gateway.port);
        request.metadata_mut().insert("origin", origin.parse().expect("ASCII"));
        request
    }

    /// How many calls reached the upstream so far.
    fn calls(&self) -> usize {
        self.upstream.calls.load(Ordering::SeqCst)
    }
}

fn configuration(issuer: &str, port: u16, route: &str) -> String {
    format!(
        "public_url: http://127.0.0.1:PORT\n\
         listen: 127.0.0.1:PORT\n\
         workers: 2\n\
         drain: 0s\n\
         providers:\n\
         \x20 - {{ name: gitlab, kind: gitlab, issuer: \"{issuer}\", client_id: {CLIENT_ID}, client_secret: {{ file: secret }} }}\n\
         routes:\n\
         \x20 - name: app\n\
         \x20   upstream: {{ urls: [\"http://127.0.0.1:{port}\"], http2: true }}\n\
         {route}\
         policies: ./policies\n"
    )
}

/// Serves HTTP/2 by prior knowledge; every connection is a task of `wires`.
async fn serve(upstream: Upstream, wires: Arc<tokio::sync::Mutex<JoinSet<()>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let service = EchoServer::new(upstream).max_decoding_message_size(32 << 20);
    tokio::spawn(async move {
        while let Ok((wire, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(wire), service);
            wires.lock().await.spawn(async move { drop(connection.await) });
        }
    });
    port
}

fn text(text: &str) -> Message {
    Message { text: text.into(), ..Message::default() }
}

/// One answer, a stream of answers, a stream of messages, and both at once, all pass.
#[tokio::test]
async fn a_generated_client_calls_all_four_kinds() {
    let Some(scene) = Scene::start().await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;

    let answer = client.unary(scene.signed(&alice, text("once"))).await.expect("an answer");
    assert_eq!(answer.get_ref().text, "once");
    let large = "x".repeat(8 << 20);
    let answer = client.unary(scene.signed(&alice, text(&large))).await.expect("an answer");
    assert!(answer.get_ref().text == large, "8 MiB come back as they were");

    let many = Message { text: "line".into(), count: 1000, status: 0 };
    let answers = client.expand(scene.signed(&alice, many)).await.expect("a stream").into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.expect("an answer").text).collect().await;
    assert_eq!((answers.len(), answers.last().map(String::as_str)), (1000, Some("line 999")));

    let messages = stream::iter((0..1000).map(|_| text("ab")));
    let answer = client.collect(scene.signed(&alice, messages)).await.expect("an answer").into_inner();
    assert_eq!((answer.count, answer.text.len()), (1000, 2000));
    assert_eq!(scene.calls(), 4);
}

/// In a call that streams both ways each message is answered before the next is sent: nothing is held back.
#[tokio::test]
async fn each_message_of_a_chat_is_answered_before_the_next_is_sent() {
    let Some(scene) = Scene::start().await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let said =
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|said| (said, receiver)) });
    sender.send(text("0")).await.expect("sent");
    let mut answers = client.chat(scene.signed(&alice, said)).await.expect("a stream").into_inner();
    for turn in 0..100 {
        assert_eq!(answers.message().await.expect("an answer"), Some(text(&turn.to_string())));
        sender.send(text(&(turn + 1).to_string())).await.expect("sent");
    }
    drop(sender);
    assert_eq!(answers.message().await.expect("the last"), Some(text("100")));
    assert_eq!(answers.message().await.expect("the end"), None);
}

/// Metadata passes both ways, binary too; the upstream learns who calls from us, never from the client.
#[tokio::test]
async fn metadata_is_kept_and_identity_is_ours() {
    let Some(scene) = Scene::start().await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut request = scene.signed(&alice, text("who"));
    let metadata = request.metadata_mut();
    metadata.insert("x-asked", MetadataValue::from_static("as it was"));
    metadata.insert_bin("x-asked-bin", MetadataValue::from_bytes(b"\x00\x01\xfe\xff"));
    metadata.insert("x-forwarded-preferred-username", MetadataValue::from_static("root"));
    let answer = scene.client().await.unary(request).await.expect("an answer");
    let metadata = answer.metadata();
    assert_eq!(metadata.get("x-asked").map(MetadataValue::as_bytes), Some(&b"as it was"[..]));
    let binary = metadata.get_bin("x-asked-bin").and_then(|value| value.to_bytes().ok());
    assert_eq!(binary.as_deref(), Some(&b"\x00\x01\xfe\xff"[..]));
    assert_eq!(metadata.get("x-saw-user").map(MetadataValue::as_bytes), Some(&b"alice"[..]));
}

/// A status of the upstream reaches the client whole, with message, details and metadata, at once or behind a stream.
#[tokio::test]
async fn a_status_and_its_trailers_are_kept() {
    let Some(scene) = Scene::start().await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;
    for code in 1..=16_u32 {
        let asked = Message { status: code, ..Message::default() };
        let status = client.unary(scene.signed(&alice, asked)).await.expect_err("a status");
        assert_eq!(status.code(), Code::from_i32(i32::try_from(code).expect("small")));
        assert_eq!((status.message(), status.details()), ("no täble “7”", &b"\x00details\xff"[..]));
        assert_eq!(status.metadata().get("x-left").map(MetadataValue::as_bytes), Some(&b"3"[..]));
    }
    let asked = Message { text: "line".into(), count: 3, status: 8 };
    let answers = client.expand(scene.signed(&alice, asked)).await.expect("a stream").into_inner();
    let mut answers: Vec<_> = answers.collect().await;
    let last = answers.pop().expect("an end").expect_err("a status");
    assert_eq!((answers.len(), last.code(), last.message()), (3, Code::ResourceExhausted, "full"));
}

/// A stream whose upstream goes away ends with a status that is no success, and the next call works again.
#[tokio::test]
async fn a_cut_stream_ends_with_a_status() {
    let Some(scene) = Scene::start().await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;
    let said = stream::iter([text("first")]).chain(stream::pending());
    let mut answers = client.chat(scene.signed(&alice, said)).await.expect("a stream").into_inner();
    assert_eq!(answers.message().await.expect("an answer"), Some(text("first")));
    scene.wires.lock().await.abort_all();
    let end = tokio::time::timeout(Duration::from_secs(10), answers.message()).await.expect("an end within 10 s");
    let status = end.expect_err("a stream that was cut is no whole stream");
    assert_ne!(status.code(), Code::Ok);
    let answer = scene.client().await.unary(scene.signed(&alice, text("again"))).await.expect("an answer");
    assert_eq!(answer.get_ref().text, "again");
}

/// A refusal in gRPC's own words: HTTP 200, trailers only.
struct Refused {
    status: u16,
    content_type: Option<String>,
    grpc_status: Option<String>,
    location: bool,
    empty: bool,
}

/// Calls `Unary` with a client that knows HTTP/2 and nothing of gRPC, to see what is really sent.
async fn bare_call(scene: &Scene, browser: Option<&Browser>) -> Refused {
    let socket = TcpStream::connect(("127.0.0.1", scene.gateway.port)).await.expect("the gateway listens");
    let (mut sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    tokio::spawn(connection);
    let origin = format!("http://127.0.0.1:{}", scene.gateway.port);
    let mut request = http::Request::post(format!("{origin}/vestibule.test.echo.Echo/Unary"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(browser) = browser {
        let cookies = scene.gateway.cookies(browser);
        request = request.header("cookie", &cookies["Cookie: ".len()..]).header("origin", origin);
    }
    let (answer, mut body) = sender.send_request(request.body(()).expect("a request"), false).expect("sent");
    body.send_data(bytes::Bytes::from_static(&[0, 0, 0, 0, 0]), true).expect("sent");
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    let first = body.data().await;
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Refused {
        status: head.status.as_u16(),
        content_type: text("content-type"),
        grpc_status: text("grpc-status"),
        location: head.headers.contains_key("location"),
        empty: first.is_none(),
    }
}

/// Waits for the event of the refused call.
async fn refused_event(scene: &Scene, reason: &str) -> Value {
    let is = |event: &Value| {
        event.to_string().contains(reason) && event.to_string().contains("/vestibule.test.echo.Echo/Unary")
    };
    scene.gateway.audited(reason, is).await
}

fn assert_refused(refused: &Refused, code: &str) {
    assert_eq!(refused.status, 200, "gRPC's errors are in an HTTP success");
    assert!(refused.content_type.as_deref().is_some_and(|kind| kind.starts_with("application/grpc")));
    assert_eq!(refused.grpc_status.as_deref(), Some(code));
    assert!(refused.empty && !refused.location);
}

/// Without a session a call ends with UNAUTHENTICATED; the upstream sees nothing.
#[tokio::test]
async fn an_anonymous_call_is_unauthenticated() {
    let Some(scene) = Scene::start().await else { return };
    let status = scene.client().await.unary(Request::new(text("let me in"))).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert_refused(&bare_call(&scene, None).await, "16");
    assert_eq!(scene.calls(), 0, "the upstream saw nothing");
    refused_event(&scene, "no_session").await;
}

/// Who is known and not permitted gets PERMISSION_DENIED, for a stream too; the upstream sees nothing.
#[tokio::test]
async fn a_call_that_is_not_permitted_is_denied() {
    let Some(scene) = Scene::start().await else { return };
    scene.provider.admin("/admin/user", json!({ "user": "nina", "memberships": {} })).await;
    let nina = scene.gateway.sign_in(&scene.provider, "nina").await;
    let mut client = scene.client().await;
    let status = client.unary(scene.signed(&nina, text("let me in"))).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let said = stream::iter([text("first")]).chain(stream::pending());
    let status = client.chat(scene.signed(&nina, said)).await.expect_err("a refusal");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    assert_refused(&bare_call(&scene, Some(&nina)).await, "7");
    assert_eq!(scene.calls(), 0, "the upstream saw nothing");
    refused_event(&scene, "not_permitted").await;
}

/// P30: a call that is under way when its right ends gets a status that says so.
#[tokio::test]
async fn a_call_ends_with_its_right_and_a_status() {
    let Some(scene) = Scene::start().await else { return };
    let browser = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let messages = stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|message: Message| (message, receiver))
    });
    let mut answers = client.chat(scene.signed(&browser, messages)).await.expect("a stream").into_inner();
    sender.send(Message { text: "hello".into(), ..Message::default() }).await.expect("sent");
    assert_eq!(answers.message().await.expect("no error").expect("a message").text, "hello");
    let own = format!("Origin: http://127.0.0.1:{}", scene.gateway.port);
    let out = scene.gateway.request("POST", "/.vestibule/sign-out", &[&scene.gateway.cookies(&browser), &own]).await;
    assert_eq!(out.status, 303);
    let status = answers.message().await.expect_err("the right is gone");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
}

/// A call beyond a limit ends with RESOURCE_EXHAUSTED and says when to try again; a chat is under way until it ends.
#[tokio::test]
async fn a_call_beyond_a_limit_is_told_when_to_try_again() {
    let limits = "    limits: { user: { requests: 1/m, burst: 2, concurrent: 1 } }\n";
    let Some(scene) = Scene::with(limits).await else { return };
    let alice = scene.gateway.sign_in(&scene.provider, "alice").await;
    let mut client = scene.client().await;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let said =
        stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|said| (said, receiver)) });
    sender.send(text("first")).await.expect("sent");
    let mut answers = client.chat(scene.signed(&alice, said)).await.expect("a stream").into_inner();
    assert_eq!(answers.message().await.expect("an answer"), Some(text("first")));
    let status = client.unary(scene.signed(&alice, text("too many at once"))).await.expect_err("a refusal");
    assert_eq!((status.code(), scene.calls()), (Code::ResourceExhausted, 1), "{status:?}");
    drop(sender);
    assert_eq!(answers.message().await.expect("the end"), None);
    let free = async || client.unary(scene.signed(&alice, text("again"))).await.is_ok();
    scene.gateway.until("the chat is over", free).await;
    let status = client.unary(scene.signed(&alice, text("too many a minute"))).await.expect_err("a refusal");
    assert_eq!((status.code(), scene.calls()), (Code::ResourceExhausted, 2), "{status:?}");
    assert!(status.message().starts_with("You may send 1 request a minute, 2 at once here."), "{status:?}");
    let wait = status.metadata().get("grpc-retry-pushback-ms").and_then(|wait| wait.to_str().ok()?.parse().ok());
    assert!(wait.is_some_and(|wait: u32| (1000..=60_000).contains(&wait)), "{status:?}");
    assert_refused(&bare_call(&scene, Some(&alice)).await, "8");
}
