//! The logouts that providers told lately: a sign-in that was under way then ends with the sessions that were there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How long a logout is remembered: no sign-in is under way for longer, and no logout token is acted on when it is older.
const KEPT: Duration = Duration::from_secs(600);
/// So many are remembered.
const MOST: usize = 1 << 16;

type Name = [u8; 32];

/// Logouts of the last minutes, in memory only: a sign-in does not outlive the process either.
#[derive(Default)]
pub(super) struct Logouts(Mutex<Recent>);

#[derive(Default)]
struct Recent {
    /// When the last logout of what is filed under a name was received.
    names: HashMap<Name, SystemTime>,
    /// When a logout token was received first.
    tokens: HashMap<Name, SystemTime>,
    /// All of them, as they came.
    order: VecDeque<Logout>,
    /// When the last of those was received for which there was no room: whoever began to sign in before may be meant by it.
    dropped: Option<SystemTime>,
}

struct Logout {
    name: Name,
    token: Name,
    received: SystemTime,
}

impl Logouts {
    /// Remembers a logout of what is filed under `name`. If the same `token` came before, nothing new is remembered: when that was.
    pub(super) fn receive(&self, token: Name, name: Name, now: SystemTime) -> Option<SystemTime> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.prune(now, MOST);
        if let Some(first) = recent.tokens.get(&token) {
            return Some(*first);
        }
        recent.prune(now, MOST - 1);
        recent.tokens.insert(token, now);
        let last = recent.names.entry(name).or_insert(now);
        *last = now.max(*last);
        recent.order.push_back(Logout { name, token, received: now });
        None
    }

    /// A logout of what is filed under one of `names` was received when a sign-in that began at `begun` was under way.
    pub(super) fn mean(&self, names: impl IntoIterator<Item = Name>, begun: SystemTime) -> bool {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let received = names.into_iter().filter_map(|name| recent.names.get(&name));
        received.chain(&recent.dropped).any(|received| begun <= *received)
    }
}

impl Recent {
    /// Forgets what is too old, and the oldest of more than `most`.
    fn prune(&mut self, now: SystemTime, most: usize) {
        while let Some(oldest) = self.order.front() {
            let is_over = oldest.received + KEPT <= now;
            if !is_over && self.order.len() <= most {
                return;
            }
            let Some(Logout { name, token, received }) = self.order.pop_front() else { return };
            self.tokens.remove(&token);
            if self.names.get(&name).is_some_and(|last| *last <= received) {
                self.names.remove(&name);
            }
            if !is_over {
                self.dropped = self.dropped.max(Some(received));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_416_594 + second)
    }

    fn name(number: usize) -> Name {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&number.to_be_bytes());
        name
    }

    /// A logout means what began before, for ten minutes; a token that comes again is no new logout.
    #[test]
    fn a_logout_is_remembered_for_a_while() {
        let logouts = Logouts::default();
        assert_eq!(logouts.receive(name(1), name(7), at(10)), None);
        assert_eq!(logouts.receive(name(1), name(7), at(20)), Some(at(10)));
        assert!(logouts.mean([name(8), name(7)], at(10)));
        assert!(!logouts.mean([name(7)], at(11)), "it began later");
        assert!(!logouts.mean([name(8)], at(1)), "something else");
        assert_eq!(logouts.receive(name(2), name(7), at(30)), None);
        assert_eq!(logouts.receive(name(3), name(9), at(610)), None);
        assert!(logouts.mean([name(7)], at(30)), "the later one is remembered");
        assert_eq!(logouts.receive(name(4), name(9), at(630)), None);
        assert!(!logouts.mean([name(7)], at(1)));
        let recent = logouts.0.lock().expect("whole");
        assert_eq!((recent.order.len(), recent.tokens.len(), recent.names.len()), (2, 2, 1));
    }

    /// Logouts without end take no more room, and what there was none for means everybody who began before.
    #[test]
    fn logouts_are_bounded() {
        let logouts = Logouts::default();
        for number in 0..MOST {
            logouts.receive(name(number), name(number), at(10));
        }
        assert!(!logouts.mean([name(MOST)], at(1)));
        logouts.receive(name(MOST), name(MOST), at(20));
        assert_eq!(logouts.0.lock().expect("whole").order.len(), MOST);
        assert!(logouts.mean([name(0)], at(10)) && logouts.mean([name(MOST + 1)], at(10)));
        assert!(!logouts.mean([name(0)], at(11)));
    }
}
