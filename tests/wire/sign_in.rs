//! Sign-in over the wire, against a real provider.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::json;
use url::Url;

struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

/// A provider, an upstream, and the gateway between them. `None`: the provider is not installed.
async fn scene() -> Option<Scene> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    Some(Scene { provider, upstream, gateway })
}

/// The whole way: a navigation is sent to sign-in, the provider, the callback and back to where it wanted to go.
#[tokio::test]
async fn a_person_signs_in_and_arrives_where_they_wanted_to_go() {
    let Some(Scene { provider, upstream, gateway }) = scene().await else { return };
    let browser = ["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];
    let first = gateway.get("/a/b?x=1&y=%2F", &browser).await;
    assert_eq!(first.status, 302);
    let page = first.header("location").expect("a location").to_owned();
    assert_eq!(page, "/.vestibule/sign-in?to=%2Fa%2Fb%3Fx%3D1%26y%3D%252F");
    let page = gateway.get(&page, &browser).await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("/.vestibule/sign-in/gitlab?to=%2Fa%2Fb%3Fx%3D1%26y%3D%252F"), "{}", page.text());
    let (url, binding) = gateway.begin("/a/b?x=1&y=%2F", None).await;
    let back = gateway.come_back(&provider.authorize(&url, "alice").await.url, &binding).await;
    assert_eq!((back.status, back.header("location")), (303, Some("/a/b?x=1&y=%2F")));
    assert_eq!(back.header("cache-control"), Some("no-store"));
    assert_eq!(back.header("referrer-policy"), Some("no-referrer"));
    let session = back.cookie(&gateway.session_cookie()).expect("a session");
    let answer = gateway.get_as(&Browser { session, binding }, "/a/b?x=1&y=%2F").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "/a/b?x=1&y=%2F"));
    let seen = upstream.only();
    assert_eq!(seen.one("x-forwarded-user"), Some("1"));
    assert_eq!(seen.one("x-forwarded-preferred-username"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.test"));
    let decision =
        gateway.audited("the decision", |event| event["unmapped"]["route"] == "app" && event["action_id"] == 1).await;
    assert_eq!(decision["authorizations"][0]["policy"]["uid"], "platform");
    assert_eq!(decision["actor"]["user"]["uid_alt"], "gitlab:1");
    assert_eq!(decision["unmapped"]["membership"]["source"], "userinfo");
    gateway.audited("a sign-in", |record| record["class_uid"] == 3002).await;
}

/// S-49, P01: twenty tabs, callbacks in any order, one small cookie, twenty right pages.
#[tokio::test]
async fn s49_twenty_tabs_in_any_order_reach_their_pages() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (first, binding) = gateway.begin("/tab/0", None).await;
    assert!(gateway.binding_cookie().len() + binding.len() < 300);
    let mut callbacks = vec![provider.authorize(&first, "alice").await.url];
    for tab in 1..20 {
        let (url, same) = gateway.begin(&format!("/tab/{tab}"), Some(&binding)).await;
        assert_eq!(same, binding, "one binding cookie for all tabs");
        callbacks.push(provider.authorize(&url, "alice").await.url);
    }
    let order = (0..20).map(|position| (position * 7 + 3) % 20); // a permutation: 7 and 20 have no common divisor
    for tab in order {
        let back = gateway.come_back(&callbacks[tab], &binding).await;
        let target = format!("/tab/{tab}");
        assert_eq!((back.status, back.header("location")), (303, Some(&*target)));
    }
}

/// S-38, S-44: a state is for one browser; without the binding cookie a valid code makes no session.
#[tokio::test]
async fn s38_a_callback_in_another_browser_makes_no_session() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (url, _) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let (_, other) = gateway.begin("/", None).await;
    let before = provider.seen("/oauth/token").await;
    for (binding, status) in [(&*other, 303), ("", 400), ("short", 400)] {
        let back = gateway.come_back(&callback.url, binding).await;
        assert_eq!(back.status, status, "{binding}");
        assert!(back.cookie(&gateway.session_cookie()).is_none());
    }
    assert_eq!(provider.seen("/oauth/token").await, before, "the code was not redeemed");
    gateway.audited("a failed sign-in", |record| record.to_string().contains("sign_in_state")).await;
}

/// P01, S-38: tabs that are opened at once take each other's cookie. Each begins once anew, with what the browser has by then;
/// the code that came for another cookie is never redeemed.
#[tokio::test]
async fn p01_tabs_that_were_opened_at_once_all_arrive() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (first, _) = gateway.begin("/one", None).await;
    let (_, binding) = gateway.begin("/two", None).await;
    let code = provider.authorize(&first, "alice").await;
    let back = gateway.come_back(&code.url, &binding).await;
    let again = back.header("location").expect("on").to_owned();
    assert!(again.starts_with("/.vestibule/sign-in/gitlab?"), "{again}");
    let cookie = format!("Cookie: {}={binding}", gateway.binding_cookie());
    let begun = gateway.get(&again, &[&cookie]).await;
    let url = url::Url::parse(begun.header("location").expect("at the provider")).expect("a URL");
    let code = provider.authorize(&url, "alice").await;
    let (_, third) = gateway.begin("/three", None).await;
    assert_eq!(gateway.come_back(&code.url, &third).await.status, 400, "once");
    let back = gateway.come_back(&code.url, &binding).await;
    assert_eq!((back.status, back.header("location")), (303, Some("/one")));
    assert!(back.cookie(&gateway.session_cookie()).is_some());
    assert_eq!(provider.seen("/oauth/token").await, 1);
}

/// S-38: a state is used once; where somebody is signed in by then, the callback leads on.
#[tokio::test]
async fn s38_a_state_is_used_once() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (url, binding) = gateway.begin("/deep", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let back = gateway.come_back(&callback.url, &binding).await;
    let session = back.cookie(&gateway.session_cookie()).expect("a session");
    let replayed = gateway.come_back(&callback.url, &binding).await;
    assert_eq!(replayed.status, 400);
    assert!(replayed.cookie(&gateway.session_cookie()).is_none());
    let target = &callback.url[url::Position::BeforePath..];
    let browser = Browser { session, binding };
    let led_on = gateway.get_as(&browser, target).await;
    assert_eq!((led_on.status, led_on.header("location")), (303, Some("/deep")));
    assert_eq!(provider.seen("/oauth/token").await, 1);
}

/// S-38, S-42: states that are not ours, cut, changed or doubled.
#[tokio::test]
async fn s42_wrong_states_and_doubled_parameters_are_refused() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let (code, state) = (&callback.code, &callback.state);
    let mut changed = state.clone().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).expect("ASCII");
    let cut = &state[..state.len() - 4];
    let mut binding = binding;
    for (query, anew) in [
        (format!("code={code}"), true),
        (format!("code={code}&state="), false),
        (format!("code={code}&state={changed}"), false),
        (format!("code={code}&state={cut}"), false),
        (format!("code={code}&state={state}&state={state}"), false),
        (format!("code={code}&code=other&state={state}"), false),
        (format!("code={code}&state={state}&iss=https%3A%2F%2Fevil.example"), false),
        (format!("code={code}&state={state}&error=x&error=y"), false),
        (format!("state={state}"), false),
    ] {
        let url = Url::parse(&format!("http://127.0.0.1/.vestibule/callback/gitlab?{query}")).expect("a URL");
        let back = gateway.come_back(&url, &binding).await;
        assert_eq!(back.status, if anew { 303 } else { 400 }, "{query}: a sign-in begins anew once");
        assert!(back.cookie(&gateway.session_cookie()).is_none(), "{query}");
        binding = back.cookie(&gateway.binding_cookie()).unwrap_or(binding);
    }
    assert_eq!(provider.seen("/oauth/token").await, 0, "no code was redeemed");
}

/// P70, S-95: whatever error a provider sends, the page says what the person can do, and quotes the provider, escaped and cut.
#[tokio::test]
async fn p70_s95_every_error_of_a_provider_is_shown_as_something_to_act_on() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    for (error, said) in [
        ("access_denied", "you cancelled, or your account there is not assigned"),
        ("login_required", "sign in there first"),
        ("interaction_required", "sign in there first"),
        ("account_selection_required", "sign in there first"),
        ("consent_required", "wants your consent"),
        ("temporarily_unavailable", "Try again in a moment"),
        ("server_error", "Try again in a moment"),
        ("invalid_scope", "lacks a scope"),
        ("unauthorized_client", "it is not allowed to"),
        ("unsupported_response_type", "does not fit"),
        ("invalid_request", "does not fit"),
        ("request_not_supported", "does not fit"),
        ("request_uri_not_supported", "does not fit"),
        ("invalid_request_uri", "does not fit"),
        ("invalid_request_object", "does not fit"),
        ("registration_not_supported", "does not fit"),
        ("invalid_client", "compare <code>client_id</code>"),
        ("something_new", "refused the sign-in"),
    ] {
        let (url, binding) = gateway.begin("/deep?x=1", None).await;
        let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
        let hostile = format!("<script>alert(1)</script>\r\n{}", "x".repeat(500));
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("error", error).append_pair("error_description", &hostile);
        let target = format!("/.vestibule/callback/gitlab?{}", query.append_pair("state", &state).finish());
        let cookie = format!("Cookie: {}={binding}", gateway.binding_cookie());
        let page = gateway.get(&target, &["Accept: text/html", &cookie]).await;
        assert_eq!(page.status, 403, "{error}");
        let text = page.text();
        assert!(text.contains(said), "{error}: {text}");
        assert!(text.contains("GitLab says:") && text.contains(error), "{error}: {text}");
        assert!(!text.contains("<script>") && !text.contains(&"x".repeat(201)), "{text}");
        assert!(text.contains("href=\"/deep?x=1\""), "back to where they wanted to go: {text}");
        assert!(page.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
        let problem = gateway.get(&target, &[&cookie]).await.json();
        assert_eq!(problem["provider_error"]["error"], error);
    }
    assert_eq!(provider.seen("/oauth/token").await, 0);
}

/// Where the provider does not accept our own secret, the page says whose fault that is, and the log has its request id.
#[tokio::test]
async fn a_wrong_client_secret_is_the_sites_fault() {
    let Some(provider) = Gateway::provider(&[("CLIENT_SECRET", "another-secret-than-that-of-the-site")]) else {
        return;
    };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let back = gateway.come_back(&callback.url, &binding).await;
    let id = back.header("x-request-id").expect("an id").to_owned();
    assert_eq!(back.status, 400, "{}", back.text());
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains("nobody can sign in")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains(&id) && line.contains("invalid_client") && line.contains("vestibule check --live"), "{line}");
    assert!(back.text().contains("GitLab does not accept this site's own credentials"), "{}", back.text());
}

/// S-39, S-59, S-64: forged ID tokens make no session, each refused for its own reason.
#[tokio::test]
async fn s39_s59_s64_forged_id_tokens_make_no_session() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let good = json!({ "sub": "1", "aud": "vestibule" });
    let forgeries = [
        ("wrong nonce", json!({ "claims": { "sub": "1", "aud": "vestibule", "nonce": "another" } })),
        ("no nonce", json!({ "claims": good })),
        (
            "wrong issuer",
            json!({ "claims": { "sub": "1", "aud": "vestibule", "iss": "https://evil.example", "nonce": "N" } }),
        ),
        ("wrong audience", json!({ "claims": { "sub": "1", "aud": "another", "nonce": "N" } })),
        ("expired", json!({ "claims": { "sub": "1", "aud": "vestibule", "nonce": "N" }, "ttl": -120 })),
        ("stranger's key", json!({ "claims": { "sub": "1", "aud": "vestibule", "nonce": "N" }, "stranger_key": true })),
        (
            "a job's token",
            json!({ "claims": { "sub": "1", "aud": "vestibule", "nonce": "N", "job_id": "302", "pipeline_id": "5" } }),
        ),
    ];
    for (name, mint) in forgeries {
        let (url, binding) = gateway.begin("/", None).await;
        let nonce = url.query_pairs().find(|(name, _)| name == "nonce").expect("a nonce").1.into_owned();
        let token = provider
            .mint(serde_json::from_str(&mint.to_string().replace("\"N\"", &format!("\"{nonce}\""))).expect("JSON"))
            .await;
        let callback = provider.authorize(&url, "alice").await;
        let body = json!({ "access_token": "a", "token_type": "Bearer", "expires_in": 7200, "id_token": token });
        provider.fault("/oauth/token", json!({ "status": 200, "body": body })).await;
        let back = gateway.come_back(&callback.url, &binding).await;
        assert_eq!(back.status, 400, "{name}: {}", gateway.log());
        assert!(back.cookie(&gateway.session_cookie()).is_none(), "{name}");
    }
}

/// S-67, P42: keys rotate with overlap, without, and nobody notices.
#[tokio::test]
async fn s67_a_rotation_of_keys_is_not_noticed() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    gateway.sign_in(&provider, "alice").await;
    provider.admin("/admin/rotate", json!({ "keep_old": false })).await;
    gateway.sign_in(&provider, "alice").await;
}

/// S-47, S-48: nothing of the client's request reaches the authorization request.
#[tokio::test]
async fn s48_client_parameters_do_not_reach_the_provider() {
    let Some(Scene { provider: _provider, gateway, .. }) = scene().await else { return };
    gateway.begin("/", None).await;
    let target = "/.vestibule/sign-in/gitlab?to=/&scope=admin&prompt=none&redirect_uri=https://evil.example&nonce=mine";
    let lines = ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https"];
    let answer = gateway.get(target, &lines).await;
    let url = Url::parse(answer.header("location").expect("a location")).expect("a URL");
    let get = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    assert_eq!(get("scope").as_deref(), Some("openid profile email"));
    assert_eq!(get("prompt"), None);
    let own = format!("http://127.0.0.1:{}/.vestibule/callback/gitlab", gateway.port);
    assert_eq!(get("redirect_uri"), Some(own));
    assert_eq!(get("code_challenge_method").as_deref(), Some("S256"));
    assert_ne!(get("nonce").as_deref(), Some("mine"));
    let evil = gateway.raw("GET /.vestibule/sign-in/gitlab HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert_eq!(evil.status, 421);
}

/// S-46: a return address never leaves this host, over the whole corpus.
#[tokio::test]
async fn s46_return_addresses_stay_here_over_the_wire() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    for trick in include_str!("../corpus/returns.txt").lines().filter(|line| !line.is_empty()) {
        let to: String = url::form_urlencoded::byte_serialize(trick.as_bytes()).collect();
        let answer = gateway.get_as(&browser, &format!("/.vestibule/sign-in?to={to}")).await;
        let location = answer.header("location").unwrap_or_else(|| panic!("{trick}: {}", answer.status));
        let place = Url::parse("http://portal.test/").and_then(|base| base.join(location)).expect("a URL");
        assert_eq!(place.host_str(), Some("portal.test"), "{trick} led to {location}");
    }
}

/// S-43, S-51: the handle is new at every sign-in, and its cookie is out of reach of scripts and other sites.
#[tokio::test]
async fn s43_a_preset_handle_is_not_taken_over() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, "alice").await;
    let preset = Browser { session: "A".repeat(43), binding };
    let back = gateway.get_as(&preset, &callback.url[url::Position::BeforePath..]).await;
    assert_eq!(back.status, 303);
    let set = back.headers("set-cookie").into_iter().find(|cookie| cookie.starts_with(&gateway.session_cookie()));
    let set = set.expect("a session cookie");
    assert!(!set.contains(&preset.session));
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    assert!(!set.contains("Domain"));
}

/// P41: with the provider dead the gateway listens, says 503 with a page, and recovers by itself.
#[tokio::test]
async fn a_dead_provider_is_a_503_with_a_page_and_recovers() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let port = Url::parse(&provider.issuer).expect("a URL").port().expect("a port").to_string();
    let issuer = provider.issuer.clone();
    drop(provider);
    let upstream = Upstream::start().await;
    let begun = std::time::Instant::now();
    let gateway = Gateway::start(&configuration(&issuer, &upstream, "", "", ""), POLICIES).await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(3), "{:?}", begun.elapsed());
    let page = gateway.get("/.vestibule/sign-in/gitlab", &["Accept: text/html"]).await;
    assert_eq!((page.status, page.header("retry-after")), (503, Some("5")));
    assert!(page.text().contains("The sign-in provider does not answer"), "{}", page.text());
    let problem = gateway.get("/.vestibule/sign-in/gitlab", &[]).await.json();
    assert_eq!(problem["code"], "provider_unavailable");
    assert_eq!(problem["detail"], "GitLab cannot be reached right now. Try again in a moment.");
    let Some(provider) = Gateway::provider(&[("PORT", &port)]) else { return };
    for _ in 0..200 {
        if gateway.get("/.vestibule/sign-in/gitlab", &[]).await.status == 302 {
            gateway.sign_in(&provider, "alice").await;
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it did not recover");
}

/// S-89: unauthenticated requests cost no store write and no call to the provider.
#[tokio::test]
async fn s89_a_storm_of_strangers_costs_nothing_but_answers() {
    let Some(Scene { provider, gateway, .. }) = scene().await else { return };
    gateway.begin("/", None).await;
    let size = || std::fs::metadata(gateway.path("state/sessions.redb")).map(|about| about.modified().ok()).ok();
    let (before, authorize) = (size(), provider.seen("/oauth/authorize").await);
    let mut wire = crate::support::http1::Wire::connect(gateway.port).await;
    for _ in 0..1000 {
        wire.send(format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAccept: text/html\r\n\r\n", gateway.port)).await;
        let answer = wire.answer().await.expect("an answer");
        assert_eq!(answer.status, 302);
        assert!(answer.headers("set-cookie").is_empty());
    }
    assert_eq!(size(), before);
    assert_eq!(provider.seen("/oauth/authorize").await, authorize);
}
