//! One counter: how much somebody has asked for lately, and how much of that is under way.

use super::{Limit, Rate};
use std::time::{Duration, Instant};

/// What one request takes from a bucket. A rate of one an hour gives one unit back each nanosecond, so that every rate is a
/// whole number of units, and nothing is ever rounded.
const REQUEST: u64 = 3_600_000_000_000;

/// What is known of one of those who are counted.
#[derive(Debug)]
pub(super) struct Bucket {
    /// What was taken and has not come back at [`Bucket::at`], in units.
    spent: u64,
    at: Instant,
    under_way: u32,
}

/// Why no more is let through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    /// The rate is used up; after this time one more is let through.
    Requests(Duration),
    /// As many are under way as may be.
    Concurrent,
}

impl Bucket {
    /// Nothing was asked for so far.
    pub(super) fn new(now: Instant) -> Self {
        Self { spent: 0, at: now, under_way: 0 }
    }

    /// Lets one more request through, which is under way then. One that is not let through costs nothing.
    pub(super) fn admit(&mut self, limit: &Limit, now: Instant) -> Result<(), Full> {
        if limit.concurrent.is_some_and(|most| self.under_way >= most) {
            return Err(Full::Concurrent);
        }
        if let Some(rate) = &limit.rate {
            self.refill(rate, now);
            let over = (self.spent + REQUEST).saturating_sub(capacity(rate));
            if over > 0 {
                return Err(Full::Requests(Duration::from_nanos(over.div_ceil(rate.units()))));
            }
            self.spent += REQUEST;
        }
        self.under_way += 1;
        Ok(())
    }

    /// A request is over.
    pub(super) fn end(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// A request that was let through here was refused elsewhere: what it took comes back.
    pub(super) fn give_back(&mut self) {
        self.spent = self.spent.saturating_sub(REQUEST);
    }

    /// Nothing is under way, and everything has come back: it is as good as a new one.
    pub(super) fn is_idle(&mut self, limit: &Limit, now: Instant) -> bool {
        if let Some(rate) = &limit.rate {
            self.refill(rate, now);
        }
        self.under_way == 0 && (self.spent == 0 || limit.rate.is_none())
    }

    /// What has come back until now. A burst that was made smaller counts at once.
    fn refill(&mut self, rate: &Rate, now: Instant) {
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_nanos()).unwrap_or(u64::MAX);
        self.spent = self.spent.min(capacity(rate)).saturating_sub(passed.saturating_mul(rate.units()));
        self.at = self.at.max(now);
    }
}

fn capacity(rate: &Rate) -> u64 {
    u64::from(rate.burst) * REQUEST
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fairness::Every;
    use proptest::prelude::*;

    /// The definition, and nothing clever: in every stretch of time there are no more than the burst and what the rate brings.
    struct Model {
        admitted: Vec<u128>,
        under_way: u32,
    }

    impl Model {
        fn admits(&self, limit: &Limit, now: u128) -> bool {
            let within = |rate: &Rate| {
                let per: u128 = match rate.every {
                    Every::Second => 1_000_000_000,
                    Every::Minute => 60_000_000_000,
                    Every::Hour => 3_600_000_000_000,
                };
                let starts = self.admitted.iter().copied().chain([now]).enumerate();
                starts.into_iter().all(|(index, start)| {
                    let requests = (self.admitted.len() - index + 1) as u128;
                    requests * per <= u128::from(rate.burst) * per + (now - start) * u128::from(rate.requests)
                })
            };
            limit.concurrent.is_none_or(|most| self.under_way < most) && limit.rate.as_ref().is_none_or(within)
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask,
        End,
        Wait(u64),
    }

    fn limit() -> impl Strategy<Value = Limit> {
        let every = prop_oneof![Just(Every::Second), Just(Every::Minute), Just(Every::Hour)];
        let rate =
            (1..=1000_u32, every, 1..=20_u32).prop_map(|(requests, every, burst)| Rate { requests, every, burst });
        (proptest::option::of(rate), proptest::option::of(1..=5_u32))
            .prop_map(|(rate, concurrent)| Limit { rate, concurrent })
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => Just(Step::Ask),
            2 => Just(Step::End),
            1 => (0..5_u64).prop_map(Step::Wait),
            2 => (0..5_000_000_000_u64).prop_map(Step::Wait),
            1 => (0..7_200_000_000_000_u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// The bucket lets through exactly what the definition does, to the nanosecond, and tells truly how long to wait.
        #[test]
        fn a_bucket_agrees_with_the_definition(limit in limit(), steps in prop::collection::vec(step(), 1..200)) {
            let start = Instant::now();
            let (mut now, mut model) = (0_u64, Model { admitted: Vec::new(), under_way: 0 });
            let mut bucket = Bucket::new(start);
            for step in steps {
                let at = start + Duration::from_nanos(now);
                match step {
                    Step::Wait(time) => now += time,
                    Step::End => {
                        bucket.end();
                        model.under_way = model.under_way.saturating_sub(1);
                    }
                    Step::Ask => {
                        let answer = bucket.admit(&limit, at);
                        prop_assert_eq!(answer.is_ok(), model.admits(&limit, now.into()), "at {}: {:?}", now, answer);
                        match answer {
                            Ok(()) => {
                                model.admitted.push(now.into());
                                model.under_way += 1;
                            }
                            Err(Full::Concurrent) => prop_assert_eq!(Some(model.under_way), limit.concurrent),
                            Err(Full::Requests(wait)) => {
                                let free = u128::from(now) + wait.as_nanos();
                                prop_assert!(model.admits(&limit, free) && !model.admits(&limit, free - 1), "{:?}", wait);
                            }
                        }
                    }
                }
            }
        }
    }

    fn rate(requests: u32, every: Every, burst: u32) -> Limit {
        Limit { rate: Some(Rate { requests, every, burst }), concurrent: None }
    }

    /// The time of one request is no whole number of nanoseconds: not one request is lost or won by that.
    #[test]
    fn a_rate_is_exact_over_time() {
        let (start, limit) = (Instant::now(), rate(999_983, Every::Second, 10));
        let mut bucket = Bucket::new(start);
        let step = Duration::from_nanos(500);
        let admitted = (0..=2_000_000).filter(|turn| bucket.admit(&limit, start + step * *turn).is_ok()).count();
        assert_eq!(admitted, 10 + 999_983);
    }

    #[test]
    fn the_largest_numbers_fit() {
        let (start, most) = (Instant::now(), 1_000_000);
        for every in [Every::Second, Every::Minute, Every::Hour] {
            let (limit, mut bucket) = (rate(most, every, most), Bucket::new(start));
            assert!((0..most).all(|_| bucket.admit(&limit, start).is_ok()) && bucket.admit(&limit, start).is_err());
            (0..most).for_each(|_| bucket.end());
            assert!(!bucket.is_idle(&limit, start) && bucket.is_idle(&limit, start + Duration::from_secs(1 << 32)));
        }
    }

    /// Requests are counted in the order in which they come here, which is not that of their clocks.
    #[test]
    fn a_clock_behind_gives_nothing_back_twice() {
        let (start, limit) = (Instant::now(), rate(1, Every::Second, 1));
        let later = start + Duration::from_secs(10);
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.admit(&limit, later), Ok(()));
        assert_eq!(bucket.admit(&limit, start), Err(Full::Requests(Duration::from_secs(1))));
        assert_eq!(bucket.admit(&limit, later), Err(Full::Requests(Duration::from_secs(1))));
        assert_eq!(bucket.admit(&limit, later + Duration::from_secs(1)), Ok(()));
    }

    /// Numbers that change count on from where it stands, and never make anybody wait longer than the new ones would.
    #[test]
    fn changed_numbers_go_on_counting() {
        let (start, before) = (Instant::now(), rate(1, Every::Hour, 100));
        let mut bucket = Bucket::new(start);
        assert!((0..60).all(|_| bucket.admit(&before, start).is_ok()));
        let more = rate(1, Every::Hour, 61);
        assert_eq!(bucket.admit(&more, start), Ok(()));
        assert!(matches!(bucket.admit(&more, start), Err(Full::Requests(_))), "what was taken before counts");
        let less = rate(1, Every::Second, 10);
        assert_eq!(bucket.admit(&less, start), Err(Full::Requests(Duration::from_secs(1))));
        let one_at_once = Limit { rate: None, concurrent: Some(61) };
        assert_eq!(bucket.admit(&one_at_once, start), Err(Full::Concurrent), "those under way were counted before");
    }
}
