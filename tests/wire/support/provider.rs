//! A real OpenID provider, `tests/fixtures/oidc-provider`, in a process of its own.

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use url::Url;

/// The client that the provider knows from its start.
pub(crate) const CLIENT_ID: &str = "vestibule";
/// Its secret.
pub(crate) const CLIENT_SECRET: &str = "vestibule-test-secret-0123456789";

/// A running provider, which ends with this value.
pub(crate) struct Provider {
    /// Its issuer, such as `http://127.0.0.1:40123`.
    pub(crate) issuer: String,
    child: Child,
}

/// Where the provider sent the browser after signing somebody in, or after refusing to.
#[derive(Debug)]
pub(crate) struct Callback {
    /// The whole address, for a browser that goes on to the gateway.
    pub(crate) url: Url,
    /// `code`, empty if there is none.
    pub(crate) code: String,
    /// `state`, empty if there is none.
    pub(crate) state: String,
    /// `iss` (RFC 9207).
    pub(crate) iss: Option<String>,
    /// `error`.
    pub(crate) error: Option<String>,
}

/// Starts a provider, and reads the line of JSON that it says; `None` if it ended without one.
fn run(directory: &Path, env: &[(&str, &str)]) -> Option<(Value, Child)> {
    let mut child = Command::new("node")
        .arg("server.mjs")
        .current_dir(directory)
        .env("EXIT_WITH_STDIN", "1")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("node runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).expect("read");
    if line.is_empty() {
        child.wait().expect("it ended");
        return None;
    }
    Some((serde_json::from_str(&line).expect("one line of JSON"), child))
}

impl Provider {
    /// Starts a provider with `env` on top of ours; the fixture's README has the names. `None`, after a line that says
    /// so, where the fixture is not installed.
    pub(crate) fn start(env: &[(&str, &str)]) -> Option<Self> {
        let Some(directory) = installed() else {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
            println!("skipped: {test} (npm ci in tests/fixtures/oidc-provider)");
            return None;
        };
        let (said, child) = (0..50)
            .find_map(|_| {
                let started = run(&directory, env);
                if started.is_none() {
                    std::thread::sleep(Duration::from_millis(200)); // a connection of somebody else has its port
                }
                started
            })
            .expect("the provider says where it listens");
        Some(Self { issuer: said["issuer"].as_str().expect("an issuer").to_owned(), child })
    }

    /// Calls an admin function, such as `self.admin("/admin/block", json!({"user": "bob"}))`.
    pub(crate) async fn admin(&self, path: &str, body: Value) -> Value {
        let request = Request::post(format!("{}{path}", self.issuer))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .expect("a request");
        json_of(send(request).await, path).await
    }

    /// Reads what an admin page tells.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let request = Request::get(format!("{}{path}", self.issuer)).body(Full::default()).expect("a request");
        json_of(send(request).await, path).await
    }

    /// Where the provider redirects a browser that goes to `url`.
    pub(crate) async fn redirected(&self, url: &Url) -> Url {
        let answer = send(Request::get(url.as_str()).body(Full::default()).expect("a request")).await;
        let location = answer.headers().get(header::LOCATION).expect("a location").to_str().expect("ASCII");
        url.join(location).expect("a URL")
    }

    /// Breaks or slows `path` for the next request, or for as many as `times` in `fault` says.
    pub(crate) async fn fault(&self, path: &str, mut fault: Value) {
        fault["path"] = path.into();
        self.admin("/admin/fault", fault).await;
    }

    /// Any signed token, good or bad.
    pub(crate) async fn mint(&self, what: Value) -> String {
        self.admin("/admin/mint", what).await["token"].as_str().expect("a token").to_owned()
    }

    /// How many requests `path` has seen.
    pub(crate) async fn seen(&self, path: &str) -> u64 {
        let request = Request::get(format!("{}/admin/stats", self.issuer)).body(Full::default()).expect("a request");
        json_of(send(request).await, "/admin/stats").await[path].as_u64().unwrap_or(0)
    }

    /// Goes to `url` as a browser does, with a fresh cookie jar, signs in as `user`, and stops where the provider sends
    /// the browser away.
    pub(crate) async fn authorize(&self, url: &Url, user: &str) -> Callback {
        let home = Url::parse(&self.issuer).expect("an issuer");
        let mut jar = BTreeMap::new();
        let mut url = url.clone();
        if !url.query_pairs().any(|(name, _)| name == "login_hint") {
            url.query_pairs_mut().append_pair("login_hint", user);
        }
        for _ in 0..10 {
            let cookies: Vec<String> = jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let request = Request::get(url.as_str()).header(header::COOKIE, cookies.join("; "));
            let answer = send(request.body(Full::default()).expect("a request")).await;
            keep_cookies(&mut jar, &answer);
            let Some(location) = answer.headers().get(header::LOCATION) else {
                let status = answer.status();
                panic!("{url} answered {status}: {}", text_of(answer).await);
            };
            url = url.join(location.to_str().expect("ASCII")).expect("a URL");
            if url.origin() != home.origin() {
                return Callback::from(url);
            }
        }
        panic!("the provider redirects without end, at last to {url}");
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl From<Url> for Callback {
    fn from(url: Url) -> Self {
        let find = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        Self {
            code: find("code").unwrap_or_default(),
            state: find("state").unwrap_or_default(),
            iss: find("iss"),
            error: find("error"),
            url,
        }
    }
}

fn installed() -> Option<PathBuf> {
    let named = std::env::var_os("OIDC_FIXTURE").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/oidc-provider");
    named.into_iter().chain([own]).find(|directory| directory.join("node_modules").is_dir())
}

fn keep_cookies(jar: &mut BTreeMap<String, String>, answer: &Response<hyper::body::Incoming>) {
    for cookie in answer.headers().get_all(header::SET_COOKIE) {
        let cookie = cookie.to_str().expect("ASCII");
        let pair = cookie.split(';').next().unwrap_or_default();
        if let Some((name, value)) = pair.split_once('=') {
            jar.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    jar.retain(|_, value| !value.is_empty());
}

async fn send(request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
    Client::builder(TokioExecutor::new()).build_http().request(request).await.expect("the provider answers")
}

async fn text_of(answer: Response<hyper::body::Incoming>) -> String {
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8_lossy(&body).into_owned()
}

async fn json_of(answer: Response<hyper::body::Incoming>, path: &str) -> Value {
    let status = answer.status();
    let text = text_of(answer).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap_or(json!(null))
}
