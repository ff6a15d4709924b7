//! Bounds for what anybody can send to the addresses that providers call.

use crate::{
    audit::{Audit, Event},
    control::Control,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{Semaphore, SemaphorePermit};

/// So many bodies are read at once at one address: of 64 KiB each, these are 16 MiB.
const BODIES: usize = 256;
/// How long one more waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many refusals of a second are told one by one.
const TOLD: u32 = 10;
/// The others are told together after this time.
const TOGETHER: Duration = Duration::from_secs(1);

/// Bounds for the addresses of hooks and of back-channel logout, each for the whole process.
#[derive(Default)]
pub struct Strangers {
    pub(super) hooks: Arc<Bounds>,
    pub(super) sign_outs: Arc<Bounds>,
}

/// Bounds for one address.
pub(super) struct Bounds {
    bodies: Semaphore,
    refusals: Mutex<Refusals>,
}

/// How many refusals there were lately.
#[derive(Default)]
struct Refusals {
    /// In this second since 1970.
    second: u64,
    told: u32,
    /// Not told yet.
    withheld: u64,
}

/// What is to be done about one more refusal.
#[derive(Debug, Eq, PartialEq)]
enum Turn {
    Tell,
    /// It is the first one that waits to be told together with others.
    Begin,
    Withhold,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bodies: Semaphore::new(BODIES), refusals: Mutex::default() }
    }
}

impl Bounds {
    /// A turn to read a body, in the order in which they came. `None`: too many are being read.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        tokio::time::timeout(PATIENCE, self.bodies.acquire()).await.ok()?.ok()
    }

    /// Records a refusal: at once, or together with others that came in the same second, as `event` makes it of their number.
    pub(super) fn refused(
        self: &Arc<Self>,
        control: &Arc<Control>,
        audit: &Audit,
        event: impl Fn(u64) -> Event + Send + 'static,
        now: SystemTime,
    ) {
        match self.next(now) {
            Turn::Tell => audit.record(event(1), now),
            Turn::Withhold => {}
            Turn::Begin => {
                let (this, audit) = (self.clone(), audit.clone());
                control.start(async move {
                    tokio::time::sleep(TOGETHER).await;
                    audit.record(event(this.rest()), SystemTime::now());
                });
            }
        }
    }

    fn next(&self, now: SystemTime) -> Turn {
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.second != second {
            (refusals.second, refusals.told) = (second, 0);
        }
        if refusals.told < TOLD {
            refusals.told += 1;
            return Turn::Tell;
        }
        refusals.withheld += 1;
        if refusals.withheld == 1 { Turn::Begin } else { Turn::Withhold }
    }

    /// How many were not told until now.
    fn rest(&self) -> u64 {
        std::mem::take(&mut self.refusals.lock().unwrap_or_else(PoisonError::into_inner).withheld)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first of each second are told at once, and none of the others is forgotten.
    #[test]
    fn refusals_without_end_are_told_together() {
        let (bounds, now) = (Bounds::default(), UNIX_EPOCH + Duration::from_secs(1_795_416_594));
        let turns: Vec<_> = (0..25).map(|_| bounds.next(now)).collect();
        assert!(turns[..10].iter().all(|turn| *turn == Turn::Tell));
        assert_eq!(turns[10], Turn::Begin);
        assert!(turns[11..].iter().all(|turn| *turn == Turn::Withhold));
        let later = now + Duration::from_secs(1);
        assert_eq!(bounds.next(later), Turn::Tell);
        assert_eq!((bounds.rest(), bounds.rest()), (15, 0));
        let turns: Vec<_> = (0..10).map(|_| bounds.next(later)).collect();
        assert_eq!((&turns[8], &turns[9]), (&Turn::Tell, &Turn::Begin), "counted anew");
    }

    /// Whoever finds all turns taken waits a while, and no longer.
    #[tokio::test(start_paused = true)]
    async fn only_so_many_bodies_are_read_at_once() {
        let bounds = Bounds::default();
        let mut turns = Vec::new();
        for _ in 0..BODIES {
            turns.push(bounds.turn().await.expect("free"));
        }
        assert!(bounds.turn().await.is_none());
        turns.pop();
        assert!(bounds.turn().await.is_some());
    }
}
