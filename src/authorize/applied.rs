//! A policy as the gateway applies it to principals of one type, in Cedar's own words.
//!
//! The gateway leaves out what hinges on groups or on a place that nobody knows, and refuses where a forbid does. Here the context
//! says what is unknown, and the policies say what comes of it. Labels stand as the routes of one version have them.

use super::{
    policies::Loaded,
    words::{Kind, Uid},
};
use crate::route::Route;
use cedar_policy::{
    Policy, PolicyId,
    pst::{BinaryOp, Clause, Expr, Literal, Template, UnaryOp, Var},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The attribute of the context: nobody knows in which project the job is.
pub(super) const NOWHERE: &str = "unknown place";

/// The attribute of the context: nobody knows whether they are in this.
pub(super) fn unread(uid: &Uid) -> String {
    format!("unknown {}", uid.to_cedar())
}

/// The memberships that a policy asks about, where those of principals of this type may be unknown.
pub(super) fn members(policy: &Loaded, kind: Kind) -> &[Uid] {
    let asks = kind != Kind::Anonymous && policy.facts.asks_members(kind);
    if asks { &policy.facts.members } else { &[] }
}

/// It asks where a job is.
pub(super) fn asks_places(policy: &Loaded, kind: Kind) -> bool {
    kind == Kind::Job && policy.facts.asks_places()
}

/// The labels of one version's routes, as conditions about which route it is.
#[derive(Debug, Default)]
pub(super) struct Labels {
    has: BTreeMap<String, Arc<Expr>>,
    is: BTreeMap<String, Arc<Expr>>,
}

impl Labels {
    /// Those of `routes`, of which some may have none of `names`.
    pub(super) fn of(names: &BTreeSet<&str>, routes: &[&Route]) -> Result<Self, String> {
        let mut labels = Self::default();
        for name in names {
            let having: Vec<_> =
                routes.iter().filter_map(|it| Some((it.name.as_str(), it.labels.get(*name)?))).collect();
            let is = |route: &str| format!("resource == {}", Uid::new(Kind::Route, route).to_cedar());
            let has = having.iter().map(|(route, _)| is(route)).collect::<Vec<_>>().join(" || ");
            let value = having.iter().rfold("\"\"".to_owned(), |rest, (route, value)| {
                format!("if {} then {} else ({rest})", is(route), text(value))
            });
            labels.has.insert((*name).to_owned(), read(if has.is_empty() { "false" } else { &has })?);
            labels.is.insert((*name).to_owned(), read(&value)?);
        }
        Ok(labels)
    }

    /// The same expression with the labels of these routes in it.
    fn put(&self, expr: &Arc<Expr>) -> Arc<Expr> {
        let put = |expr: &Arc<Expr>| self.put(expr);
        match &**expr {
            Expr::GetAttr { expr: of, attr } if is_resource(of) => {
                self.is.get(attr.as_str()).cloned().unwrap_or_else(|| expr.clone())
            }
            Expr::HasAttr { expr: of, attrs } if is_resource(of) => {
                self.has.get(attrs.first().as_str()).cloned().unwrap_or_else(|| expr.clone())
            }
            Expr::UnaryOp { op, expr } => Expr::UnaryOp { op: *op, expr: put(expr) }.into(),
            Expr::BinaryOp { op, left, right } => Expr::BinaryOp { op: *op, left: put(left), right: put(right) }.into(),
            Expr::GetAttr { expr, attr } => Expr::GetAttr { expr: put(expr), attr: attr.clone() }.into(),
            Expr::HasAttr { expr, attrs } => Expr::HasAttr { expr: put(expr), attrs: attrs.clone() }.into(),
            Expr::Like { expr, pattern } => Expr::Like { expr: put(expr), pattern: pattern.clone() }.into(),
            Expr::Is { expr, entity_type, in_expr } => {
                Expr::Is { expr: put(expr), entity_type: entity_type.clone(), in_expr: in_expr.as_ref().map(put) }
                    .into()
            }
            Expr::IfThenElse { cond, then_expr, else_expr } => {
                Expr::IfThenElse { cond: put(cond), then_expr: put(then_expr), else_expr: put(else_expr) }.into()
            }
            Expr::Set(items) => Expr::Set(items.iter().map(put).collect()).into(),
            Expr::Record(fields) => {
                Expr::Record(fields.iter().map(|(name, field)| (name.clone(), put(field))).collect()).into()
            }
            _ => expr.clone(),
        }
    }
}

fn is_resource(expr: &Expr) -> bool {
    *expr == Expr::Var(Var::Resource)
}

/// What one policy comes to.
pub(super) struct Applied {
    /// The policy, and the forbids that stand for it where something is unknown.
    pub(super) policies: Vec<Policy>,
    /// Its evaluation may fail, as far as its text tells.
    pub(super) may_fail: bool,
    /// It may read a label of something else than `resource`.
    pub(super) is_strange: bool,
}

impl Applied {
    /// For principals of this type, where the routes have these labels.
    pub(super) fn of(policy: &Loaded, kind: Kind, labels: &Labels) -> Result<Self, String> {
        let pst = policy.policy.to_pst().map_err(|error| error.to_string())?;
        let template = pst.body();
        let conditions = template.clauses().iter().map(|clause| match clause {
            Clause::When(expr) | Clause::Unless(expr) => expr,
        });
        let conditions: Vec<&Arc<Expr>> = conditions.collect();
        let clauses = template.clauses().iter().map(|clause| match clause {
            Clause::When(expr) => Clause::When(labels.put(expr)),
            Clause::Unless(expr) => Clause::Unless(labels.put(expr)),
        });
        let clauses: String = clauses.map(|clause| format!(" {clause}")).collect();
        let mut policies = Vec::new();
        let mut add = |what: &str, text: String| {
            let id = PolicyId::new(format!("{}{what}", policy.id));
            let policy = Policy::parse(Some(id), &text).map_err(|error| format!("{text}: {error}"))?;
            policies.push(policy);
            Ok::<(), String>(())
        };
        let members = members(policy, kind);
        let unread = any(members.iter().map(self::unread));
        let place = asks_places(policy, kind).then(|| flag(NOWHERE));
        let unknown = any_of(unread.iter().chain(&place));
        let known = unknown.map(|unknown| format!(" unless {{ {unknown} }}")).unwrap_or_default();
        let Template { effect, .. } = template;
        let principal = format!("principal {}", template.principal);
        let (action, resource) = (format!("action {}", template.action), format!("resource {}", template.resource));
        add("", format!("{effect} ({principal}, {action}, {resource}){known}{clauses};"))?;
        if !policy.facts.permits {
            if let Some(unread) = unread {
                let (whom, held) = match policy.facts.member_scope().filter(|_| kind != Kind::Job) {
                    Some(uid) => {
                        let held = format!("{} || principal in {}", flag(&self::unread(uid)), uid.to_cedar());
                        (format!("principal is {}", kind.as_str()), format!(" when {{ {held} }}"))
                    }
                    None => (principal, String::new()),
                };
                add("\u{0}groups", format!("forbid ({whom}, {action}, {resource}) when {{ {unread} }}{held};"))?;
            }
            if let Some(place) = place {
                let whom = kind.as_str();
                add("\u{0}place", format!("forbid (principal is {whom}, {action}, {resource}) when {{ {place} }};"))?;
            }
        }
        Ok(Self {
            policies,
            may_fail: conditions.iter().any(|expr| may_fail(expr)),
            is_strange: conditions.iter().any(|expr| is_strange(expr)),
        })
    }
}

/// An attribute of the context that is a truth value.
pub(super) fn flag(name: &str) -> String {
    format!("context[{}]", text(name))
}

/// One of these attributes is true.
pub(super) fn any(names: impl Iterator<Item = String>) -> Option<String> {
    any_of(names.map(|name| flag(&name)).collect::<Vec<_>>().iter())
}

fn any_of<'a>(conditions: impl Iterator<Item = &'a String>) -> Option<String> {
    let all: Vec<&str> = conditions.map(String::as_str).collect();
    (!all.is_empty()).then(|| all.join(" || "))
}

/// A text as Cedar writes it.
pub(super) fn text(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

/// An expression as Cedar reads it.
fn read(text: &str) -> Result<Arc<Expr>, String> {
    let fault = || format!("{text}: cannot be read");
    let policy = Policy::parse(None, format!("permit (principal, action, resource) when {{ {text} }};"));
    let pst = policy.ok().and_then(|policy| policy.to_pst().ok()).ok_or_else(fault)?;
    match pst.body().clauses().first() {
        Some(Clause::When(expr)) => Ok(expr.clone()),
        Some(Clause::Unless(_)) | None => Err(fault()),
    }
}

/// True for what can overflow, or has a form that is not known here. What is absent, or no address, is refused when policies load.
fn may_fail(expr: &Expr) -> bool {
    let own = match expr {
        Expr::UnaryOp { op, .. } => matches!(op, UnaryOp::Neg | UnaryOp::ToDate | UnaryOp::ToTime),
        Expr::BinaryOp { op, .. } => matches!(
            op,
            BinaryOp::Add
                | BinaryOp::Sub
                | BinaryOp::Mul
                | BinaryOp::Offset
                | BinaryOp::DurationSince
                | BinaryOp::GetTag
        ),
        _ => false,
    };
    own || parts(expr).is_none_or(|parts| parts.iter().any(|part| may_fail(part)))
}

/// True where an attribute is read of something else than the variables of a request, or what hangs on these.
fn is_strange(expr: &Expr) -> bool {
    let own = match expr {
        Expr::GetAttr { expr, .. } | Expr::HasAttr { expr, .. } => !is_plain(expr),
        _ => false,
    };
    own || parts(expr).is_none_or(|parts| parts.iter().any(|part| is_strange(part)))
}

fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Var(_) => true,
        Expr::GetAttr { expr, .. } => is_plain(expr),
        _ => false,
    }
}

/// The parts of an expression; none where its form is not known.
pub(super) fn parts(expr: &Expr) -> Option<Vec<&Arc<Expr>>> {
    Some(match expr {
        Expr::Literal(Literal::Bool(_) | Literal::Long(_) | Literal::String(_) | Literal::EntityUID(_))
        | Expr::Var(_) => Vec::new(),
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => vec![expr],
        Expr::BinaryOp { left, right, .. } => vec![left, right],
        Expr::Is { expr, in_expr, .. } => std::iter::once(expr).chain(in_expr).collect(),
        Expr::IfThenElse { cond, then_expr, else_expr } => vec![cond, then_expr, else_expr],
        Expr::Set(items) => items.iter().collect(),
        Expr::Record(fields) => fields.values().collect(),
        _ => return None,
    })
}
