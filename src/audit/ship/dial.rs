//! Connections to sinks.

use crate::upstream::{Place, Tls};
use rustls::pki_types::ServerName;
use std::{io, time::Duration};
use tokio::{
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::either::Either;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// A peer that is gone without a word is noticed so long after the last byte.
const QUIET: Duration = Duration::from_secs(30);

/// A stream of bytes, over TCP or a Unix socket.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// Connects in clear text.
///
/// # Errors
/// What the system says, or that it took more than 10 s.
pub(super) async fn plain(place: &Place) -> io::Result<Stream> {
    let connected = async {
        match place {
            Place::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((&**host, *port)).await?;
                stream.set_nodelay(true)?;
                let alive = socket2::TcpKeepalive::new().with_time(QUIET).with_interval(QUIET / 3);
                socket2::SockRef::from(&stream).set_tcp_keepalive(&alive)?;
                Ok(Either::Left(stream))
            }
            Place::Unix { path } => Ok(Either::Right(UnixStream::connect(path).await?)),
        }
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("no connection in {} s", CONNECT.as_secs()));
    timeout(CONNECT, connected).await.unwrap_or_else(|_| Err(late()))
}

/// The name that a sink must show.
///
/// # Errors
/// If its place has none.
pub(super) fn name(tls: &Tls, place: &Place) -> io::Result<ServerName<'static>> {
    if let Some(name) = &tls.source.name {
        return Ok(name.clone());
    }
    let Place::Tcp { host, .. } = place else { return Err(io::Error::other("a socket has no name")) };
    ServerName::try_from(host.to_string()).map_err(io::Error::other)
}
