//! `vestibule policy`: the schema, the policies as they are meant, what is wrong with them, and what differs between two versions.

mod ask;
mod asker;
mod cases;
mod diff;
mod fmt;
pub(super) mod open;
mod snapshot;

use super::{Fault, print};
use crate::{
    authorize::{Authorize, Open, PolicyError, schema_text},
    config::{self, ConfigErrors, Settings},
};
use ask::{AccessArguments, ExplainArguments, WhoArguments};
use asker::AskerArguments;
use cases::TestArguments;
use clap::Subcommand;
use diff::DiffArguments;
use fmt::FmtArguments;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};

/// What to do with policies.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum PolicyCommand {
    /// Print the Cedar schema that policies are checked against, generated from the configuration.
    Schema,
    /// Print every policy as Cedar text, with the `allow` lists of routes expanded.
    Show,
    /// Check every policy and print all mistakes, and what is open to those who are not signed in.
    Check,
    /// Lay out policies, each with the same indents and line breaks.
    Fmt(FmtArguments),
    /// Run the cases in `tests` below the policies: who asks for what, and how it is decided.
    Test(TestArguments),
    /// Say why a request of somebody is permitted or refused, and which change of membership would permit it. Exit code 1: refused.
    Explain(Box<ExplainArguments>),
    /// List what somebody may do: every route, the methods, on which condition and by which policy. Exit code 1: nothing.
    Access(AccessArguments),
    /// List who may make a request: everybody of a cast, and by policy. Exit code 1: nobody of the cast.
    Who(WhoArguments),
    /// Compare two versions of policies: who gains, and who loses.
    Diff(Box<DiffArguments>),
    /// Print everybody in the groups that policies name, read from GitLab: a population for `policy diff`.
    Snapshot {
        /// Another version of the policies, whose groups are read too. May be repeated.
        #[arg(long, value_name = "DIRECTORY")]
        and: Vec<PathBuf>,
    },
}

/// Runs one command on the configuration in `file`, with the result on standard output; `false` if policies have mistakes or are not
/// laid out, a case fails, two versions differ, or the answer is no.
///
/// # Errors
/// A configuration, or what it names, that cannot be read; no policies to show or no cases to run; a file that cannot be laid out.
pub(super) fn run(command: &PolicyCommand, file: &Path, as_json: bool) -> Result<bool, Fault> {
    let review = || config::load_for_review(file);
    Ok(match command {
        PolicyCommand::Schema => say(plain("schema", schema_text(&review()?.routes)), as_json),
        PolicyCommand::Show => {
            say(plain("policies", load(&review()?).map_err(|errors| lines(&errors))?.show()), as_json)
        }
        PolicyCommand::Check => say(checked(&review()?), as_json),
        PolicyCommand::Fmt(arguments) => arguments.run(review, as_json)?,
        PolicyCommand::Test(arguments) => cases::run(arguments, &review()?, as_json)?,
        PolicyCommand::Explain(arguments) => arguments.run(&asked(file, &arguments.asker)?, as_json)?,
        PolicyCommand::Access(arguments) => arguments.run(&asked(file, &arguments.asker)?, as_json)?,
        PolicyCommand::Who(arguments) => arguments.run(&review()?, as_json)?,
        PolicyCommand::Diff(arguments) => diff::run(arguments, file, as_json)?,
        PolicyCommand::Snapshot { and } => snapshot::run(&config::load(file)?, and, as_json)?,
    })
}

/// The configuration, with its secrets only where somebody may be asked who knows us by one.
fn asked(file: &Path, asker: &AskerArguments) -> Result<Settings, ConfigErrors> {
    if asker.has_token() { config::load(file) } else { config::load_for_review(file) }
}

fn say((text, json, good): (String, Json, bool), as_json: bool) -> bool {
    print(&if as_json { format!("{json:#}") } else { text });
    good
}

fn checked(settings: &Settings) -> (String, Json, bool) {
    match load(settings) {
        Ok(policies) => sound(policies.ids().len(), &policies.open(&settings.routes)),
        Err(errors) => unsound(&errors),
    }
}

fn plain(name: &str, text: String) -> (String, Json, bool) {
    let json = json!({ "good": true, name: text });
    (text, json, true)
}

fn load(settings: &Settings) -> Result<Authorize, Vec<PolicyError>> {
    let Settings { policies, routes, providers, token_issuers, .. } = settings;
    Authorize::load(policies.as_deref(), routes, providers, token_issuers)
}

fn sound(number: usize, open: &[Open]) -> (String, Json, bool) {
    let policies = if number == 1 { "policy" } else { "policies" };
    let title = format!("{number} {policies}, no mistake");
    let nothing = open.is_empty().then(|| "nothing is open to those who are not signed in".to_owned());
    let text = [title].into_iter().chain(nothing).chain(open::text(open)).collect::<Vec<_>>().join("\n");
    (text, json!({ "good": true, "policies": number, "errors": [], "open": open::json(open) }), true)
}

fn unsound(errors: &[PolicyError]) -> (String, Json, bool) {
    let each: Vec<_> = errors.iter().map(|error| json!({ "place": error.place, "message": error.message })).collect();
    (lines(errors), json!({ "good": false, "errors": each }), false)
}

fn lines(errors: &[PolicyError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_a_no_with_their_places() {
        let errors = Authorize::load(None, &[], &[], &[]).err().expect("there is no policy");
        let (text, json, good) = unsound(&errors);
        let message = "policies: no policy: nobody could be let in; name a directory, or write `allow` on a route";
        assert_eq!((text.as_str(), &json["good"], good), (message, &json!(false), false));
        assert_eq!(json["errors"][0]["place"], "policies");
    }

    #[test]
    fn good_policies_are_shown_and_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "@id(\"all\")\npermit (principal, action, resource);";
        std::fs::write(directory.path().join("all.cedar"), text).expect("written");
        let policies = Authorize::load(Some(directory.path()), &[], &[], &[]).expect("they are good");
        let place = directory.path().join("all.cedar");
        assert_eq!(policies.show(), format!("// {}:1:1\n{text}\n", place.display()));
        let (text, json, good) = sound(1, &policies.open(&[]));
        assert_eq!(text, "1 policy, no mistake\nnothing is open to those who are not signed in");
        assert_eq!((json, good), (json!({ "good": true, "policies": 1, "errors": [], "open": [] }), true));
    }
}
