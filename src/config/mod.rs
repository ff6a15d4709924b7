//! The configuration as meant. `file.rs` has it as written; only what stands here leaves `config/`.

#[cfg(test)]
mod agreement;
mod bodies;
#[cfg(test)]
mod body_messages;
mod changes;
mod cors;
mod credential;
#[cfg(test)]
mod credential_messages;
mod describe;
mod document;
mod expiry;
mod file;
mod frame;
mod kind;
mod limits;
mod listen;
mod mask;
mod meaning;
#[cfg(test)]
mod messages;
mod mistake;
mod particular;
mod places;
mod provider;
#[cfg(test)]
mod provider_messages;
#[cfg(test)]
mod redact_messages;
mod route;
mod route_tokens;
mod schema;
mod secret;
mod show;
mod sink_urls;
mod sinks;
mod step_up;
#[cfg(test)]
mod tests;
mod token_issuer;
#[cfg(test)]
mod token_messages;
mod tokens;
mod tree;
mod unsupported;
mod upstream;
#[cfg(test)]
mod upstream_messages;
mod value;
mod variables;

pub use changes::changes;
pub use describe::schema;
pub(crate) use document::Document;
pub use kind::ProviderKind;
pub(crate) use mistake::nearest;
pub use mistake::{ConfigError, ConfigErrors};
pub use places::Places;
pub(crate) use secret::open_to_others;
pub use sink_urls::is_schema;
pub use sinks::{OtlpSink, PostgresSink, SinkKind, SinkSettings, SyslogSink};
pub(crate) use token_issuer::ALGORITHMS;
pub use tokens::{
    GitlabCi, Introspection, JwtTokens, KeySource, TokenClaims, TokenIssuerSettings, TokenKind, TokenPrincipal,
};

use crate::{
    credential::ApiToken,
    group::{GroupPath, Role},
    guid::Guid,
    principal::Name,
    route::{GroupPattern, Route},
};
use file::ConfigFile;
use ipnet::IpNet;
use meaning::Meaning;
use mistake::{Mistake, Report};
use rustls::{server::danger::ClientCertVerifier, sign::CertifiedKey};
use secrecy::SecretString;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt, fs,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
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
    /// Who vouches for callers with tokens of their own, in order.
    pub token_issuers: Vec<Arc<TokenIssuerSettings>>,
    /// The routes, in order.
    pub routes: Vec<Route>,
    /// The directory of `*.cedar` files.
    pub policies: Option<PathBuf>,
    /// The directory of the `*.cedar` files that are asked beside those, and never obeyed.
    pub shadow_policies: Option<PathBuf>,
    /// How long sessions live.
    pub sessions: SessionSettings,
    /// What is recorded, and how strictly.
    pub audit: AuditSettings,
    /// Where the journal's records are sent, in order.
    pub sinks: Vec<Arc<SinkSettings>>,
    /// Data-plane threads; default: one per core.
    pub workers: usize,
    /// How long `run` goes on accepting after SIGTERM. Default 5 s.
    pub drain: Duration,
    /// `public_url` and every listener are loopback and plain http: cookies without `Secure`, said at start-up.
    pub loopback_http: bool,
    /// How much one client and all of them may take.
    pub limits: LimitSettings,
    /// Who helps people whom a page refuses.
    pub contact: Option<Contact>,
    /// How long browsers are told to come by https only; zero tells them nothing. Default 730 days.
    pub hsts: Duration,
    /// The files that were read for this configuration, beside its own and those of policies. A change in one of them is a
    /// change of the configuration.
    pub files: Vec<PathBuf>,
    /// What is odd but not wrong.
    pub warnings: Vec<String>,
    /// All of it in the shape of the file, with every default and no secret.
    pub effective: Arc<serde_json::Value>,
}

impl Settings {
    /// A provider as people know it: its title, or its name if it is not configured any more.
    pub fn provider_title<'a>(&'a self, name: &'a Name) -> &'a str {
        self.providers.iter().find(|provider| provider.name == *name).map_or(name.as_str(), |provider| &provider.title)
    }
}

/// Who helps people whom a page refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Contact {
    /// The words of the link.
    pub name: String,
    /// Where it leads.
    pub url: Url,
}

/// One place to listen at, and how.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where.
    pub at: ListenAt,
    /// The certificates to speak TLS with; none for plain text.
    pub tls: Option<Arc<Tls>>,
    /// Every connection begins with a header of the PROXY protocol, version 2.
    pub proxy_protocol: bool,
}

/// Where to listen.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ListenAt {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A socket in the file system, for whoever may open it.
    Unix(PathBuf),
    /// A socket that systemd holds, by its `FileDescriptorName`; the only one if it has no name.
    Systemd(Option<String>),
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Systemd(None) => f.write_str("systemd"),
            Self::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// How a listener speaks TLS.
pub struct Tls {
    /// The certificates, at least one; the first serves names that no other has.
    pub certificates: Vec<Arc<Certificate>>,
    /// The least version.
    pub minimum: TlsVersion,
    /// Which clients are asked for a certificate.
    pub clients: Option<ClientCertificates>,
    /// SHA-256 of all that this was made of: equal digests, equal TLS.
    pub digest: [u8; 32],
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificates", &self.certificates)
            .field("minimum", &self.minimum)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// A certificate with its chain and its private key, which is never shown.
pub struct Certificate {
    /// The file of the certificate and its chain.
    pub file: PathBuf,
    /// The file of the private key.
    pub key_file: PathBuf,
    /// The host names and addresses it is for, in lower case; `*.example.com` stands for one label.
    pub names: Vec<String>,
    /// When it begins.
    pub begins: SystemTime,
    /// When it ends.
    pub ends: SystemTime,
    /// Signs with it.
    pub signer: Arc<CertifiedKey>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("file", &self.file).field("names", &self.names).finish_non_exhaustive()
    }
}

/// Which clients are asked for a certificate of their own.
#[derive(Clone)]
pub struct ClientCertificates {
    /// The file of the authorities that issue them.
    pub file: PathBuf,
    /// A client without one is turned away.
    pub required: bool,
    /// Verifies them.
    pub verifier: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificates")
            .field("file", &self.file)
            .field("required", &self.required)
            .finish_non_exhaustive()
    }
}

/// How much one client and all of them may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LimitSettings {
    /// Client connections at once. Default 20,000.
    pub connections: usize,
    /// Client connections at once from one address, or one /64 network of IPv6. Default 1024.
    pub connections_per_address: usize,
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
    /// What it calls what it says of a person.
    pub claims: ClaimNames,
    /// The claim that lists groups. Default `groups`; none for Google, which has no such claim.
    pub groups_claim: Option<String>,
    /// Entra only: the tenants whose people may sign in, at least one.
    pub tenants: Vec<Guid>,
    /// Google only: the Workspace domains whose people may sign in, in lower case; everybody's if there is none.
    pub hosted_domains: Vec<String>,
    /// Entra only: where the groups of somebody who is in too many for a token are read.
    pub graph: Option<Url>,
    /// How often membership is read while a person is active. Default 60 s for GitLab, 5 min for others.
    pub membership_refresh: Duration,
    /// How long the last good membership is used while the provider cannot be reached. Default 15 min.
    pub membership_outage: Duration,
    /// How long a session without refresh token lives. Default 1 h.
    pub without_refresh: Duration,
    /// Where roles, invited groups and blocked people are read beside what people's own tokens tell.
    pub api: Option<MembershipApi>,
    /// How GitLab tells of changes.
    pub hook: Option<MembershipHook>,
}

impl ProviderSettings {
    /// All its secrets, each by the key that names it.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretString)> {
        let mut all = vec![("client_secret", &self.client_secret)];
        all.extend(self.api.as_ref().map(|api| ("membership.api.token", &api.token)));
        if let Some(hook) = &self.hook {
            all.push(match &hook.proof {
                HookProof::Token(token) => ("membership.hook.token", token),
                HookProof::SigningKey(key) => ("membership.hook.signing_key", key),
            });
            all.extend(hook.audit_token.as_ref().map(|token| ("membership.hook.audit_token", token)));
        }
        all
    }
}

/// GitLab's API, asked with a token of ours.
#[derive(Clone, Debug)]
pub struct MembershipApi {
    /// The token that the configuration names.
    pub token: SecretString,
    /// The token in force, for routes with `credential: { gitlab_api: … }`.
    pub lent: Arc<ApiToken>,
    /// The API's address, `/api/v4` included.
    pub url: String,
    /// The token is renewed before it ends. Default no.
    pub rotate: bool,
}

/// How whoever sends hooks proves to be GitLab.
#[derive(Clone, Debug)]
pub struct MembershipHook {
    /// Of system hooks and group hooks.
    pub proof: HookProof,
    /// Of streamed audit events; absent: there are none.
    pub audit_token: Option<SecretString>,
}

/// The proof of a hook: one of the two, never both.
#[derive(Clone, Debug)]
pub enum HookProof {
    /// A secret text that comes with each.
    Token(SecretString),
    /// A key that signs each.
    SigningKey(SecretString),
}

/// The claims that a person is described by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClaimNames {
    /// The login. Default: `preferred_username`, then `nickname`; for Google the verified e-mail address.
    pub login: Option<String>,
    /// The e-mail address, which counts only if it is verified. Default `email`.
    pub email: String,
    /// The full name. Default `name`.
    pub name: String,
}

impl Default for ClaimNames {
    fn default() -> Self {
        Self { login: None, email: "email".to_owned(), name: "name".to_owned() }
    }
}

impl ProviderSettings {
    /// Nothing but what has no default, and the defaults of its kind. Entra needs [`Self::tenants`] besides.
    pub fn new(name: Name, kind: ProviderKind, issuer: &str, client_id: &str, client_secret: SecretString) -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            title: provider::usual_title(name.as_str()).to_owned(),
            name,
            kind,
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            client_secret,
            scopes: kind.scopes(),
            claims: ClaimNames::default(),
            groups_claim: kind.groups_claim().map(str::to_owned),
            tenants: Vec::new(),
            hosted_domains: Vec::new(),
            graph: None,
            membership_refresh: if kind == ProviderKind::Gitlab { MINUTE } else { 5 * MINUTE },
            membership_outage: 15 * MINUTE,
            without_refresh: 60 * MINUTE,
            api: None,
            hook: None,
        }
    }

    /// The issuer as its discovery document says it: with `{tenantid}` in place of the tenant, where people of several
    /// tenants of Entra sign in.
    pub fn published_issuer(&self) -> Cow<'_, str> {
        match self.shared_authority() {
            Some(authority) => Cow::Owned(format!("{authority}/{{tenantid}}/v2.0")),
            None => Cow::Borrowed(&self.issuer),
        }
    }

    /// The issuer of the tokens of one tenant, which is the issuer itself where there is one only.
    pub fn issuer_of(&self, tenant: &Guid) -> String {
        self.published_issuer().replace("{tenantid}", tenant.as_str())
    }

    /// Where people of several tenants of Entra sign in: `https://login.microsoftonline.com`.
    fn shared_authority(&self) -> Option<&str> {
        let shared = |segment: &str| self.issuer.strip_suffix(&format!("/{segment}/v2.0"));
        if self.kind == ProviderKind::Entra { kind::SHARED.iter().find_map(|it| shared(it)) } else { None }
    }
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
    /// `gitlab:acme/platform#maintainer`: that role in the group, or a greater.
    Role(Name, GroupPath, Role),
}

/// How long sessions live.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionSettings {
    /// Without activity. Default 30 min.
    pub idle: Duration,
    /// In all. Default 8 h.
    pub absolute: Duration,
    /// The longest `grace` of any route; zero if there is none.
    pub grace: Duration,
}

/// What is recorded, and how strictly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditSettings {
    /// What happens when it cannot be recorded.
    pub mode: AuditMode,
    /// A segment is closed at this size. Default 64 MiB.
    pub segment: u64,
    /// How much of it is kept. Default: all.
    pub retention: Retention,
    /// What is recorded as a pseudonym. Default: nothing.
    pub pseudonyms: Vec<Pseudonym>,
}

#[cfg(test)]
impl AuditSettings {
    /// A journal of segments of `segment` bytes that refuses nothing.
    pub(crate) fn for_test(segment: u64) -> Self {
        Self { mode: AuditMode::BestEffort, segment, retention: Retention::default(), pseudonyms: Vec::new() }
    }
}

/// What of a person is recorded as a pseudonym.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pseudonym {
    /// E-mail addresses, wherever they stand.
    Email,
    /// Addresses of clients.
    Address,
}

/// What is kept of the journal. Whole segments go, the oldest first, and never the one that is being written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Retention {
    /// What is older goes.
    pub age: Option<Duration>,
    /// What is more than these bytes goes.
    pub size: Option<u64>,
}

impl AuditMode {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BestEffort => "best_effort",
            Self::Required => "required",
        }
    }
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

/// No configuration is longer; the rest of a longer file is not read.
const LONGEST: u64 = 4 << 20;

/// The environment variables that are UTF-8.
type Environment = BTreeMap<String, String>;

/// A configuration that was read without a mistake.
#[derive(Debug)]
struct Loaded {
    settings: Settings,
    written: ConfigFile,
    places: Places,
}

/// Reads the configuration in `file`, and the secrets that it names. Changes nothing.
///
/// # Errors
/// Every mistake at once, each with its place.
pub fn load(file: &Path) -> Result<Settings, ConfigErrors> {
    Ok(read(file)?.settings)
}

/// The same for whoever reviews policies, far from where they serve: a secret that is not there is no mistake, and no file of TLS
/// is read. Not to be served with.
///
/// # Errors
/// Every other mistake at once, each with its place.
pub fn load_for_review(file: &Path) -> Result<Settings, ConfigErrors> {
    load_for_review_with_places(file).map(|(settings, _)| settings)
}

/// The same for whoever reads who is in which group: the tokens of `membership.api` have to be there.
///
/// # Errors
/// Every other mistake at once, each with its place.
pub fn load_for_members(file: &Path) -> Result<Settings, ConfigErrors> {
    Ok(parse_for(Purpose::Members, &bytes(file)?, file, &environment())?.settings)
}

/// The same, with where its keys stand.
///
/// # Errors
/// The same.
pub fn load_for_review_with_places(file: &Path) -> Result<(Settings, Places), ConfigErrors> {
    let loaded = parse_for(Purpose::Review, &bytes(file)?, file, &environment())?;
    Ok((loaded.settings, loaded.places))
}

/// The same, with where its keys stand.
///
/// # Errors
/// Every mistake at once, each with its place.
pub fn load_with_places(file: &Path) -> Result<(Settings, Places), ConfigErrors> {
    read(file).map(|loaded| (loaded.settings, loaded.places))
}

/// Reads a configuration that is not written yet and would stand in `file`. Its secrets are variables named in `secrets`,
/// whatever they hold.
///
/// # Errors
/// Every mistake at once.
pub fn draft(text: &str, file: &Path, secrets: &[&str]) -> Result<Settings, ConfigErrors> {
    let environment = secrets.iter().map(|name| ((*name).to_owned(), "-".to_owned())).collect();
    parse(text.as_bytes(), file, &environment).map(|loaded| loaded.settings)
}

/// The effective configuration in `file` as YAML: every default written out, every path resolved, no secret in it.
///
/// # Errors
/// Every mistake at once, each with its place.
pub fn show(file: &Path) -> Result<String, ConfigErrors> {
    let loaded = read(file)?;
    let shown = show::effective(&loaded.settings, &loaded.written);
    serde_saphyr::to_string(&shown).map_err(|error| unwritable(file, &error))
}

/// The same as [`show`], as JSON.
///
/// # Errors
/// Every mistake at once, each with its place.
pub fn show_json(file: &Path) -> Result<serde_json::Value, ConfigErrors> {
    let loaded = read(file)?;
    let shown = show::effective(&loaded.settings, &loaded.written);
    serde_json::to_value(shown).map_err(|error| unwritable(file, &error))
}

fn unwritable(file: &Path, error: &dyn std::error::Error) -> ConfigErrors {
    ConfigErrors::about(file, format!("the configuration cannot be written: {error}"), "use `vestibule check`")
}

fn read(file: &Path) -> Result<Loaded, ConfigErrors> {
    parse(&bytes(file)?, file, &environment())
}

fn environment() -> Environment {
    let variables = std::env::vars_os();
    variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn bytes(file: &Path) -> Result<Vec<u8>, ConfigErrors> {
    let fault = |error: std::io::Error| {
        let message = format!("cannot read the configuration {}: {error}", mistake::quote(&file.display().to_string()));
        let help = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "name the file with `-c FILE` or `VESTIBULE_CONFIG`, or write one with `vestibule init`"
            }
            _ => "name the file with `-c FILE` or `VESTIBULE_CONFIG`",
        };
        ConfigErrors::about(file, message, help)
    };
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(fault)?;
    opened.take(LONGEST + 1).read_to_end(&mut bytes).map_err(fault)?;
    Ok(bytes)
}

/// What a configuration is read for.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Purpose {
    Serving,
    /// Where its secrets and its files of TLS may not be at hand.
    Review,
    /// The same, but for the tokens with which members are read.
    Members,
}

/// Reads a configuration that stands in `file`.
fn parse(bytes: &[u8], file: &Path, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    parse_for(Purpose::Serving, bytes, file, environment)
}

fn parse_for(purpose: Purpose, bytes: &[u8], file: &Path, environment: &Environment) -> Result<Loaded, ConfigErrors> {
    if bytes.len() as u64 > LONGEST {
        return Err(ConfigErrors::about(
            file,
            "the configuration is longer than 4 MiB".to_owned(),
            "is it the right file?",
        ));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        ConfigErrors::about(file, format!("line {line} of the configuration is not UTF-8"), "save the file as UTF-8")
    })?;
    let root = tree::parse(text).map_err(|broken| broken_yaml(file, text, broken))?;
    let known = tree::places(&root);
    let places = Places::new(text, &known);
    let mut report = Report::new(file, text, known);
    let written = schema::check(&root, &mut report);
    let base = file.parent().unwrap_or(Path::new(""));
    let digest = crate::text::hex(&crate::text::sha256(bytes));
    let loaded = written.and_then(|written| {
        let mut meaning = Meaning { report: &mut report, base, environment, files: Vec::new(), purpose };
        let settings = meaning.settings(file, digest, &written)?;
        let effective = serde_json::to_value(show::effective(&settings, &written)).unwrap_or_default();
        Some(Loaded { settings: Settings { effective: effective.into(), ..settings }, written, places })
    });
    let warnings = report.finish()?;
    match loaded {
        Some(loaded) => Ok(Loaded { settings: Settings { warnings, ..loaded.settings }, ..loaded }),
        None => Err(ConfigErrors::about(
            file,
            "the configuration is incomplete".to_owned(),
            "use `vestibule config schema`",
        )),
    }
}

fn broken_yaml(file: &Path, text: &str, broken: tree::Broken) -> ConfigErrors {
    let mut report = Report::new(file, text, Default::default());
    report.add_at(broken.span, Mistake::new("", "this cannot be read as YAML").expected(broken.message.clone()));
    let fallback = ConfigErrors::about(
        file,
        format!("this cannot be read as YAML: {}", broken.message),
        "check quotes, brackets and indentation",
    );
    match report.finish() {
        Err(errors) if errors.all().iter().all(|error| error.position.is_some()) => errors,
        _ => fallback,
    }
}
