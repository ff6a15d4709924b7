//! Answers of our own: pages, redirects and JSON, with the headers that all of them carry.

use crate::{body::Body, pages};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use maud::Markup;

/// A page of ours.
pub fn page(status: StatusCode, markup: Markup) -> Response<Body> {
    let mut response = plain(status, "text/html; charset=utf-8", markup.into_string());
    set(&mut response, header::CONTENT_SECURITY_POLICY, pages::CSP);
    set(&mut response, header::X_FRAME_OPTIONS, "DENY");
    response
}

/// JSON of ours.
pub fn json(status: StatusCode, media_type: &'static str, value: &serde_json::Value) -> Response<Body> {
    plain(status, media_type, value.to_string())
}

/// A redirect of ours. A `location` that is no header value becomes `/`.
pub fn redirect(status: StatusCode, location: &str) -> Response<Body> {
    let mut response = plain(status, "text/plain; charset=utf-8", String::new());
    let location = HeaderValue::from_str(location).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(header::LOCATION, location);
    response
}

/// A file that belongs to our pages; it may be kept for an hour.
pub fn asset(media_type: &'static str, text: &'static str) -> Response<Body> {
    let mut response = plain(StatusCode::OK, media_type, text);
    set(&mut response, header::CACHE_CONTROL, "public, max-age=3600");
    response
}

/// Adds a cookie to an answer.
pub fn set_cookie(response: &mut Response<Body>, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

fn plain(status: StatusCode, media_type: &'static str, text: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    set(&mut response, header::CONTENT_TYPE, media_type);
    set(&mut response, header::CACHE_CONTROL, "no-store");
    set(&mut response, header::REFERRER_POLICY, "no-referrer");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn set(response: &mut Response<Body>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}
