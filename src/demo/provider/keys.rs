//! The demo provider's signing key: made at start, kept in memory, gone with the process.

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use serde::Serialize;
use serde_json::{Value, json};

/// An RSA key of 2048 bits that signs RS256, as GitLab's does.
pub(super) struct SigningKey {
    private: EncodingKey,
    kid: String,
    public: Value,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// The cryptography library cannot make one.
    pub(super) fn generate() -> Result<Self, String> {
        let failed = |_| "cannot make an RSA key for the demo GitLab".to_owned();
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
        let der: Pkcs8V1Der<'static> = pair.as_der().map_err(failed)?;
        Self::from_pkcs8(der.as_ref()).map_err(|error| format!("cannot use the demo GitLab's RSA key: {error}"))
    }

    fn from_pkcs8(der: &[u8]) -> jsonwebtoken::errors::Result<Self> {
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines(&STANDARD.encode(der)));
        let private = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let kid = super::random();
        let mut public = serde_json::to_value(Jwk::from_encoding_key(&private, Algorithm::RS256)?)?;
        public["kid"] = json!(kid);
        public["use"] = json!("sig");
        Ok(Self { private, kid, public })
    }

    /// The key set, as `jwks_uri` gives it.
    pub(super) fn published(&self) -> Value {
        json!({ "keys": [self.public] })
    }

    /// Signs claims as a JWT.
    pub(super) fn sign(&self, claims: &impl Serialize) -> jsonwebtoken::errors::Result<String> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::RS256) };
        jsonwebtoken::encode(&header, claims, &self.private)
    }
}

/// PEM has lines of 64 characters (RFC 7468, section 2).
fn lines(base64: &str) -> String {
    let mut wrapped = String::with_capacity(base64.len() + base64.len() / 64);
    for (index, letter) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            wrapped.push('\n');
        }
        wrapped.push(letter);
    }
    wrapped
}
