//! Reads the journal from a cursor on, never further than it is on disk for good.

use super::{
    super::segment::{Reached, Segment},
    batch::Record,
    cursor::Cursor,
};
use crate::text::{hex, sha256};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Records that are sent at once, at most.
const MOST: usize = 2000;

/// Reads on where it stopped. It blocks.
pub(super) struct Reader {
    directory: PathBuf,
    open: Option<Open>,
    node: Arc<str>,
}

/// The file that is read.
struct Open {
    segment: Segment,
    name: Arc<str>,
    file: File,
    /// The next byte.
    offset: u64,
}

/// What was read at once.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    /// What stands in the journal and is no record, with its place: damage that `audit verify` names too.
    pub(super) unreadable: Vec<String>,
}

impl Reader {
    /// Goes on behind `cursor`; without one, at the oldest record. The second value says why that had to be so although there
    /// is a cursor.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn open(directory: &Path, cursor: Option<&Cursor>) -> Result<(Self, Option<String>), String> {
        let mut reader = Self { directory: directory.to_owned(), open: None, node: "".into() };
        let Some(cursor) = cursor else { return Ok((reader, None)) };
        match reader.after(cursor)? {
            Ok(open) => {
                reader.open = Some(open);
                Ok((reader, None))
            }
            Err(why) => Ok((reader, Some(why))),
        }
    }

    /// The segment that is read, and where the next record begins.
    pub(super) fn place(&self) -> Option<(Segment, u64)> {
        self.open.as_ref().map(|open| (open.segment.clone(), open.offset))
    }

    /// Where the record behind `cursor` stands, or why that cannot be told.
    fn after(&self, cursor: &Cursor) -> Result<Result<Open, String>, String> {
        let segments = Segment::list(&self.directory)?;
        if let Some(segment) = segments.iter().find(|segment| segment.name() == cursor.segment) {
            let mut open = Open::new(segment.clone())?;
            open.offset = cursor.offset;
            let line = open.line(open.length()?)?;
            return Ok(match line {
                Some(line) if hex(&sha256(&line)) == cursor.hash => {
                    open.offset += line.len() as u64 + 1;
                    Ok(open)
                }
                Some(_) | None => Err(format!("`{}` has another record at its place", cursor.segment)),
            });
        }
        // its segment may have been deleted since: then the next one continues it
        let next = segments.into_iter().find(|it| (it.epoch, it.first) == (cursor.epoch, cursor.seq + 1));
        let Some(segment) = next else { return Ok(Err(format!("there is no `{}` any more", cursor.segment))) };
        let mut open = Open::new(segment)?;
        let line = open.line(open.length()?)?.unwrap_or_default();
        let continues = super::super::record::Line::parse(&line)
            .is_some_and(|line| line.node == cursor.node && line.continues(&cursor.hash));
        open.offset = 0;
        Ok(if continues { Ok(open) } else { Err(format!("`{}` does not continue it", open.name)) })
    }

    /// The next records, of `bytes` together, but at least one if there is one.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn read(&mut self, reached: Reached, bytes: u64) -> Result<Found, String> {
        let mut found = Found::default();
        loop {
            let Some(open) = &mut self.open else {
                match self.next(reached, None)? {
                    Some(first) => self.open = Some(first),
                    None => return Ok(found),
                }
                continue;
            };
            let here = (open.segment.epoch, open.segment.first);
            let last = (reached.epoch, reached.segment);
            let end = if here < last { open.length()? } else { reached.bytes };
            if here > last {
                return Ok(found);
            }
            open.read(end, bytes, &mut self.node, &mut found, here < last)?;
            if !found.records.is_empty() || here == last {
                return Ok(found);
            }
            let next = self.open.as_ref().map(|open| open.segment.clone());
            match self.next(reached, next.as_ref())? {
                Some(next) => self.open = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// The segment after `now`, if something in it is on disk.
    fn next(&self, reached: Reached, now: Option<&Segment>) -> Result<Option<Open>, String> {
        let there =
            |it: &Segment| now.is_none_or(|now| it > now) && (it.epoch, it.first) <= (reached.epoch, reached.segment);
        Segment::list(&self.directory)?.into_iter().find(there).map(Open::new).transpose()
    }
}

impl Open {
    fn new(segment: Segment) -> Result<Self, String> {
        let file =
            File::open(&segment.path).map_err(|error| format!("cannot read `{}`: {error}", segment.path.display()))?;
        Ok(Self { name: segment.name().into(), segment, file, offset: 0 })
    }

    fn fail(&self, error: &io::Error) -> String {
        format!("cannot read `{}`: {error}", self.segment.path.display())
    }

    fn length(&self) -> Result<u64, String> {
        self.file.metadata().map(|about| about.len()).map_err(|error| self.fail(&error))
    }

    /// The line that begins here, without its line feed; `None` if there is none before `end`.
    fn line(&self, end: u64) -> Result<Option<Vec<u8>>, String> {
        let bytes = self.some(end, 1 << 14)?;
        let feed = bytes.iter().position(|byte| *byte == b'\n');
        Ok(feed.map(|feed| bytes[..feed].to_vec()))
    }

    /// Up to `most` bytes from here on and before `end`, and more if that is needed for one whole line.
    fn some(&self, end: u64, most: u64) -> Result<Vec<u8>, String> {
        let rest = end.saturating_sub(self.offset);
        let (mut bytes, mut size) = (Vec::new(), most.max(1));
        loop {
            let wanted = usize::try_from(size.min(rest)).unwrap_or(usize::MAX);
            let there = bytes.len();
            bytes.resize(wanted, 0);
            let read = self.file.read_exact_at(&mut bytes[there..], self.offset + there as u64);
            read.map_err(|error| self.fail(&error))?;
            if size >= rest || bytes[there..].contains(&b'\n') {
                return Ok(bytes);
            }
            size *= 4;
        }
    }

    /// Reads whole lines before `end`. What is left of a `closed` file without a line feed is no record.
    fn read(
        &mut self,
        end: u64,
        most: u64,
        node: &mut Arc<str>,
        found: &mut Found,
        closed: bool,
    ) -> Result<(), String> {
        let bytes = self.some(end, most)?;
        let (whole, rest) = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(feed) => bytes.split_at(feed + 1),
            None => bytes.split_at(0),
        };
        for line in whole.split_inclusive(|byte| *byte == b'\n').take(MOST) {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            match Record::read(text, node, &self.name, self.offset) {
                Some(record) => found.records.push(record),
                None => found.unreadable.push(format!("{}, byte {}", self.name, self.offset)),
            }
            self.offset += line.len() as u64;
        }
        if whole.is_empty() && !rest.is_empty() && closed {
            found.unreadable.push(format!("{}, byte {}", self.name, self.offset));
            self.offset += rest.len() as u64;
        }
        Ok(())
    }
}
