//! Whoever asks, as policies see them: for people who write policies.

use super::{
    entities,
    words::{Kind, Uid},
};
use crate::{
    group::GroupPath,
    principal::{Asker, Membership, Principal},
};
use cedar_policy::{Entity, EntityUid};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// One entity, in Cedar's words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Its type, such as `Job`.
    pub kind: &'static str,
    /// What it is called, such as `Job::"ci:302"`.
    pub id: String,
    /// Its attributes; other entities by what they are called.
    pub attributes: BTreeMap<String, Value>,
    /// What it is in: of groups and roles each that it is known to have, whether a policy names it or not.
    pub parents: Vec<String>,
}

/// The entity of a principal, and behind that of a job the one of its person.
pub fn seen(principal: &Principal) -> Vec<Seen> {
    let asker = Asker::of(principal);
    let groups = match (asker.provider(), principal.membership()) {
        (Some(provider), Some(Membership::Known(groups))) => {
            let roles = groups.roles.iter().map(|(path, role)| format!("{provider}:{path}#{}", role.as_str()));
            let roles = roles.map(|role| Uid::new(Kind::Role, role));
            memberships(provider, &groups.paths, &asker).into_iter().chain(roles).collect()
        }
        _ => Vec::new(),
    };
    let parents = match &asker {
        Asker::Job(job) => entities::places(job),
        Asker::Nobody | Asker::Person(_) | Asker::Service(_) => groups.clone(),
    };
    let kinds = [Kind::asking(&asker), Kind::User];
    let each = entities::asker(&asker, &parents, &groups).into_iter().zip(kinds).zip([parents, groups]);
    each.map(|((entity, kind), parents)| Seen::of(&entity, kind, &parents)).collect()
}

/// Every group, and for a person every namespace above.
fn memberships(provider: &str, paths: &[GroupPath], asker: &Asker) -> Vec<Uid> {
    let named = |kind, path: &str| Uid::new(kind, format!("{provider}:{path}"));
    let above: BTreeSet<&str> = match asker {
        Asker::Service(_) => BTreeSet::new(),
        Asker::Nobody | Asker::Person(_) | Asker::Job(_) => paths.iter().flat_map(GroupPath::lineage).collect(),
    };
    let groups = paths.iter().map(|path| named(Kind::Group, path.as_str()));
    groups.chain(above.into_iter().map(|path| named(Kind::Namespace, path))).collect()
}

impl Seen {
    fn of(entity: &Entity, kind: Kind, parents: &[Uid]) -> Self {
        let attributes = entity.to_json_value().ok().and_then(|mut all| match all.get_mut("attrs").map(Value::take) {
            Some(Value::Object(attributes)) => Some(attributes),
            _ => None,
        });
        let attributes = attributes.unwrap_or_default().into_iter().map(|(name, value)| (name, plain(value)));
        Self {
            kind: kind.as_str(),
            id: entity.uid().to_string(),
            attributes: attributes.collect(),
            parents: parents.iter().map(|uid| uid.to_cedar().to_string()).collect(),
        }
    }
}

/// A value with entities as they stand in policies.
fn plain(value: Value) -> Value {
    match EntityUid::from_json(value.clone()) {
        Ok(uid) if value.get("__entity").is_some() => uid.to_string().into(),
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        group::Role,
        principal::{Groups, MembershipSource, Person, Service, Strength, Unknown, UserId},
    };
    use serde_json::json;
    use std::{sync::Arc, time::SystemTime};

    fn known(paths: &[&str]) -> Membership {
        Membership::Known(Groups {
            paths: paths.iter().map(|path| path.parse().expect("a path")).collect(),
            roles: Arc::default(),
            unread: Arc::default(),
            source: MembershipSource::Token,
            read: SystemTime::UNIX_EPOCH,
            version: 1,
            stale: false,
            aside: None,
        })
    }

    fn id(provider: &str, subject: &str) -> UserId {
        UserId { provider: provider.parse().expect("a name"), subject: subject.into() }
    }

    #[test]
    fn a_person_is_in_their_groups_and_in_what_is_above() {
        let person = Person {
            id: id("people", "00u\"9"),
            issuer: "https://sso.test".into(),
            login: "ines".into(),
            email: None,
            name: None,
        };
        let strength = Arc::new(Strength::default());
        let Membership::Known(mut groups) = known(&["a/b"]) else { unreachable!("it is known") };
        groups.roles = Arc::new([("a/b".parse().expect("a path"), Role::Reporter)]);
        let seen = |membership| {
            seen(&Principal::User { person: Arc::new(person.clone()), membership, strength: strength.clone() })
        };
        let [only] = &seen(Membership::Known(groups))[..] else { panic!("one entity") };
        assert_eq!((only.kind, &*only.id), ("User", r#"User::"people:00u\"9""#));
        let role = r#"Role::"people:a/b#reporter""#;
        assert_eq!(
            only.parents,
            [r#"Group::"people:a/b""#, r#"Namespace::"people:a""#, r#"Namespace::"people:a/b""#, role]
        );
        assert_eq!(only.attributes["login"], "ines");
        assert!(seen(Membership::Unknown(Unknown::Incomplete))[0].parents.is_empty());
    }

    #[test]
    fn a_service_is_in_its_groups_and_has_its_scopes() {
        let service = Service {
            id: id("robots", "deployer"),
            issuer: "https://sso.test".into(),
            client_id: "deployer".into(),
            scopes: ["read".to_owned(), "write".to_owned()].into(),
        };
        let seen = seen(&Principal::Service { service: Arc::new(service), membership: known(&["a/b"]) });
        assert_eq!(seen[0].parents, [r#"Group::"robots:a/b""#]);
        assert_eq!(seen[0].attributes["scopes"], json!(["read", "write"]));
    }
}
