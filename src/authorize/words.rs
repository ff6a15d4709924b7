//! The words that policies are written in: entities, scopes, actions, attributes of the context.

use crate::{canonical::Canonical, principal::Asker};
use cedar_policy::{
    EntityId, EntityTypeName, EntityUid,
    pst::{ActionConstraint, EntityOrSlot, EntityType, EntityUID, PrincipalConstraint, ResourceConstraint},
};
use http::Method;
use std::{fmt, str::FromStr, sync::Arc};

/// The entity types of the schema.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Kind {
    Anonymous,
    User,
    Job,
    Service,
    Group,
    Role,
    Namespace,
    Project,
    Route,
    Console,
    Action,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Anonymous,
        Self::User,
        Self::Job,
        Self::Service,
        Self::Group,
        Self::Role,
        Self::Namespace,
        Self::Project,
        Self::Route,
        Self::Console,
        Self::Action,
    ];

    /// Its name in Cedar.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Anonymous => "Anonymous",
            Self::User => "User",
            Self::Job => "Job",
            Self::Service => "Service",
            Self::Group => "Group",
            Self::Role => "Role",
            Self::Namespace => "Namespace",
            Self::Project => "Project",
            Self::Route => "Route",
            Self::Console => "Console",
            Self::Action => "Action",
        }
    }

    /// True for what a person is a member of.
    pub(super) fn is_membership(self) -> bool {
        matches!(self, Self::Group | Self::Role | Self::Namespace)
    }

    /// What whoever asks is.
    pub(super) fn asking(asker: &Asker) -> Self {
        match asker {
            Asker::Nobody => Self::Anonymous,
            Asker::Person(_) => Self::User,
            Asker::Job(_) => Self::Job,
            Asker::Service(_) => Self::Service,
        }
    }

    pub(super) fn of(name: &EntityType) -> Option<Self> {
        let name = name.to_string();
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// One entity, such as `Group::"gitlab:acme"`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Uid {
    pub(super) kind: Kind,
    pub(super) id: Arc<str>,
}

impl Uid {
    pub(super) fn new(kind: Kind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The provider that the id begins with.
    pub(super) fn provider(&self) -> Option<&str> {
        self.id.split_once(':').map(|(provider, _)| provider)
    }

    /// The same, as Cedar's own type.
    pub(super) fn to_cedar(&self) -> EntityUid {
        let kind = EntityTypeName::from_str(self.kind.as_str()).expect("every kind is a Cedar identifier");
        EntityUid::from_type_name_and_id(kind, EntityId::new(&self.id))
    }

    pub(super) fn of(uid: &EntityUID) -> Option<Self> {
        Some(Self::new(Kind::of(&uid.ty)?, uid.eid.as_str()))
    }
}

/// One scope of a policy: whom or what it is about.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) enum Scope {
    Any,
    Is(Kind),
    Eq(Uid),
    In(Uid),
    IsIn(Kind, Uid),
}

impl Scope {
    /// The type that the scope names, in words or by the entity.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Any | Self::In(_) => None,
            Self::Is(kind) | Self::IsIn(kind, _) => Some(*kind),
            Self::Eq(uid) => Some(uid.kind),
        }
    }

    /// The entity that the scope names.
    pub(super) fn uid(&self) -> Option<&Uid> {
        match self {
            Self::Any | Self::Is(_) => None,
            Self::Eq(uid) | Self::In(uid) | Self::IsIn(_, uid) => Some(uid),
        }
    }

    pub(super) fn principal(constraint: &PrincipalConstraint) -> Option<Self> {
        Some(match constraint {
            PrincipalConstraint::Any => Self::Any,
            PrincipalConstraint::Is(kind) => Self::Is(Kind::of(kind)?),
            PrincipalConstraint::Eq(entity) => Self::Eq(named(entity)?),
            PrincipalConstraint::In(entity) => Self::In(named(entity)?),
            PrincipalConstraint::IsIn(kind, entity) => Self::IsIn(Kind::of(kind)?, named(entity)?),
        })
    }

    pub(super) fn resource(constraint: &ResourceConstraint) -> Option<Self> {
        Some(match constraint {
            ResourceConstraint::Any => Self::Any,
            ResourceConstraint::Is(kind) => Self::Is(Kind::of(kind)?),
            ResourceConstraint::Eq(entity) => Self::Eq(named(entity)?),
            ResourceConstraint::In(entity) => Self::In(named(entity)?),
            ResourceConstraint::IsIn(kind, entity) => Self::IsIn(Kind::of(kind)?, named(entity)?),
        })
    }
}

/// Templates are refused before, so a slot is no entity.
fn named(entity: &EntityOrSlot) -> Option<Uid> {
    match entity {
        EntityOrSlot::Entity(uid) => Uid::of(uid),
        EntityOrSlot::Slot(_) => None,
    }
}

/// One action of the schema.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Action {
    Get,
    Head,
    Options,
    Post,
    Put,
    Patch,
    Delete,
    Connect,
}

impl Action {
    pub(super) const ALL: [Self; 8] =
        [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete, Self::Connect];

    /// The groups that actions are in.
    pub(super) const GROUPS: [&'static str; 2] = ["read", "write"];

    /// The action of a method; none for methods that the schema does not know.
    pub(super) fn of(method: &Method) -> Option<Self> {
        Self::ALL.into_iter().find(|action| *action != Self::Connect && action.as_str() == method.as_str())
    }

    /// What a request does; none for methods that the schema does not know.
    pub(super) fn asked(asked: &Canonical) -> Option<Self> {
        if asked.websocket { Some(Self::Connect) } else { Self::of(&asked.method) }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Connect => "connect",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Self::Get | Self::Head | Self::Options => "read",
            Self::Post | Self::Put | Self::Patch | Self::Delete | Self::Connect => "write",
        }
    }
}

/// A set of actions: methods, and `connect`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Actions(u8);

impl Actions {
    pub(super) fn contains(self, action: Action) -> bool {
        self.0 & (1 << action as u8) != 0
    }

    /// True if all of the other are among these.
    pub(super) fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Puts those of `other` in too.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Every action, each alone.
    pub fn each() -> impl Iterator<Item = Self> {
        Action::ALL.into_iter().map(Self::only)
    }

    /// The set of one action.
    pub(super) fn only(action: Action) -> Self {
        Self(1 << action as u8)
    }

    /// True if some action is in both.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the actions, such as `GET`.
    pub fn names(self) -> Vec<&'static str> {
        Action::ALL.into_iter().filter(|action| self.contains(*action)).map(Action::as_str).collect()
    }

    /// The actions of this set that are not in the other.
    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// `read` and `write` where all actions of the group are in the set, else their own names.
    pub(super) fn words(self) -> Vec<&'static str> {
        let mut words = Vec::new();
        for group in Action::GROUPS {
            let all = Action::ALL.into_iter().filter(|action| action.group() == group);
            if all.clone().all(|action| self.contains(action)) {
                words.push(group);
            } else {
                words.extend(all.filter(|action| self.contains(*action)).map(Action::as_str));
            }
        }
        words
    }

    pub(super) fn of(constraint: &ActionConstraint) -> Self {
        let matches = |action: &Action| match constraint {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(uid) => uid.eid.as_str() == action.as_str(),
            ActionConstraint::In(uids) => {
                uids.iter().any(|uid| [action.as_str(), action.group()].contains(&uid.eid.as_str()))
            }
        };
        Self(Action::ALL.iter().filter(|action| matches(action)).fold(0, |bits, action| bits | (1 << *action as u8)))
    }
}

/// As people say it: `read`, `write and GET`, `everything`.
impl fmt::Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.words();
        match (&words[..], words.split_last()) {
            (["read", "write"], _) => f.write_str("everything"),
            (_, Some((last, []))) => f.write_str(last),
            (_, Some((last, before))) => write!(f, "{} and {last}", before.join(", ")),
            (_, None) => f.write_str("nothing"),
        }
    }
}

/// One attribute of the context.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Attribute {
    Host,
    Path,
    PathFolded,
    Query,
    ClientIp,
    Now,
    SessionAge,
    Amr,
    Acr,
    AuthTime,
    Class,
    TlsSubject,
    TlsSpiffeId,
    Body,
}

impl Attribute {
    pub(super) const ALL: [Self; 14] = [
        Self::Host,
        Self::Path,
        Self::PathFolded,
        Self::Query,
        Self::ClientIp,
        Self::Now,
        Self::SessionAge,
        Self::Amr,
        Self::Acr,
        Self::AuthTime,
        Self::Class,
        Self::TlsSubject,
        Self::TlsSpiffeId,
        Self::Body,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Path => "path",
            Self::PathFolded => "path_folded",
            Self::Query => "query",
            Self::ClientIp => "client_ip",
            Self::Now => "now",
            Self::SessionAge => "session_age",
            Self::Amr => "amr",
            Self::Acr => "acr",
            Self::AuthTime => "auth_time",
            Self::Class => "class",
            Self::TlsSubject => "tls_subject",
            Self::TlsSpiffeId => "tls_spiffe_id",
            Self::Body => "body",
        }
    }
}

/// Which attributes of the context are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reads(u16);

impl Reads {
    /// The context as a whole.
    pub(super) const ALL: Self = Self(u16::MAX);
    /// The path as sent, and nothing else.
    #[cfg(test)]
    pub(super) const PATH: Self = Self(1 << Attribute::Path as u16);

    pub(super) fn contains(self, attribute: Attribute) -> bool {
        self.0 & (1 << attribute as u16) != 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// All of these but one.
    pub(super) fn without(self, attribute: Attribute) -> Self {
        Self(self.0 & !(1 << attribute as u16))
    }

    /// True if the answer can change from one moment to the next.
    pub(super) fn time(self) -> bool {
        self.contains(Attribute::Now) || self.contains(Attribute::SessionAge)
    }

    /// The same but for what changes by itself from one moment to the next.
    pub(super) fn without_time(self) -> Self {
        Self(self.0 & !(1 << Attribute::Now as u16 | 1 << Attribute::SessionAge as u16))
    }

    pub(super) fn named(name: &str) -> Self {
        let attribute = Attribute::ALL.into_iter().find(|attribute| attribute.as_str() == name);
        attribute.map_or(Self::ALL, |attribute| Self(1 << attribute as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_told_as_people_say_it() {
        let told = |all: &[Action]| {
            let mut actions = Actions::default();
            all.iter().for_each(|action| actions.add(Actions::only(*action)));
            actions.to_string()
        };
        let read = [Action::Get, Action::Head, Action::Options];
        assert_eq!(told(&Action::ALL), "everything");
        assert_eq!(told(&read), "read");
        assert_eq!(told(&[&read[..], &[Action::Delete]].concat()), "read and DELETE");
        assert_eq!(told(&[Action::Get, Action::Post, Action::Connect]), "GET, POST and connect");
        assert_eq!(told(&[]), "nothing");
    }
}
