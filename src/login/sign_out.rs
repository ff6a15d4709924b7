//! Sign-out: a page that asks, a form that acts, and the way on to the provider, whose own session would let anybody back in.
//!
//! Source: OpenID Connect RP-Initiated Logout 1.0, sections 2 and 3.

use super::{Login, Visit, sign_in::parameter};
use crate::{
    answer,
    body::Body,
    config::ProviderSettings,
    control::Handle,
    pages,
    refusal::{Reason, Refusal},
    session::{
        Live,
        record::{seconds, time},
        ring::Purpose,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Method, Response, StatusCode};
use std::{sync::Arc, time::Duration};
use url::Url;

/// Where people sign out, on every host.
const PATH: &str = "/.vestibule/sign-out";
/// Names the provider of the session that was, where that has no sign-out of its own to go on to.
const FROM: &str = "from";
/// A provider's page may stay open that long before it leads back.
const LIFE: Duration = Duration::from_secs(600);

impl Login {
    /// GET asks, POST from a page of ours acts (S-45).
    pub(super) async fn sign_out(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        match visit.asked.method {
            Method::GET | Method::HEAD => self.ask(visit).await,
            Method::POST => self.act(visit).await,
            _ => Err(Refusal::new(Reason::Method, "Signing out is done by POST.").closing()),
        }
    }

    async fn ask(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if let Some(Handle { live, .. }) = self.holder(visit).await? {
            let person = &live.session.person;
            let title = visit.settings.provider_title(&person.id.provider);
            return Ok(answer::page(StatusCode::OK, pages::sign_out(&person.login, title, "/")));
        }
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        if let Some(provider) = parameter(query, "state").and_then(|state| self.left(&state, visit)) {
            return Ok(answer::page(StatusCode::OK, pages::signed_out_everywhere(&provider.title, "/")));
        }
        let from = parameter(query, FROM);
        let is_meant = |one: &&Arc<ProviderSettings>| from.as_deref().is_none_or(|from| from == one.name.as_str());
        let meant = visit.settings.providers.iter().filter(is_meant);
        let there: Vec<_> = meant.map(|one| (&*one.title, self.account_page(one, visit))).collect();
        let there: Vec<_> = there.iter().map(|(title, address)| (*title, &**address)).collect();
        Ok(answer::page(StatusCode::OK, pages::signed_out(from.is_some(), &there, "/")))
    }

    async fn act(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if visit.asked.crosses_site(&[]) {
            let sentence = "Only a page of this site can sign you out: use its button.";
            return Err(Refusal::new(Reason::CrossSite, sentence).closing());
        }
        let mut response = answer::redirect(StatusCode::SEE_OTHER, PATH);
        if let Some(Handle { live, .. }) = self.holder(visit).await? {
            let provider = &live.session.person.id.provider;
            response = match self.end_session_url(&live, visit) {
                Some(on) => {
                    let title = visit.settings.provider_title(provider);
                    answer::page(StatusCode::OK, pages::signing_out(title, on.as_str()))
                }
                None => answer::redirect(StatusCode::SEE_OTHER, &format!("{PATH}?{FROM}={provider}")),
            };
            self.control.revoke_tokens(&live);
            self.control.sign_out(&live, visit.now); // first, and whatever the provider does
        }
        for name in [&visit.cookies.session, &visit.cookies.binding] {
            answer::set_cookie(&mut response, &visit.cookies.clear(&visit.asked.host, name));
        }
        let cleared = HeaderValue::from_static("\"cache\", \"storage\"");
        response.headers_mut().insert("clear-site-data", cleared);
        Ok(response)
    }

    /// Where the provider's own session is ended, if it can be, on the way back to our page.
    fn end_session_url(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Option<Url> {
        let provider = self.control.provider_of(&live.session.person)?;
        let state = self.leaving(&provider.settings, visit);
        provider.end_session_url(live.held().tokens.id.as_ref(), &back(visit), &state)
    }

    /// The `state` of a sign-out at this provider.
    fn leaving(&self, provider: &ProviderSettings, visit: &Visit<'_>) -> String {
        let text = format!("{} {}", seconds(visit.now), provider.name);
        URL_SAFE_NO_PAD.encode(self.control.ring().seal(Purpose::SignOut, b"", b"", text.as_bytes()))
    }

    /// The provider that leads back with this `state`, if it is ours and not too old.
    fn left<'a>(&self, state: &str, visit: &Visit<'a>) -> Option<&'a ProviderSettings> {
        let sealed = URL_SAFE_NO_PAD.decode(state).ok()?;
        let text = self.control.ring().open_sealed(Purpose::SignOut, b"", b"", &sealed).ok()?;
        let (at, name) = std::str::from_utf8(&text).ok()?.split_once(' ')?;
        let age = visit.now.duration_since(time(at.parse().ok()?)).ok()?;
        let provider = visit.settings.providers.iter().find(|provider| provider.name.as_str() == name)?;
        (age <= LIFE).then_some(provider)
    }

    /// Where the person can end the provider's own session: its end-session endpoint, or else just there.
    fn account_page(&self, settings: &ProviderSettings, visit: &Visit<'_>) -> String {
        let state = self.leaving(settings, visit);
        let provider = self.control.provider(&settings.name);
        let end = provider.and_then(|provider| provider.end_session_url(None, &back(visit), &state));
        end.map_or_else(|| settings.issuer.clone(), String::from)
    }
}

/// Our page at which a provider's sign-out ends; to be registered there.
fn back(visit: &Visit<'_>) -> Url {
    visit.settings.public_url.join(PATH).expect("a valid path")
}
