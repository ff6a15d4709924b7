//! Further handles of a sign-in: every host has one of its own, and only it can open what leads to the sign-in.
//!
//! A record of a session begins with its format's number; one of these begins with another, so that neither is taken for the
//! other.

use super::{
    KeyRing, SessionId, SessionKey,
    record::{RecordError, seconds, time},
    ring::Purpose,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use zeroize::Zeroizing;

/// The first byte of a further handle's record.
const HOST: u8 = 0x81;
/// The first byte of what a session that another replaced leaves behind.
const MOVED: u8 = 0x82;

/// What a stored record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A session.
    Session,
    /// A further handle of one, for another host.
    Host,
    /// The trace of a session that a new sign-in of the same person replaced.
    Moved,
}

/// A further handle.
#[derive(Debug)]
pub struct Further {
    /// The host that it is for.
    pub host: Arc<str>,
    /// When it was made.
    pub created: SystemTime,
    /// The handle of the sign-in.
    pub sign_in: SessionId,
}

#[derive(Serialize, Deserialize)]
struct Written {
    host: String,
    created: u64,
    sign_in: String,
}

/// What a record is, by its first byte.
pub fn kind(record: &[u8]) -> Kind {
    match record.first() {
        Some(&HOST) => Kind::Host,
        Some(&MOVED) => Kind::Moved,
        _ => Kind::Session,
    }
}

impl Further {
    /// Seals it for the holder of `id`, a handle for another host.
    pub fn seal(&self, ring: &KeyRing, id: &SessionId) -> Vec<u8> {
        let written =
            Written { host: self.host.to_string(), created: seconds(self.created), sign_in: self.sign_in.to_cookie() };
        sealed(ring, HOST, id, &written)
    }

    /// Opens what [`Further::seal`] gave.
    ///
    /// # Errors
    /// [`RecordError::Sealed`], [`RecordError::Content`].
    pub fn open(ring: &KeyRing, id: &SessionId, record: &[u8]) -> Result<Self, RecordError> {
        let written = opened(ring, HOST, id, record)?;
        let sign_in = SessionId::from_cookie(&written.sign_in).ok_or(RecordError::Short)?;
        Ok(Self { host: written.host.into(), created: time(written.created), sign_in })
    }
}

/// What the session `old` leaves behind when `new` takes its place: the further handles of the one lead to the other.
pub fn moved(ring: &KeyRing, old: &SessionId, new: &SessionId) -> Vec<u8> {
    let written = Written { host: String::new(), created: 0, sign_in: new.to_cookie() };
    sealed(ring, MOVED, old, &written)
}

/// The handle of the session that took the place of `old`.
///
/// # Errors
/// [`RecordError::Sealed`], [`RecordError::Content`].
pub fn successor(ring: &KeyRing, old: &SessionId, record: &[u8]) -> Result<SessionId, RecordError> {
    SessionId::from_cookie(&opened(ring, MOVED, old, record)?.sign_in).ok_or(RecordError::Short)
}

fn context(kind: u8, key: SessionKey) -> [u8; 33] {
    let mut context = [kind; 33];
    context[1..].copy_from_slice(&key.0);
    context
}

fn sealed(ring: &KeyRing, kind: u8, id: &SessionId, written: &Written) -> Vec<u8> {
    let text = Zeroizing::new(serde_json::to_vec(written).expect("strings and numbers are JSON"));
    let mut record = vec![kind];
    record.extend(ring.seal(Purpose::Further, &context(kind, id.key()), id.secret(), &text));
    record
}

fn opened(ring: &KeyRing, kind: u8, id: &SessionId, record: &[u8]) -> Result<Written, RecordError> {
    let (first, rest) = record.split_first().ok_or(RecordError::Short)?;
    if *first != kind {
        return Err(RecordError::Version(*first));
    }
    let text = ring.open_sealed(Purpose::Further, &context(kind, id.key()), id.secret(), rest)?;
    Ok(serde_json::from_slice(&Zeroizing::new(text))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-53, S-56: only the handle opens what leads to the sign-in, and no kind is taken for another.
    #[test]
    fn s53_a_further_handle_opens_its_own_record_only() {
        let (ring, id, sign_in) = (KeyRing::of(&[[7; 32]]), SessionId::new(), SessionId::new());
        let further =
            Further { host: "api.example.com".into(), created: time(1_789_000_000), sign_in: sign_in.clone() };
        let record = further.seal(&ring, &id);
        let opened = Further::open(&ring, &id, &record).expect("opens");
        assert_eq!((&*opened.host, opened.sign_in), ("api.example.com", sign_in.clone()));
        assert!(Further::open(&ring, &SessionId::new(), &record).is_err());
        let trace = moved(&ring, &id, &sign_in);
        assert_eq!(successor(&ring, &id, &trace).expect("opens"), sign_in);
        assert!(successor(&ring, &id, &record).is_err() && Further::open(&ring, &id, &trace).is_err());
        let mut disguised = trace.clone();
        disguised[0] = HOST;
        assert!(Further::open(&ring, &id, &disguised).is_err(), "the kind is part of what is sealed");
        assert_eq!([&record, &trace, &vec![1]].map(|it| kind(it)), [Kind::Host, Kind::Moved, Kind::Session]);
        for cut in 0..record.len() {
            assert!(Further::open(&ring, &id, &record[..cut]).is_err());
        }
    }
}
