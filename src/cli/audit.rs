//! `vestibule audit`: proves, searches and follows the trail. Reads the journal's files, whether the proxy runs or not.

mod export;
mod filter;
mod hints;
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
    text::counted,
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
        /// Hides `--public-key`.
        #[command(flatten)]
        no_key: NoKey,
    },
    /// Print the statements that make the tables of a PostgreSQL sink, for whoever owns them
    Schema {
        /// The schema of the tables
        #[arg(long, default_value = "vestibule", value_name = "NAME")]
        schema: String,
        /// The role that adds records and may do nothing else
        #[arg(long, value_name = "ROLE")]
        writer: Option<String>,
        /// Hides `--public-key`.
        #[command(flatten)]
        no_key: NoKey,
        /// Hides `--journal`.
        #[command(flatten)]
        no_journal: NoJournal,
    },
    /// List every field of events: where it stands, whether it is public or personal, and what it is
    Fields {
        /// Hides `--public-key`.
        #[command(flatten)]
        no_key: NoKey,
        /// Hides `--journal`.
        #[command(flatten)]
        no_journal: NoJournal,
    },
    /// Say what stands in the trail for an e-mail address or a client's address; exit 1 if nothing does
    Pseudonym {
        /// The address
        #[arg(value_name = "VALUE")]
        value: String,
        /// Hides `--journal`.
        #[command(flatten)]
        no_journal: NoJournal,
    },
    /// Show the last records, and those that come
    Tail(TailArgs),
}

/// Stands in place of `--public-key` where no key is used, so that the help does not offer it.
#[derive(Args, Clone, Debug)]
pub struct NoKey {
    #[arg(id = "public_key", long = "public-key", global = true, hide = true)]
    _unused: Option<PathBuf>,
}

/// The same for `--journal`.
#[derive(Args, Clone, Debug)]
pub struct NoJournal {
    #[arg(id = "journal", long = "journal", global = true, hide = true)]
    _unused: Option<PathBuf>,
}

/// What to show, and how long.
#[derive(Args, Clone, Debug)]
pub struct TailArgs {
    /// Go on with those that come
    #[arg(short, long)]
    follow: bool,
    /// How many to begin with
    #[arg(short = 'n', long, visible_alias = "limit", default_value_t = 10, value_name = "N")]
    lines: usize,
    #[command(flatten)]
    filter: FilterArgs,
}

/// What to look for, and how.
#[derive(Args, Clone, Debug)]
pub struct SearchArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Only the last N
    #[arg(short = 'n', long, value_name = "N", value_parser = filter::count, allow_negative_numbers = true)]
    limit: Option<usize>,
}

impl AuditCommand {
    /// Whether it looks at a journal.
    pub fn needs_journal(&self) -> bool {
        !matches!(self, Self::Schema { .. } | Self::Fields { .. } | Self::Pseudonym { .. })
    }

    /// Whether it looks at the public key, or at what is beside it.
    pub fn needs_key(&self) -> bool {
        !matches!(self, Self::Schema { .. } | Self::Fields { .. } | Self::Index { .. })
    }
}

impl SearchArgs {
    fn query(&self, keys: &Path, now: SystemTime) -> Result<Query, String> {
        personal::translated(Query { limit: self.limit, ..self.filter.query(now)? }, keys)
    }
}

impl TailArgs {
    fn run(&self, journal: &Path, keys: &Path, json: bool, out: &mut dyn Write) -> Result<bool, String> {
        let query = Query { limit: Some(self.lines), ..self.filter.query(SystemTime::now())? };
        search::tail(journal, &personal::translated(query, keys)?, self.follow, json, out).map(|()| true)
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
            let report = proved(journal, public_key, anchors.as_deref())?;
            output::say(&if json { report.json().to_string() } else { report.text() }, &mut out)?;
            Ok(report.holds())
        }
        AuditCommand::Search(args) => {
            let query = args.query(keys, SystemTime::now())?;
            let found = search::search(journal, &query, json, &mut out)?;
            if found.records == 0 {
                tell("no record");
                hints::give(&query, config);
            }
            unread(found.unread);
            Ok(found.records > 0)
        }
        AuditCommand::Export(arguments) => arguments.run(journal, keys, config, json),
        AuditCommand::Report(arguments) => arguments.run(journal, public_key, config, json),
        AuditCommand::Index { check, .. } => index(journal, *check, json, &mut out),
        AuditCommand::Schema { schema, writer, .. } => {
            statements(schema, writer.as_deref(), json, &mut out)?;
            Ok(true)
        }
        AuditCommand::Fields { .. } => personal::list_fields(json, &mut out),
        AuditCommand::Pseudonym { value, .. } => personal::pseudonym(value, keys, json, &mut out),
        AuditCommand::Tail(arguments) => arguments.run(journal, keys, json, &mut out),
    }
}

/// What is proved of the journal, also by the heads of a sink if there are some.
fn proved(journal: &Path, public_key: &Path, anchors: Option<&Path>) -> Result<verify::Report, String> {
    let key = PublicKey::read(public_key)?;
    let anchors = anchors.map(|file| Anchors::read(file, &key)).transpose()?;
    verify::verify_with(journal, &key, anchors.as_ref())
}

fn index(journal: &Path, check: bool, json: bool, out: &mut dyn Write) -> Result<bool, String> {
    let report = if check { indexes::check(journal)? } else { indexes::make(journal)? };
    let text = if json { serde_json::to_string(&report).map_err(|error| error.to_string())? } else { report.text() };
    output::say(&text, out)?;
    Ok(report.holds())
}

/// Says that some lines could not be read.
fn unread(lines: u64) {
    if lines > 0 {
        let lines = counted(
            lines,
            "line cannot be read, and nobody knows what it",
            "lines cannot be read, and nobody knows what they",
        );
        tell(&format!("{lines} said: see `audit verify`"));
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
    output::say(&if json { serde_json::json!({ "sql": text }).to_string() } else { text }, out)
}
