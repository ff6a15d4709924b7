//! From a caller to a principal: which groups a person is in, as of when, and by whose word.
//!
//! Membership has its own clock, apart from the session's. It is known, known empty, or unknown, and unknown is never
//! empty.

mod bearers;
mod budget;
mod cell;
mod changed;
mod directory;
mod flight;
mod gone;
mod hooks;
mod jobs;
mod keeper;
mod lock;

pub use bearers::is_read;
pub use keeper::TokenStatus;

use crate::{
    audit::{Audit, Event},
    config::{MembershipApi, ProviderSettings, Settings},
    control::Control,
    gitlab::{Api, ApiError},
    group::GroupPath,
    identify::Caller,
    oidc::{GroupList, ProviderError},
    principal::{Groups, Membership, MembershipSource, Name, Person, Principal, UserId},
    refusal::Refusal,
    session::{Live, lock::Target},
};
use arc_swap::ArcSwap;
use bearers::Behind;
use cell::{Cell, Change, Clock, Made, Merged, Need};
use directory::Directory;
use hooks::Heard;
use jobs::Run;
use keeper::Keeper;
use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// How long a request waits for a read before it goes on with what is known.
const PATIENCE: Duration = Duration::from_secs(2);

/// A refused person's groups are read again at most this often.
const AGAIN: Duration = Duration::from_secs(5);

/// A person who asks for it has their groups read again at most this often.
const ASKED: Duration = Duration::from_secs(1);

/// How often what two sources tell is put together again although neither changed: what they told grows old.
const TOGETHER: Duration = Duration::from_secs(2);

/// The memberships of all people who were seen lately.
pub struct Memberships {
    control: Arc<Control>,
    audit: Audit,
    cells: moka::sync::Cache<UserId, Arc<Cell>>,
    /// People of whom only tokens came.
    behind: moka::sync::Cache<UserId, Arc<Behind>>,
    /// Jobs of which it was asked whether they run.
    runs: moka::sync::Cache<UserId, Arc<Run>>,
    directories: ArcSwap<HashMap<Name, Arc<Directory>>>,
    /// The ids of the groups that policies name.
    named: ArcSwap<BTreeSet<String>>,
    /// Those that the shadow policies name.
    shadow: ArcSwap<BTreeSet<String>>,
    /// The version of the locks whose groups are named beside them.
    locks: AtomicU64,
    /// Held while it is said which groups are to be read.
    naming: Mutex<()>,
    heard: Heard,
}

/// What an open stream was decided on; other marks are a reason to decide again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Marks(Option<Made>);

impl Memberships {
    /// None yet.
    pub fn new(control: Arc<Control>, audit: Audit) -> Arc<Self> {
        let cells = moka::sync::Cache::builder().max_capacity(200_000).time_to_idle(Duration::from_secs(3600)).build();
        let behind = moka::sync::Cache::builder().max_capacity(50_000).time_to_idle(Duration::from_secs(3600)).build();
        let runs = moka::sync::Cache::builder().max_capacity(50_000).time_to_idle(Duration::from_secs(3600)).build();
        let (directories, named, locks, heard) =
            (ArcSwap::default(), ArcSwap::default(), AtomicU64::default(), Heard::default());
        let (shadow, naming) = (ArcSwap::default(), Mutex::default());
        Arc::new(Self { control, audit, cells, behind, runs, directories, named, shadow, locks, naming, heard })
    }

    /// Who the caller is, with groups that are fresh enough to decide with.
    ///
    /// Past three quarters of the interval the next read is started, past the whole of it the request waits for one read
    /// that all share, two seconds at most; once somebody has waited so long in vain, the others do not.
    ///
    /// # Errors
    /// `PersonInactive` and `MembershipUnknown`, for whoever came with a token.
    pub async fn principal(self: &Arc<Self>, caller: &Caller, now: SystemTime) -> Result<Principal, Refusal> {
        match caller {
            Caller::Anonymous | Caller::Foreign(_) => Ok(Principal::Anonymous),
            Caller::Person(live) => Ok(self.of_session(live, now).await),
            Caller::Token(bearer) => self.of_bearer(bearer, now).await,
        }
    }

    async fn of_session(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) -> Principal {
        let Some(clock) = self.clock(live) else { return Principal::Anonymous };
        let id = &live.session.person.id;
        let cell = self.cell(id);
        let mut need = cell.need(now, &clock);
        if need != Need::Nothing && self.take_brought(&cell, live, now) {
            need = cell.need(now, &clock);
        }
        if need != Need::Nothing && (cell.is_backing_off(now, &clock) || cell.is_late(now, &clock)) {
            need = Need::Nothing;
        }
        let directory = self.directory(id);
        let more = match &directory {
            Some(directory) if directory.has_changed(id, now) && !cell.is_alone_backing_off(now) => Need::Changed,
            Some(directory) => directory.need(now, &clock),
            None => Need::Nothing,
        };
        if let Some(directory) = directory.as_ref().filter(|directory| directory.aside_is_due(now, &clock)) {
            let (directory, older) = (directory.clone(), clock.refresh.mul_f64(0.5));
            self.control.aside(async move { directory.read_aside(older).await });
        }
        match need.max(more) {
            Need::Nothing => {}
            Need::ReadAhead => self.read_ahead(&cell, live, (need, more), now),
            Need::Read | Need::Asked | Need::Changed | Need::Anew => {
                Box::pin(self.read_and_wait(&cell, live, (need, more))).await;
            }
        }
        if live.is_ended() {
            return Principal::Anonymous;
        }
        user(live, self.view(live, &cell, directory.as_deref(), SystemTime::now().max(now), &clock))
    }

    /// Reads a refused person's groups again, unless that was just done. True if they are other than before.
    pub async fn read_again(self: &Arc<Self>, caller: &Caller, now: SystemTime) -> bool {
        let live = match caller {
            Caller::Person(live) => live,
            Caller::Token(bearer) => return self.bearer_again(bearer, now).await,
            Caller::Anonymous | Caller::Foreign(_) => return false,
        };
        let Some(clock) = self.clock(live) else { return false };
        let cell = self.cell(&live.session.person.id);
        if cell.is_backing_off(now, &clock) || !cell.claims_again(now, AGAIN) {
            return false;
        }
        let before = self.marks(&live.session.person.id);
        self.read_and_wait(&cell, live, (Need::Anew, Need::Asked)).await;
        self.marks(&live.session.person.id) != before
    }

    /// Reads a person's groups anew because they ask for it, whatever was just read. Waits two seconds at most.
    pub async fn check_again(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) {
        let Some(clock) = self.clock(live) else { return };
        let cell = self.cell(&live.session.person.id);
        let pause = if self.directory(&live.session.person.id).is_some() { AGAIN } else { ASKED };
        if !cell.is_backing_off(now, &clock) && cell.claims_check(now, pause) {
            self.read_and_wait(&cell, live, (Need::Anew, Need::Asked)).await;
        }
    }

    /// Takes the groups that a sign-in brought that began at `now`.
    pub fn learn(&self, person: &Arc<Person>, list: Option<GroupList>, now: SystemTime) {
        let cell = self.cell(&person.id);
        self.audited(person, cell.signed_in(list, now), now);
    }

    /// What decisions about this person rest on.
    pub fn marks(&self, user: &UserId) -> Marks {
        let cell = self.cells.get(user);
        Marks(cell.map(|cell| cell.made(cell.version().unwrap_or(0), self.directory(user).as_deref())))
    }

    /// Forgets what everybody's groups were: a provider is read another way now, or is another one.
    pub fn forget(&self) {
        self.cells.invalidate_all();
        self.behind.invalidate_all();
    }

    /// Takes a configuration, and the ids of the groups that its policies and its shadow policies name.
    pub fn configure(&self, settings: &Settings, named: &BTreeSet<String>, shadow: &BTreeSet<String>) {
        let before = self.directories.load();
        let directory = |provider: &Arc<ProviderSettings>| {
            let api = provider.api.as_ref()?;
            let made = |there: &&Arc<Directory>| there.api.is_at(&api.url) && there.rotates() == api.rotate;
            let directory = match before.get(&provider.name).filter(made) {
                Some(there) => there.clone(),
                None => self.new_directory(provider, api, &settings.state),
            };
            if directory.api.configure(&api.token) {
                directory.keeper.recall();
            }
            directory.api.lend(&api.lent);
            Some((provider.name.clone(), directory))
        };
        self.named.store(Arc::new(named.clone()));
        self.shadow.store(Arc::new(shadow.clone()));
        self.directories.store(Arc::new(settings.providers.iter().filter_map(directory).collect()));
        self.name_all_groups();
    }

    /// Says which groups are to be read.
    fn name_all_groups(&self) {
        let _one = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        for (provider, directory) in &**self.directories.load() {
            directory.name(&self.named_at(provider), &paths(&self.shadow.load(), provider.as_str()));
        }
    }

    /// The groups of a provider that policies name, and those that locks do.
    fn named_at(&self, provider: &Name) -> BTreeSet<GroupPath> {
        let locks = self.control.locks.all();
        let locked = locks.iter().filter_map(|lock| match &lock.target {
            Target::Group(members) if members.provider == *provider => Some(members.group.clone()),
            _ => None,
        });
        paths(&self.named.load(), provider.as_str()).into_iter().chain(locked).collect()
    }

    fn new_directory(&self, provider: &ProviderSettings, settings: &MembershipApi, state: &Path) -> Arc<Directory> {
        let (api, name) = (Api::new(&settings.url), provider.name.clone());
        let (control, audit) = (self.control.clone(), self.audit.clone());
        let keeper = Keeper::new(api.clone(), name, state, settings.rotate, control, audit);
        api.configure(&settings.token); // before anything is asked with it
        keeper.recall();
        let watched = self.control.watch(keeper.clone().keep());
        Arc::new(Directory::new(api, keeper, watched))
    }

    /// How it stands with our tokens for GitLab's API, by provider.
    pub fn tokens(&self) -> Vec<(Name, TokenStatus)> {
        let directories = self.directories.load();
        directories.iter().map(|(name, directory)| (name.clone(), directory.keeper.status())).collect()
    }

    /// The groups that are to be read with our token, and cannot, by provider.
    pub fn unreadable(&self) -> Vec<(Name, GroupPath)> {
        let directories = self.directories.load();
        let all = directories
            .iter()
            .flat_map(|(name, directory)| directory.unreadable().into_iter().map(|group| (name.clone(), group)));
        all.collect()
    }

    /// Whether there is such a group that our token sees; `None`: nobody can say.
    pub async fn sees(&self, provider: &Name, group: &GroupPath) -> Option<bool> {
        let directory = self.directories.load().get(provider).cloned()?;
        match directory.api.group(group).await {
            Ok(_) => Some(true),
            Err(ApiError::Missing) => Some(false),
            Err(_) => None,
        }
    }

    fn directory(&self, user: &UserId) -> Option<Arc<Directory>> {
        self.directories.load().get(&user.provider).cloned()
    }

    /// What may be decided with: what the person's own token tells, and what is read with ours.
    fn view(
        &self,
        live: &Live,
        cell: &Cell,
        directory: Option<&Directory>,
        now: SystemTime,
        clock: &Clock,
    ) -> Membership {
        let (directory, base) = match (directory, cell.view(now, clock)) {
            (Some(directory), Membership::Known(base)) => (directory, base),
            (_, view) => return view,
        };
        self.merged(&live.session.person, cell, directory, base, false, now, clock)
    }

    /// `base` and what is read with our token, put together; as it was made last, where nothing changed since.
    #[allow(clippy::too_many_arguments)]
    fn merged(
        &self,
        person: &Arc<Person>,
        cell: &Cell,
        directory: &Directory,
        base: Groups,
        quietly: bool,
        now: SystemTime,
        clock: &Clock,
    ) -> Membership {
        let last = cell.merged.load_full();
        let of = cell.made(base.version, Some(directory));
        let fits =
            |last: &&Arc<Merged>| last.of == of && now.duration_since(last.made).is_ok_and(|since| since < TOGETHER);
        if let Some(last) = last.as_ref().filter(fits) {
            return Membership::Known(last.groups.clone());
        }
        let merged = directory.merge(&person.id, base, (of, last.as_deref()), now, clock);
        if let Some(last) = last.as_ref().filter(|_| !quietly) {
            self.record(person, Change::between(&last.groups, &merged.groups), now);
        }
        let groups = merged.groups.clone();
        cell.merged.store(Some(Arc::new(merged)));
        Membership::Known(groups)
    }

    fn cell(&self, user: &UserId) -> Arc<Cell> {
        match self.cells.get(user) {
            Some(cell) => cell,
            None => self.cells.get_with(user.clone(), Arc::default),
        }
    }

    fn clock(&self, live: &Live) -> Option<Clock> {
        let provider = self.control.provider_of(&live.session.person)?;
        Some(Clock::of(&provider.settings, live.held_groups().is_some()))
    }

    fn read_ahead(self: &Arc<Self>, cell: &Arc<Cell>, live: &Arc<Live>, needs: (Need, Need), now: SystemTime) {
        if cell.claims_read_ahead(now) {
            let (this, cell, live) = (self.clone(), cell.clone(), live.clone());
            self.control.start(async move { this.read_both(&cell, &live, needs).await });
        }
    }

    async fn read_and_wait(self: &Arc<Self>, cell: &Arc<Cell>, live: &Arc<Live>, needs: (Need, Need)) {
        let (this, own, live) = (self.clone(), cell.clone(), live.clone());
        let read = self.control.run(async move { this.read_both(&own, &live, needs).await });
        if timeout(PATIENCE, read).await.is_err() {
            cell.own.note_late();
        }
    }

    /// Reads what the person's own token tells, and what ours does, side by side.
    async fn read_both(&self, cell: &Cell, live: &Arc<Live>, (own, ours): (Need, Need)) {
        let own = async {
            if own != Need::Nothing {
                self.read(cell, live, own).await;
            }
        };
        let ours = async {
            let user = &live.session.person.id;
            let (Some(directory), Some(clock)) = (self.directory(user), self.clock(live)) else { return };
            match ours {
                Need::Nothing => {}
                Need::ReadAhead => directory.read(clock.refresh.mul_f64(0.5)).await,
                Need::Read => directory.read(clock.refresh).await,
                Need::Asked | Need::Changed | Need::Anew => {
                    directory.read(clock.refresh).await; // that there is such a group at all
                    self.read_alone(&directory, cell, user, ours).await;
                }
            }
        };
        tokio::join!(own, ours);
    }

    /// Reads one person with our token, in every group that is named: one call for each. What a hook asks for is free once in a
    /// while for each person; all else is as much as there is budget for.
    async fn read_alone(&self, directory: &Arc<Directory>, cell: &Cell, user: &UserId, need: Need) {
        let Some(turn) = cell.alone.turn().await else { return };
        let now = SystemTime::now();
        if need == Need::Changed && !directory.has_changed(user, now) {
            return; // a read that had begun before was late enough
        }
        let free = need != Need::Asked && cell.claims_alone(now);
        if !free && !directory.budget.takes(directory.size(), now) {
            return;
        }
        turn.begin();
        let read = directory.read_alone(user).await;
        if let Err(error) = &read {
            tracing::warn!(%user, %error, "roles were not read");
        }
        cell.read_alone(read.is_ok(), SystemTime::now());
        if directory.has_aside() {
            let (directory, user) = (directory.clone(), user.clone());
            self.control.aside(async move { directory.read_alone_aside(&user).await });
        }
    }

    /// One read at a time per person.
    async fn read(&self, cell: &Cell, live: &Arc<Live>, need: Need) {
        let Some(turn) = cell.own.turn().await else { return };
        let Some(clock) = self.clock(live) else { return };
        let now = SystemTime::now();
        if need < Need::Changed && (cell.need(now, &clock) < need || cell.is_backing_off(now, &clock)) {
            return; // a read that had begun before brought it
        }
        turn.begin();
        let begun = cell.begin(now);
        let answer = self.control.read_groups(live).await;
        if let Err(error) = &answer {
            tracing::warn!(user = %live.session.person.id, %error, "groups were not read");
        }
        let now = SystemTime::now();
        let person = &live.session.person;
        let change = match answer {
            Ok(Some(list)) => cell.answer_of(begun, Ok(Some(list)), now),
            // A refresh that somebody else had begun may have brought them.
            Ok(None) if self.take_brought(cell, live, now) => None,
            Ok(None) => match live.held_groups() {
                Some(paths) => {
                    let held = GroupList { paths: paths.to_vec(), source: MembershipSource::IdToken };
                    cell.recall(held, live.session.created, now)
                }
                None => cell.answer(Ok(None), now),
            },
            Err(ProviderError::Unavailable { cause, .. }) => cell.answer(Err(cause), now),
            Err(other) => {
                tracing::debug!(%other, "not an outage");
                cell.answer(Ok(None), now)
            }
        };
        self.audited(person, change, now);
    }

    /// Takes the groups that an ordinary refresh of the session's tokens has brought. True if there were any.
    fn take_brought(&self, cell: &Cell, live: &Live, now: SystemTime) -> bool {
        let Some((list, read)) = live.take_brought() else { return false };
        self.audited(&live.session.person, cell.learn(list, read, now), now);
        true
    }

    /// Records how what a person's own token tells changed; where ours is read too, the two are recorded together.
    fn audited(&self, person: &Arc<Person>, change: Option<Change>, now: SystemTime) {
        if self.directory(&person.id).is_none() {
            self.record(person, change, now);
        }
    }

    fn record(&self, person: &Arc<Person>, change: Option<Change>, now: SystemTime) {
        if let Some(Change { added, removed, source }) = change {
            let person = person.clone();
            self.audit.record(Event::GroupsChanged { person, added, removed, source }, now);
        }
    }
}

/// The groups of `provider` among the ids that policies name: `gitlab:acme/platform#maintainer` is about `acme/platform`.
fn paths(named: &BTreeSet<String>, provider: &str) -> BTreeSet<GroupPath> {
    let own = named.iter().filter_map(|id| id.split_once(':').filter(|(of, _)| *of == provider));
    own.filter_map(|(_, path)| path.split('#').next()?.parse().ok()).collect()
}

impl Clock {
    /// The clock of a provider; where the ID token's groups are all there will ever be, they last as long as the session.
    fn of(settings: &ProviderSettings, held: bool) -> Self {
        let refresh = settings.membership_refresh;
        let usual = (refresh * 2).max(Duration::from_secs(300));
        let limit = if held { settings.without_refresh } else { usual };
        // A provider that has no list to tell is asked whether the person is still there, as often as others are for groups.
        let silent = settings.groups_claim.is_none().then_some(refresh);
        let outage = settings.membership_outage;
        Self { refresh, limit, outage: outage.max(limit), tables: (usual, outage.max(usual)), silent }
    }
}

fn user(live: &Live, membership: Membership) -> Principal {
    Principal::User { person: live.session.person.clone(), membership, strength: live.session.strength.clone() }
}
