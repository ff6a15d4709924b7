//! The trail as a whole: what is recorded, what a failing disk does, and that no tampering goes unseen.

mod every;

use super::{
    crossing::{Asked, Standing, Who},
    journal::Fault,
    record::{Kind, Line, hash},
    search::{Query, Verdict, search, tail},
    segment::Segment,
    verify::{Report, verify},
    *,
};
use crate::{
    canonical::{Class, RequestId},
    principal::{MembershipSource, UserId},
    refusal::table::{self, TABLE},
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf, time::Instant};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

fn client() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// A directory with a journal and keys in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn journal(&self) -> PathBuf {
        self.0.path().join("journal")
    }

    fn keys(&self) -> PathBuf {
        self.0.path().join("keys")
    }

    fn open(&self, mode: AuditMode) -> Audit {
        self.open_with(mode, 1 << 26)
    }

    fn open_with(&self, mode: AuditMode, segment: u64) -> Audit {
        let settings = AuditSettings { mode, ..AuditSettings::for_test(segment) };
        Audit::open(&self.journal(), &self.keys(), &settings).expect("opened")
    }

    /// Opens with a disk that can be made to fail.
    fn faulty(&self, mode: AuditMode) -> (Audit, Fault) {
        let journal = self.raw(1 << 26);
        let fault = journal.fault.clone();
        (Audit::start(journal, mode, Retention::default(), Lens::default()).expect("started"), fault)
    }

    fn raw(&self, limit: u64) -> Journal {
        let signer = Signer::open(&self.keys()).expect("a key");
        Journal::open(&self.journal(), signer, limit, SystemTime::now()).expect("opened")
    }

    fn verify(&self) -> Report {
        let key = PublicKey::read(&self.keys().join("audit.pub")).expect("a key");
        verify(&self.journal(), &key).expect("read")
    }

    fn segments(&self) -> Vec<PathBuf> {
        Segment::list(&self.journal()).expect("listed").into_iter().map(|segment| segment.path).collect()
    }

    fn records(&self, kind: &str) -> Vec<Value> {
        let text: String = self.segments().iter().map(|path| fs::read_to_string(path).expect("is text")).collect();
        let records = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
        records.filter(|record| record["kind"] == kind).map(|mut record| record[kind].take()).collect()
    }

    fn search(&self, query: &Query) -> Vec<String> {
        let mut out = Vec::new();
        search(&self.journal(), query, false, &mut out).expect("searched");
        String::from_utf8(out).expect("is text").lines().map(str::to_owned).collect()
    }
}

fn person(login: &str) -> Arc<Person> {
    Arc::new(Person {
        id: UserId { provider: "gitlab".parse().expect("a name"), subject: "907".into() },
        issuer: "https://gitlab.test".into(),
        login: login.into(),
        email: Some("ada@example.com".into()),
        name: Some("Ada".into()),
    })
}

fn decision(outcome: Outcome, policies: &[&str]) -> Decision {
    Decision {
        outcome,
        policies: policies.iter().map(|id| Arc::from(*id)).collect(),
        notes: Arc::new([]),
        digest: "d1".into(),
        hinges_on_groups: false,
        faults: Arc::default(),
    }
}

fn ask(crossing: &Crossing, path: &str, login: Option<&str>) {
    let asked = Asked {
        id: RequestId(7),
        trace: Some(9),
        method: http::Method::GET,
        authority: "portal.test:8443".into(),
        path: path.into(),
        class: Class::Navigation,
        client: [192, 0, 2, 1].into(),
        https: true,
        certificate: None,
        tossed: false,
    };
    let standing = Standing::Known { source: MembershipSource::Userinfo, read: NOW, stale: false };
    crossing.set(|draft| {
        draft.asked = Some(asked);
        draft.route = Some("backstage".parse().expect("a name"));
        draft.who = Some(login.map_or(Who::Anonymous, |login| Who::Person(person(login), standing)));
    });
}

/// Waits for something that the writer does.
fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_permitted_request_leaves_one_record_that_says_who_what_and_why() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    let crossing = audit.crossing(client(), NOW + Duration::from_secs(60));
    ask(&crossing, "/api/x", Some("ada"));
    crossing.session("5e55");
    let permit = audit.admit(decision(Outcome::Permitted, &["everyone"]), &crossing).await.expect("is permitted");
    assert!(permit.decision().permits());
    crossing.status(http::StatusCode::OK);
    crossing.sent(20);
    crossing.clone().sent(3);
    crossing.received(4);
    drop(crossing);
    audit.close();
    let events = place.records("event");
    let [event] = &events[..] else { panic!("one event, not {events:?}") };
    let expected = json!({
        "metadata": { "version": "1.6.0", "profiles": ["security_control"], "correlation_uid": format!("{:032x}", 7),
            "product": { "name": "Vestibule", "vendor_name": "Vestibule", "version": env!("CARGO_PKG_VERSION") } },
        "category_uid": 4, "category_name": "Network Activity", "class_uid": 4002, "class_name": "HTTP Activity",
        "activity_id": 3, "activity_name": "Get", "type_uid": 400_203,
        "time": event["time"], "start_time": 60_000, "end_time": event["time"], "duration": event["duration"],
        "severity_id": 1, "severity": "Informational", "status_id": 1, "status": "Success",
        "action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed",
        "authorizations": [{ "decision": "Allowed", "policy": { "uid": "everyone" } }],
        "actor": {
            "user": { "uid": "907", "uid_alt": "gitlab:907", "name": "ada", "type": "User", "type_id": 1 },
            "idp": { "name": "gitlab", "uid": "https://gitlab.test" },
            "session": { "uid": "5e55", "issuer": "https://gitlab.test" } },
        "src_endpoint": { "ip": "192.0.2.1" }, "dst_endpoint": { "hostname": "portal.test" },
        "http_request": { "uid": format!("{:032x}", 7), "http_method": "GET", "length": 4,
            "url": { "scheme": "https", "hostname": "portal.test", "port": 8443, "path": "/api/x" } },
        "http_response": { "code": 200, "length": 23 },
        "unmapped": { "phase": "request", "route": "backstage", "class": "navigation", "trace_id": format!("{:032x}", 9),
            "principal": "user", "outcome": "permitted", "policy_digest": "d1",
            "membership": { "source": "userinfo", "age_seconds": 60, "stale": false } },
    });
    assert_eq!(*event, expected);
    assert!(place.verify().holds());
}

#[tokio::test]
async fn a_decision_that_is_no_permit_becomes_its_refusal() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    let cases = [
        (Outcome::Forbidden, Some("ada"), Reason::NotPermitted, "Blocked"),
        (Outcome::NotPermitted, Some("ada"), Reason::NotPermitted, "Blocked"),
        (Outcome::NotPermitted, None, Reason::NoSession, "Unauthorized"),
        (Outcome::Forbidden, None, Reason::NoSession, "Unauthorized"),
        (Outcome::MembershipUnknown, Some("ada"), Reason::MembershipUnknown, "Blocked"),
        (Outcome::Failed, Some("ada"), Reason::PolicyError, "Error"),
    ];
    for (outcome, login, reason, _) in cases {
        let crossing = audit.crossing(client(), NOW);
        ask(&crossing, "/", login);
        let refusal = audit.admit(decision(outcome, &[]), &crossing).await.map(drop).expect_err("is refused");
        assert_eq!(refusal.reason, reason);
    }
    audit.close();
    for (event, (.., reason, disposition)) in place.records("event").iter().zip(cases) {
        assert_eq!((&event["disposition"], &event["status_code"]), (&json!(disposition), &json!(reason.code())));
        assert_eq!((&event["action"], &event["status_id"]), (&json!("Denied"), &json!(2)));
    }
}

/// P57: the event of a refusal has the code and the disposition of its reason's row.
#[test]
fn p57_every_refusal_is_recorded_as_the_table_says() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    for row in &TABLE {
        audit.crossing(client(), NOW).refused(&Refusal::new(row.reason, "x"));
    }
    audit.close();
    let events = place.records("event");
    assert_eq!(events.len(), TABLE.len());
    for (event, row) in events.iter().zip(&TABLE) {
        let disposition = match row.kind {
            table::Kind::Blocked => "Blocked",
            table::Kind::Unauthorized => "Unauthorized",
            table::Kind::Rejected => "Rejected",
            table::Kind::Error => "Error",
        };
        assert_eq!((&event["status_code"], &event["disposition"]), (&json!(row.code), &json!(disposition)));
    }
}

#[test]
fn a_request_that_was_never_parsed_leaves_a_record() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    audit.crossing(client(), NOW).refused(&Refusal::new(Reason::BadRequest, "two lengths"));
    audit.close();
    let events = place.records("event");
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0]["disposition"], &events[0]["activity_id"]), (&json!("Rejected"), &json!(0)));
    assert_eq!(events[0]["src_endpoint"]["ip"], "192.0.2.1");
}

/// A client that leaves before anybody looked at its request was neither let in nor kept out.
#[test]
fn a_request_that_ended_before_it_was_looked_at_has_an_address_and_no_decision() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    drop(audit.crossing(client(), NOW));
    audit.close();
    let event = &place.records("event")[0];
    assert_eq!((&event["action"], &event["disposition"]), (&json!("Unknown"), &json!("Unknown")));
    let (number, named) = (&event["http_request"]["uid"], &event["metadata"]["correlation_uid"]);
    assert!(number.as_str().is_some_and(|number| number.len() == 32) && number == named, "{event}");
    assert_eq!(event["src_endpoint"]["ip"], "192.0.2.1");
}

#[test]
fn a_stream_leaves_a_record_at_its_opening_and_one_at_its_end() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    let crossing = audit.crossing(client(), NOW);
    ask(&crossing, "/ws", Some("ada"));
    crossing.status(http::StatusCode::SWITCHING_PROTOCOLS);
    crossing.stream_opened();
    crossing.sent(10);
    crossing.cut(Reason::NotPermitted);
    drop(crossing);
    audit.close();
    let events = place.records("event");
    let phases: Vec<_> = events.iter().map(|event| event["unmapped"]["phase"].as_str().expect("a phase")).collect();
    assert_eq!(phases, ["stream_opened", "stream_ended"]);
    assert_eq!(events[1]["disposition"], "Access Revoked");
    assert_eq!(
        (&events[1]["unmapped"]["cut"], &events[1]["http_response"]["length"]),
        (&json!("not_permitted"), &json!(10))
    );
}

/// When `admit` returns in `required` mode, the decision is on disk; the completion refers to it.
#[tokio::test]
async fn required_records_the_decision_before_it_returns() {
    let place = Place::new();
    let audit = place.open(AuditMode::Required);
    for outcome in [Outcome::Permitted, Outcome::Forbidden] {
        let crossing = audit.crossing(client(), NOW);
        ask(&crossing, "/", Some("ada"));
        let before = place.records("event").len();
        let _ = audit.admit(decision(outcome, &["p"]), &crossing).await;
        assert_eq!(place.records("event")[before]["unmapped"]["phase"], "decision");
        drop(crossing);
        wait("the completion is written", || place.records("event").len() == before + 2);
    }
    audit.close();
    let events = place.records("event");
    assert_eq!(
        (&events[1]["unmapped"]["phase"], &events[1]["unmapped"]["decision_seq"]),
        (&json!("completion"), &json!(3))
    );
    assert_eq!((&events[0]["action"], &events[2]["action"]), (&json!("Allowed"), &json!("Denied")));
    assert!(place.verify().holds());
}

/// S-82: a full disk refuses in `required` mode, at once and not by hanging, and what happened meanwhile is recorded later.
#[tokio::test]
async fn required_refuses_while_the_disk_is_full() {
    let place = Place::new();
    let (audit, full) = place.faulty(AuditMode::Required);
    full.set(Fault::WRITE);
    for _ in 0..3 {
        let crossing = audit.crossing(client(), NOW);
        ask(&crossing, "/", Some("ada"));
        let begun = Instant::now();
        let refusal =
            audit.admit(decision(Outcome::Permitted, &["p"]), &crossing).await.map(drop).expect_err("is refused");
        assert_eq!(refusal.reason, Reason::AuditUnavailable);
        assert!(begun.elapsed() < Duration::from_secs(6));
    }
    assert!(!audit.healthy());
    audit.record(Event::SessionEnded { person: person("ada"), session: "5e55".into(), why: "signed_out" }, NOW);
    full.set(Fault::NONE);
    wait("the journal recovers", || audit.healthy());
    let crossing = audit.crossing(client(), NOW);
    assert!(audit.admit(decision(Outcome::Permitted, &["p"]), &crossing).await.is_ok());
    drop(crossing);
    audit.close();
    let events = place.records("event");
    let refused = events.iter().filter(|event| event["status_code"] == "audit_unavailable").count();
    let ended = events.iter().filter(|event| event["activity_name"] == "Logoff").count();
    assert_eq!((refused, ended, audit.lost()), (3, 1, 0));
    assert!(place.verify().holds(), "{:?}", place.verify());
}

/// What does not fit while the disk is full is counted, and the count stands in the journal.
#[test]
fn best_effort_loses_nothing_silently() {
    const ALL: u64 = 120_000;
    let place = Place::new();
    let (audit, full) = place.faulty(AuditMode::BestEffort);
    full.set(Fault::WRITE);
    for _ in 0..ALL {
        audit.crossing(client(), NOW);
    }
    assert!(audit.lost() > 0);
    full.set(Fault::NONE);
    wait("the journal recovers", || audit.written() + audit.lost() == ALL);
    audit.close();
    let gaps: u64 = place.records("gap").iter().map(|gap| gap["count"].as_u64().expect("a count")).sum();
    assert_eq!(gaps, audit.lost());
    assert_eq!(place.records("event").len() as u64 + gaps, ALL);
    assert_eq!(audit.written() + gaps, ALL);
    assert!(place.verify().holds(), "{:?}", place.verify());
}

/// After a failed sync nobody knows what is on disk: everything since the last good one is written again, once.
#[test]
fn a_failed_sync_neither_loses_nor_doubles_records() {
    let place = Place::new();
    let mut journal = place.raw(1 << 20);
    let disk = journal.fault.clone();
    for (number, fault) in [Fault::SYNC, Fault::WRITE, Fault::SYNC, Fault::SYNC].into_iter().enumerate() {
        journal.push(Kind::Event, &json!(number));
        journal.flush().expect("written");
        disk.set(fault);
        journal.push(Kind::Event, &json!("more"));
        assert!(journal.sync().is_err());
        disk.set(Fault::NONE);
    }
    journal.head(NOW);
    journal.sync().expect("written");
    assert_eq!(
        place.records("event"),
        [json!(0), json!("more"), json!(1), json!("more"), json!(2), json!("more"), json!(3), json!("more")]
    );
    assert!(place.verify().holds());
}

#[test]
fn every_crossing_of_four_threads_has_exactly_one_record() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10_000 {
                    ask(&audit.crossing(client(), NOW), "/", Some("ada"));
                }
            });
        }
    });
    wait("all are written", || audit.written() == 40_000);
    audit.close();
    assert_eq!((place.records("event").len(), audit.written(), audit.lost()), (40_000, 40_000, 0));
    assert!(place.verify().holds());
}

#[test]
fn opening_again_continues_the_chain() {
    let place = Place::new();
    for _ in 0..3 {
        let audit = place.open(AuditMode::BestEffort);
        audit.record(Event::Started { digest: "d".into() }, NOW);
        assert!(
            Audit::open(&place.journal(), &place.keys(), &AuditSettings::for_test(1))
                .map(drop)
                .is_err_and(|e| e.contains("in use"))
        );
        audit.record(Event::Stopped, NOW);
        audit.close();
    }
    let report = place.verify();
    assert!(report.holds() && report.unsigned == 0, "{report:?}");
    assert_eq!((place.segments().len(), place.records("event").len()), (1, 6));
}

/// S-100: whatever a client or provider sends, a record is one line of printable ASCII that means the same text.
#[test]
fn hostile_texts_stay_in_their_record() {
    let hostile = "/\r\n{\"seq\":1}\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{2029}\u{0}\"\\";
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    ask(&audit.crossing(client(), NOW), hostile, Some(hostile));
    let detail = hostile.to_owned();
    let client = [192, 0, 2, 1].into();
    audit.record(Event::SignInFailed { provider: detail.clone(), reason: Reason::SignInRefused, detail, client }, NOW);
    audit.close();
    let bytes = fs::read(&place.segments()[0]).expect("read");
    assert!(bytes.iter().all(|byte| *byte == b'\n' || (0x20..0x7F).contains(byte)));
    let events = place.records("event");
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["http_request"]["url"]["path"], hostile);
    assert_eq!(events[0]["actor"]["user"]["name"], hostile);
    let shown = place.search(&Query { path: Some(hostile.to_owned()), ..Query::default() });
    assert_eq!(shown.len(), 1);
    assert!(
        !shown[0]
            .chars()
            .any(|letter| letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'))
    );
}

#[test]
fn a_torn_last_record_is_cut_off_and_that_is_recorded() {
    for (tear, bytes) in [("{\"seq\":3,\"pr", 12), ("{\"seq\":3,\"pr\n", 13), ("\0\0\0\0", 4)] {
        let place = Place::new();
        place.open(AuditMode::BestEffort).close();
        let segment = &place.segments()[0];
        let whole = fs::read_to_string(segment).expect("read");
        fs::write(segment, whole + tear).expect("written");
        place.open(AuditMode::BestEffort).close();
        let report = place.verify();
        assert!(report.holds() && report.unsigned == 0, "{report:?}");
        assert_eq!(place.records("recovery")[0]["bytes"], bytes);
    }
}

/// A crash between making a segment and writing its first line.
#[test]
fn a_segment_without_a_whole_line_is_dropped() {
    for tear in ["", "{\"seq\""] {
        let place = Place::new();
        place.open(AuditMode::BestEffort).close();
        fs::write(Segment::new(&place.journal(), 1, 5).path, tear).expect("written");
        place.open(AuditMode::BestEffort).close();
        assert!(place.verify().holds());
        assert_eq!((place.segments().len(), place.records("recovery").len()), (1, usize::from(!tear.is_empty())));
    }
}

/// A process that ends without closing the journal may have lost what it had not written: the next one says so, once.
#[test]
fn a_journal_that_nobody_closed_says_so() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    drop(audit.crossing(client(), NOW));
    audit.close();
    place.open(AuditMode::BestEffort).close();
    assert!(place.records("recovery").is_empty(), "it was closed");
    let mut journal = place.raw(1 << 26);
    journal.push(Kind::Event, &json!({}));
    journal.head(NOW);
    journal.sync().expect("written");
    drop(journal);
    for _ in 0..2 {
        place.open(AuditMode::BestEffort).close();
    }
    let told = place.records("recovery");
    assert!(told.len() == 1 && told[0]["unclosed"] == true && told[0]["bytes"] == 0, "{told:?}");
    let report = place.verify();
    assert!(report.holds() && report.text().contains("nobody had closed it"), "{}", report.text());
}

/// What is lost when the journal is closed on a full disk is missed by the next process.
#[test]
fn what_is_lost_at_the_end_leaves_a_trace() {
    let place = Place::new();
    let (audit, full) = place.faulty(AuditMode::BestEffort);
    wait("it is open", || audit.healthy());
    full.set(Fault::WRITE);
    (0..5).for_each(|_| drop(audit.crossing(client(), NOW)));
    audit.close();
    wait("it is closed", || !audit.healthy());
    assert!(audit.lost() >= 5);
    place.open(AuditMode::BestEffort).close();
    assert!(place.records("recovery").iter().any(|it| it["unclosed"] == true), "{:?}", place.records("recovery"));
}

#[test]
fn other_damage_begins_a_new_epoch_and_is_named() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    (0..5).for_each(|_| drop(audit.crossing(client(), NOW)));
    audit.close();
    let segment = &place.segments()[0];
    let mut lines: Vec<_> = fs::read_to_string(segment).expect("read").lines().map(str::to_owned).collect();
    lines.remove(4);
    fs::write(segment, lines.join("\n") + "\n").expect("written");
    let audit = place.open(AuditMode::BestEffort);
    drop(audit.crossing(client(), NOW));
    audit.close();
    assert_eq!(place.segments().len(), 2);
    assert!(place.records("recovery")[0]["damage"].is_string());
    let bad = place.verify().first_bad.expect("is found");
    assert_eq!((bad.epoch, bad.seq), (1, 5));
}

#[test]
fn another_key_proves_nothing() {
    let (place, other) = (Place::new(), Place::new());
    place.open(AuditMode::BestEffort).close();
    other.open(AuditMode::BestEffort).close();
    fs::copy(other.keys().join("audit.pub"), place.keys().join("audit.pub")).expect("copied");
    assert!(place.verify().first_bad.expect("is found").what.contains("signed with key"));
}

/// A journal of several segments with heads in between, as lines of (file, bytes).
fn sample(place: &Place) -> Vec<(PathBuf, Vec<u8>)> {
    let mut journal = place.raw(6_000);
    for number in 0..60 {
        journal.push(Kind::Event, &json!({ "number": number, "text": "x".repeat(number * 7 % 90) }));
        if number % 7 == 6 {
            journal.head(NOW);
        }
        journal.sync().expect("written");
        journal.rotate(NOW).expect("rotated");
    }
    journal.head(NOW);
    journal.sync().expect("written");
    drop(journal);
    let mut lines = Vec::new();
    for path in place.segments() {
        let bytes = fs::read(&path).expect("read");
        lines.extend(bytes.split_inclusive(|byte| *byte == b'\n').map(|line| (path.clone(), line.to_vec())));
    }
    lines
}

fn write_lines(lines: &[(PathBuf, Vec<u8>)], paths: &[PathBuf]) {
    for path in paths {
        let bytes: Vec<u8> = lines.iter().filter(|(of, _)| of == path).flat_map(|(_, line)| line.clone()).collect();
        if bytes.is_empty() { drop(fs::remove_file(path)) } else { fs::write(path, bytes).expect("written") }
    }
}

/// A small generator, so that a failing trial can be run again by its number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// Does one thing to the lines; returns what it was and which record must be named (or which of two).
fn tamper(lines: &mut Vec<(PathBuf, Vec<u8>)>, dice: &mut Dice) -> (String, [u64; 2]) {
    let last = lines.len() - 1;
    let seq = |index: usize| index as u64 + 1;
    match dice.below(6) {
        0 => {
            let at = dice.below(last + 1);
            let line = &mut lines[at].1;
            let byte = dice.below(line.len() - 1);
            let old = line[byte];
            line[byte] = (b' '..=b'~').cycle().skip(dice.below(95)).find(|new| *new != old).expect("another byte");
            (format!("edit byte {byte} of record {}: {} to {}", seq(at), old as char, line[byte] as char), [seq(at); 2])
        }
        1 => {
            let at = dice.below(last);
            lines.remove(at);
            (format!("drop record {}", seq(at)), [seq(at); 2])
        }
        2 => {
            let (one, other) = (dice.below(last), dice.below(last + 1));
            let (one, other) = if one == other { (one, last) } else { (one.min(other), one.max(other)) };
            let moved = std::mem::take(&mut lines[one].1);
            lines[one].1 = std::mem::replace(&mut lines[other].1, moved);
            (format!("swap records {} and {}", seq(one), seq(other)), [seq(one); 2])
        }
        3 => {
            let (at, from) = (dice.below(last + 1), dice.below(last + 1));
            let line = (lines[at].0.clone(), lines[from].1.clone());
            lines.insert(at, line);
            (format!("copy record {} before record {}", seq(from), seq(at)), [seq(at), seq(from)])
        }
        4 => {
            let at = dice.below(last) + 1;
            let prev = crate::text::hex(&hash(lines[at - 1].1.strip_suffix(b"\n").expect("whole")));
            let node = Line::parse(lines[0].1.strip_suffix(b"\n").expect("whole")).expect("a line").node.to_owned();
            let forged = format!(
                "{{\"seq\":{},\"prev\":\"{prev}\",\"node\":\"{node}\",\"epoch\":1,\"kind\":\"event\",\"event\":{{}}}}\n",
                seq(at)
            );
            let path = lines[at].0.clone();
            lines.insert(at, (path, forged.into_bytes()));
            (format!("forge a record before record {}", seq(at)), [seq(at); 2])
        }
        _ => {
            let (from, to) = (dice.below(last), dice.below(last));
            let (from, to) = (from.min(to), from.max(to));
            lines.drain(from..=to);
            (format!("drop records {} to {}", seq(from), seq(to)), [seq(from); 2])
        }
    }
}

/// S-101: whatever is edited, dropped, swapped, inserted or cut before the last signed head is found, and the first is named.
#[test]
fn no_tampering_before_the_last_head_goes_unseen() {
    let trials: u64 = std::env::var("TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let place = Place::new();
    let whole = sample(&place);
    let paths = place.segments();
    assert!(paths.len() > 2 && place.verify().holds(), "{:?}", place.verify());
    for trial in 0..trials {
        let mut lines = whole.clone();
        let (what, expected) = tamper(&mut lines, &mut Dice(trial.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        write_lines(&lines, &paths);
        let bad = place.verify().first_bad.unwrap_or_else(|| panic!("trial {trial} goes unseen: {what}"));
        assert!(expected.contains(&bad.seq), "trial {trial}: {what}, but {bad:?}");
    }
}

/// Each single byte of each head is proved, the last head's too.
#[test]
fn no_byte_of_a_head_can_be_changed() {
    let place = Place::new();
    place.open(AuditMode::BestEffort).close();
    let path = place.segments().remove(0);
    let whole = fs::read(&path).expect("read");
    let head = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("two lines") + 1;
    for at in head..whole.len() - 1 {
        let mut bytes = whole.clone();
        bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
        fs::write(&path, bytes).expect("written");
        assert_eq!(place.verify().first_bad.map(|bad| bad.seq), Some(4), "byte {at}");
    }
}

#[test]
fn what_follows_the_last_head_is_said_to_be_unproved() {
    let place = Place::new();
    let mut journal = place.raw(1 << 20);
    journal.push(Kind::Event, &json!({}));
    journal.sync().expect("written");
    drop(journal);
    let report = place.verify();
    assert_eq!((report.holds(), report.unsigned), (true, 1));
    assert!(report.text().contains("; 1 record behind it is chained, not signed yet"), "{}", report.text());
}

#[tokio::test]
async fn search_finds_by_person_path_decision_policy_request_and_time() {
    let place = Place::new();
    let audit = place.open_with(AuditMode::BestEffort, 4_000);
    for (at, (path, login, outcome)) in
        [("/a/x", "ada", Outcome::Permitted), ("/b", "bob", Outcome::Forbidden), ("/a/y", "ada", Outcome::Permitted)]
            .into_iter()
            .cycle()
            .take(30)
            .enumerate()
    {
        let crossing = audit.crossing(client(), NOW + Duration::from_secs(at as u64));
        ask(&crossing, path, Some(login));
        let _ = audit.admit(decision(outcome, &[if login == "ada" { "p1" } else { "p2" }]), &crossing).await;
        drop(crossing);
        wait("it is written", || audit.written() == at as u64 + 1);
    }
    audit.close();
    assert!(place.segments().len() > 3 && place.verify().holds());
    let count = |query: Query| place.search(&query).len();
    let all = Query::default;
    assert_eq!(count(all()), 30);
    assert_eq!(count(Query { user: Some("bob".into()), ..all() }), 10);
    assert_eq!(count(Query { user: Some("gitlab:907".into()), ..all() }), 30);
    assert_eq!(count(Query { path: Some("/a".into()), ..all() }), 20);
    assert_eq!(count(Query { verdict: Some(Verdict::Denied), ..all() }), 10);
    assert_eq!(count(Query { verdict: Some(Verdict::Said("Blocked")), ..all() }), 10);
    assert_eq!(count(Query { verdict: Some(Verdict::Said("Rejected")), ..all() }), 0);
    assert_eq!(count(Query { policy: Some("p1".into()), ..all() }), 20);
    assert_eq!(count(Query { policy: Some("p".into()), ..all() }), 0);
    assert_eq!(count(Query { route: Some("backstage".into()), ..all() }), 30);
    assert_eq!(count(Query { request: Some(format!("{:032x}", 7)), ..all() }), 30);
    assert_eq!(count(Query { since: Some(10_000), until: Some(20_000), ..all() }), 10);
    let last = place.search(&Query { limit: Some(2), ..all() });
    assert_eq!(last.len(), 2);
    assert!(last[1].starts_with("1970-01-01T00:00:29") && last[1].contains("GET portal.test/a/y"), "{}", last[1]);
    let mut out = Vec::new();
    tail(&place.journal(), &Query { limit: Some(20), ..Query::default() }, false, false, &mut out).expect("read");
    assert_eq!(String::from_utf8(out).expect("text").lines().collect::<Vec<_>>(), place.search(&all())[10..]);
}

/// Takes lines until it has enough, then is closed like a pipe.
struct Pipe<'a> {
    lines: &'a std::sync::Mutex<Vec<u8>>,
    enough: usize,
}

impl std::io::Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.lines.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let lines = self.lines.lock().expect("unpoisoned").iter().filter(|byte| **byte == b'\n').count();
        if lines >= self.enough { Err(std::io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

#[test]
fn tail_follows_across_segments() {
    let place = Place::new();
    let audit = place.open_with(AuditMode::BestEffort, 3_000);
    ask(&audit.crossing(client(), NOW), "/0", None);
    wait("the first is written", || audit.written() == 1);
    let [seen, some] = [(); 2].map(|()| std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let query = Query { limit: Some(5), ..Query::default() };
            tail(&place.journal(), &query, true, false, &mut Pipe { lines: &seen, enough: 20 }).expect("followed")
        });
        scope.spawn(|| {
            let query = Query { path: Some("/1".into()), limit: Some(5), ..Query::default() };
            tail(&place.journal(), &query, true, false, &mut Pipe { lines: &some, enough: 11 }).expect("followed")
        });
        for number in 1..20 {
            ask(&audit.crossing(client(), NOW), &format!("/{number}"), None);
            wait("it is written", || audit.written() == number + 1);
        }
    });
    audit.close();
    assert!(place.segments().len() > 3);
    let text = String::from_utf8(seen.into_inner().expect("unpoisoned")).expect("text");
    for (number, line) in text.lines().enumerate() {
        assert!(line.contains(&format!("portal.test/{number} ")), "{line}");
    }
    assert_eq!(text.lines().count(), 20);
    let text = String::from_utf8(some.into_inner().expect("unpoisoned")).expect("text");
    assert_eq!(text.lines().filter(|line| line.contains("portal.test/1")).count(), 11, "{text}");
    assert_eq!(text.lines().count(), 11, "what is asked for alone");
    for limit in [0, 1, 7, 40] {
        let query = Query { path: Some("/1".into()), limit: Some(limit), ..Query::default() };
        let mut out = Vec::new();
        tail(&place.journal(), &query, false, false, &mut out).expect("read");
        let found = String::from_utf8(out).expect("text");
        assert_eq!(found.lines().collect::<Vec<_>>(), place.search(&query), "the same as a search finds");
    }
}

#[test]
fn events_beside_requests_have_their_classes() {
    let place = Place::new();
    let audit = place.open(AuditMode::BestEffort);
    let (person, session, client) = (person("ada"), "5e55".to_owned(), [192, 0, 2, 1].into());
    let events = [
        Event::SignedIn { person: Arc::clone(&person), session: session.clone(), client },
        Event::Arrived { person: Arc::clone(&person), session: session.clone(), host: "api.test".into(), client },
        Event::SignInFailed { provider: "gitlab".into(), reason: Reason::SignInState, detail: "used".into(), client },
        Event::SignOutRefused { provider: "gitlab".into(), detail: "another client".into(), client, count: 1 },
        Event::SessionEnded { person: Arc::clone(&person), session: session.clone(), why: "idle" },
        Event::RefreshDeferred { person: Arc::clone(&person), session, cause: "timeout".into() },
        Event::GroupsChanged {
            person: Arc::clone(&person),
            added: vec!["a".into()],
            removed: vec![],
            source: "userinfo",
        },
        Event::GroupsChanged { person, added: vec![], removed: vec!["a".into()], source: "userinfo" },
        Event::Reloaded {
            what: "policies",
            digest: "d".into(),
            changed: vec!["routes[portal].allow".into()],
            added: vec!["p".into()],
            removed: vec![],
            error: None,
        },
        Event::of_key(0, "keys.rotate", "ring 0002".into()),
        Event::Started { digest: "d".into() },
        Event::Stopped,
    ];
    events.into_iter().for_each(|event| audit.record(event, NOW));
    audit.close();
    let types: Vec<_> =
        place.records("event").iter().map(|event| event["type_uid"].as_u64().expect("a type")).collect();
    assert_eq!(
        types,
        [300_201, 300_201, 300_201, 300_202, 300_202, 300_299, 300_501, 300_502, 300_403, 300_403, 600_203, 600_204]
    );
    assert!(!fs::read_to_string(&place.segments()[0]).expect("read").contains("ada@example.com"));
}

/// A process that ran out of descriptors between making a segment and syncing its directory goes on once it has some.
#[test]
fn a_segment_that_an_earlier_attempt_left_empty_is_used() {
    let place = Place::new();
    let mut journal = place.raw(1);
    journal.push(Kind::Gap, &super::record::Gap { count: 1, first: 1, last: 1 });
    let next = Segment::new(&place.journal(), 1, 5); // behind the opening, a head, the gap and another head
    fs::write(&next.path, "").expect("written");
    journal.rotate(NOW).expect("begins the next segment");
    drop(journal);
    assert_eq!(place.segments().last(), Some(&next.path));
    assert!(place.verify().holds(), "{}", place.verify().text());
}

#[test]
fn only_owner_and_group_can_read_the_journal() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    drop(place.raw(1 << 20));
    let mode = |path: &std::path::Path| fs::metadata(path).expect("is there").permissions().mode() & 0o007;
    assert_eq!((mode(&place.journal()), mode(&place.segments()[0])), (0, 0));
}

/// In `required` mode a sign-in takes effect after its record is on disk, or not at all.
#[tokio::test]
async fn a_required_sign_in_is_recorded_first_or_refused() {
    let place = Place::new();
    let (audit, fault) = place.faulty(AuditMode::Required);
    let event = || Event::SignedIn { person: person("ada"), session: "5e55".into(), client: [192, 0, 2, 1].into() };
    audit.record_first(event(), NOW).await.expect("recorded");
    assert_eq!(place.records("event").len(), 1, "on disk before anybody goes on");
    fault.set(Fault::SYNC);
    let refusal = audit.record_first(event(), NOW).await.expect_err("a disk that fails");
    assert_eq!(refusal.reason, Reason::AuditUnavailable);
}

/// On a full disk a segment that is due goes all the same, and `required` recovers by itself.
#[tokio::test]
async fn retention_makes_room_on_a_full_disk() {
    let place = Place::new();
    let mut journal = place.raw(1 << 10);
    let past = SystemTime::now() - Duration::from_secs(10 * 86_400);
    for number in 0..12 {
        journal.push(Kind::Event, &serde_json::json!({ "number": number, "text": "x".repeat(200) }));
        journal.sync().expect("synced");
        journal.rotate(past).expect("rotated");
    }
    let before = place.segments();
    assert!(before.len() > 2);
    super::spare::Spare::of(&place.journal()).keep(1 << 16).expect("kept");
    journal.fault.set(Fault::FULL);
    let retention = Retention { age: Some(Duration::from_secs(86_400)), size: None };
    let audit = Audit::start(journal, AuditMode::Required, retention, Lens::default()).expect("started");
    audit.shippers().configure(&[]);
    wait("the oldest segment goes", || !before[0].exists());
    wait("it is written again", || audit.healthy());
    let crossing = audit.crossing(client(), SystemTime::now());
    ask(&crossing, "/a", None);
    assert!(audit.admit(decision(Outcome::Permitted, &["p"]), &crossing).await.is_ok());
    drop(crossing);
    wait("room is spared again", || place.journal().join("spare").exists());
    audit.close();
    assert!(place.verify().holds(), "{:?}", place.verify());
}
