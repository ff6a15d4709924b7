//! Who gains and who loses between two versions of policies: for each principal, route and action, which policies could permit
//! or forbid, and under which conditions.

use super::{
    anybody::anybody,
    asking,
    cast::Cast,
    served::{self, Setting},
};
use crate::{
    authorize::{Actions, Authorize, Fitting, Found, Ground, Grounds, Marks},
    config::Settings,
    group::GroupPath,
    principal::{Membership, Name, Principal},
    route::Route,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// One version: policies, and the routes that they are about.
#[derive(Clone, Copy)]
pub struct Side<'a> {
    /// The policies, `allow` lists expanded.
    pub policies: &'a Authorize,
    /// The configuration with the routes.
    pub settings: &'a Settings,
}

/// What somebody may do: the conditions under which some policy permits, and under which one forbids. An empty condition is
/// always true.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Right {
    /// Any of these permits; none: nothing is permitted.
    pub permits: BTreeSet<Arc<str>>,
    /// Any of these forbids.
    pub forbids: BTreeSet<Arc<str>>,
}

/// Which way a right went.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// More is permitted than before.
    Gain,
    /// Other things are permitted, or nobody can say without a proof.
    Change,
    /// Less is permitted than before.
    Loss,
}

/// One change of rights, with everybody whom it concerns alike.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which way it goes.
    pub way: Way,
    /// The routes' names, sorted.
    pub routes: Vec<Name>,
    /// What is asked for there.
    pub actions: Actions,
    /// What was permitted before.
    pub before: Right,
    /// What is permitted after.
    pub after: Right,
    /// The policies that make the difference.
    pub policies: BTreeSet<Cause>,
    /// Whom it concerns, by their names in the population, sorted.
    pub names: Vec<String>,
    /// How many of these are people.
    pub people: usize,
    /// Of whom nothing is known but whose they are, by what they are called; beside the population.
    pub anybody: Vec<String>,
    /// The smallest group that all of them are in, and whether nobody else is, where all are people.
    pub group: Option<(String, bool)>,
}

/// A policy that makes a difference.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Cause {
    /// Its `@id`.
    pub id: Arc<str>,
    /// It forbids; otherwise it permits.
    pub forbids: bool,
}

/// Policies whose text is not the same on both sides, by `@id`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Texts {
    /// Only after.
    pub added: Vec<Arc<str>>,
    /// Only before.
    pub removed: Vec<Arc<str>>,
    /// On both sides, with another text.
    pub changed: Vec<Arc<str>>,
}

/// All that differs.
#[derive(Clone, Debug, Default)]
pub struct Difference {
    /// Changes of rights, gains first.
    pub changes: Vec<Change>,
    /// Changes of the policies themselves.
    pub texts: Texts,
    /// What else differs between two configurations.
    pub settings: Vec<Setting>,
    /// Groups that policies name and nobody in the population is in.
    pub strangers: Vec<String>,
    /// Those of these that policies name which only one side has.
    pub unmet: Vec<String>,
    /// Policies that only one side has and that are about nobody in the population.
    pub untold: Vec<Arc<str>>,
}

impl Difference {
    /// True if the population shows all that the policies could change, and nothing changes.
    pub fn is_nothing(&self) -> bool {
        self.changes.is_empty() && self.settings.is_empty()
    }

    /// True if some policy differs of which the population shows nothing.
    pub fn is_open(&self) -> bool {
        !self.unmet.is_empty() || !self.untold.is_empty()
    }
}

impl Right {
    /// True if nothing is permitted.
    pub fn is_nothing(&self) -> bool {
        self.permits.is_empty()
    }

    /// What `found` comes to for one action.
    fn of(found: &Found, action: Actions) -> Self {
        let conditions = |permits| {
            let all = found.grounds.iter().filter(move |it| it.permits == permits && it.actions.meets(action));
            all.map(|it| it.conditions.clone()).collect::<BTreeSet<_>>()
        };
        let (permits, forbids) = (conditions(true), conditions(false));
        if found.refused.meets(action) || permits.is_empty() || forbids.contains("") {
            return Self::default();
        }
        let permits = if permits.contains("") { BTreeSet::from(["".into()]) } else { permits };
        Self { permits, forbids }
    }

    /// True if everything that `other` permits is permitted, as far as texts can tell.
    fn includes(&self, other: &Self) -> bool {
        let permits = self.permits.contains("") || self.permits.is_superset(&other.permits);
        other.is_nothing() || permits && self.forbids.is_subset(&other.forbids)
    }
}

impl Way {
    fn of(before: &Right, after: &Right) -> Self {
        match (after.includes(before), before.includes(after)) {
            (true, _) => Self::Gain,
            (false, true) => Self::Loss,
            (false, false) => Self::Change,
        }
    }

    /// What it is called in results.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gain => "gain",
            Self::Change => "change",
            Self::Loss => "loss",
        }
    }
}

/// Compares what both sides let everybody in `cast` do.
pub fn compare(before: Side<'_>, after: Side<'_>, cast: &Cast) -> Difference {
    let mut marks = Marks::default();
    let sides = [Prepared::of(before, &mut marks), Prepared::of(after, &mut marks)];
    let anybody = anybody([after.settings, before.settings]);
    let own = cast.iter().count();
    let everybody: Vec<(&str, &Principal)> =
        cast.iter().chain(anybody.iter().map(|(name, principal)| (name.as_str(), principal))).collect();
    let [one, other] = &sides;
    let mut alone = [one.grounds.unlike(&other.grounds), other.grounds.unlike(&one.grounds)];
    let named = [one.grounds.groups(&alone[0]), other.grounds.groups(&alone[1])];
    let routes: Vec<&Name> = names(&sides).filter(|name| !alike(&sides, name)).collect();
    let mut rights: HashMap<Altered, BTreeMap<Name, Concerned>> = HashMap::new();
    for (number, (_, principal)) in (0..).zip(&everybody) {
        for route in routes.iter().copied() {
            let seen = sides.each_ref().map(|side| side.at(principal, route));
            let Some(found) = found(&sides, &seen) else { continue };
            for (alone, (found, side)) in alone.iter_mut().zip(found.iter().zip(&sides)) {
                let met = found.grounds.iter().chain(&found.displacing).map(|ground| &ground.policy);
                // of one that asks who it is, others may notice more than whoever it fits here
                met.filter(|policy| !side.grounds.asks_who(policy)).for_each(|policy| _ = alone.remove(policy));
            }
            for (altered, policies) in altered(&found) {
                alone.iter_mut().for_each(|alone| alone.retain(|id| !policies.iter().any(|cause| cause.id == *id)));
                let concerned = rights.entry(altered).or_default().entry(route.clone()).or_default();
                concerned.who.push(number);
                concerned.policies.extend(policies);
            }
        }
    }
    let crowds = Crowds::of(&everybody, own);
    let mut changes: Vec<Change> = rights.into_iter().flat_map(|(altered, at)| crowds.changes(&altered, at)).collect();
    let key = |it: &Change| {
        (it.way, it.routes.clone(), std::cmp::Reverse(it.names.len()), it.actions, it.names.clone(), it.anybody.clone())
    };
    changes.sort_by_cached_key(key);
    Difference {
        changes,
        texts: Texts::of(before.policies, after.policies),
        settings: served::settings(before.settings, after.settings),
        strangers: crowds.strangers(after.policies.groups()),
        unmet: crowds.strangers(named.into_iter().flatten().collect()),
        untold: alone.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().collect(),
    }
}

/// What somebody may do to one route: which actions, before and after.
type Altered = (Actions, Right, Right);

#[derive(Default)]
struct Concerned {
    who: Vec<u32>,
    policies: BTreeSet<Cause>,
}

/// Routes that concern the same principals.
#[derive(Default)]
struct Together {
    routes: Vec<Name>,
    policies: BTreeSet<Cause>,
}

/// One side, ready to be asked often.
struct Prepared<'a> {
    grounds: Grounds<'a>,
    routes: BTreeMap<Name, (&'a Route, Vec<Name>)>,
}

impl<'a> Prepared<'a> {
    fn of(side: Side<'a>, marks: &mut Marks) -> Self {
        let routes = side.settings.routes.iter();
        let routes =
            routes.map(|route| (route.name.clone(), (route, asking::people_of(&side.settings.token_issuers, route))));
        Self { grounds: Grounds::of(side.policies, marks), routes: routes.collect() }
    }

    /// The route with this name, and what fits `principal` there as the gateway sees them.
    fn at<'p>(&self, principal: &'p Principal, name: &Name) -> Option<Seen<'a, 'p>> {
        let (route, people_of) = self.routes.get(name)?;
        let taken = asking::takes(route, people_of, principal);
        let principal = if taken { principal } else { &Principal::Anonymous };
        Some(Seen { route, principal, fitting: self.grounds.fitting(principal, route) })
    }

    fn found(&self, seen: Option<&Seen<'_, '_>>) -> Found {
        seen.map(|seen| self.grounds.found(seen.principal, seen.route, &seen.fitting)).unwrap_or_default()
    }
}

struct Seen<'a, 'p> {
    route: &'a Route,
    principal: &'p Principal,
    fitting: Fitting,
}

fn names<'s>(sides: &'s [Prepared<'_>; 2]) -> impl Iterator<Item = &'s Name> {
    let [before, after] = sides;
    before.routes.keys().chain(after.routes.keys().filter(|name| !before.routes.contains_key(*name)))
}

/// True if a route is the same on both sides, as far as policies see it, and what policies say of it.
fn alike(sides: &[Prepared<'_>; 2], name: &Name) -> bool {
    let [Some((one, its)), Some((other, theirs))] = sides.each_ref().map(|side| side.routes.get(name)) else {
        return false;
    };
    let takes = |route: &Route| (route.labels.clone(), route.providers.clone(), route.token_issuers.clone());
    takes(one) == takes(other) && its == theirs && sides[0].grounds.about(one) == sides[1].grounds.about(other)
}

/// What can decide about one principal on one route, on both sides; none where that is plainly the same.
fn found(sides: &[Prepared<'_>; 2], seen: &[Option<Seen<'_, '_>>; 2]) -> Option<[Found; 2]> {
    let [before, after] = sides;
    if let [Some(one), Some(other)] = seen
        && one.fitting.agrees(&other.fitting)
        && one.route.labels == other.route.labels
        && one.principal.is_anonymous() == other.principal.is_anonymous()
    {
        return None;
    }
    Some([before.found(seen[0].as_ref()), after.found(seen[1].as_ref())])
}

/// The rights of one principal on one route that are not the same on both sides, and the policies that make the difference.
fn altered(found: &[Found; 2]) -> Vec<(Altered, BTreeSet<Cause>)> {
    let mut all: Vec<(Altered, BTreeSet<Cause>)> = Vec::new();
    for action in Actions::each() {
        let [one, other] = found.each_ref().map(|found| Right::of(found, action));
        if one == other {
            continue;
        }
        let policies = unlike(found, action);
        match all.iter_mut().find(|((_, before, after), ids)| (before, after, ids) == (&one, &other, &policies)) {
            Some(((actions, ..), _)) => actions.add(action),
            None => all.push(((action, one, other), policies)),
        }
    }
    all
}

/// The policies of one side that say what none of the other does.
fn unlike(found: &[Found; 2], action: Actions) -> BTreeSet<Cause> {
    let [before, after] = found.each_ref().map(|found| {
        let all = found.grounds.iter().chain(&found.displacing);
        all.filter(|it| it.actions.meets(action)).collect::<Vec<_>>()
    });
    let says = |one: &Ground, other: &Ground| (one.permits, &one.conditions) == (other.permits, &other.conditions);
    let alone = |own: &[&Ground], others: &[&Ground]| {
        let alone = own.iter().filter(|one| !others.iter().any(|other| says(one, other)));
        alone.map(|one| Cause { id: one.policy.clone(), forbids: !one.permits }).collect::<Vec<_>>()
    };
    alone(&before, &after).into_iter().chain(alone(&after, &before)).collect()
}

/// Everybody, and the groups that they are in.
struct Crowds<'a> {
    everybody: &'a [(&'a str, &'a Principal)],
    /// So many of them are of the population; of the others nothing is known.
    own: usize,
    /// How many people are in each group.
    sizes: HashMap<(&'a Name, &'a GroupPath), usize>,
    /// People of one provider need no word about which.
    several: bool,
}

impl<'a> Crowds<'a> {
    fn of(everybody: &'a [(&'a str, &'a Principal)], own: usize) -> Self {
        let mut sizes = HashMap::new();
        let mut providers = BTreeSet::new();
        for (_, principal) in &everybody[..own] {
            providers.extend(principal.person().map(|person| &person.id.provider));
            memberships(principal).for_each(|group| *sizes.entry(group).or_default() += 1);
        }
        Self { everybody, own, sizes, several: providers.len() > 1 }
    }

    /// The routes of one altered right, those together that concern the same people.
    fn changes(&self, (actions, before, after): &Altered, at: BTreeMap<Name, Concerned>) -> Vec<Change> {
        let mut together: BTreeMap<Vec<u32>, Together> = BTreeMap::new();
        for (route, concerned) in at {
            let together = together.entry(concerned.who).or_default();
            together.routes.push(route);
            together.policies.extend(concerned.policies);
        }
        let names = |who: &[u32]| who.iter().map(|number| self.one(*number).0.to_owned()).collect();
        let change = |(who, Together { routes, policies }): (Vec<u32>, Together)| {
            let (who, others) = who.split_at(who.partition_point(|number| (*number as usize) < self.own));
            Change {
                way: Way::of(before, after),
                routes,
                actions: *actions,
                before: before.clone(),
                after: after.clone(),
                policies,
                people: who.iter().filter(|number| self.one(**number).1.person().is_some()).count(),
                group: self.group(who),
                names: names(who),
                anybody: names(others),
            }
        };
        together.into_iter().map(change).collect()
    }

    fn one(&self, number: u32) -> (&'a str, &'a Principal) {
        self.everybody[number as usize]
    }

    /// The smallest group that all of `who` are in, and whether nobody else is.
    fn group(&self, who: &[u32]) -> Option<(String, bool)> {
        let mut shared: HashMap<(&Name, &GroupPath), usize> = HashMap::new();
        for number in who {
            memberships(self.one(*number).1).for_each(|group| *shared.entry(group).or_default() += 1);
        }
        let all = shared.into_iter().filter(|(_, count)| *count == who.len()).map(|(group, _)| group);
        let (provider, path) = all.min_by_key(|group| (self.sizes[group], *group))?;
        let name = if self.several { format!("{provider}:{}", path.as_str()) } else { path.as_str().to_owned() };
        Some((name, self.sizes[&(provider, path)] == who.len()))
    }

    /// Those of these groups that nobody is in, nor in one below it.
    fn strangers(&self, groups: BTreeSet<String>) -> Vec<String> {
        let held: BTreeSet<String> = (self.sizes.keys())
            .flat_map(|(provider, path)| path.lineage().map(move |path| format!("{provider}:{path}")))
            .collect();
        groups.into_iter().filter(|id| !held.contains(id.split('#').next().unwrap_or(id))).collect()
    }
}

/// The groups that a person is in.
fn memberships(principal: &Principal) -> impl Iterator<Item = (&Name, &GroupPath)> {
    let known = match principal {
        Principal::User { person, membership: Membership::Known(groups), .. } => {
            Some((&person.id.provider, &groups.paths))
        }
        Principal::User { .. } | Principal::Anonymous | Principal::Job { .. } | Principal::Service { .. } => None,
    };
    known.into_iter().flat_map(|(provider, paths)| paths.iter().map(move |path| (provider, path)))
}

impl Texts {
    fn of(before: &Authorize, after: &Authorize) -> Self {
        let [before, after] = [before, after].map(Authorize::said);
        let not_in = |own: &BTreeMap<Arc<str>, String>, other: &BTreeMap<Arc<str>, String>| {
            own.keys().filter(|id| !other.contains_key(*id)).cloned().collect()
        };
        let is_changed = |(id, text): &(&Arc<str>, &String)| before.get(*id).is_some_and(|before| before != *text);
        Self {
            added: not_in(&after, &before),
            removed: not_in(&before, &after),
            changed: after.iter().filter(is_changed).map(|(id, _)| id.clone()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(permits: &[&str], forbids: &[&str]) -> Right {
        let set = |all: &[&str]| all.iter().map(|it| Arc::from(*it)).collect();
        Right { permits: set(permits), forbids: set(forbids) }
    }

    #[test]
    fn more_permits_and_fewer_forbids_are_a_gain_and_other_conditions_are_neither() {
        let (nothing, all) = (Right::default(), right(&[""], &[]));
        let (a, b) = (right(&["when { a }"], &[]), right(&["when { b }"], &[]));
        let ab = right(&["when { a }", "when { b }"], &[]);
        let barred = right(&["when { a }"], &["when { c }"]);
        for (before, after, way) in [
            (&nothing, &a, Way::Gain),
            (&nothing, &barred, Way::Gain),
            (&a, &all, Way::Gain),
            (&a, &ab, Way::Gain),
            (&barred, &a, Way::Gain),
            (&a, &nothing, Way::Loss),
            (&all, &b, Way::Loss),
            (&ab, &b, Way::Loss),
            (&a, &barred, Way::Loss),
            (&a, &b, Way::Change),
            (&barred, &ab, Way::Gain),
            (&barred, &b, Way::Change),
            (&ab, &barred, Way::Loss),
        ] {
            assert_eq!(Way::of(before, after), way, "{before:?} → {after:?}");
        }
    }
}
