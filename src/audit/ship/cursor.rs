//! How far a sink has acknowledged: one small file beside the journal for each.
//!
//! Whoever can write the journal's files, and not the keys, could otherwise point it behind a record that the sink then never gets,
//! and that retention may remove. So it is signed, by the key that signs the journal.

use super::{super::key::Signer, batch::Record};
use crate::{config::SinkSettings, principal::Name};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
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
}

/// A cursor as it stands in its file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    cursor: Cursor,
    /// Ed25519 over [`Seal::statement`], in Base64.
    signature: String,
}

/// Why a cursor is not gone by. Each is one line.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Unfit {
    /// It cannot be read, or is none.
    Broken(String),
    /// It is none of ours: nobody knows whether the sink has what it says.
    Foreign(String),
}

/// Signs the cursors of one sink, and knows them again.
#[derive(Clone)]
pub(super) struct Seal {
    signer: Arc<Signer>,
    sink: Name,
    /// Where the sink is: another one has not got what this one has.
    place: String,
}

impl Seal {
    pub(super) fn new(signer: Arc<Signer>, sink: &SinkSettings) -> Self {
        let place = format!("{} {}", sink.kind.as_str(), sink.kind.place());
        Self { signer, sink: sink.name.clone(), place }
    }

    /// The cursor beside `journal`. `Ok(None)` if there is none yet.
    ///
    /// # Errors
    /// Why it is not gone by.
    pub(super) fn load(&self, journal: &Path) -> Result<Option<Cursor>, Unfit> {
        let path = self.file(journal);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Unfit::Broken(format!("cannot read `{}`: {error}", path.display()))),
        };
        let shown = path.display();
        if serde_json::from_slice::<Cursor>(&bytes).is_ok() {
            return Err(Unfit::Foreign(format!("`{shown}` is not signed, as versions before this one left it")));
        }
        let Signed { cursor, signature } = serde_json::from_slice(&bytes)
            .map_err(|error| Unfit::Broken(format!("`{shown}` is no cursor: {error}")))?;
        if !self.signer.public().signed(&self.statement(&cursor), &signature) {
            return Err(Unfit::Foreign(format!(
                "`{shown}` is not signed by this journal's key for this sink at this place: the sink moved, the key is another one, or somebody wrote the cursor"
            )));
        }
        Ok(Some(cursor))
    }

    /// Puts `cursor` in the place of the one before, whole or not at all.
    ///
    /// # Errors
    /// One line that says what cannot be written.
    pub(super) fn store(&self, cursor: &Cursor, journal: &Path) -> Result<(), String> {
        let path = self.file(journal);
        let signed = Signed { cursor: cursor.clone(), signature: self.signer.sign(&self.statement(cursor)) };
        let write = || -> io::Result<()> {
            let directory = path.parent().unwrap_or(journal);
            DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
            let new = path.with_extension("new");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&new)?;
            file.write_all(&serde_json::to_vec(&signed)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(|error| format!("cannot write `{}`: {error}", path.display()))
    }

    /// What the signature is over. It begins otherwise than what is signed in the journal.
    fn statement(&self, cursor: &Cursor) -> String {
        let (Self { sink, place, .. }, Cursor { node, epoch, seq, hash, segment, offset }) = (self, cursor);
        format!(
            "vestibule audit cursor v1\nsink {sink}\nat {place}\nnode {node}\nepoch {epoch}\nseq {seq}\nsha256 {hash}\nsegment {segment}\noffset {offset}\n"
        )
    }

    fn file(&self, journal: &Path) -> PathBuf {
        journal.join("cursors").join(format!("{}.json", self.sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(keys: &Path, sink: &str, place: &str) -> Seal {
        let signer = Arc::new(Signer::open(keys).expect("a key"));
        Seal { signer, sink: sink.parse().expect("a name"), place: place.to_owned() }
    }

    fn cursor(seq: u64) -> Cursor {
        Cursor { node: "n".into(), epoch: 1, seq, hash: "ab".into(), segment: "s.jsonl".into(), offset: 40 }
    }

    #[test]
    fn a_cursor_is_stored_whole_and_read_back() {
        let journal = tempfile::tempdir().expect("a directory");
        let seal = seal(&journal.path().join("keys"), "warehouse", "postgres db:5432/audit");
        assert_eq!(seal.load(journal.path()), Ok(None));
        for seq in [7, 8] {
            seal.store(&cursor(seq), journal.path()).expect("stored");
            assert_eq!(seal.load(journal.path()), Ok(Some(cursor(seq))));
        }
        fs::write(seal.file(journal.path()), "{\"cursor\":").expect("written");
        assert!(matches!(seal.load(journal.path()), Err(Unfit::Broken(error)) if error.contains("is no cursor")));
    }

    /// Neither a cursor that somebody changed or wrote, nor one of another sink, place or key leads anywhere.
    #[test]
    fn a_cursor_that_is_not_ours_is_not_gone_by() {
        let place = tempfile::tempdir().expect("a directory");
        let (journal, keys) = (place.path(), place.path().join("keys"));
        let ours = seal(&keys, "warehouse", "postgres db:5432/audit");
        ours.store(&cursor(7), journal).expect("stored");
        let whole = fs::read_to_string(ours.file(journal)).expect("text");
        let is_foreign = |seal: &Seal, text: &str| {
            fs::write(seal.file(journal), text).expect("written");
            matches!(seal.load(journal), Err(Unfit::Foreign(_)))
        };
        assert!(!is_foreign(&ours, &whole));
        for (old, new) in [("\"seq\":7", "\"seq\":8"), ("\"hash\":\"ab\"", "\"hash\":\"ac\""), ("40", "41")] {
            assert!(whole.contains(old), "{whole}");
            assert!(is_foreign(&ours, &whole.replace(old, new)), "{new}");
        }
        let unsigned = serde_json::to_string(&cursor(7)).expect("JSON");
        assert!(is_foreign(&ours, &unsigned), "as versions before left it");
        for other in [
            seal(&keys, "archive", "postgres db:5432/audit"),
            seal(&keys, "warehouse", "postgres elsewhere:5432/audit"),
            seal(&place.path().join("other"), "warehouse", "postgres db:5432/audit"),
        ] {
            assert!(is_foreign(&other, &whole), "{} {}", other.sink, other.place);
        }
    }
}
