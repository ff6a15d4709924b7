//! From a handle to its session. A sign-in has one handle on the host of `public_url`, and a further one on every other host.

use super::{Control, REPLACED, stopped};
use crate::session::{
    Live, SessionId, SessionKey, StoreError,
    further::{self, Further, Kind},
    live::CODE_LIFE,
    log::Entry,
    record,
    store::Filed,
};
use std::{sync::Arc, time::SystemTime};

/// So many replaced sessions in a row are followed to the one that took their place.
const MOVES: usize = 64;

/// So many further handles of one sign-in are kept; one more takes the place of another.
const HANDLES: usize = 256;

/// A handle that a browser sent, and the session that it belongs to.
#[derive(Clone)]
pub struct Handle {
    /// Its name.
    pub key: SessionKey,
    /// The one host that it is for.
    pub host: Arc<str>,
    /// The session.
    pub live: Arc<Live>,
}

/// What the store has under a handle.
enum Stored {
    Nothing,
    Session(Arc<Live>),
    Further(Further),
    Moved(SessionId),
}

impl Handle {
    fn own(live: Arc<Live>) -> Self {
        Self { key: live.key(), host: live.session.host.clone(), live }
    }
}

impl Control {
    /// What this handle stands for, from memory or from the store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a record that does not open is no session.
    pub async fn handle(self: &Arc<Self>, id: SessionId) -> Result<Option<Handle>, StoreError> {
        let key = id.key();
        if let Some(live) = self.warm.get(&key).await {
            return Ok((!live.is_ended()).then(|| Handle::own(live)));
        }
        if let Some(handle) = self.further.get(&key).await.filter(|handle| !handle.live.is_ended()) {
            return Ok(Some(handle));
        }
        let this = self.clone();
        self.run(async move { this.open_handle(id).await }).await.unwrap_or_else(|| Err(stopped()))
    }

    async fn open_handle(self: Arc<Self>, id: SessionId) -> Result<Option<Handle>, StoreError> {
        let (key, ended) = (id.key(), self.revocations.ended(&id.key()));
        let further = match self.load(id).await? {
            Stored::Session(live) => return Ok(Some(Handle::own(live))),
            Stored::Further(further) => further,
            Stored::Nothing | Stored::Moved(_) => return Ok(None),
        };
        let Some(live) = self.follow(further.sign_in).await? else { return Ok(None) };
        if self.revocations.ended(&key) != ended {
            return Ok(None); // it may have been given up since it was read
        }
        let handle = Handle { key, host: further.host, live };
        self.further.insert(key, handle.clone()).await;
        if self.revocations.ended(&key) != ended {
            self.further.invalidate(&key).await;
        }
        Ok(Some(handle))
    }

    /// The session that a further handle leads to, through all that were replaced since.
    async fn follow(self: &Arc<Self>, mut sign_in: SessionId) -> Result<Option<Arc<Live>>, StoreError> {
        for _ in 0..MOVES {
            if let Some(live) = self.warm(&sign_in.key()).await {
                return Ok(Some(live));
            }
            match self.load(sign_in).await? {
                Stored::Session(live) => return Ok(Some(live)),
                Stored::Moved(next) => sign_in = next,
                Stored::Nothing | Stored::Further(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    async fn load(self: &Arc<Self>, id: SessionId) -> Result<Stored, StoreError> {
        let key = id.key();
        loop {
            let ended = self.revocations.ended(&key);
            if self.is_undeleted(&key) {
                return Ok(Stored::Nothing);
            }
            let Some(stored) = self.store.load(key).await? else { return Ok(Stored::Nothing) };
            let opened = match further::kind(&stored) {
                Kind::Host => Further::open(&self.ring, &id, &stored).map(Stored::Further),
                Kind::Moved => further::successor(&self.ring, &id, &stored).map(Stored::Moved),
                Kind::Session => {
                    let session = record::open_index(&self.ring, &key, &stored);
                    let both = session.and_then(|it| Ok((it, record::open_tokens(&self.ring, &id, &stored)?)));
                    match both {
                        Ok((session, _)) if self.is_ended_user(&session) => return Ok(Stored::Nothing),
                        Ok((session, held)) => {
                            let live = Live::new(id.clone(), session, held);
                            let Some(live) = self.only(live, ended) else { continue };
                            self.warm.insert(key, live.clone()).await;
                            return Ok(if live.is_ended() { Stored::Nothing } else { Stored::Session(live) });
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            return Ok(opened.unwrap_or_else(|error| {
                tracing::warn!(session = %key.hash(), %error, "a stored session cannot be opened");
                Stored::Nothing
            }));
        }
    }

    /// Makes a further handle of `live` for `host`, in place of `before`, which works a little longer.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn further(
        self: &Arc<Self>,
        live: &Arc<Live>,
        host: Arc<str>,
        before: Option<Handle>,
        now: SystemTime,
    ) -> Result<SessionId, StoreError> {
        let id = SessionId::new();
        let further = Further { host: host.clone(), created: now, sign_in: live.handle().clone() };
        let filed = Filed {
            key: id.key(),
            record: further.seal(&self.ring, &id),
            user: live.key().0,
            sid: None,
            end: live.session.end + self.limits().grace,
        };
        let (this, live, key) = (self.clone(), live.clone(), id.key());
        let work = async move {
            this.make_room(&live, now).await?;
            this.store.create(filed).await?;
            this.further.insert(key, Handle { key, host, live }).await;
            Ok(())
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))?;
        if let Some(before) = before {
            self.give_up(&before, now);
        }
        Ok(id)
    }

    /// Whoever is signed in could ask for handles without end.
    async fn make_room(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) -> Result<(), StoreError> {
        let mut kept = self.store.filed_under(live.key().0).await?;
        kept.retain(|key| !self.is_undeleted(key));
        for key in kept.into_iter().skip(HANDLES - 1) {
            self.forget(key).await;
            self.note_and_erase(key, now);
        }
        Ok(())
    }

    /// Forgets a further handle, once the requests that are under way with it have had their time. A session's own handle
    /// goes with the session.
    pub(super) fn give_up(self: &Arc<Self>, handle: &Handle, now: SystemTime) {
        if handle.key == handle.live.key() {
            return;
        }
        let (this, key) = (self.clone(), handle.key);
        self.note_soon(Entry::session(key, now + REPLACED, None));
        self.handle.spawn(async move {
            tokio::time::sleep(REPLACED).await;
            this.forget(key).await;
            this.erase_soon(key, None);
        });
    }

    /// Ends a further handle, at once and here.
    pub(super) async fn forget(&self, key: SessionKey) {
        self.shun(key);
        self.revocations.end_session(&key);
        self.further.invalidate(&key).await;
        self.revocations.end_session(&key); // for who took it from there in between
    }

    /// Keeps what stands behind a code while it is on its way to another host.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_code(
        self: &Arc<Self>,
        hash: [u8; 32],
        sealed: Vec<u8>,
        now: SystemTime,
    ) -> Result<(), StoreError> {
        let this = self.clone();
        let work = async move { this.store.put_code(hash, sealed, now + CODE_LIFE).await };
        self.run(work).await.unwrap_or_else(|| Err(stopped()))
    }

    /// Takes what stands behind a code; nobody can take it again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn take_code(self: &Arc<Self>, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        let this = self.clone();
        self.run(async move { this.store.take_code(hash).await }).await.unwrap_or_else(|| Err(stopped()))
    }

    /// The session that a code was given for.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sign_in_of(self: &Arc<Self>, sign_in: SessionId) -> Result<Option<Arc<Live>>, StoreError> {
        let this = self.clone();
        self.run(async move { this.follow(sign_in).await }).await.unwrap_or_else(|| Err(stopped()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::scene;
    use std::time::Duration;

    /// S-54, S-56: whoever is signed in gets handles as often as they ask, and a bounded number of them works and is kept.
    #[tokio::test]
    async fn s54_further_handles_are_bounded_and_what_is_given_up_is_dead() {
        let (_directory, control, own, live) = scene().await;
        let mut handles = Vec::new();
        for _ in 0..HANDLES + 5 {
            let id = control.further(&live, "api.example.com".into(), None, SystemTime::now()).await.expect("filed");
            handles.push(id);
        }
        let mut alive = Vec::new();
        for id in &handles {
            alive.extend(control.handle(id.clone()).await.expect("read"));
        }
        assert_eq!(alive.len(), HANDLES);
        control.give_up(&Handle::own(live.clone()), SystemTime::now());
        control.forget(alive[0].key).await;
        control.note_and_erase(alive[0].key, SystemTime::now());
        control.finish(Duration::from_secs(10)).await;
        assert_eq!(control.store.filed_under(live.key().0).await.expect("read").len(), HANDLES - 1);
        for id in handles.iter().filter(|id| id.key() == alive[0].key) {
            assert!(control.handle(id.clone()).await.expect("read").is_none());
        }
        assert!(control.handle(own).await.expect("read").is_some(), "the session's own");
    }
}
