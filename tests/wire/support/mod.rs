//! What the tests stand on: programs on loopback and small clients for them.

pub(crate) mod gateway;
pub(crate) mod http1;
pub(crate) mod provider;
pub(crate) mod upstream;
