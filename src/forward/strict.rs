//! What lies between an upstream and hyper's HTTP/1.1 client: only answers that have one reading come through.
//!
//! hyper takes bare line feeds, equal doubled lengths, a length beside chunks and extensions of chunks, and says nothing of
//! them. Here the framing of every answer is followed on its own; where it can be read in two ways, or goes on after its end,
//! the read fails and the connection is used no more.
//!
//! Source: RFC 9112, sections 2.2, 4, 5, 6 and 7.

use memchr::{memchr_iter, memchr3};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest head of an answer, and the most trailers; hyper reads no more.
const LARGEST: usize = 128 * 1024;
/// The most digits of a chunk's size.
const DIGITS: u8 = 15;

/// What an answer has in it that it must not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("upstream sent {0}")]
pub(super) struct Flaw(pub(super) &'static str);

/// What a request asks for, as far as the framing of its answer depends on it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Asked {
    Nothing = 0,
    Anything = 1,
    Head = 2,
    WebSocket = 3,
}

/// What sender and reader of one connection tell each other.
#[derive(Default)]
pub(super) struct Control {
    asked: AtomicU8,
    flawed: AtomicBool,
}

impl Control {
    /// The next answer is to such a request. To be called before that is sent.
    pub(super) fn expect(&self, asked: Asked) {
        self.asked.store(asked as u8, Relaxed);
    }

    /// True once something came that must not come.
    pub(super) fn is_flawed(&self) -> bool {
        self.flawed.load(Relaxed)
    }

    fn asked(&self) -> Asked {
        match self.asked.load(Relaxed) {
            0 => Asked::Nothing,
            2 => Asked::Head,
            3 => Asked::WebSocket,
            _ => Asked::Anything,
        }
    }
}

/// Follows the answers on one connection.
pub(super) struct Strict<S> {
    io: S,
    reader: Reader,
    failed: Option<Flaw>,
    /// The next write begins a request.
    at_rest: bool,
}

/// Where in an answer the next byte stands.
struct Reader {
    control: Arc<Control>,
    at: At,
    /// What came of a head or of trailers that are not complete yet.
    partial: Vec<u8>,
    /// Where its last line begins.
    line: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum At {
    Head,
    /// In a body of known length.
    Body(u64),
    /// In the line with a chunk's size; a CR has come.
    Size {
        size: u64,
        digits: u8,
        cr: bool,
    },
    Chunk(u64),
    /// After a chunk's data; a CR has come.
    ChunkEnd {
        cr: bool,
    },
    Trailers,
    /// In a body that ends with the connection, or in a tunnel.
    Rest,
}

const SIZE: At = At::Size { size: 0, digits: 0, cr: false };

impl Reader {
    /// Follows `bytes`. On a flaw, says how many of them may be read before it.
    fn walk(&mut self, bytes: &[u8]) -> Result<(), (usize, Flaw)> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            used += match self.at {
                At::Rest => rest.len(),
                At::Body(left) => self.skip(left, rest, At::Head, At::Body),
                At::Chunk(left) => self.skip(left, rest, At::ChunkEnd { cr: false }, At::Chunk),
                At::Size { .. } | At::ChunkEnd { .. } => {
                    self.at = self.byte(rest[0]).map_err(|flaw| (used, flaw))?;
                    1
                }
                At::Head | At::Trailers => self.lines(rest).map_err(|flaw| (used, flaw))?,
            };
        }
        Ok(())
    }

    fn skip(&mut self, left: u64, rest: &[u8], then: At, or: impl Fn(u64) -> At) -> usize {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - here as u64;
        self.at = if left == 0 { then } else { or(left) };
        here
    }

    /// One byte of what stands around a chunk.
    fn byte(&self, byte: u8) -> Result<At, Flaw> {
        match (self.at, byte) {
            (At::Size { size, digits, cr: false }, _) if byte.is_ascii_hexdigit() && digits < DIGITS => {
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                Ok(At::Size { size: size << 4 | u64::from(digit), digits: digits + 1, cr: false })
            }
            (At::Size { size, digits: 1.., cr: false }, b'\r') => Ok(At::Size { size, digits: 1, cr: true }),
            (At::Size { size: 0, cr: true, .. }, b'\n') => Ok(At::Trailers),
            (At::Size { size, cr: true, .. }, b'\n') => Ok(At::Chunk(size)),
            (At::ChunkEnd { cr: false }, b'\r') => Ok(At::ChunkEnd { cr: true }),
            (At::ChunkEnd { cr: true }, b'\n') => Ok(SIZE),
            (At::ChunkEnd { .. }, _) => Err(Flaw("a chunk that goes on after its end")),
            _ => Err(Flaw("a chunk size that is not digits and CRLF")),
        }
    }

    /// A head or trailers, up to their end or to what has come of them. Says how many of the bytes that is.
    fn lines(&mut self, rest: &[u8]) -> Result<usize, Flaw> {
        if self.at == At::Head && self.partial.is_empty() && self.control.asked() == Asked::Nothing {
            return Err(Flaw("bytes after the end of its answer"));
        }
        if self.partial.is_empty() {
            self.line = 0;
            if let Some(end) = end(rest, &mut self.line)? {
                self.at = self.after(&rest[..end])?;
                return Ok(end);
            }
        }
        let before = self.partial.len();
        self.partial.extend_from_slice(rest);
        if before == 0 {
            return self.bounded(rest.len());
        }
        match end(&self.partial, &mut self.line)? {
            None => self.bounded(rest.len()),
            Some(end) => {
                let partial = std::mem::take(&mut self.partial);
                self.at = self.after(&partial[..end])?;
                Ok(end - before)
            }
        }
    }

    fn bounded(&self, read: usize) -> Result<usize, Flaw> {
        if self.partial.len() > LARGEST { Err(Flaw("a head of more than 128 KiB")) } else { Ok(read) }
    }

    /// What follows a complete head, or trailers.
    fn after(&self, lines: &[u8]) -> Result<At, Flaw> {
        if self.at == At::Trailers {
            fields(lines)?;
            return Ok(At::Head);
        }
        let (status, old, framing) = head(lines)?;
        let asked = self.control.asked();
        match (status, framing) {
            (101, _) if asked == Asked::WebSocket => Ok(At::Rest),
            (101, _) => Err(Flaw("a switch of protocols that nobody asked for")),
            (100..200 | 204, Framing::Chunked | Framing::Length(1..)) => Err(Flaw("a body where there can be none")),
            (100..200, _) => Ok(At::Head), // interim: the answer is still to come
            (_, Framing::Chunked) if old => Err(Flaw("chunks in an answer of HTTP/1.0")),
            (204 | 304, _) => Ok(At::Head),
            _ if asked == Asked::Head => Ok(At::Head),
            (_, Framing::Chunked) => Ok(SIZE),
            (_, Framing::Length(0)) => Ok(At::Head),
            (_, Framing::Length(length)) => Ok(At::Body(length)),
            (_, Framing::Close) => Ok(At::Rest),
        }
        .inspect(|at| {
            // nothing more may come until something is asked; an interim answer leaves the question open
            if !matches!((at, status), (At::Head, 100..200)) {
                self.control.expect(Asked::Nothing);
            }
        })
    }
}

/// Where the empty line ends that ends `bytes`' lines; `line` is where the last line begins.
fn end(bytes: &[u8], line: &mut usize) -> Result<Option<usize>, Flaw> {
    let start = *line;
    for at in memchr_iter(b'\n', &bytes[start..]) {
        let feed = start + at;
        if feed == 0 || bytes[feed - 1] != b'\r' {
            return Err(Flaw("a line that ends without CR"));
        }
        if feed == *line + 1 {
            return Ok(Some(feed + 1));
        }
        *line = feed + 1;
    }
    Ok(None)
}

/// How long an answer's body is, as its head says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Framing {
    Close,
    Length(u64),
    Chunked,
}

/// Status, whether it is HTTP/1.0, and framing of a complete head.
fn head(lines: &[u8]) -> Result<(u16, bool, Framing), Flaw> {
    let end = memchr::memchr(b'\n', lines).ok_or(Flaw("no status line"))? + 1;
    let (status, old) = status_line(&lines[..end - 2]).ok_or(Flaw("no status line of HTTP/1.1"))?;
    Ok((status, old, fields(&lines[end..])?))
}

fn status_line(line: &[u8]) -> Option<(u16, bool)> {
    let old = match line.strip_prefix(b"HTTP/1.")?.first()? {
        b'1' => false,
        b'0' => true,
        _ => return None,
    };
    let (status, reason) = line[8..].strip_prefix(b" ")?.split_at_checked(3)?;
    let digits = matches!(status[0], b'1'..=b'5') && status[1..].iter().all(u8::is_ascii_digit);
    let fits = digits && (reason.is_empty() || reason[0] == b' ') && memchr3(0, b'\r', b'\x7f', reason).is_none();
    fits.then(|| (status.iter().fold(0, |number, digit| number * 10 + u16::from(digit - b'0')), old))
}

/// Checks every field and tells how they frame the body. `lines` end with the empty one.
fn fields(lines: &[u8]) -> Result<Framing, Flaw> {
    let mut framing = Framing::Close;
    let mut start = 0;
    for feed in memchr_iter(b'\n', lines) {
        let line = &lines[start..feed - 1];
        start = feed + 1;
        if line.is_empty() {
            break;
        }
        let colon = memchr::memchr(b':', line).ok_or(Flaw("a field without a colon"))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Flaw("a field whose name is no name"));
        }
        if value.iter().any(|byte| *byte < b' ' && *byte != b'\t' || *byte == 0x7f) {
            return Err(Flaw("a control character in a field"));
        }
        framing = frame(framing, name, value)?;
    }
    Ok(framing)
}

fn frame(before: Framing, name: &[u8], value: &[u8]) -> Result<Framing, Flaw> {
    let next = match name.len() {
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            let digits = value.trim_ascii();
            if !(1..=18).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
                return Err(Flaw("a Content-Length that is not a number"));
            }
            Framing::Length(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Flaw("a Transfer-Encoding other than `chunked`"));
            }
            Framing::Chunked
        }
        _ => return Ok(before),
    };
    match (before, next) {
        (Framing::Close, _) => Ok(next),
        (Framing::Length(_), Framing::Length(_)) => Err(Flaw("several Content-Length fields")),
        (Framing::Chunked, Framing::Chunked) => Err(Flaw("several Transfer-Encoding fields")),
        _ => Err(Flaw("Content-Length with Transfer-Encoding")),
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl<S> Strict<S> {
    pub(super) fn new(io: S, control: Arc<Control>) -> Self {
        let reader = Reader { control, at: At::Head, partial: Vec::new(), line: 0 };
        Self { io, reader, failed: None, at_rest: true }
    }

    fn fail(&self, flaw: Flaw) -> io::Error {
        self.reader.control.flawed.store(true, Relaxed);
        io::Error::other(flaw)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(flaw) = self.failed {
            return Poll::Ready(Err(self.fail(flaw)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let followed = self.reader.walk(&buf.filled()[before..]);
        self.at_rest = self.reader.at == At::Head && self.reader.control.asked() == Asked::Nothing;
        match followed {
            Ok(()) => Poll::Ready(Ok(())),
            Err((good, flaw)) => {
                buf.set_filled(before + good);
                self.failed = Some(flaw);
                let error = self.fail(flaw);
                Poll::Ready(if good == 0 { Err(error) } else { Ok(()) })
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Strict<S> {
    /// Before a request goes out on a connection that was at rest: nothing may have come on it meanwhile.
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !std::mem::take(&mut self.at_rest) {
            return Ok(());
        }
        let mut byte = [0; 1];
        let mut buf = ReadBuf::new(&mut byte);
        match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
            Poll::Pending => Ok(()),
            Poll::Ready(read) => {
                read?;
                self.reader.control.flawed.store(true, Relaxed);
                // nothing was sent yet, so this is a connection that died and not an answer that is wrong
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_rest(cx)?;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_rest(cx)?;
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reader(asked: Asked) -> Reader {
        let control = Arc::<Control>::default();
        control.expect(asked);
        Reader { control, at: At::Head, partial: Vec::new(), line: 0 }
    }

    /// Follows `bytes` piece by piece, and says what is wrong with them.
    fn follow<'a>(asked: Asked, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Result<(), Flaw>, Reader) {
        let mut reader = reader(asked);
        for piece in pieces {
            if let Err((good, flaw)) = reader.walk(piece) {
                assert!(good <= piece.len());
                return (Err(flaw), reader);
            }
        }
        (Ok(()), reader)
    }

    /// Wherever an answer is cut, it is judged the same.
    #[test]
    fn s22_no_cut_changes_what_is_found() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\nx",
            "HTTP/1.1 101 Switching Protocols\r\n\r\nanything",
        ] {
            let (whole, state) = follow(Asked::Anything, [text.as_bytes()]);
            for cut in 1..text.len() {
                let (a, b) = text.as_bytes().split_at(cut);
                let (found, then) = follow(Asked::Anything, [a, b]);
                assert_eq!(found, whole, "{text:?} at {cut}");
                assert!(found.is_err() || then.at == state.at, "{text:?} at {cut}");
            }
            assert_eq!(follow(Asked::Anything, text.as_bytes().chunks(1)).0, whole, "{text:?}");
        }
    }

    #[test]
    fn what_was_asked_decides_whether_there_is_a_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n".as_slice();
        assert_eq!(follow(Asked::Head, [head]).1.at, At::Head);
        assert_eq!(follow(Asked::Anything, [head]).1.at, At::Body(2));
        assert!(follow(Asked::Nothing, [head]).0.is_err());
        let switch = b"HTTP/1.1 101 Switching Protocols\r\n\r\nframes\n".as_slice();
        assert_eq!(follow(Asked::WebSocket, [switch]).1.at, At::Rest);
        assert!(follow(Asked::Anything, [switch]).0.is_err());
        assert_eq!(
            follow(Asked::WebSocket, [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".as_slice()]).1.at,
            At::Head
        );
    }

    #[test]
    fn a_head_without_end_is_given_up() {
        let line = b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n".as_slice();
        let pieces = std::iter::once(b"HTTP/1.1 200 OK\r\n".as_slice()).chain(std::iter::repeat_n(line, 3000));
        assert_eq!(follow(Asked::Anything, pieces).0, Err(Flaw("a head of more than 128 KiB")));
    }

    proptest! {
        /// Bodies of any chunks, in pieces of any size, end where they end.
        #[test]
        fn follows_every_body_to_its_end(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..5),
            cuts in prop::collection::vec(1..50_usize, 1..40),
        ) {
            let mut text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for chunk in &chunks {
                text.extend(format!("{:x}\r\n", chunk.len()).bytes());
                text.extend(chunk);
                text.extend(b"\r\n");
            }
            text.extend(b"0\r\n\r\n");
            let mut reader = reader(Asked::Anything);
            let (mut rest, mut cuts) = (text.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                prop_assert_ne!(reader.control.asked() == Asked::Nothing && reader.at == At::Head, true);
                let (piece, after) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                prop_assert!(reader.walk(piece).is_ok());
                rest = after;
            }
            prop_assert_eq!((reader.at, reader.control.asked()), (At::Head, Asked::Nothing));
            prop_assert!(reader.walk(b"x").is_err());
        }

        /// No bytes make it panic.
        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), head in any::<bool>()) {
            let head = if head { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" } else { "" };
            let _ = follow(Asked::Anything, [head.as_bytes(), &bytes]);
        }
    }
}
