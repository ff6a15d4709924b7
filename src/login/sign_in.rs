//! The way to a provider: the chooser, and the authorization request.

use super::{
    Login, Visit,
    state::{Return, State},
};
use crate::{
    answer,
    body::Body,
    canonical::OwnCookie,
    config::ProviderKind,
    oidc::{AuthorizationRequest, Provider, ProviderError},
    pages,
    principal::Name,
    refusal::{Reason, Refusal},
    session::{SessionId, record::seconds},
};
use http::{Method, Response, StatusCode};
use std::{borrow::Cow, sync::Arc};
use url::{
    Url,
    form_urlencoded::{self, byte_serialize},
};

/// What the sign-in endpoints may be asked. Nothing of it reaches the provider as it was sent (S-48).
struct Query {
    to: Return,
    switch: bool,
}

impl Query {
    fn of(visit: &Visit<'_>) -> Self {
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let first = |name: &str| parameter(query, name);
        Self {
            to: Return::parse(first("to").as_deref(), first("fragment").as_deref()),
            switch: first("switch").as_deref() == Some("1"),
        }
    }

    fn start(&self, provider: &Name) -> String {
        let to: String = byte_serialize(self.to.as_str().as_bytes()).collect();
        let switch = if self.switch { "&switch=1" } else { "" };
        format!("/.vestibule/sign-in/{provider}?to={to}{switch}")
    }
}

/// The first value of a query parameter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

impl Login {
    /// The page that keeps the fragment and goes on to the one provider, or lets the person choose among several.
    pub(super) async fn sign_in(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        on_public_host(visit)?;
        let query = Query::of(visit);
        let here = match self.visitor(visit).await {
            Err(refusal) if refusal.reason == Reason::ProviderUnavailable => None, // another provider may well answer
            other => other?,
        };
        if !query.switch && here.is_some() {
            return Ok(answer::redirect(StatusCode::FOUND, query.to.as_str()));
        }
        let providers = &visit.settings.providers;
        let page = match &providers[..] {
            [only] => pages::keep_fragment(&query.start(&only.name)),
            several => {
                let links: Vec<_> = several.iter().map(|one| (&*one.title, query.start(&one.name))).collect();
                let links: Vec<_> = links.iter().map(|(title, href)| (*title, &**href)).collect();
                pages::chooser(&links, &format!("Choose how to sign in to {}.", visit.asked.authority))
            }
        };
        Ok(answer::page(StatusCode::OK, page))
    }

    /// Sends the browser to the provider.
    pub(super) async fn start(&self, name: &Name, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        on_public_host(visit)?;
        let provider = self.provider(name)?;
        let query = Query::of(visit);
        let (binding, is_new) = binding(&visit.asked.binding);
        let ring = self.control.ring();
        let sealed = State::seal(ring, name, &visit.asked.host, &binding, &query.to, visit.now);
        let redirect_uri = redirect_uri(visit, name);
        let request = AuthorizationRequest {
            redirect_uri: &redirect_uri,
            state: &sealed.state,
            nonce: &sealed.nonce,
            verifier: &sealed.verifier,
            prompt: query.switch.then(|| prompt(&provider)),
        };
        let to = provider.authorization_url(&request).map_err(|error| unavailable(&provider, error))?;
        let mut response = answer::redirect(StatusCode::FOUND, to.as_str());
        if is_new {
            answer::set_cookie(&mut response, &visit.cookies.set(&visit.cookies.binding, &binding));
        }
        tracing::debug!(provider = %name, at = seconds(visit.now), "a sign-in begins");
        Ok(response)
    }
}

/// GitLab has no account chooser of its own to ask for; it can only be told to ask for the password again.
fn prompt(provider: &Provider) -> &'static str {
    match provider.settings.kind {
        ProviderKind::Gitlab => "login",
        ProviderKind::Okta | ProviderKind::Keycloak | ProviderKind::Oidc => "select_account",
    }
}

/// One cookie binds all sign-ins of a browser, however many tabs; a damaged one is replaced.
fn binding(sent: &OwnCookie) -> (String, bool) {
    match sent {
        OwnCookie::One(value) if SessionId::from_cookie(value).is_some() => (value.to_string(), false),
        _ => (SessionId::new().to_cookie(), true),
    }
}

pub(super) fn redirect_uri(visit: &Visit<'_>, provider: &Name) -> Url {
    let path = format!("/.vestibule/callback/{provider}");
    visit.settings.public_url.join(&path).expect("a name makes a valid path")
}

fn only_get(visit: &Visit<'_>) -> Result<(), Refusal> {
    match visit.asked.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::new(Reason::Method, "This address is for GET only.").closing()),
    }
}

fn on_public_host(visit: &Visit<'_>) -> Result<(), Refusal> {
    if visit.routes.is_public(&visit.asked.host) {
        return Ok(());
    }
    let origin = visit.settings.public_url.origin().ascii_serialization();
    Err(Refusal::new(Reason::NotFound, format!("People sign in at {origin}, not on this host.")))
}

pub(super) fn unavailable(provider: &Arc<Provider>, error: ProviderError) -> Refusal {
    let sentence = format!("{} cannot be reached right now. Try again in a moment.", provider.settings.title);
    Refusal::new(Reason::ProviderUnavailable, sentence).because(error)
}
