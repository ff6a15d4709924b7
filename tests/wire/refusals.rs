//! How refusals look: to people, to pages, to machines.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration, free_port},
    http1::Wire,
    upstream::Upstream,
};

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// S-96, P08: only a top-level navigation is redirected; everything else is told 401.
#[tokio::test]
async fn s96_only_a_navigation_is_redirected() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    let garbage = format!("Cookie: {}=garbage", gateway.session_cookie());
    let unknown = format!("Cookie: {}={}", gateway.session_cookie(), "A".repeat(43));
    let kinds: &[(&str, &[&str], u16)] = &[
        ("navigation", &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"], 302),
        ("old browser", &["Accept: text/html,*/*"], 302),
        ("fetch", &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty", "Accept: */*"], 401),
        ("xhr", &["X-Requested-With: XMLHttpRequest", "Accept: text/html"], 401),
        ("event stream", &["Sec-Fetch-Mode: cors", "Accept: text/event-stream"], 401),
        ("script", &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: script", "Accept: */*"], 401),
        ("style", &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: style", "Accept: text/css"], 401),
        ("image", &["Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image", "Accept: image/*"], 401),
        ("frame", &["Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: iframe", "Accept: text/html"], 401),
        ("manifest", &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: manifest"], 401),
        ("service worker", &["Sec-Fetch-Mode: same-origin", "Sec-Fetch-Dest: serviceworker"], 401),
        ("websocket", &["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY], 401),
        ("curl", &["Accept: */*"], 401),
        ("nothing", &[], 401),
        ("bearer", &["Authorization: Bearer x", "Accept: text/html"], 401),
    ];
    for (kind, lines, status) in kinds {
        for cookie in [None, Some(&garbage), Some(&unknown)] {
            let mut lines = lines.to_vec();
            lines.extend(cookie.map(String::as_str));
            let answer = gateway.get("/page", &lines).await;
            assert_eq!(answer.status, *status, "{kind} with {cookie:?}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{kind}");
            match answer.header("location") {
                Some(location) => assert_eq!((*status, location), (302, "/.vestibule/sign-in?to=%2Fpage")),
                None => {
                    assert!(answer.header("www-authenticate").is_some(), "{kind}");
                    assert_eq!(answer.json()["code"], "no_session", "{kind}");
                    assert_eq!(answer.json()["sign_in"], "/.vestibule/sign-in", "{kind}");
                }
            }
        }
    }
    assert!(upstream.take().is_empty(), "the upstream saw nothing");
}

/// A refusal has three sides: the status, an upstream that saw nothing, and one event.
#[tokio::test]
async fn who_is_known_and_not_permitted_is_told_why() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "mallory").await;
    let page = gateway.get("/secret", &[&gateway.cookies(&browser), "Accept: text/html"]).await;
    assert_eq!(page.status, 403);
    let text = page.text();
    for said in [
        "mallory",
        "The application is for everyone in platform.",
        "Ask an owner of platform to add you.",
        "Switch account",
        "href=\"/.vestibule/sign-out\">Sign out</a>",
        "<dt>Groups read</dt>",
    ] {
        assert!(text.contains(said), "{said} is missing in {text}");
    }
    let id = page.header("x-request-id").expect("a request id").to_owned();
    assert!(text.contains(&id));
    assert!(!text.contains("<script>alert") && !text.contains("</script> Ün"), "S-95: names are escaped");
    assert!(!text.contains(&upstream.port.to_string()), "S-105: no internals");
    assert!(upstream.take().is_empty());
    let event = gateway.audited("the refusal", |record| record.to_string().contains(&id)).await;
    assert!(event.to_string().contains("not_permitted"), "{event}");
    let same: Vec<_> = gateway.audit().into_iter().filter(|record| record.to_string().contains(&id)).collect();
    assert_eq!(same.len(), 1, "one event");
}

/// P57: of several policies the one is told first that one more membership would make permit this, on pages and in JSON; and no
/// group is named but by an author.
#[tokio::test]
async fn p57_what_would_let_them_in_is_told_first() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let policy = |id: &str| {
        format!(
            "@id(\"{id}\") @reason(\"For those who write {id}.\")\n\
             permit (principal is User in Group::\"gitlab:untold/{id}\", action, resource == Route::\"app\")\n\
             when {{ context.path like \"/{id}/*\" }};\n"
        )
    };
    let policies = ["docs", "api", "web"].map(policy).concat();
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), &policies).await;
    let browser = gateway.sign_in(&provider, "mallory").await;
    let cookies = gateway.cookies(&browser);
    for (path, first) in
        [("/docs/x", "docs"), ("/web/x", "web"), ("/api/x", "api"), ("/other", "docs"), ("/web/y", "web")]
    {
        let page = gateway.get(path, &[&cookies, "Accept: text/html"]).await;
        let text = page.text();
        let place = |id: &str| text.find(&format!("For those who write {id}.")).unwrap_or(usize::MAX);
        assert_eq!(["docs", "api", "web"].into_iter().min_by_key(|id| place(id)), Some(first), "{path}: {text}");
        assert!(page.status == 403 && !text.contains("untold"), "{text}");
        let problem = gateway.get(path, &[&cookies]).await.json();
        assert_eq!(
            (&problem["policies"][0]["id"], problem["policies"].as_array().map(Vec::len)),
            (&first.into(), Some(3))
        );
    }
    assert!(upstream.take().is_empty());
}

/// The upstream's own bearer passes untouched beside a session, and identifies nobody without one.
#[tokio::test]
async fn the_upstreams_own_bearer_passes_untouched() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let bearer = "Authorization: Bearer eyJ0eXAiOiJ2bmQuYmFja3N0YWdlLnVzZXIifQ.e30.x";
    assert_eq!(gateway.get("/", &[&gateway.cookies(&browser), bearer]).await.status, 200);
    assert_eq!(upstream.only().one("authorization"), Some(&bearer["Authorization: ".len()..]));
    assert_eq!(gateway.get("/", &[bearer]).await.status, 401);
    let twice = gateway.get("/", &[&gateway.cookies(&browser), bearer, "Authorization: Bearer x"]).await;
    assert_eq!(twice.status, 400, "S-70: one Authorization header only");
    assert!(upstream.take().is_empty());
}

/// S-92, S-93: another site's page cannot act with the cookie.
#[tokio::test]
async fn s93_another_site_cannot_act_with_the_cookie() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let cookies = gateway.cookies(&browser);
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    for line in [
        "Origin: https://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "X: y",
    ] {
        assert_eq!(gateway.request("POST", "/", &[&cookies, line]).await.status, 403, "{line}");
    }
    assert!(upstream.take().is_empty());
    for line in [&*own, "Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"] {
        assert_eq!(gateway.request("POST", "/", &[&cookies, line]).await.status, 200, "{line}");
    }
    upstream.take();
    let handshake = ["Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY, &cookies];
    for origin in [None, Some("Origin: null"), Some("Origin: https://evil.example")] {
        let mut lines = handshake.to_vec();
        lines.extend(origin);
        assert_eq!(gateway.get("/ws", &lines).await.status, 403, "{origin:?}");
    }
    assert!(upstream.take().is_empty());
}

/// S-94: what a person got does not leave as `public`.
#[tokio::test]
async fn s94_answers_to_people_are_private() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let answer = gateway.get_as(&browser, "/public-cache").await;
    let cache = answer.header("cache-control").expect("kept");
    assert!(cache.contains("private") && !cache.contains("public"), "{cache}");
    assert!(answer.headers("vary").join(",").contains("Cookie"), "{answer:?}");
}

/// An upstream that is down is a 502 with a page, the operator reads why, and nothing else is told.
#[tokio::test]
async fn an_upstream_that_is_down_is_a_502() {
    let upstream = Upstream::start().await;
    let dead = free_port();
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", "")
        .replace(&format!("127.0.0.1:{}", upstream.port), &format!("127.0.0.1:{dead}"));
    let gateway = Gateway::start(&text, POLICIES).await;
    let page = gateway.get("/public/x", &["Accept: text/html"]).await;
    assert_eq!(page.status, 502);
    assert!(page.text().contains("The service behind this page does not answer"), "{}", page.text());
    assert!(!page.text().contains(&dead.to_string()), "S-105");
    let problem = gateway.get("/public/x", &[]).await;
    assert_eq!(problem.json()["code"], "upstream_failed");
    assert_eq!(problem.json()["detail"], "The service behind this address cannot be reached.");
    assert!(gateway.log().contains("Connection refused"), "{}", gateway.log());
}

/// S-19: a body that was refused is never read as a next request.
#[tokio::test]
async fn s19_a_refused_body_is_no_next_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    let hidden = format!("GET /public/hidden HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port);
    let mut wire = Wire::connect(gateway.port).await;
    wire.send(format!(
        "POST /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: {}\r\n\r\n{hidden}",
        gateway.port,
        hidden.len()
    ))
    .await;
    assert_eq!(wire.answer().await.expect("an answer").status, 401);
    wire.send("GET /public/after HTTP/1.1\r\n").await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(upstream.take().iter().all(|seen| !seen.target.contains("hidden")));
}

/// Errors have the shape that Backstage's front end reads, where a route asks for it.
#[tokio::test]
async fn backstage_reads_our_errors() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "    body: backstage\n", "");
    let gateway = Gateway::start(&text, POLICIES).await;
    let answer = gateway.get("/api/auth/oauth2Proxy/refresh", &["X-Requested-With: XMLHttpRequest"]).await;
    assert_eq!((answer.status, answer.header("content-type")), (401, Some("application/json")));
    let value = answer.json();
    assert_eq!(
        (&value["error"]["name"], &value["response"]["statusCode"]),
        (&"AuthenticationError".into(), &401.into())
    );
}

/// S-102: nothing of the operators' listener stands on the public one.
#[tokio::test]
async fn s102_health_and_metrics_have_their_own_listener() {
    let upstream = Upstream::start().await;
    let operations = free_port();
    let more = format!("operations: {{ address: 127.0.0.1:{operations} }}\n");
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", &more), POLICIES).await;
    for target in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(gateway.get(target, &[]).await.status, 401, "{target}");
        let mut wire = Wire::connect(operations).await;
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(wire.answer().await.expect("an answer").status, 200, "{target}");
    }
    let mut wire = Wire::connect(operations).await;
    wire.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let text = wire.answer().await.expect("an answer").text();
    assert!(text.contains("vestibule_requests_refused_total{reason=\"no_session\"} 3"), "{text}");
}

/// S-105: a request that cannot be read has an id too, which its record knows, beside the address that it came from.
#[tokio::test]
async fn s105_what_cannot_be_read_is_named_and_recorded() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    let answer = gateway.get("/a/../b", &[]).await;
    assert_eq!(answer.status, 400);
    let id = answer.json()["request_id"].as_str().expect("an id").to_owned();
    assert_eq!((id.len(), answer.header("x-request-id")), (32, Some(&*id)));
    let event = gateway.audited("the refusal", |event| event["metadata"]["correlation_uid"] == *id).await;
    assert_eq!((&event["status_code"], &event["src_endpoint"]["ip"]), (&"bad_request".into(), &"127.0.0.1".into()));
    assert!(upstream.take().is_empty(), "the upstream saw nothing");
}

/// Who acted across sites is named in the record, though nobody looked at their groups.
#[tokio::test]
async fn a_cross_site_act_is_recorded_with_its_person() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
    let browser = gateway.sign_in(&provider, "alice").await;
    let answer = gateway.request("POST", "/x", &[&gateway.cookies(&browser), "Origin: https://evil.example"]).await;
    assert_eq!(answer.status, 403);
    let event = gateway.audited("the refusal", |event| event["status_code"] == "cross_site").await;
    assert_eq!(event["actor"]["user"]["uid_alt"], "gitlab:1");
}

/// A refusal over HTTP/2 can be read by who is still sending, whoever refuses: the stream is not reset under them, which `curl`
/// would take for the end of an answer that it did not get.
#[tokio::test]
async fn a_refused_upload_over_http2_is_not_reset_before_it_ends() {
    let upstream = Upstream::start().await;
    let dead = free_port();
    let routes = format!(
        "    host: 127.0.0.1\n  - {{ name: dead, host: 127.0.0.1, path: /dead/, upstream: \"http://127.0.0.1:{dead}\", allow: [public] }}\n"
    );
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", &routes, ""), POLICIES).await;
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.expect("the gateway listens");
    let (mut sender, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = |method: &str, target: &str| {
        let url = format!("http://127.0.0.1:{}{target}", gateway.port);
        http::Request::builder().method(method).uri(url).body(()).expect("a request")
    };
    let refused = [
        ("POST", "/page", 401),
        ("POST", "/dead/x", 502),
        ("POST", "/.vestibule/sign-out", 403),
        ("POST", "/.vestibule/nothing", 404),
        ("TRACE", "/page", 405),
    ];
    for (method, target, status) in refused {
        let (answer, mut upload) = sender.send_request(request(method, target), false).expect("sent");
        let (head, mut body) = answer.await.expect("an answer").into_parts();
        assert_eq!(head.status, status, "{method} {target}");
        while let Some(piece) = body.data().await {
            piece.expect("the whole refusal");
        }
        // what is said of the first stream is said before the second is answered
        let (next, _) = sender.send_request(request("POST", "/page"), true).expect("sent");
        assert_eq!(next.await.expect("an answer").status(), 401);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(upload.poll_reset(&mut context).is_pending(), "{method} {target}");
        upload.send_data(bytes::Bytes::from_static(b"sha=1"), true).expect("the stream is open");
    }
    assert_eq!(upstream.seen(), 0);
}
