//! Two versions of policies as questions for a solver, and what it may take for granted of requests.

use super::{
    Authorize,
    grounds::said,
    policies::Loaded,
    schema,
    words::{Action, Actions, Attribute, Kind, Uid},
};
use crate::{
    canonical::Class,
    group::{GroupPath, Role},
    route::Route,
};
use cedar_policy::{
    EntityTypeName, EntityUid, Policy, PolicyId, PolicySet, RequestEnv, Schema,
    pst::{Clause, Expr, Var},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

/// Both versions as they concern principals of one type and some actions.
#[derive(Clone, Debug)]
pub struct Question {
    /// The type of principals, such as `User`.
    pub principal: &'static str,
    /// Actions for which it is the same question.
    pub actions: Actions,
    /// The types that Cedar asks about, with one of these actions.
    pub environment: RequestEnv,
    /// The policies of the first version that may apply.
    pub before: PolicySet,
    /// Those of the second.
    pub after: PolicySet,
    /// Both are the same policies, whatever they are called.
    pub is_same: bool,
    /// What no request is, as forbids: first with the path folded already, then without that.
    pub worlds: [PolicySet; 2],
    /// Attributes of the context that some policy reads.
    pub context: BTreeSet<&'static str>,
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
    /// Both versions, on these routes.
    ///
    /// # Errors
    /// What Cedar says of a schema, or of what is taken for granted.
    pub fn of(before: &Authorize, after: &Authorize, routes: &[Route]) -> Result<Self, String> {
        let schema = schema::schema(routes)?;
        let mut questions = Vec::new();
        for kind in [Kind::Anonymous, Kind::User, Kind::Job, Kind::Service] {
            let open: Vec<&Route> = routes.iter().filter(|route| takes(route, kind)).collect();
            if !open.is_empty() {
                let sides = [before, after].map(|side| about(side, kind));
                questions.extend(Asking { kind, open, sides }.questions()?);
            }
        }
        Ok(Self { schema, questions })
    }
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
    open: Vec<&'a Route>,
    sides: [Vec<&'a Loaded>; 2],
}

impl Asking<'_> {
    /// Actions that the same policies are about make one question, unless a policy asks which it is.
    fn questions(&self) -> Result<Vec<Question>, String> {
        let asks_action = self.sides.iter().flatten().any(|policy| reads(policy).asks_action);
        let mut together: BTreeMap<[Vec<String>; 3], Actions> = BTreeMap::new();
        for action in Action::ALL {
            let said = |side: &Vec<&Loaded>| {
                side.iter().filter(|it| it.facts.actions.contains(action)).map(|it| said(it)).collect()
            };
            let [before, after]: [Vec<String>; 2] = self.sides.each_ref().map(said);
            let alone = if asks_action { vec![action.as_str().to_owned()] } else { Vec::new() };
            together.entry([before, after, alone]).or_default().add(Actions::only(action));
        }
        let mut all: Vec<Actions> = together.into_values().collect();
        all.sort();
        all.into_iter().map(|actions| self.question(actions)).collect()
    }

    fn question(&self, actions: Actions) -> Result<Question, String> {
        let sides = self
            .sides
            .each_ref()
            .map(|side| side.iter().copied().filter(|policy| policy.facts.actions.meets(actions)).collect::<Vec<_>>());
        let said = sides.each_ref().map(|side| side.iter().map(|policy| said(policy)).collect::<BTreeSet<_>>());
        let policies = || sides.iter().flatten().copied();
        let uids: Vec<&Uid> = policies().flat_map(|policy| &policy.facts.uids).collect();
        let read = |attribute: &Attribute| policies().any(|policy| policy.facts.reads.contains(*attribute));
        let world = World { kind: self.kind, open: &self.open, uids: &uids };
        let [before, after] = sides.each_ref().map(|side| set(side.iter().map(|policy| policy.policy.clone())));
        Ok(Question {
            principal: self.kind.as_str(),
            actions,
            environment: environment(self.kind, actions),
            before: before?,
            after: after?,
            is_same: said[0] == said[1],
            worlds: [world.policies(true)?, world.policies(false)?],
            context: Attribute::ALL.into_iter().filter(read).map(Attribute::as_str).collect(),
            attributes: policies().flat_map(|policy| reads(policy).attributes).collect(),
            named: uids.iter().map(|uid| uid.to_cedar().to_string()).collect(),
        })
    }
}

fn set(policies: impl Iterator<Item = Policy>) -> Result<PolicySet, String> {
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

/// What is true of every request, so that no example is one which nobody can make.
struct World<'a> {
    kind: Kind,
    open: &'a [&'a Route],
    uids: &'a [&'a Uid],
}

impl World<'_> {
    /// Forbids for all that no request is. With `folded` the path is folded already: then an example can be asked for as it is,
    /// while a proof is about some paths only.
    fn policies(&self, folded: bool) -> Result<PolicySet, String> {
        let kind = self.kind.as_str();
        let mut texts = vec![
            format!("forbid (principal is {kind}, action, resource) unless {{ {} }};", self.routes()),
            format!("forbid (principal is {kind}, action, resource) unless {{ {} }};", self.request()),
        ];
        if folded {
            let same = "context.path == context.path_folded";
            texts.push(format!("forbid (principal is {kind}, action, resource) unless {{ {same} }};"));
        }
        let implied = match self.kind {
            Kind::User => self.memberships("principal"),
            Kind::Job => self.memberships("principal").into_iter().chain(self.memberships("principal.user")).collect(),
            _ => Vec::new(),
        };
        let forbid = |(one, other): (String, String)| {
            format!("forbid (principal is {kind}, action, resource) when {{ {one} && !({other}) }};")
        };
        texts.extend(implied.into_iter().map(forbid));
        let parsed = texts.iter().zip(0..).map(|(text, number)| {
            Policy::parse(Some(PolicyId::new(format!("\u{0}{number}"))), text)
                .map_err(|error| format!("{text}: {error}"))
        });
        set(parsed.collect::<Result<Vec<_>, _>>()?.into_iter())
    }

    /// One of the routes that are open to such principals, with its labels, its host and its path.
    fn routes(&self) -> String {
        let labels: BTreeSet<&String> = self.open.iter().flat_map(|route| route.labels.keys()).collect();
        let one = |route: &&Route| {
            let uid = Uid::new(Kind::Route, route.name.as_str()).to_cedar();
            let mut parts =
                vec![format!("resource == {uid}"), format!("context.host == {}", text(route.host.as_str()))];
            let path = route.path.trim_end_matches('/').to_ascii_lowercase();
            if !path.is_empty() {
                let pattern = text(&path).trim_matches('"').replace('*', "\\*");
                parts.push(format!(
                    "(context.path_folded == {} || context.path_folded like \"{pattern}/*\")",
                    text(&path)
                ));
            }
            parts.extend(labels.iter().map(|label| match route.labels.get(*label) {
                Some(value) => format!("resource has {} && resource[{}] == {}", text(label), text(label), text(value)),
                None => format!("!(resource has {})", text(label)),
            }));
            format!("({})", parts.join(" && "))
        };
        self.open.iter().map(one).collect::<Vec<_>>().join(" || ")
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

/// A text as Cedar writes it.
fn text(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
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
