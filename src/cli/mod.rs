//! Command line: arguments, exit codes, where results and errors go.
//!
//! Results stand on standard output, one error line (or the list of a configuration's mistakes) on standard error.
//! The exit code is 0 for yes, 1 for no, 2 for wrong usage or a fault.

pub mod audit;
mod check;
mod config;
mod init;
mod keys;
pub mod policy;
pub mod run;
mod sessions;
mod token;

use crate::{
    config::{ConfigErrors, Settings},
    demo,
};
use clap::{Parser, Subcommand};
use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Where the configuration is, if nobody says.
const USUAL: &str = "./vestibule.yaml";

/// An OIDC identity-aware reverse proxy: sign in once, decide every request by policy, prove it afterwards.
#[derive(Debug, Parser)]
#[command(name = "vestibule", version, disable_help_subcommand = true)]
struct Arguments {
    /// The configuration.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = USUAL,
        env = "VESTIBULE_CONFIG"
    )]
    config: PathBuf,
    /// Write results as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve.
    Run(NoJson),
    /// Try everything on loopback, with nothing to set up.
    Demo {
        /// The port of the portal on loopback.
        #[arg(long, default_value_t = 8080)]
        port: u16,
        #[command(flatten)]
        no_json: NoJson,
    },
    /// Check the configuration, the policies and the keys.
    Check {
        /// Ask also what the configuration names: providers, upstreams, the store, addresses, certificates.
        #[arg(long)]
        live: bool,
    },
    /// Write a configuration and starter policies: four questions, or flags.
    Init(Box<init::InitArguments>),
    /// The configuration's schema, and the configuration with all defaults.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
    },
    /// The keys that seal sessions and sign assertions.
    Keys {
        #[command(subcommand)]
        command: keys::KeysCommand,
    },
    /// How the running process is.
    Status,
    /// Who is signed in: list, revoke, lock.
    Sessions {
        #[command(subcommand)]
        command: Box<sessions::SessionsCommand>,
    },
    /// Look into one token of a CI job, a person or a service.
    Token {
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Print, check, test and lay out the policies, and ask them who may do what and why.
    Policy {
        #[command(subcommand)]
        command: policy::PolicyCommand,
    },
    /// Look into the audit trail.
    Audit {
        /// The journal's directory. Default: `journal` below `state` of the configuration.
        #[arg(long, global = true, value_name = "DIR", help_heading = "Where the trail is")]
        journal: Option<PathBuf>,
        /// The public key that the journal was signed for. Default: `audit.pub` below `keys` of the configuration.
        #[arg(long, global = true, value_name = "FILE", help_heading = "Where the trail is")]
        public_key: Option<PathBuf>,
        #[command(subcommand)]
        command: Box<audit::AuditCommand>,
    },
}

/// Stands in place of `--json` where there is none, so that the help does not offer it.
#[derive(Clone, Copy, Debug, clap::Args)]
struct NoJson {
    #[arg(id = "json", long = "json", global = true, hide = true)]
    _refused: bool,
}

/// Why a command gave neither yes nor no.
enum Fault {
    /// One line.
    Line(String),
    /// The configuration is wrong.
    Config(ConfigErrors),
}

impl From<String> for Fault {
    fn from(line: String) -> Self {
        Self::Line(line)
    }
}

impl From<ConfigErrors> for Fault {
    fn from(errors: ConfigErrors) -> Self {
        Self::Config(errors)
    }
}

/// Reads the arguments, runs the command and says how it went.
pub fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => verdict(arguments.run()),
        Err(usage) if usage.use_stderr() && std::env::args_os().any(|argument| token::is_token(&argument)) => {
            verdict(Err(token::WRITTEN.to_owned().into()))
        }
        Err(usage) => {
            // A closed output leaves nobody to tell.
            let _ = usage.print();
            ExitCode::from(if usage.use_stderr() { 2 } else { 0 })
        }
    }
}

impl Arguments {
    fn run(&self) -> Result<bool, Fault> {
        if self.json && matches!(self.command, Command::Run(_) | Command::Demo { .. }) {
            return Err(Fault::Line(
                "`--json` is for `init`, `check`, `config`, `keys`, `status`, `sessions`, `token`, `policy` and `audit`: this command has no JSON"
                    .to_owned(),
            ));
        }
        match &self.command {
            Command::Run(_) => {
                run::run(&self.config, None)?;
                Ok(true)
            }
            Command::Demo { port, .. } => {
                demo::run(*port)?;
                Ok(true)
            }
            Command::Check { live } => Ok(check::run(&self.config, self.json, *live)?),
            Command::Init(arguments) => {
                if self.config != Path::new(USUAL) {
                    return Err(Fault::Line(
                        "`init` writes `vestibule.yaml` into the directory that `--dir` names: leave out `-c` and `VESTIBULE_CONFIG`"
                            .to_owned(),
                    ));
                }
                Ok(init::run(arguments, self.json)?)
            }
            Command::Config { command } => config::run(command, &self.config, self.json),
            Command::Keys { command } => Ok(keys::run(command, &self.settings()?, self.json)?),
            Command::Status => Ok(keys::status(&self.settings()?, self.json)?),
            Command::Sessions { command } => Ok(sessions::run(command, &self.settings()?, self.json)?),
            Command::Token { command } => token::run(command, &self.settings()?, self.json),
            Command::Policy { command } => policy::run(command, &self.config, self.json),
            Command::Audit { journal, public_key, command } => {
                let nowhere = |needed: bool| (!needed).then_some(Path::new(""));
                let journal = journal.as_deref().or(nowhere(command.needs_journal()));
                let public_key = public_key.as_deref().or(nowhere(command.needs_key()));
                let (journal, public_key) = self.trail(journal, public_key)?;
                Ok(audit::run(command, &journal, &public_key, &self.config, self.json)?)
            }
        }
    }

    fn settings(&self) -> Result<Settings, ConfigErrors> {
        crate::config::load(&self.config)
    }

    /// Where the trail and its key are. The configuration is read only for what the arguments leave open.
    fn trail(&self, journal: Option<&Path>, public_key: Option<&Path>) -> Result<(PathBuf, PathBuf), Fault> {
        let (given, missing) = match (journal, public_key) {
            (Some(journal), Some(public_key)) => return Ok((journal.to_owned(), public_key.to_owned())),
            (Some(path), None) => (Some(path), "`--journal` was given without `--public-key FILE`"),
            (None, path) => (path, "`--public-key` was given without `--journal DIRECTORY`"),
        };
        if given.is_some_and(|path| path != "") && !self.config.exists() {
            let config = self.config.display();
            return Err(format!("{missing}, and there is no `{config}` that says where that is: give both").into());
        }
        let settings = crate::config::load_for_review(&self.config)?;
        let journal = journal.map_or_else(|| settings.state.join("journal"), Path::to_owned);
        let public_key = public_key.map_or_else(|| settings.keys.join("audit.pub"), Path::to_owned);
        Ok((journal, public_key))
    }
}

fn verdict(result: Result<bool, Fault>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(fault) => {
            complain(&fault);
            ExitCode::from(2)
        }
    }
}

fn complain(fault: &Fault) {
    let mut out = io::stderr().lock();
    let terminal = out.is_terminal();
    let text = match fault {
        Fault::Config(errors) => errors.render(terminal),
        // What comes from a configuration is rendered already.
        Fault::Line(line) if line.starts_with("error") => line.clone(),
        Fault::Line(line) => format!("error: {line}"),
    };
    // A closed output leaves nobody to tell.
    let _ = writeln!(out, "{}", if terminal { harmless(&text) } else { text });
}

/// Writes a result to standard output. Whoever closes it early wants no more, which is no fault.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let text = text.trim_end_matches('\n');
    let text = if out.is_terminal() { harmless(text) } else { text.to_owned() };
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// The same for a terminal: of what orders it about, in names and policies that others wrote, only line ends, tabs and colours stay.
fn harmless(text: &str) -> String {
    let colour = |rest: &str| {
        let orders = rest.strip_prefix("\u{1b}[")?;
        orders
            .trim_start_matches(|letter: char| letter.is_ascii_digit() || letter == ';')
            .starts_with('m')
            .then_some(())
    };
    let mark = |(at, letter): (usize, char)| match letter {
        '\n' | '\t' => letter,
        '\u{1b}' if colour(&text[at..]).is_some() => letter,
        letter if is_odd(letter) => '?',
        letter => letter,
    };
    text.char_indices().map(mark).collect()
}

/// A control character, or one that turns the direction of text.
fn is_odd(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What others wrote, fit for a terminal and cut to `length` characters.
fn clean(text: &str, length: usize) -> String {
    let plain = text.chars().map(|letter| if is_odd(letter) { '?' } else { letter });
    let mut cut: String = plain.clone().take(length).collect();
    if plain.count() > length {
        cut.pop();
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn what_others_wrote_orders_no_terminal_about() {
        for (text, expected) in [
            ("a\tb\n", "a\tb\n"),
            ("\u{1b}[1;31merror\u{1b}[0m", "\u{1b}[1;31merror\u{1b}[0m"),
            ("\u{1b}[2J\u{1b}]0;x\u{7}", "?[2J?]0;x?"),
            ("\u{1b}[1;\u{202e}m\r", "?[1;?m?"),
            ("\u{9b}2J\u{1b}", "?2J?"),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_configuration_can_be_named_before_and_after_the_command() {
        for line in [["vestibule", "-c", "a.yaml", "run"], ["vestibule", "run", "-c", "a.yaml"]] {
            let arguments = Arguments::try_parse_from(line).expect("valid arguments");
            assert_eq!(arguments.config, Path::new("a.yaml"));
        }
    }

    /// What has no JSON does not offer it, and says so when it is asked for all the same.
    #[test]
    fn json_is_offered_where_there_is_some() {
        for (line, offered) in [
            ("policy show", true),
            ("policy check", true),
            ("policy test", true),
            ("policy fmt", true),
            ("policy access ada", true),
            ("policy diff a b", true),
            ("policy snapshot", true),
            ("run", false),
            ("demo", false),
            ("check", true),
            ("keys list", true),
            ("token explain", true),
        ] {
            let words = || ["vestibule"].into_iter().chain(line.split(' '));
            let help = Arguments::try_parse_from(words().chain(["--help"])).expect_err("help").to_string();
            assert_eq!(help.contains("--json"), offered, "{help}");
            let asked = Arguments::try_parse_from(words().chain(["--json"])).expect("valid arguments");
            assert!(asked.json, "{line}");
            assert!(!Arguments::try_parse_from(words()).expect("valid arguments").json, "{line}");
        }
    }

    /// A command offers the places that it looks at, and no others; in scripts, both are taken everywhere.
    #[test]
    fn places_are_offered_where_they_are_used() {
        for (line, journal, key) in [
            ("search", true, true),
            ("tail", true, true),
            ("verify", true, true),
            ("index", true, false),
            ("pseudonym x", false, true),
            ("fields", false, false),
            ("schema", false, false),
        ] {
            let words = || ["vestibule", "audit"].into_iter().chain(line.split(' '));
            let help = Arguments::try_parse_from(words().chain(["--help"])).expect_err("help").to_string();
            assert_eq!((help.contains("--journal"), help.contains("--public-key")), (journal, key), "{help}");
            let asked = Arguments::try_parse_from(words().chain(["--journal", "j", "--public-key", "k"]));
            let Command::Audit { command, .. } = asked.expect(line).command else { panic!("{line}") };
            assert_eq!((command.needs_journal(), command.needs_key()), (journal, key), "{line}");
        }
        let help = Arguments::try_parse_from(["vestibule", "audit", "search", "--help"]).expect_err("help").to_string();
        let at = |part: &str| help.find(part).unwrap_or_else(|| panic!("`{part}` is not in\n{help}"));
        let parts = ["Which records:", "--user", "--class", "When:", "--since", "Where the trail is:", "--journal"];
        assert!(parts.map(at).is_sorted(), "{help}");
        assert!(at("Options:") < at("--limit"), "{help}");
    }

    /// A tail takes what a search takes.
    #[test]
    fn what_comes_can_be_looked_for() {
        let words = "vestibule audit tail -f --user ben --decision denied --route api --policy p --kind request --since today -n 0";
        assert!(Arguments::try_parse_from(words.split(' ')).is_ok());
    }

    /// What a line of the trail says of a request can be looked for, in whichever case.
    #[test]
    fn decisions_are_looked_for_in_the_words_that_are_printed() {
        for word in ["allowed", "Denied", "Blocked", "UNAUTHORIZED", "Rejected", "Error", "Access Revoked"] {
            let line = ["vestibule", "audit", "search", "--decision", word];
            assert!(Arguments::try_parse_from(line).is_ok(), "{word}");
        }
        assert!(Arguments::try_parse_from(["vestibule", "audit", "search", "--decision", "fine"]).is_err());
    }

    #[test]
    fn the_trail_is_read_without_a_configuration_if_both_places_are_named() {
        let arguments = Arguments::try_parse_from(["vestibule", "-c", "/nowhere/vestibule.yaml", "check"])
            .expect("valid arguments");
        let (journal, key) = (Path::new("/j"), Path::new("/k"));
        assert_eq!(arguments.trail(Some(journal), Some(key)).ok(), Some((journal.to_owned(), key.to_owned())));
        assert!(arguments.trail(Some(journal), None).is_err());
    }

    /// What a browser calls itself cannot act on an operator's terminal.
    #[test]
    fn what_others_wrote_is_harmless_on_a_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\u{202e}c", 40), "a?[2Jb?c");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("abcd", 4), "abcd");
    }
}
