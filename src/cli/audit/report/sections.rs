//! What the trail says, in tables.

use super::render::{Cell, Section};
use crate::audit::{
    About,
    tally::{Act, Change, Count, Signing, TOLD, Tally},
};
use std::collections::{BTreeMap, BTreeSet};

/// Every table that the trail alone gives.
pub(super) fn of(tally: &Tally) -> Vec<Section> {
    vec![
        uses(tally),
        policies(tally),
        sign_ins(tally),
        failed(tally),
        memberships(tally),
        acts("acts", "What operators did, what was loaded, starts and stops", tally, |about| !is_gap(about)),
        acts("gaps", "What is missing: gaps, recoveries, what retention removed", tally, is_gap),
    ]
}

fn is_gap(about: About) -> bool {
    matches!(about, About::Gap | About::Recovery | About::Removal)
}

/// `not_permitted 3, no_session 1`, the most frequent first.
fn counted(counts: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by_key(|(word, count)| (std::cmp::Reverse(**count), *word));
    sorted.iter().map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
}

fn uses(tally: &Tally) -> Section {
    let mut rows = Vec::new();
    for ((who, route), used) in &tally.uses {
        let all = used.all();
        if all.count == 0 {
            continue; // only before the range
        }
        rows.push(vec![
            Cell::text(&who.id),
            Cell::text(&used.name),
            Cell::text(&who.principal),
            Cell::text(&who.project),
            Cell::text(route),
            Cell::Number(used.allowed.count),
            Cell::Number(used.refused.count),
            Cell::Number(used.ended.count),
            Cell::time(all.first),
            Cell::time(all.last),
            Cell::text(&counted(&used.reasons)),
        ]);
    }
    rows.sort();
    Section {
        key: "use",
        title: "Who used what".to_owned(),
        columns: &[
            "who",
            "name",
            "principal",
            "project",
            "route",
            "allowed",
            "refused",
            "ended",
            "first",
            "last",
            "detail",
        ],
        rows,
        notes: Vec::new(),
    }
}

/// What a policy decided.
#[derive(Default)]
struct Decided<'a> {
    all: Count,
    allowed: u64,
    users: BTreeSet<&'a str>,
    routes: BTreeSet<&'a str>,
}

impl Decided<'_> {
    fn row(self, id: &str) -> Vec<Cell> {
        vec![
            Cell::text(id),
            Cell::Number(self.allowed),
            Cell::Number(self.all.count - self.allowed),
            Cell::Number(self.users.len() as u64),
            Cell::time(self.all.first),
            Cell::time(self.all.last),
            Cell::text(&self.routes.into_iter().collect::<Vec<_>>().join(" ")),
        ]
    }
}

fn policies(tally: &Tally) -> Section {
    let mut policies: BTreeMap<&str, Decided<'_>> = BTreeMap::new();
    for ((who, route), used) in &tally.uses {
        for (id, relied) in used.policies.iter().filter(|(_, relied)| relied.decided.count > 0) {
            let decided = policies.entry(id).or_default();
            decided.all.join(relied.decided);
            decided.allowed += relied.allowed;
            decided.users.insert(&who.id);
            decided.routes.insert(route);
        }
    }
    Section {
        key: "policies",
        title: "Policies that decided".to_owned(),
        columns: &["policy", "allowed", "refused", "users", "first", "last", "routes"],
        rows: policies.into_iter().map(|(id, decided)| decided.row(id)).collect(),
        notes: Vec::new(),
    }
}

fn sign_ins(tally: &Tally) -> Section {
    let people = tally.people.iter().filter(|(_, it)| it.signed_in.count + it.deferred > 0 || !it.ended.is_empty());
    let rows = people.map(|(id, signing)| {
        vec![
            Cell::text(id),
            Cell::text(&signing.name),
            Cell::Number(signing.signed_in.count),
            Cell::Number(signing.ended.values().sum()),
            Cell::time(signing.signed_in.first),
            Cell::time(signing.signed_in.last),
            Cell::text(
                &[counted(&signing.ended), deferred(signing.deferred)]
                    .into_iter()
                    .filter(|it| !it.is_empty())
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        ]
    });
    Section {
        key: "sign_ins",
        title: "Sign-ins, and why sessions ended".to_owned(),
        columns: &["who", "name", "count", "ended", "first", "last", "detail"],
        rows: rows.collect(),
        notes: Vec::new(),
    }
}

fn deferred(count: u64) -> String {
    if count > 0 { format!("refresh put off {count}") } else { String::new() }
}

fn failed(tally: &Tally) -> Section {
    let rows = tally.failed.iter().map(|(reason, count)| vec![Cell::text(reason), Cell::Number(*count)]);
    Section {
        key: "failed_sign_ins",
        title: "Sign-ins that failed".to_owned(),
        columns: &["what", "count"],
        rows: rows.collect(),
        notes: Vec::new(),
    }
}

fn memberships(tally: &Tally) -> Section {
    let changed = tally.people.iter().filter(|(_, it)| it.added.count + it.removed.count > 0);
    let rows = changed.map(|(id, signing)| {
        let mut all = signing.added;
        all.join(signing.removed);
        vec![
            Cell::text(id),
            Cell::text(&signing.name),
            Cell::Number(signing.added.count),
            Cell::Number(signing.removed.count),
            Cell::time(all.first),
            Cell::time(all.last),
            Cell::text(&changes(signing)),
        ]
    });
    Section {
        key: "memberships",
        title: "Changes of groups".to_owned(),
        columns: &["who", "name", "added", "removed", "first", "last", "detail"],
        rows: rows.collect(),
        notes: vec!["all of them, with their times: `audit search --kind groups --user WHO`".to_owned()],
    }
}

/// `+acme/a, -acme/b`, the newest first, and how many were before.
fn changes(signing: &Signing) -> String {
    let one = |change: &Change| format!("{}{}", if change.added { '+' } else { '-' }, change.group);
    let told = signing.changes.iter().rev().map(one).collect::<Vec<_>>().join(", ");
    let before = (signing.added.count + signing.removed.count).saturating_sub(signing.changes.len() as u64);
    if before > 0 { format!("{told}, and {before} before") } else { told }
}

fn acts(key: &'static str, title: &str, tally: &Tally, is: fn(About) -> bool) -> Section {
    let told: Vec<(u64, &Act)> =
        tally.acts.iter().filter(|(_, act)| is(act.about)).map(|((time, ..), act)| (*time, act)).collect();
    let told_of = |about: About| {
        matches!(
            about,
            About::Admin | About::Reload | About::Start | About::Stop | About::Gap | About::Recovery | About::Removal
        )
    };
    let all: u64 =
        tally.kinds.iter().filter(|(about, _)| is(**about) && told_of(**about)).map(|(_, count)| count).sum();
    let rows = told.iter().map(|(time, act)| {
        vec![
            Cell::time(*time),
            Cell::text(&act.who),
            Cell::text(&act.what),
            Cell::text(&act.object),
            Cell::text(&act.detail),
        ]
    });
    let mut notes = Vec::new();
    if all > told.len() as u64 {
        notes.push(format!("the last {} of {all}: of all that is told one by one, {TOLD} lines are", told.len()));
    }
    Section {
        key,
        title: title.to_owned(),
        columns: &["time", "who", "what", "object", "detail"],
        rows: rows.collect(),
        notes,
    }
}
