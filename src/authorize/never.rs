//! Texts in conditions that nothing is ever like: what they are compared with is one of a few known values, or has one spelling.

use super::{
    PolicyError,
    compared::{Compared, Comparisons, Contradiction, Subject},
    facts::Facts,
    lint::{Known, Told, may_match, may_name},
    nearest::hint,
    policies::Loaded,
    words::Attribute,
};
use crate::{
    canonical::Class,
    route::{Reading, Route},
};
use cedar_policy::pst::PatternElem;

/// Each text that nothing is like, as it stands in the policy, and what is wrong with it.
pub(super) fn mistakes(known: &Known<'_>, facts: &Facts, compared: &Comparisons) -> Vec<(String, Told)> {
    let never = compared.all.iter().filter_map(|one| Some((quoted(one), told(known, facts, one)?)));
    never.chain(compared.contradictions.iter().map(contradiction)).collect()
}

/// Hosts and labels that no route has, where a policy waits for them: routes come and go, and the policies stay right.
pub(super) fn odd(policies: &[Loaded], routes: &[Route]) -> Vec<PolicyError> {
    let of = |policy: &Loaded| {
        let routes: Vec<&Route> = routes.iter().filter(|route| may_match(&policy.facts.resource, route)).collect();
        let all = Comparisons::of(&policy.policy).all.into_iter().filter(|one| one.widens != Some(false));
        let odd = all.filter_map(|one| Some((quoted(&one), unserved(&policy.facts, &one, &routes)?)));
        odd.map(|(near, (message, help))| PolicyError::at(policy.near(&near), message).help(help)).collect::<Vec<_>>()
    };
    policies.iter().flat_map(of).collect()
}

fn unserved(facts: &Facts, one: &Compared, routes: &[&Route]) -> Option<Told> {
    match &one.subject {
        Subject::Context(Attribute::Host) => {
            never("`context.host`", one, &routes.iter().map(|route| route.host.as_str()).collect::<Vec<_>>())
        }
        Subject::Label(label) => unlabelled(one, label, facts, routes),
        Subject::Context(_) | Subject::Provider | Subject::Body(_) => None,
    }
}

fn told(known: &Known<'_>, facts: &Facts, one: &Compared) -> Option<Told> {
    let routes = || known.routes.iter().filter(|route| may_match(&facts.resource, route));
    match &one.subject {
        Subject::Context(Attribute::PathFolded) => unfolded(one),
        Subject::Context(Attribute::Path) => rootless(one),
        Subject::Context(Attribute::Class) => never("`context.class`", one, &Class::ALL.map(Class::as_str)),
        Subject::Context(_) | Subject::Label(_) => None,
        Subject::Provider if one.widens == Some(false) => None,
        Subject::Provider => never("the provider of a person", one, &known.vouching()),
        Subject::Body(field) => {
            let rules = routes().flat_map(|route| &*route.body_fields).filter(|rule| may_name(facts, rule));
            let mut fields = rules.flat_map(|rule| &rule.fields).filter(|known| known.name == *field).peekable();
            let is_reference = fields.peek().is_some() && fields.all(|known| known.reading == Reading::BackstageRef);
            if is_reference { unlike_reference(one, field) } else { None }
        }
    }
}

/// A text that is none of all values there are.
fn never(what: &str, one: &Compared, values: &[&str]) -> Option<Told> {
    let fits = values.iter().any(|value| one.fits(value));
    (!fits && !values.is_empty()).then(|| {
        let text = one.text();
        (format!("{what} is never {}`{text}`", like(one)), hint(&text, distinct(values)))
    })
}

fn like(one: &Compared) -> &'static str {
    if one.is_like { "like " } else { "" }
}

fn distinct<'a>(values: &[&'a str]) -> Vec<&'a str> {
    let mut all = values.to_vec();
    all.sort_unstable();
    all.dedup();
    all
}

/// A value of a label that no route has.
fn unlabelled(one: &Compared, label: &str, facts: &Facts, routes: &[&Route]) -> Option<Told> {
    let values: Vec<&str> = routes.iter().filter_map(|route| route.labels.get(label)).map(String::as_str).collect();
    if routes.is_empty() || values.iter().any(|value| one.fits(value)) {
        return None;
    }
    let text = one.text();
    let message = match facts.resource.uid() {
        Some(uid) => format!("route `{}` does not have the label `{label}: {text}`", uid.id),
        None => format!("no route has the label `{label}: {text}`"),
    };
    Some((message, hint(&text, distinct(&values))))
}

/// A path begins with `/`.
fn rootless(one: &Compared) -> Option<Told> {
    let is_rooted = matches!(one.pattern.first(), Some(PatternElem::Char('/') | PatternElem::Wildcard));
    (!is_rooted).then(|| {
        let text = one.text();
        (format!("`context.path` never fits `{text}`"), format!("it begins with `/`: write `\"/{text}\"`"))
    })
}

/// What is compared with a folded path has to be folded too, or it never fits.
fn unfolded(one: &Compared) -> Option<Told> {
    let text = one.text();
    let begins = matches!(one.pattern.first(), Some(PatternElem::Char('/') | PatternElem::Wildcard));
    let upper = one.pattern.iter().any(|part| matches!(part, PatternElem::Char('A'..='Z')));
    let slash = one.pattern.len() > 1 && matches!(one.pattern.last(), Some(PatternElem::Char('/')));
    (!begins || upper || slash).then(|| {
        let root = if begins { "" } else { "/" };
        let folded = format!("{root}{}", text.to_ascii_lowercase());
        let folded = if folded.len() > 1 { folded.trim_end_matches('/') } else { &folded };
        let help = "it begins with `/`, is in lower case and has no slash at its end";
        (format!("`context.path_folded` never fits `{text}`"), format!("{help}: write `\"{folded}\"`"))
    })
}

/// A reference to an entity of Backstage has one spelling for policies.
fn unlike_reference(one: &Compared, field: &str) -> Option<Told> {
    if may_be_reference(&one.pattern) {
        return None;
    }
    let text = one.text();
    let message = format!("`context.body.{field}` never fits `{text}`");
    let help = "it is read as `backstage_ref`: in lower case and written out, such as `template:default/name`";
    Some((message, corrected(one).map_or(help.to_owned(), |meant| format!("{help}: write `\"{meant}\"`"))))
}

/// The reference or pattern that was meant.
fn corrected(one: &Compared) -> Option<String> {
    if !one.is_like {
        return Reading::BackstageRef.read(&one.text()).map(|meant| meant.to_string());
    }
    let lower = |part: &PatternElem| match part {
        PatternElem::Char(letter) => PatternElem::Char(letter.to_ascii_lowercase()),
        PatternElem::Wildcard => PatternElem::Wildcard,
    };
    let lower: Vec<_> = one.pattern.iter().map(lower).collect();
    let begun = |begin: &str| -> Vec<PatternElem> {
        begin.chars().map(PatternElem::Char).chain(lower.iter().cloned()).collect()
    };
    let mut tried = ["", "template:", "template:default/"].into_iter().map(begun);
    let pattern = tried.find(|pattern| may_be_reference(pattern))?;
    Some(Compared { pattern, ..one.clone() }.text())
}

/// Whether some `kind:namespace/name` in lower case is like the pattern. Follows every way to read it: the places are before,
/// in and behind each of the three words, so that the last one is where a reference may end.
fn may_be_reference(pattern: &[PatternElem]) -> bool {
    const LAST: usize = 5;
    let step = |place: usize, letter: char| match letter {
        ':' => (place == 1).then_some(2),
        '/' => (place == 3).then_some(4),
        'a'..='z' | '0'..='9' | '-' | '_' | '.' => Some(place | 1),
        _ => None,
    };
    let mut places = vec![0];
    for part in pattern {
        places = match part {
            PatternElem::Char(letter) => places.into_iter().filter_map(|place| step(place, *letter)).collect(),
            PatternElem::Wildcard => places.first().map_or_else(Vec::new, |first| (*first..=LAST).collect()),
        };
        places.dedup();
    }
    places.contains(&LAST)
}

fn contradiction(found: &Contradiction) -> (String, Told) {
    let [one, other] = &found.texts;
    let what = match &found.subject {
        Subject::Context(attribute) => format!("context.{}", attribute.as_str()),
        Subject::Body(field) => format!("context.body.{field}"),
        Subject::Label(label) => format!("resource.{label}"),
        Subject::Provider => "provider".to_owned(),
    };
    let message = format!("`{what}` is never both `{one}` and `{other}`");
    (format!("\"{other}\""), (message, "join what may be either by `||`".to_owned()))
}

/// As it stands in the policy, most likely.
fn quoted(one: &Compared) -> String {
    format!("\"{}\"", one.text())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::testing::{gitlab, load_with, route},
        route::{BodyField, BodyRule, Pointer},
    };
    use std::sync::Arc;

    /// A route `portal` whose template posts have a reference, and a production API.
    fn routes() -> [Route; 2] {
        let (mut portal, mut api) = (route("portal"), route("api"));
        let fields = vec![BodyField {
            name: "template_ref".into(),
            pointer: Pointer::parse("/templateRef").expect("a pointer"),
            reading: Reading::BackstageRef,
            optional: false,
        }];
        portal.body_fields =
            [Arc::new(BodyRule { method: http::Method::POST, path: "/tasks".into(), max: 1024, fields })].into();
        api.host = "api.test".parse().expect("a host");
        api.labels.insert("tier".into(), "production".into());
        [portal, api]
    }

    fn said(policy: &str) -> Vec<String> {
        let text = format!("@id(\"a\") {policy}");
        let found = match load_with(&text, &routes(), &[gitlab("gitlab")], &[]) {
            Ok(checked) => odd(&checked.policies, &routes()),
            Err(errors) => errors,
        };
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_reference_that_is_not_spelled_as_policies_see_it_is_a_mistake() {
        for (compared, meant) in [
            (r#"like "template:Production/*""#, "write `\"template:production/*\"`"),
            (r#"like "production/*""#, "write `\"template:production/*\"`"),
            (r#"like "*:/x""#, "such as `template:default/name`"),
            (r#"== "production/dns""#, "write `\"template:production/dns\"`"),
            (r#"== "DNS""#, "write `\"template:default/dns\"`"),
            (r#"!= "template:default/a b""#, "such as `template:default/name`"),
        ] {
            let found = said(&format!(
                "forbid (principal, action, resource == Route::\"portal\") when {{ context.body has template_ref && \
                 context.body.template_ref {compared} }};"
            ));
            assert_eq!(found.len(), 1, "{compared}: {found:?}");
            assert!(
                found[0].contains("`context.body.template_ref` never fits") && found[0].ends_with(meant),
                "{found:?}"
            );
        }
        for compared in [
            r#"like "template:production/*""#,
            r#"like "*""#,
            r#"like "*/dns""#,
            r#"like "*:*/*-prod""#,
            r#"== "template:default/create.a_b""#,
        ] {
            let found = said(&format!(
                "forbid (principal, action, resource) when {{ context.body has template_ref && context.body.template_ref {compared} }};"
            ));
            assert_eq!(found, [""; 0], "{compared}");
        }
    }

    #[test]
    fn what_is_none_of_the_values_there_are_is_a_mistake() {
        for (condition, expected) in [
            (r#"context.class == "navgation""#, "`context.class` is never `navgation`; did you mean `navigation`?"),
            (r#"context.class like "x*""#, "`context.class` is never like `x*`; expected one of `fetch`"),
            (r#"context.host == "ap.test""#, "`context.host` is never `ap.test`; did you mean `ap"),
            (r#"["app.test", "App.Test"].contains(context.host)"#, "never `App.Test`; did you mean `app.test`?"),
            (
                r#"resource has tier && resource.tier == "prodution""#,
                "no route has the label `tier: prodution`; did you mean `production`?",
            ),
            (r#"principal is User && principal.provider == "gitlba""#, "never `gitlba`; did you mean `gitlab`?"),
            (r#"context.path == "admin""#, "`context.path` never fits `admin`; it begins with `/`: write `\"/admin\"`"),
            (r#"context.path like "public/*""#, "write `\"/public/*\"`"),
            (r#"context.path == "/a" && context.path == "/b""#, "`context.path` is never both `/a` and `/b`"),
        ] {
            let found = said(&format!("permit (principal, action, resource) when {{ {condition} }};"));
            assert!(matches!(&found[..], [only] if only.contains(expected)), "{condition}: {found:?}");
        }
        let one = said(
            r#"permit (principal, action, resource == Route::"portal") when { resource has tier && resource.tier == "production" };"#,
        );
        assert!(matches!(&one[..], [only] if only.contains("route `portal` does not have the label")), "{one:?}");
        let host =
            said(r#"permit (principal, action, resource == Route::"portal") when { context.host == "api.test" };"#);
        assert!(matches!(&host[..], [only] if only.contains("never `api.test`")), "{host:?}");
    }

    /// Routes come and go with the configuration: a set that was right is not refused for that.
    #[test]
    fn what_no_route_has_now_is_odd_and_no_mistake() {
        for condition in [
            r#"resource has tier && resource.tier == "dev""#,
            r#"resource has tier && (resource.tier == "production" || resource.tier == "dev")"#,
            r#"context.host == "gone.test""#,
        ] {
            let policy = format!("@id(\"a\") forbid (principal, action, resource) when {{ {condition} }};");
            let checked = load_with(&policy, &routes(), &[gitlab("gitlab")], &[]).expect("it is served");
            assert_eq!(odd(&checked.policies, &routes()).len(), 1, "{condition}");
        }
        for condition in [r#"resource has tier && resource.tier != "dev""#, r#"context.host != "gone.test""#] {
            assert_eq!(said(&format!("permit (principal, action, resource) when {{ {condition} }};")), [""; 0]);
        }
    }

    #[test]
    fn what_is_right_on_one_route_is_no_mistake() {
        for condition in [
            r#"context.class == "navigation" && context.host == "api.test""#,
            r#"resource has tier && resource.tier == "production""#,
            r#"resource has tier && resource.tier like "prod*""#,
            r#"principal is User && principal.provider == "gitlab""#,
            r#"context.path like "*/admin" || context.path == "/""#,
        ] {
            assert_eq!(
                said(&format!("permit (principal, action, resource) when {{ {condition} }};")),
                [""; 0],
                "{condition}"
            );
        }
    }

    /// A folded text is shown as it has to be.
    #[test]
    fn an_unfolded_path_is_told_with_the_right_one() {
        let found = said(r#"forbid (principal, action, resource) when { context.path_folded like "Admin/*" };"#);
        assert!(matches!(&found[..], [only] if only.ends_with("write `\"/admin/*\"`")), "{found:?}");
    }
}
