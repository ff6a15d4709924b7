//! Decides by Cedar policies. Pure: no hyper, no tokio, no clock of its own.
//!
//! For each principal and route the policies that can match are sliced once; a request evaluates that handful, or
//! nothing at all where an equal request was decided before.

mod anonymous;
mod applied;
mod asking;
mod change;
mod compared;
mod conditions;
mod context;
mod cover;
mod entities;
mod facts;
mod gaps;
mod grounds;
mod index;
mod judge;
mod lint;
#[cfg(test)]
mod messages;
mod mistake;
mod mutants;
mod nearest;
mod never;
mod open;
mod policies;
mod reach;
mod rights;
#[cfg(test)]
mod roles;
mod schema;
mod scopes;
mod search;
mod seen;
mod shadow;
mod slice;
#[cfg(test)]
mod sliced;
pub mod sources;
#[cfg(test)]
mod starter;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod theory;
mod words;

use crate::{
    canonical::Judged,
    config::{ProviderSettings, TokenIssuerSettings},
    group::GroupPath,
    principal::{Asker, Membership, Principal, Strength},
    refusal::Note,
    route::Route,
};
use cedar_policy::{Authorizer, Entities, Entity, EntityUid, PolicySet, Request};
pub use change::{MembershipChange, Step};
pub use conditions::{About, Condition, Holds, Reading, Written};
use context::Inputs;
use cover::Idle;
use entities::Named;
pub use grounds::{Fitting, Found, Ground, Grounds, Marks};
use judge::Book;
use lint::Known;
pub use mistake::{PolicyError, mistakes, show_errors, show_warnings};
use moka::sync::Cache;
pub use mutants::{Change, Mutant, Mutants, Place, Turned};
pub use open::Open;
pub use policies::unparsed;
use policies::{Checked, Loaded};
pub use rights::{Opening, Right, Rights};
pub use search::Search;
pub use seen::{Seen, seen};
pub use shadow::{Aside, Difference};
use slice::{Hinging, Key, Slice, Subset};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
pub use theory::{Question, Theory, Version};
pub use words::Actions;
use words::{Action, Attribute, Kind, Reads, Uid};

/// Slices that are kept: one for each person and route that is active.
const SLICES: u64 = 65_536;

/// Sets of policies that are kept: one for each way in which policies match together.
const SUBSETS: u64 = 16_384;

/// How long a slice is kept. Not needed for right answers; it bounds what is held for people who went away.
const AGE: Duration = Duration::from_secs(600);

/// One generation of policies, ready to decide with.
pub struct Authorize {
    book: Book,
    named: Named,
    /// What changes nothing.
    idle: Idle,
    engine: Authorizer,
    actions: [EntityUid; 8],
    /// The actions and their groups, part of every slice.
    hierarchy: Entities,
    slices: Cache<Key, Arc<Slice>>,
    subsets: Cache<Box<[u32]>, Arc<Subset>>,
    /// How often Cedar was asked.
    evaluations: AtomicU64,
}

/// What a decision says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// A policy permits, none forbids.
    Permitted,
    /// A policy forbids.
    Forbidden,
    /// No policy permits.
    NotPermitted,
    /// It hinges on groups, and nobody can say which.
    MembershipUnknown,
    /// A policy could not be evaluated.
    Failed,
}

/// A decision, and what it rests on.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it says.
    pub outcome: Outcome,
    /// The `@id`s of the policies that determined it; empty where nothing permits.
    pub policies: Arc<[Arc<str>]>,
    /// What the authors say to those refused: forbids that applied, or permits that would have needed more.
    pub notes: Arc<[Note]>,
    /// Digest of the whole policy set, in hex.
    pub digest: Arc<str>,
    /// A deny that membership could change: worth one re-read.
    pub hinges_on_groups: bool,
    /// The policies that could not be evaluated.
    pub faults: Arc<[Fault]>,
}

/// A policy that could not be evaluated, for whoever mends it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Its `@id`.
    pub policy: Arc<str>,
    /// Where it stands.
    pub place: Arc<str>,
    /// What Cedar says about it.
    pub said: Arc<str>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "policy `{}` at {} cannot be evaluated: {}", self.policy, self.place, self.said)
    }
}

impl Decision {
    /// True if the request may go on.
    pub fn permits(&self) -> bool {
        self.outcome == Outcome::Permitted
    }
}

/// One request as it is put to Cedar, apart from who asks.
struct Inquiry<'a> {
    action: Action,
    judged: &'a Judged,
    strength: Option<&'a Strength>,
    route: &'a Route,
    now: SystemTime,
}

impl<'a> Inquiry<'a> {
    /// None for methods that no policy can name.
    fn of(principal: &'a Principal, judged: &'a Judged, route: &'a Route, now: SystemTime) -> Option<Self> {
        Some(Self { action: Action::asked(&judged.asked)?, judged, strength: principal.strength(), route, now })
    }
}

fn set<'a>(policies: impl Iterator<Item = &'a Loaded>) -> PolicySet {
    PolicySet::from_policies(policies.map(|policy| policy.policy.clone()))
        .expect("ids are unique: load refuses doubles")
}

/// Which of a person's groups nobody knows.
#[derive(Clone, Copy)]
enum Unknown<'a> {
    /// None of those of this provider.
    All(&'a str),
    /// Whether they are a member of these.
    These(&'a str, &'a [GroupPath]),
}

/// What can match one principal on one route.
struct Matching {
    uid: Uid,
    /// What whoever asks is in.
    parents: Vec<Uid>,
    /// The groups of a person or service, or of the person behind a job.
    groups: Vec<Uid>,
    /// The policies whose scopes fit, in order.
    candidates: Vec<u32>,
    hinging: Hinging,
    /// Forbids by place, where nobody knows where a job is.
    places: Box<[u32]>,
}

/// A job of which nobody knows in which project it is.
fn is_nowhere(asker: &Asker) -> bool {
    match asker {
        Asker::Job(job) => job.project.is_none(),
        Asker::Nobody | Asker::Person(_) | Asker::Service(_) => false,
    }
}

/// One policy, as far as a report names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stated {
    /// Its `@id`.
    pub id: Arc<str>,
    /// Where it stands: `policies/portal.cedar:12:3`, or the configuration key it comes from.
    pub place: String,
    /// It permits; else it forbids.
    pub permits: bool,
}

/// The Cedar schema of these routes, as text: what `policies/vestibule.cedarschema` has to hold.
pub fn schema_text(routes: &[Route]) -> String {
    schema::text(routes)
}

impl Authorize {
    /// Loads `*.cedar` below `policies`, expands `allow:` of the routes, validates strictly and prepares the slices.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn load(
        policies: Option<&Path>,
        routes: &[Route],
        providers: &[Arc<ProviderSettings>],
        issuers: &[Arc<TokenIssuerSettings>],
    ) -> Result<Self, Vec<PolicyError>> {
        Self::new(policies::load(policies, Known { routes, providers, issuers })?)
    }

    fn new(Checked { policies, schema }: Checked) -> Result<Self, Vec<PolicyError>> {
        let hierarchy = schema
            .action_entities()
            .map_err(|error| vec![PolicyError::new("policies", format!("no action can be made: {error}"))])?;
        let digest = policies::digest(&policies);
        Ok(Self {
            named: Named::of(&policies),
            idle: Idle::of(&policies),
            book: Book::new(policies, digest),
            engine: Authorizer::new(),
            actions: Action::ALL.map(|action| Uid::new(Kind::Action, action.as_str()).to_cedar()),
            hierarchy,
            slices: Cache::builder().max_capacity(SLICES).time_to_live(AGE).build(),
            subsets: Cache::builder().max_capacity(SUBSETS).time_to_live(AGE).build(),
            evaluations: AtomicU64::new(0),
        })
    }

    /// Digest of the whole policy set, in hex.
    pub fn digest(&self) -> &Arc<str> {
        &self.book.digest
    }

    /// The `@id` of every policy; those of `allow` lists are `route:NAME:allow:N`.
    pub fn ids(&self) -> BTreeSet<Arc<str>> {
        self.book.policies.iter().map(|policy| policy.id.clone()).collect()
    }

    /// Every policy, those of `allow` lists last.
    pub fn stated(&self) -> impl Iterator<Item = Stated> {
        let stated = |policy: &policies::Loaded| Stated {
            id: policy.id.clone(),
            place: policy.place.clone(),
            permits: policy.facts.permits,
        };
        self.book.policies.iter().map(stated)
    }

    /// The text of every policy from a file, by its `@id`.
    pub fn texts(&self) -> BTreeMap<Arc<str>, String> {
        let written = self.book.policies.iter().filter(|policy| !policy.place.starts_with("routes["));
        written.map(|policy| (policy.id.clone(), policy.text())).collect()
    }

    /// What every policy says, by its `@id`: scope and conditions, however they are laid out.
    pub fn said(&self) -> BTreeMap<Arc<str>, String> {
        self.book.policies.iter().map(|policy| (policy.id.clone(), grounds::said(policy))).collect()
    }

    /// Every policy as Cedar text, `allow` lists expanded, each under the place it comes from.
    pub fn show(&self) -> String {
        let texts: Vec<_> =
            self.book.policies.iter().map(|policy| format!("// {}\n{}\n", policy.place, policy.text())).collect();
        texts.join("\n")
    }

    /// Decides one request. `now` is read only by policies that ask for the time. One with an unread body is never permitted.
    pub fn decide(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Decision {
        let Some(inquiry) = Inquiry::of(principal, judged, route, now) else {
            return self.book.without_policy(Outcome::NotPermitted);
        };
        let slice = self.slice(principal, route);
        let decision = match judged.is_unread() {
            true => self.refused(&slice, &inquiry).unwrap_or_else(|| self.book.without_policy(Outcome::Failed)),
            false => self.recalled(&slice, &inquiry),
        };
        self.nearest_first(decision, &slice, principal, inquiry)
    }

    /// The decision on a request whose body nobody has read, if it is a refusal whatever the body is; `None` where one may be
    /// permitted.
    pub fn refusal(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Option<Decision> {
        let Some(inquiry) = Inquiry::of(principal, judged, route, now) else {
            return Some(self.book.without_policy(Outcome::NotPermitted));
        };
        self.refused(&self.slice(principal, route), &inquiry)
    }

    /// Policies that read the body are left out. More of them can add forbids and failures, which refuse as well; only a permit
    /// among them could turn the refusal, and only where nothing forbids and nothing has failed.
    fn refused(&self, slice: &Slice, inquiry: &Inquiry<'_>) -> Option<Decision> {
        let policies = slice.subset.bodiless.as_ref().unwrap_or(&slice.subset.policies);
        let decision = self.evaluate(slice, (policies, slice.subset.reads.without(Attribute::Body)), inquiry);
        let open = slice.subset.with_body.contains(inquiry.action);
        let holds = match decision.outcome {
            Outcome::Permitted => false,
            Outcome::Forbidden | Outcome::Failed => true,
            Outcome::NotPermitted => !open,
            Outcome::MembershipUnknown => !open || slice.unknown.forbids(inquiry.action),
        };
        holds.then_some(decision)
    }

    /// What the slice decided when it was asked the same, or decides now.
    fn recalled(&self, slice: &Slice, inquiry: &Inquiry<'_>) -> Decision {
        let inputs = Inputs::of(slice.subset.reads, inquiry.action, inquiry.judged, inquiry.strength);
        if let Some(kept) = inputs.as_ref().and_then(|inputs| slice.recall(inputs)) {
            return kept;
        }
        let decision = self.whole(slice, inquiry);
        if let Some(inputs) = inputs {
            slice.keep(inputs, &decision);
        }
        decision
    }

    /// What the whole slice decides.
    fn whole(&self, slice: &Slice, inquiry: &Inquiry<'_>) -> Decision {
        self.evaluate(slice, (&slice.subset.policies, slice.subset.reads), inquiry)
    }

    fn evaluate(&self, slice: &Slice, (policies, reads): (&PolicySet, Reads), inquiry: &Inquiry<'_>) -> Decision {
        let Inquiry { action, judged, strength, route, now } = *inquiry;
        self.evaluations.fetch_add(1, Ordering::Relaxed);
        let Some(context) = context::context(reads, judged, strength, now) else {
            return self.book.without_policy(Outcome::Failed);
        };
        let (principal, resource) = (slice.principal.clone(), slice.resource.clone());
        let action_uid = self.actions[action as usize].clone();
        let Ok(request) = Request::new(principal, action_uid, resource, context, None) else {
            return self.book.without_policy(Outcome::Failed);
        };
        let response = self.engine.is_authorized(&request, policies, &slice.entities);
        self.book.judge(slice, route, action, &response)
    }

    /// The slice of `principal` on `route`: kept from an earlier request, or built now.
    fn slice(&self, principal: &Principal, route: &Route) -> Arc<Slice> {
        let asker = Asker::of(principal);
        let membership = match principal.membership() {
            Some(Membership::Known(groups)) => Some(groups.version),
            Some(Membership::Unknown(_)) | None => None,
        };
        let key =
            Key { asker: asker.id().map(|id| (Kind::asking(&asker), id.clone())), membership, route: route.index };
        if let Some(kept) = self.slices.get(&key).filter(|slice| slice.is_of(&asker)) {
            return kept;
        }
        let slice = Arc::new(self.build(asker, principal.membership(), route, |members| self.subset(members)));
        self.slices.insert(key, slice.clone());
        slice
    }

    /// A slice; `subset` makes one set of the policies that can match.
    fn build(
        &self,
        asker: Asker,
        membership: Option<&Membership>,
        route: &Route,
        subset: impl FnOnce(Vec<u32>) -> Arc<Subset>,
    ) -> Slice {
        let matching = self.matching(&asker, membership, route);
        let resource = entities::route(route);
        let asked = resource.uid();
        let entities = self.entities(&asker, &matching, resource);
        let Matching { uid, candidates, hinging, places, .. } = matching;
        Slice::new(asker, uid.to_cedar(), asked, entities, subset(candidates), hinging, places)
    }

    /// Whoever asks, what they are in, and the route.
    fn entities(&self, asker: &Asker, matching: &Matching, route: Entity) -> Entities {
        let all = entities::asker(asker, &matching.parents, &matching.groups).into_iter().chain([route]);
        let entities = self.hierarchy.clone().add_entities(all, None);
        entities.expect("an asker, a route and actions have different types, and no cycle")
    }

    /// The policies whose scopes fit `asker` on `route`, and what of it hinges on something that nobody knows.
    fn matching(&self, asker: &Asker, membership: Option<&Membership>, route: &Route) -> Matching {
        let uid = entities::uid(asker);
        let (groups, unknown) = match (asker.provider(), membership) {
            (Some(provider), Some(Membership::Known(groups))) => {
                let unread = (!groups.unread.is_empty()).then_some(Unknown::These(provider, &groups.unread));
                (self.named.parents(provider, &groups.paths, &groups.roles), unread)
            }
            (Some(provider), Some(Membership::Unknown(_))) => (Vec::new(), Some(Unknown::All(provider))),
            (None, _) | (_, None) => (Vec::new(), None),
        };
        let parents = match asker {
            Asker::Job(job) => entities::places(job), // its groups are those of its person, which it is not in
            Asker::Nobody | Asker::Person(_) | Asker::Service(_) => groups.clone(),
        };
        let name = route.name.as_str();
        let mut candidates = self.book.index.candidates(&uid, &parents, name);
        let hinging = unknown
            .map(|unknown| self.set_aside(&mut candidates, Kind::asking(asker), unknown, &groups, name))
            .unwrap_or_default();
        let places = if is_nowhere(asker) { self.displace(&mut candidates, name) } else { Box::default() };
        Matching { uid, parents, groups, candidates, hinging, places }
    }

    /// Takes out what asks where a job is of which nobody knows that. The forbids among these, and those by scope, are what it is
    /// refused by: a merge request's pipeline, or an old token, is no way round them.
    fn displace(&self, candidates: &mut Vec<u32>, route: &str) -> Box<[u32]> {
        candidates.retain(|number| !self.book.get(*number).facts.asks_places());
        self.book.index.forbids_by_place(route).collect()
    }

    /// Takes out what cannot be decided while nobody knows all groups of a person or service, or of the person behind a job.
    fn set_aside(
        &self,
        candidates: &mut Vec<u32>,
        kind: Kind,
        unknown: Unknown<'_>,
        held: &[Uid],
        route: &str,
    ) -> Hinging {
        let mut hinging = Hinging::default();
        let mut add = |number| {
            let facts = &self.book.get(number).facts;
            let none = words::Actions::default();
            let (permits, forbids) = if facts.permits { (facts.actions, none) } else { (none, facts.actions) };
            hinging.add(permits, forbids);
        };
        match unknown {
            Unknown::All(provider) => {
                self.book.hinging(candidates, kind, provider).into_iter().for_each(add);
                // no scope is about groups of the person behind a job
                for members in self.book.index.members(provider, route).filter(|_| kind != Kind::Job) {
                    hinging.add(members.permits, members.forbids);
                }
            }
            Unknown::These(provider, paths) => {
                let mut named = self.named.among(provider, paths);
                named.retain(|uid| !held.contains(uid)); // known by another group
                let mentions = |number: &u32| self.book.get(*number).facts.mentions_any(kind, &named);
                candidates.extract_if(.., |number| mentions(number)).for_each(&mut add);
                if kind != Kind::Job {
                    self.book.index.of_members(kind, &named, route).for_each(add);
                }
            }
        }
        hinging
    }

    /// These policies as one set, shared with everyone whom the same ones can match.
    fn subset(&self, members: Vec<u32>) -> Arc<Subset> {
        if let Some(kept) = self.subsets.get(&*members) {
            return kept;
        }
        let subset = Arc::new(self.collect(members));
        self.subsets.insert(subset.members.clone(), subset.clone());
        subset
    }

    /// These policies as one set.
    fn collect(&self, members: Vec<u32>) -> Subset {
        let chosen = members.iter().map(|number| self.book.get(*number));
        let (mut reads, mut with_body) = (Reads::default(), Actions::default());
        for policy in chosen.clone() {
            reads.add(policy.facts.reads);
            if policy.facts.permits && policy.facts.reads.contains(Attribute::Body) {
                with_body.add(policy.facts.actions);
            }
        }
        let bodiless = chosen.clone().filter(|policy| !policy.facts.reads.contains(Attribute::Body));
        let bodiless = reads.contains(Attribute::Body).then(|| set(bodiless));
        let policies = set(chosen);
        Subset { policies, bodiless, with_body, members: members.into(), reads }
    }

    /// How often Cedar was asked.
    #[cfg(test)]
    fn evaluations(&self) -> u64 {
        self.evaluations.load(Ordering::Relaxed)
    }
}
