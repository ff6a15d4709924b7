//! What somebody with a token, or with made-up ones, may try to get further than they should.

use crate::support::{
    gateway::{Gateway, configuration},
    http1::Wire,
    provider::CLIENT_ID,
    tls::{Authority, with_certificates},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

async fn mint(provider: &crate::support::provider::Provider, header: Value, claims: Value) -> String {
    let now = seconds();
    let mut all = json!({"iat": now, "exp": now + 600});
    all.as_object_mut().expect("it is there").extend(claims.as_object().expect("it is there").clone());
    provider.mint(json!({"claims": all, "header": header})).await
}

/// S-50: a person of another provider of a sibling is not the person of this provider with the same number.
#[tokio::test]
async fn s50_an_assertion_about_another_providers_person_is_refused() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let issuer = &provider.issuer;
    let issuers = format!(
        "token_issuers:\n\x20 - {{ name: sibling, kind: jwt, issuer: \"https://hall.test\", jwks_uri: \"{issuer}/oauth/discovery/keys\", provider: gitlab, audiences: [app], principal: user, typ: vestibule+jwt }}\n"
    );
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let configuration = configuration(issuer, &upstream, membership, "\x20   token_issuers: [sibling]\n", &issuers);
    let user = provider.admin("/admin/user", json!({"user": "alice", "memberships": {"platform": "owner"}})).await;
    let number = user["id"].as_u64().unwrap_or(1);
    let policies =
        r#"@id("p") permit (principal is User in Group::"gitlab:platform", action, resource == Route::"app");"#;
    let gateway =
        Gateway::start_with(&configuration, policies, |g| g.write_secret("api", "glpat-test-token-0123456789")).await;
    let claims = json!({"iss": "https://hall.test", "aud": "app", "sub": format!("user:partner-idp:{number}"), "principal_type": "user", "provider": "partner-idp", "login": "mallory"});
    let token = mint(&provider, json!({"typ": "vestibule+jwt"}), claims).await;
    let answer = gateway.get("/x", &[&format!("Authorization: Bearer {token}")]).await;
    assert_ne!(answer.status, 200, "somebody of partner-idp was taken for gitlab:{number}");
}

async fn opaque(route: &str) -> Option<(crate::support::provider::Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let issuer = &provider.issuer;
    let issuers = format!(
        "token_issuers:\n\x20 - {{ name: opaque, kind: introspection, endpoint: \"{issuer}/oauth/introspect\", client_id: {CLIENT_ID}, client_secret: {{ file: secret }}, prefix: opq_, audiences: [api], principal: service }}\n"
    );
    let configuration =
        configuration(issuer, &upstream, "", &format!("\x20   token_issuers: [opaque]\n{route}"), &issuers);
    let policies = r#"@id("p") permit (principal == Service::"opaque:svc-7", action, resource == Route::"app");"#;
    let gateway = Gateway::start(&configuration, policies).await;
    Some((provider, upstream, gateway))
}

/// S-65: that an issuer calls a token active does not make an access token of it.
#[tokio::test]
async fn s65_introspection_takes_access_tokens_only() {
    let Some((provider, _upstream, gateway)) = opaque("").await else { return };
    let mut passed = Vec::new();
    for (n, more) in [
        json!({"typ": "Refresh"}),
        json!({"typ": "ID"}),
        json!({"token_type": "refresh_token"}),
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
        json!({"nonce": "n", "at_hash": "h"}),
        json!({"job_id": "1", "pipeline_id": "2"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({"active": true, "sub": "svc-7", "aud": "api", "exp": seconds() + 600});
        body.as_object_mut().expect("it is there").extend(more.as_object().expect("it is there").clone());
        provider.fault("/oauth/introspect", json!({"status": 200, "body": body})).await;
        let status = gateway.get("/x", &[&format!("Authorization: Bearer opq_k{n}")]).await.status;
        if status == 200 {
            passed.push(more);
        }
    }
    assert!(passed.is_empty(), "{passed:?}");
}

/// An answer that is kept for a while is not good for longer than the token.
#[tokio::test]
async fn what_an_issuer_said_ends_with_the_token() {
    let Some((provider, _upstream, gateway)) = opaque("").await else { return };
    let body = json!({"active": true, "sub": "svc-7", "aud": "api", "iat": seconds() - 300, "exp": seconds() - 57});
    provider.fault("/oauth/introspect", json!({"status": 200, "body": body, "times": 1})).await;
    let get = async || gateway.get("/x", &["Authorization: Bearer opq_late"]).await.status;
    let first = get().await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let second = get().await;
    assert_eq!((first, second), (200, 401), "61 s after its exp");
}

/// S-90: whoever makes up opaque tokens and goes away keeps nobody else waiting for long.
#[tokio::test]
async fn s90_made_up_opaque_tokens_do_not_hold_the_queue() {
    let Some((provider, _upstream, gateway)) = opaque("").await else { return };
    let body = json!({"active": false});
    provider.fault("/oauth/introspect", json!({"status": 200, "body": body, "delay_ms": 2000, "times": 100000})).await;
    // each sends and goes away
    for n in 0..400 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.expect("it is there");
        use tokio::io::AsyncWriteExt;
        stream
            .write_all(
                format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer opq_{n}\r\n\r\n", gateway.port)
                    .as_bytes(),
            )
            .await
            .expect("it is there");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let begun = Instant::now();
    let answer =
        tokio::time::timeout(Duration::from_secs(40), gateway.get("/x", &["Authorization: Bearer opq_honest"])).await;
    assert!(matches!(answer.map(|answer| answer.status), Ok(401 | 429 | 503)), "an answer all the same");
    assert!(begun.elapsed() < Duration::from_secs(6));
}

/// A gateway where the client with the common name `one` may do anything.
async fn certificates(more: &str) -> (Upstream, Authority, Gateway) {
    let policies = r#"@id("subject") permit (principal == Service::"mesh:CN=one", action, resource);"#;
    with_certificates(more, "", policies).await
}

/// A browser with a client certificate sends it with what any other site makes it ask for.
#[tokio::test]
async fn s93_a_certificate_does_not_act_for_another_site() {
    let (_upstream, authority, gateway) = certificates("").await;
    let stream =
        authority.connect(gateway.port, "portal.test", Some(&authority.client("one", None)), &[]).await.expect("TLS");
    let mut wire = Wire::over(stream);
    wire.send("POST /pay HTTP/1.1\r\nHost: portal.test\r\nOrigin: https://evil.test\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
    let answer = wire.answer().await.expect("an answer");
    assert_eq!(answer.status, 403);
}

/// A trusted proxy's own certificate is not that of the client it speaks for.
#[tokio::test]
async fn a_trusted_proxys_certificate_is_nobodys_behind_it() {
    let (_upstream, authority, gateway) = certificates("trusted_proxies: [127.0.0.1/32]\n").await;
    let stream =
        authority.connect(gateway.port, "portal.test", Some(&authority.client("one", None)), &[]).await.expect("TLS");
    let mut wire = Wire::over(stream);
    wire.send(
        "GET /x HTTP/1.1\r\nHost: portal.test\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n"
            .to_owned(),
    )
    .await;
    let answer = wire.answer().await.expect("an answer");
    assert_eq!(answer.status, 401, "203.0.113.9 showed no certificate");
}

/// A forbid by place holds for a job of which nobody knows the place: a merge request's pipeline and an old token are no way round.
#[tokio::test]
async fn a_forbid_by_place_holds_where_the_place_is_unknown() {
    const AUDIENCE: &str = "https://deploy.example.test";
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let issuers = format!(
        "token_issuers:\n\x20 - name: ci\n\x20   kind: gitlab_ci\n\x20   provider: gitlab\n\x20   audiences: [{AUDIENCE}]\n\x20   job_token_prefix: glcbt-\n"
    );
    let configuration =
        configuration(&provider.issuer, &upstream, membership, "\x20   token_issuers: [ci]\n", &issuers);
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {"acme/release": "developer"}})).await;
    let policies = r#"
        @id("all") permit (principal is Job, action, resource == Route::"app");
        @id("not-contractors") forbid (principal is Job in Namespace::"gitlab:contractors", action, resource == Route::"app");
        @id("no-forks") forbid (principal is Job, action, resource == Route::"app") when { principal has source_project && context.path_folded like "/own/*" };
    "#;
    let gateway =
        Gateway::start_with(&configuration, policies, |g| g.write_secret("api", "glpat-test-token-0123456789")).await;
    let token = async |differs: Value| {
        let mut asked = json!({"aud": AUDIENCE, "project_path": "contractors/tool", "project_id": 900, "user": "ines"});
        asked.as_object_mut().expect("it is there").extend(differs.as_object().expect("it is there").clone());
        provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("it is there").to_owned()
    };
    let get = async |target: &str, token: &str| {
        gateway.get(target, &[&format!("Authorization: Bearer {token}")]).await.status
    };
    let plain = get("/x", &token(json!({})).await).await;
    let merge = get("/x", &token(json!({"job_project_id": 901, "job_project_path": "contractors/other", "pipeline_source": "merge_request_event"})).await).await;
    provider.admin("/admin/job", json!({"project_id": 900, "id": 302, "user": "ines", "token": "glcbt-64_a"})).await;
    let old = get("/x", "glcbt-64_a").await;
    provider.admin("/admin/job", json!({"project_id": 900, "id": 303, "user": "ines", "token": "glcbt-64_b", "source": "merge_request_event"})).await;
    let old_merge = get("/own/x", "glcbt-64_b").await;
    assert_eq!((plain, merge, old, old_merge), (403, 403, 403, 403));
}

/// What ends a token for requests ends its streams.
#[tokio::test]
async fn s75_a_stream_ends_with_what_its_token_was_verified_by() {
    const AUDIENCE: &str = "https://deploy.example.test";
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let text = |audience: &str| {
        let issuers = format!(
            "token_issuers:\n\x20 - name: ci\n\x20   kind: gitlab_ci\n\x20   provider: gitlab\n\x20   audiences: [\"{audience}\"]\n"
        );
        configuration(&provider.issuer, &upstream, membership, "\x20   token_issuers: [ci]\n", &issuers)
    };
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {}})).await;
    let policies = r#"@id("all") permit (principal is Job, action, resource == Route::"app");"#;
    let gateway =
        Gateway::start_with(&text(AUDIENCE), policies, |g| g.write_secret("api", "glpat-test-token-0123456789")).await;
    let asked = json!({"aud": AUDIENCE, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"});
    let token = provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("it is there").to_owned();
    let mut wire = Wire::connect(gateway.port).await;
    wire.send(format!(
        "GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {token}\r\n\r\n",
        gateway.port
    ))
    .await;
    assert!(String::from_utf8_lossy(&wire.some().await).starts_with("HTTP/1.1 200"));
    gateway.write("vestibule.yaml", &text("https://another.example.test").replace("PORT", &gateway.port.to_string()));
    provider.admin("/admin/rotate", json!({"keep_old": false})).await;
    let auth = format!("Authorization: Bearer {token}");
    gateway.until("the audience is gone", async || gateway.get("/x", &[&auth]).await.status == 401).await;
    let ended = tokio::time::timeout(Duration::from_secs(15), wire.rest()).await;
    assert!(ended.is_ok(), "the stream goes on with a token that is refused");
}

/// What a browser keeps for HTTP Basic it sends with whatever another site makes it ask for.
#[tokio::test]
async fn s93_a_kept_password_does_not_act_for_another_site() {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let Some((provider, _upstream, gateway)) = opaque("").await else { return };
    let body = json!({"active": true, "sub": "svc-7", "aud": "api", "exp": seconds() + 600});
    provider.fault("/oauth/introspect", json!({"status": 200, "body": body})).await;
    let basic = BASE64_STANDARD.encode("x:opq_basic");
    let mut wire = Wire::connect(gateway.port).await;
    wire.send(format!("POST /pay HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Basic {basic}\r\nOrigin: https://evil.test\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: empty\r\nContent-Length: 0\r\n\r\n", gateway.port)).await;
    let answer = wire.answer().await.expect("an answer");
    assert_eq!(answer.status, 403);
}

/// While GitLab hangs, a job that was let in a moment ago is not slowed down at every request.
#[tokio::test]
async fn a_hanging_gitlab_keeps_one_request_waiting() {
    const AUDIENCE: &str = "https://deploy.example.test";
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let issuers = format!(
        "token_issuers:\n\x20 - name: ci\n\x20   kind: gitlab_ci\n\x20   provider: gitlab\n\x20   audiences: [\"{AUDIENCE}\"]\n"
    );
    let text = configuration(&provider.issuer, &upstream, membership, "\x20   token_issuers: [ci]\n", &issuers);
    let user = provider.admin("/admin/user", json!({"user": "ines", "memberships": {}})).await;
    let policies = r#"@id("all") permit (principal is Job, action, resource == Route::"app");"#;
    let gateway = Gateway::start_with(&text, policies, |g| g.write_secret("api", "glpat-test-token-0123456789")).await;
    let asked = json!({"aud": AUDIENCE, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"});
    let token = provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("it is there").to_owned();
    let auth = format!("Authorization: Bearer {token}");
    assert_eq!(gateway.get("/x", &[&auth]).await.status, 200);
    provider.fault(&format!("/api/v4/users/{}", user["id"]), json!({"delay_ms": 20000, "times": 100})).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut waits = Vec::new();
    for _ in 0..8 {
        let begun = Instant::now();
        let status = gateway.get("/x", &[&auth]).await.status;
        waits.push((status, begun.elapsed().as_millis()));
    }
    assert!(waits.iter().filter(|(_, ms)| *ms > 1500).count() <= 1);
}
