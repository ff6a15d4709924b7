//! The door for operators of this machine: a socket in `state`, for whoever runs the process and for root.
//!
//! A request is one line of JSON, and so is its answer: `{"ok": …}` or `{"error": "…"}`.

pub mod client;
mod keys;
pub mod sessions;
mod status;

use crate::{
    audit::{Audit, Event},
    forward::assertion::AssertionKeys,
    gateway::Shared,
};
use keys::Sealed;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};

/// The socket's name below `state`.
pub const SOCKET: &str = "admin.sock";
/// The longest request, in bytes.
const LONGEST: u64 = 64 * 1024;
/// How long a request may take to come.
const LATEST: Duration = Duration::from_secs(5);

/// What may be asked.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// How the process is.
    Status {},
    /// The keys of ring and assertions.
    KeysList {},
    /// Makes a new key.
    KeysRotate {
        /// Of which kind.
        kind: Kind,
    },
    /// Deletes a key.
    KeysRetire {
        /// Of which kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Although it is still needed.
        force: bool,
    },
    /// Some sessions.
    SessionsList {
        /// Which.
        filter: sessions::Filter,
        /// After which, as the page before says it.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// Ends sessions.
    SessionsRevoke {
        /// Which.
        filter: sessions::Filter,
        /// All of them.
        all: bool,
        /// Why.
        reason: String,
    },
    /// Keeps people out.
    SessionsLock {
        /// What is locked: `user`, `provider` or `group`.
        kind: String,
        /// Which.
        target: String,
        /// Why; they read it.
        reason: String,
        /// Until when, in milliseconds since 1970.
        until: Option<u64>,
    },
    /// Lets them in again.
    SessionsUnlock {
        /// What is locked.
        kind: String,
        /// Which.
        target: String,
        /// Why.
        reason: Option<String>,
    },
    /// The locks in force.
    SessionsLocks {},
}

/// The kinds of keys.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Seals sessions and sign-ins.
    Ring,
    /// Signs assertions.
    Assertion,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Assertion => "assertion",
        }
    }
}

/// What the door leads to.
pub struct Admin {
    /// The process's parts.
    pub shared: Arc<Shared>,
    /// The keys that sign assertions.
    pub assertion: Arc<AssertionKeys>,
    /// Where acts are recorded.
    pub audit: Audit,
    /// The directory of the keys.
    pub keys: PathBuf,
    /// When the process started.
    pub since: SystemTime,
    /// What was wrong with the key files of each kind when they were read last.
    pub refused: [Mutex<Option<String>>; 2],
}

/// Opens the socket in `state`, for its owner only. One that a process left behind is replaced: whoever holds the store is
/// the only process here.
///
/// # Errors
/// What the file system says.
pub fn open(state: &Path) -> io::Result<UnixListener> {
    // made in a directory that nobody else may enter, so that it is never open to others
    let making = state.join(".admin");
    let _ = fs::remove_dir_all(&making);
    fs::DirBuilder::new().mode(0o700).create(&making)?;
    let draft = making.join("s");
    let listener = UnixListener::bind(&draft)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))?;
    fs::rename(&draft, state.join(SOCKET))?;
    fs::remove_dir(&making)?;
    Ok(listener)
}

impl Admin {
    /// Serves the socket. Never returns.
    pub async fn serve(self: Arc<Self>, listener: Arc<UnixListener>) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let this = self.clone();
                    tokio::spawn(async move { this.converse(stream).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "the operators' socket does not accept");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn converse(&self, mut stream: UnixStream) {
        let answer = match self.heard(&mut stream).await {
            Ok((by, command)) => self.act(by, command).await,
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error }),
        };
        let _ = stream.write_all(format!("{answer}\n").as_bytes()).await; // whoever asked may be gone
    }

    /// Who asks, and what. Only the owner of this process and root are heard.
    async fn heard(&self, stream: &mut UnixStream) -> Result<(u32, Command), String> {
        let by = stream.peer_cred().map_err(|error| format!("cannot tell who asks: {error}"))?.uid();
        let own = fs::metadata("/proc/self").map_or(0, |about| about.uid());
        if by != own && by != 0 {
            tracing::warn!(uid = by, "somebody else asks at the operators' socket");
            self.audit.record(Event::StrangerRefused { by: format!("uid {by}") }, SystemTime::now());
            return Err(format!("this socket is for the user {own} and for root"));
        }
        let mut line = String::new();
        let mut reader = BufReader::new(stream.take(LONGEST));
        match tokio::time::timeout(LATEST, reader.read_line(&mut line)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(format!("cannot read the request: {error}")),
            Err(_) => return Err("the request did not come in time".to_owned()),
        }
        let command = serde_json::from_str(&line).map_err(|error| format!("not understood: {error}"))?;
        Ok((by, command))
    }

    async fn act(&self, by: u32, command: Command) -> Result<Value, String> {
        match command {
            Command::Status {} => Ok(self.status()),
            Command::KeysList {} => self.list_keys().await,
            Command::KeysRotate { kind } => {
                let name = keys::rotate(&self.keys, kind, SystemTime::now())?;
                self.refresh(kind);
                self.record(by, "keys.rotate", kind, &name);
                Ok(json!({ "kind": kind, "name": name }))
            }
            Command::KeysRetire { kind, name, force } => {
                let list = self.list_keys().await?;
                keys::may_retire(&list, kind, &name, force)?;
                keys::retire(&self.keys, kind, &name)?;
                self.refresh(kind);
                self.record(by, "keys.retire", kind, &name);
                Ok(keys::retired(&list, kind, &name, self.in_use(kind)))
            }
            Command::SessionsList { filter, after, limit } => {
                self.list_sessions(&filter, after.as_deref(), limit).await
            }
            Command::SessionsRevoke { filter, all, reason } => self.revoke_sessions(by, &filter, all, &reason).await,
            Command::SessionsLock { kind, target, reason, until } => {
                self.lock(by, (&kind, &target), &reason, until).await
            }
            Command::SessionsUnlock { kind, target, reason } => {
                self.unlock(by, (&kind, &target), reason.as_deref()).await
            }
            Command::SessionsLocks {} => Ok(self.locks()),
        }
    }

    /// Takes changed key files up. What is wrong leaves all as it is, loudly.
    pub fn refresh(&self, kind: Kind) {
        let outcome = match kind {
            Kind::Ring => {
                self.shared.control.ring().refresh(SystemTime::now()).map_err(|error| crate::text::chain(&error))
            }
            Kind::Assertion => self.assertion.refresh(),
        };
        match outcome {
            Ok(true) => {
                tracing::info!(kind = kind.as_str(), "keys were read anew");
                self.reread(kind, None);
            }
            Ok(false) => drop(self.refused(kind, None)),
            Err(error) => {
                tracing::error!(kind = kind.as_str(), %error, "changed keys are not taken, the old ones stay");
                if self.refused(kind, Some(error.clone())).is_none_or(|before| before != error) {
                    self.reread(kind, Some(error));
                }
            }
        }
    }

    /// Notes what is wrong with the key files of a kind; returns what was before. They are read again and again, and it is
    /// recorded once.
    fn refused(&self, kind: Kind, now: Option<String>) -> Option<String> {
        std::mem::replace(&mut *self.refused[kind as usize].lock().unwrap_or_else(PoisonError::into_inner), now)
    }

    /// Records that the key files of a kind changed, and whether that was taken.
    fn reread(&self, kind: Kind, error: Option<String>) {
        let what = match kind {
            Kind::Ring => "keys.ring",
            Kind::Assertion => "keys.assertion",
        };
        let digest = self.in_use(kind).unwrap_or_default();
        let event =
            Event::Reloaded { what, digest, changed: Vec::new(), added: Vec::new(), removed: Vec::new(), error };
        self.audit.record(event, SystemTime::now());
    }

    fn record(&self, by: u32, act: &'static str, kind: Kind, name: &str) {
        let event = Event::of_key(by, act, format!("{} {name}", kind.as_str()));
        self.audit.record(event, SystemTime::now());
    }

    async fn list_keys(&self) -> Result<Value, String> {
        let records = self.shared.control.key_uses().await.map_err(|error| error.to_string())?;
        let sealed = Sealed::with_tokens(records, &self.shared.snapshot.load().settings.state);
        let now = SystemTime::now();
        Ok(keys::list(&self.shared.control.ring().about(), &self.assertion.about(now), sealed.as_ref(), now))
    }

    /// The name of the key that seals or signs.
    fn in_use(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Ring => self.shared.control.ring().about().into_iter().find(|key| key.seals).map(|key| key.name),
            Kind::Assertion => {
                self.assertion.about(SystemTime::now()).into_iter().find(|key| key.signs).map(|key| key.id)
            }
        }
    }
}
