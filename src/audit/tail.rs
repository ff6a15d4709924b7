//! Shows the last records of the journal, and follows it.

use super::{
    query::{Beside, Look, Query, Wanted},
    search::{pipe, write},
    segment::{Lines, Segment},
    walk::{Order, Walk},
};
use std::{
    collections::VecDeque,
    io::Write,
    ops::ControlFlow::{Break, Continue},
    path::Path,
    thread,
    time::Duration,
};

/// How often a followed journal is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Writes the last records that match to `out`, as many as the query's limit says, and with `follow` all that come, across
/// segments, until `out` is closed. Gaps and recoveries that come are shown whatever is asked for, so that it is seen that something
/// is missing.
///
/// # Errors
/// If the journal cannot be read or `out` not be written. A closed pipe is none.
pub fn tail(directory: &Path, query: &Query, follow: bool, as_json: bool, out: &mut dyn Write) -> Result<(), String> {
    let mut segments = if follow { Segment::list(directory) } else { Segment::some(directory) }?;
    let current = segments.pop();
    let mut open = current.as_ref().map(Segment::lines).transpose()?;
    let [past, coming] = wanted(query, as_json);
    let mut sink = Sink { out, as_json };
    for line in last(directory, query, &past, segments, open.as_mut())? {
        if !sink.write(&line)? {
            return Ok(());
        }
    }
    if sink.flush()? && follow { follow_on(directory, open, current, &coming, &mut sink) } else { Ok(()) }
}

/// What is wanted of what is there, and of what comes.
fn wanted(query: &Query, as_json: bool) -> [Wanted; 2] {
    let (past, coming) = match (query.is_whole(), as_json) {
        (true, true) => (Beside::All, Beside::All),
        (true, false) => (Beside::Gaps, Beside::Gaps),
        (false, _) => (Beside::Nothing, Beside::Gaps),
    };
    [past, coming].map(|beside| Wanted::of(query, beside))
}

/// The last that match: of the segment that is still written, which is read to its end, then of those before it.
fn last(
    directory: &Path,
    query: &Query,
    wanted: &Wanted,
    before: Vec<Segment>,
    open: Option<&mut Lines>,
) -> Result<VecDeque<Vec<u8>>, String> {
    let count = query.limit.unwrap_or(usize::MAX);
    let mut last: VecDeque<Vec<u8>> = VecDeque::new();
    if let Some(lines) = open {
        each(lines, wanted, &mut |line| {
            last.push_back(line.to_vec());
            if last.len() > count {
                last.pop_front();
            }
            Ok(true)
        })?;
    }
    let left = count - last.len();
    if left > 0 {
        let walk = Walk { directory, wanted, by_index: !query.no_index };
        walk.segments(before, None, Order::Backward(left), &mut |line, _| {
            last.push_front(line.to_vec());
            if last.len() < count { Continue(()) } else { Break(()) }
        })?;
    }
    Ok(last)
}

/// Hands over each whole line that matches. False if nobody reads any more.
fn each(
    lines: &mut Lines,
    wanted: &Wanted,
    take: &mut dyn FnMut(&[u8]) -> Result<bool, String>,
) -> Result<bool, String> {
    while let Some(line) = lines.next_whole()? {
        match wanted.look(line) {
            Look::Match(_) if !take(line)? => return Ok(false),
            Look::Match(_) | Look::Other | Look::Unread => {}
        }
    }
    Ok(true)
}

fn follow_on(
    directory: &Path,
    mut open: Option<Lines>,
    mut current: Option<Segment>,
    wanted: &Wanted,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    loop {
        // Looked for before draining: once there is a next segment, nothing is added to this one.
        let next =
            Segment::list(directory)?.into_iter().find(|segment| current.as_ref().is_none_or(|now| segment > now));
        if let Some(lines) = &mut open
            && !(each(lines, wanted, &mut |line| sink.write(line))? && sink.flush()?)
        {
            return Ok(());
        }
        match next {
            Some(segment) => {
                open = Some(segment.lines()?);
                current = Some(segment);
            }
            None => thread::sleep(POLL),
        }
    }
}

/// Where results go.
struct Sink<'a> {
    out: &'a mut dyn Write,
    as_json: bool,
}

impl Sink<'_> {
    /// False if nobody reads any more.
    fn write(&mut self, line: &[u8]) -> Result<bool, String> {
        write(line, self.as_json, self.out)
    }

    fn flush(&mut self) -> Result<bool, String> {
        pipe(self.out.flush())
    }
}
