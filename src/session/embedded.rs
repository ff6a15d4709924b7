//! The embedded store: one redb file, one writer that batches, readers beside it.

use super::{
    SessionKey,
    further::{self, Kind},
    log::{Entry, Part},
    owed::{self, Owed},
    record::{self, seconds},
    store::{Filed, Names, StoreError},
};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, WriteTransaction};
use std::{
    collections::HashMap,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
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
/// What stands behind a code, and until when.
const CODES: TableDefinition<Key, (&[u8], u64)> = TableDefinition::new("codes");

/// The revocation log: number to entry, and until when it stays.
const LOG: TableDefinition<u64, (&[u8], u64)> = TableDefinition::new("log");
const LOCKS: TableDefinition<Key, &[u8]> = TableDefinition::new("locks");
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");
/// The number of the log's last entry.
const HEAD: &str = "log_head";
/// The number of the last entry that was pruned.
const PRUNED: &str = "log_pruned";

/// At most this many jobs share one commit.
const BATCH: usize = 512;

/// At most this many entries of the log are read at once.
const ENTRIES: usize = 4096;

/// After a fault of the disk, what is owed to the log is tried again so often.
const AGAIN: Duration = Duration::from_secs(1);

/// A session store in one file of this machine.
pub struct Embedded {
    database: Arc<Slot>,
    jobs: Sender<Job>,
    /// The number of the log's last entry, as committed.
    head: Arc<AtomicU64>,
}

/// The open database; empty while it is opened again after a fault of the disk.
struct Slot {
    path: PathBuf,
    open: Mutex<Option<Arc<Database>>>,
    #[cfg(test)]
    broken: std::sync::atomic::AtomicBool,
}

struct Job {
    act: Act,
    done: oneshot::Sender<Result<bool, StoreError>>,
}

enum Act {
    Create(Filed),
    Replace(SessionKey, Vec<u8>, Option<Names>),
    Delete(SessionKey),
    UseState(Key, u64),
    PutCode(Key, Vec<u8>, u64),
    DropCode(Key),
    Append(Vec<Vec<u8>>, u64),
    SetLock(Key, Vec<u8>, u64),
    DropLock(Key, u64),
    Sweep(u64),
}

impl Embedded {
    /// Opens `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |cause: String| StoreError::Open { path: path.display().to_string(), cause };
        let opened = open(path).map_err(failed)?;
        let beside = owed::beside(path);
        let owed = owed::read(&beside).map_err(|error| failed(format!("`{}`: {error}", beside.display())))?;
        let head = Arc::<AtomicU64>::default();
        let mut writer = Writer { head: head.clone(), beside, owed };
        writer.commit(&opened, &[]).map_err(|error| failed(error.to_string()))?; // what is owed, before anything is read
        let database = Arc::new(Slot {
            path: path.to_owned(),
            open: Mutex::new(Some(Arc::new(opened))),
            #[cfg(test)]
            broken: Default::default(),
        });
        let (jobs, queue) = channel();
        let slot = database.clone();
        std::thread::Builder::new()
            .name("session-store".into())
            .spawn(move || writer.run(&slot, &queue))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self { database, jobs, head })
    }

    /// See [`super::Store::create`].
    pub async fn create(&self, filed: Filed) -> Result<(), StoreError> {
        self.act(Act::Create(filed)).await.map(drop)
    }

    /// See [`super::Store::replace`].
    pub async fn replace(&self, key: SessionKey, record: Vec<u8>, names: Option<Names>) -> Result<bool, StoreError> {
        self.act(Act::Replace(key, record, names)).await
    }

    /// See [`super::Store::key_uses`].
    pub async fn key_uses(&self) -> Result<HashMap<[u8; 4], u64>, StoreError> {
        self.read(key_uses).await
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
        self.read(move |database| stored(database, &key)).await
    }

    /// See [`super::Store::filed_under`].
    pub async fn filed_under(&self, name: Key) -> Result<Vec<SessionKey>, StoreError> {
        self.read(move |database| filed_under(database, BY_USER, name)).await
    }

    /// See [`super::Store::filed_under_sid`].
    pub async fn filed_under_sid(&self, name: Key) -> Result<Vec<SessionKey>, StoreError> {
        self.read(move |database| filed_under(database, BY_SID, name)).await
    }

    /// See [`super::Store::put_code`].
    pub async fn put_code(&self, hash: Key, sealed: Vec<u8>, forget: SystemTime) -> Result<(), StoreError> {
        self.act(Act::PutCode(hash, sealed, seconds(forget))).await.map(drop)
    }

    /// See [`super::Store::take_code`].
    pub async fn take_code(&self, hash: Key) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(sealed) = self.read(move |database| code(database, hash)).await? else { return Ok(None) };
        Ok(self.act(Act::DropCode(hash)).await?.then_some(sealed)) // who drops it has it
    }

    /// See [`super::Store::append`].
    pub async fn append(&self, entries: &[Entry], forget: SystemTime) -> Result<(), StoreError> {
        let entries = entries.iter().map(Entry::write).collect();
        self.act(Act::Append(entries, seconds(forget))).await.map(drop)
    }

    /// See [`super::Store::head`].
    pub fn head(&self) -> Result<u64, StoreError> {
        Ok(self.head.load(Ordering::Acquire)) // nobody else writes to the file
    }

    /// See [`super::Store::since`].
    pub async fn since(&self, cursor: u64) -> Result<Part, StoreError> {
        self.read(move |database| since(database, cursor)).await
    }

    /// See [`super::Store::set_lock`].
    pub async fn set_lock(&self, name: Key, lock: Vec<u8>, forget: SystemTime) -> Result<(), StoreError> {
        self.act(Act::SetLock(name, lock, seconds(forget))).await.map(drop)
    }

    /// See [`super::Store::drop_lock`].
    pub async fn drop_lock(&self, name: Key, forget: SystemTime) -> Result<bool, StoreError> {
        self.act(Act::DropLock(name, seconds(forget))).await
    }

    /// See [`super::Store::locks`].
    pub async fn locks(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.read(locks).await
    }

    /// See [`super::Store::page`].
    pub async fn page(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Vec<u8>)>, StoreError> {
        self.read(move |database| page(database, after, limit)).await
    }

    /// See [`super::Store::kept`].
    pub async fn kept(&self, keys: Vec<SessionKey>) -> Result<Vec<SessionKey>, StoreError> {
        self.read(move |database| kept(database, keys)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Database) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let slot = self.database.clone();
        spawn_blocking(move || {
            let database = slot.get().ok_or_else(|| StoreError::Unavailable("it is being opened again".into()))?;
            read(&database).map_err(|error| StoreError::Unavailable(error.to_string()))
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

impl Embedded {
    /// See [`super::Store::close`].
    pub fn close(&self) {
        self.database.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
impl Embedded {
    /// See [`super::Store::break_down`].
    pub(crate) fn break_down(&self) {
        self.database.broken.store(true, Ordering::Release);
        let open = self.database.open.lock().unwrap_or_else(PoisonError::into_inner).take();
        while open.as_ref().is_some_and(|open| Arc::strong_count(open) > 1) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Slot {
    fn get(&self) -> Option<Arc<Database>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Closes the file and opens it again: after a fault of the disk redb refuses all work until then.
    fn reopen(&self) {
        #[cfg(test)]
        if self.broken.load(Ordering::Acquire) {
            return;
        }
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
    let unusable = |error: std::io::Error| format!("{error}: {}", crate::text::advice(error.kind(), "state"));
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(unusable)?;
    }
    let database = Database::create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => {
            "another process has it open: stop what uses it, or change `state`".to_owned()
        }
        DatabaseError::Storage(StorageError::Io(error)) => unusable(error),
        other => format!("{other}: move it away, and everybody signs in again"),
    })?;
    owner_only(path).map_err(unusable)?;
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
    transaction.open_table(CODES)?;
    transaction.open_table(LOG)?;
    transaction.open_table(LOCKS)?;
    transaction.open_table(NUMBERS)?;
    transaction.commit()?;
    Ok(())
}

fn since(database: &Database, cursor: u64) -> Result<Part, redb::Error> {
    let transaction = database.begin_read()?;
    let pruned = transaction.open_table(NUMBERS)?.get(PRUNED)?.map_or(0, |number| number.value());
    let log = transaction.open_table(LOG)?;
    let mut entries = Vec::new();
    for entry in log.range(cursor.saturating_add(1)..)?.take(ENTRIES) {
        let (number, entry) = entry?;
        entries.push((number.value(), Entry::read(entry.value().0)));
    }
    Ok(Part { entries, gap: cursor < pruned })
}

fn locks(database: &Database) -> Result<Vec<Vec<u8>>, redb::Error> {
    let locks = database.begin_read()?.open_table(LOCKS)?;
    locks.range::<Key>(..)?.map(|entry| Ok(entry?.1.value().to_vec())).collect()
}

fn page(
    database: &Database,
    after: Option<SessionKey>,
    limit: usize,
) -> Result<Vec<(SessionKey, Vec<u8>)>, redb::Error> {
    let table = database.begin_read()?.open_table(SESSIONS)?;
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.0));
    let mut page = Vec::new();
    for entry in table.range::<Key>((from, Bound::Unbounded))? {
        let (key, record) = entry?;
        if page.len() == limit {
            break;
        }
        if further::kind(record.value()) == Kind::Session {
            page.push((SessionKey(key.value()), record.value().to_vec()));
        }
    }
    Ok(page)
}

fn kept(database: &Database, keys: Vec<SessionKey>) -> Result<Vec<SessionKey>, redb::Error> {
    let table = database.begin_read()?.open_table(SESSIONS)?;
    let mut kept = Vec::new();
    for key in keys {
        if table.get(key.0)?.is_some_and(|record| further::kind(record.value()) != Kind::Moved) {
            kept.push(key);
        }
    }
    Ok(kept)
}

fn filed_under(
    database: &Database,
    index: TableDefinition<(Key, Key), ()>,
    name: Key,
) -> Result<Vec<SessionKey>, redb::Error> {
    let table = database.begin_read()?.open_table(index)?;
    let entries = table.range((name, [0; 32])..=(name, [255; 32]))?;
    entries.map(|entry| Ok(SessionKey(entry?.0.value().1))).collect()
}

fn code(database: &Database, hash: Key) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(CODES)?;
    Ok(table.get(hash)?.map(|code| code.value().0.to_vec()))
}

fn stored(database: &Database, key: &SessionKey) -> Result<Option<Vec<u8>>, redb::Error> {
    let table = database.begin_read()?.open_table(SESSIONS)?;
    Ok(table.get(key.0)?.map(|record| record.value().to_vec()))
}

/// The writer: takes what waits, commits it at once, answers everybody.
struct Writer {
    head: Arc<AtomicU64>,
    /// The file in which entries of the log wait that could not be committed.
    beside: PathBuf,
    owed: Vec<Owed>,
}

impl Writer {
    fn run(mut self, slot: &Slot, queue: &Receiver<Job>) {
        while let Some(jobs) = self.next(queue) {
            let results = match slot.get() {
                Some(database) => self.commit(&database, &jobs).map_err(|error| error.to_string()),
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
                        let answer = self.set_aside(&job.act).ok_or_else(|| StoreError::Unavailable(cause.clone()));
                        let _ = job.done.send(answer);
                    }
                    slot.reopen();
                }
            }
        }
    }

    /// What waits, at most a batch; nothing, if only what is owed has to be tried again. `None`: nobody is left to ask.
    fn next(&self, queue: &Receiver<Job>) -> Option<Vec<Job>> {
        let first = match self.owed.is_empty() {
            true => queue.recv().ok()?,
            false => match queue.recv_timeout(AGAIN) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => return Some(Vec::new()),
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        let mut jobs = vec![first];
        jobs.extend(queue.try_iter().take(BATCH - 1));
        Some(jobs)
    }

    /// What ended must stay ended, though the store cannot be written now and this process be killed before it can: entries
    /// of the log then wait in a file of their own, and are as durable there.
    fn set_aside(&mut self, act: &Act) -> Option<bool> {
        let Act::Append(entries, forget) = act else { return None };
        let owed: Vec<_> = entries.iter().map(|entry| Owed { entry: entry.clone(), forget: *forget }).collect();
        match owed::add(&self.beside, &owed) {
            Ok(()) => {
                self.owed.extend(owed);
                Some(true)
            }
            Err(error) => {
                tracing::error!(%error, path = %self.beside.display(), "what ended cannot be set aside either");
                None
            }
        }
    }

    fn commit(&mut self, database: &Database, jobs: &[Job]) -> Result<Vec<bool>, redb::Error> {
        let transaction = database.begin_write()?;
        for owed in &self.owed {
            append(&transaction, std::slice::from_ref(&owed.entry), owed.forget)?;
        }
        let mut results = Vec::with_capacity(jobs.len());
        for job in jobs {
            results.push(done(&transaction, &job.act)?);
        }
        let head = transaction.open_table(NUMBERS)?.get(HEAD)?.map_or(0, |number| number.value());
        transaction.commit()?;
        self.head.store(head, Ordering::Release);
        if !self.owed.is_empty() {
            self.owed.clear();
            owed::clear(&self.beside); // should it stay, its entries are taken twice, which does no harm
        }
        Ok(results)
    }
}

fn done(transaction: &WriteTransaction, act: &Act) -> Result<bool, redb::Error> {
    Ok(match act {
        Act::Create(filed) => create(transaction, filed)?,
        Act::Replace(key, record, names) => replace(transaction, key, record, *names)?,
        Act::Delete(key) => delete(transaction, key.0)?,
        Act::UseState(hash, forget) => transaction.open_table(USED_STATES)?.insert(hash, forget)?.is_none(),
        Act::PutCode(hash, sealed, forget) => {
            transaction.open_table(CODES)?.insert(hash, (&**sealed, *forget))?.is_none()
        }
        Act::DropCode(hash) => transaction.open_table(CODES)?.remove(hash)?.is_some(),
        Act::Append(entries, forget) => append(transaction, entries, *forget)?,
        Act::SetLock(name, lock, forget) => {
            transaction.open_table(LOCKS)?.insert(name, &**lock)?;
            append(transaction, &[Entry::Locks.write()], *forget)?
        }
        Act::DropLock(name, forget) => {
            let there = transaction.open_table(LOCKS)?.remove(name)?.is_some();
            there && append(transaction, &[Entry::Locks.write()], *forget)?
        }
        Act::Sweep(now) => sweep(transaction, *now)?,
    })
}

fn append(transaction: &WriteTransaction, entries: &[Vec<u8>], forget: u64) -> Result<bool, redb::Error> {
    let (mut log, mut numbers) = (transaction.open_table(LOG)?, transaction.open_table(NUMBERS)?);
    let mut head = numbers.get(HEAD)?.map_or(0, |number| number.value());
    for entry in entries {
        head += 1;
        log.insert(head, (&**entry, forget))?;
    }
    numbers.insert(HEAD, head)?;
    Ok(true)
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

fn replace(
    transaction: &WriteTransaction,
    key: &SessionKey,
    record: &[u8],
    names: Option<Names>,
) -> Result<bool, redb::Error> {
    let mut table = transaction.open_table(SESSIONS)?;
    let there = table.get(key.0)?.is_some_and(|stored| further::kind(stored.value()) == Kind::Session);
    if there {
        table.insert(key.0, record)?;
    }
    if let (true, Some(names)) = (there, names) {
        refile(transaction, key.0, names)?;
    }
    Ok(there)
}

/// Files a session under other names: those of before were made with a key of the ring that may go.
fn refile(transaction: &WriteTransaction, key: Key, names: Names) -> Result<(), redb::Error> {
    let mut filed = transaction.open_table(FILED)?;
    let Some((user, sid, end)) = filed.get(key)?.map(|filed| filed.value()) else { return Ok(()) };
    if (Names { user, sid }) == names {
        return Ok(());
    }
    filed.insert(key, (names.user, names.sid, end))?;
    let mut by_user = transaction.open_table(BY_USER)?;
    by_user.remove((user, key))?;
    by_user.insert((names.user, key), ())?;
    let mut by_sid = transaction.open_table(BY_SID)?;
    if let Some(sid) = sid {
        by_sid.remove((sid, key))?;
    }
    if let Some(sid) = names.sid {
        by_sid.insert((sid, key), ())?;
    }
    Ok(())
}

pub(super) fn key_uses(database: &impl ReadableDatabase) -> Result<HashMap<[u8; 4], u64>, redb::Error> {
    let mut uses = HashMap::new();
    for entry in database.begin_read()?.open_table(SESSIONS)?.range::<Key>(..)? {
        let mut ids = record::keys(entry?.1.value());
        ids.dedup();
        for id in ids {
            *uses.entry(id).or_default() += 1;
        }
    }
    Ok(uses)
}

/// Deletes a session with its further handles, which are filed under its name.
fn delete(transaction: &WriteTransaction, key: Key) -> Result<bool, redb::Error> {
    for handle in further_handles(transaction, key)? {
        delete_one(transaction, handle)?;
    }
    delete_one(transaction, key)
}

fn further_handles(transaction: &WriteTransaction, session: Key) -> Result<Vec<Key>, redb::Error> {
    let by_user = transaction.open_table(BY_USER)?;
    let entries = by_user.range((session, [0; 32])..=(session, [255; 32]))?;
    entries.map(|entry| Ok(entry?.0.value().1)).collect()
}

fn delete_one(transaction: &WriteTransaction, key: Key) -> Result<bool, redb::Error> {
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
    transaction.open_table(CODES)?.retain(|_, (_, forget)| forget >= now)?;
    prune(transaction, now)?;
    Ok(true)
}

/// Takes entries off the front of the log, up to the first that has to stay.
fn prune(transaction: &WriteTransaction, now: u64) -> Result<(), redb::Error> {
    let mut log = transaction.open_table(LOG)?;
    let mut last = None;
    for entry in log.range::<u64>(..)? {
        let (number, entry) = entry?;
        if entry.value().1 >= now {
            break;
        }
        last = Some(number.value());
    }
    if let Some(last) = last {
        log.retain_in(..=last, |_, _| false)?;
        transaction.open_table(NUMBERS)?.insert(PRUNED, last)?;
    }
    Ok(())
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
        let entry = Entry::session(id.key(), now, None);
        store.append(std::slice::from_ref(&entry), now + Duration::from_secs(60)).await.expect("written");
        let busy = Embedded::open(&path).map(drop).expect_err("one process at a time").to_string();
        assert!(busy.contains("sessions.redb`: another process has it open"), "{busy}");
        drop(store);
        let store = reopened(&path);
        assert_eq!(store.head().expect("read"), 1);
        assert_eq!(store.since(0).await.expect("read").entries, [(1, entry)]);
        assert!(store.load(id.key()).await.expect("read").is_some());
        assert!(store.delete(id.key()).await.expect("deleted"));
        assert!(!store.replace(id.key(), vec![1], None).await.expect("nothing to replace"));
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

    /// What could not be committed is durable beside the store, in the log as soon as the store can be written again, and there
    /// once.
    #[tokio::test]
    async fn entries_that_a_fault_kept_out_come_into_the_log() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("sessions.redb");
        let store = Embedded::open(&path).expect("opens");
        let (entry, forget) = (Entry::session(SessionKey([7; 32]), SystemTime::now(), None), SystemTime::now());
        store.close();
        store.append(std::slice::from_ref(&entry), forget).await.expect("durable all the same");
        let start = std::time::Instant::now();
        while store.head().expect("read") == 0 {
            assert!(start.elapsed().as_secs() < 10, "it is not tried again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.since(0).await.expect("read").entries, [(1, entry)]);
        store.append(&[Entry::Locks], forget).await.expect("written");
        assert_eq!(store.head().expect("read"), 2);
        assert!(!owed::beside(&path).exists());
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
