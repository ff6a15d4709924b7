//! Pages of other origins: preflights are answered by us, and what they may read is said by the route alone.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration, free_port},
    upstream::Upstream,
};

const ROUTE: &str = "    cors:\n      origins: [\"https://app.example.com\"]\n      methods: [GET, PUT]\n      headers: [X-Mine]\n      expose: [X-Seen]\n      credentials: true\n";

async fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&configuration("http://127.0.0.1:9", upstream, "", ROUTE, ""), POLICIES).await
}

/// S-35, S-97, P40: a preflight is answered from the route's setting, for listed origins only, and never goes upstream.
#[tokio::test]
async fn s97_preflights_are_answered_for_listed_origins_only() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    let listed = "Origin: https://app.example.com";
    let put = "Access-Control-Request-Method: PUT";
    for (lines, status) in [
        (&[listed, put][..], 204),
        (&[listed, put, "Access-Control-Request-Headers: x-mine, content-type"], 204),
        (&[listed, put, "Access-Control-Request-Headers: x-other"], 403),
        (&[listed, "Access-Control-Request-Method: DELETE"], 403),
        (&[listed, "Access-Control-Request-Method: put"], 403),
        (&["Origin: https://evil.example", put], 403),
        (&["Origin: null", put], 403),
        (&["Origin: https://app.example.com.evil.example", put], 403),
        (&["Origin: http://app.example.com", put], 403),
        (&["Origin: https://app.example.com:444", put], 403),
    ] {
        let answer = gateway.request("OPTIONS", "/secret", lines).await;
        assert_eq!(answer.status, status, "{lines:?}");
        let allowed = (lines[0] == listed).then_some("https://app.example.com");
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{lines:?}");
        if status == 204 {
            assert_eq!(answer.header("access-control-allow-methods"), Some("GET, PUT"));
            assert_eq!(answer.header("access-control-allow-headers"), Some("x-mine, content-type"));
            assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
            assert_eq!(answer.header("access-control-max-age"), Some("600"));
        }
        assert!(answer.headers("vary").iter().any(|vary| vary.contains("Origin")), "{lines:?}");
    }
    let plain = gateway.request("OPTIONS", "/secret", &[]).await;
    assert_eq!(plain.status, 401, "an OPTIONS that asks nothing beforehand is decided about like any request");
    assert!(upstream.take().is_empty(), "no preflight goes upstream");
}

/// P09: a page of a listed origin can read a refusal; the upstream's own word on origins is replaced.
#[tokio::test]
async fn refusals_can_be_read_and_the_upstreams_word_is_replaced() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream).await;
    for (target, origin, status, allowed) in [
        ("/secret", "https://app.example.com", 401, Some("https://app.example.com")),
        ("/secret", "https://evil.example", 401, None),
        ("/public/cors", "https://app.example.com", 200, Some("https://app.example.com")),
        ("/public/cors", "https://evil.example", 200, None),
    ] {
        let answer = gateway.get(target, &[&format!("Origin: {origin}"), "Sec-Fetch-Mode: cors"]).await;
        assert_eq!(answer.status, status, "{target} {origin}");
        assert_eq!(answer.headers("access-control-allow-origin"), allowed.into_iter().collect::<Vec<_>>());
        assert_eq!(answer.header("access-control-expose-headers"), allowed.map(|_| "x-seen"));
    }
}

/// S-35: without `cors` a preflight is a request like any other, which nobody permitted.
#[tokio::test]
async fn s35_a_preflight_is_no_exemption() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    let lines = ["Origin: https://app.example.com", "Access-Control-Request-Method: GET"];
    let answer = gateway.request("OPTIONS", "/secret", &lines).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (401, None));
    assert!(upstream.take().is_empty());
}

/// P09: whatever the refusal, pages of listed origins can read it, and no others.
#[tokio::test]
async fn p09_every_refusal_can_be_read_by_listed_pages() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let dead = format!(
        "  - name: dead\n    host: 127.0.0.1\n    path: /dead/\n    upstream: http://127.0.0.1:{}\n    allow: [public]\n{ROUTE}",
        free_port()
    );
    let written = configuration(&provider.issuer, &upstream, "", ROUTE, "")
        .replace("- name: app\n", "- name: app\n    host: 127.0.0.1\n")
        .replace("policies:", &format!("{dead}policies:"));
    let gateway = Gateway::start(&written, POLICIES).await;
    let mallory = gateway.sign_in(&provider, "mallory").await;
    let cookies = gateway.cookies(&mallory);
    for (target, cookies, status) in [("/secret", "X: y", 401), ("/secret", &*cookies, 403), ("/dead/x", "X: y", 502)] {
        for (origin, allowed) in [("https://app.example.com", true), ("https://evil.example", false)] {
            let answer = gateway.get(target, &[cookies, &format!("Origin: {origin}"), "Sec-Fetch-Mode: cors"]).await;
            assert_eq!(answer.status, status, "{target} {origin}");
            assert_eq!(answer.header("access-control-allow-origin"), allowed.then_some(origin), "{target} {origin}");
            assert_eq!(answer.header("access-control-allow-credentials"), allowed.then_some("true"));
            assert!(answer.headers("vary").iter().any(|vary| vary.contains("Origin")));
        }
    }
}
