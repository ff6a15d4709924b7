//! The queue that leads to the writer, and what the writer tells about itself.

use super::{Event, crossing::Draft, record::Gap, segment::Reached, time::millis};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
            fence,
        },
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::Thread,
    time::{Duration, SystemTime},
};
use tokio::sync::{oneshot, watch};

/// Records in the queue at most; at 50,000 requests a second that is more than a second of them.
const QUEUE: usize = 65_536;
/// Their bytes at most, as estimated when they are handed over: paths of 8 KiB would else take half a gigabyte.
const BYTES: usize = 64 << 20;
/// Events beside requests that are kept where the queue is full: a flood of requests crowds out no end of a session.
const RESERVE: usize = 4_096;
/// Their bytes at most.
const RESERVE_BYTES: usize = 4 << 20;

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

impl Message {
    /// About how many bytes it takes in memory. It is the same for as long as the message lives.
    fn size(&self) -> usize {
        match self {
            Self::Crossing(draft) | Self::Decision(draft, _) => draft.size(),
            Self::Event(event, _) | Self::Awaited(event, ..) => event.size(),
        }
    }
}

/// The end of the queue that the writer reads.
pub(super) struct Incoming {
    receiver: Receiver<Message>,
    bytes: Arc<AtomicUsize>,
}

impl Incoming {
    /// The next one, if there is one.
    pub(super) fn next(&mut self) -> Option<Message> {
        let message = self.receiver.try_recv().ok()?;
        self.bytes.fetch_sub(message.size(), Relaxed);
        Some(message)
    }
}

/// Events beside requests that found the queue full.
#[derive(Default)]
pub(super) struct Reserve {
    pub(super) events: VecDeque<(Box<Event>, SystemTime)>,
    bytes: usize,
}

/// The way to the writer, and what it tells about itself.
pub(super) struct Queue {
    sender: SyncSender<Message>,
    /// Bytes that are in the queue.
    bytes: Arc<AtomicUsize>,
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
    pub(super) reserve: Mutex<Reserve>,
}

impl Queue {
    /// A queue, and the end that the writer reads.
    pub(super) fn new() -> (Arc<Self>, Incoming) {
        let (sender, receiver) = sync_channel(QUEUE);
        let bytes = Arc::new(AtomicUsize::new(0));
        let incoming = Incoming { receiver, bytes: Arc::clone(&bytes) };
        let queue = Self {
            sender,
            bytes,
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
            reserve: Mutex::default(),
        };
        (Arc::new(queue), incoming)
    }

    /// Hands over a record that nobody waits for. Never waits: what finds no room is counted, and leaves a gap record.
    pub(super) fn offer(&self, message: Message) {
        match self.push(message) {
            Ok(()) => self.wake_sleeper(),
            Err(Message::Event(event, now)) => self.keep(event, now),
            Err(Message::Crossing(_) | Message::Decision(..) | Message::Awaited(..)) => self.lose(SystemTime::now()),
        }
    }

    /// Puts it into the queue, or gives it back: there is no room, or nobody reads any more.
    fn push(&self, message: Message) -> Result<(), Message> {
        let size = message.size();
        if self.bytes.fetch_add(size, Relaxed) + size > BYTES {
            self.bytes.fetch_sub(size, Relaxed);
            return Err(message);
        }
        self.sender.try_send(message).map_err(|error| {
            self.bytes.fetch_sub(size, Relaxed);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = error;
            message
        })
    }

    /// Hands over a record that somebody waits for. False if it cannot be recorded now.
    pub(super) fn demand(&self, message: Message) -> bool {
        let accepted = self.healthy() && self.push(message).is_ok();
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
        let bytes = reserve.bytes + event.size();
        if reserve.events.len() < RESERVE && bytes <= RESERVE_BYTES && !self.ended() {
            reserve.bytes = bytes;
            reserve.events.push_back((event, now));
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

#[cfg(test)]
mod tests {
    use super::{super::Crossing, *};

    fn large(queue: &Arc<Queue>) -> Crossing {
        let crossing = Crossing::new(Arc::clone(queue), [127, 0, 0, 1].into(), SystemTime::now());
        crossing.set(|draft| draft.session = Some("x".repeat(1 << 20).into()));
        crossing
    }

    /// Few large records fill it as many small ones do; what is over is counted, and what is taken makes room.
    #[test]
    fn the_queue_is_bounded_by_bytes() {
        let (queue, mut incoming) = Queue::new();
        (0..100).for_each(|_| drop(large(&queue)));
        assert_eq!((queue.lost(), lock(&queue.gap).as_ref().map(|gap| gap.count)), (37, Some(37)));
        assert!(incoming.next().is_some());
        (0..2).for_each(|_| drop(large(&queue)));
        assert_eq!(queue.lost(), 38);
        while incoming.next().is_some() {}
        assert_eq!(queue.bytes.load(Relaxed), 0);
    }

    /// Events beside requests are kept where requests fill the queue, but not without end either.
    #[test]
    fn the_reserve_is_bounded_by_bytes() {
        let (queue, mut incoming) = Queue::new();
        (0..64).for_each(|_| drop(large(&queue)));
        for _ in 0..100 {
            let (provider, detail) = ("gitlab".to_owned(), "x".repeat(1 << 20));
            let event = Event::SignOutRefused { provider, detail, client: [127, 0, 0, 1].into(), count: 1 };
            queue.offer(Message::Event(Box::new(event), SystemTime::now()));
        }
        assert_eq!((lock(&queue.reserve).events.len(), queue.lost()), (3, 1 + 97));
        assert_eq!(std::iter::from_fn(|| incoming.next()).count(), 63);
    }
}
