//! Shows the last records of the journal, and follows it.

use super::{
    search::pipe,
    segment::{Lines, Segment},
    show,
};
use serde_json::Value;
use std::{
    collections::VecDeque,
    io::{self, Write},
    path::Path,
    thread,
    time::Duration,
};

/// How often a followed journal is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Writes the last `count` records to `out`, and with `follow` all that come, across segments, until `out` is closed.
///
/// # Errors
/// If the journal cannot be read or `out` not be written. A closed pipe is none.
pub fn tail(directory: &Path, count: usize, follow: bool, as_json: bool, out: &mut dyn Write) -> Result<(), String> {
    let mut segments = Segment::list(directory)?;
    let mut last = Last::new(count);
    let (mut open, mut current) = (None, None);
    for segment in segments.split_off(enough(&segments, count)?) {
        let mut lines = segment.lines()?;
        let mut sink = Sink { out: &mut io::sink(), as_json, last: Some(last) };
        drain(&mut lines, &mut sink)?;
        last = sink.last.take().unwrap_or_else(|| Last::new(count));
        (open, current) = (Some(lines), Some(segment));
    }
    let mut sink = Sink { out, as_json, last: None };
    for line in &last.lines {
        if !sink.write(line)? {
            return Ok(());
        }
    }
    if sink.flush()? && follow {
        follow_on(directory, open, current, &mut sink)?;
    }
    Ok(())
}

/// The first of the last segments that hold `count` records for people; the journal's own records are few.
fn enough(segments: &[Segment], count: usize) -> Result<usize, String> {
    let mut records = 0;
    for (index, segment) in segments.iter().enumerate().rev() {
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            let shown = |line: &[u8]| super::record::Line::parse(line).is_some_and(|line| line.is_shown());
            records += usize::from(bytes.whole().is_some_and(shown));
        }
        if records >= count {
            return Ok(index);
        }
    }
    Ok(0)
}

/// False if nobody reads any more.
fn drain(lines: &mut Lines, sink: &mut Sink<'_>) -> Result<bool, String> {
    while let Some(bytes) = lines.next_whole()? {
        let Ok(line) = std::str::from_utf8(bytes) else { continue };
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        if !sink.put(line, &record)? {
            return Ok(false);
        }
    }
    sink.flush()
}

fn follow_on(
    directory: &Path,
    mut open: Option<Lines>,
    mut current: Option<Segment>,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    loop {
        // Looked for before draining: once there is a next segment, nothing is added to this one.
        let next =
            Segment::list(directory)?.into_iter().find(|segment| current.as_ref().is_none_or(|now| segment > now));
        if let Some(lines) = &mut open
            && !drain(lines, sink)?
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
    last: Option<Last>,
}

/// The last so many lines.
struct Last {
    lines: VecDeque<String>,
    limit: usize,
}

impl Last {
    fn new(limit: usize) -> Self {
        Self { lines: VecDeque::new(), limit }
    }

    fn put(&mut self, line: String) {
        self.lines.push_back(line);
        if self.lines.len() > self.limit {
            self.lines.pop_front();
        }
    }
}

impl Sink<'_> {
    /// False if nobody reads any more.
    fn put(&mut self, line: &str, record: &Value) -> Result<bool, String> {
        let Some(text) = (if self.as_json { Some(line.to_owned()) } else { show::line(record) }) else {
            return Ok(true);
        };
        match &mut self.last {
            Some(last) => {
                last.put(text);
                Ok(true)
            }
            None => self.write(&text),
        }
    }

    fn write(&mut self, line: &str) -> Result<bool, String> {
        pipe(writeln!(self.out, "{line}"))
    }

    fn flush(&mut self) -> Result<bool, String> {
        pipe(self.out.flush())
    }
}
