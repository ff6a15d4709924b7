//! The revocation log, as this node writes and follows it.
//!
//! Memory acts at once and never waits for the log. The log makes sure that what ended stays ended: for other nodes, and for this
//! one after it was killed.

use super::Control;
use crate::{
    principal::Person,
    refusal::Reason,
    session::{
        Revocations, Session, SessionKey, StoreError,
        log::{Ended, EndedUser, Entry, millis, moment},
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, Weak, atomic::Ordering},
    time::{Duration, SystemTime},
};

/// How often it is looked whether the log goes on.
const LOOK: Duration = Duration::from_millis(250);

/// Nobody is let in because what ended cannot be read.
const NEWER: &str = "its revocation log has entries of a newer version: run that one, or move the store away, and everybody signs in \
                     again";

impl Control {
    /// Writes down what ended. Every session that could be meant is over before it is forgotten.
    pub(super) async fn append(&self, entries: &[Entry], now: SystemTime) -> Result<(), StoreError> {
        self.store.append(entries, self.kept_until(now)).await
    }

    pub(super) fn kept_until(&self, now: SystemTime) -> SystemTime {
        let limits = self.limits();
        now + limits.absolute + limits.grace + Duration::from_secs(3600)
    }

    /// Writes down what ended, however long that takes.
    pub(super) async fn note(&self, entries: Vec<Entry>) {
        while let Err(error) = self.append(&entries, SystemTime::now()).await {
            tracing::warn!(entries = entries.len(), %error, "what ended is not written down yet");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    pub(super) fn note_soon(self: &Arc<Self>, entry: Entry) {
        let this = self.clone();
        self.start(async move { this.note(vec![entry]).await });
    }

    /// Takes in the whole log before anything is served: what it says has ended and is stored all the same counts no more, and is
    /// deleted. Reads the locks.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn recover(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut sessions: HashMap<SessionKey, Ended> = HashMap::new();
        let (head, mut cursor) = (self.store.head().await?, 0);
        loop {
            let part = self.store.since(cursor).await?;
            let Some((last, _)) = part.entries.last() else { break };
            cursor = *last;
            for (_, entry) in part.entries {
                match entry {
                    Entry::Session(ended) => drop(sessions.insert(ended.key, ended)),
                    Entry::User(ended) => self.take_user(ended),
                    Entry::Unknown => return Err(StoreError::Unavailable(NEWER.to_owned())),
                    Entry::Locks => {}
                }
            }
        }
        let left = self.store.kept(sessions.keys().copied().collect()).await?;
        if !left.is_empty() {
            tracing::info!(
                sessions = left.len(),
                "sessions and handles had ended when the process did, and stay ended"
            );
        }
        for ended in left.iter().filter_map(|key| sessions.remove(key)) {
            self.shun(ended.key);
            self.erase_soon(ended.key, ended.trace);
        }
        self.cursor.store(cursor.max(head), Ordering::Release); // all of it may have been pruned
        self.read_locks().await
    }

    /// Follows the log. Never returns.
    pub async fn follow_log(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Err(error) = self.catch_up().await {
                tracing::warn!(%error, "the revocation log cannot be followed");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Takes in what the log has after the cursor.
    async fn catch_up(self: &Arc<Self>) -> Result<(), StoreError> {
        while self.store.head().await? > self.cursor.load(Ordering::Acquire) {
            let part = self.store.since(self.cursor.load(Ordering::Acquire)).await?;
            if part.gap {
                tracing::warn!("entries of the revocation log were pruned unread: everything is looked at again");
                self.look_again();
                self.recover().await?;
                continue;
            }
            let Some((last, _)) = part.entries.last() else { return Ok(()) };
            let last = *last;
            let mut ended = Vec::new();
            for (_, entry) in part.entries {
                match entry {
                    Entry::Session(one) => ended.push(one),
                    Entry::User(ended) => {
                        self.take_user(ended);
                        self.end_users_sessions(&ended);
                    }
                    Entry::Locks => self.read_locks().await?,
                    Entry::Unknown => self.look_again(),
                }
            }
            self.take_sessions(ended).await;
            self.cursor.store(last, Ordering::Release);
        }
        Ok(())
    }

    /// Empties what is kept open in memory.
    fn look_again(&self) {
        self.revocations.end_all();
        self.warm.invalidate_all();
        self.further.invalidate_all();
    }

    async fn take_sessions(self: &Arc<Self>, ended: Vec<Ended>) {
        let now = millis(SystemTime::now());
        let (due, later): (Vec<_>, Vec<_>) = ended.into_iter().partition(|ended| ended.at <= now);
        self.end_followed(due).await;
        for one in later {
            let this = self.clone();
            self.handle.spawn(async move {
                tokio::time::sleep(Duration::from_millis(one.at.saturating_sub(now))).await;
                this.end_followed(vec![one]).await;
            });
        }
    }

    /// Sessions ended, here or on another node, which has told it. Whoever comes first deletes them.
    async fn end_followed(self: &Arc<Self>, mut ended: Vec<Ended>) {
        ended.retain(|ended| !self.replaced().contains_key(&ended.key)); // what is replaced here has its own time
        let keys: Vec<_> = ended.iter().map(|ended| ended.key).collect();
        let kept: HashSet<_> = self.store.kept(keys.clone()).await.unwrap_or(keys).into_iter().collect();
        for Ended { key, trace, .. } in ended {
            if kept.contains(&key) {
                self.shun(key);
                self.erase_soon(key, trace);
            }
            let live = {
                let mut open = self.open();
                self.revocations.end_session(&key);
                open.remove(&key).as_ref().and_then(Weak::upgrade)
            };
            if live.is_some_and(|live| live.end()) {
                self.streams.cut_session(&key.0, Reason::NoSession);
            }
            self.warm.invalidate(&key).await;
            self.further.invalidate(&key).await;
        }
    }

    /// Sessions of this user that began until then count no more when they are read.
    pub(super) fn take_user(&self, ended: EndedUser) {
        let mut users = self.ended_users.lock().unwrap_or_else(PoisonError::into_inner);
        let at = users.entry(ended.name).or_default();
        *at = ended.at.max(*at);
    }

    /// Forgets users whose sessions of then are all over by now.
    pub(super) fn forget_users(&self, now: SystemTime) {
        let mut users = self.ended_users.lock().unwrap_or_else(PoisonError::into_inner);
        users.retain(|_, at| self.kept_until(moment(*at)) > now);
    }

    fn end_users_sessions(self: &Arc<Self>, ended: &EndedUser) {
        let in_use: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        let is_meant = |session: &Session| {
            Revocations::user_slot(&session.person.id) == usize::from(ended.slot)
                && millis(session.created) <= ended.at
                && self.user_names(&session.person).contains(&ended.name)
        };
        for live in in_use.iter().filter(|live| is_meant(&live.session)) {
            if self.end_here(live, "revoked", SystemTime::now()) {
                self.erase_soon(live.key(), None);
            }
        }
        self.revocations.end_slot(usize::from(ended.slot));
    }

    /// All sessions of their person that began when this did have ended.
    pub(super) fn is_ended_user(&self, session: &Session) -> bool {
        let users = self.ended_users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.is_empty() {
            return false;
        }
        let names = self.user_names(&session.person);
        names.iter().filter_map(|name| users.get(name)).any(|at| millis(session.created) <= *at)
    }

    /// The names under which the sessions of a person are filed, one for each key of the ring.
    pub(super) fn user_names(&self, person: &Person) -> Vec<[u8; 32]> {
        self.ring.names("user", &[person.issuer.as_bytes(), person.id.subject.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::{
            Handle,
            tests::{killed, scene},
        },
        session::SessionId,
    };

    fn handle(live: &Arc<crate::session::Live>) -> Handle {
        Handle { key: live.key(), host: live.session.host.clone(), live: live.clone() }
    }

    /// S-54: the process is killed within the seconds for which the handle of a replaced session still works. Started again, it
    /// does not know that handle; those of other hosts lead to the session that took its place.
    #[tokio::test]
    async fn s54_a_session_that_was_replaced_does_not_survive_a_kill() {
        let (directory, control, id, live) = scene().await;
        let now = SystemTime::now();
        let further = control.further(&live, "api.example.com".into(), None, now).await.expect("filed");
        let given_up = control.further(&live, "api.example.com".into(), None, now).await.expect("filed");
        let (new, newer) = control.another("907").await;
        let before = control.handle(given_up.clone()).await.expect("read").expect("there");
        control.give_up(&before, now);
        control.replace_session(handle(&live), new.clone(), now);
        assert!(control.handle(id.clone()).await.expect("read").is_some(), "it works a little longer");
        while control.store.head().await.expect("read") < 2 {
            tokio::task::yield_now().await;
        }
        let (_copy, restarted) = killed(&control, &directory).await;
        assert!(restarted.handle(id).await.expect("read").is_none(), "the handle that was replaced");
        assert!(restarted.handle(given_up).await.expect("read").is_none(), "the one that was given up");
        restarted.settle().await;
        let led = restarted.handle(further).await.expect("read").expect("it leads on");
        assert_eq!(led.live.key(), newer.key());
        assert!(restarted.handle(new).await.expect("read").is_some());
    }

    /// S-54: the store fails when a session ends, and the process is killed before it works again.
    #[tokio::test]
    async fn s54_a_session_that_ends_while_the_store_fails_does_not_survive_a_kill() {
        let (directory, control, id, live) = scene().await;
        control.store.break_down();
        control.end_session(&live, "signed_out", SystemTime::now());
        assert!(control.handle(id.clone()).await.expect("memory says").is_none(), "at once in memory");
        while !directory.path().join("sessions.owed").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (copy, restarted) = killed(&control, &directory).await;
        assert!(!copy.path().join("sessions.owed").exists(), "it is in the log now");
        assert!(restarted.handle(id.clone()).await.expect("read").is_none());
        restarted.settle().await;
        assert!(restarted.store.load(id.key()).await.expect("read").is_none(), "and is deleted");
    }

    /// Another node's log ends here what it ended there: sessions at once or when their time comes, users, and all that was read
    /// before where something was missed.
    #[tokio::test]
    async fn what_the_log_says_ends_here() {
        let (_directory, control, id, live) = scene().await;
        let (other, _) = control.another("other").await;
        let soon = SystemTime::now() + Duration::from_millis(300);
        control.append(&[Entry::session(other.key(), soon, None)], SystemTime::now()).await.expect("written");
        control.catch_up().await.expect("read");
        assert!(control.handle(other.clone()).await.expect("read").is_some(), "not yet");
        let name = control.user_names(&live.session.person)[0];
        let slot = u16::try_from(Revocations::user_slot(&live.session.person.id)).expect("small");
        let before = EndedUser { name, slot, at: millis(live.session.created) - 1 };
        control.append(&[Entry::User(before)], SystemTime::now()).await.expect("written");
        control.catch_up().await.expect("read");
        assert!(!live.is_ended(), "it began later");
        let now = EndedUser { at: millis(SystemTime::now()), ..before };
        control.append(&[Entry::User(now)], SystemTime::now()).await.expect("written");
        control.catch_up().await.expect("read");
        assert!(live.is_ended() && control.handle(id).await.expect("read").is_none());
        while control.handle(other.clone()).await.expect("read").is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where all entries have been pruned, a new start has nothing to take in, and follows what comes.
    #[tokio::test]
    async fn a_log_that_was_pruned_is_followed_from_its_head() {
        let (directory, control, _, _live) = scene().await;
        control.append(&[Entry::Locks], SystemTime::now()).await.expect("written");
        control.store.sweep(SystemTime::now() + Duration::from_secs(100_000)).await.expect("swept");
        let (_copy, restarted) = killed(&control, &directory).await;
        restarted.catch_up().await.expect("nothing to read");
        let (id, _) = restarted.another("907").await;
        restarted
            .append(&[Entry::session(id.key(), SystemTime::now(), None)], SystemTime::now())
            .await
            .expect("written");
        restarted.catch_up().await.expect("read");
        assert!(restarted.handle(id).await.expect("read").is_none());
    }

    /// What ended according to a version that we do not know is not guessed: nothing starts with it.
    #[tokio::test]
    async fn a_log_of_a_newer_version_lets_nobody_in() {
        let (_directory, control, _, _live) = scene().await;
        control.append(&[Entry::Unknown], SystemTime::now()).await.expect("written");
        let error = control.recover().await.expect_err("it cannot be read").to_string();
        assert!(error.contains("of a newer version"), "{error}");
    }

    /// A sign-in that was under way when all sessions of its person were ended ends with them; the next one does not.
    #[tokio::test]
    async fn a_sign_in_under_way_ends_with_the_others() {
        let (_directory, control, _, live) = scene().await;
        let name = control.user_names(&live.session.person)[0];
        control.take_user(EndedUser { name, slot: 0, at: millis(SystemTime::now()) });
        let (late, session) = control.another_at("907", live.session.created).await;
        assert!(session.is_ended() && control.handle(late).await.expect("read").is_none());
        let (next, _) = control.another_at("907", SystemTime::now() + Duration::from_secs(1)).await;
        assert!(control.handle(next).await.expect("read").is_some());
        let after = SessionId::new();
        assert!(control.handle(after).await.expect("read").is_none());
    }
}
