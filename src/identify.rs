//! From a token, a cookie or a certificate to the caller. No groups, no redirects.

mod credential;
mod tokens;

use crate::{
    audit::Crossing,
    canonical::{Canonical, Class, ClientCertificate, OwnCookie},
    control::{Control, Handle, Issuers},
    principal::{Bearer, Holder, Membership, Name, Principal, Service, Unknown, UserId, Verified},
    refusal::{Reason, Refusal},
    route::{Activity, Route},
    session::{Live, SessionId, SessionKey, live::Clock, revocation::Numbers},
    text::sha256,
};
use http::{Method, header};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use tokens::{Found, Tokens};

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
    /// A person, job or service with a token or certificate of its own.
    Token(Arc<Bearer>),
}

/// Who sent a request, and the field that the credential stood in which told it.
pub struct Identified {
    /// Who it is.
    pub caller: Caller,
    /// The credential is one that a browser may send by itself: the password of `Basic`, or a certificate.
    pub ambient: bool,
    /// Hash of the live session that came beside a token, which counts for nothing then.
    pub beside: Option<Arc<str>>,
    /// The request, without a token that was ours to read: the upstream sees it only where the route says so.
    pub asked: Canonical,
}

/// Finds sessions by their handle; one per core, with the core's own first-level cache.
pub struct Identify {
    control: Arc<Control>,
    tokens: Tokens,
    at_hand: Mutex<HashMap<SessionKey, (Handle, Seen)>>,
}

/// The numbers under which a handle and its session were found.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Seen {
    handle: Numbers,
    session: Numbers,
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

    /// The same caller where people of this route's providers, and tokens of its issuers, are accepted.
    pub fn at_route(self, route: &Route) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Person(live) | Self::Foreign(live) => Self::at(&route.providers, Some(live)),
            Self::Token(bearer) if route.token_issuers.contains(&bearer.issuer) => Self::Token(bearer),
            Self::Token(_) => Self::Anonymous,
        }
    }

    /// The session, accepted here or not.
    pub fn live(&self) -> Option<&Arc<Live>> {
        match self {
            Self::Anonymous | Self::Token(_) => None,
            Self::Person(live) | Self::Foreign(live) => Some(live),
        }
    }

    /// The token or certificate, if they came with one.
    pub fn bearer(&self) -> Option<&Arc<Bearer>> {
        match self {
            Self::Token(bearer) => Some(bearer),
            Self::Anonymous | Self::Person(_) | Self::Foreign(_) => None,
        }
    }
}

impl Identified {
    fn without_token(caller: Caller, asked: Canonical) -> Self {
        let ambient = caller.bearer().is_some(); // by a certificate
        Self { caller, ambient, beside: None, asked }
    }
}

impl Identify {
    /// An empty one.
    pub fn new(control: Arc<Control>) -> Self {
        Self { tokens: Tokens::new(control.clone()), control, at_hand: Mutex::default() }
    }

    /// Who sent `asked` to `route`: by a token of an issuer of the route; else by the session's cookie; else by the client's
    /// certificate.
    ///
    /// # Errors
    /// `StoreUnavailable`, never anonymity, if the store cannot say; `ProviderUnavailable` if the session has to be
    /// refreshed first and cannot be, or if nobody can say whether a token is good; `InvalidToken` for one that is ours and not
    /// good, and for a credential of somebody else's where there is no session.
    pub async fn caller(
        &self,
        asked: Canonical,
        route: &Route,
        issuers: &Issuers,
        now: SystemTime,
    ) -> Result<Identified, Refusal> {
        if route.token_issuers.is_empty() {
            let caller = self.by_session(&asked, route, now).await?;
            return Ok(Identified::without_token(caller, asked));
        }
        match self.tokens.find(&asked, route, issuers, now).await? {
            Found::Ours(bearer, field) => {
                if route.tokens.one_time {
                    Box::pin(self.use_up(&bearer)).await?;
                }
                let beside = Box::pin(self.beside(&asked)).await;
                let ambient = field == header::AUTHORIZATION && credential::is_basic(&asked);
                let asked = asked.without(Some(&field).filter(|_| !route.tokens.forward));
                Ok(Identified { caller: Caller::Token(bearer), ambient, beside, asked })
            }
            other => match (self.by_session(&asked, route, now).await?, other) {
                (Caller::Anonymous, Found::Foreign) => {
                    let why = asked.headers.get(header::AUTHORIZATION).map(credential::unknown).unwrap_or_default();
                    Err(tokens::invalid(format!(
                        "The credential of this request is of nobody who is known here: {why}."
                    ))
                    .because(why))
                }
                (Caller::Anonymous, _) => Ok(Identified::without_token(by_certificate(&asked, route, issuers), asked)),
                (caller, _) => Ok(Identified::without_token(caller, asked)),
            },
        }
    }

    /// The session that came beside a token. It does not matter, so nothing hinges on whether it can be looked up.
    async fn beside(&self, asked: &Canonical) -> Option<Arc<str>> {
        let live = self.known(asked).await.ok().flatten()?.live;
        (!live.is_lapsed()).then(|| live.hash.clone())
    }

    /// A token is good for one request: whoever saw it on the way can do nothing with it.
    async fn use_up(&self, bearer: &Bearer) -> Result<(), Refusal> {
        let (Some(jti), Some(ends)) = (&bearer.jti, bearer.ends) else {
            return Err(tokens::invalid("The token has no `jti`, and is to be used once here."));
        };
        let name = sha256(format!("token {} {jti}", bearer.issuer).as_bytes());
        match self.control.spend(name, ends).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(tokens::invalid("The token was used before, and is good for one request here.")),
            Err(error) => {
                let sentence = "Whether this token was used before cannot be looked up right now.";
                Err(Refusal::new(Reason::StoreUnavailable, sentence).because(error))
            }
        }
    }

    async fn by_session(&self, asked: &Canonical, route: &Route, now: SystemTime) -> Result<Caller, Refusal> {
        let live = match self.session(asked, now).await? {
            None if route.grace.is_some() => Box::pin(self.graced(asked, route, now)).await?,
            live => live.inspect(|live| self.note(live, asked, route, now)),
        };
        Ok(Caller::at(&route.providers, live))
    }

    fn note(&self, live: &Arc<Live>, asked: &Canonical, route: &Route, now: SystemTime) {
        if is_activity(asked, route) && live.touch(now) {
            self.control.save_activity(live);
        }
    }

    /// Whose session its clocks have just ended, for the files of a page that is still open (P65). Groups are looked up and
    /// policies decide as always.
    async fn graced(&self, asked: &Canonical, route: &Route, now: SystemTime) -> Result<Option<Arc<Live>>, Refusal> {
        let Some(grace) = &route.grace else { return Ok(None) };
        let reads = matches!(asked.method, Method::GET | Method::HEAD) && asked.class == Class::Fetch;
        if !reads || !grace.paths.iter().any(|path| path.matches(&asked.target.folded)) {
            return Ok(None);
        }
        let handle = self.known(asked).await?;
        let live = handle.map(|handle| handle.live).filter(|live| live.is_lapsed());
        Ok(live.filter(|live| now < self.control.ends(live) + grace.life))
    }

    /// The live session that the request's cookie names. Two cookies name none.
    ///
    /// # Errors
    /// See [`Identify::caller`].
    pub async fn session(&self, asked: &Canonical, now: SystemTime) -> Result<Option<Arc<Live>>, Refusal> {
        let Some(Handle { live, .. }) = self.known(asked).await? else { return Ok(None) };
        if live.is_lapsed() {
            return Ok(self.lapsed(&live, "idle", now)); // for good, whatever its clocks say after a reload
        }
        match self.control.clock(&live, now) {
            Clock::Alive => Ok(Some(live)),
            Clock::RefreshAhead => {
                self.control.refresh_ahead(&live, now);
                Ok(Some(live))
            }
            Clock::RefreshFirst => Box::pin(self.refreshed(live)).await,
            Clock::Idle => Ok(self.lapsed(&live, "idle", now)),
            Clock::Over => Ok(self.lapsed(&live, "absolute", now)),
            Clock::Moved => {
                self.control.end_session(&live, "issuer_changed", now);
                Ok(None)
            }
        }
    }

    /// The session that the request's cookie names, whatever its clocks say: enough to end or replace it, never to act with
    /// it. No provider is asked. A handle works on its own host only.
    ///
    /// # Errors
    /// `StoreUnavailable`.
    pub async fn known(&self, asked: &Canonical) -> Result<Option<Handle>, Refusal> {
        let OwnCookie::One(value) = &asked.session else { return Ok(None) };
        let Some(id) = SessionId::from_cookie(value) else { return Ok(None) };
        let found = self.find(id).await?;
        Ok(found.filter(|handle| {
            let here = *handle.host == *asked.host.as_str();
            if !here {
                tracing::warn!(session = %handle.live.hash, host = %asked.host, "a handle came to a host that it is not for");
            }
            here
        }))
    }

    async fn find(&self, id: SessionId) -> Result<Option<Handle>, Refusal> {
        let key = id.key();
        if let Some(handle) = self.look(&key) {
            return Ok(Some(handle));
        }
        let unavailable = |error| {
            Refusal::new(Reason::StoreUnavailable, "Your session cannot be looked up right now.").because(error)
        };
        let ended = self.control.revocations.ended(&key);
        let Some(handle) = Box::pin(self.control.handle(id)).await.map_err(unavailable)? else { return Ok(None) };
        let seen = self.numbers(&handle);
        if handle.live.is_ended() {
            return Ok(None);
        }
        if self.control.revocations.ended(&key) != ended {
            return Ok(Some(handle)); // it may have been given up since it was found: good for this once
        }
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if at_hand.len() >= AT_HAND {
            at_hand.clear();
        }
        at_hand.insert(key, (handle.clone(), seen));
        Ok(Some(handle))
    }

    /// The session at hand, if nothing was revoked since it was put there.
    fn look(&self, key: &SessionKey) -> Option<Handle> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let (handle, seen) = at_hand.get(key)?;
        if *seen == self.numbers(handle) && !handle.live.is_ended() {
            return Some(handle.clone());
        }
        at_hand.remove(key);
        None
    }

    fn numbers(&self, handle: &Handle) -> Seen {
        let table = &self.control.revocations;
        Seen { handle: handle.live.numbers_of(&handle.key, table), session: handle.live.numbers(table) }
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

    fn lapsed(&self, live: &Arc<Live>, why: &'static str, now: SystemTime) -> Option<Arc<Live>> {
        self.control.lapse(live, why, now);
        None
    }
}

/// A client that a listener has verified, where the route takes certificates.
fn by_certificate(asked: &Canonical, route: &Route, issuers: &Issuers) -> Caller {
    let named = |it: &&Arc<ClientCertificate>| it.spiffe_id.is_some() || !it.subject.is_empty();
    let Some(certificate) = asked.certificate.as_ref().filter(named) else { return Caller::Anonymous };
    let mut here = route.token_issuers.iter().filter_map(|name| issuers.get(name));
    let issuer = here.find(|issuer| issuer.takes_certificates());
    issuer
        .map_or(Caller::Anonymous, |issuer| Caller::Token(Arc::new(of_certificate(&issuer.settings.name, certificate))))
}

/// A machine is known by its SPIFFE id, or else by the name of its certificate.
fn of_certificate(issuer: &Name, certificate: &ClientCertificate) -> Bearer {
    let subject = certificate.spiffe_id.as_ref().unwrap_or(&certificate.subject);
    let service = Service {
        id: UserId { provider: issuer.clone(), subject: subject.clone() },
        issuer: certificate.issuer.clone(),
        client_id: subject.clone(),
        scopes: Arc::default(),
    };
    let hash = sha256(format!("certificate {issuer} {subject}").as_bytes());
    Bearer {
        issuer: issuer.clone(),
        holder: Holder::Service(Arc::new(service)),
        membership: Membership::Unknown(Unknown::Incomplete),
        hash,
        name: crate::text::hex(&hash[..8]).into(),
        ends: None,
        token: None,
        by: Verified::default(),
        jti: None,
    }
}

/// Says in the record whose token it is.
pub fn introduce_bearer(bearer: &Bearer, crossing: &Crossing) {
    crossing.credential(bearer);
    crossing.principal(&bearer.principal(bearer.membership.clone()));
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

/// Only what a person does counts as activity: a page that polls does not keep its session alive (P12).
fn is_activity(asked: &Canonical, route: &Route) -> bool {
    let navigates = matches!(asked.class, Class::Navigation | Class::Frame | Class::Submission);
    navigates
        || match &route.idle {
            Activity::Navigations => false,
            Activity::Paths(paths) => paths.iter().any(|path| path.matches(&asked.target.folded)),
            Activity::Any => asked.class != Class::Preflight,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        canonical::testing,
        config::SessionSettings,
        control::{Providers, tests::scene},
    };
    use std::time::Duration;

    /// What ends access never waits: a session whose provider does not answer can still be signed out.
    #[tokio::test]
    async fn a_session_that_cannot_be_refreshed_can_still_be_ended() {
        let (_directory, control, id, live) = scene().await;
        let day = Duration::from_secs(86_400);
        control.configure(Providers::new(), SessionSettings { idle: day, absolute: day, grace: Duration::ZERO });
        let identify = Identify::new(control.clone());
        let cookie = format!("vestibule-s={}", id.to_cookie());
        let asked = |host: &str| testing::parse(testing::https("GET", host, "/").header("cookie", &*cookie));
        let later = SystemTime::now() + Duration::from_secs(3 * 3600);
        let here = asked("portal.example.com");
        let refused = identify.session(&here, later).await.err().expect("it has to be refreshed first");
        assert_eq!(refused.reason, Reason::ProviderUnavailable);
        let known = identify.known(&here).await.expect("nobody is asked").expect("there");
        assert!(Arc::ptr_eq(&known.live, &live));
        assert!(identify.known(&asked("api.example.com")).await.expect("nobody is asked").is_none(), "another host's");
    }
}
