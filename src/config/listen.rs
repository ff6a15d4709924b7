//! `listen`: from as written to as meant.

use super::{
    Certificate, ClientCertificates, Listen, ListenAt, Tls, TlsVersion,
    file::{CertificateFile, ClientCertificatesFile, ListenFile, ListenerFile, TlsFile, TlsVersionFile},
    meaning::{Meaning, entry},
    mistake::{Mistake, quote},
    value::{self, Expected},
};
use aws_lc_rs::digest::{Context, SHA256};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
    sign::CertifiedKey,
};
use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use x509_parser::{
    prelude::{FromDer, GeneralName, X509Certificate},
    time::ASN1Time,
};

/// A certificate that ends sooner is warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// No file of certificates is longer.
const LONGEST: u64 = 1 << 20;

/// All listeners that are free of mistakes, each with its key.
pub(super) fn all(meaning: &mut Meaning<'_, '_>, written: Option<&ListenFile>) -> Vec<(String, Listen)> {
    match written {
        None => Vec::new(),
        Some(ListenFile::One(text)) => {
            let at = meaning.read("listen", Some(text), place);
            let plain = |at| Listen { at, tls: None, proxy_protocol: false };
            at.map(|at| ("listen".to_owned(), plain(at))).into_iter().collect()
        }
        Some(ListenFile::Many(list)) => {
            if list.is_empty() {
                meaning
                    .report
                    .add(Mistake::new("listen", "`listen` is empty").expected("expected at least one address"));
            }
            let each = list.iter().enumerate();
            let read: Vec<_> = each.map(|(index, entry)| one(meaning, index, entry)).collect();
            read.into_iter().flatten().collect()
        }
    }
}

fn one(meaning: &mut Meaning<'_, '_>, index: usize, written: &ListenerFile) -> Option<(String, Listen)> {
    let key = |key| entry("listen", index, key);
    let at = meaning.read(&key("address"), written.address.as_deref(), place);
    let tls = written.tls.as_ref();
    let without = meaning.is_review();
    let tls = tls
        .filter(|_| !without)
        .map(|tls| self::tls(meaning, &key("tls"), tls, (&key("client_certificates"), written)));
    if written.tls.is_none() && written.client_certificates.is_some() {
        let full = key("client_certificates");
        meaning.report.add(
            Mistake::new(&full, format!("`{full}` is set, and this listener has no `tls`"))
                .at_key()
                .expected("expected a key `tls` beside it")
                .help(
                    "a client shows its certificate while TLS begins: write `tls: { certificate: FILE, key: FILE }`"
                        .to_owned(),
                ),
        );
    }
    let listen = Listen {
        at: at?,
        tls: match tls {
            Some(tls) => Some(Arc::new(tls?)),
            None => None,
        },
        proxy_protocol: written.proxy_protocol.unwrap_or(false),
    };
    Some((key("address"), listen))
}

/// `0.0.0.0:8080`, `unix:/run/vestibule.sock`, `systemd` or `systemd:NAME`.
fn place(text: &str) -> Result<ListenAt, Expected> {
    if let Some(path) = text.strip_prefix("unix:") {
        let fits =
            path.starts_with('/') && path.len() < 108 && !path.ends_with('/') && !path.chars().any(char::is_control);
        return fits
            .then(|| ListenAt::Unix(path.into()))
            .ok_or_else(|| Expected::new("`unix:` and a path of less than 108 bytes that begins with `/`"));
    }
    if text == "systemd" {
        return Ok(ListenAt::Systemd(None));
    }
    if let Some(name) = text.strip_prefix("systemd:") {
        let fits = !name.is_empty() && name.len() < 256 && name.bytes().all(|b| b.is_ascii_graphic() && b != b':');
        return fits
            .then(|| ListenAt::Systemd(Some(name.into())))
            .ok_or_else(|| Expected::new("`systemd:` and the `FileDescriptorName` of the socket's unit"));
    }
    value::address(text).map(ListenAt::Tcp)
}

fn tls(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &TlsFile,
    (clients_key, listener): (&str, &ListenerFile),
) -> Option<Tls> {
    let first = CertificateFile { certificate: written.certificate.clone(), key: written.key.clone() };
    let more = written.certificates.as_deref().unwrap_or_default();
    let mut entries = Vec::new();
    if first.certificate.is_some() || first.key.is_some() || more.is_empty() {
        entries.push((key.to_owned(), &first));
    }
    entries.extend(more.iter().enumerate().map(|(index, entry)| (format!("{key}.certificates[{index}]"), entry)));
    let mut digest = Context::new(&SHA256);
    let read: Vec<_> = entries.iter().map(|(key, entry)| certificate(meaning, key, entry, &mut digest)).collect();
    let minimum = match written.minimum.unwrap_or_default() {
        TlsVersionFile::Tls12 => TlsVersion::Tls12,
        TlsVersionFile::Tls13 => TlsVersion::Tls13,
    };
    digest.update(&[minimum as u8]);
    let clients = listener.client_certificates.as_ref();
    let clients = clients.map(|clients| self::clients(meaning, clients_key, clients, &mut digest));
    let certificates: Option<Vec<_>> = read.into_iter().collect();
    Some(Tls {
        certificates: certificates?,
        minimum,
        clients: match clients {
            Some(clients) => Some(clients?),
            None => None,
        },
        digest: digest.finish().as_ref().try_into().expect("SHA-256 has 32 bytes"),
    })
}

/// Reads one certificate with its chain and its key, which must belong together.
fn certificate(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &CertificateFile,
    digest: &mut Context,
) -> Option<Arc<Certificate>> {
    let (chain_key, key_key) = (format!("{key}.certificate"), format!("{key}.key"));
    for (path, text) in [(&chain_key, &written.certificate), (&key_key, &written.key)] {
        if text.is_none() && !meaning.report.knows(path) {
            meaning.report.add(
                Mistake::new(path, format!("`{path}` is missing"))
                    .at_key()
                    .expected("expected `{ certificate: FILE, key: FILE }`"),
            );
        }
    }
    let (file, bytes) =
        pem(meaning, &chain_key, written.certificate.as_deref(), "the certificate and its chain in PEM")?;
    digest.update(&bytes);
    let chain = chain(meaning, &chain_key, &file, &bytes);
    let (key_file, bytes) = pem(meaning, &key_key, written.key.as_deref(), "the certificate's private key in PEM")?;
    digest.update(&bytes);
    if let Some(warning) = super::open_to_others(&key_file) {
        meaning.report.warn(&key_key, &warning);
    }
    let shown = quote(&key_file.display().to_string());
    let private = meaning.read(&key_key, written.key.as_deref(), |_| {
        if memchr::memmem::find(&bytes, b"ENCRYPTED").is_some() {
            let help = format!(
                "{shown} is encrypted, and there is nobody to type its password: decrypt it with `openssl pkey`"
            );
            return Err(Expected::new("a private key that is not encrypted").help(help));
        }
        PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
            Expected::new("the certificate's private key in PEM")
                .help(format!("{shown} holds no private key that can be read"))
        })
    })?;
    let chain = chain?;
    let names = names(&chain[0]);
    let (begins, ends) = warn_of_dates(meaning, &chain_key, &chain[0]);
    let signer = meaning.read(&key_key, written.key.as_deref(), |_| {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(chain, private, &provider).map_err(|error| {
            let help = match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "{shown} is the key of another certificate than {}: put the pair in place together",
                    quote(&file.display().to_string())
                ),
                rustls::Error::InvalidCertificate(_) => format!(
                    "{} cannot be served: it is no certificate of X.509 version 3, or broken",
                    quote(&file.display().to_string())
                ),
                _ => format!("{shown} cannot be used: expected RSA, ECDSA with P-256, P-384 or P-521, or Ed25519"),
            };
            Expected::new("the private key of the certificate").help(help)
        })
    })?;
    Some(Arc::new(Certificate { file, key_file, names, begins, ends, signer: Arc::new(signer) }))
}

/// Reads a file of certificates, at least one.
fn chain(meaning: &mut Meaning<'_, '_>, key: &str, file: &Path, bytes: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let shown = quote(&file.display().to_string());
    let expected = || Expected::new("certificates in PEM");
    let text = file.display().to_string();
    meaning.read(key, Some(&text), |_| {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
        let chain = read.map_err(|error| expected().help(format!("{shown} cannot be read: {error}")))?;
        if chain.is_empty() {
            return Err(expected().help(format!("{shown} holds no certificate")));
        }
        match chain.iter().find_map(|one| X509Certificate::from_der(one).err()) {
            Some(_) => Err(expected().help(format!("{shown} holds a certificate that cannot be read"))),
            None => Ok(chain),
        }
    })
}

/// Reads which clients a listener asks for their certificate.
fn clients(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: &ClientCertificatesFile,
    digest: &mut Context,
) -> Option<ClientCertificates> {
    let ca_key = format!("{key}.ca");
    let (file, bytes) =
        pem(meaning, &ca_key, written.ca.as_deref(), "the authorities that issue client certificates, in PEM")?;
    digest.update(&bytes);
    let authorities = chain(meaning, &ca_key, &file, &bytes)?;
    let required = written.required.unwrap_or(true);
    digest.update(&[u8::from(required)]);
    let mut roots = rustls::RootCertStore::empty();
    let shown = quote(&file.display().to_string());
    let verifier = meaning.read(&ca_key, written.ca.as_deref(), |_| {
        let unfit = |error: &dyn std::fmt::Display| {
            Expected::new("certificates of authorities").help(format!("{shown} cannot be used: {error}"))
        };
        for authority in authorities {
            roots.add(authority).map_err(|error| unfit(&error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        builder.build().map_err(|error| unfit(&error))
    })?;
    Some(ClientCertificates { file, required, verifier })
}

/// Reads a file that the configuration names, and has it watched.
fn pem(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: Option<&str>,
    what: &str,
) -> Option<(std::path::PathBuf, Vec<u8>)> {
    let file = meaning.path(written?);
    let bytes = meaning.file(key, written?, what, LONGEST)?;
    Some((file, bytes))
}

/// The host names and addresses that a certificate is for, in lower case (RFC 9525, section 6.3).
fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.trim_end_matches('.').to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
            16 => <[u8; 16]>::try_from(*bytes).ok().map(|octets| format!("[{}]", std::net::Ipv6Addr::from(octets))),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(text).collect()
}

/// When a certificate begins and ends; warns if that is not well.
fn warn_of_dates(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    certificate: &CertificateDer<'_>,
) -> (SystemTime, SystemTime) {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return (UNIX_EPOCH, UNIX_EPOCH) };
    let (validity, now) = (certificate.validity(), SystemTime::now());
    let moment = |time: ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
        UNIX_EPOCH + Duration::from_secs(seconds)
    };
    let (begins, ends) = (moment(validity.not_before), moment(validity.not_after));
    if ends < now {
        meaning.report.warn(key, &format!("this certificate has been over since {}", validity.not_after));
    } else if begins > now {
        meaning.report.warn(key, &format!("this certificate does not begin before {}", validity.not_before));
    } else if ends < now + SOON {
        meaning.report.warn(key, &format!("this certificate is over on {}: renew it", validity.not_after));
    }
    (begins, ends)
}
