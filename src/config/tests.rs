//! Whole configurations: what loads, and what every mistake looks like.

use super::*;
use crate::route::ErrorBody;
use proptest::prelude::*;
use secrecy::ExposeSecret;

/// The start of the documentation, word for word.
pub(super) const START: &str = r#"public_url: https://portal.example.com
listen: 0.0.0.0:8080
trusted_proxies: [10.0.0.0/8]
providers:
  - { name: gitlab, kind: gitlab, issuer: https://gitlab.example.com, client_id: 0f2c6a, client_secret: { file: secrets/gitlab } }
routes:
  - { name: backstage, upstream: "http://127.0.0.1:7007", allow: ["gitlab:acme/**"] }
"#;

/// The same in long lines, with every key that this version has.
const FULL: &str = r#"public_url: https://portal.example.com
listen:
  - address: 0.0.0.0:8080
  - address: "[::1]:8081"
operations: { address: 127.0.0.1:9090 }
trusted_proxies: [10.0.0.0/8, "fd00::/8", 192.0.2.7]
state: ./state
keys: ./keys
providers:
  - name: gitlab
    kind: gitlab
    title: GitLab
    issuer: https://gitlab.example.com
    client_id: 0f2c6a
    client_secret: { file: secrets/gitlab }
    scopes: [openid, profile]
    membership:
      refresh: 30s
      outage: 10m
      claim: groups_direct
      without_refresh: 2h
  - name: okta
    kind: okta
    issuer: https://acme.okta.com
    client_id: 0123
    client_secret:
      env: OKTA_SECRET
routes:
  - name: backstage
    host: portal.example.com
    upstream: { urls: ["http://127.0.0.1:7007"] }
    providers: [gitlab, okta]
    header_provider: gitlab
    allow: ["gitlab:acme/**", "okta:admins", signed-in]
    groups_header: ["gitlab:acme/**"]
    encoded_slash: true
    body: backstage
  - name: deploy-api
    host: Portal.Example.com
    path: /v1
    paths: exact
    upstream: "http://10.0.0.7"
    providers: [gitlab]
    audience: deploy
    labels: { tier: production, level: 3, critical: true }
    origins: ["https://ide.example.com:443"]
    timeouts: { connect: 500ms, first_byte: 2m, request_idle: 10s, stream_idle: 1h }
    allow: [public]
policies: ./policies
sessions:
  idle: 30m
  absolute: 8h
audit:
  mode: required
  segment: 1MiB
workers: 2
drain: 10s
"#;

/// A directory with the secrets and policies that the samples name.
fn place() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["secrets", "policies"] {
        fs::create_dir(directory.path().join(name)).expect("a writable directory");
    }
    for (name, text) in [("gitlab", "hunter2\n"), ("empty", "\n")] {
        let path = directory.path().join("secrets").join(name);
        fs::write(&path, text).expect("a writable file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
    }
    directory
}

fn environment() -> Environment {
    [("OKTA_SECRET", "hunter3"), ("VESTIBULE_LOG", "info"), ("PATH", "/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn read_in(directory: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    parse(text.as_bytes(), &directory.join("vestibule.yaml"), &environment())
}

fn settings(text: &str) -> Settings {
    match read_in(place().path(), text) {
        Ok(loaded) => loaded.settings,
        Err(errors) => panic!("{errors}"),
    }
}

/// The messages, with the directory cut out.
pub(super) fn mistakes(text: &str) -> String {
    let directory = place();
    let errors = read_in(directory.path(), text).expect_err("a mistake");
    errors.to_string().replace(&format!("{}/", directory.path().display()), "")
}

/// The start with `from` replaced.
pub(super) fn with(from: &str, to: &str) -> String {
    assert!(START.contains(from), "{from}");
    START.replace(from, to)
}

/// The start of the documentation loads, and leaves the rest to the defaults.
#[test]
fn seven_lines_are_enough() {
    let settings = settings(START);
    assert_eq!(settings.public_url.as_str(), "https://portal.example.com/");
    assert!(!settings.loopback_http && settings.warnings.is_empty());
    assert_eq!(settings.drain, Duration::from_secs(5));
    assert_eq!(
        settings.sessions,
        SessionSettings { idle: Duration::from_secs(1800), absolute: Duration::from_secs(28_800) }
    );
    assert_eq!(settings.audit, AuditSettings { mode: AuditMode::BestEffort, segment: 64 << 20 });
    let [provider] = settings.providers.as_slice() else { panic!("one provider") };
    assert_eq!(provider.client_secret.expose_secret(), "hunter2");
    assert_eq!(provider.scopes, ["openid", "profile", "email"]);
    assert_eq!((provider.title.as_str(), provider.groups_claim.as_str()), ("GitLab", "groups"));
    assert_eq!(provider.membership_refresh, Duration::from_secs(60));
    let [route] = settings.routes.as_slice() else { panic!("one route") };
    assert_eq!((&*route.path, &*route.audience, &*route.upstream.authority), ("/", "backstage", "127.0.0.1:7007"));
    assert_eq!(route.host.to_string(), "portal.example.com");
    assert_eq!(&*route.providers, std::slice::from_ref(&provider.name));
    assert_eq!(route.header_provider, Some(provider.name.clone()));
    let group = GroupPattern::Tree(provider.name.clone(), "acme".parse().expect("a group path"));
    assert_eq!(route.allow, [Allow::Groups(group)]);
}

#[test]
fn every_key_of_this_version_loads() {
    let settings = settings(FULL);
    assert_eq!(settings.listen.len(), 2);
    assert_eq!(settings.trusted_proxies.len(), 3);
    assert_eq!(settings.providers[1].client_id, "0123");
    assert_eq!(settings.providers[1].scopes, ["openid", "profile", "email", "groups", "offline_access"]);
    assert_eq!(settings.providers[1].membership_refresh, Duration::from_secs(300));
    let route = &settings.routes[1];
    assert_eq!((&*route.path, route.host.to_string().as_str(), route.exact), ("/v1/", "portal.example.com", true));
    assert_eq!(&*route.upstream.authority, "10.0.0.7:80");
    assert_eq!(route.labels["level"], "3");
    assert_eq!(*route.origins, ["https://ide.example.com".to_owned()]);
    assert_eq!(route.timeouts.connect, Duration::from_millis(500));
    assert_eq!(settings.routes[0].errors, ErrorBody::Backstage);
    assert_eq!(settings.audit.mode, AuditMode::Required);
}

#[test]
fn plain_http_on_loopback_is_said_at_start() {
    let text =
        with("https://portal.example.com", "http://portal.localhost:8080").replace("0.0.0.0:8080", "127.0.0.1:8080");
    let settings = settings(&text);
    assert!(settings.loopback_http);
    assert!(settings.warnings[0].ends_with(
        "vestibule.yaml:1:13: plain http on loopback: cookies go without `Secure`, for trying things out only"
    ));
}

#[test]
fn a_second_host_is_said_at_start() {
    let settings = settings(&with("upstream:", "host: api.example.com, upstream:"));
    assert!(settings.warnings[0].ends_with(
        "vestibule.yaml:7:30: people sign in on the host of `public_url` only in this version: on `api.example.com` nobody has a session"
    ));
}

#[test]
fn a_misspelt_variable_of_ours_is_a_mistake() {
    let directory = place();
    let mut environment = environment();
    environment.insert("VESTIBULE_LGO".to_owned(), "debug".to_owned());
    environment.insert("VESTIBULE_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned());
    environment.insert("VESTIBULE_PORT_8080_TCP".to_owned(), "tcp://10.0.0.1:8080".to_owned());
    environment.insert("VESTIBULE_SECRET".to_owned(), "hunter4".to_owned());
    let file = directory.path().join("vestibule.yaml");
    let text = with("{ file: secrets/gitlab }", "{ env: VESTIBULE_SECRET }");
    let errors = parse(text.as_bytes(), &file, &environment).expect_err("a mistake");
    assert_eq!(
        errors.to_string(),
        "error: the environment variable `VESTIBULE_LGO` is not known\n |\n = help: did you mean `VESTIBULE_LOG`?"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = load(Path::new("/nowhere/vestibule.yaml")).expect_err("no file");
    assert_eq!(
        errors.to_string(),
        "error: cannot read the configuration `/nowhere/vestibule.yaml`: No such file or directory (os error 2)\n |\n \
         = help: name the file with `-c FILE` or `VESTIBULE_CONFIG`"
    );
}

#[test]
fn a_mistake_knows_its_key_and_position() {
    let directory = place();
    let errors = read_in(directory.path(), &with("allow:", "alow:")).expect_err("a mistake");
    let [error] = errors.all() else { panic!("one mistake") };
    assert_eq!((error.key.as_str(), error.position), ("routes[0].alow", Some((7, 59))));
}

/// What is shown as the effective configuration is a configuration, and means the same.
#[test]
fn the_effective_configuration_means_the_same() {
    let directory = place();
    for text in [START, FULL] {
        let loaded = match read_in(directory.path(), text) {
            Ok(loaded) => loaded,
            Err(errors) => panic!("{errors}"),
        };
        let shown = serde_saphyr::to_string(&show::effective(&loaded.settings, &loaded.written)).expect("YAML");
        assert!(!shown.contains("hunter"), "{shown}");
        let again = match read_in(directory.path(), &shown) {
            Ok(again) => again.settings,
            Err(errors) => panic!("{errors}\n{shown}"),
        };
        let means = |settings: &Settings| format!("{:?}", Settings { digest: String::new(), ..settings.clone() });
        assert_eq!(means(&again), means(&loaded.settings));
        assert!(!means(&again).contains("hunter"));
    }
}

/// Every key of the schema, as a path, is described in the documentation, and nothing else is.
#[test]
fn the_documentation_has_every_key() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let documented: Vec<_> = rows.map(|(key, _)| key.to_owned()).collect();
    let mut known = Vec::new();
    keys(&schema(), &schema(), "", &mut known);
    let missing: Vec<_> = known.iter().filter(|key| !documented.contains(key)).collect();
    let extra: Vec<_> = documented.iter().filter(|key| !known.contains(key)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "not described: {missing:?}, not known: {extra:?}");
}

/// Gathers `routes[].timeouts.connect` and the like.
fn keys(root: &serde_json::Value, schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema.get("$ref").and_then(|it| it.as_str()) {
        return keys(root, root.pointer(&reference[1..]).expect("a definition"), path, found);
    }
    for branch in schema.get("anyOf").and_then(|it| it.as_array()).into_iter().flatten() {
        keys(root, branch, path, found);
    }
    if let Some(items) = schema.get("items") {
        keys(root, items, &format!("{path}[]"), found);
    }
    for (key, schema) in schema.get("properties").and_then(|it| it.as_object()).into_iter().flatten() {
        let path = tree::below(path, key);
        found.push(path.clone());
        keys(root, schema, &path, found);
    }
}

#[test]
fn the_schema_describes_every_key_and_says_its_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Vestibule configuration");
    let text = schema.to_string();
    assert!(!text.contains("\"null\"") && !text.contains("\"default\":null"), "{schema:#}");
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let described = property.get("description").is_some();
            assert!(described, "{name}.{key}");
        }
    }
}

/// Cuts, doubles, moves and replaces pieces of a good configuration.
fn mutated() -> impl Strategy<Value = String> {
    let edit = (
        0..FULL.len(),
        0..40_usize,
        0..FULL.len(),
        "[ -~\n\u{e9}]{0,6}|\\$\\{A\\}|&a |\\*a|: |<<: |!x |\u{feff}|\r\n|\t|~",
    );
    prop::collection::vec(edit, 1..5).prop_map(|edits| {
        edits.into_iter().fold(FULL.to_owned(), |text, (at, length, from, put)| {
            let cut = |at: usize| text.floor_char_boundary(at.min(text.len()));
            let (start, end) = (cut(at), cut(at + length));
            let piece = if put.is_empty() { &text[cut(from)..cut(from + length).max(cut(from))] } else { put.as_str() };
            format!("{}{piece}{}", &text[..start], &text[end..])
        })
    })
}

fn try_all(bytes: &[u8]) {
    if let Err(errors) = parse(bytes, Path::new("/nowhere/vestibule.yaml"), &environment()) {
        assert!(!errors.all().is_empty());
        assert!(!errors.render(false).is_empty() && !errors.render(true).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        try_all(&bytes);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]{}:,\\-#&*!|>'\"%@`~ \n\ta-c\u{e9}\u{1f600}\u{feff}\r]{0,80}") {
        try_all(text.as_bytes());
    }

    #[test]
    fn no_slip_makes_it_panic(text in mutated()) {
        try_all(text.as_bytes());
    }

    /// Whatever else is wrong, a literal secret is not shown.
    #[test]
    fn no_slip_shows_a_literal_secret(at in 0..400_usize, put in "[ \\]\\[{}:,#\"'\n-]{0,3}") {
        let text = START.replace("{ file: secrets/gitlab }", "sesame-hunter2");
        let at = text.floor_char_boundary(at.min(text.find("client_secret").unwrap_or(0)));
        let text = format!("{}{put}{}", &text[..at], &text[at..]);
        if let Err(errors) = parse(text.as_bytes(), Path::new("/nowhere/vestibule.yaml"), &environment()) {
            prop_assert!(!errors.render(false).contains("hunter2"), "{}", errors);
        }
    }
}

#[test]
fn deep_nesting_is_a_mistake_and_not_a_crash() {
    for piece in ["[", "{a: ", "- ", "? ", "a: &a [*a, ", "secret: {}, ", "a\n- "] {
        for count in [30, 70, 300, 20_000] {
            try_all(piece.repeat(count).as_bytes());
        }
    }
    let errors = parse("- ".repeat(1000).as_bytes(), Path::new("a.yaml"), &environment()).expect_err("a mistake");
    assert_eq!(errors.all()[0].expected, "nested too deeply");
}
