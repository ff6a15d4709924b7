//! What can decide about one principal on one route, whatever the request: the policies whose scopes fit, each with what is
//! left of its conditions when all is known but the request.
//!
//! Cedar evaluates every part of a condition that asks nothing of the request. Here is only what `&&`, `||` and `!` make of it.

use super::{
    Authorize, Matching,
    asking::Asking,
    entities,
    policies::Loaded,
    reach::is_about,
    words::{Action, Actions},
};
use crate::{
    principal::{Asker, Membership, Principal},
    route::Route,
};
use cedar_policy::{
    Context, EvalResult, Expression, PolicyId, Request, eval_expression,
    pst::{BinaryOp, Clause, Expr, Template, UnaryOp, Var},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

/// One policy that can decide, for some actions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ground {
    /// Its `@id`.
    pub policy: Arc<str>,
    /// It permits; otherwise it forbids.
    pub permits: bool,
    /// Where it applies.
    pub actions: Actions,
    /// What the request has to be, such as `when { context.path like "/docs/*" }`; empty: anything.
    pub conditions: Arc<str>,
}

/// All that can decide about one principal on one route.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Policies that can apply.
    pub grounds: Vec<Ground>,
    /// What is refused whatever is permitted: a forbid hinges on groups, or on a place, that nobody knows.
    pub refused: Actions,
    /// Forbids by place, by which a job is refused as long as nobody knows where it is.
    pub displacing: Vec<Ground>,
}

/// Numbers for what policies say, whatever they are called. Equal numbers, equal effect, scope and conditions.
#[derive(Debug, Default)]
pub struct Marks(HashMap<String, u32>);

/// The policies whose scopes fit one principal on one route.
pub struct Fitting {
    matching: Matching,
    /// What they say, in order, without doubles.
    marks: Vec<u32>,
    /// Nothing hinges on what nobody knows.
    certain: bool,
}

impl Fitting {
    /// True if these policies decide as `other`'s do, where the route has the same labels.
    pub fn agrees(&self, other: &Self) -> bool {
        self.certain && other.certain && self.marks == other.marks
    }
}

/// The conditions of one generation of policies, taken apart.
pub struct Grounds<'a> {
    authorize: &'a Authorize,
    conditions: Vec<Condition>,
    marks: Vec<u32>,
    texts: Mutex<Texts>,
}

/// What Cedar says of each part; none where it asks something of the request.
type Answers = Box<[Option<bool>]>;

/// What is left of a policy by these answers; none if it cannot apply.
type Texts = HashMap<(u32, Answers), Option<Arc<str>>>;

impl<'a> Grounds<'a> {
    /// Takes the conditions of all policies apart.
    pub fn of(authorize: &'a Authorize, marks: &mut Marks) -> Self {
        let policies = &authorize.book.policies;
        Self {
            conditions: policies.iter().map(Condition::of).collect(),
            marks: policies.iter().map(|policy| marks.number(policy)).collect(),
            texts: Mutex::default(),
            authorize,
        }
    }

    /// What all policies about a route say.
    pub fn about(&self, route: &Route) -> BTreeSet<u32> {
        let all = self.authorize.book.policies.iter().zip(&self.marks);
        all.filter(|(policy, _)| is_about(&policy.facts, route)).map(|(_, mark)| *mark).collect()
    }

    /// The policies whose scopes fit.
    pub fn fitting(&self, principal: &Principal, route: &Route) -> Fitting {
        let matching = self.authorize.matching(&Asker::of(principal), principal.membership(), route);
        let mut marks: Vec<u32> = matching.candidates.iter().map(|number| self.marks[*number as usize]).collect();
        marks.sort_unstable();
        marks.dedup();
        let certain = match principal.membership() {
            None => true,
            Some(Membership::Known(groups)) => groups.unread.is_empty() && matching.places.is_empty(),
            Some(Membership::Unknown(_)) => false,
        };
        Fitting { matching, marks, certain }
    }

    /// The policies that say what none of the other version does, by `@id`.
    pub fn unlike(&self, other: &Self) -> BTreeSet<Arc<str>> {
        let theirs: BTreeSet<u32> = other.marks.iter().copied().collect();
        let own = self.authorize.book.policies.iter().zip(&self.marks);
        own.filter(|(_, mark)| !theirs.contains(mark)).map(|(policy, _)| policy.id.clone()).collect()
    }

    /// The conditions of this policy, beside its scope, ask who it is.
    pub fn asks_who(&self, policy: &str) -> bool {
        let number = self.authorize.book.number(&PolicyId::new(policy));
        number.is_some_and(|number| self.authorize.book.get(number).facts.asks_principal)
    }

    /// The groups that these policies name, of people or of those behind jobs.
    pub fn groups(&self, ids: &BTreeSet<Arc<str>>) -> BTreeSet<String> {
        self.authorize.groups_of(&|policy| ids.contains(&policy.id))
    }

    /// What of these can decide, and when.
    pub fn found(&self, principal: &Principal, route: &Route, fitting: &Fitting) -> Found {
        let asking = Asking::new(self.authorize, principal, route, &fitting.matching);
        let mut found = Found::default();
        for number in &fitting.matching.candidates {
            self.add(*number, &asking, &mut found.grounds);
        }
        found.displacing.extend(fitting.matching.places.iter().map(|number| self.displacing(*number)));
        found.displacing.iter().for_each(|ground| found.refused.add(ground.actions));
        let hinging = Action::ALL.into_iter().filter(|action| fitting.matching.hinging.forbids(*action));
        hinging.for_each(|action| found.refused.add(Actions::only(action)));
        found
    }

    fn displacing(&self, number: u32) -> Ground {
        let policy = self.authorize.book.get(number);
        let (conditions, actions) = ("where nobody knows the place".into(), policy.facts.actions);
        Ground { policy: policy.id.clone(), permits: false, actions, conditions }
    }

    fn add(&self, number: u32, asking: &Asking<'_>, grounds: &mut Vec<Ground>) {
        let policy = self.authorize.book.get(number);
        let condition = &self.conditions[number as usize];
        let mut add = |actions, asked| {
            let Some(conditions) = self.text(number, asking.answers(condition, asked)) else { return };
            grounds.push(Ground { policy: policy.id.clone(), permits: policy.facts.permits, actions, conditions });
        };
        if !condition.asks_action {
            return add(policy.facts.actions, Action::Get);
        }
        let own = Action::ALL.into_iter().filter(|action| policy.facts.actions.contains(*action));
        own.for_each(|action| add(Actions::only(action), action));
    }

    /// What is left of the conditions of a policy; none if it cannot apply.
    fn text(&self, number: u32, answers: Answers) -> Option<Arc<str>> {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (number, answers);
        if let Some(kept) = texts.get(&key) {
            return kept.clone();
        }
        let text: Option<Arc<str>> = self.conditions[number as usize].left(&key.1).map(Arc::from);
        texts.insert(key, text.clone());
        text
    }
}

impl Marks {
    fn number(&mut self, policy: &Loaded) -> u32 {
        let next = u32::try_from(self.0.len()).expect("fewer texts than policies, and those are numbered by u32");
        *self.0.entry(said(policy)).or_insert(next)
    }
}

/// A policy without its annotations, on one line.
pub(super) fn said(policy: &Loaded) -> String {
    let Ok(pst) = policy.policy.to_pst() else { return policy.text() };
    let Template { effect, principal, action, resource, .. } = pst.body();
    let clauses = pst.body().clauses().iter().map(|clause| format!(" {clause}"));
    format!("{effect} ({principal}, {action}, {resource}){}", clauses.collect::<String>())
}

impl Asking<'_> {
    /// What Cedar says of each part that asks nothing of the request. An error leaves a part open.
    fn answers(&self, condition: &Condition, action: Action) -> Answers {
        if condition.parts.iter().all(|part| part.ask.is_none()) {
            return condition.parts.iter().map(|_| None).collect();
        }
        let (principal, resource) = (self.matching.uid.to_cedar(), entities::route(self.route).uid());
        let action = self.authorize.actions[action as usize].clone();
        let request = Request::new(principal, action, resource, Context::empty(), None).ok();
        let answer = |part: &Part| match eval_expression(request.as_ref()?, self.entities(), part.ask.as_ref()?) {
            Ok(EvalResult::Bool(truth)) => Some(truth),
            Ok(_) | Err(_) => None,
        };
        condition.parts.iter().map(answer).collect()
    }
}

/// The conditions of one policy.
#[derive(Debug, Default)]
struct Condition {
    /// What each clause joins, and whether it has to be true.
    clauses: Vec<(bool, Node)>,
    parts: Vec<Part>,
    asks_action: bool,
}

/// What parts are joined by.
#[derive(Debug)]
enum Node {
    Both(Box<[Node; 2]>),
    Either(Box<[Node; 2]>),
    Not(Box<Node>),
    Part(usize),
}

#[derive(Debug)]
struct Part {
    text: Arc<Expr>,
    /// Nothing of the request is asked.
    ask: Option<Expression>,
}

/// What a condition comes to.
enum Left {
    Known(bool),
    Open(Arc<Expr>),
}

impl Condition {
    fn of(policy: &Loaded) -> Self {
        let mut condition = Self::default();
        let Ok(pst) = policy.policy.to_pst() else { return condition }; // what cannot be read is not loaded
        for clause in pst.body().clauses() {
            let (wanted, expr) = match clause {
                Clause::When(expr) => (true, expr),
                Clause::Unless(expr) => (false, expr),
            };
            let node = condition.node(expr);
            condition.clauses.push((wanted, node));
        }
        condition
    }

    fn node(&mut self, expr: &Arc<Expr>) -> Node {
        match &**expr {
            Expr::BinaryOp { op: BinaryOp::And, left, right } => Node::Both([self.node(left), self.node(right)].into()),
            Expr::BinaryOp { op: BinaryOp::Or, left, right } => {
                Node::Either([self.node(left), self.node(right)].into())
            }
            Expr::UnaryOp { op: UnaryOp::Not, expr } => Node::Not(self.node(expr).into()),
            _ => {
                let ask = if asks(expr, &Var::Context) { None } else { expr.to_string().parse().ok() };
                self.asks_action |= ask.is_some() && asks(expr, &Var::Action);
                self.parts.push(Part { text: expr.clone(), ask });
                Node::Part(self.parts.len() - 1)
            }
        }
    }

    /// The clauses that are still open, as text; none if one of them is not as it has to be.
    fn left(&self, answers: &[Option<bool>]) -> Option<String> {
        let mut open = Vec::new();
        for (wanted, node) in &self.clauses {
            match self.comes_to(node, answers) {
                Left::Known(truth) if truth == *wanted => {}
                Left::Known(_) => return None,
                Left::Open(expr) if *wanted => open.push(Clause::When(expr).to_string()),
                Left::Open(expr) => open.push(Clause::Unless(expr).to_string()),
            }
        }
        Some(open.join(" "))
    }

    fn comes_to(&self, node: &Node, answers: &[Option<bool>]) -> Left {
        match node {
            Node::Part(number) => match answers[*number] {
                Some(truth) => Left::Known(truth),
                None => Left::Open(self.parts[*number].text.clone()),
            },
            Node::Not(node) => match self.comes_to(node, answers) {
                Left::Known(truth) => Left::Known(!truth),
                Left::Open(expr) => Left::Open(Expr::UnaryOp { op: UnaryOp::Not, expr }.into()),
            },
            Node::Both(nodes) => self.joined(nodes, answers, BinaryOp::And),
            Node::Either(nodes) => self.joined(nodes, answers, BinaryOp::Or),
        }
    }

    fn joined(&self, nodes: &[Node; 2], answers: &[Option<bool>], op: BinaryOp) -> Left {
        let settles = op == BinaryOp::Or; // one that is true settles an `||`, one that is false an `&&`
        match nodes.each_ref().map(|node| self.comes_to(node, answers)) {
            [Left::Known(one), other] | [other, Left::Known(one)] => {
                if one == settles {
                    Left::Known(settles)
                } else {
                    other
                }
            }
            [Left::Open(left), Left::Open(right)] => Left::Open(Expr::BinaryOp { op, left, right }.into()),
        }
    }
}

/// True if the expression reads this variable, or has a form that is not known here.
fn asks(expr: &Expr, var: &Var) -> bool {
    let any = |all: &[&Arc<Expr>]| all.iter().any(|expr| asks(expr, var));
    match expr {
        Expr::Literal(_) => false,
        Expr::Var(own) => own == var,
        Expr::UnaryOp { expr, .. }
        | Expr::GetAttr { expr, .. }
        | Expr::HasAttr { expr, .. }
        | Expr::Like { expr, .. } => asks(expr, var),
        Expr::BinaryOp { left, right, .. } => any(&[left, right]),
        Expr::Is { expr, in_expr, .. } => asks(expr, var) || in_expr.iter().any(|expr| asks(expr, var)),
        Expr::IfThenElse { cond, then_expr, else_expr } => any(&[cond, then_expr, else_expr]),
        Expr::Set(items) => items.iter().any(|item| asks(item, var)),
        Expr::Record(fields) => fields.values().any(|field| asks(field, var)),
        _ => true,
    }
}
