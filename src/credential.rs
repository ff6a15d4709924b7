//! What a route's upstream gets as its credential: never what the client sent.

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt, sync::Arc};

/// The field in which GitLab's API looks for a token first.
pub const PRIVATE_TOKEN: HeaderName = HeaderName::from_static("private-token");

/// What a route's upstream gets as its credential.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The assertion about the caller, as a bearer token; nothing for `Anonymous`.
    Assertion,
    /// A secret of ours. Whoever may come here acts with it, and does not get to know it.
    Secret(Secret),
}

/// A secret of ours, ready to be sent.
#[derive(Clone, Debug)]
pub struct Secret {
    /// The field that it stands in.
    pub name: HeaderName,
    /// What stands there.
    pub value: Value,
    /// Clients get the cookies that the upstream sets. Default no: they would belong to us, not to the client.
    pub keep_cookies: bool,
}

/// The value of a field with a secret. It is marked as sensitive, so that nothing shows it and HTTP/2 does not index it.
#[derive(Clone, Debug)]
pub enum Value {
    /// What the configuration names.
    Fixed(HeaderValue),
    /// The token that GitLab's API is asked with.
    GitlabApi(Arc<ApiToken>),
}

impl Credential {
    /// The secret, if it is one.
    pub fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Assertion => None,
            Self::Secret(secret) => Some(secret),
        }
    }

    /// The field that the upstream reads it in.
    pub fn name(&self) -> &HeaderName {
        self.secret().map_or(&AUTHORIZATION, |secret| &secret.name)
    }
}

impl Secret {
    /// The value as it is to be sent now.
    pub fn now(&self) -> Option<HeaderValue> {
        match &self.value {
            Value::Fixed(value) => Some(value.clone()),
            Value::GitlabApi(token) => token.now(),
        }
    }

    /// It is the token for GitLab's API.
    pub fn is_gitlabs(&self) -> bool {
        matches!(self.value, Value::GitlabApi(_))
    }
}

/// The token that GitLab's API is asked with, as routes send it on: always the one in force.
pub struct ApiToken(ArcSwapOption<HeaderValue>);

impl ApiToken {
    /// This token, until it is replaced.
    pub fn new(token: &SecretString) -> Arc<Self> {
        Arc::new(Self(ArcSwapOption::from_pointee(sensitive(token.expose_secret()))))
    }

    /// Sends another one from now on; none, if no header may hold it.
    pub fn replace(&self, token: &SecretString) {
        self.0.store(sensitive(token.expose_secret()).map(Arc::new));
    }

    /// The value of the field as it is to be sent now.
    pub fn now(&self) -> Option<HeaderValue> {
        self.0.load().as_deref().cloned()
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(..)")
    }
}

/// A value that nothing shows; `None` if no header may hold the text.
pub fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s98_no_secret_is_shown() {
        let token = ApiToken::new(&"planted-1".into());
        let fixed = Value::Fixed(sensitive("Bearer planted-2").expect("a value"));
        for value in [fixed, Value::GitlabApi(token)] {
            let secret = Secret { name: PRIVATE_TOKEN, value, keep_cookies: false };
            assert!(
                secret.now().is_some_and(|value| value.is_sensitive() && !format!("{value:?}").contains("planted"))
            );
            let shown = format!("{:?} {secret:#?}", Credential::Secret(secret.clone()));
            assert!(!shown.contains("planted"), "{shown}");
        }
    }

    #[test]
    fn the_token_in_force_is_sent() {
        let token = ApiToken::new(&"one".into());
        let secret = Secret { name: PRIVATE_TOKEN, value: Value::GitlabApi(token.clone()), keep_cookies: false };
        assert_eq!(secret.now().expect("a token"), "one");
        token.replace(&"two".into());
        assert_eq!(secret.now().expect("a token"), "two");
    }
}
