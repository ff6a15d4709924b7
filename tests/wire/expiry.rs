//! A session ends while a page is open: forms are kept, files of the page go on for a while, polling keeps nothing alive.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::json;
use std::time::{Duration, Instant};

async fn scene(env: &[(&str, &str)], route: &str, more: &str) -> Option<(Provider, Upstream, Gateway, Browser)> {
    let provider = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let membership = "    membership: { refresh: 1s }\n";
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, membership, route, more), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    Some((provider, upstream, gateway, browser))
}

const FETCH: &[&str] = &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"];
const SCRIPT: &[&str] = &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script", "Accept: */*"];
const PAGE: &[&str] = &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"];

async fn ask(gateway: &Gateway, browser: &Browser, method: &str, target: &str, lines: &[&str]) -> u16 {
    let cookies = gateway.cookies(browser);
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let mut lines = lines.to_vec();
    lines.extend([&*cookies, &*own]);
    gateway.request(method, target, &lines).await.status
}

/// How long a session of `idle` 2 s lives while a page asks `target` five times a second; at most 6 s.
async fn lives(gateway: &Gateway, browser: &Browser, method: &str, target: &str) -> Option<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(6) {
        if ask(gateway, browser, method, target, FETCH).await == 401 {
            return Some(start.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

/// P12: a page that polls is signed out when its person does nothing; what else counts is the route's to say.
#[tokio::test]
async fn p12_polling_keeps_no_session_alive() {
    let more = "sessions: { idle: 2s, absolute: 1h }\n";
    for (route, method, target, lasts) in [
        ("", "GET", "/poll", false),
        ("", "POST", "/poll", false),
        ("    idle: [\"/edit/*\"]\n", "GET", "/poll", false),
        ("    idle: [\"/edit/*\"]\n", "POST", "/edit/7", true),
        ("    idle: any\n", "GET", "/poll", true),
    ] {
        let Some((_provider, _upstream, gateway, browser)) = scene(&[], route, more).await else { return };
        let lived = lives(&gateway, &browser, method, target).await;
        match lived {
            None => assert!(lasts, "{method} {target} with `{route}` keeps it alive"),
            Some(lived) => {
                assert!(!lasts, "{method} {target} with `{route}`: {lived:?}");
                assert!((1..=4).contains(&lived.as_secs()), "{lived:?}");
            }
        }
    }
    let Some((_provider, _upstream, gateway, browser)) = scene(&[], "", more).await else { return };
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        assert_eq!(ask(&gateway, &browser, "GET", "/page", PAGE).await, 200, "going to pages does");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// P65: the files of an open page are served for a while after its person's session ended by its clocks, to that person, as
/// long as policies permit; nothing else is.
#[tokio::test]
async fn p65_files_of_an_open_page_outlive_the_session() {
    let route = "    grace: { paths: [\"/static/*\"], for: 1h }\n";
    let more = "sessions: { idle: 2s, absolute: 1h }\n";
    let Some((provider, _upstream, gateway, browser)) = scene(&[], route, more).await else { return };
    gateway.until("it expires", async || gateway.get_as(&browser, "/.vestibule/session").await.status == 401).await;
    gateway.audited("its end", |event| event["unmapped"]["why"] == "idle").await;
    assert_eq!(ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await, 200);
    assert_eq!(ask(&gateway, &browser, "GET", "/STATIC/chunk.js", SCRIPT).await, 200);
    for (method, target, lines, status) in [
        ("GET", "/api/x", SCRIPT, 401),
        ("GET", "/static", SCRIPT, 401),
        ("POST", "/static/chunk.js", FETCH, 401),
        ("GET", "/static/page.html", PAGE, 302),
        ("GET", "/.vestibule/session", FETCH, 401),
    ] {
        assert_eq!(ask(&gateway, &browser, method, target, lines).await, status, "{method} {target}");
    }
    let stranger = Browser { session: "A".repeat(43), ..browser.clone() };
    assert_eq!(ask(&gateway, &stranger, "GET", "/static/chunk.js", SCRIPT).await, 401);
    // access follows the person: who is removed gets nothing
    provider.admin("/admin/user", json!({ "user": "alice", "memberships": {} })).await;
    gateway
        .until("the removed person is refused", async || {
            ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await == 403
        })
        .await;
    let ends = gateway.audit().iter().filter(|event| event["unmapped"]["why"] == "idle").count();
    assert_eq!(ends, 1, "a session ends once");
}

/// P65: a session that its clocks ended stays ended and is told once, whatever is restarted or configured anew; its files go on.
#[tokio::test]
async fn p65_a_session_ends_once_whatever_is_restarted() {
    let route = "    grace: { paths: [\"/static/*\"], for: 1h }\n";
    let short = "sessions: { idle: 2s, absolute: 1h }\n";
    let Some((_provider, _upstream, mut gateway, browser)) = scene(&[], route, short).await else { return };
    gateway.until("it expires", async || gateway.get_as(&browser, "/.vestibule/session").await.status == 401).await;
    gateway.stop().await;
    let written = std::fs::read_to_string(gateway.path("vestibule.yaml")).expect("read");
    let longer = written.replace("idle: 2s", "idle: 1h");
    assert_ne!(longer, written);
    std::fs::write(gateway.path("vestibule.yaml"), longer).expect("written");
    gateway.run().await;
    assert_eq!(ask(&gateway, &browser, "GET", "/.vestibule/session", FETCH).await, 401, "it stays ended");
    assert_eq!(ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await, 200);
    let page = gateway.get("/page", &[&gateway.cookies(&browser), PAGE[0], PAGE[1], PAGE[2]]).await;
    assert_eq!(page.status, 302);
    gateway.stop().await;
    let ends = gateway.audit().iter().filter(|event| event["unmapped"]["why"] == "idle").count();
    assert_eq!(ends, 1, "a session ends once");
}

/// P65: a session that was ended on purpose has no grace, and grace ends.
#[tokio::test]
async fn p65_who_signed_out_gets_nothing_and_grace_ends() {
    let route = "    grace: { paths: [\"/static/*\"], for: 3s }\n";
    let more = "sessions: { idle: 2s, absolute: 1h }\n";
    let Some((provider, _upstream, gateway, browser)) = scene(&[], route, more).await else { return };
    assert_eq!(ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await, 200);
    assert_eq!(ask(&gateway, &browser, "POST", "/.vestibule/sign-out", PAGE).await, 303);
    assert_eq!(ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await, 401, "signed out");
    let browser = gateway.sign_in(&provider, "alice").await;
    gateway.until("it expires", async || gateway.get_as(&browser, "/.vestibule/session").await.status == 401).await;
    assert_eq!(ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await, 200, "grace");
    gateway.until("grace ends", async || ask(&gateway, &browser, "GET", "/static/chunk.js", SCRIPT).await == 401).await;
}

/// P11: a form that is sent when the session has ended is answered by a page that keeps it, and its target is never asked for
/// by GET.
#[tokio::test]
async fn p11_a_form_is_kept() {
    let Some((_provider, upstream, gateway, _browser)) = scene(&[], "", "").await else { return };
    let own = format!("http://127.0.0.1:{}", gateway.port);
    let (referer, origin) = (format!("Referer: {own}/edit?id=7"), format!("Origin: {own}"));
    let lines = [PAGE, &["Content-Type: application/x-www-form-urlencoded", &*referer, &*origin]].concat();
    let page = gateway.request("POST", "/save", &lines).await;
    assert_eq!((page.status, page.header("location")), (401, None));
    let text = page.text();
    assert!(text.contains("What you typed is not lost") && text.contains("form.js"), "{text}");
    assert!(text.contains("/.vestibule/sign-in?popup=1") && text.contains("href=\"/edit?id=7\""), "{text}");
    assert!(!text.contains("/save"), "the form's target is no link");
    assert!(upstream.take().is_empty());
    let script = gateway.get("/.vestibule/assets/form.js", &[]).await;
    assert!(script.text().contains("location.reload()"));
}
