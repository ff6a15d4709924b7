//! TLS to us: certificates by the name that a client asks for, and what it shows of itself.

use crate::{
    canonical::{ClientCertificate, TlsClient, covers},
    config::{Certificate, Tls, TlsVersion},
};
use rustls::{
    NoKeyLog, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::CertificateDer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use x509_parser::{
    objects::{oid_registry, oid2abbrev},
    prelude::{FromDer, GeneralName, X509Certificate},
    x509::{AttributeTypeAndValue, X509Name},
};

/// HTTP/2 by ALPN (RFC 9113, section 3.2).
pub(super) const H2: &[u8] = b"h2";
const HTTP11: &[u8] = b"http/1.1";

/// What a listener needs to speak TLS.
pub(super) struct TlsWay {
    pub(super) acceptor: TlsAcceptor,
    certificates: Arc<Certificates>,
    clients: bool,
    digest: [u8; 32],
}

/// The certificates of one listener.
#[derive(Debug)]
struct Certificates(Vec<(Arc<Certificate>, Arc<[String]>)>);

impl TlsWay {
    /// Versions, suites and key exchanges are those of rustls: TLS 1.2 with AEAD and ECDHE, TLS 1.3; no renegotiation, no
    /// compression, no early data.
    ///
    /// # Errors
    /// One line, if the cryptographic library lacks what it was built with.
    pub(super) fn new(tls: &Tls) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions: &[_] = match tls.minimum {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let fault = |error: rustls::Error| format!("cannot speak TLS: {error}");
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(fault)?;
        let builder = match &tls.clients {
            Some(clients) => builder.with_client_cert_verifier(clients.verifier.clone()),
            None => builder.with_no_client_auth(),
        };
        let with_names = |one: &Arc<Certificate>| (one.clone(), one.names.as_slice().into());
        let certificates = Arc::new(Certificates(tls.certificates.iter().map(with_names).collect()));
        let mut config = builder.with_cert_resolver(certificates.clone());
        config.alpn_protocols = vec![H2.to_vec(), HTTP11.to_vec()];
        config.send_tls13_tickets = 1;
        config.key_log = Arc::new(NoKeyLog {});
        if tls.clients.is_some() {
            // a resumed session would outlive the authorities that its certificate was verified by
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = aws_lc_rs::Ticketer::new().map_err(fault)?;
        }
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificates,
            clients: tls.clients.is_some(),
            digest: tls.digest,
        })
    }

    /// True if clients are asked for a certificate.
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.clients
    }

    /// True if it was made of the same.
    pub(super) fn is(&self, tls: &Tls) -> bool {
        self.digest == tls.digest
    }

    /// What TLS told of the client.
    pub(super) fn client(&self, connection: &ServerConnection) -> TlsClient {
        let name = connection.server_name();
        TlsClient {
            server_name: name.and_then(|name| name.parse().ok()),
            names: self.certificates.choose(name).1.clone(),
            certificate: connection.peer_certificates().and_then(|chain| certificate(chain.first()?)).map(Arc::new),
        }
    }
}

impl Certificates {
    /// The first that has the name, one with the whole name before one with a `*`; else the first of all.
    fn choose(&self, name: Option<&str>) -> &(Arc<Certificate>, Arc<[String]>) {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let whole = || self.0.iter().find(|(_, names)| names.contains(&name));
        let starred = || self.0.iter().find(|(_, names)| names.iter().any(|one| covers(one, &name)));
        whole().or_else(starred).unwrap_or(&self.0[0])
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()).0.signer.clone())
    }
}

/// What policies may ask about a client's certificate, which is verified by now.
fn certificate(certificate: &CertificateDer<'_>) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok().flatten();
    let mut uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let only = match (uris.next(), uris.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    Some(ClientCertificate {
        subject: distinguished_name(certificate.subject()).into(),
        issuer: distinguished_name(certificate.issuer()).into(),
        spiffe_id: only.filter(|uri| uri.starts_with("spiffe://")).map(Into::into),
    })
}

/// A distinguished name as text that stands for no other name: the last part first, everything with a meaning escaped.
///
/// Source: RFC 4514, section 2.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let part = |part: &AttributeTypeAndValue<'_>| {
        let kind = oid2abbrev(part.attr_type(), oid_registry())
            .map_or_else(|_| part.attr_type().to_id_string(), str::to_owned);
        match part.as_str() {
            Ok(text) => format!("{kind}={}", escaped(text)),
            Err(_) => format!("{kind}=#{}", crate::text::hex(part.attr_value().data)),
        }
    };
    let parts = name.iter().map(|parts| parts.iter().map(part).collect::<Vec<_>>().join("+"));
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (at, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => escaped.extend(['\\', letter]),
            ' ' if at == 0 || at == last => escaped.push_str("\\ "),
            '#' if at == 0 => escaped.push_str("\\#"),
            letter if letter.is_control() => {
                letter.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| escaped.push_str(&format!("\\{byte:02x}")));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    fn subject(parts: &[(DnType, &str)]) -> String {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = DistinguishedName::new();
        parts.iter().for_each(|(kind, value)| params.distinguished_name.push(kind.clone(), *value));
        let made = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        certificate(made.der()).expect("a certificate").subject.to_string()
    }

    /// Nobody who chooses one part of a name at an authority can write another name with it.
    #[test]
    fn a_subject_stands_for_one_name() {
        assert_eq!(subject(&[(DnType::OrganizationName, "acme"), (DnType::CommonName, "portal")]), "CN=portal,O=acme");
        assert_eq!(subject(&[(DnType::OrganizationName, "acme, CN=portal")]), "O=acme\\, CN\\=portal");
        assert_eq!(subject(&[(DnType::OrganizationName, "portal,O=acme")]), "O=portal\\,O\\=acme");
        assert_eq!(subject(&[(DnType::CommonName, " #a+b\\ ")]), "CN=\\ #a\\+b\\\\\\ ");
        assert_eq!(subject(&[(DnType::CommonName, "a\nb")]), "CN=a\\0ab");
    }
}
