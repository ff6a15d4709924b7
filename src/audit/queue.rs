//! The queue that leads to the writer, and what the writer tells about itself.

use super::{Event, crossing::Draft, record::Gap, segment::Reached, time::millis};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::Thread,
    time::{Duration, SystemTime},
};
use tokio::sync::{oneshot, watch};

/// Records in the queue at most, about 2 MiB of pointers; at 50,000 requests a second that is more than a second of them.
const QUEUE: usize = 65_536;
/// Events beside requests that are kept where the queue is full: a flood of requests crowds out no end of a session.
const RESERVE: usize = 4_096;

/// What the writer is told.
pub(super) enum Message {
    /// A record of a request.
    Crossing(Box<Draft>),
    /// A decision that somebody waits for; the answer is the number of its record, once that is on disk.
    Decision(Box<Draft>, oneshot::Sender<u64>),
    /// Something that is not a request and that somebody waits for in the same way.
    Awaited(Box<Event>, SystemTime, oneshot::Sender<u64>),
    /// Something that is not a request.
    Event(Box<Event>, SystemTime),
}

/// The way to the writer, and what it tells about itself.
pub(super) struct Queue {
    sender: SyncSender<Message>,
    /// The writer's thread, once it runs.
    pub(super) writer: OnceLock<Thread>,
    /// The writer sleeps soundly and has to be woken.
    pub(super) asleep: AtomicBool,
    /// The journal cannot be written.
    pub(super) failing: AtomicBool,
    /// The writer is asked to end.
    pub(super) closing: AtomicBool,
    /// It takes no more records.
    pub(super) ended: AtomicBool,
    end: (Mutex<bool>, Condvar),
    /// Events that reached the journal's file.
    pub(super) written: AtomicU64,
    /// Events that were lost.
    pub(super) lost: AtomicU64,
    /// How far the journal is on disk; whoever ships it waits for that.
    pub(super) reached: watch::Sender<Reached>,
    /// Losses that the journal does not tell of yet.
    pub(super) gap: Mutex<Option<Gap>>,
    /// Events beside requests that found the queue full.
    pub(super) reserve: Mutex<VecDeque<(Box<Event>, SystemTime)>>,
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
            reached: watch::Sender::new(Reached::default()),
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

    /// Hands over a record that somebody waits for. False if it cannot be recorded now.
    pub(super) fn demand(&self, message: Message) -> bool {
        let accepted = self.healthy() && self.sender.try_send(message).is_ok();
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

    /// The fence here and the one in the writer's `rest` see to it that either we see the sleeper or it sees our record.
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
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells the queue that the writer has ended, also if it panicked.
pub(super) struct End(pub(super) Arc<Queue>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.ended.store(true, SeqCst);
        *lock(&self.0.end.0) = true;
        self.0.end.1.notify_all();
    }
}
