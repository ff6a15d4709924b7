//! Sessions are ours and live on the server; the browser holds one opaque handle.
//!
//! A session says who, never what: rights are computed per request.

pub mod embedded;
pub mod further;
pub mod live;
pub mod lock;
pub mod log;
mod owed;
pub mod probe;
pub mod record;
pub mod revocation;
pub mod ring;
pub mod store;

pub use live::Live;
pub use lock::Locks;
pub use record::Session;
pub use revocation::Revocations;
pub use ring::KeyRing;
pub use store::{Store, StoreError};

use crate::text::sha256;
use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt, sync::Arc};
use zeroize::Zeroize;

/// The handle of a session: 256 random bits. Whoever holds it is the user, so `Debug` prints `SessionId(..)` and there is
/// no `Display`.
#[derive(Clone, Eq, PartialEq)]
pub struct SessionId([u8; 32]);

/// Names a session in the store and in memory: SHA-256 of its handle, from which the handle cannot be found.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionKey(pub [u8; 32]);

impl SessionId {
    /// A new handle.
    pub fn new() -> Self {
        Self(random())
    }

    /// Reads a cookie's value: 43 characters of base64url, nothing else.
    pub fn from_cookie(value: &str) -> Option<Self> {
        if value.len() != 43 {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(value).ok()?;
        let handle = <[u8; 32]>::try_from(&*bytes).ok().map(Self);
        bytes.zeroize();
        handle
    }

    /// The cookie's value.
    pub fn to_cookie(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The name of the session.
    pub fn key(&self) -> SessionKey {
        SessionKey(sha256(&self.0))
    }

    /// The bytes from which the key of the token part is derived.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Default for SessionId {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SessionId {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

impl SessionKey {
    /// What logs, audit events and assertions may say of a session: the first 64 bits of the key, in hex.
    pub fn hash(&self) -> Arc<str> {
        crate::text::hex(&self.0[..8]).into()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({})", self.hash())
    }
}

/// 256 random bits from the operating system's generator.
pub fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_survives_its_cookie() {
        let id = SessionId::new();
        assert_eq!(SessionId::from_cookie(&id.to_cookie()), Some(id.clone()));
        assert!(id.to_cookie().len() < 256);
    }

    /// S-98: a handle is not printed.
    #[test]
    fn s98_a_handle_is_not_printed() {
        let id = SessionId::new();
        assert_eq!(format!("{id:?}"), "SessionId(..)");
        assert!(!format!("{:?}", id.key()).contains(&id.to_cookie()));
    }

    /// S-58: every flip or cut is another handle or none, never a fault.
    #[test]
    fn s58_a_damaged_cookie_is_another_handle_or_none() {
        let id = SessionId::new();
        let cookie = id.to_cookie();
        for cut in 0..cookie.len() {
            assert_eq!(SessionId::from_cookie(&cookie[..cut]), None);
        }
        for at in 0..cookie.len() {
            for bit in 0..7 {
                let mut bytes = cookie.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                if let Ok(text) = String::from_utf8(bytes) {
                    assert_ne!(SessionId::from_cookie(&text), Some(id.clone()), "{text}");
                }
            }
        }
    }
}
