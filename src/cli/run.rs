//! `vestibule run`: start, serve, stop.

use crate::{
    audit::{Audit, Event},
    config::{self, Settings},
    control::{Control, Parts, Providers},
    cookie::Cookies,
    forward::{self, assertion::AssertionKeys, streams::Streams, upgrade},
    gateway::{Shared, Snapshot},
    listener::{self, Hall, Phase, operations},
    login::Login,
    membership::Memberships,
    metrics::Metrics,
    reload::{self, Reloader},
    session::{KeyRing, Store},
    vigil,
};
use arc_swap::ArcSwap;
use std::{
    collections::HashMap,
    io::IsTerminal,
    net::{SocketAddr, TcpListener as StdListener},
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
use tracing_subscriber::EnvFilter;

/// How long requests in hand may take after the listeners closed.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Told once everything listens.
pub type Ready = Box<dyn FnOnce(&Settings) + Send>;

/// Serves the configuration in `file` until SIGTERM or SIGINT; calls `ready` once everything listens.
///
/// # Errors
/// One or more lines that say what is wrong and what to do.
pub fn run(file: &Path, ready: Ready) -> Result<(), String> {
    log_to_stderr();
    let settings = Arc::new(config::load(file).map_err(|errors| errors.to_string())?);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = control_plane()?;
    let listeners = listen(&settings)?;
    let taken = reload::digest(&settings);
    let hall = Building::new(&settings)?.build(runtime.handle(), &settings)?;
    let (phase, watched) = watch::channel(Phase::Serving);
    let hall = Hall { phase: watched, ..hall };
    let asked = Arc::new(Notify::new());
    start_tasks(&runtime, &hall, &settings, (asked.clone(), taken))?;
    let threads = listener::start(&hall, listeners).map_err(|error| format!("cannot start serving: {error}"))?;
    let digest = hall.shared.snapshot.load().authorize.digest().to_string();
    hall.audit.record(Event::Started { digest }, SystemTime::now());
    announce(&settings);
    ready(&settings);
    let drain = if runtime.block_on(told_to_hurry(asked)) { Duration::ZERO } else { settings.drain };
    stop(&runtime, &hall, &phase, drain, &threads);
    Ok(())
}

/// Logs go to standard error: lines for a person at a terminal, JSON otherwise. `VESTIBULE_LOG` filters them.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("VESTIBULE_LOG").unwrap_or_else(|_| EnvFilter::new("info,hyper_util=off"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = if std::io::stderr().is_terminal() {
        builder.with_target(false).compact().try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
}

fn control_plane() -> Result<Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control-plane")
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start the control plane: {error}"))
}

/// One socket per address and core.
fn listen(settings: &Settings) -> Result<Vec<Vec<StdListener>>, String> {
    let refused = |address: SocketAddr| {
        move |error: std::io::Error| {
            format!("cannot listen on {address}: {error}: stop what listens there, or change `listen`")
        }
    };
    for listen in &settings.listen {
        listener::probe(listen.address).map_err(refused(listen.address))?;
    }
    let core = || {
        let bind = |listen: &config::Listen| listener::bind(listen.address).map_err(refused(listen.address));
        settings.listen.iter().map(bind).collect::<Result<Vec<_>, _>>()
    };
    (0..settings.workers.max(1)).map(|_| core()).collect()
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
    fn new(settings: &Arc<Settings>) -> Result<Self, String> {
        let snapshot = reload::snapshot(settings.clone())?;
        std::fs::create_dir_all(&settings.state)
            .map_err(|error| format!("cannot make the directory `{}`: {error}", settings.state.display()))?;
        let ring = KeyRing::open(&settings.keys).map_err(|error| crate::text::chain(&error))?;
        let keys = AssertionKeys::load(&settings.keys.join("assertion"), SystemTime::now())?;
        let store = Store::embedded(&settings.state).map_err(|error| crate::text::chain(&error))?;
        let journal = settings.state.join("journal");
        let audit = Audit::open(&journal, &settings.keys, settings.audit.mode, settings.audit.segment)?;
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
        let cookies = Cookies::of(settings);
        let forward = forward::Shared {
            streams,
            keys: self.keys.clone(),
            issuer: settings.public_url.origin().ascii_serialization().into(),
            cookies: [cookies.session.clone(), cookies.binding.clone()],
            open: upgrade::open_plain,
        };
        let login = Login {
            control: control.clone(),
            membership: membership.clone(),
            audit: self.audit.clone(),
            assertion_keys: self.keys,
        };
        let shared = Shared {
            snapshot: ArcSwap::from_pointee(self.snapshot),
            control,
            membership,
            audit: self.audit.clone(),
            login,
        };
        let (_, phase) = watch::channel(Phase::Serving);
        Ok(Hall {
            shared: Arc::new(shared),
            forward: Arc::new(forward),
            audit: self.audit,
            metrics: Arc::new(Metrics::default()),
            phase,
        })
    }
}

/// Everything that runs beside the requests.
fn start_tasks(
    runtime: &Runtime,
    hall: &Hall,
    settings: &Arc<Settings>,
    (asked, taken): (Arc<Notify>, [u8; 32]),
) -> Result<(), String> {
    let _inside = runtime.enter();
    let mut discovery = HashMap::new();
    let providers = reload::providers(settings, &Providers::new(), &mut discovery);
    hall.shared.control.configure(providers, settings.sessions.clone());
    let (shared, control) = (hall.shared.clone(), hall.shared.control.clone());
    forever("vigil", move || vigil::watch(shared.clone()));
    forever("sweep", move || control.clone().sweep());
    let reloader = Reloader {
        shared: hall.shared.clone(),
        audit: hall.audit.clone(),
        metrics: hall.metrics.clone(),
        discovery,
        asked,
        started: settings.clone(),
        taken,
    };
    let reloader = Arc::new(tokio::sync::Mutex::new(reloader));
    forever("reload", move || {
        let reloader = reloader.clone();
        async move { reloader.lock().await.watch().await }
    });
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
        tracing::info!(address = %listen.address, public_url = %settings.public_url, "listening");
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

/// Readiness fails, the listeners accept on for the drain, then requests in hand are finished.
fn stop(runtime: &Runtime, hall: &Hall, phase: &watch::Sender<Phase>, drain: Duration, threads: &[JoinHandle<()>]) {
    tracing::info!(?drain, "stopping");
    let _ = phase.send(Phase::Draining);
    std::thread::sleep(drain);
    let _ = phase.send(Phase::Closing);
    let closing = Instant::now();
    while closing.elapsed() < LAST_REQUESTS && threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    runtime.block_on(hall.shared.control.finish(LAST_REQUESTS));
    hall.audit.record(Event::Stopped, SystemTime::now());
    hall.audit.close();
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
}
