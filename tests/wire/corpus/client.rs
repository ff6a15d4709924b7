//! A client that sends bytes and listens until nothing more can come.

use super::table::find;
use crate::support::http1::Answer;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

/// How long a client waits for a byte before it says that it will send no more, where an answer may never come.
const PATIENCE: Duration = Duration::from_millis(900);
/// How long a connection may last after that, whatever was sent.
const LIMIT: Duration = Duration::from_secs(20);

/// What a client heard on one connection.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Whole answers, without informational ones.
    pub(super) answers: Vec<Answer>,
    /// What is left behind them: part of an answer, or bytes that are none.
    pub(super) rest: Vec<u8>,
    /// The other side was still there at the end of all patience.
    pub(super) hung: bool,
    bytes: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Heard {
    /// Everything that was heard.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Sends a trick on a connection of its own, and `probe` once the first answer is there, and reads to the end.
pub(super) async fn converse(port: u16, bytes: &[u8], probe: &[u8]) -> Heard {
    talk(port, bytes, probe, PATIENCE).await
}

/// The same for what is always answered.
pub(super) async fn ask(port: u16, bytes: &[u8]) -> Heard {
    talk(port, bytes, b"", LIMIT).await
}

/// The same with a probe behind it.
pub(super) async fn ask_twice(port: u16, bytes: &[u8], probe: &[u8]) -> Heard {
    talk(port, bytes, probe, LIMIT).await
}

async fn talk(port: u16, bytes: &[u8], probe: &[u8], patience: Duration) -> Heard {
    let mut heard = Heard::default();
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return heard };
    let _ = stream.set_nodelay(true);
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await; // who is refused need not be read to the end
    let no_body = bytes.starts_with(b"HEAD ");
    heard.listen(&mut stream, patience, no_body, |heard| !heard.answers.is_empty()).await;
    if !heard.ended && !heard.answers.is_empty() && !probe.is_empty() {
        let _ = timeout(PATIENCE, stream.write_all(probe)).await;
        heard.listen(&mut stream, patience, false, |_| false).await;
    }
    if !heard.ended {
        let _ = stream.shutdown().await; // a client that gives up
        heard.drain(&mut stream).await;
    }
    heard.rest = heard.bytes[heard.at..].to_vec();
    heard
}

impl Heard {
    /// Reads answers until `enough`, the end, or nothing comes for so long that nothing will.
    async fn listen(
        &mut self,
        stream: &mut TcpStream,
        patience: Duration,
        no_body: bool,
        enough: impl Fn(&Self) -> bool,
    ) {
        loop {
            self.parse(no_body);
            if self.ended || enough(self) {
                return;
            }
            let mut buffer = [0; 16 * 1024];
            match timeout(patience, stream.read(&mut buffer)).await {
                Ok(Ok(count)) if count > 0 => self.bytes.extend_from_slice(&buffer[..count]),
                Ok(_) => self.ended = true,
                Err(_) => return,
            }
        }
    }

    async fn drain(&mut self, stream: &mut TcpStream) {
        let end = Instant::now() + LIMIT;
        while !self.ended {
            let mut buffer = [0; 16 * 1024];
            match tokio::time::timeout_at(end, stream.read(&mut buffer)).await {
                Ok(Ok(count)) if count > 0 => self.bytes.extend_from_slice(&buffer[..count]),
                Ok(_) => self.ended = true,
                Err(_) => {
                    self.hung = true;
                    return;
                }
            }
        }
        self.parse(false);
    }

    /// Takes whole answers from what was heard.
    fn parse(&mut self, no_body: bool) {
        let no_body = |heard: &Self| no_body && heard.answers.is_empty();
        while let Some((answer, used)) = answer(&self.bytes[self.at..], no_body(self), self.ended) {
            self.at += used;
            if answer.status >= 200 || answer.status == 101 {
                self.answers.push(answer);
            }
        }
    }
}

/// The whole answer that begins `bytes`, read by the letter, and how many bytes it takes.
fn answer(bytes: &[u8], no_body: bool, ended: bool) -> Option<(Answer, usize)> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head - 4]).into_owned();
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let fields = lines.map(|line| line.split_once(':'));
    let headers: Option<Vec<_>> =
        fields.map(|field| field.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))).collect();
    let mut answer = Answer { status, headers: headers?, body: Vec::new() };
    let rest = &bytes[head..];
    if no_body || matches!(status, 100..=199 | 204 | 304) {
        return Some((answer, head));
    }
    let (body, used) =
        match (answer.headers("transfer-encoding")[..].first(), answer.headers("content-length")[..].first()) {
            (Some(&"chunked"), None) => chunks(rest)?,
            (None, Some(length)) => {
                let length: usize = length.parse().ok()?;
                (rest.get(..length)?.to_vec(), length)
            }
            (None, None) if ended => (rest.to_vec(), rest.len()),
            _ => return None,
        };
    answer.body = body;
    Some((answer, head + used))
}

fn chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let line = find(&bytes[at..], b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[at..at + line]).ok()?, 16).ok()?;
        at += line + 2;
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
        if size == 0 {
            return Some((body, at));
        }
    }
}
