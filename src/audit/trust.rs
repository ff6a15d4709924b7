//! Whether a journal that is found at a start is the one that was signed last.

use super::{
    key::{PublicKey, Signer},
    memory::Last,
    record::{Chain, Kind, Line, hash},
    segment::{Lines, Segment},
};

/// Why the journal that ends in `chain` is not gone on with; `None` if it is as it was signed last.
///
/// # Errors
/// If it, or what is remembered of it, cannot be read.
pub(super) fn doubt(segments: &[Segment], chain: &Chain, signer: &Signer) -> Result<Option<String>, String> {
    let Some(last) = signer.memory().read(&chain.node)? else {
        // begun by a version that remembered nothing, or not by us at all
        let ours = is_signed(segments, chain, signer)?;
        return Ok((!ours).then(|| "it has no head of ours".to_owned()));
    };
    let Last { epoch, seq, .. } = last;
    if epoch < chain.epoch {
        let ours = is_signed(segments, chain, signer)?;
        return Ok((!ours).then(|| format!("its epoch {} was not begun by us", chain.epoch)));
    }
    let cut = || format!("record {seq} of epoch {epoch}, which was signed last, is not there: the end was cut off");
    if (epoch, seq) > (chain.epoch, chain.next - 1) {
        return Ok(Some(cut()));
    }
    let Some(segment) = segments.iter().rev().find(|it| it.epoch == epoch && it.first <= seq) else {
        return Ok(Some(cut()));
    };
    let mut lines = segment.lines()?;
    for _ in segment.first..seq {
        if lines.next()?.is_none() {
            return Ok(Some(cut()));
        }
    }
    let found = lines.next()?.and_then(|bytes| bytes.whole().map(hash)).map(|hash| crate::text::hex(&hash));
    if found.as_deref() != Some(&*last.hash) {
        return Ok(Some(format!(
            "record {seq} of epoch {epoch} is not the one that was signed last: it was written anew"
        )));
    }
    if last.closed && seq + 1 < chain.next {
        return Ok(Some(format!(
            "it was closed with record {seq} of epoch {epoch}, and somebody else wrote what stands behind that"
        )));
    }
    let key = signer.public();
    let mut removal = unsigned_removal(&mut lines, None, chain, &key)?;
    for segment in segments.iter().filter(|it| it.epoch == epoch && it.first > seq) {
        removal = unsigned_removal(&mut segment.lines()?, removal, chain, &key)?;
    }
    Ok(removal
        .map(|seq| format!("record {seq} of epoch {epoch} says that a segment was removed, and nobody signed that")))
}

/// The number of a record of a removal that no head of ours follows in these lines; `before` is that of the lines before. We sign
/// them as we write them.
fn unsigned_removal(
    lines: &mut Lines,
    before: Option<u64>,
    chain: &Chain,
    key: &PublicKey,
) -> Result<Option<u64>, String> {
    let mut removal = before;
    while let Some(bytes) = lines.next()? {
        let Some((bytes, line)) = bytes.whole().and_then(|bytes| Some((bytes, Line::parse(bytes)?))) else { break };
        if line.kind == Kind::Removal {
            removal = Some(line.seq);
        } else if is_of(&line, chain) && line.signed(bytes, key).is_some() {
            removal = None;
        }
    }
    Ok(removal)
}

fn is_of(line: &Line<'_>, chain: &Chain) -> bool {
    line.epoch == chain.epoch && line.node == chain.node
}

/// The node of the journal that is there, and what was signed last of it, where that is remembered: of whichever record names one
/// of ours, and if none does, of the only journal that the key has signed.
///
/// # Errors
/// If what is remembered cannot be read.
pub(super) fn known(segments: &[Segment], signer: &Signer) -> Result<Option<(String, Last)>, String> {
    for segment in segments.iter().rev() {
        let (Ok(mut lines), mut asked) = (segment.lines(), None) else { continue };
        while let Ok(Some(bytes)) = lines.next() {
            let Some(line) = bytes.whole().and_then(Line::parse) else { continue };
            if asked.as_deref() == Some(line.node) {
                continue;
            }
            if let Some(last) = signer.memory().read(line.node)? {
                return Ok(Some((line.node.to_owned(), last)));
            }
            asked = Some(line.node.to_owned());
        }
    }
    let mut all = signer.memory().all()?;
    Ok(all.pop().filter(|_| all.is_empty()))
}

/// True if the last segments of an epoch have a head of ours that is of this epoch.
fn is_signed(segments: &[Segment], chain: &Chain, signer: &Signer) -> Result<bool, String> {
    let key = signer.public();
    for segment in segments.iter().rev().filter(|segment| segment.epoch == chain.epoch).take(2) {
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            let Some(bytes) = bytes.whole() else { break };
            if Line::parse(bytes).is_some_and(|line| is_of(&line, chain) && line.signed(bytes, &key).is_some()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{
        PublicKey,
        journal::Journal,
        record::Kind,
        verify::{Report, verify},
    };
    use serde_json::json;
    use std::{fs, time::SystemTime};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    /// A journal that was closed, with a head after every third of twelve events.
    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().expect("a directory"));
            let mut journal = place.open();
            for number in 0..12 {
                journal.push(Kind::Event, &json!({ "number": number }));
                if number % 3 == 2 {
                    journal.head(NOW);
                }
                journal.sync().expect("written");
            }
            drop(journal);
            place
        }

        fn signer(&self) -> Signer {
            Signer::open(&self.0.path().join("keys")).expect("a key")
        }

        fn open(&self) -> Journal {
            Journal::open(&self.0.path().join("journal"), self.signer(), 1 << 20, NOW).expect("opened")
        }

        fn segments(&self) -> Vec<Segment> {
            Segment::list(&self.0.path().join("journal")).expect("listed")
        }

        fn lines(&self) -> Vec<String> {
            let text = fs::read_to_string(&self.segments()[0].path).expect("text");
            text.lines().map(|line| line.to_owned() + "\n").collect()
        }

        fn write(&self, lines: &[String]) {
            fs::write(&self.segments()[0].path, lines.concat()).expect("written");
        }

        /// Adds records that continue what is there, as whoever has no key can.
        fn add(&self, records: &[(Kind, serde_json::Value)]) {
            let lines = self.lines();
            let bytes = lines[lines.len() - 1].trim_end().as_bytes();
            let last = Line::parse(bytes).expect("a line");
            let mut chain = Chain { node: last.node.to_owned(), epoch: 1, next: last.seq + 1, prev: hash(bytes) };
            let mut added = lines.concat().into_bytes();
            for (kind, body) in records {
                chain.append(*kind, body, &mut added);
            }
            fs::write(&self.segments()[0].path, added).expect("written");
        }

        /// Goes on with what is there, as a start does; what is recorded then is signed.
        fn start(&self) -> Report {
            let mut journal = self.open();
            journal.push(Kind::Event, &json!({ "after": true }));
            journal.head(NOW);
            journal.sync().expect("written");
            self.report()
        }

        fn report(&self) -> Report {
            let key = PublicKey::read(&self.0.path().join("keys/audit.pub")).expect("a key");
            verify(&self.0.path().join("journal"), &key).expect("read")
        }
    }

    /// Lines that chain, as whoever has no key can write them: events only.
    fn forged(node: &str, epoch: u32, first: &str, events: u32) -> Vec<String> {
        let mut chain = Chain { node: node.to_owned(), epoch, next: 1, prev: [0; 32] };
        let (mut out, first): (_, serde_json::Value) = (Vec::new(), serde_json::from_str(first).expect("JSON"));
        chain.append(Kind::Segment, &first["segment"], &mut out);
        for number in 0..events {
            chain.append(Kind::Event, &json!({ "forged": number }), &mut out);
        }
        String::from_utf8(out).expect("text").split_inclusive('\n').map(str::to_owned).collect()
    }

    #[test]
    fn a_journal_that_is_as_it_was_is_gone_on_with() {
        let place = Place::new();
        for _ in 0..3 {
            let report = place.start();
            assert!(report.holds() && report.last_head.is_some_and(|head| head.epoch == 1));
        }
        // what was written after the last head, as a process that was killed leaves it
        let mut journal = place.open();
        journal.push(Kind::Event, &json!({}));
        journal.sync().expect("written");
        drop(journal);
        assert!(place.start().holds() && place.segments().len() == 1);
        // and where nothing is remembered, as before there was a memory
        fs::remove_dir_all(place.0.path().join("keys/audit-heads")).expect("removed");
        assert!(place.start().holds() && place.segments().len() == 1);
    }

    /// What a killed process left behind the last head and what somebody else added there look the same: it is named, whatever it says
    /// of itself.
    #[test]
    fn what_stands_behind_the_last_head_is_named() {
        let place = Place::new();
        let count = place.lines().len();
        place.add(&[(Kind::Event, json!({ "forged": true })), (Kind::Close, json!({ "time": 0, "lost": 0 }))]);
        let report = place.start();
        let named = format!("records {} to {} stood behind the last head", count + 1, count + 2);
        assert!(report.holds() && report.text().contains(&named), "{}", report.text());
        assert!(report.text().contains("nobody had closed it"), "{}", report.text());
    }

    /// Behind the head that closed it nothing is ours, and no record tells of a removal before a head covers it.
    #[test]
    fn what_nobody_but_another_can_have_written_begins_an_epoch() {
        let place = Place::new();
        let mut journal = place.open();
        journal.push(Kind::Close, &json!({ "time": 0, "lost": 0 }));
        journal.head(NOW);
        journal.sync().expect("written");
        drop(journal);
        place.add(&[(Kind::Event, json!({ "forged": true }))]);
        let report = place.start();
        assert_eq!(place.segments().len(), 2);
        let text = report.text();
        assert!(text.contains("somebody else wrote what stands behind that"), "{text}");
        assert!(text.contains("1 record stands behind the last head of epoch 1"), "{text}");
        // once it is open again, a kill leaves what is behind that head
        let place = Place::new();
        for _ in 0..2 {
            let mut journal = place.open();
            journal.push(Kind::Close, &json!({ "time": 0, "lost": 0 }));
            journal.head(NOW);
            journal.sync().expect("written");
            drop(journal);
            let mut journal = place.open();
            journal.push(Kind::Event, &json!({ "killed": true }));
            journal.sync().expect("written");
        }
        assert!(place.start().holds() && place.segments().len() == 1);

        let place = Place::new();
        let removal = json!({ "time": 0, "segment": "00000001-00000000000000000001.jsonl", "bytes": 1, "first": 1, "last": 9, "hash": "",
            "from": 0, "until": 0, "next": "00000001-00000000000000000010.jsonl", "why": "age" });
        place.add(&[(Kind::Removal, removal), (Kind::Event, json!({}))]);
        let text = place.start().text();
        assert!(place.segments().len() == 2 && text.contains("and nobody signed that"), "{text}");
    }

    /// Whatever is written over its beginning, a journal is known by any record of it, or by what its key remembers.
    #[test]
    fn an_epoch_says_how_far_the_one_before_was_signed_whatever_is_left_of_that() {
        for keep in [true, false] {
            let place = Place::new();
            let lines = place.lines();
            let mut spoilt = lines.clone();
            spoilt[0] = "x\n".to_owned();
            place.write(if keep { &spoilt } else { &spoilt[..1] });
            assert!(!place.start().holds());
            place.write(&lines[..8]);
            let bad = place.report().first_bad.expect("is found");
            assert!(bad.epoch == 1 && bad.what.contains("had been signed"), "{bad:?}");
        }
    }

    /// An epoch that nobody signed takes back nothing of what a signed one says.
    #[test]
    fn a_claim_that_no_head_covers_is_none() {
        let place = Place::new();
        let lines = place.lines();
        place.write(&[lines.concat(), "garbage\ngarbage\n".to_owned()]);
        assert!(!place.start().holds());
        place.write(&lines[..8]);
        let last = Line::parse(lines[0].trim_end().as_bytes()).expect("a line");
        let mut chain = Chain { node: last.node.to_owned(), epoch: 3, next: 1, prev: [0; 32] };
        let first: serde_json::Value = serde_json::from_str(&lines[0]).expect("JSON");
        let (mut made_up, cut) = (Vec::new(), crate::text::hex(&hash(lines[7].trim_end().as_bytes())));
        chain.append(Kind::Segment, &first["segment"], &mut made_up);
        let recovery = json!({ "time": 0, "segment": "", "bytes": 0, "sha256": "", "damage": "x",
            "last": { "epoch": 1, "seq": 8, "hash": cut } });
        chain.append(Kind::Recovery, &recovery, &mut made_up);
        fs::write(Segment::new(&place.0.path().join("journal"), 3, 1).path, made_up).expect("written");
        let bad = place.report().first_bad.expect("is found");
        assert!(bad.epoch == 1 && bad.what.contains("epoch 2 says"), "{bad:?}");
    }

    /// A journal that is removed as a whole leaves what its key remembers, and the next one says so.
    #[test]
    fn a_journal_that_begins_where_another_was_says_so() {
        let place = Place::new();
        let last = place.lines().len();
        for segment in place.segments() {
            fs::remove_file(&segment.path).expect("removed");
        }
        let text = place.start().text();
        assert!(
            text.contains(&format!("up to record {last} of epoch 1: if one of them was here, it is gone")),
            "{text}"
        );
    }

    #[test]
    fn a_memory_that_was_lost_is_told() {
        let place = Place::new();
        for memory in fs::read_dir(place.0.path().join("keys/audit-heads")).expect("a directory").flatten() {
            fs::write(memory.path(), "").expect("written");
        }
        let report = place.start();
        assert!(report.holds() && report.text().contains("was not remembered"), "{}", report.text());
    }

    /// A head of another journal proves nothing of this one.
    #[test]
    fn a_head_of_another_journal_does_not_make_it_ours() {
        let place = Place::new();
        let own = place.lines();
        let head = own.iter().find(|line| line.contains("\"kind\":\"head\"")).expect("a head");
        let mut lines = forged("0123456789abcdef", 1, &own[0], 5);
        lines.insert(2, head.clone());
        place.write(&lines);
        let of = |node: &str| Chain { node: node.to_owned(), epoch: 1, next: 1, prev: [0; 32] };
        let is_signed = |node: &str| is_signed(&place.segments(), &of(node), &place.signer()).expect("read");
        assert!(!is_signed("0123456789abcdef"));
        assert!(is_signed(Line::parse(own[0].trim_end().as_bytes()).expect("a line").node), "nor would ours be missed");
    }

    /// The next start signs nothing after a cut: it begins an epoch, and says how far the one before was signed.
    #[test]
    fn a_journal_that_was_cut_back_while_nothing_ran_is_missed() {
        for keep in [4, 6, 8, 13] {
            let place = Place::new();
            let lines = place.lines();
            place.write(&lines[..keep]);
            let report = place.start();
            assert_eq!(place.segments().len(), 2, "{keep} lines: an epoch is begun");
            let bad = report.first_bad.expect("is found");
            assert!((bad.epoch, bad.seq) == (1, keep as u64 + 1) && bad.what.contains("had been signed"), "{bad:?}");
        }
    }

    #[test]
    fn a_journal_that_was_written_anew_while_nothing_ran_is_missed() {
        let place = Place::new();
        let lines = place.lines();
        let node = Line::parse(lines[0].trim_end().as_bytes()).expect("a line").node.to_owned();
        place.write(&forged(&node, 1, &lines[0], 40));
        let bad = place.start().first_bad.expect("is found");
        assert!(bad.epoch == 1, "{bad:?}");
        assert_eq!(place.segments().len(), 2);
        // under a name of its own
        let place = Place::new();
        place.write(&forged("0123456789abcdef", 1, &lines[0], 40));
        let bad = place.start().first_bad.expect("is found");
        assert!(bad.epoch == 1 && bad.what.contains("had been signed"), "{bad:?}");
    }

    /// Nobody cuts an epoch by adding another.
    #[test]
    fn an_epoch_that_somebody_made_up_hides_nothing() {
        let place = Place::new();
        let lines = place.lines();
        let node = Line::parse(lines[0].trim_end().as_bytes()).expect("a line").node.to_owned();
        let second = Segment::new(&place.0.path().join("journal"), 2, 1).path;
        for made_up in [forged(&node, 2, &lines[0], 5).concat(), "garbage\n".to_owned()] {
            place.write(&lines[..6]);
            fs::write(&second, made_up).expect("written");
            let report = place.start();
            let bad = report.first_bad.expect("is found");
            assert!(bad.epoch == 1 && bad.what.contains("had been signed"), "{bad:?}");
            for segment in &place.segments()[1..] {
                fs::remove_file(&segment.path).expect("removed");
            }
            fs::remove_dir_all(place.0.path().join("keys/audit-heads")).expect("removed");
            place.write(&lines);
            assert!(place.start().holds(), "as it was");
            place.write(&place.lines());
        }
    }
}
