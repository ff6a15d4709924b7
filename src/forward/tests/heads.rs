//! What the upstream is told of a request, and the client of its answer.

use super::*;

#[tokio::test]
async fn tells_the_upstream_who_asks_exactly_once() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let answer = front
        .ask("GET /a%20b?q=1 HTTP/1.1\r\nHost: app.test\r\nAuthorization: Bearer theirs\r\nCookie: a=1\r\nX-Forwarded-User: root\r\nX-Forwarded-User: root2\r\nConnection: close, X-Forwarded-Login\r\n\r\n")
        .await;
    assert_eq!(status(&answer), "200");
    let request = heard.recv().await.expect("a request");
    assert!(request.starts_with("GET /a%20b?q=1 HTTP/1.1\r\n"), "{request}");
    for (name, value) in [
        ("host", "app.test:8443"),
        ("x-forwarded-user", "907"),
        ("x-forwarded-preferred-username", "andr%C3%A9"),
        ("x-forwarded-email", "andre@example.com"),
        ("x-forwarded-groups", "acme/gr%C3%B6%C3%9Fe"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-host", "app.test:8443"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "00000000000000000000000000000007"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("authorization", "Bearer theirs"),
        ("cookie", "a=1"),
    ] {
        assert_eq!(field(&request, name), Some(value), "{name}");
    }
    assert!(field(&request, "vestibule-assertion").is_some_and(|token| token.split('.').count() == 3));
    assert_eq!(field(&request, "connection"), None);
    assert_eq!(field(&request, "content-length").or(field(&request, "transfer-encoding")), None);
}

#[tokio::test]
async fn tells_nothing_of_nobody_and_no_plain_names_of_another_provider() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let nobody = Front::with(route(&upstream.authority()), Principal::Anonymous).await;
    nobody.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Email: root\r\nVestibule-Assertion: x\r\n\r\n").await;
    let request = heard.recv().await.expect("a request");
    assert_eq!((field(&request, "x-forwarded-email"), field(&request, "vestibule-assertion")), (None, None));
    let mut other = route(&upstream.authority());
    other.header_provider = Some("okta".parse().expect("a name"));
    Front::with(other, user(&[])).await.get().await;
    let request = heard.recv().await.expect("a request");
    assert_eq!(field(&request, "x-forwarded-user"), None);
    assert!(field(&request, "vestibule-assertion").is_some());
}

#[tokio::test]
async fn says_that_groups_are_truncated() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let groups: Vec<String> = (0..300).map(|number| format!("acme/team-{number:03}")).collect();
    let front =
        Front::with(route(&upstream.authority()), user(&groups.iter().map(String::as_str).collect::<Vec<_>>())).await;
    front.get().await;
    let request = heard.recv().await.expect("a request");
    assert_eq!(field(&request, "vestibule-groups-truncated"), Some("true"));
    assert!(field(&request, "x-forwarded-groups").is_some_and(|groups| groups.len() <= 2048));
    assert!(request.len() < 8000);
}

#[tokio::test]
async fn signs_once_and_keeps_the_connection_for_the_next_request() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let mut assertions = Vec::new();
    for _ in 0..3 {
        front.get().await;
        let request = heard.recv().await.expect("a request");
        assertions.push(field(&request, "vestibule-assertion").expect("an assertion").to_owned());
    }
    assert_eq!(upstream.connections(), 1);
    assert!(assertions.iter().all(|assertion| *assertion == assertions[0]));
}

#[tokio::test]
async fn frames_bodies_anew() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let table = [
        ("POST", "Content-Length: 0\r\n\r\n", Some("0"), None, ""),
        ("POST", "Content-Length: 3\r\n\r\nabc", Some("3"), None, "abc"),
        ("GET", "Content-Length: 3\r\n\r\nabc", Some("3"), None, "abc"),
        (
            "PUT",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Forwarded-User: root\r\n\r\n",
            None,
            Some("chunked"),
            "3\r\nabc\r\n0\r\n\r\n",
        ),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            None,
            Some("chunked"),
            "3\r\nabc\r\n0\r\n\r\n",
        ),
    ];
    for (method, rest, length, coding, body) in table {
        let answer = within(front.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{rest}"))).await;
        assert_eq!(status(&answer), "200", "{method} {rest}");
        let request = heard.recv().await.expect("a request");
        assert_eq!(
            (field(&request, "content-length"), field(&request, "transfer-encoding")),
            (length, coding),
            "{rest}"
        );
        assert_eq!(request.split_once("\r\n\r\n").expect("a body").1, body);
    }
}

#[tokio::test]
async fn asks_for_the_body_once_it_goes_upstream_and_forwards_no_expectation() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let front = Front::start(&upstream).await;
    let mut client = front.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    client.write_all(head.as_bytes()).await.expect("written");
    assert!(within(read_head(&mut client)).await.expect("interim").starts_with("HTTP/1.1 100 "));
    client.write_all(b"abc").await.expect("written");
    assert_eq!(status(&within(read_message(&mut client)).await.expect("an answer")), "200");
    assert_eq!(field(&heard.recv().await.expect("a request"), "expect"), None);
}

#[tokio::test]
async fn does_not_ask_for_a_body_that_cannot_be_forwarded() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let front = Front::with(route(&unused.to_string()), Principal::Anonymous).await;
    let answer = front.ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(status(&answer), "502");
    assert!(answer.contains("upstream_failed: cannot connect to `127.0.0.1:"), "{answer}");
}

#[tokio::test]
async fn cleans_answers() {
    let (upstream, _heard) = Scripted::echo(
        "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\nProxy-Authenticate: Basic\r\nVestibule-Login: x\r\nSet-Cookie: __Host-vestibule=evil\r\nSet-Cookie: theirs=1\r\nCache-Control: public, s-maxage=5, max-age=9\r\nServer: up\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let answer = Front::start(&upstream).await.get().await;
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "vestibule-login", "connection"] {
        assert_eq!(field(&answer, gone), None, "{gone}");
    }
    assert_eq!(field(&answer, "set-cookie"), Some("theirs=1"));
    assert_eq!(field(&answer, "cache-control"), Some("private, max-age=9"));
    assert_eq!(field(&answer, "vary"), Some("Cookie, Authorization"));
    assert_eq!(field(&answer, "server"), Some("up"));
    let nobody = Front::with(route(&upstream.authority()), Principal::Anonymous).await.get().await;
    assert_eq!(field(&nobody, "cache-control"), Some("public, s-maxage=5, max-age=9"));
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for (method, sent) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n"),
        ("GET", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let (upstream, _heard) = Scripted::echo(sent).await;
        let front = Front::start(&upstream).await;
        let mut client = front.connect().await;
        for _ in 0..2 {
            client.write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.expect("written");
            let answer = within(read_head(&mut client)).await.expect("an answer");
            let last = sent.rsplit("HTTP/1.1 ").next().expect("a status");
            assert_eq!(status(&answer), &last[..3]);
            if method == "HEAD" {
                assert_eq!(field(&answer, "content-length"), Some("500"));
            }
        }
        assert_eq!(upstream.connections(), 1, "{sent}");
    }
}

/// What the upstream was asked for: target, host and prefix.
async fn asked(
    route: Route,
    heard: &mut mpsc::UnboundedReceiver<String>,
    target: &str,
) -> (String, String, Option<String>) {
    let front = Front::with(route, Principal::Anonymous).await;
    let answer =
        within(front.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: /evil\r\n\r\n"))).await;
    assert_eq!(status(&answer), "200", "{answer}");
    let request = heard.recv().await.expect("a request");
    assert_eq!(field(&request, "x-forwarded-host"), Some("app.test:8443"), "stays what was asked for");
    let line = request.split(' ').nth(1).expect("a target").to_owned();
    (
        line,
        field(&request, "host").expect("a host").to_owned(),
        field(&request, "x-forwarded-prefix").map(str::to_owned),
    )
}

#[tokio::test]
async fn strips_the_path_of_the_route_and_says_so() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    for (path, target, sent, prefix) in [
        ("/api-x/", "/api-x", "/", Some("/api-x")),
        ("/api-x/", "/api-x/", "/", Some("/api-x")),
        ("/api-x/", "/api-x?a=/api-x/", "/?a=/api-x/", Some("/api-x")),
        ("/api-x/", "/api-x/v1/api-x/y?q", "/v1/api-x/y?q", Some("/api-x")),
        ("/api-x/", "/API-X/v1", "/v1", Some("/API-X")),
        ("/a/b/", "/a/b/c%2Fd", "/c%2Fd", Some("/a/b")),
    ] {
        let route = Route { path: path.into(), strip_path: true, ..route(&upstream.authority()) };
        let (line, host, told) = asked(route, &mut heard, target).await;
        assert_eq!((line.as_str(), host.as_str(), told.as_deref()), (sent, "app.test:8443", prefix), "{target}");
    }
}

#[tokio::test]
async fn asks_for_the_host_that_the_route_says() {
    let (upstream, mut heard) = Scripted::echo(OK).await;
    let authority = upstream.authority();
    for (host_header, expected) in [
        (HostHeader::Preserve, "app.test:8443"),
        (HostHeader::Upstream, authority.as_str()),
        (HostHeader::Literal("portal.internal:8080".into()), "portal.internal:8080"),
    ] {
        let route = Route { host_header, ..route(&authority) };
        assert_eq!(asked(route, &mut heard, "/").await.1, expected);
    }
}
