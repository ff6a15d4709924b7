//! The configuration as meant. `file.rs` has it as written; only what stands here leaves `config/`.

use crate::{
    canonical::Host,
    principal::Name,
    route::{ErrorBody, GroupPattern, Timeouts, Upstream},
};
use ipnet::IpNet;
use secrecy::SecretString;
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use url::Url;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file it came from.
    pub file: PathBuf,
    /// SHA-256 of the file's bytes, in hex.
    pub digest: String,
    /// The origin that people see; no path, query or fragment.
    pub public_url: Url,
    /// Where we listen.
    pub listen: Vec<Listen>,
    /// Health and metrics.
    pub operations: Option<SocketAddr>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Embedded store, journal, cached discovery.
    pub state: PathBuf,
    /// Ring and assertion keys.
    pub keys: PathBuf,
    /// The providers, in order.
    pub providers: Vec<Arc<ProviderSettings>>,
    /// The routes, in order.
    pub routes: Vec<RouteSettings>,
    /// The directory of `*.cedar` files.
    pub policies: Option<PathBuf>,
    /// How long sessions live.
    pub sessions: SessionSettings,
    /// What is recorded, and how strictly.
    pub audit: AuditSettings,
    /// Data-plane threads; default: one per core.
    pub workers: usize,
    /// How long `run` goes on accepting after SIGTERM. Default 5 s.
    pub drain: Duration,
    /// `public_url` and every listener are loopback and plain http: cookies without `Secure`, said at start-up.
    pub loopback_http: bool,
    /// What is odd but not wrong.
    pub warnings: Vec<String>,
}

/// One address to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
}

/// The kinds of provider that differ in more than their names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProviderKind {
    /// GitLab: groups from userinfo, refresh tokens without `offline_access`.
    Gitlab,
    /// Okta: groups from the ID token, then userinfo; scope `groups offline_access`.
    Okta,
    /// Keycloak: group paths with a leading slash.
    Keycloak,
    /// Any other OpenID provider.
    Oidc,
}

/// One OpenID provider.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// Its name; the prefix of every id of its people and groups.
    pub name: Name,
    /// What it is.
    pub kind: ProviderKind,
    /// The label on the chooser; default the name.
    pub title: String,
    /// The issuer, byte for byte as in its discovery document.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our client secret there.
    pub client_secret: SecretString,
    /// The scopes we ask for, `openid` among them.
    pub scopes: Vec<String>,
    /// The claim that lists groups. Default `groups`.
    pub groups_claim: String,
    /// How often membership is read while a person is active. Default 60 s for GitLab, 5 min for others.
    pub membership_refresh: Duration,
    /// How long the last good membership is used while the provider cannot be reached. Default 15 min.
    pub membership_outage: Duration,
    /// How long a session without refresh token lives. Default 1 h.
    pub without_refresh: Duration,
}

/// One route, without its position.
#[derive(Clone, Debug)]
pub struct RouteSettings {
    /// See [`crate::route::Route`].
    pub name: Name,
    /// See [`crate::route::Route`].
    pub host: Host,
    /// See [`crate::route::Route`].
    pub path: Arc<str>,
    /// See [`crate::route::Route`].
    pub exact: bool,
    /// See [`crate::route::Route`].
    pub upstream: Upstream,
    /// See [`crate::route::Route`].
    pub providers: Arc<[Name]>,
    /// See [`crate::route::Route`].
    pub header_provider: Option<Name>,
    /// See [`crate::route::Route`]. Default: the route's name.
    pub audience: Arc<str>,
    /// See [`crate::route::Route`].
    pub labels: BTreeMap<String, String>,
    /// See [`crate::route::Route`].
    pub groups_header: Arc<[GroupPattern]>,
    /// See [`crate::route::Route`].
    pub origins: Arc<[String]>,
    /// See [`crate::route::Route`].
    pub encoded_slash: bool,
    /// See [`crate::route::Route`].
    pub errors: ErrorBody,
    /// See [`crate::route::Route`].
    pub timeouts: Timeouts,
    /// Shorthand for Cedar permits.
    pub allow: Vec<Allow>,
}

/// One entry of a route's `allow`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Allow {
    /// `public`.
    Public,
    /// `signed-in`.
    SignedIn,
    /// `gitlab:acme` or `gitlab:acme/**`.
    Groups(GroupPattern),
}

/// How long sessions live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionSettings {
    /// Without activity. Default 30 min.
    pub idle: Duration,
    /// In all. Default 8 h.
    pub absolute: Duration,
}

/// What is recorded, and how strictly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditSettings {
    /// What happens when it cannot be recorded.
    pub mode: AuditMode,
    /// A segment is closed at this size. Default 64 MiB.
    pub segment: u64,
}

/// What happens when a decision cannot be recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AuditMode {
    /// The request goes on; the loss is counted and leaves a gap record.
    #[default]
    BestEffort,
    /// The request is refused before a byte goes upstream.
    Required,
}

/// Placeholder.
pub fn load(_: &std::path::Path) -> Result<Settings, String> { unimplemented!() }
