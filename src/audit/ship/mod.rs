//! Shippers: each sink has a task on the control plane that tails the journal and sends what is on disk, at least once.
//!
//! What is sent is the journal's line, byte for byte, of every record in its order: events, gaps, recoveries, segments and
//! signed heads, so that whoever has a copy can prove it. A cursor beside the journal says how far a sink has acknowledged;
//! it moves only after that. Only records that are on disk for good are read ([`super::segment::Reached`]).

mod batch;
mod columns;
mod cursor;
mod dial;
mod health;
mod otlp;
mod postgres;
mod reader;
mod row;
mod scarce;
mod sink;
mod stdout;
mod syslog;
mod task;

pub use health::{Figures, State, Status};
pub use postgres::schema;
pub use sink::probe;

use super::{
    key::Signer,
    queue::lock,
    segment::{Reached, Segment},
};
use crate::{config::SinkSettings, principal::Name};
use cursor::Seal;
use health::Health;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use task::{Order, Task};
use tokio::{sync::watch, task::JoinHandle};

/// What ships the journal. It knows which sinks there are, and how each of them is.
pub struct Shippers {
    directory: PathBuf,
    /// Signs cursors. `None` only where nothing is recorded, so that there is nothing to ship.
    signer: Option<Arc<Signer>>,
    reached: watch::Receiver<Reached>,
    positions: Arc<Positions>,
    running: Mutex<BTreeMap<Name, Running>>,
}

/// One sink's task.
struct Running {
    settings: Arc<SinkSettings>,
    order: watch::Sender<Order>,
    task: JoinHandle<()>,
    health: Arc<Health>,
}

/// How far the sinks are that are configured. Share it with whatever deletes segments.
#[derive(Debug, Default)]
pub struct Positions(Mutex<Option<Needed>>);

/// The first record that each sink still needs; `None` before its cursor was read.
type Needed = HashMap<Name, Option<(u32, u64)>>;

impl Positions {
    /// Epoch and number of the first record that some sink has not acknowledged; whatever comes before may be deleted.
    /// `None`: there is no sink. Before that is known, everything is needed: `(0, 0)`.
    pub fn lowest(&self) -> Option<(u32, u64)> {
        match &*lock(&self.0) {
            None => Some((0, 0)),
            Some(all) => all.values().map(|needed| needed.unwrap_or_default()).min(),
        }
    }

    /// True once it is known which sinks there are, and where each of them stands.
    pub fn are_known(&self) -> bool {
        lock(&self.0).as_ref().is_some_and(|all| all.values().all(Option::is_some))
    }

    /// The first record that `sink` still needs. Sinks that are not configured any more need none.
    pub(super) fn needs(&self, sink: &Name, epoch: u32, seq: u64) {
        if let Some(there) = lock(&self.0).as_mut().and_then(|all| all.get_mut(sink)) {
            *there = Some((epoch, seq));
        }
    }

    /// These are all sinks; what a new one needs is not known yet.
    fn are(&self, sinks: &[Arc<SinkSettings>]) {
        let mut all = lock(&self.0);
        let before = all.take().unwrap_or_default();
        let of = |name: &Name| before.get(name).copied().flatten();
        *all = Some(sinks.iter().map(|sink| (sink.name.clone(), of(&sink.name))).collect());
    }
}

impl Shippers {
    /// Nothing is shipped before [`Self::configure`].
    pub(super) fn new(directory: &Path, signer: Option<Arc<Signer>>, reached: watch::Receiver<Reached>) -> Self {
        let (positions, running) = (Arc::default(), Mutex::default());
        Self { directory: directory.to_owned(), signer, reached, positions, running }
    }

    /// How far the sinks are.
    pub fn positions(&self) -> Arc<Positions> {
        self.positions.clone()
    }

    /// Ships to `sinks` from now on, and to no others. Those that did not change go on as they are; a changed one goes on
    /// where its cursor stands, unless it is at another place now: then it gets everything. Must be called on the control plane.
    pub fn configure(&self, sinks: &[Arc<SinkSettings>]) {
        let Some(signer) = &self.signer else { return };
        self.positions.are(sinks);
        let mut running = lock(&self.running);
        let mut before = std::mem::take(&mut *running);
        for sink in sinks {
            let old = before.remove(&sink.name);
            let now = match old {
                Some(old) if old.settings.same(sink) => old,
                Some(old) => self.start(sink.clone(), signer, old.health.clone(), Some(old.leave())),
                None => self.start(sink.clone(), signer, Arc::default(), None),
            };
            running.insert(sink.name.clone(), now);
        }
        for (name, gone) in before {
            tracing::info!(sink = %name, "the audit trail is not sent to this sink any more");
            drop(gone.leave());
        }
    }

    /// Starts once `after` has ended, so that there is one writer of a cursor.
    fn start(
        &self,
        settings: Arc<SinkSettings>,
        signer: &Arc<Signer>,
        health: Arc<Health>,
        after: Option<JoinHandle<()>>,
    ) -> Running {
        let (order, orders) = watch::channel(Order::Run);
        let task = Task {
            seal: Seal::new(Arc::clone(signer), &settings),
            unsure: None,
            settings: settings.clone(),
            directory: self.directory.clone(),
            reached: self.reached.clone(),
            orders,
            positions: self.positions.clone(),
            health: health.clone(),
        };
        let task = tokio::spawn(async move {
            if let Some(after) = after {
                let _ = after.await; // a panic was told
            }
            task.keep_running().await;
        });
        Running { settings, order, task, health }
    }

    /// Lets every sink take what is in the journal by now, at most for `bound`, and ends them.
    pub async fn finish(&self, bound: Duration) {
        let all = std::mem::take(&mut *lock(&self.running));
        for running in all.values() {
            running.order.send_replace(Order::Finish);
        }
        let end = tokio::time::Instant::now() + bound;
        for (name, running) in all {
            if tokio::time::timeout_at(end, running.task).await.is_err() {
                let (reached, segments) = self.journal();
                let figures = running.health.figures(&segments, reached);
                tracing::warn!(sink = %name, records = figures.records_behind, "this sink has not taken all of the audit trail yet: it goes on at the next start");
                running.order.send_replace(Order::Leave);
            }
        }
    }

    /// How every sink is, in the order of their names.
    pub fn status(&self, now: SystemTime) -> Vec<Status> {
        let (running, (reached, segments)) = (lock(&self.running), self.journal());
        let one = |(name, running): (&Name, &Running)| {
            let figures = running.health.figures(&segments, reached);
            running.health.status(name, &running.settings, figures, now)
        };
        running.iter().map(one).collect()
    }

    /// How far the journal is on disk, and its files.
    fn journal(&self) -> (Reached, Vec<Segment>) {
        let reached = *self.reached.borrow(); // before the files are listed: what it names is among them
        (reached, Segment::list(&self.directory).unwrap_or_default())
    }
}

impl Running {
    fn leave(self) -> JoinHandle<()> {
        self.order.send_replace(Order::Leave);
        self.task
    }
}

#[cfg(test)]
mod tests;
