//! What Backstage is told of a person, and what a person is told when Backstage does not know them.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration},
    upstream::Upstream,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

const ROUTE: &str = "    backstage_user: \"user:default/{login}\"\n    body: backstage\n";
const CONTACT: &str = "contact: { name: Platform team, url: \"https://chat.example.com/help\" }\n";

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// P67: one entity in header and assertion, whatever the client says of itself.
#[tokio::test]
async fn p67_backstage_is_told_which_entity_a_person_is() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", ROUTE, CONTACT), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let forged = "Vestibule-Backstage-User: user:default/root";
    let answer =
        gateway.get("/", &[&gateway.cookies(&browser), forged, "vestibule_backstage_user: user:default/root"]).await;
    assert_eq!(answer.status, 200);
    let seen = upstream.only();
    assert_eq!(seen.one("vestibule-backstage-user"), Some("user:default/alice"));
    let said = claims(seen.one("vestibule-assertion").expect("an assertion"));
    assert_eq!(said["backstage_user"], "user:default/alice");
    let public = gateway.get("/public/x", &[forged]).await;
    assert_eq!(public.status, 200);
    assert_eq!(upstream.only().one("vestibule-backstage-user"), None, "nobody is nobody");
}

/// P67: who has no entity is told which one was looked for, never by what the address says.
#[tokio::test]
async fn p67_who_is_not_in_the_catalog_is_told_so() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", ROUTE, CONTACT), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let page = gateway.get_as(&browser, "/.vestibule/denied?why=backstage-user&user=root").await;
    assert_eq!(page.status, 403);
    let text = page.text();
    for said in [
        "Backstage takes you for alice",
        "read people from GitLab",
        "user:default/alice",
        "GitLab",
        "Switch account",
        "Platform team",
    ] {
        assert!(text.contains(said), "{said} is missing in {text}");
    }
    assert!(!text.contains("root"));
    let stranger = gateway.get("/.vestibule/denied", &["Accept: text/html"]).await;
    assert_eq!(
        (stranger.status, stranger.header("location")),
        (302, Some("/.vestibule/sign-in?to=%2F.vestibule%2Fdenied"))
    );
    // a login that makes no name of an entity: nothing is told, and the page says why
    provider.admin("/admin/user", json!({ "user": "-odd-", "id": 77, "memberships": { "platform": "guest" } })).await;
    let odd = gateway.sign_in(&provider, "-odd-").await;
    assert_eq!(gateway.get_as(&odd, "/").await.status, 200);
    assert_eq!(upstream.only().one("vestibule-backstage-user"), None);
    let text = gateway.get_as(&odd, "/.vestibule/denied").await.text();
    assert!(text.contains("makes no name of an entity"), "{text}");
    assert!(gateway.log().contains("gives no name of an entity"));
}

/// P68: a person in 300 groups makes the upstream's head at most 2 KiB longer, and is told that it was cut.
#[tokio::test]
async fn p68_three_hundred_groups_fit() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let route = format!("{ROUTE}    groups_header: [\"gitlab:platform/**\"]\n");
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", &route, ""), POLICIES).await;
    let size = |seen: &crate::support::upstream::Seen| -> usize {
        let plain = |(name, _): &&(String, String)| name != "vestibule-assertion";
        seen.headers.iter().filter(plain).map(|(name, value)| name.len() + value.len() + 4).sum()
    };
    let few = gateway.sign_in(&provider, "bob").await;
    assert_eq!(gateway.get_as(&few, "/").await.status, 200);
    let before = size(&upstream.only());
    let many: serde_json::Map<_, _> =
        (0..300).map(|n| (format!("platform/portal/team-{n}"), "developer".into())).collect();
    provider.admin("/admin/user", json!({ "user": "bob", "memberships": many })).await;
    let browser = gateway.sign_in(&provider, "bob").await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    let seen = upstream.only();
    let grown = size(&seen) - before;
    assert!(grown <= 2048 + 64, "{grown}");
    assert!(
        seen.headers.iter().any(|(name, value)| name.contains("truncated") && value == "true"),
        "{:?}",
        seen.headers
    );
}
