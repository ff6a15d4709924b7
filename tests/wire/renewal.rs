//! A page asks who is signed in, and keeps a session alive; damaged cookies never keep anybody out.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    person::{NAVIGATION, Person},
    provider::Provider,
    upstream::Upstream,
};
use std::time::{Duration, Instant};
use url::Url;

async fn scene(env: &[(&str, &str)], more: &str) -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", more), POLICIES).await;
    Some((provider, upstream, gateway))
}

async fn renew(gateway: &Gateway, browser: &Browser, from: &str) -> u16 {
    let cookies = gateway.cookies(browser);
    gateway.request("POST", "/.vestibule/session/renew", &[&cookies, from]).await.status
}

/// P10, P12: asking never extends a session; renewing does, up to its absolute end, and for pages of this site only.
#[tokio::test]
async fn p10_asking_does_not_extend_a_session_and_renewing_does() {
    let Some((provider, _upstream, gateway)) = scene(&[], "sessions: { idle: 3s, absolute: 1h }\n").await else {
        return;
    };
    let browser = gateway.sign_in(&provider, "alice").await;
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    for from in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Accept: */*"] {
        assert_eq!(renew(&gateway, &browser, from).await, 403, "{from}");
    }
    assert_eq!(gateway.get_as(&browser, "/.vestibule/session/renew").await.status, 405);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(renew(&gateway, &browser, &own).await, 200, "after {:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let told = gateway.get_as(&browser, "/.vestibule/session").await.json();
    assert!(told["ends_in"].as_u64().is_some_and(|left| left <= 3), "{told}");
    assert!(told["absolute_end_in"].as_u64().is_some_and(|left| (3500..=3600).contains(&left)), "{told}");
    let asked = Instant::now();
    while gateway.get_as(&browser, "/.vestibule/session").await.status == 200 {
        assert!(asked.elapsed() < Duration::from_secs(5), "asking keeps it alive");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let answer = gateway.request("POST", "/.vestibule/session/renew", &[&gateway.cookies(&browser), &own]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (401, Some("no_session")), "too late");
}

/// P10: renewing refreshes the tokens in the last quarter of their life, before anybody has to wait for that.
#[tokio::test]
async fn p10_renewing_refreshes_tokens_that_end_soon() {
    let Some((provider, _upstream, gateway)) = scene(&[("ACCESS_TOKEN_TTL", "6")], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let before = provider.seen("/oauth/token").await;
    assert_eq!(renew(&gateway, &browser, &own).await, 200);
    assert_eq!(provider.seen("/oauth/token").await, before, "not yet");
    gateway
        .until("the tokens are refreshed", async || {
            assert_eq!(renew(&gateway, &browser, &own).await, 200);
            provider.seen("/oauth/token").await > before
        })
        .await;
}

/// S-58, S-53, P05: any byte of any cookie flipped, cookies cut, doubled, swapped or sealed for another purpose: never a 5xx, and
/// the next sign-in works.
#[tokio::test]
async fn s58_no_damaged_cookie_keeps_anybody_out() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    gateway.begin("/", None).await; // the provider is discovered
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let names = [gateway.session_cookie(), gateway.binding_cookie()];
    let value = |name: &String| alice.jar[&("127.0.0.1".to_owned(), name.clone())].clone();
    let good = [value(&names[0]), value(&names[1])];
    let pair = |session: &str, binding: &str| format!("{}={session}; {}={binding}", names[0], names[1]);
    let mut tricks = vec![
        pair(&good[1], &good[0]),
        pair("", ""),
        pair(&format!("\"{}\"", good[0]), &good[1]),
        pair(&good[0].repeat(3), &good[1].repeat(20)),
        pair(&good[0][..20], &good[1][..20]),
        format!("{}; {}", pair(&good[0], &good[1]), pair(&good[0], &good[1])),
        format!("{}; {}", pair("x", "y"), pair(&good[0], &good[1])),
    ];
    for (which, value) in good.iter().enumerate() {
        for at in 0..value.len() {
            let mut bytes = value.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let flipped = String::from_utf8(bytes).expect("ASCII");
            tricks.push(if which == 0 { pair(&flipped, &good[1]) } else { pair(&good[0], &flipped) });
        }
    }
    let mut wire = crate::support::http1::Wire::connect(gateway.port).await;
    for trick in &tricks {
        for target in [
            "/",
            "/.vestibule/sign-in?to=%2F",
            "/.vestibule/sign-in/gitlab",
            "/.vestibule/session",
            "/.vestibule/arrive?code=x",
            "/.vestibule/callback/gitlab?code=x&state=y",
        ] {
            let lines: String = NAVIGATION.iter().map(|line| format!("{line}\r\n")).collect();
            wire.send(format!(
                "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nCookie: {trick}\r\n{lines}\r\n",
                gateway.port
            ))
            .await;
            let answer = wire.answer().await.expect("an answer");
            assert!(answer.status < 500, "{} for {target} with {trick}", answer.status);
        }
    }
    let url = Url::parse(&format!("http://127.0.0.1:{}/", gateway.port)).expect("a URL");
    for trick in tricks.iter().step_by(7) {
        let mut damaged = Person::default();
        for (name, value) in trick.split("; ").filter_map(|pair| pair.split_once('=')) {
            damaged.jar.insert(("127.0.0.1".to_owned(), name.to_owned()), value.to_owned());
        }
        let end = damaged.go(&gateway, &provider, url.as_str(), "alice").await;
        assert_eq!(end.answer.status, 200, "with {trick}: {}", end.answer.text());
    }
}
