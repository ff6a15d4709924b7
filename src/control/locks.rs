//! Locks, set and taken away.

use super::{Control, stopped};
use crate::{
    audit::Event,
    session::{
        StoreError,
        lock::{Lock, Target},
    },
};
use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// How soon a lock that the store did not take is given to it again.
const AGAIN: Duration = Duration::from_secs(1);

/// Locks that are in force and not written down yet.
#[derive(Default)]
pub(super) struct Owed {
    /// With their numbers, in the order in which they were set.
    locks: Vec<(u64, Lock)>,
    /// The number of the next one.
    next: u64,
    /// Somebody gives them to the store again.
    is_retried: bool,
}

impl Owed {
    fn push(&mut self, lock: Lock) -> u64 {
        let number = self.next;
        self.next += 1;
        self.locks.push((number, lock));
        number
    }

    fn get(&self, number: u64) -> Option<Lock> {
        self.locks.iter().find(|(other, _)| *other == number).map(|(_, lock)| lock.clone())
    }

    fn has(&self, lock: &Lock) -> bool {
        self.locks.iter().any(|(_, other)| other == lock)
    }

    /// Forgets those for a target that were set before this number. False: there were none.
    fn forget(&mut self, target: &Target, before: u64) -> bool {
        let count = self.locks.len();
        self.locks.retain(|(number, lock)| *number >= before || lock.target != *target);
        self.locks.len() < count
    }
}

impl Control {
    /// Keeps people out, from now on. In force at once here, whatever the store is busy with, before what this returns is waited
    /// for; durable when that is over. The lock that it takes the place of stays in force until the store has the new one: it may
    /// be the stricter of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it is in force here, and is written as soon as the store takes it, if that is before the next
    /// restart.
    pub fn set_lock(
        self: &Arc<Self>,
        lock: Lock,
        now: SystemTime,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<> {
        let number = self.put(lock);
        let this = self.clone();
        let work = async move {
            let written = this.write_lock(number, now).await;
            if written.is_err() {
                this.retry();
            }
            written
        };
        let written = self.work.spawn_on(work, &self.handle);
        async move { written.await.unwrap_or_else(|_| Err(stopped())) }
    }

    /// Puts a lock in force before all others. Its number among those that are owed.
    fn put(&self, lock: Lock) -> u64 {
        let mut owed = self.owed_locks();
        let all = self.locks.all();
        let others = all.iter().filter(|other| ***other != lock).map(|other| (**other).clone());
        self.locks.replace(std::iter::once(lock.clone()).chain(others).collect());
        owed.push(lock)
    }

    /// Gives the store a lock, unless it has it or a later one by now, or the lock was taken away.
    async fn write_lock(&self, number: u64, now: SystemTime) -> Result<(), StoreError> {
        let _one = self.locking.lock().await;
        let Some(lock) = self.owed_locks().get(number) else { return Ok(()) };
        self.store.set_lock(lock.target.name(), lock.write(), self.kept_until(now)).await?;
        let mut owed = self.owed_locks();
        owed.forget(&lock.target, number + 1);
        self.lift(&owed, |other| other.target != lock.target || *other == lock);
        Ok(())
    }

    /// Lifts all locks but those that `stay` or are owed.
    fn lift(&self, owed: &Owed, stay: impl Fn(&Lock) -> bool) {
        let all = self.locks.all();
        let left = all.iter().filter(|lock| stay(lock) || owed.has(lock));
        self.locks.replace(left.map(|lock| (**lock).clone()).collect());
    }

    fn owed_locks(&self) -> MutexGuard<'_, Owed> {
        self.owed_locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that the store gets what it did not take.
    fn retry(self: &Arc<Self>) {
        if !std::mem::replace(&mut self.owed_locks().is_retried, true) {
            let this = self.clone();
            self.start(async move { this.write_owed_locks().await });
        }
    }

    /// Gives the store what it did not take, until it has all of it.
    async fn write_owed_locks(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            while let Some(number) = self.first_owed() {
                if let Err(error) = self.write_lock(number, SystemTime::now()).await {
                    tracing::warn!(%error, "a lock is in force and not written down yet");
                    break;
                }
            }
            let mut owed = self.owed_locks();
            if owed.locks.is_empty() {
                owed.is_retried = false;
                return;
            }
        }
    }

    fn first_owed(&self) -> Option<u64> {
        self.owed_locks().locks.first().map(|(number, _)| *number)
    }

    /// Lets them in again. False: there was no such lock. One that is set meanwhile stays.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the lock stays in force.
    pub async fn drop_lock(self: &Arc<Self>, target: Target, now: SystemTime) -> Result<bool, StoreError> {
        let before = self.owed_locks().next;
        let _one = self.locking.lock().await;
        self.drop_set_before(before, target, now).await
    }

    async fn drop_set_before(
        self: &Arc<Self>,
        before: u64,
        target: Target,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let (this, name) = (self.clone(), target.name());
        let work = async move { this.store.drop_lock(name, this.kept_until(now)).await };
        let stored = self.run(work).await.unwrap_or_else(|| Err(stopped()))?;
        let mut owed = self.owed_locks();
        let was_owed = owed.forget(&target, before);
        self.lift(&owed, |lock| lock.target != target);
        Ok(stored || was_owed)
    }

    /// Takes the locks of the store, beside those that it has not taken yet. One that cannot be read changes nothing: nobody is
    /// let in for that.
    pub(super) async fn read_locks(&self) -> Result<(), StoreError> {
        let _one = self.locking.lock().await; // one that is being written is not taken for one that is gone
        let stored = self.store.locks().await?;
        match stored.iter().map(|bytes| Lock::read(bytes)).collect::<Result<Vec<_>, _>>() {
            Ok(locks) => {
                let owed = self.owed_locks();
                let others = locks.into_iter().filter(|lock| !owed.has(lock));
                self.locks.replace(owed.locks.iter().rev().map(|(_, lock)| lock.clone()).chain(others).collect());
                Ok(())
            }
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Forgets locks whose time is over, unless there is another for the same target whose time is not.
    pub(super) async fn lift_what_is_over(self: &Arc<Self>, now: SystemTime) {
        let _one = self.locking.lock().await;
        let (all, before) = {
            let owed = self.owed_locks(); // one that is set after this is not taken for the one that is over
            (self.locks.all(), owed.next)
        };
        let is_over = |target: &Target| !all.iter().any(|lock| lock.target == *target && lock.is_in_force(now));
        for lock in all.iter().filter(|lock| is_over(&lock.target)) {
            match self.drop_set_before(before, lock.target.clone(), now).await {
                Ok(_) => {
                    tracing::info!(target = %lock.target, kind = lock.target.kind(), "a lock is over");
                    self.audit.record(Event::of_lock_over(lock.target.kind(), &lock.target), now);
                }
                Err(error) => tracing::warn!(%error, "a lock that is over is still stored"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{killed, scene};

    fn lock(until: Option<SystemTime>) -> Lock {
        Lock {
            target: Target::parse("user", "gitlab:907").expect("a target"),
            reason: "stolen laptop".into(),
            until,
            since: crate::session::log::moment(1_795_416_594_250),
            by: "uid 0".into(),
        }
    }

    /// A lock is in force at once, is there once, survives a restart, and goes when its time is over or when it is taken away.
    #[tokio::test]
    async fn a_lock_survives_a_restart_and_goes_when_it_is_over() {
        let (directory, control, _, _live) = scene().await;
        let now = SystemTime::now();
        let kept = control.set_lock(lock(None), now);
        assert!(!control.locks.is_empty(), "before the store has it");
        kept.await.expect("set");
        let end = crate::session::log::moment(crate::session::log::millis(now) + 60_000);
        control.set_lock(lock(Some(end)), now).await.expect("set");
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end)))], "in place of the one before");
        let (copy, restarted) = killed(&control, &directory).await;
        assert_eq!(*restarted.locks.all(), [Arc::new(lock(Some(end)))]);
        restarted.lift_what_is_over(now).await;
        assert!(!restarted.locks.is_empty());
        restarted.lift_what_is_over(now + Duration::from_secs(61)).await;
        assert!(restarted.locks.is_empty());
        assert!(!restarted.drop_lock(lock(None).target, now).await.expect("nothing there"));
        assert!(restarted.store.locks().await.expect("read").is_empty());
        restarted.audit.close();
        let journal = std::fs::read_dir(copy.path().join("journal")).expect("a journal").flatten();
        let text: String = journal.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default()).collect();
        assert_eq!(text.matches("its time is over").count(), 1, "that it went is recorded: {text}");
    }

    /// A store that does not answer makes no lock less strict: what is set is in force, what is taken away stays.
    #[tokio::test]
    async fn a_store_that_fails_lets_nobody_in() {
        let (_directory, control, _, _live) = scene().await;
        control.store.break_down();
        control.set_lock(lock(None), SystemTime::now()).await.expect_err("not durable");
        assert!(!control.locks.is_empty());
        control.store.break_down();
        control.drop_lock(lock(None).target, SystemTime::now()).await.expect_err("not durable");
        assert!(!control.locks.is_empty());
    }

    /// A lock that the store did not take stays in force when the locks are read again, and is written as soon as that works.
    #[tokio::test]
    async fn a_lock_that_the_store_did_not_take_is_kept_until_it_does() {
        let (directory, control, _, _live) = scene().await;
        control.store.close();
        control.set_lock(lock(None), SystemTime::now()).await.expect_err("not durable");
        while control.read_locks().await.is_err() {
            tokio::task::yield_now().await; // it is being opened again
        }
        assert_eq!(*control.locks.all(), [Arc::new(lock(None))], "it is in force");
        while control.store.locks().await.expect("read").is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (_copy, restarted) = killed(&control, &directory).await;
        assert_eq!(*restarted.locks.all(), [Arc::new(lock(None))]);
    }

    /// One that would take the place of a stricter one does so when the store has it, and not before; and one whose time is over does
    /// not take it along.
    #[tokio::test]
    async fn a_lock_that_is_not_written_lifts_none_that_is() {
        let (_directory, control, _, _live) = scene().await;
        let (now, minute) = (SystemTime::now(), Duration::from_secs(60));
        let end = crate::session::log::moment(crate::session::log::millis(now) + 60_000);
        control.set_lock(lock(None), now).await.expect("set");
        control.store.close();
        control.set_lock(lock(Some(end)), now).await.expect_err("not durable");
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end))), Arc::new(lock(None))]);
        control.lift_what_is_over(now + 2 * minute).await;
        assert_eq!(control.locks.all().len(), 2, "one of them is in force");
        while control.locks.all().len() > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end)))], "as it was asked for");
        assert!(control.drop_lock(lock(None).target, now).await.expect("dropped"));
        control.store.close();
        control.set_lock(lock(None), now).await.expect_err("not durable");
        assert!(control.drop_lock(lock(None).target, now).await.expect("dropped, though it was never stored"));
        control.read_locks().await.expect("read");
        assert!(control.locks.is_empty());
    }

    async fn until(what: &str, is_so: impl Fn() -> bool) {
        let begun = std::time::Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A lock is in force at once, also while the store is busy with another and does not come to an end; and so does the one stay
    /// that it takes the place of.
    #[tokio::test]
    async fn a_lock_is_in_force_while_the_store_is_busy_with_another() {
        let (directory, control, _, _live) = scene().await;
        let (inside, now) = (control.locking.lock().await, SystemTime::now());
        let end = crate::session::log::moment(crate::session::log::millis(now) + 60_000);
        let set = |lock: Lock| {
            let control = control.clone();
            tokio::spawn(async move { control.set_lock(lock, now).await })
        };
        let first = set(lock(None));
        until("the first one is in force", || control.locks.all().len() == 1).await;
        let second = set(lock(Some(end)));
        until("the second one is in force", || control.locks.all().len() == 2).await;
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end))), Arc::new(lock(None))]);
        assert!(!first.is_finished() && !second.is_finished(), "neither is durable");
        drop(inside);
        first.await.expect("it ends").expect("written");
        second.await.expect("it ends").expect("written");
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end)))]);
        let (_copy, restarted) = killed(&control, &directory).await;
        assert_eq!(*restarted.locks.all(), [Arc::new(lock(Some(end)))]);
    }

    /// A lock that is set while the one before is being taken away stays.
    #[tokio::test]
    async fn a_lock_that_is_set_while_another_is_taken_away_stays() {
        let (directory, control, _, _live) = scene().await;
        let now = SystemTime::now();
        control.set_lock(lock(None), now).await.expect("set");
        let (inside, taken) = (control.locking.lock().await, control.clone());
        let gone = tokio::spawn(async move { taken.drop_lock(lock(None).target, now).await });
        tokio::task::yield_now().await; // it waits for its turn now
        let again = Lock { reason: "stolen again".into(), ..lock(None) };
        let (this, later) = (control.clone(), again.clone());
        let set = tokio::spawn(async move { this.set_lock(later, now).await });
        until("the new one is in force", || control.locks.all().len() == 2).await;
        drop(inside);
        assert!(gone.await.expect("it ends").expect("dropped"));
        assert!(!control.locks.is_empty());
        set.await.expect("it ends").expect("written");
        assert_eq!(*control.locks.all(), [Arc::new(again.clone())]);
        let (_copy, restarted) = killed(&control, &directory).await;
        assert_eq!(*restarted.locks.all(), [Arc::new(again)]);
    }
}
