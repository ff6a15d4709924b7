//! Canonical requests for the unit tests of this crate, made in the only way there is: by parsing.

use super::{Canonical, Peer, Rules, Transport};
use crate::refusal::Refusal;
use http::{Request, request::Builder};

/// A request through a trusted proxy to an https site.
pub(crate) fn https(method: &str, host: &str, target: &str) -> Builder {
    http(method, host, target).header("x-forwarded-proto", "https")
}

/// A request to the same without what the proxy says; to a plain site if `host` ends with `.localhost:80`.
pub(crate) fn http(method: &str, host: &str, target: &str) -> Builder {
    Request::builder().method(method).uri(target).header("host", host)
}

/// Parses a request that came from loopback, which is a trusted proxy.
pub(crate) fn try_parse(request: Builder) -> Result<Canonical, Refusal> {
    let request = request.body(()).expect("a request");
    let rules = Rules {
        trusted_proxies: ["127.0.0.0/8".parse().expect("a net")].into(),
        https: !request.headers().get("host").is_some_and(|host| host.as_bytes().ends_with(b".localhost:80")),
        session_cookie: "vestibule-s".into(),
        binding_cookie: "vestibule-b".into(),
    };
    let peer = Peer { address: ([127, 0, 0, 1], 40_000).into(), transport: Transport::Plain };
    Canonical::parse(request, &peer, &rules).map(|(asked, ())| asked).map_err(|unread| unread.refusal)
}

/// Parses a request that must be fine.
pub(crate) fn parse(request: Builder) -> Canonical {
    try_parse(request).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}
