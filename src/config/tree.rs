//! A YAML document as a tree in which every key and value knows its place in the text.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::{
    Location, Spanned,
    options::{DuplicateKeyPolicy, NonFiniteFloatPolicy},
};
use std::{collections::HashMap, fmt, ops::Range};

/// One value of the document.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its bytes in the text, on one line.
    pub(super) span: Range<usize>,
    /// What it is.
    pub(super) value: Value,
}

/// What stands at a place.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Nothing, `null` or `~`.
    Empty,
    /// A word, number or text.
    Scalar(Scalar),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order of the text, doubles included.
    Map(Vec<Entry>),
}

/// A word, number or text, as it was written.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    /// Without quotes.
    pub(super) text: String,
    /// What YAML takes it for.
    pub(super) kind: Kind,
}

/// What YAML takes a scalar for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Boolean(bool),
    /// Any number.
    Number,
    /// All else.
    Text,
}

/// One key of a mapping, with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// Where a key and its value stand.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The key, or the value where it has none (an entry of a list).
    pub(super) key: Range<usize>,
    /// The value.
    pub(super) value: Range<usize>,
}

/// Why a text is not YAML.
#[derive(Debug)]
pub(super) struct Broken {
    /// In the parser's words.
    pub(super) message: String,
    /// Where, if that is known.
    pub(super) span: Option<Range<usize>>,
}

/// No configuration is nested deeper.
const DEEPEST: usize = 24;

/// Reads a text as YAML. Doubled keys are kept, so that all of them can be reported.
pub(super) fn parse(text: &str) -> Result<Node, Broken> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: DEEPEST, max_nodes: nodes(text), max_events: 4 * nodes(text) },
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let span = error.location().map(|place| span(text, place));
        Broken { message: wording(&error.without_snippet().to_string()), span }
    })?;
    Ok(node(text, raw))
}

/// What a text may come to once its aliases are filled in: the most that is written without any, for each value has a byte and
/// something that ends it; and what a small file with aliases may need.
fn nodes(text: &str) -> usize {
    (text.len() / 2).max(250_000)
}

/// Every place of the tree under its full path, such as `routes[0].allow[1]`; of doubles the first.
pub(super) fn places(root: &Node) -> HashMap<String, Place> {
    let mut places = HashMap::new();
    collect(root, root.span.clone(), String::new(), &mut places);
    places
}

/// The path of `key` below `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn collect(node: &Node, key: Range<usize>, path: String, places: &mut HashMap<String, Place>) {
    match &node.value {
        Value::List(nodes) => {
            for (index, node) in nodes.iter().enumerate() {
                collect(node, node.span.clone(), format!("{path}[{index}]"), places);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                let path = below(&path, &entry.key);
                if !places.contains_key(&path) {
                    collect(&entry.node, entry.key_span.clone(), path, places);
                }
            }
        }
        Value::Empty | Value::Scalar(_) => {}
    }
    places.insert(path, Place { key, value: node.span.clone() });
}

/// Where the parser speaks of itself, and what it means.
const WORDINGS: [(&str, &str); 5] = [
    ("null into string", "a key cannot be empty"),
    ("expected string scalar", "a key is one word, not a list or mapping"),
    ("budget breached: Depth", "nested too deeply"),
    ("budget breached", "too large"),
    ("weak recursion types", "an alias stands inside of what it refers to"),
];

/// The parser's words without the position, which is shown beside them.
fn wording(message: &str) -> String {
    if let Some((_, plain)) = WORDINGS.iter().find(|(theirs, _)| message.contains(theirs)) {
        return (*plain).to_owned();
    }
    let rest = message.split_once(": ").filter(|(place, _)| place.starts_with("line "));
    let rest = rest.map_or(message, |(_, rest)| rest).lines().next().unwrap_or_default();
    let rest = rest.split("; use ").next().unwrap_or_default();
    rest.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The bytes of a location: inside the text, on one line, on whole characters.
fn span(text: &str, place: Location) -> Range<usize> {
    let start = place.span().byte_offset().and_then(|at| usize::try_from(at).ok());
    let start = start.unwrap_or_else(|| byte(text, place));
    let length = place.span().byte_len().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    let start = text.floor_char_boundary(start.min(text.len()));
    let end = text.floor_char_boundary(start.saturating_add(length).min(text.len()));
    let line = text[start..end].lines().next().unwrap_or_default().trim_end();
    start..start + line.len()
}

/// The byte at the line and column of a location: some errors have no more.
fn byte(text: &str, place: Location) -> usize {
    let line = usize::try_from(place.line()).unwrap_or(1).max(1);
    let column = usize::try_from(place.column()).unwrap_or(1).max(1);
    let before: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let line = text[before..].lines().next().unwrap_or_default();
    before + line.char_indices().nth(column - 1).map_or(line.len(), |(at, _)| at)
}

/// A value as the parser hands it over.
enum Raw {
    Empty,
    Boolean(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(text: &str, raw: Spanned<Raw>) -> Node {
    let known = if raw.referenced.line() == 0 { raw.defined } else { raw.referenced };
    let at = span(text, known);
    // What YAML takes for a word or number stands in one plain piece, so the text has it as it was written.
    let written = || text[span(text, raw.defined)].to_owned();
    let value = match raw.value {
        Raw::Empty => Value::Empty,
        Raw::Boolean(is) => Value::Scalar(Scalar { text: written(), kind: Kind::Boolean(is) }),
        Raw::Number => Value::Scalar(Scalar { text: written(), kind: Kind::Number }),
        Raw::Text(text) => Value::Scalar(Scalar { text, kind: Kind::Text }),
        Raw::List(list) => Value::List(list.into_iter().map(|raw| node(text, raw)).collect()),
        Raw::Map(map) => Value::Map(
            map.into_iter()
                .map(|(key, raw)| Entry { key_span: span(text, key.defined), key: key.value, node: node(text, raw) })
                .collect(),
        ),
    };
    // A mapping in block style begins at its first key and has no length of its own.
    let span = match &value {
        Value::Map(entries) if at.is_empty() => entries.first().map_or(at, |entry| entry.key_span.clone()),
        Value::List(nodes) if at.is_empty() => nodes.first().map_or(at, |node| node.span.clone()),
        _ => at,
    };
    Node { span, value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Empty)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Raw, E> {
        Ok(Raw::Boolean(is))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut found = Vec::new();
        while let Some(value) = list.next_element()? {
            found.push(value);
        }
        Ok(Raw::List(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut found = Vec::new();
        while let Some(entry) = map.next_entry()? {
            found.push(entry);
        }
        Ok(Raw::Map(found))
    }
}
