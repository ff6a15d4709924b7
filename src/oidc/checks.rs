//! The checks of a credential: one list for each way to find out, walked for requests and for `token explain` alike.

use super::{
    claims::{Claims, printable},
    introspection::GOOD,
    jws::{self, Unverified},
    keys::KeySet,
    signature,
    token::{self, Proof},
};
use crate::{
    config::{TokenIssuerSettings, TokenKind},
    principal::{Bearer, Name},
};
use serde_json::Value;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One check of a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// Three segments of base64url and JSON, no member twice; printable characters where it is opaque.
    Form,
    /// The signature algorithm is one that the configuration lists.
    Algorithm,
    /// `iss` is the issuer, byte for byte.
    Issuer,
    /// It is this kind of token and no other of the same issuer.
    Class,
    /// It is for us.
    Audience,
    /// `exp`, `nbf` and `iat`.
    Time,
    /// It is not older than `max_age`.
    Age,
    /// A key of the issuer made its signature.
    Signature,
    /// The issuer itself says that it is good.
    Active,
    /// It says who it is of.
    Claims,
}

impl Check {
    /// The word that audit events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Class => "class",
            Self::Audience => "audience",
            Self::Time => "time",
            Self::Age => "age",
            Self::Signature => "signature",
            Self::Active => "active",
            Self::Claims => "claims",
        }
    }
}

/// How it is found out whether a credential is good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By its claims and its signature.
    Signed,
    /// By asking its issuer (RFC 7662).
    Introspected,
    /// By asking GitLab which job it is of.
    JobToken,
}

impl Way {
    /// All checks, in the order in which they are made until one fails.
    pub fn checks(self) -> impl Iterator<Item = Check> {
        self.alone().iter().chain(self.by_issuer()).copied().chain([Check::Claims])
    }

    /// Those that need nobody, so that a token which is wrong anyway causes no look at keys and no question.
    fn alone(self) -> &'static [Check] {
        use Check::{Age, Algorithm, Audience, Class, Form, Issuer, Time};
        match self {
            Self::Signed => &[Form, Algorithm, Issuer, Class, Audience, Time, Age],
            Self::Introspected | Self::JobToken => &[Form],
        }
    }

    /// Those that rest on what the issuer publishes or answers. After them come its claims.
    fn by_issuer(self) -> &'static [Check] {
        use Check::{Active, Age, Audience, Class, Issuer, Signature, Time};
        match self {
            Self::Signed => &[Signature],
            Self::Introspected => &[Active, Issuer, Class, Audience, Time, Age],
            Self::JobToken => &[Active],
        }
    }

    /// The first check that cannot be made where the issuer cannot be had.
    pub fn needs_issuer(self) -> Check {
        self.by_issuer().first().copied().unwrap_or(Check::Claims)
    }
}

/// Why a token is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenFault {
    /// It fails a check.
    #[error("token of `{issuer}`, check `{}`: {cause}", check.as_str())]
    Bad {
        /// The token issuer's name.
        issuer: Name,
        /// The one check that it fails.
        check: Check,
        /// What is wrong, without secrets.
        cause: String,
    },
    /// Nobody can say: the issuer, or its keys, cannot be had.
    #[error("token issuer `{issuer}` cannot be reached: {cause}")]
    Unavailable {
        /// The token issuer's name.
        issuer: Name,
        /// What went wrong, without secrets.
        cause: String,
    },
}

impl TokenFault {
    /// Newer keys, or the first, may show that the token is good.
    pub fn may_be_mended(&self) -> bool {
        match self {
            Self::Bad { check, .. } => *check == Check::Signature,
            Self::Unavailable { .. } => true,
        }
    }
}

/// What ends a credential.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// Its `exp`.
    Expiry,
    /// The greatest age that the configuration allows.
    MaxAge,
    /// Its issuer is to be asked again.
    Asked,
}

/// The check that failed, and what is wrong.
pub(super) type Failed = (Check, String);

/// A credential on its way through its checks.
pub(super) struct Trial<'t> {
    way: Way,
    settings: &'t TokenIssuerSettings,
    token: &'t str,
    now: SystemTime,
    /// What it says, or what its issuer answered. Nothing of it counts before the checks.
    said: Unverified,
    /// When it is over, the clock difference included, and by what.
    ends: (SystemTime, Limit),
}

impl<'t> Trial<'t> {
    /// Makes every check that needs nobody.
    ///
    /// # Errors
    /// The first check that fails.
    ///
    /// Source: RFC 7519, section 7.2; RFC 8725, section 3; RFC 9068, section 4.
    pub(super) fn begin(
        way: Way,
        settings: &'t TokenIssuerSettings,
        token: &'t str,
        now: SystemTime,
    ) -> Result<Self, Failed> {
        let said = Unverified::default();
        let mut trial = Self { way, settings, token, now, said, ends: (now + GOOD, Limit::Asked) };
        trial.pass(way.alone(), None)?;
        Ok(trial)
    }

    /// Makes the checks that are left of a signed token, and says whose it is. Other keys may be tried after these.
    ///
    /// # Errors
    /// The first check that fails.
    pub(super) fn by_keys(&mut self, keys: &KeySet) -> Result<Bearer, Failed> {
        self.pass(self.way.by_issuer(), Some(keys))?;
        self.bearer()
    }

    /// The same for a credential of which its issuer answered this, just `now`; empty: it knows no such.
    ///
    /// # Errors
    /// The first check that fails.
    pub(super) fn by_answer(&mut self, answer: Claims, now: SystemTime) -> Result<Bearer, Failed> {
        self.said.claims = answer;
        (self.now, self.ends) = (now, (now + GOOD, Limit::Asked));
        if self.way == Way::Introspected {
            self.give_times();
        }
        self.pass(self.way.by_issuer(), None)?;
        self.bearer()
    }

    /// When it is over, and by what.
    pub(super) fn ends(&self) -> (SystemTime, Limit) {
        self.ends
    }

    /// An answer may leave out its times: then it is good for as long as answers are (RFC 7662, section 2.2).
    fn give_times(&mut self) {
        let seconds = self.now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let claims = &mut self.said.claims;
        claims.entry("iat").or_insert_with(|| seconds.into());
        claims.entry("exp").or_insert_with(|| (seconds + GOOD.as_secs()).into());
    }

    fn pass(&mut self, checks: &[Check], keys: Option<&KeySet>) -> Result<(), Failed> {
        checks.iter().try_for_each(|check| self.check(*check, keys).map_err(|cause| (*check, cause)))
    }

    fn check(&mut self, check: Check, keys: Option<&KeySet>) -> Result<(), String> {
        let (settings, claims) = (self.settings, &self.said.claims);
        match check {
            Check::Form => self.form(),
            Check::Algorithm => token::check_algorithm(settings, &self.said.header),
            Check::Issuer => self.issuer(),
            Check::Class => match &settings.kind {
                TokenKind::GitlabCi(_) => super::ci::check_class(&self.said),
                TokenKind::Jwt(tokens) => token::check_class(&self.said, tokens),
                TokenKind::Introspection(_) => token::check_answered(claims),
                TokenKind::Certificate => Err("it is no token that is verified here".to_owned()),
            },
            Check::Audience => token::check_audience(settings, claims),
            Check::Time => token::check_time(claims, self.now).map(|end| self.bound(end, Limit::Expiry)),
            Check::Age => token::check_age(settings, claims, self.now).map(|end| self.bound(end, Limit::MaxAge)),
            Check::Signature => self.signature(keys),
            Check::Active => self.active(),
            Check::Claims => Ok(()), // made by whoever reads them
        }
    }

    fn form(&mut self) -> Result<(), String> {
        match self.way {
            Way::Signed => self.said = jws::read(self.token, jws::LONGEST).map_err(|cause| cause.to_string())?,
            Way::Introspected | Way::JobToken => {
                if self.token.len() > jws::LONGEST || !self.token.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err("it is too long, or not of printable ASCII characters".to_owned());
                }
            }
        }
        Ok(())
    }

    /// An answer need not repeat whose word it is; a token must.
    fn issuer(&self) -> Result<(), String> {
        let found = self.said.claims.get("iss").and_then(Value::as_str);
        match (self.way, found) {
            (Way::Introspected, None) => Ok(()),
            (Way::Introspected, Some(_)) if self.settings.issuer.is_none() => Ok(()),
            (_, found) => token::check_issuer(self.settings, found.unwrap_or_default()),
        }
    }

    fn signature(&self, keys: Option<&KeySet>) -> Result<(), String> {
        let keys = keys.ok_or("there are no keys")?;
        signature::check(self.token, &self.said, keys).map(drop).map_err(|error| {
            let (cause, kid) = (token::cause(error), self.said.header.get("kid").and_then(Value::as_str));
            kid.map_or_else(|| cause.clone(), |kid| format!("{cause} (`kid`: `{}`)", printable(kid, 64)))
        })
    }

    fn active(&self) -> Result<(), String> {
        match self.way {
            Way::JobToken if self.said.claims.is_empty() => {
                Err("GitLab knows no running job with this token".to_owned())
            }
            Way::Introspected if self.said.claims.get("active") != Some(&Value::Bool(true)) => {
                Err("the issuer says that it is not active".to_owned())
            }
            Way::Signed | Way::Introspected | Way::JobToken => Ok(()),
        }
    }

    /// A signed token has no other bound than its own; that of the others is the age of an answer.
    fn bound(&mut self, end: SystemTime, limit: Limit) {
        let is_first = self.way == Way::Signed && limit == Limit::Expiry;
        if is_first || end < self.ends.0 {
            self.ends = (end, limit);
        }
    }

    fn bearer(&self) -> Result<Bearer, Failed> {
        let proof = Proof {
            way: self.way,
            settings: self.settings,
            claims: &self.said.claims,
            hash: token::hash(self.token),
            ends: self.ends.0,
            now: self.now,
        };
        proof.bearer().map_err(|cause| (Check::Claims, cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{GitlabCi, JwtTokens, TokenClaims, TokenPrincipal},
        oidc::{
            Issuer,
            testing::{Signer, job, with},
        },
    };
    use serde_json::json;

    fn jwt() -> TokenKind {
        let (principal, claims) = (TokenPrincipal::Service, TokenClaims::default());
        TokenKind::Jwt(JwtTokens { principal, media_type: None, claims })
    }

    fn failed(kind: &TokenKind, signer: &Signer, token: &str, now: SystemTime) -> Option<Check> {
        let issuer = Issuer::passing(signer.settings(kind.clone()).into());
        match issuer.verify_at_hand(token, now) {
            Ok(_) => None,
            Err(TokenFault::Bad { check, .. }) => Some(check),
            Err(fault @ TokenFault::Unavailable { .. }) => panic!("{fault}"),
        }
    }

    /// What makes a token fail one check: its header, its claims.
    fn spoiled(kind: &TokenKind, check: Check, now: SystemTime) -> (Value, Value) {
        let seconds = now.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let (nothing, is_job) = (json!({}), matches!(kind, TokenKind::GitlabCi(_)));
        match check {
            Check::Form => (json!({"crit": ["x"]}), nothing),
            Check::Algorithm => (json!({"alg": "ES384"}), nothing),
            Check::Issuer => (nothing, json!({"iss": "https://other.test"})),
            Check::Class => (nothing, json!({"nonce": "n"})),
            Check::Audience => (nothing, json!({"aud": "other"})),
            Check::Time => (nothing, json!({"nbf": seconds + 600})),
            Check::Age => (nothing, json!({"iat": seconds - 4000})),
            Check::Signature => (json!({"kid": "k2"}), nothing),
            Check::Claims => (nothing, if is_job { json!({"user_id": "x"}) } else { json!({"sub": ""}) }),
            Check::Active => panic!("nobody is asked about a signed token"),
        }
    }

    /// The list is what is done: a token that is wrong in two things fails the check that stands first there, and one that is
    /// wrong in one thing fails that check alone.
    #[test]
    fn the_first_check_of_the_list_that_a_token_fails_is_the_one_that_is_told() {
        let (signer, now) = (Signer::new(), SystemTime::now());
        for (kind, usual) in [(jwt(), json!({})), (TokenKind::GitlabCi(GitlabCi::default()), job())] {
            let all: Vec<_> = Way::Signed.checks().collect();
            assert_eq!(failed(&kind, &signer, &signer.token(json!({}), usual.clone(), now), now), None);
            for (at, first) in all.iter().enumerate() {
                for second in &all[at..] {
                    let ((header, claims), (more, others)) =
                        (spoiled(&kind, *first, now), spoiled(&kind, *second, now));
                    let claims = with(usual.clone(), with(others, claims));
                    let token = signer.token(with(more, header), claims, now);
                    assert_eq!(failed(&kind, &signer, &token, now), Some(*first), "{first:?} {second:?}");
                }
            }
        }
    }

    fn answered(kind: TokenKind, signer: &Signer, answer: Value) -> Result<(Bearer, (SystemTime, Limit)), Failed> {
        let (settings, now) = (signer.settings(kind), SystemTime::now());
        let way = if settings.has_jobs() { Way::JobToken } else { Way::Introspected };
        let mut trial = Trial::begin(way, &settings, "opq_abc", now)?;
        let bearer = trial.by_answer(answer.as_object().expect("an object").clone(), now)?;
        Ok((bearer, trial.ends()))
    }

    /// What an issuer answers goes through the checks of its list, in that order.
    #[test]
    fn answers_are_checked_in_order_too() {
        let (signer, past) = (Signer::new(), 1_600_000_000);
        let kind = || {
            TokenKind::Introspection(crate::config::Introspection {
                principal: TokenPrincipal::Service,
                endpoint: "https://sso.test/introspect".parse().expect("a URL"),
                client_id: "a".into(),
                client_secret: "b".into(),
                prefix: Some("opq_".into()),
                claims: TokenClaims::default(),
            })
        };
        let good = json!({"active": true, "aud": crate::oidc::testing::AUDIENCE, "sub": "svc"});
        let (bearer, (_, limit)) = answered(kind(), &signer, good.clone()).expect("good");
        assert_eq!((bearer.holder.to_string(), limit), ("service:ci:svc".to_owned(), Limit::Asked));
        let spoils = [
            (Check::Active, json!({"active": "true"})),
            (Check::Issuer, json!({"iss": "https://other.test"})),
            (Check::Class, json!({"token_type": "refresh_token"})),
            (Check::Audience, json!({"aud": "other"})),
            (Check::Time, json!({"exp": past})),
            (Check::Age, json!({"iat": past})),
            (Check::Claims, json!({"sub": ""})),
        ];
        let listed: Vec<_> = spoils.iter().map(|(check, _)| *check).collect();
        assert_eq!(Way::Introspected.checks().skip(1).collect::<Vec<_>>(), listed);
        for (at, (first, spoil)) in spoils.iter().enumerate() {
            for (_, other) in &spoils[at..] {
                let answer = with(good.clone(), with(other.clone(), spoil.clone()));
                assert_eq!(answered(kind(), &signer, answer).err().map(|(check, _)| check), Some(*first), "{other}");
            }
        }
        let unknown = answered(TokenKind::GitlabCi(GitlabCi::default()), &signer, json!({}));
        assert_eq!(unknown.err().map(|(check, _)| check), Some(Check::Active));
    }

    /// A signed token is over by what comes first: its own word, or the age that is allowed.
    #[test]
    fn a_token_ends_by_what_comes_first() {
        let (signer, now) = (Signer::new(), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let settings = signer.settings(jwt());
        for (life, ends, limit) in [(600, 660, Limit::Expiry), (7200, 3660, Limit::MaxAge)] {
            let token = signer.token(json!({}), json!({"exp": 1_800_000_000 + life}), now);
            let trial = Trial::begin(Way::Signed, &settings, &token, now).expect("sound");
            assert_eq!(trial.ends(), (now + Duration::from_secs(ends), limit));
        }
    }
}
