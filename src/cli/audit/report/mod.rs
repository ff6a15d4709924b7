//! `vestibule audit report`: who used what, by which policies, and which rights nobody used; for reviews of access.

mod render;
mod rights;
mod sections;

use super::{filter::range, output, proved};
use crate::{
    audit::{
        parse_span,
        tally::{Range, Tally, tally},
        verify,
    },
    cli::policy,
    config,
    moment::{at, millis, to_the_second},
    text::counted,
};
use clap::{Args, ValueEnum};
use render::{Form, Section};
use rights::{Rights, Since};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Which range, whose rights, and how it is written.
#[derive(Args, Clone, Debug)]
pub struct ReportArgs {
    /// Not before this: a day (`2026-08-01`), a time (`2026-08-01 06:38`) or how long ago (`90d`). Days and times are of UTC, unless an
    /// offset is named
    #[arg(long, visible_alias = "since", value_name = "TIME", default_value = "90d")]
    from: String,
    /// Before this, in the same words: a day is where it begins. Default: now
    #[arg(long, visible_alias = "until", value_name = "TIME")]
    to: Option<String>,
    /// Whose rights are looked at: a file that `policy snapshot` wrote, or any other with people, jobs and services. May be
    /// repeated
    #[arg(long, value_name = "FILE")]
    population: Vec<PathBuf>,
    /// A right that nobody used for this long before the end of the range counts as unused
    #[arg(long, value_name = "SPAN", default_value = "90d", value_parser = span)]
    unused_for: Duration,
    /// How it is written. Default: text
    #[arg(long, value_enum)]
    format: Option<FormArg>,
    /// Write to this file (0600), which is there whole or not at all. Default: standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do not verify the trail first; the report says so
    #[arg(long, conflicts_with = "anchors")]
    no_verify: bool,
    /// A file with the signed heads that a sink holds: the trail must agree with them, as in `audit verify`
    #[arg(long, value_name = "FILE")]
    anchors: Option<PathBuf>,
}

/// How a report is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FormArg {
    /// Tables for people
    Text,
    /// One object
    Json,
    /// One table with a fixed set of columns
    Csv,
    /// Tables for a ticket or a merge request
    Markdown,
}

fn span(text: &str) -> Result<Duration, String> {
    let span = parse_span(text).filter(|span| !span.is_zero());
    span.ok_or_else(|| "expected a span such as `90d`".to_owned())
}

/// Everything that is told.
pub(super) struct Report {
    from: u64,
    to: u64,
    /// Since when rights and policies count as unused.
    since: Since,
    /// What was proved of the trail; `None`: it was not verified.
    proof: Option<verify::Report>,
    /// What the range covers, in sentences.
    covers: Vec<String>,
    sections: Vec<Section>,
    /// What the report takes for granted, in sentences.
    assumed: Vec<String>,
}

impl ReportArgs {
    /// Writes the report. False: the trail does not hold.
    ///
    /// # Errors
    /// What cannot be read or written, or which argument is wrong.
    pub(super) fn run(&self, journal: &Path, public_key: &Path, config: &Path, json: bool) -> Result<bool, String> {
        let form = match (self.format, json) {
            (None | Some(FormArg::Json), true) | (Some(FormArg::Json), false) => Form::Json,
            (Some(_), true) => {
                return Err("`--json` and `--format` name two forms of one result: choose one".to_owned());
            }
            (None | Some(FormArg::Text), false) => Form::Text,
            (Some(FormArg::Csv), false) => Form::Csv,
            (Some(FormArg::Markdown), false) => Form::Markdown,
        };
        let now = SystemTime::now();
        let (from, to) = range(Some(&self.from), self.to.as_deref(), now)?;
        let (from, to) = (from.unwrap_or(0), to.unwrap_or_else(|| millis(now)));
        if from >= to {
            return Err(format!("nothing is between `{}` and now: the first must be before the second", self.from));
        }
        let used_since = to.saturating_sub(u64::try_from(self.unused_for.as_millis()).unwrap_or(u64::MAX));
        let rights = self.rights(config)?;
        let proof = match self.no_verify {
            true => None,
            false => Some(proved(journal, public_key, self.anchors.as_deref())?),
        };
        let tally = tally(journal, Range { from, to, used_since })?;
        let report = Report::of(&tally, Range { from, to, used_since }, proof, &rights);
        output::to(self.output.as_deref(), |out| report.write(form, out))?;
        Ok(report.proof.as_ref().is_none_or(verify::Report::holds))
    }

    /// The policies and people of now. Without a configuration there are none, which is an error only where people are named.
    fn rights(&self, config: &Path) -> Result<Result<Rights, String>, String> {
        let rights = config::load_for_review(config)
            .map_err(|errors| errors.render(false))
            .and_then(|settings| Rights::read(settings, &self.population));
        match rights {
            Err(fault) if !self.population.is_empty() => Err(fault),
            rights => Ok(rights.map_err(|_| format!("`{}` and its policies cannot be read", config.display()))),
        }
    }
}

impl Report {
    fn of(tally: &Tally, range: Range, proof: Option<verify::Report>, rights: &Result<Rights, String>) -> Self {
        let (mut sections, since) = (sections::of(tally), Since::of(tally, range.used_since));
        let mut assumed = vec![
            "A request counts once, by the record that says what was decided; its other stages do not count."
                .to_owned(),
            "Names are logins as they were last; people are told apart by provider and subject.".to_owned(),
        ];
        match rights {
            Ok(rights) => {
                sections.extend(rights.sections(tally, &since));
                assumed.extend(rights.assumed(&since));
            }
            Err(cause) => assumed.push(format!("Rights and policies that nobody used are not told: {cause}.")),
        }
        let covers = covers(tally, range, proof.as_ref().is_none_or(verify::Report::holds));
        Self { from: range.from, to: range.to, since, proof, covers, sections, assumed }
    }
}

/// What the range covers, and what of it is missing.
fn covers(tally: &Tally, range: Range, holds: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if !holds {
        lines.push("what follows rests on records that do not hold".to_owned());
    }
    lines.push(format!("{} in the range", counted(tally.records, "record is", "records are")));
    let wanted = range.from.min(range.used_since);
    match tally.begins {
        Some(begins) if begins > wanted => lines.push(format!(
            "the journal begins at {}: what happened before is not in this report",
            to_the_second(at(begins))
        )),
        Some(_) => {}
        None => {
            lines.push("the journal does not say when it begins: what happened before is not in this report".to_owned())
        }
    }
    match tally.lost {
        0 if tally.unclosed > 0 || !holds => {}
        0 => lines.push("no event is known to be lost".to_owned()),
        lost => lines.push(format!(
            "{} lost, in the gaps below: the counts of this report lack what they were",
            counted(lost, "event was", "events were")
        )),
    }
    if tally.unclosed > 0 {
        lines.push(format!(
            "nobody closed the journal {}: what was not written by then is lost, see below",
            counted(tally.unclosed, "time", "times")
        ));
    }
    if tally.unread > 0 {
        lines.push(format!(
            "{} not in this report",
            counted(tally.unread, "line cannot be read and is", "lines cannot be read and are")
        ));
    }
    lines
}

/// Loads the policies of a configuration.
fn load(settings: &config::Settings) -> Result<crate::authorize::Authorize, String> {
    policy::load(settings).map_err(|errors| policy::mistakes(&errors))
}

#[cfg(test)]
mod tests;
