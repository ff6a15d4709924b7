//! A guard below hyper's HTTP/2 server: it ends connections whose frames cost more than they bring.
//!
//! It follows the client's frames by their headers and changes nothing while they are well. What h2 leaves open is
//! bounded here: frames that carry no request, each kind by a [`Rate`]; the size of a header block, the number of its
//! CONTINUATION frames and the time it takes; the time of a preface, of a frame in pieces, and of a write that the client
//! does not take. A connection that breaks a bound gets a frame that h2 must answer with GOAWAY in the place of its own.
//!
//! Header fields are not decoded here: that is h2's, and a second decoder would be a second reading.

mod budget;
mod follow;
#[cfg(test)]
mod tests;

pub use budget::{Kind, Rate};

use super::guard::{
    limits::{LINGER, WRITE},
    stall::{Linger, Stall},
};
use crate::refusal::Reason;
use bytes::{Buf, Bytes};
use follow::{Follow, HEADER, Open};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client did that its connection is ended for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameFault {
    /// A [`Rate`] is used up.
    #[error("too many frames of kind `{0:?}` for what was asked")]
    Flood(Kind),
    /// RFC 9113, section 4.2.
    #[error("frame is larger than advertised")]
    FrameTooLarge,
    /// RFC 9113, section 10.5.1.
    #[error("header block is larger than allowed")]
    BlockTooLarge,
    /// RFC 9113, section 6.10.
    #[error("header block has too many CONTINUATION frames")]
    TooManyContinuations,
    /// RFC 9113, section 3.4.
    #[error("preface and first SETTINGS frame took too long")]
    GreetingTimeout,
    /// RFC 9113, section 4.3.
    #[error("header block took too long")]
    BlockTimeout,
    /// RFC 9113, section 10.5.
    #[error("frame made no progress for too long")]
    FrameTimeout,
}

impl FrameFault {
    /// The refusal that it is recorded as.
    pub fn reason(self) -> Reason {
        match self {
            Self::Flood(_) | Self::FrameTooLarge | Self::TooManyContinuations => Reason::BadRequest,
            Self::BlockTooLarge => Reason::HeadTooLarge,
            Self::GreetingTimeout | Self::BlockTimeout | Self::FrameTimeout => Reason::ClientTimeout,
        }
    }
}

/// The bounds of one HTTP/2 connection, beside the [`Kind::rate`] of each kind of frame.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The largest payload of a frame, in bytes: what hyper advertises. Default: 16 KiB.
    pub frame: usize,
    /// The largest header block as sent, in bytes. Default: 32 KiB.
    pub block: usize,
    /// The most CONTINUATION frames of one header block. Default: 16.
    pub continuations: usize,
    /// How long preface and first frame may take. Default: 10 s.
    pub greeting: Duration,
    /// How long a header block may take. Default: 10 s.
    pub block_time: Duration,
    /// How long a frame that has begun may stand still. Default: 30 s.
    pub frame_time: Duration,
    /// How long the client may take nothing of what we write. Default: 60 s.
    pub write: Duration,
    /// How long unread bytes are discarded behind a fault. Default: 1 s.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame: 16 * 1024,
            block: 32 * 1024,
            continuations: 16,
            greeting: Duration::from_secs(10),
            block_time: Duration::from_secs(10),
            frame_time: Duration::from_secs(30),
            write: WRITE,
            linger: LINGER,
        }
    }
}

/// The other end of a [`FrameGuard`]. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<OnceLock<FrameFault>>);

impl Control {
    /// What the connection was ended for, if it was.
    pub fn fault(&self) -> Option<FrameFault> {
        self.0.get().copied()
    }
}

/// A SETTINGS frame on stream 1, which is a connection error (RFC 9113, section 6.5).
const NO_FRAME: [u8; HEADER] = [0, 0, 0, 4, 0, 0, 0, 0, 1];

/// A connection whose client is held to its budget.
#[derive(Debug)]
pub struct FrameGuard<IO> {
    io: IO,
    /// Read from `io` before, and not yet followed.
    early: Bytes,
    follow: Follow,
    /// The beginning of a frame's header.
    begun: [u8; HEADER],
    have: usize,
    /// To be handed out before anything else is read, from `due_from` on.
    due: [u8; HEADER],
    due_from: usize,
    open: Open,
    reading: Stall,
    writing: Stall,
    linger: Option<Box<Linger>>,
    limits: Limits,
    control: Control,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> FrameGuard<IO> {
    /// Guards `io`, from which `early` has been read already. The client's preface comes first.
    pub fn new(io: IO, early: Bytes, limits: Limits) -> (Self, Control) {
        let control = Control::default();
        let guard = Self {
            io,
            early,
            follow: Follow::new(limits),
            begun: [0; HEADER],
            have: 0,
            due: [0; HEADER],
            due_from: HEADER,
            open: Open::Greeting,
            reading: Stall::default(),
            writing: Stall::default(),
            linger: None,
            limits,
            control: control.clone(),
        };
        (guard, control)
    }

    fn ended(&self) -> bool {
        self.control.fault().is_some()
    }

    /// Ends the connection: h2 gets a frame that it answers with GOAWAY.
    fn end(&mut self, fault: FrameFault) {
        let _ = self.control.0.set(fault);
        (self.due, self.due_from) = (NO_FRAME, 0);
    }

    /// Hands out what is due.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        let length = out.remaining().min(HEADER - self.due_from);
        out.put_slice(&self.due[self.due_from..self.due_from + length]);
        self.due_from += length;
    }

    /// Completes the header of a frame that came in pieces. Ready with false at the end of the stream.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut rest = [0; HEADER];
        let mut rest = ReadBuf::new(&mut rest[self.have..]);
        ready!(pull(&mut self.io, &mut self.early, cx, &mut rest))?;
        let fresh = rest.filled();
        self.begun[self.have..self.have + fresh.len()].copy_from_slice(fresh);
        self.have += fresh.len();
        let more = !fresh.is_empty();
        if self.have == HEADER {
            self.have = 0;
            match self.follow.frame(&self.begun) {
                Ok(()) => (self.due, self.due_from) = (self.begun, 0),
                Err(fault) => self.end(fault),
            }
        }
        Poll::Ready(Ok(more))
    }

    /// Reads on and hands out what may go on. Ready with false at the end of the stream.
    fn poll_frames(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(pull(&mut self.io, &mut self.early, cx, out))?;
        let fresh = &out.filled()[before..];
        let (more, passed) = match self.follow.follow(fresh) {
            Ok(passed) => {
                self.have = fresh.len() - passed;
                self.begun[..self.have].copy_from_slice(&fresh[passed..]);
                (!fresh.is_empty(), passed)
            }
            Err((passed, fault)) => {
                self.end(fault);
                (true, passed)
            }
        };
        out.set_filled(before + passed);
        Poll::Ready(Ok(more))
    }

    /// Nothing has come. Ready when that has lasted too long for what is open.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look(false);
        let (limit, fault) = match self.open {
            Open::Nothing => return Poll::Pending,
            Open::Greeting => (self.limits.greeting, FrameFault::GreetingTimeout),
            Open::Block(_) => (self.limits.block_time, FrameFault::BlockTimeout),
            Open::Frame => (self.limits.frame_time, FrameFault::FrameTimeout),
        };
        ready!(self.reading.poll_wait(limit, cx));
        self.end(fault);
        match self.follow.between_frames() {
            true => Poll::Ready(Ok(())),
            false => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, fault))),
        }
    }

    /// Looks at what is open. A frame may take its time as long as something comes, a greeting and a block may not.
    fn look(&mut self, came: bool) {
        let open = self.follow.open(self.have > 0);
        if open != self.open || came && open == Open::Frame {
            self.reading.over();
            self.open = open;
        }
    }
}

/// Reads from what was read before, then from the stream.
fn pull<IO: AsyncRead + Unpin>(
    io: &mut IO,
    early: &mut Bytes,
    cx: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if early.is_empty() {
        return Pin::new(io).poll_read(cx, out);
    }
    let length = early.len().min(out.remaining());
    out.put_slice(&early[..length]);
    early.advance(length);
    if early.is_empty() {
        *early = Bytes::new();
    }
    Poll::Ready(Ok(()))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for FrameGuard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let before = out.filled().len();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if guard.due_from < HEADER {
                guard.hand_out(out);
            }
            if out.filled().len() > before || guard.ended() {
                return Poll::Ready(Ok(()));
            }
            let read = match guard.have > 0 {
                true => guard.poll_header(cx),
                false => guard.poll_frames(cx, out),
            };
            match read {
                Poll::Ready(Ok(true)) => guard.look(true),
                Poll::Ready(Ok(false)) => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(guard.poll_wait(cx))?,
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FrameGuard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_write(cx, bytes);
        guard.wrote(outcome, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_write_vectored(cx, slices);
        guard.wrote(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_flush(cx);
        guard.writing.watch(outcome, guard.limits.write, cx)
    }

    /// Closes our side; behind a fault it then discards what the client still sends, for a bounded time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if guard.linger.is_none() {
            let outcome = Pin::new(&mut guard.io).poll_shutdown(cx);
            ready!(guard.writing.watch(outcome, guard.limits.write, cx))?;
        }
        let owed = guard.ended();
        let linger = guard.linger.get_or_insert_default();
        linger.poll(&mut guard.io, owed, guard.limits.linger, cx).map(Ok)
    }
}

impl<IO> FrameGuard<IO> {
    fn wrote(&mut self, outcome: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = outcome {
            self.follow.wrote(bytes);
        }
        self.writing.watch(outcome, self.limits.write, cx)
    }
}
