//! How many retries an upstream can bear.

use std::sync::{Mutex, PoisonError};

/// Retries in a second that are always there.
const ALWAYS: f64 = 10.0;
/// Retries per request beside them.
const SHARE: f64 = 0.2;
/// The time over which both are looked at, in milliseconds.
const WINDOW: f64 = 10_000.0;

/// Retries that may still be made: a fifth of the requests of the last ten seconds, and ten in a second. Touched by what
/// failed only; requests count themselves elsewhere.
#[derive(Default)]
pub(super) struct Budget(Mutex<Tokens>);

#[derive(Default)]
struct Tokens {
    left: f64,
    /// When it was looked at last; 0 for never.
    at: u64,
    requests: u64,
}

impl Budget {
    /// Takes one, if there is one; `requests` is the number of requests so far.
    pub(super) fn take(&self, requests: u64, now: u64) -> bool {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = if tokens.at == 0 { 1000.0 } else { now.saturating_sub(tokens.at) as f64 };
        let gained = ALWAYS * elapsed / 1000.0 + SHARE * requests.saturating_sub(tokens.requests) as f64;
        // what was left or gained before the window is forgotten
        tokens.left = tokens.left * (1.0 - elapsed / WINDOW).max(0.0) + gained * (WINDOW / elapsed.max(1.0)).min(1.0);
        (tokens.at, tokens.requests) = (now, requests);
        let may = tokens.left >= 1.0;
        if may {
            tokens.left -= 1.0;
        }
        may
    }
}
