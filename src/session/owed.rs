//! Entries of the revocation log that the embedded store could not take, in a file of their own until it can.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// An entry that waits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Owed {
    /// As it is stored.
    pub(super) entry: Vec<u8>,
    /// How long it stays in the log, in seconds since 1970.
    pub(super) forget: u64,
}

/// The file beside the store at `path`.
pub(super) fn beside(path: &Path) -> PathBuf {
    path.with_extension("owed")
}

/// Adds entries; they are durable when this returns.
pub(super) fn add(file: &Path, owed: &[Owed]) -> io::Result<()> {
    let mut bytes = Vec::new();
    for Owed { entry, forget } in owed {
        let length = u32::try_from(entry.len()).map_err(|_| io::Error::other("an entry is too long"))?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&forget.to_be_bytes());
        bytes.extend_from_slice(entry);
    }
    let mut open = OpenOptions::new().create(true).append(true).mode(0o600).open(file)?;
    let before = open.metadata()?.len();
    let written = open.write_all(&bytes).and_then(|()| open.sync_all());
    if let Err(error) = written {
        let _ = open.set_len(before); // what follows must not stand behind half an entry
        return Err(error);
    }
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// All entries, up to one that was cut short.
pub(super) fn read(file: &Path) -> io::Result<Vec<Owed>> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let (mut owed, mut rest) = (Vec::new(), &*bytes);
    while let Some((entry, after)) = first(rest) {
        owed.push(entry);
        rest = after;
    }
    Ok(owed)
}

fn first(bytes: &[u8]) -> Option<(Owed, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (forget, rest) = rest.split_first_chunk::<8>()?;
    let (entry, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((Owed { entry: entry.to_vec(), forget: u64::from_be_bytes(*forget) }, rest))
}

/// Nothing is owed any more.
pub(super) fn clear(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::warn!(%error, path = %file.display(), "what was owed to the session store is paid, and its file stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_read_up_to_where_it_was_cut() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = beside(&directory.path().join("sessions.redb"));
        assert_eq!(read(&file).expect("nothing is fine"), []);
        let owed = |byte| Owed { entry: vec![byte; 5], forget: 7 };
        add(&file, &[owed(1), owed(2)]).expect("written");
        add(&file, &[owed(3)]).expect("written");
        assert_eq!(read(&file).expect("read"), [owed(1), owed(2), owed(3)]);
        let bytes = fs::read(&file).expect("read");
        fs::write(&file, &bytes[..bytes.len() - 1]).expect("written");
        assert_eq!(read(&file).expect("read"), [owed(1), owed(2)]);
        clear(&file);
        assert!(!file.exists());
    }
}
