//! Signed heads that a sink holds: what they cover can neither be cut off nor written anew, not even by who has the key.

use super::{
    PublicKey,
    record::{Hash, Line},
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

/// Heads of one or more journals, as lines of the journal: other lines between them are skipped.
#[derive(Clone, Debug, Default)]
pub struct Anchors {
    /// By node and epoch, what each record that a head covers last must hash to.
    heads: BTreeMap<String, BTreeMap<u32, BTreeMap<u64, String>>>,
}

/// What became of the heads of one epoch.
pub(super) struct Compared<'a> {
    heads: Option<&'a BTreeMap<u64, String>>,
}

impl Anchors {
    /// Reads the lines of the file `path` that are heads.
    ///
    /// # Errors
    /// If it cannot be read, has no head, or one that is not signed with `key`.
    pub fn read(path: &Path, key: &PublicKey) -> Result<Self, String> {
        let shown = path.display();
        let fail = |error: std::io::Error| format!("cannot read `{shown}`: {error}");
        let (mut anchors, mut reader) = (Self::default(), BufReader::new(File::open(path).map_err(fail)?));
        let (mut bytes, mut number) = (Vec::new(), 0);
        while reader.read_until(b'\n', &mut bytes).map_err(fail)? > 0 {
            number += 1;
            let whole = bytes.trim_ascii();
            if let Some(line) = Line::parse(whole)
                && let Some(head) = &line.head
            {
                line.check_head(head, whole, key).map_err(|what| format!("line {number} of `{shown}` {what}"))?;
                let of_epoch = anchors.heads.entry(line.node.to_owned()).or_default().entry(line.epoch).or_default();
                let before = of_epoch.insert(head.seq, head.hash.clone());
                if before.is_some_and(|before| before != head.hash) {
                    return Err(format!(
                        "line {number} of `{shown}` is a second head over record {} of epoch {}, with another hash: the journal was forked",
                        head.seq, line.epoch
                    ));
                }
            }
            bytes.clear();
        }
        match anchors.heads.is_empty() {
            true => Err(format!(
                "`{shown}` has no signed head: expected lines of the journal of kind `head`, as a sink got them"
            )),
            false => Ok(anchors),
        }
    }

    /// Those of one epoch of a journal.
    pub(super) fn of(&self, node: &str, epoch: u32) -> Compared<'_> {
        Compared { heads: self.heads.get(node).and_then(|epochs| epochs.get(&epoch)) }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.heads.values().flat_map(BTreeMap::values).map(|heads| heads.len() as u64).sum()
    }
}

impl Compared<'_> {
    /// Whether a head over record `seq` says that it is another.
    pub(super) fn contradicts(&self, seq: u64, hash: &Hash) -> bool {
        self.heads.and_then(|heads| heads.get(&seq)).is_some_and(|wanted| *wanted != crate::text::hex(hash))
    }

    /// How many cover a record from `first` to `last`.
    pub(super) fn between(&self, first: u64, last: u64) -> u64 {
        self.heads.map_or(0, |heads| heads.range(first..=last).count() as u64)
    }

    /// The last record that one covers, behind `last`.
    pub(super) fn behind(&self, last: u64) -> Option<u64> {
        self.heads.and_then(|heads| heads.keys().next_back().copied()).filter(|seq| *seq > last)
    }
}
