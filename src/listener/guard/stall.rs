//! Time limits that cost nothing while all goes well: a timer is made only when something has to be waited for.

use super::limits::LINGER_BYTES;
use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Notices when something has been waited for too long.
///
/// The timer is not taken back when the wait ends, only looked at again when it fires, so that a connection that waits
/// often does not set it each time.
#[derive(Debug, Default)]
pub(in crate::listener) struct Stall {
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    /// The wait is over.
    pub(in crate::listener) fn over(&mut self) {
        self.since = None;
        if self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            self.timer = None;
        }
    }

    /// Waits on. Ready when this wait, begun with the first call, has lasted for `limit`; the task is woken then.
    pub(in crate::listener) fn poll_wait(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.since.get_or_insert_with(Instant::now) + limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end); // it was set for a longer wait
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end); // it was set for an earlier wait
        }
        Poll::Pending
    }

    /// Passes on the outcome of a write, which fails once it has been pending for `limit`.
    pub(in crate::listener) fn watch<T>(
        &mut self,
        outcome: Poll<io::Result<T>>,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.over();
            return outcome;
        }
        self.poll_wait(limit, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Discards what the client still sends after our side is closed: unread bytes make the kernel reset the connection, and a
/// reset can take our answer with it (RFC 9112, section 9.6).
#[derive(Debug)]
pub(in crate::listener) struct Linger {
    left: usize,
    stall: Stall,
}

impl Default for Linger {
    fn default() -> Self {
        Self { left: LINGER_BYTES, stall: Stall::default() }
    }
}

impl Linger {
    /// Ready when the client's side has ended, or it has sent or waited enough. Without `owed` it waits only if there is
    /// something to discard now.
    pub(in crate::listener) fn poll<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        mut owed: bool,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        owed |= self.left < LINGER_BYTES;
        while let Poll::Ready(read) = discard(io, cx) {
            match read {
                Ok(read) if read > 0 && read < self.left => self.left -= read,
                Ok(_) | Err(_) => return Poll::Ready(()),
            }
            owed = true;
        }
        if owed { self.stall.poll_wait(limit, cx) } else { Poll::Ready(()) }
    }
}

/// Reads a few bytes and forgets them. Ready with how many; with none at the end of the stream.
pub(in crate::listener) fn discard<IO: AsyncRead + Unpin>(
    io: &mut IO,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut unread = ReadBuf::uninit(&mut space);
    Pin::new(io).poll_read(cx, &mut unread).map_ok(|()| unread.filled().len())
}
