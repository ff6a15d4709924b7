//! The rules for tokens that callers come with, apart from ID tokens of sign-ins.

use super::{
    checks::Way,
    ci,
    claims::{self, Claimed, Claims, printable},
    id_token::{self, TokenError},
    jws::{self, Unverified},
};
use crate::{
    config::{JwtTokens, ProviderKind, TokenClaims, TokenIssuerSettings, TokenKind, TokenPrincipal},
    principal::{
        Bearer, Groups, Holder, Membership, MembershipSource, Person, Service, Strength, Unknown, UserId, Verified,
    },
};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The clock difference that is forgiven.
const LEEWAY: Duration = Duration::from_secs(60);

/// The `typ` of what we tell upstreams, which another Vestibule may accept.
pub(super) const ASSERTION: &str = "vestibule+jwt";

/// `iss` and `aud` of a token, by which it is seen whose it may be. Nothing is verified.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Whose {
    /// `iss`.
    pub issuer: String,
    /// `aud`, one or several.
    pub audiences: Vec<String>,
}

/// Reads whose token it claims to be; `None`: it is no JWT.
pub fn claimed(token: &str) -> Option<Whose> {
    let claims = jws::claims(token, jws::LONGEST)?;
    claims.get("iss")?.as_str()?;
    Some(whose(&claims))
}

/// The same of claims that are at hand; empty where they do not say.
pub(super) fn whose(claims: &Claims) -> Whose {
    let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default().to_owned();
    Whose { issuer, audiences: audiences(claims).map(str::to_owned).collect() }
}

/// A token without the scheme, which some write before it.
pub fn bare(text: &str) -> &str {
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => text,
    }
}

/// SHA-256 of a credential.
pub fn hash(token: &str) -> [u8; 32] {
    crate::text::sha256(token.as_bytes())
}

fn audiences(claims: &Claims) -> impl Iterator<Item = &str> {
    let one = claims.get("aud").and_then(Value::as_str);
    let several = claims.get("aud").and_then(Value::as_array);
    one.into_iter().chain(several.into_iter().flatten().filter_map(Value::as_str))
}

pub(super) fn check_algorithm(settings: &TokenIssuerSettings, header: &Claims) -> Result<(), String> {
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    if settings.algorithms.iter().any(|listed| listed == algorithm) {
        return Ok(());
    }
    Err(format!("its algorithm is `{algorithm}`, expected `{}`", settings.algorithms.join("`, `")))
}

pub(super) fn check_issuer(settings: &TokenIssuerSettings, found: &str) -> Result<(), String> {
    if settings.issuer.as_deref() == Some(found) {
        return Ok(());
    }
    let expected = settings.issuer.as_deref().unwrap_or_default();
    Err(format!("its `iss` is `{}`, expected `{expected}`", printable(found, 200)))
}

pub(super) fn check_audience(settings: &TokenIssuerSettings, claims: &Claims) -> Result<(), String> {
    if audiences(claims).any(|found| settings.audiences.iter().any(|ours| ours == found)) {
        return Ok(());
    }
    let found: Vec<_> = audiences(claims).take(5).map(|found| format!("`{}`", printable(found, 200))).collect();
    let found = if found.is_empty() { "nobody".to_owned() } else { found.join(", ") };
    Err(format!("it is for {found}, expected `{}`", settings.audiences.join("` or `")))
}

/// When it is over by its own word. `exp` and `iat` must be there: without the one it would be good for ever, without the other
/// nobody could say how old it is.
pub(super) fn check_time(claims: &Claims, now: SystemTime) -> Result<SystemTime, String> {
    let end = time(claims, "exp")?.ok_or("it has no `exp`")?;
    if end + LEEWAY <= now {
        return Err(format!("it ended {} s ago (60 s of clock difference are allowed)", seconds_since(end, now)));
    }
    if issued(claims)? > now + LEEWAY {
        return Err("its `iat` is in the future (60 s of clock difference are allowed)".to_owned());
    }
    if time(claims, "nbf")?.is_some_and(|begin| begin > now + LEEWAY) {
        return Err("its `nbf` is in the future (60 s of clock difference are allowed)".to_owned());
    }
    Ok(end + LEEWAY)
}

/// When it is too old, whatever it says itself.
pub(super) fn check_age(
    settings: &TokenIssuerSettings,
    claims: &Claims,
    now: SystemTime,
) -> Result<SystemTime, String> {
    let issued = issued(claims)?;
    let oldest = issued + settings.max_age + LEEWAY;
    if oldest <= now {
        let (age, most) = (seconds_since(issued, now), settings.max_age.as_secs());
        return Err(format!("it was issued {age} s ago, and `max_age` is {most} s: ask for a new one"));
    }
    Ok(oldest)
}

fn issued(claims: &Claims) -> Result<SystemTime, String> {
    time(claims, "iat")?.ok_or_else(|| "it has no `iat`".to_owned())
}

fn time(claims: &Claims, claim: &str) -> Result<Option<SystemTime>, String> {
    id_token::time(claims, claim).map_err(cause)
}

fn seconds_since(then: SystemTime, now: SystemTime) -> u64 {
    now.duration_since(then).unwrap_or_default().as_secs()
}

/// What is wrong, whatever could mend it.
pub(super) fn cause(error: TokenError) -> String {
    match error {
        TokenError::Rule(cause) | TokenError::Key(cause) | TokenError::Outsider { cause, .. } => cause,
    }
}

/// One issuer may sign tokens of several kinds: ID tokens of sign-ins, logout tokens and refresh tokens are no access tokens,
/// and CI jobs' tokens have their own kind here.
///
/// Source: RFC 8725, sections 3.11 and 3.12; RFC 9068, section 4.
pub(super) fn check_class(token: &Unverified, tokens: &JwtTokens) -> Result<(), String> {
    let media_type = token.header.get("typ").and_then(Value::as_str);
    let bare = media_type.map(|typ| typ.strip_prefix("application/").unwrap_or(typ));
    let is = |expected: &str| bare.is_some_and(|bare| bare.eq_ignore_ascii_case(expected));
    let shown = || media_type.map_or_else(|| "absent".to_owned(), |typ| format!("`{}`", printable(typ, 64)));
    match &tokens.media_type {
        Some(expected) if !is(expected) => return Err(format!("its `typ` is {}, expected `{expected}`", shown())),
        Some(_) => {}
        None if token.header.contains_key("typ") && !is("JWT") && !is("at+jwt") => {
            return Err(format!("its `typ` is {}, expected `JWT` or `at+jwt`", shown()));
        }
        None => {}
    }
    check_kind(&token.claims, is("at+jwt"))
}

/// An answer says what kind of token it is about, and may be about one that is none for access.
///
/// Source: RFC 7662, section 2.2; RFC 8725, section 3.12.
pub(super) fn check_answered(claims: &Claims) -> Result<(), String> {
    let kind = claims.get("token_type").and_then(Value::as_str);
    let is = |expected: &str| kind.is_none_or(|kind| kind.eq_ignore_ascii_case(expected));
    if !is("Bearer") && !is("access_token") {
        return Err(format!("its `token_type` is `{}`, expected `Bearer`", printable(kind.unwrap_or_default(), 64)));
    }
    check_kind(claims, false)
}

/// The same by what is in it: `is_access_token`: its `typ` says that it is one.
fn check_kind(claims: &Claims, is_access_token: bool) -> Result<(), String> {
    if ["job_id", "pipeline_id"].iter().all(|claim| claims.contains_key(*claim)) {
        return Err("it is a CI job's: that takes an issuer of kind `gitlab_ci`".to_owned());
    }
    if claims.get("cnf").is_some_and(|bound| !bound.is_null()) {
        return Err("it is bound to a key (`cnf`), and such a proof is not taken here".to_owned());
    }
    if claims.contains_key("events") {
        return Err("it has `events`, so it is a logout token or another security event".to_owned());
    }
    let said = claims.get("typ").and_then(Value::as_str); // Keycloak's
    if let Some(other) = said.filter(|said| *said != "Bearer") {
        return Err(format!("its claim `typ` is `{}`, expected `Bearer`", printable(other, 64)));
    }
    let sign_in = ["nonce", "at_hash", "c_hash"].into_iter().find(|claim| claims.contains_key(*claim));
    match sign_in.filter(|_| said.is_none() && !is_access_token) {
        Some(claim) => Err(format!("it has `{claim}`, so it is the ID token of a sign-in and no access token")),
        None => Ok(()),
    }
}

/// What is known of a token that passed all checks before this.
pub(super) struct Proof<'a> {
    pub(super) way: Way,
    pub(super) settings: &'a TokenIssuerSettings,
    pub(super) claims: &'a Claims,
    pub(super) hash: [u8; 32],
    pub(super) ends: SystemTime,
    pub(super) now: SystemTime,
}

impl Proof<'_> {
    /// What the token proves.
    ///
    /// # Errors
    /// What its claims lack.
    pub(super) fn bearer(&self) -> Result<Bearer, String> {
        let (holder, membership) = match &self.settings.kind {
            TokenKind::GitlabCi(ci) => {
                let job = match self.way {
                    Way::JobToken => ci::answered(self.settings, ci, self.claims)?,
                    Way::Signed | Way::Introspected => ci::job(self.settings, ci, self.claims)?,
                };
                (Holder::Job(Arc::new(job)), Membership::Unknown(Unknown::NeverRead))
            }
            TokenKind::Jwt(tokens) => {
                let ours = tokens.media_type.as_deref() == Some(ASSERTION);
                self.holder(tokens.principal, &tokens.claims, ours)?
            }
            TokenKind::Introspection(asked) => self.holder(asked.principal, &asked.claims, false)?,
            TokenKind::Certificate => return Err("a certificate is no token".to_owned()),
        };
        let jti = self.claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty() && jti.len() <= 1024);
        Ok(Bearer {
            issuer: self.settings.name.clone(),
            holder,
            membership,
            hash: self.hash,
            name: crate::text::hex(&self.hash[..8]).into(),
            ends: Some(self.ends),
            jti: jti.map(Into::into),
            token: None, // whoever verified it says by what
            by: Verified::default(),
        })
    }

    fn holder(
        &self,
        principal: TokenPrincipal,
        names: &TokenClaims,
        ours: bool,
    ) -> Result<(Holder, Membership), String> {
        let subject = self.subject(principal, names, ours)?;
        self.check_principal(principal, &subject)?;
        match principal {
            TokenPrincipal::User => {
                let person = self.person(&subject, names, ours);
                let auth_time = id_token::time(self.claims, "auth_time").ok().flatten();
                let strength = Strength { auth_time, ..claims::strength(self.claims) };
                let membership = self.membership(names, ours);
                Ok((Holder::Person(Arc::new(person), Arc::new(strength)), membership))
            }
            TokenPrincipal::Service => {
                let client = names.client_id.as_deref();
                let usual = ["client_id", "azp", "cid", "appid"];
                let client = client.map_or_else(|| usual.into_iter().find_map(|it| self.text(it)), |it| self.text(it));
                let service = Service {
                    id: UserId { provider: self.settings.name.clone(), subject: subject.as_str().into() },
                    issuer: self.settings.issuer.as_deref().unwrap_or_default().into(),
                    client_id: client.unwrap_or_else(|| subject.as_str().into()),
                    scopes: scopes(self.claims, names).into(),
                };
                Ok((Holder::Service(Arc::new(service)), self.membership(names, ours)))
            }
        }
    }

    /// A machine's token is nobody's, and a person's no machine's, as far as it can be told (RFC 9068, section 5).
    fn check_principal(&self, principal: TokenPrincipal, subject: &str) -> Result<(), String> {
        let text = |claim: &str| self.claims.get(claim).and_then(Value::as_str);
        let kind = text("idtyp"); // Entra's
        let is_client = ["client_id", "azp", "cid", "appid"].into_iter().any(|claim| text(claim) == Some(subject));
        let is_account = text("preferred_username").is_some_and(|login| login.starts_with("service-account-")); // Keycloak's
        match principal {
            TokenPrincipal::User if is_client || is_account || kind == Some("app") => {
                Err("it is a machine's, and `principal` is `user`".to_owned())
            }
            TokenPrincipal::Service if kind == Some("user") => {
                Err("it is a person's, and `principal` is `service`".to_owned())
            }
            TokenPrincipal::User | TokenPrincipal::Service => Ok(()),
        }
    }

    fn text(&self, claim: &str) -> Option<Arc<str>> {
        claims::text(self.claims, claim)
    }

    /// Who it is, for ever: the claim that is configured; at Entra, where nobody else has a `sub` that others know, tenant and
    /// object id; in an assertion of ours what stands behind the qualifiers.
    fn subject(&self, principal: TokenPrincipal, names: &TokenClaims, ours: bool) -> Result<String, String> {
        let is_entra = self.settings.provider_kind == Some(ProviderKind::Entra) && names.subject == "sub";
        if is_entra && principal == TokenPrincipal::User {
            return id_token::tenant_and_object(self.claims).map_err(cause);
        }
        let claim = &names.subject;
        let subject = self.claims.get(claim).and_then(Value::as_str).unwrap_or_default();
        if subject.is_empty() || subject.len() > 255 || !subject.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(format!("its `{claim}` is not 1 to 255 printable ASCII characters"));
        }
        let is_gitlabs = self.settings.provider_kind == Some(ProviderKind::Gitlab) && principal == TokenPrincipal::User;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if is_gitlabs && !ours && !number(subject) {
            return Err(format!("its `{claim}` is not the number of a GitLab user"));
        }
        let kind = self.claims.get("principal_type").and_then(Value::as_str).unwrap_or_default();
        match (ours, principal) {
            (false, _) => Ok(subject.to_owned()),
            (true, TokenPrincipal::User) => {
                let ours = self.settings.namespace().as_str(); // of another provider there, it is nobody whom we know
                let person = subject.strip_prefix("user:").and_then(|rest| rest.strip_prefix(ours)?.strip_prefix(':'));
                let said = self.claims.get("provider").and_then(Value::as_str) == Some(ours);
                let person = person.filter(|it| kind == "user" && said && (!is_gitlabs || number(it)));
                person
                    .map(str::to_owned)
                    .ok_or_else(|| format!("it is of `{}`, expected a `user` of `{ours}`", printable(subject, 100)))
            }
            (true, TokenPrincipal::Service) if kind == "service" || kind == "job" => Ok(subject.to_owned()),
            (true, TokenPrincipal::Service) => {
                Err(format!("it is of a `{}`, expected a `service` or a `job`", printable(kind, 32)))
            }
        }
    }

    fn person(&self, subject: &str, names: &TokenClaims, ours: bool) -> Person {
        let usual = if ours { &["login"][..] } else { &["preferred_username", "username", "upn"] };
        let login = match &names.login {
            Some(claim) => self.text(claim),
            None => usual.iter().find_map(|claim| self.text(claim)),
        };
        let verified = ours || self.claims.get("email_verified") == Some(&Value::Bool(true));
        Person {
            id: self.settings.user(subject),
            issuer: self.settings.issuer.as_deref().unwrap_or_default().into(),
            login: login.unwrap_or_else(|| subject.into()),
            email: claims::plain_email(self.claims, "email").filter(|_| verified),
            name: self.text("name"),
        }
    }

    /// The groups that the token lists. They are as old as the token, whose age is bounded.
    fn membership(&self, names: &TokenClaims, ours: bool) -> Membership {
        if ours && self.claims.get("groups_truncated") == Some(&Value::Bool(true)) {
            return Membership::Unknown(Unknown::Incomplete);
        }
        let kind = self.settings.provider_kind.unwrap_or(ProviderKind::Oidc);
        match claims::groups_in(kind, &names.groups, self.claims) {
            Claimed::Listed(paths) => Membership::Known(Groups {
                paths: paths.into(),
                roles: Arc::default(),
                unread: Arc::default(),
                source: MembershipSource::Token,
                read: id_token::time(self.claims, "iat").ok().flatten().unwrap_or(self.now),
                version: crate::principal::next_version(),
                stale: false,
                aside: None,
            }),
            Claimed::Absent | Claimed::Unreadable(_) | Claimed::Elsewhere => Membership::Unknown(Unknown::Incomplete),
        }
    }
}

/// The scopes of a token: a text with blanks, or a list.
fn scopes(claims: &Claims, names: &TokenClaims) -> Vec<String> {
    let read = |claim: &str| match claims.get(claim) {
        Some(Value::String(text)) => Some(text.split_ascii_whitespace().map(str::to_owned).collect()),
        Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => None,
    };
    let found: Option<Vec<String>> = match &names.scopes {
        Some(claim) => read(claim),
        None => ["scope", "scp"].into_iter().find_map(read),
    };
    let mut scopes = found.unwrap_or_default();
    scopes.retain(|scope| scope.len() <= 255 && scope.bytes().all(|byte| byte.is_ascii_graphic()));
    scopes.truncate(100);
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_is_no_part_of_a_token() {
        for text in ["abc", "Bearer abc", "bearer  abc"] {
            assert_eq!(bare(text), "abc");
        }
        assert_eq!((bare("Bearer "), bare("Basic abc")), ("", "Basic abc"));
    }
}
