//! Decides by Cedar policies. Pure: no hyper, no tokio, no clock of its own.

use crate::{
    canonical::Judged,
    config::{ProviderSettings, RouteSettings},
    principal::Principal,
    refusal::Note,
    route::Route,
};
use std::{path::Path, sync::Arc, time::SystemTime};

/// One generation of policies, ready to decide with.
pub struct Authorize {
    digest: Arc<str>,
}

/// What a decision says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Outcome {
    /// A policy permits, none forbids.
    Permitted,
    /// A policy forbids.
    Forbidden,
    /// No policy permits.
    NotPermitted,
    /// It hinges on groups, and nobody can say which.
    MembershipUnknown,
    /// A policy could not be evaluated.
    Failed,
}

/// A decision, and what it rests on.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What it says.
    pub outcome: Outcome,
    /// The `@id`s of the policies that determined it; empty where nothing permits.
    pub policies: Arc<[Arc<str>]>,
    /// What the authors say to those refused: forbids that applied, or permits that would have needed more.
    pub notes: Arc<[Note]>,
    /// Digest of the whole policy set, in hex.
    pub digest: Arc<str>,
    /// A deny that membership could change: worth one re-read.
    pub hinges_on_groups: bool,
}

impl Decision {
    /// True if the request may go on.
    pub fn permits(&self) -> bool {
        self.outcome == Outcome::Permitted
    }
}

/// What is wrong with a policy, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct PolicyError {
    /// `policies/portal.cedar:12:3`, or the configuration key it comes from.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Authorize {
    /// Loads `*.cedar` below `policies`, expands `allow:` of the routes, validates strictly and prepares the slices.
    ///
    /// # Errors
    /// Every mistake, each with its place.
    pub fn load(
        policies: Option<&Path>,
        routes: &[RouteSettings],
        providers: &[Arc<ProviderSettings>],
    ) -> Result<Self, Vec<PolicyError>> {
        let _ = (policies, routes, providers);
        unimplemented!()
    }

    /// Digest of the whole policy set, in hex.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// The ids of all policies.
    pub fn ids(&self) -> std::collections::BTreeSet<Arc<str>> { Default::default() }

    /// Decides one request.
    pub fn decide(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Decision {
        let _ = (principal, judged, route, now);
        unimplemented!()
    }
}
