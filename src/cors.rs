//! Pages of other origins: which may call a route, asked beforehand by a preflight that we answer ourselves.
//!
//! Source: Fetch, sections 3.2 and 4.8.

use crate::{
    body::Body,
    canonical::{Canonical, Class, Origin},
    refusal::{Reason, Refusal},
    route::{Cors, Route},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
        ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
        ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
    },
};
use std::sync::Arc;

/// What an upstream says of other origins; where a route has `cors`, that is ours to say.
static SAID: [HeaderName; 3] =
    [ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_EXPOSE_HEADERS];

/// Request headers that every page may set (Fetch, section 2.2.2).
const SIMPLE: [&str; 5] = ["accept", "accept-language", "content-language", "content-type", "range"];

/// What an answer says of the page that may read it.
#[derive(Default)]
pub enum Allowed {
    /// The route has no `cors`: whatever the upstream says.
    #[default]
    Unasked,
    /// Nothing: no other origin asks, or one that is not listed.
    Nobody,
    /// This origin may read it.
    Page(Arc<Route>, HeaderValue),
}

impl Allowed {
    /// Who may read the answer to this request.
    pub fn of(asked: &Canonical, route: &Arc<Route>) -> Self {
        let Some(cors) = &route.cors else { return Self::Unasked };
        match asked.headers.get(ORIGIN) {
            Some(origin) if listed(asked, cors) => Self::Page(route.clone(), origin.clone()),
            _ => Self::Nobody,
        }
    }

    /// Says so in the head of the answer. An origin is named, never reflected unlisted, and never `*` (S-97).
    pub(crate) fn write(self, headers: &mut HeaderMap) {
        if let Self::Unasked = self {
            return;
        }
        for name in &SAID {
            headers.remove(name);
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let Self::Page(route, origin) = self else { return };
        let Some(cors) = &route.cors else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if cors.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        put(headers, ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.iter().map(HeaderName::as_str));
    }
}

/// The answer to a preflight, on a route that has `cors`. It asks about a request and is none: nothing of it goes upstream,
/// and the request itself is decided about when it comes.
///
/// # Errors
/// `CrossSite` for an origin, a method or a header that is not listed.
pub fn preflight(asked: &Canonical, route: &Route) -> Result<Option<Response<Body>>, Refusal> {
    let (Class::Preflight, Some(cors)) = (asked.class, &route.cors) else { return Ok(None) };
    if !listed(asked, cors) {
        return Err(refused("Pages of this origin may not call this address."));
    }
    let method = asked.headers.get(ACCESS_CONTROL_REQUEST_METHOD).map(HeaderValue::as_bytes).unwrap_or_default();
    if !cors.methods.iter().any(|one| one.as_str().as_bytes() == method) {
        return Err(refused("Pages of other origins may not use this method here."));
    }
    let wanted = asked.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let wanted = wanted.flat_map(|field| field.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    if !wanted.filter(|name| !name.is_empty()).all(|name| may_set(cors, name)) {
        return Err(refused("Pages of other origins may not set this header here."));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    put(headers, ACCESS_CONTROL_ALLOW_METHODS, cors.methods.iter().map(http::Method::as_str));
    let simple = ["content-type"].into_iter();
    put(headers, ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.iter().map(HeaderName::as_str).chain(simple));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers"));
    Ok(Some(response)) // the envelope says for whom
}

/// The origins whose pages may act with a person's session: those that may send cookies.
pub fn may_act<'a>(asked: &Canonical, route: &'a Route) -> &'a [String] {
    match &route.cors {
        Some(cors) if cors.credentials && !asked.websocket => &cors.origins,
        _ => &[],
    }
}

/// True if the page that asks may send cookies to `route`.
pub fn acts_as_the_person(asked: &Canonical, route: &Route) -> bool {
    route.cors.as_ref().is_some_and(|cors| cors.credentials && listed(asked, cors))
}

fn listed(asked: &Canonical, cors: &Cors) -> bool {
    matches!(asked.origin(), Origin::One(origin) if cors.origins.iter().any(|one| one == origin))
}

fn may_set(cors: &Cors, name: &[u8]) -> bool {
    let is = |one: &str| one.as_bytes().eq_ignore_ascii_case(name);
    SIMPLE.iter().any(|one| is(one)) || cors.headers.iter().any(|one| is(one.as_str()))
}

fn refused(sentence: &str) -> Refusal {
    Refusal::new(Reason::CrossSite, sentence)
}

fn put<'a>(headers: &mut HeaderMap, name: HeaderName, items: impl Iterator<Item = &'a str>) {
    let text = items.collect::<Vec<_>>().join(", ");
    if let (false, Ok(value)) = (text.is_empty(), HeaderValue::try_from(text)) {
        headers.insert(name, value);
    }
}
