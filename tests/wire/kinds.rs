//! Signing in at providers of the shape of Entra, Google, Okta and Keycloak.

use crate::support::{
    gateway::{Gateway, free_port, program},
    http1::Answer,
    person::{Arrival, NAVIGATION, Person},
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    upstream::Upstream,
};
use serde_json::{Value, json};

/// The tenant of the fixture's people, and another.
const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
const OTHER: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";
/// Alice's object id, and a group.
const ALICE: &str = "3f2c0a11-0000-4000-8000-0000000000aa";
const STAFF: &str = "3f2c0a11-0000-4000-8000-000000000001";

/// A gateway before a provider of one shape.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

/// `issuer` is what follows the provider's origin; `more` are further keys of its entry.
async fn scene(kind: &str, env: &[(&str, &str)], issuer: &str, more: &str, policies: &str) -> Option<Scene> {
    let uris = format!("http://127.0.0.1/.vestibule/callback/{kind}");
    let mut all = vec![("REDIRECT_URIS", &*uris), ("PROFILE", kind), ("ID_TOKEN_CLAIMS", "all")];
    all.extend_from_slice(env);
    let provider = Provider::start(&all)?;
    let upstream = Upstream::start().await;
    let text = format!(
        "public_url: http://127.0.0.1:PORT\nlisten: 127.0.0.1:PORT\nworkers: 2\ndrain: 0s\nproviders:\n  - name: {kind}\n    \
         kind: {kind}\n    issuer: {at}{issuer}\n    client_id: {CLIENT_ID}\n    client_secret: {{ file: secret }}\n{more}\
         routes:\n  - name: app\n    upstream: http://127.0.0.1:{up}\n    groups_header: [{groups}]\npolicies: ./policies\n",
        at = provider.issuer,
        more = more.replace("ISSUER", &provider.issuer),
        up = upstream.port,
        groups = if kind == "entra" { format!("\"entra:{STAFF}\"") } else { String::new() },
    );
    let gateway = Gateway::start(&text, policies).await;
    gateway
        .until("the provider is discovered", async || {
            gateway.get(&format!("/.vestibule/sign-in/{kind}"), &[]).await.status == 302
        })
        .await;
    Some(Scene { provider, upstream, gateway })
}

impl Scene {
    async fn go(&self, person: &mut Person, user: &str) -> Arrival {
        person.go(&self.gateway, &self.provider, "http://127.0.0.1:PORT/x", user).await
    }

    /// What somebody who signs in for the first time sees.
    async fn arrives(&self, user: &str) -> (Person, Answer) {
        let mut person = Person::default();
        let arrival = self.go(&mut person, user).await;
        (person, arrival.answer)
    }

    async fn of_person(&self, user: &str, change: Value) {
        let mut change = change;
        change["user"] = user.into();
        self.provider.admin("/admin/user", change).await;
    }

    async fn asks(&self, person: &mut Person, target: &str) -> Answer {
        let url = format!("http://127.0.0.1:{}{target}", self.gateway.port);
        person.send(&self.gateway, "GET", &url.parse().expect("a URL"), &["Accept: application/json"]).await
    }
}

/// People of `group`, of `kind`.
fn members(kind: &str, group: &str) -> String {
    format!(
        "@id(\"members\")\npermit (principal is User in Group::\"{kind}:{group}\", action, resource);\n@id(\"public\")\n\
         permit (principal, action, resource) when {{ context.path like \"/public/*\" }};\n"
    )
}

fn everybody() -> String {
    "@id(\"all\")\npermit (principal is User, action, resource);\n".to_owned()
}

/// One tenant: a person is tenant and object id, an e-mail address counts if its domain is proved, groups are GUIDs.
#[tokio::test]
async fn people_of_one_tenant_sign_in_at_entra() {
    let issuer = format!("/{TENANT}/v2.0");
    let Some(scene) = scene("entra", &[], &issuer, "", &members("entra", STAFF)).await else { return };
    scene
        .of_person(
            "alice",
            json!({"shape": {"oid": ALICE.to_uppercase(), "groups": [STAFF.to_uppercase()], "edov": "1"}}),
        )
        .await;
    let (mut alice, page) = scene.arrives("alice").await;
    assert_eq!(page.status, 200, "{}\n{}", page.text(), scene.gateway.log());
    let seen = scene.upstream.only();
    let subject = format!("{TENANT}.{ALICE}");
    assert_eq!(seen.one("x-forwarded-user"), Some(&*subject));
    assert_eq!(seen.one("x-forwarded-email"), Some("alice@example.test"));
    assert_eq!(seen.one("x-forwarded-preferred-username"), Some("alice"));
    assert_eq!(seen.one("x-forwarded-groups"), Some(STAFF));
    let who = scene.asks(&mut alice, "/.vestibule/session").await.json();
    assert_eq!(who["user"], format!("entra:{subject}"));
    assert_eq!(scene.provider.seen("/oauth/userinfo").await, 0, "userinfo of Entra has nothing to add");
    // whoever is in no such group, or whose address is not proved
    scene.of_person("bob", json!({"shape": {"groups": []}})).await;
    let (mut bob, page) = scene.arrives("bob").await;
    assert_eq!((page.status, page.text().contains("You may not go here")), (403, true), "{}", page.text());
    assert_eq!(scene.asks(&mut bob, "/.vestibule/session").await.json()["email"], Value::Null);
}

/// The way out says whom it is about, where Entra told us how.
#[tokio::test]
async fn signing_out_at_entra_says_who_leaves() {
    let issuer = format!("/{TENANT}/v2.0");
    let Some(scene) = scene("entra", &[], &issuer, "", &everybody()).await else { return };
    let (mut alice, _) = scene.arrives("alice").await;
    let url = format!("http://127.0.0.1:{}/.vestibule/sign-out", scene.gateway.port).parse().expect("a URL");
    let own = format!("Origin: http://127.0.0.1:{}", scene.gateway.port);
    let page = alice.send(&scene.gateway, "POST", &url, &[&own]).await.text();
    assert!(page.contains("/oauth/logout?") && page.contains("logout_hint=hint-of-1"), "{page}");
    assert!(!page.contains("id_token_hint"), "{page}");
}

/// Issuers for many: only listed tenants come in, and no token says of itself that it is of one of them.
#[tokio::test]
async fn p71_people_of_listed_tenants_sign_in_at_an_issuer_for_many() {
    for segment in ["common", "organizations"] {
        let tenants = format!("    tenants: [{TENANT}]\n");
        let Some(scene) = scene("entra", &[], &format!("/{segment}/v2.0"), &tenants, &everybody()).await else {
            return;
        };
        let (_, page) = scene.arrives("alice").await;
        assert_eq!(page.status, 200, "{}\n{}", page.text(), scene.gateway.log());
        scene.of_person("bob", json!({"shape": {"tid": OTHER}})).await;
        let (bob, page) = scene.arrives("bob").await;
        assert_eq!(page.status, 403);
        assert!(page.text().contains("directory are not let in here."), "{}", page.text());
        assert!(bob.session(&scene.gateway, "127.0.0.1").is_none());
        let event =
            scene.gateway.audited("the refusal", |event| event.to_string().contains("not among `tenants`")).await;
        assert!(event.to_string().contains("sign_in_refused"), "{event}");
        for (change, said) in [
            (json!({"tid": OTHER}), "its issuer is"),
            (json!({"tid": "common"}), "its `tid` is no GUID"),
            (json!({"tid": null}), "it has no `tid`"),
            (json!({"oid": null}), "it has no `oid`, expected a GUID: the scope `profile` brings it"),
            (json!({"oid": "7"}), "its `oid` is no GUID"),
            (json!({"iss": format!("{}/{{tenantid}}/v2.0", scene.provider.issuer)}), "its issuer is"),
            (json!({"iss": format!("{}/{segment}/v2.0", scene.provider.issuer)}), "its issuer is"),
        ] {
            scene.of_person("carol", json!({"id_token": change})).await;
            let (carol, page) = scene.arrives("carol").await;
            assert_eq!(page.status, 400, "{change}");
            assert!(carol.session(&scene.gateway, "127.0.0.1").is_none(), "{change}");
            scene.gateway.audited(said, |event| event.to_string().contains(said)).await;
        }
        assert_eq!(scene.upstream.seen(), 1, "only alice came through");
    }
}

/// A key that is published for one issuer signs for no other.
#[tokio::test]
async fn p71_a_key_of_another_issuer_signs_nobody_in() {
    let tenants = format!("    tenants: [{TENANT}]\n");
    let foreign = format!("https://login.example.com/{OTHER}/v2.0");
    let Some(scene) = scene("entra", &[("JWK_ISSUER", &foreign)], "/common/v2.0", &tenants, &everybody()).await else {
        return;
    };
    let (_, page) = scene.arrives("alice").await;
    assert_eq!(page.status, 400);
    scene.gateway.audited("the refusal", |event| event.to_string().contains("its key is for another issuer")).await;
    assert_eq!(scene.upstream.seen(), 0);
}

/// S-76, P71: whoever is in more groups than a token holds is in an unknown number, until Graph says which, at an address of ours.
#[tokio::test]
async fn s76_overage_is_unknown_or_read_from_graph() {
    let issuer = format!("/{TENANT}/v2.0");
    let many: Vec<String> = (0..1500).map(|n| format!("3f2c0a11-0000-4000-8000-{n:012x}")).collect();
    let shape = json!({"shape": {"oid": ALICE, "memberOf": many}});
    let Some(without) = scene("entra", &[], &issuer, "", &members("entra", STAFF)).await else { return };
    without.of_person("alice", shape.clone()).await;
    let (_, page) = without.arrives("alice").await;
    assert_eq!((page.status, without.upstream.seen()), (503, 0), "{}", page.text());
    assert!(page.text().contains("Your groups cannot be looked up"), "{}", page.text());
    without.gateway.audited("the refusal", |event| event.to_string().contains("membership_unknown")).await;
    assert_eq!(without.provider.seen("/never/asked").await, 0, "the address in the token is not asked");

    let graph = "    membership: { refresh: 2s, graph: { url: \"ISSUER\" } }\n";
    let Some(with) = scene("entra", &[], &issuer, graph, &members("entra", STAFF)).await else { return };
    with.of_person("alice", shape).await;
    let (mut alice, page) = with.arrives("alice").await;
    assert_eq!(page.status, 200, "{}\n{}", page.text(), with.gateway.log());
    let path = format!("/v1.0/users/{ALICE}/getMemberObjects");
    assert_eq!((with.provider.seen(&path).await, with.provider.seen("/never/asked").await), (1, 0));
    // a removal acts within the clock, with the token that is kept, or another when that is over
    with.provider.admin("/admin/forget", json!({})).await;
    with.of_person("alice", json!({"shape": {"oid": ALICE, "memberOf": []}})).await;
    with.gateway.until("alice is out", async || with.asks(&mut alice, "/x").await.status == 403).await;
    assert_eq!(with.provider.seen(&format!("/{TENANT}/oauth2/v2.0/token")).await, 2);
}

/// Roles of the application are groups where somebody says so, and whoever was given none is in none.
#[tokio::test]
async fn p71_roles_of_the_application_count_as_groups() {
    let issuer = format!("/{TENANT}/v2.0");
    let roles = "    membership: { claim: roles }\n";
    let Some(scene) = scene("entra", &[], &issuer, roles, &members("entra", "Portal.Reader")).await else { return };
    scene.of_person("alice", json!({"shape": {"roles": ["Portal.Reader"], "memberOf": [STAFF]}})).await;
    assert_eq!(scene.arrives("alice").await.1.status, 200, "{}", scene.gateway.log());
    assert_eq!(scene.arrives("bob").await.1.status, 403);
}

/// Google: people of the listed domains, whoever signs the token; no groups, and consent only where no refresh token came.
#[tokio::test]
async fn people_of_hosted_domains_sign_in_at_google() {
    let domains = "    hosted_domains: [Example.com, example.org]\n";
    let Some(scene) = scene("google", &[], "", domains, &everybody()).await else { return };
    scene.of_person("alice", json!({"shape": {"hd": "example.com"}})).await;
    let (mut alice, page) = scene.arrives("alice").await;
    assert_eq!(page.status, 200, "{}\n{}", page.text(), scene.gateway.log());
    let seen = scene.upstream.only();
    assert_eq!((seen.one("x-forwarded-user"), seen.one("x-forwarded-email")), (Some("1"), Some("alice@example.test")));
    assert_eq!(seen.one("x-forwarded-preferred-username"), Some("alice@example.test"));
    let asked = scene.provider.get("/admin/asked").await;
    assert_eq!(asked, json!({"offline": true, "consent": false, "hd": "*"}), "the first time brings a refresh token");
    assert_eq!(scene.provider.seen("/oauth/token").await, 1);
    // the second time there would be none: once more, with consent, and then it is there
    let mut again = Person::default();
    let arrival = scene.go(&mut again, "alice").await;
    assert_eq!(arrival.answer.status, 200, "{}", scene.gateway.log());
    assert_eq!(scene.provider.get("/admin/asked").await["consent"], true);
    let at_google = arrival.way.iter().filter(|url| url.as_str().starts_with(&scene.provider.issuer)).count();
    assert_eq!((at_google, scene.provider.seen("/oauth/token").await), (2, 3), "{:#?}", arrival.way);
    assert!(
        arrival.way.iter().any(|url| url.as_str().contains("prompt=consent") && url.as_str().contains("login_hint=1"))
    );
    assert_eq!(scene.asks(&mut alice, "/x").await.status, 200, "the other browser is not disturbed");
    for (user, hd, said) in [
        (
            "bob",
            json!({"hd": "other.com"}),
            "Only accounts of example.com, example.org are let in here, and yours is of other.com.",
        ),
        ("carol", json!({}), "Only accounts of example.com, example.org are let in here, and yours is of none."),
    ] {
        scene.of_person(user, json!({"shape": hd})).await;
        let (person, page) = scene.arrives(user).await;
        assert_eq!((page.status, page.text().contains(said)), (403, true), "{}", page.text());
        assert!(person.session(&scene.gateway, "127.0.0.1").is_none());
        assert!(page.text().contains("switch=1"), "another account may do: {}", page.text());
    }
    scene.gateway.audited("the refusal", |event| event.to_string().contains("its `hd` is `other.com`")).await;
}

/// Refresh tokens of Google stay as they are, and go on working; whoever is put out there is out here at the next refresh.
#[tokio::test]
async fn a_refresh_token_of_google_is_kept() {
    let more = "    hosted_domains: [example.com]\n    membership: { refresh: 1s }\n";
    let Some(scene) = scene("google", &[], "", more, &everybody()).await else { return };
    scene.of_person("alice", json!({"shape": {"hd": "example.com", "bare": false}})).await;
    let (mut alice, page) = scene.arrives("alice").await;
    assert_eq!(page.status, 200, "{}", scene.gateway.log());
    let before = scene.provider.seen("/oauth/token").await;
    scene
        .gateway
        .until("the same token was redeemed twice", async || {
            assert_eq!(scene.asks(&mut alice, "/x").await.status, 200, "{}", scene.gateway.log());
            scene.provider.seen("/oauth/token").await >= before + 2
        })
        .await;
    scene.provider.admin("/admin/revoke", json!({"user": "alice"})).await;
    scene.gateway.until("alice is out", async || scene.asks(&mut alice, "/x").await.status == 401).await;
}

/// Decision 14: a policy about groups of Google is a mistake, unless somebody says where they stand.
#[tokio::test]
async fn policies_about_groups_of_google_are_a_mistake() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let entry = |more: &str| {
        format!(
            "public_url: http://127.0.0.1:8080\nlisten: 127.0.0.1:8080\nproviders:\n  - {{ name: google, kind: google, issuer: \
             https://accounts.google.com, client_id: a, client_secret: {{ file: secret }}, hosted_domains: [example.com]{more} }}\n\
             routes:\n  - {{ name: app, upstream: \"http://127.0.0.1:1\" }}\npolicies: ./policies\n"
        )
    };
    std::fs::create_dir(at.join("policies")).expect("made");
    std::fs::write(at.join("policies/app.cedar"), members("google", "eng")).expect("written");
    std::fs::write(at.join("secret"), CLIENT_SECRET).expect("written");
    let check = |text: String| {
        std::fs::write(at.join("vestibule.yaml"), text).expect("written");
        let out = program().arg("check").current_dir(at).output().expect("it runs");
        let said = [out.stdout, out.stderr].concat();
        (out.status.code(), String::from_utf8_lossy(&said).into_owned())
    };
    let (code, said) = check(entry(""));
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("`google` does not say which groups its people are in") && said.contains("membership.claim"),
        "{said}"
    );
    let (_, said) = check(entry(", membership: { claim: groups }"));
    assert!(!said.contains("does not say which groups"), "{said}");
}

/// P70: Okta's tokens are thin at times: groups come from userinfo, and where nobody says them they are unknown.
#[tokio::test]
async fn p70_groups_of_okta_come_from_the_token_then_from_userinfo() {
    for server in ["", "default"] {
        let issuer = if server.is_empty() { String::new() } else { format!("/oauth2/{server}") };
        let Some(scene) = scene("okta", &[("SERVER", server)], &issuer, "", &members("okta", "eng platform")).await
        else {
            return;
        };
        scene.of_person("alice", json!({"shape": {"groups": ["Everyone", "eng platform"], "fat": true}})).await;
        scene.of_person("bob", json!({"shape": {"groups": ["Everyone", "eng platform"]}})).await;
        scene.of_person("carol", json!({"shape": {"groups": ["eng platform"], "silent": true}})).await;
        assert_eq!(scene.arrives("alice").await.1.status, 200, "{}", scene.gateway.log());
        assert_eq!(scene.provider.seen("/oauth/userinfo").await, 0, "a fat token says all");
        assert_eq!(scene.arrives("bob").await.1.status, 200, "{}", scene.gateway.log());
        assert_eq!(scene.arrives("carol").await.1.status, 503);
        let url = scene.gateway.get("/.vestibule/sign-in/okta", &[]).await;
        let url = url.header("location").expect("a location").to_owned();
        assert!(url.contains("scope=openid+profile+email+groups+offline_access"), "{url}");
    }
}

/// P70: an authorization server of Okta that has too many groups to list says so, and so do we, with what helps.
#[tokio::test]
async fn p70_too_many_groups_at_okta_are_named() {
    let Some(scene) = scene("okta", &[("SERVER", "default")], "/oauth2/default", "", &everybody()).await else {
        return;
    };
    let groups: Vec<String> = (0..101).map(|n| format!("group-{n}")).collect();
    scene.of_person("alice", json!({"shape": {"groups": groups}})).await;
    let (alice, page) = scene.arrives("alice").await;
    assert_eq!((page.status, scene.upstream.seen()), (403, 0));
    let text = page.text();
    for part in [
        "too many groups match the filter of its groups claim",
        "at most 100 groups",
        "getFilteredGroups",
        "Okta says:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(alice.session(&scene.gateway, "127.0.0.1").is_none());
    scene.gateway.audited("the refusal", |event| event.to_string().contains("matched too many groups")).await;
    // it may say so on the way back already
    let begun = scene.gateway.get("/.vestibule/sign-in/okta?to=/x", &[]).await;
    let binding = begun.cookie(&scene.gateway.binding_cookie()).expect("set");
    let to = url::Url::parse(begun.header("location").expect("a location")).expect("a URL");
    let state = to.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("error", "server_error")
        .append_pair(
            "error_description",
            "The groups claim matched too many groups and must be configured to match fewer groups",
        )
        .append_pair("state", &state)
        .finish();
    let cookie = format!("Cookie: {}={binding}", scene.gateway.binding_cookie());
    let mut lines = NAVIGATION.to_vec();
    lines.push(&cookie);
    let page = scene.gateway.get(&format!("/.vestibule/callback/okta?{query}"), &lines).await;
    assert_eq!((page.status, page.text().contains("too many groups match")), (403, true), "{}", page.text());
}

/// Keycloak writes full paths with a slash in front; its end of session gets the ID token.
#[tokio::test]
async fn full_paths_of_keycloak_lose_their_slash() {
    let env =
        [("BACKCHANNEL_URI", "http://127.0.0.1:1/none"), ("POST_LOGOUT_URIS", "http://127.0.0.1/.vestibule/sign-out")];
    let Some(scene) = scene("keycloak", &env, "", "", &members("keycloak", "platform/portal")).await else { return };
    let (mut alice, page) = scene.arrives("alice").await;
    assert_eq!(page.status, 200, "{}\n{}", page.text(), scene.gateway.log());
    assert_eq!(scene.arrives("carol").await.1.status, 403);
    let url = format!("http://127.0.0.1:{}/.vestibule/sign-out", scene.gateway.port).parse().expect("a URL");
    let own = format!("Origin: http://127.0.0.1:{}", scene.gateway.port);
    let page = alice.send(&scene.gateway, "POST", &url, &[&own]).await.text();
    assert!(page.contains("/oauth/logout?id_token_hint=ey") && page.contains("post_logout_redirect_uri"), "{page}");
    // its own sign-out names the session that is over here too
    let (mut bob, _) = scene.arrives("alice").await;
    let uri = format!("http://127.0.0.1:{}/.vestibule/backchannel-logout/keycloak", scene.gateway.port);
    let told = scene.provider.admin("/admin/send-logout", json!({"uri": uri, "user": "alice"})).await;
    assert_eq!(told["status"], 200, "{told}");
    scene.gateway.until("the session is over", async || scene.asks(&mut bob, "/x").await.status == 401).await;
}

/// The lines of `check --live` about a provider, without the place in front.
fn looked(at: &std::path::Path, entry: &str, route: &str) -> Vec<String> {
    let port = free_port();
    let text = format!(
        "public_url: http://127.0.0.1:{port}\nlisten: 127.0.0.1:{port}\nproviders:\n  - {entry}\nroutes:\n  - {{ name: app, upstream: \
         \"http://127.0.0.1:1\", {route} }}\n"
    );
    std::fs::write(at.join("vestibule.yaml"), text).expect("written");
    std::fs::write(at.join("secret"), CLIENT_SECRET).expect("written");
    std::fs::set_permissions(at.join("secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("own file");
    let out = program().args(["check", "--live"]).current_dir(at).output().expect("it runs");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    let lines = said.lines().filter_map(|line| {
        let (level, rest) = line.split_once(' ')?;
        let (_, what) = rest.split_once("provider `")?;
        Some(format!("{level} {}", what.split_once("`, ")?.1))
    });
    let lines: Vec<String> = lines.collect();
    assert!(!lines.is_empty(), "{said}");
    lines
}

/// P62: what only some kinds have is asked too, and each has its line.
#[tokio::test]
async fn p62_what_only_some_kinds_have_has_its_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let (at, client) = (directory.path(), format!("client_id: {CLIENT_ID}, client_secret: {{ file: secret }}"));
    let has = |lines: &[String], wanted: &str| {
        assert!(lines.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{lines:#?}")
    };
    for (env, line) in [
        (vec![], format!("ok Graph: tenant `{TENANT}`: this application may read who is in which groups")),
        (
            vec![("GRAPH_FORBIDS", "1")],
            format!("FAIL Graph: tenant `{TENANT}`: Graph does not let this application read"),
        ),
        (
            vec![("CLIENT_SECRET", "another")],
            format!("FAIL Graph: tenant `{TENANT}`: it gives this application no token: invalid_client: AADSTS7000215"),
        ),
    ] {
        let uris = ("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/entra");
        let Some(provider) = Provider::start(&[&[uris, ("PROFILE", "entra")], &env[..]].concat()) else { return };
        let issuer = &provider.issuer;
        let entry = format!(
            "{{ name: entra, kind: entra, issuer: {issuer}/organizations/v2.0, tenants: [{TENANT}], {client}, membership: \
             {{ graph: {{ url: \"{issuer}\" }} }} }}"
        );
        let lines = looked(at, &entry, &format!("allow: [\"entra:{STAFF}\"], step_up: {{ max_age: 15m }}"));
        has(&lines, &line);
        has(&lines, &format!("ok discovery: the document is for `{issuer}/organizations/v2.0`"));
        has(&lines, &format!("ok tenants: only people of {TENANT}"));
        has(&lines, "skipped groups claim: `groups`: Entra keeps that in the application's token configuration");
    }
    let uris = ("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/google");
    let Some(google) = Provider::start(&[uris, ("PROFILE", "google")]) else { return };
    let entry = |more: &str| format!("{{ name: google, kind: google, issuer: {}, {client}{more} }}", google.issuer);
    has(
        &looked(at, &entry(", hosted_domains: [example.com]"), "allow: [signed-in]"),
        "ok hosted domains: only accounts of example.com",
    );
    has(
        &looked(at, &entry(""), "allow: [signed-in]"),
        "warning hosted domains: everybody with a Google account can sign in; list your domains in `hosted_domains`",
    );
    let uris = ("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/sso");
    let Some(sso) = Provider::start(&[uris]) else { return };
    let entry = format!("{{ name: sso, kind: oidc, issuer: {}, {client} }}", sso.issuer);
    has(&looked(at, &entry, "allow: [signed-in], step_up: { acr: \"2\" }"), "ok step-up: `2` is offered");
    has(
        &looked(at, &entry, "allow: [signed-in], step_up: { acr: gold, max_age: 15m }"),
        "warning step-up: `gold` is not among the `acr` that it names; it names 1, 2, urn:test:mfa",
    );
}
