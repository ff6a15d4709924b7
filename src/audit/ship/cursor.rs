//! How far a sink has acknowledged: one small file beside the journal for each.

use super::batch::Record;
use crate::principal::Name;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The last record that a sink has acknowledged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// The journal's node.
    pub(super) node: String,
    /// The record's epoch.
    pub(super) epoch: u32,
    /// The record's number.
    pub(super) seq: u64,
    /// SHA-256 of its line, in hex.
    pub(super) hash: String,
    /// The file that it stands in.
    pub(super) segment: String,
    /// Where its line begins there.
    pub(super) offset: u64,
}

impl Cursor {
    /// Everything up to `record` is acknowledged.
    pub(super) fn at(record: &Record) -> Self {
        Self {
            node: record.node.to_string(),
            epoch: record.epoch,
            seq: record.seq,
            hash: crate::text::hex(&crate::text::sha256(record.line.as_bytes())),
            segment: record.segment.to_string(),
            offset: record.offset,
        }
    }

    /// The cursor of `sink`. `Ok(None)` if there is none yet.
    ///
    /// # Errors
    /// One line: it cannot be read, or is none.
    pub(super) fn load(journal: &Path, sink: &Name) -> Result<Option<Self>, String> {
        let path = file(journal, sink);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read `{}`: {error}", path.display())),
        };
        let cursor = serde_json::from_slice(&bytes);
        cursor.map(Some).map_err(|error| format!("`{}` is no cursor: {error}", path.display()))
    }

    /// Puts it in the place of the one before, whole or not at all.
    ///
    /// # Errors
    /// One line that says what cannot be written.
    pub(super) fn store(&self, journal: &Path, sink: &Name) -> Result<(), String> {
        let path = file(journal, sink);
        let write = || -> io::Result<()> {
            let directory = path.parent().unwrap_or(journal);
            DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
            let new = path.with_extension("new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }
}

fn file(journal: &Path, sink: &Name) -> PathBuf {
    journal.join("cursors").join(format!("{sink}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_stored_whole_and_read_back() {
        let journal = tempfile::tempdir().expect("a directory");
        let sink: Name = "warehouse".parse().expect("a name");
        assert_eq!(Cursor::load(journal.path(), &sink), Ok(None));
        let mut cursor =
            Cursor { node: "n".into(), epoch: 1, seq: 7, hash: "ab".into(), segment: "s.jsonl".into(), offset: 40 };
        for seq in [7, 8] {
            cursor.seq = seq;
            cursor.store(journal.path(), &sink).expect("stored");
            assert_eq!(Cursor::load(journal.path(), &sink), Ok(Some(cursor.clone())));
        }
        fs::write(file(journal.path(), &sink), "{\"node\":").expect("written");
        assert!(Cursor::load(journal.path(), &sink).is_err_and(|error| error.contains("is no cursor")));
    }
}
