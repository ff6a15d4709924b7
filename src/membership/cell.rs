//! What is known of one person's groups, and how old it may grow. Pure: time is an argument.

use super::{
    directory::Directory,
    flight::Flight,
    gone::{Gone, Narrow},
};
use crate::{
    group::{GroupPath, Role},
    moment::millis,
    oidc::GroupList,
    principal::{Groups, Membership, Unknown, next_version},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// After a read that failed, the next is not tried before this.
pub(super) const BACK_OFF: Duration = Duration::from_secs(5);

/// After an answer without a list the next read waits for one interval, and no longer than this: a provider that does
/// not tell groups is not asked all the time.
const WITHOUT_LIST: Duration = Duration::from_secs(60);

/// A time that lies further ahead than this was told by a clock that has been set back since.
const AHEAD: Duration = Duration::from_secs(60);

/// The bounds of one provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// How often groups are read while a person is active.
    pub(super) refresh: Duration,
    /// How old they may grow when a read brought nothing.
    pub(super) limit: Duration,
    /// How old they may grow while the provider cannot be reached.
    pub(super) outage: Duration,
    /// The same two of what is read with a token of ours, however the person's own is.
    pub(super) tables: (Duration, Duration),
    /// How long the next read waits where a list never comes.
    pub(super) silent: Option<Duration>,
}

impl Clock {
    /// What has to be done about something that was read so long ago: it is read ahead past three quarters of the interval.
    pub(super) fn need(&self, age: Duration) -> Need {
        match age {
            _ if age >= self.refresh => Need::Read,
            _ if age >= self.refresh.mul_f64(0.75) => Need::ReadAhead,
            _ => Need::Nothing,
        }
    }
}

/// What is known of one person's groups.
#[derive(Default)]
pub(super) struct Cell {
    state: ArcSwap<State>,
    /// How often the provider said that they changed.
    named: AtomicU64,
    /// The time after the last change that took something away.
    narrow: Mutex<Option<Narrow>>,
    /// Groups that are gone; held while an answer is taken.
    gone: Mutex<Gone<GroupPath>>,
    /// With what a reader with a token of ours adds, as it was made last.
    pub(super) merged: ArcSwapOption<Merged>,
    /// Reads with the person's own token.
    pub(super) own: Flight,
    /// Reads of this person alone with ours.
    pub(super) alone: Flight,
    /// How often the person was read alone.
    told: AtomicU64,
    alone_at: AtomicU64,
    free_at: AtomicU64,
    ahead_at: AtomicU64,
    again_at: AtomicU64,
    check_at: AtomicU64,
}

/// A person's groups as two sources tell them together.
pub(super) struct Merged {
    /// What it was made of.
    pub(super) of: Made,
    /// When.
    pub(super) made: SystemTime,
    pub(super) groups: Groups,
}

/// What a person's groups were put together from: versions of what each source told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Made {
    /// The person's own list.
    pub(super) own: u64,
    /// The lists of members.
    pub(super) tables: u64,
    /// How often the provider said that the person changed.
    pub(super) named: u64,
    /// How often they were read alone.
    pub(super) told: u64,
}

/// The beginning of a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// How often the provider had said that they changed.
    named: u64,
    at: SystemTime,
}

#[derive(Clone, Default)]
struct State {
    good: Option<Groups>,
    /// How often the provider had said that it changed when `good` was asked for.
    heard: u64,
    /// When `good` was asked for.
    begun: Option<SystemTime>,
    /// What the last read failed by, if it failed.
    failing: Option<Failing>,
}

#[derive(Clone, Copy)]
struct Failing {
    outage: bool,
    since: SystemTime,
}

/// What a request has to do before it can use the cell.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Need {
    /// It is fresh.
    Nothing,
    /// It is fresh, and should be read again soon.
    ReadAhead,
    /// It is too old, or was never read.
    Read,
    /// Somebody asks for it: the person is to be read alone, if there is budget.
    Asked,
    /// The provider said that the person changed: they have to be read alone.
    Changed,
    /// However fresh it is, it is to be read now.
    Anew,
}

/// How a person's groups changed.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Change {
    pub(super) added: Vec<String>,
    pub(super) removed: Vec<String>,
    pub(super) source: &'static str,
}

impl Change {
    /// How groups and roles differ, if they do.
    pub(super) fn between(before: &Groups, after: &Groups) -> Option<Self> {
        if before.version == after.version {
            return None;
        }
        let all = |groups: &Groups| -> BTreeSet<String> {
            let roles = groups.roles.iter().map(|(path, role)| format!("{path}#{}", role.as_str()));
            groups.paths.iter().map(ToString::to_string).chain(roles).collect()
        };
        let (old, new) = (all(before), all(after));
        let only =
            |of: &BTreeSet<String>, not_in: &BTreeSet<String>| of.difference(not_in).cloned().collect::<Vec<_>>();
        let (added, removed) = (only(&new, &old), only(&old, &new));
        let differ = !added.is_empty() || !removed.is_empty();
        differ.then_some(Self { added, removed, source: after.source.as_str() })
    }
}

impl Cell {
    pub(super) fn need(&self, now: SystemTime, clock: &Clock) -> Need {
        let state = self.state.load();
        match &state.good {
            None => Need::Read,
            Some(_) if state.heard != self.named() => Need::Read,
            Some(good) => clock.need(elapsed(good.read, now)),
        }
    }

    /// What may be decided with now.
    pub(super) fn view(&self, now: SystemTime, clock: &Clock) -> Membership {
        let state = self.state.load();
        let Some(good) = &state.good else {
            let never = state.failing.is_none_or(|failing| failing.outage);
            return Membership::Unknown(if never { Unknown::NeverRead } else { Unknown::Incomplete });
        };
        let outage = state.failing.is_some_and(|failing| failing.outage);
        if state.heard != self.named() {
            return Membership::Unknown(Unknown::Changed);
        }
        let age = elapsed(good.read, now);
        if age <= if outage { clock.outage } else { clock.limit } {
            let stale = outage && age > clock.refresh;
            return Membership::Known(Groups { stale, ..good.clone() });
        }
        let incomplete = state.failing.is_some_and(|failing| !failing.outage);
        Membership::Unknown(if incomplete { Unknown::Incomplete } else { Unknown::TooOld })
    }

    /// Takes the answer of a read: a list, an answer without one, or an outage. A list is never overwritten by less.
    pub(super) fn answer(&self, answer: Result<Option<GroupList>, String>, now: SystemTime) -> Option<Change> {
        self.answer_of(Begun { named: self.state.load().heard, at: now }, answer, now)
    }

    /// The same for a read that began a moment ago. Of what has gone lately and is told again, nobody can say.
    pub(super) fn answer_of(
        &self,
        begun: Begun,
        answer: Result<Option<GroupList>, String>,
        now: SystemTime,
    ) -> Option<Change> {
        let mut gone = lock(&self.gone);
        let before = self.state.load_full();
        let (state, change) = match answer {
            Ok(Some(mut list)) => {
                gone.forget(begun.at);
                let member = Some(Role::Owner); // here it only matters that there is one
                let narrow = lock(&self.narrow).filter(|narrow| narrow.holds(begun.at));
                if let (Some(narrow), Some(good)) = (narrow, &before.good) {
                    let left = good.paths.iter().filter(|path| list.paths.binary_search(path).is_err());
                    left.for_each(|path| gone.note(path, member, None, narrow));
                }
                let unsure = list.paths.extract_if(.., |path| gone.contradicts(path, member, begun.at)).collect();
                let (good, change) = taken(before.good.as_ref(), list, unsure, now);
                let heard = begun.named.max(before.heard);
                (State { good: Some(good), heard, begun: Some(begun.at), failing: None }, change)
            }
            Ok(None) => (failed(&before, false, now), None),
            Err(_) => (failed(&before, true, now), None),
        };
        self.state.store(Arc::new(state));
        change
    }

    /// Takes what a sign-in that began at `begun` brought, unless a later list is known.
    pub(super) fn signed_in(&self, list: Option<GroupList>, begun: SystemTime) -> Option<Change> {
        let later = self.state.load().begun.is_some_and(|read| read > begun && elapsed(read, begun) < Duration::MAX);
        if later && list.is_some() { None } else { self.answer(Ok(list), begun) }
    }

    /// Takes a list that was read at `read`, a while ago, unless a later one is known.
    pub(super) fn learn(&self, list: GroupList, read: SystemTime, now: SystemTime) -> Option<Change> {
        let is_known = |at| elapsed(at, now) < Duration::MAX;
        let later = self.state.load().good.as_ref().is_some_and(|good| good.read > read && is_known(good.read));
        if later || !is_known(read) { None } else { self.answer(Ok(Some(list)), read) }
    }

    /// Takes an answer without the list at `now`, for a session whose ID token had the list `held` when it was `created`.
    /// The cell is shared by all sessions of a person, so that counts as a list of then: a later one stays.
    pub(super) fn recall(&self, held: GroupList, created: SystemTime, now: SystemTime) -> Option<Change> {
        let change = self.learn(held, created, now);
        self.answer(Ok(None), now);
        change
    }

    /// A read begins.
    pub(super) fn begin(&self, now: SystemTime) -> Begun {
        Begun { named: self.named(), at: now }
    }

    /// The provider says that they changed: what is known is not to be decided with until a read that begins now is answered.
    /// With `narrow`, what they lose is not believed to be back for a while.
    pub(super) fn name(&self, narrow: bool, now: SystemTime) {
        if narrow {
            *lock(&self.narrow) = Some(Narrow::after(now));
        }
        self.named.fetch_add(1, Ordering::AcqRel);
    }

    /// Somebody has waited in vain for the read that is still under way, and what is known may be decided with: nobody else has
    /// to wait for it.
    pub(super) fn is_late(&self, now: SystemTime, clock: &Clock) -> bool {
        self.own.is_late() && matches!(self.view(now, clock), Membership::Known(_))
    }

    /// How often the provider said that they changed.
    pub(super) fn named(&self) -> u64 {
        self.named.load(Ordering::Acquire)
    }

    /// What a list of version `own` and what is read with our token are put together from now.
    pub(super) fn made(&self, own: u64, directory: Option<&Directory>) -> Made {
        let tables = directory.map_or(0, Directory::version);
        Made { own, tables, named: self.named(), told: self.told.load(Ordering::Acquire) }
    }

    /// They were read alone, or that failed; then the next such read waits.
    pub(super) fn read_alone(&self, good: bool, now: SystemTime) {
        if good {
            self.told.fetch_add(1, Ordering::AcqRel);
        }
        self.alone_at.store(if good { 0 } else { millis(now + BACK_OFF) }, Ordering::Release);
    }

    /// True once in a while: such a read of this person is free of charge.
    pub(super) fn claims_alone(&self, now: SystemTime) -> bool {
        claim(&self.free_at, now, BACK_OFF)
    }

    /// A read of this person alone failed a moment ago.
    pub(super) fn is_alone_backing_off(&self, now: SystemTime) -> bool {
        let left = self.alone_at.load(Ordering::Acquire).saturating_sub(millis(now));
        left > 0 && left <= millis_of(BACK_OFF)
    }

    pub(super) fn version(&self) -> Option<u64> {
        self.state.load().good.as_ref().map(|good| good.version)
    }

    /// The last read failed a moment ago.
    pub(super) fn is_backing_off(&self, now: SystemTime, clock: &Clock) -> bool {
        self.state.load().failing.is_some_and(|failing| {
            let usual = clock.silent.unwrap_or_else(|| clock.refresh.min(WITHOUT_LIST));
            let pause = if failing.outage { BACK_OFF } else { usual.max(BACK_OFF) };
            elapsed(failing.since, now) < pause
        })
    }

    /// True once a second at most.
    pub(super) fn claims_read_ahead(&self, now: SystemTime) -> bool {
        claim(&self.ahead_at, now, Duration::from_secs(1))
    }

    /// True at most once in `pause`, and only if what is known is older than that. What was read of a whole group may be
    /// younger than that and older than the person's joining it, so then the pause is all that counts.
    pub(super) fn claims_again(&self, now: SystemTime, pause: Duration) -> bool {
        let fresh = self.state.load().good.as_ref().is_some_and(|good| elapsed(good.read, now) < pause);
        (self.merged.load().is_some() || !fresh) && claim(&self.again_at, now, pause)
    }

    /// True at most once in `pause`, however fresh what is known.
    pub(super) fn claims_check(&self, now: SystemTime, pause: Duration) -> bool {
        claim(&self.check_at, now, pause)
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

fn claim(next: &AtomicU64, now: SystemTime, pause: Duration) -> bool {
    let now = millis(now);
    let at = next.load(Ordering::Relaxed);
    let is_over = now >= at || at - now > millis_of(pause + AHEAD);
    is_over && next.compare_exchange(at, now + millis_of(pause), Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

fn millis_of(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time since `then`. Requests are timed at their start, so a little of the future is now; more is no time that
/// can be believed, and longer ago than any limit.
pub(super) fn elapsed(then: SystemTime, now: SystemTime) -> Duration {
    match now.duration_since(then) {
        Ok(since) => since,
        Err(ahead) if ahead.duration() <= AHEAD => Duration::ZERO,
        Err(_) => Duration::MAX,
    }
}

fn failed(before: &State, outage: bool, now: SystemTime) -> State {
    State { failing: Some(Failing { outage, since: now }), ..before.clone() }
}

fn taken(
    before: Option<&Groups>,
    list: GroupList,
    unsure: Vec<GroupPath>,
    now: SystemTime,
) -> (Groups, Option<Change>) {
    let source = list.source;
    if let Some(before) = before.filter(|before| *before.paths == *list.paths && *before.unread == *unsure) {
        return (Groups { source, read: now, stale: false, ..before.clone() }, None);
    }
    let old: &[GroupPath] = before.map_or(&[], |before| &before.paths);
    let only = |of: &[GroupPath], not_in: &[GroupPath]| {
        of.iter().filter(|path| not_in.binary_search(path).is_err()).map(ToString::to_string).collect()
    };
    let change = Change { added: only(&list.paths, old), removed: only(old, &list.paths), source: source.as_str() };
    let (paths, unread) = (list.paths.into(), unsure.into());
    let (roles, version) = (Arc::default(), next_version());
    let good = Groups { paths, roles, unread, source, read: now, version, stale: false, aside: None };
    let differs = !change.added.is_empty() || !change.removed.is_empty();
    (good, Some(change).filter(|_| before.is_some() && differs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::MembershipSource;
    use std::time::UNIX_EPOCH;

    const CLOCK: Clock = Clock {
        refresh: Duration::from_secs(60),
        limit: Duration::from_secs(300),
        outage: Duration::from_secs(900),
        tables: (Duration::from_secs(300), Duration::from_secs(900)),
        silent: None,
    };

    fn list(paths: &[&str]) -> GroupList {
        let paths = paths.iter().map(|path| path.parse().expect("a path")).collect();
        GroupList { paths, source: MembershipSource::Userinfo }
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_789_000_000)
    }

    fn after(seconds: u64) -> SystemTime {
        now() + Duration::from_secs(seconds)
    }

    fn known(cell: &Cell, at: u64) -> Option<(usize, bool)> {
        match cell.view(after(at), &CLOCK) {
            Membership::Known(groups) => Some((groups.paths.len(), groups.stale)),
            Membership::Unknown(_) => None,
        }
    }

    #[test]
    fn never_read_is_unknown_and_not_empty() {
        let cell = Cell::default();
        assert_eq!(cell.need(now(), &CLOCK), Need::Read);
        assert_eq!(cell.view(now(), &CLOCK), Membership::Unknown(Unknown::NeverRead));
        cell.answer(Ok(None), now());
        assert_eq!(cell.view(now(), &CLOCK), Membership::Unknown(Unknown::Incomplete));
        cell.answer(Ok(Some(list(&[]))), now());
        assert_eq!(known(&cell, 0), Some((0, false)));
    }

    #[test]
    fn it_is_read_ahead_and_then_waited_for() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a"]))), now());
        assert_eq!(cell.need(after(44), &CLOCK), Need::Nothing);
        assert_eq!(cell.need(after(45), &CLOCK), Need::ReadAhead);
        assert_eq!(cell.need(after(60), &CLOCK), Need::Read);
        assert!(cell.claims_read_ahead(after(45)));
        assert!(!cell.claims_read_ahead(after(45)));
    }

    /// P18: an answer without the list never overwrites one; after the limit it is unknown.
    #[test]
    fn an_answer_without_the_list_keeps_the_last_one_for_a_while() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a", "b"]))), now());
        cell.answer(Ok(None), after(60));
        assert_eq!(known(&cell, 300), Some((2, false)));
        assert_eq!(cell.view(after(301), &CLOCK), Membership::Unknown(Unknown::Incomplete));
    }

    /// A provider that does not tell groups is asked once in an interval, and not every five seconds.
    #[test]
    fn after_an_answer_without_the_list_the_next_read_waits() {
        let cell = Cell::default();
        cell.answer(Ok(None), now());
        for (refresh, pause) in [(1, 5), (30, 30), (60, 60), (300, 60)] {
            let clock = Clock { refresh: Duration::from_secs(refresh), ..CLOCK };
            assert!(cell.is_backing_off(after(pause - 1), &clock), "{refresh}");
            assert!(!cell.is_backing_off(after(pause), &clock), "{refresh}");
        }
    }

    #[test]
    fn an_outage_keeps_it_for_longer_and_says_stale() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a"]))), now());
        cell.answer(Err("connection refused".into()), after(61));
        assert!(cell.is_backing_off(after(62), &CLOCK));
        assert!(!cell.is_backing_off(after(66), &CLOCK));
        assert_eq!(known(&cell, 899), Some((1, true)));
        assert_eq!(cell.view(after(901), &CLOCK), Membership::Unknown(Unknown::TooOld));
        cell.answer(Ok(Some(list(&["a"]))), after(902));
        assert_eq!(known(&cell, 902), Some((1, false)));
    }

    #[test]
    fn a_change_has_a_new_version_and_says_what_changed() {
        let cell = Cell::default();
        assert_eq!(cell.answer(Ok(Some(list(&["a", "b"]))), now()), None);
        let first = cell.version();
        assert_eq!(cell.answer(Ok(Some(list(&["a", "b"]))), after(1)), None);
        assert_eq!(cell.version(), first);
        let change = cell.answer(Ok(Some(list(&["b", "c"]))), after(2)).expect("changed");
        assert_eq!((change.added, change.removed), (vec!["c".to_owned()], vec!["a".to_owned()]));
        assert_ne!(cell.version(), first);
    }

    #[test]
    fn a_list_of_a_while_ago_replaces_no_later_one() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a", "b"]))), after(10));
        assert_eq!(cell.learn(list(&["c"]), after(9), after(20)), None);
        assert_eq!(known(&cell, 20), Some((2, false)));
        assert!(cell.learn(list(&["c"]), after(15), after(20)).is_some());
        assert_eq!((known(&cell, 20), cell.need(after(75), &CLOCK)), (Some((1, false)), Need::Read));
        assert_eq!(cell.learn(list(&[]), after(1000), after(20)), None, "of a clock that was set back");
    }

    /// Of two sessions without refresh tokens the later sign-in has the say, whichever is read again last.
    #[test]
    fn the_groups_of_an_older_sign_in_replace_no_newer_ones() {
        let (older, newer) = (list(&["a", "b"]), list(&["a"]));
        let clock = Clock { limit: Duration::from_secs(3600), outage: Duration::from_secs(3600), ..CLOCK };
        let at_hand = |cell: &Cell, at| match cell.view(after(at), &clock) {
            Membership::Known(groups) => Some(groups.paths.len()),
            Membership::Unknown(_) => None,
        };
        for restarted in [false, true] {
            let cell = Cell::default();
            if !restarted {
                cell.answer(Ok(Some(older.clone())), now());
                cell.answer(Ok(Some(newer.clone())), after(100));
            }
            cell.recall(older.clone(), now(), after(200));
            cell.recall(newer.clone(), after(100), after(300));
            cell.recall(older.clone(), now(), after(400));
            assert_eq!(at_hand(&cell, 400), Some(1), "restarted: {restarted}");
            assert!(cell.is_backing_off(after(401), &clock));
            assert_eq!((at_hand(&cell, 3700), at_hand(&cell, 3701)), (Some(1), None), "as old as its session");
        }
    }

    /// DESIGN, section 4: unknown while a hook has named the person and no later read has succeeded; and what is gone stays gone
    /// until the last of the reads that follow.
    #[test]
    fn what_a_hook_names_is_unknown_until_it_is_read() {
        let cell = Cell::default();
        let groups = |cell: &Cell| match cell.view(now(), &CLOCK) {
            Membership::Known(groups) => Ok(groups.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            Membership::Unknown(why) => Err(why),
        };
        cell.answer(Ok(Some(list(&["a", "b"]))), now());
        let begun = cell.begin(now());
        cell.name(true, after(1));
        assert_eq!((groups(&cell), cell.need(now(), &CLOCK)), (Err(Unknown::Changed), Need::Read));
        cell.answer_of(begun, Ok(Some(list(&["a", "b"]))), now());
        assert_eq!(groups(&cell), Err(Unknown::Changed), "that read began before");
        cell.answer_of(cell.begin(after(2)), Err("connection refused".into()), now());
        assert_eq!(groups(&cell), Err(Unknown::Changed), "that read failed");
        cell.answer_of(cell.begin(after(2)), Ok(Some(list(&["a", "c"]))), now());
        assert_eq!(groups(&cell), Ok("a c".into()));
        cell.answer_of(cell.begin(after(2)), Ok(Some(list(&["a", "b", "c"]))), now());
        assert_eq!(groups(&cell), Ok("a c".into()), "an older cache answers: what is gone is not there again");
        let Membership::Known(known) = cell.view(now(), &CLOCK) else { panic!("known") };
        assert_eq!(known.unread.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b"], "and nobody can say");
        cell.answer_of(cell.begin(after(2)), Ok(Some(list(&["c"]))), now());
        assert_eq!(groups(&cell), Ok("c".into()));
        cell.answer_of(cell.begin(after(31)), Ok(Some(list(&["b", "c"]))), now());
        assert_eq!(groups(&cell), Ok("b c".into()), "the last of the reads that follow");
    }

    /// However changes follow one another, what was seen to go stays gone for 30 s after the change that took it, and nothing else
    /// does: who is added to another group is in at once.
    #[test]
    fn s78_what_is_gone_stays_gone_and_nothing_else_does() {
        let groups = |cell: &Cell, at| {
            let Membership::Known(groups) = cell.view(after(at), &CLOCK) else { return "?".into() };
            groups.paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        let read = |cell: &Cell, at, paths: &[&str]| {
            cell.answer_of(cell.begin(after(at)), Ok(Some(list(paths))), after(at));
            groups(cell, at)
        };
        let cell = Cell::default();
        assert_eq!(read(&cell, 0, &["a", "b"]), "a b");
        cell.name(true, after(10)); // out of a
        assert_eq!((read(&cell, 10, &["b"]), read(&cell, 12, &["a", "b"])), ("b".into(), "b".into()));
        cell.name(false, after(15)); // into c
        assert_eq!(read(&cell, 15, &["a", "b", "c"]), "b c");
        for at in (20..=38).step_by(2) {
            cell.name(true, after(at)); // out of something else, again and again
            assert_eq!(read(&cell, at, &["a", "b", "c"]), "b c", "{at}");
        }
        assert_eq!(read(&cell, 39, &["b"]), "b");
        assert_eq!(read(&cell, 40, &["a", "b", "c"]), "a b", "a was taken away 30 s ago; c just now");
        assert_eq!((read(&cell, 67, &["b", "c"]), read(&cell, 68, &["b", "c"])), ("b".into(), "b c".into()));
    }

    /// What a sign-in brings was read while the person was on their way; a later read knows better.
    #[test]
    fn a_sign_in_that_took_long_brings_nothing_back() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a"]))), now());
        cell.name(true, after(10));
        cell.answer_of(cell.begin(after(11)), Ok(Some(list(&[]))), after(11));
        assert_eq!(cell.signed_in(Some(list(&["a"])), after(9)), None);
        assert_eq!(known(&cell, 11), Some((0, false)));
        assert!(cell.signed_in(Some(list(&["b"])), after(50)).is_some());
    }

    /// P21: one request waits for a read that is late; the others go on with what is known, where it may be decided with.
    #[tokio::test]
    async fn p21_nobody_else_waits_for_a_read_that_is_late() {
        let cell = Cell::default();
        cell.answer(Ok(Some(list(&["a"]))), now());
        let turn = cell.own.turn().await.expect("nobody reads");
        turn.begin();
        assert!(!cell.is_late(after(60), &CLOCK), "nobody has waited yet");
        cell.own.note_late();
        assert!(cell.is_late(after(60), &CLOCK) && !cell.is_late(after(301), &CLOCK), "what is known may be too old");
        drop(turn);
        assert!(!cell.is_late(after(60), &CLOCK), "it is no longer under way");
        let turn = cell.own.turn().await.expect("nobody reads");
        turn.begin();
        assert!(!cell.is_late(after(60), &CLOCK), "this is another one");
        cell.own.note_late();
        cell.name(false, after(60));
        assert!(!cell.is_late(after(60), &CLOCK), "what is known is not to be decided with");
        drop(turn);
    }

    #[test]
    fn a_refused_person_is_looked_up_again_at_most_every_five_seconds() {
        let (cell, pause) = (Cell::default(), Duration::from_secs(5));
        cell.answer(Ok(Some(list(&["a"]))), now());
        assert!(!cell.claims_again(after(4), pause));
        assert!(cell.claims_again(after(5), pause));
        assert!(!cell.claims_again(after(9), pause));
        assert!(cell.claims_again(after(10), pause));
    }

    #[test]
    fn p57_who_asks_is_looked_up_at_once_and_at_most_every_second() {
        let (cell, pause) = (Cell::default(), Duration::from_secs(1));
        cell.answer(Ok(Some(list(&["a"]))), now());
        assert!(cell.claims_check(now(), pause), "however fresh");
        assert!(!cell.claims_check(now(), pause));
        assert!(cell.claims_check(after(1), pause));
    }

    /// A clock that was set back makes nothing fresh, and nobody wait for as long as it was set back.
    #[test]
    fn what_was_read_in_the_future_is_too_old() {
        let (cell, pause) = (Cell::default(), Duration::from_secs(5));
        cell.answer(Ok(Some(list(&["a"]))), after(3600));
        assert!(cell.claims_read_ahead(after(3600)) && cell.claims_again(after(3605), pause));
        assert_eq!((cell.need(after(3540), &CLOCK), known(&cell, 3540)), (Need::Nothing, Some((1, false))));
        assert_eq!(cell.need(after(3539), &CLOCK), Need::Read);
        assert_eq!(cell.view(after(3539), &CLOCK), Membership::Unknown(Unknown::TooOld));
        assert!(cell.claims_read_ahead(now()) && !cell.claims_read_ahead(now()));
        assert!(cell.claims_again(now(), pause) && !cell.claims_again(now(), pause));
        cell.answer(Err("connection refused".into()), after(3600));
        assert!(cell.is_backing_off(after(3599), &CLOCK) && !cell.is_backing_off(now(), &CLOCK));
    }
}
