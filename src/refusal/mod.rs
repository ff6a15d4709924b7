//! Every refusal, and its one HTTP answer.
//!
//! A refusal is data: its [`Reason`] has a row in [`table`], which gives status, page, JSON body, gRPC status, audit event and
//! metric.

pub mod answer;
mod challenge;
pub mod table;

pub use answer::{Asked, answer};
pub use challenge::Challenge;
use table::{Row, TABLE};

use crate::{
    fairness::{Measure, Whom},
    principal::StepUp,
};
use http::StatusCode;
use std::sync::Arc;

/// Why a request was refused. The code is public: pages, problem bodies, audit events and metrics carry it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// The request can be read in two ways, or breaks the protocol.
    BadRequest,
    /// The target is longer than 8 KiB.
    TargetTooLong,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// `Expect` is something else than `100-continue`.
    Expectation,
    /// The body is larger than what is read before a decision.
    BodyTooLarge,
    /// The body has to be read before a decision, and is not JSON in UTF-8 without a coding.
    UnsupportedBody,
    /// The body has to be read before a decision, and is no JSON, has two readings, or lacks a declared field.
    InvalidBody,
    /// There is no room left for bodies that are read before a decision.
    BodiesFull,
    /// A method that no route allows.
    Method,
    /// No route for this host.
    UnknownHost,
    /// The connection is for another host than the request.
    Misdirected,
    /// No route for this path, or no such endpoint of ours.
    NotFound,
    /// The peer is not a trusted proxy, or it did not say that the client came by https.
    UntrustedPeer,
    /// A credential is needed and there is none that is ours.
    NoSession,
    /// A token that is ours to judge and is not good, or a credential of nobody known where there is no session.
    InvalidToken,
    /// Two credentials that are ours to judge, of which nobody could say which counts.
    TwoTokens,
    /// Signed in, but not as strongly or as recently as the route asks for.
    InsufficientAuthentication,
    /// Known, but no policy permits it, or one forbids it.
    NotPermitted,
    /// Signed in, but with a provider that this route does not accept.
    WrongProvider,
    /// The person behind a token is not active at the provider any more.
    PersonInactive,
    /// A lock keeps the person out.
    Locked,
    /// A cross-site request that would act with the person's cookie.
    CrossSite,
    /// Somebody asks for more than a limit of the route allows them.
    RateLimited,
    /// Nobody can say which groups the person is in.
    MembershipUnknown,
    /// A policy could not be evaluated; an error never permits.
    PolicyError,
    /// The sign-in's `state` is unknown, expired, used or from another browser.
    SignInState,
    /// The browser signed in several times within a minute and never came back with its session.
    SignInLoop,
    /// The provider answered the sign-in with an error.
    SignInRefused,
    /// The provider's ID token or answer was not acceptable.
    SignInInvalid,
    /// The provider signed the person in otherwise than the route asks for.
    StepUpFailed,
    /// The provider cannot be reached, or is not discovered yet.
    ProviderUnavailable,
    /// The session store cannot be reached.
    StoreUnavailable,
    /// The decision cannot be recorded, and `audit.mode` is `required`.
    AuditUnavailable,
    /// A bound on work in hand is reached.
    Overloaded,
    /// We stop, and a stream that was open has had its time.
    ShuttingDown,
    /// The upstream refused the connection or broke the protocol.
    UpstreamFailed,
    /// The upstream was late.
    UpstreamTimeout,
    /// The client was late with its body.
    ClientTimeout,
    /// A fault of ours.
    Internal,
}

impl Reason {
    /// Every reason, for tables, metrics and tests.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        TABLE.iter().map(|row| row.reason)
    }

    /// All that follows from it.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// The stable code, in snake case.
    pub fn code(self) -> &'static str {
        self.row().code
    }

    /// The status that a gRPC client gets.
    ///
    /// Source: gRPC over HTTP/2; the numbers are those of `google.rpc.Code`.
    pub fn grpc(self) -> u8 {
        self.row().grpc
    }

    /// The status that says whose fault it is.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// What a policy's author says to those it refuses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Note {
    /// The policy's `@id`.
    pub policy: Arc<str>,
    /// The policy's `@reason`, if it has one.
    pub reason: Option<Arc<str>>,
    /// The policy's `@remedy`, if it has one.
    pub remedy: Option<Arc<str>>,
}

/// What a provider says in its answer to a sign-in (RFC 6749, section 4.1.2.1).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quoted {
    /// Who says it, as people know it.
    pub who: String,
    /// `error`.
    pub error: String,
    /// `error_description`.
    pub description: Option<String>,
}

impl Quoted {
    /// `error` and `error_description` in one line.
    pub fn text(&self) -> String {
        match &self.description {
            Some(description) => format!("{}: {description}", self.error),
            None => self.error.clone(),
        }
    }
}

/// An answer of ours in place of the upstream's.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence for the client, in words of the protocol; it names no internals and no secrets.
    pub detail: String,
    /// What the operator should know beyond `detail`; logged and audited, never sent.
    pub cause: Option<Box<str>>,
    /// What the authors of the policies say.
    pub notes: Arc<[Note]>,
    /// What a provider says, in its own words.
    pub quoted: Option<Box<Quoted>>,
    /// What a sign-in would have to be.
    pub step_up: Option<Arc<StepUp>>,
    /// Where the person wanted to go, if that is not what they asked for now.
    pub wanted: Option<Box<str>>,
    /// After how many seconds the same request may well succeed, where that is known better than the reason's row says it.
    pub retry_after: Option<u16>,
    /// Whose limit it is, and of what.
    pub limit: Option<(Whom, Measure)>,
    /// The client connection cannot be used for another request.
    pub close: bool,
}

impl Refusal {
    /// A refusal with one sentence for the client.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            cause: None,
            notes: Arc::new([]),
            quoted: None,
            step_up: None,
            wanted: None,
            retry_after: None,
            limit: None,
            close: false,
        }
    }

    /// The same, with what the operator should know.
    pub fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string().into());
        self
    }

    /// The same, with what a provider says.
    pub fn quoting(mut self, quoted: Quoted) -> Self {
        self.quoted = Some(Box::new(quoted));
        self
    }

    /// The same, with what a sign-in would have to be.
    pub fn asking_for(mut self, step_up: Arc<StepUp>) -> Self {
        self.step_up = Some(step_up);
        self
    }

    /// The same, on the way to `path`.
    pub fn on_the_way_to(mut self, path: &str) -> Self {
        self.wanted = Some(path.into());
        self
    }

    /// The same, by a limit under which there is more after so many seconds.
    pub fn limited(mut self, whom: Whom, measure: Measure, seconds: u16) -> Self {
        (self.limit, self.retry_after) = (Some((whom, measure)), Some(seconds));
        self
    }

    /// After how many seconds the same request may well succeed (`Retry-After`); `None`: not by waiting.
    pub fn retry_after(&self) -> Option<u16> {
        self.retry_after.or(self.reason.row().retry_after)
    }

    /// The same, after which the client connection is closed.
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same, with what the authors of the policies say.
    pub fn with_notes(mut self, notes: Arc<[Note]>) -> Self {
        self.notes = notes;
        self
    }
}
