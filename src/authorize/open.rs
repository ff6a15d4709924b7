//! What is open to somebody whom we do not know, or who is only signed in: the thing to look at first when policies are read by
//! others.

use super::{
    Authorize,
    anonymous::{Hinge, Somebody, asks, hinges_on},
    policies::Loaded,
    reach::is_about,
    words::{Actions, Kind, Scope},
};
use crate::{principal::Name, route::Route};
use cedar_policy::pst::{BinaryOp, Expr, Literal, PatternElem, Var};
use std::sync::Arc;

/// One policy that permits something on one route, whoever asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// The route.
    pub route: Name,
    /// `read`, `write`, or single actions of these.
    pub actions: Vec<&'static str>,
    /// Which paths, `*` for any text; empty for all.
    pub paths: Vec<String>,
    /// What has to hold besides, as Cedar text.
    pub conditions: Vec<String>,
    /// The `@id` of the policy.
    pub policy: Arc<str>,
    /// The `@id`s of forbids that may take some of it away.
    pub forbids: Vec<Arc<str>>,
}

impl Authorize {
    /// All that is open to those who are not signed in, in the order of the routes. What policies permit to them and others forbid
    /// them for certain is left out, and so is a route with `step_up`, which is for people who are signed in.
    pub fn open(&self, routes: &[Route]) -> Vec<Open> {
        let open = |route| self.open_at(Somebody { kind: Kind::Anonymous, route });
        routes.iter().filter(|route| route.step_up.is_none()).flat_map(open).collect()
    }

    /// All that is open to everybody who is signed in, whoever that is and in whichever group, in the order of the routes. What is
    /// open to those who are not signed in as well is left out, and so are routes that take nobody's people.
    pub fn open_to_signed_in(&self, routes: &[Route]) -> Vec<Open> {
        let open = self.open(routes);
        let is_open = |it: &Open| open.iter().any(|other| (&other.route, &other.policy) == (&it.route, &it.policy));
        let takes = |route: &&Route| !route.providers.is_empty() || !route.token_issuers.is_empty();
        let known = routes.iter().filter(takes).flat_map(|route| self.open_at(Somebody { kind: Kind::User, route }));
        known.filter(|it| !is_open(it)).collect()
    }

    fn open_at(&self, somebody: Somebody<'_>) -> Vec<Open> {
        let route = somebody.route;
        let about = self.book.policies.iter().filter(|policy| is_about(&policy.facts, route));
        let meant = about.filter_map(|policy| Some((policy, hinges_on(&policy.policy, &policy.facts, somebody)?)));
        let (permits, forbids): (Vec<_>, Vec<_>) = meant.partition(|(policy, _)| policy.facts.permits);
        let whoever = |(policy, hinges): &(&Loaded, Vec<Hinge>)| {
            let scope = &policy.facts.principal;
            (*scope == Scope::Any || *scope == Scope::Is(somebody.kind) || somebody.kind == Kind::Anonymous)
                && !hinges.iter().any(|hinge| asks(&hinge.condition, &Var::Principal))
        };
        let is_certain = |forbid: &(&Loaded, Vec<Hinge>)| forbid.1.is_empty() && whoever(forbid);
        let (always, perhaps): (Vec<_>, Vec<_>) = forbids.into_iter().partition(is_certain);
        let mut shut = Actions::default();
        always.iter().for_each(|(policy, _)| shut.add(policy.facts.actions));
        let permits = permits.into_iter().filter(|permit| somebody.kind == Kind::Anonymous || whoever(permit));
        let opens = permits.map(|(policy, hinges)| (policy, policy.facts.actions.without(shut), hinges));
        let some = opens.filter(|(_, actions, _)| actions.meets(*actions));
        some.map(|(policy, actions, hinges)| {
            let forbids = perhaps.iter().map(|(forbid, _)| *forbid).filter(|it| it.facts.actions.meets(actions));
            opening(route, (policy, actions), &hinges, forbids.map(|forbid| forbid.id.clone()).collect())
        })
        .collect()
    }
}

fn opening(route: &Route, permit: (&Loaded, Actions), hinges: &[Hinge], forbids: Vec<Arc<str>>) -> Open {
    let first = hinges.iter().position(|hinge| hinge.wanted && paths(&hinge.condition).is_some());
    let others = hinges.iter().enumerate().filter(|(place, _)| Some(*place) != first);
    Open {
        route: route.name.clone(),
        actions: permit.1.words(),
        paths: first.and_then(|place| paths(&hinges[place].condition)).unwrap_or_default(),
        conditions: others.map(|(_, hinge)| hinge.text()).collect(),
        policy: permit.0.id.clone(),
        forbids,
    }
}

impl Hinge {
    fn text(&self) -> String {
        if self.wanted { self.condition.to_string() } else { format!("!({})", self.condition) }
    }
}

/// The paths that a condition is about, if it is about nothing else.
fn paths(condition: &Expr) -> Option<Vec<String>> {
    match condition {
        Expr::Like { expr, pattern } if is_path(expr) => Some(vec![pattern.iter().map(letter).collect()]),
        Expr::BinaryOp { op: BinaryOp::Or, left, right } => Some([paths(left)?, paths(right)?].concat()),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } if is_path(left) => Some(vec![literal(right)?]),
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } if is_path(right) => Some(vec![literal(left)?]),
        Expr::BinaryOp { op: BinaryOp::Contains, left, right } if is_path(right) => match &**left {
            Expr::Set(items) => items.iter().map(|item| literal(item)).collect(),
            _ => None,
        },
        _ => None,
    }
}

fn is_path(expr: &Expr) -> bool {
    match expr {
        Expr::GetAttr { expr, attr } => {
            **expr == Expr::Var(Var::Context) && ["path", "path_folded"].contains(&attr.as_str())
        }
        _ => false,
    }
}

/// A star that stands for itself is written with a backslash, as Cedar does it.
fn literal(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(Literal::String(text)) => Some(text.replace('*', "\\*")),
        _ => None,
    }
}

fn letter(element: &PatternElem) -> String {
    match element {
        PatternElem::Char('*') => "\\*".to_owned(),
        PatternElem::Char(letter) => letter.to_string(),
        PatternElem::Wildcard => "*".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::{
            Outcome,
            testing::{asked, load, placed, route},
        },
        canonical::Judged,
        principal::{Principal, StepUp},
    };
    use std::time::UNIX_EPOCH;

    fn routes() -> Vec<Route> {
        let mut routes = [route("portal"), route("api")];
        routes[1].labels.insert("tier".into(), "public".into());
        routes.into_iter().enumerate().map(|(index, route)| placed(index, &route)).collect()
    }

    fn policies(text: &str) -> Authorize {
        Authorize::new(load(text, &routes(), &[]).unwrap_or_else(|errors| panic!("{errors:?}"))).expect("policies")
    }

    /// Each opening as `route actions paths conditions forbids`.
    fn open(text: &str) -> Vec<String> {
        let found = policies(text).open(&routes());
        let line = |it: &Open| {
            let (actions, paths) = (it.actions.join(","), it.paths.join(","));
            format!("{} {actions} [{paths}] [{}] {}", it.route, it.conditions.join("; "), it.forbids.join(","))
        };
        found.iter().map(|it| line(it).trim_end().to_owned()).collect()
    }

    #[test]
    fn what_is_open_is_told_with_its_paths_and_conditions() {
        for (policy, expected) in [
            (r#"permit (principal, action, resource == Route::"api");"#, vec!["api read,write [] []"]),
            (r#"permit (principal, action, resource);"#, vec!["portal read,write [] []", "api read,write [] []"]),
            (
                r#"permit (principal is Anonymous, action in [Action::"read", Action::"POST"], resource == Route::"api")
                   when { context.path like "/a/*" || context.path == "/*" };"#,
                vec![r"api read,POST [/a/*,/\*] []"],
            ),
            (
                r#"permit (principal, action == Action::"GET", resource) when { ["/a", "/b"].contains(context.path) }
                   when { resource has tier && resource.tier == "public" };"#,
                vec!["api GET [/a,/b] []"],
            ),
            (
                r#"permit (principal, action in Action::"read", resource == Route::"api")
                   when { (principal is User || context.path == "/") && context.query == "" } unless { context.class == "grpc" };"#,
                vec![r#"api read [/] [context.query == ""; !(context.class == "grpc")]"#],
            ),
            (r#"permit (principal is User, action, resource);"#, vec![]),
            (r#"permit (principal, action, resource) unless { principal is Anonymous };"#, vec![]),
        ] {
            assert_eq!(open(&format!("@id(\"a\") {policy}")), expected, "{policy}");
        }
    }

    #[test]
    fn what_is_forbidden_for_certain_is_not_open() {
        let permit = r#"@id("a") permit (principal, action, resource == Route::"api");"#;
        for (forbid, expected) in [
            (r#"forbid (principal, action in Action::"write", resource);"#, vec!["api read [] []"]),
            (r#"forbid (principal, action, resource) unless { principal is User };"#, vec![]),
            (r#"forbid (principal is User, action, resource);"#, vec!["api read,write [] []"]),
            (r#"forbid (principal, action, resource == Route::"portal");"#, vec!["api read,write [] []"]),
            (
                r#"forbid (principal, action, resource) when { context.path_folded like "/x/*" };"#,
                vec!["api read,write [] [] b"],
            ),
        ] {
            assert_eq!(open(&format!("{permit} @id(\"b\") {forbid}")), expected, "{forbid}");
        }
    }

    /// A group, a role, a person or anything else about them is narrower; what is open to anybody is told elsewhere.
    #[test]
    fn what_is_open_to_everybody_who_is_signed_in_is_told() {
        let mut routes = routes();
        routes[0].providers = ["okta".parse().expect("a name")].into();
        let open = |text: &str| -> Vec<String> {
            let providers = [crate::authorize::testing::oidc("okta")];
            let checked = load(text, &routes, &providers).unwrap_or_else(|errors| panic!("{errors:?}"));
            let found = Authorize::new(checked).expect("policies").open_to_signed_in(&routes);
            let line = |it: &Open| {
                let (actions, paths, conditions) = (it.actions.join(","), it.paths.join(","), it.conditions.join("; "));
                format!("{} {actions} [{paths}] [{conditions}] {}", it.route, it.forbids.join(","))
                    .trim_end()
                    .to_owned()
            };
            found.iter().map(line).collect()
        };
        for (policy, expected) in [
            ("permit (principal is User, action, resource);", vec!["portal read,write [] []"]),
            (
                r#"permit (principal, action, resource) when { principal is User && context.path like "/a/*" };"#,
                vec!["portal read,write [/a/*] []"],
            ),
            (
                "permit (principal, action, resource) unless { principal is Anonymous };",
                vec!["portal read,write [] []"],
            ),
            ("permit (principal, action, resource);", vec![]),
            ("permit (principal is Job, action, resource);", vec![]),
            (r#"permit (principal is User in Group::"okta:a", action, resource);"#, vec![]),
            (r#"permit (principal == User::"okta:1", action, resource);"#, vec![]),
            (r#"permit (principal is User, action, resource) when { principal in Group::"okta:a" };"#, vec![]),
            (
                r#"permit (principal is User, action, resource) when { principal has email && principal.email like "*@acme.com" };"#,
                vec![],
            ),
        ] {
            assert_eq!(open(&format!("@id(\"a\") {policy}")), expected, "{policy}");
        }
        let permit = "@id(\"a\") permit (principal is User, action, resource);";
        for (forbid, expected) in [
            (r#"forbid (principal, action in Action::"write", resource);"#, "portal read [] []"),
            (r#"forbid (principal is User in Group::"okta:a", action, resource);"#, "portal read,write [] [] b"),
            (
                r#"forbid (principal, action, resource) unless { principal in Group::"okta:a" };"#,
                "portal read,write [] [] b",
            ),
        ] {
            assert_eq!(open(&format!("{permit} @id(\"b\") {forbid}")), [expected], "{forbid}");
        }
    }

    #[test]
    fn a_route_that_wants_a_fresh_sign_in_is_open_to_nobody_unknown() {
        let (policies, mut routes) = (policies(r#"@id("a") permit (principal, action, resource);"#), routes());
        routes[0].step_up = Some(Arc::new(StepUp::default()));
        let open: Vec<_> = policies.open(&routes).into_iter().map(|it| it.route.to_string()).collect();
        assert_eq!(open, ["api"]);
    }

    /// Whatever is decided for `Anonymous`, nothing is permitted that was not told.
    #[test]
    fn nothing_is_permitted_that_is_not_told() {
        for (policy, told) in [
            (r#"permit (principal, action, resource) when { principal is Anonymous };"#, true),
            (r#"permit (principal, action, resource) when { !(principal is User) };"#, true),
            (r#"permit (principal, action, resource) when { if principal is User then false else true };"#, true),
            (r#"permit (principal, action, resource) when { [principal is User, false].contains(false) };"#, true),
            (r#"permit (principal, action, resource) when { principal == Anonymous::"anonymous" };"#, true),
            (r#"permit (principal, action, resource) when { principal == User::"a:1" || principal is Job };"#, false),
            (r#"permit (principal, action, resource) when { principal is User && principal.login == "a" };"#, false),
        ] {
            let policies = policies_of(policy);
            let judged = Judged::from(asked("GET", "/"));
            let decision = policies.decide(&Principal::Anonymous, &judged, &routes()[0], UNIX_EPOCH);
            let open = policies.open(&routes()).iter().any(|it| it.route.as_str() == "portal");
            assert_eq!((decision.outcome == Outcome::Permitted, open), (told, told), "{policy}");
        }
    }

    fn policies_of(policy: &str) -> Authorize {
        let providers = [crate::authorize::testing::gitlab("a")];
        let text = format!("@id(\"a\") {policy}");
        Authorize::new(load(&text, &routes(), &providers).unwrap_or_else(|errors| panic!("{errors:?}")))
            .expect("policies")
    }
}
