//! GitLab beyond OpenID Connect: its REST API, its hooks, and the token that we hold there.
//!
//! Knows nothing of sessions, requests and policies.

pub mod api;
pub mod hook;

pub use api::{Api, ApiError, Member};
pub use hook::{Hook, HookError};
