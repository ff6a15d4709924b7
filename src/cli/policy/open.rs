//! What is open to those who are not signed in, and to everybody who is, as the checks tell it.

use crate::authorize::Open;
use serde_json::{Value as Json, json};

/// What those who are not signed in may do.
pub(in crate::cli) const STRANGERS: &str = "open to those who are not signed in:";
/// What everybody may do who is signed in, whoever that is.
pub(in crate::cli) const SIGNED_IN: &str = "open to everybody who is signed in:";

/// A line for each, in columns, under a title.
pub(in crate::cli) fn text(title: &str, open: &[Open]) -> Vec<String> {
    let wide = |of: fn(&Open) -> String| open.iter().map(|it| of(it).chars().count()).max().unwrap_or_default();
    let (route, actions, paths) = (wide(|it| it.route.to_string()), wide(actions), wide(paths));
    let line = |it: &Open| {
        let (what, where_) = (self::actions(it), self::paths(it));
        let start = format!("  {:route$}  {what:actions$}  {where_:paths$}", it.route.as_str());
        format!("{start}  by `{}`{}", it.policy, more(it))
    };
    let title = (!open.is_empty()).then(|| title.to_owned());
    title.into_iter().chain(open.iter().map(line)).collect()
}

fn actions(open: &Open) -> String {
    open.actions.join(", ")
}

fn paths(open: &Open) -> String {
    if open.paths.is_empty() { "every path".to_owned() } else { open.paths.join(", ") }
}

fn more(open: &Open) -> String {
    let when = (!open.conditions.is_empty()).then(|| format!(", when {}", open.conditions.join(" && ")));
    let forbids: Vec<_> = open.forbids.iter().map(|id| format!("`{id}`")).collect();
    let unless = (!forbids.is_empty()).then(|| format!(", unless forbidden by {}", forbids.join(", ")));
    [when, unless].into_iter().flatten().collect()
}

/// The same for programs.
pub(in crate::cli) fn json(open: &[Open]) -> Json {
    let one = |it: &Open| {
        json!({
            "route": it.route.as_str(),
            "actions": it.actions,
            "paths": it.paths,
            "conditions": it.conditions,
            "policy": it.policy,
            "forbids": it.forbids,
        })
    };
    open.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> [Open; 2] {
        let open = |route: &str, actions, paths, conditions, forbids| Open {
            route: route.parse().expect("a name"),
            actions,
            paths,
            conditions,
            policy: "a".into(),
            forbids,
        };
        let odd = vec!["context.query == \"\"".to_owned()];
        [
            open("portal", vec!["read"], vec!["/public/*".to_owned()], odd, vec!["b".into()]),
            open("api", vec!["read", "write"], vec![], vec![], vec![]),
        ]
    }

    #[test]
    fn each_is_one_line_in_columns() {
        assert_eq!(
            text(STRANGERS, &sample()),
            [
                "open to those who are not signed in:",
                "  portal  read         /public/*   by `a`, when context.query == \"\", unless forbidden by `b`",
                "  api     read, write  every path  by `a`",
            ]
        );
        assert_eq!(text(SIGNED_IN, &[]), [""; 0]);
    }

    #[test]
    fn programs_get_the_same() {
        let expected = json!({ "route": "api", "actions": ["read", "write"], "paths": [], "conditions": [], "policy": "a", "forbids": [] });
        assert_eq!(json(&sample())[1], expected);
    }
}
