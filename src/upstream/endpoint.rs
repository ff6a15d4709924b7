//! One endpoint: one URL at one address, and how it fares.

use super::Place;
use std::{
    fmt,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::Semaphore;

/// Failures in a row after which an endpoint is left out for a while.
const FAILURES: u32 = 3;
/// How long the first time, in milliseconds; it doubles every time.
const FIRST: u64 = 5_000;
/// The longest time, in milliseconds.
const LONGEST: u64 = 60_000;
/// The least share that an endpoint gets while it starts slowly.
const LEAST: f64 = 0.05;
/// The bits of [`Endpoint::load`] that count requests in flight; those above count all.
const FLYING: u32 = 24;

/// Where a connection goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(Arc<Path>),
}

/// One URL at one address, shared by all cores.
pub struct Endpoint {
    /// Names it while the process lives.
    pub id: u64,
    /// The URL it belongs to.
    pub place: Place,
    /// Where it is.
    pub address: Address,
    /// One permit for every connection that may still be opened.
    pub permits: Arc<Semaphore>,
    /// How many wait for a permit now.
    pub waiting: AtomicUsize,
    /// Requests in flight in the low bits, all requests since the start above.
    load: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// How often it was ejected in a row.
    ejections: AtomicU32,
    /// It is ejected until then; 0 if it is not.
    until: AtomicU64,
    /// It starts slowly since then; 0 once it has its full share.
    since: AtomicU64,
    /// What health checks say; true while there are none.
    healthy: AtomicBool,
    /// Answers to health checks in a row that say otherwise than `healthy`.
    contrary: AtomicU32,
    /// What was spoken on its last new connection.
    spoken: AtomicU8,
}

/// One request on its way to an endpoint; counted until it is dropped.
pub struct Flight(Arc<Endpoint>);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Endpoint {
    pub(super) fn new(place: Place, address: Address, connections: usize, since: u64) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Relaxed),
            place,
            address,
            permits: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            load: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            until: AtomicU64::new(0),
            since: AtomicU64::new(since),
            healthy: AtomicBool::new(true),
            contrary: AtomicU32::new(0),
            spoken: AtomicU8::new(0),
        })
    }

    pub(super) fn is(&self, place: &Place, address: &Address) -> bool {
        self.place == *place && self.address == *address
    }

    /// Requests in flight, over all cores.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.load.load(Relaxed) & ((1 << FLYING) - 1)).unwrap_or(usize::MAX)
    }

    /// Requests since the start.
    pub fn total(&self) -> u64 {
        self.load.load(Relaxed) >> FLYING
    }

    /// Connections that are open, of at most `most`.
    pub(super) fn connections(&self, most: usize) -> usize {
        most.saturating_sub(self.permits.available_permits())
    }

    /// Neither ejected nor unhealthy.
    pub fn is_available(&self, now: u64) -> bool {
        self.healthy.load(Relaxed) && self.until.load(Relaxed) <= now
    }

    /// The share of requests it gets, from 0 to 1: it grows with the time since it joined or came back.
    pub(super) fn weight(&self, now: u64, slow_start: Duration) -> f64 {
        let since = self.since.load(Relaxed);
        if since == 0 {
            return 1.0;
        }
        let ramp = slow_start.as_millis() as f64;
        let elapsed = now.saturating_sub(since) as f64;
        if elapsed < ramp {
            return (elapsed / ramp).max(LEAST);
        }
        let _ = self.since.compare_exchange(since, 0, Relaxed, Relaxed);
        1.0
    }

    /// A request came through: what failed before is forgotten.
    pub fn succeeded(&self) {
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejections.store(0, Relaxed);
        }
    }

    /// A request did not: no connection, no answer in time, an answer that broke off or the protocol. After three in a row
    /// it is left out for 5 s, and after one more then for twice as long, up to 60 s.
    pub fn failed(&self, now: u64) {
        let until = self.until.load(Relaxed);
        if until > now {
            return; // these were under way before
        }
        if self.failures.fetch_add(1, Relaxed) + 1 < FAILURES {
            return;
        }
        let times = self.ejections.load(Relaxed).min(6);
        let back = now + (FIRST << times).min(LONGEST);
        if self.until.compare_exchange(until, back, Relaxed, Relaxed).is_ok() {
            self.ejections.store(times + 1, Relaxed);
            self.failures.store(FAILURES - 1, Relaxed);
            self.since.store(back, Relaxed);
            let seconds = (back - now) / 1000;
            tracing::warn!(upstream = %self.place, endpoint = %self.address, seconds, "an endpoint failed and is left out");
        }
    }

    /// What a health check found; `enough` such answers in a row change what holds.
    pub fn probed(&self, well: bool, enough: u32, now: u64) {
        if self.healthy.load(Relaxed) == well {
            self.contrary.store(0, Relaxed);
            if well && self.until.load(Relaxed) > now {
                self.recover(now); // ejected, and yet it answers
            }
            return;
        }
        if self.contrary.fetch_add(1, Relaxed) + 1 < enough {
            return;
        }
        self.contrary.store(0, Relaxed);
        self.healthy.store(well, Relaxed);
        if well {
            self.recover(now);
            tracing::info!(upstream = %self.place, endpoint = %self.address, "an endpoint is well again");
        } else {
            tracing::warn!(upstream = %self.place, endpoint = %self.address, "an endpoint is not well and is left out");
        }
    }

    fn recover(&self, now: u64) {
        self.failures.store(0, Relaxed);
        self.ejections.store(0, Relaxed);
        self.until.store(0, Relaxed);
        self.since.store(now, Relaxed);
    }

    /// Whether HTTP/2 was spoken on the last new connection; `None` before the first.
    pub fn speaks_http2(&self) -> Option<bool> {
        match self.spoken.load(Relaxed) {
            0 => None,
            spoken => Some(spoken == 2),
        }
    }

    /// Remembers what is spoken on a new connection.
    pub fn spoke(&self, http2: bool) {
        self.spoken.store(if http2 { 2 } else { 1 }, Relaxed);
    }
}

impl Flight {
    pub(super) fn new(endpoint: &Arc<Endpoint>) -> Self {
        endpoint.load.fetch_add((1 << FLYING) + 1, Relaxed);
        Self(endpoint.clone())
    }

    /// Where it goes.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }

    /// The endpoint did what it should.
    pub fn succeeded(&self) {
        self.0.succeeded();
    }

    /// The endpoint did not.
    pub fn failed(&self) {
        self.0.failed(super::now());
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Relaxed);
    }
}
