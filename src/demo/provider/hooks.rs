//! What GitLab tells unasked: a system hook when somebody's membership changes, a streamed audit event when they are blocked.

use super::{
    Person,
    members::{group_id, last},
};
use crate::{
    demo::people::{GROUPS, People},
    group::Role,
    moment::to_the_second,
    text::{chain, hex},
};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header, request::Builder};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, Error, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::timeout;

/// How long whoever made a change waits for the proxy to have heard of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long one delivery may take, as at GitLab.
const LATEST: Duration = Duration::from_secs(10);

/// Where hooks go, and by what they prove to come from here.
#[derive(Clone)]
pub(in crate::demo) struct Hooks(Arc<Receiver>);

struct Receiver {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    host: String,
    token: String,
    audit_token: String,
}

/// One event, which is delivered once.
#[derive(Debug)]
pub(super) struct Hook {
    kind: Kind,
    event: &'static str,
    id: String,
    body: Value,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    System,
    AuditEvent,
}

/// Why an event was not delivered.
#[derive(Debug, thiserror::Error)]
enum Undelivered {
    #[error("the proxy gave no answer in {} s", LATEST.as_secs())]
    Late,
    #[error("the proxy answered {0}")]
    Status(StatusCode),
    #[error("the proxy cannot be reached: {}", chain(.0))]
    Connection(Error),
    #[error("no request can be made of it: {0}")]
    Request(http::Error),
}

impl Hooks {
    /// To the proxy at `front`, which calls itself `public_url` and the provider `gitlab`.
    pub(in crate::demo) fn new(front: SocketAddr, public_url: &str, token: String, audit_token: String) -> Self {
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        let url = format!("http://{front}/.vestibule/hooks/gitlab");
        let host = public_url.trim_start_matches("http://").to_owned();
        Self(Arc::new(Receiver { client, url, host, token, audit_token }))
    }

    /// Delivers events, one after the other. Returns when that is done or [`PATIENCE`] is over, and then it goes on.
    pub(super) async fn tell(&self, hooks: Vec<Hook>) {
        if hooks.is_empty() {
            return;
        }
        let receiver = self.0.clone();
        let delivered = tokio::spawn(async move {
            for hook in &hooks {
                receiver.deliver(hook).await;
            }
        });
        let _ = timeout(PATIENCE, delivered).await;
    }
}

impl Receiver {
    /// Like GitLab's, an event that is not taken is not delivered again: the clock finds what it told.
    async fn deliver(&self, hook: &Hook) {
        let sent = timeout(LATEST, self.send(hook)).await.unwrap_or(Err(Undelivered::Late));
        if let Err(cause) = sent {
            tracing::warn!(event = hook.event, %cause, "a hook of the demo GitLab was not delivered");
        }
    }

    async fn send(&self, hook: &Hook) -> Result<(), Undelivered> {
        let request =
            Request::post(&self.url).header(header::HOST, &self.host).header(header::USER_AGENT, "GitLab/19.0");
        let request = self.proved(hook, request).body(Full::from(hook.body.to_string()));
        let request = request.map_err(Undelivered::Request)?;
        let status = self.client.request(request).await.map_err(Undelivered::Connection)?.status();
        if status.is_success() { Ok(()) } else { Err(Undelivered::Status(status)) }
    }

    fn proved(&self, hook: &Hook, request: Builder) -> Builder {
        match hook.kind {
            Kind::System => request
                .header(header::CONTENT_TYPE, "application/json")
                .header("x-gitlab-event", "System Hook")
                .header("x-gitlab-event-uuid", &hook.id)
                .header("idempotency-key", &hook.id)
                .header("x-gitlab-token", sensitive(&self.token)),
            Kind::AuditEvent => request
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded") // as GitLab does, around JSON
                .header("x-gitlab-audit-event-type", hook.event)
                .header("x-gitlab-event-streaming-token", sensitive(&self.audit_token)),
        }
    }
}

fn sensitive(token: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(token).expect("the demo's tokens are hex");
    value.set_sensitive(true);
    value
}

/// What GitLab tells of a change of people. That somebody is unblocked, it does not.
pub(super) fn between(before: &People, after: &People, now: SystemTime) -> Vec<Hook> {
    before.all().iter().zip(after.all()).flat_map(|(before, after)| changes(before, after, now)).collect()
}

fn changes(before: &Person, after: &Person, now: SystemTime) -> Vec<Hook> {
    let membership = |path| {
        let (event, role) = match (before.direct.get(path), after.direct.get(path)) {
            (Some(had), Some(has)) => (had != has).then_some(("user_update_for_group", *has))?,
            (Some(had), None) => ("user_remove_from_group", *had),
            (None, Some(has)) => ("user_add_to_group", *has),
            (None, None) => return None,
        };
        Some(Hook::membership(event, after, path, role, now))
    };
    let blocked = (after.blocked && !before.blocked).then(|| Hook::blocked(after, now));
    GROUPS.into_iter().filter_map(membership).chain(blocked).collect()
}

impl Hook {
    fn membership(event: &'static str, person: &Person, path: &str, role: Role, now: SystemTime) -> Self {
        let body = json!({
            "event_name": event, "created_at": to_the_second(now), "updated_at": to_the_second(now),
            "group_id": group_id(path), "group_name": last(path), "group_path": last(path), "group_access": label(role),
            "user_id": person.id, "user_username": person.login, "user_name": person.name, "user_email": "[REDACTED]",
        });
        Self { kind: Kind::System, event, id: uuid(), body }
    }

    fn blocked(person: &Person, now: SystemTime) -> Self {
        let (event, id) = ("user_blocked", uuid());
        let body = json!({
            "id": id, "event_type": event, "created_at": to_the_second(now), "author_id": 1,
            "entity_id": person.id, "entity_type": "User", "entity_path": person.login,
            "target_id": person.id, "target_type": "User", "target_details": person.name,
        });
        Self { kind: Kind::AuditEvent, event, id, body }
    }
}

/// A role as hooks write it.
fn label(role: Role) -> &'static str {
    match role {
        Role::Guest => "Guest",
        Role::Reporter => "Reporter",
        Role::Developer => "Developer",
        Role::Maintainer => "Maintainer",
        Role::Owner => "Owner",
    }
}

/// A random UUID. Source: RFC 9562, section 5.4.
pub(super) fn uuid() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
