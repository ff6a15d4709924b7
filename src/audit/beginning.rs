//! Where a journal begins that does not begin at its first record, and what a signed record says of that.

use super::{
    PublicKey,
    record::{Line, hash},
    segment::Segment,
    verify::{Bad, Removed},
};

/// The first segment that is there, until it is proved that retention removed what was before it.
#[derive(Debug)]
pub(super) struct Beginning {
    segment: String,
    epoch: u32,
    first: u64,
    /// What its first record continues.
    prev: Option<String>,
    /// What a record says of it that no head covers yet.
    told: Option<Removed>,
}

impl Beginning {
    /// `None` where the journal begins at its first record.
    pub(super) fn of(segment: &Segment) -> Option<Self> {
        let Segment { epoch, first, .. } = *segment;
        let segment = segment.name().to_owned();
        ((epoch, first) != (1, 1)).then_some(Self { segment, epoch, first, prev: None, told: None })
    }

    /// The number of the first record of an epoch.
    pub(super) fn first_of(&self, epoch: u32) -> u64 {
        if epoch == self.epoch { self.first } else { 1 }
    }

    /// True for the record that continues one that is gone.
    pub(super) fn is_at(&self, epoch: u32, seq: u64) -> bool {
        (epoch, seq) == (self.epoch, self.first) && seq > 1
    }

    /// The first record, which continues one that is gone.
    pub(super) fn found(&mut self, line: &Line<'_>) {
        self.prev = Some(line.prev.to_owned());
    }

    /// Listens to a record of the chain: it may say that retention removed what was before.
    pub(super) fn hear(&mut self, line: &Line<'_>) {
        self.told = self.said(line).or(self.told.take());
    }

    /// What a record says of what was before.
    fn said(&self, line: &Line<'_>) -> Option<Removed> {
        let removal = line.removal.as_ref().filter(|removal| removal.next == self.segment)?;
        let continues = self.prev.as_ref().is_none_or(|prev| *prev == removal.hash && removal.last + 1 == self.first);
        let epoch = Segment::named_epoch(&removal.segment).unwrap_or(self.epoch);
        continues.then_some(Removed { epoch, seq: removal.last, until: removal.until, said_by: line.seq })
    }

    /// An epoch is over: what no head of it covers is worth nothing.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// What was heard, once a head covers it.
    pub(super) fn removed(&self) -> Option<Removed> {
        self.told.clone()
    }

    /// Looks through all that is there, behind damage too, for a record that tells of the beginning and that a head covers.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) fn is_told_by(&self, segments: &[Segment], key: &PublicKey) -> Result<bool, String> {
        let mut told = None; // the hash of the line before, from a record on that says so
        for segment in segments {
            let mut lines = segment.lines()?;
            while let Some(bytes) = lines.next()? {
                let parsed = bytes.whole().and_then(|bytes| Line::parse(bytes).map(|line| (bytes, line)));
                let Some((bytes, line)) = parsed else {
                    told = None;
                    continue;
                };
                let goes_on = told.is_some_and(|prev| line.follows(&prev));
                told = (goes_on || self.said(&line).is_some()).then(|| hash(bytes));
                if told.is_some() && line.signed(bytes, key).is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What is wrong where nothing tells of it.
    pub(super) fn missing(&self) -> Bad {
        let Self { segment, epoch, first, .. } = self;
        let what = format!(
            "is missing: the journal begins at record {first} of epoch {epoch}, and no signed record says that retention removed what was before"
        );
        Bad { epoch: 1, seq: 1, segment: segment.clone(), what }
    }
}
