//! A report as text, Markdown, a table for spreadsheets, or an object.

use super::Report;
use crate::{
    audit::{
        export::{cells, harmless},
        search::pipe,
        verify,
    },
    cli::clean,
    moment::{at, to_the_second},
};
use serde_json::{Map, Value, json};
use std::io::Write;

/// Cells are cut to so many characters where people read them.
const WIDEST: usize = 120;

/// Every column that a section may have, in the order of the one table; new ones are added at the end.
const COLUMNS: [&str; 21] = [
    "time",
    "who",
    "name",
    "principal",
    "project",
    "route",
    "policy",
    "allowed",
    "refused",
    "ended",
    "users",
    "count",
    "added",
    "removed",
    "first",
    "last",
    "routes",
    "what",
    "object",
    "actions",
    "detail",
];

/// How a report is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Form {
    Text,
    Json,
    Csv,
    Markdown,
}

/// One table.
pub(super) struct Section {
    /// Its name for programs.
    pub(super) key: &'static str,
    pub(super) title: String,
    /// Some of [`COLUMNS`].
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
    /// What has to be said about it.
    pub(super) notes: Vec<String>,
}

/// One cell.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Cell {
    Number(u64),
    /// In milliseconds since 1970.
    Time(u64),
    Text(String),
}

impl Cell {
    /// A text.
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// A moment, in milliseconds since 1970; empty for none.
    pub(super) fn time(millis: u64) -> Self {
        if millis == 0 { Self::text("") } else { Self::Time(millis) }
    }

    fn plain(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Time(millis) => to_the_second(at(*millis)),
            Self::Text(text) => text.clone(),
        }
    }

    fn shown(&self) -> String {
        match &*clean(&self.plain(), WIDEST) {
            "" => "-".to_owned(),
            shown => shown.to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Number(number) => json!(number),
            Self::Time(_) | Self::Text(_) => json!(self.plain()),
        }
    }

    /// What is no number or time may be in anybody's words, and stands as code, of which nothing is made.
    fn markdown(&self) -> String {
        match self {
            Self::Text(text) if !text.is_empty() => code(&self.shown()),
            Self::Number(_) | Self::Time(_) | Self::Text(_) => self.shown(),
        }
    }
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) fn write(&self, form: Form, out: &mut dyn Write) -> Result<(), String> {
        let result = match form {
            Form::Text => self.text(out),
            Form::Json => {
                serde_json::to_writer_pretty(&mut *out, &self.json()).map_err(Into::into).and_then(|()| writeln!(out))
            }
            Form::Csv => self.csv(out),
            Form::Markdown => self.markdown(out),
        };
        pipe(result.and_then(|()| out.flush())).map(drop)
    }

    fn title(&self) -> String {
        let [from, to] = [self.from, self.to].map(|moment| to_the_second(at(moment)));
        let flaw = match self.proof.as_ref().map(verify::Report::verdict) {
            Some("broken") => ": THE TRAIL IS BROKEN",
            Some("nothing_proved") => ": NOTHING IS PROVED",
            Some(_) | None => "",
        };
        format!("Access report, {from} to {to}{flaw}")
    }

    /// What is known about the trail itself.
    fn trail(&self) -> Vec<String> {
        let proof = match &self.proof {
            None => "NOT VERIFIED: whether the trail is as it was written was not looked at".to_owned(),
            Some(report) => report.text(),
        };
        proof.lines().map(str::to_owned).chain(self.covers.iter().cloned()).collect()
    }

    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}\n\nThe trail", self.title())?;
        for line in self.trail() {
            writeln!(out, "  {}", clean(&line, 2000))?;
        }
        for section in &self.sections {
            writeln!(out, "\n{}", section.title)?;
            section.lines(|line| writeln!(out, "  {line}"))?;
            for note in &section.notes {
                writeln!(out, "  ({note})")?;
            }
        }
        writeln!(out, "\nAssumed")?;
        self.assumed.iter().try_for_each(|line| writeln!(out, "  {line}"))
    }

    fn markdown(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let trail: Vec<_> = self.trail().iter().map(|line| clean(line, 2000)).collect();
        let fence = fence(&trail.join("\n"), 3);
        writeln!(out, "# {}\n\n## The trail\n\n{fence}text\n{}\n{fence}", self.title(), trail.join("\n"))?;
        for section in &self.sections {
            writeln!(out, "\n## {}\n", section.title)?;
            section.markdown(out)?;
            for note in &section.notes {
                writeln!(out, "\n{}", escaped(note))?;
            }
        }
        writeln!(out, "\n## Assumed\n")?;
        self.assumed.iter().try_for_each(|line| writeln!(out, "- {}", escaped(line)))
    }

    fn csv(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let mut table = cells(out);
        table.write_record(["section"].into_iter().chain(COLUMNS))?;
        let told = |key: &str, lines: &[String], table: &mut csv::Writer<&mut dyn Write>| {
            lines.iter().try_for_each(|line| {
                let cells =
                    COLUMNS.iter().map(|column| if *column == "detail" { harmless(line) } else { String::new() });
                table.write_record([key.to_owned()].into_iter().chain(cells))
            })
        };
        told("trail", &self.trail(), &mut table)?;
        for section in &self.sections {
            for row in &section.rows {
                let cell = |column: &&str| {
                    let at = section.columns.iter().position(|known| known == column);
                    at.and_then(|at| row.get(at)).map_or_else(String::new, |cell| harmless(&cell.plain()))
                };
                table.write_record([section.key.to_owned()].into_iter().chain(COLUMNS.iter().map(cell)))?;
            }
            told(
                "note",
                &section.notes.iter().map(|note| format!("{}: {note}", section.key)).collect::<Vec<_>>(),
                &mut table,
            )?;
        }
        told("assumed", &self.assumed, &mut table)?;
        table.flush()
    }

    fn json(&self) -> Value {
        let sections: Map<_, _> =
            self.sections.iter().map(|section| (section.key.to_owned(), section.json())).collect();
        json!({
            "from": to_the_second(at(self.from)),
            "to": to_the_second(at(self.to)),
            "verified": self.proof.as_ref().map(verify::Report::holds),
            "proof": self.proof.as_ref().map(verify::Report::json),
            "covers": self.covers,
            "unused_since": self.since.json(),
            "sections": sections,
            "assumed": self.assumed,
        })
    }
}

impl Section {
    /// The columns that have something in them.
    fn filled(&self) -> Vec<usize> {
        let filled = |at: &usize| self.rows.iter().any(|row| row.get(*at).is_some_and(|cell| *cell != Cell::text("")));
        (0..self.columns.len()).filter(filled).collect()
    }

    /// Writes a line for each row, in columns.
    fn lines(&self, mut write: impl FnMut(&str) -> std::io::Result<()>) -> std::io::Result<()> {
        if self.rows.is_empty() {
            return write("none");
        }
        let filled = self.filled();
        let heads: Vec<_> = filled.iter().map(|at| self.columns[*at].to_uppercase()).collect();
        let cells = |row: &Vec<Cell>| filled.iter().map(|at| row[*at].shown()).collect::<Vec<_>>();
        let mut widths: Vec<_> = heads.iter().map(|head| head.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(cells(row)) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &[String]| {
            let all = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            all.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        write(&line(&heads))?;
        self.rows.iter().try_for_each(|row| write(&line(&cells(row))))
    }

    fn markdown(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "None.");
        }
        let filled = self.filled();
        let heads: Vec<_> = filled.iter().map(|at| self.columns[*at]).collect();
        writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()))?;
        for row in &self.rows {
            let cells: Vec<_> = filled.iter().map(|at| row[*at].markdown()).collect();
            writeln!(out, "| {} |", cells.join(" | "))?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let row = |row: &Vec<Cell>| -> Value {
            let cells = self.columns.iter().zip(row).map(|(column, cell)| ((*column).to_owned(), cell.json()));
            Value::Object(cells.collect())
        };
        json!({ "title": self.title, "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes })
    }
}

/// A text as code in a table of Markdown: no link, mention, formula or picture is made of it, whatever shows it.
fn code(text: &str) -> String {
    // `\|` is the one way to have a bar in a table; a backslash of the text before one would undo it.
    let bars = text.replace("\\|", "\\u{5c}|").replace('|', "\\|");
    let fence = fence(&bars, 1);
    let pad = if bars.starts_with('`') || bars.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{bars}{pad}{fence}")
}

/// So many backticks that the text has no such run of them, and not fewer than `least`.
fn fence(text: &str, least: usize) -> String {
    let longest = text.split(|letter| letter != '`').map(str::len).max().unwrap_or_default();
    "`".repeat(least.max(longest + 1))
}

/// A text of ours that Markdown shows as it is.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if matches!(letter, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '~' | '!' | '&' | '@') {
            shown.push('\\');
        }
        shown.push(letter);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_no_markdown() {
        assert_eq!(escaped("a|b_c <b> [x](y) @all `z`"), "a\\|b\\_c \\<b\\> \\[x\\](y) \\@all \\`z\\`");
        for (text, expected) in [
            ("https://evil.test www.evil.test", "`https://evil.test www.evil.test`"),
            ("%1 $`x`$ :tada: @all", "``%1 $`x`$ :tada: @all``"),
            ("`a``b`", "``` `a``b` ```"),
            ("a|b", "`a\\|b`"),
            ("a\\|b\\", "`a\\u{5c}\\|b\\`"),
        ] {
            assert_eq!(Cell::text(text).markdown(), expected, "{text}");
        }
        assert_eq!([Cell::text(""), Cell::Number(3)].map(|cell| cell.markdown()), ["-", "3"]);
    }

    #[test]
    fn a_cell_is_one_line_without_controls() {
        assert_eq!(Cell::text("a\n\u{202e}b\u{1b}[2J").shown(), "a??b?[2J");
        assert_eq!(
            (Cell::text("").shown(), Cell::time(0).shown(), Cell::Number(0).shown()),
            ("-".into(), "-".into(), "0".into())
        );
    }
}
