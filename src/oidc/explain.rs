//! One credential, looked at by an operator: which checks of a request it passes, and what it looks like.

use super::{
    checks::{Check, Limit, TokenFault, Trial, Way},
    claims::printable,
    issuer::Issuer,
    jws::{self, Unverified},
    keys::KeySet,
    token::{self, Whose},
};
use crate::principal::Bearer;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::{path::PathBuf, sync::Arc, time::SystemTime};

/// The longest text of a token that is shown, in bytes.
const LONGEST: usize = 256;

/// What the checks of a request say of a credential.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// How it was found out.
    pub way: Way,
    /// The keys that its signature was held against; none if it did not come to that.
    pub keys: Option<Source>,
    /// Who it is of, or why it is not accepted.
    pub result: Result<Good, TokenFault>,
}

/// What a credential proves that passes every check.
#[derive(Clone, Debug)]
pub struct Good {
    /// Who has it.
    pub bearer: Bearer,
    /// When it is over, the clock difference included.
    pub ends: SystemTime,
    /// By what.
    pub limit: Limit,
}

/// How one check came out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was passed.
    Passed,
    /// It was not, for this.
    Failed(String),
    /// It could not be made, for this.
    Unknown(String),
    /// One before it was not passed.
    NotReached,
}

/// Where keys are from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Which of the places.
    pub place: Place,
    /// When they were read there.
    pub read: SystemTime,
}

/// The places that keys are read from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// The issuer itself, just now.
    Issuer,
    /// This file, in which a running process kept them.
    Cache(PathBuf),
    /// `jwks_file`, with the configuration.
    Configured,
}

impl Explanation {
    /// Every check in order, and how it came out.
    pub fn checks(&self) -> Vec<(Check, Outcome)> {
        let (last, outcome) = match &self.result {
            Ok(_) => (None, Outcome::Passed),
            Err(TokenFault::Bad { check, cause, .. }) => (Some(*check), Outcome::Failed(cause.clone())),
            Err(TokenFault::Unavailable { cause, .. }) => {
                (Some(self.way.needs_issuer()), Outcome::Unknown(cause.clone()))
            }
        };
        let mut reached = true;
        let each = self.way.checks().map(|check| match (reached, last == Some(check)) {
            (true, false) => (check, Outcome::Passed),
            (true, true) => {
                reached = false;
                (check, outcome.clone())
            }
            (false, _) => (check, Outcome::NotReached),
        });
        each.collect()
    }
}

impl Issuer {
    /// Makes the checks of a request as if it were `now`. Nothing is kept, neither at hand nor on disk, and keys and the issuer's
    /// word are asked for once; `offline`, the keys are those at hand, and nobody is asked. An issuer speaks of an opaque
    /// credential as it stands, whatever `now` is.
    pub async fn explain(&self, token: &SecretString, now: SystemTime, offline: bool) -> Explanation {
        let (text, way) = (token.expose_secret(), self.way(token.expose_secret()));
        let mut keys = None;
        let result = match Trial::begin(way, &self.settings, text, now) {
            Err(failed) => Err(self.bad(failed)),
            Ok(mut trial) => {
                let bearer = match way {
                    Way::Signed => self.by_keys(&mut trial, offline, &mut keys).await,
                    Way::Introspected | Way::JobToken => self.by_answer(&mut trial, token, offline).await,
                };
                let (ends, limit) = trial.ends();
                bearer.map(|bearer| Good { bearer, ends, limit })
            }
        };
        Explanation { way, keys, result }
    }

    async fn by_keys(
        &self,
        trial: &mut Trial<'_>,
        offline: bool,
        used: &mut Option<Source>,
    ) -> Result<Bearer, TokenFault> {
        let (keys, place) = self.looked_up(offline).await?;
        *used = Some(Source { place, read: keys.read });
        trial.by_keys(&keys).map_err(|failed| self.bad(failed))
    }

    async fn looked_up(&self, offline: bool) -> Result<(Arc<KeySet>, Place), TokenFault> {
        let today = SystemTime::now(); // keys are as old as they are, whatever time a token is judged at
        match &self.cache {
            _ if self.has_fixed_keys() => self.usable_keys(today).map(|keys| (keys, Place::Configured)),
            Some(cache) if offline => {
                let keys = self.usable_keys(today).map_err(|_| self.unavailable(cache.lacks()));
                keys.map(|keys| (keys, Place::Cache(cache.path().to_owned())))
            }
            _ => self.fetched().await.map(|keys| (keys, Place::Issuer)).map_err(|cause| self.unavailable(cause)),
        }
    }

    async fn by_answer(
        &self,
        trial: &mut Trial<'_>,
        token: &SecretString,
        offline: bool,
    ) -> Result<Bearer, TokenFault> {
        if offline {
            return Err(self.unavailable("it says nothing by itself: its issuer has to be asked, and nobody is"));
        }
        let answer = self.answered(self.way(token.expose_secret()), token).await?;
        trial.by_answer(answer, SystemTime::now()).map_err(|failed| self.bad(failed))
    }
}

/// What a credential looks like. Nothing of it is verified, and nothing is decided by it: it is for advice.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Look {
    /// What it seems to be.
    pub shape: Shape,
    /// Whose it claims to be; empty where it does not say.
    pub whose: Whose,
    /// `kid`.
    pub key: Option<String>,
    /// `alg`.
    pub algorithm: Option<String>,
}

/// What a credential seems to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Shape {
    /// No JWT, for this.
    Opaque(String),
    /// What a Vestibule tells upstreams.
    Assertion,
    /// A provider's word that somebody has signed out.
    LogoutToken,
    /// The ID token of a person's sign-in.
    IdToken,
    /// The ID token of a CI job.
    JobToken,
    /// Any other JWT.
    Other,
}

impl Look {
    /// Looks at a credential.
    pub fn of(token: &str) -> Self {
        let Some(read) = jws::glance(token, jws::LONGEST) else {
            let cause = jws::read(token, jws::LONGEST).err().map(|cause| cause.to_string());
            let shape = Shape::Opaque(cause.unwrap_or_default());
            return Self { shape, whose: Whose::default(), key: None, algorithm: None };
        };
        let text = |name: &str| read.header.get(name).and_then(Value::as_str).map(|text| printable(text, LONGEST));
        let whose = token::whose(&read.claims);
        let audiences = whose.audiences.iter().map(|text| printable(text, LONGEST)).collect();
        let whose = Whose { issuer: printable(&whose.issuer, LONGEST), audiences };
        Self { shape: Shape::of(&read), whose, key: text("kid"), algorithm: text("alg") }
    }
}

impl Shape {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Opaque(_) => "opaque",
            Self::Assertion => "assertion",
            Self::LogoutToken => "logout_token",
            Self::IdToken => "id_token",
            Self::JobToken => "job_token",
            Self::Other => "jwt",
        }
    }

    fn of(token: &Unverified) -> Self {
        let claims = &token.claims;
        let has = |names: &[&str]| names.iter().any(|name| claims.contains_key(*name));
        let said = claims.get("typ").and_then(Value::as_str);
        let typ = token.header.get("typ").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
        match typ.strip_prefix("application/").unwrap_or(&typ) {
            token::ASSERTION => Self::Assertion,
            "logout+jwt" => Self::LogoutToken,
            _ if claims.contains_key("events") => Self::LogoutToken,
            _ if claims.contains_key("job_id") && claims.contains_key("pipeline_id") => Self::JobToken,
            "at+jwt" => Self::Other,
            _ if said == Some("ID") => Self::IdToken,
            _ if said.is_none() && has(&["nonce", "at_hash", "c_hash", "sub_legacy"]) => Self::IdToken,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{GitlabCi, TokenKind},
        oidc::testing::{Signer, job, with},
    };
    use serde_json::json;

    /// What is told of a token is what a request with it is told, word by word.
    #[tokio::test]
    async fn an_explanation_is_what_a_request_is_told() {
        let (signer, now) = (Signer::new(), SystemTime::now());
        let issuer = Issuer::passing(signer.settings(TokenKind::GitlabCi(GitlabCi::default())).into());
        for (header, claims) in [
            (json!({}), json!({})),
            (json!({"alg": "none"}), json!({})),
            (json!({"alg": "RS256"}), json!({})),
            (json!({}), json!({"iss": "https://other.test"})),
            (json!({}), json!({"auth_time": 1})),
            (json!({}), json!({"aud": ["a", "b"]})),
            (json!({}), json!({"exp": 1})),
            (json!({}), json!({"iat": null})),
            (json!({"kid": "k2"}), json!({})),
            (json!({}), json!({"ref_protected": "yes"})),
        ] {
            let token = signer.token(header, with(job(), claims.clone()), now);
            let told = issuer.verify_at_hand(&token, now);
            let explanation = issuer.explain(&SecretString::from(token), now, true).await;
            match (told, &explanation.result) {
                (Ok(bearer), Ok(good)) => {
                    assert_eq!(bearer.holder.to_string(), good.bearer.holder.to_string());
                    assert_eq!(bearer.ends, Some(good.ends));
                }
                (Err(fault), Err(told)) => assert_eq!(&fault, told, "{claims}"),
                (one, other) => panic!("{claims}: {one:?} {other:?}"),
            }
        }
    }

    #[test]
    fn checks_after_the_one_that_fails_are_not_reached() {
        let issuer = "ci".parse().expect("a name");
        let fault = |fault| Explanation { way: Way::Signed, keys: None, result: Err(fault) };
        let cause = "why".to_owned();
        let checks = fault(TokenFault::Bad { issuer, check: Check::Audience, cause: cause.clone() }).checks();
        let of = |check: Check| checks.iter().find(|(one, _)| *one == check).map(|(_, outcome)| outcome.clone());
        assert_eq!(checks.len(), Way::Signed.checks().count());
        assert_eq!(
            (of(Check::Class), of(Check::Audience)),
            (Some(Outcome::Passed), Some(Outcome::Failed(cause.clone())))
        );
        assert_eq!((of(Check::Time), of(Check::Claims)), (Some(Outcome::NotReached), Some(Outcome::NotReached)));
        let issuer = "ci".parse().expect("a name");
        let checks = fault(TokenFault::Unavailable { issuer, cause: cause.clone() }).checks();
        assert_eq!(
            checks[6..],
            [
                (Check::Age, Outcome::Passed),
                (Check::Signature, Outcome::Unknown(cause)),
                (Check::Claims, Outcome::NotReached)
            ]
        );
    }

    #[test]
    fn a_token_is_told_by_what_is_in_it() {
        let (signer, now) = (Signer::new(), SystemTime::now());
        let shape = |header, claims| Look::of(&signer.token(header, claims, now)).shape;
        for (header, claims, expected) in [
            (json!({"typ": "vestibule+jwt"}), json!({}), Shape::Assertion),
            (json!({"typ": "application/Logout+JWT"}), json!({}), Shape::LogoutToken),
            (json!({}), json!({"events": {}}), Shape::LogoutToken),
            (json!({}), job(), Shape::JobToken),
            (json!({}), json!({"nonce": "n"}), Shape::IdToken),
            (json!({}), json!({"sub_legacy": "n"}), Shape::IdToken),
            (json!({}), json!({"typ": "ID"}), Shape::IdToken),
            (json!({}), json!({"typ": "Bearer", "nonce": "n"}), Shape::Other),
            (json!({"typ": "at+jwt"}), json!({"nonce": "n"}), Shape::Other),
            (json!({"typ": null}), json!({}), Shape::Other),
        ] {
            assert_eq!(shape(header.clone(), claims.clone()), expected, "{header} {claims}");
        }
        let look = Look::of("glcbt-64_abcdef");
        assert_eq!(look.shape, Shape::Opaque("it has 1 segments, expected 3".into()));
    }
}
