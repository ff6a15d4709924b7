//! The same cases with a plain nginx in our place.

use super::{
    answers::Script,
    case::{Case, Place, Run, run_in},
    client::converse,
    judge::{framed, split},
    reading::Reading,
    table::contains,
    upstream::{Read, Upstream},
};
use crate::support::gateway::free_port;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::net::TcpStream;

const PROGRAM: &str = "/usr/sbin/nginx";

/// How many of `cases` break R2, R3 or R5 before at least one upstream. `None`, after a line that says so, where there is
/// no nginx.
pub(super) async fn broken(cases: &[Arc<Case>]) -> Option<usize> {
    if !Path::new(PROGRAM).exists() {
        println!("skipped: nginx in our place ({PROGRAM} is not there)");
        return None;
    }
    let mut broken = BTreeSet::new();
    for reading in Reading::ALL {
        let upstream = Upstream::start(reading, Script::default()).await;
        let nginx = Nginx::start(upstream.port).await;
        let place = Place::without_gateway(nginx.port);
        let runs: Vec<Run> = cases.iter().enumerate().map(|(at, case)| Run::new(case, at, false, &place)).collect();
        let asked = stream::iter(&runs).map(|run| async {
            let probe = format!("GET /public/probe HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", place.host);
            converse(nginx.port, &run.sent, probe.as_bytes()).await
        });
        asked.buffer_unordered(16).collect::<Vec<_>>().await;
        let (reads, judged) = (upstream.take(), nginx.stop());
        broken.extend(reads.iter().filter(|read| breaks(read, &judged)).filter_map(|read| run_in(&read.bytes)));
    }
    Some(broken.len())
}

/// R2, R3 and R5, as far as nginx tells what it judged.
fn breaks(read: &Read, judged: &HashMap<String, Value>) -> bool {
    let Some(head) = &read.head else { return true };
    let Some(record) = read.one("x-request-id").and_then(|id| judged.get(id)) else { return true };
    let same = |name: &str, bytes: &[u8]| record[name].as_str().is_some_and(|text| text.as_bytes() == bytes);
    let planted = contains(&read.bytes, b"/admin/hidden-");
    planted
        || !same("method", &head.method)
        || !same("path", split(&head.target).0)
        || read.all("host").first().is_none_or(|host| !same("host", host))
        || !framed(read).is_empty()
}

/// A running nginx; it ends with this value.
struct Nginx {
    port: u16,
    directory: TempDir,
    child: Child,
}

impl Nginx {
    async fn start(upstream: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let port = free_port();
        let path = directory.path().join("nginx.conf");
        fs::write(&path, configuration(&directory.path().display().to_string(), port, upstream)).expect("written");
        let child = Command::new(PROGRAM)
            .args(["-p", &directory.path().display().to_string(), "-e", "error.log", "-c"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx runs");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "nginx does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { port, directory, child }
    }

    /// Ends it, and returns what it judged, by request id.
    fn stop(mut self) -> HashMap<String, Value> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = fs::read(self.directory.path().join("access.log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log).into_owned();
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        records.filter_map(|record| Some((record["id"].as_str()?.to_owned(), record))).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(directory: &str, port: u16, upstream: u16) -> String {
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|name| format!("  {name}_temp_path {directory}/{name};\n")).collect();
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log {directory}/error.log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
         {temporary}\
         \x20 log_format judged escape=json '{{\"id\":\"$request_id\",\"method\":\"$request_method\",\"host\":\"$http_host\",\"path\":\"$uri\"}}';\n\
         \x20 access_log {directory}/access.log judged;\n\
         \x20 client_header_timeout 1s;\n  client_body_timeout 1s;\n  keepalive_timeout 2s;\n  proxy_read_timeout 1s;\n\
         \x20 upstream behind {{ server 127.0.0.1:{upstream}; keepalive 16; }}\n\
         \x20 server {{\n\
         \x20   listen 127.0.0.1:{port};\n\
         \x20   proxy_http_version 1.1;\n\
         \x20   proxy_set_header Connection \"\";\n\
         \x20   proxy_set_header Host $http_host;\n\
         \x20   proxy_set_header X-Request-Id $request_id;\n\
         \x20   location /public/ {{ proxy_pass http://behind; }}\n\
         \x20   location /app/ {{ proxy_pass http://behind; }}\n\
         \x20   location / {{ return 403; }}\n\
         \x20 }}\n}}\n"
    )
}
