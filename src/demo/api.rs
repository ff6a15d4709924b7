//! A sample internal API behind the proxy. It permits nothing itself: what arrives here was permitted. Who deploys it reads from
//! the assertion, checked: a job has no headers of people.

use super::{
    assertion::{Claims, Verifier},
    server::{Asked, json},
};
use crate::body::Body;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// Headers that are secrets, or stand for one: only said to be there.
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "vestibule-assertion"];

/// The API and what it remembers.
pub(super) struct Api {
    verifier: Verifier,
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
    /// Three services, never restarted. Trusts the assertions of the proxy at `front`, which calls itself `public_url`.
    pub(super) fn new(front: SocketAddr, public_url: &str) -> Self {
        let service = |owner, tier| Service { owner, tier, restarts: 0 };
        let services = BTreeMap::from([
            ("billing", service("acme/payments", "production")),
            ("catalogue", service("acme/platform", "production")),
            ("pager", service("acme/platform/sre", "staging")),
        ]);
        let verifier = Verifier::new(front, public_url, "deploy-api");
        Self { verifier, state: Mutex::new(State { services, releases: Vec::new() }) }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, asked: &Asked) -> Response<Body> {
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
            (&Method::GET | &Method::HEAD, ["deploy", "releases"]) => {
                json(StatusCode::OK, &json!({ "releases": self.state().releases }))
            }
            (&Method::POST, ["deploy", "releases"]) => self.deploy(asked, SystemTime::now()).await,
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

    async fn deploy(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        match self.verifier.verify(asked.header("vestibule-assertion"), now).await {
            Ok(claims) => self.release(asked, &deployer(&claims)),
            Err(why) => {
                json(StatusCode::UNAUTHORIZED, &json!({ "error": format!("nothing proves who deploys: {why}") }))
            }
        }
    }

    fn release(&self, asked: &Asked, by: &Value) -> Response<Body> {
        let Ok(Value::Object(release)) = serde_json::from_slice(&asked.body) else {
            return json(StatusCode::BAD_REQUEST, &json!({ "error": "expected a JSON object: service, version" }));
        };
        let (Some(service), Some(version)) = (release.get("service"), release.get("version")) else {
            return json(StatusCode::BAD_REQUEST, &json!({ "error": "service or version is missing" }));
        };
        let mut state = self.state();
        let number = state.releases.len() + 1;
        let release = json!({ "release": number, "service": service, "version": version, "by": by });
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

/// Who deploys: a job with what it runs in, on and for, or a person.
fn deployer(claims: &Claims) -> Value {
    let person = &claims.get("login").unwrap_or(&Value::Null);
    match claims.get("job") {
        Some(job) => json!({
            "person": person, "job": job["job_id"], "project": job["project_path"], "ref": job["ref"],
        }),
        None => json!({ "person": person }),
    }
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
    use crate::demo::{
        assertion::tests::{PUBLIC_URL, assertion, front},
        server::tests::{asked, body},
    };

    fn api() -> Api {
        Api::new(SocketAddr::from(([127, 0, 0, 1], 9)), PUBLIC_URL)
    }

    #[tokio::test]
    async fn counts_restarts_and_names_who_asked() {
        let api = api();
        let who = [("x-forwarded-preferred-username", "ben")];
        api.answer(&asked("POST", "/api/services/billing/restart", &who, "")).await;
        let second = body(api.answer(&asked("POST", "/api/services/billing/restart", &who, "")).await).await;
        assert_eq!(
            serde_json::from_str::<Value>(&second).expect("JSON"),
            json!({ "restarted": "billing", "by": "ben", "restarts": 2 })
        );
        assert_eq!(api.answer(&asked("POST", "/api/services/none/restart", &who, "")).await.status(), 404);
        assert_eq!(api.answer(&asked("DELETE", "/api/services/billing", &who, "")).await.status(), 405);
    }

    #[tokio::test]
    async fn never_shows_a_secret_that_it_was_sent() {
        let sent = [("cookie", "session=hush"), ("vestibule-assertion", "hush.hush.hush"), ("x-forwarded-user", "101")];
        let shown = body(api().answer(&asked("GET", "/api/whoami", &sent, "")).await).await;
        assert!(!shown.contains("hush") && shown.contains("101"), "{shown}");
    }

    const RELEASE: &str = r#"{"service":"billing","version":"1.2"}"#;

    #[tokio::test]
    async fn a_release_says_who_made_it_by_the_assertion_and_by_no_plain_header() {
        let (front, key) = front().await;
        let api = Api::new(front, PUBLIC_URL);
        let job = json!({ "user": "gitlab:102", "job_id": 301, "project_path": "acme/shop/api", "ref": "main" });
        let changed = [("aud", json!("deploy-api")), ("login", json!("ben")), ("job", job)];
        let token = assertion(&key, "k1", &changed, "vestibule+jwt");
        let sent = [("vestibule-assertion", &*token), ("x-forwarded-preferred-username", "ada")];
        let made = api.answer(&asked("POST", "/deploy/releases", &sent, RELEASE)).await;
        assert_eq!(made.status(), 201);
        let made: Value = serde_json::from_str(&body(made).await).expect("JSON");
        assert_eq!(made["by"], json!({ "person": "ben", "job": 301, "project": "acme/shop/api", "ref": "main" }));
        let all = body(api.answer(&asked("GET", "/deploy/releases", &[], "")).await).await;
        assert_eq!(serde_json::from_str::<Value>(&all).expect("JSON"), json!({ "releases": [made] }));
        for body in [r#"{"service":"billing"}"#, "[]"] {
            assert_eq!(api.answer(&asked("POST", "/deploy/releases", &sent, body)).await.status(), 400, "{body}");
        }
        let plain = api.answer(&asked("POST", "/deploy/releases", &sent[1..], RELEASE)).await;
        assert_eq!(plain.status(), 401);
    }
}
