//! When GitLab said that somebody changed, and what of them is believed since. Pure: time is an argument.

use super::{
    cell::elapsed,
    gone::{Gone, Narrow},
};
use crate::group::{GroupPath, Role};
use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

/// When GitLab said that everybody may have changed.
#[derive(Clone, Copy)]
pub(super) struct Everybody {
    /// The last time.
    pub(super) at: SystemTime,
    /// The time after it last took something away.
    pub(super) narrow: Option<Narrow>,
}

/// When GitLab said that somebody changed.
#[derive(Clone)]
pub(super) struct Changed {
    /// The last time.
    pub(super) at: SystemTime,
    /// The time after it last took something away.
    pub(super) narrow: Option<Narrow>,
    /// What was seen to be gone since.
    pub(super) gone: Gone<GroupPath>,
    /// Groups that they were added to since.
    pub(super) given: Vec<GroupPath>,
}

#[derive(Default)]
pub(super) struct Changes {
    pub(super) people: HashMap<u64, Changed>,
    pub(super) swept: Option<SystemTime>,
}

/// When a change was, unless that was told by a clock that has been set back since: what can be believed was read after it then.
pub(super) fn believable(at: SystemTime, now: SystemTime) -> Option<SystemTime> {
    (elapsed(at, now) < Duration::MAX).then_some(at)
}

impl Changed {
    /// A change at `now`, after an earlier one, that takes something away: the membership of `group`, if it is known which.
    pub(super) fn taken(before: Option<Self>, group: Option<&GroupPath>, now: SystemTime) -> Self {
        let (gone, mut given) = before.map(|before| (before.gone, before.given)).unwrap_or_default();
        given.retain(|given| group.is_some_and(|group| group != given));
        Self { at: now, narrow: Some(Narrow::after(now)), gone, given }
    }

    /// A change at `now` that takes nothing away, and gives the membership of `group`, if it is one that is named.
    pub(super) fn given(before: Option<Self>, group: Option<GroupPath>, now: SystemTime) -> Self {
        let empty = Self { at: now, narrow: None, gone: Gone::default(), given: Vec::new() };
        let mut changed = Self { at: now, ..before.unwrap_or(empty) };
        if let Some(group) = group {
            changed.gone.lift(&group);
            changed.given.retain(|given| *given != group);
            changed.given.push(group);
        }
        changed
    }

    /// When it was, if that can be believed.
    pub(super) fn since(&self, now: SystemTime) -> Option<SystemTime> {
        believable(self.at, now)
    }

    /// Takes what was read of the person from `read` on. With `active`, what they lost is gone for a while; a person who is blocked
    /// has no role, and loses none by it.
    pub(super) fn take(
        &mut self,
        roles: &HashMap<GroupPath, Option<Role>>,
        had: impl Fn(&GroupPath) -> Option<Role>,
        active: bool,
        read: SystemTime,
    ) {
        self.gone.forget(read);
        let Some(narrow) = self.narrow.filter(|narrow| active && narrow.holds(read)) else { return };
        for (path, role) in roles {
            self.gone.note(path, had(path), *role, narrow);
        }
    }

    /// Whether a read tells a role of which nobody can say whether the person still has it.
    pub(super) fn contradicts(&self, group: &GroupPath, (role, read): (Option<Role>, SystemTime)) -> bool {
        self.gone.contradicts(group, role, read)
    }

    /// Whether both reads of this group fall into the time in which they only take away.
    pub(super) fn narrows(&self, group: &GroupPath, reads: [SystemTime; 2]) -> bool {
        let holds = |narrow: Narrow| reads.into_iter().all(|begun| narrow.holds(begun));
        !self.given.contains(group) && self.narrow.is_some_and(holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_789_000_000 + seconds)
    }

    fn path(text: &str) -> GroupPath {
        text.parse().expect("a path")
    }

    /// Of what was seen to go, and is told again within 30 s of the change that took it, nobody can say. That is not so of a group
    /// that the person was added to since, of what they never lost, and of what somebody had before they were blocked.
    #[test]
    fn s78_what_is_gone_of_one_person_is_not_believed_to_be_back() {
        let (acme, other) = (path("acme"), path("other"));
        let (owner, guest) = (Some(Role::Owner), Some(Role::Guest));
        let take = |changed: &mut Changed, had: Option<Role>, role, active, second| {
            changed.take(&HashMap::from([(acme.clone(), role)]), |_| had, active, at(second));
        };
        let contradicts = |changed: &Changed, role, second| changed.contradicts(&acme, (role, at(second)));
        let mut changed = Changed::taken(None, None, at(10));
        take(&mut changed, owner, guest, true, 10);
        assert!(!contradicts(&changed, guest, 12) && contradicts(&changed, owner, 12), "a lesser role");
        let changed = Changed::taken(Some(changed), None, at(38)); // out of something else
        assert!(contradicts(&changed, owner, 39) && !contradicts(&changed, owner, 40), "30 s after the first change");
        assert!(!changed.contradicts(&other, (owner, at(39))));
        let added = Changed::given(Some(changed.clone()), Some(acme.clone()), at(39));
        assert!(!contradicts(&added, owner, 39), "added to it since");
        assert_eq!(Changed::taken(Some(added.clone()), Some(&other), at(39)).given, std::slice::from_ref(&acme));
        assert!(Changed::taken(Some(added), Some(&acme), at(39)).given.is_empty());
        let mut blocked = Changed::taken(None, None, at(10));
        take(&mut blocked, owner, None, false, 10);
        assert!(!contradicts(&blocked, owner, 12), "blocked, and let in again");
    }

    #[test]
    fn two_reads_after_a_removal_count_together() {
        let (acme, other) = (path("acme"), path("other"));
        let removed = Changed::taken(None, None, at(10));
        let narrows = |changed: &Changed, from, to| changed.narrows(&acme, [at(from), at(to)]);
        assert!(narrows(&removed, 10, 39) && !narrows(&removed, 9, 11) && !narrows(&removed, 10, 40));
        let added = Changed::given(Some(removed), Some(other.clone()), at(20));
        assert!(narrows(&added, 10, 39) && !added.narrows(&other, [at(10), at(39)]));
        assert!(!narrows(&Changed::given(None, None, at(10)), 10, 10));
    }

    /// A clock that was set back leaves no change in force that lies ahead.
    #[test]
    fn a_change_of_the_future_is_none() {
        let changed = Changed::taken(None, None, at(3600));
        assert_eq!((changed.since(at(3601)), changed.since(at(3590))), (Some(at(3600)), Some(at(3600))));
        assert_eq!(changed.since(at(0)), None);
    }
}
