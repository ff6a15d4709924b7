//! Groups, namespaces and roles: who is in them and who is not, and groups of which nobody knows that.

use super::{
    Authorize, Outcome,
    testing::{
        asked, gitlab, gitlab_with_api, job, jobs, load, load_with, member, oidc, person, placed, route, services, user,
    },
};
use crate::{
    canonical::Judged,
    config::Allow,
    group::Role,
    principal::{Principal, Service, UserId},
};
use proptest::{prelude::*, sample::select};
use std::{collections::BTreeMap, sync::Arc, time::UNIX_EPOCH};

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

/// A tree of groups with names that are parts of each other, and that differ in case.
const TREE: [&str; 9] = ["a", "a/b", "a/b/c", "a/B", "a/bc", "a/b/a", "ab", "b", "b/a"];

/// True for a group and all that lie below it, by segments.
fn holds(above: &str, group: &str) -> bool {
    let segments = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    segments(group).starts_with(&segments(above))
}

/// One permit for each group, namespace and role of the tree, on a route of its own: `group-N`, `namespace-N`, `role-N-R`.
fn each(of: &str) -> (Authorize, BTreeMap<String, usize>) {
    let named = |kind: &str, number: usize, id: String| {
        let name = format!("{kind}-{number}");
        let policy =
            format!("@id(\"{name}\") permit (principal is {of} in {id}, action, resource == Route::\"{name}\");\n");
        (name, policy)
    };
    let provider = if of == "Service" { "robots" } else { "gitlab" };
    let tree = || TREE.iter().enumerate();
    let groups = tree().map(|(number, path)| named("group", number, format!("Group::\"{provider}:{path}\"")));
    let namespaces =
        tree().map(|(number, path)| named("namespace", number, format!("Namespace::\"{provider}:{path}\"")));
    let projects = tree().map(|(number, path)| named("project", number, format!("Project::\"{provider}:{path}\"")));
    let roles = tree().flat_map(|(number, path)| {
        let role = move |role: &Role| format!("Role::\"{provider}:{path}#{}\"", role.as_str());
        Role::ALL
            .iter()
            .enumerate()
            .map(move |(rank, it)| named(&format!("role-{number}"), rank, role(it)))
            .collect::<Vec<_>>()
    });
    let all: Vec<_> = match of {
        "User" => groups.chain(namespaces).chain(roles).collect(),
        "Job" => namespaces.chain(projects).collect(),
        _ => groups.collect(),
    };
    let routes: Vec<_> = all.iter().map(|(name, _)| route(name)).collect();
    let text: String = all.iter().map(|(_, policy)| policy.as_str()).collect();
    let known = (&[gitlab_with_api("gitlab")], &[jobs("ci", "gitlab"), services("robots")]);
    let checked = load_with(&text, &routes, known.0, known.1).unwrap_or_else(|errors| panic!("{errors:?}"));
    let places = all.into_iter().enumerate().map(|(place, (name, _))| (name, place)).collect();
    (Authorize::new(checked).expect("policies make a step"), places)
}

/// Where somebody is let in, by the route that stands for what they are in.
fn permitted((policies, places): &(Authorize, BTreeMap<String, usize>), principal: &Principal) -> Vec<String> {
    let judged = Judged::from(asked("GET", "/"));
    let is = |(name, place): &(&String, &usize)| {
        policies.decide(principal, &judged, &placed(**place, &route(name)), UNIX_EPOCH).permits()
    };
    places.iter().filter(is).map(|(name, _)| name.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What GitLab gives at a group holds there and in every group below it, and nowhere above: a member of `a` is in `Group` `a/b`,
    /// and a member of `a/b` is not in `Group` `a` but in `Namespace` `a`. A role includes those below it, and comes down in the
    /// same way; the greater one wins.
    #[test]
    fn membership_comes_down_and_never_goes_up(direct in prop::collection::btree_map(select(&TREE[..]), select(&Role::ALL[..]), 0..4)) {
        let held = |group: &str| direct.iter().filter(|(at, _)| holds(at, group)).map(|(_, role)| *role).max();
        let effective: Vec<(&str, Role)> = TREE.iter().filter_map(|path| Some((*path, held(path)?))).collect();
        let found = permitted(&each("User"), &member("1", &effective, &[], 1));
        let mut expected = Vec::new();
        for (number, path) in TREE.iter().enumerate() {
            expected.extend(held(path).map(|_| format!("group-{number}")));
            let is_within = direct.keys().any(|at| holds(path, at) || holds(at, path));
            expected.extend(is_within.then(|| format!("namespace-{number}")));
            let ranks = Role::ALL.iter().enumerate().filter(|(_, role)| held(path).is_some_and(|held| held >= **role));
            expected.extend(ranks.map(|(rank, _)| format!("role-{number}-{rank}")));
        }
        expected.sort();
        prop_assert_eq!(found, expected);
    }

    /// A job is in its project and in every namespace above that, whatever its person is a member of.
    #[test]
    fn a_job_is_where_its_project_is_and_nowhere_else(at in select(&TREE[3..]), groups in prop::sample::subsequence(&TREE[..], 0..4)) {
        let Principal::User { membership, .. } = user("1", &groups, 1) else { unreachable!("it is a person") };
        let job = Principal::Job { job: Arc::new(job(1, Some(at), person("gitlab", "1"), false)), membership };
        let mut expected = Vec::new();
        for (number, path) in TREE.iter().enumerate() {
            expected.extend((*path == at).then(|| format!("project-{number}")));
            expected.extend((*path != at && holds(path, at)).then(|| format!("namespace-{number}")));
        }
        expected.sort();
        prop_assert_eq!(permitted(&each("Job"), &job), expected);
    }

    /// A service is in exactly the groups that its issuer says.
    #[test]
    fn a_service_is_in_its_groups_alone(groups in prop::sample::subsequence(&TREE[..], 0..4)) {
        let Principal::User { membership, .. } = user("1", &groups, 1) else { unreachable!("it is a person") };
        let service = Service {
            id: UserId { provider: "robots".parse().expect("a name"), subject: "1".into() },
            issuer: "https://robots.test".into(),
            client_id: "1".into(),
            scopes: Arc::default(),
        };
        let mut expected: Vec<_> =
            (0..).zip(TREE).filter(|(_, path)| groups.contains(path)).map(|(number, _): (usize, _)| format!("group-{number}")).collect();
        expected.sort();
        prop_assert_eq!(permitted(&each("Service"), &Principal::Service { service: Arc::new(service), membership }), expected);
    }
}
