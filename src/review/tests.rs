//! The cases of the shipped policies hold, and mistakes in case files are said where they stand.

use super::{
    asking::{Asking, More},
    cases::{self, Suite, Verdict},
    cast::Cast,
    coverage::Coverage,
    mutate::Mutation,
};
use crate::{
    authorize::{Authorize, Outcome},
    canonical::Class,
    config::{Settings, load_for_review},
    principal::{Membership, Principal},
    route::{BodyField, BodyRule, Pointer, Reading},
};
use http::Method;
use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

fn settings() -> Settings {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/vestibule.yaml");
    load_for_review(&file).unwrap_or_else(|errors| panic!("{errors}"))
}

fn policies(settings: &Settings) -> Authorize {
    let Settings { policies, routes, providers, token_issuers, .. } = settings;
    Authorize::load(policies.as_deref(), routes, providers, token_issuers).expect("the policies are good")
}

/// These cases with the shipped policies.
fn suite(settings: &Settings, text: &str) -> Result<Suite, Vec<String>> {
    let read = Suite::of(text, "x.yaml", settings, &policies(settings).ids());
    read.map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn mistakes(text: &str) -> Vec<String> {
    suite(&settings(), text).err().unwrap_or_default()
}

/// Every policy that ships decides a case as it is meant to, and no change of one goes unnoticed.
#[test]
fn the_shipped_policies_are_tested_to_the_last_condition() {
    let settings = settings();
    let policies = policies(&settings);
    let files = cases::below(settings.policies.as_deref().expect("a directory")).expect("it can be read");
    let suite = Suite::read(&files, &settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let verdicts = suite.run(&policies);
    let failed: Vec<_> = verdicts.iter().filter(|verdict| !verdict.passed()).collect();
    let failed: Vec<_> = failed.iter().map(|it| format!("{}: found {}", it.case.place(), it.found())).collect();
    assert_eq!(failed, [""; 0]);
    assert_eq!(Coverage::of(&policies, &verdicts).uncovered, []);
    assert_eq!(policies.warnings(&settings.routes, &settings.token_issuers), []);
    let mutation = Mutation::of(&suite, &policies, &settings).expect("the schema is good");
    let survivors = mutation.survivors.iter();
    let survivors: Vec<_> =
        survivors.map(|it| format!("{}, {}: {:?}", it.mutant.policy, it.mutant.change, it.missing)).collect();
    assert_eq!(survivors, [""; 0]);
    assert_eq!(mutation.refused.len(), 1, "people have no `ref`");
    assert!(mutation.noticed > 60, "{}", mutation.noticed);
    let equivalent = mutation.equivalent.iter().map(|(mutant, _)| format!("{}, {}", mutant.policy, mutant.change));
    assert_eq!(
        equivalent.collect::<BTreeSet<_>>(),
        [
            "api-restart-billing-by-payments, open to every resource",
            "deploy-from-protected-main, open to every resource",
            "deploy-never-from-a-fork, open to every principal",
            "deploy-never-from-a-fork, open to every resource",
            "deploy-status-for-jobs, open to every resource",
            "portal-docs-for-contractors, open to every resource",
            "public-pages, open to every resource",
        ]
        .map(str::to_owned)
        .into()
    );
}

/// A case that is missing is said in words that can be put into the file, and then nothing survives.
#[test]
fn what_a_survivor_says_is_missing_makes_it_fail() {
    let settings = settings();
    let directory = tempfile::tempdir().expect("a directory");
    let text = r#"@id("docs") permit (principal is User in Group::"gitlab:acme", action in Action::"read", resource == Route::"portal")
                  when { context.path like "/docs/*" };"#;
    fs::write(directory.path().join("docs.cedar"), text).expect("written");
    let settings = Settings { policies: Some(directory.path().to_owned()), ..settings };
    let policies = policies(&settings);
    let mut cases = "people: { ann: { groups: [acme] }, bob: {} }\ncases:\n".to_owned();
    cases.push_str("  - { as: ann, request: GET /docs/a, expect: permit, by: [docs] }\n");
    let mut rounds = 0;
    loop {
        let suite =
            Suite::of(&cases, "x.yaml", &settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert!(suite.run(&policies).iter().all(Verdict::passed), "{cases}");
        let mutation = Mutation::of(&suite, &policies, &settings).expect("the schema is good");
        let Some(survivor) = mutation.survivors.first() else { break };
        let missing = survivor.missing.as_deref();
        let missing = missing.unwrap_or_else(|| panic!("{} {}", survivor.mutant.policy, survivor.mutant.change));
        cases.push_str(&format!("  {missing}\n"));
        rounds += 1;
        assert!(rounds < 10, "{cases}");
    }
    assert!(rounds >= 3, "{cases}");
}

/// The slash before the star is what keeps `/docs-internal` closed: some case has to say so.
#[test]
fn a_pattern_without_its_slash_is_a_change_to_notice() {
    let settings = settings();
    let directory = tempfile::tempdir().expect("a directory");
    let text = r#"@id("docs") permit (principal, action, resource == Route::"portal")
                  when { context.path == "/docs" || context.path like "/docs/*" };"#;
    fs::write(directory.path().join("docs.cedar"), text).expect("written");
    let settings = Settings { policies: Some(directory.path().to_owned()), ..settings };
    let policies = policies(&settings);
    let of = |cases: &str| {
        let text = format!("cases:\n  - {{ as: anonymous, request: GET /docs/a, expect: permit }}\n{cases}");
        let suite =
            Suite::of(&text, "x.yaml", &settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let survivors = Mutation::of(&suite, &policies, &settings).expect("the schema is good").survivors;
        let change = r#"with the pattern `context.path like "/docs*"`"#;
        let survivor = survivors.into_iter().find(|survivor| survivor.mutant.change.to_string() == change);
        survivor.map(|survivor| survivor.missing.unwrap_or_default())
    };
    let missing = of("").expect("nobody noticed");
    assert_eq!(missing, "- { as: anonymous, request: GET http://portal.localhost:8080/docsx, expect: deny }");
    assert_eq!(of(&format!("  {missing}\n")), None);
}

/// A change that nobody has to notice is accepted with its reason; in vain, once somebody does.
#[test]
fn what_is_accepted_is_no_survivor() {
    let settings = settings();
    let directory = tempfile::tempdir().expect("a directory");
    let text = r#"@id("all") permit (principal, action, resource == Route::"portal") when { context.query == context.query };"#;
    fs::write(directory.path().join("all.cedar"), text).expect("written");
    let settings = Settings { policies: Some(directory.path().to_owned()), ..settings };
    let policies = policies(&settings);
    let changes = |accepted: &str| {
        let text = format!(
            "cases:\n  - {{ as: anonymous, request: GET /, expect: permit, by: [all] }}\n  \
             - {{ as: anonymous, request: GET /api/, expect: deny }}\naccepted: [{accepted}]"
        );
        let suite =
            Suite::of(&text, "x.yaml", &settings, &policies.ids()).unwrap_or_else(|errors| panic!("{errors:#?}"));
        Mutation::of(&suite, &policies, &settings).expect("the schema is good")
    };
    let plain = changes("");
    assert_eq!(plain.survivors.len(), 1);
    assert!(!plain.good() && plain.survivors[0].missing.is_none());
    let change = plain.survivors[0].mutant.change.to_string();
    let accept = |change: &str| format!("{{ policy: all, change: {change:?}, because: it is always so }}");
    let accepted = changes(&accept(&change));
    assert!(accepted.good() && accepted.accepted.len() == 1);
    let vain = changes(&format!("{}, {}", accept(&change), accept("dropped")));
    assert_eq!(
        (vain.good(), vain.vain[0].change.as_str(), vain.vain[0].place.as_str()),
        (false, "dropped", "x.yaml:4")
    );
}

#[test]
fn a_case_fails_by_its_outcome_and_by_who_decides() {
    let settings = settings();
    let policies = policies(&settings);
    let passed = |who: &str, request: &str, expected: &str| {
        let text = format!(
            "people: {{ ann: {{ groups: [acme] }}, eve: {{ groups: unknown }} }}\n\
             cases: [{{ as: {who}, request: {request}, expect: {expected} }}]"
        );
        let suite = suite(&settings, &text).unwrap_or_else(|errors| panic!("{errors:#?}"));
        suite.run(&policies)[0].passed()
    };
    for (who, request, expected, good) in [
        ("ann", "GET /", "permit", true),
        ("ann", "GET /", "permit, by: [portal-read-by-acme]", true),
        ("ann", "GET /", "permit, by: [portal-write-by-acme]", false),
        ("ann", "GET /", "permit, by: [portal-read-by-acme, public-pages]", false),
        ("ann", "GET /public/a", "permit, by: [portal-read-by-acme]", false),
        ("ann", "GET /", "permit, by: []", false),
        ("ann", "GET /", "deny", false),
        ("eve", "GET /", "unknown", true),
        ("eve", "GET /", "deny", false),
        ("anonymous", "GET /", "deny, by: []", true),
        ("anonymous", "GET /", "forbid", false),
        ("anonymous", "GET http://portal.localhost:8080/public/a", "permit", true),
    ] {
        assert_eq!(passed(who, request, expected), good, "{who} {request} {expected}");
    }
}

#[test]
fn mistakes_are_said_at_once_where_they_stand() {
    let text = "\
people:
  ann: { provider: gitlub, groups: [acme] }
  bob: { groups: acme }
  col: { groups: [a//b], roles: { acme: boss }, lgoin: c }
jobs:
  one: { user: ana, claims: { project_path: acme/shop/api } }
cases:
  - { as: bop, request: GET /, expect: permit }
  - { as: anonymous, request: /, expect: permit }
  - { as: anonymous, request: GET /, expect: allow }
  - { as: anonymous, request: GET /, expect: permit, by: [portal-read-by-akme] }
  - { as: anonymous, request: GET https://portal.localhost/, expect: permit }
  - { as: anonymous, request: GET http://elsewhere.test/, expect: permit }
  - { as: anonymous, request: GET /.vestibule/sign-in, expect: permit }
  - { as: anonymous, request: GET /a, expect: permit, class: navigatoin }
  - { as: anonymous, request: GET /a, expect: permit, client_ip: here, at: now }
  - { request: GET /a, expect: permit }
";
    let said = mistakes(text);
    for (place, words) in [
        ("x.yaml:2:20: ", "did you mean `gitlab`?"),
        ("x.yaml:3:18: ", "expected a list such as `[acme]`, or `unknown`"),
        ("x.yaml:4:19: ", "empty segment"),
        ("x.yaml:4:41: ", "expected `guest`"),
        ("x.yaml:4:49: ", "did you mean `login`?"),
        ("x.yaml:8:11: ", "`bop` is nobody who is described here; did you mean `bob`?"),
        ("x.yaml:9:31: ", "is no request"),
        ("x.yaml:10:46: ", "expected `permit`"),
        ("x.yaml:11:59: ", "did you mean `portal-read-by-acme`?"),
        ("x.yaml:12:31: ", "is not by `http`"),
        ("x.yaml:13:31: ", "Nothing is served under this host name"),
        ("x.yaml:14:31: ", "answered by the gateway itself"),
        ("x.yaml:15:62: ", "did you mean `navigation`?"),
        ("x.yaml:16:66: ", "an address such as"),
        ("x.yaml:16:76: ", "a point in time"),
        ("x.yaml:17:5: ", "`cases[9].as` is missing"),
    ] {
        assert!(said.iter().any(|line| line.starts_with(place) && line.contains(words)), "{place}{words}\n{said:#?}");
    }
    assert_eq!(said.len(), 17, "{said:#?}");
    assert_eq!(mistakes("people: [")[0].split(':').next(), Some("x.yaml"));
    assert!(mistakes("people: { anonymous: {} }")[0].contains("somebody else"));
}

/// Groups are written here as the provider lists them, and not as policies and `allow` name them.
#[test]
fn a_group_with_its_provider_is_a_mistake_and_so_is_a_pattern() {
    let said = mistakes(
        "people:\n  ann: { groups: [gitlab:acme, acme/shop] }\n  bob: { groups: [acme/**], roles: { gitlab:acme: owner } }\n",
    );
    assert_eq!(said.len(), 3, "{said:#?}");
    for (place, words) in [
        ("x.yaml:2:19: ", "`gitlab:acme` names a provider; write `acme`: the provider is that of the person"),
        ("x.yaml:3:19: ", "`acme/**` is a pattern, and nobody is in a pattern; write each group"),
        ("x.yaml:3:51: ", "write `acme`"),
    ] {
        assert!(said.iter().any(|line| line.starts_with(place) && line.contains(words)), "{place}{words}\n{said:#?}");
    }
    assert_eq!(mistakes("people: { ann: { groups: [\"other:acme\"] } }"), [""; 0], "a name may have a colon");
}

/// Of many policies those are named that may be meant.
#[test]
fn an_unknown_id_is_told_with_the_nearest() {
    let said = mistakes("cases: [{ as: anonymous, request: GET /, expect: permit, by: [nothing-like-it] }]");
    assert_eq!(said[0].matches('`').count(), 2 + 2 * 5, "{said:?}");
}

/// Times that are written as spans are spans before the request, whenever that is.
#[test]
fn sign_ins_are_as_old_as_they_are_written() {
    let settings = settings();
    let text = "people: { ann: { signed_in: 1h, auth_time: 5m, amr: [pwd, otp], acr: \"2\" } }";
    let cast = Cast::of(text, "x.yaml", &settings).expect("it is good");
    let now = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_800_000_000);
    let ann = cast.at("ann", now).expect("she is there");
    let strength = ann.strength().expect("a person");
    let age = |time: Option<std::time::SystemTime>| now.duration_since(time.expect("known")).expect("before").as_secs();
    assert_eq!((age(strength.created), age(strength.auth_time)), (3600, 300));
    assert_eq!((&*strength.amr, strength.acr.as_deref()), (&["pwd".to_owned(), "otp".to_owned()][..], Some("2")));
}

/// A job is made of its claims as of those of a real token: a fork is in no project, nor is what took over a path.
#[test]
fn jobs_are_what_their_claims_say() {
    let settings = settings();
    let text = "\
people: { ann: { groups: [acme] } }
jobs:
  home: { user: ann, claims: { project_path: acme/shop/api } }
  fork: { user: ann, claims: { project_path: ann/api, project_id: 8, job_project_id: 5120 } }
  other: { user: ann, claims: { project_path: acme/shop/api, project_id: 9 } }
";
    let cast = Cast::of(text, "x.yaml", &settings).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let of = |name: &str| match cast.get(name) {
        Some(Principal::Job { job, membership: Membership::Known(groups) }) => {
            assert_eq!((&*job.person.login, groups.paths.len()), ("ann", 1));
            (job.project.as_ref().map(ToString::to_string), job.source_project().map(str::to_owned), job.renamed)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(of("home"), (Some("acme/shop/api".to_owned()), None, false));
    assert_eq!(of("fork"), (None, Some("ann/api".to_owned()), false));
    assert_eq!(of("other"), (None, None, true));
}

#[test]
fn requests_are_read_as_the_gateway_reads_them() {
    let settings = settings();
    let ask = |method: &str, url: &str, more: More| Asking::of(method, url, more, &settings);
    let found = |url: &str| ask("GET", url, More::default()).map(|asking| asking.route.name.to_string());
    assert_eq!(found("/api/x").as_deref(), Ok("api"));
    assert_eq!(found("http://PORTAL.localhost:8080/%61pi/x").as_deref(), Ok("api"));
    for wrong in ["http://portal.localhost:8080/a/../b", "/a%2fb", "/a#b", "a/b", "http:///a"] {
        assert!(found(wrong).is_err(), "{wrong}");
    }
    let class = |class, method: &str| {
        let more = More { class: Some(class), ..More::default() };
        ask(method, "/", more).map(|asking| asking.judged.asked.class)
    };
    for (of, method) in [
        (Class::Navigation, "GET"),
        (Class::Frame, "GET"),
        (Class::Submission, "POST"),
        (Class::Fetch, "POST"),
        (Class::Stream, "GET"),
        (Class::WebSocket, "GET"),
        (Class::Preflight, "OPTIONS"),
        (Class::Grpc, "POST"),
        (Class::Machine, "DELETE"),
    ] {
        assert_eq!(class(of, method), Ok(of), "{method}");
    }
    assert!(class(Class::Navigation, "POST").is_err());
    let socket = ask("GET", "/", More { websocket: true, ..More::default() }).expect("it is good");
    assert!(socket.judged.asked.websocket);
}

/// A body is read where a rule names the request, and nowhere else.
#[test]
fn bodies_are_read_as_the_gateway_reads_them() {
    let mut settings = settings();
    let pointer = Pointer::parse("/kind").expect("a pointer");
    let field = BodyField { name: "kind".into(), pointer, reading: Reading::BackstageRef, optional: false };
    let rule = BodyRule { method: Method::POST, path: "/api/tasks".into(), max: 1024, fields: vec![field] };
    settings.routes.iter_mut().for_each(|route| route.body_fields = [Arc::new(rule.clone())].into());
    let ask = |url: &str, body: Option<&str>| {
        let more = More { body: body.map(str::to_owned), ..More::default() };
        Asking::of("POST", url, more, &settings).map(|asking| asking.judged)
    };
    let read = ask("/api/tasks", Some(r#"{"kind": "Production/DNS"}"#)).expect("it is good");
    assert_eq!(read.body.fields(), [("kind".into(), "template:production/dns".into())]);
    assert!(ask("/api/tasks", None).expect("it is good").is_unread());
    let missing = |url, body: Option<&str>| {
        let more = More { body: body.map(str::to_owned), ..More::default() };
        Asking::of("POST", url, more, &settings).expect("it is good").missing_body()
    };
    let example = missing("/api/tasks", None).expect("it is missing");
    assert_eq!(example, r#"{"kind":"template:default/name"}"#);
    assert_eq!((missing("/api/tasks", Some(&example)), missing("/api/other", None)), (None, None));
    let said = |url, body| ask(url, Some(body)).err().expect("a mistake");
    assert_eq!(said("/api/tasks", "{}"), "`/kind` of the body is missing, a string is expected");
    let nobody = "no rule of `body_fields` of route `api` names this request, so nobody reads its `body`";
    assert_eq!(said("/api/other", "{}"), nobody);
}

/// Whom a route does not take is nobody there, as at the gateway.
#[test]
fn strangers_are_nobody() {
    let settings = settings();
    let text = "\
people: { ann: { groups: [acme] } }
jobs: { one: { user: ann, claims: { project_path: acme/shop/api } } }
cases:
  - { as: one, request: GET /public/a, expect: permit, by: [public-pages] }
  - { as: one, request: GET /deploy/a, expect: permit, by: [deploy-status-for-jobs] }
";
    let suite = suite(&settings, text).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let verdicts = suite.run(&policies(&settings));
    assert!(verdicts.iter().all(Verdict::passed));
    assert_eq!(suite.cases.iter().map(|case| case.stranger).collect::<Vec<_>>(), [true, false]);
    assert_eq!(verdicts[0].decision.outcome, Outcome::Permitted);
}

/// A name that the shared file has is not given to somebody else beside it.
#[test]
fn a_name_is_described_once() {
    let settings = settings();
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).expect("written");
        file
    };
    write("cast.yaml", "people: { ann: { groups: [acme] } }");
    let good = write("a.yaml", "cases: [{ as: ann, request: GET /, expect: permit }]");
    let bad = write("b.yaml", "people: { ann: {} }");
    let ids: BTreeSet<Arc<str>> = BTreeSet::new();
    assert_eq!(Suite::read(&[good], &settings, &ids).map(|suite| suite.cases.len()).ok(), Some(1));
    let errors = Suite::read(&[bad], &settings, &ids).err().expect("a mistake");
    assert!(errors[0].to_string().contains("b.yaml:1:16: `ann` is in `cast.yaml` too"), "{errors:?}");
    let everybody = Cast::of_directory(directory.path(), &settings).expect("each has a name");
    assert_eq!(everybody.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["anonymous", "b/ann", "cast/ann"]);
    assert_eq!((everybody.get("ann").is_none(), everybody.files_of("ann").len()), (true, 2));
}
