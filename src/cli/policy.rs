//! `vestibule policy`: the schema, the policies as they are meant, what is wrong with them, and what differs between two versions.

mod ask;
mod asker;
mod cases;
mod diff;
mod fmt;
pub(super) mod open;
mod snapshot;

use super::{Fault, check, print};
use crate::{
    authorize::{Authorize, PolicyError, schema_text, show_errors},
    config::{self, ConfigErrors, Settings},
};
use ask::{AccessArguments, ExplainArguments, WhoArguments};
use asker::AskerArguments;
use cases::TestArguments;
use clap::Subcommand;
use diff::DiffArguments;
use fmt::FmtArguments;
use serde_json::json;
use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

/// What to do with policies.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum PolicyCommand {
    /// Print the Cedar schema that policies are checked against, generated from the configuration.
    Schema,
    /// Print every policy as Cedar text, with the `allow` lists of routes expanded.
    Show,
    /// Check every policy and print all mistakes, what is odd, and what is open to those who are not signed in.
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
        PolicyCommand::Schema => say("schema", schema_text(&review()?.routes), as_json),
        PolicyCommand::Show => say("policies", shown(load(&review()?))?, as_json),
        PolicyCommand::Check => check::policies::run(file, as_json)?,
        PolicyCommand::Fmt(arguments) => arguments.run(review, as_json)?,
        PolicyCommand::Test(arguments) => cases::run(arguments, &review()?, as_json)?,
        PolicyCommand::Explain(arguments) => arguments.run(&asked(file, &arguments.asker)?, as_json)?,
        PolicyCommand::Access(arguments) => arguments.run(&asked(file, &arguments.asker)?, as_json)?,
        PolicyCommand::Who(arguments) => arguments.run(&review()?, as_json)?,
        PolicyCommand::Diff(arguments) => diff::run(arguments, file, as_json)?,
        PolicyCommand::Snapshot { and } => snapshot::run(&config::load_for_members(file)?, and, as_json)?,
    })
}

/// The configuration, with its secrets only where somebody may be asked who knows us by one.
fn asked(file: &Path, asker: &AskerArguments) -> Result<Settings, ConfigErrors> {
    if asker.has_token() { config::load(file) } else { config::load_for_review(file) }
}

fn say(name: &str, text: String, as_json: bool) -> bool {
    print(&if as_json { format!("{:#}", json!({ name: text })) } else { text });
    true
}

/// The policies of a configuration.
pub(in crate::cli) fn load(settings: &Settings) -> Result<Authorize, Vec<PolicyError>> {
    let Settings { policies, routes, providers, token_issuers, .. } = settings;
    Authorize::load(policies.as_deref(), routes, providers, token_issuers)
}

fn shown(loaded: Result<Authorize, Vec<PolicyError>>) -> Result<String, String> {
    loaded.map(|policies| policies.show()).map_err(|errors| mistakes(&errors))
}

/// Mistakes as they stand on standard error.
pub(in crate::cli) fn mistakes(errors: &[PolicyError]) -> String {
    show_errors(errors, io::stderr().is_terminal())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(directory: Option<&Path>) -> Result<Authorize, Vec<PolicyError>> {
        Authorize::load(directory, &[], &[], &[])
    }

    #[test]
    fn policies_that_are_missing_are_not_shown() {
        let message = "error: policies: no policy: nobody could be let in\n |\n = help: name a directory, or write `allow` on a route";
        assert_eq!(shown(load(None)), Err(message.into()));
    }

    #[test]
    fn good_policies_are_shown_with_their_places() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "@id(\"all\")\npermit (principal, action, resource);";
        std::fs::write(directory.path().join("all.cedar"), text).expect("written");
        let place = directory.path().join("all.cedar");
        assert_eq!(shown(load(Some(directory.path()))), Ok(format!("// {}:1:1\n{text}\n", place.display())));
    }
}
