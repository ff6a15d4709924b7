//! The declared fields of a body: all of it that a policy may know.

use super::{Canonical, fields, json};
use crate::{
    refusal::{Reason, Refusal},
    route::{BodyField, BodyRule, Reading, Route},
};
use http::{HeaderMap, header};
use json::Found;
use std::{borrow::Cow, sync::Arc};

/// The name of a field, and its value.
pub type Field = (Arc<str>, Arc<str>);

/// The fields that a body had: `context.body` of policies.
pub type Fields = Arc<[Field]>;

/// What is known of a request's body when it is decided about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Inspected {
    /// No rule names the request, so its body has no declared field.
    #[default]
    Unnamed,
    /// A rule names it, and nobody has read its body. An unread body is never an empty one.
    Unread,
    /// The fields, as this rule declares them.
    Read(Arc<BodyRule>, Fields),
}

impl Inspected {
    /// The fields that policies see.
    pub fn fields(&self) -> &[Field] {
        match self {
            Self::Unnamed | Self::Unread => &[],
            Self::Read(_, fields) => fields,
        }
    }
}

/// A canonical request with the declared fields of its body: all that a policy may look at.
#[derive(Clone)]
pub struct Judged {
    /// The request.
    pub asked: Canonical,
    /// Its body.
    pub body: Inspected,
}

/// A request that no rule names.
impl From<Canonical> for Judged {
    fn from(asked: Canonical) -> Self {
        Self { asked, body: Inspected::Unnamed }
    }
}

impl Canonical {
    /// The request as far as its head tells. Its body is unread where a rule of the route names it.
    pub fn inspect(self, route: &Route) -> Judged {
        let body = if route.body_rule(&self).is_some() { Inspected::Unread } else { Inspected::Unnamed };
        Judged { asked: self, body }
    }

    /// Says whether a body with this head, of `length` bytes if that is known, can be read under a rule.
    ///
    /// # Errors
    /// `UnsupportedBody` unless it is JSON in UTF-8 without a coding, `BodyTooLarge` if it says so itself.
    pub fn may_be_read(&self, rule: &BodyRule, length: Option<u64>) -> Result<(), Refusal> {
        if self.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(unsupported("The body has a `Content-Encoding`, which cannot be read here."));
        }
        if !is_json(&self.headers) {
            return Err(unsupported(
                "The body is not `application/json`, with no parameter but `charset=utf-8`, which is all that can be read here.",
            ));
        }
        if length.is_some_and(|length| length > rule.max) { Err(too_large(rule)) } else { Ok(()) }
    }
}

impl Judged {
    /// A rule names it, and nobody has read its body.
    pub fn is_unread(&self) -> bool {
        self.body == Inspected::Unread
    }

    /// The same request at a route whose rules may have changed since: what was read under another rule counts as unread.
    pub fn at(&self, route: &Route) -> Cow<'_, Self> {
        let holds = match (&self.body, route.body_rule(&self.asked)) {
            (Inspected::Unnamed, None) => true,
            (Inspected::Read(read, _), Some(rule)) => read == rule,
            (Inspected::Unread, _) | (Inspected::Unnamed, Some(_)) | (Inspected::Read(..), None) => false,
        };
        if holds { Cow::Borrowed(self) } else { Cow::Owned(self.asked.clone().inspect(route)) }
    }
}

impl Inspected {
    /// Reads the declared fields of a whole body; one without any byte has none.
    ///
    /// # Errors
    /// `InvalidBody` where it is no JSON or has two readings, and where a field is missing or no string.
    pub fn read(rule: &Arc<BodyRule>, body: &[u8]) -> Result<Self, Refusal> {
        let pointers: Vec<_> = rule.fields.iter().map(|field| &field.pointer).collect();
        let found = match body {
            [] => vec![Found::Nothing; pointers.len()],
            _ => json::strings(body, &pointers).map_err(|error| invalid(error.to_string()))?,
        };
        let values = rule.fields.iter().zip(found).filter_map(|(field, found)| value(field, found).transpose());
        Ok(Self::Read(rule.clone(), values.collect::<Result<_, _>>()?))
    }
}

/// The attribute that a field becomes; none if it is not there and need not be.
fn value(field: &BodyField, found: Found) -> Result<Option<Field>, Refusal> {
    let wrong = |what: &str| Err(invalid(format!("`{}` of the body {what}", field.pointer)));
    match found {
        Found::Text(text) => match field.reading.read(&text) {
            Some(value) => Ok(Some((field.name.clone(), value))),
            None => wrong(match field.reading {
                Reading::String => "has a character U+0000, where some programs end a string",
                Reading::BackstageRef => "is not a reference such as `template:default/name`",
            }),
        },
        Found::Nothing if field.optional => Ok(None),
        Found::Nothing => wrong("is missing, a string is expected"),
        Found::Other => wrong("is not a string"),
    }
}

/// One `Content-Type`: `application/json`, or `application/` something `+json`, and nothing else but `charset=utf-8`. Frameworks
/// read a type that only begins like that of a form as one, and other parameters in other ways, `charset*0=utf-7` (RFC 2231) as another `charset`, so that they would read another body.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = fields::one(headers, header::CONTENT_TYPE) else { return false };
    let (media, parameter) = kind.split_once(';').unwrap_or((kind, "charset=utf-8"));
    let media = media.trim_end_matches([' ', '\t']).to_ascii_lowercase();
    let subtype = media.strip_prefix("application/").unwrap_or_default();
    let named =
        subtype == "json" || subtype.strip_suffix("+json").is_some_and(|kind| is_token(kind) && !kind.contains("form"));
    let parameter = parameter.trim_matches([' ', '\t']).to_ascii_lowercase();
    named && ["charset=utf-8", "charset=\"utf-8\""].contains(&&*parameter)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&b))
}

/// The body has more bytes than its rule takes. What is left of it is not read.
pub fn too_large(rule: &BodyRule) -> Refusal {
    Refusal::new(Reason::BodyTooLarge, format!("The body has more than the {} bytes that are read here.", rule.max))
        .closing()
}

fn unsupported(detail: &str) -> Refusal {
    Refusal::new(Reason::UnsupportedBody, detail).closing()
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidBody, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canonical::testing,
        route::{Pointer, testing::route},
    };

    fn field(name: &str, pointer: &str, reading: Reading, optional: bool) -> BodyField {
        BodyField { name: name.into(), pointer: Pointer::parse(pointer).expect("a pointer"), reading, optional }
    }

    fn rule() -> Arc<BodyRule> {
        Arc::new(BodyRule {
            method: http::Method::POST,
            path: "/tasks".into(),
            max: 10,
            fields: vec![
                field("template_ref", "/templateRef", Reading::BackstageRef, false),
                field("owner", "/values/owner", Reading::String, true),
            ],
        })
    }

    fn read(body: &str) -> Result<Vec<(String, String)>, (Reason, String)> {
        let read = Inspected::read(&rule(), body.as_bytes()).map_err(|refusal| (refusal.reason, refusal.detail))?;
        Ok(read.fields().iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn fields_are_read_as_they_are_declared() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let both = read(r#"{"values":{"owner":"Ada"},"templateRef":"Production/DNS"}"#).expect("read");
        assert_eq!(both, [pair("template_ref", "template:production/dns"), pair("owner", "Ada")]);
        for body in [r#"{"templateRef":"a"}"#, r#"{"templateRef":"a","values":{"owner":null}}"#] {
            assert_eq!(read(body).expect("read"), [pair("template_ref", "template:default/a")], "{body}");
        }
    }

    /// A field that is there and no string is never taken for one that is absent.
    #[test]
    fn what_is_missing_or_no_string_is_refused() {
        for (body, said) in [
            ("", "`/templateRef` of the body is missing, a string is expected"),
            ("{}", "`/templateRef` of the body is missing, a string is expected"),
            (r#"{"templateRef":null}"#, "`/templateRef` of the body is missing, a string is expected"),
            (r#"{"templateRef":["a"]}"#, "`/templateRef` of the body is not a string"),
            (
                r#"{"templateRef":"a/b/c"}"#,
                "`/templateRef` of the body is not a reference such as `template:default/name`",
            ),
            (r#"{"templateRef":"a","values":{"owner":7}}"#, "`/values/owner` of the body is not a string"),
            (r#"{"templateRef":"a","values":[]}"#, "`/values/owner` of the body is not a string"),
        ] {
            assert_eq!(read(body), Err((Reason::InvalidBody, said.to_owned())), "{body}");
        }
    }

    #[test]
    fn s88_only_json_in_utf_8_without_a_coding_is_read() {
        let refused = |fields: &[(&str, &str)], length| {
            let asked = testing::https("POST", "app.example.com", "/tasks");
            let asked = fields.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value));
            testing::parse(asked).may_be_read(&rule(), length).err().map(|refusal| refusal.reason)
        };
        for kind in [
            "application/json",
            "Application/JSON",
            "application/json;charset=utf-8",
            "application/json; charset=\"UTF-8\"",
            "application/vnd.api+json",
        ] {
            assert_eq!(refused(&[("content-type", kind)], Some(10)), None, "{kind}");
            assert_eq!(refused(&[("content-type", kind)], None), None, "{kind}");
        }
        for kind in [
            "",
            "text/json",
            "text/plain",
            "application/jsonx",
            "application/json, text/plain",
            "application/+json",
            "application/x-www-form-urlencoded+json",
            "json",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset",
            "application/json; v=1",
            "application/json;",
            "application/json; charset*=us-ascii''utf-7",
            "application/json; charset*0=utf-7",
            "application/json; charset*0*=utf-7",
            "application/json; CHARSET*1=utf-7",
            "application/json; charset=utf-8; charset*0=utf-7",
            "application/json; x=\"; charset=utf-8\"",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=a",
            "application/grpc",
            "a/b+json",
        ] {
            assert_eq!(refused(&[("content-type", kind)], Some(1)), Some(Reason::UnsupportedBody), "{kind}");
        }
        let json = ("content-type", "application/json");
        assert_eq!(refused(&[], Some(1)), Some(Reason::UnsupportedBody));
        assert_eq!(refused(&[json, json], Some(1)), Some(Reason::UnsupportedBody));
        for coding in ["gzip", "identity", "br", ""] {
            assert_eq!(refused(&[json, ("content-encoding", coding)], Some(1)), Some(Reason::UnsupportedBody));
        }
        assert_eq!(refused(&[json], Some(11)), Some(Reason::BodyTooLarge));
    }

    /// Whatever a path's spelling, its body is read.
    #[test]
    fn a_rule_names_requests_by_method_and_folded_path() {
        let mut route = route("r");
        route.body_fields = [rule()].into();
        let inspected =
            |method, target| testing::parse(testing::https(method, "app.example.com", target)).inspect(&route).body;
        for target in ["/tasks", "/TASKS", "/tasks/", "/t%61sks", "/tasks?a=b"] {
            assert_eq!(inspected("POST", target), Inspected::Unread, "{target}");
        }
        for (method, target) in [("PUT", "/tasks"), ("GET", "/tasks"), ("POST", "/tasks/1"), ("POST", "/x/tasks")] {
            assert_eq!(inspected(method, target), Inspected::Unnamed, "{method} {target}");
        }
    }

    /// What was read under one rule says nothing under another.
    #[test]
    fn a_rule_that_changed_leaves_a_body_unread() {
        let asked = || testing::parse(testing::https("POST", "app.example.com", "/tasks"));
        let (mut with, without) = (route("r"), route("r"));
        with.body_fields = [rule()].into();
        let read = Inspected::read(&rule(), br#"{"templateRef":"a"}"#).expect("read");
        let judged = Judged { asked: asked(), body: read.clone() };
        assert_eq!(judged.at(&with).body, read);
        assert_eq!(judged.at(&without).body, Inspected::Unnamed);
        let mut other = with.clone();
        other.body_fields = [Arc::new(BodyRule { fields: rule().fields[..1].to_vec(), ..(*rule()).clone() })].into();
        assert_eq!(judged.at(&other).body, Inspected::Unread);
        assert_eq!(Judged::from(asked()).at(&with).body, Inspected::Unread);
        assert_eq!(Judged::from(asked()).at(&without).body, Inspected::Unnamed);
    }
}
