//! The one thread that writes the journal.
//!
//! The request path pays one send: it neither serialises nor wakes the writer while that is busy. The writer looks every
//! 10 ms, drains until nothing is left, and sleeps soundly only when nothing came for a while. A decision that somebody waits
//! for wakes it at once; all that wait together share one sync.

use super::{
    Event,
    crossing::Draft,
    index::Keeper,
    journal::Journal,
    lens::Lens,
    ocsf::Ocsf,
    queue::{End, Incoming, Message, Queue, lock},
    record::{Close, Kind},
    retain::{Asked, Due},
    ship::Positions,
    spare::Spare,
    time::millis,
};
use crate::config::Retention;
use std::{
    io,
    sync::{
        Arc,
        atomic::{
            Ordering::{Relaxed, SeqCst},
            fence,
        },
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::oneshot;

/// Bytes of records that are kept while the journal cannot be written; after that the queue fills.
const PENDING: usize = 8 << 20;
/// Room that is kept for them, where retention may have to make more: for these and the events that came beside the queue.
const SPARE: u64 = 2 * PENDING as u64;
/// How often a busy writer looks.
const NAP: Duration = Duration::from_millis(10);
/// How often an idle one looks, and a failing one tries again. Also the longest time until a record is on disk.
const SECOND: Duration = Duration::from_secs(1);
/// How often records are signed.
const HEAD: Duration = Duration::from_secs(10);
/// A wall clock that went so much further than time did is not believed: nothing goes for its age then.
const JUMP: Duration = Duration::from_secs(3600);
/// So many segments go before it is looked again what is to be written.
const AT_ONCE: usize = 8;
/// How often it is looked what retention asks for, beside each new segment.
const RETAIN: Duration = Duration::from_secs(60);

/// The writer's side.
pub(super) struct Writer {
    journal: Journal,
    lens: Lens,
    queue: Arc<Queue>,
    retention: Retention,
    /// Room for the records that retention writes.
    spare: Spare,
    /// The journal cannot be written because the disk is full.
    full: bool,
    /// How far the sinks are, which retention waits for.
    positions: Arc<Positions>,
    incoming: Incoming,
    /// Taken from the queue, not yet recorded.
    next: Option<Message>,
    /// Those who wait for a sync, and for which record.
    waiters: Vec<(oneshot::Sender<u64>, u64)>,
    /// Events that are pending in the journal.
    unwritten: u64,
    synced: Instant,
    signed: Instant,
    /// When retention was looked at last; `None`: it is due.
    retained: Option<Instant>,
    /// When it was started, by both clocks.
    begun: (Instant, SystemTime),
    /// The operator was told that retention waits, or fails.
    told: bool,
    /// There is more in the queue than had room.
    more: bool,
    closing: bool,
    /// The record of that was made.
    closed: bool,
    /// Makes the indexes of segments that are closed.
    keeper: Option<Keeper>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start(
        journal: Journal,
        lens: Lens,
        retention: Retention,
        positions: Arc<Positions>,
        queue: Arc<Queue>,
        incoming: Incoming,
    ) -> io::Result<()> {
        let now = Instant::now();
        let keeper = Keeper::start(journal.directory());
        if let Err(error) = &keeper {
            tracing::warn!("no indexes of the audit journal are made until it is searched: {error}");
        }
        queue.reached.send_replace(journal.reached());
        let writer = Self {
            keeper: keeper.ok(),
            spare: Spare::of(journal.directory()),
            full: false,
            journal,
            lens,
            queue: Arc::clone(&queue),
            retention,
            positions,
            incoming,
            next: None,
            waiters: Vec::new(),
            unwritten: 0,
            synced: now,
            signed: now,
            retained: None,
            begun: (now, SystemTime::now()),
            told: false,
            more: false,
            closing: false,
            closed: false,
        };
        if writer.retention != Retention::default() {
            writer.keep_spare();
        }
        let end = End(Arc::clone(&queue));
        let handle = thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _end = end;
            // Moved here to be dropped, and the journal unlocked, before the end is told.
            let mut writer = writer;
            writer.run();
        })?;
        queue.writer.get_or_init(|| handle.thread().clone());
        Ok(())
    }

    fn run(&mut self) {
        let mut idle = 0;
        let mut failed: Option<Instant> = None;
        loop {
            self.closing = self.queue.closing.load(SeqCst);
            let drained = self.drain();
            if failed.is_none_or(|at| at.elapsed() >= SECOND || self.closing) {
                failed = (self.settle() && (!self.make_room() || self.settle())).then(Instant::now);
                if failed.is_none() {
                    // segments may come as fast as they go
                    let _ = (0..AT_ONCE).take_while(|_| self.retain(Instant::now())).count();
                }
            } else {
                self.waiters.clear();
            }
            if self.closing && !self.more {
                return self.finish(failed.is_some());
            }
            idle = if drained { 0 } else { idle + 1 };
            self.rest(idle > 3);
        }
    }

    /// Records what is in the queue until nothing is left or there is no room. True if there was anything.
    fn drain(&mut self) -> bool {
        let mut drained = self.side();
        while self.journal.pending() < PENDING {
            let Some(message) = self.next.take().or_else(|| self.incoming.next()) else {
                self.more = false;
                return drained;
            };
            drained = true;
            self.take(message);
        }
        self.more = !self.queue.failing.load(Relaxed);
        drained
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Crossing(draft) => self.request(&draft),
            Message::Event(event, now) => self.other(&event, now),
            Message::Decision(_, waiter) if waiter.is_closed() => 0,
            Message::Decision(draft, waiter) => {
                let seq = self.request(&draft);
                self.waiters.push((waiter, seq));
                seq
            }
            Message::Awaited(event, now, waiter) => {
                let seq = self.other(&event, now);
                self.waiters.push((waiter, seq));
                seq
            }
        };
    }

    fn request(&mut self, draft: &Draft) -> u64 {
        self.unwritten += 1;
        self.journal.push(Kind::Event, &Ocsf::request(draft, &self.lens))
    }

    fn other(&mut self, event: &Event, now: SystemTime) -> u64 {
        self.unwritten += 1;
        self.journal.push(Kind::Event, &Ocsf::other(event, now, &self.lens))
    }

    /// Records what did not come by the queue: gaps, and events from the reserve. True if there was anything.
    fn side(&mut self) -> bool {
        if self.journal.pending() >= PENDING {
            return false;
        }
        let reserve = std::mem::take(&mut *lock(&self.queue.reserve)).events;
        let gap = lock(&self.queue.gap).take();
        for (event, now) in &reserve {
            self.other(event, *now);
        }
        if let Some(gap) = &gap {
            self.journal.push(Kind::Gap, gap);
        }
        gap.is_some() || !reserve.is_empty()
    }

    /// Brings records to disk as they demand, tells those who wait, and says so when the journal begins or ceases to fail.
    /// True if it fails.
    fn settle(&mut self) -> bool {
        let result = self.write();
        let reached = self.journal.reached();
        self.queue.reached.send_if_modified(|there| std::mem::replace(there, reached) != reached);
        let failing = result.is_err();
        self.full = result
            .as_ref()
            .is_err_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded));
        let before = self.queue.failing.swap(failing, SeqCst);
        match result {
            Ok(()) if before => tracing::error!(lost = self.queue.lost(), "the audit journal is written again"),
            Ok(()) => {}
            Err(_) if before => {}
            Err(error) => tracing::error!(%error, "the audit journal cannot be written; it is tried again each second"),
        }
        if failing {
            self.waiters.clear();
        }
        for (waiter, seq) in self.waiters.drain(..) {
            // Whoever no longer waits has refused the request already.
            let _ = waiter.send(seq);
        }
        failing
    }

    fn write(&mut self) -> io::Result<()> {
        let (now, clock) = (SystemTime::now(), Instant::now());
        if self.journal.rotate(now)? {
            self.retained = None;
            self.keeper.iter().for_each(Keeper::wake);
        }
        if self.closing && !self.more && !std::mem::replace(&mut self.closed, true) {
            self.journal.push(Kind::Close, &Close { time: millis(now), lost: self.queue.lost() });
        }
        if self.journal.unsigned() && (self.closing || clock.duration_since(self.signed) >= HEAD) {
            self.journal.head(now);
            self.signed = clock;
        }
        if !self.waiters.is_empty() || self.closing || self.due(clock) {
            self.journal.sync()?;
            self.synced = clock;
        } else {
            self.journal.flush()?;
        }
        self.queue.written.fetch_add(std::mem::take(&mut self.unwritten), Relaxed);
        Ok(())
    }

    /// Removes a segment, if retention asks for that; true if it did. What fails is told once, and tried again.
    fn retain(&mut self, clock: Instant) -> bool {
        let rests = self.retained.is_some_and(|at| clock.duration_since(at) < RETAIN);
        if rests || self.closing || !self.may_retain() {
            return false;
        }
        self.retained = Some(clock);
        let now = SystemTime::now();
        let (retention, believed) = self.retention_at(clock, now);
        let asked = self.journal.retain(&retention, self.positions.lowest(), now);
        if asked.is_ok() {
            self.keep_spare(); // not before: what a segment leaves is needed first
        }
        match asked {
            Ok(Asked::Nothing) if !believed && self.retention.age.is_some() => {
                self.tell("the clock jumped ahead, so nothing goes for its age until a restart");
            }
            Ok(Asked::Nothing) => self.told = false,
            Ok(Asked::Gone(due)) => {
                let Due { segment, removal } = *due;
                (self.retained, self.told) = (None, false); // there may be another
                tracing::info!(
                    segment = segment.name(),
                    why = removal.why,
                    "a segment of the audit journal was removed by retention"
                );
                return true;
            }
            Ok(Asked::Held(segment)) => self.tell(&format!("`{}` is not at every sink yet", segment.name())),
            Err(error) => self.tell(&error),
        }
        false
    }

    fn keep_spare(&self) {
        if let Err(error) = self.spare.keep(SPARE) {
            tracing::debug!(%error, "there is no room to spare beside the audit journal");
        }
    }

    /// True if there is retention, and it is known what the sinks need.
    fn may_retain(&self) -> bool {
        self.retention != Retention::default() && self.positions.are_known()
    }

    /// What retention asks for now, and whether the clock is believed.
    fn retention_at(&self, clock: Instant, now: SystemTime) -> (Retention, bool) {
        let believed = is_believed(self.begun, (clock, now));
        (if believed { self.retention.clone() } else { Retention { age: None, ..self.retention } }, believed)
    }

    /// Where the disk is full and a segment is due, gives room that was spared, so that it can be recorded that the segment goes.
    /// True if there is room now.
    fn make_room(&mut self) -> bool {
        if !self.full || self.closing || !self.may_retain() {
            return false;
        }
        let now = SystemTime::now();
        let (retention, _) = self.retention_at(Instant::now(), now);
        let due = matches!(self.journal.asked(&retention, self.positions.lowest(), now), Ok(Asked::Gone(_)));
        let released = due && self.spare.release();
        if released {
            self.retained = None;
            tracing::warn!(
                "the disk of the audit journal is full: what was spared is used to remove segments that are due"
            );
        }
        released
    }

    fn tell(&mut self, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!("the audit journal keeps more than `audit.retention` says: {why}; it is tried again");
        }
    }

    fn due(&self, clock: Instant) -> bool {
        self.journal.pending() >= PENDING
            || self.queue.failing.load(Relaxed)
            || clock.duration_since(self.synced) >= SECOND - NAP
    }

    fn rest(&mut self, idle: bool) {
        if self.more {
            return;
        }
        if !idle || self.journal.pending() > 0 {
            return thread::park_timeout(NAP);
        }
        self.queue.asleep.store(true, SeqCst);
        fence(SeqCst);
        self.next = self.incoming.next();
        if self.next.is_none() && !self.queue.closing.load(SeqCst) {
            thread::park_timeout(SECOND);
        }
        self.queue.asleep.store(false, SeqCst);
    }

    /// The last word: everything is written and signed, or counted as lost.
    fn finish(&mut self, failing: bool) {
        self.queue.ended.store(true, SeqCst);
        let late = self.next.take().into_iter().chain(std::iter::from_fn(|| self.incoming.next())).count() as u64;
        let lost = late + if failing { self.unwritten } else { 0 };
        if lost > 0 {
            self.queue.lost.fetch_add(lost, Relaxed);
            tracing::error!(lost, "audit records are lost: the journal was closed before they could be written");
        }
    }
}

/// Whether the wall clock went no further than time did since then, but for what a clock is set right by.
fn is_believed((clock, wall): (Instant, SystemTime), (clock_now, wall_now): (Instant, SystemTime)) -> bool {
    let went = wall_now.duration_since(wall).unwrap_or_default();
    went.saturating_sub(clock_now.duration_since(clock)) < JUMP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_not_believed() {
        let begun = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
        let after = |clock: u64, wall: u64| (begun.0 + Duration::from_secs(clock), begun.1 + Duration::from_secs(wall));
        assert!(is_believed(begun, after(86_400, 86_400)) && is_believed(begun, after(10, 3_000)));
        assert!(!is_believed(begun, after(4, 10 * 365 * 86_400)));
        assert!(is_believed(begun, (begun.0, SystemTime::UNIX_EPOCH)), "back is no reason to remove anything");
    }
}
