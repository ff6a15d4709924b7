//! How much each may ask of a route: what is more is refused, says when there is more, and takes nothing from anybody else.

use crate::{
    streams::{echo, open_events},
    support::{
        gateway::{Browser, Gateway, configuration, free_port},
        http1::{Answer, Wire},
        http2::Http2,
        provider::Provider,
        upstream::Upstream,
    },
};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};

/// Whoever is signed in may do everything, and everybody may see what is public.
const POLICIES: &str = r#"
@id("signed-in")
permit (principal is User, action, resource);

@id("public")
permit (principal, action, resource) when { context.path like "/public/*" };
"#;

/// Everything on loopback: a provider, an upstream, and a gateway whose route `app` has `limits`, beside a route `free` without.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

impl Scene {
    async fn start(limits: &str, more: &str) -> Option<Self> {
        let provider = Gateway::provider(&[])?;
        let upstream = Upstream::start().await;
        let gateway = Gateway::start(&text(&provider.issuer, &upstream, limits, more), POLICIES).await;
        Some(Self { provider, upstream, gateway })
    }

    async fn sign_in(&self, user: &str) -> Browser {
        self.gateway.sign_in(&self.provider, user).await
    }
}

fn text(issuer: &str, upstream: &Upstream, limits: &str, more: &str) -> String {
    let route = format!("    host: 127.0.0.1\n    limits: {{ {limits} }}\n");
    let free = format!(
        "  - name: free\n    host: 127.0.0.1\n    path: /free/\n    upstream: http://127.0.0.1:{}\npolicies: ./policies\n",
        upstream.port
    );
    configuration(issuer, upstream, "", &route, more).replace("policies: ./policies\n", &free)
}

/// A gateway that nobody signs in at.
async fn open(limits: &str, more: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&text("http://127.0.0.1:9", &upstream, limits, more), POLICIES).await;
    (upstream, gateway)
}

/// The statuses of so many requests, one after the other.
async fn ask(times: usize, mut one: impl AsyncFnMut() -> Answer) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..times {
        statuses.push(one().await.status);
    }
    statuses
}

fn of_a_limit(whom: &'static str, measure: &'static str) -> impl Fn(&Value) -> bool {
    move |record| record["unmapped"]["limit"] == json!({ "whom": whom, "measure": measure })
}

/// One person's flood is refused, recorded and counted, and takes nothing from another person or another route.
#[tokio::test]
async fn one_persons_flood_leaves_others_alone() {
    let operations = free_port();
    let more = format!("operations: {{ address: 127.0.0.1:{operations} }}\n");
    let Some(scene) = Scene::start("user: { requests: 60/h, burst: 3 }", &more).await else { return };
    let (alice, mallory) = (scene.sign_in("alice").await, scene.sign_in("mallory").await);
    let flood = ask(10, async || scene.gateway.get_as(&mallory, "/x").await).await;
    assert_eq!(flood, [vec![200; 3], vec![429; 7]].concat());
    assert_eq!(scene.upstream.take().len(), 3, "what is refused does not go upstream");
    assert_eq!(ask(3, async || scene.gateway.get_as(&alice, "/x").await).await, [200; 3]);
    assert_eq!(ask(5, async || scene.gateway.get_as(&mallory, "/free/x").await).await, [200; 5]);

    let again = scene.sign_in("mallory").await;
    let refused = scene.gateway.get_as(&again, "/x").await;
    assert_eq!(refused.status, 429, "another session of theirs is the same person");
    let problem = refused.json();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("rate_limited"), &json!(429)));
    let told = "You may send 60 requests an hour, 3 at once here. Try again in ";
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(told)), "{problem}");
    let seconds = problem["retry_after"].as_u64().expect("seconds");
    assert_eq!(refused.header("retry-after"), Some(&*seconds.to_string()));
    assert!((1..=60).contains(&seconds), "{seconds}");

    let id = problem["request_id"].as_str().expect("an id").to_owned();
    let record = scene.gateway.audited("the refusal", |record| record["metadata"]["correlation_uid"] == *id).await;
    assert!(of_a_limit("user", "requests")(&record), "{record}");
    assert_eq!((&record["status_code"], &record["disposition"]), (&json!("rate_limited"), &json!("Rejected")));
    assert_eq!((&record["actor"]["user"]["name"], &record["unmapped"]["route"]), (&json!("mallory"), &json!("app")));
    let all = || scene.gateway.audit().into_iter().filter(of_a_limit("user", "requests")).count();
    scene.gateway.until("a record each", async || all() == 8).await;
    let mut wire = Wire::connect(operations).await;
    wire.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let metrics = wire.answer().await.expect("an answer").text();
    for line in [
        "vestibule_requests_limited_total{whom=\"user\",measure=\"requests\"} 8",
        "vestibule_requests_limited_total{whom=\"address\",measure=\"requests\"} 0",
        "vestibule_requests_refused_total{reason=\"rate_limited\"} 8",
    ] {
        assert!(metrics.lines().any(|there| there == line), "{line} in {metrics}");
    }
}

/// People read on a page that it was too much, and when they may go on.
#[tokio::test]
async fn a_page_says_when_to_try_again() {
    let (_upstream, gateway) = open("address: { requests: 1/h }", "").await;
    let page = async || gateway.get("/public/x", &["Accept: text/html", "Sec-Fetch-Mode: navigate"]).await;
    assert_eq!(page().await.status, 200);
    let refused = page().await;
    assert_eq!((refused.status, refused.header("cache-control")), (429, Some("no-store")));
    let text = refused.text();
    for said in ["That was too much at once", "Your network may send 1 request an hour here.", "Try again"] {
        assert!(text.contains(said), "{said} in {text}");
    }
}

/// `Retry-After` is true: before that time there is nothing, after it there is one, and asking meanwhile costs nothing.
#[tokio::test]
async fn retry_after_is_true() {
    let (_upstream, gateway) = open("address: { requests: 30/m, burst: 1 }", "").await;
    let start = Instant::now();
    assert_eq!(gateway.get("/public/x", &[]).await.status, 200);
    let refused = gateway.get("/public/x", &[]).await;
    let seconds = refused.header("retry-after").and_then(|seconds| seconds.parse().ok()).expect("seconds");
    assert!(refused.status == 429 && (1..=2).contains(&seconds), "{seconds}");
    let told = Instant::now();
    while start.elapsed() < Duration::from_millis(1500) {
        let early = gateway.get("/public/x", &[]).await;
        assert!(early.status == 429 || start.elapsed() >= Duration::from_secs(2), "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep_until((told + Duration::from_secs(seconds)).into()).await;
    assert_eq!(gateway.get("/public/x", &[]).await.status, 200);
}

/// A request is under way until the last byte of its answer, and no longer when its client leaves.
#[tokio::test]
async fn what_is_under_way_ends_with_the_body_or_the_client() {
    let Some(scene) = Scene::start("user: { concurrent: 2 }", "").await else { return };
    let (gateway, alice) = (&scene.gateway, scene.sign_in("alice").await);
    let (one, two) = (open_events(gateway, &alice).await, open_events(gateway, &alice).await);
    let refused = gateway.get_as(&alice, "/x").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let told = "You may have 2 requests under way at once here. Try again when one is over.";
    assert_eq!(refused.json()["detail"], told);
    gateway.audited("the refusal", of_a_limit("user", "concurrent")).await;
    let mallory = scene.sign_in("mallory").await;
    assert_eq!(gateway.get_as(&mallory, "/x").await.status, 200);
    drop(one);
    gateway.until("the client's leaving makes room", async || gateway.get_as(&alice, "/x").await.status == 200).await;
    let slow = open_events(gateway, &alice).await;
    assert_eq!(gateway.get_as(&alice, "/x").await.status, 429, "an answer that is over was given back once, not twice");
    drop((two, slow));
    gateway.until("both have left", async || gateway.get_as(&alice, "/x").await.status == 200).await;
}

/// Whoever gives up waiting for an answer gives back what they had under way, though their connection stays.
#[tokio::test]
async fn what_is_under_way_ends_when_a_client_gives_up_waiting() {
    let (upstream, gateway) = open("address: { concurrent: 1 }", "").await;
    let at = |path: &str| format!("http://127.0.0.1:{}/public{path}", gateway.port);
    let stream = TcpStream::connect(("127.0.0.1", gateway.port)).await.expect("a connection");
    let (mut client, slow) = (Http2::over(stream).await, at("/slow/60000"));
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.ask("GET", &slow, &[]).await });
    gateway.until("the upstream is asked", async || upstream.seen() > 0).await;
    let mut status = async || client.ask("GET", &at("/x"), &[]).await.expect("an answer").status;
    assert_eq!(status().await, 429);
    waiting.abort();
    gateway.until("a stream that was reset makes room", async || status().await == 200).await;
}

/// A WebSocket is under way while it is open.
#[tokio::test]
async fn a_websocket_is_under_way_while_it_is_open() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let (upstream, port) = (Upstream::start().await, echo().await);
    let text = text(&provider.issuer, &upstream, "user: { concurrent: 2 }", "");
    let text = text.replacen(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{port}"), 1);
    let gateway = Gateway::start(&text, POLICIES).await;
    let alice = gateway.sign_in(&provider, "alice").await;
    let connect = async || {
        let mut request = format!("ws://127.0.0.1:{}/ws", gateway.port).into_client_request().expect("a request");
        let cookies = gateway.cookies(&alice);
        let fields =
            [("origin", &*format!("http://127.0.0.1:{}", gateway.port)), ("cookie", &cookies["Cookie: ".len()..])];
        for (name, value) in fields {
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
    };
    let (mut one, _two) = (connect().await.expect("it opens"), connect().await.expect("it opens"));
    match connect().await {
        Err(Error::Http(answer)) => {
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["retry-after"]),
                (429, &"1".parse().expect("a value"))
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(gateway.get_as(&alice, "/x").await.status, 429, "requests and WebSockets count together");
    one.send(Message::text("still open")).await.expect("sent");
    assert!(one.next().await.is_some_and(|message| message.is_ok()));
    one.close(None).await.expect("closed");
    gateway.until("one more opens", async || connect().await.is_ok()).await;
}

/// Addresses are counted before anybody knows whose they are: with a session or without, with the right to be there or without.
/// Our own endpoints are not counted.
#[tokio::test]
async fn an_address_is_counted_before_anybody_is_identified() {
    let Some(scene) = Scene::start("address: { requests: 1/h, burst: 3 }", "").await else { return };
    let (gateway, alice) = (&scene.gateway, scene.sign_in("alice").await);
    assert_eq!(gateway.get_as(&alice, "/x").await.status, 200);
    assert_eq!(ask(3, async || gateway.get("/private", &[]).await).await, [401, 401, 429]);
    let refused = gateway.get_as(&alice, "/x").await;
    assert_eq!(refused.status, 429);
    let id = refused.header("x-request-id").expect("an id").to_owned();
    let record = gateway.audited("the refusal", |record| record["metadata"]["correlation_uid"] == *id).await;
    assert!(of_a_limit("address", "requests")(&record) && record["actor"].is_null(), "{record}");
    assert_eq!(record["src_endpoint"]["ip"], "127.0.0.1");
    assert_eq!(ask(5, async || gateway.get_as(&alice, "/.vestibule/session").await).await, [200; 5]);
    assert_eq!(gateway.get_as(&alice, "/free/x").await.status, 200);
}

/// S-08: behind a trusted proxy it is the client's address that counts, as that proxy tells it; nobody else is believed.
#[tokio::test]
async fn s08_an_address_is_that_of_the_client() {
    let limits = "address: { requests: 1/h, burst: 2 }";
    let (_upstream, gateway) = open(limits, "trusted_proxies: [127.0.0.0/8]\n").await;
    let from = async |address: &str| {
        ask(3, async || gateway.get("/public/x", &[&format!("X-Forwarded-For: {address}")]).await).await
    };
    assert_eq!(from("203.0.113.7").await, [200, 200, 429]);
    assert_eq!(from("203.0.113.8").await, [200, 200, 429]);
    assert_eq!(from("198.51.100.1, 203.0.113.7").await, [429; 3], "what the client itself says is not believed");
    assert_eq!(from("2001:db8::1").await, [200, 200, 429]);
    assert_eq!(from("2001:db8::2:1").await, [429; 3], "the same /64");
    assert_eq!(from("2001:db8:0:1::1").await, [200, 200, 429], "another /64");
    let (_upstream, gateway) = open(limits, "").await;
    let mut addresses = ["203.0.113.7", "203.0.113.8", "203.0.113.9"].into_iter();
    let own = async || {
        let field = format!("X-Forwarded-For: {}", addresses.next().unwrap_or_default());
        gateway.get("/public/x", &[&field]).await
    };
    assert_eq!(ask(3, own).await, [200, 200, 429], "without a trusted proxy it is that of the connection");
}

/// Numbers change while requests pass; what was counted stays counted, and what is under way too.
#[tokio::test]
async fn changed_numbers_go_on_counting() {
    let (_upstream, gateway) = open("address: { requests: 1/h, burst: 3, concurrent: 9 }", "").await;
    let change = async |from: &str, to: &str| {
        let before = gateway.log().matches("configuration and policies reloaded").count();
        let text = std::fs::read_to_string(gateway.path("vestibule.yaml")).expect("there");
        gateway.write("vestibule.yaml", &text.replace(from, to));
        let reloaded = || gateway.log().matches("configuration and policies reloaded").count() > before;
        gateway.until("it is taken", async || reloaded()).await;
    };
    let public = async || gateway.get("/public/x", &[]).await;
    assert_eq!(ask(4, public).await, [200, 200, 200, 429]);
    change("burst: 3", "burst: 5").await;
    let changed = "routes[app].limits.address.burst";
    gateway.audited("the change", |record| record["unmapped"]["changed"]["items"] == json!([changed])).await;
    assert_eq!(ask(3, public).await, [200, 200, 429], "two more than before, not five");
    change("requests: 1/h, burst: 5, concurrent: 9", "concurrent: 2").await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect(gateway.port).await;
        wire.send(format!("GET /public/sse HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port)).await;
        assert!(wire.some().await.starts_with(b"HTTP/1.1 200"));
        streams.push(wire);
    }
    assert_eq!(public().await.status, 429);
    change("concurrent: 2", "concurrent: 3").await;
    assert_eq!(public().await.status, 200);
    change("concurrent: 3", "concurrent: 1").await;
    streams.pop();
    assert_eq!(ask(5, public).await, [429; 5], "one is still under way since before");
}

/// A job counts for itself and for the project that runs it, whichever token it comes with; a service counts for itself. None
/// of them takes anything from another, or from people.
#[tokio::test]
async fn jobs_projects_and_services_have_limits_of_their_own() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let limits = "user: { concurrent: 1 }, job: { requests: 1/h, burst: 2 }, project: { requests: 1/h, burst: 3 }, \
                  service: { requests: 1/h, burst: 2, concurrent: 1 }";
    let issuers = format!(
        "token_issuers:\n  - {{ name: ci, kind: gitlab_ci, provider: gitlab, audiences: [deploy] }}\n  \
         - {{ name: bots, kind: jwt, issuer: \"{}\", audiences: [bots], principal: service }}\n",
        provider.issuer
    );
    let text = text(&provider.issuer, &upstream, limits, &issuers)
        .replace("  - name: app\n", "  - name: app\n    token_issuers: [ci, bots]\n")
        .replacen("routes:\n", "    membership: { api: { token: { file: api } } }\nroutes:\n", 1);
    let policies = format!(
        "@id(\"tokens\")\npermit (principal, action, resource) unless {{ principal is Anonymous }};\n{POLICIES}"
    );
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&text, &policies, prepare).await;
    let get = async |token: &str| gateway.get("/x", &[&format!("Authorization: Bearer {token}")]).await;

    let job = async |number: &str, project: u64| {
        let path = format!("acme/shop/{project}");
        let asked = json!({ "aud": "deploy", "project_path": path, "project_id": project, "user": "bob", "claims": { "job_id": number } });
        provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("a token").to_owned()
    };
    let (one, two, other) = (job("1", 51).await, job("2", 51).await, job("3", 52).await);
    assert_eq!(ask(3, async || get(&one).await).await, [200, 200, 429]);
    let record = gateway.audited("the job's limit", of_a_limit("job", "requests")).await;
    assert_eq!(
        (&record["unmapped"]["principal"], &record["unmapped"]["job"]["project_id"]),
        (&json!("job"), &json!(51))
    );
    assert_eq!(get(&job("1", 51).await).await.status, 429, "another token of the same job");
    assert_eq!(get(&two).await.status, 200);
    let refused = get(&two).await;
    let told = "All jobs of this project together may send 1 request an hour, 3 at once here.";
    assert!(refused.status == 429 && refused.text().contains(told), "{}", refused.text());
    gateway.audited("the project's limit", of_a_limit("project", "requests")).await;
    assert_eq!(ask(3, async || get(&other).await).await, [200, 200, 429], "another project");
    let fork = json!({ "aud": "deploy", "user": "bob", "project_path": "bob/51", "project_id": 666, "claims": { "job_id": "4" },
                       "job_project_path": "acme/shop/51", "job_project_id": 51, "pipeline_source": "merge_request_event" });
    let fork = provider.admin("/admin/ci-token", fork).await["token"].as_str().expect("a token").to_owned();
    assert_eq!(get(&fork).await.status, 429, "what a fork's merge request runs in the project counts there");

    let service = async |name: &str| provider.mint(json!({ "claims": { "aud": "bots", "sub": name } })).await;
    let (first, second) = (service("first").await, service("second").await);
    let mut wire = Wire::connect(gateway.port).await;
    let port = gateway.port;
    wire.send(format!("GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {first}\r\n\r\n")).await;
    assert!(wire.some().await.starts_with(b"HTTP/1.1 200"));
    assert_eq!(get(&first).await.status, 429);
    gateway.audited("one at once", of_a_limit("service", "concurrent")).await;
    drop(wire);
    gateway.until("it has left", async || get(&first).await.status == 200).await;
    assert_eq!(get(&first).await.status, 429);
    gateway.audited("the service's limit", of_a_limit("service", "requests")).await;
    assert_eq!(get(&second).await.status, 200);
    let bob = gateway.sign_in(&provider, "bob").await;
    assert_eq!(gateway.get_as(&bob, "/x").await.status, 200, "whose jobs they are");
}
