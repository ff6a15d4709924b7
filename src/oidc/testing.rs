//! For tests: a key that signs tokens, as an issuer would.

use crate::config::{KeySource, TokenIssuerSettings, TokenKind};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Whose tokens they are.
pub(crate) const ISSUER: &str = "https://sso.test";
/// For whom.
pub(crate) const AUDIENCE: &str = "https://deploy.test";

/// A key of ES256.
pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Self {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref()).expect("a key"))
    }

    /// The JWK set with its public half.
    pub(crate) fn published(&self) -> Map<String, Value> {
        let point = self.0.public_key().as_ref();
        let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let key = json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
                         "x": part(&point[1..33]), "y": part(&point[33..])});
        json!({ "keys": [key] }).as_object().expect("an object").clone()
    }

    /// A token with this header and these claims on top of the usual ones; `null` takes one away.
    pub(crate) fn token(&self, header: Value, claims: Value, now: SystemTime) -> String {
        let seconds = now.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let header = with(json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}), header);
        let claims =
            with(json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "s", "iat": seconds, "exp": seconds + 600}), claims);
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("signed");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// An issuer that has this key.
    pub(crate) fn settings(&self, kind: TokenKind) -> TokenIssuerSettings {
        TokenIssuerSettings {
            name: "ci".parse().expect("a name"),
            kind,
            issuer: Some(ISSUER.into()),
            provider: None,
            provider_kind: None,
            audiences: vec![AUDIENCE.into()],
            algorithms: vec!["ES256".into()],
            max_age: Duration::from_secs(3600),
            keys: KeySource::Fixed(self.published()),
        }
    }
}

/// `one` with the members of `other`, but for those that are `null` there.
pub(crate) fn with(one: Value, other: Value) -> Value {
    let (Value::Object(mut one), Value::Object(other)) = (one, other) else { panic!("two objects") };
    one.extend(other);
    one.retain(|_, value| !value.is_null());
    one.into()
}

/// What a job of acme/shop/api says of itself.
pub(crate) fn job() -> Value {
    json!({"sub": "project_path:acme/shop/api:ref_type:branch:ref:main", "project_path": "acme/shop/api",
           "project_id": "5120", "job_project_id": "5120", "job_id": "302", "pipeline_id": "574",
           "pipeline_source": "push", "user_id": "907", "user_login": "ines", "ref": "main", "ref_type": "branch",
           "ref_path": "refs/heads/main", "ref_protected": "true", "runner_id": 1,
           "runner_environment": "self-hosted", "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc"})
}
