//! Loads and checks policies. Every mistake is reported, each with its place.

use super::{
    PolicyError,
    anonymous::{Somebody, asks},
    compared::parts,
    facts::Facts,
    lint::Known,
    mistake::Spot,
    nearest::nearest,
    schema,
    sources::{self, Source},
    words::{Action, Kind},
};
use crate::route::Route;
use aws_lc_rs::digest;
use cedar_policy::{
    Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator,
    ffi::DetailedError,
    pst::{BinaryOp, Clause, Expr, Var},
};
use std::{collections::HashMap, path::Path, sync::Arc};

/// The name of the checked-in schema, in the directory of the policies.
const SCHEMA_FILE: &str = "vestibule.cedarschema";

/// One policy that has passed every check.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) id: Arc<str>,
    /// Its id in Cedar is the same.
    pub(super) policy: Policy,
    pub(super) facts: Facts,
    /// Where it stands.
    pub(super) place: String,
    /// The same, with the text.
    pub(super) spot: Spot,
    pub(super) reason: Option<Arc<str>>,
    pub(super) remedy: Option<Arc<str>>,
    /// Its conditions that ask for labels of the route, and how they have to come out; of permits whose authors say something.
    labels: Vec<(Arc<Expr>, bool)>,
}

impl Loaded {
    /// The text as its author wrote it.
    pub(super) fn text(&self) -> String {
        self.policy.to_cedar().unwrap_or_else(|| self.policy.to_string())
    }

    /// False where the labels of the route, which its resource scope fits, keep it from ever applying there.
    pub(super) fn may_be_about(&self, route: &Route) -> bool {
        let somebody = Somebody { kind: Kind::User, route };
        self.labels.iter().all(|(condition, wanted)| somebody.holds(condition) != Some(!wanted))
    }

    /// It is a permit that is told of, and about routes with some label.
    pub(super) fn asks_labels(&self) -> bool {
        !self.labels.is_empty()
    }

    /// Where these words stand in it; where it begins, if they are written in another way.
    pub(super) fn near(&self, words: &str) -> Spot {
        self.text().find(words).map_or_else(|| self.spot.clone(), |at| self.spot.behind(at, words.len()))
    }
}

/// Policies that have passed every check, and the schema they were checked against.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) policies: Vec<Loaded>,
    pub(super) schema: Schema,
}

/// Loads and checks all policies: the files below `directory` in the order of their paths, then the `allow` lists.
pub(super) fn load(directory: Option<&Path>, known: Known<'_>) -> Result<Checked, Vec<PolicyError>> {
    let routes = known.routes;
    let mut errors = Vec::new();
    let mut found = directory.map_or_else(Vec::new, |directory| sources::files(directory, &mut errors));
    if let Some(directory) = directory {
        errors.extend(stale_schema(directory, routes));
        if found.iter().all(|source| source.text.trim().is_empty()) && errors.is_empty() {
            let place = directory.display().to_string();
            errors.push(PolicyError::new(place, "no policy here").expected("expected `*.cedar` files"));
        }
    }
    found.extend(sources::expand(routes));
    let schema = match schema::schema(routes) {
        Ok(schema) => schema,
        Err(message) => {
            errors.push(PolicyError::new("routes", message));
            return Err(errors);
        }
    };
    let (policies, mistakes) = check(&found, known, &schema);
    errors.extend(mistakes);
    if policies.is_empty() && errors.is_empty() {
        let nobody = PolicyError::new("policies", "no policy: nobody could be let in");
        errors.push(nobody.help("name a directory, or write `allow` on a route"));
    }
    if errors.is_empty() { Ok(Checked { policies, schema }) } else { Err(errors) }
}

/// Checks the policies of `sources`: the good ones, and every mistake in the others.
pub(super) fn check(sources: &[Source], known: Known<'_>, schema: &Schema) -> (Vec<Loaded>, Vec<PolicyError>) {
    let mut loader = Loader::new(known, schema);
    sources.iter().for_each(|source| loader.source(source));
    (loader.loaded, loader.errors)
}

/// Checks one policy that was made, and not read, in the place of another: what Cedar's validator says, and nothing beyond.
pub(super) fn check_one(
    source: &Source,
    policy: &Policy,
    known: Known<'_>,
    schema: &Schema,
) -> Result<Loaded, Vec<PolicyError>> {
    let mut loader = Loader::new(known, schema);
    let id = loader.name(source, 0, policy);
    let policy = policy.new_id(PolicyId::new(id.as_deref().unwrap_or_default()));
    let found = loader.validate(source, 0, &policy);
    loader.errors.extend(found);
    match (id, Facts::of(&policy)) {
        (Some(id), Some(facts)) if loader.errors.is_empty() => Ok(loaded(source, 0, id, policy, facts)),
        (_, Some(_)) => Err(loader.errors),
        (_, None) => {
            loader.errors.push(unreadable(source, 0));
            Err(loader.errors)
        }
    }
}

fn loaded(source: &Source, start: usize, id: Arc<str>, policy: Policy, facts: Facts) -> Loaded {
    let annotation = |key| policy.annotation(key).map(Arc::from);
    let (reason, remedy) = (annotation("reason"), annotation("remedy"));
    let spot = Spot::new(source, start..start);
    let is_told = facts.permits && (reason.is_some() || remedy.is_some());
    let labels = if is_told { labels(&policy) } else { Vec::new() };
    Loaded { id, policy, facts, place: spot.place(), spot, reason, remedy, labels }
}

/// The conditions of a policy that are about the route alone, and whether they have to hold.
fn labels(policy: &Policy) -> Vec<(Arc<Expr>, bool)> {
    let Ok(policy) = policy.to_pst() else { return Vec::new() };
    let mut found = Vec::new();
    for clause in policy.body().clauses() {
        let (condition, joined, wanted) = match clause {
            Clause::When(condition) => (condition, BinaryOp::And, true),
            Clause::Unless(condition) => (condition, BinaryOp::Or, false),
        };
        let mut all = Vec::new();
        parts(condition, joined, &mut all);
        all.retain(|part| asks(part, &Var::Resource) && !OTHERS.iter().any(|other| asks(part, other)));
        found.extend(all.into_iter().map(|part| (part, wanted)));
    }
    found
}

/// What a condition about the route alone does not ask for.
const OTHERS: [Var; 3] = [Var::Principal, Var::Action, Var::Context];

fn unreadable(source: &Source, start: usize) -> PolicyError {
    PolicyError::at(Spot::new(source, start..start), "the policy uses syntax that cannot be analysed")
}

/// SHA-256, in hex, of the ids and texts of all policies in the order of their ids.
pub(super) fn digest(policies: &[Loaded]) -> Arc<str> {
    let mut sorted: Vec<&Loaded> = policies.iter().collect();
    sorted.sort_by(|a, b| a.id.cmp(&b.id));
    let mut context = digest::Context::new(&digest::SHA256);
    for policy in sorted {
        for text in [&*policy.id, &policy.text()] {
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
        }
    }
    crate::text::hex(context.finish().as_ref()).into()
}

fn stale_schema(directory: &Path, routes: &[Route]) -> Option<PolicyError> {
    let file = directory.join(SCHEMA_FILE);
    let place = file.display().to_string();
    let found = match std::fs::read_to_string(&file) {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => return Some(PolicyError::new(place, format!("cannot read: {error}"))),
    };
    let fresh = found.lines().eq(schema::text(routes).lines());
    let help = format!("run `vestibule policy schema > {place}`");
    (!fresh).then(|| PolicyError::new(place, "stale: it is not the schema of this configuration").help(help))
}

struct Loader<'a> {
    validator: Validator,
    lint: Known<'a>,
    loaded: Vec<Loaded>,
    /// Where each `@id` was used first.
    places: HashMap<Arc<str>, Spot>,
    errors: Vec<PolicyError>,
}

impl<'a> Loader<'a> {
    fn new(known: Known<'a>, schema: &Schema) -> Self {
        let validator = Validator::new(schema.clone());
        Self { validator, lint: known, loaded: Vec::new(), places: HashMap::new(), errors: Vec::new() }
    }

    /// Loads the policies of one source, in the order in which they stand.
    fn source(&mut self, source: &Source) {
        let set: PolicySet = match source.text.parse() {
            Ok(set) => set,
            Err(errors) => {
                return self.errors.extend(errors.iter().map(|error| detailed(source, 0, &DetailedError::from(error))));
            }
        };
        for template in set.templates() {
            let start = template.as_ref().loc().map_or(0, |loc| loc.start());
            let error = PolicyError::at(Spot::new(source, start..start), "templates are not supported");
            self.errors.push(error.help("write the entity instead of `?principal` or `?resource`"));
        }
        let mut policies: Vec<_> = set.policies().map(|policy| (start(policy), policy)).collect();
        policies.sort_by_key(|(start, _)| *start);
        policies.into_iter().for_each(|(start, policy)| self.policy(source, start, policy));
    }

    fn policy(&mut self, source: &Source, start: usize, policy: &Policy) {
        let known = self.errors.len();
        let id = self.name(source, start, policy);
        let policy = policy.new_id(PolicyId::new(id.as_deref().unwrap_or_default()));
        let found = self.validate(source, start, &policy);
        let Some(facts) = Facts::of(&policy) else {
            self.errors.extend(found);
            if self.errors.len() == known {
                self.errors.push(unreadable(source, start));
            }
            return;
        };
        self.errors.extend(self.lint.policy(source, start, (&policy, &facts), found));
        let Some(id) = id.filter(|_| self.errors.len() == known) else { return };
        self.loaded.push(loaded(source, start, id, policy, facts));
    }

    /// The policy's `@id`, if it has one that nobody else has.
    fn name(&mut self, source: &Source, start: usize, policy: &Policy) -> Option<Arc<str>> {
        let spot = Spot::new(source, start..start);
        let error = match policy.annotation("id") {
            None => PolicyError::at(spot, "the policy has no `@id`, by which audit records name it")
                .help("write `@id(\"…\")` above it"),
            Some(id) if id.is_empty() || id.len() > 128 || id.chars().any(char::is_control) => {
                PolicyError::at(spot, format!("`@id` has {} bytes", id.len()))
                    .expected("expected 1 to 128 without control characters")
            }
            Some(id) if id.starts_with("route:") && !source.expanded => {
                PolicyError::at(spot, format!("`@id(\"{id}\")` begins with `route:`"))
                    .help("such ids stand for the `allow` of a route: choose another")
            }
            Some(id) => match self.places.get(id) {
                Some(first) => PolicyError::at(spot, format!("`@id(\"{id}\")` is also the id of another policy"))
                    .help("choose another id")
                    .beside(first.clone(), "the other policy is here"),
                None => {
                    self.places.insert(id.into(), spot);
                    return Some(id.into());
                }
            },
        };
        self.errors.push(error);
        None
    }

    /// What Cedar finds wrong, in the order of the text.
    fn validate(&self, source: &Source, start: usize, policy: &Policy) -> Vec<PolicyError> {
        let Ok(alone) = PolicySet::from_policies([policy.clone()]) else { return vec![unreadable(source, start)] };
        let result = self.validator.validate(&alone, ValidationMode::Strict);
        let mut found: Vec<DetailedError> = result.validation_errors().map(DetailedError::from).collect();
        if found.is_empty() {
            found = result.validation_warnings().map(DetailedError::from).collect(); // else they only follow from errors
        }
        found.sort_by_key(|error| error.source_locations.first().map(|label| label.loc.start));
        let mut errors = Vec::new();
        for error in found.iter().map(|error| detailed(source, start, error)) {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        errors
    }
}

fn start(policy: &Policy) -> usize {
    policy.as_ref().loc().map_or(0, |loc| loc.start())
}

/// What helps where Cedar says only that a policy can never apply.
const IMPOSSIBLE: &str = "a condition never holds, or it is about another type than the scope";

/// Whether Cedar says only that a policy can never apply, and not why.
pub(super) fn is_impossible(error: &PolicyError) -> bool {
    ["policy is impossible", "unable to find an applicable action"].iter().any(|begin| error.message.starts_with(begin))
}

/// Why the text of a file does not parse.
pub fn unparsed(file: &str, text: &str, error: &DetailedError) -> PolicyError {
    detailed(&Source::file(file, text), 0, error)
}

/// One of Cedar's errors in our words: its own, without the policy's name, with the place and what helps.
fn detailed(source: &Source, start: usize, error: &DetailedError) -> PolicyError {
    let label = error.source_locations.first();
    let span = label.map_or(start..start, |label| label.loc.start..label.loc.end);
    let message = for_all_actions(unnamed(&error.message));
    let usual = if message.contains("impossible") { IMPOSSIBLE } else { "" };
    let help = action_meant(&message).unwrap_or_else(|| error.help.as_deref().map_or(usual, unnamed).to_owned());
    PolicyError::at(Spot::new(source, span), message)
        .expected(label.and_then(|label| label.label.as_deref()).unwrap_or_default())
        .help(help)
}

/// The action that was meant where Cedar knows none of that name: Cedar's own guess takes `get` for `PUT`.
fn action_meant(message: &str) -> Option<String> {
    let word = message.strip_prefix("unrecognized action `Action::\"")?.split('"').next()?;
    let known = Action::ALL.map(Action::as_str).into_iter().chain(Action::GROUPS);
    nearest(word, known).map(|near| format!("did you mean `Action::\"{near}\"`?"))
}

fn unnamed(text: &str) -> &str {
    let rest = text.strip_prefix("for policy `").and_then(|rest| rest.split_once('`'));
    rest.map_or(text, |(_, rest)| rest.trim_start_matches([',', ':', ' ']))
}

/// All actions have the same context: what is wrong with it is said once, not for each of them.
fn for_all_actions(text: &str) -> String {
    let action =
        text.split_once(" in context for Action::\"").and_then(|(what, rest)| Some((what, rest.split_once('"')?.1)));
    action.map_or_else(|| text.to_owned(), |(what, rest)| format!("{what} in context{rest}"))
}
