//! Whole configurations: what loads, and what every mistake looks like.

use super::*;
use crate::{
    route::{ErrorBody, HostHeader},
    upstream::UpstreamSettings,
};
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

/// Every key that this version has.
const FULL: &str = super::describe::EXAMPLE;

/// A directory with the secrets and policies that the samples name.
fn place() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    for name in ["secrets", "policies", "tls"] {
        fs::create_dir(directory.path().join(name)).expect("a writable directory");
    }
    for (name, text) in certificates() {
        let path = directory.path().join("tls").join(name);
        fs::write(&path, text).expect("a writable file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
    }
    fs::write(directory.path().join("tls/keys.json"), KEYS).expect("a writable file");
    for (name, text) in [
        ("gitlab", "hunter2\n"),
        ("gitlab_api", "glpat-7\n"),
        ("audit", "hunter3\n"),
        ("empty", "\n"),
        ("words", "Bearer hunter2\n"),
        ("blank", "hunter2 \n"),
        ("hook", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"),
    ] {
        let path = directory.path().join("secrets").join(name);
        fs::write(&path, text).expect("a writable file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
    }
    directory
}

/// A JWK set with a public key that nobody has the private half of.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"p","alg":"ES256","use":"sig",
    "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// An authority, our certificate and key, a key of somebody else, and what is none of these.
fn certificates() -> &'static [(&'static str, String)] {
    static FILES: std::sync::LazyLock<Vec<(&str, String)>> = std::sync::LazyLock::new(|| {
        let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        let listener = |name: &str| {
            let names = vec![format!("{name}.example.com"), format!("*.{name}.example.com")];
            rcgen::generate_simple_self_signed(names).expect("a certificate")
        };
        let (portal, apps) = (listener("portal"), listener("apps"));
        let (ca, us, other) = (made("ca.test"), made("us.test"), made("other.test"));
        vec![
            ("ca.pem", ca.cert.pem()),
            ("us.pem", us.cert.pem()),
            ("us.key", us.signing_key.serialize_pem()),
            ("other.key", other.signing_key.serialize_pem()),
            ("portal.pem", portal.cert.pem()),
            ("portal.key", portal.signing_key.serialize_pem()),
            ("apps.pem", apps.cert.pem()),
            ("apps.key", apps.signing_key.serialize_pem()),
            ("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()),
            (
                "locked.key",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n".to_owned(),
            ),
            ("text.pem", "no certificate\n".to_owned()),
            ("cut.pem", ca.cert.pem() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ]
    });
    &FILES
}

fn environment() -> Environment {
    [("OKTA_SECRET", "hunter3"), ("VESTIBULE_LOG", "info"), ("PATH", "/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn read_in(directory: &Path, text: &str) -> Result<Loaded, ConfigErrors> {
    parse(text.as_bytes(), &directory.join("vestibule.yaml"), &environment())
}

/// The settings of a text that stands where all the files of the samples are.
pub(super) fn settings_in_place(text: &str) -> Settings {
    settings(text)
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
        SessionSettings {
            idle: Duration::from_secs(1800),
            absolute: Duration::from_secs(28_800),
            grace: Duration::ZERO
        }
    );
    assert_eq!(settings.audit, AuditSettings::for_test(64 << 20));
    let [provider] = settings.providers.as_slice() else { panic!("one provider") };
    assert_eq!(provider.client_secret.expose_secret(), "hunter2");
    assert_eq!(provider.scopes, ["openid", "profile", "email"]);
    assert_eq!((provider.title.as_str(), provider.groups_claim.as_deref()), ("GitLab", Some("groups")));
    assert_eq!(provider.membership_refresh, Duration::from_secs(60));
    let [route] = settings.routes.as_slice() else { panic!("one route") };
    assert_eq!((&*route.path, &*route.audience), ("/", "backstage"));
    assert_eq!(route.upstream.settings, UpstreamSettings::plain("127.0.0.1:7007"));
    assert_eq!((route.strip_path, &route.host_header), (false, &HostHeader::Preserve));
    assert_eq!(route.host.to_string(), "portal.example.com");
    assert_eq!(&*route.providers, std::slice::from_ref(&provider.name));
    assert_eq!(route.header_provider, Some(provider.name.clone()));
    let group = GroupPattern::Tree(provider.name.clone(), "acme".parse().expect("a group path"));
    assert_eq!(route.allow, [Allow::Groups(group)]);
}

#[test]
fn every_key_of_this_version_loads() {
    let settings = settings(FULL);
    assert_eq!(settings.listen.len(), 5);
    assert_eq!(settings.files.len(), 21, "{:?}", settings.files);
    let tls = settings.listen[2].tls.as_ref().expect("TLS");
    assert_eq!((tls.minimum, tls.certificates.len()), (TlsVersion::Tls13, 2));
    assert_eq!(tls.certificates[1].names, ["apps.example.com", "*.apps.example.com"]);
    assert!(tls.clients.as_ref().is_some_and(|clients| !clients.required));
    assert_eq!(settings.listen[4].at, ListenAt::Systemd(Some("portal".into())));
    assert_eq!(settings.limits, LimitSettings { connections: 500, connections_per_address: 50 });
    let cors = settings.routes[0].cors.as_ref().expect("cors");
    assert!(cors.credentials && cors.max_age == Duration::from_secs(3600) && cors.methods == ["GET", "PUT"]);
    assert_eq!(settings.trusted_proxies.len(), 3);
    assert_eq!(settings.providers[2].client_id, "0123");
    assert_eq!(settings.providers[2].scopes, ["openid", "profile", "email", "groups", "offline_access"]);
    assert_eq!(settings.providers[2].membership_refresh, Duration::from_secs(300));
    let route = &settings.routes[1];
    assert_eq!((&*route.path, route.host.to_string().as_str(), route.exact), ("/v1/", "portal.example.com", true));
    assert_eq!(route.upstream.settings.places[0].to_string(), "10.0.0.7:80");
    assert_eq!((route.strip_path, &route.host_header), (true, &HostHeader::Upstream));
    assert_eq!(route.labels["level"], "3");
    assert_eq!(*route.origins, ["https://ide.example.com".to_owned()]);
    assert_eq!(route.timeouts.connect, Duration::from_millis(500));
    assert_eq!(settings.routes[0].errors, ErrorBody::Backstage);
    let upstream = &settings.routes[0].upstream.settings;
    assert_eq!((upstream.places.len(), upstream.http2, upstream.connections, upstream.retries), (2, true, 64, 1));
    assert_eq!((upstream.scheme(), upstream.slow_start), ("https", Duration::from_secs(30)));
    let health = upstream.health.as_ref().expect("health checks");
    assert_eq!((health.path.as_str(), health.host.as_deref()), ("/healthz?full", Some("portal.internal")));
    assert_eq!((health.interval, health.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
    assert_eq!((health.healthy, health.unhealthy), (3, 1));
    let tls = upstream.tls.as_ref().expect("TLS");
    assert!(tls.source.ca.as_ref().is_some_and(|path| path.ends_with("tls/ca.pem") && path.is_absolute()));
    assert_eq!(settings.audit.mode, AuditMode::Required);
    let kept = Retention { age: Some(Duration::from_secs(400 * 86_400)), size: Some(2 << 30) };
    assert_eq!(settings.audit.retention, kept);
}

/// A retention that says nothing is a slip, and a wrong size of segments is no second mistake.
#[test]
fn retention_says_how_much_is_kept() {
    let said = mistakes(&format!("{START}audit: {{ retention: {{}} }}\n"));
    assert!(said.contains("expected `age`, `size` or both"), "{said}");
    let said = mistakes(&format!("{START}audit: {{ segment: 1KiB, retention: {{ size: 1MiB }} }}\n"));
    assert!(said.contains("`audit.segment`") && !said.contains("audit.retention.size"), "{said}");
}

/// What retention keeps is never less than what is needed to look back.
#[test]
fn retention_that_keeps_too_little_is_refused() {
    let said = mistakes(&format!("{START}audit: {{ segment: 1GiB, retention: {{ age: 2h, size: 1GiB }} }}\n"));
    for expected in [
        "`audit.retention.age` is `2h`",
        "expected a duration of at least `1d`",
        "expected at least two segments of `audit.segment`: `2GiB`",
    ] {
        assert!(said.contains(expected), "{said}");
    }
}

/// What ends TLS itself needs nobody in front.
#[test]
fn a_listener_with_tls_needs_no_trusted_proxies() {
    let tls = "listen:\n  - { address: 0.0.0.0:8443, tls: { certificate: tls/portal.pem, key: tls/portal.key } }";
    let text = with("trusted_proxies: [10.0.0.0/8]\n", "").replace("listen: 0.0.0.0:8080", tls);
    let settings = settings(&text);
    assert!(settings.trusted_proxies.is_empty() && settings.warnings.is_empty(), "{:?}", settings.warnings);
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

/// S-107: turning verification off has `insecure` in its name, and is said at every start.
#[test]
fn s107_an_upstream_that_is_not_verified_is_said_at_start() {
    let upstream = "upstream: { urls: [\"https://10.0.0.7\"], tls: { insecure_skip_verify: true } }";
    let settings = settings(&with("upstream: \"http://127.0.0.1:7007\"", upstream));
    assert!(settings.warnings[0].ends_with(
        "vestibule.yaml:7:93: the upstream is not verified: whoever answers in its place gets every request, identities and credentials with it"
    ), "{:?}", settings.warnings);
}

/// The same text twice is the same upstream; another file behind the same name is another.
#[test]
fn upstreams_are_compared_by_what_they_mean() {
    let directory = place();
    let read = || match read_in(directory.path(), FULL) {
        Ok(loaded) => loaded.settings.routes[0].upstream.settings.clone(),
        Err(errors) => panic!("{errors}"),
    };
    let before = read();
    assert_eq!(read(), before);
    fs::write(directory.path().join("tls/ca.pem"), &certificates()[1].1).expect("a writable file");
    assert_ne!(read(), before);
}

#[test]
fn a_socket_and_names_are_upstreams() {
    for (text, shown) in [
        ("unix:/run/portal.sock", "/run/portal.sock"),
        ("http://portal.internal", "portal.internal:80"),
        ("http://[::1]:7007", "[::1]:7007"),
    ] {
        let settings = settings(&with("http://127.0.0.1:7007", text));
        assert_eq!(settings.routes[0].upstream.settings.places[0].to_string(), shown);
    }
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

/// P61: a word that is no level would name a module, and log what nobody meant.
#[test]
fn p61_a_level_that_is_none_is_a_mistake() {
    let directory = place();
    let mut environment = environment();
    environment.insert("VESTIBULE_LOG".to_owned(), "deubg".to_owned());
    let errors =
        parse(START.as_bytes(), &directory.path().join("vestibule.yaml"), &environment).expect_err("a mistake");
    assert_eq!(
        errors.to_string(),
        "error: the environment variable `VESTIBULE_LOG` is `deubg`\n |\n = help: did you mean `debug`?"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let errors = load(Path::new("/nowhere/vestibule.yaml")).expect_err("no file");
    assert_eq!(
        errors.to_string(),
        "error: cannot read the configuration `/nowhere/vestibule.yaml`: No such file or directory (os error 2)\n |\n \
         = help: name the file with `-c FILE` or `VESTIBULE_CONFIG`, or write one with `vestibule init`"
    );
}

#[test]
fn a_mistake_knows_its_key_and_position() {
    let directory = place();
    let errors = read_in(directory.path(), &with("allow:", "alow:")).expect_err("a mistake");
    let [error] = errors.all() else { panic!("one mistake") };
    assert_eq!((error.key.as_str(), error.position), ("routes[0].alow", Some((7, 59))));
}

/// In a record, mistakes are one line: where the first is, what it is, and how many more there are.
#[test]
fn mistakes_are_told_on_one_line_too() {
    let directory = place();
    let shown = format!("{}/", directory.path().display());
    let line = |text: &str| {
        let mistakes = read_in(directory.path(), text).expect_err("a mistake").mistakes();
        assert!(mistakes.whole.lines().count() > 3, "{}", mistakes.whole);
        mistakes.line.replace(&shown, "")
    };
    let one = with("allow:", "alow:");
    assert_eq!(line(&one), "vestibule.yaml:7:59: `routes[0].alow` is not a known key");
    let two = line(&format!("{one}nothing: 1\nelse: 2\n"));
    assert_eq!(two, "vestibule.yaml:7:59: `routes[0].alow` is not a known key, and 2 more mistakes");
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
        let said = |warning: &String| warning.splitn(4, ':').last().unwrap_or_default().to_owned(); // without its place
        let means = |settings: &Settings| {
            let warnings = settings.warnings.iter().map(said).collect();
            format!("{:?}", Settings { digest: String::new(), warnings, ..settings.clone() })
        };
        assert_eq!(means(&again), means(&loaded.settings));
        assert!(!means(&again).contains("hunter"));
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
