//! Upstreams over TLS, known by their certificates or not at all, and over Unix sockets.

use super::*;
use crate::upstream::{Place, Resolver, Tls, TlsFiles, TlsSource, UpstreamSettings};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::WebPkiClientVerifier,
};
use tokio::net::UnixListener;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// An authority of our own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(super) struct Identity {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Vec<u8>,
    der: (CertificateDer<'static>, PrivateKeyDer<'static>),
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority"))
    }

    pub(super) fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    pub(super) fn identity(&self, name: &str) -> Identity {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let der = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        Identity {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
            der: (certificate.der().clone(), der),
        }
    }
}

/// A server with this identity, that speaks these protocols and wants certificates of `clients`.
pub(super) fn server(identity: &Identity, protocols: &[&[u8]], clients: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.0.der().clone()).expect("an authority");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (certificate, key) = (identity.der.0.clone(), identity.der.1.clone_key());
    let mut config = builder.with_single_cert(vec![certificate], key).expect("a pair");
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request over TLS, and tells the name that was asked for.
async fn upstream(acceptor: TlsAcceptor) -> (Scripted, mpsc::UnboundedReceiver<Option<String>>) {
    let (heard, hear) = mpsc::unbounded_channel();
    let upstream = Scripted::start(move |_, stream| {
        let (acceptor, heard) = (acceptor.clone(), heard.clone());
        async move {
            let Ok(mut stream): Result<TlsStream<TcpStream>, _> = acceptor.accept(stream).await else { return };
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            while read_message(&mut stream).await.is_some() {
                let _ = heard.send(name.clone());
                stream.write_all(OK.as_bytes()).await.expect("written");
            }
        }
    })
    .await;
    (upstream, hear)
}

pub(super) fn settings(address: SocketAddr, source: TlsSource, files: TlsFiles) -> UpstreamSettings {
    let tls = Some(Tls::new(source, &files).expect("TLS"));
    UpstreamSettings { tls, ..UpstreamSettings::plain(&address.to_string()) }
}

pub(super) fn named(name: &str) -> TlsSource {
    TlsSource { name: Some(ServerName::try_from(name.to_owned()).expect("a name")), ..TlsSource::default() }
}

async fn asked(settings: UpstreamSettings) -> String {
    within(Front::over(Upstream::new(settings, Resolver::System)).await.get()).await
}

#[tokio::test]
async fn s107_an_upstream_is_known_by_name_and_chain() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (up, mut heard) = upstream(server(&ours.identity("up.test"), &[], None)).await;
    let ca = |authority: &Authority| TlsFiles { ca: Some(authority.pem()), identity: None };
    let right = asked(settings(up.address, named("up.test"), ca(&ours))).await;
    assert_eq!(status(&right), "200", "{right}");
    assert_eq!(heard.recv().await.flatten().as_deref(), Some("up.test"), "asked for by name");
    for (source, files, cause) in [
        (named("other.test"), ca(&ours), "not valid for name"),
        (named("up.test"), ca(&theirs), "invalid peer certificate"),
        (TlsSource::default(), ca(&ours), "not valid for name"), // the URL's host, an address
    ] {
        let answer = asked(settings(up.address, source, files)).await;
        assert_eq!(status(&answer), "502");
        assert!(answer.contains("upstream_failed: no TLS with") && answer.contains(cause), "{answer}");
        assert!(heard.try_recv().is_err(), "the upstream saw nothing");
    }
    let insecure = TlsSource { insecure_skip_verify: true, ..named("other.test") };
    assert_eq!(status(&asked(settings(up.address, insecure, TlsFiles::default())).await), "200");
}

#[tokio::test]
async fn shows_its_certificate_to_who_wants_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (up, mut heard) = upstream(server(&ours.identity("up.test"), &[], Some(&theirs))).await;
    let files = |identity: Option<Identity>| TlsFiles {
        ca: Some(ours.pem()),
        identity: identity.map(|it| (it.certificate, it.key)),
    };
    let known = settings(up.address, named("up.test"), files(Some(theirs.identity("vestibule"))));
    assert_eq!(status(&asked(known).await), "200");
    heard.recv().await.expect("a request");
    for unknown in [None, Some(ours.identity("vestibule"))] {
        let answer = asked(settings(up.address, named("up.test"), files(unknown))).await;
        assert_eq!(status(&answer), "502", "{answer}");
        assert!(heard.try_recv().is_err(), "the upstream saw nothing");
    }
}

#[tokio::test]
async fn clear_text_is_no_tls_and_tls_no_clear_text() {
    let up = Scripted::start(|_, mut stream| async move {
        stream.write_all(OK.as_bytes()).await.expect("written");
        let _ = stream.read_u8().await;
    })
    .await;
    let files = TlsFiles { ca: Some(Authority::new().pem()), identity: None };
    let answer = asked(settings(up.address, named("up.test"), files)).await;
    assert!(answer.contains("no TLS with"), "{answer}");
    let (up, _heard) = upstream(server(&Authority::new().identity("up.test"), &[], None)).await;
    assert_eq!(status(&asked(UpstreamSettings::plain(&up.authority())).await), "502");
}

/// A connection that is cut inside of TLS ends an answer that ends with it as a cut one, never as a whole one.
#[tokio::test]
async fn an_answer_that_is_cut_inside_of_tls_is_no_whole_one() {
    let authority = Authority::new();
    let acceptor = server(&authority.identity("up.test"), &[], None);
    let up = Scripted::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            read_message(&mut stream).await.expect("a request");
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nhalf").await.expect("written");
            let _ = stream.flush().await; // and no close_notify
        }
    })
    .await;
    let files = TlsFiles { ca: Some(authority.pem()), identity: None };
    let front = Front::over(Upstream::new(settings(up.address, named("up.test"), files), Resolver::System)).await;
    let mut client = front.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
    let mut all = Vec::new();
    let _ = within(client.read_to_end(&mut all)).await;
    assert!(!all.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&all));
}

#[tokio::test]
async fn a_unix_socket_is_an_upstream() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("portal.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (heard, mut hear) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        while let Some(request) = read_message(&mut stream).await {
            let _ = heard.send(request);
            stream.write_all(OK.as_bytes()).await.expect("written");
        }
    });
    let places = vec![Place::Unix { path: path.into() }];
    let settings = UpstreamSettings { places, ..UpstreamSettings::plain("a:1") };
    let route = Route {
        host_header: HostHeader::Upstream,
        upstream: Upstream::new(settings, Resolver::System),
        ..route("a:1")
    };
    let front = Front::with(route, Principal::Anonymous).await;
    for _ in 0..2 {
        assert!(front.get().await.ends_with("ok"));
        assert_eq!(field(&hear.recv().await.expect("a request"), "host"), Some("localhost"));
    }
}
