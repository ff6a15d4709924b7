//! HTTP/2, frame by frame.

use super::{
    case::{Case, Family, Home, Place, Run, Spots},
    judge::Breach,
    table::{columns, find, rows, spelled},
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const FRAMES: &str = include_str!("../../corpus/frames.tsv");

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_millis(900);
const LIMIT: Duration = Duration::from_secs(20);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// END_STREAM, and ACK.
const END: u8 = 1;
/// END_HEADERS.
const END_HEADERS: u8 = 4;

/// One case for every row.
pub(super) fn cases() -> Vec<Arc<Case>> {
    rows(FRAMES).map(|row| Arc::new(Case::new(Family::Frames, row, b"", b""))).collect()
}

/// Writes the frames of a case.
pub(super) fn run(case: &Arc<Case>, number: usize, person: bool, place: &Place) -> Run {
    let spots = Spots::new(place, number, person, Home::Permitted);
    let writer = Writer { spots, place, person };
    let sent = columns(&case.name).1.split(" || ").flat_map(|text| writer.frame(text)).collect();
    Run { case: case.clone(), number, person, http2: true, sent }
}

/// The same request in HTTP/2, byte for byte where it can be: names in lower case, the first `Host` as `:authority`.
/// `None`: it is no request of which HTTP/2 has a form.
pub(super) fn translated(run: &Run) -> Option<Run> {
    let end = find(&run.sent, b"\r\n\r\n")?;
    let (head, body) = (&run.sent[..end], &run.sent[end + 4..]);
    let line = find(head, b"\r\n")?;
    let (first, mut fields) = (head[..line].strip_suffix(b" HTTP/1.1")?, &head[line + 2..]);
    let space = first.iter().position(|byte| *byte == b' ')?;
    let (mut authority, mut others) = (None, Vec::new());
    while !fields.is_empty() {
        let end = find(fields, b"\r\n").unwrap_or(fields.len());
        let border = fields[..end].iter().position(|byte| *byte == b':')?;
        let (name, value) = (fields[..border].to_ascii_lowercase(), &fields[border + 1..end]);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match authority {
            None if name == b"host" => authority = Some(value),
            _ => others.extend(field(&name, value)),
        }
        fields = fields.get(end + 2..).unwrap_or_default();
    }
    let mut block = field(b":method", &first[..space]);
    block.extend(field(b":scheme", b"http"));
    block.extend(authority.map(|value| field(b":authority", value)).unwrap_or_default());
    block.extend(field(b":path", &first[space + 1..]));
    block.extend(others);
    let sent = match body {
        [] => frame(HEADERS, END | END_HEADERS, 1, &block),
        body => [frame(HEADERS, END_HEADERS, 1, &block), frame(DATA, END, 1, body)].concat(),
    };
    (block.len() < 16 * 1024 && body.len() < 16 * 1024).then(|| Run { http2: true, sent, ..run.clone() })
}

/// Writes rows of the table as bytes.
struct Writer<'a> {
    spots: Spots,
    place: &'a Place,
    person: bool,
}

impl Writer<'_> {
    fn bytes(&self, text: &str) -> Vec<u8> {
        self.spots.fill(&spelled(text))
    }

    /// `TYPE STREAM FLAGS REST`, or `RAW BYTES`.
    fn frame(&self, text: &str) -> Vec<u8> {
        if let Some(raw) = text.strip_prefix("RAW ") {
            return self.bytes(raw);
        }
        let words: Vec<_> = text.splitn(4, ' ').collect();
        let [kind, id, marks, rest] = words[..] else { panic!("a frame has four parts: {text}") };
        let kinds =
            ["DATA", "HEADERS", "PRIORITY", "RST", "SETTINGS", "PUSH", "PING", "GOAWAY", "WINDOW", "CONTINUATION"];
        let kind = if kind == "UNKNOWN" { 0x55 } else { at(&kinds, kind) };
        let payload = match kind {
            HEADERS | 5 | 9 => self.block(rest),
            _ => self.bytes(rest.trim_start_matches('@')),
        };
        frame(kind, flags(marks), id.parse().expect("a stream"), &payload)
    }

    /// A header block, and what stands around it.
    fn block(&self, text: &str) -> Vec<u8> {
        let (mut front, mut block, mut back) = (Vec::new(), Vec::new(), Vec::new());
        let mut ordinary = false;
        for item in text.split(" ; ") {
            match item.split_at(1) {
                ("*", rest) => {
                    block.extend(self.pseudo(rest));
                    ordinary |= !text.split(" ; ").any(|item| item == "^");
                }
                ("^", _) => block.extend(self.ordinary()),
                ("<", bytes) => front = self.bytes(bytes),
                (">", bytes) => back = self.bytes(bytes),
                ("@", bytes) => block.extend(self.bytes(bytes)),
                _ => {
                    let (name, value) = item.split_once('=').unwrap_or_else(|| panic!("a field has a value: {item}"));
                    block.extend(field(&self.bytes(name), &self.bytes(value)));
                }
            }
        }
        if ordinary {
            block.extend(self.ordinary());
        }
        [front, block, back].concat()
    }

    /// The pseudo-header fields of a GET, or of a POST, without one of them.
    fn pseudo(&self, text: &str) -> Vec<u8> {
        let (method, without) = text.split_once('-').unwrap_or((text, ""));
        let method = if method == "POST" { "POST" } else { "GET" };
        let all = [(":method", method), (":scheme", "http"), (":authority", "{host}"), (":path", "{home}{case}")];
        let kept = all.into_iter().filter(|(name, _)| *name != without);
        kept.flat_map(|(name, value)| field(name.as_bytes(), &self.bytes(value))).collect()
    }

    /// What names the case, and who asks.
    fn ordinary(&self) -> Vec<u8> {
        let mut block = field(b"x-case", &self.bytes("{case}"));
        if self.person {
            let cookie = format!("{}={}", self.place.session, self.place.handle);
            block.extend(field(b"cookie", cookie.as_bytes()));
            block.extend(field(b"sec-fetch-site", b"same-origin"));
        }
        block
    }
}

fn at(words: &[&str], word: &str) -> u8 {
    let at = words.iter().position(|one| *one == word).unwrap_or_else(|| panic!("{word} is none of {words:?}"));
    u8::try_from(at).expect("few words")
}

fn flags(marks: &str) -> u8 {
    let bit = |mark: &str| match mark {
        "es" | "ack" => END,
        "eh" => END_HEADERS,
        "pad" => 0x8,
        "pri" => 0x20,
        "-" => 0,
        other => panic!("{other} is no flag"),
    };
    marks.split('+').map(bit).fold(0, |all, bit| all | bit)
}

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

/// A field, literally and without indexing (RFC 7541, section 6.2.2).
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    [&[0], &*string(name), &*string(value)].concat()
}

/// A string as it is (RFC 7541, sections 5.1 and 5.2).
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len() + 3);
    match u8::try_from(bytes.len()) {
        Ok(length) if length < 127 => text.push(length),
        _ => {
            let mut rest = bytes.len() - 127;
            text.push(127);
            while rest >= 128 {
                text.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            text.push(rest as u8);
        }
    }
    text.extend_from_slice(bytes);
    text
}

/// A connection, and what was read from it.
struct Line {
    stream: TcpStream,
    read: Vec<u8>,
    /// Streams that were opened, and are not over.
    open: BTreeSet<u32>,
    /// The gateway read everything that was sent.
    pinged: bool,
    ended: bool,
}

impl Line {
    /// Sends preface and SETTINGS, waits for the gateway's, and takes them. `None`: it does not speak HTTP/2.
    async fn open(port: u16) -> Option<Self> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.ok()?;
        let mut line = Self { stream, read: Vec::new(), open: BTreeSet::new(), pinged: false, ended: false };
        while line.read.len() < 9 && !line.ended && line.more(LIMIT).await {}
        if line.read.get(3) != Some(&SETTINGS) {
            return None;
        }
        line.stream.write_all(&frame(SETTINGS, END, 0, b"")).await.ok()?;
        Some(line)
    }

    /// Reads until everything that was sent is read and answered, the connection ends, or nothing comes any more.
    async fn listen(&mut self) {
        loop {
            self.follow();
            if self.ended || (self.pinged && self.open.is_empty()) || !self.more(PATIENCE).await {
                return;
            }
        }
    }

    /// Takes whole frames from what was read.
    fn follow(&mut self) {
        while let [a, b, c, kind, flags, d, e, f, g, ..] = self.read[..] {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if self.read.len() < 9 + length {
                return;
            }
            let id = u32::from_be_bytes([d, e, f, g]);
            match kind {
                DATA | HEADERS if flags & END != 0 => drop(self.open.remove(&id)),
                RST_STREAM => drop(self.open.remove(&id)),
                PING if flags & END != 0 => self.pinged = true,
                GOAWAY => self.open.clear(),
                _ => {}
            }
            self.read.drain(..9 + length);
        }
    }

    /// Reads what comes; false if nothing does.
    async fn more(&mut self, patience: Duration) -> bool {
        let mut buffer = [0; 16 * 1024];
        match timeout(patience, self.stream.read(&mut buffer)).await {
            Ok(Ok(count)) if count > 0 => self.read.extend_from_slice(&buffer[..count]),
            Ok(_) => self.ended = true,
            Err(_) => return false,
        }
        true
    }
}

/// True if the gateway at `port` answers a preface.
pub(super) async fn spoken(port: u16) -> bool {
    Line::open(port).await.is_some()
}

/// Sends the frames of a case and listens until they are dealt with.
pub(super) async fn talk(port: u16, run: &Run) -> Vec<Breach> {
    let breach = |what: &str| vec![Breach { rule: "R7", run: Some(run.number), what: what.to_owned() }];
    let Some(mut line) = Line::open(port).await else { return breach("a preface was not answered") };
    line.open = opened(&run.sent);
    let sent = [run.sent.as_slice(), &frame(PING, 0, 0, b"the end.")].concat();
    let _ = timeout(PATIENCE, line.stream.write_all(&sent)).await;
    line.listen().await;
    let _ = timeout(PATIENCE, line.stream.write_all(&frame(GOAWAY, 0, 0, &[0; 8]))).await;
    let _ = line.stream.shutdown().await;
    let end = tokio::time::Instant::now() + LIMIT;
    while !line.ended && tokio::time::Instant::now() < end {
        line.more(PATIENCE).await;
    }
    if line.ended { Vec::new() } else { breach("the gateway hung") }
}

/// The streams that HEADERS frames name.
fn opened(sent: &[u8]) -> BTreeSet<u32> {
    let (mut open, mut rest) = (BTreeSet::new(), sent);
    while let [a, b, c, kind, _, d, e, f, g, behind @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        if *kind == HEADERS {
            open.insert(u32::from_be_bytes([*d, *e, *f, *g]));
        }
        rest = behind.get(length..).unwrap_or_default();
    }
    open
}

/// R9: what is malformed reaches no upstream, and what is well-formed does.
pub(super) fn malformed(runs: &HashMap<usize, &Run>, reached: &BTreeSet<usize>) -> Vec<Breach> {
    let frames = runs.values().filter(|run| run.case.family == Family::Frames);
    let judged = frames.filter_map(|run| match (columns(&run.case.name).0, reached.contains(&run.number)) {
        ("bad", true) => Some((run.number, "an upstream got a malformed request")),
        ("fine", false) => Some((run.number, "a well-formed request reached nobody")),
        _ => None,
    });
    judged.map(|(run, what)| Breach { rule: "R9", run: Some(run), what: what.to_owned() }).collect()
}
