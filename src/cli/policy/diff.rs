//! `vestibule policy diff`: who gains and who loses between two versions of policies.

use super::{load, mistakes};
use crate::{
    authorize::{self, Authorize, Decision, Theory},
    cli::{Fault, print},
    config::{self, Settings},
    moment::parse_span,
    review::{
        asking::Site,
        cases::{self, Case, Suite, word},
        cast::Cast,
        diff::{Side, compare},
        prove::{self, Environment, Proof, Unanswered, Verdict},
        report::{Report, Ruling, Sample},
    },
    route::Destination,
};
use cedar_policy_symcc::solver::LocalSolver;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::{process::Command, time::timeout};

/// The solver, if nobody says where it is.
const SOLVER: &str = "cvc5";

/// What to compare, and with whom.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct DiffArguments {
    /// The version before: a directory of policies, which is read with the routes of `-c`, or a configuration.
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The version after.
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// Whose rights are compared: a file that `policy snapshot` wrote, or any other with people, jobs and services. May be
    /// repeated. Default: everybody in the tests.
    #[arg(long, value_name = "FILE")]
    population: Vec<PathBuf>,
    /// Whose tests are asked of both versions, and are the population where no file is: those below the policies of this version. A
    /// merge request's author writes those of AFTER.
    #[arg(long, value_name = "VERSION", default_value = "after")]
    tests: Whose,
    /// Have the solver cvc5 find requests that the two versions decide otherwise, whoever asks.
    #[arg(long)]
    prove: bool,
    /// How long the solver may take for each type of principal and set of actions.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = span)]
    limit: Duration,
    /// Write a comment for a merge request.
    #[arg(long)]
    markdown: bool,
}

/// One of the two versions.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Whose {
    /// BEFORE.
    Before,
    /// AFTER.
    After,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "expected a span such as `30s` or `2m`".to_owned())
}

/// One version.
struct Version {
    settings: Settings,
    policies: Authorize,
}

impl Version {
    fn read(path: &Path, config: &Path) -> Result<Self, Fault> {
        if !path.exists() {
            return Err(Fault::Line(format!(
                "`{}` is neither a directory of policies nor a configuration",
                path.display()
            )));
        }
        let settings = match path.is_dir() {
            true => Settings { policies: Some(path.to_owned()), ..config::load_for_review(config)? },
            false => config::load_for_review(path)?,
        };
        Ok(Self { policies: load(&settings).map_err(|errors| mistakes(&errors))?, settings })
    }

    fn version(&self) -> authorize::Version<'_> {
        let Settings { routes, token_issuers, .. } = &self.settings;
        authorize::Version { policies: &self.policies, routes, issuers: token_issuers }
    }

    fn side(&self) -> Side<'_> {
        Side { policies: &self.policies, settings: &self.settings }
    }

    /// The files of its tests, if it has some.
    fn tests(&self) -> Result<Vec<PathBuf>, Fault> {
        let policies = self.settings.policies.as_ref().filter(|policies| policies.join(cases::DIRECTORY).is_dir());
        Ok(policies
            .map(|policies| cases::below(policies))
            .transpose()
            .map_err(|errors| mistakes(&errors))?
            .unwrap_or_default())
    }

    fn suite(&self) -> Result<Suite, Fault> {
        let suite = Suite::read(&self.tests()?, &self.settings, &self.policies.ids());
        Ok(suite.map_err(|errors| mistakes(&errors))?)
    }

    /// How this version decides a request, as far as it leads somewhere.
    fn rule(&self, site: &Site, case: &Case) -> Ruling {
        let Ok(Destination::Upstream(route)) = site.routes().find(&case.asking.judged.asked) else {
            return Ruling { word: "no route", policies: Vec::new() };
        };
        let principal = site.seen(route, &case.known);
        let decision = self.policies.decide(&principal, &case.asking.judged, route, case.asking.now);
        let Decision { outcome, policies, .. } = decision;
        Ruling { word: word(outcome), policies: policies.to_vec() }
    }
}

/// Compares, and prints what differs; `false` if something does.
///
/// # Errors
/// A version or a population that cannot be read.
pub(super) fn run(arguments: &DiffArguments, config: &Path, json: bool) -> Result<bool, Fault> {
    if json && arguments.markdown {
        return Err(Fault::Line("`--json` and `--markdown` are two forms of one result: choose one".to_owned()));
    }
    let [before, after] = [&arguments.before, &arguments.after].map(|path| Version::read(path, config));
    let (before, after) = (before?, after?);
    let own = match arguments.tests {
        Whose::Before => &before,
        Whose::After => &after,
    };
    let suite = own.suite()?;
    let cast = population(&arguments.population, &suite, &own.settings)?;
    let difference = compare(before.side(), after.side(), &cast);
    let samples = samples(&before, &after, &suite);
    let proof = arguments.prove.then(|| proof(&before, &after, arguments.limit));
    let report = Report {
        difference: &difference,
        population: cast.iter().count(),
        samples: &samples,
        tried: suite.cases.len(),
        proof: proof.as_ref(),
    };
    print(&match (json, arguments.markdown) {
        (true, _) => format!("{:#}", report.json()),
        (_, true) => report.markdown(),
        _ => report.text(),
    });
    Ok(report.is_equal())
}

/// Everybody in these files; without a file, in the tests.
fn population(files: &[PathBuf], suite: &Suite, settings: &Settings) -> Result<Cast, Fault> {
    if files.is_empty() {
        return Ok(suite.cast.clone());
    }
    Ok(Cast::of_files(files, settings).map_err(|errors| mistakes(&errors))?)
}

/// The requests of tests that the versions decide otherwise.
fn samples(before: &Version, after: &Version, suite: &Suite) -> Vec<Sample> {
    let sides = [before, after].map(|version| (version, Site::of(&version.settings)));
    let differ = |case: &Case| {
        let [before, after] = sides.each_ref().map(|(version, site)| version.rule(site, case));
        let (who, request) = (case.who.clone(), case.request.clone());
        (before.word != after.word).then_some(Sample { who, request, before, after })
    };
    suite.cases.iter().filter_map(differ).collect()
}

/// What a solver finds. Without one there is no proof.
fn proof(before: &Version, after: &Version, limit: Duration) -> Result<Proof, String> {
    let solver = solver()?;
    let theory = Theory::of(before.version(), after.version())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot run a solver: {error}"))?;
    let (mut proof, now) = (Proof::default(), SystemTime::now());
    for question in &theory.questions {
        let answer = async {
            match prove::obvious(question) {
                Some(verdict) => Ok(verdict),
                None => {
                    let answer = prove::answer(question, &theory.schema, started(&solver, limit)?, now).await;
                    answer.map_err(|error| unanswered(&error, &solver))
                }
            }
        };
        let answer = runtime.block_on(async { timeout(limit, answer).await });
        let late = || Err(format!("no answer within {} s: allow more with `--limit`", limit.as_secs_f64()));
        let verdict = answer.unwrap_or_else(|_| late()).unwrap_or_else(Verdict::Undecided);
        proof.add(Environment { principal: question.principal, actions: question.actions, verdict });
    }
    Ok(proof)
}

fn unanswered(error: &Unanswered, solver: &Path) -> String {
    match error {
        Unanswered::Ended(said) => {
            let place = solver.display();
            format!("cvc5 at `{place}` ended without an answer: is it cvc5 1.3.1 or later? ({said})")
        }
        Unanswered::Said(_) => error.to_string(),
    }
}

/// Where the solver is: `CVC5`, or `cvc5` on `PATH`.
fn solver() -> Result<PathBuf, String> {
    let named = std::env::var_os("CVC5").filter(|path| !path.is_empty()).map(PathBuf::from);
    if let Some(path) = named {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!("`CVC5` is `{}`, where no file is", path.display()))
        };
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|directory| directory.join(SOLVER)).find(|path| path.is_file());
    found.ok_or_else(|| {
        "`--prove` needs the solver cvc5, 1.3.1 or later: install it from https://github.com/cvc5/cvc5/releases and put it on \
         `PATH`, or name it in the environment variable `CVC5`"
            .to_owned()
    })
}

/// A process of the solver, which ends with the value.
fn started(solver: &Path, limit: Duration) -> Result<LocalSolver, String> {
    let mut command = Command::new(solver);
    command.args(["--lang", "smt"]).arg(format!("--tlimit-per={}", limit.as_millis()));
    command.stdin(Stdio::piped()).kill_on_drop(true);
    LocalSolver::from_command(&mut command)
        .map_err(|error| format!("cannot run `{}`: {}", solver.display(), crate::text::chain(&error)))
}
