//! The way through the journal to the records that match: by the indexes where there are some, else line by line.

use super::{
    index::Index,
    query::{Look, Wanted},
    segment::Segment,
    told::Told,
};
use rustix::fs::{Access, access};
use std::{
    collections::VecDeque,
    fs::File,
    ops::ControlFlow::{self, Break, Continue},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

/// Where to look, for what, and how.
pub(super) struct Walk<'a> {
    pub(super) directory: &'a Path,
    pub(super) wanted: &'a Wanted,
    /// Use indexes, and make those that are missing.
    pub(super) by_index: bool,
}

/// In which order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Order {
    /// The oldest first.
    Forward,
    /// The newest first, and not more than so many.
    Backward(usize),
}

/// Which lines of a segment are looked at.
enum Plan {
    All,
    /// Place and length of each, the oldest first.
    Some(Vec<(u64, u32)>),
}

/// What is done with a line.
type Take<'a> = &'a mut dyn FnMut(&[u8], &Told<'_>) -> ControlFlow<()>;

impl Walk<'_> {
    /// Hands over every line that matches, without its line feed, until told to stop. Returns how many lines could not be read.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn lines(&self, order: Order, take: Take<'_>) -> Result<u64, String> {
        let segments = Segment::some(self.directory)?;
        let open = segments.last().cloned();
        self.segments(segments, open, order, take)
    }

    /// The same of these segments alone, of which `open` is still written.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub(super) fn segments(
        &self,
        mut segments: Vec<Segment>,
        open: Option<Segment>,
        order: Order,
        take: Take<'_>,
    ) -> Result<u64, String> {
        if order != Order::Forward {
            segments.reverse();
        }
        let writable = access(self.directory, Access::WRITE_OK).is_ok();
        let mut unread = 0;
        ahead(
            &segments,
            |segment| self.plan(segment, open.as_ref() == Some(segment), writable, order),
            |segment, plan| match plan.and_then(|plan| self.segment(segment, plan, order, take, &mut unread)) {
                Ok(flow) => Ok(flow),
                // Its time was over while this went on.
                Err(_) if !segment.path.exists() => Ok(Continue(())),
                Err(error) => Err(error),
            },
        )?;
        Ok(unread)
    }

    fn plan(&self, segment: &Segment, is_open: bool, writable: bool, order: Order) -> Result<Plan, String> {
        if is_open || !self.by_index {
            return Ok(Plan::All);
        }
        let index = match Index::open(segment) {
            Ok(index) => Some(index),
            Err(_) if writable => Index::renew(segment)?,
            Err(_) => None, // to read every line takes less time than to make an index that nobody keeps
        };
        let Some(index) = index else { return Ok(Plan::All) };
        let places = match index.find(self.wanted) {
            Ok(places) => Some(places),
            Err(_) => Index::renew(segment)?.and_then(|index| index.find(self.wanted).ok()),
        };
        Ok(match places {
            Some(places) if order != Order::Forward || places.len() < index.records() as usize / 4 => {
                Plan::Some(places)
            }
            Some(_) | None => Plan::All,
        })
    }

    fn segment(
        &self,
        segment: &Segment,
        plan: Plan,
        order: Order,
        take: Take<'_>,
        unread: &mut u64,
    ) -> Result<ControlFlow<()>, String> {
        match (plan, order) {
            (Plan::Some(places), Order::Forward) => self.some(segment, places.into_iter(), take, unread),
            (Plan::Some(places), Order::Backward(_)) => self.some(segment, places.into_iter().rev(), take, unread),
            (Plan::All, Order::Forward) => self.all(segment, take, unread),
            (Plan::All, Order::Backward(limit)) => self.last(segment, limit, take, unread),
        }
    }

    fn some(
        &self,
        segment: &Segment,
        places: impl Iterator<Item = (u64, u32)>,
        take: Take<'_>,
        unread: &mut u64,
    ) -> Result<ControlFlow<()>, String> {
        let mut places = places.peekable();
        if places.peek().is_none() {
            return Ok(Continue(()));
        }
        let fail = |error| format!("cannot read `{}`: {error}", segment.path.display());
        let file = File::open(&segment.path).map_err(fail)?;
        let mut line = Vec::new();
        for (at, length) in places {
            line.resize(length as usize, 0);
            file.read_exact_at(&mut line, at).map_err(fail)?;
            let whole = line.strip_suffix(b"\n").unwrap_or(&line);
            if self.look(whole, take, unread).is_break() {
                return Ok(Break(()));
            }
        }
        Ok(Continue(()))
    }

    fn all(&self, segment: &Segment, take: Take<'_>, unread: &mut u64) -> Result<ControlFlow<()>, String> {
        let mut lines = segment.lines()?;
        while let Some(bytes) = lines.next()? {
            if bytes.whole().is_some_and(|line| self.look(line, take, unread).is_break()) {
                return Ok(Break(()));
            }
        }
        Ok(Continue(()))
    }

    /// The last of a segment, for which every line has to be read all the same.
    fn last(
        &self,
        segment: &Segment,
        limit: usize,
        take: Take<'_>,
        unread: &mut u64,
    ) -> Result<ControlFlow<()>, String> {
        let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
        let keep: Take<'_> = &mut |line, _| {
            if kept.len() == limit {
                kept.pop_front();
            }
            kept.push_back(line.to_vec());
            Continue(())
        };
        let _ = self.all(segment, keep, unread)?; // to keep never breaks off
        for line in kept.iter().rev() {
            if self.look(line, take, &mut 0).is_break() {
                return Ok(Break(()));
            }
        }
        Ok(Continue(()))
    }

    fn look(&self, line: &[u8], take: Take<'_>, unread: &mut u64) -> ControlFlow<()> {
        match self.wanted.look(line) {
            Look::Match(told) => take(line, &told),
            Look::Other => Continue(()),
            Look::Unread => {
                *unread += 1;
                Continue(())
            }
        }
    }
}

/// Does `work` on every item in a few threads, and hands what comes of it over in order. Work is at most a few items ahead.
///
/// # Errors
/// The first that `take` gives.
pub(super) fn ahead<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
    mut take: impl FnMut(&T, R) -> Result<ControlFlow<()>, String>,
) -> Result<(), String> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(4).min(items.len());
    let turns =
        Turns { state: Mutex::new(State { next: 0, allowed: 2 * threads, over: false }), moved: Condvar::new() };
    thread::scope(|scope| {
        let (sender, results) = mpsc::channel();
        for _ in 0..threads {
            let (sender, turns, work) = (sender.clone(), &turns, &work);
            scope.spawn(move || {
                while let Some(turn) = turns.next(items.len()) {
                    if sender.send((turn, work(&items[turn]))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let result = in_order(items, &results, &turns, &mut take);
        turns.end();
        result
    })
}

fn in_order<T, R>(
    items: &[T],
    results: &mpsc::Receiver<(usize, R)>,
    turns: &Turns,
    take: &mut impl FnMut(&T, R) -> Result<ControlFlow<()>, String>,
) -> Result<(), String> {
    let mut early: std::collections::BTreeMap<usize, R> = std::collections::BTreeMap::new();
    for (turn, item) in items.iter().enumerate() {
        while !early.contains_key(&turn) {
            let Ok((at, result)) = results.recv() else { return Err("a thread ended early".to_owned()) };
            early.insert(at, result);
        }
        if let Some(result) = early.remove(&turn)
            && take(item, result)?.is_break()
        {
            return Ok(());
        }
        turns.allow();
    }
    Ok(())
}

/// Whose turn it is among threads.
struct Turns {
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    next: usize,
    /// Items before this one may be worked on.
    allowed: usize,
    over: bool,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next item, once it may be worked on.
    fn next(&self, count: usize) -> Option<usize> {
        let wait = |state: &mut State| !state.over && state.next < count && state.next >= state.allowed;
        let mut state = self.moved.wait_while(self.lock(), wait).unwrap_or_else(PoisonError::into_inner);
        if state.over || state.next >= count {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn allow(&self) {
        self.lock().allowed += 1;
        self.moved.notify_all();
    }

    fn end(&self) {
        self.lock().over = true;
        self.moved.notify_all();
    }
}
