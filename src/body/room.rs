//! Room for bodies that are held whole, of the whole process.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bytes that are held at once, of everybody and of each client.
#[derive(Clone)]
pub struct Space(Arc<Shared>);

struct Shared {
    whole: u64,
    of_one: u64,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    whole: u64,
    /// Of clients that hold some.
    of: HashMap<IpAddr, u64>,
}

/// The bytes that one body holds. They are free again when it is dropped.
pub struct Room {
    space: Space,
    client: IpAddr,
    bytes: u64,
}

impl Space {
    /// Room for so many bytes, of which one client has so many at most.
    pub fn new(whole: u64, of_one: u64) -> Self {
        Self(Arc::new(Shared { whole, of_one, held: Mutex::default() }))
    }

    /// No room yet, for a body of this client.
    pub fn room(&self, client: IpAddr) -> Room {
        Room { space: self.clone(), client, bytes: 0 }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Takes so many bytes more. False, and nothing is taken, where they are not there: whoever holds some may hold it for long.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let mut held = self.space.held();
        let of_client = held.of.get(&self.client).copied().unwrap_or_default();
        let fits = |held: u64, most| held.checked_add(bytes).is_some_and(|sum| sum <= most);
        if !fits(held.whole, self.space.0.whole) || !fits(of_client, self.space.0.of_one) {
            return false;
        }
        held.whole += bytes;
        held.of.insert(self.client, of_client + bytes);
        drop(held);
        self.bytes += bytes;
        true
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut held = self.space.held();
        held.whole -= self.bytes;
        let left = held.of.get(&self.client).map_or(0, |of_client| of_client.saturating_sub(self.bytes));
        match left {
            0 => drop(held.of.remove(&self.client)),
            left => drop(held.of.insert(self.client, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BEN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const CY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 3));

    /// S-84: what there is no room for is refused, one client leaves room for others, and none that is in hand is given up.
    #[test]
    fn s84_there_is_room_for_everybody() {
        let space = Space::new(100, 60);
        let (mut one, mut two, mut other) = (space.room(ADA), space.room(ADA), space.room(BEN));
        assert!(one.grow(50) && !two.grow(11) && two.grow(10) && !one.grow(1), "no client has more than its share");
        assert!(other.grow(40) && !other.grow(1) && !space.room(CY).grow(1) && !space.room(CY).grow(u64::MAX));
        drop(one);
        assert!(space.room(CY).grow(50), "and it is free again at once");
        drop((two, other));
        let held = space.held();
        assert_eq!((held.whole, held.of.len()), (0, 0));
    }
}
