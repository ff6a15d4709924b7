//! The policies in `policies/` do what their reasons say. They are what the demo runs and what people begin with.

use super::{
    Authorize, Decision, Outcome, schema_text,
    testing::{self, asked, gitlab_with_api, jobs, person, placed, route, user},
};
use crate::{
    canonical::Judged,
    principal::{Job, Principal},
    route::Route,
};
use std::{path::Path, sync::Arc, time::UNIX_EPOCH};

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
}

fn routes() -> Vec<Route> {
    let mut routes = ["portal", "api", "deploy-api"].map(route);
    routes[2].labels.insert("tier".into(), "production".into());
    routes.into()
}

fn policies() -> Authorize {
    Authorize::load(Some(directory()), &routes(), &[gitlab_with_api("gitlab")], &[jobs("ci", "gitlab")])
        .expect("the starter policies are good")
}

fn people() -> [(&'static str, Principal); 5] {
    [
        ("ada", user("1", &["acme", "acme/payments", "acme/platform"], 1)),
        ("ben", user("2", &["acme/platform"], 2)),
        ("cleo", user("3", &["acme/payments"], 3)),
        ("dan", user("4", &["contractors"], 4)),
        ("nobody", Principal::Anonymous),
    ]
}

/// Who is permitted, of the five.
fn permitted(policies: &Authorize, route: usize, method: &str, target: &str) -> Vec<&'static str> {
    let route = placed(route, &routes()[route]);
    let judged = Judged::from(asked(method, target));
    let permitted = |person: &Principal| policies.decide(person, &judged, &route, UNIX_EPOCH).permits();
    people().into_iter().filter(|(_, person)| permitted(person)).map(|(name, _)| name).collect()
}

#[test]
fn the_checked_in_schema_is_the_generated_one() {
    let found = std::fs::read_to_string(directory().join("vestibule.cedarschema")).expect("readable");
    assert_eq!(found, schema_text(&routes()));
}

#[test]
fn everyone_in_acme_reaches_the_portal_and_others_read_what_is_public() {
    let policies = policies();
    assert_eq!(permitted(&policies, 0, "GET", "/"), ["ada", "ben", "cleo"]);
    assert_eq!(permitted(&policies, 0, "POST", "/entities"), ["ada", "ben", "cleo"]);
    assert_eq!(permitted(&policies, 0, "GET", "/docs/start"), ["ada", "ben", "cleo", "dan"]);
    assert_eq!(permitted(&policies, 0, "POST", "/docs/start"), ["ada", "ben", "cleo"]);
    assert_eq!(permitted(&policies, 0, "GET", "/public/a"), ["ada", "ben", "cleo", "dan", "nobody"]);
    assert_eq!(permitted(&policies, 0, "GET", "/publications"), ["ada", "ben", "cleo"]);
    assert_eq!(permitted(&policies, 0, "POST", "/public/a"), ["ada", "ben", "cleo"]);
}

#[test]
fn everyone_in_acme_reads_the_api_and_the_platform_team_writes() {
    let policies = policies();
    assert_eq!(permitted(&policies, 1, "GET", "/api/x"), ["ada", "ben", "cleo"]);
    assert_eq!(permitted(&policies, 1, "POST", "/api/x"), ["ada", "ben"]);
    assert_eq!(permitted(&policies, 2, "POST", "/deploy/x"), [""; 0]);
}

/// A refusal says what would have let the person in, in the words of the policy's author.
#[test]
fn dan_is_told_who_the_portal_is_open_to() {
    let (_, dan) = people()[3].clone();
    let route = placed(0, &routes()[0]);
    let decision = policies().decide(&dan, &Judged::from(asked("GET", "/")), &route, UNIX_EPOCH);
    assert_eq!(decision.outcome, Outcome::NotPermitted);
    assert_eq!(decision.notes[0].policy.as_ref(), "portal-read-by-acme");
    let reason = "The portal is open to everyone in acme and its subgroups.";
    assert_eq!(decision.notes[0].reason.as_deref(), Some(reason));
    assert!(decision.notes[0].remedy.is_some());
    assert!(decision.hinges_on_groups);
}

/// A job of `project`, if it is in one, on `git_ref`, started by a member of `groups`.
fn job(project: Option<&str>, git_ref: &str, protected: bool, groups: &[&str]) -> Principal {
    let job = Job { git_ref: git_ref.into(), ..testing::job(9, project, person("gitlab", "2"), protected) };
    let Principal::User { membership, .. } = user("2", groups, 1) else { unreachable!("it is a person") };
    Principal::Job { job: Arc::new(job), membership }
}

fn judged(job: &Principal, method: &str) -> Decision {
    let route = placed(2, &routes()[2]);
    policies().decide(job, &Judged::from(asked(method, "/deploy/releases")), &route, UNIX_EPOCH)
}

#[test]
fn jobs_deploy_from_protected_main_for_the_platform_team_only() {
    const PLATFORM: &[&str] = &["acme/platform"];
    for (project, git_ref, protected, groups, expected) in [
        ("acme/shop/api", "main", true, PLATFORM, [true, true]),
        ("acme/shop/api", "main", true, &["acme/payments"], [true, false]),
        ("acme/shop/api", "main", true, &[], [true, false]),
        ("acme/shop/api", "main", false, PLATFORM, [true, false]),
        ("acme/shop/api", "feature", true, PLATFORM, [true, false]),
        ("acme/shop/web", "main", true, PLATFORM, [true, false]),
        ("evil/shop/api", "main", true, PLATFORM, [false, false]),
    ] {
        let job = job(Some(project), git_ref, protected, groups);
        let found = ["GET", "POST"].map(|method| judged(&job, method).permits());
        assert_eq!(found, expected, "{project} {git_ref} {protected} {groups:?}");
    }
}

/// Each job is told what it lacks: one on another branch, and one that runs what a stranger wrote.
#[test]
fn a_job_is_told_why_it_deploys_nothing() {
    let told = |job: Principal| {
        let decision = judged(&job, "POST");
        let notes: Vec<_> = decision.notes.iter().map(|note| note.policy.to_string()).collect();
        (decision.outcome, notes)
    };
    let branch = job(Some("acme/shop/api"), "feature", false, &["acme/platform"]);
    assert_eq!(told(branch), (Outcome::NotPermitted, vec!["deploy-from-protected-main".to_owned()]));
    let fork = job(None, "main", false, &["acme/platform"]);
    assert_eq!(told(fork), (Outcome::Forbidden, vec!["deploy-never-from-a-fork".to_owned()]));
}
