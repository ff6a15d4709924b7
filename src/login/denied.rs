//! Why something behind us says no, as far as we can tell.

use super::{Login, Visit, sign_in::only_get};
use crate::{
    answer,
    body::Body,
    pages,
    refusal::{Reason, Refusal},
};
use http::{Response, StatusCode};

impl Login {
    /// Which entity of Backstage's catalog the person is taken for, for its front end to lead to when there is none (P67).
    pub(super) async fn denied(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        let nobody = || Refusal::new(Reason::NoSession, "Nobody is signed in here.");
        let live = self.visitor(visit).await?.ok_or_else(nobody)?;
        let person = &live.session.person;
        let template = visit.routes.of(&visit.asked.host).find_map(|route| route.backstage_user.as_ref());
        let Some(template) = template else {
            return Err(Refusal::new(Reason::NotFound, "No route of this host has a `backstage_user`."));
        };
        let title = visit.settings.provider_title(&person.id.provider);
        let entity = template.of(person);
        let contact = visit.settings.contact.as_ref().map(|contact| (&*contact.name, contact.url.as_str()));
        let page = pages::no_backstage_user(&person.login, title, entity.as_deref(), contact);
        Ok(answer::page(StatusCode::FORBIDDEN, page))
    }
}
