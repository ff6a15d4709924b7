//! Sign-out: a page that asks, a form that acts, a page that says what still holds.

use super::{Login, Visit};
use crate::{
    answer,
    body::Body,
    config::ProviderSettings,
    pages,
    refusal::{Reason, Refusal},
};
use http::{HeaderValue, Method, Response, StatusCode};

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
        let page = match self.holder(visit).await? {
            Some(live) => {
                let person = &live.session.person;
                let title = visit.settings.provider_title(&person.id.provider);
                pages::sign_out(&person.login, title, "/")
            }
            None => {
                let provider = match &visit.settings.providers[..] {
                    [only] => Some(only),
                    _ => None,
                };
                let there = provider.map(|only| self.account_page(only, visit));
                let title = provider.map_or("your sign-in provider", |only| &only.title);
                pages::signed_out(title, there.as_deref(), "/")
            }
        };
        Ok(answer::page(StatusCode::OK, page))
    }

    async fn act(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if visit.asked.crosses_site(&[]) {
            let sentence = "Only a page of this site can sign you out: use its button.";
            return Err(Refusal::new(Reason::CrossSite, sentence).closing());
        }
        if let Some(live) = self.holder(visit).await? {
            self.control.revoke_tokens(&live);
            self.control.end_session(&live, "signed_out", visit.now);
        }
        let mut response = answer::redirect(StatusCode::SEE_OTHER, "/.vestibule/sign-out");
        for name in [&visit.cookies.session, &visit.cookies.binding] {
            answer::set_cookie(&mut response, &visit.cookies.clear(name));
        }
        let cleared = HeaderValue::from_static("\"cache\", \"storage\"");
        response.headers_mut().insert("clear-site-data", cleared);
        Ok(response)
    }

    /// Where the person can end the provider's own session: its end-session endpoint, or else just there.
    fn account_page(&self, settings: &ProviderSettings, visit: &Visit<'_>) -> String {
        let back = visit.settings.public_url.join("/.vestibule/sign-out").expect("a valid path");
        let end = self.control.provider(&settings.name).and_then(|provider| provider.end_session_url(None, &back));
        end.map_or_else(|| settings.issuer.clone(), String::from)
    }
}
