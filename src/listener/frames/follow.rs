//! Follows a client's HTTP/2 frames by their headers (RFC 9113, section 4.1).

use super::{
    FrameFault, Limits,
    budget::{Budget, Kind},
};
use crate::listener::guard::PREFACE;
use tokio::time::Instant;

/// The bytes of a frame's header.
pub(super) const HEADER: usize = 9;

/// Where in a connection the next byte stands.
#[derive(Debug)]
pub(super) struct Follow {
    /// What is left of the preface, or of the frame in hand.
    left: usize,
    /// Preface and first frame have been read.
    greeted: bool,
    /// A header block has begun and is not complete.
    block: Option<Block>,
    /// Names header blocks.
    blocks: u32,
    /// The first byte that comes is the pad length of a DATA frame of so many bytes.
    padded: Option<usize>,
    /// Found inside a frame, raised before the next.
    late: Option<FrameFault>,
    budget: Budget,
    limits: Limits,
}

/// A header block: HEADERS and what CONTINUATION frames it needs.
#[derive(Debug)]
struct Block {
    bytes: usize,
    continuations: usize,
    /// The frame in hand is its last.
    last: bool,
}

/// What is not complete, and what has to be waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Open {
    /// Nothing: the client may be silent.
    Nothing,
    /// The preface or the first frame.
    Greeting,
    /// A header block, by its number.
    Block(u32),
    /// Another frame.
    Frame,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 0x10;

const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

impl Follow {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            left: PREFACE.len(),
            greeted: false,
            block: None,
            blocks: 0,
            padded: None,
            late: None,
            budget: Budget::new(Instant::now()),
            limits,
        }
    }

    /// Follows `bytes` and returns how many of them may go on: all but the header of a frame that is not complete.
    ///
    /// # Errors
    /// The fault of the first bad frame, and where that frame begins.
    pub(super) fn follow(&mut self, bytes: &[u8]) -> Result<usize, (usize, FrameFault)> {
        let mut at = 0;
        loop {
            at += self.inside(&bytes[at..]);
            let Some(header) = bytes[at..].first_chunk::<HEADER>() else { return Ok(at) };
            self.frame(header).map_err(|fault| (at, fault))?;
            at += HEADER;
        }
    }

    /// Passes what belongs to the frame in hand; returns its bytes.
    fn inside(&mut self, bytes: &[u8]) -> usize {
        let length = self.left.min(bytes.len());
        if length > 0 {
            self.padding(bytes[0]);
            self.left -= length;
        }
        if self.left == 0 && self.block.as_ref().is_some_and(|block| block.last) {
            self.block = None;
        }
        length
    }

    /// A padded DATA frame may be all padding.
    fn padding(&mut self, first: u8) {
        if let Some(length) = self.padded.take()
            && usize::from(first) + 1 >= length
        {
            self.late = self.spend(Kind::EmptyData).err();
        }
    }

    /// Judges a frame by its header.
    ///
    /// # Errors
    /// Why it must not be passed on.
    pub(super) fn frame(&mut self, header: &[u8; HEADER]) -> Result<(), FrameFault> {
        if let Some(fault) = self.late {
            return Err(fault);
        }
        let [high, middle, low, kind, flags, ..] = *header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if length > self.limits.frame {
            return Err(FrameFault::FrameTooLarge);
        }
        match kind {
            DATA => self.data(length, flags)?,
            HEADERS => {
                self.blocks = self.blocks.wrapping_add(1);
                self.block = Some(Block { bytes: length, continuations: 0, last: flags & END_HEADERS != 0 });
            }
            CONTINUATION => self.continuation(length, flags)?,
            PRIORITY | PRIORITY_UPDATE => self.spend(Kind::Priority)?,
            RST_STREAM => self.spend(Kind::Reset)?,
            SETTINGS => self.spend(Kind::Settings)?,
            PING => self.spend(Kind::Ping)?,
            WINDOW_UPDATE => self.spend(Kind::WindowUpdate)?,
            _ => self.spend(Kind::Other)?,
        }
        if self.block.as_ref().is_some_and(|block| block.bytes > self.limits.block) {
            return Err(FrameFault::BlockTooLarge);
        }
        self.left = length;
        self.greeted = true;
        self.inside(&[]);
        Ok(())
    }

    fn data(&mut self, length: usize, flags: u8) -> Result<(), FrameFault> {
        let goes_on = flags & END_STREAM == 0;
        self.padded = (goes_on && flags & PADDED != 0 && length > 0).then_some(length);
        if goes_on && length == 0 { self.spend(Kind::EmptyData) } else { Ok(()) }
    }

    /// Without a block it is h2's to refuse.
    fn continuation(&mut self, length: usize, flags: u8) -> Result<(), FrameFault> {
        let Some(block) = &mut self.block else { return Ok(()) };
        block.bytes += length;
        block.continuations += 1;
        block.last = flags & END_HEADERS != 0;
        match block.continuations > self.limits.continuations {
            true => Err(FrameFault::TooManyContinuations),
            false => Ok(()),
        }
    }

    fn spend(&mut self, kind: Kind) -> Result<(), FrameFault> {
        match self.budget.spend(kind, Instant::now) {
            true => Ok(()),
            false => Err(FrameFault::Flood(kind)),
        }
    }

    /// We wrote so many bytes.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.budget.wrote(bytes);
    }

    /// What is not complete; `header`: the header of a frame has begun.
    pub(super) fn open(&self, header: bool) -> Open {
        match &self.block {
            _ if !self.greeted => Open::Greeting,
            Some(_) => Open::Block(self.blocks),
            None if self.left > 0 || header => Open::Frame,
            None => Open::Nothing,
        }
    }

    /// True where a frame can be put in.
    pub(super) fn between_frames(&self) -> bool {
        self.left == 0
    }
}
