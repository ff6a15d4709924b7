//! The first ten minutes: `init`, `check --live`, `run`.

use crate::support::{
    gateway::{Gateway, free_port, program},
    person::Person,
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    tls::Authority,
    upstream::Upstream,
};
use rcgen::CertificateParams;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

/// Runs the program: exit code, output, errors.
async fn run(at: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let (mut command, input) = (program(), input.to_owned());
    command.current_dir(at).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("it runs");
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes()); // it may not read
        child.wait_with_output().expect("it ends")
    });
    let output = ran.await.expect("ran");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

/// A newcomer's way: flags, a secret, and people sign in. Nothing is written by looking.
#[tokio::test]
async fn p62_init_check_and_run_lead_to_a_sign_in() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let (port, up) = (free_port(), format!("http://127.0.0.1:{}", upstream.port));
    let public_url = format!("http://127.0.0.1:{port}");
    let flags = ["init", "--public-url", &public_url, "--issuer", &provider.issuer];
    let more = ["--client-id", CLIENT_ID, "--upstream", &up, "--allow", "gitlab:platform/**", "--secret-file", "-"];
    let all: Vec<&str> = flags.into_iter().chain(more).collect();
    let (code, out, err) = run(at, &all, &format!("{CLIENT_SECRET}\n")).await;
    assert_eq!(code, 0, "{err}");
    let expected = format!(
        "Written:
  vestibule.yaml
  policies/portal.cedar
  policies/tests/portal.yaml
  policies/vestibule.cedarschema
  secrets/gitlab

Next:
  1. At GitLab: Settings of your group, or the Admin area, then Applications, Add new application
       Redirect URI   {public_url}/.vestibule/callback/gitlab
       Confidential   yes
       Scopes         openid, profile, email
  2. vestibule check --live
  3. vestibule run
"
    );
    assert_eq!(out, expected);
    assert!(!err.contains(CLIENT_SECRET));
    assert_eq!((mode(&at.join("secrets")), mode(&at.join("secrets/gitlab"))), (0o700, 0o600));
    let (code, _, err) = run(at, &all, CLIENT_SECRET).await;
    let there = "error: `vestibule.yaml`, `policies` are there already, and nothing is overwritten: move it away, or write elsewhere with `--dir`\n";
    assert_eq!((code, err.as_str()), (2, there));
    assert_eq!(run(at, &["check"], "").await.0, 0);
    let (code, out, _) = run(at, &["check", "--live"], "").await;
    assert_eq!(code, 0, "{out}");
    assert!(out.ends_with("live: 12 ok, 0 warnings, 0 failures\n"), "{out}");
    assert!(!at.join("state").exists() && !at.join("keys").exists(), "nothing was written");
    let gateway = Gateway::of(directory, port).await;
    let begins = async || gateway.get("/.vestibule/sign-in/gitlab", &[]).await.status == 302;
    gateway.until("the provider is discovered", begins).await;
    let page = gateway.get("/", &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"]).await;
    assert_eq!(page.status, 302, "{}", page.text());
    let (code, out, _) = run(gateway.directory.path(), &["check", "--live"], "").await;
    assert_eq!(code, 0, "{out}");
    for line in
        ["is held by the running process\n", &*format!("`127.0.0.1:{port}`: the running process listens there\n")]
    {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let mut alice = Person::default();
    let end = alice.go(&gateway, &provider, &format!("{public_url}/a/b?c=d#e"), "alice").await;
    assert_eq!((end.answer.status, end.url.as_str()), (200, &*format!("{public_url}/a/b?c=d#e")));
}

/// P62: who cannot be asked is told what is missing, and what is wrong with what was said.
#[tokio::test]
async fn p62_init_says_what_is_missing_or_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let missing = "flags are missing: --public-url, --issuer, --client-id, --upstream, --allow\n";
    let cases: [(&[&str], &str); 7] = [
        (&["init"], &format!("error: nobody can be asked here: this is no terminal, and {missing}")),
        (&["init", "--yes"], &format!("error: with `--yes` or `--json` nothing is asked, and {missing}")),
        (
            &["init", "--yes", "--allow", "public"],
            "error: with `--yes` or `--json` nothing is asked, and flags are missing: --public-url, --kind, --issuer, --client-id, --upstream\n",
        ),
        (
            &["init", "--public-url", "portal"],
            "error: --public-url: `public_url` is `portal`, expected an origin, such as `https://portal.example.com`: it begins with `https://` or `http://`\n",
        ),
        (
            &["init", "--kind", "okta", "--allow", "acme"],
            "error: --allow: `allow[0]` is `acme`, expected `public`, `signed-in`, `PROVIDER:group` or `PROVIDER:group/**`: a group is written with its provider: `okta:acme`\n",
        ),
        (
            &["init", "--secret-file", "none"],
            "error: --secret-file: `client_secret.file` is `none`, expected a file with the secret: there is no file `HERE/none`: create it with mode 0600\n",
        ),
        (
            &["-c", "other.yaml", "init"],
            "error: `init` writes `vestibule.yaml` into the directory that `--dir` names: leave out `-c` and `VESTIBULE_CONFIG`\n",
        ),
    ];
    for (arguments, said) in cases {
        let (code, out, err) = run(at, arguments, "").await;
        let here = fs::canonicalize(at).expect("there").display().to_string();
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", &*said.replace("HERE", &here)));
    }
    assert_eq!(fs::read_dir(at).expect("there").count(), 0, "nothing is written");
}

/// A configuration that is well; tests change one thing of it.
struct Scene {
    provider: Provider,
    upstream: Upstream,
    directory: tempfile::TempDir,
    port: u16,
}

impl Scene {
    async fn new() -> Option<Self> {
        let provider = Gateway::provider(&[])?;
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in [("secret", CLIENT_SECRET), ("wrong", "not-the-secret")] {
            fs::write(directory.path().join(name), text).expect("written");
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o600)).expect("own file");
        }
        Some(Self { provider, upstream: Upstream::start().await, directory, port: free_port() })
    }

    fn text(&self) -> String {
        format!(
            "public_url: http://127.0.0.1:{port}\nlisten: 127.0.0.1:{port}\nproviders:\n  - name: gitlab\n    kind: gitlab\n    \
             issuer: {issuer}\n    client_id: {CLIENT_ID}\n    client_secret: {{ file: secret }}\nroutes:\n  - name: app\n    \
             upstream: {{ urls: [\"http://127.0.0.1:{up}\"], health: /health }}\n    allow: [\"gitlab:platform\"]\n",
            port = self.port,
            issuer = self.provider.issuer,
            up = self.upstream.port,
        )
    }

    /// The exit code of `check --live`, and the lines of what was asked, without the folder's name.
    async fn look(&self, text: &str) -> (i32, Vec<String>) {
        let at = self.directory.path();
        fs::write(at.join("vestibule.yaml"), text).expect("written");
        let (code, out, err) = run(at, &["check", "--live"], "").await;
        let words = ["ok  ", "warning  ", "FAIL", "skipped", "live:"];
        let lines = out.lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
        assert!(out.contains("live: "), "{out}{err}");
        (code, lines.map(|line| line.replace("./vestibule.yaml", "vestibule.yaml")).collect())
    }

    /// With one thing changed, this line is there in place of a good one.
    async fn fails(&self, from: &str, to: &str, line: &str) {
        let text = self.text();
        assert!(text.contains(from), "{from}");
        let (code, lines) = self.look(&text.replace(from, to)).await;
        assert!(code == 1 && lines.iter().any(|one| one == line), "{line}\n---\n{}", lines.join("\n"));
    }
}

/// P62: everything that is asked has one line: how it stands, where it is written, what was found.
#[tokio::test]
async fn p62_everything_that_is_asked_has_a_line() {
    let Some(scene) = Scene::new().await else { return };
    let (code, lines) = scene.look(&scene.text()).await;
    let (port, issuer, up) = (scene.port, &scene.provider.issuer, scene.upstream.port);
    let expected = [
        format!("ok       vestibule.yaml:6: provider `gitlab`, discovery: the document is for `{issuer}`, and its endpoints can be used"),
        "ok       vestibule.yaml:6: provider `gitlab`, code flow: with PKCE by S256; answers carry no `iss`, as at many providers".into(),
        "ok       vestibule.yaml:6: provider `gitlab`, signing keys: 1 of 1 can be used (RS256)".into(),
        "ok       vestibule.yaml:7: provider `gitlab`, client id and redirect URI: accepted (nobody is signed in: `login_required`)".into(),
        "ok       vestibule.yaml:8: provider `gitlab`, client secret: accepted (a code that nobody gave is refused: `invalid_grant`)".into(),
        "ok       vestibule.yaml:4: provider `gitlab`, scopes: `openid profile email` are offered".into(),
        "ok       vestibule.yaml:4: provider `gitlab`, groups claim: `groups` is offered".into(),
        "ok       vestibule.yaml:6: provider `gitlab`, clock: 0 s from ours".into(),
        "ok       vestibule.yaml:1: session store: `./state/sessions.redb` will be made at the first start".into(),
        "ok       vestibule.yaml:1: keys: `./keys` will be made at the first start".into(),
        format!("ok       vestibule.yaml:2: listen at `127.0.0.1:{port}`: free"),
        format!("ok       vestibule.yaml:11: route `app`, upstream `http://127.0.0.1:{up}`: connected to 127.0.0.1:{up}"),
        format!("ok       vestibule.yaml:11: route `app`, upstream `http://127.0.0.1:{up}`: `/health` answered 200 OK"),
        "skipped  vestibule.yaml:9: provider `gitlab`, groups that policies name: `platform`: not checked, which `membership.api` would do: compare the spelling".into(),
        "live: 13 ok, 0 warnings, 0 failures".into(),
    ];
    assert_eq!((code, lines.join("\n")), (0, expected.join("\n")));
    let (_, out, _) = run(scene.directory.path(), &["check", "--live", "--json"], "").await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&told["ok"], told["live"].as_array().map(Vec::len)), (&json!(true), Some(14)));
    let secret = json!({
        "level": "ok", "line": 8, "key": "providers[0].client_secret", "what": "provider `gitlab`, client secret",
        "message": "accepted (a code that nobody gave is refused: `invalid_grant`)", "help": null,
    });
    assert_eq!(told["live"][4], secret);
    assert_eq!(fs::read_dir(scene.directory.path()).expect("there").count(), 3, "nothing is written");
}

/// P62: every fault of a provider has its line, with what to do.
#[tokio::test]
async fn p62_every_fault_of_a_provider_has_its_line() {
    let Some(scene) = Scene::new().await else { return };
    let (issuer, port, dead) = (&scene.provider.issuer, scene.port, format!("http://127.0.0.1:{}", free_port()));
    let (of, wrong) = (|line: &str| format!("FAIL     vestibule.yaml:{line}"), format!("issuer: {issuer}/"));
    let register = format!(
        "register `http://127.0.0.1:{port}/.vestibule/callback/gitlab` at the provider, character by character"
    );
    scene
        .fails(
            &format!("issuer: {issuer}"),
            &wrong,
            &of(&format!("6: provider `gitlab`, discovery: its discovery document is for issuer `{issuer}`, expected `{issuer}/`: if that is the right place, write `issuer: {issuer}`")),
        )
        .await;
    scene
        .fails(
            &format!("issuer: {issuer}"),
            &format!("issuer: {dead}"),
            &of(&format!("6: provider `gitlab`, discovery: `{dead}`: client error (Connect): tcp connect error: Connection refused (os error 111); this machine must be able to read `{dead}/.well-known/openid-configuration`")),
        )
        .await;
    scene
        .fails(
            &format!("issuer: {issuer}"),
            &format!("issuer: {issuer}/nothing/here"),
            &of(&format!("6: provider `gitlab`, discovery: there is nothing at `{issuer}/nothing/here/.well-known/openid-configuration` (404); is `issuer` right?")),
        )
        .await;
    scene
        .fails(
            &format!("client_id: {CLIENT_ID}"),
            "client_id: nobody",
            &of("7: provider `gitlab`, client id: not accepted: invalid_client: client is invalid; copy the client id from the provider's page of this application"),
        )
        .await;
    scene
        .fails(
            "file: secret",
            "file: wrong",
            &of("8: provider `gitlab`, client secret: not accepted: invalid_client: client authentication failed; copy the secret of this client id from the provider anew"),
        )
        .await;
    scene
        .fails(
            "public_url: http://127.0.0.1",
            "public_url: http://localhost",
            &of(&format!("4: provider `gitlab`, redirect URI: not accepted: invalid_redirect_uri: redirect_uri did not match any of the client's registered redirect_uris; {}", register.replace("127.0.0.1", "localhost"))),
        )
        .await;
    scene.provider.fault("/oauth/discovery/keys", json!({ "status": 500, "times": 1 })).await;
    scene
        .fails(
            "kind: gitlab",
            "kind: gitlab",
            &of(&format!("6: provider `gitlab`, signing keys: `{issuer}` answered 500 Internal Server Error; nobody can sign in without keys: look at `{issuer}/oauth/discovery/keys`")),
        )
        .await;
    scene.provider.fault("/oauth/discovery/keys", json!({ "body": { "keys": [] }, "status": 200, "times": 1 })).await;
    scene
        .fails(
            "kind: gitlab",
            "kind: gitlab",
            &of(&format!("6: provider `gitlab`, signing keys: its key set has no usable key; nobody can sign in without keys: look at `{issuer}/oauth/discovery/keys`")),
        )
        .await;
    scene.provider.fault("/oauth/token", json!({ "status": 503, "times": 1 })).await;
    scene
        .fails(
            "kind: gitlab",
            "kind: gitlab",
            &of(&format!(
                "8: provider `gitlab`, client secret: cannot be tried: `{issuer}` answered 503 Service Unavailable"
            )),
        )
        .await;
}

/// P62: every fault of this machine and of upstreams has its line, with what to do.
#[tokio::test]
async fn p62_every_fault_of_this_machine_and_of_upstreams_has_its_line() {
    let Some(scene) = Scene::new().await else { return };
    let (up, dead) = (scene.upstream.port, free_port());
    let (of, here) = (|line: &str| format!("FAIL     vestibule.yaml:{line}"), format!("http://127.0.0.1:{up}"));
    let there = format!("http://127.0.0.1:{dead}");
    scene
        .fails(
            &here,
            &there,
            &of(&format!("11: route `app`, upstream `{there}`: cannot connect to `127.0.0.1:{dead}`: Connection refused (os error 111); start the upstream, or correct its URL")),
        )
        .await;
    scene
        .fails(
            "/health",
            "/status/500",
            &of(&format!("11: route `app`, upstream `{here}`: `/status/500` answered 500 Internal Server Error; a request would find it out of service: correct the path, or mend the upstream")),
        )
        .await;
    scene
        .fails(
            &here,
            "http://nowhere.invalid",
            &of("11: route `app`, upstream `http://nowhere.invalid`: cannot be resolved: failed to lookup address information: Name or service not known; correct the name, or the resolver of this machine"),
        )
        .await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let held = holder.local_addr().expect("an address");
    scene
        .fails(
            &format!("listen: 127.0.0.1:{}", scene.port),
            &format!("listen: {held}"),
            &of(&format!(
                "2: listen at `{held}`: something else listens there; stop what listens there, or change the address"
            )),
        )
        .await;
    fs::create_dir(scene.directory.path().join("state")).expect("made");
    fs::write(scene.directory.path().join("state/sessions.redb"), "not a store").expect("written");
    let (code, lines) = scene.look(&scene.text()).await;
    let store = of("1: session store: `./state/sessions.redb` cannot be opened: ");
    assert!(code == 1 && lines.iter().any(|line| line.starts_with(&store)), "{}", lines.join("\n"));
}

/// Where the provider ends sessions itself, what has to be registered for that is told.
#[tokio::test]
async fn what_signing_out_needs_at_the_provider_is_told() {
    let Some(provider) = Gateway::provider(&[("PROFILE", "oidc")]) else { return };
    let scene = Scene { provider, ..Scene::new().await.expect("another provider") };
    let (_, lines) = scene.look(&scene.text().replace("kind: gitlab", "kind: oidc")).await;
    let line = format!(
        "ok       vestibule.yaml:4: provider `gitlab`, sign-out: offered: register `http://127.0.0.1:{}/.vestibule/sign-out` there as post-logout redirect URI",
        scene.port
    );
    assert!(lines.contains(&line), "{line}\n---\n{}", lines.join("\n"));
}

/// What `check --live` lets pass, `run` can start with, as far as files are concerned: directories that belong to somebody else
/// are told by both, with the key of the configuration and what to do.
#[tokio::test]
async fn directories_of_somebody_else_are_told() {
    let Some(scene) = Scene::new().await else { return };
    let at = scene.directory.path();
    let mode = |name: &str, mode| fs::set_permissions(at.join(name), fs::Permissions::from_mode(mode)).expect("own");
    let root = fs::metadata("/proc/self").expect("there").uid() == 0;
    let copy = at.join("vestibule"); // somebody else may not enter the folder that it was built in
    if root {
        let built = program();
        fs::hard_link(built.get_program(), &copy)
            .or_else(|_| fs::copy(built.get_program(), &copy).map(|_| ()))
            .expect("copied");
        std::os::unix::fs::chown(at, Some(65_534), Some(65_534)).expect("root may");
        for name in ["secret", "wrong"] {
            std::os::unix::fs::chown(at.join(name), Some(65_534), Some(65_534)).expect("root may");
        }
    }
    for (key, said, cannot) in [
        (
            "state",
            "state directory: `./theirs` cannot be written to",
            "cannot open the session store `./theirs/sessions.redb`",
        ),
        ("keys", "keys: `./theirs` cannot be written to", "cannot use key file `./theirs/ring`"),
    ] {
        fs::create_dir(at.join("theirs")).expect("made");
        mode("theirs", 0o555);
        fs::write(at.join("vestibule.yaml"), format!("{}{key}: ./theirs\n", scene.text())).expect("written");
        let told = |arguments: &[&str]| {
            let mut command = if root { Command::new(&copy) } else { program() };
            command.current_dir(at).args(arguments).stdin(Stdio::null());
            if root {
                command.uid(65_534).gid(65_534);
            }
            let output = command.output().expect("it runs");
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat()
        };
        let denied = "Permission denied (os error 13)";
        let advice = format!("let the user that runs this own it, or change `{key}`");
        let out = told(&["check", "--live"]);
        assert!(out.contains(&format!(": {said}: {denied}; {advice}\n")), "{out}");
        let out = told(&["run"]);
        assert!(out.contains(&format!("error: {cannot}: {denied}: {advice}\n")), "{out}");
        mode("theirs", 0o755);
        fs::remove_dir(at.join("theirs")).expect("empty");
    }
}

/// Speaks TLS with this certificate, and says nothing more.
async fn speaks_tls(pair: &crate::support::tls::Pair) -> u16 {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let chain = vec![CertificateDer::from_pem_slice(pair.pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = acceptor.accept(stream).await; // the client decides whether it goes on
        }
    });
    port
}

/// P62, S-107: an upstream that does not prove itself has its line, and so have certificates of ours.
#[tokio::test]
async fn p62_certificates_are_looked_at() {
    let Some(scene) = Scene::new().await else { return };
    let (authority, up) = (Authority::new(), scene.upstream.port);
    let at = scene.directory.path();
    fs::write(at.join("ca.pem"), &authority.pem).expect("written");
    let long = format!("{{ urls: [\"http://127.0.0.1:{up}\"], health: /health }}");
    for (names, tls, said) in [
        (
            ["127.0.0.1"],
            "{ ca: ca.pem }",
            "ok       vestibule.yaml:11: route `app`, upstream `https://127.0.0.1:UP`: connected to 127.0.0.1:UP; its certificate is good",
        ),
        (
            ["127.0.0.1"],
            "{ insecure_skip_verify: true }",
            "warning  vestibule.yaml:11: route `app`, upstream `https://127.0.0.1:UP`: connected to 127.0.0.1:UP, and nobody verified who that is; write `tls.ca` in place of `insecure_skip_verify`",
        ),
        (
            ["other.test"],
            "{ ca: ca.pem }",
            "; write the name that its certificate is for in `upstream.tls.name`, if that name is to be trusted",
        ),
    ] {
        let port = speaks_tls(&authority.server(&names)).await;
        let text = scene.text().replace(&long, &format!("{{ urls: [\"https://127.0.0.1:{port}\"], tls: {tls} }}"));
        let (_, lines) = scene.look(&text).await;
        let said = said.replace("UP", &port.to_string());
        assert!(lines.iter().any(|line| line.ends_with(&said)), "{said}\n---\n{}", lines.join("\n"));
    }
    fs::write(at.join("ca.pem"), &Authority::new().pem).expect("written");
    let port = speaks_tls(&authority.server(&["127.0.0.1"])).await;
    let text =
        scene.text().replace(&long, &format!("{{ urls: [\"https://127.0.0.1:{port}\"], tls: {{ ca: ca.pem }} }}"));
    let (code, lines) = scene.look(&text).await;
    let said = "; name the authority that issued its certificate in `upstream.tls.ca`";
    assert!(
        code == 1 && lines.iter().any(|line| line.starts_with("FAIL") && line.ends_with(said)),
        "{}",
        lines.join("\n")
    );
}

/// P62: our own certificates: over, over soon, for other hosts; and a route that nobody may reach.
#[tokio::test]
async fn p62_our_own_certificates_are_looked_at() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    let day = |days: i64| {
        let span = Duration::from_secs(days.unsigned_abs() * 86_400);
        rcgen::date_time_ymd(1970, 1, 1) + if days < 0 { now - span } else { now + span }
    };
    let write = |name: &str, text: &str| {
        fs::write(at.join(name), text).expect("written");
        fs::set_permissions(at.join(name), fs::Permissions::from_mode(0o600)).expect("own file");
    };
    for (name, from, to) in [("over", -20, -10), ("soon", -20, 7), ("fine", -20, 70)] {
        let mut params = CertificateParams::new(vec![format!("{name}.example.com")]).expect("a name");
        (params.not_before, params.not_after) = (day(from), day(to));
        let key = rcgen::KeyPair::generate().expect("a key");
        write(&format!("{name}.pem"), &params.self_signed(&key).expect("a certificate").pem());
        write(&format!("{name}.key"), &key.serialize_pem());
    }
    write("secret", CLIENT_SECRET);
    write(
        "vestibule.yaml",
        "public_url: https://fine.example.com\nlisten:\n  - address: 127.0.0.1:0\n    tls:\n      certificates:\n        \
         - { certificate: fine.pem, key: fine.key }\n        - { certificate: soon.pem, key: soon.key }\n        \
         - { certificate: over.pem, key: over.key }\nproviders:\n  - { name: sso, kind: oidc, issuer: \"http://127.0.0.1:9\", \
         client_id: a, client_secret: { file: secret } }\nroutes:\n  - { name: portal, host: none.example.com, upstream: \
         \"http://127.0.0.1:9\" }\n  - { name: open, host: fine.example.com, upstream: \"http://127.0.0.1:9\", allow: [public] }\n",
    );
    let (code, out, _) = run(at, &["check"], "").await;
    assert_eq!(code, 0, "{out}");
    for said in [
        "warning: ./vestibule.yaml:4: no certificate of the listener 127.0.0.1:0 is for `none.example.com`: browsers refuse it there, and so do we\n",
        "warning: ./vestibule.yaml:12: nobody may reach the route `portal`; write `allow` there, or a `permit` with `resource == Route::\"portal\"`\n",
    ] {
        assert!(out.contains(said), "{said}\n{out}");
    }
    assert!(!out.contains("`fine.example.com`"), "{out}");
    let (code, out, _) = run(at, &["check", "--live"], "").await;
    assert_eq!(code, 1, "{out}");
    for (line, end) in [
        (
            "ok       ./vestibule.yaml:4: certificate `./fine.pem`: for fine.example.com; its key fits, and it is good until ",
            "",
        ),
        ("warning  ./vestibule.yaml:4: certificate `./soon.pem`: for soon.example.com; it ends on ", "; renew it"),
        ("FAIL     ./vestibule.yaml:4: certificate `./over.pem`: for over.example.com; it ended on ", "; renew it"),
    ] {
        assert!(out.lines().any(|one| one.starts_with(line) && one.ends_with(end)), "{line}\n{out}");
    }
}

/// P62: nothing is waited for longer than it takes to see that nobody answers.
#[tokio::test]
async fn p62_who_does_not_answer_is_not_waited_for() {
    let Some(scene) = Scene::new().await else { return };
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port"); // its queue takes connections, and nobody answers
    let address = silent.local_addr().expect("an address");
    let text = scene.text().replace(&format!("127.0.0.1:{}", scene.upstream.port), &address.to_string());
    let start = std::time::Instant::now();
    let (code, lines) = scene.look(&text.replace(&scene.provider.issuer, &format!("http://{address}"))).await;
    assert!(code == 1 && start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    for said in [
        format!(
            "FAIL     vestibule.yaml:6: provider `gitlab`, discovery: `http://{address}` gave no answer in 5 s; this machine must be able to read `http://{address}/.well-known/openid-configuration`"
        ),
        format!(
            "FAIL     vestibule.yaml:11: route `app`, upstream `http://{address}`: `/health` was not answered in 5 s; a request would find it out of service: correct the path, or mend the upstream"
        ),
    ] {
        assert!(lines.contains(&said), "{said}\n---\n{}", lines.join("\n"));
    }
}
