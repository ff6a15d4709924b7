//! What a reviewer waits for: 10,000 people in 20 groups each, and 1,000 policies on 50 routes.
//!
//!     cargo bench --bench crowd
//!
//! Each command runs once as its user runs it, configuration, policies and people read from files. `access` is also asked of everybody,
//! in this process. Where `TESTS_FIGURES` names a file, each figure is added to it as a line of the table in README.md. Exit code 1 where
//! one takes longer than it may.

#[path = "support/figures.rs"]
mod figures;

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};
use vestibule::{
    authorize::Authorize,
    config,
    review::{access::Access, asking::Site, cast::Cast},
};

const PEOPLE: usize = 10_000;
const GROUPS: usize = 200;
const GROUPS_OF_ONE: usize = 20;
const POLICIES: usize = 1_000;
const ROUTES: usize = 50;
/// What one command may take, in seconds.
const MUST: f64 = 10.0;
/// The same where every policy is another: no merge request is so large.
const MUST_WHOLE: f64 = 60.0;

fn policy(number: usize, path: &str) -> String {
    let (group, route) = (number % GROUPS, number % ROUTES);
    let (effect, path_of) = if number.is_multiple_of(10) { ("forbid", "path_folded") } else { ("permit", "path") };
    let unless = if number.is_multiple_of(7) { "unless { principal in Group::\"gitlab:g0\" }" } else { "" };
    let actions = if number.is_multiple_of(3) { "read" } else { "write" };
    format!(
        "@id(\"p{number}\") {effect} (principal is User in Group::\"gitlab:g{group}\", action in Action::\"{actions}\", \
         resource == Route::\"r{route}\")\nwhen {{ context.{path_of} like \"/{path}/{number}/*\" }} {unless};\n"
    )
}

/// Policies of which so many are not the same as those in `before`.
fn version(directory: &Path, name: &str, changed: usize) {
    let text: String = (0..POLICIES).map(|number| policy(number, if number < changed { "y" } else { "x" })).collect();
    fs::create_dir(directory.join(name)).expect("made");
    fs::write(directory.join(name).join("all.cedar"), text).expect("written");
}

fn write(directory: &Path) {
    let routes: String = (0..ROUTES)
        .map(|number| {
            format!("  - {{ name: r{number}, host: r{number}.example.test, upstream: \"http://127.0.0.1:9\" }}\n")
        })
        .collect();
    let head = "public_url: https://portal.example.test\nlisten: 127.0.0.1:8443\ntrusted_proxies: [127.0.0.1]\nproviders:\n  - { name: \
                gitlab, kind: gitlab, issuer: https://gitlab.example.test, client_id: a, client_secret: { file: secret }, membership: { api: { token: { file: api } } } }\n";
    fs::write(directory.join("vestibule.yaml"), format!("{head}routes:\n{routes}policies: ./before\n"))
        .expect("written");
    version(directory, "before", 0);
    version(directory, "after", 10);
    version(directory, "other", POLICIES);
    let person = |number: usize| {
        let group = |nth: usize| format!("g{}", (number * 31 + nth * (17 + number % 5)) % GROUPS);
        let groups: Vec<_> = (0..GROUPS_OF_ONE).map(group).collect();
        format!("  p{number}: {{ subject: \"{number}\", groups: [{}] }}\n", groups.join(", "))
    };
    let people: String = (0..PEOPLE).map(person).collect();
    fs::write(directory.join("crowd.yaml"), format!("people:\n{people}")).expect("written");
}

/// One command, and how long it takes in seconds. It has to end with this code.
fn command(directory: &Path, code: i32, words: &str) -> f64 {
    let start = Instant::now();
    let mut program = Command::new(env!("CARGO_BIN_EXE_vestibule"));
    let told =
        program.args(["policy"]).args(words.split(' ')).current_dir(directory).output().expect("the program runs");
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(told.status.code(), Some(code), "{words}: {}", String::from_utf8_lossy(&told.stderr));
    seconds
}

/// How long it takes to say of everybody what they may do.
fn everybody(directory: &Path) -> f64 {
    let settings = config::load_for_review(&directory.join("vestibule.yaml")).expect("a good configuration");
    let start = Instant::now();
    let cast = Cast::read(&directory.join("crowd.yaml"), &settings).expect("a cast");
    let policies = Authorize::load(settings.policies.as_deref(), &settings.routes, &settings.providers, &[]);
    let policies = policies.unwrap_or_else(|errors| panic!("{errors:?}"));
    let (rights, site) = (policies.rights(), Site::of(&settings));
    let access = cast
        .iter()
        .map(|(name, principal)| Access::of(&rights, &site, &settings, Some(name), principal).permits_something());
    assert!(access.filter(|some| *some).count() > PEOPLE / 2, "people may do something");
    start.elapsed().as_secs_f64()
}

/// Says a figure, and adds it to those of a run that publishes them; true if it is as it must be.
fn tell(figure: &str, seconds: f64, must: f64) -> bool {
    figures::tell(figure, &format!("{seconds:.1} s"), &format!("≤ {must} s"));
    seconds <= must
}

fn main() -> ExitCode {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    write(directory);
    let crowd = "10,000 people, 1,000 policies";
    let diff = |after, code| command(directory, code, &format!("diff before {after} --population crowd.yaml"));
    let held = [
        tell(&format!("`policy access` of one of {crowd}"), command(directory, 0, "access p7 --cast crowd.yaml"), MUST),
        tell(&format!("`policy access` of each of {crowd}"), everybody(directory), MUST),
        tell(
            &format!("`policy who`, {crowd}"),
            command(directory, 0, "who https://r1.example.test/x/1/a --method POST --cast crowd.yaml"),
            MUST,
        ),
        tell(&format!("`policy diff`, {crowd}, 10 changed"), diff("after", 1), MUST),
        tell(&format!("`policy diff`, {crowd}, all changed"), diff("other", 1), MUST_WHOLE),
    ];
    if held.iter().all(|held| *held) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
