//! Makes the index of a segment.

use super::{Block, FEW, FORMAT, Head, ID, Index, MAGIC, ODD, PREAMBLE, Place, Stamp, path, term};
use crate::audit::{
    record::hash,
    segment::Segment,
    told::{Field, Told},
};
use roaring::RoaringBitmap;
use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt, fchown},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

/// A block is closed at this size.
const BLOCK: usize = 32 << 10;

/// What is known of a segment's records so far.
#[derive(Default)]
struct Draft {
    terms: HashMap<String, Vec<u32>>,
    /// The first 64 bits of request ids, and the records that have them: most terms are such.
    requests: Vec<(u64, u32)>,
    lengths: Vec<u8>,
    records: u32,
    events: Option<(u64, u64)>,
    others: Option<(u64, u64)>,
}

/// Reads the segment and makes its index. Of the same segment it is the same each time. `None` if the segment has no whole last line, or
/// more and longer lines than an index can have.
///
/// # Errors
/// If it cannot be read.
pub(in crate::audit) fn build(segment: &Segment) -> Result<Option<Vec<u8>>, String> {
    let fail = |error: io::Error| format!("cannot read `{}`: {error}", segment.path.display());
    let Some(stamp) = Stamp::of(segment).map_err(fail)? else { return Ok(None) };
    let (mut lines, mut draft) = (segment.lines()?, Draft::default());
    while let Some(bytes) = lines.next()? {
        let (Some(line), Ok(length)) = (bytes.whole(), u32::try_from(bytes.len())) else { return Ok(None) };
        if draft.records == u32::MAX {
            return Ok(None);
        }
        draft.add(line, length);
    }
    Ok(draft.finish(segment, stamp))
}

impl Draft {
    fn add(&mut self, line: &[u8], length: u32) {
        let number = self.records;
        self.records += 1;
        self.lengths.extend_from_slice(&length.to_le_bytes());
        let Some(told) = Told::read(line) else { return self.put(ODD, number) };
        if let Some((first, last)) = told.span() {
            let span = if told.event.is_some() { &mut self.events } else { &mut self.others };
            let (from, to) = span.unwrap_or((first, last));
            *span = Some((from.min(first), to.max(last)));
        }
        told.terms(&mut |field, text| match id(field, text) {
            Some(id) => self.requests.push((id, number)),
            None => self.put(&term(field, text), number),
        });
    }

    fn put(&mut self, term: &str, number: u32) {
        match self.terms.get_mut(term) {
            Some(numbers) if numbers.last() == Some(&number) => {}
            Some(numbers) => numbers.push(number),
            None => drop(self.terms.insert(term.to_owned(), vec![number])),
        }
    }

    fn finish(mut self, segment: &Segment, stamp: Stamp) -> Option<Vec<u8>> {
        let mut body = Body::default();
        let mut terms: Vec<_> = std::mem::take(&mut self.terms).into_iter().collect();
        terms.sort_unstable();
        let mut terms = terms.into_iter().peekable();
        self.requests.sort_unstable();
        for same in self.requests.chunk_by(|one, other| one.0 == other.0) {
            let key = term(Field::Request, &format!("{:016x}", same[0].0));
            while let Some((term, numbers)) = terms.next_if(|(term, _)| *term < key) {
                body.put(&term, &numbers)?;
            }
            body.put(&key, &same.iter().map(|(_, number)| *number).collect::<Vec<_>>())?;
        }
        for (term, numbers) in terms {
            body.put(&term, &numbers)?;
        }
        body.close()?;
        let lengths = body.append(&self.lengths)?;
        let Self { records, events, others, .. } = self;
        let head = Head {
            format: FORMAT,
            segment: segment.name().to_owned(),
            stamp,
            records,
            events,
            others,
            lengths,
            blocks: body.blocks,
        };
        assemble(head, &body.bytes)
    }
}

/// The first bits of a request id of ours; such a one is a term by itself.
fn id(field: Field, text: &str) -> Option<u64> {
    let start = text.get(..ID).filter(|_| field == Field::Request)?;
    let ours = start.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u64::from_str_radix(start, 16).ok())?
}

/// Everything behind the head.
#[derive(Default)]
struct Body {
    bytes: Vec<u8>,
    blocks: Vec<Block>,
    open: Vec<u8>,
    first: String,
}

impl Body {
    fn put(&mut self, term: &str, numbers: &[u32]) -> Option<()> {
        if self.open.is_empty() {
            term.clone_into(&mut self.first);
        }
        self.open.push(u8::try_from(term.len()).ok()?);
        self.open.extend_from_slice(term.as_bytes());
        if numbers.len() <= FEW {
            self.open.push(u8::try_from(numbers.len()).ok()?);
            numbers.iter().for_each(|number| self.open.extend_from_slice(&number.to_le_bytes()));
        } else {
            let bitmap = RoaringBitmap::from_sorted_iter(numbers.iter().copied()).ok()?;
            self.open.push(0);
            self.open.extend_from_slice(&u32::try_from(bitmap.serialized_size()).ok()?.to_le_bytes());
            bitmap.serialize_into(&mut self.open).ok()?;
        }
        if self.open.len() >= BLOCK { self.close() } else { Some(()) }
    }

    fn close(&mut self) -> Option<()> {
        if !self.open.is_empty() {
            let open = std::mem::take(&mut self.open);
            let place = self.append(&open)?;
            self.blocks.push(Block { first: std::mem::take(&mut self.first), place });
        }
        Some(())
    }

    fn append(&mut self, part: &[u8]) -> Option<Place> {
        let place = Place { at: self.bytes.len() as u64, bytes: u32::try_from(part.len()).ok()?, sha256: hash(part) };
        self.bytes.extend_from_slice(part);
        Some(place)
    }
}

/// Head and body in one: places are counted from the end of the head.
fn assemble(head: Head, body: &[u8]) -> Option<Vec<u8>> {
    let head = serde_json::to_vec(&head).ok()?;
    let mut file = Vec::with_capacity(PREAMBLE + head.len() + body.len());
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&u32::try_from(head.len()).ok()?.to_le_bytes());
    file.extend_from_slice(&hash(&head));
    file.extend_from_slice(&head);
    file.extend_from_slice(body);
    Some(file)
}

/// Writes the index of a segment beside it: whole, or not at all. It belongs to whom the segment belongs to, as far as we may give it away.
///
/// # Errors
/// As the kernel says.
fn store(segment: &Segment, index: &[u8]) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let draft = format!(".{}.idx.{}.{}", segment.name(), std::process::id(), NEXT.fetch_add(1, Relaxed));
    let draft = segment.path.with_file_name(draft);
    let write = || {
        let of = segment.path.metadata()?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(of.mode() & 0o640).open(&draft)?;
        let _ = fchown(&file, Some(of.uid()), Some(of.gid())); // who may not, keeps it
        file.write_all(index)?;
        fs::rename(&draft, path(segment))
    };
    write().inspect_err(|_| drop(fs::remove_file(&draft)))
}

impl Index {
    /// The index of this segment: the one beside it, or a new one, which is put beside it where that is possible. `None` if it can have none.
    ///
    /// # Errors
    /// If the segment cannot be read.
    pub(in crate::audit) fn obtain(segment: &Segment) -> Result<Option<Self>, String> {
        if let Ok(index) = Self::open(segment) {
            return Ok(Some(index));
        }
        Self::renew(segment)
    }

    /// A new index of this segment, which is put beside it where that is possible. `None` if it can have none.
    ///
    /// # Errors
    /// If the segment cannot be read.
    pub(in crate::audit) fn renew(segment: &Segment) -> Result<Option<Self>, String> {
        let Some(bytes) = build(segment)? else { return Ok(None) };
        if let Err(error) = store(segment, &bytes) {
            tracing::debug!(segment = segment.name(), "no index is kept: {error}");
        }
        Ok(Self::of_bytes(bytes, segment).ok())
    }
}

/// An index of `innocent` that claims to be one of `segment`.
#[cfg(test)]
pub(in crate::audit) fn forged(segment: &Segment, innocent: &Segment) -> Vec<u8> {
    let (mut lines, mut draft) = (innocent.lines().expect("opened"), Draft::default());
    while let Some(bytes) = lines.next().expect("read") {
        draft.add(bytes.whole().expect("a line"), u32::try_from(bytes.len()).expect("is short"));
    }
    draft.finish(segment, Stamp::of(segment).expect("read").expect("whole")).expect("an index")
}
