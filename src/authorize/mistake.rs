//! What is wrong with policies, and how that is shown: the place, its line with a caret, and what to do.

use super::sources::Source;
use crate::text::Mistakes;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value as Json, json};
use std::{fmt, ops::Range};

/// A piece of a source, on one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Spot {
    source: Source,
    span: Range<usize>,
}

impl Spot {
    /// The bytes of `span`, as far as they stand on its first line; where it is empty, the word that begins there.
    pub(super) fn new(source: &Source, span: Range<usize>) -> Self {
        let text = &source.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = if span.end > start { text.floor_char_boundary(span.end.min(text.len())) } else { text.len() };
        let line = text[start..end].lines().next().unwrap_or_default().trim_end();
        let is_word = |c: char| c == '@' || c == '_' || c.is_alphanumeric();
        let length = if span.end > start { line.len() } else { line.find(|c: char| !is_word(c)).unwrap_or(line.len()) };
        Self { source: source.clone(), span: start..start + length }
    }

    /// So many bytes, that many behind where this begins.
    pub(super) fn behind(&self, distance: usize, length: usize) -> Self {
        let start = self.span.start + distance;
        Self::new(&self.source, start..start + length)
    }

    /// `portal.cedar:12:3`, or the configuration key that the source comes from.
    pub(super) fn place(&self) -> String {
        self.source.place(self.span.start)
    }

    /// The line, with the piece underlined and labelled. None where the text is not the author's.
    fn snippet<'a>(&'a self, kind: AnnotationKind, label: &'a str) -> Option<Snippet<'a, Annotation<'a>>> {
        if self.source.expanded {
            return None;
        }
        let (number, line) = self.source.line(self.span.start);
        let span = self.span.start - line.start..self.span.end - line.start;
        let snippet = Snippet::source(&self.source.text[line]).line_start(number).path(&*self.source.name);
        Some(snippet.annotation(kind.span(span).label(label)))
    }
}

/// What is wrong with a policy, and where. Also what is odd about one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PolicyError {
    /// `policies/portal.cedar:12:3`, or the configuration key it comes from.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What was expected there; perhaps empty.
    pub expected: String,
    /// What to do.
    pub help: Option<String>,
    spot: Option<Box<Spot>>,
    /// Another place that it has to do with, and what stands there.
    other: Option<Box<(Spot, String)>>,
}

impl PolicyError {
    /// A mistake at a place of which no line can be shown.
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        let (place, message) = (place.into(), message.into());
        Self { place, message, expected: String::new(), help: None, spot: None, other: None }
    }

    /// A mistake in the text of a policy.
    pub(super) fn at(spot: Spot, message: impl Into<String>) -> Self {
        Self { place: spot.place(), spot: Some(Box::new(spot)), ..Self::new("", message) }
    }

    /// The same, with what was expected.
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// The same, with what to do, if there is anything to say.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into()).filter(|help| !help.is_empty());
        self
    }

    /// The same, with another place that it has to do with.
    pub(super) fn beside(mut self, spot: Spot, what: impl Into<String>) -> Self {
        self.other = Some(Box::new((spot, what.into())));
        self
    }

    /// As JSON: `place`, `line`, `column`, `message`, `expected`, `help`, and `other` with its place.
    pub fn json(&self) -> Json {
        let position = self.spot.as_ref().filter(|spot| !spot.source.expanded);
        let position = position.map(|spot| spot.source.position(spot.span.start));
        let other = self.other.as_deref().map(|(spot, what)| json!({ "place": spot.place(), "message": what }));
        json!({
            "place": self.place,
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
            "message": self.message,
            "expected": self.expected,
            "help": self.help,
            "other": other,
        })
    }

    fn groups<'a>(&'a self, level: Level<'a>, bare: &'a str) -> Vec<Group<'a>> {
        let shown = self.spot.as_ref().and_then(|spot| spot.snippet(AnnotationKind::Primary, &self.expected));
        let first = match shown {
            Some(snippet) => level.primary_title(self.message.as_str()).element(snippet),
            None => Group::with_title(level.primary_title(bare)),
        };
        let help = self.help.iter().map(|help| Level::HELP.message(help.as_str()));
        let mut groups = vec![first.elements(help)];
        if let Some((spot, what)) = self.other.as_deref() {
            let title = Level::NOTE.secondary_title(what.as_str());
            groups.push(match spot.snippet(AnnotationKind::Context, "") {
                Some(snippet) => title.element(snippet),
                None => Group::with_title(title),
            });
        }
        groups
    }

    /// Message and expectation behind the place, for what has no line to show.
    fn bare(&self) -> String {
        let expected = if self.expected.is_empty() { String::new() } else { format!("; {}", self.expected) };
        format!("{}: {}{expected}", self.place, self.message)
    }
}

/// One line: `portal.cedar:12:3: what is wrong; what was expected; what to do`.
impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.bare())?;
        self.other.as_deref().iter().try_for_each(|(spot, _)| write!(f, "; see {}", spot.place()))?;
        self.help.iter().try_for_each(|help| write!(f, "; {help}"))
    }
}

impl std::error::Error for PolicyError {}

/// All mistakes as people read them, in colour if `colour` says so.
pub fn show_errors(errors: &[PolicyError], colour: bool) -> String {
    render(errors, Level::ERROR, colour)
}

/// The same, and the first one on one line.
pub fn mistakes(errors: &[PolicyError]) -> Mistakes {
    let first = errors.first().map_or_else(String::new, |error| format!("{}: {}", error.place, error.message));
    Mistakes::new(show_errors(errors, false), &first, errors.len())
}

/// All that is odd, in the same way.
pub fn show_warnings(warnings: &[PolicyError], colour: bool) -> String {
    render(warnings, Level::WARNING, colour)
}

fn render(all: &[PolicyError], level: Level<'static>, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let shown = |error: &PolicyError| renderer.render(&error.groups(level.clone(), &error.bare()));
    all.iter().map(shown).collect::<Vec<_>>().join("\n\n")
}
