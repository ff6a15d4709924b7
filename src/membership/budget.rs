//! How much may be asked of GitLab's API because people click. What its own word or a clock asks for is not counted.

use super::cell::elapsed;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// So many calls may be made at once after a quiet time.
const MOST: f64 = 200.0;

/// So many come back in a second. GitLab's own limit, where one is set, is about 33.
const PER_SECOND: f64 = 10.0;

/// Calls that are left.
pub(super) struct Budget(Mutex<Left>);

struct Left {
    calls: f64,
    at: SystemTime,
}

impl Default for Budget {
    fn default() -> Self {
        Self(Mutex::new(Left { calls: MOST, at: SystemTime::UNIX_EPOCH }))
    }
}

impl Budget {
    /// True if so many calls may be made now; then they are counted. More than are ever left need all of them.
    pub(super) fn takes(&self, calls: usize, now: SystemTime) -> bool {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = elapsed(left.at, now).min(Duration::from_secs(3600)); // as long as it takes to fill it, and longer
        *left = Left { calls: PER_SECOND.mul_add(since.as_secs_f64(), left.calls).min(MOST), at: now };
        let calls = f64::from(u32::try_from(calls).unwrap_or(u32::MAX)).min(MOST);
        let takes = left.calls >= calls;
        if takes {
            left.calls -= calls;
        }
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clicks_are_answered_by_reads_as_far_as_the_budget_goes() {
        let (budget, now) = (Budget::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_789_000_000));
        let after = |millis| now + Duration::from_millis(millis);
        assert_eq!((0..100).filter(|_| budget.takes(10, now)).count(), 20);
        assert!(!budget.takes(10, after(900)) && budget.takes(10, after(1000)) && !budget.takes(1, after(1000)));
        assert!(!budget.takes(5000, after(20_000)) && budget.takes(5000, after(22_000)), "all that are ever left");
        assert!(budget.takes(1, now - Duration::from_secs(7200)), "a clock that was set back bars nobody");
    }
}
