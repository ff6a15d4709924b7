use super::{
    super::{
        journal::{Fault, Journal},
        key::Signer,
        record::{Gap, Kind},
        segment::Segment,
    },
    batch::Record,
    cursor::{Cursor, Seal},
    reader::Reader,
    *,
};
use crate::config::{SinkKind, SyslogSink};
use std::fs;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

struct Place {
    directory: TempDir,
    journal: Journal,
}

impl Place {
    /// A journal whose segments are closed after `limit` bytes.
    fn new(limit: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let journal = Self::open(directory.path(), limit);
        Self { directory, journal }
    }

    fn open(directory: &Path, limit: u64) -> Journal {
        let signer = Signer::open(&directory.join("keys")).expect("a key");
        Journal::open(&directory.join("journal"), signer, limit, SystemTime::now()).expect("a journal")
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("journal")
    }

    /// Adds so many records, and closes the segment if it is full.
    fn add(&mut self, count: u64) {
        for number in 0..count {
            self.journal.push(Kind::Gap, &Gap { count: number, first: 1, last: 2 });
        }
        self.journal.sync().expect("synced");
        self.journal.rotate(SystemTime::now()).expect("rotated");
    }

    /// All lines of the journal.
    fn lines(&self) -> Vec<String> {
        let segments = Segment::list(&self.path()).expect("listed");
        let texts = segments.iter().map(|segment| fs::read_to_string(&segment.path).expect("read"));
        texts.collect::<String>().lines().map(str::to_owned).collect()
    }

    fn read(&self, reader: &mut Reader, bytes: u64) -> Vec<Record> {
        let mut all = Vec::new();
        loop {
            let found = reader.read(self.journal.reached(), bytes).expect("read");
            assert!(found.unreadable.is_empty(), "{:?}", found.unreadable);
            if found.records.is_empty() {
                return all;
            }
            all.extend(found.records);
        }
    }
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| record.line.clone()).collect()
}

/// Whatever the size of a batch, every line comes once and in its order, across segments.
#[test]
fn every_line_is_read_once_across_segments() {
    let mut place = Place::new(4096);
    for _ in 0..6 {
        place.add(9);
    }
    assert!(Segment::list(&place.path()).expect("listed").len() > 2);
    for bytes in [1, 700, 1 << 20] {
        let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
        assert_eq!(texts(&place.read(&mut reader, bytes)), place.lines(), "{bytes}");
    }
}

/// What is written and not on disk yet may vanish and be written otherwise: nobody is sent it.
#[test]
fn what_is_not_on_disk_is_not_read() {
    let mut place = Place::new(1 << 20);
    place.add(3);
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let before = place.read(&mut reader, 1 << 20).len();
    place.journal.fault.set(Fault::SYNC);
    place.journal.push(Kind::Gap, &Gap { count: 1, first: 1, last: 2 });
    assert!(place.journal.sync().is_err());
    assert_eq!(place.lines().len(), before + 1, "it is in the file");
    assert!(place.read(&mut reader, 1 << 20).is_empty());
    place.journal.fault.set(Fault::NONE);
    place.journal.sync().expect("synced");
    assert_eq!(place.read(&mut reader, 1 << 20).len(), 1);
}

/// A restart goes on behind every record, wherever the segments end.
#[test]
fn every_cursor_is_gone_on_from() {
    let mut place = Place::new(4096);
    for _ in 0..4 {
        place.add(9);
    }
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let all = place.read(&mut reader, 1 << 20);
    for (index, record) in all.iter().enumerate() {
        let (mut reader, stray) = Reader::open(&place.path(), Some(&Cursor::at(record))).expect("opened");
        assert_eq!(stray, None);
        assert_eq!(texts(&place.read(&mut reader, 1 << 20)), texts(&all[index + 1..]), "{index}");
    }
}

/// A segment that every sink has may be deleted: its end is gone on from nonetheless.
#[test]
fn a_cursor_at_the_end_of_a_deleted_segment_leads_on() {
    let mut place = Place::new(4096);
    for _ in 0..4 {
        place.add(9);
    }
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let all = place.read(&mut reader, 1 << 20);
    let segments = Segment::list(&place.path()).expect("listed");
    let last = all.iter().rfind(|record| *record.segment == *segments[0].name()).expect("some");
    fs::remove_file(&segments[0].path).expect("removed");
    let (mut reader, stray) = Reader::open(&place.path(), Some(&Cursor::at(last))).expect("opened");
    assert_eq!(stray, None);
    assert_eq!(texts(&place.read(&mut reader, 1 << 20)), place.lines());
    let earlier = Cursor::at(&all[2]);
    let (_, stray) = Reader::open(&place.path(), Some(&earlier)).expect("opened");
    assert!(stray.is_some_and(|why| why.contains("any more")), "records between were never sent");
}

/// A cursor of another journal, or of one that was replaced by an older copy, leads nowhere.
#[test]
fn a_cursor_to_another_record_is_told() {
    let mut place = Place::new(1 << 20);
    place.add(5);
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let cursor = Cursor::at(&place.read(&mut reader, 1 << 20)[3]);
    let beyond = 1 << 30;
    for wrong in [
        Cursor { hash: "0".repeat(64), ..cursor.clone() },
        Cursor { offset: cursor.offset + 1, ..cursor.clone() },
        Cursor { offset: beyond, ..cursor.clone() },
        Cursor { segment: "00000009-00000000000000000001.jsonl".to_owned(), epoch: 9, ..cursor },
    ] {
        let (mut reader, stray) = Reader::open(&place.path(), Some(&wrong)).expect("opened");
        assert!(stray.is_some(), "{wrong:?}");
        assert_eq!(texts(&place.read(&mut reader, 1 << 20)), place.lines(), "all of it is read again");
    }
}

/// What somebody wrote into the journal is no record: it is told, and what stands behind it is read.
#[test]
fn what_is_no_record_is_told() {
    let mut place = Place::new(4096);
    place.add(20);
    place.add(1);
    let first = &Segment::list(&place.path()).expect("listed")[0].path;
    let text = fs::read_to_string(first).expect("read");
    let (front, rest) = text.split_at(text.find("\n").expect("a line") + 1);
    fs::write(first, format!("{front}{{\"seq\":\n{rest}torn")).expect("written");
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let (mut lines, mut places) = (Vec::new(), Vec::new());
    loop {
        let found = reader.read(place.journal.reached(), 1 << 20).expect("read");
        if found.records.is_empty() {
            break;
        }
        lines.extend(texts(&found.records));
        places.extend(found.unreadable);
    }
    assert_eq!(places.len(), 2, "{places:?}");
    assert_eq!(lines.len(), place.lines().len() - 1);
}

/// Whoever deletes segments asks for this; before it is known which sinks there are, nothing may go.
#[test]
fn nothing_may_go_before_every_sink_has_it() {
    let positions = Positions::default();
    assert_eq!((positions.lowest(), positions.are_known()), (Some((0, 0)), false));
    positions.are(&[]);
    assert_eq!((positions.lowest(), positions.are_known()), (None, true));
    let sink = |name: &str| {
        Arc::new(SinkSettings { name: name.parse().expect("a name"), batch: 1, kind: crate::config::SinkKind::Stdout })
    };
    let (a, b) = (sink("a"), sink("b"));
    positions.are(&[a.clone(), b.clone()]);
    positions.needs(&a.name, 1, 900);
    assert_eq!((positions.lowest(), positions.are_known()), (Some((0, 0)), false), "where `b` stands is not known yet");
    positions.needs(&b.name, 2, 5);
    assert_eq!(positions.lowest(), Some((1, 900)));
    positions.needs(&a.name, 2, 9);
    assert_eq!(positions.lowest(), Some((2, 5)));
    positions.are(std::slice::from_ref(&a));
    positions.needs(&b.name, 1, 1);
    assert_eq!(positions.lowest(), Some((2, 9)), "`b` is gone");
}

/// Figures count from the cursor to what is on disk, in records and bytes.
#[test]
fn figures_say_how_far_a_sink_is_behind() {
    let mut place = Place::new(4096);
    for _ in 0..3 {
        place.add(9);
    }
    let segments = Segment::list(&place.path()).expect("listed");
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let all = place.read(&mut reader, 1 << 20);
    let health = Health::default();
    let bytes = |records: &[Record]| records.iter().map(|record| record.line.len() as u64 + 1).sum::<u64>();
    let figures = health.figures(&segments, place.journal.reached());
    assert_eq!((figures.records_behind, figures.bytes_behind), (all.len() as u64, bytes(&all)));
    for index in 0..all.len() {
        let (record, rest) = (&all[index], &all[index + 1..]);
        let end = record.offset + record.line.len() as u64 + 1;
        let segment = Segment::named(&place.path(), &record.segment).expect("a segment");
        health.taken(1, record, Some((segment, end)), true, SystemTime::now());
        let figures = health.figures(&segments, place.journal.reached());
        assert_eq!((figures.records_behind, figures.bytes_behind), (rest.len() as u64, bytes(rest)), "{index}");
    }
}

/// A task that ships this journal to a syslog server in clear text, and what gives it orders.
fn syslog(place: &Place, port: u16) -> (Task, watch::Sender<Order>, watch::Sender<Reached>) {
    let to =
        crate::upstream::Place::Tcp { host: "127.0.0.1".into(), port, authority: format!("127.0.0.1:{port}").into() };
    let kind = SinkKind::Syslog(SyslogSink { place: to, facility: 13, tls: None });
    let settings = Arc::new(SinkSettings { name: "logs".parse().expect("a name"), batch: 1 << 20, kind });
    let (order, orders) = watch::channel(Order::Run);
    let reached = watch::Sender::new(place.journal.reached());
    let positions = Arc::new(Positions::default());
    positions.are(std::slice::from_ref(&settings));
    let seal = Seal::new(place.journal.signer(), &settings);
    let (directory, health) = (place.path(), Arc::default());
    let task =
        Task { settings, seal, unsure: None, directory, reached: reached.subscribe(), orders, positions, health };
    (task, order, reached)
}

/// Whoever writes a cursor beside the journal keeps no record from a sink, and frees none for retention.
#[tokio::test]
async fn a_cursor_that_somebody_made_up_is_not_gone_by() {
    let mut place = Place::new(1 << 20);
    place.add(5);
    let (mut reader, _) = Reader::open(&place.path(), None).expect("opened");
    let last = place.read(&mut reader, 1 << 20).pop().expect("a record");
    let (task, _order, _reached) = syslog(&place, 9);
    let cursors = place.path().join("cursors");
    fs::create_dir(&cursors).expect("made");
    fs::write(cursors.join("logs.json"), serde_json::to_vec(&Cursor::at(&last)).expect("JSON")).expect("written");
    let mut reader = task.open().await.expect("opened");
    assert_eq!((task.positions.lowest(), task.positions.are_known()), (Some((0, 0)), true));
    assert_eq!(texts(&place.read(&mut reader, 1 << 20)), place.lines(), "all of it is sent");
    task.seal.store(&Cursor::at(&last), &place.path()).expect("stored");
    let mut reader = task.open().await.expect("opened");
    assert_eq!(task.positions.lowest(), Some((last.epoch, last.seq + 1)));
    assert!(place.read(&mut reader, 1 << 20).is_empty(), "one of ours is gone by");
}

/// All that a server is sent until the connection ends.
async fn heard(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("text");
    text
}

/// What a syslog server may not have read when a task ends is sent again by the next one; what it has read is not.
#[tokio::test]
async fn the_last_batch_of_syslog_is_lost_by_no_end_of_a_task() {
    let mut place = Place::new(1 << 20);
    place.add(5);
    let server = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = server.local_addr().expect("an address").port();
    for answers in [false, true] {
        let (task, order, _reached) = syslog(&place, port);
        let health = task.health.clone();
        let running = tokio::spawn(task.keep_running());
        let (mut stream, _) = server.accept().await.expect("connected");
        let mut first = [0; 64];
        stream.read_exact(&mut first).await.expect("the beginning");
        while !has_shipped(&health) {
            tokio::task::yield_now().await;
        }
        order.send_replace(Order::Leave); // as a reload does that changes the sink
        if answers {
            assert!(heard(stream).await.contains(place.lines().last().expect("a line")), "all comes in order");
            running.await.expect("ended");
        } else {
            stream.set_zero_linger().expect("as a server that dies");
            drop(stream);
            running.await.expect("ended");
        }
        let (task, ..) = syslog(&place, port);
        let mut reader = task.open().await.expect("opened");
        let left = place.read(&mut reader, 1 << 20).len();
        assert_eq!(left, if answers { 0 } else { place.lines().len() }, "{answers}");
    }
}

fn has_shipped(health: &Health) -> bool {
    let settings = SinkSettings { name: "logs".parse().expect("a name"), batch: 1, kind: SinkKind::Stdout };
    health.status(&settings.name, &settings, Figures::default(), SystemTime::now()).shipped > 0
}
