//! The configuration as written. Every field is optional here, so that one mistake does not hide the others; what must be
//! there is said by the schema, and what it means by [`super::meaning`]. The comments are the descriptions in that schema.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The configuration of Vestibule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Vestibule configuration")]
pub(super) struct ConfigFile {
    /// The origin that people see, such as `https://portal.example.com`: no path. Plain `http` only on loopback.
    #[schemars(required)]
    pub(super) public_url: Option<String>,
    /// Where to listen, such as `0.0.0.0:8080`, or a list of `{ address: … }`.
    #[schemars(required)]
    pub(super) listen: Option<ListenFile>,
    /// Where health and metrics are served. Default: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operations: Option<OperationsFile>,
    /// Addresses and networks whose forwarding headers are believed, such as `10.0.0.0/8`. Default: none.
    pub(super) trusted_proxies: Option<Vec<String>>,
    /// The directory of the embedded store, the journal and cached discovery. Default: `./state`.
    pub(super) state: Option<String>,
    /// The directory of the ring and assertion keys. Default: `./keys`.
    pub(super) keys: Option<String>,
    /// The OpenID providers that people sign in with, at least one.
    #[schemars(required)]
    pub(super) providers: Option<Vec<ProviderFile>>,
    /// What is asked for and where it is forwarded, at least one. The most specific host and path wins.
    #[schemars(required)]
    pub(super) routes: Option<Vec<RouteFile>>,
    /// The directory of `*.cedar` files. Required unless some route has `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policies: Option<String>,
    /// How long sessions live.
    pub(super) sessions: Option<SessionsFile>,
    /// What is recorded, and how strictly.
    pub(super) audit: Option<AuditFile>,
    /// Data-plane threads. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Option<u64>,
    /// How long connections are accepted after SIGTERM. Default: `5s`.
    pub(super) drain: Option<DurationText>,
}

/// `listen`, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum ListenFile {
    /// One address and port.
    One(String),
    /// Several listeners.
    Many(Vec<ListenerFile>),
}

/// One entry of `listen`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenerFile {
    /// An address and port, such as `0.0.0.0:8080` or `[::]:8080`.
    #[schemars(required)]
    pub(super) address: Option<String>,
}

/// `operations`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OperationsFile {
    /// An address and port, such as `127.0.0.1:9090`; never a public one.
    #[schemars(required)]
    pub(super) address: Option<String>,
}

/// One entry of `providers`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderFile {
    /// The prefix of every id of its people and groups: `[a-z][a-z0-9-]*`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// What it is. `oidc` stands for every provider without a kind of its own.
    #[schemars(required)]
    pub(super) kind: Option<KindFile>,
    /// The label on the sign-in page. Default: the name.
    pub(super) title: Option<String>,
    /// The issuer, byte for byte as in the provider's discovery document.
    #[schemars(required)]
    pub(super) issuer: Option<String>,
    /// Our client id at the provider.
    #[schemars(required)]
    pub(super) client_id: Option<String>,
    /// Our client secret at the provider: `{ file: PATH }` or `{ env: NAME }`, never a literal.
    #[schemars(required)]
    pub(super) client_secret: Option<SecretFile>,
    /// The scopes to ask for, `openid` among them. Default: `openid profile email`, for Okta also `groups offline_access`.
    pub(super) scopes: Option<Vec<String>>,
    /// Where group membership is read, and how often.
    pub(super) membership: Option<MembershipFile>,
}

/// `kind` of a provider, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindFile {
    Gitlab,
    Okta,
    Keycloak,
    #[default]
    Oidc,
}

/// A secret, as written: a file or an environment variable, never a value.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub(super) struct SecretFile {
    /// The file that holds it; one line break at its end is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// The environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<String>,
}

/// `membership` of a provider, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipFile {
    /// How often membership is read while a person is active, at most `5m`. Default: `60s` for GitLab, `5m` for others.
    pub(super) refresh: Option<DurationText>,
    /// How long the last good membership is used while the provider cannot be reached. Default: `15m`.
    pub(super) outage: Option<DurationText>,
    /// The claim that lists groups. Default: `groups`.
    pub(super) claim: Option<String>,
    /// How long a session without a refresh token lives. Default: `1h`.
    pub(super) without_refresh: Option<DurationText>,
}

/// One entry of `routes`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    /// The id of the Cedar entity `Route`: `[a-z][a-z0-9-]*`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// The host it answers to, without port. Default for a single route: the host of `public_url`.
    pub(super) host: Option<String>,
    /// The path it answers to, with all below. Default: `/`.
    pub(super) path: Option<String>,
    /// `exact` tells upper from lower case and a trailing slash, `folded` does not. Default: `folded`.
    pub(super) paths: Option<PathsFile>,
    /// Where requests go, such as `http://127.0.0.1:7007`, or `{ urls: [URL] }`.
    #[schemars(required)]
    pub(super) upstream: Option<UpstreamFile>,
    /// Names of the providers whose people may come here. Default: all.
    pub(super) providers: Option<Vec<String>>,
    /// The provider whose people get identity headers upstream. Required where there are several, else that one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_provider: Option<String>,
    /// `aud` of the assertion that the upstream gets. Default: the name.
    pub(super) audience: Option<String>,
    /// Attributes of the Cedar entity. Default: none.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Which groups the upstream is told of, such as `gitlab:acme/**`. Default: none.
    pub(super) groups_header: Option<Vec<String>>,
    /// Origins that may open a WebSocket here, beside the route's own. Default: none.
    pub(super) origins: Option<Vec<String>>,
    /// Pass on `%2F` and `;` in a path segment instead of refusing them. Default: `false`.
    pub(super) encoded_slash: Option<bool>,
    /// How refusals look to calls: `problem` (RFC 9457) or `backstage`. Default: `problem`.
    pub(super) body: Option<BodyFile>,
    /// When we stop waiting. There is no total.
    pub(super) timeouts: Option<TimeoutsFile>,
    /// Shorthand for permits: `public`, `signed-in`, `PROVIDER:group` or `PROVIDER:group/**`. Default: none.
    pub(super) allow: Option<Vec<String>>,
}

/// `paths` of a route, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PathsFile {
    Exact,
    #[default]
    Folded,
}

/// `upstream` of a route, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum UpstreamFile {
    /// One URL, such as `http://127.0.0.1:7007`.
    One(String),
    /// The long form.
    Many(UpstreamsFile),
}

/// The long form of `upstream`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamsFile {
    /// The URLs; this version takes one.
    #[schemars(required)]
    pub(super) urls: Option<Vec<String>>,
}

/// `body` of a route, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BodyFile {
    #[default]
    Problem,
    Backstage,
}

/// `timeouts` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeoutsFile {
    /// For the connection. Default: `5s`.
    pub(super) connect: Option<DurationText>,
    /// From the last byte of the request to the first of the answer. Default: `60s`.
    pub(super) first_byte: Option<DurationText>,
    /// Without a byte of the request's body. Default: `30s`.
    pub(super) request_idle: Option<DurationText>,
    /// Without a byte of the answer's body, or of either direction of a WebSocket. Default: `10m`.
    pub(super) stream_idle: Option<DurationText>,
}

/// `sessions`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsFile {
    /// Time without activity after which a session ends. Default: `30m`, or `absolute` if that is shorter.
    pub(super) idle: Option<DurationText>,
    /// Time after which a session ends in any case. Default: `8h`, or `idle` if that is longer.
    pub(super) absolute: Option<DurationText>,
}

/// `audit`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditFile {
    /// What happens when a decision cannot be recorded: `best_effort` goes on, `required` refuses. Default: `best_effort`.
    pub(super) mode: Option<ModeFile>,
    /// The size at which a segment of the journal is closed. Default: `64MiB`.
    pub(super) segment: Option<SizeText>,
}

/// `mode` of the audit trail, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModeFile {
    #[default]
    BestEffort,
    Required,
}

/// A duration with its unit: `500ms`, `90s`, `30m`, `8h` or `1d`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub(super) struct DurationText(pub(super) String);

/// A size with its unit: `512B`, `64KiB`, `1MiB` or `1GiB`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)$"))]
pub(super) struct SizeText(pub(super) String);
