//! One connection: what stands before HTTP on it, then HTTP/1 or HTTP/2, each through its guard.

use super::{
    Hall, Phase,
    door::{Door, Way},
    frames::FrameGuard,
    guard::{self, Control, Guard, InHand, Preface, preface},
    limits::Full,
    pace::{Pace, Paced},
    proxy,
    socket::{From, Raw, Stream, Wire},
    stack::{Arrival, Stack},
    tls::H2,
};
use crate::{
    body::{BodyError, RequestBody},
    canonical::{Peer, RequestId, Transport},
    config::ListenAt,
    forward::upgrade::Duplex,
    metrics::Connection as Counted,
    refusal::{Reason, Refusal},
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header::CONNECTION};
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};
use tokio::{
    io::AsyncReadExt,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// How long a client may take for the handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long it may take to show which version of HTTP it speaks.
const PREFACE: Duration = Duration::from_secs(10);
/// How long a connection of HTTP/2 is kept without a stream.
const IDLE: Duration = Duration::from_secs(75);
/// How often a client of HTTP/2 is asked whether it is still there, and how long it may take to answer: as long as one that
/// takes nothing of an answer, behind which the question waits.
const PING: Duration = Duration::from_secs(20);
const PONG: Duration = Duration::from_secs(60);
/// Streams of one connection at once.
const STREAMS: u32 = 100;
/// Bytes of a body that a client of HTTP/2 may send ahead: of one stream, and of all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;
/// Bytes of an answer that wait for the client to take them; what was read of the upstream at once may go over it.
const SEND_BUFFER: usize = 8 * 1024;
/// Streams that a client gave up before we looked at them; with more the connection ends.
const RESET_AHEAD: usize = 20;
/// Streams that the client made us give up; with more the connection ends.
const RESET_BY_US: usize = 64;
/// The largest header list that HTTP/2 hands to us. Larger than what we take, so that the refusal is ours, and recorded.
const HEADER_LIST: u32 = 2 * 32 * 1024;
/// hyper's own buffer for heads; the guard refuses larger ones before.
const HEAD_BYTES: usize = 64 * 1024;

/// How long a connection that was accepted before we closed may take for its first request.
const FIRST: Duration = Duration::from_secs(1);

/// How long what is under way on a connection may go on whose client certificate was verified by other authorities.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// What hyper reads HTTP/1 from.
pub type Guarded = TokioIo<Guard<Stream>>;

/// Why there is no HTTP on a connection.
#[derive(Debug, thiserror::Error)]
enum BeginError {
    #[error(transparent)]
    Full(#[from] Full),
    #[error("peer `{0}` is not in `trusted_proxies`, so it may not say who the client is")]
    Stranger(IpAddr),
    #[error(transparent)]
    Proxy(#[from] proxy::ProxyError),
    #[error("TLS cannot be agreed on")]
    Tls(#[source] io::Error),
    #[error("client took longer than {} s for {what}", limit.as_secs())]
    Late { what: &'static str, limit: Duration },
    #[error("client left")]
    Left(#[source] io::Error),
}

impl BeginError {
    fn counted(&self) -> Counted {
        match self {
            Self::Full(Full::All) => Counted::TooMany,
            Self::Full(Full::Address) => Counted::TooManyOfAddress,
            Self::Stranger(_) | Self::Proxy(_) => Counted::ProxyProtocol,
            Self::Tls(_) => Counted::Tls,
            Self::Late { .. } => Counted::Late,
            Self::Left(_) => Counted::Left,
        }
    }
}

/// Serves one connection until it ends or the process closes. Idle connections are many: what they hold is kept small.
pub(super) fn serve(
    raw: Raw,
    from: From,
    door: Arc<Door>,
    hall: Arc<Hall>,
    stack: Stack,
) -> impl Future<Output = ()> + Send {
    let beginning = Box::pin(open_up(raw, from, door, hall.clone()));
    async move {
        let begun = beginning.await;
        match begun {
            Some(begun) if begun.http2 => Box::pin(serve_http2(begun, &hall, stack)).await,
            Some(begun) => serve_http1(begun, &hall, &stack).await,
            None => {}
        }
    }
}

/// All that comes before HTTP. A door's file goes with its last holder, and the connection needs it no more afterwards.
async fn open_up(raw: Raw, from: From, door: Arc<Door>, hall: Arc<Hall>) -> Option<Box<Begun>> {
    raw.prepare();
    begin(raw, from, &door, &hall).await.inspect_err(|error| turned_away(error, &door.at, from, &hall)).ok()
}

/// A connection ended before HTTP began on it. Nobody else tells the operator: the client sees only that it closed.
fn turned_away(error: &BeginError, at: &ListenAt, from: From, hall: &Hall) {
    let counted = error.counted();
    hall.metrics.turned_away(counted);
    let peer = from.map(|from| from.to_string()).unwrap_or_default();
    let error = crate::text::chain(error);
    // who is turned away in numbers fills no log: the metric has them all
    match counted {
        Counted::Left | Counted::Late => tracing::debug!(listener = %at, peer, error, "a connection ended before HTTP"),
        _ if hall.limiter.may_tell() => tracing::warn!(listener = %at, peer, error, "a connection ended before HTTP"),
        _ => tracing::debug!(listener = %at, peer, error, "a connection ended before HTTP"),
    }
}

/// A connection on which HTTP begins.
struct Begun {
    stream: Stream,
    peer: Arc<Peer>,
    http2: bool,
    early: Bytes,
    /// Cancelled when connections that were begun so must end.
    over: CancellationToken,
}

/// What comes before HTTP, in the order of the bytes.
async fn begin(mut raw: Raw, from: From, door: &Door, hall: &Hall) -> Result<Box<Begun>, BeginError> {
    let (limits, trusted) = {
        let state = hall.shared.snapshot.load();
        (state.settings.limits, state.settings.trusted_proxies.clone())
    };
    let mut place = hall.limiter.enter(limits)?;
    let way = door.way.load_full();
    let said = said(&mut raw, from, &way, &trusted).await?;
    let address = said.client.or(from).unwrap_or(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
    let local = from.is_none() && !way.proxy_protocol;
    if !local && !trusts(&trusted, address.ip()) {
        place.of(address.ip(), limits)?;
    }
    let Some(tls) = &way.tls else {
        let mut wire = Wire::Plain(raw);
        let (early, http2) = spoken(&mut wire).await?;
        let transport = match (said.tls, local, said.itself) {
            (true, ..) => Transport::TlsBefore,
            (false, true, _) => Transport::Local,
            (false, false, true) => Transport::Balancer,
            (false, false, false) => Transport::Plain,
        };
        let stream = Stream::new(wire, place, way.over.clone());
        let peer = Arc::new(Peer { address, transport });
        return Ok(Box::new(Begun { stream, peer, http2, early, over: way.over.clone() }));
    };
    let late = BeginError::Late { what: "the handshake of TLS", limit: HANDSHAKE };
    let stream = timeout(HANDSHAKE, tls.acceptor.accept(raw)).await.map_err(|_| late)?.map_err(BeginError::Tls)?;
    let connection = stream.get_ref().1;
    let transport = Transport::Tls(tls.client(connection));
    let http2 = connection.alpn_protocol() == Some(H2);
    let peer = Arc::new(Peer { address, transport });
    let stream = Stream::new(Wire::Tls(Box::new(stream)), place, way.over.clone());
    Ok(Box::new(Begun { stream, peer, http2, early: Bytes::new(), over: way.over.clone() }))
}

/// What a balancer says of the client, where one is to.
async fn said(raw: &mut Raw, from: From, way: &Way, trusted: &[IpNet]) -> Result<proxy::Said, BeginError> {
    if !way.proxy_protocol {
        return Ok(proxy::Said { client: None, tls: false, itself: false });
    }
    if let Some(stranger) = from.map(|from| from.ip().to_canonical()).filter(|from| !trusts(trusted, *from)) {
        return Err(BeginError::Stranger(stranger));
    }
    let late = BeginError::Late { what: "the header of the PROXY protocol", limit: proxy::LIMIT };
    Ok(timeout(proxy::LIMIT, proxy::read(raw)).await.map_err(|_| late)??)
}

fn trusts(trusted: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    trusted.iter().any(|net| net.contains(&address))
}

/// Which HTTP a client speaks in clear text, and the bytes that tell.
async fn spoken(stream: &mut Wire) -> Result<(Bytes, bool), BeginError> {
    let mut early = BytesMut::with_capacity(guard::PREFACE.len());
    let told = async {
        loop {
            if early.is_empty() || preface(&early) == Preface::Unclear {
                if stream.read_buf(&mut early).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            return Ok(preface(&early) == Preface::Http2);
        }
    };
    let late = BeginError::Late { what: "its first bytes", limit: PREFACE };
    let http2 = timeout(PREFACE, told).await.map_err(|_| late)?.map_err(BeginError::Left)?;
    Ok((early.freeze(), http2))
}

async fn serve_http1(begun: Box<Begun>, hall: &Hall, stack: &Stack) {
    let Begun { stream, peer, early, over, .. } = *begun;
    let (guard, control) = Guard::new(stream, early, guard::Limits::default());
    let (stack, phase) = (stack.clone(), hall.phase.clone());
    let asked = Arc::<AtomicBool>::default();
    let first = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        first.store(true, Relaxed);
        let (mut stack, control, phase) = (stack.clone(), control.clone(), phase.clone());
        let (request, upgrade) = agreed(&control, request);
        let in_hand = control.begin();
        let answering = stack.call(Arrival { request: request.map(RequestBody::of), peer: peer.clone() });
        async move {
            let mut answer = answering.await?;
            if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                if upgrade {
                    control.resume(); // what the client sent ahead is its next request
                }
                snug(answer.headers_mut());
                if *phase.borrow() >= Phase::Draining {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
            Ok::<_, std::convert::Infallible>(answer.map(|body| Owed { body, _in_hand: in_hand }))
        }
    });
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_buf_size(HEAD_BYTES); // the guard has limits for heads
    // made in place: a move would double the room that each idle connection takes; and what is seldom awaited takes none
    let mut connection = pin!(builder.serve_connection(TokioIo::new(guard), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        limit = leaves(hall.phase.clone(), Phase::Closing, asked, over) => {
            connection.as_mut().graceful_shutdown();
            Box::pin(timeout(limit, connection)).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Gives up the room that a head does not need: hyper keeps the last one for the next request, on an idle connection for long.
fn snug(headers: &mut HeaderMap) {
    if headers.capacity() < 2 * headers.len() {
        return;
    }
    let mut fitting = HeaderMap::with_capacity(headers.len());
    fitting.extend(std::mem::take(headers));
    *headers = fitting;
}

/// An answer's body. Until its end the client need not send anything.
struct Owed {
    body: crate::body::Body,
    _in_hand: InHand,
}

impl Body for Owed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The request, if two readers found the same one; and whether it offers another protocol.
fn agreed(control: &Control, request: Request<Incoming>) -> (Result<Request<Incoming>, Refusal>, bool) {
    let Some(seen) = control.take() else {
        let two = Refusal::new(Reason::BadRequest, "The request cannot be read in one way only.");
        return (Err(two.because("a request was read where none was seen").closing()), false);
    };
    if let Some(fault) = seen.fault {
        return (Err(Refusal::new(fault.reason(), fault.to_string()).closing()), false);
    }
    if !seen.agrees(request.uri(), &request.body().size_hint()) {
        let two = Refusal::new(Reason::BadRequest, "The request cannot be read in one way only.");
        return (Err(two.because("two readers found different requests").closing()), false);
    }
    (Ok(request), seen.upgrade)
}

async fn serve_http2(begun: Box<Begun>, hall: &Hall, stack: Stack) {
    let Begun { stream, peer, early, over, .. } = *begun;
    let (guard, control) = FrameGuard::new(stream, early, super::frames::Limits::default());
    let pace = Pace::default();
    let (paced, address) = (pace.clone(), peer.address.ip().to_canonical());
    let asked = Arc::<AtomicBool>::default();
    let first = asked.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        first.store(true, Relaxed);
        let clock = paced.begin();
        let answering = stack.clone().call(Arrival { request: Ok(RequestBody::of(request)), peer: peer.clone() });
        async move { answering.await.map(|answer| answer.map(|body| Paced::new(body, clock))) }
    });
    let connection = http2::Builder::new(pace.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESET_AHEAD)
        .max_local_error_reset_streams(RESET_BY_US)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .serve_connection(TokioIo::new(guard), service);
    let mut connection = pin!(connection);
    let late = *hall.phase.borrow() >= Phase::Draining; // who comes now may still ask
    let phase = if late { Phase::Closing } else { Phase::Draining };
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        limit = leaves(hall.phase.clone(), phase, asked, over) => {
            connection.as_mut().graceful_shutdown();
            timeout(limit, connection).await.unwrap_or(Ok(()))
        }
        () = pace.idle(IDLE) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Some(fault) = control.fault() {
        let refusal = Refusal::new(fault.reason(), fault.to_string());
        let crossing = hall.audit.crossing(address, SystemTime::now());
        crossing.unread(RequestId::new(), address);
        crossing.refused(&refusal);
        hall.metrics.refused(&refusal);
    }
    if let Err(error) = outcome {
        tracing::debug!(error = crate::text::chain(&error), "a connection ended early");
    }
}

/// Waits until a connection should be asked to go elsewhere: when the process is so far on its way down, and the connection,
/// which was accepted, has been asked something or has had the time for it; or when it is over for its own reasons. Says how
/// long what is under way may go on.
async fn leaves(
    phase: watch::Receiver<Phase>,
    wanted: Phase,
    asked: Arc<AtomicBool>,
    over: CancellationToken,
) -> Duration {
    tokio::select! {
        () = over.cancelled() => return GIVEN_UP,
        () = reaches(phase, wanted) => {}
    }
    Box::pin(first(&asked)).await;
    Duration::MAX // the process has a limit of its own
}

/// Waits until a connection has been asked something, or has had the time for it.
async fn first(asked: &AtomicBool) {
    let start = Instant::now();
    while !asked.load(Relaxed) && start.elapsed() < FIRST {
        sleep(FIRST / 100).await;
    }
}

/// Waits until the process is so far on its way down.
pub(super) async fn reaches(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    let _ = phase.wait_for(|phase| *phase >= wanted).await.map(drop);
}

/// Takes the client's stream back from hyper after a 101, if nothing was sent ahead of it.
pub fn open(upgraded: Upgraded) -> Option<Box<dyn Duplex>> {
    let parts = upgraded.downcast::<Guarded>().ok()?;
    let (stream, early) = parts.io.into_inner().into_tunnel()?;
    (early.is_empty() && parts.read_buf.is_empty()).then(|| Box::new(stream.into_tunnel()) as Box<dyn Duplex>)
}
