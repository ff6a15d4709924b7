//! Tests that speak over real sockets, against real programs on loopback.

mod errors;
mod hygiene;
mod oidc;
mod providers;
mod refusals;
mod reload;
mod sessions;
mod sign_in;
mod streams;
mod support;
