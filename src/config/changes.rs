//! What is different between two configurations, by the names of keys: values may be nobody's business.

use super::Settings;
use crate::{credential, route::Route};
use secrecy::ExposeSecret;
use serde_json::Value;
use std::collections::BTreeSet;

/// Members by which an entry of a list is known.
const NAMES: [&str; 3] = ["name", "address", "certificate"];

/// The keys whose meaning differs, such as `routes[portal].timeouts.connect`. Entries of lists are known by their names, so
/// that a new one in front changes nothing else; `routes[portal]` alone has come or gone. A secret or certificate that was
/// replaced behind the same name has changed too.
pub fn changes(before: &Settings, after: &Settings) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    differ("", &before.effective, &after.effective, &mut found);
    for provider in &after.providers {
        let Some(old) = before.providers.iter().find(|old| old.name == provider.name) else { continue };
        let old = old.secrets();
        for (key, secret) in provider.secrets() {
            let there = old.iter().find(|(name, _)| *name == key);
            if there.is_some_and(|(_, there)| there.expose_secret() != secret.expose_secret()) {
                found.insert(format!("providers[{}].{key}", provider.name));
            }
        }
    }
    for issuer in &after.token_issuers {
        let old = before.token_issuers.iter().find(|old| old.name == issuer.name).and_then(|old| old.secret());
        if old.zip(issuer.secret()).is_some_and(|(old, new)| old.expose_secret() != new.expose_secret()) {
            found.insert(format!("token_issuers[{}].client_secret", issuer.name));
        }
    }
    for sink in &after.sinks {
        let old = before.sinks.iter().find(|old| old.name == sink.name);
        if old.is_some_and(|old| !old.same_secrets(sink)) {
            found.insert(format!("audit.sinks[{}]", sink.name));
        }
    }
    for listen in &after.listen {
        let digest = |tls: &Option<std::sync::Arc<super::Tls>>| tls.as_ref().map(|tls| tls.digest);
        let old = before.listen.iter().find(|old| old.at == listen.at);
        if old.is_some_and(|old| digest(&old.tls) != digest(&listen.tls)) {
            found.insert(format!("listen[{}].tls", listen.at));
        }
    }
    for route in &after.routes {
        let old = before.routes.iter().find(|old| old.name == route.name);
        if old.is_some_and(|old| old.upstream.settings.tls != route.upstream.settings.tls) {
            found.insert(format!("routes[{}].upstream.tls", route.name));
        }
        let fixed = |route: &Route| match &route.secret()?.value {
            credential::Value::Fixed(value) => Some(value.clone()),
            credential::Value::GitlabApi(_) => None, // the provider's, above
        };
        if old.and_then(fixed).zip(fixed(route)).is_some_and(|(there, now)| there != now) {
            found.insert(format!("routes[{}].credential", route.name));
        }
    }
    found
}

fn differ(path: &str, before: &Value, after: &Value, found: &mut BTreeSet<String>) {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let path = super::tree::below(path, key);
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differ(&path, a, b, found),
                    (Some(_), None) | (None, Some(_)) => _ = found.insert(path),
                    (None, None) => {}
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.iter().chain(b).all(|entry| name(entry).is_some()) => {
            let names: BTreeSet<_> = a.iter().chain(b).filter_map(name).collect();
            for wanted in names {
                let find = |list: &'_ [Value]| list.iter().position(|entry| name(entry) == Some(wanted));
                let path = format!("{path}[{wanted}]");
                match (find(a), find(b)) {
                    (Some(a_at), Some(b_at)) => differ(&path, &a[a_at], &b[b_at], found),
                    (Some(_), None) | (None, Some(_)) => _ = found.insert(path),
                    (None, None) => {}
                }
            }
        }
        _ if before != after => _ = found.insert(path.to_owned()),
        _ => {}
    }
}

fn name(entry: &Value) -> Option<&str> {
    NAMES.iter().find_map(|member| entry.get(member)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(before: &Value, after: &Value) -> Vec<String> {
        let mut found = BTreeSet::new();
        differ("", before, after, &mut found);
        found.into_iter().collect()
    }

    #[test]
    fn entries_are_known_by_their_names() {
        let before =
            json!({ "routes": [{ "name": "a", "allow": ["x"] }, { "name": "b", "t": { "c": "5s" } }], "drain": "5s" });
        let after = json!({ "routes": [{ "name": "n" }, { "name": "a", "allow": ["y"] }, { "name": "b", "t": { "c": "6s" } }] });
        assert_eq!(found(&before, &after), ["drain", "routes[a].allow", "routes[b].t.c", "routes[n]"]);
        assert!(found(&before, &before).is_empty());
    }

    #[test]
    fn a_list_of_words_changes_as_a_whole() {
        assert_eq!(found(&json!({ "a": ["x"] }), &json!({ "a": ["x", "y"] })), ["a"]);
        assert_eq!(found(&json!({ "a": [] }), &json!({ "a": ["x"] })), ["a"]);
    }
}
