//! The audit trail: events in OCSF, a chained journal, and the [`Permit`] without which nothing is forwarded.
//!
//! A record takes this way: [`Crossing`] or [`Event`] → a bounded queue → one writer thread → a segment of the journal.
//! `verify` and `search` read the segments, whether the proxy runs or not.

mod act;
mod ahead;
mod anchor;
mod beginning;
mod crossing;
mod event;
pub mod export;
mod faults;
mod field;
mod index;
pub mod indexes;
mod journal;
mod json;
mod key;
mod lens;
mod memory;
mod ocsf;
mod pseudonym;
mod query;
mod queue;
mod record;
mod recover;
mod retain;
pub mod search;
mod segment;
pub mod ship;
mod show;
mod spare;
pub mod tail;
pub mod tally;
mod told;
mod trust;
pub mod verify;
mod walk;
mod writer;

use crate::moment as time;
pub use crate::moment::{parse_moment, parse_span, parse_time, rfc3339};
pub use anchor::Anchors;
pub use crossing::Crossing;
pub use field::{About as FieldAbout, Class, fields};
pub use key::PublicKey;
pub use pseudonym::{FILE as PSEUDONYMS, Pseudonyms};
pub use query::{Query, Verdict};
pub use told::About;

use crate::{
    authorize::{Decision, Outcome},
    config::{AuditMode, AuditSettings, Retention},
    principal::Person,
    refusal::{Reason, Refusal},
};
use crossing::Phase;
use faults::Faults;
use journal::Journal;
use key::Signer;
use lens::Lens;
use queue::{Message, Queue};
use ship::Shippers;
use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::oneshot;
use writer::Writer;

/// How long a decision waits for its record, and a stop for the writer.
const BOUND: Duration = Duration::from_secs(5);

/// The trail's front end: cheap to clone, usable from every thread. When the last clone is dropped, the journal is closed.
#[derive(Clone)]
pub struct Audit(Arc<Front>);

struct Front {
    mode: AuditMode,
    queue: Arc<Queue>,
    shippers: Shippers,
    faults: Faults,
    /// False only where the trail's own cost is measured.
    records: bool,
}

/// A recorded, allowed decision. Made only by [`Audit::admit`]; `forward` takes it by value.
pub struct Permit {
    decision: Decision,
}

/// What is recorded beside requests.
#[derive(Clone, Debug)]
pub enum Event {
    /// A person signed in (OCSF Authentication: Logon).
    SignedIn {
        /// Who.
        person: Arc<Person>,
        /// Hash of the session's handle.
        session: String,
        /// The client's address.
        client: IpAddr,
    },
    /// A person who is signed in was given a handle for a further host (Logon).
    Arrived {
        /// Who.
        person: Arc<Person>,
        /// Hash of the session's handle.
        session: String,
        /// Where.
        host: String,
        /// The client's address.
        client: IpAddr,
    },
    /// A sign-in failed.
    SignInFailed {
        /// The provider's name.
        provider: String,
        /// Why, as the person was told.
        reason: Reason,
        /// Why, for the operator.
        detail: String,
        /// The client's address.
        client: IpAddr,
    },
    /// A provider's word that somebody signed out was not acceptable (Logoff).
    SignOutRefused {
        /// The provider's name.
        provider: String,
        /// Why.
        detail: String,
        /// The client's address.
        client: IpAddr,
        /// For how many of one moment this stands: the others may have other causes and clients.
        count: u64,
    },
    /// A session ended (Logoff).
    SessionEnded {
        /// Whose.
        person: Arc<Person>,
        /// Hash of the session's handle.
        session: String,
        /// Why: `signed_out`, `signed_out_elsewhere` (by the person, from another session of theirs), `provider_signed_out`,
        /// `revoked` (by an operator, or a sign-in that was under way when all sessions of its person ended), `user_blocked` (at
        /// the provider), `locked` (a sign-in that a lock kept out), `refresh_rejected`, `token_refused` (a
        /// token that the provider had just given), `idle`, `absolute`, `replaced`,
        /// `superseded` (by newer sessions of the same person, of whom there may be so many), `unrecorded`.
        why: &'static str,
    },
    /// A refresh failed, and the session goes on for now.
    RefreshDeferred {
        /// Whose.
        person: Arc<Person>,
        /// Hash of the session's handle.
        session: String,
        /// What failed.
        cause: String,
    },
    /// A person's groups changed.
    GroupsChanged {
        /// Whose.
        person: Arc<Person>,
        /// Groups that are new.
        added: Vec<String>,
        /// Groups that are gone.
        removed: Vec<String>,
        /// Where they were read.
        source: &'static str,
    },
    /// GitLab told of a change, and what it names is read again.
    HookTaken {
        /// The person, such as `gitlab:907`, or the provider where it is about everybody.
        object: String,
        /// GitLab's name of the event.
        event: String,
        /// The groups that it names: paths, or GitLab's numbers.
        groups: Vec<String>,
        /// Who sent it.
        client: IpAddr,
    },
    /// A hook was not acceptable.
    HookRefused {
        /// The provider's name.
        provider: String,
        /// Why.
        detail: String,
        /// Who sent it.
        client: IpAddr,
        /// For how many of one moment this stands: the others may have other causes and senders.
        count: u64,
    },
    /// Policies or configuration were loaded, or a load was refused.
    Reloaded {
        /// `policies` or `configuration`.
        what: &'static str,
        /// Digest of what is in force now.
        digest: String,
        /// The keys of the configuration that mean something else now, without their values, and `policies[ID]` of policies.
        changed: Vec<String>,
        /// What is new, such as ids of policies.
        added: Vec<String>,
        /// What is gone.
        removed: Vec<String>,
        /// Why the load was refused; then the old one stays in force.
        error: Option<String>,
    },
    /// An operator did something.
    Administered {
        /// Who, such as `uid 0`.
        by: String,
        /// What, such as `keys.rotate`.
        act: &'static str,
        /// The kind of thing that it was done to: `key`, `session` or `lock`.
        kind: &'static str,
        /// To what.
        object: String,
        /// Why, in the operator's words.
        reason: Option<String>,
        /// Hashes of the sessions that it hit.
        sessions: Vec<String>,
    },
    /// Somebody else than an operator asked at the operators' socket.
    StrangerRefused {
        /// Who, such as `uid 1000`.
        by: String,
    },
    /// The proxy started.
    Started {
        /// Digest of the configuration.
        digest: String,
    },
    /// The proxy stops.
    Stopped,
}

impl Event {
    /// About how many bytes it takes in memory, without what it shares with others.
    fn size(&self) -> usize {
        let all = |texts: &[String]| texts.iter().map(|text| size_of::<String>() + text.len()).sum::<usize>();
        let texts = match self {
            Self::SignedIn { session, .. } | Self::SessionEnded { session, .. } => session.len(),
            Self::Arrived { session, host, .. } => session.len() + host.len(),
            Self::SignInFailed { provider, detail, .. }
            | Self::SignOutRefused { provider, detail, .. }
            | Self::HookRefused { provider, detail, .. } => provider.len() + detail.len(),
            Self::RefreshDeferred { session, cause, .. } => session.len() + cause.len(),
            Self::GroupsChanged { added, removed, .. } => all(added) + all(removed),
            Self::HookTaken { object, event, .. } => object.len() + event.len(),
            Self::Reloaded { digest, changed, added, removed, error, .. } => {
                digest.len() + all(changed) + all(added) + all(removed) + error.as_deref().map_or(0, str::len)
            }
            Self::Administered { by, object, reason, sessions, .. } => {
                by.len() + object.len() + reason.as_deref().map_or(0, str::len) + all(sessions)
            }
            Self::StrangerRefused { by } => by.len(),
            Self::Started { digest } => digest.len(),
            Self::Stopped => 0,
        };
        size_of::<Self>() + texts
    }

    /// A lock ended by its own time.
    pub fn of_lock_over(kind: &str, target: &dyn std::fmt::Display) -> Self {
        let (by, object, sessions) = ("vestibule".to_owned(), format!("{kind} {target}"), Vec::new());
        let reason = Some("its time is over".to_owned());
        Self::Administered { by, act: "sessions.unlock", kind: "lock", object, reason, sessions }
    }

    /// An operator did something to a key.
    pub fn of_key(uid: u32, act: &'static str, object: String) -> Self {
        let (by, sessions) = (format!("uid {uid}"), Vec::new());
        Self::Administered { by, act, kind: "key", object, reason: None, sessions }
    }
}

impl Permit {
    /// A permit without a record.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        let decision = Decision {
            outcome: Outcome::Permitted,
            policies: Arc::new([]),
            notes: Arc::new([]),
            digest: "".into(),
            hinges_on_groups: false,
            faults: Arc::default(),
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
    /// The key that signs is `audit.ed25519` in `keys`, made (0600) if absent; its public half is `audit.pub`. The key that makes
    /// pseudonyms is [`PSEUDONYMS`] beside it, made if `audit.pseudonyms` asks for some.
    ///
    /// # Errors
    /// One line that says what cannot be opened.
    pub fn open(directory: &Path, keys: &Path, settings: &AuditSettings) -> Result<Self, String> {
        let lens = Lens::open(keys, &settings.pseudonyms)?;
        let journal = Journal::open(directory, Signer::open(keys)?, settings.segment, SystemTime::now())?;
        Self::start(journal, settings.mode, settings.retention.clone(), lens)
    }

    fn start(journal: Journal, mode: AuditMode, retention: Retention, lens: Lens) -> Result<Self, String> {
        let (queue, receiver) = Queue::new();
        let shippers = Shippers::new(journal.directory(), Some(journal.signer()), queue.reached.subscribe());
        Writer::start(journal, lens, retention, shippers.positions(), Arc::clone(&queue), receiver)
            .map_err(|error| format!("cannot start the audit thread: {error}"))?;
        Ok(Self(Arc::new(Front { mode, queue, shippers, faults: Faults::default(), records: true })))
    }

    /// A trail that records nothing, against which the cost of recording is measured. No configuration leads to it.
    #[doc(hidden)]
    pub fn of_nothing() -> Self {
        let (queue, _) = Queue::new();
        let shippers = Shippers::new(Path::new(""), None, queue.reached.subscribe());
        let (mode, faults) = (AuditMode::BestEffort, Faults::default());
        Self(Arc::new(Front { mode, queue, shippers, faults, records: false }))
    }

    /// Starts a crossing; `peer` is the other end of the connection.
    pub fn crossing(&self, peer: IpAddr, now: SystemTime) -> Crossing {
        let queue = Arc::clone(&self.0.queue);
        if self.0.records { Crossing::new(queue, peer, now) } else { Crossing::unrecorded(queue) }
    }

    /// Records `decision` and turns it into a permit, or into the refusal that it is.
    ///
    /// In `required` mode the record is durable when this returns, which it does within 5 s.
    ///
    /// # Errors
    /// The refusal that the decision is; `AuditUnavailable` if it cannot be recorded as `audit.mode` demands.
    pub async fn admit(&self, decision: Decision, crossing: &Crossing) -> Result<Permit, Refusal> {
        crossing.decided(&decision);
        self.0.faults.tell(&decision.faults, crossing, Instant::now());
        let refusal = refusal(&decision, crossing.is_known());
        if let Some(refusal) = &refusal {
            crossing.refused(refusal);
        }
        match self.0.mode {
            AuditMode::BestEffort => {}
            AuditMode::Required => {
                let draft = crossing.copy(Phase::Decision);
                let recorded = self.durable(|waiter| Some(Message::Decision(draft?, waiter))).await;
                crossing.recorded(recorded.inspect_err(|refusal| crossing.refused(refusal))?);
            }
        }
        refusal.map_or(Ok(Permit { decision }), Err)
    }

    /// Records what is about to be answered, where no decision was, and the refusal if it is one: in `required` mode the record
    /// is durable when this returns, which it does within 5 s. The record at the request's end refers to it.
    ///
    /// # Errors
    /// `AuditUnavailable` if it cannot be recorded as `audit.mode` demands.
    pub async fn answer(&self, refusal: Option<&Refusal>, crossing: &Crossing) -> Result<(), Refusal> {
        let failed = refusal.is_some_and(|refusal| refusal.reason == Reason::AuditUnavailable);
        if self.0.mode == AuditMode::BestEffort || failed || crossing.is_recorded() {
            return Ok(());
        }
        refusal.into_iter().for_each(|refusal| crossing.refused(refusal));
        let draft = crossing.copy(Phase::Decision);
        crossing.recorded(self.durable(|waiter| Some(Message::Decision(draft?, waiter))).await?);
        Ok(())
    }

    /// The number of the record, once it is on disk.
    async fn durable(&self, message: impl FnOnce(oneshot::Sender<u64>) -> Option<Message>) -> Result<u64, Refusal> {
        let refuse = |cause: &str| {
            Refusal::new(Reason::AuditUnavailable, "The decision on this request cannot be recorded at the moment.")
                .because(cause)
        };
        let (waiter, answer) = oneshot::channel();
        if !message(waiter).is_some_and(|message| self.0.queue.demand(message)) {
            return Err(refuse("the audit journal cannot be written, or its queue is full"));
        }
        match tokio::time::timeout(BOUND, answer).await {
            Ok(Ok(seq)) => Ok(seq),
            Ok(Err(_)) => Err(refuse("the audit journal cannot be written")),
            Err(_) => Err(refuse("the audit journal was late: 5 s are allowed")),
        }
    }

    /// Records something that is not a request. Never waits.
    pub fn record(&self, event: Event, now: SystemTime) {
        if self.0.records {
            self.0.queue.offer(Message::Event(Box::new(event), now));
        }
    }

    /// Records what must not happen without its record, such as a sign-in, before it takes effect. In `required` mode the
    /// record is durable when this returns, which it does within 5 s.
    ///
    /// # Errors
    /// `AuditUnavailable` if it cannot be recorded as `audit.mode` demands.
    pub async fn record_first(&self, event: Event, now: SystemTime) -> Result<(), Refusal> {
        match self.0.mode {
            AuditMode::BestEffort => self.record(event, now),
            AuditMode::Required => {
                self.durable(|waiter| Some(Message::Awaited(Box::new(event), now, waiter))).await?;
            }
        }
        Ok(())
    }

    /// Writes what is left, signs it, and ends the writer. Waits for that, at most 5 s. What is recorded afterwards is lost.
    pub fn close(&self) {
        self.0.queue.close();
        if !self.0.queue.join(BOUND) {
            tracing::error!("the audit journal could not be closed within 5 s");
        }
    }

    /// What ships the journal to sinks. It does nothing before [`Shippers::configure`].
    pub fn shippers(&self) -> &Shippers {
        &self.0.shippers
    }

    /// Events that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.0.queue.lost()
    }

    /// Events that were written since the start.
    pub fn written(&self) -> u64 {
        self.0.queue.written()
    }

    /// What happens when it cannot be recorded.
    pub fn mode(&self) -> AuditMode {
        self.0.mode
    }

    /// True while the journal can be written.
    pub fn healthy(&self) -> bool {
        self.0.queue.healthy()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// The refusal that a decision is; `None` for a permit.
fn refusal(decision: &Decision, person: bool) -> Option<Refusal> {
    let (reason, detail) = match decision.outcome {
        Outcome::Permitted => return None,
        Outcome::Forbidden | Outcome::NotPermitted if !person => (Reason::NoSession, "This needs a sign-in."),
        Outcome::Forbidden => (Reason::NotPermitted, "A policy forbids this."),
        Outcome::NotPermitted => (Reason::NotPermitted, "No policy permits this."),
        Outcome::MembershipUnknown => {
            (Reason::MembershipUnknown, "This depends on your groups, and they cannot be read at the moment.")
        }
        Outcome::Failed => (Reason::PolicyError, "A policy could not be evaluated, so nothing is permitted."),
    };
    let refusal = Refusal::new(reason, detail).with_notes(Arc::clone(&decision.notes));
    Some(match &*decision.faults {
        [] => refusal,
        faults => refusal.because(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
    })
}

#[cfg(test)]
mod retain_tests;
#[cfg(test)]
mod searching;
#[cfg(test)]
mod tests;
