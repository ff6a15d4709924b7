//! Who asks: the words that identity, membership, policy, audit and forwarding share.

use crate::group::GroupPath;
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc, time::SystemTime};

/// The name of a provider, token issuer or route in the configuration: `[a-z][a-z0-9-]*`, at most 63 bytes.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name(Arc<str>);

/// A text that is not a [`Name`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a name: expected a lower-case letter, then letters, digits and `-`, at most 63 in all")]
pub struct NameError(pub String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = text.len() <= 63
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self(text.into())) } else { Err(NameError(text.to_owned())) }
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// One person at one provider. The key is (provider, subject), never a login or an e-mail address.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UserId {
    /// The provider's name in the configuration.
    pub provider: Name,
    /// The provider's stable subject (`sub`), such as `907`.
    pub subject: Arc<str>,
}

/// Writes `gitlab:907`, which is also the id of the Cedar entity `User`.
impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.provider, self.subject)
    }
}

/// A person as the provider described them at sign-in or at the last refresh.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Person {
    /// Provider and subject.
    pub id: UserId,
    /// The provider's issuer, as in its discovery document.
    pub issuer: Arc<str>,
    /// `preferred_username`; the subject where the provider gives none. May change.
    pub login: Arc<str>,
    /// Present only if the provider said `email_verified: true`.
    pub email: Option<Arc<str>>,
    /// The full name, for display.
    pub name: Option<Arc<str>>,
}

/// Facts about the session a request came with, as policies may ask for them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Strength {
    /// When the session began.
    pub created: Option<SystemTime>,
    /// When the provider last saw the person prove who they are (`auth_time`).
    pub auth_time: Option<SystemTime>,
    /// Authentication methods (`amr`).
    pub amr: Arc<[String]>,
    /// Authentication context class (`acr`).
    pub acr: Option<Arc<str>>,
}

/// Where a membership was read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MembershipSource {
    /// The provider's userinfo endpoint, with the person's own access token.
    Userinfo,
    /// A claim of an ID token.
    IdToken,
}

impl MembershipSource {
    /// The word that audit events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Userinfo => "userinfo",
            Self::IdToken => "id_token",
        }
    }
}

/// A membership that was read, perhaps empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Groups {
    /// Every group the person is effectively a member of, sorted, without doubles.
    pub paths: Arc<[GroupPath]>,
    /// Where it was read.
    pub source: MembershipSource,
    /// When it was read.
    pub read: SystemTime,
    /// Changes exactly when `paths` changes; unique in the process across all people.
    pub version: u64,
    /// Used although older than its interval, because the provider cannot be reached.
    pub stale: bool,
}

/// Why nobody can say which groups a person is in.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Unknown {
    /// No read has succeeded yet.
    NeverRead,
    /// The last good read is too old and the provider does not answer.
    TooOld,
    /// The provider answered without the list, or with one that it had cut.
    Incomplete,
}

impl Unknown {
    /// The word that audit events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverRead => "never_read",
            Self::TooOld => "too_old",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The three states of membership: known (perhaps empty) or unknown. Unknown is never empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Membership {
    /// Read, and fresh enough to decide with.
    Known(Groups),
    /// Not to be decided with.
    Unknown(Unknown),
}

/// Who a decision is about.
#[derive(Clone, Debug)]
pub enum Principal {
    /// No credential, or a cookie that names no live session.
    Anonymous,
    /// A person with a live session.
    User {
        /// Who they are.
        person: Arc<Person>,
        /// Their groups, as far as known.
        membership: Membership,
        /// How and when they signed in.
        strength: Arc<Strength>,
    },
}

impl Principal {
    /// The person, if it is one.
    pub fn person(&self) -> Option<&Arc<Person>> {
        match self {
            Self::Anonymous => None,
            Self::User { person, .. } => Some(person),
        }
    }
}
