//! How people write values: durations, sizes, addresses, URLs, paths.

use super::mistake::nearest;
use ipnet::IpNet;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use url::{Host, Url};

/// What a value should have been.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Expected {
    /// Completes "expected …".
    pub(super) what: String,
    /// What to do.
    pub(super) help: Option<String>,
}

impl Expected {
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// `30m`, `90s`, `8h`, `1d` or `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, Expected> {
    let expected = || Expected::new("a duration with its unit, such as `30m`");
    quantity(text, &DURATIONS).map(Duration::from_millis).ok_or_else(|| {
        if is_digits(text) {
            expected().help(format!("write `{text}s` for seconds"))
        } else {
            expected().help("the units are `ms`, `s`, `m`, `h` and `d`, written right after a whole number")
        }
    })
}

/// `512B`, `64KiB`, `1MiB` or `1GiB`.
pub(super) fn size(text: &str) -> Result<u64, Expected> {
    quantity(text, &SIZES).ok_or_else(|| {
        Expected::new("a size with its unit, such as `64MiB`")
            .help("the units are `B`, `KiB`, `MiB` and `GiB`, written right after a whole number")
    })
}

/// A duration as people write it, in its largest whole unit.
pub(super) fn write_duration(duration: Duration) -> String {
    let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if milliseconds == 0 { "0s".to_owned() } else { write(milliseconds, &DURATIONS) }
}

/// A size as people write it, in its largest whole unit.
pub(super) fn write_size(size: u64) -> String {
    write(size, &SIZES)
}

fn write(amount: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, unit)| amount >= *unit && amount.is_multiple_of(*unit));
    unit.map_or_else(|| amount.to_string(), |(name, unit)| format!("{}{name}", amount / unit))
}

fn quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    let (_, unit) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*unit)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// An address and a port.
pub(super) fn address(text: &str) -> Result<SocketAddr, Expected> {
    text.parse().map_err(|_| {
        let expected = Expected::new("an address and a port, such as `127.0.0.1:8080` or `[::]:8080`");
        match text.rsplit_once(':') {
            Some(("", port)) if port.parse::<u16>().is_ok() => {
                expected.help(format!("write `0.0.0.0:{port}` for all addresses"))
            }
            Some(("localhost", port)) if port.parse::<u16>().is_ok() => {
                expected.help(format!("write `127.0.0.1:{port}`"))
            }
            _ if text.parse::<IpAddr>().is_ok() => expected.help("the port is missing"),
            _ if is_digits(text) => expected.help("the address is missing"),
            _ => expected,
        }
    })
}

/// A network whose forwarding headers are believed: an address, or a prefix that is not the whole internet.
pub(super) fn network(text: &str) -> Result<IpNet, Expected> {
    let net = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let net = net.map_err(|_| Expected::new("an address or a network, such as `10.0.0.0/8`"))?;
    if net.prefix_len() == 0 {
        return Err(Expected::new("the addresses of the proxies in front")
            .help("with this everybody could say who they are and whence they come: list the proxies themselves"));
    }
    if net.trunc() != net {
        return Err(Expected::new(format!("the first address of the network, `{}`", net.trunc())).help(format!(
            "write `{}` for the network, or `{}` for the one address",
            net.trunc(),
            net.addr()
        )));
    }
    Ok(net)
}

/// The URL of an origin: scheme, host and perhaps a port, nothing more.
pub(super) fn origin(text: &str) -> Result<Url, Expected> {
    let expected = || Expected::new("an origin, such as `https://portal.example.com`");
    let url = web(text).map_err(|help| expected().help(help))?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(
            expected().help(format!("write `{}`: there is nothing after the host", url.origin().ascii_serialization()))
        );
    }
    Ok(url)
}

/// The origin of a server that gets secrets: `https`, or `http` on loopback.
pub(super) fn server(text: &str) -> Result<Url, Expected> {
    let url = origin(text)?;
    if url.scheme() == "http" && !is_loopback(&url) {
        let help = "secrets travel there: write `https`; `http` is for loopback only";
        return Err(Expected::new("an `https` URL").help(help));
    }
    Ok(url)
}

/// An issuer: `https`, or `http` on loopback, without query or fragment.
///
/// Source: OpenID Connect Core 1.0, section 2.
pub(super) fn issuer(text: &str) -> Result<(), Expected> {
    let expected = || Expected::new("the issuer's URL, such as `https://gitlab.example.com`");
    let url = web(text).map_err(|help| expected().help(help))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(expected().help("an issuer has no query and no fragment"));
    }
    if url.path().ends_with("/.well-known/openid-configuration") {
        return Err(expected().help("leave out `/.well-known/openid-configuration`"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(expected().help("tokens travel to the issuer: write `https`; `http` is for loopback only"));
    }
    Ok(())
}

/// An address that is asked for keys or about tokens: `https`, or `http` on loopback, without fragment and user name.
pub(super) fn endpoint(text: &str) -> Result<Url, Expected> {
    let expected = || Expected::new("the address of an endpoint, such as `https://id.example.com/keys`");
    let url = web(text).map_err(|help| expected().help(help))?;
    if url.fragment().is_some() {
        return Err(expected().help("it has no fragment"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(expected().help("what comes from there is believed: write `https`; `http` is for loopback only"));
    }
    Ok(url)
}

/// The address of GitLab's API, without a `/` at its end: `https`, or `http` on loopback, without query or fragment.
pub(super) fn api(text: &str) -> Result<String, Expected> {
    let expected = || Expected::new("the API's address, such as `https://gitlab.example.com/api/v4`");
    let url = web(text).map_err(|help| expected().help(help))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(expected().help("it has no query and no fragment"));
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        return Err(expected().help("a token travels there: write `https`; `http` is for loopback only"));
    }
    if !url.path().trim_end_matches('/').ends_with("/api/v4") {
        return Err(expected().help("it ends with `/api/v4`"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A URL of `http` or `https` with a host and without user information, or what to do.
pub(super) fn web(text: &str) -> Result<Url, String> {
    if !text.starts_with("https://") && !text.starts_with("http://") {
        let scheme = text.split_once("://").and_then(|(scheme, _)| nearest(scheme, ["https", "http"]));
        return Err(scheme.map_or_else(
            || "it begins with `https://` or `http://`".to_owned(),
            |near| format!("did you mean `{near}://`?"),
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("a URL has no spaces, control characters or `\\`".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave out the user name and password".to_owned());
    }
    Ok(url)
}

/// True for `localhost`, `*.localhost`, `127.0.0.0/8` and `::1`.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A route's path in canonical form, with `/` at its end.
pub(super) fn path(text: &str) -> Result<String, Expected> {
    let expected = || Expected::new("a path, such as `/v1/`");
    if !text.starts_with('/') {
        return Err(expected().help(format!("write `/{text}`")));
    }
    if text.contains('*') {
        return Err(expected().help("leave out `*`: a route has all below its path"));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@/".contains(&b);
    if !text.bytes().all(allowed) {
        return Err(expected().help("letters, digits and `-._~!$&'()+,=:@/` may stand in it"));
    }
    let segments = text.strip_suffix('/').unwrap_or(text).split('/').skip(1);
    if segments.clone().any(|segment| matches!(segment, "" | "." | "..")) {
        return Err(expected().help("a segment is not empty and neither `.` nor `..`"));
    }
    let path = if text.ends_with('/') { text.to_owned() } else { format!("{text}/") };
    let folded = path.to_ascii_lowercase();
    if let Some(own) = ["/.vestibule/", "/.well-known/vestibule/"].iter().find(|own| folded.starts_with(**own)) {
        return Err(Expected::new("a path that is not ours")
            .help(format!("nothing below `{own}` is ever forwarded: choose another path")));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations_and_sizes_only_with_their_units() {
        assert_eq!(duration("30m"), Ok(Duration::from_secs(1800)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(size("64KiB"), Ok(65_536));
        for wrong in ["", "30", "m", "1.5h", "-1s", "30 m", "30min", "30M", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "64", "64KB", "64kib", "1.5MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn writes_durations_and_sizes_as_people_do() {
        for text in ["0s", "500ms", "90s", "30m", "8h", "1d"] {
            assert_eq!(duration(text).map(write_duration), Ok(text.to_owned()));
        }
        assert_eq!(write_size(1 << 26), "64MiB");
    }

    #[test]
    fn trusts_no_network_that_is_everybody() {
        assert!(network("0.0.0.0/0").is_err() && network("::/0").is_err());
        assert!(network("10.0.0.1/8").is_err());
        assert_eq!(network("10.1.2.3").map(|net| net.to_string()), Ok("10.1.2.3/32".to_owned()));
    }

    #[test]
    fn takes_origins_without_anything_more() {
        assert!(origin("https://portal.example.com").is_ok() && origin("https://portal.example.com:8443/").is_ok());
        for wrong in [
            "portal.example.com",
            "https://a/b",
            "https://a/?b",
            "https://u:p@a",
            "ftp://a",
            "https://a b",
            "https:\\\\a",
        ] {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn takes_issuers_by_https_or_on_loopback() {
        assert!(issuer("https://sso.example.com/realms/a").is_ok() && issuer("http://127.0.0.1:9/").is_ok());
        assert!(issuer("http://sso.example.com").is_err() && issuer("https://sso.example.com?x").is_err());
    }

    #[test]
    fn brings_paths_into_one_form_and_keeps_ours() {
        assert_eq!(path("/v1"), Ok("/v1/".to_owned()));
        assert_eq!(path("/"), Ok("/".to_owned()));
        for wrong in
            ["v1", "/a//b", "/a/../b", "/%2e", "/a*", "/.vestibule", "/.VESTIBULE/x", "/.well-known/vestibule/", "/é"]
        {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
