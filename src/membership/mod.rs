//! From a caller to a principal: which groups a person is in, as of when, and by whose word.
//!
//! Membership has its own clock, apart from the session's. It is known, known empty, or unknown, and unknown is never
//! empty.

mod cell;

use crate::{
    audit::{Audit, Event},
    config::ProviderSettings,
    control::Control,
    identify::Caller,
    oidc::{GroupList, ProviderError},
    principal::{Membership, MembershipSource, Person, Principal, UserId},
    session::Live,
};
use cell::{Cell, Change, Clock, Need};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// How long a request waits for a read before it goes on with what is known.
const PATIENCE: Duration = Duration::from_secs(2);

/// A refused person's groups are read again at most this often.
const AGAIN: Duration = Duration::from_secs(5);

/// The memberships of all people who were seen lately.
pub struct Memberships {
    control: Arc<Control>,
    audit: Audit,
    cells: moka::sync::Cache<UserId, Arc<Cell>>,
}

impl Memberships {
    /// None yet.
    pub fn new(control: Arc<Control>, audit: Audit) -> Arc<Self> {
        let cells = moka::sync::Cache::builder().max_capacity(200_000).time_to_idle(Duration::from_secs(3600)).build();
        Arc::new(Self { control, audit, cells })
    }

    /// Who the caller is, with groups that are fresh enough to decide with.
    ///
    /// Past three quarters of the interval the next read is started, past the whole of it the request waits for one read
    /// that all share, two seconds at most.
    pub async fn principal(self: &Arc<Self>, caller: &Caller, now: SystemTime) -> Principal {
        let Caller::Person(live) = caller else { return Principal::Anonymous };
        let Some(clock) = self.clock(live) else { return Principal::Anonymous };
        let cell = self.cell(&live.session.person.id);
        let mut need = cell.need(now, &clock);
        if need != Need::Nothing && self.take_brought(&cell, live, now) {
            need = cell.need(now, &clock);
        }
        match need {
            Need::Nothing => {}
            _ if cell.is_backing_off(now, &clock) => {}
            Need::ReadAhead => self.read_ahead(&cell, live, now),
            Need::Read => Box::pin(self.read_and_wait(&cell, live)).await,
        }
        if live.is_ended() {
            return Principal::Anonymous;
        }
        user(live, cell.view(now, &clock))
    }

    /// Reads a refused person's groups again, unless that was just done. True if they are other than before.
    pub async fn read_again(self: &Arc<Self>, caller: &Caller, now: SystemTime) -> bool {
        let Caller::Person(live) = caller else { return false };
        let Some(clock) = self.clock(live) else { return false };
        let cell = self.cell(&live.session.person.id);
        if cell.is_backing_off(now, &clock) || !cell.claims_again(now, AGAIN) {
            return false;
        }
        let before = cell.version();
        self.read_and_wait(&cell, live).await;
        cell.version() != before
    }

    /// Takes the groups that a sign-in brought.
    pub fn learn(&self, person: &Arc<Person>, list: Option<GroupList>, now: SystemTime) {
        let cell = self.cell(&person.id);
        self.audited(person, cell.answer(Ok(list), now), now);
    }

    /// Changes whenever the groups of this person do; nothing for people whose groups were never read.
    pub fn version(&self, user: &UserId) -> Option<u64> {
        self.cells.get(user).and_then(|cell| cell.version())
    }

    /// Forgets what everybody's groups were: a provider is read another way now, or is another one.
    pub fn forget(&self) {
        self.cells.invalidate_all();
    }

    fn cell(&self, user: &UserId) -> Arc<Cell> {
        match self.cells.get(user) {
            Some(cell) => cell,
            None => self.cells.get_with(user.clone(), Arc::default),
        }
    }

    fn clock(&self, live: &Live) -> Option<Clock> {
        let provider = self.control.provider_of(&live.session.person)?;
        let held_groups = live.held_groups();
        Some(Clock::of(&provider.settings, held_groups))
    }

    fn read_ahead(self: &Arc<Self>, cell: &Arc<Cell>, live: &Arc<Live>, now: SystemTime) {
        if cell.claims_read_ahead(now) {
            let (this, cell, live) = (self.clone(), cell.clone(), live.clone());
            self.control.start(async move { this.read(&cell, &live).await });
        }
    }

    async fn read_and_wait(self: &Arc<Self>, cell: &Arc<Cell>, live: &Arc<Live>) {
        let (this, cell, live) = (self.clone(), cell.clone(), live.clone());
        let read = self.control.run(async move { this.read(&cell, &live).await });
        let _ = timeout(PATIENCE, read).await;
    }

    /// One read at a time per person; whoever waited for another's is content with its outcome.
    async fn read(&self, cell: &Cell, live: &Arc<Live>) {
        let asked = cell.attempts();
        let _one = cell.reading.lock().await;
        if cell.attempts() != asked {
            return;
        }
        let answer = self.control.read_groups(live).await;
        if let Err(error) = &answer {
            tracing::warn!(user = %live.session.person.id, %error, "groups were not read");
        }
        let now = SystemTime::now();
        let person = &live.session.person;
        let change = match answer {
            Ok(Some(list)) => cell.answer(Ok(Some(list)), now),
            // A refresh that somebody else had begun may have brought them.
            Ok(None) if self.take_brought(cell, live, now) => None,
            Ok(None) => match live.held_groups() {
                Some(paths) => {
                    let held = GroupList { paths, source: MembershipSource::IdToken };
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

    fn audited(&self, person: &Arc<Person>, change: Option<Change>, now: SystemTime) {
        if let Some(Change { added, removed, source }) = change {
            let person = person.clone();
            self.audit.record(Event::GroupsChanged { person, added, removed, source }, now);
        }
    }
}

impl Clock {
    /// The clock of a provider; where the ID token's groups are all there will ever be, they last as long as the session.
    fn of(settings: &ProviderSettings, held: Option<Vec<crate::group::GroupPath>>) -> Self {
        let refresh = settings.membership_refresh;
        let limit = if held.is_some() { settings.without_refresh } else { (refresh * 2).max(Duration::from_secs(300)) };
        Self { refresh, limit, outage: settings.membership_outage.max(limit) }
    }
}

fn user(live: &Live, membership: Membership) -> Principal {
    Principal::User { person: live.session.person.clone(), membership, strength: live.session.strength.clone() }
}
