//! GitLab says that something changed: who has which groups, or who may come at all.
//!
//! It says so to whoever listens; what it says is believed only with its proof, and only as far as that something is to be
//! read again.

use super::{Login, Visit, strangers::Leave};
use crate::{
    answer,
    audit::Event,
    body::{Body, RequestBody},
    config::{HookProof, MembershipHook},
    gitlab::hook::{self, About, Hook, HookError},
    oidc::Provider,
    principal::Name,
    refusal::{Reason, Refusal},
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::json;
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// The longest body that is kept, in bytes. What membership rests on is told in a few hundred.
const LONGEST: usize = 64 * 1024;

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
    #[error("the body is longer than {LONGEST} bytes")]
    Long,
    #[error("the body broke off")]
    Broken,
    #[error("the body did not come within {} s", .0.as_secs())]
    Late(Duration),
    #[error("too many hooks are being read already")]
    Busy,
}

impl Untaken {
    fn status(&self) -> StatusCode {
        match self {
            Self::Hook(cause) if cause.is_unproved() => StatusCode::UNAUTHORIZED,
            Self::Long => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Hook(_) | Self::Broken | Self::Late(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl Login {
    /// Takes a hook of GitLab. It is answered at once, and acted on afterwards.
    pub(super) async fn hook(
        &self,
        name: &Name,
        body: RequestBody,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let provider = self.provider(name)?;
        let Some(settings) = provider.settings.hook.clone() else {
            return Err(Refusal::new(Reason::NotFound, "There is no such endpoint."));
        };
        if visit.asked.method != Method::POST {
            return Err(Refusal::new(Reason::Method, "GitLab sends its hooks by POST.").closing());
        }
        match self.read(&settings, body, visit).await {
            Ok(hook) => Ok(self.take_hook(&provider, &hook, visit)),
            Err(cause) => Ok(self.leave_hook(&provider, &cause, visit)),
        }
    }

    fn take_hook(&self, provider: &Arc<Provider>, hook: &Hook, visit: &Visit<'_>) -> Response<Body> {
        let again = hook.id.as_ref().is_some_and(|id| !self.membership.is_new(provider, id));
        let outcome = match hook.about {
            _ if again => "delivered_again",
            About::Nothing => "ignored",
            About::Push => {
                self.pushed.notify_one();
                "looked at"
            }
            About::Person { .. } | About::Everybody | About::Renamed(_) | About::Group(_) => {
                self.membership.heard(provider, &hook.about, visit.now);
                "taken"
            }
        };
        tracing::debug!(provider = %provider.settings.name, event = hook.event, outcome, "a hook");
        if outcome == "taken" {
            let object = match hook.about {
                About::Person { id, .. } => format!("{}:{id}", provider.settings.name),
                _ => provider.settings.name.to_string(),
            };
            let (event, groups, client) = (hook.event.clone(), hook.about.groups(), visit.asked.client);
            self.audit.record(Event::HookTaken { object, event, groups, client }, visit.now);
        }
        answer::json(StatusCode::OK, "application/json", &json!({}))
    }

    fn leave_hook(&self, provider: &Arc<Provider>, cause: &Untaken, visit: &Visit<'_>) -> Response<Body> {
        let (name, client, status) = (provider.settings.name.to_string(), visit.asked.client, cause.status());
        let unproved = status == StatusCode::UNAUTHORIZED;
        let told = if unproved { "the hook does not prove to come from GitLab".to_owned() } else { cause.to_string() };
        let detail = cause.to_string();
        let event = move |count| {
            tracing::warn!(provider = %name, %client, cause = detail, count, "a hook is refused");
            Event::HookRefused { provider: name.clone(), detail: detail.clone(), client, count }
        };
        self.strangers.hooks.refused(&self.control, &self.audit, event, visit.now);
        let mut response = answer::json(status, "application/json", &json!({ "error": told }));
        if unproved {
            let challenge = http::HeaderValue::from_static("GitLab realm=\"hooks\"");
            response.headers_mut().insert(http::header::WWW_AUTHENTICATE, challenge);
        }
        response.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        response
    }

    async fn read(&self, settings: &MembershipHook, body: RequestBody, visit: &Visit<'_>) -> Result<Hook, Untaken> {
        let headers: &HeaderMap = &visit.asked.headers;
        let kind = match &settings.audit_token {
            Some(token) if headers.contains_key(hook::AUDIT_TOKEN) => Kind::AuditEvent(token),
            Some(_) | None => Kind::Hook,
        };
        match kind {
            Kind::Hook => hook::look(&settings.proof, headers, visit.now)?, // nothing is read of whom nobody knows
            Kind::AuditEvent(token) => hook::look_at_audit_token(token, headers)?,
        }
        let leave = self.strangers.hooks.leave(&body, visit.asked.client, LONGEST).await.ok_or(Untaken::Busy)?;
        let body = collected(body, leave).await;
        let body = match (body, &kind, &settings.proof) {
            (Ok(body), _, _) => body,
            // GitLab turns a hook off that fails, and this one is proved: nothing is lost where everything is looked at again
            (Err(Untaken::Long), Kind::AuditEvent(_), _) => return Ok(Hook::unread_audit_event(headers)),
            (Err(Untaken::Long), Kind::Hook, HookProof::Token(_)) => return Ok(Hook::unread(headers)),
            (Err(cause), _, _) => return Err(cause),
        };
        Ok(match kind {
            Kind::Hook => Hook::read(&settings.proof, headers, &body, visit.now)?,
            Kind::AuditEvent(token) => Hook::read_audit_event(token, headers, &body)?,
        })
    }
}

/// The body, if it is short enough. One that is longer is dropped as it comes, up to its end, so that whoever sends it reads the
/// answer.
async fn collected(mut body: RequestBody, leave: Leave) -> Result<Vec<u8>, Untaken> {
    let (deadline, mut kept) = (Instant::now() + leave.latest, Some(Vec::new()));
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => return kept.ok_or(Untaken::Long),
            Ok(Some(Err(_))) => return Err(if kept.is_some() { Untaken::Broken } else { Untaken::Long }),
            Err(_) => return Err(if kept.is_some() { Untaken::Late(leave.latest) } else { Untaken::Long }),
        };
        let Ok(data) = frame.into_data() else { continue };
        kept = kept.filter(|kept| kept.len() + data.len() <= leave.most);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&data);
        }
    }
}
