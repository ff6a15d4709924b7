//! Vestibule is an OIDC identity-aware reverse proxy: it signs people in, turns their group
//! membership into Cedar policies, forwards what is permitted and records every decision.
//!
//! The life of a request is one function, [`gateway::Gateway::walk`]; read that first.

pub mod admin;
pub mod answer;
pub mod audit;
pub mod authorize;
pub mod body;
pub mod canonical;
pub mod cli;
pub mod config;
pub mod control;
pub mod cookie;
pub mod cors;
pub mod credential;
pub mod demo;
pub mod envelope;
pub mod fairness;
pub mod finding;
pub mod forward;
pub mod gateway;
pub mod gitlab;
pub mod group;
pub mod guid;
pub mod identify;
pub mod inspect;
pub mod listener;
pub mod login;
pub mod membership;
pub mod metrics;
pub mod moment;
pub mod oidc;
pub mod pages;
pub mod principal;
pub mod refusal;
pub mod reload;
pub mod review;
pub mod route;
pub mod session;
pub mod text;
pub mod upstream;
pub mod vigil;
