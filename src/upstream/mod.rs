//! Upstreams: where they are, how they are spoken to, and which of their endpoints gets the next request.
//!
//! What stands here is shared by all cores and outlives a reload that does not change it. It opens no connection: `forward`
//! does, and tells how it went.

mod balance;
mod budget;
mod endpoint;
mod resolver;
mod settings;
#[cfg(test)]
mod tests;
mod tls;

pub use endpoint::{Address, Endpoint, Flight};
pub use resolver::Resolver;
pub use settings::{Health, Place, UpstreamSettings};
pub use tls::{Tls, TlsError, TlsFiles, TlsSource, is_http2};

use arc_swap::{ArcSwap, Guard};
use budget::Budget;
use std::{
    fmt, io,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::Notify;

/// One upstream: its settings, and what is known of its endpoints.
pub struct Upstream {
    /// Names this state while the process lives.
    pub id: u64,
    /// What the configuration says of it.
    pub settings: UpstreamSettings,
    /// Asks for its names to be resolved again.
    pub stale: Notify,
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    resolver: Resolver,
    /// Held while names are looked up, so that it is done once for all who wait.
    resolving: tokio::sync::Mutex<()>,
    /// How often that was done.
    resolved: AtomicU64,
    budget: Budget,
    panicking: AtomicBool,
    panicked: AtomicU64,
    retried: AtomicU64,
}

/// What is counted of one upstream.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Endpoints that are known.
    pub endpoints: usize,
    /// Of these, the ones that take requests: neither ejected nor unhealthy.
    pub available: usize,
    /// Requests in flight.
    pub in_flight: usize,
    /// Connections open.
    pub connections: usize,
    /// Requests that were sent to an endpoint again since the start.
    pub retries: u64,
    /// Requests that went to an endpoint that was out, because all were, since the start.
    pub panics: u64,
}

/// Milliseconds since the process first asked. Never 0, which stands for "never".
pub fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

impl Upstream {
    /// The state of an upstream that was not asked for anything yet. Addresses and sockets are its endpoints at once; names
    /// have to be resolved first.
    pub fn new(settings: UpstreamSettings, resolver: Resolver) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let known = settings.places.iter().filter_map(|place| Some((place.clone(), place.address()?))).collect();
        let upstream = Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            settings,
            stale: Notify::new(),
            endpoints: ArcSwap::default(),
            resolver,
            resolving: tokio::sync::Mutex::default(),
            resolved: AtomicU64::new(0),
            budget: Budget::default(),
            panicking: AtomicBool::new(false),
            panicked: AtomicU64::new(0),
            retried: AtomicU64::new(0),
        };
        upstream.adopt(known, now());
        Arc::new(upstream)
    }

    /// An upstream with one URL in clear text and all defaults: what tests need.
    pub fn plain(authority: &str) -> Arc<Self> {
        Self::new(UpstreamSettings::plain(authority), Resolver::System)
    }

    /// The endpoints that are known now.
    pub fn endpoints(&self) -> Guard<Arc<Vec<Arc<Endpoint>>>> {
        self.endpoints.load()
    }

    /// True if it has names, which have to be resolved again and again.
    pub fn has_names(&self) -> bool {
        self.settings.places.iter().any(|place| place.address().is_none())
    }

    /// Looks up every name and takes what is found. A name that cannot be resolved keeps the addresses it had.
    ///
    /// # Errors
    /// The first name that could not be resolved, with the reason.
    pub async fn resolve(&self) -> Result<(), (Place, io::Error)> {
        let before = self.resolved.load(Ordering::Acquire);
        let _one_by_one = self.resolving.lock().await;
        if self.resolved.load(Ordering::Acquire) != before {
            return Ok(()); // somebody else did while we waited
        }
        let (mut found, mut failed) = (Vec::new(), None);
        for place in &self.settings.places {
            let addresses = match place {
                Place::Tcp { host, port, .. } if place.address().is_none() => self.resolver.look_up(host, *port).await,
                Place::Tcp { .. } | Place::Unix { .. } => {
                    found.extend(place.address().map(|address| (place.clone(), address)));
                    continue;
                }
            };
            match addresses {
                Ok(addresses) => found.extend(addresses.into_iter().map(|it| (place.clone(), Address::Tcp(it)))),
                Err(error) => {
                    let kept = self.endpoints.load();
                    let of_place = kept.iter().filter(|endpoint| endpoint.place == *place);
                    found.extend(of_place.map(|endpoint| (place.clone(), endpoint.address.clone())));
                    failed.get_or_insert((place.clone(), error));
                }
            }
        }
        self.adopt(found, now());
        self.resolved.fetch_add(1, Ordering::Release);
        failed.map_or(Ok(()), Err)
    }

    /// Takes this set of endpoints: those that were there stay as they are, those that vanished get nothing more, and those
    /// that join an upstream in service start slowly.
    fn adopt(&self, found: Vec<(Place, Address)>, now: u64) {
        let before = self.endpoints.load();
        let mut next: Vec<Arc<Endpoint>> = Vec::with_capacity(found.len());
        for (place, address) in found {
            if next.iter().any(|endpoint| endpoint.is(&place, &address)) {
                continue;
            }
            let there = before.iter().find(|endpoint| endpoint.is(&place, &address)).cloned();
            let since = if before.is_empty() { 0 } else { now };
            next.push(there.unwrap_or_else(|| Endpoint::new(place, address, self.settings.connections, since)));
        }
        let same = next.len() == before.len() && next.iter().zip(before.iter()).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.endpoints.store(Arc::new(next));
        }
    }

    /// Whether a request that failed may be sent again: retries are at most a fifth of the requests, and ten in a second.
    pub fn may_retry(&self, now: u64) -> bool {
        let requests = self.endpoints.load().iter().map(|endpoint| endpoint.total()).sum();
        let may = self.budget.take(requests, now);
        if may {
            self.retried.fetch_add(1, Ordering::Relaxed);
        }
        may
    }

    /// What is counted.
    pub fn figures(&self) -> Figures {
        let (endpoints, now) = (self.endpoints.load(), now());
        Figures {
            endpoints: endpoints.len(),
            available: endpoints.iter().filter(|endpoint| endpoint.is_available(now)).count(),
            in_flight: endpoints.iter().map(|endpoint| endpoint.in_flight()).sum(),
            connections: endpoints.iter().map(|endpoint| endpoint.connections(self.settings.connections)).sum(),
            retries: self.retried.load(Ordering::Relaxed),
            panics: self.panicked.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}
