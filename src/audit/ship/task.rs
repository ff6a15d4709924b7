//! The task of one sink: reads, sends, waits for the acknowledgement, moves the cursor.

use super::{
    super::segment::{Reached, Segment},
    Positions,
    batch::Record,
    cursor::{Cursor, Seal, Unfit},
    health::{Health, State},
    reader::{Found, Reader},
    sink::{Sink, Trouble, at},
};
use crate::config::SinkSettings;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, task::spawn_blocking};

/// How long records gather before they are sent, where a sink is not behind.
const GATHER: Duration = Duration::from_millis(100);
/// The first and the longest pause after a failure; each is up to twice as long as the one before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(15));
/// Whoever asks for more patience gets no more than this.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a task is to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// Ship, for ever.
    Run,
    /// Ship what there is, and end.
    Finish,
    /// End, whatever is under way.
    Leave,
}

/// The task of one sink.
#[derive(Clone)]
pub(super) struct Task {
    pub(super) settings: Arc<SinkSettings>,
    pub(super) seal: Seal,
    /// The last record of what was sent last, where the sink says of nothing that it has it.
    pub(super) unsure: Option<Cursor>,
    pub(super) directory: PathBuf,
    pub(super) reached: watch::Receiver<Reached>,
    pub(super) orders: watch::Receiver<Order>,
    pub(super) positions: Arc<Positions>,
    pub(super) health: Arc<Health>,
}

/// The task is to end.
struct Over;

impl Task {
    /// Ships until it is told to end. Should it panic, it begins anew at its cursor, loudly.
    pub(super) async fn keep_running(self) {
        loop {
            let mut task = self.clone();
            let Err(error) = tokio::spawn(async move { task.run().await }).await else { return };
            tracing::error!(sink = %self.settings.name, %error, "a shipper of the audit trail ended and begins anew");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn run(&mut self) {
        let mut sink = Sink::new(&self.settings);
        let _ = self.ship(&mut sink).await; // however it ended
        if sink.close().await
            && let Some(cursor) = self.unsure.take()
            && let Err(error) = self.keep(cursor).await
        {
            tracing::error!(sink = %self.settings.name, "{error}: records are sent again that this sink of the audit trail has");
        }
    }

    /// `Ok` once everything is shipped and nothing more is to come.
    async fn ship(&mut self, sink: &mut Sink) -> Result<(), Over> {
        let mut pauses = pauses();
        let mut reader = loop {
            match self.open().await {
                Ok(reader) => break reader,
                Err(error) => self.pause(State::Failing, &error, pauses.next()).await?,
            }
        };
        loop {
            let reached = *self.reached.borrow_and_update();
            let found;
            (reader, found) = match self.read(reader, reached).await {
                (reader, Ok(found)) => (reader, found),
                (reader, Err(error)) => {
                    self.pause(State::Failing, &error, pauses.next()).await?;
                    (reader, Found::default())
                }
            };
            self.unreadable(&found.unreadable);
            self.health.waiting(found.records.first());
            if found.records.is_empty() {
                if self.order()? == Order::Finish && *self.reached.borrow() == reached {
                    return Ok(());
                }
                self.more().await?;
                continue;
            }
            self.deliver(sink, &found.records).await?;
            pauses = self::pauses();
        }
    }

    /// What to do. Where nobody is left to say so, that is to end.
    fn order(&self) -> Result<Order, Over> {
        let order = *self.orders.borrow();
        if order == Order::Leave || self.orders.has_changed().is_err() { Err(Over) } else { Ok(order) }
    }

    /// Waits for more records, or for an order.
    async fn more(&mut self) -> Result<(), Over> {
        if self.order()? == Order::Finish {
            return Ok(());
        }
        let mut orders = self.orders.clone();
        let gathered = async {
            let changed = self.reached.changed().await;
            tokio::time::sleep(GATHER).await;
            changed
        };
        tokio::select! {
            changed = gathered => changed.map_err(|_| Over), // else the journal is closed, and an order is lost
            _ = orders.wait_for(|order| *order != Order::Run) => Ok(()),
        }
    }

    /// Opens the journal where the cursor stands.
    pub(super) async fn open(&self) -> Result<Reader, String> {
        let (directory, seal) = (self.directory.clone(), self.seal.clone());
        let opened = spawn_blocking(move || {
            let (cursor, unfit) = match seal.load(&directory) {
                Ok(cursor) => (cursor, None),
                Err(unfit) => (None, Some(unfit)),
            };
            let (reader, stray) = Reader::open(&directory, cursor.as_ref())?;
            let unfit = unfit.or(stray.map(Unfit::Broken));
            Ok::<_, String>((reader, cursor.filter(|_| unfit.is_none()), unfit))
        });
        let (reader, cursor, unfit) = opened.await.map_err(|error| error.to_string())??;
        let position = cursor.as_ref().map(|cursor| (cursor.epoch, cursor.seq));
        self.tell(position, unfit);
        self.health.resumed(position, reader.place());
        let (epoch, seq) = position.map_or((0, 0), |(epoch, seq)| (epoch, seq + 1));
        self.positions.needs(&self.settings.name, epoch, seq);
        Ok(reader)
    }

    /// Says from where on the sink gets records.
    fn tell(&self, position: Option<(u32, u64)>, unfit: Option<Unfit>) {
        let name = &self.settings.name;
        match unfit {
            Some(Unfit::Foreign(why)) => {
                tracing::warn!(sink = %name, "the cursor of this sink of the audit trail is not gone by: {why}; all that the journal has is sent anew");
            }
            Some(Unfit::Broken(why)) => {
                tracing::error!(sink = %name, "the cursor of this sink of the audit trail leads nowhere: {why}; all that the journal has is sent again");
            }
            None => {}
        }
        match position {
            Some((epoch, seq)) => {
                tracing::info!(sink = %name, epoch, seq, "this sink of the audit trail has all up to this record, and goes on behind it");
            }
            None => {
                tracing::info!(sink = %name, "this sink of the audit trail begins with the oldest record of the journal")
            }
        }
    }

    async fn read(&self, reader: Reader, reached: Reached) -> (Reader, Result<Found, String>) {
        let bytes = self.settings.batch;
        let read = spawn_blocking(move || {
            let mut reader = reader;
            let found = reader.read(reached, bytes);
            (reader, found)
        });
        match read.await {
            Ok(read) => read,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => std::future::pending().await, // everything ends here
            },
        }
    }

    fn unreadable(&self, places: &[String]) {
        self.health.unreadable(places.len());
        for place in places {
            tracing::error!(sink = %self.settings.name, %place, "what stands in the audit journal here is no record, and is not sent: run `vestibule audit verify`");
        }
    }

    /// Sends until all of `records` are acknowledged. What is refused is cut in halves, until the one that it is about is alone.
    async fn deliver(&mut self, sink: &mut Sink, records: &[Record]) -> Result<(), Over> {
        let (mut rest, mut size, mut pauses) = (records, records.len(), pauses());
        while !rest.is_empty() {
            self.health.waiting(rest.first());
            let some = &rest[..size.min(rest.len())];
            let mut orders = self.orders.clone();
            let sent = tokio::select! {
                sent = sink.send(some) => sent,
                _ = orders.wait_for(|order| *order == Order::Leave) => return Err(Over),
            };
            match sent {
                Ok(taken) => {
                    self.taken(some, taken, sink.says_what_it_has()).await;
                    rest = &rest[some.len()..];
                    size = (size * 2).min(records.len());
                    pauses = self::pauses();
                }
                Err(Trouble::Refused(error)) if some.len() > 1 => {
                    tracing::debug!(sink = %self.settings.name, %error, records = some.len(), "records are refused together");
                    size = some.len() / 2;
                }
                Err(Trouble::Refused(error)) => {
                    let Record { epoch, seq, .. } = &some[0];
                    let error = format!("record {seq} of epoch {epoch} is refused: {error}");
                    self.pause(State::Refusing, &error, Some(PAUSES.1)).await?;
                }
                Err(Trouble::Failed(error)) => {
                    self.pause(State::Failing, &at(&self.settings, &error), pauses.next()).await?;
                }
                Err(Trouble::Later(error, after)) => {
                    let pause = pauses.next().unwrap_or(PAUSES.1).max(after.min(PATIENCE));
                    self.pause(State::Failing, &at(&self.settings, &error), Some(pause)).await?;
                }
            }
        }
        Ok(())
    }

    /// Moves the cursor behind `records`; where the sink is not `sure` to have them, behind those that were sent before.
    async fn taken(&mut self, records: &[Record], rejected: Option<super::sink::Rejected>, sure: bool) {
        let Some(last) = records.last() else { return };
        let name = self.settings.name.clone();
        if let Some(rejected) = rejected {
            self.health.rejected(rejected.count);
            tracing::error!(sink = %name, records = rejected.count, from = records[0].seq, to = last.seq, said = rejected.said, "this sink of the audit trail threw records away that it took, and must not be sent them again");
        }
        let place = Segment::named(&self.directory, &last.segment);
        let place = place.map(|segment| (segment, last.offset + last.line.len() as u64 + 1));
        let cursor = Cursor::at(last);
        let certain = if sure { Some(cursor) } else { self.unsure.replace(cursor) };
        let stored = match certain {
            Some(cursor) => self.keep(cursor).await,
            None => Ok(()),
        };
        let again = self.health.taken(records.len(), last, place, stored.is_ok(), SystemTime::now());
        if let Err(error) = stored
            && self.health.failed(State::Failing, &error)
        {
            tracing::error!(sink = %name, "{error}: after a restart, records are sent again that this sink of the audit trail has");
        }
        if again {
            tracing::info!(sink = %name, "this sink of the audit trail takes records again");
        }
    }

    /// The sink has everything up to `cursor`. That lets retention go on, also where the cursor itself finds no room.
    async fn keep(&self, cursor: Cursor) -> Result<(), String> {
        self.positions.needs(&self.settings.name, cursor.epoch, cursor.seq + 1);
        let (directory, seal) = (self.directory.clone(), self.seal.clone());
        let stored = spawn_blocking(move || seal.store(&cursor, &directory)).await;
        stored.map_err(|error| error.to_string()).and_then(|stored| stored)
    }

    /// Says that something failed, if that is new, and waits. At the end there is no more patience than for one more try.
    async fn pause(&self, state: State, error: &str, pause: Option<Duration>) -> Result<(), Over> {
        if self.health.failed(state, error) {
            let name = &self.settings.name;
            match state {
                State::Refusing => {
                    tracing::error!(sink = %name, "{error}; nothing behind it is sent before this sink of the audit trail takes it")
                }
                _ => {
                    tracing::error!(sink = %name, "this sink of the audit trail takes no records: {error}; it is tried again and again")
                }
            }
        }
        if self.order()? == Order::Finish {
            return Err(Over);
        }
        let mut orders = self.orders.clone();
        tokio::select! {
            () = tokio::time::sleep(pause.unwrap_or(PAUSES.1)) => {}
            _ = orders.wait_for(|order| *order != Order::Run) => {}
        }
        self.order().map(drop)
    }
}

fn pauses() -> ExponentialBackoff {
    let builder = ExponentialBuilder::new().with_min_delay(PAUSES.0).with_max_delay(PAUSES.1);
    builder.with_jitter().without_max_times().build()
}
