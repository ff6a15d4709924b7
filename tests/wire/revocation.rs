//! Sessions listed, ended and locked out by operators and by their own people, and what a kill leaves of that.

use crate::streams::open_events;
use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration, program},
    http1::{Answer, Wire},
    person::NAVIGATION,
    provider::Provider,
    upstream::Upstream,
};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode};

async fn scene(env: &[(&str, &str)], provider: &str) -> Option<(Provider, Upstream, Gateway)> {
    let running = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&running.issuer, &upstream, provider, "", ""), POLICIES).await;
    Some((running, upstream, gateway))
}

/// Runs `vestibule sessions …` beside the process: exit code, output, errors.
pub(crate) async fn sessions(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let mut command = program();
    command.arg("-c").arg(gateway.path("vestibule.yaml")).arg("sessions").args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

/// The same with `--json`, which has to succeed.
async fn told(gateway: &Gateway, arguments: &[&str]) -> Value {
    let all: Vec<_> = arguments.iter().chain(&["--json"]).copied().collect();
    let (code, out, err) = sessions(gateway, &all).await;
    assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    serde_json::from_str(&out).expect("JSON")
}

async fn listed(gateway: &Gateway, arguments: &[&str]) -> Vec<Value> {
    let all: Vec<_> = ["list", "--json"].iter().chain(arguments).copied().collect();
    let (_, out, err) = sessions(gateway, &all).await;
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    value["sessions"].as_array().expect("a list").clone()
}

/// When the stream is over.
async fn over(mut wire: Wire) -> Instant {
    let start = Instant::now();
    while !wire.some().await.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "it goes on");
    }
    Instant::now()
}

fn own(gateway: &Gateway) -> String {
    format!("Origin: http://127.0.0.1:{}", gateway.port)
}

async fn page(gateway: &Gateway, browser: &Browser, target: &str) -> Answer {
    let cookies = gateway.cookies(browser);
    let lines: Vec<_> = [&*cookies].into_iter().chain(NAVIGATION.iter().copied()).collect();
    gateway.get(target, &lines).await
}

/// P27: an operator sees who is signed in, and ends all sessions of one person: at once, open streams within a second, tokens at
/// the provider too, and nobody else's. The trail has who did it, why, and what it hit.
#[tokio::test]
async fn p27_an_operator_lists_and_revokes() {
    let Some((provider, upstream, gateway)) = scene(&[], "").await else { return };
    let (first, second) = (gateway.sign_in(&provider, "alice").await, gateway.sign_in(&provider, "alice").await);
    let other = gateway.sign_in(&provider, "bob").await;
    let stream = open_events(&gateway, &first).await;
    let all = listed(&gateway, &[]).await;
    assert_eq!(all.len(), 3, "{all:?}");
    let theirs = listed(&gateway, &["--user", "gitlab:1"]).await;
    assert_eq!(theirs.len(), 2, "{theirs:?}");
    let one = theirs.iter().find(|one| one["streams"] == 1).expect("the one with the stream");
    assert_eq!((one["login"].as_str(), one["in_use"].as_bool()), (Some("alice"), Some(true)));
    assert_eq!((one["issuer"].as_str(), one["host"].as_str()), (Some(&*provider.issuer), Some("127.0.0.1")));
    assert!(one["began"].as_u64() <= one["seen"].as_u64() && one["seen"].as_u64() < one["ends"].as_u64());
    let id = one["id"].as_str().expect("a hash").to_owned();
    let who = |event: &Value| event["session"]["uid"] == *id && event["user"]["name"] == "alice";
    gateway.audited("the hash is the trail's", who).await;
    for (filter, count) in [
        (&["--login", "bob"][..], 1),
        (&["--provider", "gitlab"], 3),
        (&["--id", &id], 1),
        (&["--group", "gitlab:platform"], 2),
        (&["--group", "gitlab:platform/**"], 3),
        (&["--login", "alice", "--provider", "okta"], 0),
        (&["--limit", "2"], 2),
    ] {
        assert_eq!(listed(&gateway, filter).await.len(), count, "{filter:?}");
    }
    let (code, out, _) = sessions(&gateway, &["list"]).await;
    assert!(code == 0 && out.starts_with("id ") && out.contains("alice") && out.contains(&provider.issuer), "{out}");
    assert_eq!(sessions(&gateway, &["list", "--login", "nobody"]).await.0, 1);

    let tokens = provider.seen("/oauth/revoke").await;
    let over = tokio::spawn(over(stream));
    let begun = Instant::now();
    let (code, out, err) = sessions(&gateway, &["revoke", "--user", "gitlab:1", "--reason", "stolen laptop"]).await;
    let said = Instant::now();
    assert_eq!((code, out.trim()), (0, "2 sessions of 1 person have ended"), "{err}");
    let cut = over.await.expect("no panic");
    let late = cut.saturating_duration_since(said);
    println!("the stream was cut {:?} after the command was begun, {late:?} after it said so", cut - begun);
    assert!(late < Duration::from_secs(1), "{late:?}");
    upstream.take();
    for browser in [&first, &second] {
        assert_eq!(gateway.get_as(browser, "/").await.status, 401);
    }
    assert!(upstream.take().is_empty(), "the upstream saw nothing");
    assert_eq!(gateway.get_as(&other, "/").await.status, 200, "somebody else's");
    let act = |event: &Value| {
        event["unmapped"]["why"] == "sessions.revoke"
            && event["unmapped"]["reason"] == "stolen laptop"
            && event["unmapped"]["sessions"]["count"] == 2
            && event["entity"]["name"] == "user gitlab:1"
            && event["actor"]["user"]["name"].as_str().is_some_and(|by| by.starts_with("uid "))
    };
    gateway.audited("the act", act).await;
    let ended = |event: &Value| event["session"]["uid"] == *id && event["unmapped"]["why"] == "revoked";
    gateway.audited("each session's end", ended).await;
    gateway.until("tokens are revoked", async || provider.seen("/oauth/revoke").await == tokens + 2).await;
    let again = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&again, "/").await.status, 200, "she may sign in again");
    assert_eq!(sessions(&gateway, &["revoke", "--id", &id, "--reason", "again"]).await.0, 1, "none is left");
}

/// What is not said is not guessed: nothing is revoked or locked without saying what and why.
#[tokio::test]
async fn p27_nothing_ends_by_mistake() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    for (arguments, says) in [
        (&["revoke", "--reason", "x"][..], "--all"),
        (&["revoke", "--user", "gitlab:1"], "--reason"),
        (&["revoke", "--user", "gitlab:1", "--reason", " "], "reason is needed"),
        (&["revoke", "--user", "1", "--reason", "x"], "gitlab:907"),
        (&["revoke", "--id", "12", "--reason", "x"], "16 hexadecimal digits"),
        (&["revoke", "--all", "--user", "gitlab:1", "--reason", "x"], "cannot be used with"),
        (&["lock", "--reason", "x"], "--user"),
        (&["lock", "--user", "gitlab:1", "--provider", "gitlab", "--reason", "x"], "cannot be used with"),
        (&["lock", "--provider", "okta", "--reason", "x"], "no provider `okta`"),
        (&["lock", "--group", "platform", "--reason", "x"], "gitlab:acme/platform"),
        (&["lock", "--user", "gitlab:1", "--reason", "x", "--for", "2"], "no duration"),
        (&["lock", "--user", "gitlab:1", "--reason", "x", "--until", "2020-01-01"], "in the past"),
    ] {
        let (code, _, err) = sessions(&gateway, arguments).await;
        assert!(code == 2 && err.contains(says), "{arguments:?}: {code} {err}");
    }
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    assert_eq!(sessions(&gateway, &["locks"]).await.0, 1, "none is set");
    assert_eq!(sessions(&gateway, &["unlock", "--user", "gitlab:1"]).await.0, 1, "none was there");
    gateway.stop().await;
    for arguments in [&["list"][..], &["locks"], &["revoke", "--all", "--reason", "x"]] {
        let (code, out, _) = sessions(&gateway, arguments).await;
        assert_eq!((code, out.trim()), (1, "no process runs with this configuration"), "{arguments:?}");
    }
}

/// P27: what the command said has ended stays ended, though the process is killed the moment it said so. The sessions are only
/// stored when they are ended.
#[tokio::test]
async fn p27_what_is_revoked_survives_a_kill() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    let mut browsers = Vec::new();
    for _ in 0..20 {
        browsers.push(gateway.sign_in(&provider, "alice").await);
    }
    let other = gateway.sign_in(&provider, "bob").await;
    gateway.kill().await;
    gateway.run().await;
    assert!(listed(&gateway, &[]).await.iter().all(|one| one["in_use"] == false), "nobody came yet");
    let ended = told(&gateway, &["revoke", "--login", "alice", "--reason", "left the company"]).await;
    gateway.kill().await;
    assert_eq!(ended["ended"], 20, "{ended}");
    gateway.run().await;
    for browser in &browsers {
        assert_eq!(gateway.get_as(browser, "/").await.status, 401);
    }
    assert_eq!(gateway.get_as(&other, "/").await.status, 200);
    assert_eq!(listed(&gateway, &[]).await.len(), 1);
}

/// S-54: a session that a new sign-in replaced is nobody's after a kill, also within the seconds for which its handle still works.
#[tokio::test]
async fn s54_a_replaced_session_does_not_survive_a_kill() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    let old = gateway.sign_in(&provider, "alice").await;
    let new = gateway.sign_in_again(&provider, &old, "alice").await;
    assert_eq!(gateway.get_as(&old, "/").await.status, 200, "the old handle works a little longer");
    tokio::time::sleep(Duration::from_millis(500)).await; // it is written down by then
    gateway.kill().await;
    gateway.run().await;
    assert_eq!(gateway.get_as(&old, "/").await.status, 401);
    assert_eq!(gateway.get_as(&new, "/").await.status, 200);
}

/// Locks: who is locked is refused on the next request, with the reason and the end; streams are cut within a second; signing in
/// gives no session; a restart changes nothing; and all is as before when the lock is taken away.
#[tokio::test]
async fn p27_a_lock_keeps_a_person_out() {
    let Some((provider, upstream, mut gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let other = gateway.sign_in(&provider, "bob").await;
    let (stream, others) = (open_events(&gateway, &browser).await, open_events(&gateway, &other).await);
    let over = tokio::spawn(over(stream));
    let lock = ["lock", "--user", "gitlab:1", "--reason", "we call you <b>today</b>", "--for", "2h"];
    let begun = Instant::now();
    let set = told(&gateway, &lock).await;
    let said = Instant::now();
    assert_eq!((set["sessions"].as_u64(), set["streams"].as_u64()), (Some(1), Some(1)), "{set}");
    let cut = over.await.expect("no panic");
    let late = cut.saturating_duration_since(said);
    println!("the stream was cut {:?} after the command was begun, {late:?} after it said so", cut - begun);
    assert!(late < Duration::from_secs(1), "{late:?}");
    upstream.take();
    let refused = page(&gateway, &browser, "/").await;
    let text = refused.text();
    assert_eq!(refused.status, 403, "{text}");
    assert!(text.contains("Your access is locked") && text.contains("we call you &lt;b&gt;today&lt;/b&gt;."), "{text}");
    let until = audit_time(set["until"].as_u64().expect("an end"));
    assert!(text.contains(&until) && text.contains(refused.header("x-request-id").expect("an id")), "{text}");
    assert!(!text.contains("/.vestibule/sessions"), "{text}");
    let problem = gateway.get_as(&browser, "/public/page").await;
    assert_eq!((problem.status, problem.json()["code"].as_str()), (403, Some("locked")));
    assert!(upstream.take().is_empty(), "the upstream saw nothing");
    for target in ["/.vestibule/session", "/.vestibule/sessions", "/.vestibule/check-again?to=%2F"] {
        assert_eq!(gateway.get_as(&browser, target).await.status, 403, "{target}");
    }
    assert_eq!(gateway.get_as(&other, "/").await.status, 200, "somebody else");
    drop(others);
    let refusal = |event: &Value| event["status_code"] == "locked" && event["unmapped"]["cut"].is_null();
    let event = gateway.audited("the refusal", refusal).await;
    assert_eq!(event["disposition"], "Blocked", "{event}");
    assert!(event["unmapped"]["cause"].as_str().is_some_and(|cause| cause.contains("user gitlab:1")), "{event}");

    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let back = gateway.come_back(&callback.url, &binding).await;
    assert_eq!((back.status, back.json()["code"].as_str()), (403, Some("locked")), "{}", back.text());
    assert!(back.cookie(&gateway.session_cookie()).is_none(), "no session");
    gateway.audited("no session begins", |event| event["unmapped"]["why"] == "locked").await;
    let switch = page(&gateway, &browser, "/.vestibule/sign-in?to=%2F&switch=1").await;
    assert_eq!(switch.status, 200, "as somebody else: {}", switch.text());

    gateway.kill().await;
    gateway.run().await;
    assert_eq!(page(&gateway, &browser, "/").await.status, 403, "after a restart");
    let locks = told(&gateway, &["locks"]).await;
    assert_eq!((locks[0]["kind"].as_str(), locks[0]["target"].as_str()), (Some("user"), Some("gitlab:1")));
    let (_, table, _) = sessions(&gateway, &["locks"]).await;
    assert!(table.contains("gitlab:1") && table.contains("we call you"), "{table}");
    told(&gateway, &["unlock", "--user", "gitlab:1", "--reason", "found it"]).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "the session is still there");
    gateway.audited("the act", |event| event["unmapped"]["why"] == "sessions.unlock").await;
}

/// `2026-11-25T14:30:00Z` of milliseconds, as `date` writes it.
fn audit_time(millis: u64) -> String {
    let seconds = (millis / 1000).to_string();
    let date = std::process::Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%FT%TZ"]).output();
    String::from_utf8(date.expect("it runs").stdout).expect("text").trim().to_owned()
}

/// A lock by provider or by group keeps its people out, a WebSocket is closed with 1008, and a lock is over when its time is.
#[tokio::test]
async fn p27_locks_by_provider_and_group_end_in_time() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    let (alice, bob) = (gateway.sign_in(&provider, "alice").await, gateway.sign_in(&provider, "bob").await);
    let statuses = async || (gateway.get_as(&alice, "/").await.status, gateway.get_as(&bob, "/").await.status);
    assert_eq!(statuses().await, (200, 200));
    for (target, expected) in [
        (&["--group", "gitlab:platform"][..], (403, 200)),
        (&["--group", "gitlab:platform/portal"], (200, 403)),
        (&["--group", "gitlab:platform/**"], (403, 403)),
        (&["--group", "gitlab:plat/**"], (200, 200)),
        (&["--provider", "gitlab"], (403, 403)),
    ] {
        let lock: Vec<_> = ["lock", "--reason", "x"].iter().chain(target).copied().collect();
        let unlock: Vec<_> = ["unlock"].iter().chain(target).copied().collect();
        let set = told(&gateway, &lock).await;
        assert_eq!(set["invited_unseen"], target[0] == "--group", "no `membership.api` tells who was invited");
        let seen = statuses().await;
        told(&gateway, &unlock).await;
        // alice owns platform, and GitLab tells the groups below too
        let expected = if target[1] == "gitlab:platform/portal" { (seen.0, expected.1) } else { expected };
        assert_eq!(seen, expected, "{target:?}");
        assert_eq!(statuses().await, (200, 200), "{target:?} taken away");
    }
    let (_, out, _) = sessions(&gateway, &["lock", "--group", "gitlab:none", "--reason", "x", "--for", "1s"]).await;
    assert!(out.contains("because their group was invited are not kept out: that needs `membership.api`"), "{out}");
    told(&gateway, &["lock", "--provider", "gitlab", "--reason", "x", "--for", "2s"]).await;
    let set = Instant::now();
    assert_eq!(statuses().await.0, 403);
    gateway.until("its time is over", async || statuses().await == (200, 200)).await;
    assert!((1..6).contains(&set.elapsed().as_secs()), "{:?}", set.elapsed());
    assert_eq!(sessions(&gateway, &["locks"]).await.0, 1, "it is not told of any more");
}

/// A stream of a WebSocket is closed properly when its person is locked.
#[tokio::test]
async fn p27_a_lock_closes_a_websocket() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while socket.next().await.is_some() {}
            });
        }
    });
    let upstream = Upstream::start().await;
    let text = configuration(&provider.issuer, &upstream, "", "", "")
        .replace(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{port}"));
    let gateway = Gateway::start(&text, POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let mut request = format!("ws://127.0.0.1:{}/ws", gateway.port).into_client_request().expect("a request");
    let cookies = gateway.cookies(&browser);
    let headers = request.headers_mut();
    headers.insert("origin", own(&gateway)["Origin: ".len()..].parse().expect("a value"));
    headers.insert("cookie", cookies["Cookie: ".len()..].parse().expect("a value"));
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("it opens");
    told(&gateway, &["lock", "--group", "gitlab:platform/**", "--reason", "x"]).await;
    let closed = tokio::time::timeout(Duration::from_secs(1), socket.next()).await.expect("in time");
    match closed.expect("a frame").expect("whole") {
        Message::Close(Some(frame)) => assert_eq!(frame.code, CloseCode::Policy),
        other => panic!("{other:?}"),
    }
    gateway.audited("its end", |event| event["unmapped"]["cut"] == "locked").await;
}

/// Whom a lock by group means is not guessed: where nobody can tell a person's groups, they are refused and not let through.
#[tokio::test]
async fn p27_unknown_groups_let_nobody_through_a_lock() {
    let more = "    membership: { refresh: 30s, claim: nothing }\n";
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let text = configuration(&provider.issuer, &upstream, more, "", "").replace("kind: gitlab", "kind: oidc");
    let gateway = Gateway::start(&text, POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/public/page").await.status, 200, "no policy asks for groups");
    let stream = open_public_events(&gateway, &browser).await;
    let over = tokio::spawn(over(stream));
    told(&gateway, &["lock", "--group", "gitlab:contractors/**", "--reason", "x"]).await;
    let said = Instant::now();
    upstream.take();
    let refused = gateway.get_as(&browser, "/public/page").await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("membership_unknown")));
    assert!(refused.header("retry-after").is_some() && upstream.take().is_empty());
    let late = over.await.expect("no panic").saturating_duration_since(said);
    assert!(late < Duration::from_secs(1), "{late:?}");
    let (url, binding) = gateway.begin("/public/page", None).await;
    let callback = provider.authorize(&url, "bob").await;
    let back = gateway.come_back(&callback.url, &binding).await;
    assert_eq!(back.status, 503, "{}", back.text());
    assert!(back.cookie(&gateway.session_cookie()).is_none());
    assert_eq!(gateway.get("/public/page", &[]).await.status, 200, "whoever is nobody is not locked");
    let start = Instant::now();
    loop {
        let (code, out, _) = sessions(&gateway, &["revoke", "--group", "gitlab:contractors", "--reason", "x"]).await;
        if code == 1 && out.contains("the groups of 1 person are not known now") {
            break;
        }
        // the store has still to hear that the session ended that bob did not get
        assert!(start.elapsed() < Duration::from_secs(5), "{code} {out}");
    }
    told(&gateway, &["unlock", "--group", "gitlab:contractors/**"]).await;
    assert_eq!(gateway.get_as(&browser, "/public/page").await.status, 200);
}

async fn open_public_events(gateway: &Gateway, browser: &Browser) -> Wire {
    let mut wire = Wire::connect(gateway.port).await;
    let (host, cookies) = (gateway.port, gateway.cookies(browser));
    wire.send(format!("GET /public/sse HTTP/1.1\r\nHost: 127.0.0.1:{host}\r\n{cookies}\r\n\r\n")).await;
    let first = String::from_utf8_lossy(&wire.some().await).into_owned();
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    wire
}

/// Signs in with a browser that says what it is.
async fn sign_in_with(gateway: &Gateway, provider: &Provider, user: &str, agent: &str) -> Browser {
    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, user).await;
    let cookie = format!("Cookie: {}={binding}", gateway.binding_cookie());
    let target = &callback.url[url::Position::BeforePath..];
    let back = gateway.get(target, &[&cookie, &format!("User-Agent: {agent}")]).await;
    Browser { session: back.cookie(&gateway.session_cookie()).expect("a session"), binding }
}

/// A person sees where they are signed in and ends that, one by one or all but this; only from a page of ours, and only their own.
#[tokio::test]
async fn p27_a_person_ends_their_own_sessions() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    const LAPTOP: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const PHONE: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1";
    let here = sign_in_with(&gateway, &provider, "alice", LAPTOP).await;
    let phone = sign_in_with(&gateway, &provider, "alice", PHONE).await;
    let third = sign_in_with(&gateway, &provider, "alice", "<script>alert(1)</script>").await;
    let bob = gateway.sign_in(&provider, "bob").await;
    let shown = page(&gateway, &here, "/.vestibule/sessions").await;
    let text = shown.text();
    assert_eq!(shown.status, 200, "{text}");
    assert!(text.contains("Firefox on Linux") && text.contains("Safari on iPhone"), "{text}");
    assert!(!text.contains("<script>") && text.matches("this session").count() == 1, "{text}");
    assert_eq!(text.matches("action=\"/.vestibule/sessions?end=").count(), 2, "{text}");
    let csp = shown.header("content-security-policy").expect("a policy");
    assert!(csp.contains("default-src 'none'") && shown.header("cache-control") == Some("no-store"), "{csp}");
    let asks = page(&gateway, &here, "/.vestibule/sign-out").await.text();
    assert!(asks.contains("href=\"/.vestibule/sessions\""), "{asks}");

    let id = |login: &'static str, agent: &'static str| {
        let gateway = &gateway;
        async move {
            let all = listed(gateway, &["--login", login]).await;
            let found = all.iter().find(|one| one["device"].as_str().unwrap_or_default() == agent);
            found.expect("there")["id"].as_str().expect("a hash").to_owned()
        }
    };
    let end = format!("/.vestibule/sessions?end={}", id("alice", PHONE).await);
    let cookies = gateway.cookies(&here);
    for line in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Accept: */*"] {
        for target in [&*end, "/.vestibule/sessions?others=1"] {
            assert_eq!(gateway.request("POST", target, &[&cookies, line]).await.status, 403, "{line}");
        }
    }
    assert_eq!(gateway.request("GET", &end, &[&cookies]).await.status, 200, "a link ends nothing");
    assert_eq!(gateway.get_as(&phone, "/").await.status, 200);
    let own = own(&gateway);
    let foreign = format!(
        "/.vestibule/sessions?end={}",
        listed(&gateway, &["--login", "bob"]).await[0]["id"].as_str().expect("a hash")
    );
    for target in [&*foreign, "/.vestibule/sessions?end=0000000000000000"] {
        assert_eq!(gateway.request("POST", target, &[&cookies, &own]).await.status, 303, "{target}");
    }
    assert_eq!(gateway.request("POST", "/.vestibule/sessions", &[&cookies, &own]).await.status, 400);
    assert_eq!(gateway.request("POST", &end, &[&own]).await.status, 401, "nobody");
    assert_eq!(gateway.get_as(&bob, "/").await.status, 200, "somebody else's");

    let ended = gateway.request("POST", &end, &[&cookies, &own]).await;
    assert_eq!((ended.status, ended.header("location")), (303, Some("/.vestibule/sessions")));
    assert_eq!(gateway.get_as(&phone, "/").await.status, 401);
    assert_eq!(gateway.get_as(&third, "/").await.status, 200);
    gateway.audited("the end", |event| event["unmapped"]["why"] == "signed_out_elsewhere").await;
    let stream = open_events(&gateway, &third).await;
    let over = tokio::spawn(over(stream));
    let ended = gateway.request("POST", "/.vestibule/sessions?others=1", &[&cookies, &own]).await;
    assert_eq!(ended.status, 303);
    let said = Instant::now();
    assert!(over.await.expect("no panic").saturating_duration_since(said) < Duration::from_secs(1));
    assert_eq!(gateway.get_as(&third, "/").await.status, 401);
    assert_eq!(gateway.get_as(&here, "/").await.status, 200, "this one stays");
    let alone = page(&gateway, &here, "/.vestibule/sessions").await.text();
    assert!(!alone.contains("everywhere else") && alone.contains("this session"), "{alone}");
    let this = format!("/.vestibule/sessions?end={}", id("alice", LAPTOP).await);
    let leads = gateway.request("POST", &this, &[&cookies, &own]).await;
    assert_eq!(
        (leads.status, leads.header("location")),
        (303, Some("/.vestibule/sign-out")),
        "this one: by signing out"
    );
}

/// A person who is refused finds their sessions from there.
#[tokio::test]
async fn p57_the_page_of_a_refusal_leads_to_the_persons_sessions() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "mallory").await;
    let refused = page(&gateway, &browser, "/").await;
    assert!(refused.status == 403 && refused.text().contains("href=\"/.vestibule/sessions\""), "{}", refused.text());
    let nobody = gateway.get("/.vestibule/sessions", NAVIGATION).await;
    assert_eq!(nobody.status, 302, "to sign in");
    provider.admin("/admin/fault/clear", json!({})).await;
}
