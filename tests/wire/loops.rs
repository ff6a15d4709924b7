//! Loops end, and late or stale callbacks lead on.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration},
    person::{NAVIGATION, Person},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::json;
use url::Url;

async fn scene() -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    gateway.begin("/", None).await; // the provider is discovered
    Some((provider, upstream, gateway))
}

/// P04: a session cookie that never comes back ends in a page that says so, and one event; not in a loop.
#[tokio::test]
async fn p04_a_lost_session_cookie_is_named_after_three_rounds() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person { loses: Some(gateway.session_cookie()), ..Person::default() };
    let end = alice.go(&gateway, &provider, "http://127.0.0.1:PORT/deep", "alice").await;
    assert_eq!(end.answer.status, 400);
    let page = end.answer.text();
    assert!(
        page.contains("Signing in goes round in circles") && page.contains("came back without the cookie"),
        "{page}"
    );
    assert!(page.contains(&gateway.session_cookie()), "{page}");
    assert_eq!(provider.seen("/oauth/token").await, 3, "three rounds");
    gateway.audited("the loop", |event| event.to_string().contains("sign_in_loop")).await;
    // the person mends it and starts again from the page
    alice.loses = None;
    let again = format!("{}&again=1", end.url);
    assert!(page.contains("again=1"), "{page}");
    let home = alice.go(&gateway, &provider, &again, "alice").await;
    assert_eq!((home.answer.status, home.url.path()), (200, "/deep"));
}

/// P04: a browser that keeps no cookies at all is told so at once.
#[tokio::test]
async fn p04_a_browser_without_cookies_is_told_so_at_once() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person { loses: Some(gateway.binding_cookie()), ..Person::default() };
    let end = alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    assert_eq!(end.answer.status, 400);
    assert!(end.answer.text().contains("came back without the cookie"), "{}", end.answer.text());
    assert_eq!(provider.seen("/oauth/token").await, 0, "no code is redeemed");
}

/// P04: a session that is over as soon as it began ends in a page that says so, also where files of open pages have grace.
#[tokio::test]
async fn p04_a_session_that_is_over_at_once_is_named() {
    for route in ["", "    grace: { paths: [\"/static/*\"], for: 1h }\n"] {
        let Some(provider) = Gateway::provider(&[]) else { return };
        let upstream = Upstream::start().await;
        let written = configuration(&provider.issuer, &upstream, "", route, "sessions: { idle: 1s, absolute: 1h }\n");
        let gateway = Gateway::start(&written, POLICIES).await;
        gateway.begin("/", None).await; // the provider is discovered
        provider.fault("/oauth/token", json!({ "delay_ms": 2100, "times": 9 })).await;
        let mut alice = Person::default();
        let end = alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
        assert_eq!(end.answer.status, 400, "{}", end.answer.text());
        assert!(end.answer.text().contains("over as soon as it began"), "{}", end.answer.text());
        assert_eq!(provider.seen("/oauth/token").await, 3, "three rounds");
    }
}

/// P04, S-52: two session cookies are none, and the page says that they are two.
#[tokio::test]
async fn p04_two_session_cookies_are_named() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    let url = Url::parse(&format!("http://127.0.0.1:{}/", gateway.port)).expect("a URL");
    let sign_in = url.join("/.vestibule/sign-in?to=%2F").expect("a URL");
    let twice = format!("Cookie: {0}=a; {0}=b", gateway.session_cookie());
    for round in 0..4 {
        let page = alice.send(&gateway, "GET", &sign_in, &[NAVIGATION, &[&*twice]].concat()).await;
        if round == 3 {
            assert_eq!(page.status, 400);
            assert!(page.text().contains("more than once"), "{}", page.text());
            return;
        }
        assert_eq!(page.status, 200, "{round}: {}", page.text());
        alice.jar.remove(&("127.0.0.1".to_owned(), gateway.session_cookie()));
        alice.go(&gateway, &provider, url.join("/.vestibule/sign-in/gitlab").expect("a URL").as_str(), "alice").await;
        alice.jar.remove(&("127.0.0.1".to_owned(), gateway.session_cookie()));
    }
    panic!("no end");
}

/// P03: a callback whose state is unknown begins the sign-in anew, once, without redeeming the code; then it is a page.
#[tokio::test]
async fn p03_a_bookmarked_callback_begins_anew_once() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let callback = format!("http://127.0.0.1:{}/.vestibule/callback/gitlab?code=stale&state=AAAA", gateway.port);
    let on = alice.go(&gateway, &provider, &callback, "alice").await;
    assert_eq!((on.answer.status, on.url.path()), (200, "/"), "signed in by now: it leads on");
    assert_eq!(on.way.len(), 2);
    let mut bob = Person::default();
    let url = Url::parse(&callback).expect("a URL");
    let page = bob.send(&gateway, "GET", &url, NAVIGATION).await;
    assert_eq!(page.status, 400, "no cookie, no state: nobody can tell the first time from the second");
    assert!(page.text().contains("Start again"), "{}", page.text());
    let begun = url.join("/.vestibule/sign-in/gitlab").expect("a URL");
    bob.send(&gateway, "GET", &begun, NAVIGATION).await; // the login page that is left open
    let seen = provider.seen("/oauth/token").await;
    let anew = bob.send(&gateway, "GET", &url, NAVIGATION).await;
    assert_eq!(anew.status, 303);
    assert!(anew.header("location").expect("on").starts_with("/.vestibule/sign-in/gitlab?to=%2F&anew=1"));
    let second = bob.send(&gateway, "GET", &url, NAVIGATION).await;
    assert_eq!(second.status, 400, "once");
    assert_eq!(provider.seen("/oauth/token").await, seen, "no code is redeemed");
}

/// Needs P10: a popup ends on a page that tells the one that opened it.
#[tokio::test]
async fn p10_a_popup_ends_on_a_page_that_tells() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    for _ in 0..2 {
        let end = alice.go(&gateway, &provider, "http://127.0.0.1:PORT/.vestibule/sign-in?popup=1", "alice").await;
        assert_eq!((end.answer.status, end.url.path()), (200, "/.vestibule/signed-in"));
        assert!(end.answer.text().contains("signed-in.js"), "{}", end.answer.text());
    }
    let script = gateway.get("/.vestibule/assets/signed-in.js", &[]).await;
    assert!(script.text().contains("location.origin") && script.text().contains("BroadcastChannel"));
}
