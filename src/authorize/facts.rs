//! What a policy says, read once from its syntax: its scope, what it reads, whom it names.

use super::words::{Actions, Attribute, Kind, Reads, Scope, Uid};
use cedar_policy::{
    Policy,
    pst::{BinaryOp, Clause, Effect, Expr, Literal, Template, UnaryOp, Var},
};
use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

/// What a policy says.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) permits: bool,
    pub(super) principal: Scope,
    pub(super) resource: Scope,
    pub(super) actions: Actions,
    pub(super) reads: Reads,
    /// Every entity it names, in scopes and conditions, without actions.
    pub(super) uids: Vec<Uid>,
    /// Providers and token issuers whose groups, roles or namespaces the conditions mention.
    pub(super) conditions: BTreeSet<Arc<str>>,
    /// The same groups, roles and namespaces, and the one of the scope where that is a membership.
    pub(super) members: Vec<Uid>,
    /// Memberships that keep people out: by which a forbid applies, or a permit does not.
    pub(super) barring: Vec<Uid>,
    /// A permit that reads `path` in a place where a difference lets more through.
    pub(super) path_negated: bool,
    /// Its conditions ask who it is.
    pub(super) asks_principal: bool,
    /// Its conditions ask what is done.
    pub(super) asks_action: bool,
    /// Fields of the body that it reads.
    pub(super) body_fields: BTreeSet<Arc<str>>,
    /// It reads the person behind a job.
    pub(super) job_person: bool,
    /// Whose member that person is asked to be.
    pub(super) behind_jobs: Vec<Uid>,
    /// It asks about an entity that is not part of the request.
    pub(super) strangers: Vec<Uid>,
}

impl Facts {
    /// Reads a policy that has passed validation; `None` where its syntax is beyond what the schema allows.
    pub(super) fn of(policy: &Policy) -> Option<Self> {
        let policy = policy.to_pst().ok()?;
        let template: &Template = policy.body();
        let mut facts = Self {
            permits: template.effect == Effect::Permit,
            principal: Scope::principal(&template.principal)?,
            resource: Scope::resource(&template.resource)?,
            actions: Actions::of(&template.action),
            reads: Reads::default(),
            uids: Vec::new(),
            conditions: BTreeSet::new(),
            members: Vec::new(),
            barring: Vec::new(),
            path_negated: false,
            asks_principal: false,
            asks_action: false,
            body_fields: BTreeSet::new(),
            job_person: false,
            behind_jobs: Vec::new(),
            strangers: Vec::new(),
        };
        for clause in template.clauses() {
            match clause {
                Clause::When(expr) => facts.walk(expr, Sign::Plain)?,
                Clause::Unless(expr) => facts.walk(expr, Sign::Negated)?,
            }
        }
        let groups = facts.uids.iter().filter(|uid| uid.kind.is_membership());
        facts.conditions = groups.clone().filter_map(Uid::provider).map(Arc::from).collect();
        facts.members = groups.chain(facts.member_scope()).cloned().collect();
        if !facts.permits {
            facts.barring.extend(facts.member_scope().cloned());
        }
        if !facts.about_people() {
            facts.barring.clear();
        }
        facts.uids.extend([&facts.principal, &facts.resource].into_iter().filter_map(|scope| scope.uid().cloned()));
        Some(facts)
    }

    /// True if what the policy says of principals of this kind hinges on what those of `provider` are members of: for a job that
    /// is the person behind it.
    pub(super) fn mentions(&self, kind: Kind, provider: &str) -> bool {
        let in_scope = || self.member_scope().is_some_and(|uid| uid.provider() == Some(provider));
        self.asks_members(kind) && (self.conditions.contains(provider) || in_scope())
    }

    /// The same by its conditions alone.
    pub(super) fn mentions_in_conditions(&self, kind: Kind, provider: &str) -> bool {
        self.asks_members(kind) && self.conditions.contains(provider)
    }

    /// The same for one of these groups, namespaces or roles.
    pub(super) fn mentions_any(&self, kind: Kind, named: &HashSet<Uid>) -> bool {
        self.asks_members(kind) && self.members.iter().any(|uid| named.contains(uid))
    }

    /// True if the policy may be about jobs and asks where they are. What it says of a job of which nobody knows that is open.
    pub(super) fn asks_places(&self) -> bool {
        let about_jobs = self.principal.kind().is_none_or(|kind| kind == Kind::Job);
        about_jobs && self.uids.iter().any(|uid| matches!(uid.kind, Kind::Project | Kind::Namespace))
    }

    /// Whether a membership that it mentions may be one of a principal of this kind, or of the person behind it.
    pub(super) fn asks_members(&self, kind: Kind) -> bool {
        self.principal.kind().is_none_or(|own| own == kind) && (kind != Kind::Job || self.job_person)
    }

    /// The group, namespace or role whose members the principal scope names.
    pub(super) fn member_scope(&self) -> Option<&Uid> {
        let is_place = self.principal.kind() == Some(Kind::Job);
        self.principal.uid().filter(|uid| uid.kind.is_membership() && !is_place)
    }

    /// False where the principal scope leaves people out: a namespace is a place then, not a membership.
    fn about_people(&self) -> bool {
        self.principal.kind().is_none_or(|kind| kind == Kind::User)
    }

    fn walk(&mut self, expr: &Expr, sign: Sign) -> Option<()> {
        match expr {
            Expr::Literal(literal) => self.literal(literal, sign)?,
            Expr::Var(Var::Context) => self.reads = Reads::ALL,
            Expr::Var(Var::Principal) => self.asks_principal = true,
            Expr::Var(Var::Action) => self.asks_action = true,
            Expr::Var(Var::Resource) => {}
            Expr::GetAttr { expr, attr } => self.attribute(expr, attr.as_str(), sign)?,
            Expr::HasAttr { expr, attrs } => {
                if let [body, field, ..] = &*attrs.iter().map(|attr| attr.as_str()).collect::<Vec<_>>()
                    && **expr == Expr::Var(Var::Context)
                    && *body == Attribute::Body.as_str()
                {
                    self.body_fields.insert((*field).into());
                }
                self.attribute(expr, attrs.first().as_str(), sign)?;
            }
            Expr::UnaryOp { op: UnaryOp::Not, expr } => self.walk(expr, sign.negated())?,
            Expr::UnaryOp { expr, .. } => self.walk(expr, sign)?,
            Expr::Like { expr, .. } => self.walk(expr, sign)?,
            Expr::BinaryOp { op, left, right } => {
                if *op == BinaryOp::In {
                    self.ask_about(left)?;
                    self.ask_behind(left, right)?;
                }
                let sign = match op {
                    BinaryOp::And | BinaryOp::Or => sign,
                    BinaryOp::NotEq => sign.negated(),
                    _ if is_simple(left) && is_simple(right) => sign,
                    _ => Sign::Either,
                };
                self.walk(left, sign)?;
                self.walk(right, sign)?;
            }
            Expr::Is { expr, in_expr, .. } => {
                self.ask_about(expr)?;
                self.walk(expr, sign)?;
                in_expr.iter().try_for_each(|within| self.ask_behind(expr, within))?;
                in_expr.iter().try_for_each(|expr| self.walk(expr, sign))?;
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                self.walk(cond, Sign::Either)?;
                self.walk(then_expr, sign)?;
                self.walk(else_expr, sign)?;
            }
            Expr::Set(items) => items.iter().try_for_each(|item| self.walk(item, sign))?,
            Expr::Record(fields) => fields.values().try_for_each(|field| self.walk(field, sign))?,
            _ => return None,
        }
        Some(())
    }

    fn literal(&mut self, literal: &Literal, sign: Sign) -> Option<()> {
        if let Literal::EntityUID(uid) = literal {
            let uid = Uid::of(uid)?;
            let lets_in = if self.permits { Sign::Plain } else { Sign::Negated };
            if uid.kind.is_membership() && sign != lets_in {
                self.barring.push(uid.clone());
            }
            if uid.kind != Kind::Action {
                self.uids.push(uid);
            }
        }
        Some(())
    }

    fn attribute(&mut self, of: &Expr, name: &str, sign: Sign) -> Option<()> {
        if let Expr::Var(Var::Context) = of {
            let read = Reads::named(name);
            self.reads.add(read);
            self.path_negated |= read.contains(Attribute::Path) && sign != Sign::Plain;
            return Some(());
        }
        if is_of_context(of, Attribute::Body) {
            self.body_fields.insert(name.into());
            return self.walk(of, sign);
        }
        self.job_person |= name == "user" && *of != Expr::Var(Var::Resource);
        self.ask_about(of)?;
        self.walk(of, sign)
    }

    /// Notes what the person behind a job is asked to be a member of.
    fn ask_behind(&mut self, whom: &Expr, within: &Expr) -> Option<()> {
        let is_person = !matches!(whom, Expr::Var(_) | Expr::Literal(_)); // it is `principal.user`, or comes to that
        match within {
            Expr::Literal(Literal::EntityUID(uid)) if is_person => self.behind_jobs.push(Uid::of(uid)?),
            Expr::Set(items) if is_person => items.iter().try_for_each(|item| self.ask_behind(whom, item))?,
            _ => {}
        }
        Some(())
    }

    /// Notes an entity written out where only the principal, the action or the resource can be asked.
    fn ask_about(&mut self, expr: &Expr) -> Option<()> {
        if let Expr::Literal(Literal::EntityUID(uid)) = expr {
            self.strangers.push(Uid::of(uid)?);
        }
        Some(())
    }
}

/// Whether more of a condition makes the policy apply more often.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sign {
    Plain,
    Negated,
    Either,
}

impl Sign {
    fn negated(self) -> Self {
        match self {
            Self::Plain => Self::Negated,
            Self::Negated => Self::Plain,
            Self::Either => Self::Either,
        }
    }
}

/// `context.` and this attribute.
fn is_of_context(expr: &Expr, attribute: Attribute) -> bool {
    matches!(expr, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && *attr == attribute.as_str())
}

/// True for what is not itself a condition.
fn is_simple(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(Literal::Bool(_)) => false,
        Expr::Literal(_) | Expr::Var(_) | Expr::GetAttr { .. } | Expr::Set(_) | Expr::Record(_) => true,
        Expr::UnaryOp { op, .. } => *op != UnaryOp::Not,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::words::Action;

    fn facts(text: &str) -> Facts {
        Facts::of(&Policy::parse(None, text).expect("the policy parses")).expect("the policy can be read")
    }

    #[test]
    fn finds_what_a_policy_reads_of_the_context() {
        let facts = facts(
            r#"permit (principal, action, resource)
               when { context.path like "/a/*" && context has acr && context.acr == "2" };"#,
        );
        let read: Vec<_> = Attribute::ALL.into_iter().filter(|attribute| facts.reads.contains(*attribute)).collect();
        assert_eq!(read, [Attribute::Path, Attribute::Acr]);
        assert!(!facts.reads.time());
    }

    #[test]
    fn the_context_as_a_whole_reads_everything() {
        let facts = facts("permit (principal, action, resource) when { context == context };");
        assert_eq!(facts.reads, Reads::ALL);
        assert!(facts.reads.time());
    }

    #[test]
    fn tells_which_fields_of_the_body_are_read() {
        for condition in [
            "context.body has user && context.body.user == \"x\"",
            "context has body.user",
            "context.body has user.x",
            "\"x\" == context.body[\"user\"]",
        ] {
            let facts = facts(&format!("permit (principal, action, resource) when {{ {condition} }};"));
            assert_eq!(Vec::from_iter(&facts.body_fields), [&Arc::from("user")], "{condition}");
            assert!(facts.reads.contains(Attribute::Body) && !facts.reads.time() && !facts.job_person, "{condition}");
        }
        let facts = facts("permit (principal, action, resource) when { context.body == {} };");
        assert!(facts.reads.contains(Attribute::Body) && facts.body_fields.is_empty());
    }

    #[test]
    fn action_groups_stand_for_their_members() {
        let facts = facts(r#"permit (principal, action in [Action::"read", Action::"PUT"], resource);"#);
        let actions: Vec<_> = Action::ALL.into_iter().filter(|action| facts.actions.contains(*action)).collect();
        assert_eq!(actions, [Action::Get, Action::Head, Action::Options, Action::Put]);
    }

    #[test]
    fn a_namespace_is_membership_for_people_and_a_place_for_jobs() {
        let people = facts(r#"permit (principal is User in Namespace::"gitlab:acme", action, resource);"#);
        assert!(people.mentions(Kind::User, "gitlab") && !people.mentions(Kind::User, "okta"));
        let jobs = facts(r#"permit (principal is Job in Namespace::"gitlab:acme", action, resource);"#);
        assert!(!jobs.mentions(Kind::Job, "gitlab") && !jobs.mentions(Kind::User, "gitlab"));
        let behind =
            facts(r#"permit (principal is Job, action, resource) when { principal.user in Group::"gitlab:acme" };"#);
        assert!(behind.mentions(Kind::Job, "gitlab") && !behind.mentions(Kind::User, "gitlab"));
    }

    #[test]
    fn negated_conditions_mention_membership_too() {
        let facts = facts(r#"permit (principal, action, resource) unless { principal in Group::"gitlab:acme" };"#);
        assert!(facts.mentions(Kind::User, "gitlab") && !facts.mentions(Kind::Job, "gitlab"));
        assert_eq!(facts.member_scope(), None);
    }

    #[test]
    fn tells_where_a_path_is_negated() {
        let negated = |text: &str| facts(&format!("permit (principal, action, resource) {text};")).path_negated;
        assert!(!negated(r#"when { context.path like "/a/*" || context.path == "/b" }"#));
        assert!(!negated(r#"unless { !(context.path like "/a/*") }"#));
        assert!(negated(r#"unless { context.path like "/a/*" }"#));
        assert!(negated(r#"when { context.path != "/a" }"#));
        assert!(negated(r#"when { (context.path like "/a/*") == false }"#));
        assert!(negated(r#"when { if context.path like "/a/*" then false else true }"#));
    }
}
