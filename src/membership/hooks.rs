//! What GitLab tells unasked takes what was known away at once; what is true now is read at once, after 5 s and after 30 s.

use super::{
    Memberships,
    cell::{NARROW, Need},
    directory::{Directory, number},
};
use crate::{
    gitlab::hook::About,
    oidc::Provider,
    principal::{Name, UserId},
};
use std::{
    collections::{HashMap, HashSet},
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
    gate: Gate,
    events: moka::sync::Cache<String, ()>,
}

impl Default for Heard {
    fn default() -> Self {
        let events = moka::sync::Cache::builder().max_capacity(EVENTS).time_to_live(REMEMBERED).build();
        Self { people: Latest::default(), all: Latest::default(), gate: Gate::default(), events }
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

/// When changes of everybody acted last, by provider.
#[derive(Default)]
struct Gate(Mutex<HashMap<Name, Passed>>);

struct Passed {
    last: Instant,
    /// One waits, and acts for all that come before its turn.
    waits: bool,
}

impl Gate {
    /// How long a change has to wait; `None`: one that waits already acts for it too.
    fn wait(&self, provider: &Name, now: Instant) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(passed) = all.get_mut(provider) else {
            all.insert(provider.clone(), Passed { last: now, waits: false });
            return Some(Duration::ZERO);
        };
        let left = (passed.last + ALL).saturating_duration_since(now);
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
    fn pass(&self, provider: &Name, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(provider.clone(), Passed { last: now, waits: false });
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
            About::Renamed(paths) if !self.concerns(&provider.settings.name, paths) => {}
            About::Renamed(_) | About::Everybody => self.everybody_changed(&provider.settings.name, now),
            About::Nothing => {}
        }
    }

    /// Whether one of these groups lies in a tree of which policies or locks name a part.
    fn concerns(&self, provider: &Name, paths: &[String]) -> bool {
        let root = |path: &str| path.split('/').next().map(str::to_owned);
        let named: HashSet<_> = self.named_at(provider).iter().filter_map(|group| root(group.as_str())).collect();
        paths.is_empty() || paths.iter().filter_map(|path| root(path)).any(|root| named.contains(&root))
    }

    fn person_changed(
        self: &Arc<Self>,
        provider: &Arc<Provider>,
        id: u64,
        (added, group, state): (bool, Option<u64>, bool),
        now: SystemTime,
    ) {
        let user = UserId { provider: provider.settings.name.clone(), subject: id.to_string().into() };
        let directory = self.directory(&user);
        if let Some(directory) = &directory {
            directory.change(id, added, group, now);
        }
        self.cell(&user).name(!added, now); // also of somebody whose sign-in is under way
        if self.heard.people.len() >= FOLLOWED {
            self.everybody_changed(&user.provider, now);
        }
        let (this, provider, mine) = (self.clone(), provider.clone(), self.heard.people.next(&user));
        self.control.aside(async move {
            let mut waited = Duration::ZERO;
            for at in [BURST, AFTER[0], AFTER[1] + BURST] {
                sleep(at - waited).await;
                waited = at;
                if !this.heard.people.is(&user, mine) {
                    return; // a later change reads what this one would
                }
                if state {
                    this.end_if_gone(&provider, &user, directory.as_deref()).await;
                }
                this.read_named(&user, directory.as_deref()).await;
            }
            this.heard.people.done(&user, mine);
        });
    }

    /// Reads a person who was named, if they have a session here; else there is nobody to decide about.
    async fn read_named(self: &Arc<Self>, user: &UserId, directory: Option<&Directory>) {
        let Some(live) = self.control.session_of(user) else { return };
        let cell = self.cell(user);
        if let Some(directory) = directory {
            self.read_alone(directory, &cell, user, Need::Anew).await;
        }
        self.read_both(&cell, &live, (Need::Anew, Need::Nothing)).await;
    }

    /// Ends all sessions of a person whom GitLab does not let in any more.
    async fn end_if_gone(&self, provider: &Arc<Provider>, user: &UserId, directory: Option<&Directory>) {
        let (Some(directory), Some(id)) = (directory, number(user)) else { return };
        match directory.is_active(id).await {
            Ok(true) => {}
            Ok(false) => self.control.end_person(provider.issuer(), &user.subject, "user_blocked").await,
            Err(error) => tracing::warn!(%user, %error, "it was not read whether a person is blocked"),
        }
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
        let (gate, name, start) = (Gate::default(), "gitlab".parse().expect("a name"), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(gate.wait(&name, at(0)), Some(Duration::ZERO));
        assert_eq!(gate.wait(&name, at(500)), Some(Duration::from_millis(1500)));
        assert!((501..2000).all(|millis| gate.wait(&name, at(millis)).is_none()));
        gate.pass(&name, at(2000));
        assert_eq!(gate.wait(&name, at(2001)), Some(Duration::from_millis(1999)));
        gate.pass(&name, at(4000));
        assert_eq!(gate.wait(&name, at(6000)), Some(Duration::ZERO));
        assert_eq!(gate.wait(&"other".parse().expect("a name"), at(6000)), Some(Duration::ZERO));
    }
}
