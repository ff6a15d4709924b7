//! Sessions looked at from outside: those in use and those that are only stored.

use super::{Control, stopped};
use crate::session::{
    Live, Session, SessionKey, StoreError,
    further::{self, Kind},
    live::Clock,
    record,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::SystemTime,
};

/// So many records are read at once.
pub(super) const AT_ONCE: usize = 1000;

/// A session as it is told of.
pub struct Listed {
    /// The session, as last seen.
    pub session: Session,
    /// When it ends if nobody uses it any more. Of one that is only stored nobody can say whether it can be refreshed: it may
    /// end sooner.
    pub ends: SystemTime,
    /// The session where it is in use.
    pub live: Option<Arc<Live>>,
}

/// Some sessions, in the order of their names.
pub struct Page {
    /// The sessions.
    pub listed: Vec<Listed>,
    /// After which name it goes on; `None`: it does not.
    pub next: Option<SessionKey>,
}

impl Control {
    /// At most `limit` sessions that `fit`, after the one with the name `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn list(
        self: &Arc<Self>,
        after: Option<SessionKey>,
        limit: usize,
        fits: impl Fn(&Session, Option<&Arc<Live>>) -> bool + Send + Sync + 'static,
        now: SystemTime,
    ) -> Result<Page, StoreError> {
        let this = self.clone();
        let work = async move {
            let (mut listed, mut cursor) = (Vec::new(), after);
            loop {
                let ended = this.undeleted(); // before the read: what is read may be gone by the time it is looked at
                let records = this.store.page(cursor, AT_ONCE).await?;
                let Some((last, _)) = records.last() else { return Ok(Page { listed, next: None }) };
                let in_use = this.in_use(records.iter().map(|(key, _)| key));
                cursor = Some(*last);
                for (key, record) in records.iter().filter(|(key, _)| !ended.contains(key)) {
                    let Some(one) = this.told(*key, record, &in_use, now) else { continue };
                    if !fits(&one.session, one.live.as_ref()) {
                        continue;
                    }
                    if listed.len() == limit {
                        let next = listed.last().map(|last: &Listed| last.session.key);
                        return Ok(Page { listed, next });
                    }
                    listed.push(one);
                }
            }
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))
    }

    /// The sessions of the person of `live`, the newest first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn own(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) -> Result<Vec<Listed>, StoreError> {
        let (this, person) = (self.clone(), live.session.person.clone());
        let work = async move {
            let mut keys = HashSet::new();
            for name in this.user_names(&person) {
                keys.extend(this.store.filed_under(name).await?);
            }
            let in_use = this.in_use(keys.iter());
            let ended = this.undeleted();
            keys.retain(|key| !ended.contains(key));
            let mut listed = Vec::new();
            for key in keys {
                let Some(record) = this.store.load(key).await? else { continue };
                let one = this.told(key, &record, &in_use, now);
                listed.extend(one.filter(|one| is_of(&one.session, &person)));
            }
            listed.sort_by_key(|one| std::cmp::Reverse((one.session.seen, one.session.created)));
            Ok(listed)
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Ends those of the person's own sessions that are `meant`; how many there were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn end_own(
        self: &Arc<Self>,
        live: &Arc<Live>,
        is_meant: impl Fn(&Session) -> bool + Send + Sync + 'static,
        now: SystemTime,
    ) -> Result<usize, StoreError> {
        let mut ended = 0;
        for one in self.own(live, now).await?.into_iter().filter(|one| is_meant(&one.session)) {
            if let Some(other) = &one.live {
                self.revoke_tokens(other);
            }
            let person = live.session.person.clone();
            let (this, key) = (self.clone(), one.session.key);
            let work = async move {
                this.end_named(key, &|session| is_of(session, &person), "signed_out_elsewhere", now).await
            };
            ended += usize::from(self.run(work).await.unwrap_or_else(|| Err(stopped()))?);
        }
        Ok(ended)
    }

    fn in_use<'a>(&self, keys: impl Iterator<Item = &'a SessionKey>) -> HashMap<SessionKey, Arc<Live>> {
        let open = self.open();
        keys.filter_map(|key| Some((*key, open.get(key).and_then(Weak::upgrade)?))).collect()
    }

    /// What is told of a stored record; nothing of what is no session any more, or cannot be opened.
    fn told(
        &self,
        key: SessionKey,
        record: &[u8],
        in_use: &HashMap<SessionKey, Arc<Live>>,
        now: SystemTime,
    ) -> Option<Listed> {
        if further::kind(record) != Kind::Session || self.is_undeleted(&key) {
            return None;
        }
        if let Some(live) = in_use.get(&key) {
            let over = matches!(self.clock(live, now), Clock::Idle | Clock::Over | Clock::Moved);
            let ended = live.is_ended() || live.is_lapsed() || over;
            return (!ended).then(|| Listed {
                session: live.as_seen(),
                ends: self.ends(live),
                live: Some(live.clone()),
            });
        }
        let session = record::open_index(&self.ring, &key, record).ok()?;
        let moved = self.provider(&session.person.id.provider).is_some_and(|it| it.issuer() != &*session.person.issuer);
        let ends = session.end.min(session.seen + self.limits().idle);
        let over = session.lapsed || now >= ends || moved || self.is_ended_user(&session);
        (!over).then_some(Listed { session, ends, live: None })
    }
}

/// It is this person's: of the same issuer, whatever the provider is called (S-50).
pub(super) fn is_of(session: &Session, person: &crate::principal::Person) -> bool {
    session.person.issuer == person.issuer && session.person.id.subject == person.id.subject
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{killed, scene};
    use std::time::Duration;

    /// Every session is listed once, page by page, whether it is in use or only stored; what has ended is not.
    #[tokio::test]
    async fn sessions_are_listed_in_pages() {
        let (directory, control, _, live) = scene().await;
        for _ in 0..24 {
            control.another("907").await;
        }
        let now = SystemTime::now();
        let mut seen = HashSet::new();
        let mut after = None;
        loop {
            let page = control.list(after, 10, |_, _| true, now).await.expect("read");
            assert!(page.listed.len() <= 10);
            seen.extend(page.listed.iter().map(|one| one.session.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 25);
        let theirs =
            control.list(None, 100, |session, _| &*session.person.id.subject == "907", now).await.expect("read");
        assert_eq!(theirs.listed.len(), 25);
        control.end_session(&live, "signed_out", now);
        assert_eq!(control.list(None, 100, |_, _| true, now).await.expect("read").listed.len(), 24, "at once");
        control.settle().await;
        let (_copy, restarted) = killed(&control, &directory).await;
        let listed = restarted.list(None, 100, |_, _| true, now).await.expect("read").listed;
        assert_eq!((listed.len(), listed.iter().filter(|one| one.live.is_some()).count()), (24, 0), "only stored");
        let later = now + Duration::from_secs(1801);
        assert!(restarted.list(None, 100, |_, _| true, later).await.expect("read").listed.is_empty(), "idle");
    }

    /// P27: ten thousand stored sessions are listed within two seconds, in a build for tests too, and ended for good soon.
    #[tokio::test(flavor = "multi_thread")]
    async fn p27_ten_thousand_sessions_are_listed_in_two_seconds() {
        let (directory, control, _, _live) = scene().await;
        let control = &control;
        for hundred in 0..100 {
            let subject = |number: u32| (100 * hundred + number).to_string();
            let some = (0..100).map(|number| async move { control.another(&subject(number)).await });
            futures_util::future::join_all(some).await;
        }
        let (_copy, control) = killed(control, &directory).await;
        let (now, start) = (SystemTime::now(), std::time::Instant::now());
        let (mut listed, mut after) = (0, None);
        loop {
            let page = control.list(after, 1000, |_, _| true, now).await.expect("read");
            listed += page.listed.len();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let (took, start) = (start.elapsed(), std::time::Instant::now());
        assert_eq!(listed, 10_001);
        assert!(took < Duration::from_secs(2), "{took:?}");
        let ended = control.revoke(None, |_, _| true, "revoked", now).await.expect("done").sessions.len();
        println!("listed in {took:?}, revoked in {:?}", start.elapsed());
        assert_eq!(ended, 10_001);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }

    /// A person sees and ends their own sessions, and nobody else's.
    #[tokio::test]
    async fn a_person_ends_their_own_sessions_only() {
        let (_directory, control, _, live) = scene().await;
        let (_, second) = control.another("907").await;
        let (_, foreign) = control.another("908").await;
        let now = SystemTime::now();
        let own: HashSet<_> = control.own(&live, now).await.expect("read").iter().map(|it| it.session.key).collect();
        assert_eq!(own, HashSet::from([live.key(), second.key()]));
        let (here, theirs) = (live.key(), foreign.key());
        assert_eq!(control.end_own(&live, move |it| it.key == theirs, now).await.expect("done"), 0);
        assert_eq!(control.end_own(&live, move |it| it.key != here, now).await.expect("done"), 1);
        assert!(second.is_ended() && !live.is_ended() && !foreign.is_ended());
    }
}
