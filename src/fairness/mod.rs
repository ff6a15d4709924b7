//! How much each may ask of a route: addresses before anybody is identified, principals afterwards.
//!
//! What is asked for is counted in token buckets, exact to the nanosecond; what is under way counts until the last byte of its
//! answer, or the end of its stream. All cores of a process count together, and every process by itself.

mod bucket;
mod limit;
mod table;

pub use limit::{Every, Limit, Measure, Rate, Whom};

use crate::{
    canonical::network,
    principal::{Name, Principal, UserId},
    refusal::{Reason, Refusal},
};
use bucket::Full;
use std::{
    hash::Hash,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use table::{Table, Turn};

/// The limits of one route, and what was counted under them so far. A clone counts together with the original.
#[derive(Clone, Debug, Default)]
pub struct Limits([Option<Counter>; 5]);

#[derive(Clone, Debug)]
struct Counter {
    limit: Limit,
    table: Arc<Table>,
}

/// What a request has taken under the limits that it comes under. Dropping it says that the request is over.
#[derive(Default)]
pub struct Turns([Option<Turn>; 2]);

/// How one of those who are counted is told from the others.
#[derive(Hash)]
enum Who<'a> {
    Network(IpAddr),
    Id(&'a UserId),
    Project(&'a Name, u64),
}

impl Limits {
    /// These limits, under which nothing was counted so far.
    pub fn new(limits: impl IntoIterator<Item = (Whom, Limit)>, now: Instant) -> Self {
        let mut all = Self::default();
        for (whom, limit) in limits {
            all.0[whom as usize] = Some(Counter { limit, table: Arc::new(Table::new(now)) });
        }
        all
    }

    /// How much one of these may ask, if that is limited.
    pub fn of(&self, whom: Whom) -> Option<&Limit> {
        self.0[whom as usize].as_ref().map(|counter| &counter.limit)
    }

    /// True if nobody is limited.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The same limits, which go on counting from where those of `before` stand.
    pub fn after(mut self, before: &Self) -> Self {
        for (counter, before) in self.0.iter_mut().zip(&before.0) {
            if let (Some(counter), Some(before)) = (counter, before) {
                counter.table = before.table.clone();
            }
        }
        self
    }

    /// Forgets everybody who asks for nothing any more.
    pub fn sweep(&self, now: Instant) {
        for counter in self.0.iter().flatten() {
            counter.table.sweep(&counter.limit, now);
        }
    }

    /// Counts a request of an address, before anybody knows whose it is. `clock` is read only if that is limited.
    ///
    /// # Errors
    /// `RateLimited`.
    pub fn address(&self, client: IpAddr, clock: impl Fn() -> Instant) -> Result<Turns, Refusal> {
        self.count([Some((Whom::Address, Who::Network(network(client)))), None], clock)
    }

    /// Counts a request of a principal. Nobody in particular has no limits beside those of their address.
    ///
    /// # Errors
    /// `RateLimited`.
    pub fn principal(&self, principal: &Principal, clock: impl Fn() -> Instant) -> Result<Turns, Refusal> {
        let counted = match principal {
            Principal::Anonymous => [None, None],
            Principal::User { person, .. } => [Some((Whom::User, Who::Id(&person.id))), None],
            Principal::Job { job, .. } => {
                let project = Who::Project(&job.namespace, job.runs_in());
                [Some((Whom::Job, Who::Id(&job.id))), Some((Whom::Project, project))]
            }
            Principal::Service { service, .. } => [Some((Whom::Service, Who::Id(&service.id))), None],
        };
        self.count(counted, clock)
    }

    /// Counts a request under all of its limits, or under none.
    fn count(&self, counted: [Option<(Whom, Who<'_>)>; 2], clock: impl Fn() -> Instant) -> Result<Turns, Refusal> {
        let mut turns = Turns::default();
        for (place, (whom, who)) in counted.into_iter().flatten().enumerate() {
            let Some(Counter { limit, table }) = &self.0[whom as usize] else { continue };
            match table.admit(&who, limit, clock()) {
                Ok(turn) => turns.0[place] = Some(turn),
                Err(full) => {
                    turns.0.into_iter().flatten().for_each(Turn::give_back);
                    return Err(refusal(whom, limit, full));
                }
            }
        }
        Ok(turns)
    }
}

/// Says whose limit it is, how much that is, and when there is more.
fn refusal(whom: Whom, limit: &Limit, full: Full) -> Refusal {
    let subject = whom.subject();
    let (measure, wait, sentence) = match full {
        Full::Requests(wait) => {
            let (seconds, much) = (whole_seconds(wait), limit.rate.as_ref().map(Rate::told).unwrap_or_default());
            let units = if seconds == 1 { "second" } else { "seconds" };
            let sentence = format!("{subject} may send {much} here. Try again in {seconds} {units}.");
            (Measure::Requests, seconds, sentence)
        }
        Full::Concurrent => {
            let much = limit::requests(limit.concurrent.unwrap_or_default());
            let sentence = format!("{subject} may have {much} under way at once here. Try again when one is over.");
            (Measure::Concurrent, 1, sentence)
        }
    };
    Refusal::new(Reason::RateLimited, sentence).limited(whom, measure, wait)
}

/// As `Retry-After` has it: never too soon, and at least one. A bucket gives one request back within an hour.
fn whole_seconds(wait: Duration) -> u16 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u16::try_from(seconds).unwrap_or(u16::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::{Membership, Person, Unknown};

    fn limit(requests: u32, every: Every, concurrent: Option<u32>) -> Limit {
        Limit { rate: Some(Rate { requests, every, burst: requests }), concurrent }
    }

    fn an_hour(requests: u32) -> Limit {
        limit(requests, Every::Hour, None)
    }

    fn id(text: &str) -> UserId {
        UserId { provider: "gitlab".parse().expect("a name"), subject: text.into() }
    }

    /// What one of a kind gets, by keys that stand for any: whose limit they went beyond, if they did.
    fn ask(limits: &Limits, keys: &[(Whom, &str)], now: Instant) -> Result<Turns, Whom> {
        let ids: Vec<_> = keys.iter().map(|(whom, text)| (*whom, id(text))).collect();
        let mut counted = ids.iter().map(|(whom, id)| (*whom, Who::Id(id)));
        let refused = |refusal: Refusal| refusal.limit.map_or(Whom::Address, |(whom, _)| whom);
        limits.count([counted.next(), counted.next()], || now).map_err(refused)
    }

    /// Each kind has its own count, whatever its ids are called, and one alone has no bearing on another of its kind.
    #[test]
    fn everybody_is_counted_apart() {
        let (now, kinds) = (Instant::now(), [Whom::User, Whom::Job, Whom::Project, Whom::Service]);
        let limits = Limits::new(kinds.map(|whom| (whom, an_hour(2))), now);
        for whom in kinds {
            for text in ["1", "2"] {
                let asked = [(); 3].map(|()| ask(&limits, &[(whom, text)], now).err());
                assert_eq!(asked, [None, None, Some(whom)], "{text}");
            }
        }
    }

    /// A job's request counts for the job and for its project; what one of the two refuses costs the other nothing.
    #[test]
    fn a_job_counts_for_itself_and_for_its_project() {
        let now = Instant::now();
        let limits = Limits::new([(Whom::Job, limit(2, Every::Hour, Some(2))), (Whom::Project, an_hour(3))], now);
        let job = |text| ask(&limits, &[(Whom::Job, text), (Whom::Project, "shop")], now).err();
        assert_eq!([job("1"), job("1"), job("1")], [None, None, Some(Whom::Job)]);
        assert_eq!(
            [job("2"), job("2")],
            [None, Some(Whom::Project)],
            "the third of the project was not spent by a refusal"
        );
        let elsewhere = |text| ask(&limits, &[(Whom::Job, text), (Whom::Project, "api")], now).err();
        assert_eq!(
            [elsewhere("2"), elsewhere("2")],
            [None, Some(Whom::Job)],
            "the project's refusal cost the job nothing"
        );
    }

    /// What is under way is so until its turns are dropped, wherever that is.
    #[test]
    fn what_is_under_way_ends_with_its_turns() {
        let now = Instant::now();
        let limits = Limits::new([(Whom::User, Limit { rate: None, concurrent: Some(2) })], now);
        let ask = || ask(&limits, &[(Whom::User, "1")], now);
        let (one, two) = (ask(), ask());
        assert!(one.is_ok() && two.is_ok() && ask().is_err());
        drop(one);
        let again = ask();
        assert!(again.is_ok() && ask().is_err());
    }

    #[test]
    fn a_network_is_one_address() {
        let now = Instant::now();
        let limits = Limits::new([(Whom::Address, an_hour(2))], now);
        let ask = |text: &str| limits.address(text.parse().expect("an address"), || now).is_ok();
        assert!(ask("2001:db8::1") && ask("2001:db8::ffff:2") && !ask("2001:db8::3"), "one /64");
        assert!(ask("2001:db8:0:1::1") && ask("192.0.2.1") && ask("::ffff:192.0.2.1") && !ask("192.0.2.1"));
        assert!(ask("192.0.2.2"), "of IPv4 each is one");
    }

    /// The clock is not even read where nobody is limited; nobody in particular is limited by their address alone.
    #[test]
    fn who_is_not_limited_is_not_counted() {
        let (now, person) = (Instant::now(), id("907"));
        let person = Person { id: person, issuer: "".into(), login: "".into(), email: None, name: None };
        let membership = Membership::Unknown(Unknown::NeverRead);
        let person = Principal::User { person: person.into(), membership, strength: Default::default() };
        let unread = || -> Instant { panic!("the clock is read") };
        assert!(Limits::default().is_empty() && Limits::default().principal(&person, unread).is_ok());
        let limits = Limits::new([(Whom::User, an_hour(1)), (Whom::Address, an_hour(1))], now);
        assert!(limits.principal(&person, || now).is_ok());
        let refused = limits.principal(&person, || now).err().and_then(|refusal| refusal.limit);
        assert_eq!(refused, Some((Whom::User, Measure::Requests)));
        assert!((0..9).all(|_| limits.principal(&Principal::Anonymous, unread).is_ok()));
    }

    /// Numbers that change on reload go on counting, and so does what is under way; a limit that is new begins with nothing.
    #[test]
    fn changed_limits_go_on_counting() {
        let now = Instant::now();
        let before = Limits::new([(Whom::User, limit(2, Every::Hour, Some(9)))], now);
        let held = [(); 2].map(|()| ask(&before, &[(Whom::User, "1")], now));
        let changed = [(Whom::User, limit(3, Every::Hour, Some(3))), (Whom::Service, an_hour(1))];
        let after = Limits::new(changed, now).after(&before);
        assert!(ask(&after, &[(Whom::User, "1")], now).is_ok(), "one more than before");
        assert_eq!(ask(&after, &[(Whom::User, "1")], now).err(), Some(Whom::User));
        let later = now + Duration::from_secs(3600);
        let (third, fourth) = (ask(&after, &[(Whom::User, "1")], later), ask(&after, &[(Whom::User, "1")], later));
        assert!(third.is_ok() && fourth.is_err(), "two are under way since before");
        drop(held);
        assert!(
            ask(&after, &[(Whom::User, "1")], later).is_ok() && ask(&after, &[(Whom::Service, "1")], later).is_ok()
        );
        after.sweep(later + Duration::from_secs(7200));
    }

    /// Whoever is refused reads whose limit it is, how much that is, and when there is more.
    #[test]
    fn a_refusal_says_whose_limit_it_is_and_how_long_it_takes() {
        let burst = Limit { rate: Some(Rate { requests: 10, every: Every::Second, burst: 50 }), concurrent: None };
        let wait = |seconds, nanoseconds| Full::Requests(Duration::new(seconds, nanoseconds));
        let concurrent = Limit { rate: None, concurrent: Some(20) };
        for (whom, limit, full, seconds, sentence) in [
            (
                Whom::User,
                &burst,
                wait(0, 1),
                1,
                "You may send 10 requests a second, 50 at once here. Try again in 1 second.",
            ),
            (
                Whom::Address,
                &an_hour(1),
                wait(3599, 1),
                3600,
                "Your network may send 1 request an hour here. Try again in 3600 seconds.",
            ),
            (
                Whom::Job,
                &burst,
                wait(2, 0),
                2,
                "This job may send 10 requests a second, 50 at once here. Try again in 2 seconds.",
            ),
            (
                Whom::Project,
                &concurrent,
                Full::Concurrent,
                1,
                "All jobs of this project together may have 20 requests under way at once here. Try again when one is over.",
            ),
            (
                Whom::Service,
                &an_hour(7),
                wait(0, 0),
                1,
                "This service may send 7 requests an hour here. Try again in 1 second.",
            ),
        ] {
            let refusal = refusal(whom, limit, full);
            assert_eq!((refusal.detail.as_str(), refusal.retry_after()), (sentence, Some(seconds)));
            assert_eq!(refusal.reason, Reason::RateLimited);
        }
    }
}
