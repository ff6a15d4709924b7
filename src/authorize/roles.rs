//! Roles, and groups of which nobody knows whether a person is a member.

use super::{
    Authorize, Outcome,
    testing::{asked, gitlab, gitlab_with_api, load, member, oidc, placed, route, user},
};
use crate::{canonical::Judged, config::Allow, group::Role, principal::Principal};
use std::time::UNIX_EPOCH;

const POLICIES: &str = r#"
    @id("read") permit (principal is User in Namespace::"gitlab:acme", action in Action::"read", resource);
    @id("write") permit (principal is User in Role::"gitlab:acme/platform#maintainer", action in Action::"write", resource);
    @id("out") forbid (principal is User in Group::"gitlab:acme/out", action, resource);
    @id("late") forbid (principal is User, action == Action::"DELETE", resource)
        unless { principal in Role::"gitlab:acme/platform#owner" };
"#;

fn decide(principal: &Principal, method: &str) -> Outcome {
    let policies = load(POLICIES, &[route("r")], &[gitlab_with_api("gitlab")]).expect("good policies");
    let authorize = Authorize::new(policies).expect("policies make a step");
    authorize.decide(principal, &Judged::from(asked(method, "/")), &placed(0, &route("r")), UNIX_EPOCH).outcome
}

#[test]
fn a_role_includes_those_below_it() {
    let as_role = |role, method| decide(&member("1", &[("acme/platform", role)], &[], 1), method);
    assert_eq!(as_role(Role::Guest, "GET"), Outcome::Permitted);
    assert_eq!(as_role(Role::Developer, "POST"), Outcome::NotPermitted);
    assert_eq!(as_role(Role::Maintainer, "POST"), Outcome::Permitted);
    assert_eq!(as_role(Role::Maintainer, "DELETE"), Outcome::Forbidden);
    assert_eq!(as_role(Role::Owner, "DELETE"), Outcome::Permitted);
    let elsewhere = member("1", &[("acme/platform/sre", Role::Owner)], &[], 1);
    assert_eq!((decide(&elsewhere, "GET"), decide(&elsewhere, "POST")), (Outcome::Permitted, Outcome::NotPermitted));
}

/// S-76: what hinges on a group that nobody knows of is not decided, whether it permits or forbids; the rest is.
#[test]
fn s76_an_unread_group_concerns_only_the_policies_that_name_it() {
    let developer = [("acme/platform", Role::Developer)];
    let without = |unread: &[&str], method| decide(&member("1", &developer, unread, 1), method);
    assert_eq!(without(&["other"], "GET"), Outcome::Permitted, "no policy names it");
    assert_eq!(without(&["acme/out"], "GET"), Outcome::MembershipUnknown, "a forbid names it");
    assert_eq!(without(&["acme"], "GET"), Outcome::Permitted, "in the namespace by another group");
    let nobody = |unread: &[&str], method| decide(&member("1", &[], unread, 1), method);
    assert_eq!(nobody(&["acme"], "GET"), Outcome::MembershipUnknown, "a permit names a namespace above it");
    assert_eq!(nobody(&["acme/platform"], "POST"), Outcome::MembershipUnknown, "a permit names a role in it");
    assert_eq!(nobody(&["acme/platform"], "DELETE"), Outcome::MembershipUnknown, "a forbid's condition names it");
    assert_eq!(nobody(&[], "POST"), Outcome::NotPermitted);
    assert_eq!(decide(&user("1", &[], 1), "DELETE"), Outcome::Forbidden);
}

#[test]
fn allow_takes_a_role() {
    let mut open = route("r");
    let (gitlab_name, path) = ("gitlab".parse().expect("a name"), "acme/platform".parse().expect("a path"));
    open.allow = vec![Allow::Role(gitlab_name, path, Role::Developer)];
    let with_api = Authorize::load(None, std::slice::from_ref(&open), &[gitlab_with_api("gitlab")], &[]).expect("good");
    let asks = |principal: &Principal| with_api.decide(principal, &Judged::from(asked("GET", "/")), &open, UNIX_EPOCH);
    assert!(asks(&member("1", &[("acme/platform", Role::Developer)], &[], 1)).permits());
    let refused = asks(&member("2", &[("acme/platform", Role::Reporter)], &[], 2));
    assert_eq!((refused.outcome, refused.hinges_on_groups), (Outcome::NotPermitted, true));
    let notes: Vec<_> = refused.notes.iter().filter_map(|note| note.reason.as_deref()).collect();
    assert_eq!(notes, ["This is open to those who are developer of acme/platform, or more."]);
    let without = Authorize::load(None, &[open], &[gitlab("gitlab")], &[]).err().expect("refused");
    assert!(without[0].place.starts_with("routes[0].allow[0]"), "{without:?}");
}

/// What a role is, and where one can be read.
#[test]
fn a_role_that_cannot_work_is_an_error() {
    let policy = |id: &str| format!("@id(\"a\") permit (principal is User in Role::\"{id}\", action, resource);");
    let mistakes = |id: &str| -> Vec<String> {
        let errors = load(&policy(id), &[route("r")], &[gitlab_with_api("gitlab"), gitlab("labs"), oidc("okta")]);
        errors.err().unwrap_or_default().iter().map(|error| error.to_string()).collect()
    };
    assert_eq!(mistakes("gitlab:acme#owner"), [""; 0]);
    for (id, part) in [
        ("gitlab:acme#maintaner", "did you mean `maintainer`?"),
        ("gitlab:acme", "names no role"),
        ("labs:acme#owner", "needs `membership.api` of provider `labs`"),
        ("okta:acme#owner", "`okta` has no roles"),
    ] {
        let found = mistakes(id);
        assert!(found.len() == 1 && found[0].contains(part), "{id}: {found:?}");
    }
}
