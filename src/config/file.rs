//! The configuration as written. Every field is optional here, so that one mistake does not hide the others; what must be
//! there is said by the schema, and what it means by [`super::meaning`]. The comments are the descriptions in that schema.

use crate::fairness::Whom;
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
    /// Where health and metrics are served. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) operations: Option<OperationsFile>,
    /// Addresses and networks whose forwarding headers are believed, such as `10.0.0.0/8`. Default: `[]`.
    pub(super) trusted_proxies: Option<Vec<String>>,
    /// The directory of the embedded store, the journal and cached discovery. Default: `./state`.
    pub(super) state: Option<String>,
    /// The directory of the ring and assertion keys. Default: `./keys`.
    pub(super) keys: Option<String>,
    /// The OpenID providers that people sign in with. Required unless there are `token_issuers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) providers: Option<Vec<ProviderFile>>,
    /// Who vouches for callers with tokens of their own: CI jobs, services, command lines. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_issuers: Option<Vec<TokenIssuerFile>>,
    /// What is asked for and where it is forwarded, at least one. The most specific host and path wins.
    #[schemars(required)]
    pub(super) routes: Option<Vec<RouteFile>>,
    /// The directory of `*.cedar` files. Required unless some route has `allow`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policies: Option<String>,
    /// A second directory of `*.cedar` files, which is asked beside `policies` and never obeyed: what it would decide otherwise is
    /// counted and recorded. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shadow_policies: Option<String>,
    /// How long sessions live.
    pub(super) sessions: Option<SessionsFile>,
    /// What is recorded, and how strictly.
    pub(super) audit: Option<AuditFile>,
    /// Data-plane threads. Default: one per core.
    #[schemars(range(min = 1, max = 1024))]
    pub(super) workers: Option<u64>,
    /// How long connections are accepted after SIGTERM. Default: `5s`.
    pub(super) drain: Option<DurationText>,
    /// How much one client and all of them may take.
    pub(super) limits: Option<LimitsFile>,
    /// Who helps people whom a page refuses. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contact: Option<ContactFile>,
    /// How long browsers are told to come by https only; `0s` tells them nothing. Default: `730d`.
    pub(super) hsts: Option<DurationText>,
}

/// `contact`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContactFile {
    /// The words of the link, such as `Platform team`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// Where it leads: an `https` URL, or `mailto:` and an address.
    #[schemars(required)]
    pub(super) url: Option<String>,
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
    /// An address and port, such as `0.0.0.0:8443`; `unix:/run/vestibule.sock`; or `systemd:NAME` for a socket that systemd holds.
    #[schemars(required)]
    pub(super) address: Option<String>,
    /// The certificates to speak TLS with; without them plain text is spoken. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<TlsFile>,
    /// Which clients are asked for a certificate of their own. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_certificates: Option<ClientCertificatesFile>,
    /// Every connection begins with a header of the PROXY protocol, version 2, from a balancer in `trusted_proxies`. Default: `false`.
    pub(super) proxy_protocol: Option<bool>,
}

/// `tls` of a listener, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsFile {
    /// The file of the certificate and its chain, in PEM. Required, unless `certificates` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// The file of its private key, in PEM, not encrypted. Required, unless `certificates` has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// More certificates, chosen by the name that the client asks for; the first of all serves every other name. Default: `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificates: Option<Vec<CertificateFile>>,
    /// The least version of TLS: `"1.2"` or `"1.3"`. Default: `"1.2"`.
    pub(super) minimum: Option<TlsVersionFile>,
}

/// One certificate of a listener, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateFile {
    /// The file of the certificate and its chain, in PEM.
    #[schemars(required)]
    pub(super) certificate: Option<String>,
    /// The file of its private key, in PEM.
    #[schemars(required)]
    pub(super) key: Option<String>,
}

/// `minimum` of `tls`, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
pub(super) enum TlsVersionFile {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// `client_certificates` of a listener, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientCertificatesFile {
    /// The file of the authorities that issue them, in PEM.
    #[schemars(required)]
    pub(super) ca: Option<String>,
    /// Whether a client without one is turned away. Default: `true`.
    pub(super) required: Option<bool>,
}

/// `limits`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// Client connections at once. Default: `20000`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections: Option<u64>,
    /// Client connections at once from one address, or one /64 network of IPv6; trusted proxies are left out. Default: `1024`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) connections_per_address: Option<u64>,
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
    /// The label on the sign-in page. Default: the name; `GitLab`, `Okta`, `Microsoft` (for `entra`), `Keycloak`, `Google` for those.
    pub(super) title: Option<String>,
    /// The issuer, byte for byte as in the provider's discovery document. For Entra with the tenant's id, or `organizations` or
    /// `common` and `tenants`.
    #[schemars(required)]
    pub(super) issuer: Option<String>,
    /// Our client id at the provider.
    #[schemars(required)]
    pub(super) client_id: Option<String>,
    /// Our client secret at the provider: `{ file: PATH }` or `{ env: NAME }`, never a literal.
    #[schemars(required)]
    pub(super) client_secret: Option<SecretFile>,
    /// The scopes to ask for, `openid` among them; for Okta also `groups` and `offline_access`, for Entra `offline_access`. Default: `[openid, profile, email]`.
    pub(super) scopes: Option<Vec<String>>,
    /// Entra only: the ids of the tenants whose people may sign in. Required where `issuer` is for many. Default: that of `issuer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tenants: Option<Vec<String>>,
    /// Google only: the Workspace domains whose people may sign in. Default: everybody with a Google account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hosted_domains: Option<Vec<String>>,
    /// The claims that a person is described by, in the ID token or at userinfo.
    pub(super) claims: Option<ClaimsFile>,
    /// Where group membership is read, and how often.
    pub(super) membership: Option<MembershipFile>,
}

/// `claims` of a provider, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimsFile {
    /// The login, for display and for upstreams. Default: `preferred_username`, then `nickname`; for Google the verified e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<String>,
    /// The e-mail address, which counts only if it is verified: `email_verified`, for Entra `xms_edov`. Default: `email`.
    pub(super) email: Option<String>,
    /// The full name. Default: `name`.
    pub(super) name: Option<String>,
}

/// `kind` of a provider, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum KindFile {
    Gitlab,
    Okta,
    Entra,
    Keycloak,
    Google,
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
    /// How often membership is read while a person is active, at most `5m`. Default: `60s` for GitLab, else `5m`.
    pub(super) refresh: Option<DurationText>,
    /// How long the last good membership is used while the provider cannot be reached. Default: `15m`.
    pub(super) outage: Option<DurationText>,
    /// The claim that lists groups; for Entra also `roles`. Default: `groups`, none for Google.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<String>,
    /// Entra only: reads the groups of people who are in too many for a token from Microsoft Graph. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) graph: Option<GraphFile>,
    /// How long a session without a refresh token lives. Default: `1h`.
    pub(super) without_refresh: Option<DurationText>,
    /// Reads roles, invited groups and blocked people from GitLab's API, with a token of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api: Option<MembershipApiFile>,
    /// Takes GitLab's hooks at `/.vestibule/hooks/NAME`, so that a change acts at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hook: Option<MembershipHookFile>,
}

/// `membership.api` of a provider, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipApiFile {
    /// A token with scope `read_api`, best of a service account: `{ file: PATH }` or `{ env: NAME }`.
    #[schemars(required)]
    pub(super) token: Option<SecretFile>,
    /// The API's address. Default: `/api/v4` below the issuer.
    pub(super) url: Option<String>,
    /// Whether the token is renewed at two thirds of its life; it then needs scope `self_rotate` too, and the new ones are kept
    /// below `state`. Default: `false`.
    pub(super) rotate: Option<bool>,
}

/// `membership.hook` of a provider, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MembershipHookFile {
    /// The hook's secret token. Either this or `signing_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<SecretFile>,
    /// The hook's signing key, from GitLab 19.0 on; hooks without a signature are then refused. Either this or `token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) signing_key: Option<SecretFile>,
    /// The verification token of a stream of audit events that is sent to the same address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audit_token: Option<SecretFile>,
}

/// `graph` of `membership`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphFile {
    /// Where Graph is; other clouds have their own. Default: `https://graph.microsoft.com`.
    pub(super) url: Option<String>,
}

/// One entry of `token_issuers`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenIssuerFile {
    /// Begins the ids of its services: `[a-z][a-z0-9-]*`, and no provider's name.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// Whose tokens: `gitlab_ci` for ID tokens of CI jobs, `jwt` for access tokens and assertions, `introspection` for opaque
    /// tokens (RFC 7662), `certificate` for clients with a certificate of a listener's `client_certificates`.
    #[schemars(required)]
    pub(super) kind: Option<TokenKindFile>,
    /// `iss` of the tokens, byte for byte. Required unless the kind is `certificate`, or `introspection` with a `prefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) issuer: Option<String>,
    /// The provider whose people these are: those behind jobs, or those whom a token is of. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider: Option<String>,
    /// Whom a token must be for: one of these in `aud`, and never the client id of a provider. Required unless the kind is `certificate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) audiences: Option<Vec<String>>,
    /// The signature algorithms that it may use, such as `ES256`; asymmetric ones only. Default: `[RS256]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) algorithms: Option<Vec<String>>,
    /// How old a token may be, whatever its `exp`, from `1m` to `30d`. Default: `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<DurationText>,
    /// Where its keys are, if it has no discovery document: an `https` URL. Default: what its discovery document says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_uri: Option<String>,
    /// A file with its keys in place of a URL: a JWK set. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) jwks_file: Option<String>,
    /// Kinds `jwt` and `introspection`: what its tokens speak for, a `user` or a `service`. Required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) principal: Option<TokenPrincipalFile>,
    /// Kind `jwt`: the only `typ` that its tokens may have, such as `at+jwt` (RFC 9068) or `vestibule+jwt`. Default: `JWT`, `at+jwt` or none.
    #[serde(rename = "typ", skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    /// Kinds `jwt` and `introspection`: what it calls what it says of a caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) claims: Option<TokenClaimsFile>,
    /// Kind `gitlab_ci`: projects by path with their ids, such as `acme/shop/api: 5120`. A job of that path and another id is in no
    /// project. Default: `{}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) projects: Option<BTreeMap<String, u64>>,
    /// Kind `gitlab_ci`: GitLab before 18.4 does not say in which project a job runs; whether the source project is believed to be
    /// it for pushes, schedules and the like. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) legacy_project: Option<bool>,
    /// Kind `gitlab_ci`: how old-style job tokens (`CI_JOB_TOKEN`) begin, such as `glcbt-`; GitLab is asked about each.
    /// Default: none, and they are not taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job_token_prefix: Option<String>,
    /// Kind `introspection`: where tokens are asked about, an `https` URL. Required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<String>,
    /// Kind `introspection`: as whom we ask. Required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    /// Kind `introspection`: the secret we ask with, `{ file: PATH }` or `{ env: NAME }`. Required there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_secret: Option<SecretFile>,
    /// Kind `introspection`: how its opaque tokens begin, so that they are known as its own. Default: none, and tokens are told by their `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
}

/// `kind` of a token issuer, as written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenKindFile {
    GitlabCi,
    Jwt,
    Introspection,
    Certificate,
}

/// `principal` of a token issuer, as written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenPrincipalFile {
    User,
    Service,
}

/// `claims` of a token issuer, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenClaimsFile {
    /// Who it is, for ever. Default: `sub`.
    pub(super) subject: Option<String>,
    /// The login of a person. Default: `preferred_username`, `username` or the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<String>,
    /// The list of groups. Default: `groups`.
    pub(super) groups: Option<String>,
    /// The client that a service is. Default: `client_id`, `azp`, `cid` or `appid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    /// The scopes: a text with blanks, or a list. Default: `scope` or `scp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) scopes: Option<String>,
}

/// One entry of `routes`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteFile {
    /// The id of the Cedar entity `Route`: `[a-z][a-z0-9-]*`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// The host it answers to, without port. Required where there are several routes. Default: host of `public_url`.
    pub(super) host: Option<String>,
    /// The path it answers to, with all below. Default: `/`.
    pub(super) path: Option<String>,
    /// `exact` tells upper from lower case and a trailing slash, `folded` does not. Default: `folded`.
    pub(super) paths: Option<PathsFile>,
    /// Where requests go, such as `http://127.0.0.1:7007`, or `{ urls: [URL] }`.
    #[schemars(required)]
    pub(super) upstream: Option<UpstreamFile>,
    /// The upstream gets the path without the route's own. Default: `false`.
    pub(super) strip_path: Option<bool>,
    /// The host that the upstream is asked for: `preserve` for the one we were asked for, `upstream` for its URL's, or a
    /// host. Default: `preserve`.
    pub(super) host_header: Option<String>,
    /// Names of the providers whose people may come here. Default: all.
    pub(super) providers: Option<Vec<String>>,
    /// Names of the token issuers whose callers may come here. Default: `[]`.
    pub(super) token_issuers: Option<Vec<String>>,
    /// Whether clients that speak HTTP Basic are asked for a token as password, as `git`, `docker` and `pip` need it. Default: `false`.
    pub(super) basic: Option<bool>,
    /// A header in which tokens may come too, such as `X-Job-Token`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token_header: Option<String>,
    /// Whether the upstream gets the token that a caller came with. Default: `false`.
    pub(super) forward_credential: Option<bool>,
    /// Whether a token is good for one request only, by its `jti`. Default: `false`.
    pub(super) one_time: Option<bool>,
    /// Whether the job of a CI token must still run; GitLab is asked at most every 20 s, by `membership.api`. Default: `false`.
    pub(super) running_job: Option<bool>,
    /// The provider whose people get identity headers upstream. Required where there are several. Default: the only provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header_provider: Option<String>,
    /// `aud` of the assertion that the upstream gets. Default: the name.
    pub(super) audience: Option<String>,
    /// Attributes of the Cedar entity. Default: `{}`.
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// Which groups the upstream is told of, such as `gitlab:acme/**`. Default: `[]`.
    pub(super) groups_header: Option<Vec<String>>,
    /// Which User entity of Backstage's catalog a person is, such as `user:default/{login}`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backstage_user: Option<String>,
    /// Origins that may open a WebSocket here, beside the route's own. Default: `[]`.
    pub(super) origins: Option<Vec<String>>,
    /// Which pages of other origins may call this route, and how. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cors: Option<CorsFile>,
    /// Which pages may show this route's in a frame; in any other a person has no session. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) frame: Option<FrameFile>,
    /// What moves the idle clock of a session: `navigations` (going to pages, sending forms), `any` for every request, or a
    /// list of paths that count beside navigations, such as `/api/activity` or `/edit/*`. Default: `navigations`.
    pub(super) idle: Option<IdleFile>,
    /// Files of an open page that are served for a while after the session's end. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grace: Option<GraceFile>,
    /// Parts of paths that are not recorded: `*` for a segment, `**` at the end for all that follow, such as
    /// `/users/*/records/*`; all below counts too. Default: `[]`.
    pub(super) redact_paths: Option<Vec<String>>,
    /// A stronger or more recent sign-in than a session has by itself. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) step_up: Option<StepUpFile>,
    /// What the upstream gets as its credential, in place of the client's `Authorization`: `assertion` for that as a bearer token,
    /// or a secret of ours in one of the forms below. Default: what the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) credential: Option<CredentialFile>,
    /// Requests whose body is read before they are decided about, so that policies know fields of it. Default: `[]`.
    pub(super) body_fields: Option<Vec<BodyRuleFile>>,
    /// Pass on `%2F` and `;` in a path segment instead of refusing them. Default: `false`.
    pub(super) encoded_slash: Option<bool>,
    /// How refusals look to calls: `problem` (RFC 9457) or `backstage`. Default: `problem`.
    pub(super) body: Option<BodyFile>,
    /// When we stop waiting. There is no total.
    pub(super) timeouts: Option<TimeoutsFile>,
    /// How much each may ask of this route; what is more is refused with 429. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<RouteLimitsFile>,
    /// Shorthand for permits: `public`, `signed-in`, `PROVIDER:group`, `PROVIDER:group/**`, or `PROVIDER:group#ROLE` with `membership.api`.
    /// Default: `[]`.
    pub(super) allow: Option<Vec<String>>,
}

/// One entry of `body_fields`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BodyRuleFile {
    /// Their method: `POST`, `PUT`, `PATCH` or `DELETE`.
    #[schemars(required)]
    pub(super) method: Option<String>,
    /// Their whole path, such as `/api/scaffolder/v2/tasks`; upper and lower case, and a `/` at the end, are the same.
    #[schemars(required)]
    pub(super) path: Option<String>,
    /// The largest body, at most `16MiB`. Default: `64KiB`.
    pub(super) max: Option<SizeText>,
    /// What policies know of the body, by the name that it has in `context.body`.
    #[schemars(required)]
    pub(super) fields: Option<BTreeMap<String, BodyFieldFile>>,
}

/// One field of a body, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BodyFieldFile {
    /// Where it stands in the JSON text (RFC 6901), such as `/templateRef`.
    #[schemars(required)]
    pub(super) pointer: Option<String>,
    /// As what it is read: `string` as it stands there, `backstage_ref` as a reference to an entity of Backstage, written out in lower case. Default: `string`.
    #[serde(rename = "as")]
    pub(super) reading: Option<ReadingFile>,
    /// Whether it may be left out. Default: `false`.
    pub(super) optional: Option<bool>,
}

/// `as` of a field of a body, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ReadingFile {
    #[default]
    String,
    BackstageRef,
}

/// `idle` of a route, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum IdleFile {
    /// `navigations` or `any`.
    One(String),
    /// Paths that count beside navigations.
    Many(Vec<String>),
}

/// `grace` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraceFile {
    /// Their paths, such as `/static/*`.
    #[schemars(required)]
    pub(super) paths: Option<Vec<String>>,
    /// For how long, at most `7d`. Default: `24h`.
    #[serde(rename = "for")]
    pub(super) life: Option<DurationText>,
}

/// `step_up` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepUpFile {
    /// The authentication context class that the sign-in must have reached, as the provider names it. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) acr: Option<String>,
    /// How long ago the person may have proved who they are, from `1m` to `30d`. Default: any time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_age: Option<DurationText>,
}

/// `credential` of a route, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum CredentialFile {
    /// `assertion`.
    One(String),
    /// A secret of ours.
    Many(Box<SecretCredentialFile>),
}

/// A secret that an upstream gets, as written: one of four forms.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretCredentialFile {
    /// A bearer token: `{ file: PATH }` or `{ env: NAME }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bearer: Option<SecretFile>,
    /// A user and a password, for HTTP's Basic scheme.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) basic: Option<BasicFile>,
    /// The field that `value` stands in, such as `X-Api-Key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) header: Option<String>,
    /// The whole value of the field `header`: `{ file: PATH }` or `{ env: NAME }`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<SecretFile>,
    /// The provider whose token for GitLab's API it is, the one in force: that of its `membership.api`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gitlab_api: Option<String>,
    /// Whether clients get the cookies that the upstream sets. Default: `false`.
    pub(super) keep_cookies: Option<bool>,
}

/// `basic` of a credential, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BasicFile {
    /// The user's name, without `:`.
    #[schemars(required)]
    pub(super) user: Option<String>,
    /// The password: `{ file: PATH }` or `{ env: NAME }`.
    #[schemars(required)]
    pub(super) password: Option<SecretFile>,
}

/// `frame` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FrameFile {
    /// The origins of these pages, such as `https://intranet.example.com`; never `*`.
    #[schemars(required)]
    pub(super) ancestors: Option<Vec<String>>,
}

/// `cors` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CorsFile {
    /// The origins, such as `https://app.example.com`; never `*`.
    #[schemars(required)]
    pub(super) origins: Option<Vec<String>>,
    /// The methods that they may use. Default: `[GET, HEAD, POST]`.
    pub(super) methods: Option<Vec<String>>,
    /// The request headers that they may set beside the simple ones and `Content-Type`. Default: `[]`.
    pub(super) headers: Option<Vec<String>>,
    /// The answer's headers that they may read beside the simple ones. Default: `[]`.
    pub(super) expose: Option<Vec<String>>,
    /// Whether they may send cookies, and so act as the person. Default: `false`.
    pub(super) credentials: Option<bool>,
    /// How long a browser may keep the answer to a preflight, at most `1d`. Default: `10m`.
    pub(super) max_age: Option<DurationText>,
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
    Many(Box<UpstreamsFile>),
}

/// The long form of `upstream`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamsFile {
    /// The URLs, all of one kind: `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
    #[schemars(required)]
    pub(super) urls: Option<Vec<String>>,
    /// How it is asked whether it is well: a path such as `/healthz`, or `{ path: … }`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<HealthFile>,
    /// How it is known, where its URLs are `https`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<UpstreamTlsFile>,
    /// Speak HTTP/2 to it. Default: `false`.
    pub(super) http2: Option<bool>,
    /// The most connections to one endpoint. Default: `1024`.
    #[schemars(range(min = 1, max = 1000000))]
    pub(super) connections: Option<u64>,
    /// How long an endpoint that joins or comes back takes to get its full share. Default: `10s`.
    pub(super) slow_start: Option<DurationText>,
    /// How many other endpoints a request that failed is sent to, where that is safe. Default: `2`.
    #[schemars(range(min = 0, max = 10))]
    pub(super) retries: Option<u64>,
}

/// `health` of an upstream, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub(super) enum HealthFile {
    /// The path, such as `/healthz`.
    One(String),
    /// The long form.
    Many(HealthKeysFile),
}

/// The long form of `health`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthKeysFile {
    /// What is asked for by GET, such as `/healthz`; 2xx and 3xx are good answers.
    #[schemars(required)]
    pub(super) path: Option<String>,
    /// The time between two questions. Default: `5s`.
    pub(super) interval: Option<DurationText>,
    /// How long an answer may take. Default: `2s`.
    pub(super) timeout: Option<DurationText>,
    /// Good answers in a row after which an endpoint is well. Default: `2`.
    #[schemars(range(min = 1, max = 100))]
    pub(super) healthy: Option<u64>,
    /// Bad answers in a row after which it is not. Default: `2`.
    #[schemars(range(min = 1, max = 100))]
    pub(super) unhealthy: Option<u64>,
}

/// `tls` of an upstream, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpstreamTlsFile {
    /// The file of the only authorities that may vouch for it, in PEM. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
    /// The name that is asked for and verified. Default: host of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The file of our certificate and its chain, in PEM. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// The file of our certificate's key, in PEM, not encrypted. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// Verify nothing: whoever answers is believed. Default: `false`.
    pub(super) insecure_skip_verify: Option<bool>,
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

/// `limits` of a route, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteLimitsFile {
    /// Each address, before anybody knows whose it is; one /64 network of IPv6 is one address. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<LimitFile>,
    /// Each person, whatever they sign in with. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<LimitFile>,
    /// Each CI job. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<LimitFile>,
    /// All CI jobs of one project together. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) project: Option<LimitFile>,
    /// Each service. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service: Option<LimitFile>,
}

impl RouteLimitsFile {
    pub(super) fn of(&self, whom: Whom) -> Option<&LimitFile> {
        match whom {
            Whom::Address => self.address.as_ref(),
            Whom::User => self.user.as_ref(),
            Whom::Job => self.job.as_ref(),
            Whom::Project => self.project.as_ref(),
            Whom::Service => self.service.as_ref(),
        }
    }
}

/// How much one may ask, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitFile {
    /// How many requests in what time, such as `20/s`, `100/m` or `5000/h`. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) requests: Option<RateText>,
    /// How many of them may come at once after a pause. Default: the number in `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) burst: Option<u64>,
    /// How many requests may be under way at once, each until the last byte of its answer. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) concurrent: Option<u64>,
}

/// `sessions`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionsFile {
    /// Time without activity after which a session ends. Where only `absolute` is written and is shorter, that. Default: `30m`.
    pub(super) idle: Option<DurationText>,
    /// Time after which a session ends in any case. Where only `idle` is written and is longer, that. Default: `8h`.
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
    /// How much of the journal is kept. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retention: Option<RetentionFile>,
    /// Where the journal's records are sent, each at least once. Default: `[]`.
    pub(super) sinks: Option<Vec<SinkFile>>,
    /// What is recorded as a keyed pseudonym: `email` for e-mail addresses wherever they stand, `address` for clients'. Default: `[]`.
    pub(super) pseudonyms: Option<Vec<PseudonymFile>>,
}

/// `audit.retention`, as written: what holds first counts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionFile {
    /// How old a segment gets before it goes, from `1d`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) age: Option<DurationText>,
    /// How large the journal gets before its oldest segment goes, at least two segments. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<SizeText>,
}

/// One entry of `audit.sinks`, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkFile {
    /// What metrics, `vestibule status` and its cursor call it: a lower-case letter, then letters, digits and `-`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// `postgres`, `otlp`, `stdout` or `syslog`.
    #[schemars(required)]
    pub(super) kind: Option<SinkKindFile>,
    /// Where it is: `postgres://USER@HOST:PORT/DATABASE`, `tls://HOST:PORT` for syslog, `https://HOST/v1/logs` for OTLP. Required, unless `kind` is `stdout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    /// PostgreSQL only: the password of the user in `url`. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<SecretFile>,
    /// PostgreSQL only: the schema of the tables. Default: `vestibule`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schema: Option<String>,
    /// Syslog only: the facility of all messages. Default: `audit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) facility: Option<FacilityFile>,
    /// OTLP only: fields that every request has, such as an API key. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) headers: Option<Vec<SinkHeaderFile>>,
    /// How it is known over TLS, and how it knows us. Default: by the system's authorities, and not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<SinkTlsFile>,
    /// Whether records may leave this machine in clear text; on loopback they may in any case. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) insecure_clear_text: Option<bool>,
    /// How much is sent at once, from `4KiB` to `16MiB`. Default: `1MiB`.
    pub(super) batch: Option<SizeText>,
}

/// `kind` of a sink, as written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SinkKindFile {
    Postgres,
    Otlp,
    Stdout,
    Syslog,
}

/// `facility` of a sink, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum FacilityFile {
    User,
    Daemon,
    Auth,
    Authpriv,
    #[default]
    Audit,
    Local0,
    Local1,
    Local2,
    Local3,
    Local4,
    Local5,
    Local6,
    Local7,
}

/// One entry of `headers` of a sink, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkHeaderFile {
    /// The name of the field, such as `Authorization`.
    #[schemars(required)]
    pub(super) name: Option<String>,
    /// Its value: `{ file: PATH }` or `{ env: NAME }`.
    #[schemars(required)]
    pub(super) value: Option<SecretFile>,
}

/// `tls` of a sink, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkTlsFile {
    /// The file of the only authorities that may vouch for it, in PEM. Default: the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<String>,
    /// The name that is asked for and verified. Default: host of the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// The file of our certificate and its chain, in PEM. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<String>,
    /// The file of our certificate's key, in PEM, not encrypted. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

/// One of `audit.pseudonyms`, as written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum PseudonymFile {
    Email,
    Address,
}

/// `mode` of the audit trail, as written.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ModeFile {
    #[default]
    BestEffort,
    Required,
}

/// A number of requests and a time: `20/s`, `100/m` or `5000/h`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(extend("pattern" = "^[0-9]+/[smh]$"))]
pub(super) struct RateText(pub(super) String);

/// A duration with its unit: `500ms`, `90s`, `30m`, `8h` or `1d`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(extend("pattern" = "^[0-9]+(ms|s|m|h|d)$"))]
pub(super) struct DurationText(pub(super) String);

/// A size with its unit: `512B`, `64KiB`, `1MiB` or `1GiB`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[schemars(extend("pattern" = "^[0-9]+(B|KiB|MiB|GiB)$"))]
pub(super) struct SizeText(pub(super) String);
