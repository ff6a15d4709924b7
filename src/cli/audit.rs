//! `vestibule audit`: proves, searches and follows the trail. Reads the journal's files, whether the proxy runs or not.

mod export;
mod filter;
mod output;
mod personal;
mod report;

use crate::{
    audit::{
        Anchors, PublicKey, indexes,
        search::{self, Query},
        ship, verify,
    },
    config::is_schema,
};
use clap::{Args, Subcommand};
use export::ExportArgs;
use filter::FilterArgs;
use report::ReportArgs;
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
    /// Write records for other programs, the oldest first; exit 1 if there are none
    Export(ExportArgs),
    /// Say who used what, by which policies, and which rights nobody used; exit 1 if the trail does not hold
    Report(ReportArgs),
    /// Make the indexes that searches use, where they are missing
    Index {
        /// Make them all anew and compare: exit 1 if one does not say what its segment says
        #[arg(long)]
        check: bool,
    },
    /// Print the statements that make the tables of a PostgreSQL sink, for whoever owns them
    Schema {
        /// The schema of the tables
        #[arg(long, default_value = "vestibule", value_name = "NAME")]
        schema: String,
        /// The role that adds records and may do nothing else
        #[arg(long, value_name = "ROLE")]
        writer: Option<String>,
    },
    /// List every field of events: where it stands, whether it is public or personal, and what it is
    Fields,
    /// Say what stands in the trail for an e-mail address or a client's address; exit 1 if nothing does
    Pseudonym {
        /// The address
        #[arg(value_name = "VALUE")]
        value: String,
    },
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

/// What to look for, and how.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the last N
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Read every line of the journal, not only what its indexes lead to
    #[arg(long)]
    no_index: bool,
}

impl AuditCommand {
    /// It says something about this version, whatever journal there is.
    pub fn needs_no_journal(&self) -> bool {
        matches!(self, Self::Schema { .. } | Self::Fields)
    }
}

impl SearchArgs {
    fn query(&self, keys: &Path, now: SystemTime) -> Result<Query, String> {
        let query = Query { limit: self.limit, no_index: self.no_index, ..self.filter.query(now)? };
        personal::translated(query, keys)
    }
}

/// Runs one command on the journal in the directory `journal`; a report asks the policies of `config` too. The answer is whether the exit code is 0: for `verify` that
/// the trail holds, for `search` that something was found. With `json`, `verify` writes its report and the others write
/// records as they stand in the journal, one a line. The key for pseudonyms is looked for beside the public key.
///
/// # Errors
/// One line that says what cannot be read, or which argument is wrong.
pub fn run(
    command: &AuditCommand,
    journal: &Path,
    public_key: &Path,
    config: &Path,
    json: bool,
) -> Result<bool, String> {
    let mut out = BufWriter::new(io::stdout().lock());
    let keys = public_key.parent().unwrap_or(Path::new("."));
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
            let found = search::search(journal, &args.query(keys, SystemTime::now())?, json, &mut out)?;
            if found.records == 0 {
                tell("no record");
            }
            unread(found.unread);
            Ok(found.records > 0)
        }
        AuditCommand::Export(arguments) => arguments.run(journal, keys, json),
        AuditCommand::Report(arguments) => arguments.run(journal, public_key, config, json),
        AuditCommand::Index { check } => index(journal, *check, json, &mut out),
        AuditCommand::Schema { schema, writer } => {
            statements(schema, writer.as_deref(), json, &mut out)?;
            Ok(true)
        }
        AuditCommand::Fields => personal::list_fields(json, &mut out),
        AuditCommand::Pseudonym { value } => personal::pseudonym(value, keys, json, &mut out),
        AuditCommand::Tail { follow, lines } => search::tail(journal, *lines, *follow, json, &mut out).map(|()| true),
    }
}

fn index(journal: &Path, check: bool, json: bool, out: &mut dyn Write) -> Result<bool, String> {
    let report = if check { indexes::check(journal)? } else { indexes::make(journal)? };
    let text = if json { serde_json::to_string(&report).map_err(|error| error.to_string())? } else { report.text() };
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("cannot write the result: {error}"))?;
    Ok(report.holds())
}

/// Says that some lines could not be read.
fn unread(lines: u64) {
    if lines > 0 {
        tell(&format!("{lines} lines cannot be read, and nobody knows what they said: see `audit verify`"));
    }
}

/// Says something beside the result. A closed output leaves nobody to tell.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints the statements that make the tables of a PostgreSQL sink.
fn statements(schema: &str, writer: Option<&str>, json: bool, out: &mut dyn Write) -> Result<(), String> {
    if !is_schema(schema) {
        return Err(format!(
            "`--schema` is {schema:?}, expected the name of a schema: lower-case letters, digits and `_`, at most 63"
        ));
    }
    let text = ship::schema(schema, writer);
    let text = if json { serde_json::json!({ "sql": text }).to_string() + "\n" } else { text };
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| format!("cannot write the result: {error}"))
}
