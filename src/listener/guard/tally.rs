//! What the guard tells the service of its connection, and the other way round.

use super::Fault;
use http::Uri;
use http_body::SizeHint;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};
use tokio::time::Instant;

/// What follows a head (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// No body.
    None,
    /// A body of so many bytes.
    Length(u64),
    /// A body in chunks.
    Chunked,
}

/// A request as the guard saw it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Its body.
    pub framing: Framing,
    /// The bytes of its target as sent.
    pub target_len: usize,
    /// It asks to go on with another protocol, and nothing behind it is passed on before it is answered.
    pub upgrade: bool,
    /// There is no such request: the head was bad, and what the service got stands in its place. Nothing comes after it.
    pub fault: Option<Fault>,
}

impl Seen {
    /// True if hyper read the same request: its target is as long, its body as large. A difference means that guard and
    /// hyper disagree about where messages end: then the connection has to be dropped without an answer.
    pub fn agrees(&self, uri: &Uri, body: &SizeHint) -> bool {
        let same_body = match self.framing {
            Framing::None => body.exact() == Some(0),
            Framing::Length(length) => body.exact() == Some(length),
            Framing::Chunked => body.upper().is_none(),
        };
        same_body && self.same_target(uri)
    }

    fn same_target(&self, uri: &Uri) -> bool {
        let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + "://".len());
        let authority = uri.authority().map_or(0, |authority| authority.as_str().len());
        let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
        let length = scheme + authority + path;
        // in absolute-form an empty path reads as `/`
        self.target_len == length || scheme > 0 && uri.path() == "/" && self.target_len + 1 == length
    }
}

/// The service's side of a connection's guard. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Control(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Requests that the service took and has not answered wholly.
    in_hand: AtomicUsize,
    begun: Instant,
    /// Milliseconds from then to the end of the last answer.
    quiet: AtomicU64,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: Mutex::default(), in_hand: AtomicUsize::new(0), begun: Instant::now(), quiet: AtomicU64::new(0) }
    }
}

/// A request that the service took. Dropping it says that its answer is over.
#[derive(Debug)]
pub struct InHand(Control);

impl Drop for InHand {
    fn drop(&mut self) {
        let shared = &self.0.0;
        let now = u64::try_from(shared.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        shared.quiet.store(now, Ordering::Relaxed);
        shared.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct State {
    tally: VecDeque<Seen>,
    hold: Hold,
    fault: Option<Fault>,
    waker: Option<Waker>,
}

/// Where an upgrade request is. At most one is open on a connection.
#[derive(Debug, Default, Eq, PartialEq)]
enum Hold {
    #[default]
    None,
    /// The guard has passed it.
    Passed,
    /// The service has it.
    Taken,
    /// The service has answered, and not with 101.
    Resumed,
}

impl Control {
    /// What the guard saw of the request that the service just got. One for each request, in their order; `None` means that
    /// hyper found a request where the guard saw none: drop the connection.
    pub fn take(&self) -> Option<Seen> {
        let mut state = self.lock();
        let seen = state.tally.pop_front()?;
        if seen.upgrade && state.hold == Hold::Passed {
            state.hold = Hold::Taken;
        }
        Some(seen)
    }

    /// Counts a request as in hand until its answer is over: meanwhile the client need not send anything.
    pub fn begin(&self) -> InHand {
        self.0.in_hand.fetch_add(1, Ordering::Relaxed);
        InHand(self.clone())
    }

    /// True while a fault in a head waits for the answers to earlier requests.
    pub(super) fn fault_waits(&self) -> bool {
        let state = self.lock();
        state.tally.iter().any(|seen| seen.fault.is_some())
    }

    /// Since when no request is in hand; now, while one is, or is on its way to the service.
    pub(super) fn quiet_since(&self) -> Instant {
        if self.0.in_hand.load(Ordering::Relaxed) > 0 || !self.lock().tally.is_empty() {
            return Instant::now();
        }
        self.0.begun + Duration::from_millis(self.0.quiet.load(Ordering::Relaxed))
    }

    /// The upgrade request that the service took last is answered, and not with 101: what was held is the next request.
    /// Does nothing if no such request is open.
    pub fn resume(&self) {
        let mut state = self.lock();
        if state.hold == Hold::Taken {
            state.hold = Hold::Resumed;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        }
    }

    /// What was wrong with the client's bytes, if anything was.
    pub fn fault(&self) -> Option<Fault> {
        self.lock().fault
    }

    pub(super) fn push(&self, seen: Seen) {
        let mut state = self.lock();
        if seen.upgrade {
            state.hold = Hold::Passed;
        }
        state.tally.push_back(seen);
    }

    pub(super) fn blame(&self, fault: Fault) {
        self.lock().fault = Some(fault);
    }

    /// True once after [`Control::resume`]; otherwise the task is woken by it.
    pub(super) fn resumed(&self, cx: &Context<'_>) -> bool {
        let mut state = self.lock();
        if state.hold == Hold::Resumed {
            state.hold = Hold::None;
            return true;
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        false
    }

    /// True if an upgrade request is with the service, which has not said that it is over.
    pub(super) fn upgrading(&self) -> bool {
        self.lock().hold == Hold::Taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
