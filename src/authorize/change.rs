//! Changes of membership: what somebody would have to join or leave, and which groups they would be in then.

use super::{
    entities::Named,
    words::{Kind, Uid},
};
use crate::{
    group::{GroupPath, Role},
    principal::Groups,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// One change of membership: of one group, namespace or role that a policy names.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Step {
    uid: Uid,
    joins: bool,
}

/// Changes that permit together what is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MembershipChange {
    /// All of them are needed.
    pub steps: Vec<Step>,
    /// The `@id`s of the policies that would permit it then.
    pub policies: Arc<[Arc<str>]>,
}

/// How a membership comes about. Whether it comes with those of the groups below is the provider's to say.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Way {
    /// It is of that group and no other.
    Alone,
    /// It flows down, as at GitLab: it is of every group below too, and to leave is to leave what it comes from.
    Down,
}

impl Step {
    pub(super) fn join(uid: &Uid) -> Self {
        Self { uid: uid.clone(), joins: true }
    }

    pub(super) fn leave(uid: &Uid) -> Self {
        Self { uid: uid.clone(), joins: false }
    }

    pub(super) fn uid(&self) -> &Uid {
        &self.uid
    }

    /// True for joining, or for a greater role; false for leaving, or for a lesser one.
    pub fn joins(&self) -> bool {
        self.joins
    }

    /// What it is a change of, as policies name it, such as `Role::"gitlab:acme/platform#maintainer"`.
    pub fn entity(&self) -> String {
        self.uid.to_cedar().to_string()
    }

    /// True if it may change whether somebody is in `uid`.
    pub(super) fn touches(&self, uid: &Uid) -> bool {
        if self.joins { implies(&self.uid, uid) } else { implies(uid, &self.uid) }
    }

    /// True if whoever makes this change makes `other` too.
    pub(super) fn includes(&self, other: &Self) -> bool {
        match (self.joins, other.joins) {
            (true, true) => implies(&self.uid, &other.uid),
            (false, false) => implies(&other.uid, &self.uid), // out of a namespace is out of each group in it
            (true, false) | (false, true) => false,
        }
    }
}

impl MembershipChange {
    /// True if it asks for all that `other` asks for, and more.
    pub(super) fn exceeds(&self, other: &Self) -> bool {
        self.steps != other.steps && other.steps.iter().all(|theirs| self.steps.iter().any(|own| own.includes(theirs)))
    }
}

/// Writes `join gitlab:acme/platform`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.uid.id;
        match (self.joins, self.uid.kind, id.split_once('#')) {
            (true, Kind::Role, Some((group, role))) => write!(f, "be {role} of `{group}`, or more"),
            (false, Kind::Role, Some((group, role))) => write!(f, "be less than {role} of `{group}`"),
            (true, Kind::Namespace, _) => write!(f, "join `{id}` or a group below it"),
            (false, Kind::Namespace, _) => write!(f, "leave `{id}` and every group below it"),
            (true, ..) => write!(f, "join `{id}`"),
            (false, ..) => write!(f, "leave `{id}`"),
        }
    }
}

/// True if a member of `one` is a member of `other` wherever memberships come from.
fn implies(one: &Uid, other: &Uid) -> bool {
    if one == other {
        return true;
    }
    let (Some((path, role)), Some((above, least))) = (parts(one), parts(other)) else { return false };
    if one.provider() != other.provider() {
        return false;
    }
    match (one.kind, other.kind) {
        (Kind::Group | Kind::Role | Kind::Namespace, Kind::Namespace) => above.contains(&path),
        (Kind::Role, Kind::Group) => path == above,
        (Kind::Role, Kind::Role) => path == above && role >= least,
        _ => false,
    }
}

/// The path that a group, namespace or role is about, and the role.
fn parts(uid: &Uid) -> Option<(GroupPath, Option<Role>)> {
    let (_, path) = uid.id.split_once(':')?;
    match (uid.kind, path.split_once('#')) {
        (Kind::Role, Some((path, role))) => Some((path.parse().ok()?, Some(role.parse().ok()?))),
        (Kind::Group | Kind::Namespace, _) => Some((path.parse().ok()?, None)),
        _ => None,
    }
}

/// The groups of whoever has `groups` now and makes these changes: first they leave, then they join.
pub(super) fn after(groups: &Groups, steps: &[&Step], way: Way, named: &Named) -> Groups {
    let mut draft = Draft {
        paths: groups.paths.iter().cloned().collect(),
        roles: groups.roles.iter().cloned().collect(),
        unread: groups.unread.iter().cloned().collect(),
    };
    let (joins, leaves): (Vec<&Step>, Vec<&Step>) = steps.iter().copied().partition(|step| step.joins);
    for step in leaves.into_iter().chain(joins) {
        let Some((path, role)) = parts(&step.uid) else { continue };
        match (step.joins, step.uid.kind) {
            (true, Kind::Namespace) => draft.join(unnamed_below(&path, step.uid.provider(), named), None),
            (true, _) => {
                let below = if way == Way::Down { named.below(&step.uid, &path) } else { Vec::new() };
                std::iter::once(path).chain(below).for_each(|path| draft.join(path, role));
            }
            (false, Kind::Role) => draft.step_down(&path, role, way),
            (false, kind) => draft.leave(&path, way == Way::Down || kind == Kind::Namespace, way),
        }
    }
    Groups {
        paths: draft.paths.into_iter().collect(),
        roles: draft.roles.into_iter().collect(),
        unread: draft.unread.into_iter().collect(),
        ..groups.clone()
    }
}

/// A group below `path` that no policy names: whoever is in it is below, and nothing else.
fn unnamed_below(path: &GroupPath, provider: Option<&str>, named: &Named) -> GroupPath {
    let mut name = format!("{path}/-");
    while named.has(provider.unwrap_or_default(), &name) {
        name.push('-');
    }
    name.parse().unwrap_or_else(|_| path.clone())
}

struct Draft {
    paths: BTreeSet<GroupPath>,
    roles: BTreeMap<GroupPath, Role>,
    unread: BTreeSet<GroupPath>,
}

impl Draft {
    fn join(&mut self, path: GroupPath, role: Option<Role>) {
        self.unread.remove(&path);
        if let Some(role) = role {
            let held = self.roles.entry(path.clone()).or_insert(role);
            *held = role.max(*held);
        }
        self.paths.insert(path);
    }

    fn leave(&mut self, path: &GroupPath, below: bool, way: Way) {
        let top = self.origin(path, way);
        let stays = |other: &GroupPath| if below { !top.contains(other) } else { *other != top };
        self.paths.retain(stays);
        self.roles.retain(|path, _| stays(path));
    }

    /// Takes a role away and leaves the one before it.
    fn step_down(&mut self, path: &GroupPath, role: Option<Role>, way: Way) {
        let lesser = Role::ALL.into_iter().rev().find(|lesser| Some(*lesser) < role);
        let Some(lesser) = lesser else { return self.leave(path, way == Way::Down, way) };
        let top = self.origin(path, way);
        let is_meant = |other: &GroupPath| if way == Way::Down { top.contains(other) } else { other == path };
        for (_, held) in self.roles.iter_mut().filter(|(path, _)| is_meant(path)) {
            *held = lesser.min(*held);
        }
    }

    /// The group that membership of `path` comes from: the highest one above it, where it flows down.
    fn origin(&self, path: &GroupPath, way: Way) -> GroupPath {
        let above = path.lineage().filter_map(|above| above.parse().ok());
        let held = above.filter(|above: &GroupPath| self.paths.contains(above)).last();
        held.filter(|_| way == Way::Down).unwrap_or_else(|| path.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        authorize::testing::{load, member, oidc, route},
        principal::Membership,
    };

    fn uid(text: &str) -> Uid {
        let (kind, id) = text.split_once(' ').expect("a kind and an id");
        let kind = match kind {
            "group" => Kind::Group,
            "below" => Kind::Namespace,
            _ => Kind::Role,
        };
        Uid::new(kind, id)
    }

    /// Where policies name `a`, `a/b`, `a/b/c` and roles in `a/b`.
    fn changed(steps: &[Step], way: Way) -> (Vec<String>, Vec<String>) {
        let text = r#"@id("1") permit (principal is User in Group::"gitlab:a", action, resource);
                      @id("2") permit (principal is User in Group::"gitlab:a/b/c", action, resource);
                      @id("3") permit (principal is User in Role::"gitlab:a/b#owner", action, resource);
                      @id("4") permit (principal is User in Namespace::"gitlab:a", action, resource);"#;
        let mut provider = (*oidc("gitlab")).clone();
        provider.api = crate::authorize::testing::gitlab_with_api("gitlab").api.clone();
        provider.kind = crate::config::ProviderKind::Gitlab;
        let checked = load(text, &[route("r")], &[Arc::new(provider)]).expect("the policies are good");
        let held = [("a/b", Role::Developer), ("a/b/x", Role::Maintainer), ("z", Role::Guest)];
        let principal = member("1", &held, &["a"], 1);
        let Some(Membership::Known(groups)) = principal.membership() else { unreachable!("it is known") };
        let steps: Vec<&Step> = steps.iter().collect();
        let groups = after(groups, &steps, way, &Named::of(&checked.policies));
        let roles = groups.roles.iter().map(|(path, role)| format!("{path}#{}", role.as_str()));
        (groups.paths.iter().map(ToString::to_string).collect(), roles.collect())
    }

    #[test]
    fn joining_is_that_group_and_at_gitlab_those_below_it() {
        let step = [Step::join(&uid("group gitlab:a"))];
        assert_eq!(changed(&step, Way::Alone).0, ["a", "a/b", "a/b/x", "z"]);
        assert_eq!(changed(&step, Way::Down).0, ["a", "a/b", "a/b/c", "a/b/x", "z"]);
        let step = [Step::join(&uid("below gitlab:y"))];
        assert_eq!(changed(&step, Way::Down).0, ["a/b", "a/b/x", "y/-", "z"]);
    }

    #[test]
    fn a_role_is_raised_and_never_lowered_by_joining() {
        let step = [Step::join(&uid("role gitlab:a/b#owner"))];
        assert_eq!(changed(&step, Way::Alone).1, ["a/b#owner", "a/b/x#maintainer", "z#guest"]);
        assert_eq!(changed(&step, Way::Down).1, ["a/b#owner", "a/b/c#owner", "a/b/x#maintainer", "z#guest"]);
        let step = [Step::join(&uid("role gitlab:a/b#guest"))];
        assert_eq!(changed(&step, Way::Alone).1, ["a/b#developer", "a/b/x#maintainer", "z#guest"]);
    }

    #[test]
    fn leaving_is_leaving_what_it_comes_from() {
        let step = [Step::leave(&uid("group gitlab:a/b"))];
        assert_eq!(changed(&step, Way::Alone).0, ["a/b/x", "z"]);
        assert_eq!(changed(&step, Way::Down).0, ["z"]);
        let step = [Step::leave(&uid("below gitlab:a"))];
        assert_eq!(changed(&step, Way::Alone).0, ["z"]);
        let step = [Step::leave(&uid("group gitlab:a/b/x"))];
        assert_eq!(changed(&step, Way::Alone).0, ["a/b", "z"]);
        assert_eq!(changed(&step, Way::Down).0, ["z"], "it may be inherited from `a/b`");
        let step = [Step::leave(&uid("role gitlab:a/b#developer"))];
        assert_eq!(changed(&step, Way::Alone).1, ["a/b#reporter", "a/b/x#maintainer", "z#guest"]);
    }

    #[test]
    fn a_greater_change_includes_a_lesser_one() {
        let join = |text| Step::join(&uid(text));
        let leave = |text| Step::leave(&uid(text));
        assert!(join("group g:a/b").includes(&join("below g:a")));
        assert!(join("role g:a#owner").includes(&join("role g:a#guest")));
        assert!(join("role g:a#owner").includes(&join("group g:a")));
        assert!(!join("group g:a").includes(&join("role g:a#guest")));
        assert!(!join("group g:a").includes(&join("below h:a")));
        assert!(leave("below g:a").includes(&leave("group g:a/b")));
        assert!(!leave("group g:a/b").includes(&leave("below g:a")));
        assert!(!join("group g:a").includes(&leave("group g:a")));
    }

    #[test]
    fn steps_are_told_in_words() {
        let told = |step: Step| step.to_string();
        assert_eq!(told(Step::join(&uid("role g:a/b#owner"))), "be owner of `g:a/b`, or more");
        assert_eq!(told(Step::join(&uid("below g:a"))), "join `g:a` or a group below it");
        assert_eq!(told(Step::leave(&uid("group g:a"))), "leave `g:a`");
        assert_eq!(Step::leave(&uid("group g:a")).entity(), r#"Group::"g:a""#);
    }
}
