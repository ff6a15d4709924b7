//! Policies that leave more open than they seem to. All of it is served: it is said, and not refused.

use super::{
    PolicyError,
    anonymous::may_be_permitted,
    compared::{Compared, Comparisons, Subject, parts},
    facts::Facts,
    lint::{may_match, may_name},
    policies::Loaded,
    words::{Actions, Attribute, Scope},
};
use crate::route::Route;
use cedar_policy::pst::{BinaryOp, Clause, Expr, Literal, UnaryOp, Var};
use std::sync::Arc;

/// What is odd about paths and bodies that policies ask about, in the order of the policies.
pub(super) fn warnings(policies: &[Loaded], routes: &[Route]) -> Vec<PolicyError> {
    let read: Vec<Read<'_>> = policies.iter().filter(|policy| asks_path_or_body(&policy.facts)).map(Read::of).collect();
    let shut: Vec<&Loaded> = policies.iter().filter(|policy| shuts_all(policy)).collect();
    let all = All { read: &read, shut: &shut, policies, routes };
    read.iter().flat_map(|one| if one.policy.facts.permits { all.permit(one) } else { all.forbid(one) }).collect()
}

fn asks_path_or_body(facts: &Facts) -> bool {
    [Attribute::Path, Attribute::PathFolded, Attribute::Body].iter().any(|it| facts.reads.contains(*it))
}

/// A forbid without any condition.
fn shuts_all(policy: &Loaded) -> bool {
    !policy.facts.permits && clauses(policy).is_empty()
}

fn clauses(policy: &Loaded) -> Vec<Clause> {
    policy.policy.to_pst().map(|parsed| parsed.body().clauses().to_vec()).unwrap_or_default()
}

/// A policy, and what it compares paths with.
struct Read<'a> {
    policy: &'a Loaded,
    paths: Vec<Compared>,
}

impl<'a> Read<'a> {
    fn of(policy: &'a Loaded) -> Self {
        let is_path = |one: &Compared| matches!(one.subject, Subject::Context(Attribute::Path | Attribute::PathFolded));
        let paths = Comparisons::of(&policy.policy).all.into_iter().filter(is_path).collect();
        Self { policy, paths }
    }

    /// The patterns by which it applies to more.
    fn widening(&self) -> impl Iterator<Item = &Compared> {
        self.paths.iter().filter(|one| one.is_like && one.widens == Some(true))
    }

    /// A forbid is about this path, as far as paths tell.
    fn is_about(&self, path: &str) -> bool {
        let fits = |widens| self.paths.iter().filter(move |one| one.widens == widens).map(|one| one.fits(path));
        match fits(Some(true)).next() {
            Some(_) => fits(Some(true)).any(|fits| fits),
            None => !self.paths.is_empty() && !fits(Some(false)).any(|fits| fits),
        }
    }
}

struct All<'a> {
    read: &'a [Read<'a>],
    /// Forbids that ask for nothing.
    shut: &'a [&'a Loaded],
    policies: &'a [Loaded],
    routes: &'a [Route],
}

impl All<'_> {
    fn forbid(&self, one: &Read<'_>) -> Vec<PolicyError> {
        let open = one.widening().filter_map(|pattern| self.open_folder(one, pattern));
        open.chain(self.unnamed(one.policy)).collect()
    }

    /// `like "/secret/*"` says nothing of `/secret`.
    fn open_folder(&self, one: &Read<'_>, pattern: &Compared) -> Option<PolicyError> {
        let beginning = pattern.beginning()?;
        let folder = beginning.strip_suffix('/').filter(|folder| !folder.is_empty())?;
        if pattern.subject != Subject::Context(Attribute::PathFolded) || self.is_shut(one, folder) {
            return None;
        }
        let facts = &one.policy.facts;
        let is_there = |route: &&Route| may_match(&facts.resource, route) && is_on(folder, route);
        self.routes.iter().find(is_there)?;
        let message = format!("the forbid `{}` leaves `{folder}` itself open", one.policy.id);
        let help =
            format!("write `context.path_folded == \"{folder}\" || context.path_folded like \"{}\"`", pattern.text());
        Some(PolicyError::at(one.policy.near(&format!("\"{}\"", pattern.text())), message).help(help))
    }

    /// Some forbid is about the folder itself, with all actions and routes of this one.
    fn is_shut(&self, one: &Read<'_>, folder: &str) -> bool {
        let holds = |other: &Facts| {
            let resource =
                matches!(other.resource, Scope::Any | Scope::Is(_)) || other.resource == one.policy.facts.resource;
            !other.permits && resource && other.actions.contain(one.policy.facts.actions)
        };
        let about = self.read.iter().filter(|other| holds(&other.policy.facts)).any(|other| other.is_about(folder));
        let is_wider = |other: &Facts| {
            let principal = &one.policy.facts.principal;
            other.principal == Scope::Any || other.principal == *principal
        };
        about || self.shut.iter().any(|other| holds(&other.facts) && is_wider(&other.facts))
    }

    /// A forbid that waits for a field of the body never applies where no body is read.
    fn unnamed(&self, policy: &Loaded) -> Option<PolicyError> {
        let facts = &policy.facts;
        let about = || self.routes.iter().filter(|route| may_match(&facts.resource, route));
        let rules = about().flat_map(|route| &*route.body_fields).filter(|rule| may_name(facts, rule));
        let named: Vec<&str> = rules.map(|rule| &*rule.path).collect();
        if facts.body_fields.is_empty() || !never_without_body(policy) || keeps_to(policy, &named) {
            return None;
        }
        let others = |permit: &&Loaded| self.may_permit(permit, facts.actions, about()) && !keeps_to(permit, &named);
        self.policies.iter().filter(|other| other.facts.permits).find(others)?;
        let message = format!(
            "requests that no rule of `body_fields` names get past the forbid `{}`: their bodies are not read",
            policy.id
        );
        let paths: Vec<_> = named.iter().map(|path| format!("`context.path_folded == \"{path}\"`")).collect();
        let help = format!(
            "forbid a whole part of the API by its path, and put what was read into `unless`, or write {} into its `when`",
            paths.join(" or ")
        );
        Some(PolicyError::at(policy.near("context.body"), message).help(help))
    }

    fn may_permit<'r>(&self, permit: &Loaded, actions: Actions, mut about: impl Iterator<Item = &'r Route>) -> bool {
        permit.facts.actions.meets(actions) && about.any(|route| may_match(&permit.facts.resource, route))
    }

    /// `like "/public*"` is about `/public-internal` too.
    fn permit(&self, one: &Read<'_>) -> Vec<PolicyError> {
        let Loaded { policy, facts, id, .. } = one.policy;
        let about = || self.routes.iter().filter(|route| may_match(&facts.resource, route));
        let loose: Vec<_> =
            one.widening().filter_map(|pattern| Some((pattern, loose(&pattern.beginning()?)?))).collect();
        if loose.is_empty() || !about().any(|route| may_be_permitted(policy, facts, route)) {
            return Vec::new();
        }
        let told = |(pattern, begin): &(&Compared, String)| {
            let attribute = match pattern.subject {
                Subject::Context(attribute) => attribute.as_str(),
                _ => Attribute::Path.as_str(),
            };
            let message = format!(
                "the permit `{id}` opens to everybody what only begins with `{begin}`, such as `{begin}-internal`"
            );
            let help = format!("write `context.{attribute} == \"{begin}\" || context.{attribute} like \"{begin}/*\"`");
            PolicyError::at(one.policy.near(&format!("\"{}\"", pattern.text())), message).help(help)
        };
        loose.iter().map(told).collect()
    }
}

/// A beginning that ends within a name. An encoded slash ends one too.
fn loose(beginning: &str) -> Option<String> {
    let ends = beginning.to_ascii_lowercase().ends_with("%2f");
    let within = beginning.ends_with(|last: char| last.is_alphanumeric()) && !ends;
    within.then(|| beginning.to_owned())
}

/// The route serves this path, in lower case and without a slash at its end.
fn is_on(path: &str, route: &Route) -> bool {
    let own = route.path.trim_end_matches('/').to_ascii_lowercase();
    path.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The policy never applies to a request whose body has no declared field.
fn never_without_body(policy: &Loaded) -> bool {
    clauses(policy).iter().any(|clause| match clause {
        Clause::When(expr) => without_body(expr) == Some(false),
        Clause::Unless(expr) => without_body(expr) == Some(true),
    })
}

/// Whether a condition holds where the body has no declared field; `None` where something else decides.
fn without_body(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Literal(Literal::Bool(is)) => Some(*is),
        Expr::UnaryOp { op: UnaryOp::Not, expr } => without_body(expr).map(|is| !is),
        Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), left, right } => {
            let settles = *op == BinaryOp::Or;
            match (without_body(left), without_body(right)) {
                (Some(one), _) | (_, Some(one)) if one == settles => Some(settles),
                (left, right) => left.and(right),
            }
        }
        Expr::HasAttr { expr, attrs } => {
            let body = Attribute::Body.as_str();
            let of_body =
                matches!(&**expr, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && *attr == body);
            let below = **expr == Expr::Var(Var::Context) && *attrs.first() == body && attrs.len() > 1;
            (of_body || below).then_some(false)
        }
        _ => None,
    }
}

/// The conditions let the policy apply to no other paths than these.
fn keeps_to(policy: &Loaded, paths: &[&str]) -> bool {
    clauses(policy).iter().any(|clause| match clause {
        Clause::When(expr) => keeps(expr, true, paths),
        Clause::Unless(expr) => keeps(expr, false, paths),
    })
}

/// A condition that comes out as wanted on no other paths.
fn keeps(expr: &Expr, wanted: bool, paths: &[&str]) -> bool {
    let among = |side: &Expr| matches!(side, Expr::Literal(Literal::String(text)) if paths.contains(&text.as_str()));
    let is = |left: &Arc<Expr>, right: &Arc<Expr>| (is_path(left) && among(right)) || (is_path(right) && among(left));
    match expr {
        Expr::UnaryOp { op: UnaryOp::Not, expr } => keeps(expr, !wanted, paths),
        Expr::BinaryOp { op: op @ (BinaryOp::And | BinaryOp::Or), .. } => {
            let mut all = Vec::new();
            parts(&Arc::new(expr.clone()), *op, &mut all);
            let mut kept = all.iter().map(|part| keeps(part, wanted, paths));
            if (*op == BinaryOp::And) == wanted { kept.any(|kept| kept) } else { kept.all(|kept| kept) }
        }
        Expr::BinaryOp { op: BinaryOp::Eq, left, right } => wanted && is(left, right),
        Expr::BinaryOp { op: BinaryOp::NotEq, left, right } => !wanted && is(left, right),
        Expr::BinaryOp { op: BinaryOp::Contains, left, right } => match &**left {
            Expr::Set(items) => wanted && is_path(right) && items.iter().all(|item| among(item)),
            _ => false,
        },
        _ => false,
    }
}

fn is_path(expr: &Expr) -> bool {
    let own = [Attribute::Path.as_str(), Attribute::PathFolded.as_str()];
    matches!(expr, Expr::GetAttr { expr, attr } if **expr == Expr::Var(Var::Context) && own.contains(&attr.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{load, oidc, route, with_body};

    /// What is said of these policies, on a route for everything and one below `/deploy/`.
    fn said(text: &str) -> Vec<String> {
        let (portal, mut deploy) = (with_body(route("portal"), &["user"]), route("deploy"));
        deploy.path = "/deploy/".into();
        let routes = [portal, deploy];
        let policies = load(text, &routes, &[oidc("okta")]).unwrap_or_else(|errors| panic!("{errors:?}")).policies;
        warnings(&policies, &routes).iter().map(ToString::to_string).collect()
    }

    fn forbid(conditions: &str) -> String {
        format!("@id(\"f\") forbid (principal, action, resource == Route::\"portal\") {conditions};\n")
    }

    #[test]
    fn a_forbid_below_a_folder_leaves_the_folder_open() {
        let open = forbid(r#"when { context.path_folded like "/secret/*" }"#);
        assert_eq!(
            said(&open),
            [
                "test.cedar:1:98: the forbid `f` leaves `/secret` itself open; write `context.path_folded == \"/secret\" || \
              context.path_folded like \"/secret/*\"`"
            ]
        );
        let spared = forbid(r#"unless { !(context.path_folded like "/secret/*") || principal in Group::"okta:a" }"#);
        assert_eq!(said(&spared).len(), 1);
        let others = |other: &str| said(&format!("{open}@id(\"g\") {other}"));
        for other in [
            r#"forbid (principal, action, resource) when { ["/secret"].contains(context.path_folded) };"#,
            r#"forbid (principal, action, resource) unless { context.path_folded like "/public/*" };"#,
            r#"forbid (principal, action, resource is Route);"#,
        ] {
            assert_eq!(others(other), [""; 0], "{other}");
        }
        for other in [
            r#"forbid (principal, action == Action::"GET", resource) when { context.path_folded == "/secret" };"#,
            r#"forbid (principal, action, resource == Route::"deploy") when { context.path_folded == "/secret" };"#,
            r#"forbid (principal is Job, action, resource);"#,
            r#"permit (principal, action, resource) when { context.path == "/secret" };"#,
        ] {
            assert_eq!(others(other).len(), 1, "{other}");
        }
    }

    #[test]
    fn a_forbid_that_means_the_folder_too_is_not_told() {
        for conditions in [
            r#"when { context.path_folded == "/secret" || context.path_folded like "/secret/*" }"#,
            r#"when { context.path_folded like "/secret*" }"#,
            r#"when { context.path_folded like "/*" }"#,
            r#"when { context.path_folded like "/a/*/b/*" }"#,
            r#"unless { context.path_folded like "/secret/*" }"#,
        ] {
            assert_eq!(said(&forbid(conditions)), [""; 0], "{conditions}");
        }
        let elsewhere =
            r#"@id("f") forbid (principal, action, resource == Route::"deploy") when { context.path_folded like"#;
        assert_eq!(said(&format!("{elsewhere} \"/other/*\" }};")), [""; 0]);
        assert_eq!(said(&format!("{elsewhere} \"/deploy/*\" }};")).len(), 1);
    }

    #[test]
    fn a_permit_for_everybody_with_a_star_inside_a_name_is_told() {
        let permit = |principal: &str, pattern: &str| {
            said(&format!(
                "@id(\"p\") permit ({principal}, action, resource) when {{ context.path like \"{pattern}\" }};"
            ))
        };
        let told = permit("principal", "/public*");
        assert!(
            matches!(&told[..], [only] if only.contains("such as `/public-internal`")
                && only.ends_with("write `context.path == \"/public\" || context.path like \"/public/*\"`")),
            "{told:?}"
        );
        for (principal, pattern) in [
            ("principal is User", "/public*"),
            ("principal", "/public/*"),
            ("principal", "/*"),
            ("principal", "*.css"),
            ("principal", "/acme%2F*"),
            ("principal", "/app.*"),
        ] {
            assert_eq!(permit(principal, pattern), [""; 0], "{principal} {pattern}");
        }
    }

    #[test]
    fn a_forbid_that_waits_for_a_body_is_told_where_others_get_past() {
        let open = "@id(\"p\") permit (principal is User, action, resource);\n";
        let told = said(&format!("{open}{}", forbid(r#"when { context.body has user && context.body.user == "x" }"#)));
        assert!(
            matches!(&told[..], [only] if only.contains("requests that no rule of `body_fields` names get past the forbid `f`")
                && only.contains("`context.path_folded == \"/a/b\"`")),
            "{told:?}"
        );
        for conditions in [
            r#"when { context.path_folded like "/a*" && context.body has user && context.body.user == "x" }"#,
            r#"unless { !(context.body has user && context.body.user == "x") }"#,
            r#"when { context has body.user && context.body.user == "x" }"#,
        ] {
            assert_eq!(said(&format!("{open}{}", forbid(conditions))).len(), 1, "{conditions}");
        }
        for conditions in [
            r#"when { context.path_folded == "/a/b" && context.body has user && context.body.user == "x" }"#,
            r#"when { context.path_folded like "/a*" } unless { context.body has user && context.body.user == "x" }"#,
            r#"when { !(context.body has user && context.body.user != "x") }"#,
            r#"unless { context.path_folded != "/a/b" || !(context.body has user && context.body.user == "x") }"#,
        ] {
            assert_eq!(said(&format!("{open}{}", forbid(conditions))), [""; 0], "{conditions}");
        }
        let kept = "@id(\"p\") permit (principal is User, action, resource) when { context.path == \"/a/b\" };\n";
        let body = forbid(r#"when { context.body has user && context.body.user == "x" }"#);
        assert_eq!(said(&format!("{kept}{body}")), [""; 0], "nothing else is permitted");
    }
}
