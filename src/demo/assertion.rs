//! How an upstream checks `Vestibule-Assertion`: this is all it takes.

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;
use std::{
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::net::TcpStream;

const LONGEST_KEY_SET: usize = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);
/// However many assertions name unknown keys, the proxy is asked no more often than this.
const BETWEEN_FETCHES: Duration = Duration::from_secs(5);

/// The claims of a checked assertion.
pub(super) type Claims = serde_json::Map<String, Value>;

/// Checks assertions against the proxy's published keys.
pub(super) struct Verifier {
    front: SocketAddr,
    issuer: String,
    audience: &'static str,
    keys: Mutex<Keys>,
}

struct Keys {
    set: JwkSet,
    fetched: Option<SystemTime>,
}

/// Why an assertion proves nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unproved {
    #[error("the request has no Vestibule-Assertion")]
    Missing,
    #[error("its header is not that of an assertion: expected `typ` vestibule+jwt, `alg` ES256 and a `kid`")]
    Header,
    #[error("its key is not among those that the proxy publishes")]
    UnknownKey,
    #[error("the proxy's keys cannot be fetched: {0}")]
    Keys(String),
    #[error("it does not verify: {0}")]
    Invalid(jsonwebtoken::errors::Error),
}

impl Verifier {
    /// Trusts the keys that the proxy at `front` publishes, for assertions that `issuer` made for `audience`.
    pub(super) fn new(front: SocketAddr, issuer: &str, audience: &'static str) -> Self {
        let keys = Mutex::new(Keys { set: JwkSet { keys: Vec::new() }, fetched: None });
        Self { front, issuer: issuer.to_owned(), audience, keys }
    }

    /// Checks signature, issuer, audience, type and times; only what passes all of them is believed.
    pub(super) async fn verify(&self, assertion: Option<&str>, now: SystemTime) -> Result<Claims, Unproved> {
        let assertion = assertion.ok_or(Unproved::Missing)?;
        let head = jsonwebtoken::decode_header(assertion).map_err(|_| Unproved::Header)?;
        let kid = head.kid.filter(|_| head.alg == Algorithm::ES256 && head.typ.as_deref() == Some("vestibule+jwt"));
        let key = self.key(&kid.ok_or(Unproved::Header)?, now).await?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.leeway = 5;
        let token = jsonwebtoken::decode::<Claims>(assertion, &key, &rules).map_err(Unproved::Invalid)?;
        Ok(token.claims)
    }

    async fn key(&self, kid: &str, now: SystemTime) -> Result<DecodingKey, Unproved> {
        let known = self.known(kid);
        let key = match known {
            Some(key) => key,
            None => {
                self.fetch(now).await?;
                self.known(kid).ok_or(Unproved::UnknownKey)?
            }
        };
        key.map_err(Unproved::Invalid)
    }

    fn known(&self, kid: &str) -> Option<Result<DecodingKey, jsonwebtoken::errors::Error>> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.set.find(kid).map(DecodingKey::from_jwk)
    }

    async fn fetch(&self, now: SystemTime) -> Result<(), Unproved> {
        {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            let recent =
                keys.fetched.and_then(|then| now.duration_since(then).ok()).is_some_and(|age| age < BETWEEN_FETCHES);
            if recent {
                return Ok(());
            }
            keys.fetched = Some(now);
        }
        let fetched = tokio::time::timeout(PATIENCE, self.get_keys()).await;
        let set = fetched.map_err(|_| Unproved::Keys("no answer within 2 s".to_owned()))?.map_err(Unproved::Keys)?;
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).set = set;
        Ok(())
    }

    async fn get_keys(&self) -> Result<JwkSet, String> {
        let stream = TcpStream::connect(self.front).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        let host = self.issuer.trim_start_matches("http://");
        let request = Request::get("/.well-known/vestibule/jwks.json").header(header::HOST, host);
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        if response.status() != StatusCode::OK {
            return Err(format!("status {}, expected 200", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), LONGEST_KEY_SET).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| format!("not a key set: {error}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::demo::server;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    use http::Method;
    use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
    use serde_json::json;
    use std::sync::Arc;

    /// What the proxy of these tests calls itself.
    pub(in crate::demo) const PUBLIC_URL: &str = "http://portal.localhost:9";

    /// A key like the proxy's, and a loopback server that publishes it.
    pub(in crate::demo) async fn front() -> (SocketAddr, EncodingKey) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        let private = EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("it can be written").as_ref());
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).expect("an EC key");
        public.common.key_id = Some("k1".to_owned());
        let keys = json!({ "keys": [public] });
        let listener = server::bind(0).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(server::serve(listener, move |asked| {
            let known = asked.what() == (&Method::GET, "/.well-known/vestibule/jwks.json");
            let answer = server::json(if known { StatusCode::OK } else { StatusCode::NOT_FOUND }, &keys);
            async move { answer }
        }));
        (address, private)
    }

    pub(in crate::demo) fn assertion(key: &EncodingKey, kid: &str, changed: &[(&str, Value)], typ: &str) -> String {
        let now = SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = json!({
            "iss": PUBLIC_URL, "aud": "portal", "sub": "user:gitlab:101", "iat": now, "exp": now + 60,
        });
        for (name, value) in changed {
            claims[*name] = value.clone();
        }
        let header = Header { kid: Some(kid.to_owned()), typ: Some(typ.to_owned()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, key).expect("it can be signed")
    }

    #[tokio::test]
    async fn believes_only_an_assertion_that_passes_every_check() {
        let (front, key) = front().await;
        let other = front_key();
        let verifier = Arc::new(Verifier::new(front, PUBLIC_URL, "portal"));
        let verify = |token: String| {
            let verifier = verifier.clone();
            async move { verifier.verify(Some(&token), SystemTime::now()).await }
        };
        let good = verify(assertion(&key, "k1", &[], "vestibule+jwt")).await.expect("it is good");
        assert_eq!(good["sub"], "user:gitlab:101");
        for (why, token) in [
            ("another audience", assertion(&key, "k1", &[("aud", "api".into())], "vestibule+jwt")),
            ("another issuer", assertion(&key, "k1", &[("iss", "http://evil".into())], "vestibule+jwt")),
            ("expired", assertion(&key, "k1", &[("exp", 1_000_000.into())], "vestibule+jwt")),
            ("another type", assertion(&key, "k1", &[], "JWT")),
            ("an unknown key", assertion(&key, "k2", &[], "vestibule+jwt")),
            ("another key under the same id", assertion(&other, "k1", &[], "vestibule+jwt")),
        ] {
            assert!(verify(token).await.is_err(), "{why}");
        }
    }

    fn front_key() -> EncodingKey {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key can be made");
        EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("it can be written").as_ref())
    }
}
