//! What GitLab tells unasked takes what was known away at once; what is true now is read at once, after 5 s and after 30 s.

use super::{
    Memberships,
    cell::Need,
    directory::{Directory, number},
    gone::NARROW,
};
use crate::{
    gitlab::hook::About,
    oidc::Provider,
    principal::{Name, UserId},
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::time::sleep;

/// Hooks come in bursts; what they name is read once.
const BURST: Duration = Duration::from_millis(20);
/// When it is read again, counted from the hook: GitLab's own caches may lag behind. The last time is the end of [`NARROW`].
const AFTER: [Duration; 2] = [Duration::from_secs(5), NARROW];
/// What concerns everybody acts at most this often; what comes in between acts together, at the end.
const ALL: Duration = Duration::from_secs(2);
/// The same for what happened to groups of which policies name nothing: they may have been invited to those that are named.
const FOREIGN: Duration = Duration::from_secs(30);
/// So many changes of one person act at once in [`PACE`].
const AT_ONCE: u32 = 10;
/// Of a person who changes more often than that, changes act once in [`SLOWED`], together.
const PACE: Duration = Duration::from_secs(10);
/// See [`PACE`].
const SLOWED: Duration = Duration::from_secs(1);
/// The changes of so many people are followed at once; with one more, everybody may have changed.
const FOLLOWED: usize = 10_000;
/// So many events are remembered, so that one that is delivered again does nothing.
const EVENTS: u64 = 100_000;
/// For this long.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What was heard lately.
pub(super) struct Heard {
    people: Latest<UserId>,
    /// Providers of which everybody may have changed.
    all: Latest<Name>,
    /// People who may be blocked.
    suspects: Latest<UserId>,
    gate: Gate<Name>,
    foreign: Gate<Name>,
    paces: Paces,
    events: moka::sync::Cache<String, ()>,
}

impl Default for Heard {
    fn default() -> Self {
        let events = moka::sync::Cache::builder().max_capacity(EVENTS).time_to_live(REMEMBERED).build();
        Self {
            people: Latest::default(),
            all: Latest::default(),
            suspects: Latest::default(),
            gate: Gate::every(ALL),
            foreign: Gate::every(FOREIGN),
            paces: Paces::default(),
            events,
        }
    }
}

/// The number of the latest change of each that is still followed.
struct Latest<K>(Mutex<HashMap<K, u64>>);

impl<K> Default for Latest<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Clone + Eq + Hash> Latest<K> {
    /// Takes a number for a change; later ones are greater.
    fn next(&self, key: &K) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = all.entry(key.clone()).or_insert(0);
        *number += 1;
        *number
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn is(&self, key: &K, number: u64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key) == Some(&number)
    }

    /// Nobody follows this change any more.
    fn done(&self, key: &K, number: u64) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(key) == Some(&number) {
            all.remove(key);
        }
    }
}

/// When changes acted last.
struct Gate<K> {
    every: Duration,
    last: Mutex<HashMap<K, Passed>>,
}

struct Passed {
    last: Instant,
    /// One waits, and acts for all that come before its turn.
    waits: bool,
}

impl<K: Clone + Eq + Hash> Gate<K> {
    fn every(every: Duration) -> Self {
        Self { every, last: Mutex::default() }
    }

    /// How long a change has to wait; `None`: one that waits already acts for it too.
    fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(passed) = all.get_mut(key) else {
            all.insert(key.clone(), Passed { last: now, waits: false });
            return Some(Duration::ZERO);
        };
        let left = (passed.last + self.every).saturating_duration_since(now);
        match (passed.waits, left.is_zero()) {
            (true, _) => None,
            (false, true) => {
                passed.last = now;
                Some(left)
            }
            (false, false) => {
                passed.waits = true;
                Some(left)
            }
        }
    }

    /// The one that waited acts now.
    fn pass(&self, key: &K, now: Instant) {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(key.clone(), Passed { last: now, waits: false });
    }
}

/// How often people changed lately: whoever may change somebody's memberships does not keep them unknown by doing so all the time.
#[derive(Default)]
struct Paces(Mutex<HashMap<UserId, Pace>>);

struct Pace {
    since: Instant,
    changes: u32,
    waits: bool,
}

/// When a change of a person acts.
#[derive(Debug, Eq, PartialEq)]
enum Acts {
    Now,
    /// After a while, with all that come before.
    Later,
    /// One that waits acts for it.
    Together,
}

impl Paces {
    fn enter(&self, user: &UserId, now: Instant) -> Acts {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= FOLLOWED {
            all.retain(|_, pace| pace.waits || now.saturating_duration_since(pace.since) < PACE);
        }
        let pace = all.entry(user.clone()).or_insert(Pace { since: now, changes: 0, waits: false });
        if pace.waits {
            return Acts::Together;
        }
        if now.saturating_duration_since(pace.since) >= PACE {
            *pace = Pace { since: now, changes: 0, waits: false };
        }
        pace.changes += 1;
        pace.waits = pace.changes > AT_ONCE;
        if pace.waits { Acts::Later } else { Acts::Now }
    }

    /// The one that waited acts now.
    fn act(&self, user: &UserId) {
        if let Some(pace) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(user) {
            pace.waits = false;
        }
    }
}

impl Memberships {
    /// Whether an event with this id comes for the first time.
    pub fn is_new(&self, provider: &Provider, event: &str) -> bool {
        self.heard.events.entry(format!("{} {event}", provider.settings.name)).or_insert(()).is_fresh()
    }

    /// Takes what a hook says. Answers at once; reads follow.
    pub fn heard(self: &Arc<Self>, provider: &Arc<Provider>, about: &About, now: SystemTime) {
        match about {
            About::Person { id, added, group, state } => {
                self.person_changed(provider, *id, (*added, *group, *state), now);
            }
            About::Renamed(paths) if !paths.iter().any(|path| self.concerns(&provider.settings.name, path)) => {}
            About::Group(path) if !self.concerns(&provider.settings.name, path) => {
                self.foreign_changed(&provider.settings.name);
            }
            About::Renamed(_) | About::Group(_) | About::Everybody => {
                self.everybody_changed(&provider.settings.name, now);
            }
            About::Push | About::Nothing => {}
        }
    }

    /// Whether this group lies in a tree of which policies or locks name a part.
    fn concerns(&self, provider: &Name, path: &str) -> bool {
        let root = |path: &str| path.split('/').next().unwrap_or_default().to_lowercase();
        self.named_at(provider).iter().any(|named| root(named.as_str()) == root(path))
    }

    /// Something happened to a group of which policies name nothing: lists are read again soon, and count until then.
    fn foreign_changed(self: &Arc<Self>, name: &Name) {
        let Some(wait) = self.heard.foreign.wait(name, Instant::now()) else { return };
        let (this, name) = (self.clone(), name.clone());
        self.control.aside(async move {
            sleep(wait.max(BURST)).await;
            if !wait.is_zero() {
                this.heard.foreign.pass(&name, Instant::now());
            }
            let directory = this.directories.load().get(&name).cloned();
            if let Some(directory) = directory {
                directory.read(Duration::ZERO).await;
            }
        });
    }

    fn person_changed(
        self: &Arc<Self>,
        provider: &Arc<Provider>,
        id: u64,
        (added, group, state): (bool, Option<u64>, bool),
        now: SystemTime,
    ) {
        let user = UserId { provider: provider.settings.name.clone(), subject: id.to_string().into() };
        if state {
            self.suspect(provider, &user);
        }
        match self.heard.paces.enter(&user, Instant::now()) {
            Acts::Now => self.name_person(&user, id, (added, group), now),
            Acts::Later => {
                let this = self.clone();
                self.control.aside(async move {
                    sleep(SLOWED).await;
                    this.heard.paces.act(&user);
                    this.name_person(&user, id, (false, None), SystemTime::now());
                });
            }
            Acts::Together => {}
        }
    }

    /// What is known of a person has to be read again; at once, and as long as caches may lag behind.
    fn name_person(self: &Arc<Self>, user: &UserId, id: u64, (added, group): (bool, Option<u64>), now: SystemTime) {
        let (user, directory) = (user.clone(), self.directory(user));
        if let Some(directory) = &directory {
            directory.change(id, added, group, now);
        }
        self.cell(&user).name(!added, now); // also of somebody whose sign-in is under way
        if self.heard.people.len() >= FOLLOWED {
            self.everybody_changed(&user.provider, now);
        }
        let (this, mine) = (self.clone(), self.heard.people.next(&user));
        self.control.aside(async move {
            let mut waited = Duration::ZERO;
            for at in [BURST, AFTER[0], AFTER[1] + BURST] {
                sleep(at - waited).await;
                waited = at;
                if !this.heard.people.is(&user, mine) {
                    return; // a later change reads what this one would
                }
                this.read_named(&user, directory.as_ref()).await;
            }
            this.heard.people.done(&user, mine);
        });
    }

    /// A person may be blocked or gone. That is asked at once and as long as caches may lag behind, and then until it is answered,
    /// whatever else is told of them.
    fn suspect(self: &Arc<Self>, provider: &Arc<Provider>, user: &UserId) {
        let Some(directory) = self.directory(user) else { return };
        let (this, provider, user, mine) =
            (self.clone(), provider.clone(), user.clone(), self.heard.suspects.next(user));
        self.control.aside(async move {
            let later = std::iter::repeat_n(AFTER[1], 60);
            for (round, pause) in [BURST, AFTER[0], AFTER[1] - AFTER[0]].into_iter().chain(later).enumerate() {
                sleep(pause).await;
                if !this.heard.suspects.is(&user, mine) {
                    return; // it was told again
                }
                let answered = this.end_if_gone(&provider, &user, &directory).await;
                if answered && round >= 2 {
                    break;
                }
            }
            this.heard.suspects.done(&user, mine);
        });
    }

    /// Reads a person who was named, if they have a session here; else there is nobody to decide about.
    async fn read_named(self: &Arc<Self>, user: &UserId, directory: Option<&Arc<Directory>>) {
        self.read_named_behind(user).await;
        let Some(live) = self.control.session_of(user) else { return };
        let cell = self.cell(user);
        if let Some(directory) = directory {
            self.read_alone(directory, &cell, user, Need::Anew).await;
        }
        self.read_both(&cell, &live, (Need::Anew, Need::Nothing)).await;
    }

    /// Ends all sessions of a person whom GitLab does not let in any more. False: it was not answered whether it does.
    async fn end_if_gone(&self, provider: &Arc<Provider>, user: &UserId, directory: &Directory) -> bool {
        let Some(id) = number(user) else { return true };
        match directory.is_active(id).await {
            Ok(true) => {}
            Ok(false) => self.control.end_person(provider.issuer(), &user.subject, "user_blocked").await,
            Err(error) => {
                tracing::warn!(%user, %error, "it was not read whether a person is blocked");
                return false;
            }
        }
        true
    }

    fn everybody_changed(self: &Arc<Self>, name: &Name, now: SystemTime) {
        let Some(wait) = self.heard.gate.wait(name, Instant::now()) else { return };
        if wait.is_zero() {
            self.name_all(name, true, now);
        }
        let (this, name) = (self.clone(), name.clone());
        self.control.aside(async move {
            if !wait.is_zero() {
                sleep(wait).await;
                this.heard.gate.pass(&name, Instant::now());
                this.name_all(&name, true, SystemTime::now());
            }
            let mine = this.heard.all.next(&name);
            let mut waited = Duration::ZERO;
            for at in [BURST, AFTER[0], AFTER[1] + BURST] {
                sleep(at - waited).await;
                if !this.heard.all.is(&name, mine) {
                    return;
                }
                if waited > Duration::ZERO {
                    this.name_all(&name, false, SystemTime::now());
                }
                waited = at;
                let directory = this.directories.load().get(&name).cloned();
                if let Some(directory) = directory {
                    directory.read(Duration::ZERO).await;
                }
            }
            this.heard.all.done(&name, mine);
        });
    }

    /// What is known of everybody of a provider has to be read again. People are read as they come. With `narrow`, what is gone
    /// stays gone for a while.
    fn name_all(&self, name: &Name, narrow: bool, now: SystemTime) {
        if let Some(directory) = self.directories.load().get(name) {
            directory.change_all(narrow, now);
        }
        for (user, cell) in &self.cells {
            if user.provider == *name {
                cell.name(narrow, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many groups are renamed or shared, everybody is named at most once in [`ALL`], and nothing is lost.
    #[test]
    fn changes_of_everybody_act_together() {
        let (gate, start) = (Gate::every(ALL), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(gate.wait(&"gitlab", at(0)), Some(Duration::ZERO));
        assert_eq!(gate.wait(&"gitlab", at(500)), Some(Duration::from_millis(1500)));
        assert!((501..2000).all(|millis| gate.wait(&"gitlab", at(millis)).is_none()));
        gate.pass(&"gitlab", at(2000));
        assert_eq!(gate.wait(&"gitlab", at(2001)), Some(Duration::from_millis(1999)));
        gate.pass(&"gitlab", at(4000));
        assert_eq!(gate.wait(&"gitlab", at(6000)), Some(Duration::ZERO));
        assert_eq!(gate.wait(&"other", at(6000)), Some(Duration::ZERO));
    }

    /// Whoever is changed all the time is known in between: ten changes act at once, and then those of a second together.
    #[test]
    fn changes_of_a_person_are_slowed_when_there_are_many() {
        let (paces, start) = (Paces::default(), Instant::now());
        let user = |subject: &str| UserId { provider: "gitlab".parse().expect("a name"), subject: subject.into() };
        let at = |millis| start + Duration::from_millis(millis);
        let acts = |subject: &str, millis| paces.enter(&user(subject), at(millis));
        assert!((0..10).all(|nth| acts("7", nth) == Acts::Now));
        assert_eq!((acts("7", 10), acts("7", 20), acts("7", 900)), (Acts::Later, Acts::Together, Acts::Together));
        assert_eq!(acts("8", 900), Acts::Now);
        paces.act(&user("7"));
        assert_eq!(
            (paces.enter(&user("7"), at(1010)), paces.enter(&user("7"), at(1020))),
            (Acts::Later, Acts::Together)
        );
        paces.act(&user("7"));
        assert_eq!(paces.enter(&user("7"), at(10_000)), Acts::Now);
    }
}
