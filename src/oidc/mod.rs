//! OpenID providers: discovery, keys, the code flow, ID-token rules, refresh and userinfo.
//!
//! Knows nothing of sessions and cookies.

use crate::{
    config::ProviderSettings,
    group::GroupPath,
    principal::{MembershipSource, Person},
};
use secrecy::SecretString;
use std::{path::Path, sync::Arc, time::SystemTime};
use url::Url;

/// One provider: what it published about itself, its keys, and our client there.
pub struct Provider {
    /// As configured.
    pub settings: Arc<ProviderSettings>,
}

/// The tokens a provider gave for one session.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For userinfo.
    pub access: SecretString,
    /// When the access token ends.
    pub access_expires: SystemTime,
    /// When this access token was given; read-ahead starts at three quarters of its life.
    pub issued: SystemTime,
    /// To get the next pair.
    pub refresh: Option<SecretString>,
    /// The last ID token, for `id_token_hint` at sign-out.
    pub id: Option<SecretString>,
}

/// A list of groups as one answer of the provider gave it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupList {
    /// Effective memberships; sorted, without doubles.
    pub paths: Vec<GroupPath>,
    /// Which answer.
    pub source: MembershipSource,
}

/// What a finished sign-in proves.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// Who it is.
    pub person: Person,
    /// The tokens.
    pub tokens: Tokens,
    /// The provider's session id, for back-channel logout.
    pub sid: Option<String>,
    /// `auth_time`.
    pub auth_time: Option<SystemTime>,
    /// `amr`.
    pub amr: Vec<String>,
    /// `acr`.
    pub acr: Option<String>,
    /// Groups, if the answers had the claim.
    pub groups: Option<GroupList>,
}

/// What a refresh brought.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The tokens to use from now on; what the answer left out is kept from before.
    pub tokens: Tokens,
    /// Groups, if the answer's ID token had the claim.
    pub groups: Option<GroupList>,
}

/// Why a provider's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nobody answered, or not in time, or with 429 or 5xx, or discovery has not succeeded yet.
    #[error("provider `{provider}` cannot be reached: {cause}")]
    Unavailable {
        /// The provider.
        provider: String,
        /// What went wrong, without secrets.
        cause: String,
    },
    /// `invalid_grant`: this code or refresh token is over.
    #[error("provider `{provider}` rejected the grant: {description}")]
    Rejected {
        /// The provider.
        provider: String,
        /// `error_description`, cut and without control characters.
        description: String,
    },
    /// `invalid_client`, `unauthorized_client`: our own registration is wrong. An alarm for the operator.
    #[error("provider `{provider}` does not accept this client: {description}")]
    Client {
        /// The provider.
        provider: String,
        /// `error` and `error_description`.
        description: String,
    },
    /// 401 from userinfo: the access token is over.
    #[error("provider `{provider}` does not accept the access token")]
    AccessToken {
        /// The provider.
        provider: String,
    },
    /// The answer breaks the protocol or a rule of OpenID Connect Core 1.0, section 3.1.3.7.
    #[error("provider `{provider}` gave an unacceptable answer: {cause}")]
    Invalid {
        /// The provider.
        provider: String,
        /// The one rule that it breaks.
        cause: String,
    },
}

/// What is particular to one authorization request.
#[derive(Clone, Debug)]
pub struct AuthorizationRequest<'a> {
    /// `redirect_uri`.
    pub redirect_uri: &'a Url,
    /// `state`.
    pub state: &'a str,
    /// `nonce`.
    pub nonce: &'a str,
    /// The PKCE verifier, of which only the S256 challenge is sent (RFC 7636, section 4.2).
    pub verifier: &'a SecretString,
    /// `prompt`, such as `select_account` or `login`.
    pub prompt: Option<&'static str>,
}

/// What is needed to redeem a code.
#[derive(Clone, Debug)]
pub struct CodeGrant<'a> {
    /// `code`.
    pub code: &'a SecretString,
    /// `redirect_uri`, the same as in the authorization request.
    pub redirect_uri: &'a Url,
    /// The nonce that the ID token must carry.
    pub nonce: &'a str,
    /// `code_verifier`.
    pub verifier: &'a SecretString,
}

impl Provider {
    /// A provider that is not discovered yet. The last good discovery document and keys, at most 24 h old, are read from
    /// `cache` and written there.
    pub fn new(settings: Arc<ProviderSettings>, cache: &Path) -> Arc<Self> {
        let _ = cache;
        Arc::new(Self { settings })
    }

    /// Discovers with back-off, then keeps metadata and keys fresh. Never returns; runs on the control plane.
    pub async fn keep_fresh(self: Arc<Self>) {}

    /// Discovery has succeeded, now or from the cache.
    pub fn ready(&self) -> bool {
        unimplemented!()
    }

    /// Where to send the browser.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] before discovery.
    pub fn authorization_url(&self, request: &AuthorizationRequest<'_>) -> Result<Url, ProviderError> {
        let _ = request;
        unimplemented!()
    }

    /// Checks `iss` of an authorization response (RFC 9207): equal where present, present where the provider announces it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`].
    pub fn check_response_issuer(&self, iss: Option<&str>) -> Result<(), ProviderError> {
        let _ = iss;
        unimplemented!()
    }

    /// Redeems a code, checks the ID token, and reads userinfo where the kind needs it.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    ///
    /// Source: OpenID Connect Core 1.0, section 3.1.3.
    pub async fn redeem(&self, grant: &CodeGrant<'_>, now: SystemTime) -> Result<SignedIn, ProviderError> {
        let _ = (grant, now);
        unimplemented!()
    }

    /// Redeems a refresh token. A new ID token must be of the same issuer, subject and audience.
    ///
    /// # Errors
    /// Any [`ProviderError`]; `Rejected` means that the session is over, if the token was the current one.
    ///
    /// Source: OpenID Connect Core 1.0, section 12.
    pub async fn refresh(&self, before: &Tokens, subject: &str, now: SystemTime) -> Result<Refreshed, ProviderError> {
        let _ = (before, subject, now);
        unimplemented!()
    }

    /// Reads the groups of `subject` at userinfo. `None`: the answer has no such claim.
    ///
    /// # Errors
    /// Any [`ProviderError`]; `AccessToken` where a refresh may help.
    ///
    /// Source: OpenID Connect Core 1.0, section 5.3.
    pub async fn userinfo_groups(
        &self,
        access: &SecretString,
        subject: &str,
    ) -> Result<Option<GroupList>, ProviderError> {
        let _ = (access, subject);
        unimplemented!()
    }

    /// Tells the provider to forget a token (RFC 7009), where it has an endpoint for that.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub async fn revoke(&self, token: &SecretString) -> Result<(), ProviderError> {
        let _ = token;
        unimplemented!()
    }

    /// Where to send the browser so that the provider's own session ends too (RP-Initiated Logout 1.0), if it can do that.
    pub fn end_session_url(&self, id_token: Option<&SecretString>, back: &Url) -> Option<Url> {
        let _ = (id_token, back);
        unimplemented!()
    }
}
