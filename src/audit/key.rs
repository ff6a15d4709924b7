//! The key that signs heads of the journal, and its public half with which anybody can verify them.

use super::memory::Memory;
use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

/// What stands before the 32 bytes of a key in its `SubjectPublicKeyInfo` (RFC 8410, section 4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Signs heads. `Debug` is absent on purpose.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
    name: String,
    memory: Memory,
}

/// Verifies heads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicKey {
    key: [u8; 32],
    name: String,
}

impl Signer {
    /// Reads `audit.ed25519` in `keys`, or makes it (0600), and writes `audit.pub` beside it where that is absent or old.
    ///
    /// # Errors
    /// One line that says what cannot be read or written.
    pub(super) fn open(keys: &Path) -> Result<Self, String> {
        let (private, public) = (keys.join("audit.ed25519"), keys.join("audit.pub"));
        if !fs::exists(&private).map_err(|error| format!("cannot look for `{}`: {error}", private.display()))? {
            make(keys, &private)?;
        }
        let pair = read(&private)?;
        let text = pem(&pair)?;
        if fs::read_to_string(&public).ok().as_deref() != Some(&*text) {
            fs::write(&public, &text).map_err(|error| format!("cannot write `{}`: {error}", public.display()))?;
        }
        let name = name(pair.public_key().as_ref());
        Ok(Self { pair, name, memory: Memory::of(keys) })
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the public key.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What was signed last, of each journal.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The public half.
    pub(super) fn public(&self) -> PublicKey {
        let key = self.pair.public_key().as_ref().try_into().expect("a public key of Ed25519 has 32 bytes");
        PublicKey { key, name: self.name.clone() }
    }

    /// Signs `statement`; the signature is in Base64.
    pub(super) fn sign(&self, statement: &str) -> String {
        STANDARD.encode(self.pair.sign(statement.as_bytes()))
    }
}

fn make(keys: &Path, private: &Path) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot make `{}`: {error}", private.display());
    let document = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|error| fail(&error))?;
    fs::create_dir_all(keys).map_err(|error| fail(&error))?;
    let new = keys.join(".audit.ed25519.new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(|e| fail(&e))?;
    file.write_all(document.as_ref()).and_then(|()| file.sync_all()).map_err(|error| fail(&error))?;
    fs::rename(&new, private).map_err(|error| fail(&error))?;
    File::open(keys).and_then(|directory| directory.sync_all()).map_err(|error| fail(&error))
}

fn read(private: &Path) -> Result<Ed25519KeyPair, String> {
    let shown = private.display();
    let mode = fs::metadata(private).map_err(|error| format!("cannot read `{shown}`: {error}"))?.permissions().mode();
    if mode & 0o027 != 0 {
        return Err(format!("`{shown}` has mode {:o}: others may use it; run `chmod 600 {shown}`", mode & 0o777));
    }
    let bytes = fs::read(private).map_err(|error| format!("cannot read `{shown}`: {error}"))?;
    let bytes = zeroize::Zeroizing::new(bytes);
    Ed25519KeyPair::from_pkcs8(&bytes).map_err(|error| format!("`{shown}` is no Ed25519 key in PKCS #8: {error}"))
}

fn pem(pair: &Ed25519KeyPair) -> Result<String, String> {
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().map_err(|_| "cannot encode the audit key".to_owned())?;
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref())))
}

fn name(key: &[u8]) -> String {
    crate::text::hex(&super::record::hash(key))[..16].to_owned()
}

impl PublicKey {
    /// Reads a public key in PEM, as `audit.pub` is.
    ///
    /// # Errors
    /// One line that says what is wrong with the file.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        let inner: String = text.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
        STANDARD
            .decode(inner)
            .ok()
            .and_then(|der| <[u8; 32]>::try_from(der.strip_prefix(&SPKI)?).ok())
            .map(|key| Self { key, name: name(&key) })
            .ok_or_else(|| {
                format!("`{}` is no Ed25519 public key: expected PEM, as in `keys/audit.pub`", path.display())
            })
    }

    /// The first 16 hexadecimal digits of the SHA-256 of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True if `signature`, in Base64, is ours under `statement`.
    pub(super) fn signed(&self, statement: &str, signature: &str) -> bool {
        STANDARD.decode(signature).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, self.key).verify(statement.as_bytes(), &signature).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_public_half_verifies() {
        let keys = tempfile::tempdir().expect("a directory");
        let first = Signer::open(keys.path()).expect("made");
        let second = Signer::open(keys.path()).expect("read");
        assert_eq!(first.name(), second.name());
        let public = PublicKey::read(&keys.path().join("audit.pub")).expect("PEM");
        assert_eq!(public.name(), first.name());
        assert!(public.signed("statement", &second.sign("statement")));
        assert!(!public.signed("another", &second.sign("statement")));
        assert!(!public.signed("statement", "no base64"));
        let mode = fs::metadata(keys.path().join("audit.ed25519")).expect("is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let keys = tempfile::tempdir().expect("a directory");
        Signer::open(keys.path()).map(drop).expect("made");
        let private = keys.path().join("audit.ed25519");
        fs::set_permissions(&private, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Signer::open(keys.path()).map(drop).expect_err("is refused").contains("has mode 644"));
    }
}
