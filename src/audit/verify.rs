//! Proves the journal with nothing but its files and the public key, or names the first record that is not as it was written.
//!
//! Each record carries the hash of the one before, so a change is seen in the record after it; and each head signs
//! all before it, so nobody without the key can rewrite what a head covers.

use super::{
    Anchors, PublicKey,
    ahead::Hashed,
    anchor::Compared,
    beginning::Beginning,
    json,
    memory::Last,
    record::{FORMAT, Hash, Kind, Line, Opening, hash},
    retain,
    segment::Segment,
    time::rfc3339,
};
use crate::text::counted;
use serde::{Serialize, Serializer};
use std::{collections::BTreeMap, path::Path};

/// What a verification found.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Records that were read, of every kind.
    pub records: u64,
    /// Heads whose signature holds.
    pub heads: u64,
    /// The last of them.
    pub last_head: Option<Proof>,
    /// Records behind it: chained, but not signed yet.
    pub unsigned: u64,
    /// What retention removed before the first record that is there.
    pub removed: Option<Removed>,
    /// Heads that a sink holds and that cover records of this journal; all of them agree with it unless something is bad.
    /// `None`: none were given.
    pub anchors: Option<u64>,
    /// Heads that a sink holds and that cover records which retention removed: nothing is left to compare.
    pub anchors_removed: u64,
    /// The first record that is not as it was written.
    pub first_bad: Option<Bad>,
    /// What is odd but no forgery, such as a torn last record or a gap.
    pub notes: Vec<String>,
}

/// How far the proof goes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Proof {
    /// See [`Bad::epoch`].
    pub epoch: u32,
    /// Number of the last record that is covered.
    pub seq: u64,
    /// When it was signed, in milliseconds since 1970; in JSON as in RFC 3339.
    #[serde(serialize_with = "written")]
    pub time: u64,
}

/// What is not in the journal any more, as a signed record of it says.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Removed {
    /// See [`Bad::epoch`].
    pub epoch: u32,
    /// Number of the last record that is gone.
    pub seq: u64,
    /// Nothing that is gone is younger, in milliseconds since 1970; in JSON as in RFC 3339.
    #[serde(serialize_with = "written")]
    pub until: u64,
    /// Number of the record that says so.
    pub said_by: u64,
}

/// A record that is not as it was written.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Bad {
    /// The epoch: 1, and one more after each damage that could not be mended.
    pub epoch: u32,
    /// The record's number.
    pub seq: u64,
    /// The segment's file name.
    pub segment: String,
    /// What is wrong.
    pub what: String,
}

fn written<S: Serializer>(millis: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*millis))
}

impl Report {
    /// The result in one word: `proved`, `broken` or `nothing_proved`.
    pub fn verdict(&self) -> &'static str {
        match (&self.first_bad, &self.last_head) {
            (Some(_), _) => "broken",
            (None, None) => "nothing_proved",
            (None, Some(_)) => "proved",
        }
    }

    /// The result as an object, with the verdict. Of a journal that is broken no count of anchors is told: none says how many agree.
    pub fn json(&self) -> serde_json::Value {
        let mut report = serde_json::json!(self);
        report["verdict"] = self.verdict().into();
        if self.first_bad.is_some() {
            report["anchors"] = serde_json::Value::Null;
        }
        report
    }

    /// True if nothing is wrong and something is proved.
    pub fn holds(&self) -> bool {
        self.first_bad.is_none() && self.last_head.is_some()
    }

    /// The result in sentences.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        match (&self.first_bad, &self.last_head) {
            (Some(Bad { epoch, seq, segment, what }), _) => {
                lines.push(format!("BROKEN: record {seq} of epoch {epoch} (`{segment}`) {what}"));
            }
            (None, None) => lines.push("NOTHING PROVED: there is no signed head".to_owned()),
            (None, Some(proof)) => {
                let Proof { epoch, seq, time } = proof;
                lines.push(format!(
                    "proved: {} and {}; the last head covers record {seq} of epoch {epoch}, signed {}",
                    counted(self.records, "record", "records"),
                    counted(self.heads, "head", "heads"),
                    rfc3339(*time)
                ));
                if let Some(Removed { epoch, seq, until, said_by }) = &self.removed {
                    lines.push(format!(
                        "removed by retention: all up to record {seq} of epoch {epoch}, from before {}, as the signed record {said_by} says",
                        rfc3339(*until)
                    ));
                }
                if let Some(anchors) = self.anchors {
                    lines.push(format!("agrees with {} of the sink", counted(anchors, "head", "heads")));
                }
                let mut end = "not proved: that nothing followed that head and was cut off".to_owned();
                if self.unsigned > 0 {
                    let records = counted(self.unsigned, "record behind it is", "records behind it are");
                    end += &format!("; {records} chained, not signed yet");
                }
                lines.push(end);
            }
        }
        lines.extend(self.notes.iter().map(|note| format!("note: {note}")));
        lines.join("\n")
    }
}

/// Verifies the journal in `directory`.
///
/// # Errors
/// If there is no journal, or it cannot be read or has a format that this version does not know.
pub fn verify(directory: &Path, key: &PublicKey) -> Result<Report, String> {
    verify_with(directory, key, None)
}

/// Verifies the journal in `directory`, also against heads that a sink holds.
///
/// # Errors
/// As [`verify`], and if none of the heads is of this journal.
pub fn verify_with(directory: &Path, key: &PublicKey, anchors: Option<&Anchors>) -> Result<Report, String> {
    let segments = Segment::some(directory)?;
    let ([first, .., last] | [first @ last]) = &*segments else { return Err("there is no journal".to_owned()) };
    let mut beginning = Beginning::of(first);
    let mut report = Report { anchors: anchors.map(|_| 0), ..Report::default() };
    let claims = claims(&segments, key)?;
    for epoch in if beginning.is_some() { first.epoch } else { 1 }..=last.epoch {
        let of_epoch: Vec<_> = segments.iter().filter(|segment| segment.epoch == epoch).collect();
        let mut walk = Walk::new(key, anchors, report, beginning, epoch, epoch == last.epoch);
        walk.claims = claims.get(&epoch).cloned().unwrap_or_default();
        let result = walk.epoch(&of_epoch);
        (report, beginning) = (walk.report, walk.beginning);
        beginning.iter_mut().for_each(Beginning::forget);
        match result {
            Ok(()) => {}
            Err(Stop::Bad(bad)) => {
                report.first_bad = Some(bad);
                break;
            }
            Err(Stop::Fault(fault)) => return Err(fault),
        }
    }
    if let Some(beginning) = beginning
        && (report.first_bad.is_none() || !beginning.is_told_by(&segments, key)?)
    {
        report.first_bad = Some(beginning.missing());
    }
    let compared = report.anchors.unwrap_or(0) + report.anchors_removed;
    let others = anchors.map_or(0, Anchors::count).saturating_sub(compared);
    if others > 0 && report.first_bad.is_none() {
        report.notes.push(format!(
            "{} of journals or epochs that are not here, and prove nothing about this one: if it has no other, what they cover is gone",
            counted(others, "head of the sink is", "heads of the sink are")
        ));
    }
    match report.anchors {
        Some(0) if report.first_bad.is_none() && report.anchors_removed == 0 => {
            Err("none of the heads is of what is in this journal: it is another one, or was begun anew".to_owned())
        }
        _ => Ok(report),
    }
}

enum Stop {
    Bad(Bad),
    Fault(String),
}

impl From<String> for Stop {
    fn from(fault: String) -> Self {
        Self::Fault(fault)
    }
}

/// What a later epoch says was signed of an earlier one.
#[derive(Clone, Debug)]
struct Claim {
    last: Last,
    /// The epoch that says so.
    by: u32,
}

/// What epochs say of earlier ones where they begin, by the epoch that they say it of. Only what a head covers counts.
fn claims(segments: &[Segment], key: &PublicKey) -> Result<BTreeMap<u32, Vec<Claim>>, String> {
    let mut claims: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for segment in segments.iter().filter(|segment| segment.epoch > 1 && segment.first == 1) {
        let said = retain::begun(segment, key)?.and_then(|(recovery, _)| recovery.last);
        if let Some(last) = said {
            claims.entry(last.epoch).or_default().push(Claim { last, by: segment.epoch });
        }
    }
    Ok(claims)
}

/// The way through one epoch.
struct Walk<'a> {
    key: &'a PublicKey,
    anchors: Option<&'a Anchors>,
    report: Report,
    /// Where the journal begins, until a signed record says why it does not begin at record 1.
    beginning: Option<Beginning>,
    epoch: u32,
    /// The number that the next record must have.
    next: u64,
    /// The hash of the record before it.
    prev: Hash,
    /// The record before it is a head that holds, and so cannot have been edited.
    head_before: bool,
    node: Option<String>,
    /// What later epochs say was signed.
    claims: Vec<Claim>,
    /// This is the last epoch.
    last: bool,
}

impl<'a> Walk<'a> {
    fn new(
        key: &'a PublicKey,
        anchors: Option<&'a Anchors>,
        report: Report,
        beginning: Option<Beginning>,
        epoch: u32,
        last: bool,
    ) -> Self {
        let next = beginning.as_ref().map_or(1, |beginning| beginning.first_of(epoch));
        Self {
            key,
            anchors,
            report,
            beginning,
            epoch,
            next,
            prev: [0; 32],
            head_before: false,
            node: None,
            claims: Vec::new(),
            last,
        }
    }

    fn epoch(&mut self, segments: &[&Segment]) -> Result<(), Stop> {
        let (first, heads) = (self.next, self.report.heads);
        self.segments(segments)?;
        self.ends_as_claimed(segments)?;
        let unsigned = self.report.heads == heads && (!self.last || self.epoch > 1 || self.next - first > 3);
        if let Some(segment) = segments.first().filter(|_| unsigned) {
            return Err(self.bad(segment, first, "begins an epoch without a head of ours"));
        }
        if !self.last && self.report.unsigned > 0 {
            let records = counted(self.report.unsigned, "record stands", "records stand");
            let epoch = self.epoch;
            self.report
                .notes
                .push(format!("{records} behind the last head of epoch {epoch}, and nobody signed what that says"));
        }
        let Some(compared) = self.compared() else { return Ok(()) };
        let (last, place) = (self.next - 1, segments.last());
        if let (Some(behind), Some(segment)) = (compared.behind(last), place) {
            let what =
                format!("is missing: a sink holds a signed head over record {behind}, and the epoch ends before it");
            return Err(self.bad(segment, self.next, what));
        }
        let (found, before) = (compared.between(first, last), compared.between(0, first - 1));
        self.report.anchors = self.report.anchors.map(|anchors| anchors + found);
        self.report.anchors_removed += before;
        if before > 0 {
            self.report.notes.push(format!(
                "{} records that retention removed",
                counted(before, "head of the sink covers", "heads of the sink cover")
            ));
        }
        Ok(())
    }

    /// A later epoch may say how far this one was signed.
    fn ends_as_claimed(&self, segments: &[&Segment]) -> Result<(), Stop> {
        let missing = self.claims.iter().find(|claim| claim.last.seq >= self.next);
        match (missing, segments.last()) {
            (Some(Claim { last, by }), Some(segment)) => {
                let what = format!("is missing: epoch {by} says that all up to record {} had been signed", last.seq);
                Err(self.bad(segment, self.next, what))
            }
            _ => Ok(()),
        }
    }

    /// The heads that a sink holds of this epoch.
    fn compared(&self) -> Option<Compared<'a>> {
        self.anchors.zip(self.node.as_deref()).map(|(anchors, node)| anchors.of(node, self.epoch))
    }

    fn segments(&mut self, segments: &[&Segment]) -> Result<(), Stop> {
        if segments.is_empty() {
            return Err(Stop::Bad(Bad {
                epoch: self.epoch,
                seq: 1,
                segment: "-".into(),
                what: "is missing, with its epoch".into(),
            }));
        }
        for (index, segment) in segments.iter().enumerate() {
            if segment.first != self.next {
                let what = format!("is missing: `{}` begins at record {}", segment.name(), segment.first);
                return Err(self.bad(segment, self.next.min(segment.first), what));
            }
            self.segment(segment, self.last && index + 1 == segments.len())?;
        }
        Ok(())
    }

    fn segment(&mut self, segment: &Segment, is_last: bool) -> Result<(), Stop> {
        let mut lines = Hashed::open(segment)?;
        let mut first = true;
        let mut current = Vec::new();
        while let Some(bytes) = lines.next()? {
            let Some(whole) = bytes.whole() else {
                return self.torn(segment, bytes.len(), is_last);
            };
            current.clear();
            current.extend_from_slice(whole);
            self.line(segment, &current, &mut lines, first)?;
            first = false;
        }
        if first && !is_last { Err(self.bad(segment, self.next, "is missing: its segment is empty")) } else { Ok(()) }
    }

    fn torn(&mut self, segment: &Segment, bytes: usize, is_last: bool) -> Result<(), Stop> {
        if !is_last {
            return Err(self.bad(segment, self.next, "is cut off in its middle"));
        }
        let name = segment.name();
        self.report.notes.push(format!(
            "`{name}` ends in {} of a record that is not whole: it is being written, or a crash tore it",
            counted(bytes as u64, "byte", "bytes")
        ));
        Ok(())
    }

    fn line(&mut self, segment: &Segment, bytes: &[u8], lines: &mut Hashed, first: bool) -> Result<(), Stop> {
        let seq = self.next;
        let Some(line) = Line::parse(bytes) else {
            return Err(self.bad(segment, seq, "cannot be read: it was edited"));
        };
        if line.seq != seq {
            return Err(self.misplaced(segment, &line, bytes, lines)?);
        }
        if let Some(beginning) = self.beginning.as_mut().filter(|beginning| beginning.is_at(self.epoch, seq)) {
            beginning.found(&line);
        } else if !line.follows(&self.prev) {
            return Err(self.unchained(segment, &line, bytes, lines)?);
        }
        if line.epoch != self.epoch || self.node.as_deref().is_some_and(|node| node != line.node) {
            return Err(self.bad(segment, seq, "is of another journal or epoch"));
        }
        let why = line.recovery.as_ref().and_then(|recovery| recovery.damage.as_ref());
        if self.epoch > 1 && seq == 2 && why.is_none() {
            return Err(self.bad(segment, seq, "does not say why the epoch was begun"));
        }
        if self.epoch > 1 && seq == 2 && line.recovery.as_ref().is_some_and(|recovery| recovery.last.is_none()) {
            let (epoch, before) = (self.epoch, self.epoch - 1);
            self.report.notes.push(format!(
                "epoch {epoch} does not say how far epoch {before} was signed: that its end is there is not proved"
            ));
        }
        if (line.kind == Kind::Segment) != first {
            return Err(self.bad(segment, seq, "stands where a segment does not begin, or the other way round"));
        }
        if let Some(Opening { format, .. }) = line.segment.as_ref().filter(|opening| opening.format != FORMAT) {
            return Err(self.bad(
                segment,
                seq,
                format!("begins a segment of format {format}; this version verifies {FORMAT}"),
            ));
        }
        self.report.unsigned += 1;
        if let Some(head) = &line.head {
            line.check_head(head, bytes, self.key).map_err(|what| self.bad(segment, seq, what))?;
            self.report.heads += 1;
            self.report.unsigned = 0;
            self.report.last_head = Some(Proof { epoch: self.epoch, seq: head.seq, time: head.time });
            if let Some(removed) = self.beginning.as_ref().and_then(Beginning::removed) {
                (self.report.removed, self.beginning) = (Some(removed), None);
            }
        }
        if let Some(beginning) = &mut self.beginning {
            beginning.hear(&line);
        }
        self.note(segment, &line);
        self.node.get_or_insert_with(|| line.node.to_owned());
        self.head_before = line.kind == Kind::Head;
        self.report.records += 1;
        self.next = seq + 1;
        self.prev = lines.hash();
        let mut of_this = self.claims.iter().filter(|claim| claim.last.seq == seq);
        if let Some(Claim { by, .. }) = of_this.find(|claim| claim.last.hash != crate::text::hex(&self.prev)) {
            let what = format!("was written anew: epoch {by} says that another one had been signed");
            return Err(self.bad(segment, seq, what));
        }
        if self.compared().is_some_and(|compared| compared.contradicts(seq, &self.prev)) {
            return Err(self.bad(segment, seq, "was written anew: a sink holds a signed head over another one"));
        }
        Ok(())
    }

    fn note(&mut self, segment: &Segment, line: &Line<'_>) {
        let seq = line.seq;
        if let Some(gap) = &line.gap {
            let (count, first, last) = (gap.count, rfc3339(gap.first), rfc3339(gap.last));
            self.report.notes.push(format!(
                "record {seq} says that {} lost between {first} and {last}",
                counted(count, "event was", "events were")
            ));
        }
        if let Some(recovery) = &line.recovery {
            self.report.notes.push(format!(
                "record {seq} in `{}` says of `{}` that {}",
                segment.name(),
                json::visible(&recovery.segment),
                recovery.said()
            ));
        }
    }

    /// A record that has not the number of its place. If what follows has it, this one came in from elsewhere, or changed
    /// places; else it was edited, or others before it are missing.
    fn misplaced(&self, segment: &Segment, line: &Line<'_>, bytes: &[u8], lines: &mut Hashed) -> Result<Stop, Stop> {
        let (seq, found) = (self.next, line.seq);
        let next = lines.next()?.and_then(|bytes| Line::parse(bytes.whole()?).map(|line| line.seq));
        let head = line.signed(bytes, self.key).is_some();
        let (bad, what) = match (found > seq, next == Some(seq)) {
            (true, true) => (seq, "changed places with"),
            (true, false) => (seq, "is missing: dropped, moved or renumbered, its place is taken by"),
            (false, true) if found + 1 == seq => (found, "was inserted: another line claims to be"),
            (false, false) if found + 1 == seq && head => (found, "was inserted: another line claims to be"),
            (false, true) => (seq, "does not stand in its place: before it was inserted another"),
            (false, false) => (seq, "was edited or replaced: in its place is another"),
        };
        Ok(self.bad(segment, bad, format!("{what} record {found}")))
    }

    /// A record that does not continue the one before. It is the edited one itself if it was fixed before it was edited: if the
    /// one before is a head that holds, or the one after does not continue it either, or its own copy of the hash differs.
    fn unchained(&self, segment: &Segment, line: &Line<'_>, bytes: &[u8], lines: &mut Hashed) -> Result<Stop, Stop> {
        let seq = self.next;
        let followed = lines.next()?.and_then(|next| Line::parse(next.whole()?).map(|next| next.follows(&hash(bytes))));
        let own_copy = line.head.is_some() && line.signed(bytes, self.key).is_none();
        let itself = self.head_before || own_copy || followed == Some(false) || seq == 1;
        let what = format!("was edited: record {seq} does not continue record {}", seq - 1);
        Ok(self.bad(segment, if itself { seq } else { seq - 1 }, what))
    }

    fn bad(&self, segment: &Segment, seq: u64, what: impl Into<String>) -> Stop {
        Stop::Bad(Bad { epoch: self.epoch, seq, segment: segment.name().to_owned(), what: what.into() })
    }
}
