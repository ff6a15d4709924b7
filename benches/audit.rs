//! What the trail takes: records per second in each mode, and the wait for a record that is on disk.
//!
//!     cargo bench --bench audit [-- SECONDS]
//!     cargo bench --bench audit -- serve FILE recorded|unrecorded
//!
//! In `required` mode a sync takes the records of all requests that are under way, so the rate is told for so many of them at once
//! as one decision may wait for: the wait is that until its record is on disk. In `best_effort` records come as fast as the writer takes them, and none may be lost. The second form
//! serves a configuration like `vestibule run`, or records nothing: `benches/run` measures what the difference costs a request.

mod support;

use std::{
    env,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use support::{figures::tell, judged, median, person};
use vestibule::{
    audit::Audit,
    authorize::{Authorize, Decision},
    canonical::Judged,
    cli::run,
    config::{self, AuditMode, Settings},
    principal::Principal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests under way at once in `required` mode: each is tried.
const AT_ONCE: [usize; 5] = [32, 64, 128, 256, 512];
/// Rounds, of which the median counts.
const ROUNDS: usize = 3;
/// Records that may wait for the writer in `best_effort` mode; its queue has room for more.
const AHEAD: u64 = 30_000;
/// What must be written each second, and what a decision may wait for that, in milliseconds.
const MUST: f64 = 50_000.0;
const WAIT: f64 = 10.0;

const CONFIGURATION: &str = "public_url: http://localhost:8080
listen: 127.0.0.1:8080
providers:
  - { name: sso, kind: oidc, issuer: https://sso.example.com, client_id: a, client_secret: { file: secret } }
routes:
  - { name: portal, upstream: \"http://127.0.0.1:7007\", allow: [\"sso:team/0\"] }
";

/// A request that is permitted, and everything that its record says.
struct Scene {
    directory: tempfile::TempDir,
    settings: Settings,
    principal: Principal,
    judged: Judged,
    decision: Decision,
}

impl Scene {
    fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("secret"), "s").expect("written");
        let file = directory.path().join("vestibule.yaml");
        std::fs::write(&file, CONFIGURATION).expect("written");
        let settings = config::load(&file).expect("a good configuration");
        let policies = Authorize::load(None, &settings.routes, &settings.providers, &[]).expect("good policies");
        let (principal, judged) = (person(0), judged("/api/catalog/entities/by-name/component/default/web"));
        let decision = policies.decide(&principal, &judged, &settings.routes[0], UNIX_EPOCH);
        assert!(decision.permits(), "{decision:?}");
        Arc::new(Self { directory, settings, principal, judged, decision })
    }

    fn open(&self, mode: AuditMode) -> Audit {
        let settings = config::AuditSettings { mode, ..self.settings.audit.clone() };
        let journal = self.directory.path().join(format!("{mode:?}"));
        Audit::open(&journal, &self.directory.path().join("keys"), &settings).expect("opened")
    }

    /// One request from its head to the end of its answer; how long its decision waited.
    async fn cross(&self, audit: &Audit) -> Duration {
        let crossing = audit.crossing(self.judged.asked.client, SystemTime::now());
        crossing.asked(&self.judged.asked, None);
        crossing.route(&self.settings.routes[0]);
        crossing.principal(&self.principal);
        crossing.session("5f0c2f5f3c9e4a5d");
        let start = Instant::now();
        assert!(audit.admit(self.decision.clone(), &crossing).await.is_ok(), "it is recorded");
        let waited = start.elapsed();
        crossing.status(http::StatusCode::OK);
        waited
    }
}

/// Records per second, and the median wait of a decision, with so many requests under way.
fn required(scene: &Arc<Scene>, seconds: u64, at_once: usize) -> (f64, Duration) {
    let audit = scene.open(AuditMode::Required);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (start, end) = (Instant::now(), Duration::from_secs(seconds));
    let mut waits = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..at_once {
            let (scene, audit) = (scene.clone(), audit.clone());
            tasks.spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < end {
                    waits.push(scene.cross(&audit).await);
                }
                waits
            });
        }
        tasks.join_all().await.concat()
    });
    finished(&audit, 2 * waits.len() as u64);
    let rate = 2.0 * waits.len() as f64 / start.elapsed().as_secs_f64(); // a decision and a completion each
    waits.sort();
    (rate, waits[waits.len() / 2])
}

/// Records per second that the writer keeps up with.
fn best_effort(scene: &Arc<Scene>, seconds: u64) -> f64 {
    let audit = scene.open(AuditMode::BestEffort);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (start, mut crossed) = (Instant::now(), 0);
    runtime.block_on(async {
        while start.elapsed() < Duration::from_secs(seconds) {
            if crossed - audit.written() < AHEAD {
                scene.cross(&audit).await;
                crossed += 1;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    finished(&audit, crossed);
    crossed as f64 / start.elapsed().as_secs_f64()
}

/// Waits until all is on disk.
fn finished(audit: &Audit, records: u64) {
    while audit.written() < records && audit.lost() == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!((audit.written(), audit.lost()), (records, 0), "each has its record");
    audit.close();
}

fn serve(words: &[String]) -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let [file, mode] = words else { panic!("expected a file, and `recorded` or `unrecorded`") };
    let served = match &**mode {
        "recorded" => run::run(Path::new(file), None),
        "unrecorded" => run::run_unrecorded(Path::new(file)),
        other => Err(format!("`{other}` is neither `recorded` nor `unrecorded`")),
    };
    served.map_or_else(
        |error| {
            println!("{error}");
            ExitCode::from(2)
        },
        |()| ExitCode::SUCCESS,
    )
}

fn main() -> ExitCode {
    let words: Vec<_> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "serve") {
        return serve(&words[1..]);
    }
    let seconds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(2);
    let scene = Scene::new();
    let mut tried = AT_ONCE.map(|at_once| (at_once, Vec::new(), Vec::new()));
    let mut free = Vec::new();
    for _ in 0..ROUNDS {
        for (at_once, rates, waits) in &mut tried {
            let (rate, wait) = required(&scene, seconds, *at_once);
            rates.push(rate);
            waits.push(wait);
        }
        free.push(best_effort(&scene, seconds));
    }
    let tried = tried.map(|(at_once, rates, waits)| (at_once, middle(rates), median(&waits) / 1000.0));
    for (at_once, rate, wait) in tried {
        println!(
            "audit `required`, {at_once} requests at once: {rate:.0} records per second, a decision waits {wait:.1} ms"
        );
    }
    let soon = tried.into_iter().filter(|(_, _, wait)| *wait <= WAIT).max_by(|one, other| one.1.total_cmp(&other.1));
    let (at_once, rate, wait) = soon.unwrap_or(tried[0]);
    tell(
        "audit `required`: records per second, median wait of a decision",
        &format!("{rate:.0}, {wait:.1} ms with {at_once} requests at once"),
        &format!("≥ {MUST:.0}, ≤ {WAIT:.0} ms"),
    );
    let free = middle(free);
    tell("audit `best_effort`: records per second, none lost", &format!("{free:.0}"), &format!("≥ {MUST:.0}"));
    if rate >= MUST && free >= MUST && wait <= WAIT { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
