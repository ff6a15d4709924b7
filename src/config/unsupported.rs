//! What the documentation of later versions names and this version lacks. Ignoring it would weaken a restriction in silence.

/// Keys by their path, with `[]` for every place in a list, and what to do instead.
const KEYS: [(&str, &str); 3] = [
    ("compatibility", "remove the key: paths of other proxies are not served yet"),
    ("routes[].kind", "remove the key: every route has an upstream"),
    ("sessions.store", "remove the key: sessions are kept in the embedded store below `state`"),
];

/// What to do instead of `key`, if a later version has it.
pub(super) fn key(path: &str) -> Option<&'static str> {
    let general = general(path);
    KEYS.iter().find(|(key, _)| *key == general).map(|(_, help)| *help)
}

/// `routes[0].allow[1]` becomes `routes[].allow[]`.
pub(super) fn general(path: &str) -> String {
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
        assert!(key("routes[3].kind").is_some());
        assert!(key("routes[0].upstream").is_none());
    }
}
