//! Policies that change nothing: a permit under a forbid that always wins, and what another policy says already.

use super::{
    PolicyError,
    facts::Facts,
    policies::Loaded,
    words::{Actions, Kind, Scope, Uid},
};
use crate::group::{GroupPath, Role};
use cedar_policy::pst::Clause;
use std::collections::HashMap;

/// What a policy is about, without its actions: resource, principal, and its conditions as text.
type Cell = (Scope, Scope, String);

/// Policies that one warning names.
const NAMED: usize = 24;

/// The first policy of each cell, effect and set of actions: one is enough to say that another adds nothing.
type Cells<'a> = HashMap<(bool, Cell), Vec<(Actions, &'a Loaded)>>;

/// What a whole set has that changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Idle {
    /// Permits that never apply, because a forbid wins wherever they could.
    pub(super) overruled: Vec<PolicyError>,
    /// Policies that say no more than another.
    pub(super) shadowed: Vec<PolicyError>,
}

impl Idle {
    /// Looks at every policy together with those that can be wider: never at every pair.
    pub(super) fn of(policies: &[Loaded]) -> Self {
        let mut cells = Cells::new();
        let known: Vec<(&Loaded, Cell)> = policies.iter().map(|policy| (policy, cell(policy))).collect();
        for (policy, cell) in &known {
            let there = cells.entry((policy.facts.permits, cell.clone())).or_default();
            if !there.iter().any(|(actions, _)| *actions == policy.facts.actions) {
                there.push((policy.facts.actions, *policy));
            }
        }
        let mut idle = Self::default();
        let mut covering: Vec<(&Loaded, Vec<&Loaded>)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (policy, cell) in &known {
            if policy.facts.permits
                && let Some(forbid) = wider(&cells, false, policy, cell)
            {
                idle.overruled.push(overruled(policy, forbid));
            } else if let Some(other) = wider(&cells, policy.facts.permits, policy, cell) {
                let place = *places.entry(&*other.id).or_insert_with(|| {
                    covering.push((other, Vec::new()));
                    covering.len() - 1
                });
                covering[place].1.push(policy);
            }
        }
        idle.shadowed = covering.iter().map(|(other, covered)| shadowed(other, covered)).collect();
        idle
    }
}

/// A policy of this effect that applies wherever `policy` does.
fn wider<'a>(cells: &Cells<'a>, permits: bool, policy: &Loaded, cell: &Cell) -> Option<&'a Loaded> {
    let (resource, principal, conditions) = cell;
    let fits = |(actions, other): &&(Actions, &'a Loaded)| {
        actions.contain(policy.facts.actions) && !std::ptr::eq(*other, policy)
    };
    let mut conditions = vec![String::new(), conditions.clone()];
    conditions.dedup();
    for (resource, principal) in
        resources(resource).iter().flat_map(|it| principals(principal).into_iter().map(move |one| (it, one)))
    {
        for conditions in &conditions {
            let cell = (permits, (resource.clone(), principal.clone(), conditions.clone()));
            if let Some((_, other)) = cells.get(&cell).into_iter().flatten().find(fits) {
                return Some(*other);
            }
        }
    }
    None
}

fn overruled(policy: &Loaded, forbid: &Loaded) -> PolicyError {
    PolicyError::at(
        policy.spot.clone(),
        format!("the permit `{}` never applies: `{}` forbids all of it", policy.id, forbid.id),
    )
    .help("take one of them away, or write into the forbid whom it spares, by `unless`")
    .beside(forbid.spot.clone(), "the forbid is here")
}

/// What `other` says already: one warning, however many policies that is true of.
fn shadowed(other: &Loaded, covered: &[&Loaded]) -> PolicyError {
    let (effect, does) = if other.facts.permits { ("permit", "permits") } else { ("forbid", "forbids") };
    if let [policy] = covered {
        let message = format!("the {effect} `{}` changes nothing: `{}` {does} all of it already", policy.id, other.id);
        return PolicyError::at(policy.spot.clone(), message)
            .help("take it away, or narrow the other")
            .beside(other.spot.clone(), "the other policy is here");
    }
    let shown: Vec<_> = covered.iter().take(NAMED).map(|policy| format!("`{}`", policy.id)).collect();
    let more = covered.len() - shown.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (count, id) = (covered.len(), &other.id);
    let message = format!("the {effect} `{id}` {does} all that {count} others do: {}{more}", shown.join(", "));
    PolicyError::at(other.spot.clone(), message).help("take them away, or narrow this one")
}

fn cell(policy: &Loaded) -> Cell {
    let Facts { principal, resource, .. } = &policy.facts;
    (plain(resource), plain(principal), conditions(policy))
}

/// All conditions as one text: equal texts, equal conditions. Empty where there are none.
fn conditions(policy: &Loaded) -> String {
    let Ok(parsed) = policy.policy.to_pst() else { return policy.id.to_string() }; // like no other
    let clause = |clause: &Clause| match clause {
        Clause::When(expr) => format!("when {expr:?};"),
        Clause::Unless(expr) => format!("unless {expr:?};"),
    };
    parsed.body().clauses().iter().map(clause).collect()
}

/// The same scope in its plainest form: what nothing can be in is equal or not.
fn plain(scope: &Scope) -> Scope {
    match scope {
        Scope::In(uid) | Scope::IsIn(_, uid) if is_leaf(uid.kind) => Scope::Eq(uid.clone()),
        _ => scope.clone(),
    }
}

fn is_leaf(kind: Kind) -> bool {
    match kind {
        Kind::Anonymous | Kind::User | Kind::Job | Kind::Service | Kind::Route | Kind::Console => true,
        Kind::Group | Kind::Role | Kind::Namespace | Kind::Project | Kind::Action => false,
    }
}

/// The resource scopes that hold all that this one does, in plain form.
fn resources(scope: &Scope) -> Vec<Scope> {
    let mut all = vec![Scope::Any];
    all.extend(scope.kind().map(Scope::Is));
    if !all.contains(scope) {
        all.push(scope.clone());
    }
    all
}

/// The principal scopes that hold all that this one does, in plain form. Only what holds whatever anybody reads: that who is in a
/// group is in those below it is GitLab's to say, not ours.
fn principals(scope: &Scope) -> Vec<Scope> {
    let mut all = resources(scope);
    if let Scope::IsIn(kind, uid) = scope {
        all.extend(above(*kind, uid).into_iter().map(|uid| Scope::IsIn(*kind, uid)));
    }
    all
}

/// Whatever else everybody is in who is in `uid`.
fn above(kind: Kind, uid: &Uid) -> Vec<Uid> {
    let Some((provider, path)) = uid.id.split_once(':') else { return Vec::new() };
    let named = |kind, path: &str| Uid::new(kind, format!("{provider}:{path}"));
    match (kind, uid.kind) {
        (Kind::User, Kind::Group) | (Kind::User | Kind::Job, Kind::Namespace) | (Kind::Job, Kind::Project) => {
            let Ok(whole) = path.parse::<GroupPath>() else { return Vec::new() };
            let above = whole.lineage().filter(|above| uid.kind == Kind::Group || *above != path);
            above.map(|path| named(Kind::Namespace, path)).collect()
        }
        (Kind::User, Kind::Role) => {
            let held = path.split_once('#').and_then(|(group, role)| Some((group, role.parse::<Role>().ok()?)));
            let Some((group, held)) = held else { return Vec::new() };
            let lower = Role::ALL.into_iter().filter(|role| *role < held);
            lower.map(|role| named(Kind::Role, &format!("{group}#{}", role.as_str()))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorize::testing::{gitlab_with_api, jobs, load_with, oidc, route, services};

    /// What is found about these policies, which get the ids `a`, `b` and so on.
    fn found(policies: &[&str]) -> Vec<String> {
        let named = ('a'..).zip(policies).map(|(id, policy)| format!("@id(\"{id}\") {policy}\n"));
        let providers = [gitlab_with_api("gitlab"), oidc("okta")];
        let issuers = [jobs("ci", "gitlab"), services("robots")];
        let checked = load_with(&named.collect::<String>(), &[route("r"), route("s")], &providers, &issuers);
        let idle = Idle::of(&checked.expect("good policies").policies);
        idle.overruled.iter().chain(&idle.shadowed).map(|one| one.message.clone()).collect()
    }

    #[test]
    fn a_permit_that_a_forbid_always_wins_over_never_applies() {
        for (forbid, permit) in [
            ("forbid (principal, action, resource);", r#"permit (principal is User, action, resource == Route::"r");"#),
            (
                r#"forbid (principal is User, action in Action::"write", resource == Route::"r");"#,
                r#"permit (principal == User::"gitlab:7", action == Action::"PUT", resource in Route::"r")
                   when { context.path like "/a/*" };"#,
            ),
            (
                r#"forbid (principal is User in Namespace::"okta:acme", action, resource is Route);"#,
                r#"permit (principal is User in Group::"okta:acme/x", action, resource == Route::"r");"#,
            ),
            (
                r#"forbid (principal is User in Role::"gitlab:acme#developer", action, resource);"#,
                r#"permit (principal is User in Role::"gitlab:acme#owner", action, resource);"#,
            ),
            (
                r#"forbid (principal is Job in Namespace::"gitlab:acme", action, resource);"#,
                r#"permit (principal is Job in Project::"gitlab:acme/shop/api", action, resource);"#,
            ),
            (
                r#"forbid (principal is User, action, resource) when { context.class == "machine" };"#,
                r#"permit (principal is User, action, resource == Route::"r") when { context.class == "machine" };"#,
            ),
        ] {
            assert_eq!(found(&[forbid, permit]), ["the permit `b` never applies: `a` forbids all of it"], "{permit}");
            assert_eq!(found(&[permit, forbid]), ["the permit `a` never applies: `b` forbids all of it"], "{permit}");
        }
    }

    #[test]
    fn a_forbid_that_leaves_something_is_no_mistake() {
        for (forbid, permit) in [
            (r#"forbid (principal, action in Action::"write", resource);"#, "permit (principal, action, resource);"),
            (r#"forbid (principal, action, resource == Route::"r");"#, "permit (principal, action, resource);"),
            (r#"forbid (principal is Job, action, resource);"#, "permit (principal, action, resource);"),
            (
                "forbid (principal, action, resource) when { context.class == \"machine\" };",
                "permit (principal, action, resource);",
            ),
            (
                "forbid (principal, action, resource) unless { principal is User };",
                "permit (principal is User, action, resource);",
            ),
            (
                r#"forbid (principal is User in Group::"okta:acme", action, resource);"#,
                r#"permit (principal is User in Group::"okta:acme/x", action, resource);"#,
            ),
            (
                r#"forbid (principal is User in Namespace::"okta:acme", action, resource);"#,
                r#"permit (principal is User in Group::"okta:acmex", action, resource);"#,
            ),
            (
                r#"forbid (principal is User in Role::"gitlab:acme#owner", action, resource);"#,
                r#"permit (principal is User in Role::"gitlab:acme#developer", action, resource);"#,
            ),
            (
                r#"forbid (principal is Service in Group::"robots:a", action, resource);"#,
                r#"permit (principal is User in Group::"okta:a", action, resource);"#,
            ),
        ] {
            assert_eq!(found(&[forbid, permit]), [""; 0], "{forbid}");
        }
    }

    #[test]
    fn a_policy_that_another_holds_already_is_told() {
        let wide = r#"permit (principal is User in Namespace::"okta:acme", action, resource == Route::"r");"#;
        let narrow = r#"permit (principal is User in Group::"okta:acme/x", action == Action::"GET", resource == Route::"r")
                        when { context.path like "/a/*" };"#;
        assert_eq!(found(&[narrow, wide]), ["the permit `a` changes nothing: `b` permits all of it already"]);
        assert_eq!(found(&[wide, wide]), ["the permit `b` changes nothing: `a` permits all of it already"]);
        let conditional = wide.replace(';', "when { context.host == \"app.test\" };");
        assert_eq!(found(&[narrow, &conditional]), [""; 0]);
        let forbid = r#"forbid (principal is Job, action, resource);"#;
        assert_eq!(found(&[forbid, forbid]), ["the forbid `b` changes nothing: `a` forbids all of it already"]);
        assert_eq!(found(&[forbid, wide]), [""; 0]);
    }

    /// Somebody who left a wide permit in reads of it once.
    #[test]
    fn all_that_one_policy_holds_already_is_told_at_once() {
        let (wide, other) = ("permit (principal is User, action, resource);", "permit (principal, action, resource);");
        let narrow = r#"permit (principal is User in Group::"okta:acme/x", action, resource == Route::"r");"#;
        assert_eq!(found(&[narrow, wide, narrow]), ["the permit `b` permits all that 2 others do: `a`, `c`"]);
        let mut many = vec![narrow; 30];
        many.push(wide);
        many.extend(["forbid (principal is Job, action, resource);"; 2]);
        let told = found(&many[5..]);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("the permit `z` permits all that 25 others do: `a`, `b`,"), "{told:?}");
        assert!(told[0].ends_with("`x` and 1 more"), "{told:?}");
        assert_eq!(found(&[narrow, wide, other]), ["the permit `c` permits all that 2 others do: `a`, `b`"]);
    }

    #[test]
    fn both_places_are_shown() {
        let text =
            "@id(\"all\") permit (principal, action, resource);\n@id(\"none\") forbid (principal, action, resource);";
        let checked = load_with(text, &[route("r")], &[], &[]).expect("good policies");
        let idle = Idle::of(&checked.policies);
        let told = idle.overruled[0].to_string();
        assert!(
            told.starts_with("test.cedar:1:1: the permit `all` never applies") && told.contains("see test.cedar:2:1"),
            "{told}"
        );
    }
}
