//! What was taken away lately is not believed to be there again at once: then nobody can say. Pure: time is an argument.

use crate::group::Role;
use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

/// After a change, what is gone is not believed to be back for this long: the provider's own caches may lag behind what it tells.
pub(super) const NARROW: Duration = Duration::from_secs(30);

/// The time after a change that took something away: what is seen to be gone in it is not believed to be back up to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Narrow(SystemTime);

impl Narrow {
    /// The time after a change at `now`.
    pub(super) fn after(now: SystemTime) -> Self {
        Self(now)
    }

    /// Whether a read that began then falls into it.
    pub(super) fn holds(&self, begun: SystemTime) -> bool {
        self.0 <= begun && begun < self.0 + NARROW
    }
}

/// What was taken away lately: the most that is believed of it, and until when.
#[derive(Clone)]
pub(super) struct Gone<K>(HashMap<K, (Option<Role>, SystemTime)>);

impl<K> Default for Gone<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Gone<K> {
    /// Whether a read that began at `begun` and tells this role tells more than was seen to be left. Then one of both is of a
    /// cache, and nobody can say which: it is neither a right, nor the absence of what a policy forbids.
    pub(super) fn contradicts(&self, key: &K, role: Option<Role>, begun: SystemTime) -> bool {
        self.0.get(key).is_some_and(|(most, until)| begun < *until && role > *most)
    }

    /// A read that began at `begun`, after a change, tells this role in place of `before`.
    pub(super) fn note(&mut self, key: &K, before: Option<Role>, role: Option<Role>, narrow: Narrow) {
        if role < before {
            self.0.insert(key.clone(), (role, narrow.0 + NARROW));
        }
    }

    /// It was given since.
    pub(super) fn lift(&mut self, key: &K) {
        self.0.remove(key);
    }

    /// Forgets what is over for reads that begin at `begun`.
    pub(super) fn forget(&mut self, begun: SystemTime) {
        self.0.retain(|_, (_, until)| begun < *until);
    }
}
