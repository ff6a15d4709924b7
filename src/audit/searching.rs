//! Searches: by index and line by line they find the same, whatever became of the indexes.

use super::{
    Audit, Event,
    export::{COLUMNS, Form, export},
    index::{self, Index},
    indexes,
    query::{Query, Verdict},
    record::{Chain, Gap, Kind},
    search::{Found, search},
    segment::Segment,
    tally::{Range, tally},
    told::About,
};
use crate::config::AuditSettings;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

/// Longer than terms in an index are.
const LONG: &str = "/long/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/";

/// A journal of some segments, the last of which is open.
struct Place(tempfile::TempDir);

impl Place {
    fn of(events: &[Option<Value>], per_segment: usize) -> Self {
        let place = Self(tempfile::tempdir().expect("a directory"));
        let mut chain = Chain { node: "n".into(), epoch: 1, next: 1, prev: [0; 32] };
        for part in events.chunks(per_segment) {
            let mut out = Vec::new();
            let path = Segment::new(place.path(), 1, chain.next).path;
            chain.append(Kind::Segment, &json!({ "format": 1, "time": 0, "version": "0" }), &mut out);
            for event in part {
                match event {
                    Some(event) if event["removal"].is_object() => {
                        chain.append(Kind::Removal, &event["removal"], &mut out)
                    }
                    Some(event) => chain.append(Kind::Event, event, &mut out),
                    None => chain.append(Kind::Gap, &Gap { count: 2, first: 40, last: 50 }, &mut out),
                };
            }
            fs::write(path, out).expect("written");
        }
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn find(&self, query: &Query) -> Vec<Value> {
        self.found(query).0
    }

    fn found(&self, query: &Query) -> (Vec<Value>, Found) {
        let mut out = Vec::new();
        let found = search(self.path(), query, true, &mut out).expect("searched");
        let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        (lines.map(|line| serde_json::from_slice(line).expect("is JSON")).collect(), found)
    }

    /// Every record, as it is written.
    fn all(&self) -> Vec<Value> {
        let segments = Segment::list(self.path()).expect("listed");
        let texts = segments.iter().map(|segment| fs::read_to_string(&segment.path).expect("is text"));
        texts
            .flat_map(|text| text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>())
            .collect()
    }

    fn indexes(&self) -> Vec<PathBuf> {
        let segments = Segment::list(self.path()).expect("listed");
        segments.iter().map(index::path).filter(|path| path.exists()).collect()
    }
}

/// What a query means, said once more.
fn expected(query: &Query, record: &Value) -> bool {
    let event = &record["event"];
    let is = |wanted: &Option<String>, found: &Value| wanted.as_ref().is_none_or(|wanted| found == wanted);
    let user = if event["user"].is_object() { &event["user"] } else { &event["actor"]["user"] };
    let session = if event["session"].is_object() { &event["session"] } else { &event["actor"]["session"] };
    let kind = match query.about {
        None => event.is_object(),
        Some(About::Gap) => record["kind"] == "gap",
        Some(About::Request) => event["class_uid"] == 4002,
        Some(About::SignIn) => event["class_uid"] == 3002 && event["activity_id"] == 1,
        Some(other) => unreachable!("{other:?} is not drawn"),
    };
    let [begins, time] = ["first", "last"].map(|end| event["time"].as_u64().or(record["gap"][end].as_u64()));
    kind && query.user.as_ref().is_none_or(|user_| ["uid", "uid_alt", "name"].iter().any(|key| user[*key] == **user_))
        && query
            .path
            .as_ref()
            .is_none_or(|path| event["http_request"]["url"]["path"].as_str().is_some_and(|it| it.starts_with(path)))
        && is(&query.route, &event["unmapped"]["route"])
        && is(&query.request, &event["metadata"]["correlation_uid"])
        && is(&query.reason, &event["status_code"])
        && is(&query.session, &session["uid"])
        && is(&query.host, &event["http_request"]["url"]["hostname"])
        && is(&query.method, &event["http_request"]["http_method"])
        && is(&query.project, &event["unmapped"]["job"]["project"])
        && query.job.is_none_or(|job| event["unmapped"]["job"]["id"] == job)
        && query.status.as_ref().is_none_or(|status| event["http_response"]["code"].to_string().starts_with(status))
        && query.class.is_none_or(|class| event["class_uid"] == class)
        && (!query.differs || event["unmapped"]["shadow"]["differs"].is_string())
        && query.policy.as_ref().is_none_or(|policy| {
            event["authorizations"].as_array().is_some_and(|all| all.iter().any(|it| it["policy"]["uid"] == **policy))
        })
        && match query.verdict {
            None => true,
            Some(Verdict::Allowed) => event["action_id"] == 1,
            Some(Verdict::Denied) => event["action_id"] == 2,
            Some(Verdict::Said(said)) => event["disposition"] == said,
        }
        && query.since.is_none_or(|since| time.is_some_and(|time| time >= since))
        && query.until.is_none_or(|until| begins.is_some_and(|time| time < until))
}

fn users() -> impl Strategy<Value = String> {
    select(vec!["1", "gitlab:1", "ada", "gitlab:2", "\u{202e}eve", "a\"b\\", ""]).prop_map(str::to_owned)
}

fn paths() -> impl Strategy<Value = String> {
    let long = |end: &str| LONG.to_owned() + end;
    select(vec!["/".to_owned(), "/a".into(), "/a/b".into(), "/a/é".into(), "/b\"".into(), long("x"), long("y")])
}

fn ids() -> impl Strategy<Value = String> {
    let same_start = "00000000000000aa";
    select(vec![
        format!("{same_start}0000000000000001"),
        format!("{same_start}0000000000000002"),
        "odd".into(),
        String::new(),
    ])
}

fn word(of: &[&'static str]) -> impl Strategy<Value = String> + use<> {
    select(of.to_vec()).prop_map(str::to_owned)
}

prop_compose! {
    fn event()(
        (user, path, id) in (users(), paths(), ids()),
        (route, policy) in (word(&["r", "s", ""]), prop::collection::vec(word(&["p", "q"]), 0..3)),
        (status, action, class) in (select(vec![200_u16, 403]), 1..3_u8, select(vec![4002_u32, 3002])),
        (session, host, method) in (word(&["s1", "s2"]), word(&["h.test", "i.test"]), word(&["GET", "PUT"])),
        (job, differs, reason, time) in (0..3_u64, any::<bool>(), word(&["not_permitted", ""]), 0..100_u64),
    ) -> Value {
        let mut event = json!({
            "time": time, "class_uid": class, "activity_id": 1, "action_id": action,
            "disposition": if action == 1 { "Allowed" } else { "Blocked" }, "status_code": reason,
            "metadata": { "correlation_uid": id },
            "authorizations": policy.iter().map(|uid| json!({ "policy": { "uid": uid } })).collect::<Vec<_>>(),
            "actor": { "user": { "uid": user, "uid_alt": format!("gitlab:{user}"), "name": "ada" }, "session": { "uid": session } },
            "http_request": { "http_method": method, "length": 0, "url": { "hostname": host, "path": path } },
            "http_response": { "code": status, "length": 1 },
            "unmapped": { "route": route, "phase": "request" },
        });
        if job > 0 {
            event["unmapped"]["job"] = json!({ "id": job, "project": format!("acme/{job}"), "ref": "main" });
        }
        if differs {
            event["unmapped"]["shadow"] = json!({ "differs": "gains" });
        }
        if class == 3002 {
            event["user"] = event["actor"]["user"].take();
            event["actor"] = json!({});
            event["session"] = json!({ "uid": session });
        }
        event
    }
}

prop_compose! {
    fn query()(
        (user, path, request) in (prop::option::weighted(0.3, users()), prop::option::weighted(0.3, paths()), prop::option::weighted(0.2, ids())),
        (route, policy) in (prop::option::weighted(0.2, word(&["r", "none"])), prop::option::weighted(0.2, word(&["p", "none"]))),
        (status, class) in (prop::option::weighted(0.2, word(&["200", "500", "4", "2"])), prop::option::weighted(0.2, select(vec![4002_u32, 3002]))),
        verdict in prop::option::weighted(0.2, select(vec![Verdict::Allowed, Verdict::Denied, Verdict::Said("Blocked")])),
        (session, host, method) in (
            prop::option::weighted(0.2, word(&["s1"])), prop::option::weighted(0.2, word(&["h.test"])), prop::option::weighted(0.2, word(&["PUT"])),
        ),
        (job, project, reason) in (prop::option::weighted(0.2, 0..3_u64), prop::option::weighted(0.1, word(&["acme/1"])), prop::option::weighted(0.2, word(&["not_permitted"]))),
        about in prop::option::weighted(0.3, select(vec![About::Request, About::SignIn, About::Gap])),
        (differs, since, until) in (prop::bool::weighted(0.2), prop::option::weighted(0.3, 0..100_u64), prop::option::weighted(0.3, 0..100_u64)),
        limit in prop::option::weighted(0.3, 0..20_usize),
    ) -> Query {
        Query { user, path, route, verdict, policy, request, differs, job, project, host, method, status, reason, session, client: None, about, class, since, until, limit, no_index: false }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// With indexes, without, and line by line the same records are found: those that the query means.
    #[test]
    fn an_index_finds_what_reading_every_line_finds(
        events in prop::collection::vec(prop::option::weighted(0.95, event()), 1..60),
        per_segment in 1..25_usize,
        queries in prop::collection::vec(query(), 1..12),
    ) {
        let place = Place::of(&events, per_segment);
        let all = place.all();
        for query in queries.into_iter().filter(|query| query.path.as_deref() != Some("") && query.user.as_deref() != Some("")) {
            let mut wanted: Vec<_> = all.iter().filter(|record| expected(&query, record)).cloned().collect();
            // What is empty is absent.
            if [&query.request].into_iter().flatten().any(String::is_empty) {
                wanted.clear();
            }
            let skipped = query.limit.map_or(0, |limit| wanted.len().saturating_sub(limit));
            let wanted = wanted.split_off(skipped);
            let scanned = place.find(&Query { no_index: true, ..query.clone() });
            prop_assert_eq!(&scanned, &wanted, "line by line: {:?}", query);
            prop_assert_eq!(&place.find(&query), &wanted, "by index: {:?}", query);
        }
    }
}

fn many(count: u64) -> Vec<Option<Value>> {
    let event = |number: u64| {
        let login = if number % 10 == 3 { "bob" } else { "ada" };
        Some(
            json!({ "time": number, "class_uid": 4002, "actor": { "user": { "uid": login, "name": login } }, "unmapped": { "route": "r" } }),
        )
    };
    (0..count).map(event).collect()
}

fn bob() -> Query {
    Query { user: Some("bob".into()), ..Query::default() }
}

/// Who and what is found as it stands in the trail, where OCSF has another place for it than the usual one.
#[test]
fn a_pseudonym_of_a_client_and_a_method_of_another_standard_are_found() {
    let mut events = many(60);
    events.insert(
        7,
        Some(json!({
            "time": 7, "class_uid": 4002, "activity_id": 99, "activity_name": "PROPFIND",
            "src_endpoint": { "uid": "address:07d2" }, "http_request": { "url": { "path": "/dav" } },
        })),
    );
    let place = Place::of(&events, 20);
    let both = Query { client: Some("address:07d2".into()), method: Some("PROPFIND".into()), ..Query::default() };
    for no_index in [true, false, false] {
        let query = Query { no_index, ..both.clone() };
        assert_eq!(
            (place.find(&query).len(), place.find(&Query { method: Some("GET".into()), ..query }).len()),
            (1, 0)
        );
    }
}

/// Whatever somebody did to the files of indexes, a search finds all, and leaves good ones.
#[test]
fn an_index_that_does_not_fit_is_made_anew_and_changes_no_answer() {
    let place = Place::of(&many(300), 50);
    let expected = place.find(&bob());
    assert_eq!((expected.len(), place.indexes().len()), (30, 5), "all but the open segment");
    let path = &place.indexes()[2];
    let (good, other) = (fs::read(path).expect("read"), fs::read(&place.indexes()[1]).expect("read"));
    let flipped = |at: usize| [&good[..at], &[good[at] ^ 1], &good[at + 1..]].concat();
    let old = memchr::memmem::find(&good, b"\"format\":").expect("a format");
    let mut bad = vec![
        Vec::new(),
        vec![b'x'; 500],
        good[..20].to_vec(),
        good[..good.len() / 2].to_vec(),
        good[..good.len() - 1].to_vec(),
        other,
        flipped(old + 9),
    ];
    bad.extend((0..good.len()).step_by(7).map(flipped));
    for (number, bad) in bad.iter().enumerate() {
        fs::write(path, bad).expect("written");
        assert_eq!(place.find(&bob()), expected, "bad index {number}");
        // A part that no question needs may stay bad until one does.
        place.find(&Query::default());
        Index::open(&Segment::list(place.path()).expect("listed")[2]).expect("a good index again");
    }
    fs::remove_file(path).expect("removed");
    assert_eq!(place.find(&bob()), expected);
    assert_eq!(fs::read(path).expect("read"), good, "of the same segment it is the same");
}

/// An index that somebody else may have written is not taken, and one of a file that is no longer the same is not either.
#[test]
fn an_index_is_bound_to_its_segment_and_its_owner() {
    let place = Place::of(&many(100), 50);
    place.find(&bob());
    let (segment, path) = (&Segment::list(place.path()).expect("listed")[0], &place.indexes()[0]);
    assert!(Index::open(segment).is_ok());
    fs::set_permissions(path, fs::Permissions::from_mode(0o660)).expect("set");
    assert!(Index::open(segment).is_err(), "a group may write it");
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("set");
    let moved = path.with_extension("moved");
    fs::rename(path, &moved).expect("moved");
    std::os::unix::fs::symlink(&moved, path).expect("linked");
    assert!(Index::open(segment).is_err(), "a link");
    fs::rename(&moved, path).expect("moved");
    assert!(Index::open(segment).is_ok());
    let text = fs::read_to_string(&segment.path).expect("read");
    for changed in [
        text.replace("bob", "bib"),
        text.clone() + "{}\n",
        text.replacen("\"seq\":1", "\"seq\":2", 1),
        text.trim_end().to_owned(),
    ] {
        fs::write(&segment.path, &changed).expect("written");
        let last_line_is_the_same = changed.len() == text.len() && changed.lines().last() == text.lines().last();
        assert_eq!(
            Index::open(segment).is_ok(),
            last_line_is_the_same && changed.lines().next() == text.lines().next()
        );
    }
}

/// An index that was forged with right hashes can hide records from a search: the check names it, and reading every line does not
/// believe it.
#[test]
fn a_forged_index_is_found_by_the_check() {
    let (place, innocent) = (Place::of(&many(100), 50), Place::of(&many(3), 50));
    place.find(&bob());
    assert_eq!(indexes::check(place.path()).expect("checked").good, 1);
    let segments = Segment::list(place.path()).expect("listed");
    let forged = index::forged(&segments[0], &Segment::list(innocent.path()).expect("listed")[0]);
    fs::write(index::path(&segments[0]), forged).expect("written");
    assert_eq!(place.find(&bob()).len(), 5, "those of the open segment alone");
    assert_eq!(place.find(&Query { no_index: true, ..bob() }).len(), 10);
    let report = indexes::check(place.path()).expect("checked");
    assert!(!report.holds() && report.wrong == [segments[0].name()], "{report:?}");
    assert!(report.text().starts_with("WRONG: the index of"), "{}", report.text());
    let path = index::path(&segments[0]);
    fs::remove_file(&path).expect("removed");
    assert_eq!(indexes::check(place.path()).expect("checked").missing, [segments[0].name()]);
    place.find(&bob());
    let good = fs::read(&path).expect("read");
    for at in [0, 10, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).expect("written");
        assert_eq!(indexes::check(place.path()).expect("checked").wrong, [segments[0].name()], "byte {at}");
    }
}

/// Lines that nobody can read are counted, by index too.
#[test]
fn lines_that_cannot_be_read_are_told() {
    let place = Place::of(&many(100), 50);
    let segment = &Segment::list(place.path()).expect("listed")[0];
    let text = fs::read_to_string(&segment.path).expect("read");
    fs::write(&segment.path, text.replacen("\"name\":\"ada\"", "\"name\":[\"bob\"]", 1)).expect("written");
    for _ in 0..2 {
        assert_eq!(place.found(&bob()).1, Found { records: 10, unread: 1 });
    }
    assert_eq!(place.indexes().len(), 1);
}

/// Where nothing can be written, every line is read.
#[test]
fn a_journal_that_cannot_be_written_is_searched_all_the_same() {
    let place = Place::of(&many(100), 50);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o555)).expect("set");
    assert_eq!(place.find(&bob()).len(), 10);
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("set");
    if !rustix::process::geteuid().is_root() {
        assert_eq!(place.indexes().len(), 0);
    }
}

/// While it runs, the proxy makes the index of each segment that is closed, and takes away those of segments that are gone.
#[test]
fn the_proxy_makes_indexes_in_the_background() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, keys) = (directory.path().join("journal"), directory.path().join("keys"));
    let audit = Audit::open(&journal, &keys, &AuditSettings::for_test(4_000)).expect("opened");
    let orphan = journal.join("00000001-00000000000000000077.idx");
    fs::write(&orphan, "").expect("written");
    let begun = std::time::Instant::now();
    loop {
        audit.record(Event::Started { digest: "d".repeat(900) }, std::time::SystemTime::now());
        let mut segments = Segment::list(&journal).expect("listed");
        segments.pop();
        if segments.len() > 3 && segments.iter().take(3).all(|it| Index::open(it).is_ok()) && !orphan.exists() {
            break;
        }
        assert!(begun.elapsed().as_secs() < 90, "no index was made");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    audit.close();
    let query = Query { about: Some(About::Start), ..Query::default() };
    let found = search(&journal, &query, true, &mut std::io::sink()).expect("searched");
    assert_eq!(found.records, audit.written());
}

/// What readers of the table rely on: these columns stay where they are.
const FIRST: &str = "time kind epoch seq class_uid activity decision disposition status reason detail user_id user_name principal \
    session client method host path route policies outcome policy_digest phase request_id job project ref \
    duration_ms request_bytes response_bytes object why because count since";

/// What is exported without a filter is the journal, byte for byte; with one, what matches and what is missing.
#[test]
fn an_export_is_what_the_journal_says() {
    let mut events = many(100);
    events.insert(30, None);
    events.push(Some(json!({
        "time": 40, "class_uid": 4002, "actor": { "user": { "name": "=cmd|' /C calc'!A0" } }, "status_code": "not_permitted",
        "http_request": { "http_method": "GET", "url": { "path": "/\u{202e}a,\"b\"" } },
    })));
    events.extend([
        json!({ "time": 41, "class_uid": 3005, "user": { "uid_alt": "gitlab:7" }, "unmapped": {
            "added": { "count": 3, "items": ["acme/a", "acme/b"] }, "removed": { "count": 1, "items": ["acme/c"] } } }),
        json!({ "time": 42, "class_uid": 3001, "user": { "uid_alt": "gitlab:8" }, "actor": { "user": { "name": "uid 0" } } }),
        json!({ "time": 43, "class_uid": 3004, "entity": { "name": "vestibule.yaml", "type": "configuration" },
            "unmapped": { "changed": { "count": 1, "items": ["routes"] } } }),
        json!({ "time": 44, "class_uid": 4002, "actor": { "user": { "uid_alt": "gitlab:9" } }, "unmapped": {
            "job": { "id": 5, "pipeline": 41, "project": "acme/x" }, "credential": { "name": "ci", "uid": "acme/x" } } }),
    ].map(Some));
    let place = Place::of(&events, 50);
    let out = |query: &Query, form| {
        let mut out = Vec::new();
        let counts = export(place.path(), query, form, &mut out).expect("exported");
        (out, counts)
    };
    let journal: Vec<u8> =
        Segment::list(place.path()).expect("listed").iter().flat_map(|it| fs::read(&it.path).expect("read")).collect();
    for no_index in [true, false, false] {
        let (whole, counts) = out(&Query { no_index, ..Query::default() }, Form::Lines);
        assert!(whole == journal, "byte for byte");
        assert_eq!((counts.events, counts.gaps, counts.lost, counts.own, counts.unread), (105, 1, 2, 3, 0));
        let (some, counts) = out(&Query { no_index, ..bob() }, Form::Lines);
        assert_eq!((counts.events, counts.gaps, some.iter().filter(|byte| **byte == b'\n').count()), (10, 1, 11));
        let (late, counts) = out(&Query { no_index, since: Some(60), ..bob() }, Form::Lines);
        assert_eq!((counts.events, counts.gaps, late.is_empty()), (4, 0, false), "the gap is before");
    }
    assert!(out(&bob(), Form::Table).1.text().contains("10 events, 1 gap in which 2 events were lost"));
    let (table, _) = out(&Query::default(), Form::Table);
    let mut table = csv::Reader::from_reader(&*table);
    let at = |name: &str| COLUMNS.iter().position(|column| *column == name).expect("a column");
    assert_eq!(table.headers().expect("a head").iter().collect::<Vec<_>>(), COLUMNS);
    let rows: Vec<_> = table.into_records().map(|row| row.expect("a row")).collect();
    let odd = rows.iter().find(|row| &row[at("reason")] == "not_permitted").expect("is there");
    assert_eq!((&odd[at("user_name")], &odd[at("path")]), ("'=cmd|' /C calc'!A0", "/\\u{202e}a,\"b\""));
    assert!(COLUMNS.join(" ").starts_with(FIRST), "columns are added at the end");
    let row = |kind: &str, who: &str| {
        let row = rows.iter().find(|row| &row[at("kind")] == kind && &row[at("user_id")] == who).expect("is there");
        ["actor", "added", "removed", "changed", "pipeline", "credential"].map(|column| row[at(column)].to_owned())
    };
    assert_eq!(row("groups", "gitlab:7"), ["", "acme/a, acme/b, and 1 more", "acme/c", "", "", ""]);
    assert_eq!(row("admin", "gitlab:8"), ["uid 0", "", "", "", "", ""]);
    assert_eq!(row("reload", ""), ["", "", "", "routes", "", ""]);
    assert_eq!(row("request", "gitlab:9"), ["", "", "", "", "41", "ci:acme/x"]);
    let gap = rows.iter().find(|row| &row[at("kind")] == "gap").expect("is there");
    assert_eq!((&gap[at("count")], &gap[at("detail")]), ("2", "events were lost"));
}

/// Whoever exports a time of which retention removed records sees that, though it was removed later; a search that asks for the
/// time alone finds no record, and one for removals does.
#[test]
fn an_export_of_what_retention_removed_says_so() {
    let mut events = many(100).split_off(60);
    events.push(Some(json!({ "removal": {
        "time": 99, "segment": "s", "bytes": 1, "first": 1, "last": 60, "hash": "", "from": 10, "until": 60, "next": "t", "why": "age",
    } })));
    let place = Place::of(&events, 10);
    let range = Query { since: Some(20), until: Some(30), ..Query::default() };
    for no_index in [true, false, false] {
        let query = Query { no_index, ..range.clone() };
        for form in [Form::Table, Form::Lines] {
            let counts = export(place.path(), &query, form, &mut std::io::sink()).expect("exported");
            assert_eq!((counts.events, counts.removals, counts.unread), (0, 1, 0));
        }
        assert_eq!(place.find(&query).len(), 0);
        assert_eq!(place.find(&Query { about: Some(About::Removal), ..query }).len(), 1);
    }
}

/// Each request counts once, by the record of its decision; what was before the range counts as used and not as a request.
#[test]
fn a_tally_counts_requests_once() {
    let request = |time: u64, phase: &str, action: u8, more: Value| {
        let mut event = json!({
            "time": time, "class_uid": 4002, "action_id": action, "actor": { "user": { "uid_alt": "gitlab:1", "name": format!("ada{time}") } },
            "http_request": { "http_method": "POST" }, "authorizations": [{ "policy": { "uid": "p" } }],
            "unmapped": { "phase": phase, "route": "r", "principal": "user" },
        });
        if action == 2 {
            event["status_code"] = json!("not_permitted");
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            event["unmapped"][key] = value.clone();
        }
        Some(event)
    };
    let seq = || json!({ "decision_seq": 1 });
    let events = [
        request(10, "request", 1, json!({})),
        request(20, "decision", 1, json!({})),
        request(21, "completion", 1, seq()),
        request(30, "decision", 2, json!({})),
        request(31, "completion", 2, seq()),
        request(40, "stream_opened", 1, json!({ "class": "websocket" })),
        request(41, "stream_ended", 2, json!({ "cut": "not_permitted" })),
        request(50, "decision", 1, json!({})),
        request(51, "stream_opened", 1, seq()),
        request(52, "stream_ended", 1, seq()),
        request(90, "request", 1, json!({})),
        None,
    ];
    for per_segment in [1, 3, 20] {
        let place = Place::of(&events, per_segment);
        let tally = tally(place.path(), Range { from: 15, to: 80, used_since: 5 }).expect("read");
        let (used, who) = (tally.uses.values().next().expect("one"), tally.uses.keys().next().expect("one"));
        assert_eq!((tally.uses.len(), &*who.0.id, &*who.1, &*used.name), (1, "gitlab:1", "r", "ada50"));
        let counts = [used.allowed, used.refused, used.ended].map(|it| (it.count, it.first, it.last));
        assert_eq!(counts, [(3, 20, 50), (1, 30, 30), (1, 41, 41)]);
        assert_eq!(used.reasons["not_permitted"], 2);
        let relied = used.policies["p"];
        assert_eq!((relied.decided.count, relied.allowed, relied.used, relied.since), (4, 3, [0, 50, 40], true));
        assert_eq!((tally.lost, tally.records, tally.blind), (2, 10, 1));
        let late = super::tally::tally(place.path(), Range { from: 70, to: 80, used_since: 60 }).expect("read");
        let relied = late.uses.values().next().expect("one").policies["p"];
        assert_eq!((relied.used, relied.since, late.blind), ([0, 50, 40], false, 0), "the last use is before");
    }
}

/// Searches while others make and remove the same indexes find all.
#[test]
fn many_at_once_find_the_same() {
    let place = Place::of(&many(300), 30);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                place.indexes().iter().for_each(|path| drop(fs::remove_file(path)));
            }
        });
        let searches: Vec<_> =
            (0..3).map(|_| scope.spawn(|| (0..20).all(|_| place.find(&bob()).len() == 30))).collect();
        let all = searches.into_iter().all(|search| search.join().expect("ended"));
        over.store(true, SeqCst);
        assert!(all);
    });
    let left = fs::read_dir(place.path())
        .expect("listed")
        .flatten()
        .filter(|it| it.file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "no draft is left");
}
