//! `audit.sinks`: from as written to as meant, and as they are shown.

use super::{
    Settings,
    file::{
        ConfigFile, FacilityFile, SecretFile, SinkFile, SinkHeaderFile, SinkKindFile, SinkTlsFile, SizeText,
        UpstreamTlsFile,
    },
    meaning::Meaning,
    mistake::Mistake,
    provider,
    sink_urls::{database, is_here, schema, server},
    tree::below,
    upstream,
    value::{self, Expected, write_size},
};
use crate::{
    principal::Name,
    text::sha256,
    upstream::{Place, Tls},
};
use http::{HeaderName, HeaderValue, Uri};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;

/// How much is sent at once, where nothing is written.
const BATCH: u64 = 1 << 20;

/// Where the journal's records are sent.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// What metrics, status and the cursor call it.
    pub name: Name,
    /// Bytes of lines that are sent at once. Default 1 MiB.
    pub batch: u64,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug)]
pub enum SinkKind {
    /// Tables of PostgreSQL.
    Postgres(PostgresSink),
    /// Logs over OTLP/HTTP.
    Otlp(OtlpSink),
    /// Lines on standard output.
    Stdout,
    /// Messages of RFC 5424.
    Syslog(SyslogSink),
}

/// A database.
#[derive(Clone, Debug)]
pub struct PostgresSink {
    /// Where it listens; of a socket, the file.
    pub place: Place,
    /// The role.
    pub user: String,
    /// Its password.
    pub password: Option<SecretString>,
    /// The database.
    pub database: String,
    /// The schema of the tables: lower-case letters, digits and `_`.
    pub schema: String,
    /// Absent: in clear text.
    pub tls: Option<Tls>,
}

/// A receiver of OTLP/HTTP.
#[derive(Clone, Debug)]
pub struct OtlpSink {
    /// Where logs are posted.
    pub url: Uri,
    /// What every request has; the values are secret, and their `Debug` says so.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Absent: in clear text.
    pub tls: Option<Tls>,
}

/// A syslog server.
#[derive(Clone, Debug)]
pub struct SyslogSink {
    /// Where it listens.
    pub place: Place,
    /// The facility's number (RFC 5424, section 6.2.1).
    pub facility: u8,
    /// Absent: in clear text.
    pub tls: Option<Tls>,
}

impl SinkSettings {
    /// True if both say the same; secrets and certificates are compared too.
    pub fn same(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}") && self.same_secrets(other)
    }

    /// True if both have the same secrets and certificates, or are of different kinds.
    pub(super) fn same_secrets(&self, other: &Self) -> bool {
        let digest = |it: &Option<SecretString>| it.as_ref().map(|it| sha256(it.expose_secret().as_bytes()));
        match (&self.kind, &other.kind) {
            (SinkKind::Postgres(a), SinkKind::Postgres(b)) => {
                digest(&a.password) == digest(&b.password) && a.tls == b.tls
            }
            (SinkKind::Otlp(a), SinkKind::Otlp(b)) => a.headers == b.headers && a.tls == b.tls,
            (SinkKind::Syslog(a), SinkKind::Syslog(b)) => a.tls == b.tls,
            _ => true,
        }
    }
}

impl SinkKind {
    /// The word in `kind`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "postgres",
            Self::Otlp(_) => "otlp",
            Self::Stdout => "stdout",
            Self::Syslog(_) => "syslog",
        }
    }

    /// Where it is, without anything secret.
    pub fn place(&self) -> String {
        match self {
            Self::Postgres(it) => format!("{}/{}", it.place, it.database),
            Self::Otlp(it) => it.url.to_string(),
            Self::Stdout => "standard output".to_owned(),
            Self::Syslog(it) => it.place.to_string(),
        }
    }
}

/// The environment variables that hold secrets of sinks.
pub(super) fn variables(written: &ConfigFile) -> impl Iterator<Item = &str> {
    let sinks = written.audit.iter().flat_map(|audit| audit.sinks.iter().flatten());
    let secrets = sinks.flat_map(|sink| {
        let headers = sink.headers.iter().flatten().filter_map(|header| header.value.as_ref());
        sink.password.iter().chain(headers)
    });
    secrets.filter_map(|secret| secret.env.as_deref())
}

/// All sinks; those with mistakes are missing.
pub(super) fn all(meaning: &mut Meaning<'_, '_>, written: &[SinkFile]) -> Vec<Arc<SinkSettings>> {
    let mut sinks: Vec<Arc<SinkSettings>> = Vec::new();
    for (index, written) in written.iter().enumerate() {
        let key = format!("audit.sinks[{index}]");
        let Some(sink) = (One { key: &key, written }).read(meaning) else { continue };
        if sinks.iter().any(|other| other.name == sink.name) {
            let name = sink.name.as_str().to_owned();
            meaning.refuse(&below(&key, "name"), &name, Expected::new("a name that no other sink has"));
        } else if matches!(sink.kind, SinkKind::Stdout) && sinks.iter().any(|it| matches!(it.kind, SinkKind::Stdout)) {
            let expected = Expected::new("one sink of this kind").help("there is only one standard output");
            meaning.refuse(&below(&key, "kind"), "stdout", expected);
        }
        sinks.push(Arc::new(sink));
    }
    sinks
}

/// One entry.
struct One<'a> {
    key: &'a str,
    written: &'a SinkFile,
}

impl One<'_> {
    fn read(&self, meaning: &mut Meaning<'_, '_>) -> Option<SinkSettings> {
        let name = meaning.read(&self.at("name"), self.written.name.as_deref(), |text| {
            text.parse::<Name>().map_err(|_| {
                Expected::new("a name, such as `warehouse`")
                    .help("a lower-case letter, then letters, digits and `-`, at most 63 in all")
            })
        });
        let batch = meaning.read(&self.at("batch"), self.written.batch.as_ref().map(|it| it.0.as_str()), |text| {
            let size = value::size(text)?;
            let fits = (4 << 10..=16 << 20).contains(&size);
            fits.then_some(size).ok_or_else(|| Expected::new("a size from `4KiB` to `16MiB`"))
        });
        let kind = self.written.kind?;
        self.no_others(meaning, kind);
        let kind = match kind {
            SinkKindFile::Stdout => Some(SinkKind::Stdout),
            SinkKindFile::Postgres => self.postgres(meaning).map(SinkKind::Postgres),
            SinkKindFile::Otlp => self.otlp(meaning).map(SinkKind::Otlp),
            SinkKindFile::Syslog => self.syslog(meaning).map(SinkKind::Syslog),
        };
        Some(SinkSettings { name: name?, batch: batch.unwrap_or(BATCH), kind: kind? })
    }

    fn at(&self, name: &str) -> String {
        below(self.key, name)
    }

    /// Keys of other kinds would do nothing here.
    fn no_others(&self, meaning: &mut Meaning<'_, '_>, kind: SinkKindFile) {
        use SinkKindFile::{Otlp, Postgres, Stdout, Syslog};
        let written = self.written;
        let keys: [(&str, bool, &[SinkKindFile], &str); 7] = [
            ("url", written.url.is_some(), &[Postgres, Otlp, Syslog], "postgres, otlp and syslog"),
            ("password", written.password.is_some(), &[Postgres], "postgres"),
            ("schema", written.schema.is_some(), &[Postgres], "postgres"),
            ("facility", written.facility.is_some(), &[Syslog], "syslog"),
            ("headers", written.headers.is_some(), &[Otlp], "otlp"),
            ("tls", written.tls.is_some(), &[Postgres, Otlp, Syslog], "postgres, otlp and syslog"),
            (
                "insecure_clear_text",
                written.insecure_clear_text.is_some(),
                &[Postgres, Otlp, Syslog],
                "postgres, otlp and syslog",
            ),
        ];
        for (name, _, _, only) in keys.iter().filter(|(_, there, kinds, _)| *there && !kinds.contains(&kind)) {
            let key = self.at(name);
            let mistake = Mistake::new(&key, format!("`{key}` is for sinks of kind {only} only")).at_key();
            meaning.report.add(mistake.expected("expected no such key here").help("remove it".to_owned()));
        }
        if kind != Stdout && written.url.is_none() {
            let key = self.at("url");
            let mistake = Mistake::new(&key, format!("`{key}` is missing")).at_key();
            meaning
                .report
                .add(mistake.expected("expected a key `url` here").help("it says where the sink is".to_owned()));
        }
    }

    fn postgres(&self, meaning: &mut Meaning<'_, '_>) -> Option<PostgresSink> {
        let password = match &self.written.password {
            Some(password) => Some(provider::secret(meaning, &self.at("password"), password)?),
            None => None,
        };
        let schema = meaning.read(&self.at("schema"), self.written.schema.as_deref(), schema);
        let (place, user, database) = meaning.read(&self.at("url"), self.written.url.as_deref(), database)?;
        let asked = self.written.tls.is_some();
        if asked && matches!(place, Place::Unix { .. }) {
            let key = self.at("tls");
            let mistake = Mistake::new(&key, format!("`{key}` is there, and `url` leads to a Unix socket")).at_key();
            meaning.report.add(mistake.expected("expected no such key here").help("remove it".to_owned()));
        }
        let secure = asked || !(is_here(&place) || self.clear_text(meaning));
        let tls = if secure && !matches!(place, Place::Unix { .. }) { Some(self.tls(meaning)?) } else { None };
        Some(PostgresSink {
            place,
            user,
            password,
            database,
            schema: schema.unwrap_or_else(|| "vestibule".to_owned()),
            tls,
        })
    }

    fn otlp(&self, meaning: &mut Meaning<'_, '_>) -> Option<OtlpSink> {
        let url = meaning.read(&self.at("url"), self.written.url.as_deref(), |text| {
            let expected = || Expected::new("the address that takes logs, such as `https://otel.example.com/v1/logs`");
            let mut url = value::web(text).map_err(|help| expected().help(help))?;
            if url.fragment().is_some() {
                return Err(expected().help("leave out what follows `#`"));
            }
            if url.path() == "/" {
                url.set_path("/v1/logs");
            }
            Ok(url)
        });
        let headers = self.written.headers.as_deref().unwrap_or_default();
        let headers: Vec<_> = headers.iter().enumerate().map(|(index, it)| self.header(meaning, index, it)).collect();
        let url = url?;
        let secure = url.scheme() == "https";
        if !secure && !value::is_loopback(&url) && !self.clear_text(meaning) {
            return self.not_in_clear_text(meaning, "https");
        }
        let tls = if secure { Some(self.tls(meaning)?) } else { self.no_tls(meaning, "https")? };
        Some(OtlpSink { url: url.as_str().parse().ok()?, headers: headers.into_iter().collect::<Option<_>>()?, tls })
    }

    fn header(
        &self,
        meaning: &mut Meaning<'_, '_>,
        index: usize,
        written: &SinkHeaderFile,
    ) -> Option<(HeaderName, HeaderValue)> {
        let key = self.at(&format!("headers[{index}]"));
        let name = meaning.read(&below(&key, "name"), written.name.as_deref(), |text| {
            let ours =
                ["content-type", "content-encoding", "content-length", "host", "transfer-encoding", "connection"];
            let expected = || Expected::new("the name of a field, such as `Authorization`");
            let name: HeaderName = text.parse().map_err(|_| expected())?;
            if ours.contains(&name.as_str()) {
                Err(expected().help("this one is set by the protocol"))
            } else {
                Ok(name)
            }
        });
        let at = below(&key, "value");
        let secret = provider::secret(meaning, &at, written.value.as_ref()?)?;
        let Ok(mut value) = HeaderValue::from_str(secret.expose_secret()) else {
            let mistake = Mistake::new(&at, format!("`{at}` cannot be the value of a field"));
            meaning.report.add(mistake.expected("expected a secret without control characters"));
            return None;
        };
        value.set_sensitive(true);
        Some((name?, value))
    }

    fn syslog(&self, meaning: &mut Meaning<'_, '_>) -> Option<SyslogSink> {
        let (secure, place) = meaning.read(&self.at("url"), self.written.url.as_deref(), server)?;
        if !secure && !is_here(&place) && !self.clear_text(meaning) {
            return self.not_in_clear_text(meaning, "tls");
        }
        let tls = if secure { Some(self.tls(meaning)?) } else { self.no_tls(meaning, "tls")? };
        Some(SyslogSink { place, facility: number(self.written.facility.unwrap_or_default()), tls })
    }

    fn clear_text(&self, meaning: &mut Meaning<'_, '_>) -> bool {
        let wanted = self.written.insecure_clear_text.unwrap_or(false);
        if wanted {
            let warning = "records of who did what leave this machine in clear text, and whoever answers in the sink's place gets them";
            meaning.report.warn(&self.at("insecure_clear_text"), warning);
        }
        wanted
    }

    fn not_in_clear_text<T>(&self, meaning: &mut Meaning<'_, '_>, scheme: &str) -> Option<T> {
        let help =
            "clear text is for loopback; where the way there is safe by other means, write `insecure_clear_text: true`";
        let text = self.written.url.clone().unwrap_or_default();
        meaning.refuse(&self.at("url"), &text, Expected::new(format!("a URL of `{scheme}`")).help(help));
        None
    }

    fn no_tls(&self, meaning: &mut Meaning<'_, '_>, scheme: &str) -> Option<Option<Tls>> {
        if self.written.tls.is_none() {
            return Some(None);
        }
        let key = self.at("tls");
        let mistake = Mistake::new(&key, format!("`{key}` is there, and `url` is in clear text")).at_key();
        meaning.report.add(
            mistake
                .expected(format!("expected a URL of `{scheme}` with it"))
                .help(format!("write `{scheme}` in the URL, or remove the key")),
        );
        None
    }

    fn tls(&self, meaning: &mut Meaning<'_, '_>) -> Option<Tls> {
        let written = self.written.tls.clone().map(|SinkTlsFile { ca, name, certificate, key }| UpstreamTlsFile {
            ca,
            name,
            certificate,
            key,
            insecure_skip_verify: None,
        });
        upstream::secure(meaning, &self.at("tls"), written.as_ref())
    }
}

/// Source: RFC 5424, section 6.2.1, table 1.
fn number(facility: FacilityFile) -> u8 {
    match facility {
        FacilityFile::User => 1,
        FacilityFile::Daemon => 3,
        FacilityFile::Auth => 4,
        FacilityFile::Authpriv => 10,
        FacilityFile::Audit => 13,
        FacilityFile::Local0 => 16,
        FacilityFile::Local1 => 17,
        FacilityFile::Local2 => 18,
        FacilityFile::Local3 => 19,
        FacilityFile::Local4 => 20,
        FacilityFile::Local5 => 21,
        FacilityFile::Local6 => 22,
        FacilityFile::Local7 => 23,
    }
}

/// The same as a file would have them; `secret` shows where a secret is.
pub(super) fn shown(
    settings: &Settings,
    written: &ConfigFile,
    secret: impl Fn(&Option<SecretFile>) -> Option<SecretFile>,
) -> Vec<SinkFile> {
    let sources = written.audit.iter().flat_map(|audit| audit.sinks.iter().flatten());
    let one = |(settings, source): (&Arc<SinkSettings>, &SinkFile)| {
        let tls = match &settings.kind {
            SinkKind::Postgres(it) => it.tls.as_ref(),
            SinkKind::Otlp(it) => it.tls.as_ref(),
            SinkKind::Syslog(it) => it.tls.as_ref(),
            SinkKind::Stdout => None,
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let header = |it: &SinkHeaderFile| SinkHeaderFile { name: it.name.clone(), value: secret(&it.value) };
        let remote = !matches!(settings.kind, SinkKind::Stdout);
        SinkFile {
            name: Some(settings.name.to_string()),
            kind: source.kind,
            url: source.url.clone(),
            password: secret(&source.password),
            schema: match &settings.kind {
                SinkKind::Postgres(it) => Some(it.schema.clone()),
                _ => None,
            },
            facility: matches!(settings.kind, SinkKind::Syslog(_)).then(|| source.facility.unwrap_or_default()),
            headers: source.headers.as_ref().map(|all| all.iter().map(header).collect()),
            tls: tls.map(|tls| SinkTlsFile {
                ca: path(&tls.source.ca),
                name: source.tls.as_ref().and_then(|it| it.name.clone()),
                certificate: path(&tls.source.certificate),
                key: path(&tls.source.key),
            }),
            insecure_clear_text: remote.then(|| source.insecure_clear_text.unwrap_or(false)),
            batch: Some(SizeText(write_size(settings.batch))),
        }
    };
    settings.sinks.iter().zip(sources).map(one).collect()
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{mistakes, with};

    /// The start of the documentation with this sink.
    fn sink(text: &str) -> String {
        mistakes(&format!("{}audit:\n  sinks:\n    - {{ name: a, {text} }}\n", with("allow:", "allow:")))
    }

    /// Every mistake says what is wrong and what to do, and no secret is repeated.
    #[test]
    fn mistakes_of_sinks_are_told() {
        for (text, words) in [
            ("kind: postgres", ["`audit.sinks[0].url` is missing", "it says where the sink is"]),
            (
                "kind: postgres, url: \"postgres://u:hunter2@db/x\"",
                ["expected `postgres://USER@HOST:PORT/DATABASE`", "name that in `password`"],
            ),
            (
                "kind: postgres, url: \"postgres://u@db/x\", password: hunter2",
                ["`audit.sinks[0].password` is a literal", "put it into a file"],
            ),
            ("kind: postgres, url: \"postgres://u@db/x\", schema: A", ["is `A`", "lower-case letters"]),
            ("kind: postgres, url: \"postgres://u@%2Frun/x\", tls: {}", ["`url` leads to a Unix socket", "remove it"]),
            (
                "kind: otlp, url: \"http://otel.example.com\"",
                ["expected a URL of `https`", "`insecure_clear_text: true`"],
            ),
            (
                "kind: otlp, url: \"https://otel.example.com\", headers: [{ name: Authorization, value: hunter2 }]",
                ["`audit.sinks[0].headers[0].value` is a literal", "put it into a file"],
            ),
            (
                "kind: otlp, url: \"https://otel.example.com\", headers: [{ name: Host, value: { file: secrets/gitlab } }]",
                ["`audit.sinks[0].headers[0].name` is `Host`", "set by the protocol"],
            ),
            (
                "kind: syslog, url: \"tcp://logs.example.com\"",
                ["expected a URL of `tls`", "clear text is for loopback"],
            ),
            ("kind: syslog, url: \"tcp://127.0.0.1\", tls: {}", ["`url` is in clear text", "write `tls` in the URL"]),
            ("kind: syslog, url: \"udp://logs\"", ["expected `tls://HOST:PORT`", "begins with `tls://`"]),
            ("kind: stdout, url: \"tls://a\"", ["is for sinks of kind postgres, otlp and syslog only", "remove it"]),
            ("kind: stdout, batch: 1KiB", ["is `1KiB`", "`4KiB` to `16MiB`"]),
            ("kind: kafka", ["is `kafka`", "`postgres`"]),
            ("kind: stdout }\n    - { name: a, kind: otlp, url: \"http://[::1]:1\"", ["is `a`", "no other sink has"]),
            ("kind: stdout }\n    - { name: b, kind: stdout", ["is `stdout`", "only one standard output"]),
        ] {
            let told = sink(text);
            assert!(words.iter().all(|word| told.contains(word)), "{text}\n{told}");
            assert!(!told.contains("hunter2"), "{told}");
        }
    }
}
