//! `vestibule run`: start, serve, stop.

use crate::{
    admin::{self, Admin},
    audit::{Audit, Event},
    config::{self, Settings},
    control::{Control, Issuers, Parts, Providers},
    cookie::Cookies,
    forward::{self, assertion::AssertionKeys, streams::Streams},
    gateway::{Shared, Snapshot},
    inspect::Bodies,
    listener::{self, Hall, Phase, connection, door::Doors, operations},
    login::Login,
    membership::Memberships,
    metrics::Metrics,
    refusal::Reason,
    reload::{self, Reloader},
    session::{KeyRing, Store},
    vigil,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use sd_notify::NotifyState;
use std::{
    collections::HashMap,
    io::IsTerminal,
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    runtime::{Handle, Runtime},
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};
use tracing::Level;
use tracing_subscriber::{EnvFilter, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt};

/// How long requests in hand may take after the listeners closed.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// How long streams that were cut may take to say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long sinks may take for what is in the journal by then.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// Told once everything listens.
pub type Ready = Box<dyn FnOnce(&Settings) + Send>;

/// Serves the configuration in `file` until SIGTERM or SIGINT; calls `ready` once everything listens. Whoever is ready for that
/// made the configuration, and tells people what there is to know: nothing odd about it is logged.
///
/// # Errors
/// One or more lines that say what is wrong and what to do.
pub fn run(file: &Path, ready: Option<Ready>) -> Result<(), String> {
    serve(file, ready, &|settings| Audit::open(&settings.state.join("journal"), &settings.keys, &settings.audit))
}

/// Serves as [`run`] does and records nothing: what recording costs is measured against this. No command leads to it.
///
/// # Errors
/// As [`run`].
#[doc(hidden)]
pub fn run_unrecorded(file: &Path) -> Result<(), String> {
    serve(file, None, &|_| Ok(Audit::of_nothing()))
}

fn serve(file: &Path, ready: Option<Ready>, audit: &dyn Fn(&Settings) -> Result<Audit, String>) -> Result<(), String> {
    log_to_stderr();
    let settings = Arc::new(config::load(file).map_err(|errors| errors.to_string())?);
    for warning in settings.warnings.iter().filter(|_| ready.is_none()) {
        tracing::warn!("{warning}");
    }
    let open_files = allow_open_files();
    let (doors, opened) = Doors::open(&settings)?;
    let runtime = control_plane()?;
    let taken = reload::digest(&settings);
    let hall = Building::new(&settings, audit)?.build(runtime.handle(), &settings)?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let hall = Hall { phase: watched, ..hall };
    let asked = Arc::new(Notify::new());
    reload::count(&hall.shared.snapshot.load(), &hall.metrics);
    if ready.is_none() {
        reload::tell(&hall.shared.snapshot.load());
        warn_of_few_files(&settings, open_files);
    }
    start_tasks(&runtime, &hall, &settings, Watching { asked: asked.clone(), taken, doors: Arc::new(doors) })?;
    let threads = listener::start(&hall, opened).map_err(|error| format!("cannot start serving: {error}"))?;
    let digest = hall.shared.snapshot.load().authorize.digest().to_string();
    hall.audit.record(Event::Started { digest }, SystemTime::now());
    match ready {
        Some(ready) => ready(&settings),
        None => announce(&settings),
    }
    tell_systemd(&[NotifyState::Ready]);
    let hurry = runtime.block_on(told_to_hurry(asked));
    let drain = if hurry { Duration::ZERO } else { hall.shared.snapshot.load().settings.drain };
    stop(&runtime, &hall, &phase, drain, &threads);
    Ok(())
}

/// Every connection is an open file, and one upstream of it another: takes as many as the system lets us have.
fn allow_open_files() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or(0)
}

fn warn_of_few_files(settings: &Settings, open_files: u64) {
    let wanted = 2 * settings.limits.connections as u64;
    if open_files < wanted {
        tracing::warn!(
            open_files,
            "this process may open fewer files than `limits.connections` needs ({wanted}): raise `ulimit -n`"
        );
    }
}

/// Tells systemd how far we are (`sd_notify`); nothing where nobody listens for it.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd cannot be told how far we are");
    }
}

/// Logs go to standard error: lines for a person at a terminal, JSON otherwise. `VESTIBULE_LOG` filters them. Whatever it asks
/// for, libraries say no more than at `info`: below that they follow frames and handshakes of connections, and nobody here can
/// vouch for what the next version of one prints of them.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("VESTIBULE_LOG").unwrap_or_else(|_| EnvFilter::new("info,hyper_util=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let quiet = filter_fn(|about| may_tell(about.target(), *about.level()));
    let _ = if std::io::stderr().is_terminal() {
        builder.with_target(false).compact().finish().with(quiet).try_init()
    } else {
        builder.json().flatten_event(true).finish().with(quiet).try_init()
    };
}

/// Whether a log line of this place in the code can have no secret in it that nobody looked at.
fn may_tell(target: &str, level: Level) -> bool {
    let ours =
        target.strip_prefix(env!("CARGO_PKG_NAME")).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    ours || level <= Level::INFO
}

fn control_plane() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control plane: {error}"))
}

/// What is opened before anything serves.
struct Building {
    ring: KeyRing,
    store: Store,
    audit: Audit,
    keys: Arc<AssertionKeys>,
    snapshot: Snapshot,
}

impl Building {
    fn new(settings: &Arc<Settings>, audit: &dyn Fn(&Settings) -> Result<Audit, String>) -> Result<Self, String> {
        let snapshot = reload::snapshot(settings.clone(), &[], &Issuers::new()).map_err(|mistakes| mistakes.whole)?;
        std::fs::create_dir_all(&settings.state).map_err(|error| {
            let advice = crate::text::advice(error.kind(), "state");
            format!("cannot make the directory `{}`: {error}: {advice}", settings.state.display())
        })?;
        let ring = KeyRing::open(&settings.keys).map_err(|error| error.told())?;
        let keys = AssertionKeys::load(&settings.keys.join("assertion"), SystemTime::now())?;
        let store = Store::embedded(&settings.state).map_err(|error| crate::text::chain(&error))?;
        let audit = audit(settings)?;
        Ok(Self { ring, store, audit, keys: Arc::new(keys), snapshot })
    }

    fn build(self, handle: &Handle, settings: &Settings) -> Result<Hall, String> {
        let streams = Arc::<Streams>::default();
        let control = Control::new(Parts {
            handle: handle.clone(),
            ring: self.ring,
            store: self.store,
            limits: settings.sessions.clone(),
            streams: streams.clone(),
            audit: self.audit.clone(),
        });
        let membership = Memberships::new(control.clone(), self.audit.clone());
        membership.configure(settings, &self.snapshot.authorize.groups(), &self.snapshot.shadow_groups());
        let cookies = Cookies::of(settings);
        let forward = forward::Shared {
            streams,
            keys: self.keys.clone(),
            issuer: settings.public_url.origin().ascii_serialization().into(),
            cookies: [cookies.session.clone(), cookies.binding.clone()],
            open: connection::open,
            connections: forward::Connections::default(),
        };
        let login = Login {
            control: control.clone(),
            membership: membership.clone(),
            audit: self.audit.clone(),
            assertion_keys: self.keys,
            strangers: Default::default(),
            pushed: Arc::default(),
        };
        let metrics = Arc::<Metrics>::default();
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(self.snapshot),
            last_reload: ArcSwapOption::empty(),
            control,
            membership,
            bodies: Bodies::default(),
            audit: self.audit.clone(),
            metrics: metrics.clone(),
            login,
        };
        let (_, phase) = watch::channel(Phase::Serving);
        Ok(Hall {
            shared: Arc::new(shared),
            forward: Arc::new(forward),
            audit: self.audit,
            metrics,
            limiter: Arc::default(),
            phase,
        })
    }
}

/// What the task that looks for changes starts from.
struct Watching {
    asked: Arc<Notify>,
    taken: [u8; 32],
    doors: Arc<Doors>,
}

/// How often everybody is forgotten who asks a route with limits for nothing any more.
const SWEEP_LIMITS: Duration = Duration::from_secs(2);

/// How often it is looked whether other keys are there: all processes that share them take a new one up well within its
/// notice.
const LOOK_AT_KEYS: Duration = Duration::from_secs(2);

/// Everything that runs beside the requests.
fn start_tasks(runtime: &Runtime, hall: &Hall, settings: &Arc<Settings>, watching: Watching) -> Result<(), String> {
    let _inside = runtime.enter();
    let mut discovery = HashMap::new();
    let providers = reload::providers(settings, &Providers::new(), &mut discovery);
    hall.shared.control.configure(providers, settings.sessions.clone());
    let mut key_tasks = reload::KeyTasks::new();
    reload::keep_keys(&hall.shared.snapshot.load().issuers, &mut key_tasks);
    let (shared, control, follower) = (hall.shared.clone(), hall.shared.control.clone(), hall.shared.control.clone());
    runtime.block_on(control.recover()).map_err(|error| format!("cannot read what has ended: {error}"))?;
    forever("vigil", move || vigil::watch(shared.clone()));
    forever("sweep", move || control.clone().sweep());
    forever("revocations", move || follower.clone().follow_log());
    let limited = hall.shared.clone();
    forever("limits", move || {
        let shared = limited.clone();
        async move {
            loop {
                tokio::time::sleep(SWEEP_LIMITS).await;
                let state = shared.snapshot.load_full();
                state.routes.all().iter().for_each(|route| route.limits.sweep(Instant::now()));
            }
        }
    });
    let admin = Arc::new(Admin {
        shared: hall.shared.clone(),
        assertion: hall.shared.login.assertion_keys.clone(),
        audit: hall.audit.clone(),
        keys: settings.keys.clone(),
        since: SystemTime::now(),
        refused: Default::default(),
    });
    let socket = admin::open(&settings.state).map_err(|error| {
        let (path, advice) = (settings.state.join(admin::SOCKET), crate::text::advice(error.kind(), "state"));
        format!("cannot open `{}`: {error}: {advice}", path.display())
    })?;
    let socket = Arc::new(socket);
    let keys = admin.clone();
    forever("operators", move || admin.clone().serve(socket.clone()));
    forever("keys", move || {
        let keys = keys.clone();
        async move {
            loop {
                tokio::time::sleep(LOOK_AT_KEYS).await;
                keys.refresh(admin::Kind::Ring);
                keys.refresh(admin::Kind::Assertion);
            }
        }
    });
    hall.audit.shippers().configure(&settings.sinks);
    let mut upkeep = forward::Upkeep::default();
    upkeep.follow(hall.shared.snapshot.load().routes.all());
    let reloader = Reloader {
        shared: hall.shared.clone(),
        audit: hall.audit.clone(),
        metrics: hall.metrics.clone(),
        discovery,
        key_tasks,
        upkeep,
        asked: watching.asked,
        pushed: hall.shared.login.pushed.clone(),
        closely: None,
        both_since: None,
        started: settings.clone(),
        taken: watching.taken,
        doors: watching.doors,
        refused: None,
    };
    let reloader = Arc::new(tokio::sync::Mutex::new(reloader));
    forever("reload", move || {
        let reloader = reloader.clone();
        async move { reloader.lock().await.watch().await }
    });
    if let Some(interval) = sd_notify::watchdog_enabled() {
        forever("watchdog", move || async move {
            loop {
                tell_systemd(&[NotifyState::Watchdog]);
                tokio::time::sleep(interval / 3).await;
            }
        });
    }
    if let Some(address) = settings.operations {
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(address))
            .map_err(|error| format!("cannot listen on {address} for operations: {error}"))?;
        runtime.spawn(operations::serve(listener, hall.clone()));
    }
    Ok(())
}

/// Starts what never ends. Should it panic, it begins anew, loudly: without the vigil no stream would end with its right.
fn forever<F: Future<Output = ()> + Send + 'static>(name: &'static str, work: impl Fn() -> F + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let Err(error) = tokio::spawn(work()).await else { return };
            tracing::error!(task = name, %error, "a task ended and begins anew");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

fn announce(settings: &Settings) {
    for listen in &settings.listen {
        tracing::info!(address = %listen.at, tls = listen.tls.is_some(), public_url = %settings.public_url, "listening");
    }
}

/// Waits for SIGTERM or SIGINT; SIGHUP asks for a reload. True for SIGINT: somebody at a terminal waits for the end.
async fn told_to_hurry(asked: Arc<Notify>) -> bool {
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
    else {
        tracing::error!("signals cannot be waited for");
        return true;
    };
    loop {
        tokio::select! {
            _ = terminate.recv() => return false,
            _ = interrupt.recv() => return true,
            _ = hangup.recv() => asked.notify_one(),
        }
    }
}

/// Readiness fails, and the doors stay open for the drain, while connections are asked to go elsewhere. Then the doors close
/// when their queues are empty, requests in hand are finished, and streams that still go on by then are cut.
fn stop(runtime: &Runtime, hall: &Hall, phase: &watch::Sender<Phase>, drain: Duration, threads: &[JoinHandle<()>]) {
    tracing::info!(?drain, "stopping");
    tell_systemd(&[NotifyState::Stopping]);
    let _ = phase.send(Phase::Draining);
    std::thread::sleep(drain);
    let _ = phase.send(Phase::Closing);
    let running = || threads.iter().any(|thread| !thread.is_finished());
    wait_while(running, LAST_REQUESTS);
    if running() {
        tracing::info!(streams = hall.forward.streams.len(), "streams are cut");
        hall.forward.streams.cut_all(Reason::ShuttingDown);
        wait_while(running, LAST_WORDS);
    }
    let _ = phase.send(Phase::Over);
    wait_while(running, LAST_WORDS);
    runtime.block_on(hall.shared.control.finish(LAST_REQUESTS));
    hall.audit.record(Event::Stopped, SystemTime::now());
    hall.audit.close();
    runtime.block_on(hall.audit.shippers().finish(LAST_RECORDS));
    tracing::info!("stopped");
}

fn wait_while(condition: impl Fn() -> bool, limit: Duration) {
    let start = Instant::now();
    while condition() && start.elapsed() < limit {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// S-83: a panic ends no task that the gateway rests on.
    #[tokio::test]
    async fn s83_a_task_that_panics_begins_anew() {
        let (begun, again) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let (count, told) = (begun.clone(), again.clone());
        forever("test", move || {
            let (count, told) = (count.clone(), told.clone());
            async move {
                assert!(count.fetch_add(1, Ordering::Relaxed) > 0, "the first time it fails");
                told.notify_one();
            }
        });
        again.notified().await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    /// Libraries are quiet about connections, whatever is asked for; we are not, and names that begin like ours are not ours.
    #[test]
    fn libraries_tell_no_more_than_at_info() {
        for (target, level, expected) in [
            ("vestibule", Level::TRACE, true),
            ("vestibule::oidc::keys", Level::TRACE, true),
            ("vestibule_spy", Level::DEBUG, false),
            ("hyper::proto::h1::io", Level::TRACE, false),
            ("h2::codec::framed_write", Level::DEBUG, false),
            ("rustls::client", Level::INFO, true),
            ("log", Level::TRACE, false),
        ] {
            assert_eq!(may_tell(target, level), expected, "{target} {level}");
        }
    }
}
