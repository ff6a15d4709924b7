//! The control plane: all that may wait for a disk or a provider, behind one door.
//!
//! Every method spawns its work on the control plane's own runtime and awaits the handle, so a client that leaves cancels
//! nothing: a rotated refresh token is always stored.

mod handles;
mod locks;
mod log;
mod log_out;
mod logouts;
mod refresh;
mod revoke;
mod sessions;
mod sign_in;

use crate::{
    audit::{Audit, Event},
    config::SessionSettings,
    fairness::{Every, Limit, Limits, Rate, Whom},
    forward::streams::Streams,
    oidc::{Issuer, Provider},
    principal::{Name, Person},
    refusal::Reason,
    session::{
        KeyRing, Live, Locks, Revocations, Session, SessionId, SessionKey, Store, StoreError, further, live::Clock,
        log::Entry, store::Names,
    },
};
pub use handles::Handle;
pub use log_out::LogoutError;
pub use revoke::{RevokeError, Revoked};
pub use sessions::{Listed, Page};
pub use sign_in::{RedeemError, Redemption, Visitor};

use locks::Owed;
use log_out::LOGOUTS;
use logouts::Logouts;
use sign_in::REDEMPTIONS;

use arc_swap::ArcSwap;
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};
use tokio::{runtime, sync::Semaphore};
use tokio_util::task::TaskTracker;

/// At most this many sessions are held open in memory; the others are read again when used.
const WARM: u64 = 200_000;

/// A session that nobody used for this long is closed in memory.
const COLD: Duration = Duration::from_secs(30 * 60);

/// How long the handle that a new sign-in replaces still works, for requests that are under way.
const REPLACED: Duration = Duration::from_secs(10);

/// So many tokens are revoked at providers at once.
const REVOCATIONS: usize = 16;

/// Questions about opaque tokens that one network may cause. An answer is good for 30 s, so that this many jobs behind one
/// address are served at once.
const QUESTIONS: Limit =
    Limit { rate: Some(Rate { requests: 20, every: Every::Second, burst: 200 }), concurrent: None };

/// The providers of one configuration, by name.
pub type Providers = HashMap<Name, Arc<Provider>>;

/// The token issuers of one configuration, by name.
pub type Issuers = HashMap<Name, Arc<Issuer>>;

/// The only door from the data plane to stores and providers.
pub struct Control {
    handle: runtime::Handle,
    /// What is under way.
    work: TaskTracker,
    /// Sessions that a new sign-in replaced, for the short while that their handles still work.
    replaced: Mutex<HashMap<SessionKey, Replaced>>,
    /// How many codes may be redeemed at once: anybody can begin a sign-in and come back with a wrong code.
    redeeming: Arc<Semaphore>,
    /// How many logout tokens may be checked at once.
    logging_out: Arc<Semaphore>,
    /// What logout tokens said lately.
    logouts: Logouts,
    /// How many tokens are revoked at providers at once.
    revoking: Arc<Semaphore>,
    /// Held while the store is asked about locks, so that it has them in the order in which they were set and taken away.
    locking: tokio::sync::Mutex<()>,
    /// Locks that the store has not taken yet. Held while those in force change, and never while the store is waited for.
    owed_locks: Mutex<Owed>,
    ring: KeyRing,
    store: Store,
    warm: moka::future::Cache<SessionKey, Arc<Live>>,
    /// Further handles that were used lately.
    further: moka::future::Cache<SessionKey, Handle>,
    /// Every session that anybody here holds, warm or not; see [`Control::only`].
    open: Mutex<HashMap<SessionKey, Weak<Live>>>,
    /// Sessions that ended and could not be deleted yet.
    undeleted: Mutex<HashSet<SessionKey>>,
    providers: ArcSwap<Providers>,
    /// How often one network may have issuers asked about opaque tokens: anybody can make some up.
    pub questions: Limits,
    limits: ArcSwap<SessionSettings>,
    /// Counters of rights that ended.
    pub revocations: Revocations,
    /// Who is kept out.
    pub locks: Locks,
    /// Users whose sessions ended, and until when those had begun, by the name they are filed under.
    ended_users: Mutex<HashMap<[u8; 32], u64>>,
    /// The number of the last entry of the revocation log that was taken in.
    cursor: AtomicU64,
    /// Long-lived connections.
    pub streams: Arc<Streams>,
    audit: Audit,
}

/// A session that a new sign-in replaced, and the handle of the new one.
type Replaced = (Arc<Live>, SessionId);

/// What [`Control::new`] puts together.
pub struct Parts {
    /// The control plane's runtime.
    pub handle: runtime::Handle,
    /// Seals records and states.
    pub ring: KeyRing,
    /// Where sessions are kept.
    pub store: Store,
    /// How long sessions live.
    pub limits: SessionSettings,
    /// Long-lived connections.
    pub streams: Arc<Streams>,
    /// Where events go.
    pub audit: Audit,
}

impl Control {
    /// The control plane's services.
    pub fn new(parts: Parts) -> Arc<Self> {
        Arc::new(Self {
            handle: parts.handle,
            work: TaskTracker::new(),
            replaced: Mutex::default(),
            redeeming: Arc::new(Semaphore::new(REDEMPTIONS)),
            logging_out: Arc::new(Semaphore::new(LOGOUTS)),
            logouts: Logouts::default(),
            revoking: Arc::new(Semaphore::new(REVOCATIONS)),
            locking: tokio::sync::Mutex::default(),
            owed_locks: Mutex::default(),
            ring: parts.ring,
            store: parts.store,
            warm: moka::future::Cache::builder().max_capacity(WARM).time_to_idle(COLD).build(),
            further: moka::future::Cache::builder().max_capacity(WARM).time_to_idle(COLD).build(),
            open: Mutex::default(),
            undeleted: Mutex::default(),
            providers: ArcSwap::default(),
            questions: Limits::new([(Whom::Address, QUESTIONS)], Instant::now()),
            limits: ArcSwap::from_pointee(parts.limits),
            revocations: Revocations::default(),
            locks: Locks::default(),
            ended_users: Mutex::default(),
            cursor: AtomicU64::new(0),
            streams: parts.streams,
            audit: parts.audit,
        })
    }

    /// Takes the providers and limits of a new configuration.
    pub fn configure(&self, providers: Providers, limits: SessionSettings) {
        self.providers.store(Arc::new(providers));
        self.limits.store(Arc::new(limits));
    }

    /// Uses up a token that is good for one request. False: it was used before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn spend(self: &Arc<Self>, token: [u8; 32], until: SystemTime) -> Result<bool, StoreError> {
        let this = self.clone();
        self.run(async move { this.store.use_state(token, until).await }).await.unwrap_or_else(|| Err(stopped()))
    }

    /// The key ring.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// How long sessions live.
    pub fn limits(&self) -> Arc<SessionSettings> {
        self.limits.load_full()
    }

    /// The providers in force.
    pub fn providers(&self) -> Arc<Providers> {
        self.providers.load_full()
    }

    /// A provider by name.
    pub fn provider(&self, name: &Name) -> Option<Arc<Provider>> {
        self.providers.load().get(name).cloned()
    }

    /// The provider that vouches for `person`: of that name, and still the same issuer (S-50).
    pub fn provider_of(&self, person: &Person) -> Option<Arc<Provider>> {
        self.provider(&person.id.provider).filter(|provider| provider.issuer() == &*person.issuer)
    }

    /// Runs `work` on the control plane and waits for it; it goes on if the caller does not.
    ///
    /// # Errors
    /// `None` if the work panicked or the process stops.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.work.spawn_on(work, &self.handle).await.ok()
    }

    /// Starts `work` on the control plane.
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.work.spawn_on(work, &self.handle));
    }

    /// Starts work that need not be finished when the process stops.
    pub fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        drop(self.handle.spawn(work));
    }

    /// Starts work that never ends by itself; whoever has the handle ends it.
    pub fn watch(&self, work: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
        self.handle.spawn(work).abort_handle()
    }

    /// Finishes what is under way, so that no rotated token is lost and no ended session comes back. Waits at most `bound`.
    pub async fn finish(self: &Arc<Self>, bound: Duration) {
        let replaced: Vec<_> = self.replaced().drain().map(|(_, replaced)| replaced).collect();
        for (live, new) in replaced {
            self.end_replaced(&live, &new, SystemTime::now());
        }
        self.work.close();
        if tokio::time::timeout(bound, self.work.wait()).await.is_err() {
            tracing::warn!(?bound, "work with stores or providers was not finished in time");
        }
    }

    fn replaced(&self) -> MutexGuard<'_, HashMap<SessionKey, Replaced>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session with this name, if this node holds it open.
    pub async fn warm(&self, key: &SessionKey) -> Option<Arc<Live>> {
        self.warm.get(key).await.filter(|live| !live.is_ended())
    }

    /// The session with this name, if anybody here holds it.
    pub fn held(&self, key: &SessionKey) -> Option<Arc<Live>> {
        self.open().get(key).and_then(Weak::upgrade)
    }

    /// Every session that anybody here holds.
    pub fn lives(&self) -> Vec<Arc<Live>> {
        let all: Vec<_> = self.open().values().filter_map(Weak::upgrade).collect();
        all.into_iter().filter(|live| !live.is_ended()).collect()
    }

    /// The one copy of a session in this process: of two, each would count its own idle time and redeem a refresh token
    /// that the other has used. `None`: it may have ended since the counter stood at `ended`, so it has to be read again.
    fn only(&self, live: Arc<Live>, ended: u64) -> Option<Arc<Live>> {
        let key = live.key();
        let mut open = self.open();
        if self.revocations.ended(&key) != ended {
            return None;
        }
        if let Some(there) = open.get(&key).and_then(Weak::upgrade) {
            return Some(there);
        }
        open.insert(key, Arc::downgrade(&live));
        Some(live)
    }

    fn open(&self) -> MutexGuard<'_, HashMap<SessionKey, Weak<Live>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the session that a new sign-in of the same person replaces, a little later. Its handles for other hosts then
    /// belong to the new one, whose handle is `new`; the handle `before`, which `new` takes the place of, is nobody's. That is
    /// written down at once: were this process killed meanwhile, nobody would remember to end it.
    pub fn replace_session(self: &Arc<Self>, before: Handle, new: SessionId, now: SystemTime) {
        let (this, old, key) = (self.clone(), before.live.clone(), before.live.key());
        self.give_up(&before, now);
        let trace = further::moved(&self.ring, old.handle(), &new);
        self.note_soon(Entry::session(key, now + REPLACED, Some(trace)));
        self.replaced().insert(key, (old, new));
        self.handle.spawn(async move {
            tokio::time::sleep(REPLACED).await;
            let replaced = this.replaced().remove(&key);
            if let Some((old, new)) = replaced {
                this.end_replaced(&old, &new, SystemTime::now());
            }
        });
    }

    fn end_replaced(self: &Arc<Self>, old: &Arc<Live>, new: &SessionId, now: SystemTime) {
        let trace = further::moved(&self.ring, old.handle(), new);
        if self.end_here(old, "replaced", now) {
            self.erase_soon(old.key(), Some(trace));
        }
    }

    /// Ends a session: at once in memory and for its streams, then in the store, however long that takes.
    pub fn end_session(self: &Arc<Self>, live: &Arc<Live>, why: &'static str, now: SystemTime) {
        if self.end_here(live, why, now) {
            self.note_and_erase(live.key(), now);
        }
    }

    /// A session's clocks ended it. It is nobody's from now on; where some route has `grace`, it is kept until that is over.
    pub fn lapse(self: &Arc<Self>, live: &Arc<Live>, why: &'static str, now: SystemTime) {
        let grace = self.limits.load().grace;
        if grace.is_zero() || now >= self.ends(live) + grace {
            return self.end_session(live, why, now);
        }
        if live.lapse() {
            self.streams.cut_session(&live.key().0, Reason::NoSession);
            let (person, session) = (live.session.person.clone(), live.hash.to_string());
            self.audit.record(Event::SessionEnded { person, session, why }, now);
            self.save_activity(live); // so that it stays ended, and is told once, whoever reads it again
        }
    }

    /// Ends a session in memory and for its streams, at once. False: it had ended.
    fn end_here(&self, live: &Arc<Live>, why: &'static str, now: SystemTime) -> bool {
        let lapsed = live.is_lapsed(); // then its end is told already
        if !live.end() {
            return false;
        }
        let key = live.key();
        self.shun(key);
        {
            let mut open = self.open();
            open.remove(&key);
            self.revocations.end_session(&key);
        }
        self.streams.cut_session(&key.0, Reason::NoSession);
        if !lapsed {
            let (person, session) = (live.session.person.clone(), live.hash.to_string());
            self.audit.record(Event::SessionEnded { person, session, why }, now);
        }
        true
    }

    /// Writes down that a session or handle has ended, and deletes what is stored of it, however long that takes.
    fn note_and_erase(self: &Arc<Self>, key: SessionKey, now: SystemTime) {
        let this = self.clone();
        self.start(async move {
            this.note(vec![Entry::session(key, now, None)]).await;
            this.erase_surely(key, None).await;
        });
    }

    /// Deletes what is stored of a session whose end is written down, however long that takes.
    fn erase_soon(self: &Arc<Self>, key: SessionKey, trace: Option<Vec<u8>>) {
        let this = self.clone();
        self.start(async move { this.erase_surely(key, trace).await });
    }

    async fn erase_surely(&self, key: SessionKey, trace: Option<Vec<u8>>) {
        self.warm.invalidate(&key).await;
        while let Err(error) = self.erase(key, trace.as_deref()).await {
            tracing::warn!(session = %key.hash(), %error, "an ended session is not deleted yet");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }

    /// Deletes a session with its further handles; or leaves them, with the `trace` that leads them on.
    async fn erase(&self, key: SessionKey, trace: Option<&[u8]>) -> Result<(), StoreError> {
        match trace {
            Some(trace) if !self.store.filed_under(key.0).await?.is_empty() => {
                self.store.replace(key, trace.to_vec(), None).await.map(drop)
            }
            _ => self.store.delete(key).await.map(drop),
        }
    }

    /// What is stored under this name counts no more.
    fn shun(&self, key: SessionKey) {
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
    }

    /// Sessions that ended and are still stored.
    fn undeleted(&self) -> HashSet<SessionKey> {
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_undeleted(&self, key: &SessionKey) -> bool {
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Tells the provider to forget the session's tokens; nobody waits for that.
    pub fn revoke_tokens(self: &Arc<Self>, live: &Arc<Live>) {
        let Some(provider) = self.provider_of(&live.session.person) else { return };
        let (tokens, turn) = (live.held().tokens, self.revoking.clone());
        self.start(async move {
            let _turn = turn.acquire().await;
            let token = tokens.refresh.as_ref().unwrap_or(&tokens.access.token);
            if let Err(error) = provider.revoke(token).await {
                tracing::warn!(%error, "the provider did not revoke a token");
            }
        });
    }

    /// Writes down that a session is in use, or that its clocks ended it.
    pub fn save_activity(self: &Arc<Self>, live: &Arc<Live>) {
        let (this, live) = (self.clone(), live.clone());
        self.start(async move {
            let _one = live.refreshing.lock().await;
            let record = live.record(&this.ring, &live.held());
            if let Err(error) = this.store.replace(live.key(), record, Some(this.names(&live.session))).await {
                tracing::warn!(session = %live.hash, %error, "a session's activity is not written");
            }
        });
    }

    /// The names under which a session is found, by the key of the ring that seals now.
    fn names(&self, session: &Session) -> Names {
        let person = &session.person;
        let name = |label, value: &str| self.ring.names(label, &[person.issuer.as_bytes(), value.as_bytes()])[0];
        Names { user: name("user", &person.id.subject), sid: session.sid.as_deref().map(|sid| name("sid", sid)) }
    }

    /// How many stored records need each key of the ring.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn key_uses(&self) -> Result<HashMap<[u8; 4], u64>, StoreError> {
        self.store.key_uses().await
    }

    /// How many sessions are open in memory.
    pub fn sessions_open(&self) -> usize {
        self.open().values().filter(|live| live.strong_count() > 0).count()
    }

    /// What a session's clocks say.
    pub fn clock(&self, live: &Live, now: SystemTime) -> Clock {
        let person = &live.session.person;
        let providers = self.providers.load();
        let provider = providers.get(&person.id.provider);
        if provider.is_some_and(|provider| provider.issuer() != &*person.issuer) {
            return Clock::Moved;
        }
        live.clock(now, self.limits.load().idle, without_refresh(provider))
    }

    /// When a session ends if nobody uses it any more.
    pub fn ends(&self, live: &Live) -> SystemTime {
        let providers = self.providers.load();
        live.ends(self.limits.load().idle, without_refresh(providers.get(&live.session.person.id.provider)))
    }

    /// Sweeps the store every minute. Never returns.
    pub async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(60)).await;
            self.questions.sweep(Instant::now());
            self.open().retain(|_, live| live.strong_count() > 0);
            self.lift_what_is_over(SystemTime::now()).await;
            self.forget_users(SystemTime::now());
            if let Err(error) = self.store.sweep(SystemTime::now()).await {
                tracing::warn!(%error, "the session store was not swept");
            }
        }
    }
}

/// How long a session without refresh token lives; not at all, if its provider is no longer configured.
fn without_refresh(provider: Option<&Arc<Provider>>) -> Duration {
    provider.map_or(Duration::ZERO, |provider| provider.settings.without_refresh)
}

fn stopped() -> StoreError {
    StoreError::Unavailable("the control plane stops".into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::config::{AuditSettings, ProviderSettings};
    use crate::{config::ProviderKind, oidc::SignedIn, session::record};
    use secrecy::SecretString;

    /// A control plane in a directory of its own, with one session in it.
    pub(crate) async fn scene() -> (tempfile::TempDir, Arc<Control>, SessionId, Arc<Live>) {
        let directory = tempfile::tempdir().expect("a directory");
        let control = open(directory.path());
        let (id, live) = control.another("907").await;
        (directory, control, id, live)
    }

    fn open(directory: &std::path::Path) -> Arc<Control> {
        let at = |name: &str| directory.join(name);
        let audit = Audit::open(&at("journal"), &at("keys"), &AuditSettings::for_test(1 << 20)).expect("opens");
        Control::new(Parts {
            handle: runtime::Handle::current(),
            ring: KeyRing::of(&[[5; 32]]),
            store: Store::embedded(directory).expect("opens"),
            limits: SessionSettings {
                idle: Duration::from_secs(1800),
                absolute: Duration::from_secs(28_800),
                grace: Duration::ZERO,
            },
            streams: Arc::default(),
            audit,
        })
    }

    /// Configures the provider `gitlab` with this issuer.
    pub(crate) fn serve(control: &Control, issuer: &str) {
        let (name, secret) = ("gitlab".parse().expect("a name"), SecretString::from("secret"));
        let settings = ProviderSettings::new(name, ProviderKind::Gitlab, issuer, "client", secret);
        let provider = Provider::new(Arc::new(settings), &std::env::temp_dir());
        let providers = HashMap::from([(provider.settings.name.clone(), provider)]);
        control.configure(providers, control.limits().as_ref().clone());
    }

    /// What is there after a kill right now and a new start.
    pub(crate) async fn killed(control: &Control, directory: &tempfile::TempDir) -> (tempfile::TempDir, Arc<Control>) {
        control.store.break_down();
        let copy = tempfile::tempdir().expect("a directory");
        for entry in std::fs::read_dir(directory.path()).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                std::fs::copy(&path, copy.path().join(path.file_name().expect("a name"))).expect("copied");
            }
        }
        let restarted = open(copy.path());
        restarted.recover().await.expect("read");
        (copy, restarted)
    }

    impl Control {
        /// One more session, of the person with this subject.
        pub(crate) async fn another(self: &Arc<Self>, subject: &str) -> (SessionId, Arc<Live>) {
            self.another_at(subject, SystemTime::now()).await
        }

        pub(crate) async fn another_at(self: &Arc<Self>, subject: &str, now: SystemTime) -> (SessionId, Arc<Live>) {
            self.another_of(subject, None, now).await
        }

        /// One more, of the provider's session `sid`.
        pub(crate) async fn another_of(
            self: &Arc<Self>,
            subject: &str,
            sid: Option<&str>,
            now: SystemTime,
        ) -> (SessionId, Arc<Live>) {
            let (session, held) = record::tests::sample(&SessionId::new(), now);
            let sid = sid.map(str::to_owned);
            let mut person = (*session.person).clone();
            person.id.subject = subject.into();
            let proved = SignedIn { person, tokens: held.tokens, sid, strength: Default::default(), groups: None };
            let from = Visitor { host: "portal.example.com".into(), device: None, browser: None };
            self.file(proved, from, now).await.expect("filed")
        }

        /// Waits until all that ended is deleted.
        pub(crate) async fn settle(&self) {
            while !self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A core that has a session at hand does not keep it warm. Another core must then find the same copy: a second one
    /// would redeem the refresh token that the first has used, and end the session as idle.
    #[tokio::test]
    async fn s57_a_session_in_use_is_open_once() {
        let (_directory, control, id, live) = scene().await;
        control.warm.invalidate(&id.key()).await;
        let again = control.handle(id.clone()).await.expect("read").expect("there").live;
        assert!(Arc::ptr_eq(&live, &again));
        drop((live, again));
        control.warm.invalidate(&id.key()).await;
        control.warm.run_pending_tasks().await;
        assert!(control.handle(id).await.expect("read").is_some(), "nobody had it open: read anew");
    }

    /// S-54: whoever was still reading a session when it ended does not bring it back.
    #[tokio::test]
    async fn s54_a_session_that_ends_while_it_is_read_stays_ended() {
        let (_directory, control, id, live) = scene().await;
        let stored = control.store.load(id.key()).await.expect("read").expect("there");
        let ended = control.revocations.ended(&id.key());
        control.end_session(&live, "signed_out", SystemTime::now());
        while control.is_undeleted(&id.key()) {
            tokio::task::yield_now().await;
        }
        let session = record::open_index(&control.ring, &id.key(), &stored).expect("opens");
        let held = record::open_tokens(&control.ring, &id, &stored).expect("opens");
        assert!(control.only(Live::new(id.clone(), session, held), ended).is_none());
        assert!(control.handle(id).await.expect("read").is_none());
    }

    /// S-54: what was still to be written of a session when another replaced it does not bring it back.
    #[tokio::test]
    async fn s54_a_replaced_session_is_not_written_back() {
        let (_directory, control, id, live) = scene().await;
        let now = SystemTime::now();
        let further = control.further(&live, "api.example.com".into(), None, now).await.expect("filed");
        control.end_replaced(&live, &SessionId::new(), now);
        while control.is_undeleted(&id.key()) {
            tokio::task::yield_now().await;
        }
        control.save_activity(&live);
        control.finish(Duration::from_secs(10)).await;
        assert!(control.handle(id).await.expect("read").is_none());
        assert!(control.handle(further).await.expect("read").is_none());
    }

    /// S-50: a subject is an issuer's. Where a provider's name stands for another issuer after a reload, a session of
    /// before is nobody's, and its tokens are not sent there.
    #[tokio::test]
    async fn s50_a_session_is_of_its_issuer_whatever_the_providers_name() {
        let (_directory, control, _, live) = scene().await;
        serve(&control, "https://gitlab.example.com");
        assert_eq!(control.clock(&live, SystemTime::now()), Clock::Alive);
        serve(&control, "https://other.example.com");
        assert_eq!(control.clock(&live, SystemTime::now()), Clock::Moved);
        assert!(control.provider_of(&live.session.person).is_none());
    }
}
