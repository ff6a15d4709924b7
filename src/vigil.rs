//! Keeps watch over open streams: each ends with the right that it rests on.

use crate::{
    forward::streams::{Stream, StreamId},
    gateway::Shared,
    identify::Caller,
    refusal::Reason,
    session::{Live, SessionKey, live::Clock},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How often it is looked whether anything changed.
const LOOK: Duration = Duration::from_millis(500);

/// A stream is decided about at least this often, whatever changed.
const AT_LEAST: Duration = Duration::from_secs(60);

/// What a decision about a stream rested on.
#[derive(Clone, Eq, PartialEq)]
struct Ground {
    policies: Arc<str>,
    groups: Option<u64>,
}

/// Decides again about every open stream when policies or groups changed, and at least once a minute. Never returns.
pub async fn watch(shared: Arc<Shared>) {
    let mut decided: HashMap<StreamId, (Ground, Instant)> = HashMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let open = shared.control.streams.snapshot();
        let there: HashSet<StreamId> = open.iter().map(|(id, _)| *id).collect();
        decided.retain(|id, _| there.contains(id));
        for (id, stream) in open {
            look(&shared, id, &stream, &mut decided).await;
        }
    }
}

async fn look(shared: &Shared, id: StreamId, stream: &Stream, decided: &mut HashMap<StreamId, (Ground, Instant)>) {
    let caller = match caller(shared, stream).await {
        Ok(caller) => caller,
        Err(reason) => return shared.control.streams.cut(id, reason),
    };
    let ground = ground(shared, &caller);
    let due = match decided.get(&id) {
        Some((before, at)) => *before != ground || at.elapsed() >= interval(shared, &caller),
        None => true, // it may have waited long for its answer since it was decided
    };
    if due && let Some(reason) = shared.rejudge(stream, &caller).await {
        return shared.control.streams.cut(id, reason);
    }
    if due {
        decided.insert(id, (self::ground(shared, &caller), Instant::now()));
    }
}

/// Whose stream it is now. Gone sessions end their streams.
async fn caller(shared: &Shared, stream: &Stream) -> Result<Caller, Reason> {
    let Some(session) = &stream.session else { return Ok(Caller::Anonymous) };
    let live = shared.control.warm(&SessionKey(session.key)).await.ok_or(Reason::NoSession)?;
    let now = SystemTime::now();
    match shared.control.clock(&live, now) {
        Clock::Alive => Ok(Caller::Person(live)),
        Clock::RefreshAhead => {
            shared.control.refresh_ahead(&live, now);
            Ok(Caller::Person(live))
        }
        Clock::RefreshFirst => refreshed(shared, live).await,
        Clock::Idle => Err(over(shared, &live, "idle", now)),
        Clock::Over => Err(over(shared, &live, "absolute", now)),
        Clock::Moved => Err(over(shared, &live, "issuer_changed", now)),
    }
}

async fn refreshed(shared: &Shared, live: Arc<Live>) -> Result<Caller, Reason> {
    match shared.control.refresh(&live).await {
        Ok(_) if !live.is_ended() => Ok(Caller::Person(live)),
        Ok(_) => Err(Reason::NoSession),
        Err(_) => Err(Reason::ProviderUnavailable),
    }
}

fn over(shared: &Shared, live: &Arc<Live>, why: &'static str, now: SystemTime) -> Reason {
    shared.control.end_session(live, why, now);
    Reason::NoSession
}

fn ground(shared: &Shared, caller: &Caller) -> Ground {
    let groups = caller.live().and_then(|live| shared.membership.version(&live.session.person.id));
    Ground { policies: shared.snapshot.load().authorize.digest().clone(), groups }
}

/// As often as the person's groups are read, and at least once a minute.
fn interval(shared: &Shared, caller: &Caller) -> Duration {
    let provider = caller.live().and_then(|live| shared.control.provider(&live.session.person.id.provider));
    provider.map_or(AT_LEAST, |provider| provider.settings.membership_refresh.min(AT_LEAST))
}
