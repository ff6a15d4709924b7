//! Several hosts: one sign-in, a handle of its own for each, and one sign-out for all.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration},
    person::{NAVIGATION, Person},
    provider::Provider,
    upstream::Upstream,
};
use url::Url;

const SECOND: &str = "  - name: api\n    host: api.localhost\n    upstream: http://127.0.0.1:UP\n";
const THIRD: &str = "  - name: docs\n    host: docs.localhost\n    upstream: http://127.0.0.1:UP\n";

/// The policies of the other tests, for the other hosts as well.
fn policies() -> String {
    POLICIES.to_owned()
        + r#"
@id("api")
permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"api");

@id("docs")
permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"docs");
"#
}

async fn scene() -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let others = format!("{SECOND}{THIRD}").replace("UP", &upstream.port.to_string());
    let written = configuration(&provider.issuer, &upstream, "", "", "")
        .replace("policies:", &format!("{others}policies:"))
        .replace("- name: app\n", "- name: app\n    host: 127.0.0.1\n");
    let gateway = Gateway::start(&written, &policies()).await;
    gateway.begin("/", None).await; // the provider is discovered
    Some((provider, upstream, gateway))
}

fn at(gateway: &Gateway, url: &str) -> Url {
    Url::parse(&url.replace("PORT", &gateway.port.to_string())).expect("a URL")
}

/// One prompt, however many hosts; deep links keep query and fragment; each host has a handle of its own.
#[tokio::test]
async fn one_sign_in_serves_every_host() {
    let Some((provider, upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    let first = alice.go(&gateway, &provider, "http://api.localhost:PORT/a/b?x=1&y=%2F#tab", "alice").await;
    assert_eq!(
        (first.answer.status, first.url.as_str()),
        (200, &*format!("http://api.localhost:{}/a/b?x=1&y=%2F#tab", gateway.port))
    );
    assert_eq!(provider.seen("/oauth/token").await, 1);
    let second = alice.go(&gateway, &provider, "http://docs.localhost:PORT/guide#part", "alice").await;
    assert_eq!((second.answer.status, second.url.fragment()), (200, Some("part")));
    let home = alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    assert_eq!(home.answer.status, 200);
    assert_eq!(home.way.len(), 1, "signed in there since the first");
    assert_eq!(provider.seen("/oauth/token").await, 1, "one sign-in for three hosts");
    let handles =
        ["api.localhost", "docs.localhost", "127.0.0.1"].map(|host| alice.session(&gateway, host).expect("a handle"));
    assert!(handles[0] != handles[1] && handles[1] != handles[2] && handles[0] != handles[2]);
    let arrive = first.way.iter().find(|url| url.path() == "/.vestibule/arrive").expect("on the way");
    let code = arrive.query().expect("a code");
    assert!(upstream.take().iter().all(|seen| !format!("{seen:?}").contains(code)), "the code stays here");
    let event = gateway
        .audited("the arrival", |event| {
            event["dst_endpoint"]["hostname"] == "api.localhost" && event["class_uid"] == 3002
        })
        .await;
    assert!(event["session"]["uid"].is_string() || event["actor"]["session"]["uid"].is_string(), "{event}");
}

/// A handle is for its own host: taken to another it is nobody's.
#[tokio::test]
async fn s43_a_handle_works_on_its_own_host_only() {
    let Some((provider, upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await;
    upstream.take();
    for (of, other) in
        [("api.localhost", "docs.localhost"), ("api.localhost", "127.0.0.1"), ("127.0.0.1", "api.localhost")]
    {
        let stolen = alice.session(&gateway, of).expect("a handle").to_owned();
        let mut thief = Person::default();
        thief.jar.insert((other.to_owned(), gateway.session_cookie()), stolen);
        let answer =
            thief.send(&gateway, "GET", &at(&gateway, &format!("http://{other}:PORT/")), &["Accept: */*"]).await;
        assert_eq!(answer.status, 401, "{of} at {other}");
    }
    assert!(upstream.take().is_empty());
}

/// S-38, S-44: a code is for one browser and one use; one that is stolen or given to somebody else makes no session.
#[tokio::test]
async fn s44_a_code_makes_a_session_once_and_in_its_own_browser() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let code = async |person: &mut Person| {
        let begin = at(&gateway, "http://api.localhost:PORT/.vestibule/sign-in?to=%2F&go=1");
        let away = person.send(&gateway, "GET", &begin, NAVIGATION).await;
        let hand = Url::parse(away.header("location").expect("to public_url")).expect("a URL");
        let back = person.send(&gateway, "GET", &hand, NAVIGATION).await;
        assert_eq!(back.status, 303, "{}", back.text());
        assert_eq!(
            (back.header("cache-control"), back.header("referrer-policy")),
            (Some("no-store"), Some("no-referrer"))
        );
        (hand, Url::parse(back.header("location").expect("to the host")).expect("a URL"))
    };
    let (_, arrive) = code(&mut alice).await;
    let mut thief = Person::default();
    let refused = thief.send(&gateway, "GET", &arrive, NAVIGATION).await;
    assert_eq!(refused.status, 400, "no binding cookie");
    assert!(refused.text().contains("came back without the cookie"), "{}", refused.text());
    let burnt = alice.send(&gateway, "GET", &arrive, NAVIGATION).await;
    assert_eq!(burnt.status, 400, "a code that somebody else showed is burnt");
    let (_, arrive) = code(&mut alice).await;
    let good = alice.send(&gateway, "GET", &arrive, NAVIGATION).await;
    assert_eq!((good.status, good.header("location")), (303, Some("/")));
    let mut again = alice.clone();
    again.jar.remove(&("api.localhost".to_owned(), gateway.session_cookie()));
    assert_eq!(again.send(&gateway, "GET", &arrive, NAVIGATION).await.status, 400, "used");
    // somebody lures alice with a hand that is bound to their own browser
    let mut mallory = Person::default();
    let begin = at(&gateway, "http://api.localhost:PORT/.vestibule/sign-in?to=%2F&go=1");
    let away = mallory.send(&gateway, "GET", &begin, NAVIGATION).await;
    let hand = Url::parse(away.header("location").expect("to public_url")).expect("a URL");
    let mut lured = alice.clone();
    lured.jar.retain(|(host, _), _| host == "127.0.0.1");
    let back = lured.send(&gateway, "GET", &hand, NAVIGATION).await;
    let arrive = Url::parse(back.header("location").expect("to the host")).expect("a URL");
    assert_eq!(lured.send(&gateway, "GET", &arrive, NAVIGATION).await.status, 400);
    assert_eq!(mallory.send(&gateway, "GET", &arrive, NAVIGATION).await.status, 400, "and burnt for mallory");
    // who is signed in there and shows a code of somebody else is led on, and on record
    alice.jar.retain(|(host, _), _| host == "127.0.0.1");
    let (_, arrive) = code(&mut alice).await;
    let mut bob = Person::default();
    bob.go(&gateway, &provider, "http://api.localhost:PORT/", "bob").await;
    let shown = || gateway.audit().iter().filter(|event| event["status_code"] == "sign_in_state").count();
    let before = shown();
    assert_eq!(bob.send(&gateway, "GET", &arrive, NAVIGATION).await.header("location"), Some("/"));
    gateway.until("it is on record", async || shown() > before).await;
    assert!(mallory.session(&gateway, "api.localhost").is_none());
}

/// P01: tabs that were opened at once on another host take each other's cookie; each arrives at its own page.
#[tokio::test]
async fn p01_tabs_that_were_opened_at_once_on_another_host_all_arrive() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let begin = async |tab: &str, person: &mut Person| {
        let begin = at(&gateway, &format!("http://api.localhost:PORT/.vestibule/sign-in?to=%2F{tab}&go=1"));
        let away = person.send(&gateway, "GET", &begin, NAVIGATION).await;
        Url::parse(away.header("location").expect("to public_url")).expect("a URL")
    };
    let first = begin("one", &mut alice).await;
    alice.jar.retain(|(host, _), _| host == "127.0.0.1"); // as both went before either was answered
    begin("two", &mut alice).await;
    let back = alice.send(&gateway, "GET", &first, NAVIGATION).await;
    let arrive = Url::parse(back.header("location").expect("to the host")).expect("a URL");
    let on = alice.send(&gateway, "GET", &arrive, NAVIGATION).await;
    assert_eq!((on.status, on.header("location")), (303, Some("/one")));
    assert!(alice.session(&gateway, "api.localhost").is_none(), "that code gives nothing");
    alice.go(&gateway, &provider, "http://api.localhost:PORT/one", "alice").await;
    assert!(alice.session(&gateway, "api.localhost").is_some());
}

/// S-46, S-47: a hand leads to a route's host on `public_url`'s port, whatever the client says.
#[tokio::test]
async fn s47_a_code_goes_to_configured_hosts_only() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let elsewhere =
        gateway.raw("GET /.vestibule/sign-in?to=%2F&go=1 HTTP/1.1\r\nHost: api.localhost:4444\r\n\r\n").await;
    let hand = Url::parse(elsewhere.header("location").expect("to public_url")).expect("a URL");
    assert_eq!(hand.port(), Some(gateway.port));
    let back = alice.send(&gateway, "GET", &hand, NAVIGATION).await;
    let to = Url::parse(back.header("location").expect("to the host")).expect("a URL");
    assert_eq!((to.host_str(), to.port()), (Some("api.localhost"), Some(gateway.port)));
    for forged in ["", "AAAA", "https://evil.example/"] {
        let url = at(&gateway, &format!("http://127.0.0.1:PORT/.vestibule/sign-in?hand={forged}"));
        let answer = alice.send(&gateway, "GET", &url, NAVIGATION).await;
        assert_eq!((answer.status, answer.header("location")), (302, Some("/")), "{forged}");
    }
}

/// Sign-out on any host ends the session on all of them, streams included.
#[tokio::test]
async fn s54_sign_out_on_one_host_signs_out_of_all() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    for out in ["api.localhost", "docs.localhost", "127.0.0.1"] {
        let mut alice = Person::default();
        for host in ["api.localhost", "docs.localhost"] {
            alice.go(&gateway, &provider, &format!("http://{host}:PORT/"), "alice").await;
        }
        let own = format!("Origin: http://{out}:{}", gateway.port);
        let url = at(&gateway, &format!("http://{out}:PORT/.vestibule/sign-out"));
        let mut before = alice.clone();
        assert_eq!(alice.send(&gateway, "POST", &url, &[&own]).await.status, 303, "{out}");
        for host in ["api.localhost", "docs.localhost", "127.0.0.1"] {
            let page = at(&gateway, &format!("http://{host}:PORT/"));
            assert_eq!(before.send(&gateway, "GET", &page, &["Accept: */*"]).await.status, 401, "{host} after {out}");
        }
    }
}

/// S-54: while a session that was replaced a moment ago still works, signing out of either ends both, and all their handles.
#[tokio::test]
async fn s54_sign_out_ends_what_was_replaced_a_moment_ago() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    for out in ["127.0.0.1", "api.localhost"] {
        let mut alice = Person::default();
        alice.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await;
        let mut before = alice.clone();
        alice.go(&gateway, &provider, "http://127.0.0.1:PORT/.vestibule/sign-in/gitlab?to=%2F", "alice").await;
        let mut after = alice.clone();
        signs_out(&gateway, &mut alice, out).await;
        let ends = || gateway.audit().iter().filter(|event| event["unmapped"]["why"] == "replaced").count();
        for (is_before, host) in [(true, "127.0.0.1"), (true, "api.localhost"), (false, "127.0.0.1")] {
            let (person, page) = (if is_before { &mut before } else { &mut after }, format!("http://{host}:PORT/"));
            let page = at(&gateway, &page);
            gateway
                .until("it is dead", async || person.send(&gateway, "GET", &page, &["Accept: */*"]).await.status == 401)
                .await;
        }
        assert_eq!(ends(), 0, "signed out, not replaced: it took as long as that");
    }
}

/// S-49, S-54: sign-ins that one browser finishes side by side are one to its person: signing out anywhere ends all of them.
#[tokio::test]
async fn s54_sign_out_ends_sign_ins_of_other_tabs() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    let begin = at(&gateway, "http://127.0.0.1:PORT/.vestibule/sign-in/gitlab?to=%2F");
    let mut callbacks = Vec::new();
    for _ in 0..2 {
        let away = alice.send(&gateway, "GET", &begin, NAVIGATION).await;
        let away = Url::parse(away.header("location").expect("to the provider")).expect("a URL");
        callbacks.push(provider.authorize(&away, "alice").await.url);
    }
    let mut tabs = [alice.clone(), alice.clone()]; // both come back before either has its answer
    for (tab, callback) in tabs.iter_mut().zip(&callbacks) {
        assert_eq!(tab.send(&gateway, "GET", callback, NAVIGATION).await.status, 303);
    }
    let [mut one, mut other] = tabs;
    assert_ne!(one.session(&gateway, "127.0.0.1"), other.session(&gateway, "127.0.0.1"));
    other.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await;
    let mut stranger = Person::default();
    stranger.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    signs_out(&gateway, &mut one, "127.0.0.1").await;
    for host in ["127.0.0.1", "api.localhost"] {
        let page = at(&gateway, &format!("http://{host}:PORT/"));
        gateway
            .until("it ends", async || other.send(&gateway, "GET", &page, &["Accept: */*"]).await.status == 401)
            .await;
    }
    let home = at(&gateway, "http://127.0.0.1:PORT/");
    assert_eq!(stranger.send(&gateway, "GET", &home, &["Accept: */*"]).await.status, 200, "another browser's");
}

async fn signs_out(gateway: &Gateway, person: &mut Person, host: &str) {
    let own = format!("Origin: http://{host}:{}", gateway.port);
    let url = at(gateway, &format!("http://{host}:PORT/.vestibule/sign-out"));
    assert_eq!(person.send(gateway, "POST", &url, &[&own]).await.status, 303, "{host}");
}

/// A sign-in for a host that is no longer served ends in a page, and takes nothing away: who was signed in still is.
#[tokio::test]
async fn a_sign_in_that_leads_nowhere_leaves_the_session_of_before() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    let begin = at(&gateway, "http://api.localhost:PORT/.vestibule/sign-in?to=%2F&go=1");
    let away = alice.send(&gateway, "GET", &begin, NAVIGATION).await;
    let hand = Url::parse(away.header("location").expect("to public_url")).expect("a URL");
    let away = alice.send(&gateway, "GET", &hand, NAVIGATION).await;
    let away = Url::parse(away.header("location").expect("to the provider")).expect("a URL");
    let callback = provider.authorize(&away, "alice").await.url;
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/", "alice").await;
    let file = gateway.path("vestibule.yaml");
    let written = std::fs::read_to_string(&file).expect("read");
    gateway.write("vestibule.yaml", &written.replace("host: api.localhost", "host: other.localhost"));
    let gone = at(&gateway, "http://api.localhost:PORT/");
    gateway
        .until("it is served no more", async || {
            alice.clone().send(&gateway, "GET", &gone, NAVIGATION).await.status == 421
        })
        .await;
    let mut jar = alice.clone();
    let answer = jar.send(&gateway, "GET", &callback, NAVIGATION).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(jar.session(&gateway, "127.0.0.1"), alice.session(&gateway, "127.0.0.1"));
    let ended = gateway.audited("an end", |event| event["unmapped"]["why"].is_string()).await;
    assert_eq!(ended["unmapped"]["why"], "unfinished", "the new one, whose handle nobody has");
    let home = at(&gateway, "http://127.0.0.1:PORT/");
    assert_eq!(alice.send(&gateway, "GET", &home, &["Accept: */*"]).await.status, 200);
}

/// Handles of other hosts survive a restart, and a new sign-in of the same person, which replaces the session.
#[tokio::test]
async fn further_handles_survive_a_restart_and_a_new_sign_in() {
    let Some((provider, _upstream, mut gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await;
    gateway.stop().await;
    gateway.run().await;
    let page = at(&gateway, "http://api.localhost:PORT/");
    assert_eq!(alice.send(&gateway, "GET", &page, &["Accept: */*"]).await.status, 200);
    let before = alice.session(&gateway, "127.0.0.1").expect("a handle").to_owned();
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/.vestibule/sign-in/gitlab?to=%2F", "alice").await;
    assert_ne!(alice.session(&gateway, "127.0.0.1"), Some(&*before), "a new session");
    let replaced = |event: &serde_json::Value| event["unmapped"]["why"] == "replaced";
    gateway.until("the old session is replaced", async || gateway.audit().iter().any(replaced)).await;
    gateway
        .until("the handle leads to the new session", async || {
            alice.clone().send(&gateway, "GET", &page, &["Accept: */*"]).await.status == 200
        })
        .await;
    let mut old = Person::default();
    old.jar.insert(("127.0.0.1".to_owned(), gateway.session_cookie()), before);
    let home = at(&gateway, "http://127.0.0.1:PORT/");
    assert_eq!(old.send(&gateway, "GET", &home, &["Accept: */*"]).await.status, 401, "the old handle is dead");
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    let out = at(&gateway, "http://127.0.0.1:PORT/.vestibule/sign-out");
    let mut other = alice.clone();
    assert_eq!(alice.send(&gateway, "POST", &out, &[&own]).await.status, 303);
    assert_eq!(other.send(&gateway, "GET", &page, &["Accept: */*"]).await.status, 401, "signed out everywhere");
}

/// S-51: every cookie of the whole way, on every host, is out of reach of scripts, other hosts and other sites' forms.
#[tokio::test]
async fn s51_every_cookie_of_the_flow_has_its_flags() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    alice.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await;
    alice.go(&gateway, &provider, "http://127.0.0.1:PORT/.vestibule/sign-in/gitlab?to=%2F", "alice").await;
    let own = format!("Origin: http://api.localhost:{}", gateway.port);
    alice.send(&gateway, "POST", &at(&gateway, "http://api.localhost:PORT/.vestibule/sign-out"), &[&own]).await;
    assert!(alice.set.len() >= 7, "{:#?}", alice.set);
    for cookie in &alice.set {
        let (pair, flags) = cookie.split_once("; ").expect("flags");
        let flags = flags.strip_suffix("; Max-Age=0").unwrap_or(flags);
        assert_eq!(flags, "Path=/; HttpOnly; SameSite=Lax", "{cookie}");
        assert!(pair.len() < 300, "P02, P13: {cookie}");
    }
}

/// S-53: what is sealed for one purpose is refused for every other, and nobody is signed in by it.
#[tokio::test]
async fn s53_sealed_values_are_not_taken_for_each_other() {
    let Some((provider, _upstream, gateway)) = scene().await else { return };
    let mut alice = Person::default();
    let way = alice.go(&gateway, &provider, "http://api.localhost:PORT/", "alice").await.way;
    let query = |path: &str, name: &str| {
        let mut queries = way.iter().filter(|url| url.path() == path).flat_map(|url| url.query_pairs());
        queries.find(|(key, _)| key == name).unwrap_or_else(|| panic!("{path}?{name} in {way:#?}")).1.into_owned()
    };
    let jar = |host: &str, name: String| alice.jar[&(host.to_owned(), name)].clone();
    let values = [
        query("/.vestibule/callback/gitlab", "state"),
        query("/.vestibule/sign-in", "hand"),
        query("/.vestibule/arrive", "code"),
        jar("api.localhost", gateway.session_cookie()),
        jar("127.0.0.1", gateway.session_cookie()),
        jar("api.localhost", gateway.binding_cookie()),
        jar("127.0.0.1", gateway.binding_cookie()),
    ];
    for value in &values {
        for place in [
            "http://127.0.0.1:PORT/.vestibule/callback/gitlab?code=x&state=",
            "http://127.0.0.1:PORT/.vestibule/sign-in?hand=",
            "http://api.localhost:PORT/.vestibule/arrive?code=",
        ] {
            let url = at(&gateway, &format!("{place}{value}"));
            let mut mallory = Person::default();
            let host = url.host_str().expect("a host").to_owned();
            for cookies in [None, Some(value)] {
                if let Some(value) = cookies {
                    mallory.jar.insert((host.clone(), gateway.binding_cookie()), value.clone());
                }
                let answer = mallory.send(&gateway, "GET", &url, NAVIGATION).await;
                assert!(answer.status < 500, "{} for {url}", answer.status);
                assert!(mallory.session(&gateway, &host).is_none(), "{url}");
            }
        }
    }
}

/// P10, S-97: who is signed in may be read by pages that act as the person on this host, and by no others.
#[tokio::test]
async fn p10_s97_only_listed_pages_read_who_is_signed_in() {
    let provider = Gateway::provider(&[]);
    let Some(provider) = provider else { return };
    let upstream = Upstream::start().await;
    let route = "    cors: { origins: [\"https://shop.example.com\"], credentials: true }\n";
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", route, ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    for (origin, expected) in [("https://shop.example.com", true), ("https://evil.example.com", false), ("null", false)]
    {
        for signed_in in [true, false] {
            let cookies = if signed_in { gateway.cookies(&browser) } else { "X: y".to_owned() };
            let answer = gateway.get("/.vestibule/session", &[&cookies, &format!("Origin: {origin}")]).await;
            assert_eq!(answer.status, if signed_in { 200 } else { 401 });
            assert_eq!(answer.header("access-control-allow-origin"), expected.then_some(origin), "{origin}");
            assert_eq!(answer.header("access-control-allow-credentials"), expected.then_some("true"), "{origin}");
        }
    }
}

/// P54: of several providers only those are offered whose people the wanted page is for.
#[tokio::test]
async fn p54_the_chooser_offers_what_fits_the_page() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let written = configuration(&provider.issuer, &upstream, "", "", "")
        .replace("routes:\n", "  - { name: okta, kind: okta, issuer: \"https://acme.okta.com\", client_id: a, client_secret: { file: secret } }\nroutes:\n")
        .replace("- name: app\n", "- name: app\n    host: 127.0.0.1\n    providers: [gitlab]\n")
        .replace("policies:", &format!("  - name: both\n    host: 127.0.0.1\n    path: /both/\n    header_provider: gitlab\n    upstream: http://127.0.0.1:{}\npolicies:", upstream.port));
    let gateway = Gateway::start(&written, POLICIES).await;
    let page = gateway.get("/.vestibule/sign-in?to=%2Fa", NAVIGATION).await.text();
    assert!(page.contains("/.vestibule/sign-in/gitlab?to=%2Fa") && !page.contains("okta"), "{page}");
    let page = gateway.get("/.vestibule/sign-in?to=%2Fboth%2Fa", NAVIGATION).await.text();
    assert!(page.contains("/.vestibule/sign-in/gitlab?") && page.contains("/.vestibule/sign-in/okta?"), "{page}");
}
