//! Policies that differ from these in one place: what a test that means anything has to notice.

use super::{
    Authorize, PolicyError,
    lint::Known,
    policies::{self, Loaded},
    schema,
    sources::Source,
    words::{Actions, Attribute, Kind, Scope},
};
use crate::{
    config::{ProviderSettings, TokenIssuerSettings},
    route::Route,
};
use cedar_policy::{
    Policy, PolicySet, Schema, ValidationMode, ValidationWarning, Validator,
    pst::{
        self, ActionConstraint, BinaryOp, Clause, Effect, EntityType, Expr, Literal, PatternElem, PrincipalConstraint,
        ResourceConstraint, StaticPolicy, Template, Var,
    },
};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// Makes policies that differ from others in one place.
pub struct Mutants<'a> {
    authorize: &'a Authorize,
    known: Known<'a>,
    schema: Schema,
}

/// One policy, and what is changed in it.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// Its position among all policies.
    number: u32,
    /// Its `@id`.
    pub policy: Arc<str>,
    /// Where it stands.
    pub place: String,
    /// What is changed.
    pub change: Change,
}

/// What is changed in a policy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is not there.
    Dropped,
    /// It forbids what it permitted, or the other way round.
    Flipped(Turned),
    /// Whoever is of the principal's type may be meant.
    MembershipOpened,
    /// Anybody may be meant.
    PrincipalOpened,
    /// Any action may be meant.
    ActionOpened,
    /// Any resource may be meant.
    ResourceOpened,
    /// A clause is not there.
    ClauseRemoved(Place),
    /// `when` is `unless`, or the other way round.
    ClauseNegated(Place),
    /// One of several conditions of a clause, joined by `&&` or `||`, is not there.
    PartRemoved(Place, usize),
    /// A pattern of a clause has no slash before the star at its end: `/docs/*` is `/docs*`.
    PatternWidened(Place, usize),
}

/// Which clause of a policy, and its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    index: usize,
    text: String,
}

/// What a policy was turned into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turned {
    /// A permit.
    Permit,
    /// A forbid.
    Forbid,
}

/// Completes "the policy with …".
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dropped => f.write_str("dropped"),
            Self::Flipped(Turned::Permit) => f.write_str("turned into a permit"),
            Self::Flipped(Turned::Forbid) => f.write_str("turned into a forbid"),
            Self::MembershipOpened => f.write_str("open to every principal of its type"),
            Self::PrincipalOpened => f.write_str("open to every principal"),
            Self::ActionOpened => f.write_str("open to every action"),
            Self::ResourceOpened => f.write_str("open to every resource"),
            Self::ClauseRemoved(place) => write!(f, "without `{}`", place.text),
            Self::ClauseNegated(place) => write!(f, "with the opposite of `{}`", place.text),
            Self::PartRemoved(place, _) => write!(f, "without the part `{}`", place.text),
            Self::PatternWidened(place, _) => write!(f, "with the pattern `{}`", place.text),
        }
    }
}

impl Authorize {
    /// Policies that differ from these in one place each. What is known has to be what these were loaded with.
    ///
    /// # Errors
    /// The schema of these routes cannot be made.
    pub fn mutants<'a>(
        &'a self,
        routes: &'a [Route],
        providers: &'a [Arc<ProviderSettings>],
        issuers: &'a [Arc<TokenIssuerSettings>],
    ) -> Result<Mutants<'a>, String> {
        Ok(Mutants { authorize: self, known: Known { routes, providers, issuers }, schema: schema::schema(routes)? })
    }
}

impl Mutants<'_> {
    /// Every policy, dropped, flipped, and wider in each way.
    pub fn all(&self) -> Vec<Mutant> {
        let each = (0..).zip(&self.authorize.book.policies);
        each.flat_map(|(number, policy)| {
            let mutant = |change| Mutant { number, policy: policy.id.clone(), place: policy.place.clone(), change };
            changes(policy).into_iter().map(mutant).collect::<Vec<_>>()
        })
        .collect()
    }

    /// The policies with this change, as they would serve, whatever `policy check` says beyond Cedar's validator.
    ///
    /// # Errors
    /// Every mistake, where the changed policy is not valid by the schema: nobody can make such a change without noticing.
    pub fn apply(&self, mutant: &Mutant) -> Result<Authorize, Vec<PolicyError>> {
        let mut policies = self.authorize.book.policies.clone();
        let number = mutant.number as usize;
        match mutant.change {
            Change::Dropped => drop(policies.remove(number)),
            _ => policies[number] = self.loaded(&mutant.place, changed(&policies[number], &mutant.change))?,
        }
        Authorize::new(policies::Checked { policies, schema: self.schema.clone() })
    }

    fn loaded(&self, place: &str, template: Option<Template>) -> Result<Loaded, Vec<PolicyError>> {
        let unfit = || vec![PolicyError::new(place, "the change cannot be written in Cedar")];
        let policy = template.and_then(policy).ok_or_else(unfit)?;
        let source = Source::expanded(place.to_owned(), String::new());
        policies::check_one(&source, &policy, self.known, &self.schema)
    }

    /// Paths that the policies ask for, a `*` filled in, and those beside what is asked for as a folder.
    pub fn paths(&self) -> BTreeSet<String> {
        let mut paths = BTreeSet::new();
        for policy in &self.authorize.book.policies {
            let Some(template) = template(policy) else { continue };
            for Clause::When(expr) | Clause::Unless(expr) in template.clauses() {
                asked(expr, &mut |_, pattern| {
                    let filled =
                        |pattern: &[PatternElem]| pattern.iter().map(|part| char_of(part).unwrap_or('x')).collect();
                    let path: String = filled(pattern);
                    let beside = folder(pattern).map(filled).map(|folder: String| [format!("{folder}x"), folder]);
                    paths.extend(beside.into_iter().flatten().chain([path]));
                });
            }
        }
        paths.retain(|path: &String| path.starts_with('/'));
        paths
    }

    /// Why no request can tell the change, where that can be shown: what the policy says beside what it said before is about
    /// principals that never come to its routes, or about paths that lead elsewhere.
    pub fn equivalent(&self, mutant: &Mutant) -> Option<&'static str> {
        let policy = &self.authorize.book.policies[mutant.number as usize];
        let facts = &policy.facts;
        let about = |route: &Route| facts.resource.uid().is_none_or(|uid| *uid.id == *route.name.as_str());
        let own = |kind: Kind| facts.principal.kind().is_none_or(|own| own == kind);
        let kinds = [Kind::Anonymous, Kind::User, Kind::Job, Kind::Service];
        let every = || self.known.routes.iter().flat_map(|route| kinds.map(|kind| (route, kind)));
        let template = template(policy)?;
        let added: Vec<_> = match mutant.change {
            Change::PrincipalOpened if matches!(facts.principal, Scope::Is(_)) => {
                every().filter(|(route, kind)| about(route) && !own(*kind)).collect()
            }
            Change::ResourceOpened => every().filter(|(route, kind)| !about(route) && own(*kind)).collect(),
            _ => return None,
        };
        let meets = |(route, kind): &(&Route, Kind)| {
            self.comes(*kind, route) && self.leads(&template, route) && self.possible(&template, *kind)
        };
        (!added.iter().any(meets)).then_some(match mutant.change {
            Change::PrincipalOpened => "no other principal that comes there can fulfil its conditions",
            _ => "on no other route there is a principal and a path that it is about",
        })
    }

    /// Principals of this kind can be asked about on this route.
    fn comes(&self, kind: Kind, route: &Route) -> bool {
        let taken = || self.known.issuers.iter().filter(|issuer| route.token_issuers.contains(&issuer.name));
        match kind {
            Kind::Anonymous => true,
            Kind::User => !route.providers.is_empty() || taken().any(|issuer| issuer.has_people()),
            Kind::Job => taken().any(|issuer| issuer.has_jobs()),
            Kind::Service => taken().any(|issuer| issuer.has_services()),
            _ => false,
        }
    }

    /// Some path that the policy asks for leads to this route: no more specific one has all of them.
    fn leads(&self, template: &Template, route: &Route) -> bool {
        let there = |path: &str, begin: &str| begin.starts_with(path) || format!("{begin}/") == path;
        begins(template).iter().all(|begin| {
            let deeper = |other: &Route| other.host == route.host && other.path.len() > route.path.len();
            let taken = |other: &Route| deeper(other) && there(&other.path.to_ascii_lowercase(), begin);
            let own = route.path.to_ascii_lowercase();
            own.starts_with(begin) || (there(&own, begin) && !self.known.routes.iter().any(taken))
        })
    }

    /// The conditions can hold for principals of this kind, as far as types tell.
    fn possible(&self, template: &Template, kind: Kind) -> bool {
        let Some(kind) = named(kind) else { return true };
        let mut about = template.clone();
        about.principal = PrincipalConstraint::Is(kind);
        let alone = policy(about).and_then(|policy| PolicySet::from_policies([policy]).ok());
        let Some(alone) = alone else { return true };
        let result = Validator::new(self.schema.clone()).validate(&alone, ValidationMode::Strict);
        let mut warnings = result.validation_warnings();
        !warnings.any(|warning| matches!(warning, ValidationWarning::ImpossiblePolicy(_)))
    }
}

fn named(kind: Kind) -> Option<EntityType> {
    pst::Name::unqualified(kind.as_str()).ok().map(EntityType::from_name)
}

fn template(policy: &Loaded) -> Option<Template> {
    policy.policy.to_pst().ok().map(|policy| policy.body().clone())
}

fn policy(template: Template) -> Option<Policy> {
    Policy::from_pst(StaticPolicy::try_from(template).ok()?.into()).ok()
}

/// What can be changed in a policy.
fn changes(policy: &Loaded) -> Vec<Change> {
    let Some(template) = template(policy) else { return vec![Change::Dropped] };
    let turned = match template.effect {
        Effect::Permit => Turned::Forbid,
        Effect::Forbid => Turned::Permit,
    };
    let mut changes = vec![Change::Dropped, Change::Flipped(turned)];
    let facts = &policy.facts;
    match facts.principal {
        Scope::Any => {}
        Scope::Is(_) | Scope::In(_) => changes.push(Change::PrincipalOpened),
        Scope::Eq(_) | Scope::IsIn(..) => changes.extend([Change::MembershipOpened, Change::PrincipalOpened]),
    }
    if facts.actions != Actions::of(&ActionConstraint::Any) {
        changes.push(Change::ActionOpened);
    }
    if facts.resource != Scope::Any {
        changes.push(Change::ResourceOpened);
    }
    for (index, clause) in template.clauses().iter().enumerate() {
        let place = |text: String| Place { index, text };
        changes.push(Change::ClauseRemoved(place(clause.to_string())));
        changes.push(Change::ClauseNegated(place(clause.to_string())));
        let parts = parts(clause);
        let removed = parts.iter().enumerate().filter(|_| parts.len() > 1);
        changes.extend(removed.map(|(part, expr)| Change::PartRemoved(place(expr.to_string()), part)));
        let (Clause::When(expr) | Clause::Unless(expr)) = clause;
        let mut wider = Vec::new();
        widened(expr, usize::MAX - 1, &mut wider);
        changes.extend((0..).zip(wider).map(|(at, text)| Change::PatternWidened(place(text), at)));
    }
    changes
}

/// The policy with this change; none where nothing is left of it.
fn changed(policy: &Loaded, change: &Change) -> Option<Template> {
    let mut template = template(policy)?;
    match change {
        Change::Dropped => return None,
        Change::Flipped(Turned::Permit) => template.effect = Effect::Permit,
        Change::Flipped(Turned::Forbid) => template.effect = Effect::Forbid,
        Change::MembershipOpened => {
            let kind = policy.facts.principal.kind().and_then(named);
            template.principal = kind.map_or(PrincipalConstraint::Any, PrincipalConstraint::Is);
        }
        Change::PrincipalOpened => template.principal = PrincipalConstraint::Any,
        Change::ActionOpened => template.action = ActionConstraint::Any,
        Change::ResourceOpened => template.resource = ResourceConstraint::Any,
        Change::ClauseRemoved(place) => return with(template, place.index, |_| None),
        Change::ClauseNegated(place) => return with(template, place.index, |clause| Some(negated(clause))),
        Change::PartRemoved(place, part) => return with(template, place.index, |clause| without(clause, *part)),
        Change::PatternWidened(place, at) => return with(template, place.index, |clause| Some(wider(clause, *at))),
    }
    Some(template)
}

/// The policy with another clause in the place of one, or with none there.
fn with(template: Template, index: usize, change: impl Fn(&Clause) -> Option<Clause>) -> Option<Template> {
    let each = template.clauses().iter().enumerate();
    let clauses = each.filter_map(|(at, clause)| if at == index { change(clause) } else { Some(clause.clone()) });
    let clauses: Vec<_> = clauses.collect();
    let bare = Template::new(template.id, template.effect, template.principal, template.action, template.resource);
    bare.with_annotations(template.annotations).try_with_clauses(clauses).ok()
}

fn negated(clause: &Clause) -> Clause {
    match clause {
        Clause::When(expr) => Clause::Unless(expr.clone()),
        Clause::Unless(expr) => Clause::When(expr.clone()),
    }
}

/// The conditions of a clause that are joined by one operator.
fn parts(clause: &Clause) -> Vec<Arc<Expr>> {
    let (Clause::When(expr) | Clause::Unless(expr)) = clause;
    let mut parts = Vec::new();
    match **expr {
        Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => split(expr, op, &mut parts),
        _ => parts.push(expr.clone()),
    }
    parts
}

fn split(expr: &Arc<Expr>, by: BinaryOp, parts: &mut Vec<Arc<Expr>>) {
    match &**expr {
        Expr::BinaryOp { op, left, right } if *op == by => {
            split(left, by, parts);
            split(right, by, parts);
        }
        _ => parts.push(expr.clone()),
    }
}

fn without(clause: &Clause, part: usize) -> Option<Clause> {
    let (Clause::When(whole) | Clause::Unless(whole)) = clause;
    let Expr::BinaryOp { op, .. } = **whole else { return None };
    let mut parts = parts(clause);
    parts.remove(part);
    let join = |left, right| Arc::new(Expr::BinaryOp { op, left, right });
    let left = parts.into_iter().reduce(join)?;
    Some(match clause {
        Clause::When(_) => Clause::When(left),
        Clause::Unless(_) => Clause::Unless(left),
    })
}

fn wider(clause: &Clause, at: usize) -> Clause {
    match clause {
        Clause::When(expr) => Clause::When(widened(expr, at, &mut Vec::new())),
        Clause::Unless(expr) => Clause::Unless(widened(expr, at, &mut Vec::new())),
    }
}

/// The condition without the slash before the star of the pattern at `at`, among those that have one. Adds what each of them would
/// be to `all`.
fn widened(expr: &Arc<Expr>, at: usize, all: &mut Vec<String>) -> Arc<Expr> {
    let mut go = |expr: &Arc<Expr>| widened(expr, at, all);
    Arc::new(match &**expr {
        Expr::Like { expr: what, pattern } => {
            let Some(folder) = folder(pattern) else { return expr.clone() };
            let pattern = folder.iter().cloned().chain([PatternElem::Wildcard]).collect();
            let wider = Expr::Like { expr: what.clone(), pattern };
            all.push(wider.to_string());
            if all.len() == at + 1 { wider } else { return expr.clone() }
        }
        Expr::UnaryOp { op, expr } => Expr::UnaryOp { op: *op, expr: go(expr) },
        Expr::BinaryOp { op, left, right } => Expr::BinaryOp { op: *op, left: go(left), right: go(right) },
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            Expr::IfThenElse { cond: go(cond), then_expr: go(then_expr), else_expr: go(else_expr) }
        }
        _ => return expr.clone(),
    })
}

/// What stands before a slash and a star at the end of a pattern.
fn folder(pattern: &[PatternElem]) -> Option<&[PatternElem]> {
    match pattern {
        [folder @ .., PatternElem::Char('/'), PatternElem::Wildcard] if !folder.is_empty() => Some(folder),
        _ => None,
    }
}

/// How every path begins that the policy can be about, in lower case: one text for each condition that says so.
fn begins(template: &Template) -> Vec<String> {
    let whens = template.clauses().iter().filter_map(|clause| match clause {
        Clause::When(expr) => Some(expr),
        Clause::Unless(_) => None,
    });
    let mut found = Vec::new();
    for when in whens {
        let mut all = Vec::new();
        split(when, BinaryOp::And, &mut all);
        for condition in all {
            if matches!(*condition, Expr::Like { .. } | Expr::BinaryOp { op: BinaryOp::Eq, .. }) {
                asked(&condition, &mut |attribute, pattern| {
                    if matches!(attribute, Attribute::Path | Attribute::PathFolded) {
                        let begin: String = pattern.iter().map_while(char_of).collect();
                        found.push(begin.to_ascii_lowercase());
                    }
                });
            }
        }
    }
    found
}

fn char_of(part: &PatternElem) -> Option<char> {
    match part {
        PatternElem::Char(letter) => Some(*letter),
        PatternElem::Wildcard => None,
    }
}

/// Every text or pattern that an attribute of the context is compared with.
fn asked(expr: &Expr, take: &mut impl FnMut(Attribute, &[PatternElem])) {
    let of = |expr: &Expr| match expr {
        Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) => {
            Attribute::ALL.into_iter().find(|attribute| *attr == attribute.as_str())
        }
        _ => None,
    };
    match expr {
        Expr::Like { expr, pattern } => {
            if let Some(attribute) = of(expr) {
                take(attribute, pattern);
            }
        }
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => {
            for (one, other) in [(left, right), (right, left)] {
                if let (Some(attribute), Expr::Literal(Literal::String(text))) = (of(one), &**other) {
                    take(attribute, &text.chars().map(PatternElem::Char).collect::<Vec<_>>());
                }
            }
        }
        Expr::BinaryOp { left, right, .. } => {
            asked(left, take);
            asked(right, take);
        }
        Expr::UnaryOp { expr, .. } => asked(expr, take),
        Expr::IfThenElse { cond, then_expr, else_expr } => {
            [cond, then_expr, else_expr].into_iter().for_each(|expr| asked(expr, take));
        }
        _ => {}
    }
}
