//! The real program, configured in a directory of its own.

use super::{
    canary,
    http1::{Answer, Wire},
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    upstream::Upstream,
};
use serde_json::Value;
use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;
use url::Url;

/// A browser that is signed in, as far as the gateway can tell: its cookies.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    pub(crate) session: String,
    pub(crate) binding: String,
}

/// A running gateway; it ends with this value.
pub(crate) struct Gateway {
    pub(crate) port: u16,
    pub(crate) directory: TempDir,
    variables: Vec<(String, String)>,
    child: Option<Child>,
}

/// What a gateway logs, unless all of it is looked at.
const LOG: &str = "debug,hyper=off,hyper_util=off,h2=off,rustls=off";

/// Everyone in `platform`, and only they, may use the route `app`; `/public/` is for all.
pub(crate) const POLICIES: &str = r#"
@id("platform")
@reason("The application is for everyone in platform.")
@remedy("Ask an owner of platform to add you.")
permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"app");

@id("public")
@reason("Everybody may see the public pages.")
permit (principal, action in Action::"read", resource == Route::"app")
when { context.path like "/public/*" };
"#;

/// `providers` of a configuration that nobody signs in with.
pub(crate) const CLIENT: &str = "providers:\n  - { name: gitlab, kind: gitlab, issuer: \"http://127.0.0.1:9\", client_id: a, client_secret: { file: secret } }\n";

/// The configuration of most tests. `PORT` stands for the gateway's port; `more` is added at the end, `route` to the
/// route, `provider` to the provider.
pub(crate) fn configuration(issuer: &str, upstream: &Upstream, provider: &str, route: &str, more: &str) -> String {
    format!(
        "public_url: http://127.0.0.1:PORT\n\
         listen: 127.0.0.1:PORT\n\
         workers: 2\n\
         drain: 0s\n\
         providers:\n\
         \x20 - name: gitlab\n\
         \x20   kind: gitlab\n\
         \x20   issuer: {issuer}\n\
         \x20   client_id: {CLIENT_ID}\n\
         \x20   client_secret: {{ file: secret }}\n\
         {provider}\
         routes:\n\
         \x20 - name: app\n\
         \x20   upstream: http://127.0.0.1:{}\n\
         {route}\
         policies: ./policies\n\
         {more}",
        upstream.port
    )
}

impl Gateway {
    /// Starts the provider's environment for a gateway: its callback may be at any port of 127.0.0.1.
    pub(crate) fn provider(env: &[(&str, &str)]) -> Option<Provider> {
        let mut all = vec![("REDIRECT_URIS", "http://127.0.0.1/.vestibule/callback/gitlab"), ("PROFILE", "gitlab")];
        all.extend_from_slice(env);
        Provider::start(&all)
    }

    /// Starts the program with this configuration and these policies.
    pub(crate) async fn start(configuration: &str, policies: &str) -> Self {
        Self::start_with(configuration, policies, |_| {}).await
    }

    /// The same, with these variables in the program's environment.
    pub(crate) async fn start_in(configuration: &str, policies: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_prepared(configuration, policies, variables, |_| {}).await
    }

    /// The same, with more files, which `prepare` writes.
    pub(crate) async fn start_with(configuration: &str, policies: &str, prepare: impl FnOnce(&Self)) -> Self {
        Self::start_as(configuration, policies, |gateway| prepare(gateway)).await
    }

    /// The same, with both.
    pub(crate) async fn start_prepared(
        configuration: &str,
        policies: &str,
        variables: &[(&str, &str)],
        prepare: impl FnOnce(&mut Self),
    ) -> Self {
        let set = |gateway: &mut Self| {
            let each = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            gateway.variables = each.collect();
            prepare(gateway);
        };
        Self::start_as(configuration, policies, set).await
    }

    async fn start_as(configuration: &str, policies: &str, prepare: impl FnOnce(&mut Self)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut gateway = Self { port: free_port(), directory, variables: Vec::new(), child: None };
        gateway.write_secret("secret", CLIENT_SECRET);
        fs::create_dir(gateway.path("policies")).expect("a directory");
        gateway.write("policies/app.cedar", policies);
        gateway.write("vestibule.yaml", &configuration.replace("PORT", &gateway.port.to_string()));
        prepare(&mut gateway);
        gateway.run().await;
        gateway
    }

    /// Starts the program with the configuration that is in `directory`, which serves at `port`.
    pub(crate) async fn of(directory: TempDir, port: u16) -> Self {
        let mut gateway = Self { port, directory, variables: Vec::new(), child: None };
        gateway.run().await;
        gateway
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Writes a file that nobody else may read.
    pub(crate) fn write_secret(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt;
        canary::secret("secret", text.as_bytes());
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("set");
    }

    /// Waits until something `fits`, at most 15 s.
    pub(crate) async fn until(&self, what: &str, mut fits: impl AsyncFnMut() -> bool) {
        let start = Instant::now();
        while !fits().await {
            assert!(start.elapsed() < Duration::from_secs(15), "not within 15 s: {what}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Starts the program and waits until it listens.
    pub(crate) async fn run(&mut self) {
        let listening = |gateway: &Self| gateway.log().matches("\"message\":\"listening\"").count();
        let before = listening(self);
        let log = fs::File::options().create(true).append(true).open(self.path("log")).expect("a log");
        let child = program()
            .args(["run", "-c"])
            .arg(self.path("vestibule.yaml"))
            .env("VESTIBULE_LOG", if canary::directory().is_some() { "trace" } else { LOG })
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stderr(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the program runs");
        self.child = Some(child);
        let start = Instant::now();
        while listening(self) == before {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(20),
                "it does not listen:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the program as an operator does, and waits for it.
    pub(crate) async fn stop(&mut self) {
        self.terminate();
        self.ended().await;
    }

    /// Kills the program, which has no time to finish anything.
    pub(crate) async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            tokio::task::spawn_blocking(move || child.wait()).await.expect("waited").expect("ended");
        }
    }

    /// Asks the program to end, as an operator does.
    pub(crate) fn terminate(&self) {
        if let Some(child) = &self.child {
            let kill = Command::new("kill").arg(child.id().to_string()).status();
            assert!(kill.is_ok_and(|status| status.success()));
        }
    }

    /// Waits until the program has ended well.
    pub(crate) async fn ended(&mut self) {
        if let Some(mut child) = self.child.take() {
            let ended = tokio::task::spawn_blocking(move || child.wait()).await.expect("waited").expect("ended");
            assert!(ended.success(), "{}", self.log());
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Every audit event that was written so far.
    pub(crate) fn audit(&self) -> Vec<Value> {
        self.events(&self.path("state/journal"))
    }

    /// Every audit event in the journal at `directory`.
    pub(crate) fn events(&self, directory: &Path) -> Vec<Value> {
        let mut files: Vec<_> = fs::read_dir(directory)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        files.sort();
        let text: String = files
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .filter_map(|path| fs::read_to_string(path).ok())
            .collect();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter_map(|mut record| record.get_mut("event").map(Value::take)).collect()
    }

    /// Waits for an audit record that `fits`.
    pub(crate) async fn audited(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            if let Some(found) = self.audit().into_iter().find(|record| fits(record)) {
                return found;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "no record: {what}\n{:#?}", self.audit());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends bytes as they are on a connection of their own and reads one answer.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut wire = Wire::connect(self.port).await;
        wire.send(bytes).await;
        wire.answer().await.unwrap_or_default()
    }

    /// A request with `headers`, each a line without its end; no body.
    pub(crate) async fn request(&self, method: &str, target: &str, headers: &[&str]) -> Answer {
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        self.raw(format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{length}{lines}\r\n", self.port)).await
    }

    pub(crate) async fn get(&self, target: &str, headers: &[&str]) -> Answer {
        self.request("GET", target, headers).await
    }

    /// A request as `browser`.
    pub(crate) async fn get_as(&self, browser: &Browser, target: &str) -> Answer {
        self.get(target, &[&self.cookies(browser)]).await
    }

    /// The `Cookie` line of a browser.
    pub(crate) fn cookies(&self, browser: &Browser) -> String {
        format!("Cookie: {}={}; {}={}", self.session_cookie(), browser.session, self.binding_cookie(), browser.binding)
    }

    pub(crate) fn session_cookie(&self) -> String {
        format!("vestibule-{}", self.port)
    }

    pub(crate) fn binding_cookie(&self) -> String {
        format!("vestibule-{}-binding", self.port)
    }

    /// Begins a sign-in: where the provider is to be asked, and the binding cookie.
    pub(crate) async fn begin(&self, to: &str, binding: Option<&str>) -> (Url, String) {
        let to: String = url::form_urlencoded::byte_serialize(to.as_bytes()).collect();
        let cookie = binding.map(|value| format!("Cookie: {}={value}", self.binding_cookie()));
        let lines: Vec<&str> = cookie.iter().map(String::as_str).collect();
        let target = format!("/.vestibule/sign-in/gitlab?to={to}");
        let mut answer = self.get(&target, &lines).await;
        for _ in 0..100 {
            if answer.status != 503 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // the provider is not discovered yet
            answer = self.get(&target, &lines).await;
        }
        assert_eq!(answer.status, 302, "{}\n{}", answer.text(), self.log());
        let location = Url::parse(answer.header("location").expect("a location")).expect("a URL");
        let set = answer.cookie(&self.binding_cookie());
        (location, set.or_else(|| binding.map(str::to_owned)).expect("a binding cookie"))
    }

    /// Comes back from the provider.
    pub(crate) async fn come_back(&self, url: &Url, binding: &str) -> Answer {
        let target = &url[url::Position::BeforePath..];
        self.get(target, &[&format!("Cookie: {}={binding}", self.binding_cookie())]).await
    }

    /// Signs `user` in, all the way.
    pub(crate) async fn sign_in(&self, provider: &Provider, user: &str) -> Browser {
        let (url, binding) = self.begin("/", None).await;
        let callback = provider.authorize(&url, user).await;
        let answer = self.come_back(&callback.url, &binding).await;
        assert_eq!(answer.status, 303, "{}\n{}", answer.text(), self.log());
        let session = answer.cookie(&self.session_cookie()).expect("a session cookie");
        Browser { session, binding }
    }

    /// Signs `user` in once more in the browser that has `old`, which the new session replaces.
    pub(crate) async fn sign_in_again(&self, provider: &Provider, old: &Browser, user: &str) -> Browser {
        let (url, _) = self.begin("/", Some(&old.binding)).await;
        let callback = provider.authorize(&url, user).await;
        let back = self.get_as(old, &callback.url[url::Position::BeforePath..]).await;
        Browser { session: back.cookie(&self.session_cookie()).expect("a session"), ..old.clone() }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        canary::ended(self.directory.path());
        if std::thread::panicking() {
            println!("--- log of the gateway\n{}", self.log());
        }
    }
}

/// The program under test.
pub(crate) fn program() -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_vestibule")));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VESTIBULE_")) {
        command.env_remove(name); // the tests' own, which it would refuse
    }
    command
}

/// A port that nobody uses right now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}
