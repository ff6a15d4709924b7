//! `vestibule policy`: the schema, the policies as they are meant, and what is wrong with them.

use crate::route::Route;
use crate::{
    authorize::{Authorize, PolicyError, schema_text},
    config::{ProviderSettings, Settings, TokenIssuerSettings},
};
use clap::Subcommand;
use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

/// What to do with policies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Subcommand)]
pub enum PolicyCommand {
    /// Print the Cedar schema that policies are checked against, generated from the configuration.
    Schema,
    /// Print every policy as Cedar text, with the `allow` lists of routes expanded.
    Show,
    /// Check every policy and print all mistakes.
    Check,
}

/// Runs one command, with the result on standard output; `false` if policies have mistakes.
///
/// # Errors
/// A sentence, if there are no policies to show or standard output is closed.
pub fn run(command: &PolicyCommand, settings: &Settings) -> Result<bool, String> {
    let (text, good) = answer(
        *command,
        settings.policies.as_deref(),
        (&settings.routes, &settings.providers, &settings.token_issuers),
    )?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))?;
    Ok(good)
}

fn answer(
    command: PolicyCommand,
    directory: Option<&Path>,
    known: (&[Route], &[Arc<ProviderSettings>], &[Arc<TokenIssuerSettings>]),
) -> Result<(String, bool), String> {
    let (routes, providers, issuers) = known;
    let load = || Authorize::load(directory, routes, providers, issuers);
    match command {
        PolicyCommand::Schema => Ok((schema_text(routes), true)),
        PolicyCommand::Show => load().map(|policies| (policies.show(), true)).map_err(|errors| lines(&errors)),
        PolicyCommand::Check => Ok(match load() {
            Ok(policies) => match policies.ids().len() {
                1 => ("1 policy, no mistake\n".to_owned(), true),
                several => (format!("{several} policies, no mistake\n"), true),
            },
            Err(errors) => (lines(&errors) + "\n", false),
        }),
    }
}

fn lines(errors: &[PolicyError]) -> String {
    let lines: Vec<_> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_needs_no_policies_and_the_others_say_what_is_missing() {
        let ask = |command| answer(command, None, (&[], &[], &[]));
        assert_eq!(ask(PolicyCommand::Schema), Ok((schema_text(&[]), true)));
        let message = "policies: no policy: nobody could be let in; name a directory, or write `allow` on a route";
        assert_eq!(ask(PolicyCommand::Show), Err(message.into()));
        assert_eq!(ask(PolicyCommand::Check), Ok((format!("{message}\n"), false)));
    }

    #[test]
    fn good_policies_are_shown_and_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let text = "@id(\"all\")\npermit (principal, action, resource);";
        std::fs::write(directory.path().join("all.cedar"), text).expect("written");
        let ask = |command| answer(command, Some(directory.path()), (&[], &[], &[]));
        let place = directory.path().join("all.cedar");
        assert_eq!(ask(PolicyCommand::Show), Ok((format!("// {}:1:1\n{text}\n", place.display()), true)));
        assert_eq!(ask(PolicyCommand::Check), Ok(("1 policy, no mistake\n".into(), true)));
    }
}
