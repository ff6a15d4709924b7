//! The one table of refusals: a row for each reason, and all that follows from it.

use super::Reason::{self, *};

/// Whose doing a refusal is, as the audit trail says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A policy or a rule of ours says no to somebody.
    Blocked,
    /// Nobody proved who they are.
    Unauthorized,
    /// The request itself is not taken.
    Rejected,
    /// Something failed.
    Error,
}

/// What a person can do about a refusal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Act {
    /// Sign in.
    SignIn,
    /// Have the groups read anew, and ask for the page again.
    CheckAgain,
    /// Sign in as somebody else.
    SwitchAccount,
    /// Ask for the page again.
    TryAgain,
    /// Begin the sign-in again.
    StartAgain,
    /// Go to the start page.
    Home,
    /// Sign out.
    SignOut,
}

/// All that follows from a reason.
#[derive(Debug)]
pub struct Row {
    /// Whose row it is.
    pub reason: Reason,
    /// The stable code, in snake case.
    pub code: &'static str,
    /// The status that says whose fault it is.
    pub status: u16,
    /// The status that a gRPC client gets, a number of `google.rpc.Code`.
    pub grpc: u8,
    /// As the audit trail says it.
    pub kind: Kind,
    /// What a person reads first.
    pub title: &'static str,
    /// What a person can do, the most likely first.
    pub acts: &'static [Act],
    /// After how many seconds the same request may well succeed (`Retry-After`); `None`: not by waiting.
    pub retry_after: Option<u16>,
    /// What it means, and what whoever runs this can do; for the documentation.
    pub meaning: &'static str,
}

const INVALID_ARGUMENT: u8 = 3;
const DEADLINE_EXCEEDED: u8 = 4;
const PERMISSION_DENIED: u8 = 7;
const RESOURCE_EXHAUSTED: u8 = 8;
const UNIMPLEMENTED: u8 = 12;
const INTERNAL: u8 = 13;
const UNAVAILABLE: u8 = 14;
const UNAUTHENTICATED: u8 = 16;

const UNREADABLE: &str = "This request cannot be read";
const TOO_MUCH: &str = "This request is too large";
const NOTHING: &str = "There is nothing here";
const NOT_NOW: &str = "Not right now";
const NO_ANSWER: &str = "The service behind this page does not answer";
const NONE: &[Act] = &[];
const AGAIN: &[Act] = &[Act::TryAgain];
const NO: Option<u16> = None;
const SOON: Option<u16> = Some(5);
/// The least; a refusal by a limit says how long it is.
const AS_TOLD: Option<u16> = Some(1);

/// In the order of [`Reason`].
#[rustfmt::skip]
pub static TABLE: [Row; 39] = [
    row(BadRequest, "bad_request", 400, INVALID_ARGUMENT, Kind::Rejected, UNREADABLE, NONE, NO, "It can be read in two ways, or breaks the protocol"),
    row(TargetTooLong, "target_too_long", 414, INVALID_ARGUMENT, Kind::Rejected, UNREADABLE, NONE, NO, "The target is longer than 8 KiB"),
    row(HeadTooLarge, "head_too_large", 431, RESOURCE_EXHAUSTED, Kind::Rejected, UNREADABLE, NONE, NO, "The head is larger than 32 KiB, or has more than 100 fields"),
    row(Expectation, "expectation_failed", 417, INVALID_ARGUMENT, Kind::Rejected, UNREADABLE, NONE, NO, "`Expect` is something else than `100-continue`"),
    row(BodyTooLarge, "body_too_large", 413, RESOURCE_EXHAUSTED, Kind::Rejected, TOO_MUCH, NONE, NO, "A rule of `routes[].body_fields` names the request, and its body has more bytes than the rule's `max`"),
    row(UnsupportedBody, "unsupported_body", 415, INVALID_ARGUMENT, Kind::Rejected, UNREADABLE, NONE, NO, "A rule of `routes[].body_fields` names the request, and its body is not JSON in UTF-8, or has a `Content-Encoding`"),
    row(InvalidBody, "invalid_body", 400, INVALID_ARGUMENT, Kind::Rejected, UNREADABLE, NONE, NO, "A rule of `routes[].body_fields` names the request, and its body is no JSON, has a member twice, or lacks a declared field; the answer says which"),
    row(BodiesFull, "bodies_full", 503, UNAVAILABLE, Kind::Error, NOT_NOW, AGAIN, SOON, "Bodies that are read before a decision fill the 64 MiB that there are for all of them"),
    row(Method, "method_not_allowed", 405, UNIMPLEMENTED, Kind::Rejected, "This method is not allowed", NONE, NO, "No route, or no endpoint of ours, takes this method"),
    row(UnknownHost, "unknown_host", 421, UNIMPLEMENTED, Kind::Rejected, NOTHING, NONE, NO, "No route has this host; compare `routes[].host`"),
    row(Misdirected, "misdirected", 421, UNIMPLEMENTED, Kind::Rejected, "This connection is for another host", NONE, NO, "The certificate of this connection is not for this host"),
    row(NotFound, "not_found", 404, UNIMPLEMENTED, Kind::Rejected, NOTHING, &[Act::Home], NO, "No route of this host has this path, or there is no such endpoint of ours"),
    row(UntrustedPeer, "untrusted_peer", 403, PERMISSION_DENIED, Kind::Rejected, "Come by the front door", NONE, NO, "The peer is not in `trusted_proxies`, or did not say that the client came by https"),
    row(NoSession, "no_session", 401, UNAUTHENTICATED, Kind::Unauthorized, "Sign in to go on", &[Act::SignIn], NO, "Nobody is signed in, or the session has ended"),
    row(InvalidToken, "invalid_token", 401, UNAUTHENTICATED, Kind::Unauthorized, "This token is not accepted", NONE, NO, "A token of an issuer of the route that fails a check, or a credential of nobody known; the trail says which check, and `vestibule token explain` says it too"),
    row(TwoTokens, "two_tokens", 400, INVALID_ARGUMENT, Kind::Rejected, "There are two tokens in this request", NONE, NO, "More than one of `Authorization` and `routes[].token_header` has a token, or that header is there twice"),
    row(InsufficientAuthentication, "insufficient_user_authentication", 401, UNAUTHENTICATED, Kind::Unauthorized, "Sign in again to go on", &[Act::SignIn], NO, "Signed in, but not as strongly or as recently as `routes[].step_up` asks for (RFC 9470)"),
    row(NotPermitted, "not_permitted", 403, PERMISSION_DENIED, Kind::Blocked, "You may not go here", &[Act::CheckAgain, Act::SwitchAccount, Act::SignOut], NO, "No policy permits it, or one forbids it; the answer has the authors' words"),
    row(WrongProvider, "wrong_provider", 403, PERMISSION_DENIED, Kind::Blocked, "Another account is needed", &[Act::SwitchAccount, Act::SignOut], NO, "Signed in with a provider that `routes[].providers` does not list"),
    row(PersonInactive, "person_inactive", 403, PERMISSION_DENIED, Kind::Blocked, "Your account is not active any more", NONE, NO, "The person behind a job or token is blocked, deactivated or gone at the provider, whatever the token says"),
    row(Locked, "locked", 403, PERMISSION_DENIED, Kind::Blocked, "Your access is locked", &[Act::SwitchAccount, Act::SignOut], NO, "A lock of the operators keeps this person, their provider or a group of theirs out (`vestibule sessions locks`); the answer says why and until when"),
    row(CrossSite, "cross_site", 403, PERMISSION_DENIED, Kind::Blocked, "This did not come from a page of this site", &[Act::Home], NO, "A page of another origin would act with the person's session; list it under `cors` or `origins` if it may"),
    row(RateLimited, "rate_limited", 429, RESOURCE_EXHAUSTED, Kind::Rejected, "That was too much at once", AGAIN, AS_TOLD, "Somebody asks for more than `routes[].limits` allows them; the answer says whose limit it is and when there is more"),
    row(MembershipUnknown, "membership_unknown", 503, UNAVAILABLE, Kind::Blocked, "Your groups cannot be looked up", AGAIN, SOON, "The provider does not say which groups the person is in, and a policy asks"),
    row(PolicyError, "policy_error", 403, PERMISSION_DENIED, Kind::Error, "A policy could not be evaluated", &[Act::CheckAgain, Act::SwitchAccount], NO, "An error while a policy was evaluated; it never permits. The log has it"),
    row(SignInState, "sign_in_state", 400, UNAUTHENTICATED, Kind::Unauthorized, "This sign-in is over", &[Act::StartAgain], NO, "A callback that is too old, was used, or was begun in another browser"),
    row(SignInLoop, "sign_in_loop", 400, UNAUTHENTICATED, Kind::Unauthorized, "Signing in goes round in circles", &[Act::StartAgain], NO, "Three sign-ins within a minute, and still no session; the page says why, as far as can be proved"),
    row(SignInRefused, "sign_in_refused", 403, PERMISSION_DENIED, Kind::Unauthorized, "The sign-in was refused", &[Act::StartAgain, Act::SwitchAccount], NO, "The provider answered with an error, which is shown; or the account is of no tenant or domain that is let in"),
    row(SignInInvalid, "sign_in_invalid", 400, UNAUTHENTICATED, Kind::Unauthorized, "The sign-in did not succeed", &[Act::StartAgain], NO, "The provider's ID token or answer is not acceptable; the log says which check failed"),
    row(StepUpFailed, "step_up_failed", 403, UNAUTHENTICATED, Kind::Unauthorized, "The sign-in is not what this page asks for", &[Act::StartAgain, Act::Home], NO, "The provider signed the person in, and not as `routes[].step_up` asks for; the log says what is missing"),
    row(ProviderUnavailable, "provider_unavailable", 503, UNAVAILABLE, Kind::Error, "The sign-in provider does not answer", AGAIN, SOON, "The provider cannot be reached, or is not discovered yet"),
    row(StoreUnavailable, "store_unavailable", 503, UNAVAILABLE, Kind::Error, NOT_NOW, AGAIN, SOON, "The session store cannot be read or written"),
    row(AuditUnavailable, "audit_unavailable", 503, UNAVAILABLE, Kind::Error, NOT_NOW, AGAIN, SOON, "The decision cannot be recorded, and `audit.mode` is `required`"),
    row(Overloaded, "overloaded", 503, UNAVAILABLE, Kind::Error, NOT_NOW, AGAIN, SOON, "A bound on work in hand is reached"),
    row(ShuttingDown, "shutting_down", 503, UNAVAILABLE, Kind::Error, NOT_NOW, AGAIN, SOON, "This process stops, and a stream that was open has had its time"),
    row(UpstreamFailed, "upstream_failed", 502, UNAVAILABLE, Kind::Error, NO_ANSWER, AGAIN, NO, "The upstream refused the connection, or broke the protocol"),
    row(UpstreamTimeout, "upstream_timeout", 504, DEADLINE_EXCEEDED, Kind::Error, NO_ANSWER, AGAIN, NO, "The upstream was late; compare `routes[].timeouts`"),
    row(ClientTimeout, "client_timeout", 408, DEADLINE_EXCEEDED, Kind::Error, "Your request came too slowly", NONE, NO, "The client was late with its head or its body"),
    row(Internal, "internal", 500, INTERNAL, Kind::Error, "Something went wrong here", NONE, NO, "A fault of ours; the log has it under the request's id"),
];

#[allow(clippy::too_many_arguments, reason = "a table's columns")]
const fn row(
    reason: Reason,
    code: &'static str,
    status: u16,
    grpc: u8,
    kind: Kind,
    title: &'static str,
    acts: &'static [Act],
    retry_after: Option<u16>,
    meaning: &'static str,
) -> Row {
    Row { reason, code, status, grpc, kind, title, acts, retry_after, meaning }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Refusal;
    use std::collections::BTreeSet;

    /// A reason finds its row by its place.
    #[test]
    fn every_reason_has_its_row() {
        for (place, row) in TABLE.iter().enumerate() {
            assert_eq!(row.reason as usize, place, "{}", row.code);
            assert_eq!(row.reason.code(), row.code);
            assert_eq!(row.reason.status().as_u16(), row.status, "{}", row.code);
            assert!(Refusal::new(row.reason, "x").reason.status().as_u16() >= 400);
        }
    }

    #[test]
    fn codes_are_unique_and_in_snake_case() {
        let codes: BTreeSet<_> = TABLE.iter().map(|row| row.code).collect();
        assert_eq!(codes.len(), TABLE.len());
        assert!(codes.iter().all(|code| code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }

    /// P57: whoever is known is never asked to sign in; only who is not gets 401.
    #[test]
    fn p57_only_who_is_not_known_is_told_to_sign_in() {
        for row in &TABLE {
            let is_token = row.reason == Reason::InvalidToken; // of a caller whom no sign-in helps
            assert_eq!(row.status == 401 && !is_token, row.acts.contains(&Act::SignIn), "{}", row.code);
        }
    }

    /// Waiting helps exactly where something is unavailable for a while (RFC 9110, section 15.6.4; RFC 6585, section 4).
    #[test]
    fn p57_what_is_unavailable_says_when_to_come_back() {
        for row in &TABLE {
            assert_eq!(matches!(row.status, 429 | 503), row.retry_after.is_some(), "{}", row.code);
        }
    }

    /// The page of the documentation has every row, word for word, and no other.
    #[test]
    fn the_documentation_has_every_row() {
        let page = include_str!("../../docs/refusals.md");
        let listed: Vec<_> =
            page.lines().filter(|line| line.starts_with("| `")).filter(|line| line.ends_with(" |")).collect();
        let rows: Vec<_> = TABLE
            .iter()
            .map(|row| {
                let Row { code, status, grpc, title, meaning, .. } = row;
                let again = row.retry_after.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds} s"));
                format!("| `{code}` | {status} | {grpc} | {again} | {title} | {meaning} |")
            })
            .collect();
        let of_codes: Vec<_> =
            listed.iter().filter(|line| line.matches(" | ").count() == 5).map(|line| (*line).to_owned()).collect();
        assert_eq!(of_codes, rows);
    }
}
