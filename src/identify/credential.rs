//! Where a credential may stand in a request. Nothing is verified here.

use crate::{
    canonical::Canonical,
    oidc::bare,
    refusal::{Reason, Refusal},
    route::Route,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, header};
use std::borrow::Cow;
use zeroize::Zeroizing;

/// A credential that a request came with.
pub(super) struct Presented<'a> {
    /// The field that it stands in.
    pub(super) field: HeaderName,
    /// The token, or what stands in its place.
    pub(super) token: Cow<'a, str>,
}

/// The credentials of a request: that of `Authorization`, and that of the header which the route has for tokens. Tokens in the
/// query or in a body are never looked for (RFC 9700, section 4.3.2).
///
/// # Errors
/// `TwoTokens` where the route's own header is there twice.
pub(super) fn presented<'a>(asked: &'a Canonical, route: &Route) -> Result<Vec<Presented<'a>>, Refusal> {
    let mut all = Vec::new();
    if let Some(value) = asked.headers.get(header::AUTHORIZATION) {
        all.push(Presented { field: header::AUTHORIZATION, token: of_scheme(value) });
    }
    let Some(name) = &route.tokens.header else { return Ok(all) };
    let mut values = asked.headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => {}
        (Some(value), None) => {
            let token = bare(value.to_str().unwrap_or_default());
            all.push(Presented { field: name.clone(), token: token.into() });
        }
        (Some(_), Some(_)) => {
            return Err(Refusal::new(Reason::TwoTokens, format!("The header `{name}` is there more than once.")));
        }
    }
    Ok(all)
}

/// The token of an `Authorization` field: after `Bearer` (RFC 6750, section 2.1), or the password of `Basic` (RFC 7617), as
/// `git`, `docker`, `npm` and `pip` send it. Where that is empty, the user name. Of other schemes there is none.
fn of_scheme(value: &HeaderValue) -> Cow<'_, str> {
    let Ok(text) = value.to_str() else { return "".into() };
    let (scheme, rest) = parted(text);
    if scheme.eq_ignore_ascii_case("bearer") {
        return rest.into();
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return "".into();
    }
    let pair = pair(rest);
    match pair.as_ref().and_then(|pair| pair.split_once(':')) {
        Some((user, "")) => user.to_owned().into(),
        Some((_, password)) => password.to_owned().into(),
        None => "".into(),
    }
}

/// The scheme, and what stands behind it.
fn parted(text: &str) -> (&str, &str) {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    (scheme, rest.trim_start_matches(' '))
}

/// `USER:PASSWORD`, as it stands behind `Basic`.
fn pair(rest: &str) -> Option<Zeroizing<String>> {
    let bytes = BASE64_STANDARD.decode(rest).ok()?;
    let pair = String::from_utf8(bytes).map_err(|error| Zeroizing::new(error.into_bytes())).ok()?;
    Some(Zeroizing::new(pair)).filter(|pair| pair.contains(':'))
}

/// Why what stands in `Authorization` is no token of anybody who is known here, as far as its form says it.
pub(super) fn unknown(value: &HeaderValue) -> String {
    let Ok(text) = value.to_str() else { return "`Authorization` holds bytes that are not ASCII".to_owned() };
    let (scheme, rest) = parted(text);
    let token = of_scheme(value);
    match token.split('.').count() {
        _ if !["bearer", "basic"].contains(&&*scheme.to_ascii_lowercase()) => {
            "`Authorization` has to be `Bearer TOKEN`, and begins with another word".to_owned()
        }
        _ if scheme.eq_ignore_ascii_case("basic") && pair(rest).is_none() => {
            "what follows `Basic` is not `USER:PASSWORD` in base64".to_owned()
        }
        _ if token.trim().is_empty() => format!("there is no token after `{scheme}`, perhaps as a variable is empty"),
        _ if token.starts_with('$') => "the name of a variable was sent in place of what it holds".to_owned(),
        3 => "it names no token issuer of this route as its `iss`".to_owned(),
        parts => format!("it is no JWT (it has {parts} of 3 parts), nor an opaque token that is taken here"),
    }
}

/// The credential is a password, which browsers keep and send by themselves.
pub(super) fn is_basic(asked: &Canonical) -> bool {
    asked.auth_scheme().is_some_and(|scheme| scheme.eq_ignore_ascii_case("basic"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_sends_no_token_of_ours_hears_what_it_looks_like() {
        for (value, expected) in [
            ("Bearer a.b.c", "it names no token issuer of this route as its `iss`"),
            ("Bearer a.b", "it is no JWT (it has 2 of 3 parts), nor an opaque token that is taken here"),
            ("Bearer ", "there is no token after `Bearer`, perhaps as a variable is empty"),
            ("Basic Og==", "there is no token after `Basic`, perhaps as a variable is empty"),
            ("Basic $TOKEN", "what follows `Basic` is not `USER:PASSWORD` in base64"),
            ("Bearer t\u{f6}ken", "`Authorization` holds bytes that are not ASCII"),
            ("Bearer $TOKEN", "the name of a variable was sent in place of what it holds"),
            ("a.b.c", "`Authorization` has to be `Bearer TOKEN`, and begins with another word"),
            ("Token a.b.c", "`Authorization` has to be `Bearer TOKEN`, and begins with another word"),
        ] {
            assert_eq!(unknown(&HeaderValue::from_str(value).expect("a value")), expected, "{value}");
        }
    }

    #[test]
    fn a_token_stands_behind_bearer_or_is_the_password() {
        let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
        for (value, expected) in [
            ("Bearer abc".to_owned(), "abc"),
            ("bearer  abc".to_owned(), "abc"),
            ("BEARER abc".to_owned(), "abc"),
            (basic("gitlab-ci-token:abc"), "abc"),
            (basic("oauth2:a:b"), "a:b"),
            (basic("abc:"), "abc"),
            (basic("abc"), ""),
            ("Basic !!!".to_owned(), ""),
            ("Basic".to_owned(), ""),
            ("Bearer".to_owned(), ""),
            ("Digest username=\"abc\"".to_owned(), ""),
            ("abc".to_owned(), ""),
        ] {
            let header = HeaderValue::try_from(&*value).expect("a header value");
            assert_eq!(of_scheme(&header), expected, "{value}");
        }
    }
}
