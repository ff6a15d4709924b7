//! Our own cookies are read and taken out; all others go on byte for byte.

use super::Rules;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version, header};
use std::fmt;

/// One of our own cookies, as the client sent it. `Debug` never prints the value.
#[derive(Clone, Default, Eq, PartialEq)]
pub enum OwnCookie {
    /// Not sent.
    #[default]
    Absent,
    /// Sent once, with this value.
    One(Box<str>),
    /// Sent more than once: somebody tosses cookies. Treated as none, and audited.
    Several,
}

impl fmt::Debug for OwnCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::One(_) => "One([redacted])",
            Self::Several => "Several",
        })
    }
}

impl OwnCookie {
    fn add(&mut self, value: &[u8]) {
        *self = match self {
            // A value that is no text is no handle of ours either; it still counts.
            Self::Absent => Self::One(std::str::from_utf8(value).unwrap_or_default().into()),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

/// Our cookies of one request.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Own {
    pub(super) session: OwnCookie,
    pub(super) binding: OwnCookie,
}

/// Takes our cookies out of `headers`.
///
/// Only `NAME=VALUE`, after at most one blank, is ours. Other spellings of our names (blanks around the name, the syntax of
/// RFC 2965 that begins with `$Version`) identify nobody, but do not go on either.
///
/// Source: RFC 6265, sections 4.2 and 5.4.
pub(super) fn take(headers: &mut HeaderMap, rules: &Rules) -> Own {
    let mut own = Own::default();
    let has_ours = |field: &HeaderValue| pieces(field).any(|piece| is_ours(piece, rules));
    if !headers.get_all(header::COOKIE).iter().any(has_ours) {
        return own;
    }
    let mut others: Vec<HeaderValue> = Vec::new();
    for field in headers.get_all(header::COOKIE) {
        own.read(field, rules);
        others.extend(without_ours(field, rules));
    }
    headers.remove(header::COOKIE);
    for field in others {
        headers.append(header::COOKIE, field);
    }
    own
}

/// Puts together the crumbs that HTTP/2 splits `Cookie` into; HTTP/1.1 has one field.
///
/// Source: RFC 9113, section 8.2.3.
pub(super) fn join(headers: &mut HeaderMap, version: Version) {
    if version != Version::HTTP_2 || headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..]))) {
        headers.insert(header::COOKIE, whole);
    }
}

impl Own {
    fn read(&mut self, field: &HeaderValue, rules: &Rules) {
        if pieces(field).next().is_some_and(|first| name(first).eq_ignore_ascii_case(b"$version")) {
            return;
        }
        for piece in pieces(field) {
            let piece = piece.strip_prefix(b" ").unwrap_or(piece);
            let Some(border) = piece.iter().position(|byte| *byte == b'=') else { continue };
            let (name, value) = (&piece[..border], &piece[border + 1..]);
            if name == rules.session_cookie.as_bytes() {
                self.session.add(value);
            } else if name == rules.binding_cookie.as_bytes() {
                self.binding.add(value);
            }
        }
    }
}

fn pieces(field: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    field.as_bytes().split(|byte| *byte == b';')
}

fn name(piece: &[u8]) -> &[u8] {
    piece.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// True where a reader might find one of our cookies in this piece: as its name, or behind a comma or another byte that no
/// name has, where an intermediary has put fields together or a reader trims more than we do.
fn is_ours(piece: &[u8], rules: &Rules) -> bool {
    let ours = [&rules.session_cookie, &rules.binding_cookie].map(|name| name.as_bytes());
    let name = name(piece);
    ours.contains(&name) || ours.iter().any(|ours| assigns(piece, ours))
}

/// True if `name=` stands anywhere in the piece as a whole name.
fn assigns(piece: &[u8], name: &[u8]) -> bool {
    memchr::memmem::find_iter(piece, name).any(|at| {
        let before = at.checked_sub(1).map(|before| piece[before]);
        let after = piece[at + name.len()..].trim_ascii_start();
        before.is_none_or(|before| !is_token(before)) && after.starts_with(b"=")
    })
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The field without our cookies; `None` if no other is left.
fn without_ours(field: &HeaderValue, rules: &Rules) -> Option<HeaderValue> {
    let mut kept = Vec::with_capacity(field.len());
    let mut changed = false;
    for piece in pieces(field) {
        if is_ours(piece, rules) {
            changed = true;
            continue;
        }
        if !kept.is_empty() {
            kept.push(b';');
            kept.extend_from_slice(piece);
        } else if changed {
            kept.extend_from_slice(piece.trim_ascii_start());
        } else {
            kept.extend_from_slice(piece);
        }
    }
    if !changed {
        return Some(field.clone());
    }
    let empty = kept.iter().all(|byte| matches!(byte, b' ' | b'\t' | b';'));
    if empty { None } else { HeaderValue::from_maybe_shared(Bytes::from(kept)).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnCookie::{Absent, Several};

    #[test]
    fn crumbs_of_http2_are_one_field() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2; c=3", ""] {
            headers.append(header::COOKIE, HeaderValue::from_static(crumb));
        }
        let mut http1 = headers.clone();
        join(&mut http1, Version::HTTP_11);
        assert_eq!(http1.get_all(header::COOKIE).iter().count(), 3);
        join(&mut headers, Version::HTTP_2);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3; "]);
    }

    fn rules() -> Rules {
        Rules {
            trusted_proxies: [].into(),
            https: true,
            session_cookie: "__Host-vestibule".into(),
            binding_cookie: "__Host-vestibule-sign-in".into(),
        }
    }

    fn taken(fields: &[&str]) -> (Own, Vec<String>) {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(header::COOKIE, HeaderValue::from_bytes(field.as_bytes()).expect("a value"));
        }
        let own = take(&mut headers, &rules());
        let rest = headers.get_all(header::COOKIE).iter().map(|field| field.as_bytes().escape_ascii().to_string());
        (own, rest.collect())
    }

    fn one(value: &str) -> OwnCookie {
        OwnCookie::One(value.into())
    }

    #[test]
    fn s09_our_cookies_go_and_others_stay_byte_for_byte() {
        for (sent, session, rest) in [
            (&["__Host-vestibule=h"][..], one("h"), &[][..]),
            (&["__Host-vestibule=h; a=1; b=2"], one("h"), &["a=1; b=2"]),
            (&["a=1; __Host-vestibule=h; b=2"], one("h"), &["a=1; b=2"]),
            (&["a=1; b=2; __Host-vestibule=h"], one("h"), &["a=1; b=2"]),
            (&["a=1;__Host-vestibule=h;b=2"], one("h"), &["a=1;b=2"]),
            (&["a=1;  b = \"2\" ;;c; __Host-vestibule=h;"], one("h"), &["a=1;  b = \\\"2\\\" ;;c;"]),
            (&["a=1", "__Host-vestibule=h", "b=2"], one("h"), &["a=1", "b=2"]),
            (&["__Host-vestibule=h; "], one("h"), &[]),
            (&["a=1;  b=2;"], Absent, &["a=1;  b=2;"]),
            (&["__Host-vestibule=h=i=="], one("h=i=="), &[]),
            (&["__Host-vestibule="], one(""), &[]),
            (&["a=\u{e9}; __Host-vestibule=h"], one("h"), &["a=\\xc3\\xa9"]),
        ] {
            let (own, left) = taken(sent);
            assert_eq!(own.session, session, "{sent:?}");
            assert_eq!(left, rest, "{sent:?}");
        }
        assert_eq!(taken(&[]), (Own::default(), vec![]));
    }

    #[test]
    fn s52_two_of_our_cookies_are_none() {
        for sent in [
            &["__Host-vestibule=evil; __Host-vestibule=real"][..],
            &["__Host-vestibule=real; a=1; __Host-vestibule=evil"],
            &["__Host-vestibule=real", "__Host-vestibule=evil"],
            &["__Host-vestibule=real; __Host-vestibule=real; __Host-vestibule=real"],
        ] {
            let (own, left) = taken(sent);
            assert_eq!(own.session, Several, "{sent:?}");
            assert!(left.iter().all(|field| field == "a=1"), "{left:?}");
        }
    }

    #[test]
    fn s52_other_spellings_are_not_our_cookie() {
        for sent in [
            "__Host-vestibule =h",
            "a=1; \t__Host-vestibule=h",
            "a=1;  __Host-vestibule=h",
            "__host-vestibule=h",
            "__Host-vestibule",
            "__Host-vestibule2=h",
            "x__Host-vestibule=h",
            "\u{a0}__Host-vestibule=h",
            "$Version=1; __Host-vestibule=h",
            "$version=\"1\"; a=1; __Host-vestibule=\"h\"; $Path=/",
            "$Version=1,__Host-vestibule=h",
            "a=1,__Host-vestibule=h",
        ] {
            assert_eq!(taken(&[sent]).0, Own::default(), "{sent:?}");
        }
        for sent in ["$Version=1; __Host-vestibule=h", "a=1;  __Host-vestibule =h"] {
            assert!(!taken(&[sent]).1.concat().contains("vestibule"), "{sent:?}");
        }
    }

    #[test]
    fn both_of_our_cookies_are_told_apart() {
        let (own, left) = taken(&["__Host-vestibule-sign-in=b; __Host-vestibule=h"]);
        assert_eq!((own.session, own.binding, left), (one("h"), one("b"), vec![]));
    }

    #[test]
    fn s98_debug_has_no_value() {
        assert_eq!(format!("{:?}", one("secret")), "One([redacted])");
    }
}
