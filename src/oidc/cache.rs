//! The last good discovery document and keys on disk, so that people sign in although the provider was down at start.

use super::keys::{KeySet, LAST_GOOD};
use crate::principal::Name;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const FORMAT: u32 = 1;
const LARGEST: u64 = 4 << 20;

/// The file of one provider or token issuer.
#[derive(Clone, Debug)]
pub(super) struct CacheFile {
    name: Name,
    path: PathBuf,
    /// Held by who writes, so that two reads of keys do not write at once.
    writing: Arc<Mutex<()>>,
}

#[derive(Deserialize, Serialize)]
struct Stored<D> {
    format: u32,
    /// Seconds since 1970.
    read: u64,
    document: D,
    keys_read: u64,
    keys: Map<String, Value>,
}

impl CacheFile {
    /// The file of the provider or token issuer `name`, in `directory`.
    pub(super) fn new(directory: &Path, name: &Name) -> Self {
        Self { name: name.clone(), path: directory.join(format!("{name}.json")), writing: Arc::default() }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Why nothing of it can be used, for an operator.
    pub(super) fn lacks(&self) -> String {
        let file = self.path.display();
        match fs::File::open(&self.path) {
            Ok(_) => format!("the keys in `{file}` are more than 24 h old, or of another address than is configured"),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                format!("there are no kept keys: `{file}` is written when a running process has read them")
            }
            Err(cause) => format!("`{file}` cannot be read: {cause}"),
        }
    }

    /// What was kept, and when the document was read, if it passes today's `check` and is at most 24 h old.
    pub(super) fn load<D: DeserializeOwned>(
        &self,
        now: SystemTime,
        check: impl FnOnce(D) -> Option<D>,
    ) -> Option<(D, SystemTime, KeySet)> {
        let mut bytes = Vec::new();
        fs::File::open(&self.path).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
        let stored: Stored<D> = match serde_json::from_slice(&bytes) {
            Ok(stored) => stored,
            Err(cause) => {
                tracing::warn!(file = %self.path.display(), "kept discovery document ignored: {cause}");
                return None;
            }
        };
        let read = UNIX_EPOCH.checked_add(Duration::from_secs(stored.read))?;
        let is_young = now.duration_since(read).is_ok_and(|age| age <= LAST_GOOD);
        if stored.format != FORMAT || !is_young {
            return None;
        }
        let document = check(stored.document)?;
        let keys_read = UNIX_EPOCH.checked_add(Duration::from_secs(stored.keys_read))?;
        let keys = KeySet::parse(stored.keys, keys_read, &self.name).ok()?;
        (keys_read <= now && keys.is_fresh(now)).then_some((document, read, keys))
    }

    /// Replaces the file whole; nobody else can read it.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn store<D: Clone + Serialize>(&self, document: &D, read: SystemTime, keys: &KeySet) -> io::Result<()> {
        let stored = Stored {
            format: FORMAT,
            read: seconds(read),
            document: document.clone(),
            keys_read: seconds(keys.read),
            keys: keys.published.clone(),
        };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(directory) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let fresh = self.path.with_extension("json.new");
        let _ = fs::remove_file(&fresh);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
