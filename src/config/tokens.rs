//! `token_issuers` as meant: who vouches for callers with tokens of their own.

use super::ProviderKind;
use crate::{
    group::GroupPath,
    principal::{Name, UserId},
};
use secrecy::SecretString;
use serde_json::{Map, Value};
use std::{collections::BTreeMap, time::Duration};
use url::Url;

/// One token issuer.
#[derive(Clone, Debug)]
pub struct TokenIssuerSettings {
    /// Its name; the prefix of the ids of its services, and of its people where it has no `provider`.
    pub name: Name,
    /// Whose tokens they are.
    pub kind: TokenKind,
    /// `iss`, byte for byte; none where tokens are known by a prefix or are certificates.
    pub issuer: Option<String>,
    /// The provider whose people these are.
    pub provider: Option<Name>,
    /// What that provider is.
    pub provider_kind: Option<ProviderKind>,
    /// One of these is in `aud`.
    pub audiences: Vec<String>,
    /// The signature algorithms that are accepted.
    pub algorithms: Vec<String>,
    /// How old a token may be, whatever its `exp`. Default 1 h.
    pub max_age: Duration,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where the keys of a token issuer are.
#[derive(Clone, Debug, PartialEq)]
pub enum KeySource {
    /// Its discovery document says it.
    Discovery,
    /// Here.
    Uri(Url),
    /// They were read from a file.
    Fixed(Map<String, Value>),
}

/// What kind of tokens an issuer gives.
#[derive(Clone, Debug)]
pub enum TokenKind {
    /// ID tokens of GitLab's CI jobs.
    GitlabCi(GitlabCi),
    /// Signed access tokens and assertions.
    Jwt(JwtTokens),
    /// Tokens that the issuer is asked about.
    Introspection(Introspection),
    /// Certificates of clients, which a listener has verified.
    Certificate,
}

impl TokenKind {
    /// The word of the configuration.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::GitlabCi(_) => "gitlab_ci",
            Self::Jwt(_) => "jwt",
            Self::Introspection(_) => "introspection",
            Self::Certificate => "certificate",
        }
    }
}

/// What is particular to CI jobs.
#[derive(Clone, Debug, Default)]
pub struct GitlabCi {
    /// Projects whose id is known.
    pub projects: BTreeMap<GroupPath, u64>,
    /// Without `job_project_id` the source project is believed to be the one that runs the job.
    pub legacy_project: bool,
    /// GitLab's API, without a `/` at its end.
    pub api: String,
    /// How old-style job tokens begin, if they are taken.
    pub job_token_prefix: Option<String>,
}

/// What is particular to signed tokens.
#[derive(Clone, Debug)]
pub struct JwtTokens {
    /// What they speak for.
    pub principal: TokenPrincipal,
    /// The only `typ`, if there is only one.
    pub media_type: Option<String>,
    /// What they call what they say.
    pub claims: TokenClaims,
}

/// What is particular to tokens that the issuer is asked about.
#[derive(Clone, Debug)]
pub struct Introspection {
    /// What they speak for.
    pub principal: TokenPrincipal,
    /// Where the issuer is asked.
    pub endpoint: Url,
    /// As whom.
    pub client_id: String,
    /// With which secret.
    pub client_secret: SecretString,
    /// How opaque tokens of this issuer begin.
    pub prefix: Option<String>,
    /// What the answers call what they say.
    pub claims: TokenClaims,
}

/// What a token speaks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenPrincipal {
    /// A person.
    User,
    /// A machine.
    Service,
}

/// The claims that a caller is described by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenClaims {
    /// Who it is. Default `sub`.
    pub subject: String,
    /// The login. Default: `preferred_username`, then `username`.
    pub login: Option<String>,
    /// The list of groups. Default `groups`.
    pub groups: String,
    /// The client that a service is. Default: `client_id`, `azp`, `cid`, `appid`.
    pub client_id: Option<String>,
    /// The scopes. Default: `scope`, then `scp`.
    pub scopes: Option<String>,
}

impl Default for TokenClaims {
    fn default() -> Self {
        Self { subject: "sub".into(), login: None, groups: "groups".into(), client_id: None, scopes: None }
    }
}

impl TokenIssuerSettings {
    /// What the ids of its people, groups and projects begin with: the name of their provider, or its own.
    pub fn namespace(&self) -> &Name {
        self.provider.as_ref().unwrap_or(&self.name)
    }

    /// The id of one of its people.
    pub fn user(&self, subject: &str) -> UserId {
        UserId { provider: self.namespace().clone(), subject: subject.into() }
    }

    /// How its opaque tokens begin.
    pub fn prefix(&self) -> Option<&str> {
        match &self.kind {
            TokenKind::GitlabCi(ci) => ci.job_token_prefix.as_deref(),
            TokenKind::Introspection(asked) => asked.prefix.as_deref(),
            TokenKind::Jwt(_) | TokenKind::Certificate => None,
        }
    }

    /// The secret that it is asked with.
    pub fn secret(&self) -> Option<&SecretString> {
        match &self.kind {
            TokenKind::Introspection(asked) => Some(&asked.client_secret),
            TokenKind::GitlabCi(_) | TokenKind::Jwt(_) | TokenKind::Certificate => None,
        }
    }

    /// It vouches for CI jobs.
    pub fn has_jobs(&self) -> bool {
        matches!(self.kind, TokenKind::GitlabCi(_))
    }

    /// It vouches for people.
    pub fn has_people(&self) -> bool {
        !self.has_jobs() && !self.has_services()
    }

    /// It vouches for services, whose ids begin with its name.
    pub fn has_services(&self) -> bool {
        match &self.kind {
            TokenKind::GitlabCi(_) => false,
            TokenKind::Jwt(JwtTokens { principal, .. }) | TokenKind::Introspection(Introspection { principal, .. }) => {
                *principal == TokenPrincipal::Service
            }
            TokenKind::Certificate => true,
        }
    }
}
