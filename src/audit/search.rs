//! Finds records in the journal, and follows it.

use super::{
    json,
    segment::{Lines, Segment},
    show::{self, text},
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

/// What to look for; everything that is given must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Query {
    /// A person's subject, login, or `provider:subject`.
    pub user: Option<String>,
    /// What the path begins with.
    pub path: Option<String>,
    /// The route's name.
    pub route: Option<String>,
    /// What was decided.
    pub verdict: Option<Verdict>,
    /// The `@id` of a policy that decided.
    pub policy: Option<String>,
    /// The request id.
    pub request: Option<String>,
    /// Only what the shadow policies would have decided otherwise.
    pub differs: bool,
    /// Not before, in milliseconds since 1970.
    pub since: Option<u64>,
    /// Before, in milliseconds since 1970.
    pub until: Option<u64>,
    /// Only the last so many.
    pub limit: Option<usize>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The request was allowed.
    Allowed,
    /// The request was denied.
    Denied,
    /// What a line says of it, such as `Blocked`.
    Said(&'static str),
}

impl Query {
    fn matches(&self, event: &Value) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let time = event["time"].as_u64().unwrap_or_default();
        self.since.is_none_or(|since| time >= since)
            && self.until.is_none_or(|until| time < until)
            && is(&self.route, text(event, &["unmapped", "route"]))
            && is(&self.request, text(event, &["metadata", "correlation_uid"]))
            && (!self.differs || !text(event, &["unmapped", "shadow", "differs"]).is_empty())
            && self.path.as_deref().is_none_or(|path| text(event, &["http_request", "url", "path"]).starts_with(path))
            && self.policy.as_deref().is_none_or(|policy| show::policies(event).any(|id| id == policy))
            && self.verdict.is_none_or(|verdict| verdict.matches(event))
            && self.user.as_deref().is_none_or(|user| names(show::user(event), user))
    }

    /// Texts that every line that matches holds, as they are written there: most lines need not be parsed.
    fn needles(&self) -> Vec<String> {
        let exact = [&self.route, &self.policy, &self.request].into_iter().flatten().map(|text| written(text));
        let path = self.path.iter().map(|path| written(path).trim_end_matches('"').to_owned());
        exact.chain(path).chain(self.differs.then(|| "\"differs\":".to_owned())).collect()
    }
}

/// As a JSON string in the journal.
fn written(text: &str) -> String {
    let mut bytes = Vec::new();
    json::write(&text, &mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn names(user: &Value, wanted: &str) -> bool {
    ["uid", "uid_alt", "name"].iter().any(|key| user[*key] == wanted)
}

impl Verdict {
    fn matches(self, event: &Value) -> bool {
        match self {
            Self::Allowed => event["action_id"] == 1,
            Self::Denied => event["action_id"] == 2,
            Self::Said(disposition) => event["disposition"] == disposition,
        }
    }
}

/// Writes the records that match to `out`, the newest last: as lines for people, or as they stand in the journal. Returns how
/// many there are.
///
/// # Errors
/// If the journal cannot be read or `out` not be written. A closed pipe is none.
pub fn search(directory: &Path, query: &Query, as_json: bool, out: &mut dyn Write) -> Result<u64, String> {
    let mut sink = Sink { out, as_json, last: query.limit.map(Last::new), found: 0 };
    let needles = query.needles();
    let segments = Segment::list(directory)?;
    for (index, segment) in segments.iter().enumerate() {
        if too_old(segments.get(index + 1), query)? {
            continue;
        }
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            let Some(line) = bytes.whole().and_then(|bytes| std::str::from_utf8(bytes).ok()) else { continue };
            if !needles.iter().all(|needle| line.contains(needle)) {
                continue;
            }
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            if record["kind"] == "event" && query.matches(&record["event"]) && sink.put(line, &record)?.is_closed() {
                return Ok(sink.found);
            }
        }
    }
    sink.finish()
}

/// All records of a segment are older than the opening of the next.
fn too_old(next: Option<&Segment>, query: &Query) -> Result<bool, String> {
    let (Some(next), Some(since)) = (next, query.since) else { return Ok(false) };
    Ok(next.opening()?.is_some_and(|opening| opening.time < since))
}

/// Where results go.
struct Sink<'a> {
    out: &'a mut dyn Write,
    as_json: bool,
    last: Option<Last>,
    found: u64,
}

/// The last so many lines.
struct Last {
    lines: VecDeque<String>,
    limit: usize,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Pipe {
    Open,
    Closed,
}

impl Pipe {
    fn is_closed(self) -> bool {
        self == Self::Closed
    }
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
    fn put(&mut self, line: &str, record: &Value) -> Result<Pipe, String> {
        let Some(text) = (if self.as_json { Some(line.to_owned()) } else { show::line(record) }) else {
            return Ok(Pipe::Open);
        };
        self.found += 1;
        match &mut self.last {
            Some(last) => {
                last.put(text);
                Ok(Pipe::Open)
            }
            None => self.write(&text),
        }
    }

    fn finish(mut self) -> Result<u64, String> {
        for line in self.last.take().into_iter().flat_map(|last| last.lines) {
            if self.write(&line)?.is_closed() {
                break;
            }
        }
        self.flush()?;
        Ok(self.found)
    }

    fn write(&mut self, line: &str) -> Result<Pipe, String> {
        pipe(writeln!(self.out, "{line}"))
    }

    fn flush(&mut self) -> Result<Pipe, String> {
        pipe(self.out.flush())
    }
}

fn pipe(result: io::Result<()>) -> Result<Pipe, String> {
    match result {
        Ok(()) => Ok(Pipe::Open),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Pipe::Closed),
        Err(error) => Err(format!("cannot write the result: {error}")),
    }
}

/// Writes the last `count` records to `out`, and with `follow` all that come, across segments, until `out` is closed.
///
/// # Errors
/// As [`search`].
pub fn tail(directory: &Path, count: usize, follow: bool, as_json: bool, out: &mut dyn Write) -> Result<(), String> {
    let mut segments = Segment::list(directory)?;
    let mut last = Last::new(count);
    let (mut open, mut current) = (None, None);
    for segment in segments.split_off(enough(&segments, count)?) {
        let mut lines = segment.lines()?;
        let mut sink = Sink { out: &mut io::sink(), as_json, last: Some(last), found: 0 };
        drain(&mut lines, &mut sink)?;
        last = sink.last.take().unwrap_or_else(|| Last::new(count));
        (open, current) = (Some(lines), Some(segment));
    }
    let mut sink = Sink { out, as_json, last: None, found: 0 };
    for line in &last.lines {
        if sink.write(line)?.is_closed() {
            return Ok(());
        }
    }
    if !sink.flush()?.is_closed() && follow {
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

fn drain(lines: &mut Lines, sink: &mut Sink<'_>) -> Result<Pipe, String> {
    while let Some(bytes) = lines.next_whole()? {
        let Ok(line) = std::str::from_utf8(bytes) else { continue };
        let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
        if sink.put(line, &record)?.is_closed() {
            return Ok(Pipe::Closed);
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
            && drain(lines, sink)?.is_closed()
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
