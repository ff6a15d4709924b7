//! Connections to the endpoints of upstreams, kept warm by one core.

use super::{
    connect::{self, ConnectError},
    idle::Idle,
    multi::{Multi, Slot},
    strict::Control,
    upload::Upload,
};
use crate::upstream::{Endpoint, Upstream};
use hyper::client::conn::http1::SendRequest;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Idle connections kept per endpoint.
const KEPT: usize = 64;
/// How long a connection is kept without use.
const IDLE: Duration = Duration::from_secs(30);
/// How long we wait for a connection to come to rest after an answer.
const SETTLE: Duration = Duration::from_secs(1);

/// A connection that takes one request, with the clock that watches it.
pub(super) struct Line {
    pub(super) sender: Sender,
    pub(super) idle: Idle,
    /// It was used before.
    warm: bool,
}

/// What a request goes through.
pub(super) enum Sender {
    /// All of an HTTP/1.1 connection.
    Http1 { sender: SendRequest<Upload>, control: Arc<Control> },
    /// One stream of an HTTP/2 connection.
    Http2(Slot),
}

/// The connections of one core, by endpoint.
#[derive(Default)]
pub(super) struct Pool {
    shelves: Mutex<HashMap<u64, Shelf>>,
    swept: AtomicBool,
    turn: AtomicUsize,
}

/// The pools of all cores: where connections are scarce, one core gives up what it does not use for another.
#[derive(Default)]
pub(super) struct Pools(Mutex<Vec<Weak<Pool>>>);

/// What one core has of one endpoint.
#[derive(Default)]
struct Shelf {
    /// Idle HTTP/1.1 connections with the time since when they are, the one used last at the end.
    idle: Vec<(Line, Instant)>,
    /// Requests that wait for one of them.
    waiting: VecDeque<oneshot::Sender<Line>>,
    /// HTTP/2 connections.
    multi: Vec<Multi>,
    /// Held by whoever opens one of those: the others wait for it.
    opening: Arc<tokio::sync::Mutex<()>>,
}

impl Line {
    pub(super) fn new(sender: Sender) -> Self {
        Self { sender, idle: Idle::default(), warm: false }
    }

    /// Whether it was used before, so that its death says nothing about its endpoint.
    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    /// Whether it is a stream of HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// At rest, and not known to be closed.
    fn is_usable(&self) -> bool {
        match &self.sender {
            Sender::Http1 { sender, control } => sender.is_ready() && !sender.is_closed() && !control.is_flawed(),
            Sender::Http2(_) => false,
        }
    }
}

impl Pools {
    /// One more core's pool.
    pub(super) fn join(&self, pool: &Arc<Pool>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(pool));
    }

    /// Gives up one idle connection to `endpoint`, whatever core holds it.
    fn give_up_one(&self, endpoint: &Endpoint) {
        let pools: Vec<_> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect();
        let found = pools.iter().find_map(|pool| {
            let mut shelves = pool.shelves();
            let shelf = shelves.get_mut(&endpoint.id)?;
            (!shelf.idle.is_empty()).then(|| shelf.idle.remove(0))
        });
        drop(found); // outside the lock
    }
}

impl Pool {
    /// Counts up, so that equal endpoints take turns.
    pub(super) fn turn(&self) -> usize {
        self.turn.fetch_add(1, Relaxed)
    }

    /// A connection that is at rest and not known to be closed, or a stream of one that has room.
    pub(super) fn take(&self, endpoint: &Endpoint) -> Option<Line> {
        let mut shelves = self.shelves();
        let shelf = shelves.get_mut(&endpoint.id)?;
        while let Some((line, since)) = shelf.idle.pop() {
            if since.elapsed() < IDLE && line.is_usable() {
                return Some(line);
            }
        }
        let slot = shelf.multi.iter().find_map(Multi::slot)?;
        Some(Line { warm: true, ..Line::new(Sender::Http2(slot)) })
    }

    /// Keeps a connection whose last exchange ended well. It may still be writing its last bytes to rest.
    pub(super) fn keep(self: &Arc<Self>, endpoint: &Arc<Endpoint>, mut line: Line) {
        line.idle.moved();
        line.warm = true;
        let Sender::Http1 { sender, control } = &line.sender else { return };
        if sender.is_closed() || control.is_flawed() {
            return;
        }
        if sender.is_ready() {
            return self.put(endpoint, line);
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (pool, endpoint) = (self.clone(), endpoint.clone());
        runtime.spawn(async move {
            if let Sender::Http1 { sender, .. } = &mut line.sender
                && let Ok(Ok(())) = tokio::time::timeout(SETTLE, sender.ready()).await
            {
                pool.put(&endpoint, line);
            }
        });
    }

    /// A new connection, ready for one request, or one that came free meanwhile, within `limit`.
    pub(super) async fn connect(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        upstream: &Upstream,
        pools: &Pools,
        limit: Duration,
    ) -> Result<Line, ConnectError> {
        self.sweep();
        let late = || ConnectError::Timeout { address: endpoint.address.clone(), limit };
        let deadline = tokio::time::Instant::now() + limit;
        if !upstream.settings.http2 || endpoint.speaks_http2() == Some(false) {
            let permit = match self.room(endpoint, upstream, pools, deadline, limit).await? {
                Room::Permit(permit) => permit,
                Room::Line(line) => return Ok(line),
            };
            let opened = self.open(endpoint, upstream, permit);
            return tokio::time::timeout_at(deadline, opened).await.unwrap_or_else(|_| Err(late()));
        }
        let opening = self.shelves().entry(endpoint.id).or_default().opening.clone();
        let one_by_one = tokio::time::timeout_at(deadline, opening.lock()).await.map_err(|_| late())?;
        if let Some(line) = self.take(endpoint) {
            return Ok(line);
        }
        let permit = match self.room(endpoint, upstream, pools, deadline, limit).await? {
            Room::Permit(permit) => permit,
            Room::Line(line) => return Ok(line),
        };
        let opened = tokio::time::timeout_at(deadline, self.open(endpoint, upstream, permit)).await;
        drop(one_by_one);
        opened.unwrap_or_else(|_| Err(late()))
    }

    async fn open(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        upstream: &Upstream,
        permit: OwnedSemaphorePermit,
    ) -> Result<Line, ConnectError> {
        let (wire, http2) = connect::dial(endpoint, &upstream.settings, upstream.settings.http2).await?;
        endpoint.spoke(http2);
        if http2 {
            let multi = Multi::start(connect::http2(endpoint, wire).await?, permit).await;
            let slot = multi.slot();
            self.shelves().entry(endpoint.id).or_default().multi.push(multi);
            let reset = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
            let slot =
                slot.ok_or_else(|| ConnectError::Connect { address: endpoint.address.clone(), source: reset() })?;
            return Ok(Line::new(Sender::Http2(slot)));
        }
        let (sender, connection, control) = connect::http1(endpoint, wire).await?;
        tokio::spawn(async move {
            let _permit = permit; // until the connection is gone
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Line::new(Sender::Http1 { sender, control }))
    }

    /// Leave to open one more connection. Where all are in use, a connection of another core that nobody uses is given up
    /// for it, and one of this core that comes free is as good.
    async fn room(
        &self,
        endpoint: &Arc<Endpoint>,
        upstream: &Upstream,
        pools: &Pools,
        deadline: tokio::time::Instant,
        limit: Duration,
    ) -> Result<Room, ConnectError> {
        if let Ok(permit) = endpoint.permits.clone().try_acquire_owned() {
            return Ok(Room::Permit(permit));
        }
        let _waiting = Waiting::new(endpoint);
        let (free, come_free) = oneshot::channel();
        self.shelves().entry(endpoint.id).or_default().waiting.push_back(free);
        pools.give_up_one(endpoint);
        let full = || full(endpoint, upstream, limit);
        let wait = async {
            tokio::select! {
                biased;
                Ok(line) = come_free => Ok(Room::Line(line)),
                Ok(permit) = endpoint.permits.clone().acquire_owned() => Ok(Room::Permit(permit)),
                else => Err(full()),
            }
        };
        tokio::time::timeout_at(deadline, wait).await.unwrap_or_else(|_| Err(full()))
    }

    /// Leave to open a connection that is for one use only, within `limit`.
    pub(super) async fn permit(
        &self,
        endpoint: &Arc<Endpoint>,
        upstream: &Upstream,
        pools: &Pools,
        limit: Duration,
    ) -> Result<OwnedSemaphorePermit, ConnectError> {
        if let Ok(permit) = endpoint.permits.clone().try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = Waiting::new(endpoint);
        pools.give_up_one(endpoint);
        match tokio::time::timeout(limit, endpoint.permits.clone().acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(full(endpoint, upstream, limit)),
        }
    }

    /// How many HTTP/1.1 connections are kept for an endpoint.
    #[cfg(test)]
    pub(super) fn kept(&self, endpoint: &Endpoint) -> usize {
        let open = |line: &Line| match &line.sender {
            Sender::Http1 { sender, .. } => !sender.is_closed(),
            Sender::Http2(_) => false,
        };
        self.shelves().get(&endpoint.id).map_or(0, |shelf| shelf.idle.iter().filter(|(line, _)| open(line)).count())
    }

    fn put(&self, endpoint: &Endpoint, line: Line) {
        let mut shelves = self.shelves();
        let shelf = shelves.entry(endpoint.id).or_default();
        let mut line = line;
        while let Some(waiting) = shelf.waiting.pop_front() {
            match waiting.send(line) {
                Ok(()) => return,
                Err(back) => line = back, // gave up
            }
        }
        if endpoint.waiting.load(Relaxed) > 0 {
            drop(shelves);
            return drop(line); // another core is in need of it
        }
        shelf.idle.push((line, Instant::now()));
        let surplus = (shelf.idle.len() > KEPT).then(|| shelf.idle.remove(0));
        drop(shelves);
        drop(surplus); // outside the lock
    }

    /// Starts the task that lets go of connections nobody uses, once.
    fn sweep(self: &Arc<Self>) {
        if self.swept.swap(true, Relaxed) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 3).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.shelves().retain(|_, shelf| shelf.tidy());
            }
        });
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<u64, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// Drops what is closed or was not used for long; false if nothing is left.
    fn tidy(&mut self) -> bool {
        self.idle.retain(|(line, since)| since.elapsed() < IDLE && line.is_usable());
        self.waiting.retain(|waiting| !waiting.is_closed());
        self.multi.retain_mut(|multi| !multi.is_closed() && !multi.is_idle(IDLE));
        let opening = Arc::strong_count(&self.opening) > 1;
        !self.idle.is_empty() || !self.waiting.is_empty() || !self.multi.is_empty() || opening
    }
}

fn full(endpoint: &Endpoint, upstream: &Upstream, limit: Duration) -> ConnectError {
    ConnectError::Full { address: endpoint.address.clone(), most: upstream.settings.connections, limit }
}

/// What somebody got who needs a connection.
enum Room {
    Permit(OwnedSemaphorePermit),
    Line(Line),
}

/// Counts as waiting until dropped.
struct Waiting<'a>(&'a Endpoint);

impl<'a> Waiting<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        endpoint.waiting.fetch_add(1, Relaxed);
        Self(endpoint)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}
