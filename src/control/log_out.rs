//! Ending sessions by more than one handle: all of a browser, or those that a provider names.

use super::{Control, stopped};
use crate::{
    audit::Event,
    oidc::{LogoutToken, Provider, ProviderError},
    principal::UserId,
    refusal::Reason,
    session::{Live, Session, SessionKey, StoreError, further, further::Kind, record},
    text::sha256,
};
use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};
use tokio::sync::OwnedSemaphorePermit;

/// So many logout tokens are checked at once: anybody can send one.
pub(super) const LOGOUTS: usize = 32;
/// How long one more waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Why the trail says that such a session ended.
pub(super) const WHY: &str = "provider_signed_out";

/// Why a logout token did nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// It is not acceptable; the one rule that it breaks.
    #[error("{0}")]
    Refused(String),
    /// It cannot be checked now.
    #[error("{0}")]
    Unavailable(String),
    /// Too many are being checked.
    #[error("{LOGOUTS} logout tokens are being checked already")]
    Busy,
}

impl From<StoreError> for LogoutError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Control {
    /// Ends a session because its person signs out, and then all others of theirs that began in the same browser: sign-ins that
    /// tabs finished side by side, one that this one replaced a moment ago, or that replaced it.
    pub fn sign_out(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) {
        self.end_session(live, "signed_out", now);
        let (this, live) = (self.clone(), live.clone());
        self.start(async move {
            while let Err(error) = this.end_beside(&live, now).await {
                tracing::warn!(session = %live.hash, %error, "other sessions of the same browser are not ended yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
    }

    async fn end_beside(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) -> Result<(), StoreError> {
        let Some(browser) = live.session.browser else { return Ok(()) };
        let person = &live.session.person;
        let is_beside = |session: &Session| session.browser == Some(browser);
        for name in self.ring.names("user", &[person.issuer.as_bytes(), person.id.subject.as_bytes()]) {
            for key in self.store.filed_under(name).await? {
                if key != live.key() {
                    self.end_named(key, &is_beside, "signed_out", now).await?;
                }
            }
        }
        Ok(())
    }

    /// Verifies a logout token and ends the sessions that it names; how many there were. One that names none is fine.
    ///
    /// # Errors
    /// Any [`LogoutError`].
    pub async fn log_out(
        self: &Arc<Self>,
        provider: Arc<Provider>,
        token: String,
        now: SystemTime,
    ) -> Result<usize, LogoutError> {
        let issuer = provider.issuer().to_owned();
        self.end_verified(issuer, async move { provider.logout_token(&token, now).await }, now).await
    }

    /// Ends what a token of this issuer names, once `check` has verified it.
    async fn end_verified(
        self: &Arc<Self>,
        issuer: String,
        check: impl Future<Output = Result<LogoutToken, ProviderError>> + Send + 'static,
        now: SystemTime,
    ) -> Result<usize, LogoutError> {
        let place = self.place().await?;
        let this = self.clone();
        let work = async move {
            let said = check.await.map_err(|error| match error {
                ProviderError::Unavailable { cause, .. } => LogoutError::Unavailable(cause),
                other => LogoutError::Refused(other.to_string()),
            })?;
            drop(place); // what is verified waits for the store without it
            this.end_said(&issuer, &said, now).await
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped().into()))
    }

    /// A place among those whose tokens are checked, in the order in which they came.
    async fn place(&self) -> Result<OwnedSemaphorePermit, LogoutError> {
        match tokio::time::timeout(PATIENCE, self.logging_out.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => Err(LogoutError::Busy),
        }
    }

    /// Ends what a verified logout token names: what this node has in use at once, whether the store answers or not, then what is
    /// stored; and sign-ins that are under way, when they are filed. The token is used up last of all that can fail, so that a
    /// provider that is told 503 may send it again. One that comes again means nothing that began after it came first.
    async fn end_said(
        self: &Arc<Self>,
        issuer: &str,
        said: &LogoutToken,
        now: SystemTime,
    ) -> Result<usize, LogoutError> {
        let once = sha256(format!("logout {issuer} {}", said.id).as_bytes());
        let names = self.names_said(issuer, said);
        let first = names.first().and_then(|name| self.logouts.receive(once, *name, now));
        let is_meant =
            |session: &Session| is_said(issuer, said, session) && first.is_none_or(|first| session.created <= first);
        let mut ended = self.end_in_use(is_meant, WHY, now);
        let keys = self.named(&names, said).await?;
        if !self.store.use_state(once, said.until).await? {
            return Err(LogoutError::Refused("its `jti` was taken before".to_owned()));
        }
        for key in keys {
            ended += usize::from(self.end_surely(key, &is_meant, WHY, now).await);
        }
        Ok(ended)
    }

    /// Any session of this person that is in use here.
    pub fn session_of(&self, user: &UserId) -> Option<Arc<Live>> {
        let is_theirs = |live: &Arc<Live>| !live.is_ended() && !live.is_lapsed() && live.session.person.id == *user;
        self.open().values().filter_map(Weak::upgrade).find(is_theirs)
    }

    /// The names under which the sessions that a logout token may mean are filed, one for each key of the ring.
    fn names_said(&self, issuer: &str, said: &LogoutToken) -> Vec<[u8; 32]> {
        match (&said.sid, &said.subject) {
            (Some(sid), _) => self.sid_names(issuer, sid),
            (None, Some(subject)) => self.ring.names("user", &[issuer.as_bytes(), subject.as_bytes()]),
            (None, None) => Vec::new(),
        }
    }

    fn sid_names(&self, issuer: &str, sid: &str) -> Vec<[u8; 32]> {
        self.ring.names("sid", &[issuer.as_bytes(), sid.as_bytes()])
    }

    /// What is filed under these names of a logout token.
    async fn named(&self, names: &[[u8; 32]], said: &LogoutToken) -> Result<Vec<SessionKey>, StoreError> {
        let mut keys = Vec::new();
        for name in names {
            keys.extend(match said.sid {
                Some(_) => self.store.filed_under_sid(*name).await?,
                None => self.store.filed_under(*name).await?,
            });
        }
        Ok(keys)
    }

    /// A provider has said that this session is over since its sign-in began.
    pub(super) fn is_logged_out(&self, session: &Session) -> bool {
        let issuer = &session.person.issuer;
        let sids = session.sid.as_deref().map(|sid| self.sid_names(issuer, sid)).unwrap_or_default();
        self.logouts.mean(self.user_names(&session.person).into_iter().chain(sids), session.created)
    }

    /// Ends every session in use on this node that is meant, without the store's help; how many there were.
    fn end_in_use(self: &Arc<Self>, is_meant: impl Fn(&Session) -> bool, why: &'static str, now: SystemTime) -> usize {
        let in_use: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        let mut ended = 0;
        for live in in_use.iter().filter(|live| is_meant(&live.session)) {
            if self.end_here(live, why, now) {
                self.note_and_erase(live.key(), now);
                ended += 1;
            }
        }
        ended
    }

    /// Ends a session that is known by name only, however long the store takes: its token does not come again.
    async fn end_surely(
        self: &Arc<Self>,
        key: SessionKey,
        is_meant: &(impl Fn(&Session) -> bool + Sync),
        why: &'static str,
        now: SystemTime,
    ) -> bool {
        loop {
            match self.end_named(key, is_meant, why, now).await {
                Ok(ended) => return ended,
                Err(error) => {
                    tracing::warn!(session = %key.hash(), %error, "a session that its provider ended is not ended yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// Ends a session that is known by name only, in use or not. False: there is none, or it is not meant.
    pub(super) async fn end_named(
        self: &Arc<Self>,
        key: SessionKey,
        is_meant: &(impl Fn(&Session) -> bool + Sync),
        why: &'static str,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        let ended = self.end_named_here(key, is_meant, why, now).await?;
        if ended {
            self.note_and_erase(key, now);
        }
        Ok(ended)
    }

    /// The same, in memory only.
    async fn end_named_here(
        &self,
        key: SessionKey,
        is_meant: &(impl Fn(&Session) -> bool + Sync),
        why: &'static str,
        now: SystemTime,
    ) -> Result<bool, StoreError> {
        if let Some(live) = self.held(&key) {
            return Ok(is_meant(&live.session) && self.end_here(&live, why, now));
        }
        let Some(stored) = self.store.load(key).await?.filter(|stored| further::kind(stored) == Kind::Session) else {
            return Ok(false);
        };
        match record::open_index(&self.ring, &key, &stored) {
            Ok(session) => Ok(is_meant(&session) && self.end_stored_here(session, why, now)),
            Err(error) => {
                tracing::warn!(session = %key.hash(), %error, "a stored session cannot be opened");
                Ok(false)
            }
        }
    }

    /// Ends a session as it was read from the store, in memory only. False: it has ended already.
    pub(super) fn end_stored_here(&self, session: Session, why: &'static str, now: SystemTime) -> bool {
        let key = session.key;
        if self.is_undeleted(&key) {
            return false;
        }
        if let Some(live) = self.held(&key) {
            return self.end_here(&live, why, now);
        }
        self.shun(key);
        let since: Option<Arc<Live>> = {
            let open = self.open();
            self.revocations.end_session(&key);
            open.get(&key).and_then(Weak::upgrade)
        };
        if let Some(live) = since {
            return self.end_here(&live, why, now); // somebody began to use it meanwhile
        }
        self.streams.cut_session(&key.0, Reason::NoSession);
        let (person, hash) = (session.person, key.hash().to_string());
        self.audit.record(Event::SessionEnded { person, session: hash, why }, now);
        true
    }
}

/// A logout token means a session by `sid`, by `sub`, or by both at once.
///
/// Source: OpenID Connect Back-Channel Logout 1.0, section 2.7.
fn is_said(issuer: &str, said: &LogoutToken, session: &Session) -> bool {
    let person = &session.person;
    issuer == &*person.issuer
        && said.subject.as_deref().is_none_or(|subject| subject == &*person.id.subject)
        && said.sid.as_deref().is_none_or(|sid| session.sid.as_deref() == Some(sid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::{killed, scene};

    fn token(change: impl FnOnce(&mut LogoutToken)) -> LogoutToken {
        let mut said = LogoutToken {
            subject: Some("907".into()),
            sid: None,
            id: "once".into(),
            until: SystemTime::now() + Duration::from_secs(420),
        };
        change(&mut said);
        said
    }

    /// S-54, S-72: while the store cannot say which sessions are meant, those in use end all the same; the token is not used up,
    /// and does the rest when it comes again.
    #[tokio::test]
    async fn s72_a_store_that_does_not_answer_keeps_no_session_alive() {
        let (directory, control, id, live) = scene().await;
        let (issuer, now) = (live.session.person.issuer.clone(), SystemTime::now());
        control.store.break_down();
        let failed = control.end_said(&issuer, &token(|_| ()), now).await.expect_err("the store is closed");
        assert!(matches!(failed, LogoutError::Unavailable(_)), "{failed}");
        assert!(live.is_ended(), "at once in memory");
        while !directory.path().join("sessions.owed").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (_copy, control) = killed(&control, &directory).await;
        control.settle().await;
        assert!(control.store.load(id.key()).await.expect("open again").is_none(), "and then in the store");
        assert_eq!(control.end_said(&issuer, &token(|_| ()), now).await.expect("it comes again"), 0);
        let twice = control.end_said(&issuer, &token(|_| ()), now).await.expect_err("taken");
        assert_eq!(twice.to_string(), "its `jti` was taken before");
    }

    /// S-54, S-72: a store that hangs holds up neither the end of what is in use nor the tokens that come next.
    #[test]
    fn s72_sessions_in_use_end_before_the_store_is_asked() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
        runtime.expect("a runtime").block_on(async {
            let (_directory, control, _, live) = scene().await;
            let (released, release) = std::sync::mpsc::channel::<()>();
            drop(tokio::task::spawn_blocking(move || release.recv())); // the store cannot read meanwhile
            let (issuer, this) = (live.session.person.issuer.clone(), control.clone());
            let said = std::future::ready(Ok(token(|_| ())));
            let end = tokio::spawn(async move { this.end_verified(issuer.to_string(), said, SystemTime::now()).await });
            let begun = std::time::Instant::now();
            while !live.is_ended() {
                assert!(begun.elapsed() < Duration::from_secs(10), "it waits for the store");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert!(!end.is_finished());
            assert_eq!(control.logging_out.available_permits(), LOGOUTS, "its place is free");
            drop(released);
            assert_eq!(end.await.expect("it ends").expect("the store answers"), 1);
        });
    }

    /// S-72: a sign-in whose code was redeemed before the logout token came, and whose session is filed after, ends with the others:
    /// those of the person, or only those of the provider's session.
    #[tokio::test]
    async fn s72_a_sign_in_under_way_ends_with_what_the_token_means() {
        let (_directory, control, _, live) = scene().await;
        let (issuer, now) = (live.session.person.issuer.clone(), SystemTime::now());
        let (before, after) = (now - Duration::from_secs(1), now + Duration::from_secs(1));
        let of_sid = token(|said| (said.subject, said.sid) = (None, Some("one".into())));
        assert_eq!(control.end_said(&issuer, &of_sid, now).await.expect("fine"), 0);
        let (late, session) = control.another_of("907", Some("one"), before).await;
        assert!(session.is_ended() && control.handle(late).await.expect("read").is_none(), "under way");
        for (sid, begun) in [(Some("one"), after), (Some("two"), before), (None, before)] {
            let (id, session) = control.another_of("907", sid, begun).await;
            assert!(!session.is_ended() && control.handle(id).await.expect("read").is_some(), "{sid:?}");
        }
        control.settle().await; // what has ended, and is stored still, would be counted again
        assert_eq!(control.end_said(&issuer, &token(|said| said.id = "2".into()), now).await.expect("fine"), 4);
        for sid in [Some("two"), None] {
            assert!(control.another_of("907", sid, before).await.1.is_ended(), "{sid:?}");
        }
        assert!(!control.another_of("907", None, after).await.1.is_ended());
        assert!(!control.another_of("908", None, before).await.1.is_ended());
    }

    /// S-72: whoever sends a token once more ends nothing that began since.
    #[tokio::test]
    async fn s72_a_token_that_comes_again_ends_nothing_new() {
        let (_directory, control, _, live) = scene().await;
        let (issuer, now) = (live.session.person.issuer.clone(), SystemTime::now());
        assert_eq!(control.end_said(&issuer, &token(|_| ()), now).await.expect("fine"), 1);
        let (_, next) = control.another_at("907", now + Duration::from_secs(1)).await;
        let later = now + Duration::from_secs(2);
        control.end_said(&issuer, &token(|_| ()), later).await.expect_err("its `jti` was taken");
        assert!(!next.is_ended());
    }

    /// S-50, S-72: what another issuer says, or what is said of somebody else or another session of theirs, ends nothing.
    #[tokio::test]
    async fn s72_a_token_ends_only_what_it_means() {
        let (_directory, control, _, live) = scene().await;
        let (issuer, now) = (live.session.person.issuer.clone(), SystemTime::now());
        let others = [
            ("https://other.example.com", token(|said| said.id = "1".into())),
            (&*issuer, token(|said| (said.id, said.subject) = ("2".into(), Some("908".into())))),
            (&*issuer, token(|said| (said.id, said.sid) = ("3".into(), Some("another".into())))),
        ];
        for (issuer, said) in others {
            assert_eq!(control.end_said(issuer, &said, now).await.expect("fine"), 0, "{said:?}");
            control.end_in_use(|session| is_said(issuer, &said, session), WHY, now);
            assert!(!live.is_ended(), "{said:?}");
        }
        assert_eq!(control.end_said(&issuer, &token(|said| said.id = "4".into()), now).await.expect("fine"), 1);
        assert!(live.is_ended());
    }

    /// S-72: anybody can send tokens; whoever finds all places taken waits a while, and no longer.
    #[tokio::test]
    async fn s72_only_so_many_tokens_are_checked_at_once() {
        let (_directory, control, _, _live) = scene().await;
        let mut places = Vec::new();
        for _ in 0..LOGOUTS {
            places.push(control.place().await.expect("free"));
        }
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        assert!(matches!(control.place().await, Err(LogoutError::Busy)));
        assert!(begun.elapsed() >= PATIENCE);
        places.pop();
        drop(control.place().await.expect("free again"));
    }
}
