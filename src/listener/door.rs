//! The places where we listen: opened at the start, changed by a reload, closed when their queue is empty.

use super::{
    socket::{From, Raw},
    tls::TlsWay,
};
use crate::config::{Listen, ListenAt, Settings, Tls};
use arc_swap::ArcSwap;
use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// How many connections wait to be accepted.
const BACKLOG: i32 = 4096;

/// Who may open a socket of the file system: its owner and group.
const MODE: u32 = 0o660;

/// One place where we listen.
pub struct Door {
    /// Where.
    pub at: ListenAt,
    /// How connections are spoken on from now on.
    pub(super) way: ArcSwap<Way>,
    /// Cancelled when the place is not listened at any more.
    pub(super) closed: CancellationToken,
    _file: Option<SocketFile>,
}

/// How a connection is begun.
pub(super) struct Way {
    pub(super) tls: Option<TlsWay>,
    pub(super) proxy_protocol: bool,
    /// Cancelled when connections that were begun so must end.
    pub(super) over: CancellationToken,
}

/// A listening socket that no core has taken yet.
enum Waiting {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

/// A listening socket of one core.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A door that a core is to accept at.
pub struct Opened {
    pub(super) door: Arc<Door>,
    listener: Waiting,
}

/// What opens and closes doors. Each core gets a listening socket of its own for each of them.
pub struct Doors {
    cores: Vec<mpsc::UnboundedSender<Opened>>,
    open: Mutex<Vec<Arc<Door>>>,
    held: Mutex<Held>,
}

/// The sockets that systemd passed to us, by name.
struct Held {
    sockets: ListenFd,
    names: Vec<String>,
}

/// The file of a socket, taken away with it.
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

/// A door that can be opened, with a listening socket for each core.
type Ready = (Arc<Door>, Vec<Waiting>);

impl Doors {
    /// Opens all listeners of `settings`, and gives each core the end at which it learns of doors.
    ///
    /// # Errors
    /// One line that says which place cannot be listened at, and what to do.
    pub fn open(settings: &Settings) -> Result<(Self, Vec<mpsc::UnboundedReceiver<Opened>>), String> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let held = Held {
            sockets: ListenFd::from_env(),
            names: names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        };
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..settings.workers.max(1)).map(|_| mpsc::unbounded_channel()).unzip();
        let doors = Self { cores: senders, open: Mutex::default(), held: Mutex::new(held) };
        doors.change(settings)?;
        Ok((doors, receivers))
    }

    /// Opens what is new, changes what stays, and closes the rest. Nothing is changed if something new cannot be opened.
    ///
    /// # Errors
    /// One line that says which place cannot be listened at, and what to do.
    pub fn change(&self, settings: &Settings) -> Result<(), String> {
        let listen = &settings.listen;
        let mut open = self.lock();
        let at_start = open.is_empty();
        let stays = |listen: &Listen| open.iter().find(|door| door.at == listen.at).cloned();
        let (mut ready, mut ways) = (Vec::new(), Vec::new());
        for listen in listen {
            match stays(listen) {
                Some(door) => ways.push((Way::of(listen, Some(&door.way.load()))?, door)),
                None => ready.push(self.ready(listen, settings.loopback_http)?),
            }
        }
        for (way, door) in ways {
            if let Some(way) = way {
                let before = door.way.swap(Arc::new(way));
                if before.asks_for_certificates() {
                    before.over.cancel(); // they were verified by authorities that may be gone
                }
            }
        }
        let (kept, gone): (Vec<_>, Vec<_>) =
            open.drain(..).partition(|door| listen.iter().any(|listen| listen.at == door.at));
        *open = kept;
        for door in gone {
            tracing::info!(address = %door.at, "not listening here any more");
            door.closed.cancel();
        }
        for (door, listeners) in ready {
            if !at_start {
                tracing::info!(address = %door.at, tls = door.way.load().tls.is_some(), "listening here from now on");
            }
            for (core, listener) in self.cores.iter().zip(listeners) {
                let _ = core.send(Opened { door: door.clone(), listener }); // a core that is gone listens no more
            }
            open.push(door);
        }
        Ok(())
    }

    fn ready(&self, listen: &Listen, loopback: bool) -> Result<Ready, String> {
        let refused = |error: io::Error| {
            format!("cannot listen on {}: {error}: stop what listens there, or change `listen`", listen.at)
        };
        let way = Way::of(listen, None)?.ok_or("a listener has no way")?;
        let (listeners, file) = match &listen.at {
            ListenAt::Tcp(address) => (self.tcp(*address).map_err(refused)?, None),
            ListenAt::Unix(path) => {
                let (listener, file) = unix(path).map_err(refused)?;
                (shared(Waiting::Unix(listener), self.cores.len()).map_err(refused)?, Some(file))
            }
            ListenAt::Systemd(name) => {
                let listener = self.passed(name.as_deref(), loopback)?;
                (shared(listener, self.cores.len()).map_err(refused)?, None)
            }
        };
        let door = Door {
            at: listen.at.clone(),
            way: ArcSwap::from_pointee(way),
            closed: CancellationToken::new(),
            _file: file,
        };
        Ok((Arc::new(door), listeners))
    }

    /// One socket for each core, so that the kernel shares the connections out.
    fn tcp(&self, address: SocketAddr) -> io::Result<Vec<Waiting>> {
        probe(address)?;
        let first = bind(address)?;
        let address = first.local_addr()?; // where the port was left to the kernel, all get the same
        let mut all = vec![Waiting::Tcp(first)];
        while all.len() < self.cores.len() {
            all.push(Waiting::Tcp(bind(address)?));
        }
        Ok(all)
    }

    /// A socket that systemd passed to us, whatever its kind.
    fn passed(&self, name: Option<&str>, loopback: bool) -> Result<Waiting, String> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match name {
            None if held.sockets.len() <= 1 => Some(0),
            None => return Err(format!("systemd passed {} sockets: say which by `systemd:NAME`", held.sockets.len())),
            Some(name) => held.names.iter().position(|one| one == name),
        };
        let missing = || {
            let passed = if held.names.is_empty() { "none".to_owned() } else { held.names.join(", ") };
            let wanted = name.unwrap_or("systemd");
            format!(
                "no socket `{wanted}` was passed to us ({passed}): start through the unit's `.socket`, with `FileDescriptorName={wanted}`"
            )
        };
        let place = place.filter(|place| *place < held.sockets.len()).ok_or_else(missing)?;
        if let Ok(Some(listener)) = held.sockets.take_tcp_listener(place) {
            let address = listener.local_addr().map_err(|error| error.to_string())?;
            if loopback && !address.ip().is_loopback() {
                return Err(format!(
                    "systemd's socket listens on {address}, and `public_url` is plain http, which never leaves this machine: let it listen on 127.0.0.1, or write an `https` URL"
                ));
            }
            return Ok(Waiting::Tcp(listener));
        }
        match held.sockets.take_unix_listener(place) {
            Ok(Some(listener)) => {
                let address = listener.local_addr().map_err(|error| error.to_string())?;
                let mode = address
                    .as_pathname()
                    .and_then(|path| fs::metadata(path).ok())
                    .map_or(0, |about| about.permissions().mode());
                if mode & 0o002 != 0 {
                    return Err("everybody may open systemd's socket, and whoever opens it is trusted as a proxy is: set `SocketMode=0660`".to_owned());
                }
                Ok(Waiting::Unix(listener))
            }
            Ok(None) => Err("this socket of systemd was in use before: restart for that".to_owned()),
            Err(error) => Err(format!("a socket that systemd passed cannot be listened at: {error}")),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Door>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Way {
    fn asks_for_certificates(&self) -> bool {
        self.tls.as_ref().is_some_and(TlsWay::asks_for_certificates)
    }

    /// The way of `listen`; none if `before` is the same already.
    fn of(listen: &Listen, before: Option<&Self>) -> Result<Option<Self>, String> {
        let same_tls = |tls: &Option<Arc<Tls>>, way: &Self| match (tls, &way.tls) {
            (Some(tls), Some(way)) => way.is(tls),
            (None, None) => true,
            _ => false,
        };
        if before.is_some_and(|way| way.proxy_protocol == listen.proxy_protocol && same_tls(&listen.tls, way)) {
            return Ok(None);
        }
        let tls = listen.tls.as_deref().map(TlsWay::new).transpose()?;
        Ok(Some(Self { tls, proxy_protocol: listen.proxy_protocol, over: CancellationToken::new() }))
    }
}

impl Opened {
    /// Makes the socket one of this runtime.
    pub(super) fn into_listener(self) -> io::Result<(Arc<Door>, Listener)> {
        let listener = match self.listener {
            Waiting::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Tcp(TcpListener::from_std(listener)?)
            }
            Waiting::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Listener::Unix(UnixListener::from_std(listener)?)
            }
        };
        Ok((self.door, listener))
    }
}

impl Listener {
    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<(Raw, From)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, from)| (Raw::Tcp(stream), Some(from))),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| (Raw::Unix(stream), None)),
        }
    }

    /// Lets no connection more into the queue, so that it can be emptied. A client that is turned away meanwhile tries again
    /// by itself, as for every lost packet. Not for a socket that systemd holds, whose queue is for whoever comes next.
    pub(super) fn refuse_more(&self) {
        let _ = match self {
            Self::Tcp(listener) => SockRef::from(listener).listen(0),
            Self::Unix(listener) => SockRef::from(listener).listen(0),
        };
    }
}

/// The same socket for every core: the one that wakes first accepts.
fn shared(listener: Waiting, cores: usize) -> io::Result<Vec<Waiting>> {
    let mut all = Vec::with_capacity(cores);
    while all.len() + 1 < cores {
        all.push(match &listener {
            Waiting::Tcp(listener) => Waiting::Tcp(listener.try_clone()?),
            Waiting::Unix(listener) => Waiting::Unix(listener.try_clone()?),
        });
    }
    all.push(listener);
    Ok(all)
}

/// A listening socket that other cores can listen on beside this one.
fn bind(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Fails if another process listens on `address`, which a shared port would hide.
fn probe(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// Listens on a socket of the file system. One that nobody listens on any more is replaced.
fn unix(path: &Path) -> io::Result<(StdUnixListener, SocketFile)> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    if is_socket && StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        fs::remove_file(path)?;
    }
    let listener = StdUnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    SockRef::from(&listener).listen(BACKLOG)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((listener, SocketFile { path: path.to_owned(), inode }))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|about| about.ino() == self.inode) {
            let _ = fs::remove_file(&self.path); // whoever comes next replaces it
        }
    }
}
