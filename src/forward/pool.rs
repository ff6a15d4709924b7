//! Connections to the upstreams, kept warm by one core.

use super::{idle::Idle, upload::Upload};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::{TcpStream, lookup_host};

/// Idle connections kept per upstream.
const KEPT: usize = 64;
/// How long a connection is kept without use.
const IDLE: Duration = Duration::from_secs(30);
/// How long we wait for a connection to come to rest after an answer.
const SETTLE: Duration = Duration::from_secs(1);
/// The largest head, and the most that is read ahead.
const BUFFER: usize = 128 * 1024;

/// One connection to an upstream, with the clock that watches it.
pub(super) struct Line {
    pub(super) sender: SendRequest<Upload>,
    pub(super) idle: Idle,
}

/// Idle connections by authority; the one used last is taken first.
#[derive(Default)]
pub(super) struct Pool {
    lines: Mutex<Lines>,
    swept: AtomicBool,
}

/// Idle connections with the time since when they are, the one used last at the end.
type Lines = HashMap<Arc<str>, Vec<(Line, Instant)>>;

/// Why there is no connection to an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve `{authority}`")]
    Resolve { authority: Arc<str>, source: io::Error },
    #[error("`{authority}` has no address")]
    NoAddress { authority: Arc<str> },
    #[error("cannot connect to `{address}`")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("no connection to `{authority}` within {} ms", limit.as_millis())]
    Timeout { authority: Arc<str>, limit: Duration },
    #[error("cannot start HTTP with `{authority}`")]
    Handshake { authority: Arc<str>, source: hyper::Error },
}

impl Pool {
    /// A connection that is at rest and not known to be closed.
    pub(super) fn take(&self, authority: &str) -> Option<Line> {
        let mut lines = self.lines();
        let kept = lines.get_mut(authority)?;
        while let Some((line, since)) = kept.pop() {
            if since.elapsed() < IDLE && line.sender.is_ready() && !line.sender.is_closed() {
                return Some(line);
            }
        }
        None
    }

    /// Keeps a connection whose last exchange ended well. It may still be writing its last bytes to rest.
    pub(super) fn keep(self: &Arc<Self>, authority: &Arc<str>, mut line: Line) {
        line.idle.moved();
        if line.sender.is_closed() {
            return;
        }
        if line.sender.is_ready() {
            return self.put(authority, line);
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (pool, authority) = (self.clone(), authority.clone());
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(SETTLE, line.sender.ready()).await {
                pool.put(&authority, line);
            }
        });
    }

    /// A new connection, ready for one request. Addresses are tried in turn, each with a fair part of what is left of `limit`.
    pub(super) async fn connect(self: &Arc<Self>, authority: &Arc<str>, limit: Duration) -> Result<Line, ConnectError> {
        self.sweep();
        let (sender, connection) = open(authority, limit).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "upstream connection ended");
            }
        });
        Ok(Line { sender, idle: Idle::default() })
    }

    /// How many connections are kept for an upstream.
    #[cfg(test)]
    pub(super) fn kept(&self, authority: &str) -> usize {
        self.lines().get(authority).map_or(0, |kept| kept.iter().filter(|(line, _)| !line.sender.is_closed()).count())
    }

    fn put(&self, authority: &Arc<str>, line: Line) {
        let entry = (line, Instant::now());
        let mut lines = self.lines();
        let surplus = match lines.get_mut(authority) {
            Some(kept) => {
                kept.push(entry);
                (kept.len() > KEPT).then(|| kept.remove(0))
            }
            None => {
                lines.insert(authority.clone(), vec![entry]);
                None
            }
        };
        drop(lines);
        drop(surplus); // outside the lock
    }

    /// Starts the task that lets go of connections nobody uses, once.
    fn sweep(self: &Arc<Self>) {
        if self.swept.swap(true, Ordering::Relaxed) {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 3).await;
                let Some(pool) = pool.upgrade() else { return };
                pool.lines().retain(|_, kept| {
                    kept.retain(|(line, since)| since.elapsed() < IDLE && !line.sender.is_closed());
                    !kept.is_empty()
                });
            }
        });
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new connection that nobody polls yet.
pub(super) async fn open(
    authority: &Arc<str>,
    limit: Duration,
) -> Result<(SendRequest<Upload>, http1::Connection<TokioIo<TcpStream>, Upload>), ConnectError> {
    let stream = match tokio::time::timeout(limit, reach(authority, limit)).await {
        Ok(reached) => reached?,
        Err(_) => return Err(ConnectError::Timeout { authority: authority.clone(), limit }),
    };
    let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
    handshake.map_err(|source| ConnectError::Handshake { authority: authority.clone(), source })
}

async fn reach(authority: &Arc<str>, limit: Duration) -> Result<TcpStream, ConnectError> {
    let start = Instant::now();
    let resolved = lookup_host(&**authority).await;
    let addresses: Vec<SocketAddr> =
        resolved.map_err(|source| ConnectError::Resolve { authority: authority.clone(), source })?.collect();
    let mut last = ConnectError::NoAddress { authority: authority.clone() };
    for (tried, address) in addresses.iter().enumerate() {
        let share = limit.saturating_sub(start.elapsed()) / u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|source| ConnectError::Connect { address: *address, source })?;
                return Ok(stream);
            }
            Ok(Err(source)) => last = ConnectError::Connect { address: *address, source },
            Err(_) => last = ConnectError::Timeout { authority: authority.clone(), limit },
        }
    }
    Err(last)
}
