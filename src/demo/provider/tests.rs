use super::*;
use crate::{
    config::HookProof,
    demo::server::{
        self,
        tests::{asked, body},
    },
    gitlab::hook::{About, Hook},
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use secrecy::SecretString;
use serde_json::Value;
use std::{net::SocketAddr, sync::Arc};

const BACK: &str = "http://portal.localhost:8080/.vestibule/callback/gitlab";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters-0";

fn provider() -> Provider {
    provider_before(SocketAddr::from(([127, 0, 0, 1], 9)))
}

/// A provider whose hooks go to `front`.
fn provider_before(front: SocketAddr) -> Provider {
    let client = Client { id: "vestibule-demo".into(), secret: "se:cret".into(), redirect_uri: BACK.into() };
    let hooks = Hooks::new(front, "http://portal.localhost:8080", "hook-token".into(), "audit-token".into());
    Provider::new("http://127.0.0.1:8081".into(), client, "glpat-service".into(), hooks).expect("a key can be made")
}

fn now() -> SystemTime {
    SystemTime::now()
}

/// An authorization request; `changed` fields replace the usual ones, an empty value drops one.
fn authorize(changed: &[(&str, &str)]) -> String {
    let challenge = URL_SAFE_NO_PAD.encode(digest(&SHA256, VERIFIER.as_bytes()));
    let usual = [
        ("client_id", "vestibule-demo"),
        ("redirect_uri", BACK),
        ("response_type", "code"),
        ("scope", "openid profile email"),
        ("state", "s-1"),
        ("nonce", "n-1"),
        ("code_challenge", &challenge),
        ("code_challenge_method", "S256"),
    ];
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in usual {
        if !changed.iter().any(|(other, _)| *other == name) {
            query.append_pair(name, value);
        }
    }
    query.extend_pairs(changed.iter().filter(|(_, value)| !value.is_empty()));
    format!("/oauth/authorize?{}", query.finish())
}

/// Signs a browser in and returns its `Cookie` header.
fn browser(provider: &Provider, login: &str) -> String {
    let response = provider.answer(&asked("GET", &format!("/demo/as/{login}"), &[], ""), now());
    let cookie = response.headers()["set-cookie"].to_str().expect("ASCII");
    cookie.split(';').next().expect("a first part").to_owned()
}

fn location(response: &Response<Body>) -> url::Url {
    response.headers()["location"].to_str().expect("ASCII").parse().expect("a URL")
}

fn field(url: &url::Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn code(provider: &Provider, login: &str) -> String {
    let cookie = browser(provider, login);
    let response = provider.answer(&asked("GET", &authorize(&[]), &[("cookie", &cookie)], ""), now());
    field(&location(&response), "code").expect("a code")
}

async fn post_token(provider: &Provider, form: &str, at: SystemTime) -> (StatusCode, Value) {
    let basic = format!("Basic {}", STANDARD.encode("vestibule-demo:se%3Acret"));
    let response = provider.answer(&asked("POST", "/oauth/token", &[("authorization", &basic)], form), at);
    (response.status(), serde_json::from_str(&body(response).await).expect("JSON"))
}

fn code_form(code: &str, verifier: &str) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("grant_type", "authorization_code"), ("code", code), ("redirect_uri", BACK)])
        .append_pair("code_verifier", verifier)
        .finish()
}

async fn tokens(provider: &Provider, login: &str) -> Value {
    let (status, tokens) = post_token(provider, &code_form(&code(provider, login), VERIFIER), now()).await;
    assert_eq!(status, 200, "{tokens}");
    tokens
}

async fn userinfo(provider: &Provider, access: &Value) -> (StatusCode, Value) {
    let bearer = format!("Bearer {}", access.as_str().expect("an access token"));
    let response = provider.answer(&asked("GET", "/oauth/userinfo", &[("authorization", &bearer)], ""), now());
    (response.status(), serde_json::from_str(&body(response).await).expect("JSON"))
}

async fn id_claims(provider: &Provider, token: &Value) -> Value {
    id_claims_for(provider, token, "vestibule-demo").await
}

async fn id_claims_for(provider: &Provider, token: &Value, audience: &str) -> Value {
    let keys = body(provider.answer(&asked("GET", "/oauth/discovery/keys", &[], ""), now())).await;
    let keys: JwkSet = serde_json::from_str(&keys).expect("a key set");
    let token = token.as_str().expect("an ID token");
    let kid = jsonwebtoken::decode_header(token).expect("a JWT").kid.expect("a kid");
    let key = DecodingKey::from_jwk(keys.find(&kid).expect("the key is published")).expect("a good key");
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["http://127.0.0.1:8081"]);
    jsonwebtoken::decode(token, &key, &rules).expect("it verifies").claims
}

#[tokio::test]
async fn discovers_like_gitlab() {
    let document = body(provider().answer(&asked("GET", "/.well-known/openid-configuration", &[], ""), now())).await;
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["issuer"], "http://127.0.0.1:8081");
    assert!(document.get("end_session_endpoint").is_none());
    assert!(document.get("authorization_response_iss_parameter_supported").is_none());
}

#[test]
fn a_second_sign_in_goes_straight_through_unless_prompted() {
    let provider = provider();
    let cookie = browser(&provider, "ben");
    let ask = |changed: &[(&str, &str)]| {
        provider.answer(&asked("GET", &authorize(changed), &[("cookie", &cookie)], ""), now())
    };
    let back = location(&ask(&[]));
    assert_eq!((field(&back, "state").as_deref(), field(&back, "iss")), (Some("s-1"), None));
    assert!(field(&back, "code").is_some());
    assert_eq!(ask(&[("prompt", "login")]).status(), 200);
    assert_eq!(ask(&[("prompt", "select_account")]).status(), 200);
    assert!(field(&location(&ask(&[("prompt", "none")])), "code").is_some());
    let nobody = provider.answer(&asked("GET", &authorize(&[("prompt", "none")]), &[], ""), now());
    assert_eq!(field(&location(&nobody), "error").as_deref(), Some("login_required"));
}

#[test]
fn the_form_answers_the_prompt_that_showed_it() {
    let provider = provider();
    let query = authorize(&[("prompt", "login")]).split_once('?').expect("a query").1.to_owned();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("authorize", query.as_str()), ("person", "cleo")])
        .finish();
    let response = provider.answer(&asked("POST", "/users/sign_in", &[], &form), now());
    assert_eq!(response.status(), 303);
    let to = response.headers()["location"].to_str().expect("ASCII").to_owned();
    let cookie =
        response.headers()["set-cookie"].to_str().expect("ASCII").split(';').next().expect("a part").to_owned();
    let response = provider.answer(&asked("GET", &to, &[("cookie", &cookie)], ""), now());
    assert!(field(&location(&response), "code").is_some());
}

#[test]
fn a_hint_signs_in_at_once() {
    let provider = provider();
    let response = provider.answer(&asked("GET", &authorize(&[("login_hint", "ada")]), &[], ""), now());
    assert_eq!(response.status(), 302);
    assert!(response.headers().contains_key("set-cookie"));
    assert!(!response.headers()["location"].to_str().expect("ASCII").contains("login_hint"));
}

#[test]
fn pkce_state_nonce_and_openid_are_required() {
    let provider = provider();
    let cookie = browser(&provider, "ada");
    for (changed, error) in [
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("state", ""), "invalid_request"),
        (("nonce", ""), "invalid_request"),
        (("scope", "profile"), "invalid_scope"),
        (("scope", "openid sudo"), "invalid_scope"),
        (("response_type", "token"), "unsupported_response_type"),
        (("prompt", "perhaps"), "invalid_request"),
    ] {
        let response = provider.answer(&asked("GET", &authorize(&[changed]), &[("cookie", &cookie)], ""), now());
        let back = location(&response);
        assert_eq!(field(&back, "error").as_deref(), Some(error), "{changed:?}");
        assert_eq!(field(&back, "code"), None, "{changed:?}");
    }
}

#[test]
fn never_redirects_to_an_address_that_is_not_registered() {
    let provider = provider();
    let near = [BACK.to_owned() + "/", BACK.replace("portal", "other"), String::new()];
    for wrong in near.iter().map(|uri| ("redirect_uri", uri.as_str())).chain([("client_id", "other")]) {
        let response = provider.answer(&asked("GET", &authorize(&[wrong]), &[], ""), now());
        assert_eq!(response.status(), 400, "{wrong:?}");
        assert!(!response.headers().contains_key("location"));
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_for_60_s() {
    let provider = provider();
    let first = code(&provider, "ada");
    let (status, tokens) = post_token(&provider, &code_form(&first, VERIFIER), now()).await;
    assert_eq!((status.as_u16(), &tokens["expires_in"]), (200, &json!(7200)));
    let (status, again) = post_token(&provider, &code_form(&first, VERIFIER), now()).await;
    assert_eq!((status.as_u16(), &again["error"]), (400, &json!("invalid_grant")));
    let late = code(&provider, "ada");
    let (status, _) = post_token(&provider, &code_form(&late, VERIFIER), now() + Duration::from_secs(61)).await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn a_wrong_verifier_burns_the_code() {
    let provider = provider();
    let code = code(&provider, "ada");
    let wrong = VERIFIER.replace('a', "b");
    assert_eq!(post_token(&provider, &code_form(&code, &wrong), now()).await.0, 400);
    assert_eq!(post_token(&provider, &code_form(&code, VERIFIER), now()).await.0, 400);
}

#[tokio::test]
async fn the_client_proves_itself_in_one_of_two_ways() {
    let provider = provider();
    let form = code_form(&code(&provider, "ada"), VERIFIER);
    let post = |form: String| provider.answer(&asked("POST", "/oauth/token", &[], &form), now()).status();
    assert_eq!(post(form.clone()), 401);
    assert_eq!(post(format!("{form}&client_id=vestibule-demo&client_secret=wrong")), 401);
    assert_eq!(post(format!("{form}&client_id=vestibule-demo&client_secret=se%3Acret")), 200);
}

#[tokio::test]
async fn the_id_token_has_direct_groups_and_userinfo_the_effective_ones() {
    let provider = provider();
    let tokens = tokens(&provider, "ada").await;
    let claims = id_claims(&provider, &tokens["id_token"]).await;
    assert_eq!((&claims["sub"], &claims["nonce"]), (&json!("101"), &json!("n-1")));
    assert_eq!(claims["groups_direct"], json!(["acme"]));
    assert!(claims.get("groups").is_none());
    assert_eq!(claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat), Some(120));
    let (_, info) = userinfo(&provider, &tokens["access_token"]).await;
    assert_eq!(info["groups"], json!(["acme", "acme/payments", "acme/platform", "acme/platform/sre", "acme/shop"]));
    assert_eq!(info["https://gitlab.org/claims/groups/owner"], json!(["acme"]));
    assert!(info.get("groups_direct").is_none() && info.get("https://gitlab.org/claims/groups/developer").is_none());
}

#[tokio::test]
async fn refresh_tokens_rotate_without_grace() {
    let provider = provider();
    let first = tokens(&provider, "ben").await;
    let form = |tokens: &Value| {
        format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().expect("one"))
    };
    let (status, second) = post_token(&provider, &form(&first), now()).await;
    assert_eq!(status, 200);
    assert!(id_claims(&provider, &second["id_token"]).await.get("nonce").is_none());
    assert_eq!(userinfo(&provider, &first["access_token"]).await.0, 401);
    assert_eq!(userinfo(&provider, &second["access_token"]).await.0, 200);
    let (status, reused) = post_token(&provider, &form(&first), now()).await;
    assert_eq!((status.as_u16(), &reused["error"]), (400, &json!("invalid_grant")));
    assert_eq!(post_token(&provider, &form(&second), now()).await.0, 200);
}

#[tokio::test]
async fn access_follows_the_person() {
    let provider = provider();
    let tokens = tokens(&provider, "ben").await;
    let post = |path: &str| provider.answer(&asked("POST", path, &[], ""), now()).status();
    assert_eq!(post("/demo/people/ben/leave?group=acme"), 200);
    assert_eq!(userinfo(&provider, &tokens["access_token"]).await.1["groups"], json!([]));
    assert_eq!(post("/demo/people/ben/leave?group=acme"), 409);
    assert_eq!(post("/demo/people/ben/join?group=acme/payments&role=reporter"), 200);
    assert_eq!(userinfo(&provider, &tokens["access_token"]).await.1["groups"], json!(["acme/payments"]));
    assert_eq!(post("/demo/people/ben/block"), 200);
    assert_eq!(userinfo(&provider, &tokens["access_token"]).await.0, 401);
    let refresh = format!("grant_type=refresh_token&refresh_token={}", tokens["refresh_token"].as_str().expect("one"));
    assert_eq!(post_token(&provider, &refresh, now()).await.1["error"], "invalid_grant");
}

#[test]
fn another_site_in_the_browser_changes_nothing() {
    let provider = provider();
    let status =
        |method, path, headers: &[(&str, &str)]| provider.answer(&asked(method, path, headers, ""), now()).status();
    assert_eq!(status("POST", "/demo/people/ada/block", &[("origin", "https://evil.example")]), 403);
    assert_eq!(status("GET", "/demo/as/ada", &[("sec-fetch-site", "cross-site")]), 403);
    assert_eq!(status("GET", "/demo/people", &[("host", "rebound.example")]), 421);
    assert_eq!(status("POST", "/demo/people/ada/block", &[("origin", "http://127.0.0.1:8081")]), 200);
}

#[tokio::test]
async fn tells_members_to_the_service_page_by_page() {
    let provider = provider();
    let get = |path: &str| provider.answer(&asked("GET", path, &[("private-token", "glpat-service")], ""), now());
    assert_eq!(provider.answer(&asked("GET", "/api/v4/users/101", &[], ""), now()).status(), 401);
    let ada = get("/api/v4/groups/acme%2Fplatform%2Fsre/members/all/101");
    let ada: Value = serde_json::from_str(&body(ada).await).expect("JSON");
    assert_eq!((&ada["access_level"], &ada["state"]), (&json!(50), &json!("active")));
    assert_eq!(get("/api/v4/groups/acme/members/all/102").status(), 404);
    let page = get("/api/v4/groups/acme%2Fplatform/members/all?per_page=1");
    assert_eq!(
        (&page.headers()["x-total"], &page.headers()["x-next-page"]),
        (&"2".parse().expect("a value"), &"2".parse().expect("a value"))
    );
    let next = "<http://127.0.0.1:8081/api/v4/groups/acme%2Fplatform/members/all?page=2&per_page=1>; rel=\"next\"";
    assert_eq!(page.headers()["link"], next);
    assert_eq!(body(page).await.matches("\"username\"").count(), 1);
    assert!(!get("/api/v4/groups/42/members/all?per_page=1&page=2").headers().contains_key("link"));
}

#[tokio::test]
async fn tells_the_service_about_groups_and_about_its_token() {
    let provider = provider();
    let get = async |path: &str| {
        let bearer = [("authorization", "Bearer glpat-service")];
        let answer = body(provider.answer(&asked("GET", &format!("/api/v4/{path}"), &bearer, ""), now())).await;
        serde_json::from_str::<Value>(&answer).expect("JSON")
    };
    let group = get("groups/acme%2Fplatform?with_projects=false").await;
    assert_eq!(
        (&group["id"], &group["full_path"], &group["parent_id"]),
        (&json!(42), &json!("acme/platform"), &json!(40))
    );
    assert_eq!(get("groups/acme").await["parent_id"], Value::Null);
    assert_eq!(get("groups/acme%2Fnone").await["message"], "404 Not Found");
    assert_eq!(get("personal_access_tokens/self").await["scopes"], json!(["read_api"]));
}

/// What the token of a job says, verified with the keys of logins; the refusal and its sentence where none is given.
async fn job(provider: &Provider, query: &str) -> Result<Value, (StatusCode, String)> {
    let answer = provider.answer(&asked("GET", &format!("/demo/job?{query}"), &[], ""), now());
    let status = answer.status();
    let said = body(answer).await;
    if status != StatusCode::OK {
        return Err((status, said));
    }
    Ok(id_claims_for(provider, &json!(said.trim_end()), "deploy").await)
}

/// Read as the proxy reads the token of a real job: by whom, where and on what.
#[tokio::test]
async fn a_job_is_what_its_person_starts() {
    let provider = provider();
    for (query, person, places, git_ref, protected, source) in [
        ("user=ben", "102", ["acme/shop/api", "acme/shop/api"], "main", "true", "push"),
        ("user=ada&ref=x", "101", ["acme/shop/api", "acme/shop/api"], "x", "false", "push"),
        ("user=ben&project=acme/shop/web", "102", ["acme/shop/web", "acme/shop/web"], "main", "true", "push"),
        ("user=ben&fork=dan", "102", ["dan/api", "acme/shop/api"], "main", "false", "merge_request_event"),
    ] {
        let claims = job(&provider, &format!("aud=deploy&{query}")).await.expect(query);
        assert_eq!([&claims["user_id"], &claims["ref"]], [person, git_ref], "{query}");
        assert_eq!([&claims["project_path"], &claims["job_project_path"]], places, "{query}");
        assert_eq!([&claims["ref_protected"], &claims["pipeline_source"]], [protected, source], "{query}");
        assert_eq!(claims["project_id"] == claims["job_project_id"], source == "push", "{query}");
    }
    let two = [job(&provider, "aud=deploy&user=ben").await, job(&provider, "aud=deploy&user=ben").await];
    let [one, other] = two.map(|claims| claims.expect("a token"));
    assert!(one["jti"] != other["jti"] && one["job_id"] != other["job_id"]);
    assert_eq!(one["user_access_level"], "developer");
    assert!(one.get("nonce").is_none() && one.get("auth_time").is_none(), "nothing of a sign-in");
}

#[tokio::test]
async fn no_job_is_of_somebody_who_may_start_none() {
    let provider = provider();
    for (query, status, sentence) in [
        ("user=ben", 400, "expected `aud`"),
        ("aud=deploy&user=eve", 404, "no such person"),
        ("aud=deploy&user=ben&fork=eve", 404, "no such person"),
        ("aud=deploy&user=ben&project=acme/x", 404, "no such project"),
        ("aud=deploy&user=dan", 403, "no developer"),
        ("aud=deploy&user=cleo", 403, "no developer"),
    ] {
        let (found, said) = job(&provider, query).await.expect_err(query);
        assert!(found.as_u16() == status && said.contains(sentence), "{query}: {found} {said}");
    }
    provider.answer(&asked("POST", "/demo/people/ben/block", &[], ""), now());
    assert_eq!(job(&provider, "aud=deploy&user=ben").await.expect_err("blocked").0, 403);
}

/// A proxy that takes hooks, and what it took.
fn front() -> (SocketAddr, Arc<Mutex<Vec<Asked>>>) {
    let listener = server::bind(0).expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let taken = Arc::<Mutex<Vec<Asked>>>::default();
    let kept = taken.clone();
    tokio::spawn(server::serve(listener, move |asked| {
        kept.lock().expect("no panic").push(asked);
        async { text(StatusCode::OK, "{}") }
    }));
    (address, taken)
}

/// Makes one change, and returns what the proxy understood of the hooks that had come when it was answered.
async fn heard(provider: &Provider, taken: &Mutex<Vec<Asked>>, act: &str) -> Vec<(String, About)> {
    let target = format!("/demo/people/{act}");
    let answer = provider.serve(&asked("POST", &target, &[], ""), now()).await;
    assert_eq!(answer.status(), 200, "{act}");
    let read = |hook: Asked| {
        assert_eq!(hook.what(), (&Method::POST, "/.vestibule/hooks/gitlab"));
        assert_eq!(hook.header("host"), Some("portal.localhost:8080"));
        let (headers, proof) = (&hook.head.headers, HookProof::Token(SecretString::from("hook-token")));
        let read = if headers.contains_key("x-gitlab-event-streaming-token") {
            Hook::read_audit_event(&SecretString::from("audit-token"), headers, &hook.body)
        } else {
            assert_eq!(hook.header("x-gitlab-event-uuid"), hook.header("idempotency-key"));
            Hook::read(&proof, headers, &hook.body, now())
        };
        let read = read.expect("a hook as GitLab sends it");
        let id = read.id.expect("an id");
        assert!(id.trim_start_matches("audit ").parse::<crate::guid::Guid>().is_ok(), "{id}");
        (read.event, read.about)
    };
    std::mem::take(&mut *taken.lock().expect("no panic")).into_iter().map(read).collect()
}

#[tokio::test]
async fn hooks_tell_the_proxy_of_a_change_before_it_is_answered() {
    let (address, taken) = front();
    let provider = provider_before(address);
    let ben = |added, group, state| About::Person { id: 102, added, group, state };
    for (act, event, about) in [
        ("ben/leave?group=acme/platform", "user_remove_from_group", ben(false, Some(42), false)),
        ("ben/join?group=acme/platform&role=developer", "user_add_to_group", ben(true, Some(42), false)),
        ("ben/join?group=acme/platform&role=owner", "user_update_for_group", ben(false, Some(42), false)),
        ("ben/block", "user_blocked", ben(false, None, true)),
    ] {
        assert_eq!(heard(&provider, &taken, act).await, [(event.to_owned(), about)], "{act}");
    }
    for act in ["ben/join?group=acme/platform&role=owner", "ben/block", "ben/unblock"] {
        assert_eq!(heard(&provider, &taken, act).await, [], "{act}");
    }
    heard(&provider, &taken, "ben/join?group=contractors&role=guest").await;
    heard(&provider, &taken, "ben/join?group=acme/payments&role=guest").await;
    let left = heard(&provider, &taken, "ben/leave?group=acme").await;
    assert_eq!(left.len(), 2, "one for each group: {left:?}");
}

#[tokio::test]
async fn a_hook_says_who_where_and_as_what() {
    let (address, taken) = front();
    let provider = provider_before(address);
    provider.serve(&asked("POST", "/demo/people/cleo/leave?group=acme/payments", &[], ""), now()).await;
    let hook: Value = serde_json::from_slice(&taken.lock().expect("no panic")[0].body).expect("JSON");
    assert_eq!((&hook["user_id"], &hook["user_username"]), (&json!(103), &json!("cleo")));
    assert_eq!((&hook["group_id"], &hook["group_path"]), (&json!(41), &json!("payments")));
    assert_eq!(hook["group_access"], "Reporter");
}

/// A proxy that is not there, or that takes a hook and says nothing, holds a change up for two seconds at most.
#[tokio::test(start_paused = true)]
async fn a_proxy_that_is_silent_holds_nobody_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let gone = SocketAddr::from(([127, 0, 0, 1], 9));
    for front in [gone, silent.local_addr().expect("it is bound")] {
        let provider = provider_before(front);
        let begun = tokio::time::Instant::now();
        let answer = provider.serve(&asked("POST", "/demo/people/ben/block", &[], ""), now()).await;
        assert_eq!(answer.status(), 200);
        assert!(begun.elapsed() <= hooks::PATIENCE + Duration::from_millis(10), "{:?}", begun.elapsed());
    }
}
