//! What differs between two versions of policies for some request, whoever asks: found by a solver, with a request that shows it.
//!
//! The solver works on Cedar's own translation of policies. No example is told that Cedar does not decide otherwise by the two.

use crate::authorize::{Actions, Question};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, EvalResult, PolicySet, Request, RestrictedExpression, Schema,
};
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicySet, Env, solver::Solver};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is proved, one entry for each type of principal and set of actions.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// All that was looked at.
    pub environments: Vec<Environment>,
}

/// One type of principal, some actions, and routes.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The type of principals, such as `User`.
    pub principal: &'static str,
    /// The actions.
    pub actions: Actions,
    /// How the second version compares with the first.
    pub verdict: Verdict,
}

/// How one version compares with another.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every request is decided alike.
    Equivalent,
    /// The second permits all that the first does, and more.
    Looser(Box<Example>),
    /// The second permits nothing that the first does not, and less.
    Stricter(Box<Example>),
    /// Each permits something that the other does not: first what only the second does.
    Incomparable(Box<[Example; 2]>),
    /// Nobody could say.
    Undecided(String),
}

/// A request that the two versions decide otherwise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Example {
    /// Who asks, such as `any User in Group::"gitlab:contractors"`.
    pub principal: String,
    /// Attributes of the principal, and of the person behind a job, that policies read.
    pub attributes: BTreeMap<String, String>,
    /// What is done.
    pub action: String,
    /// Which route.
    pub resource: String,
    /// The attributes of the context that policies read.
    pub context: BTreeMap<String, String>,
}

impl Verdict {
    /// What it is called in results.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Equivalent => "equivalent",
            Self::Looser(_) => "looser",
            Self::Stricter(_) => "stricter",
            Self::Incomparable(_) => "incomparable",
            Self::Undecided(_) => "undecided",
        }
    }

    /// True if some request is decided otherwise.
    pub fn differs(&self) -> bool {
        match self {
            Self::Equivalent | Self::Undecided(_) => false,
            Self::Looser(_) | Self::Stricter(_) | Self::Incomparable(_) => true,
        }
    }

    /// A request that only the second version permits, and one that only the first does.
    pub fn examples(&self) -> (Option<&Example>, Option<&Example>) {
        match self {
            Self::Equivalent | Self::Undecided(_) => (None, None),
            Self::Looser(example) => (Some(example), None),
            Self::Stricter(example) => (None, Some(example)),
            Self::Incomparable(examples) => (Some(&examples[0]), Some(&examples[1])),
        }
    }

    fn of(looser: Option<Example>, stricter: Option<Example>) -> Self {
        match (looser, stricter) {
            (None, None) => Self::Equivalent,
            (Some(example), None) => Self::Looser(example.into()),
            (None, Some(example)) => Self::Stricter(example.into()),
            (Some(looser), Some(stricter)) => Self::Incomparable([looser, stricter].into()),
        }
    }
}

/// Answers one question. A solver that has failed is of no further use.
///
/// # Errors
/// A sentence: the solver gave no answer, or one that Cedar does not confirm.
pub async fn answer<S: Solver>(question: &Question, schema: &Schema, solver: S) -> Result<Verdict, String> {
    if question.is_same {
        return Ok(Verdict::Equivalent);
    }
    let mut compiler = CedarSymCompiler::new(solver).map_err(|error| crate::text::chain(&error))?;
    let (mut looser, mut stricter) = (None, None);
    for world in &question.worlds {
        let before = compiled(&question.before, world, question, schema)?;
        let after = compiled(&question.after, world, question, schema)?;
        if looser.is_none() {
            looser = example(&mut compiler, (&after, &before), (&question.after, &question.before), question).await?;
        }
        if stricter.is_none() {
            stricter = example(&mut compiler, (&before, &after), (&question.before, &question.after), question).await?;
        }
    }
    Ok(Verdict::of(looser, stricter))
}

/// Policies, and what no request is, for the solver.
fn compiled(
    policies: &PolicySet,
    world: &PolicySet,
    question: &Question,
    schema: &Schema,
) -> Result<CompiledPolicySet, String> {
    let all = policies.policies().chain(world.policies()).cloned();
    let all = PolicySet::from_policies(all).map_err(|error| error.to_string())?;
    CompiledPolicySet::compile(&all, &question.environment, schema).map_err(|error| crate::text::chain(&error))
}

/// A request that the first of two versions permits and the second does not, if there is one.
async fn example<S: Solver>(
    compiler: &mut CedarSymCompiler<S>,
    (wide, narrow): (&CompiledPolicySet, &CompiledPolicySet),
    sides: (&PolicySet, &PolicySet),
    question: &Question,
) -> Result<Option<Example>, String> {
    let found = compiler.check_implies_with_counterexample_opt(wide, narrow).await;
    let Some(Env { request, entities }) = found.map_err(|error| crate::text::chain(&error))? else { return Ok(None) };
    if !confirmed(&request, &entities, sides) {
        return Err("the solver's example is decided alike by both".to_owned());
    }
    let plain = plain(&request).filter(|plain| confirmed(plain, &entities, sides));
    Ok(Some(Example::of(&plain.unwrap_or(request), &entities, question)))
}

/// The same request with a path of plain letters, if its path is folded already. A solver likes any letter as much as another.
fn plain(request: &Request) -> Option<Request> {
    let context = request.context()?;
    let (EvalResult::String(path), EvalResult::String(folded)) = (context.get("path")?, context.get("path_folded")?)
    else {
        return None;
    };
    let value = RestrictedExpression::new_string(plain_path(&path));
    let pairs = context.clone().into_iter().map(|(name, other)| {
        let is_path = name == "path" || name == "path_folded";
        (name, if is_path { value.clone() } else { other })
    });
    let context = Context::from_pairs(pairs.collect::<Vec<_>>()).ok().filter(|_| path == folded)?;
    let (principal, action, resource) = (request.principal()?, request.action()?, request.resource()?);
    Request::new(principal.clone(), action.clone(), resource.clone(), context, None).ok()
}

/// A path in which one `a` stands for each run of other letters than those of plain paths.
fn plain_path(path: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "/-._".contains(letter);
    let runs = path.split_inclusive(is_plain).map(|run| match run.chars().next_back().filter(|last| is_plain(*last)) {
        Some(last) if run.len() == last.len_utf8() => last.to_string(),
        Some(last) => format!("a{last}"),
        None => "a".to_owned(),
    });
    runs.collect()
}

/// Whether Cedar permits the request by the first version and not by the second.
fn confirmed(request: &Request, entities: &Entities, (permitting, refusing): (&PolicySet, &PolicySet)) -> bool {
    let decide = |policies| Authorizer::new().is_authorized(request, policies, entities).decision();
    decide(permitting) == Decision::Allow && decide(refusing) == Decision::Deny
}

impl Example {
    fn of(request: &Request, entities: &Entities, question: &Question) -> Self {
        let told = |uid: Option<&EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let mut attributes = BTreeMap::new();
        if let Some(principal) = request.principal() {
            describe("", principal, entities, question, &mut attributes);
        }
        Self {
            principal: request.principal().map(|it| called(it, entities, question)).unwrap_or_default(),
            attributes,
            action: told(request.action()),
            resource: told(request.resource()),
            context: context(request, question),
        }
    }

    /// For a terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("principal  {}", self.principal)];
        lines.extend(self.attributes.iter().map(|(name, value)| format!("           {name}: {value}")));
        lines.push(format!("action     {}", self.action));
        lines.push(format!("resource   {}", self.resource));
        let heads = std::iter::once("context    ").chain(std::iter::repeat("           "));
        lines.extend(heads.zip(&self.context).map(|(head, (name, value))| format!("{head}{name}: {value}")));
        lines
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "principal": self.principal,
            "attributes": self.attributes,
            "action": self.action,
            "resource": self.resource,
            "context": self.context,
        })
    }
}

/// An entity by its name, where policies have it, and what it is in.
fn called(uid: &EntityUid, entities: &Entities, question: &Question) -> String {
    let name = uid.to_string();
    let name = if question.named.contains(&name) { name } else { format!("any {}", uid.type_name()) };
    let above: BTreeSet<String> = entities.ancestors(uid).into_iter().flatten().map(ToString::to_string).collect();
    let above: Vec<_> = above.into_iter().filter(|it| question.named.contains(it)).collect();
    if above.is_empty() { name } else { format!("{name} in {}", above.join(", ")) }
}

/// The attributes of an entity that policies read, and those of the person behind a job.
fn describe(
    prefix: &str,
    uid: &EntityUid,
    entities: &Entities,
    question: &Question,
    attributes: &mut BTreeMap<String, String>,
) {
    for (name, value) in entities.get(uid).into_iter().flat_map(|entity| entity.attrs()) {
        let Ok(value) = value else { continue };
        if !question.attributes.contains(name) {
            continue;
        }
        let told = match &value {
            EvalResult::EntityUid(other) => {
                describe(&format!("{prefix}{name}."), other, entities, question, attributes);
                called(other, entities, question)
            }
            value => value.to_string(),
        };
        attributes.insert(format!("{prefix}{name}"), told);
    }
}

fn context(request: &Request, question: &Question) -> BTreeMap<String, String> {
    let context = request.context();
    let read = question.context.iter().filter_map(|name| Some(((*name).to_owned(), context?.get(name)?.to_string())));
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_a_solver_made_up_is_told_plainly() {
        for (path, plain) in
            [("/", "/"), ("/docs/\u{0}\u{0}Z", "/docs/a"), ("/AB/c-1.x_y/ü", "/a/c-1.x_y/a"), ("/a", "/a")]
        {
            assert_eq!(plain_path(path), plain);
        }
    }
}
