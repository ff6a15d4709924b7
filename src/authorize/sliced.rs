//! A slice decides what the whole set decides.

use super::{
    Authorize, Grounds, Marks, Outcome, context, entities,
    lint::Known,
    policies::{self, Checked},
    schema,
    testing::{asked, gitlab_with_api, job, jobs, oidc, paths, person, placed, route, services, source, with_body},
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
    test_runner::Config,
};
use std::{
    collections::HashSet,
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

prop_compose! {
    fn policy()(
        effect in select(&["permit", "permit", "permit", "forbid"][..]),
        principal in select(PRINCIPALS),
        action in select(ACTIONS),
        resource in select(RESOURCES),
        condition in select(CONDITIONS),
    ) -> String {
        format!("{effect} ({principal}, {action}, {resource}) {condition};")
    }
}

/// One request, and who asks.
#[derive(Clone, Debug)]
struct Asks {
    kind: Kind,
    project: Option<&'static str>,
    provider: Option<&'static str>,
    subject: &'static str,
    groups: Vec<&'static str>,
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
        Asks { kind, project, provider, subject, groups, route, method, target, websocket, client, class, strong, second, body }
    }
}

prop_compose! {
    /// Requests that differ from the first in little: what a cache could take for the same.
    fn alike()(
        first in asks(),
        others in prop::collection::vec((asks(), prop::bits::u8::ANY, prop::bits::u8::ANY), 0..6),
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
        let groups = PATHS.iter().fold(0, |bits, path| bits << 1 | u64::from(self.groups.contains(path)));
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
            unread: Arc::default(),
            source: MembershipSource::Userinfo,
            read: UNIX_EPOCH,
            version: groups << 2 | who,
            stale: false,
        });
        match self.kind {
            Kind::Job => Principal::Job { job: Arc::new(self.job()), membership },
            Kind::Service => Principal::Service { service: Arc::new(self.service()), membership },
            _ => Principal::User { person: person(provider, self.subject), membership, strength: Arc::new(strength) },
        }
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
        let provider = match self.kind {
            Kind::Job => "a",
            Kind::Service => "s",
            _ => self.provider.expect("asked for people"),
        };
        let paths = paths(&self.groups);
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

/// What plain Cedar says of the whole set: outcome and determining policies, any error being a failure.
fn whole(policies: &PolicySet, asks: &Asks) -> (Outcome, Vec<String>) {
    let (principal, judged) = (asks.principal(), asks.judged());
    let (asker, strength) = (entities::uid(&Asker::of(&principal)).to_cedar(), principal.strength());
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

/// Some combinations of scope and condition are impossible, which load refuses: those are left out.
fn authorize(policies: &[String]) -> Authorize {
    let numbered = (0..).zip(policies).map(|(number, policy)| format!("@id(\"p{number}\") {policy}\n"));
    let text: String = numbered.collect();
    let providers = [oidc("a"), oidc("b"), gitlab_with_api("c")];
    let known = Known { routes: &*ROUTES, providers: &providers, issuers: &[jobs("ci", "a"), services("s")] };
    let (policies, _) = policies::check(&[source(&text)], known, &SCHEMA);
    Authorize::new(Checked { policies, schema: SCHEMA.clone() }).expect("a step")
}

/// Whoever it is, of whom nobody knows the groups.
fn blind(principal: Principal) -> Principal {
    let membership = Membership::Unknown(Unknown::NeverRead);
    match principal {
        Principal::Anonymous => Principal::Anonymous,
        Principal::User { person, strength, .. } => Principal::User { person, strength, membership },
        Principal::Job { job, .. } => Principal::Job { job, membership },
        Principal::Service { service, .. } => Principal::Service { service, membership },
    }
}

/// 2,000 cases, unless the environment asks for another number.
fn cases() -> Config {
    let config = Config::default();
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { Config { cases: 2000, ..config } }
}

proptest! {
    #![proptest_config(cases())]

    /// The slice, its few entities, its part of the context and its cache change no decision.
    #[test]
    fn slices_decide_what_the_whole_set_decides(
        policies in prop::collection::vec(policy(), 1..8),
        requests in alike(),
    ) {
        let authorize = authorize(&policies);
        let set = PolicySet::from_policies(authorize.book.policies.iter().map(|policy| policy.policy.clone()));
        let set = set.expect("unique ids");
        for asks in requests.iter().chain(&requests) {
            let route = placed(asks.route, &ROUTES[asks.route]);
            let decision = authorize.decide(&asks.principal(), &asks.judged(), &route, asks.now());
            let (outcome, reasons) = whole(&set, asks);
            if asks.is_nowhere() && authorize.book.policies.iter().any(|policy| policy.facts.asks_places()) {
                // what is permitted without knowing the place is permitted at every place
                let everywhere = || PROJECTS.iter().map(|project| whole(&set, &Asks { project: *project, ..asks.clone() }).0);
                let holds = !decision.permits() || everywhere().all(|it| it == Outcome::Permitted || it == Outcome::Failed);
                prop_assert!(holds, "{:?}", everywhere().collect::<Vec<_>>());
                continue;
            }
            prop_assert_eq!(decision.outcome, outcome);
            if outcome != Outcome::Failed {
                let mut found: Vec<String> = decision.policies.iter().map(ToString::to_string).collect();
                found.sort();
                prop_assert_eq!(found, reasons);
            }
        }
    }

    /// What is left of the conditions, when all is known but the request, decides every request as the policies do.
    #[test]
    fn what_is_left_of_policies_decides_what_they_decide(
        policies in prop::collection::vec(policy(), 1..8),
        requests in alike(),
    ) {
        let authorize = authorize(&policies);
        let grounds = Grounds::of(&authorize, &mut Marks::default());
        for asks in requests.iter().filter(|asks| !asks.is_nowhere()) {
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
            let decided = authorize.decide(&principal, &asks.judged(), &route, asks.now()).outcome;
            let (outcome, _) = whole(&left, asks);
            prop_assert!(outcome == decided || decided == Outcome::Failed, "{:?} instead of {:?}: {:?}", outcome, decided, found);
        }
    }

    /// A refusal before the body is read is one whatever the body is; where no policy reads it, every refusal is one.
    #[test]
    fn a_refusal_before_the_body_is_read_holds_for_every_body(
        policies in prop::collection::vec(policy(), 1..8),
        asks in asks(),
        known in prop::bool::weighted(0.8),
    ) {
        let (asks, authorize) = (asks.posted(), authorize(&policies));
        let set = PolicySet::from_policies(authorize.book.policies.iter().map(|policy| policy.policy.clone()));
        let (set, route) = (set.expect("unique ids"), placed(0, &ROUTES[0]));
        let principal = if known { asks.principal() } else { blind(asks.principal()) };
        let unread = Judged { body: Inspected::Unread, ..asks.judged() };
        let refused = authorize.refusal(&principal, &unread, &route, asks.now());
        prop_assert!(!authorize.decide(&principal, &unread, &route, asks.now()).permits());
        let permitted = |body: &[Option<&'static str>; 2]| {
            let asks = Asks { body: *body, ..asks.clone() };
            authorize.decide(&principal, &asks.judged(), &route, asks.now()).permits()
        };
        if refused.is_some() {
            prop_assert!(!BODIES.iter().any(permitted), "{:?}", refused);
            let engine = BODIES.iter().map(|body| whole(&set, &Asks { body: *body, ..asks.clone() }).0);
            prop_assert!(!known || asks.is_nowhere() || engine.into_iter().all(|it| it != Outcome::Permitted));
        }
        let reads = authorize.book.policies.iter().any(|policy| policy.facts.reads.contains(Attribute::Body));
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
        if asks.principal().is_anonymous() {
            return Ok(());
        }
        let unknown = blind(asks.principal());
        let authorize = authorize(&policies);
        let route = placed(asks.route, &ROUTES[asks.route]);
        let decide = |principal| authorize.decide(principal, &asks.judged(), &route, asks.now()).outcome;
        let (blind, seeing) = (decide(&unknown), decide(&asks.principal()));
        // A policy about groups can fail only where it is evaluated, which is a refusal too.
        let holds = blind == Outcome::MembershipUnknown || seeing == Outcome::Failed || seeing == blind || asks.is_nowhere();
        prop_assert!(holds, "{:?} without membership, {:?} with", blind, seeing);
    }
}

#[test]
fn every_action_has_an_entity() {
    for action in Action::ALL {
        let uid = Uid::new(Kind::Action, action.as_str()).to_cedar();
        assert!(SCHEMA.actions().any(|known| *known == uid), "{uid}");
    }
}
