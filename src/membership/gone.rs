//! What was taken away lately is not believed to be there again at once. Pure: time is an argument.

use crate::group::Role;
use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, SystemTime},
};

/// After a change, what is gone stays gone for this long: the provider's own caches may lag behind what it tells.
pub(super) const NARROW: Duration = Duration::from_secs(30);

/// The time after a change that took something away: what is seen to be gone in it stays gone up to its end.
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
    /// What of `role` is believed, if a read that began at `begun` tells it.
    pub(super) fn believed(&self, key: &K, role: Option<Role>, begun: SystemTime) -> Option<Role> {
        match self.0.get(key) {
            Some((most, until)) if begun < *until => role.min(*most),
            Some(_) | None => role,
        }
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
