//! Reads the lines of a segment and their hashes in a thread of its own, a little ahead of whoever proves them: half of a proof is
//! SHA-256, and the other half need not wait for it.

use super::{
    record::{Hash, hash},
    segment::{Bytes, Segment},
};
use std::{
    fs::File,
    io::Read,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

/// How much is read at once; a longer line makes it more.
const CHUNK: usize = 1 << 20;
/// How many chunks are read ahead.
const AHEAD: usize = 3;

/// Lines with their hashes.
pub(super) struct Hashed {
    chunks: Receiver<Result<Chunk, String>>,
    chunk: Chunk,
    /// The next line of the chunk.
    next: usize,
    hash: Hash,
}

/// Some lines, and where each ends, with its line feed; the last of a file may have none.
#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    lines: Vec<(usize, Hash)>,
    /// Behind it is the end of the file.
    is_last: bool,
}

impl Hashed {
    /// Reads `segment` from the beginning.
    ///
    /// # Errors
    /// If it cannot be opened, or the system gives no thread.
    pub(super) fn open(segment: &Segment) -> Result<Self, String> {
        let path = segment.path.clone();
        let fail = move |error| format!("cannot read `{}`: {error}", path.display());
        let file = File::open(&segment.path).map_err(&fail)?;
        let (sender, chunks) = sync_channel(AHEAD);
        let ended = fail.clone();
        thread::Builder::new()
            .name("audit-hash".to_owned())
            .spawn(move || {
                if let Err(error) = read(file, &sender) {
                    let _ = sender.send(Err(fail(error))); // whoever proves has ended
                }
            })
            .map_err(ended)?;
        Ok(Self { chunks, chunk: Chunk::default(), next: 0, hash: [0; 32] })
    }

    /// The next line; `None` at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<Bytes<'_>>, String> {
        while self.next == self.chunk.lines.len() {
            if self.chunk.is_last {
                return Ok(None);
            }
            // Only the end of the file is the end: a thread that died has read less.
            let chunk = self.chunks.recv().map_err(|_| "reading ahead ended early".to_owned())?;
            (self.chunk, self.next) = (chunk?, 0);
        }
        let start = self.next.checked_sub(1).map_or(0, |before| self.chunk.lines[before].0);
        let (end, hash) = self.chunk.lines[self.next];
        (self.next, self.hash) = (self.next + 1, hash);
        Ok(Some(Bytes::of(&self.chunk.bytes[start..end])))
    }

    /// The hash of the line that came last, without its line feed.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }
}

/// Reads all of it, until nobody listens.
fn read(mut file: File, chunks: &SyncSender<Result<Chunk, String>>) -> std::io::Result<()> {
    let mut rest = Vec::new();
    loop {
        let before = rest.len();
        let got = file.by_ref().take(CHUNK as u64).read_to_end(&mut rest)?;
        let end = match memchr::memrchr(b'\n', &rest[before..]) {
            Some(feed) => before + feed + 1,
            None if got > 0 => continue,
            None => rest.len(),
        };
        let mut bytes = std::mem::replace(&mut rest, Vec::with_capacity(2 * CHUNK));
        rest.extend_from_slice(&bytes[end..]);
        bytes.truncate(end);
        let chunk = Chunk { lines: lines(&bytes), bytes, is_last: got == 0 };
        if chunks.send(Ok(chunk)).is_err() || got == 0 {
            return Ok(());
        }
    }
}

fn lines(bytes: &[u8]) -> Vec<(usize, Hash)> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', bytes).map(|feed| (feed, feed + 1));
    let last = (!bytes.is_empty() && !bytes.ends_with(b"\n")).then_some((bytes.len(), bytes.len()));
    ends.chain(last)
        .map(|(end, next)| {
            let line = &bytes[start..end];
            start = next;
            (next, hash(line))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the lengths of lines, they are what reading one by one gives, each with its hash.
    #[test]
    fn lines_and_hashes_are_those_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let segment = Segment::new(directory.path(), 1, 1);
        let long = "x".repeat(2 * CHUNK + 17);
        let many = "abc\n\ndefg\n".repeat(300_000);
        for text in
            ["", "\n", "a", "a\nb", "a\n\nb\n", &long, &format!("{long}\n{long}\nz"), &many, &format!("{many}tail")]
        {
            std::fs::write(&segment.path, text).expect("written");
            let (mut one, mut other) = (segment.lines().expect("opened"), Hashed::open(&segment).expect("opened"));
            loop {
                let expected = one.next().expect("read").map(|bytes| (bytes.whole().map(<[u8]>::to_vec), bytes.len()));
                let found = other.next().expect("read").map(|bytes| (bytes.whole().map(<[u8]>::to_vec), bytes.len()));
                assert!(expected == found, "a line of {} bytes", text.len());
                match expected {
                    None => break,
                    Some((Some(line), _)) => assert_eq!(other.hash(), hash(&line)),
                    Some((None, _)) => {}
                }
            }
        }
    }
}
