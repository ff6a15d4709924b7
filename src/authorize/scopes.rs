//! Groups where one of their members is meant: what an `==` can never be equal to.

use super::{
    lint::{Mistakes, Told},
    words::{Action, Kind, Uid},
};
use cedar_policy::{
    Policy,
    pst::{
        ActionConstraint, BinaryOp, Clause, EntityOrSlot, EntityUID, Expr, Literal, PrincipalConstraint, UnaryOp, Var,
    },
};

/// Each group that a policy takes for an action or for somebody who asks, and what is wrong with it.
pub(super) fn mistakes(policy: &Policy) -> Mistakes {
    let mut mistakes = Mistakes::new();
    let Ok(policy) = policy.to_pst() else { return mistakes };
    let body = policy.body();
    if let ActionConstraint::Eq(uid) = &body.action {
        mistakes.extend(action(uid));
    }
    match &body.principal {
        PrincipalConstraint::Eq(EntityOrSlot::Entity(uid)) => mistakes.extend(principal(uid)),
        PrincipalConstraint::Is(kind) => mistakes.extend(Kind::of(kind).and_then(nobody)),
        _ => {}
    }
    for Clause::When(expr) | Clause::Unless(expr) in body.clauses() {
        walk(expr, &mut mistakes);
    }
    mistakes
}

fn action(uid: &EntityUID) -> Option<(String, Told)> {
    let group = Action::GROUPS.into_iter().find(|group| uid.eid.as_str() == *group)?;
    let written = Uid::new(Kind::Action, group).to_cedar().to_string();
    let help = format!("write `action in {written}`");
    Some((written, (format!("`{group}` is a group of actions"), help)))
}

fn principal(uid: &EntityUID) -> Option<(String, Told)> {
    let uid = Uid::of(uid)?;
    let whom = whose(uid.kind)?;
    let written = uid.to_cedar().to_string();
    let message = format!("`{written}` never asks for anything: it is what a `{whom}` is in");
    let help = format!("write `principal is {whom} in {written}`");
    Some((written, (message, help)))
}

fn nobody(kind: Kind) -> Option<(String, Told)> {
    let (whom, kind) = (whose(kind)?, kind.as_str());
    let message = format!("a `{kind}` never asks for anything: it is what a `{whom}` is in");
    Some((kind.to_owned(), (message, format!("write `principal is {whom} in {kind}::\"…\"`"))))
}

/// The principals that are in entities of this kind.
fn whose(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Group | Kind::Role | Kind::Namespace => Some("User"),
        Kind::Project => Some("Job"),
        _ => None,
    }
}

fn walk(expr: &Expr, mistakes: &mut Mistakes) {
    match expr {
        Expr::BinaryOp { op: BinaryOp::Eq | BinaryOp::NotEq, left, right } => {
            for (one, other) in [(left, right), (right, left)] {
                match (&**one, &**other) {
                    (Expr::Var(Var::Action), Expr::Literal(Literal::EntityUID(uid))) => mistakes.extend(action(uid)),
                    (Expr::Var(Var::Principal), Expr::Literal(Literal::EntityUID(uid))) => {
                        mistakes.extend(principal(uid));
                    }
                    _ => {}
                }
            }
        }
        Expr::BinaryOp { left, right, .. } => [left, right].into_iter().for_each(|expr| walk(expr, mistakes)),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => walk(expr, mistakes),
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            [cond, then_expr, else_expr].into_iter().for_each(|expr| walk(expr, mistakes));
        }
        _ => {}
    }
}
