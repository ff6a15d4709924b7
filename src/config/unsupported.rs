//! What the documentation of later versions names and this version lacks. Ignoring it would weaken a restriction in silence.

/// Keys by their path, with `[]` for every place in a list, and what to do instead.
const KEYS: [(&str, &str); 23] = [
    ("listen[].tls", "terminate TLS in front, and list that proxy in `trusted_proxies`"),
    ("listen[].proxy_protocol", "let the balancer send `X-Forwarded-For` and list it in `trusted_proxies`"),
    ("token_issuers", "remove the key: callers with tokens of their own are not recognised yet"),
    ("compatibility", "remove the key: paths of other proxies are not served yet"),
    ("providers[].membership.api", "remove the key: groups are read with each person's own tokens"),
    ("providers[].membership.hook", "remove the key: membership is read anew after `membership.refresh`"),
    ("routes[].token_issuers", "remove the key: callers with tokens of their own are not recognised yet"),
    ("routes[].forward_credential", "remove the key: `Authorization` reaches the upstream as it was sent"),
    ("routes[].body_fields", "remove the key, and judge the request by its method and path"),
    ("routes[].strip_path", "serve the upstream under the path that people see"),
    ("routes[].host_header", "remove the key: the upstream gets the host that was asked for"),
    ("routes[].cors", "let the upstream answer cross-origin requests, or serve both under one origin"),
    ("routes[].step_up", "remove the key: a second, stronger sign-in cannot be asked for yet"),
    ("routes[].grace", "remove the key"),
    ("routes[].idle", "remove the key: `sessions.idle` holds for all routes"),
    ("routes[].frame", "remove the key"),
    ("routes[].basic", "remove the key: people sign in with a browser"),
    ("routes[].kind", "remove the key: every route has an upstream"),
    ("routes[].upstream.health", "remove the key: one URL is not chosen among others"),
    ("routes[].upstream.tls", "put the upstream on a trusted network, and write an `http` URL"),
    ("routes[].upstream.http2", "remove the key: upstreams are spoken to in HTTP/1.1"),
    ("sessions.store", "remove the key: sessions are kept in the embedded store below `state`"),
    ("audit.sinks", "remove the key, and ship the files of the journal below `state`"),
];

/// Values by the path of their key.
const VALUES: [(&str, &str, &str); 2] = [
    ("providers[].kind", "entra", "`oidc` works where the ID token lists the groups"),
    ("providers[].kind", "google", "`oidc` works where the ID token lists the groups"),
];

/// What to do instead of `key`, if a later version has it.
pub(super) fn key(path: &str) -> Option<&'static str> {
    let general = general(path);
    KEYS.iter().find(|(key, _)| *key == general).map(|(_, help)| *help)
}

/// What to do instead of `value`, if a later version has it.
pub(super) fn value(path: &str, value: &str) -> Option<&'static str> {
    let general = general(path);
    VALUES.iter().find(|(key, known, _)| *key == general && *known == value).map(|(_, _, help)| *help)
}

/// `routes[0].allow[1]` becomes `routes[].allow[]`.
fn general(path: &str) -> String {
    let mut inside = false;
    path.chars()
        .filter(|c| {
            inside = (inside || *c == '[') && *c != ']';
            !inside || *c == '['
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_at_every_place_of_a_list() {
        assert_eq!(general("routes[10].allow[1]"), "routes[].allow[]");
        assert!(key("listen[3].tls").is_some());
        assert!(key("routes[0].upstream.http2").is_some());
        assert!(key("routes[0].upstream").is_none());
        assert!(value("providers[7].kind", "entra").is_some());
        assert!(value("providers[7].kind", "gitlab").is_none());
    }
}
