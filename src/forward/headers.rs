//! Heads: the request as the upstream gets it, the answer as the client gets it.

use super::{identity::Identity, upload::Upload};
use crate::canonical::Canonical;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{
        CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
        VARY,
    },
};
use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

const USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const LOGIN: HeaderName = HeaderName::from_static("x-forwarded-preferred-username");
const EMAIL: HeaderName = HeaderName::from_static("x-forwarded-email");
const GROUPS: HeaderName = HeaderName::from_static("x-forwarded-groups");
const TRUNCATED: HeaderName = HeaderName::from_static("vestibule-groups-truncated");
const ASSERTION: HeaderName = HeaderName::from_static("vestibule-assertion");
const CLIENT: HeaderName = HeaderName::from_static("x-forwarded-for");
const AUTHORITY: HeaderName = HeaderName::from_static("x-forwarded-host");
const SCHEME: HeaderName = HeaderName::from_static("x-forwarded-proto");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE: HeaderName = HeaderName::from_static("traceparent");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// What we say of a request or leave to hyper: nobody else can have set it.
static OURS: [HeaderName; 10] =
    [CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, EXPECT, USER, LOGIN, EMAIL, GROUPS, TRUNCATED, ASSERTION];
/// Fields that are about one hop, whatever `Connection` lists.
static HOP_BY_HOP: [HeaderName; 6] = [CONNECTION, KEEP_ALIVE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// The most fields that we add to a request.
const ADDED: usize = 13;

/// A request that cannot be written; only a fault of ours can make one.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    #[error("{0} is not a header value")]
    Value(&'static str),
}

/// The request as the upstream gets it. Nothing is copied from the client's message but what `asked` holds.
pub(super) fn request(
    asked: &Canonical,
    identity: Option<&Identity>,
    upload: Upload,
) -> Result<Request<Upload>, HeadError> {
    let mut headers = asked.headers.clone();
    headers.reserve(ADDED); // grows once
    drop_fields(&mut headers, |name| OURS.contains(name));
    let authority = HeaderValue::from_str(&asked.authority).map_err(|_| HeadError::Value("authority"))?;
    headers.insert(HOST, authority.clone());
    frame(&mut headers, &asked.method, &upload);
    introduce(&mut headers, identity);
    let client = HeaderValue::try_from(text(asked.client)).map_err(|_| HeadError::Value("client address"))?;
    headers.insert(CLIENT, client);
    headers.insert(AUTHORITY, authority);
    headers.insert(SCHEME, HeaderValue::from_static(if asked.https { "https" } else { "http" }));
    let id = HeaderValue::try_from(asked.id.hex()).map_err(|_| HeadError::Value("request id"))?;
    headers.insert(REQUEST_ID, id);
    let trace = HeaderValue::from_str(&asked.traceparent).map_err(|_| HeadError::Value("traceparent"))?;
    headers.insert(TRACE, trace);
    let mut request = Request::new(upload);
    *request.method_mut() = asked.method.clone();
    *request.uri_mut() = Uri::from(asked.target.path_and_query().clone());
    *request.headers_mut() = headers;
    Ok(request)
}

/// Leaves framing to hyper, which writes exactly one field for it, save where hyper would take a body for none and
/// where the absence of a length would say more than its being 0 (RFC 9110, section 8.6).
fn frame(headers: &mut HeaderMap, method: &Method, upload: &Upload) {
    if upload.unsized_body() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if upload.is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
}

/// Says who asks.
fn introduce(headers: &mut HeaderMap, identity: Option<&Identity>) {
    let plain = identity.and_then(|identity| identity.plain.as_ref());
    put(headers, USER, plain.map(|plain| &plain.user));
    put(headers, LOGIN, plain.map(|plain| &plain.login));
    put(headers, EMAIL, plain.and_then(|plain| plain.email.as_ref()));
    put(headers, GROUPS, plain.and_then(|plain| plain.groups.as_ref()));
    if plain.is_some_and(|plain| plain.truncated) {
        headers.insert(TRUNCATED, HeaderValue::from_static("true"));
    }
    put(headers, ASSERTION, identity.map(|identity| &identity.assertion));
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value.clone());
    }
}

/// Removes the fields that `unwanted` picks, by one look at what is there: removing by name costs as much where the name
/// is absent.
fn drop_fields(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What `to_string` writes; for an IPv4 address at a fifth of its cost.
fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => dotted(address),
        IpAddr::V6(address) => address.to_string(),
    }
}

fn dotted(address: Ipv4Addr) -> String {
    let mut text = String::with_capacity(16);
    for octet in address.octets() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let zeros = usize::from(octet < 100) + usize::from(octet < 10);
        text.extend(digits[zeros..].iter().map(|digit| char::from(b'0' + digit)));
        text.push('.');
    }
    text.pop();
    text
}

/// Says what is wrong with an answer's framing: anything that two readers could read in two ways.
pub(super) fn ambiguous(headers: &HeaderMap) -> Option<&'static str> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (coding, more) = (codings.next(), codings.next());
    if lengths > 1 {
        Some("upstream sent several Content-Length fields")
    } else if lengths == 1 && coding.is_some() {
        Some("upstream sent Content-Length with Transfer-Encoding")
    } else if more.is_some() || coding.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        Some("upstream sent a Transfer-Encoding other than `chunked`")
    } else if headers.get(CONTENT_LENGTH).is_some_and(|value| !value.as_bytes().iter().all(u8::is_ascii_digit)) {
        Some("upstream sent a Content-Length that is not a number")
    } else {
        None
    }
}

/// Makes an upstream's header fields fit for the client: end-to-end fields only, our own names kept from it, and nothing that lets
/// a shared cache give one person's answer to another.
pub(super) fn clean_answer(headers: &mut HeaderMap, cookies: &[Arc<str>; 2], personal: bool) {
    drop_hop_by_hop(headers);
    drop_our_names(headers);
    drop_our_cookies(headers, cookies);
    if personal {
        keep_private(headers);
    }
}

/// RFC 9110, section 7.6.1: what `Connection` lists, then the fields that are about one hop whatever it lists.
fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let options: Vec<String> = list(headers, &CONNECTION).map(Cow::into_owned).collect();
    let listed = |name: &HeaderName| options.iter().any(|option| option.eq_ignore_ascii_case(name.as_str()));
    drop_fields(headers, |name| HOP_BY_HOP.contains(name) || (name != CONTENT_LENGTH && listed(name)));
}

fn drop_our_names(headers: &mut HeaderMap) {
    let ours = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("vestibule-")
            || name.starts_with("x-vestibule-")
            || name.starts_with("proxy-")
            || name == "http2-settings"
    };
    drop_fields(headers, ours);
}

/// An upstream can neither set nor clear our cookies.
fn drop_our_cookies(headers: &mut HeaderMap, cookies: &[Arc<str>; 2]) {
    if headers.get_all(SET_COOKIE).iter().any(|value| is_ours(value, cookies)) {
        let others: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|value| !is_ours(value, cookies)).cloned().collect();
        replace(headers, SET_COOKIE, others);
    }
    if headers.contains_key(CLEAR_SITE_DATA) {
        let kept: Vec<_> = list(headers, &CLEAR_SITE_DATA)
            .flat_map(|what| match &*what {
                "\"cookies\"" => &[][..],
                "\"*\"" => &["\"cache\"", "\"storage\"", "\"executionContexts\""][..],
                "\"cache\"" => &["\"cache\""][..],
                "\"storage\"" => &["\"storage\""][..],
                "\"executionContexts\"" => &["\"executionContexts\""][..],
                "\"clientHints\"" => &["\"clientHints\""][..],
                _ => &[][..],
            })
            .copied()
            .collect();
        let kept = HeaderValue::try_from(kept.join(", ")).ok().filter(|value| !value.is_empty());
        replace(headers, CLEAR_SITE_DATA, kept);
    }
}

/// A browser takes `=name=value` for a cookie without name and sends it back as `name=value`.
fn is_ours(value: &HeaderValue, cookies: &[Arc<str>; 2]) -> bool {
    let pair = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default();
    let blank = |byte: &u8| *byte == b' ' || *byte == b'\t' || *byte == b'=';
    let start = pair.iter().position(|byte| !blank(byte)).unwrap_or(pair.len());
    let name = pair[start..].split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    cookies.iter().any(|ours| ours.as_bytes().eq_ignore_ascii_case(name))
}

/// No shared cache may keep it: it is `private` if the upstream does not forbid keeping it at all, `public` and `s-maxage` go,
/// and the answer depends on who asked.
fn keep_private(headers: &mut HeaderMap) {
    let shared = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("public") || name.eq_ignore_ascii_case("s-maxage")
    };
    let closed =
        |directive: &str| directive.eq_ignore_ascii_case("private") || directive.eq_ignore_ascii_case("no-store");
    let said: Vec<_> = list(headers, &CACHE_CONTROL).collect();
    let mut kept: Vec<_> = said.iter().map(|directive| &**directive).filter(|directive| !shared(directive)).collect();
    if !kept.iter().any(|directive| closed(directive)) {
        kept.insert(0, "private");
    }
    if kept != said {
        let kept = HeaderValue::try_from(kept.join(", ")).ok();
        replace(headers, CACHE_CONTROL, kept);
    }
    let vary: Vec<_> = list(headers, &VARY).collect();
    let lacks = |name: &str| !vary.iter().any(|has| has == "*" || has.eq_ignore_ascii_case(name));
    let missing = match (lacks("cookie"), lacks("authorization")) {
        (true, true) => "Cookie, Authorization",
        (true, false) => "Cookie",
        (false, true) => "Authorization",
        (false, false) => return,
    };
    headers.append(VARY, HeaderValue::from_static(missing));
}

/// The members of a comma-separated list over all its fields; commas in quoted strings do not count.
pub(super) fn list<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    headers.get_all(name).iter().flat_map(|value| members(value.as_bytes())).filter(|member| !member.is_empty())
}

fn members(field: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let (mut quoted, mut escaped) = (false, false);
    let members = field.split(move |byte| {
        let border = *byte == b',' && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && !escaped && *byte == b'\\';
        border
    });
    members.map(|member| match String::from_utf8_lossy(member) {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
        Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
    })
}

fn replace(headers: &mut HeaderMap, name: HeaderName, values: impl IntoIterator<Item = HeaderValue>) {
    headers.remove(&name);
    for value in values {
        headers.append(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(fields: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        cleaned_for(fields, false)
    }

    fn cleaned_for(fields: &[(&'static str, &'static str)], personal: bool) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        clean_answer(&mut headers, &["__Host-vestibule".into(), "vestibule-8080".into()], personal);
        headers.remove(VARY);
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect()
    }

    proptest::proptest! {
        /// Our way of writing an address is the standard library's.
        #[test]
        fn writes_addresses_as_everybody_does(address in proptest::prelude::any::<IpAddr>()) {
            proptest::prop_assert_eq!(text(address), address.to_string());
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn drops_what_is_about_one_hop() {
        let kept = cleaned(&[
            ("connection", "close, X-Secret"),
            ("connection", "x-other"),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "Basic"),
            ("upgrade", "h2c"),
            ("trailer", "x"),
            ("server", "up"),
        ]);
        assert_eq!(kept, [pair("server", "up")]);
    }

    #[test]
    fn drops_our_cookies_in_every_spelling_and_keeps_the_others() {
        let kept = cleaned(&[
            ("set-cookie", "__Host-vestibule=x; Path=/"),
            ("set-cookie", " =__host-VESTIBULE=x"),
            ("set-cookie", "vestibule-8080 = y"),
            ("set-cookie", "vestibule-8080"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=__Host-vestibule=1"),
            ("clear-site-data", "\"*\""),
        ]);
        assert_eq!(
            kept,
            [
                pair("set-cookie", "a=1"),
                pair("set-cookie", "b=__Host-vestibule=1"),
                pair("clear-site-data", "\"cache\", \"storage\", \"executionContexts\""),
            ]
        );
        assert!(cleaned(&[("clear-site-data", "\"cookies\"")]).is_empty());
    }

    #[test]
    fn drops_fields_in_our_name() {
        assert!(cleaned(&[("vestibule-assertion", "x"), ("x-vestibule-login", "y")]).is_empty());
    }

    #[test]
    fn personal_answers_are_for_no_shared_cache() {
        let table = [
            ("public, max-age=60", "private, max-age=60"),
            ("max-age=60, s-maxage=600", "private, max-age=60"),
            ("Public", "private"),
            ("private=\"a, public\", max-age=1", "private, private=\"a, public\", max-age=1"),
            ("max-age=60", "private, max-age=60"),
            ("no-cache", "private, no-cache"),
            ("max-age=60, private", "max-age=60, private"),
            ("public, no-store", "no-store"),
        ];
        for (sent, kept) in table {
            assert_eq!(cleaned_for(&[("cache-control", sent)], true), [pair("cache-control", kept)], "{sent}");
        }
        assert_eq!(cleaned_for(&[], true), [pair("cache-control", "private")]);
        assert!(cleaned_for(&[], false).is_empty());
    }

    #[test]
    fn personal_answers_vary_by_who_asks() {
        for (sent, expected) in [
            (None, vec!["Cookie, Authorization"]),
            (Some("Accept"), vec!["Accept", "Cookie, Authorization"]),
            (Some("cookie"), vec!["cookie", "Authorization"]),
            (Some("*"), vec!["*"]),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(sent) = sent {
                headers.insert(VARY, HeaderValue::from_static(sent));
            }
            keep_private(&mut headers);
            assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn finds_framing_that_can_be_read_in_two_ways() {
        let judge = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            ambiguous(&headers).is_some()
        };
        assert!(judge(&[("content-length", "3"), ("content-length", "3")]));
        assert!(judge(&[("content-length", "3"), ("transfer-encoding", "chunked")]));
        assert!(judge(&[("transfer-encoding", "gzip, chunked")]));
        assert!(judge(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]));
        assert!(judge(&[("content-length", "+3")]));
        assert!(!judge(&[("content-length", "3")]));
        assert!(!judge(&[("transfer-encoding", "Chunked")]));
    }
}
