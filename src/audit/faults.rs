//! Policies that cannot be evaluated are told to the operator, each once a minute however many requests it refuses.

use super::Crossing;
use crate::authorize::Fault;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long nothing more is told of the same policy.
const PAUSE: Duration = Duration::from_secs(60);

/// When each policy was told of last.
#[derive(Default)]
pub(super) struct Faults(Mutex<HashMap<Arc<str>, Instant>>);

impl Faults {
    /// Logs those of `faults` that were not told of lately.
    pub(super) fn tell(&self, faults: &[Fault], crossing: &Crossing, now: Instant) {
        for Fault { policy, place, said } in faults.iter().filter(|fault| self.is_new(&fault.policy, now)) {
            let said = crossing.masked(said);
            tracing::error!(%policy, %place, %said, "a policy cannot be evaluated: what it is about is refused");
        }
    }

    /// Whether this policy was not told of in the last minute; then it is now.
    fn is_new(&self, policy: &Arc<str>, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.saturating_duration_since(*at) < PAUSE);
        let is_new = !told.contains_key(policy);
        if is_new {
            told.insert(Arc::clone(policy), now);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_is_told_of_once_a_minute() {
        let (faults, start) = (Faults::default(), Instant::now());
        let told = |policy: &str, seconds| faults.is_new(&policy.into(), start + Duration::from_secs(seconds));
        assert_eq!(
            [told("a", 0), told("a", 59), told("b", 59), told("a", 60), told("b", 61)],
            [true, false, true, true, false]
        );
    }
}
