//! Where a result goes: standard output, or a file that is there whole or not at all.

use crate::audit::search::pipe;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Writes a result. Whoever closes a pipe early has seen enough, which is no fault.
///
/// # Errors
/// Why it cannot be written.
pub(super) fn say(text: &str, out: &mut dyn Write) -> Result<(), String> {
    pipe(writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush())).map(drop)
}

/// Runs `write` with standard output, or with a file (0600) that takes the name `path` only once it is whole and on disk. A link is
/// followed, and what is no file, such as a pipe or a device, is written to as it is.
///
/// # Errors
/// What `write` says, or why there is no file.
pub(super) fn to<T>(path: Option<&Path>, write: impl FnOnce(&mut dyn Write) -> Result<T, String>) -> Result<T, String> {
    let Some(path) = path else {
        return write(&mut BufWriter::new(io::stdout().lock()));
    };
    let fail = |error: io::Error| format!("cannot write `{}`: {error}", path.display());
    let path = &match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => fs::canonicalize(path).map_err(fail)?,
        Ok(_) | Err(_) => path.to_owned(),
    };
    if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let mut out = BufWriter::new(OpenOptions::new().write(true).open(path).map_err(fail)?);
        let result = write(&mut out)?;
        return out.flush().map_err(fail).map(|()| result);
    }
    let draft = draft(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(fail)?;
    let whole = || {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        let result = write(&mut out)?;
        let file = out.into_inner().map_err(|error| fail(error.into_error()))?;
        file.sync_all().and_then(|()| fs::rename(&draft, path)).and_then(|()| sync(path)).map_err(fail)?;
        Ok(result)
    };
    whole().inspect_err(|_: &String| drop(fs::remove_file(&draft)))
}

fn draft(path: &Path) -> Result<PathBuf, String> {
    let name = path.file_name().ok_or_else(|| format!("`{}` is no name for a file", path.display()))?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(draft))
}

fn sync(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// What fails on its way leaves the old file as it was, and no draft.
    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("out.csv");
        fs::write(&path, "old").expect("written");
        let half = |out: &mut dyn Write| -> Result<(), String> {
            out.write_all(b"half").and_then(|()| out.flush()).expect("written");
            Err("no more".to_owned())
        };
        assert_eq!(to(Some(&path), half), Err("no more".to_owned()));
        assert_eq!(fs::read_to_string(&path).expect("read"), "old");
        to(Some(&path), |out| out.write_all(b"whole").map_err(|error| error.to_string())).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("read"), "whole");
        assert_eq!(path.metadata().expect("is there").mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
    }

    /// `| head` is how people read, and no command fails for it.
    #[test]
    fn a_closed_pipe_is_no_fault() {
        struct Closed(io::ErrorKind);
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(self.0.into())
            }
        }
        assert_eq!(say("result", &mut Closed(io::ErrorKind::BrokenPipe)), Ok(()));
        assert!(
            say("result", &mut Closed(io::ErrorKind::StorageFull)).is_err_and(|said| said.contains("cannot write"))
        );
    }

    /// Nobody loses `/dev/null` for it, and a link still leads where it did.
    #[test]
    fn a_pipe_is_written_to_and_a_link_is_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let [pipe, link, file] = ["pipe", "link", "file"].map(|name| directory.path().join(name));
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("runs");
        assert!(made.success());
        std::os::unix::fs::symlink("file", &link).expect("made");
        fs::write(&file, "old").expect("written");
        let whole = |out: &mut dyn Write| out.write_all(b"whole").map_err(|error| error.to_string());
        let read = {
            let pipe = pipe.clone();
            std::thread::spawn(move || fs::read_to_string(pipe))
        };
        to(Some(&pipe), whole).expect("written");
        assert_eq!(read.join().expect("joined").expect("read"), "whole");
        assert!(!fs::metadata(&pipe).expect("is there").is_file());
        to(Some(&link), whole).expect("written");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).expect("read"), "whole");
        assert!(to(Some(directory.path()), whole).expect_err("none").contains("directory"));
    }
}
