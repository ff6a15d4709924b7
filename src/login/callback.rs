//! The way back from a provider: state, code, ID token, session.

use super::{
    Login, Visit, secret,
    sign_in::{redirect_uri, unavailable},
    state::{LIFE, State},
};
use crate::{
    answer,
    audit::Event,
    body::Body,
    canonical::OwnCookie,
    control::{RedeemError, Redemption},
    identify,
    oidc::{Provider, ProviderError},
    principal::Name,
    refusal::{Reason, Refusal},
    session::{Live, SessionId, sha256},
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
                detail: refusal.cause.clone().unwrap_or_else(|| refusal.detail.clone()),
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
        let Some((state, sealed)) = State::open(ring, name, &visit.asked.host, sent) else {
            return Err(over("the sign-in did not begin here"));
        };
        let here = self.holder(visit).await?;
        let bound = match &visit.asked.binding {
            OwnCookie::One(binding) if state.is_for(binding, visit.now) => state.derived(ring, &sealed, binding),
            _ => None,
        };
        let Some(bound) = bound else {
            return lead_on(&state, here.as_ref(), || over("the sign-in is too old, or began in another browser"));
        };
        provider.check_response_issuer(answer.get("iss")).map_err(|error| invalid(provider, &error))?;
        if let Some(error) = answer.get("error") {
            return Err(refused(provider, error, answer.get("error_description")));
        }
        let Some(code) = answer.get("code") else {
            return Err(Refusal::new(Reason::BadRequest, "The provider sent no code."));
        };
        let redemption = Redemption {
            code: secret(code),
            redirect_uri: redirect_uri(visit, name),
            nonce: bound.nonce,
            verifier: bound.verifier,
            state: sha256(&sealed),
            remember: visit.now + LIFE,
        };
        match self.control.sign_in(provider.clone(), redemption, device(visit), visit.now).await {
            Ok((id, live, groups)) => {
                self.membership.learn(&live.session.person, groups, visit.now);
                self.recorded(&live, visit).await?;
                Ok(self.welcome(&state, &id, &live, here, visit))
            }
            Err(RedeemError::Replayed) => lead_on(&state, here.as_ref(), || over("this sign-in was finished before")),
            Err(RedeemError::Busy) => {
                let sentence = "Too many people are signing in right now. Try again in a moment.";
                Err(Refusal::new(Reason::Overloaded, sentence))
            }
            Err(RedeemError::Store(error)) => {
                Err(Refusal::new(Reason::StoreUnavailable, "Your session cannot be stored right now.").because(error))
            }
            Err(RedeemError::Provider(error)) => Err(match error {
                ProviderError::Unavailable { .. } => unavailable(provider, error),
                other => invalid(provider, &other),
            }),
        }
    }

    /// Nobody gets the handle of a session whose beginning cannot be recorded.
    async fn recorded(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Result<(), Refusal> {
        let (person, session) = (live.session.person.clone(), live.hash.to_string());
        let event = Event::SignedIn { person, session, client: visit.asked.client };
        let recorded = self.audit.record_first(event, visit.now).await;
        recorded.inspect_err(|_| self.control.end_session(live, "unrecorded", visit.now))
    }

    /// Sets the new handle, ends the session it replaces, and sends the browser where it wanted to go.
    fn welcome(
        &self,
        state: &State,
        id: &SessionId,
        live: &Arc<Live>,
        before: Option<Arc<Live>>,
        visit: &Visit<'_>,
    ) -> Response<Body> {
        let person = live.session.person.clone();
        identify::introduce(live, visit.crossing);
        match before {
            Some(old) if old.session.person.id == person.id => self.control.replace_session(old),
            Some(old) => self.control.end_session(&old, "replaced", visit.now),
            None => {}
        }
        let mut response = answer::redirect(StatusCode::SEE_OTHER, &state.to);
        answer::set_cookie(&mut response, &visit.cookies.set(&visit.cookies.session, &id.to_cookie()));
        response
    }
}

/// A callback that comes too late, where somebody is signed in by now, leads on to where it wanted to go.
fn lead_on(
    state: &State,
    here: Option<&Arc<Live>>,
    otherwise: impl FnOnce() -> Refusal,
) -> Result<Response<Body>, Refusal> {
    match here {
        Some(_) => Ok(answer::redirect(StatusCode::SEE_OTHER, &state.to)),
        None => Err(otherwise()),
    }
}

fn over(cause: &'static str) -> Refusal {
    Refusal::new(Reason::SignInState, "This sign-in cannot be finished: it is too old, or was begun elsewhere.")
        .because(cause)
}

fn invalid(provider: &Provider, error: &ProviderError) -> Refusal {
    let sentence = format!("{} answered in a way that we cannot accept.", provider.settings.title);
    tracing::warn!(provider = %provider.settings.name, %error, "a sign-in failed");
    Refusal::new(Reason::SignInInvalid, sentence).because(error)
}

/// What a provider's error code means for the person (RFC 6749, section 4.1.2.1; OpenID Connect Core 1.0, 3.1.2.6).
fn refused(provider: &Provider, error: &str, description: Option<&str>) -> Refusal {
    let title = &provider.settings.title;
    let sentence = match error {
        "access_denied" => format!("{title} did not let you in, or you cancelled."),
        "login_required" | "interaction_required" | "consent_required" | "account_selection_required" => {
            format!("{title} wants you to sign in there first.")
        }
        "temporarily_unavailable" | "server_error" => format!("{title} has a problem; try again in a moment."),
        "invalid_scope" => {
            format!("{title} does not grant what Vestibule asks for: its application there lacks a scope.")
        }
        "unauthorized_client" | "invalid_request" | "unsupported_response_type" => {
            format!("{title} does not accept this application: tell whoever runs it.")
        }
        _ => format!("{title} refused the sign-in."),
    };
    let cut = |text: &str| text.chars().filter(|c| !c.is_control()).take(200).collect::<String>();
    let cause = format!("{}: {}", cut(error), cut(description.unwrap_or("no description")));
    Refusal::new(Reason::SignInRefused, sentence).because(cause)
}

fn device(visit: &Visit<'_>) -> Option<String> {
    let agent = visit.asked.headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(agent.chars().filter(|c| !c.is_control()).take(200).collect())
}
