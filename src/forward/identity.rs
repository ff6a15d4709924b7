//! What an upstream is told about whoever asks: headers ready to send, made once per session or token and route.

use super::{
    SessionRef,
    assertion::{AssertionKeys, Says},
};
use crate::{
    credential::{Credential, sensitive},
    group::GroupPath,
    principal::{Asker, Bearer, Membership, Person, Principal},
    route::{GroupPattern, Route},
};
use http::HeaderValue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Half the life of an assertion.
const FRESH: Duration = Duration::from_secs(super::assertion::LIFE.as_secs() / 2);
/// Identities kept per core.
const KEPT: usize = 8192;
/// Bytes of groups that an upstream is told of; more break upstreams that bound their heads.
const GROUPS: usize = 2048;

/// What one upstream is told about whoever asks, as header values.
pub(super) struct Identity {
    route: Arc<Route>,
    asker: Asker,
    made: Instant,
    /// The plain headers, for people of the route's `header_provider` only.
    pub(super) plain: Option<Plain>,
    /// `Vestibule-Assertion`.
    pub(super) assertion: HeaderValue,
    /// The assertion as the upstream's credential, where the route says so.
    pub(super) bearer: Option<HeaderValue>,
}

/// What a request came with.
#[derive(Clone, Copy)]
pub(super) enum Came<'a> {
    /// Nothing that is kept.
    Bare,
    /// A session.
    Session(&'a SessionRef),
    /// A token or a certificate.
    Token(&'a Bearer),
}

impl<'a> Came<'a> {
    pub(super) fn of(session: Option<&'a SessionRef>, bearer: Option<&'a Arc<Bearer>>) -> Self {
        match (session, bearer) {
            (_, Some(bearer)) => Self::Token(bearer),
            (Some(session), None) => Self::Session(session),
            (None, None) => Self::Bare,
        }
    }

    fn key(self) -> Option<[u8; 32]> {
        match self {
            Self::Bare => None,
            Self::Session(session) => Some(session.key),
            Self::Token(bearer) => Some(bearer.hash),
        }
    }

    /// What the assertion says of the session: nothing where there is none.
    fn sid(self) -> Option<&'a str> {
        match self {
            Self::Session(session) => Some(&session.hash),
            Self::Bare | Self::Token(_) => None,
        }
    }
}

/// The plain identity headers.
pub(super) struct Plain {
    pub(super) user: HeaderValue,
    pub(super) login: HeaderValue,
    pub(super) email: Option<HeaderValue>,
    pub(super) groups: Option<HeaderValue>,
    /// See [`Shown::truncated`].
    pub(super) truncated: bool,
    pub(super) backstage_user: Option<HeaderValue>,
}

/// The groups of a person that a route's upstream is told of.
pub(super) struct Shown<'a> {
    pub(super) groups: Vec<&'a str>,
    /// There may be more: they do not fit, or nobody can say now whether the person is in them.
    pub(super) truncated: bool,
}

/// Identities of one core, by session, route and membership.
#[derive(Default)]
pub(super) struct Identities(Mutex<HashMap<Key, Arc<Identity>>>);

type Key = ([u8; 32], usize, Option<u64>);

impl Identities {
    /// What `route`'s upstream is told of `principal`; `None` for nobody. Signs only where nothing fresh is kept.
    ///
    /// # Errors
    /// One line, if no assertion can be made.
    pub(super) fn of(
        &self,
        principal: &Principal,
        came: Came<'_>,
        route: &Arc<Route>,
        keys: &AssertionKeys,
        issuer: &str,
    ) -> Result<Option<Arc<Identity>>, String> {
        let asker = Asker::of(principal);
        let Some(membership) = principal.membership() else { return Ok(None) };
        let version = match membership {
            Membership::Known(groups) => Some(groups.version),
            Membership::Unknown(_) => None,
        };
        let key = came.key().map(|key| (key, route.index, version));
        if let Some(kept) = key.and_then(|key| self.entries().get(&key).cloned())
            && kept.fits(&asker, route)
        {
            return Ok(Some(kept));
        }
        let made = Arc::new(Identity::make(asker, membership, came, route, keys, issuer)?);
        if let Some(key) = key {
            self.keep(key, made.clone());
        }
        Ok(Some(made))
    }

    fn keep(&self, key: Key, made: Arc<Identity>) {
        let mut entries = self.entries();
        if entries.len() >= KEPT {
            entries.retain(|_, kept| kept.made.elapsed() < FRESH);
        }
        if entries.len() >= KEPT {
            entries.clear(); // they can all be made again
        }
        entries.insert(key, made);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Arc<Identity>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identity {
    fn make(
        asker: Asker,
        membership: &Membership,
        came: Came<'_>,
        route: &Arc<Route>,
        keys: &AssertionKeys,
        issuer: &str,
    ) -> Result<Self, String> {
        let person = match &asker {
            Asker::Person(person) => Some(person),
            Asker::Nobody | Asker::Job(_) | Asker::Service(_) => None,
        };
        let shown = person.and_then(|person| Shown::of(person, membership, route));
        let entity = person.and_then(|person| backstage_user(person, route));
        let backstage_user = entity.as_deref();
        let says = Says { shown: shown.as_ref(), session: came.sid(), backstage_user };
        let token = keys.sign(issuer, &asker, &says, route, SystemTime::now())?;
        let headed = person.filter(|person| route.header_provider.as_ref() == Some(&person.id.provider));
        let plain = headed.map(|person| Plain {
            user: encoded(&person.id.subject),
            login: encoded(&person.login),
            email: person.email.as_deref().map(encoded),
            groups: shown.as_ref().filter(|shown| !shown.groups.is_empty()).map(Shown::header),
            truncated: shown.as_ref().is_some_and(|shown| shown.truncated),
            backstage_user: backstage_user.map(encoded),
        });
        let bearer = match route.credential {
            Some(Credential::Assertion) => sensitive(&format!("Bearer {token}")),
            Some(Credential::Secret(_)) | None => None,
        };
        let assertion = HeaderValue::try_from(token).map_err(|_| "an assertion is no header value".to_owned())?;
        Ok(Self { route: route.clone(), asker, made: Instant::now(), plain, assertion, bearer })
    }

    /// Still fresh, and made for this very caller and route: after a reload an index may name another route.
    fn fits(&self, asker: &Asker, route: &Arc<Route>) -> bool {
        self.made.elapsed() < FRESH && Arc::ptr_eq(&self.route, route) && self.asker.is(asker)
    }
}

fn backstage_user(person: &Person, route: &Route) -> Option<String> {
    let template = route.backstage_user.as_ref()?;
    let entity = template.of(person);
    if entity.is_none() {
        tracing::warn!(user = %person.id, route = %route.name, "`backstage_user` gives no name of an entity: none is told");
    }
    entity
}

impl<'a> Shown<'a> {
    /// The groups that the route lists and the person has, as many as fit; `None` while nobody knows them.
    pub(super) fn of(person: &Person, membership: &'a Membership, route: &Route) -> Option<Self> {
        let Membership::Known(known) = membership else { return None };
        let listed = |path: &GroupPath| {
            route.groups_header.iter().any(|pattern| match pattern {
                GroupPattern::Group(provider, group) => *provider == person.id.provider && group == path,
                GroupPattern::Tree(provider, tree) => *provider == person.id.provider && tree.contains(path),
            })
        };
        let mut shown = Self { groups: Vec::new(), truncated: known.unread.iter().any(listed) };
        let mut left = GROUPS + 1; // the first needs no comma
        for path in known.paths.iter().filter(|path| listed(path)) {
            let Some(rest) = left.checked_sub(percent(path.as_str()).len() + 1) else {
                shown.truncated = true;
                break;
            };
            left = rest;
            shown.groups.push(path.as_str());
        }
        Some(shown)
    }

    fn header(&self) -> HeaderValue {
        let encoded: Vec<_> = self.groups.iter().map(|group| percent(group)).collect();
        value(encoded.join(","))
    }
}

fn encoded(text: &str) -> HeaderValue {
    value(percent(text))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("percent-encoded text is printable ASCII")
}

/// The text with every byte percent-encoded that is not printable ASCII, is a comma or a percent sign, or is a space at
/// either end (which a receiver would drop).
fn percent(text: &str) -> String {
    let inner = text.trim_matches(' ');
    let start = text.len() - text.trim_start_matches(' ').len();
    let inside = |at: usize| (start..start + inner.len()).contains(&at);
    let mut encoded = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'%' => encoded.push_str(&format!("%{byte:02X}")),
            b' ' if inside(at) => encoded.push(' '),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{keys, known, person, route, user};
    use proptest::prelude::*;

    fn decode(text: &str) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
        while let Some((first, tail)) = rest.split_first() {
            let (byte, tail) = match first {
                b'%' => (u8::from_str_radix(&String::from_utf8_lossy(&tail[..2]), 16).expect("hex"), &tail[2..]),
                plain => (*plain, tail),
            };
            bytes.push(byte);
            rest = tail;
        }
        bytes
    }

    proptest! {
        /// Any claim value comes back byte for byte, and never splits a header or a list.
        #[test]
        fn percent_encoding_round_trips(text in any::<String>()) {
            let sent = percent(&text);
            prop_assert!(sent.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b','));
            prop_assert_eq!(sent.trim(), &sent);
            prop_assert_eq!(decode(&sent), text.as_bytes());
        }
    }

    #[test]
    fn shows_only_listed_groups() {
        let known = known(&["acme", "acme/platform", "acmex", "other"]);
        let mut listing = route("u:1");
        listing.groups_header = [
            GroupPattern::Tree("gitlab".parse().expect("a name"), "acme".parse().expect("a path")),
            GroupPattern::Group("okta".parse().expect("a name"), "other".parse().expect("a path")),
        ]
        .into();
        let shown = Shown::of(&person(), &known, &listing).expect("known");
        assert_eq!(shown.groups, ["acme", "acme/platform"]);
        assert!(!shown.truncated);
    }

    #[test]
    fn truncates_groups_at_two_kibibytes() {
        let paths: Vec<String> = (100..400).map(|number| format!("acme/team-{number}")).collect();
        let known = known(&paths.iter().map(String::as_str).collect::<Vec<_>>());
        let shown = Shown::of(&person(), &known, &route("u:1")).expect("known");
        assert!(shown.truncated);
        let header = shown.header();
        assert!(header.len() <= GROUPS && header.len() > GROUPS - 20, "{}", header.len());
        assert!(header.to_str().expect("ASCII").split(',').all(|group| group.len() == "acme/team-100".len()));
    }

    /// A list that lacks a group because it cannot be read is no whole list; what the upstream is not told of anyway lacks nothing.
    #[test]
    fn a_list_with_a_group_that_cannot_be_read_is_not_whole() {
        let told = |unread: &str| {
            let Membership::Known(mut groups) = known(&["acme"]) else { unreachable!("they are known") };
            groups.unread = [unread.parse().expect("a path")].into();
            let known = Membership::Known(groups);
            let shown = Shown::of(&person(), &known, &route("u:1")).expect("known");
            (shown.groups.join(","), shown.truncated)
        };
        assert_eq!(told("acme/platform"), ("acme".to_owned(), true));
        assert_eq!(told("other"), ("acme".to_owned(), false));
    }

    #[test]
    fn tells_nothing_of_groups_that_nobody_knows() {
        let unknown = Membership::Unknown(crate::principal::Unknown::TooOld);
        assert!(Shown::of(&person(), &unknown, &route("u:1")).is_none());
    }

    #[test]
    fn signs_once_per_session_route_and_membership() {
        let (identities, keys, route) = (Identities::default(), keys(), Arc::new(route("u:1")));
        let session = |byte| SessionRef { key: [byte; 32], hash: "h".into() };
        let of = |principal: &Principal, session: &SessionRef, route: &Arc<Route>| {
            let found = identities.of(principal, Came::Session(session), route, &keys, "https://p.test");
            found.expect("signed").expect("a person").assertion.clone()
        };
        let person = user(&["acme"]);
        let first = of(&person, &session(1), &route);
        assert_eq!(first, of(&person, &session(1), &route));
        assert_ne!(first, of(&person, &session(2), &route));
        assert_ne!(first, of(&user(&["acme"]), &session(1), &route)); // another membership version
        assert_ne!(first, of(&person, &session(1), &Arc::new((*route).clone()))); // another configuration
    }
}
