//! The rules for ID tokens.

use super::{
    CodeGrant,
    claims::{Claims, printable},
    jws,
    keys::KeySet,
    signature,
};
use crate::{
    config::{ProviderKind, ProviderSettings},
    guid::Guid,
};
use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use openidconnect::AccessToken;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The clock difference that is forgiven.
const LEEWAY: Duration = Duration::from_secs(60);
/// The oldest ID token that a sign-in accepts.
const OLDEST: Duration = Duration::from_secs(600);
/// The longest ID token, in bytes: it comes from the provider itself, and may list ten thousand groups.
pub(super) const LONGEST: usize = 2 << 20;

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
            .and_then(|token| jws::read(token.expose_secret(), LONGEST).ok())
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
    /// It is good, and of somebody whom the configuration does not let in.
    #[error("ID token: {cause}")]
    Outsider {
        /// For the operator.
        cause: String,
        /// For the person.
        sentence: String,
    },
}

fn rule(cause: impl Into<String>) -> TokenError {
    TokenError::Rule(cause.into())
}

/// Verifies an ID token with the keys of `set` and returns its claims.
///
/// `exp`, `nbf` and `iat` are compared with the rules' `now`, allowing 60 s of clock difference.
///
/// # Errors
/// [`TokenError::Key`] if newer keys may help, [`TokenError::Outsider`] if it is good and its person may not come in, else
/// [`TokenError::Rule`].
///
/// Source: OpenID Connect Core 1.0, sections 3.1.3.7 and 12.2.
pub(super) fn verify(
    settings: &ProviderSettings,
    token: &str,
    set: &KeySet,
    rules: &Rules<'_>,
) -> Result<Claims, TokenError> {
    let unverified = jws::read(token, LONGEST).map_err(|cause| rule(cause.to_string()))?;
    let key = signature::check(token, &unverified, set)?;
    check_type(&unverified.header)?;
    let algorithm = unverified.header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let claims = &unverified.claims;
    check_issuer(settings, claims, key)?;
    check_audience(settings, claims)?;
    check_times(claims, rules)?;
    check_nonce(&rules.nonce, given(claims, "nonce"))?;
    check_access_hash(claims, algorithm, rules.access)?;
    check_subject(settings, claims, rules)?;
    match settings.kind {
        ProviderKind::Gitlab => check_gitlab(claims)?,
        ProviderKind::Entra => check_tenant(settings, claims)?,
        ProviderKind::Google => check_hosted_domain(settings, claims, rules)?,
        ProviderKind::Okta | ProviderKind::Keycloak | ProviderKind::Oidc => {}
    }
    Ok(unverified.claims)
}

/// A `typ` of its own says that a token is of another kind, whoever signed it (RFC 8725, section 3.11).
fn check_type(header: &Claims) -> Result<(), TokenError> {
    match header.get("typ") {
        None => Ok(()),
        Some(Value::String(typ)) if typ.eq_ignore_ascii_case("JWT") => Ok(()),
        Some(Value::String(typ)) => Err(rule(format!("its `typ` is `{}`, expected `JWT`", printable(typ, 64)))),
        Some(_) => Err(rule("its `typ` is no string")),
    }
}

/// `iss` is the provider's, byte for byte.
///
/// At Entra the issuer of people of many tenants is a template, which `tid` completes; a key may be for one issuer only, and
/// then says so. Google leaves out the scheme at times.
fn check_issuer(settings: &ProviderSettings, claims: &Claims, key: &Value) -> Result<(), TokenError> {
    let found = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
    let other = |expected: &str| Err(rule(format!("its issuer is `{}`, expected `{expected}`", printable(found, 200))));
    if settings.kind != ProviderKind::Entra {
        let bare = settings.issuer.split_once("://").map(|(_, bare)| bare);
        let is_bare = settings.kind == ProviderKind::Google && bare == Some(found);
        return if found == settings.issuer || is_bare { Ok(()) } else { other(&settings.issuer) };
    }
    let tenant = guid(claims, "tid")?;
    let expected = settings.issuer_of(&tenant);
    if found != expected {
        return other(&expected);
    }
    match key.get("issuer") {
        None => Ok(()),
        Some(Value::String(template)) if template.replace("{tenantid}", tenant.as_str()) == found => Ok(()),
        Some(_) => Err(rule("its key is for another issuer")),
    }
}

/// We are its audience, and nobody else is: whoever else may hold it is nobody whom we trust.
fn check_audience(settings: &ProviderSettings, claims: &Claims) -> Result<(), TokenError> {
    let ours = |value: &Value| value.as_str() == Some(&settings.client_id);
    let only_ours = match claims.get("aud") {
        Some(Value::Array(several)) => !several.is_empty() && several.iter().all(ours),
        Some(one) => ours(one),
        None => false,
    };
    if !only_ours {
        return Err(rule(format!("its audience is not `{}` alone", settings.client_id)));
    }
    match claims.get("azp") {
        None => Ok(()),
        Some(party) if ours(party) => Ok(()),
        Some(_) => Err(rule(format!("its `azp` is not `{}`", settings.client_id))),
    }
}

fn check_nonce(expected: &NonceRule<'_>, found: Option<&Value>) -> Result<(), TokenError> {
    let is_same = |expected: &str, found: &Value| {
        let found = found.as_str().unwrap_or_default().as_bytes();
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_bytes(), found).is_ok()
    };
    match (expected, found) {
        (NonceRule::Equal(expected), Some(found)) if is_same(expected, found) => Ok(()),
        (NonceRule::Equal(_), Some(_)) => Err(rule("its nonce is not the one we sent")),
        (NonceRule::Equal(_), None) => Err(rule("it has no nonce")),
        (NonceRule::NoneOr(Some(before)), Some(found)) if !is_same(before, found) => {
            Err(rule("its nonce is not the one of the sign-in"))
        }
        (NonceRule::NoneOr(_), _) => Ok(()),
    }
}

/// `at_hash`, where there is one: the left half of the hash that goes with the token's algorithm.
///
/// Source: OpenID Connect Core 1.0, section 3.1.3.6.
fn check_access_hash(claims: &Claims, algorithm: &str, access: &AccessToken) -> Result<(), TokenError> {
    let Some(found) = given(claims, "at_hash") else { return Ok(()) };
    let hash = match algorithm {
        _ if algorithm.ends_with("256") => &SHA256,
        _ if algorithm.ends_with("384") => &SHA384,
        _ => &SHA512, // the 512s, and EdDSA by Ed25519
    };
    let hash = digest(hash, access.secret().as_bytes());
    let half = &hash.as_ref()[..hash.as_ref().len() / 2];
    if found.as_str() == Some(&*BASE64_URL_SAFE_NO_PAD.encode(half)) {
        Ok(())
    } else {
        Err(rule("its `at_hash` is not of the access token that came with it"))
    }
}

fn check_subject(settings: &ProviderSettings, claims: &Claims, rules: &Rules<'_>) -> Result<(), TokenError> {
    let subject = subject(claims);
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || !subject.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    {
        return Err(rule("its `sub` is not 1 to 255 printable ASCII characters"));
    }
    let person = person(settings, claims)?;
    if rules.subject.is_some_and(|expected| expected != person) {
        let claim = if settings.kind == ProviderKind::Entra { "oid" } else { "sub" };
        return Err(rule(format!("its `{claim}` is another person's")));
    }
    Ok(())
}

/// What a person is known by here: `sub`; at Entra, where every application sees another `sub`, tenant and object id.
///
/// # Errors
/// [`TokenError::Rule`] at Entra, if one of these is missing or no GUID.
pub(super) fn person(settings: &ProviderSettings, claims: &Claims) -> Result<String, TokenError> {
    match settings.kind {
        ProviderKind::Entra => tenant_and_object(claims),
        _ => Ok(subject(claims).to_owned()),
    }
}

/// What a person of Entra is known by.
pub(super) fn tenant_and_object(claims: &Claims) -> Result<String, TokenError> {
    Ok(format!("{}.{}", guid(claims, "tid")?, guid(claims, "oid")?))
}

fn guid(claims: &Claims, claim: &str) -> Result<Guid, TokenError> {
    match claims.get(claim) {
        None => Err(rule(format!("it has no `{claim}`, expected a GUID: the scope `profile` brings it"))),
        Some(value) => {
            value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| rule(format!("its `{claim}` is no GUID")))
        }
    }
}

/// Microsoft signs for everybody: whose people may come in is ours to say.
fn check_tenant(settings: &ProviderSettings, claims: &Claims) -> Result<(), TokenError> {
    let tenant = guid(claims, "tid")?;
    if settings.tenants.contains(&tenant) {
        return Ok(());
    }
    let cause = format!("its tenant `{tenant}` is not among `tenants`");
    Err(TokenError::Outsider {
        cause,
        sentence: "People of your organization's directory are not let in here.".to_owned(),
    })
}

/// Google signs for everybody too. A refreshed token that does not name the domain is of the person that the first one was of.
fn check_hosted_domain(settings: &ProviderSettings, claims: &Claims, rules: &Rules<'_>) -> Result<(), TokenError> {
    let domains = &settings.hosted_domains;
    let found = claims.get("hd").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let is_refresh = matches!(rules.nonce, NonceRule::NoneOr(_));
    let fits = match &found {
        Some(found) => domains.contains(found),
        None => is_refresh,
    };
    if domains.is_empty() || fits {
        return Ok(());
    }
    let (has, yours) = match found {
        Some(found) => {
            let found = printable(&found, 100);
            (format!("its `hd` is `{found}`"), format!("yours is of {found}"))
        }
        None => ("it has no `hd`".to_owned(), "yours is of none".to_owned()),
    };
    Err(TokenError::Outsider {
        cause: format!("{has}, expected one of `hosted_domains`: {}", domains.join(", ")),
        sentence: format!("Only accounts of {} are let in here, and {yours}.", domains.join(", ")),
    })
}

/// `exp`, `iat` and `nbf`.
fn check_times(claims: &Claims, rules: &Rules<'_>) -> Result<(), TokenError> {
    let soon = rules.now + LEEWAY;
    let end = time(claims, "exp")?.ok_or_else(|| rule("it has no `exp`"))?;
    if end + LEEWAY <= rules.now {
        return Err(rule("it is expired (60 s of clock difference are allowed)"));
    }
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

/// A claim, if it is there and not `null`, which some providers write for nothing.
fn given<'c>(claims: &'c Claims, claim: &str) -> Option<&'c Value> {
    claims.get(claim).filter(|value| !value.is_null())
}

/// `sub`, or nothing.
pub(super) fn subject(claims: &Claims) -> &str {
    claims.get("sub").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;
    use serde_json::json;

    const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

    fn settings(kind: ProviderKind, issuer: &str) -> ProviderSettings {
        let name = "idp".parse().expect("a name");
        ProviderSettings::new(name, kind, issuer, "client", SecretString::from("secret"))
    }

    fn claims(value: Value) -> Claims {
        value.as_object().expect("an object").clone()
    }

    /// The half of the hash that goes with each algorithm.
    #[test]
    fn an_access_token_is_bound_by_the_hash_of_its_algorithm() {
        let access = AccessToken::new("jHkWEdUXMU1BwAsC4vtUsZwnNVTvxEl0z9K3vx5KF0Y".to_owned());
        let (short, middle, long) = (
            "tVkl4jWQRWDlkYRXC7T50Q",
            "9-JnEctGZKLI7uKWrcajNitATUEZTp99",
            "toMRd7AQ7bhnrwZHkuC58i9QEKeh6YQNfsOhUKLkre0",
        );
        for (algorithm, hash) in [
            ("RS256", short),
            ("PS256", short),
            ("ES256", short),
            ("ES384", middle),
            ("RS384", middle),
            ("PS512", long),
            ("EdDSA", long),
        ] {
            let check = |hash: Value| check_access_hash(&claims(json!({"at_hash": hash})), algorithm, &access);
            assert!(check(json!(hash)).is_ok(), "{algorithm}");
            for other in [json!(""), json!(&hash[1..]), json!(format!("{hash}=")), json!(7)] {
                assert!(check(other.clone()).is_err(), "{algorithm} {other}");
            }
        }
        for none in [json!({}), json!({"at_hash": null})] {
            assert!(check_access_hash(&claims(none), "RS256", &access).is_ok());
        }
    }

    /// P71: an issuer for many is a template that `tid` completes; a key may be for one of them only.
    #[test]
    fn p71_an_issuer_is_that_of_the_tenant() {
        let many = settings(ProviderKind::Entra, "https://login.microsoftonline.com/organizations/v2.0");
        let one = settings(ProviderKind::Entra, &format!("https://login.microsoftonline.com/{TENANT}/v2.0"));
        let own = format!("https://login.microsoftonline.com/{TENANT}/v2.0");
        let other = "9188040d-6c67-4c5b-b112-36a304b66dad";
        let check = |settings: &ProviderSettings, iss: &str, tid: &str, key: Value| {
            check_issuer(settings, &claims(json!({"iss": iss, "tid": tid})), &key).is_ok()
        };
        for settings in [&many, &one] {
            assert!(check(settings, &own, TENANT, json!({})));
            assert!(check(
                settings,
                &own,
                TENANT,
                json!({"issuer": "https://login.microsoftonline.com/{tenantid}/v2.0"})
            ));
            assert!(check(settings, &own, TENANT, json!({"issuer": own})));
            assert!(!check(settings, &own, TENANT, json!({"issuer": own.replace(TENANT, other)})));
            assert!(!check(settings, &own, TENANT, json!({"issuer": 7})));
            assert!(!check(settings, &own.replace("/v2.0", "/v2.0/"), TENANT, json!({})));
            assert!(!check(settings, "https://login.microsoftonline.com/{tenantid}/v2.0", TENANT, json!({})));
            assert!(!check(settings, &format!("https://sts.windows.net/{TENANT}/"), TENANT, json!({})));
            assert!(!check(settings, "https://login.microsoftonline.com/x/v2.0", "x", json!({})), "no GUID");
        }
        assert!(
            check(&many, &own.replace(TENANT, other), other, json!({})),
            "whether it may come in is another question"
        );
        assert!(!check(&one, &own.replace(TENANT, other), other, json!({})));
        assert!(!check(&many, &own, other, json!({})), "its `tid` is not the one of its issuer");
        let one = ProviderSettings { tenants: vec![TENANT.parse().expect("a GUID")], ..one };
        assert!(check_tenant(&one, &claims(json!({"tid": TENANT.to_uppercase()}))).is_ok());
        assert!(
            check_tenant(&one, &claims(json!({"tid": other}))).is_err(),
            "nor may it differ where there is one only"
        );
    }

    /// Google leaves out the scheme at times; nobody else may.
    #[test]
    fn only_google_may_leave_out_the_scheme() {
        let check = |kind, iss: &str| {
            check_issuer(&settings(kind, "https://accounts.google.com"), &claims(json!({"iss": iss})), &json!({}))
                .is_ok()
        };
        for iss in ["https://accounts.google.com", "accounts.google.com"] {
            assert!(check(ProviderKind::Google, iss));
            assert_eq!(check(ProviderKind::Oidc, iss), iss.starts_with("https"));
        }
        for iss in
            ["http://accounts.google.com", "https://accounts.google.com/", "google.com", "", "//accounts.google.com"]
        {
            assert!(!check(ProviderKind::Google, iss), "{iss}");
        }
    }

    /// At a refresh a token that does not name the domain is of the person whose domain was checked; another domain never is.
    #[test]
    fn a_hosted_domain_is_there_at_sign_in_and_never_another() {
        let domains = vec!["example.com".to_owned()];
        let google = ProviderSettings {
            hosted_domains: domains,
            ..settings(ProviderKind::Google, "https://accounts.google.com")
        };
        let access = AccessToken::new("a".to_owned());
        let check = |nonce, value| {
            let rules = Rules { now: UNIX_EPOCH, nonce, access: &access, subject: None };
            check_hosted_domain(&google, &claims(value), &rules).is_ok()
        };
        for (value, at_sign_in, at_refresh) in [
            (json!({"hd": "example.com"}), true, true),
            (json!({"hd": "Example.COM"}), true, true),
            (json!({}), false, true),
            (json!({"hd": 7}), false, true),
            (json!({"hd": "evil.example.com"}), false, false),
            (json!({"hd": ""}), false, false),
        ] {
            assert_eq!(check(NonceRule::Equal("n"), value.clone()), at_sign_in, "{value}");
            assert_eq!(check(NonceRule::NoneOr(None), value.clone()), at_refresh, "{value}");
        }
    }
}
