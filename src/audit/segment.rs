//! The journal's files: `<epoch>-<first record>.jsonl`, so that sorting by name is sorting by time.

use super::record::{FORMAT, Line, Opening};
use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

/// How far the journal is on disk for good: no record up to there will change or vanish.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Reached {
    /// The epoch that is written.
    pub(super) epoch: u32,
    /// Number of the last record.
    pub(super) seq: u64,
    /// The first record of the segment that is written.
    pub(super) segment: u64,
    /// Bytes of that segment.
    pub(super) bytes: u64,
}

/// No record of ours is as long. Who writes a longer line here shall not have it read into memory.
pub(super) const LONGEST: u64 = 64 << 20;

/// One file of the journal.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Segment {
    /// See [`super::record::Chain`].
    pub(super) epoch: u32,
    /// Number of its first record.
    pub(super) first: u64,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Segment {
    /// A segment of the journal in `directory`.
    pub(super) fn new(directory: &Path, epoch: u32, first: u64) -> Self {
        Self { epoch, first, path: directory.join(format!("{epoch:08}-{first:020}.jsonl")) }
    }

    /// All segments in `directory`, the oldest first. Other files are none of ours.
    ///
    /// # Errors
    /// One line that says what cannot be read.
    pub(super) fn list(directory: &Path) -> Result<Vec<Self>, String> {
        let fail = |error: io::Error| format!("cannot read the journal `{}`: {error}", directory.display());
        let mut segments = Vec::new();
        for entry in fs::read_dir(directory).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name();
            segments.extend(name.to_str().and_then(|name| Self::named(directory, name)));
        }
        segments.sort();
        Ok(segments)
    }

    /// The same, where there must be some.
    ///
    /// # Errors
    /// If there are none, too.
    pub(super) fn some(directory: &Path) -> Result<Vec<Self>, String> {
        match Self::list(directory)? {
            none if none.is_empty() => Err(format!("there is no journal in `{}`", directory.display())),
            some => Ok(some),
        }
    }

    /// The segment whose file has this name, if it is one.
    pub(super) fn named(directory: &Path, name: &str) -> Option<Self> {
        let (epoch, first) = name.strip_suffix(".jsonl")?.split_once('-')?;
        let segment = Self::new(directory, epoch.parse().ok()?, first.parse().ok()?);
        (segment.name() == name).then_some(segment)
    }

    /// The epoch in the file name of a segment.
    pub(super) fn named_epoch(name: &str) -> Option<u32> {
        Self::named(Path::new(""), name).map(|segment| segment.epoch)
    }

    /// The file's name.
    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Reads it from the beginning.
    pub(super) fn lines(&self) -> Result<Lines, String> {
        Lines::open(&self.path)
    }

    /// Its first line; `None` if it is not whole or none of ours.
    ///
    /// # Errors
    /// If the file cannot be read, or has a format that this version does not know.
    pub(super) fn opening(&self) -> Result<Option<Opening>, String> {
        let mut lines = self.lines()?;
        let Some(bytes) = lines.next()? else { return Ok(None) };
        let opening = bytes.whole().and_then(Line::parse).and_then(|line| line.segment);
        match opening {
            Some(Opening { format, .. }) if format != FORMAT => {
                Err(format!("`{}` has format {format}, this version reads {FORMAT}", self.path.display()))
            }
            other => Ok(other),
        }
    }
}

/// Reads lines of a file without keeping more than one.
pub(super) struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
    line: Vec<u8>,
}

/// The bytes of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// A line, with its line feed if it has one.
    pub(super) fn of(line: &'a [u8]) -> Self {
        Self(line)
    }

    /// The line without its line feed; `None` if the file ends before one.
    pub(super) fn whole(self) -> Option<&'a [u8]> {
        self.0.strip_suffix(b"\n")
    }

    /// How many bytes there are.
    pub(super) fn len(self) -> usize {
        self.0.len()
    }
}

impl Lines {
    fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 16, file), path: path.to_owned(), line: Vec::new() })
    }

    /// The next line; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Bytes<'_>>, String> {
        self.line.clear();
        self.read()?;
        Ok((!self.line.is_empty()).then_some(Bytes(&self.line)))
    }

    /// The next whole line of a file that still grows; what is there of the line after is kept until it is whole.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn next_whole(&mut self) -> Result<Option<&[u8]>, String> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        self.read()?;
        Ok(self.line.strip_suffix(b"\n"))
    }

    fn read(&mut self) -> Result<(), String> {
        let fail = |error| format!("cannot read `{}`: {error}", self.path.display());
        let room = LONGEST.saturating_sub(self.line.len() as u64);
        self.reader.by_ref().take(room).read_until(b'\n', &mut self.line).map_err(fail)?;
        if self.line.len() as u64 >= LONGEST {
            let (path, most) = (self.path.display(), LONGEST >> 20);
            return Err(format!(
                "`{path}` has a line of {most} MiB or more, which was never written by us: look who did"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that claims to be large costs its reader no memory.
    #[test]
    fn a_line_without_an_end_is_not_read_into_memory() {
        let directory = tempfile::tempdir().expect("a directory");
        let segment = Segment::new(directory.path(), 1, 1);
        File::create(&segment.path).and_then(|file| file.set_len(8 << 30)).expect("a sparse file");
        let error = segment.lines().expect("opened").next().map(drop).expect_err("is refused");
        assert!(error.contains("a line of 64 MiB or more"), "{error}");
    }

    #[test]
    fn names_sort_by_epoch_and_record_and_foreign_files_are_left_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let wanted =
            [Segment::new(path, 1, 1), Segment::new(path, 1, 900), Segment::new(path, 2, 1), Segment::new(path, 10, 1)];
        for segment in wanted.iter().rev() {
            fs::write(&segment.path, "").expect("written");
        }
        for foreign in ["lock", "1-1.jsonl", "00000001-x.jsonl", "notes.jsonl"] {
            fs::write(path.join(foreign), "").expect("written");
        }
        assert_eq!(Segment::list(path).expect("listed"), wanted);
    }
}
