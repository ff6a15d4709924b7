//! Where a request comes from: the connection, or what a trusted proxy says of it.

use super::{Peer, Rules, Transport};
use crate::refusal::{Reason, Refusal};
use http::HeaderMap;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Where a request comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Source {
    /// The client's address.
    pub(super) client: IpAddr,
    /// The client came by https.
    pub(super) https: bool,
    /// A trusted proxy stands between: what the connection shows is the proxy's, not the client's.
    pub(super) forwarded: bool,
}

impl Source {
    /// Reads forwarding fields if `peer` may set them. Where TLS ends at us, or at a balancer that says so below HTTP, no field
    /// is needed to know that the client came by https, and none can deny it.
    ///
    /// # Errors
    /// `UntrustedPeer` if the site is https and the request did not come by it: neither to us, nor to a trusted proxy.
    pub(super) fn of(headers: &HeaderMap, peer: &Peer, rules: &Rules) -> Result<Self, Refusal> {
        let address = peer.address.ip().to_canonical();
        let secure = matches!(peer.transport, Transport::TlsBefore | Transport::Tls(_));
        let forwards = match &peer.transport {
            Transport::Local => true,
            Transport::Balancer => false,
            Transport::Plain | Transport::TlsBefore | Transport::Tls(_) => trusts(&rules.trusted_proxies, address),
        };
        if !forwards {
            if rules.https && !secure {
                return Err(Refusal::new(
                    Reason::UntrustedPeer,
                    "This address is for trusted proxies only: use the public https address.",
                )
                .because(format_args!(
                    "`{address}` came in clear text and is not in `trusted_proxies`; with `proxy_protocol`, TLS ends at this listener, \
                     or the balancer says that it ended there (`PP2_TYPE_SSL`)"
                )));
            }
            return Ok(Self { client: address, https: secure, forwarded: false });
        }
        let https = secure || came_by_https(headers);
        if rules.https && !https {
            return Err(Refusal::new(
                Reason::UntrustedPeer,
                "Use https: the proxy in front did not say that this request came by it.",
            )
            .because(format_args!("trusted proxy `{address}` did not send `X-Forwarded-Proto: https` exactly once")));
        }
        Ok(Self { client: client(headers, address, &rules.trusted_proxies), https, forwarded: true })
    }
}

fn trusts(proxies: &[IpNet], address: IpAddr) -> bool {
    proxies.iter().any(|net| net.contains(&address))
}

fn came_by_https(headers: &HeaderMap) -> bool {
    let mut fields = headers.get_all("x-forwarded-proto").iter();
    matches!((fields.next(), fields.next()), (Some(one), None) if one == "https")
}

/// The right-most entry of `X-Forwarded-For` that is no trusted proxy. What is no address cannot be trusted; then the
/// proxy that wrote it is the last whose address is known.
fn client(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut nearest = peer;
    for field in headers.get_all("x-forwarded-for").iter().rev() {
        let Ok(text) = field.to_str() else { return nearest };
        for entry in text.rsplit(',') {
            let Some(address) = address(entry.trim()) else { return nearest };
            nearest = address;
            if !trusts(trusted, address) {
                return nearest;
            }
        }
    }
    nearest
}

/// An address, with a port if a proxy wrote one.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(entry);
    let address = bare.parse().or_else(|_| entry.parse().map(|socket: SocketAddr| socket.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn source(https: bool, peer: &str, fields: &[(&'static str, &'static str)]) -> Result<(String, bool), Reason> {
        source_by(Transport::Plain, https, peer, fields)
    }

    fn source_by(
        transport: Transport,
        https: bool,
        peer: &str,
        fields: &[(&'static str, &'static str)],
    ) -> Result<(String, bool), Reason> {
        let rules = Rules {
            trusted_proxies: ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a net")).into(),
            https,
            session_cookie: "s".into(),
            binding_cookie: "b".into(),
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let peer = Peer { address: SocketAddr::new(peer.parse().expect("an address"), 40_000), transport };
        let source = Source::of(&headers, &peer, &rules).map_err(|refusal| refusal.reason)?;
        Ok((source.client.to_string(), source.https))
    }

    #[test]
    fn s08_the_client_is_the_rightmost_untrusted_entry() {
        for (chain, expected) in [
            (&[][..], "10.0.0.1"),
            (&["192.0.2.7"], "192.0.2.7"),
            (&["203.0.113.9, 192.0.2.7"], "192.0.2.7"),
            (&["203.0.113.9,192.0.2.7 , 10.1.1.1"], "192.0.2.7"),
            (&["203.0.113.9", "192.0.2.7", "10.1.1.1, 10.2.2.2"], "192.0.2.7"),
            (&["192.0.2.7", "10.1.1.1"], "192.0.2.7"),
            (&["10.9.9.9, 10.1.1.1"], "10.9.9.9"),
            (&["203.0.113.9, unknown, 10.1.1.1"], "10.1.1.1"),
            (&["203.0.113.9, 192.0.2.7, garbage"], "10.0.0.1"),
            (&["203.0.113.9,"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
            (&["203.0.113.9, 256.1.1.1"], "10.0.0.1"),
            (&["203.0.113.9, 192.0.2.07"], "10.0.0.1"),
            (&["203.0.113.9, _hidden, 10.1.1.1"], "10.1.1.1"),
            (&["2001:db8::9, fd00::1"], "2001:db8::9"),
            (&["::ffff:192.0.2.7"], "192.0.2.7"),
            (&["::ffff:10.1.1.1"], "10.1.1.1"),
            (&["192.0.2.7:5000"], "192.0.2.7"),
            (&["[2001:db8::9]:5000"], "2001:db8::9"),
            (&["[2001:db8::9]"], "2001:db8::9"),
        ] {
            let fields: Vec<_> = chain.iter().map(|value| ("x-forwarded-for", *value)).collect();
            assert_eq!(source(false, "10.0.0.1", &fields), Ok((expected.to_owned(), false)), "{chain:?}");
        }
    }

    #[test]
    fn s07_an_untrusted_peer_says_nothing() {
        let fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")];
        assert_eq!(source(false, "198.51.100.1", &fields), Ok(("198.51.100.1".to_owned(), false)));
        assert_eq!(source(false, "::ffff:10.0.0.1", &fields), Ok(("192.0.2.7".to_owned(), true)));
    }

    #[test]
    fn s07_tls_to_us_needs_no_word_of_a_proxy_and_takes_none_of_a_stranger() {
        let tls = || Transport::Tls(crate::canonical::TlsClient::default());
        let fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http")];
        for transport in [tls(), Transport::TlsBefore] {
            let found = source_by(transport.clone(), true, "198.51.100.1", &fields);
            assert_eq!(found, Ok(("198.51.100.1".to_owned(), true)));
            assert_eq!(source_by(transport, true, "10.0.0.1", &fields), Ok(("192.0.2.7".to_owned(), true)));
        }
        let local = |proto| source_by(Transport::Local, true, "127.0.0.1", &[("x-forwarded-proto", proto)]);
        assert_eq!(local("https"), Ok(("127.0.0.1".to_owned(), true)));
        assert_eq!(local("http"), Err(Reason::UntrustedPeer));
        let itself = |https| {
            source_by(
                Transport::Balancer,
                https,
                "10.0.0.1",
                &[("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https")],
            )
        };
        assert_eq!(itself(true), Err(Reason::UntrustedPeer));
        assert_eq!(itself(false), Ok(("10.0.0.1".to_owned(), false)));
    }

    #[test]
    fn an_https_site_is_reached_through_trusted_proxies_by_https_only() {
        let proto = |value| ("x-forwarded-proto", value);
        assert_eq!(source(true, "10.0.0.1", &[proto("https")]), Ok(("10.0.0.1".to_owned(), true)));
        for (peer, fields) in [
            ("198.51.100.1", &[proto("https")][..]),
            ("10.0.0.1", &[]),
            ("10.0.0.1", &[proto("http")]),
            ("10.0.0.1", &[proto("HTTPS")]),
            ("10.0.0.1", &[proto("https,https")]),
            ("10.0.0.1", &[proto("https"), proto("https")]),
            ("10.0.0.1", &[proto("https"), proto("http")]),
        ] {
            assert_eq!(source(true, peer, fields), Err(Reason::UntrustedPeer), "{peer} {fields:?}");
        }
    }
}
