//! Whoever asks on one route, for Cedar, where no slice is kept: many people are asked about once.

use super::{Authorize, Matching, entities};
use crate::{
    principal::{Asker, Principal},
    route::Route,
};
use cedar_policy::Entities;
use std::cell::OnceCell;

/// Whoever asks, for Cedar. The entities are made when the first condition needs them.
pub(super) struct Asking<'a> {
    pub(super) authorize: &'a Authorize,
    pub(super) asker: Asker,
    pub(super) route: &'a Route,
    pub(super) matching: &'a Matching,
    entities: OnceCell<Entities>,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        authorize: &'a Authorize,
        principal: &Principal,
        route: &'a Route,
        matching: &'a Matching,
    ) -> Self {
        Self { authorize, asker: Asker::of(principal), route, matching, entities: OnceCell::new() }
    }

    pub(super) fn entities(&self) -> &Entities {
        let make = || self.authorize.entities(&self.asker, self.matching, entities::route(self.route));
        self.entities.get_or_init(make)
    }
}
