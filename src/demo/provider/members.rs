//! The part of GitLab's REST API that tells memberships, and about the service token that asks; paged as GitLab pages.

use super::{Asked, Person, Provider, claims::bearer};
use crate::{
    body::Body,
    demo::{
        people::{GROUPS, People},
        server::json,
    },
};
use aws_lc_rs::constant_time;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

/// The number of the first group; a group's id is this plus its place in the list.
const FIRST_GROUP: usize = 40;

impl Provider {
    /// Answers one request below `/api/v4/`.
    pub(super) fn members(&self, asked: &Asked) -> Response<Body> {
        if !self.knows_service(asked) {
            return message(StatusCode::UNAUTHORIZED, "401 Unauthorized");
        }
        if asked.head.method != Method::GET {
            return message(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed");
        }
        let state = self.state();
        let below = asked.head.uri.path().trim_start_matches("/api/v4/");
        match below.split('/').collect::<Vec<_>>()[..] {
            ["personal_access_tokens", "self"] => json(StatusCode::OK, &about_token()),
            ["groups", group] => found(group_path(group).map(|group| self.group(group))),
            ["users", id] => found(person(&state.people, id).map(|person| self.user(person))),
            ["groups", group, "members", "all"] => match group_path(group) {
                Some(group) => {
                    let all = state.people.all().iter().filter_map(|person| self.member(person, group)).collect();
                    self.page(asked, all)
                }
                None => message(StatusCode::NOT_FOUND, "404 Group Not Found"),
            },
            ["groups", group, "members", "all", id] => {
                let person = person(&state.people, id);
                found(group_path(group).zip(person).and_then(|(group, person)| self.member(person, group)))
            }
            _ => message(StatusCode::NOT_FOUND, "404 Not Found"),
        }
    }

    fn knows_service(&self, asked: &Asked) -> bool {
        let given = asked.header("private-token").or_else(|| bearer(asked)).unwrap_or_default();
        constant_time::verify_slices_are_equal(given.as_bytes(), self.service_token.as_bytes()).is_ok()
    }

    fn group(&self, path: &str) -> Value {
        let parent = path.rsplit_once('/').map(|(above, _)| group_id(above));
        json!({
            "id": group_id(path), "name": last(path), "path": last(path), "full_path": path, "parent_id": parent,
            "visibility": "private", "web_url": format!("{}/groups/{path}", self.issuer),
        })
    }

    fn user(&self, person: &Person) -> Value {
        let state = if person.blocked { "blocked" } else { "active" };
        let url = format!("{}/{}", self.issuer, person.login);
        json!({ "id": person.id, "username": person.login, "name": person.name, "state": state, "web_url": url })
    }

    fn member(&self, person: &Person, group: &str) -> Option<Value> {
        let mut member = self.user(person);
        member["access_level"] = json!(person.role_in(group)?.level());
        member["expires_at"] = Value::Null;
        Some(member)
    }

    fn page(&self, asked: &Asked, all: Vec<Value>) -> Response<Body> {
        let query = asked.query();
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let size = number("per_page").unwrap_or(20).clamp(1, 100);
        let page = number("page").unwrap_or(1).clamp(1, usize::MAX / 100);
        let pages = all.len().div_ceil(size).max(1);
        let shown: Vec<_> = all.iter().skip((page - 1) * size).take(size).cloned().collect();
        let mut response = json(StatusCode::OK, &Value::Array(shown));
        let next = if page < pages { (page + 1).to_string() } else { String::new() };
        let mut put = |name: &'static str, text: String| {
            let value = HeaderValue::from_str(&text).expect("numbers and paths are visible ASCII");
            response.headers_mut().insert(name, value);
        };
        put("x-page", page.to_string());
        put("x-per-page", size.to_string());
        put("x-total", all.len().to_string());
        put("x-total-pages", pages.to_string());
        put("x-next-page", next.clone());
        if !next.is_empty() {
            let path = asked.head.uri.path();
            put("link", format!("<{}{path}?page={next}&per_page={size}>; rel=\"next\"", self.issuer));
        }
        response
    }
}

fn person<'a>(people: &'a People, id: &str) -> Option<&'a Person> {
    people.numbered(id.parse().ok()?)
}

/// GitLab's number of a group; 0 for one that does not exist.
pub(super) fn group_id(path: &str) -> usize {
    GROUPS.iter().position(|group| *group == path).map_or(0, |at| FIRST_GROUP + at)
}

/// The last segment of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// What GitLab says of a service account's token that may read and never ends.
fn about_token() -> Value {
    json!({
        "id": 1, "name": "vestibule", "user_id": 100, "scopes": ["read_api"], "active": true, "revoked": false,
        "expires_at": null,
    })
}

/// A group by its number or by its percent-encoded full path.
fn group_path(named: &str) -> Option<&'static str> {
    let path = named.replace("%2F", "/").replace("%2f", "/");
    let numbered = named.parse::<usize>().ok().and_then(|id| id.checked_sub(FIRST_GROUP)).and_then(|at| GROUPS.get(at));
    numbered.copied().or_else(|| GROUPS.into_iter().find(|group| *group == path))
}

fn found(object: Option<Value>) -> Response<Body> {
    match object {
        Some(object) => json(StatusCode::OK, &object),
        None => message(StatusCode::NOT_FOUND, "404 Not Found"),
    }
}

fn message(status: StatusCode, message: &str) -> Response<Body> {
    json(status, &json!({ "message": message }))
}
