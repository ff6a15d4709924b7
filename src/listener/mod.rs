//! Accepts connections: one runtime per core, each with its own listening sockets and its own hallway.

pub mod connection;
pub mod door;
pub mod frames;
pub mod guard;
pub mod limits;
pub mod operations;
mod pace;
pub mod probe;
mod proxy;
pub mod socket;
pub mod stack;
mod tls;

use crate::{
    audit::Audit,
    config::ListenAt,
    forward::{self, Forward},
    gateway::{Gateway, Shared},
    metrics::Metrics,
};
use connection::reaches;
use door::{Door, Listener, Opened};
use limits::Limiter;
use stack::{Stack, stack};
use std::{io, pin::pin, sync::Arc, thread::JoinHandle, time::Duration};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;

/// Requests in hand at once, over all cores.
const IN_HAND: usize = 65_536;

/// How far the process is on its way down.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Not ready any more, still accepting; connections are asked to go elsewhere.
    Draining,
    /// No longer accepting; requests in hand are finished, and streams go on for a while.
    Closing,
    /// What is still open is given up.
    Over,
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
    /// How many connections there are.
    pub limiter: Arc<Limiter>,
    /// How far down we are.
    pub phase: watch::Receiver<Phase>,
}

/// Starts one data-plane thread per core, which accepts at the doors that it is told of. Each ends when the phase says so and
/// its connections are done.
///
/// # Errors
/// A thread or a runtime cannot be made.
pub fn start(hall: &Hall, doors: Vec<mpsc::UnboundedReceiver<Opened>>) -> io::Result<Vec<JoinHandle<()>>> {
    let in_hand = Arc::new(Semaphore::new(IN_HAND));
    let mut threads = Vec::with_capacity(doors.len());
    for (core, doors) in doors.into_iter().enumerate() {
        let (hall, in_hand) = (hall.clone(), in_hand.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name(format!("data-plane-{core}"))
            .spawn(move || runtime.block_on(core_main(hall, doors, in_hand)))?;
        threads.push(thread);
    }
    Ok(threads)
}

/// One core: its hallway, its doors, its connections.
async fn core_main(hall: Hall, mut doors: mpsc::UnboundedReceiver<Opened>, in_hand: Arc<Semaphore>) {
    let hall = Arc::new(hall);
    let gateway = Arc::new(Gateway::new(hall.shared.clone(), Forward::new(hall.forward.clone())));
    let service = stack(gateway, hall.audit.clone(), in_hand, hall.metrics.clone());
    let (connections, accepting) = (TaskTracker::new(), TaskTracker::new());
    let mut closing = pin!(reaches(hall.phase.clone(), Phase::Closing));
    loop {
        let opened = tokio::select! {
            Some(opened) = doors.recv() => opened,
            () = &mut closing => break,
        };
        match opened.into_listener() {
            Ok((door, listener)) => {
                accepting.spawn(accept(door, listener, hall.clone(), service.clone(), connections.clone()));
            }
            Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
        }
    }
    accepting.close();
    accepting.wait().await;
    connections.close();
    connections.wait().await;
    while !hall.forward.streams.is_empty() && *hall.phase.borrow() < Phase::Over {
        tokio::time::sleep(Duration::from_millis(20)).await; // tunnels live on this runtime
    }
}

/// Accepts at one door until it is closed or the process closes, and then whoever waits already.
async fn accept(door: Arc<Door>, listener: Listener, hall: Arc<Hall>, service: Stack, connections: TaskTracker) {
    let mut closing = pin!(reaches(hall.phase.clone(), Phase::Closing));
    let take = |(raw, from)| {
        connections.spawn(connection::serve(raw, from, door.clone(), hall.clone(), service.clone()));
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut closing => break,
            () = door.closed.cancelled() => break,
        };
        match accepted {
            Ok(accepted) => take(accepted),
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    if let ListenAt::Systemd(_) = door.at {
        return;
    }
    listener.refuse_more();
    while let Ok(Ok(accepted)) = tokio::time::timeout(Duration::from_millis(5), listener.accept()).await {
        take(accepted);
    }
}
