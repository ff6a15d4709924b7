//! Declared bodies: read before a decision, judged, and sent up as they were read.

use crate::support::{
    gateway::{Browser, Gateway, configuration},
    http1::{Answer, Wire},
    http2::Http2,
    provider::Provider,
    upstream::Upstream,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

/// Everybody may do everything below `/public/`, but for what a body says.
const POLICIES: &str = r#"
@id("public") permit (principal, action, resource == Route::"app") when { context.path like "/public/*" };
@id("people") permit (principal is User, action, resource == Route::"app");
@id("evil") @reason("Nothing evil is done here.")
forbid (principal, action in Action::"write", resource == Route::"app")
when { context.body has kind && context.body.kind == "evil" };
"#;

const RULES: &str = r#"    body_fields:
      - { method: POST, path: /public/tasks, max: 1KiB, fields: { kind: { pointer: /kind }, note: { pointer: /note, optional: true } } }
      - { method: POST, path: /public/maybe, fields: { note: { pointer: /note, optional: true } } }
      - { method: POST, path: /public/large, max: 16MiB, fields: { kind: { pointer: /kind } } }
      - { method: POST, path: /public/sse, fields: { kind: { pointer: /kind } } }
      - { method: POST, path: /people, fields: { kind: { pointer: /kind } } }
"#;

const JSON: &str = "Content-Type: application/json";

async fn scene() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", RULES, ""), POLICIES).await;
    (upstream, gateway)
}

fn head(gateway: &Gateway, target: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{lines}", gateway.port)
}

async fn post(gateway: &Gateway, target: &str, lines: &[&str], body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let mut bytes = head(gateway, target, lines).into_bytes();
    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    gateway.raw(bytes).await
}

async fn post_http2(gateway: &Gateway, target: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.expect("a connection");
    let request = Request::builder().method("POST").uri(format!("http://127.0.0.1:{}{target}", gateway.port));
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let body = Full::from(body.into());
    Http2::over(stream).await.send(request.body(body).expect("a request")).await.expect("an answer")
}

/// The upstream saw nothing, and the trail has one event for each of `count` refusals by `code`.
async fn refused(upstream: &Upstream, gateway: &Gateway, code: &str, count: usize) {
    assert_eq!(upstream.seen(), 0, "{code}");
    let events = || gateway.audit().iter().filter(|event| event["status_code"] == code).count();
    gateway.until(code, async || events() >= count).await;
    assert_eq!(events(), count, "{code}");
}

/// What was judged is what is sent: byte for byte, with a length, however it came.
#[tokio::test]
async fn the_upstream_gets_exactly_the_bytes_that_were_read() {
    let (upstream, gateway) = scene().await;
    let body = "{ \"note\" : \"\\u0041\",\n  \"kind\":\"gr\u{fc}n\" , \"n\": 1.0e2 }\n";
    let length = body.len().to_string();
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], body).await.status, 200);
    let (first, second) = body.split_at(7);
    let chunked = format!("{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n", first.len(), second.len());
    let chunks = head(&gateway, "/PUBLIC/tasks/", &[JSON, "Transfer-Encoding: chunked"]) + "\r\n" + &chunked;
    assert_eq!(gateway.raw(chunks).await.status, 401, "the permit tells the cases apart, the rule does not");
    assert_eq!(upstream.take().len(), 1);
    let chunks = head(&gateway, "/public/tasks/", &[JSON, "Transfer-Encoding: chunked"]) + "\r\n" + &chunked;
    assert_eq!(gateway.raw(chunks).await.status, 200);
    let fields = [("content-type", "application/json; charset=utf-8")];
    assert_eq!(post_http2(&gateway, "/public/tasks", &fields, body).await.status, 200);
    let seen = upstream.take();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!((&*seen.body, seen.one("content-length")), (body.as_bytes(), Some(&*length)));
        assert!(seen.one("transfer-encoding").is_none());
    }
}

/// The same where the upstream speaks HTTP/2.
#[tokio::test]
async fn an_upstream_of_http2_gets_the_same_bytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let seen = Arc::<Mutex<Vec<(Option<String>, Bytes)>>>::default();
    let record = seen.clone();
    tokio::spawn(async move {
        while let Ok((wire, _)) = listener.accept().await {
            let record = record.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let record = record.clone();
                async move {
                    let length =
                        request.headers().get("content-length").map(|it| it.to_str().expect("text").to_owned());
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    record.lock().expect("no panic").push((length, body));
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
                }
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(wire), service));
        }
    });
    let text = configuration("http://127.0.0.1:9", &Upstream::start().await, "", RULES, "");
    let lines = text.lines().map(|line| match line.trim_start().starts_with("upstream:") {
        true => format!("    upstream: {{ urls: [\"http://127.0.0.1:{port}\"], http2: true }}\n"),
        false => format!("{line}\n"),
    });
    let gateway = Gateway::start(&lines.collect::<String>(), POLICIES).await;
    let body = r#"{"kind":"a"}"#;
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], body).await.status, 200);
    assert_eq!(post_http2(&gateway, "/public/tasks", &[("content-type", "application/json")], body).await.status, 200);
    let chunked = head(&gateway, "/public/tasks", &[JSON, "Transfer-Encoding: chunked"]);
    assert_eq!(gateway.raw(format!("{chunked}\r\nc\r\n{body}\r\n0\r\n\r\n")).await.status, 200);
    let expected = (Some("12".to_owned()), Bytes::from_static(body.as_bytes()));
    assert_eq!(*seen.lock().expect("no panic"), [expected.clone(), expected.clone(), expected]);
}

/// A policy reads the fields, and nothing of them is told to anybody.
#[tokio::test]
async fn a_body_is_judged_and_its_values_are_recorded_nowhere() {
    let (upstream, gateway) = scene().await;
    let evil = post(&gateway, "/public/tasks", &[JSON], r#"{"kind":"evil","note":"canary-1"}"#).await;
    assert_eq!(evil.status, 401, "nobody is signed in");
    refused(&upstream, &gateway, "no_session", 1).await;
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], r#"{"kind":"canary-2"}"#).await.status, 200);
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], r#"{"kind":"canary-2","kind":"canary-3"}"#).await.status, 400);
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], r#"{"kind":"canary-4" canary-4}"#).await.status, 400);
    assert_eq!(upstream.take().len(), 1);
    gateway.until("all are recorded", async || gateway.audit().len() >= 4).await;
    let told = format!("{:?}{}", gateway.audit(), gateway.log());
    assert!(!told.contains("canary"), "{told}");
    let evil = gateway.audit().into_iter().find(|event| event["status_code"] == "no_session").expect("recorded");
    assert!(evil.to_string().contains("\"evil\""), "the policy that decided: {evil}");
}

/// What has two readings, or lacks what policies read, is refused; and the connection goes on where all of it was read.
#[tokio::test]
async fn a_body_with_two_readings_is_refused() {
    let (upstream, gateway) = scene().await;
    let deep = format!("{{\"kind\":\"a\",\"x\":{}{}}}", "[".repeat(130), "]".repeat(130));
    let bodies: &[&[u8]] = &[
        br#"{"kind":"a","kind":"b"}"#,
        br#"{"kind":"a","\u006bind":"b"}"#,
        br#"{"kind":"a","x":{"y":[{"z":1,"z":1}]}}"#,
        br#"{"kind":"a","Kind":"b"}"#,
        br#"{"note":"a"}"#,
        br#"{"kind":null}"#,
        br#"{"kind":["a"]}"#,
        br#"{"kind":"a","note":7}"#,
        br#"["kind","a"]"#,
        br#"kind=a"#,
        b"{\"kind\":\"a\"} x",
        b"\xef\xbb\xbf{\"kind\":\"a\"}",
        b"{\"kind\":\"\xff\"}",
        b" ",
        deep.as_bytes(),
    ];
    for (index, body) in bodies.iter().enumerate() {
        let answer = post(&gateway, "/public/tasks", &[JSON], body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &"invalid_body".into()),
            "{index}: {}",
            answer.text()
        );
        let answer =
            post_http2(&gateway, "/public/tasks", &[("content-type", "application/json")], body.to_vec()).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &"invalid_body".into()), "{index}: HTTP/2");
    }
    refused(&upstream, &gateway, "invalid_body", 2 * bodies.len()).await;
    let mut wire = Wire::connect(gateway.port).await;
    for (body, expected) in [("{}", 400), (r#"{"kind":"a"}"#, 200)] {
        let head = head(&gateway, "/public/tasks", &[JSON, &format!("Content-Length: {}", body.len())]);
        wire.send(format!("{head}\r\n{body}")).await;
        assert_eq!(wire.answer().await.expect("an answer").status, expected, "{body}");
    }
    assert_eq!(upstream.take().len(), 1);
}

/// No body is one without fields: refused where one is required, and passed on where none is.
#[tokio::test]
async fn a_request_without_a_body_has_no_field() {
    let (upstream, gateway) = scene().await;
    let chunked = |target: &str| head(&gateway, target, &[JSON, "Transfer-Encoding: chunked"]) + "\r\n0\r\n\r\n";
    assert_eq!(gateway.request("POST", "/public/tasks", &[]).await.status, 400);
    assert_eq!(gateway.raw(chunked("/public/tasks")).await.status, 400);
    assert_eq!(post_http2(&gateway, "/public/tasks", &[], "").await.status, 400);
    refused(&upstream, &gateway, "invalid_body", 3).await;
    assert_eq!(gateway.request("POST", "/public/maybe", &[]).await.status, 200);
    assert_eq!(gateway.raw(chunked("/public/maybe")).await.status, 200);
    assert_eq!(post(&gateway, "/public/maybe", &[JSON], "{}").await.status, 200);
    let lengths: Vec<_> = upstream.take().iter().map(|seen| seen.one("content-length").map(str::to_owned)).collect();
    assert_eq!(lengths, [Some("0".to_owned()), Some("0".to_owned()), Some("2".to_owned())]);
}

/// S-88: nothing is decompressed, and only JSON in UTF-8 is read.
#[tokio::test]
async fn s88_a_coding_or_another_type_is_refused_unread() {
    let (upstream, gateway) = scene().await;
    let body = r#"{"kind":"a"}"#;
    let cases: &[&[&str]] = &[
        &[],
        &["Content-Type: text/plain"],
        &["Content-Type: application/x-www-form-urlencoded"],
        &["Content-Type: application/grpc"],
        &["Content-Type: application/json; charset=utf-16"],
        &["Content-Type: application/json; charset*0=utf-7"], // which some frameworks put together (RFC 2231)
        &["Content-Type: application/json; charset*=us-ascii''utf-7"],
        &[JSON, JSON],
        &[JSON, "Content-Encoding: gzip"],
        &[JSON, "Content-Encoding: identity"],
    ];
    for lines in cases {
        let answer = post(&gateway, "/public/tasks", lines, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (415, &"unsupported_body".into()), "{lines:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{lines:?}");
    }
    for fields in
        [&[("content-type", "text/json")][..], &[("content-type", "application/json"), ("content-encoding", "br")]]
    {
        assert_eq!(post_http2(&gateway, "/public/tasks", fields, body).await.status, 415, "{fields:?}");
    }
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = post_http2(&gateway, "/public/tasks", &grpc, body).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("3")), "a rule names it, and it is no JSON");
    refused(&upstream, &gateway, "unsupported_body", cases.len() + 3).await;
    let lines = ["Content-Type: text/plain", "Content-Encoding: gzip"];
    assert_eq!(post(&gateway, "/public/other", &lines, "\x1f\x08").await.status, 200, "no rule names it");
    assert_eq!(&*upstream.only().body, b"\x1f\x08");
}

/// S-84: a body that is too large is refused as soon as that is known.
#[tokio::test]
async fn s84_a_body_of_more_than_max_is_refused() {
    let (upstream, gateway) = scene().await;
    let body = |length: usize| format!("{{\"kind\":\"{}\"}}", "a".repeat(length - 11));
    assert_eq!(post(&gateway, "/public/tasks", &[JSON], body(1024)).await.status, 200);
    assert_eq!(upstream.take().len(), 1);
    let unsent = head(&gateway, "/public/tasks", &[JSON, "Content-Length: 1025"]) + "\r\n";
    let answer = gateway.raw(unsent).await;
    assert_eq!((answer.status, &answer.json()["code"]), (413, &"body_too_large".into()));
    assert_eq!(answer.header("connection"), Some("close"));
    let endless = head(&gateway, "/public/tasks", &[JSON, "Transfer-Encoding: chunked"]) + "\r\n401\r\n" + &body(1025);
    assert_eq!(gateway.raw(endless).await.status, 413);
    assert_eq!(
        post_http2(&gateway, "/public/tasks", &[("content-type", "application/json")], body(1025)).await.status,
        413
    );
    refused(&upstream, &gateway, "body_too_large", 3).await;
    let large = body(8 << 20);
    let answer = post(&gateway, "/public/large", &[JSON], &large).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.only().body.len(), 8 << 20);
    let fields = [("content-type", "application/json")];
    assert_eq!(post_http2(&gateway, "/public/large", &fields, large).await.status, 200);
    assert_eq!(upstream.only().body.len(), 8 << 20);
}

/// P32: whoever waits for `100 Continue` gets it if some body may be permitted, and else the refusal alone.
#[tokio::test]
async fn p32_a_client_that_waits_is_told_to_go_on_or_not_to() {
    let (upstream, gateway) = scene().await;
    let body = r#"{"kind":"a"}"#;
    let lines = [JSON, "Content-Length: 12", "Expect: 100-continue"];
    let mut wire = Wire::connect(gateway.port).await;
    wire.send(head(&gateway, "/public/tasks", &lines) + "\r\n").await;
    assert_eq!(String::from_utf8_lossy(&wire.some().await), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(upstream.seen(), 0, "nothing is sent before it is decided");
    wire.send(body).await;
    assert_eq!(wire.answer().await.expect("an answer").status, 200);
    let seen = upstream.only();
    assert_eq!((&*seen.body, seen.one("expect")), (body.as_bytes(), None));

    let mut wire = Wire::connect(gateway.port).await;
    wire.send(head(&gateway, "/people", &lines) + "\r\n").await;
    let answer = wire.answer().await.expect("an answer, and none before it");
    assert_eq!(answer.status, 401);
    refused(&upstream, &gateway, "no_session", 1).await;
    for lines in [&[JSON, "Content-Length: 2000"][..], &["Content-Type: text/plain", "Content-Length: 12"]] {
        let mut wire = Wire::connect(gateway.port).await;
        wire.send(head(&gateway, "/public/tasks", &[lines, &["Expect: 100-continue"]].concat()) + "\r\n").await;
        assert!(matches!(wire.answer().await.expect("an answer").status, 413 | 415));
    }
}

/// S-19: whom no policy permits it is refused with the body unread, and what is in it is no next request.
#[tokio::test]
async fn s19_a_body_that_nobody_may_send_is_not_read() {
    let (upstream, gateway) = scene().await;
    let hidden = head(&gateway, "/public/maybe", &["Content-Length: 0"]) + "\r\n";
    for (target, lines, status, code) in [
        ("/people", &[JSON][..], 401, "no_session"),
        ("/public/tasks", &["Content-Type: text/plain"], 415, "unsupported_body"),
    ] {
        let mut wire = Wire::connect(gateway.port).await;
        let length = format!("Content-Length: {}", hidden.len());
        wire.send(head(&gateway, target, &[lines, &[&*length]].concat()) + "\r\n").await;
        assert_eq!(wire.answer().await.expect("before the body came").status, status, "{target}");
        let _ = wire.try_send(&hidden).await;
        let rest = wire.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
        refused(&upstream, &gateway, code, 1).await;
    }
}

/// S-86: a body that does not come is not waited for; others are served meanwhile.
#[tokio::test]
async fn s86_a_slow_body_is_late_after_ten_seconds() {
    let (upstream, gateway) = scene().await;
    let (mut slow, start) = (Wire::connect(gateway.port).await, Instant::now());
    slow.send(head(&gateway, "/public/tasks", &[JSON, "Content-Length: 12"]) + "\r\n{").await;
    let drip = async {
        for piece in ["\"", "k", "i", "n"] {
            tokio::time::sleep(Duration::from_secs(2)).await;
            slow.send(piece).await;
        }
        slow.answer().await.expect("an answer")
    };
    let (answer, other) = tokio::join!(drip, post(&gateway, "/public/tasks", &[JSON], r#"{"kind":"a"}"#));
    assert_eq!(other.status, 200);
    assert_eq!((answer.status, &answer.json()["code"]), (408, &"client_timeout".into()));
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(14), "{took:?}");
    assert_eq!(upstream.take().len(), 1);
    refused(&upstream, &gateway, "client_timeout", 1).await;
}

/// S-84: bodies in hand have one room, of which no client has more than a quarter. Where it is spent new ones are refused, and those in
/// hand go on. Whoever only announces a long body holds none of it.
#[tokio::test]
async fn s84_there_is_one_room_for_all_bodies() {
    let upstream = Upstream::start().await;
    let trusted = "trusted_proxies: [127.0.0.1]\n";
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", RULES, trusted), POLICIES).await;
    let whole = 16 << 20;
    let body = format!("{{\"kind\":\"{}\"}}", "a".repeat(whole - 11));
    let length = format!("Content-Length: {whole}");
    let begin = async |client: u8, bytes: &str| {
        let mut wire = Wire::connect(gateway.port).await;
        let client = format!("X-Forwarded-For: 192.0.2.{client}");
        let lines = [JSON, &*length, "Expect: 100-continue", &*client];
        wire.send(head(&gateway, "/public/large", &lines) + "\r\n").await;
        assert!(wire.some().await.starts_with(b"HTTP/1.1 100 "));
        wire.send(bytes).await;
        wire
    };
    let short = async |client: &str| post(&gateway, "/public/tasks", &[JSON, client], r#"{"kind":"a"}"#).await;
    let from = |client: u8| format!("X-Forwarded-For: 192.0.2.{client}");
    let mut idle = Vec::new();
    for client in 1..=8 {
        idle.push(begin(client, "").await);
    }
    assert_eq!(short(&from(1)).await.status, 200, "what is only announced takes no room");
    drop(idle);
    upstream.take();
    let mut held = Vec::new();
    for client in 1..=4 {
        held.push(begin(client, &body[..whole - 1]).await);
    }
    let full = async |client: u8| short(&from(client)).await.status == 503;
    gateway.until("one client has its share", async || full(1).await).await;
    gateway.until("there is no room", async || full(5).await).await;
    upstream.take();
    let answer = short(&from(5)).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &"bodies_full".into()));
    assert_eq!(answer.header("retry-after"), Some("5"));
    let json = [("content-type", "application/json"), ("x-forwarded-for", "192.0.2.5")];
    assert_eq!(post_http2(&gateway, "/public/tasks", &json, r#"{"kind":"a"}"#).await.status, 503);
    assert_eq!(upstream.take().len(), 0);
    assert_eq!(post(&gateway, "/public/other", &[], "x").await.status, 200, "no rule names it");
    assert_eq!(upstream.take().len(), 1);
    let mut one = held.pop().expect("four");
    one.send(&body[whole - 1..]).await;
    assert_eq!(one.answer().await.expect("an answer").status, 200);
    assert_eq!(upstream.only().body.len(), whole);
    gateway.until("there is room again", async || short(&from(5)).await.status == 200).await;
}

/// A stream is decided anew by the fields that its request came with.
#[tokio::test]
async fn an_open_stream_is_decided_anew_by_the_same_fields() {
    let (_upstream, gateway) = scene().await;
    let open = async |kind: &str| {
        let body = format!(r#"{{"kind":"{kind}"}}"#);
        let mut wire = Wire::connect(gateway.port).await;
        let head = head(&gateway, "/public/sse", &[JSON, &format!("Content-Length: {}", body.len())]);
        wire.send(format!("{head}\r\n{body}")).await;
        assert!(wire.some().await.starts_with(b"HTTP/1.1 200"), "{kind}");
        wire
    };
    let (mut red, mut blue) = (open("red").await, open("blue").await);
    gateway.write("policies/app.cedar", &POLICIES.replace("== \"evil\"", "== \"red\""));
    let start = Instant::now();
    while !red.some().await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(15), "it goes on");
    }
    for _ in 0..10 {
        assert!(!blue.some().await.is_empty(), "the other one goes on");
    }
}

/// What its authors wrote for production templates of Backstage, with roles that GitLab's API says.
const TEMPLATES: &str = r#"
@id("portal") permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"app");

@id("production-templates-by-maintainers")
@reason("Production templates are run by maintainers of the platform group.")
@remedy("Ask an owner of platform for the Maintainer role.")
forbid (principal, action in Action::"write", resource == Route::"app")
when { context.path_folded like "/api/scaffolder/*" }
unless { principal in Role::"gitlab:platform#maintainer" }
unless { context.path_folded == "/api/scaffolder/v2/tasks" && context.body has template_ref
         && !(context.body.template_ref like "template:production/*") };
"#;

const TEMPLATE_RULES: &str = r#"    body: backstage
    body_fields:
      - method: POST
        path: /api/scaffolder/v2/tasks
        max: 1MiB
        fields: { template_ref: { pointer: /templateRef, as: backstage_ref } }
"#;

async fn portal() -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    for (user, role) in [("mia", "maintainer"), ("dan", "developer")] {
        provider.admin("/admin/user", json!({"user": user, "memberships": {"platform": role}})).await;
    }
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 60s, api: { token: { file: api } } }\n";
    let text = configuration(&provider.issuer, &upstream, membership, TEMPLATE_RULES, "");
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&text, TEMPLATES, prepare).await;
    Some((provider, upstream, gateway))
}

/// A call as Backstage's front end makes it.
fn task(template: &str) -> String {
    json!({
        "templateRef": template,
        "values": {"name": "ledger-audit", "owner": "group:default/edge-dns"},
        "secrets": {"USER_OAUTH_TOKEN": "canary"},
    })
    .to_string()
}

/// Production templates are run by maintainers, in whatever spelling; all other calls of the scaffolder that write too.
#[tokio::test]
async fn templates_of_backstage_are_judged_by_their_name() {
    let Some((provider, upstream, gateway)) = portal().await else { return };
    let (mia, dan) = (gateway.sign_in(&provider, "mia").await, gateway.sign_in(&provider, "dan").await);
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let run = async |who: &Browser, target: &str, body: &str| {
        let cookies = gateway.cookies(who);
        post(&gateway, target, &[JSON, &own, &cookies, "Accept: */*"], body).await
    };
    const TASKS: &str = "/api/scaffolder/v2/tasks";
    for template in ["template:default/create-ledger-service", "create-ledger-service", "Default/Create-Ledger-Service"]
    {
        for who in [&mia, &dan] {
            assert_eq!(run(who, TASKS, &task(template)).await.status, 200, "{template}");
            assert_eq!(&*upstream.only().body, task(template).as_bytes());
        }
    }
    let production = ["template:production/dns", "production/dns", "Template:PRODUCTION/dns", "template:Production/x"];
    for template in production {
        let answer = run(&dan, TASKS, &task(template)).await;
        assert_eq!((answer.status, &answer.json()["error"]["name"]), (403, &"NotAllowedError".into()), "{template}");
        assert!(answer.text().contains("run by maintainers of the platform group"), "{}", answer.text());
    }
    for target in ["/api/scaffolder/v2/dry-run", "/api/scaffolder/v2/tasks/1/retry", "/API/scaffolder/V2/dry-run"] {
        assert_eq!(run(&dan, target, &task("default/x")).await.status, 403, "{target}");
    }
    for template in ["a:production/dns:x", "x/production/dns", " production/dns", ""] {
        assert_eq!(run(&dan, TASKS, &task(template)).await.status, 400, "{template}");
    }
    assert_eq!(upstream.seen(), 0);
    for template in production {
        assert_eq!(run(&mia, TASKS, &task(template)).await.status, 200, "{template}");
    }
    let forbidden = |event: &Value| event.to_string().contains("production-templates-by-maintainers");
    gateway.audited("the policy that forbade it", forbidden).await;
    assert!(!format!("{:?}{}", gateway.audit(), gateway.log()).contains("canary"));
    let lines = [JSON, "Accept: */*"];
    assert_eq!(post(&gateway, TASKS, &lines, task("default/x")).await.status, 401, "nobody runs nothing");
}

/// Whoever was added to a group a moment ago is not refused with their body unread.
#[tokio::test]
async fn who_was_just_added_to_a_group_need_not_send_the_body_twice() {
    let Some((provider, upstream, gateway)) = portal().await else { return };
    let member = |memberships: Value| json!({"user": "eve", "memberships": memberships});
    provider.admin("/admin/user", member(json!({}))).await;
    let eve = gateway.sign_in(&provider, "eve").await;
    provider.admin("/admin/user", member(json!({"platform": "developer"}))).await;
    let (own, cookies) = (format!("Origin: http://127.0.0.1:{}", gateway.port), gateway.cookies(&eve));
    let lines = [JSON, &own, &cookies, "Accept: */*"];
    let answer = post(&gateway, "/api/scaffolder/v2/tasks", &lines, task("default/x")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(&*upstream.only().body, task("default/x").as_bytes());
}

/// A session that ends while the body comes ends the request too.
#[tokio::test]
async fn a_session_that_ended_while_the_body_came_sends_nothing() {
    let Some((provider, upstream, gateway)) = portal().await else { return };
    let mia = gateway.sign_in(&provider, "mia").await;
    let (own, cookies) = (format!("Origin: http://127.0.0.1:{}", gateway.port), gateway.cookies(&mia));
    let (body, mut wire) = (task("default/x"), Wire::connect(gateway.port).await);
    let length = format!("Content-Length: {}", body.len());
    let lines = [JSON, &own, &cookies, &length, "Accept: */*", "Expect: 100-continue"];
    wire.send(head(&gateway, "/api/scaffolder/v2/tasks", &lines) + "\r\n").await;
    assert!(wire.some().await.starts_with(b"HTTP/1.1 100 "));
    assert_eq!(gateway.request("POST", "/.vestibule/sign-out", &[&cookies, &own]).await.status, 303);
    wire.send(body).await;
    assert_eq!(wire.answer().await.expect("an answer").status, 401);
    refused(&upstream, &gateway, "no_session", 1).await;
}
