//! `vestibule audit`: proves, searches and follows the trail. Reads the journal's files, whether the proxy runs or not.

use crate::audit::{
    Anchors, PublicKey, parse_moment,
    search::{self, Query, Verdict},
    verify,
};
use clap::{Args, Subcommand, ValueEnum};
use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// What to do with the trail.
#[derive(Clone, Debug, Subcommand)]
pub enum AuditCommand {
    /// Prove that no record was edited, dropped, moved or inserted; exit 1 if one was
    Verify {
        /// A file with the signed heads that a sink holds (lines of the journal): they must agree, so that what a sink has
        /// seen can neither be cut off nor written anew
        #[arg(long, value_name = "FILE")]
        anchors: Option<PathBuf>,
    },
    /// Find records, the newest last; exit 1 if there are none
    Search(SearchArgs),
    /// Show the last records
    Tail {
        /// Go on with those that come
        #[arg(short, long)]
        follow: bool,
        /// How many to begin with
        #[arg(short = 'n', long, default_value_t = 10, value_name = "N")]
        lines: usize,
    },
}

/// What to look for; everything that is given must hold.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    /// A person: subject, login, or provider:subject
    #[arg(long)]
    user: Option<String>,
    /// What the path begins with
    #[arg(long, value_name = "PREFIX")]
    path: Option<String>,
    /// The route's name
    #[arg(long)]
    route: Option<String>,
    /// What was decided
    #[arg(long, value_enum, ignore_case = true)]
    decision: Option<VerdictArg>,
    /// The id of a policy that decided
    #[arg(long, value_name = "ID")]
    policy: Option<String>,
    /// The request id
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Only what the shadow policies would have decided otherwise
    #[arg(long)]
    differs: bool,
    /// Not before this time (`2026-11-23T06:38:14Z`), or this long ago (`1h`)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time, or this long ago
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only the last N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum VerdictArg {
    /// The request was allowed
    Allowed,
    /// The request was denied, for whatever reason
    Denied,
    /// By a policy
    Blocked,
    /// Nobody known asked
    Unauthorized,
    /// It could not be read, or was too much
    Rejected,
    /// Something failed
    Error,
    /// The right ended while it was going on
    #[value(alias = "access revoked")]
    Revoked,
}

impl SearchArgs {
    fn query(&self, now: SystemTime) -> Result<Query, String> {
        let moment = |text: &Option<String>| text.as_deref().map(|text| parse_moment(text, now)).transpose();
        Ok(Query {
            user: self.user.clone(),
            path: self.path.clone(),
            route: self.route.clone(),
            verdict: self.decision.map(|verdict| match verdict {
                VerdictArg::Allowed => Verdict::Allowed,
                VerdictArg::Denied => Verdict::Denied,
                VerdictArg::Blocked => Verdict::Said("Blocked"),
                VerdictArg::Unauthorized => Verdict::Said("Unauthorized"),
                VerdictArg::Rejected => Verdict::Said("Rejected"),
                VerdictArg::Error => Verdict::Said("Error"),
                VerdictArg::Revoked => Verdict::Said("Access Revoked"),
            }),
            policy: self.policy.clone(),
            request: self.request.clone(),
            differs: self.differs,
            since: moment(&self.since)?,
            until: moment(&self.until)?,
            limit: self.limit,
        })
    }
}

/// Runs one command on the journal in the directory `journal`. The answer is whether the exit code is 0: for `verify` that
/// the trail holds, for `search` that something was found. With `json`, `verify` writes its report and the others write
/// records as they stand in the journal, one a line.
///
/// # Errors
/// One line that says what cannot be read, or which argument is wrong.
pub fn run(command: &AuditCommand, journal: &Path, public_key: &Path, json: bool) -> Result<bool, String> {
    let mut out = BufWriter::new(io::stdout().lock());
    match command {
        AuditCommand::Verify { anchors } => {
            let key = PublicKey::read(public_key)?;
            let anchors = anchors.as_deref().map(|file| Anchors::read(file, &key)).transpose()?;
            let report = verify::verify_with(journal, &key, anchors.as_ref())?;
            let text =
                if json { serde_json::to_string(&report).map_err(|error| error.to_string())? } else { report.text() };
            writeln!(out, "{text}")
                .and_then(|()| out.flush())
                .map_err(|error| format!("cannot write the result: {error}"))?;
            Ok(report.holds())
        }
        AuditCommand::Search(args) => {
            let found = search::search(journal, &args.query(SystemTime::now())?, json, &mut out)? > 0;
            if !found {
                let _ = writeln!(io::stderr(), "no record"); // a closed output leaves nobody to tell
            }
            Ok(found)
        }
        AuditCommand::Tail { follow, lines } => search::tail(journal, *lines, *follow, json, &mut out).map(|()| true),
    }
}
