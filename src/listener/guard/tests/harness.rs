//! One connection of hyper's HTTP/1 server with a service that writes down what it gets, without a runtime: every step is
//! taken by hand, so that the end of the client's bytes comes exactly when nothing else is left to do.

use crate::listener::guard::{Control, Fault, Guard, Limits, Seen};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header::UPGRADE};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    runtime::{self, Runtime},
};

/// A request as a service gets it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Got {
    pub(super) method: Method,
    uri: String,
    version: Version,
    headers: HeaderMap,
    body: Vec<u8>,
    /// The body came to its end.
    pub(super) whole: bool,
}

/// All that came of a client's bytes.
#[derive(Debug, Default)]
pub(super) struct Played {
    pub(super) got: Vec<Got>,
    pub(super) written: Vec<u8>,
    pub(super) fault: Option<Fault>,
    pub(super) trailers: usize,
    /// What the tally and hyper did not agree about.
    pub(super) disagreements: Vec<String>,
}

type Log = Arc<Mutex<Played>>;

/// The client's bytes in pieces, one for each read, and what is written back.
pub(super) struct Script {
    pieces: VecDeque<Bytes>,
    /// The socket is empty between two pieces.
    pause: bool,
    paused: bool,
    over: Arc<AtomicBool>,
    log: Log,
}

impl AsyncRead for Script {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let script = self.get_mut();
        let Some(mut piece) = script.pieces.pop_front() else {
            return if script.over.load(Ordering::Relaxed) { Poll::Ready(Ok(())) } else { Poll::Pending };
        };
        script.paused = script.pause && !script.paused;
        if script.paused {
            script.pieces.push_front(piece);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        out.put_slice(&piece.split_to(piece.len().min(out.remaining())));
        if !piece.is_empty() {
            script.pieces.push_front(piece);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.log.lock().expect("the log").written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Sends `pieces` to hyper below which stands a guard.
pub(super) fn guarded<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, pause: bool) -> Played {
    let (script, over, log) = script(pieces, pause);
    let (guard, control) = Guard::new(script, Bytes::new(), Limits::default());
    run(guard, Some(&control), &over, &log);
    let mut played = std::mem::take(&mut *log.lock().expect("the log"));
    played.fault = control.fault();
    played
}

/// Sends `pieces` to hyper alone.
pub(super) fn alone<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Played {
    let (script, over, log) = script(pieces, false);
    run(script, None, &over, &log);
    std::mem::take(&mut *log.lock().expect("the log"))
}

fn script<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, pause: bool) -> (Script, Arc<AtomicBool>, Log) {
    let (over, log) = (Arc::<AtomicBool>::default(), Log::default());
    let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).map(Bytes::copy_from_slice).collect();
    (Script { pieces, pause, paused: false, over: over.clone(), log: log.clone() }, over, log)
}

fn run<IO>(io: IO, control: Option<&Control>, over: &AtomicBool, log: &Log)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    static CLOCK: LazyLock<Runtime> =
        LazyLock::new(|| runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));
    let _timers_can_be_made = CLOCK.enter(); // and never fire
    let (control, writes) = (control.cloned(), log.clone());
    let service = service_fn(move |request| note(request, control.clone(), writes.clone()));
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    if quiet(connection.as_mut()).is_none() {
        over.store(true, Ordering::Relaxed);
        let _ = quiet(connection);
    }
}

/// Polls until nothing is left to do.
fn quiet<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    struct Flag(AtomicBool);
    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(flag.clone());
    while flag.0.swap(false, Ordering::Relaxed) {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
    }
    None
}

/// The service: reads a request whole, writes it down, and answers.
async fn note(
    request: Request<Incoming>,
    control: Option<Control>,
    log: Log,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let seen = control.as_ref().map(Control::take);
    let (head, mut body) = request.into_parts();
    if let Some(seen) = &seen {
        let agrees = match seen {
            Some(Seen { fault: Some(_), .. }) => head.method.as_str() == "REFUSED",
            Some(seen) => seen.agrees(&head.uri, &body.size_hint()),
            None => false,
        };
        if !agrees {
            let difference = format!("{seen:?} for {} {} {:?}", head.method, head.uri, body.size_hint());
            log.lock().expect("the log").disagreements.push(difference);
        }
    }
    let (mut data, mut whole) = (Vec::new(), true);
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(bytes)) => data.extend_from_slice(&bytes),
            Ok(Err(_)) => log.lock().expect("the log").trailers += 1,
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let mut log = log.lock().expect("the log");
    let mut response = Response::new(Full::from(format!("answer {}", log.got.len())));
    let fault = seen.flatten().and_then(|seen| seen.fault);
    if fault.is_some() || !whole {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    if head.headers.contains_key(UPGRADE)
        && let Some(control) = control
    {
        control.resume();
    }
    let (uri, method) = (head.uri.to_string(), head.method);
    log.got.push(Got { method, uri, version: head.version, headers: head.headers, body: data, whole });
    Ok(response)
}

/// Two pieces, cut at every place (at some, if there are many), and pieces of a few sizes.
pub(super) fn splits(bytes: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let step = bytes.len() / if bytes.len() < 2_000 { 200 } else { 20 } + 1;
    let cuts = (1..bytes.len()).step_by(step).map(|at| vec![&bytes[..at], &bytes[at..]]);
    cuts.chain([1, 2, 3, 7, 100].into_iter().map(|size| bytes.chunks(size).collect()))
}

/// Lets all tasks of the test's runtime go on until nothing is left to do: they wait for each other only, through memory.
pub(super) async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}
