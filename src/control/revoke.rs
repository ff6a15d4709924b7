//! Sessions ended by whoever runs this, and all of a person whom their provider lets in no more.

use super::{Control, sessions::AT_ONCE, stopped};
use crate::{
    principal::UserId,
    session::{
        Live, Revocations, Session, SessionKey, StoreError,
        log::{EndedUser, Entry, millis},
        record,
    },
    text::counted,
};
use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

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
#[error("{} ended here, and perhaps not for good: {cause}: say it again", counted(ended.sessions.len() as u64, "session is", "sessions are"))]
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
    /// ended is durable when this returns; the trail says `why`. Of `whole`, users all of whose sessions are meant, sign-ins
    /// that are under way end too.
    ///
    /// # Errors
    /// [`RevokeError`]: what is in use has ended all the same.
    pub async fn revoke(
        self: &Arc<Self>,
        whole: impl IntoIterator<Item = UserId>,
        fits: impl Fn(&Session, Option<&Arc<Live>>) -> bool + Send + Sync + 'static,
        why: &'static str,
        now: SystemTime,
    ) -> Result<Revoked, RevokeError> {
        let users: Vec<_> = whole.into_iter().flat_map(|user| self.ended_user(&user, now)).collect();
        let this = self.clone();
        let work = async move {
            let mut ended = Revoked::default();
            users.iter().for_each(|user| this.take_user(*user));
            this.end_those_in_use(&fits, &mut ended, why, now);
            let stored = this.end_those_stored(&users, &fits, &mut ended, why, now).await;
            let entries = ended.sessions.iter().map(|key| Entry::session(*key, now, None));
            let entries: Vec<_> = users.into_iter().map(Entry::User).chain(entries).collect();
            let written = if entries.is_empty() { Ok(()) } else { this.append(&entries, now).await };
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

    /// Ends every session of a person, wherever it is kept, however long that takes; sign-ins that are under way end too.
    pub async fn end_person(self: &Arc<Self>, issuer: &str, subject: &str, why: &'static str) {
        let (own, theirs): (Box<str>, Box<str>) = (issuer.into(), subject.into());
        let fits = move |session: &Session, _: Option<&Arc<Live>>| {
            *session.person.issuer == *own && *session.person.id.subject == *theirs
        };
        let mut whole = self.users(issuer, subject);
        while let Err(error) = self.revoke(whole, fits.clone(), why, SystemTime::now()).await {
            tracing::warn!(%error, "sessions of a person are not ended yet");
            tokio::time::sleep(Duration::from_secs(1)).await;
            whole = Vec::new(); // that they ended is known, and is being written down
        }
    }

    /// What a person of this issuer is called here: there may be several clients of one provider.
    fn users(&self, issuer: &str, subject: &str) -> Vec<UserId> {
        let providers = self.providers();
        let of_issuer = providers.iter().filter(|(_, provider)| provider.issuer() == issuer);
        of_issuer.map(|(name, _)| UserId { provider: name.clone(), subject: subject.into() }).collect()
    }

    fn end_those_in_use(
        self: &Arc<Self>,
        fits: &impl Fn(&Session, Option<&Arc<Live>>) -> bool,
        ended: &mut Revoked,
        why: &'static str,
        now: SystemTime,
    ) {
        let in_use: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        for live in in_use.iter().filter(|live| fits(&live.session, Some(live))) {
            if self.end_here(live, why, now) {
                self.revoke_tokens(live);
                ended.add(live.key(), live.session.person.id.clone());
            }
        }
    }

    /// The same for those that are stored: of whole users those that are filed under their names, else all.
    async fn end_those_stored(
        &self,
        users: &[EndedUser],
        fits: &(impl Fn(&Session, Option<&Arc<Live>>) -> bool + Sync),
        ended: &mut Revoked,
        why: &'static str,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        if !users.is_empty() {
            let records = self.records_of(users).await?;
            self.end_read(&records, fits, ended, why, now);
            return Ok(());
        }
        let mut cursor = None;
        loop {
            let records = self.store.page(cursor, AT_ONCE).await?;
            let Some((last, _)) = records.last() else { return Ok(()) };
            cursor = Some(*last);
            self.end_read(&records, fits, ended, why, now);
        }
    }

    /// What is filed under the names of these users.
    async fn records_of(&self, users: &[EndedUser]) -> Result<Vec<(SessionKey, Vec<u8>)>, StoreError> {
        let mut records = Vec::new();
        for user in users {
            for key in self.store.filed_under(user.name).await? {
                records.extend(self.store.load(key).await?.map(|stored| (key, stored)));
            }
        }
        Ok(records)
    }

    fn end_read(
        &self,
        records: &[(SessionKey, Vec<u8>)],
        fits: &impl Fn(&Session, Option<&Arc<Live>>) -> bool,
        ended: &mut Revoked,
        why: &'static str,
        now: SystemTime,
    ) {
        for (key, stored) in records {
            let Ok(session) = record::open_index(&self.ring, key, stored) else { continue };
            if fits(&session, None) {
                let user = session.person.id.clone();
                if self.end_stored_here(session, why, now) {
                    ended.add(*key, user);
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
    use crate::control::tests::{killed, scene, serve};

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
        let ended = control.revoke(None, is_meant, "revoked", SystemTime::now()).await.expect("done");
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
        let failed =
            control.revoke(None, |_, _| true, "revoked", SystemTime::now()).await.expect_err("the store is closed");
        assert!(live.is_ended());
        assert_eq!(failed.ended.sessions, [live.key()]);
        assert!(failed.to_string().starts_with("1 session is ended here"), "{failed}");
    }

    /// P27: all sessions of who is blocked end, in use or stored, and so does a sign-in that was under way, also after a kill;
    /// nobody else's do, and who is let in again may come again.
    #[tokio::test]
    async fn p27_a_sign_in_under_way_ends_with_the_sessions_of_who_is_blocked() {
        let (directory, control, id, live) = scene().await;
        let (_, foreign) = control.another("908").await;
        let issuer = live.session.person.issuer.clone();
        serve(&control, &issuer);
        control.end_person(&issuer, "907", "user_blocked").await;
        assert!(live.is_ended() && !foreign.is_ended());
        let (late, session) = control.another_at("907", live.session.created).await;
        assert!(session.is_ended() && control.handle(late).await.expect("read").is_none(), "under way");
        let (_copy, restarted) = killed(&control, &directory).await;
        serve(&restarted, &issuer);
        assert!(restarted.handle(id).await.expect("read").is_none());
        let (late, _) = restarted.another_at("907", live.session.created).await;
        assert!(restarted.handle(late).await.expect("read").is_none(), "under way while it was started again");
        let (next, _) = restarted.another_at("907", SystemTime::now() + Duration::from_secs(1)).await;
        assert!(restarted.handle(next).await.expect("read").is_some());
    }
}
