//! Every refusal, and its one HTTP answer.
//!
//! A refusal is data: its [`Reason`] chooses status, page, JSON body, audit event and metric.

pub mod answer;

pub use answer::{Asked, answer};

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
    /// A method that no route allows.
    Method,
    /// No route for this host.
    UnknownHost,
    /// No route for this path, or no such endpoint of ours.
    NotFound,
    /// The peer is not a trusted proxy, or it did not say that the client came by https.
    UntrustedPeer,
    /// A credential is needed and there is none that is ours.
    NoSession,
    /// Known, but no policy permits it, or one forbids it.
    NotPermitted,
    /// Signed in, but with a provider that this route does not accept.
    WrongProvider,
    /// A cross-site request that would act with the person's cookie.
    CrossSite,
    /// Nobody can say which groups the person is in.
    MembershipUnknown,
    /// A policy could not be evaluated; an error never permits.
    PolicyError,
    /// The sign-in's `state` is unknown, expired, used or from another browser.
    SignInState,
    /// The provider answered the sign-in with an error.
    SignInRefused,
    /// The provider's ID token or answer was not acceptable.
    SignInInvalid,
    /// The provider cannot be reached, or is not discovered yet.
    ProviderUnavailable,
    /// The session store cannot be reached.
    StoreUnavailable,
    /// The decision cannot be recorded, and `audit.mode` is `required`.
    AuditUnavailable,
    /// A bound on work in hand is reached.
    Overloaded,
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
    pub const ALL: [Self; 25] = [
        Self::BadRequest,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::Expectation,
        Self::Method,
        Self::UnknownHost,
        Self::NotFound,
        Self::UntrustedPeer,
        Self::NoSession,
        Self::NotPermitted,
        Self::WrongProvider,
        Self::CrossSite,
        Self::MembershipUnknown,
        Self::PolicyError,
        Self::SignInState,
        Self::SignInRefused,
        Self::SignInInvalid,
        Self::ProviderUnavailable,
        Self::StoreUnavailable,
        Self::AuditUnavailable,
        Self::Overloaded,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::ClientTimeout,
        Self::Internal,
    ];

    /// The stable code, in snake case.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLarge => "head_too_large",
            Self::Expectation => "expectation_failed",
            Self::Method => "method_not_allowed",
            Self::UnknownHost => "unknown_host",
            Self::NotFound => "not_found",
            Self::UntrustedPeer => "untrusted_peer",
            Self::NoSession => "no_session",
            Self::NotPermitted => "not_permitted",
            Self::WrongProvider => "wrong_provider",
            Self::CrossSite => "cross_site",
            Self::MembershipUnknown => "membership_unknown",
            Self::PolicyError => "policy_error",
            Self::SignInState => "sign_in_state",
            Self::SignInRefused => "sign_in_refused",
            Self::SignInInvalid => "sign_in_invalid",
            Self::ProviderUnavailable => "provider_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::AuditUnavailable => "audit_unavailable",
            Self::Overloaded => "overloaded",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::ClientTimeout => "client_timeout",
            Self::Internal => "internal",
        }
    }

    /// The status that says whose fault it is.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest | Self::SignInState | Self::SignInInvalid => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::NoSession => StatusCode::UNAUTHORIZED,
            Self::UntrustedPeer
            | Self::NotPermitted
            | Self::WrongProvider
            | Self::CrossSite
            | Self::PolicyError
            | Self::SignInRefused => StatusCode::FORBIDDEN,
            Self::MembershipUnknown
            | Self::ProviderUnavailable
            | Self::StoreUnavailable
            | Self::AuditUnavailable
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamFailed => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::ClientTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
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

/// An answer of ours in place of the upstream's.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// One sentence for the client, in words of the protocol; it names no internals and no secrets.
    pub detail: String,
    /// What the operator should know beyond `detail`; logged and audited, never sent.
    pub cause: Option<String>,
    /// What the authors of the policies say.
    pub notes: Arc<[Note]>,
    /// The client connection cannot be used for another request.
    pub close: bool,
}

impl Refusal {
    /// A refusal with one sentence for the client.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), cause: None, notes: Arc::new([]), close: false }
    }

    /// The same, with what the operator should know.
    pub fn because(mut self, cause: impl ToString) -> Self {
        self.cause = Some(cause.to_string());
        self
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
