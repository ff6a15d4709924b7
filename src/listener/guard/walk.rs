//! Follows a connection's messages and says how many of the bytes at hand have one meaning.

use super::{
    Control, Fault, Framing, Limits, Seen,
    chunk::{Overhead, Trailers, chunk_line},
    scan::Scan,
};
use std::time::Instant;

/// Where in a connection the next byte stands. Knows no input and no output, only bytes.
#[derive(Debug)]
pub(super) struct Walk {
    place: Place,
    /// Bytes that may go through unread, before `place`.
    pass: u64,
    /// The message in hand is an upgrade request.
    upgrade: bool,
    pub(super) limits: Limits,
    control: Control,
}

#[derive(Debug)]
enum Place {
    /// In a head.
    Head(Scan),
    /// At a chunk's first line.
    Size(Overhead),
    /// Behind a chunk's data.
    DataEnd(Overhead),
    /// At the last chunk.
    Last(Trailers),
    /// Behind an upgrade request.
    Hold,
    /// Behind a fault.
    Dead,
}

/// A fault, and the bytes before it that are well.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stop {
    pub(super) after: usize,
    pub(super) fault: Fault,
}

impl Walk {
    pub(super) fn new(limits: Limits, control: Control) -> Self {
        Self { place: Place::Head(Scan::default()), pass: 0, upgrade: false, limits, control }
    }

    /// How many of `bytes` may be passed on: those whose meaning is settled, and never more than one message.
    ///
    /// The bytes begin where the last call said to stop. Trailers are taken out in place: the last chunk's line and they
    /// become a last chunk of many zeros.
    ///
    /// # Errors
    /// A [`Stop`]; nothing is passed after it.
    pub(super) fn walk(&mut self, bytes: &mut [u8]) -> Result<usize, Stop> {
        let mut after = 0;
        loop {
            let passed = usize::try_from(self.pass).unwrap_or(usize::MAX).min(bytes.len() - after);
            after += passed;
            self.pass -= passed as u64;
            if after == bytes.len() || after > 0 && matches!(self.place, Place::Head(_)) {
                return Ok(after);
            }
            match self.step(&mut bytes[after..]) {
                Ok(true) => {}
                Ok(false) => return Ok(after),
                Err(fault) => return Err(self.stop(after, fault)),
            }
        }
    }

    /// Reads one element at the beginning of `rest`. False: it is not complete, or nothing more is read.
    fn step(&mut self, rest: &mut [u8]) -> Result<bool, Fault> {
        match &mut self.place {
            Place::Head(scan) => {
                let Some(head) = scan.scan(rest, &self.limits)? else { return Ok(false) };
                self.upgrade = head.upgrade;
                self.control.push(Seen {
                    framing: head.framing,
                    target_len: head.target,
                    upgrade: head.upgrade,
                    fault: None,
                });
                self.pass = head.length as u64;
                match head.framing {
                    Framing::None => self.place = self.behind(),
                    Framing::Length(length) => {
                        self.pass += length;
                        self.place = self.behind();
                    }
                    Framing::Chunked => self.place = Place::Size(Overhead::new(Instant::now())),
                }
            }
            Place::Size(overhead) => {
                let Some(line) = chunk_line(rest)? else { return Ok(false) };
                if line.size == 0 {
                    self.place = Place::Last(Trailers::default());
                } else {
                    overhead.spend(line, Instant::now)?;
                    self.pass = line.length as u64 + line.size;
                    self.place = Place::DataEnd(*overhead);
                }
            }
            Place::DataEnd(overhead) => match rest {
                [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] => {
                    self.pass = 2;
                    self.place = Place::Size(*overhead);
                }
                _ => return Err(Fault::ChunkEnd),
            },
            Place::Last(trailers) => {
                let Some(length) = trailers.scan(rest, &self.limits)? else { return Ok(false) };
                rest[..length - b"\r\n\r\n".len()].fill(b'0');
                self.pass = length as u64;
                self.place = self.behind();
            }
            Place::Hold | Place::Dead => return Ok(false),
        }
        Ok(true)
    }

    /// What stands behind the message in hand.
    fn behind(&self) -> Place {
        if self.upgrade { Place::Hold } else { Place::Head(Scan::default()) }
    }

    /// Nothing is passed from here on. What the service gets in the place of a bad head is in the tally as well.
    pub(super) fn stop(&mut self, after: usize, fault: Fault) -> Stop {
        self.place = Place::Dead;
        self.control.blame(fault);
        if !fault.in_body() {
            self.control.push(Seen { framing: Framing::None, target_len: 1, upgrade: false, fault: Some(fault) });
        }
        Stop { after, fault }
    }

    /// Reads on behind an upgrade request.
    pub(super) fn resume(&mut self) {
        if matches!(self.place, Place::Hold) {
            self.place = Place::Head(Scan::default());
        }
    }

    /// True behind an upgrade request, its body perhaps still to come.
    pub(super) fn holds(&self) -> bool {
        matches!(self.place, Place::Hold)
    }

    /// True in a head, or before one.
    pub(super) fn in_head(&self) -> bool {
        self.pass == 0 && matches!(self.place, Place::Head(_))
    }

    /// True if every byte of the messages that began has been passed.
    pub(super) fn at_boundary(&self) -> bool {
        self.pass == 0 && matches!(self.place, Place::Head(_) | Place::Hold)
    }

    /// True behind a fault.
    pub(super) fn dead(&self) -> bool {
        matches!(self.place, Place::Dead)
    }
}
