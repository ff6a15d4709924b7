//! The button "Check again" of a page that refuses somebody: reads their groups anew, at once.

use super::{
    Login, Visit,
    sign_in::{only_get, parameter},
    to::Return,
};
use crate::{answer, body::Body, refusal::Refusal};
use http::{Response, StatusCode};

impl Login {
    /// Reads the person's groups anew and leads back to the page that was refused, which is decided about with them (P57).
    ///
    /// # Errors
    /// `StoreUnavailable`, `ProviderUnavailable`; nobody's groups are not read, and nobody is told so by the page itself.
    pub(super) async fn check_again(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let to = Return::parse(parameter(query, "to").as_deref(), None);
        if let Some(live) = self.visitor(visit).await? {
            self.membership.check_again(&live, visit.now).await;
        }
        Ok(answer::redirect(StatusCode::SEE_OTHER, to.as_str()))
    }
}
