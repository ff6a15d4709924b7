//! The client's request, parsed once. Route, policy, audit and upstream all use these values.

pub mod class;
pub mod target;

pub use class::Class;
pub use target::Target;

use crate::{principal::Principal, refusal::Refusal, route::Route};
use http::{HeaderMap, Method, Request};
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address as the kernel tells it.
    pub address: SocketAddr,
}

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

/// A host name or address as routes name it: lower case, no port, no trailing dot.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Host(Arc<str>);

/// One of our own cookies, as the client sent it.
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

/// Names one request in answers, logs, audit events and towards the upstream: 128 random bits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct RequestId(pub u128);

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
    /// The authority as sent (with port), lower case: what the upstream gets as `Host`.
    pub authority: Arc<str>,
    /// Path and query.
    pub target: Target,
    /// What kind of request it is; decides how a refusal looks.
    pub class: Class,
    /// The client's address: the peer, or what a trusted proxy says.
    pub client: IpAddr,
    /// The client came by https, to us or to a trusted proxy.
    pub https: bool,
    /// End-to-end headers as the client sent them, without hop-by-hop, identity and forwarding headers and without
    /// our own cookies. `Authorization` and `Sec-WebSocket-*` are still here.
    pub headers: HeaderMap,
    /// The session handle.
    pub session: OwnCookie,
    /// What binds a sign-in to this browser.
    pub binding: OwnCookie,
    /// The client asked to go on with a WebSocket (RFC 6455, section 4.1).
    pub websocket: bool,
}

/// A canonical request with the declared fields of its body: all that a policy may look at.
#[derive(Clone)]
pub struct Judged {
    /// The request.
    pub asked: Canonical,
}

impl Canonical {
    /// Parses a request from `peer`, or says why it cannot be read in one way only.
    ///
    /// # Errors
    /// A [`Refusal`] of the client's making; `UntrustedPeer` if nobody but a trusted proxy may ask here.
    pub fn parse<B>(request: Request<B>, peer: &Peer, rules: &Rules) -> Result<(Self, B), Refusal> {
        let _ = (request, peer, rules);
        unimplemented!()
    }

    /// Reads the declared fields of the body, where a rule of the route asks for them.
    ///
    /// # Errors
    /// None in the absence of such rules.
    pub fn inspect(self, route: &Route, principal: &Principal) -> Result<Judged, Refusal> {
        let _ = (route, principal);
        Ok(Judged { asked: self })
    }
}
