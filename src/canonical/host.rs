//! Hosts and authorities in canonical form: one spelling for one host.

use http::{HeaderMap, Uri, Version, header, request::Parts};
use std::{fmt, net::Ipv6Addr, str::FromStr, sync::Arc};

/// A host name or address as routes name it: lower case, no port, no trailing dot.
///
/// An IPv6 address stands in brackets and in its shortest form: `[::1]`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Host(Arc<str>);

/// Why a text names no [`Host`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HostError {
    /// Nothing, or nothing but a dot.
    #[error("host is empty")]
    Empty,
    /// Longer than a name can be (RFC 1035, section 2.3.4).
    #[error("host has {0} bytes, 253 are allowed")]
    Long(usize),
    /// User information, a path, a comma, a blank, a letter outside ASCII.
    #[error("host has a character other than letters, digits, `-`, `_` and `.`")]
    Character,
    /// Two dots in a row, a dot in front, or a label over 63 bytes.
    #[error("host has a label that is empty or longer than 63 bytes")]
    Label,
    /// A bracket without an IPv6 address in it.
    #[error("host in brackets is not an IPv6 address")]
    Address,
    /// A colon with something else than a port behind it.
    #[error("port is not a number from 1 to 65535")]
    Port,
    /// A port where only a host is expected.
    #[error("host has a port, expected none")]
    UnexpectedPort,
}

impl Host {
    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        match split(text)? {
            (host, None) => Self::canonical(host),
            (_, Some(_)) => Err(HostError::UnexpectedPort),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Host {
    fn canonical(text: &str) -> Result<Self, HostError> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return Ok(Self(format!("[{}]", address.ok_or(HostError::Address)?).into()));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        check_name(name)?;
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Ok(Self(name.to_ascii_lowercase().into()));
        }
        Ok(Self(name.into()))
    }
}

fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::Long(name.len()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Err(HostError::Character);
    }
    if name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(HostError::Label);
    }
    Ok(())
}

/// Splits off the port.
fn split(text: &str) -> Result<(&str, Option<u16>), HostError> {
    let border = match text.find(']') {
        Some(end) if text.starts_with('[') => end + 1,
        _ => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at(border);
    if rest.is_empty() {
        return Ok((host, None));
    }
    let digits = rest.strip_prefix(':').ok_or(HostError::Character)?;
    if digits.is_empty() || digits.len() > 5 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    match digits.parse() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(HostError::Port),
    }
}

/// Host and port that a request asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Authority {
    pub(super) host: Host,
    /// `None` for the scheme's own port.
    port: Option<u16>,
}

/// Why a request does not say in one way which host it asks for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum AuthorityError {
    #[error("request has no host")]
    Missing,
    #[error("request has {0} `Host` fields, expected 1")]
    Several(usize),
    #[error("`Host` and the request target name different hosts")]
    Different,
    #[error("scheme of the request target is not `http` or `https`")]
    Scheme,
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Authority {
    /// Reads `Host`, `:authority` and the authority of an absolute-form target, which must all agree.
    ///
    /// `https` is how the client came; its own port is dropped.
    ///
    /// Source: RFC 9112, section 3.2; RFC 9113, section 8.3.1.
    pub(super) fn of(head: &Parts, https: bool) -> Result<Self, AuthorityError> {
        let field = host_field(&head.headers, head.version)?;
        let target = target_authority(&head.uri)?;
        let own_port = if https { 443 } else { 80 };
        match (field, target) {
            (Some(field), None) => Ok(Self::parse(field, own_port)?),
            (None, Some((authority, _))) => Ok(Self::parse(authority, own_port)?),
            (None, None) => Err(AuthorityError::Missing),
            (Some(field), Some((authority, scheme_port))) => {
                if Self::parse(field, scheme_port)? != Self::parse(authority, scheme_port)? {
                    return Err(AuthorityError::Different);
                }
                Ok(Self::parse(field, own_port)?)
            }
        }
    }

    /// Parses `host[:port]`; the port is dropped if it is `own_port`.
    fn parse(text: &str, own_port: u16) -> Result<Self, HostError> {
        let (host, port) = split(text)?;
        Ok(Self { host: Host::canonical(host)?, port: port.filter(|port| *port != own_port) })
    }

    /// The text that the upstream gets as `Host`.
    pub(super) fn text(&self) -> Arc<str> {
        match self.port {
            None => Arc::clone(&self.host.0),
            Some(port) => [self.host.as_str(), ":", &port.to_string()].concat().into(),
        }
    }
}

/// The one `Host` field. HTTP/1.1 must have it; HTTP/1.0 and HTTP/2 may name the host in the target instead.
fn host_field(headers: &HeaderMap, version: Version) -> Result<Option<&str>, AuthorityError> {
    let mut fields = headers.get_all(header::HOST).iter();
    match (fields.next(), fields.count()) {
        (None, _) if version == Version::HTTP_11 => Err(AuthorityError::Missing),
        (None, _) => Ok(None),
        (Some(one), 0) => Ok(Some(one.to_str().map_err(|_| HostError::Character)?)),
        (Some(_), more) => Err(AuthorityError::Several(more + 1)),
    }
}

/// The authority of an absolute-form target, and the own port of its scheme.
fn target_authority(uri: &Uri) -> Result<Option<(&str, u16)>, AuthorityError> {
    match (uri.authority(), uri.scheme_str()) {
        (None, None) => Ok(None),
        (Some(authority), Some("http")) => Ok(Some((authority.as_str(), 80))),
        (Some(authority), Some("https")) => Ok(Some((authority.as_str(), 443))),
        _ => Err(AuthorityError::Scheme),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::corpus;
    use proptest::prelude::*;

    /// One host has one spelling; what is not a plain host is refused.
    #[test]
    fn s31_a_host_has_one_spelling() {
        for (sent, expected) in corpus::rows(corpus::HOSTS) {
            let found = std::str::from_utf8(&sent)
                .ok()
                .and_then(|text| Authority::parse(text, 443).ok())
                .map_or("refused".to_owned(), |authority| format!("{} {}", authority.host, authority.text()));
            assert_eq!(found, expected, "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn a_configured_host_has_no_port() {
        assert_eq!("Portal.Example.COM.".parse::<Host>().expect("a host").as_str(), "portal.example.com");
        assert_eq!("portal.example.com:443".parse::<Host>(), Err(HostError::UnexpectedPort));
    }

    proptest! {
        /// The canonical text of a host is its own canonical text.
        #[test]
        fn canonical_hosts_stay(text in "[A-Za-z0-9_.\\-\\[\\]:]{0,24}|[ -~]{0,12}") {
            if let Ok(host) = text.parse::<Host>() {
                prop_assert_eq!(host.as_str().parse::<Host>(), Ok(host.clone()));
            }
        }
    }
}
