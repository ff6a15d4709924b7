//! The people and groups of the demo's GitLab, and GitLab's rule that membership flows down.

use crate::group::Role;
use std::collections::BTreeMap;

/// Every group that exists, as full paths.
pub(super) const GROUPS: [&str; 6] =
    ["acme", "acme/payments", "acme/platform", "acme/platform/sre", "acme/shop", "contractors"];

/// One person with an account.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) id: u32,
    pub(super) login: &'static str,
    pub(super) name: &'static str,
    pub(super) blocked: bool,
    /// Direct memberships: group and role.
    pub(super) direct: BTreeMap<&'static str, Role>,
}

impl Person {
    fn new(id: u32, login: &'static str, name: &'static str, group: &'static str, role: Role) -> Self {
        Self { id, login, name, blocked: false, direct: BTreeMap::from([(group, role)]) }
    }

    /// The greatest role in `group`: direct or inherited from a group above it.
    pub(super) fn role_in(&self, group: &str) -> Option<Role> {
        self.direct.iter().filter(|(above, _)| contains(above, group)).map(|(_, role)| *role).max()
    }

    /// Every group the person is effectively a member of, sorted.
    pub(super) fn groups(&self) -> Vec<&'static str> {
        GROUPS.into_iter().filter(|group| self.role_in(group).is_some()).collect()
    }

    /// The groups with a direct membership in exactly this role.
    pub(super) fn direct_as(&self, role: Role) -> Vec<&'static str> {
        self.direct.iter().filter(|(_, has)| **has == role).map(|(group, _)| *group).collect()
    }

    /// `owner of acme, guest of contractors`, or `in no group`.
    pub(super) fn memberships(&self) -> String {
        if self.direct.is_empty() {
            return "in no group".to_owned();
        }
        let each = self.direct.iter().map(|(group, role)| format!("{} of {group}", role.as_str()));
        each.collect::<Vec<_>>().join(", ")
    }

    /// `login@example.test`: a domain that can never receive mail.
    pub(super) fn email(&self) -> String {
        format!("{}@example.test", self.login)
    }
}

/// Why a change to the people was not made.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum ChangeError {
    #[error(
        "there is no group `{0}`, expected one of acme, acme/payments, acme/platform, acme/platform/sre, acme/shop, contractors"
    )]
    NoGroup(String),
    #[error("there is no role `{0}`, expected one of guest, reporter, developer, maintainer, owner")]
    NoRole(String),
    #[error("`{login}` has no membership at or below `{group}` that could be removed")]
    NotMember { login: &'static str, group: &'static str },
}

/// Everybody who has an account.
#[derive(Clone, Debug)]
pub(super) struct People(Vec<Person>);

impl People {
    /// The four people that the demo starts with.
    pub(super) fn starter() -> Self {
        Self(vec![
            Person::new(101, "ada", "Ada", "acme", Role::Owner),
            Person::new(102, "ben", "Ben", "acme/platform", Role::Developer),
            Person::new(103, "cleo", "Cleo", "acme/payments", Role::Reporter),
            Person::new(104, "dan", "Dan", "contractors", Role::Guest),
        ])
    }

    /// All of them, by id.
    pub(super) fn all(&self) -> &[Person] {
        &self.0
    }

    /// The person with this login.
    pub(super) fn named(&self, login: &str) -> Option<&Person> {
        self.0.iter().find(|person| person.login == login)
    }

    /// The same, to be changed.
    pub(super) fn named_mut(&mut self, login: &str) -> Option<&mut Person> {
        self.0.iter_mut().find(|person| person.login == login)
    }

    /// The person with this id, blocked or not.
    pub(super) fn numbered(&self, id: u32) -> Option<&Person> {
        self.0.iter().find(|person| person.id == id)
    }

    /// The person with this id who may sign in.
    pub(super) fn active(&self, id: u32) -> Option<&Person> {
        self.numbered(id).filter(|person| !person.blocked)
    }
}

impl Person {
    /// Removes every direct membership at or below `group`.
    pub(super) fn leave(&mut self, group: &str) -> Result<(), ChangeError> {
        let group = existing(group)?;
        let before = self.direct.len();
        self.direct.retain(|path, _| !contains(group, path));
        if self.direct.len() < before { Ok(()) } else { Err(ChangeError::NotMember { login: self.login, group }) }
    }

    /// Makes the person a direct member of `group`.
    pub(super) fn join(&mut self, group: &str, role: &str) -> Result<(), ChangeError> {
        let group = existing(group)?;
        let role = role.parse().map_err(|()| ChangeError::NoRole(role.to_owned()))?;
        self.direct.insert(group, role);
        Ok(())
    }
}

fn existing(group: &str) -> Result<&'static str, ChangeError> {
    GROUPS.into_iter().find(|path| *path == group).ok_or_else(|| ChangeError::NoGroup(group.to_owned()))
}

/// True for `outer` itself and every group below it, by segment.
fn contains(outer: &str, inner: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_flows_down_and_never_up() {
        let people = People::starter();
        let ada = people.named("ada").expect("a starter");
        assert_eq!(ada.groups(), ["acme", "acme/payments", "acme/platform", "acme/platform/sre", "acme/shop"]);
        assert_eq!(ada.role_in("acme/platform/sre"), Some(Role::Owner));
        let ben = people.named("ben").expect("a starter");
        assert_eq!(ben.groups(), ["acme/platform", "acme/platform/sre"]);
        assert_eq!(ben.role_in("acme"), None);
    }

    #[test]
    fn leaving_a_group_ends_memberships_below_it_but_not_above() {
        let mut people = People::starter();
        let ben = people.named_mut("ben").expect("a starter");
        ben.leave("acme").expect("acme/platform is below acme");
        assert_eq!(ben.groups(), [""; 0]);
        let ada = people.named_mut("ada").expect("a starter");
        assert_eq!(ada.leave("acme/platform"), Err(ChangeError::NotMember { login: "ada", group: "acme/platform" }));
        assert_eq!(ada.leave("acm"), Err(ChangeError::NoGroup("acm".into())));
    }

    #[test]
    fn joining_takes_the_highest_of_direct_and_inherited() {
        let mut people = People::starter();
        let ben = people.named_mut("ben").expect("a starter");
        ben.join("acme/platform/sre", "guest").expect("group and role exist");
        assert_eq!(ben.role_in("acme/platform/sre"), Some(Role::Developer));
        assert_eq!(ben.join("acme", "boss"), Err(ChangeError::NoRole("boss".into())));
    }
}
