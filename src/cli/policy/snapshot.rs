//! `vestibule policy snapshot`: everybody in the groups that policies name, as a population for `policy diff`.

use super::{load, mistakes};
use crate::{
    authorize::Authorize,
    cli::print,
    config::{ProviderSettings, Settings},
    gitlab::{Api, ApiError},
    group::GroupPath,
    moment::to_the_second,
    principal::UserId,
    review::population::{Resident, json, written},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::SystemTime,
};

type Population = BTreeMap<UserId, Resident>;

/// Reads who is in the groups that the policies name, and those in the directories `and`, and prints it.
///
/// # Errors
/// A sentence: no provider can be asked, or one gives no answer. Or the mistakes of the policies.
pub(super) fn run(settings: &Settings, and: &[PathBuf], as_json: bool) -> Result<bool, String> {
    if settings.providers.iter().all(|provider| provider.api.is_none()) {
        return Err("no provider has `membership.api`, with which members are read: write it into the configuration, \
                    or write the population by hand"
            .to_owned());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot ask anything: {error}"))?;
    let mut policies = vec![load(settings).map_err(|errors| mistakes(&errors))?];
    for directory in and {
        let other = Settings { policies: Some(directory.clone()), ..settings.clone() };
        policies.push(load(&other).map_err(|errors| mistakes(&errors))?);
    }
    let named = Named::of(&policies);
    let (mut population, mut notes) = (Population::new(), Vec::new());
    for provider in &settings.providers {
        notes.extend(runtime.block_on(read(provider, &named, &mut population))?);
    }
    if as_json {
        print(&format!("{:#}", json(&population)));
        return Ok(true);
    }
    let head = format!(
        "# Everybody in the groups that policies name, as `vestibule policy snapshot` read it at {}.\n",
        to_the_second(SystemTime::now())
    );
    let notes: String = notes.iter().map(|note| format!("# {note}\n")).collect();
    print(&(head + &notes + &written(&population)));
    Ok(true)
}

/// The groups that policies name, `PROVIDER:path` each, and the namespaces among them.
struct Named {
    groups: BTreeSet<String>,
    trees: BTreeSet<String>,
}

impl Named {
    fn of(policies: &[Authorize]) -> Self {
        Self {
            groups: policies.iter().flat_map(Authorize::groups).collect(),
            trees: policies.iter().flat_map(Authorize::trees).collect(),
        }
    }

    fn at(&self, provider: &ProviderSettings) -> (BTreeSet<GroupPath>, BTreeSet<GroupPath>) {
        let prefix = format!("{}:", provider.name);
        let path = |id: &String| id.strip_prefix(&prefix)?.split('#').next()?.parse().ok();
        (self.groups.iter().filter_map(path).collect(), self.trees.iter().filter_map(path).collect())
    }
}

/// Adds the people of one provider. Returns what a reader has to know of it.
async fn read(
    provider: &ProviderSettings,
    named: &Named,
    population: &mut Population,
) -> Result<Option<String>, String> {
    let (groups, trees) = named.at(provider);
    if groups.is_empty() {
        return Ok(None);
    }
    let Some(settings) = &provider.api else {
        return Ok(Some(format!("{}: left out, since it has no `membership.api`: {}", provider.name, list(&groups))));
    };
    let api = Api::new(&settings.url);
    api.configure(&settings.token);
    let mut reading = Reading { api: &api, provider, population, missing: BTreeSet::new() };
    for group in &groups {
        reading.group(group).await?;
    }
    for tree in &trees {
        reading.below(tree).await?;
    }
    let missing = reading.missing;
    let note = format!("{}: {}", provider.name, list(&groups));
    if missing.is_empty() {
        return Ok(Some(note));
    }
    Ok(Some(format!("{note}; not there, or hidden from the token: {}", list(&missing))))
}

fn list(paths: &BTreeSet<GroupPath>) -> String {
    paths.iter().map(GroupPath::as_str).collect::<Vec<_>>().join(", ")
}

struct Reading<'a> {
    api: &'a Api,
    provider: &'a ProviderSettings,
    population: &'a mut Population,
    missing: BTreeSet<GroupPath>,
}

impl Reading<'_> {
    /// A group that policies name: its members' roles.
    async fn group(&mut self, group: &GroupPath) -> Result<(), String> {
        for (member, login) in self.members(group).await? {
            let Some(role) = member.role else { continue };
            self.one(member.id, login).roles.insert(group.clone(), role);
        }
        Ok(())
    }

    /// The groups below one that policies name as a namespace: for each person one of them is enough.
    async fn below(&mut self, tree: &GroupPath) -> Result<(), String> {
        let below = self.api.below(tree).await;
        let mut below = self.found(tree, below)?;
        below.sort_by_key(|path| path.lineage().count());
        for group in below {
            for (member, login) in self.members(&group).await? {
                let is_new = |one: &mut Resident| !one.is_below(tree);
                if member.role.is_some() && is_new(self.one(member.id, login.clone())) {
                    self.one(member.id, login).groups.insert(group.clone());
                }
            }
        }
        Ok(())
    }

    async fn members(&mut self, group: &GroupPath) -> Result<Vec<(crate::gitlab::Member, String)>, String> {
        let members = self.api.people(group, SystemTime::now()).await;
        self.found(group, members)
    }

    /// A list, which is empty where there is no such group.
    fn found<T>(&mut self, group: &GroupPath, answer: Result<Vec<T>, ApiError>) -> Result<Vec<T>, String> {
        match answer {
            Ok(list) => Ok(list),
            Err(ApiError::Missing) => {
                self.missing.insert(group.clone());
                Ok(Vec::new())
            }
            Err(error) => Err(format!("provider `{}`, group `{}`: {error}", self.provider.name, group.as_str())),
        }
    }

    fn one(&mut self, number: u64, login: String) -> &mut Resident {
        let id = UserId { provider: self.provider.name.clone(), subject: number.to_string().into() };
        let one = self.population.entry(id).or_default();
        one.login = login;
        one
    }
}
