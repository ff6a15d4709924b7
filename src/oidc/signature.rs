//! Whether a key of a provider signed a token.

use super::{claims::Claims, id_token::TokenError, jws::Unverified, keys::KeySet};
use crate::config::ALGORITHMS;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::Jwk};
use serde_json::Value;
use std::str::FromStr;

/// Checks the signature of `token`, whose parts are `unverified`, and returns the one key of `set` that made it.
///
/// # Errors
/// [`TokenError::Key`] where newer keys may help, [`TokenError::Rule`] if its algorithm is none that we accept.
///
/// Source: RFC 7515, section 5.2.
pub(super) fn check<'k>(token: &str, unverified: &Unverified, set: &'k KeySet) -> Result<&'k Value, TokenError> {
    let key_error = |cause: &str| TokenError::Key(cause.to_owned());
    let name = unverified.header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let algorithm = Some(name).filter(|name| ALGORITHMS.contains(name)).and_then(|name| Algorithm::from_str(name).ok());
    let algorithm = algorithm.ok_or_else(|| TokenError::Rule("its algorithm is none that we accept".to_owned()))?;
    let kid = unverified.header.get("kid").and_then(Value::as_str);
    let mut fitting = set.signing().filter(|key| fits(key, kid, name));
    let published = match (fitting.next(), fitting.next()) {
        (Some(only), None) => only,
        (Some(_), Some(_)) => return Err(key_error("several keys of the provider fit it")),
        (None, _) => return Err(key_error("no key of the provider has its `kid` and algorithm")),
    };
    let unusable = || key_error("the key that it names is unusable");
    let key: Jwk = serde_json::from_value(published.clone()).map_err(|_| unusable())?;
    let key = DecodingKey::from_jwk(&key).map_err(|_| unusable())?;
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    (validation.validate_exp, validation.validate_aud) = (false, false); // the callers' rules, by our clock and in our words
    jsonwebtoken::decode::<Claims>(token, &key, &validation)
        .map(|_| published)
        .map_err(|_| key_error("its signature is wrong"))
}

impl KeySet {
    /// Whether some key may sign by this algorithm.
    pub(super) fn fit(&self, algorithm: &str) -> bool {
        self.signing().any(|key| fits(key, None, algorithm))
    }
}

fn fits(key: &Value, kid: Option<&str>, algorithm: &str) -> bool {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let named = kid.is_none_or(|kid| text("kid") == Some(kid));
    let family = match algorithm {
        "EdDSA" => "OKP",
        _ if algorithm.starts_with("ES") => "EC",
        _ => "RSA",
    };
    named && text("kty") == Some(family) && text("alg").is_none_or(|alg| alg == algorithm)
}
