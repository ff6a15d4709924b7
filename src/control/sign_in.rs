//! From a code to a filed session.

use super::{Control, log_out, sessions::is_of, stopped};
use crate::{
    config::ProviderKind,
    oidc::{CodeGrant, GroupList, Provider, ProviderError, SignedIn},
    principal::{StepUp, Strength},
    session::{
        Live, Session, SessionId, SessionKey, StoreError,
        record::{self, Held},
        store::Filed,
    },
};
use secrecy::SecretString;
use std::{collections::HashSet, sync::Arc, time::SystemTime};
use url::Url;

/// So many codes are redeemed at once.
pub(super) const REDEMPTIONS: usize = 64;

/// So many sessions of one person are kept: whoever has an account could sign in without end. Those that were used longest ago
/// make room for a new one.
const SESSIONS: usize = 100;

/// What is needed to redeem a code, owned, so that it can cross to the control plane.
pub struct Redemption {
    /// `code`.
    pub code: SecretString,
    /// `redirect_uri`.
    pub redirect_uri: Url,
    /// The nonce of the ID token.
    pub nonce: String,
    /// `code_verifier`.
    pub verifier: SecretString,
    /// SHA-256 of the `state`, which is used up by this.
    pub state: [u8; 32],
    /// Until when it has to be remembered that the state was used: it is too old afterwards.
    pub remember: SystemTime,
    /// What the sign-in was asked to be.
    pub step_up: Option<StepUp>,
    /// The person was asked for their consent, so that a refresh token comes if one can.
    pub consented: bool,
}

/// Where a sign-in comes from.
pub struct Visitor {
    /// The host that the session's own handle is for.
    pub host: Arc<str>,
    /// What the browser calls itself.
    pub device: Option<String>,
    /// SHA-256 of what binds sign-ins to the browser.
    pub browser: Option<[u8; 32]>,
}

/// Why a code was not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// The state had been used before.
    #[error("the sign-in was finished before")]
    Replayed,
    /// Too many codes are being redeemed.
    #[error("{REDEMPTIONS} sign-ins are being finished already")]
    Busy,
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider refused.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Google gives a refresh token only with the person's consent, and did not ask for it again.
    #[error("no refresh token came, and none will without the person's consent")]
    Consent {
        /// Whose.
        subject: Arc<str>,
    },
}

impl Control {
    /// Uses up the state, redeems the code, and files the session that it proves.
    ///
    /// # Errors
    /// Any [`RedeemError`].
    pub async fn sign_in(
        self: &Arc<Self>,
        provider: Arc<Provider>,
        redemption: Redemption,
        from: Visitor,
        now: SystemTime,
    ) -> Result<(SessionId, Arc<Live>, Option<GroupList>), RedeemError> {
        let Ok(place) = self.redeeming.clone().try_acquire_owned() else { return Err(RedeemError::Busy) };
        let this = self.clone();
        let work = async move {
            let _place = place;
            if !this.store.use_state(redemption.state, redemption.remember).await? {
                return Err(RedeemError::Replayed);
            }
            let grant = CodeGrant {
                code: &redemption.code,
                redirect_uri: &redemption.redirect_uri,
                nonce: &redemption.nonce,
                verifier: &redemption.verifier,
                step_up: redemption.step_up.as_ref(),
            };
            let proved = provider.redeem(&grant, now).await?;
            let is_google = provider.settings.kind == ProviderKind::Google;
            if is_google && proved.tokens.refresh.is_none() && !redemption.consented {
                return Err(RedeemError::Consent { subject: proved.person.id.subject });
            }
            let groups = proved.groups.clone();
            let (id, live) = this.file(proved, from, now).await?;
            Ok((id, live, groups))
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped().into()))
    }

    pub(super) async fn file(
        self: &Arc<Self>,
        proved: SignedIn,
        from: Visitor,
        now: SystemTime,
    ) -> Result<(SessionId, Arc<Live>), StoreError> {
        let id = SessionId::new();
        let person = Arc::new(proved.person);
        let session = Session {
            key: id.key(),
            person: person.clone(),
            sid: proved.sid,
            strength: Arc::new(Strength { created: Some(now), ..proved.strength }),
            created: now,
            seen: now,
            end: now + self.limits().absolute,
            device: from.device,
            browser: from.browser,
            host: from.host,
            lapsed: false,
        };
        let kept = if proved.tokens.refresh.is_none() { proved.groups.map(|list| list.paths.into()) } else { None };
        let held = Held { tokens: proved.tokens, groups: kept };
        let names = self.names(&session);
        let filed = Filed {
            key: id.key(),
            record: record::seal(&self.ring, &id, &session, &held),
            user: names.user,
            sid: names.sid,
            end: session.end + self.limits().grace,
        };
        self.store.create(filed).await?;
        let live = Live::new(id.clone(), session, held);
        self.open().insert(id.key(), Arc::downgrade(&live));
        self.warm.insert(id.key(), live.clone()).await;
        if self.is_ended_user(&live.session) {
            self.end_session(&live, "revoked", now); // all of theirs that began before were ended meanwhile
        } else if self.is_logged_out(&live.session) {
            self.end_session(&live, log_out::WHY, now); // or those that their provider named
        }
        if let Err(error) = self.supersede(&live, now).await {
            tracing::warn!(user = %live.session.person.id, %error, "it is not known how many sessions a person has");
        }
        Ok((id, live))
    }

    /// Ends those of a person's sessions that are too many beside `new`.
    async fn supersede(self: &Arc<Self>, new: &Live, now: SystemTime) -> Result<(), StoreError> {
        let mut others = HashSet::new();
        for name in self.user_names(&new.session.person) {
            others.extend(self.store.filed_under(name).await?);
        }
        others.retain(|key| *key != new.key() && !self.is_undeleted(key));
        let beyond = (others.len() + 1).saturating_sub(SESSIONS);
        if beyond == 0 {
            return Ok(());
        }
        let mut by_use = Vec::new();
        for key in others {
            by_use.push((self.last_seen(&key).await?, key));
        }
        by_use.sort_unstable();
        for (seen, key) in by_use.into_iter().take(beyond) {
            match seen {
                Some(_) => self.end_superseded(key, new, now).await?,
                None => self.note_and_erase(key, now),
            }
        }
        Ok(())
    }

    /// When a session was last used, as far as is known. `None`: it is the trace of one that was replaced, or cannot be opened.
    async fn last_seen(&self, key: &SessionKey) -> Result<Option<SystemTime>, StoreError> {
        if let Some(live) = self.held(key) {
            return Ok(Some(live.as_seen().seen));
        }
        let stored = self.store.load(*key).await?;
        Ok(stored.and_then(|stored| record::open_index(&self.ring, key, &stored).ok()).map(|session| session.seen))
    }

    async fn end_superseded(self: &Arc<Self>, key: SessionKey, new: &Live, now: SystemTime) -> Result<(), StoreError> {
        if let Some(live) = self.held(&key) {
            self.revoke_tokens(&live);
        }
        let is_theirs = |session: &Session| is_of(session, &new.session.person);
        self.end_named(key, &is_theirs, "superseded", now).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::scene;
    use std::time::Duration;

    /// Whoever has an account cannot fill the store: the session that was used longest ago makes room, in use or stored, and nobody
    /// else's.
    #[tokio::test]
    async fn sessions_of_one_person_are_bounded() {
        let (_directory, control, first, live) = scene().await;
        let (_, foreign) = control.another("908").await;
        let begin = live.session.created;
        let mut handles = Vec::new();
        for number in 1..SESSIONS as u64 {
            handles.push(control.another_at("907", begin + Duration::from_secs(number)).await);
        }
        live.touch(begin + Duration::from_secs(30));
        let (oldest, _) = handles.remove(0);
        control.warm.invalidate(&oldest.key()).await;
        assert!(handles.iter().all(|(_, live)| !live.is_ended()), "as many as there may be");
        control.another_at("907", begin + Duration::from_secs(500)).await;
        assert!(control.handle(oldest).await.expect("read").is_none(), "it was used longest ago");
        assert!(handles.iter().all(|(_, live)| !live.is_ended()));
        for more in 0..5 {
            control.another_at("907", begin + Duration::from_secs(600 + more)).await;
        }
        assert_eq!(handles.iter().filter(|(_, live)| live.is_ended()).count(), 5);
        assert!(control.handle(first).await.expect("read").is_some(), "in use lately");
        assert!(!foreign.is_ended());
        control.settle().await;
        let name = control.user_names(&live.session.person)[0];
        assert_eq!(control.store.filed_under(name).await.expect("read").len(), SESSIONS);
    }

    /// What a session that was replaced leaves behind counts as well, and goes first.
    #[tokio::test]
    async fn traces_of_replaced_sessions_are_bounded() {
        let (_directory, control, _, live) = scene().await;
        let now = SystemTime::now();
        let mut lives = vec![live];
        for _ in 1..SESSIONS {
            lives.push(control.another_at("907", now).await.1);
        }
        let old = lives.remove(7);
        control.further(&old, "api.example.com".into(), None, now).await.expect("filed");
        let trace = crate::session::further::moved(&control.ring, old.handle(), lives[0].handle());
        assert!(control.store.replace(old.key(), trace, None).await.expect("replaced"));
        old.end();
        control.open().remove(&old.key());
        control.another_at("907", now).await;
        assert!(lives.iter().all(|live| !live.is_ended()));
        let begun = std::time::Instant::now();
        while control.store.load(old.key()).await.expect("read").is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it stays");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
