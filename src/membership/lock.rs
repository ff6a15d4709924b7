//! Whoever a lock keeps out is refused at each use. Groups are looked up only where a lock hinges on them.

use super::Memberships;
use crate::{
    identify::Caller,
    moment::to_the_second,
    principal::{Bearer, Membership, Person, Unknown},
    refusal::{Reason, Refusal},
    session::{
        Live,
        lock::{Barred, Lock},
    },
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

impl Memberships {
    /// Refuses a caller whom a lock keeps out, or one by group might and nobody can tell: the person of the session or token,
    /// the one behind the job, the service. While there is no lock this costs a load of one atomic.
    ///
    /// # Errors
    /// `Locked`, `MembershipUnknown`.
    pub async fn unlocked(self: &Arc<Self>, caller: &Caller, now: SystemTime) -> Result<(), Refusal> {
        if self.control.locks.is_empty() {
            return Ok(());
        }
        match caller {
            Caller::Anonymous => Ok(()),
            Caller::Person(live) | Caller::Foreign(live) => Box::pin(self.admitted(live, now)).await,
            Caller::Token(bearer) => Box::pin(self.admitted_bearer(bearer, now)).await,
        }
    }

    async fn admitted_bearer(self: &Arc<Self>, bearer: &Bearer, now: SystemTime) -> Result<(), Refusal> {
        self.name_locked();
        let user = bearer.holder.user();
        if let Some(lock) = self.control.locks.bar(&bearer.own_id(), &Membership::Unknown(Unknown::NeverRead), now) {
            refusal(Some(lock).filter(|barred| matches!(barred, Barred::By(_))))?; // its own id or issuer is locked
        }
        let mut membership = bearer.membership.clone();
        if self.control.locks.asks_for_groups(&user.provider, now)
            && let Some(known) = self.of_bearer(bearer, now).await?.membership()
        {
            membership = known.clone();
        }
        refusal(self.control.locks.bar(user, &membership, now))
    }

    /// What the locks say about whoever came with this token, by what is known of their groups now.
    fn barred_bearer(&self, bearer: &Bearer, now: SystemTime) -> Option<Barred> {
        let own = self.control.locks.bar(&bearer.own_id(), &Membership::Unknown(Unknown::NeverRead), now);
        if let Some(Barred::By(_)) = own {
            return own;
        }
        let known = bearer.holder.person().and_then(|person| self.known_behind(person, now));
        self.control.locks.bar(bearer.holder.user(), known.as_ref().unwrap_or(&bearer.membership), now)
    }

    async fn admitted(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) -> Result<(), Refusal> {
        self.name_locked();
        if self.control.locks.asks_for_groups(&live.session.person.id.provider, now) {
            self.of_session(live, now).await; // reads them, if it is time
        }
        refusal(self.barred(live, now))
    }

    /// What the locks say about the holder of a session, by what is known of their groups now.
    pub fn barred(&self, live: &Live, now: SystemTime) -> Option<Barred> {
        self.control.locks.bar(&live.session.person.id, &self.at_hand(live, now), now)
    }

    /// Ends every stream of those whom a lock keeps out; how many there were. Nobody is asked for groups.
    pub fn cut_locked(&self, now: SystemTime) -> usize {
        self.name_locked();
        let mut cut = 0;
        for (id, stream) in self.control.streams.snapshot() {
            let key = stream.session.as_ref().map(|session| crate::session::SessionKey(session.key));
            let barred = match (&stream.bearer, key.and_then(|key| self.control.held(&key))) {
                (Some(bearer), _) => self.barred_bearer(bearer, now),
                (None, Some(live)) => self.barred(&live, now),
                (None, None) => continue,
            };
            let reason = match barred {
                None => continue,
                Some(Barred::By(_)) => Reason::Locked,
                Some(Barred::Unknown) => continue, // whoever keeps watch over streams asks first
            };
            self.control.streams.cut(id, reason);
            cut += 1;
        }
        cut
    }

    /// What is known of the groups of whoever holds this session. Nothing is read.
    pub fn at_hand(&self, live: &Live, now: SystemTime) -> Membership {
        self.known(&live.session.person, self.clock(live), now)
    }

    /// What is known of a person's groups. Nothing is read.
    pub fn of(&self, person: &Person, now: SystemTime) -> Membership {
        let provider = self.control.provider_of(person);
        self.known(person, provider.map(|provider| super::Clock::of(&provider.settings, false)), now)
    }

    fn known(&self, person: &Person, clock: Option<super::Clock>, now: SystemTime) -> Membership {
        let (Some(cell), Some(clock)) = (self.cells.get(&person.id), clock) else {
            return Membership::Unknown(Unknown::NeverRead);
        };
        match (self.directory(&person.id), cell.view(now, &clock)) {
            (Some(directory), Membership::Known(base)) => {
                let last = cell.merged.load_full();
                let of = cell.made(base.version, Some(&directory));
                Membership::Known(directory.merge(&person.id, base, (of, last.as_deref()), now, &clock).groups)
            }
            (_, view) => view,
        }
    }

    /// Groups that locks name are read like those that policies name.
    fn name_locked(&self) {
        let version = self.control.locks.version();
        if self.locks.swap(version, Ordering::AcqRel) != version {
            self.name_all_groups();
        }
    }
}

fn refusal(barred: Option<Barred>) -> Result<(), Refusal> {
    match barred {
        None => Ok(()),
        Some(Barred::By(lock)) => Err(Refusal::new(Reason::Locked, told(&lock)).because(cause(&lock))),
        Some(Barred::Unknown) => Err(Refusal::new(
            Reason::MembershipUnknown,
            "The members of a group are locked out, and whether you are one cannot be looked up right now.",
        )),
    }
}

/// What a person reads who is kept out.
fn told(lock: &Lock) -> String {
    let until = lock.until.map_or_else(String::new, |until| format!(" until `{}`", to_the_second(until)));
    let reason = lock.reason.trim_end_matches('.');
    format!("Whoever runs this place has locked your access{until}: {reason}.")
}

fn cause(lock: &Lock) -> String {
    format!("locked by {}: {} {}", lock.by, lock.target.kind(), lock.target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::lock::Target;

    #[test]
    fn a_person_reads_why_and_until_when() {
        let lock = |until: Option<u64>| Lock {
            target: Target::parse("user", "gitlab:907").expect("a target"),
            reason: "Your laptop was stolen.".into(),
            until: until.map(crate::session::log::moment),
            since: SystemTime::now(),
            by: "uid 0".into(),
        };
        let text = told(&lock(Some(1_795_416_594_250)));
        assert!(text.contains("access until `2026-11-23T06:49:54Z`: Your laptop was stolen."), "{text}");
        assert!(told(&lock(None)).contains("access: Your laptop was stolen."));
        assert_eq!(cause(&lock(None)), "locked by uid 0: user gitlab:907");
    }
}
