//! From the configuration as written to the configuration as meant, with every mistake that the shape alone does not show.

use super::{
    AuditMode, AuditSettings, Environment, LimitSettings, Listen, ListenAt, Pseudonym, Purpose, Retention,
    SessionSettings, Settings, credential,
    file::{
        AuditFile, ConfigFile, DurationText, LimitsFile, ModeFile, PseudonymFile, RetentionFile, RouteFile,
        SessionsFile,
    },
    listen,
    mistake::{Mistake, Report, quote},
    provider, route, sinks, token_issuer,
    tree::below,
    value::{self, Expected, write_duration, write_size},
    variables,
};
use ipnet::IpNet;
use std::{
    fs,
    io::Read,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use url::Url;

/// No limit of ours is longer than a month.
pub(super) const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// Two years, as the lists of browsers ask for.
const HSTS: Duration = Duration::from_secs(730 * 86_400);

/// What reading needs beside the text.
pub(super) struct Meaning<'m, 'r> {
    pub(super) report: &'m mut Report<'r>,
    /// The directory that relative paths start from.
    pub(super) base: &'m Path,
    pub(super) environment: &'m Environment,
    /// The files that were read so far.
    pub(super) files: Vec<PathBuf>,
    /// What the configuration is read for.
    pub(super) purpose: Purpose,
}

impl Meaning<'_, '_> {
    /// Somebody reviews policies, where neither secrets nor files of TLS may be at hand.
    pub(super) fn is_review(&self) -> bool {
        self.purpose != Purpose::Serving
    }

    /// The secret that this key names need not be at hand.
    pub(super) fn may_lack(&self, key: &str) -> bool {
        match self.purpose {
            Purpose::Serving => false,
            Purpose::Review => true,
            Purpose::Members => !key.ends_with(".membership.api.token"),
        }
    }

    /// All settings; none only if a mistake is reported.
    pub(super) fn settings(&mut self, file: &Path, digest: String, written: &ConfigFile) -> Option<Settings> {
        let secrets = written.providers.iter().flatten().map(|it| &it.client_secret);
        let secrets = secrets.chain(written.token_issuers.iter().flatten().map(|it| &it.client_secret));
        let secrets = secrets.filter_map(|it| it.as_ref()?.env.as_deref());
        let secrets = secrets.chain(credential::variables(written)).chain(sinks::variables(written));
        variables::check(self.report, self.environment, &Vec::from_iter(secrets));
        let public_url = self.read("public_url", written.public_url.as_deref(), value::origin);
        let listen = listen::all(self, written.listen.as_ref());
        let operations = written.operations.as_ref().and_then(|it| it.address.as_deref());
        let operations = self.read("operations.address", operations, value::address);
        self.places_differ(&listen, operations);
        let trusted_proxies = self.trusted_proxies(written.trusted_proxies.as_deref().unwrap_or_default());
        let loopback_http = self.transport(public_url.as_ref(), &listen, &trusted_proxies, written);
        let state = self.directory("state", written.state.as_deref().unwrap_or("./state"));
        let keys = self.directory("keys", written.keys.as_deref().unwrap_or("./keys"));
        let providers = provider::all(self, written.providers.as_deref(), written.token_issuers.is_some());
        let token_issuers = written.token_issuers.as_deref().unwrap_or_default();
        let token_issuers =
            token_issuer::all(self, token_issuers, &providers, written.providers.as_deref().unwrap_or_default());
        let own = |(key, listen): &(String, Listen)| match listen.at {
            ListenAt::Tcp(address) => Some((key.clone(), address)),
            ListenAt::Unix(_) | ListenAt::Systemd(_) => None,
        };
        let own: Vec<_> = listen.iter().filter_map(own).collect();
        let routes = route::all(self, written, public_url.as_ref(), &own, &providers);
        let policies = self.policies(written);
        let shadow_policies = written.shadow_policies.as_deref().and_then(|text| self.shadow_policies(text));
        let grace = routes.iter().filter_map(|route| Some(route.grace.as_ref()?.life)).max().unwrap_or_default();
        let sessions = SessionSettings { grace, ..self.sessions(written.sessions.clone().unwrap_or_default()) };
        let contact = written.contact.as_ref().and_then(|it| super::expiry::contact(self, it));
        let audit = self.audit(written.audit.clone().unwrap_or_default());
        let sinks = sinks::all(self, written.audit.as_ref().and_then(|it| it.sinks.as_deref()).unwrap_or_default());
        let drain = self.duration(
            "drain",
            written.drain.as_ref(),
            Duration::from_secs(5),
            Duration::ZERO..=Duration::from_secs(600),
        );
        let hsts = self.duration("hsts", written.hsts.as_ref(), HSTS, Duration::ZERO..=5 * HSTS);
        Some(Settings {
            file: file.to_owned(),
            digest,
            public_url: public_url?,
            listen: listen.into_iter().map(|(_, listen)| listen).collect(),
            operations,
            trusted_proxies: trusted_proxies.into(),
            state,
            keys,
            providers,
            token_issuers,
            routes,
            policies,
            shadow_policies,
            sessions,
            audit,
            sinks,
            workers: workers(written.workers),
            drain,
            loopback_http,
            limits: limits(written.limits.as_ref()),
            contact,
            hsts,
            files: std::mem::take(&mut self.files),
            warnings: Vec::new(),
            effective: Arc::default(), // written when all is known
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
        let message = format!("`{key}` is {}", quote(text));
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
        let is_here = self.base.as_os_str().is_empty();
        match text {
            "." | "./" if is_here => PathBuf::from("."),
            "." | "./" => self.base.to_owned(),
            _ => self.base.join(text.strip_prefix("./").unwrap_or(text)),
        }
    }

    /// Reads a file that the configuration names, of at most `longest` bytes; a change of it is one of the configuration.
    pub(super) fn file(&mut self, key: &str, text: &str, what: &str, longest: u64) -> Option<Vec<u8>> {
        let path = self.path(text);
        self.files.push(path.clone());
        let shown = quote(&path.display().to_string());
        self.read(key, Some(text), |_| {
            let expected = || Expected::new(format!("a file with {what}"));
            let fault = |error: std::io::Error| {
                expected().help(match error.kind() {
                    std::io::ErrorKind::NotFound => format!("there is no file {shown}"),
                    _ => format!("{shown} cannot be read: {error}"),
                })
            };
            let mut bytes = Vec::new();
            fs::File::open(&path).map_err(fault)?.take(longest + 1).read_to_end(&mut bytes).map_err(fault)?;
            let fits = bytes.len() as u64 <= longest;
            fits.then_some(bytes)
                .ok_or_else(|| expected().help(format!("{shown} is longer than {}", value::write_size(longest))))
        })
    }

    fn places_differ(&mut self, listen: &[(String, Listen)], operations: Option<SocketAddr>) {
        let operations = operations.map(|address| ("operations.address".to_owned(), ListenAt::Tcp(address)));
        let listen = listen.iter().map(|(key, listen)| (key.clone(), listen.at.clone()));
        let all: Vec<_> = listen.chain(operations).collect();
        let shared = |at: &ListenAt| matches!(at, ListenAt::Tcp(address) if address.port() == 0);
        for (index, (key, at)) in all.iter().enumerate() {
            let first = all[..index].iter().find(|(_, other)| other == at && !shared(at));
            if let Some((first, _)) = first {
                self.report.add(
                    Mistake::new(key, format!("`{key}` is `{at}`, as `{first}` is"))
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
        listen: &[(String, Listen)],
        trusted: &[IpNet],
        written: &ConfigFile,
    ) -> bool {
        if self.is_review() {
            return false; // nobody listens
        }
        self.proxy_headers(listen, trusted, written);
        let Some(public_url) = public_url else { return false };
        if public_url.scheme() == "https" {
            let plain = listen.iter().find(|(_, listen)| {
                listen.tls.is_none() && !listen.proxy_protocol && !matches!(listen.at, ListenAt::Unix(_))
            });
            let none = written.trusted_proxies.as_ref().is_none_or(Vec::is_empty);
            if let (true, true, Some((key, listen))) = (none, trusted.is_empty(), plain) {
                self.report.add(
                    Mistake::new("trusted_proxies", "`trusted_proxies` is empty, and `public_url` is https")
                        .expected("expected the addresses of what terminates TLS")
                        .help(format!("`{key}` takes plain http on `{}`: list the proxy in front of it, such as `[10.0.0.0/8]`, or give it `tls`", listen.at)),
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
        for (key, listen) in listen {
            let far = |at: &ListenAt| matches!(at, ListenAt::Tcp(address) if !address.ip().is_loopback());
            if listen.tls.is_some() {
                let help = "`public_url` is plain http: write its `https` URL there, or leave out `tls` here";
                self.refuse(key, &listen.at.to_string(), Expected::new("a listener without `tls`").help(help));
            } else if far(&listen.at) {
                let expected = Expected::new("a loopback address, such as `127.0.0.1:8080`")
                    .help("`public_url` is plain http, which never leaves this machine: change this address, or write an `https` URL there");
                self.refuse(key, &listen.at.to_string(), expected);
            }
        }
        self.report
            .warn("public_url", "plain http on loopback: cookies go without `Secure`, for trying things out only");
        true
    }

    /// Whoever may send a header of the PROXY protocol may be anybody, so it is taken from known balancers only.
    fn proxy_headers(&mut self, listen: &[(String, Listen)], trusted: &[IpNet], written: &ConfigFile) {
        let none = trusted.is_empty() && written.trusted_proxies.as_ref().is_none_or(Vec::is_empty);
        let unknown =
            |(_, listen): &&(String, Listen)| listen.proxy_protocol && !matches!(listen.at, ListenAt::Unix(_));
        if let (true, Some((_, listen))) = (none, listen.iter().find(unknown)) {
            self.report.add(
                Mistake::new("trusted_proxies", "`trusted_proxies` is empty, and a listener has `proxy_protocol`")
                    .expected("expected the addresses of the balancers")
                    .help(format!(
                        "who connects to `{}` can say that it is anybody: list who may, such as `[10.0.0.0/8]`",
                        listen.at
                    )),
            );
        }
    }

    fn directory(&mut self, key: &str, text: &str) -> PathBuf {
        let path = self.path(text);
        if path.exists() && !path.is_dir() {
            let mistake = Mistake::new(key, format!("`{key}` is {}, which is a file", quote(text)));
            self.report.add(mistake.expected("expected a directory").help("move it away".to_owned()));
        } else if text.is_empty() {
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

    /// A directory that is not there is told when its policies are loaded: it must never stop the set that is obeyed.
    fn shadow_policies(&mut self, text: &str) -> Option<PathBuf> {
        if text.is_empty() {
            let expected = Expected::new("a directory of `*.cedar` files");
            self.refuse("shadow_policies", text, expected.help("leave the key out, and no second set is asked"));
            return None;
        }
        Some(self.path(text))
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
        SessionSettings { idle: idle.min(absolute), absolute, grace: Duration::ZERO }
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
        let retention = written.retention.map(|written| self.retention(&written, segment)).unwrap_or_default();
        let segment = segment.unwrap_or(64 << 20);
        let pseudonym = |one: &PseudonymFile| match one {
            PseudonymFile::Email => Pseudonym::Email,
            PseudonymFile::Address => Pseudonym::Address,
        };
        let pseudonyms = written.pseudonyms.iter().flatten().map(pseudonym).collect();
        AuditSettings { mode, segment, retention, pseudonyms }
    }

    /// `segment`: as far as it is known.
    fn retention(&mut self, written: &RetentionFile, segment: Option<u64>) -> Retention {
        if written.age.is_none() && written.size.is_none() {
            let help = "without `audit.retention` all of the journal is kept".to_owned();
            self.refuse("audit.retention", "{}", Expected::new("`age`, `size` or both").help(help));
        }
        let age = self.read("audit.retention.age", written.age.as_ref().map(|it| it.0.as_str()), |text| {
            let age = value::duration(text)?;
            (age >= Duration::from_secs(86_400))
                .then_some(age)
                .ok_or_else(|| Expected::new("a duration of at least `1d`"))
        });
        let size = self.read("audit.retention.size", written.size.as_ref().map(|it| it.0.as_str()), |text| {
            let size = value::size(text)?;
            let least = segment.map_or(0, |segment| 2 * segment);
            let help = "the segment that is written never goes, and one beside it shall be there to read";
            let shown = write_size(least);
            let refuse = || Expected::new(format!("at least two segments of `audit.segment`: `{shown}`")).help(help);
            (size >= least).then_some(size).ok_or_else(refuse)
        });
        Retention { age, size }
    }
}

/// The path of an entry's key.
pub(super) fn entry(list: &str, index: usize, key: &str) -> String {
    below(&format!("{list}[{index}]"), key)
}

fn limits(written: Option<&LimitsFile>) -> LimitSettings {
    let number = |written: Option<u64>, default| written.and_then(|it| usize::try_from(it).ok()).unwrap_or(default);
    LimitSettings {
        connections: number(written.and_then(|it| it.connections), 20_000),
        connections_per_address: number(written.and_then(|it| it.connections_per_address), 1024),
    }
}

fn workers(written: Option<u64>) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    written.and_then(|workers| usize::try_from(workers).ok()).unwrap_or_else(cores)
}
