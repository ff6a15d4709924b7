//! What a set of policies says as a whole: whom it names, and where it lets nobody in.

use super::{
    Authorize,
    facts::Facts,
    words::{Kind, Scope},
};
use crate::route::Route;
use std::collections::BTreeSet;

impl Authorize {
    /// The routes on which no policy permits anything to anybody who can come: a person, or nobody known.
    pub fn closed<'r>(&self, routes: &'r [Route]) -> Vec<&'r Route> {
        let permits: Vec<&Facts> =
            self.book.policies.iter().map(|policy| &policy.facts).filter(|it| opens(it)).collect();
        routes.iter().filter(|route| !permits.iter().any(|facts| is_about(facts, route))).collect()
    }

    /// The ids of all groups, namespaces and roles that policies name about people, or about those behind jobs, such as
    /// `gitlab:acme/platform`.
    pub fn groups(&self) -> BTreeSet<String> {
        let people = self.book.policies.iter().map(|policy| &policy.facts).filter(|facts| is_about_people(facts));
        let named = people.flat_map(|facts| &facts.uids).filter(|uid| uid.kind.is_membership());
        let behind = self.book.policies.iter().map(|policy| &policy.facts).filter(|facts| facts.job_person);
        let behind = behind.flat_map(|facts| &facts.uids).filter(|uid| matches!(uid.kind, Kind::Group | Kind::Role));
        named.chain(behind).map(|uid| uid.id.to_string()).collect()
    }
}

fn opens(facts: &Facts) -> bool {
    facts.permits && (is_about_people(facts) || facts.principal.kind() == Some(Kind::Anonymous))
}

fn is_about_people(facts: &Facts) -> bool {
    facts.principal.kind().is_none_or(|kind| kind == Kind::User)
}

fn is_about(facts: &Facts, route: &Route) -> bool {
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
    use crate::authorize::testing::{gitlab_with_api, route};

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
