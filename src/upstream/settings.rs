//! What the configuration says of an upstream.

use super::{Address, Tls};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

/// What the configuration says of an upstream. Two that are equal share one state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamSettings {
    /// Where it is: at least one place, all of the same kind.
    pub places: Vec<Place>,
    /// How it is asked whether it is well. Default: not at all.
    pub health: Option<Health>,
    /// How it is known, where its URLs are `https`.
    pub tls: Option<Tls>,
    /// It is spoken to in HTTP/2: as the handshake says with TLS, by prior knowledge without.
    pub http2: bool,
    /// The most connections to one endpoint, over all cores. Default 1024.
    pub connections: usize,
    /// How long an endpoint that joins or comes back takes to get its full share. Default 10 s.
    pub slow_start: Duration,
    /// How many other endpoints a request that failed is sent to. Default 2.
    pub retries: u32,
}

/// One URL of an upstream.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// A host and a port.
    Tcp {
        /// A name, or an address without brackets.
        host: Arc<str>,
        /// The port.
        port: u16,
        /// Both as the URL has them, a default port left out: what the upstream takes for its own host.
        authority: Arc<str>,
    },
    /// A Unix socket.
    Unix {
        /// Its path.
        path: Arc<Path>,
    },
}

/// How an upstream is asked whether it is well.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Health {
    /// What is asked for by GET: path and perhaps a query.
    pub path: http::uri::PathAndQuery,
    /// `Host` of that request, if it is not the URL's.
    pub host: Option<Arc<str>>,
    /// Time between two questions. Default 5 s.
    pub interval: Duration,
    /// How long an answer may take. Default 2 s.
    pub timeout: Duration,
    /// Good answers in a row after which an endpoint is well. Default 2.
    pub healthy: u32,
    /// Bad answers in a row after which it is not. Default 2.
    pub unhealthy: u32,
}

impl UpstreamSettings {
    /// One host and port in clear text, and all defaults.
    pub fn plain(authority: &str) -> Self {
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "80"));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let place = Place::Tcp { host: host.into(), port: port.parse().unwrap_or(80), authority: authority.into() };
        Self {
            places: vec![place],
            health: None,
            tls: None,
            http2: false,
            connections: 1024,
            slow_start: Duration::from_secs(10),
            retries: 2,
        }
    }

    /// `https` where there is TLS, else `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// A place as a URL.
    pub fn url(&self, place: &Place) -> String {
        match place {
            Place::Tcp { authority, .. } => format!("{}://{authority}", self.scheme()),
            Place::Unix { path } => format!("unix:{}", path.display()),
        }
    }
}

impl Place {
    /// Its only address, if that is known without a look-up.
    pub fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp { host, port, .. } => {
                host.parse::<IpAddr>().ok().map(|address| Address::Tcp(SocketAddr::new(address, *port)))
            }
            Self::Unix { path } => Some(Address::Unix(path.clone())),
        }
    }

    /// What the upstream takes for its own host: that of the URL, `localhost` for a socket.
    pub fn authority(&self) -> &str {
        match self {
            Self::Tcp { authority, .. } => authority,
            Self::Unix { .. } => "localhost",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}
