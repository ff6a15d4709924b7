//! A GitLab-shaped OpenID provider for the demo. It signs anybody in as anybody: it never leaves loopback.
//!
//! It keeps to what GitLab does: no `end_session_endpoint`, no `iss` in the redirect, ID tokens of 120 s that have only
//! `groups_direct`, refresh tokens that rotate without grace, the same keys for sign-ins and for CI jobs. It is stricter in one
//! thing: PKCE with S256 is required.

use super::{
    people::{People, Person},
    server::{Asked, answer, json, redirect, text},
};
use crate::body::Body;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

mod admin;
mod authorize;
mod claims;
mod hooks;
mod jobs;
mod keys;
mod members;
mod pages;
mod token;

pub(super) use hooks::Hooks;

/// The cookie of the provider's own browser session.
const COOKIE: &str = "demo_gitlab_session";
const SCOPES: [&str; 5] = ["openid", "profile", "email", "read_user", "read_api"];

/// The one client that is registered.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: String,
    /// Compared byte for byte.
    pub(super) redirect_uri: String,
}

/// The provider.
pub(super) struct Provider {
    issuer: String,
    client: Client,
    service_token: String,
    hooks: Hooks,
    key: keys::SigningKey,
    state: Mutex<State>,
}

/// What changes while it runs.
struct State {
    people: People,
    sessions: HashMap<String, BrowserSession>,
    codes: HashMap<String, authorize::Code>,
    access: HashMap<String, token::Access>,
    refresh: HashMap<String, token::Refresh>,
    /// How many CI jobs there were.
    jobs: u32,
}

/// A browser that is signed in at the provider itself.
#[derive(Clone, Copy)]
struct BrowserSession {
    person: u32,
    auth_time: SystemTime,
}

impl Provider {
    /// A provider with the four people of the demo, which tells of their changes by `hooks`.
    ///
    /// # Errors
    /// No signing key can be made.
    pub(super) fn new(issuer: String, client: Client, service_token: String, hooks: Hooks) -> Result<Self, String> {
        let state = State {
            people: People::starter(),
            sessions: HashMap::new(),
            codes: HashMap::new(),
            access: HashMap::new(),
            refresh: HashMap::new(),
            jobs: 0,
        };
        let key = keys::SigningKey::generate()?;
        Ok(Self { issuer, client, service_token, hooks, key, state: Mutex::new(state) })
    }

    /// Answers one request. If it changed a person, hooks have told so by then, unless that takes too long.
    pub(super) async fn serve(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let before = self.state().people.clone();
        let response = self.answer(asked, now);
        let after = self.state().people.clone();
        self.hooks.tell(hooks::between(&before, &after, now)).await;
        response
    }

    fn answer(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        if let Some(refused) = self.refuse_strangers(asked) {
            return refused;
        }
        match asked.what() {
            (&Method::GET, "/.well-known/openid-configuration") => self.discovery(),
            (&Method::GET, "/oauth/discovery/keys") => json(StatusCode::OK, &self.key.published()),
            (&Method::GET, "/oauth/authorize") => self.authorize(asked, now),
            (&Method::POST, "/oauth/token") => self.token(asked, now),
            (&Method::POST, "/oauth/revoke") => self.revoke(asked),
            (&Method::GET | &Method::POST, "/oauth/userinfo") => self.userinfo(asked, now),
            (&Method::POST, "/users/sign_in") => self.sign_in(asked, now),
            (&Method::POST, "/users/sign_out") => self.sign_out(asked),
            (&Method::GET, "/") => self.home(asked),
            (&Method::GET, "/style.css") => {
                answer(StatusCode::OK, "text/css", include_str!("../../assets/demo/provider.css"))
            }
            (_, path) if path.starts_with("/api/v4/") => self.members(asked),
            (_, path) if path.starts_with("/demo/") => self.admin(asked, now),
            _ => text(StatusCode::NOT_FOUND, "the demo GitLab has no such page\n"),
        }
    }

    /// Another site in the same browser must not change people or sign them in: only our own pages and programs may.
    fn refuse_strangers(&self, asked: &Asked) -> Option<Response<Body>> {
        let ours = self.issuer.strip_prefix("http://").unwrap_or(&self.issuer);
        if asked.header("host").is_some_and(|host| host != ours) {
            return Some(text(StatusCode::MISDIRECTED_REQUEST, format!("the demo GitLab is at {}\n", self.issuer)));
        }
        let posted_elsewhere = asked.head.method == Method::POST
            && asked.head.headers.contains_key(header::ORIGIN)
            && asked.header("origin") != Some(&self.issuer);
        let cross_site =
            asked.head.uri.path().starts_with("/demo/") && asked.header("sec-fetch-site") == Some("cross-site");
        (posted_elsewhere || cross_site)
            .then(|| text(StatusCode::FORBIDDEN, "another site asked for this, so the demo GitLab does nothing\n"))
    }

    fn discovery(&self) -> Response<Body> {
        let at = |path: &str| format!("{}{path}", self.issuer);
        let document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": at("/oauth/authorize"),
            "token_endpoint": at("/oauth/token"),
            "revocation_endpoint": at("/oauth/revoke"),
            "userinfo_endpoint": at("/oauth/userinfo"),
            "jwks_uri": at("/oauth/discovery/keys"),
            "scopes_supported": SCOPES,
            "response_types_supported": ["code"],
            "response_modes_supported": ["query"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claim_types_supported": ["normal"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "name", "nickname", "preferred_username", "email",
                "email_verified", "profile", "groups", "groups_direct", "https://gitlab.org/claims/groups/owner",
                "https://gitlab.org/claims/groups/maintainer", "https://gitlab.org/claims/groups/developer"],
            "code_challenge_methods_supported": ["S256"],
        });
        json(StatusCode::OK, &document)
    }

    fn home(&self, asked: &Asked) -> Response<Body> {
        let state = self.state();
        let here = state.session(asked).and_then(|session| state.people.active(session.person));
        pages::home(state.people.all(), here)
    }

    /// The form on the sign-in page: begins a browser session and goes on to where it came from.
    fn sign_in(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let form = asked.form();
        let person = form.get("person").unwrap_or_default();
        let mut state = self.state();
        let Some(cookie) = state.begin_session(person, now) else {
            return text(StatusCode::FORBIDDEN, "there is no such person, or the person is blocked\n");
        };
        let to = match form.get("authorize") {
            // A `prompt` is answered by this very form; kept, it would ask for ever.
            Some(query) => {
                format!("/oauth/authorize?{}", super::server::Fields::parse(query.as_bytes()).without("prompt"))
            }
            None => "/".to_owned(),
        };
        with_cookie(redirect(StatusCode::SEE_OTHER, &to), &cookie)
    }

    fn sign_out(&self, asked: &Asked) -> Response<Body> {
        if let Some(cookie) = asked.cookie(COOKIE) {
            self.state().sessions.remove(cookie);
        }
        let gone = format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0");
        with_cookie(redirect(StatusCode::SEE_OTHER, "/"), &gone)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one statement, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn session(&self, asked: &Asked) -> Option<BrowserSession> {
        self.sessions.get(asked.cookie(COOKIE)?).copied()
    }

    /// Begins a browser session and returns its cookie; `None` if the person may not sign in.
    fn begin_session(&mut self, login: &str, now: SystemTime) -> Option<String> {
        let person: &Person = self.people.named(login).filter(|person| !person.blocked)?;
        let handle = random();
        self.sessions.insert(handle.clone(), BrowserSession { person: person.id, auth_time: now });
        Some(format!("{COOKIE}={handle}; Path=/; HttpOnly; SameSite=Lax"))
    }
}

fn with_cookie(mut response: Response<Body>, cookie: &str) -> Response<Body> {
    let cookie = HeaderValue::from_str(cookie).expect("our cookies are visible ASCII");
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response
}

/// 256 random bits in hex.
pub(super) fn random() -> String {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    crate::text::hex(&bytes)
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests;
