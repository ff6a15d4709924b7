//! People who are known by our token alone: those behind CI jobs, and those whose token came without a session.
//!
//! They are read now, not when the token was made: whether GitLab lets them in, and what they are a member of.

use super::{
    Marks, Memberships,
    cell::{Cell, Clock, Need, elapsed},
    directory::{Directory, number},
    flight::Flight,
};
use crate::{
    config::ProviderSettings,
    principal::{Bearer, Groups, Membership, MembershipSource, Person, Principal, UserId},
    refusal::{Reason, Refusal},
};
use arc_swap::ArcSwap;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// After a read that failed, the next waits so long.
const BACK_OFF: Duration = Duration::from_secs(2);

/// Whether somebody of `provider` is read with a token of ours whenever they ask, whatever theirs says.
pub fn is_read(provider: &ProviderSettings, user: &UserId) -> bool {
    provider.api.is_some() && number(user).is_some()
}

/// What is known of one person without a word of theirs.
#[derive(Default)]
pub(super) struct Behind {
    pub(super) cell: Cell,
    standing: ArcSwap<Standing>,
    reading: Flight,
}

/// Whether GitLab lets somebody in.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// What it said, and when it was asked.
    said: Option<(bool, SystemTime)>,
    /// When it last gave no answer, and whether it could not be reached.
    failed: Option<(SystemTime, bool)>,
}

/// Whether somebody may ask at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admitted {
    Yes(SystemTime),
    No,
    Unknown,
}

impl Standing {
    /// What has to be done before it can be used; `changed`: when GitLab last said that the person changed.
    fn need(self, changed: Option<SystemTime>, now: SystemTime, clock: &Clock) -> Need {
        if self.failed.is_some_and(|(at, _)| elapsed(at, now) < BACK_OFF) {
            return Need::Nothing;
        }
        let said = self.said.filter(|(_, read)| changed.is_none_or(|at| *read >= at));
        said.map_or(Need::Read, |(_, read)| clock.need(elapsed(read, now)))
    }

    fn admitted(self, changed: Option<SystemTime>, now: SystemTime, clock: &Clock) -> Admitted {
        let outage = self.failed.is_some_and(|(_, outage)| outage);
        let limit = if outage { clock.tables.1 } else { clock.tables.0 };
        match self.said {
            Some((false, _)) => Admitted::No, // what ends access holds until it is said otherwise
            Some((true, read)) if elapsed(read, now) <= limit && changed.is_none_or(|at| read >= at) => {
                Admitted::Yes(read)
            }
            Some((true, _)) | None => Admitted::Unknown,
        }
    }
}

impl Memberships {
    /// Who came with a token, with groups that are fresh enough to decide with. Whoever GitLab does not let in any more is
    /// refused, whatever their token says.
    ///
    /// # Errors
    /// `PersonInactive`; `MembershipUnknown` where nobody can say whether they are.
    pub(super) async fn of_bearer(self: &Arc<Self>, bearer: &Bearer, now: SystemTime) -> Result<Principal, Refusal> {
        let person = bearer.holder.person();
        let read = match person {
            Some(person) => self.behind(person, now).await?,
            None => None,
        };
        Ok(bearer.principal(read.unwrap_or_else(|| bearer.membership.clone())))
    }

    /// What is read of a person with a token of ours; nothing where there is none for their provider.
    async fn behind(self: &Arc<Self>, person: &Arc<Person>, now: SystemTime) -> Result<Option<Membership>, Refusal> {
        let Some((directory, clock)) = self.reader_of(&person.id) else { return Ok(None) };
        let behind = self.behind.get_with(person.id.clone(), Arc::default);
        let changed = directory.changed_since(&person.id, now);
        let standing = behind.standing.load().need(changed, now, &clock);
        let groups = match directory.has_changed(&person.id, now) && !behind.cell.is_alone_backing_off(now) {
            true => Need::Changed,
            false => directory.need(now, &clock),
        };
        match standing.max(groups) {
            Need::Nothing => {}
            Need::ReadAhead if behind.cell.claims_read_ahead(now) => {
                let (this, person, behind) = (self.clone(), person.id.clone(), behind.clone());
                self.control.start(async move { this.read_behind(&person, &behind, (standing, groups)).await });
            }
            Need::ReadAhead => {}
            Need::Read if behind.is_late(changed, now, &clock) => {}
            Need::Read | Need::Asked | Need::Changed | Need::Anew => {
                Box::pin(self.read_behind_and_wait(person, &behind, (standing, groups))).await;
            }
        }
        let now = SystemTime::now().max(now);
        let changed = directory.changed_since(&person.id, now);
        match behind.standing.load().admitted(changed, now, &clock) {
            Admitted::No => Err(Refusal::new(
                Reason::PersonInactive,
                "The person behind this credential is not active at the provider any more.",
            )
            .because(format!("`{}` is blocked, deactivated or gone", person.id))),
            Admitted::Unknown => Err(Refusal::new(
                Reason::MembershipUnknown,
                "Whether the person behind this credential is still active cannot be looked up right now.",
            )),
            Admitted::Yes(read) => Ok(Some(self.groups_of(person, &behind, &directory, read, now, &clock))),
        }
    }

    fn groups_of(
        &self,
        person: &Arc<Person>,
        behind: &Behind,
        directory: &Directory,
        read: SystemTime,
        now: SystemTime,
        clock: &Clock,
    ) -> Membership {
        let nothing = Groups {
            paths: Arc::default(),
            roles: Arc::default(),
            unread: Arc::default(),
            source: MembershipSource::Api,
            read,
            version: 0, // that there is nothing else never changes
            stale: false,
            aside: None,
        };
        let by_session = self.cells.contains_key(&person.id); // then the change is told there
        self.merged(person, &behind.cell, directory, nothing, by_session, now, clock)
    }

    /// Who reads people of this user's provider with a token of ours, and by which clock.
    fn reader_of(&self, user: &UserId) -> Option<(Arc<Directory>, Clock)> {
        let directory = self.directory(user).filter(|_| number(user).is_some())?;
        let provider = self.control.provider(&user.provider)?;
        Some((directory, Clock::of(&provider.settings, false)))
    }

    async fn read_behind_and_wait(self: &Arc<Self>, person: &Arc<Person>, behind: &Arc<Behind>, needs: (Need, Need)) {
        let (this, user, own) = (self.clone(), person.id.clone(), behind.clone());
        let read = self.control.run(async move { this.read_behind(&user, &own, needs).await });
        if timeout(super::PATIENCE, read).await.is_err() {
            behind.reading.note_late(); // what is known then is judged by its age
        }
    }

    async fn read_behind(self: &Arc<Self>, user: &UserId, behind: &Behind, (standing, groups): (Need, Need)) {
        let Some((directory, clock)) = self.reader_of(user) else { return };
        let own = async {
            if standing != Need::Nothing {
                behind.read_standing(user, &directory).await;
            }
        };
        let groups = async {
            match groups {
                Need::Nothing => {}
                Need::ReadAhead => directory.read(clock.refresh.mul_f64(0.5)).await,
                Need::Read => directory.read(clock.refresh).await,
                Need::Asked | Need::Changed | Need::Anew => {
                    directory.read(clock.refresh).await;
                    self.read_alone(&directory, &behind.cell, user, groups).await;
                }
            }
        };
        tokio::join!(own, groups);
    }

    /// Reads the groups of whoever came with a refused token again, unless that was just done. True if they are other than
    /// before.
    pub(super) async fn bearer_again(self: &Arc<Self>, bearer: &Bearer, now: SystemTime) -> bool {
        let Some(person) = bearer.holder.person() else { return false };
        let Some(behind) = self.behind.get(&person.id) else { return false };
        if !behind.cell.claims_again(now, super::AGAIN) {
            return false;
        }
        let before = self.marks_behind(&person.id);
        Box::pin(self.read_behind_and_wait(person, &behind, (Need::Nothing, Need::Asked))).await;
        self.marks_behind(&person.id) != before
    }

    /// What decisions about the person behind a token rest on.
    pub fn marks_behind(&self, user: &UserId) -> Marks {
        let behind = self.behind.get(user);
        Marks(behind.map(|behind| behind.cell.made(0, self.directory(user).as_deref())))
    }

    /// What is known of a person whom only tokens brought here. Nothing is read.
    pub(super) fn known_behind(&self, person: &Arc<Person>, now: SystemTime) -> Option<Membership> {
        let (directory, clock) = self.reader_of(&person.id)?;
        let behind = self.behind.get(&person.id)?;
        Some(self.groups_of(person, &behind, &directory, now, now, &clock))
    }

    /// GitLab named somebody of whom a token came lately: they are read again, while its own caches may lag behind.
    pub(super) async fn read_named_behind(self: &Arc<Self>, user: &UserId) {
        if let Some(behind) = self.behind.get(user) {
            self.read_behind(user, &behind, (Need::Read, Need::Anew)).await;
        }
    }
}

impl Behind {
    /// Somebody has waited in vain for the read that is under way, and what is known may be decided with.
    fn is_late(&self, changed: Option<SystemTime>, now: SystemTime, clock: &Clock) -> bool {
        let known = matches!(self.standing.load().admitted(changed, now, clock), Admitted::Yes(_));
        known && self.reading.is_late()
    }

    async fn read_standing(&self, user: &UserId, directory: &Directory) {
        let (Some(turn), Some(id)) = (self.reading.turn().await, number(user)) else { return };
        turn.begin();
        let begun = SystemTime::now();
        let answer = directory.is_active(id).await;
        let before = **self.standing.load();
        let now = match answer {
            Ok(active) => Standing { said: Some((active, begun)), failed: None },
            Err(error) => {
                tracing::warn!(%user, %error, "whether a person is active was not read");
                Standing { failed: Some((SystemTime::now(), error.is_outage())), ..before }
            }
        };
        self.standing.store(Arc::new(now));
    }
}
