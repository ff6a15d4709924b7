//! HTTP/2 connections of one core, each with many requests at once.

use super::{
    connect::{self, Http2},
    upload::Upload,
};
use hyper::client::conn::http2::SendRequest;
use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{interval, timeout},
};

/// The most requests at once on one connection, whatever the peer allows.
const STREAMS: usize = 100;

/// What is allowed until the peer says otherwise, which nobody else says: so it can be told that it did.
pub(super) const UNTOLD: usize = 97;
/// How long a new connection waits for the peer to say so, and how often it looks.
const TELLING: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(2);

/// One HTTP/2 connection.
pub(super) struct Multi {
    sender: SendRequest<Upload>,
    load: Arc<Load>,
    since: Instant,
}

/// How many streams are open, and how many the peer allows.
struct Load {
    streams: AtomicUsize,
    allowed: AtomicUsize,
    /// Somebody used it since it was looked at last.
    used: AtomicBool,
    /// It died or is going away, as a request found out.
    retired: AtomicBool,
}

/// One request's place on a connection.
pub(super) struct Slot {
    pub(super) sender: SendRequest<Upload>,
    load: Arc<Load>,
}

impl Multi {
    /// Runs a new connection on this core until it ends; it counts as one of the endpoint's while it does. Returns once the
    /// peer has said how many streams it allows, or takes too long for it.
    pub(super) async fn start((sender, connection): Http2<Upload>, permit: OwnedSemaphorePermit) -> Self {
        let allowed = AtomicUsize::new(UNTOLD);
        let load = Arc::new(Load {
            streams: AtomicUsize::new(0),
            allowed,
            used: AtomicBool::new(true),
            retired: AtomicBool::new(false),
        });
        let (told, tell) = oneshot::channel();
        tokio::spawn(run(connection, load.clone(), told, permit));
        let _ = timeout(TELLING, tell).await;
        Self { sender, load, since: Instant::now() }
    }

    /// A place for one more request, if there is one.
    pub(super) fn slot(&self) -> Option<Slot> {
        let free = !self.is_closed() && self.load.streams.load(Relaxed) < self.load.allowed.load(Relaxed);
        free.then(|| {
            self.load.streams.fetch_add(1, Relaxed);
            self.load.used.store(true, Relaxed);
            Slot { sender: self.sender.clone(), load: self.load.clone() }
        })
    }

    /// The connection takes no more requests.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.load.retired.load(Relaxed)
    }

    /// Nobody has used it for `limit`; to be asked now and then.
    pub(super) fn is_idle(&mut self, limit: Duration) -> bool {
        if self.load.used.swap(false, Relaxed) || self.load.streams.load(Relaxed) > 0 {
            self.since = Instant::now();
        }
        self.since.elapsed() >= limit
    }
}

/// Drives a connection and keeps what the peer allows. hyper looks at that only when there is something to send, so until
/// it is known somebody has to ask.
async fn run(
    connection: connect::Connection2<Upload>,
    load: Arc<Load>,
    told: oneshot::Sender<()>,
    permit: OwnedSemaphorePermit,
) {
    let _permit = permit;
    let (mut connection, mut told, mut look) = (pin!(connection), Some(told), interval(LOOK));
    let ended = poll_fn(|cx| {
        let polled = connection.as_mut().poll(cx);
        if polled.is_pending() {
            let allowed = connection.current_max_send_streams();
            load.allowed.store(allowed.min(STREAMS), Relaxed);
            if allowed != UNTOLD || told.as_ref().is_some_and(oneshot::Sender::is_closed) {
                told = None;
            }
            while told.is_some() && look.poll_tick(cx).is_ready() {}
        }
        polled
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "upstream connection ended");
    }
}

impl Slot {
    /// Nobody else shall try this connection.
    pub(super) fn retire(&self) {
        self.load.retired.store(true, Relaxed);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.load.streams.fetch_sub(1, Relaxed);
    }
}
