//! An index beside each closed segment, so that a search reads few lines of many.
//!
//! `<epoch>-<first record>.idx` stands beside the segment of that name. It is a hint and never a proof: what it leads to is read
//! from the segment and compared in full. It is taken only if it is of this format, belongs to who owns the segment, and was made of
//! a segment of this length with these first and last lines; the last line carries the hashes of all before it. Each part
//! that is read has a SHA-256. Whatever does not fit is made anew.
//!
//! A file has a head, blocks of terms in order, each with the numbers of its records, and the lengths of the lines.

mod build;
mod keeper;

pub(super) use build::build;
#[cfg(test)]
pub(super) use build::forged;
pub(super) use keeper::Keeper;

use super::{
    query::{Beside, Condition, Wanted},
    record::{Hash, hash},
    segment::Segment,
    told::{About, Field},
};
use roaring::RoaringBitmap;
use rustix::{fs::OFlags, process::geteuid};
use serde::{Deserialize, Serialize};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

/// Of this format are files that this version takes: another one whenever terms or layout change.
const FORMAT: u32 = 3;
/// What a file begins with: this, the length of the head in 4 bytes, and its SHA-256.
const MAGIC: &[u8; 8] = b"VSTBIDX\n";
const PREAMBLE: usize = MAGIC.len() + 4 + 32;
/// Terms are cut to so many bytes: the index then leads to more than what is wanted, never to less.
const TERM: usize = 120;
/// The same for request ids, which are random.
const ID: usize = 16;
/// A head longer than this is none.
const LONGEST_HEAD: u32 = 1 << 28;
/// The term of lines that cannot be read, which are looked at in any case.
const ODD: &str = "?";

/// Why an index is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Another version of this program wrote it.
    #[error("is of another format")]
    Other,
    #[error("{0}")]
    Wrong(&'static str),
}

/// The head of a file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    segment: String,
    stamp: Stamp,
    /// How many lines there are.
    records: u32,
    /// The first and the last moment of any event, in milliseconds since 1970, if there is one.
    events: Option<(u64, u64)>,
    /// The same of all other records.
    others: Option<(u64, u64)>,
    /// Where the lengths of the lines are, 4 bytes each, line feeds counted.
    lengths: Place,
    blocks: Vec<Block>,
}

/// What a segment is known by.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Stamp {
    bytes: u64,
    first: Hash,
    last: Hash,
}

#[derive(Debug, Deserialize, Serialize)]
struct Place {
    at: u64,
    bytes: u32,
    sha256: Hash,
}

/// Some of the terms, in order.
#[derive(Debug, Deserialize, Serialize)]
struct Block {
    first: String,
    place: Place,
}

/// An index that fits its segment.
pub(super) struct Index {
    source: Source,
    head: Head,
    /// Where the head ends; places are counted from there.
    base: u64,
}

enum Source {
    File(File),
    Memory(Vec<u8>),
}

impl Source {
    fn read(&self, at: u64, bytes: u32) -> Result<Vec<u8>, Unfit> {
        match self {
            Self::File(file) => {
                if at.checked_add(u64::from(bytes)).is_none_or(|end| end > file.metadata().map_or(0, |it| it.len())) {
                    return Err(Unfit::Wrong("is cut off"));
                }
                let mut read = vec![0; bytes as usize];
                file.read_exact_at(&mut read, at)?;
                Ok(read)
            }
            Self::Memory(all) => {
                let at = usize::try_from(at).map_err(|_| Unfit::Wrong("is cut off"))?;
                let part = all.get(at..).and_then(|rest| rest.get(..bytes as usize));
                part.map(<[u8]>::to_vec).ok_or(Unfit::Wrong("is cut off"))
            }
        }
    }
}

impl Stamp {
    /// What the segment is known by; `None` if it does not end in a whole line.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn of(segment: &Segment) -> io::Result<Option<Self>> {
        let file = File::open(&segment.path)?;
        let bytes = file.metadata()?.len();
        let (Some(first), Some(last)) = (first_line(&file, bytes)?, last_line(&file, bytes)?) else { return Ok(None) };
        Ok(Some(Self { bytes, first, last }))
    }
}

fn first_line(file: &File, bytes: u64) -> io::Result<Option<Hash>> {
    let mut size = 1024;
    loop {
        let read = part(file, 0, size.min(bytes))?;
        match memchr::memchr(b'\n', &read) {
            Some(feed) => return Ok(Some(hash(&read[..feed]))),
            None if size >= bytes => return Ok(None),
            None => size *= 8,
        }
    }
}

fn last_line(file: &File, bytes: u64) -> io::Result<Option<Hash>> {
    let mut size = 4096;
    loop {
        let read = part(file, bytes.saturating_sub(size), size.min(bytes))?;
        let Some(whole) = read.strip_suffix(b"\n") else { return Ok(None) };
        match memchr::memrchr(b'\n', whole) {
            Some(feed) => return Ok(Some(hash(&whole[feed + 1..]))),
            None if size >= bytes => return Ok(Some(hash(whole))),
            None => size *= 8,
        }
    }
}

fn part(file: &File, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut read = vec![0; usize::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?];
    file.read_exact_at(&mut read, at)?;
    Ok(read)
}

/// Where the index of a segment is.
pub(super) fn path(segment: &Segment) -> PathBuf {
    segment.path.with_extension("idx")
}

impl Index {
    /// The index of this segment.
    ///
    /// # Errors
    /// Why it cannot be taken.
    pub(super) fn open(segment: &Segment) -> Result<Self, Unfit> {
        let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).map_err(|_| Unfit::Wrong("cannot be opened safely"))?;
        let file = OpenOptions::new().read(true).custom_flags(no_link).open(path(segment))?;
        let (own, of) = (file.metadata()?, segment.path.metadata()?);
        let owners = [of.uid(), geteuid().as_raw(), 0];
        if !own.is_file() || !owners.contains(&own.uid()) || own.mode() & 0o022 != 0 {
            return Err(Unfit::Wrong("can be written by others than the owner of the segment"));
        }
        Self::read(Source::File(file), segment)
    }

    /// An index that has just been built.
    ///
    /// # Errors
    /// If the segment has changed since.
    pub(super) fn of_bytes(bytes: Vec<u8>, segment: &Segment) -> Result<Self, Unfit> {
        Self::read(Source::Memory(bytes), segment)
    }

    fn read(source: Source, segment: &Segment) -> Result<Self, Unfit> {
        let preamble = source.read(0, PREAMBLE as u32)?;
        let (magic, rest) = preamble.split_at(MAGIC.len());
        let (length, sha256) = rest.split_at(4);
        let length = length.try_into().map_or(u32::MAX, u32::from_le_bytes);
        if magic != MAGIC || length > LONGEST_HEAD {
            return Err(Unfit::Wrong("is no index"));
        }
        let head = source.read(PREAMBLE as u64, length)?;
        if hash(&head) != sha256 {
            return Err(Unfit::Wrong("is corrupt"));
        }
        let head: Head = serde_json::from_slice(&head).map_err(|_| Unfit::Other)?;
        if head.format != FORMAT {
            return Err(Unfit::Other);
        }
        if head.segment != segment.name() || Stamp::of(segment)?.as_ref() != Some(&head.stamp) {
            return Err(Unfit::Wrong("is of another segment, or of an older state of this one"));
        }
        Ok(Self { source, head, base: PREAMBLE as u64 + u64::from(length) })
    }

    fn part(&self, place: &Place) -> Result<Vec<u8>, Unfit> {
        let at = self.base.checked_add(place.at).ok_or(Unfit::Wrong("is cut off"))?;
        let read = self.source.read(at, place.bytes)?;
        if hash(&read) == place.sha256 { Ok(read) } else { Err(Unfit::Wrong("is corrupt")) }
    }

    /// True if some record may match.
    pub(super) fn overlaps(&self, wanted: &Wanted) -> bool {
        let may = |span: Option<(u64, u64)>| span.is_some_and(|(from, to)| wanted.overlaps(from, to));
        may(self.head.events) || wanted.wants_own() && may(self.head.others)
    }

    /// How many lines there are.
    pub(super) fn records(&self) -> u32 {
        self.head.records
    }

    /// Place and length of each line that may match, line feeds counted; the oldest first. All others do not match.
    ///
    /// # Errors
    /// If a part that is needed is not as it was written.
    pub(super) fn find(&self, wanted: &Wanted) -> Result<Vec<(u64, u32)>, Unfit> {
        if !self.overlaps(wanted) {
            return self.places(&self.numbers(ODD, false)?);
        }
        let mut found: Option<RoaringBitmap> = None;
        for condition in wanted.conditions() {
            let numbers = self.numbers(&key(condition), condition.prefix)?;
            let all = found.map_or_else(|| numbers.clone(), |found| found & &numbers);
            let over = all.is_empty();
            found = Some(all);
            if over {
                break;
            }
        }
        let mut found = found.unwrap_or_else(|| (0..self.head.records).collect());
        found |= self.numbers(ODD, false)?;
        match wanted.beside() {
            Beside::Nothing => {}
            Beside::Gaps => {
                for about in [About::Gap, About::Recovery, About::Removal] {
                    found |= self.numbers(&term(Field::Kind, about.as_str()), false)?;
                }
            }
            Beside::All => found = (0..self.head.records).collect(),
        }
        self.places(&found)
    }

    /// The records with this term, or with any that begins so.
    fn numbers(&self, key: &str, prefix: bool) -> Result<RoaringBitmap, Unfit> {
        let start = self.head.blocks.partition_point(|block| *block.first <= *key).saturating_sub(1);
        let mut found = RoaringBitmap::new();
        for block in &self.head.blocks[start.min(self.head.blocks.len())..] {
            if *block.first > *key && !(prefix && block.first.starts_with(key)) {
                break;
            }
            let bytes = self.part(&block.place)?;
            let mut rest = Rest(&bytes);
            while !rest.0.is_empty() {
                let (term, numbers) = rest.entry()?;
                if term == key.as_bytes() || prefix && term.starts_with(key.as_bytes()) {
                    found |= numbers.read()?;
                }
            }
        }
        Ok(found)
    }

    fn places(&self, numbers: &RoaringBitmap) -> Result<Vec<(u64, u32)>, Unfit> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = self.part(&self.head.lengths)?;
        let lengths = bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
        let (mut at, mut places) = (0_u64, Vec::new());
        let mut numbers = numbers.iter().peekable();
        for (number, length) in (0_u32..).zip(lengths) {
            if numbers.next_if_eq(&number).is_some() {
                places.push((at, length));
            }
            at += u64::from(length);
        }
        match numbers.next() {
            None if at == self.head.stamp.bytes => Ok(places),
            _ => Err(Unfit::Wrong("is corrupt")),
        }
    }
}

/// A term as it stands in an index.
fn term(field: Field, text: &str) -> String {
    let length = if field == Field::Request { ID } else { TERM };
    format!("{}{}", field.letter(), super::json::clip(text, length))
}

fn key(condition: &Condition) -> String {
    term(condition.field, &condition.text)
}

/// What is not read yet of a block.
struct Rest<'a>(&'a [u8]);

/// Numbers of records as they are written.
enum Numbers<'a> {
    Few(&'a [u8]),
    Many(&'a [u8]),
}

/// How many numbers are written as they are.
const FEW: usize = 16;

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Unfit> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(Unfit::Wrong("is corrupt"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<usize, Unfit> {
        Ok(usize::from(self.take(1)?[0]))
    }

    fn entry(&mut self) -> Result<(&'a [u8], Numbers<'a>), Unfit> {
        let length = self.byte()?;
        let term = self.take(length)?;
        let numbers = match self.byte()? {
            0 => {
                let length = self.take(4)?.try_into().map_or(u32::MAX, u32::from_le_bytes);
                Numbers::Many(self.take(length as usize)?)
            }
            count => Numbers::Few(self.take(4 * count)?),
        };
        Ok((term, numbers))
    }
}

impl Numbers<'_> {
    fn read(self) -> Result<RoaringBitmap, Unfit> {
        match self {
            Self::Few(bytes) => Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()),
            Self::Many(bytes) => Ok(RoaringBitmap::deserialize_from(bytes)?),
        }
    }
}
