//! The rules for logout tokens: what a provider says when it ends a session by itself.
//!
//! Source: OpenID Connect Back-Channel Logout 1.0, sections 2.4 and 2.6.

use super::{
    claims::Claims,
    id_token::{self, TokenError},
    jws,
    keys::KeySet,
    signature,
};
use crate::config::ProviderSettings;
use serde_json::Value;
use std::time::{Duration, SystemTime};

const LEEWAY: Duration = Duration::from_secs(60);
/// The oldest logout token that is acted on.
const OLDEST: Duration = Duration::from_secs(300);
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const LONGEST: usize = 255;

/// What a provider's logout token says: whose sessions are over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogoutToken {
    /// `sub`: the person.
    pub subject: Option<String>,
    /// `sid`: one session of theirs at the provider; without it all are meant.
    pub sid: Option<String>,
    /// `jti`, which is taken once.
    pub id: String,
    /// Until when the token could come again.
    pub until: SystemTime,
}

fn rule(cause: impl Into<String>) -> TokenError {
    TokenError::Rule(cause.into())
}

/// Verifies a logout token with the keys of `set`.
///
/// # Errors
/// [`TokenError::Key`] if newer keys may help, else [`TokenError::Rule`].
pub(super) fn verify(
    settings: &ProviderSettings,
    token: &str,
    set: &KeySet,
    now: SystemTime,
) -> Result<LogoutToken, TokenError> {
    let unverified = jws::read(token, jws::LONGEST).map_err(|cause| rule(cause.to_string()))?;
    signature::check(token, &unverified, set)?;
    let claims = &unverified.claims;
    check_type(&unverified.header)?;
    check_parties(settings, claims)?;
    check_event(claims)?;
    let until = check_times(claims, now)?;
    let (subject, sid) = (text(claims, "sub")?, text(claims, "sid")?);
    if subject.is_none() && sid.is_none() {
        return Err(rule("it has neither `sub` nor `sid`"));
    }
    let id = text(claims, "jti")?.ok_or_else(|| rule("it has no `jti`"))?;
    Ok(LogoutToken { subject, sid, id, until })
}

/// `typ` should be `logout+jwt`; providers of before say `JWT` or nothing. Any other is another kind of token.
fn check_type(header: &Claims) -> Result<(), TokenError> {
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) if ["logout+jwt", "JWT"].iter().any(|one| typ.eq_ignore_ascii_case(one)) => Ok(()),
        Some(_) => Err(rule("its `typ` is not `logout+jwt`")),
    }
}

fn check_parties(settings: &ProviderSettings, claims: &Claims) -> Result<(), TokenError> {
    if claims.get("iss").and_then(Value::as_str) != Some(&*settings.issuer) {
        return Err(rule("its `iss` is another issuer"));
    }
    let ours = |value: &Value| value.as_str() == Some(&*settings.client_id);
    let for_us = match claims.get("aud") {
        Some(Value::Array(several)) => several.iter().any(ours),
        Some(one) => ours(one),
        None => false,
    };
    if for_us { Ok(()) } else { Err(rule("its `aud` is another client")) }
}

/// It is about a sign-out, and it is no ID token, which may look alike.
fn check_event(claims: &Claims) -> Result<(), TokenError> {
    let event = claims.get("events").and_then(Value::as_object).and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(rule("its `events` has no sign-out"));
    }
    if claims.contains_key("nonce") {
        return Err(rule("it has a `nonce`, as ID tokens do"));
    }
    Ok(())
}

/// `iat` is there and recent, `exp` not over. Returns until when it could come again.
fn check_times(claims: &Claims, now: SystemTime) -> Result<SystemTime, TokenError> {
    let issued = id_token::time(claims, "iat")?.ok_or_else(|| rule("it has no `iat`"))?;
    if issued > now + LEEWAY {
        return Err(rule("its `iat` is in the future (60 s of clock difference are allowed)"));
    }
    let age = now.duration_since(issued).unwrap_or_default();
    if age > OLDEST + LEEWAY {
        return Err(rule(format!("it was issued {} s ago, {} s are allowed", age.as_secs(), OLDEST.as_secs())));
    }
    if id_token::time(claims, "exp")?.is_some_and(|end| end + LEEWAY < now) {
        return Err(rule("it is expired (60 s of clock difference are allowed)"));
    }
    Ok(issued + OLDEST + 2 * LEEWAY)
}

fn text(claims: &Claims, claim: &str) -> Result<Option<String>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) if (1..=LONGEST).contains(&text.len()) => Ok(Some(text.clone())),
        Some(_) => Err(rule(format!("its `{claim}` is no string of 1 to {LONGEST} bytes"))),
    }
}
