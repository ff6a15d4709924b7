//! The buckets of all who are counted under one limit, of all cores. Bounded, and without anybody's name in it.

use super::{
    Limit,
    bucket::{Bucket, Full},
};
use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

/// So many have a bucket of their own under one limit.
pub(super) const MOST: usize = 65_536;
/// So many cores find one at the same time without meeting, if they look for different ones.
const SHARDS: usize = 32;

/// The buckets of all who are counted under one limit.
///
/// Whoever is new where it is full shares a bucket with all others who are: nobody passes without being counted, nobody who has
/// a bucket loses it to a crowd, and nobody gets rid of what they spent by bringing one.
pub(super) struct Table {
    hasher: RandomState,
    shards: [Shard; SHARDS],
    len: AtomicUsize,
}

/// A part of the table, in a cache line of its own.
#[repr(align(64))]
struct Shard {
    buckets: Mutex<HashMap<u64, Arc<Shared>, BuildHasherDefault<Marked>>>,
    /// Of those who are new while the table is full.
    crowd: Arc<Shared>,
}

/// A bucket that several requests count in.
struct Shared(Mutex<Bucket>);

/// A place among the requests of somebody that are under way. Dropping it gives it back.
pub(super) struct Turn(Arc<Shared>);

impl Table {
    /// Nobody has asked for anything.
    pub(super) fn new(now: Instant) -> Self {
        let shard = |_| Shard { buckets: Mutex::default(), crowd: Shared::new(now) };
        Self { hasher: RandomState::new(), shards: std::array::from_fn(shard), len: AtomicUsize::new(0) }
    }

    /// Lets one more request of `who` through.
    pub(super) fn admit(&self, who: &impl Hash, limit: &Limit, now: Instant) -> Result<Turn, Full> {
        let bucket = self.bucket(who, now);
        bucket.lock().admit(limit, now)?;
        Ok(Turn(bucket))
    }

    /// The bucket of `who`. They are told apart by a hash under a key that nobody knows: that two of those who are here share one
    /// by chance does not happen, and nobody can bring it about.
    fn bucket(&self, who: &impl Hash, now: Instant) -> Arc<Shared> {
        let mark = self.hasher.hash_one(who);
        let shard = &self.shards[(mark >> 32) as usize % SHARDS];
        let mut buckets = shard.buckets();
        if let Some(bucket) = buckets.get(&mark) {
            return bucket.clone();
        }
        if !self.takes_one_more() {
            return shard.crowd.clone();
        }
        let bucket = Shared::new(now);
        buckets.insert(mark, bucket.clone());
        bucket
    }

    fn takes_one_more(&self) -> bool {
        let room = self.len.fetch_add(1, Relaxed) < MOST;
        if !room {
            self.len.fetch_sub(1, Relaxed);
        }
        room
    }

    /// Forgets everybody whose bucket is as good as a new one.
    pub(super) fn sweep(&self, limit: &Limit, now: Instant) {
        for shard in &self.shards {
            let mut buckets = shard.buckets();
            let before = buckets.len();
            // whoever is about to count in one holds it, and finds nobody else here to hand it out
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.lock().is_idle(limit, now));
            let after = buckets.len();
            buckets.shrink_to(2 * after);
            self.len.fetch_sub(before - after, Relaxed);
        }
    }

    /// How many have a bucket.
    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Shard {
    fn buckets(&self) -> MutexGuard<'_, HashMap<u64, Arc<Shared>, BuildHasherDefault<Marked>>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn new(now: Instant) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Bucket::new(now))))
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// The request was refused elsewhere, and has cost nothing.
    pub(super) fn give_back(self) {
        self.0.lock().give_back();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.lock().end();
    }
}

/// What is a hash already is not hashed again.
#[derive(Default)]
struct Marked(u64);

impl Hasher for Marked {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fairness::{Every, Rate};
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn one_a_second() -> Limit {
        Limit { rate: Some(Rate { requests: 1, every: Every::Second, burst: 1 }), concurrent: Some(1) }
    }

    /// S-84: whoever is new to a full table is counted with the others who are. Those who were there before notice nothing, and
    /// nobody's count is lost.
    #[test]
    fn s84_a_full_table_lets_nobody_through_uncounted() {
        let (now, limit) = (Instant::now(), one_a_second());
        let table = Table::new(now);
        for who in 0..MOST {
            drop(table.admit(&who, &limit, now).expect("the first"));
        }
        let newcomers = (MOST..2 * MOST).filter(|who| table.admit(who, &limit, now).is_ok()).count();
        assert!(newcomers <= SHARDS, "{newcomers} of those who share a bucket");
        assert_eq!(table.len(), MOST, "no more than there is room for");
        assert!((0..MOST).all(|who| table.admit(&who, &limit, now).is_err()), "all of them are still counted");
        let later = now + SECOND;
        assert!((0..MOST).all(|who| table.admit(&who, &limit, later).is_ok()), "and have what is theirs");
    }

    #[test]
    fn who_is_as_good_as_new_is_forgotten_and_nobody_else() {
        let (now, limit) = (Instant::now(), one_a_second());
        let table = Table::new(now);
        drop(table.admit(&"quick", &limit, now));
        let slow = table.admit(&"slow", &limit, now).ok();
        table.sweep(&limit, now);
        assert_eq!(table.len(), 2, "nothing has come back yet");
        table.sweep(&limit, now + SECOND);
        assert_eq!(table.len(), 1, "one has something under way");
        assert_eq!(table.admit(&"slow", &limit, now + SECOND).err(), Some(Full::Concurrent));
        drop(slow);
        table.sweep(&limit, now + SECOND);
        assert_eq!(table.len(), 0);
        assert!(table.shards.iter().all(|shard| shard.buckets().is_empty()));
    }

    /// All cores count together: of many who ask at once, exactly so many are let through as the limit says.
    #[test]
    fn cores_count_together() {
        let (now, table) = (Instant::now(), Table::new(Instant::now()));
        let limit = Limit { rate: Some(Rate { requests: 1, every: Every::Hour, burst: 500 }), concurrent: None };
        let admitted = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for turn in 0..1000 {
                        admitted.fetch_add(usize::from(table.admit(&7, &limit, now).is_ok()), Relaxed);
                        if turn % 100 == 0 {
                            table.sweep(&limit, now);
                        }
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 500);
    }
}
