//! A person's own sessions: where they are signed in, and a way to end that.

use super::{Login, Visit, sign_in::parameter};
use crate::{
    answer,
    audit::rfc3339,
    body::Body,
    control::Listed,
    moment::to_the_second,
    pages::{self, SessionLine},
    refusal::{Reason, Refusal},
    session::{Live, StoreError, log::millis},
};
use http::{Method, Response, StatusCode};
use std::{sync::Arc, time::SystemTime};

/// Where people see their sessions, on every host.
const PATH: &str = "/.vestibule/sessions";
/// So many are shown; all of them can be ended.
const SHOWN: usize = 100;

impl Login {
    /// GET shows, POST from a page of ours ends: one (`end`), or all but this one (`others`).
    pub(super) async fn sessions(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let nobody = || Refusal::new(Reason::NoSession, "Nobody is signed in here.");
        match visit.asked.method {
            Method::GET | Method::HEAD => {
                let live = self.visitor(visit).await?.ok_or_else(nobody)?;
                self.show_sessions(&live, visit).await
            }
            Method::POST => {
                if visit.asked.crosses_site(&[]) {
                    let sentence = "Only a page of this site can end your sessions: use its buttons.";
                    return Err(Refusal::new(Reason::CrossSite, sentence).closing());
                }
                let live = self.visitor(visit).await?.ok_or_else(nobody)?;
                self.end_sessions(&live, visit).await
            }
            _ => Err(Refusal::new(Reason::Method, "Sessions are shown by GET and ended by POST.").closing()),
        }
    }

    async fn show_sessions(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let own = self.control.own(live, visit.now).await.map_err(unavailable)?;
        let more = own.len().saturating_sub(SHOWN);
        let (here, others): (Vec<_>, Vec<_>) = own.into_iter().partition(|one| one.session.key == live.key());
        let lines: Vec<_> = here.iter().chain(&others).take(SHOWN).map(|one| line(one, live)).collect();
        let person = &live.session.person;
        let title = visit.settings.provider_title(&person.id.provider);
        Ok(answer::page(StatusCode::OK, pages::sessions(&person.login, title, &lines, more)))
    }

    async fn end_sessions(&self, live: &Arc<Live>, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let (this, one) = (live.key(), parameter(query, "end").map(|hash| hash.into_owned()));
        if one.as_deref() == Some(&*live.hash) {
            return Ok(answer::redirect(StatusCode::SEE_OTHER, "/.vestibule/sign-out"));
        }
        let others = parameter(query, "others").is_some();
        if one.is_none() && !others {
            return Err(Refusal::new(Reason::BadRequest, "It is not said which sessions are to end."));
        }
        let is_meant = move |session: &crate::session::Session| {
            session.key != this && one.as_ref().is_none_or(|one| **one == *session.key.hash())
        };
        self.control.end_own(live, is_meant, visit.now).await.map_err(unavailable)?;
        Ok(answer::redirect(StatusCode::SEE_OTHER, PATH))
    }
}

fn unavailable(error: StoreError) -> Refusal {
    Refusal::new(Reason::StoreUnavailable, "Your sessions cannot be looked up right now.").because(error)
}

fn line(one: &Listed, live: &Live) -> SessionLine {
    let session = &one.session;
    SessionLine {
        id: session.key.hash(),
        device: session.device.as_deref().map_or_else(|| "An unknown device".to_owned(), device),
        began: moment(session.created),
        seen: moment(session.seen),
        this: session.key == live.key(),
    }
}

/// For machines and for people: `2026-11-25T14:30:00Z`, `2026-11-25 14:30 UTC`.
fn moment(time: SystemTime) -> (String, String) {
    let text = rfc3339(millis(time));
    let part = |from, to| text.get(from..to).unwrap_or_default();
    (to_the_second(time), format!("{} {} UTC", part(0, 10), part(11, 16)))
}

/// What people call such a device, as far as it says; else what it calls itself.
fn device(agent: &str) -> String {
    const BROWSERS: [(&str, &str); 6] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("Firefox/", "Firefox"),
        ("FxiOS/", "Firefox"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("Windows", "Windows"),
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("CrOS", "ChromeOS"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find =
        |list: &[(&str, &'static str)]| list.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name);
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        _ if agent.trim().is_empty() => "An unknown device".to_owned(),
        _ => agent.chars().take(80).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_called_as_people_call_it() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Safari/537.36 Edg/142.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Version/18.1 Mobile/15E148 Safari/604.1",
                "Safari on iPhone",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.11.0", "curl/8.11.0"),
            ("", "An unknown device"),
        ] {
            assert_eq!(device(agent), expected);
        }
    }

    #[test]
    fn a_moment_is_told_to_people_and_machines() {
        let told = moment(crate::session::log::moment(1_795_416_594_250));
        assert_eq!(told, ("2026-11-23T06:49:54Z".to_owned(), "2026-11-23 06:49 UTC".to_owned()));
    }
}
