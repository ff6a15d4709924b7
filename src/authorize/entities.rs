//! The entities of one request: the principal with those of its groups that policies name, and the route.

use super::{
    policies::Loaded,
    words::{Kind, Uid},
};
use crate::{
    group::{GroupPath, Role},
    principal::{Asker, Job, Person, Service, UserId},
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

impl Named {
    /// The groups of the same provider as `of` that policies name, alone or by a role, below `path`.
    pub(super) fn below(&self, of: &Uid, path: &GroupPath) -> Vec<GroupPath> {
        let Some(named) = of.provider().and_then(|provider| self.providers.get(provider)) else { return Vec::new() };
        let all = named.groups.keys().chain(named.roles.keys());
        let below = all.filter(|name| name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/')));
        below.filter_map(|name| name.parse().ok()).collect()
    }

    /// True if some policy names a group, namespace or role of `provider` with this path.
    pub(super) fn has(&self, provider: &str, path: &str) -> bool {
        let has = |named: &Paths| {
            named.groups.contains_key(path) || named.namespaces.contains_key(path) || named.roles.contains_key(path)
        };
        self.providers.get(provider).is_some_and(has)
    }
}

/// The entity id of whoever asks.
pub(super) fn uid(asker: &Asker) -> Uid {
    match asker.id() {
        None => Uid::new(Kind::Anonymous, "anonymous"),
        Some(id) => Uid::new(Kind::asking(asker), id.to_string()),
    }
}

/// Where a job is: its project, and every namespace above that. Nowhere, where nobody can say in which project it runs.
pub(super) fn places(job: &Job) -> Vec<Uid> {
    let Some(project) = &job.project else { return Vec::new() };
    let at = |kind, path: &str| Uid::new(kind, format!("{}:{path}", job.namespace));
    let above = project.lineage().filter(|path| *path != project.as_str());
    std::iter::once(at(Kind::Project, project.as_str())).chain(above.map(|path| at(Kind::Namespace, path))).collect()
}

/// The entities of whoever asks, who is in `parents`; of a job also its person, who is a member of `groups`.
pub(super) fn asker(asker: &Asker, parents: &[Uid], groups: &[Uid]) -> Vec<Entity> {
    match asker {
        Asker::Nobody => vec![Entity::with_uid(uid(asker).to_cedar())],
        Asker::Person(it) => vec![person(it, parents)],
        Asker::Job(it) => vec![job(it, parents), person(&it.person, groups)],
        Asker::Service(it) => vec![service(it, parents)],
    }
}

/// The entity of a person.
pub(super) fn person(person: &Person, parents: &[Uid]) -> Entity {
    let mut attributes =
        vec![("provider", person.id.provider.as_str()), ("subject", &*person.id.subject), ("login", &*person.login)];
    attributes.extend(person.email.as_deref().map(|email| ("email", email)));
    attributes.extend(person.name.as_deref().map(|name| ("name", name)));
    entity(user(&person.id).to_cedar(), texts(attributes), parents)
}

fn user(id: &UserId) -> Uid {
    Uid::new(Kind::User, id.to_string())
}

fn job(job: &Job, parents: &[Uid]) -> Entity {
    let number = |number: u64| RestrictedExpression::new_long(i64::try_from(number).unwrap_or(i64::MAX));
    let truth = RestrictedExpression::new_bool;
    let required: [(&str, &str); 5] = [
        ("ref", &job.git_ref),
        ("ref_type", &job.ref_type),
        ("pipeline_source", &job.pipeline_source),
        ("runner_environment", &job.runner_environment),
        ("sha", &job.sha),
    ];
    let optional = [
        ("environment", job.environment.as_deref()),
        ("deployment_tier", job.deployment_tier.as_deref()),
        ("environment_action", job.environment_action.as_deref()),
        ("ci_config_ref_uri", job.ci_config_ref_uri.as_deref()),
        ("source_project", job.source_project()),
    ];
    let mut attributes =
        texts(required.into_iter().chain(optional.into_iter().filter_map(|(name, it)| Some((name, it?)))));
    attributes.extend([
        ("user".to_owned(), RestrictedExpression::new_entity_uid(user(&job.person.id).to_cedar())),
        ("ref_protected".to_owned(), truth(job.ref_protected)),
        ("runner_id".to_owned(), number(job.runner_id)),
        ("project_id".to_owned(), number(job.project_id)),
        ("job_id".to_owned(), number(job.job_id)),
    ]);
    attributes.extend(job.environment_protected.map(|is| ("environment_protected".to_owned(), truth(is))));
    entity(Uid::new(Kind::Job, job.id.to_string()).to_cedar(), attributes, parents)
}

fn service(service: &Service, parents: &[Uid]) -> Entity {
    let mut attributes = texts([("issuer", &*service.issuer), ("client_id", &*service.client_id)]);
    let scopes = service.scopes.iter().map(|scope| RestrictedExpression::new_string(scope.clone()));
    attributes.insert("scopes".to_owned(), RestrictedExpression::new_set(scopes));
    entity(Uid::new(Kind::Service, service.id.to_string()).to_cedar(), attributes, parents)
}

/// The entity of a route, with its labels.
pub(super) fn route(route: &Route) -> Entity {
    let labels = route.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    entity(Uid::new(Kind::Route, route.name.as_str()).to_cedar(), texts(labels), &[])
}

type Attributes = HashMap<String, RestrictedExpression>;

fn texts<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> Attributes {
    let text = |(name, value): (&str, &str)| (name.to_owned(), RestrictedExpression::new_string(value.to_owned()));
    values.into_iter().map(text).collect()
}

fn entity(uid: EntityUid, attributes: Attributes, parents: &[Uid]) -> Entity {
    let parents = parents.iter().map(Uid::to_cedar).collect();
    Entity::new(uid, attributes, parents).expect("texts, numbers and truth values evaluate to themselves")
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
