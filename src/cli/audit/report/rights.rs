//! What the policies of now permit and nobody used.

use super::{
    load,
    render::{Cell, Section},
};
use crate::{
    audit::tally::{Tally, Use, Who, group},
    authorize::Authorize,
    cli::policy,
    config::Settings,
    moment::{at, to_the_second},
    principal::Principal,
    review::{access::Access, asking::Site, cast::Cast},
    text::counted,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
};

/// What actions are, in the order of [`group`].
const GROUPS: [&str; 3] = ["read", "write", "connect"];

/// So many who are not in the population are named.
const STRANGERS: usize = 100;

/// The policies of now, and whose rights are looked at.
pub(super) struct Rights {
    settings: Settings,
    authorize: Authorize,
    /// `None`: nobody was named.
    cast: Option<Cast>,
}

impl Rights {
    /// Reads the policies, and the people in these files.
    ///
    /// # Errors
    /// Every mistake.
    pub(super) fn read(settings: Settings, population: &[PathBuf]) -> Result<Self, String> {
        let authorize = load(&settings)?;
        let cast = match population {
            [] => None,
            files => Some(Cast::of_files(files, &settings).map_err(|errors| policy::mistakes(&errors))?),
        };
        Ok(Self { settings, authorize, cast })
    }

    /// Rights of the population, and policies, that nobody used since then, and who of the trail is not in the population.
    pub(super) fn sections(&self, tally: &Tally, since: &Since) -> Vec<Section> {
        let people = self.cast.as_ref().map(|cast| self.people(cast, tally, since));
        people.into_iter().flatten().chain([self.policies(tally, since)]).collect()
    }

    /// What is taken for granted.
    pub(super) fn assumed(&self, since: &Since) -> Vec<String> {
        let since = since.known();
        let mut lines = vec![format!(
            "A policy is unused if it decided no request since {since}; asked are the policies as they are now, not as they were."
        )];
        lines.push(match &self.cast {
            Some(_) => format!(
                "A right is unused if its policy permitted no request of that person on that route since {since}, by action: `read` is GET, \
                 HEAD and OPTIONS, `write` all other methods, `connect` upgrades. Asked are the policies and groups as they are now: \
                 rights that somebody had before are not told. Conditions on the request are not asked: a right may be narrower than it is told."
            ),
            None => "Rights that nobody used are not told: name people with `--population FILE`, such as `policy snapshot` writes.".to_owned(),
        });
        lines
    }

    fn people(&self, cast: &Cast, tally: &Tally, since: &Since) -> [Section; 2] {
        let (rights, site) = (self.authorize.rights(), Site::of(&self.settings));
        let uses = by_route(tally);
        let (mut rows, mut known, mut unknown) = (Vec::new(), BTreeSet::new(), 0_u64);
        for (name, principal) in cast.iter() {
            let Some((who, login)) = who(principal) else { continue };
            let access = Access::of(&rights, &site, &self.settings, Some(name), principal);
            unknown += u64::from(access.groups_unknown());
            for (route, right, methods) in access.permits() {
                let used = uses.get(&(&who, route.name.as_str()));
                let relied = used.and_then(|used| used.policies.get(&*right.policy.id));
                let may: BTreeSet<_> = methods.iter().map(|method| group(method, "")).collect();
                let last_of = |group: usize| relied.map_or(0, |relied| relied.used[group]);
                let unused: Vec<_> = may.iter().filter(|group| last_of(**group) < since.asked).collect();
                if !unused.is_empty() {
                    let last = unused.iter().map(|group| last_of(**group)).max().unwrap_or_default();
                    let unused: Vec<_> = unused.iter().map(|group| GROUPS[**group]).collect();
                    rows.push(vec![
                        Cell::text(&who.id),
                        Cell::text(&login),
                        Cell::text(&who.principal),
                        Cell::text(&who.project),
                        Cell::text(route.name.as_str()),
                        Cell::text(&right.policy.id),
                        Cell::text(&unused.join(" ")),
                        Cell::time(last),
                        Cell::text(&right.conditions.join(" && ")),
                    ]);
                }
            }
            known.insert(who);
        }
        rows.sort();
        let mut notes = vec![format!(
            "looked at: {}",
            counted(known.len() as u64, "person, job or service", "people, jobs and services")
        )];
        notes.extend(since.notes(tally));
        if unknown > 0 {
            notes.push(format!(
                "of {unknown} nobody can say which groups they are in: they may have more rights than are told"
            ));
        }
        let unused = Section {
            key: "unused_rights",
            title: format!("Rights not used since {}", since.words()),
            columns: &["who", "name", "principal", "project", "route", "policy", "actions", "last", "detail"],
            rows,
            notes,
        };
        [unused, strangers(tally, &known)]
    }

    fn policies(&self, tally: &Tally, since: &Since) -> Section {
        let relied: BTreeSet<&str> = tally
            .uses
            .values()
            .flat_map(|used| used.policies.iter().filter(|(_, relied)| relied.since).map(|(id, _)| &**id))
            .collect();
        let unused = self.authorize.stated().filter(|stated| !relied.contains(&*stated.id));
        let effect = |permits| if permits { "permit" } else { "forbid" };
        let row = |stated: crate::authorize::Stated| {
            vec![Cell::text(&stated.id), Cell::text(effect(stated.permits)), Cell::text(&stated.place)]
        };
        let mut rows: Vec<_> = unused.map(row).collect();
        rows.sort();
        Section {
            key: "unused_policies",
            title: format!("Policies that decided nothing since {}", since.words()),
            columns: &["policy", "what", "detail"],
            rows,
            notes: [format!("of {}", counted(self.authorize.stated().count() as u64, "policy", "policies"))]
                .into_iter()
                .chain(since.notes(tally))
                .collect(),
        }
    }
}

/// Since when something was not used: what was asked for, and what the trail knows of it.
pub(super) struct Since {
    /// In milliseconds since 1970.
    pub(super) asked: u64,
    /// When the journal begins, if that is later. `None`: it does not say.
    begins: Option<u64>,
}

impl Since {
    pub(super) fn of(tally: &Tally, asked: u64) -> Self {
        Self { asked, begins: tally.begins.map(|begins| begins.max(asked)) }
    }

    /// The moment that was asked for, and that since when the trail knows what was used.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "asked": to_the_second(at(self.asked)),
            "known": self.begins.map(|begins| to_the_second(at(begins))),
        })
    }

    /// Since when the trail knows what was used.
    pub(super) fn known(&self) -> String {
        to_the_second(at(self.begins.unwrap_or(self.asked)))
    }

    fn words(&self) -> String {
        let asked = to_the_second(at(self.asked));
        match self.begins {
            Some(begins) if begins == self.asked => asked,
            Some(_) => format!("{}, when the journal begins (asked: since {asked})", self.known()),
            None => format!("{asked}, if the journal knows: it does not say when it begins"),
        }
    }

    /// What the trail does not know of that time.
    fn notes(&self, tally: &Tally) -> Vec<String> {
        let mut notes = Vec::new();
        if self.begins != Some(self.asked) {
            notes.push(format!("the trail knows since {}", self.words()));
        }
        if tally.blind > 0 {
            notes.push(format!("nobody knows what was used in {} gaps and recoveries since then", tally.blind));
        }
        notes
    }
}

/// Who is in the trail and not in the population.
fn strangers(tally: &Tally, known: &BTreeSet<Who>) -> Section {
    let mut strangers: BTreeMap<&Who, (u64, &str)> = BTreeMap::new();
    for ((who, _), used) in &tally.uses {
        let all = used.all();
        if !who.id.is_empty() && !known.contains(who) && all.count > 0 {
            let last = strangers.entry(who).or_default();
            *last = (*last).max((all.last, &used.name));
        }
    }
    let rows = strangers.iter().take(STRANGERS).map(|(who, (last, name))| {
        let texts = [&*who.id, name, &*who.principal, &*who.project].map(Cell::text);
        texts.into_iter().chain([Cell::time(*last)]).collect()
    });
    let left = strangers.len().saturating_sub(STRANGERS);
    Section {
        key: "strangers",
        title: "In the trail and not in the population: their rights are not told".to_owned(),
        columns: &["who", "name", "principal", "project", "last"],
        rows: rows.collect(),
        notes: (left > 0).then(|| format!("and {left} more")).into_iter().collect(),
    }
}

/// Uses by who and route, to be asked without copies.
fn by_route(tally: &Tally) -> HashMap<(&Who, &str), &Use> {
    tally.uses.iter().map(|((who, route), used)| ((who, &**route), used)).collect()
}

/// Who this is in the trail, and their login; `None` for nobody known.
fn who(principal: &Principal) -> Option<(Who, String)> {
    let id = |id: &crate::principal::UserId| format!("{}:{}", id.provider, id.subject);
    let (id, kind, project, login) = match principal {
        Principal::Anonymous => return None,
        Principal::User { person, .. } => (id(&person.id), "user", String::new(), person.login.to_string()),
        Principal::Job { job, .. } => {
            (id(&job.person.id), "job", job.project_path.to_string(), job.person.login.to_string())
        }
        Principal::Service { service, .. } => {
            (id(&service.id), "service", String::new(), service.client_id.to_string())
        }
    };
    Some((Who { id, principal: kind.to_owned(), project }, login))
}
