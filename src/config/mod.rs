//! The configuration as meant. `file.rs` has it as written; only what stands here leaves `config/`.

mod file;
mod mask;
mod meaning;
#[cfg(test)]
mod messages;
mod mistake;
mod provider;
mod route;
mod schema;
mod secret;
mod show;
#[cfg(test)]
mod tests;
mod tree;
mod unsupported;
mod value;

pub use mistake::{ConfigError, ConfigErrors};
pub use schema::schema;
pub(crate) use secret::open_to_others;

use crate::{
    principal::Name,
    route::{GroupPattern, Route},
};
use aws_lc_rs::digest::{SHA256, digest};
use file::ConfigFile;
use ipnet::IpNet;
use meaning::Meaning;
use mistake::{Mistake, Report};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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
    /// The routes, in order.
    pub routes: Vec<Route>,
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

impl Settings {
    /// A provider as people know it: its title, or its name if it is not configured any more.
    pub fn provider_title<'a>(&'a self, name: &'a Name) -> &'a str {
        self.providers.iter().find(|provider| provider.name == *name).map_or(name.as_str(), |provider| &provider.title)
    }
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

/// No configuration is longer; the rest of a longer file is not read.
const LONGEST: u64 = 4 << 20;

/// The environment variables that are UTF-8.
type Environment = BTreeMap<String, String>;

/// A configuration that was read without a mistake.
#[derive(Debug)]
struct Loaded {
    settings: Settings,
    written: ConfigFile,
}

/// Reads the configuration in `file`, and the secrets that it names. Changes nothing.
///
/// # Errors
/// Every mistake at once, each with its place.
pub fn load(file: &Path) -> Result<Settings, ConfigErrors> {
    Ok(read(file)?.settings)
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
    let fault = |error: std::io::Error| {
        let message = format!("cannot read the configuration {}: {error}", mistake::quote(&file.display().to_string()));
        ConfigErrors::about(file, message, "name the file with `-c FILE` or `VESTIBULE_CONFIG`")
    };
    let mut bytes = Vec::new();
    let opened = fs::File::open(file).map_err(fault)?;
    opened.take(LONGEST + 1).read_to_end(&mut bytes).map_err(fault)?;
    let environment =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    parse(&bytes, file, &environment.collect())
}

/// Reads a configuration that stands in `file`.
fn parse(bytes: &[u8], file: &Path, environment: &Environment) -> Result<Loaded, ConfigErrors> {
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
    let mut report = Report::new(file, text, tree::places(&root));
    let written = schema::check(&root, &mut report);
    let base = file.parent().unwrap_or(Path::new(""));
    let digest = crate::text::hex(digest(&SHA256, bytes).as_ref());
    let loaded = written.and_then(|written| {
        let settings = Meaning { report: &mut report, base, environment }.settings(file, digest, &written)?;
        Some(Loaded { settings, written })
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
