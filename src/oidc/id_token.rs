//! The rules for ID tokens.

use super::{
    CodeGrant,
    claims::{Claims, printable},
    jws,
    keys::KeySet,
};
use crate::config::{ProviderKind, ProviderSettings};
use openidconnect::{
    AccessToken, AccessTokenHash, ClaimsVerificationError, ClientId, IssuerUrl, Nonce, SignatureVerificationError,
    core::{CoreIdToken, CoreIdTokenVerifier, CoreJwsSigningAlgorithm},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock difference that is forgiven.
const LEEWAY: Duration = Duration::from_secs(60);
/// The oldest ID token that a sign-in accepts.
const OLDEST: Duration = Duration::from_secs(600);

const LONGEST_SUBJECT: usize = 255;

/// What one ID token has to fulfil beside the rules for all.
pub(super) struct Rules<'a> {
    pub(super) now: SystemTime,
    pub(super) nonce: NonceRule<'a>,
    /// The access token that came with it, for `at_hash`.
    pub(super) access: &'a AccessToken,
    /// The subject, where it is known already.
    pub(super) subject: Option<&'a str>,
}

/// The nonce that an ID token may carry.
pub(super) enum NonceRule<'a> {
    /// At sign-in: this one.
    Equal(&'a str),
    /// At a refresh: none, or the same as in the token before, where that had one.
    NoneOr(Option<String>),
}

impl<'a> Rules<'a> {
    /// The rules at sign-in.
    pub(super) fn sign_in(grant: &'a CodeGrant<'_>, access: &'a AccessToken, now: SystemTime) -> Self {
        Self { now, nonce: NonceRule::Equal(grant.nonce), access, subject: None }
    }

    /// The rules at a refresh of `subject`'s tokens, of which `before` was the last ID token.
    pub(super) fn refresh(
        before: Option<&SecretString>,
        subject: &'a str,
        access: &'a AccessToken,
        now: SystemTime,
    ) -> Self {
        let nonce = before
            .and_then(|token| jws::read(token.expose_secret()).ok())
            .and_then(|token| Some(token.claims.get("nonce")?.as_str()?.to_owned()));
        Self { now, nonce: NonceRule::NoneOr(nonce), access, subject: Some(subject) }
    }
}

/// Why an ID token was not accepted.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    /// No key of the set made this signature; newer keys may have.
    #[error("ID token: {0}")]
    Key(String),
    /// It breaks a rule, whatever the keys.
    #[error("ID token: {0}")]
    Rule(String),
}

fn rule(cause: impl Into<String>) -> TokenError {
    TokenError::Rule(cause.into())
}

/// Verifies an ID token with the keys of `set` and returns its claims.
///
/// `exp`, `nbf` and `iat` are compared with the rules' `now`, allowing 60 s of clock difference.
///
/// # Errors
/// [`TokenError::Key`] if newer keys may help, else [`TokenError::Rule`].
///
/// Source: OpenID Connect Core 1.0, sections 3.1.3.7 and 12.2.
pub(super) fn verify(
    settings: &ProviderSettings,
    token: &str,
    set: &KeySet,
    rules: &Rules<'_>,
) -> Result<Claims, TokenError> {
    let claims = jws::read(token).map_err(|cause| rule(cause.to_string()))?.claims;
    check_signature(settings, token, set, rules)?;
    check_parties(settings, &claims, rules)?;
    check_times(&claims, rules)?;
    if settings.kind == ProviderKind::Gitlab {
        check_gitlab(&claims)?;
    }
    Ok(claims)
}

/// Signature, algorithm, `iss`, `aud`, `exp`, `nonce` and `at_hash`, by the crate.
fn check_signature(
    settings: &ProviderSettings,
    token: &str,
    set: &KeySet,
    rules: &Rules<'_>,
) -> Result<(), TokenError> {
    let token: CoreIdToken =
        token.parse().map_err(|_| rule("its claims are not of the types that OpenID Connect says"))?;
    let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(|_| rule("the configured issuer is no URL"))?;
    let latest = rules.now.checked_sub(LEEWAY).unwrap_or(UNIX_EPOCH);
    let verifier =
        CoreIdTokenVerifier::new_public_client(ClientId::new(settings.client_id.clone()), issuer, set.usable.clone())
            .set_allowed_algs(ALLOWED)
            .set_time_fn(move || latest.into());
    token.claims(&verifier, |found: Option<&Nonce>| check_nonce(&rules.nonce, found)).map_err(explain)?;
    check_access_hash(&token, &verifier, rules.access)
}

const ALLOWED: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

fn check_nonce(expected: &NonceRule<'_>, found: Option<&Nonce>) -> Result<(), String> {
    let found = found.map(|nonce| nonce.secret().as_bytes());
    let is_same = |expected: &str, found: &[u8]| {
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), found).is_ok()
    };
    match (expected, found) {
        (NonceRule::Equal(expected), Some(found)) if is_same(expected, found) => Ok(()),
        (NonceRule::Equal(_), Some(_)) => Err("its nonce is not the one we sent".to_owned()),
        (NonceRule::Equal(_), None) => Err("it has no nonce".to_owned()),
        (NonceRule::NoneOr(Some(before)), Some(found)) if !is_same(before, found) => {
            Err("its nonce is not the one of the sign-in".to_owned())
        }
        (NonceRule::NoneOr(_), _) => Ok(()),
    }
}

fn check_access_hash(
    token: &CoreIdToken,
    verifier: &CoreIdTokenVerifier<'_>,
    access: &AccessToken,
) -> Result<(), TokenError> {
    let unusable = |_| rule("its `at_hash` cannot be computed");
    let claims = token.claims(verifier, |_: Option<&Nonce>| Ok(())).map_err(explain)?;
    let Some(found) = claims.access_token_hash() else { return Ok(()) };
    let algorithm = token.signing_alg().map_err(unusable)?;
    let key = token.signing_key(verifier).map_err(unusable)?;
    match AccessTokenHash::from_token(access, algorithm, key) {
        Ok(expected) if expected == *found => Ok(()),
        Ok(_) => Err(rule("its `at_hash` is not of the access token that came with it")),
        Err(_) => Err(rule("its `at_hash` cannot be computed")),
    }
}

/// The crate's errors in our words. It checks `iss` and `aud` before the signature.
fn explain(error: ClaimsVerificationError) -> TokenError {
    use SignatureVerificationError as Signature;
    let cause = match error {
        ClaimsVerificationError::SignatureVerification(Signature::NoMatchingKey) => {
            return TokenError::Key("no key of the provider has its `kid` and algorithm".to_owned());
        }
        ClaimsVerificationError::SignatureVerification(Signature::CryptoError(_)) => {
            return TokenError::Key("its signature is wrong".to_owned());
        }
        ClaimsVerificationError::SignatureVerification(Signature::AmbiguousKeyId(_)) => {
            return TokenError::Key("several keys of the provider fit it".to_owned());
        }
        ClaimsVerificationError::SignatureVerification(Signature::InvalidKey(_)) => {
            return TokenError::Key("the key that it names is unusable".to_owned());
        }
        ClaimsVerificationError::SignatureVerification(other) => other.to_string(),
        ClaimsVerificationError::Expired(_) => "it is expired (60 s of clock difference are allowed)".to_owned(),
        ClaimsVerificationError::InvalidNonce(cause) => cause,
        ClaimsVerificationError::InvalidAudience(cause) => format!("its audience: {cause}"),
        ClaimsVerificationError::InvalidIssuer(cause) => format!("its issuer: {cause}"),
        other => other.to_string(),
    };
    rule(printable(&cause, 300))
}

/// `sub` and `azp`, which the crate leaves to us.
fn check_parties(settings: &ProviderSettings, claims: &Claims, rules: &Rules<'_>) -> Result<(), TokenError> {
    let subject = subject(claims);
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !subject.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    {
        return Err(rule("its `sub` is not 1 to 255 printable ASCII characters"));
    }
    if rules.subject.is_some_and(|expected| expected != subject) {
        return Err(rule("its `sub` is another person's"));
    }
    match claims.get("azp") {
        None => Ok(()),
        Some(Value::String(party)) if *party == settings.client_id => Ok(()),
        Some(_) => Err(rule(format!("its `azp` is not `{}`", settings.client_id))),
    }
}

/// `iat` and `nbf`, which the crate does not compare.
fn check_times(claims: &Claims, rules: &Rules<'_>) -> Result<(), TokenError> {
    let soon = rules.now + LEEWAY;
    let issued = time(claims, "iat")?.ok_or_else(|| rule("it has no `iat`"))?;
    if issued > soon {
        return Err(rule("its `iat` is in the future (60 s of clock difference are allowed)"));
    }
    if time(claims, "nbf")?.is_some_and(|begin| begin > soon) {
        return Err(rule("its `nbf` is in the future (60 s of clock difference are allowed)"));
    }
    let is_sign_in = matches!(rules.nonce, NonceRule::Equal(_));
    let age = rules.now.duration_since(issued).unwrap_or_default();
    if is_sign_in && age > OLDEST + LEEWAY {
        return Err(rule(format!("it was issued {} s ago, {} s are allowed", age.as_secs(), OLDEST.as_secs())));
    }
    Ok(())
}

/// A `NumericDate` claim (RFC 7519, section 2), to the second.
pub(super) fn time(claims: &Claims, claim: &str) -> Result<Option<SystemTime>, TokenError> {
    let value = match claims.get(claim) {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => value,
    };
    let seconds = value.as_u64().or_else(|| value.as_f64().filter(|n| (0.0..1e12).contains(n)).map(|n| n as u64));
    match seconds.filter(|seconds| *seconds < 1_000_000_000_000) {
        Some(seconds) => Ok(Some(UNIX_EPOCH + Duration::from_secs(seconds))),
        None => Err(rule(format!("its `{claim}` is no time"))),
    }
}

/// GitLab signs CI job tokens with the same keys under the same issuer, and a job's author chooses the audience. A
/// person's subject is their numeric id; a job's claims never appear in a person's token.
fn check_gitlab(claims: &Claims) -> Result<(), TokenError> {
    if !subject(claims).bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(rule("its `sub` is not the number of a GitLab user"));
    }
    let job = ["job_id", "pipeline_id", "project_path", "job_project_path"];
    match job.into_iter().find(|claim| claims.contains_key(*claim)) {
        None => Ok(()),
        Some(claim) => Err(rule(format!("it has `{claim}`, so it is a CI job's and no person's"))),
    }
}

/// `sub`, or nothing.
pub(super) fn subject(claims: &Claims) -> &str {
    claims.get("sub").and_then(Value::as_str).unwrap_or_default()
}
