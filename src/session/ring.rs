//! The key ring: seals what leaves the process, opens what comes back.

use super::random;
use crate::text::sha256;
use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
};
use std::{
    fmt, fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// How long a new key only opens, so that every process that shares the ring has it before anything is sealed with it.
pub const NOTICE: Duration = Duration::from_secs(60);

/// Keys from files: the newest seals once it has been there for [`NOTICE`], all open. Each purpose has a key of its own,
/// derived by HKDF-SHA256 (RFC 5869).
pub struct KeyRing {
    /// The one that seals, then the others, the newest first.
    keys: ArcSwap<Vec<RingKey>>,
    directory: Option<PathBuf>,
}

#[derive(Clone)]
struct RingKey {
    id: [u8; 4],
    name: Arc<str>,
    created: SystemTime,
    secret: hkdf::Prk,
}

/// What may be told of a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct About {
    /// The name of its file, without `.key`.
    pub name: String,
    /// The first bytes of everything that it sealed.
    pub id: [u8; 4],
    /// When it was made.
    pub created: SystemTime,
    /// It is the one that seals.
    pub seals: bool,
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
    /// What one host asks of `public_url`'s for somebody who is to be signed in there.
    Hand,
    /// What stands behind the code that answers a [`Purpose::Hand`].
    Code,
    /// Which sign-in a further handle belongs to.
    Further,
    /// The `state` of a sign-out at a provider.
    SignOut,
    /// A token for GitLab's API, got in place of the configured one.
    GitlabToken,
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

impl RingError {
    /// The error with its cause and, where files are to blame, what to do.
    pub fn told(&self) -> String {
        let told = crate::text::chain(self);
        match self {
            Self::File { source, .. } => format!("{told}: {}", crate::text::advice(source.kind(), "keys")),
            Self::Length { .. } | Self::Sealed => told,
        }
    }
}

impl Purpose {
    fn label(self) -> &'static [u8] {
        match self {
            Self::State => b"vestibule/1/state",
            Self::Index => b"vestibule/1/session-index",
            Self::Tokens => b"vestibule/1/session-tokens",
            Self::Hand => b"vestibule/1/hand",
            Self::Code => b"vestibule/1/code",
            Self::SignOut => b"vestibule/1/sign-out",
            Self::GitlabToken => b"vestibule/1/gitlab-token",
            Self::Further => b"vestibule/1/further-handle",
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
        if list(&directory).map_err(at(&directory))?.is_empty() {
            let first = directory.join("0001.key");
            make(&first).map_err(at(&first))?;
        }
        let ring = read(&directory, SystemTime::now())?;
        Ok(Self { keys: ArcSwap::from_pointee(ring), directory: Some(directory) })
    }

    /// Reads the files anew. True if another key seals now, or there are others. What is wrong leaves all as it is.
    ///
    /// # Errors
    /// [`RingError::File`], [`RingError::Length`].
    pub fn refresh(&self, now: SystemTime) -> Result<bool, RingError> {
        let Some(directory) = &self.directory else { return Ok(false) };
        let ring = read(directory, now)?;
        let same = self.keys.load().iter().map(|key| key.id).eq(ring.iter().map(|key| key.id));
        if !same {
            self.keys.store(Arc::new(ring));
        }
        Ok(!same)
    }

    /// What may be told of its keys: the one that seals, then the others, the newest first.
    pub fn about(&self) -> Vec<About> {
        about(&self.keys.load())
    }

    /// A ring of these keys, the first of which seals.
    pub fn of(keys: &[[u8; 32]]) -> Self {
        let keys = keys.iter().map(|key| RingKey::new("", SystemTime::UNIX_EPOCH, key)).collect();
        Self { keys: ArcSwap::from_pointee(keys), directory: None }
    }

    /// Seals `plain` for `purpose`; `context` must be given again to open it. `extra` is a further secret that is needed
    /// (the handle, for tokens), or nothing.
    pub fn seal(&self, purpose: Purpose, context: &[u8], extra: &[u8], plain: &[u8]) -> Vec<u8> {
        let keys = self.keys.load();
        let key = &keys[0];
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
        let keys = self.keys.load();
        let key = keys.iter().find(|key| key.id == *id).ok_or(RingError::Sealed)?;
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
        let keys = self.keys.load();
        let key = keys.iter().find(|key| sealed.starts_with(&key.id)).ok_or(RingError::Sealed)?;
        Ok(key.mac(label, parts))
    }

    /// The names under which something about `parts` may be filed: the current one first, one per key.
    pub fn names(&self, label: &str, parts: &[&[u8]]) -> Vec<[u8; 32]> {
        self.keys.load().iter().map(|key| key.mac(label, parts)).collect()
    }
}

impl RingKey {
    fn new(name: &str, created: SystemTime, bytes: &[u8]) -> Self {
        let hash = sha256(bytes);
        Self {
            name: name.into(),
            created,
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
        write!(f, "KeyRing({} keys)", self.keys.load().len())
    }
}

/// What may be told of the keys in `ring/` below `keys`, as [`KeyRing::about`] has it. Makes none: there may be none.
///
/// # Errors
/// [`RingError::File`], [`RingError::Length`].
pub fn look(keys: &Path, now: SystemTime) -> Result<Vec<About>, RingError> {
    let directory = keys.join("ring");
    match list(&directory) {
        Ok(files) if files.is_empty() => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Ok(about(&read(&directory, now)?)),
    }
}

fn about(keys: &[RingKey]) -> Vec<About> {
    let about = keys.iter().enumerate().map(|(place, key)| About {
        name: key.name.to_string(),
        id: key.id,
        created: key.created,
        seals: place == 0,
    });
    about.collect()
}

/// All keys of a directory, the one that seals first.
fn read(directory: &Path, now: SystemTime) -> Result<Vec<RingKey>, RingError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RingError::File { path, source }
    };
    let mut files = list(directory).map_err(at(directory))?;
    files.sort();
    let mut ring = Vec::with_capacity(files.len());
    for path in files.iter().rev() {
        let bytes = Zeroizing::new(fs::read(path).map_err(at(path))?);
        if bytes.len() != 32 {
            return Err(RingError::Length { path: path.clone(), length: bytes.len() });
        }
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let created = match made(name) {
            Some(made) => made,
            None => fs::metadata(path).and_then(|about| about.modified()).map_err(at(path))?,
        };
        ring.push(RingKey::new(name, created, &bytes));
    }
    if ring.is_empty() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no `*.key` is left in it");
        return Err(RingError::File { path: directory.to_owned(), source });
    }
    let announced = |key: &RingKey| now.duration_since(key.created).is_ok_and(|age| age >= NOTICE);
    let seals = ring.iter().position(announced).unwrap_or(ring.len() - 1);
    let key = ring.remove(seals);
    ring.insert(0, key);
    Ok(ring)
}

/// When a key with such a name was made: names end with the seconds since 1970 and eight digits more.
fn made(name: &str) -> Option<SystemTime> {
    let (rest, random) = name.rsplit_once('-')?;
    let seconds = rest.rsplit_once('-').map_or(rest, |(_, seconds)| seconds);
    let fits = random.len() == 8 && seconds.len() == 10;
    let seconds = seconds.parse().ok().filter(|_| fits)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Makes a new key in `ring/` below `keys`, which seals after [`NOTICE`]; its name.
///
/// # Errors
/// [`RingError::File`].
pub fn add(keys: &Path, now: SystemTime) -> Result<String, RingError> {
    let directory = keys.join("ring");
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| RingError::File { path, source }
    };
    let last = list(&directory).map_err(at(&directory))?.into_iter().max();
    let last = last.as_ref().and_then(|path| path.file_stem()?.to_str()).unwrap_or_default();
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let fresh = format!("{seconds:010}-{}", crate::text::hex(&random()[..4]));
    // the newest name seals, so it has to come after all others
    let name = if *fresh > *last { fresh } else { format!("{last}-{fresh}") };
    let path = directory.join(format!("{name}.key"));
    make(&path).map_err(at(&path))?;
    fs::File::open(&directory).and_then(|directory| directory.sync_all()).map_err(at(&directory))?;
    Ok(name)
}

/// Deletes a key. What only it opens is lost.
///
/// # Errors
/// [`RingError::File`].
pub fn remove(keys: &Path, name: &str) -> Result<(), RingError> {
    let path = keys.join("ring").join(format!("{name}.key"));
    fs::remove_file(&path).map_err(|source| RingError::File { path, source })
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

    /// A new key opens at once and seals a minute later, so that all who share the ring have it by then; nothing that an older
    /// one sealed is lost.
    #[test]
    fn a_new_key_seals_after_its_notice() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(directory.path()).expect("made");
        let sealed = ring.seal(Purpose::State, b"", b"", b"plain");
        let now = SystemTime::now();
        let name = add(directory.path(), now).expect("made");
        assert!(ring.refresh(now).expect("read"), "there is another");
        assert_eq!(
            ring.about().iter().map(|key| (&*key.name, key.seals)).collect::<Vec<_>>(),
            [("0001", true), (&name, false)]
        );
        assert_eq!(ring.names("user", &[b"a"]).len(), 2);
        assert!(!ring.refresh(now + NOTICE - Duration::from_secs(2)).expect("read"));
        assert!(ring.refresh(now + NOTICE).expect("read"), "it seals now");
        assert!(ring.about()[0].name == name && ring.about()[0].seals);
        assert_eq!(ring.open_sealed(Purpose::State, b"", b"", &sealed).expect("opens"), b"plain");
        let newer = ring.seal(Purpose::State, b"", b"", b"plain");
        remove(directory.path(), "0001").expect("removed");
        assert!(ring.refresh(now + NOTICE).expect("read"));
        assert!(ring.open_sealed(Purpose::State, b"", b"", &sealed).is_err());
        assert!(ring.open_sealed(Purpose::State, b"", b"", &newer).is_ok());
    }

    /// Whatever the names in a directory, a new key's comes after them.
    #[test]
    fn a_new_keys_name_is_the_last() {
        let directory = tempfile::tempdir().expect("a directory");
        KeyRing::open(directory.path()).expect("made");
        fs::rename(directory.path().join("ring/0001.key"), directory.path().join("ring/zebra.key")).expect("renamed");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let name = add(directory.path(), now).expect("made");
        assert!(*name > *"zebra" && made(&name) == Some(now), "{name}");
        let ring = KeyRing::open(directory.path()).expect("read");
        assert_eq!(ring.about()[0].name, name);
    }

    /// A bad key leaves the ring as it is.
    #[test]
    fn a_bad_key_changes_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(directory.path()).expect("made");
        let sealed = ring.seal(Purpose::State, b"", b"", b"plain");
        fs::write(directory.path().join("ring/0002.key"), [0; 31]).expect("written");
        assert!(ring.refresh(SystemTime::now()).is_err());
        fs::remove_file(directory.path().join("ring/0002.key")).expect("removed");
        fs::remove_file(directory.path().join("ring/0001.key")).expect("removed");
        assert!(ring.refresh(SystemTime::now()).is_err(), "an empty ring is refused");
        assert!(ring.open_sealed(Purpose::State, b"", b"", &sealed).is_ok());
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
