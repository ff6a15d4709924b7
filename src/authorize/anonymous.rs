//! What a policy says of somebody of whom we know nothing, or only that they are signed in, as far as can be told before there is
//! a request.

use super::{
    facts::Facts,
    words::{Kind, Scope, Uid},
};
use crate::route::Route;
use cedar_policy::{
    Policy,
    pst::{BinaryOp, Clause, Expr, Literal, UnaryOp, Var},
};
use std::sync::Arc;

/// True unless the policy never permits `Anonymous` anything on `route`, which its resource scope fits.
pub(super) fn may_be_permitted(policy: &Policy, facts: &Facts, route: &Route) -> bool {
    facts.permits && hinges_on(policy, facts, Somebody { kind: Kind::Anonymous, route }).is_some()
}

/// One condition that hinges on the request, and how it has to come out for the policy to apply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Hinge {
    pub(super) condition: Arc<Expr>,
    pub(super) wanted: bool,
}

/// The conditions under which a policy applies to somebody on a route, which its resource scope fits; all of them must come out
/// as wanted. `None` if it never applies there.
pub(super) fn hinges_on(policy: &Policy, facts: &Facts, somebody: Somebody<'_>) -> Option<Vec<Hinge>> {
    if !somebody.may_be_meant(&facts.principal) {
        return None;
    }
    let mut hinges = Vec::new();
    for clause in policy.to_pst().ok()?.body().clauses() {
        let (condition, wanted) = match clause {
            Clause::When(condition) => (condition, true),
            Clause::Unless(condition) => (condition, false),
        };
        if somebody.holds(condition) == Some(!wanted) {
            return None;
        }
        somebody.hinges(condition, wanted, &mut hinges);
    }
    Some(hinges)
}

/// Somebody of a type on a route. `Anonymous` has no parents and no attributes; of a person nothing more is known. A route has no
/// parents, and its labels.
#[derive(Clone, Copy)]
pub(super) struct Somebody<'a> {
    /// `Anonymous` or `User`.
    pub(super) kind: Kind,
    pub(super) route: &'a Route,
}

/// A value that is known.
#[derive(Eq, PartialEq)]
enum Known {
    Text(String),
    Entity(Uid),
}

impl Somebody<'_> {
    /// Whether a principal scope fits, or may fit.
    fn may_be_meant(self, principal: &Scope) -> bool {
        match principal {
            Scope::Any => true,
            Scope::Is(kind) | Scope::IsIn(kind, _) => *kind == self.kind,
            Scope::Eq(uid) => uid.kind == self.kind,
            Scope::In(uid) => uid.kind == self.kind || (self.kind == Kind::User && uid.kind.is_membership()),
        }
    }

    /// Whether a condition holds; `None` where that depends on the request. One that cannot be evaluated permits nothing, so
    /// that what it would say does not matter.
    pub(super) fn holds(&self, expr: &Expr) -> Option<bool> {
        match expr {
            Expr::Literal(Literal::Bool(is)) => Some(*is),
            Expr::UnaryOp { op: UnaryOp::Not, expr } => self.holds(expr).map(|is| !is),
            Expr::BinaryOp { op: BinaryOp::And, left, right } => self.settled(left, right, false),
            Expr::BinaryOp { op: BinaryOp::Or, left, right } => self.settled(left, right, true),
            Expr::BinaryOp { op: BinaryOp::Eq | BinaryOp::In, left, right } => self.is_among(left, right),
            Expr::BinaryOp { op: BinaryOp::NotEq, left, right } => self.is_among(left, right).map(|is| !is),
            Expr::Is { expr, entity_type, in_expr } => {
                let is_of_type = Kind::of(entity_type) == Some(self.kind_of(expr)?);
                match in_expr {
                    Some(parent) if is_of_type => self.is_among(expr, parent),
                    _ => Some(is_of_type),
                }
            }
            Expr::HasAttr { expr, attrs } => match **expr {
                Expr::Var(Var::Principal) => (self.kind == Kind::Anonymous).then_some(false),
                Expr::Var(Var::Resource) => Some(self.route.labels.contains_key(attrs.first().as_str())),
                _ => None,
            },
            _ => None,
        }
    }

    /// Adds what is left of a condition that does not come out otherwise than wanted, apart from what holds anyway.
    fn hinges(&self, condition: &Arc<Expr>, wanted: bool, hinges: &mut Vec<Hinge>) {
        match &**condition {
            _ if self.holds(condition).is_some() => {}
            Expr::UnaryOp { op: UnaryOp::Not, expr } => self.hinges(expr, !wanted, hinges),
            Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), left, right }
                if (*op == BinaryOp::And) == wanted || self.holds(left).is_some() || self.holds(right).is_some() =>
            {
                self.hinges(left, wanted, hinges);
                self.hinges(right, wanted, hinges);
            }
            _ => hinges.push(Hinge { condition: condition.clone(), wanted }),
        }
    }

    /// Two conditions of which one suffices, if it is as `settles` says.
    fn settled(&self, left: &Expr, right: &Expr, settles: bool) -> Option<bool> {
        let (left, right) = (self.holds(left), self.holds(right));
        if left == Some(settles) || right == Some(settles) { Some(settles) } else { left.and(right) }
    }

    /// The same, or one of a set: what has no parents is in itself only.
    fn is_among(&self, one: &Expr, others: &Expr) -> Option<bool> {
        let one = self.known(one)?;
        match others {
            Expr::Set(items) => {
                let known: Option<Vec<_>> = items.iter().map(|item| self.known(item)).collect();
                known.map(|known| known.contains(&one))
            }
            other => self.known(other).map(|other| one == other),
        }
    }

    fn kind_of(&self, expr: &Expr) -> Option<Kind> {
        match (expr, self.known(expr)) {
            (Expr::Var(Var::Principal), _) => Some(self.kind),
            (_, Some(Known::Entity(uid))) => Some(uid.kind),
            _ => None,
        }
    }

    fn known(&self, expr: &Expr) -> Option<Known> {
        match expr {
            Expr::Literal(Literal::String(text)) => Some(Known::Text(text.to_string())),
            Expr::Literal(Literal::EntityUID(uid)) => Uid::of(uid).map(Known::Entity),
            Expr::Var(Var::Principal) => {
                (self.kind == Kind::Anonymous).then(|| Known::Entity(Uid::new(Kind::Anonymous, "anonymous")))
            }
            Expr::Var(Var::Resource) => Some(Known::Entity(Uid::new(Kind::Route, self.route.name.as_str()))),
            Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Resource) => {
                self.route.labels.get(attr.as_str()).cloned().map(Known::Text)
            }
            _ => None,
        }
    }
}

/// Whether a condition asks about the principal, the resource or the like.
pub(super) fn asks(expr: &Expr, var: &Var) -> bool {
    let ask = |expr: &Arc<Expr>| asks(expr, var);
    match expr {
        Expr::Var(own) => own == var,
        Expr::UnaryOp { expr, .. }
        | Expr::Like { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. } => ask(expr),
        Expr::BinaryOp { left, right, .. } => ask(left) || ask(right),
        Expr::Is { expr, in_expr, .. } => ask(expr) || in_expr.iter().any(ask),
        Expr::IfThenElse { cond, then_expr, else_expr } => [cond, then_expr, else_expr].into_iter().any(ask),
        Expr::Set(items) => items.iter().any(ask),
        Expr::Record(fields) => fields.values().any(ask),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        authorize::testing::{load, route},
        credential::{ApiToken, Credential, PRIVATE_TOKEN, Secret, Value},
    };

    /// What is said of a policy on a route `api` whose upstream gets a secret, and on one beside it.
    fn said(policy: &str) -> Vec<String> {
        let secret =
            Secret { name: PRIVATE_TOKEN, value: Value::GitlabApi(ApiToken::new(&"t".into())), keep_cookies: false };
        let (mut api, mut portal) = (route("api"), route("portal"));
        api.credential = Some(Credential::Secret(secret));
        api.labels.insert("tier".into(), "internal".into());
        portal.credential = Some(Credential::Assertion);
        portal.labels.insert("public".into(), "yes".into());
        let found = load(&format!("@id(\"a\")\n{policy}"), &[portal, api], &[]);
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_permit_for_nobody_known_is_an_error_where_the_upstream_gets_a_secret() {
        assert_eq!(
            said("permit (principal, action, resource == Route::\"api\");"),
            [
                "test.cedar:2:9: a permit that may be for `Anonymous`, on route `api`, would let everybody act with the secret of its \
              `credential`; write `principal is User`, or another type, in the scope"
            ]
        );
        for policy in [
            r#"permit (principal, action, resource);"#,
            r#"permit (principal, action, resource is Route);"#,
            r#"permit (principal is Anonymous, action, resource == Route::"api");"#,
            r#"permit (principal == Anonymous::"anonymous", action, resource == Route::"api");"#,
            r#"permit (principal, action, resource == Route::"api") when { context.path like "/public/*" };"#,
            r#"permit (principal, action, resource == Route::"api") when { principal is User || context.path == "/" };"#,
            r#"permit (principal, action, resource) when { resource has tier && resource.tier == "internal" };"#,
            r#"permit (principal, action, resource) unless { resource == Route::"portal" };"#,
            r#"permit (principal, action, resource) unless { principal is User };"#,
        ] {
            let found = said(policy);
            assert!(found.len() == 1 && found[0].contains("on route `api`"), "{policy}: {found:?}");
        }
    }

    #[test]
    fn a_permit_that_is_never_for_anonymous_is_none() {
        for policy in [
            r#"permit (principal, action, resource == Route::"portal");"#,
            r#"permit (principal is User, action, resource);"#,
            r#"permit (principal is Job, action, resource == Route::"api");"#,
            r#"forbid (principal, action, resource);"#,
            r#"permit (principal, action, resource == Route::"api") when { principal is User && principal has email };"#,
            r#"permit (principal, action, resource == Route::"api") unless { principal is Anonymous };"#,
            r#"permit (principal, action, resource) when { resource has public && resource.public == "yes" };"#,
            r#"permit (principal, action, resource) when { resource has tier && resource.tier != "internal" };"#,
            r#"permit (principal, action, resource) when { resource in [Route::"portal"] };"#,
            r#"permit (principal, action, resource) unless { resource == Route::"api" };"#,
            r#"permit (principal, action, resource is Console);"#,
        ] {
            assert_eq!(said(policy), [""; 0], "{policy}");
        }
    }
}
