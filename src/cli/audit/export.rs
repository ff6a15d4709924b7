//! `vestibule audit export`: records for other programs.

use super::{filter::FilterArgs, hints, output, tell};
use crate::audit::export::{Form, export};
use clap::{Args, ValueEnum};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Which records, and how they are written.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// How they are written. Default: json
    #[arg(long, value_enum)]
    format: Option<FormArg>,
    /// Write to this file (0600), which is there whole or not at all. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// How records are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FormArg {
    /// As they stand in the journal, one a line
    Json,
    /// A table with a fixed set of columns
    Csv,
}

impl ExportArgs {
    /// Writes them; counts go to standard error. False: there is none.
    ///
    /// # Errors
    /// What cannot be read or written, or which argument is wrong.
    pub(super) fn run(&self, journal: &Path, keys: &Path, config: &Path, json: bool) -> Result<bool, String> {
        let form = match (self.format, json) {
            (Some(FormArg::Csv), true) => {
                return Err("`--json` and `--format csv` are two forms of one result: choose one".to_owned());
            }
            (Some(FormArg::Csv), false) => Form::Table,
            (Some(FormArg::Json) | None, _) => Form::Lines,
        };
        let query = super::personal::translated(self.filter.query(SystemTime::now())?, keys)?;
        let counts = output::to(self.output.as_deref(), |out| export(journal, &query, form, out))?;
        tell(&counts.text());
        if counts.events == 0 {
            hints::give(&query, config);
        }
        Ok(counts.events + counts.gaps + counts.recoveries + counts.removals > 0)
    }
}
