//! Reads that many wait for, one at a time.

use std::sync::atomic::{AtomicU64, Ordering};

/// One read at a time. Whoever waited for one that began after they asked is content with its outcome.
#[derive(Default)]
pub(super) struct Flight {
    one: tokio::sync::Mutex<()>,
    /// How many have begun.
    begun: AtomicU64,
    /// The number of the read that a request has waited for in vain.
    late: AtomicU64,
}

/// The turn to read, until it is dropped.
pub(super) struct Turn<'f> {
    flight: &'f Flight,
    _one: tokio::sync::MutexGuard<'f, ()>,
}

impl Flight {
    /// Waits for the turn. `None`: a read that began since this was asked has ended.
    pub(super) async fn turn(&self) -> Option<Turn<'_>> {
        let asked = self.begun.load(Ordering::Acquire);
        let one = self.one.lock().await;
        (self.begun.load(Ordering::Acquire) == asked).then_some(Turn { flight: self, _one: one })
    }

    /// Nobody has the turn.
    pub(super) fn is_free(&self) -> bool {
        self.one.try_lock().is_ok()
    }

    /// A request has waited in vain for what is read now.
    pub(super) fn note_late(&self) {
        self.late.store(self.begun.load(Ordering::Acquire), Ordering::Release);
    }

    /// Somebody has waited in vain for the read that is still under way.
    pub(super) fn is_late(&self) -> bool {
        let begun = self.begun.load(Ordering::Acquire);
        begun > 0 && self.late.load(Ordering::Acquire) == begun && self.one.try_lock().is_err()
    }
}

impl Turn<'_> {
    /// The read begins.
    pub(super) fn begin(&self) {
        self.flight.begun.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waited_for_a_read_that_began_later_is_content_with_it() {
        let flight = Flight::default();
        let first = flight.turn().await.expect("nobody reads");
        first.begin();
        let ask = |reads| {
            let flight = &flight;
            async move {
                flight
                    .turn()
                    .await
                    .map(|turn| {
                        if reads {
                            turn.begin()
                        }
                    })
                    .is_some()
            }
        };
        let turns = tokio::join!(ask(false), ask(true), ask(true), async { drop(first) });
        assert_eq!(
            (turns.0, turns.1, turns.2),
            (true, true, false),
            "one that reads is enough for all who come before it ends"
        );
    }
}
