//! Which segments go, when a journal has a greatest size or age.
//!
//! The oldest goes first, one at a time, and never the one that is written. Before its file is removed, the journal has a signed
//! record of what is left of it: with that, `audit verify` can tell a journal that was cut to size from one that somebody cut.

use super::{
    record::{Chain, Removal},
    recover,
    segment::Segment,
    time::millis,
};
use crate::config::Retention;
use std::{
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

/// Looks for a segment that has to go. `needed` is the first record that some sink still waits for: epoch and number.
///
/// # Errors
/// One line that says what cannot be read.
pub(super) fn look(
    directory: &Path,
    retention: &Retention,
    needed: Option<(u32, u64)>,
    now: SystemTime,
) -> Result<Asked, String> {
    let mut segments = Segment::list(directory)?.into_iter();
    let (Some(oldest), Some(next)) = (segments.next(), segments.next()) else { return Ok(Asked::Nothing) };
    let bytes = length(&oldest)?;
    let rest: u64 = [&next].into_iter().chain(segments.as_slice()).map(length).sum::<Result<u64, String>>()?;
    let until = end(&oldest, &next)?;
    let is_large = retention.size.is_some_and(|size| bytes + rest > size);
    let is_old = retention.age.is_some_and(|age| until + millis(UNIX_EPOCH + age) <= millis(now));
    let why = match (is_old, is_large) {
        (true, _) => "age",
        (false, true) => "size",
        (false, false) => return Ok(Asked::Nothing),
    };
    if needed.is_some_and(|needed| needed < (next.epoch, next.first)) {
        return Ok(Asked::Held(oldest));
    }
    let (last, hash) = last(&oldest)?;
    let from = oldest.opening()?.map_or(0, |opening| opening.time);
    let names = [&oldest, &next].map(|segment| segment.name().to_owned());
    let [segment, next] = names;
    let (time, first, why) = (millis(now), oldest.first, why.to_owned());
    let removal = Removal { time, segment, bytes, first, last, hash, from, until, next, why };
    Ok(Asked::Gone(Box::new(Due { segment: oldest, removal })))
}

/// Removes the files of a segment; one that is gone already is none of our business.
pub(super) fn remove(segment: &Segment) -> io::Result<()> {
    match fs::remove_file(&segment.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn length(segment: &Segment) -> Result<u64, String> {
    fs::metadata(&segment.path).map(|found| found.len()).map_err(|error| unread(segment, &error))
}

fn unread(segment: &Segment, error: &io::Error) -> String {
    format!("cannot read `{}`: {error}", segment.path.display())
}

/// When a segment was closed, in milliseconds since 1970: that is when the next was begun, or it was written last where the
/// beginning of the next cannot be read.
fn end(segment: &Segment, next: &Segment) -> Result<u64, String> {
    let changed =
        || fs::metadata(&segment.path).and_then(|found| found.modified()).map_err(|error| unread(segment, &error));
    match next.opening()? {
        Some(opening) => Ok(opening.time),
        None => changed().map(millis),
    }
}

/// The number of a segment's last record, and its hash; of one whose end is damaged, the number of its first and no hash.
fn last(segment: &Segment) -> Result<(u64, String), String> {
    Ok(match recover::tail(segment)? {
        Some(Chain { next, prev, .. }) => (next - 1, crate::text::hex(&prev)),
        None => (segment.first, String::new()),
    })
}
