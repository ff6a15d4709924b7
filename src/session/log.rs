//! The revocation log: whatever ends access, numbered in the order in which it did. A node follows it by its last number.

use super::SessionKey;
pub use crate::moment::{at as moment, millis};
use crate::text::unhex;
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// The format that this version writes; it reads the same.
const VERSION: u8 = 1;

/// What ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A session, or a further handle of one.
    Session(Ended),
    /// All sessions of a user that began until then.
    User(EndedUser),
    /// A lock was set or taken away: the locks have to be read anew.
    Locks,
    /// Written by a version that we do not know: everything has to be looked at again.
    Unknown,
}

/// A session that ended, or ends soon.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ended {
    /// Its name.
    pub key: SessionKey,
    /// From when on it counts no more, in milliseconds since 1970. After a restart it counts no more at all.
    pub at: u64,
    /// What it leaves behind where another took its place.
    pub trace: Option<Vec<u8>>,
}

/// A user whose sessions ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EndedUser {
    /// The name under which the user's sessions were filed.
    pub name: [u8; 32],
    /// Where the user's revocation number stands.
    pub slot: u16,
    /// Sessions that began until then have ended, in milliseconds since 1970.
    pub at: u64,
}

/// A part of the log, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Part {
    /// Numbers and entries.
    pub entries: Vec<(u64, Entry)>,
    /// Entries after the cursor have been pruned: whoever followed has missed something.
    pub gap: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Session { key: String, at: u64, trace: Option<String> },
    User { name: String, slot: u16, at: u64 },
    Locks,
}

impl Entry {
    /// A session or handle that ends at `at`.
    pub fn session(key: SessionKey, at: SystemTime, trace: Option<Vec<u8>>) -> Self {
        Self::Session(Ended { key, at: millis(at), trace })
    }

    /// As it is stored.
    pub fn write(&self) -> Vec<u8> {
        let hex = |bytes: &[u8]| crate::text::hex(bytes);
        let written = match self {
            Self::Session(Ended { key, at, trace }) => {
                Written::Session { key: hex(&key.0), at: *at, trace: trace.as_deref().map(hex) }
            }
            Self::User(EndedUser { name, slot, at }) => Written::User { name: hex(name), slot: *slot, at: *at },
            Self::Locks => Written::Locks,
            Self::Unknown => return vec![0],
        };
        let mut bytes = vec![VERSION];
        bytes.extend(serde_json::to_vec(&written).expect("strings and numbers are JSON"));
        bytes
    }

    /// What [`Entry::write`] gave.
    pub fn read(bytes: &[u8]) -> Self {
        Self::read_known(bytes).unwrap_or(Self::Unknown)
    }

    fn read_known(bytes: &[u8]) -> Option<Self> {
        let text = bytes.strip_prefix(&[VERSION])?;
        let name = |text: &str| <[u8; 32]>::try_from(unhex(text)?).ok();
        Some(match serde_json::from_slice(text).ok()? {
            Written::Session { key, at, trace } => {
                let trace = match trace {
                    Some(text) => Some(unhex(&text)?),
                    None => None,
                };
                Self::Session(Ended { key: SessionKey(name(&key)?), at, trace })
            }
            Written::User { name: of, slot, at } => Self::User(EndedUser { name: name(&of)?, slot, at }),
            Written::Locks => Self::Locks,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_survives_the_store_and_a_strange_one_is_not_taken_for_another() {
        let now = SystemTime::now();
        for entry in [
            Entry::session(SessionKey([7; 32]), now, None),
            Entry::session(SessionKey([0xa0; 32]), now, Some(vec![0, 255, 16])),
            Entry::User(EndedUser { name: [3; 32], slot: 16_383, at: millis(now) }),
            Entry::Locks,
        ] {
            let bytes = entry.write();
            assert_eq!(Entry::read(&bytes), entry);
            for cut in 0..bytes.len() {
                assert_eq!(Entry::read(&bytes[..cut]), Entry::Unknown);
            }
            let newer: Vec<_> = [2].iter().chain(&bytes[1..]).copied().collect();
            assert_eq!(Entry::read(&newer), Entry::Unknown);
        }
        assert_eq!(moment(millis(moment(1_795_416_594_250))), moment(1_795_416_594_250));
    }
}
