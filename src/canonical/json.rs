//! A few strings of a JSON text that has one reading only.

use crate::route::{Pointer, Step, folded};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher, RandomState},
};

/// What stands where a pointer points.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Found {
    /// Nothing, or `null`.
    Nothing,
    /// A string.
    Text(String),
    /// Something else, there or on the way there.
    Other,
}

/// Why a text is not taken. Says where and never what stands there, which may be secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum JsonError {
    /// Bytes that are no text.
    #[error("body is not UTF-8")]
    Utf8,
    /// No JSON (RFC 8259), a number that is too large, or nested more than 127 deep.
    #[error("body is not JSON, or nested too deeply (line {line}, column {column})")]
    Syntax { line: usize, column: usize },
    /// One name twice in an object.
    #[error("body has a member twice (line {line}, column {column})")]
    Double { line: usize, column: usize },
    /// A name that some programs take for a declared one.
    #[error("body has a member that some programs take for a declared one (line {line}, column {column})")]
    Alike { line: usize, column: usize },
}

/// Reads what stands where `pointers` point, in their order. The whole text is checked: in no object is a member there twice.
///
/// Source: RFC 8259, section 4; RFC 6901, section 4.
pub(super) fn strings(body: &[u8], pointers: &[&Pointer]) -> Result<Vec<Found>, JsonError> {
    let text = std::str::from_utf8(body).map_err(|_| JsonError::Utf8)?;
    let mut state = State { found: vec![Found::Nothing; pointers.len()], flaw: None, hasher: RandomState::new() };
    let wanted = pointers.iter().enumerate().map(|(number, pointer)| (number, pointer.steps())).collect();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Node { wanted, state: &mut state }.deserialize(&mut reader).and_then(|()| reader.end());
    read.map(|()| state.found).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match state.flaw {
            None => JsonError::Syntax { line, column },
            Some(Flaw::Double) => JsonError::Double { line, column },
            Some(Flaw::Alike) => JsonError::Alike { line, column },
        }
    })
}

struct State {
    found: Vec<Found>,
    flaw: Option<Flaw>,
    hasher: RandomState,
}

/// What JSON allows and we do not.
enum Flaw {
    Double,
    Alike,
}

/// A value of the text: the pointers that lead here, each with the steps that are left.
struct Node<'w> {
    wanted: Vec<(usize, &'w [Step])>,
    state: &'w mut State,
}

impl Node<'_> {
    /// What is no object and no list.
    fn plain(self, text: Option<&str>) {
        for (number, rest) in self.wanted {
            self.state.found[number] = match text {
                Some(text) if rest.is_empty() => Found::Text(text.to_owned()),
                _ => Found::Other,
            };
        }
    }

    /// The pointers that go on below the member or entry that `fits`.
    fn below<'w>(wanted: &[(usize, &'w [Step])], fits: impl Fn(&str) -> bool) -> Vec<(usize, &'w [Step])> {
        let on = wanted.iter().filter_map(|(number, rest)| {
            let (first, rest) = rest.split_first()?;
            fits(&first.name).then_some((*number, rest))
        });
        on.collect()
    }

    /// The member is none of those that are wanted here, and some program would take it for one.
    fn is_like_a_wanted(&self, name: &str) -> bool {
        let steps = || self.wanted.iter().filter_map(|(_, rest)| rest.first());
        if self.wanted.is_empty() || steps().any(|step| *step.name == *name) {
            return false;
        }
        if name.contains('\0') || name == "__proto__" {
            return true; // cut off at the first, or a member of the object itself when it is copied in JavaScript
        }
        let name = folded(name);
        steps().any(|step| step.folded == name)
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(()) // nothing is there
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.plain(None);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.plain(None);
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        self.plain(None);
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.plain(None);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.plain(Some(text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        for (number, rest) in &self.wanted {
            if !rest.first().is_some_and(|step| is_index(&step.name)) {
                self.state.found[*number] = Found::Other;
            }
        }
        for index in 0_usize.. {
            let wanted = match self.wanted.is_empty() {
                true => Vec::new(),
                false => Self::below(&self.wanted, |step| is_index(step) && step.parse() == Ok(index)),
            };
            if entries.next_element_seed(Node { wanted, state: self.state })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        for (number, _) in self.wanted.iter().filter(|(_, rest)| rest.is_empty()) {
            self.state.found[*number] = Found::Other;
        }
        let mut seen = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            // a hash takes the place of the name: a double is found in any case, and nothing else but once in 2^64
            if !seen.insert(self.state.hasher.hash_one(&name)) {
                self.state.flaw = Some(Flaw::Double);
                return Err(A::Error::custom("a member is there twice"));
            }
            if self.is_like_a_wanted(&name) {
                self.state.flaw = Some(Flaw::Alike);
                return Err(A::Error::custom("a member is like a declared one"));
            }
            let wanted = Self::below(&self.wanted, |step| *step == *name);
            members.next_value_seed(Node { wanted, state: self.state })?;
        }
        Ok(())
    }
}

/// A place in a list (RFC 6901, section 4).
fn is_index(step: &str) -> bool {
    step.bytes().all(|b| b.is_ascii_digit()) && (step == "0" || !step.starts_with('0')) && !step.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).expect("a pointer")
    }

    fn read(body: &str, at: &str) -> Result<Found, JsonError> {
        strings(body.as_bytes(), &[&pointer(at)]).map(|mut found| found.remove(0))
    }

    #[test]
    fn finds_strings_wherever_they_stand() {
        let text = |text: &str| Ok(Found::Text(text.to_owned()));
        for (body, at, expected) in [
            (r#"{"templateRef":"a"}"#, "/templateRef", text("a")),
            (r#" {"x":1,"templateRef":"\u0061\n"} "#, "/templateRef", text("a\n")),
            (r#"{"a":{"b":[{"c":"x"},{"c":"y"}]}}"#, "/a/b/1/c", text("y")),
            (r#"{"a":{"0":"x"}}"#, "/a/0", text("x")),
            (r#"{"a/b":{"m~n":"x"}}"#, "/a~1b/m~0n", text("x")),
            (r#"{"":"x"}"#, "/", text("x")),
            (r#"["x","y"]"#, "/1", text("y")),
            (r#"{"b":"x"}"#, "/a", Ok(Found::Nothing)),
            (r#"{"a":null}"#, "/a", Ok(Found::Nothing)),
            (r#"{"a":null}"#, "/a/b", Ok(Found::Nothing)),
            (r#"["x"]"#, "/1", Ok(Found::Nothing)),
            ("{}", "/a/b", Ok(Found::Nothing)),
            (r#"{"a":1}"#, "/a", Ok(Found::Other)),
            (r#"{"a":true}"#, "/a", Ok(Found::Other)),
            (r#"{"a":["production"]}"#, "/a", Ok(Found::Other)),
            (r#"{"a":{"b":"x"}}"#, "/a", Ok(Found::Other)),
            (r#"{"a":"x"}"#, "/a/b", Ok(Found::Other)),
            (r#"{"a":[{"b":"x"}]}"#, "/a/b", Ok(Found::Other)),
            (r#"{"a":["x"]}"#, "/a/00", Ok(Found::Other)),
            (r#"{"a":["x"]}"#, "/a/-", Ok(Found::Other)),
            (r#""x""#, "/a", Ok(Found::Other)),
            ("7", "/a", Ok(Found::Other)),
            ("null", "/a", Ok(Found::Nothing)),
        ] {
            assert_eq!(read(body, at), expected, "{body} {at}");
        }
    }

    #[test]
    fn a_member_that_is_there_twice_is_found_at_any_depth() {
        for body in [
            r#"{"a":"x","a":"x"}"#,
            r#"{"a":"x","\u0061":"y"}"#,
            r#"{"b":{"c":[0,{"d":1,"e":2,"d":3}]}}"#,
            r#"[[[{"":1,"":2}]]]"#,
        ] {
            assert!(matches!(read(body, "/a"), Err(JsonError::Double { line: 1, .. })), "{body}");
        }
        assert!(read(r#"[{"a":1},{"a":1},{"b":{"a":1}}]"#, "/a").is_ok());
    }

    /// Some programs take the last of these for the declared one.
    #[test]
    fn a_member_that_only_looks_like_a_declared_one_is_found() {
        for body in [
            r#"{"templateRef":"a","TemplateRef":"b"}"#,
            r#"{"templateref":"b"}"#,
            r#"{"TEMPLATEREF":null}"#,
            r#"{"template_ref":"b"}"#,
            r#"{"template-ref":"b","templateRef":"a"}"#,
            r#"{"templateRef":"a","templateRef\u0000x":"b"}"#,
            r#"{"__proto__":{"templateRef":"b"}}"#,
            "{\"TEMPLATEREF\":1}",
        ] {
            assert!(matches!(read(body, "/templateRef"), Err(JsonError::Alike { .. })), "{body}");
        }
        assert!(matches!(read("{\"\u{212a}ind\":1}", "/kind"), Err(JsonError::Alike { .. })));
        assert!(matches!(read("{\"ref\u{17f}\":1}", "/refs"), Err(JsonError::Alike { .. })));
        assert!(matches!(read("{\"K\u{130}ND\":1}", "/kind"), Err(JsonError::Alike { .. })));
        assert!(read(r#"{"values":{"TemplateRef":"b"},"templateRef":"a"}"#, "/templateRef").is_ok());
        let both = [pointer("/kind"), pointer("/Kind")];
        assert!(strings(br#"{"Kind":"a","kind":"b"}"#, &both.each_ref()).is_ok(), "policies know both");
    }

    #[test]
    fn what_is_no_json_in_utf_8_is_not_taken() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for body in [
            "",
            " ",
            "{",
            "{}{}",
            "{} x",
            "{'a':1}",
            "{a:1}",
            "{\"a\":1,}",
            "[1,]",
            "// x\n{}",
            "\u{feff}{}",
            "NaN",
            "01",
            "\"\\ud800\"",
            "\"\t\"",
            "1e999",
            "{\"a\":\"\\x41\"}",
            "True",
            "nul",
            &deep(128),
            &deep(100_000),
        ] {
            assert!(matches!(read(body, "/a"), Err(JsonError::Syntax { .. })), "{body:.20}");
        }
        assert!(read(&deep(127), "/a").is_ok());
        for body in [&b"{\"a\":\"\xff\"}"[..], b"{\"a\":\"\xc0\xaf\"}", b"{\"a\":\"\xed\xa0\x80\"}", b"\xff\xfe{\0}\0"]
        {
            assert_eq!(strings(body, &[&pointer("/a")]), Err(JsonError::Utf8));
        }
    }

    #[test]
    fn a_mistake_tells_nothing_of_the_body() {
        for body in [r#"{"secret":"hunter2" x}"#, r#"{"hunter2":1,"hunter2":2}"#, r#"{"a":"hunter2"#] {
            let said = read(body, "/a").expect_err("a mistake").to_string();
            assert!(!said.contains("hunter2") && said.contains("line 1"), "{said}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[ab\"\\\\\u{e9}\n]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ab0]{0,2}", inner, 0..4).prop_map(|members| json!(members)),
            ]
        })
    }

    proptest! {
        /// What is found is what a reader of the whole text finds there.
        #[test]
        fn finds_what_a_reader_of_the_whole_finds(body in value(), steps in prop::collection::vec("[ab012]{0,2}", 1..4)) {
            let at = format!("/{}", steps.join("/"));
            let found = read(&body.to_string(), &at).expect("JSON");
            match body.pointer(&at) {
                Some(Value::String(text)) => prop_assert_eq!(found, Found::Text(text.clone())),
                Some(Value::Null) => prop_assert_eq!(found, Found::Nothing),
                Some(_) => prop_assert_eq!(found, Found::Other),
                None => prop_assert!(!matches!(found, Found::Text(_))),
            }
        }
    }
}
