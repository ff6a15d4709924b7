//! Requests whose body is read before they are decided about, and what policies know of it then.

use crate::canonical::Canonical;
use http::Method;
use serde_json::{Map, Value};
use std::{fmt, sync::Arc};

/// Requests by one method to one path, whose body is read whole before they are decided about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BodyRule {
    /// Their method.
    pub method: Method,
    /// Their path, in ASCII lower case and without one trailing slash.
    pub path: Arc<str>,
    /// The largest body, in bytes. Default 64 KiB.
    pub max: u64,
    /// What policies know of it.
    pub fields: Vec<BodyField>,
}

impl BodyRule {
    /// It names this request.
    pub fn names(&self, asked: &Canonical) -> bool {
        self.method == asked.method && *self.path == *asked.target.folded
    }

    /// A body that has every declared field, as JSON on one line.
    pub fn example(&self) -> String {
        let mut body = Value::Null;
        for field in &self.fields {
            let value = match field.reading {
                Reading::String => "…",
                Reading::BackstageRef => "template:default/name",
            };
            put(&mut body, field.pointer.steps(), value);
        }
        body.to_string()
    }
}

/// Puts a text where the steps lead. A step that is a number is a place in a list, which begins with 0.
fn put(at: &mut Value, steps: &[Step], text: &str) {
    let Some((first, rest)) = steps.split_first() else { return *at = text.into() };
    match (first.name.parse::<usize>(), &mut *at) {
        (Ok(0), Value::Null) => *at = Value::Array(vec![Value::Null]),
        (_, Value::Null) => *at = Value::Object(Map::new()),
        _ => {}
    }
    match at {
        Value::Array(items) => items.iter_mut().take(1).for_each(|item| put(item, rest, text)),
        Value::Object(members) => put(members.entry(&*first.name).or_insert(Value::Null), rest, text),
        _ => {}
    }
}

/// One declared field of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BodyField {
    /// The attribute of `context.body`.
    pub name: Arc<str>,
    /// Where it stands.
    pub pointer: Pointer,
    /// As what it is read.
    pub reading: Reading,
    /// It need not be there.
    pub optional: bool,
}

/// Where a value stands in a JSON text: at least one step down from the whole.
///
/// Source: RFC 6901.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pointer(Box<[Step]>);

/// One name or number of a pointer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Step {
    /// As it is written.
    pub name: Box<str>,
    /// As [`folded`] has it.
    pub folded: String,
}

/// A name as programs read it that do not tell upper from lower case, or that take `template_ref` for `templateRef`, as readers of
/// Protocol Buffers do.
pub fn folded(name: &str) -> String {
    let letters = name.chars().filter(|letter| !['_', '-'].contains(letter));
    match name.is_ascii() {
        true => letters.map(|letter| letter.to_ascii_lowercase()).collect(),
        false => {
            let folded = letters.flat_map(char::to_uppercase).flat_map(char::to_lowercase);
            folded.filter(|letter| *letter != '\u{307}').collect() // what is left of a capital i with a dot
        }
    }
}

impl Pointer {
    /// Reads `/templateRef`. `None`: it does not begin with `/`, or has a `~` before something else than `0` or `1`.
    pub fn parse(text: &str) -> Option<Self> {
        let step = |name: Box<str>| Step { folded: folded(&name), name };
        let steps = text.strip_prefix('/')?.split('/').map(|written| unescaped(written).map(step));
        Some(Self(steps.collect::<Option<_>>()?))
    }

    /// The names and numbers on the way there.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.name.replace('~', "~0").replace('/', "~1")))
    }
}

fn unescaped(step: &str) -> Option<Box<str>> {
    let mut parts = step.split('~');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        whole.push(match part.chars().next()? {
            '0' => '~',
            '1' => '/',
            _ => return None,
        });
        whole.push_str(&part[1..]);
    }
    Some(whole.into())
}

/// As what a declared field is read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Reading {
    /// As it stands there; without U+0000, where some programs end a string.
    #[default]
    String,
    /// As a reference to an entity of Backstage's catalog, written out: `template:default/create-service`.
    BackstageRef,
}

impl Reading {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::BackstageRef => "backstage_ref",
        }
    }

    /// The value that policies see; `None` if the text is nothing of the kind.
    pub fn read(self, text: &str) -> Option<Arc<str>> {
        match self {
            Self::String => (!text.contains('\0')).then(|| text.into()),
            Self::BackstageRef => reference(text),
        }
    }
}

/// `[KIND:][NAMESPACE/]NAME` in lower case, with the kind `template` and the namespace `default` where they are left out, as the
/// scaffolder of Backstage reads it. What its versions read in different ways is nothing of the kind.
///
/// Source: Backstage, `parseEntityRef` and `stringifyEntityRef` of its catalog model.
fn reference(text: &str) -> Option<Arc<str>> {
    let (kind, rest) = text.split_once(':').unwrap_or(("template", text));
    let (namespace, name) = rest.split_once('/').unwrap_or(("default", rest));
    let is_word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    let fits = [kind, namespace, name].into_iter().all(is_word);
    fits.then(|| format!("{kind}:{namespace}/{name}").to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_rfc_6901_says() {
        for (text, steps) in [
            ("/templateRef", &["templateRef"][..]),
            ("/a/0/b", &["a", "0", "b"]),
            ("/", &[""]),
            ("/a~1b/m~0n/~01", &["a/b", "m~n", "~1"]),
        ] {
            let pointer = Pointer::parse(text).expect(text);
            assert_eq!(pointer.steps().iter().map(|step| &*step.name).collect::<Vec<_>>(), steps);
            assert_eq!(pointer.to_string(), text);
        }
        for text in ["", "templateRef", "#/a", "/a~", "/a~2", "/~é"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_example_has_every_field_where_it_is_read() {
        let field = |name: &str, pointer: &str, reading| BodyField {
            name: name.into(),
            pointer: Pointer::parse(pointer).expect("a pointer"),
            reading,
            optional: true,
        };
        let fields = vec![
            field("template_ref", "/templateRef", Reading::BackstageRef),
            field("owner", "/values/owner", Reading::String),
            field("first", "/values/list/0", Reading::String),
        ];
        let rule = BodyRule { method: Method::POST, path: "/tasks".into(), max: 1024, fields };
        let expected = r#"{"templateRef":"template:default/name","values":{"owner":"…","list":["…"]}}"#;
        assert_eq!(rule.example(), expected);
    }

    /// Spellings that Backstage takes for one entity are one value.
    #[test]
    fn references_of_backstage_have_one_spelling() {
        for (text, expected) in [
            ("create-ledger-service", "template:default/create-ledger-service"),
            ("default/create-ledger-service", "template:default/create-ledger-service"),
            ("Template:Default/Create-Ledger-Service", "template:default/create-ledger-service"),
            ("template:PRODUCTION/dns", "template:production/dns"),
            ("production/dns", "template:production/dns"),
            ("component:a_b.c", "component:default/a_b.c"),
        ] {
            assert_eq!(Reading::BackstageRef.read(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            " ",
            ":",
            "/",
            "a:",
            "a/",
            ":a",
            "/a",
            "a:b:c",
            "a/b/c",
            "production/a:b",
            "a:/b",
            " production/dns",
            "production/dns\n",
            "production/dns\0",
            "producti\u{f6}n/dns",
            "\u{212a}ind:a/b",
            "a b",
        ] {
            assert_eq!(Reading::BackstageRef.read(text), None, "{text:?}");
        }
        assert_eq!(Reading::String.read(" As it is\n").as_deref(), Some(" As it is\n"));
        assert_eq!(Reading::String.read("production\0"), None);
    }
}
