//! Whether the directories of `state` and `keys` can be used as they have to be at a start. Nothing is made or written.

use crate::{
    finding::{Finding, Level},
    text::advice,
};
use rustix::fs::{Access, AtFlags, CWD, StatFs, accessat, statfs};
use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// What the file system of processes and that of devices call themselves (`statfs(2)`): nothing can be made there.
const NO_PLACE_FOR_FILES: [u64; 2] = [0x9fa0, 0x6265_6572];

/// A path that cannot be used, what cannot be done with it, and why.
struct Unusable {
    path: PathBuf,
    cannot: &'static str,
    error: io::Error,
}

/// What keeps a start from using `state`: it and the journal in it have to be written to.
pub(super) fn state(state: &Path) -> Option<Finding> {
    let journal = state.join("journal");
    let files = [state.join("sessions.redb"), journal.join("lock")];
    let directories = [state, &journal].into_iter().try_for_each(makable);
    let used = directories.and_then(|()| files.iter().chain(newest(&journal).as_ref()).try_for_each(|it| writable(it)));
    used.err().map(|unusable| unusable.finding("state directory", "state"))
}

/// Whether a start can use `keys`: what is there has to be read, and what is not there is made.
pub(super) fn keys(keys: &Path) -> Finding {
    let shown = keys.display();
    let used = kept(&keys.join("ring"), "key")
        .and_then(|()| kept(&keys.join("assertion"), "pem"))
        .and_then(|()| ["audit.ed25519", "audit.pub"].iter().try_for_each(|name| there_or_made(&keys.join(name))));
    match used {
        Err(unusable) => unusable.finding("keys", "keys"),
        Ok(()) if keys.exists() => Finding::new(Level::Good, "keys", "keys", format!("`{shown}` can be used")),
        Ok(()) => Finding::new(Level::Good, "keys", "keys", format!("`{shown}` will be made at the first start")),
    }
}

impl Unusable {
    fn finding(self, what: &str, key: &str) -> Finding {
        let Self { path, cannot, error } = self;
        let said = format!("`{}` cannot be {cannot}: {error}", path.display());
        Finding::new(Level::Fault, what, key, said).help(advice(error.kind(), key))
    }
}

fn may(path: &Path, access: Access, cannot: &'static str) -> Result<(), Unusable> {
    let unusable = |error: rustix::io::Errno| Unusable { path: path.to_owned(), cannot, error: error.into() };
    accessat(CWD, path, access, AtFlags::EACCESS).map_err(unusable)
}

/// A directory that is there can be written to, or one that is not can be made in the nearest that is.
fn makable(directory: &Path) -> Result<(), Unusable> {
    let mut there = directory;
    loop {
        let unusable = |path: &Path, cannot, error: io::Error| Err(Unusable { path: path.to_owned(), cannot, error });
        match fs::metadata(there) {
            Ok(about) if about.is_dir() && there != directory && is_no_place(there) => {
                return unusable(directory, "made", ErrorKind::Unsupported.into());
            }
            Ok(about) if about.is_dir() => return may(there, Access::WRITE_OK | Access::EXEC_OK, "written to"),
            Ok(_) => return unusable(there, "entered", ErrorKind::NotADirectory.into()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let above = there.parent().unwrap_or(Path::new("/"));
                there = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            }
            Err(error) => return unusable(there, "looked at", error),
        }
    }
}

fn is_no_place(directory: &Path) -> bool {
    let kind = |about: StatFs| u64::try_from(about.f_type).unwrap_or_default();
    statfs(directory).is_ok_and(|about| NO_PLACE_FOR_FILES.contains(&kind(about)))
}

/// A file that is there can be written to.
fn writable(file: &Path) -> Result<(), Unusable> {
    if file.exists() { may(file, Access::READ_OK | Access::WRITE_OK, "written to") } else { Ok(()) }
}

fn there_or_made(file: &Path) -> Result<(), Unusable> {
    if file.exists() { may(file, Access::READ_OK, "read") } else { makable(file.parent().unwrap_or(Path::new("."))) }
}

/// The keys in a directory can be read; where there is none, the first can be made.
fn kept(directory: &Path, extension: &str) -> Result<(), Unusable> {
    let files = match listed(directory) {
        Ok(files) => files,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Unusable { path: directory.to_owned(), cannot: "listed", error }),
    };
    let mut keys = files.iter().filter(|path| path.extension().is_some_and(|one| one == extension)).peekable();
    if keys.peek().is_none() {
        return makable(directory);
    }
    keys.try_for_each(|path| may(path, Access::READ_OK, "read"))
}

/// The file of a journal that a start goes on with.
fn newest(journal: &Path) -> Option<PathBuf> {
    let files = listed(journal).unwrap_or_default(); // one that is not there is made
    files.into_iter().filter(|path| path.extension().is_some()).max()
}

fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a start would make is not made by looking, and where nothing can be made, that is told: for root, too.
    #[test]
    fn a_place_where_nothing_can_be_made_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        assert_eq!(state(&at.join("a/b")), None);
        assert_eq!(keys(&at.join("keys")).said, format!("`{}/keys` will be made at the first start", at.display()));
        assert_eq!(fs::read_dir(at).expect("there").count(), 0);
        let fault = state(Path::new("/proc/vestibule")).expect("a fault");
        assert_eq!((fault.level, &*fault.said), (Level::Fault, "`/proc/vestibule` cannot be made: unsupported"));
        assert_eq!(fault.help.as_deref(), Some("change `state` to a place where this can write"));
        assert_eq!(keys(Path::new("/proc/vestibule")).level, Level::Fault);
        fs::write(at.join("file"), "").expect("written");
        let fault = state(&at.join("file/state")).expect("a fault");
        assert_eq!(fault.help.as_deref(), Some("move away what is in its way, or change `state`"));
    }
}
