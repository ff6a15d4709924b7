//! What a set of policies says as a whole: whom it names, and where it lets nobody in.

use super::{
    Authorize, PolicyError,
    facts::Facts,
    gaps,
    mistake::Spot,
    never,
    policies::Loaded,
    words::{Kind, Scope},
};
use crate::{
    config::{TokenIssuerSettings, TokenKind},
    principal::Name,
    route::Route,
};
use std::{collections::BTreeSet, sync::Arc};

impl Authorize {
    /// The routes on which no policy permits anything to anybody who can come: a person, nobody known, and where the route takes
    /// tokens a job or a service.
    pub fn closed<'r>(&self, routes: &'r [Route]) -> Vec<&'r Route> {
        let permits: Vec<&Facts> =
            self.book.policies.iter().map(|policy| &policy.facts).filter(|it| it.permits).collect();
        let opens = |facts: &&Facts, route: &Route| is_about(facts, route) && may_come(facts, route);
        routes.iter().filter(|route| !permits.iter().any(|facts| opens(facts, route))).collect()
    }

    /// Permits that never apply, because a forbid wins wherever they could. The set is served all the same: what is meant to end
    /// access must not wait until the permits under it are tidied up.
    pub fn overruled(&self) -> &[PolicyError] {
        &self.idle.overruled
    }

    /// What is odd about the policies but not wrong, in the order of their places.
    pub fn warnings(&self, routes: &[Route], issuers: &[Arc<TokenIssuerSettings>]) -> Vec<PolicyError> {
        let has_jobs = issuers.iter().any(|issuer| issuer.has_jobs());
        let unpinned = self.unpinned(issuers).into_iter().filter(|_| has_jobs);
        let unpinned = unpinned.map(|(spot, path)| {
            let message = format!("a permit for jobs of `{path}`, whose id is not written");
            PolicyError::at(spot.clone(), message).help(format!(
                "whoever gets that path after it is renamed or deleted is let in: write `projects: {{ {path}: ID }}` in \
                 `token_issuers`"
            ))
        });
        let permits = self.book.policies.iter().filter(|policy| policy.facts.permits);
        let stranded = permits.filter_map(|policy| stranded(policy, routes, issuers));
        let gaps = gaps::warnings(&self.book.policies, routes);
        let odd = never::odd(&self.book.policies, routes);
        self.idle.shadowed.iter().cloned().chain(gaps).chain(odd).chain(stranded).chain(unpinned).collect()
    }

    /// Permits for jobs of a project by its path alone, each with its place and the path: whoever gets the path next is let in.
    fn unpinned(&self, issuers: &[Arc<TokenIssuerSettings>]) -> Vec<(&Spot, &str)> {
        let pinned = |path: &str| {
            issuers.iter().any(|issuer| match &issuer.kind {
                TokenKind::GitlabCi(ci) => ci.projects.keys().any(|known| known.as_str() == path),
                TokenKind::Jwt(_) | TokenKind::Introspection(_) | TokenKind::Certificate => false,
            })
        };
        let permits = self.book.policies.iter().filter(|policy| policy.facts.permits);
        let named = permits.flat_map(|policy| {
            let projects = policy.facts.uids.iter().filter(|uid| uid.kind == Kind::Project);
            projects.filter_map(|uid| Some((&policy.spot, uid.id.split_once(':')?.1)))
        });
        let mut all: Vec<_> = named.filter(|(_, path)| !pinned(path)).collect();
        all.dedup();
        all
    }

    /// The ids of all groups, namespaces and roles that policies name about people, or about those behind jobs, such as
    /// `gitlab:acme/platform`.
    pub fn groups(&self) -> BTreeSet<String> {
        self.groups_of(&|_| true)
    }

    /// The same of some policies.
    pub(super) fn groups_of(&self, is: &dyn Fn(&Loaded) -> bool) -> BTreeSet<String> {
        let policies: Vec<_> = self.book.policies.iter().filter(|policy| is(policy)).map(|it| &it.facts).collect();
        let people = policies.iter().filter(|facts| is_about_people(facts));
        let named = people.flat_map(|facts| &facts.uids).filter(|uid| uid.kind.is_membership());
        let behind = policies.iter().filter(|facts| facts.job_person);
        let behind = behind.flat_map(|facts| &facts.uids).filter(|uid| matches!(uid.kind, Kind::Group | Kind::Role));
        named.chain(behind).map(|uid| uid.id.to_string()).collect()
    }

    /// The ids of all namespaces among these: whoever is in a group below one is in it.
    pub fn trees(&self) -> BTreeSet<String> {
        let people = self.book.policies.iter().map(|policy| &policy.facts).filter(|facts| is_about_people(facts));
        let named = people.flat_map(|facts| &facts.uids).filter(|uid| uid.kind == Kind::Namespace);
        named.map(|uid| uid.id.to_string()).collect()
    }
}

/// A permit on one route, for somebody who never comes there.
fn stranded(policy: &Loaded, routes: &[Route], issuers: &[Arc<TokenIssuerSettings>]) -> Option<PolicyError> {
    let on = policy.facts.resource.uid().filter(|uid| uid.kind == Kind::Route)?;
    let route = routes.iter().find(|route| *route.name.as_str() == *on.id)?;
    let taken = || issuers.iter().filter(|issuer| route.token_issuers.contains(&issuer.name));
    let (whom, help) = match (policy.facts.principal.kind()?, policy.facts.principal.uid()) {
        (Kind::Job, _) if !taken().any(|issuer| issuer.has_jobs()) => {
            ("jobs do not come".to_owned(), "name an issuer of CI jobs in its `token_issuers`")
        }
        (Kind::Service, _) if !taken().any(|issuer| issuer.has_services()) => {
            ("services do not come".to_owned(), "name an issuer of services in its `token_issuers`")
        }
        (Kind::User, Some(uid)) => {
            let provider = uid.provider()?;
            let is = |name: &Name| name.as_str() == provider;
            if route.providers.iter().any(is) || taken().any(|issuer| is(issuer.namespace())) {
                return None;
            }
            (format!("people of `{provider}` do not come"), "name the provider in its `providers`")
        }
        _ => return None,
    };
    let message = format!("the permit `{}` never applies: {whom} to route `{}`", policy.id, route.name);
    Some(PolicyError::at(policy.spot.clone(), message).help(format!("{help}, or take the permit away")))
}

fn may_come(facts: &Facts, route: &Route) -> bool {
    match facts.principal.kind() {
        None | Some(Kind::User | Kind::Anonymous) => true,
        Some(_) => !route.token_issuers.is_empty(),
    }
}

fn is_about_people(facts: &Facts) -> bool {
    facts.principal.kind().is_none_or(|kind| kind == Kind::User)
}

/// True if the resource scope fits the route.
pub(super) fn is_about(facts: &Facts, route: &Route) -> bool {
    match &facts.resource {
        Scope::Any | Scope::Is(Kind::Route) => true,
        Scope::Eq(uid) | Scope::In(uid) | Scope::IsIn(Kind::Route, uid) => {
            uid.kind == Kind::Route && *uid.id == *route.name.as_str()
        }
        Scope::Is(_) | Scope::IsIn(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{gitlab_with_api, jobs, route};

    fn policies(text: &str) -> (Authorize, Vec<Route>) {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.cedar"), text).expect("written");
        let routes = vec![route("portal"), route("api")];
        let policies = Authorize::load(Some(directory.path()), &routes, &[gitlab_with_api("gitlab")], &[]);
        (policies.unwrap_or_else(|errors| panic!("{errors:?}")), routes)
    }

    fn closed(text: &str) -> Vec<String> {
        let (policies, routes) = policies(text);
        policies.closed(&routes).iter().map(|route| route.name.to_string()).collect()
    }

    #[test]
    fn a_route_that_nothing_permits_is_closed() {
        assert_eq!(closed(r#"@id("a") permit (principal, action, resource == Route::"api");"#), ["portal"]);
        assert_eq!(closed(r#"@id("a") permit (principal is User, action, resource is Route);"#), [""; 0]);
        assert_eq!(closed(r#"@id("a") forbid (principal, action, resource);"#), ["portal", "api"]);
        let jobs = r#"@id("a") permit (principal is Job, action, resource);
                      @id("b") permit (principal is Anonymous, action, resource == Route::"api");"#;
        assert_eq!(closed(jobs), ["portal"]);
    }

    /// A route that takes tokens may be for jobs alone, or for services.
    #[test]
    fn a_route_that_takes_tokens_is_opened_by_permits_for_jobs() {
        let text = r#"@id("a") permit (principal is Job, action, resource == Route::"api");
                      @id("b") permit (principal is Service, action, resource == Route::"portal");"#;
        let (policies, mut routes) = policies(text);
        assert_eq!(policies.closed(&routes).len(), 2);
        routes[1].token_issuers = ["ci".parse().expect("a name")].into();
        assert_eq!(policies.closed(&routes).iter().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["portal"]);
    }

    #[test]
    fn a_permit_by_path_alone_is_told() {
        let text = r#"@id("a") permit (principal is Job in Project::"gitlab:acme/api", action, resource);
                      @id("b") permit (principal is Job in Project::"gitlab:acme/web", action, resource);
                      @id("c") forbid (principal is Job in Project::"gitlab:acme/old", action, resource);"#;
        let (policies, _) = policies(text);
        let mut ci = (*jobs("ci", "gitlab")).clone();
        let TokenKind::GitlabCi(gitlab) = &mut ci.kind else { unreachable!("it is of jobs") };
        gitlab.projects.insert("acme/web".parse().expect("a path"), 7);
        let told: Vec<_> = policies.unpinned(&[Arc::new(ci)]).into_iter().map(|(_, path)| path).collect();
        assert_eq!(told, ["acme/api"]);
    }

    /// Permits for whom a route does not take are told, each with what would let them come.
    #[test]
    fn a_permit_for_somebody_who_never_comes_is_told() {
        let text = r#"@id("a") permit (principal is User in Group::"gitlab:acme", action, resource == Route::"portal");
                      @id("b") permit (principal is Job, action, resource == Route::"portal");
                      @id("c") permit (principal is Service, action, resource == Route::"api");
                      @id("d") permit (principal is User, action, resource == Route::"api");"#;
        let (policies, mut routes) = policies(text);
        let told = |routes: &[Route]| -> Vec<String> {
            let all = policies.warnings(routes, &[jobs("ci", "gitlab")]);
            all.iter().map(|one| one.message.clone()).filter(|it| it.contains("never applies")).collect()
        };
        routes[0].providers = ["okta".parse().expect("a name")].into();
        assert_eq!(
            told(&routes),
            [
                "the permit `a` never applies: people of `gitlab` do not come to route `portal`",
                "the permit `b` never applies: jobs do not come to route `portal`",
                "the permit `c` never applies: services do not come to route `api`",
            ]
        );
        routes[0].token_issuers = ["ci".parse().expect("a name")].into();
        assert_eq!(told(&routes).len(), 1, "{:?}", told(&routes));
    }

    #[test]
    fn groups_are_those_of_people_and_of_those_behind_jobs() {
        let (policies, _) = policies(
            r#"@id("a") permit (principal is User in Namespace::"gitlab:acme", action, resource)
               when { principal in Group::"gitlab:acme/infra" };
               @id("b") permit (principal is Job in Namespace::"gitlab:jobs", action, resource);
               @id("c") permit (principal is Job in Namespace::"gitlab:jobs", action, resource)
               when { principal.user in Group::"gitlab:release" };"#,
        );
        assert_eq!(Vec::from_iter(policies.groups()), ["gitlab:acme", "gitlab:acme/infra", "gitlab:release"]);
    }
}
