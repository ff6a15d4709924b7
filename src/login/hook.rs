//! GitLab says that something changed: who has which groups, or who may come at all.
//!
//! It says so to whoever listens; what it says is believed only with its proof, and only as far as that something is to be
//! read again.

use super::{Login, Visit};
use crate::{
    answer,
    audit::Event,
    body::Body,
    config::MembershipHook,
    gitlab::hook::{self, About, Hook, HookError},
    oidc::Provider,
    principal::Name,
    refusal::{Reason, Refusal},
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use secrecy::SecretString;
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// The longest body that is read, in bytes. What membership rests on is told in a few hundred.
const LONGEST: usize = 1 << 20;
/// How long it may take to come.
const LATEST: Duration = Duration::from_secs(10);

/// Which proof a caller offers.
enum Kind<'a> {
    Hook,
    AuditEvent(&'a SecretString),
}

/// Why a hook is not taken.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error(transparent)]
    Hook(#[from] HookError),
    #[error("the body is longer than {LONGEST} bytes, or broke off")]
    Long,
    #[error("the body did not come within {} s", LATEST.as_secs())]
    Late,
}

impl Login {
    /// Takes a hook of GitLab. It is answered at once, and acted on afterwards.
    pub(super) async fn hook(&self, name: &Name, body: Incoming, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let provider = self.provider(name)?;
        let Some(settings) = provider.settings.hook.clone() else {
            return Err(Refusal::new(Reason::NotFound, "There is no such endpoint."));
        };
        if visit.asked.method != Method::POST {
            return Err(Refusal::new(Reason::Method, "GitLab sends its hooks by POST.").closing());
        }
        match read(&settings, body, visit).await {
            Ok(hook) => Ok(self.take_hook(&provider, &hook, visit)),
            Err(cause) => Ok(self.leave_hook(&provider, &cause, visit)),
        }
    }

    fn take_hook(&self, provider: &Arc<Provider>, hook: &Hook, visit: &Visit<'_>) -> Response<Body> {
        let again = hook.id.as_ref().is_some_and(|id| !self.membership.is_new(provider, id));
        let outcome = match hook.about {
            _ if again => "delivered_again",
            About::Nothing => "ignored",
            About::Person { .. } | About::Everybody | About::Renamed(_) => {
                self.membership.heard(provider, &hook.about, visit.now);
                "taken"
            }
        };
        tracing::debug!(provider = %provider.settings.name, event = hook.event, outcome, "a hook");
        if outcome == "taken" {
            let object = match hook.about {
                About::Person { id, .. } => format!("{}:{id}", provider.settings.name),
                About::Everybody | About::Renamed(_) | About::Nothing => provider.settings.name.to_string(),
            };
            let (event, client) = (hook.event.clone(), visit.asked.client);
            self.audit.record(Event::HookTaken { object, event, client }, visit.now);
        }
        answer::json(StatusCode::OK, "application/json", &json!({}))
    }

    fn leave_hook(&self, provider: &Arc<Provider>, cause: &Untaken, visit: &Visit<'_>) -> Response<Body> {
        let (name, client) = (provider.settings.name.to_string(), visit.asked.client);
        tracing::warn!(provider = %name, %client, %cause, "a hook is refused");
        let unproved = matches!(cause, Untaken::Hook(cause) if cause.is_unproved());
        let status = if unproved { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let told = if unproved { "the hook does not prove to come from GitLab".to_owned() } else { cause.to_string() };
        self.audit.record(Event::HookRefused { provider: name, detail: cause.to_string(), client }, visit.now);
        let mut response = answer::json(status, "application/json", &json!({ "error": told }));
        if unproved {
            let challenge = http::HeaderValue::from_static("GitLab realm=\"hooks\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        response
    }
}

async fn read(settings: &MembershipHook, body: Incoming, visit: &Visit<'_>) -> Result<Hook, Untaken> {
    let headers: &HeaderMap = &visit.asked.headers;
    let kind = match &settings.audit_token {
        Some(token) if headers.contains_key(hook::AUDIT_TOKEN) => Kind::AuditEvent(token),
        Some(_) | None => Kind::Hook,
    };
    match kind {
        Kind::Hook => hook::look(&settings.proof, headers, visit.now)?, // nothing is read of whom nobody knows
        Kind::AuditEvent(token) => hook::look_at_audit_token(token, headers)?,
    }
    let body = match tokio::time::timeout(LATEST, Limited::new(body, LONGEST).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return Err(Untaken::Long),
        Err(_) => return Err(Untaken::Late),
    };
    Ok(match kind {
        Kind::Hook => Hook::read(&settings.proof, headers, &body, visit.now)?,
        Kind::AuditEvent(token) => Hook::read_audit_event(token, headers, &body)?,
    })
}
