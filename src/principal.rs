//! Who asks: the words that identity, membership, policy, audit and forwarding share.

mod machine;

pub use machine::{Bearer, Holder, Job, Service, Verified};

use crate::group::{GroupPath, Role};
use serde::{Deserialize, Serialize};
use std::{
    borrow::{Borrow, Cow},
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

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

/// What a route asks of a sign-in, beyond that there was one.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct StepUp {
    /// The authentication context class that it must have reached.
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// How long ago the person may have proved who they are.
    #[serde(rename = "m", default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

/// Why a sign-in is not what a [`StepUp`] asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lack {
    /// It reached another authentication context class, or none.
    Acr,
    /// Nobody said when the person proved who they are.
    Untimed,
    /// They did so too long ago.
    Old,
}

impl StepUp {
    /// A difference between a provider's clock and ours that is forgiven. The same holds when a sign-in ends and at every
    /// request, so that whoever has just satisfied it is not sent round again.
    const LEEWAY: Duration = Duration::from_secs(60);

    /// What a sign-in lacks at `now`; none if it suffices.
    ///
    /// Source: OpenID Connect Core 1.0, section 3.1.3.7, items 12 and 13; RFC 9470, section 5.
    pub fn lacking(&self, strength: &Strength, now: SystemTime) -> Option<Lack> {
        if self.acr.as_deref().is_some_and(|acr| strength.acr.as_deref() != Some(acr)) {
            return Some(Lack::Acr);
        }
        match (self.max_age, strength.auth_time) {
            (None, _) => None,
            (Some(_), None) => Some(Lack::Untimed),
            (Some(max_age), Some(proved)) => {
                let is_recent = now
                    .duration_since(proved)
                    .map_or_else(|ahead| ahead.duration() <= Self::LEEWAY, |age| age <= max_age + Self::LEEWAY);
                (!is_recent).then_some(Lack::Old)
            }
        }
    }
}

/// Where a membership was read.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MembershipSource {
    /// The provider's userinfo endpoint, with the person's own access token.
    Userinfo,
    /// A claim of an ID token.
    IdToken,
    /// GitLab's API, with a service token.
    Api,
    /// Microsoft Graph, with the application's own credentials.
    Graph,
    /// A claim of the token that the caller came with.
    Token,
}

impl MembershipSource {
    /// The word that audit events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Userinfo => "userinfo",
            Self::IdToken => "id_token",
            Self::Api => "api",
            Self::Graph => "graph",
            Self::Token => "token",
        }
    }
}

/// A membership that was read, perhaps empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Groups {
    /// Every group the person is effectively a member of, sorted, without doubles.
    pub paths: Arc<[GroupPath]>,
    /// The role in each group that policies name and where the person has one, where roles are read; sorted by path.
    pub roles: Arc<[(GroupPath, Role)]>,
    /// Groups that policies name and of which nobody can say now whether the person is a member; sorted.
    pub unread: Arc<[GroupPath]>,
    /// Where it was read.
    pub source: MembershipSource,
    /// When it was read.
    pub read: SystemTime,
    /// Changes exactly when `paths`, `roles`, `unread` or `aside` change; unique in the process across all people.
    pub version: u64,
    /// Used although older than its interval, because the provider cannot be reached.
    pub stale: bool,
    /// The same for the shadow policies, where those name groups that are read for them alone.
    pub aside: Option<Arc<Groups>>,
}

/// A version that no membership had before.
pub fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
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
    /// The provider said that it changed, and was not read since.
    Changed,
}

impl Unknown {
    /// The word that audit events use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NeverRead => "never_read",
            Self::TooOld => "too_old",
            Self::Incomplete => "incomplete",
            Self::Changed => "changed",
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
    /// A CI job.
    Job {
        /// Which one.
        job: Arc<Job>,
        /// The groups of the person behind it, as far as known.
        membership: Membership,
    },
    /// A machine with a token or a certificate of its own.
    Service {
        /// Which one.
        service: Arc<Service>,
        /// Its groups, as far as its token says them.
        membership: Membership,
    },
}

impl Principal {
    /// When their groups were read, as far as known.
    pub fn groups_read(&self) -> Option<SystemTime> {
        match self.membership()? {
            Membership::Known(groups) => Some(groups.read),
            Membership::Unknown(_) => None,
        }
    }

    /// The person who asks, if it is one; not the one behind a job.
    pub fn person(&self) -> Option<&Arc<Person>> {
        match self {
            Self::User { person, .. } => Some(person),
            Self::Anonymous | Self::Job { .. } | Self::Service { .. } => None,
        }
    }

    /// The same as the shadow policies see it.
    pub fn aside(&self) -> Cow<'_, Self> {
        let Some(Membership::Known(Groups { aside: Some(groups), .. })) = self.membership() else {
            return Cow::Borrowed(self);
        };
        let groups = Membership::Known(Groups::clone(groups));
        let mut seen = self.clone();
        match &mut seen {
            Self::Anonymous => {}
            Self::User { membership, .. } | Self::Job { membership, .. } | Self::Service { membership, .. } => {
                *membership = groups;
            }
        }
        Cow::Owned(seen)
    }

    /// Whose groups are known or not: the person's, the service's, or those of the person behind a job.
    pub fn membership(&self) -> Option<&Membership> {
        match self {
            Self::Anonymous => None,
            Self::User { membership, .. } | Self::Job { membership, .. } | Self::Service { membership, .. } => {
                Some(membership)
            }
        }
    }

    /// How they signed in, if they are a person.
    pub fn strength(&self) -> Option<&Strength> {
        match self {
            Self::User { strength, .. } => Some(strength),
            Self::Anonymous | Self::Job { .. } | Self::Service { .. } => None,
        }
    }

    /// Nobody known.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}

/// Whoever asks, with all that may be told of them but their membership.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Nobody known.
    Nobody,
    /// A person.
    Person(Arc<Person>),
    /// A CI job.
    Job(Arc<Job>),
    /// A machine.
    Service(Arc<Service>),
}

impl Asker {
    /// Who `principal` is.
    pub fn of(principal: &Principal) -> Self {
        match principal {
            Principal::Anonymous => Self::Nobody,
            Principal::User { person, .. } => Self::Person(person.clone()),
            Principal::Job { job, .. } => Self::Job(job.clone()),
            Principal::Service { service, .. } => Self::Service(service.clone()),
        }
    }

    /// The id of its Cedar entity.
    pub fn id(&self) -> Option<&UserId> {
        match self {
            Self::Nobody => None,
            Self::Person(person) => Some(&person.id),
            Self::Job(job) => Some(&job.id),
            Self::Service(service) => Some(&service.id),
        }
    }

    /// Whose groups it may be a member of: those of its provider or token issuer; for a job, those that its person may be.
    pub fn provider(&self) -> Option<&str> {
        match self {
            Self::Job(job) => Some(job.namespace.as_str()),
            Self::Nobody | Self::Person(_) | Self::Service(_) => self.id().map(|id| id.provider.as_str()),
        }
    }

    /// The same, attribute by attribute.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nobody, Self::Nobody) => true,
            (Self::Person(one), Self::Person(other)) => Arc::ptr_eq(one, other) || one == other,
            (Self::Job(one), Self::Job(other)) => Arc::ptr_eq(one, other) || one == other,
            (Self::Service(one), Self::Service(other)) => Arc::ptr_eq(one, other) || one == other,
            (Self::Nobody | Self::Person(_) | Self::Job(_) | Self::Service(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn a_sign_in_suffices_by_class_and_age() {
        let now = UNIX_EPOCH + Duration::from_secs(1_789_000_000);
        let seconds = Duration::from_secs;
        let strength =
            |acr: Option<&str>, auth_time| Strength { auth_time, acr: acr.map(Into::into), ..Strength::default() };
        let class = StepUp { acr: Some("2".into()), max_age: None };
        for (acr, lack) in
            [(Some("2"), None), (Some("22"), Some(Lack::Acr)), (Some(""), Some(Lack::Acr)), (None, Some(Lack::Acr))]
        {
            assert_eq!(class.lacking(&strength(acr, None), now), lack, "{acr:?}");
        }
        let age = StepUp { acr: None, max_age: Some(seconds(900)) };
        assert_eq!(age.lacking(&strength(None, None), now), Some(Lack::Untimed));
        for (proved, lack) in [
            (now, None),
            (now - seconds(960), None),
            (now - seconds(961), Some(Lack::Old)),
            (now + seconds(60), None),
            (now + seconds(61), Some(Lack::Old)),
        ] {
            assert_eq!(age.lacking(&strength(None, Some(proved)), now), lack, "{proved:?}");
        }
        assert_eq!(StepUp::default().lacking(&Strength::default(), now), None);
    }
}
