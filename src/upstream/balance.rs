//! Which endpoint gets the next request.

use super::{Endpoint, Flight, Upstream};
use std::sync::{Arc, atomic::Ordering::Relaxed};

impl Upstream {
    /// The endpoint with the fewest requests in flight for its weight, of those that are not in `tried`; `turn`, which the
    /// caller counts up, decides between equals. Endpoints that are out are left out, unless all are: then trying is better
    /// than refusing.
    ///
    /// `None` if none is left, or none is known yet.
    pub fn choose(&self, tried: &[u64], turn: usize, now: u64) -> Option<Flight> {
        let endpoints = self.endpoints.load();
        if let ([only], []) = (endpoints.as_slice(), tried) {
            if !only.is_available(now) {
                self.panics();
            } else if self.panicking.load(Relaxed) {
                self.calms();
            }
            return Some(Flight::new(only));
        }
        let untried = |endpoint: &&Arc<Endpoint>| !tried.contains(&endpoint.id);
        let order = || {
            let (before, after) = endpoints.split_at(turn % endpoints.len().max(1));
            after.iter().chain(before).filter(untried)
        };
        let cost = |endpoint: &Arc<Endpoint>| {
            (endpoint.in_flight() as f64 + 1.0) / endpoint.weight(now, self.settings.slow_start)
        };
        let least = |best: Option<(f64, &'_ Arc<Endpoint>)>, cost: f64| best.is_none_or(|(least, _)| cost < least);
        let mut best = None;
        for endpoint in order().filter(|endpoint| endpoint.is_available(now)) {
            let cost = cost(endpoint);
            if least(best, cost) {
                best = Some((cost, endpoint));
            }
        }
        if best.is_some() && self.panicking.load(Relaxed) {
            self.calms();
        }
        if best.is_none() {
            for endpoint in order() {
                let cost = cost(endpoint);
                if least(best, cost) {
                    best = Some((cost, endpoint));
                }
            }
            if best.is_some() && endpoints.iter().all(|endpoint| !endpoint.is_available(now)) {
                self.panics();
            }
        }
        best.map(|(_, endpoint)| Flight::new(endpoint))
    }

    /// True if some endpoint is not in `tried`.
    pub fn has_other(&self, tried: &[u64]) -> bool {
        self.endpoints.load().iter().any(|endpoint| !tried.contains(&endpoint.id))
    }

    fn panics(&self) {
        self.panicked.fetch_add(1, Relaxed);
        if !self.panicking.swap(true, Relaxed) {
            tracing::error!(upstream = %self.settings.places[0], "no endpoint of an upstream is well: requests go to all of them");
        }
    }

    fn calms(&self) {
        if self.panicking.swap(false, Relaxed) {
            tracing::info!(upstream = %self.settings.places[0], "an endpoint of an upstream is well again");
        }
    }
}
