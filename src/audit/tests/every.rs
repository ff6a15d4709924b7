//! One record of every kind that there is, for what looks at all of them: `TESTS_AUDIT_EVENTS` names a directory where the
//! journal is left for validators of other people (`tests/audit/events.py`).

use super::client;
use crate::audit::{
    crossing::{Asked, Credential, Draft, Standing, Who},
    field::About,
    lens::Lens,
    *,
};
use crate::{
    authorize::Aside,
    canonical::{Class, ClientCertificate, RequestId},
    fairness::{Measure, Whom},
    principal::{Job, MembershipSource, Service, Unknown, UserId},
    refusal::table::TABLE,
};
use secrecy::SecretString;
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::PathBuf};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn id(subject: &str) -> UserId {
    UserId { provider: "gitlab".parse().expect("a name"), subject: subject.into() }
}

fn person() -> Arc<Person> {
    Arc::new(Person {
        id: id("907"),
        issuer: "https://gitlab.test".into(),
        login: "ada@example.com".into(),
        email: Some("ada@example.com".into()),
        name: Some("Ada".into()),
    })
}

fn job() -> Arc<Job> {
    Arc::new(Job {
        id: UserId { provider: "ci".parse().expect("a name"), subject: "301".into() },
        namespace: "gitlab".parse().expect("a name"),
        person: person(),
        job_id: 301,
        pipeline_id: 201,
        project_id: 5120,
        project_path: "acme/shop/api".into(),
        job_project_id: Some(5120),
        project: "acme/shop/api".parse().ok(),
        renamed: true,
        git_ref: "main".into(),
        ref_type: "branch".into(),
        ref_protected: true,
        pipeline_source: "push".into(),
        runner_id: 7,
        runner_environment: "self-hosted".into(),
        sha: "f00".into(),
        environment: Some("production".into()),
        environment_protected: None,
        deployment_tier: None,
        environment_action: None,
        ci_config_ref_uri: None,
    })
}

fn service() -> Arc<Service> {
    Arc::new(Service {
        id: id("robot"),
        issuer: "https://issuer.test".into(),
        client_id: "robot".into(),
        scopes: Arc::new([]),
    })
}

fn decision(outcome: Outcome) -> Decision {
    Decision {
        outcome,
        policies: ["everyone", "others"].into_iter().map(Arc::from).collect(),
        notes: Arc::new([]),
        digest: "d1".into(),
        hinges_on_groups: false,
        faults: Arc::default(),
    }
}

fn asked(method: &str, path: &str, class: Class) -> Asked {
    let certificate = ClientCertificate { subject: "CN=portal".into(), issuer: "CN=ca".into(), spiffe_id: None };
    Asked {
        id: RequestId(7),
        trace: Some(9),
        method: method.parse().expect("a method"),
        authority: "portal.test:8443".into(),
        path: path.into(),
        class,
        client: client(),
        https: true,
        certificate: Some(Arc::new(certificate)),
        tossed: true,
    }
}

/// Every event that is no request.
fn events() -> Vec<Event> {
    let (person, session) = (person(), "5e55".to_owned());
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<String>>();
    let groups = |added: &[&str], removed: &[&str]| Event::GroupsChanged {
        person: person.clone(),
        added: words(added),
        removed: words(removed),
        source: "userinfo",
    };
    let reloaded = |error: Option<&str>| Event::Reloaded {
        what: "configuration",
        digest: if error.is_some() { String::new() } else { "d2".to_owned() },
        changed: words(&["routes[portal].allow"]),
        added: words(&["p"]),
        removed: words(&["q"]),
        error: error.map(str::to_owned),
    };
    let administered = |act, kind, object: &str| Event::Administered {
        by: "uid 0".to_owned(),
        act,
        kind,
        object: object.to_owned(),
        reason: Some("ada@example.com left, last seen at 192.0.2.1".to_owned()),
        sessions: words(&["5e55"]),
    };
    let detail = "no key `k1` for ada@example.com from 192.0.2.1".to_owned();
    let (provider, client) = ("gitlab".to_owned(), client());
    let all = vec![
        Event::SignedIn { person: person.clone(), session: session.clone(), client },
        Event::Arrived { person: person.clone(), session: session.clone(), host: "api.test".to_owned(), client },
        Event::SignInFailed { provider: provider.clone(), reason: Reason::SignInState, detail: detail.clone(), client },
        Event::SignOutRefused { provider: provider.clone(), detail: detail.clone(), client, count: 3 },
        Event::SessionEnded { person: person.clone(), session: session.clone(), why: "idle" },
        Event::RefreshDeferred { person: person.clone(), session, cause: "timeout".to_owned() },
        groups(&["a"], &[]),
        groups(&[], &["crew@example.com"]),
        groups(&["a"], &["b"]),
        Event::HookTaken {
            object: "gitlab:907".to_owned(),
            event: "user_remove_from_group".to_owned(),
            groups: vec!["group 7".to_owned()],
            client,
        },
        Event::HookRefused { provider, detail, client, count: 2 },
        reloaded(None),
        reloaded(Some("no such route")),
        administered("sessions.revoke", "session", "login ada@example.com"),
        administered("sessions.lock", "lock", "user gitlab:907"),
        administered("sessions.unlock", "lock", "user gitlab:907"),
        administered("sessions.lock", "lock", "group gitlab:acme"),
        administered("sessions.unlock", "lock", "provider gitlab"),
        Event::of_lock_over("user", &"gitlab:907"),
        Event::of_key(0, "keys.rotate", "ring 0002".to_owned()),
        Event::StrangerRefused { by: "uid 1000".to_owned() },
        Event::Started { digest: "d1".to_owned() },
        Event::Stopped,
    ];
    let kinds: BTreeSet<u8> = all.iter().map(number).collect();
    assert_eq!(kinds, (0..14).collect(), "one of every variant");
    all
}

/// No variant without a number: one that is new does not compile before it stands here.
fn number(event: &Event) -> u8 {
    match event {
        Event::SignedIn { .. } => 0,
        Event::Arrived { .. } => 1,
        Event::SignInFailed { .. } => 2,
        Event::SignOutRefused { .. } => 3,
        Event::SessionEnded { .. } => 4,
        Event::RefreshDeferred { .. } => 5,
        Event::GroupsChanged { .. } => 6,
        Event::HookTaken { .. } => 7,
        Event::HookRefused { .. } => 8,
        Event::Reloaded { .. } => 9,
        Event::Administered { .. } => 10,
        Event::StrangerRefused { .. } => 11,
        Event::Started { .. } => 12,
        Event::Stopped => 13,
    }
}

fn whos() -> Vec<Who> {
    let known = |source, stale| Standing::Known { source, read: NOW, stale };
    let sources = [
        MembershipSource::Userinfo,
        MembershipSource::IdToken,
        MembershipSource::Api,
        MembershipSource::Graph,
        MembershipSource::Token,
    ];
    let unknown = [Unknown::NeverRead, Unknown::TooOld, Unknown::Incomplete, Unknown::Changed];
    let standings = sources.map(|source| known(source, true)).into_iter().chain(unknown.map(Standing::Unknown));
    let mut all = vec![
        Who::Anonymous,
        Who::Job(job(), known(MembershipSource::Api, false)),
        Who::Service(service(), known(MembershipSource::Token, false)),
    ];
    all.extend(standings.map(|standing| Who::Person(person(), standing)));
    all
}

/// Records of requests: every principal, method, class, outcome, phase and refusal.
fn requests(audit: &Audit, path: &str) {
    let record = |change: &dyn Fn(&mut Draft)| {
        let crossing = audit.crossing(client(), NOW + Duration::from_secs(60));
        crossing.set(|draft| {
            draft.asked = Some(asked("GET", path, Class::Navigation));
            draft.route = Some("backstage".parse().expect("a name"));
            draft.session = Some("5e55".into());
            draft.status = Some(200);
            change(draft);
        });
    };
    for who in whos() {
        record(&|draft| {
            draft.who = Some(who.clone());
            draft.decision = Some(decision(Outcome::Permitted));
            draft.credential = Some(Credential { issuer: "ci".parse().expect("a name"), name: "301".into() });
        });
    }
    for method in ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH", "PROPFIND"] {
        record(&|draft| draft.asked = Some(asked(method, path, Class::Machine)));
    }
    for class in Class::ALL {
        record(&|draft| draft.asked = Some(asked("GET", path, class)));
    }
    for outcome in
        [Outcome::Permitted, Outcome::Forbidden, Outcome::NotPermitted, Outcome::MembershipUnknown, Outcome::Failed]
    {
        for unread in [false, true] {
            record(&|draft| {
                draft.decision = Some(decision(outcome));
                draft.shadow = Some(Aside { decision: decision(Outcome::Permitted), unread });
            });
        }
    }
    for phase in [Phase::Request, Phase::Decision, Phase::Completion, Phase::StreamOpened, Phase::StreamEnded] {
        for status in [None, Some(200)] {
            record(&|draft| {
                (draft.phase, draft.status, draft.recorded) = (phase, status, Some(3));
                draft.cut = matches!(phase, Phase::StreamEnded).then_some(Reason::NotPermitted);
            });
        }
    }
    for row in &TABLE {
        let detail = format!("`{path}` is nothing for ada@example.com at 192.0.2.1");
        let refusal = Refusal::new(row.reason, &*detail).because(&detail);
        let refusal = Refusal { limit: Some((Whom::User, Measure::Requests)), ..refusal };
        let unread = audit.crossing(client(), NOW);
        unread.unread(RequestId(8), client());
        unread.refused(&refusal);
        unread.status(http::StatusCode::BAD_REQUEST);
        let read = audit.crossing(client(), NOW);
        read.set(|draft| draft.asked = Some(asked("GET", path, Class::Navigation)));
        read.refused(&refusal);
    }
}

fn directory() -> (Option<tempfile::TempDir>, PathBuf) {
    match std::env::var_os("TESTS_AUDIT_EVENTS") {
        Some(named) => (None, named.into()),
        None => {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().to_owned();
            (Some(directory), path)
        }
    }
}

fn written(directory: &std::path::Path, pseudonyms: &[crate::config::Pseudonym]) -> Vec<Value> {
    let settings = AuditSettings { pseudonyms: pseudonyms.to_vec(), ..AuditSettings::for_test(1 << 26) };
    let audit = Audit::open(&directory.join("journal"), &directory.join("keys"), &settings).expect("opened");
    events().into_iter().for_each(|event| audit.record(event, NOW));
    requests(&audit, "/api/x");
    audit.close();
    let mut records = Vec::new();
    for file in fs::read_dir(directory.join("journal")).expect("read").flatten() {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.extend(lines.filter_map(|mut line| line.get_mut("event").map(Value::take)));
    }
    records
}

/// Adds the paths of all values below `value`, with `[]` for places in lists.
fn paths(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                paths(value, &crate::audit::field::below(path, name), out);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| paths(value, &format!("{path}[]"), out)),
        _ => drop(out.insert(path.to_owned())),
    }
}

/// Whatever is written is a field with a class, and every field is written by some event: none is for nothing.
#[test]
fn every_field_has_a_class_and_is_written() {
    let (_kept, directory) = directory();
    let mut found = BTreeSet::new();
    for record in written(&directory.join("plain"), &[]) {
        paths(&record, "", &mut found);
    }
    use crate::config::Pseudonym::{Address, Email};
    for record in written(&directory.join("pseudonyms"), &[Email, Address]) {
        paths(&record, "", &mut found);
    }
    let known: BTreeSet<String> = fields().into_iter().map(|field| field.path).collect();
    assert_eq!(found, known);
}

/// The documentation lists every field with its class and meaning, as the types have them.
#[test]
fn the_documentation_lists_every_field_with_its_class() {
    let row = |About { path, class, text }: About| format!("| `{path}` | {} | {text} |\n", class.as_str());
    let table: String = fields().into_iter().map(row).collect();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/audit-fields.md")).expect("the page");
    let (_, rest) = page.split_once("| Field | Class | What it is |\n|---|---|---|\n").expect("the table");
    let shown = rest.split("\n\n").next().expect("its end");
    assert!(shown.trim_end() == table.trim_end(), "the table in docs/audit-fields.md has to be:\n{table}");
}

/// With pseudonyms nothing that is recorded has an address of either kind in it, and the same is always the same.
#[test]
fn pseudonyms_stand_for_every_address() {
    use crate::config::Pseudonym::{Address, Email};
    let directory = tempfile::tempdir().expect("a directory");
    let records = written(directory.path(), &[Email, Address]);
    let names = Pseudonyms::read(&directory.path().join("keys")).expect("read").expect("a key");
    let (ada, there) = (names.email("ada@example.com"), names.address(client()));
    for record in &records {
        let text = record.to_string();
        assert!(!text.contains("example.com") && !text.contains("192.0.2.1"), "{text}");
    }
    let signed_in = &records[0];
    assert_eq!((&signed_in["user"]["name"], &signed_in["src_endpoint"]["uid"]), (&ada.into(), &there.into()));
    assert!(signed_in["src_endpoint"].get("ip").is_none());
    // one without the other
    for (wanted, absent, present) in [(Email, "example.com", "192.0.2.1"), (Address, "192.0.2.1", "ada@example.com")] {
        let directory = tempfile::tempdir().expect("a directory");
        let text: String = written(directory.path(), &[wanted]).iter().map(Value::to_string).collect();
        assert!(!text.contains(absent) && text.contains(present), "{wanted:?}");
    }
}

/// What a route keeps out of its paths is in no record of it: not in the path, nor in what is said of the request. While nobody
/// knows the route, what any route keeps out is kept out.
#[test]
fn what_a_route_keeps_out_of_paths_is_in_no_record() {
    use crate::route::{PathMask, Redaction};
    let place = tempfile::tempdir().expect("a directory");
    let settings = AuditSettings::for_test(1 << 26);
    let audit = Audit::open(&place.path().join("journal"), &place.path().join("keys"), &settings).expect("opened");
    let redact = Redaction::of(vec![PathMask::parse("/users/*/records/*").expect("a pattern")]);
    for (path, redact) in [("/users/canary7/records/canary9", redact), ("/users/open7/records/open9", None)] {
        let crossing = audit.crossing(client(), NOW);
        crossing.set(|draft| {
            (draft.asked, draft.redact) = (Some(asked("GET", path, Class::Fetch)), redact.clone());
        });
        crossing.refused(
            &Refusal::new(Reason::NotFound, &*format!("`{path}` is not there")).because("no record canary9 of open7"),
        );
    }
    audit.close();
    let files = fs::read_dir(place.path().join("journal")).expect("read").flatten();
    let text: String = files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect();
    assert_eq!(text.matches("canary").count(), 1, "only where nobody keeps it out: {text}");
    assert!(text.contains("\"path\":\"/users/*/records/*\"") && text.contains("`/users/*/records/*` is not there"));
    assert!(text.contains("no record * of open7") && text.contains("\"path\":\"/users/open7/records/open9\""));
}

/// True if a type can be serialised.
macro_rules! serialises {
    ($kind:ty) => {{
        #[allow(dead_code)]
        trait No {
            const YES: bool = false;
        }
        impl<T: ?Sized> No for T {}
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        impl<T: ?Sized + serde::Serialize> Probe<T> {
            const YES: bool = true;
        }
        <Probe<$kind>>::YES
    }};
}

/// Types that keep a secret have no way into a record: nothing can write them.
#[test]
fn secrets_cannot_be_serialised() {
    assert!(serialises!(String) && serialises!(crate::audit::field::Public<u8>), "the probe tells");
    assert!(!serialises!(SecretString) && !serialises!(crate::audit::field::Public<SecretString>));
    assert!(!serialises!(crate::audit::field::Personal<SecretString>) && !serialises!(Option<SecretString>));
    assert!(!serialises!(crate::session::SessionId) && !serialises!(crate::session::KeyRing));
    assert!(!serialises!(crate::session::Live) && !serialises!(crate::session::Session));
    assert!(!serialises!(crate::principal::Bearer) && !serialises!(crate::canonical::Canonical));
    assert!(!serialises!(crate::canonical::OwnCookie) && !serialises!(crate::config::Settings));
    assert!(!serialises!(Signer) && !serialises!(Pseudonyms) && !serialises!(Lens));
}
