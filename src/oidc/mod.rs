//! OpenID providers: discovery, keys, the code flow, ID-token rules, refresh and userinfo.
//!
//! Knows nothing of sessions and cookies.

mod answer;
mod cache;
mod checks;
mod ci;
mod claims;
mod clock;
mod discovery;
mod explain;
mod flow;
mod fresh;
mod graph;
mod groups;
pub(crate) mod http;
mod id_token;
mod introspection;
mod issuer;
mod issuer_probe;
mod jws;
mod keys;
mod logout_token;
mod probe;
mod rp;
mod signature;
#[cfg(test)]
pub(crate) mod testing;
mod token;

pub use checks::{Check, Limit, TokenFault, Way};
pub use ci::described as described_job;
pub use explain::{Explanation, Good, Look, Outcome, Place, Shape, Source};
pub use introspection::GOOD as ASKED_GOOD;
pub use issuer::{Issuer, issuer_of};
pub use issuer_probe::probe_issuer;
pub use logout_token::LogoutToken;
pub use probe::{Wanted, probe};
pub use token::{Whose, bare, claimed, hash};

use self::{cache::CacheFile, discovery::Document, graph::Graph, groups::Lists, http::Http, keys::Keys};
use crate::{
    config::ProviderSettings,
    group::GroupPath,
    principal::{Lack, MembershipSource, Person, StepUp, Strength},
};
use arc_swap::ArcSwapOption;
use secrecy::SecretString;
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};
use tokio::sync::Notify;
use url::Url;

/// One provider: what it published about itself, its keys, and our client there.
///
/// Its asynchronous functions belong on the control plane, spawned, so that a client who leaves cancels none of them:
/// a refresh token that was redeemed unseen is lost.
pub struct Provider {
    /// As configured.
    pub settings: Arc<ProviderSettings>,
    http: Http,
    document: ArcSwapOption<Document>,
    keys: Keys,
    graph: Graph,
    cache: CacheFile,
    status: Mutex<Status>,
    changed: Notify,
    /// Which of its answers have had the groups claim.
    lists: Lists,
}

/// How it stands with a provider, for health and metrics.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// When its discovery document was read, by this process or by the one that left it in the cache.
    pub discovered: Option<SystemTime>,
    /// When its keys were read.
    pub keys_read: Option<SystemTime>,
    /// Seconds by which its clock was ahead of ours at the last answer; negative if behind. Above 5 s it is warned of;
    /// above 60 s nobody can sign in.
    pub clock_ahead: Option<i64>,
    /// Why the last attempt to read either failed; absent after one that succeeded.
    pub last_error: Option<String>,
}

/// The tokens a provider gave for one session.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For userinfo.
    pub access: Access,
    /// When the access token ends.
    pub access_expires: SystemTime,
    /// When this access token was given; read-ahead starts at three quarters of its life.
    pub issued: SystemTime,
    /// To get the next pair.
    pub refresh: Option<SecretString>,
    /// The last ID token, for `id_token_hint` at sign-out.
    pub id: Option<SecretString>,
}

/// An access token, and how far it goes.
#[derive(Clone, Debug)]
pub struct Access {
    /// The token.
    pub token: SecretString,
    /// The provider granted fewer scopes than were asked for: what its answers leave out says nothing then.
    pub narrowed: bool,
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
    /// When and how they proved who they are.
    pub strength: Strength,
    /// Groups, if the answers had the claim and a list that can be read whole.
    pub groups: Option<GroupList>,
}

/// What a refresh brought.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The tokens to use from now on; what the answer left out is kept from before.
    pub tokens: Tokens,
    /// Groups, if the answer's ID token had the claim and could be checked.
    pub groups: Option<GroupList>,
}

/// Why a provider's answer is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// Nobody answered, or not in time, or with 429 or 5xx, or the token endpoint with nothing that is an answer of it,
    /// such as a maintenance page, or discovery has not succeeded yet.
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
    /// 401 or 403 from userinfo: the access token is over, or the person is.
    #[error("provider `{provider}` does not accept the access token")]
    AccessToken {
        /// The provider.
        provider: String,
        /// Its answer's status.
        status: ::http::StatusCode,
    },
    /// Okta fails a sign-in whose groups claim would list more than it has room for.
    #[error("provider `{provider}` does not list the person's groups: {description}")]
    TooManyGroups {
        /// The provider.
        provider: String,
        /// `error_description`, cut and without control characters.
        description: String,
    },
    /// The person is who they say, and of a tenant or domain that is not let in.
    #[error("provider `{provider}` signed in somebody who is not let in: {cause}")]
    Outsider {
        /// The provider.
        provider: String,
        /// What is not listed.
        cause: String,
        /// The same for the person.
        sentence: String,
    },
    /// The sign-in is not the one that was asked for by `acr_values` or `max_age`.
    #[error("provider `{provider}` did not sign the person in as it was asked to: {cause}")]
    Insufficient {
        /// The provider.
        provider: String,
        /// What it lacks.
        lack: Lack,
        /// What was asked for, and what came.
        cause: String,
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
    /// `login_hint`: whom to sign in.
    pub login_hint: Option<&'a str>,
    /// `acr_values` and `max_age`: what the sign-in has to be.
    pub step_up: Option<&'a StepUp>,
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
    /// What the authorization request asked for, which the sign-in must be.
    pub step_up: Option<&'a StepUp>,
}

impl Provider {
    /// A provider that is not discovered yet. The last good discovery document and keys, at most 24 h old, are read from
    /// `cache` and written there.
    pub fn new(settings: Arc<ProviderSettings>, cache: &Path) -> Arc<Self> {
        let provider = Self {
            http: Http::new(&settings.issuer),
            cache: CacheFile::new(cache, &settings.name),
            settings,
            document: ArcSwapOption::empty(),
            keys: Keys::default(),
            graph: Graph::default(),
            status: Mutex::default(),
            changed: Notify::new(),
            lists: Lists::default(),
        };
        provider.recall(SystemTime::now());
        Arc::new(provider)
    }

    /// Discovers with back-off, then reads the document again every hour and the keys every 9 min. Never returns; runs
    /// on the control plane.
    pub async fn keep_fresh(self: Arc<Self>) {
        self.run().await;
    }

    /// The issuer, as configured.
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }

    /// Discovery has succeeded, now or from the cache, and the keys are at most 24 h old: people can sign in.
    pub fn ready(&self) -> bool {
        self.document.load().is_some() && self.usable_keys(SystemTime::now()).is_ok()
    }

    /// Waits until [`Self::ready`].
    pub async fn until_ready(&self) {
        loop {
            let changed = self.changed.notified();
            if self.ready() {
                return;
            }
            changed.await;
        }
    }

    /// How it stands with this provider.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// When it last answered anything that was asked of it, if it did.
    pub fn answered(&self) -> Option<SystemTime> {
        self.http.answered()
    }

    /// Where to send the browser.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] before discovery.
    pub fn authorization_url(&self, request: &AuthorizationRequest<'_>) -> Result<Url, ProviderError> {
        self.build_authorization_url(request)
    }

    /// Checks `iss` of an authorization response (RFC 9207): equal where present, present where the provider announces it.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`]; [`ProviderError::Unavailable`] before discovery.
    pub fn check_response_issuer(&self, iss: Option<&str>) -> Result<(), ProviderError> {
        match iss {
            Some(iss) if iss == self.settings.issuer => Ok(()),
            Some(_) => Err(self.invalid("the `iss` of its authorization response is another issuer's")),
            None if self.document()?.names_itself_in_responses() => {
                Err(self.invalid("its authorization response has no `iss`, which its discovery document promises"))
            }
            None => Ok(()),
        }
    }

    /// Redeems a code, checks the ID token, and reads userinfo where the kind needs it or the ID token has no groups or
    /// username. An access token without `expires_in` is taken to live 1 h.
    ///
    /// # Errors
    /// Any [`ProviderError`].
    ///
    /// Source: OpenID Connect Core 1.0, section 3.1.3.
    pub async fn redeem(&self, grant: &CodeGrant<'_>, now: SystemTime) -> Result<SignedIn, ProviderError> {
        self.redeem_code(grant, now).await
    }

    /// Redeems a refresh token. A new ID token must be of the same issuer, subject and audience, with no nonce or the
    /// same. Where the answer has no refresh or ID token, the one from before is kept; where it has no `expires_in`,
    /// the access token is taken to live 1 h. A new ID token whose key cannot be had is not used, as if it were left out.
    ///
    /// # Errors
    /// Any [`ProviderError`]; `Rejected` means that the session is over, if the token was the current one.
    ///
    /// Source: OpenID Connect Core 1.0, section 12.
    pub async fn refresh(&self, before: &Tokens, subject: &str, now: SystemTime) -> Result<Refreshed, ProviderError> {
        self.refresh_tokens(before, subject, now).await
    }

    /// Reads the groups of `subject` where the tokens do not have them: at userinfo; for Entra at Graph, if that is
    /// configured. `None`: the answer has no such claim, or a list that cannot be read whole, so nobody can say.
    ///
    /// # Errors
    /// Any [`ProviderError`]; `AccessToken` where a refresh may help.
    ///
    /// Source: OpenID Connect Core 1.0, section 5.3.
    pub async fn groups_of(&self, access: &Access, subject: &str) -> Result<Option<GroupList>, ProviderError> {
        self.read_groups(access, subject).await
    }

    /// Tells the provider to forget a token (RFC 7009), where it has an endpoint for that.
    ///
    /// # Errors
    /// Any [`ProviderError`] but `AccessToken`; nothing in it is worth more than a warning.
    pub async fn revoke(&self, token: &SecretString) -> Result<(), ProviderError> {
        self.revoke_token(token).await
    }

    /// Where to send the browser so that the provider's own session ends too (RP-Initiated Logout 1.0), if it can do that.
    /// It comes back to `back` with `state`.
    pub fn end_session_url(&self, id_token: Option<&SecretString>, back: &Url, state: &str) -> Option<Url> {
        self.build_end_session_url(id_token, back, state)
    }

    /// Verifies what the provider says when it ends a session by itself.
    ///
    /// # Errors
    /// [`ProviderError::Invalid`]; [`ProviderError::Unavailable`] where its keys cannot be had.
    ///
    /// Source: OpenID Connect Back-Channel Logout 1.0, section 2.6.
    pub async fn logout_token(&self, token: &str, now: SystemTime) -> Result<LogoutToken, ProviderError> {
        self.verified_logout(token, now).await
    }
}
