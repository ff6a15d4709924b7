//! The form of a compact JWS, judged before any key is looked up and before any other parser sees it.

use crate::config::ALGORITHMS;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The longest `kid`, in bytes.
pub(super) const LONGEST_KID: usize = 256;

/// The longest token of somebody whom we do not know yet, in bytes.
pub(super) const LONGEST: usize = 16 * 1024;

const DEEPEST: usize = 16;

/// A JWS whose signature is not verified yet.
#[derive(Default)]
pub(super) struct Unverified {
    /// The header, each member once.
    pub(super) header: Map<String, Value>,
    /// The claims, each member once.
    pub(super) claims: Map<String, Value>,
}

/// Why a text is no JWS that we would verify.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum FormError {
    #[error("it has {length} bytes, {longest} are allowed")]
    Long { length: usize, longest: usize },
    #[error("it has {0} segments, expected 3")]
    Segments(usize),
    #[error("its {0} is not base64url")]
    Base64(&'static str),
    #[error("its {part} is unacceptable: {cause}")]
    Json { part: &'static str, cause: String },
    #[error("its algorithm is `{0}`, expected one of {list}", list = ALGORITHMS.join(", "))]
    Algorithm(String),
    #[error("its header has `{0}`, which is not supported")]
    Extension(&'static str),
    #[error("its `kid` is no string of at most {LONGEST_KID} bytes")]
    Kid,
}

/// Reads header and claims of a compact JWS of at most `longest` bytes. Header members that carry or name a key (`jwk`, `jku`, `x5u`, `x5c`) are
/// ignored: keys come from the provider's key set alone.
///
/// # Errors
/// Any [`FormError`].
///
/// Source: RFC 7515, sections 4.1 and 7.1; RFC 8725, section 3.
pub(super) fn read(token: &str, longest: usize) -> Result<Unverified, FormError> {
    if token.len() > longest {
        return Err(FormError::Long { length: token.len(), longest });
    }
    let segments: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = segments[..] else {
        return Err(FormError::Segments(segments.len()));
    };
    let header = object("header", header)?;
    check_header(&header)?;
    BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| FormError::Base64("signature"))?;
    Ok(Unverified { header, claims: object("payload", claims)? })
}

/// The claims of a compact JWS, whatever its header and signature; `None`: it is none.
pub(super) fn claims(token: &str, longest: usize) -> Option<Map<String, Value>> {
    let mut segments = token.split('.');
    let (_, claims, _, rest) = (segments.next()?, segments.next()?, segments.next()?, segments.next());
    if token.len() > longest || rest.is_some() {
        return None;
    }
    object("payload", claims).ok()
}

/// What can be read of a compact JWS, well formed or not; `None`: nothing.
pub(super) fn glance(token: &str, longest: usize) -> Option<Unverified> {
    let claims = claims(token, longest)?;
    let header = token.split('.').next().and_then(|header| object("header", header).ok());
    Some(Unverified { header: header.unwrap_or_default(), claims })
}

fn check_header(header: &Map<String, Value>) -> Result<(), FormError> {
    match header.get("alg") {
        Some(Value::String(name)) if ALGORITHMS.contains(&name.as_str()) => {}
        Some(Value::String(name)) => return Err(FormError::Algorithm(name.chars().take(32).collect())),
        Some(_) => return Err(FormError::Algorithm("(not a string)".to_owned())),
        None => return Err(FormError::Algorithm(String::new())),
    }
    if let Some(name) = ["crit", "b64", "enc", "zip"].into_iter().find(|name| header.contains_key(*name)) {
        return Err(FormError::Extension(name));
    }
    match header.get("kid") {
        None => Ok(()),
        Some(Value::String(kid)) if kid.len() <= LONGEST_KID => Ok(()),
        Some(_) => Err(FormError::Kid),
    }
}

fn object(part: &'static str, segment: &str) -> Result<Map<String, Value>, FormError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(segment).map_err(|_| FormError::Base64(part))?;
    strict_object(&bytes).map_err(|cause| FormError::Json { part, cause })
}

/// Reads a JSON object in which no member appears twice at any depth and nothing nests deeper than 16 levels.
///
/// # Errors
/// What is wrong, without the values.
pub(super) fn strict_object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { levels: DEEPEST }.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    match value {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("it is no JSON object".to_owned()),
        Err(cause) if cause.is_data() => Err(cause.to_string()),
        Err(cause) => Err(format!("it is no JSON (line {} column {})", cause.line(), cause.column())),
    }
}

/// Builds a [`Value`] with at most `levels` levels of arrays and objects.
#[derive(Clone, Copy)]
struct Strict {
    levels: usize,
}

impl Strict {
    fn inner<E: Error>(self) -> Result<Self, E> {
        match self.levels.checked_sub(1) {
            Some(levels) => Ok(Self { levels }),
            None => Err(E::custom(format!("it nests deeper than {DEEPEST} levels"))),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(inner)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom("a member appears twice"));
            }
            members.insert(name, map.next_value_seed(inner)?);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(claims), part("signature"))
    }

    fn refused(header: &str, claims: &str) -> FormError {
        read(&token(header, claims), LONGEST).err().expect("refused")
    }

    /// Every way to name an algorithm that is not on the list ends before a key is looked up.
    #[test]
    fn unlisted_algorithms_are_refused_by_form() {
        for alg in [
            r#""none""#,
            r#""None""#,
            r#""NONE""#,
            r#""nOnE""#,
            r#""HS256""#,
            r#""HS384""#,
            r#""HS512""#,
            r#""hs256""#,
            r#""rs256""#,
            r#""RS1""#,
            r#""ES512""#,
            r#""dir""#,
            r#""""#,
            "null",
            "256",
            r#"["RS256"]"#,
            r#"{"a":1}"#,
        ] {
            let refusal = refused(&format!(r#"{{"alg":{alg}}}"#), "{}");
            assert!(matches!(refusal, FormError::Algorithm(_)), "{alg}: {refusal}");
        }
        assert!(matches!(refused("{}", "{}"), FormError::Algorithm(_)));
    }

    #[test]
    fn critical_and_unencoded_payloads_are_refused() {
        assert_eq!(refused(r#"{"alg":"RS256","crit":["exp"]}"#, "{}"), FormError::Extension("crit"));
        assert_eq!(refused(r#"{"alg":"RS256","b64":false}"#, "{}"), FormError::Extension("b64"));
        assert_eq!(refused(r#"{"alg":"RS256","enc":"A128GCM"}"#, "{}"), FormError::Extension("enc"));
    }

    #[test]
    fn key_ids_are_short_strings() {
        assert!(read(&token(r#"{"alg":"RS256","kid":"../../etc/passwd"}"#, "{}"), LONGEST).is_ok());
        assert_eq!(refused(r#"{"alg":"RS256","kid":{"a":1}}"#, "{}"), FormError::Kid);
        assert_eq!(refused(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(257)), "{}"), FormError::Kid);
    }

    #[test]
    fn keys_inside_the_header_are_ignored() {
        let header = r#"{"alg":"RS256","jku":"http://127.0.0.1:1/","x5u":"http://127.0.0.1:1/","jwk":{"kty":"oct"},"x5c":["a"]}"#;
        assert!(read(&token(header, "{}"), LONGEST).is_ok());
    }

    #[test]
    fn doubled_members_are_refused_at_any_depth() {
        for (header, claims) in [
            (r#"{"alg":"RS256","alg":"RS256"}"#, "{}"),
            (r#"{"alg":"RS256"}"#, r#"{"sub":"1","sub":"2"}"#),
            (r#"{"alg":"RS256"}"#, r#"{"a":[{"b":1,"b":2}]}"#),
            (r#"{"alg":"RS256"}"#, r#"{"sub":"1","s\u0075b":"2"}"#),
        ] {
            assert!(matches!(refused(header, claims), FormError::Json { .. }), "{header} {claims}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(read(&token(r#"{"alg":"RS256"}"#, &nested(15)), LONGEST).is_ok());
        assert!(matches!(refused(r#"{"alg":"RS256"}"#, &nested(16)), FormError::Json { .. }));
        assert!(matches!(refused(r#"{"alg":"RS256"}"#, &nested(100)), FormError::Json { .. }));
        assert!(matches!(read(&"a".repeat(16 * 1024 + 1), LONGEST), Err(FormError::Long { .. })));
        assert_eq!(read("a.b", LONGEST).err(), Some(FormError::Segments(2)));
        assert_eq!(read("a.b.c.d.e", LONGEST).err(), Some(FormError::Segments(5)));
        assert_eq!(read("?.e30.", LONGEST).err(), Some(FormError::Base64("header")));
    }

    #[test]
    fn numbers_and_text_arrive_unchanged() {
        let text = r#"{"a":1,"b":-2,"c":1.5,"d":"ä","e":[true,null]}"#;
        let read = strict_object(text.as_bytes()).expect("an object");
        assert_eq!(Value::Object(read), serde_json::from_str::<Value>(text).expect("JSON"));
        assert!(strict_object(b"{} x").is_err());
        assert!(strict_object(b"[]").is_err());
    }
}
