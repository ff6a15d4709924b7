//! Everybody who is in the groups that policies name, written as a cast.

use crate::{
    group::{GroupPath, Role},
    principal::UserId,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// One person of a population.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resident {
    /// What the provider calls them now.
    pub login: String,
    /// Their role in each group that policies name.
    pub roles: BTreeMap<GroupPath, Role>,
    /// Other groups, by which they are in a namespace that policies name.
    pub groups: BTreeSet<GroupPath>,
}

impl Resident {
    /// True if they are in `tree` or in a group below it, as far as is written here.
    pub fn is_below(&self, tree: &GroupPath) -> bool {
        self.roles.keys().chain(&self.groups).any(|path| tree.contains(path))
    }
}

/// A population as a cast file, sorted by name: the login, and where several have the same, with the provider.
pub fn written(population: &BTreeMap<UserId, Resident>) -> String {
    let lines: String = named(population).into_iter().map(|(name, (id, one))| line(&name, id, one)).collect();
    if lines.is_empty() { "people: {}\n".to_owned() } else { format!("people:\n{lines}") }
}

/// The same as JSON.
pub fn json(population: &BTreeMap<UserId, Resident>) -> Value {
    let one = |(name, (id, one)): (String, (&UserId, &Resident))| {
        let roles: BTreeMap<&str, &str> = one.roles.iter().map(|(path, role)| (path.as_str(), role.as_str())).collect();
        let groups: Vec<&str> = one.groups.iter().map(GroupPath::as_str).collect();
        let (provider, subject, login) = (id.provider.as_str(), &id.subject, &one.login);
        (name, json!({ "provider": provider, "subject": subject, "login": login, "groups": groups, "roles": roles }))
    };
    json!({ "people": named(population).into_iter().map(one).collect::<serde_json::Map<_, _>>() })
}

/// Everybody by a name of their own.
fn named(population: &BTreeMap<UserId, Resident>) -> BTreeMap<String, (&UserId, &Resident)> {
    let mut logins: BTreeMap<&str, usize> = BTreeMap::new();
    population.values().for_each(|one| *logins.entry(&one.login).or_default() += 1);
    let name = |(id, one): (&UserId, &Resident)| match logins[&*one.login] {
        1 if one.login != super::cast::ANONYMOUS => one.login.clone(),
        _ => format!("{}@{id}", one.login),
    };
    population.iter().map(|each| (name(each), each)).collect()
}

fn line(name: &str, id: &UserId, one: &Resident) -> String {
    let mut line = format!("  {}: {{ provider: {}, subject: {}", quoted(name), id.provider, quoted(&id.subject));
    if name != one.login {
        let _ = write!(line, ", login: {}", quoted(&one.login));
    }
    if !one.groups.is_empty() {
        let groups: Vec<_> = one.groups.iter().map(|path| quoted(path.as_str())).collect();
        let _ = write!(line, ", groups: [{}]", groups.join(", "));
    }
    if !one.roles.is_empty() {
        let role = |(path, role): (&GroupPath, &Role)| format!("{}: {}", quoted(path.as_str()), role.as_str());
        let roles: Vec<_> = one.roles.iter().map(role).collect();
        let _ = write!(line, ", roles: {{ {} }}", roles.join(", "));
    }
    line + " }\n"
}

/// A text as JSON writes it, which YAML reads too; bare where nothing can be mistaken.
fn quoted(text: &str) -> String {
    let bare = text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-/".contains(&b))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text);
    if bare { text.to_owned() } else { Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(login: &str, roles: &[(&str, Role)], groups: &[&str]) -> Resident {
        let path = |path: &str| path.parse::<GroupPath>().expect("a path");
        Resident {
            login: login.into(),
            roles: roles.iter().map(|(at, role)| (path(at), *role)).collect(),
            groups: groups.iter().map(|at| path(at)).collect(),
        }
    }

    fn id(provider: &str, subject: &str) -> UserId {
        UserId { provider: provider.parse().expect("a name"), subject: subject.into() }
    }

    #[test]
    fn everybody_has_a_line_and_a_name_of_their_own() {
        let population = BTreeMap::from([
            (id("gitlab", "907"), resident("ada", &[("acme/platform", Role::Maintainer)], &[])),
            (id("gitlab", "908"), resident("Ben.\"Q\"", &[], &["acme/a b"])),
            (id("labs", "1"), resident("ada", &[("x", Role::Guest), ("x/y", Role::Owner)], &["z"])),
            (id("labs", "2"), resident("anonymous", &[], &[])),
        ]);
        let expected = r#"people:
  "Ben.\"Q\"": { provider: gitlab, subject: "908", groups: ["acme/a b"] }
  "ada@gitlab:907": { provider: gitlab, subject: "907", login: ada, roles: { acme/platform: maintainer } }
  "ada@labs:1": { provider: labs, subject: "1", login: ada, groups: [z], roles: { x: guest, x/y: owner } }
  "anonymous@labs:2": { provider: labs, subject: "2", login: anonymous }
"#;
        assert_eq!(written(&population), expected);
        assert_eq!(written(&BTreeMap::new()), "people: {}\n");
    }

    #[test]
    fn words_that_yaml_reads_as_something_else_are_quoted() {
        for word in ["yes", "null", "1e3", "~", "a: b", "a#b", "- a", "é"] {
            assert!(quoted(word).starts_with('"'), "{word}");
        }
        assert_eq!(quoted("acme/platform-2"), "acme/platform-2");
    }
}
