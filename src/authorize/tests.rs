//! The step as a whole: what it decides, and that slices and caches decide nothing else.

use super::{
    Authorize, Decision, Outcome, PolicyError, gaps,
    testing::{
        asked, gitlab, gitlab_with_api, jobs, load, load_with, mistakes_with, oidc, placed, provider, route, services,
        user, with_body,
    },
};
use crate::route::Route;
use crate::{
    canonical::{Class, Inspected, Judged},
    config::{Allow, ProviderKind, ProviderSettings},
    principal::{Membership, Principal, Strength, Unknown},
    route::GroupPattern,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

fn authorize(text: &str) -> Authorize {
    authorize_on(text, &[route("r")])
}

fn authorize_on(text: &str, routes: &[Route]) -> Authorize {
    let policies = load(text, routes, &[oidc("gitlab"), oidc("okta")]).expect("the policies are good");
    Authorize::new(policies).expect("policies make a step")
}

fn ask(authorize: &Authorize, principal: &Principal, method: &str, target: &str) -> Decision {
    ask_at(authorize, principal, method, target, UNIX_EPOCH)
}

fn ask_at(authorize: &Authorize, principal: &Principal, method: &str, target: &str, now: SystemTime) -> Decision {
    authorize.decide(principal, &Judged::from(asked(method, target)), &placed(0, &route("r")), now)
}

fn unknown(subject: &str) -> Principal {
    let Principal::User { person, strength, .. } = user(subject, &[], 0) else { unreachable!("user makes users") };
    Principal::User { person, strength, membership: Membership::Unknown(Unknown::TooOld) }
}

fn ids(decision: &Decision) -> Vec<&str> {
    decision.policies.iter().map(|id| &**id).collect()
}

/// The mistakes of `text` on a route `portal` and a GitLab named `gitlab`.
fn mistakes(text: &str) -> Vec<String> {
    let errors = load(text, &[route("portal"), route("api")], &[gitlab("gitlab"), oidc("okta")]);
    errors.err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

#[test]
fn what_nothing_permits_is_refused() {
    let authorize = authorize(r#"@id("a") permit (principal is User, action, resource == Route::"r");"#);
    assert_eq!(ask(&authorize, &Principal::Anonymous, "GET", "/").outcome, Outcome::NotPermitted);
    let decision = ask(&authorize, &user("1", &[], 1), "GET", "/");
    assert_eq!((decision.outcome, ids(&decision)), (Outcome::Permitted, vec!["a"]));
    assert_eq!(decision.digest, *authorize.digest());
}

#[test]
fn a_forbid_wins_and_its_author_is_heard() {
    let authorize = authorize(
        r#"@id("all") permit (principal, action, resource);
           @id("frozen") @reason("Frozen.") @remedy("Wait.") forbid (principal, action in Action::"write", resource);"#,
    );
    assert!(ask(&authorize, &user("1", &[], 1), "GET", "/").permits());
    let decision = ask(&authorize, &user("1", &[], 1), "DELETE", "/");
    assert_eq!((decision.outcome, ids(&decision)), (Outcome::Forbidden, vec!["frozen"]));
    assert_eq!(decision.notes[0].reason.as_deref(), Some("Frozen."));
    assert_eq!(decision.notes[0].remedy.as_deref(), Some("Wait."));
    assert!(!decision.hinges_on_groups);
}

#[test]
fn a_policy_that_cannot_be_evaluated_refuses_even_where_another_permits() {
    let authorize = authorize(
        r#"@id("all") permit (principal, action, resource);
           @id("broken") forbid (principal is User, action, resource)
           when { context has session_age && context.session_age * 9223372036854775807 == 7 };"#,
    );
    let Principal::User { person, membership, .. } = user("1", &[], 1) else { unreachable!("user makes users") };
    let strength = Arc::new(Strength { created: Some(UNIX_EPOCH), ..Strength::default() });
    let principal = Principal::User { person, membership, strength };
    let decision = ask_at(&authorize, &principal, "GET", "/", UNIX_EPOCH + Duration::from_secs(60));
    assert_eq!((decision.outcome, ids(&decision)), (Outcome::Failed, vec!["broken"]));
    let said = decision.faults[0].to_string();
    assert!(said.starts_with("policy `broken` at test.cedar:2:12 cannot be evaluated: "), "{said}");
    assert!(ask_at(&authorize, &principal, "GET", "/", UNIX_EPOCH).permits());
}

#[test]
fn an_upgrade_is_connect_and_a_method_nobody_knows_is_refused() {
    let authorize = authorize(
        r#"@id("read") permit (principal, action in Action::"read", resource);
           @id("live") permit (principal is User, action == Action::"connect", resource);"#,
    );
    let mut judged = Judged::from(asked("GET", "/"));
    judged.asked.websocket = true;
    let route = placed(0, &route("r"));
    let decision = authorize.decide(&user("1", &[], 1), &judged, &route, UNIX_EPOCH);
    assert_eq!(ids(&decision), ["live"]);
    assert!(!authorize.decide(&Principal::Anonymous, &judged, &route, UNIX_EPOCH).permits());
    assert_eq!(ask(&authorize, &user("1", &[], 1), "BREW", "/").outcome, Outcome::NotPermitted);
    assert_eq!(ask(&authorize, &user("1", &[], 1), "connect", "/").outcome, Outcome::NotPermitted);
}

#[test]
fn a_refused_person_is_told_what_would_let_them_in() {
    let authorize = authorize(
        r#"@id("acme") @reason("For acme.") permit (principal is User in Group::"gitlab:acme", action, resource);
           @id("okta") @reason("For okta.") permit (principal is User in Group::"okta:acme", action, resource);
           @id("jobs") @reason("For jobs.") permit (principal is Job in Project::"gitlab:acme/p", action, resource);
           @id("one") @reason("For one.") permit (principal == User::"gitlab:7", action, resource);"#,
    );
    let decision = ask(&authorize, &user("1", &["other"], 1), "GET", "/");
    let told: Vec<_> = decision.notes.iter().map(|note| &*note.policy).collect();
    assert_eq!(told, ["acme"]);
    assert!(decision.hinges_on_groups);
    let decision = ask(&authorize, &Principal::Anonymous, "GET", "/");
    assert_eq!((decision.notes.len(), decision.hinges_on_groups), (0, false));
}

#[test]
fn a_deny_hinges_on_groups_only_where_a_group_could_change_it() {
    let authorize = authorize(
        r#"@id("acme") permit (principal is User in Group::"gitlab:acme", action in Action::"read", resource)
           when { context.path like "/a/*" };"#,
    );
    assert!(ask(&authorize, &user("1", &[], 1), "GET", "/b").hinges_on_groups);
    assert!(!ask(&authorize, &user("1", &["acme"], 2), "GET", "/b").hinges_on_groups);
    assert!(!ask(&authorize, &user("1", &[], 1), "POST", "/a/").hinges_on_groups);
}

#[test]
fn unknown_membership_uses_no_permit_that_mentions_it() {
    let authorize = authorize(
        r#"@id("acme") permit (principal is User in Group::"gitlab:acme", action == Action::"GET", resource);
           @id("not") permit (principal is User, action == Action::"PUT", resource)
           unless { principal in Group::"gitlab:bad" };
           @id("okta") permit (principal is User in Group::"okta:acme", action == Action::"POST", resource);
           @id("all") permit (principal, action == Action::"HEAD", resource);"#,
    );
    let outcome = |method| ask(&authorize, &unknown("1"), method, "/").outcome;
    assert_eq!(outcome("GET"), Outcome::MembershipUnknown);
    assert_eq!(outcome("PUT"), Outcome::MembershipUnknown);
    assert_eq!(outcome("POST"), Outcome::NotPermitted);
    assert_eq!(outcome("HEAD"), Outcome::Permitted);
    assert_eq!(outcome("DELETE"), Outcome::NotPermitted);
}

#[test]
fn unknown_membership_is_refused_where_a_forbid_could_match() {
    for forbid in [
        r#"forbid (principal is User in Namespace::"gitlab:bad", action in Action::"write", resource);"#,
        r#"forbid (principal, action in Action::"write", resource) unless { principal in Group::"gitlab:good" };"#,
    ] {
        let authorize = authorize(&format!(r#"@id("all") permit (principal, action, resource); @id("no") {forbid}"#));
        assert!(ask(&authorize, &unknown("1"), "GET", "/").permits());
        let decision = ask(&authorize, &unknown("1"), "POST", "/");
        assert_eq!(decision.outcome, Outcome::MembershipUnknown);
        assert!(decision.hinges_on_groups);
    }
}

#[test]
fn a_warm_decision_does_not_ask_cedar() {
    let authorize = authorize(
        r#"@id("a") permit (principal is User in Group::"gitlab:acme", action, resource)
           when { context.path like "/a/*" };"#,
    );
    let groups: Vec<String> = (0..5000).map(|number| format!("group/{number}")).chain(["acme".into()]).collect();
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    let principal = user("1", &groups, 1);
    for _ in 0..100 {
        assert!(ask(&authorize, &principal, "GET", "/a/b").permits());
    }
    assert_eq!(authorize.evaluations(), 1);
    assert!(!ask(&authorize, &principal, "GET", "/b").permits());
    assert!(ask(&authorize, &principal, "GET", "/a/b?query").permits());
    assert_eq!(authorize.evaluations(), 2);
    assert!(!ask(&authorize, &user("1", &[], 2), "GET", "/a/b").permits());
    assert!(!ask(&authorize, &user("2", &[], 3), "GET", "/a/b").permits());
    assert_eq!(authorize.evaluations(), 4);
}

#[test]
fn a_slice_that_reads_the_time_keeps_no_decision() {
    let authorize =
        authorize(r#"@id("a") permit (principal, action, resource) when { context.now < datetime("1970-01-02") };"#);
    assert!(ask(&authorize, &Principal::Anonymous, "GET", "/").permits());
    let later = UNIX_EPOCH + Duration::from_secs(86_400);
    assert!(!ask_at(&authorize, &Principal::Anonymous, "GET", "/", later).permits());
    assert!(ask(&authorize, &Principal::Anonymous, "GET", "/").permits());
}

/// A body with this `kind`.
fn read(kind: &str) -> Inspected {
    let rule = with_body(route("r"), &["kind"]).body_fields[0].clone();
    Inspected::read(&rule, format!(r#"{{"kind":"{kind}"}}"#).as_bytes()).expect("JSON")
}

/// The example of the documentation: everybody may run templates, and those of production are for maintainers.
#[test]
fn a_policy_reads_the_declared_fields_of_a_body() {
    let text = r#"
        @id("portal") permit (principal is User, action, resource == Route::"r");
        @id("production")
        forbid (principal, action in Action::"write", resource == Route::"r")
        when { context.path_folded like "/a/*" }
        unless { principal == User::"gitlab:1" }
        unless { context.path_folded == "/a/b" && context.body has kind && !(context.body.kind like "production/*") };"#;
    let route = with_body(route("r"), &["kind"]);
    let authorize = authorize_on(text, std::slice::from_ref(&route));
    let decide = |subject: &str, target: &str, body: Inspected| {
        let judged = Judged { asked: asked("POST", target), body };
        authorize.decide(&user(subject, &[], 1), &judged, &placed(0, &route), UNIX_EPOCH).outcome
    };
    assert_eq!(decide("2", "/a/b", read("default/x")), Outcome::Permitted);
    assert_eq!(decide("2", "/a/b", read("production/x")), Outcome::Forbidden);
    assert_eq!(decide("1", "/a/b", read("production/x")), Outcome::Permitted);
    assert_eq!(decide("2", "/a/c", Inspected::Unnamed), Outcome::Forbidden);
    assert_eq!(decide("2", "/b", Inspected::Unnamed), Outcome::Permitted);
    assert_eq!(decide("1", "/a/b", Inspected::Unread), Outcome::Failed, "never permitted");
    let judged = |principal: &Principal| {
        let judged = Judged { asked: asked("POST", "/a/b"), body: Inspected::Unread };
        authorize.refusal(principal, &judged, &placed(0, &route), UNIX_EPOCH).map(|decision| decision.outcome)
    };
    assert_eq!(judged(&Principal::Anonymous), Some(Outcome::NotPermitted));
    assert_eq!(judged(&user("2", &[], 1)), None);
}

/// A restriction by a field that is never there would not restrict.
#[test]
fn a_field_that_no_request_of_the_policy_has_is_an_error() {
    let (r, s) = (with_body(route("r"), &["kind"]), route("s"));
    let routes = [r, s];
    let said = |text: &str| {
        let errors = load(&format!("@id(\"a\") {text}"), &routes, &[gitlab("gitlab")]).err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let condition = r#"when { context.body has kind && context.body.kind == "x" };"#;
    for scope in ["principal, action, resource", r#"principal, action == Action::"POST", resource == Route::"r""#] {
        assert_eq!(said(&format!("forbid ({scope}) {condition}")), [""; 0]);
    }
    for scope in [r#"principal, action, resource == Route::"s""#, r#"principal, action == Action::"PUT", resource"#] {
        let found = said(&format!("forbid ({scope}) {condition}"));
        assert!(found.len() == 1 && found[0].contains("`context.body.kind` is never there"), "{found:?}");
    }
    assert!(!said(r#"forbid (principal, action, resource) when { context.body has kid };"#).is_empty());
}

/// Two requests that a policy tells apart are never taken for the same.
#[test]
fn a_kept_decision_is_used_only_where_all_that_policies_read_is_equal() {
    type Change = fn(&mut Judged, &mut Strength);
    let cases: [(&str, Change); 11] = [
        (r#"context.host == "app.test""#, |judged, _| judged.asked.host = "other.test".parse().expect("a host")),
        (r#"context.path == "/a""#, |judged, _| judged.asked.target.path = "/A".into()),
        (r#"context.path_folded == "/a""#, |judged, _| judged.asked.target.folded = "/b".into()),
        (r#"context.query == """#, |judged, _| judged.asked.target.query = Some("x".into())),
        (r#"context.client_ip.isLoopback()"#, |judged, _| judged.asked.client = [10, 0, 0, 1].into()),
        (r#"context.class == "machine""#, |judged, _| judged.asked.class = Class::Fetch),
        (r#"!context.amr.contains("otp")"#, |_, strength| strength.amr = Arc::new(["otp".into()])),
        (r#"!(context has acr)"#, |_, strength| strength.acr = Some("2".into())),
        (r#"!(context has auth_time)"#, |_, strength| strength.auth_time = Some(UNIX_EPOCH)),
        (r#"!(context.body has kind)"#, |judged, _| judged.body = read("x")),
        (r#"!(context.body has kind && context.body.kind == "y")"#, |judged, _| judged.body = read("y")),
    ];
    let mut exact = with_body(route("r"), &["kind"]);
    exact.exact = true;
    for (condition, change) in cases {
        let text = format!(r#"@id("a") permit (principal, action, resource) when {{ {condition} }};"#);
        let authorize = authorize_on(&text, std::slice::from_ref(&exact));
        let Principal::User { person, membership, .. } = user("1", &[], 1) else { unreachable!("user makes users") };
        let decide = |judged: &Judged, strength: &Strength| {
            let (person, membership) = (person.clone(), membership.clone());
            let principal = Principal::User { person, membership, strength: Arc::new(strength.clone()) };
            authorize.decide(&principal, judged, &placed(0, &exact), UNIX_EPOCH).permits()
        };
        let (mut judged, mut strength) = (Judged::from(asked("GET", "/a")), Strength::default());
        assert!(decide(&judged, &strength), "{condition}");
        change(&mut judged, &mut strength);
        assert!(!decide(&judged, &strength), "{condition}");
        assert_eq!(authorize.evaluations(), 2, "{condition}");
    }
}

#[test]
fn a_person_who_changed_is_judged_as_they_are_now() {
    let authorize = authorize(
        r#"@id("a") permit (principal is User, action, resource)
           when { principal has email && principal.email like "*@acme.test" };"#,
    );
    let Principal::User { person, membership, strength } = user("1", &[], 1) else { unreachable!("user makes users") };
    let with = |email: Option<&str>| {
        let person = crate::principal::Person { email: email.map(Arc::from), ..(*person).clone() };
        Principal::User { person: Arc::new(person), membership: membership.clone(), strength: strength.clone() }
    };
    assert!(!ask(&authorize, &with(None), "GET", "/").permits());
    assert!(ask(&authorize, &with(Some("a@acme.test")), "GET", "/").permits());
    assert!(!ask(&authorize, &with(Some("a@evil.test")), "GET", "/").permits());
}

#[test]
fn allow_lists_are_policies_like_any_other() {
    let mut settings = route("r");
    let (name, path) = ("gitlab".parse().expect("a name"), "acme".parse().expect("a path"));
    settings.allow = vec![Allow::Groups(GroupPattern::Tree(name, path))];
    let authorize = Authorize::load(None, &[settings], &[gitlab("gitlab")], &[]).expect("the policies are good");
    let ids: Vec<_> = authorize.ids().into_iter().collect();
    assert_eq!(ids, ["route:r:allow:1".into()]);
    assert!(authorize.show().starts_with("// routes[0].allow[0]\n@id(\"route:r:allow:1\")\n"), "{}", authorize.show());
    assert!(ask(&authorize, &user("1", &["acme/x"], 1), "GET", "/").permits());
    let decision = ask(&authorize, &user("1", &["acmex"], 2), "GET", "/");
    assert_eq!(decision.notes[0].reason.as_deref(), Some("This is open to members of acme and its subgroups."));
}

#[test]
fn no_policy_at_all_is_an_error() {
    let errors = |result: Result<Authorize, Vec<PolicyError>>| {
        result.err().unwrap_or_default().into_iter().map(|error| error.message).collect::<Vec<_>>()
    };
    let nobody = "no policy: nobody could be let in";
    assert_eq!(errors(Authorize::load(None, &[route("r")], &[], &[])), [nobody]);
    let empty = tempfile::tempdir().expect("a directory");
    let mut settings = route("r");
    settings.allow = vec![Allow::Public];
    let nothing = errors(Authorize::load(Some(empty.path()), &[settings], &[], &[]));
    assert_eq!(nothing, ["no policy here"]);
    let missing = empty.path().join("missing");
    assert!(errors(Authorize::load(Some(&missing), &[route("r")], &[], &[]))[0].starts_with("cannot read: "));
}

#[test]
fn a_stale_schema_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("vestibule.cedarschema");
    std::fs::write(directory.path().join("a.cedar"), r#"@id("a") permit (principal, action, resource);"#)
        .expect("written");
    let load = || Authorize::load(Some(directory.path()), &[route("r")], &[], &[]);
    assert!(load().is_ok());
    std::fs::write(&file, "entity User;").expect("written");
    let errors = load().err().expect("stale");
    let place = file.display().to_string();
    let help = format!("run `vestibule policy schema > {place}`");
    let stale = PolicyError::new(place, "stale: it is not the schema of this configuration").help(help);
    assert_eq!(errors, [stale]);
    std::fs::write(&file, super::schema_text(&[route("r")])).expect("written");
    assert!(load().is_ok());
}

#[test]
fn all_mistakes_are_reported_each_with_its_place() {
    let found = mistakes(
        "permit (principal, action, resource);\n\
         @id(\"a\") permit (principal is User, action, resource) when { principal.emial == \"x\" };\n\
         @id(\"a\") permit (principal is User in Group::\"gitlba:acme\", action, resource == Route::\"portl\");\n\
         @id(\"b\") permit (principal is Usr, action, resource);",
    );
    assert!(found[0].starts_with("test.cedar:1:1: the policy has no `@id`"), "{found:#?}");
    assert!(found[1].starts_with("test.cedar:2:"), "{found:#?}");
    assert!(found[1].contains("attribute `emial` on entity type `User` not found"), "{found:#?}");
    assert_eq!(
        found[2],
        "test.cedar:3:1: `@id(\"a\")` is also the id of another policy; see test.cedar:2:1; choose another id"
    );
    assert_eq!(found[3], "test.cedar:3:39: no provider is named `gitlba`; did you mean `gitlab`?");
    assert_eq!(found[4], "test.cedar:3:81: no route is named `portl`; did you mean `portal`?");
    assert!(found[5].starts_with("test.cedar:4:31: unrecognized entity type `Usr`"), "{found:#?}");
    assert_eq!(found.len(), 6, "{found:#?}");
    let found = mistakes("@id(\"a\")\npermit (principal, action resource);");
    assert!(found[0].starts_with("test.cedar:2:27: unexpected token `resource`"), "{found:#?}");
}

/// Nobody is ever known to be in a group of a provider that says none, nor in one that is written otherwise than it says.
#[test]
fn groups_that_nobody_is_known_to_be_in_are_errors() {
    let google = provider("google", ProviderKind::Google);
    let configured = ProviderSettings { groups_claim: Some("groups".into()), ..(*google).clone() };
    let said = |text: &str, google: &Arc<ProviderSettings>| {
        let providers = [google.clone(), provider("entra", ProviderKind::Entra)];
        let errors = load(&format!("@id(\"a\") {text}"), &[route("portal")], &providers);
        errors.err().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    for text in [
        r#"permit (principal is User in Group::"google:eng", action, resource);"#,
        r#"forbid (principal is User, action, resource) unless { principal in Namespace::"google:eng" };"#,
    ] {
        let found = said(text, &google);
        assert!(
            found.iter().any(|one| one.contains("`google` does not say which groups its people are in")),
            "{found:?}"
        );
        assert!(said(text, &Arc::new(configured.clone())).is_empty());
    }
    assert!(said(r#"permit (principal == User::"google:7", action, resource);"#, &google).is_empty());
    let group = "3f2c0a11-0000-4000-8000-00000000000a";
    let permit = |group: &str| format!("permit (principal is User in Group::\"entra:{group}\", action, resource);");
    assert!(said(&permit(group), &google).is_empty() && said(&permit("Portal.Admin"), &google).is_empty());
    let found = said(&permit(&group.to_uppercase()), &google);
    assert!(found[0].contains(&format!("are compared in lower case; write `entra:{group}`")), "{found:?}");
    let person = format!("72f988bf-86f1-41af-91ab-2d7cd011db47.{group}");
    let forbid = |user: &str| format!("forbid (principal == User::\"entra:{user}\", action, resource);");
    assert!(said(&forbid(&person), &google).is_empty());
    let found = said(&forbid(&person.to_uppercase()), &google);
    assert!(
        found[0].contains(&format!("people of `entra` are compared in lower case; write `entra:{person}`")),
        "{found:?}"
    );
    let found = said(&forbid(group), &google);
    assert!(found[0].contains("names nobody; write `entra:TENANT.OBJECT`"), "{found:?}");
}

/// Each is a restriction that would not restrict, or a permit that would not permit.
#[test]
fn policies_that_cannot_work_are_errors() {
    let cases = [
        (r#"permit (principal in Group::"gitlab:acme", action, resource);"#, "the scope names no principal type"),
        (r#"permit (principal in Project::"gitlab:acme/p", action, resource);"#, "the scope names no principal type"),
        (r#"permit (principal is User in Group::"acme", action, resource);"#, "has no provider"),
        (r#"permit (principal is User in Group::"gitlab:/acme", action, resource);"#, "has an empty segment"),
        (
            r#"permit (principal, action, resource) when { principal in Role::"gitlab:acme#owner" };"#,
            "`membership.api`",
        ),
        (r#"forbid (principal is User in Group::"gitlab:acme", action, resource);"#, "`membership.api`"),
        (
            r#"permit (principal is User in Group::"gitlab:acme/**", action, resource);"#,
            "is a pattern of `allow`; here write `Namespace::\"gitlab:acme\"`",
        ),
        (
            r#"forbid (principal, action, resource) unless { principal in Namespace::"gitlab:acme" };"#,
            "`membership.api`",
        ),
        (
            r#"permit (principal, action, resource) unless { principal in Group::"gitlab:acme" };"#,
            "a permit that hinges on a group of `gitlab` needs its `membership.api`",
        ),
        (
            r#"permit (principal is Job, action, resource) when { principal.user == User::"gitlab:1" };"#,
            "`membership.api`",
        ),
        (r#"forbid (principal, action, resource) when { context.path like "/admin/*" };"#, "`context.path_folded`"),
        (r#"permit (principal, action, resource) when { context.path_folded == "/a" };"#, "`context.path`"),
        (r#"permit (principal, action, resource) unless { context.path == "/a" };"#, "must not exclude"),
        (
            r#"forbid (principal, action, resource) when { context.path_folded like "/Admin*" };"#,
            "never fits `/Admin*`",
        ),
        (r#"forbid (principal, action, resource) when { context.path_folded == "/admin/" };"#, "never fits `/admin/`"),
        (r#"forbid (principal, action, resource) when { "admin" == context.path_folded };"#, "never fits `admin`"),
        (
            r#"forbid (principal, action, resource) when { ["/a", "/B"].contains(context.path_folded) };"#,
            "never fits `/B`",
        ),
        (r#"forbid (principal, action, resource) unless { context.path_folded != "/A" };"#, "never fits `/A`"),
        (
            r#"permit (principal is User, action, resource) when { User::"gitlab:1" in Group::"gitlab:a" };"#,
            "nothing is known",
        ),
        (r#"permit (principal, action, resource) when { User::"gitlab:1".login == "a" };"#, "nothing is known"),
        (r#"permit (principal, action, resource) when { resource has owner };"#, "impossible"),
        (r#"permit (principal is User, action, resource) when { principal is Job };"#, "impossible"),
        (r#"permit (principal == ?principal, action, resource);"#, "templates"),
        (r#"permit (principal, action == Action::"read", resource);"#, "action"),
    ];
    for (policy, message) in cases {
        let found = mistakes(&format!("@id(\"a\") {policy}"));
        assert!(found.iter().any(|found| found.contains(message)), "{policy}: {found:#?}");
    }
    assert_eq!(mistakes(r#"@id("route:a:allow:1") permit (principal, action, resource);"#).len(), 1);
}

/// Of a whole tree only its own members are seen, and the invited groups of those that are named: it lets in, and keeps nobody out.
#[test]
fn a_namespace_of_gitlab_keeps_nobody_out() {
    let said = |policy: &str| -> Vec<String> {
        let errors = load(&format!("@id(\"a\") {policy}"), &[route("r")], &[gitlab_with_api("gitlab"), oidc("okta")]);
        errors.err().unwrap_or_default().iter().map(|error| error.to_string()).collect()
    };
    for policy in [
        r#"forbid (principal is User in Namespace::"gitlab:acme", action, resource);"#,
        r#"forbid (principal, action, resource) when { principal in Namespace::"gitlab:acme" };"#,
        r#"permit (principal, action, resource) unless { principal in Namespace::"gitlab:acme" };"#,
        r#"permit (principal, action, resource) when { !(principal in Namespace::"gitlab:acme") };"#,
    ] {
        let found = said(policy);
        assert!(found.iter().any(|found| found.contains("invited to one below `gitlab:acme`")), "{policy}: {found:?}");
    }
    for policy in [
        r#"permit (principal is User in Namespace::"gitlab:acme", action, resource);"#,
        r#"forbid (principal is User, action, resource) unless { principal in Namespace::"gitlab:acme" };"#,
        r#"forbid (principal is User in Group::"gitlab:acme", action, resource);"#,
        r#"forbid (principal is User in Namespace::"okta:acme", action, resource);"#,
        r#"forbid (principal is Job in Namespace::"gitlab:acme", action, resource);"#,
    ] {
        assert_eq!(said(policy), [""; 0], "{policy}");
    }
}

/// Whoever is refused reads what they could do, and not what concerns routes with other labels.
#[test]
fn nobody_is_told_of_policies_about_other_labels() {
    let (mut orders, mut invoices) = (route("orders"), route("invoices"));
    orders.labels.insert("team".into(), "orders".into());
    invoices.labels.insert("team".into(), "invoices".into());
    let routes = [placed(0, &orders), placed(1, &invoices), placed(2, &route("bare"))];
    let team = |team: &str, whom: &str, also: &str| {
        format!(
            "@id(\"{team}{}\") @reason(\"{team}\") permit (principal is User{whom}, action, resource is Route) when {{ resource \
             has team && resource.team == \"{team}\" }}{also};",
            if also.is_empty() { "" } else { "-too" }
        )
    };
    let texts = ["orders", "invoices"].map(|name| {
        let also = format!(" when {{ principal in Group::\"gitlab:{name}\" }}");
        team(name, &format!(" in Group::\"gitlab:{name}\""), "") + &team(name, "", &also)
    });
    let authorize = authorize_on(&texts.concat(), &routes);
    let told = |route: &Route| {
        let judged = Judged::from(asked("GET", "/"));
        let decision = authorize.decide(&user("1", &[], 1), &judged, route, UNIX_EPOCH);
        assert_eq!(decision.outcome, Outcome::NotPermitted);
        decision.notes.iter().map(|note| note.policy.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(told(&routes[0]), ["orders", "orders-too"]);
    assert_eq!(told(&routes[1]), ["invoices", "invoices-too"]);
    assert_eq!(told(&routes[2]), [""; 0]);
}

/// However many teams have a policy of their own, the one of this route is told.
#[test]
fn the_policy_of_the_own_label_is_told_among_many() {
    let mut all: Vec<Route> = (0..40).map(|number| route(&format!("r{number}"))).collect();
    all.iter_mut().for_each(|route| drop(route.labels.insert("team".into(), route.name.to_string())));
    let policy = |route: &Route| {
        let team = &route.name;
        format!(
            "@id(\"{team}\") @reason(\"{team}\") permit (principal is User in Group::\"gitlab:{team}\", action, resource is \
             Route) when {{ resource has team && resource.team == \"{team}\" }};\n"
        )
    };
    let authorize = authorize_on(&all.iter().map(policy).collect::<String>(), &all);
    let (judged, last) = (Judged::from(asked("GET", "/")), placed(39, &all[39]));
    let decision = authorize.decide(&user("1", &[], 1), &judged, &last, UNIX_EPOCH);
    assert_eq!(decision.notes.iter().map(|note| &*note.policy).collect::<Vec<_>>(), ["r39"]);
}

#[test]
fn policies_that_work_are_not_errors() {
    let cases = [
        r#"forbid (principal is User in Group::"okta:acme", action, resource);"#,
        r#"forbid (principal, action, resource) when { context.path_folded like "/admin/*" };"#,
        r#"forbid (principal, action, resource) when { ["/", "/a"].contains(context.path_folded) };"#,
        r#"forbid (principal, action, resource) when { context.path_folded like "*/admin*" };"#,
        r#"forbid (principal is Job in Namespace::"gitlab:acme", action, resource);"#,
        r#"permit (principal is User in Group::"gitlab:acme", action, resource is Route) when { context.path like "/a/*" };"#,
        r#"permit (principal is User, action, resource is Console) when { context.path_folded == "/a" };"#,
    ];
    for policy in cases {
        assert_eq!(mistakes(&format!("@id(\"a\") {policy}")), [""; 0], "{policy}");
    }
}

#[test]
fn on_an_exact_route_both_spellings_of_the_path_can_be_tested() {
    let mut exact = route("exact");
    exact.exact = true;
    let text = r#"@id("a") forbid (principal, action, resource == Route::"exact") when { context.path == "/A" };"#;
    assert!(load(text, &[exact, route("r")], &[]).is_ok());
}

#[test]
fn the_digest_changes_with_a_policy_and_not_with_its_place() {
    let a = r#"@id("a") permit (principal, action, resource);"#;
    let b = r#"@id("b") permit (principal, action, resource);"#;
    let digest = |text: &str| authorize(text).digest().clone();
    assert_eq!(digest(&format!("{a}\n{b}")), digest(&format!("{b}\n\n{a}")));
    assert_ne!(digest(a), digest(b));
    assert_eq!(digest(a).len(), 64);
}

/// Every policy in the documents is one that `policy check` takes.
#[test]
fn the_policies_in_the_documents_are_good() {
    let documents = [
        ("README.md", include_str!("../../README.md")),
        ("docs/backstage.md", include_str!("../../docs/backstage.md")),
        ("docs/configuration.md", include_str!("../../docs/configuration.md")),
        ("docs/credentials.md", include_str!("../../docs/credentials.md")),
        ("docs/keys.md", include_str!("../../docs/keys.md")),
        ("docs/policies.md", include_str!("../../docs/policies.md")),
        ("docs/refusals.md", include_str!("../../docs/refusals.md")),
        ("docs/membership.md", include_str!("../../docs/membership.md")),
        ("docs/serving.md", include_str!("../../docs/serving.md")),
        ("docs/sign-in.md", include_str!("../../docs/sign-in.md")),
        ("docs/sign-out.md", include_str!("../../docs/sign-out.md")),
        ("docs/tokens.md", include_str!("../../docs/tokens.md")),
    ];
    let blocks =
        documents.iter().flat_map(|(name, text)| text.split("```cedar\n").skip(1).map(move |block| (name, block)));
    let blocks = blocks.map(|(name, block)| (*name, block.split("```").next().unwrap_or_default()));
    let example = ("docs/examples", include_str!("../../docs/examples/policies/runners.cedar"));
    let issuers = [jobs("ci", "gitlab"), services("okta-services"), services("cluster"), services("mesh")];
    let mut seen = 0;
    for (name, policy) in blocks.chain([example]) {
        let routes = DOCUMENTED.map(|name| with_body(route(name), &["template_ref"]));
        let providers = [gitlab_with_api("gitlab")];
        let checked = load_with(policy, &routes, &providers, &issuers);
        let checked = checked.unwrap_or_else(|mistakes| panic!("{name}: {mistakes:?}\n{policy}"));
        assert_eq!(gaps::warnings(&checked.policies, &routes), [], "{name}: {policy}");
        let laid = crate::review::format::formatted(policy).unwrap_or_else(|error| panic!("{name}: {error}\n{policy}"));
        assert_eq!(laid, policy, "{name} is not laid out as `policy fmt` does it");
        seen += 1;
    }
    assert!(seen >= 10, "{seen} policies");
}

/// The routes that policies in the documents name.
const DOCUMENTED: [&str; 8] =
    ["backstage", "deploy-api", "ledger", "gitlab-api", "git", "packages", "registry", "backstage-jobs"];

/// Policies about jobs, services and the people behind jobs that can never do what they say.
#[test]
fn policies_about_callers_that_cannot_be_are_errors() {
    let (providers, issuers) = ([gitlab_with_api("gitlab")], [jobs("ci", "gitlab"), services("robots")]);
    for (policy, expected) in [
        (
            r#"permit (principal == Service::"robot:x", action, resource);"#,
            "no token issuer of services is named `robot`; did you mean `robots`?",
        ),
        (r#"permit (principal == Service::"ci:x", action, resource);"#, "no token issuer of services is named `ci`"),
        (r#"permit (principal == Job::"robots:1", action, resource);"#, "no token issuer of jobs is named `robots`"),
        (r#"permit (principal == Job::"1", action, resource);"#, "has no token issuer"),
        (
            r#"permit (principal is Job in Project::"gitlap:a/b", action, resource);"#,
            "no token issuer of CI jobs has projects of `gitlap`",
        ),
        (
            r#"permit (principal is Job in Project::"ci:a/b", action, resource);"#,
            "no token issuer of CI jobs has projects of `ci`; expected one of `gitlab`",
        ),
        (r#"permit (principal is User in Group::"ci:a", action, resource);"#, "no provider is named `ci`"),
        (
            r#"permit (principal is Job, action, resource) when { principal.user in Namespace::"gitlab:acme" };"#,
            "of the person behind a job only groups that policies name are read",
        ),
        (
            r#"forbid (principal is Job, action, resource) unless { principal.user in [Group::"gitlab:a", Namespace::"gitlab:b"] };"#,
            "of the person behind a job only groups that policies name are read",
        ),
        (
            r#"permit (principal is Job, action, resource) when { (if principal.ref_protected then principal.user else principal.user) in Namespace::"gitlab:acme" };"#,
            "of the person behind a job only groups that policies name are read",
        ),
    ] {
        let found = mistakes_with(&format!("@id(\"a\") {policy}"), &providers, &issuers);
        assert!(found.iter().any(|error| error.contains(expected)), "{policy}: {found:?}");
    }
    for policy in [
        r#"permit (principal is Job in Namespace::"gitlab:acme", action, resource) when { principal.user in Group::"gitlab:acme" };"#,
        r#"permit (principal is Service in Group::"robots:batch", action, resource);"#,
        r#"permit (principal == Service::"robots:deployer", action, resource);"#,
        r#"permit (principal is Job in Project::"gitlab:acme/api", action, resource) when { principal.user in Role::"gitlab:acme#maintainer" };"#,
    ] {
        assert_eq!(mistakes_with(&format!("@id(\"a\") {policy}"), &providers, &issuers), [""; 0], "{policy}");
    }
}
