//! What kind of request it is.

use super::fields;
use http::{HeaderMap, HeaderName, Method, Version, header};

const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// What kind of request it is; decides how a refusal looks. Only a navigation is ever redirected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// A browser goes to a page, at top level, by GET or HEAD.
    Navigation,
    /// A browser goes to a page in a frame of another page, by GET or HEAD.
    Frame,
    /// A browser sends a form at top level (a navigation by another method).
    Submission,
    /// A script, style, image or call from a page.
    Fetch,
    /// An event stream (`Accept: text/event-stream`).
    Stream,
    /// A WebSocket handshake.
    WebSocket,
    /// A CORS preflight.
    Preflight,
    /// gRPC.
    Grpc,
    /// Any other client: `curl`, a CI job, a service.
    Machine,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Navigation,
        Self::Frame,
        Self::Submission,
        Self::Fetch,
        Self::Stream,
        Self::WebSocket,
        Self::Preflight,
        Self::Grpc,
        Self::Machine,
    ];

    /// The word that policies, audit events and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Navigation => "navigation",
            Self::Frame => "frame",
            Self::Submission => "submission",
            Self::Fetch => "fetch",
            Self::Stream => "stream",
            Self::WebSocket => "websocket",
            Self::Preflight => "preflight",
            Self::Grpc => "grpc",
            Self::Machine => "machine",
        }
    }

    /// Tells the class of a request from its fields as they came; `websocket` if it is a whole WebSocket handshake.
    ///
    /// A browser that says what it is doing (`Sec-Fetch-Mode`, `Sec-Fetch-Dest`) is believed; for others a page is what is
    /// fetched by GET or HEAD, accepts `text/html` and carries no sign of a script or a machine.
    ///
    /// Source: Fetch Metadata Request Headers, section 2; Fetch, section 3.2.2.
    pub fn of(method: &Method, headers: &HeaderMap, websocket: bool) -> Self {
        if websocket {
            return Self::WebSocket;
        }
        if *method == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        {
            return Self::Preflight;
        }
        if is_grpc(headers) {
            return Self::Grpc;
        }
        if fields::lists_type(headers, header::ACCEPT, "text/event-stream") {
            return Self::Stream;
        }
        if headers.contains_key(FETCH_MODE) || headers.contains_key(FETCH_DEST) {
            return Self::told(method, headers);
        }
        Self::guessed(method, headers)
    }

    /// The same in this version of HTTP: gRPC is spoken over HTTP/2 only, so that elsewhere its answer cannot end in trailers.
    pub(super) fn in_version(self, version: Version) -> Self {
        match self {
            Self::Grpc if version != Version::HTTP_2 => Self::Machine,
            class => class,
        }
    }

    fn told(method: &Method, headers: &HeaderMap) -> Self {
        let navigates = fields::one(headers, FETCH_MODE) == Some("navigate");
        match fields::one(headers, FETCH_DEST).filter(|_| navigates) {
            Some("document") if is_read(method) => Self::Navigation,
            Some("document") => Self::Submission,
            Some("iframe" | "frame") if is_read(method) => Self::Frame,
            _ => Self::Fetch,
        }
    }

    fn guessed(method: &Method, headers: &HeaderMap) -> Self {
        let scripted = headers.contains_key(REQUESTED_WITH)
            || headers.contains_key(header::UPGRADE)
            || headers.contains_key(header::AUTHORIZATION);
        if !scripted && fields::lists_type(headers, header::ACCEPT, "text/html") {
            if is_read(method) {
                return Self::Navigation;
            }
            if *method == Method::POST && is_form(headers) {
                return Self::Submission;
            }
        }
        let from_page = [header::ORIGIN, header::REFERER].iter().any(|name| headers.contains_key(name));
        if from_page || headers.contains_key(REQUESTED_WITH) { Self::Fetch } else { Self::Machine }
    }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// `application/grpc` and its message formats, but not gRPC-Web, which pages speak.
fn is_grpc(headers: &HeaderMap) -> bool {
    fields::one(headers, header::CONTENT_TYPE).map(fields::media_type).is_some_and(|found| {
        found.eq_ignore_ascii_case("application/grpc")
            || found.get(..17).is_some_and(|start| start.eq_ignore_ascii_case("application/grpc+"))
    })
}

/// What a form can send without a script.
fn is_form(headers: &HeaderMap) -> bool {
    let forms = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
    fields::one(headers, header::CONTENT_TYPE)
        .map(fields::media_type)
        .is_some_and(|found| forms.iter().any(|form| found.eq_ignore_ascii_case(form)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    const HTML: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

    fn class(method: &str, fields: &str, websocket: bool) -> Class {
        let mut headers = HeaderMap::new();
        for field in fields.split(" | ").filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").expect("a field");
            let value = HeaderValue::from_str(if value == "HTML" { HTML } else { value }).expect("a value");
            headers.append(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value);
        }
        Class::of(&Method::from_bytes(method.as_bytes()).expect("a method"), &headers, websocket)
    }

    /// One class for each row; only what a person sees as a page can be redirected.
    #[test]
    fn s96_p08_only_top_level_navigation_is_a_navigation() {
        use Class::{Fetch, Frame, Grpc, Machine, Navigation, Preflight, Stream, Submission, WebSocket};
        for (expected, method, fields) in [
            // Browsers that say what they do.
            (Navigation, "GET", "sec-fetch-mode: navigate | sec-fetch-dest: document | accept: HTML"),
            (Navigation, "HEAD", "sec-fetch-mode: navigate | sec-fetch-dest: document"),
            (Navigation, "GET", "sec-fetch-mode: navigate | sec-fetch-dest: document | sec-fetch-site: cross-site"),
            (Submission, "POST", "sec-fetch-mode: navigate | sec-fetch-dest: document | accept: HTML"),
            (Frame, "GET", "sec-fetch-mode: navigate | sec-fetch-dest: iframe | accept: HTML"),
            (Frame, "GET", "sec-fetch-mode: navigate | sec-fetch-dest: frame | accept: HTML"),
            (Fetch, "POST", "sec-fetch-mode: navigate | sec-fetch-dest: iframe | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: cors | sec-fetch-dest: iframe | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: navigate | sec-fetch-dest: object | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: navigate | accept: HTML"),
            (Fetch, "GET", "sec-fetch-dest: document | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: navigate | sec-fetch-mode: cors | sec-fetch-dest: document"),
            (Fetch, "GET", "sec-fetch-mode: cors | sec-fetch-dest: empty | accept: */*"),
            (Fetch, "GET", "sec-fetch-mode: cors | sec-fetch-dest: empty | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: same-origin | sec-fetch-dest: empty | accept: HTML"),
            (Fetch, "GET", "sec-fetch-mode: no-cors | sec-fetch-dest: script | accept: */*"),
            (Fetch, "GET", "sec-fetch-mode: no-cors | sec-fetch-dest: style | accept: text/css,*/*;q=0.1"),
            (Fetch, "GET", "sec-fetch-mode: no-cors | sec-fetch-dest: image | accept: image/avif,*/*"),
            (Fetch, "GET", "sec-fetch-mode: cors | sec-fetch-dest: manifest | accept: */*"),
            (Fetch, "GET", "sec-fetch-mode: same-origin | sec-fetch-dest: serviceworker | accept: */*"),
            (Fetch, "POST", "sec-fetch-mode: cors | sec-fetch-dest: empty | content-type: application/json"),
            (Stream, "GET", "sec-fetch-mode: cors | sec-fetch-dest: empty | accept: text/event-stream"),
            (Preflight, "OPTIONS", "sec-fetch-mode: cors | origin: https://a | access-control-request-method: PUT"),
            (WebSocket, "GET", "sec-fetch-mode: websocket | upgrade: websocket"),
            // Browsers that do not.
            (Navigation, "GET", "accept: HTML | user-agent: Mozilla/5.0"),
            (Navigation, "HEAD", "accept: text/html"),
            (Navigation, "GET", "accept: TEXT/HTML;level=1"),
            (Navigation, "GET", "accept: image/png | accept: text/html"),
            (Submission, "POST", "accept: HTML | content-type: application/x-www-form-urlencoded"),
            (Fetch, "GET", "accept: HTML | x-requested-with: XMLHttpRequest"),
            (Fetch, "GET", "accept: */* | referer: https://a/"),
            (Fetch, "POST", "accept: */* | origin: https://a | content-type: application/json"),
            (Fetch, "POST", "accept: HTML | origin: https://a | content-type: application/json"),
            (Stream, "GET", "accept: text/event-stream"),
            // Machines.
            (Machine, "GET", ""),
            (Machine, "GET", "accept: */*"),
            (Machine, "GET", "accept: */* | user-agent: curl/8.5.0"),
            (Machine, "GET", "accept: application/json"),
            (Machine, "GET", "accept: text/htmlx"),
            (Machine, "GET", "accept: HTML | upgrade: h2c"),
            (Machine, "GET", "accept: HTML | authorization: Bearer a"),
            (Machine, "POST", "accept: */* | content-type: application/json | authorization: Bearer a"),
            (Machine, "PUT", "accept: HTML"),
            (Machine, "OPTIONS", "origin-x: https://a | access-control-request-method: PUT"),
            (Grpc, "POST", "content-type: application/grpc | te: trailers"),
            (Grpc, "POST", "content-type: application/grpc+proto"),
            (Grpc, "POST", "content-type: Application/gRPC; charset=utf-8"),
            (Machine, "POST", "content-type: application/grpc-web+proto"),
        ] {
            assert_eq!(class(method, fields, expected == WebSocket), expected, "{method} {fields}");
        }
    }

    #[test]
    fn s37_no_user_agent_changes_the_class() {
        for agent in ["", "kube-probe/1.30", "GoogleHC/1.0", "ELB-HealthChecker/2.0"] {
            assert_eq!(class("GET", &format!("user-agent: {agent} | accept: */*"), false), Class::Machine);
        }
    }
}
