//! How many frames of each kind a client may send that carry no request.

use tokio::time::Instant;

/// Kinds of frames that cost us more than they cost the client, and that no request needs many of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// PING, acknowledgements included.
    Ping,
    /// SETTINGS, acknowledgements included.
    Settings,
    /// PRIORITY and PRIORITY_UPDATE.
    Priority,
    /// RST_STREAM.
    Reset,
    /// WINDOW_UPDATE.
    WindowUpdate,
    /// DATA with no data in it that does not end its stream.
    EmptyData,
    /// GOAWAY, PUSH_PROMISE and kinds that we do not know.
    Other,
}

/// How many frames of one kind are taken.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// So many at once. What [`Rate::per_second`] gives is saved up to this.
    pub burst: u32,
    /// So many each second.
    pub per_second: u32,
    /// One for so many bytes that we wrote. 0: none.
    pub bytes: u64,
    /// What [`Rate::bytes`] gives is saved up to this.
    pub saved: u64,
}

impl Kind {
    /// Every kind, in the order of their discriminants.
    pub const ALL: [Self; 7] =
        [Self::Ping, Self::Settings, Self::Priority, Self::Reset, Self::WindowUpdate, Self::EmptyData, Self::Other];

    /// The rate of this kind.
    ///
    /// Time gives what any client needs. Bytes that we wrote give what grows with use: a client may acknowledge each
    /// little DATA frame with two WINDOW_UPDATE frames and measure the round trip with a PING, as gRPC clients do; it may
    /// cancel what has been answered in part. A frame that earns itself less than one frame by the answer that it causes
    /// cannot go on for ever.
    pub fn rate(self) -> Rate {
        match self {
            Self::Ping => Rate { burst: 100, per_second: 20, bytes: 32, saved: 10_000 },
            Self::Settings => Rate { burst: 100, per_second: 10, bytes: 0, saved: 0 },
            Self::Priority => Rate { burst: 500, per_second: 50, bytes: 64, saved: 10_000 },
            Self::Reset => Rate { burst: 300, per_second: 30, bytes: 128, saved: 1_000 },
            Self::WindowUpdate => Rate { burst: 2_000, per_second: 200, bytes: 16, saved: 1_000_000 },
            Self::EmptyData => Rate { burst: 100, per_second: 20, bytes: 0, saved: 0 },
            Self::Other => Rate { burst: 300, per_second: 50, bytes: 64, saved: 10_000 },
        }
    }
}

/// What is left of all rates on one connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: [Left; Kind::ALL.len()],
    /// Bytes that we wrote.
    written: u64,
}

#[derive(Clone, Copy, Debug)]
struct Left {
    tokens: u32,
    refilled: Instant,
    /// The written bytes that have been turned into frames, or have lapsed.
    drawn: u64,
}

impl Budget {
    /// The budget of a connection that begins `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { left: Kind::ALL.map(|kind| Left { tokens: kind.rate().burst, refilled: now, drawn: 0 }), written: 0 }
    }

    /// We wrote so many bytes.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
    }

    /// Counts one frame. False if it is one too many. The clock is asked only where a burst is used up.
    pub(super) fn spend(&mut self, kind: Kind, now: impl FnOnce() -> Instant) -> bool {
        let (rate, left) = (kind.rate(), &mut self.left[kind as usize]);
        if left.tokens == 0 {
            left.refill(rate, now());
        }
        if left.tokens > 0 {
            left.tokens -= 1;
            return true;
        }
        left.drawn = left.drawn.max(self.written.saturating_sub(rate.bytes * rate.saved));
        let earned = rate.bytes > 0 && self.written - left.drawn >= rate.bytes;
        if earned {
            left.drawn += rate.bytes;
        }
        earned
    }
}

impl Left {
    fn refill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled).as_micros();
        let tokens = elapsed * u128::from(rate.per_second) / 1_000_000;
        if tokens > 0 {
            self.tokens = u32::try_from(tokens).unwrap_or(rate.burst).min(rate.burst);
            self.refilled = now;
        }
    }
}
