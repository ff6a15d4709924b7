//! Who is in the groups that policies name, read with a token of ours: roles, invited groups, blocked people.
//!
//! One read per group and interval, however many people are active. A person whom GitLab says to have changed is read alone,
//! in every group, at once.

use super::{
    budget::Budget,
    cell::{BACK_OFF, Clock, Made, Merged, Need, elapsed},
    changed::{Changed, Changes, Everybody, believable},
    flight::Flight,
    gone::{Gone, Narrow},
    keeper::Keeper,
};
use crate::{
    gitlab::{Api, ApiError, Member},
    group::{GroupPath, Role},
    principal::{Groups, MembershipSource, UserId, next_version},
};
use arc_swap::{ArcSwap, ArcSwapOption};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::Semaphore,
    task::{AbortHandle, JoinSet},
};

/// So many groups are read at once.
const AT_ONCE: usize = 4;

/// So many people are read alone at once.
const PEOPLE_AT_ONCE: usize = 4;

/// What was read of one person alone is kept for this long.
const ALONE: Duration = Duration::from_secs(3600);

/// How often people whose change every table is younger than are forgotten.
const SWEEP: Duration = Duration::from_secs(60);

/// The members of the groups that policies name, at one provider.
pub(super) struct Directory {
    pub(super) api: Arc<Api>,
    /// Looks after the token that the API is asked with.
    pub(super) keeper: Arc<Keeper>,
    watched: AbortHandle,
    tables: ArcSwap<BTreeMap<GroupPath, Arc<Table>>>,
    /// People who were read alone, later than the tables.
    alone: moka::sync::Cache<u64, Arc<Alone>>,
    /// Changes whenever the tables do, or count no more.
    version: AtomicU64,
    /// Reads of tables.
    reading: Flight,
    /// Reads of tables that only the shadow policies name.
    reading_aside: Flight,
    /// One person at a time is read in those.
    turn_aside: Semaphore,
    /// Whoever reads one person alone has one of these.
    turns: Semaphore,
    /// What may be read of single people.
    pub(super) budget: Budget,
    /// People whom GitLab said to have changed: nothing that was read before counts for them.
    changed: Mutex<Changes>,
    /// When GitLab last said that everybody may have changed.
    all_changed: ArcSwapOption<Everybody>,
}

#[derive(Default)]
struct Table {
    /// GitLab's number of the group; 0 until it is known.
    group: AtomicU64,
    /// Who was seen to be gone after a change of everybody.
    gone: Mutex<Gone<u64>>,
    state: ArcSwap<State>,
    /// Only the shadow policies name it: whatever is read of it, and whether it can be, is nothing to the others.
    aside: AtomicBool,
}

#[derive(Clone, Default)]
struct State {
    members: Arc<HashMap<u64, Role>>,
    /// Those of whom nobody can say whether they still are members.
    unsure: Arc<HashSet<u64>>,
    /// When it was last read well.
    read: Option<SystemTime>,
    /// When reading it last failed, and whether GitLab could not be reached.
    failed: Option<(SystemTime, bool)>,
}

/// A person's role in one group, and when that was read.
type Told = (Option<Role>, SystemTime);

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
            reading: Flight::default(),
            reading_aside: Flight::default(),
            turn_aside: Semaphore::new(1),
            turns: Semaphore::new(PEOPLE_AT_ONCE),
            budget: Budget::default(),
            changed: Mutex::default(),
            all_changed: ArcSwapOption::default(),
        }
    }

    /// Whether the token renews itself.
    pub(super) fn rotates(&self) -> bool {
        self.keeper.rotates()
    }

    /// GitLab says that this person changed. Unless they were only `added` to something, what they lose is not believed to be back
    /// for a while; but for the group with this number, if they were added to that.
    pub(super) fn change(&self, user: u64, added: bool, group: Option<u64>, now: SystemTime) {
        let mut changes = self.changed();
        if changes.swept.is_none_or(|swept| elapsed(swept, now) >= SWEEP) {
            let oldest = self.oldest();
            changes.people.retain(|_, changed| {
                oldest.is_some_and(|read| read <= changed.at) || changed.narrow.is_some_and(|narrow| narrow.holds(now))
            });
            changes.swept = Some(now);
        }
        let before = changes.people.remove(&user);
        let group = group.and_then(|group| self.numbered(group));
        let changed = match added {
            true => Changed::given(before, group, now),
            false => Changed::taken(before, group.as_ref(), now),
        };
        changes.people.insert(user, changed);
    }

    /// The group with GitLab's number, if it is named.
    fn numbered(&self, group: u64) -> Option<GroupPath> {
        let tables = self.tables.load();
        let mut named = tables.iter().filter(|(_, table)| !table.is_aside());
        let found = named.find(|(_, table)| table.group.load(Ordering::Relaxed) == group && group != 0);
        found.map(|(path, _)| path.clone())
    }

    /// When the table was read that was read longest ago.
    fn oldest(&self) -> Option<SystemTime> {
        let tables = self.tables.load();
        tables.values().filter(|table| !table.is_aside()).filter_map(|table| table.state.load().read).min()
    }

    /// GitLab says that everybody may have changed. With `narrow`, what somebody loses is not believed to be back for a while.
    pub(super) fn change_all(&self, narrow: bool, now: SystemTime) {
        let before = self.all_changed.load().as_deref().and_then(|before| before.narrow);
        let narrow = if narrow { Some(Narrow::after(now)) } else { before };
        self.all_changed.store(Some(Arc::new(Everybody { at: now, narrow })));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn changed(&self) -> MutexGuard<'_, Changes> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The named groups whose members could not be read when that was last tried.
    pub(super) fn unreadable(&self) -> Vec<GroupPath> {
        let tables = self.tables.load();
        let failing = tables.iter().filter(|(_, table)| table.state.load().failed.is_some());
        failing.map(|(path, _)| path.clone()).collect()
    }

    /// How many groups are named, by more than the shadow policies.
    pub(super) fn size(&self) -> usize {
        self.tables.load().values().filter(|table| !table.is_aside()).count()
    }

    /// Takes the groups that policies name now, and those that only the shadow policies name. What is known of those of before
    /// stays known.
    pub(super) fn name(&self, named: &BTreeSet<GroupPath>, shadow: &BTreeSet<GroupPath>) {
        let before = self.tables.load();
        let same = |(path, table): (&GroupPath, &Arc<Table>)| table.is_aside() != named.contains(path);
        if before.keys().eq(named.union(shadow)) && before.iter().all(same) {
            return;
        }
        let table = |path: &GroupPath| {
            let table: Arc<Table> = before.get(path).cloned().unwrap_or_default();
            table.aside.store(!named.contains(path), Ordering::Release);
            (path.clone(), table)
        };
        self.tables.store(Arc::new(named.union(shadow).map(table).collect()));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever the tables do, or count no more. What is read of one person alone is counted in their cell.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What a request has to do before it can use the tables.
    pub(super) fn need(&self, now: SystemTime, clock: &Clock) -> Need {
        let mut need = Need::Nothing;
        let changed = self.all_changed_since(now);
        for table in self.tables.load().values() {
            if !table.is_aside() {
                need = need.max(table.need(changed, now, clock));
            }
        }
        need
    }

    /// True if the shadow policies name groups that nothing else does.
    pub(super) fn has_aside(&self) -> bool {
        self.tables.load().values().any(|table| table.is_aside())
    }

    /// True if what only the shadow policies name is to be read, and nobody does. No request waits for that.
    pub(super) fn aside_is_due(&self, now: SystemTime, clock: &Clock) -> bool {
        let changed = self.all_changed_since(now);
        let is_due = |table: &Arc<Table>| table.is_aside() && table.need(changed, now, clock) > Need::Nothing;
        self.tables.load().values().any(is_due) && self.reading_aside.is_free()
    }

    fn all_changed_since(&self, now: SystemTime) -> Option<SystemTime> {
        self.all_changed.load().as_deref().and_then(|all| believable(all.at, now))
    }

    /// Whether this person has to be read alone before anything can be said of them.
    pub(super) fn has_changed(&self, user: &UserId, now: SystemTime) -> bool {
        let Some(user) = number(user) else { return false };
        let since = self.changed().people.get(&user).and_then(|changed| changed.since(now));
        since.is_some_and(|since| self.alone.get(&user).is_none_or(|alone| alone.read < since))
    }

    /// Since when nothing counts that was read before of this person, if GitLab said that they or everybody changed.
    pub(super) fn changed_since(&self, user: &UserId, now: SystemTime) -> Option<SystemTime> {
        let user = number(user)?;
        self.changed().people.get(&user).and_then(|changed| changed.since(now)).max(self.all_changed_since(now))
    }

    /// Reads every table that is at least `older` old.
    pub(super) async fn read(&self, older: Duration) {
        let Some(turn) = self.reading.turn().await else { return };
        turn.begin();
        self.read_tables(older, false, AT_ONCE).await;
    }

    /// The same of those that only the shadow policies name, one after the other: the others are never kept waiting.
    pub(super) async fn read_aside(&self, older: Duration) {
        let Some(turn) = self.reading_aside.turn().await else { return };
        turn.begin();
        self.read_tables(older, true, 1).await;
    }

    async fn read_tables(&self, older: Duration, aside: bool, at_once: usize) {
        let now = SystemTime::now();
        let changed = self.all_changed_since(now);
        let is_due = |table: &Table| {
            let state = table.state.load();
            let fresh = state.read_since(changed).is_some_and(|read| elapsed(read, now) < older);
            table.is_aside() == aside && !fresh && !state.is_backing_off(now)
        };
        let mut due = self.tables.load_full().iter().filter(|(_, table)| is_due(table)).map(both).collect::<Vec<_>>();
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < at_once
                && let Some((path, table)) = due.pop()
            {
                let api = self.api.clone();
                reads.spawn(async move {
                    let begun = SystemTime::now();
                    let answer = api.members(&path, begun).await;
                    if answer.is_ok() && table.group.load(Ordering::Relaxed) == 0 {
                        table.group.store(api.group(&path).await.unwrap_or(0), Ordering::Relaxed);
                    }
                    (path, table, begun, answer)
                });
            }
            let Some(done) = reads.join_next().await else { break };
            let Ok((path, table, begun, answer)) = done else { continue };
            let narrow = self.all_changed.load().as_deref().and_then(|all| all.narrow);
            if table.take(&path, answer, begun, narrow.filter(|narrow| narrow.holds(begun))) {
                self.version.fetch_add(1, Ordering::AcqRel);
            }
        }
    }

    /// Reads one person in every group that more than the shadow policies name. Nothing is taken unless all of it could be read.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub(super) async fn read_alone(&self, user: &UserId) -> Result<(), ApiError> {
        let Some(user) = number(user) else { return Ok(()) };
        let _turn = self.turns.acquire().await;
        let read = SystemTime::now();
        let (mut roles, mut active) = (HashMap::new(), true);
        let mut due = self.paths(false);
        let mut reads = JoinSet::new();
        loop {
            while reads.len() < AT_ONCE
                && let Some(path) = due.pop()
            {
                let api = self.api.clone();
                reads.spawn(async move {
                    let member = api.member(&path, user, SystemTime::now()).await;
                    (path, member)
                });
            }
            let Some(done) = reads.join_next().await else { break };
            let Ok((path, member)) = done else { continue };
            let member = member?;
            active &= member.is_none_or(|member| member.role.is_some());
            roles.insert(path, member.and_then(|member| member.role));
        }
        let before = self.alone.get(&user);
        if let Some(changed) = self.changed().people.get_mut(&user) {
            let had = |path: &GroupPath| before.as_ref().and_then(|before| before.roles.get(path).copied()).flatten();
            changed.take(&roles, had, active, read);
        }
        self.alone.insert(user, Arc::new(Alone { roles, read }));
        Ok(())
    }

    /// Reads one person, who was just read alone, in what only the shadow policies name, as far as that can be read. Nobody waits
    /// for it, and where it is done for somebody else it is left out.
    pub(super) async fn read_alone_aside(&self, user: &UserId) {
        let (Some(user), Ok(_turn)) = (number(user), self.turn_aside.try_acquire()) else { return };
        let Some(alone) = self.alone.get(&user) else { return };
        let mut roles = HashMap::new();
        for path in self.paths(true) {
            let Ok(member) = self.api.member(&path, user, SystemTime::now()).await else { return };
            roles.insert(path, member.and_then(|member| member.role));
        }
        if roles.is_empty() || self.alone.get(&user).is_none_or(|now| !Arc::ptr_eq(&now, &alone)) {
            return; // later reads know better
        }
        roles.extend(alone.roles.clone());
        self.alone.insert(user, Arc::new(Alone { roles, read: alone.read }));
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// The groups that more than the shadow policies name, or only they.
    fn paths(&self, aside: bool) -> Vec<GroupPath> {
        let tables = self.tables.load();
        tables.iter().filter(|(_, table)| table.is_aside() == aside).map(|(path, _)| path.clone()).collect()
    }

    /// Whether GitLab lets this person in.
    ///
    /// # Errors
    /// Any [`ApiError`].
    pub(super) async fn is_active(&self, user: u64) -> Result<bool, ApiError> {
        let _turn = self.turns.acquire().await;
        self.api.is_active(user).await
    }

    /// Adds to `base`, which a person's own token told, what is known here of the person. `last` is what was made of both before.
    pub(super) fn merge(
        &self,
        user: &UserId,
        base: Groups,
        (of, last): (Made, Option<&Merged>),
        now: SystemTime,
        clock: &Clock,
    ) -> Merged {
        let user = number(user).unwrap_or_default(); // GitLab numbers people from 1 on
        let (alone, changed) = (self.alone.get(&user), self.changed().people.get(&user).cloned());
        let not_before = changed.as_ref().and_then(|changed| changed.since(now)).max(self.all_changed_since(now));
        let tables = self.tables.load();
        let (mut lists, mut aside) =
            (Lists::of(&base), tables.values().any(|table| table.is_aside()).then(|| Lists::of(&base)));
        let (mut stale, mut oldest) = (base.stale, base.read);
        for (path, table) in &**tables {
            let state = table.state.load();
            let listed = state.read.filter(|_| !state.unsure.contains(&user));
            let listed = listed.map(|read| (state.members.get(&user).copied(), read));
            let alone = alone.as_ref().and_then(|alone| Some((*alone.roles.get(path)?, alone.read)));
            let narrows = |reads| changed.as_ref().is_some_and(|changed| changed.narrows(path, reads));
            let told = told(listed, alone, narrows)
                .filter(|told| !changed.as_ref().is_some_and(|changed| changed.contradicts(path, *told)));
            let counts = |read| not_before.is_none_or(|at| read >= at) && state.is_usable(read, now, clock);
            let told = told.filter(|(_, read)| counts(*read));
            aside.iter_mut().for_each(|lists| lists.take(path, told));
            if table.is_aside() {
                continue;
            }
            lists.take(path, told);
            if let Some((role, read)) = told {
                oldest = oldest.min(read);
                stale |= role.is_some() && elapsed(read, now) > clock.refresh && state.failed.is_some();
            }
        }
        let known = |path: &GroupPath| tables.get(path).is_some_and(|table| !table.is_aside());
        let last = last.map(|last| &last.groups);
        let base = Groups { source: MembershipSource::Api, read: oldest, stale, ..base };
        let aside = aside.map(|lists| {
            let last = last.and_then(|last| last.aside.as_deref());
            Arc::new(lists.groups(&base, |path| tables.contains_key(path), None, last))
        });
        let groups = lists.groups(&base, known, aside, last);
        Merged { of, made: now, groups }
    }
}

/// What is made of what a person's own token told and of what is known here.
struct Lists {
    paths: Vec<GroupPath>,
    roles: Vec<(GroupPath, Role)>,
    unread: Vec<GroupPath>,
}

impl Lists {
    fn of(base: &Groups) -> Self {
        Self { paths: base.paths.to_vec(), roles: Vec::new(), unread: Vec::new() }
    }

    /// Takes what is known of one group; groups come in the order of their paths.
    fn take(&mut self, path: &GroupPath, told: Option<Told>) {
        let at = self.paths.binary_search(path);
        match told {
            Some((Some(role), _)) => {
                self.roles.push((path.clone(), role));
                at.err().into_iter().for_each(|at| self.paths.insert(at, path.clone()));
            }
            Some((None, _)) => at.ok().into_iter().for_each(|at| drop(self.paths.remove(at))),
            None => {
                at.ok().into_iter().for_each(|at| drop(self.paths.remove(at)));
                self.unread.push(path.clone());
            }
        }
    }

    /// The groups with their version: that of `last` where nothing is other than it was. What `base` says is unread stays so, but
    /// for groups that are `known` here.
    fn groups(
        mut self,
        base: &Groups,
        known: impl Fn(&GroupPath) -> bool,
        aside: Option<Arc<Groups>>,
        last: Option<&Groups>,
    ) -> Groups {
        self.unread.extend(base.unread.iter().filter(|path| !known(path)).cloned());
        self.unread.sort_unstable();
        let version_of = |groups: &Option<Arc<Groups>>| groups.as_ref().map(|groups| groups.version);
        let same = last.filter(|last| {
            *last.paths == *self.paths
                && *last.roles == *self.roles
                && *last.unread == *self.unread
                && version_of(&last.aside) == version_of(&aside)
        });
        let Groups { source, read, stale, .. } = *base;
        match same {
            Some(last) => Groups { source, read, stale, aside, ..last.clone() },
            None => Groups {
                paths: self.paths.into(),
                roles: self.roles.into(),
                unread: self.unread.into(),
                source,
                read,
                version: next_version(),
                stale,
                aside,
            },
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.watched.abort();
    }
}

/// What a list of members and a read of one person alone say together: the later of them; nothing where both were read after a
/// removal and differ, so that one of them is of a cache.
fn told(listed: Option<Told>, alone: Option<Told>, narrows: impl Fn([SystemTime; 2]) -> bool) -> Option<Told> {
    match (listed, alone) {
        (Some((role, listed)), Some((other, read))) if role != other && narrows([listed, read]) => None,
        (Some((_, listed)), Some((role, read))) if read >= listed => Some((role, read)),
        (listed, _) => listed, // of a group that is not seen, nobody can be said to be no member
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
    fn is_aside(&self) -> bool {
        self.aside.load(Ordering::Acquire)
    }

    fn need(&self, changed: Option<SystemTime>, now: SystemTime, clock: &Clock) -> Need {
        let state = self.state.load();
        if state.is_backing_off(now) {
            return Need::Nothing;
        }
        state.read_since(changed).map_or(Need::Read, |read| clock.need(elapsed(read, now)))
    }

    /// Takes an answer; true if anything is other than before.
    fn take(
        &self,
        path: &GroupPath,
        answer: Result<Vec<Member>, ApiError>,
        begun: SystemTime,
        narrow: Option<Narrow>,
    ) -> bool {
        let before = self.state.load();
        match answer {
            Ok(list) => {
                let inactive: HashSet<u64> =
                    list.iter().filter(|member| member.role.is_none()).map(|member| member.id).collect();
                let members: HashMap<u64, Role> =
                    list.into_iter().filter_map(|member| Some((member.id, member.role?))).collect();
                let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
                gone.forget(begun);
                if let Some(narrow) = narrow {
                    for (id, had) in before.members.iter().filter(|(id, _)| !inactive.contains(id)) {
                        gone.note(id, Some(*had), members.get(id).copied(), narrow);
                    }
                }
                let unsure = |(id, role): (&u64, &Role)| gone.contradicts(id, Some(*role), begun).then_some(*id);
                let unsure: HashSet<u64> = members.iter().filter_map(unsure).collect();
                let same = *before.members == members && *before.unsure == unsure;
                let changed = before.read.is_none() || before.failed.is_some() || !same;
                let (members, unsure) = match changed {
                    true => (Arc::new(members), Arc::new(unsure)),
                    false => (before.members.clone(), before.unsure.clone()),
                };
                self.state.store(Arc::new(State { members, unsure, read: Some(begun), failed: None }));
                changed
            }
            Err(error) => {
                match &error {
                    ApiError::Token(_) => tracing::error!(group = %path, %error, "members are not read"),
                    _ => tracing::warn!(group = %path, %error, "members are not read"),
                }
                if error == ApiError::Missing {
                    self.group.store(0, Ordering::Relaxed); // another group may have its path next
                }
                // a group that is gone, or hidden, has no members that anybody could vouch for
                let read = before.read.filter(|_| error != ApiError::Missing);
                let first = before.failed.is_none() || read != before.read;
                let failed = Some((SystemTime::now(), error.is_outage()));
                self.state.store(Arc::new(State { read, failed, ..(**before).clone() }));
                first
            }
        }
    }
}

impl State {
    /// When it was last read well, if that was not before everybody changed.
    fn read_since(&self, changed: Option<SystemTime>) -> Option<SystemTime> {
        self.read.filter(|read| changed.is_none_or(|at| *read >= at))
    }

    fn is_backing_off(&self, now: SystemTime) -> bool {
        self.failed.is_some_and(|(at, _)| elapsed(at, now) < BACK_OFF)
    }

    /// Whether what was read at `read` may still be decided with.
    fn is_usable(&self, read: SystemTime, now: SystemTime, clock: &Clock) -> bool {
        let limit = match self.failed {
            Some((_, true)) => clock.tables.1,
            Some((_, false)) | None => clock.tables.0,
        };
        elapsed(read, now) <= limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_789_000_000 + seconds)
    }

    fn path(text: &str) -> GroupPath {
        text.parse().expect("a path")
    }

    #[test]
    fn the_later_read_counts_and_nothing_where_two_differ_after_a_removal() {
        let (owner, guest) = (Some(Role::Owner), Some(Role::Guest));
        let wide = |listed, alone| told(listed, alone, |_| false);
        assert_eq!(wide(Some((owner, at(0))), Some((guest, at(1)))), Some((guest, at(1))));
        assert_eq!(wide(Some((owner, at(2))), Some((guest, at(1)))), Some((owner, at(2))));
        assert_eq!(wide(None, Some((guest, at(1)))), None, "of a group that is not seen");
        let narrow = |listed, alone| told(Some((listed, at(2))), Some((alone, at(1))), |_| true);
        assert_eq!((narrow(owner, None), narrow(guest, owner)), (None, None), "nobody can say");
        assert_eq!(narrow(guest, guest), Some((guest, at(2))));
    }

    /// When everybody may have changed, nobody can say of who was seen to be gone from a list, and is there again, whether they are.
    /// Who is new is in, and who was blocked is no longer.
    #[test]
    fn who_is_gone_from_a_list_is_not_believed_to_be_back_at_once() {
        let (table, path) = (Table::default(), path("acme"));
        let read = |seconds, list: &[(u64, Option<Role>)], narrow: Option<Narrow>| {
            let list = list.iter().map(|(id, role)| Member { id: *id, role: *role }).collect();
            table.take(&path, Ok(list), at(seconds), narrow.filter(|narrow| narrow.holds(at(seconds))));
            let state = table.state.load();
            let told = |id| (!state.unsure.contains(&id)).then(|| state.members.get(&id).copied());
            [told(1), told(2), told(3)]
        };
        let (owner, guest) = (Some(Role::Owner), Some(Role::Guest));
        let (none, unknown) = (Some(None), None);
        let changed = |seconds| Some(Narrow::after(at(seconds)));
        let all = [(1, owner), (2, owner), (3, owner)];
        assert_eq!(read(0, &all[..2], None), [Some(owner), Some(owner), none]);
        assert_eq!(read(10, &[(1, guest)], changed(10)), [Some(guest), none, none]);
        assert_eq!(read(15, &all, changed(10)), [unknown, unknown, Some(owner)], "who is new is in");
        assert_eq!(read(40, &all[..2], changed(39)), [Some(owner), Some(owner), none], "30 s after they went");
        assert_eq!(read(41, &all, None)[2], unknown, "seen to be gone after the second change");
        let blocked = [(1, None), (2, owner)];
        assert_eq!(read(100, &blocked, changed(100)), [none, Some(owner), none]);
        assert_eq!(read(101, &all[..2], changed(100)), [Some(owner), Some(owner), none], "unblocked");
    }
}
