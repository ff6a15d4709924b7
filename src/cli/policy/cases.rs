//! `vestibule policy test`: runs the cases, says which policies they leave out, and what they would not notice.

use super::mistakes;
use crate::{
    authorize::{Authorize, Mutant, Outcome, sources},
    cli::print,
    config::Settings,
    review::{
        cases::{self, Expect, Suite, Verdict, word},
        coverage::Coverage,
        junit::{self, TestCase, TestSuite},
        mutate::Mutation,
    },
};
use serde_json::{Value, json};
use std::path::PathBuf;

/// What to run, and what else to find out.
#[derive(Clone, Debug, Eq, PartialEq, clap::Args)]
pub struct TestArguments {
    /// Case files. Default: all of `tests` below the directory of the policies.
    files: Vec<PathBuf>,
    /// Write the results to a file, as JUnit does.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail if less of the policies have decided a case, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    coverage: Option<u8>,
    /// Drop, flip and widen every policy, and fail if no case notices.
    #[arg(long)]
    mutate: bool,
}

/// Runs the cases, with the result on standard output; `false` if one of them fails, or what was asked for is not reached.
///
/// # Errors
/// Lines: there is nothing to run, or a file has mistakes.
pub(super) fn run(arguments: &TestArguments, settings: &Settings, as_json: bool) -> Result<bool, String> {
    let authorize = super::load(settings).map_err(|errors| mistakes(&errors))?;
    let files = match (arguments.files.as_slice(), &settings.policies) {
        ([], Some(policies)) => {
            let tests = sources::tidy(&policies.join(cases::DIRECTORY));
            if !tests.is_dir() {
                return Err(format!(
                    "no cases yet: write {}, see docs/policy-tests.md",
                    tests.join("NAME.yaml").display()
                ));
            }
            cases::below(policies).map_err(|errors| mistakes(&errors))?
        }
        ([], None) => return Err("there is no directory `policies`: name the files of cases".to_owned()),
        (files, _) => files.to_vec(),
    };
    let suite = Suite::read(&files, settings, &authorize.ids()).map_err(|errors| mistakes(&errors))?;
    if suite.cases.is_empty() {
        let read: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        let read = if read.is_empty() { "no file was found".to_owned() } else { format!("read {}", read.join(", ")) };
        return Err(format!("no case to run ({read}): write `cases` into a file below `policies/tests`"));
    }
    let report = Report::of(&suite, &authorize, settings, arguments)?;
    if let Some(file) = &arguments.junit {
        let written = std::fs::write(file, junit::document(&report.suites()));
        written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    print(&if as_json { format!("{:#}", report.json()) } else { report.text() });
    Ok(report.good())
}

/// What was found out.
struct Report<'s> {
    verdicts: Vec<Verdict<'s>>,
    coverage: Coverage,
    /// The least that was asked for.
    least: Option<u8>,
    /// None where it was not asked for, or cases fail without any change.
    mutation: Option<Mutation>,
    asked_to_mutate: bool,
}

impl<'s> Report<'s> {
    fn of(
        suite: &'s Suite,
        authorize: &Authorize,
        settings: &Settings,
        arguments: &TestArguments,
    ) -> Result<Self, String> {
        let verdicts = suite.run(authorize);
        let passed = verdicts.iter().all(Verdict::passed);
        let mutation = (arguments.mutate && passed).then(|| Mutation::of(suite, authorize, settings)).transpose()?;
        Ok(Self {
            coverage: Coverage::of(authorize, &verdicts),
            verdicts,
            least: arguments.coverage,
            mutation,
            asked_to_mutate: arguments.mutate,
        })
    }

    fn good(&self) -> bool {
        let noticed = self.mutation.as_ref().is_none_or(Mutation::good);
        self.failed().next().is_none() && self.is_covered() && noticed
    }

    fn is_covered(&self) -> bool {
        self.least.is_none_or(|least| self.coverage.reaches(least))
    }

    fn failed(&self) -> impl Iterator<Item = &Verdict<'s>> {
        self.verdicts.iter().filter(|verdict| !verdict.passed())
    }

    fn text(&self) -> String {
        let mut said: Vec<String> = self
            .failed()
            .map(|verdict| format!("{}: {}\n{}", verdict.case.place(), verdict.case.name, told(verdict)))
            .collect();
        said.extend(self.coverage.uncovered.iter().map(|policy| {
            let what = if policy.permits { "permitted" } else { "forbidden" };
            format!("{}: no case is {what} by `{}`", policy.place, policy.id)
        }));
        said.extend(self.mutation.iter().flat_map(changes));
        if self.asked_to_mutate && self.mutation.is_none() {
            said.push("no policy was changed, since cases fail as it is".to_owned());
        }
        if let Some(least) = self.least.filter(|_| !self.is_covered()) {
            said.push(format!("less than {least} % of the policies have decided a case"));
        }
        said.push(self.summary());
        said.join("\n")
    }

    /// `12 passed, 0 failed, 9 of 9 policies decided a case`.
    fn summary(&self) -> String {
        let failed = self.failed().count();
        let (passed, covered, all) = (self.verdicts.len() - failed, self.coverage.covered(), self.coverage.all);
        format!("{passed} passed, {failed} failed, {covered} of {all} policies decided a case")
    }

    fn json(&self) -> Value {
        let failed = self.failed().count();
        let uncovered = self.coverage.uncovered.iter().map(|policy| {
            let effect = if policy.permits { "permit" } else { "forbid" };
            json!({ "id": policy.id, "place": policy.place, "effect": effect })
        });
        json!({
            "ok": self.good(),
            "passed": self.verdicts.len() - failed,
            "failed": failed,
            "cases": self.verdicts.iter().map(case_json).collect::<Vec<_>>(),
            "coverage": {
                "policies": self.coverage.all,
                "decided": self.coverage.covered(),
                "uncovered": uncovered.collect::<Vec<_>>(),
            },
            "mutants": self.mutation.as_ref().map(mutation_json),
        })
    }

    /// The same as JUnit has it: a suite for each file, one for policies that have to decide a case, one for changes that
    /// nobody noticed.
    fn suites(&self) -> Vec<TestSuite> {
        let mut suites: Vec<TestSuite> = Vec::new();
        for verdict in &self.verdicts {
            let file = &*verdict.case.file;
            if suites.last().is_none_or(|suite| suite.name != file) {
                suites.push(TestSuite { name: file.to_owned(), cases: Vec::new() });
            }
            let failure = (!verdict.passed()).then(|| {
                let message = format!("expected {}, found {}", verdict.case.expect, verdict.found());
                (message, format!("{}\n{}", verdict.case.place(), told(verdict)))
            });
            let case = TestCase { name: verdict.case.name.clone(), file: file.to_owned(), failure };
            suites.last_mut().expect("one was added").cases.push(case);
        }
        if !self.is_covered() {
            let uncovered = self.coverage.uncovered.iter();
            let case = |policy: &crate::authorize::Stated| TestCase {
                name: format!("`{}` decides a case", policy.id),
                file: policy.place.clone(),
                failure: Some(("it decides none".to_owned(), policy.place.clone())),
            };
            suites.push(TestSuite { name: "coverage".to_owned(), cases: uncovered.map(case).collect() });
        }
        if let Some(mutation) = &self.mutation {
            let case = |survivor: &crate::review::mutate::Survivor| TestCase {
                name: format!("`{}`, {}, makes a case fail", survivor.mutant.policy, survivor.mutant.change),
                file: survivor.mutant.place.clone(),
                failure: Some(("no case fails".to_owned(), missing(survivor.missing.as_deref()))),
            };
            suites.push(TestSuite {
                name: "changes of policies".to_owned(),
                cases: mutation.survivors.iter().map(case).collect(),
            });
        }
        suites
    }
}

/// Who asked for what, what was expected and found, and what the policies' authors say to it.
fn told(verdict: &Verdict<'_>) -> String {
    let case = verdict.case;
    let mut said = vec![
        format!("    {}: {}{}", case.who, case.request, case.how()),
        format!("    expected {}", case.expect),
        format!("    found    {}", verdict.found()),
    ];
    if let Some(example) = case.asking.missing_body().filter(|_| verdict.decision.outcome == Outcome::Failed) {
        said.push(format!(
            "    a rule of `body_fields` reads this request's body: give the case one, such as `body: '{example}'`"
        ));
    }
    if case.stranger {
        said.push(format!(
            "    `{}` is nobody there: route `{}` takes no people of their provider, or no tokens of their issuer",
            case.who, case.asking.route.name
        ));
    }
    said.extend(verdict.decision.notes.iter().map(|note| {
        let words: Vec<&str> = note.reason.iter().chain(&note.remedy).map(|text| &**text).collect();
        format!("    {}: {}", note.policy, words.join(" "))
    }));
    said.join("\n")
}

fn missing(case: Option<&str>) -> String {
    case.map_or_else(
        || "    nobody who is described here tells it: describe somebody who does, or accept the change with its reason".to_owned(),
        |case| format!("    a case is missing, such as\n    {case}"),
    )
}

/// What became of changes: those that nobody noticed, those that nobody can, and how many there were.
fn changes(mutation: &Mutation) -> Vec<String> {
    let named = |mutant: &Mutant| format!("{}: `{}`, {}", mutant.place, mutant.policy, mutant.change);
    let survived = mutation.survivors.iter();
    let mut said: Vec<String> = survived
        .map(|survivor| format!("{}: no case fails\n{}", named(&survivor.mutant), missing(survivor.missing.as_deref())))
        .collect();
    let equivalent = mutation.equivalent.iter();
    said.extend(equivalent.map(|(mutant, reason)| format!("{}: left out, since {reason}", named(mutant))));
    let accepted = mutation.accepted.iter();
    said.extend(accepted.map(|(mutant, because)| format!("{}: accepted: {because}", named(mutant))));
    said.extend(mutation.vain.iter().map(|accepted| {
        let (policy, change) = (&accepted.policy, &accepted.change);
        format!("{}: accepts `{policy}`, {change}, in vain: there is no such change, or a case notices", accepted.place)
    }));
    said.push(format!(
        "{} changes of policies: {} made a case fail, {} survived; left out: {} not valid, {} that no request can tell, {} accepted",
        mutation.counted(),
        mutation.noticed,
        mutation.survivors.len(),
        mutation.refused.len(),
        mutation.equivalent.len(),
        mutation.accepted.len()
    ));
    said
}

fn case_json(verdict: &Verdict<'_>) -> Value {
    let case = verdict.case;
    let expect = |expect: &Expect| json!({ "outcome": word(expect.outcome), "by": expect.by });
    let notes = verdict.decision.notes.iter();
    let notes = notes.map(|note| json!({ "policy": note.policy, "reason": note.reason, "remedy": note.remedy }));
    json!({
        "file": case.file,
        "line": case.line,
        "name": case.name,
        "as": case.who,
        "request": case.request,
        "route": case.asking.route.name.as_str(),
        "passed": verdict.passed(),
        "expected": expect(&case.expect),
        "found": expect(&verdict.found()),
        "notes": notes.collect::<Vec<_>>(),
    })
}

fn mutation_json(mutation: &Mutation) -> Value {
    let one = |mutant: &Mutant, key: &str, value: Value| json!({ "policy": mutant.policy, "place": mutant.place, "change": mutant.change.to_string(), key: value });
    let survivors = mutation.survivors.iter().map(|it| one(&it.mutant, "missing", json!(it.missing)));
    let refused = mutation.refused.iter().map(|(mutant, reason)| one(mutant, "reason", json!(reason)));
    let equivalent = mutation.equivalent.iter().map(|(mutant, reason)| one(mutant, "reason", json!(reason)));
    let accepted = mutation.accepted.iter().map(|(mutant, because)| one(mutant, "because", json!(because)));
    let vain = mutation.vain.iter();
    let vain = vain.map(|it| json!({ "place": it.place, "policy": it.policy, "change": it.change }));
    json!({
        "noticed": mutation.noticed,
        "accepted": accepted.collect::<Vec<_>>(),
        "accepted_in_vain": vain.collect::<Vec<_>>(),
        "survived": survivors.collect::<Vec<_>>(),
        "refused": refused.collect::<Vec<_>>(),
        "equivalent": equivalent.collect::<Vec<_>>(),
    })
}
