//! A new connection to an endpoint: TCP, TLS or a Unix socket, and HTTP on it.

use super::{
    multi::UNTOLD,
    strict::{Control, Strict},
    upload::Upload,
};
use crate::upstream::{Address, Endpoint, Place, UpstreamSettings, is_http2};
use hyper::{
    body::Body,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The largest head, and the most that is read ahead.
const BUFFER: usize = 32 * 1024;
/// How often the other end of an HTTP/2 connection has to show that it is there, while it owes us something.
const PING: Duration = Duration::from_secs(20);
/// How long it may take for that.
const PONG: Duration = Duration::from_secs(10);

/// Why there is no connection to an upstream.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve `{place}`")]
    Resolve { place: Place, source: io::Error },
    #[error("no endpoint of `{place}` is left")]
    Nowhere { place: Place },
    #[error("cannot connect to `{address}`")]
    Connect { address: Address, source: io::Error },
    #[error("no TLS with `{place}` at `{address}`")]
    Tls { place: Place, address: Address, source: io::Error },
    #[error("no connection to `{address}` within {} ms", limit.as_millis())]
    Timeout { address: Address, limit: Duration },
    #[error("`{place}` was not resolved within {} ms", limit.as_millis())]
    Unresolved { place: Place, limit: Duration },
    #[error("all {most} connections to `{address}` are in use, and none came free within {} ms", limit.as_millis())]
    Full { address: Address, most: usize, limit: Duration },
    #[error("cannot start HTTP with `{address}`")]
    Handshake { address: Address, source: hyper::Error },
    #[error("`{place}` is spoken to in HTTP/2 only, which has no WebSocket here")]
    OnlyHttp2 { place: Place },
}

/// A stream to an endpoint.
pub(super) enum Wire {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// A stream to an endpoint, and whether HTTP/2 is spoken on it. `http2` is what may be spoken.
pub(super) async fn dial(
    endpoint: &Endpoint,
    settings: &UpstreamSettings,
    http2: bool,
) -> Result<(Wire, bool), ConnectError> {
    let refused = |source| ConnectError::Connect { address: endpoint.address.clone(), source };
    let stream = match &endpoint.address {
        Address::Unix(path) => return Ok((Wire::Unix(UnixStream::connect(path).await.map_err(refused)?), http2)),
        Address::Tcp(address) => TcpStream::connect(address).await.map_err(refused)?,
    };
    stream.set_nodelay(true).map_err(refused)?;
    let Some(tls) = &settings.tls else { return Ok((Wire::Tcp(stream), http2)) };
    let failed =
        |source| ConnectError::Tls { place: endpoint.place.clone(), address: endpoint.address.clone(), source };
    let name = match (&tls.source.name, &endpoint.place) {
        (Some(name), _) => name.clone(),
        (None, Place::Tcp { host, .. }) => {
            ServerName::try_from(host.to_string()).map_err(io::Error::other).map_err(failed)?
        }
        (None, Place::Unix { .. }) => return Err(failed(io::ErrorKind::Unsupported.into())),
    };
    let stream = TlsConnector::from(tls.config(http2)).connect(name, stream).await.map_err(failed)?;
    let chosen = is_http2(stream.get_ref().1.alpn_protocol());
    Ok((Wire::Tls(Box::new(stream)), chosen))
}

/// HTTP/1.1 on one stream, read strictly.
pub(super) type Http1 = (http1::SendRequest<Upload>, http1::Connection<TokioIo<Strict<Wire>>, Upload>, Arc<Control>);

/// Starts HTTP/1.1 on a stream.
pub(super) async fn http1(endpoint: &Endpoint, wire: Wire) -> Result<Http1, ConnectError> {
    let control = Arc::<Control>::default();
    let strict = Strict::new(wire, control.clone());
    let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(strict)).await;
    let (sender, connection) =
        handshake.map_err(|source| ConnectError::Handshake { address: endpoint.address.clone(), source })?;
    Ok((sender, connection, control))
}

/// HTTP/2 on one stream.
pub(super) type Http2<B> = (http2::SendRequest<B>, Connection2<B>);

/// What drives it.
pub(super) type Connection2<B> = http2::Connection<TokioIo<Wire>, B, TokioExecutor>;

/// Starts HTTP/2 on a stream.
pub(super) async fn http2<B>(endpoint: &Endpoint, wire: Wire) -> Result<Http2<B>, ConnectError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let handshake = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .initial_max_send_streams(UNTOLD)
        .max_header_list_size(64 * 1024)
        .handshake(TokioIo::new(wire))
        .await;
    handshake.map_err(|source| ConnectError::Handshake { address: endpoint.address.clone(), source })
}

macro_rules! each {
    ($self:ident, $stream:ident => $does:expr) => {
        match $self.get_mut() {
            Wire::Tcp($stream) => $does,
            Wire::Tls($stream) => $does,
            Wire::Unix($stream) => $does,
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
