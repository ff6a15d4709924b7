//! From a code to a filed session.

use super::{Control, stopped};
use crate::{
    oidc::{CodeGrant, GroupList, Provider, ProviderError, SignedIn},
    principal::Strength,
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
        device: Option<String>,
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
            };
            let proved = provider.redeem(&grant, now).await?;
            let groups = proved.groups.clone();
            let (id, live) = this.file(proved, device, now).await?;
            Ok((id, live, groups))
        };
        self.run(work).await.unwrap_or_else(|| Err(stopped().into()))
    }

    pub(super) async fn file(
        &self,
        proved: SignedIn,
        device: Option<String>,
        now: SystemTime,
    ) -> Result<(SessionId, Arc<Live>), StoreError> {
        let id = SessionId::new();
        let person = Arc::new(proved.person);
        let session = Session {
            key: id.key(),
            person: person.clone(),
            sid: proved.sid,
            strength: Arc::new(Strength {
                created: Some(now),
                auth_time: proved.auth_time,
                amr: proved.amr.into(),
                acr: proved.acr.map(Into::into),
            }),
            created: now,
            seen: now,
            end: now + self.limits().absolute,
            device,
        };
        let kept = if proved.tokens.refresh.is_none() { proved.groups.map(|list| list.paths) } else { None };
        let held = Held { tokens: proved.tokens, groups: kept };
        let name = |label, value: &str| self.ring.names(label, &[person.issuer.as_bytes(), value.as_bytes()])[0];
        let filed = Filed {
            key: id.key(),
            record: record::seal(&self.ring, &id, &session, &held),
            user: name("user", &person.id.subject),
            sid: session.sid.as_deref().map(|sid| name("sid", sid)),
            end: session.end,
        };
        self.store.create(filed).await?;
        let live = Live::new(id.clone(), session, held);
        self.open().insert(id.key(), Arc::downgrade(&live));
        self.warm.insert(id.key(), live.clone()).await;
        Ok((id, live))
    }
}
