//! Writes records of the journal for other programs: lines as they stand there, or a table.

use super::{
    json::visible,
    query::{Beside, Query, Wanted},
    search::pipe,
    time::rfc3339,
    told::{About, Event, Told},
    walk::{Order, Walk},
};
use crate::text::counted;
use serde::Serialize;
use std::{
    borrow::Cow,
    io::Write,
    ops::ControlFlow::{Break, Continue},
    path::Path,
};

/// The columns of the table. New ones are added at the end; none is renamed or moved.
pub const COLUMNS: [&str; 42] = [
    "time",
    "kind",
    "epoch",
    "seq",
    "class_uid",
    "activity",
    "decision",
    "disposition",
    "status",
    "reason",
    "detail",
    "user_id",
    "user_name",
    "principal",
    "session",
    "client",
    "method",
    "host",
    "path",
    "route",
    "policies",
    "outcome",
    "policy_digest",
    "phase",
    "request_id",
    "job",
    "project",
    "ref",
    "duration_ms",
    "request_bytes",
    "response_bytes",
    "object",
    "why",
    "because",
    "count",
    "since",
    "actor",
    "added",
    "removed",
    "changed",
    "pipeline",
    "credential",
];

/// How it is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Lines as they stand in the journal. Where nothing but a time is asked for, heads and openings of segments are among
    /// them, so that the chain can be followed.
    Lines,
    /// A table with [`COLUMNS`], comma-separated (RFC 4180).
    Table,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Gaps among the records.
    pub gaps: u64,
    /// Events that were lost in them.
    pub lost: u64,
    /// Recoveries among the records.
    pub recoveries: u64,
    /// Segments that retention removed, by these records.
    pub removals: u64,
    /// Heads and openings of segments.
    pub own: u64,
    /// Lines that nobody can read: they are left out.
    pub unread: u64,
}

impl Counts {
    /// One line.
    pub fn text(&self) -> String {
        let Self { events, gaps, lost, recoveries, removals, own, unread } = self;
        let mut text = counted(*events, "event", "events");
        if *own > 0 {
            text += &format!(", {}", counted(*own, "head or segment", "heads and segments"));
        }
        if *gaps > 0 {
            text += &format!(
                ", {} in which {} lost",
                counted(*gaps, "gap", "gaps"),
                counted(*lost, "event was", "events were")
            );
        }
        if *recoveries > 0 {
            text += &format!(", {} from a journal that was not whole", counted(*recoveries, "recovery", "recoveries"));
        }
        if *removals > 0 {
            text += &format!(", {} that retention removed", counted(*removals, "segment", "segments"));
        }
        if *unread > 0 {
            text += &format!(
                "; {} left out: see `audit verify`",
                counted(*unread, "line cannot be read and is", "lines cannot be read and are")
            );
        }
        text
    }

    fn count(&mut self, told: &Told<'_>) {
        match told.about() {
            None => self.own += 1,
            Some(About::Gap) => {
                self.gaps += 1;
                self.lost += told.gap.as_ref().map_or(0, |gap| gap.count);
            }
            Some(About::Recovery) => self.recoveries += 1,
            Some(About::Removal) => self.removals += 1,
            Some(_) => self.events += 1,
        }
    }
}

/// Writes what matches to `out`, the oldest first. Gaps, recoveries and what retention removed within the time match in any case, so that it is seen that something is missing.
///
/// # Errors
/// If the journal cannot be read or `out` not be written. A closed pipe is none.
pub fn export(directory: &Path, query: &Query, form: Form, out: &mut dyn Write) -> Result<Counts, String> {
    let beside = if form == Form::Lines && query.is_whole() { Beside::All } else { Beside::Gaps };
    let wanted = Wanted::of(query, beside);
    let walk = Walk { directory, wanted: &wanted, by_index: !query.no_index };
    let mut counts = Counts::default();
    let unread = match form {
        Form::Lines => lines(&walk, out, &mut counts)?,
        Form::Table => table(&walk, out, &mut counts)?,
    };
    counts.unread = unread;
    pipe(out.flush())?;
    Ok(counts)
}

fn lines(walk: &Walk<'_>, out: &mut dyn Write, counts: &mut Counts) -> Result<u64, String> {
    let mut fault = Ok(true);
    let unread = walk.lines(Order::Forward, &mut |line, told| {
        counts.count(told);
        fault = pipe(out.write_all(line).and_then(|()| out.write_all(b"\n")));
        if fault == Ok(true) { Continue(()) } else { Break(()) }
    })?;
    fault.map(|_| unread)
}

fn table(walk: &Walk<'_>, out: &mut dyn Write, counts: &mut Counts) -> Result<u64, String> {
    let mut out = cells(out);
    let mut fault = pipe(out.write_record(COLUMNS).map_err(Into::into));
    let unread = walk.lines(Order::Forward, &mut |_, told| {
        if fault != Ok(true) {
            return Break(());
        }
        counts.count(told);
        fault = pipe(out.write_record(row(told).iter().map(|cell| harmless(cell))).map_err(Into::into));
        Continue(())
    })?;
    fault?;
    pipe(out.flush()).map(|_| unread)
}

/// A table of which every cell is quoted: nothing in one ends it, whatever a spreadsheet takes for the end of a cell.
pub fn cells<W: Write>(out: W) -> csv::Writer<W> {
    csv::WriterBuilder::new().quote_style(csv::QuoteStyle::Always).from_writer(out)
}

type Row<'a> = [Cow<'a, str>; COLUMNS.len()];

fn row<'a>(told: &'a Told<'_>) -> Row<'a> {
    let mut row: Row<'a> = [const { Cow::Borrowed("") }; COLUMNS.len()];
    let mut set = |column: &str, cell: Cow<'a, str>| {
        if let Some(at) = COLUMNS.iter().position(|known| *known == column) {
            row[at] = cell;
        }
    };
    set("time", told.span().map_or_else(String::new, |(_, last)| rfc3339(last)).into());
    set("kind", told.about().map_or("", About::as_str).into());
    set("epoch", told.epoch.to_string().into());
    set("seq", told.seq.to_string().into());
    if let Some(event) = &told.event {
        event_cells(event, &mut set);
    }
    if let Some(gap) = &told.gap {
        set("count", gap.count.to_string().into());
        set("since", rfc3339(gap.first).into());
        set("detail", "events were lost".into());
    }
    if let Some(recovery) = &told.recovery {
        set("object", recovery.segment.as_str().into());
        set("detail", recovery.said().into());
    }
    if let Some(removal) = &told.removal {
        set("object", removal.segment.as_str().into());
        set("since", rfc3339(removal.from).into());
        set("detail", format!("records {} to {} went by retention", removal.first, removal.last).into());
        set("why", removal.why.as_str().into());
    }
    row
}

fn event_cells<'a>(event: &'a Event<'_>, set: &mut impl FnMut(&str, Cow<'a, str>)) {
    let number = |number: Option<u64>| Cow::from(number.map_or_else(String::new, |number| number.to_string()));
    let (person, unmapped) = (event.person(), &event.unmapped);
    let decision = match event.action_id {
        Some(1) => "Allowed",
        Some(2) => "Denied",
        Some(_) | None => "",
    };
    let policies: Vec<_> = event.authorizations.iter().map(|it| &*it.policy.uid).collect();
    for (column, cell) in [
        ("activity", &*event.activity_name),
        ("decision", decision),
        ("disposition", &event.disposition),
        ("reason", &event.status_code),
        ("detail", &event.status_detail),
        ("user_id", if person.uid_alt.is_empty() { &person.uid } else { &person.uid_alt }),
        ("user_name", &person.name),
        ("principal", &unmapped.principal),
        ("session", event.session()),
        ("client", event.client()),
        ("host", event.host()),
        ("route", &unmapped.route),
        ("outcome", &unmapped.outcome),
        ("policy_digest", &unmapped.policy_digest),
        ("phase", &unmapped.phase),
        ("request_id", &event.metadata.correlation_uid),
        ("object", &event.entity.name),
        ("why", if unmapped.why.is_empty() { &unmapped.cause } else { &unmapped.why }),
        ("because", &unmapped.reason),
    ] {
        set(column, cell.into());
    }
    if event.class_uid != 4002 {
        let by = &event.actor.user;
        set("actor", if by.uid_alt.is_empty() { &*by.name } else { &*by.uid_alt }.into());
    }
    for (column, list) in [("added", &unmapped.added), ("removed", &unmapped.removed), ("changed", &unmapped.changed)] {
        set(column, list.told(usize::MAX).into());
    }
    let credential = &unmapped.credential;
    if !credential.name.is_empty() {
        set("credential", format!("{}:{}", credential.name, credential.uid).into());
    }
    set("class_uid", event.class_uid.to_string().into());
    set("policies", policies.join(" ").into());
    set("status", number(event.http_response.as_ref().map(|it| it.code.into())));
    set("duration_ms", number(event.duration));
    set("response_bytes", number(event.http_response.as_ref().map(|it| it.length)));
    set("count", number(event.count));
    if let Some(request) = &event.http_request {
        set("method", event.method().into());
        set("path", (&*request.url.path).into());
        set("request_bytes", number(Some(request.length)));
    }
    if let Some(job) = &unmapped.job {
        set("job", number(Some(job.id)));
        set("pipeline", number(job.pipeline));
        set("project", (&*job.project).into());
        set("ref", (&*job.git_ref).into());
    }
}

/// A cell as a spreadsheet may open it: no control, no bidi control, and nothing that is taken for a formula.
pub fn harmless(cell: &str) -> String {
    let shown = visible(cell);
    match cell.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => format!("'{shown}"),
        Some(_) | None => shown.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_formula_or_orders_a_terminal_about() {
        for (cell, shown) in [
            ("=HYPERLINK(\"x\")", "'=HYPERLINK(\"x\")"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\\u{9}=1"),
            ("\r=1", "'\\u{d}=1"),
            ("＝1", "'＝1"),
            ("a\u{202e}b\u{1b}[2J", "a\\u{202e}b\\u{1b}[2J"),
            ("plain, \"quoted\"", "plain, \"quoted\""),
            ("", ""),
        ] {
            assert_eq!(harmless(cell), shown, "{cell:?}");
        }
    }

    /// Where `;` ends a cell, as in most of Europe, a path such as `/x;=1+1` is still one.
    #[test]
    fn no_cell_ends_before_its_quote() {
        let mut out = cells(Vec::new());
        out.write_record(["/x;=1+1", "\"", ""]).expect("written");
        assert_eq!(out.into_inner().expect("written"), b"\"/x;=1+1\",\"\"\"\",\"\"\n");
    }

    #[test]
    fn each_column_is_there_once_and_every_cell_has_a_column() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(COLUMNS.iter().all(|column| seen.insert(column)));
        let event = Event {
            http_request: Some(Default::default()),
            unmapped: super::super::told::Unmapped { job: Some(Default::default()), ..Default::default() },
            ..Event::default()
        };
        event_cells(&event, &mut |column, _| assert!(COLUMNS.contains(&column), "{column}"));
    }
}
