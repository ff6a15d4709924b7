//! Records on their way to a sink.

use super::super::record::{Kind, Line};
use serde::Deserialize;
use std::sync::Arc;

/// One line of the journal.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Exactly as it stands there, without its line feed: printable ASCII.
    pub(super) line: String,
    pub(super) node: Arc<str>,
    pub(super) epoch: u32,
    pub(super) seq: u64,
    pub(super) kind: Kind,
    /// When it happened, in milliseconds since 1970.
    pub(super) time: u64,
    /// The file that it stands in, and where its line begins there.
    pub(super) segment: Arc<str>,
    pub(super) offset: u64,
}

/// What every body has somewhere.
#[derive(Deserialize)]
struct Body {
    event: Option<Timed>,
}

#[derive(Deserialize)]
struct Timed {
    time: u64,
}

impl Record {
    /// Reads one line. `None` if it is none of ours.
    pub(super) fn read(bytes: &[u8], node: &mut Arc<str>, segment: &Arc<str>, offset: u64) -> Option<Self> {
        let line = Line::parse(bytes)?;
        if **node != *line.node {
            *node = line.node.into();
        }
        let time = match line.kind {
            Kind::Event => serde_json::from_slice::<Body>(bytes).ok().and_then(|body| body.event).map(|it| it.time),
            Kind::Segment => line.segment.as_ref().map(|it| it.time),
            Kind::Head => line.head.as_ref().map(|it| it.time),
            Kind::Gap => line.gap.as_ref().map(|it| it.last),
            Kind::Recovery => line.recovery.as_ref().map(|it| it.time),
            Kind::Removal => line.removal.as_ref().map(|it| it.time),
            Kind::Close => line.close.as_ref().map(|it| it.time),
        };
        Some(Self {
            line: std::str::from_utf8(bytes).ok()?.to_owned(),
            node: node.clone(),
            epoch: line.epoch,
            seq: line.seq,
            kind: line.kind,
            time: time?,
            segment: segment.clone(),
            offset,
        })
    }
}
