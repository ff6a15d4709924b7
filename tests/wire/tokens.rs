//! Our own token at GitLab renews itself, once, and is never lost by that.

use crate::support::{
    gateway::{Browser, Gateway, configuration, program},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::time::Duration;

const POLICIES: &str = r#"
@id("write") permit (principal is User in Role::"gitlab:platform#guest", action, resource == Route::"app");
"#;
const ROTATE: &str = "/api/v4/personal_access_tokens/self/rotate";

/// A gateway whose token is due, with `fault` waiting for the request that renews it.
async fn scene(fault: Option<Value>) -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api }, rotate: true } }\n";
    let configuration = configuration(&provider.issuer, &upstream, membership, "", "");
    let about = json!({"created_at": "2026-01-01T00:00:00.000Z", "expires_at": "2026-12-01"});
    provider.admin("/admin/api", json!({"token": about})).await;
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {"platform": "guest"}})).await;
    if let Some(fault) = fault {
        provider.fault(ROTATE, fault).await;
    }
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&configuration, POLICIES, prepare).await;
    Some((provider, upstream, gateway))
}

async fn status(gateway: &Gateway, browser: &Browser) -> u16 {
    gateway.get_as(browser, "/").await.status
}

fn told(gateway: &Gateway) -> String {
    let asked = program().args(["status", "-c"]).arg(gateway.path("vestibule.yaml")).output().expect("it runs");
    String::from_utf8_lossy(&asked.stdout).into_owned()
}

/// The new token is on disk before it is used, sealed, and the next process goes on with it.
#[tokio::test]
async fn a_token_renews_itself_and_outlives_the_process() {
    let Some((provider, _upstream, mut gateway)) = scene(None).await else { return };
    gateway.audited("the token is renewed", |record| record["unmapped"]["why"] == "token.rotate").await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200, "{}", gateway.log());
    let value = provider.admin("/admin/api", json!({})).await["value"].as_str().expect("a token").to_owned();
    assert!(value.starts_with("glpat-rotated"), "{value}");
    let kept = std::fs::read(gateway.path("state/tokens/gitlab")).expect("kept");
    assert!(!kept.windows(6).any(|bytes| bytes == b"glpat-"), "it is sealed");
    assert!(!gateway.log().contains(&value), "no token in the log");
    gateway.stop().await;
    gateway.run().await;
    assert_eq!(status(&gateway, &browser).await, 200, "{}", gateway.log());
    assert_eq!(provider.seen(ROTATE).await, 1);
    assert!(told(&gateway).contains("token for the API of gitlab, until 20"), "{}", told(&gateway));
    gateway.write_secret("api", &value);
    gateway.until("it is reloaded", async || gateway.log().contains("configuration and policies reloaded")).await;
    assert_eq!(status(&gateway, &browser).await, 200, "another token in the file wins");
}

/// Renewed, and the answer lost: nobody asks again with the dead token, which would kill the whole family; somebody is told.
#[tokio::test]
async fn an_ambiguous_renewal_is_never_repeated_blindly() {
    let Some((provider, _upstream, mut gateway)) = scene(Some(json!({"lose_answer": true}))).await else { return };
    gateway.until("it is told", async || gateway.log().contains("was being renewed when the answer got lost")).await;
    assert!(told(&gateway).contains("ALARM"), "{}", told(&gateway));
    gateway.stop().await;
    gateway.run().await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(provider.seen(ROTATE).await, 1);
    let alive = provider.admin("/admin/api", json!({})).await["value"].as_str().expect("the family lives").to_owned();
    gateway.write_secret("api", &alive); // what an operator does
    let browser = gateway.sign_in(&provider, "ines").await;
    gateway.until("it is in order again", async || status(&gateway, &browser).await == 200).await;
}

/// The request got lost on its way: the old token proves to be alive, and then it is asked again.
#[tokio::test]
async fn a_renewal_that_never_arrived_is_asked_for_again() {
    let Some((provider, _upstream, gateway)) = scene(Some(json!({"reset": true}))).await else { return };
    gateway.audited("the token is renewed", |record| record["unmapped"]["why"] == "token.rotate").await;
    assert_eq!(provider.seen(ROTATE).await, 2);
}
