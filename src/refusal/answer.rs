//! From a refusal to its one HTTP answer: a page, a problem, or the way to sign-in.

use super::{Note, Reason, Refusal};
use crate::{
    answer,
    body::Body,
    canonical::{Canonical, Class, RequestId, Target},
    config::Settings,
    pages::{self, RefusalPage},
    principal::Person,
    route::ErrorBody,
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use url::form_urlencoded::byte_serialize;

/// What a refusal's answer may say of the request that it refuses.
#[derive(Clone, Default)]
pub struct Asked {
    /// The request's id.
    pub id: Option<RequestId>,
    /// What kind of request it was; a machine's, as long as it could not be read.
    pub class: Option<Class>,
    /// Method.
    pub method: Method,
    /// Path and query, for the way back after sign-in.
    pub target: Option<Target>,
    /// Host as the client wrote it.
    pub host: Option<Arc<str>>,
    /// The session's person.
    pub person: Option<Arc<Person>>,
    /// How errors look to calls of this route.
    pub errors: ErrorBody,
    /// The configuration in force, for the providers' titles.
    pub settings: Option<Arc<Settings>>,
}

impl Asked {
    /// Of a request that was read.
    pub fn of(asked: &Canonical) -> Self {
        Self {
            id: Some(asked.id),
            class: Some(asked.class),
            method: asked.method.clone(),
            target: Some(asked.target.clone()),
            host: Some(asked.authority.clone()),
            ..Self::default()
        }
    }

    fn id(&self) -> String {
        self.id.map(|id| id.to_string()).unwrap_or_default()
    }

    fn target(&self) -> &str {
        self.target.as_ref().map_or("/", |target| target.path_and_query().as_str())
    }

    fn path(&self) -> &str {
        self.target.as_ref().map_or("/", |target| &target.path)
    }

    /// Who is signed in: login, and the provider as people know it.
    fn who(&self) -> Option<(&str, &str)> {
        let person = self.person.as_ref()?;
        let title = self.settings.as_ref().map(|settings| settings.provider_title(&person.id.provider));
        Some((&*person.login, title.unwrap_or(person.id.provider.as_str())))
    }

    fn is_page(&self) -> bool {
        matches!(self.class, Some(Class::Navigation | Class::Submission))
    }

    /// Where to sign in and come back from. A form that was sent is not sent again by coming back.
    fn sign_in(&self) -> String {
        let back = if self.class == Some(Class::Navigation) { self.target() } else { "/" };
        format!("/.vestibule/sign-in?to={}", byte_serialize(back.as_bytes()).collect::<String>())
    }
}

/// The answer to a refused request.
pub fn answer(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let mut response = if refusal.reason == Reason::NoSession && asked.class == Some(Class::Navigation) {
        answer::redirect(StatusCode::FOUND, &asked.sign_in())
    } else if asked.is_page() {
        page(refusal, asked)
    } else if asked.errors == ErrorBody::Backstage {
        answer::json(refusal.reason.status(), "application/json", &backstage(refusal, asked))
    } else {
        answer::json(refusal.reason.status(), "application/problem+json", &problem(refusal, asked))
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&asked.id()) {
        headers.insert("x-request-id", id);
    }
    if refusal.reason.status() == StatusCode::UNAUTHORIZED && !response_is_redirect(headers) {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Vestibule realm=\"sign-in\""));
    }
    if refusal.reason.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    if refusal.reason == Reason::Method {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"));
    }
    if refusal.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn response_is_redirect(headers: &http::HeaderMap) -> bool {
    headers.contains_key(header::LOCATION)
}

fn page(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let told = |note: &'_ Note| note.reason.clone().map(|reason| (reason, note.remedy.clone()));
    let reasons: Vec<_> = refusal.notes.iter().filter_map(told).collect();
    let reasons: Vec<_> = reasons.iter().map(|(reason, remedy)| (&**reason, remedy.as_deref())).collect();
    let switch = format!("{}&switch=1", asked.sign_in());
    let sign_in = asked.sign_in();
    let actions: Vec<(&str, &str)> = match refusal.reason {
        Reason::NoSession => vec![("Sign in", &sign_in)],
        Reason::NotPermitted | Reason::PolicyError if asked.class == Some(Class::Navigation) => {
            vec![("Check again", asked.target()), ("Switch account", &switch)]
        }
        Reason::NotPermitted | Reason::PolicyError => vec![("Go to the start page", "/"), ("Switch account", &switch)],
        Reason::WrongProvider => vec![("Switch account", &switch)],
        Reason::SignInState | Reason::SignInRefused | Reason::SignInInvalid => vec![("Start again", "/")],
        Reason::NotFound | Reason::CrossSite => vec![("Go to the start page", "/")],
        Reason::ProviderUnavailable
        | Reason::MembershipUnknown
        | Reason::StoreUnavailable
        | Reason::AuditUnavailable
        | Reason::Overloaded
        | Reason::UpstreamFailed
        | Reason::UpstreamTimeout
            if asked.class == Some(Class::Navigation) =>
        {
            vec![("Try again", asked.target())]
        }
        _ => Vec::new(),
    };
    let markup = pages::refusal(&RefusalPage {
        title: title(refusal.reason),
        sentence: &refusal.detail,
        who: asked.who(),
        asked: asked.host.as_ref().map(|host| format!("{} {host}{}", asked.method, asked.path())),
        reasons: &reasons,
        request_id: &asked.id(),
        actions: &actions,
    });
    answer::page(refusal.reason.status(), markup)
}

/// Problem details (RFC 9457).
fn problem(refusal: &Refusal, asked: &Asked) -> Value {
    let mut problem = json!({
        "type": "about:blank",
        "title": title(refusal.reason),
        "status": refusal.reason.status().as_u16(),
        "detail": refusal.detail,
        "code": refusal.reason.code(),
        "request_id": asked.id(),
    });
    if refusal.reason == Reason::NoSession {
        problem["sign_in"] = "/.vestibule/sign-in".into();
    }
    if let Some(person) = &asked.person {
        problem["user"] = person.id.to_string().into();
    }
    if !refusal.notes.is_empty() {
        problem["policies"] = refusal.notes.iter().map(note).collect();
    }
    problem
}

fn note(note: &Note) -> Value {
    json!({ "id": &*note.policy, "reason": note.reason.as_deref(), "remedy": note.remedy.as_deref() })
}

/// The shape that Backstage's front end reads: it must have `error` and `response`.
fn backstage(refusal: &Refusal, asked: &Asked) -> Value {
    let name = match refusal.reason.status() {
        StatusCode::UNAUTHORIZED => "AuthenticationError",
        StatusCode::FORBIDDEN => "NotAllowedError",
        StatusCode::NOT_FOUND => "NotFoundError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailableError",
        status if status.is_client_error() => "InputError",
        _ => "Error",
    };
    let why = refusal.notes.iter().find_map(|note| note.reason.as_deref()).unwrap_or(&refusal.detail);
    let mut value = problem(refusal, asked);
    value["error"] = json!({ "name": name, "message": why });
    value["request"] = json!({ "method": asked.method.as_str(), "url": asked.path() });
    value["response"] = json!({ "statusCode": refusal.reason.status().as_u16() });
    value
}

/// What a person reads first.
fn title(reason: Reason) -> &'static str {
    match reason {
        Reason::BadRequest | Reason::TargetTooLong | Reason::HeadTooLarge | Reason::Expectation => {
            "This request cannot be read"
        }
        Reason::Method => "This method is not allowed",
        Reason::UnknownHost | Reason::NotFound => "There is nothing here",
        Reason::UntrustedPeer => "Come by the front door",
        Reason::NoSession => "Sign in to go on",
        Reason::NotPermitted => "You may not go here",
        Reason::WrongProvider => "Another account is needed",
        Reason::CrossSite => "This did not come from a page of this site",
        Reason::MembershipUnknown => "Your groups cannot be looked up",
        Reason::PolicyError => "A policy could not be evaluated",
        Reason::SignInState => "This sign-in is over",
        Reason::SignInRefused => "The sign-in was refused",
        Reason::SignInInvalid => "The sign-in did not succeed",
        Reason::ProviderUnavailable => "The sign-in provider does not answer",
        Reason::StoreUnavailable | Reason::AuditUnavailable | Reason::Overloaded => "Not right now",
        Reason::UpstreamFailed | Reason::UpstreamTimeout => "The service behind this page does not answer",
        Reason::ClientTimeout => "Your request came too slowly",
        Reason::Internal => "Something went wrong here",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(class: Class) -> Asked {
        Asked {
            id: Some(RequestId(255)),
            class: Some(class),
            target: Target::parse("/a/b?x=1&y=%2F").ok(),
            host: Some("portal.example.com".into()),
            ..Asked::default()
        }
    }

    fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
        response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    /// S-96: only a navigation is redirected, and only to us.
    #[test]
    fn s96_only_a_navigation_is_redirected() {
        let refusal = Refusal::new(Reason::NoSession, "sign in first");
        let response = answer(&refusal, &asked(Class::Navigation));
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(header(&response, "location"), Some("/.vestibule/sign-in?to=%2Fa%2Fb%3Fx%3D1%26y%3D%252F"));
        for class in [Class::Fetch, Class::Stream, Class::WebSocket, Class::Machine, Class::Grpc, Class::Submission] {
            let response = answer(&refusal, &asked(class));
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{class:?}");
            assert_eq!(header(&response, "location"), None);
            assert!(header(&response, "www-authenticate").is_some());
        }
    }

    /// S-94: none of our refusals may be kept by a cache.
    #[test]
    fn s94_no_refusal_is_kept() {
        for reason in Reason::ALL {
            for class in [Class::Navigation, Class::Fetch] {
                let response = answer(&Refusal::new(reason, "x"), &asked(class));
                assert_eq!(header(&response, "cache-control"), Some("no-store"), "{reason:?}");
                assert_eq!(header(&response, "x-request-id"), Some("000000000000000000000000000000ff"));
            }
        }
    }

    #[test]
    fn backstage_gets_the_shape_it_reads() {
        let refusal = Refusal::new(Reason::NoSession, "sign in first");
        let value = backstage(&refusal, &asked(Class::Fetch));
        assert_eq!(value["error"]["name"], "AuthenticationError");
        assert_eq!(value["response"]["statusCode"], 401);
        assert_eq!(value["request"]["url"], "/a/b");
    }

    #[test]
    fn codes_are_unique() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}
