//! The cookie that binds sign-ins to a browser, however many tabs; it also counts rounds that led nowhere.
//!
//! One cookie of fixed size: 43 characters that bind, and behind a dot the count with its time and a keyed hash.

use crate::{
    canonical::OwnCookie,
    session::{KeyRing, SessionId, record::seconds},
    text::sha256,
};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::time::SystemTime;

/// Rounds count as one loop within this many seconds.
const WINDOW: u64 = 60;
/// After so many rounds a browser is not sent on another.
const ROUNDS: u8 = 3;
/// Bytes of the keyed hash.
const MAC: usize = 15;

/// What a browser's binding cookie says.
#[derive(Clone, Debug)]
pub(super) struct Binding {
    id: String,
    rounds: u8,
    since: u64,
}

impl Binding {
    /// Of a browser that has none yet.
    pub(super) fn new() -> Self {
        Self { id: SessionId::new().to_cookie(), rounds: 0, since: 0 }
    }

    /// What the browser sent. `None`: no cookie, two of them, or a damaged one. A count that is not ours is no count.
    pub(super) fn of(ring: &KeyRing, sent: &OwnCookie) -> Option<Self> {
        let OwnCookie::One(value) = sent else { return None };
        let (id, count) = value.split_once('.').unwrap_or((value, ""));
        SessionId::from_cookie(id)?;
        let (rounds, since) = counted(ring, id, count).unwrap_or_default();
        Some(Self { id: id.to_owned(), rounds, since })
    }

    /// What binds.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// SHA-256 of what binds.
    pub(super) fn hash(&self) -> [u8; 32] {
        sha256(self.id.as_bytes())
    }

    /// The cookie's value.
    pub(super) fn cookie(&self, ring: &KeyRing) -> String {
        let mut count = plain(self.rounds, self.since).to_vec();
        count.extend_from_slice(&ring.names("rounds", &[self.id.as_bytes(), &count])[0][..MAC]);
        format!("{}.{}", self.id, URL_SAFE_NO_PAD.encode(count))
    }

    /// The same after another round that ended with a session, or began anew.
    pub(super) fn after_a_round(&self, now: SystemTime) -> Self {
        let now = seconds(now);
        let (rounds, since) = if self.is_recent(now) { (self.rounds.saturating_add(1), self.since) } else { (1, now) };
        Self { id: self.id.clone(), rounds, since }
    }

    /// The same without a count.
    pub(super) fn anew(&self) -> Self {
        Self { id: self.id.clone(), rounds: 0, since: 0 }
    }

    /// How many rounds it made lately.
    pub(super) fn rounds(&self, now: SystemTime) -> u8 {
        if self.is_recent(seconds(now)) { self.rounds } else { 0 }
    }

    /// It went round so often that another round leads nowhere either.
    pub(super) fn loops(&self, now: SystemTime) -> bool {
        self.rounds(now) >= ROUNDS
    }

    fn is_recent(&self, now: u64) -> bool {
        self.rounds > 0 && now >= self.since && now - self.since <= WINDOW
    }
}

fn plain(rounds: u8, since: u64) -> [u8; 5] {
    let [a, b, c, d] = u32::try_from(since).unwrap_or(u32::MAX).to_be_bytes();
    [rounds, a, b, c, d]
}

fn counted(ring: &KeyRing, id: &str, count: &str) -> Option<(u8, u64)> {
    let bytes = URL_SAFE_NO_PAD.decode(count).ok()?;
    let (plain, mac) = bytes.split_first_chunk::<5>().filter(|(_, mac)| mac.len() == MAC)?;
    let names = ring.names("rounds", &[id.as_bytes(), plain]);
    let ours = names.iter().any(|name| verify_slices_are_equal(&name[..MAC], mac).is_ok());
    let [rounds, a, b, c, d] = *plain;
    ours.then(|| (rounds, u64::from(u32::from_be_bytes([a, b, c, d]))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::time;
    use std::time::Duration;

    fn sent(value: &str) -> OwnCookie {
        OwnCookie::One(value.into())
    }

    #[test]
    fn p04_three_rounds_in_a_minute_are_a_loop() {
        let (ring, now) = (KeyRing::of(&[[3; 32]]), time(1_789_000_000));
        let mut binding = Binding::new();
        for round in 0..3 {
            assert!(!binding.loops(now), "{round}");
            binding = binding.after_a_round(now + Duration::from_secs(round));
            binding = Binding::of(&ring, &sent(&binding.cookie(&ring))).expect("ours");
        }
        assert!(binding.loops(now + Duration::from_secs(60)));
        assert!(!binding.loops(now + Duration::from_secs(61)) && !binding.anew().loops(now));
    }

    /// P02: one size, whatever it counts. S-58: a damaged cookie is none, or one without a count.
    #[test]
    fn s58_p02_a_damaged_binding_is_none_or_counts_nothing() {
        let (ring, now) = (KeyRing::of(&[[3; 32]]), time(1_789_000_000));
        let binding = Binding::new().after_a_round(now).after_a_round(now).after_a_round(now);
        let cookie = binding.cookie(&ring);
        assert_eq!(cookie.len(), Binding::new().cookie(&ring).len());
        assert!(cookie.len() < 100);
        for at in 0..cookie.len() {
            for bit in 0..7 {
                let mut bytes = cookie.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(text) = String::from_utf8(bytes) else { continue };
                if let Some(read) = Binding::of(&ring, &sent(&text)) {
                    assert!(read.rounds(now) == 0, "{text}");
                }
            }
        }
        let (other, all) = (KeyRing::of(&[[4; 32]]), KeyRing::of(&[[4; 32], [3; 32]]));
        assert_eq!(Binding::of(&other, &sent(&cookie)).expect("binds").rounds(now), 0);
        assert_eq!(Binding::of(&all, &sent(&cookie)).expect("binds").rounds(now), 3, "an older key still counts");
    }
}
