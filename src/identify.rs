//! From a cookie to the caller. No groups, no redirects.

use crate::{
    audit::Crossing,
    canonical::{Canonical, Class, OwnCookie},
    control::Control,
    principal::{Membership, Name, Principal, Unknown},
    refusal::{Reason, Refusal},
    session::{Live, SessionId, SessionKey, live::Clock, revocation::Numbers},
};
use http::Method;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// A core keeps at most this many sessions at hand; then it starts anew.
const AT_HAND: usize = 20_000;

/// Who sent a request, as far as a credential tells.
#[derive(Clone)]
pub enum Caller {
    /// Nobody we know: no cookie, or one that names no live session.
    Anonymous,
    /// A person with a session.
    Person(Arc<Live>),
    /// A person with a session of a provider that the route does not accept: nobody here, and told so.
    Foreign(Arc<Live>),
}

/// Finds sessions by their handle; one per core, with the core's own first-level cache.
pub struct Identify {
    control: Arc<Control>,
    at_hand: Mutex<HashMap<SessionKey, (Arc<Live>, Numbers)>>,
}

impl Caller {
    /// Who the holder of this session is where people of `providers` are accepted.
    pub fn at(providers: &[Name], live: Option<Arc<Live>>) -> Self {
        match live {
            None => Self::Anonymous,
            Some(live) if providers.contains(&live.session.person.id.provider) => Self::Person(live),
            Some(live) => Self::Foreign(live),
        }
    }

    /// The session, accepted here or not.
    pub fn live(&self) -> Option<&Arc<Live>> {
        match self {
            Self::Anonymous => None,
            Self::Person(live) | Self::Foreign(live) => Some(live),
        }
    }
}

impl Identify {
    /// An empty one.
    pub fn new(control: Arc<Control>) -> Self {
        Self { control, at_hand: Mutex::default() }
    }

    /// Who sent `asked` to a route that accepts people of `providers`.
    ///
    /// # Errors
    /// `StoreUnavailable`, never anonymity, if the store cannot say; `ProviderUnavailable` if the session has to be
    /// refreshed first and cannot be.
    pub async fn caller(&self, asked: &Canonical, providers: &[Name], now: SystemTime) -> Result<Caller, Refusal> {
        let live = self.session(&asked.session, now).await?;
        if let Some(live) = live.as_ref().filter(|live| is_activity(asked) && live.touch(now)) {
            self.control.save_activity(live);
        }
        Ok(Caller::at(providers, live))
    }

    /// The live session that a cookie names. Two cookies name none.
    ///
    /// # Errors
    /// See [`Identify::caller`].
    pub async fn session(&self, cookie: &OwnCookie, now: SystemTime) -> Result<Option<Arc<Live>>, Refusal> {
        let Some(live) = self.known(cookie).await? else { return Ok(None) };
        match self.control.clock(&live, now) {
            Clock::Alive => Ok(Some(live)),
            Clock::RefreshAhead => {
                self.control.refresh_ahead(&live, now);
                Ok(Some(live))
            }
            Clock::RefreshFirst => Box::pin(self.refreshed(live)).await,
            Clock::Idle => Ok(self.ended(&live, "idle", now)),
            Clock::Over => Ok(self.ended(&live, "absolute", now)),
            Clock::Moved => Ok(self.ended(&live, "issuer_changed", now)),
        }
    }

    /// The session that a cookie names, whatever its clocks say: enough to end or replace it, never to act with it. No
    /// provider is asked.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn known(&self, cookie: &OwnCookie) -> Result<Option<Arc<Live>>, Refusal> {
        let OwnCookie::One(value) = cookie else { return Ok(None) };
        match SessionId::from_cookie(value) {
            Some(id) => self.find(id).await,
            None => Ok(None),
        }
    }

    async fn find(&self, id: SessionId) -> Result<Option<Arc<Live>>, Refusal> {
        let key = id.key();
        if let Some(live) = self.look(&key) {
            return Ok(Some(live));
        }
        let unavailable = |error| {
            Refusal::new(Reason::StoreUnavailable, "Your session cannot be looked up right now.").because(error)
        };
        let Some(live) = Box::pin(self.control.session(id)).await.map_err(unavailable)? else { return Ok(None) };
        let numbers = live.numbers(&self.control.revocations);
        if live.is_ended() {
            return Ok(None);
        }
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if at_hand.len() >= AT_HAND {
            at_hand.clear();
        }
        at_hand.insert(key, (live.clone(), numbers));
        Ok(Some(live))
    }

    /// The session at hand, if nothing was revoked since it was put there.
    fn look(&self, key: &SessionKey) -> Option<Arc<Live>> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let (live, numbers) = at_hand.get(key)?;
        if *numbers == live.numbers(&self.control.revocations) && !live.is_ended() {
            return Some(live.clone());
        }
        at_hand.remove(key);
        None
    }

    async fn refreshed(&self, live: Arc<Live>) -> Result<Option<Arc<Live>>, Refusal> {
        match self.control.refresh(&live).await {
            Ok(_) => Ok((!live.is_ended()).then_some(live)),
            Err(_) if live.is_ended() => Ok(None),
            Err(error) => Err(Refusal::new(
                Reason::ProviderUnavailable,
                "Your session has to be renewed, and the sign-in provider does not answer.",
            )
            .because(error)),
        }
    }

    fn ended(&self, live: &Arc<Live>, why: &'static str, now: SystemTime) -> Option<Arc<Live>> {
        self.control.end_session(live, why, now);
        None
    }
}

/// Says in the record whose request it is, before anybody looked at their groups.
pub fn introduce(live: &Live, crossing: &Crossing) {
    crossing.session(&live.hash);
    crossing.principal(&Principal::User {
        person: live.session.person.clone(),
        membership: Membership::Unknown(Unknown::NeverRead),
        strength: live.session.strength.clone(),
    });
}

/// Only what a person does counts as activity: a page that polls does not keep its session alive.
fn is_activity(asked: &Canonical) -> bool {
    match asked.class {
        Class::Navigation | Class::Submission | Class::Machine => true,
        Class::Fetch => asked.method != Method::GET && asked.method != Method::HEAD,
        Class::Stream | Class::WebSocket | Class::Preflight | Class::Grpc => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::SessionSettings,
        control::{Providers, tests::scene},
    };
    use std::time::Duration;

    /// What ends access never waits: a session whose provider does not answer can still be signed out.
    #[tokio::test]
    async fn a_session_that_cannot_be_refreshed_can_still_be_ended() {
        let (_directory, control, id, live) = scene().await;
        let day = Duration::from_secs(86_400);
        control.configure(Providers::new(), SessionSettings { idle: day, absolute: day });
        let (identify, cookie) = (Identify::new(control.clone()), OwnCookie::One(id.to_cookie().into()));
        let later = SystemTime::now() + Duration::from_secs(3 * 3600);
        let refused = identify.session(&cookie, later).await.err().expect("it has to be refreshed first");
        assert_eq!(refused.reason, Reason::ProviderUnavailable);
        let known = identify.known(&cookie).await.expect("nobody is asked").expect("there");
        assert!(Arc::ptr_eq(&known, &live));
    }
}
