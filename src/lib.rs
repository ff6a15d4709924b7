//! Vestibule is an OIDC identity-aware reverse proxy: it signs people in, turns their group
//! membership into Cedar policies, forwards what is permitted and records every decision.
//!
//! The life of a request is one function, [`gateway::Gateway::walk`]; read that first.

pub mod audit;
pub mod authorize;
pub mod body;
pub mod canonical;
pub mod cli;
pub mod config;
pub mod demo;
pub mod forward;
pub mod group;
pub mod oidc;
pub mod principal;
pub mod refusal;
pub mod route;
