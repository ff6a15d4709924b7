//! What differs between two versions of policies for some request, whoever asks: found by a solver, with a request that shows it.
//!
//! The solver works on Cedar's own translation of policies. No example is told that Cedar does not decide otherwise by the two.

use crate::{
    authorize::{Actions, Question},
    moment::to_the_second,
    text::chain,
};
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityUid, EvalResult, PolicySet, Request, RestrictedExpression, Schema,
};
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet, Env, solver::Solver};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

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
    /// So is every request but those that these sentences name, of which nothing is proved.
    Conditional(Vec<String>),
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
    /// What nobody knows of the principal.
    pub unknown: Vec<String>,
}

impl Verdict {
    /// What it is called in results.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Equivalent => "equivalent",
            Self::Conditional(_) => "conditional",
            Self::Looser(_) => "looser",
            Self::Stricter(_) => "stricter",
            Self::Incomparable(_) => "incomparable",
            Self::Undecided(_) => "undecided",
        }
    }

    /// True if every request is decided alike.
    pub fn is_equivalent(&self) -> bool {
        matches!(self, Self::Equivalent)
    }

    /// Why nothing is proved, or not of every request.
    pub fn reasons(&self) -> &[String] {
        match self {
            Self::Conditional(reasons) => reasons,
            Self::Undecided(reason) => std::slice::from_ref(reason),
            Self::Equivalent | Self::Looser(_) | Self::Stricter(_) | Self::Incomparable(_) => &[],
        }
    }

    /// A request that only the second version permits, and one that only the first does.
    pub fn examples(&self) -> (Option<&Example>, Option<&Example>) {
        match self {
            Self::Equivalent | Self::Conditional(_) | Self::Undecided(_) => (None, None),
            Self::Looser(example) => (Some(example), None),
            Self::Stricter(example) => (None, Some(example)),
            Self::Incomparable(examples) => (Some(&examples[0]), Some(&examples[1])),
        }
    }

    /// The verdict where nothing is decided otherwise.
    fn alike(reasons: Vec<String>) -> Self {
        if reasons.is_empty() { Self::Equivalent } else { Self::Conditional(reasons) }
    }
}

impl Proof {
    /// True if every request is decided alike.
    pub fn is_whole(&self) -> bool {
        self.environments.iter().all(|it| it.verdict.is_equivalent())
    }

    /// Adds an answer: to one like it about the same principals, if there is one.
    pub fn add(&mut self, environment: Environment) {
        let is_like = |own: &&mut Environment| {
            let (one, other) = (&own.verdict, &environment.verdict);
            own.principal == environment.principal
                && one.as_str() == other.as_str()
                && one.reasons() == other.reasons()
                && one.examples().0.map(Example::any_action) == other.examples().0.map(Example::any_action)
                && one.examples().1.map(Example::any_action) == other.examples().1.map(Example::any_action)
        };
        match self.environments.iter_mut().find(is_like) {
            Some(own) => own.actions.add(environment.actions),
            None => self.environments.push(environment),
        }
    }
}

/// What can be said without a solver: the same policies in the same world.
pub fn obvious(question: &Question) -> Option<Verdict> {
    question.is_same.then(|| Verdict::alike(question.provisos.clone()))
}

/// Answers one question. A solver that has failed is of no further use. What is shown is asked at `now`, if any time would do.
///
/// # Errors
/// The solver gave no answer, or one that Cedar does not confirm.
pub async fn answer<S: Solver>(
    question: &Question,
    schema: &Schema,
    solver: S,
    now: SystemTime,
) -> Result<Verdict, Unanswered> {
    let mut asking = Asking { compiler: CedarSymCompiler::new(solver)?, question, schema, now };
    let looser = asking.example([1, 0]).await?;
    let stricter = asking.example([0, 1]).await?;
    Ok(match (looser, stricter) {
        (None, None) => Verdict::alike(asking.reasons().await?),
        (Some(example), None) => Verdict::Looser(example.into()),
        (None, Some(example)) => Verdict::Stricter(example.into()),
        (Some(looser), Some(stricter)) => Verdict::Incomparable([looser, stricter].into()),
    })
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The solver is no solver, or has come to its end.
    #[error("the solver ended without an answer: {0}")]
    Ended(String),
    /// What was asked, or answered, cannot be read.
    #[error("{0}")]
    Said(String),
}

impl From<cedar_policy_symcc::err::Error> for Unanswered {
    fn from(error: cedar_policy_symcc::err::Error) -> Self {
        use cedar_policy_symcc::err::{Error, SolverError};
        match &error {
            Error::SolverError(SolverError::Io(_) | SolverError::Solver(_)) => Self::Ended(chain(&error)),
            _ => Self::Said(chain(&error)),
        }
    }
}

struct Asking<'a, S: Solver> {
    compiler: CedarSymCompiler<S>,
    question: &'a Question,
    schema: &'a Schema,
    now: SystemTime,
}

impl<S: Solver> Asking<'_, S> {
    /// A request that the first of two versions permits and the second does not, if there is one: one that is easy to ask for, if
    /// there is such a one.
    async fn example(&mut self, [wide, narrow]: [usize; 2]) -> Result<Option<Example>, Unanswered> {
        let mut found = None;
        for (turn, world) in self.question.worlds.iter().enumerate() {
            let example = self.example_in([&world[wide], &world[narrow]]).await?;
            match (turn, example) {
                (0, None) => return Ok(None),
                (0, Some(example)) => found = Some(example),
                (_, Some(example)) => return Ok(Some(example)),
                (_, None) => {}
            }
        }
        Ok(found)
    }

    async fn example_in(&mut self, sides: [&PolicySet; 2]) -> Result<Option<Example>, Unanswered> {
        let compiled = |policies| {
            let compiled = CompiledPolicySet::compile(policies, &self.question.environment, self.schema);
            compiled.map_err(Unanswered::from)
        };
        let (wide, narrow) = (compiled(sides[0])?, compiled(sides[1])?);
        let found = self.compiler.check_implies_with_counterexample_opt(&wide, &narrow).await?;
        let Some(Env { request, entities }) = found else { return Ok(None) };
        if !confirmed(&request, &entities, sides) {
            return Err(Unanswered::Said("the solver's example is decided alike by both".to_owned()));
        }
        let plain = plain(request, self.now, |plain| confirmed(plain, &entities, sides));
        Ok(Some(Example::of(&plain, &entities, self.question)))
    }

    /// Why this is not about every request. The gateway refuses what it cannot evaluate, while the solver passes over the policy.
    async fn reasons(&mut self) -> Result<Vec<String>, Unanswered> {
        let mut reasons = self.question.provisos.clone();
        let mut failing = BTreeSet::new();
        for (id, policy) in &self.question.fallible {
            let compiled = CompiledPolicy::compile(policy, &self.question.environment, self.schema)?;
            if !self.compiler.check_never_errors_opt(&compiled).await? {
                failing.insert(format!("`{id}`"));
            }
        }
        if !failing.is_empty() {
            let failing = Vec::from_iter(failing).join(", ");
            reasons
                .push(format!("not proved of requests for which a policy cannot be evaluated, as may be: {failing}"));
        }
        Ok(reasons)
    }
}

/// The same request with plainer values, as long as it `shows` the same. A solver likes any value as much as another.
fn plain(request: Request, now: SystemTime, shows: impl Fn(&Request) -> bool) -> Request {
    let path = text(&request, "path").filter(|path| text(&request, "path_folded").as_ref() == Some(path));
    let path = path.map(|path| RestrictedExpression::new_string(plain_path(&path)));
    let mut changes: Vec<(&[&str], Option<RestrictedExpression>)> = vec![
        (&["client_ip"], Some(RestrictedExpression::new_ip("192.0.2.1"))),
        (&["now"], Some(RestrictedExpression::new_datetime(to_the_second(now)))),
    ];
    changes.extend(path.map(|path| (&["path", "path_folded"][..], Some(path))));
    changes.extend(OPTIONAL.iter().map(|name| (std::slice::from_ref(name), None)));
    changes.into_iter().fold(request, |request, (names, value)| {
        with(&request, names, value.as_ref()).filter(&shows).unwrap_or(request)
    })
}

/// Attributes of the context that a request need not have.
const OPTIONAL: [&str; 5] = ["session_age", "acr", "auth_time", "tls_subject", "tls_spiffe_id"];

fn text(request: &Request, name: &str) -> Option<String> {
    match request.context()?.get(name)? {
        EvalResult::String(text) => Some(text),
        _ => None,
    }
}

/// The request with this value in these attributes of its context; without a value, it lacks them.
fn with(request: &Request, names: &[&str], value: Option<&RestrictedExpression>) -> Option<Request> {
    let pairs = request.context()?.clone().into_iter().filter_map(|(name, own)| {
        let is_changed = names.contains(&name.as_str());
        Some((name, if is_changed { value?.clone() } else { own }))
    });
    let context = Context::from_pairs(pairs.collect::<Vec<_>>()).ok()?;
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

/// Whether the gateway permits the request by the first version and not by the second: it permits nothing that it cannot evaluate.
fn confirmed(request: &Request, entities: &Entities, [permitting, refusing]: [&PolicySet; 2]) -> bool {
    let permits = |policies| {
        let response = Authorizer::new().is_authorized(request, policies, entities);
        response.decision() == Decision::Allow && response.diagnostics().errors().next().is_none()
    };
    permits(permitting) && !permits(refusing)
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
            unknown: unknown(request, question),
        }
    }

    /// All but what is done.
    fn any_action(&self) -> Self {
        Self { action: String::new(), ..self.clone() }
    }

    /// For a terminal.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("principal  {}", self.principal)];
        lines.extend(self.attributes.iter().map(|(name, value)| format!("           {name}: {value}")));
        if !self.unknown.is_empty() {
            lines.push(format!("           nobody knows: {}", self.unknown.join(", ")));
        }
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
            "unknown": self.unknown,
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
    let read = question.context.iter().filter_map(|name| Some(((*name).to_owned(), told(&context?.get(name)?))));
    read.collect()
}

/// A value as people write it; an address or a time without the function around it.
fn told(value: &EvalResult) -> String {
    match value {
        EvalResult::ExtensionValue(text) => {
            bare(text).map(str::to_owned).or_else(|| counted(text)).unwrap_or_else(|| text.clone())
        }
        value => value.to_string(),
    }
}

/// What stands in the quotes of `ip("…")` or `datetime("…")`.
fn bare(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("ip(\"").or_else(|| text.strip_prefix("datetime(\""))?;
    rest.strip_suffix("\")").filter(|rest| !rest.contains('"'))
}

/// What the context says that nobody knows.
fn unknown(request: &Request, question: &Question) -> Vec<String> {
    let context = request.context();
    let is = |flag: &String| context.and_then(|context| context.get(flag)) == Some(EvalResult::Bool(true));
    question.unknown.iter().filter(|(flag, _)| is(flag)).map(|(_, what)| what.clone()).collect()
}

/// The time that Cedar writes as milliseconds since 1970, if a calendar has it.
fn counted(text: &str) -> Option<String> {
    const END: u64 = 253_402_300_800_000; // the year 10000
    let rest = text.trim_start_matches('(').strip_prefix("datetime(\"1970-01-01\")")?;
    let (_, rest) = rest.split_once("duration(\"")?;
    let since = rest.split_once("ms\"")?.0.parse().ok().filter(|since| *since < END)?;
    Some(to_the_second(SystemTime::UNIX_EPOCH + Duration::from_millis(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_a_date() {
        let told = |text: &str| told(&EvalResult::ExtensionValue(text.to_owned()));
        let counted = "(datetime(\"1970-01-01\")).offset(duration(\"951782400000ms\"))";
        assert_eq!(told(counted), "2000-02-29T00:00:00Z");
        assert_eq!(told("datetime(\"2026-01-01T12:00:00Z\")"), "2026-01-01T12:00:00Z");
        assert_eq!(told("ip(\"192.0.2.1\")"), "192.0.2.1");
        assert_eq!(told("decimal(\"1.5\")"), "decimal(\"1.5\")");
        for odd in ["-1", "253402300800000"] {
            assert_eq!(told(&counted.replace("951782400000", odd)), counted.replace("951782400000", odd));
        }
    }

    #[test]
    fn a_path_that_a_solver_made_up_is_told_plainly() {
        for (path, plain) in
            [("/", "/"), ("/docs/\u{0}\u{0}Z", "/docs/a"), ("/AB/c-1.x_y/ü", "/a/c-1.x_y/a"), ("/a", "/a")]
        {
            assert_eq!(plain_path(path), plain);
        }
    }
}
