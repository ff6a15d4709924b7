//! Reads Cedar's answer: the outcome, the policies it rests on, and what to tell those refused.

use super::{
    Decision, Outcome,
    index::Index,
    policies::Loaded,
    slice::Slice,
    words::{Action, Kind},
};
use crate::refusal::Note;
use cedar_policy::{AuthorizationError, Decision as Verdict, PolicyId, Response};
use std::{collections::HashMap, sync::Arc};

/// Notes in one answer.
const NOTES: usize = 5;

/// All policies, and the ways to find them.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) policies: Vec<Loaded>,
    pub(super) index: Index,
    numbers: HashMap<PolicyId, u32>,
    pub(super) digest: Arc<str>,
}

impl Book {
    pub(super) fn new(policies: Vec<Loaded>, digest: Arc<str>) -> Self {
        let index = Index::of(&policies);
        let numbers = (0..).zip(&policies).map(|(number, loaded)| (loaded.policy.id().clone(), number)).collect();
        Self { policies, index, numbers, digest }
    }

    /// The policy with this number.
    pub(super) fn get(&self, number: u32) -> &Loaded {
        &self.policies[number as usize]
    }

    /// What Cedar's answer about `slice` means. Any error refuses, and a forbid needs no other policy's consent.
    pub(super) fn judge(&self, slice: &Slice, route: &str, action: Action, response: &Response) -> Decision {
        let determining = self.sorted(response.diagnostics().reason());
        let erroneous = self.sorted(response.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        }));
        let permitted = response.decision() == Verdict::Allow;
        let displaced =
            || slice.places.iter().copied().filter(|number| self.get(*number).facts.actions.contains(action));
        if !erroneous.is_empty() {
            self.decision(Outcome::Failed, &erroneous)
        } else if displaced().next().is_some() && (permitted || determining.is_empty()) {
            self.forbidden(slice, &displaced().collect::<Vec<_>>())
        } else if !permitted && !determining.is_empty() {
            self.forbidden(slice, &determining)
        } else if slice.unknown.forbids(action) {
            self.unknown()
        } else if permitted {
            self.decision(Outcome::Permitted, &determining)
        } else if slice.unknown.permits(action) {
            self.unknown()
        } else {
            self.not_permitted(slice, route, action)
        }
    }

    fn decision(&self, outcome: Outcome, determining: &[u32]) -> Decision {
        Decision {
            outcome,
            policies: determining.iter().map(|number| self.get(*number).id.clone()).collect(),
            notes: Arc::new([]),
            digest: self.digest.clone(),
            hinges_on_groups: false,
        }
    }

    /// A decision made without any policy.
    pub(super) fn without_policy(&self, outcome: Outcome) -> Decision {
        self.decision(outcome, &[])
    }

    fn unknown(&self) -> Decision {
        Decision { hinges_on_groups: true, ..self.decision(Outcome::MembershipUnknown, &[]) }
    }

    fn forbidden(&self, slice: &Slice, forbids: &[u32]) -> Decision {
        let (kind, provider) = (Kind::asking(&slice.asker), slice.asker.provider());
        let hinges = |number: &u32| provider.is_some_and(|provider| self.get(*number).facts.mentions(kind, provider));
        Decision {
            notes: self.notes(forbids.iter().copied()),
            hinges_on_groups: forbids.iter().all(hinges),
            ..self.decision(Outcome::Forbidden, forbids)
        }
    }

    /// Nobody unknown is told of permits: their remedy is to sign in.
    fn not_permitted(&self, slice: &Slice, route: &str, action: Action) -> Decision {
        let refused = self.decision(Outcome::NotPermitted, &[]);
        let (kind, Some(provider)) = (Kind::asking(&slice.asker), slice.asker.provider()) else { return refused };
        let matching = |number: &&u32| {
            let facts = &self.get(**number).facts;
            facts.permits && facts.actions.contains(action)
        };
        let own = || slice.subset.members.iter().filter(matching);
        let held = own().filter(|number| self.get(**number).facts.member_scope().is_some()).count();
        let all: u32 = self.index.members(provider, route).map(|members| members.counts[action as usize]).sum();
        let conditional = || own().filter(|number| self.get(**number).facts.mentions_in_conditions(kind, provider));
        let missed = self.index.members(provider, route).flat_map(|members| &members.told).filter(matching);
        let missed = missed.filter(|number| slice.subset.members.binary_search(number).is_err());
        if kind == Kind::Job {
            // whoever wrote the pipeline can do something about every condition
            return Decision {
                notes: self.notes(own().copied()),
                hinges_on_groups: conditional().next().is_some(),
                ..refused
            };
        }
        Decision {
            notes: self.notes(missed.chain(conditional()).copied()),
            hinges_on_groups: (all as usize) > held || conditional().next().is_some(),
            ..refused
        }
    }

    fn notes(&self, policies: impl Iterator<Item = u32>) -> Arc<[Note]> {
        let notes =
            policies.map(|number| self.get(number)).filter(|policy| policy.reason.is_some() || policy.remedy.is_some());
        let note = |policy: &Loaded| Note {
            policy: policy.id.clone(),
            reason: policy.reason.clone(),
            remedy: policy.remedy.clone(),
        };
        notes.take(NOTES).map(note).collect()
    }

    fn sorted<'a>(&self, ids: impl Iterator<Item = &'a PolicyId>) -> Vec<u32> {
        let mut numbers: Vec<u32> = ids.filter_map(|id| self.numbers.get(id).copied()).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Policies among `candidates` that a principal of this kind, of `provider`, needs a known membership for.
    pub(super) fn hinging(&self, candidates: &mut Vec<u32>, kind: Kind, provider: &str) -> Vec<u32> {
        candidates.extract_if(.., |number| self.get(*number).facts.mentions(kind, provider)).collect()
    }
}
