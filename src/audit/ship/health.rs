//! How a sink is: for metrics, `status` and the log.

use super::{
    super::{
        queue::lock,
        segment::{Reached, Segment},
    },
    batch::Record,
};
use crate::{config::SinkSettings, principal::Name};
use std::{
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What a sink does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum State {
    /// It has not taken anything yet.
    #[default]
    Starting,
    /// It takes what there is.
    Shipping,
    /// It cannot be reached, or takes nothing at the moment; it is tried again and again.
    Failing,
    /// It refuses a record for what that is; nothing behind it is sent before it takes that one.
    Refusing,
}

impl State {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Shipping => "shipping",
            Self::Failing => "failing",
            Self::Refusing => "refusing",
        }
    }
}

/// How far a sink is behind.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Records that are on disk and not acknowledged; of epochs before the one that is written, those of whole segments are not counted.
    pub records_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
}

/// How a sink is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// Its kind.
    pub kind: &'static str,
    /// Where it is.
    pub place: String,
    /// What it does.
    pub state: State,
    /// How far it is behind.
    pub figures: Figures,
    /// Age of the oldest record that it has not acknowledged, zero if there is none.
    pub oldest: Duration,
    /// Records that it has acknowledged since the start.
    pub shipped: u64,
    /// Tries that failed since the start.
    pub failures: u64,
    /// Records that it took and threw away, by its own word, since the start.
    pub rejected: u64,
    /// Places in the journal that hold no record, so that nothing could be sent of them.
    pub unreadable: u64,
    /// When it acknowledged something last.
    pub last_success: Option<SystemTime>,
    /// Why the last try failed; gone with the next success.
    pub last_error: Option<String>,
    /// Epoch and number of the last record that it acknowledged.
    pub position: Option<(u32, u64)>,
}

/// What a task tells about itself.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: State,
    position: Option<(u32, u64)>,
    /// The segment that is read, and where the next record begins.
    place: Option<(Segment, u64)>,
    oldest: Option<u64>,
    shipped: u64,
    failures: u64,
    rejected: u64,
    unreadable: u64,
    last_success: Option<SystemTime>,
    last_error: Option<String>,
}

impl Health {
    /// These records wait for the sink.
    pub(super) fn waiting(&self, first: Option<&Record>) {
        lock(&self.0).oldest = first.map(|record| record.time);
    }

    /// What was acknowledged before the start.
    pub(super) fn resumed(&self, position: Option<(u32, u64)>, place: Option<(Segment, u64)>) {
        let mut inner = lock(&self.0);
        (inner.position, inner.place) = (position, place);
    }

    /// The sink has acknowledged everything up to `last`, and all is `well` that goes with it. True if it had not been before.
    pub(super) fn taken(
        &self,
        count: usize,
        last: &Record,
        place: Option<(Segment, u64)>,
        well: bool,
        now: SystemTime,
    ) -> bool {
        let mut inner = lock(&self.0);
        inner.shipped += count as u64;
        (inner.position, inner.place) = (Some((last.epoch, last.seq)), place);
        inner.last_success = Some(now);
        if !well {
            return false;
        }
        inner.last_error = None;
        let before = std::mem::replace(&mut inner.state, State::Shipping);
        matches!(before, State::Failing | State::Refusing)
    }

    /// A try failed. True if the one before had not, or in another way.
    pub(super) fn failed(&self, state: State, error: &str) -> bool {
        let mut inner = lock(&self.0);
        inner.failures += 1;
        inner.last_error = Some(error.to_owned());
        std::mem::replace(&mut inner.state, state) != state
    }

    /// The sink has thrown away so many records that it took.
    pub(super) fn rejected(&self, count: u64) {
        lock(&self.0).rejected += count;
    }

    /// There are places in the journal that hold no record.
    pub(super) fn unreadable(&self, count: usize) {
        lock(&self.0).unreadable += count as u64;
    }

    /// How far the sink is behind, in the journal of these segments.
    pub(super) fn figures(&self, segments: &[Segment], reached: Reached) -> Figures {
        let inner = lock(&self.0);
        let bytes = |segment: &Segment| {
            let here = (segment.epoch, segment.first);
            let end = match here.cmp(&(reached.epoch, reached.segment)) {
                std::cmp::Ordering::Less => segment.path.metadata().map_or(0, |about| about.len()),
                std::cmp::Ordering::Equal => reached.bytes,
                std::cmp::Ordering::Greater => 0,
            };
            match &inner.place {
                Some((there, offset)) if there == segment => end.saturating_sub(*offset),
                Some((there, _)) if segment < there => 0,
                _ => end,
            }
        };
        let (epoch, seq) = inner.position.unwrap_or_default();
        // what a journal began with may be deleted, and is behind nobody then
        let oldest = segments.iter().find(|segment| segment.epoch == reached.epoch).map_or(1, |segment| segment.first);
        let here = if epoch == reached.epoch { seq.max(oldest - 1) } else { oldest - 1 };
        let before: u64 = segments
            .windows(2)
            .filter(|pair| pair[0].epoch < reached.epoch && pair[0].epoch == pair[1].epoch)
            .map(|pair| {
                let from = if pair[0].epoch == epoch { pair[0].first.max(seq + 1) } else { pair[0].first };
                if pair[0].epoch < epoch { 0 } else { pair[1].first.saturating_sub(from) }
            })
            .sum();
        Figures {
            records_behind: before + reached.seq.saturating_sub(here),
            bytes_behind: segments.iter().map(bytes).sum(),
        }
    }

    /// Everything together.
    pub(super) fn status(&self, name: &Name, settings: &SinkSettings, figures: Figures, now: SystemTime) -> Status {
        let inner = lock(&self.0);
        let since = |milliseconds| now.duration_since(UNIX_EPOCH + Duration::from_millis(milliseconds)).ok();
        Status {
            name: name.clone(),
            kind: settings.kind.as_str(),
            place: settings.kind.place(),
            state: inner.state,
            figures,
            oldest: inner.oldest.and_then(since).unwrap_or_default(),
            shipped: inner.shipped,
            failures: inner.failures,
            rejected: inner.rejected,
            unreadable: inner.unreadable,
            last_success: inner.last_success,
            last_error: inner.last_error.clone(),
            position: inner.position,
        }
    }
}
