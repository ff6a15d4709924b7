//! What the upstream gets as its credential, and what becomes of what the client sent.

use super::*;
use crate::{
    credential::{ApiToken, Credential, Secret, Value, sensitive},
    upstream::{Resolver, UpstreamSettings},
};
use http::{HeaderName, header::AUTHORIZATION};

/// What a client tries in the field of a route's secret: none of it may arrive.
const TRIED: &str = "Authorization: Bearer canary\r\nAUTHORIZATION: Basic canary\r\nauthorization_: canary\r\nX-Api-Key: canary\r\n\
                     x_api_key: canary\r\nX-API--KEY: canary\r\n-x.api.key-: canary\r\nX-Api-Key: canary\r\nX-Mine: kept\r\n";

fn secret(name: HeaderName, value: &str, keep_cookies: bool) -> Credential {
    Credential::Secret(Secret { name, value: Value::Fixed(sensitive(value).expect("a value")), keep_cookies })
}

fn key() -> Credential {
    secret(HeaderName::from_static("x-api-key"), "ours", false)
}

fn lending(upstream: &Scripted, credential: Credential) -> Route {
    Route { credential: Some(credential), ..route(&upstream.authority()) }
}

async fn tried(front: &Front) -> String {
    within(front.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{TRIED}\r\n"))).await
}

#[tokio::test]
async fn s01_a_secret_stands_where_nothing_of_the_clients_stays() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    for (credential, name, value) in [
        (key(), "x-api-key", "ours"),
        (secret(HeaderName::from_static("x_api_key"), "ours", false), "x_api_key", "ours"),
    ] {
        let front = Front::with(lending(&upstream, credential), user(&[])).await;
        assert_eq!(status(&tried(&front).await), "200");
        let request = heard.recv().await.expect("a request");
        assert_eq!((field(&request, name), field(&request, "x-mine")), (Some(value), Some("kept")), "{request}");
        assert!(!request.contains("canary"), "{request}");
        assert!(field(&request, "vestibule-assertion").is_some(), "who asks is told all the same");
    }
    let front = Front::with(lending(&upstream, secret(AUTHORIZATION, "Bearer ours", false)), user(&[])).await;
    front.ask("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\nX-Api-Key: theirs\r\n\r\n").await;
    let request = heard.recv().await.expect("a request");
    assert_eq!((field(&request, "authorization"), field(&request, "x-api-key")), (Some("Bearer ours"), Some("theirs")));
}

#[tokio::test]
async fn the_assertion_takes_the_place_of_authorization() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let route = lending(&upstream, Credential::Assertion);
    let front = Front::with(route.clone(), user(&[])).await;
    for _ in 0..2 {
        front.ask("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\n\r\n").await;
        let request = heard.recv().await.expect("a request");
        let assertion = field(&request, "vestibule-assertion").expect("an assertion");
        assert_eq!(field(&request, "authorization"), Some(&*format!("Bearer {assertion}")));
    }
    let nobody = Front::with(route, Principal::Anonymous).await;
    nobody.ask("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\n\r\n").await;
    let request = heard.recv().await.expect("a request");
    assert_eq!((field(&request, "authorization"), field(&request, "vestibule-assertion")), (None, None));
}

/// Whatever let them come so far: the last step does not lend.
#[tokio::test]
async fn nobody_known_gets_a_secret_forwarded() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::with(lending(&upstream, key()), Principal::Anonymous).await;
    let answer = tried(&front).await;
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("no_session"), "{answer}");
    assert!(heard.try_recv().is_err() && upstream.connections() == 0);
}

#[tokio::test]
async fn gitlab_gets_the_token_in_force_and_no_other_word_for_who_asks() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let token = ApiToken::new(&"first".into());
    let name = crate::credential::PRIVATE_TOKEN;
    let credential = Credential::Secret(Secret { name, value: Value::GitlabApi(token.clone()), keep_cookies: false });
    let front = Front::with(lending(&upstream, credential), user(&[])).await;
    for current in ["first", "second"] {
        token.replace(&current.into());
        let words =
            "Private_Token: canary\r\nJob-Token: canary\r\ndeploy-token: canary\r\nSUDO: canary\r\nSudo_: canary\r\n";
        within(front.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer canary\r\n{words}\r\n"))).await;
        let request = heard.recv().await.expect("a request");
        assert_eq!(field(&request, "private-token"), Some(current));
        assert!(!request.contains("canary"), "{request}");
    }
    let rotate = "/api/v4/personal_access_tokens/self/rotate";
    let answer = front.ask(&format!("POST {rotate} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && heard.try_recv().is_err(), "{answer}");
}

#[tokio::test]
async fn cookies_that_our_secret_brings_are_no_clients() {
    const COOKIES: &str = "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nSet-Cookie: __Host-vestibule=x\r\nContent-Length: 2\r\n\r\nok";
    let (upstream, _heard) = Scripted::echo(COOKIES).await;
    for (credential, kept) in [
        (key(), &[][..]),
        (secret(AUTHORIZATION, "Bearer ours", true), &["a=1", "b=2"][..]),
        (Credential::Assertion, &["a=1", "b=2"][..]),
    ] {
        let front = Front::with(lending(&upstream, credential), user(&[])).await;
        assert_eq!(fields(&front.get().await, "set-cookie"), kept);
    }
}

#[tokio::test]
async fn http2_carries_it_too() {
    let (heard, mut hear) = mpsc::unbounded_channel();
    let upstream = Scripted::start(move |_, stream| {
        let heard = heard.clone();
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let _ = heard.send(request.headers().clone());
                std::future::ready(Ok::<_, Infallible>(Response::new(String::from("ok"))))
            });
            let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        }
    })
    .await;
    let settings = UpstreamSettings { http2: true, ..UpstreamSettings::plain(&upstream.authority()) };
    let route = Route { upstream: Upstream::new(settings, Resolver::System), ..lending(&upstream, key()) };
    let front = Front::with(route, user(&[])).await;
    for _ in 0..2 {
        assert_eq!(status(&tried(&front).await), "200");
        let headers = hear.recv().await.expect("a request");
        assert_eq!(headers.get_all("x-api-key").iter().collect::<Vec<_>>(), ["ours"]);
        assert!(!format!("{headers:?}").contains("canary"), "{headers:?}");
    }
}
