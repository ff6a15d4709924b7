//! What GitLab tells unasked takes what was known away at once; what is true now is read at once, after 5 s and after 30 s.

use super::{Memberships, cell::Need, directory::Directory, directory::number};
use crate::{
    gitlab::hook::About,
    oidc::Provider,
    principal::{Name, UserId},
};
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// Hooks come in bursts; what they name is read once.
const BURST: Duration = Duration::from_millis(20);
/// When it is read again: GitLab's own caches may lag behind its hooks.
const AFTER: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];
/// So many events are remembered, so that one that is delivered again does nothing.
const EVENTS: u64 = 100_000;
/// For this long.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What was heard lately.
pub(super) struct Heard {
    people: Latest<UserId>,
    /// Providers of which everybody may have changed.
    all: Latest<Name>,
    events: moka::sync::Cache<String, ()>,
}

impl Default for Heard {
    fn default() -> Self {
        let events = moka::sync::Cache::builder().max_capacity(EVENTS).time_to_live(REMEMBERED).build();
        Self { people: Latest::default(), all: Latest::default(), events }
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

impl Memberships {
    /// Whether an event with this id comes for the first time.
    pub fn is_new(&self, provider: &Provider, event: &str) -> bool {
        self.heard.events.entry(format!("{} {event}", provider.settings.name)).or_insert(()).is_fresh()
    }

    /// Takes what a hook says. Answers at once; reads follow.
    pub fn heard(self: &Arc<Self>, provider: &Arc<Provider>, about: &About, now: SystemTime) {
        match *about {
            About::Person { id, added, state } => self.person_changed(provider, id, added, state, now),
            About::Everybody => self.everybody_changed(provider, now),
            About::Nothing => {}
        }
    }

    fn person_changed(self: &Arc<Self>, provider: &Arc<Provider>, id: u64, added: bool, state: bool, now: SystemTime) {
        let user = UserId { provider: provider.settings.name.clone(), subject: id.to_string().into() };
        let directory = self.directory(&user);
        if let Some(directory) = &directory {
            directory.change(id, !added, now);
        }
        let named = self.cells.get(&user).map(|cell| cell.name(!added));
        let (this, provider, mine) = (self.clone(), provider.clone(), self.heard.people.next(&user));
        self.control.start(async move {
            sleep(BURST).await;
            if state {
                this.end_if_gone(&provider, &user, directory.as_deref()).await;
            }
            let mut waited = Duration::ZERO;
            for (at, narrow) in [(Duration::ZERO, false), (AFTER[0], !added), (AFTER[1], false)] {
                sleep(at - waited).await;
                waited = at;
                if !this.heard.people.is(&user, mine) {
                    return; // a later change reads what this one would
                }
                if at == AFTER[1] {
                    this.widen(&user, named, directory.as_deref());
                }
                this.read_named(&user, directory.as_deref(), narrow).await;
            }
            this.heard.people.done(&user, mine);
        });
    }

    /// The last of the reads that follow a change is believed as it is.
    fn widen(&self, user: &UserId, named: Option<u64>, directory: Option<&Directory>) {
        if let (Some(cell), Some(named)) = (self.cells.get(user), named) {
            cell.widen(named);
        }
        if let (Some(directory), Some(id)) = (directory, number(user)) {
            directory.widen(id);
        }
    }

    /// Reads a person who was named, if they have a session here; else there is nobody to decide about.
    async fn read_named(self: &Arc<Self>, user: &UserId, directory: Option<&Directory>, narrow: bool) {
        let Some(live) = self.control.session_of(user) else { return };
        let cell = self.cell(user);
        if let Some(directory) = directory
            && let Err(error) = directory.read_alone(user, narrow).await
        {
            tracing::warn!(%user, %error, "roles were not read after a hook");
        }
        self.read_both(&cell, &live, (Need::Read, Need::Nothing)).await;
    }

    /// Ends all sessions of a person whom GitLab does not let in any more.
    async fn end_if_gone(&self, provider: &Arc<Provider>, user: &UserId, directory: Option<&Directory>) {
        let (Some(directory), Some(id)) = (directory, number(user)) else { return };
        match directory.api.is_active(id).await {
            Ok(true) => {}
            Ok(false) => self.control.end_person(provider.issuer(), &user.subject, "user_blocked").await,
            Err(error) => tracing::warn!(%user, %error, "it was not read whether a person is blocked"),
        }
    }

    fn everybody_changed(self: &Arc<Self>, provider: &Arc<Provider>, now: SystemTime) {
        let name = provider.settings.name.clone();
        let mine = self.heard.all.next(&name);
        self.name_all(&name, now);
        let this = self.clone();
        self.control.start(async move {
            let mut waited = Duration::ZERO;
            for at in [BURST, AFTER[0], AFTER[1]] {
                sleep(at - waited).await;
                if !this.heard.all.is(&name, mine) {
                    return;
                }
                if waited > Duration::ZERO {
                    this.name_all(&name, SystemTime::now());
                }
                waited = at;
                let directory = this.directories.load().get(&name).cloned();
                if let Some(directory) = directory {
                    directory.read(Duration::ZERO).await;
                }
            }
            for (user, cell) in &this.cells {
                if user.provider == name {
                    cell.widen(cell.named());
                }
            }
            this.heard.all.done(&name, mine);
        });
    }

    /// What is known of everybody of a provider has to be read again. People are read as they come.
    fn name_all(&self, name: &Name, now: SystemTime) {
        if let Some(directory) = self.directories.load().get(name) {
            directory.change_all(now);
        }
        for (user, cell) in &self.cells {
            if user.provider == *name {
                cell.name(true);
            }
        }
    }
}
