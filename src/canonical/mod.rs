//! The client's request, parsed once. Route, policy, audit and upstream all use these values.

pub mod class;
mod cookies;
#[cfg(test)]
pub(crate) mod corpus;
mod fields;
mod forwarded;
mod framing;
mod headers;
mod host;
mod inspect;
mod json;
mod origin;
mod peer;
pub mod target;
#[cfg(test)]
pub(crate) mod testing;
mod trace;
mod websocket;

pub use class::Class;
pub use cookies::OwnCookie;
pub(crate) use headers::{is_ours, same_spelling};
pub use host::{Host, HostError};
pub use inspect::{Field, Fields, Inspected, Judged, too_large};
pub use origin::{FetchSite, Origin};
pub use peer::{ClientCertificate, Peer, TlsClient, Transport, covers, network};
pub use target::Target;
pub use trace::RequestId;

use crate::refusal::{Reason, Refusal};
use http::{HeaderMap, HeaderName, Method, Request, Uri, request::Parts};
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};
use target::TargetError;

/// What [`Canonical::parse`] has to know from the configuration.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Whose forwarding headers are believed. Empty: nobody's.
    pub trusted_proxies: Arc<[IpNet]>,
    /// `public_url` is https. Then a plain listener serves trusted proxies only, and they must say
    /// `X-Forwarded-Proto: https`.
    pub https: bool,
    /// The name of the cookie that holds the session handle.
    pub session_cookie: Arc<str>,
    /// The name of the cookie that binds a sign-in to this browser.
    pub binding_cookie: Arc<str>,
}

/// A request, parsed once.
#[derive(Clone)]
pub struct Canonical {
    /// Names this request.
    pub id: RequestId,
    /// The W3C trace context to continue, made anew where the client sent none that is valid.
    pub traceparent: String,
    /// The method.
    pub method: Method,
    /// The host that was asked, without port.
    pub host: Host,
    /// Host and port, lower case, without the port that the scheme has anyway: what the upstream gets as `Host`.
    pub authority: Arc<str>,
    /// Path and query.
    pub target: Target,
    /// What kind of request it is; decides how a refusal looks.
    pub class: Class,
    /// The client's address: the peer, or what a trusted proxy says.
    pub client: IpAddr,
    /// The client came by https, to us or to a trusted proxy.
    pub https: bool,
    /// The client's certificate, verified, where the listener asks for one and the client itself showed it.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// End-to-end headers as the client sent them, without hop-by-hop, identity and forwarding headers, without
    /// `Host`, `Expect` and `traceparent`, and without our own cookies. `Authorization`, `Content-Length` and
    /// `Sec-WebSocket-*` are still here.
    pub headers: HeaderMap,
    /// The session handle.
    pub session: OwnCookie,
    /// What binds a sign-in to this browser.
    pub binding: OwnCookie,
    /// The client asked to go on with a WebSocket (RFC 6455, section 4.1).
    pub websocket: bool,
}

/// Why a request cannot be read in one way only, and who sent it.
#[derive(Clone, Debug)]
pub struct Unread {
    /// The refusal.
    pub refusal: Refusal,
    /// The client's address, as far as it is known: the peer, or what a trusted proxy says.
    pub client: IpAddr,
}

impl Canonical {
    /// Parses a request from `peer`, or says why it cannot be read in one way only.
    ///
    /// # Errors
    /// A [`Refusal`] of the client's making; `UntrustedPeer` if nobody but a trusted proxy may ask here.
    pub fn parse<B>(request: Request<B>, peer: &Peer, rules: &Rules) -> Result<(Self, B), Unread> {
        let (head, body) = request.into_parts();
        let address = peer.address.ip().to_canonical();
        let source =
            forwarded::Source::of(&head.headers, peer, rules).map_err(|refusal| Unread { refusal, client: address })?;
        let asked = Self::read(head, source, peer, rules);
        Ok((asked.map_err(|refusal| Unread { refusal, client: source.client })?, body))
    }

    fn read(mut head: Parts, source: forwarded::Source, peer: &Peer, rules: &Rules) -> Result<Self, Refusal> {
        framing::check(&head)?;
        let authority = host::Authority::of(&head, source.https).map_err(unclear)?;
        peer.serves(&authority.host)?;
        let target = target(&head.uri)?;
        let websocket = websocket::is_handshake(&head);
        let class = Class::of(&head.method, &head.headers, websocket).in_version(head.version);
        // From here on the client has said all it can say about itself.
        headers::clean(&mut head.headers).map_err(|error| Refusal::new(Reason::HeadTooLarge, error.to_string()))?;
        cookies::join(&mut head.headers, head.version);
        let own = cookies::take(&mut head.headers, rules);
        let id = RequestId::new();
        let asked = Self {
            id,
            traceparent: trace::take(&mut head.headers, id),
            method: head.method,
            authority: authority.text(),
            host: authority.host,
            target,
            class,
            client: source.client,
            https: source.https,
            certificate: peer.certificate().filter(|_| !source.forwarded).cloned(),
            headers: head.headers,
            session: own.session,
            binding: own.binding,
            websocket,
        };
        Ok(asked)
    }

    /// The scheme of `Authorization`, if there is one that can be read (RFC 9110, section 11.4).
    pub fn auth_scheme(&self) -> Option<&str> {
        let value = self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        value.split_once(' ').map(|(scheme, _)| scheme)
    }

    /// The request without the field that a spent credential stood in.
    pub fn without(mut self, field: Option<&HeaderName>) -> Self {
        if let Some(field) = field {
            self.headers.remove(field);
        }
        self
    }
}

fn target(uri: &Uri) -> Result<Target, Refusal> {
    let target = uri.path_and_query().ok_or(TargetError::Form).and_then(Target::of);
    target.map_err(|error| match error {
        TargetError::Long(_) => Refusal::new(Reason::TargetTooLong, error.to_string()),
        _ => unclear(error),
    })
}

fn unclear(error: impl ToString) -> Refusal {
    Refusal::new(Reason::BadRequest, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Version, header, uri::PathAndQuery};

    fn reason(request: http::request::Builder) -> Option<Reason> {
        testing::try_parse(request).err().map(|refusal| refusal.reason)
    }

    fn request(uri: &str) -> http::request::Builder {
        Request::builder().uri(uri).header("x-forwarded-proto", "https")
    }

    #[test]
    fn s31_target_and_host_name_one_host() {
        let refused = Some(Reason::BadRequest);
        for (uri, hosts, expected) in [
            ("/", &["app.example.com"][..], None),
            ("https://app.example.com/", &["app.example.com"], None),
            ("https://APP.example.com:443/", &["app.example.com."], None),
            ("http://app.example.com/", &["app.example.com:80"], None),
            ("/", &[], refused),
            ("https://app.example.com/", &[], refused),
            ("/", &["app.example.com", "app.example.com"], refused),
            ("/", &["app.example.com", "evil.example"], refused),
            ("https://evil.example/", &["app.example.com"], refused),
            ("https://app.example.com:8443/", &["app.example.com"], refused),
            ("http://app.example.com:443/", &["app.example.com"], refused),
            ("https://user@app.example.com/", &["app.example.com"], refused),
            ("ftp://app.example.com/", &["app.example.com"], refused),
            ("app.example.com:443", &["app.example.com"], refused),
            ("app.example.com", &["app.example.com"], refused),
            ("*", &["app.example.com"], refused),
        ] {
            let asked = hosts.iter().fold(request(uri), |asked, host| asked.header("host", *host));
            assert_eq!(reason(asked), expected, "{uri} {hosts:?}");
        }
        assert_eq!(reason(request("*").method("OPTIONS").header("host", "app.example.com")), refused);
    }

    #[test]
    fn s31_http2_and_http10_may_name_the_host_once() {
        for version in [Version::HTTP_2, Version::HTTP_10] {
            let asked = || request("https://App.example.com/a?b").version(version);
            assert_eq!(testing::parse(asked()).host.as_str(), "app.example.com");
            assert_eq!(reason(asked().header("host", "app.example.com")), None);
            assert_eq!(reason(asked().header("host", "evil.example")), Some(Reason::BadRequest));
            assert_eq!(reason(request("/").version(version)), Some(Reason::BadRequest));
        }
    }

    /// Hyper gives us what `http::Uri` accepts; all of the corpus that it accepts is judged as the table says.
    #[test]
    fn s25_s26_the_judged_target_is_the_one_that_is_sent() {
        let mut seen = 0;
        for (sent, expected) in corpus::rows(corpus::PATHS) {
            // `http` cuts a fragment before we see it; the guard below hyper refuses it.
            if sent.contains(&b'#') || !sent.starts_with(b"/") {
                continue;
            }
            let Ok(sent) = PathAndQuery::try_from(&*sent) else { continue };
            let asked = Request::builder().uri(Uri::from(sent)).header("x-forwarded-proto", "https");
            let found = match testing::try_parse(asked.header("host", "app.example.com")) {
                Ok(asked) if asked.target.reserved => format!("reserved {}", asked.target.path_and_query()),
                Ok(asked) => asked.target.path_and_query().to_string(),
                Err(refusal) => {
                    assert_eq!(refusal.reason, Reason::BadRequest);
                    "refused".to_owned()
                }
            };
            assert_eq!(found, expected);
            seen += 1;
        }
        assert!(seen > 100, "{seen}");
    }

    #[test]
    fn an_absolute_target_without_path_is_the_root() {
        for (uri, expected) in [("https://app.example.com", "/"), ("https://app.example.com?x", "/?x")] {
            let asked = testing::parse(request(uri).header("host", "app.example.com"));
            assert_eq!((&*asked.target.path, asked.target.path_and_query().as_str()), ("/", expected));
        }
    }

    #[test]
    fn s85_sizes_have_bounds() {
        let long = format!("/{}", "a".repeat(8192));
        assert_eq!(reason(testing::https("GET", "app.example.com", &long)), Some(Reason::TargetTooLong));
        let large = testing::https("GET", "app.example.com", "/").header("a", "b".repeat(32 * 1024));
        assert_eq!(reason(large), Some(Reason::HeadTooLarge));
    }

    #[test]
    fn s01_s09_what_a_client_cannot_say_is_gone() {
        let asked = testing::parse(
            testing::https("GET", "app.example.com:8443", "/a")
                .header("connection", "close, X-Mine")
                .header("x-mine", "1")
                .header("x-forwarded-user", "root")
                .header("x-forwarded-for", "192.0.2.7")
                .header("x_forwarded_groups", "admins")
                .header("vestibule-assertion", "e30.e30.")
                .header("expect", "100-continue")
                .header("upgrade", "h2c")
                .header("cookie", "a=1; vestibule-s=handle; b=2; vestibule-b=binding")
                .header("authorization", "Bearer a")
                .header("accept", "text/html"),
        );
        let mut left: Vec<_> = asked.headers.keys().map(|name| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "authorization", "cookie"]);
        assert_eq!(asked.headers[header::COOKIE], "a=1; b=2");
        assert_eq!(asked.session, OwnCookie::One("handle".into()));
        assert_eq!(asked.binding, OwnCookie::One("binding".into()));
        assert_eq!((asked.client.to_string().as_str(), asked.https), ("192.0.2.7", true));
        assert_eq!((asked.host.as_str(), &*asked.authority), ("app.example.com", "app.example.com:8443"));
        assert!(asked.traceparent.contains(&asked.id.to_string()));
        assert!(!asked.websocket);
    }

    #[test]
    fn s07_an_https_site_refuses_other_peers() {
        let asked = Request::builder().uri("/").header("host", "app.example.com");
        assert_eq!(reason(asked), Some(Reason::UntrustedPeer));
    }
}
