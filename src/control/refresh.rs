//! New tokens for a session, one refresh at a time, and the groups that membership rests on.

use super::Control;
use crate::{
    audit::Event,
    config::ProviderKind,
    oidc::{GroupList, ProviderError},
    session::{Live, record::Held},
};
use http::StatusCode;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// How long a request waits for new tokens. The refresh goes on without it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Control {
    /// Refreshes a session's tokens ahead of their end; nobody waits for that.
    pub fn refresh_ahead(self: &Arc<Self>, live: &Arc<Live>, now: SystemTime) {
        if !live.claims_read_ahead(now) {
            return;
        }
        let (this, live) = (self.clone(), live.clone());
        self.start(async move {
            let before = live.held();
            let _ = this.refresh_once(&live, &before).await;
        });
    }

    /// Refreshes a session's tokens now, or waits for the refresh that is under way; ten seconds at most.
    ///
    /// # Errors
    /// Any [`ProviderError`]; after `Rejected` and `Invalid` the session is over. After `Unavailable` the refresh may still be
    /// under way, and what it brings is stored all the same.
    pub async fn refresh(self: &Arc<Self>, live: &Arc<Live>) -> Result<Option<GroupList>, ProviderError> {
        let (this, own) = (self.clone(), live.clone());
        let work = async move {
            let before = own.held();
            this.refresh_once(&own, &before).await
        };
        match timeout(PATIENCE, self.run(work)).await {
            Ok(done) => done.unwrap_or_else(|| Err(unavailable("control plane", "it stops"))),
            Err(_) => {
                let cause = format!("it gave no new tokens in {} s, and is still waited for", PATIENCE.as_secs());
                Err(unavailable(live.session.person.id.provider.as_str(), &cause))
            }
        }
    }

    /// One refresh at a time per session; whoever waited for another's is content with its outcome, good or bad.
    async fn refresh_once(
        self: &Arc<Self>,
        live: &Arc<Live>,
        before: &Held,
    ) -> Result<Option<GroupList>, ProviderError> {
        let _one = live.refreshing.lock().await;
        let (person, now) = (&live.session.person, SystemTime::now());
        if live.is_ended() {
            let (provider, description) = (person.id.provider.to_string(), "the session is over".to_owned());
            return Err(ProviderError::Rejected { provider, description });
        }
        if live.is_newer_than(&before.tokens) {
            return Ok(None);
        }
        if live.defers_refresh(now) {
            return Err(unavailable(person.id.provider.as_str(), "it did not answer a moment ago"));
        }
        let Some(provider) = self.provider_of(person) else {
            return Err(unavailable(person.id.provider.as_str(), "it is no longer configured"));
        };
        match provider.refresh(&before.tokens, &person.id.subject, now).await {
            Ok(refreshed) => {
                let held = Held { tokens: refreshed.tokens, groups: before.groups.clone() };
                self.keep(live, held, now).await;
                if let Some(list) = &refreshed.groups {
                    live.bring(list.clone(), now);
                }
                Ok(refreshed.groups)
            }
            Err(error) => self.refresh_failed(live, before, error, SystemTime::now()).await,
        }
    }

    /// Stores new tokens before anybody uses them. Should the store fail, memory has them, and the next write stores them.
    async fn keep(self: &Arc<Self>, live: &Arc<Live>, held: Held, now: SystemTime) {
        match self.store.replace(live.key(), live.record(&self.ring, &held), Some(self.names(&live.session))).await {
            Ok(true) => live.hold(held),
            Ok(false) => self.end_session(live, "deleted", now),
            Err(error) => {
                tracing::error!(session = %live.hash, %error, "refreshed tokens are not stored");
                live.hold(held);
            }
        }
    }

    async fn refresh_failed(
        self: &Arc<Self>,
        live: &Arc<Live>,
        before: &Held,
        error: ProviderError,
        now: SystemTime,
    ) -> Result<Option<GroupList>, ProviderError> {
        let deferred = |seconds| live.defer_refresh(now + Duration::from_secs(seconds));
        match &error {
            ProviderError::Rejected { .. } => {
                if let Some(newer) = self.stored_newer(live, before).await {
                    live.hold(newer);
                    return Ok(None);
                }
                self.end_session(live, "refresh_rejected", now);
            }
            ProviderError::Invalid { .. }
            | ProviderError::Outsider { .. }
            | ProviderError::TooManyGroups { .. }
            | ProviderError::Insufficient { .. } => {
                tracing::warn!(session = %live.hash, %error, "a refresh was answered unacceptably");
                self.end_session(live, "refresh_invalid", now);
            }
            ProviderError::Client { .. } => {
                tracing::error!(%error, "sessions cannot be refreshed: check `client_id` and `client_secret`");
                deferred(60);
                self.refresh_deferred(live, &error, now);
            }
            ProviderError::Unavailable { .. } | ProviderError::AccessToken { .. } => {
                deferred(5 + u64::from(live.key().0[0]) % 10);
                self.refresh_deferred(live, &error, now);
            }
        }
        Err(error)
    }

    fn refresh_deferred(&self, live: &Live, error: &ProviderError, now: SystemTime) {
        let (person, session) = (live.session.person.clone(), live.hash.to_string());
        self.audit.record(Event::RefreshDeferred { person, session, cause: error.to_string() }, now);
    }

    /// Tokens that somebody else stored since `before` was given.
    async fn stored_newer(&self, live: &Arc<Live>, before: &Held) -> Option<Held> {
        let record = self.store.load(live.key()).await.ok()??;
        let held = live.open(&self.ring, &record).ok()?;
        (held.tokens.issued > before.tokens.issued).then_some(held)
    }

    /// Reads the groups of a session's person at their provider: what membership rests on.
    ///
    /// # Errors
    /// Any [`ProviderError`]; after `Rejected` and `Invalid` of a refresh the session is over.
    pub async fn read_groups(self: &Arc<Self>, live: &Arc<Live>) -> Result<Option<GroupList>, ProviderError> {
        let person = &live.session.person;
        let Some(provider) = self.provider_of(person) else {
            return Err(unavailable(person.id.provider.as_str(), "it is no longer configured"));
        };
        let before = live.held();
        if provider.settings.kind != ProviderKind::Gitlab
            && before.tokens.refresh.is_some()
            && let Some(list) = self.refresh_once(live, &before).await?
        {
            return Ok(Some(list));
        }
        let subject = &person.id.subject;
        match provider.groups_of(&live.held().tokens.access, subject).await {
            Err(ProviderError::AccessToken { .. }) if before.tokens.refresh.is_some() => {
                self.refresh_once(live, &before).await?;
                let again = provider.groups_of(&live.held().tokens.access, subject).await;
                if let Err(ProviderError::AccessToken { status: StatusCode::UNAUTHORIZED, .. }) = &again {
                    // It gave this token a moment ago: what it does not accept any more is the person. (RFC 6750, section 3.1;
                    // 403 may be a ban of our address.)
                    self.end_session(live, "token_refused", SystemTime::now());
                }
                again
            }
            other => other,
        }
    }
}

fn unavailable(provider: &str, cause: &str) -> ProviderError {
    ProviderError::Unavailable { provider: provider.to_owned(), cause: cause.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::tests::scene;

    /// P21: whoever needs new tokens waits for them, but not for as long as the provider may take.
    #[tokio::test]
    async fn p21_a_request_waits_ten_seconds_for_a_refresh() {
        let (_directory, control, _, live) = scene().await;
        let under_way = live.refreshing.lock().await;
        tokio::time::pause();
        let started = tokio::time::Instant::now();
        let late = control.refresh(&live).await.expect_err("it is under way");
        let waited = started.elapsed();
        assert!(late.to_string().contains("no new tokens in 10 s"), "{late}");
        assert!((PATIENCE..PATIENCE + Duration::from_secs(1)).contains(&waited), "{waited:?}");
        assert!(!live.is_ended());
        drop(under_way);
    }
}
