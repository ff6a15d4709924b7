//! Finds the policies that can match a principal on a route, without looking at the others.

use super::{
    policies::Loaded,
    words::{Action, Actions, Kind, Scope, Uid},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// Policies kept per action and cell to tell a refused person about; more would help nobody.
const TOLD: u8 = 32;

/// The same of those about labels, of which few concern one route.
const LABELLED: usize = 1024;

/// Every policy under its resource scope and principal scope.
///
/// The resource of a cell is a route, or `None` for policies about all routes.
#[derive(Debug, Default)]
pub(super) struct Index {
    routes: HashMap<Arc<str>, u32>,
    providers: HashMap<Arc<str>, u32>,
    scopes: HashMap<(Option<u32>, Scope), Vec<u32>>,
    members: HashMap<(Option<u32>, u32), Members>,
    /// Forbids that ask where a job is.
    places: HashMap<Option<u32>, Vec<u32>>,
}

/// The policies of one resource whose principal scope is membership of a group of one provider.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Actions that some permit is about.
    pub(super) permits: Actions,
    /// Actions that some forbid is about.
    pub(super) forbids: Actions,
    /// How many permits there are, by action.
    pub(super) counts: [u32; 8],
    /// Permits whose authors say something, a few of each action.
    pub(super) told: Vec<u32>,
    tellers: [u8; 8],
    labelled: usize,
}

impl Index {
    /// Sorts `policies` into their cells; those that are not about routes are left out.
    pub(super) fn of(policies: &[Loaded]) -> Self {
        let mut index = Self::default();
        for (number, policy) in (0..).zip(policies) {
            let resource = match &policy.facts.resource {
                Scope::Any | Scope::Is(Kind::Route) => None,
                Scope::Eq(uid) | Scope::In(uid) | Scope::IsIn(Kind::Route, uid) if uid.kind == Kind::Route => {
                    Some(intern(&mut index.routes, &uid.id))
                }
                Scope::Is(_) | Scope::Eq(_) | Scope::In(_) | Scope::IsIn(..) => continue,
            };
            index.scopes.entry((resource, policy.facts.principal.clone())).or_default().push(number);
            if !policy.facts.permits && policy.facts.asks_places() {
                index.places.entry(resource).or_default().push(number);
            }
            if let Some(provider) = policy.facts.member_scope().and_then(Uid::provider) {
                let provider = intern(&mut index.providers, provider);
                index.members.entry((resource, provider)).or_default().add(number, policy);
            }
        }
        index
    }

    /// The policies whose scopes match `principal`, who is a member of `parents`, on `route`; in order.
    pub(super) fn candidates(&self, principal: &Uid, parents: &[Uid], route: &str) -> Vec<u32> {
        let kind = principal.kind;
        let mut scopes = vec![Scope::Any, Scope::Is(kind), Scope::Eq(principal.clone())];
        for uid in std::iter::once(principal).chain(parents) {
            scopes.extend([Scope::In(uid.clone()), Scope::IsIn(kind, uid.clone())]);
        }
        let mut found = Vec::new();
        for resource in self.resources(route) {
            let cells = scopes.iter().filter_map(|scope| self.scopes.get(&(resource, scope.clone())));
            found.extend(cells.flatten().copied());
        }
        found.sort_unstable();
        found
    }

    /// Forbids on `route` that ask where a job is; in order.
    pub(super) fn forbids_by_place(&self, route: &str) -> impl Iterator<Item = u32> {
        let mut all: Vec<u32> =
            self.resources(route).filter_map(|cell| self.places.get(&cell)).flatten().copied().collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// The policies about members of groups of `provider` on `route`.
    pub(super) fn members(&self, provider: &str, route: &str) -> impl Iterator<Item = &Members> {
        let provider = self.providers.get(provider).copied();
        let resources = self.resources(route);
        resources.filter_map(move |resource| self.members.get(&(resource, provider?)))
    }

    /// The policies on `route` whose principal scope is membership of one of `named`.
    pub(super) fn of_members(&self, kind: Kind, named: &HashSet<Uid>, route: &str) -> impl Iterator<Item = u32> {
        let scopes = named.iter().flat_map(|uid| [Scope::In(uid.clone()), Scope::IsIn(kind, uid.clone())]);
        let cells: Vec<_> = scopes.flat_map(|scope| self.resources(route).map(move |it| (it, scope.clone()))).collect();
        cells.into_iter().filter_map(|cell| self.scopes.get(&cell)).flatten().copied()
    }

    /// The cells that hold policies about `route`: those about all routes, and its own.
    fn resources(&self, route: &str) -> impl Iterator<Item = Option<u32>> + use<> {
        let own = self.routes.get(route).map(|route| Some(*route));
        std::iter::once(None).chain(own)
    }
}

impl Members {
    fn add(&mut self, number: u32, policy: &Loaded) {
        let actions = policy.facts.actions;
        if !policy.facts.permits {
            return self.forbids.add(actions);
        }
        self.permits.add(actions);
        let about = || Action::ALL.into_iter().filter(|action| actions.contains(*action));
        about().for_each(|action| self.counts[action as usize] += 1);
        let says = policy.reason.is_some() || policy.remedy.is_some();
        if says && policy.asks_labels() {
            if self.labelled < LABELLED {
                self.labelled += 1;
                self.told.push(number);
            }
        } else if says && about().any(|action| self.tellers[action as usize] < TOLD) {
            about().for_each(|action| self.tellers[action as usize] = self.tellers[action as usize].saturating_add(1));
            self.told.push(number);
        }
    }
}

fn intern(names: &mut HashMap<Arc<str>, u32>, name: &str) -> u32 {
    if let Some(number) = names.get(name) {
        return *number;
    }
    let number = u32::try_from(names.len()).expect("fewer names than policies, and those are numbered by u32");
    names.insert(name.into(), number);
    number
}
