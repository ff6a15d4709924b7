//! What is answered about one small site: why, what would change it, who may do what.

use super::Explanation;
use crate::{
    authorize::Authorize,
    config::Settings,
    review::{
        access::Access,
        asking::{Asking, More, Site},
        cast::Cast,
        who::Who,
    },
};
use serde_json::{Value, json};
use std::time::SystemTime;
use tempfile::TempDir;

const POLICIES: &str = r#"
@id("portal")
@reason("The portal is for acme.")
@remedy("Ask an owner of acme.")
permit (principal is User in Namespace::"gitlab:acme", action in Action::"read", resource == Route::"portal");

@id("docs")
@reason("Contractors read the docs.")
permit (principal is User in Group::"gitlab:contractors", action in Action::"read", resource == Route::"portal")
when { context.path like "/docs/*" };

@id("writes")
permit (principal is User in Role::"gitlab:acme/platform#maintainer", action in Action::"write", resource == Route::"portal");

@id("frozen")
@reason("Nothing is changed in December.")
forbid (principal, action in Action::"write", resource == Route::"portal")
when { context.now >= datetime("2026-12-01") && context.now < datetime("2027-01-01") };

@id("deploys")
@reason("Deployments are for protected refs, started by release.")
permit (principal is Job in Project::"gitlab:acme/shop", action in Action::"write", resource == Route::"deploy")
when { principal.ref_protected && principal.user in Group::"gitlab:release" };

@id("catalog")
permit (principal is Service, action in Action::"read", resource == Route::"deploy")
when { principal.scopes.contains("read") };
"#;

const CAST: &str = "
people:
  ada: { subject: \"1\", groups: [acme/platform], roles: { acme/platform: developer } }
  dan: { subject: \"2\", groups: [contractors] }
  eve: { subject: \"3\" }
  stale: { subject: \"4\", groups: unknown }
jobs:
  deploy: { user: ada, claims: { project_path: acme/shop, ref_protected: false } }
services:
  catalog: { subject: c, scopes: [read] }
";

fn site(policies: &str) -> (TempDir, Settings, Authorize) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("written");
    write("secret", "hunter2");
    std::fs::create_dir(directory.path().join("policies")).expect("a directory");
    write("policies/all.cedar", policies);
    write(
        "vestibule.yaml",
        "public_url: https://portal.test\n\
         listen: 127.0.0.1:8080\n\
         trusted_proxies: [127.0.0.1]\n\
         policies: policies\n\
         providers:\n\
         \x20 - name: gitlab\n\
         \x20   kind: gitlab\n\
         \x20   issuer: https://gitlab.test\n\
         \x20   client_id: portal\n\
         \x20   client_secret: { file: secret }\n\
         \x20   membership: { api: { token: { file: secret } } }\n\
         token_issuers:\n\
         \x20 - { name: ci, kind: gitlab_ci, issuer: \"https://gitlab.test\", provider: gitlab, audiences: [deploy] }\n\
         \x20 - { name: robots, kind: jwt, issuer: \"https://sso.test\", audiences: [api], principal: service }\n\
         routes:\n\
         \x20 - { name: portal, host: portal.test, upstream: \"http://127.0.0.1:9\" }\n\
         \x20 - { name: deploy, host: deploy.test, path: /v1/, upstream: \"http://127.0.0.1:9\", token_issuers: [ci, robots] }\n",
    );
    let settings =
        crate::config::load(&directory.path().join("vestibule.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
    let (routes, providers, issuers) = (&settings.routes, &settings.providers, &settings.token_issuers);
    let authorize = Authorize::load(settings.policies.as_deref(), routes, providers, issuers);
    let authorize = authorize.unwrap_or_else(|errors| panic!("{errors:?}"));
    (directory, settings, authorize)
}

fn at(text: &str) -> SystemTime {
    crate::moment::at(crate::moment::parse_time(text).expect("a time"))
}

/// What is told of one request in November, as text and as JSON.
fn explained(who: &str, method: &str, url: &str) -> (String, Value) {
    explained_at(who, method, url, at("2026-11-30T12:00:00Z"))
}

fn explained_at(who: &str, method: &str, url: &str, now: SystemTime) -> (String, Value) {
    let (_directory, settings, authorize) = site(POLICIES);
    let cast = Cast::of(CAST, "cast.yaml", &settings).unwrap_or_else(|errors| panic!("{errors:?}"));
    let asking = Asking::of(method, url, More { at: Some(now), ..More::default() }, &settings).expect("it is asked");
    let principal = cast.at(who, now).expect("a name of the cast");
    let explanation = Explanation::of(&authorize, &asking, Some(who), &principal);
    (explanation.text(), explanation.json())
}

fn lines(text: &str, from: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| !line.starts_with(from)).map(str::trim);
    lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_permit_is_told_with_the_policy_that_gives_it() {
    let (text, json) = explained("ada", "GET", "https://portal.test/catalog?x=1");
    assert!(
        text.starts_with("GET portal.test/catalog?x=1: route `portal`\nprincipal User::\"gitlab:1\" (`ada`)\n"),
        "{text}"
    );
    assert!(text.contains("PERMITTED by\n    `portal` ("), "{text}");
    assert!(text.ends_with("        \"The portal is for acme.\"\n        \"Ask an owner of acme.\""), "{text}");
    assert_eq!((&json["permitted"], &json["decision"], &json["changes"]), (&json!(true), &json!("permit"), &json!([])));
    assert_eq!(json["policies"][0]["id"], "portal");
}

#[test]
fn a_refusal_is_told_with_the_smallest_change_of_membership() {
    let (text, json) = explained("dan", "GET", "https://portal.test/catalog");
    assert!(text.contains("REFUSED: no policy permits this\n"), "{text}");
    let expected = ["permitted if `dan` would", "join `gitlab:acme` or a group below it, by `portal`"];
    assert_eq!(lines(&text, "permitted if"), expected);
    let step = &json["changes"][0]["steps"][0];
    assert_eq!((&step["do"], &step["entity"]), (&json!("join"), &json!("Namespace::\"gitlab:acme\"")));
    assert_eq!(json["tried"]["all"], true);

    let (text, _) = explained("ada", "POST", "https://portal.test/catalog");
    let expected = ["permitted if `ada` would", "be maintainer of `gitlab:acme/platform`, or more, by `writes`"];
    assert_eq!(lines(&text, "permitted if"), expected);
}

#[test]
fn where_no_membership_helps_it_is_said_and_why() {
    let why = |who, method, url| explained(who, method, url).1["no_change"].clone();
    let december = explained_at("ada", "POST", "/x", at("2026-12-02T00:00:00Z"));
    assert_eq!(december.1["no_change"], json!(["`frozen` forbids it by the time, whoever is in which group"]));
    assert!(december.0.contains("holds: context.now >= datetime(\"2026-12-01\")"), "{}", december.0);
    assert_eq!(
        why("anonymous", "GET", "/x"),
        json!(["nobody is signed in, so there is none to change; `policy who` says who may"])
    );
    assert_eq!(why("stale", "GET", "/x"), json!(["their groups have to be known first"]));
    let deploy = "https://deploy.test/v1/x";
    assert_eq!(why("catalog", "POST", deploy), json!(["no policy permits POST on `deploy` to a service"]));
    assert_eq!(why("deploy", "GET", "/x"), json!(["route `portal` takes nobody of their provider or token issuer"]));
}

#[test]
fn a_job_is_told_which_claims_are_missing_and_what_its_person_lacks() {
    let (text, json) = explained("deploy", "POST", "https://deploy.test/v1/x");
    assert_eq!(json["no_change"], json!(["`deploys` needs `principal.ref_protected`"]));
    let needs = lines(&text, "what permits of this route");
    assert!(needs[1].starts_with("`deploys` ("), "{text}");
    let expected = ["needs: principal.ref_protected", r#"needs: principal.user in Group::"gitlab:release""#];
    assert_eq!(needs[2..], expected, "{text}");
    assert_eq!(json["person_behind"]["id"], "User::\"gitlab:1\"");
}

/// A policy about labels that this route does not have is about others, and what a failed condition guards is not wrong.
#[test]
fn what_can_never_hold_here_is_no_advice() {
    let policies = r#"
@id("orders") permit (principal is User in Group::"gitlab:orders", action, resource is Route)
when { resource has team && resource.team == "orders" };
@id("invoices") permit (principal is User in Group::"gitlab:invoices", action, resource is Route)
when { resource has team && resource.team == "invoices" };
@id("verified") permit (principal is User, action, resource == Route::"portal")
when { principal has email && principal.email like "*@acme.test" };
"#;
    let (_directory, settings, _) = site(POLICIES);
    let mut settings = settings;
    settings.routes[0].labels.insert("team".into(), "orders".into());
    settings.routes[1].labels.insert("team".into(), "invoices".into());
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("all.cedar"), policies).expect("written");
    let (routes, providers, issuers) = (&settings.routes, &settings.providers, &settings.token_issuers);
    let authorize = Authorize::load(Some(directory.path()), routes, providers, issuers);
    let authorize = authorize.unwrap_or_else(|errors| panic!("{errors:?}"));
    let cast = Cast::of(CAST, "cast.yaml", &settings).expect("a cast");
    let told = |url: &str| {
        let asking = Asking::of("GET", url, More::default(), &settings).expect("it is asked");
        let principal = cast.get("ada").expect("a name of the cast");
        let explanation = Explanation::of(&authorize, &asking, Some("ada"), principal);
        (explanation.text(), explanation.json())
    };
    let (text, json) = told("/x");
    assert!(text.contains("`orders`") && !text.contains("invoices"), "{text}");
    assert!(text.contains("needs: principal.email like \"*@acme.test\"") && !text.contains("cannot be"), "{text}");
    assert_eq!(json["near"].as_array().map(Vec::len), Some(2), "{json}");
    assert!(!told("https://deploy.test/v1/").0.contains("orders"));
}

#[test]
fn a_principals_policy_is_a_table_of_every_route() {
    let (_directory, settings, authorize) = site(POLICIES);
    let cast = Cast::of(CAST, "cast.yaml", &settings).expect("a cast");
    let of = |name| {
        let principal = cast.get(name).expect("a name of the cast");
        let access = Access::of(&authorize.rights(), &Site::of(&settings), &settings, Some(name), principal);
        (access.text(), access.json(), access.permits_something())
    };
    let (text, json, something) = of("dan");
    let expected = "User::\"gitlab:2\" (`dan`)\n\
        ROUTE   METHODS        EFFECT   POLICY  WHEN\n\
        portal  read           permit   docs    context.path like \"/docs/*\"\n\
        \x20       write connect  forbid   frozen  context.now >= datetime(\"2026-12-01\") && context.now < datetime(\"2027-01-01\")\n\
        deploy  -              nothing";
    assert_eq!(text, expected);
    assert!(something);
    assert_eq!(json["routes"][0]["policies"][0]["methods"], json!(["GET", "HEAD", "OPTIONS"]));
    assert!(!of("eve").2);
    let (text, _, _) = of("catalog");
    assert!(
        text.contains("\nportal (as nobody)  -        nothing\ndeploy              read     permit   catalog  always"),
        "{text}"
    );
    assert!(of("stale").0.contains("nobody can say which groups they are in"));
}

#[test]
fn who_may_is_decided_for_each_and_told_by_policy() {
    let (_directory, settings, authorize) = site(POLICIES);
    let cast = Cast::of(CAST, "cast.yaml", &settings).expect("a cast");
    let asking = Asking::of("GET", "/docs/x", More::default(), &settings).expect("it is asked");
    let who = Who::of(&authorize, &asking, &cast);
    let text = who.text();
    assert!(text.starts_with("GET portal.test/docs/x: route `portal`\nof 7 in the cast 2 may:\n  ada        permit   portal\n  dan        permit   docs\n"), "{text}");
    assert!(text.contains("\n  stale      unknown  hinges on groups that nobody knows\n"), "{text}");
    assert!(text.contains("principal is User in Namespace::\"gitlab:acme\"\n"), "{text}");
    let json = who.json();
    assert_eq!((&json["permitted"], json["cast"].as_array().map(Vec::len)), (&json!(2), Some(7)));
    assert_eq!(json["policies"][1]["conditions"], json!(["principal is User in Group::\"gitlab:contractors\""]));
}
