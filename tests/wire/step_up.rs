//! Routes that ask for more than a session: a stronger sign-in, or a recent one.

use crate::support::{
    gateway::Gateway,
    person::{NAVIGATION, Person},
    provider::{CLIENT_ID, Provider},
    upstream::Upstream,
};
use http1::Wire;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use url::Url;

use crate::support::http1;

const POLICIES: &str = r#"
@id("people")
permit (principal is User, action, resource);

@id("strong-only")
forbid (principal, action, resource)
when { context.path_folded like "/app/by-policy/*" }
unless { context has acr && context.acr == "2" };

@id("public")
permit (principal, action in Action::"read", resource == Route::"ledger");
"#;

struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

/// Three routes: one that asks for nothing, one that asks for a class, and one that asks for a recent sign-in, on another host.
async fn scene() -> Option<Scene> {
    let env = [("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/sso"), ("ID_TOKEN_CLAIMS", "all")];
    let provider = Provider::start(&env)?;
    let upstream = Upstream::start().await;
    let route = |name: &str, host: &str, path: &str, more: &str| {
        format!(
            "  - name: {name}\n    host: {host}\n    path: {path}\n    upstream: http://127.0.0.1:{}\n{more}",
            upstream.port
        )
    };
    let text = format!(
        "public_url: http://127.0.0.1:PORT\nlisten: 127.0.0.1:PORT\nworkers: 2\ndrain: 0s\nproviders:\n  - name: sso\n    \
         kind: oidc\n    issuer: {}\n    client_id: {CLIENT_ID}\n    client_secret: {{ file: secret }}\nroutes:\n{}{}{}\
         policies: ./policies\n",
        provider.issuer,
        route("app", "127.0.0.1", "/", ""),
        route("ledger", "127.0.0.1", "/ledger/", "    step_up: { acr: \"2\", max_age: 15m }\n"),
        route("vault", "vault.localhost", "/", "    step_up: { max_age: 15m }\n"),
    );
    let gateway = Gateway::start(&text, POLICIES).await;
    gateway
        .until("the provider is discovered", async || gateway.get("/.vestibule/sign-in/sso", &[]).await.status == 302)
        .await;
    Some(Scene { provider, upstream, gateway })
}

impl Scene {
    fn url(&self, target: &str) -> Url {
        format!("http://127.0.0.1:{}{target}", self.gateway.port).parse().expect("a URL")
    }

    /// Alice with a sign-in of the first class.
    async fn alice(&self) -> Person {
        let mut alice = Person::default();
        let home = alice.go(&self.gateway, &self.provider, "http://127.0.0.1:PORT/app/x", "alice").await;
        assert_eq!(home.answer.status, 200, "{}", self.gateway.log());
        alice
    }

    async fn told(&self, change: Value) {
        let mut change = change;
        change["user"] = "alice".into();
        self.provider.admin("/admin/user", change).await;
    }
}

/// What the provider was asked by, on this way.
fn asked<'a>(way: &'a [Url], provider: &Provider) -> Vec<&'a Url> {
    way.iter().filter(|url| url.as_str().starts_with(&provider.issuer)).collect()
}

fn value(url: &Url, name: &str) -> Option<String> {
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// RFC 9470: a person who goes to a page that asks for more is led to the provider and back; tabs of before go on, with the
/// stronger session; calls are told what they need.
#[tokio::test]
async fn a_page_that_asks_for_more_leads_there_and_back() {
    let Some(scene) = scene().await else { return };
    let mut alice = scene.alice().await;
    let weak = alice.session(&scene.gateway, "127.0.0.1").expect("a session").to_owned();
    assert_eq!(alice.send(&scene.gateway, "GET", &scene.url("/app/by-policy/x"), &[]).await.status, 403);
    let refused = alice.send(&scene.gateway, "GET", &scene.url("/ledger/api?x=1"), &["Accept: application/json"]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (401, Some("insufficient_user_authentication")));
    let challenge = refused.header("www-authenticate").expect("a challenge");
    assert!(
        challenge.starts_with("Vestibule realm=\"sign-in\", error=\"insufficient_user_authentication\""),
        "{challenge}"
    );
    assert!(challenge.ends_with("acr_values=\"2\", max_age=\"900\""), "{challenge}");
    assert_eq!(refused.json()["sign_in"], "/.vestibule/sign-in?to=%2Fledger%2Fapi%3Fx%3D1&popup=1");
    assert_eq!(refused.json()["user"], "sso:1");
    let event = scene
        .gateway
        .audited("the refusal", |event| event.to_string().contains("insufficient_user_authentication"))
        .await;
    assert!(event.to_string().contains("alice"), "{event}");
    let seen = scene.upstream.seen();

    let end = alice.go(&scene.gateway, &scene.provider, "http://127.0.0.1:PORT/ledger/page?y=2#tab", "alice").await;
    assert_eq!(
        (end.answer.status, end.url.path(), end.url.query()),
        (200, "/ledger/page", Some("y=2")),
        "{:#?}",
        end.way
    );
    let there = asked(&end.way, &scene.provider);
    assert_eq!(there.len(), 1, "{:#?}", end.way);
    assert_eq!(
        (value(there[0], "acr_values").as_deref(), value(there[0], "max_age").as_deref()),
        (Some("2"), Some("900"))
    );
    assert_eq!(scene.upstream.seen(), seen + 1, "nothing came through before");
    let strong = alice.session(&scene.gateway, "127.0.0.1").expect("a session").to_owned();
    assert_ne!(strong, weak);
    for target in ["/app/x", "/ledger/api", "/app/by-policy/x"] {
        assert_eq!(alice.send(&scene.gateway, "GET", &scene.url(target), &[]).await.status, 200, "{target}");
    }
    // a tab that still sends the handle of before is served meanwhile: it leads to the stronger session
    let mut tab = alice.clone();
    tab.jar.insert(("127.0.0.1".to_owned(), scene.gateway.session_cookie()), weak);
    assert_eq!(tab.send(&scene.gateway, "GET", &scene.url("/app/x"), &[]).await.status, 200, "{}", scene.gateway.log());
}

/// Whoever signs in for such a page for the first time is asked for all of it at once.
#[tokio::test]
async fn a_first_sign_in_is_what_the_page_asks_for() {
    let Some(scene) = scene().await else { return };
    let mut alice = Person::default();
    let refused = alice.send(&scene.gateway, "GET", &scene.url("/ledger/page"), &["Accept: application/json"]).await;
    assert_eq!(
        (refused.status, refused.json()["code"].as_str()),
        (401, Some("no_session")),
        "public by policy, not by route"
    );
    let end = alice.go(&scene.gateway, &scene.provider, "http://127.0.0.1:PORT/ledger/page", "alice").await;
    assert_eq!(end.answer.status, 200, "{}", scene.gateway.log());
    let there = asked(&end.way, &scene.provider);
    assert_eq!((there.len(), value(there[0], "acr_values").as_deref()), (1, Some("2")));
}

/// S-48: what is asked for is the route's to say. A client's own words for it do not reach the provider, and lead nowhere.
#[tokio::test]
async fn s48_clients_do_not_say_what_a_sign_in_has_to_be() {
    let Some(scene) = scene().await else { return };
    let url =
        scene.url("/.vestibule/sign-in/sso?to=/app/x&acr_values=1&max_age=1&step_up=1&page=/ledger/x&consented=1");
    let answer = Person::default().send(&scene.gateway, "GET", &url, NAVIGATION).await;
    let to = Url::parse(answer.header("location").expect("a location")).expect("a URL");
    assert_eq!((value(&to, "acr_values"), value(&to, "max_age"), value(&to, "prompt")), (None, None, None));
}

/// OpenID Connect Core, 3.1.3.7: a provider that signs the person in and not as it was asked to gets them no further, is named on
/// a page, and is not asked again and again. Who was signed in stays so.
#[tokio::test]
async fn a_provider_that_does_less_is_named_and_not_asked_again() {
    let Some(scene) = scene().await else { return };
    let mut alice = scene.alice().await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_secs();
    for (change, said) in [
        (json!({"acr": "1", "id_token": {}}), "not as strongly as this page asks for"),
        (json!({"acr": "2", "id_token": {"acr": null}}), "not as strongly as this page asks for"),
        (json!({"acr": "2", "id_token": {"acr": "22"}}), "not as strongly as this page asks for"),
        (json!({"acr": "2", "id_token": {"auth_time": null}}), "did not say when you last proved who you are"),
        (json!({"acr": "2", "id_token": {"auth_time": now - 1000}}), "did not ask you to prove anew who you are"),
    ] {
        scene.told(change.clone()).await;
        let (before, seen) = (scene.provider.seen("/oauth/token").await, scene.upstream.seen());
        let end = alice.go(&scene.gateway, &scene.provider, "http://127.0.0.1:PORT/ledger/page", "alice").await;
        assert_eq!(end.answer.status, 403, "{change}: {:#?}", end.way);
        let page = end.answer.text();
        assert!(page.contains("The sign-in is not what this page asks for") && page.contains(said), "{change}: {page}");
        assert!(page.contains("href=\"/ledger/page\""), "{page}");
        assert_eq!(
            (scene.provider.seen("/oauth/token").await, scene.upstream.seen()),
            (before + 1, seen),
            "{change}: once"
        );
        assert_eq!(alice.send(&scene.gateway, "GET", &scene.url("/app/x"), &[]).await.status, 200, "{change}");
    }
    scene.gateway.audited("a failure", |event| event.to_string().contains("its `acr` is `1`, expected `2`")).await;
    // a difference of clocks is forgiven, and does not lead round in circles
    scene.told(json!({"acr": "2", "id_token": {"auth_time": now - 920}})).await;
    let end = alice.go(&scene.gateway, &scene.provider, "http://127.0.0.1:PORT/ledger/page", "alice").await;
    assert_eq!(end.answer.status, 200, "{:#?}", end.way);
}

/// A provider that says itself that it cannot is believed.
#[tokio::test]
async fn a_provider_that_cannot_says_so() {
    let Some(scene) = scene().await else { return };
    let begun = scene.gateway.get("/.vestibule/sign-in/sso?to=/ledger/page", &[]).await;
    let binding = begun.cookie(&scene.gateway.binding_cookie()).expect("set");
    let to = Url::parse(begun.header("location").expect("a location")).expect("a URL");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("error", "unmet_authentication_requirements")
        .append_pair("iss", &scene.provider.issuer)
        .append_pair("state", &value(&to, "state").expect("a state"))
        .finish();
    let cookie = format!("Cookie: {}={binding}", scene.gateway.binding_cookie());
    let answer = scene.gateway.get(&format!("/.vestibule/callback/sso?{query}"), &[&cookie]).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (403, Some("step_up_failed")), "{}", answer.text());
}

/// On another host the stronger sign-in is handed over, and the handle of that host leads to it from then on.
#[tokio::test]
async fn another_host_gets_the_stronger_sign_in() {
    let Some(scene) = scene().await else { return };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later").as_secs();
    scene.told(json!({"id_token": {"auth_time": now - 5000}})).await;
    let mut alice = scene.alice().await; // signed in long ago
    scene.told(json!({"id_token": {}})).await;
    let end = alice.go(&scene.gateway, &scene.provider, "http://vault.localhost:PORT/deep?x=1", "alice").await;
    assert_eq!(
        (end.answer.status, end.url.host_str(), end.url.path()),
        (200, Some("vault.localhost"), "/deep"),
        "{:#?}",
        end.way
    );
    let there = asked(&end.way, &scene.provider);
    assert_eq!(
        (there.len(), value(there[0], "max_age").as_deref(), value(there[0], "acr_values")),
        (1, Some("900"), None)
    );
    // the host of `public_url` has the same session: no second round for its other pages
    let again = alice.go(&scene.gateway, &scene.provider, "http://127.0.0.1:PORT/app/x", "alice").await;
    assert_eq!((again.answer.status, asked(&again.way, &scene.provider).len()), (200, 0));
}

/// A form is kept, and a window steps up for what it is sent to; neither that nor a call is asked for by coming back.
#[tokio::test]
async fn a_form_steps_up_in_a_window() {
    let Some(scene) = scene().await else { return };
    let mut alice = scene.alice().await;
    let own = format!("Origin: http://127.0.0.1:{}", scene.gateway.port);
    let referer = format!("Referer: http://127.0.0.1:{}/app/form", scene.gateway.port);
    let mut lines = NAVIGATION.to_vec();
    lines.extend([&*own, &*referer]);
    let kept = alice.send(&scene.gateway, "POST", &scene.url("/ledger/pay"), &lines).await;
    assert_eq!(kept.status, 401, "{}", kept.text());
    assert!(kept.text().contains("This asks for a stronger sign-in than yours."), "{}", kept.text());
    assert!(kept.text().contains("/.vestibule/sign-in?to=%2Fledger%2Fpay&amp;popup=1"), "{}", kept.text());
    let window = "http://127.0.0.1:PORT/.vestibule/sign-in?to=%2Fledger%2Fpay&popup=1";
    let end = alice.go(&scene.gateway, &scene.provider, window, "alice").await;
    assert_eq!((end.answer.status, end.url.path()), (200, "/.vestibule/signed-in"), "{:#?}", end.way);
    assert_eq!(asked(&end.way, &scene.provider).len(), 1);
    assert!(end.way.iter().all(|url| url.path() != "/ledger/pay"), "{:#?}", end.way);
    assert_eq!(alice.send(&scene.gateway, "POST", &scene.url("/ledger/pay"), &lines).await.status, 200);
}

/// Nobody whose sign-in does not suffice opens a stream.
#[tokio::test]
async fn a_websocket_is_told_what_it_needs() {
    let Some(scene) = scene().await else { return };
    let alice = scene.alice().await;
    let session = alice.session(&scene.gateway, "127.0.0.1").expect("a session");
    let port = scene.gateway.port;
    let mut wire = Wire::connect(port).await;
    wire.send(format!(
        "GET /ledger/socket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Cookie: {}={session}\r\n\r\n",
        scene.gateway.session_cookie()
    ))
    .await;
    let answer = wire.answer().await.expect("an answer");
    assert_eq!(answer.status, 401);
    assert!(answer.header("www-authenticate").is_some_and(|text| text.contains("max_age=\"900\"")));
}
