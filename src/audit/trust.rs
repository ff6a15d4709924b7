//! Whether a journal that is found at a start is the one that was signed last.

use super::{
    key::Signer,
    memory::Last,
    record::{Chain, Line, hash},
    segment::Segment,
};

/// Why the journal that ends in `chain` is not gone on with; `None` if it is as it was signed last.
///
/// # Errors
/// If it, or what is remembered of it, cannot be read.
pub(super) fn doubt(segments: &[Segment], chain: &Chain, signer: &Signer) -> Result<Option<String>, String> {
    let Some(last) = signer.memory().read(&chain.node)? else {
        // begun by a version that remembered nothing, or not by us at all
        let ours = is_signed(segments, chain.epoch, signer)?;
        return Ok((!ours).then(|| "it has no head of ours".to_owned()));
    };
    let Last { epoch, seq, .. } = last;
    if epoch < chain.epoch {
        let ours = is_signed(segments, chain.epoch, signer)?;
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
    let same = found.as_deref() == Some(&*last.hash);
    Ok((!same)
        .then(|| format!("record {seq} of epoch {epoch} is not the one that was signed last: it was written anew")))
}

/// The node of the journal that is there, and what was signed last of it, where that is remembered.
///
/// # Errors
/// If either cannot be read.
pub(super) fn known(segments: &[Segment], signer: &Signer) -> Result<Option<(String, Last)>, String> {
    for segment in segments.iter().rev() {
        let mut lines = segment.lines()?;
        let Some(line) = lines.next()?.and_then(|bytes| Line::parse(bytes.whole()?)) else { continue };
        if let Some(last) = signer.memory().read(line.node)? {
            return Ok(Some((line.node.to_owned(), last)));
        }
    }
    Ok(None)
}

/// True if the last segments of an epoch have a head of ours.
fn is_signed(segments: &[Segment], epoch: u32, signer: &Signer) -> Result<bool, String> {
    let key = signer.public();
    for segment in segments.iter().rev().filter(|segment| segment.epoch == epoch).take(2) {
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            let Some(bytes) = bytes.whole() else { break };
            if Line::parse(bytes).is_some_and(|line| line.signed(bytes, &key).is_some()) {
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
        assert!(bad.epoch == 1 && bad.what.contains("without a head of ours"), "{bad:?}");
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
