//! Group paths, as GitLab writes them.

use std::{fmt, str::FromStr, sync::Arc};

/// The full path of a group, such as `platform/identity`.
///
/// Compared byte for byte: a difference in case is a different group, and denies.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct GroupPath(Arc<str>);

/// What a member of a GitLab group may do there, by its name. Each includes those before it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Role {
    /// 10.
    Guest,
    /// 20.
    Reporter,
    /// 30.
    Developer,
    /// 40.
    Maintainer,
    /// 50.
    Owner,
}

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 5] = [Self::Guest, Self::Reporter, Self::Developer, Self::Maintainer, Self::Owner];

    /// The word that stands behind `#`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Reporter => "reporter",
            Self::Developer => "developer",
            Self::Maintainer => "maintainer",
            Self::Owner => "owner",
        }
    }

    /// The access level that has this name at GitLab.
    pub fn level(self) -> u64 {
        match self {
            Self::Guest => 10,
            Self::Reporter => 20,
            Self::Developer => 30,
            Self::Maintainer => 40,
            Self::Owner => 50,
        }
    }

    /// The greatest role that an access level includes. Levels between two names count as the lower, unknown ones above 50 as
    /// owner; Minimal Access (5) is no membership.
    pub fn of_level(level: u64) -> Option<Self> {
        match level {
            0..10 => None,
            10..20 => Some(Self::Guest),
            20..30 => Some(Self::Reporter),
            30..40 => Some(Self::Developer),
            40..50 => Some(Self::Maintainer),
            50.. => Some(Self::Owner),
        }
    }
}

impl FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// Why a text is not a [`GroupPath`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GroupPathError {
    /// The text is empty or has an empty segment.
    #[error("group path `{0}` has an empty segment")]
    EmptySegment(String),
    /// A control character, which no provider has in a group's path.
    #[error("group path has a control character")]
    Control,
    /// Longer than 1,024 bytes.
    #[error("group path has {0} bytes, 1024 are allowed")]
    Long(usize),
}

impl GroupPath {
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for this group and every group below it: `a` contains `a/b`, not `ab`.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.strip_prefix(&*self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// This path and all its ancestors, the nearest first: `a/b/c`, `a/b`, `a`.
    pub fn lineage(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(&*self.0), |path| path.rsplit_once('/').map(|(above, _)| above))
    }
}

impl FromStr for GroupPath {
    type Err = GroupPathError;

    fn from_str(text: &str) -> Result<Self, GroupPathError> {
        if text.len() > 1024 {
            return Err(GroupPathError::Long(text.len()));
        }
        if text.chars().any(char::is_control) {
            return Err(GroupPathError::Control);
        }
        if text.split('/').any(str::is_empty) {
            return Err(GroupPathError::EmptySegment(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec("[ab]{1,2}", 1..4).prop_map(|segments| segments.join("/"))
    }

    proptest! {
        /// Containment agrees with comparing segments: a shared prefix is not enough.
        #[test]
        fn contains_agrees_with_segments(a in path(), b in path()) {
            let (outer, inner): (GroupPath, GroupPath) = (a.parse().expect("valid"), b.parse().expect("valid"));
            let expected = b.split('/').collect::<Vec<_>>().starts_with(&a.split('/').collect::<Vec<_>>());
            prop_assert_eq!(outer.contains(&inner), expected);
            prop_assert_eq!(inner.lineage().any(|above| above == a), expected);
        }
    }

    #[test]
    fn a_level_between_two_names_counts_as_the_lower() {
        let named =
            [0, 5, 9, 10, 15, 20, 25, 30, 39, 40, 50, 60, 1_000].map(|level| Role::of_level(level).map(Role::as_str));
        let (guest, reporter, owner) = (Some("guest"), Some("reporter"), Some("owner"));
        let developer = Some("developer");
        assert_eq!(
            named,
            [
                None,
                None,
                None,
                guest,
                guest,
                reporter,
                reporter,
                developer,
                developer,
                Some("maintainer"),
                owner,
                owner,
                owner
            ]
        );
    }

    #[test]
    fn a_role_is_what_its_own_level_includes() {
        for role in Role::ALL {
            assert_eq!(Role::of_level(role.level()), Some(role));
        }
    }

    #[test]
    fn refuses_empty_segments_and_control_characters() {
        assert_eq!("a//b".parse::<GroupPath>(), Err(GroupPathError::EmptySegment("a//b".into())));
        assert_eq!("".parse::<GroupPath>(), Err(GroupPathError::EmptySegment(String::new())));
        assert_eq!("a\n".parse::<GroupPath>(), Err(GroupPathError::Control));
    }
}
