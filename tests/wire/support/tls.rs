//! Certificates for tests, and a client that speaks TLS.

use super::{
    gateway::{CLIENT, Gateway},
    upstream::Upstream,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use std::{io, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An authority that everybody in a test believes.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    der: CertificateDer<'static>,
}

/// A certificate with its key.
pub(crate) struct Pair {
    pub(crate) pem: String,
    pub(crate) key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

/// A gateway whose listener knows clients by certificates of the authority, with a route `app` for them, perhaps one that takes
/// none, and `more` at the top level of its configuration.
pub(crate) async fn with_certificates(more: &str, other: &str, policies: &str) -> (Upstream, Authority, Gateway) {
    let (upstream, authority) = (Upstream::start().await, Authority::new());
    let port = upstream.port;
    let other = match other {
        "" => String::new(),
        other => format!("\x20 - {{ {other}, upstream: \"http://127.0.0.1:{port}\" }}\n"),
    };
    let configuration = format!(
        "public_url: https://portal.test\nlisten:\n\
         \x20 - address: 127.0.0.1:PORT\n\
         \x20   tls: {{ certificate: a.pem, key: a.key }}\n\
         \x20   client_certificates: {{ ca: ca.pem, required: false }}\n\
         workers: 2\ndrain: 0s\n{CLIENT}{more}\
         token_issuers:\n\x20 - {{ name: mesh, kind: certificate }}\n\
         routes:\n\
         \x20 - {{ name: app, host: portal.test, upstream: \"http://127.0.0.1:{port}\", token_issuers: [mesh] }}\n\
         {other}policies: ./policies\n"
    );
    let gateway = Gateway::start_with(&configuration, policies, |gateway| {
        let pair = authority.server(&["portal.test"]);
        gateway.write("a.pem", &pair.pem);
        gateway.write_secret("a.key", &pair.key);
        gateway.write("ca.pem", &authority.pem);
    })
    .await;
    (upstream, authority, gateway)
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der }
    }

    /// A certificate for these host names.
    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        self.issue(CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).expect("names"))
    }

    /// A certificate of a client with this common name and this URI.
    pub(crate) fn client(&self, name: &str, uri: Option<&str>) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().expect("a URI"))));
        self.issue(params)
    }

    fn issue(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            pem: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    /// Connects to a port of this machine as a client that believes this authority.
    pub(crate) async fn connect(
        &self,
        port: u16,
        name: &str,
        client: Option<&Pair>,
        alpn: &[&str],
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match client {
            Some(pair) => {
                let key = PrivateKeyDer::try_from(pair.key_der.clone()).expect("a key");
                builder.with_client_auth_cert(vec![pair.der.clone()], key).expect("a pair")
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|one| one.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

/// The certificate that the other side showed.
pub(crate) fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

impl Pair {
    /// True if this is the certificate that the other side showed.
    pub(crate) fn is_shown_on(&self, stream: &TlsStream<TcpStream>) -> bool {
        shown(stream) == self.der.as_ref()
    }
}
