//! `vestibule token explain`: which check a token passes or fails, and who it is of.
//!
//! The checks are those of a request, made by the same code. The token comes by standard input or in a file, never by the
//! command line, and no part of it is ever written.

mod advice;
mod principal;
mod report;
#[cfg(test)]
mod tests;

use super::{Fault, print};
use crate::{
    config::{Settings, TokenIssuerSettings, TokenKind},
    moment,
    oidc::{Issuer, Look, Way, bare, issuer_of},
    principal::Bearer,
    text::distance,
};
use clap::{Args, Subcommand};
use report::Report;
use secrecy::{ExposeSecret, SecretString};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    future::Future,
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};
use zeroize::Zeroizing;

/// Said where a token stands on the command line.
pub(super) const WRITTEN: &str = "a token stands on the command line, where everybody on this machine can read it: do not \
                                  use that one again, and give tokens by standard input or in a file, as in \
                                  `vestibule token explain < FILE`";

/// More than any token has, in bytes.
const MOST: u64 = 1 << 20;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Say which check a token passes or fails, and who it is of. Exit code 1: it is refused.
    ///
    /// The token is read from standard input, with or without `Bearer` before it, and is never written anywhere.
    Explain(ExplainArguments),
}

/// Which token, and how it is looked at.
#[derive(Args, Debug)]
pub(super) struct ExplainArguments {
    /// Read the token from this file in place of standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The token issuer that it is to be of. Default: the one that it names itself.
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Ask nobody: keys are those of `jwks_file`, or those that a running process has kept below `state`.
    #[arg(long)]
    offline: bool,
    /// Judge a signed token as of this time, such as `2026-11-23T06:38:14Z`, or so long ago, such as `1h`. Default: now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Where no token may stand.
    #[arg(hide = true)]
    written: Vec<OsString>,
}

/// Does it. False: the token is refused.
pub(super) fn run(command: &TokenCommand, settings: &Settings, json: bool) -> Result<bool, Fault> {
    let TokenCommand::Explain(arguments) = command;
    if arguments.has_token() {
        return Err(WRITTEN.to_owned().into());
    }
    let token = read(arguments.file.as_deref())?;
    let report = arguments.report(&token, settings)?;
    print(&if json { format!("{:#}", report.json()) } else { report.text() });
    match report.unknown() {
        None => Ok(report.good()),
        Some(cause) => Err(format!("whether the token is good cannot be said: {cause}").into()),
    }
}

/// Whose token comes by standard input, once it has passed every check.
///
/// # Errors
/// A sentence: there is none, it is refused, or nobody can say.
pub(super) fn verified(settings: &Settings, offline: bool) -> Result<Bearer, String> {
    let arguments = ExplainArguments { file: None, issuer: None, offline, at: None, written: Vec::new() };
    let report = arguments.report(&read(None)?, settings)?;
    match report.explanation.map(|explanation| explanation.result) {
        Some(Ok(good)) => Ok(good.bearer),
        Some(Err(fault)) => Err(format!("{fault}; no policy is asked, and `vestibule token explain` says more")),
        None => {
            Err("the token is of no issuer of `token_issuers`: no policy is asked, and `vestibule token explain` says \
                     more"
                .to_owned())
        }
    }
}

/// There is a JWT in this argument. Messages about wrong usage would repeat it.
pub(super) fn is_token(argument: &OsStr) -> bool {
    let part_of_one = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    let mut words = argument.to_str().unwrap_or_default().split(|letter| !part_of_one(letter));
    words.any(|word| word.starts_with("ey") && word.len() >= 20 && word.matches('.').count() >= 2)
}

/// The token: what stands in `file` or comes by standard input, without what stands around it.
fn read(file: Option<&Path>) -> Result<SecretString, String> {
    let (bytes, from) = match file {
        Some(path) => {
            let from = format!("`{}`", path.display());
            let bytes = File::open(path).and_then(all).map_err(|error| format!("cannot read {from}: {error}"))?;
            (bytes, from)
        }
        None if io::stdin().is_terminal() => {
            return Err("the token is read from standard input, and a terminal would show it and cut it off: write \
                        `vestibule token explain < FILE`, or `--file FILE`"
                .to_owned());
        }
        None => {
            let bytes = all(io::stdin().lock()).map_err(|error| format!("cannot read standard input: {error}"))?;
            (bytes, "standard input".to_owned())
        }
    };
    if bytes.len() as u64 > MOST {
        return Err(format!("{from} has more than {MOST} bytes, which no token has"));
    }
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    match bare(text.trim_start()).trim() {
        "" => Err(format!("{from} is empty: a token is expected there, and nothing else")),
        token => Ok(SecretString::from(token)),
    }
}

fn all(from: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(MOST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl ExplainArguments {
    fn has_token(&self) -> bool {
        let texts = [&self.issuer, &self.at].into_iter().flatten().map(OsStr::new);
        let files = self.file.iter().map(|file| file.as_os_str());
        !self.written.is_empty() || texts.chain(files).any(is_token)
    }

    fn report<'s>(&self, token: &SecretString, settings: &'s Settings) -> Result<Report<'s>, String> {
        let text = token.expose_secret();
        let made = |it: &Arc<TokenIssuerSettings>| self.made(it, &settings.state);
        let issuer = match &self.issuer {
            Some(name) => Some(made(named(settings, name)?)),
            None => issuer_of(text, &with_tokens(settings).map(made).collect::<Vec<_>>()).cloned(),
        };
        let at = self.time(issuer.as_deref(), text)?;
        let explanation = issuer.as_ref().map(|it| within_runtime(it.explain(token, at, self.offline))).transpose()?;
        let issuer = issuer.map(|issuer| issuer.settings.clone());
        let broken = text.contains(char::is_whitespace);
        Ok(Report { settings, look: Look::of(text), broken, issuer, at, offline: self.offline, explanation })
    }

    /// Online, nothing is taken from what a process has kept, and nothing is left there that it could not read.
    fn made(&self, issuer: &Arc<TokenIssuerSettings>, state: &Path) -> Arc<Issuer> {
        match self.offline {
            true => Issuer::new(issuer.clone(), &state.join("token_issuers")),
            false => Issuer::passing(issuer.clone()),
        }
    }

    fn time(&self, issuer: Option<&Issuer>, token: &str) -> Result<SystemTime, String> {
        let now = SystemTime::now();
        let Some(text) = &self.at else { return Ok(now) };
        if issuer.is_some_and(|issuer| issuer.way(token) != Way::Signed) {
            return Err("`--at` is for signed tokens: the issuer of this one says how it stands now".to_owned());
        }
        moment::parse_moment(text, now).map(moment::at).map_err(|cause| format!("`--at`: {cause}"))
    }
}

/// Those whose callers come with tokens.
fn with_tokens(settings: &Settings) -> impl Iterator<Item = &Arc<TokenIssuerSettings>> {
    settings.token_issuers.iter().filter(|issuer| !matches!(issuer.kind, TokenKind::Certificate))
}

fn named<'s>(settings: &'s Settings, name: &str) -> Result<&'s Arc<TokenIssuerSettings>, String> {
    if let Some(found) = with_tokens(settings).find(|issuer| issuer.name.as_str() == name) {
        return Ok(found);
    }
    let mut names: Vec<_> = with_tokens(settings).map(|issuer| issuer.name.as_str()).collect();
    names.sort_by_key(|known| distance(name, known));
    match names.is_empty() {
        true => Err("`--issuer`: no one of `token_issuers` gives tokens".to_owned()),
        false => Err(format!("`--issuer`: none with tokens is named `{name}`: there is `{}`", names.join("`, `"))),
    }
}

fn within_runtime<T>(work: impl Future<Output = T>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot ask anything: {error}"))?;
    let done = runtime.block_on(work);
    runtime.shutdown_background(); // a name that is still being resolved is not waited for
    Ok(done)
}
