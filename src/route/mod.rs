//! From a canonical request to the place it goes: one of our endpoints, or a route's upstream.

mod endpoint;
mod table;

pub use endpoint::Endpoint;
pub use table::Routes;

use crate::{canonical::Host, config::Allow, group::GroupPath, principal::Name};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// One route: what is asked for, and where it is forwarded.
#[derive(Clone, Debug)]
pub struct Route {
    /// Its position in the configuration; also its place in per-route tables.
    pub index: usize,
    /// Its name; the id of the Cedar entity `Route`.
    pub name: Name,
    /// The host it answers to.
    pub host: Host,
    /// The path it answers to, always ending in `/`; `/` for all. `/v1/` answers to `/v1` too, unless `exact`.
    pub path: Arc<str>,
    /// Tells upper from lower case and a trailing slash (`paths: exact`).
    pub exact: bool,
    /// Where requests go.
    pub upstream: Upstream,
    /// Whose people may come here.
    pub providers: Arc<[Name]>,
    /// Whose people get identity headers upstream.
    pub header_provider: Option<Name>,
    /// `aud` of the assertion. Default: the route's name.
    pub audience: Arc<str>,
    /// Attributes of the Cedar entity.
    pub labels: BTreeMap<String, String>,
    /// Which groups the upstream is told of.
    pub groups_header: Arc<[GroupPattern]>,
    /// Origins that may open a WebSocket here, beside the route's own.
    pub origins: Arc<[String]>,
    /// `%2F` and `;` in a segment are passed on instead of refused.
    pub encoded_slash: bool,
    /// How errors look to calls of this route.
    pub errors: ErrorBody,
    /// When we stop waiting.
    pub timeouts: Timeouts,
    /// Shorthand for Cedar permits.
    pub allow: Vec<Allow>,
}

/// An upstream that speaks HTTP/1.1 in clear text.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Upstream {
    /// Host name or address, and port.
    pub authority: Arc<str>,
}

/// Which groups: one, or one and all below.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupPattern {
    /// `gitlab:acme`.
    Group(Name, GroupPath),
    /// `gitlab:acme/**`.
    Tree(Name, GroupPath),
}

/// How errors look to calls of a route.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ErrorBody {
    /// `application/problem+json` (RFC 9457).
    #[default]
    Problem,
    /// The shape that Backstage's front end reads.
    Backstage,
}

/// When we stop waiting for an upstream or a client. There is no total.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// For the connection. Default 5 s.
    pub connect: Duration,
    /// From the last byte of the request to the first of the answer. Default 60 s.
    pub first_byte: Duration,
    /// Without a byte of the request's body. Default 30 s.
    pub request_idle: Duration,
    /// Without a byte of the answer's body, or of either direction of a WebSocket. Default 10 min.
    pub stream_idle: Duration,
}

/// Where a request goes.
#[derive(Debug)]
pub enum Destination<'a> {
    /// One of our own endpoints under `/.vestibule/`.
    Endpoint(Endpoint),
    /// A route.
    Upstream(&'a Arc<Route>),
}
