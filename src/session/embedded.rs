//! The embedded store: one redb file, one writer that batches, readers beside it.

use super::{
    SessionKey,
    record::seconds,
    store::{Filed, StoreError},
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, SystemTime},
};
use tokio::{sync::oneshot, task::spawn_blocking};

type Key = [u8; 32];
const SESSIONS: TableDefinition<Key, &[u8]> = TableDefinition::new("sessions");
/// Session to the names it is filed under, and its end.
const FILED: TableDefinition<Key, (Key, Option<Key>, u64)> = TableDefinition::new("filed");
const BY_USER: TableDefinition<(Key, Key), ()> = TableDefinition::new("by_user");
const BY_SID: TableDefinition<(Key, Key), ()> = TableDefinition::new("by_sid");
const BY_END: TableDefinition<(u64, Key), ()> = TableDefinition::new("by_end");
const USED_STATES: TableDefinition<Key, u64> = TableDefinition::new("used_states");

/// At most this many jobs share one commit.
const BATCH: usize = 512;

/// A session store in one file of this machine.
pub struct Embedded {
    database: Arc<Slot>,
    jobs: Sender<Job>,
}

/// The open database; empty while it is opened again after a fault of the disk.
struct Slot {
    path: PathBuf,
    open: Mutex<Option<Arc<Database>>>,
}

struct Job {
    act: Act,
    done: oneshot::Sender<Result<bool, StoreError>>,
}

enum Act {
    Create(Filed),
    Replace(SessionKey, Vec<u8>),
    Delete(SessionKey),
    UseState(Key, u64),
    Sweep(u64),
}

impl Embedded {
    /// Opens `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let opened = open(path).map_err(|cause| StoreError::Open { path: path.display().to_string(), cause })?;
        let database = Arc::new(Slot { path: path.to_owned(), open: Mutex::new(Some(Arc::new(opened))) });
        let (jobs, queue) = channel();
        let slot = database.clone();
        std::thread::Builder::new()
            .name("session-store".into())
            .spawn(move || write(&slot, &queue))
            .map_err(|error| StoreError::Open { path: path.display().to_string(), cause: error.to_string() })?;
        Ok(Self { database, jobs })
    }

    /// See [`super::Store::create`].
    pub async fn create(&self, filed: Filed) -> Result<(), StoreError> {
        self.act(Act::Create(filed)).await.map(drop)
    }

    /// See [`super::Store::replace`].
    pub async fn replace(&self, key: SessionKey, record: Vec<u8>) -> Result<bool, StoreError> {
        self.act(Act::Replace(key, record)).await
    }

    /// See [`super::Store::delete`].
    pub async fn delete(&self, key: SessionKey) -> Result<bool, StoreError> {
        self.act(Act::Delete(key)).await
    }

    /// See [`super::Store::use_state`].
    pub async fn use_state(&self, hash: Key, forget: SystemTime) -> Result<bool, StoreError> {
        self.act(Act::UseState(hash, seconds(forget))).await
    }

    /// See [`super::Store::sweep`].
    pub async fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        self.act(Act::Sweep(seconds(now))).await.map(drop)
    }

    /// See [`super::Store::load`].
    pub async fn load(&self, key: SessionKey) -> Result<Option<Vec<u8>>, StoreError> {
        let slot = self.database.clone();
        spawn_blocking(move || {
            let database = slot.get().ok_or_else(|| StoreError::Unavailable("it is being opened again".into()))?;
            read(&database, &key).map_err(|error| StoreError::Unavailable(error.to_string()))
        })
        .await
        .map_err(|error| StoreError::Unavailable(error.to_string()))?
    }

    async fn act(&self, act: Act) -> Result<bool, StoreError> {
        let (done, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable("its writer has stopped".into());
        self.jobs.send(Job { act, done }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Slot {
    fn get(&self) -> Option<Arc<Database>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the file and opens it again: after a fault of the disk redb refuses all work until then.
    fn reopen(&self) {
        let old = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(old) = old {
            while Arc::strong_count(&old) > 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if let Ok(database) = open(&self.path) {
            *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        }
    }
}

fn open(path: &Path) -> Result<Database, String> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(|error| error.to_string())?;
    }
    let database = Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => "another process has it open".to_owned(),
        other => other.to_string(),
    })?;
    owner_only(path).map_err(|error| error.to_string())?;
    tables(&database).map_err(|error| error.to_string())?;
    Ok(database)
}

fn owner_only(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

fn tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(SESSIONS)?;
    transaction.open_table(FILED)?;
    transaction.open_table(BY_USER)?;
    transaction.open_table(BY_SID)?;
    transaction.open_table(BY_END)?;
    transaction.open_table(USED_STATES)?;
    transaction.commit()?;
    Ok(())
}

fn read(database: &Database, key: &SessionKey) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(SESSIONS)?;
    Ok(table.get(key.0)?.map(|record| record.value().to_vec()))
}

/// The writer: takes what waits, commits it at once, answers everybody.
fn write(slot: &Slot, queue: &Receiver<Job>) {
    while let Ok(first) = queue.recv() {
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(BATCH - 1));
        let results = match slot.get() {
            Some(database) => commit(&database, &jobs).map_err(|error| error.to_string()),
            None => Err("it is being opened again".to_owned()),
        };
        match results {
            Ok(results) => {
                for (job, result) in jobs.into_iter().zip(results) {
                    let _ = job.done.send(Ok(result));
                }
            }
            Err(cause) => {
                tracing::error!(%cause, "the session store cannot be written");
                for job in jobs {
                    let _ = job.done.send(Err(StoreError::Unavailable(cause.clone())));
                }
                slot.reopen();
            }
        }
    }
}

fn commit(database: &Database, jobs: &[Job]) -> Result<Vec<bool>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut results = Vec::with_capacity(jobs.len());
    for job in jobs {
        results.push(match &job.act {
            Act::Create(filed) => create(&transaction, filed)?,
            Act::Replace(key, record) => replace(&transaction, key, record)?,
            Act::Delete(key) => delete(&transaction, key.0)?,
            Act::UseState(hash, forget) => transaction.open_table(USED_STATES)?.insert(hash, forget)?.is_none(),
            Act::Sweep(now) => sweep(&transaction, *now)?,
        });
    }
    transaction.commit()?;
    Ok(results)
}

fn create(transaction: &WriteTransaction, filed: &Filed) -> Result<bool, redb::Error> {
    let (key, end) = (filed.key.0, seconds(filed.end));
    transaction.open_table(SESSIONS)?.insert(key, &*filed.record)?;
    transaction.open_table(FILED)?.insert(key, (filed.user, filed.sid, end))?;
    transaction.open_table(BY_USER)?.insert((filed.user, key), ())?;
    if let Some(sid) = filed.sid {
        transaction.open_table(BY_SID)?.insert((sid, key), ())?;
    }
    transaction.open_table(BY_END)?.insert((end, key), ())?;
    Ok(true)
}

fn replace(transaction: &WriteTransaction, key: &SessionKey, record: &[u8]) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(SESSIONS)?;
    let there = table.get(key.0)?.is_some();
    if there {
        table.insert(key.0, record)?;
    }
    Ok(there)
}

fn delete(transaction: &WriteTransaction, key: Key) -> Result<bool, redb::Error> {
    let there = transaction.open_table(SESSIONS)?.remove(key)?.is_some();
    let filed = transaction.open_table(FILED)?.remove(key)?.map(|filed| filed.value());
    if let Some((user, sid, end)) = filed {
        transaction.open_table(BY_USER)?.remove((user, key))?;
        if let Some(sid) = sid {
            transaction.open_table(BY_SID)?.remove((sid, key))?;
        }
        transaction.open_table(BY_END)?.remove((end, key))?;
    }
    Ok(there)
}

fn sweep(transaction: &WriteTransaction, now: u64) -> Result<bool, redb::Error> {
    let mut over = Vec::new();
    for entry in transaction.open_table(BY_END)?.range((0, [0; 32])..(now, [0; 32]))? {
        over.push(entry?.0.value().1);
    }
    for key in over {
        delete(transaction, key)?;
    }
    transaction.open_table(USED_STATES)?.retain(|_, forget| forget >= now)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{KeyRing, SessionId, record};

    fn filed(id: &SessionId, now: SystemTime) -> Filed {
        let (session, held) = record::tests::sample(id, now);
        let ring = KeyRing::of(&[[9; 32]]);
        let record = record::seal(&ring, id, &session, &held);
        Filed { key: id.key(), record, user: [1; 32], sid: Some([2; 32]), end: session.end }
    }

    #[tokio::test]
    async fn a_session_survives_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state/sessions.redb");
        let (id, now) = (SessionId::new(), SystemTime::now());
        let store = Embedded::open(&path).expect("opens");
        store.create(filed(&id, now)).await.expect("written");
        let busy = Embedded::open(&path).map(drop).expect_err("one process at a time").to_string();
        assert!(busy.contains("sessions.redb`: another process has it open"), "{busy}");
        drop(store);
        let store = reopened(&path);
        assert!(store.load(id.key()).await.expect("read").is_some());
        assert!(store.delete(id.key()).await.expect("deleted"));
        assert!(!store.replace(id.key(), vec![1]).await.expect("nothing to replace"));
        assert!(store.load(id.key()).await.expect("read").is_none());
    }

    fn reopened(path: &Path) -> Embedded {
        for _ in 0..100 {
            match Embedded::open(path) {
                Ok(store) => return store,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        panic!("the writer thread did not let go of {}", path.display())
    }

    #[tokio::test]
    async fn a_state_is_used_once_and_what_ended_is_swept() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Embedded::open(&directory.path().join("sessions.redb")).expect("opens");
        let (id, now) = (SessionId::new(), SystemTime::now());
        store.create(filed(&id, now)).await.expect("written");
        let forget = now + Duration::from_secs(600);
        assert!(store.use_state([5; 32], forget).await.expect("first"));
        assert!(!store.use_state([5; 32], forget).await.expect("second"));
        store.sweep(now + Duration::from_secs(1800)).await.expect("swept");
        assert!(store.load(id.key()).await.expect("read").is_some());
        assert!(store.use_state([5; 32], forget).await.expect("forgotten"));
        store.sweep(now + Duration::from_secs(3700)).await.expect("swept");
        assert!(store.load(id.key()).await.expect("read").is_none());
    }

    /// S-56: the file holds neither the handle nor a token.
    #[tokio::test]
    async fn s56_the_file_holds_neither_handle_nor_tokens() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sessions.redb");
        let store = Embedded::open(&path).expect("opens");
        let id = SessionId::new();
        store.create(filed(&id, SystemTime::now())).await.expect("written");
        let bytes = std::fs::read(&path).expect("read");
        let has = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        assert!(has(&id.key().0), "the record is there");
        for secret in [id.to_cookie().as_bytes(), id.secret().as_slice(), b"canary-access", b"canary-refresh", b"907"] {
            assert!(!has(secret));
        }
    }
}
