//! Accepts connections: one runtime per core, each with its own listener and its own hallway.

pub mod operations;
pub mod stack;

use crate::{
    audit::Audit,
    canonical::Peer,
    forward::{self, Forward},
    gateway::{Gateway, Shared},
    metrics::Metrics,
};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use stack::{Arrival, Stack, stack};
use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    pin::pin,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_util::task::TaskTracker;
use tower::Service;

/// Requests in hand at once, over all cores.
const IN_HAND: usize = 65_536;

/// How long a client may take for a request's head, the wait between two requests included.
const HEAD: Duration = Duration::from_secs(60);

/// How much of a head is read before it is refused.
const HEAD_BYTES: usize = 64 * 1024;

/// How many connections wait to be accepted.
const BACKLOG: i32 = 4096;

/// How far the process is on its way down.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Not ready any more, still accepting.
    Draining,
    /// No longer accepting; requests in hand are finished.
    Closing,
}

/// What every core gets.
#[derive(Clone)]
pub struct Hall {
    /// What all cores share of the gateway.
    pub shared: Arc<Shared>,
    /// What all cores share of forwarding.
    pub forward: Arc<forward::Shared>,
    /// The trail.
    pub audit: Audit,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// How far down we are.
    pub phase: watch::Receiver<Phase>,
}

/// A listening socket that other cores can listen on beside this one.
///
/// # Errors
/// The address is in use, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if another process listens on `address`, which a shared port would hide.
///
/// # Errors
/// The address is in use, or not ours.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Starts one data-plane thread per core; each ends when the phase says so and its connections are done.
///
/// # Errors
/// A thread or a runtime cannot be made.
pub fn start(hall: &Hall, listeners: Vec<Vec<StdListener>>) -> io::Result<Vec<JoinHandle<()>>> {
    let in_hand = Arc::new(Semaphore::new(IN_HAND));
    let mut threads = Vec::with_capacity(listeners.len());
    for (core, listeners) in listeners.into_iter().enumerate() {
        let (hall, in_hand) = (hall.clone(), in_hand.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(format!("data-plane-{core}"))
            .spawn(move || runtime.block_on(core_main(hall, listeners, in_hand)))?;
        threads.push(thread);
    }
    Ok(threads)
}

/// One core: its hallway, its listeners, its connections.
async fn core_main(hall: Hall, listeners: Vec<StdListener>, in_hand: Arc<Semaphore>) {
    let gateway = Arc::new(Gateway::new(hall.shared.clone(), Forward::new(hall.forward.clone())));
    let service = stack(gateway, hall.audit.clone(), in_hand, hall.metrics.clone());
    let (connections, tasks) = (TaskTracker::new(), TaskTracker::new());
    for listener in listeners {
        let Ok(listener) = TcpListener::from_std(listener) else { continue };
        let (service, phase, connections) = (service.clone(), hall.phase.clone(), connections.clone());
        tasks.spawn(async move { accept(listener, service, phase, connections).await });
    }
    tasks.close();
    tasks.wait().await;
    connections.close();
    connections.wait().await;
}

async fn accept(listener: TcpListener, service: Stack, phase: watch::Receiver<Phase>, connections: TaskTracker) {
    let mut closed = pin!(closing(phase.clone()));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut closed => return,
        };
        match accepted {
            Ok((stream, address)) => {
                connections.spawn(serve(stream, Peer { address }, service.clone(), phase.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// Waits until the process closes.
async fn closing(mut phase: watch::Receiver<Phase>) {
    let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await.map(drop);
}

/// One connection, until it ends or the process closes.
async fn serve(stream: TcpStream, peer: Peer, service: Stack, phase: watch::Receiver<Phase>) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let mut service = service.clone();
        service.call(Arrival { request, peer: peer.clone() })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        () = closing(phase) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
