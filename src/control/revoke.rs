//! Sessions ended by whoever runs this.

use super::{Control, sessions::AT_ONCE, stopped};
use crate::{
    principal::UserId,
    session::{
        Live, Revocations, Session, SessionKey, StoreError,
        log::{EndedUser, Entry, millis},
        record,
    },
};
use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::SystemTime,
};

/// Why the trail says that such a session ended.
const WHY: &str = "revoked";

/// What a revocation ended.
#[derive(Debug, Default)]
pub struct Revoked {
    /// The sessions.
    pub sessions: Vec<SessionKey>,
    /// Whose they were.
    pub people: HashSet<UserId>,
}

/// Why not all that was meant has ended for good.
#[derive(Debug, thiserror::Error)]
#[error("{} sessions are ended here, and perhaps not all for good: {cause}: say it again", ended.sessions.len())]
pub struct RevokeError {
    /// What has ended in memory, and is written down as soon as the store takes it.
    pub ended: Revoked,
    /// What failed.
    pub cause: StoreError,
}

impl Revoked {
    fn add(&mut self, key: SessionKey, user: UserId) {
        self.sessions.push(key);
        self.people.insert(user);
    }
}

impl Control {
    /// Ends all sessions that `fit`: those in use at once, with their streams, before the store is asked for the others. What
    /// ended is durable when this returns. With `whole`, a user all of whose sessions are meant, sign-ins that are under way
    /// end too.
    ///
    /// # Errors
    /// [`RevokeError`]: what is in use has ended all the same.
    pub async fn revoke(
        self: &Arc<Self>,
        whole: Option<UserId>,
        fits: impl Fn(&Session, Option<&Arc<Live>>) -> bool + Send + Sync + 'static,
        now: SystemTime,
    ) -> Result<Revoked, RevokeError> {
        let this = self.clone();
        let work = async move {
            let mut ended = Revoked::default();
            this.end_those_in_use(&fits, &mut ended, now);
            let users = whole.map(|user| this.ended_user(&user, now)).unwrap_or_default();
            users.iter().for_each(|user| this.take_user(*user));
            let stored = this.end_those_stored(&fits, &mut ended, now).await;
            let entries = ended.sessions.iter().map(|key| Entry::session(*key, now, None));
            let entries: Vec<_> = users.into_iter().map(Entry::User).chain(entries).collect();
            let written = this.append(&entries, now).await;
            if written.is_err() {
                let again = this.clone();
                this.start(async move { again.note(entries).await });
            }
            for key in &ended.sessions {
                this.erase_soon(*key, None);
            }
            match stored.and(written) {
                Ok(()) => Ok(ended),
                Err(cause) => Err(RevokeError { ended, cause }),
            }
        };
        let gone = || Err(RevokeError { ended: Revoked::default(), cause: stopped() });
        self.run(work).await.unwrap_or_else(gone)
    }

    fn end_those_in_use(
        self: &Arc<Self>,
        fits: &impl Fn(&Session, Option<&Arc<Live>>) -> bool,
        ended: &mut Revoked,
        now: SystemTime,
    ) {
        let in_use: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        for live in in_use.iter().filter(|live| fits(&live.session, Some(live))) {
            if self.end_here(live, WHY, now) {
                self.revoke_tokens(live);
                ended.add(live.key(), live.session.person.id.clone());
            }
        }
    }

    async fn end_those_stored(
        &self,
        fits: &(impl Fn(&Session, Option<&Arc<Live>>) -> bool + Sync),
        ended: &mut Revoked,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let records = self.store.page(cursor, AT_ONCE).await?;
            let Some((last, _)) = records.last() else { return Ok(()) };
            cursor = Some(*last);
            for (key, stored) in &records {
                let Ok(session) = record::open_index(&self.ring, key, stored) else { continue };
                if fits(&session, None) {
                    let user = session.person.id.clone();
                    if self.end_stored_here(session, WHY, now) {
                        ended.add(*key, user);
                    }
                }
            }
        }
    }

    /// A user whose sessions of before `now` have ended, under each name that they may be filed under.
    fn ended_user(&self, user: &UserId, now: SystemTime) -> Vec<EndedUser> {
        let Some(provider) = self.provider(&user.provider) else { return Vec::new() };
        let names = self.ring.names("user", &[provider.issuer().as_bytes(), user.subject.as_bytes()]);
        let slot = u16::try_from(Revocations::user_slot(user)).unwrap_or(u16::MAX);
        names.into_iter().map(|name| EndedUser { name, slot, at: millis(now) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{killed, scene};

    /// P27: what is revoked has ended at once, in use or stored, and stays ended though the process is killed the moment it says so.
    #[tokio::test]
    async fn p27_what_is_revoked_stays_ended_after_a_kill() {
        let (directory, control, first, live) = scene().await;
        let mut handles = vec![first];
        for _ in 0..5 {
            handles.push(control.another("907").await.0);
        }
        let (foreign, _) = control.another("908").await;
        let (directory, control) = killed(&control, &directory).await;
        drop(live);
        let used = control.handle(handles[0].clone()).await.expect("read").expect("there").live;
        let is_meant = |session: &Session, _: Option<&Arc<Live>>| &*session.person.id.subject == "907";
        let ended = control.revoke(None, is_meant, SystemTime::now()).await.expect("done");
        let (_copy, restarted) = killed(&control, &directory).await;
        assert_eq!((ended.sessions.len(), ended.people.len(), used.is_ended()), (6, 1, true));
        for handle in &handles {
            assert!(restarted.handle(handle.clone()).await.expect("read").is_none());
        }
        assert!(restarted.handle(foreign.clone()).await.expect("read").is_some(), "somebody else's");
    }

    /// P27: a store that does not answer keeps nothing that is in use alive; whoever asked is told that it is not all.
    #[tokio::test]
    async fn p27_a_store_that_fails_keeps_nothing_in_use_alive() {
        let (_directory, control, _, live) = scene().await;
        control.store.close();
        let failed = control.revoke(None, |_, _| true, SystemTime::now()).await.expect_err("the store is closed");
        assert!(live.is_ended());
        assert_eq!(failed.ended.sessions, [live.key()]);
        assert!(failed.to_string().starts_with("1 sessions are ended here"), "{failed}");
    }
}
