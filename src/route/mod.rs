//! From a canonical request to the place it goes: one of our endpoints, or a route's upstream.

mod backstage;
mod body;
mod credential;
mod endpoint;
mod pattern;
mod redact;
mod table;
#[cfg(test)]
pub(crate) mod testing;

pub use backstage::UserTemplate;
pub use body::{BodyField, BodyRule, Pointer, Reading, Step, folded};
pub use endpoint::{Endpoint, is_reserved};
pub use pattern::PathPattern;
pub use redact::{PathMask, Redaction, decoded};
pub use table::Routes;

use crate::{
    canonical::{Canonical, Host},
    config::Allow,
    credential::Credential,
    fairness::Limits,
    group::GroupPath,
    principal::{Name, StepUp},
    upstream::Upstream,
};
use http::{HeaderName, Method};
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
    /// Where requests go. Routes with the same settings share one.
    pub upstream: Arc<Upstream>,
    /// The upstream gets the path without the route's own (`strip_path`).
    pub strip_path: bool,
    /// The host that the upstream is asked for.
    pub host_header: HostHeader,
    /// Whose people may come here.
    pub providers: Arc<[Name]>,
    /// Whose callers with tokens may come here.
    pub token_issuers: Arc<[Name]>,
    /// How tokens come and go here.
    pub tokens: Tokens,
    /// Whose people get identity headers upstream.
    pub header_provider: Option<Name>,
    /// `aud` of the assertion. Default: the route's name.
    pub audience: Arc<str>,
    /// Attributes of the Cedar entity.
    pub labels: BTreeMap<String, String>,
    /// Which groups the upstream is told of.
    pub groups_header: Arc<[GroupPattern]>,
    /// Which entity of Backstage's catalog a person is, for an upstream that is Backstage.
    pub backstage_user: Option<UserTemplate>,
    /// Origins that may open a WebSocket here, beside the route's own.
    pub origins: Arc<[String]>,
    /// Which pages of other origins may call this route.
    pub cors: Option<Cors>,
    /// Origins whose pages may show this route's in a frame; none: a frame gets no session.
    pub frame: Arc<[String]>,
    /// What counts as a person's activity.
    pub idle: Activity,
    /// What is still served to somebody whose session has just ended.
    pub grace: Option<Grace>,
    /// What a sign-in must be to come here, beyond that there was one.
    pub step_up: Option<Arc<StepUp>>,
    /// What the upstream gets as its credential. Default: what the client sent.
    pub credential: Option<Credential>,
    /// `%2F` and `;` in a segment are passed on instead of refused.
    pub encoded_slash: bool,
    /// Whose body is read before they are decided about; no two name the same request.
    pub body_fields: Arc<[Arc<BodyRule>]>,
    /// What of its paths is not recorded.
    pub redact: Option<Arc<Redaction>>,
    /// How errors look to calls of this route.
    pub errors: ErrorBody,
    /// When we stop waiting.
    pub timeouts: Timeouts,
    /// How much each may ask, and how much they did.
    pub limits: Limits,
    /// Shorthand for Cedar permits.
    pub allow: Vec<Allow>,
}

impl Route {
    /// Whether its description is at `path`: only routes that take tokens have one.
    fn describes(&self, path: &str) -> bool {
        !self.token_issuers.is_empty() && path == self.metadata_path()
    }

    /// The rule that says what policies know of this request's body.
    pub fn body_rule(&self, asked: &Canonical) -> Option<&Arc<BodyRule>> {
        self.body_fields.iter().find(|rule| rule.names(asked))
    }

    /// Where the route describes itself to clients that need a token (RFC 9728, section 3.1).
    pub fn metadata_path(&self) -> String {
        format!("{}{}", endpoint::METADATA, self.path.trim_end_matches('/'))
    }
}

/// How tokens come and go on a route.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// Clients that speak HTTP Basic are asked for a token as password (`basic`).
    pub basic: bool,
    /// A header in which a token may stand too (`token_header`).
    pub header: Option<HeaderName>,
    /// The upstream gets the credential that the caller came with (`forward_credential`).
    pub forward: bool,
    /// A token is good for one request (`one_time`).
    pub one_time: bool,
    /// The job of a token must still run (`running_job`).
    pub running_job: bool,
}

/// The host that an upstream is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum HostHeader {
    /// The one that we were asked for.
    #[default]
    Preserve,
    /// The one of the upstream's URL.
    Upstream,
    /// This one, perhaps with a port.
    Literal(Arc<str>),
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

/// What counts as a person's activity: what moves the idle clock of their session.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Activity {
    /// Going to a page, and sending a form.
    #[default]
    Navigations,
    /// That, and every request to one of these paths.
    Paths(Arc<[PathPattern]>),
    /// Every request.
    Any,
}

/// Files of a page that is open, for a while after its person's session ended by its clocks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grace {
    /// The files.
    pub paths: Arc<[PathPattern]>,
    /// For how long after the session's end.
    pub life: Duration,
}

/// Which pages of other origins may call a route, and how.
///
/// Source: Fetch, section 3.2.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors {
    /// The origins, as browsers write them.
    pub origins: Arc<[String]>,
    /// The methods that they may use.
    pub methods: Vec<Method>,
    /// The request headers that they may set.
    pub headers: Vec<HeaderName>,
    /// The answer's headers that they may read.
    pub expose: Vec<HeaderName>,
    /// They may send cookies.
    pub credentials: bool,
    /// How long a browser may keep the answer to a preflight. Default 10 min.
    pub max_age: Duration,
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
