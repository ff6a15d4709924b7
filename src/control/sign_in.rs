//! From a code to a filed session.

use super::{Control, stopped};
use crate::{
    config::ProviderKind,
    oidc::{CodeGrant, GroupList, Provider, ProviderError, SignedIn},
    principal::{StepUp, Strength},
    session::{
        Live, Session, SessionId, StoreError,
        record::{self, Held},
        store::Filed,
    },
};
use secrecy::SecretString;
use std::{sync::Arc, time::SystemTime};
use url::Url;

/// So many codes are redeemed at once.
pub(super) const REDEMPTIONS: usize = 64;

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
        let kept = if proved.tokens.refresh.is_none() { proved.groups.map(|list| list.paths) } else { None };
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
        }
        Ok((id, live))
    }
}
