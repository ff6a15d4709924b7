//! Sessions and locks, as operators see and end them.

use super::Admin;
use crate::{
    audit::Event,
    config::ProviderKind,
    control::{Control, Listed, Revoked},
    gateway::Shared,
    membership::Memberships,
    principal::{Name, UserId},
    session::{
        Live, Session, SessionKey,
        lock::{Lock, Members, Target},
        log::{millis, moment},
        record::seconds,
    },
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// So many sessions stand in one answer at most.
pub const PAGE: usize = 1000;

/// The longest reason, in characters.
const REASON: usize = 500;

/// Which sessions are meant: all that is given has to fit.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// A person, `PROVIDER:SUBJECT`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What a person is called at their provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// A provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The members of a group, `PROVIDER:GROUP` or `PROVIDER:GROUP/**`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// One session, by the hash that audit events have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A filter that was understood.
struct Meant {
    user: Option<UserId>,
    login: Option<String>,
    provider: Option<Name>,
    group: Option<Members>,
    id: Option<String>,
    membership: Arc<Memberships>,
    now: SystemTime,
    /// People whom the group may mean, and nobody can tell.
    unknown: Mutex<BTreeSet<String>>,
}

impl Meant {
    fn of(filter: &Filter, shared: &Shared, now: SystemTime) -> Result<Self, String> {
        let membership = shared.membership.clone();
        let user = |text: &String| match read_target(&shared.control, "user", text)? {
            Target::User(user) => Ok(user),
            Target::Provider(_) | Target::Group(_) => Err(format!("`{text}` names no user")),
        };
        let provider = |text: &String| text.parse::<Name>().map_err(|error| error.to_string());
        let group = |text: &String| match read_target(&shared.control, "group", text)? {
            Target::Group(members) => Ok(members),
            Target::Provider(_) | Target::User(_) => Err(format!("`{text}` names no group")),
        };
        if let Some(id) = filter.id.as_ref().filter(|id| crate::text::unhex(id).is_none_or(|id| id.len() != 8)) {
            return Err(format!(
                "`{id}` names no session: expected 16 hexadecimal digits, as `sessions list` has them"
            ));
        }
        Ok(Self {
            user: filter.user.as_ref().map(user).transpose()?,
            login: filter.login.clone(),
            provider: filter.provider.as_ref().map(provider).transpose()?,
            group: filter.group.as_ref().map(group).transpose()?,
            id: filter.id.clone(),
            membership,
            now,
            unknown: Mutex::default(),
        })
    }

    fn fits(&self, session: &Session, live: Option<&Arc<Live>>) -> bool {
        let person = &session.person;
        self.user.as_ref().is_none_or(|user| *user == person.id)
            && self.login.as_deref().is_none_or(|login| *login == *person.login)
            && self.provider.as_ref().is_none_or(|provider| *provider == person.id.provider)
            && self.id.as_deref().is_none_or(|id| *id == *session.key.hash())
            && self.group.as_ref().is_none_or(|members| self.is_member(session, live, members))
    }

    fn is_member(&self, session: &Session, live: Option<&Arc<Live>>, members: &Members) -> bool {
        let person = &session.person;
        let known = match live {
            Some(live) => self.membership.at_hand(live, self.now),
            None => self.membership.of(person, self.now),
        };
        let is = Target::Group(members.clone()).means(&person.id, &known);
        if is.is_none() {
            self.unknown.lock().unwrap_or_else(PoisonError::into_inner).insert(person.id.to_string());
        }
        is == Some(true)
    }

    /// The user all of whose sessions are meant, if it is one.
    fn whole(&self) -> Option<UserId> {
        let narrowed = self.login.is_some() || self.provider.is_some() || self.group.is_some() || self.id.is_some();
        self.user.clone().filter(|_| !narrowed)
    }

    fn unknown(&self) -> Vec<String> {
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

impl Filter {
    /// As it stands in the trail.
    fn told(&self) -> String {
        let parts = [
            ("user", &self.user),
            ("login", &self.login),
            ("provider", &self.provider),
            ("group", &self.group),
            ("id", &self.id),
        ];
        let parts: Vec<_> =
            parts.iter().filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?))).collect();
        if parts.is_empty() { "all sessions".to_owned() } else { parts.join(", ") }
    }
}

impl Admin {
    pub(super) async fn list_sessions(
        &self,
        filter: &Filter,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Value, String> {
        let now = SystemTime::now();
        let meant = Arc::new(Meant::of(filter, &self.shared, now)?);
        let after = after.map(key).transpose()?;
        let fits = meant.clone();
        let fits = move |session: &Session, live: Option<&Arc<Live>>| fits.fits(session, live);
        let page = self.shared.control.list(after, limit.clamp(1, PAGE), fits, now).await;
        let page = page.map_err(|error| error.to_string())?;
        let streams = self.streams();
        let listed: Vec<_> = page.listed.iter().map(|one| told(one, &streams)).collect();
        let next = page.next.map(|key| crate::text::hex(&key.0));
        Ok(json!({ "sessions": listed, "next": next, "unknown": meant.unknown() }))
    }

    /// How many streams each session has open.
    fn streams(&self) -> BTreeMap<SessionKey, usize> {
        let mut count = BTreeMap::new();
        for (_, stream) in self.shared.control.streams.snapshot() {
            if let Some(session) = &stream.session {
                *count.entry(SessionKey(session.key)).or_default() += 1;
            }
        }
        count
    }

    pub(super) async fn revoke_sessions(
        &self,
        by: u32,
        filter: &Filter,
        all: bool,
        reason: &str,
    ) -> Result<Value, String> {
        if (*filter == Filter::default()) != all {
            return Err("say which sessions are meant, by a filter or by `--all`, and not by both".to_owned());
        }
        let (reason, now) = (sound(reason)?, SystemTime::now());
        let meant = Arc::new(Meant::of(filter, &self.shared, now)?);
        let (fits, whole) = (meant.clone(), meant.whole());
        let fits = move |session: &Session, live: Option<&Arc<Live>>| fits.fits(session, live);
        let outcome = self.shared.control.revoke(whole, fits, "revoked", now).await;
        let (ended, failed) = match outcome {
            Ok(ended) => (ended, None),
            Err(error) => (Revoked::default(), Some(error)),
        };
        let ended = failed.as_ref().map_or(&ended, |error| &error.ended);
        let sessions: Vec<_> = ended.sessions.iter().map(|key| key.hash().to_string()).collect();
        self.tell(by, "sessions.revoke", "session", filter.told(), Some(reason), sessions.clone());
        match &failed {
            Some(error) => Err(error.to_string()),
            None => Ok(json!({
                "ended": sessions.len(), "people": ended.people.len(), "sessions": sessions, "unknown": meant.unknown(),
            })),
        }
    }

    pub(super) async fn lock(
        &self,
        by: u32,
        (kind, target): (&str, &str),
        reason: &str,
        until: Option<u64>,
    ) -> Result<Value, String> {
        let (reason, now) = (sound(reason)?, SystemTime::now());
        let target = read_target(&self.shared.control, kind, target)?;
        let name = target.provider();
        if self.shared.control.provider(name).is_none() && !self.shared.snapshot.load().issuers.contains_key(name) {
            return Err(format!("there is no provider `{}` in the configuration", target.provider()));
        }
        if is_of_entra(&self.shared.control, &target) && !target.may_be_of_entra() {
            return Err(format!("`{target}` names nobody: expected `{}:TENANT.OBJECT`, two GUIDs", target.provider()));
        }
        let until = until.map(moment);
        if until.is_some_and(|until| until <= now) {
            return Err("the end of the lock lies in the past".to_owned());
        }
        let by_whom = format!("uid {by}");
        let lock = Lock { target, reason: reason.into(), until, since: now, by: by_whom.into() };
        let kept = self.shared.control.set_lock(lock.clone(), now);
        let streams = self.shared.membership.cut_locked(now);
        let set = kept.await;
        let hit: Vec<_> = self.shared.control.lives();
        let hit = hit.iter().filter(|live| is_hit(&lock, live, &self.shared.membership, now));
        let hit: Vec<_> = hit.map(|live| live.hash.to_string()).collect();
        let object = format!("{} {}", lock.target.kind(), lock.target);
        self.tell(by, "sessions.lock", "lock", object, Some(reason), hit.clone());
        set.map_err(|error| {
            format!(
                "the lock is in force, and lost if the process ends before the store takes it: {error}: say it again"
            )
        })?;
        let mut answer = about(&lock);
        answer["invited_unseen"] = self.misses_invited(&lock.target).into();
        if let Target::Group(members) = &lock.target {
            let sees = self.shared.membership.sees(&members.provider, &members.group).await;
            answer["unseen"] = (sees == Some(false)).into();
        }
        answer["sessions"] = hit.len().into();
        answer["streams"] = streams.into();
        Ok(answer)
    }

    /// Whether people who are members only because their group was invited are not seen: at GitLab that is read for groups that
    /// are named, by its API.
    fn misses_invited(&self, target: &Target) -> bool {
        let Target::Group(members) = target else { return false };
        let provider = self.shared.control.provider(&members.provider);
        provider.is_some_and(|provider| {
            let settings = &provider.settings;
            settings.kind == ProviderKind::Gitlab && (settings.api.is_none() || members.below)
        })
    }

    pub(super) async fn unlock(
        &self,
        by: u32,
        (kind, target): (&str, &str),
        reason: Option<&str>,
    ) -> Result<Value, String> {
        let reason = reason.map(sound).transpose()?;
        let target = read_target(&self.shared.control, kind, target)?;
        let object = format!("{} {target}", target.kind());
        let gone = self.shared.control.drop_lock(target, SystemTime::now()).await;
        let gone = gone.map_err(|error| format!("the lock stays: {error}"))?;
        if gone {
            self.tell(by, "sessions.unlock", "lock", object, reason, Vec::new());
        }
        Ok(json!({ "unlocked": gone }))
    }

    pub(super) fn locks(&self) -> Value {
        let now = SystemTime::now();
        let mut locks: Vec<_> = self.shared.control.locks.all().iter().cloned().collect();
        locks.sort_by_key(|lock| lock.since);
        locks.iter().filter(|lock| lock.is_in_force(now)).map(|lock| about(lock)).collect()
    }

    fn tell(
        &self,
        by: u32,
        act: &'static str,
        kind: &'static str,
        object: String,
        reason: Option<&str>,
        sessions: Vec<String>,
    ) {
        let (by, reason) = (format!("uid {by}"), reason.map(str::to_owned));
        self.audit.record(Event::Administered { by, act, kind, object, reason, sessions }, SystemTime::now());
    }
}

/// Reads a target, in the spelling that people and groups of its provider have here.
fn read_target(control: &Control, kind: &str, text: &str) -> Result<Target, String> {
    let target = Target::parse(kind, text).map_err(|error| error.to_string())?;
    Ok(if is_of_entra(control, &target) { target.in_lower_case() } else { target })
}

fn is_of_entra(control: &Control, target: &Target) -> bool {
    control.provider(target.provider()).is_some_and(|provider| provider.settings.kind == ProviderKind::Entra)
}

/// A reason that can be shown and recorded.
fn sound(reason: &str) -> Result<&str, String> {
    let reason = reason.trim();
    let length = reason.chars().count();
    match length {
        0 => Err("a reason is needed".to_owned()),
        _ if length > REASON => Err(format!("the reason has {length} characters, {REASON} are allowed")),
        _ if reason.chars().any(char::is_control) => Err("the reason has a control character".to_owned()),
        _ => Ok(reason),
    }
}

fn is_hit(lock: &Lock, live: &Live, membership: &Memberships, now: SystemTime) -> bool {
    lock.target.means(&live.session.person.id, &membership.at_hand(live, now)) != Some(false)
}

/// A whole name of a session, as a page's `next` has it.
fn key(text: &str) -> Result<SessionKey, String> {
    let bytes = crate::text::unhex(text).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.map(SessionKey).ok_or_else(|| format!("`{text}` is not where a page ended"))
}

fn about(lock: &Lock) -> Value {
    json!({
        "kind": lock.target.kind(),
        "target": lock.target.to_string(),
        "reason": &*lock.reason,
        "until": lock.until.map(millis),
        "since": millis(lock.since),
        "by": &*lock.by,
    })
}

fn told(one: &Listed, streams: &BTreeMap<SessionKey, usize>) -> Value {
    let (session, person) = (&one.session, &one.session.person);
    json!({
        "id": &*session.key.hash(),
        "user": person.id.to_string(),
        "login": &*person.login,
        "provider": person.id.provider.as_str(),
        "subject": &*person.id.subject,
        "issuer": &*person.issuer,
        "device": session.device,
        "host": &*session.host,
        "began": seconds(session.created),
        "seen": seconds(session.seen),
        "ends": seconds(one.ends),
        "in_use": one.live.is_some(),
        "streams": streams.get(&session.key).copied().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_that_says_something() {
        assert_eq!(sound(" left the company "), Ok("left the company"));
        for bad in ["", "  ", "a\nb", "a\u{1b}[2J", &"x".repeat(501)] {
            assert!(sound(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_filter_is_told_as_it_was_given() {
        let filter = Filter { login: Some("ada".into()), provider: Some("okta".into()), ..Filter::default() };
        assert_eq!(filter.told(), "login ada, provider okta");
        assert_eq!(Filter::default().told(), "all sessions");
    }
}
