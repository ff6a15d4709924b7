//! One request's way through the hall, as far as the trail cares.

use super::queue::{Message, Queue};
use crate::{
    authorize::{Aside, Decision},
    canonical::{Canonical, Class, ClientCertificate, OwnCookie, RequestId},
    fairness::{Measure, Turns, Whom},
    principal::{Bearer, Job, Membership, MembershipSource, Name, Person, Principal, Service, Unknown},
    refusal::{Reason, Refusal},
    route::{Redaction, Route},
};
use std::{
    borrow::Cow,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::OwnedSemaphorePermit;

/// One request's way through the hall, from its head to the end of its answer's body. Its completion event is written when
/// the last clone is dropped, so that a client that leaves loses nothing.
#[derive(Clone)]
pub struct Crossing(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    begun: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    taken: AtomicU64,
    /// Taken when the last clone is dropped.
    draft: Mutex<Option<Box<Draft>>>,
    /// A place among the requests in hand, which ends with this one.
    place: OnceLock<OwnedSemaphorePermit>,
    /// What it has taken under the limits of its address and of its principal, which ends with this one too.
    turns: [OnceLock<Turns>; 2],
}

/// What is known of a request. Holds no header, no query and no credential, so that none can be recorded.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// When its head was read.
    pub(super) start: SystemTime,
    /// From then until this record was made.
    pub(super) duration: Duration,
    /// Which of a request's records this is.
    pub(super) phase: Phase,
    /// The other end of the connection.
    pub(super) peer: IpAddr,
    /// The request; `None` if it was not read, or could not be.
    pub(super) asked: Option<Asked>,
    /// What is known of a request that was not read, or could not be: its id, and the nearest that is known of who sent it.
    pub(super) unread: Option<(RequestId, IpAddr)>,
    /// The route's name.
    pub(super) route: Option<Name>,
    /// What is kept out of its path; of every route's until one is found.
    pub(super) redact: Option<Arc<Redaction>>,
    /// Who asked; `None` if that was never looked for.
    pub(super) who: Option<Who>,
    /// Hash of the session's handle.
    pub(super) session: Option<Box<str>>,
    /// The token or certificate.
    pub(super) credential: Option<Credential>,
    /// What the policies say.
    pub(super) decision: Option<Decision>,
    /// What the shadow policies say.
    pub(super) shadow: Option<Aside>,
    /// The number of the record of that decision, in `required` mode.
    pub(super) recorded: Option<u64>,
    /// Our answer in place of the upstream's.
    pub(super) refusal: Option<Refused>,
    /// The answer's status.
    pub(super) status: Option<u16>,
    /// Bytes of the answer's body.
    pub(super) sent: u64,
    /// Bytes of the request's body.
    pub(super) received: u64,
    /// Why we ended a stream.
    pub(super) cut: Option<Reason>,
}

/// Which of a request's records a record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// The only one, at its end.
    Request,
    /// The decision, made durable before a byte goes upstream.
    Decision,
    /// The end of a request whose decision has a record of its own.
    Completion,
    /// The connection became a stream.
    StreamOpened,
    /// The stream ended.
    StreamEnded,
}

impl Phase {
    /// The word in the record.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Decision => "decision",
            Self::Completion => "completion",
            Self::StreamOpened => "stream_opened",
            Self::StreamEnded => "stream_ended",
        }
    }
}

/// What was asked, without the query.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) id: RequestId,
    pub(super) trace: Option<u128>,
    pub(super) method: http::Method,
    pub(super) authority: Arc<str>,
    pub(super) path: Arc<str>,
    pub(super) class: Class,
    pub(super) client: IpAddr,
    pub(super) https: bool,
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Our session's cookie came more than once.
    pub(super) tossed: bool,
}

/// Who asked, and what is known of their groups.
#[derive(Clone, Debug)]
pub(super) enum Who {
    Anonymous,
    Person(Arc<Person>, Standing),
    Job(Arc<Job>, Standing),
    Service(Arc<Service>, Standing),
}

/// The token or certificate that somebody came with, as far as it may be told.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    /// Who vouches for it.
    pub(super) issuer: Name,
    /// What it is called.
    pub(super) name: Arc<str>,
}

/// Where a membership comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    Known { source: MembershipSource, read: SystemTime, stale: bool },
    Unknown(Unknown),
}

/// A refusal, without what only the answer needs.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub(super) reason: Reason,
    pub(super) detail: Box<str>,
    pub(super) cause: Option<Box<str>>,
    pub(super) limit: Option<(Whom, Measure)>,
}

impl Crossing {
    /// `peer` is the other end of the connection.
    pub(super) fn new(queue: Arc<Queue>, peer: IpAddr, now: SystemTime) -> Self {
        let draft = Draft {
            start: now,
            peer,
            duration: Duration::ZERO,
            phase: Phase::Request,
            asked: None,
            unread: None,
            route: None,
            redact: None,
            who: None,
            session: None,
            credential: None,
            decision: None,
            shadow: None,
            recorded: None,
            refusal: None,
            status: None,
            sent: 0,
            received: 0,
            cut: None,
        };
        Self::with(queue, Some(Box::new(draft)))
    }

    /// A crossing that leaves no record.
    pub(super) fn unrecorded(queue: Arc<Queue>) -> Self {
        Self::with(queue, None)
    }

    fn with(queue: Arc<Queue>, draft: Option<Box<Draft>>) -> Self {
        Self(Arc::new(Inner {
            queue,
            begun: Instant::now(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            draft: Mutex::new(draft),
            place: OnceLock::new(),
            turns: Default::default(),
        }))
    }

    /// A crossing whose record nobody reads.
    #[cfg(test)]
    pub(crate) fn for_test() -> Self {
        Self::new(Queue::new().0, IpAddr::from([127, 0, 0, 1]), SystemTime::now())
    }

    /// Keeps a place among the requests in hand until the last clone is dropped.
    pub fn hold(&self, place: OwnedSemaphorePermit) {
        let _ = self.0.place.set(place); // a request takes one place
    }

    /// Keeps what the request has taken under limits until the last clone is dropped.
    pub fn keep(&self, mut turns: Turns) {
        for place in &self.0.turns {
            match place.set(turns) {
                Ok(()) => return,
                Err(again) => turns = again,
            }
        }
    }

    /// The request, once it is parsed, and what is kept out of paths while nobody knows its route.
    pub fn asked(&self, asked: &Canonical, redact: Option<&Arc<Redaction>>) {
        let asked = Asked {
            id: asked.id,
            trace: trace(&asked.traceparent),
            method: asked.method.clone(),
            authority: Arc::clone(&asked.authority),
            path: Arc::clone(&asked.target.path),
            class: asked.class,
            client: asked.client,
            https: asked.https,
            certificate: asked.certificate.clone(),
            tossed: asked.session == OwnCookie::Several,
        };
        let redact = redact.cloned();
        self.set(|draft| (draft.asked, draft.redact) = (Some(asked), redact));
    }

    /// It was not read, or could not be; `client` is the nearest that is known of who sent it.
    pub fn unread(&self, id: RequestId, client: IpAddr) {
        self.set(|draft| draft.unread = Some((id, client)));
    }

    /// The route, once it is found.
    pub fn route(&self, route: &Route) {
        self.set(|draft| (draft.route, draft.redact) = (Some(route.name.clone()), route.redact.clone()));
    }

    /// Who it is, once that is known.
    pub fn principal(&self, principal: &Principal) {
        let who = match principal {
            Principal::Anonymous => Who::Anonymous,
            Principal::User { person, membership, .. } => Who::Person(Arc::clone(person), Standing::of(membership)),
            Principal::Job { job, membership } => Who::Job(Arc::clone(job), Standing::of(membership)),
            Principal::Service { service, membership } => Who::Service(Arc::clone(service), Standing::of(membership)),
        };
        self.set(|draft| draft.who = Some(who));
    }

    /// The session, as a hash.
    pub fn session(&self, hash: &str) {
        self.set(|draft| draft.session = Some(hash.into()));
    }

    /// The token or certificate that it came with, once it is verified.
    pub fn credential(&self, bearer: &Bearer) {
        let credential = Credential { issuer: bearer.issuer.clone(), name: bearer.name.clone() };
        self.set(|draft| draft.credential = Some(credential));
    }

    /// It was refused.
    pub fn refused(&self, refusal: &Refusal) {
        let refused = Refused {
            reason: refusal.reason,
            detail: refusal.detail.as_str().into(),
            cause: refusal.cause.as_deref().map(Into::into),
            limit: refusal.limit,
        };
        self.set(|draft| draft.refusal = Some(refused));
    }

    /// What the shadow policies say, which nobody obeys.
    pub fn shadowed(&self, shadow: Aside) {
        self.set(|draft| draft.shadow = Some(shadow));
    }

    /// What was said of the request, without what its route keeps out of paths: for whoever tells it to others.
    pub fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.draft().as_ref().map_or(Cow::Borrowed(text), |draft| draft.masked(text))
    }

    /// The answer's status.
    pub fn status(&self, status: http::StatusCode) {
        self.set(|draft| draft.status = Some(status.as_u16()));
    }

    /// Bytes of the answer's body that went out, in addition to those reported before.
    pub fn sent(&self, bytes: u64) {
        self.0.sent.fetch_add(bytes, Relaxed);
    }

    /// Bytes of an answer's body that is ours: no upstream was asked, or what it said is not passed on.
    pub fn answered_by_us(&self, length: Option<u64>) {
        let ours = self.draft().as_ref().is_some_and(|draft| {
            let is_head = draft.asked.as_ref().is_some_and(|asked| asked.method == http::Method::HEAD);
            !is_head && (draft.decision.is_none() || draft.refusal.is_some())
        });
        if let Some(length) = length.filter(|_| ours) {
            self.sent(length);
        }
    }

    /// Bytes of the request's body that came in, in addition to those reported before.
    pub fn received(&self, bytes: u64) {
        self.0.received.fetch_add(bytes, Relaxed);
    }

    /// Bytes of the request's body that the upstream took, in addition to those reported before.
    pub fn taken(&self, bytes: u64) {
        self.0.taken.fetch_add(bytes, Relaxed);
    }

    /// Bytes of the request's body that the upstream took.
    pub fn taken_so_far(&self) -> u64 {
        self.0.taken.load(Relaxed)
    }

    /// The connection became a stream; one record is written now, one at its end.
    pub fn stream_opened(&self) {
        self.set(|draft| draft.phase = Phase::StreamEnded);
        if let Some(draft) = self.copy(Phase::StreamOpened) {
            self.0.queue.offer(Message::Crossing(draft));
        }
    }

    /// We ended the stream, and why.
    pub fn cut(&self, why: Reason) {
        self.set(|draft| draft.cut = Some(why));
    }

    /// What the policies say.
    pub(super) fn decided(&self, decision: &Decision) {
        self.set(|draft| draft.decision = Some(decision.clone()));
    }

    /// The decision has the record `seq`, so the last record is a completion.
    pub(super) fn recorded(&self, seq: u64) {
        self.set(|draft| {
            draft.recorded = Some(seq);
            draft.phase = Phase::Completion;
        });
    }

    /// True if its decision, or what is answered in place of one, has a record.
    pub(super) fn is_recorded(&self) -> bool {
        self.draft().as_ref().is_some_and(|draft| draft.recorded.is_some())
    }

    /// True if somebody known asks.
    pub(super) fn is_known(&self) -> bool {
        self.draft().as_ref().is_some_and(|draft| !matches!(draft.who, None | Some(Who::Anonymous)))
    }

    /// What is known so far, as the record of `phase`.
    pub(super) fn copy(&self, phase: Phase) -> Option<Box<Draft>> {
        let mut draft = self.draft().clone()?;
        self.0.count(&mut draft);
        draft.phase = phase;
        Some(draft)
    }

    /// Changes the record.
    pub(super) fn set(&self, change: impl FnOnce(&mut Draft)) {
        if let Some(draft) = self.draft().as_deref_mut() {
            change(draft);
        }
    }

    fn draft(&self) -> MutexGuard<'_, Option<Box<Draft>>> {
        self.0.draft.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Draft {
    /// About how many bytes it takes in memory, without what it shares with others.
    pub(super) fn size(&self) -> usize {
        let asked = self.asked.as_ref().map_or(0, |asked| asked.path.len() + asked.authority.len());
        let refusal = self.refusal.as_ref();
        let refusal = refusal.map_or(0, |it| it.detail.len() + it.cause.as_deref().map_or(0, str::len));
        size_of::<Self>() + asked + refusal + self.session.as_deref().map_or(0, str::len)
    }

    /// What was said of the request, without what its route keeps out of paths.
    pub(super) fn masked<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match (&self.redact, &self.asked) {
            (Some(redact), Some(asked)) => redact.in_text(text, &asked.path),
            (None, _) | (_, None) => Cow::Borrowed(text),
        }
    }
}

impl Draft {
    /// A request that ended before anybody looked at it has a number and an address all the same.
    fn name(&mut self) {
        if self.asked.is_none() && self.unread.is_none() {
            self.unread = Some((RequestId::new(), self.peer));
        }
    }
}

impl Inner {
    fn count(&self, draft: &mut Draft) {
        draft.duration = self.begun.elapsed();
        draft.sent = self.sent.load(Relaxed);
        draft.received = self.received.load(Relaxed);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let draft = self.draft.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut draft) = draft {
            self.count(&mut draft);
            draft.name();
            self.queue.offer(Message::Crossing(draft));
        }
    }
}

impl Standing {
    fn of(membership: &Membership) -> Self {
        match membership {
            Membership::Known(groups) => Self::Known { source: groups.source, read: groups.read, stale: groups.stale },
            Membership::Unknown(why) => Self::Unknown(*why),
        }
    }
}

/// The trace id of a `traceparent` (W3C Trace Context, section 3.2).
fn trace(traceparent: &str) -> Option<u128> {
    u128::from_str_radix(traceparent.get(3..35)?, 16).ok()
}
