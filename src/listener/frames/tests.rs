//! Floods of every kind are ended, and what heavy clients do is not.

use super::{Control, FrameFault, FrameGuard, Kind, Limits};
use crate::listener::guard::PREFACE;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    convert::Infallible,
    io,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    task::JoinHandle,
    time::timeout,
};

/// Bounds a test that fails.
const PATIENCE: Duration = Duration::from_secs(60);

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

/// `:method: GET`, `:scheme: http`, `:path: /`, `:authority: a` (RFC 7541, appendix A).
const FIELDS: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'a'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[])
}

fn greeting() -> Vec<u8> {
    [&PREFACE[..], &settings()].concat()
}

fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[7; 8])
}

fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(8, 0, stream, &by.to_be_bytes())
}

/// The client's frames as the guard passes them on, without hyper and without a socket: what comes next is already here.
struct Passed {
    guard: FrameGuard<io::Cursor<Vec<u8>>>,
    control: Control,
}

impl Passed {
    fn new() -> Self {
        let (guard, control) = FrameGuard::new(io::Cursor::default(), Bytes::new(), Limits::default());
        let mut passed = Self { guard, control };
        assert_eq!(passed.send(&greeting()), greeting());
        passed
    }

    /// Sends `bytes` and returns what came through.
    fn send(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.guard.io = io::Cursor::new(bytes.to_vec());
        let (mut out, mut space) = (Vec::new(), [0; 4096]);
        loop {
            let mut piece = ReadBuf::new(&mut space);
            let mut cx = Context::from_waker(Waker::noop());
            match std::pin::Pin::new(&mut self.guard).poll_read(&mut cx, &mut piece) {
                Poll::Ready(Ok(())) if piece.filled().is_empty() => return out,
                Poll::Ready(read) => read.expect("no timeout"),
                Poll::Pending => panic!("there is always an end"),
            }
            out.extend_from_slice(piece.filled());
        }
    }

    /// The server writes so many bytes.
    fn wrote(&mut self, bytes: usize) {
        let mut cx = Context::from_waker(Waker::noop());
        self.guard.io = io::Cursor::default();
        let written = std::pin::Pin::new(&mut self.guard).poll_write(&mut cx, &vec![0; bytes]);
        assert!(matches!(written, Poll::Ready(Ok(length)) if length == bytes));
    }

    /// How many of the frames come through before the connection is ended.
    fn flood(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) -> Option<usize> {
        let ended = frames.into_iter().position(|frame| self.send(&frame) != frame)?;
        assert!(self.control.fault().is_some());
        assert_eq!(self.send(&ping()), b"", "nothing comes after the end");
        Some(ended)
    }
}

/// The floods of S-87, and for what each is ended.
fn floods() -> Vec<(Vec<u8>, FrameFault)> {
    vec![
        (ping(), FrameFault::Flood(Kind::Ping)),
        (frame(6, ACK, 0, &[7; 8]), FrameFault::Flood(Kind::Ping)),
        (settings(), FrameFault::Flood(Kind::Settings)),
        (frame(4, ACK, 0, &[]), FrameFault::Flood(Kind::Settings)),
        (frame(2, 0, 1, &[0, 0, 0, 3, 9]), FrameFault::Flood(Kind::Priority)),
        (frame(16, 0, 0, &[0, 0, 0, 1, b'u', b'=', b'1']), FrameFault::Flood(Kind::Priority)),
        (frame(3, 0, 1, &[0, 0, 0, 8]), FrameFault::Flood(Kind::Reset)),
        (window_update(0, 1), FrameFault::Flood(Kind::WindowUpdate)),
        (window_update(1, 1), FrameFault::Flood(Kind::WindowUpdate)),
        (frame(0, 0, 1, &[]), FrameFault::Flood(Kind::EmptyData)),
        (frame(0, PADDED, 1, &[0]), FrameFault::Flood(Kind::EmptyData)),
        (frame(0, PADDED, 1, &[[200; 1].as_slice(), &[0; 200]].concat()), FrameFault::Flood(Kind::EmptyData)),
        (frame(0x4b, 0, 0, b"grease"), FrameFault::Flood(Kind::Other)),
        (frame(7, 0, 0, &[0; 8]), FrameFault::Flood(Kind::Other)),
    ]
}

/// S-87: every kind of frame that carries no request has a bound.
#[test]
fn s87_floods_of_every_kind_are_ended() {
    for (flood, fault) in floods() {
        let mut passed = Passed::new();
        let ended = passed.flood(std::iter::repeat_n(flood, 100_000)).unwrap_or_else(|| panic!("{fault:?}"));
        assert_eq!(passed.control.fault(), Some(fault));
        assert!((50..5_000).contains(&ended), "{ended} frames for {fault:?}");
    }
}

/// S-87: rapid reset: requests that are cancelled before they are answered are bounded, those answered in part are not.
#[test]
fn s87_rapid_reset_is_ended_and_cancelled_downloads_are_not() {
    let pair = |stream: u32| [frame(1, END_HEADERS | END_STREAM, stream, FIELDS), frame(3, 0, stream, &[0, 0, 0, 8])];
    let mut passed = Passed::new();
    let ended = passed.flood((0..100_000).flat_map(|stream| pair(2 * stream + 1))).expect("ended");
    assert_eq!(passed.control.fault(), Some(FrameFault::Flood(Kind::Reset)));
    assert!(ended < 1_000, "{ended}");
    let mut passed = Passed::new();
    for stream in 0..10_000 {
        let [headers, reset] = pair(2 * stream + 1);
        assert_eq!(passed.send(&headers), headers);
        passed.wrote(1_000);
        assert_eq!(passed.send(&reset), reset, "{:?}", passed.control.fault());
    }
}

/// S-87: what pings earn by their own answers does not keep a flood of them going.
#[test]
fn s87_a_flood_is_ended_though_it_is_answered() {
    for (flood, answer) in [(ping(), 17), (settings(), 9), (window_update(1, 1), 10)] {
        let mut passed = Passed::new();
        let frames = std::iter::from_fn(|| Some(flood.clone()));
        let mut sent = 0;
        for frame in frames.take(100_000) {
            if passed.send(&frame) != frame {
                break;
            }
            passed.wrote(answer);
            sent += 1;
        }
        assert!(passed.control.fault().is_some(), "{sent} frames");
    }
}

/// S-87: a client that acknowledges every DATA frame twice and measures the round trip with each stays well, however long.
#[test]
fn s87_a_busy_download_is_not_a_flood() {
    for data in [30, 100, 1_000, 16_384] {
        let mut passed = Passed::new();
        for round in 0..50_000 {
            passed.wrote(9 + data);
            let size = u32::try_from(data).expect("a frame");
            let frames = [window_update(0, size), window_update(1, size), ping()].concat();
            assert_eq!(passed.send(&frames), frames, "{:?} in round {round} of {data}", passed.control.fault());
            passed.wrote(17); // the answer to the ping
        }
    }
}

/// S-87: a large window read at once is acknowledged at once.
#[test]
fn s87_a_large_window_may_be_acknowledged_at_once() {
    let mut passed = Passed::new();
    for _ in 0..16 {
        for _ in 0..1_024 {
            passed.wrote(9 + 1_024); // 1 MiB in small frames
        }
        for _ in 0..1_024 {
            let frames = [window_update(0, 1_024), window_update(1, 1_024)].concat();
            assert_eq!(passed.send(&frames), frames, "{:?}", passed.control.fault());
        }
    }
}

/// Many small requests, each with what a browser adds: priorities, grease, an upload that ends with an empty frame.
#[test]
fn s87_many_small_requests_are_not_a_flood() {
    let mut passed = Passed::new();
    for stream in (1..20_000).step_by(2) {
        let frames = [
            frame(16, 0, 0, &[0, 0, 0, 1, b'u']),
            frame(1, END_HEADERS, stream, FIELDS),
            frame(0x4b, 0, stream, b"grease"),
            frame(0, 0, stream, b"x"),
            frame(0, END_STREAM, stream, &[]),
        ]
        .concat();
        assert_eq!(passed.send(&frames), frames, "{:?} at stream {stream}", passed.control.fault());
        passed.wrote(100);
    }
}

/// However the frames are cut, the guard passes on the same bytes, and a bad frame is replaced at its beginning.
#[test]
fn s87_no_split_changes_what_passes() {
    let well = [
        ping(),
        frame(1, 0, 1, FIELDS),
        frame(9, 0, 1, &[]),
        frame(9, END_HEADERS, 1, &[0x90]),
        frame(0, PADDED, 1, &[2, b'x', 0, 0]),
        frame(0, END_STREAM, 1, &[]),
        window_update(0, 5),
    ]
    .concat();
    let bad = frame(0, 0, 1, &[0; 16 * 1024 + 1]);
    let sent = [&well[..], &bad].concat();
    let expected = [&well[..], &super::NO_FRAME].concat();
    for cut in 0..=well.len() + 20 {
        let mut passed = Passed::new();
        let out = [passed.send(&sent[..cut]), passed.send(&sent[cut..])].concat();
        assert_eq!(out, expected, "cut at {cut}");
        assert_eq!(passed.control.fault(), Some(FrameFault::FrameTooLarge));
    }
    for size in [1, 2, 5, 8, 9, 10] {
        let mut passed = Passed::new();
        let out: Vec<_> = sent.chunks(size).flat_map(|piece| passed.send(piece)).collect();
        assert_eq!(out, expected, "by {size}");
    }
}

/// Bytes that were read before the guard was made are followed like any other.
#[tokio::test]
async fn s87_what_was_read_before_counts() {
    let (mut client, server) = tokio::io::duplex(4096);
    let early = [greeting(), ping().repeat(200)].concat();
    let (mut guard, control) = FrameGuard::new(server, Bytes::from(early.clone()), Limits::default());
    client.write_all(&ping()).await.expect("sent");
    let mut out = Vec::new();
    guard.read_to_end(&mut out).await.expect("an end");
    let (well, last) = out.split_at(out.len() - super::NO_FRAME.len());
    assert!(early.starts_with(well) && last == super::NO_FRAME);
    assert_eq!(control.fault(), Some(FrameFault::Flood(Kind::Ping)));
}

/// S-87: a header block has a size and a number of frames, CONTINUATION counted.
#[test]
fn s87_header_blocks_are_bounded() {
    let block = |first: usize, size: usize, count: usize| {
        let mut frames = vec![frame(1, END_STREAM, 1, &vec![0; first])];
        frames.extend((1..=count).map(|at| frame(9, if at == count { END_HEADERS } else { 0 }, 1, &vec![0; size])));
        frames
    };
    let cases = [
        (block(16_384, 16_384, 1), None),
        (block(16_384, 8_192, 3), Some(FrameFault::BlockTooLarge)),
        (block(1, 1, 16), None),
        (block(1, 1, 17), Some(FrameFault::TooManyContinuations)),
        (block(1, 0, 100), Some(FrameFault::TooManyContinuations)),
    ];
    for (frames, expected) in cases {
        let mut passed = Passed::new();
        let again = frames.clone();
        let ended = passed.flood(frames);
        assert_eq!((ended.is_some(), passed.control.fault()), (expected.is_some(), expected));
        if expected.is_none() {
            assert_eq!(passed.flood(again), None, "bounds are for each block");
        }
    }
}

type Connection = JoinHandle<hyper::Result<()>>;

/// A real server that answers with what it got, in pieces of `size`.
fn serve(io: DuplexStream, limits: Limits, size: usize) -> (Connection, Control) {
    let (guard, control) = FrameGuard::new(io, Bytes::new(), limits);
    let service = service_fn(move |request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let pieces: Vec<_> = body.chunks(size).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
        Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter::<Vec<Result<_, Infallible>>>(
            pieces,
        ))))
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(guard), service);
    (tokio::spawn(connection), control)
}

/// S-87: hyper answers the end of a flood with GOAWAY and closes.
#[tokio::test]
async fn s87_a_flood_is_answered_with_goaway() {
    for (flood, fault) in floods() {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let (connection, control) = serve(server, Limits::default(), 100);
        let (mut read, mut write) = tokio::io::split(client);
        let open = frame(1, END_HEADERS, 1, FIELDS);
        let flooding = tokio::spawn(async move {
            write.write_all(&[greeting(), open].concat()).await?;
            for _ in 0..100_000 {
                write.write_all(&flood).await?;
            }
            io::Result::Ok(write)
        });
        let mut answers = Vec::new();
        let _ = timeout(PATIENCE, read.read_to_end(&mut answers)).await.expect("ended");
        let _ = timeout(PATIENCE, connection).await.expect("ended").expect("no panic");
        let _ = timeout(PATIENCE, flooding).await.expect("ended").expect("no panic");
        // h2 has a bound of its own on empty DATA frames, about as strict
        let goaway = frames_of(&answers).contains(&7);
        assert!(goaway, "{fault:?}: {:?}", frames_of(&answers));
        let own = fault == FrameFault::Flood(Kind::EmptyData) && control.fault().is_none();
        assert!(own || control.fault() == Some(fault), "{:?} for {fault:?}", control.fault());
    }
}

/// The kinds of the frames in `bytes`.
fn frames_of(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [high, middle, low, kind, ..] = *bytes {
        kinds.push(kind);
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}

/// S-86, S-87: what has begun has to go on, and what is slow is ended; a client that is only silent is not.
#[tokio::test]
async fn s86_s87_what_is_begun_and_not_ended_is_bounded_in_time() {
    let short = Duration::from_millis(50);
    let long = 100 * PATIENCE;
    let patient = Limits { greeting: long, block_time: long, frame_time: long, ..Limits::default() };
    let greeted = greeting();
    let cases = [
        (Limits { greeting: short, ..patient }, vec![], FrameFault::GreetingTimeout),
        (Limits { greeting: short, ..patient }, PREFACE.to_vec(), FrameFault::GreetingTimeout),
        (Limits { greeting: short, ..patient }, PREFACE[..9].to_vec(), FrameFault::GreetingTimeout),
        (
            Limits { block_time: short, ..patient },
            [&greeted[..], &frame(1, 0, 1, FIELDS)].concat(),
            FrameFault::BlockTimeout,
        ),
        (
            Limits { block_time: short, ..patient },
            [&greeted[..], &frame(1, END_HEADERS, 1, FIELDS)[..12]].concat(),
            FrameFault::BlockTimeout,
        ),
        (Limits { frame_time: short, ..patient }, [&greeted[..], &ping()[..12]].concat(), FrameFault::FrameTimeout),
        (Limits { frame_time: short, ..patient }, [&greeted[..], &ping()[..5]].concat(), FrameFault::FrameTimeout),
    ];
    for (limits, sent, fault) in cases {
        let (mut client, server) = tokio::io::duplex(4096);
        let (connection, control) = serve(server, Limits { linger: short, ..limits }, 100);
        client.write_all(&sent).await.expect("sent");
        let _ = timeout(PATIENCE, connection).await.expect("ended").expect("no panic");
        assert_eq!(control.fault(), Some(fault), "{sent:?}");
    }
    let hasty = Limits { greeting: short, block_time: short, frame_time: short, ..patient };
    let (mut client, server) = tokio::io::duplex(4096);
    let (connection, control) = serve(server, hasty, 100);
    client.write_all(&[greeted, frame(1, END_HEADERS | END_STREAM, 1, FIELDS)].concat()).await.expect("sent");
    let silent = timeout(4 * short, connection).await;
    assert!(silent.is_err() && control.fault().is_none(), "{:?}", control.fault());
}

/// S-86: a client that does not read is dropped.
#[tokio::test]
async fn s86_an_http2_client_that_does_not_read_is_dropped() {
    let (mut client, server) = tokio::io::duplex(16);
    let limits = Limits { write: Duration::from_millis(50), ..Limits::default() };
    let (connection, control) = serve(server, limits, 100);
    let sending = tokio::spawn(async move {
        for _ in 0..1_000 {
            client.write_all(&[greeting(), ping()].concat()[..]).await?;
        }
        io::Result::Ok(client)
    });
    let _ = timeout(PATIENCE, connection).await.expect("ended").expect("no panic");
    let _ = timeout(PATIENCE, sending).await.expect("ended");
    assert_eq!(control.fault(), None);
}

/// S-87: a hundred requests at once, fifty times over, each answered in small pieces, are ordinary.
#[tokio::test]
async fn s87_heavy_use_by_a_real_client_is_not_a_flood() {
    let (client, server) = tokio::io::duplex(64 * 1024);
    let (connection, control) = serve(server, Limits::default(), 7);
    let window = 1 << 20; // as browsers have it; h2 takes fewer small frames on a smaller one
    let builder = h2::client::Builder::new().initial_connection_window_size(window).to_owned();
    let (requests, driver) = builder.handshake::<_, Bytes>(client).await.expect("a connection");
    let driver = tokio::spawn(driver);
    for _ in 0..50 {
        let round = (0..100).map(|_| {
            let requests = requests.clone();
            async move {
                let request = Request::post("http://a/").body(()).expect("a request");
                let (answer, mut body) = requests.ready().await?.send_request(request, false)?;
                body.send_data(Bytes::from_static(b"some small message"), false)?;
                body.send_data(Bytes::new(), true)?;
                let (mut body, mut length) = (answer.await?.into_body(), 0);
                while let Some(data) = body.data().await {
                    let data = data?;
                    length += data.len();
                    body.flow_control().release_capacity(data.len())?;
                }
                Ok::<_, h2::Error>(length)
            }
        });
        for length in futures_util::future::join_all(round).await {
            assert_eq!(length.unwrap_or_else(|error| panic!("{error}: {:?}", control.fault())), 18);
        }
    }
    assert_eq!(control.fault(), None);
    drop(requests);
    driver.await.expect("no panic").expect("an orderly end");
    connection.await.expect("no panic").expect("an orderly end");
}
