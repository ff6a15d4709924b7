//! Refreshing a session's tokens while everybody comes at once, the provider is slow, clients leave, or its answer is lost.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    http1::Wire,
    person::{NAVIGATION, Person},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TOKEN: &str = "/oauth/token";
const USERINFO: &str = "/oauth/userinfo";

/// Alice, signed in; her groups are read every `membership`.
async fn scene(env: &[(&str, &str)], membership: &str) -> Option<(Provider, Upstream, Gateway, Browser)> {
    let provider = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let membership = format!("    membership: {{ refresh: {membership} }}\n");
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, &membership, "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    Some((provider, upstream, gateway, browser))
}

/// From now on access tokens live so many seconds.
async fn tokens_live(provider: &Provider, seconds: u64) {
    provider.admin("/admin/lives", json!({"access_token": seconds})).await;
}

/// How many token requests the provider has seen, the sign-in's among them.
async fn grants(provider: &Provider) -> u64 {
    provider.seen(TOKEN).await
}

/// The session is used until the provider has seen so many token requests, and is served until then; what the last one brings may
/// be quicker than we look.
async fn served_until(gateway: &Gateway, browser: &Browser, provider: &Provider, number: u64) {
    let start = Instant::now();
    while grants(provider).await < number {
        let status = gateway.get_as(browser, "/").await.status;
        assert!(status == 200 || grants(provider).await >= number, "{status} after {:?}", start.elapsed());
        assert!(start.elapsed() < Duration::from_secs(25), "no token request {number}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends a request that needs no answer, on a connection of its own.
async fn send(gateway: &Gateway, method: &str, target: &str, browser: &Browser) -> Wire {
    let (port, cookies) = (gateway.port, gateway.cookies(browser));
    let own = format!("Host: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n{cookies}\r\nContent-Length: 0");
    let mut wire = Wire::connect(port).await;
    wire.send(format!("{method} {target} HTTP/1.1\r\n{own}\r\n\r\n")).await;
    wire
}

async fn renew(gateway: &Gateway, browser: &Browser) -> u16 {
    let mut wire = send(gateway, "POST", "/.vestibule/session/renew", browser).await;
    wire.answer().await.expect("an answer").status
}

fn recorded(gateway: &Gateway, word: &str) -> bool {
    gateway.audit().iter().any(|record| record.to_string().contains(word))
}

async fn two_hundred_at_expiry(membership: &str) {
    let Some((provider, upstream, gateway, browser)) = scene(&[("ACCESS_TOKEN_TTL", "3")], membership).await else {
        return;
    };
    tokio::time::sleep(Duration::from_millis(3200)).await; // its access token is over
    tokens_live(&provider, 16).await;
    provider.fault(TOKEN, json!({"delay_ms": 1000})).await;
    upstream.take();
    let mut wires = Vec::new();
    for _ in 0..200 {
        wires.push(send(&gateway, "GET", "/", &browser).await);
    }
    for wire in &mut wires {
        assert_eq!(wire.answer().await.expect("an answer").status, 200);
    }
    assert_eq!(upstream.seen(), 200);
    gateway.until("it is refreshed", async || grants(&provider).await == 2).await;
    assert!(!recorded(&gateway, "refresh_rejected") && !recorded(&gateway, "refresh_deferred"));
    served_until(&gateway, &browser, &provider, 3).await; // by the refresh token that counts, or the session would end
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!((gateway.get_as(&browser, "/").await.status, grants(&provider).await), (200, 3));
}

/// P20, S-57: two hundred requests at expiry cause one token request, so one rotation; all are answered by the upstream, and
/// nobody is signed out.
#[tokio::test]
async fn p20_two_hundred_requests_at_expiry_cause_one_refresh() {
    two_hundred_at_expiry("60s").await;
}

/// P20: the same where all of them have to wait for it, their groups having grown old too.
#[tokio::test]
async fn p20_two_hundred_requests_wait_for_one_refresh() {
    two_hundred_at_expiry("2s").await;
}

/// P21: a refresh is waited for longer than any request waits for it. Meanwhile the session is served, past the end of its
/// access token too, and afterwards it goes on: the provider is asked once.
#[tokio::test]
async fn p21_a_slow_refresh_is_waited_for_by_nobody_and_not_given_up() {
    let Some((provider, _upstream, gateway, browser)) = scene(&[("ACCESS_TOKEN_TTL", "4")], "2s").await else { return };
    tokens_live(&provider, 7200).await;
    provider.fault(TOKEN, json!({"delay_ms": 14_000})).await;
    served_until(&gateway, &browser, &provider, 2).await;
    let begun = Instant::now();
    let impatient = async {
        assert_eq!(renew(&gateway, &browser).await, 200, "it is still alive");
        begun.elapsed()
    };
    let others = async {
        let mut waits = Vec::new();
        while begun.elapsed() < Duration::from_millis(13_500) {
            let asked = Instant::now();
            assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "after {:?}", begun.elapsed());
            waits.push(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        waits
    };
    let (renewed, waits) = tokio::join!(impatient, others);
    assert!((9..12).contains(&renewed.as_secs()), "a request waits ten seconds: {renewed:?}");
    let long = waits.iter().filter(|wait| **wait > Duration::from_secs(1)).count();
    assert!(long < 3, "one request waits for the groups, two seconds: {waits:?}");
    let before = provider.seen(USERINFO).await;
    gateway
        .until("the groups are read with the new token", async || {
            assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
            begun.elapsed() > Duration::from_secs(16) && provider.seen(USERINFO).await > before
        })
        .await;
    assert_eq!(grants(&provider).await, 2, "the sign-in, and one refresh");
    assert!(!recorded(&gateway, "refresh_deferred"));
}

/// A stop waits for a refresh as long as for anything else, and no longer: what came in time is stored.
#[tokio::test]
async fn p21_a_stop_finishes_a_refresh_within_its_bound() {
    for (delay, lasts) in [(3000, 1..9), (60_000, 9..13)] {
        let scene = scene(&[("ACCESS_TOKEN_TTL", "4")], "60s").await;
        let Some((provider, _upstream, mut gateway, browser)) = scene else { return };
        provider.fault(TOKEN, json!({"delay_ms": delay})).await;
        served_until(&gateway, &browser, &provider, 2).await;
        let told = Instant::now();
        gateway.stop().await;
        assert!(lasts.contains(&told.elapsed().as_secs()), "{delay} ms: {:?}", told.elapsed());
        if delay < 10_000 {
            gateway.run().await;
            served_until(&gateway, &browser, &provider, 3).await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "it had the new refresh token");
        }
    }
}

/// P21: whoever asked for a refresh, or waited for it, may leave: what it brings is stored all the same.
#[tokio::test]
async fn p21_a_client_that_leaves_cancels_no_refresh() {
    let Some((provider, _upstream, mut gateway, browser)) = scene(&[("ACCESS_TOKEN_TTL", "4")], "60s").await else {
        return;
    };
    provider.fault(TOKEN, json!({"delay_ms": 2000})).await;
    tokio::time::sleep(Duration::from_millis(3100)).await; // time to refresh
    let begun = Instant::now();
    let waits = send(&gateway, "POST", "/.vestibule/session/renew", &browser).await;
    gateway.until("the provider is asked", async || grants(&provider).await == 2).await;
    drop((waits, send(&gateway, "GET", "/", &browser).await));
    assert!(begun.elapsed() < Duration::from_millis(1500), "they left before there was an answer");
    assert_eq!(renew(&gateway, &browser).await, 200, "whoever comes next waits for the same refresh");
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!((gateway.get_as(&browser, "/").await.status, grants(&provider).await), (200, 2));
    gateway.kill().await;
    gateway.run().await;
    served_until(&gateway, &browser, &provider, 3).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "the new refresh token was stored");
}

/// The session is over: calls are told so, a navigation is led to sign-in once, and a sign-in is all it takes.
async fn signs_in_cleanly(gateway: &Gateway, browser: &Browser, provider: &Provider) {
    assert_eq!(gateway.get_as(browser, "/").await.status, 401);
    gateway.audited("the end", |record| record.to_string().contains("refresh_rejected")).await;
    let cookies = gateway.cookies(browser);
    let lines: Vec<&str> = NAVIGATION.iter().copied().chain([&*cookies]).collect();
    let led = gateway.get("/", &lines).await;
    let to = led.header("location").unwrap_or_default();
    assert!(matches!(led.status, 302 | 303) && to.starts_with("/.vestibule/sign-in"), "{} {to}", led.status);
    let mut alice = Person::default();
    for (name, value) in [(gateway.session_cookie(), &browser.session), (gateway.binding_cookie(), &browser.binding)] {
        alice.jar.insert(("127.0.0.1".to_owned(), name), value.clone());
    }
    let arrival = alice.go(gateway, provider, "http://127.0.0.1:PORT/", "alice").await;
    let redeemed = arrival.way.iter().filter(|url| url.path().starts_with("/.vestibule/callback/")).count();
    assert_eq!((arrival.answer.status, redeemed), (200, 1), "{:#?}", arrival.way);
}

/// A provider that does not know us any more refreshes nobody; that is no less recorded than one that is down.
#[tokio::test]
async fn a_refresh_that_fails_for_our_own_credentials_is_recorded() {
    let Some((provider, _upstream, gateway, browser)) = scene(&[("ACCESS_TOKEN_TTL", "4")], "1s").await else { return };
    provider.fault(TOKEN, json!({"status": 401, "body": {"error": "invalid_client"}, "times": 9})).await;
    served_until(&gateway, &browser, &provider, 2).await;
    let is_told = |record: &Value| record["status_code"] == "refresh_deferred" && record["type_uid"] == 300_299;
    gateway.audited("the refresh", is_told).await;
}

/// The provider rotates, and its answer is lost. The session is served on; the next refresh shows the old token.
async fn lost(replay: &str) -> Option<(Provider, Gateway, Browser)> {
    let env = [("ACCESS_TOKEN_TTL", "4"), ("REFRESH_REPLAY", replay)];
    let (provider, _upstream, gateway, browser) = scene(&env, "1s").await?;
    provider.fault(TOKEN, json!({"lose_answer": true})).await;
    served_until(&gateway, &browser, &provider, 2).await;
    gateway.audited("the refresh", |record| record.to_string().contains("refresh_deferred")).await;
    assert_eq!(provider.seen("/oauth/token lost").await, 1);
    let lost = Instant::now();
    served_until(&gateway, &browser, &provider, 3).await;
    assert!(lost.elapsed() > Duration::from_secs(4), "not at once: {:?}", lost.elapsed());
    Some((provider, gateway, browser))
}

/// P22, P23: where a provider takes the old refresh token for a stolen one, the session ends with that, and signs in cleanly.
#[tokio::test]
async fn p22_a_refresh_whose_answer_is_lost_ends_with_a_clean_sign_in() {
    let Some((provider, gateway, browser)) = lost("0").await else { return };
    gateway.until("it is over", async || gateway.get_as(&browser, "/").await.status != 200).await;
    signs_in_cleanly(&gateway, &browser, &provider).await;
}

/// P22: where a provider takes the old refresh token once more, nobody notices.
#[tokio::test]
async fn p22_a_refresh_whose_answer_is_lost_is_made_again() {
    let Some((provider, gateway, browser)) = lost("60").await else { return };
    served_until(&gateway, &browser, &provider, 4).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    assert!(!recorded(&gateway, "refresh_rejected"));
}

/// P22: the same where it is our process that is killed before it has heard the answer: no loop, no fault.
#[tokio::test]
async fn p22_a_kill_between_their_rotation_and_our_store_is_no_loop() {
    for replay in ["0", "60"] {
        let env = [("ACCESS_TOKEN_TTL", "4"), ("REFRESH_REPLAY", replay)];
        let Some((provider, _upstream, mut gateway, browser)) = scene(&env, "60s").await else { return };
        provider.fault(TOKEN, json!({"hold_ms": 8000})).await;
        served_until(&gateway, &browser, &provider, 2).await;
        gateway.until("it is rotated", async || provider.seen("/oauth/token held").await == 1).await;
        gateway.kill().await;
        tokio::time::sleep(Duration::from_secs(1)).await; // the access token is over
        gateway.run().await;
        let mut statuses = Vec::new();
        gateway
            .until("it is refreshed anew", async || {
                statuses.push(gateway.get_as(&browser, "/").await.status);
                grants(&provider).await > 2
            })
            .await;
        for _ in 0..10 {
            statuses.push(gateway.get_as(&browser, "/").await.status);
        }
        if replay == "0" {
            assert!(statuses.iter().all(|status| [200, 401].contains(status)), "{statuses:?}");
            signs_in_cleanly(&gateway, &browser, &provider).await;
        } else {
            assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
        }
    }
}
