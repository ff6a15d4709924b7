//! What the trail costs to prove, to search and to report: a journal of many records, written by the proxy's own writer.
//!
//!     cargo bench --bench trail [-- RECORDS]
//!
//! People, routes, policies and paths are drawn as they come in practice: most requests are of few people, most are permitted. In
//! between are rare things to be found: one person's requests, one request, a policy that decides rarely, a path that few use, what was denied on one
//! day. Each search must find what was written, with indexes and line by line. Without an argument there are 200,000 records;
//! where `TESTS_FIGURES` names a file there are 10 million (about 17 GB, in `TESTS_CACHE` or the system's place for such
//! files), and each figure is added to it as a line of the table in README.md. Exit code 1 where something takes longer than it may.

#[path = "support/figures.rs"]
mod figures;

use figures::tell;
use http::HeaderMap;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};
use vestibule::{
    audit::{
        Audit, PublicKey, indexes,
        search::{Query, Verdict, search},
        tally::{Range, tally},
        verify::verify,
    },
    authorize::{Decision, Outcome},
    canonical::{Canonical, Class, OwnCookie, RequestId, Target},
    config::{self, AuditMode, AuditSettings, Retention, Settings},
    principal::{Groups, Membership, MembershipSource, Person, Principal, Strength, UserId, next_version},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FEW: u64 = 200_000;
const MANY: u64 = 10_000_000;
const PEOPLE: u64 = 2_000;
const ROUTES: u64 = 20;
const POLICIES: u64 = 50;
/// The records are of so many days.
const DAYS: u64 = 30;
/// 2026-01-01, in seconds since 1970.
const BEGIN: u64 = 1_767_225_600;
const SEGMENT: u64 = 64 << 20;
/// What a search by index may take with 10 million records, and in any case.
const MUST_SEARCH: Duration = Duration::from_secs(3);
/// Records that are proved in a second, at least.
const MUST_VERIFY: f64 = 200_000.0;
/// What a report may take with 10 million records.
const MUST_REPORT: Duration = Duration::from_secs(120);

/// The rare things, by the number of the record.
fn is_rare_person(number: u64) -> bool {
    number % 50_021 == 7
}
fn is_rare_policy(number: u64) -> bool {
    number % 60_013 == 11
}
fn is_rare_path(number: u64) -> bool {
    number % 20_011 == 13
}
fn is_denied(number: u64) -> bool {
    number % 97 == 3
}

/// Numbers that look drawn, the same in each run.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn id(number: u64) -> u128 {
    u128::from(mixed(number)) << 64 | u128::from(mixed(!number))
}

/// When record `number` of `count` was, in milliseconds since 1970.
fn moment(number: u64, count: u64) -> u64 {
    BEGIN * 1000 + number * (DAYS * 86_400_000) / count
}

struct Cast {
    people: Vec<Principal>,
    sessions: Vec<String>,
    decisions: Vec<[Decision; 2]>,
    settings: Settings,
    _directory: tempfile::TempDir,
}

impl Cast {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let route = |number: u64| {
            format!("  - {{ name: service-{number}, host: s{number}.example.com, upstream: \"http://127.0.0.1:9\" }}\n")
        };
        let head = "public_url: https://portal.example.com\nlisten: 127.0.0.1:8443\ntrusted_proxies: [127.0.0.1]\nproviders:\n  - { name: gitlab, kind: gitlab, issuer: \
                    https://gitlab.example.com, client_id: a, client_secret: { file: secret } }\nroutes:\n";
        let routes: String = (0..ROUTES).map(route).collect();
        fs::create_dir(directory.path().join("policies")).expect("made");
        let file = directory.path().join("vestibule.yaml");
        fs::write(&file, format!("{head}{routes}policies: ./policies\n")).expect("written");
        let settings = config::load_for_review(&file).unwrap_or_else(|errors| panic!("{errors}"));
        let decision = |outcome, policy: String| Decision {
            outcome,
            policies: Arc::new([policy.into()]),
            notes: Arc::new([]),
            digest: format!("{:016x}", mixed(1)).into(),
            hinges_on_groups: false,
            faults: Arc::default(),
        };
        let decisions = |number: u64| {
            [
                decision(Outcome::Permitted, format!("team-{number}-may-use-it")),
                decision(Outcome::Forbidden, format!("never-{number}")),
            ]
        };
        Self {
            people: (0..=PEOPLE).map(person).collect(),
            sessions: (0..=PEOPLE).map(|number| format!("{:016x}", mixed(number))).collect(),
            decisions: (0..=POLICIES).map(decisions).collect(),
            settings,
            _directory: directory,
        }
    }
}

fn person(number: u64) -> Principal {
    let groups = Groups {
        paths: [].into(),
        roles: Arc::default(),
        unread: Arc::default(),
        source: MembershipSource::Api,
        read: UNIX_EPOCH + Duration::from_secs(BEGIN),
        version: next_version(),
        stale: false,
        aside: None,
    };
    let person = Person {
        id: UserId { provider: "gitlab".parse().expect("a name"), subject: (1000 + number).to_string().into() },
        issuer: "https://gitlab.example.com".into(),
        login: format!("person.{number}").into(),
        email: None,
        name: None,
    };
    Principal::User {
        person: Arc::new(person),
        membership: Membership::Known(groups),
        strength: Arc::new(Strength::default()),
    }
}

/// Writes the journal, as the proxy does: whole crossings, by its own writer.
fn write(directory: &Path, cast: &Cast, count: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let settings = AuditSettings {
        mode: AuditMode::BestEffort,
        segment: SEGMENT,
        retention: Retention::default(),
        pseudonyms: Default::default(),
    };
    let audit = Audit::open(&directory.join("journal"), &directory.join("keys"), &settings).expect("opened");
    runtime.block_on(async {
        for number in 0..count {
            crossing(&audit, cast, number, count).await;
            while number.is_multiple_of(1_024) && number > audit.written() + 30_000 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    while audit.written() < count {
        std::thread::sleep(Duration::from_millis(1));
    }
    audit.close();
    assert_eq!(audit.lost(), 0, "no record may be lost");
}

async fn crossing(audit: &Audit, cast: &Cast, number: u64, count: u64) {
    let drawn = mixed(number);
    // Half of all requests are of one person in ten.
    let who = if is_rare_person(number) {
        PEOPLE
    } else if drawn.is_multiple_of(2) {
        drawn / 2 % (PEOPLE / 10)
    } else {
        drawn / 2 % PEOPLE
    };
    let policy = if is_rare_policy(number) { POLICIES } else { drawn / 3 % POLICIES };
    let route = &cast.settings.routes[(drawn / 5 % ROUTES) as usize];
    let path = if is_rare_path(number) {
        format!("/payroll/{}/slips", drawn % 100)
    } else {
        format!("/api/v4/projects/{}/issues/{}", drawn % 3_000, drawn / 7 % 400)
    };
    let start = UNIX_EPOCH + Duration::from_millis(moment(number, count));
    let crossing = audit.crossing([192, 0, 2, 1].into(), start);
    crossing.asked(&asked(&path, id(number), drawn), None);
    crossing.route(route);
    crossing.principal(&cast.people[who as usize]);
    crossing.session(&cast.sessions[who as usize]);
    let decision = cast.decisions[policy as usize][usize::from(is_denied(number))].clone();
    if audit.admit(decision, &crossing).await.is_ok() {
        crossing.status(http::StatusCode::OK);
        crossing.sent(drawn % 60_000);
    } else {
        crossing.status(http::StatusCode::FORBIDDEN);
    }
}

fn asked(path: &str, id: u128, drawn: u64) -> Canonical {
    let host = format!("s{}.example.com", drawn / 5 % ROUTES);
    Canonical {
        id: RequestId(id),
        traceparent: format!("00-{id:032x}-{:016x}-01", drawn | 1),
        method: if drawn.is_multiple_of(5) { http::Method::POST } else { http::Method::GET },
        host: host.parse().expect("a host"),
        authority: host.as_str().into(),
        target: Target::parse(path).expect("a target"),
        class: Class::Fetch,
        client: [10, 0, (drawn >> 8) as u8, drawn as u8].into(),
        https: true,
        certificate: None,
        headers: HeaderMap::new(),
        session: OwnCookie::Absent,
        binding: OwnCookie::Absent,
        websocket: false,
    }
}

fn in_words(count: u64) -> String {
    match count {
        MANY => "10 million".to_owned(),
        count => count.to_string(),
    }
}

/// Where the journal goes: with room for it.
fn place() -> PathBuf {
    let place = env::var_os("TESTS_CACHE").map_or_else(env::temp_dir, PathBuf::from);
    fs::create_dir_all(&place).expect("made");
    place
}

fn room(place: &Path) -> u64 {
    let about = rustix::fs::statvfs(place).expect("a file system");
    about.f_bavail * about.f_frsize
}

/// A search: what it is for, the query, and how many records match.
fn searches(count: u64) -> Vec<(&'static str, Query, u64)> {
    let matching = |is: fn(u64) -> bool| (0..count).filter(|number| is(*number)).count() as u64;
    let day = (DAYS / 2 * 86_400_000 + BEGIN * 1000, (DAYS / 2 + 1) * 86_400_000 + BEGIN * 1000);
    let on_day = |number: &u64| (day.0..day.1).contains(&moment(*number, count));
    let denied = (0..count).filter(|number| is_denied(*number) && on_day(number)).count() as u64;
    let some = count / 2 + 1;
    vec![
        (
            "requests of one person",
            Query { user: Some(format!("person.{PEOPLE}")), ..Query::default() },
            matching(is_rare_person),
        ),
        ("one request by its id", Query { request: Some(format!("{:032x}", id(some))), ..Query::default() }, 1),
        (
            "a policy that decided rarely",
            Query { policy: Some(format!("team-{POLICIES}-may-use-it")), ..Query::default() },
            (0..count).filter(|number| is_rare_policy(*number) && !is_denied(*number)).count() as u64,
        ),
        ("a path that few use", Query { path: Some("/payroll/".into()), ..Query::default() }, matching(is_rare_path)),
        (
            "denied on one day",
            Query { verdict: Some(Verdict::Denied), since: Some(day.0), until: Some(day.1), ..Query::default() },
            denied,
        ),
        ("the last 20 of a route", Query { route: Some("service-3".into()), limit: Some(20), ..Query::default() }, 20),
    ]
}

struct Bench {
    journal: PathBuf,
    count: u64,
    held: bool,
}

impl Bench {
    fn timed<T>(&mut self, act: impl FnOnce(&Path) -> T) -> (T, Duration) {
        let start = Instant::now();
        let result = act(&self.journal);
        (result, start.elapsed())
    }

    fn search(&mut self, what: &str, query: &Query, expected: u64, must: Option<Duration>) {
        let (found, time) = self.timed(|journal| search(journal, query, true, &mut std::io::sink()).expect("searched"));
        assert_eq!((found.records, found.unread), (expected, 0), "{what}");
        self.held &= must.is_none_or(|must| time <= must);
        let must = must.map_or_else(String::new, |must| format!("≤ {} s", must.as_secs()));
        let figure = format!("audit search, {what}, of {}", in_words(self.count));
        tell(&figure, &format!("{:.2} s, {} found", time.as_secs_f64(), found.records), &must);
    }

    fn verify(&mut self, keys: &Path, bytes: u64) {
        let key = PublicKey::read(&keys.join("audit.pub")).expect("a key");
        let (report, time) = self.timed(|journal| verify(journal, &key).expect("read"));
        assert!(report.holds(), "{}", report.text());
        let rate = report.records as f64 / time.as_secs_f64();
        self.held &= rate >= MUST_VERIFY;
        let value = format!(
            "{rate:.0} records/s, {:.0} MB/s, {:.1} s",
            bytes as f64 / time.as_secs_f64() / 1e6,
            time.as_secs_f64()
        );
        tell(
            &format!("audit verify of {} records", in_words(self.count)),
            &value,
            &format!("≥ {MUST_VERIFY:.0} records/s"),
        );
    }

    fn report(&mut self) {
        let range = Range { from: BEGIN * 1000, to: (BEGIN + DAYS * 86_400) * 1000, used_since: BEGIN * 1000 };
        let (tally, time) = self.timed(|journal| tally(journal, range).expect("read"));
        let requests: u64 = tally.uses.values().map(|used| used.allowed.count + used.refused.count).sum();
        assert_eq!(requests, self.count);
        self.held &= time <= MUST_REPORT;
        let value =
            format!("{:.1} s, {} people and routes, {} MiB at most", time.as_secs_f64(), tally.uses.len(), peak());
        tell(
            &format!("audit report of {} records", in_words(self.count)),
            &value,
            &format!("≤ {} s", MUST_REPORT.as_secs()),
        );
    }
}

/// The most memory that this process had, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() / 1024
}

/// The files of the journal with this ending, and their bytes.
fn files(journal: &Path, ending: &str) -> (u64, u64) {
    let entries = fs::read_dir(journal)
        .expect("listed")
        .flatten()
        .filter(|it| it.path().extension().is_some_and(|it| it == ending));
    entries.fold((0, 0), |(count, bytes), entry| (count + 1, bytes + entry.metadata().map_or(0, |it| it.len())))
}

fn main() -> ExitCode {
    let usual = if env::var_os("TESTS_FIGURES").is_some() { MANY } else { FEW };
    let count = env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(usual);
    let place = place();
    assert!(
        room(&place) > count * 1_800,
        "`{}` has no room for {count} records of 1.7 KB and their indexes",
        place.display()
    );
    let directory = tempfile::tempdir_in(place).expect("a directory");
    let cast = Cast::new();
    let start = Instant::now();
    write(directory.path(), &cast, count);
    let mut bench = Bench { journal: directory.path().join("journal"), count, held: true };
    let (segments, bytes) = files(&bench.journal, "jsonl");
    println!(
        "{} records in {segments} segments, {:.1} GB, written in {:.0} s",
        in_words(count),
        bytes as f64 / 1e9,
        start.elapsed().as_secs_f64()
    );
    bench.verify(&directory.path().join("keys"), bytes);
    for entry in fs::read_dir(&bench.journal).expect("listed").flatten() {
        if entry.path().extension().is_some_and(|it| it == "idx") {
            fs::remove_file(entry.path()).expect("removed"); // the proxy made it while the journal was written
        }
    }
    let (made, time) = bench.timed(|journal| indexes::make(journal).expect("made"));
    assert_eq!((made.made, made.missing.len()), (segments - 1, 0));
    let (_, size) = files(&bench.journal, "idx");
    let value =
        format!("{:.1} s, {:.1} % of the journal's size", time.as_secs_f64(), size as f64 / bytes as f64 * 100.0);
    tell(&format!("audit index of {} records", in_words(count)), &value, "");
    for (what, query, expected) in searches(count) {
        bench.search(what, &query, expected, Some(MUST_SEARCH));
    }
    let (what, query, expected) = searches(count).swap_remove(0);
    bench.search(&format!("{what}, line by line"), &Query { no_index: true, ..query }, expected, None);
    bench.report();
    // Built without optimisation it is a test of what is found, not of how fast.
    if bench.held || cfg!(debug_assertions) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
