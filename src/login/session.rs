//! Who am I, until when, and for a while longer.

use super::{Login, Visit};
use crate::{
    answer,
    body::Body,
    refusal::{Reason, Refusal},
    session::{Live, live::Clock, record::seconds},
};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::{sync::Arc, time::SystemTime};

impl Login {
    /// Who is signed in, and until when. Asking does not count as activity (P10).
    pub(super) async fn session(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if !matches!(visit.asked.method, Method::GET | Method::HEAD) {
            return Err(Refusal::new(Reason::Method, "This address is for GET only.").closing());
        }
        let live = self.visitor(visit).await?.ok_or_else(nobody)?;
        Ok(answer::json(StatusCode::OK, "application/json", &self.told(&live, visit.now)))
    }

    /// Counts as activity, and refreshes what can be refreshed: for a page whose person is there and does not navigate.
    pub(super) async fn renew(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        if visit.asked.method != Method::POST {
            return Err(Refusal::new(Reason::Method, "A session is renewed by POST.").closing());
        }
        let live = self.visitor(visit).await?.ok_or_else(nobody)?;
        if visit.asked.crosses_site(&[]) {
            let sentence = "Only a page of this site can renew your session.";
            return Err(Refusal::new(Reason::CrossSite, sentence).closing());
        }
        if live.touch(visit.now) {
            self.control.save_activity(&live);
        }
        if self.control.clock(&live, visit.now) == Clock::RefreshAhead
            && let Err(error) = self.control.refresh(&live).await
        {
            tracing::debug!(session = %live.hash, %error, "not refreshed while renewed");
        }
        if live.is_ended() {
            return Err(nobody());
        }
        Ok(answer::json(StatusCode::OK, "application/json", &self.told(&live, visit.now)))
    }

    fn told(&self, live: &Arc<Live>, now: SystemTime) -> Value {
        let person = &live.session.person;
        let left = |end: SystemTime| end.duration_since(now).unwrap_or_default().as_secs();
        let ends = self.control.ends(live);
        json!({
            "user": person.id.to_string(),
            "provider": person.id.provider.as_str(),
            "subject": &*person.id.subject,
            "login": &*person.login,
            "name": person.name.as_deref(),
            "email": person.email.as_deref(),
            "ends": seconds(ends),
            "ends_in": left(ends),
            "absolute_end": seconds(live.session.end),
            "absolute_end_in": left(live.session.end),
        })
    }
}

fn nobody() -> Refusal {
    Refusal::new(Reason::NoSession, "Nobody is signed in here.")
}
