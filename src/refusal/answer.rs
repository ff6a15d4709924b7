//! From a refusal to its one HTTP answer: a page, a problem, or the way to sign-in.

use super::{
    Note, Reason, Refusal,
    challenge::{Challenge, challenges},
    table::Act,
};
use crate::{
    answer,
    body::Body,
    canonical::{Canonical, Class, RequestId, Target},
    config::Settings,
    pages::{self, RefusalPage},
    principal::{Bearer, Person},
    route::ErrorBody,
};
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
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
    /// The page of this site that sent it, for the way back of a form that was not sent.
    pub from: Option<Target>,
    /// Host as the client wrote it.
    pub host: Option<Arc<str>>,
    /// The session's person.
    pub person: Option<Arc<Person>>,
    /// The token or certificate that it came with.
    pub bearer: Option<Arc<Bearer>>,
    /// How callers of the route prove who they are, if tokens are a way.
    pub challenge: Option<Challenge>,
    /// When the person's groups were read that the decision rests on.
    pub groups_read: Option<SystemTime>,
    /// How errors look to calls of this route.
    pub errors: ErrorBody,
    /// Pages may be shown in frames.
    pub framed: bool,
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
            from: asked.referring_page(),
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

    /// Who helps: a name and an address.
    fn contact(&self) -> Option<(&str, &str)> {
        let contact = self.settings.as_ref()?.contact.as_ref()?;
        Some((&*contact.name, contact.url.as_str()))
    }

    /// A sign-in would help: the route takes people, and this was not a caller with a token.
    fn signs_in(&self, reason: Reason) -> bool {
        let people = self.bearer.is_none() && self.challenge.as_ref().is_none_or(|challenge| challenge.people);
        people && matches!(reason, Reason::NoSession | Reason::InsufficientAuthentication)
    }

    /// A token would help, and nothing else: nobody can sign in on the route, and this was not a caller with a token.
    fn takes_only_tokens(&self) -> bool {
        self.bearer.is_none() && self.challenge.as_ref().is_some_and(|challenge| !challenge.people)
    }

    /// The reason in a few words. Where nobody can sign in, nobody is told to.
    fn title(&self, reason: Reason) -> &'static str {
        match reason {
            Reason::NoSession if self.takes_only_tokens() => "A token is needed to go on",
            _ => reason.row().title,
        }
    }

    fn is_page(&self) -> bool {
        match self.class {
            Some(Class::Navigation | Class::Submission) => true,
            Some(Class::Frame) => self.framed,
            _ => false,
        }
    }

    /// Where to sign in and come back from. The target of a form is never asked for by coming back (P11).
    fn sign_in(&self) -> String {
        self.by("/.vestibule/sign-in", self.back())
    }

    /// Where to sign in, in a window, as what was asked for wants it; that itself is never asked for by coming back.
    fn step_up(&self) -> String {
        format!("{}&popup=1", self.by("/.vestibule/sign-in", self.target()))
    }

    fn back(&self) -> &str {
        match self.class {
            Some(Class::Navigation | Class::Frame) => self.target(),
            _ => self.from.as_ref().map_or("/", |page| page.path_and_query().as_str()),
        }
    }

    /// A page that was asked for by GET can be asked for again.
    fn is_repeatable(&self) -> bool {
        matches!(self.class, Some(Class::Navigation | Class::Frame))
    }

    /// Where to sign in as somebody else, on the way to what the person wanted.
    fn switch_from(&self, refusal: &Refusal) -> String {
        let own = refusal.wanted.as_deref().filter(|wanted| wanted.starts_with('/'));
        match own {
            Some(wanted) => self.by("/.vestibule/sign-in", wanted),
            None if self.path().starts_with("/.vestibule/") => self.by("/.vestibule/sign-in", "/"),
            None => self.sign_in(),
        }
    }

    /// An endpoint of ours that leads on to `to`.
    fn by(&self, endpoint: &str, to: &str) -> String {
        format!("{endpoint}?to={}", byte_serialize(to.as_bytes()).collect::<String>())
    }
}

/// The answer to a refused request.
pub fn answer(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let challenge = asked.challenge.as_ref().filter(|_| asked.bearer.is_none());
    let unmet = challenge.and_then(|challenge| challenge.unmet(refusal, !asked.is_page()));
    let unmet = unmet.map(|detail| Refusal { detail, ..refusal.clone() });
    let refusal = unmet.as_ref().unwrap_or(refusal);
    if asked.class == Some(Class::Grpc) {
        return grpc(refusal, asked);
    }
    let signs_in = asked.signs_in(refusal.reason);
    let mut response = if signs_in && asked.class == Some(Class::Navigation) {
        answer::redirect(StatusCode::FOUND, &asked.sign_in())
    } else if signs_in && asked.class == Some(Class::Frame) && asked.framed {
        answer::page(StatusCode::UNAUTHORIZED, pages::keep_fragment(&asked.by("/.vestibule/frame", asked.target())))
    } else if signs_in && asked.class == Some(Class::Submission) {
        let (lead, sign_in) = match refusal.reason {
            Reason::InsufficientAuthentication => (&*refusal.detail, asked.step_up()),
            _ => ("Your session has ended.", "/.vestibule/sign-in?popup=1".to_owned()),
        };
        let page = pages::keep_form(lead, &sign_in, asked.back(), &asked.id(), asked.contact());
        answer::page(StatusCode::UNAUTHORIZED, page)
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
    let challenged = refusal.reason.status() == StatusCode::UNAUTHORIZED || refusal.reason == Reason::TwoTokens;
    if challenged && !response_is_redirect(headers) {
        for challenge in challenges(refusal, asked) {
            headers.append(header::WWW_AUTHENTICATE, challenge);
        }
    }
    if let Some(seconds) = refusal.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.reason == Reason::Method {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"));
    }
    if refusal.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A gRPC answer of nothing but its status, which stands in the head then. Clients that try again by themselves are told when.
///
/// Source: gRPC over HTTP/2, "Trailers-Only"; gRPC proposal A6, "Pushback".
fn grpc(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(refusal.reason.grpc())));
    let why = refusal.notes.iter().find_map(|note| note.reason.as_deref()).unwrap_or(&refusal.detail);
    if let Ok(message) = HeaderValue::try_from(percent(why)) {
        headers.insert("grpc-message", message);
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert("grpc-retry-pushback-ms", HeaderValue::from(u32::from(seconds) * 1000));
    }
    if let Ok(id) = HeaderValue::from_str(&asked.id()) {
        headers.insert("x-request-id", id);
    }
    response
}

/// `grpc-message` is percent-encoded: all but visible ASCII and blanks, and `%` itself.
fn percent(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..0x20 | 0x7f.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    encoded
}

fn response_is_redirect(headers: &http::HeaderMap) -> bool {
    headers.contains_key(header::LOCATION)
}

fn page(refusal: &Refusal, asked: &Asked) -> Response<Body> {
    let told = |note: &'_ Note| note.reason.clone().map(|reason| (reason, note.remedy.clone()));
    let reasons: Vec<_> = refusal.notes.iter().filter_map(told).collect();
    let reasons: Vec<_> = reasons.iter().map(|(reason, remedy)| (&**reason, remedy.as_deref())).collect();
    let actions: Vec<_> = refusal.reason.row().acts.iter().filter_map(|act| action(*act, refusal, asked)).collect();
    let actions: Vec<_> = actions.iter().map(|(label, href)| (*label, &**href)).collect();
    let quote = refusal.quoted.as_ref().map(|quoted| (&*quoted.who, quoted.text()));
    let markup = pages::refusal(&RefusalPage {
        title: asked.title(refusal.reason),
        sentence: &refusal.detail,
        quote: quote.as_ref().map(|(who, text)| (*who, &**text)),
        who: asked.who(),
        asked: asked.host.as_ref().map(|host| format!("{} {host}{}", asked.method, asked.path())),
        groups_read: asked.groups_read.map(clock),
        reasons: &reasons,
        request_id: &asked.id(),
        actions: &actions,
        contact: asked.contact(),
        sessions: refusal.reason == Reason::NotPermitted,
    });
    answer::page(refusal.reason.status(), markup)
}

/// The time of the day, for people who compare it with another.
fn clock(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) % 86_400;
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What a person can do, and where.
fn action(act: Act, refusal: &Refusal, asked: &Asked) -> Option<(&'static str, String)> {
    let target = || asked.target().to_owned();
    match act {
        Act::SignIn => asked.signs_in(refusal.reason).then(|| ("Sign in", asked.sign_in())),
        Act::CheckAgain if asked.is_repeatable() => {
            Some(("Check again", asked.by("/.vestibule/check-again", asked.target())))
        }
        Act::SwitchAccount => Some(("Switch account", format!("{}&switch=1", asked.switch_from(refusal)))),
        Act::TryAgain => asked.is_repeatable().then(|| ("Try again", target())),
        Act::StartAgain if refusal.reason == Reason::SignInLoop => {
            let joint = if asked.target().contains('?') { '&' } else { '?' };
            Some(("Start again", format!("{}{joint}again=1", asked.target())))
        }
        Act::StartAgain => Some(("Start again", refusal.wanted.as_deref().unwrap_or("/").to_owned())),
        Act::SignOut => asked.person.as_ref().map(|_| ("Sign out", "/.vestibule/sign-out".to_owned())),
        Act::Home | Act::CheckAgain => Some(("Go to the start page", "/".to_owned())),
    }
}

/// Problem details (RFC 9457).
fn problem(refusal: &Refusal, asked: &Asked) -> Value {
    let mut problem = json!({
        "type": "about:blank",
        "title": asked.title(refusal.reason),
        "status": refusal.reason.status().as_u16(),
        "detail": refusal.detail,
        "code": refusal.reason.code(),
        "request_id": asked.id(),
    });
    if refusal.reason == Reason::NoSession && asked.signs_in(refusal.reason) {
        problem["sign_in"] = "/.vestibule/sign-in".into();
    }
    if let Some(step_up) = &refusal.step_up {
        problem["sign_in"] = asked.step_up().into();
        problem["acr_values"] = step_up.acr.clone().into();
        problem["max_age"] = step_up.max_age.map(|age| age.as_secs()).into();
    }
    if let Some(seconds) = refusal.retry_after() {
        problem["retry_after"] = seconds.into();
    }
    if let Some(person) = &asked.person {
        problem["user"] = person.id.to_string().into();
    }
    if let Some(bearer) = &asked.bearer {
        problem["principal"] = bearer.holder.to_string().into();
    }
    if let Some(quoted) = &refusal.quoted {
        problem["provider_error"] = json!({ "error": quoted.error, "error_description": quoted.description });
    }
    if let Some((_, url)) = asked.contact() {
        problem["contact"] = url.into();
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
        StatusCode::TOO_MANY_REQUESTS => "Error", // it has no name for that, and the input is not to blame
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fairness::{Measure, Whom},
        refusal::{Challenge, table::TABLE},
    };
    use http_body_util::BodyExt;

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
        for class in [Class::Fetch, Class::Stream, Class::WebSocket, Class::Machine, Class::Submission] {
            let response = answer(&refusal, &asked(class));
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{class:?}");
            assert_eq!(header(&response, "location"), None);
            assert!(header(&response, "www-authenticate").is_some());
        }
    }

    /// RFC 9470: whoever is signed in too weakly is told what is asked for, and a page is led to where it can be had.
    #[test]
    fn a_step_up_says_what_it_asks_for() {
        let step_up = |acr: Option<&str>, seconds: Option<u64>| {
            let max_age = seconds.map(std::time::Duration::from_secs);
            Arc::new(crate::principal::StepUp { acr: acr.map(str::to_owned), max_age })
        };
        let refusal = |it| Refusal::new(Reason::InsufficientAuthentication, "again").asking_for(it);
        let both = refusal(step_up(Some("urn:x:2"), Some(900)));
        let response = answer(&both, &asked(Class::Fetch));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        let start = "Vestibule realm=\"sign-in\", error=\"insufficient_user_authentication\", \
                     error_description=\"A stronger or more recent sign-in is required\"";
        let expected = format!("{start}, acr_values=\"urn:x:2\", max_age=\"900\"");
        assert_eq!(header(&response, "www-authenticate"), Some(&*expected));
        let one = answer(&refusal(step_up(None, Some(60))), &asked(Class::WebSocket));
        assert_eq!(header(&one, "www-authenticate"), Some(&*format!("{start}, max_age=\"60\"")));
        let value = problem(&both, &asked(Class::Fetch));
        assert_eq!((&value["acr_values"], &value["max_age"]), (&json!("urn:x:2"), &json!(900)));
        assert_eq!(value["sign_in"], "/.vestibule/sign-in?to=%2Fa%2Fb%3Fx%3D1%26y%3D%252F&popup=1");
        let page = answer(&both, &asked(Class::Navigation));
        assert_eq!(page.status(), StatusCode::FOUND);
        assert_eq!(header(&page, "location"), Some("/.vestibule/sign-in?to=%2Fa%2Fb%3Fx%3D1%26y%3D%252F"));
        assert_eq!(header(&page, "www-authenticate"), None);
    }

    /// S-94: none of our refusals may be kept by a cache.
    #[test]
    fn s94_no_refusal_is_kept() {
        for reason in Reason::all() {
            for class in [Class::Navigation, Class::Fetch, Class::Grpc] {
                let response = answer(&Refusal::new(reason, "x"), &asked(class));
                assert_eq!(header(&response, "cache-control"), Some("no-store"), "{reason:?}");
                assert_eq!(header(&response, "x-request-id"), Some("000000000000000000000000000000ff"));
            }
        }
    }

    /// P33: a gRPC client reads its status, never a page.
    #[test]
    fn grpc_clients_get_a_grpc_status() {
        for (reason, status) in [(Reason::NoSession, "16"), (Reason::NotPermitted, "7"), (Reason::Overloaded, "14")] {
            let response = answer(&Refusal::new(reason, "100 % \u{fc}ber"), &asked(Class::Grpc));
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(header(&response, "content-type"), Some("application/grpc"));
            assert_eq!(header(&response, "grpc-status"), Some(status));
            assert_eq!(header(&response, "grpc-message"), Some("100 %25 %C3%BCber"));
        }
    }

    async fn body(response: Response<Body>) -> String {
        let collected = response.into_body().collect().await.expect("a body of ours");
        String::from_utf8(collected.to_bytes().to_vec()).expect("UTF-8")
    }

    /// P57: page, problem, Backstage's shape and gRPC all say what the reason's row says.
    #[tokio::test]
    async fn p57_every_answer_says_what_the_table_says() {
        for row in &TABLE {
            let refusal = Refusal::new(row.reason, "x");
            let retry = row.retry_after.map(|seconds| seconds.to_string());
            if ![Reason::NoSession, Reason::InsufficientAuthentication].contains(&row.reason) {
                let page = answer(&refusal, &asked(Class::Navigation));
                assert_eq!((page.status().as_u16(), header(&page, "retry-after")), (row.status, retry.as_deref()));
                assert!(body(page).await.contains(&format!("<h1>{}</h1>", row.title)), "{}", row.code);
            }
            for errors in [ErrorBody::Problem, ErrorBody::Backstage] {
                let response = answer(&refusal, &Asked { errors, ..asked(Class::Fetch) });
                let told = (response.status().as_u16(), header(&response, "retry-after"));
                assert_eq!(told, (row.status, retry.as_deref()), "{}", row.code);
                let value: Value = serde_json::from_str(&body(response).await).expect("JSON");
                assert_eq!((&value["code"], &value["title"]), (&json!(row.code), &json!(row.title)));
                assert_eq!((&value["status"], &value["retry_after"]), (&json!(row.status), &json!(row.retry_after)));
            }
            let grpc = answer(&refusal, &asked(Class::Grpc));
            assert_eq!(header(&grpc, "grpc-status"), Some(&*row.grpc.to_string()), "{}", row.code);
        }
    }

    #[tokio::test]
    async fn whoever_needs_a_token_is_not_told_to_sign_in() {
        let refusal = Refusal::new(Reason::NoSession, "This needs a sign-in.");
        let told = async |people, class| {
            let asked = Asked { challenge: Some(Challenge::testing(people)), ..asked(class) };
            body(answer(&refusal, &asked)).await
        };
        let token = "a token, as `Authorization: Bearer TOKEN`; https://a.test/m says whose, and for which audience.";
        for class in [Class::Fetch, Class::Machine, Class::Navigation] {
            let only = told(false, class).await;
            assert!(only.contains("A token is needed to go on") && only.contains("This needs a token"), "{only}");
            assert!(!only.contains("/.vestibule/sign-in") && !only.contains("Sign in"), "{only}");
        }
        let both = told(true, Class::Machine).await;
        assert!(both.contains(&format!("This needs a sign-in. Or it takes {token}")), "{both}");
        assert!(both.contains("\"sign_in\""), "{both}");
    }

    /// A refusal by a limit says to everybody when there is more; the table has only the least.
    #[tokio::test]
    async fn a_limit_says_when_there_is_more() {
        let refusal = Refusal::new(Reason::RateLimited, "x").limited(Whom::User, Measure::Requests, 90);
        let page = answer(&refusal, &asked(Class::Navigation));
        assert_eq!((page.status().as_u16(), header(&page, "retry-after")), (429, Some("90")));
        for errors in [ErrorBody::Problem, ErrorBody::Backstage] {
            let response = answer(&refusal, &Asked { errors, ..asked(Class::Fetch) });
            assert_eq!(header(&response, "retry-after"), Some("90"));
            let value: Value = serde_json::from_str(&body(response).await).expect("JSON");
            assert_eq!((&value["code"], &value["retry_after"]), (&json!("rate_limited"), &json!(90)));
            assert_ne!(value["error"]["name"], "InputError");
        }
        let grpc = answer(&refusal, &asked(Class::Grpc));
        assert_eq!((header(&grpc, "grpc-status"), header(&grpc, "grpc-retry-pushback-ms")), (Some("8"), Some("90000")));
        let other = answer(&Refusal::new(Reason::Overloaded, "x"), &asked(Class::Grpc));
        assert_eq!(header(&other, "grpc-retry-pushback-ms"), None, "it may have been processed");
    }

    /// "Check again" without effect is no dead button: the page says when the groups were read, and offers a way out.
    #[tokio::test]
    async fn a_page_says_when_groups_were_read() {
        let read = UNIX_EPOCH + std::time::Duration::from_secs(86_400 + 3_723);
        let refusal = Refusal::new(Reason::NotPermitted, "x");
        let page = body(answer(&refusal, &Asked { groups_read: Some(read), ..asked(Class::Navigation) })).await;
        assert!(page.contains("<dt>Groups read</dt><dd>01:02:03 UTC</dd>"), "{page}");
        assert!(!body(answer(&refusal, &asked(Class::Navigation))).await.contains("Groups read"));
    }

    #[test]
    fn backstage_gets_the_shape_it_reads() {
        let refusal = Refusal::new(Reason::NoSession, "sign in first");
        let value = backstage(&refusal, &asked(Class::Fetch));
        assert_eq!(value["error"]["name"], "AuthenticationError");
        assert_eq!(value["response"]["statusCode"], 401);
        assert_eq!(value["request"]["url"], "/a/b");
    }

    /// P11: a form that was not sent is kept: no redirect, and its target is never asked for by GET.
    #[test]
    fn p11_a_form_is_kept_and_its_target_is_not_asked_for() {
        let refusal = Refusal::new(Reason::NoSession, "sign in first");
        let form = Asked { from: Target::parse("/edit?id=7").ok(), ..asked(Class::Submission) };
        let response = answer(&refusal, &form);
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!((form.back(), form.sign_in().as_str()), ("/edit?id=7", "/.vestibule/sign-in?to=%2Fedit%3Fid%3D7"));
        let strange = Asked { from: None, ..form };
        assert_eq!(strange.back(), "/");
    }
}
