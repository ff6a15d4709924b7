//! The way back from a provider: state, code, ID token, session.

use super::{
    Login, Visit,
    arrive::other_host,
    binding::Binding,
    outcome::{invalid, refused, unfinished},
    secret,
    sign_in::{Query, address, redirect_uri},
    state::{LIFE, State, Wish},
};
use crate::{
    answer,
    audit::Event,
    body::Body,
    canonical::OwnCookie,
    control::{Handle, RedeemError, Redemption, Visitor},
    identify::{self, Caller},
    oidc::Provider,
    principal::Name,
    refusal::{Reason, Refusal},
    session::{Live, SessionId},
    text::sha256,
};
use http::{Method, Response, StatusCode, header};
use std::{collections::HashMap, sync::Arc};
use url::form_urlencoded;

/// What a provider sends to the callback (RFC 6749, section 4.1.2; RFC 9207).
struct Answer {
    parameters: HashMap<String, String>,
}

impl Answer {
    /// Refuses any parameter that stands there twice (S-42).
    fn parse(query: &str) -> Result<Self, Refusal> {
        let mut parameters = HashMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if parameters.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(Refusal::new(Reason::BadRequest, "A parameter of the callback stands there twice."));
            }
        }
        Ok(Self { parameters })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

impl Login {
    /// Finishes a sign-in.
    pub(super) async fn callback(&self, name: &Name, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if visit.asked.method != Method::GET {
            return Err(Refusal::new(Reason::Method, "A provider comes back by GET.").closing());
        }
        let provider = self.provider(name)?;
        let outcome = self.finish(&provider, visit).await;
        if let Err(refusal) = &outcome {
            let event = Event::SignInFailed {
                provider: name.to_string(),
                reason: refusal.reason,
                detail: refusal.cause.as_deref().unwrap_or(&refusal.detail).to_owned(),
                client: visit.asked.client,
            };
            self.audit.record(event, visit.now);
        }
        outcome
    }

    async fn finish(&self, provider: &Arc<Provider>, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let answer = Answer::parse(visit.asked.target.query.as_deref().unwrap_or_default())?;
        let name = &provider.settings.name;
        let ring = self.control.ring();
        let sent = answer.get("state").unwrap_or_default();
        let opened = State::open(ring, name, &visit.asked.host, sent);
        let here = self.holder(visit).await?;
        let binding = Binding::of(ring, &visit.asked.binding);
        let Some((state, sealed)) = opened else {
            let mut others = visit.settings.providers.iter().map(|other| &other.name).filter(|other| *other != name);
            if others.any(|other| State::open(ring, other, &visit.asked.host, sent).is_some()) {
                return Err(over("it began at another provider than the one that answers")); // S-41: never anew
            }
            return self.restart(name, None, here.as_ref(), binding.as_ref(), visit);
        };
        if !state.is_fresh(visit.now) {
            return self.restart(name, Some(&state), here.as_ref(), binding.as_ref(), visit);
        }
        let bound = binding.as_ref().filter(|binding| state.is_for(binding.id()));
        let derived = bound.and_then(|binding| Some((binding, state.derived(ring, &sealed, binding.id())?)));
        let Some((binding, bound)) = derived else {
            return match &binding {
                // tabs that were opened at once take each other's cookie; only this browser's own sign-in goes on
                Some(_) => self.restart(name, Some(&state), here.as_ref(), binding.as_ref(), visit),
                None => Self::lead_on(&state, here.as_ref(), visit, || unbound(&visit.asked.binding)),
            };
        };
        provider.check_response_issuer(answer.get("iss")).map_err(|error| invalid(provider, &error, visit.asked.id))?;
        if let Some(error) = answer.get("error") {
            let refusal = refused(provider, error, answer.get("error_description"));
            return Err(refusal.on_the_way_to(&wanted(&state, visit)));
        }
        let Some(code) = answer.get("code") else {
            return Err(Refusal::new(Reason::BadRequest, "The provider sent no code."));
        };
        let browser = here.as_ref().and_then(|here| here.live.session.browser).unwrap_or_else(|| binding.hash());
        let redemption = Redemption {
            code: secret(code),
            redirect_uri: redirect_uri(visit, name),
            nonce: bound.nonce,
            verifier: bound.verifier,
            state: sha256(&sealed),
            remember: visit.now + LIFE,
            step_up: state.step_up.clone(),
            consented: state.consented,
        };
        match self.control.sign_in(provider.clone(), redemption, visitor(visit, browser), visit.now).await {
            Ok((id, live, groups)) => {
                self.membership.learn(&live.session.person, groups, visit.now);
                let admitted = self.admitted(&live, visit).await;
                admitted.map_err(|refusal| refusal.on_the_way_to(&wanted(&state, visit)))?;
                self.recorded(&live, visit).await?;
                self.welcome(&state, (id, &live), here, binding, visit).await
            }
            Err(RedeemError::Replayed) => {
                Self::lead_on(&state, here.as_ref(), visit, || over("this sign-in was finished before"))
            }
            Err(RedeemError::Busy) => {
                let sentence = "Too many people are signing in right now. Try again in a moment.";
                Err(Refusal::new(Reason::Overloaded, sentence))
            }
            Err(RedeemError::Store(error)) => {
                Err(Refusal::new(Reason::StoreUnavailable, "Your session cannot be stored right now.").because(error))
            }
            Err(RedeemError::Provider(error)) => {
                Err(unfinished(provider, error, visit.asked.id).on_the_way_to(&wanted(&state, visit)))
            }
            Err(RedeemError::Consent { subject }) => {
                self.begin(name, &Query::with_consent(state.wish(), subject), visit)
            }
        }
    }

    /// Nobody gets the handle of a session whose person a lock keeps out.
    async fn admitted(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Result<(), Refusal> {
        let admitted = self.membership.unlocked(&Caller::Person(live.clone()), visit.now).await;
        admitted.inspect_err(|_| {
            self.control.revoke_tokens(live);
            self.control.end_session(live, "locked", visit.now);
        })
    }

    /// Nobody gets the handle of a session whose beginning cannot be recorded.
    async fn recorded(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Result<(), Refusal> {
        let (person, session) = (live.session.person.clone(), live.hash.to_string());
        let event = Event::SignedIn { person, session, client: visit.asked.client };
        let recorded = self.audit.record_first(event, visit.now).await;
        recorded.inspect_err(|_| self.control.end_session(live, "unrecorded", visit.now))
    }

    /// Sends the browser where it wanted to go, sets the new handle, and ends the session it replaces. Where there is no way
    /// on, nobody gets the handle, and what was before stays.
    async fn welcome(
        &self,
        state: &State,
        (id, live): (SessionId, &Arc<Live>),
        before: Option<Handle>,
        binding: &Binding,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let person = live.session.person.clone();
        identify::introduce(live, visit.crossing);
        let on = self.on_to(state, live, visit).await;
        let mut response = on.inspect_err(|_| self.control.end_session(live, "unfinished", visit.now))?;
        answer::set_cookie(&mut response, &visit.session_cookie(&id.to_cookie()));
        let led_nowhere = before.as_ref().is_none_or(|before| before.live.is_lapsed());
        match before {
            Some(old) if old.live.session.person.id == person.id => self.control.replace_session(old, id, visit.now),
            Some(old) => self.control.end_session(&old.live, "replaced", visit.now),
            None => {}
        }
        if led_nowhere {
            self.count(&mut response, binding, visit);
        }
        Ok(response)
    }

    /// Where somebody wanted to go, now that they are signed in.
    async fn on_to(&self, state: &State, live: &Arc<Live>, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        match &state.hand {
            Some(hand) => self.hand_over(hand, live, visit).await,
            None => Ok(answer::redirect(StatusCode::SEE_OTHER, state.to.as_str())),
        }
    }

    /// A callback that comes too late, where somebody is signed in by now, leads on to where it wanted to go.
    fn lead_on(
        state: &State,
        here: Option<&Handle>,
        visit: &Visit<'_>,
        otherwise: impl FnOnce() -> Refusal,
    ) -> Result<Response<Body>, Refusal> {
        match here {
            Some(_) => Ok(answer::redirect(StatusCode::SEE_OTHER, &wanted(state, visit))),
            None => Err(otherwise().on_the_way_to(&wanted(state, visit))),
        }
    }

    /// A bookmark of a callback, or a login page that was left open overnight: begins the sign-in anew, once (P03). The code
    /// that came is not redeemed.
    fn restart(
        &self,
        name: &Name,
        state: Option<&State>,
        here: Option<&Handle>,
        binding: Option<&Binding>,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if here.is_some() {
            let to = state.map_or_else(|| "/".to_owned(), |state| wanted(state, visit));
            return Ok(answer::redirect(StatusCode::SEE_OTHER, &to));
        }
        let ring = self.control.ring();
        // where no cookie comes back and the state says nothing, nobody could tell the second time from the first
        let first = match (state, binding) {
            (Some(state), _) => !state.anew,
            (None, Some(binding)) => binding.rounds(visit.now) == 0,
            (None, None) => false,
        };
        if !first {
            return Err(over(if state.is_some() {
                "the sign-in is too old, or began in another browser"
            } else {
                "the sign-in did not begin here"
            }));
        }
        let wish = state.map(State::wish).unwrap_or_default();
        let wish = Wish { hand: wish.hand.map(|hand| hand.again(visit.now)), anew: true, consented: false, ..wish };
        let again = address(&format!("/.vestibule/sign-in/{name}"), &wish, ring, &[]);
        let mut response = answer::redirect(StatusCode::SEE_OTHER, &again);
        if let (None, Some(binding)) = (state, binding) {
            self.count(&mut response, binding, visit);
        }
        Ok(response)
    }
}

/// The page that a sign-in began at. One on another host asks for its own handle, if it has none.
fn wanted(state: &State, visit: &Visit<'_>) -> String {
    match &state.hand {
        Some(hand) => other_host(hand, hand.to.as_str(), visit).unwrap_or_else(|| "/".to_owned()),
        None => state.to.as_str().to_owned(),
    }
}

/// A state that is fresh, and a browser that it is not for (S-38, S-44).
fn unbound(binding: &OwnCookie) -> Refusal {
    match binding {
        OwnCookie::Absent => {
            let sentence = "Your browser came back without the cookie that it was given when the sign-in began: it does not \
                            keep cookies of this site, or something takes them away.";
            Refusal::new(Reason::SignInState, sentence).because("the browser sent no binding cookie")
        }
        OwnCookie::One(_) | OwnCookie::Several => over("the sign-in began in another browser"),
    }
}

fn over(cause: &'static str) -> Refusal {
    Refusal::new(Reason::SignInState, "This sign-in cannot be finished: it is too old, or was begun elsewhere.")
        .because(cause)
}

fn visitor(visit: &Visit<'_>, browser: [u8; 32]) -> Visitor {
    let agent = visit.asked.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let device = agent.map(|agent| agent.chars().filter(|c| !c.is_control()).take(200).collect());
    Visitor { host: visit.asked.host.as_str().into(), device, browser: Some(browser) }
}
