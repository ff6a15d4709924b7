//! Takes a changed configuration or policy set, whole or not at all.

use crate::{
    audit::{Audit, Event},
    authorize::Authorize,
    config::{self, ProviderSettings, Settings},
    control::Providers,
    cookie::Cookies,
    gateway::{Shared, Snapshot},
    metrics::Metrics,
    oidc::Provider,
    principal::Name,
    route::Routes,
    session::sha256,
};
use secrecy::ExposeSecret;
use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, task::JoinHandle};

/// How often the files are looked at. Reading what a directory says of itself works everywhere, where notifications do
/// not: on network file systems and under the symbolic links that Kubernetes swaps.
const LOOK: Duration = Duration::from_millis(500);

/// A changed file is taken when it has not changed for this long.
const SETTLED: Duration = Duration::from_secs(1);

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
    /// Asks for a reload whatever the files say.
    pub asked: Arc<Notify>,
    /// The configuration that this process was started with.
    pub started: Arc<Settings>,
    /// What the generation in force was made of; see [`digest`].
    pub taken: [u8; 32],
}

/// Makes the snapshot of a configuration.
///
/// # Errors
/// Every mistake in the policies, a line each.
pub fn snapshot(settings: Arc<Settings>) -> Result<Snapshot, String> {
    let authorize = Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))?;
    let cookies = Cookies::of(&settings);
    let public = settings.public_url.host_str().unwrap_or_default();
    let public = public.parse().map_err(|error| format!("public_url: {error}"))?;
    let routes = settings.routes.iter().cloned().map(Arc::new).collect();
    let names = settings.providers.iter().map(|provider| provider.name.clone()).collect();
    Ok(Snapshot {
        rules: Snapshot::rules(&settings, &cookies),
        cookies,
        routes: Routes::new(public, routes, names),
        authorize,
        settings,
    })
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

impl Reloader {
    /// Watches the files and reloads when they settle, or when asked. Never returns.
    pub async fn watch(&mut self) {
        let mut seen = Vec::new();
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOK) => false,
                () = self.asked.notified() => true,
            };
            let look = self.fingerprint();
            if !asked && look == seen {
                continue;
            }
            seen = look;
            let digest = self.settled().await;
            if asked || digest != self.taken {
                self.taken = digest;
                self.reload();
                seen = self.fingerprint();
            }
        }
    }

    /// Waits until the files' contents stay the same for a while.
    async fn settled(&self) -> [u8; 32] {
        let mut digest = self.digest();
        loop {
            tokio::time::sleep(SETTLED).await;
            let again = self.digest();
            if again == digest {
                return digest;
            }
            digest = again;
        }
    }

    /// Loads everything anew. A mistake leaves the old generation serving, loudly.
    fn reload(&mut self) {
        let before = self.shared.snapshot.load_full();
        let loaded = config::load(&before.settings.file)
            .map_err(|errors| errors.to_string())
            .and_then(|settings| same_place(&before.settings, settings))
            .and_then(|settings| snapshot(Arc::new(settings)));
        match loaded {
            Ok(next) => self.take(&before, next),
            Err(error) => self.refuse(&before, error),
        }
    }

    fn take(&mut self, before: &Snapshot, next: Snapshot) {
        for key in needs_restart(&self.started, &next.settings) {
            tracing::warn!(key, "this key changed and takes effect at the next start");
        }
        let (old_ids, new_ids): (BTreeSet<_>, BTreeSet<_>) = (before.authorize.ids(), next.authorize.ids());
        let only = |of: &BTreeSet<Arc<str>>, not: &BTreeSet<Arc<str>>| {
            of.difference(not).map(|id| id.to_string()).collect::<Vec<_>>()
        };
        let (added, removed) = (only(&new_ids, &old_ids), only(&old_ids, &new_ids));
        let digest = next.authorize.digest().to_string();
        let control = &self.shared.control;
        let old = control.providers();
        let new = providers(&next.settings, &old, &mut self.discovery);
        let stays = |(name, there): (&Name, &Arc<Provider>)| new.get(name).is_some_and(|now| Arc::ptr_eq(now, there));
        let all_stay = old.iter().all(stays);
        control.configure(new, next.settings.sessions.clone());
        if !all_stay {
            self.shared.membership.forget();
        }
        self.shared.snapshot.store(Arc::new(next));
        self.metrics.reloaded(true);
        tracing::info!(%digest, ?added, ?removed, "configuration and policies reloaded");
        let event = Event::Reloaded { what: "configuration", digest, added, removed, error: None };
        self.audit.record(event, SystemTime::now());
    }

    fn refuse(&self, before: &Snapshot, error: String) {
        self.metrics.reloaded(false);
        tracing::error!("a changed configuration is not taken, the old one stays in force:\n{error}");
        let digest = before.authorize.digest().to_string();
        let event = Event::Reloaded {
            what: "configuration",
            digest,
            added: Vec::new(),
            removed: Vec::new(),
            error: Some(error.chars().take(2000).collect()),
        };
        self.audit.record(event, SystemTime::now());
    }

    fn files(&self) -> Vec<PathBuf> {
        let settings = &self.shared.snapshot.load().settings;
        let mut files = policies(settings);
        files.push(settings.file.clone());
        files
    }

    /// What the file system says about the files, without reading them.
    fn fingerprint(&self) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
        let about = |path: &Path| fs::metadata(path).and_then(|about| Ok((about.modified()?, about.len()))).ok();
        self.files().into_iter().map(|path| (path.clone(), about(&path))).collect()
    }

    fn digest(&self) -> [u8; 32] {
        let settings = &self.shared.snapshot.load().settings;
        let file = sha256(&fs::read(&settings.file).unwrap_or_default());
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
    for path in policies(settings) {
        all.extend_from_slice(path.as_os_str().as_encoded_bytes());
        all.extend_from_slice(&sha256(&fs::read(&path).unwrap_or_default()));
    }
    sha256(&all)
}

/// The files of the policies, in order.
fn policies(settings: &Settings) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if let Some(policies) = &settings.policies {
        let _ = collect(policies, &mut files); // what cannot be listed is an error when it is loaded
    }
    files.sort();
    files
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn same(a: &ProviderSettings, b: &ProviderSettings) -> bool {
    let secret = |settings: &ProviderSettings| sha256(settings.client_secret.expose_secret().as_bytes());
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
    let addresses = |settings: &Settings| settings.listen.iter().map(|listen| listen.address).collect::<Vec<_>>();
    let mut keys = Vec::new();
    let mut changed = |differs: bool, key| keys.extend(differs.then_some(key));
    changed(addresses(before) != addresses(next), "listen");
    changed(before.operations != next.operations, "operations");
    changed(before.state != next.state, "state");
    changed(before.keys != next.keys, "keys");
    changed(before.workers != next.workers, "workers");
    changed(before.audit != next.audit, "audit");
    keys
}
