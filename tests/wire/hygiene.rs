//! What a client says of itself or of other hops reaches no upstream; what is judged is what is sent.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration},
    http1::Wire,
    upstream::Upstream,
};

/// Everybody may do everything: these tests are about what crosses, not about who.
const OPEN: &str = r#"@id("open") permit (principal, action, resource == Route::"app");"#;

/// A gateway whose provider is never asked.
async fn open() -> (Upstream, Gateway) {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), OPEN).await;
    (upstream, gateway)
}

/// The rows of a table in `tests/corpus`.
fn rows(table: &'static str) -> impl Iterator<Item = (Vec<u8>, &'static str)> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with("#!")).map(|line| {
        let (sent, expected) = line.split_once('\t').expect("a row has a tab");
        let mut pieces = sent.split("\\x");
        let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).expect("hex"));
            bytes.extend_from_slice(&piece.as_bytes()[2..]);
        }
        (bytes, expected)
    })
}

/// S-01, S-02, S-03, S-07: no spelling of an identity or forwarding header reaches the upstream as sent.
#[tokio::test]
async fn s01_identity_headers_in_any_spelling_are_removed() {
    let (upstream, gateway) = open().await;
    for (name, fate) in rows(include_str!("../corpus/headers.tsv")) {
        let mut request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n", gateway.port).into_bytes();
        for _ in 0..3 {
            request.extend_from_slice(&name);
            request.extend_from_slice(b": root-canary\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let answer = gateway.raw(&request).await;
        let name = String::from_utf8_lossy(&name).into_owned();
        let seen = upstream.take();
        if fate == "strip" {
            assert!(answer.status == 200 || answer.status == 400, "{name}: {}", answer.status);
            assert!(!format!("{seen:?}").contains("root-canary"), "{name} reached the upstream");
        } else if answer.status == 200 {
            assert!(format!("{seen:?}").contains("root-canary"), "{name} was removed");
        }
    }
}

/// S-05, S-06: `Connection` removes nothing of ours, and hop-by-hop headers cross in neither direction.
#[tokio::test]
async fn s05_connection_options_cannot_remove_what_we_add() {
    let (upstream, gateway) = open().await;
    let lines = [
        "Connection: close, X-Forwarded-For, X-Request-Id, X-Mine, Vestibule-Assertion",
        "X-Mine: 1",
        "Keep-Alive: 5",
        "TE: trailers, deflate",
        "Trailer: X-Late",
        "Proxy-Authorization: Basic eA==",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    ];
    assert_eq!(gateway.get("/", &lines).await.status, 200);
    let seen = upstream.only();
    assert_eq!(seen.one("x-forwarded-for"), Some("127.0.0.1"));
    assert!(seen.one("x-request-id").is_some());
    for gone in ["x-mine", "keep-alive", "te", "trailer", "proxy-authorization", "upgrade", "http2-settings"] {
        assert_eq!(seen.one(gone), None, "{gone}");
    }
}

/// S-25, S-26, S-28: what is refused reaches nobody; what is accepted is sent as it was judged.
#[tokio::test]
async fn s25_the_upstream_gets_the_target_that_was_judged() {
    let (upstream, gateway) = open().await;
    for (target, expected) in rows(include_str!("../corpus/paths.tsv")) {
        if target.contains(&b'#') {
            continue; // hyper cuts a fragment before anybody sees it: what is judged is still what is sent
        }
        let mut request = b"GET ".to_vec();
        request.extend_from_slice(&target);
        request.extend_from_slice(format!(" HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", gateway.port).as_bytes());
        let answer = gateway.raw(&request).await;
        let (shown, seen) = (String::from_utf8_lossy(&target).into_owned(), upstream.take());
        match seen.first() {
            Some(one) => {
                assert_eq!(one.target, expected.trim_end_matches(" reserved"), "{shown}");
                assert!(!expected.starts_with("refused"), "{shown} was forwarded");
            }
            None => assert!(answer.status == 0 || answer.status >= 400, "{shown}: {}", answer.status),
        }
    }
}

/// S-30: a query or fragment never takes part in the matching of paths.
#[tokio::test]
async fn s30_a_query_is_no_path() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    for target in ["/admin?/public/", "/admin?x=/public/x", "/?/public/", "/publicx", "/PUBLIC/x"] {
        assert_eq!(gateway.get(target, &[]).await.status, 401, "{target}");
    }
    assert!(upstream.take().is_empty());
    assert_eq!(gateway.get("/public/x?y", &[]).await.status, 200);
}

/// S-31, S-32: one host, one reading; an unknown host gets no route.
#[tokio::test]
async fn s31_hosts_are_read_in_one_way() {
    let (upstream, gateway) = open().await;
    let port = gateway.port;
    for (head, statuses) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), vec![400]),
        (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: 127.0.0.1:{port}\r\n\r\n"), vec![400]),
        (format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}, evil\r\n\r\n"), vec![400]),
        (format!("GET / HTTP/1.1\r\nHost: user@127.0.0.1:{port}\r\n\r\n"), vec![400]),
        (format!("GET http://other.example/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"), vec![400]),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), vec![421]),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(), vec![421]),
    ] {
        let answer = gateway.raw(&head).await;
        assert!(statuses.contains(&answer.status), "{head}: {}", answer.status);
    }
    assert!(upstream.take().is_empty());
}

/// S-33, S-21: methods and expectations that nobody asked for.
#[tokio::test]
async fn s33_odd_methods_are_refused() {
    let (upstream, gateway) = open().await;
    for method in ["TRACE", "TRACK", "get", "PROPFIND", "FOO", "CONNECT"] {
        let answer = gateway.request(method, "/", &[]).await;
        assert!(matches!(answer.status, 400 | 405), "{method}: {}", answer.status);
    }
    for value in ["200-ok", "100-continue, 100-continue", "x"] {
        let answer = gateway.request("POST", "/", &[&format!("Expect: {value}")]).await;
        assert_eq!(answer.status, 417, "{value}");
    }
    assert!(upstream.take().is_empty());
}

/// S-35: HEAD is judged as reading, OPTIONS like any request.
#[tokio::test]
async fn s35_head_and_options_are_not_exempt() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    assert_eq!(gateway.request("OPTIONS", "/x", &[]).await.status, 401);
    let mut wire = Wire::connect(gateway.port).await;
    wire.send(format!("HEAD /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", gateway.port)).await;
    assert!(String::from_utf8_lossy(&wire.rest().await).starts_with("HTTP/1.1 401"));
    assert!(upstream.take().is_empty());
}

/// S-36: nothing under our prefix is forwarded.
#[tokio::test]
async fn s36_nothing_under_our_prefix_is_forwarded() {
    let (upstream, gateway) = open().await;
    for target in [
        "/.vestibule/",
        "/.vestibule",
        "/.vestibule/unknown",
        "/.Vestibule/sign-in",
        "/.vestibule/sign-in/../../admin",
        "/.vestibule/%2e%2e/admin",
        "/.vestibule/callback/nobody",
        "/.well-known/vestibule/other",
    ] {
        let answer = gateway.get(target, &[]).await;
        assert!(matches!(answer.status, 400 | 404), "{target}: {}", answer.status);
    }
    assert!(upstream.take().is_empty());
    let keys = gateway.get("/.well-known/vestibule/jwks.json", &[]).await;
    assert_eq!(keys.json()["keys"][0]["kty"], "EC");
}

/// S-37: no client header exempts a request.
#[tokio::test]
async fn s37_no_header_exempts_a_request() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    for line in
        ["User-Agent: kube-probe/1.30", "User-Agent: GoogleHC/1.0", "User-Agent:", "X-Requested-With: XMLHttpRequest"]
    {
        for target in ["/", "/healthz", "/ping", "/a.css"] {
            assert_eq!(gateway.get(target, &[line]).await.status, 401, "{line} {target}");
        }
    }
    assert!(upstream.take().is_empty());
}

/// S-09: our cookies stay here, other cookies go byte for byte.
#[tokio::test]
async fn s09_our_cookies_stay_here() {
    let (upstream, gateway) = open().await;
    let (ours, own) = (gateway.session_cookie(), gateway.binding_cookie());
    for (sent, expected) in [
        (format!("{ours}=x; a=1; b=\"2 3\""), Some("a=1; b=\"2 3\"")),
        (format!("a=1; {ours}=x; b=2"), Some("a=1; b=2")),
        (format!("a=1; {ours}=x; {own}=y"), Some("a=1")),
        (format!("{ours}=x"), None),
        (format!("{ours}x=1; a=1"), Some(&*format!("{ours}x=1; a=1"))),
    ] {
        assert_eq!(gateway.get("/", &[&format!("Cookie: {sent}")]).await.status, 200);
        assert_eq!(upstream.only().one("cookie"), expected, "{sent}");
    }
}

/// S-12: an upstream cannot set our cookies.
#[tokio::test]
async fn s12_an_upstream_cannot_set_our_cookies() {
    let (_upstream, gateway) = open().await;
    for name in [gateway.session_cookie(), gateway.binding_cookie()] {
        let answer = gateway.get("/hostile-cookie", &[&format!("X-Cookie-Name: {name}")]).await;
        assert_eq!(answer.headers("set-cookie"), ["theirs=kept; Path=/"], "{name}");
    }
}

/// S-08: with a trusted proxy the client is the right-most untrusted address; without one it is the peer.
#[tokio::test]
async fn s08_the_client_address_comes_from_trusted_proxies_only() {
    let upstream = Upstream::start().await;
    let trusting = "trusted_proxies: [127.0.0.0/8, 10.0.0.0/8]\n";
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", trusting), OPEN).await;
    for (sent, expected) in [
        ("203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7", "203.0.113.7"),
        ("1.1.1.1, 203.0.113.7, 10.0.0.9", "203.0.113.7"),
        ("203.0.113.7, garbage", "127.0.0.1"),
    ] {
        assert_eq!(gateway.get("/", &[&format!("X-Forwarded-For: {sent}")]).await.status, 200);
        assert_eq!(upstream.only().one("x-forwarded-for"), Some(expected), "{sent}");
    }
    let (upstream, gateway) = open().await;
    gateway.get("/", &["X-Forwarded-For: 203.0.113.7"]).await;
    assert_eq!(upstream.only().one("x-forwarded-for"), Some("127.0.0.1"));
}

/// DESIGN, section 3: behind a balancer nobody else is served, and it has to say https.
#[tokio::test]
async fn a_plain_listener_for_an_https_origin_serves_trusted_proxies_only() {
    let upstream = Upstream::start().await;
    let text = configuration("https://gitlab.example.com", &upstream, "", "", "trusted_proxies: [127.0.0.1]\n");
    let text = text.replace("public_url: http://127.0.0.1:PORT", "public_url: https://portal.example.com");
    let gateway = Gateway::start(&text, OPEN).await;
    let ask = |lines: &str| format!("GET / HTTP/1.1\r\nHost: portal.example.com\r\n{lines}\r\n");
    assert_eq!(gateway.raw(ask("X-Forwarded-Proto: https\r\n")).await.status, 200);
    assert_eq!(gateway.raw(ask("")).await.status, 403);
    assert_eq!(gateway.raw(ask("X-Forwarded-Proto: http\r\n")).await.status, 403);
    assert_eq!(gateway.raw(ask("X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\n")).await.status, 403);
    let seen = upstream.only();
    assert_eq!(
        (seen.one("x-forwarded-proto"), seen.one("x-forwarded-host")),
        (Some("https"), Some("portal.example.com"))
    );
}

/// S-100, S-101: whatever a client sends, every request leaves one record that parses.
#[tokio::test]
async fn s100_hostile_bytes_leave_one_record_each() {
    let (_upstream, gateway) = open().await;
    let hostile = ["\u{202e}evil", "a\u{2028}b", "\u{85}x", "\"}\\n{\""];
    for agent in hostile {
        let request = format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nUser-Agent: {agent}\r\n\r\n", gateway.port);
        gateway.raw(request).await;
    }
    gateway.get("/last", &[]).await;
    gateway.audited("the last request", |record| record.to_string().contains("/last")).await;
    let count = gateway.audit().iter().filter(|record| record["class_uid"] == 4002).count();
    assert_eq!(count, hostile.len() + 1);
    let text: String = std::fs::read_dir(gateway.path("state/journal"))
        .expect("a journal")
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .collect();
    assert!(text.bytes().all(|byte| byte == b'\n' || (0x20..0x7f).contains(&byte)), "the journal is plain ASCII");
}

/// S-02: whoever has no groups has no groups header upstream, never the client's.
#[tokio::test]
async fn s02_no_groups_is_no_header() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    provider.admin("/admin/user", serde_json::json!({ "user": "mallory", "memberships": {} })).await;
    let upstream = Upstream::start().await;
    let route = "    groups_header: [\"gitlab:platform/**\"]\n";
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", route, ""), OPEN).await;
    let browser = gateway.sign_in(&provider, "mallory").await;
    let answer = gateway.get("/", &[&gateway.cookies(&browser), "X-Forwarded-Groups: platform"]).await;
    assert_eq!(answer.status, 200);
    let seen = upstream.only();
    assert_eq!((seen.one("x-forwarded-user"), seen.one("x-forwarded-groups")), (Some("666"), None));
}

/// S-04: trailers say nothing about who asks.
#[tokio::test]
async fn s04_trailers_do_not_cross() {
    let (upstream, gateway) = open().await;
    let request = format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-User\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Forwarded-User: root-canary\r\n\r\n",
        gateway.port
    );
    assert_eq!(gateway.raw(request).await.status, 200);
    let seen = upstream.only();
    assert!(!format!("{seen:?}").contains("root-canary"));
    assert_eq!(seen.one("trailer"), None);
    assert_eq!(seen.one("transfer-encoding"), Some("chunked"), "S-18: one framing, ours");
}

/// S-28, S-34: an escaped letter is that letter, and no header overrides a method.
#[tokio::test]
async fn s28_escaped_letters_are_judged_as_letters() {
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), POLICIES).await;
    for target in ["/%70ublic/x", "/publi%63/x", "/%70%75%62%6c%69%63/x"] {
        assert_eq!(gateway.get(target, &[]).await.status, 200, "{target}");
        assert_eq!(upstream.only().target, "/public/x");
    }
    assert_eq!(gateway.request("POST", "/public/x", &["X-HTTP-Method-Override: GET"]).await.status, 401);
    assert!(upstream.take().is_empty());
    assert_eq!(gateway.get("/public/x", &["X-HTTP-Method-Override: DELETE"]).await.status, 200);
    assert_eq!(upstream.only().one("x-http-method-override"), None, "S-34");
}

/// A page under a wrong host name has its style, and nothing else is served there.
#[tokio::test]
async fn a_wrong_host_gets_a_page_with_its_style() {
    let (upstream, gateway) = open().await;
    let ask = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n");
    assert_eq!(
        gateway.raw(ask("/.vestibule/assets/pages.css")).await.header("content-type"),
        Some("text/css; charset=utf-8")
    );
    for target in ["/", "/.vestibule/sign-in", "/.vestibule/session"] {
        assert_eq!(gateway.raw(ask(target)).await.status, 421, "{target}");
    }
    assert!(upstream.take().is_empty());
}

/// S-18: what goes upstream has exactly one framing field, chosen by us, whatever the client's had.
#[tokio::test]
async fn s18_the_upstreams_message_has_one_framing_field() {
    let (upstream, gateway) = open().await;
    let host = format!("Host: 127.0.0.1:{}\r\n", gateway.port);
    for (sent, expected) in [
        ("POST / HTTP/1.1\r\nHOSTContent-Length: 003\r\n\r\nabc", [Some("3"), None]),
        ("POST / HTTP/1.1\r\nHOSTTransfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", [None, Some("chunked")]),
        (
            "POST / HTTP/1.1\r\nHOSTTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n",
            [None, Some("chunked")],
        ),
        ("POST / HTTP/1.1\r\nHOST\r\n", [Some("0"), None]),
        ("GET / HTTP/1.1\r\nHOST\r\n", [None, None]),
        ("DELETE / HTTP/1.1\r\nHOSTContent-Length: 2\r\n\r\nab", [Some("2"), None]),
    ] {
        assert_eq!(gateway.raw(sent.replace("HOST", &host)).await.status, 200, "{sent}");
        let seen = upstream.only();
        assert_eq!([seen.one("content-length"), seen.one("transfer-encoding")], expected, "{sent}");
    }
}

/// S-88: what is compressed passes as it is, in both directions: nobody here unpacks it.
#[tokio::test]
async fn s88_nothing_is_decompressed() {
    let (upstream, gateway) = open().await;
    let bomb = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xff];
    let head = format!(
        "POST /compressed HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        gateway.port,
        bomb.len()
    );
    let answer = gateway.raw([head.as_bytes(), &bomb].concat()).await;
    assert_eq!((answer.status, answer.header("content-encoding")), (200, Some("gzip")));
    assert_eq!(answer.body, bomb, "as it was sent, and as it came back");
    let seen = upstream.only();
    assert_eq!((seen.one("content-encoding"), seen.one("content-length")), (Some("gzip"), Some("12")));
}

/// S-91: no pattern of a policy makes matching take longer than the text is long.
#[tokio::test]
async fn s91_patterns_match_in_linear_time() {
    let upstream = Upstream::start().await;
    let stars = "*a".repeat(60);
    let policy = format!(
        "@id(\"stars\")\n@reason(\"x\")\npermit (principal, action, resource) when {{ context.path like \"/{stars}*b\" }};"
    );
    let gateway = Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy).await;
    let start = std::time::Instant::now();
    let answer = gateway.get(&format!("/{}", "a".repeat(8000)), &[]).await;
    assert_eq!(answer.status, 401);
    assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
}
