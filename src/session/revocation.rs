//! Numbers that grow when a right ends. What was computed under older numbers is used no more.

use super::SessionKey;
use crate::principal::UserId;
use crate::text::sha256;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many counters a table has. Two that share a counter only cause a needless second look.
const SLOTS: usize = 1 << 14;

/// A fixed table of counters by hash of session and of user, and one for everybody.
pub struct Revocations {
    sessions: Box<[AtomicU64]>,
    users: Box<[AtomicU64]>,
    everybody: AtomicU64,
}

/// The numbers that something was computed under.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Numbers {
    session: u64,
    user: u64,
    everybody: u64,
}

impl Default for Revocations {
    fn default() -> Self {
        let table = || (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        Self { sessions: table(), users: table(), everybody: AtomicU64::new(0) }
    }
}

impl Revocations {
    /// The numbers that stand now for this session and user.
    pub fn numbers(&self, session: &SessionKey, user: usize) -> Numbers {
        Numbers {
            session: self.sessions[slot(&session.0)].load(Ordering::Acquire),
            user: self.users[user].load(Ordering::Acquire),
            everybody: self.everybody.load(Ordering::Acquire),
        }
    }

    /// Where a user's number stands; computed once per session.
    pub fn user_slot(user: &UserId) -> usize {
        slot(&sha256(user.to_string().as_bytes()))
    }

    /// How many sessions that share this one's counter have ended.
    pub fn ended(&self, session: &SessionKey) -> u64 {
        self.sessions[slot(&session.0)].load(Ordering::Acquire)
    }

    /// A session ended.
    pub fn end_session(&self, session: &SessionKey) {
        self.sessions[slot(&session.0)].fetch_add(1, Ordering::AcqRel);
    }

    /// All sessions of a user ended.
    pub fn end_user(&self, user: &UserId) {
        self.users[Self::user_slot(user)].fetch_add(1, Ordering::AcqRel);
    }

    /// The same for the users whose number stands there.
    pub fn end_slot(&self, slot: usize) {
        if let Some(number) = self.users.get(slot) {
            number.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Everything has to be looked at again.
    pub fn end_all(&self) {
        self.everybody.fetch_add(1, Ordering::AcqRel);
    }
}

fn slot(hash: &[u8; 32]) -> usize {
    usize::from(u16::from_be_bytes([hash[0], hash[1]])) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionId;

    #[test]
    fn numbers_change_when_a_right_ends() {
        let table = Revocations::default();
        let key = SessionId::new().key();
        let user = UserId { provider: "gitlab".parse().expect("a name"), subject: "907".into() };
        let at = Revocations::user_slot(&user);
        let before = table.numbers(&key, at);
        assert_eq!(before, table.numbers(&key, at));
        table.end_session(&key);
        let after = table.numbers(&key, at);
        assert_ne!(before, after);
        table.end_user(&user);
        assert_ne!(after, table.numbers(&key, at));
    }
}
