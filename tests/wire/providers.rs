//! Several providers at once, of several kinds.

use crate::support::{
    gateway::{self, Gateway, configuration},
    provider::{CLIENT_ID, Provider},
    upstream::Upstream,
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, jwk::JwkSet};
use serde_json::Value;
use url::Url;

const POLICIES: &str = r#"
@id("gitlab-people")
@reason("For everyone in platform at GitLab.")
permit (principal is User in Namespace::"gitlab:platform", action, resource);

@id("partner-people")
@reason("For the partner's people of payments.")
permit (principal is User in Group::"partner:payments/core", action, resource == Route::"app");
"#;

/// A GitLab, and a partner's provider of no special kind, whose ID tokens list the groups.
async fn scene() -> Option<(Provider, Provider, Upstream, Gateway)> {
    let gitlab = Gateway::provider(&[])?;
    let redirect = ("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/partner");
    let partner = Provider::start(&[redirect, ("PROFILE", "full"), ("ID_TOKEN_CLAIMS", "all")])?;
    let upstream = Upstream::start().await;
    let second = format!(
        "  - name: partner\n    kind: oidc\n    title: The partner\n    issuer: {}\n    client_id: {CLIENT_ID}\n    \
         client_secret: {{ file: secret }}\n    membership: {{ refresh: 2s }}\n",
        partner.issuer
    );
    let more = format!(
        "  - name: other\n    host: 127.0.0.1\n    path: /other/\n    upstream: http://127.0.0.1:{}\n    \
         providers: [gitlab]\n",
        upstream.port
    );
    let route = "    host: 127.0.0.1\n    header_provider: gitlab\n    groups_header: [\"gitlab:platform/**\"]\n";
    let text = configuration(&gitlab.issuer, &upstream, &second, &format!("{route}{more}"), "");
    let gateway = Gateway::start(&text, POLICIES).await;
    Some((gitlab, partner, upstream, gateway))
}

/// Begins a sign-in at `provider`, once it is discovered.
async fn begin(gateway: &Gateway, provider: &str) -> (Url, String) {
    for _ in 0..100 {
        let answer = gateway.get(&format!("/.vestibule/sign-in/{provider}?to=/x"), &[]).await;
        if answer.status == 302 {
            let url = Url::parse(answer.header("location").expect("a location")).expect("a URL");
            return (url, answer.cookie(&gateway.binding_cookie()).expect("a binding cookie"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{provider} is not discovered\n{}", gateway.log())
}

/// P54: people choose where to sign in, and each provider's people are their own.
#[tokio::test]
async fn people_choose_where_to_sign_in() {
    let Some((_gitlab, partner, upstream, gateway)) = scene().await else { return };
    let page = gateway.get("/.vestibule/sign-in?to=/x", &["Accept: text/html"]).await.text();
    for part in ["/.vestibule/sign-in/gitlab?to=%2Fx", "/.vestibule/sign-in/partner?to=%2Fx", "GitLab", "The partner"] {
        assert!(page.contains(part), "`{part}` is missing in {page}");
    }
    let (url, binding) = begin(&gateway, "partner").await;
    assert!(url.as_str().starts_with(&partner.issuer));
    let back = gateway.come_back(&partner.authorize(&url, "bob").await.url, &binding).await;
    assert_eq!((back.status, back.header("location")), (303, Some("/x")), "{}", gateway.log());
    let cookie =
        format!("Cookie: {}={}", gateway.session_cookie(), back.cookie(&gateway.session_cookie()).expect("set"));
    upstream.take();
    assert_eq!(gateway.get("/x", &[&cookie]).await.status, 200, "{}", gateway.log());
    assert_eq!(upstream.only().one("x-forwarded-user"), None, "headers are for the people of one provider");
    let who = gateway.get("/.vestibule/session", &[&cookie]).await.json();
    assert_eq!(who["user"], "partner:2");
    let refused = gateway.get("/other/x", &[&cookie]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (403, Some("wrong_provider")), "{}", refused.text());
    assert!(refused.json()["detail"].to_string().contains("The partner"), "{}", refused.text());
}

/// Groups of an ID token: who leaves is out within the clock, by a refresh of the tokens.
#[tokio::test]
async fn who_leaves_at_a_provider_with_group_claims_is_out_within_the_clock() {
    let Some((_gitlab, partner, _upstream, gateway)) = scene().await else { return };
    let (url, binding) = begin(&gateway, "partner").await;
    let back = gateway.come_back(&partner.authorize(&url, "bob").await.url, &binding).await;
    let cookie =
        format!("Cookie: {}={}", gateway.session_cookie(), back.cookie(&gateway.session_cookie()).expect("set"));
    assert_eq!(gateway.get("/x", &[&cookie]).await.status, 200);
    partner.admin("/admin/user", serde_json::json!({ "user": "bob", "memberships": {} })).await;
    let start = std::time::Instant::now();
    while gateway.get("/x", &[&cookie]).await.status == 200 {
        assert!(start.elapsed().as_secs() < 6, "still inside\n{}", gateway.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(gateway.get("/x", &[&cookie]).await.status, 403);
}

/// P25: whoever signs out where several providers are offered is told of the one that they came from, and of no other; where we
/// cannot know, of all.
#[tokio::test]
async fn p25_the_page_after_sign_out_names_the_provider_that_has_no_sign_out() {
    let Some((gitlab, partner, _upstream, gateway)) = scene().await else { return };
    begin(&gateway, "partner").await; // both are discovered
    let browser = gateway.sign_in(&gitlab, "alice").await;
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let out = gateway.request("POST", "/.vestibule/sign-out", &[&gateway.cookies(&browser), &own]).await;
    let to = out.header("location").expect("a page of ours").to_owned();
    let page = gateway.get(&to, &["Accept: text/html"]).await.text();
    let link = |provider: &Provider| format!("href=\"{}", provider.issuer);
    assert!(page.contains("Your session here has ended."), "{page}");
    assert!(page.contains("still be signed in at GitLab") && page.contains(&link(&gitlab)), "{page}");
    assert!(!page.contains(&link(&partner)) && !page.contains("The partner"), "{page}");
    let page = gateway.get("/.vestibule/sign-out", &["Accept: text/html"]).await.text();
    assert!(page.contains("Nobody is signed in here") && !page.contains("has ended"), "{page}");
    assert!(page.contains(&link(&gitlab)) && page.contains(&format!("{}/oauth/logout?", link(&partner))), "{page}");
}

/// S-41: a code of one provider cannot be finished at another's callback.
#[tokio::test]
async fn s41_a_code_is_for_its_own_providers_callback() {
    let Some((gitlab, partner, _upstream, gateway)) = scene().await else { return };
    let (at_gitlab, binding) = begin(&gateway, "gitlab").await;
    let (at_partner, other) = begin(&gateway, "partner").await;
    let first = gitlab.authorize(&at_gitlab, "alice").await;
    let second = partner.authorize(&at_partner, "alice").await;
    for (callback, binding, swapped) in [(&first, &binding, "partner"), (&second, &other, "gitlab")] {
        let mut url = callback.url.clone();
        url.set_path(&format!("/.vestibule/callback/{swapped}"));
        let back = gateway.come_back(&url, binding).await;
        assert_eq!(back.status, 400, "{swapped}");
        assert!(back.cookie(&gateway.session_cookie()).is_none());
    }
    assert_eq!((gitlab.seen("/oauth/token").await, partner.seen("/oauth/token").await), (0, 0));
    let mut url = second.url.clone(); // RFC 9207: `iss` must be there where it is announced, and be the right one
    url.set_query(Some(&second.url.query().expect("a query").replace("iss=", "was=")));
    assert_eq!(gateway.come_back(&url, &other).await.status, 400);
    assert_eq!(partner.seen("/oauth/token").await, 0);
}

/// S-40: a provider that demands PKCE gets S256, and the verifier only at its token endpoint.
#[tokio::test]
async fn s40_pkce_is_s256_always() {
    let Some(provider) = Gateway::provider(&[("REQUIRE_PKCE", "1")]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), gateway::POLICIES).await;
    let (url, _) = gateway.begin("/", None).await;
    assert!(url.query_pairs().any(|(name, value)| name == "code_challenge_method" && value == "S256"));
    assert!(!url.as_str().contains("code_verifier"));
    gateway.sign_in(&provider, "alice").await;
    assert!(!gateway.log().contains("code_verifier"));
}

/// S-10: upstreams check a short-lived signed assertion by published keys; one for another audience is refused.
#[tokio::test]
async fn s10_an_assertion_is_for_one_audience_and_a_minute() {
    let Some((gitlab, _partner, upstream, gateway)) = scene().await else { return };
    let browser = gateway.sign_in(&gitlab, "alice").await;
    let keys: JwkSet =
        serde_json::from_value(gateway.get("/.well-known/vestibule/jwks.json", &[]).await.json()).expect("keys");
    let assertion = async |target: &str| {
        upstream.take();
        assert_eq!(gateway.get_as(&browser, target).await.status, 200);
        upstream.only().one("vestibule-assertion").expect("an assertion").to_owned()
    };
    let check = |token: &str, audience: &str| {
        let head = decode_header(token).expect("a head");
        let key = keys.find(head.kid.as_deref().expect("a key id")).expect("published");
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&[audience]);
        rules.set_issuer(&[format!("http://127.0.0.1:{}", gateway.port)]);
        decode::<Value>(token, &DecodingKey::from_jwk(key).expect("a key"), &rules).map(|token| token.claims)
    };
    let (app, other) = (assertion("/x").await, assertion("/other/x").await);
    assert_eq!(decode_header(&app).expect("a head").typ.as_deref(), Some("vestibule+jwt"));
    let claims = check(&app, "app").expect("good");
    assert_eq!((claims["sub"].as_str(), claims["login"].as_str()), (Some("user:gitlab:1"), Some("alice")));
    assert!(claims["exp"].as_u64() <= claims["iat"].as_u64().map(|iat| iat + 60));
    assert!(claims["groups"].to_string().contains("platform/portal"), "{claims}");
    check(&other, "other").expect("good");
    assert!(check(&app, "other").is_err() && check(&other, "app").is_err());
}
