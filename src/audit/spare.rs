//! A file that is there to go: on a full disk it makes room for the records without which no segment may be removed.

use aws_lc_rs::rand;
use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
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
        let there = self.there()?;
        let about = statvfs(&self.directory)?;
        let more = (about.f_bavail.saturating_mul(about.f_frsize) / 8).min(size.saturating_sub(there));
        if more < LITTLE {
            return Ok(());
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), there, more) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP) => fill(&mut file, more),
            Err(error) => Err(error.into()),
        }
    }

    /// How large it is. What another put there in its place, such as a link to a file that is to be spoiled, goes.
    fn there(&self) -> io::Result<u64> {
        match fs::symlink_metadata(&self.path) {
            Ok(about) if about.is_file() && about.nlink() == 1 => Ok(about.len()),
            Ok(_) => fs::remove_file(&self.path).map(|()| 0),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Removes it. True if that made room.
    pub(super) fn release(&self) -> bool {
        let there = self.there().is_ok_and(|bytes| bytes > 0);
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
        fs::write(place.path().join("key"), "k").expect("written");
        for link in [fs::hard_link, |one, other| std::os::unix::fs::symlink(one, other)] {
            link(place.path().join("key"), place.path().join("spare")).expect("linked");
            spare.keep(1 << 20).expect("kept");
            assert_eq!(fs::read(place.path().join("key")).expect("read"), b"k", "what a link leads to is left alone");
            assert!(spare.release());
        }
        let mut file = File::create(place.path().join("filled")).expect("made");
        fill(&mut file, 100_000).expect("filled");
        assert_eq!(file.metadata().expect("is there").len(), 100_000);
    }
}
