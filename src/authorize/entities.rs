//! The entities of one request: the principal with those of its groups that policies name, and the route.

use super::{
    policies::Loaded,
    words::{Kind, Uid},
};
use crate::{
    group::{GroupPath, Role},
    principal::{Person, UserId},
    route::Route,
};
use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// The groups that some policy names. Others are never carried: they could change no decision.
#[derive(Debug, Default)]
pub(super) struct Named {
    providers: HashMap<Arc<str>, Paths>,
}

#[derive(Debug, Default)]
struct Paths {
    groups: HashMap<Box<str>, Uid>,
    namespaces: HashMap<Box<str>, Uid>,
    roles: HashMap<Box<str>, Vec<(Role, Uid)>>,
}

impl Named {
    /// Collects what `policies` name.
    pub(super) fn of(policies: &[Loaded]) -> Self {
        let mut named = Self::default();
        for uid in policies.iter().flat_map(|policy| &policy.facts.uids) {
            let Some((provider, path)) = uid.id.split_once(':') else { continue };
            let paths = named.providers.entry(provider.into()).or_default();
            match uid.kind {
                Kind::Group => paths.groups.insert(path.into(), uid.clone()),
                Kind::Namespace => paths.namespaces.insert(path.into(), uid.clone()),
                Kind::Role => {
                    let named = path.split_once('#').and_then(|(path, role)| Some((path, role.parse().ok()?)));
                    let Some((path, role)) = named else { continue };
                    let roles = paths.roles.entry(path.into()).or_default();
                    if !roles.iter().any(|(known, _)| *known == role) {
                        roles.push((role, uid.clone()));
                    }
                    None
                }
                _ => None,
            };
        }
        named
    }

    /// The parents of a person of `provider` who is effectively a member of `paths`, in these `roles`.
    ///
    /// A `Group` is exactly that group; a `Namespace` is any group at or below it; a `Role` is that role there, or a greater.
    pub(super) fn parents(&self, provider: &str, paths: &[GroupPath], roles: &[(GroupPath, Role)]) -> Vec<Uid> {
        let Some(named) = self.providers.get(provider) else { return Vec::new() };
        let mut parents: Vec<Uid> = paths.iter().filter_map(|path| named.groups.get(path.as_str())).cloned().collect();
        if !named.namespaces.is_empty() {
            let above: BTreeSet<&str> = paths.iter().flat_map(GroupPath::lineage).collect();
            parents.extend(above.into_iter().filter_map(|path| named.namespaces.get(path)).cloned());
        }
        for (path, held) in roles {
            let there = named.roles.get(path.as_str()).into_iter().flatten();
            parents.extend(there.filter(|(role, _)| held >= role).map(|(_, uid)| uid.clone()));
        }
        parents
    }
}

impl Named {
    /// Every entity that policies name by whose membership of `paths` is asked.
    pub(super) fn among(&self, provider: &str, paths: &[GroupPath]) -> HashSet<Uid> {
        let Some(named) = self.providers.get(provider) else { return HashSet::new() };
        let mut found = HashSet::new();
        for path in paths.iter().map(GroupPath::as_str) {
            found.extend(named.groups.get(path).cloned());
            found.extend(named.roles.get(path).into_iter().flatten().map(|(_, uid)| uid.clone()));
            // whoever is in a group is in every namespace that it lies in
            let above = named.namespaces.iter().filter(|(name, _)| {
                path.strip_prefix(&***name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            found.extend(above.map(|(_, uid)| uid.clone()));
        }
        found
    }
}

/// The entity id of a person.
pub(super) fn user(id: &UserId) -> Uid {
    Uid::new(Kind::User, id.to_string())
}

/// The entity of a person.
pub(super) fn person(person: &Person, parents: &[Uid]) -> Entity {
    let mut attributes =
        vec![("provider", person.id.provider.as_str()), ("subject", &*person.id.subject), ("login", &*person.login)];
    attributes.extend(person.email.as_deref().map(|email| ("email", email)));
    attributes.extend(person.name.as_deref().map(|name| ("name", name)));
    entity(user(&person.id).to_cedar(), attributes, parents.iter().map(Uid::to_cedar).collect())
}

/// The entity of nobody known.
pub(super) fn anonymous() -> Entity {
    Entity::with_uid(Uid::new(Kind::Anonymous, "anonymous").to_cedar())
}

/// The entity of a route, with its labels.
pub(super) fn route(route: &Route) -> Entity {
    let labels = route.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    entity(Uid::new(Kind::Route, route.name.as_str()).to_cedar(), labels, HashSet::new())
}

fn entity<'a>(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (&'a str, &'a str)>,
    parents: HashSet<EntityUid>,
) -> Entity {
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), RestrictedExpression::new_string(value.to_owned())))
        .collect();
    Entity::new(uid, attributes, parents).expect("strings evaluate to themselves")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{load, oidc, paths, route};

    fn named(paths: &[&str]) -> Vec<String> {
        let checked = load(
            r#"@id("a") permit (principal is User in Group::"gitlab:a/b", action, resource);
               @id("b") permit (principal is User, action, resource) when { principal in Namespace::"gitlab:a" };
               @id("c") permit (principal is User in Group::"okta:a", action, resource);"#,
            &[route("r")],
            &[oidc("gitlab"), oidc("okta")],
        )
        .expect("the policies are good");
        let parents = Named::of(&checked.policies).parents("gitlab", &self::paths(paths), &[]);
        parents.into_iter().map(|uid| uid.to_cedar().to_string()).collect()
    }

    #[test]
    fn a_person_carries_only_groups_that_policies_name() {
        assert_eq!(named(&["a/b", "c", "d"]), [r#"Group::"gitlab:a/b""#, r#"Namespace::"gitlab:a""#]);
        assert_eq!(named(&["c"]), [""; 0]);
    }

    #[test]
    fn membership_below_is_in_the_namespace_and_never_in_the_group_above() {
        assert_eq!(named(&["a/b/c"]), [r#"Namespace::"gitlab:a""#]);
        assert_eq!(named(&["ab"]), [""; 0]);
        assert_eq!(named(&["A/b"]), [""; 0]);
    }
}
