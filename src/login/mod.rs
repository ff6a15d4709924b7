//! Our own endpoints under `/.vestibule/`: sign-in, callback, sign-out, session.

mod callback;
mod sign_in;
mod sign_out;
mod state;

use crate::{
    answer,
    audit::{Audit, Crossing},
    body::Body,
    canonical::Canonical,
    config::Settings,
    control::Control,
    cookie::Cookies,
    forward::assertion::AssertionKeys,
    identify::{self, Identify},
    membership::Memberships,
    oidc::Provider,
    pages,
    principal::Name,
    refusal::{Reason, Refusal},
    route::{Endpoint, Routes},
    session::{Live, record::seconds},
};
use http::{Response, StatusCode};
use secrecy::SecretString;
use std::{sync::Arc, time::SystemTime};

/// Serves our own endpoints.
pub struct Login {
    /// Stores and providers.
    pub control: Arc<Control>,
    /// Takes the groups that a sign-in brings.
    pub membership: Arc<Memberships>,
    /// Records sign-ins and sign-outs.
    pub audit: Audit,
    /// Published at `/.well-known/vestibule/jwks.json`.
    pub assertion_keys: Arc<AssertionKeys>,
}

/// One request to an endpoint of ours, and what it may look at.
pub struct Visit<'a> {
    /// The configuration in force.
    pub settings: &'a Settings,
    /// The names of our cookies.
    pub cookies: &'a Cookies,
    /// The routes in force.
    pub routes: &'a Routes,
    /// Finds the session.
    pub identify: &'a Identify,
    /// The request.
    pub asked: &'a Canonical,
    /// Its record.
    pub crossing: &'a Crossing,
    /// The time.
    pub now: SystemTime,
}

impl Login {
    /// Serves `endpoint`.
    ///
    /// # Errors
    /// What the endpoint refuses.
    pub async fn serve(&self, endpoint: Endpoint, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        match endpoint {
            Endpoint::SignIn => self.sign_in(visit).await,
            Endpoint::Start(provider) => self.start(&provider, visit).await,
            Endpoint::Callback(provider) => self.callback(&provider, visit).await,
            Endpoint::SignOut => self.sign_out(visit).await,
            Endpoint::Session => self.session(visit).await,
            Endpoint::Asset(name) => asset(&name),
            Endpoint::Jwks => Ok(self.jwks()),
        }
    }

    /// The live session that came with the request; the record says whose it is.
    async fn visitor(&self, visit: &Visit<'_>) -> Result<Option<Arc<Live>>, Refusal> {
        let live = visit.identify.session(&visit.asked.session, visit.now).await?;
        Ok(live.inspect(|live| identify::introduce(live, visit.crossing)))
    }

    /// The session that came with the request, to be ended or replaced: that waits for no provider.
    async fn holder(&self, visit: &Visit<'_>) -> Result<Option<Arc<Live>>, Refusal> {
        let live = visit.identify.known(&visit.asked.session).await?;
        Ok(live.inspect(|live| identify::introduce(live, visit.crossing)))
    }

    /// Who am I, and until when. Asking does not count as activity.
    async fn session(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let Some(live) = self.visitor(visit).await? else {
            return Err(Refusal::new(Reason::NoSession, "Nobody is signed in here."));
        };
        let person = &live.session.person;
        let left = |end: SystemTime| end.duration_since(visit.now).unwrap_or_default().as_secs();
        let ends = self.control.ends(&live);
        let value = serde_json::json!({
            "user": person.id.to_string(),
            "provider": person.id.provider.as_str(),
            "subject": &*person.id.subject,
            "login": &*person.login,
            "name": person.name.as_deref(),
            "email": person.email.as_deref(),
            "ends": seconds(ends),
            "ends_in": left(ends),
            "absolute_end": seconds(live.session.end),
        });
        Ok(answer::json(StatusCode::OK, "application/json", &value))
    }

    fn jwks(&self) -> Response<Body> {
        let mut response = answer::asset("application/jwk-set+json", "");
        *response.body_mut() = Body::full(self.assertion_keys.jwks());
        response.headers_mut().insert("cache-control", http::HeaderValue::from_static("public, max-age=300"));
        response
    }

    fn provider(&self, name: &Name) -> Result<Arc<Provider>, Refusal> {
        self.control.provider(name).ok_or_else(|| Refusal::new(Reason::NotFound, "There is no such sign-in provider."))
    }
}

fn asset(name: &str) -> Result<Response<Body>, Refusal> {
    match name {
        "pages.css" => Ok(answer::asset("text/css; charset=utf-8", pages::PAGES_CSS)),
        "sign-in.js" => Ok(answer::asset("text/javascript; charset=utf-8", pages::SIGN_IN_JS)),
        _ => Err(Refusal::new(Reason::NotFound, "There is no such file.")),
    }
}

fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}
