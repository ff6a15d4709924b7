//! Long-lived connections, registered under session and route, so that they end with the right.

use super::SessionRef;
use crate::{canonical::Judged, principal::Bearer, refusal::Reason, route::Route};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Names one stream while the process lives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u64);

/// All that is needed to decide again whether a stream may go on.
pub struct Stream {
    /// What was asked.
    pub judged: Judged,
    /// Where it went.
    pub route: Arc<Route>,
    /// The session it came with.
    pub session: Option<SessionRef>,
    /// The token or certificate it came with.
    pub bearer: Option<Arc<Bearer>>,
}

/// Every open stream of every core.
#[derive(Default)]
pub struct Streams {
    entries: Mutex<Entries>,
    next: AtomicU64,
}

type Entries = HashMap<StreamId, (Arc<Stream>, Arc<Switch>)>;

/// A stream's place in the register. Dropping it takes it out.
pub struct Registered {
    streams: Arc<Streams>,
    id: StreamId,
    switch: Arc<Switch>,
}

/// Tells a stream that it is over, and why.
#[derive(Default)]
struct Switch {
    token: CancellationToken,
    reason: OnceLock<Reason>,
}

impl Streams {
    /// Enters a stream.
    pub fn register(self: &Arc<Self>, stream: Stream) -> Registered {
        let id = StreamId(self.next.fetch_add(1, Ordering::Relaxed));
        let switch = Arc::<Switch>::default();
        self.entries().insert(id, (Arc::new(stream), switch.clone()));
        Registered { streams: self.clone(), id, switch }
    }

    /// The streams that are open now.
    pub fn snapshot(&self) -> Vec<(StreamId, Arc<Stream>)> {
        self.entries().iter().map(|(id, (stream, _))| (*id, stream.clone())).collect()
    }

    /// How many streams are open now.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// True if no stream is open now.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// Ends one stream. The first reason stands.
    pub fn cut(&self, id: StreamId, reason: Reason) {
        let found = self.entries().get(&id).map(|(_, switch)| switch.clone());
        if let Some(switch) = found {
            switch.cut(reason);
        }
    }

    /// Ends every stream of the session with this key, and says how many there were.
    pub fn cut_session(&self, key: &[u8; 32], reason: Reason) -> usize {
        let of_session = |stream: &Stream| stream.session.as_ref().is_some_and(|session| session.key == *key);
        let found: Vec<_> = self
            .entries()
            .values()
            .filter(|(stream, _)| of_session(stream))
            .map(|(_, switch)| switch.clone())
            .collect();
        found.iter().for_each(|switch| switch.cut(reason));
        found.len()
    }

    /// Ends every stream.
    pub fn cut_all(&self, reason: Reason) {
        let all: Vec<_> = self.entries().values().map(|(_, switch)| switch.clone()).collect();
        all.iter().for_each(|switch| switch.cut(reason));
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Switch {
    fn cut(&self, reason: Reason) {
        let _ = self.reason.set(reason); // the first reason stands
        self.token.cancel();
    }
}

impl Registered {
    /// The stream's name in the register.
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Waits until the stream is cut.
    pub async fn cut(&self) -> Reason {
        self.switch.token.cancelled().await;
        self.reason()
    }

    /// The same as a future of its own, for those that poll.
    pub(super) fn signal(&self) -> WaitForCancellationFutureOwned {
        self.switch.token.clone().cancelled_owned()
    }

    /// Why it was cut; `Internal` if it was not.
    pub(super) fn reason(&self) -> Reason {
        self.switch.reason.get().copied().unwrap_or(Reason::Internal)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let gone = self.streams.entries().remove(&self.id);
        drop(gone); // outside the lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{judged, route};

    fn stream(key: Option<u8>) -> Stream {
        let session = key.map(|byte| SessionRef { key: [byte; 32], hash: "h".into() });
        Stream { judged: judged("/"), route: Arc::new(route("127.0.0.1:1")), session, bearer: None }
    }

    #[tokio::test]
    async fn cuts_all_streams_of_one_session_and_no_other() {
        let streams = Arc::<Streams>::default();
        let (one, two, other) =
            (streams.register(stream(Some(1))), streams.register(stream(Some(1))), streams.register(stream(Some(2))));
        assert_eq!(streams.cut_session(&[1; 32], Reason::NoSession), 2);
        assert_eq!((one.cut().await, two.cut().await), (Reason::NoSession, Reason::NoSession));
        assert!(!other.switch.token.is_cancelled());
    }

    #[tokio::test]
    async fn leaves_the_register_when_dropped_and_keeps_the_first_reason() {
        let streams = Arc::<Streams>::default();
        let one = streams.register(stream(None));
        assert_eq!(streams.snapshot().len(), 1);
        streams.cut(one.id(), Reason::NotPermitted);
        streams.cut(one.id(), Reason::NoSession);
        assert_eq!(one.cut().await, Reason::NotPermitted);
        drop(one);
        assert!(streams.is_empty());
    }
}
