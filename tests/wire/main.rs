//! Tests that speak over real sockets, against real programs on loopback.

mod oidc;
mod support;
