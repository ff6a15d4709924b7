//! The other end of a connection, as the listener came to know it.

use super::Host;
use crate::refusal::{Reason, Refusal};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: the kernel's word, or that of a trusted balancer by the PROXY protocol. Loopback for a local socket.
    pub address: SocketAddr,
    /// How it came.
    pub transport: Transport,
}

/// How a connection came.
#[derive(Clone, Debug)]
pub enum Transport {
    /// In clear text.
    Plain,
    /// In clear text by a socket of the file system. Whoever may open that is trusted as a proxy is.
    Local,
    /// In clear text, and it is the balancer itself that asks (`LOCAL` of the PROXY protocol): it forwards for nobody.
    Balancer,
    /// In clear text to us, by TLS to the balancer that says so in the PROXY protocol (`PP2_CLIENT_SSL`).
    TlsBefore,
    /// By TLS to us.
    Tls(TlsClient),
}

/// What TLS told of a client.
#[derive(Clone, Debug, Default)]
pub struct TlsClient {
    /// The name that it asked for (RFC 6066, section 3); none if it named none.
    pub server_name: Option<Host>,
    /// The names of the certificate that it was shown; `*.example.com` stands for one label.
    pub names: Arc<[String]>,
    /// Its own certificate, if the listener asks for one.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// A client's certificate, verified.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientCertificate {
    /// The distinguished name of its subject, as RFC 4514 writes it, such as `CN=portal,O=acme`.
    pub subject: Arc<str>,
    /// The distinguished name of who issued it.
    pub issuer: Arc<str>,
    /// Its only URI, if that is a SPIFFE id (SPIFFE X.509-SVID, section 2).
    pub spiffe_id: Option<Arc<str>>,
}

impl Peer {
    /// The client's certificate, verified.
    pub fn certificate(&self) -> Option<&Arc<ClientCertificate>> {
        match &self.transport {
            Transport::Tls(client) => client.certificate.as_ref(),
            Transport::Plain | Transport::Local | Transport::Balancer | Transport::TlsBefore => None,
        }
    }

    /// Refuses a host that this connection is not for: neither the one that TLS was asked for, nor one of the certificate that
    /// it showed. Browsers use one connection for several hosts only where its certificate has them all.
    ///
    /// # Errors
    /// `Misdirected`.
    ///
    /// Source: RFC 9110, section 7.4.
    pub(super) fn serves(&self, host: &Host) -> Result<(), Refusal> {
        let Transport::Tls(client) = &self.transport else { return Ok(()) };
        let asked = client.server_name.as_ref() == Some(host);
        if asked || client.names.is_empty() || client.names.iter().any(|name| covers(name, host.as_str())) {
            return Ok(());
        }
        let sentence = "This connection is for another host. Open a new one for this.";
        Err(Refusal::new(Reason::Misdirected, sentence).closing())
    }
}

/// True if a certificate's name covers a host (RFC 9525, section 6.3): `*` stands for the whole first label.
pub fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(first, parent)| !first.is_empty() && parent == rest),
        None => name == host,
    }
}

/// What counts as one client: an address, or the whole /64 of IPv6 that a household has.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        assert!(covers("*.example.com", "a.example.com") && covers("a.example.com", "a.example.com"));
        for host in ["example.com", "a.b.example.com", ".example.com", "a.example.org", "aexample.com"] {
            assert!(!covers("*.example.com", host), "{host}");
        }
    }

    /// The name that TLS was asked for and the host of the request select one security domain.
    #[test]
    fn s32_a_connection_serves_the_hosts_of_its_certificate_only() {
        let serves = |server_name: Option<&str>, names: &[&str], host: &str| {
            let server_name = server_name.map(|name| name.parse().expect("a host"));
            let names = names.iter().map(ToString::to_string).collect();
            let client = TlsClient { server_name, names, certificate: None };
            let peer = Peer { address: ([127, 0, 0, 1], 1).into(), transport: Transport::Tls(client) };
            peer.serves(&host.parse().expect("a host")).is_ok()
        };
        let both = &["portal.example.com", "*.apps.example.com"];
        assert!(serves(Some("portal.example.com"), both, "portal.example.com"));
        assert!(serves(Some("portal.example.com"), both, "ci.apps.example.com"));
        assert!(serves(None, both, "portal.example.com"));
        assert!(!serves(Some("portal.example.com"), both, "deploy.example.com"));
        assert!(!serves(None, both, "deploy.example.com"));
        assert!(serves(Some("deploy.example.com"), both, "deploy.example.com"));
    }
}
