//! The token and revocation endpoints (RFC 6749, sections 4.1.3 and 6; RFC 7009).

use super::{Asked, Provider, State, authorize::Code, random, seconds};
use crate::{
    body::Body,
    demo::server::{Fields, json},
};
use aws_lc_rs::{constant_time, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::json;
use std::time::{Duration, SystemTime};

const ACCESS_LIFE: Duration = Duration::from_secs(2 * 60 * 60);

/// What a person granted, by one sign-in.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) person: u32,
    pub(super) scope: String,
    pub(super) auth_time: SystemTime,
}

/// A live access token.
pub(super) struct Access {
    pub(super) grant: Grant,
    pub(super) expires: SystemTime,
}

/// A live refresh token, and the access token that dies with it.
pub(super) struct Refresh {
    grant: Grant,
    access: String,
}

/// `error` and `error_description` of RFC 6749, section 5.2.
struct TokenRefusal(&'static str, &'static str);

impl Provider {
    /// Redeems a code or a refresh token.
    pub(super) fn token(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        self.redeem(asked, now).unwrap_or_else(TokenRefusal::answer)
    }

    fn redeem(&self, asked: &Asked, now: SystemTime) -> Result<Response<Body>, TokenRefusal> {
        let form = asked.form();
        self.authenticate(asked, &form)?;
        let mut state = self.state();
        let (grant, nonce) = match form.get("grant_type") {
            Some("authorization_code") => state.redeem_code(&form, now)?,
            Some("refresh_token") => (state.redeem_refresh(&form)?, None),
            _ => return Err(TokenRefusal("unsupported_grant_type", "expected authorization_code or refresh_token")),
        };
        self.issue(&mut state, grant, nonce, now)
    }

    /// Gives a new pair of tokens and an ID token. After a refresh the ID token has no nonce, as at GitLab.
    fn issue(
        &self,
        state: &mut State,
        grant: Grant,
        nonce: Option<String>,
        now: SystemTime,
    ) -> Result<Response<Body>, TokenRefusal> {
        let person = state.people.active(grant.person).ok_or(OVER)?;
        let claims = self.id_claims(person, &grant, nonce, now);
        let id_token =
            self.key.sign(&claims).map_err(|_| TokenRefusal("server_error", "the ID token cannot be signed"))?;
        let (access, refresh) = (random(), random());
        let answer = json!({
            "access_token": access, "token_type": "Bearer", "expires_in": ACCESS_LIFE.as_secs(), "refresh_token": refresh,
            "scope": grant.scope, "created_at": seconds(now), "id_token": id_token,
        });
        state.access.retain(|_, access| access.expires > now);
        state.access.insert(access.clone(), Access { grant: grant.clone(), expires: now + ACCESS_LIFE });
        state.refresh.insert(refresh, Refresh { grant, access });
        Ok(json(StatusCode::OK, &answer))
    }

    /// Forgets a token. A token that is not known is forgotten already.
    pub(super) fn revoke(&self, asked: &Asked) -> Response<Body> {
        let form = asked.form();
        if let Err(refusal) = self.authenticate(asked, &form) {
            return refusal.answer();
        }
        let mut state = self.state();
        let token = form.get("token").unwrap_or_default();
        if let Some(refresh) = state.refresh.remove(token) {
            state.access.remove(&refresh.access);
        }
        state.access.remove(token);
        json(StatusCode::OK, &json!({}))
    }

    /// The client proves itself by `client_secret_basic` or `client_secret_post`, never by both.
    fn authenticate(&self, asked: &Asked, form: &Fields) -> Result<(), TokenRefusal> {
        if form.repeated().is_some() {
            return Err(TokenRefusal("invalid_request", "a parameter occurs more than once"));
        }
        let basic = asked.header("authorization").and_then(basic);
        let post = form.get("client_id").zip(form.get("client_secret"));
        let (id, secret) = match (basic, post) {
            (Some(basic), None) => basic,
            (None, Some((id, secret))) => (id.to_owned(), secret.to_owned()),
            _ => return Err(NOT_A_CLIENT),
        };
        let same = constant_time::verify_slices_are_equal(secret.as_bytes(), self.client.secret.as_bytes()).is_ok();
        if id == self.client.id && same { Ok(()) } else { Err(NOT_A_CLIENT) }
    }
}

const NOT_A_CLIENT: TokenRefusal = TokenRefusal("invalid_client", "client authentication failed");
const OVER: TokenRefusal =
    TokenRefusal("invalid_grant", "the grant is invalid, expired, used, revoked, or was issued to another client");

impl State {
    /// Takes the code out first: whatever is wrong with the rest of the request, it is never good again.
    fn redeem_code(&mut self, form: &Fields, now: SystemTime) -> Result<(Grant, Option<String>), TokenRefusal> {
        let code: Code = form.get("code").and_then(|code| self.codes.remove(code)).ok_or(OVER)?;
        let verifier = form.get("code_verifier").ok_or(OVER)?;
        let hash = digest::digest(&digest::SHA256, verifier.as_bytes());
        let proves = URL_SAFE_NO_PAD.encode(hash) == code.challenge && verifier.len() >= 43;
        if !proves || code.expires <= now || form.get("redirect_uri") != Some(&code.redirect_uri) {
            return Err(OVER);
        }
        let grant = Grant { person: code.person, scope: code.scope, auth_time: code.auth_time };
        Ok((grant, Some(code.nonce)))
    }

    /// Both old tokens die at once, without grace; a second use finds nothing.
    fn redeem_refresh(&mut self, form: &Fields) -> Result<Grant, TokenRefusal> {
        let refresh = form.get("refresh_token").and_then(|token| self.refresh.remove(token)).ok_or(OVER)?;
        self.access.remove(&refresh.access);
        Ok(refresh.grant)
    }
}

impl TokenRefusal {
    fn answer(self) -> Response<Body> {
        let Self(error, description) = self;
        let client = error == "invalid_client";
        let status = if client { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = json(status, &json!({ "error": error, "error_description": description }));
        if client {
            let challenge = HeaderValue::from_static("Basic realm=\"demo GitLab\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Both halves are form-encoded before they are joined (RFC 6749, section 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, credentials) = header.split_once(' ')?;
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decoded = |half: &str| url::form_urlencoded::parse(half.as_bytes()).next().map(|(half, _)| half.into_owned());
    scheme.eq_ignore_ascii_case("basic").then_some((decoded(id)?, decoded(secret)?))
}
