//! The policies in `policies/` do what their reasons say. They are what the demo runs and what people begin with.

use super::{
    Authorize, Outcome, schema_text,
    testing::{asked, gitlab_with_api, placed, route, user},
};
use crate::{canonical::Judged, principal::Principal, route::Route};
use cedar_policy::{Authorizer, Context, Decision, Entities, EntityUid, PolicySet, Request, Schema};
use std::{path::Path, time::UNIX_EPOCH};

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/policies"))
}

fn routes() -> Vec<Route> {
    let mut routes = ["portal", "api", "deploy-api"].map(route);
    routes[2].labels.insert("tier".into(), "production".into());
    routes.into()
}

fn policies() -> Authorize {
    Authorize::load(Some(directory()), &routes(), &[gitlab_with_api("gitlab")], &[])
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
    let judged = Judged { asked: asked(method, target) };
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
    let decision = policies().decide(&dan, &Judged { asked: asked("GET", "/") }, &route, UNIX_EPOCH);
    assert_eq!(decision.outcome, Outcome::NotPermitted);
    assert_eq!(decision.notes[0].policy.as_ref(), "portal-read-by-acme");
    let reason = "The portal is open to everyone in acme and its subgroups.";
    assert_eq!(decision.notes[0].reason.as_deref(), Some(reason));
    assert!(decision.notes[0].remedy.is_some());
    assert!(decision.hinges_on_groups);
}

/// Asks Cedar about a job of `project` on `ref`, by entities made by hand.
fn job(project: &str, git_ref: &str, protected: bool, method: &str) -> Decision {
    let (schema, _) = Schema::from_cedarschema_str(&schema_text(&routes())).expect("the schema parses");
    let text = std::fs::read_to_string(directory().join("runners.cedar")).expect("readable");
    let policies: PolicySet = text.parse().expect("the policies parse");
    let (group, _) = project.rsplit_once('/').expect("a project in a group");
    let top = project.split('/').next().expect("a first segment");
    let entities = serde_json::json!([
        { "uid": { "type": "Namespace", "id": format!("gitlab:{top}") }, "attrs": {}, "parents": [] },
        { "uid": { "type": "Namespace", "id": format!("gitlab:{group}") }, "attrs": {},
          "parents": [{ "type": "Namespace", "id": format!("gitlab:{top}") }] },
        { "uid": { "type": "Project", "id": format!("gitlab:{project}") }, "attrs": {},
          "parents": [{ "type": "Namespace", "id": format!("gitlab:{group}") }] },
        { "uid": { "type": "Job", "id": "gitlab:99" }, "parents": [{ "type": "Project", "id": format!("gitlab:{project}") }],
          "attrs": {
            "user": { "__entity": { "type": "User", "id": "gitlab:2" } }, "ref": git_ref, "ref_type": "branch",
            "ref_protected": protected, "pipeline_source": "push", "runner_id": 1, "runner_environment": "self-hosted",
            "project_id": 7, "job_id": 99, "sha": "0a1b" } },
    ]);
    let uid = |text: &str| text.parse::<EntityUid>().expect("an entity");
    let context = serde_json::json!({
        "host": "app.test", "path": "/deploy/x", "path_folded": "/deploy/x", "query": "", "amr": [], "class": "machine",
        "client_ip": { "__extn": { "fn": "ip", "arg": "10.0.0.1" } },
        "now": { "__extn": { "fn": "datetime", "arg": "2026-03-01T00:00:00Z" } }, "body": {},
    });
    let action = uid(&format!("Action::\"{method}\""));
    let entities = Entities::from_json_value(entities, Some(&schema)).expect("the entities fit the schema");
    let context = Context::from_json_value(context, Some((&schema, &action))).expect("the context fits the schema");
    let (principal, resource) = (uid(r#"Job::"gitlab:99""#), uid(r#"Route::"deploy-api""#));
    let request =
        Request::new(principal, action, resource, context, Some(&schema)).expect("the request fits the schema");
    Authorizer::new().is_authorized(&request, &policies, &entities).decision()
}

#[test]
fn jobs_deploy_from_protected_main_only() {
    assert_eq!(job("acme/shop/api", "main", true, "POST"), Decision::Allow);
    assert_eq!(job("acme/shop/api", "main", false, "POST"), Decision::Deny);
    assert_eq!(job("acme/shop/api", "feature", true, "POST"), Decision::Deny);
    assert_eq!(job("acme/shop/web", "main", true, "POST"), Decision::Deny);
    assert_eq!(job("acme/shop/web", "main", true, "GET"), Decision::Allow);
    assert_eq!(job("evil/shop/api", "main", true, "GET"), Decision::Deny);
}
