//! Locks, set and taken away.

use super::{Control, stopped};
use crate::session::{
    StoreError,
    lock::{Lock, Target},
};
use std::{sync::Arc, time::SystemTime};

impl Control {
    /// Keeps people out, from now on. In force at once here; durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it is in force here, until the next restart.
    pub async fn set_lock(self: &Arc<Self>, lock: Lock, now: SystemTime) -> Result<(), StoreError> {
        let _one = self.locking.lock().await;
        let others = self.locks.all();
        let others = others.iter().filter(|other| other.target != lock.target).map(|other| (**other).clone());
        self.locks.replace(others.chain([lock.clone()]).collect());
        let this = self.clone();
        let work = async move { this.store.set_lock(lock.target.name(), lock.write(), this.kept_until(now)).await };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Lets them in again. False: there was no such lock.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: the lock stays in force.
    pub async fn drop_lock(self: &Arc<Self>, target: Target, now: SystemTime) -> Result<bool, StoreError> {
        let _one = self.locking.lock().await;
        let (this, name) = (self.clone(), target.name());
        let work = async move { this.store.drop_lock(name, this.kept_until(now)).await };
        let there = self.run(work).await.unwrap_or_else(|| Err(stopped()))?;
        let all = self.locks.all();
        self.locks.replace(all.iter().filter(|lock| lock.target != target).map(|lock| (**lock).clone()).collect());
        Ok(there)
    }

    /// Takes the locks of the store. One that cannot be read changes nothing: nobody is let in for that.
    pub(super) async fn read_locks(&self) -> Result<(), StoreError> {
        let _one = self.locking.lock().await; // one that is being set is not taken for one that is gone
        let stored = self.store.locks().await?;
        match stored.iter().map(|bytes| Lock::read(bytes)).collect::<Result<Vec<_>, _>>() {
            Ok(locks) => {
                self.locks.replace(locks);
                Ok(())
            }
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        }
    }

    /// Forgets locks whose time is over.
    pub(super) async fn lift_what_is_over(self: &Arc<Self>, now: SystemTime) {
        for lock in self.locks.all().iter().filter(|lock| !lock.is_in_force(now)) {
            match self.drop_lock(lock.target.clone(), now).await {
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
    use std::time::Duration;

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
}
