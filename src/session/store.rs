//! Where sessions are kept. A new store is one variant and one line per method.

use super::{SessionKey, embedded::Embedded};
use std::{path::Path, time::SystemTime};

/// Where sessions are kept.
pub enum Store {
    /// One file on this machine.
    Embedded(Embedded),
}

/// A session to be filed.
#[derive(Clone, Debug)]
pub struct Filed {
    /// Its name.
    pub key: SessionKey,
    /// The sealed record.
    pub record: Vec<u8>,
    /// The name under which the sessions of its user are found.
    pub user: [u8; 32],
    /// The name under which the sessions of the provider's session are found.
    pub sid: Option<[u8; 32]>,
    /// When it may be swept away.
    pub end: SystemTime,
}

/// Why the store did not do as it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the session store `{path}`: {cause}: stop what uses it, or change `state`")]
    Open {
        /// Which file.
        path: String,
        /// Why.
        cause: String,
    },
    /// It could not be read or written this time; it will be tried again.
    #[error("the session store does not answer: {0}")]
    Unavailable(String),
}

impl Store {
    /// Opens the embedded store in `state`.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn embedded(state: &Path) -> Result<Self, StoreError> {
        Embedded::open(&state.join("sessions.redb")).map(Self::Embedded)
    }

    /// Files a new session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn create(&self, filed: Filed) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.create(filed).await,
        }
    }

    /// The record of a session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn load(&self, key: SessionKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(store) => store.load(key).await,
        }
    }

    /// Replaces the record of a session that is still there. False: it is gone.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn replace(&self, key: SessionKey, record: Vec<u8>) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.replace(key, record).await,
        }
    }

    /// Forgets a session. False: it was not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, key: SessionKey) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.delete(key).await,
        }
    }

    /// Remembers that the sign-in state with this hash was used. False: it had been used before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn use_state(&self, hash: [u8; 32], forget: SystemTime) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.use_state(hash, forget).await,
        }
    }

    /// Forgets what ended before `now`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.sweep(now).await,
        }
    }
}
