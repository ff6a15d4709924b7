//! The key ring: seals what leaves the process, opens what comes back.

use super::{random, sha256};
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
};
use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Keys from files: the newest seals, all open. Each purpose has a key of its own, derived by HKDF-SHA256 (RFC 5869).
pub struct KeyRing {
    keys: Vec<RingKey>,
}

struct RingKey {
    id: [u8; 4],
    secret: hkdf::Prk,
}

/// What a sealed value is for. A value sealed for one purpose cannot be opened for another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// The `state` of a sign-in.
    State,
    /// The part of a session record that needs no handle.
    Index,
    /// The part of a session record that needs the handle.
    Tokens,
}

/// Why a ring cannot be used, or a value not opened.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The directory or a file in it.
    #[error("cannot use key file `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of another length.
    #[error("key file `{}` holds {length} bytes, expected 32: make one with `head -c 32 /dev/urandom`", path.display())]
    Length {
        /// Which.
        path: PathBuf,
        /// How many.
        length: usize,
    },
    /// Not sealed by a key of this ring for this purpose, or damaged.
    #[error("the sealed value does not open")]
    Sealed,
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::State => b"vestibule/1/state",
            Self::Index => b"vestibule/1/session-index",
            Self::Tokens => b"vestibule/1/session-tokens",
        }
    }
}

impl KeyRing {
    /// Reads `ring/*.key` below `keys`, the newest name first; makes the first key (0600) if there is none.
    ///
    /// # Errors
    /// [`RingError::File`], [`RingError::Length`].
    pub fn open(keys: &Path) -> Result<Self, RingError> {
        let directory = keys.join("ring");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| RingError::File { path, source }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(at(&directory))?;
        let mut files = list(&directory).map_err(at(&directory))?;
        if files.is_empty() {
            let first = directory.join("0001.key");
            make(&first).map_err(at(&first))?;
            files.push(first);
        }
        files.sort();
        let mut ring = Vec::with_capacity(files.len());
        for path in files.iter().rev() {
            let bytes = Zeroizing::new(fs::read(path).map_err(at(path))?);
            if bytes.len() != 32 {
                return Err(RingError::Length { path: path.clone(), length: bytes.len() });
            }
            ring.push(RingKey::new(&bytes));
        }
        Ok(Self { keys: ring })
    }

    /// A ring of these keys, the first of which seals.
    pub fn of(keys: &[[u8; 32]]) -> Self {
        Self { keys: keys.iter().map(|key| RingKey::new(key)).collect() }
    }

    /// Seals `plain` for `purpose`; `context` must be given again to open it. `extra` is a further secret that is needed
    /// (the handle, for tokens), or nothing.
    pub fn seal(&self, purpose: Purpose, context: &[u8], extra: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = &self.keys[0];
        let nonce: [u8; NONCE_LEN] = random()[..NONCE_LEN].try_into().expect("12 of 32 bytes");
        let mut sealed = Vec::with_capacity(4 + NONCE_LEN + plain.len() + 16);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        let mut text = plain.to_vec();
        key.aead(purpose, extra)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(context), &mut text)
            .expect("a short text is sealed");
        sealed.append(&mut text);
        sealed
    }

    /// Opens what [`KeyRing::seal`] gave for the same purpose, context and extra secret.
    ///
    /// # Errors
    /// [`RingError::Sealed`].
    pub fn open_sealed(
        &self,
        purpose: Purpose,
        context: &[u8],
        extra: &[u8],
        sealed: &[u8],
    ) -> Result<Vec<u8>, RingError> {
        let (id, rest) = sealed.split_first_chunk::<4>().ok_or(RingError::Sealed)?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(RingError::Sealed)?;
        let key = self.keys.iter().find(|key| key.id == *id).ok_or(RingError::Sealed)?;
        let mut text = text.to_vec();
        let plain = key
            .aead(purpose, extra)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(context), &mut text)
            .map_err(|_| RingError::Sealed)?
            .len();
        text.truncate(plain);
        Ok(text)
    }

    /// A keyed hash under the key that sealed `sealed`, so that what belongs to a sealed value needs no place of its own.
    ///
    /// # Errors
    /// [`RingError::Sealed`] if no key of this ring sealed it.
    pub fn derive_beside(&self, sealed: &[u8], label: &str, parts: &[&[u8]]) -> Result<[u8; 32], RingError> {
        let key = self.keys.iter().find(|key| sealed.starts_with(&key.id)).ok_or(RingError::Sealed)?;
        Ok(key.mac(label, parts))
    }

    /// The names under which something about `parts` may be filed: the current one first, one per key.
    pub fn names(&self, label: &str, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        self.keys.iter().map(|key| key.mac(label, parts)).collect()
    }
}

impl RingKey {
    fn new(bytes: &[u8]) -> Self {
        let hash = sha256(bytes);
        Self {
            id: hash[..4].try_into().expect("4 of 32 bytes"),
            secret: hkdf::Salt::new(hkdf::HKDF_SHA256, b"vestibule/1").extract(bytes),
        }
    }

    fn derive(&self, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        self.secret
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut *key))
            .expect("32 bytes are within the bound of HKDF-SHA256");
        key
    }

    fn aead(&self, purpose: Purpose, extra: &[u8]) -> LessSafeKey {
        let key = self.derive(&[purpose.label(), extra]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("AES-256 has 32 bytes"))
    }

    fn mac(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*self.derive(&[b"vestibule/1/mac/", label.as_bytes()]));
        let mut context = hmac::Context::with_key(&key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.sign().as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing({} keys)", self.keys.len())
    }
}

fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            files.push(path);
        }
    }
    Ok(files)
}

/// Nobody ever sees half a key, and of two processes that make one, the first wins.
fn make(path: &Path) -> io::Result<()> {
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&draft); // of a process with the same id that did not get further
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&*Zeroizing::new(random()))?;
    file.sync_all()?;
    let made = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-53: purpose, context and the extra secret are part of the seal.
    #[test]
    fn s53_a_value_opens_only_for_its_purpose_context_and_secret() {
        let ring = KeyRing::of(&[[1; 32]]);
        let sealed = ring.seal(Purpose::State, b"host", b"x", b"plain");
        assert_eq!(ring.open_sealed(Purpose::State, b"host", b"x", &sealed).expect("opens"), b"plain");
        assert!(ring.open_sealed(Purpose::Index, b"host", b"x", &sealed).is_err());
        assert!(ring.open_sealed(Purpose::State, b"other", b"x", &sealed).is_err());
        assert!(ring.open_sealed(Purpose::State, b"host", b"y", &sealed).is_err());
    }

    /// S-53: a second key opens what the first sealed; without it nothing opens.
    #[test]
    fn s53_old_keys_open_and_removed_keys_do_not() {
        let sealed = KeyRing::of(&[[1; 32]]).seal(Purpose::Index, b"", b"", b"plain");
        assert!(KeyRing::of(&[[2; 32], [1; 32]]).open_sealed(Purpose::Index, b"", b"", &sealed).is_ok());
        assert!(KeyRing::of(&[[2; 32]]).open_sealed(Purpose::Index, b"", b"", &sealed).is_err());
    }

    #[test]
    fn damage_never_opens() {
        let ring = KeyRing::of(&[[1; 32]]);
        let sealed = ring.seal(Purpose::State, b"", b"", b"plain");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(ring.open_sealed(Purpose::State, b"", b"", &damaged).is_err());
            assert!(ring.open_sealed(Purpose::State, b"", b"", &sealed[..at]).is_err());
        }
    }

    #[test]
    fn the_first_key_is_made_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let first = KeyRing::open(directory.path()).expect("made");
        let sealed = first.seal(Purpose::State, b"", b"", b"plain");
        let again = KeyRing::open(directory.path()).expect("read");
        assert!(again.open_sealed(Purpose::State, b"", b"", &sealed).is_ok());
        let file = directory.path().join("ring/0001.key");
        assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(&file, [0; 31]).expect("written");
        let error = KeyRing::open(directory.path()).expect_err("too short").to_string();
        assert!(error.ends_with("holds 31 bytes, expected 32: make one with `head -c 32 /dev/urandom`"), "{error}");
    }
}
