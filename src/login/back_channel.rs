//! A provider says that somebody signed out there: their sessions here end too.
//!
//! Source: OpenID Connect Back-Channel Logout 1.0, sections 2.5, 2.7 and 2.8.

use super::{Login, Visit, strangers::Leave};
use crate::{
    answer,
    audit::Event,
    body::{Body, RequestBody},
    control::LogoutError,
    oidc::Provider,
    principal::Name,
    refusal::{Reason, Refusal},
};
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde_json::json;
use std::sync::Arc;
use url::form_urlencoded;

/// The longest body that is read, in bytes.
const LONGEST: usize = 32 * 1024;
const BUSY: &str = "Too many sign-outs are being checked. Try again.";

impl Login {
    /// Takes a logout token. Who sends it proves nothing; the provider's signature does.
    pub(super) async fn back_channel(
        &self,
        name: &Name,
        body: RequestBody,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if visit.asked.method != Method::POST {
            return Err(Refusal::new(Reason::Method, "A provider signs people out by POST.").closing());
        }
        let provider = self.provider(name)?;
        let leave = self.strangers.sign_outs.leave(&body, visit.asked.client, LONGEST).await;
        let leave = leave.ok_or_else(|| Refusal::new(Reason::Overloaded, BUSY).closing())?;
        let read = form(body, leave, visit).await;
        let outcome = match read {
            Ok(token) => self.control.log_out(provider.clone(), token, visit.now).await,
            Err(cause) => Err(LogoutError::Refused(cause.to_owned())),
        };
        match outcome {
            Ok(_) => Ok(answer::json(StatusCode::OK, "application/json", &json!({}))),
            Err(LogoutError::Unavailable(cause)) => {
                Err(Refusal::new(Reason::ProviderUnavailable, "The token cannot be checked right now.").because(cause))
            }
            Err(error @ LogoutError::Busy) => Err(Refusal::new(Reason::Overloaded, BUSY).because(error)),
            Err(LogoutError::Refused(cause)) => Ok(self.not_logged_out(&provider, cause, visit)),
        }
    }

    fn not_logged_out(&self, provider: &Arc<Provider>, cause: String, visit: &Visit<'_>) -> Response<Body> {
        let (name, client) = (provider.settings.name.to_string(), visit.asked.client);
        let told = json!({ "error": "invalid_request", "error_description": &cause });
        let event = move |count| {
            tracing::warn!(provider = %name, %client, %cause, count, "a logout token is refused");
            Event::SignOutRefused { provider: name.clone(), detail: cause.clone(), client, count }
        };
        self.strangers.sign_outs.refused(&self.control, &self.audit, event, visit.now);
        answer::json(StatusCode::BAD_REQUEST, "application/json", &told)
    }
}

/// The one `logout_token` of a form.
async fn form(body: RequestBody, leave: Leave, visit: &Visit<'_>) -> Result<String, &'static str> {
    let media_type = visit.asked.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return Err("it is no form");
    }
    let read = tokio::time::timeout(leave.latest, Limited::new(body, leave.most).collect()).await;
    let bytes = read.map_err(|_| "it did not come in time")?.map_err(|_| "it is too long, or broke off")?.to_bytes();
    let mut tokens = form_urlencoded::parse(&bytes).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(token.into_owned()),
        (Some(_), Some(_)) => Err("`logout_token` stands there twice"),
        (None, _) => Err("it has no `logout_token`"),
    }
}
