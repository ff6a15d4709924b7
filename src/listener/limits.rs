//! How many connections there may be: in all, and from one address.

use crate::{canonical::network, config::LimitSettings};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// How often the log has a line about connections that are turned away.
const TELL: Duration = Duration::from_secs(1);

/// Counts the connections of all cores.
#[derive(Default)]
pub struct Limiter {
    all: AtomicUsize,
    told: Mutex<Option<Instant>>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among all. Dropping it gives the place back.
pub struct Place {
    limiter: Arc<Limiter>,
    address: Option<IpAddr>,
}

/// There is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Full {
    /// There are as many connections as `limits.connections` allows.
    #[error("there are as many connections as `limits.connections` allows")]
    All,
    /// This address has as many as `limits.connections_per_address` allows.
    #[error("this address has as many connections as `limits.connections_per_address` allows")]
    Address,
}

impl Limiter {
    /// A place for one connection more.
    ///
    /// # Errors
    /// [`Full::All`].
    pub fn enter(self: &Arc<Self>, limits: LimitSettings) -> Result<Place, Full> {
        let place = Place { limiter: self.clone(), address: None };
        if self.all.fetch_add(1, Relaxed) >= limits.connections {
            return Err(Full::All); // dropping the place takes it out of the count again
        }
        Ok(place)
    }

    /// True at most once in [`TELL`]: whether the log should have one more line about who is turned away.
    pub fn may_tell(&self) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let may = told.is_none_or(|told| told.elapsed() >= TELL);
        if may {
            *told = Some(Instant::now());
        }
        may
    }

    /// How many connections there are now.
    pub fn len(&self) -> usize {
        self.all.load(Relaxed)
    }

    /// True if there is no connection now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Counts the connection under its client's address too.
    ///
    /// # Errors
    /// [`Full::Address`].
    pub fn of(&mut self, address: IpAddr, limits: LimitSettings) -> Result<(), Full> {
        let network = network(address);
        let mut counts = self.limiter.by_address();
        let count = counts.entry(network).or_default();
        if *count >= limits.connections_per_address {
            return Err(Full::Address);
        }
        *count += 1;
        drop(counts);
        self.address = Some(network);
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.limiter.all.fetch_sub(1, Relaxed);
        let Some(address) = self.address else { return };
        let mut counts = self.limiter.by_address();
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LimitSettings = LimitSettings { connections: 3, connections_per_address: 2 };

    fn from(limiter: &Arc<Limiter>, address: &str) -> Result<Place, Full> {
        let mut place = limiter.enter(LIMITS)?;
        place.of(address.parse().expect("an address"), LIMITS)?;
        Ok(place)
    }

    #[test]
    fn s86_connections_are_bounded_by_address_and_in_all() {
        let limiter = Arc::<Limiter>::default();
        let (one, two) = (from(&limiter, "192.0.2.1"), from(&limiter, "192.0.2.1"));
        assert!(one.is_ok() && two.is_ok());
        assert_eq!(from(&limiter, "::ffff:192.0.2.1").err(), Some(Full::Address));
        let other = from(&limiter, "192.0.2.2");
        assert!(other.is_ok());
        assert_eq!(from(&limiter, "192.0.2.3").err(), Some(Full::All));
        drop(one);
        assert!(from(&limiter, "192.0.2.1").is_ok());
        drop((two, other));
        assert!(limiter.is_empty() && limiter.by_address().is_empty());
    }

    #[test]
    fn one_network_of_ipv6_counts_as_one_address() {
        let limiter = Arc::<Limiter>::default();
        let held = (from(&limiter, "2001:db8::1"), from(&limiter, "2001:db8::ffff:2"));
        assert!(held.0.is_ok() && held.1.is_ok());
        assert_eq!(from(&limiter, "2001:db8:0:0:9::1").err(), Some(Full::Address));
        assert!(from(&limiter, "2001:db8:0:1::1").is_ok());
    }
}
