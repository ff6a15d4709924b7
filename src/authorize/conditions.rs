//! Policies taken apart: each of their conditions by itself, and whether it holds, for people who ask why.

use super::{
    Authorize,
    asking::Asking,
    context, entities,
    facts::Facts,
    policies::Loaded,
    reach::is_about,
    words::{Action, Attribute, Kind, Reads, Scope, Uid},
};
use crate::{
    canonical::Judged,
    principal::{Asker, Membership, Principal},
    route::Route,
};
use cedar_policy::{
    Context, Decision as Verdict, Policy, PolicyId, PolicySet, Request,
    pst::{self, ActionConstraint, BinaryOp, Clause, Effect, Expr, PrincipalConstraint, ResourceConstraint},
};
use std::{collections::HashSet, sync::Arc, time::SystemTime};

/// A policy as its author wrote it, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Its `@id`.
    pub id: Arc<str>,
    /// File, line and column, or the configuration key that it comes from.
    pub place: String,
    /// False for a forbid.
    pub permits: bool,
    /// Its `@reason`.
    pub reason: Option<Arc<str>>,
    /// Its `@remedy`.
    pub remedy: Option<Arc<str>>,
}

/// What a condition asks about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum About {
    /// Groups, namespaces and roles.
    Membership,
    /// Where a job runs.
    Place,
    /// Who it is, and what its token or its sign-in says of it.
    Claims,
    /// How and when they signed in.
    SignIn,
    /// The time.
    Time,
    /// Where the request comes from.
    Network,
    /// Host, path, query, kind and body of the request, and what it does.
    Request,
    /// The route and its labels, or nothing that changes.
    Route,
}

/// Whether a condition is met.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holds {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It asks for groups, or for the place of a job, that nobody knows.
    Unknown,
    /// It cannot be evaluated.
    Error,
}

/// One condition of a policy. The policy applies where all of them hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    /// As Cedar text, such as `principal.ref_protected` or `unless principal in Group::"gitlab:acme"`.
    pub text: String,
    /// Whether it is met.
    pub holds: Holds,
    /// What it asks about.
    pub about: Vec<About>,
}

/// A policy, and how each of its conditions stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// Which one.
    pub policy: Written,
    /// Its principal scope and its clauses, `&&` and `||` taken apart as far as that changes nothing.
    pub conditions: Vec<Condition>,
}

impl About {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Place => "place",
            Self::Claims => "claims",
            Self::SignIn => "sign_in",
            Self::Time => "time",
            Self::Network => "network",
            Self::Request => "request",
            Self::Route => "route",
        }
    }
}

impl Holds {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

impl Reading {
    /// Nothing that anybody does on this route makes it apply: what it says of the route itself is not so.
    pub fn is_elsewhere(&self) -> bool {
        self.conditions.iter().any(|condition| condition.holds == Holds::No && condition.about == [About::Route])
    }

    /// The conditions that are not met.
    pub fn lacking(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().filter(|condition| condition.holds != Holds::Yes)
    }
}

/// One condition, as a policy of its own that permits where it holds.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) text: String,
    pub(super) facts: Facts,
    set: PolicySet,
}

impl Part {
    /// The conditions of a policy: the principal scope, then each clause.
    pub(super) fn all(policy: &Policy) -> Vec<Self> {
        let Ok(policy) = policy.to_pst() else { return Vec::new() };
        let body = policy.body();
        let scope = match &body.principal {
            PrincipalConstraint::Any => None,
            scope => Self::of(format!("principal {scope}"), scope.clone(), None),
        };
        let mut clauses = Vec::new();
        body.clauses().iter().for_each(|clause| take_apart(clause, &mut clauses));
        let clauses =
            clauses.into_iter().filter_map(|clause| Self::of(text(&clause), PrincipalConstraint::Any, Some(clause)));
        scope.into_iter().chain(clauses).collect()
    }

    fn of(text: String, principal: PrincipalConstraint, clause: Option<Clause>) -> Option<Self> {
        let (action, resource) = (ActionConstraint::Any, ResourceConstraint::Any);
        let body = pst::Template::new("part", Effect::Permit, principal, action, resource);
        let body = body.try_with_clauses(clause).ok()?;
        let policy = Policy::from_pst(pst::StaticPolicy::try_from(body).ok()?.into()).ok()?;
        let facts = Facts::of(&policy)?;
        Some(Self { text, facts, set: PolicySet::from_policies([policy]).ok()? })
    }

    /// True if it says the same of every request of one principal to one route.
    pub(super) fn is_settled(&self) -> bool {
        self.facts.reads == Reads::default() && !self.facts.asks_action
    }

    /// True if it says the same of everybody who makes one request, as far as that is known from its method and URL.
    pub(super) fn is_of_the_request(&self) -> bool {
        let known = [Attribute::Host, Attribute::Path, Attribute::PathFolded, Attribute::Query];
        let reads = |attribute: &Attribute| self.facts.reads.contains(*attribute) && !known.contains(attribute);
        !self.facts.asks_principal && self.facts.principal == Scope::Any && !Attribute::ALL.iter().any(reads)
    }

    fn about(&self, kind: Kind) -> Vec<About> {
        let reads = |attributes: &[Attribute]| attributes.iter().any(|it| self.facts.reads.contains(*it));
        let named = |kinds: &[Kind]| self.facts.uids.iter().any(|uid| kinds.contains(&uid.kind));
        let memberships = [Kind::Group, Kind::Role, Kind::Namespace];
        let is_member = named(&memberships) && (kind != Kind::Job || self.facts.job_person);
        let is_placed = kind == Kind::Job && named(&[Kind::Project, Kind::Namespace]);
        let is_claim = (self.facts.asks_principal || self.facts.principal != Scope::Any) && !is_member && !is_placed;
        let all = [
            (is_member, About::Membership),
            (is_placed, About::Place),
            (is_claim, About::Claims),
            (reads(&[Attribute::Amr, Attribute::Acr, Attribute::AuthTime, Attribute::SessionAge]), About::SignIn),
            (reads(&[Attribute::Now]), About::Time),
            (reads(&[Attribute::ClientIp, Attribute::TlsSubject, Attribute::TlsSpiffeId]), About::Network),
            (self.asks_request(), About::Request),
        ];
        let asked: Vec<_> = all.into_iter().filter_map(|(asks, about)| asks.then_some(about)).collect();
        if asked.is_empty() { vec![About::Route] } else { asked }
    }

    fn asks_request(&self) -> bool {
        let of_request = [
            Attribute::Host,
            Attribute::Path,
            Attribute::PathFolded,
            Attribute::Query,
            Attribute::Class,
            Attribute::Body,
        ];
        self.facts.asks_action || of_request.iter().any(|it| self.facts.reads.contains(*it))
    }
}

/// Takes a clause apart into ones that have to hold together.
fn take_apart(clause: &Clause, into: &mut Vec<Clause>) {
    match clause {
        Clause::When(expr) => match &**expr {
            Expr::BinaryOp { op: BinaryOp::And, left, right } => {
                [left, right].into_iter().for_each(|part| take_apart(&Clause::When(part.clone()), into));
            }
            _ => into.push(clause.clone()),
        },
        Clause::Unless(expr) => match &**expr {
            Expr::BinaryOp { op: BinaryOp::Or, left, right } => {
                [left, right].into_iter().for_each(|part| take_apart(&Clause::Unless(part.clone()), into));
            }
            _ => into.push(clause.clone()),
        },
    }
}

fn text(clause: &Clause) -> String {
    match clause {
        Clause::When(expr) => expr.to_string(),
        Clause::Unless(expr) => format!("unless {expr}"),
    }
}

/// What conditions are held against: a principal on a route, and perhaps a request of theirs.
pub(super) struct Bench<'a> {
    asking: &'a Asking<'a>,
    request: Option<Request>,
    kind: Kind,
    unknown: Option<(&'a str, Option<HashSet<Uid>>)>,
    nowhere: bool,
}

impl<'a> Bench<'a> {
    /// For a request; without one only conditions can be asked that say the same of each.
    pub(super) fn of(asking: &'a Asking<'a>, principal: &'a Principal, request: Option<(&Judged, SystemTime)>) -> Self {
        let Asking { authorize, asker, route, matching, .. } = asking;
        let context = match request {
            Some((judged, now)) => context::context(Reads::ALL, judged, principal.strength(), now),
            None => Some(Context::empty()),
        };
        let action = request.and_then(|(judged, _)| Action::asked(&judged.asked)).unwrap_or(Action::Get);
        let action = authorize.actions[action as usize].clone();
        let (uid, resource) = (matching.uid.to_cedar(), entities::route(route).uid());
        let request = context.and_then(|context| Request::new(uid, action, resource, context, None).ok());
        let unknown = asker.provider().and_then(|provider| match principal.membership()? {
            Membership::Unknown(_) => Some((provider, None)),
            Membership::Known(groups) if groups.unread.is_empty() => None,
            Membership::Known(groups) => Some((provider, Some(authorize.named.among(provider, &groups.unread)))),
        });
        let (kind, nowhere) = (Kind::asking(asker), super::is_nowhere(asker));
        Self { asking, request, kind, unknown, nowhere }
    }

    /// Whether the condition holds.
    pub(super) fn holds(&self, part: &Part) -> Holds {
        let Some(request) = &self.request else { return Holds::Error };
        if self.hinges(part) {
            return Holds::Unknown;
        }
        let response = self.asking.authorize.engine.is_authorized(request, &part.set, self.asking.entities());
        match response.decision() {
            _ if response.diagnostics().errors().next().is_some() => Holds::Error,
            Verdict::Allow => Holds::Yes,
            Verdict::Deny => Holds::No,
        }
    }

    fn hinges(&self, part: &Part) -> bool {
        let on_membership = self.unknown.as_ref().is_some_and(|(provider, these)| match these {
            None => part.facts.mentions(self.kind, provider),
            Some(these) => part.facts.mentions_any(self.kind, these),
        });
        on_membership || self.nowhere && part.facts.asks_places()
    }

    fn condition(&self, part: Part) -> Condition {
        Condition { holds: self.holds(&part), about: part.about(self.kind), text: part.text }
    }
}

/// What stands behind a condition that fails is never evaluated: it is not met, and nothing is wrong with it.
fn guard(conditions: &mut [Condition]) {
    let failed = conditions.iter().position(|condition| condition.holds == Holds::No).unwrap_or(conditions.len());
    let behind = conditions[failed..].iter_mut().filter(|condition| condition.holds == Holds::Error);
    behind.for_each(|condition| condition.holds = Holds::No);
}

impl Written {
    pub(super) fn of(loaded: &Loaded) -> Self {
        Self {
            id: loaded.id.clone(),
            place: loaded.place.clone(),
            permits: loaded.facts.permits,
            reason: loaded.reason.clone(),
            remedy: loaded.remedy.clone(),
        }
    }
}

impl Authorize {
    /// The policy with this `@id`.
    pub fn written(&self, id: &str) -> Option<Written> {
        self.book.number(&PolicyId::new(id)).map(|number| Written::of(self.book.get(number)))
    }

    /// Every policy about this route, what is done, and such principals, with each of its conditions; in order.
    pub fn readings(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Vec<Reading> {
        let Some(action) = Action::asked(&judged.asked) else { return Vec::new() };
        let matching = self.matching(&Asker::of(principal), principal.membership(), route);
        let asking = Asking::new(self, principal, route, &matching);
        let bench = Bench::of(&asking, principal, Some((judged, now)));
        let is_meant = |facts: &Facts| facts.principal.kind().is_none_or(|kind| kind == bench.kind);
        let about = self.book.policies.iter().filter(|loaded| {
            let facts = &loaded.facts;
            is_meant(facts) && facts.actions.contains(action) && is_about(facts, route)
        });
        let reading = |loaded: &Loaded| {
            let mut conditions: Vec<_> =
                Part::all(&loaded.policy).into_iter().map(|part| bench.condition(part)).collect();
            guard(&mut conditions);
            Reading { policy: Written::of(loaded), conditions }
        };
        about.map(reading).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::testing::{asked, gitlab_with_api, job, jobs, load_with, person, placed, route, user},
        principal::Unknown,
    };
    use std::time::UNIX_EPOCH;

    fn authorize(text: &str) -> Authorize {
        let policies = load_with(text, &[route("r")], &[gitlab_with_api("gitlab")], &[jobs("ci", "gitlab")]);
        Authorize::new(policies.expect("the policies are good")).expect("policies make a step")
    }

    fn told(authorize: &Authorize, principal: &Principal, target: &str) -> Vec<(String, Holds, Vec<About>)> {
        let judged = Judged::from(asked("POST", target));
        let readings = authorize.readings(principal, &judged, &placed(0, &route("r")), UNIX_EPOCH);
        let conditions = readings.into_iter().flat_map(|reading| reading.conditions);
        conditions.map(|it| (it.text, it.holds, it.about)).collect()
    }

    #[test]
    fn a_job_is_told_which_claim_is_missing() {
        let authorize = authorize(
            r#"@id("a") permit (principal is Job in Project::"gitlab:g/p", action in Action::"write", resource)
               when { principal.ref == "main" && principal.ref_protected }
               when { principal has environment && principal.environment == "production" }
               when { principal.user in Group::"gitlab:release" };"#,
        );
        let job = Principal::Job {
            job: Arc::new(job(1, Some("g/p"), person("gitlab", "7"), false)),
            membership: user("7", &[], 1).membership().expect("a membership").clone(),
        };
        let all = told(&authorize, &job, "/");
        let expected = [
            (r#"principal is Job in Project::"gitlab:g/p""#, Holds::Yes, About::Place),
            (r#"principal.ref == "main""#, Holds::Yes, About::Claims),
            ("principal.ref_protected", Holds::No, About::Claims),
            ("principal has environment", Holds::No, About::Claims),
            (r#"principal.environment == "production""#, Holds::No, About::Claims),
            (r#"principal.user in Group::"gitlab:release""#, Holds::No, About::Membership),
        ];
        let expected: Vec<_> =
            expected.into_iter().map(|(text, holds, about)| (text.into(), holds, vec![about])).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn alternatives_of_an_unless_are_conditions_of_their_own() {
        let authorize = authorize(
            r#"@id("a") forbid (principal, action, resource)
               unless { context.path_folded like "/a/*" || principal in Group::"gitlab:g" };"#,
        );
        let all = told(&authorize, &user("1", &["g"], 1), "/b");
        let expected = [
            (r#"unless context.path_folded like "/a/*""#.to_owned(), Holds::Yes, vec![About::Request]),
            (r#"unless principal in Group::"gitlab:g""#.to_owned(), Holds::No, vec![About::Membership]),
        ];
        assert_eq!(all, expected);
    }

    /// Unknown is never empty: what hinges on groups that nobody knows is not told to be missing.
    #[test]
    fn nobody_says_that_a_group_is_missing_which_nobody_could_look_up() {
        let authorize = authorize(
            r#"@id("a") permit (principal is User in Group::"gitlab:g", action, resource)
               when { context.client_ip.isInRange(ip("10.0.0.0/8")) };"#,
        );
        let Principal::User { person, strength, .. } = user("1", &[], 1) else { unreachable!("it is a person") };
        let principal = Principal::User { person, strength, membership: Membership::Unknown(Unknown::NeverRead) };
        let holds: Vec<_> =
            told(&authorize, &principal, "/").into_iter().map(|(_, holds, about)| (holds, about)).collect();
        assert_eq!(holds, [(Holds::Unknown, vec![About::Membership]), (Holds::No, vec![About::Network])]);
    }

    #[test]
    fn what_is_written_is_found_by_its_id() {
        let authorize = authorize(r#"@id("a") @reason("Why.") permit (principal, action, resource);"#);
        let written = authorize.written("a").expect("it is there");
        assert_eq!(
            (&*written.place, written.permits, written.reason.as_deref()),
            ("test.cedar:1:1", true, Some("Why."))
        );
        assert_eq!(authorize.written("b"), None);
    }
}
