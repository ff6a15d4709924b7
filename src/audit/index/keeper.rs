//! Makes indexes of segments while the proxy runs, behind everything else.

use super::{Index, path};
use crate::audit::segment::Segment;
use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    thread,
    time::{Duration, SystemTime},
};

/// A draft this old is of a process that died.
const STALE: Duration = Duration::from_secs(600);
/// The lowest priority that there is.
const NICE: i32 = 19;

/// Wakes the thread that makes indexes. It ends with this, after the one that it is at.
pub(in crate::audit) struct Keeper(SyncSender<()>);

struct Work {
    directory: PathBuf,
    waker: Receiver<()>,
    /// Segments that need nothing more.
    done: HashSet<PathBuf>,
}

/// What is next after a pass.
enum Next {
    /// To wait until another segment is closed.
    Rest,
    /// Another one was closed meanwhile.
    Again,
    /// Nothing: the journal was closed.
    End,
}

impl Keeper {
    /// Starts the thread, which begins with the segments that have no index yet.
    ///
    /// # Errors
    /// If the system gives none.
    pub(in crate::audit) fn start(directory: &Path) -> io::Result<Self> {
        let (sender, waker) = sync_channel(1);
        let mut work = Work { directory: directory.to_owned(), waker, done: HashSet::new() };
        thread::Builder::new().name("audit-index".to_owned()).spawn(move || {
            // At the usual priority it is only less polite.
            let _ = rustix::process::setpriority_process(None, NICE);
            work.run();
        })?;
        Ok(Self(sender))
    }

    /// A segment was closed.
    pub(in crate::audit) fn wake(&self) {
        // Full: it has been told already. Gone: search makes indexes too.
        let _ = self.0.try_send(());
    }
}

impl Work {
    fn run(&mut self) {
        loop {
            match self.pass() {
                Ok(Next::End) => return,
                Ok(Next::Again) => continue,
                Ok(Next::Rest) => {}
                Err(error) => tracing::warn!("no indexes of the audit journal are made: {error}"),
            }
            if self.waker.recv().is_err() {
                return;
            }
        }
    }

    /// Makes the indexes that are missing, the newest first, and takes away those of segments that are gone.
    fn pass(&mut self) -> Result<Next, String> {
        let mut segments = Segment::list(&self.directory)?;
        self.tidy(&segments);
        segments.pop(); // is still written
        let mut next = Next::Rest;
        for segment in segments.iter().rev() {
            match self.waker.try_recv() {
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
                Ok(()) => next = Next::Again,
                Err(TryRecvError::Empty) => {}
            }
            if self.done.insert(segment.path.clone())
                && let Err(error) = Index::obtain(segment)
                && segment.path.exists()
            {
                tracing::warn!(segment = segment.name(), "no index is made: {error}");
            }
        }
        Ok(next)
    }

    fn tidy(&mut self, segments: &[Segment]) {
        let there: HashSet<_> = segments.iter().map(|segment| &segment.path).collect();
        self.done.retain(|path| there.contains(path));
        let wanted: HashSet<_> = segments.iter().map(path).collect();
        let Ok(entries) = fs::read_dir(&self.directory) else { return };
        for file in entries.flatten().map(|entry| entry.path()) {
            if is_index(&file) && !wanted.contains(&file) || is_stale(&file) {
                let _ = fs::remove_file(&file); // it takes a little room, and no more
            }
        }
    }
}

/// Named as an index of a segment.
fn is_index(file: &Path) -> bool {
    let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    file.extension() == Some(OsStr::new("idx"))
        && stem.split_once('-').is_some_and(|(epoch, first)| epoch.len() == 8 && first.len() == 20)
}

/// A draft of a process that died.
fn is_stale(file: &Path) -> bool {
    let is_draft =
        file.file_name().and_then(OsStr::to_str).is_some_and(|it| it.starts_with('.') && it.contains(".jsonl.idx."));
    let written = || file.metadata().and_then(|it| it.modified()).ok();
    is_draft && written().and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > STALE)
}
