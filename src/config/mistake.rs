//! What is wrong with a configuration, and how that is shown: every mistake with its place, the line and what to do.

use super::{
    mask,
    tree::{Place, below},
};
use crate::text::Mistakes;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use std::{collections::HashMap, fmt, ops::Range, path::Path};

/// One mistake. Nothing in it is secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    /// The key's full path, such as `routes[0].allow[1]`; empty for the document as a whole.
    pub key: String,
    /// Line and column, both from 1; none for what has no place in the file.
    pub position: Option<(usize, usize)>,
    /// What is wrong.
    pub message: String,
    /// What was expected in its place.
    pub expected: String,
    /// What to do.
    pub help: Option<String>,
    span: Option<Range<usize>>,
}

/// Every mistake of one configuration, in the order of the file.
#[derive(Clone, Debug)]
pub struct ConfigErrors {
    file: String,
    /// The text with its secrets masked.
    source: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// One mistake that is not about a place in the file.
    pub(super) fn about(file: &Path, message: String, help: &str) -> Self {
        let error = ConfigError {
            key: String::new(),
            position: None,
            message,
            expected: String::new(),
            help: Some(help.to_owned()),
            span: None,
        };
        Self { file: file.display().to_string(), source: String::new(), errors: vec![error] }
    }

    /// The mistakes, in the order of the file.
    pub fn all(&self) -> &[ConfigError] {
        &self.errors
    }

    /// All mistakes as people read them, in colour if `colour` says so.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let shown: Vec<_> = self.errors.iter().map(|error| renderer.render(&[self.group(error)])).collect();
        shown.join("\n\n")
    }

    /// Where the first one is and what it is, on one line, and how many more there are.
    pub fn mistakes(&self) -> Mistakes {
        let first = self.errors.first().map_or_else(String::new, |error| match error.position {
            Some((line, column)) => format!("{}:{line}:{column}: {}", self.file, error.message),
            None => error.message.clone(),
        });
        Mistakes::new(self.to_string(), &first, self.errors.len())
    }

    fn group<'a>(&'a self, error: &'a ConfigError) -> Group<'a> {
        let title = Level::ERROR.primary_title(error.message.as_str());
        let group = match &error.span {
            Some(span) => title.element(
                Snippet::source(self.source.as_str())
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(span.clone()).label(error.expected.as_str())),
            ),
            None => Group::with_title(title),
        };
        group.elements(error.help.iter().map(|help| Level::HELP.message(help.as_str())))
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for ConfigErrors {}

/// A mistake before its place is looked up.
#[derive(Debug)]
pub(super) struct Mistake {
    key: String,
    at_key: bool,
    message: String,
    expected: String,
    help: Option<String>,
}

impl Mistake {
    /// A mistake in the value of `key`.
    pub(super) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), at_key: false, message: message.into(), expected: String::new(), help: None }
    }

    /// The same, shown at the key instead of its value.
    pub(super) fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    /// The same, with what was expected.
    pub(super) fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = expected.into();
        self
    }

    /// The same, with what to do.
    pub(super) fn help(mut self, help: impl Into<Option<String>>) -> Self {
        self.help = help.into();
        self
    }
}

/// Gathers mistakes and warnings about one text.
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    places: HashMap<String, Place>,
    /// Keys that were misspelt, as they were meant.
    meant: Vec<String>,
    errors: Vec<ConfigError>,
    warnings: Vec<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a Path, text: &'a str, places: HashMap<String, Place>) -> Self {
        Self { file, text, places, meant: Vec::new(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// Adds a mistake, unless the same key or one above it has one already: one cause, one message.
    pub(super) fn add(&mut self, mistake: Mistake) {
        if self.knows(&mistake.key) {
            return;
        }
        let span = self.span(&mistake.key, mistake.at_key);
        self.add_at(span, mistake);
    }

    /// Adds a mistake at a place of its own.
    pub(super) fn add_at(&mut self, span: Option<Range<usize>>, mistake: Mistake) {
        let position = span.as_ref().map(|span| position(self.text, span.start));
        let Mistake { key, message, expected, help, .. } = mistake;
        self.errors.push(ConfigError { key, position, message, expected, help, span });
    }

    /// Remembers that `key` is there under a misspelt name, so that nobody misses it.
    pub(super) fn meant(&mut self, key: String) {
        self.meant.push(key);
    }

    /// Adds what is odd but not wrong.
    pub(super) fn warn(&mut self, key: &str, message: &str) {
        let place = self.span(key, false).map_or_else(String::new, |span| {
            let (line, column) = position(self.text, span.start);
            format!(":{line}:{column}")
        });
        self.warnings.push(format!("{}{place}: {message}", self.file.display()));
    }

    /// True if the value of `key` is known to be wrong, or its name is misspelt.
    pub(super) fn knows(&self, key: &str) -> bool {
        let wrong = self.errors.iter().map(|error| &error.key).filter(|wrong| !wrong.is_empty());
        wrong.chain(&self.meant).any(|wrong| {
            key.strip_prefix(wrong.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The line of `key`, from 1.
    pub(super) fn line(&self, key: &str) -> usize {
        self.span(key, false).map_or(1, |span| position(self.text, span.start).0)
    }

    /// The mistakes in order of position, or the warnings if there are none.
    pub(super) fn finish(mut self) -> Result<Vec<String>, ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(|error| error.span.as_ref().map_or(usize::MAX, |span| span.start));
        Err(ConfigErrors {
            file: self.file.display().to_string(),
            source: mask::secrets(self.text),
            errors: self.errors,
        })
    }

    /// Where `key` stands, or the nearest key above it that is written.
    fn span(&self, key: &str, at_key: bool) -> Option<Range<usize>> {
        let mut path = key;
        loop {
            if let Some(place) = self.places.get(path) {
                let whole = at_key || path != key;
                return Some(if whole { place.key.clone() } else { place.value.clone() });
            }
            if path.is_empty() {
                return None;
            }
            path = &path[..path.rfind(['.', '[']).unwrap_or(0)];
        }
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// What is longer is cut in messages, in characters.
const LONGEST: usize = 80;

/// A value as a message shows it: in backticks, at most 80 characters, nothing invisible, no password of a URL.
pub(super) fn quote(text: &str) -> String {
    let shown: String = mask::user_information(text).chars().take(LONGEST).flat_map(visible).collect();
    let more = if text.chars().count() > LONGEST { "…" } else { "" };
    format!("`{shown}{more}`")
}

fn visible(c: char) -> Box<dyn Iterator<Item = char>> {
    let invisible = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    if invisible { Box::new(c.escape_default()) } else { Box::new(std::iter::once(c)) }
}

/// Words as a sentence lists them: `a`, `b` or `c`.
pub(super) fn either<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_ref())).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The word of `known` that `word` was probably meant to be: at most a third of it is different.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let close = |known: &'a str| (crate::text::distance(word, known), known);
    let (steps, best) = known.into_iter().map(close).min()?;
    (steps <= best.chars().count().max(3) / 3).then_some(best)
}

/// The mistake of a key that is not there; `about` says what belongs in it.
pub(super) fn missing(path: &str, key: &str, about: &str) -> Mistake {
    let full = below(path, key);
    let mut about = about.trim_end_matches('.').chars();
    let help = about.next().map(|first| first.to_lowercase().chain(about).collect::<String>());
    Mistake::new(full.clone(), format!("`{full}` is missing"))
        .expected(format!("expected a key `{key}` here"))
        .help(help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_nearest_word_only_if_it_is_near() {
        let known = ["allow", "audience", "labels"];
        assert_eq!(nearest("alow", known), Some("allow"));
        assert_eq!(nearest("lables", known), Some("labels"));
        assert_eq!(nearest("upstream", known), None);
        assert_eq!(nearest("x", known), None);
    }

    #[test]
    fn quotes_without_passwords_and_control_characters() {
        assert_eq!(quote("https://a:b@host/"), "`https://***@host/`");
        assert_eq!(quote("a\u{1b}[31m"), "`a\\u{1b}[31m`");
    }
}
