//! The other end of the socket: commands that ask a running process, or do without one.

use super::{
    Command, Kind, SOCKET,
    keys::{self, Sealed},
};
use crate::{
    audit::{Audit, Event},
    config::Settings,
    forward::assertion::{self, AssertionKeys},
    session::{KeyRing, Store, probe, ring},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    fs,
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::Path,
    time::{Duration, SystemTime},
};

/// How long an answer may take.
const LATEST: Duration = Duration::from_secs(30);

/// Asks the process that runs with `state`. `None`: none does.
///
/// # Errors
/// One line: it refuses, or cannot be reached.
pub fn ask(state: &Path, command: &Command) -> Result<Option<Value>, String> {
    let path = state.join(SOCKET);
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => {
            return Err(format!("cannot open `{}`: {error}: run this as the proxy's user or as root", path.display()));
        }
    };
    let failed = |error: std::io::Error| format!("no answer at `{}`: {error}", path.display());
    stream.set_read_timeout(Some(LATEST)).map_err(failed)?;
    let line = serde_json::to_string(command).map_err(|error| error.to_string())?;
    stream.write_all(format!("{line}\n").as_bytes()).map_err(failed)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).map_err(failed)?;
    let answer: Value =
        serde_json::from_str(&answer).map_err(|error| format!("no answer at `{}`: {error}", path.display()))?;
    match (answer.get("ok"), answer.get("error").and_then(Value::as_str)) {
        (Some(value), _) => Ok(Some(value.clone())),
        (None, Some(error)) => Err(error.to_owned()),
        (None, None) => Err(format!("an answer at `{}` that is not understood", path.display())),
    }
}

/// The keys where no process runs. The open store keeps others out meanwhile; it is closed in order at the end.
pub struct Files<'a> {
    settings: &'a Settings,
    store: Store,
}

impl Drop for Files<'_> {
    fn drop(&mut self) {
        self.store.close();
    }
}

impl<'a> Files<'a> {
    /// Opens what the keys are kept in, to change them.
    ///
    /// # Errors
    /// One line.
    pub fn open(settings: &'a Settings) -> Result<Self, String> {
        let store = Store::embedded(&settings.state).map_err(|error| crate::text::chain(&error))?;
        let files = Self { settings, store };
        KeyRing::open(&settings.keys).map_err(|error| error.told())?; // makes the first where there is none
        AssertionKeys::load(&settings.keys.join("assertion"), SystemTime::now())?;
        Ok(files)
    }

    /// The keys, without a change to anything: where none was made yet, there is none.
    ///
    /// # Errors
    /// One line.
    pub fn look(settings: &Settings) -> Result<Value, String> {
        listed(settings, probe::key_uses(&settings.state))
    }

    /// Does what a process would do.
    ///
    /// # Errors
    /// One line.
    pub fn act(&self, command: &Command) -> Result<Value, String> {
        let keys = &self.settings.keys;
        match command {
            Command::Status {}
            | Command::SessionsList { .. }
            | Command::SessionsRevoke { .. }
            | Command::SessionsLock { .. }
            | Command::SessionsUnlock { .. }
            | Command::SessionsLocks {} => Err("no process runs with this configuration".to_owned()),
            Command::KeysList {} => self.listed(),
            Command::KeysRotate { kind } => {
                let name = keys::rotate(keys, *kind, SystemTime::now())?;
                record(self.settings, "keys.rotate", *kind, &name)?;
                Ok(json!({ "kind": kind, "name": name }))
            }
            Command::KeysRetire { kind, name, force } => {
                let list = self.listed()?;
                keys::may_retire(&list, *kind, name, *force)?;
                keys::retire(keys, *kind, name)?;
                record(self.settings, "keys.retire", *kind, name)?;
                let left = ring::look(keys, SystemTime::now()).map_err(|error| error.told())?;
                let in_use = left.into_iter().find(|key| key.seals && *kind == Kind::Ring).map(|key| key.name);
                Ok(keys::retired(&list, *kind, name, in_use))
            }
        }
    }

    fn listed(&self) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
        let uses = runtime.block_on(self.store.key_uses()).map_err(|error| error.to_string())?;
        listed(self.settings, Some(uses))
    }
}

fn listed(settings: &Settings, records: Option<HashMap<[u8; 4], u64>>) -> Result<Value, String> {
    let now = SystemTime::now();
    let ring = ring::look(&settings.keys, now).map_err(|error| error.told())?;
    let assertion = assertion::look(&settings.keys.join("assertion"), now)?;
    let sealed = records.and_then(|records| Sealed::with_tokens(records, &settings.state));
    Ok(keys::list(&ring, &assertion, sealed.as_ref(), now))
}

fn record(settings: &Settings, act: &'static str, kind: Kind, name: &str) -> Result<(), String> {
    let journal = settings.state.join("journal");
    let audit = Audit::open(&journal, &settings.keys, &settings.audit)?;
    let uid = fs::metadata("/proc/self").map_or(0, |about| about.uid());
    let event = Event::of_key(uid, act, format!("{} {name}", kind.as_str()));
    audit.record(event, SystemTime::now());
    audit.close();
    Ok(())
}
