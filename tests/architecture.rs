//! Imports point one way, and nothing walks round the hallway. Read from the sources, so that it cannot drift.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Every top-level module with the modules it may name, `text` and `moment` aside. What is not listed may name nothing of ours.
const MAY_NAME: &[(&str, &[&str])] = &[
    // words
    ("group", &[]),
    ("guid", &[]),
    ("text", &[]),
    ("moment", &[]),
    ("finding", &[]),
    ("principal", &["group"]),
    ("upstream", &[]),
    ("credential", &[]),
    ("fairness", &["canonical", "principal", "refusal"]),
    ("route", &["canonical", "config", "credential", "fairness", "group", "principal", "refusal", "upstream"]),
    ("canonical", &["principal", "refusal", "route"]),
    ("refusal", &["answer", "body", "canonical", "config", "fairness", "pages", "principal", "route"]),
    ("body", &["forward"]), // the body of an upstream's answer, without a box
    ("answer", &["body", "pages"]),
    ("pages", &[]),
    ("config", &["canonical", "credential", "fairness", "group", "guid", "principal", "route", "upstream"]),
    ("cookie", &["canonical", "config"]),
    ("cors", &["body", "canonical", "refusal", "route"]),
    ("envelope", &["body", "cors", "pages"]),
    ("metrics", &["authorize", "fairness", "refusal", "route"]), // authorize: how a shadow set differs
    // engines
    ("oidc", &["config", "finding", "group", "guid", "principal"]),
    ("gitlab", &["config", "credential", "group", "oidc"]), // oidc: its client
    ("session", &["finding", "group", "guid", "oidc", "principal"]),
    ("control", &["audit", "config", "fairness", "forward", "oidc", "principal", "refusal", "session"]), // forward: its register of streams
    // steps, in the order of the hallway
    ("identify", &["audit", "canonical", "control", "oidc", "principal", "refusal", "route", "session"]),
    (
        "membership",
        &["audit", "config", "control", "gitlab", "group", "identify", "oidc", "principal", "refusal", "session"],
    ),
    ("inspect", &["audit", "body", "canonical", "refusal", "route"]), // audit: the bytes that came in
    ("authorize", &["canonical", "config", "group", "guid", "principal", "refusal", "route"]),
    ("review", &["authorize", "canonical", "config", "group", "oidc", "principal", "route"]), // oidc: what a job's claims say
    (
        "audit",
        &["authorize", "canonical", "config", "fairness", "finding", "principal", "refusal", "route", "upstream"],
    ),
    (
        "forward",
        &["audit", "body", "canonical", "credential", "finding", "group", "principal", "refusal", "route", "upstream"],
    ),
    (
        "login",
        &[
            "answer",
            "audit",
            "body",
            "canonical",
            "config",
            "control",
            "cookie",
            "forward",
            "gitlab", // its hooks
            "identify",
            "membership",
            "oidc",
            "pages",
            "principal",
            "refusal",
            "route",
            "session",
        ],
    ),
    // the hall and what stands around it
    (
        "gateway",
        &[
            "audit",
            "authorize",
            "body",
            "canonical",
            "config",
            "control",
            "cookie",
            "cors",
            "envelope",
            "forward",
            "identify",
            "inspect",
            "login",
            "membership",
            "metrics",
            "principal",
            "refusal",
            "route",
        ],
    ),
    ("vigil", &["forward", "gateway", "identify", "membership", "oidc", "principal", "refusal", "session"]),
    (
        "reload",
        &[
            "audit",
            "authorize",
            "config",
            "control",
            "cookie",
            "forward", // what looks after upstreams
            "gateway",
            "listener", // its doors
            "metrics",
            "oidc",
            "principal",
            "route",
            "session",
        ],
    ),
    ("listener", &["audit", "body", "canonical", "config", "finding", "forward", "gateway", "metrics", "refusal"]),
    (
        "admin", // the operators' door
        &["audit", "config", "control", "forward", "gateway", "membership", "oidc", "principal", "session"],
    ),
    (
        "cli",
        &[
            "admin",
            "audit",
            "authorize",
            "canonical", // which names a certificate covers
            "config",
            "control",
            "cookie",
            "demo",
            "finding",
            "forward",
            "gateway",
            "gitlab", // whether its groups are there
            "group",
            "inspect", // the room for bodies
            "listener",
            "login",
            "membership",
            "metrics",
            "oidc", // its probe
            "principal",
            "refusal",
            "reload",
            "review",
            "route",
            "session",
            "vigil",
        ],
    ),
    ("demo", &["body", "cli", "config", "group"]),
];

/// Modules that decide: no sockets, no runtime, no clock of their own.
const PURE: &[&str] = &["authorize", "canonical", "fairness", "group", "guid", "pages", "principal", "review", "route"];

fn sources() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).expect("below src").to_str().expect("UTF-8").to_owned();
                let module = inside.split('/').next().expect("a name").trim_end_matches(".rs").to_owned();
                let test_only = ["/tests.rs", "/testing.rs", "/corpus.rs"].iter().any(|end| inside.ends_with(end));
                let text = fs::read_to_string(&path).expect("text");
                if !test_only && !inside.contains("/tests/") {
                    files.push((module, path, without_tests_and_comments(&text)));
                }
            }
        }
    }
    files
}

fn without_tests_and_comments(text: &str) -> String {
    let text =
        match text.find("#[cfg(test)]\nmod tests {").or_else(|| text.find("#[cfg(test)]\npub(crate) mod tests {")) {
            Some(end) => &text[..end],
            None => text,
        };
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules that follow `crate::`, one by one or in braces.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => names.extend(word(rest)),
            Some(list) => {
                let (mut depth, mut start) = (0, true);
                for (position, letter) in list.char_indices() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        _ if start && letter.is_alphabetic() => {
                            names.extend(word(&list[position..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

#[test]
fn imports_point_one_way() {
    let may: BTreeMap<_, BTreeSet<_>> =
        MAY_NAME.iter().map(|(module, names)| (*module, names.iter().copied().collect())).collect();
    let modules: BTreeSet<_> = may.keys().copied().collect();
    let mut wrong = Vec::new();
    for (module, path, text) in sources() {
        if module == "lib" || module == "main" {
            continue;
        }
        let Some(allowed) = may.get(&*module) else {
            wrong.push(format!("{}: module `{module}` is not in the table", path.display()));
            continue;
        };
        for name in named(&text) {
            if name != module
                && !["text", "moment"].contains(&&*name)
                && modules.contains(&*name)
                && !allowed.contains(&*name)
            {
                wrong.push(format!("{}: `{module}` may not name `{name}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_decides_has_no_runtime_and_no_clock() {
    for (module, path, text) in sources() {
        if PURE.contains(&&*module) {
            for forbidden in ["tokio::", "hyper::", "SystemTime::now", "Instant::now"] {
                assert!(!text.contains(forbidden), "{} uses {forbidden}", path.display());
            }
        }
    }
}

/// A permission is made in one place, so that forwarding without a recorded decision cannot be written.
#[test]
fn only_audit_makes_a_permit() {
    for (module, path, text) in sources() {
        if module != "audit" {
            assert!(!text.contains("Permit {"), "{}", path.display());
        }
    }
    let all: Vec<_> = sources();
    let makers = all.iter().filter(|(_, _, text)| text.contains("Permit {") && text.contains("fn admit")).count();
    assert_eq!(makers, 1, "one file admits");
}

/// The whole life of a request can be read on a screen.
#[test]
fn the_hallway_fits_a_screen() {
    let gateway = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway.rs")).expect("text");
    let walk = gateway.split("pub async fn walk").nth(1).expect("the hallway");
    let lines = walk.lines().take_while(|line| *line != "    }").count();
    assert!(lines <= 45, "{lines} lines");
    let steps = ["read(request", "routes.find", ".caller(", ".principal(", ".decide(", ".admit(", ".send("];
    let places: Vec<_> = steps.iter().map(|step| walk.find(step).unwrap_or_else(|| panic!("{step} is gone"))).collect();
    assert!(places.is_sorted(), "the order of the steps: {places:?}");
}

#[test]
fn library_code_does_not_unwrap() {
    for (_, path, text) in sources() {
        for forbidden in [".unwrap()", "todo!(", "unimplemented!(", "dbg!("] {
            assert!(!text.contains(forbidden), "{} has {forbidden}", path.display());
        }
    }
}

/// What the documentation tells people to copy is what is tested against a real Backstage.
#[test]
fn documented_code_is_the_code_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let page = read("docs/backstage.md");
    for file in ["backend/src/vestibule.js", "app/src/vestibule.jsx"] {
        let code = read(&format!("tests/fixtures/backstage/packages/{file}"));
        assert!(page.contains(code.trim_end()), "docs/backstage.md does not have {file} as it is");
    }
}

/// What the page of tokens tells people to copy is what tests/clients/runners.py runs.
#[test]
fn documented_jobs_are_the_jobs_that_are_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let page = read("docs/tokens.md");
    let block = |start: &str| page.split(start).nth(1).and_then(|rest| rest.split("```").next()).expect("a block");
    for (start, file) in [("```yaml\n# .gitlab-ci.yml\n", "gitlab-ci.yml"), ("```cedar\n", "policies/runners.cedar")] {
        let text = read(&format!("docs/examples/{file}"));
        assert!(text.contains(block(start)), "docs/examples/{file} does not have the first block of docs/tokens.md");
    }
}
