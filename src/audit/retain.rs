//! Which segments go, when a journal has a greatest size or age.
//!
//! The oldest goes first, one at a time, and never the one that is written. Before its file is removed, the journal has a signed
//! record of what is left of it: with that, `audit verify` can tell a journal that was cut to size from one that somebody cut.

use super::{
    PublicKey, index,
    record::{Line, Recovery, Removal, hash},
    recover,
    segment::Segment,
    time::millis,
};
use crate::config::Retention;
use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// A segment that has to go, and what is left of it.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) segment: Segment,
    pub(super) removal: Removal,
}

/// What retention asks for at a moment.
#[derive(Debug)]
pub(super) enum Asked {
    /// All may stay.
    Nothing,
    /// This one is due, but a sink has not got all of it yet.
    Held(Segment),
    /// This one has to go.
    Gone(Box<Due>),
}

/// What retention goes by.
pub(super) struct Grounds<'a> {
    pub(super) retention: &'a Retention,
    /// The first record that some sink still waits for: epoch and number.
    pub(super) needed: Option<(u32, u64)>,
    /// The segment that is written: epoch and number of its first record. What is named as if it were later is none of ours.
    pub(super) open: (u32, u64),
    /// How many bytes of it are ours.
    pub(super) written: u64,
    /// Our key. What is signed away must be ours: files here may have been written by others.
    pub(super) key: &'a PublicKey,
    pub(super) now: SystemTime,
}

/// Looks for a segment that has to go.
///
/// # Errors
/// One line that says what cannot be read, or what is not as it was written and therefore stays.
pub(super) fn look(directory: &Path, grounds: &Grounds<'_>, measured: &mut Measured) -> Result<Asked, String> {
    let Grounds { retention, needed, open, written, key, now } = grounds;
    let mut segments = Segment::list(directory)?;
    segments.retain(|segment| (segment.epoch, segment.first) <= *open);
    let [oldest, next, ..] = &*segments else { return Ok(Asked::Nothing) };
    let is_large = match retention.size {
        Some(size) => measured.closed(&segments, key)?.saturating_add(*written) > size,
        None => false,
    };
    if !is_large && retention.age.is_none() {
        return Ok(Asked::Nothing);
    }
    let end = end(oldest, next, key)?.ok_or_else(|| {
        format!(
            "`{}` is not as it was written, or `{}` does not follow it: run `vestibule audit verify`",
            oldest.name(),
            next.name()
        )
    });
    let is_old =
        |end: &End| retention.age.is_some_and(|age| end.time.saturating_add(millis(UNIX_EPOCH + age)) <= millis(*now));
    let why = match &end {
        Ok(end) if is_old(end) => "age",
        _ if is_large => "size",
        Ok(_) => return Ok(Asked::Nothing),
        Err(_) => "age",
    };
    let End { last, hash, time: until } = end?;
    if needed.is_some_and(|needed| needed < (next.epoch, next.first)) {
        return Ok(Asked::Held(oldest.clone()));
    }
    let from = oldest.opening()?.map_or(0, |opening| opening.time).min(until);
    let [segment, next] = [oldest, next].map(|segment| segment.name().to_owned());
    let (time, bytes, first, why) = (millis(*now), length(oldest)?, oldest.first, why.to_owned());
    let removal = Removal { time, segment, bytes, first, last, hash, from, until, next, why };
    Ok(Asked::Gone(Box::new(Due { segment: oldest.clone(), removal })))
}

/// How long closed segments are that end as we end them: each is looked into once, and again if its length is another. Files that
/// somebody else put there, or made longer, do not make a journal large.
#[derive(Debug, Default)]
pub(super) struct Measured(HashMap<(u32, u64), u64>);

impl Measured {
    /// Bytes in all of these segments but the last, which is being written.
    fn closed(&mut self, segments: &[Segment], key: &PublicKey) -> Result<u64, String> {
        let (mut all, mut known) = (0_u64, HashMap::new());
        for pair in segments.windows(2) {
            let [segment, next] = pair else { continue };
            let (name, bytes) = ((segment.epoch, segment.first), length(segment)?);
            let is_ours = || matches!(end(segment, next, key), Ok(Some(_)));
            if self.0.get(&name) == Some(&bytes) || is_ours() {
                known.insert(name, bytes);
                all = all.saturating_add(bytes);
            }
        }
        self.0 = known; // of those that are gone nothing is
        Ok(all)
    }
}

/// Where a segment ends: the number and hash of its last record, and when that was signed.
struct End {
    last: u64,
    hash: String,
    time: u64,
}

/// Where `oldest` ends, if `next` goes on from there: by a head of ours at its end, or where it was damaged, by one at the beginning
/// of the epoch that was begun because of that.
fn end(oldest: &Segment, next: &Segment, key: &PublicKey) -> Result<Option<End>, String> {
    let signed = recover::last_line(oldest)?.as_deref().and_then(|bytes| head(bytes, key));
    if oldest.epoch == next.epoch {
        let mut lines = next.lines()?;
        let first = lines.next()?;
        let first = first.and_then(|bytes| Line::parse(bytes.whole()?));
        let follows = |end: &End| {
            next.first == end.last + 1
                && first.as_ref().is_some_and(|line| line.seq == next.first && line.prev == end.hash)
        };
        return Ok(signed.filter(follows));
    }
    let begun = begun(next, key)?.filter(|_| next.first == 1);
    Ok(begun.map(|(_, time)| signed.unwrap_or(End { last: oldest.first, hash: String::new(), time })))
}

/// What a line says of the end of its segment, if it is a head of ours.
fn head(bytes: &[u8], key: &PublicKey) -> Option<End> {
    let line = Line::parse(bytes)?;
    let time = line.signed(bytes, key)?.time;
    Some(End { last: line.seq, hash: crate::text::hex(&hash(bytes)), time })
}

/// What was recorded when an epoch was begun because of damage, and when the head of that was signed.
///
/// # Errors
/// If the segment cannot be read.
pub(super) fn begun(segment: &Segment, key: &PublicKey) -> Result<Option<(Recovery, u64)>, String> {
    let mut lines = segment.lines()?;
    let (mut prev, mut damaged) = ([0; 32], None);
    for _ in 0..3 {
        let Some(bytes) = lines.next()? else { return Ok(None) };
        let Some((bytes, line)) = bytes.whole().and_then(|bytes| Some((bytes, Line::parse(bytes)?))) else {
            return Ok(None);
        };
        if !line.follows(&prev) {
            return Ok(None);
        }
        if let Some(End { time, .. }) = head(bytes, key) {
            return Ok(damaged.map(|recovery| (recovery, time)));
        }
        prev = hash(bytes);
        damaged = line.recovery.filter(|recovery| recovery.damage.is_some()).or(damaged);
    }
    Ok(None)
}

/// Removes the files of a segment: its own, and its index. What is gone already is none of our business.
pub(super) fn remove(segment: &Segment) -> io::Result<()> {
    [index::path(segment), segment.path.clone()].iter().try_for_each(|path| match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
}

fn length(segment: &Segment) -> Result<u64, String> {
    let found = fs::metadata(&segment.path);
    found.map(|found| found.len()).map_err(|error| format!("cannot read `{}`: {error}", segment.path.display()))
}
