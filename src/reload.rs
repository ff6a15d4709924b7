//! Takes a changed configuration or policy set, whole or not at all.

use crate::{
    audit::{Audit, Event},
    authorize::{Authorize, mistakes, sources},
    config::{self, ProviderSettings, Settings, TokenIssuerSettings},
    control::{Issuers, Providers},
    cookie::Cookies,
    forward::Upkeep,
    gateway::{LastReload, Shared, Snapshot},
    listener::door::Doors,
    metrics::Metrics,
    oidc::{Issuer, Provider},
    principal::Name,
    route::{Route, Routes},
    text::{Mistakes, sha256},
};
use secrecy::ExposeSecret;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::Notify, task::JoinHandle};

/// How often the files are looked at. Reading what a directory says of itself works everywhere, where notifications do
/// not: on network file systems and under the symbolic links that Kubernetes swaps.
const LOOK: Duration = Duration::from_millis(500);

/// A changed file is taken when it has not changed for this long.
const SETTLED: Duration = Duration::from_secs(1);
/// Past this time they are taken as they are.
const UNSETTLED: Duration = Duration::from_secs(5);

/// Requests that began before a reload are decided by then: a body may take 10 s, a read of groups 2.
const DECIDING: Duration = Duration::from_secs(20);

/// How often it is looked whether a refused configuration has become well.
const AGAIN: Duration = Duration::from_secs(5);

/// After a push, contents are compared for so long, whatever the file system says of the files: who pulls them may take a while,
/// and may keep the times and lengths of before.
const CLOSELY: Duration = Duration::from_secs(60);

/// Loads new generations while the old ones serve.
pub struct Reloader {
    /// What serves.
    pub shared: Arc<Shared>,
    /// Where reloads are recorded.
    pub audit: Audit,
    /// Where reloads are counted.
    pub metrics: Arc<Metrics>,
    /// The discovery tasks of the providers in force.
    pub discovery: HashMap<Name, JoinHandle<()>>,
    /// The tasks that read the keys of the token issuers in force.
    pub key_tasks: KeyTasks,
    /// What looks after the upstreams in force.
    pub upkeep: Upkeep,
    /// Asks for a reload whatever the files say.
    pub asked: Arc<Notify>,
    /// Told of every push to a repository, which may be the one of the policies.
    pub pushed: Arc<Notify>,
    /// When the last push was told, if there was one lately.
    pub closely: Option<Instant>,
    /// Since when the groups are read that this generation names, and those of the one before.
    pub both_since: Option<Instant>,
    /// The configuration that this process was started with.
    pub started: Arc<Settings>,
    /// What the generation in force was made of; see [`digest`].
    pub taken: [u8; 32],
    /// The places where we listen.
    pub doors: Arc<Doors>,
    /// When a changed configuration was refused, if the last one was.
    pub refused: Option<Instant>,
}

/// Makes the snapshot of a configuration. Upstreams that are as `before` keep their state: connections, health, ejections.
///
/// # Errors
/// Every mistake in the policies, each with its line.
pub fn snapshot(settings: Arc<Settings>, before: &[Arc<Route>], kept: &Issuers) -> Result<Snapshot, Mistakes> {
    let (routes, providers, vouch) = (&settings.routes, &settings.providers, &settings.token_issuers);
    let authorize =
        Authorize::load(settings.policies.as_deref(), routes, providers, vouch).map_err(|errors| mistakes(&errors))?;
    let shadow = settings.shadow_policies.as_deref().map(|directory| {
        Authorize::load(Some(directory), routes, providers, vouch).map_err(|errors| mistakes(&errors))
    });
    let cookies = Cookies::of(&settings);
    let public = settings.public_url.host_str().unwrap_or_default();
    let public = public.parse().map_err(|error| format!("public_url: {error}"))?;
    let routes = state_kept(&settings.routes, before);
    let names = settings.providers.iter().map(|provider| provider.name.clone()).collect();
    Ok(Snapshot {
        rules: Snapshot::rules(&settings, &cookies),
        cookies,
        routes: Routes::new(public, routes, names),
        authorize,
        shadow,
        hsts: Snapshot::hsts(&settings),
        issuers: issuers(&settings, kept),
        settings,
    })
}

/// Says in the metrics which sets of policies there are.
pub fn count(snapshot: &Snapshot, metrics: &Metrics) {
    let shadow = snapshot.shadow.iter().flatten().map(|set| ("shadow", set));
    let sets = std::iter::once(("live", &snapshot.authorize)).chain(shadow);
    metrics.policies(sets.map(|(name, set)| (name, set.digest().to_string(), set.ids().len())));
}

/// Tells the operator what is odd about the policies, and why the shadow policies are not asked, if they are not.
pub fn tell(snapshot: &Snapshot) {
    let (live, settings) = (&snapshot.authorize, &snapshot.settings);
    for error in live.overruled() {
        tracing::error!("{error}");
    }
    for warning in live.warnings(&settings.routes, &settings.token_issuers) {
        tracing::warn!("{warning}");
    }
    if let Some(Err(error)) = &snapshot.shadow {
        tracing::error!("the shadow policies are not asked, the others are in force:\n{}", error.whole);
    }
}

/// The routes as requests meet them. Those with the same upstream share its state, with each other and with `before`; those with
/// the same name go on counting where their limits stood.
fn state_kept(routes: &[Route], before: &[Arc<Route>]) -> Vec<Arc<Route>> {
    let mut kept: Vec<Arc<Route>> = Vec::with_capacity(routes.len());
    for route in routes {
        let same = |there: &&Arc<Route>| there.upstream.settings == route.upstream.settings;
        let there = before.iter().chain(&kept).find(same).map(|there| there.upstream.clone());
        let upstream = there.unwrap_or_else(|| route.upstream.clone());
        let limits = match before.iter().find(|there| there.name == route.name) {
            Some(there) => route.limits.clone().after(&there.limits),
            None => route.limits.clone(),
        };
        kept.push(Arc::new(Route { upstream, limits, ..route.clone() }));
    }
    kept
}

/// Makes the providers of a configuration, keeping those of `before` that did not change, and starts discovery for the
/// others. Must be called on the control plane.
pub fn providers(settings: &Settings, before: &Providers, discovery: &mut HashMap<Name, JoinHandle<()>>) -> Providers {
    let mut now = Providers::new();
    for wanted in &settings.providers {
        let kept = before.get(&wanted.name).filter(|there| same(&there.settings, wanted)).cloned();
        let provider = kept.unwrap_or_else(|| {
            let provider = Provider::new(wanted.clone(), &settings.state.join("providers"));
            let task = tokio::spawn(provider.clone().keep_fresh());
            if let Some(old) = discovery.insert(wanted.name.clone(), task) {
                old.abort();
            }
            provider
        });
        now.insert(wanted.name.clone(), provider);
    }
    discovery.retain(|name, task| {
        let stays = now.contains_key(name);
        if !stays {
            task.abort();
        }
        stays
    });
    now
}

/// The token issuers of a configuration, with those of `before` that did not change.
fn issuers(settings: &Settings, before: &Issuers) -> Issuers {
    let each = settings.token_issuers.iter().map(|wanted| {
        let kept = before.get(&wanted.name).filter(|there| same_issuer(&there.settings, wanted)).cloned();
        let issuer = kept.unwrap_or_else(|| Issuer::new(wanted.clone(), &settings.state.join("token_issuers")));
        (wanted.name.clone(), issuer)
    });
    each.collect()
}

/// Reads the keys of these issuers from now on, and those of no others. Must be called on the control plane.
pub fn keep_keys(issuers: &Issuers, tasks: &mut KeyTasks) {
    tasks.retain(|name, (of, task)| {
        let stays = issuers.get(name).is_some_and(|now| Arc::ptr_eq(now, of));
        if !stays {
            task.abort();
        }
        stays
    });
    for (name, issuer) in issuers {
        let start = || (issuer.clone(), tokio::spawn(issuer.clone().keep_fresh()));
        tasks.entry(name.clone()).or_insert_with(start);
    }
}

/// The tasks that read the keys of token issuers.
pub type KeyTasks = HashMap<Name, (Arc<Issuer>, JoinHandle<()>)>;

impl Reloader {
    /// Watches the files and reloads when they settle, or when asked. Never returns.
    pub async fn watch(&mut self) {
        let mut seen = Vec::new();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = self.asked.notified() => true,
                () = self.pushed.notified() => {
                    self.closely = Some(Instant::now());
                    false
                }
            };
            self.closely = self.closely.filter(|since| since.elapsed() < CLOSELY);
            if self.both_since.take_if(|since| since.elapsed() >= DECIDING).is_some() {
                let state = self.shared.snapshot.load_full();
                let (named, shadow) = (state.authorize.groups(), state.shadow_groups());
                self.shared.membership.configure(&state.settings, &named, &shadow);
            }
            let look = self.fingerprint();
            if !asked && self.closely.is_none() && look == seen && !self.is_mended() {
                continue;
            }
            seen = look;
            let digest = self.settled().await;
            if asked || digest != self.taken || self.is_mended() {
                self.taken = digest;
                self.reload();
                seen = self.fingerprint();
            }
        }
    }

    /// True if the configuration that was refused last can be read now: a file that it names may have come, which nobody
    /// looked for before. Asked a few times a minute.
    fn is_mended(&mut self) -> bool {
        let Some(since) = self.refused.filter(|since| since.elapsed() >= AGAIN) else { return false };
        let mended = config::load(&self.shared.snapshot.load().settings.file).is_ok();
        self.refused = Some(if mended { since } else { Instant::now() });
        mended
    }

    /// Waits until the files' contents stay the same for a while, but not for ever: a file that is written all the time keeps no
    /// other one from being taken.
    async fn settled(&self) -> [u8; 32] {
        let (mut digest, begun) = (self.digest(), Instant::now());
        loop {
            tokio::time::sleep(SETTLED).await;
            let again = self.digest();
            if again == digest || begun.elapsed() >= UNSETTLED {
                return again;
            }
            digest = again;
        }
    }

    /// Loads everything anew. A mistake leaves the old generation serving, loudly.
    fn reload(&mut self) {
        let before = self.shared.snapshot.load_full();
        let loaded = config::load(&before.settings.file)
            .map_err(|errors| errors.mistakes())
            .and_then(|settings| same_place(&before.settings, settings).map_err(Mistakes::from))
            .and_then(|settings| snapshot(Arc::new(settings), before.routes.all(), &before.issuers))
            .and_then(|next| self.doors.change(&next.settings).map(|()| next).map_err(Mistakes::from));
        match loaded {
            Ok(next) => self.take(&before, next),
            Err(error) => self.refuse(&before, error),
        }
    }

    fn take(&mut self, before: &Snapshot, next: Snapshot) {
        self.refused = None;
        for key in needs_restart(&self.started, &next.settings) {
            tracing::warn!(key, "this key changed and takes effect at the next start");
        }
        let (added, removed) = differences(&before.authorize.ids(), &next.authorize.ids());
        let mut changed = Vec::from_iter(config::changes(&before.settings, &next.settings));
        changed.extend(changed_policies(&before.authorize.texts(), &next.authorize.texts()));
        let digest = next.authorize.digest().to_string();
        let control = &self.shared.control;
        let old = control.providers();
        keep_keys(&next.issuers, &mut self.key_tasks);
        let new = providers(&next.settings, &old, &mut self.discovery);
        let stays = |(name, there): (&Name, &Arc<Provider>)| new.get(name).is_some_and(|now| Arc::ptr_eq(now, there));
        let all_stay = old.iter().all(stays);
        control.configure(new, next.settings.sessions.clone());
        if !all_stay {
            self.shared.membership.forget();
        }
        self.upkeep.follow(next.routes.all());
        let (settings, groups, shadow) = (next.settings.clone(), next.authorize.groups(), next.shadow_groups());
        let both = &groups | &before.authorize.groups(); // which decide for a while
        self.shared.membership.configure(&settings, &both, &shadow);
        self.audit.shippers().configure(&next.settings.sinks);
        tell(&next);
        count(&next, &self.metrics);
        self.shadow_changed(before, &next);
        self.shared.snapshot.store(Arc::new(next));
        self.both_since = Some(Instant::now());
        self.metrics.reloaded(true);
        self.happened(None);
        tracing::info!(%digest, ?changed, ?added, ?removed, "configuration and policies reloaded");
        let event = Event::Reloaded { what: "configuration", digest, changed, added, removed, error: None };
        self.audit.record(event, SystemTime::now());
    }

    /// Records that the shadow policies are others now, or cannot be asked.
    fn shadow_changed(&self, before: &Snapshot, next: &Snapshot) {
        let about = |snapshot: &Snapshot| match &snapshot.shadow {
            Some(Ok(policies)) => (policies.digest().to_string(), None),
            Some(Err(error)) => (String::new(), Some(error.line.clone())),
            None => Default::default(),
        };
        let (old, new) = (about(before), about(next));
        if old != new {
            let ids = |snapshot: &Snapshot| -> BTreeSet<Arc<str>> {
                snapshot.shadow.iter().flatten().flat_map(Authorize::ids).collect()
            };
            let (old_ids, (digest, error)) = (ids(before), new);
            let (added, removed) = differences(&old_ids, &ids(next));
            let event = Event::Reloaded { what: "shadow_policies", digest, changed: Vec::new(), added, removed, error };
            self.audit.record(event, SystemTime::now());
        }
    }

    fn refuse(&mut self, before: &Snapshot, Mistakes { whole, line }: Mistakes) {
        self.refused = Some(Instant::now());
        self.metrics.reloaded(false);
        tracing::error!("a changed configuration is not taken, the old one stays in force:\n{whole}");
        self.happened(Some(whole));
        let digest = before.authorize.digest().to_string();
        let event = Event::Reloaded {
            what: "configuration",
            digest,
            changed: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            error: Some(line.chars().take(2000).collect()),
        };
        self.audit.record(event, SystemTime::now());
    }

    fn happened(&self, refused: Option<String>) {
        self.shared.last_reload.store(Some(Arc::new(LastReload { at: SystemTime::now(), refused })));
    }

    fn files(&self) -> Vec<PathBuf> {
        let settings = &self.shared.snapshot.load().settings;
        let mut files = policies(settings);
        files.push(settings.file.clone());
        files.extend(settings.files.iter().cloned());
        files
    }

    /// What the file system says about the files, without reading them.
    fn fingerprint(&self) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
        let about = |path: &Path| fs::metadata(path).and_then(|about| Ok((about.modified()?, about.len()))).ok();
        self.files().into_iter().map(|path| (path.clone(), about(&path))).collect()
    }

    fn digest(&self) -> [u8; 32] {
        let settings = &self.shared.snapshot.load().settings;
        let file = sha256(&contents(&settings.file));
        all(&crate::text::hex(&file), settings)
    }
}

/// What a generation is made of: the configuration as it was read, and the policies as they are now. Taken before the
/// policies are loaded, so that a change while they are is seen afterwards.
pub fn digest(settings: &Settings) -> [u8; 32] {
    all(&settings.digest, settings)
}

fn all(configuration: &str, settings: &Settings) -> [u8; 32] {
    let mut all = configuration.as_bytes().to_vec();
    for path in policies(settings).iter().chain(&settings.files) {
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        all.extend_from_slice(&sha256(&contents(path)));
    }
    sha256(&all)
}

/// What a file holds; nothing of what is none, such as a named pipe, at which nobody may ever write.
fn contents(path: &Path) -> Vec<u8> {
    let is_file = fs::metadata(path).is_ok_and(|about| about.is_file());
    is_file.then(|| fs::read(path).ok()).flatten().unwrap_or_default()
}

/// The files of the policies, in order.
fn policies(settings: &Settings) -> Vec<PathBuf> {
    let directories = settings.policies.iter().chain(&settings.shadow_policies);
    let mut files: Vec<_> = directories.flat_map(|directory| sources::paths(directory, &mut Vec::new())).collect();
    files.sort(); // what cannot be listed is an error when it is loaded
    files
}

/// The ids that are new, and those that are gone.
fn differences(before: &BTreeSet<Arc<str>>, next: &BTreeSet<Arc<str>>) -> (Vec<String>, Vec<String>) {
    let only =
        |of: &BTreeSet<Arc<str>>, not: &BTreeSet<Arc<str>>| of.difference(not).map(|id| id.to_string()).collect();
    (only(next, before), only(before, next))
}

/// The policies that say something else under the same `@id`, as keys of the configuration are named.
fn changed_policies<'a>(
    before: &'a BTreeMap<Arc<str>, String>,
    next: &'a BTreeMap<Arc<str>, String>,
) -> impl Iterator<Item = String> + 'a {
    let differs = |(id, text): &(&Arc<str>, &String)| before.get(*id).is_some_and(|there| there != *text);
    next.iter().filter(differs).map(|(id, _)| format!("policies[{id}]"))
}

fn same(a: &ProviderSettings, b: &ProviderSettings) -> bool {
    let secrets = |settings: &ProviderSettings| -> Vec<[u8; 32]> {
        settings.secrets().iter().map(|(_, secret)| sha256(secret.expose_secret().as_bytes())).collect()
    };
    secrets(a) == secrets(b) && format!("{a:?}") == format!("{b:?}")
}

/// Settings of an issuer are compared with their secret.
fn same_issuer(a: &TokenIssuerSettings, b: &TokenIssuerSettings) -> bool {
    let secret = |settings: &TokenIssuerSettings| settings.secret().map(|it| sha256(it.expose_secret().as_bytes()));
    secret(a) == secret(b) && format!("{a:?}") == format!("{b:?}")
}

/// What people see decides whom we serve, which cookies are ours and what assertions say; half of that is fixed at start.
fn same_place(before: &Settings, next: Settings) -> Result<Settings, String> {
    if before.public_url == next.public_url {
        return Ok(next);
    }
    let [from, to] = [before, &next].map(|settings| settings.public_url.origin().ascii_serialization());
    Err(format!("`public_url` changed from `{from}` to `{to}`: restart for that, or change it back"))
}

fn needs_restart(before: &Settings, next: &Settings) -> Vec<&'static str> {
    let mut keys = Vec::new();
    let mut changed = |differs: bool, key| keys.extend(differs.then_some(key));
    changed(before.operations != next.operations, "operations");
    changed(before.state != next.state, "state");
    changed(before.keys != next.keys, "keys");
    changed(before.workers != next.workers, "workers");
    changed(before.audit != next.audit, "audit");
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fairness::{Limit, Limits, Whom},
        upstream::{Resolver, Upstream, UpstreamSettings},
    };

    fn route(name: &str, upstream: UpstreamSettings) -> Route {
        Route { upstream: Upstream::new(upstream, Resolver::System), ..crate::route::testing::route(name) }
    }

    /// What is known of an upstream outlives a reload that does not change it, and is shared by its routes.
    #[test]
    fn an_upstream_that_did_not_change_is_kept() {
        let (a, b) = (UpstreamSettings::plain("127.0.0.1:1"), UpstreamSettings::plain("127.0.0.1:2"));
        let first = state_kept(&[route("one", a.clone()), route("two", a.clone()), route("three", b.clone())], &[]);
        let [one, two, three] = first.as_slice() else { panic!("three routes") };
        assert!(Arc::ptr_eq(&one.upstream, &two.upstream) && !Arc::ptr_eq(&one.upstream, &three.upstream));
        let changed = UpstreamSettings { retries: 0, ..b };
        let second = state_kept(&[route("three", changed), route("four", a)], &first);
        assert!(Arc::ptr_eq(&second[1].upstream, &one.upstream));
        assert!(!Arc::ptr_eq(&second[0].upstream, &three.upstream));
    }

    /// Whoever has used up a limit gains nothing by a reload that changes its numbers, or by another route with the same.
    #[test]
    fn a_limit_that_changes_goes_on_counting() {
        let now = Instant::now();
        let limited = |name: &str, concurrent| {
            let limit = Limit { rate: None, concurrent: Some(concurrent) };
            let limits = Limits::new([(Whom::Address, limit)], now);
            Route { limits, ..route(name, UpstreamSettings::plain("127.0.0.1:1")) }
        };
        let ask = |route: &Route| route.limits.address([192, 0, 2, 1].into(), || now);
        let first = state_kept(&[limited("one", 1), limited("two", 1)], &[]);
        let held = ask(&first[0]).ok();
        assert!(held.is_some() && ask(&first[0]).is_err());
        let second = state_kept(&[limited("new", 1), limited("two", 1), limited("one", 2)], &first);
        let more = ask(&second[2]);
        assert!(more.is_ok() && ask(&second[2]).is_err(), "one of the two is under way since before");
        assert!(ask(&second[0]).is_ok() && ask(&second[1]).is_ok());
    }
}
