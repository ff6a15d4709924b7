//! Makes and checks all indexes of a journal.

use super::{
    index::{self, Index, Unfit},
    segment::Segment,
    walk::ahead,
};
use crate::text::counted;
use serde::Serialize;
use std::{fs, io, ops::ControlFlow::Continue, path::Path};

/// What became of the indexes of a journal.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Closed segments.
    pub segments: u64,
    /// Whose index says what they say.
    pub good: u64,
    /// Whose index was missing or out of date and has been made.
    pub made: u64,
    /// Without an index of this version: searches read these line by line, or make one.
    pub missing: Vec<String>,
    /// Whose index says something else, does not fit or is not whole: it was changed, or written by somebody else.
    pub wrong: Vec<String>,
}

/// How one is.
enum State {
    Good,
    Made,
    Missing,
    Wrong,
}

impl Report {
    /// True if no index says anything else than its segment.
    pub fn holds(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The result in sentences.
    pub fn text(&self) -> String {
        let Self { segments, good, made, missing, wrong } = self;
        let mut lines: Vec<_> = wrong
            .iter()
            .map(|name| {
                format!(
                    "WRONG: the index of `{name}` does not say what the segment says: remove it, and ask who wrote or changed it"
                )
            })
            .collect();
        lines.extend(missing.iter().map(|name| format!("missing: `{name}` has no index that fits")));
        lines.push(format!(
            "{}: {}, {made} made, {} missing, {} wrong",
            counted(*segments, "closed segment", "closed segments"),
            counted(*good, "good index", "good indexes"),
            missing.len(),
            wrong.len()
        ));
        lines.join("\n")
    }
}

/// Makes the indexes that are missing or out of date.
///
/// # Errors
/// If the journal cannot be read.
pub fn make(directory: &Path) -> Result<Report, String> {
    report(directory, |segment| match Index::open(segment) {
        Ok(_) => Ok(State::Good),
        Err(_) => {
            Index::renew(segment)?;
            Ok(if Index::open(segment).is_ok() { State::Made } else { State::Missing })
        }
    })
}

/// Makes every index anew in memory, and compares it with the one that is there.
///
/// # Errors
/// If the journal cannot be read.
pub fn check(directory: &Path) -> Result<Report, String> {
    report(directory, |segment| {
        match Index::open(segment) {
            Ok(_) => {}
            Err(Unfit::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(State::Missing),
            Err(Unfit::Unreadable(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(format!("cannot read `{}`: {error}", index::path(segment).display()));
            }
            Err(Unfit::Other) => return Ok(State::Missing),
            Err(Unfit::Unreadable(_) | Unfit::Wrong(_)) => return Ok(State::Wrong),
        }
        let (found, made) = (fs::read(index::path(segment)), index::build(segment)?);
        Ok(if found.ok() == made { State::Good } else { State::Wrong })
    })
}

fn report(directory: &Path, state: impl Fn(&Segment) -> Result<State, String> + Sync) -> Result<Report, String> {
    let mut segments = Segment::some(directory)?;
    segments.pop(); // is still written
    let mut report = Report { segments: segments.len() as u64, ..Report::default() };
    ahead(&segments, state, |segment, state| {
        let name = || segment.name().to_owned();
        match state? {
            State::Good => report.good += 1,
            State::Made => report.made += 1,
            State::Missing => report.missing.push(name()),
            State::Wrong => report.wrong.push(name()),
        }
        Ok(Continue(()))
    })?;
    Ok(report)
}
