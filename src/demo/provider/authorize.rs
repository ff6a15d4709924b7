//! The authorization endpoint (RFC 6749, section 4.1; RFC 7636; OpenID Connect Core 1.0, section 3.1.2).

use super::{Asked, BrowserSession, Provider, SCOPES, pages, random, with_cookie};
use crate::{
    body::Body,
    demo::server::{Fields, redirect},
};
use http::{Response, StatusCode};
use std::time::{Duration, SystemTime};
use url::Url;

/// How long a code may be redeemed.
pub(super) const CODE_LIFE: Duration = Duration::from_secs(60);

/// A code that nobody has redeemed yet.
pub(super) struct Code {
    pub(super) redirect_uri: String,
    pub(super) challenge: String,
    pub(super) nonce: String,
    pub(super) scope: String,
    pub(super) person: u32,
    pub(super) auth_time: SystemTime,
    pub(super) expires: SystemTime,
}

/// An authorization request that may be granted.
struct Wanted<'a> {
    redirect_uri: &'a str,
    nonce: &'a str,
    challenge: &'a str,
    scope: &'a str,
    prompt: Option<&'a str>,
    max_age: Option<Duration>,
}

/// An error that goes back to the client: `error` and `error_description`.
type ErrorResponse = (&'static str, &'static str);

impl Provider {
    /// Signs the browser in, or goes straight through if it is signed in already, and goes back with a code.
    pub(super) fn authorize(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let query = asked.query();
        if let Err(wrong) = self.known_client(&query) {
            return pages::wrong_request(wrong); // no redirect to an address that is not registered
        }
        let wanted = match Wanted::read(&query) {
            Ok(wanted) => wanted,
            Err((error, description)) => {
                return self.back(&query, &[("error", error), ("error_description", description)]);
            }
        };
        let mut state = self.state();
        if let Some(cookie) = query.get("login_hint").and_then(|login| state.begin_session(login, now)) {
            let again =
                format!("/oauth/authorize?{}", Fields::parse(query.without("login_hint").as_bytes()).without("prompt"));
            return with_cookie(redirect(StatusCode::FOUND, &again), &cookie);
        }
        let session = state.session(asked);
        let blocked = session.is_some_and(|session| state.people.active(session.person).is_none());
        match session.filter(|session| !blocked && wanted.accepts(*session, now)) {
            Some(session) => {
                let code = random();
                state.codes.retain(|_, code| code.expires > now);
                state.codes.insert(code.clone(), wanted.code(session, now));
                self.back(&query, &[("code", &code)])
            }
            None if wanted.prompt == Some("none") => {
                self.back(&query, &[("error", "login_required"), ("error_description", "nobody is signed in")])
            }
            None => pages::sign_in(state.people.all(), asked.head.uri.query().unwrap_or_default(), blocked),
        }
    }

    fn known_client(&self, query: &Fields) -> Result<(), &'static str> {
        if query.repeated().is_some() {
            return Err("a parameter occurs more than once");
        }
        if query.get("client_id") != Some(&self.client.id) {
            return Err("the client_id is not registered");
        }
        if query.get("redirect_uri") != Some(&self.client.redirect_uri) {
            return Err("the redirect_uri is not the registered one, byte for byte");
        }
        Ok(())
    }

    /// Back to the client, with its `state`. Like GitLab, without `iss`.
    fn back(&self, query: &Fields, answer: &[(&str, &str)]) -> Response<Body> {
        let mut to = Url::parse(&self.client.redirect_uri).expect("the demo registers a well-formed redirect_uri");
        to.query_pairs_mut().extend_pairs(answer);
        if let Some(state) = query.get("state") {
            to.query_pairs_mut().append_pair("state", state);
        }
        redirect(StatusCode::FOUND, to.as_str())
    }
}

impl<'a> Wanted<'a> {
    fn read(query: &'a Fields) -> Result<Self, ErrorResponse> {
        if query.get("response_type") != Some("code") {
            return Err(("unsupported_response_type", "response_type is not code"));
        }
        if query.get("response_mode").is_some_and(|mode| mode != "query") {
            return Err(("invalid_request", "response_mode is not query"));
        }
        let scope = query.get("scope").unwrap_or_default();
        if !scope.split(' ').any(|one| one == "openid") || scope.split(' ').any(|one| !SCOPES.contains(&one)) {
            return Err(("invalid_scope", "scope lacks openid, or has one that the application is not registered for"));
        }
        query.get("state").ok_or(("invalid_request", "state is missing"))?;
        let max_age = query.get("max_age").map(str::parse).transpose();
        Ok(Self {
            redirect_uri: query.get("redirect_uri").unwrap_or_default(),
            nonce: query.get("nonce").ok_or(("invalid_request", "nonce is missing"))?,
            challenge: challenge(query)?,
            scope,
            prompt: prompt(query)?,
            max_age: max_age
                .map_err(|_| ("invalid_request", "max_age is not a number of seconds"))?
                .map(Duration::from_secs),
        })
    }

    /// True if this browser session answers the request without asking the person again.
    fn accepts(&self, session: BrowserSession, now: SystemTime) -> bool {
        let age = now.duration_since(session.auth_time).unwrap_or(Duration::ZERO);
        matches!(self.prompt, None | Some("none" | "consent")) && self.max_age.is_none_or(|most| age <= most)
    }

    fn code(&self, session: BrowserSession, now: SystemTime) -> Code {
        Code {
            redirect_uri: self.redirect_uri.to_owned(),
            challenge: self.challenge.to_owned(),
            nonce: self.nonce.to_owned(),
            scope: self.scope.to_owned(),
            person: session.person,
            auth_time: session.auth_time,
            expires: now + CODE_LIFE,
        }
    }
}

fn challenge(query: &Fields) -> Result<&str, ErrorResponse> {
    if query.get("code_challenge_method") != Some("S256") {
        return Err(("invalid_request", "code_challenge_method is not S256: PKCE is required"));
    }
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let fits = |challenge: &&str| challenge.len() == 43 && challenge.bytes().all(letters);
    query
        .get("code_challenge")
        .filter(fits)
        .ok_or(("invalid_request", "code_challenge is not the base64url of a SHA-256"))
}

fn prompt(query: &Fields) -> Result<Option<&str>, ErrorResponse> {
    match query.get("prompt") {
        given @ (None | Some("none" | "login" | "select_account" | "consent")) => Ok(given),
        Some(_) => Err(("invalid_request", "prompt is not one of none, login, select_account, consent")),
    }
}
