//! A file that is there to go: on a full disk it makes room for the records without which no segment may be removed.

use aws_lc_rs::rand;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// What is not worth the trouble.
const LITTLE: u64 = 64 << 10;

/// The file `spare` beside the segments. It holds nothing.
#[derive(Debug)]
pub(super) struct Spare {
    directory: PathBuf,
    path: PathBuf,
}

impl Spare {
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), path: directory.join("spare") }
    }

    /// Makes it `size` bytes large, but never takes more than an eighth of what is free.
    ///
    /// # Errors
    /// As the kernel says.
    pub(super) fn keep(&self, size: u64) -> io::Result<()> {
        let there = fs::metadata(&self.path).map_or(0, |about| about.len());
        let about = statvfs(&self.directory)?;
        let more = (about.f_bavail.saturating_mul(about.f_frsize) / 8).min(size.saturating_sub(there));
        if more < LITTLE {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), there, more) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&mut file, more),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes it. True if that made room.
    pub(super) fn release(&self) -> bool {
        let there = fs::metadata(&self.path).is_ok_and(|about| about.len() > 0);
        there && fs::remove_file(&self.path).is_ok()
    }
}

/// Writes what no file system can make smaller.
fn fill(file: &mut File, mut more: u64) -> io::Result<()> {
    let mut bytes = vec![0; 1 << 16];
    while more > 0 {
        rand::fill(&mut bytes).map_err(|_| io::Error::other("there are no random bytes"))?;
        let some = bytes.len().min(usize::try_from(more).unwrap_or(usize::MAX));
        file.write_all(&bytes[..some])?;
        more -= some as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let place = tempfile::tempdir().expect("a directory");
        let spare = Spare::of(place.path());
        assert!(!spare.release(), "there is nothing to release");
        for _ in 0..2 {
            spare.keep(1 << 20).expect("kept");
            let about = fs::metadata(place.path().join("spare")).expect("is there");
            assert_eq!(about.len(), 1 << 20);
            assert!(about.blocks() * 512 >= 1 << 20, "it holds room");
        }
        assert!(spare.release() && !spare.release());
        let mut file = File::create(place.path().join("filled")).expect("made");
        fill(&mut file, 100_000).expect("filled");
        assert_eq!(file.metadata().expect("is there").len(), 100_000);
    }
}
