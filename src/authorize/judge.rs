//! Reads Cedar's answer: the outcome, the policies it rests on, and what to tell those refused.

use super::{
    Decision, Fault, Outcome,
    index::Index,
    policies::Loaded,
    slice::Slice,
    words::{Action, Attribute, Kind},
};
use crate::{refusal::Note, route::Route};
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

    /// The number of the policy with this id.
    pub(super) fn number(&self, id: &PolicyId) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    /// What Cedar's answer about `slice` means. Any error refuses, and a forbid needs no other policy's consent.
    pub(super) fn judge(&self, slice: &Slice, route: &Route, action: Action, response: &Response) -> Decision {
        let determining = self.sorted(response.diagnostics().reason());
        let permitted = response.decision() == Verdict::Allow;
        let displaced =
            || slice.places.iter().copied().filter(|number| self.get(*number).facts.actions.contains(action));
        if response.diagnostics().errors().next().is_some() {
            self.failed(response)
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
            faults: Arc::default(),
        }
    }

    /// Cedar would pass over a policy that it cannot evaluate, a forbid among them.
    fn failed(&self, response: &Response) -> Decision {
        let errors = || {
            response.diagnostics().errors().map(|error| match error {
                AuthorizationError::PolicyEvaluationError(error) => error,
            })
        };
        let fault = |number: u32, said: String| {
            let policy = self.get(number);
            Fault { policy: policy.id.clone(), place: policy.place.as_str().into(), said: said.into() }
        };
        let numbered =
            errors().filter_map(|error| Some((*self.numbers.get(error.policy_id())?, error.inner().to_string())));
        let mut faults: Vec<_> = numbered.collect();
        faults.sort_unstable();
        let erroneous: Vec<u32> = faults.iter().map(|(number, _)| *number).collect();
        let faults = faults.into_iter().map(|(number, said)| fault(number, said)).collect();
        Decision { faults, ..self.decision(Outcome::Failed, &erroneous) }
    }

    /// A decision made without any policy.
    pub(super) fn without_policy(&self, outcome: Outcome) -> Decision {
        self.decision(outcome, &[])
    }

    /// What stands for a decision that waits for the body: the permits about `action` that read it.
    pub(super) fn may_permit(&self, slice: &Slice, action: Action) -> Decision {
        let reads_body = |number: &u32| self.get(*number).facts.reads.contains(Attribute::Body);
        self.decision(Outcome::Permitted, &self.own_permits(slice, action).filter(reads_body).collect::<Vec<_>>())
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
    fn not_permitted(&self, slice: &Slice, route: &Route, action: Action) -> Decision {
        let refused = self.decision(Outcome::NotPermitted, &[]);
        let (kind, Some(provider)) = (Kind::asking(&slice.asker), slice.asker.provider()) else { return refused };
        let own = || self.own_permits(slice, action);
        let conditional = own().any(|number| self.get(number).facts.mentions_in_conditions(kind, provider));
        let held = own().filter(|number| self.get(*number).facts.member_scope().is_some()).count();
        let all: u32 =
            self.index.members(provider, route.name.as_str()).map(|members| members.counts[action as usize]).sum();
        let misses = kind != Kind::Job && (all as usize) > held; // no scope is about groups of the person behind a job
        Decision {
            notes: self.notes(self.telling(slice, route, action).into_iter()),
            hinges_on_groups: misses || conditional,
            ..refused
        }
    }

    /// Permits whose authors say something to whoever is refused: those that ask for another membership, a few of each action, then
    /// those that ask for one in their conditions. Of a job's all: whoever wrote the pipeline can do something about every condition.
    /// What is about routes with other labels concerns nobody here.
    pub(super) fn telling(&self, slice: &Slice, route: &Route, action: Action) -> Vec<u32> {
        let (kind, Some(provider)) = (Kind::asking(&slice.asker), slice.asker.provider()) else { return Vec::new() };
        let says = |number: &u32| {
            let policy = self.get(*number);
            (policy.reason.is_some() || policy.remedy.is_some()) && policy.may_be_about(route)
        };
        if kind == Kind::Job {
            return self.own_permits(slice, action).filter(says).collect();
        }
        let missed = self.index.members(provider, route.name.as_str()).flat_map(|members| &members.told).copied();
        let missed = missed.filter(says).filter(|number| {
            let facts = &self.get(*number).facts;
            facts.actions.contains(action) && slice.subset.members.binary_search(number).is_err()
        });
        let conditional = self
            .own_permits(slice, action)
            .filter(|number| self.get(*number).facts.mentions_in_conditions(kind, provider));
        missed.chain(conditional.filter(says)).collect()
    }

    /// The permits of the slice that are about `action`.
    fn own_permits<'a>(&'a self, slice: &'a Slice, action: Action) -> impl Iterator<Item = u32> + 'a {
        slice.subset.members.iter().copied().filter(move |number| {
            let facts = &self.get(*number).facts;
            facts.permits && facts.actions.contains(action)
        })
    }

    fn notes(&self, policies: impl Iterator<Item = u32>) -> Arc<[Note]> {
        let notes =
            policies.map(|number| self.get(number)).filter(|policy| policy.reason.is_some() || policy.remedy.is_some());
        notes.take(NOTES).map(note).collect()
    }

    /// The same decision, which tells first what the author of this policy says.
    pub(super) fn telling_first(&self, decision: Decision, number: u32) -> Decision {
        let first = note(self.get(number));
        let others = decision.notes.iter().filter(|other| other.policy != first.policy).cloned();
        Decision { notes: std::iter::once(first.clone()).chain(others).take(NOTES).collect(), ..decision }
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

fn note(policy: &Loaded) -> Note {
    Note { policy: policy.id.clone(), reason: policy.reason.clone(), remedy: policy.remedy.clone() }
}
