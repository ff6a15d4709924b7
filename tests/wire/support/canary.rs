//! Marks for secrets: where `TESTS_CANARY` names a directory, every secret that these tests give to a gateway or get from it is
//! noted there, and so is all that a gateway leaves behind. `tests/audit/canary.py` looks for the ones in the other.

use super::http1::Answer;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// Where secrets and traces go, if anybody asks for them.
pub(crate) fn directory() -> Option<PathBuf> {
    env::var_os("TESTS_CANARY").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Notes a secret.
pub(crate) fn secret(kind: &str, value: &[u8]) {
    let Some(directory) = directory() else { return };
    let line = format!("{}\n", json!({ "kind": kind, "value": STANDARD.encode(value) }));
    let file = fs::File::options().create(true).append(true).open(directory.join("secrets.jsonl"));
    file.and_then(|mut file| file.write_all(line.as_bytes())).expect("noted");
}

/// Notes the credentials of a request that is about to be sent.
pub(crate) fn sent(bytes: &[u8]) {
    if directory().is_none() {
        return;
    }
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes, |end| &bytes[..end]);
    for line in String::from_utf8_lossy(head).split("\r\n") {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        match &*name {
            "authorization" => credential(value),
            "cookie" => value.split(';').filter_map(|pair| pair.split_once('=')).for_each(|(_, value)| cookie(value)),
            "private-token" | "job-token" | "x-gitlab-token" | "x-api-key" | "webhook-signature" => {
                secret(&name, value.as_bytes());
            }
            _ => {}
        }
    }
}

fn credential(value: &str) {
    let (scheme, credential) = value.split_once(' ').unwrap_or(("", value));
    secret("credential", credential.as_bytes());
    if let (true, Ok(pair)) = (scheme.eq_ignore_ascii_case("basic"), STANDARD.decode(credential))
        && let Some(at) = pair.iter().position(|byte| *byte == b':')
    {
        secret("password", &pair[at + 1..]);
    }
}

fn cookie(value: &str) {
    if value.len() >= 16 {
        secret("cookie", value.as_bytes());
    }
}

/// Notes the cookies of an answer, and keeps what people or programs can read of it, unless an upstream wrote it.
pub(crate) fn answered(answer: &Answer) {
    if directory().is_none() {
        return;
    }
    for set in answer.headers("set-cookie") {
        let value = set.split(';').next().and_then(|pair| pair.split_once('=')).map_or("", |(_, value)| value);
        cookie(value);
    }
    let kind = answer.header("content-type").unwrap_or_default();
    let by_us = !kind.starts_with("text/plain") || answer.body.starts_with(b"# HELP");
    if !answer.body.is_empty() && by_us {
        leave("pages", &answer.body);
    }
}

/// Keeps something that a gateway left behind.
pub(crate) fn leave(kind: &str, bytes: &[u8]) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Some(directory) = directory() else { return };
    let (directory, number) = (directory.join(kind), COUNT.fetch_add(1, Ordering::Relaxed));
    fs::create_dir_all(&directory).expect("made");
    let suffix = if kind == "journals" { ".jsonl" } else { "" };
    fs::write(directory.join(format!("wire-{}-{number}{suffix}", std::process::id())), bytes).expect("kept");
}

/// Keeps the log and the journal of a gateway that ran in `place`, and notes its keys and secrets.
pub(crate) fn ended(place: &Path) {
    if directory().is_none() {
        return;
    }
    if let Ok(log) = fs::read(place.join("log")) {
        leave("logs", &log);
    }
    for entry in fs::read_dir(place.join("state/journal")).into_iter().flatten().flatten() {
        leave("journals", &fs::read(entry.path()).unwrap_or_default());
    }
    keys(&place.join("keys"));
}

fn keys(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            keys(&path);
        } else if path.extension().is_none_or(|extension| extension != "pub") {
            secret("key", &fs::read(&path).unwrap_or_default());
        }
    }
}
