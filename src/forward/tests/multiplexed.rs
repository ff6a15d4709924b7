//! HTTP/2 to upstreams, with and without TLS, and gRPC.

use super::{
    tls::{Authority, named, server, settings},
    *,
};
use crate::upstream::{Resolver, TlsFiles, UpstreamSettings};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use http_body_util::{BodyExt, Full};
use tokio::sync::Notify;

type Answered = http_body_util::combinators::BoxBody<Bytes, Infallible>;

fn plain(text: String) -> Answered {
    Full::new(Bytes::from(text)).boxed()
}

/// Says what it was asked, in words.
async fn tell(request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let fields: Vec<_> =
        head.headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap_or("?"))).collect();
    let text = format!("{:?} {} {} [{}] {body}", head.version, head.method, head.uri, fields.join(" "));
    Ok(Response::new(plain(text)))
}

/// Serves HTTP/2 in clear text by prior knowledge, with at most `streams` at once.
async fn upstream<F, S>(streams: u32, service: F) -> Scripted
where
    F: Fn(Request<Incoming>) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = Result<Response<Answered>, Infallible>> + Send + 'static,
{
    Scripted::start(move |_, stream| {
        let service = service.clone();
        async move {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            let _ = builder
                .max_concurrent_streams(streams)
                .serve_connection(TokioIo::new(stream), service_fn(service))
                .await;
        }
    })
    .await
}

fn http2_to(up: &Scripted) -> Arc<Upstream> {
    let settings = UpstreamSettings { http2: true, ..UpstreamSettings::plain(&up.authority()) };
    Upstream::new(settings, Resolver::System)
}

#[tokio::test]
async fn speaks_http2_by_prior_knowledge_on_one_connection() {
    let up = upstream(100, tell).await;
    let front = Front::over(http2_to(&up)).await;
    let answer = within(front.ask("POST /a?b HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc")).await;
    assert!(answer.contains("HTTP/2.0 POST http://app.test:8443/a?b ["), "{answer}");
    assert!(answer.contains("content-length=3") && answer.ends_with("] abc"), "{answer}");
    let chunked =
        within(front.ask("PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")).await;
    assert!(
        chunked.ends_with("] abc")
            && !chunked.contains("transfer-encoding=")
            && !chunked.contains("[host=")
            && !chunked.contains(" host="),
        "{chunked}"
    );
    let many = futures_util::future::join_all((0..20).map(|_| front.get())).await;
    assert!(many.iter().all(|answer| status(answer) == "200"));
    assert_eq!(up.connections(), 1);
    assert_eq!(front.upstream.figures().in_flight, 0);
}

#[tokio::test]
async fn with_tls_the_handshake_says_what_is_spoken() {
    let authority = Authority::new();
    let identity = authority.identity("up.test");
    for (protocols, http2, expected) in [
        (&[b"h2".as_slice(), b"http/1.1"][..], true, "HTTP/2.0 GET https://app.test:8443/"),
        (&[b"http/1.1".as_slice()][..], true, "HTTP/1.1 GET /"),
        (&[][..], true, "HTTP/1.1 GET /"),
        (&[b"h2".as_slice(), b"http/1.1"][..], false, "HTTP/1.1 GET /"),
    ] {
        let acceptor = server(&identity, protocols, None);
        let up = Scripted::start(move |_, stream| {
            let acceptor = acceptor.clone();
            async move {
                let stream = acceptor.accept(stream).await.expect("a handshake");
                let chosen = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = TokioIo::new(stream);
                let _ = if chosen {
                    http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(tell)).await
                } else {
                    http1::Builder::new().serve_connection(io, service_fn(tell)).await
                };
            }
        })
        .await;
        let files = TlsFiles { ca: Some(authority.pem()), identity: None };
        let settings = UpstreamSettings { http2, ..settings(up.address, named("up.test"), files) };
        let front = Front::over(Upstream::new(settings, Resolver::System)).await;
        for _ in 0..2 {
            let answer = within(front.get()).await;
            assert!(answer.contains(expected), "{protocols:?} {http2}: {answer}");
        }
        assert_eq!(up.connections(), 1);
    }
}

#[tokio::test]
async fn opens_another_connection_where_the_peer_allows_no_more_streams() {
    let (arrived, go) = (Arc::<AtomicUsize>::default(), Arc::new(Notify::new()));
    let (count, gate) = (arrived.clone(), go.clone());
    let up = upstream(2, move |_| {
        let (count, gate) = (count.clone(), gate.clone());
        async move {
            let opened = gate.notified();
            if count.fetch_add(1, Ordering::SeqCst) + 1 == 6 {
                gate.notify_waiters(); // all six are here at once
            } else {
                opened.await;
            }
            Ok(Response::new(plain("ok".into())))
        }
    })
    .await;
    let front = Front::over(http2_to(&up)).await;
    let answers = within(futures_util::future::join_all((0..6).map(|_| front.get()))).await;
    assert!(answers.iter().all(|answer| answer.ends_with("ok")), "{answers:?}");
    assert_eq!(up.connections(), 3);
}

/// Speaks HTTP/2 frame by frame: `refuse` says of each request whether it is refused.
async fn refusing(refuse: impl Fn(usize) -> bool + Clone + Send + Sync + 'static) -> (Scripted, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let up = Scripted::start(move |_, stream| {
        let (count, refuse) = (count.clone(), refuse.clone());
        async move {
            let mut connection = h2::server::handshake(stream).await.expect("a handshake");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if refuse(count.fetch_add(1, Ordering::SeqCst)) {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    let mut body = respond.send_response(Response::new(()), false).expect("sent");
                    body.send_data("ok".into(), true).expect("sent");
                }
            }
        }
    })
    .await;
    (up, asked)
}

/// A refused stream was not acted on, so even a POST may go elsewhere; another reset says no such thing.
#[tokio::test]
async fn a_refused_stream_is_sent_elsewhere() {
    let (no, refused) = refusing(|_| true).await;
    let (yes, asked) = refusing(|_| false).await;
    let place = |up: &Scripted| UpstreamSettings::plain(&up.authority()).places.remove(0);
    let settings =
        UpstreamSettings { places: vec![place(&no), place(&yes)], http2: true, ..UpstreamSettings::plain("a:1") };
    let front = Front::over(Upstream::new(settings, Resolver::System)).await;
    for (turn, request) in
        ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
            .iter()
            .enumerate()
    {
        let answer = within(front.ask(request)).await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert_eq!(asked.load(Ordering::SeqCst), turn + 1);
    }
    assert!(refused.load(Ordering::SeqCst) > 0, "it was asked");
}

/// Two endpoints that speak HTTP/2.
async fn front_of(one: &Scripted, two: &Scripted) -> Front {
    let place = |up: &Scripted| UpstreamSettings::plain(&up.authority()).places.remove(0);
    let places = vec![place(one), place(two)];
    let settings = UpstreamSettings { places, http2: true, ..UpstreamSettings::plain("a:1") };
    Front::over(Upstream::new(settings, Resolver::System)).await
}

/// A body that nobody has taken anything of goes along.
#[tokio::test]
async fn a_refused_stream_takes_its_body_along() {
    let (told, mut tell) = mpsc::unbounded_channel();
    let (no, _) = refusing(move |_| told.send(()).is_ok()).await;
    let yes = upstream(100, super::multiplexed::tell).await;
    let front = front_of(&no, &yes).await;
    let mut client = front.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await.expect("written");
    tell.recv().await.expect("refused");
    while front.upstream.figures().retries == 0 {
        tokio::task::yield_now().await;
    }
    client.write_all(b"whole").await.expect("written");
    let answer = within(read_message(&mut client)).await.expect("an answer");
    assert!(answer.ends_with("] whole") && answer.contains("content-length=5"), "{answer}");
}

/// What came after the last stream that a peer has seen to was not acted on.
#[tokio::test]
async fn a_stream_after_the_last_one_is_sent_elsewhere() {
    let away = Scripted::start(|_, mut stream| async move {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.expect("a preface");
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("SETTINGS");
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let mut rest = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            stream.read_exact(&mut rest).await.expect("a frame");
            if head[3] == 1 {
                let goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                stream.write_all(&goaway).await.expect("GOAWAY: nothing seen, no error");
                let _ = stream.read_u8().await;
                return;
            }
        }
    })
    .await;
    let (yes, asked) = refusing(|_| false).await;
    let front = front_of(&away, &yes).await;
    for turn in 1..3 {
        let answer = within(front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!((status(&answer), asked.load(Ordering::SeqCst)), ("200", turn), "{answer}");
    }
}

/// A connection that died is not tried again by those that come after.
#[tokio::test]
async fn a_connection_that_was_cut_is_replaced() {
    let up = Scripted::start(|nth, stream| async move {
        let mut connection = h2::server::handshake(stream).await.expect("a handshake");
        let mut asked = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            asked += 1;
            if nth == 0 && asked == 2 {
                return; // cut
            }
            let mut body = respond.send_response(Response::new(()), false).expect("sent");
            body.send_data("ok".into(), true).expect("sent");
        }
    })
    .await;
    let front = Front::over(http2_to(&up)).await;
    for _ in 0..3 {
        assert_eq!(status(&within(front.get()).await), "200");
    }
    assert_eq!(up.connections(), 2);
}

#[tokio::test]
async fn another_reset_is_not_sent_elsewhere() {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let up = Scripted::start(move |_, stream| {
        let count = count.clone();
        async move {
            let mut connection = h2::server::handshake(stream).await.expect("a handshake");
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
            }
        }
    })
    .await;
    let (yes, _) = refusing(|_| false).await;
    let front = front_of(&up, &yes).await;
    assert_eq!(status(&within(front.get()).await), "502");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// An upstream that says goodbye after every second request loses none of them.
#[tokio::test]
async fn a_connection_that_goes_away_is_left_in_peace() {
    let up = Scripted::start(|_, stream| async move {
        let mut connection = h2::server::handshake(stream).await.expect("a handshake");
        let mut answered = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(Response::new(()), false).expect("sent");
            body.send_data("ok".into(), true).expect("sent");
            answered += 1;
            if answered == 2 {
                connection.graceful_shutdown();
            }
        }
    })
    .await;
    let front = Front::over(http2_to(&up)).await;
    for turn in 0..12 {
        let answer = within(front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(status(&answer), "200", "{turn}: {answer}");
    }
    assert!(up.connections() >= 4, "{}", up.connections());
}

#[tokio::test]
async fn a_websocket_needs_http1() {
    let up = upstream(100, tell).await;
    let front = Front::over(http2_to(&up)).await;
    let handshake = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = within(front.ask(handshake)).await;
    assert_eq!(status(&answer), "502");
    assert!(answer.contains("is spoken to in HTTP/2 only, which has no WebSocket here"), "{answer}");
}

/// What gRPC ends with, among names that no upstream may set.
async fn grpc(request: Request<Incoming>) -> Result<Response<Answered>, Infallible> {
    let bare = request.uri().path() == "/bare";
    let te = request.headers().get("te").cloned();
    let body = request.into_body().collect().await.expect("a body");
    let sent = body.trailers().is_some();
    let mut response = Response::new(plain(String::new()));
    if !bare {
        let trailers: HeaderMap = [
            ("grpc-status", "0"),
            ("x-sum", "42"),
            ("vestibule-login", "root"),
            ("x-forwarded-user", "root"),
            ("content-length", "9"),
            ("set-cookie", "a=b"),
        ]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
        let body = Full::new(body.to_bytes()).with_trailers(std::future::ready(Some(Ok(trailers))));
        response = Response::new(body.boxed());
    }
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if bare {
        headers.insert("grpc-status", HeaderValue::from_static("5"));
    }
    headers.insert("x-te", te.unwrap_or(HeaderValue::from_static("none")));
    headers.insert("x-trailers", HeaderValue::from_static(if sent { "sent" } else { "none" }));
    Ok(response)
}

/// A call of a client that speaks HTTP/2, with trailers of its own: the answer's head, body and trailers.
async fn call(front: &Front, kind: &'static str, path: &'static str) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let io = TokioIo::new(front.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let trailers: HeaderMap =
        [(HeaderName::from_static("x-forwarded-user"), HeaderValue::from_static("root"))].into_iter().collect();
    let body: Answered =
        Full::new(Bytes::from_static(b"framed")).with_trailers(std::future::ready(Some(Ok(trailers)))).boxed();
    let request = Request::post(format!("http://app.test{path}"))
        .header("content-type", kind)
        .header("te", "trailers")
        .version(Version::HTTP_2);
    let answer = within(sender.send_request(request.body(body).expect("a request"))).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = within(body.collect()).await.expect("a body");
    let trailers = body.trailers().cloned();
    connection.abort();
    (head.headers, body.to_bytes(), trailers)
}

#[tokio::test]
async fn s04_trailers_pass_for_grpc_only_and_never_upwards() {
    let up = upstream(100, grpc).await;
    let front = Front::speaking(patient(http2_to(&up)), Principal::Anonymous, true).await;
    let (head, body, trailers) = call(&front, "application/grpc", "/full").await;
    let trailers = trailers.expect("trailers");
    let mut names: Vec<_> = trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    names.sort_unstable();
    assert_eq!(names, [("grpc-status", b"0".as_slice()), ("x-sum", b"42")]);
    assert_eq!(
        (&body[..], &head["x-te"], &head["x-trailers"]),
        (b"framed".as_slice(), &HeaderValue::from_static("trailers"), &HeaderValue::from_static("none"))
    );
    let (head, body, trailers) = call(&front, "application/grpc+proto", "/bare").await;
    assert_eq!(
        (&head["grpc-status"], body.len(), trailers),
        (&HeaderValue::from_static("5"), 0, None),
        "trailers alone"
    );
    let (head, body, trailers) = call(&front, "text/plain", "/full").await;
    assert_eq!((&head["x-te"], &body[..], trailers), (&HeaderValue::from_static("none"), b"framed".as_slice(), None));
}

#[tokio::test]
async fn grpc_over_http1_asks_for_trailers_too() {
    let (up, mut heard) = Scripted::echo("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\ngrpc-status: 0\r\nx-vestibule-a: b\r\n\r\n").await;
    let front = Front::speaking(route(&up.authority()), Principal::Anonymous, true).await;
    let (_, body, trailers) = call(&front, "application/grpc", "/").await;
    assert_eq!(&body[..], b"ok");
    assert_eq!(trailers.map(|it| it.len()), Some(1));
    let request = heard.recv().await.expect("a request");
    assert_eq!((field(&request, "te"), field(&request, "connection")), (Some("trailers"), Some("TE")));
    call(&front, "text/plain", "/").await;
    assert_eq!(field(&heard.recv().await.expect("a request"), "te"), None);
}
