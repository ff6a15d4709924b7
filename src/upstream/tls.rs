//! How an upstream is known over TLS, and how it knows us.

use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::BuilderVerifierExt;
use std::{fmt, path::PathBuf, sync::Arc};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Where the files of an upstream's TLS are, and the name it is known by.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsSource {
    /// The only authorities that may vouch for it. Default: the system's.
    pub ca: Option<PathBuf>,
    /// The name that is asked for and verified. Default: the host of the URL.
    pub name: Option<ServerName<'static>>,
    /// Our certificate, its chain after it.
    pub certificate: Option<PathBuf>,
    /// The key of our certificate.
    pub key: Option<PathBuf>,
    /// Nothing is verified: whoever answers is believed.
    pub insecure_skip_verify: bool,
}

/// What the files hold.
#[derive(Default)]
pub struct TlsFiles {
    /// `ca`.
    pub ca: Option<Vec<u8>>,
    /// `certificate` and `key`.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// TLS to an upstream, ready to use.
#[derive(Clone)]
pub struct Tls {
    /// Where it was read.
    pub source: TlsSource,
    /// Offers HTTP/1.1 only.
    http1: Arc<ClientConfig>,
    /// Offers HTTP/2 first.
    http2: Arc<ClientConfig>,
    /// SHA-256 of the files.
    digest: [u8; 32],
}

/// What is wrong with the files of an upstream's TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `ca` holds no certificate.
    #[error("it holds no certificate in PEM")]
    NoAuthority,
    /// `ca` holds something else too.
    #[error("its certificate number {0} is broken")]
    Authority(usize),
    /// `certificate` holds no certificate.
    #[error("it holds no certificate in PEM")]
    NoCertificate,
    /// `key` holds no key.
    #[error("it holds no private key in PEM")]
    NoKey,
    /// They do not belong together, or cannot be used.
    #[error("it does not belong to the certificate")]
    Mismatch,
    /// The certificate or the key is of a kind that nobody can use.
    #[error("certificate and key cannot be used: {0}")]
    Identity(rustls::Error),
    /// The system's authorities cannot be read.
    #[error("the system's certificate authorities cannot be loaded: {0}")]
    System(rustls::Error),
}

impl Tls {
    /// TLS as `source` says, from what its files hold.
    ///
    /// # Errors
    /// A [`TlsError`] that says which file is wrong.
    pub fn new(source: TlsSource, files: &TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::System)?;
        let builder = match (&files.ca, source.insecure_skip_verify) {
            (_, true) => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))),
            (Some(ca), false) => builder.with_root_certificates(authorities(ca)?),
            (None, false) => builder.with_platform_verifier().map_err(TlsError::System)?,
        };
        let mut http1 = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
                    .collect::<Result<_, _>>()
                    .map_err(|_| TlsError::NoCertificate)?;
                if chain.is_empty() {
                    return Err(TlsError::NoCertificate);
                }
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| match error {
                    rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
                    other => TlsError::Identity(other),
                })?
            }
        };
        http1.alpn_protocols = vec![HTTP1.to_vec()];
        let mut http2 = http1.clone();
        http2.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
        Ok(Self { source, http1: Arc::new(http1), http2: Arc::new(http2), digest: digest(files) })
    }

    /// The settings of a handshake for what is not HTTP: no protocol is offered.
    pub fn plain(&self) -> ClientConfig {
        let mut plain = ClientConfig::clone(&self.http1);
        plain.alpn_protocols.clear();
        plain
    }

    /// The settings of a handshake.
    pub fn config(&self, http2: bool) -> Arc<ClientConfig> {
        if http2 { self.http2.clone() } else { self.http1.clone() }
    }
}

/// True if `protocol` of a finished handshake is HTTP/2.
pub fn is_http2(protocol: Option<&[u8]>) -> bool {
    protocol == Some(HTTP2)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in CertificateDer::pem_slice_iter(pem).enumerate() {
        let broken = |_| TlsError::Authority(index + 1);
        roots.add(certificate.map_err(|_| TlsError::Authority(index + 1))?).map_err(broken)?;
    }
    if roots.is_empty() { Err(TlsError::NoAuthority) } else { Ok(roots) }
}

/// Tells one set of files from another; lengths go in, so that nothing moves from one file to the next unseen.
fn digest(files: &TlsFiles) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let (certificate, key) = files.identity.as_ref().map_or((None, None), |(a, b)| (Some(a), Some(b)));
    for file in [files.ca.as_ref(), certificate, key] {
        context.update(&file.map_or(u64::MAX, |bytes| bytes.len() as u64).to_be_bytes());
        context.update(file.map_or(&[], Vec::as_slice));
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source && self.digest == other.digest
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

/// Believes whoever answers, but still checks that they hold the key of the certificate they show.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
