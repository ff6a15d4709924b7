//! The OpenID Foundation's tests for relying parties, one test named after each module, against a provider that misbehaves as
//! the module says (`tests/fixtures/oidc-provider/modules.mjs`).
//!
//! Modules that do not apply, and why:
//!
//! | Module | Why |
//! |---|---|
//! | `…-discovery-webfinger-acct`, `-url` | issuers are configured, nobody is asked for an address |
//! | `…-dynamic-registration`, `…-request-uri-*` | clients are registered by hand; requests have no request object |
//! | `…-userinfo-signed`, `…-aggregated-claims`, `…-distributed-claims` | userinfo is read as JSON over TLS; groups kept elsewhere are *unknown* |
//! | `…-userinfo-bearer-body` | the header is used, as RFC 6750 recommends |
//! | implicit, hybrid and form-post modules | the code flow alone is used, with PKCE |
//! | `…-rp-frontchannel-*`, `…-session-management`, `…-3rd-party-init-login` | another site must not sign anybody in or out |

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    http1::{Answer, Wire},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, MutexGuard};
use url::Url;

/// All of these tests share one provider, one after the other: a module changes it for everybody.
static PROVIDER: LazyLock<Mutex<Option<Provider>>> = LazyLock::new(|| {
    Mutex::new(Provider::start(&[
        ("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/gitlab"),
        ("POST_LOGOUT_URIS", "http://127.0.0.1/.vestibule/sign-out"),
        ("BACKCHANNEL_URI", "http://127.0.0.1:9/none"),
        ("ACCESS_TOKEN_TTL", "4"),
    ]))
});

struct Scene {
    upstream: Upstream,
    gateway: Gateway,
    provider: MutexGuard<'static, Option<Provider>>, // the last to go: the next gateway's provider is not asked by this one
}

/// A gateway at the provider with this module switched on.
async fn scene(module: &str) -> Option<Scene> {
    let provider = PROVIDER.lock().await;
    let running = provider.as_ref()?;
    running.admin("/admin/revoke", json!({ "user": "alice" })).await;
    running.admin("/admin/module", json!({ "name": module })).await;
    let upstream = Upstream::start().await;
    let written = configuration(&running.issuer, &upstream, "", "", "").replace("kind: gitlab", "kind: oidc");
    let gateway = Gateway::start(&written, POLICIES).await;
    Some(Scene { upstream, gateway, provider })
}

impl Scene {
    fn provider(&self) -> &Provider {
        self.provider.as_ref().expect("running")
    }

    /// Signs alice in: the answer to the callback.
    async fn come(&self) -> (Answer, String) {
        let (url, binding) = self.gateway.begin("/", None).await;
        let callback = self.provider().authorize(&url, "alice").await;
        (self.gateway.come_back(&callback.url, &binding).await, binding)
    }

    async fn signed_in(&self) -> Browser {
        let (answer, binding) = self.come().await;
        assert_eq!(answer.status, 303, "{}\n{}", answer.text(), self.gateway.log());
        let session = answer.cookie(&self.gateway.session_cookie()).expect("a session");
        Browser { session, binding }
    }

    /// The sign-in makes no session; the trail has `said`.
    async fn refused(&self, said: &str) {
        let (answer, _) = self.come().await;
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.cookie(&self.gateway.session_cookie()).is_none());
        assert_eq!(answer.json()["code"], "sign_in_invalid");
        let told = |event: &Value| event["status_code"] == "sign_in_invalid" && event.to_string().contains(said);
        self.gateway.audited(said, told).await;
        assert!(self.upstream.take().is_empty());
    }

    /// What the provider saw at a place since the module was switched on.
    async fn seen(&self, place: &str) -> Vec<Value> {
        let all = self.provider().get("/admin/seen").await;
        all.as_array().expect("a list").iter().filter(|one| one["place"] == place).cloned().collect()
    }

    /// The gateway answers the provider's logout token so, and the session lives on or not.
    async fn logs_out(&self, status: u16, lives: bool) -> String {
        let browser = self.signed_in().await;
        let uri = format!("http://127.0.0.1:{}/.vestibule/backchannel-logout/gitlab", self.gateway.port);
        let sent = self.provider().admin("/admin/send-logout", json!({ "uri": uri, "user": "alice" })).await;
        assert_eq!(sent["status"], status, "{sent}");
        assert_eq!(sent["cache"], "no-store");
        let after = self.gateway.get_as(&browser, "/.vestibule/session").await.status;
        assert_eq!(after, if lives { 200 } else { 401 }, "{sent}");
        if lives {
            self.gateway.audited("the refusal", |event| event["status_code"] == "sign_out_refused").await;
        } else {
            self.gateway.audited("the end", |event| event["unmapped"]["why"] == "provider_signed_out").await;
        }
        let again = self
            .provider()
            .admin("/admin/send-logout", json!({ "uri": uri, "user": "alice", "token": sent["token"] }))
            .await;
        assert_eq!(again["status"], 400, "a token is taken once: {again}");
        sent["body"].as_str().expect("a body").to_owned()
    }

    /// Signs out at our page: where the browser is sent.
    async fn signs_out(&self, browser: &Browser) -> Url {
        let own = format!("Origin: http://127.0.0.1:{}", self.gateway.port);
        let out = self.gateway.request("POST", "/.vestibule/sign-out", &[&self.gateway.cookies(browser), &own]).await;
        assert_eq!(out.status, 200);
        assert!(out.header("content-security-policy").is_some_and(|policy| policy.contains("form-action 'self';")));
        assert_eq!(self.gateway.get_as(browser, "/").await.status, 401, "the session ends first");
        let page = out.text();
        let on = page.split("content=\"0;url=").nth(1).and_then(|rest| rest.split('"').next()).expect("it leads on");
        assert!(page.contains(&format!("href=\"{on}\"")), "by a link too: {page}");
        Url::parse(&on.replace("&amp;", "&")).expect("the provider's")
    }

    /// What our page says when the provider leads back as the module says.
    async fn leads_back(&self) -> String {
        let browser = self.signed_in().await;
        let at_provider = self.signs_out(&browser).await;
        let back = self.provider().redirected(&at_provider).await;
        assert_eq!(back.path(), "/.vestibule/sign-out");
        self.gateway.get(&back[url::Position::BeforePath..], &["Accept: text/html"]).await.text()
    }
}

/// A module whose ID token makes no session, with a part of what the trail says.
macro_rules! refused {
    ($($name:ident, $module:literal, $said:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(scene) = scene($module).await else { return };
            scene.refused($said).await;
        }
    )+};
}

/// A module whose logout token is refused.
macro_rules! keeps {
    ($($name:ident, $module:literal, $said:literal;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(scene) = scene($module).await else { return };
            let body = scene.logs_out(400, true).await;
            assert!(body.contains("invalid_request") && body.contains($said), "{body}");
        }
    )+};
}

refused! {
    oidcc_client_test_invalid_iss, "oidcc-client-test-invalid-iss", "issuer";
    oidcc_client_test_missing_sub, "oidcc-client-test-missing-sub", "ID token";
    oidcc_client_test_invalid_aud, "oidcc-client-test-invalid-aud", "audience";
    oidcc_client_test_missing_aud, "oidcc-client-test-missing-aud", "ID token";
    oidcc_client_test_missing_iat, "oidcc-client-test-missing-iat", "ID token";
    oidcc_client_test_nonce_invalid, "oidcc-client-test-nonce-invalid", "nonce is not the one";
    oidcc_client_test_kid_absent_multiple_jwks, "oidcc-client-test-kid-absent-multiple-jwks", "several keys";
    oidcc_client_test_idtoken_sig_none, "oidcc-client-test-idtoken-sig-none", "algorithm is `none`";
    oidcc_client_test_invalid_sig_rs256, "oidcc-client-test-invalid-sig-rs256", "signature is wrong";
    oidcc_client_test_invalid_sig_hs256, "oidcc-client-test-invalid-sig-hs256", "algorithm is `HS256`";
    oidcc_client_test_invalid_sig_es256, "oidcc-client-test-invalid-sig-es256", "no key of the provider";
    oidcc_client_test_userinfo_invalid_sub, "oidcc-client-test-userinfo-invalid-sub", "sub";
}

#[tokio::test]
async fn oidcc_client_test() {
    let Some(scene) = scene("oidcc-client-test").await else { return };
    let browser = scene.signed_in().await;
    assert_eq!(scene.gateway.get_as(&browser, "/").await.status, 200);
    assert_eq!(scene.upstream.only().one("x-forwarded-user"), Some("1"));
}

#[tokio::test]
async fn oidcc_client_test_kid_absent_single_jwks() {
    let Some(scene) = scene("oidcc-client-test-kid-absent-single-jwks").await else { return };
    scene.signed_in().await;
}

#[tokio::test]
async fn oidcc_client_test_idtoken_sig_rs256() {
    let Some(scene) = scene("oidcc-client-test-idtoken-sig-rs256").await else { return };
    scene.signed_in().await;
    assert!(!scene.seen("jwks").await.is_empty(), "checked by the provider's keys");
}

#[tokio::test]
async fn oidcc_client_test_userinfo_bearer_header() {
    let Some(scene) = scene("oidcc-client-test-userinfo-bearer-header").await else { return };
    scene.signed_in().await;
    let seen = scene.seen("userinfo").await;
    assert!(
        !seen.is_empty() && seen.iter().all(|one| one["authorization"] == "Bearer" && one["query"] == ""),
        "{seen:?}"
    );
}

#[tokio::test]
async fn oidcc_client_test_scope_userinfo_claims() {
    let Some(scene) = scene("oidcc-client-test-scope-userinfo-claims").await else { return };
    let browser = scene.signed_in().await;
    let (url, _) = scene.gateway.begin("/", None).await;
    let scope = url.query_pairs().find(|(name, _)| name == "scope").expect("a scope").1.into_owned();
    assert_eq!(scope, "openid profile email");
    let told = scene.gateway.get_as(&browser, "/.vestibule/session").await.json();
    assert_eq!((told["login"].as_str(), told["name"].as_str()), (Some("alice"), Some("Alice Admin")));
    assert_eq!(told["email"], "alice@example.test");
}

#[tokio::test]
async fn oidcc_client_test_client_secret_basic() {
    let Some(scene) = scene("oidcc-client-test-client-secret-basic").await else { return };
    scene.signed_in().await;
    let seen = scene.seen("token").await;
    assert!(!seen.is_empty() && seen.iter().all(|one| one["authorization"] == "Basic"), "{seen:?}");
}

/// Uses the session until the provider was asked for tokens `times` times, or the session has ended: the status then.
async fn used_until(scene: &Scene, browser: &Browser, times: usize) -> u16 {
    let mut status = 200;
    let asked = async || {
        status = scene.gateway.get_as(browser, "/.vestibule/session").await.status;
        status == 401 || scene.seen("token").await.len() >= times
    };
    scene.gateway.until("refreshes", asked).await;
    status
}

#[tokio::test]
async fn oidcc_client_test_refresh_token() {
    let Some(scene) = scene("oidcc-client-test-refresh-token").await else { return };
    let browser = scene.signed_in().await;
    assert_eq!(used_until(&scene, &browser, 3).await, 200, "the second refresh is by what the first one brought");
}

/// The refresh is answered with an ID token that is not acceptable.
async fn refresh_refused(module: &str) {
    let Some(scene) = scene(module).await else { return };
    let browser = scene.signed_in().await;
    assert_eq!(used_until(&scene, &browser, 3).await, 401, "what was not acceptable is not built upon");
    scene.gateway.audited("the end", |event| event["unmapped"]["why"] == "refresh_invalid").await;
    assert!(scene.upstream.take().is_empty());
}

#[tokio::test]
async fn oidcc_client_test_refresh_token_invalid_issuer() {
    refresh_refused("oidcc-client-test-refresh-token-invalid-issuer").await;
}

#[tokio::test]
async fn oidcc_client_test_refresh_token_invalid_sub() {
    refresh_refused("oidcc-client-test-refresh-token-invalid-sub").await;
}

#[tokio::test]
async fn oidcc_client_test_discovery_openid_config() {
    let Some(scene) = scene("oidcc-client-test-discovery-openid-config").await else { return };
    let (url, _) = scene.gateway.begin("/", None).await;
    assert_eq!(url.path(), "/oauth/authorize", "as the document says");
    assert!(!scene.seen("discovery").await.is_empty());
}

#[tokio::test]
async fn oidcc_client_test_discovery_jwks_uri_keys() {
    let Some(scene) = scene("oidcc-client-test-discovery-jwks-uri-keys").await else { return };
    scene.gateway.begin("/", None).await;
    assert!(!scene.seen("jwks").await.is_empty());
}

#[tokio::test]
async fn oidcc_client_test_discovery_issuer_mismatch() {
    let Some(scene) = scene("oidcc-client-test-discovery-issuer-mismatch").await else { return };
    scene.gateway.until("it is said", async || scene.gateway.log().contains("/other")).await;
    assert_eq!(scene.gateway.get("/.vestibule/sign-in/gitlab", &[]).await.status, 503, "nobody is sent there");
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation() {
    let Some(scene) = scene("oidcc-client-test-signing-key-rotation").await else { return };
    scene.signed_in().await;
    scene.provider().admin("/admin/rotate", json!({ "keep_old": false })).await;
    scene.signed_in().await;
}

#[tokio::test]
async fn oidcc_client_test_signing_key_rotation_just_before_signing() {
    let Some(scene) = scene("oidcc-client-test-signing-key-rotation-just-before-signing").await else { return };
    scene.signed_in().await;
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout() {
    let Some(scene) = scene("oidcc-client-test-rp-init-logout").await else { return };
    let browser = scene.signed_in().await;
    let at_provider = scene.signs_out(&browser).await;
    let get = |name: &str| at_provider.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(at_provider.path(), "/oauth/logout");
    assert!(get("id_token_hint").is_some_and(|token| token.matches('.').count() == 2));
    assert_eq!(get("client_id").as_deref(), Some("vestibule"));
    let back = format!("http://127.0.0.1:{}/.vestibule/sign-out", scene.gateway.port);
    assert_eq!(get("post_logout_redirect_uri"), Some(back));
    let back = scene.provider().redirected(&at_provider).await;
    let end = scene.gateway.get(&back[url::Position::BeforePath..], &["Accept: text/html"]).await;
    assert!(end.text().contains("was told to end its own"), "{}", end.text());
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_other_state() {
    let Some(scene) = scene("oidcc-client-test-rp-init-logout-other-state").await else { return };
    let page = scene.leads_back().await;
    assert!(page.contains("still be signed in") && !page.contains("was told to end"), "{page}");
}

#[tokio::test]
async fn oidcc_client_test_rp_init_logout_no_state() {
    let Some(scene) = scene("oidcc-client-test-rp-init-logout-no-state").await else { return };
    let page = scene.leads_back().await;
    assert!(page.contains("still be signed in") && !page.contains("was told to end"), "{page}");
}

#[tokio::test]
async fn oidcc_client_test_rp_backchannel_rpinitlogout() {
    let Some(scene) = scene("oidcc-client-test-rp-backchannel-rpinitlogout").await else { return };
    let browser = scene.signed_in().await;
    let uri = format!("http://127.0.0.1:{}/.vestibule/backchannel-logout/gitlab", scene.gateway.port);
    let client = json!({
        "client_id": "vestibule", "client_secret": "vestibule-test-secret-0123456789",
        "redirect_uris": ["http://127.0.0.1/.vestibule/callback/gitlab"],
        "post_logout_redirect_uris": ["http://127.0.0.1/.vestibule/sign-out"],
        "backchannel_logout_uri": uri, "backchannel_logout_session_required": true,
    });
    scene.provider().admin("/admin/client", client).await;
    let mut wire = crate::support::http1::Wire::connect(scene.gateway.port).await;
    let (port, cookies) = (scene.gateway.port, scene.gateway.cookies(&browser));
    wire.send(format!("GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n{cookies}\r\n\r\n"))
        .await;
    assert!(!wire.some().await.is_empty(), "a stream is open");
    let sent = scene.provider().admin("/admin/backchannel-logout", json!({ "user": "alice" })).await;
    assert_eq!(sent["sent"][0]["ok"], true, "the provider itself sends it: {sent}");
    let begun = std::time::Instant::now();
    while !wire.some().await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(1), "S-54: the stream goes on");
    }
    assert_eq!(scene.gateway.get_as(&browser, "/.vestibule/session").await.status, 401);
    scene.gateway.audited("the end", |event| event["unmapped"]["why"] == "provider_signed_out").await;
}

keeps! {
    oidcc_client_test_rp_backchannel_rpinitlogout_alg_none, "oidcc-client-test-rp-backchannel-rpinitlogout-alg-none", "algorithm";
    oidcc_client_test_rp_backchannel_rpinitlogout_wrong_alg, "oidcc-client-test-rp-backchannel-rpinitlogout-wrong-alg", "algorithm";
    oidcc_client_test_rp_backchannel_rpinitlogout_wrong_iss, "oidcc-client-test-rp-backchannel-rpinitlogout-wrong-iss", "iss";
    oidcc_client_test_rp_backchannel_rpinitlogout_wrong_aud, "oidcc-client-test-rp-backchannel-rpinitlogout-wrong-aud", "aud";
    oidcc_client_test_rp_backchannel_rpinitlogout_wrong_event, "oidcc-client-test-rp-backchannel-rpinitlogout-wrong-event", "events";
    oidcc_client_test_rp_backchannel_rpinitlogout_no_event, "oidcc-client-test-rp-backchannel-rpinitlogout-no-event", "events";
    oidcc_client_test_rp_backchannel_rpinitlogout_with_nonce, "oidcc-client-test-rp-backchannel-rpinitlogout-with-nonce", "nonce";
    s72_a_logout_token_names_somebody, "logout-no-sub-no-sid", "neither";
    s72_a_logout_token_has_a_jti, "logout-no-jti", "jti";
    s72_a_logout_token_has_a_time, "logout-no-iat", "iat";
    s72_a_logout_token_is_recent, "logout-old", "issued";
    s72_a_logout_token_is_no_other_token, "logout-other-type", "typ";
    s72_a_logout_token_is_signed_by_the_provider, "logout-stranger", "signature";
}

/// S-72: by person, or by the provider's session; one that is somebody else's ends nothing.
#[tokio::test]
async fn s72_a_logout_token_ends_what_it_names() {
    for module in ["logout-sub-only", "logout-sid-only"] {
        let Some(scene) = scene(module).await else { return };
        scene.logs_out(200, false).await;
    }
    let Some(scene) = scene("logout-other-sub").await else { return };
    let browser = scene.signed_in().await;
    let uri = format!("http://127.0.0.1:{}/.vestibule/backchannel-logout/gitlab", scene.gateway.port);
    let sent = scene.provider().admin("/admin/send-logout", json!({ "uri": uri, "user": "alice" })).await;
    assert_eq!(sent["status"], 200, "no session is no fault: {sent}");
    assert_eq!(scene.gateway.get_as(&browser, "/.vestibule/session").await.status, 200);
}

/// S-54, S-72: a session that nobody has used since a restart is ended in the store.
#[tokio::test]
async fn s72_a_stored_session_is_ended_too() {
    let Some(mut scene) = scene("logout-sub-only").await else { return };
    let browser = scene.signed_in().await;
    scene.gateway.stop().await;
    scene.gateway.run().await;
    scene.gateway.begin("/", None).await; // the provider is discovered
    let uri = format!("http://127.0.0.1:{}/.vestibule/backchannel-logout/gitlab", scene.gateway.port);
    let sent = scene.provider().admin("/admin/send-logout", json!({ "uri": uri, "user": "alice" })).await;
    assert_eq!(sent["status"], 200, "{sent}");
    let event = scene.gateway.audited("the end", |event| event["unmapped"]["why"] == "provider_signed_out").await;
    assert!(event.to_string().contains("gitlab:1"), "{event}");
    assert_eq!(scene.gateway.get_as(&browser, "/.vestibule/session").await.status, 401);
}

/// S-72: what is no logout token at all is refused, and costs nothing.
#[tokio::test]
async fn s72_malformed_logout_requests_are_refused() {
    let Some(scene) = scene("none").await else { return };
    scene.gateway.begin("/", None).await;
    let form = "Content-Type: application/x-www-form-urlencoded";
    let path = "/.vestibule/backchannel-logout/gitlab";
    let long = format!("logout_token={}", "a".repeat(40_000));
    for (kind, body) in [
        (form, ""),
        (form, "logout_token="),
        (form, "logout_token=a.b.c"),
        (form, "logout_token=x&logout_token=y"),
        (form, &*long),
        ("Content-Type: application/json", "{\"logout_token\":\"x\"}"),
    ] {
        let (port, length) = (scene.gateway.port, body.len());
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
        let answer = scene.gateway.raw(head + body).await;
        assert_eq!(answer.status, 400, "{kind} {}", &body[..body.len().min(40)]);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    assert_eq!(scene.gateway.get(path, &[]).await.status, 405);
    assert_eq!(scene.gateway.request("POST", "/.vestibule/backchannel-logout/other", &[form]).await.status, 404);
}

/// S-72: whoever sends bodies that do not come to an end keeps no logout token waiting, and is not listened to for long.
#[tokio::test]
async fn s72_slow_bodies_keep_no_logout_token_waiting() {
    let Some(scene) = scene("logout-sub-only").await else { return };
    let (port, begun) = (scene.gateway.port, Instant::now());
    let head = format!(
        "POST /.vestibule/backchannel-logout/gitlab HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nl\r\n"
    );
    let mut slow = Vec::new();
    for _ in 0..520 {
        let mut wire = Wire::connect(port).await;
        wire.send(&head).await;
        slow.push(wire);
    }
    scene.logs_out(200, false).await; // while they go on: without a turn it would be 503
    let mut told = Vec::new();
    for wire in &mut slow {
        told.push(wire.answer().await.expect("an answer").status);
    }
    let of = |status| told.iter().filter(|one| **one == status).count();
    assert!(of(400) >= 8 && of(400) + of(503) == told.len(), "some had a turn, the others none: {told:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
