//! An upstream that reads bytes in one of three ways and tells every request that it found in them.

use super::{
    answers::{Next, Script},
    case::run_in,
    reading::{Body, Framing, Head, Reading},
};
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// A request as the upstream found it.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) reading: Reading,
    /// Which connection it came on.
    pub(super) connection: usize,
    /// The bytes of its head.
    pub(super) bytes: Vec<u8>,
    /// What they say; `None`: nothing that this upstream understands.
    pub(super) head: Option<Head>,
    /// What of its body is not as we write it.
    pub(super) flaw: Option<String>,
}

impl Read {
    /// All values of a field.
    pub(super) fn all(&self, name: &str) -> Vec<&[u8]> {
        let fields = self.head.iter().flat_map(|head| &head.fields);
        fields.filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice()).collect()
    }

    /// The one value of a field, as text.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        match self.all(name)[..] {
            [one] => std::str::from_utf8(one).ok(),
            _ => None,
        }
    }
}

/// A running upstream.
pub(super) struct Upstream {
    pub(super) port: u16,
    log: Log,
}

type Log = Arc<Mutex<Vec<Read>>>;

impl Upstream {
    pub(super) async fn start(reading: Reading, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (log, count) = (Log::default(), AtomicUsize::new(0));
        let record = log.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::Relaxed);
                let line = Line { stream, reading, connection, log: record.clone(), script: script.clone() };
                tokio::spawn(line.serve());
            }
        });
        Self { port, log }
    }

    /// What it has found since the last call.
    pub(super) fn take(&self) -> Vec<Read> {
        std::mem::take(&mut self.log.lock().expect("no panic"))
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    reading: Reading,
    connection: usize,
    log: Log,
    script: Script,
}

impl Line {
    async fn serve(mut self) {
        let mut bytes = Vec::new();
        while self.one(&mut bytes).await.is_some() {}
    }

    /// One request and its answer. `None`: the connection ends.
    async fn one(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let end = loop {
            match self.reading.head_end(bytes) {
                Some(end) => break end,
                None => self.more(bytes).await?,
            }
        };
        let head = self.reading.head(&bytes[..end]);
        self.note(&bytes[..end], head.clone());
        bytes.drain(..end);
        let head = head?;
        let next = self.script.next(&head.target);
        if let Some(next @ Next { early: true, .. }) = &next {
            self.stream.write_all(&next.bytes).await.ok()?;
            return self.body(head.framing, bytes).await; // and is ready for more on the same connection
        }
        self.body(head.framing, bytes).await?;
        match next {
            Some(next) => self.hostile(next).await,
            None => self.stream.write_all(&ordinary(&head)).await.ok(),
        }
    }

    async fn hostile(&mut self, next: Next) -> Option<()> {
        self.stream.write_all(&next.bytes).await.ok()?;
        if next.hangs {
            let mut sink = Vec::new();
            let _ = self.stream.read_to_end(&mut sink).await; // until the gateway gives up
        }
        next.goes_on.then_some(())
    }

    async fn body(&mut self, framing: Framing, bytes: &mut Vec<u8>) -> Option<()> {
        loop {
            match self.reading.body(framing, bytes) {
                Body::More => self.more(bytes).await?,
                Body::Whole { used, flaw } => {
                    bytes.drain(..used);
                    self.mark(flaw);
                    return Some(());
                }
                Body::Broken(flaw) => {
                    self.mark(Some(flaw));
                    return None;
                }
            }
        }
    }

    fn note(&self, bytes: &[u8], head: Option<Head>) {
        let (reading, connection) = (self.reading, self.connection);
        let read = Read { reading, connection, bytes: bytes.to_vec(), head, flaw: None };
        self.log.lock().expect("no panic").push(read);
    }

    fn mark(&self, flaw: Option<String>) {
        let mut log = self.log.lock().expect("no panic");
        if let (Some(flaw), Some(read)) = (flaw, log.iter_mut().rev().find(|read| read.connection == self.connection)) {
            read.flaw = Some(flaw);
        }
    }

    async fn more(&mut self, bytes: &mut Vec<u8>) -> Option<()> {
        let mut buffer = [0; 16 * 1024];
        let read = tokio::time::timeout(Duration::from_secs(60), self.stream.read(&mut buffer)).await;
        match read {
            Ok(Ok(count)) if count > 0 => {
                bytes.extend_from_slice(&buffer[..count]);
                Some(())
            }
            _ => None,
        }
    }
}

/// An answer that says what was asked, and in which run.
fn ordinary(head: &Head) -> Vec<u8> {
    let run = head.fields.iter().find_map(|(_, value)| run_in(value)).or_else(|| run_in(&head.target));
    let run = run.map(super::case::marker).unwrap_or_default();
    let text = [b"seen ".as_slice(), &head.target, b" for ", run.as_bytes(), b"\n"].concat();
    let start = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", text.len());
    let text = if head.method == b"HEAD" { Vec::new() } else { text };
    [start.into_bytes(), text].concat()
}
