//! A gateway between clients full of tricks and an upstream that reads in its own way.

use super::{
    answers::{self, Script},
    case::{Case, Family, Place, Run, marker},
    client::{self, Heard},
    frames,
    judge::{self, Breach, Records, Trial},
    reading::Reading,
    upstream::{Read, Upstream},
};
use crate::support::{
    gateway::Gateway,
    provider::{CLIENT_ID, Provider},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How many cases run at once.
const AT_ONCE: usize = 16;

/// Anybody may do anything under `/public/`, people of `platform` under `/app/`, and nobody anything elsewhere.
const POLICIES: &str = r#"
@id("public") permit (principal, action, resource == Route::"app") when { context.path like "/public/*" };
@id("app") permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"app")
when { context.path like "/app/*" };
"#;

/// A gateway, its upstream, and a person who is signed in.
pub(super) struct Hall {
    pub(super) gateway: Gateway,
    pub(super) place: Place,
    upstream: Upstream,
    journal: Mutex<Journal>,
}

impl Hall {
    /// Opens one whose upstream reads in this way. Where it is lenient, the gateway passes `%2F` and `;` on.
    pub(super) async fn open(provider: &Provider, reading: Reading) -> Self {
        let script = Script::default();
        let upstream = Upstream::start(reading, script.clone()).await;
        let text = configuration(&provider.issuer, upstream.port, reading == Reading::Lenient);
        let gateway = Gateway::start(&text, POLICIES).await;
        let place = Place {
            host: format!("127.0.0.1:{}", gateway.port),
            issuer: provider.issuer.clone(),
            session: gateway.session_cookie(),
            binding: gateway.binding_cookie(),
            handle: gateway.sign_in(provider, "alice").await.session,
            token: provider.mint(json!({ "claims": { "aud": CLIENT_ID, "sub": "1" }, "ttl": 3600 })).await,
        };
        script.at(place.clone());
        Self { gateway, place, upstream, journal: Mutex::default() }
    }

    /// Every case as a person and as nobody, and once more in HTTP/2 where that is spoken and has a form for it.
    pub(super) fn runs(&self, cases: &[Arc<Case>], http2: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = cases.iter().flat_map(|case| self.runs_of(case)).collect();
        if http2 {
            let own = |run: &&Run| !matches!(run.case.family, Family::Frames | Family::Answers);
            let translated: Vec<Run> = runs.iter().filter(own).filter_map(|run| self.in_http2(run)).collect();
            runs.extend(translated);
        }
        runs
    }

    fn runs_of(&self, case: &Arc<Case>) -> Vec<Run> {
        let persons: &[bool] = if case.family == Family::Answers { &[false] } else { &[false, true] };
        let run = |person: &bool| match case.family {
            Family::Frames => frames::run(case, number(), *person, &self.place),
            _ => Run::new(case, number(), *person, &self.place),
        };
        persons.iter().map(run).collect()
    }

    fn in_http2(&self, run: &Run) -> Option<Run> {
        frames::translated(&Run::new(&run.case, number(), run.person, &self.place))
    }

    /// Runs them all, and tells what was wrong with what clients heard.
    pub(super) async fn send(&self, runs: &[Run]) -> Vec<Breach> {
        let each = stream::iter(runs).map(|run| self.one(run)).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        each.into_iter().flatten().collect()
    }

    /// Holds what the upstream found since the last time against the rules. Also says how many runs reached it.
    pub(super) async fn judge(&self, runs: &[Run]) -> (Vec<Breach>, usize) {
        let reads = self.upstream.take();
        self.recorded(&reads).await;
        let mut journal = self.journal();
        let runs: HashMap<_, _> = runs.iter().map(|run| (run.number, run)).collect();
        let trial = Trial { place: &self.place, runs: &runs, records: &journal.records };
        let mut breaches = trial.judge(&reads);
        let reached = judge::reached(&reads);
        breaches.extend(frames::malformed(&runs, &reached));
        let faults = std::mem::take(&mut journal.faults);
        breaches.extend(faults.into_iter().map(|what| Breach { rule: "R7", run: None, what }));
        (breaches, reached.len())
    }

    /// A case, and a victim on a connection of its own right after it.
    async fn one(&self, run: &Run) -> Vec<Breach> {
        let port = self.gateway.port;
        let probe = self.plain("probe", run);
        let mut breaches = match run.case.family {
            _ if run.http2 => frames::talk(port, run).await,
            Family::Answers => {
                let (heard, mut breaches) = answers::talk(port, run, &probe).await;
                breaches.extend(judge::heard(&self.place, run, &heard));
                breaches
            }
            _ => judge::heard(&self.place, run, &client::converse(port, &run.sent, &probe).await),
        };
        let victim = client::ask(port, &self.plain("victim", run)).await;
        if !is_intact(&victim, &format!("/public/victim-{}", run.marker())) {
            let what = format!("the next client heard `{}`", victim.bytes().escape_ascii());
            breaches.push(Breach { rule: "R7", run: Some(run.number), what });
        }
        breaches
    }

    /// A request that nobody can object to.
    fn plain(&self, what: &str, run: &Run) -> Vec<u8> {
        let (host, case) = (&self.place.host, marker(run.number));
        format!("GET /public/{what}-{case} HTTP/1.1\r\nHost: {host}\r\nX-Case: {case}\r\nConnection: close\r\n\r\n")
            .into()
    }

    /// Waits until there is a record of everything that the upstream found.
    async fn recorded(&self, reads: &[Read]) {
        let start = Instant::now();
        while !self.has(reads) && start.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn has(&self, reads: &[Read]) -> bool {
        let journal = self.journal();
        reads.iter().filter_map(|read| read.one("x-request-id")).all(|id| journal.records.contains_key(id))
    }

    /// The journal as far as it is written.
    fn journal(&self) -> MutexGuard<'_, Journal> {
        let mut journal = self.journal.lock().expect("no panic");
        journal.read(&self.gateway.path("state/journal"));
        journal
    }
}

/// What was read of the gateway's journal.
#[derive(Default)]
struct Journal {
    /// How much of each segment.
    segments: HashMap<PathBuf, usize>,
    /// Every request's record, by its id.
    records: Records,
    /// Faults that no hostile upstream made, and that nobody was told of yet.
    faults: Vec<String>,
}

impl Journal {
    /// Reads what was added since the last time.
    fn read(&mut self, directory: &Path) {
        let files = fs::read_dir(directory).expect("a journal").flatten().map(|entry| entry.path());
        for path in files.filter(|path| path.extension().is_some_and(|kind| kind == "jsonl")) {
            let bytes = fs::read(&path).unwrap_or_default();
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let from = std::mem::replace(self.segments.entry(path).or_default(), whole);
            let lines = bytes[from..whole].split(|byte| *byte == b'\n');
            lines.filter_map(|line| serde_json::from_slice(line).ok()).for_each(|line| self.add(line));
        }
    }

    fn add(&mut self, mut line: Value) {
        let record = line["event"].take();
        let Some(id) = record["http_request"]["uid"].as_str().map(str::to_owned) else { return };
        let path = record["http_request"]["url"]["path"].as_str().unwrap_or_default();
        let provider = record["status_code"] == "provider_unavailable"; // before it is discovered
        let fault = record["http_response"]["code"].as_u64().is_some_and(|code| code >= 500);
        if fault && !provider && !path.contains("/answer-") {
            self.faults.push(format!("a fault was recorded: {record}"));
        }
        self.records.insert(id, record);
    }
}

/// A number that no other run has.
fn number() -> usize {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn is_intact(heard: &Heard, target: &str) -> bool {
    matches!(&heard.answers[..], [answer] if answer.status == 200 && answer.text().starts_with(&format!("seen {target} for ")))
        && heard.rest.is_empty()
}

fn configuration(issuer: &str, upstream: u16, encoded_slash: bool) -> String {
    format!(
        "public_url: http://127.0.0.1:PORT\n\
         listen: 127.0.0.1:PORT\n\
         workers: 1\n\
         drain: 0s\n\
         providers:\n\
         \x20 - name: gitlab\n\
         \x20   kind: gitlab\n\
         \x20   issuer: {issuer}\n\
         \x20   client_id: {CLIENT_ID}\n\
         \x20   client_secret: {{ file: secret }}\n\
         routes:\n\
         \x20 - name: app\n\
         \x20   upstream: http://127.0.0.1:{upstream}\n\
         \x20   groups_header: [\"gitlab:platform/**\"]\n\
         \x20   encoded_slash: {encoded_slash}\n\
         \x20   timeouts: {{ request_idle: 300ms, first_byte: 5s, stream_idle: 5s }}\n\
         policies: ./policies\n"
    )
}
