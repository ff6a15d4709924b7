//! The control plane: all that may wait for a disk or a provider, behind one door.
//!
//! Every method spawns its work on the control plane's own runtime and awaits the handle, so a client that leaves cancels
//! nothing: a rotated refresh token is always stored.

mod refresh;
mod sign_in;

use crate::{
    audit::{Audit, Event},
    config::SessionSettings,
    forward::streams::Streams,
    oidc::Provider,
    principal::{Name, Person},
    refusal::Reason,
    session::{KeyRing, Live, Revocations, SessionId, SessionKey, Store, StoreError, live::Clock, record},
};
pub use sign_in::{RedeemError, Redemption};

use sign_in::REDEMPTIONS;

use arc_swap::ArcSwap;
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime},
};
use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::task::TaskTracker;

/// At most this many sessions are held open in memory; the others are read again when used.
const WARM: u64 = 200_000;

/// A session that nobody used for this long is closed in memory.
const COLD: Duration = Duration::from_secs(30 * 60);

/// How long the handle that a new sign-in replaces still works, for requests that are under way.
const REPLACED: Duration = Duration::from_secs(10);

/// The providers of one configuration, by name.
pub type Providers = HashMap<Name, Arc<Provider>>;

/// The only door from the data plane to stores and providers.
pub struct Control {
    handle: Handle,
    /// What is under way.
    work: TaskTracker,
    /// Sessions that a new sign-in replaced, for the short while that their handles still work.
    replaced: Mutex<HashMap<SessionKey, Arc<Live>>>,
    /// How many codes may be redeemed at once: anybody can begin a sign-in and come back with a wrong code.
    redeeming: Arc<Semaphore>,
    ring: KeyRing,
    store: Store,
    warm: moka::future::Cache<SessionKey, Arc<Live>>,
    /// Every session that anybody here holds, warm or not; see [`Control::only`].
    open: Mutex<HashMap<SessionKey, Weak<Live>>>,
    /// Sessions that ended and could not be deleted yet.
    undeleted: Mutex<HashSet<SessionKey>>,
    providers: ArcSwap<Providers>,
    limits: ArcSwap<SessionSettings>,
    /// Counters of rights that ended.
    pub revocations: Revocations,
    /// Long-lived connections.
    pub streams: Arc<Streams>,
    audit: Audit,
}

/// What [`Control::new`] puts together.
pub struct Parts {
    /// The control plane's runtime.
    pub handle: Handle,
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
            ring: parts.ring,
            store: parts.store,
            warm: moka::future::Cache::builder().max_capacity(WARM).time_to_idle(COLD).build(),
            open: Mutex::default(),
            undeleted: Mutex::default(),
            providers: ArcSwap::default(),
            limits: ArcSwap::from_pointee(parts.limits),
            revocations: Revocations::default(),
            streams: parts.streams,
            audit: parts.audit,
        })
    }

    /// Takes the providers and limits of a new configuration.
    pub fn configure(&self, providers: Providers, limits: SessionSettings) {
        self.providers.store(Arc::new(providers));
        self.limits.store(Arc::new(limits));
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

    /// Finishes what is under way, so that no rotated token is lost and no ended session comes back. Waits at most `bound`.
    pub async fn finish(self: &Arc<Self>, bound: Duration) {
        let replaced: Vec<_> = self.replaced().drain().map(|(_, live)| live).collect();
        for live in replaced {
            self.end_session(&live, "replaced", SystemTime::now());
        }
        self.work.close();
        if tokio::time::timeout(bound, self.work.wait()).await.is_err() {
            tracing::warn!(?bound, "work with stores or providers was not finished in time");
        }
    }

    fn replaced(&self) -> MutexGuard<'_, HashMap<SessionKey, Arc<Live>>> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session with this handle, from memory or from the store.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a record that does not open is no session.
    pub async fn session(self: &Arc<Self>, id: SessionId) -> Result<Option<Arc<Live>>, StoreError> {
        if let Some(live) = self.warm.get(&id.key()).await {
            return Ok((!live.is_ended()).then_some(live));
        }
        let this = self.clone();
        self.run(async move { this.load(id).await }).await.unwrap_or_else(|| Err(stopped()))
    }

    /// The session with this name, if this node holds it open.
    pub async fn warm(&self, key: &SessionKey) -> Option<Arc<Live>> {
        self.warm.get(key).await.filter(|live| !live.is_ended())
    }

    async fn load(self: Arc<Self>, id: SessionId) -> Result<Option<Arc<Live>>, StoreError> {
        let key = id.key();
        loop {
            let ended = self.revocations.ended(&key);
            if self.is_undeleted(&key) {
                return Ok(None);
            }
            let Some(stored) = self.store.load(key).await? else { return Ok(None) };
            let opened = record::open_index(&self.ring, &key, &stored)
                .and_then(|session| Ok((session, record::open_tokens(&self.ring, &id, &stored)?)));
            match opened {
                Ok((session, held)) => {
                    let Some(live) = self.only(Live::new(id.clone(), session, held), ended) else { continue };
                    self.warm.insert(key, live.clone()).await;
                    return Ok((!live.is_ended()).then_some(live));
                }
                Err(error) => {
                    tracing::warn!(session = %key.hash(), %error, "a stored session cannot be opened");
                    return Ok(None);
                }
            }
        }
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

    /// Ends the session that a new sign-in of the same person replaces, a little later.
    pub fn replace_session(self: &Arc<Self>, old: Arc<Live>) {
        let (this, key) = (self.clone(), old.key());
        self.replaced().insert(key, old);
        self.handle.spawn(async move {
            tokio::time::sleep(REPLACED).await;
            let old = this.replaced().remove(&key);
            if let Some(old) = old {
                this.end_session(&old, "replaced", SystemTime::now());
            }
        });
    }

    /// Ends a session: at once in memory and for its streams, then in the store, however long that takes.
    pub fn end_session(self: &Arc<Self>, live: &Arc<Live>, why: &'static str, now: SystemTime) {
        if !live.end() {
            return;
        }
        let key = live.key();
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        {
            let mut open = self.open();
            open.remove(&key);
            self.revocations.end_session(&key);
        }
        self.streams.cut_session(&key.0, Reason::NoSession);
        let (person, session) = (live.session.person.clone(), live.hash.to_string());
        self.audit.record(Event::SessionEnded { person, session, why }, now);
        let this = self.clone();
        self.start(async move {
            this.warm.invalidate(&key).await;
            while let Err(error) = this.store.delete(key).await {
                tracing::warn!(session = %key.hash(), %error, "an ended session is not deleted yet");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            this.undeleted.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }

    fn is_undeleted(&self, key: &SessionKey) -> bool {
        self.undeleted.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Tells the provider to forget the session's tokens; nobody waits for that.
    pub fn revoke_tokens(self: &Arc<Self>, live: &Arc<Live>) {
        let Some(provider) = self.provider_of(&live.session.person) else { return };
        let tokens = live.held().tokens;
        self.start(async move {
            let token = tokens.refresh.as_ref().unwrap_or(&tokens.access);
            if let Err(error) = provider.revoke(token).await {
                tracing::warn!(%error, "the provider did not revoke a token");
            }
        });
    }

    /// Writes down that a session is in use.
    pub fn save_activity(self: &Arc<Self>, live: &Arc<Live>) {
        let (this, live) = (self.clone(), live.clone());
        self.start(async move {
            let _one = live.refreshing.lock().await;
            let record = live.record(&this.ring, &live.held());
            if let Err(error) = this.store.replace(live.key(), record).await {
                tracing::warn!(session = %live.hash, %error, "a session's activity is not written");
            }
        });
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
            self.open().retain(|_, live| live.strong_count() > 0);
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
    use crate::config::{AuditMode, ProviderSettings};
    use crate::{config::ProviderKind, oidc::SignedIn};
    use secrecy::SecretString;

    /// A control plane in a directory of its own, with one session in it.
    pub(crate) async fn scene() -> (tempfile::TempDir, Arc<Control>, SessionId, Arc<Live>) {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let audit = Audit::open(&at("journal"), &at("keys"), AuditMode::BestEffort, 1 << 20).expect("opens");
        let control = Control::new(Parts {
            handle: Handle::current(),
            ring: KeyRing::of(&[[5; 32]]),
            store: Store::embedded(directory.path()).expect("opens"),
            limits: SessionSettings { idle: Duration::from_secs(1800), absolute: Duration::from_secs(28_800) },
            streams: Arc::default(),
            audit,
        });
        let now = SystemTime::now();
        let (session, held) = record::tests::sample(&SessionId::new(), now);
        let proved = SignedIn {
            person: (*session.person).clone(),
            tokens: held.tokens,
            sid: None,
            auth_time: None,
            amr: Vec::new(),
            acr: None,
            groups: None,
        };
        let (id, live) = control.file(proved, None, now).await.expect("filed");
        (directory, control, id, live)
    }

    /// A core that has a session at hand does not keep it warm. Another core must then find the same copy: a second one
    /// would redeem the refresh token that the first has used, and end the session as idle.
    #[tokio::test]
    async fn s57_a_session_in_use_is_open_once() {
        let (_directory, control, id, live) = scene().await;
        control.warm.invalidate(&id.key()).await;
        let again = control.session(id.clone()).await.expect("read").expect("there");
        assert!(Arc::ptr_eq(&live, &again));
        drop((live, again));
        control.warm.invalidate(&id.key()).await;
        control.warm.run_pending_tasks().await;
        assert!(control.session(id).await.expect("read").is_some(), "nobody had it open: read anew");
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
        assert!(control.session(id).await.expect("read").is_none());
    }

    /// S-50: a subject is an issuer's. Where a provider's name stands for another issuer after a reload, a session of
    /// before is nobody's, and its tokens are not sent there.
    #[tokio::test]
    async fn s50_a_session_is_of_its_issuer_whatever_the_providers_name() {
        let (directory, control, _, live) = scene().await;
        let serve = |issuer: &str| {
            let settings = ProviderSettings {
                name: "gitlab".parse().expect("a name"),
                kind: ProviderKind::Gitlab,
                title: "GitLab".into(),
                issuer: issuer.into(),
                client_id: "client".into(),
                client_secret: SecretString::from("secret"),
                scopes: vec!["openid".into()],
                groups_claim: "groups".into(),
                membership_refresh: Duration::from_secs(60),
                membership_outage: Duration::from_secs(900),
                without_refresh: Duration::from_secs(3600),
            };
            let provider = Provider::new(Arc::new(settings), directory.path());
            let providers = HashMap::from([(provider.settings.name.clone(), provider)]);
            control.configure(providers, control.limits().as_ref().clone());
        };
        serve("https://gitlab.example.com");
        assert_eq!(control.clock(&live, SystemTime::now()), Clock::Alive);
        serve("https://other.example.com");
        assert_eq!(control.clock(&live, SystemTime::now()), Clock::Moved);
        assert!(control.provider_of(&live.session.person).is_none());
    }
}
