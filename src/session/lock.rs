//! Locks: who is kept out for a while, whatever policies say.

use crate::{
    group::GroupPath,
    guid::{self, Guid},
    principal::{Membership, Name, UserId},
};
use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

/// Whom a lock keeps out.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Target {
    /// One person.
    User(UserId),
    /// Everybody who signs in with this provider.
    Provider(Name),
    /// The members of a group.
    Group(Members),
}

/// The members of a group at a provider.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Members {
    /// The provider.
    pub provider: Name,
    /// The group.
    pub group: GroupPath,
    /// And of all groups below it.
    pub below: bool,
}

/// Why a text names nobody.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// No user.
    #[error("`{0}` names no user: expected `PROVIDER:SUBJECT`, such as `gitlab:907`")]
    User(String),
    /// No provider.
    #[error("`{0}` is not the name of a provider")]
    Provider(String),
    /// No group.
    #[error("`{0}` names no group: expected `PROVIDER:GROUP` or `PROVIDER:GROUP/**`, such as `gitlab:acme/platform`")]
    Group(String),
}

/// A lock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lock {
    /// Whom it keeps out. There is one lock for each.
    pub target: Target,
    /// Why; the people who are kept out read it.
    pub reason: Arc<str>,
    /// Until when; none: until it is taken away.
    pub until: Option<SystemTime>,
    /// Since when.
    pub since: SystemTime,
    /// Who set it, such as `uid 0`.
    pub by: Arc<str>,
}

/// Why a lock cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("a stored lock cannot be read: {0}")]
pub struct LockError(String);

/// What the locks say about somebody.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Barred {
    /// They are kept out.
    By(Arc<Lock>),
    /// Members of some group are, and nobody can say whether this is one.
    Unknown,
}

/// The locks in force. Asking costs a load of one atomic while there is none.
#[derive(Default)]
pub struct Locks {
    count: AtomicUsize,
    /// Changes whenever the locks do.
    version: AtomicU64,
    all: ArcSwap<Vec<Arc<Lock>>>,
}

#[derive(Deserialize, Serialize)]
struct Written {
    version: u8,
    kind: String,
    target: String,
    reason: String,
    until: Option<u64>,
    since: u64,
    by: String,
}

impl Members {
    /// True for a person with these groups.
    fn includes(&self, groups: &[GroupPath]) -> bool {
        groups.iter().any(|group| if self.below { self.group.contains(group) } else { self.group == *group })
    }
}

/// Writes `gitlab:acme/platform`, or `gitlab:acme/**`.
impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.provider, self.group, if self.below { "/**" } else { "" })
    }
}

impl std::str::FromStr for Members {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError::Group(text.to_owned());
        let (provider, path) = text.split_once(':').ok_or_else(wrong)?;
        let (path, below) = path.strip_suffix("/**").map_or((path, false), |path| (path, true));
        if path.contains('*') {
            return Err(wrong());
        }
        Ok(Self { provider: provider.parse().map_err(|_| wrong())?, group: path.parse().map_err(|_| wrong())?, below })
    }
}

impl Target {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Provider(_) => "provider",
            Self::Group(_) => "group",
        }
    }

    /// Reads a target of a kind.
    ///
    /// # Errors
    /// Any [`TargetError`]; a kind that does not exist is no user.
    pub fn parse(kind: &str, text: &str) -> Result<Self, TargetError> {
        match kind {
            "provider" => text.parse().map(Self::Provider).map_err(|_| TargetError::Provider(text.to_owned())),
            "group" => text.parse().map(Self::Group),
            "user" => user(text).map(Self::User).ok_or_else(|| TargetError::User(text.to_owned())),
            _ => Err(TargetError::User(text.to_owned())),
        }
    }

    /// The same with GUIDs in lower case, as people and groups of Entra have them here.
    pub fn in_lower_case(self) -> Self {
        match self {
            Self::User(UserId { provider, subject }) => {
                let subject = guid::person(&subject).map_or(subject, Into::into);
                Self::User(UserId { provider, subject })
            }
            Self::Group(Members { provider, group, below }) => {
                let guid = group.as_str().parse::<Guid>().ok();
                let group = guid.and_then(|guid| guid.as_str().parse().ok()).unwrap_or(group);
                Self::Group(Members { provider, group, below })
            }
            Self::Provider(provider) => Self::Provider(provider),
        }
    }

    /// False for a user who is named by anything but the ids of tenant and person: nobody of Entra is.
    pub fn may_be_of_entra(&self) -> bool {
        match self {
            Self::User(user) => guid::person(&user.subject).is_some(),
            Self::Provider(_) | Self::Group(_) => true,
        }
    }

    /// The provider that it is about.
    pub fn provider(&self) -> &Name {
        match self {
            Self::User(user) => &user.provider,
            Self::Provider(provider) => provider,
            Self::Group(members) => &members.provider,
        }
    }

    /// Whether it means this person or service; `None` if that hinges on groups that are not known.
    pub fn means(&self, person: &UserId, membership: &Membership) -> Option<bool> {
        if *self.provider() != person.provider {
            return Some(false);
        }
        match (self, membership) {
            (Self::User(user), _) => Some(user == person),
            (Self::Provider(_), _) => Some(true),
            (Self::Group(members), Membership::Known(groups)) if members.includes(&groups.paths) => Some(true),
            (Self::Group(members), Membership::Known(groups)) => (!members.includes(&groups.unread)).then_some(false),
            (Self::Group(_), Membership::Unknown(_)) => None,
        }
    }

    /// The name under which the lock is stored.
    pub fn name(&self) -> [u8; 32] {
        crate::text::sha256(format!("{} {self}", self.kind()).as_bytes())
    }
}

/// Writes what it means, without its kind.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Provider(provider) => provider.fmt(f),
            Self::Group(members) => members.fmt(f),
        }
    }
}

/// Reads `gitlab:907`.
pub fn user(text: &str) -> Option<UserId> {
    let (provider, subject) = text.split_once(':')?;
    let provider = provider.parse().ok()?;
    (!subject.is_empty()).then(|| UserId { provider, subject: subject.into() })
}

impl Lock {
    /// It keeps people out at `now`.
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// As it is stored. It is not sealed: a key of the ring that is lost or retired must not lift it.
    pub fn write(&self) -> Vec<u8> {
        let written = Written {
            version: 1,
            kind: self.target.kind().to_owned(),
            target: self.target.to_string(),
            reason: self.reason.to_string(),
            until: self.until.map(super::log::millis),
            since: super::log::millis(self.since),
            by: self.by.to_string(),
        };
        serde_json::to_vec(&written).expect("strings and numbers are JSON")
    }

    /// What [`Lock::write`] gave.
    ///
    /// # Errors
    /// [`LockError`]: nobody may be let through for that.
    pub fn read(bytes: &[u8]) -> Result<Self, LockError> {
        let written: Written = serde_json::from_slice(bytes).map_err(|error| LockError(error.to_string()))?;
        if written.version != 1 {
            return Err(LockError(format!("it has format {}, expected 1", written.version)));
        }
        let target = Target::parse(&written.kind, &written.target).map_err(|error| LockError(error.to_string()))?;
        Ok(Self {
            target,
            reason: written.reason.into(),
            until: written.until.map(super::log::moment),
            since: super::log::moment(written.since),
            by: written.by.into(),
        })
    }
}

impl Locks {
    /// Nobody is locked.
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Changes whenever the locks do.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The locks, also those whose time is over.
    pub fn all(&self) -> Arc<Vec<Arc<Lock>>> {
        self.all.load_full()
    }

    /// Takes these in place of those of before.
    pub fn replace(&self, locks: Vec<Lock>) {
        if self.all.load().iter().map(|lock| &**lock).eq(&locks) {
            return;
        }
        let count = locks.len();
        self.all.store(Arc::new(locks.into_iter().map(Arc::new).collect()));
        self.count.store(count, Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// Some lock hinges on the groups of people of this provider.
    pub fn asks_for_groups(&self, provider: &Name, now: SystemTime) -> bool {
        let asks = |lock: &&Arc<Lock>| matches!(&lock.target, Target::Group(members) if members.provider == *provider);
        self.all.load().iter().filter(asks).any(|lock| lock.is_in_force(now))
    }

    /// What they say about a person at `now`. One that surely keeps them out comes before one that might.
    pub fn bar(&self, person: &UserId, membership: &Membership, now: SystemTime) -> Option<Barred> {
        let all = self.all.load();
        let mut unknown = None;
        for lock in all.iter().filter(|lock| lock.is_in_force(now)) {
            match lock.target.means(person, membership) {
                Some(true) => return Some(Barred::By(lock.clone())),
                Some(false) => {}
                None => unknown = Some(Barred::Unknown),
            }
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::{Groups, MembershipSource, Unknown};
    use std::time::Duration;

    fn person(user: &str) -> UserId {
        super::user(user).expect("a user")
    }

    fn known(paths: &[&str]) -> Membership {
        Membership::Known(Groups {
            paths: paths.iter().map(|path| path.parse().expect("a path")).collect(),
            roles: Arc::default(),
            unread: Arc::default(),
            source: MembershipSource::Userinfo,
            read: SystemTime::now(),
            version: 1,
            stale: false,
            aside: None,
        })
    }

    fn lock(kind: &str, target: &str, until: Option<SystemTime>) -> Lock {
        Lock {
            target: Target::parse(kind, target).expect("a target"),
            reason: "stolen laptop".into(),
            until,
            since: super::super::log::moment(1_795_416_594_250),
            by: "uid 0".into(),
        }
    }

    #[test]
    fn a_lock_means_a_user_a_provider_or_the_members_of_a_group() {
        let (unknown, none) = (Membership::Unknown(Unknown::NeverRead), known(&[]));
        for (kind, target, user, membership, expected) in [
            ("user", "gitlab:907", "gitlab:907", &unknown, Some(true)),
            ("user", "gitlab:907", "gitlab:90", &none, Some(false)),
            ("user", "gitlab:907", "okta:907", &none, Some(false)),
            ("provider", "gitlab", "gitlab:1", &unknown, Some(true)),
            ("provider", "gitlab", "okta:1", &unknown, Some(false)),
            ("group", "gitlab:acme/platform", "gitlab:1", &known(&["acme/platform"]), Some(true)),
            ("group", "gitlab:acme/platform", "gitlab:1", &known(&["acme/platform/x", "acme"]), Some(false)),
            ("group", "gitlab:acme/**", "gitlab:1", &known(&["acme/platform"]), Some(true)),
            ("group", "gitlab:acme/**", "gitlab:1", &known(&["acme"]), Some(true)),
            ("group", "gitlab:acme/**", "gitlab:1", &known(&["acmes"]), Some(false)),
            ("group", "gitlab:acme/**", "gitlab:1", &unknown, None),
            ("group", "gitlab:acme/**", "okta:1", &unknown, Some(false)),
        ] {
            let target = Target::parse(kind, target).expect("a target");
            assert_eq!(target.means(&person(user), membership), expected, "{target} {user} {membership:?}");
        }
        for (kind, text) in [
            ("user", "907"),
            ("user", "gitlab:"),
            ("user", "Git:1"),
            ("provider", "a b"),
            ("group", "acme"),
            ("group", "gitlab:a//b"),
            ("group", "gitlab:*"),
            ("group", "gitlab:a/*"),
            ("group", "gitlab:/**"),
            ("host", "x"),
        ] {
            assert!(Target::parse(kind, text).is_err(), "{kind} {text}");
        }
    }

    /// However its GUIDs are written, it means whom Entra's tokens name, which are read in lower case.
    #[test]
    fn a_target_of_entra_has_one_spelling() {
        let (tenant, object) = ("72f988bf-86f1-41af-91ab-2d7cd011db47", "3f2c0a11-0000-4000-8000-00000000000a");
        let upper = |kind, text: &str| Target::parse(kind, text).expect("a target").in_lower_case().to_string();
        let ours = format!("entra:{tenant}.{object}");
        assert_eq!(upper("user", &format!("entra:{}.{object}", tenant.to_uppercase())), ours);
        assert_eq!(upper("group", &format!("entra:{}", object.to_uppercase())), format!("entra:{object}"));
        for (kind, other) in [("user", "entra:Ada"), ("group", "entra:Portal.Admin"), ("provider", "entra")] {
            assert_eq!(upper(kind, other), other);
        }
        let may_be = |kind, text: &str| Target::parse(kind, text).expect("a target").may_be_of_entra();
        assert!(may_be("user", &ours) && may_be("group", "entra:Portal.Admin") && may_be("provider", "entra"));
        assert!(!may_be("user", &format!("entra:{object}")), "the object alone is nobody");
    }

    #[test]
    fn a_lock_is_in_force_until_its_end_and_survives_the_store() {
        let (locks, now) = (Locks::default(), super::super::log::moment(1_795_416_600_000));
        assert!(locks.is_empty());
        let one = lock("group", "gitlab:acme/**", Some(now + Duration::from_secs(60)));
        assert_eq!(Lock::read(&one.write()).expect("reads"), one);
        assert!(Lock::read(b"{}").is_err() && Lock::read(b"").is_err());
        let other = lock("user", "gitlab:1", None);
        let before = locks.version();
        locks.replace(vec![one.clone(), other.clone()]);
        assert!(!locks.is_empty() && locks.version() != before);
        let version = locks.version();
        locks.replace(vec![one.clone(), other.clone()]);
        assert_eq!(locks.version(), version, "the same again");
        let unknown = Membership::Unknown(Unknown::TooOld);
        let (first, second) = (person("gitlab:1"), person("gitlab:2"));
        assert_eq!(locks.bar(&first, &unknown, now), Some(Barred::By(Arc::new(other))), "the sure one first");
        assert_eq!(locks.bar(&second, &unknown, now), Some(Barred::Unknown));
        assert_eq!(locks.bar(&second, &known(&["acme/x"]), now), Some(Barred::By(Arc::new(one))));
        assert_eq!(locks.bar(&second, &known(&[]), now), None);
        let gitlab = "gitlab".parse().expect("a name");
        assert!(locks.asks_for_groups(&gitlab, now));
        let later = now + Duration::from_secs(60);
        assert_eq!(locks.bar(&second, &unknown, later), None, "its time is over");
        assert!(!locks.asks_for_groups(&gitlab, later));
    }
}
