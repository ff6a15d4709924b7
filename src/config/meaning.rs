//! From the configuration as written to the configuration as meant, with every mistake that the shape alone does not show.

use super::{
    AuditMode, AuditSettings, Environment, Listen, SessionSettings, Settings,
    file::{AuditFile, ConfigFile, DurationText, ListenFile, ModeFile, RouteFile, SessionsFile},
    mistake::{Mistake, Report, nearest, quote},
    provider, route,
    tree::below,
    value::{self, Expected, write_duration},
};
use ipnet::IpNet;
use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use url::Url;

/// The environment variables that the program itself reads.
const VARIABLES: [&str; 2] = ["VESTIBULE_CONFIG", "VESTIBULE_LOG"];

/// No limit of ours is longer than a month.
pub(super) const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// What reading needs beside the text.
pub(super) struct Meaning<'m, 'r> {
    pub(super) report: &'m mut Report<'r>,
    /// The directory that relative paths start from.
    pub(super) base: &'m Path,
    pub(super) environment: &'m Environment,
}

impl Meaning<'_, '_> {
    /// All settings; none only if a mistake is reported.
    pub(super) fn settings(&mut self, file: &Path, digest: String, written: &ConfigFile) -> Option<Settings> {
        self.variables(written);
        let public_url = self.read("public_url", written.public_url.as_deref(), value::origin);
        let listen = self.listen(written.listen.as_ref());
        let operations = written.operations.as_ref().and_then(|it| it.address.as_deref());
        let operations = self.read("operations.address", operations, value::address);
        self.addresses_differ(&listen, operations);
        let trusted_proxies = self.trusted_proxies(written.trusted_proxies.as_deref().unwrap_or_default());
        let loopback_http = self.transport(public_url.as_ref(), &listen, &trusted_proxies, written);
        let state = self.directory("state", written.state.as_deref().unwrap_or("./state"));
        let keys = self.directory("keys", written.keys.as_deref().unwrap_or("./keys"));
        let providers = provider::all(self, written.providers.as_deref().unwrap_or_default());
        let routes = route::all(self, written, public_url.as_ref(), &listen);
        let policies = self.policies(written);
        let sessions = self.sessions(written.sessions.clone().unwrap_or_default());
        let audit = self.audit(written.audit.clone().unwrap_or_default());
        let drain = self.duration(
            "drain",
            written.drain.as_ref(),
            Duration::from_secs(5),
            Duration::ZERO..=Duration::from_secs(600),
        );
        Some(Settings {
            file: file.to_owned(),
            digest,
            public_url: public_url?,
            listen: listen.into_iter().map(|(_, address)| Listen { address }).collect(),
            operations,
            trusted_proxies: trusted_proxies.into(),
            state,
            keys,
            providers,
            routes,
            policies,
            sessions,
            audit,
            workers: workers(written.workers),
            drain,
            loopback_http,
            warnings: Vec::new(),
        })
    }

    /// Reads a value, if it is there, and reports what was expected in its place.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, Expected>,
    ) -> Option<T> {
        let text = text?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(expected) => {
                self.refuse(key, text, expected);
                None
            }
        }
    }

    /// Reports that `key` has the value `text` and should have another.
    pub(super) fn refuse(&mut self, key: &str, text: &str, expected: Expected) {
        let message = if expected.later {
            format!("`{key}` is {}, which is not supported by this version", quote(text))
        } else {
            format!("`{key}` is {}", quote(text))
        };
        self.report.add(Mistake::new(key, message).expected(format!("expected {}", expected.what)).help(expected.help));
    }

    /// Reads a duration, or takes `default`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        written: Option<&DurationText>,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |text: &str| {
            let found = value::duration(text)?;
            if allowed.contains(&found) {
                return Ok(found);
            }
            let (least, most) = (write_duration(*allowed.start()), write_duration(*allowed.end()));
            Err(Expected::new(format!("a duration from `{least}` to `{most}`")))
        };
        self.read(key, written.map(|it| it.0.as_str()), parse).unwrap_or(default)
    }

    /// Reads a text that must not be empty.
    pub(super) fn text(&mut self, key: &str, text: Option<&str>) -> Option<String> {
        self.read(key, text, |text| {
            let fits = !text.trim().is_empty() && text.len() <= 1024 && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned()).ok_or_else(|| Expected::new("one line of text, at most 1024 bytes"))
        })
    }

    /// A path of the file system, from where the file stands.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        let relative = text.strip_prefix("./").unwrap_or(text);
        self.base.join(relative)
    }

    fn listen(&mut self, written: Option<&ListenFile>) -> Vec<(String, SocketAddr)> {
        match written {
            None => Vec::new(),
            Some(ListenFile::One(text)) => {
                let address = self.read("listen", Some(text), value::address);
                address.map(|address| ("listen".to_owned(), address)).into_iter().collect()
            }
            Some(ListenFile::Many(list)) => {
                if list.is_empty() {
                    self.report
                        .add(Mistake::new("listen", "`listen` is empty").expected("expected at least one address"));
                }
                let keys = (0..list.len()).map(|index| format!("listen[{index}].address"));
                let read = keys.zip(list).map(|(key, entry)| {
                    let address = self.read(&key, entry.address.as_deref(), value::address)?;
                    Some((key, address))
                });
                read.collect::<Vec<_>>().into_iter().flatten().collect()
            }
        }
    }

    fn addresses_differ(&mut self, listen: &[(String, SocketAddr)], operations: Option<SocketAddr>) {
        let operations = operations.map(|address| ("operations.address".to_owned(), address));
        let all: Vec<_> = listen.iter().cloned().chain(operations).collect();
        for (index, (key, address)) in all.iter().enumerate() {
            let first = all[..index].iter().find(|(_, other)| other == address && address.port() != 0);
            if let Some((first, _)) = first {
                self.report.add(
                    Mistake::new(key, format!("`{key}` is `{address}`, as `{first}` is"))
                        .expected("expected an address of its own"),
                );
            }
        }
    }

    fn trusted_proxies(&mut self, written: &[String]) -> Vec<IpNet> {
        let each = written.iter().enumerate();
        each.filter_map(|(index, text)| self.read(&format!("trusted_proxies[{index}]"), Some(text), value::network))
            .collect()
    }

    /// Plain http is for loopback, and for what stands behind a proxy that we know. True for plain http on loopback.
    fn transport(
        &mut self,
        public_url: Option<&Url>,
        listen: &[(String, SocketAddr)],
        trusted: &[IpNet],
        written: &ConfigFile,
    ) -> bool {
        let Some(public_url) = public_url else { return false };
        if public_url.scheme() == "https" {
            let none = written.trusted_proxies.as_ref().is_none_or(Vec::is_empty);
            if let (true, true, Some((key, address))) = (none, trusted.is_empty(), listen.first()) {
                self.report.add(
                    Mistake::new("trusted_proxies", "`trusted_proxies` is empty, and `public_url` is https")
                        .expected("expected the addresses of what terminates TLS")
                        .help(format!("`{key}` takes plain http on `{address}`: list the proxy in front of it, such as `[10.0.0.0/8]`")),
                );
            }
            return false;
        }
        if !value::is_loopback(public_url) {
            let expected = Expected::new("an `https` URL")
                .help("plain http is for `localhost`, `*.localhost`, `127.0.0.0/8` and `::1` only");
            self.refuse("public_url", public_url.origin().ascii_serialization().as_str(), expected);
            return false;
        }
        for (key, address) in listen.iter().filter(|(_, address)| !address.ip().is_loopback()) {
            let expected = Expected::new("a loopback address, such as `127.0.0.1:8080`")
                .help("`public_url` is plain http, which never leaves this machine: change this address, or write an `https` URL there");
            self.refuse(key, &address.to_string(), expected);
        }
        self.report
            .warn("public_url", "plain http on loopback: cookies go without `Secure`, for trying things out only");
        true
    }

    fn directory(&mut self, key: &str, text: &str) -> PathBuf {
        let path = self.path(text);
        if text.is_empty() || (path.exists() && !path.is_dir()) {
            self.refuse(key, text, Expected::new("a directory").help("it is made at the first start"));
        }
        path
    }

    fn policies(&mut self, written: &ConfigFile) -> Option<PathBuf> {
        let Some(text) = &written.policies else {
            let routes = written.routes.as_deref().unwrap_or_default();
            let nothing = |(index, route): (usize, &RouteFile)| {
                route.allow.as_ref().is_none_or(Vec::is_empty) && !self.report.knows(&entry("routes", index, "allow"))
            };
            if routes.iter().enumerate().all(nothing) && !routes.is_empty() {
                self.report.add(
                    Mistake::new(
                        "policies",
                        "`policies` is missing, and no route has `allow`: nothing would be permitted",
                    )
                    .expected("expected a key `policies` here")
                    .at_key()
                    .help("write `policies: ./policies`, or `allow` on a route".to_owned()),
                );
            }
            return None;
        };
        let path = self.path(text);
        if text.is_empty() || !path.is_dir() {
            let help = format!("there is no directory {}", quote(&path.display().to_string()));
            self.refuse("policies", text, Expected::new("the directory of `*.cedar` files").help(help));
        }
        Some(path)
    }

    /// Where only one of the two is written, the other's default gives way.
    fn sessions(&mut self, written: SessionsFile) -> SessionSettings {
        let allowed = Duration::from_secs(1)..=MONTH;
        let usual = (Duration::from_secs(30 * 60), Duration::from_secs(8 * 3600));
        let idle = self.duration("sessions.idle", written.idle.as_ref(), usual.0, allowed.clone());
        let absolute = self.duration("sessions.absolute", written.absolute.as_ref(), usual.1.max(idle), allowed);
        if let Some(text) = written.idle.filter(|_| idle > absolute) {
            let most = write_duration(absolute);
            let help = "a session without activity would outlive `sessions.absolute`".to_owned();
            self.refuse("sessions.idle", &text.0, Expected::new(format!("at most `{most}`")).help(help));
        }
        SessionSettings { idle: idle.min(absolute), absolute }
    }

    fn audit(&mut self, written: AuditFile) -> AuditSettings {
        let segment = self.read("audit.segment", written.segment.as_ref().map(|it| it.0.as_str()), |text| {
            let size = value::size(text)?;
            let fits = (4 << 10..=4 << 30).contains(&size);
            fits.then_some(size).ok_or_else(|| Expected::new("a size from `4KiB` to `4GiB`"))
        });
        let mode = match written.mode.unwrap_or_default() {
            ModeFile::BestEffort => AuditMode::BestEffort,
            ModeFile::Required => AuditMode::Required,
        };
        AuditSettings { mode, segment: segment.unwrap_or(64 << 20) }
    }

    /// A variable of ours that nobody reads is a typing error, like an unknown key.
    fn variables(&mut self, written: &ConfigFile) {
        let secrets = written.providers.iter().flatten().filter_map(|it| it.client_secret.as_ref()?.env.as_deref());
        let known: Vec<&str> = VARIABLES.into_iter().chain(secrets).collect();
        let ours = self.environment.keys().filter(|name| name.starts_with("VESTIBULE_") && !is_service_link(name));
        for name in ours.filter(|name| !known.contains(&name.as_str())) {
            let help = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "unset it: settings are written in the configuration file".to_owned(),
            };
            let message = format!("the environment variable {} is not known", quote(name));
            self.report.add_at(None, Mistake::new("", message).help(help));
        }
    }
}

/// Kubernetes sets these in every pod beside a service named `vestibule`.
fn is_service_link(name: &str) -> bool {
    name == "VESTIBULE_PORT" || name.starts_with("VESTIBULE_PORT_") || name.starts_with("VESTIBULE_SERVICE_")
}

/// The path of an entry's key.
pub(super) fn entry(list: &str, index: usize, key: &str) -> String {
    below(&format!("{list}[{index}]"), key)
}

fn workers(written: Option<u64>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    written.and_then(|workers| usize::try_from(workers).ok()).unwrap_or_else(cores)
}
