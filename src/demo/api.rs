//! A sample internal API behind the proxy. It checks nothing itself: what arrives here was permitted.

use super::server::{Asked, json};
use crate::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Headers that are secrets, or stand for one: only said to be there.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "vestibule-assertion"];

/// The API and what it remembers.
pub(super) struct Api {
    state: Mutex<State>,
}

struct State {
    services: BTreeMap<&'static str, Service>,
    releases: Vec<Value>,
}

struct Service {
    owner: &'static str,
    tier: &'static str,
    restarts: u32,
}

impl Api {
    /// Three services, never restarted.
    pub(super) fn new() -> Self {
        let service = |owner, tier| Service { owner, tier, restarts: 0 };
        let services = BTreeMap::from([
            ("billing", service("acme/payments", "production")),
            ("catalogue", service("acme/platform", "production")),
            ("pager", service("acme/platform/sre", "staging")),
        ]);
        Self { state: Mutex::new(State { services, releases: Vec::new() }) }
    }

    /// Answers one request.
    pub(super) fn answer(&self, asked: &Asked) -> Response<Body> {
        let (method, path) = asked.what();
        let segments: Vec<_> = path.trim_matches('/').split('/').collect();
        match (method, segments.as_slice()) {
            (&Method::GET | &Method::HEAD, ["api", "whoami"]) => json(StatusCode::OK, &whoami(asked)),
            (&Method::GET | &Method::HEAD, ["api", "services"]) => {
                let state = self.state();
                let all: Vec<_> = state.services.iter().map(|(name, service)| service.shown(name)).collect();
                json(StatusCode::OK, &json!({ "services": all }))
            }
            (&Method::GET | &Method::HEAD, ["api", "services", name]) => match self.state().services.get(name) {
                Some(service) => json(StatusCode::OK, &service.shown(name)),
                None => missing("there is no such service"),
            },
            (&Method::POST, ["api", "services", name, "restart"]) => self.restart(name, caller(asked)),
            (&Method::POST, ["deploy", "releases"]) => self.release(asked),
            (_, ["api", "whoami" | "services", ..] | ["deploy", "releases"]) => {
                json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "this method is not for this path" }))
            }
            _ => missing("the API has no such path"),
        }
    }

    fn restart(&self, name: &str, by: &str) -> Response<Body> {
        let mut state = self.state();
        let Some(service) = state.services.get_mut(name) else {
            return missing("there is no such service");
        };
        service.restarts = service.restarts.saturating_add(1);
        json(StatusCode::OK, &json!({ "restarted": name, "by": by, "restarts": service.restarts }))
    }

    fn release(&self, asked: &Asked) -> Response<Body> {
        let Ok(Value::Object(release)) = serde_json::from_slice(&asked.body) else {
            return json(StatusCode::BAD_REQUEST, &json!({ "error": "expected a JSON object: service, version" }));
        };
        let (Some(service), Some(version)) = (release.get("service"), release.get("version")) else {
            return json(StatusCode::BAD_REQUEST, &json!({ "error": "service or version is missing" }));
        };
        let mut state = self.state();
        let number = state.releases.len() + 1;
        let release = json!({ "release": number, "service": service, "version": version, "by": caller(asked) });
        if number <= 1000 {
            state.releases.push(release.clone());
        }
        json(StatusCode::CREATED, &release)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    fn shown(&self, name: &str) -> Value {
        json!({ "name": name, "owner": self.owner, "tier": self.tier, "restarts": self.restarts })
    }
}

fn caller(asked: &Asked) -> &str {
    asked.header("x-forwarded-preferred-username").unwrap_or("nobody that was named")
}

/// The request's headers as they arrived.
fn whoami(asked: &Asked) -> Value {
    let mut headers = Map::new();
    for (name, value) in &asked.head.headers {
        let secret = SECRET.contains(&name.as_str());
        let shown =
            if secret { format!("({} bytes)", value.len()) } else { String::from_utf8_lossy(value.as_bytes()).into() };
        headers.insert(name.to_string(), json!(shown));
    }
    json!({ "you": caller(asked), "headers": headers })
}

fn missing(sentence: &str) -> Response<Body> {
    json(StatusCode::NOT_FOUND, &json!({ "error": sentence }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::server::tests::{asked, body};

    #[tokio::test]
    async fn counts_restarts_and_names_who_asked() {
        let api = Api::new();
        let who = [("x-forwarded-preferred-username", "ben")];
        api.answer(&asked("POST", "/api/services/billing/restart", &who, ""));
        let second = body(api.answer(&asked("POST", "/api/services/billing/restart", &who, ""))).await;
        assert_eq!(
            serde_json::from_str::<Value>(&second).expect("JSON"),
            json!({ "restarted": "billing", "by": "ben", "restarts": 2 })
        );
        assert_eq!(api.answer(&asked("POST", "/api/services/none/restart", &who, "")).status(), 404);
        assert_eq!(api.answer(&asked("DELETE", "/api/services/billing", &who, "")).status(), 405);
    }

    #[tokio::test]
    async fn never_shows_a_secret_that_it_was_sent() {
        let sent = [("cookie", "session=hush"), ("vestibule-assertion", "hush.hush.hush"), ("x-forwarded-user", "101")];
        let shown = body(Api::new().answer(&asked("GET", "/api/whoami", &sent, ""))).await;
        assert!(!shown.contains("hush") && shown.contains("101"), "{shown}");
    }

    #[test]
    fn a_release_needs_service_and_version() {
        let api = Api::new();
        let post = |body| api.answer(&asked("POST", "/deploy/releases", &[], body)).status();
        assert_eq!(post(r#"{"service":"billing","version":"1.2"}"#), 201);
        assert_eq!(post(r#"{"service":"billing"}"#), 400);
        assert_eq!(post("[]"), 400);
    }
}
