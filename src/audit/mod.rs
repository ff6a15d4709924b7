//! The audit trail: events in OCSF, a chained journal, and the [`Permit`] without which nothing is forwarded.

use crate::{
    authorize::Decision,
    canonical::Canonical,
    config::AuditMode,
    principal::{Person, Principal},
    refusal::{Reason, Refusal},
    route::Route,
};
use std::{path::Path, sync::Arc, time::SystemTime};

/// The trail's front end: cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct Audit {
    mode: AuditMode,
}

/// A recorded, allowed decision. Made only by [`Audit::admit`]; `forward` takes it by value.
pub struct Permit {
    decision: Decision,
}

/// One request's way through the hall, from its head to the end of its answer's body. Its completion event is written when
/// the last clone is dropped, so that a client that leaves loses nothing.
#[derive(Clone)]
pub struct Crossing(Arc<()>);

/// What is recorded beside requests.
#[derive(Clone, Debug)]
pub enum Event {
    /// A person signed in (OCSF Authentication: Logon).
    SignedIn { person: Arc<Person>, session: String, client: std::net::IpAddr },
    /// A sign-in failed.
    SignInFailed { provider: String, reason: Reason, detail: String, client: std::net::IpAddr },
    /// A session ended (Logoff), and why: `signed_out`, `refresh_rejected`, `idle`, `absolute`.
    SessionEnded { person: Arc<Person>, session: String, why: &'static str },
    /// A refresh failed, and the session goes on for now.
    RefreshDeferred { person: Arc<Person>, session: String, cause: String },
    /// A person's groups changed.
    GroupsChanged { person: Arc<Person>, added: Vec<String>, removed: Vec<String>, source: &'static str },
    /// Policies or configuration were loaded, or a load was refused.
    Reloaded { what: &'static str, digest: String, added: Vec<String>, removed: Vec<String>, error: Option<String> },
    /// The proxy started.
    Started { digest: String },
    /// The proxy stops.
    Stopped,
}

impl Permit {
    /// A permit without a record.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let decision = Decision {
            outcome: crate::authorize::Outcome::Permitted,
            policies: Arc::new([]),
            notes: Arc::new([]),
            digest: "".into(),
            hinges_on_groups: false,
        };
        Self { decision }
    }

    /// The decision it stands for.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

impl Audit {
    /// Opens the journal in `directory`, recovers it, and starts its writer thread.
    ///
    /// # Errors
    /// One line that says what cannot be opened.
    pub fn open(directory: &Path, keys: &Path, mode: AuditMode, segment: u64) -> Result<Self, String> {
        let _ = (directory, keys, segment);
        Ok(Self { mode })
    }

    /// Starts a crossing.
    pub fn crossing(&self, now: SystemTime) -> Crossing {
        let _ = (now, self.mode);
        unimplemented!()
    }

    /// Records `decision` and turns it into a permit, or into the refusal that it is.
    ///
    /// In `required` mode the record is durable when this returns.
    ///
    /// # Errors
    /// The refusal that the decision is; `AuditUnavailable` if it cannot be recorded as `audit.mode` demands.
    pub async fn admit(&self, decision: Decision, crossing: &Crossing) -> Result<Permit, Refusal> {
        let _ = (decision, crossing);
        unimplemented!()
    }

    /// Waits until no crossing is open.
    pub async fn idle(&self) {}

    /// Flushes, signs a head and closes the journal.
    pub fn close(&self) {}

    /// Records written.
    pub fn written(&self) -> u64 { 0 }

    /// Records lost.
    pub fn lost(&self) -> u64 { 0 }

    /// Records something that is not a request. Never waits.
    pub fn record(&self, event: Event, now: SystemTime) {
        let _ = (event, now);
        unimplemented!()
    }
}

impl Crossing {
    /// A crossing that nobody records.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self(Arc::new(()))
    }

    /// The request, once it is parsed.
    pub fn asked(&self, asked: &Canonical) {
        let _ = asked;
    }

    /// The route, once it is found.
    pub fn route(&self, route: &Route) {
        let _ = route;
    }

    /// Who it is, once that is known.
    pub fn principal(&self, principal: &Principal) {
        let _ = principal;
    }

    /// The session, as a hash.
    pub fn session(&self, hash: &str) {
        let _ = hash;
    }

    /// It was refused.
    pub fn refused(&self, refusal: &Refusal) {
        let _ = refusal;
    }

    /// The answer's status.
    pub fn status(&self, status: http::StatusCode) {
        let _ = status;
    }

    /// Bytes of the answer's body that went out.
    pub fn sent(&self, bytes: u64) {
        let _ = bytes;
    }

    /// Bytes of the request's body that came in.
    pub fn received(&self, bytes: u64) {
        let _ = bytes;
    }

    /// The connection became a stream; one record is written now, one at its end.
    pub fn stream_opened(&self) {}

    /// Keeps `held` until the last clone is dropped.
    pub fn hold<T: Send + 'static>(&self, held: T) {
        let _ = held;
    }

    /// We ended the stream, and why.
    pub fn cut(&self, why: Reason) {
        let _ = why;
    }
}
