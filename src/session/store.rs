//! Where sessions are kept. A new store is one variant and one line per method.

use super::{
    SessionKey,
    embedded::Embedded,
    log::{Entry, Part},
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Where sessions are kept.
pub enum Store {
    /// One file on this machine.
    Embedded(Embedded),
}

/// A session to be filed.
#[derive(Clone, Debug)]
pub struct Filed {
    /// Its name.
    pub key: SessionKey,
    /// The sealed record.
    pub record: Vec<u8>,
    /// The name under which the sessions of its user are found.
    pub user: [u8; 32],
    /// The name under which the sessions of the provider's session are found.
    pub sid: Option<[u8; 32]>,
    /// When it may be swept away.
    pub end: SystemTime,
}

/// The names under which a session is found: its user's, and that of the provider's session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Names {
    /// Of its user.
    pub user: [u8; 32],
    /// Of the provider's session.
    pub sid: Option<[u8; 32]>,
}

/// Why the store did not do as it was told.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The file cannot be opened.
    #[error("cannot open the session store `{path}`: {cause}")]
    Open {
        /// Which file.
        path: String,
        /// Why, and what to do.
        cause: String,
    },
    /// It could not be read or written this time; it will be tried again.
    #[error("the session store does not answer: {0}")]
    Unavailable(String),
}

impl Store {
    /// Opens the embedded store in `state`.
    ///
    /// # Errors
    /// [`StoreError::Open`].
    pub fn embedded(state: &Path) -> Result<Self, StoreError> {
        Embedded::open(&Self::embedded_file(state)).map(Self::Embedded)
    }

    /// The file of the embedded store in `state`.
    pub(super) fn embedded_file(state: &Path) -> PathBuf {
        state.join("sessions.redb")
    }

    /// Files a new session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn create(&self, filed: Filed) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.create(filed).await,
        }
    }

    /// The record of a session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn load(&self, key: SessionKey) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(store) => store.load(key).await,
        }
    }

    /// Replaces the record of a session that is still there, and files it under `names`, if there are any. False: it is gone,
    /// or another took its place: what it left behind stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn replace(&self, key: SessionKey, record: Vec<u8>, names: Option<Names>) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.replace(key, record, names).await,
        }
    }

    /// How many stored records need each key of the ring, by the key's id.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn key_uses(&self) -> Result<HashMap<[u8; 4], u64>, StoreError> {
        match self {
            Self::Embedded(store) => store.key_uses().await,
        }
    }

    /// Forgets a session with its further handles, or one such handle. False: it was not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn delete(&self, key: SessionKey) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.delete(key).await,
        }
    }

    /// Remembers that the sign-in state with this hash was used. False: it had been used before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn use_state(&self, hash: [u8; 32], forget: SystemTime) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.use_state(hash, forget).await,
        }
    }

    /// The sessions and handles that are filed under a name.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn filed_under(&self, name: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        match self {
            Self::Embedded(store) => store.filed_under(name).await,
        }
    }

    /// The sessions that are filed under a provider's session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn filed_under_sid(&self, name: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        match self {
            Self::Embedded(store) => store.filed_under_sid(name).await,
        }
    }

    /// Keeps what stands behind a code, by the code's hash, until it is taken or `forget`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn put_code(&self, hash: [u8; 32], sealed: Vec<u8>, forget: SystemTime) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.put_code(hash, sealed, forget).await,
        }
    }

    /// Takes what stands behind a code. Of any number of callers one gets it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn take_code(&self, hash: [u8; 32]) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(store) => store.take_code(hash).await,
        }
    }

    /// Puts entries at the end of the revocation log, to stay at least until `forget`. They are durable when this returns.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: none of them is there, as far as can be told.
    pub async fn append(&self, entries: &[Entry], forget: SystemTime) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.append(entries, forget).await,
        }
    }

    /// The number of the log's last entry; 0 if there never was one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn head(&self) -> Result<u64, StoreError> {
        match self {
            Self::Embedded(store) => store.head(),
        }
    }

    /// The entries of the log after the one with the number `cursor`, as many as are read at once, and whether some of them
    /// have been pruned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn since(&self, cursor: u64) -> Result<Part, StoreError> {
        match self {
            Self::Embedded(store) => store.since(cursor).await,
        }
    }

    /// Keeps a lock by its name, in place of one of before, and says so in the log, all at once.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn set_lock(&self, name: [u8; 32], lock: Vec<u8>, forget: SystemTime) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.set_lock(name, lock, forget).await,
        }
    }

    /// Takes a lock away, and says so in the log. False: it was not there.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn drop_lock(&self, name: [u8; 32], forget: SystemTime) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(store) => store.drop_lock(name, forget).await,
        }
    }

    /// Every lock, in no order.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn locks(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(store) => store.locks().await,
        }
    }

    /// The records of at most `limit` sessions, further handles and traces aside, in the order of their names after `after`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn page(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Vec<u8>)>, StoreError> {
        match self {
            Self::Embedded(store) => store.page(after, limit).await,
        }
    }

    /// Those of `keys` under which a session or a further handle is stored.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn kept(&self, keys: Vec<SessionKey>) -> Result<Vec<SessionKey>, StoreError> {
        match self {
            Self::Embedded(store) => store.kept(keys).await,
        }
    }

    /// Forgets what ended before `now`, and the oldest entries of the log whose time is over.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.sweep(now).await,
        }
    }

    /// Closes the file in order. The store does not answer until the next write has failed, as after a fault of the disk.
    pub fn close(&self) {
        match self {
            Self::Embedded(store) => store.close(),
        }
    }

    /// Never answers again.
    #[cfg(test)]
    pub(crate) fn break_down(&self) {
        match self {
            Self::Embedded(store) => store.break_down(),
        }
    }
}

/// What every store keeps to. A new one is one more line at the end: how an empty one is made.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{KeyRing, SessionId, further, log::EndedUser, record};
    use std::{collections::BTreeSet, time::Duration};

    fn ring() -> KeyRing {
        KeyRing::of(&[[9; 32]])
    }

    fn filed(id: &SessionId, now: SystemTime) -> Filed {
        let (session, held) = record::tests::sample(id, now);
        let record = record::seal(&ring(), id, &session, &held);
        Filed { key: id.key(), record, user: [1; 32], sid: Some([2; 32]), end: session.end }
    }

    fn after(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    fn ended(byte: u8) -> Entry {
        Entry::session(SessionKey([byte; 32]), record::time(1_789_000_000), None)
    }

    async fn a_session_is_there_until_it_is_deleted(store: &Store) {
        let id = SessionId::new();
        assert_eq!(store.load(id.key()).await.expect("read"), None);
        assert!(!store.replace(id.key(), vec![1], None).await.expect("nothing to replace"));
        let first = filed(&id, SystemTime::now());
        store.create(first.clone()).await.expect("written");
        assert_eq!(store.load(id.key()).await.expect("read"), Some(first.record));
        let second = filed(&id, after(60)).record;
        assert!(store.replace(id.key(), second.clone(), None).await.expect("replaced"));
        assert_eq!(store.load(id.key()).await.expect("read"), Some(second.clone()));
        assert!(store.delete(id.key()).await.expect("deleted"));
        assert!(!store.delete(id.key()).await.expect("gone"));
        assert!(!store.replace(id.key(), second, None).await.expect("it does not come back"));
        assert_eq!(store.load(id.key()).await.expect("read"), None);
    }

    async fn a_session_is_found_by_the_names_it_is_filed_under(store: &Store) {
        let (one, other) = (SessionId::new(), SessionId::new());
        let now = SystemTime::now();
        let filed_one = filed(&one, now);
        store.create(filed_one.clone()).await.expect("written");
        store.create(Filed { user: [8; 32], sid: None, ..filed(&other, now) }).await.expect("written");
        assert_eq!(store.filed_under([1; 32]).await.expect("read"), [one.key()]);
        assert_eq!(store.filed_under([8; 32]).await.expect("read"), [other.key()]);
        assert_eq!(store.filed_under_sid([2; 32]).await.expect("read"), [one.key()]);
        let names = Names { user: [3; 32], sid: Some([4; 32]) };
        assert!(store.replace(one.key(), filed_one.record, Some(names)).await.expect("replaced"));
        assert_eq!(store.filed_under([1; 32]).await.expect("read"), []);
        assert_eq!(store.filed_under([3; 32]).await.expect("read"), [one.key()]);
        assert_eq!(store.filed_under_sid([2; 32]).await.expect("read"), []);
        assert_eq!(store.filed_under_sid([4; 32]).await.expect("read"), [one.key()]);
        store.delete(one.key()).await.expect("deleted");
        assert_eq!(store.filed_under([3; 32]).await.expect("read"), []);
        assert_eq!(store.filed_under_sid([4; 32]).await.expect("read"), []);
    }

    /// S-54: a session and all that leads to it go at once, so that none comes back after a crash; and what a session that was
    /// replaced leaves behind is not overwritten.
    async fn s54_a_session_goes_with_its_further_handles(store: &Store) {
        let (id, further, now) = (SessionId::new(), SessionId::new(), SystemTime::now());
        let session = filed(&id, now);
        store.create(session.clone()).await.expect("written");
        store.create(Filed { user: id.key().0, sid: None, ..filed(&further, now) }).await.expect("written");
        let trace = further::moved(&ring(), &id, &SessionId::new());
        assert!(store.replace(id.key(), trace.clone(), None).await.expect("replaced"));
        let names = Names { user: session.user, sid: session.sid };
        assert!(!store.replace(id.key(), session.record, Some(names)).await.expect("not replaced"));
        assert_eq!(store.load(id.key()).await.expect("read"), Some(trace));
        assert!(store.delete(id.key()).await.expect("deleted"));
        assert_eq!(store.load(further.key()).await.expect("read"), None);
        assert_eq!(store.filed_under(id.key().0).await.expect("read"), []);
    }

    async fn a_code_is_taken_once(store: &Store) {
        store.put_code([1; 32], b"sealed".to_vec(), after(30)).await.expect("written");
        let (one, other) = tokio::join!(store.take_code([1; 32]), store.take_code([1; 32]));
        let taken: Vec<_> = [one, other].into_iter().filter_map(|it| it.expect("read")).collect();
        assert_eq!(taken, [b"sealed".to_vec()]);
        store.put_code([2; 32], b"sealed".to_vec(), after(30)).await.expect("written");
        store.sweep(after(31)).await.expect("swept");
        assert_eq!(store.take_code([2; 32]).await.expect("read"), None);
    }

    async fn a_state_is_used_once(store: &Store) {
        assert!(store.use_state([5; 32], after(600)).await.expect("first"));
        assert!(!store.use_state([5; 32], after(600)).await.expect("second"));
        store.sweep(after(500)).await.expect("swept");
        assert!(!store.use_state([5; 32], after(600)).await.expect("not yet forgotten"));
        store.sweep(after(1200)).await.expect("swept");
        assert!(store.use_state([5; 32], after(1800)).await.expect("forgotten"));
    }

    async fn what_ended_is_swept(store: &Store) {
        let id = SessionId::new(); // it ends after an hour
        store.create(filed(&id, SystemTime::now())).await.expect("written");
        store.sweep(after(1800)).await.expect("swept");
        assert!(store.load(id.key()).await.expect("read").is_some());
        store.sweep(after(3700)).await.expect("swept");
        assert!(store.load(id.key()).await.expect("read").is_none());
        assert_eq!(store.filed_under([1; 32]).await.expect("read"), []);
    }

    async fn the_uses_of_a_key_are_counted(store: &Store) {
        let (one, other) = (SessionId::new(), SessionId::new());
        store.create(filed(&one, SystemTime::now())).await.expect("written");
        store.create(filed(&other, SystemTime::now())).await.expect("written");
        let id = ring().about()[0].id;
        assert_eq!(store.key_uses().await.expect("read"), HashMap::from([(id, 2)]));
        store.delete(one.key()).await.expect("deleted");
        assert_eq!(store.key_uses().await.expect("read"), HashMap::from([(id, 1)]));
    }

    /// Whoever follows reads every entry once and in order, whoever else appends meanwhile.
    async fn the_log_has_an_order(store: &Store) {
        assert_eq!(store.head().await.expect("read"), 0);
        assert_eq!(store.since(0).await.expect("read"), Part::default());
        let user = Entry::User(EndedUser { name: [3; 32], slot: 7, at: 5 });
        store.append(&[ended(1), user.clone()], after(60)).await.expect("written");
        let at_once = (4..54).map(|byte| async move { store.append(&[ended(byte)], after(60)).await });
        futures_util::future::join_all(at_once).await.into_iter().for_each(|done| done.expect("written"));
        assert_eq!(store.head().await.expect("read"), 52);
        let part = store.since(0).await.expect("read");
        assert!(!part.gap);
        assert!(part.entries.iter().map(|(number, _)| *number).eq(1..=52), "{part:?}");
        assert_eq!((&part.entries[0].1, &part.entries[1].1), (&ended(1), &user));
        let all: BTreeSet<_> = part.entries.iter().map(|(_, entry)| format!("{entry:?}")).collect();
        assert_eq!(all.len(), 52, "each is there once");
        let rest = store.since(50).await.expect("read");
        assert_eq!(rest.entries, part.entries[50..]);
        assert_eq!(store.since(52).await.expect("read"), Part::default());
    }

    /// Old entries go, from the front, and their numbers do not come again; whoever has not read them is told.
    async fn the_log_is_pruned_and_says_so(store: &Store) {
        store.append(&[ended(1), ended(2)], after(60)).await.expect("written");
        store.append(&[ended(3)], after(600)).await.expect("written");
        store.append(&[ended(4)], after(60)).await.expect("written");
        store.sweep(after(59)).await.expect("swept");
        assert_eq!(store.since(0).await.expect("read").entries.len(), 4);
        store.sweep(after(120)).await.expect("swept");
        let part = store.since(0).await.expect("read");
        assert_eq!(part.entries, [(3, ended(3)), (4, ended(4))], "in order, up to the first that has to stay");
        assert!(part.gap && store.since(1).await.expect("read").gap);
        assert!(!store.since(2).await.expect("read").gap && !store.since(4).await.expect("read").gap);
        store.sweep(after(1200)).await.expect("swept");
        assert_eq!(store.head().await.expect("read"), 4);
        store.append(&[ended(5)], after(3600)).await.expect("written");
        assert_eq!(store.since(4).await.expect("read").entries, [(5, ended(5))]);
    }

    /// A lock is there once, and whoever follows the log hears of every change.
    async fn locks_are_kept_and_logged(store: &Store) {
        assert!(store.locks().await.expect("read").is_empty());
        store.set_lock([1; 32], b"one".to_vec(), after(60)).await.expect("set");
        store.set_lock([2; 32], b"two".to_vec(), after(60)).await.expect("set");
        store.set_lock([1; 32], b"three".to_vec(), after(60)).await.expect("set");
        let mut locks = store.locks().await.expect("read");
        locks.sort();
        assert_eq!(locks, [b"three".to_vec(), b"two".to_vec()]);
        assert!(store.drop_lock([1; 32], after(60)).await.expect("dropped"));
        assert!(!store.drop_lock([1; 32], after(60)).await.expect("gone"));
        assert_eq!(store.locks().await.expect("read"), [b"two".to_vec()]);
        let entries = store.since(0).await.expect("read").entries;
        assert_eq!(entries, [(1, Entry::Locks), (2, Entry::Locks), (3, Entry::Locks), (4, Entry::Locks)]);
        store.sweep(after(3600)).await.expect("swept");
        assert_eq!(store.locks().await.expect("read"), [b"two".to_vec()], "a lock is not swept");
    }

    async fn sessions_are_read_page_by_page(store: &Store) {
        let mut expected = Vec::new();
        for _ in 0..7 {
            let id = SessionId::new();
            store.create(filed(&id, SystemTime::now())).await.expect("written");
            expected.push(id.key());
        }
        expected.sort();
        let handle = SessionId::new();
        let further =
            further::Further { host: "api.example.com".into(), created: SystemTime::now(), sign_in: SessionId::new() };
        let record = further.seal(&ring(), &handle);
        let user = expected[0].0;
        store.create(Filed { record, user, sid: None, ..filed(&handle, SystemTime::now()) }).await.expect("written");
        let gone = SessionId::new();
        store.create(filed(&gone, SystemTime::now())).await.expect("written");
        store.replace(gone.key(), further::moved(&ring(), &gone, &handle), None).await.expect("replaced");
        let (mut read, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.page(cursor, 3).await.expect("read");
            assert!(page.len() <= 3);
            read.extend(page.iter().map(|(key, _)| *key));
            cursor = page.last().map(|(key, _)| *key);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(read, expected);
        let kept = store.kept(vec![expected[0], handle.key(), gone.key(), SessionKey([0; 32])]).await.expect("read");
        assert_eq!(kept, [expected[0], handle.key()], "sessions and handles, and no traces");
    }

    macro_rules! every_store {
        ($store:ident: $make:expr, $($claim:ident)*) => {
            mod $store {
                use super::*;
                $(
                    #[tokio::test]
                    async fn $claim() {
                        let (_kept, store) = $make;
                        super::$claim(&store).await;
                    }
                )*
            }
        };
    }

    every_store! {
        embedded: {
            let directory = tempfile::tempdir().expect("a directory");
            let store = Store::embedded(directory.path()).expect("opens");
            (directory, store)
        },
        a_session_is_there_until_it_is_deleted
        a_session_is_found_by_the_names_it_is_filed_under
        s54_a_session_goes_with_its_further_handles
        a_code_is_taken_once
        a_state_is_used_once
        what_ended_is_swept
        the_uses_of_a_key_are_counted
        the_log_has_an_order
        the_log_is_pruned_and_says_so
        locks_are_kept_and_logged
        sessions_are_read_page_by_page
    }
}
