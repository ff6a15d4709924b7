//! What upstreams get as their credential: a secret that no client holds, sees or steers.

use crate::support::{
    gateway::{Browser, Gateway, configuration, program},
    http1::Answer,
    provider::Provider,
    upstream::{Seen, Upstream},
};
use http::HeaderMap;
use serde_json::json;
use std::sync::{Arc, Mutex};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::tungstenite::{
    client::IntoClientRequest,
    handshake::server::{Request, Response},
};

/// What a client tries, and what reaches no upstream of a route with a secret.
const TRIED: [&str; 8] = [
    "Authorization: Bearer canary",
    "authorization_: canary",
    "X-Api-Key: canary",
    "X-API-KEY: canary",
    "x_api_key: canary",
    "X-Api--Key_: canary",
    "Private-Token: canary",
    "PRIVATE_TOKEN: canary",
];

const KEEPS: &str = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";

const SIGNED_IN: &str = r#"@id("known") permit (principal is User, action, resource == Route::"app") when { context.host == "127.0.0.1" };"#;

/// A gateway with `lines` at its route, whose secrets are planted in the files `key` and `other`, and somebody who is signed in.
async fn scene(upstream: &Upstream, lines: &str) -> Option<(Provider, Gateway, Browser)> {
    let provider = Gateway::provider(&[])?;
    let text = configuration(&provider.issuer, upstream, KEEPS, &format!("    host: 127.0.0.1\n{lines}"), "");
    let gateway = started(&text, &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    Some((provider, gateway, browser))
}

async fn started(text: &str, variables: &[(&str, &str)]) -> Gateway {
    let all = [&[("VESTIBULE_LOG", "trace")], variables].concat();
    let prepared = |gateway: &mut Gateway| {
        gateway.write_secret("key", "planted-key");
        gateway.write_secret("other", "planted-other");
        gateway.write_secret("api", "glpat-test-token-0123456789");
    };
    Gateway::start_prepared(text, SIGNED_IN, &all, prepared).await
}

/// One more route, below `/NAME/`.
fn route(name: &str, upstream: &Upstream, credential: &str) -> String {
    format!(
        "  - {{ name: {name}, host: 127.0.0.1, path: /{name}/, upstream: \"http://127.0.0.1:{}\", credential: {credential}, \
         allow: [signed-in] }}\n",
        upstream.port
    )
}

async fn try_as(gateway: &Gateway, browser: &Browser, target: &str) -> Answer {
    let cookies = gateway.cookies(browser);
    let lines: Vec<&str> = TRIED.into_iter().chain([&*cookies]).collect();
    gateway.get(target, &lines).await
}

/// S-11: each kind arrives, once, whatever the client sent in whichever spelling; who asks is told beside it.
#[tokio::test]
async fn s11_each_kind_arrives_and_nothing_of_the_clients() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let kinds = [
        ("bearer", "{ bearer: { file: key } }", "authorization", "Bearer planted-key"),
        ("basic", "{ basic: { user: us, password: { file: key } } }", "authorization", "Basic dXM6cGxhbnRlZC1rZXk="),
        ("header", "{ header: X-Api-Key, value: { env: VESTIBULE_LEDGER } }", "x-api-key", "planted-variable"),
        ("gitlab", "{ gitlab_api: gitlab }", "private-token", "glpat-test-token-0123456789"),
    ];
    let routes: String = kinds.iter().map(|(name, credential, ..)| route(name, &upstream, credential)).collect();
    let text = configuration(&provider.issuer, &upstream, KEEPS, "    host: 127.0.0.1\n", "");
    let text = text.replace("policies:", &format!("{routes}policies:"));
    let gateway = started(&text, &[("VESTIBULE_LEDGER", "planted-variable")]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    for (name, _, field, value) in kinds {
        let answer = try_as(&gateway, &browser, &format!("/{name}/x?y")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        let seen = upstream.only();
        assert_eq!(seen.one(field), Some(value), "{name}");
        assert!(seen.one("vestibule-assertion").is_some() && seen.one("x-forwarded-user").is_some());
        let theirs = |(key, value): &&(String, String)| value.contains("canary") && is_of(key, field);
        assert_eq!(seen.headers.iter().find(theirs), None, "{name}");
    }
    // a route without `credential` is as before
    assert_eq!(try_as(&gateway, &browser, "/plain").await.status, 200);
    assert!(upstream.only().all("authorization").contains(&"Bearer canary"));
}

/// True for `Authorization`, and for every spelling of the field that the secret stands in.
fn is_of(key: &str, field: &str) -> bool {
    let plain = |name: &str| {
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|it| !it.is_empty()).collect::<Vec<_>>().join("-")
    };
    [field, "authorization"].contains(&&*plain(key))
}

/// What Backstage reads for calls of jobs and services: the assertion, and nothing of anybody who is not known.
#[tokio::test]
async fn the_assertion_is_a_bearer_token_where_the_route_says_so() {
    let upstream = Upstream::start().await;
    let Some((_provider, gateway, browser)) =
        scene(&upstream, "    credential: assertion\n    allow: [public]\n").await
    else {
        return;
    };
    assert_eq!(try_as(&gateway, &browser, "/").await.status, 200);
    let seen = upstream.only();
    let assertion = seen.one("vestibule-assertion").expect("an assertion");
    assert_eq!(seen.one("authorization"), Some(&*format!("Bearer {assertion}")));
    assert_eq!(gateway.get("/", &TRIED).await.status, 200);
    let seen = upstream.only();
    assert_eq!((seen.one("authorization"), seen.one("vestibule-assertion")), (None, None));
}

/// Nobody acts with a secret whom we do not know: 401, nothing upstream, one record; and no policy that would let them is taken.
#[tokio::test]
async fn a_secret_is_not_for_anonymous() {
    let upstream = Upstream::start().await;
    let Some((_provider, gateway, _)) = scene(&upstream, "    credential: { bearer: { file: key } }\n").await else {
        return;
    };
    let answer = gateway.get("/nobody", &TRIED).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(upstream.take().is_empty());
    let of = |record: &serde_json::Value| record["class_uid"] == 4002 && record.to_string().contains("/nobody");
    gateway.audited("the refusal", |record| of(record) && record["disposition"] != "Allowed").await;
    assert_eq!(gateway.audit().iter().filter(|record| of(record)).count(), 1);
    gateway.write("policies/app.cedar", "@id(\"all\")\npermit (principal, action, resource == Route::\"app\");\n");
    let check = program().arg("check").arg("-c").arg(gateway.path("vestibule.yaml")).output().expect("it runs");
    let said = String::from_utf8_lossy(&check.stdout).into_owned() + &String::from_utf8_lossy(&check.stderr);
    assert_eq!(check.status.code(), Some(1), "{said}");
    assert!(
        said.contains("app.cedar:2:9\n")
            && said.contains("a permit that may be for `Anonymous`, on route `app`")
            && said.contains("write"),
        "{said}"
    );
    gateway.until("it is refused", async || gateway.log().contains("a changed configuration is not taken")).await;
    assert_eq!(gateway.get("/nobody", &[]).await.status, 401);
    assert!(upstream.take().is_empty());
}

/// Cookies that the upstream sets to whoever has the secret are no client's, unless the route says so.
#[tokio::test]
async fn cookies_are_dropped_unless_they_are_kept() {
    let upstream = Upstream::start().await;
    for (keep, expected) in [("", &[][..]), (", keep_cookies: true", &["theirs=kept; Path=/"][..])] {
        let lines = format!("    credential: {{ bearer: {{ file: key }}{keep} }}\n");
        let Some((_provider, gateway, browser)) = scene(&upstream, &lines).await else { return };
        let named = format!("X-Cookie-Name: {}", gateway.session_cookie());
        let answer = gateway.get("/hostile-cookie", &[&named, &gateway.cookies(&browser)]).await;
        assert_eq!((answer.status, answer.headers("set-cookie")), (200, expected.to_vec()));
    }
}

/// An endpoint that reads a request and leaves without an answer.
async fn leaves(heads: Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let read = async |mut stream: TcpStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else { return String::new() };
            head.push(byte);
        }
        String::from_utf8_lossy(&head).into_owned()
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let head = read(stream).await;
            heads.lock().expect("no panic").push(head);
        }
    });
    port
}

/// A request that is sent to another endpoint carries the credential there too.
#[tokio::test]
async fn another_endpoint_gets_it_too() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let (upstream, heads) = (Upstream::start().await, Arc::<Mutex<Vec<String>>>::default());
    let dead = leaves(heads.clone()).await;
    let text = configuration(
        &provider.issuer,
        &upstream,
        "",
        "    host: 127.0.0.1\n    credential: { bearer: { file: key } }\n",
        "",
    );
    let one = format!("upstream: http://127.0.0.1:{}", upstream.port);
    let two = format!("upstream: {{ urls: [\"http://127.0.0.1:{dead}\", \"http://127.0.0.1:{}\"] }}", upstream.port);
    let gateway = started(&text.replace(&one, &two), &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    for _ in 0..20 {
        assert_eq!(try_as(&gateway, &browser, "/").await.status, 200);
        assert_eq!(upstream.only().one("authorization"), Some("Bearer planted-key"));
    }
    let heads = heads.lock().expect("no panic");
    assert!(!heads.is_empty(), "no request was sent twice");
    for head in &*heads {
        assert!(head.contains("authorization: Bearer planted-key\r\n") && !head.contains("Bearer canary"), "{head}");
    }
}

/// A secret that changes in its file is sent by the next request after the reload, which names it; no value is told.
#[tokio::test]
async fn a_changed_secret_is_taken_up() {
    let upstream = Upstream::start().await;
    let Some((_provider, gateway, browser)) = scene(&upstream, "    credential: { bearer: { file: key } }\n").await
    else {
        return;
    };
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    assert_eq!(upstream.only().one("authorization"), Some("Bearer planted-key"));
    gateway.write_secret("key", "planted-anew");
    let reload = gateway.audited("the reload", |record| record.to_string().contains("routes[app].credential")).await;
    assert_eq!(reload["unmapped"]["changed"]["items"], json!(["routes[app].credential"]), "{reload}");
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    assert_eq!(upstream.only().one("authorization"), Some("Bearer planted-anew"));
    gateway.write_secret("key", "two words");
    gateway.until("it is refused", async || gateway.log().contains("a changed configuration is not taken")).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    assert_eq!(upstream.only().one("authorization"), Some("Bearer planted-anew"));
    no_secret_is_told(&gateway, &["planted", "two words"], &[]);
}

/// The token that renews itself is sent as it is now, before and after, and the next process sends it too; it cannot be renewed by
/// anybody else.
#[tokio::test]
async fn gitlabs_token_is_always_the_one_in_force() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let keeps = KEEPS.replace("{ file: api }", "{ file: api }, rotate: true");
    let text = configuration(
        &provider.issuer,
        &upstream,
        &keeps,
        "    host: 127.0.0.1\n    credential: { gitlab_api: gitlab }\n",
        "",
    );
    let mut gateway = started(&text, &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let sent = async |gateway: &Gateway| {
        assert_eq!(try_as(gateway, &browser, "/api/v4/projects").await.status, 200);
        upstream.only().one("private-token").expect("a token").to_owned()
    };
    assert_eq!(sent(&gateway).await, "glpat-test-token-0123456789");
    let about = json!({"created_at": "2026-01-01T00:00:00.000Z", "expires_at": "2026-12-01"});
    provider.admin("/admin/api", json!({"token": about})).await;
    gateway.stop().await;
    gateway.run().await;
    gateway.audited("the token is renewed", |record| record["unmapped"]["why"] == "token.rotate").await;
    let value = provider.admin("/admin/api", json!({})).await["value"].as_str().expect("a token").to_owned();
    assert!(value.starts_with("glpat-rotated"), "{value}");
    assert_eq!(sent(&gateway).await, value);
    gateway.stop().await;
    gateway.run().await;
    assert_eq!(sent(&gateway).await, value);
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let lines = [&*gateway.cookies(&browser), &own];
    let rotate = gateway.request("POST", "/api/v4/personal_access_tokens/self/rotate", &lines).await;
    assert_eq!(rotate.status, 403, "{}", rotate.text());
    assert!(upstream.take().is_empty());
    no_secret_is_told(&gateway, &["glpat-"], &[rotate]);
    gateway.write_secret("api", "planted-token");
    gateway.until("another token in the file wins", async || sent(&gateway).await == "planted-token").await;
}

/// Health checks ask without it.
#[tokio::test]
async fn health_checks_never_carry_it() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let text = configuration(
        &provider.issuer,
        &upstream,
        "",
        "    host: 127.0.0.1\n    credential: { header: X-Api-Key, value: { file: key } }\n",
        "",
    );
    let one = format!("upstream: http://127.0.0.1:{}", upstream.port);
    let asked = format!(
        "upstream: {{ urls: [\"http://127.0.0.1:{}\"], health: {{ path: /healthz, interval: 100ms }} }}",
        upstream.port
    );
    let gateway = started(&text.replace(&one, &asked), &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    gateway.until("it is asked", async || upstream.seen() > 3).await;
    let mut live = program();
    live.args(["check", "--live", "-c"]).arg(gateway.path("vestibule.yaml"));
    let live = tokio::task::spawn_blocking(move || live.output()).await.expect("no panic").expect("it runs");
    let said = String::from_utf8_lossy(&live.stdout);
    assert!(said.contains("`/healthz` answered 200"), "{said}");
    let (checks, requests): (Vec<Seen>, Vec<Seen>) =
        upstream.take().into_iter().partition(|seen| seen.target == "/healthz");
    assert!(checks.len() > 3 && checks.iter().all(|seen| seen.one("x-api-key").is_none()));
    assert_eq!(requests[0].one("x-api-key"), Some("planted-key"));
}

/// An upstream that takes every WebSocket, sets a cookie, and tells what it was asked with.
async fn sockets(asked: Arc<Mutex<Vec<HeaderMap>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            #[expect(clippy::result_large_err, reason = "the library's own type")]
            let note = |request: &Request, mut response: Response| {
                asked.lock().expect("no panic").push(request.headers().clone());
                response.headers_mut().insert("set-cookie", "theirs=1".parse().expect("a value"));
                Ok(response)
            };
            let _ = tokio_tungstenite::accept_hdr_async(stream, note).await;
        }
    });
    port
}

/// A handshake carries it as any request does.
#[tokio::test]
async fn a_websocket_handshake_carries_it() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let (upstream, asked) = (Upstream::start().await, Arc::<Mutex<Vec<HeaderMap>>>::default());
    let port = sockets(asked.clone()).await;
    let text = configuration(
        &provider.issuer,
        &upstream,
        "",
        "    host: 127.0.0.1\n    credential: { bearer: { file: key } }\n",
        "",
    );
    let text = text.replace(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{port}"));
    let gateway = started(&text, &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let mut request = format!("ws://127.0.0.1:{}/ws", gateway.port).into_client_request().expect("a request");
    let own = format!("http://127.0.0.1:{}", gateway.port);
    let cookies = gateway.cookies(&browser);
    for (name, value) in
        [("origin", &*own), ("cookie", &cookies["Cookie: ".len()..]), ("authorization", "Bearer canary")]
    {
        request.headers_mut().insert(name, value.parse().expect("a value"));
    }
    let (mut socket, answer) = tokio_tungstenite::connect_async(request).await.expect("it opens");
    assert!(!answer.headers().contains_key("set-cookie"));
    socket.close(None).await.expect("closed");
    let asked = asked.lock().expect("no panic");
    assert_eq!(asked[0].get_all("authorization").iter().collect::<Vec<_>>(), ["Bearer planted-key"]);
}

/// S-98, S-99: what is planted is in no log at the most verbose level, no record, no page and no shown configuration, whatever fails.
#[tokio::test]
async fn s99_the_secret_is_told_nowhere() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let (upstream, heads) = (Upstream::start().await, Arc::<Mutex<Vec<String>>>::default());
    let dead = leaves(heads).await;
    let gone = configuration(&provider.issuer, &upstream, KEEPS, "    host: 127.0.0.1\n", "");
    let mut routes = route("basic", &upstream, "{ basic: { user: us, password: { file: other } } }");
    routes += &route("header", &upstream, "{ header: X-Api-Key, value: { file: key } }");
    routes += &route("leaves", &upstream, "{ bearer: { file: key } }")
        .replace(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{dead}"));
    routes += &route("gitlab", &upstream, "{ gitlab_api: gitlab }");
    let gateway = started(&gone.replace("policies:", &format!("{routes}policies:")), &[]).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let mut answers = Vec::new();
    for target in ["/basic/x", "/header/x", "/leaves/x", "/gitlab/x", "/basic/status/401", "/header/status/500"] {
        answers.push(try_as(&gateway, &browser, target).await);
        answers.push(gateway.get(target, &TRIED).await);
        answers.push(
            gateway.get(target, &["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]).await,
        );
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses[..9], [200, 401, 302, 200, 401, 302, 502, 401, 302]);
    gateway.write_secret("other", "planted-afterwards");
    gateway.audited("the reload", |record| record.to_string().contains("routes[basic].credential")).await;
    no_secret_is_told(&gateway, &["planted", "cGxhbnRlZ", "glpat-", "canary"], &answers);
    let show = program().args(["config", "show", "-c"]).arg(gateway.path("vestibule.yaml")).output().expect("it runs");
    let shown = String::from_utf8_lossy(&show.stdout).into_owned();
    assert!(
        shown.contains("gitlab_api: gitlab") && shown.contains("keep_cookies: false") && shown.contains("/key"),
        "{shown}"
    );
    assert!(!shown.contains("planted") && !shown.contains("glpat-"), "{shown}");
}

/// Nothing of this is in the log, the journal, or an answer.
fn no_secret_is_told(gateway: &Gateway, planted: &[&str], answers: &[Answer]) {
    let (log, trail) = (gateway.log(), format!("{:?}", gateway.audit()));
    let answers: String = answers.iter().map(|answer| format!("{:?}\n{}\n", answer.headers, answer.text())).collect();
    assert!(log.contains("\"level\":\"DEBUG\""), "the log is not at its most verbose");
    for secret in planted {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
        assert!(!trail.contains(secret), "{secret} is in the trail");
        assert!(!answers.contains(secret), "{secret} is in an answer: {answers}");
    }
}
