//! `vestibule policy`: the schema, the policies as they are meant, and what is wrong with them.

mod cases;

use super::print;
use crate::{
    authorize::{Authorize, PolicyError, schema_text},
    config::Settings,
};
use cases::TestArguments;
use clap::Subcommand;
use serde_json::json;

/// What to do with policies.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum PolicyCommand {
    /// Print the Cedar schema that policies are checked against, generated from the configuration.
    Schema,
    /// Print every policy as Cedar text, with the `allow` lists of routes expanded.
    Show,
    /// Check every policy and print all mistakes.
    Check,
    /// Run the cases in `tests` below the policies: who asks for what, and how it is decided.
    Test(TestArguments),
}

/// Runs one command, with the result on standard output; `false` if policies have mistakes, or a case fails.
///
/// # Errors
/// A sentence, if there are no policies to show or no cases to run.
pub fn run(command: &PolicyCommand, settings: &Settings, as_json: bool) -> Result<bool, String> {
    let (name, (text, good)) = match command {
        PolicyCommand::Test(arguments) => return cases::run(arguments, settings, as_json),
        PolicyCommand::Schema => ("schema", (schema_text(&settings.routes), true)),
        PolicyCommand::Show => ("policies", (load(settings).map_err(|errors| lines(&errors))?.show(), true)),
        PolicyCommand::Check => ("said", checked(&load(settings))),
    };
    print(&if as_json { format!("{:#}", json!({ "good": good, name: text })) } else { text });
    Ok(good)
}

fn load(settings: &Settings) -> Result<Authorize, Vec<PolicyError>> {
    let Settings { policies, routes, providers, token_issuers, .. } = settings;
    Authorize::load(policies.as_deref(), routes, providers, token_issuers)
}

fn checked(loaded: &Result<Authorize, Vec<PolicyError>>) -> (String, bool) {
    match loaded {
        Ok(policies) => match policies.ids().len() {
            1 => ("1 policy, no mistake\n".to_owned(), true),
            several => (format!("{several} policies, no mistake\n"), true),
        },
        Err(errors) => (lines(errors) + "\n", false),
    }
}

fn lines(errors: &[PolicyError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn load(directory: Option<&Path>) -> Result<Authorize, Vec<PolicyError>> {
        Authorize::load(directory, &[], &[], &[])
    }

    #[test]
    fn without_policies_it_says_what_is_missing() {
        let message = "policies: no policy: nobody could be let in; name a directory, or write `allow` on a route";
        assert_eq!(checked(&load(None)), (format!("{message}\n"), false));
    }

    #[test]
    fn good_policies_are_shown_and_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "@id(\"all\")\npermit (principal, action, resource);";
        std::fs::write(directory.path().join("all.cedar"), text).expect("written");
        let loaded = load(Some(directory.path()));
        let place = directory.path().join("all.cedar");
        assert_eq!(checked(&loaded), ("1 policy, no mistake\n".into(), true));
        let shown = loaded.expect("they are good").show();
        assert_eq!(shown, format!("// {}:1:1\n{text}\n", place.display()));
    }
}
