//! Pages that other pages show in frames: their own cookies, a window to sign in, and nobody else's frame.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration},
    http1::Answer,
    provider::Provider,
    upstream::Upstream,
};
use url::Url;

const FRAMED: &[&str] =
    &["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Sec-Fetch-Site: cross-site"];
const TOP: &[&str] = &["Accept: text/html", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document"];

/// A gateway behind a balancer that ends TLS; `wiki.example.com` may be shown in frames, `portal.example.com` may not.
async fn scene() -> Option<(Provider, Upstream, Gateway)> {
    scene_with("host: portal.example.com\n").await
}

async fn scene_with(portal: &str) -> Option<(Provider, Upstream, Gateway)> {
    let provider = Provider::start(&[
        ("REDIRECT_URIS", "https://portal.example.com/.vestibule/callback/gitlab"),
        ("PROFILE", "gitlab"),
    ])?;
    let upstream = Upstream::start().await;
    let wiki = format!(
        "  - name: wiki\n    host: wiki.example.com\n    upstream: http://127.0.0.1:{}\n    allow: [signed-in]\n    frame: {{ ancestors: [\"https://intranet.example.com\"] }}\n",
        upstream.port
    );
    let written = configuration(&provider.issuer, &upstream, "", "", "trusted_proxies: [127.0.0.0/8]\n")
        .replace("public_url: http://127.0.0.1:PORT", "public_url: https://portal.example.com")
        .replace("- name: app\n", &format!("- name: app\n    {portal}"))
        .replace("policies:", &format!("{wiki}policies:"));
    let gateway = Gateway::start(&written, POLICIES).await;
    let start = Url::parse("https://portal.example.com/.vestibule/sign-in/gitlab").expect("a URL");
    gateway.until("the provider is discovered", async || ask(&gateway, &start, "", TOP).await.status == 302).await;
    Some((provider, upstream, gateway))
}

async fn ask(gateway: &Gateway, url: &Url, cookies: &str, lines: &[&str]) -> Answer {
    let (host, target) = (url.host_str().expect("a host"), &url[url::Position::BeforePath..url::Position::AfterQuery]);
    let cookie = if cookies.is_empty() { String::new() } else { format!("Cookie: {cookies}\r\n") };
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let proto = "X-Forwarded-Proto: https\r\n";
    gateway.raw(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{proto}{cookie}{lines}\r\n")).await
}

fn at(url: &str) -> Url {
    Url::parse(url).expect("a URL")
}

/// Where the button of a frame's page leads.
fn window(frame: &Answer) -> Url {
    let text = frame.text();
    let href = text.split("href=\"https://portal.").nth(1).and_then(|rest| rest.split('"').next()).expect("a link");
    at(&format!("https://portal.{}", href.replace("&amp;", "&")))
}

/// `NAME=VALUE` of the cookie that an answer sets.
fn cookie(answer: &Answer, name: &str) -> Option<String> {
    answer.cookie(name).map(|value| format!("{name}={value}"))
}

/// P06: a framed navigation without session gets a small page, never a redirect; its cookies are partitioned; the window that
/// signs in gives the code to the frame, which gets a handle of its own.
#[tokio::test]
async fn p06_a_frame_signs_in_through_a_window_of_its_own() {
    let Some((provider, upstream, gateway)) = scene().await else { return };
    let ancestors = "frame-ancestors 'self' https://intranet.example.com";
    let first = ask(&gateway, &at("https://wiki.example.com/page?a=b"), "", FRAMED).await;
    assert_eq!((first.status, first.header("location")), (401, None));
    assert!(first.text().contains("/.vestibule/frame?to=%2Fpage%3Fa%3Db"), "{}", first.text());
    assert!(first.header("content-security-policy").is_some_and(|policy| policy.contains(ancestors)));
    assert_eq!(first.header("x-frame-options"), None);
    let frame = ask(&gateway, &at("https://wiki.example.com/.vestibule/frame?to=%2Fpage%3Fa%3Db"), "", FRAMED).await;
    assert_eq!(frame.status, 200);
    assert!(frame.header("content-security-policy").is_some_and(|policy| policy.contains(ancestors)));
    let set = frame.headers("set-cookie")[0];
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=None; Secure; Partitioned"), "{set}");
    let binding = cookie(&frame, "__Host-vestibule-binding").expect("a binding");
    // in the window, with the cookies of the top level
    let away = ask(&gateway, &window(&frame), "", TOP).await;
    assert_eq!(away.status, 302, "{}", away.text());
    let bound = cookie(&away, "__Host-vestibule-binding").expect("a binding");
    let back = provider.authorize(&at(away.header("location").expect("to the provider")), "alice").await.url;
    let end = ask(&gateway, &back, &bound, TOP).await;
    assert_eq!(end.status, 303, "{}", end.text());
    let end = at(end.header("location").expect("to the host"));
    let place = &end[..url::Position::AfterPath];
    assert_eq!((place, end.query()), ("https://wiki.example.com/.vestibule/signed-in", None));
    let code = end.fragment().and_then(|fragment| fragment.strip_prefix("code=")).expect("a code, for the script");
    // the frame takes it
    let arrive = at(&format!("https://wiki.example.com/.vestibule/arrive?code={code}"));
    let arrived = ask(&gateway, &arrive, &binding, FRAMED).await;
    assert_eq!((arrived.status, arrived.header("location")), (303, Some("/page?a=b")));
    let session = cookie(&arrived, "__Host-vestibule").expect("a session");
    let page = ask(&gateway, &at("https://wiki.example.com/page?a=b"), &session, FRAMED).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-security-policy"), Some(ancestors), "an upstream's page says who may show it");
    assert_eq!(upstream.only().one("x-forwarded-user"), Some("1"));
}

/// S-54: where a frame shares its cookies with the top level, as on the site of the page around it, the window has signed it in
/// already: the session keeps its own handle, and with it its place in the store, where a provider's sign-out finds it.
#[tokio::test]
async fn s54_a_frame_of_the_same_site_keeps_the_session_that_its_window_began() {
    let portal = "host: portal.example.com\n    frame: { ancestors: [\"https://intranet.example.com\"] }\n";
    let Some((provider, _upstream, gateway)) = scene_with(portal).await else { return };
    let frame = ask(&gateway, &at("https://portal.example.com/.vestibule/frame?to=%2Fpage"), "", FRAMED).await;
    let binding = cookie(&frame, "__Host-vestibule-binding").expect("a binding");
    let away = ask(&gateway, &window(&frame), &binding, TOP).await;
    let back = provider.authorize(&at(away.header("location").expect("to the provider")), "alice").await.url;
    let end = ask(&gateway, &back, &binding, TOP).await;
    let session = cookie(&end, "__Host-vestibule").expect("a session");
    let end = at(end.header("location").expect("to the host"));
    let code = end.fragment().and_then(|fragment| fragment.strip_prefix("code=")).expect("a code, for the script");
    let arrive = at(&format!("https://portal.example.com/.vestibule/arrive?code={code}"));
    let arrived = ask(&gateway, &arrive, &format!("{binding}; {session}"), FRAMED).await;
    assert_eq!((arrived.status, arrived.header("location")), (303, Some("/page")));
    assert_eq!(cookie(&arrived, "__Host-vestibule"), None, "it has its handle");
    assert_eq!(ask(&gateway, &at("https://portal.example.com/"), &session, FRAMED).await.status, 200);
}

/// S-52, P05: where a host's pages are shown in frames from today on, or no more, browsers have a cookie of either kind and send
/// both. Signing in takes the former one back, so that nobody is kept out.
#[tokio::test]
async fn p05_cookies_from_before_a_host_was_framed_keep_nobody_out() {
    let Some((_provider, _upstream, gateway)) = scene().await else { return };
    let (lax, framed) = ("SameSite=Lax; Secure", "SameSite=None; Secure; Partitioned");
    for (place, former) in [
        ("https://wiki.example.com/.vestibule/sign-in?to=%2F", lax),
        ("https://wiki.example.com/.vestibule/sign-in?to=%2F&go=1", lax),
        ("https://portal.example.com/.vestibule/sign-in?to=%2F", framed),
        ("https://portal.example.com/.vestibule/sign-in/gitlab", framed),
    ] {
        for name in ["__Host-vestibule", "__Host-vestibule-binding"] {
            let back = format!("{name}=; Path=/; HttpOnly; {former}; Max-Age=0");
            for (cookies, expected) in [(format!("{name}=a; {name}=b"), true), (format!("{name}=a"), false)] {
                let answer = ask(&gateway, &at(place), &cookies, TOP).await;
                assert_eq!(answer.headers("set-cookie").contains(&&*back), expected, "{place} with {cookies}");
            }
        }
    }
}

/// What may not be shown in frames is not: other hosts, and our own pages that act.
#[tokio::test]
async fn p06_s95_other_pages_are_not_shown_in_frames() {
    let Some((_provider, _upstream, gateway)) = scene().await else { return };
    let portal = ask(&gateway, &at("https://portal.example.com/"), "", FRAMED).await;
    assert_eq!((portal.status, portal.header("content-type")), (401, Some("application/problem+json")));
    let none = ask(&gateway, &at("https://portal.example.com/.vestibule/frame?to=%2F"), "", FRAMED).await;
    assert_eq!(none.status, 404);
    for path in ["sign-out", "sign-in", "signed-in"] {
        let page = ask(&gateway, &at(&format!("https://wiki.example.com/.vestibule/{path}")), "", FRAMED).await;
        assert!(
            page.header("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors 'none'")),
            "{path}"
        );
        assert_eq!(page.header("x-frame-options"), Some("DENY"), "{path}");
    }
    let lax = ask(&gateway, &at("https://portal.example.com/.vestibule/sign-in/gitlab"), "", TOP).await;
    assert!(lax.headers("set-cookie")[0].ends_with("; Path=/; HttpOnly; SameSite=Lax; Secure"));
}
