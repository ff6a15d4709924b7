//! Sessions, refresh, membership and sign-out over the wire.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    http1::Wire,
    provider::Provider,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::os::unix::fs::FileTypeExt;
use std::time::{Duration, Instant};

async fn scene(env: &[(&str, &str)], provider: &str, more: &str) -> Option<(Provider, Upstream, Gateway)> {
    let running = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&running.issuer, &upstream, provider, "", more), POLICIES).await;
    Some((running, upstream, gateway))
}

fn membership(refresh: &str) -> String {
    format!("    membership: {{ refresh: {refresh} }}\n")
}

/// A session is in the store: it survives a restart, and the groups are read again before anything is decided.
#[tokio::test]
async fn a_session_survives_a_restart() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    gateway.stop().await;
    gateway.run().await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    let who = gateway.get_as(&browser, "/.vestibule/session").await.json();
    assert_eq!((who["user"].as_str(), who["login"].as_str()), (Some("gitlab:1"), Some("alice")));
}

/// S-45: only a page of ours signs out, and then the old cookie is dead.
#[tokio::test]
async fn s45_only_our_own_page_signs_out() {
    let Some((provider, upstream, gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let cookies = gateway.cookies(&browser);
    for line in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Accept: */*"] {
        let answer = gateway.request("POST", "/.vestibule/sign-out", &[&cookies, line]).await;
        assert_eq!(answer.status, 403, "{line}");
    }
    let page = gateway.get("/.vestibule/sign-out", &[&cookies, "Sec-Fetch-Site: cross-site"]).await;
    assert_eq!(page.status, 200);
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "still signed in");
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let out = gateway.request("POST", "/.vestibule/sign-out", &[&cookies, &own]).await;
    assert_eq!((out.status, out.header("location")), (303, Some("/.vestibule/sign-out?from=gitlab")));
    assert!(out.header("clear-site-data").is_some());
    upstream.take();
    assert_eq!(gateway.get_as(&browser, "/").await.status, 401, "S-54: the old cookie is dead");
    assert!(upstream.take().is_empty());
    let page = gateway.get("/.vestibule/sign-out", &[]).await.text();
    assert!(page.contains("You are signed out") && page.contains("still be signed in at"), "{page}");
    gateway.audited("the sign-out", |record| record.to_string().contains("signed_out")).await;
}

/// P16: whoever leaves the group is refused within the clock, and the trail says what changed.
#[tokio::test]
async fn who_leaves_the_group_is_refused_within_the_clock() {
    let Some((provider, upstream, gateway)) = scene(&[], &membership("1s"), "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    provider.admin("/admin/user", json!({ "user": "alice", "memberships": {} })).await;
    let left = Instant::now();
    while gateway.get_as(&browser, "/").await.status == 200 {
        assert!(left.elapsed() < Duration::from_secs(4), "still inside");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    upstream.take();
    let refused = gateway.get_as(&browser, "/").await;
    assert_eq!(refused.status, 403);
    assert!(upstream.take().is_empty(), "the upstream saw nothing");
    let problem = refused.json();
    assert_eq!(problem["code"], "not_permitted");
    assert!(problem.to_string().contains("The application is for everyone in platform."), "{problem}");
    let changed = gateway.audited("the change", |record| record.to_string().contains("platform/portal")).await;
    assert!(changed.to_string().contains("removed"), "{changed}");
}

/// P17: whoever was just added passes on the next try, without a new sign-in.
#[tokio::test]
async fn who_was_just_added_passes_on_the_next_click() {
    let Some((provider, _upstream, gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "mallory").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 403);
    provider.admin("/admin/user", json!({ "user": "mallory", "memberships": { "platform": "guest" } })).await;
    let added = Instant::now();
    while gateway.get_as(&browser, "/").await.status != 200 {
        assert!(added.elapsed() < Duration::from_secs(12), "still outside");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// P57, P17: "Check again" has the groups read at once, however fresh they are, and leads back to the page.
#[tokio::test]
async fn p57_check_again_reads_the_groups_at_once() {
    let Some((provider, upstream, gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "mallory").await;
    let cookies = gateway.cookies(&browser);
    let page = gateway.get("/deep?a=1", &[&cookies, "Accept: text/html"]).await;
    let button = "/.vestibule/check-again?to=%2Fdeep%3Fa%3D1";
    assert!(page.status == 403 && page.text().contains(&format!("href=\"{button}\"")), "{}", page.text());
    provider.admin("/admin/user", json!({ "user": "mallory", "memberships": { "platform": "guest" } })).await;
    let before = provider.seen("/oauth/userinfo").await;
    let back = gateway.get(button, &[&cookies, "Accept: text/html"]).await;
    assert_eq!((back.status, back.header("location")), (303, Some("/deep?a=1")));
    assert_eq!(back.header("cache-control"), Some("no-store"));
    assert_eq!(provider.seen("/oauth/userinfo").await, before + 1, "the groups were read");
    assert!(upstream.take().is_empty());
    assert_eq!(gateway.get("/deep?a=1", &[&cookies, "Accept: text/html"]).await.status, 200);
    for (target, location) in [("//evil.example/", "/"), ("https://evil.example/", "/"), ("/.vestibule/sign-out", "/")]
    {
        let to: String = url::form_urlencoded::byte_serialize(target.as_bytes()).collect();
        let back = gateway.get(&format!("/.vestibule/check-again?to={to}"), &[&cookies]).await;
        assert_eq!((back.status, back.header("location")), (303, Some(location)), "S-46: {target}");
    }
    assert_eq!(gateway.get(button, &[]).await.status, 303, "nobody's groups are not read");
    assert_eq!(gateway.request("POST", button, &[&cookies]).await.status, 405);
}

/// P23: a rejected refresh token ends the session at once; an outage does not.
#[tokio::test]
async fn a_rejected_refresh_ends_the_session_and_an_outage_does_not() {
    let Some((provider, _upstream, gateway)) = scene(&[("ACCESS_TOKEN_TTL", "4")], &membership("1s"), "").await else {
        return;
    };
    let browser = gateway.sign_in(&provider, "alice").await;
    provider.fault("/oauth/userinfo", json!({ "status": 503, "times": 1000 })).await;
    for down in [json!({ "status": 503 }), json!({ "status": 404, "body": "<html>maintenance</html>" })] {
        provider.fault("/oauth/token", json!({ "times": 1000, "status": down["status"], "body": down["body"] })).await;
        let outage = Instant::now();
        while outage.elapsed() < Duration::from_secs(6) {
            assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "an outage ends no session");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        provider.admin("/admin/fault/clear", json!({})).await;
        provider.fault("/oauth/userinfo", json!({ "status": 503, "times": 1000 })).await;
    }
    provider.admin("/admin/fault/clear", json!({})).await;
    provider.admin("/admin/revoke", json!({ "user": "alice" })).await;
    let revoked = Instant::now();
    while gateway.get_as(&browser, "/").await.status == 200 {
        assert!(revoked.elapsed() < Duration::from_secs(20), "still inside");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(gateway.get_as(&browser, "/").await.status, 401);
    gateway.audited("the end", |record| record.to_string().contains("refresh_rejected")).await;
}

/// A provider that refuses the very token that it gave a moment ago means the person. One that forbids may mean our address.
#[tokio::test]
async fn who_is_refused_with_a_fresh_token_is_out() {
    let Some((provider, _upstream, gateway)) = scene(&[], &membership("1s"), "").await else { return };
    let (alice, bob) = (gateway.sign_in(&provider, "alice").await, gateway.sign_in(&provider, "bob").await);
    assert_eq!((gateway.get_as(&alice, "/").await.status, gateway.get_as(&bob, "/").await.status), (200, 200));
    provider.fault("/oauth/userinfo", json!({ "status": 403, "times": 2 })).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(gateway.get_as(&bob, "/").await.status, 200, "what is known serves on");
    provider.admin("/admin/fault/clear", json!({})).await;
    provider.fault("/oauth/userinfo", json!({ "status": 401, "times": 1000 })).await;
    gateway.until("alice is out", async || gateway.get_as(&alice, "/").await.status == 401).await;
    gateway.audited("the end", |record| record.to_string().contains("token_refused")).await;
    assert_eq!(provider.seen("/oauth/token").await, 4, "two sign-ins, and one refresh for each");
}

/// A blocked person is out within the clock: GitLab sends no hook for that.
#[tokio::test]
async fn a_blocked_person_is_out_within_the_clock() {
    let Some((provider, _upstream, gateway)) = scene(&[], &membership("1s"), "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    provider.admin("/admin/block", json!({ "user": "alice" })).await;
    let blocked = Instant::now();
    while gateway.get_as(&browser, "/").await.status == 200 {
        assert!(blocked.elapsed() < Duration::from_secs(5), "still inside");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(gateway.get_as(&browser, "/").await.status, 401);
}

/// S-58: any flip or cut of the cookie leads to sign-in, never to a fault.
#[tokio::test]
async fn s58_a_damaged_cookie_is_nobody() {
    let Some((provider, _upstream, gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    for at in 0..browser.session.len() {
        let mut bytes = browser.session.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let session = String::from_utf8(bytes).expect("ASCII");
        if at == browser.session.len() - 1 && session[..at] == browser.session[..at] {
            continue; // the last character has bits that carry nothing
        }
        let damaged = Browser { session, binding: browser.binding.clone() };
        assert_eq!(gateway.get_as(&damaged, "/").await.status, 401, "{at}");
    }
    for cut in [0, 1, 20, 42] {
        let damaged = Browser { session: browser.session[..cut].to_owned(), binding: browser.binding.clone() };
        assert_eq!(gateway.get_as(&damaged, "/").await.status, 401, "{cut}");
    }
}

/// S-52: two cookies of our name count as none.
#[tokio::test]
async fn s52_two_cookies_of_our_name_are_none() {
    let Some((provider, upstream, gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let (name, evil) = (gateway.session_cookie(), "E".repeat(43));
    for pair in
        [format!("{name}={evil}; {name}={}", browser.session), format!("{name}={}; {name}={evil}", browser.session)]
    {
        assert_eq!(gateway.get("/twice", &[&format!("Cookie: {pair}")]).await.status, 401);
    }
    let is_audited = |event: &Value| {
        event["http_request"]["url"]["path"] == "/twice" && event["unmapped"]["cookies"] == "two_session_cookies"
    };
    gateway.audited("that there were two", is_audited).await;
    assert!(upstream.take().is_empty());
}

/// S-55: idle and absolute lives end a session on the server.
#[tokio::test]
async fn s55_an_idle_session_ends() {
    let Some((provider, _upstream, gateway)) = scene(&[], "", "sessions: { idle: 2s, absolute: 8s }\n").await else {
        return;
    };
    let (idle, busy) = (gateway.sign_in(&provider, "alice").await, gateway.sign_in(&provider, "alice").await);
    let cookies = gateway.cookies(&busy);
    let navigate =
        async || gateway.get("/", &[&cookies, "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]).await.status;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(3500) {
        assert_eq!(navigate().await, 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(gateway.get_as(&idle, "/").await.status, 401);
    while start.elapsed() < Duration::from_millis(9500) {
        navigate().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(gateway.get_as(&busy, "/").await.status, 401);
    gateway.audited("the idle end", |record| record.to_string().contains("\"idle\"")).await;
    gateway.audited("the absolute end", |record| record.to_string().contains("\"absolute\"")).await;
}

/// S-56: the store on disk holds neither handle nor tokens nor login.
#[tokio::test]
async fn s56_the_state_directory_holds_no_secret() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "", "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    gateway.get_as(&browser, "/").await;
    gateway.stop().await;
    let mut directories = vec![gateway.path("state")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory").flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_socket()) {
                continue;
            }
            let bytes = std::fs::read(entry.path()).expect("read");
            for secret in [&browser.session, &browser.binding, "vestibule-test-secret-0123456789"] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} in {}", secret, entry.path().display());
            }
        }
    }
    let log = gateway.log();
    assert!(!log.contains(&browser.session) && !log.contains(&browser.binding), "S-99: the log holds a handle");
}

/// S-57, S-90: whoever waited for a refresh that failed is content with that: fifty requests ask the provider once.
#[tokio::test]
async fn s57_parallel_requests_share_a_refresh_that_fails() {
    let Some((provider, _upstream, gateway)) = scene(&[("ACCESS_TOKEN_TTL", "4")], &membership("1s"), "").await else {
        return;
    };
    for rejects in [false, true] {
        provider.admin("/admin/fault/clear", json!({})).await;
        let browser = gateway.sign_in(&provider, "alice").await;
        if rejects {
            provider.admin("/admin/revoke", json!({ "user": "alice" })).await;
        } else {
            provider.fault("/oauth/token", json!({ "status": 503, "delay_ms": 300, "times": 1000 })).await;
        }
        let before = provider.seen("/oauth/token").await;
        tokio::time::sleep(Duration::from_millis(4500)).await;
        let line =
            format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{}\r\n\r\n", gateway.port, gateway.cookies(&browser));
        let mut requests = Vec::new();
        for _ in 0..50 {
            let (port, line) = (gateway.port, line.clone());
            requests.push(tokio::spawn(async move {
                let mut wire = Wire::connect(port).await;
                wire.send(line).await;
                wire.answer().await.map(|answer| answer.status)
            }));
        }
        for request in requests {
            assert!(request.await.expect("no panic").is_some());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(provider.seen("/oauth/token").await - before, 1);
    }
}

/// What is under way when the program is told to stop is finished: an ended session stays ended.
#[tokio::test]
async fn a_session_that_was_replaced_does_not_come_back_after_a_restart() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "", "").await else { return };
    let old = gateway.sign_in(&provider, "alice").await;
    let new = gateway.sign_in_again(&provider, &old, "alice").await;
    assert_eq!(gateway.get_as(&old, "/").await.status, 200, "the old handle works a little longer");
    gateway.stop().await;
    gateway.run().await;
    assert_eq!(gateway.get_as(&old, "/").await.status, 401);
    assert_eq!(gateway.get_as(&new, "/").await.status, 200);
}

/// The scene at a provider that is no GitLab.
async fn plain_scene(env: &[(&str, &str)], provider: &str) -> Option<(Provider, Upstream, Gateway)> {
    let running = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let configuration = configuration(&running.issuer, &upstream, provider, "", "");
    let configuration = configuration.replace("kind: gitlab", "kind: oidc");
    let gateway = Gateway::start(&configuration, POLICIES).await;
    Some((running, upstream, gateway))
}

/// P24: a provider that does not tell groups is not asked for them all the time.
#[tokio::test]
async fn a_provider_without_groups_is_asked_once_an_interval() {
    let more = "    membership: { refresh: 30s, claim: nothing }\n";
    let Some((provider, _upstream, gateway)) = plain_scene(&[], more).await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        let asked = Instant::now();
        assert_eq!(gateway.get_as(&browser, "/").await.status, 503, "whether she is in the group is unknown");
        assert!(asked.elapsed() < Duration::from_secs(1), "nobody waits");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(provider.seen("/oauth/token").await, 1, "the sign-in alone");
}

/// P24: the groups that a refresh of the tokens brings count as read then.
#[tokio::test]
async fn groups_of_an_ordinary_refresh_are_used() {
    let env = [("ACCESS_TOKEN_TTL", "8"), ("ID_TOKEN_CLAIMS", "all")];
    let Some((provider, _upstream, gateway)) = plain_scene(&env, &membership("10s")).await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(11) {
        assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(provider.seen("/oauth/token").await, 2, "the sign-in, and a refresh that brought both");
}
