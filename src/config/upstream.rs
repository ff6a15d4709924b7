//! `upstream` of a route: from as written to as meant.

use super::{
    file::{HealthFile, HealthKeysFile, UpstreamFile, UpstreamTlsFile, UpstreamsFile},
    meaning::{MONTH, Meaning},
    mistake::{Mistake, quote},
    secret,
    tree::below,
    value::{self, Expected},
};
use crate::{
    route::HostHeader,
    upstream::{Address, Health, Place, Tls, TlsError, TlsFiles, TlsSource, UpstreamSettings},
};
use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use std::{fs, io, net::SocketAddr, path::Path, time::Duration};

/// What a URL of an upstream begins with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Http,
    Https,
    Unix,
}

/// The settings of one upstream; none only if a mistake is reported.
pub(super) fn one(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &UpstreamFile,
    host_header: &HostHeader,
    listen: &[(String, SocketAddr)],
) -> Option<UpstreamSettings> {
    let short;
    let (urls, written) = match written {
        UpstreamFile::One(text) => {
            short = UpstreamsFile { urls: Some(vec![text.clone()]), ..UpstreamsFile::default() };
            (vec![(key.to_owned(), text)], &short)
        }
        UpstreamFile::Many(many) => {
            let each = many.urls.as_deref()?.iter().enumerate();
            (each.map(|(index, text)| (format!("{key}.urls[{index}]"), text)).collect(), &**many)
        }
    };
    if urls.is_empty() {
        let key = format!("{key}.urls");
        meaning.report.add(Mistake::new(&key, format!("`{key}` is empty")).expected("expected at least one URL"));
    }
    let (places, kind) = places(meaning, &urls, listen);
    let within = |name| below(key, name);
    let health = written.health.as_ref().and_then(|it| health(meaning, &within("health"), it, host_header));
    let tls = tls(meaning, &within("tls"), written.tls.as_ref(), kind);
    let slow_start = written.slow_start.as_ref();
    let slow_start =
        meaning.duration(&within("slow_start"), slow_start, Duration::from_secs(10), Duration::ZERO..=MONTH);
    Some(UpstreamSettings {
        places: if places.is_empty() { return None } else { places },
        health,
        tls: match kind? {
            Kind::Https => Some(tls?),
            Kind::Http | Kind::Unix => None,
        },
        http2: written.http2.unwrap_or(false),
        connections: written.connections.and_then(|it| usize::try_from(it).ok()).unwrap_or(1024),
        slow_start,
        retries: written.retries.and_then(|it| u32::try_from(it).ok()).unwrap_or(2),
    })
}

/// All places, and the kind that all of them have.
fn places(
    meaning: &mut Meaning<'_, '_>,
    urls: &[(String, &String)],
    listen: &[(String, SocketAddr)],
) -> (Vec<Place>, Option<Kind>) {
    let (mut places, mut first) = (Vec::new(), None);
    for (key, text) in urls {
        let Some((kind, place)) = meaning.read(key, Some(text), place) else { continue };
        let itself = |address: Address| listen.iter().any(|(_, at)| address == Address::Tcp(*at));
        if place.address().is_some_and(itself) {
            meaning.refuse(key, text, Expected::new("another address than our own").help("here we listen ourselves"));
        } else if places.contains(&place) {
            meaning.refuse(key, text, Expected::new("every URL once"));
        } else if first.is_some_and(|first| first != kind) {
            let help = "one upstream is spoken to in one way: all `http`, all `https` or all `unix`";
            meaning.refuse(key, text, Expected::new("a URL of the same kind as the first").help(help));
        }
        first.get_or_insert(kind);
        places.push(place);
    }
    (places, first)
}

/// `http://HOST:PORT`, `https://HOST:PORT` or `unix:/PATH`.
fn place(text: &str) -> Result<(Kind, Place), Expected> {
    let expected = || Expected::new("the upstream's URL, such as `http://127.0.0.1:7007`");
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') || path.len() > 107 {
            let help = "a socket is written as `unix:/run/portal.sock`: an absolute path of at most 107 bytes";
            return Err(expected().help(help));
        }
        return Ok((Kind::Unix, Place::Unix { path: Path::new(path).into() }));
    }
    let url = value::web(text).map_err(|help| expected().help(help))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        let help = "the upstream gets the path that was asked for: leave out what follows the host";
        return Err(expected().help(help));
    }
    let kind = if url.scheme() == "https" { Kind::Https } else { Kind::Http };
    let host = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = url.port_or_known_default().filter(|port| *port > 0).ok_or_else(|| expected().help("0 is no port"))?;
    Ok((kind, Place::Tcp { host: bare.into(), port, authority: authority.into() }))
}

fn health(meaning: &mut Meaning<'_, '_>, key: &str, written: &HealthFile, host_header: &HostHeader) -> Option<Health> {
    let short;
    let (path_key, written) = match written {
        HealthFile::One(path) => {
            short = HealthKeysFile { path: Some(path.clone()), ..HealthKeysFile::default() };
            (key.to_owned(), &short)
        }
        HealthFile::Many(many) => (below(key, "path"), many),
    };
    let path = meaning.read(&path_key, written.path.as_deref(), health_path);
    let second = Duration::from_secs(1);
    let shortest = Duration::from_millis(100);
    let interval =
        meaning.duration(&below(key, "interval"), written.interval.as_ref(), 5 * second, shortest..=3600 * second);
    let timeout =
        meaning.duration(&below(key, "timeout"), written.timeout.as_ref(), 2 * second, shortest / 10..=60 * second);
    let count = |written: Option<u64>| written.and_then(|it| u32::try_from(it).ok()).unwrap_or(2);
    Some(Health {
        path: path?,
        host: match host_header {
            HostHeader::Literal(host) => Some(host.clone()),
            HostHeader::Preserve | HostHeader::Upstream => None,
        },
        interval,
        timeout,
        healthy: count(written.healthy),
        unhealthy: count(written.unhealthy),
    })
}

fn health_path(text: &str) -> Result<PathAndQuery, Expected> {
    let expected = || Expected::new("a path, such as `/healthz`");
    if !text.starts_with('/') {
        return Err(expected().help("it begins with `/`: the host is that of each URL"));
    }
    if text.contains('#') {
        return Err(expected().help("leave out what follows `#`"));
    }
    text.parse().map_err(|_| expected().help("spaces and letters outside ASCII are percent-encoded"))
}

/// How an upstream is known over TLS. Without the key, too: then by the system's authorities.
fn tls(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&UpstreamTlsFile>, kind: Option<Kind>) -> Option<Tls> {
    if let (Some(_), Some(Kind::Http | Kind::Unix)) = (written, kind) {
        meaning.report.add(
            Mistake::new(key, format!("`{key}` is there, and the upstream is in clear text"))
                .at_key()
                .expected("expected `https` URLs with it")
                .help("write `https` in every URL, or remove the key".to_owned()),
        );
        return None;
    }
    if kind? != Kind::Https {
        return None;
    }
    let none = UpstreamTlsFile::default();
    let written = written.filter(|_| !meaning.is_review()).unwrap_or(&none);
    let within = |name| below(key, name);
    let name = meaning.read(&within("name"), written.name.as_deref(), server_name);
    let insecure = written.insecure_skip_verify.unwrap_or(false);
    contradictions(meaning, key, written, insecure);
    let ca = file(meaning, &within("ca"), written.ca.as_deref());
    let certificate = file(meaning, &within("certificate"), written.certificate.as_deref());
    let private = file(meaning, &within("key"), written.key.as_deref());
    let given = [&written.ca, &written.certificate, &written.key].into_iter().flatten().count();
    let read = [&ca, &certificate, &private].into_iter().flatten().count();
    if given != read || written.certificate.is_some() != written.key.is_some() {
        return None; // said above
    }
    if let Some(warning) = written.key.as_deref().and_then(|path| secret::open_to_others(&meaning.path(path))) {
        meaning.report.warn(&within("key"), &warning);
    }
    if insecure {
        let warning = "the upstream is not verified: whoever answers in its place gets every request, identities and credentials with it";
        meaning.report.warn(&within("insecure_skip_verify"), warning);
    }
    let source = TlsSource {
        ca: written.ca.as_deref().map(|it| meaning.path(it)),
        name,
        certificate: written.certificate.as_deref().map(|it| meaning.path(it)),
        key: written.key.as_deref().map(|it| meaning.path(it)),
        insecure_skip_verify: insecure,
    };
    let made = Tls::new(source, &TlsFiles { ca, identity: certificate.zip(private) });
    made.map_err(|error| broken(meaning, key, written, &error)).ok()
}

/// TLS to what is spoken to over TLS in any case.
pub(super) fn secure(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&UpstreamTlsFile>) -> Option<Tls> {
    tls(meaning, key, written, Some(Kind::Https))
}

/// A certificate without its key, and authorities that nobody asks.
fn contradictions(meaning: &mut Meaning<'_, '_>, key: &str, written: &UpstreamTlsFile, insecure: bool) {
    let pairs = [
        ("certificate", &written.certificate, "key", &written.key),
        ("key", &written.key, "certificate", &written.certificate),
    ];
    for (there, has, lacks, other) in pairs {
        let missing = below(key, lacks);
        if has.is_some() && other.is_none() && !meaning.report.knows(&missing) {
            let there = below(key, there);
            meaning.report.add(
                Mistake::new(&there, format!("`{there}` is there without `{missing}`"))
                    .at_key()
                    .expected(format!("expected a key `{lacks}` beside it"))
                    .help("a client certificate is two files: the certificate with its chain, and its key".to_owned()),
            );
        }
    }
    if insecure && written.ca.is_some() {
        let ca = below(key, "ca");
        meaning.report.add(
            Mistake::new(&ca, format!("`{ca}` is there, and `{key}.insecure_skip_verify` is `true`"))
                .at_key()
                .expected("expected one of the two")
                .help("with `ca` nothing needs to be skipped: remove `insecure_skip_verify`".to_owned()),
        );
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, Expected> {
    ServerName::try_from(text.to_owned()).map_err(|_| {
        Expected::new("a host name or an address, such as `portal.internal`")
            .help("it is what the upstream's certificate is made out to: no scheme, no port")
    })
}

/// The bytes of a file that TLS needs; it is watched for changes.
fn file(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&str>) -> Option<Vec<u8>> {
    let path = meaning.path(written?);
    meaning.files.push(path.clone());
    meaning.read(key, written, |_| {
        fs::read(&path).map_err(|error| {
            let shown = quote(&path.display().to_string());
            Expected::new("a file in PEM").help(match error.kind() {
                io::ErrorKind::NotFound => format!("there is no file {shown}"),
                io::ErrorKind::IsADirectory => format!("{shown} is a directory"),
                io::ErrorKind::PermissionDenied => format!("{shown} cannot be read by this user"),
                _ => format!("{shown} cannot be read: {error}"),
            })
        })
    })
}

/// Says which file is to blame.
fn broken(meaning: &mut Meaning<'_, '_>, key: &str, written: &UpstreamTlsFile, error: &TlsError) {
    let (name, text, what) = match error {
        TlsError::NoAuthority | TlsError::Authority(_) => ("ca", &written.ca, "certificates of authorities in PEM"),
        TlsError::NoCertificate | TlsError::Identity(_) => {
            ("certificate", &written.certificate, "a certificate in PEM, its chain after it")
        }
        TlsError::NoKey => ("key", &written.key, "a private key in PEM, not encrypted"),
        TlsError::Mismatch => ("key", &written.key, "the key of the certificate beside it"),
        TlsError::System(_) => {
            meaning.report.add(
                Mistake::new(key.trim_end_matches(".tls"), error.to_string())
                    .expected("needs authorities to verify it by")
                    .help("install `ca-certificates`, or name the upstream's own authority in `tls.ca`".to_owned()),
            );
            return;
        }
    };
    let text = text.as_deref().unwrap_or_default();
    meaning.refuse(&below(key, name), text, Expected::new(what).help(error.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls_with_their_ports() {
        let read =
            |text: &str| place(text).map(|(kind, place)| (kind, place.to_string(), place.authority().to_owned()));
        for (text, kind, shown, authority) in [
            ("http://[::1]", Kind::Http, "[::1]:80", "[::1]"),
            ("http://127.0.0.1:7007/", Kind::Http, "127.0.0.1:7007", "127.0.0.1:7007"),
            ("https://portal.internal", Kind::Https, "portal.internal:443", "portal.internal"),
            ("https://Portal.Internal:443", Kind::Https, "portal.internal:443", "portal.internal"),
            ("unix:/run/portal.sock", Kind::Unix, "/run/portal.sock", "localhost"),
            ("unix:///run/portal.sock", Kind::Unix, "/run/portal.sock", "localhost"),
        ] {
            assert_eq!(read(text), Ok((kind, shown.to_owned(), authority.to_owned())), "{text}");
        }
        for wrong in ["a:1", "http://a/b", "http://a?b", "http://u@a", "ftp://a", "unix:a", "unix:/", "http://a:0", ""]
        {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
