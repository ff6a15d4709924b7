//! Keeps watch over open streams: each ends with the right that it rests on.

use crate::{
    forward::streams::{Stream, StreamId},
    gateway::{Shared, Snapshot},
    identify::Caller,
    membership::Marks,
    oidc::TokenFault,
    principal::{Bearer, Verified},
    refusal::Reason,
    session::{Live, SessionKey, live::Clock},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::Semaphore, task::JoinHandle};

/// How often it is looked whether anything changed.
const LOOK: Duration = Duration::from_millis(500);

/// A stream is decided about at least this often, whatever changed.
const AT_LEAST: Duration = Duration::from_secs(60);

/// So many decisions may wait for a provider at once.
const AT_ONCE: usize = 256;

/// What a decision about a stream rested on.
#[derive(Clone)]
struct Ground {
    generation: Arc<Snapshot>,
    groups: Option<Marks>,
    locks: u64,
    token: Option<Verified>,
}

/// The ground of the last decision about each stream, and when it was made.
type Decided = Mutex<HashMap<StreamId, (Ground, Instant)>>;

/// Whose stream it is now.
enum Holder {
    /// Nobody's, or that of a session or token in order.
    Known(Caller),
    /// That of a session whose tokens have to be refreshed first.
    ToRefresh(Arc<Live>),
}

impl PartialEq for Ground {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.generation, &other.generation)
            && self.groups == other.groups
            && self.locks == other.locks
            && self.token == other.token
    }
}

/// Decides again about every open stream when the configuration, policies, groups or locks changed, and at least once a minute.
/// What waits for a provider does so beside the others, which none of it holds up. Never returns.
pub async fn watch(shared: Arc<Shared>) {
    let decided = Arc::<Decided>::default();
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut at_work: HashMap<StreamId, JoinHandle<()>> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let open: HashMap<_, _> = shared.control.streams.snapshot().into_iter().collect();
        lock(&decided).retain(|id, _| open.contains_key(id));
        at_work.retain(|_, work| !work.is_finished());
        for (id, stream) in open {
            if at_work.contains_key(&id) {
                continue;
            }
            match holder(&shared, &stream).await {
                Err(reason) => shared.control.streams.cut(id, reason),
                Ok(Holder::Known(caller)) if !is_due(&shared, id, &caller, &decided) => {}
                Ok(holder) => {
                    let (shared, decided, at_once) = (shared.clone(), decided.clone(), at_once.clone());
                    let work = async move {
                        let _turn = at_once.acquire().await;
                        if let Err(reason) = decide(&shared, id, &stream, holder, &decided).await {
                            shared.control.streams.cut(id, reason);
                        }
                    };
                    at_work.insert(id, tokio::spawn(work));
                }
            }
        }
    }
}

/// Whose stream it is now, without waiting. Gone sessions end their streams.
async fn holder(shared: &Shared, stream: &Stream) -> Result<Holder, Reason> {
    if let Some(bearer) = &stream.bearer {
        return if is_over(shared, bearer) {
            Err(Reason::InvalidToken)
        } else {
            Ok(Holder::Known(Caller::Token(bearer.clone())))
        };
    }
    let Some(session) = &stream.session else { return Ok(Holder::Known(Caller::Anonymous)) };
    let live = shared.control.warm(&SessionKey(session.key)).await.ok_or(Reason::NoSession)?;
    let now = SystemTime::now();
    if live.is_lapsed() {
        return Err(Reason::NoSession);
    }
    match shared.control.clock(&live, now) {
        Clock::Alive => Ok(Holder::Known(Caller::Person(live))),
        Clock::RefreshAhead => {
            shared.control.refresh_ahead(&live, now);
            Ok(Holder::Known(Caller::Person(live)))
        }
        Clock::RefreshFirst => Ok(Holder::ToRefresh(live)),
        Clock::Idle => Err(over(shared, &live, "idle", now)),
        Clock::Over => Err(over(shared, &live, "absolute", now)),
        Clock::Moved => {
            shared.control.end_session(&live, "issuer_changed", now); // no clock of its own ended it: no grace
            Err(Reason::NoSession)
        }
    }
}

fn over(shared: &Shared, live: &Arc<Live>, why: &'static str, now: SystemTime) -> Reason {
    shared.control.lapse(live, why, now);
    Reason::NoSession
}

/// A stream is due when it was never decided about here: what it was opened on may have changed since.
fn is_due(shared: &Shared, id: StreamId, caller: &Caller, decided: &Decided) -> bool {
    let (ground, interval) = (ground(shared, caller), interval(shared, caller));
    lock(decided).get(&id).is_none_or(|(before, at)| *before != ground || at.elapsed() >= interval)
}

async fn decide(
    shared: &Shared,
    id: StreamId,
    stream: &Stream,
    holder: Holder,
    decided: &Decided,
) -> Result<(), Reason> {
    let caller = match holder {
        Holder::Known(Caller::Token(bearer)) => Caller::Token(asked_again(shared, bearer).await?),
        Holder::Known(caller) => caller,
        Holder::ToRefresh(live) => Caller::Person(refreshed(shared, live).await?),
    };
    let ground = ground(shared, &caller); // as it was before, so that what changes meanwhile is seen next time
    match shared.rejudge(stream, &caller).await {
        Some(reason) => Err(reason),
        None => {
            lock(decided).insert(id, (ground, Instant::now()));
            Ok(())
        }
    }
}

/// The token has ended; what is said of one that says nothing by itself ends sooner, and then it is asked about again.
fn is_over(shared: &Shared, bearer: &Bearer) -> bool {
    let ended = bearer.ends.is_some_and(|ends| ends <= SystemTime::now());
    ended && !asks(shared, bearer)
}

fn asks(shared: &Shared, bearer: &Bearer) -> bool {
    shared.snapshot.load().issuers.get(&bearer.issuer).is_some_and(|issuer| issuer.asks_about(bearer))
}

/// By what a token would be verified now; none if its issuer is not configured any more, or has no keys.
fn verified_by(shared: &Shared, bearer: &Bearer) -> Option<Verified> {
    shared.snapshot.load().issuers.get(&bearer.issuer)?.verifies_by(bearer, SystemTime::now())
}

/// A token is verified again where it would be verified by something else now: by an issuer that is configured otherwise, by
/// other keys, by what the issuer says after what it said is over.
async fn asked_again(shared: &Shared, bearer: Arc<Bearer>) -> Result<Arc<Bearer>, Reason> {
    let now = SystemTime::now();
    let Some(token) = bearer.token.clone() else { return Ok(bearer) }; // a certificate ends with its connection
    let ended = bearer.ends.is_some_and(|ends| ends <= now);
    if !ended && verified_by(shared, &bearer) == Some(bearer.by) {
        return Ok(bearer);
    }
    let issuer = shared.snapshot.load().issuers.get(&bearer.issuer).cloned().ok_or(Reason::InvalidToken)?;
    match issuer.resolve(&token, now).await {
        Ok(again) => Ok(again),
        Err(TokenFault::Bad { .. }) => Err(Reason::InvalidToken),
        Err(TokenFault::Unavailable { .. }) => Err(Reason::ProviderUnavailable),
    }
}

async fn refreshed(shared: &Shared, live: Arc<Live>) -> Result<Arc<Live>, Reason> {
    match shared.control.refresh(&live).await {
        _ if live.is_ended() => Err(Reason::NoSession),
        Ok(_) => Ok(live),
        Err(_) => Err(Reason::ProviderUnavailable),
    }
}

fn ground(shared: &Shared, caller: &Caller) -> Ground {
    let groups = match caller {
        Caller::Anonymous => None,
        Caller::Person(live) | Caller::Foreign(live) => Some(shared.membership.marks(&live.session.person.id)),
        Caller::Token(bearer) => bearer.holder.person().map(|person| shared.membership.marks_behind(&person.id)),
    };
    let token = caller.bearer().and_then(|bearer| verified_by(shared, bearer));
    Ground { generation: shared.snapshot.load_full(), groups, locks: shared.control.locks.version(), token }
}

/// As often as the person's groups are read, and at least once a minute.
fn interval(shared: &Shared, caller: &Caller) -> Duration {
    let provider = match caller {
        Caller::Anonymous => None,
        Caller::Person(live) | Caller::Foreign(live) => shared.control.provider_of(&live.session.person),
        Caller::Token(bearer) => bearer.holder.person().and_then(|person| shared.control.provider(&person.id.provider)),
    };
    provider.map_or(AT_LEAST, |provider| provider.settings.membership_refresh.min(AT_LEAST))
}

fn lock(decided: &Decided) -> std::sync::MutexGuard<'_, HashMap<StreamId, (Ground, Instant)>> {
    decided.lock().unwrap_or_else(PoisonError::into_inner)
}
