//! What a provider publishes about itself.

use super::{http::is_loopback, jws::strict_object};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use url::Url;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A discovery document that has passed our checks; of its many members those we use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Document {
    pub(super) issuer: String,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    pub(super) jwks_uri: Url,
    #[serde(default)]
    pub(super) userinfo_endpoint: Option<Url>,
    #[serde(default)]
    pub(super) end_session_endpoint: Option<Url>,
    #[serde(default)]
    pub(super) revocation_endpoint: Option<Url>,
    /// RFC 9207: `iss` must be present in authorization responses.
    #[serde(default)]
    authorization_response_iss_parameter_supported: Option<bool>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

/// Why a discovery document is not used.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("its discovery document is unacceptable: {0}")]
    Form(String),
    #[error(
        "its discovery document is for issuer `{found}`, expected `{expected}`: if that is the right place, write `issuer: {found}`"
    )]
    Issuer { expected: String, found: String },
    #[error("its `{member}` is `{url}`, expected an https URL without user name and fragment")]
    Endpoint { member: &'static str, url: String },
}

impl Document {
    /// Where the document of `issuer` is.
    ///
    /// Source: OpenID Connect Discovery 1.0, section 4.
    pub(super) fn url(issuer: &str) -> Result<Url, url::ParseError> {
        Url::parse(&format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer)))
    }

    /// Reads a document and checks it against the configured issuer.
    ///
    /// # Errors
    /// Any [`DocumentError`].
    pub(super) fn parse(bytes: &[u8], issuer: &str) -> Result<Self, DocumentError> {
        let members = strict_object(bytes).map_err(DocumentError::Form)?;
        serde_json::from_value::<Self>(Value::Object(members))
            .map_err(|cause| DocumentError::Form(cause.to_string()))?
            .checked(issuer)
    }

    /// The document itself if it is for `issuer`, byte for byte, and all its endpoints are https. Plain http is fine
    /// where both the issuer and the endpoint are on loopback.
    ///
    /// # Errors
    /// [`DocumentError::Issuer`] or [`DocumentError::Endpoint`].
    pub(super) fn checked(self, issuer: &str) -> Result<Self, DocumentError> {
        if self.issuer != issuer {
            let found = self.issuer.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(DocumentError::Issuer { expected: issuer.to_owned(), found });
        }
        let loopback = Url::parse(issuer).is_ok_and(|url| is_loopback(&url));
        let bad = self.endpoints().find(|(_, url)| !is_acceptable(url, loopback));
        if let Some((member, url)) = bad {
            return Err(DocumentError::Endpoint { member, url: url.as_str().chars().take(200).collect() });
        }
        Ok(self)
    }

    /// All endpoints by their member's name.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (&'static str, &Url)> {
        let required = [
            ("authorization_endpoint", &self.authorization_endpoint),
            ("token_endpoint", &self.token_endpoint),
            ("jwks_uri", &self.jwks_uri),
        ];
        let optional = [
            ("userinfo_endpoint", &self.userinfo_endpoint),
            ("end_session_endpoint", &self.end_session_endpoint),
            ("revocation_endpoint", &self.revocation_endpoint),
        ];
        required.into_iter().chain(optional.into_iter().filter_map(|(name, url)| Some((name, url.as_ref()?))))
    }

    /// The provider says that its authorization responses carry `iss`.
    pub(super) fn names_itself_in_responses(&self) -> bool {
        self.authorization_response_iss_parameter_supported == Some(true)
    }

    /// The provider takes our secret in the form body only. The default is HTTP Basic.
    pub(super) fn secret_in_body(&self) -> bool {
        self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|methods| {
            let lists = |method: &str| methods.iter().any(|listed| listed == method);
            lists("client_secret_post") && !lists("client_secret_basic")
        })
    }
}

/// An address where nobody can change anything on the way.
pub(super) fn is_acceptable(url: &Url, loopback: bool) -> bool {
    let plain = url.scheme() == "http" && loopback && is_loopback(url);
    (plain || url.scheme() == "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.fragment().is_none()
}

/// The pause before the next attempt: 0.5 s, doubled after each failure up to 30 s, half of it random.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after one more failure; `random` spreads the replicas.
    pub(super) fn after_failure(&mut self, random: u16) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        full / 2 + full.mul_f64(f64::from(random) / f64::from(u16::MAX)) / 2
    }

    /// Starts from the beginning.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut value = json!({
            "issuer": "https://id.example.com",
            "authorization_endpoint": "https://id.example.com/authorize",
            "token_endpoint": "https://id.example.com/token",
            "jwks_uri": "https://keys.example.com/keys",
        });
        change(&mut value);
        serde_json::to_vec(&value).expect("JSON")
    }

    fn parse(change: impl FnOnce(&mut Value)) -> Result<Document, DocumentError> {
        Document::parse(&document(change), "https://id.example.com")
    }

    #[test]
    fn issuer_is_compared_byte_for_byte() {
        assert!(parse(|_| {}).is_ok());
        for other in ["https://id.example.com/", "https://ID.example.com", "https://id.example.com:443", ""] {
            assert!(matches!(parse(|d| d["issuer"] = other.into()), Err(DocumentError::Issuer { .. })), "{other}");
        }
    }

    #[test]
    fn every_endpoint_is_https() {
        for member in [
            "authorization_endpoint",
            "token_endpoint",
            "jwks_uri",
            "userinfo_endpoint",
            "revocation_endpoint",
            "end_session_endpoint",
        ] {
            for bad in [
                "http://id.example.com/x",
                "http://127.0.0.1/x",
                "https://u:p@id.example.com/",
                "https://id.example.com/#f",
                "file:///etc/passwd",
            ] {
                let refused = parse(|d| d[member] = bad.into());
                assert!(
                    matches!(refused, Err(DocumentError::Endpoint { member: m, .. }) if m == member),
                    "{member} {bad}"
                );
            }
        }
    }

    #[test]
    fn loopback_issuers_may_use_http_on_loopback_only() {
        let issuer = "http://127.0.0.1:8080";
        let plain = |host: &str| {
            let bytes = serde_json::to_vec(&json!({
                "issuer": issuer, "authorization_endpoint": format!("{host}/a"),
                "token_endpoint": format!("{host}/t"), "jwks_uri": format!("{host}/k"),
            }))
            .expect("JSON");
            Document::parse(&bytes, issuer)
        };
        assert!(plain(issuer).is_ok());
        assert!(plain("http://id.example.com").is_err());
    }

    #[test]
    fn doubled_members_are_refused() {
        let text = br#"{"issuer":"https://id.example.com","issuer":"https://id.example.com"}"#;
        assert!(matches!(Document::parse(text, "https://id.example.com"), Err(DocumentError::Form(_))));
    }

    #[test]
    fn the_secret_goes_into_the_body_only_where_nothing_else_is_offered() {
        let methods =
            |list: Value| parse(|d| d["token_endpoint_auth_methods_supported"] = list).expect("good").secret_in_body();
        assert!(methods(json!(["client_secret_post"])));
        assert!(!methods(json!(["client_secret_post", "client_secret_basic"])));
        assert!(!methods(Value::Null));
    }

    #[test]
    fn discovery_is_below_the_issuers_path() {
        let at = |issuer| Document::url(issuer).expect("a URL").to_string();
        assert_eq!(at("https://h/realms/eng"), "https://h/realms/eng/.well-known/openid-configuration");
        assert_eq!(at("https://h/"), "https://h/.well-known/openid-configuration");
    }

    #[test]
    fn pauses_double_up_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let longest: Vec<u128> = (0..9).map(|_| backoff.after_failure(u16::MAX).as_millis()).collect();
        assert_eq!(longest, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.after_failure(0).as_millis(), 250);
    }
}
