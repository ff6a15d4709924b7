//! The journal on disk: append-only segments of chained lines, with signed heads.
//!
//! A line is pending from [`Journal::push`] until it is on disk. Whatever fails in between, the lines stay as they are and
//! are written again, so that the chain never forks.

use super::{
    key::Signer,
    memory::Last,
    record::{Chain, FORMAT, Kind, Opening, Other, Recovery, Stretch},
    recover::{self, End, Tail},
    retain::{self, Asked, Grounds, Measured},
    segment::{Reached, Segment},
    time::millis,
    trust,
};
use crate::config::Retention;
use aws_lc_rs::rand;
use serde::Serialize;
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

/// Of so many other journals a new one tells that the key has signed them.
const OTHERS: usize = 20;

/// An open journal. Only one process has it open.
pub(super) struct Journal {
    directory: PathBuf,
    signer: Arc<Signer>,
    chain: Chain,
    /// Records since the last head, heads not counted.
    unsigned: u64,
    /// The last of them is the one that closes the journal.
    closed: bool,
    /// What retention knows of closed segments.
    measured: Measured,
    file: File,
    /// Bytes of the file that are on disk.
    durable: u64,
    /// Lines that are not: the first `written` bytes have been handed to the kernel.
    pending: Vec<u8>,
    written: usize,
    /// A write or a sync failed: the file may hold anything behind `durable + written`.
    torn: bool,
    /// Number of the file's first record.
    first: u64,
    /// Where the file is.
    path: PathBuf,
    /// How far all of it is on disk.
    reached: Reached,
    /// The last head, until it is on disk.
    signed: Option<Last>,
    /// It could not be remembered.
    forgetful: bool,
    /// A segment is closed at this size.
    limit: u64,
    _lock: File,
    #[cfg(test)]
    pub(super) fault: Fault,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if absent, and recovers it.
    ///
    /// # Errors
    /// One line that says what cannot be opened.
    pub(super) fn open(
        directory: &Path,
        signer: impl Into<Arc<Signer>>,
        limit: u64,
        now: SystemTime,
    ) -> Result<Self, String> {
        let signer = signer.into();
        let fail = |error: io::Error| format!("cannot open the journal `{}`: {error}", directory.display());
        DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(fail)?;
        let lock = lock(directory)?;
        let segments = Segment::list(directory)?;
        let (epoch, segment, damage) = match recover::inspect(segments.clone(), &signer.public())? {
            End::None { empty, torn } => {
                let chain = Chain { node: node()?, epoch: 1, next: 1, prev: [0; 32] };
                let anew = anew(directory, torn, signer.memory().all()?, now);
                remove(&empty).map_err(fail)?;
                return Self::begin(directory, signer, limit, chain, lock, now, anew).map_err(fail);
            }
            End::Whole(tail) => match trust::doubt(upto(&segments, &tail.segment), &tail.chain, &signer)? {
                None => return Self::resume(directory, signer, limit, tail, lock, now).map_err(fail),
                Some(damage) => (tail.chain.epoch, tail.segment.name().to_owned(), damage),
            },
            End::Damaged { epoch, segment, damage } => (epoch, segment, damage),
        };
        tracing::error!(segment, "the audit journal is damaged: {damage}; it goes on in epoch {}", epoch + 1);
        let known = trust::known(&segments, &signer)?;
        let (node, last, others) = match known {
            Some((node, last)) => (node, Some(last), Vec::new()),
            None => (node()?, None, others(signer.memory().all()?)),
        };
        let chain = Chain { node, epoch: epoch + 1, next: 1, prev: [0; 32] };
        let recovery =
            Recovery { unclosed: true, last, others, damage: Some(damage), ..Recovery::of(segment, None, now) };
        Self::begin(directory, signer, limit, chain, lock, now, Some(recovery)).map_err(fail)
    }

    /// Begins an epoch: its first lines are signed at once, so that no journal is without a head.
    fn begin(
        directory: &Path,
        signer: Arc<Signer>,
        limit: u64,
        chain: Chain,
        lock: File,
        now: SystemTime,
        recovery: Option<Recovery>,
    ) -> io::Result<Self> {
        let (file, first) = (create(directory, &chain)?, chain.next);
        let mut journal = Self::new(directory, signer, limit, chain, (file, first, 0), lock);
        journal.push(Kind::Segment, &opening(now));
        if let Some(recovery) = recovery {
            journal.push(Kind::Recovery, &recovery);
        }
        journal.head(now);
        journal.sync()?;
        Ok(journal)
    }

    fn resume(
        directory: &Path,
        signer: Arc<Signer>,
        limit: u64,
        tail: Tail,
        lock: File,
        now: SystemTime,
    ) -> io::Result<Self> {
        let Tail { segment, length, chain, head, closed, torn, empty } = tail;
        let remembered = signer.memory().read(&chain.node).map_err(io::Error::other)?;
        let file = OpenOptions::new().append(true).open(&segment.path)?;
        file.set_len(length)?;
        file.sync_all()?; // who wrote it may not have lived to do so
        remove(&empty)?;
        if let Some(last) = remembered.as_ref().filter(|last| last.closed)
            && let Err(error) = signer.memory().reopen(&chain.node, last)
        {
            tracing::warn!(%error, "`audit-heads` below `keys` still says that the audit journal is closed: after a crash the next start will begin an epoch");
        }
        let known = remembered.as_ref().filter(|last| last.epoch == chain.epoch).map(|last| last.seq);
        let (head, last) = (head.max(known).unwrap_or_default(), chain.next - 1);
        let unsigned = (head < last).then_some(Stretch { first: head + 1, last });
        let mut journal = Self::new(directory, signer, limit, chain, (file, segment.first, length), lock);
        journal.unsigned = u64::from(unsigned.is_some());
        if torn.is_some() || !closed || remembered.is_none() {
            let segment = empty.first().filter(|_| torn.is_some()).unwrap_or(&segment).name().to_owned();
            let forgotten = remembered.is_none();
            let recovery = Recovery { unclosed: !closed, unsigned, forgotten, ..Recovery::of(segment, torn, now) };
            tracing::warn!(segment = recovery.segment, "the audit journal was opened anew: {}", recovery.said());
            journal.push(Kind::Recovery, &recovery);
            journal.head(now); // at once: what it says of those behind the last head must not be one of them
            journal.sync()?;
        }
        Ok(journal)
    }

    /// A journal whose last file, which begins with record `first`, is on disk with all its `durable` bytes.
    fn new(
        directory: &Path,
        signer: Arc<Signer>,
        limit: u64,
        chain: Chain,
        (file, first, durable): (File, u64, u64),
        lock: File,
    ) -> Self {
        let reached = Reached { epoch: chain.epoch, seq: chain.next - 1, segment: first, bytes: durable };
        let path = Segment::new(directory, chain.epoch, first).path;
        Self {
            directory: directory.to_owned(),
            signer,
            chain,
            unsigned: 0,
            closed: false,
            measured: Measured::default(),
            file,
            durable,
            pending: Vec::with_capacity(1 << 16),
            written: 0,
            torn: false,
            first,
            path,
            reached,
            signed: None,
            forgetful: false,
            limit,
            _lock: lock,
            #[cfg(test)]
            fault: Fault::default(),
        }
    }

    /// Adds a record; returns its number. It is pending until [`Self::sync`] succeeds.
    pub(super) fn push(&mut self, kind: Kind, body: &impl Serialize) -> u64 {
        self.unsigned += 1;
        self.closed = kind == Kind::Close;
        self.chain.append(kind, body, &mut self.pending)
    }

    /// Signs what was recorded since the last head, if anything was.
    pub(super) fn head(&mut self, now: SystemTime) {
        if self.unsigned > 0 {
            let seq = self.chain.append_head(&self.signer, millis(now), &mut self.pending);
            let (epoch, hash) = (self.chain.epoch, crate::text::hex(&self.chain.prev));
            self.signed = Some(Last { epoch, seq, hash, closed: self.closed });
            self.unsigned = 0;
        }
    }

    /// True if there are records that no head covers.
    pub(super) fn unsigned(&self) -> bool {
        self.unsigned > 0
    }

    /// Its key.
    pub(super) fn signer(&self) -> Arc<Signer> {
        Arc::clone(&self.signer)
    }

    /// Where it is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How far it is on disk for good.
    pub(super) fn reached(&self) -> Reached {
        self.reached
    }

    /// Bytes that are not on disk yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Hands pending lines to the kernel.
    ///
    /// # Errors
    /// As the kernel says; the lines stay pending, and what a failed write left is cut off, now or before the next.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.torn {
            self.cut()?;
        }
        if self.written < self.pending.len() {
            if let Err(error) = self.write() {
                self.torn = true;
                return self.cut().and(Err(error));
            }
            self.written = self.pending.len();
        }
        Ok(())
    }

    /// Cuts the file back to what was written whole.
    fn cut(&mut self) -> io::Result<()> {
        self.file.set_len(self.durable + self.written as u64)?;
        self.torn = false;
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let bytes = &self.pending[self.written..];
        #[cfg(test)]
        if self.fault.is(Fault::WRITE) {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        #[cfg(test)]
        if self.fault.is(Fault::FULL) && self.directory.join("spare").exists() && self.has_all() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)
    }

    /// True if no segment is removed yet.
    #[cfg(test)]
    fn has_all(&self) -> bool {
        Segment::new(&self.directory, 1, 1).path.exists()
    }

    /// Brings pending lines to disk.
    ///
    /// # Errors
    /// As the kernel says. After a failed sync nobody knows what is on disk, so everything pending is written again.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.is_as_we_left_it()?;
        #[cfg(test)]
        let result = if self.fault.is(Fault::SYNC) { Err(io::ErrorKind::Other.into()) } else { self.file.sync_data() };
        #[cfg(not(test))]
        let result = self.file.sync_data();
        if let Err(error) = result {
            self.written = 0;
            self.torn = true;
            return Err(error);
        }
        self.durable += self.pending.len() as u64;
        let (epoch, seq) = (self.chain.epoch, self.chain.next - 1);
        self.reached = Reached { epoch, seq, segment: self.first, bytes: self.durable };
        self.written = 0;
        if self.pending.len() < self.pending.capacity() / 4 {
            self.pending.shrink_to(1 << 20); // a buffer that is full again and again is kept
        }
        self.pending.clear();
        self.remember();
        Ok(())
    }

    /// Remembers the head that has just reached the disk, so that the next start goes on from nothing older.
    fn remember(&mut self) {
        let Some(last) = self.signed.take() else { return };
        let result = self.signer.memory().write(&self.chain.node, &last);
        if let Err(error) = &result
            && !self.forgetful
        {
            tracing::warn!(%error, "how far the audit journal is signed cannot be kept in `audit-heads` below `keys`: a start will not notice that it was cut back");
        }
        self.forgetful = result.is_err();
    }

    /// Whoever removes, replaces or changes the file that is written would else have records vanish or appear in silence.
    fn is_as_we_left_it(&self) -> io::Result<()> {
        let named = fs::metadata(&self.path).map(|named| (named.dev(), named.ino()));
        let own = self.file.metadata()?;
        let what = match named {
            Ok(named) if named == (own.dev(), own.ino()) => {
                if own.len() == self.durable + self.pending.len() as u64 {
                    return Ok(());
                }
                "changed by another process"
            }
            Ok(_) | Err(_) => "removed or replaced",
        };
        let shown = self.path.display();
        Err(io::Error::other(format!(
            "`{shown}` was {what} while it was written: restart to go on, and look who did that"
        )))
    }

    /// Closes the segment and begins the next one, if it has reached its size. True if it has.
    ///
    /// # Errors
    /// As the kernel says; then the segment stays, and the next call tries again.
    pub(super) fn rotate(&mut self, now: SystemTime) -> io::Result<bool> {
        if self.durable + (self.pending.len() as u64) < self.limit {
            return Ok(false);
        }
        self.head(now);
        self.sync()?;
        self.file = create(&self.directory, &self.chain)?;
        self.first = self.chain.next;
        self.path = Segment::new(&self.directory, self.chain.epoch, self.first).path;
        self.durable = 0;
        self.push(Kind::Segment, &opening(now));
        self.sync().map(|()| true)
    }

    /// What retention asks for.
    ///
    /// # Errors
    /// What cannot be read, or is not as it was written.
    pub(super) fn asked(
        &mut self,
        retention: &Retention,
        needed: Option<(u32, u64)>,
        now: SystemTime,
    ) -> Result<Asked, String> {
        let (open, written, key) = ((self.chain.epoch, self.first), self.durable, &self.signer.public());
        retain::look(&self.directory, &Grounds { retention, needed, open, written, key, now }, &mut self.measured)
    }

    /// Removes the oldest segment, if retention asks for that and no sink waits for a record of it: first what is left of it is
    /// recorded, signed and on disk, then its file goes. Says what it found.
    ///
    /// # Errors
    /// What cannot be read, written or removed. What was recorded stays, and the next call tries again.
    pub(super) fn retain(
        &mut self,
        retention: &Retention,
        needed: Option<(u32, u64)>,
        now: SystemTime,
    ) -> Result<Asked, String> {
        let asked = self.asked(retention, needed, now)?;
        if let Asked::Gone(due) = &asked {
            let path = due.segment.path.display();
            self.push(Kind::Removal, &due.removal);
            self.head(now);
            self.sync().map_err(|error| format!("cannot record that `{path}` goes: {error}"))?;
            retain::remove(&due.segment)
                .and_then(|()| File::open(&self.directory)?.sync_all())
                .map_err(|error| format!("cannot remove `{path}`: {error}"))?;
        }
        Ok(asked)
    }
}

/// The segments that have whole lines, the last of which is `last`.
fn upto<'a>(segments: &'a [Segment], last: &Segment) -> &'a [Segment] {
    &segments[..segments.partition_point(|segment| segment <= last)]
}

fn opening(now: SystemTime) -> Opening {
    Opening { format: FORMAT, time: millis(now), version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// What a journal says of its beginning where there may have been another one: files without a whole line, and journals that the
/// key has signed. Whoever removes a journal as a whole leaves that.
fn anew(
    directory: &Path,
    torn: Option<(u64, String)>,
    signed: Vec<(String, Last)>,
    now: SystemTime,
) -> Option<Recovery> {
    if torn.is_none() && signed.is_empty() {
        return None;
    }
    let segment = Segment::new(directory, 1, 1).name().to_owned();
    let recovery = Recovery { others: others(signed), ..Recovery::of(segment, torn, now) };
    tracing::warn!("an audit journal begins: {}", recovery.said());
    Some(recovery)
}

/// How far journals were signed that may be another one.
fn others(signed: Vec<(String, Last)>) -> Vec<Other> {
    signed.into_iter().take(OTHERS).map(|(node, Last { epoch, seq, .. })| Other { node, epoch, seq }).collect()
}

/// A file that is there already without a byte in it is what an earlier attempt left.
fn create(directory: &Path, chain: &Chain) -> io::Result<File> {
    let path = Segment::new(directory, chain.epoch, chain.next).path;
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    File::open(directory)?.sync_all()?;
    Ok(file)
}

fn remove(segments: &[Segment]) -> io::Result<()> {
    segments.iter().try_for_each(|segment| fs::remove_file(&segment.path))
}

fn lock(directory: &Path) -> Result<File, String> {
    let path = directory.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(|error| {
        format!("cannot open `{}`: {error}: {}", path.display(), crate::text::advice(error.kind(), "state"))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            Err(format!("the journal `{}` is in use by another process", directory.display()))
        }
        Err(fs::TryLockError::Error(error)) => Err(format!("cannot lock `{}`: {error}", path.display())),
    }
}

fn node() -> Result<String, String> {
    let mut bytes = [0; 8];
    rand::fill(&mut bytes).map_err(|_| "cannot draw random bytes for the journal's name".to_owned())?;
    Ok(crate::text::hex(&bytes))
}

/// Makes writes or syncs fail.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct Fault(std::sync::Arc<std::sync::atomic::AtomicU8>);

#[cfg(test)]
impl Fault {
    pub(super) const NONE: u8 = 0;
    pub(super) const WRITE: u8 = 1;
    pub(super) const SYNC: u8 = 2;
    /// The disk is full while both the first segment and what is spared are there.
    pub(super) const FULL: u8 = 3;

    pub(super) fn set(&self, fault: u8) {
        self.0.store(fault, std::sync::atomic::Ordering::SeqCst);
    }

    fn is(&self, fault: u8) -> bool {
        self.0.load(std::sync::atomic::Ordering::SeqCst) == fault
    }
}
