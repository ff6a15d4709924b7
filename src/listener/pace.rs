//! The pace of a connection of HTTP/2: how long it has been without a stream, and which stream's client takes nothing.
//!
//! hyper asks an answer's body for more only when the client has room for it, so a body cannot see that it waits. The task of
//! the stream can: hyper starts it through [`Pace`] right after the service was called.

use crate::body::{Body, BodyError};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use std::{
    future::{Future, pending},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, Sleep, sleep},
};

/// How long a client may take none of an answer that lies ready.
const STALL: Duration = Duration::from_secs(60);

/// What one connection does. Also the executor of its streams.
#[derive(Clone, Default)]
pub(super) struct Pace(Arc<Inner>);

#[derive(Default)]
struct Inner {
    streams: AtomicUsize,
    changed: Notify,
    /// The clock of the request that the service was called with last, until its task starts.
    next: Mutex<Option<Clock>>,
}

/// How many times an answer's body was asked, and whether what it gave last waits for the client.
#[derive(Clone, Default)]
pub(super) struct Clock(Arc<(AtomicU64, AtomicBool)>);

impl Pace {
    /// A clock for the request that is about to be answered.
    pub(super) fn begin(&self) -> Clock {
        let clock = Clock::default();
        *self.next() = Some(clock.clone());
        clock
    }

    /// Returns once there has been no stream for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let changed = self.0.changed.notified();
            let quiet = async {
                if self.0.streams.load(Relaxed) > 0 {
                    pending::<()>().await;
                }
                sleep(limit).await;
            };
            tokio::select! {
                () = changed => {}
                () = quiet => return,
            }
        }
    }

    fn next(&self) -> MutexGuard<'_, Option<Clock>> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Pace
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        self.0.streams.fetch_add(1, Relaxed);
        self.0.changed.notify_one();
        let clock = self.next().take().unwrap_or_default();
        tokio::spawn(Watched { stream: Box::pin(stream), clock, waited: None, _open: Open(self.clone()) });
    }
}

/// A stream that is open. Dropping it says that it is over.
struct Open(Pace);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.streams.fetch_sub(1, Relaxed);
        self.0.0.changed.notify_one();
    }
}

/// A stream's task, given up when its client takes nothing for too long. Dropping it resets the stream.
struct Watched<F> {
    stream: Pin<Box<F>>,
    clock: Clock,
    /// The wait for the client, and which piece it is for.
    waited: Option<(u64, Pin<Box<Sleep>>)>,
    _open: Open,
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let (asked, waits) = &*self.clock.0;
        let (asked, waits) = (asked.load(Relaxed), waits.load(Relaxed));
        if !waits {
            return Poll::Pending; // for something else, which has its own limit
        }
        let (piece, wait) = self.waited.get_or_insert_with(|| (asked, Box::pin(sleep(STALL))));
        if *piece != asked {
            *piece = asked; // the client took the one before
            wait.as_mut().reset(Instant::now() + STALL);
        }
        wait.as_mut().poll(cx)
    }
}

/// An answer's body whose stream knows when it was asked last.
pub(super) struct Paced {
    body: Body,
    clock: Clock,
}

impl Paced {
    pub(super) fn new(body: Body, clock: Clock) -> Self {
        Self { body, clock }
    }
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let (asked, waits) = &*self.clock.0;
        asked.fetch_add(1, Relaxed);
        waits.store(matches!(polled, Poll::Ready(Some(Ok(_)))), Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// Asks a body once, as hyper does when the client has room, and then waits for room that never comes.
    async fn one_piece(clock: Clock, pieces: usize) {
        let mut body = Paced::new(Body::full("x".repeat(10)), clock);
        for _ in 0..pieces {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = Pin::new(&mut body).poll_frame(&mut cx);
        }
        pending::<()>().await;
    }

    async fn over_after(pieces: usize) -> Option<Duration> {
        let pace = Pace::default();
        let start = Instant::now();
        let clock = pace.begin();
        pace.execute(one_piece(clock, pieces));
        let over = async {
            while pace.0.streams.load(Relaxed) > 0 {
                pace.0.changed.notified().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), over).await.ok().map(|()| start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn s86_a_client_that_takes_nothing_loses_its_stream() {
        assert_eq!(over_after(1).await.map(|took| took.as_secs()), Some(STALL.as_secs()));
        assert_eq!(over_after(0).await, None, "what waits for the upstream has other limits");
        assert_eq!(over_after(2).await, None, "an answer at its end waits for nobody");
    }

    /// A slow client that takes a piece now and then keeps its stream, however long the whole takes.
    #[tokio::test(start_paused = true)]
    async fn a_slow_client_keeps_its_stream() {
        let pace = Pace::default();
        let start = Instant::now();
        let clock = pace.begin();
        let (done, over) = tokio::sync::oneshot::channel();
        pace.execute(async move {
            let mut body = Paced::new(Body::streamed(Endless), clock);
            for _ in 0..10 {
                let _ = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
                sleep(STALL / 2).await;
            }
            let _ = done.send(());
        });
        assert!(over.await.is_ok(), "given up after {:?}", start.elapsed());
    }

    /// Always has another piece.
    struct Endless;

    impl HttpBody for Endless {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_when_it_has_had_no_stream_for_long() {
        let pace = Pace::default();
        let start = Instant::now();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        pace.execute(async move {
            let _ = stopped.await;
        });
        let ends = async {
            sleep(Duration::from_secs(100)).await;
            drop(stop);
        };
        tokio::join!(pace.idle(Duration::from_secs(75)), ends);
        assert_eq!(start.elapsed().as_secs(), 175);
    }
}
