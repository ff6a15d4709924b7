//! A session in use: what is stored, opened, and what changes while it lives.

use super::{
    KeyRing, Revocations, Session, SessionId, SessionKey,
    record::{self, Held, seconds},
    revocation::Numbers,
};
use crate::{
    group::GroupPath,
    oidc::{GroupList, Tokens},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// Activity is written to the store at most this often.
const COALESCE: Duration = Duration::from_secs(60);

/// How long a session outlives its access token while the provider cannot be reached.
pub const OUTAGE: Duration = Duration::from_secs(15 * 60);

/// How long a code for another host is good (DESIGN, section 3).
pub const CODE_LIFE: Duration = Duration::from_secs(30);

/// So many codes for other hosts are given for one session in [`CODE_LIFE`].
const CODES: u32 = 64;

/// Nothing is put off for longer than this, in seconds: if it is, the clock was set back since.
const SET_BACK: u64 = 120;

/// A session in use on this node.
pub struct Live {
    /// What the store has.
    pub session: Session,
    /// What logs and audit events may say of it.
    pub hash: Arc<str>,
    /// Where its user's revocation number stands.
    user_slot: usize,
    id: SessionId,
    held: Mutex<Held>,
    /// Groups that a refresh brought, and when, until somebody takes them.
    brought: Mutex<Option<(GroupList, SystemTime)>>,
    seen: AtomicU64,
    written: AtomicU64,
    /// Held while a refresh is under way, so that there is one at a time.
    pub refreshing: tokio::sync::Mutex<()>,
    ended: AtomicBool,
    /// Its clocks ended it, and somebody has said so.
    lapsed: AtomicBool,
    /// Not before this second is another refresh tried after one that failed.
    retry_at: AtomicU64,
    /// Not before this second does a request ask for a read-ahead again.
    ahead_at: AtomicU64,
    /// Codes given since this second.
    codes: Mutex<(u64, u32)>,
}

/// What a session's clocks say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// In order.
    Alive,
    /// Its access token is in the last quarter of its life: time to refresh, without making anybody wait.
    RefreshAhead,
    /// Its access token ended too long ago: it must be refreshed before it counts.
    RefreshFirst,
    /// Without activity for too long.
    Idle,
    /// Older than a session may be.
    Over,
    /// The name of its provider stands for another issuer now, whose subjects are other people.
    Moved,
}

impl Live {
    /// A session in use, from its record's parts.
    pub fn new(id: SessionId, session: Session, held: Held) -> Arc<Self> {
        let seen = seconds(session.seen);
        Arc::new(Self {
            hash: session.key.hash(),
            user_slot: Revocations::user_slot(&session.person.id),
            lapsed: AtomicBool::new(session.lapsed),
            session,
            id,
            held: Mutex::new(held),
            brought: Mutex::default(),
            seen: AtomicU64::new(seen),
            written: AtomicU64::new(seen),
            refreshing: tokio::sync::Mutex::new(()),
            ended: AtomicBool::new(false),
            retry_at: AtomicU64::new(0),
            ahead_at: AtomicU64::new(0),
            codes: Mutex::default(),
        })
    }

    /// Its name.
    pub fn key(&self) -> SessionKey {
        self.session.key
    }

    /// Its handle. Whoever holds it is the user: it may be sealed into what another host's handle leads to, nothing else.
    pub(crate) fn handle(&self) -> &SessionId {
        &self.id
    }

    /// The revocation numbers that stand now.
    pub fn numbers(&self, table: &Revocations) -> Numbers {
        self.numbers_of(&self.session.key, table)
    }

    /// The same for a further handle of it.
    pub fn numbers_of(&self, handle: &SessionKey, table: &Revocations) -> Numbers {
        table.numbers(handle, self.user_slot)
    }

    /// What its clocks say. `without_refresh` bounds a session that has no refresh token.
    pub fn clock(&self, now: SystemTime, idle: Duration, without_refresh: Duration) -> Clock {
        let seen = record::time(self.seen.load(Ordering::Relaxed));
        if now >= self.session.end {
            return Clock::Over;
        }
        if now >= seen + idle {
            return Clock::Idle;
        }
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = &held.tokens;
        if tokens.refresh.is_none() {
            let over = now >= self.session.created + without_refresh;
            return if over { Clock::Over } else { Clock::Alive };
        }
        if now >= tokens.access_expires + OUTAGE {
            return Clock::RefreshFirst;
        }
        if now >= ahead(tokens) && !self.defers_refresh(now) {
            return Clock::RefreshAhead;
        }
        Clock::Alive
    }

    /// When it ends if nobody uses it any more.
    pub fn ends(&self, idle: Duration, without_refresh: Duration) -> SystemTime {
        let idle_end = record::time(self.seen.load(Ordering::Relaxed)) + idle;
        let end = self.session.end.min(idle_end);
        if self.held().tokens.refresh.is_none() { end.min(self.session.created + without_refresh) } else { end }
    }

    /// Notes activity. True if it is time to write that down.
    pub fn touch(&self, now: SystemTime) -> bool {
        let now = seconds(now);
        self.seen.fetch_max(now, Ordering::Relaxed);
        let written = self.written.load(Ordering::Relaxed);
        now >= written + COALESCE.as_secs()
            && self.written.compare_exchange(written, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// True once a second at most: so many requests, one read-ahead.
    pub fn claims_read_ahead(&self, now: SystemTime) -> bool {
        let (now, before) = (seconds(now), self.ahead_at.load(Ordering::Relaxed));
        (now >= before || before - now > SET_BACK)
            && self.ahead_at.compare_exchange(before, now + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// True if another code for another host may be given: each is kept until it is used or too old.
    pub fn claims_code(&self, now: SystemTime) -> bool {
        let (now, mut codes) = (seconds(now), self.codes.lock().unwrap_or_else(PoisonError::into_inner));
        if now.abs_diff(codes.0) >= CODE_LIFE.as_secs() {
            *codes = (now, 0);
        }
        codes.1 = codes.1.saturating_add(1);
        codes.1 <= CODES
    }

    /// A copy of what it may ask of the provider.
    pub fn held(&self) -> Held {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The groups of the ID token, where no refresh token can bring newer ones.
    pub fn held_groups(&self) -> Option<Arc<[GroupPath]>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).groups.clone()
    }

    /// Keeps the groups that a refresh brought at `read` for whoever needs them next.
    pub fn bring(&self, list: GroupList, read: SystemTime) {
        *self.brought.lock().unwrap_or_else(PoisonError::into_inner) = Some((list, read));
    }

    /// The groups that the last refresh brought, if nobody has taken them.
    pub fn take_brought(&self) -> Option<(GroupList, SystemTime)> {
        self.brought.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// It was ended while somebody held it. True the first time.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// It was ended.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Its clocks ended it. True the first time.
    pub fn lapse(&self) -> bool {
        !self.lapsed.swap(true, Ordering::AcqRel)
    }

    /// Its clocks ended it, and nothing else has.
    pub fn is_lapsed(&self) -> bool {
        self.lapsed.load(Ordering::Acquire) && !self.is_ended()
    }

    /// Its tokens were given after `other`.
    pub fn is_newer_than(&self, other: &Tokens) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).tokens.issued > other.issued
    }

    /// Takes what a refresh brought.
    pub fn hold(&self, held: Held) {
        self.retry_at.store(0, Ordering::Relaxed);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// A refresh failed a moment ago.
    pub fn defers_refresh(&self, now: SystemTime) -> bool {
        let left = self.retry_at.load(Ordering::Relaxed).saturating_sub(seconds(now));
        left > 0 && left <= SET_BACK
    }

    /// A refresh failed: not again before `until`.
    pub fn defer_refresh(&self, until: SystemTime) {
        self.retry_at.store(seconds(until), Ordering::Relaxed);
    }

    /// The record to store, tokens and activity as they are now.
    pub fn record(&self, ring: &KeyRing, held: &Held) -> Vec<u8> {
        record::seal(ring, &self.id, &self.as_seen(), held)
    }

    /// Opens the tokens of a record of this session, perhaps newer than ours.
    ///
    /// # Errors
    /// Any [`record::RecordError`].
    pub fn open(&self, ring: &KeyRing, record: &[u8]) -> Result<Held, record::RecordError> {
        record::open_tokens(ring, &self.id, record)
    }

    /// The session as it is now.
    pub fn as_seen(&self) -> Session {
        let seen = record::time(self.seen.load(Ordering::Relaxed));
        Session { seen, lapsed: self.lapsed.load(Ordering::Acquire), ..self.session.clone() }
    }
}

/// When a refresh is due: at three quarters of the access token's life.
fn ahead(tokens: &Tokens) -> SystemTime {
    let life = tokens.access_expires.duration_since(tokens.issued).unwrap_or_default();
    tokens.issued + life.mul_f64(0.75)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(1800);
    const HOUR: Duration = Duration::from_secs(3600);

    fn live(change: impl FnOnce(&mut Session, &mut Held)) -> (Arc<Live>, SystemTime) {
        let (id, now) = (SessionId::new(), record::time(1_789_000_000));
        let (mut session, mut held) = record::tests::sample(&id, now);
        session.end = now + 8 * HOUR;
        change(&mut session, &mut held);
        (Live::new(id, session, held), now)
    }

    /// S-55: idle and absolute lives are kept on the server, by a clock that is given.
    #[test]
    fn s55_idle_and_absolute_lives_end_a_session() {
        let (live, now) = live(|_, _| ());
        assert_eq!(live.clock(now + IDLE - Duration::from_secs(1), IDLE, HOUR), Clock::Alive);
        assert_eq!(live.clock(now + IDLE, IDLE, HOUR), Clock::Idle);
        live.touch(now + IDLE);
        assert_eq!(live.clock(now + IDLE, IDLE, HOUR), Clock::Alive);
        assert_eq!(live.clock(now + 8 * HOUR, 9 * HOUR, HOUR), Clock::Over);
    }

    #[test]
    fn a_refresh_is_due_in_the_last_quarter_and_needed_after_the_outage() {
        let (live, now) = live(|_, _| ());
        let day = 24 * HOUR;
        assert_eq!(live.clock(now + HOUR, day, HOUR), Clock::Alive);
        assert_eq!(live.clock(now + HOUR + HOUR / 2, day, HOUR), Clock::RefreshAhead);
        live.defer_refresh(now + HOUR + HOUR / 2 + Duration::from_secs(60));
        assert_eq!(live.clock(now + HOUR + HOUR / 2, day, HOUR), Clock::Alive);
        assert_eq!(live.clock(now + 2 * HOUR + OUTAGE, day, HOUR), Clock::RefreshFirst);
    }

    #[test]
    fn a_clock_that_was_set_back_puts_no_refresh_off() {
        let (live, now) = live(|_, _| ());
        live.defer_refresh(now + HOUR);
        assert!(live.claims_read_ahead(now + HOUR) && live.defers_refresh(now + HOUR - Duration::from_secs(60)));
        assert!(live.claims_read_ahead(now) && !live.claims_read_ahead(now) && !live.defers_refresh(now));
    }

    #[test]
    fn without_a_refresh_token_a_session_lives_an_hour() {
        let (live, now) = live(|_, held| held.tokens.refresh = None);
        assert_eq!(live.clock(now + HOUR - Duration::from_secs(1), 8 * HOUR, HOUR), Clock::Alive);
        assert_eq!(live.clock(now + HOUR, 8 * HOUR, HOUR), Clock::Over);
        assert_eq!(live.ends(8 * HOUR, HOUR), now + HOUR);
    }

    /// S-44: whoever is signed in cannot fill the store with codes.
    #[test]
    fn s44_codes_for_other_hosts_are_bounded() {
        let (live, now) = live(|_, _| ());
        let given = (0..1000).filter(|_| live.claims_code(now)).count();
        assert_eq!(given, CODES as usize);
        assert!(live.claims_code(now + CODE_LIFE));
        assert!(live.claims_code(now - HOUR), "a clock that was set back bars nobody");
    }

    #[test]
    fn activity_is_written_at_most_once_a_minute() {
        let (live, now) = live(|_, _| ());
        assert!(!live.touch(now + Duration::from_secs(59)));
        assert!(live.touch(now + Duration::from_secs(60)));
        assert!(!live.touch(now + Duration::from_secs(61)));
    }
}
