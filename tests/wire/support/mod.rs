//! What the tests stand on: programs on loopback and small clients for them.

pub(crate) mod provider;
