//! What the end of a journal looks like when it is opened.
//!
//! A process that dies while it writes leaves a torn last record: that is cut off, and the chain goes on. Everything else is
//! damage that is left as it was found: the journal goes on in a new epoch, and `audit verify` names what is wrong in the old.
//! Only the end is looked at, and by `trust` the segment with the last signed head, so that a start costs the same whatever the
//! size of the journal.

use super::{
    key::PublicKey,
    record::{Chain, Kind, Line, hash},
    segment::{LONGEST, Segment},
};
use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

/// How much of the end is looked at, at first; more if that holds no whole line.
const WINDOW: u64 = 1 << 18;

/// The end of a journal.
#[derive(Debug)]
pub(super) enum End {
    /// There is no journal yet; perhaps files without a whole line, which go.
    None {
        /// Files to remove.
        empty: Vec<Segment>,
        /// How many bytes stand in them, if any, and their SHA-256.
        torn: Option<(u64, String)>,
    },
    /// It can be continued.
    Whole(Tail),
    /// It cannot.
    Damaged {
        /// The last epoch.
        epoch: u32,
        /// The segment's file name.
        segment: String,
        /// What is wrong.
        damage: String,
    },
}

/// Where to go on.
#[derive(Debug)]
pub(super) struct Tail {
    /// The segment to write to.
    pub(super) segment: Segment,
    /// Bytes of whole records in it.
    pub(super) length: u64,
    /// What the next record continues.
    pub(super) chain: Chain,
    /// The last head of ours among the last records.
    pub(super) head: Option<u64>,
    /// The process before closed the journal, and signed that.
    pub(super) closed: bool,
    /// Bytes to cut off, if any, and their SHA-256.
    pub(super) torn: Option<(u64, String)>,
    /// Later files without a whole line, which go.
    pub(super) empty: Vec<Segment>,
}

/// Looks at the end of the journal of these segments; heads are ours if they are signed with this key.
///
/// # Errors
/// If it cannot be read, or has a format that this version does not know.
pub(super) fn inspect(mut segments: Vec<Segment>, key: &PublicKey) -> Result<End, String> {
    let (mut empty, mut torn) = (Vec::new(), None);
    while let Some(segment) = segments.pop() {
        let Some(window) =
            Window::read(&segment).map_err(|e| format!("cannot read `{}`: {e}", segment.path.display()))?
        else {
            torn = torn.or(bytes(&segment)?);
            empty.push(segment);
            continue;
        };
        let opening = segment.opening()?;
        return Ok(match window.chain(&segment, key).filter(|_| opening.is_some()) {
            Some(Whole { chain, head, closed, cut }) => {
                let length = window.end - cut.len() as u64;
                let torn = if cut.is_empty() { torn } else { Some((cut.len() as u64, crate::text::hex(&hash(cut)))) };
                End::Whole(Tail { segment, length, chain, head, closed, torn, empty })
            }
            None => End::Damaged {
                epoch: segment.epoch,
                segment: segment.name().to_owned(),
                damage: "the last records do not continue each other".to_owned(),
            },
        });
    }
    Ok(End::None { empty, torn })
}

/// The last whole line of a segment, without its line feed.
///
/// # Errors
/// If it cannot be read.
pub(super) fn last_line(segment: &Segment) -> Result<Option<Vec<u8>>, String> {
    let window = Window::read(segment).map_err(|error| format!("cannot read `{}`: {error}", segment.path.display()))?;
    let line = |window: &Window| {
        let feed = window.bytes.iter().rposition(|byte| *byte == b'\n')?;
        Some(window.bytes[..feed].rsplit(|byte| *byte == b'\n').next()?.to_vec())
    };
    Ok(window.as_ref().and_then(line))
}

/// Size and hash of what stands in a file without a whole line.
fn bytes(segment: &Segment) -> Result<Option<(u64, String)>, String> {
    let bytes =
        std::fs::read(&segment.path).map_err(|error| format!("cannot read `{}`: {error}", segment.path.display()))?;
    Ok((!bytes.is_empty()).then(|| (bytes.len() as u64, crate::text::hex(&hash(&bytes)))))
}

/// The last bytes of a file, from the beginning of a line.
struct Window {
    bytes: Vec<u8>,
    end: u64,
}

/// What the whole lines of a window lead to.
struct Whole<'a> {
    chain: Chain,
    /// The last of them that is a head of ours.
    head: Option<u64>,
    /// They end in the record that closes the journal, and heads, of which the last is ours.
    closed: bool,
    /// What has to be cut off behind them.
    cut: &'a [u8],
}

impl Window {
    /// `None` if there is no whole line. No more is read than the longest line may have: behind that is damage.
    fn read(segment: &Segment) -> io::Result<Option<Self>> {
        let mut file = File::open(&segment.path)?;
        let end = file.metadata()?.len();
        let mut size = WINDOW;
        loop {
            let start = end.saturating_sub(size);
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(start))?;
            file.by_ref().take(end - start).read_to_end(&mut bytes)?;
            let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
            if start > 0 && feeds < 3 && size < LONGEST {
                size *= 4;
                continue;
            }
            if start > 0 {
                let first = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                bytes.drain(..first);
            }
            return Ok((feeds > 0 || start > 0).then_some(Self { bytes, end }));
        }
    }

    /// What the whole lines lead to, if they continue each other.
    fn chain(&self, segment: &Segment, key: &PublicKey) -> Option<Whole<'_>> {
        let feed = self.bytes.iter().rposition(|byte| *byte == b'\n')?;
        let (whole, mut cut) = self.bytes.split_at(feed + 1);
        let mut lines: Vec<&[u8]> = whole[..feed].split(|byte| *byte == b'\n').collect();
        if cut.is_empty() && lines.len() > 1 && lines.last().is_some_and(|last| Line::parse(last).is_none()) {
            let last = lines.pop()?;
            cut = &self.bytes[feed - last.len()..];
        }
        let (mut end, mut head, mut closing): (Option<Chain>, _, bool) = (None, None, false);
        for bytes in lines {
            let line = Line::parse(bytes).filter(|line| line.epoch == segment.epoch)?;
            if let Some(chain) = &end {
                let continues = line.seq == chain.next && line.follows(&chain.prev) && line.node == chain.node;
                continues.then_some(())?;
            }
            let chain = Chain { node: line.node.to_owned(), epoch: line.epoch, next: line.seq + 1, prev: hash(bytes) };
            closing = line.kind == Kind::Close || closing && line.kind == Kind::Head;
            head = line.signed(bytes, key).map(|_| line.seq).or(head);
            end = Some(chain);
        }
        end.map(|chain| {
            let closed = closing && head == Some(chain.next - 1);
            Whole { chain, head, closed, cut }
        })
    }
}
