//! Two versions of policies as questions for a solver, and what it may take for granted of requests.

use super::{
    Authorize,
    applied::{self, Applied, Labels, any, flag, text},
    grounds::said,
    policies::Loaded,
    schema,
    words::{Action, Actions, Attribute, Kind, Uid},
};
use crate::{
    canonical::Class,
    config::TokenIssuerSettings,
    group::{GroupPath, Role},
    principal::Name,
    route::Route,
};
use cedar_policy::{
    EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, RequestEnv, Schema,
    pst::{Clause, Expr, Var},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::Arc,
};

/// One version: policies, and what is served by them.
#[derive(Clone, Copy)]
pub struct Version<'a> {
    /// The policies, `allow` lists expanded.
    pub policies: &'a Authorize,
    /// The routes that they are about.
    pub routes: &'a [Route],
    /// Whose tokens these may take.
    pub issuers: &'a [Arc<TokenIssuerSettings>],
}

/// Both versions as they concern principals of one type and some actions.
#[derive(Clone, Debug)]
pub struct Question {
    /// The type of principals, such as `User`.
    pub principal: &'static str,
    /// Actions for which it is the same question.
    pub actions: Actions,
    /// The types that Cedar asks about, with one of these actions.
    pub environment: RequestEnv,
    /// The policies of the first version and of the second, as the gateway applies them, and what no request is there, as forbids:
    /// first of any request, then of those that are easier to ask for.
    pub worlds: Vec<[PolicySet; 2]>,
    /// Both are the same policies, whatever they are called, in the same world.
    pub is_same: bool,
    /// What keeps the answer from being about every request, a sentence each.
    pub provisos: Vec<String>,
    /// Policies that only one version has and whose evaluation may fail, as far as their text tells; by `@id`.
    pub fallible: Vec<(Arc<str>, Policy)>,
    /// Attributes of the context that some policy reads.
    pub context: BTreeSet<&'static str>,
    /// Attributes of the context that say what nobody knows, and what that is.
    pub unknown: BTreeMap<String, String>,
    /// Attributes of other entities that some policy reads.
    pub attributes: BTreeSet<String>,
    /// Entities that some policy names.
    pub named: BTreeSet<String>,
}

/// All questions, and the schema that they are about.
pub struct Theory {
    /// That of all routes on both sides.
    pub schema: Schema,
    /// One for each type of principal and set of actions.
    pub questions: Vec<Question>,
}

impl Theory {
    /// Both versions, each with its own routes.
    ///
    /// # Errors
    /// What Cedar says of a schema, or of what is taken for granted.
    pub fn of(before: Version<'_>, after: Version<'_>) -> Result<Self, String> {
        let versions = [before, after];
        let routes: Vec<Route> = versions.iter().flat_map(|version| version.routes).cloned().collect();
        let labels: BTreeSet<&str> = routes.iter().flat_map(|route| route.labels.keys().map(String::as_str)).collect();
        let mut flags = BTreeSet::from([applied::NOWHERE.to_owned()]);
        for policy in versions.iter().flat_map(|version| &version.policies.book.policies) {
            flags.extend(policy.facts.members.iter().map(applied::unread));
        }
        let schema = schema::with_flags(&routes, &flags)?;
        let mut questions = Vec::new();
        for kind in [Kind::Anonymous, Kind::User, Kind::Job, Kind::Service] {
            let open = versions.map(|version| open(version, kind));
            if open.iter().any(|routes| !routes.is_empty()) {
                let [before, after] = &open;
                let labels = [Labels::of(&labels, before)?, Labels::of(&labels, after)?];
                let policies = versions.map(|version| about(version.policies, kind));
                questions.extend(Asking { kind, versions, open, labels, policies }.questions()?);
            }
        }
        Ok(Self { schema, questions })
    }
}

/// The routes of a version where principals of this type come as what they are.
fn open(version: Version<'_>, kind: Kind) -> Vec<&Route> {
    version.routes.iter().filter(|route| takes(route, kind)).collect()
}

/// Whether principals of this type come to the route as what they are.
fn takes(route: &Route, kind: Kind) -> bool {
    match kind {
        Kind::User => !route.providers.is_empty() || !route.token_issuers.is_empty(),
        Kind::Job | Kind::Service => !route.token_issuers.is_empty(),
        _ => true,
    }
}

/// The policies about routes that principals of this type can match.
fn about(side: &Authorize, kind: Kind) -> Vec<&Loaded> {
    let is_about = |policy: &&Loaded| {
        let facts = &policy.facts;
        let resource = facts.resource.kind().is_none_or(|kind| kind == Kind::Route);
        resource && facts.principal.kind().is_none_or(|own| own == kind)
    };
    side.book.policies.iter().filter(is_about).collect()
}

struct Asking<'a> {
    kind: Kind,
    versions: [Version<'a>; 2],
    /// The routes of each.
    open: [Vec<&'a Route>; 2],
    labels: [Labels; 2],
    policies: [Vec<&'a Loaded>; 2],
}

/// What the policies of one version come to.
#[derive(Default)]
struct Side {
    policies: Vec<Policy>,
    /// The texts of these.
    texts: BTreeSet<String>,
    /// Whose evaluation may fail, with their text.
    fallible: BTreeMap<String, (Arc<str>, Policy)>,
    is_strange: bool,
}

impl Asking<'_> {
    /// Actions that the same policies are about make one question, unless a policy asks which it is.
    fn questions(&self) -> Result<Vec<Question>, String> {
        let asks_action = self.policies.iter().flatten().any(|policy| reads(policy).asks_action);
        let mut together: BTreeMap<[Vec<String>; 3], Actions> = BTreeMap::new();
        for action in Action::ALL {
            let said = |side: &Vec<&Loaded>| {
                side.iter().filter(|it| it.facts.actions.contains(action)).map(|it| said(it)).collect()
            };
            let [before, after]: [Vec<String>; 2] = self.policies.each_ref().map(said);
            let alone = if asks_action { vec![action.as_str().to_owned()] } else { Vec::new() };
            together.entry([before, after, alone]).or_default().add(Actions::only(action));
        }
        let mut all: Vec<Actions> = together.into_values().collect();
        all.sort();
        all.into_iter().map(|actions| self.question(actions)).collect()
    }

    fn question(&self, actions: Actions) -> Result<Question, String> {
        let loaded = self
            .policies
            .each_ref()
            .map(|side| side.iter().copied().filter(|policy| policy.facts.actions.meets(actions)).collect::<Vec<_>>());
        let policies = || loaded.iter().flatten().copied();
        let [before, after] = &loaded;
        let sides = [self.side(before, 0)?, self.side(after, 1)?];
        let uids: Vec<&Uid> = policies().flat_map(|policy| &policy.facts.uids).collect();
        let read = |attribute: &Attribute| policies().any(|policy| policy.facts.reads.contains(*attribute));
        let unread = policies().flat_map(|policy| applied::members(policy, self.kind)).collect::<Vec<_>>();
        let asks_places = policies().any(|policy| applied::asks_places(policy, self.kind));
        let world = World { kind: self.kind, uids: &uids, unread: &unread, asks_places };
        let routes = self.open.each_ref().map(|open| routes(open));
        Ok(Question {
            principal: self.kind.as_str(),
            actions,
            environment: environment(self.kind, actions),
            worlds: world.all(&sides, &routes)?,
            is_same: sides[0].texts == sides[1].texts && routes[0] == routes[1],
            provisos: self.provisos(&sides, policies().any(|policy| policy.facts.reads.contains(Attribute::Body))),
            fallible: fallible(&sides),
            context: Attribute::ALL.into_iter().filter(read).map(Attribute::as_str).collect(),
            unknown: world.unknown(),
            attributes: policies().flat_map(|policy| reads(policy).attributes).collect(),
            named: uids.iter().map(|uid| uid.to_cedar().to_string()).collect(),
        })
    }

    fn side(&self, policies: &[&Loaded], number: usize) -> Result<Side, String> {
        let mut side = Side::default();
        for policy in policies {
            let applied = Applied::of(policy, self.kind, &self.labels[number])?;
            if let Some(own) = applied.policies.first().filter(|_| applied.may_fail) {
                side.fallible.insert(own.to_string(), (policy.id.clone(), own.clone()));
            }
            side.texts.extend(applied.policies.iter().map(ToString::to_string));
            side.policies.extend(applied.policies);
            side.is_strange |= applied.is_strange;
        }
        Ok(side)
    }

    /// Why nobody can say of every request that it is decided alike, though nothing else is found.
    fn provisos(&self, sides: &[Side; 2], reads_body: bool) -> Vec<String> {
        let named = self.open.each_ref().map(|open| open.iter().map(|route| &route.name).collect::<BTreeSet<_>>());
        let all: BTreeSet<&Name> = named.iter().flatten().copied().collect();
        let routes = self.versions.map(|version| move |name: &Name| version.routes.iter().find(|it| it.name == *name));
        let [before, after] = [&routes[0], &routes[1]];
        let seen = |version: &Version<'_>, route: &Route| {
            let bodies = if reads_body { &route.body_fields[..] } else { &[] }.to_vec();
            let people = version.issuers.iter().filter(|issuer| route.token_issuers.contains(&issuer.name));
            let people: BTreeSet<Name> = people.map(|issuer| issuer.namespace().clone()).collect();
            let takes = [route.providers.clone(), route.token_issuers.clone()]
                .map(|names| names.iter().cloned().collect::<BTreeSet<_>>());
            (route.host.clone(), route.path.clone(), route.exact, takes, people, bodies)
        };
        let [one, other] = &self.versions;
        let is_alike = |name: &Name| match (before(name), after(name)) {
            (Some(before), Some(after)) => seen(one, before) == seen(other, after),
            (None, _) | (_, None) => false,
        };
        let unlike: Vec<_> = all.into_iter().filter(|name| !is_alike(name)).map(|name| format!("`{name}`")).collect();
        let mut provisos = Vec::new();
        if !unlike.is_empty() {
            provisos.push(format!("not proved of routes that the versions have otherwise: {}", unlike.join(", ")));
        }
        let labels = self
            .versions
            .map(|version| version.routes.iter().map(|route| (&route.name, &route.labels)).collect::<BTreeMap<_, _>>());
        if labels[0] != labels[1] && sides.iter().any(|side| side.is_strange) {
            provisos.push("not proved of labels: a policy reads an attribute of what it has computed".to_owned());
        }
        provisos
    }
}

/// The policies of only one side whose evaluation may fail.
fn fallible(sides: &[Side; 2]) -> Vec<(Arc<str>, Policy)> {
    let [before, after] = sides;
    let alone = |own: &Side, other: &Side| {
        let alone = own.fallible.iter().filter(|(text, _)| !other.texts.contains(*text));
        alone.map(|(_, policy)| policy.clone()).collect::<Vec<_>>()
    };
    [alone(before, after), alone(after, before)].concat()
}

fn set(policies: impl IntoIterator<Item = Policy>) -> Result<PolicySet, String> {
    PolicySet::from_policies(policies).map_err(|error| error.to_string())
}

fn environment(kind: Kind, actions: Actions) -> RequestEnv {
    let name = |kind: Kind| EntityTypeName::from_str(kind.as_str()).expect("every kind is a Cedar identifier");
    let action = Action::ALL.into_iter().find(|action| actions.contains(*action)).unwrap_or(Action::Get);
    let action: EntityUid = Uid::new(Kind::Action, action.as_str()).to_cedar();
    RequestEnv::new(name(kind), action, name(Kind::Route))
}

/// What conditions read beside the context.
#[derive(Default)]
struct Read {
    attributes: BTreeSet<String>,
    asks_action: bool,
}

fn reads(policy: &Loaded) -> Read {
    let mut read = Read::default();
    if let Ok(pst) = policy.policy.to_pst() {
        for clause in pst.body().clauses() {
            let (Clause::When(expr) | Clause::Unless(expr)) = clause;
            read.walk(expr);
        }
    }
    read
}

impl Read {
    fn walk(&mut self, expr: &Expr) {
        match expr {
            Expr::Var(var) => self.asks_action |= *var == Var::Action,
            Expr::GetAttr { expr, attr } => self.attribute(expr, attr.as_str()),
            Expr::HasAttr { expr, attrs } => self.attribute(expr, attrs.first().as_str()),
            Expr::UnaryOp { expr, .. } | Expr::Like { expr, .. } => self.walk(expr),
            Expr::BinaryOp { left, right, .. } => [left, right].into_iter().for_each(|expr| self.walk(expr)),
            Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).for_each(|expr| self.walk(expr)),
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                [cond, then_expr, else_expr].into_iter().for_each(|expr| self.walk(expr));
            }
            Expr::Set(items) => items.iter().for_each(|item| self.walk(item)),
            Expr::Record(fields) => fields.values().for_each(|field| self.walk(field)),
            _ => {}
        }
    }

    fn attribute(&mut self, of: &Expr, name: &str) {
        if *of != Expr::Var(Var::Context) {
            self.attributes.insert(name.to_owned());
        }
        self.walk(of);
    }
}

/// One of these routes, on its host and path.
fn routes(open: &[&Route]) -> String {
    let one = |route: &&Route| {
        let uid = Uid::new(Kind::Route, route.name.as_str()).to_cedar();
        let mut parts = vec![format!("resource == {uid}"), format!("context.host == {}", text(route.host.as_str()))];
        let path = route.path.trim_end_matches('/').to_ascii_lowercase();
        if !path.is_empty() {
            let pattern = text(&path).trim_matches('"').replace('*', "\\*");
            parts.push(format!("(context.path_folded == {} || context.path_folded like \"{pattern}/*\")", text(&path)));
        }
        format!("({})", parts.join(" && "))
    };
    let all: Vec<_> = open.iter().map(one).collect();
    if all.is_empty() { "false".to_owned() } else { all.join(" || ") }
}

/// What is true of every request, so that no example is one which nobody can make.
struct World<'a> {
    kind: Kind,
    /// Entities that policies name.
    uids: &'a [&'a Uid],
    /// Memberships that may be unknown.
    unread: &'a [&'a Uid],
    /// A policy asks where jobs are.
    asks_places: bool,
}

impl World<'_> {
    /// The policies of both sides with forbids for all that no request is there: for any request; then where everything is known
    /// and the path is folded already, so that an example can be asked for as it is; then where everything is known.
    fn all(&self, sides: &[Side; 2], routes: &[String; 2]) -> Result<Vec<[PolicySet; 2]>, String> {
        let kind = self.kind.as_str();
        let forbid =
            |condition: &str| format!("forbid (principal is {kind}, action, resource) when {{ {condition} }};");
        let mut any = vec![forbid(&format!("!({})", self.request()))];
        any.extend(self.impossible().iter().map(|condition| forbid(condition)));
        let known = self.flags().map(|flags| forbid(&flags));
        let folded = forbid("context.path != context.path_folded");
        let mut worlds = vec![any.clone()];
        worlds.push([any.clone(), Vec::from_iter(known.clone()), vec![folded]].concat());
        worlds.extend(known.map(|known| [any, vec![known]].concat()));
        let world = |texts: Vec<String>| {
            let side = |number: usize| {
                let own = forbid(&format!("!({})", routes[number]));
                let parsed = texts.iter().chain([&own]).zip(0..).map(|(text, number)| {
                    let id = PolicyId::new(format!("\u{0}{number}"));
                    Policy::parse(Some(id), text).map_err(|error| format!("{text}: {error}"))
                });
                let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
                set(sides[number].policies.iter().cloned().chain(parsed))
            };
            Ok([side(0)?, side(1)?])
        };
        worlds.into_iter().map(world).collect()
    }

    /// Something is unknown.
    fn flags(&self) -> Option<String> {
        any(self.unknown().into_keys())
    }

    /// The attributes that say what is unknown, and what that is.
    fn unknown(&self) -> BTreeMap<String, String> {
        let unread = self.unread.iter().map(|uid| (applied::unread(uid), uid.to_cedar().to_string()));
        let place = self.asks_places.then(|| (applied::NOWHERE.to_owned(), "the project of the job".to_owned()));
        unread.chain(place).collect()
    }

    /// Conditions that no request fulfils.
    fn impossible(&self) -> Vec<String> {
        let both = |(one, other): (String, String)| format!("{one} && !({other})");
        let person = if self.kind == Kind::Job { "principal.user" } else { "principal" };
        let mut all = match self.kind {
            Kind::User => self.memberships("principal"),
            Kind::Job => self.memberships("principal").into_iter().chain(self.memberships(person)).collect(),
            _ => Vec::new(),
        };
        all.extend(self.unread(person));
        if self.asks_places {
            let places = self.uids.iter().filter(|uid| matches!(uid.kind, Kind::Project | Kind::Namespace));
            all.extend(places.map(|uid| (flag(applied::NOWHERE), format!("!(principal in {})", uid.to_cedar()))));
        }
        all.into_iter().map(both).collect()
    }

    /// What follows from not knowing of a membership: they are not known to be in it, it is one of their provider's, and of what is
    /// read together with it as little is known.
    fn unread(&self, person: &str) -> Vec<(String, String)> {
        let within = |uid: &Uid| format!("{person} in {}", uid.to_cedar());
        let unread = |uid: &Uid| flag(&applied::unread(uid));
        let mut implied = Vec::new();
        for one in self.unread {
            implied.push((unread(one), format!("!({})", within(one))));
            if let Some(provider) = one.provider().filter(|_| self.kind != Kind::Service) {
                implied.push((unread(one), format!("{person}.provider == {}", text(provider))));
            }
            let others = self.unread.iter().filter(|other| *other != one && is_read_with(one, other));
            implied.extend(others.map(|other| match other.kind {
                Kind::Role => (unread(one), unread(other)), // one role there is as unknown as another
                _ => (unread(one), format!("{} || {}", unread(other), within(other))),
            }));
        }
        implied.sort();
        implied.dedup();
        implied
    }

    fn request(&self) -> String {
        let classes: Vec<_> = Class::ALL.iter().map(|class| text(class.as_str())).collect();
        format!(
            "context.path like \"/*\" && context.path_folded like \"/*\" && \
             (context.path_folded == \"/\" || !(context.path_folded like \"*/\")) && [{}].contains(context.class)",
            classes.join(", ")
        )
    }

    /// Memberships that follow from others, and the provider that follows from one.
    fn memberships(&self, whom: &str) -> Vec<(String, String)> {
        let named: BTreeMap<String, &Uid> = self.uids.iter().map(|uid| (uid.to_cedar().to_string(), *uid)).collect();
        let is_place = self.kind == Kind::Job && whom == "principal";
        let is_meant = |uid: &&Uid| match uid.kind {
            Kind::Namespace => true,
            Kind::Project => is_place,
            Kind::Group | Kind::Role => !is_place,
            _ => false,
        };
        let all: Vec<&Uid> = named.into_values().filter(is_meant).collect();
        let within = |uid: &Uid| format!("{whom} in {}", uid.to_cedar());
        let mut implied = Vec::new();
        for one in &all {
            let others = all.iter().filter(|other| *other != one && implies(one, other));
            implied.extend(others.map(|other| (within(one), within(other))));
            if let Some(provider) = one.provider().filter(|_| !is_place) {
                implied.push((within(one), format!("{whom}.provider == {}", text(provider))));
            }
        }
        implied
    }
}

/// Whether `other` is unknown where `one` is, as far as it does not follow from something else: a group, its roles, and the
/// namespaces above.
fn is_read_with(one: &Uid, other: &Uid) -> bool {
    let (Some((path, _)), Some((above, _))) = (place(one), place(other)) else { return false };
    one.kind != Kind::Namespace
        && one.provider() == other.provider()
        && match other.kind {
            Kind::Namespace => above.contains(&path),
            _ => path == above,
        }
}

/// Whether whoever is in `one` is in `other`.
fn implies(one: &Uid, other: &Uid) -> bool {
    let (Some((path, role)), Some((above, least))) = (place(one), place(other)) else { return false };
    if one.provider() != other.provider() {
        return false;
    }
    match (one.kind, other.kind) {
        (_, Kind::Namespace) => above.contains(&path),
        (Kind::Role, Kind::Group) => path == above,
        (Kind::Role, Kind::Role) => path == above && role >= least,
        _ => false,
    }
}

/// The path that an entity is about, and the role in it.
fn place(uid: &Uid) -> Option<(GroupPath, Option<Role>)> {
    let (_, path) = uid.id.split_once(':')?;
    match (uid.kind, path.split_once('#')) {
        (Kind::Role, Some((path, role))) => Some((path.parse().ok()?, Some(role.parse().ok()?))),
        _ => Some((path.parse().ok()?, None)),
    }
}
