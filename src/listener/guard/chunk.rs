//! The lines of a chunked body (RFC 9112, section 7.1), in one reading only.

use super::{Fault, Limits, scan};
use memchr::memchr;
use std::time::Instant;

/// A chunk's first line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct ChunkLine {
    /// Its bytes, CRLF included.
    pub(super) length: usize,
    /// The bytes of data that follow; 0 ends the body.
    pub(super) size: u64,
}

/// The most digits of a chunk size: up to 4 GiB, far from any overflow.
const DIGITS: usize = 8;

/// Reads a chunk's first line: one to eight hex digits and CRLF; no extension, no blanks. `None`: it is not complete yet.
///
/// # Errors
/// [`Fault::ChunkSize`].
pub(super) fn chunk_line(bytes: &[u8]) -> Result<Option<ChunkLine>, Fault> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate() {
        match (char::from(*byte).to_digit(16), byte) {
            (Some(digit), _) if at < DIGITS => size = size << 4 | u64::from(digit),
            (None, b'\r') if at > 0 => {
                return match bytes.get(at + 1) {
                    Some(b'\n') => Ok(Some(ChunkLine { length: at + 2, size })),
                    Some(_) => Err(Fault::ChunkSize),
                    None => Ok(None),
                };
            }
            _ => return Err(Fault::ChunkSize),
        }
    }
    Ok(None)
}

/// The end of a body: its last chunk, the trailer section and the empty line. Goes on where the last read stopped.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    line: usize,
    searched: usize,
    lines: usize,
}

impl Trailers {
    /// Reads on in `bytes`, which begin with the last chunk's line, and tells where the body ends. `None`: not yet.
    ///
    /// # Errors
    /// [`Fault::Trailer`] and [`Fault::TrailerTooLarge`].
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<usize>, Fault> {
        let window = &bytes[..bytes.len().min(limits.trailer)];
        while let Some(found) = memchr(b'\n', &window[self.searched..]) {
            let end = self.searched + found;
            let line = window[self.line..end].strip_suffix(b"\r").ok_or(Fault::Trailer)?;
            (self.line, self.searched) = (end + 1, end + 1);
            self.lines += 1;
            if line.is_empty() {
                return Ok(Some(end + 1));
            }
            if self.lines > 1 {
                scan::field(line).map_err(|_| Fault::Trailer)?;
            }
            if controls(line) > 0 {
                return Err(Fault::Trailer);
            }
            if self.lines - 1 > limits.fields {
                return Err(Fault::TrailerTooLarge);
            }
        }
        self.searched = window.len();
        match window.len() == limits.trailer {
            true => Err(Fault::TrailerTooLarge),
            false => Ok(None),
        }
    }
}

/// What the framing of a body costs against what it carries.
///
/// A byte in a chunk of its own costs a hundred times what it costs in a large one, so framing has a budget: 64 KiB for every
/// body, which lets short ones come byte by byte; half a byte for each byte of data, which writes of ten bytes and more
/// never exceed; and 1 KiB a second, so that a stream of keystrokes can go on for days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overhead {
    data: u64,
    framing: u64,
    since: Instant,
}

const OVERHEAD_FREE: u64 = 64 * 1024;
const OVERHEAD_PER_SECOND: u64 = 1024;

impl Overhead {
    /// The budget of a body that begins at `since`.
    pub(super) fn new(since: Instant) -> Self {
        Self { data: 0, framing: 0, since }
    }

    /// Counts a chunk. The clock is asked only where the other budgets are used up.
    ///
    /// # Errors
    /// [`Fault::ChunkOverhead`].
    pub(super) fn spend(&mut self, line: ChunkLine, now: impl FnOnce() -> Instant) -> Result<(), Fault> {
        self.framing += line.length as u64 + 2;
        self.data += line.size;
        let over = self.framing.saturating_sub(OVERHEAD_FREE + self.data / 2);
        match over == 0 || over <= OVERHEAD_PER_SECOND * now().saturating_duration_since(self.since).as_secs() {
            true => Ok(()),
            false => Err(Fault::ChunkOverhead),
        }
    }
}

/// How many control characters but HTAB there are. Blocks, because their sum fits a byte, and the compiler makes vectors of it.
pub(super) fn controls(bytes: &[u8]) -> usize {
    bytes
        .chunks(128)
        .map(|block| {
            usize::from(block.iter().map(|byte| u8::from(byte.is_ascii_control() && *byte != b'\t')).sum::<u8>())
        })
        .sum()
}
