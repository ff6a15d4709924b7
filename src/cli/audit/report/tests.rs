//! A report of a journal that the trail itself wrote, by policies that decided it.

use super::*;
use crate::{
    audit::{Audit, Event},
    canonical::{Judged, testing},
    config::{AuditSettings, Settings},
    principal::Principal,
    review::cast::Cast,
};
use std::{fs, time::Duration};

const CONFIG: &str = "public_url: https://portal.test
listen: 127.0.0.1:8443
trusted_proxies: [127.0.0.1]
providers:
  - { name: gitlab, kind: gitlab, issuer: https://gitlab.test, client_id: a, client_secret: { file: secret } }
routes:
  - { name: portal, host: portal.test, upstream: \"http://127.0.0.1:9\" }
  - { name: api, host: api.test, upstream: \"http://127.0.0.1:9\" }
policies: ./policies
";
const POLICIES: &str = r#"@id("readers") permit (principal is User in Group::"gitlab:acme", action in Action::"read", resource);
@id("writers") permit (principal is User in Group::"gitlab:acme", action, resource == Route::"api");
@id("idle") permit (principal is User in Group::"gitlab:nobody", action, resource == Route::"portal");
"#;
const PEOPLE: &str = "people:
  ada: { subject: \"1\", groups: [acme] }
  bob: { subject: \"2\", groups: [] }
  eve: { subject: \"3\", groups: [acme] }
  \"=cmd|x\": { subject: \"4\", groups: [] }
";
/// 2026-01-01.
const DAY: u64 = 1_767_225_600_000;

struct Place {
    directory: tempfile::TempDir,
    settings: Settings,
    cast: Cast,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        fs::create_dir(file("policies")).expect("made");
        for (name, text) in
            [("vestibule.yaml", CONFIG), ("policies/all.cedar", POLICIES), ("people.yaml", PEOPLE), ("secret", "s")]
        {
            fs::write(file(name), text).expect("written");
        }
        let settings = config::load_for_review(&file("vestibule.yaml")).unwrap_or_else(|errors| panic!("{errors}"));
        let cast = Cast::of_files(&[file("people.yaml")], &settings).unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { directory, settings, cast }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Records what the policies say of these requests: who, method, host, minutes after [`DAY`].
    async fn record(&self, requests: &[(&str, &str, &str, u64)]) {
        let settings = AuditSettings::for_test(4_000);
        let audit = Audit::open(&self.path("journal"), &self.path("keys"), &settings).expect("opened");
        let authorize = load(&self.settings).expect("good policies");
        for (who, method, host, minutes) in requests {
            let now = at(DAY) + Duration::from_secs(60 * minutes);
            let asked = testing::parse(testing::https(method, host, "/x"));
            let route = self.settings.routes.iter().find(|route| route.host.as_str() == *host).expect("a route");
            let principal = self.cast.get(who).expect("is in the cast");
            let crossing = audit.crossing([192, 0, 2, 1].into(), now);
            crossing.asked(&asked, None);
            crossing.route(route);
            crossing.principal(principal);
            let decision = authorize.decide(principal, &Judged::from(asked), route, now);
            let _ = audit.admit(decision, &crossing).await;
        }
        if let Some(Principal::User { person, .. }) = self.cast.get("ada") {
            let (person, session) = (person.clone(), "5e55".to_owned());
            let minute = |minutes: u64| at(DAY) + Duration::from_secs(60 * minutes);
            audit.record(
                Event::SignedIn { person: person.clone(), session: session.clone(), client: [192, 0, 2, 1].into() },
                minute(1),
            );
            audit.record(Event::SessionEnded { person: person.clone(), session, why: "revoked" }, minute(2));
            let [added, removed] = [["acme", "ops"], ["crew", "old"]].map(|groups| groups.map(str::to_owned).to_vec());
            audit
                .record(Event::GroupsChanged { person: person.clone(), added, removed, source: "userinfo" }, minute(4));
            let removed = (10..40).map(|number| format!("g{number}")).collect();
            audit.record(Event::GroupsChanged { person, added: Vec::new(), removed, source: "userinfo" }, minute(2));
            audit.record(Event::of_key(0, "keys.rotate", "ring".to_owned()), minute(3));
        }
        audit.close();
    }

    fn report(&self, words: &[&str]) -> (Result<bool, String>, String) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            arguments: ReportArgs,
        }
        let out = self.path("out");
        let line = ["report", "-o", out.to_str().expect("is text")].into_iter().chain(words.iter().copied());
        let arguments = <Line as clap::Parser>::try_parse_from(line).expect("good arguments").arguments;
        let (journal, key, config) = (self.path("journal"), self.path("keys/audit.pub"), self.path("vestibule.yaml"));
        let result = arguments.run(&journal, &key, &config, false);
        (result, fs::read_to_string(out).unwrap_or_default())
    }

    fn population(&self) -> String {
        self.path("people.yaml").display().to_string()
    }
}

const REQUESTS: [(&str, &str, &str, u64); 7] = [
    ("ada", "GET", "portal.test", 1),
    ("ada", "GET", "portal.test", 5),
    ("ada", "POST", "api.test", 6),
    ("ada", "POST", "portal.test", 7),
    ("bob", "GET", "api.test", 8),
    ("=cmd|x", "GET", "api.test", 9),
    ("anonymous", "GET", "portal.test", 10),
];

/// Everything that an auditor asks is in the text: counts, policies, sessions, acts, rights and policies that nobody used, and
/// that the trail holds.
#[tokio::test]
async fn a_report_says_who_used_what_and_what_nobody_used() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    let population = place.population();
    let words = ["--from", "2026-01-01", "--to", "2026-01-02", "--population", &population];
    let (result, text) = place.report(&words);
    assert_eq!(result, Ok(true));
    let words_of = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let has =
        |part: &str| assert!(text.lines().any(|line| words_of(line).starts_with(part)), "`{part}` is not in\n{text}");
    has("gitlab:1 ada user api 1 0 0 2026-01-01T00:06:00Z 2026-01-01T00:06:00Z -");
    has("gitlab:1 ada user portal 2 1 0 2026-01-01T00:01:00Z 2026-01-01T00:07:00Z not_permitted 1");
    has("gitlab:2 bob user api 0 1 0 2026-01-01T00:08:00Z");
    has("- anonymous anonymous portal 0 1 0 2026-01-01T00:10:00Z 2026-01-01T00:10:00Z no_session 1");
    has("readers 2 0 1 2026-01-01T00:01:00Z 2026-01-01T00:05:00Z portal");
    has("gitlab:1 ada 1 1 2026-01-01T00:01:00Z 2026-01-01T00:01:00Z revoked 1");
    has("2026-01-01T00:03:00Z uid 0 keys.rotate ring");
    has("gitlab:1 ada 2 32 2026-01-01T00:02:00Z 2026-01-01T00:04:00Z +ops, +acme, -old, -crew, -g39, -g38");
    let whole = place.report(&["--from", "2026-01-01", "--to", "2026-01-02", "--format", "csv"]).1;
    assert!(text.contains("-g25, -g2…") && whole.contains("-g25, -g24, and 14 before"), "{whole}");
    let unused = text.split("Rights not used since").nth(1).expect("a section");
    for expected in ["ada user api readers read", "ada user api writers read connect", "eve user portal readers read"] {
        let found = unused.lines().any(|line| words_of(line).contains(expected));
        assert!(found, "`{expected}` is not in{unused}");
    }
    assert!(!unused.contains("gitlab:2"), "has no rights: {unused}");
    let heading = unused.lines().next().expect("a heading");
    assert!(heading.contains(", when the journal begins (asked: since 2025-10-04T00:00:00Z)"), "{heading}");
    let policies = unused.split("Policies that decided nothing").nth(1).expect("a section");
    assert!(policies.contains("idle") && !policies.contains("readers"), "{policies}");
    assert!(text.contains("proved: ") && text.contains("no event is known to be lost"), "{text}");
    assert_eq!(place.report(&words).1, text, "the same each time");
}

/// Every form says the same, and none of them orders a spreadsheet, a renderer or a terminal about.
#[tokio::test]
async fn every_form_is_whole_and_harmless() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    let population = place.population();
    let of = |format: &str| {
        let words = ["--from", "2026-01-01", "--to", "2026-01-02", "--population", &population, "--format", format];
        let (result, text) = place.report(&words);
        assert_eq!(result, Ok(true), "{format}");
        text
    };
    let json: serde_json::Value = serde_json::from_str(&of("json")).expect("is JSON");
    assert_eq!((&json["verified"], json["sections"]["use"]["rows"].as_array().map(Vec::len)), (&true.into(), Some(5)));
    let text = of("csv");
    let rows: Vec<_> =
        csv::Reader::from_reader(text.as_bytes()).into_records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.iter().filter(|row| &row[0] == "use").count(), 5);
    assert!(rows.iter().any(|row| &row[3] == "'=cmd|x"), "{text}");
    let markdown = of("markdown");
    assert!(
        markdown.contains("| `gitlab:1` | `ada` | `user` | `api` | 1 | 0 |") && markdown.contains("`=cmd\\|x`"),
        "{markdown}"
    );
}

/// What a sink holds is held against the trail; in JSON all times are written alike, and the verdict is a word.
#[tokio::test]
async fn a_report_takes_the_heads_of_a_sink() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    let segment = fs::read_dir(place.path("journal")).expect("listed").flatten().map(|entry| entry.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).max().expect("a segment");
    fs::copy(&segment, place.path("heads")).expect("copied");
    let heads = place.path("heads").display().to_string();
    let words = ["--from", "2026-01-01", "--to", "2026-01-02", "--anchors", &heads, "--format", "json"];
    let (result, text) = place.report(&words);
    let report: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    assert_eq!((result, &report["proof"]["verdict"]), (Ok(true), &"proved".into()), "{text}");
    assert!(report["proof"]["anchors"].as_u64() > Some(0), "{text}");
    assert!(report["proof"]["last_head"]["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{text}");
    let whole = fs::read_to_string(&segment).expect("read");
    let lines: Vec<_> = whole.lines().collect();
    fs::write(&segment, lines[..lines.len() - 2].join("\n") + "\n").expect("cut");
    let (result, text) = place.report(&words);
    assert!(result == Ok(false) && text.contains("a sink holds a signed head"), "{text}");
}

/// Our own pages have no route, and neither has what cannot be read: an auditor sees which is which.
#[tokio::test]
async fn what_has_no_route_says_why() {
    let place = Place::new();
    let audit =
        Audit::open(&place.path("journal"), &place.path("keys"), &AuditSettings::for_test(4_000)).expect("opened");
    for path in ["/.vestibule/sign-in", "/nowhere"] {
        let crossing = audit.crossing([192, 0, 2, 1].into(), at(DAY));
        crossing.asked(&testing::parse(testing::https("GET", "portal.test", path)), None);
        crossing.status(http::StatusCode::OK);
        if path == "/nowhere" {
            crossing.refused(&crate::refusal::Refusal::new(crate::refusal::Reason::NotFound, "Nothing is served."));
        }
    }
    for refused in [true, false] {
        let crossing = audit.crossing([192, 0, 2, 1].into(), at(DAY));
        crossing.unread(crate::canonical::RequestId(7), [192, 0, 2, 1].into());
        if refused {
            crossing.refused(&crate::refusal::Refusal::new(crate::refusal::Reason::BadRequest, "It is no HTTP."));
        }
    }
    audit.close();
    let text = place.report(&["--from", "2026-01-01", "--to", "2026-01-02", "--no-verify"]).1;
    for row in ["(vestibule)  1        0", "(no route)   0        1", "(unread)     0        1"] {
        assert_eq!(text.matches(row).count(), 1, "{row}: {text}");
    }
}

/// The last use is that of the right which is told, and not of anything else on its route; who is in the trail alone is named.
#[tokio::test]
async fn the_last_use_of_a_right_is_of_that_right() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    fs::write(place.path("some.yaml"), "people: { ada: { subject: \"1\", groups: [acme] } }\n").expect("written");
    let population = place.path("some.yaml").display().to_string();
    let words = ["--from", "2026-01-01", "--to", "2026-01-02", "--unused-for", "23h53m", "--population", &population];
    let text = place.report(&words).1;
    let words_of = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let has = |part: &str| assert!(text.lines().any(|line| words_of(line) == part), "`{part}` is not in\n{text}");
    has("gitlab:1 ada user api readers read -");
    has("gitlab:1 ada user api writers read write connect 2026-01-01T00:06:00Z");
    has("gitlab:1 ada user portal readers read 2026-01-01T00:05:00Z");
    has("gitlab:2 bob user 2026-01-01T00:08:00Z");
}

/// Every form says since when the trail knows, where that is later than what was asked.
#[tokio::test]
async fn no_form_claims_more_than_the_trail_knows() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    let population = place.population();
    for format in ["text", "json", "csv", "markdown"] {
        let words = ["--from", "2026-01-01", "--to", "2026-01-02", "--population", &population, "--format", format];
        let text = place.report(&words).1;
        assert!(text.contains(", when the journal begins (asked: since 2025-10-04T00:00:00Z)"), "{format}: {text}");
    }
}

/// What cannot be known is said: a trail that was not verified or does not hold, a range before the journal, people without
/// policies.
#[tokio::test]
async fn a_report_says_what_it_does_not_know() {
    let place = Place::new();
    place.record(&REQUESTS).await;
    let (result, text) = place.report(&["--from", "2026-01-01", "--to", "2026-01-02", "--no-verify"]);
    assert!(
        result == Ok(true) && text.contains("NOT VERIFIED") && text.contains("name people with `--population FILE`"),
        "{text}"
    );
    let (result, text) = place.report(&["--from", "2026-01-01T00:06:30Z", "--to", "2026-01-02"]);
    assert_eq!(result, Ok(true));
    assert!(text.contains("the journal begins at") && !text.contains("  readers  2"), "{text}");
    fs::remove_file(place.path("vestibule.yaml")).expect("removed");
    let (result, text) = place.report(&["--from", "2026-01-01", "--to", "2026-01-02"]);
    assert!(result == Ok(true) && text.contains("Rights and policies that nobody used are not told"), "{text}");
    let population = place.population();
    assert!(place.report(&["--from", "2026-01-01", "--to", "2026-01-02", "--population", &population]).0.is_err());
    assert!(place.report(&["--from", "2026-01-02", "--to", "2026-01-01"]).0.is_err());
    let segment = fs::read_dir(place.path("journal")).expect("listed").flatten().map(|entry| entry.path());
    let segment = segment.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).min().expect("a segment");
    let edited = fs::read_to_string(&segment).expect("read").replacen("ada", "bda", 1);
    fs::write(&segment, edited).expect("written");
    let (result, text) = place.report(&["--from", "2026-01-01", "--to", "2026-01-02"]);
    assert!(result == Ok(false) && text.contains("BROKEN: record"), "{text}");
    assert!(
        text.starts_with("Access report, 2026-01-01T00:00:00Z to 2026-01-02T00:00:00Z: THE TRAIL IS BROKEN\n"),
        "{text}"
    );
    assert!(
        text.contains("rests on records that do not hold") && !text.contains("no event is known to be lost"),
        "{text}"
    );
}
