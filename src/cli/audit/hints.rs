//! What to say of a search that found nothing: a name that nothing has, or had a moment ago.

use super::tell;
use crate::{
    audit::Query,
    cli::policy,
    config::{self, nearest},
    refusal::Reason,
};
use std::path::Path;

/// Codes of what fails beside requests.
const BESIDE: [&str; 5] =
    ["hook_refused", "operator_refused", "refresh_deferred", "reload_refused", "sign_out_refused"];

/// Tells of names in the query that the configuration, as it is now, does not know. If it cannot be read, nobody can say.
pub(super) fn give(query: &Query, config: &Path) {
    of(query, config).iter().for_each(|hint| tell(&format!("note: {hint}")));
}

fn of(query: &Query, config: &Path) -> Vec<String> {
    let mut hints = Vec::new();
    if let Some(code) = &query.reason {
        let known = Reason::all().map(Reason::code).chain(BESIDE);
        hints.extend(hint("reason code", code, known.collect(), "see docs/refusals.md"));
    }
    if query.route.is_none() && query.policy.is_none() {
        return hints;
    }
    let Ok(settings) = config::load_for_review(config) else { return hints };
    if let Some(route) = &query.route {
        let known = settings.routes.iter().map(|route| route.name.as_str()).collect();
        hints.extend(hint("route", route, known, "older records may have names that the configuration has no more"));
    }
    if let Some(id) = &query.policy
        && let Ok(authorize) = policy::load(&settings)
    {
        let stated: Vec<_> = authorize.stated().map(|stated| stated.id).collect();
        let known = stated.iter().map(|id| &**id).collect();
        hints.extend(hint("policy", id, known, "older records may have ids that the policies have no more"));
    }
    hints
}

fn hint(what: &str, name: &str, known: Vec<&str>, help: &str) -> Option<String> {
    if known.contains(&name) {
        return None;
    }
    let near = nearest(name, known).map(|near| format!("did you mean `{near}`?"));
    Some(format!("no {what} is called `{}`: {}", name.escape_debug(), near.as_deref().unwrap_or(help)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_nothing_has_are_told() {
        let reason = |code: &str| Query { reason: Some(code.to_owned()), ..Query::default() };
        let of = |query: &Query| of(query, Path::new("/nowhere/vestibule.yaml"));
        assert_eq!(
            of(&reason("not_permited")),
            ["no reason code is called `not_permited`: did you mean `not_permitted`?"]
        );
        assert_eq!(of(&reason("\u{1b}")), ["no reason code is called `\\u{1b}`: see docs/refusals.md"]);
        assert!(of(&reason("not_permitted")).is_empty() && of(&reason("hook_refused")).is_empty());
        assert!(of(&Query { route: Some("x".to_owned()), ..Query::default() }).is_empty(), "nobody can say");
    }

    #[test]
    fn routes_and_policies_are_those_of_the_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str| directory.path().join(name);
        std::fs::create_dir(file("policies")).expect("made");
        let config = "public_url: https://portal.test\nlisten: 127.0.0.1:8443\ntrusted_proxies: [127.0.0.1]\npolicies: ./policies\n\
            providers: [{ name: gitlab, kind: gitlab, issuer: https://gitlab.test, client_id: a, client_secret: { file: secret } }]\n\
            routes: [{ name: portal, host: portal.test, upstream: \"http://127.0.0.1:9\" }]\n";
        let policy = "@id(\"readers\") permit (principal, action in Action::\"read\", resource);";
        for (name, text) in [("vestibule.yaml", config), ("policies/all.cedar", policy), ("secret", "s")] {
            std::fs::write(file(name), text).expect("written");
        }
        let of = |route: &str, policy: &str| {
            let query = Query { route: Some(route.to_owned()), policy: Some(policy.to_owned()), ..Query::default() };
            of(&query, &file("vestibule.yaml"))
        };
        assert!(of("portal", "readers").is_empty());
        let wrong = of("protal", "writers-of-all");
        assert_eq!(wrong[0], "no route is called `protal`: did you mean `portal`?");
        assert!(wrong[1].starts_with("no policy is called `writers-of-all`: older records"), "{wrong:?}");
    }
}
