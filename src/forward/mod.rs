//! To the upstream and back: identity headers, the signed assertion, a pool per core, streaming, upgrades.

use crate::{
    audit::{Crossing, Permit},
    body::Body,
    canonical::Judged,
    principal::Principal,
    refusal::Refusal,
    route::Route,
};
use http::Response;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::sync::Arc;

pub mod streams;

/// Forwards from one core: its own connections to the upstreams.
pub struct Forward {}

impl Forward {
    /// Sends a permitted request upstream and returns the answer, whose body streams.
    ///
    /// # Errors
    /// `UpstreamFailed`, `UpstreamTimeout`, `ClientTimeout`.
    #[allow(clippy::too_many_arguments)]
    pub async fn send(
        &self,
        permit: Permit,
        principal: &Principal,
        judged: Judged,
        body: Incoming,
        upgrade: Option<OnUpgrade>,
        route: &Arc<Route>,
        crossing: &Crossing,
        cut: Option<streams::Registered>,
    ) -> Result<Response<Body>, Refusal> {
        let _ = (permit, principal, judged, body, upgrade, route, crossing, cut);
        unimplemented!()
    }
}
