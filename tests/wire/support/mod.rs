//! What the tests stand on: programs on loopback and small clients for them.

pub(crate) mod canary;
pub(crate) mod gateway;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod person;
pub(crate) mod provider;
pub(crate) mod tls;
pub(crate) mod upstream;
