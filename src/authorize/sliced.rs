//! A slice decides what the whole set decides.
//!
//! What is counted is triples of a set of policies, a principal and a request. A set has up to seven policies, drawn from all scopes
//! and conditions below; those that strict validation refuses are left out. A principal is nobody, a person, a job or a service, with
//! groups that are known, known in part, or unknown. A request has its own route, method, target, client, class, time and sign-in.
//! Each triple is decided twice by the slice, the second time after all others of the set, and once by Cedar's authorizer from the whole
//! set, the whole schema and every entity: outcome and deciding ids have to be the same. Two equal triples of one set count once.
//! Where groups are unknown, Cedar decides without the policies that hinge on them, and these are looked at by their text. Jobs of
//! which nobody knows the project count apart: of them it is shown that they are permitted nothing that some project is not.

use super::{
    Authorize, Grounds, Marks, Outcome, PolicyError, context, entities,
    lint::Known,
    policies::{self, Checked},
    schema,
    testing::{asked, gitlab_with_api, job, jobs, oidc, paths, person, placed, route, services, source, with_body},
    theory::{Question, Theory, Version},
    words::{Action, Actions, Attribute, Kind, Reads, Uid},
};
use crate::{
    canonical::{Class, Fields, Inspected, Judged},
    group::GroupPath,
    principal::{Asker, Groups, Job, Membership, MembershipSource, Principal, Service, Strength, Unknown, UserId},
    route::Route,
};
use cedar_policy::{Authorizer, Decision, Entities, Entity, PolicySet, Request, Schema};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestCaseResult, TestRunner},
};
use std::{
    cell::Cell,
    collections::HashSet,
    io::Write,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const PRINCIPALS: &[&str] = &[
    "principal",
    "principal is User",
    "principal is Anonymous",
    "principal is Job",
    r#"principal == User::"a:1""#,
    r#"principal in User::"a:2""#,
    r#"principal is User in Group::"a:g""#,
    r#"principal is User in Group::"a:g/h""#,
    r#"principal is User in Group::"b:g""#,
    r#"principal is User in Namespace::"a:g""#,
    r#"principal is User in Namespace::"b:g/h""#,
    r#"principal is Job in Project::"a:g/h/p""#,
    r#"principal is Job in Namespace::"a:g""#,
    r#"principal == Job::"ci:1""#,
    "principal is Service",
    r#"principal is Service in Group::"s:g""#,
    r#"principal == Service::"s:1""#,
];
const ACTIONS: &[&str] = &[
    "action",
    r#"action == Action::"GET""#,
    r#"action in Action::"read""#,
    r#"action in [Action::"write", Action::"HEAD"]"#,
    r#"action == Action::"connect""#,
];
const RESOURCES: &[&str] = &[
    "resource",
    "resource is Route",
    "resource is Console",
    r#"resource == Route::"r""#,
    r#"resource in Route::"s""#,
    r#"resource is Route in Route::"r""#,
];
const CONDITIONS: &[&str] = &[
    "",
    r#"when { context.path like "/a/*" }"#,
    r#"unless { context.path_folded == "/a/b" }"#,
    r#"when { context.query == "x" }"#,
    r#"when { context.class == "navigation" }"#,
    r#"when { context.client_ip.isInRange(ip("10.0.0.0/8")) }"#,
    r#"when { context has acr && context.acr == "2" }"#,
    r#"when { context.amr.contains("otp") }"#,
    r#"when { context.now < datetime("1970-01-01T00:01:00Z") }"#,
    r#"when { context has session_age && context.session_age * 9223372036854775807 < 5 }"#,
    r#"unless { context.now.offset(duration("9223372036854775807ms")) < context.now }"#,
    r#"when { resource has tier && resource.tier == "x" }"#,
    r#"unless { principal in Group::"a:h" }"#,
    r#"when { principal in Namespace::"a:g/h" || principal in Group::"b:g" }"#,
    r#"when { principal == User::"b:1" || principal == User::"a:1" }"#,
    r#"when { principal is User && principal.login == "2" }"#,
    r#"when { principal is User && principal has email }"#,
    r#"when { action == Action::"GET" }"#,
    r#"when { context.host == "app.test" && context has auth_time }"#,
    r#"when { principal is Job && principal.ref_protected }"#,
    r#"when { principal is Job && principal.user in Group::"a:g" }"#,
    r#"unless { principal is Job && principal.user in Group::"a:h" }"#,
    r#"when { principal is Job && principal has environment && principal.user.login == "1" }"#,
    r#"when { principal in Project::"a:g/p" || principal in Group::"s:h" }"#,
    r#"when { principal is Service && principal.scopes.contains("w") }"#,
    r#"when { context.body has kind && context.body.kind == "x" }"#,
    r#"unless { context.body has kind && context.body.kind like "x*" }"#,
    r#"when { context.path like "/a/*" && context has body.name && context.body.name != "x" }"#,
    r#"when { context.body has kind && context has session_age && context.session_age * 9223372036854775807 < 5 }"#,
];
/// The values of the fields `kind` and `name`.
const BODIES: &[[Option<&str>; 2]] = &[
    [None, None],
    [Some("x"), None],
    [Some("y"), None],
    [Some("xy"), Some("x")],
    [None, Some("x")],
    [Some("y"), Some("z")],
];
const PROJECTS: &[Option<&str>] = &[None, Some("g/p"), Some("g/h/p"), Some("gg/p"), Some("G/p")];

const PATHS: &[&str] = &["g", "g/h", "g/h/i", "gg", "h"];

static ROUTES: LazyLock<[Route; 2]> = LazyLock::new(|| {
    let mut routes = ["r", "s"].map(route);
    routes.iter_mut().for_each(|route| route.exact = true);
    routes[0].labels.insert("tier".into(), "x".into());
    let [r, s] = routes;
    [with_body(r, &["kind", "name"]), s]
});

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| schema::schema(&*ROUTES).expect("the schema parses"));

/// A policy in its parts.
#[derive(Clone, Debug)]
struct Written {
    effect: &'static str,
    principal: &'static str,
    action: &'static str,
    resource: &'static str,
    condition: &'static str,
}

impl Written {
    fn text(&self) -> String {
        let Self { effect, principal, action, resource, condition } = self;
        format!("{effect} ({principal}, {action}, {resource}) {condition};")
    }

    /// It hinges on a group of which nobody knows whether the principal is in it, or the person behind the job.
    fn hinges(&self, asks: &Asks) -> bool {
        let named = match asks.kind {
            Kind::Job if !self.condition.contains("principal.user") => Vec::new(),
            Kind::Job => named(self.condition),
            _ => [named(self.principal), named(self.condition)].concat(),
        };
        named.into_iter().any(|(kind, id)| asks.is_open(kind, id))
    }

    /// Its scopes could be about this, but for the action.
    fn may_be_about(&self, asks: &Asks) -> bool {
        let (id, route) = (asks.uid().to_cedar().to_string(), ROUTES[asks.route].name.as_str());
        let kind = asks.uid().kind.as_str();
        let words: Vec<_> = self.principal.split(' ').collect();
        let whom = match *words.as_slice() {
            ["principal"] => true,
            ["principal", "is", is] => is == kind,
            ["principal", "==" | "in", one] => one == id,
            ["principal", "is", is, "in", within] => is == kind && asks.may_be_in(within),
            _ => unreachable!("no such scope is drawn"),
        };
        whom && (self.resource.ends_with(&format!("Route::\"{route}\""))
            || ["resource", "resource is Route"].contains(&self.resource))
    }

    fn is_about_action(&self, asks: &Asks) -> bool {
        let action = if asks.websocket { "connect" } else { asks.method };
        let group = if ["GET", "HEAD"].contains(&action) { "read" } else { "write" };
        self.action == "action" || [action, group].iter().any(|one| self.action.contains(&format!("\"{one}\"")))
    }
}

/// The groups and namespaces that a text names.
fn named(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let of = |kind: &'static str, open: &'static str| {
        text.split(open).skip(1).filter_map(move |rest| Some((kind, rest.split('"').next()?)))
    };
    of("Group", "Group::\"").chain(of("Namespace", "Namespace::\"")).collect()
}

prop_compose! {
    fn policy()(
        effect in select(&["permit", "permit", "permit", "forbid"][..]),
        principal in select(PRINCIPALS),
        action in select(ACTIONS),
        resource in select(RESOURCES),
        condition in select(CONDITIONS),
    ) -> Written {
        Written { effect, principal, action, resource, condition }
    }
}

/// What is known of somebody's groups.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Sight {
    All,
    /// All but whether they are in these.
    But(Vec<&'static str>),
    Nothing,
}

fn sight() -> impl Strategy<Value = Sight> {
    prop_oneof![
        6 => Just(Sight::All),
        2 => subsequence(PATHS, 1..=2).prop_map(Sight::But),
        2 => Just(Sight::Nothing),
    ]
}

/// One request, and who asks.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Asks {
    kind: Kind,
    project: Option<&'static str>,
    provider: Option<&'static str>,
    subject: &'static str,
    groups: Vec<&'static str>,
    sight: Sight,
    route: usize,
    method: &'static str,
    target: &'static str,
    websocket: bool,
    client: &'static str,
    class: Class,
    strong: bool,
    second: u64,
    body: [Option<&'static str>; 2],
}

prop_compose! {
    fn asks()(
        kind in select(&[Kind::User, Kind::User, Kind::Job, Kind::Service][..]),
        project in select(PROJECTS),
        provider in select(&[None, Some("a"), Some("a"), Some("b")][..]),
        subject in select(&["1", "2"][..]),
        groups in subsequence(PATHS, 0..=PATHS.len()),
        sight in sight(),
        route in 0..2_usize,
        method in select(&["GET", "HEAD", "POST", "DELETE"][..]),
        target in select(&["/", "/a/b", "/A/B/?x", "/a/c?x"][..]),
        websocket in prop::bool::weighted(0.2),
        client in select(&["10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8::1"][..]),
        class in select(&[Class::Navigation, Class::Machine][..]),
        strong in any::<bool>(),
        second in select(&[0_u64, 1, 100][..]),
        body in select(BODIES),
    ) -> Asks {
        Asks { kind, project, provider, subject, groups, sight, route, method, target, websocket, client, class, strong, second, body }
    }
}

prop_compose! {
    /// Requests that differ from the first in little: what a cache could take for the same.
    fn alike()(
        first in asks(),
        others in prop::collection::vec((asks(), prop::bits::u8::ANY, prop::bits::u8::ANY), 0..12),
    ) -> Vec<Asks> {
        let others = others.iter().map(|(other, a, b)| first.mixed(other, a & b));
        std::iter::once(first.clone()).chain(others).collect()
    }
}

impl Asks {
    /// The same request, with some parts of another.
    fn mixed(&self, other: &Self, parts: u8) -> Self {
        let from = |part: u8| if parts & 1 << part == 0 { self } else { other };
        Self {
            kind: from(0).kind,
            project: from(1).project,
            provider: from(0).provider,
            subject: from(0).subject,
            groups: from(1).groups.clone(),
            sight: from(1).sight.clone(),
            route: from(2).route,
            method: from(3).method,
            websocket: from(3).websocket,
            target: from(4).target,
            body: from(4).body,
            client: from(5).client,
            class: from(6).class,
            strong: from(7).strong,
            second: from(7).second,
        }
    }

    /// The version stands for the person and the groups, as it does outside of tests.
    fn principal(&self) -> Principal {
        let Some(provider) = self.provider else { return Principal::Anonymous };
        let bits = |of: &[&str]| PATHS.iter().fold(0, |bits, path| bits << 1 | u64::from(of.contains(path)));
        let unread = self.unread();
        let who = u64::from(provider == "b") << 1 | u64::from(self.subject == "2");
        let strength = Strength {
            created: Some(UNIX_EPOCH),
            auth_time: self.strong.then_some(UNIX_EPOCH),
            amr: if self.strong { Arc::new(["otp".to_owned()]) } else { Arc::new([]) },
            acr: self.strong.then(|| "2".into()),
        };
        let membership = Membership::Known(Groups {
            paths: paths(&self.groups).into(),
            roles: Arc::default(),
            unread: paths(&unread).into(),
            source: MembershipSource::Userinfo,
            read: UNIX_EPOCH,
            version: (bits(&self.groups) << PATHS.len() | bits(&unread)) << 2 | who,
            stale: false,
            aside: None,
        });
        let membership =
            if self.sight == Sight::Nothing { Membership::Unknown(Unknown::NeverRead) } else { membership };
        match self.kind {
            Kind::Job => Principal::Job { job: Arc::new(self.job()), membership },
            Kind::Service => Principal::Service { service: Arc::new(self.service()), membership },
            _ => Principal::User { person: person(provider, self.subject), membership, strength: Arc::new(strength) },
        }
    }

    fn uid(&self) -> Uid {
        entities::uid(&Asker::of(&self.principal()))
    }

    /// Groups of which nobody knows whether the person is in them. Those that they are known to be in are none of these.
    fn unread(&self) -> Vec<&'static str> {
        let Sight::But(unread) = &self.sight else { return Vec::new() };
        unread.iter().copied().filter(|path| !self.groups.contains(path)).collect()
    }

    /// What whoever it is about is known to be in.
    fn held(&self) -> &[&'static str] {
        if self.sight == Sight::Nothing { &[] } else { &self.groups }
    }

    /// The provider of whoever is a member: of a job's person it is `a`.
    fn of(&self) -> &'static str {
        match self.kind {
            _ if self.provider.is_none() => "",
            Kind::Job => "a",
            Kind::Service => "s",
            _ => self.provider.unwrap_or_default(),
        }
    }

    /// Nobody knows whether they are in this.
    fn is_open(&self, kind: &str, id: &str) -> bool {
        let Some(path) = id.strip_prefix(self.of()).and_then(|rest| rest.strip_prefix(':')) else { return false };
        let has = |groups: &[&str]| {
            groups.iter().any(|group| if kind == "Group" { *group == path } else { is_below(group, path) })
        };
        match &self.sight {
            Sight::All => false,
            Sight::But(_) => has(&self.unread()) && !has(&self.groups),
            Sight::Nothing => true,
        }
    }

    /// Whether a scope that is about what is in this entity may be about them.
    fn may_be_in(&self, entity: &'static str) -> bool {
        if self.kind == Kind::Job {
            let (_, path) = entity.trim_end_matches('"').split_once("::\"a:").unwrap_or_default();
            return self
                .project
                .is_some_and(|project| is_below(project, path) && (project == path) == entity.starts_with("Project"));
        }
        let Some((kind, id)) = named(entity).pop() else { return false };
        let held = self.held().iter().any(|group| {
            let own = id.strip_prefix(self.of()).and_then(|rest| rest.strip_prefix(':'));
            own.is_some_and(|path| if kind == "Group" { *group == path } else { is_below(group, path) })
        });
        held || self.is_open(kind, id)
    }

    fn is_nowhere(&self) -> bool {
        self.provider.is_some() && self.kind == Kind::Job && self.project.is_none()
    }

    /// Its person is of `a`; a number stands for one job, whose claims never change.
    fn job(&self) -> Job {
        job(self.subject.parse().expect("a number"), self.project, person("a", self.subject), self.strong)
    }

    fn service(&self) -> Service {
        Service {
            id: UserId { provider: "s".parse().expect("a name"), subject: self.subject.into() },
            issuer: "https://s.test".into(),
            client_id: self.subject.into(),
            scopes: if self.strong { Arc::new(["w".to_owned()]) } else { Arc::new([]) },
        }
    }

    fn judged(&self) -> Judged {
        let mut asked = asked(self.method, self.target);
        asked.websocket = self.websocket;
        asked.client = self.client.parse().expect("an address");
        asked.class = self.class;
        let rule = ROUTES[self.route].body_rule(&asked).filter(|_| !self.websocket);
        let body = rule.map_or(Inspected::Unnamed, |rule| Inspected::Read(rule.clone(), self.fields()));
        Judged { asked, body }
    }

    fn fields(&self) -> Fields {
        let named = ["kind", "name"].into_iter().zip(self.body);
        named.filter_map(|(name, value)| Some((name.into(), value?.into()))).collect()
    }

    /// The same where a body is read.
    fn posted(&self) -> Self {
        Self { route: 0, method: "POST", target: "/a/b", websocket: false, ..self.clone() }
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.second)
    }

    /// Every group and namespace the person is in, whether a policy names it or not.
    fn parents(&self) -> Vec<Uid> {
        let (provider, paths) = (self.of(), paths(self.held()));
        let groups = paths.iter().map(|path| Uid::new(Kind::Group, format!("{provider}:{path}")));
        let above = paths.iter().flat_map(GroupPath::lineage);
        let above = above.filter(|_| self.kind != Kind::Service); // which the schema has in groups only
        groups.chain(above.map(|path| Uid::new(Kind::Namespace, format!("{provider}:{path}")))).collect()
    }

    /// Everything about who asks, as the schema has it: a job is in its project, and that in the namespaces above.
    fn entities(&self, principal: &Principal) -> Vec<Entity> {
        let asker = Asker::of(principal);
        let Asker::Job(job) = &asker else {
            let parents = if principal.is_anonymous() { Vec::new() } else { self.parents() };
            return entities::asker(&asker, &parents, &[]);
        };
        let places = entities::places(job);
        let (project, above) = places.split_at(places.len().min(1));
        let mut all = entities::asker(&asker, project, &self.parents());
        let above: HashSet<_> = above.iter().map(Uid::to_cedar).collect();
        all.extend(project.iter().map(|project| Entity::new_no_attrs(project.to_cedar(), above.clone())));
        all
    }
}

/// A group at or below another, by segments.
fn is_below(group: &str, above: &str) -> bool {
    group.split('/').zip(above.split('/')).all(|(one, other)| one == other)
        && group.split('/').count() >= above.split('/').count()
}

/// What plain Cedar says of these policies: outcome and determining policies, any error being a failure.
fn whole(policies: &PolicySet, asks: &Asks) -> (Outcome, Vec<String>) {
    let (principal, judged) = (asks.principal(), asks.judged());
    let (asker, strength) = (asks.uid().to_cedar(), principal.strength());
    let resource = entities::route(&placed(asks.route, &ROUTES[asks.route]));
    let action = Uid::new(Kind::Action, if asks.websocket { "connect" } else { asks.method }).to_cedar();
    let context = context::context(Reads::ALL, &judged, strength, asks.now()).expect("a context");
    let request = Request::new(asker, action, resource.uid(), context, Some(&SCHEMA)).expect("a request");
    let all = asks.entities(&principal).into_iter().chain([resource]);
    let entities = Entities::from_entities(all, Some(&SCHEMA)).expect("entities fit the schema");
    let response = Authorizer::new().is_authorized(&request, policies, &entities);
    let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
    reasons.sort();
    if response.diagnostics().errors().next().is_some() {
        return (Outcome::Failed, Vec::new());
    }
    match response.decision() {
        Decision::Allow => (Outcome::Permitted, reasons),
        Decision::Deny if reasons.is_empty() => (Outcome::NotPermitted, reasons),
        Decision::Deny => (Outcome::Forbidden, reasons),
    }
}

/// A set of policies in its parts, as Cedar has it, and as it is sliced.
struct Set {
    written: Vec<Written>,
    all: PolicySet,
    sliced: Authorize,
}

impl Set {
    /// Some combinations of scope and condition are impossible, which load refuses: those are left out.
    fn of(policies: &[Written]) -> Self {
        let numbered = (0..).zip(policies).map(|(number, policy)| format!("@id(\"p{number}\") {}\n", policy.text()));
        let text: String = numbered.collect();
        let providers = [oidc("a"), oidc("b"), gitlab_with_api("c")];
        let known = Known { routes: &*ROUTES, providers: &providers, issuers: &[jobs("ci", "a"), services("s")] };
        let (loaded, _) = policies::check(&[source(&text)], known, &SCHEMA);
        let number = |id: &str| id[1..].parse::<usize>().expect("a number");
        let written = loaded.iter().map(|policy| policies[number(&policy.id)].clone()).collect();
        let all = PolicySet::from_policies(loaded.iter().map(|policy| policy.policy.clone())).expect("unique ids");
        let sliced = Authorize::new(Checked { policies: loaded, schema: SCHEMA.clone() }).expect("a step");
        Self { written, all, sliced }
    }

    fn decide(&self, asks: &Asks) -> super::Decision {
        let route = placed(asks.route, &ROUTES[asks.route]);
        self.sliced.decide(&asks.principal(), &asks.judged(), &route, asks.now())
    }

    /// What Cedar says of the whole set, or of what does not hinge on groups that nobody knows of. A forbid among the rest that
    /// could apply refuses, and a permit leaves the refusal open.
    fn whole(&self, asks: &Asks) -> (Outcome, Vec<String>) {
        let (hinging, others): (Vec<_>, Vec<_>) =
            self.written.iter().zip(&self.sliced.book.policies).partition(|(written, _)| written.hinges(asks));
        if hinging.is_empty() {
            return whole(&self.all, asks);
        }
        let could = |effect| {
            let about = |it: &Written| it.effect == effect && it.may_be_about(asks) && it.is_about_action(asks);
            hinging.iter().any(|(written, _)| about(written))
        };
        let others =
            PolicySet::from_policies(others.iter().map(|(_, policy)| policy.policy.clone())).expect("unique ids");
        match whole(&others, asks) {
            known @ (Outcome::Failed | Outcome::Forbidden, _) => known,
            _ if could("forbid") => (Outcome::MembershipUnknown, Vec::new()),
            (Outcome::NotPermitted, _) if could("permit") => (Outcome::MembershipUnknown, Vec::new()),
            known => known,
        }
    }

    /// A job of which nobody knows where it is, and a set that asks.
    fn is_of_place(&self, asks: &Asks) -> bool {
        asks.is_nowhere() && self.sliced.book.policies.iter().any(|policy| policy.facts.asks_places())
    }
}

/// How many triples were compared.
#[derive(Debug, Default)]
struct Count {
    triples: Cell<u64>,
    unknown: Cell<u64>,
    failed: Cell<u64>,
    nowhere: Cell<u64>,
    permitted: Cell<u64>,
    forbidden: Cell<u64>,
    /// Of requests with a body that was read, for policies that read it.
    of_body: Cell<u64>,
    /// Policies that were drawn, and those that strict validation let in.
    drawn: Cell<u64>,
    loaded: Cell<u64>,
}

impl Count {
    fn one(of: &Cell<u64>) {
        of.set(of.get() + 1);
    }

    fn add(&self, asks: &Asks, outcome: Outcome) {
        Self::one(&self.triples);
        if asks.sight != Sight::All && asks.provider.is_some() {
            Self::one(&self.unknown);
        }
        match outcome {
            Outcome::Failed => Self::one(&self.failed),
            Outcome::Permitted => Self::one(&self.permitted),
            Outcome::Forbidden => Self::one(&self.forbidden),
            Outcome::NotPermitted | Outcome::MembershipUnknown => {}
        }
    }

    fn add_set(&self, drawn: usize, set: &Set, requests: &[Asks]) {
        self.drawn.set(self.drawn.get() + drawn as u64);
        self.loaded.set(self.loaded.get() + set.written.len() as u64);
        let reads = set.sliced.book.policies.iter().any(|policy| policy.facts.reads.contains(Attribute::Body));
        let read = requests.iter().filter(|asks| reads && matches!(asks.judged().body, Inspected::Read(..)));
        read.for_each(|_| Self::one(&self.of_body));
    }

    /// Whether as many were compared as are wanted, with some of each kind: equal refusals of policies that were all left out
    /// would be equal too. Kinds come in clusters, so that more must be drawn at times. Fails where that does not help.
    fn holds_enough(&self, wanted: u64) -> bool {
        let kinds = [&self.unknown, &self.failed, &self.permitted, &self.forbidden, &self.of_body];
        let enough = self.triples.get() >= wanted && kinds.into_iter().all(|kind| kind.get() > wanted / 200);
        assert!(enough || self.triples.get() < 5 * wanted, "{self:?}");
        assert!(!enough || self.loaded.get() * 4 > self.drawn.get(), "{self:?}");
        enough
    }

    /// Says what was compared, and adds it to the figures of a run that publishes them.
    fn tell(&self) {
        let [triples, unknown, failed, nowhere] =
            [&self.triples, &self.unknown, &self.failed, &self.nowhere].map(Cell::get);
        let value = format!("{triples} of {triples}, {unknown} with groups unknown, {failed} with errors");
        println!("sliced as whole: {value}; {nowhere} of jobs in no known place apart");
        let (Some(file), Some(_)) = (std::env::var_os("TESTS_FIGURES"), std::env::var_os("TESTS_TRIPLES")) else {
            return;
        };
        let figure =
            "generated triples of policies, principal and request that a slice decides as Cedar does the whole set";
        let line = serde_json::json!({ "figure": figure, "value": value, "must": "≥ 100000, all" });
        let mut file = std::fs::File::options().append(true).create(true).open(file).expect("a file of figures");
        writeln!(file, "{line}").expect("written");
    }
}

/// Compares each triple of these; then once more all of them, when they are kept.
fn compare(set: &Set, requests: &[Asks], count: &Count) -> TestCaseResult {
    let decided: Vec<_> = requests.iter().map(|asks| set.decide(asks)).collect();
    for (asks, first) in requests.iter().zip(&decided) {
        let again = set.decide(asks);
        prop_assert_eq!((first.outcome, &first.policies), (again.outcome, &again.policies));
    }
    for (turn, (asks, first)) in requests.iter().zip(&decided).enumerate() {
        if set.is_of_place(asks) {
            // what is permitted without knowing the place is permitted at every place
            let everywhere = || PROJECTS.iter().map(|project| set.whole(&Asks { project: *project, ..asks.clone() }).0);
            let holds = !first.permits() || everywhere().all(|it| it == Outcome::Permitted || it == Outcome::Failed);
            prop_assert!(holds, "{:?}", everywhere().collect::<Vec<_>>());
            Count::one(&count.nowhere);
            continue;
        }
        let (outcome, reasons) = set.whole(asks);
        prop_assert_eq!(first.outcome, outcome);
        if outcome != Outcome::Failed {
            let mut found: Vec<String> = first.policies.iter().map(ToString::to_string).collect();
            found.sort();
            prop_assert_eq!(found, reasons);
        }
        if !requests[..turn].contains(asks) {
            count.add(asks, outcome);
        }
    }
    Ok(())
}

/// The slice, its few entities, its part of the context and its cache change no decision. 3,000 triples, or as many as
/// `TESTS_TRIPLES` says.
#[test]
fn slices_decide_what_the_whole_set_decides() {
    let wanted = std::env::var("TESTS_TRIPLES").map_or(3_000, |text| text.parse().expect("a number"));
    let (count, drawn) = (Count::default(), (prop::collection::vec(policy(), 1..8), alike()));
    while !count.holds_enough(wanted) {
        let mut runner = TestRunner::new(Config { cases: 200, ..Config::with_source_file(file!()) });
        let compared = runner.run(&drawn, |(policies, requests)| {
            let set = Set::of(&policies);
            count.add_set(policies.len(), &set, &requests);
            compare(&set, &requests, &count)
        });
        compared.unwrap_or_else(|fault| panic!("{fault}"));
    }
    count.tell();
}

/// 600 cases, unless the environment asks for another number.
fn cases() -> Config {
    let config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { Config { cases: 600, ..config } }
}

proptest! {
    #![proptest_config(cases())]

    /// What is left of the conditions, when all is known but the request, decides every request as the policies do.
    #[test]
    fn what_is_left_of_policies_decides_what_they_decide(
        policies in prop::collection::vec(policy(), 1..8),
        requests in alike(),
    ) {
        let set = Set::of(&policies);
        let grounds = Grounds::of(&set.sliced, &mut Marks::default());
        for asks in requests.into_iter().filter(|asks| !asks.is_nowhere()) {
            let asks = Asks { sight: Sight::All, ..asks };
            let (principal, route) = (asks.principal(), placed(asks.route, &ROUTES[asks.route]));
            let found = grounds.found(&principal, &route, &grounds.fitting(&principal, &route));
            let action = Action::ALL.into_iter().find(|it| it.as_str() == if asks.websocket { "connect" } else { asks.method });
            let action = Actions::only(action.expect("an action of the schema"));
            let left = found.grounds.iter().filter(|it| it.actions.meets(action)).zip(0..).map(|(ground, number)| {
                let effect = if ground.permits { "permit" } else { "forbid" };
                let text = format!("{effect} (principal, action, resource) {};", ground.conditions);
                cedar_policy::Policy::parse(Some(cedar_policy::PolicyId::new(number.to_string())), text).expect("it parses")
            });
            let left = PolicySet::from_policies(left).expect("unique ids");
            let decided = set.decide(&asks).outcome;
            let (outcome, _) = whole(&left, &asks);
            prop_assert!(outcome == decided || decided == Outcome::Failed, "{:?} instead of {:?}: {:?}", outcome, decided, found);
        }
    }

    /// A refusal before the body is read is one whatever the body is; where no policy reads it, every refusal is one.
    #[test]
    fn a_refusal_before_the_body_is_read_holds_for_every_body(
        policies in prop::collection::vec(policy(), 1..8),
        asks in asks(),
    ) {
        let (asks, set, route) = (asks.posted(), Set::of(&policies), placed(0, &ROUTES[0]));
        let unread = Judged { body: Inspected::Unread, ..asks.judged() };
        let refused = set.sliced.refusal(&asks.principal(), &unread, &route, asks.now());
        prop_assert!(!set.sliced.decide(&asks.principal(), &unread, &route, asks.now()).permits());
        let permitted = |body: &[Option<&'static str>; 2]| set.decide(&Asks { body: *body, ..asks.clone() }).permits();
        if refused.is_some() {
            prop_assert!(!BODIES.iter().any(permitted), "{:?}", refused);
            let mut engine = BODIES.iter().map(|body| set.whole(&Asks { body: *body, ..asks.clone() }).0);
            prop_assert!(asks.is_nowhere() || engine.all(|it| it != Outcome::Permitted));
        }
        let reads = set.sliced.book.policies.iter().any(|policy| policy.facts.reads.contains(Attribute::Body));
        if !reads {
            prop_assert_eq!(refused.is_none(), permitted(&BODIES[0]));
        }
    }

    /// What is decided without knowing the groups holds whatever they are.
    #[test]
    fn a_decision_without_membership_holds_for_every_membership(
        policies in prop::collection::vec(policy(), 1..6),
        asks in asks(),
    ) {
        let set = Set::of(&policies);
        let seen = Asks { sight: Sight::All, ..asks };
        let decide = |sight| set.decide(&Asks { sight, ..seen.clone() }).outcome;
        let (blind, seeing) = (decide(Sight::Nothing), decide(Sight::All));
        // A policy about groups can fail only where it is evaluated, which is a refusal too.
        let holds = blind == Outcome::MembershipUnknown || seeing == Outcome::Failed || seeing == blind || seen.is_nowhere();
        prop_assert!(holds, "{:?} without membership, {:?} with", blind, seeing);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Policies of which it is told that they change nothing do change nothing, where groups are known and nothing fails; and a
    /// permit that never applies permits nothing.
    #[test]
    fn what_is_told_of_policies_that_change_nothing_holds(
        policies in prop::collection::vec(policy(), 2..8),
        requests in alike(),
    ) {
        let set = Set::of(&policies);
        // of one policy its id comes first, of several that one covers all of theirs come behind it
        let told = |errors: &[PolicyError]| -> HashSet<String> {
            let ids = |text: &str, most| text.split('`').skip(1).step_by(2).take(most).map(str::to_owned).collect::<Vec<_>>();
            errors.iter().flat_map(|error| match error.message.split_once(" others do: ") {
                Some((_, covered)) => ids(covered, usize::MAX),
                None => ids(&error.message, 1),
            }).collect()
        };
        let (overruled, shadowed) = (told(&set.sliced.idle.overruled), told(&set.sliced.idle.shadowed));
        let left = set.sliced.book.policies.iter().filter(|policy| !shadowed.contains(&*policy.id));
        let left = PolicySet::from_policies(left.map(|policy| policy.policy.clone())).expect("unique ids");
        for asks in requests.into_iter().map(|asks| Asks { sight: Sight::All, ..asks }) {
            let (outcome, reasons) = whole(&set.all, &asks);
            prop_assert!(outcome != Outcome::Permitted || reasons.iter().all(|id| !overruled.contains(id)));
            let without = whole(&left, &asks).0;
            prop_assert!(outcome == without || outcome == Outcome::Failed, "{:?} and {:?}", outcome, without);
        }
    }
}

/// The routes of one version, open to everybody, the first with this label.
fn version(tier: Option<&'static str>) -> Vec<Route> {
    let names = |names: &[&str]| names.iter().map(|name| name.parse().expect("a name")).collect::<Vec<_>>();
    let mut routes: Vec<Route> = (0..).zip(&*ROUTES).map(|(index, route)| placed(index, route)).collect();
    for route in &mut routes {
        (route.providers, route.token_issuers) = (names(&["a", "b"]).into(), names(&["ci", "s"]).into());
    }
    routes[0].labels = tier.map(|tier| ("tier".to_owned(), tier.to_owned())).into_iter().collect();
    routes
}

impl Asks {
    fn action(&self) -> Action {
        let name = if self.websocket { "connect" } else { self.method };
        Action::ALL.into_iter().find(|action| action.as_str() == name).expect("an action of the schema")
    }

    /// This is one of those that nobody knows, as a question has it.
    fn lacks(&self, what: &str) -> bool {
        match what.split_once("::") {
            Some((kind, id)) => self.is_open(kind, id.trim_matches('"')),
            None => self.is_nowhere(),
        }
    }
}

/// What Cedar says of one side of a question, and whether some policy fails.
fn answered(question: &Question, side: usize, asks: &Asks, route: &Route) -> (bool, bool) {
    let (principal, judged) = (asks.principal(), asks.judged());
    let resource = entities::route(route);
    let action = Uid::new(Kind::Action, asks.action().as_str()).to_cedar();
    let context = context::context(Reads::ALL, &judged, principal.strength(), asks.now()).expect("a context");
    let flags = question
        .unknown
        .iter()
        .map(|(flag, what)| (flag.clone(), cedar_policy::RestrictedExpression::new_bool(asks.lacks(what))));
    let flags = cedar_policy::Context::from_pairs(flags).expect("no name twice");
    let context = context.merge(flags).expect("no name twice");
    let request = Request::new(asks.uid().to_cedar(), action, resource.uid(), context, None).expect("a request");
    let all = asks.entities(&principal).into_iter().chain([resource]);
    let entities = Entities::from_entities(all, Some(&SCHEMA)).expect("entities fit the schema");
    let response = Authorizer::new().is_authorized(&request, &question.worlds[0][side], &entities);
    (response.decision() == Decision::Allow, response.diagnostics().errors().next().is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// What a solver is asked about two versions decides every request as the gateway does with each, be groups, places or both
    /// unknown; so that where it finds no difference, and no policy of one version alone may fail, there is none.
    #[test]
    fn what_a_solver_is_asked_decides_as_the_gateway(
        before in prop::collection::vec(policy(), 1..6),
        (kept, added) in (prop::bits::u8::ANY, prop::collection::vec(policy(), 0..4)),
        tiers in prop::array::uniform2(select(&[Some("x"), Some("x"), Some("y"), None][..])),
        requests in alike(),
    ) {
        let after = (0..).zip(&before).filter(|(number, _)| kept & 1 << number != 0).map(|(_, policy)| policy);
        let sets = [Set::of(&before), Set::of(&after.chain(&added).cloned().collect::<Vec<_>>())];
        let routes = tiers.map(version);
        let issuers = [jobs("ci", "a"), services("s")];
        let side = |number: usize| {
            Version { policies: &sets[number].sliced, routes: &routes[number], issuers: &issuers }
        };
        let theory = Theory::of(side(0), side(1)).expect("a theory");
        for asks in requests {
            let kind = asks.uid().kind.as_str();
            let is_about = |it: &&Question| it.principal == kind && it.actions.contains(asks.action());
            let question = theory.questions.iter().find(is_about).expect("every request is asked about");
            prop_assert!(question.provisos.is_empty());
            let decided = [0, 1].map(|number| {
                let route = &routes[number][asks.route];
                sets[number].sliced.decide(&asks.principal(), &asks.judged(), route, asks.now())
            });
            let answered = [0, 1].map(|number| answered(question, number, &asks, &routes[number][asks.route]));
            for number in [0, 1] {
                let (permits, fails) = answered[number];
                prop_assert_eq!(permits && !fails, decided[number].permits(), "{} {:?}", number, decided[number]);
            }
            let is_alike = answered[0].0 == answered[1].0 && question.fallible.is_empty();
            prop_assert!(!(is_alike || question.is_same) || decided[0].permits() == decided[1].permits());
        }
    }
}

#[test]
fn every_action_has_an_entity() {
    for action in Action::ALL {
        let uid = Uid::new(Kind::Action, action.as_str()).to_cedar();
        assert!(SCHEMA.actions().any(|known| *known == uid), "{uid}");
    }
}
