//! What an administrator would do in GitLab's pages, for the command line: `/demo/…`.

use super::{Asked, Person, Provider, with_cookie};
use crate::{
    body::Body,
    demo::{
        people::ChangeError,
        server::{json, text},
    },
};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::SystemTime;

impl Provider {
    /// Answers one request below `/demo/`.
    pub(super) fn admin(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let (method, path) = asked.what();
        match (method, path.trim_start_matches("/demo/").split('/').collect::<Vec<_>>().as_slice()) {
            (&Method::GET, ["people"]) => {
                let people: Vec<Value> = self.state().people.all().iter().map(described).collect();
                json(StatusCode::OK, &Value::Array(people))
            }
            (&Method::GET, ["as", login]) => self.become_person(login, now),
            (&Method::GET, ["job"]) => self.job(asked, now),
            (&Method::POST, ["people", login, act]) => self.change(asked, login, act),
            _ => text(StatusCode::NOT_FOUND, "the demo GitLab has no such act\n"),
        }
    }

    /// Signs this browser or cookie jar in, without a page.
    fn become_person(&self, login: &str, now: SystemTime) -> Response<Body> {
        match self.state().begin_session(login, now) {
            Some(cookie) => {
                with_cookie(text(StatusCode::OK, format!("signed in at the demo GitLab as {login}\n")), &cookie)
            }
            None => text(StatusCode::NOT_FOUND, "there is no such person, or the person is blocked\n"),
        }
    }

    fn change(&self, asked: &Asked, login: &str, act: &str) -> Response<Body> {
        let query = asked.query();
        let group = query.get("group").unwrap_or_default();
        let mut state = self.state();
        let Some(person) = state.people.named_mut(login) else {
            return nobody();
        };
        let changed = match act {
            "leave" => person.leave(group),
            "join" => person.join(group, query.get("role").unwrap_or("developer")),
            "block" | "unblock" => {
                person.blocked = act == "block";
                Ok(())
            }
            _ => return text(StatusCode::NOT_FOUND, "expected leave, join, block or unblock\n"),
        };
        match changed {
            Ok(()) => json(StatusCode::OK, &described(person)),
            Err(error @ ChangeError::NotMember { .. }) => text(StatusCode::CONFLICT, format!("{error}\n")),
            Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }
}

/// There is nobody of this login.
pub(super) fn nobody() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "there is no such person: expected ada, ben, cleo or dan\n")
}

fn described(person: &Person) -> Value {
    let memberships: serde_json::Map<_, _> =
        person.direct.iter().map(|(group, role)| ((*group).to_owned(), json!(role.as_str()))).collect();
    json!({
        "id": person.id, "login": person.login, "name": person.name, "blocked": person.blocked,
        "memberships": memberships, "groups": person.groups(),
    })
}
