//! Looks at the embedded store without a change to it.

use super::{embedded, store::Store};
use crate::finding::{Finding, Level};
use redb::{DatabaseError, ReadOnlyDatabase};
use std::{collections::HashMap, path::Path};

/// Whether the store in `state` can be opened, or is held by the process that runs with it.
pub fn probe(state: &Path, running: bool) -> Finding {
    let path = Store::embedded_file(state);
    let finding = |level, said: String| Finding::new(level, "session store", "state", said);
    let shown = path.display();
    if running {
        return finding(Level::Good, format!("`{shown}` is held by the running process"));
    }
    if !path.exists() {
        return finding(Level::Good, format!("`{shown}` will be made at the first start"));
    }
    match ReadOnlyDatabase::open(&path) {
        Ok(_) => finding(Level::Good, format!("`{shown}` can be opened")),
        Err(DatabaseError::RepairAborted) => {
            finding(Level::Good, format!("`{shown}` was not closed in order, and is mended at the next start"))
        }
        Err(DatabaseError::DatabaseAlreadyOpen) => {
            finding(Level::Fault, format!("another process has `{shown}` open")).help("stop it, or change `state`")
        }
        Err(error) => finding(Level::Fault, format!("`{shown}` cannot be opened: {error}"))
            .help("run this as the proxy's user; move a broken file away, and everybody signs in again"),
    }
}

/// How many stored records need each key of the ring, by the key's id. `None`: the store cannot be read without a change to it.
pub fn key_uses(state: &Path) -> Option<HashMap<[u8; 4], u64>> {
    let path = Store::embedded_file(state);
    if !path.exists() {
        return Some(HashMap::new());
    }
    embedded::key_uses(&ReadOnlyDatabase::open(path).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn said(state: &Path, running: bool) -> (Level, String) {
        let found = probe(state, running);
        (found.level, found.said.replace(&format!("{}/", state.display()), ""))
    }

    #[test]
    fn looks_without_a_trace() {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path();
        assert_eq!(said(state, false), (Level::Good, "`sessions.redb` will be made at the first start".into()));
        assert_eq!(fs::read_dir(state).expect("a directory").count(), 0);
        let store = Store::embedded(state).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(said(state, false), (Level::Fault, "another process has `sessions.redb` open".into()));
        assert_eq!(said(state, true).0, Level::Good);
        drop(store);
        let start = std::time::Instant::now();
        while said(state, false).0 == Level::Fault {
            assert!(start.elapsed().as_secs() < 20, "its writer does not close it");
            std::thread::yield_now();
        }
        fs::write(state.join("sessions.redb"), "not a store").expect("written");
        let (level, text) = said(state, false);
        assert!(level == Level::Fault && text.starts_with("`sessions.redb` cannot be opened: "), "{text}");
        assert_eq!(fs::read(state.join("sessions.redb")).expect("read"), b"not a store");
    }
}
