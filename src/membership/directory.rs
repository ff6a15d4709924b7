//! Who is in the groups that policies name, read with a token of ours: roles, invited groups, blocked people.
//!
//! One read per group and interval, however many people are active. A person whom GitLab says to have changed is read alone,
//! in every group, at once.

use super::{
    cell::{Clock, Merged, Need},
    keeper::Keeper,
};
use crate::{
    gitlab::{Api, ApiError, Member},
    group::{GroupPath, Role},
    principal::{Groups, MembershipSource, UserId},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::task::{AbortHandle, JoinSet};

/// So many groups are read at once.
const AT_ONCE: usize = 4;

/// After a read that failed, the next is not tried before this.
const BACK_OFF: Duration = Duration::from_secs(5);

/// What was read of one person alone is kept for this long; by then every table was read later, or is too old.
const ALONE: Duration = Duration::from_secs(3600);

/// The members of the groups that policies name, at one provider.
pub(super) struct Directory {
    pub(super) api: Arc<Api>,
    /// Looks after the token that the API is asked with.
    pub(super) keeper: Arc<Keeper>,
    watched: AbortHandle,
    tables: ArcSwap<BTreeMap<GroupPath, Arc<Table>>>,
    /// People who were read alone, later than the tables.
    alone: moka::sync::Cache<u64, Arc<Alone>>,
    /// Changes whenever somebody's membership here may have.
    version: AtomicU64,
    /// Held while tables are read.
    reading: tokio::sync::Mutex<()>,
    /// When a read of tables last ended, good or bad; counts reads.
    attempts: AtomicU64,
    /// People whom GitLab said to have changed, and when: nothing that was read before counts for them.
    changed: Mutex<HashMap<u64, Changed>>,
    /// When GitLab last said that everybody may have changed.
    all_changed: ArcSwapOption<SystemTime>,
}

/// A change of one person.
#[derive(Clone, Copy)]
struct Changed {
    at: SystemTime,
    /// What is gone stays gone for now.
    narrow: bool,
}

#[derive(Default)]
struct Table {
    state: ArcSwap<State>,
}

#[derive(Clone, Default)]
struct State {
    members: Arc<HashMap<u64, Role>>,
    /// When it was last read well.
    read: Option<SystemTime>,
    /// When reading it last failed, and whether GitLab could not be reached.
    failed: Option<(SystemTime, bool)>,
}

/// One person's roles, as they were read alone.
struct Alone {
    roles: HashMap<GroupPath, Option<Role>>,
    read: SystemTime,
}

impl Directory {
    pub(super) fn new(api: Arc<Api>, keeper: Arc<Keeper>, watched: AbortHandle) -> Self {
        Self {
            api,
            keeper,
            watched,
            tables: ArcSwap::default(),
            alone: moka::sync::Cache::builder().max_capacity(100_000).time_to_live(ALONE).build(),
            version: AtomicU64::new(1),
            reading: tokio::sync::Mutex::default(),
            attempts: AtomicU64::new(0),
            changed: Mutex::default(),
            all_changed: ArcSwapOption::default(),
        }
    }

    /// Whether the token renews itself.
    pub(super) fn rotates(&self) -> bool {
        self.keeper.rotates()
    }

    /// GitLab says that this person changed.
    pub(super) fn change(&self, user: u64, narrow: bool, now: SystemTime) {
        let mut changed = self.changed();
        changed.retain(|_, it| now.duration_since(it.at).is_ok_and(|since| since < ALONE)); // tables are younger by then
        changed.insert(user, Changed { at: now, narrow });
        drop(changed);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// What is read of this person is believed as it is again.
    pub(super) fn widen(&self, user: u64) {
        if let Some(changed) = self.changed().get_mut(&user) {
            changed.narrow = false;
        }
    }

    /// GitLab says that everybody may have changed.
    pub(super) fn change_all(&self, now: SystemTime) {
        self.all_changed.store(Some(Arc::new(now)));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether this person has to be read alone before anything can be said of them.
    pub(super) fn is_changed(&self, user: u64) -> bool {
        let Some(since) = self.changed().get(&user).map(|changed| changed.at) else { return false };
        self.alone.get(&user).is_none_or(|alone| alone.read < since)
    }

    fn changed(&self) -> MutexGuard<'_, HashMap<u64, Changed>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the groups that policies name now. What is known of those of before stays known.
    pub(super) fn name(&self, groups: &BTreeSet<GroupPath>) {
        let before = self.tables.load();
        if before.keys().eq(groups) {
            return;
        }
        let table = |path: &GroupPath| before.get(path).cloned().unwrap_or_default();
        self.tables.store(Arc::new(groups.iter().map(|path| (path.clone(), table(path))).collect()));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever somebody's membership here may have.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What a request has to do before it can use the tables.
    pub(super) fn need(&self, now: SystemTime, clock: &Clock) -> Need {
        let mut need = Need::Nothing;
        let changed = self.all_changed.load().as_deref().copied();
        for table in self.tables.load().values() {
            let state = table.state.load();
            if state.is_backing_off(now) {
                continue;
            }
            match state
                .read
                .filter(|read| changed.is_none_or(|at| *read >= at))
                .map(|read| now.duration_since(read).unwrap_or_default())
            {
                None => return Need::Read,
                Some(age) if age >= clock.refresh => return Need::Read,
                Some(age) if age >= clock.refresh.mul_f64(0.75) => need = Need::ReadAhead,
                Some(_) => {}
            }
        }
        need
    }

    /// The same, for a request of one person.
    pub(super) fn need_of(&self, user: &UserId, now: SystemTime, clock: &Clock) -> Need {
        let changed = number(user).is_some_and(|user| self.is_changed(user));
        if changed { Need::Alone } else { self.need(now, clock) }
    }

    /// Reads every table that is at least `older` old. One at a time; whoever waited for another's read is content with it.
    pub(super) async fn read(&self, older: Duration) {
        let asked = self.attempts.load(Ordering::Acquire);
        let _one = self.reading.lock().await;
        if self.attempts.load(Ordering::Acquire) != asked {
            return;
        }
        let now = SystemTime::now();
        let changed = self.all_changed.load().as_deref().copied();
        let is_due = |table: &Table| {
            let state = table.state.load();
            let known = state.read.filter(|read| changed.is_none_or(|at| *read >= at));
            let fresh = known.is_some_and(|read| now.duration_since(read).is_ok_and(|age| age < older));
            !fresh && !state.is_backing_off(now)
        };
        let mut due = self.tables.load_full().iter().filter(|(_, table)| is_due(table)).map(both).collect::<Vec<_>>();
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < AT_ONCE
                && let Some((path, table)) = due.pop()
            {
                let api = self.api.clone();
                reads.spawn(async move {
                    let begun = SystemTime::now();
                    let answer = api.members(&path, begun).await;
                    (path, table, begun, answer)
                });
            }
            let Some(done) = reads.join_next().await else { break };
            let Ok((path, table, begun, answer)) = done else { continue };
            if table.take(&path, answer, begun) {
                self.version.fetch_add(1, Ordering::AcqRel);
            }
        }
        self.attempts.fetch_add(1, Ordering::AcqRel);
    }

    /// Reads one person in every named group. With `narrow`, what is gone stays gone. Nothing is taken unless all of it could be
    /// read.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub(super) async fn read_alone(&self, user: &UserId, narrow: bool) -> Result<(), ApiError> {
        let Some(user) = number(user) else { return Ok(()) };
        let read = SystemTime::now();
        let mut roles = HashMap::new();
        let mut due: Vec<GroupPath> = self.tables.load().keys().cloned().collect();
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < AT_ONCE
                && let Some(path) = due.pop()
            {
                let api = self.api.clone();
                reads.spawn(async move {
                    let role = api.member(&path, user, SystemTime::now()).await;
                    (path, role)
                });
            }
            let Some(done) = reads.join_next().await else { break };
            let Ok((path, role)) = done else { continue };
            roles.insert(path, role?);
        }
        if let Some(before) = self.alone.get(&user).filter(|_| narrow) {
            for (path, role) in &mut roles {
                *role = (*role).min(before.roles.get(path).copied().flatten());
            }
        }
        self.alone.insert(user, Arc::new(Alone { roles, read }));
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Adds to `base`, which a person's own token told, what is known here of the person. `last` is what was made of both before.
    pub(super) fn merge(
        &self,
        user: &UserId,
        base: Groups,
        last: Option<&Merged>,
        now: SystemTime,
        clock: &Clock,
    ) -> Merged {
        let user = number(user).unwrap_or_default(); // GitLab numbers people from 1 on
        let of = (base.version, self.version());
        let (alone, changed) = (self.alone.get(&user), self.changed().get(&user).copied());
        let not_before = changed.map(|changed| changed.at).max(self.all_changed.load().as_deref().copied());
        let narrow = changed.is_some_and(|changed| changed.narrow);
        let (mut paths, mut roles, mut unread) = (base.paths.to_vec(), Vec::new(), Vec::new());
        let mut stale = base.stale;
        let mut oldest = base.read;
        for (path, table) in &**self.tables.load() {
            let state = table.state.load();
            let at = paths.binary_search(path);
            let listed = state.read.map(|read| (state.members.get(&user).copied(), read));
            let alone = alone.as_ref().and_then(|alone| Some((*alone.roles.get(path)?, alone.read)));
            let told = match (listed, alone) {
                (Some((role, listed)), Some((least, read))) if narrow => Some((role.min(least), read.max(listed))),
                (Some((_, listed)), Some((role, read))) if read >= listed => Some((role, read)),
                (listed, _) => listed, // of a group that is not seen, nobody can be said to be no member
            };
            let counts = |read| not_before.is_none_or(|at| read >= at) && state.is_usable(read, now, clock);
            match told.filter(|(_, read)| counts(*read)) {
                Some((Some(role), read)) => {
                    roles.push((path.clone(), role));
                    at.err().into_iter().for_each(|at| paths.insert(at, path.clone()));
                    stale |= now.duration_since(read).is_ok_and(|age| age > clock.refresh) && state.failed.is_some();
                    oldest = oldest.min(read);
                }
                Some((None, read)) => {
                    at.ok().into_iter().for_each(|at| drop(paths.remove(at)));
                    oldest = oldest.min(read);
                }
                None => {
                    at.ok().into_iter().for_each(|at| drop(paths.remove(at)));
                    unread.push(path.clone());
                }
            }
        }
        let same = last.filter(|last| {
            *last.groups.paths == *paths && *last.groups.roles == *roles && *last.groups.unread == *unread
        });
        let (source, read) = (MembershipSource::Api, oldest);
        let groups = match same {
            Some(last) => Groups { source, read, stale, ..last.groups.clone() },
            None => Groups {
                paths: paths.into(),
                roles: roles.into(),
                unread: unread.into(),
                source,
                read,
                version: super::cell::next_version(),
                stale,
            },
        };
        Merged { of, made: now, groups }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.watched.abort();
    }
}

/// GitLab's number of a person, which is what its ID tokens have as `sub`.
pub(super) fn number(user: &UserId) -> Option<u64> {
    user.subject.parse().ok()
}

fn both((path, table): (&GroupPath, &Arc<Table>)) -> (GroupPath, Arc<Table>) {
    (path.clone(), table.clone())
}

impl Table {
    /// Takes an answer; true if anything is other than before.
    fn take(&self, path: &GroupPath, answer: Result<Vec<Member>, ApiError>, begun: SystemTime) -> bool {
        let before = self.state.load();
        match answer {
            Ok(list) => {
                let members: HashMap<u64, Role> =
                    list.into_iter().filter_map(|member| Some((member.id, member.role?))).collect();
                let changed = before.read.is_none() || before.failed.is_some() || *before.members != members;
                let members = if changed { Arc::new(members) } else { before.members.clone() };
                self.state.store(Arc::new(State { members, read: Some(begun), failed: None }));
                changed
            }
            Err(error) => {
                match &error {
                    ApiError::Token(_) => tracing::error!(group = %path, %error, "members are not read"),
                    _ => tracing::warn!(group = %path, %error, "members are not read"),
                }
                // a group that is gone, or hidden, has no members that anybody could vouch for
                let read = before.read.filter(|_| error != ApiError::Missing);
                let first = before.failed.is_none() || read != before.read;
                let failed = Some((SystemTime::now(), error.is_outage()));
                self.state.store(Arc::new(State { members: before.members.clone(), read, failed }));
                first
            }
        }
    }
}

impl State {
    fn is_backing_off(&self, now: SystemTime) -> bool {
        self.failed.is_some_and(|(at, _)| now.duration_since(at).is_ok_and(|since| since < BACK_OFF))
    }

    /// Whether what was read at `read` may still be decided with.
    fn is_usable(&self, read: SystemTime, now: SystemTime, clock: &Clock) -> bool {
        let limit = match self.failed {
            Some((_, true)) => clock.outage,
            Some((_, false)) | None => clock.limit,
        };
        match now.duration_since(read) {
            Ok(age) => age <= limit,
            Err(ahead) => ahead.duration() <= Duration::from_secs(60),
        }
    }
}
