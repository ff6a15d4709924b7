//! The sockets that connections come by, under one type.

use super::limits::Place;
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A connection as the kernel has it.
pub enum Raw {
    /// TCP.
    Tcp(TcpStream),
    /// A socket of the file system.
    Unix(UnixStream),
}

/// How bytes pass on a connection.
pub enum Wire {
    /// In clear text.
    Plain(Raw),
    /// Through TLS.
    Tls(Box<TlsStream<Raw>>),
}

/// A connection that HTTP can be spoken on, with its place among all, which it keeps when it becomes a tunnel.
pub struct Stream {
    wire: Wire,
    place: Place,
    over: CancellationToken,
}

impl Stream {
    /// This connection, until `over` is cancelled.
    pub(super) fn new(wire: Wire, place: Place, over: CancellationToken) -> Self {
        Self { wire, place, over }
    }

    /// The same as a tunnel, which breaks off when it is over.
    pub(super) fn into_tunnel(self) -> Tunnel {
        Tunnel { wire: self.wire, _place: self.place, over: Box::pin(self.over.cancelled_owned()) }
    }
}

/// A connection that speaks no HTTP any more.
pub(super) struct Tunnel {
    wire: Wire,
    _place: Place,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AsyncRead for Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl Raw {
    /// Sends small answers at once.
    pub(super) fn prepare(&self) {
        if let Self::Tcp(stream) = self {
            let _ = stream.set_nodelay(true); // slower without, not wrong
        }
    }
}

/// Where a connection came from, as the kernel says; none for a socket of the file system.
pub(super) type From = Option<SocketAddr>;

macro_rules! delegate {
    ($type:ty { $($variant:ident),* }) => {
        impl AsyncRead for $type {
            fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match &mut *self { $(Self::$variant(inner) => Pin::new(inner).poll_read(cx, into)),* }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                match &mut *self { $(Self::$variant(inner) => Pin::new(inner).poll_write(cx, bytes)),* }
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match &mut *self { $(Self::$variant(inner) => Pin::new(inner).poll_write_vectored(cx, bytes)),* }
            }

            fn is_write_vectored(&self) -> bool {
                match self { $(Self::$variant(inner) => inner.is_write_vectored()),* }
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut *self { $(Self::$variant(inner) => Pin::new(inner).poll_flush(cx)),* }
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match &mut *self { $(Self::$variant(inner) => Pin::new(inner).poll_shutdown(cx)),* }
            }
        }
    };
}

delegate!(Raw { Tcp, Unix });
delegate!(Wire { Plain, Tls });

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

macro_rules! writes_to_its_wire {
    ($($type:ty),*) => {
        $(impl AsyncWrite for $type {
            fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.wire).poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.wire).poll_write_vectored(cx, bytes)
            }

            fn is_write_vectored(&self) -> bool {
                self.wire.is_write_vectored()
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.wire).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.wire).poll_shutdown(cx)
            }
        })*
    };
}

writes_to_its_wire!(Stream, Tunnel);
