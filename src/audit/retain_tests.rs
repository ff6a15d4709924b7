//! What retention leaves can be verified, and what anybody else removes is missed.

use super::{
    journal::Journal,
    key::Signer,
    record::{Chain, Kind, Line, hash},
    retain::Asked,
    segment::Segment,
    verify::{Report, verify, verify_with},
    *,
};
use serde_json::json;
use std::fs;

const DAY: u64 = 86_400;

fn at(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(days * DAY)
}

/// A journal with one segment for each of ten days.
struct Place {
    directory: tempfile::TempDir,
    journal: Journal,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let signer = Signer::open(&directory.path().join("keys")).expect("a key");
        let mut journal = Journal::open(&directory.path().join("journal"), signer, 4096, at(0)).expect("opened");
        for day in 1..10 {
            for number in 0..20 {
                journal.push(Kind::Event, &json!({ "number": number, "text": "x".repeat(200) }));
            }
            journal.sync().expect("written");
            assert!(journal.rotate(at(day)).expect("rotated"));
        }
        journal.push(Kind::Event, &json!({}));
        journal.head(at(10));
        journal.sync().expect("written");
        Self { directory, journal }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("journal")
    }

    fn key(&self) -> PublicKey {
        PublicKey::read(&self.directory.path().join("keys/audit.pub")).expect("a key")
    }

    fn report(&self) -> Report {
        verify(&self.path(), &self.key()).expect("read")
    }

    fn segments(&self) -> Vec<Segment> {
        Segment::list(&self.path()).expect("listed")
    }

    /// Removes what has to go; returns how many segments that were, and why.
    fn retain(&mut self, retention: &Retention, needed: Option<(u32, u64)>, now: SystemTime) -> Vec<String> {
        let mut gone = Vec::new();
        while let Asked::Gone(due) = self.journal.retain(retention, needed, now).expect("retained") {
            gone.push(due.removal.why);
        }
        gone
    }

    /// The lines of the journal that are heads, as a sink has them.
    fn heads(&self) -> String {
        let texts = self.segments().into_iter().map(|segment| fs::read_to_string(segment.path).expect("text"));
        let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains(r#""kind":"head""#)).map(|line| line + "\n").collect()
    }

    fn against(&self, heads: &str) -> Result<Report, String> {
        let file = self.directory.path().join("heads");
        fs::write(&file, heads).expect("written");
        let anchors = Anchors::read(&file, &self.key())?;
        verify_with(&self.path(), &self.key(), Some(&anchors))
    }
}

fn age(days: u64) -> Retention {
    Retention { age: Some(Duration::from_secs(days * DAY)), size: None }
}

#[test]
fn what_is_too_old_goes_and_what_is_left_verifies() {
    let mut place = Place::new();
    // at day 10, a segment that was closed at day 3 is 7 days old
    assert_eq!(place.retain(&age(7), None, at(10)), ["age"; 3]);
    let report = place.report();
    assert!(report.holds(), "{report:?}");
    let removed = report.removed.as_ref().expect("says what is gone");
    assert_eq!((removed.epoch, removed.seq + 1, removed.until), (1, place.segments()[0].first, 3 * DAY * 1000));
    assert!(report.text().contains("removed by retention: all up to record"), "{}", report.text());
    assert!(place.retain(&age(7), None, at(10)).is_empty());
}

#[test]
fn what_is_too_much_goes_but_never_what_is_written() {
    let mut place = Place::new();
    let length = |segment: &Segment| fs::metadata(&segment.path).expect("a file").len();
    let size = place.segments().iter().rev().take(4).map(length).sum::<u64>() + 3000;
    let limit = Retention { age: None, size: Some(size) };
    assert!(place.retain(&limit, None, at(10)).iter().all(|why| why == "size"));
    assert!(place.segments().iter().map(length).sum::<u64>() <= size && place.report().holds());
    let nothing = Retention { age: Some(Duration::from_secs(DAY)), size: Some(1) };
    place.retain(&nothing, None, at(1000));
    assert_eq!(place.segments().len(), 1);
    assert!(place.report().holds(), "{:?}", place.report());
}

#[test]
fn what_a_sink_waits_for_stays() {
    let mut place = Place::new();
    let second = place.segments()[1].clone();
    let needed = Some((second.epoch, second.first));
    assert_eq!(place.retain(&age(1), needed, at(30)).len(), 1);
    assert!(matches!(place.journal.retain(&age(1), needed, at(30)), Ok(Asked::Held(held)) if held == second));
    assert_eq!(place.segments()[0], second);
}

/// Only the first segment that retention left may be the first: whoever removes more is found.
#[test]
fn what_somebody_else_removes_is_missed() {
    let place = Place::new();
    let whole = place.segments();
    fs::remove_file(&whole[0].path).expect("removed");
    let bad = place.report().first_bad.expect("is found");
    assert!((bad.epoch, bad.seq) == (1, 1) && bad.what.contains("no signed record says"), "{bad:?}");

    let mut place = Place::new();
    place.retain(&age(7), None, at(10));
    fs::remove_file(&place.segments()[0].path).expect("removed");
    assert_eq!(place.report().first_bad.map(|bad| bad.seq), Some(1));
}

/// A record that somebody wrote without the key proves nothing, and neither does one that no head covers yet.
#[test]
fn only_a_signed_record_tells_of_what_is_gone() {
    let mut place = Place::new();
    place.retain(&age(7), None, at(10));
    let last = place.segments().pop().expect("one").path;
    let text = fs::read_to_string(&last).expect("text");
    // three removals with a head after each: the last head goes
    let lines: Vec<_> = text.lines().collect();
    fs::write(&last, lines[..lines.len() - 1].join("\n") + "\n").expect("written");
    assert_eq!(place.report().first_bad.map(|bad| bad.seq), Some(1));
    fs::write(&last, text.replace(r#""why":"age""#, r#""why":"agE""#)).expect("written");
    assert!(place.report().first_bad.is_some());
}

/// Damage in the middle is named where it is, although the record that tells of the beginning comes after it.
#[test]
fn damage_behind_a_beginning_that_is_told_of_is_named_itself() {
    let mut place = Place::new();
    place.retain(&age(7), None, at(10));
    let (first, path) = (place.segments()[1].first, place.segments()[1].path.clone());
    let text = fs::read_to_string(&path).expect("text");
    let mut lines: Vec<_> = text.lines().collect();
    lines.remove(5);
    fs::write(&path, lines.join("\n") + "\n").expect("written");
    assert_eq!(place.report().first_bad.map(|bad| bad.seq), Some(first + 5));
    // and its first record, whose predecessor is gone
    let mut place = Place::new();
    place.retain(&age(7), None, at(10));
    let path = place.segments()[0].path.clone();
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, text.replacen(r#""format":1"#, r#""format": 1"#, 1)).expect("written");
    assert_eq!(place.report().first_bad.map(|bad| bad.seq), Some(place.segments()[0].first));
}

/// A process that dies between the record and the file leaves a segment that is told of twice.
#[test]
fn a_segment_that_stayed_although_it_was_told_of_goes_the_next_time() {
    let mut place = Place::new();
    let kept = fs::read(&place.segments()[0].path).expect("read");
    let path = place.segments()[0].path.clone();
    place.retain(&age(9), None, at(10));
    fs::write(&path, kept).expect("written");
    assert!(place.report().holds() && place.report().removed.is_none());
    assert_eq!(place.retain(&age(9), None, at(10)).len(), 1);
    assert!(place.report().holds() && place.report().removed.is_some());
}

/// What a sink holds finds what the journal alone cannot: a cut after the last head that is left, and a forgery with the key.
#[test]
fn a_head_at_a_sink_finds_a_journal_that_was_cut_or_written_anew() {
    let place = Place::new();
    let heads = place.heads();
    let report = place.against(&heads).expect("verified");
    assert!(report.holds() && report.anchors == Some(heads.lines().count() as u64), "{report:?}");

    let last = place.segments().pop().expect("one");
    fs::remove_file(&last.path).expect("removed");
    assert!(place.report().holds(), "the journal itself does not tell");
    let bad = place.against(&heads).expect("verified").first_bad.expect("the sink does");
    assert!(bad.seq == last.first && bad.what.contains("a sink holds a signed head"), "{bad:?}");

    let other = Place::new();
    assert!(other.against(&heads).expect_err("another key").contains("signed with key"));
    fs::copy(other.directory.path().join("keys/audit.pub"), place.directory.path().join("keys/audit.pub"))
        .expect("copied");
    assert!(other.against("no head\n").expect_err("none").contains("has no signed head"));
}

#[test]
fn who_has_the_key_cannot_write_anew_what_a_sink_has_a_head_of() {
    let place = Place::new();
    let heads = place.heads();
    let path = place.segments()[0].path.clone();
    // the same journal once more, with another record in it
    let first: serde_json::Value =
        serde_json::from_str(fs::read_to_string(&path).expect("text").lines().next().expect("a line")).expect("JSON");
    let signer = Signer::open(&place.directory.path().join("keys")).expect("a key");
    let node = first["node"].as_str().expect("a name").to_owned();
    let mut chain = super::record::Chain { node, epoch: 1, next: 1, prev: [0; 32] };
    let mut out = Vec::new();
    chain.append(Kind::Segment, &first["segment"], &mut out);
    for _ in 0..40 {
        chain.append(Kind::Event, &json!({ "forged": true }), &mut out);
    }
    chain.append_head(&signer, 0, &mut out);
    assert_ne!(hash(&out), hash(&fs::read(&path).expect("read")));
    place.segments().iter().for_each(|segment| fs::remove_file(&segment.path).expect("removed"));
    fs::write(&path, out).expect("written");
    assert!(place.report().holds(), "{:?}", place.report());
    let bad = place.against(&heads).expect("verified").first_bad.expect("is found");
    assert!(bad.what.contains("written anew"), "{bad:?}");
}

/// What others write into the directory makes retention sign nothing away.
#[test]
fn nobody_can_have_retention_remove_what_is_not_due() {
    // a beginning that somebody wrote anew, so that what is before it looks old
    let mut place = Place::new();
    let second = place.segments()[1].path.clone();
    let text = fs::read_to_string(&second).expect("text");
    let old = text.find("\"time\":").expect("a time");
    for time in ["1", "18446744073709551615"] {
        let end = old + 7 + text[old + 7..].find(',').expect("goes on");
        fs::write(&second, format!("{}{time}{}", &text[..old + 7], &text[end..])).expect("written");
        match place.journal.retain(&age(400), None, at(10)) {
            Ok(Asked::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => assert!(error.contains("is not as it was written"), "{error}"),
        }
    }
    fs::write(&second, &text).expect("written");
    assert!(place.report().holds() && place.report().removed.is_none());
    // a large file that stands behind what is written
    let late = Segment::new(&place.path(), 1, 999_999).path;
    fs::File::create(&late).and_then(|file| file.set_len(60 << 30)).expect("a sparse file");
    let limit = Retention { age: None, size: Some(50 << 30) };
    assert!(matches!(place.journal.retain(&limit, None, at(10)), Ok(Asked::Nothing)));
    fs::remove_file(&late).expect("removed");
    // a segment without its end
    let first = place.segments()[0].path.clone();
    let text = fs::read_to_string(&first).expect("text");
    let cut = text.trim_end().rfind('\n').expect("lines");
    fs::write(&first, &text[..=cut]).expect("written");
    let said = place.journal.retain(&age(1), None, at(10)).expect_err("stays");
    assert!(said.contains("run `vestibule audit verify`"), "{said}");
    assert!(first.exists());
}

/// A damaged end of an epoch goes when its time is over, like everything else.
#[test]
fn a_damaged_segment_goes_too() {
    let place = Place::new();
    let (path, directory) = (place.path(), place.directory.path().to_owned());
    let last = place.segments().pop().expect("one").path;
    let Place { directory: kept, journal } = place;
    drop(journal);
    let text = fs::read_to_string(&last).expect("text");
    fs::write(&last, text.replacen("event", "evenT", 1) + "x\ny\n").expect("written");
    let signer = Signer::open(&directory.join("keys")).expect("a key");
    let mut journal = Journal::open(&path, signer, 4096, at(11)).expect("opened");
    journal.push(Kind::Event, &json!({ "text": "x".repeat(5000) }));
    journal.sync().expect("written");
    assert!(journal.rotate(at(12)).expect("rotated"));
    let mut place = Place { directory: kept, journal };
    place.retain(&age(1), None, at(40));
    assert_eq!(place.segments()[0].epoch, 2, "{:?}", place.segments());
    assert!(place.report().holds(), "{:?}", place.report());
}

/// Whoever removes the file that is written has nobody write on into nothing.
#[test]
fn a_file_that_is_removed_while_it_is_written_is_missed() {
    let mut place = Place::new();
    fs::remove_file(&place.segments().pop().expect("one").path).expect("removed");
    place.journal.push(Kind::Event, &json!({}));
    assert!(place.journal.sync().expect_err("is missed").to_string().contains("was removed or replaced"));
}

/// Nor does whoever writes into it.
#[test]
fn a_file_that_somebody_else_writes_into_is_missed() {
    use std::io::Write as _;
    let mut place = Place::new();
    let mut file = fs::OpenOptions::new().append(true).open(&place.segments().pop().expect("one").path).expect("open");
    file.write_all(b"{}\n").expect("written");
    place.journal.push(Kind::Event, &json!({}));
    assert!(place.journal.sync().expect_err("is missed").to_string().contains("was changed by another process"));
}

/// A removal that somebody made up behind the last head excuses nothing, and the next start does not sign it.
#[test]
fn a_removal_that_somebody_made_up_excuses_nothing() {
    let Place { directory, journal } = Place::new();
    drop(journal);
    let (path, keys) = (directory.path().join("journal"), directory.path().join("keys"));
    let segments = Segment::list(&path).expect("listed");
    let (kept, gone) = segments.split_last().expect("some");
    let mut text = fs::read(&kept.path).expect("read");
    let lines: Vec<_> = text.strip_suffix(b"\n").expect("whole").split(|byte| *byte == b'\n').collect();
    let [first, last] = [lines[0], lines[lines.len() - 1]].map(|bytes| (bytes, Line::parse(bytes).expect("a line")));
    let removal = json!({ "time": 0, "segment": gone[gone.len() - 1].name(), "bytes": 1, "first": 1, "last": kept.first - 1,
        "hash": first.1.prev, "from": 0, "until": 0, "next": kept.name(), "why": "age" });
    let mut chain = Chain { node: last.1.node.to_owned(), epoch: 1, next: last.1.seq + 1, prev: hash(last.0) };
    let mut added = Vec::new();
    chain.append(Kind::Removal, &removal, &mut added);
    text.extend(added);
    fs::write(&kept.path, text).expect("written");
    gone.iter().for_each(|segment| fs::remove_file(&segment.path).expect("removed"));
    let mut journal = Journal::open(&path, Signer::open(&keys).expect("a key"), 4096, at(11)).expect("opened");
    journal.push(Kind::Event, &json!({}));
    journal.head(at(11));
    journal.sync().expect("written");
    let report = verify(&path, &PublicKey::read(&keys.join("audit.pub")).expect("a key")).expect("read");
    assert!(report.first_bad.as_ref().is_some_and(|bad| bad.what.contains("no signed record says")), "{report:?}");
}

/// A file that somebody else put among the closed ones, or one that somebody made longer, makes no journal large.
#[test]
fn what_others_put_there_does_not_count_as_size() {
    let mut place = Place::new();
    let before = place.segments();
    let (open, closed) = (before.last().expect("one").clone(), before[1].clone());
    let foreign = Segment::new(&place.path(), open.epoch, open.first - 1).path;
    fs::File::create(&foreign).expect("made").set_len(1 << 36).expect("sparse");
    let size = |bytes| Retention { size: Some(bytes), ..Retention::default() };
    assert!(place.retain(&size(1 << 30), None, at(10)).is_empty());
    fs::remove_file(&foreign).expect("removed");
    fs::OpenOptions::new().write(true).open(&closed.path).expect("open").set_len(1 << 36).expect("sparse");
    assert!(place.retain(&size(1 << 30), None, at(10)).is_empty());
    assert_eq!(place.segments().len(), before.len());
}

/// Of a file without line feeds no more is read than a line may have.
#[test]
fn a_segment_that_is_one_endless_line_is_damage() {
    let place = Place::new();
    let segment = &place.segments()[0];
    let file = fs::File::create(segment.path.clone()).expect("made");
    file.set_len(8 << 30).expect("sparse");
    assert_eq!(crate::audit::recover::last_line(segment), Ok(None));
}

/// An old file of heads of which retention left nothing accuses nobody.
#[test]
fn heads_of_what_retention_removed_are_counted_and_not_compared() {
    let mut place = Place::new();
    let heads = place.heads();
    let first = heads.lines().next().expect("a head").to_owned() + "\n";
    let index = place.segments()[0].path.with_extension("idx");
    fs::write(&index, "x").expect("written");
    place.retain(&age(7), None, at(10));
    let report = place.against(&first).expect("verified");
    assert_eq!((report.holds(), report.anchors, report.anchors_removed), (true, Some(0), 1), "{report:?}");
    assert!(!index.exists(), "its index goes with a segment");
}

/// Heads of an epoch that is not there any more, or of another replica, are not passed over in silence.
#[test]
fn heads_that_fit_nothing_are_told() {
    let (place, other) = (Place::new(), Place::new());
    let keys = ["audit.ed25519", "audit.pub"];
    for name in keys {
        let [from, to] = [&place, &other].map(|place| place.directory.path().join("keys").join(name));
        fs::copy(from, to).expect("copied");
    }
    let signer = Signer::open(&place.directory.path().join("keys")).expect("a key");
    let mut second = Journal::open(&other.directory.path().join("second"), signer, 4096, at(1)).expect("opened");
    second.push(Kind::Event, &json!({}));
    second.head(at(2));
    second.sync().expect("written");
    let text: String = Segment::list(&other.directory.path().join("second"))
        .expect("listed")
        .iter()
        .map(|segment| fs::read_to_string(&segment.path).expect("text"))
        .collect();
    let both = place.heads() + &text;
    let report = place.against(&both).expect("verified");
    assert!(
        report.holds() && report.text().contains("2 heads of the sink are of journals or epochs that are not here")
    );
}

#[test]
fn heads_of_another_journal_prove_nothing_about_this_one() {
    let place = Place::new();
    let heads = place.heads();
    place.segments().iter().for_each(|segment| fs::remove_file(&segment.path).expect("removed"));
    let signer = Signer::open(&place.directory.path().join("keys")).expect("a key");
    let path = place.directory.path().join("anew");
    drop(Journal::open(&path, signer, 4096, at(0)).expect("opened"));
    let file = place.directory.path().join("heads");
    fs::write(&file, heads).expect("written");
    let anchors = Anchors::read(&file, &place.key()).expect("heads");
    assert!(verify_with(&path, &place.key(), Some(&anchors)).expect_err("none fits").contains("none of the heads"));
}
