//! The one thread that writes the journal, and the queue that leads to it.
//!
//! The request path pays one send: it neither serialises nor wakes the writer while that is busy. The writer looks every
//! 10 ms, drains until nothing is left, and sleeps soundly only when nothing came for a while. A decision that somebody waits
//! for wakes it at once; all that wait together share one sync.

use super::{
    Event,
    crossing::Draft,
    event::Ocsf,
    journal::Journal,
    record::{Gap, Kind},
    time::millis,
};
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, Thread},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::oneshot;

/// Records in the queue at most, about 2 MiB of pointers; at 50,000 requests a second that is more than a second of them.
const QUEUE: usize = 65_536;
/// Events beside requests that are kept where the queue is full: a flood of requests crowds out no end of a session.
const RESERVE: usize = 4_096;
/// Bytes of records that are kept while the journal cannot be written; after that the queue fills.
const PENDING: usize = 16 << 20;
/// How often a busy writer looks.
const NAP: Duration = Duration::from_millis(10);
/// How often an idle one looks, and a failing one tries again. Also the longest time until a record is on disk.
const SECOND: Duration = Duration::from_secs(1);
/// How often records are signed.
const HEAD: Duration = Duration::from_secs(10);

/// What the writer is told.
pub(super) enum Message {
    /// A record of a request.
    Crossing(Box<Draft>),
    /// A decision that somebody waits for; the answer is the number of its record, once that is on disk.
    Decision(Box<Draft>, oneshot::Sender<u64>),
    /// Something that is not a request.
    Event(Box<Event>, SystemTime),
}

/// The way to the writer, and what it tells about itself.
pub(super) struct Queue {
    sender: SyncSender<Message>,
    writer: OnceLock<Thread>,
    asleep: AtomicBool,
    failing: AtomicBool,
    closing: AtomicBool,
    ended: AtomicBool,
    end: (Mutex<bool>, Condvar),
    written: AtomicU64,
    lost: AtomicU64,
    gap: Mutex<Option<Gap>>,
    reserve: Mutex<VecDeque<(Box<Event>, SystemTime)>>,
}

impl Queue {
    /// A queue, and the end that the writer reads.
    pub(super) fn new() -> (Arc<Self>, Receiver<Message>) {
        let (sender, receiver) = sync_channel(QUEUE);
        let queue = Self {
            sender,
            writer: OnceLock::new(),
            asleep: AtomicBool::new(false),
            failing: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            end: (Mutex::new(false), Condvar::new()),
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            gap: Mutex::new(None),
            reserve: Mutex::new(VecDeque::new()),
        };
        (Arc::new(queue), receiver)
    }

    /// Hands over a record that nobody waits for. Never waits: what finds no room is counted, and leaves a gap record.
    pub(super) fn offer(&self, message: Message) {
        match self.sender.try_send(message) {
            Ok(()) => self.wake_sleeper(),
            Err(
                TrySendError::Full(Message::Event(event, now)) | TrySendError::Disconnected(Message::Event(event, now)),
            ) => {
                self.keep(event, now);
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lose(SystemTime::now()),
        }
    }

    /// Hands over a decision that somebody waits for. False if it cannot be recorded now.
    pub(super) fn demand(&self, draft: Box<Draft>, waiter: oneshot::Sender<u64>) -> bool {
        let accepted = self.healthy() && self.sender.try_send(Message::Decision(draft, waiter)).is_ok();
        if accepted {
            self.wake();
        }
        accepted
    }

    /// True while the journal can be written.
    pub(super) fn healthy(&self) -> bool {
        !self.failing.load(Relaxed) && !self.ended.load(Relaxed)
    }

    /// Events that reached the journal's file.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Events that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Asks the writer to write everything, sign it, and end.
    pub(super) fn close(&self) {
        self.closing.store(true, SeqCst);
        self.wake();
    }

    /// Waits until the writer has ended, at most for `bound`. False if it has not.
    pub(super) fn join(&self, bound: Duration) -> bool {
        let (ended, signal) = &self.end;
        let waited = signal.wait_timeout_while(lock(ended), bound, |ended| !*ended);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ended(&self) -> bool {
        self.ended.load(SeqCst)
    }

    fn keep(&self, event: Box<Event>, now: SystemTime) {
        let mut reserve = lock(&self.reserve);
        if reserve.len() < RESERVE && !self.ended() {
            reserve.push_back((event, now));
        } else {
            drop(reserve);
            self.lose(now);
        }
    }

    fn lose(&self, now: SystemTime) {
        let now = millis(now);
        if self.lost.fetch_add(1, Relaxed) == 0 {
            tracing::error!("an audit record was lost: the queue to the journal is full or closed");
        }
        let mut gap = lock(&self.gap);
        let gap = gap.get_or_insert(Gap { count: 0, first: now, last: now });
        gap.count += 1;
        gap.last = gap.last.max(now);
    }

    /// The fence here and the one in [`Writer::rest`] see to it that either we see the sleeper or it sees our record.
    fn wake_sleeper(&self) {
        fence(SeqCst);
        if self.asleep.load(Relaxed) && self.asleep.swap(false, SeqCst) {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }
}

/// Locks, also after a panic elsewhere: what these locks guard is whole at every point.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The writer's side.
pub(super) struct Writer {
    journal: Journal,
    queue: Arc<Queue>,
    receiver: Receiver<Message>,
    /// Taken from the queue, not yet recorded.
    next: Option<Message>,
    /// Those who wait for a sync, and for which record.
    waiters: Vec<(oneshot::Sender<u64>, u64)>,
    /// Events that are pending in the journal.
    unwritten: u64,
    synced: Instant,
    signed: Instant,
    /// There is more in the queue than had room.
    more: bool,
    closing: bool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub(super) fn start(journal: Journal, queue: Arc<Queue>, receiver: Receiver<Message>) -> io::Result<()> {
        let now = Instant::now();
        let writer = Self {
            journal,
            queue: Arc::clone(&queue),
            receiver,
            next: None,
            waiters: Vec::new(),
            unwritten: 0,
            synced: now,
            signed: now,
            more: false,
            closing: false,
        };
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
                failed = self.settle().then(Instant::now);
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
        let room = if self.queue.failing.load(Relaxed) { PENDING } else { PENDING / 2 };
        while self.journal.pending() < room {
            let Some(message) = self.next.take().or_else(|| self.receiver.try_recv().ok()) else {
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
            Message::Crossing(draft) => self.event(&Ocsf::request(&draft)),
            Message::Event(event, now) => self.event(&Ocsf::other(&event, now)),
            Message::Decision(_, waiter) if waiter.is_closed() => 0,
            Message::Decision(draft, waiter) => {
                let seq = self.event(&Ocsf::request(&draft));
                self.waiters.push((waiter, seq));
                seq
            }
        };
    }

    fn event(&mut self, event: &Ocsf<'_>) -> u64 {
        self.unwritten += 1;
        self.journal.push(Kind::Event, event)
    }

    /// Records what did not come by the queue: gaps, and events from the reserve. True if there was anything.
    fn side(&mut self) -> bool {
        if self.journal.pending() >= PENDING {
            return false;
        }
        let reserve = std::mem::take(&mut *lock(&self.queue.reserve));
        let gap = lock(&self.queue.gap).take();
        for (event, now) in &reserve {
            self.event(&Ocsf::other(event, *now));
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
        let failing = result.is_err();
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
        self.journal.rotate(now)?;
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

    fn due(&self, clock: Instant) -> bool {
        self.journal.pending() >= PENDING / 2
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
        self.next = self.receiver.try_recv().ok();
        if self.next.is_none() && !self.queue.closing.load(SeqCst) {
            thread::park_timeout(SECOND);
        }
        self.queue.asleep.store(false, SeqCst);
    }

    /// The last word: everything is written and signed, or counted as lost.
    fn finish(&mut self, failing: bool) {
        self.queue.ended.store(true, SeqCst);
        let late = self.next.take().into_iter().chain(self.receiver.try_iter()).count() as u64;
        let lost = late + if failing { self.unwritten } else { 0 };
        if lost > 0 {
            self.queue.lost.fetch_add(lost, Relaxed);
            tracing::error!(lost, "audit records are lost: the journal was closed before they could be written");
        }
    }
}

/// Tells the queue that the writer has ended, also if it panicked.
struct End(Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, SeqCst);
        *lock(&self.0.end.0) = true;
        self.0.end.1.notify_all();
    }
}
