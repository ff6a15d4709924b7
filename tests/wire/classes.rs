//! One behaviour for every class of request and every state of a session, as `docs/refusals.md` prints it.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration},
    http1::Answer,
    http2::Http2,
    upstream::Upstream,
};
use serde_json::json;
use tokio::net::TcpStream;

/// What a browser or another client sends.
struct Class {
    name: &'static str,
    method: &'static str,
    lines: &'static [&'static str],
    /// What comes of it without a session, and with one that is not enough.
    stranger: Outcome,
    refused: Outcome,
}

/// How an answer looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// 302 to our own sign-in, on the same host.
    ToSignIn,
    /// 401, a page.
    Page401,
    /// 401, a problem in JSON.
    Json401,
    /// 403, a page.
    Page403,
    /// 403, a problem in JSON.
    Json403,
    /// The status of gRPC that says so, and nothing else.
    Unauthenticated,
    /// The status of gRPC that says so, and nothing else.
    PermissionDenied,
    /// What the upstream answers.
    Upstream,
}

use Outcome::{Json401, Json403, Page401, Page403, PermissionDenied, ToSignIn, Unauthenticated};

const ORIGIN: &str = "Origin: http://127.0.0.1:PORT";
const GRPC: &str = "gRPC";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

#[rustfmt::skip]
const CLASSES: &[Class] = &[
    Class { name: "navigation", method: "GET", lines: &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"], stranger: ToSignIn, refused: Page403 },
    Class { name: "navigation, old browser", method: "GET", lines: &["Accept: text/html,*/*;q=0.8"], stranger: ToSignIn, refused: Page403 },
    Class { name: "form", method: "POST", lines: &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html", FORM, ORIGIN], stranger: Page401, refused: Page403 },
    Class { name: "frame", method: "GET", lines: &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html"], stranger: Json401, refused: Json403 },
    Class { name: "fetch", method: "GET", lines: &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"], stranger: Json401, refused: Json403 },
    Class { name: "fetch, POST", method: "POST", lines: &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*", ORIGIN], stranger: Json401, refused: Json403 },
    Class { name: "XMLHttpRequest", method: "GET", lines: &["X-Requested-With: XMLHttpRequest", "Accept: text/html"], stranger: Json401, refused: Json403 },
    Class { name: "EventSource", method: "GET", lines: &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: text/event-stream"], stranger: Json401, refused: Json403 },
    Class { name: "WebSocket", method: "GET", lines: &["Sec-Fetch-Mode: websocket", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", ORIGIN], stranger: Json401, refused: Json403 },
    Class { name: "script", method: "GET", lines: &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script", "Accept: */*"], stranger: Json401, refused: Json403 },
    Class { name: "style", method: "GET", lines: &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: style", "Accept: text/css,*/*;q=0.1"], stranger: Json401, refused: Json403 },
    Class { name: "image", method: "GET", lines: &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/avif,*/*"], stranger: Json401, refused: Json403 },
    Class { name: "font", method: "GET", lines: &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: font", "Accept: */*"], stranger: Json401, refused: Json403 },
    Class { name: "manifest", method: "GET", lines: &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: manifest", "Accept: */*"], stranger: Json401, refused: Json403 },
    Class { name: "favicon", method: "GET", lines: &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/*,*/*;q=0.8", "Referer: http://127.0.0.1:PORT/"], stranger: Json401, refused: Json403 },
    Class { name: "service worker", method: "GET", lines: &["Sec-Fetch-Mode: same-origin", "Sec-Fetch-Dest: serviceworker", "Accept: */*", "Service-Worker: script"], stranger: Json401, refused: Json403 },
    Class { name: "preflight", method: "OPTIONS", lines: &["Sec-Fetch-Mode: cors", ORIGIN, "Access-Control-Request-Method: PUT"], stranger: Json401, refused: Json403 },
    Class { name: "curl", method: "GET", lines: &["Accept: */*", "User-Agent: curl/8.5.0"], stranger: Json401, refused: Json403 },
    Class { name: GRPC, method: "POST", lines: &["Content-Type: application/grpc", "TE: trailers", ORIGIN], stranger: Unauthenticated, refused: PermissionDenied },
];

/// The states of a session, with how each is come by.
const STATES: [&str; 7] =
    ["no cookie", "garbage cookie", "expired", "signed out", "refresh dead", "not permitted", "permitted"];

/// A browser in each state, at the gateway that has it.
struct States {
    scenes: Vec<(Gateway, Option<Browser>)>,
}

impl Outcome {
    fn of(answer: &Answer, port: u16, at: &str) -> Self {
        let media_type = answer.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
        if let Some(location) = answer.header("location") {
            assert_eq!((answer.status, location), (302, "/.vestibule/sign-in?to=%2Fpage"), "{at}: {port}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{at}");
            return Self::ToSignIn;
        }
        if let Some(status) = answer.header("grpc-status") {
            let told = (answer.status, media_type, answer.header("cache-control"), answer.body.len());
            assert_eq!(told, (200, "application/grpc", Some("no-store"), 0), "{at}");
            return match status {
                "16" => Self::Unauthenticated,
                "7" => Self::PermissionDenied,
                other => panic!("{at}: {other}"),
            };
        }
        if matches!(answer.status, 200 | 101) {
            return Self::Upstream;
        }
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{at}");
        assert_eq!(answer.header("www-authenticate").is_some(), answer.status == 401, "{at}");
        match (answer.status, media_type) {
            (401, "text/html") => Self::Page401,
            (403, "text/html") => Self::Page403,
            (401, "application/problem+json") => Self::Json401,
            (403, "application/problem+json") => Self::Json403,
            other => panic!("{at}: {other:?}"),
        }
    }

    fn told(self) -> &'static str {
        match self {
            Self::ToSignIn => "302 to our sign-in",
            Self::Page401 => "401 page",
            Self::Json401 => "401 JSON",
            Self::Page403 => "403 page",
            Self::Json403 => "403 JSON",
            Self::Unauthenticated => "status 16",
            Self::PermissionDenied => "status 7",
            Self::Upstream => "upstream",
        }
    }
}

impl States {
    async fn start() -> Option<(Self, Upstream, Vec<crate::support::provider::Provider>)> {
        let (long, short) = (Gateway::provider(&[])?, Gateway::provider(&[("ACCESS_TOKEN_TTL", "4")])?);
        let upstream = Upstream::start().await;
        let plain = async |more: &str, issuer: &str| {
            Gateway::start(&configuration(issuer, &upstream, "", "", more), POLICIES).await
        };
        let mut scenes = Vec::new();
        let gateway = plain("", &long.issuer).await;
        scenes.push((gateway, None));
        let garbage = Browser { session: "garbage".to_owned(), binding: "garbage".to_owned() };
        scenes.push((plain("", &long.issuer).await, Some(garbage)));
        let gateway = plain("sessions: { idle: 1s }\n", &long.issuer).await;
        let browser = gateway.sign_in(&long, "alice").await;
        gateway.until("it expires", async || gateway.get_as(&browser, "/.vestibule/session").await.status == 401).await;
        scenes.push((gateway, Some(browser)));
        let gateway = plain("", &long.issuer).await;
        let browser = gateway.sign_in(&long, "alice").await;
        let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
        gateway.request("POST", "/.vestibule/sign-out", &[&gateway.cookies(&browser), &own]).await;
        scenes.push((gateway, Some(browser)));
        let gateway = plain("", &short.issuer).await;
        let browser = gateway.sign_in(&short, "alice").await;
        short.admin("/admin/revoke", json!({ "user": "alice" })).await;
        gateway
            .until("the refresh is rejected", async || {
                gateway.get_as(&browser, "/.vestibule/session").await.status == 401
            })
            .await;
        scenes.push((gateway, Some(browser)));
        for user in ["mallory", "alice"] {
            let gateway = plain("", &long.issuer).await;
            let browser = gateway.sign_in(&long, user).await;
            scenes.push((gateway, Some(browser)));
        }
        Some((Self { scenes }, upstream, vec![long, short]))
    }

    async fn ask(&self, class: &Class, state: usize) -> Outcome {
        let (gateway, browser) = &self.scenes[state];
        let mut lines: Vec<_> =
            class.lines.iter().map(|line| line.replace("PORT", &gateway.port.to_string())).collect();
        lines.extend(browser.as_ref().map(|browser| gateway.cookies(browser)));
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let answer = match class.name {
            GRPC => over_http2(gateway.port, class.method, &lines).await,
            _ => gateway.request(class.method, "/page", &lines).await,
        };
        Outcome::of(&answer, gateway.port, &format!("{} with {}", class.name, STATES[state]))
    }
}

/// The same by HTTP/2, which alone carries gRPC.
async fn over_http2(port: u16, method: &str, lines: &[&str]) -> Answer {
    let fields: Vec<_> = lines.iter().filter_map(|line| line.split_once(": ")).collect();
    let wire = TcpStream::connect(("127.0.0.1", port)).await.expect("the gateway listens");
    let answer = Http2::over(wire).await.ask(method, &format!("http://127.0.0.1:{port}/page"), &fields).await;
    answer.expect("an answer")
}

/// P08, S-94, S-96: one behaviour per row; only a navigation is sent anywhere, and never to another origin.
#[tokio::test]
async fn p08_s96_every_class_has_one_behaviour_in_every_state() {
    let Some((states, upstream, _providers)) = States::start().await else { return };
    let mut printed = String::from("| Request | No session | Not permitted | Permitted |\n|---|---|---|---|\n");
    upstream.take();
    for class in CLASSES {
        for (state, name) in STATES.iter().enumerate() {
            let found = states.ask(class, state).await;
            let expected = match *name {
                "permitted" => Outcome::Upstream,
                "not permitted" => class.refused,
                _ => class.stranger,
            };
            assert_eq!(found, expected, "{} with {name}", class.name);
        }
        let (stranger, refused) = (class.stranger.told(), class.refused.told());
        printed.push_str(&format!("| {} | {stranger} | {refused} | upstream |\n", class.name));
    }
    assert_eq!(upstream.take().len(), CLASSES.len(), "the upstream saw what was permitted, and nothing else");
    let page = include_str!("../../docs/refusals.md");
    assert!(page.contains(&printed), "docs/refusals.md should have this table:\n{printed}");
}
