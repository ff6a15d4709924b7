//! What a decision costs with 10, 1,000 and 100,000 policies, each of which names a group of its own.
//!
//!     cargo bench --bench decide [-- ROUNDS]
//!
//! One person is in five of the groups, and in twenty that no policy names. Measured are a decision by Cedar once the policies are
//! sliced (no two requests are equal), one that is remembered, and the first of a person, which slices. All sizes take turns in
//! every round; medians. Memory is what the process grows by. Where `TESTS_FIGURES` names a file, each figure is added to it as a
//! line of the table in README.md. Exit code 1 where a figure is above what it must be.

mod support;

use std::{
    env, fs,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant, UNIX_EPOCH},
};
use support::{figures::tell, judged, median, person};
use vestibule::{
    authorize::Authorize,
    canonical::Judged,
    config::{self, Settings},
    principal::Principal,
};

const SIZES: [u32; 3] = [10, 1_000, 100_000];
/// Policies in one file.
const FILE: u32 = 1_000;
/// What a decision may cost with the most policies, against the fewest.
const MUST: f64 = 1.30;
/// Decisions of each kind in one batch: few, so that a batch that another process interrupts is one of many.
const EVALUATED: u32 = 50;
const REMEMBERED: u32 = 500;
const SLICED: u32 = 10;
/// Batches in one round.
const BATCHES: u32 = 40;

const CONFIGURATION: &str = "public_url: http://localhost:8080
listen: 127.0.0.1:8080
providers:
  - { name: sso, kind: oidc, issuer: https://sso.example.com, client_id: a, client_secret: { file: secret } }
routes:
  - { name: portal, upstream: \"http://127.0.0.1:7007\" }
policies: ./policies
";

/// One set of policies, and what it cost so far.
struct Set {
    size: u32,
    settings: Settings,
    policies: Authorize,
    loaded: Duration,
    bytes: u64,
    asked: u32,
    evaluated: Vec<Duration>,
    remembered: Vec<Duration>,
    sliced: Vec<Duration>,
}

impl Set {
    fn of(size: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), size);
        let settings = config::load(&directory.path().join("vestibule.yaml")).expect("a good configuration");
        let (before, start) = (resident(), Instant::now());
        let policies = Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers, &[]);
        let policies = policies.unwrap_or_else(|errors| panic!("{errors:?}"));
        let (loaded, bytes) = (start.elapsed(), resident().saturating_sub(before));
        let (evaluated, remembered, sliced) = (Vec::new(), Vec::new(), Vec::new());
        Self { size, settings, policies, loaded, bytes, asked: 0, evaluated, remembered, sliced }
    }

    /// Measures each kind of decision in many batches.
    fn round(&mut self) {
        (0..BATCHES).for_each(|_| self.batch());
    }

    fn batch(&mut self) {
        let ada = person(0);
        self.decide(&ada, &judged("/team/again"));
        let requests: Vec<_> = (0..EVALUATED).map(|number| judged(&format!("/team/{}/{number}", self.asked))).collect();
        self.asked += 1;
        self.evaluated.push(timed(EVALUATED, |turn| self.decide(&ada, &requests[turn as usize])));
        let again = judged("/team/again");
        self.decide(&ada, &again);
        self.remembered.push(timed(REMEMBERED, |_| self.decide(&ada, &again)));
        let people: Vec<_> = (0..SLICED).map(|number| person(1 + self.asked * SLICED + number)).collect();
        self.sliced.push(timed(SLICED, |turn| self.decide(&people[turn as usize], &again)));
    }

    fn decide(&self, principal: &Principal, judged: &Judged) {
        let decision = self.policies.decide(principal, judged, &self.settings.routes[0], UNIX_EPOCH);
        assert!(decision.permits() && decision.policies.len() == 5, "{decision:?}");
    }

    /// What one more person takes, in bytes.
    fn slice_bytes(&self) -> u64 {
        let (people, judged): (Vec<_>, _) =
            ((0..20_000).map(|number| person(10_000_000 + number)).collect(), judged("/team/again"));
        let before = resident();
        people.iter().for_each(|person| self.decide(person, &judged));
        resident().saturating_sub(before) / people.len() as u64
    }
}

fn write(directory: &Path, size: u32) {
    fs::create_dir(directory.join("policies")).expect("made");
    fs::write(directory.join("secret"), "s").expect("written");
    fs::write(directory.join("vestibule.yaml"), CONFIGURATION).expect("written");
    for first in (0..size).step_by(FILE as usize) {
        let policy = |number: u32| {
            format!(
                "@id(\"team-{number}\")\npermit (principal is User in Group::\"sso:team/{number}\", action, resource == Route::\"portal\")\n\
                 when {{ context.path like \"/team/*\" }};\n"
            )
        };
        let text: String = (first..size.min(first + FILE)).map(policy).collect();
        fs::write(directory.join(format!("policies/{first:06}.cedar")), text).expect("written");
    }
}

/// The mean time of one of so many.
fn timed(count: u32, act: impl Fn(u32)) -> Duration {
    let start = Instant::now();
    (0..count).for_each(act);
    start.elapsed() / count
}

/// Bytes of this process in memory.
fn resident() -> u64 {
    let about = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    about.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

fn main() -> ExitCode {
    let rounds = env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(9);
    let mut sets = SIZES.map(Set::of);
    for turn in 0..rounds {
        sets.rotate_left(turn % SIZES.len());
        sets.iter_mut().for_each(Set::round);
    }
    sets.sort_by_key(|set| set.size);
    let [few, some, many] = &sets;
    let mut held = true;
    let mut ratio = |what: &str, set: &Set, of: fn(&Set) -> &Vec<Duration>| {
        let (time, base) = (median(of(set)), median(of(few)));
        held &= time / base <= MUST;
        let figure = format!("{what}, {} policies against {}", set.size, few.size);
        tell(&figure, &format!("{:.2} ({time:.2} µs and {base:.2} µs)", time / base), &format!("≤ {MUST:.2}"));
    };
    for set in [some, many] {
        ratio("decision by Cedar once sliced", set, |set| &set.evaluated);
        ratio("remembered decision", set, |set| &set.remembered);
    }
    for set in &sets {
        let figure = format!("first decision of a person, which slices, {} policies", set.size);
        tell(&figure, &format!("{:.0} µs", median(&set.sliced)), "");
    }
    let (seconds, mib) = (many.loaded.as_secs_f64(), many.bytes / (1024 * 1024));
    tell(&format!("{} policies loaded", many.size), &format!("{seconds:.1} s, {mib} MiB"), "");
    tell("memory of one person's slice", &format!("{:.1} KiB", many.slice_bytes() as f64 / 1024.0), "");
    if held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
