//! Finds records in the journal.

use super::{
    query::{Beside, Wanted},
    show,
    walk::{Order, Walk},
};
pub use super::{
    query::{Query, Verdict},
    tail::tail,
};
use serde_json::Value;
use std::{
    io::{self, Write},
    ops::ControlFlow::{Break, Continue},
    path::Path,
};

/// What a search found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// Records that match.
    pub records: u64,
    /// Lines that nobody can read: they were edited, or are of a newer version.
    pub unread: u64,
}

/// Writes the records that match to `out`, the newest last: as lines for people, or as they stand in the journal. Returns how
/// many there are.
///
/// # Errors
/// If the journal cannot be read or `out` not be written. A closed pipe is none.
pub fn search(directory: &Path, query: &Query, as_json: bool, out: &mut dyn Write) -> Result<Found, String> {
    let wanted = Wanted::of(query, Beside::Nothing);
    let walk = Walk { directory, wanted: &wanted, by_index: !query.no_index };
    let mut found = Found::default();
    match query.limit {
        Some(limit) => last(&walk, limit, as_json, out, &mut found)?,
        None => {
            let mut fault = Ok(());
            found.unread = walk.lines(Order::Forward, &mut |line, _| {
                found.records += 1;
                match write(line, as_json, out) {
                    Ok(true) => Continue(()),
                    other => {
                        fault = other.map(drop);
                        Break(())
                    }
                }
            })?;
            fault?;
        }
    }
    pipe(out.flush())?;
    Ok(found)
}

/// The last so many: those that come first on the way back.
fn last(walk: &Walk<'_>, limit: usize, as_json: bool, out: &mut dyn Write, found: &mut Found) -> Result<(), String> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    if limit > 0 {
        found.unread = walk.lines(Order::Backward(limit), &mut |line, _| {
            lines.push(line.to_vec());
            if lines.len() < limit { Continue(()) } else { Break(()) }
        })?;
    }
    found.records = lines.len() as u64;
    for line in lines.iter().rev() {
        if !write(line, as_json, out)? {
            break;
        }
    }
    Ok(())
}

/// False if nobody reads any more.
pub(super) fn write(line: &[u8], as_json: bool, out: &mut dyn Write) -> Result<bool, String> {
    if as_json {
        return pipe(out.write_all(line).and_then(|()| out.write_all(b"\n")));
    }
    match serde_json::from_slice::<Value>(line).ok().and_then(|record| show::line(&record)) {
        Some(text) => pipe(writeln!(out, "{text}")),
        None => Ok(true),
    }
}

/// False if nobody reads any more, which is no fault: whoever closes a pipe early has seen enough.
///
/// # Errors
/// Any other reason why a result cannot be written.
pub fn pipe(result: io::Result<()>) -> Result<bool, String> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("cannot write the result: {error}")),
    }
}
