//! A guard below hyper's HTTP/1 server: it passes on only bytes that can be read in one way.
//!
//! hyper hides from a service what it read leniently: a `Content-Length` beside a `Transfer-Encoding`, lines that end
//! with LF, chunk extensions, a fragment in the target. Where a policy has to judge exactly what others get, such a request
//! is refused. The guard reads every head and every chunk line before hyper does, and
//!
//! - hands out one message at a time, and no part of a head, a chunk line or a trailer section before it is complete;
//! - puts a request of its own, with the method `REFUSED`, in the place of a bad head, so that the service answers it like
//!   any refusal, after all that were asked before; nothing is passed on after it;
//! - puts a byte that no body can have, NUL, in the place of a bad chunk line or trailer, so that the service sees a body
//!   that fails;
//! - takes trailers out;
//! - keeps what comes behind an upgrade request until that is answered: [`Control::resume`] if not with 101, otherwise
//!   [`Guard::into_tunnel`];
//! - bounds the time of a head from its first byte, and of a write that the client does not take;
//! - keeps a tally of what it passed, [`Control::take`], which the service compares with what it got.
//!
//! hyper runs over `TokioIo<Guard<IO>>`. Its service gets the [`Control`].

mod chunk;
mod fault;
pub mod limits;
mod preface;
mod scan;
pub(in crate::listener) mod stall;
mod tally;
#[cfg(test)]
mod tests;

mod walk;

pub use fault::Fault;
pub use limits::Limits;
pub use preface::{PREFACE, Preface, preface};
pub use tally::{Control, Framing, InHand, Seen};

use bytes::{Buf, Bytes, BytesMut};
use stall::{Linger, Stall, discard};
use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};
use walk::{Stop, Walk};

/// What hyper reads in the place of a bad head. The method is one that no service knows.
pub const REFUSED: &[u8] = b"REFUSED / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// What hyper reads in the place of a bad chunk line, chunk end or trailer section; it is none of them.
const NOT_A_CHUNK: &[u8] = b"\0";

/// A connection that passes on only what has one reading.
#[derive(Debug)]
pub struct Guard<IO> {
    io: IO,
    walk: Walk,
    /// Read, and not yet passed on. Without storage while it is empty.
    side: BytesMut,
    /// The bytes at the beginning of `side` that may be passed on.
    clear: usize,
    control: Control,
    /// The client's side has ended.
    ended: bool,
    /// Bytes discarded behind a fault.
    discarded: usize,
    reading: Stall,
    idle: Option<Pin<Box<Sleep>>>,
    writing: Stall,
    linger: Option<Box<Linger>>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// Guards `io`, from which `early` has been read already.
    pub fn new(io: IO, early: Bytes, limits: Limits) -> (Self, Control) {
        let control = Control::default();
        let guard = Self {
            io,
            walk: Walk::new(limits, control.clone()),
            side: BytesMut::from(early),
            clear: 0,
            control: control.clone(),
            ended: false,
            discarded: 0,
            reading: Stall::default(),
            idle: None,
            writing: Stall::default(),
            linger: None,
        };
        (guard, control)
    }

    /// The stream behind an upgrade request that was answered with 101, and what the client sent behind that request.
    /// `None` if the last request was none, or is not wholly read: then this connection must not become a tunnel.
    pub fn into_tunnel(self) -> Option<(IO, Bytes)> {
        let all_read = self.walk.holds() && self.walk.at_boundary() && self.clear == 0;
        (all_read && self.control.upgrading()).then(|| (self.io, self.side.freeze()))
    }

    /// How many of `bytes`, fresh from the stream, may be passed on at once. What stands for a fault goes to `side`.
    fn judge(&mut self, bytes: &mut [u8]) -> usize {
        self.walk.walk(bytes).unwrap_or_else(|stop| {
            self.stand_in(stop);
            stop.after
        })
    }

    /// Judges what was kept.
    fn judge_side(&mut self) {
        match self.walk.walk(&mut self.side) {
            Ok(clear) => self.clear = clear,
            Err(stop) => {
                self.side.truncate(stop.after);
                self.stand_in(stop);
            }
        }
    }

    /// Puts what hyper gets instead of the fault behind what it may still have.
    fn stand_in(&mut self, stop: Stop) {
        self.side.extend_from_slice(if stop.fault.in_body() { NOT_A_CHUNK } else { REFUSED });
        self.clear = self.side.len();
    }

    /// Nothing has come. Ready when a head that has begun takes too long; that is a fault then.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.side.is_empty() || !self.walk.in_head() {
            return Poll::Pending;
        }
        ready!(self.reading.poll_wait(self.walk.limits.head_time, cx));
        self.side.clear();
        let stop = self.walk.stop(0, Fault::HeadTimeout);
        self.stand_in(stop);
        Poll::Ready(())
    }

    /// Nothing has come. True if there has been no request for too long, and none is being answered.
    ///
    /// The timer runs all the while and is set anew only when it fires: hyper does not read again when an answer is over.
    fn idle(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.walk.in_head() || !self.side.is_empty() {
            return false;
        }
        let limit = self.walk.limits.idle;
        let timer = self.idle.get_or_insert_with(|| Box::pin(sleep(limit)));
        while timer.as_mut().poll(cx).is_ready() {
            let end = self.control.quiet_since() + limit;
            if Instant::now() >= end {
                return true;
            }
            timer.as_mut().reset(end);
        }
        false
    }

    /// Hands out cleared bytes of `side`. Its storage is given back when it is empty.
    fn hand_out(&mut self, out: &mut ReadBuf<'_>) {
        self.reading.over();
        let length = self.clear.min(out.remaining());
        out.put_slice(&self.side[..length]);
        self.side.advance(length);
        self.clear -= length;
        if self.side.is_empty() {
            self.side = BytesMut::new();
        }
    }

    /// Behind a fault: discards some of what still comes, so that a client that only reads when it has written gets its
    /// answer. While the fault is being answered, the end of the client's side is no end for hyper, which would drop the
    /// service before it has answered; hyper closes after that answer, and does not need to be woken for it. Before that the
    /// end is an end, as it is without a fault: nobody waits for what was asked.
    fn discard_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.ended && self.discarded < limits::LINGER_BYTES {
            match ready!(discard(&mut self.io, cx))? {
                0 => self.ended = true,
                length => self.discarded += length,
            }
        }
        if self.ended && self.control.fault_waits() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if guard.walk.holds() && guard.control.resumed(cx) {
                guard.walk.resume();
            }
            if guard.clear == 0 && !guard.side.is_empty() {
                guard.judge_side();
            }
            if guard.clear > 0 {
                guard.hand_out(out);
                return Poll::Ready(Ok(()));
            }
            if guard.walk.dead() {
                return guard.discard_rest(cx);
            }
            if guard.walk.holds() && guard.side.len() >= guard.walk.limits.held {
                return Poll::Pending;
            }
            let before = out.filled().len();
            match Pin::new(&mut guard.io).poll_read(cx, out) {
                Poll::Ready(read) => read?,
                Poll::Pending if guard.idle(cx) => {
                    guard.ended = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending => {
                    ready!(guard.poll_late(cx));
                    continue;
                }
            }
            let fresh = &mut out.filled_mut()[before..];
            if fresh.is_empty() {
                guard.ended = true;
                return Poll::Ready(Ok(()));
            }
            let passed = if guard.side.is_empty() { guard.judge(fresh) } else { 0 };
            if !guard.walk.dead() {
                guard.side.extend_from_slice(&fresh[passed..]);
            }
            out.set_filled(before + passed);
            if passed > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_write(cx, bytes);
        guard.writing.watch(outcome, guard.walk.limits.write, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_write_vectored(cx, slices);
        guard.writing.watch(outcome, guard.walk.limits.write, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let outcome = Pin::new(&mut guard.io).poll_flush(cx);
        guard.writing.watch(outcome, guard.walk.limits.write, cx)
    }

    /// Closes our side, then discards what the client still sends, for a bounded time.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if guard.linger.is_none() {
            let outcome = Pin::new(&mut guard.io).poll_shutdown(cx);
            ready!(guard.writing.watch(outcome, guard.walk.limits.write, cx))?;
        }
        if guard.ended {
            return Poll::Ready(Ok(()));
        }
        let owed = guard.walk.dead() || !guard.walk.at_boundary() || !guard.side.is_empty();
        let linger = guard.linger.get_or_insert_default();
        linger.poll(&mut guard.io, owed, guard.walk.limits.linger, cx).map(Ok)
    }
}
