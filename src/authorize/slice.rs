//! The few policies that can match one principal on one route, and what they decided lately.

use super::{
    Decision,
    context::Inputs,
    words::{Action, Actions, Kind, Reads},
};
use crate::principal::{Asker, UserId};
use cedar_policy::{Entities, EntityUid, PolicySet};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Decisions that one slice keeps. When there are more it begins anew.
const DECISIONS: usize = 128;

/// Names one slice. The policies are fixed: a new generation of policies has slices of its own.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Key {
    /// Who it is; `None` for nobody known.
    pub(super) asker: Option<(Kind, UserId)>,
    /// The version of the membership; `None` while it is unknown.
    pub(super) membership: Option<u64>,
    /// The route's position.
    pub(super) route: usize,
}

/// Policies that can match together. People with the same named groups share one.
#[derive(Debug)]
pub(super) struct Subset {
    pub(super) policies: PolicySet,
    /// Those that say the same whatever the body is; none where all do.
    pub(super) bodiless: Option<PolicySet>,
    /// Actions that a permit among the others is about.
    pub(super) with_body: Actions,
    /// Their numbers, in order.
    pub(super) members: Box<[u32]>,
    /// What they read of the context, all together.
    pub(super) reads: Reads,
}

/// What one principal's requests to one route are decided by.
#[derive(Debug)]
pub(super) struct Slice {
    /// Whose attributes `entities` holds.
    pub(super) asker: Asker,
    pub(super) principal: EntityUid,
    pub(super) resource: EntityUid,
    pub(super) entities: Entities,
    pub(super) subset: Arc<Subset>,
    /// Policies that could match, if only somebody knew the groups.
    pub(super) unknown: Hinging,
    /// Forbids by place that could match a job of which nobody knows where it is.
    pub(super) places: Box<[u32]>,
    decisions: Mutex<HashMap<Inputs, Decision>>,
    /// Which policy is told of first where something is not permitted, if another one than usual.
    nearest: Mutex<HashMap<Inputs, Option<u32>>>,
}

/// Policies that hinge on a membership that is unknown.
#[derive(Debug, Default)]
pub(super) struct Hinging {
    permits: Actions,
    forbids: Actions,
}

impl Hinging {
    pub(super) fn add(&mut self, permits: Actions, forbids: Actions) {
        self.permits.add(permits);
        self.forbids.add(forbids);
    }

    pub(super) fn permits(&self, action: Action) -> bool {
        self.permits.contains(action)
    }

    pub(super) fn forbids(&self, action: Action) -> bool {
        self.forbids.contains(action)
    }
}

impl Slice {
    pub(super) fn new(
        asker: Asker,
        principal: EntityUid,
        resource: EntityUid,
        entities: Entities,
        subset: Arc<Subset>,
        unknown: Hinging,
        places: Box<[u32]>,
    ) -> Self {
        Self {
            asker,
            places,
            principal,
            resource,
            entities,
            subset,
            unknown,
            decisions: Mutex::default(),
            nearest: Mutex::default(),
        }
    }

    /// The policy that is told of first for these inputs, looked for once; for more than `most` different inputs it is not.
    pub(super) fn nearest(&self, inputs: &Inputs, most: usize, find: impl FnOnce() -> Option<u32>) -> Option<u32> {
        let nearest = || self.nearest.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = nearest();
        if let Some(found) = known.get(inputs) {
            return *found;
        }
        if known.len() >= most {
            return None;
        }
        known.insert(inputs.clone(), None); // nobody else looks for it meanwhile
        drop(known);
        let found = find();
        nearest().insert(inputs.clone(), found);
        found
    }

    /// True if the slice was built from the attributes that `asker` has now.
    pub(super) fn is_of(&self, asker: &Asker) -> bool {
        self.asker.is(asker)
    }

    /// What was decided for equal inputs.
    pub(super) fn recall(&self, inputs: &Inputs) -> Option<Decision> {
        self.decisions().get(inputs).cloned()
    }

    /// Keeps a decision for the next request with equal inputs.
    pub(super) fn keep(&self, inputs: Inputs, decision: &Decision) {
        let mut decisions = self.decisions();
        if decisions.len() >= DECISIONS {
            decisions.clear();
        }
        decisions.insert(inputs, decision.clone());
    }

    /// A panic elsewhere cannot leave half an entry: the map is only read and inserted into.
    fn decisions(&self) -> MutexGuard<'_, HashMap<Inputs, Decision>> {
        self.decisions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::{Outcome, testing::asked};

    #[test]
    fn keeps_a_bounded_number_of_decisions() {
        let uid = || r#"Route::"r""#.parse::<EntityUid>().expect("an entity");
        let subset = Subset {
            policies: PolicySet::new(),
            bodiless: None,
            with_body: Actions::default(),
            members: Box::new([]),
            reads: Reads::PATH,
        };
        let slice = Slice::new(
            Asker::Nobody,
            uid(),
            uid(),
            Entities::empty(),
            Arc::new(subset),
            Hinging::default(),
            Box::default(),
        );
        let inputs =
            |path: &str| Inputs::of(Reads::PATH, Action::Get, &asked("GET", path).into(), None).expect("short");
        let decision = Decision {
            outcome: Outcome::Permitted,
            policies: Arc::new([]),
            notes: Arc::new([]),
            digest: "".into(),
            hinges_on_groups: false,
            faults: Arc::default(),
        };
        for number in 0..1000 {
            let inputs = inputs(&format!("/{number}"));
            slice.keep(inputs.clone(), &decision);
            assert!(slice.recall(&inputs).is_some());
            assert!(slice.decisions().len() <= DECISIONS);
        }
        assert!(slice.recall(&inputs("/0")).is_none());
        assert!(slice.recall(&inputs("/1000")).is_none());
    }
}
