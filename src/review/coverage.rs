//! Which policies have decided a case as they are meant to: a permit that permitted, a forbid that forbade.

use super::cases::Verdict;
use crate::authorize::{Authorize, Outcome, Stated};
use std::{collections::BTreeSet, sync::Arc};

/// Which policies have decided a case.
pub struct Coverage {
    /// How many there are.
    pub all: usize,
    /// Those that have decided none.
    pub uncovered: Vec<Stated>,
}

impl Coverage {
    /// Counts what was decided as it should be.
    pub fn of(authorize: &Authorize, verdicts: &[Verdict<'_>]) -> Self {
        let passed = || verdicts.iter().filter(|verdict| verdict.passed());
        let deciding = |outcome| -> BTreeSet<Arc<str>> {
            let by = passed().filter(|verdict| verdict.decision.outcome == outcome);
            by.flat_map(|verdict| verdict.decision.policies.iter().cloned()).collect()
        };
        let (permitted, forbade) = (deciding(Outcome::Permitted), deciding(Outcome::Forbidden));
        let covered = |policy: &Stated| if policy.permits { &permitted } else { &forbade }.contains(&policy.id);
        let all: Vec<_> = authorize.stated().collect();
        Self { all: all.len(), uncovered: all.into_iter().filter(|policy| !covered(policy)).collect() }
    }

    /// How many policies have decided a case.
    pub fn covered(&self) -> usize {
        self.all - self.uncovered.len()
    }

    /// At least `percent` of all policies have decided a case.
    pub fn reaches(&self, percent: u8) -> bool {
        self.covered() * 100 >= self.all * usize::from(percent)
    }
}
