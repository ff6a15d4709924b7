//! Our own endpoints under `/.vestibule/`: sign-in, callback, sign-out, session.

mod arrive;
mod back_channel;
mod binding;
mod callback;
mod check_again;
mod denied;
mod frame;
mod hand;
mod hook;
mod outcome;
mod resource;
mod session;
mod sessions;
mod sign_in;
mod sign_out;
mod state;
mod strangers;
mod to;

use crate::{
    answer,
    audit::{Audit, Crossing},
    body::{Body, RequestBody},
    canonical::Canonical,
    config::Settings,
    control::{Control, Handle},
    cookie::Cookies,
    forward::assertion::AssertionKeys,
    identify::{self, Caller, Identify},
    membership::Memberships,
    oidc::Provider,
    pages,
    principal::Name,
    refusal::{Reason, Refusal},
    route::{Endpoint, Routes},
    session::Live,
};
use http::{Response, StatusCode};
use secrecy::SecretString;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::Notify;

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
    /// Bounds what anybody can send in a provider's name.
    pub strangers: strangers::Strangers,
    /// Told when somebody pushed to a repository, which may be the one of the policies.
    pub pushed: Arc<Notify>,
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

impl Visit<'_> {
    /// It is on the host of `public_url`, where people sign in.
    fn is_public(&self) -> bool {
        self.routes.is_public(&self.asked.host)
    }

    fn session_cookie(&self, value: &str) -> String {
        self.cookies.set(&self.asked.host, &self.cookies.session, value)
    }

    fn binding_cookie(&self, value: &str) -> String {
        self.cookies.set(&self.asked.host, &self.cookies.binding, value)
    }
}

impl Login {
    /// Serves `endpoint`.
    ///
    /// # Errors
    /// What the endpoint refuses.
    pub async fn serve(
        &self,
        endpoint: Endpoint,
        body: RequestBody,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        match endpoint {
            Endpoint::SignIn => self.sign_in(visit).await,
            Endpoint::Start(provider) => self.start(&provider, visit),
            Endpoint::Callback(provider) => self.callback(&provider, visit).await,
            Endpoint::Arrive => self.arrive(visit).await,
            Endpoint::CheckAgain => self.check_again(visit).await,
            Endpoint::Denied => self.denied(visit).await,
            Endpoint::Frame => self.frame(visit).await,
            Endpoint::SignedIn => Ok(answer::page(StatusCode::OK, pages::signed_in())),
            Endpoint::BackChannelLogout(provider) => self.back_channel(&provider, body, visit).await,
            Endpoint::Hook(provider) => self.hook(&provider, body, visit).await,
            Endpoint::SignOut => self.sign_out(visit).await,
            Endpoint::Sessions => self.sessions(visit).await,
            Endpoint::Session => self.session(visit).await,
            Endpoint::Renew => self.renew(visit).await,
            Endpoint::Asset(name) => asset(&name),
            Endpoint::Jwks => Ok(self.jwks()),
            Endpoint::Resource(index) => resource::metadata(index, visit),
        }
    }

    /// The live session that came with the request, unless a lock keeps its person out; the record says whose it is.
    async fn visitor(&self, visit: &Visit<'_>) -> Result<Option<Arc<Live>>, Refusal> {
        let live = visit.identify.session(visit.asked, visit.now).await?;
        let live = live.inspect(|live| identify::introduce(live, visit.crossing));
        let caller = live.clone().map_or(Caller::Anonymous, Caller::Person);
        self.membership.unlocked(&caller, visit.now).await?;
        Ok(live)
    }

    /// The session that came with the request, to be ended or replaced: that waits for no provider.
    async fn holder(&self, visit: &Visit<'_>) -> Result<Option<Handle>, Refusal> {
        let handle = visit.identify.known(visit.asked).await?;
        Ok(handle.inspect(|handle| identify::introduce(&handle.live, visit.crossing)))
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
        "form.js" => Ok(answer::asset("text/javascript; charset=utf-8", pages::FORM_JS)),
        "frame.js" => Ok(answer::asset("text/javascript; charset=utf-8", pages::FRAME_JS)),
        "signed-in.js" => Ok(answer::asset("text/javascript; charset=utf-8", pages::SIGNED_IN_JS)),
        "sign-in.js" => Ok(answer::asset("text/javascript; charset=utf-8", pages::SIGN_IN_JS)),
        _ => Err(Refusal::new(Reason::NotFound, "There is no such file.")),
    }
}

fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}
