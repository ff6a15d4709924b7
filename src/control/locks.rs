//! Locks, set and taken away.

use super::{Control, stopped};
use crate::session::{
    StoreError,
    lock::{Lock, Target},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How soon a lock that the store did not take is given to it again.
const AGAIN: Duration = Duration::from_secs(1);

impl Control {
    /// Keeps people out, from now on. In force at once here; durable when this returns. The lock that it takes the place of stays
    /// in force until the store has the new one: it may be the stricter of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it is in force here, and is written as soon as the store takes it, if that is before the next
    /// restart.
    pub async fn set_lock(self: &Arc<Self>, lock: Lock, now: SystemTime) -> Result<(), StoreError> {
        let mut owed = self.locking.lock().await;
        let is_owed = |other: &Lock| owed.contains(other) && other.target == lock.target;
        self.put(lock.clone(), |other| !is_owed(other));
        owed.retain(|other| other.target != lock.target);
        let written = self.write_lock(lock.clone(), now).await;
        match &written {
            Ok(()) => self.put(lock.clone(), |other| other.target != lock.target),
            Err(_) => {
                if owed.is_empty() {
                    let this = self.clone();
                    self.start(async move { this.write_owed_locks().await });
                }
                owed.push(lock);
            }
        }
        written
    }

    /// Puts a lock before those that `stay`.
    fn put(&self, lock: Lock, stay: impl Fn(&Lock) -> bool) {
        let all = self.locks.all();
        let stay = all.iter().filter(|other| ***other != lock && stay(other)).map(|other| (**other).clone());
        self.locks.replace(std::iter::once(lock.clone()).chain(stay).collect());
    }

    async fn write_lock(self: &Arc<Self>, lock: Lock, now: SystemTime) -> Result<(), StoreError> {
        let this = self.clone();
        let work = async move { this.store.set_lock(lock.target.name(), lock.write(), this.kept_until(now)).await };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Gives the store what it did not take, until it has all of it.
    async fn write_owed_locks(self: Arc<Self>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            let mut owed = self.locking.lock().await;
            while let Some(lock) = owed.first().cloned() {
                if let Err(error) = self.write_lock(lock.clone(), SystemTime::now()).await {
                    tracing::warn!(target = %lock.target, %error, "a lock is in force and not written down yet");
                    break;
                }
                owed.remove(0);
                self.put(lock.clone(), |other| other.target != lock.target);
            }
            if owed.is_empty() {
                return;
            }
        }
    }

    /// Lets them in again. False: there was no such lock.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the lock stays in force.
    pub async fn drop_lock(self: &Arc<Self>, target: Target, now: SystemTime) -> Result<bool, StoreError> {
        let mut owed = self.locking.lock().await;
        self.drop_held(&mut owed, target, now).await
    }

    async fn drop_held(
        self: &Arc<Self>,
        owed: &mut Vec<Lock>,
        target: Target,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let (this, name) = (self.clone(), target.name());
        let work = async move { this.store.drop_lock(name, this.kept_until(now)).await };
        let stored = self.run(work).await.unwrap_or_else(|| Err(stopped()))?;
        let was_owed = owed.iter().any(|lock| lock.target == target);
        owed.retain(|lock| lock.target != target);
        let all = self.locks.all();
        self.locks.replace(all.iter().filter(|lock| lock.target != target).map(|lock| (**lock).clone()).collect());
        Ok(stored || was_owed)
    }

    /// Takes the locks of the store, beside those that it has not taken yet. One that cannot be read changes nothing: nobody is
    /// let in for that.
    pub(super) async fn read_locks(&self) -> Result<(), StoreError> {
        let owed = self.locking.lock().await; // one that is being set is not taken for one that is gone
        let stored = self.store.locks().await?;
        match stored.iter().map(|bytes| Lock::read(bytes)).collect::<Result<Vec<_>, _>>() {
            Ok(locks) => {
                let others = locks.into_iter().filter(|lock| !owed.contains(lock));
                self.locks.replace(owed.iter().cloned().chain(others).collect());
                Ok(())
            }
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Forgets locks whose time is over, unless there is another for the same target whose time is not.
    pub(super) async fn lift_what_is_over(self: &Arc<Self>, now: SystemTime) {
        let mut owed = self.locking.lock().await; // so that none is set meanwhile, and taken for the one that is over
        let all = self.locks.all();
        let is_over = |target: &Target| !all.iter().any(|lock| lock.target == *target && lock.is_in_force(now));
        for lock in all.iter().filter(|lock| is_over(&lock.target)) {
            match self.drop_held(&mut owed, lock.target.clone(), now).await {
                Ok(_) => tracing::info!(target = %lock.target, kind = lock.target.kind(), "a lock is over"),
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
        control.set_lock(lock(None), now).await.expect("set");
        let end = crate::session::log::moment(crate::session::log::millis(now) + 60_000);
        control.set_lock(lock(Some(end)), now).await.expect("set");
        assert_eq!(*control.locks.all(), [Arc::new(lock(Some(end)))], "in place of the one before");
        let (_copy, restarted) = killed(&control, &directory).await;
        assert_eq!(*restarted.locks.all(), [Arc::new(lock(Some(end)))]);
        restarted.lift_what_is_over(now).await;
        assert!(!restarted.locks.is_empty());
        restarted.lift_what_is_over(now + Duration::from_secs(61)).await;
        assert!(restarted.locks.is_empty());
        assert!(!restarted.drop_lock(lock(None).target, now).await.expect("nothing there"));
        assert!(restarted.store.locks().await.expect("read").is_empty());
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
}
