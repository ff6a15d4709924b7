//! Signing in, refreshing and reading groups at a real provider, and what happens when its answers are wrong.

use crate::support::provider::{CLIENT_ID, CLIENT_SECRET, Provider};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::task::{AbortHandle, JoinSet};
use url::Url;
use vestibule::{
    config::{ProviderKind, ProviderSettings},
    oidc::{self, Access, AuthorizationRequest, CodeGrant, GroupList, ProviderError, Refreshed, SignedIn, Tokens},
    principal::MembershipSource,
};

const TOKEN: &str = "/oauth/token";
const USERINFO: &str = "/oauth/userinfo";
const KEYS: &str = "/oauth/discovery/keys";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const NONCE: &str = "the-nonce-of-this-sign-in";
const BACK: &str = "http://127.0.0.1:1/oauth2/callback";

/// Our side: a provider as the gateway holds it, kept fresh until this value is dropped.
struct Ours {
    provider: Arc<oidc::Provider>,
    keeper: AbortHandle,
    cache: tempfile::TempDir,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn settings(issuer: &str, kind: ProviderKind) -> ProviderSettings {
    let name = "idp".parse().expect("a name");
    ProviderSettings {
        scopes: ["openid", "profile", "email"].map(str::to_owned).into(),
        ..ProviderSettings::new(name, kind, issuer, CLIENT_ID, SecretString::from(CLIENT_SECRET))
    }
}

/// Starts to discover `issuer`.
fn discover(issuer: &str, kind: ProviderKind) -> Ours {
    let cache = tempfile::tempdir().expect("a directory");
    let provider = oidc::Provider::new(Arc::new(settings(issuer, kind)), cache.path());
    let keeper = tokio::spawn(Arc::clone(&provider).keep_fresh()).abort_handle();
    Ours { provider, keeper, cache }
}

/// Discovers `issuer` and waits until that has succeeded.
async fn ours(issuer: &str, kind: ProviderKind) -> Ours {
    let ours = discover(issuer, kind);
    tokio::time::timeout(Duration::from_secs(20), ours.provider.until_ready()).await.expect("discovered in time");
    ours
}

/// Waits until an attempt has failed and returns its cause.
async fn first_error(ours: &Ours) -> String {
    let wait = async {
        loop {
            if let Some(cause) = ours.provider.status().last_error {
                return cause;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("an attempt in time")
}

impl Ours {
    fn url(&self) -> Result<Url, ProviderError> {
        self.provider.authorization_url(&AuthorizationRequest {
            redirect_uri: &back(),
            state: "the-state",
            nonce: NONCE,
            verifier: &verifier(),
            prompt: None,
            login_hint: None,
            step_up: None,
        })
    }

    async fn redeem(&self, code: &str) -> Result<SignedIn, ProviderError> {
        self.redeem_at(code, SystemTime::now()).await
    }

    async fn redeem_at(&self, code: &str, now: SystemTime) -> Result<SignedIn, ProviderError> {
        let (code, verifier) = (SecretString::from(code), verifier());
        let grant = CodeGrant { code: &code, redirect_uri: &back(), nonce: NONCE, verifier: &verifier, step_up: None };
        self.provider.redeem(&grant, now).await
    }

    /// Redeems a code for which the provider answers with `id_token`.
    async fn redeem_token(&self, theirs: &Provider, id_token: &str) -> Result<SignedIn, ProviderError> {
        answer_token(theirs, json!({"id_token": id_token})).await;
        self.redeem("any").await
    }

    async fn sign_in(&self, theirs: &Provider, user: &str) -> SignedIn {
        let callback = theirs.authorize(&self.url().expect("discovered"), user).await;
        assert!(callback.url.as_str().starts_with(BACK), "{}", callback.url);
        assert_eq!((callback.state.as_str(), callback.error), ("the-state", None));
        self.provider.check_response_issuer(callback.iss.as_deref()).expect("the right issuer");
        self.redeem(&callback.code).await.expect("signed in")
    }

    async fn refresh(&self, before: &Tokens) -> Result<Refreshed, ProviderError> {
        self.provider.refresh(before, "1", SystemTime::now()).await
    }
}

fn back() -> Url {
    Url::parse(BACK).expect("a URL")
}

fn verifier() -> SecretString {
    SecretString::from("x4Yt0pQm2Zr7Kc9Lw1Vb5Nd8Hf3Js6Ga_uEiRoTqWyZ")
}

/// Makes the provider answer the next token request with `members` beside an access token.
async fn answer_token(theirs: &Provider, members: Value) {
    let mut body = json!({"access_token": "an-access-token", "token_type": "bearer"});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    theirs.fault(TOKEN, json!({"status": 200, "body": body})).await;
}

/// Claims that a sign-in as alice accepts, with `change` on top.
fn claims(change: Value) -> Value {
    let mut claims =
        json!({"aud": CLIENT_ID, "sub": "1", "nonce": NONCE, "groups": ["platform"], "preferred_username": "alice"});
    claims.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
    claims
}

fn groups(source: MembershipSource, paths: &[&str]) -> Option<GroupList> {
    Some(GroupList { paths: paths.iter().map(|path| path.parse().expect("a path")).collect(), source })
}

fn cause<T: std::fmt::Debug>(result: Result<T, ProviderError>) -> String {
    match result.expect_err("refused") {
        ProviderError::Invalid { cause, .. } => cause,
        other => panic!("expected `Invalid`: {other:?}"),
    }
}

#[tokio::test]
async fn a_person_signs_in_at_gitlab() {
    let Some(theirs) = Provider::start(&[("PROFILE", "gitlab"), ("REQUIRE_PKCE", "1")]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Gitlab).await;
    let signed_in = ours.sign_in(&theirs, "alice").await;
    assert_eq!(signed_in.person.id.to_string(), "idp:1");
    assert_eq!(&*signed_in.person.issuer, theirs.issuer);
    assert_eq!(&*signed_in.person.login, "alice");
    assert_eq!(signed_in.person.email.as_deref(), Some("alice@example.test"));
    assert_eq!(signed_in.person.name.as_deref(), Some("Alice Admin"));
    let all = ["platform", "platform/infra", "platform/infra/sre", "platform/portal", "security"];
    assert_eq!(signed_in.groups, groups(MembershipSource::Userinfo, &all));

    let life = signed_in.tokens.access_expires.duration_since(signed_in.tokens.issued).expect("later");
    assert_eq!(life, Duration::from_secs(7200));
    let refreshed = ours.refresh(&signed_in.tokens).await.expect("refreshed");
    assert_eq!(refreshed.groups, None, "an ID token of GitLab lists direct memberships only");
    let rotated = |tokens: &Tokens| tokens.refresh.as_ref().expect("given").expose_secret().to_owned();
    assert_ne!(rotated(&refreshed.tokens), rotated(&signed_in.tokens));

    theirs.admin("/admin/user", json!({"user": "alice", "memberships": {"security": "guest"}})).await;
    let read = ours.provider.groups_of(&refreshed.tokens.access, "1").await.expect("read");
    assert_eq!(read, groups(MembershipSource::Userinfo, &["security"]));

    assert!(ours.provider.end_session_url(None, &back(), "s").is_none(), "GitLab has no such endpoint");
    ours.provider.revoke(refreshed.tokens.refresh.as_ref().expect("given")).await.expect("revoked");
    let over = ours.refresh(&refreshed.tokens).await.expect_err("revoked");
    assert!(matches!(over, ProviderError::Rejected { .. }), "{over:?}");
}

#[tokio::test]
async fn a_person_signs_in_where_the_id_token_has_groups() {
    let Some(theirs) = Provider::start(&[("ID_TOKEN_CLAIMS", "all"), ("ALG", "ES256")]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let signed_in = ours.sign_in(&theirs, "bob").await;
    let expected = groups(MembershipSource::IdToken, &["payments/core", "payments/core/ledger", "platform/portal"]);
    assert_eq!(signed_in.groups, expected);
    assert_eq!(&*signed_in.person.login, "bob");
    assert_eq!(theirs.seen(USERINFO).await, 0);
    let refreshed = ours.provider.refresh(&signed_in.tokens, "2", SystemTime::now()).await.expect("refreshed");
    assert_eq!(refreshed.groups, expected);

    assert!(ours.provider.check_response_issuer(None).is_err(), "the provider promises `iss`");
    assert!(ours.provider.check_response_issuer(Some("https://evil.example.com")).is_err());
    let end = ours.provider.end_session_url(signed_in.tokens.id.as_ref(), &back(), "s").expect("an endpoint");
    let query: Vec<(String, String)> = end.query_pairs().into_owned().collect();
    assert_eq!(query[0].0, "id_token_hint");
    let rest = [("client_id", CLIENT_ID), ("post_logout_redirect_uri", BACK), ("state", "s")];
    let rest = rest.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(query[1..], rest);
    let long = SecretString::from("a".repeat(6 * 1024 + 1)); // an address that long is refused by many servers
    let end = ours.provider.end_session_url(Some(&long), &back(), "s").expect("an endpoint");
    assert_eq!(end.query_pairs().into_owned().collect::<Vec<_>>(), rest);
}

#[tokio::test]
async fn authorization_requests_ask_for_a_code_with_s256_and_nonce() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let url = ours
        .provider
        .authorization_url(&AuthorizationRequest {
            redirect_uri: &back(),
            state: "s",
            nonce: "n",
            verifier: &verifier(),
            prompt: Some("select_account"),
            login_hint: None,
            step_up: None,
        })
        .expect("discovered");
    let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    query.sort();
    let expected = [
        ("client_id", CLIENT_ID),
        ("code_challenge", "JOw1dg-S6pEyeuiNxDHzhlGnBQDo1EAtqyBMt2M5FXg"),
        ("code_challenge_method", "S256"),
        ("nonce", "n"),
        ("prompt", "select_account"),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("scope", "openid profile email"),
        ("state", "s"),
    ];
    assert_eq!(query, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

/// Each token breaks one rule, is signed well unless that is the rule, and signs nobody in.
#[tokio::test]
async fn id_tokens_that_break_a_rule_are_refused() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let gitlab = ours(&theirs.issuer, ProviderKind::Gitlab).await;
    let oidc = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let good = theirs.mint(json!({"claims": claims(json!({}))})).await;
    oidc.redeem_token(&theirs, &good).await.expect("the template is good");
    let token = json!({"claims": claims(json!({"auth_time": 1_789_000_000, "amr": ["pwd", "otp"], "acr": "2", "sid": "s1", "azp": CLIENT_ID}))});
    let signed_in = oidc.redeem_token(&theirs, &theirs.mint(token).await).await.expect("signed in");
    assert_eq!(signed_in.strength.auth_time.map(seconds), Some(1_789_000_000));
    assert_eq!(
        (&*signed_in.strength.amr, signed_in.strength.acr.as_deref(), signed_in.sid.as_deref()),
        (&["pwd".to_owned(), "otp".to_owned()][..], Some("2"), Some("s1"))
    );
    for (rule, minted) in [
        ("no nonce", json!({"claims": claims(json!({})), "omit": ["nonce"]})),
        ("not the one we sent", json!({"claims": claims(json!({"nonce": "other"}))})),
        ("issuer", json!({"claims": claims(json!({"iss": "https://evil.example.com"}))})),
        ("issuer", json!({"claims": claims(json!({"iss": format!("{}/", theirs.issuer)}))})),
        ("audience", json!({"claims": claims(json!({"aud": "other"}))})),
        ("audience", json!({"claims": claims(json!({"aud": [CLIENT_ID, "other"]}))})),
        ("audience", json!({"claims": claims(json!({})), "omit": ["aud"]})),
        ("`azp`", json!({"claims": claims(json!({"azp": "other"}))})),
        ("`at_hash`", json!({"claims": claims(json!({"at_hash": "b3RoZXI"}))})),
        ("audience", json!({"claims": claims(json!({"aud": [CLIENT_ID, "other"], "azp": CLIENT_ID}))})),
        ("audience", json!({"claims": claims(json!({"aud": []}))})),
        ("audience", json!({"claims": claims(json!({"aud": [7]}))})),
        ("`azp`", json!({"claims": claims(json!({"aud": [CLIENT_ID], "azp": ["vestibule"]}))})),
        ("no `exp`", json!({"claims": claims(json!({})), "omit": ["exp"]})),
        ("no time", json!({"claims": claims(json!({"exp": "soon"}))})),
        ("no `iat`", json!({"claims": claims(json!({})), "omit": ["iat"]})),
        ("no time", json!({"claims": claims(json!({"auth_time": "now"}))})),
        ("`sub`", json!({"claims": claims(json!({})), "omit": ["sub"]})),
        ("nonce", json!({"claims": claims(json!({"nonce": [NONCE]}))})),
        ("issuer", json!({"claims": claims(json!({"iss": 7}))})),
        ("issuer", json!({"claims": claims(json!({})), "omit": ["iss"]})),
        ("`at_hash`", json!({"claims": claims(json!({"at_hash": 7}))})),
        ("`sub`", json!({"claims": claims(json!({"sub": ""}))})),
        ("`sub`", json!({"claims": claims(json!({"sub": "1".repeat(256)}))})),
        ("`sub`", json!({"claims": claims(json!({"sub": "é"}))})),
        ("at+jwt", json!({"claims": claims(json!({})), "header": {"typ": "at+jwt"}})),
        ("logout+jwt", json!({"claims": claims(json!({})), "header": {"typ": "logout+jwt"}})),
        ("signature", json!({"claims": claims(json!({})), "stranger_key": true})),
        ("`kid`", json!({"claims": claims(json!({})), "header": {"kid": "../../../etc/passwd"}})),
    ] {
        let refused = cause(oidc.redeem_token(&theirs, &theirs.mint(minted.clone()).await).await);
        assert!(refused.contains(rule), "{rule}: {refused}");
    }
    for job in [
        json!({"job_id": "3"}),
        json!({"pipeline_id": "4"}),
        json!({"project_path": "a/b"}),
        json!({"job_project_path": "a/b"}),
    ] {
        let token = theirs.mint(json!({"claims": claims(job)})).await;
        assert!(cause(gitlab.redeem_token(&theirs, &token).await).contains("CI job"));
    }
    let token =
        theirs.mint(json!({"claims": claims(json!({"sub": "project_path:a/b:ref_type:branch:ref:main"}))})).await;
    assert!(cause(gitlab.redeem_token(&theirs, &token).await).contains("GitLab user"));
    answer_token(&theirs, json!({})).await;
    assert!(cause(oidc.redeem("any").await).contains("no ID token"));
}

/// Without a signature, or with one made from the client secret, a token signs nobody in, whatever the provider lists.
#[tokio::test]
async fn unsigned_and_symmetric_tokens_are_refused() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let now = seconds(SystemTime::now());
    let payload = claims(json!({"iss": theirs.issuer, "iat": now, "exp": now + 300})).to_string();
    let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
    let none = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&payload));
    assert!(cause(ours.redeem_token(&theirs, &none).await).contains("algorithm is `none`"));

    let input = format!("{}.{}", part(r#"{"alg":"HS256"}"#), part(&payload));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
    let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    let symmetric = format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag));
    assert!(cause(ours.redeem_token(&theirs, &symmetric).await).contains("algorithm is `HS256`"));
}

#[tokio::test]
async fn clocks_may_differ_by_a_minute() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let base = seconds(SystemTime::now());
    for (times, accepted, refused) in [
        (json!({"iat": base - 100, "exp": base}), base + 59, base + 61),
        (json!({"iat": base, "exp": base + 300}), base - 59, base - 61),
        (json!({"iat": base - 300, "nbf": base, "exp": base + 300}), base - 59, base - 61),
        (json!({"iat": base, "exp": base + 3600}), base + 659, base + 661),
    ] {
        let mut change = times.clone();
        if change.get("nbf").is_none() {
            change["nbf"] = (base - 1000).into();
        }
        let token = theirs.mint(json!({"claims": claims(change)})).await;
        for (now, is_good) in [(accepted, true), (refused, false)] {
            answer_token(&theirs, json!({"id_token": token})).await;
            let result = ours.redeem_at("any", UNIX_EPOCH + Duration::from_secs(now)).await;
            assert_eq!(result.is_ok(), is_good, "{times} {now}: {result:?}");
        }
    }
}

/// A new key needs no restart: with the old key still published, without it, and under the old key's name.
#[tokio::test]
async fn rotated_keys_are_read_once() {
    let Some(theirs) = Provider::start(&[]) else { return };
    for rotation in [json!({}), json!({"keep_old": false}), json!({"keep_old": false, "same_kid": true})] {
        let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
        let before = theirs.seen(KEYS).await;
        let old = theirs.mint(json!({"claims": claims(json!({}))})).await;
        theirs.admin("/admin/rotate", rotation.clone()).await;
        let fresh = theirs.mint(json!({"claims": claims(json!({}))})).await;
        for _ in 0..2 {
            ours.redeem_token(&theirs, &fresh).await.expect("signed by the new key");
        }
        assert_eq!(theirs.seen(KEYS).await - before, 1, "{rotation}");
        let is_published = rotation.get("keep_old").is_none();
        assert_eq!(ours.redeem_token(&theirs, &old).await.is_ok(), is_published, "{rotation}");
        assert_eq!(theirs.seen(KEYS).await - before, 1, "{rotation}");
    }
}

/// Tokens with unknown keys cannot make us flood the provider.
#[tokio::test]
async fn a_thousand_unknown_keys_cause_one_read() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = Arc::new(ours(&theirs.issuer, ProviderKind::Oidc).await);
    let bogus = theirs.mint(json!({"claims": claims(json!({})), "header": {"kid": "bogus"}})).await;
    let body = json!({"access_token": "a", "token_type": "Bearer", "id_token": bogus});
    theirs.fault(TOKEN, json!({"status": 200, "body": body, "times": 1000})).await;
    for _ in 0..20 {
        let mut batch = JoinSet::new();
        for _ in 0..50 {
            let ours = Arc::clone(&ours);
            batch.spawn(async move { ours.redeem("any").await.is_err() });
        }
        assert!(batch.join_all().await.into_iter().all(|refused| refused));
    }
    assert_eq!(theirs.seen(TOKEN).await, 1000);
    assert_eq!(theirs.seen(KEYS).await, 2, "one at start, one for all of them");
}

/// A key URL inside a token is never called.
#[tokio::test]
async fn keys_named_by_a_token_are_not_fetched() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let canary = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let trap = format!("http://{}/keys", canary.local_addr().expect("an address"));
    let header = json!({"jku": trap, "x5u": trap, "kid": "unknown"});
    let token = theirs.mint(json!({"claims": claims(json!({})), "header": header, "stranger_key": true})).await;
    assert!(ours.redeem_token(&theirs, &token).await.is_err());
    let silence = tokio::time::timeout(Duration::from_millis(100), canary.accept()).await;
    assert!(silence.is_err(), "somebody called");
}

/// The session goes on whatever the answer leaves out.
#[tokio::test]
async fn refresh_answers_of_every_shape_keep_the_session() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let old = theirs.mint(json!({"claims": claims(json!({}))})).await;
    let before = tokens(&old);
    let fresh = theirs.mint(json!({"claims": claims(json!({"groups": ["security"]})), "omit": ["nonce"]})).await;
    for shape in 0..8 {
        let mut members = json!({});
        if shape & 1 != 0 {
            members["id_token"] = fresh.as_str().into();
        }
        if shape & 2 != 0 {
            members["refresh_token"] = "new-refresh-token".into();
        }
        if shape & 4 != 0 {
            members["expires_in"] = 120.into();
        }
        answer_token(&theirs, members.clone()).await;
        let now = SystemTime::now();
        let after = ours.provider.refresh(&before, "1", now).await.expect("refreshed");
        let (has_id, has_refresh, has_life) = (shape & 1 != 0, shape & 2 != 0, shape & 4 != 0);
        let shown = |secret: &Option<SecretString>| secret.as_ref().expect("kept").expose_secret().to_owned();
        assert_eq!(after.tokens.access.token.expose_secret(), "an-access-token");
        assert_eq!(shown(&after.tokens.id), if has_id { fresh.as_str() } else { old.as_str() }, "{members}");
        assert_eq!(shown(&after.tokens.refresh), if has_refresh { "new-refresh-token" } else { "old-refresh-token" });
        assert_eq!(after.tokens.access_expires, now + Duration::from_secs(if has_life { 120 } else { 3600 }));
        let expected = groups(MembershipSource::IdToken, &["security"]).filter(|_| has_id);
        assert_eq!(after.groups, expected, "{members}");
    }
}

#[tokio::test]
async fn refreshed_id_tokens_are_of_the_same_person_and_sign_in() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let before = tokens(&theirs.mint(json!({"claims": claims(json!({}))})).await);
    for (rule, change) in [
        ("another person", json!({"sub": "2"})),
        ("issuer", json!({"iss": "https://evil.example.com"})),
        ("audience", json!({"aud": "other"})),
        ("nonce", json!({"nonce": "other"})),
    ] {
        let token = theirs.mint(json!({"claims": claims(change)})).await;
        answer_token(&theirs, json!({"id_token": token})).await;
        let refused = cause(ours.refresh(&before).await);
        assert!(refused.contains(rule), "{rule}: {refused}");
    }
}

/// P21: what a provider says after a long while is judged by the time when it says it.
#[tokio::test]
async fn p21_a_refreshed_id_token_is_not_from_the_future_because_it_was_waited_for() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let (now, ahead) = (SystemTime::now(), Duration::from_secs(65));
    let at = |time: SystemTime| json!({"iat": seconds(time), "nbf": seconds(time), "exp": seconds(time) + 120});
    let token = theirs.mint(json!({"claims": claims(at(now + ahead)), "omit": ["nonce"]})).await;
    let body = json!({"access_token": "an-access-token", "token_type": "bearer", "expires_in": 300, "id_token": token});
    let fault = |delay: u64| json!({"status": 200, "body": body, "delay_ms": delay});
    let before = tokens(&theirs.mint(json!({"claims": claims(json!({}))})).await);
    theirs.fault(TOKEN, fault(0)).await;
    assert!(cause(ours.provider.refresh(&before, "1", now).await).contains("future"));
    theirs.fault(TOKEN, fault(7000)).await;
    let after = ours.provider.refresh(&before, "1", now).await.expect("refreshed");
    let life = after.tokens.access_expires.duration_since(now).expect("later");
    assert_eq!(life, Duration::from_secs(300), "nobody knows when it began, so it ends rather early");
}

/// A rotated refresh token is kept though the ID token beside it cannot be checked: the one of before is used up.
#[tokio::test]
async fn refreshed_tokens_are_kept_while_the_keys_cannot_be_read() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let old = theirs.mint(json!({"claims": claims(json!({}))})).await;
    let before = tokens(&old);
    for fault in [json!({"status": 503}), json!({"status": 404}), json!({"status": 200, "body": "<html>"})] {
        let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
        theirs.admin("/admin/rotate", json!({})).await;
        let fresh = theirs.mint(json!({"claims": claims(json!({"groups": ["security"]})), "omit": ["nonce"]})).await;
        theirs.fault(KEYS, fault.clone()).await;
        for attempt in ["the read fails", "the next read has to wait"] {
            answer_token(&theirs, json!({"id_token": fresh, "refresh_token": "new-refresh-token"})).await;
            let after = ours.refresh(&before).await.unwrap_or_else(|error| panic!("{fault} {attempt}: {error}"));
            let shown = |secret: &Option<SecretString>| secret.as_ref().expect("kept").expose_secret().to_owned();
            assert_eq!(after.tokens.access.token.expose_secret(), "an-access-token");
            assert_eq!(shown(&after.tokens.refresh), "new-refresh-token");
            assert_eq!(
                (shown(&after.tokens.id), after.groups),
                (old.clone(), None),
                "an unchecked ID token is not used"
            );
        }
        answer_token(&theirs, json!({"id_token": fresh})).await;
        ours.redeem("any").await.expect_err("a sign-in needs the ID token");
    }
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let stranger = theirs.mint(json!({"claims": claims(json!({})), "omit": ["nonce"], "stranger_key": true})).await;
    answer_token(&theirs, json!({"id_token": stranger})).await;
    assert!(cause(ours.refresh(&before).await).contains("signature"), "the newest keys did not make it");
}

/// Who is at fault decides what follows: the grant is over, our registration is wrong, or the provider is down.
#[tokio::test]
async fn token_endpoint_errors_are_told_apart() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Oidc).await;
    let before = tokens("none");
    let says =
        |status: u16, error: &str| json!({"status": status, "body": {"error": error, "error_description": "a\r\nb"}});
    let page = |status: u16| json!({"status": status, "body": "<html>", "headers": {"content-type": "text/html"}});
    for (fault, expected) in [
        (says(400, "invalid_grant"), "rejected the grant: ab"),
        (says(401, "invalid_client"), "does not accept this client: invalid_client: ab"),
        (says(400, "unauthorized_client"), "does not accept this client: unauthorized_client: ab"),
        (says(503, "invalid_grant"), "cannot be reached"),
        (says(500, "invalid_client"), "cannot be reached"),
        (says(429, "slow_down"), "cannot be reached"),
        (json!({"reset": true}), "cannot be reached"),
        (says(400, "invalid_scope"), "unacceptable answer: it answered `invalid_scope`: ab"),
        (says(400, "the invalid_grant"), "unacceptable answer"),
        (says(400, "temporarily_unavailable"), "cannot be reached: it answered `temporarily_unavailable`: ab"),
        (says(400, "server_error"), "cannot be reached"),
        (says(400, "slow_down"), "cannot be reached"),
        (says(200, "temporarily_unavailable"), "cannot be reached"),
        (json!({"status": 404, "body": "invalid_grant"}), "cannot be reached"),
        (page(200), "cannot be reached"),
        (page(403), "cannot be reached"),
        (page(404), "cannot be reached"),
        (json!({"status": 200, "body": "<html>"}), "cannot be reached"),
        (json!({"status": 404, "body": {"message": "maintenance"}}), "cannot be reached"),
        (json!({"status": 302, "body": {}, "headers": {"location": "http://127.0.0.1:1/"}}), "cannot be reached"),
        (json!({"status": 200, "body": {"error": "invalid_grant"}}), "unacceptable answer"),
        (json!({"status": 200, "body": {"access_token": 7, "token_type": "bearer"}}), "unacceptable answer"),
        (json!({"status": 200, "body": {"access_token": "a", "token_type": "mac"}}), "unacceptable answer"),
        (json!({"status": 200, "body": {"access_token": "a\nb", "token_type": "bearer"}}), "unacceptable answer"),
        (json!({"status": 200, "body": {}, "headers": {"content-encoding": "gzip"}}), "cannot be reached"),
        (json!({"status": 200, "body": "x".repeat(4 << 20)}), "cannot be reached"),
    ] {
        theirs.fault(TOKEN, fault.clone()).await;
        let said = ours.refresh(&before).await.expect_err("refused").to_string();
        assert!(said.contains(expected), "{fault:.80}: {said}");
        theirs.fault(TOKEN, fault.clone()).await;
        let said = ours.redeem("any").await.expect_err("refused").to_string();
        assert!(said.contains(expected), "{fault:.80}: {said}");
    }
    drop(theirs);
    let down = ours.refresh(&before).await.expect_err("nobody there");
    assert!(matches!(down, ProviderError::Unavailable { .. }), "{down:?}");
}

#[tokio::test]
async fn userinfo_is_believed_only_about_the_right_person() {
    let Some(theirs) = Provider::start(&[("PROFILE", "gitlab")]) else { return };
    let ours = ours(&theirs.issuer, ProviderKind::Gitlab).await;
    let signed_in = ours.sign_in(&theirs, "alice").await;
    let access = &signed_in.tokens.access;
    for (fault, expected) in [
        (json!({"status": 200, "body": {"sub": "2", "groups": ["security"]}}), "another person"),
        (json!({"status": 200, "body": {"groups": ["security"]}}), "another person"),
        (json!({"status": 200, "body": ["security"]}), "no JSON object"),
        (json!({"status": 401}), "does not accept the access token"),
        (json!({"status": 403}), "does not accept the access token"),
        (json!({"status": 404}), "answered 404"),
        (json!({"status": 429}), "cannot be reached"),
        (json!({"status": 502}), "cannot be reached"),
        (json!({"reset": true}), "cannot be reached"),
    ] {
        theirs.fault(USERINFO, fault.clone()).await;
        let said = ours.provider.groups_of(access, "1").await.expect_err("refused").to_string();
        assert!(said.contains(expected), "{fault}: {said}");
    }
    for body in
        [json!({"sub": "1"}), json!({"sub": "1", "groups": "security"}), json!({"sub": "1", "groups": ["security", 7]})]
    {
        theirs.fault(USERINFO, json!({"status": 200, "body": body})).await;
        assert_eq!(ours.provider.groups_of(access, "1").await.expect("read"), None, "unknown, never empty");
    }
    theirs.fault(USERINFO, json!({"delay_ms": 6000, "status": 200, "body": {"sub": "1"}})).await;
    let late = ours.provider.groups_of(access, "1").await.expect_err("late").to_string();
    assert!(late.contains("gave no answer in 5 s"), "{late}");
    theirs.admin("/admin/block", json!({"user": "alice"})).await;
    let blocked = ours.provider.groups_of(access, "1").await.expect_err("blocked");
    assert!(matches!(blocked, ProviderError::AccessToken { .. }), "{blocked:?}");
    let callback = theirs.authorize(&ours.url().expect("discovered"), "alice").await;
    assert_eq!((callback.code.as_str(), callback.error.as_deref()), ("", Some("access_denied")));
}

/// A bad document is not used, and a good one later is.
#[tokio::test]
async fn discovery_documents_that_break_a_rule_are_not_used() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let document = |change: Value| {
        let mut body = json!({
            "issuer": theirs.issuer, "authorization_endpoint": format!("{}/oauth/authorize", theirs.issuer),
            "token_endpoint": format!("{}{TOKEN}", theirs.issuer), "jwks_uri": format!("{}{KEYS}", theirs.issuer),
        });
        body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        json!({"status": 200, "body": body})
    };
    for (fault, expected) in [
        (document(json!({"issuer": "https://evil.example.com"})), "is for issuer `https://evil.example.com`"),
        (document(json!({"token_endpoint": "http://example.com/token"})), "expected an https URL"),
        (json!({"status": 302, "headers": {"location": "http://169.254.169.254/"}}), "redirects are not followed"),
        (json!({"status": 404}), "answered 404"),
        (json!({"status": 503}), "answered 503"),
        (json!({"status": 200, "body": {}}), "missing field"),
    ] {
        theirs.fault(DISCOVERY, fault.clone()).await;
        let ours = discover(&theirs.issuer, ProviderKind::Oidc);
        let said = first_error(&ours).await;
        assert!(said.contains(expected), "{fault}: {said}");
        tokio::time::timeout(Duration::from_secs(20), ours.provider.until_ready()).await.expect("tried again");
        assert_eq!(ours.provider.issuer(), theirs.issuer);
    }
}

#[tokio::test]
async fn a_provider_that_comes_up_later_is_found() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let ours = discover(&format!("http://{free}"), ProviderKind::Oidc);
    let said = first_error(&ours).await;
    assert!(said.contains("cannot be reached"), "{said}");
    assert!(matches!(ours.url(), Err(ProviderError::Unavailable { .. })));
    assert!(!ours.provider.ready());
    let Some(theirs) = Provider::start(&[("PORT", &free.port().to_string())]) else { return };
    tokio::time::timeout(Duration::from_secs(40), ours.provider.until_ready()).await.expect("found");
    let signed_in = ours.sign_in(&theirs, "carol").await;
    assert_eq!(signed_in.groups, groups(MembershipSource::Userinfo, &["payments/core/ledger"]));
    let status = ours.provider.status();
    assert_eq!((status.last_error, status.clock_ahead.map(|seconds| seconds.abs() <= 2)), (None, Some(true)));
}

#[tokio::test]
async fn a_restart_while_the_provider_is_down_uses_what_was_kept() {
    let Some(theirs) = Provider::start(&[]) else { return };
    let issuer = theirs.issuer.clone();
    let first = ours(&issuer, ProviderKind::Oidc).await;
    let token = theirs.mint(json!({"claims": claims(json!({}))})).await;
    let file = first.cache.path().join("idp.json");
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(theirs);
    assert_eq!(file.metadata().expect("a file").permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&file).expect("text").contains(CLIENT_SECRET));

    let again = |issuer: &str, cache: &Path| oidc::Provider::new(Arc::new(settings(issuer, ProviderKind::Oidc)), cache);
    let second = again(&issuer, first.cache.path());
    assert!(second.ready());
    assert_eq!(second.status().keys_read.map(seconds), first.provider.status().keys_read.map(seconds));
    assert!(!again("http://127.0.0.1:1", first.cache.path()).ready(), "kept for another issuer");

    // The provider is back at its token endpoint only: the kept keys verify what it signs.
    let port = Url::parse(&issuer).expect("a URL").port().expect("a port");
    let body = json!({"access_token": "a", "token_type": "Bearer", "id_token": token}).to_string();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("the port is free again");
    let server = tokio::spawn(answer_once(listener, body));
    let cache = tempfile::tempdir().expect("a directory");
    std::fs::copy(&file, cache.path().join("idp.json")).expect("copied");
    let kept = Ours { provider: again(&issuer, cache.path()), keeper: server.abort_handle(), cache };
    kept.redeem("any").await.expect("signed in with the kept keys");
}

/// Answers one request with `body`.
async fn answer_once(listener: tokio::net::TcpListener, body: String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut stream, _) = listener.accept().await.expect("a client");
    let mut request = vec![0; 8192];
    let _ = stream.read(&mut request).await.expect("a request");
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    let _ = stream.read(&mut request).await;
}

fn tokens(id: &str) -> Tokens {
    let now = SystemTime::now();
    Tokens {
        access: Access { token: SecretString::from("old-access-token"), narrowed: false },
        access_expires: now + Duration::from_secs(60),
        issued: now,
        refresh: Some(SecretString::from("old-refresh-token")),
        id: Some(SecretString::from(id)),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}
