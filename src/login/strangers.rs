//! Bounds for what anybody can send to the addresses that providers call.

use crate::{
    audit::{Audit, Event},
    body::RequestBody,
    canonical::network,
    control::Control,
};
use hyper::body::Body;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A body that says beforehand that it has no more bytes than this needs no turn: there are no more of them than connections.
const SHORT: u64 = 8 * 1024;
/// How long a short one may take to come.
const SHORT_LATEST: Duration = Duration::from_secs(10);
/// So many others are read at once at one address: of 64 KiB each, these are 16 MiB.
const BODIES: usize = 256;
/// So many of them may be of one client's network.
const OF_ONE: usize = 8;
/// How long they may take to come.
const LATEST: Duration = Duration::from_secs(2);
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
    bodies: Arc<Semaphore>,
    /// The turns of each network that has any, or waits for some.
    networks: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
    refusals: Mutex<Refusals>,
}

/// Leave to read one body.
pub(super) struct Leave {
    /// So many bytes of it are kept.
    pub(super) most: usize,
    /// How long it may take to come.
    pub(super) latest: Duration,
    /// Its turn, of its network and of all; a short one needs none.
    _turn: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
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
        Self { bodies: Arc::new(Semaphore::new(BODIES)), networks: Mutex::default(), refusals: Mutex::default() }
    }
}

impl Bounds {
    /// Leave to read a body, of which no more than `longest` bytes are kept: at once if it is short, else when its turn comes, in
    /// the order in which its client's network sent them. `None`: too many are being read.
    pub(super) async fn leave(&self, body: &RequestBody, client: IpAddr, longest: usize) -> Option<Leave> {
        self.leave_for(body.size_hint().exact(), client, longest).await
    }

    async fn leave_for(&self, declared: Option<u64>, client: IpAddr, longest: usize) -> Option<Leave> {
        if let Some(short) = declared.filter(|length| *length <= SHORT).and_then(|length| usize::try_from(length).ok())
        {
            return Some(Leave { most: longest.min(short), latest: SHORT_LATEST, _turn: None });
        }
        let turn = async {
            let of_network = self.of(network(client)).acquire_owned().await.ok()?;
            Some((of_network, self.bodies.clone().acquire_owned().await.ok()?))
        };
        let turn = tokio::time::timeout(PATIENCE, turn).await.ok()??;
        Some(Leave { most: longest, latest: LATEST, _turn: Some(turn) })
    }

    /// The turns of a network, which are forgotten when nobody has one or waits for one.
    fn of(&self, network: IpAddr) -> Arc<Semaphore> {
        let mut networks = self.networks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = networks.get(&network).and_then(Weak::upgrade) {
            return turns;
        }
        networks.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(OF_ONE));
        networks.insert(network, Arc::downgrade(&turns));
        turns
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

    const LONGEST: usize = 64 * 1024;

    fn client(number: usize) -> IpAddr {
        IpAddr::from([192, 0, 2, u8::try_from(number).expect("small")])
    }

    /// Whoever finds all turns taken waits a while, and no longer; a short body needs none, and no more than it declares is read.
    #[tokio::test(start_paused = true)]
    async fn only_so_many_long_bodies_are_read_at_once() {
        let bounds = Bounds::default();
        let mut turns = Vec::new();
        for number in 0..BODIES {
            turns.push(bounds.leave_for(None, client(number / OF_ONE), LONGEST).await.expect("free"));
        }
        let next = client(BODIES / OF_ONE);
        assert!(bounds.leave_for(None, next, LONGEST).await.is_none());
        assert!(bounds.leave_for(Some(SHORT + 1), next, LONGEST).await.is_none());
        let begun = tokio::time::Instant::now();
        let short = bounds.leave_for(Some(700), client(0), LONGEST).await.expect("at once");
        assert_eq!((short.most, begun.elapsed()), (700, Duration::ZERO));
        turns.pop();
        assert_eq!(bounds.leave_for(None, next, LONGEST).await.expect("free").most, LONGEST);
    }

    /// Whoever sends bodies without end keeps nobody of another network waiting.
    #[tokio::test(start_paused = true)]
    async fn one_network_takes_the_turns_of_no_other() {
        let bounds = Bounds::default();
        let from = |address: &str| address.parse::<IpAddr>().expect("an address");
        let mut turns = Vec::new();
        for number in 0..OF_ONE {
            let address = from(&format!("2001:db8::{number}"));
            turns.push(bounds.leave_for(None, address, LONGEST).await.expect("free"));
        }
        assert!(bounds.leave_for(None, from("2001:db8::ffff:1"), LONGEST).await.is_none(), "of the same /64");
        let begun = tokio::time::Instant::now();
        assert!(bounds.leave_for(None, from("2001:db8:0:1::1"), LONGEST).await.is_some());
        assert!(begun.elapsed().is_zero());
        turns.clear();
        assert!(bounds.leave_for(None, from("192.0.2.1"), LONGEST).await.is_some());
        assert_eq!(bounds.networks.lock().expect("whole").len(), 1, "the others are forgotten");
    }
}
