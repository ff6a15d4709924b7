//! People and services with tokens of their own, and clients with certificates.

use crate::support::{
    gateway::{Gateway, configuration},
    http1::{Answer, Wire},
    http2::Http2,
    provider::{CLIENT_ID, Provider},
    tls::{Pair, with_certificates},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const POLICIES: &str = r#"
@id("engineers")
permit (principal is User in Group::"people:eng", action, resource == Route::"app")
when { context.path like "/eng/*" };

@id("one-person")
permit (principal == User::"people:00u9", action, resource == Route::"app")
when { context.path like "/mine/*" };

@id("portal-people")
permit (principal is User in Group::"gitlab:platform", action, resource == Route::"app")
when { context.path like "/platform/*" };

@id("robots-that-write")
permit (principal is Service, action, resource == Route::"app")
when { principal.scopes.contains("write") && context.path like "/write/*" };

@id("robots-in-batch")
permit (principal is Service in Group::"robots:batch", action, resource == Route::"app")
when { context.path like "/batch/*" };

@id("one-robot")
permit (principal == Service::"robots:deployer", action, resource == Route::"app")
when { context.path like "/robot/*" };

@id("clusters")
permit (principal is Service, action, resource == Route::"app")
when { principal.issuer == "https://kubernetes.default.svc" && context.path like "/cluster/*" };

@id("opaque")
permit (principal == Service::"opaque:svc-7", action, resource == Route::"app")
when { context.path like "/opaque/*" };

@id("sibling")
permit (principal == User::"gitlab:907", action, resource == Route::"app")
when { context.path like "/sibling/*" };
"#;

struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

async fn scene() -> Option<Scene> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let issuer = &provider.issuer;
    let issuers = format!(
        "token_issuers:\n\
         \x20 - {{ name: people, kind: jwt, issuer: {issuer}, audiences: [api], principal: user }}\n\
         \x20 - {{ name: robots, kind: jwt, issuer: {issuer}, audiences: [jobs], principal: service, typ: at+jwt }}\n\
         \x20 - {{ name: cluster, kind: jwt, issuer: \"https://kubernetes.default.svc\", jwks_uri: \"{issuer}/oauth/discovery/keys\", audiences: [hall], principal: service }}\n\
         \x20 - {{ name: of-gitlab, kind: jwt, issuer: \"https://sso.test\", jwks_uri: \"{issuer}/oauth/discovery/keys\", provider: gitlab, audiences: [portal], principal: user }}\n\
         \x20 - {{ name: sibling, kind: jwt, issuer: \"https://hall.test\", jwks_uri: \"{issuer}/oauth/discovery/keys\", provider: gitlab, audiences: [app], principal: user, typ: vestibule+jwt }}\n\
         \x20 - {{ name: opaque, kind: introspection, endpoint: \"{issuer}/oauth/introspect\", client_id: {CLIENT_ID}, client_secret: {{ file: secret }}, prefix: opq_, audiences: [api], principal: service }}\n"
    );
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let route = "\x20   token_issuers: [people, robots, cluster, of-gitlab, sibling, opaque]\n";
    let configuration = configuration(issuer, &upstream, membership, route, &issuers);
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&configuration, POLICIES, prepare).await;
    Some(Scene { provider, upstream, gateway })
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

impl Scene {
    async fn token(&self, header: Value, claims: Value) -> String {
        let now = seconds();
        let mut all = json!({"iss": self.provider.issuer, "iat": now, "exp": now + 600});
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        self.provider.mint(json!({"claims": all, "header": header})).await
    }

    async fn get(&self, target: &str, token: &str) -> Answer {
        self.gateway.get(target, &[&format!("Authorization: Bearer {token}")]).await
    }

    async fn refused(&self, token: &str, expected: &str) {
        self.upstream.take();
        let answer = self.get("/eng/x", token).await;
        assert_eq!((answer.status, self.upstream.seen()), (401, 0), "{}", answer.text());
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.contains(expected), "expected {expected}: {challenge}");
    }
}

/// P51: an access token of a person is that person, with the groups that it lists and the rules of everybody.
#[tokio::test]
async fn p51_a_person_comes_with_an_access_token() {
    let Some(scene) = scene().await else { return };
    let person = |claims: Value| {
        let mut all = json!({"aud": "api", "sub": "00u9", "preferred_username": "ines", "groups": ["eng", "all"]});
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        all
    };
    let token = scene.token(json!({}), person(json!({"email": "i@e.test", "email_verified": true}))).await;
    assert_eq!(scene.get("/eng/x", &token).await.status, 200);
    let seen = scene.upstream.only();
    assert_eq!(
        (seen.one("authorization"), seen.one("x-forwarded-user")),
        (None, None),
        "of another provider than the route's headers"
    );
    assert!(seen.one("vestibule-assertion").is_some());
    assert_eq!(scene.get("/mine/x", &token).await.status, 200);
    assert_eq!(scene.get("/write/x", &token).await.status, 403);
    let record = scene.gateway.audited("it is recorded", |record| {
        record["unmapped"]["credential"]["name"] == "people" && record["http_response"]["code"] == 200
    });
    let record = record.await;
    assert_eq!(
        (&record["unmapped"]["principal"], &record["actor"]["user"]["uid_alt"]),
        (&json!("user"), &json!("people:00u9"))
    );
    assert_eq!(record["unmapped"]["membership"]["source"], "token");
    // groups that the token does not say are unknown, which is never none
    let silent = scene.token(json!({}), json!({"aud": "api", "sub": "00u8"})).await;
    let unknown = scene.get("/eng/x", &silent).await;
    assert_eq!((unknown.status, &unknown.json()["code"]), (503, &json!("membership_unknown")));
    let cut = person(json!({"_claim_names": {"groups": "src1"}, "sub": "00u7"}));
    let cut = scene.token(json!({}), cut).await;
    assert_eq!(scene.get("/eng/x", &cut).await.status, 503);
    let none = scene.token(json!({}), person(json!({"groups": [], "sub": "00u6"}))).await;
    assert_eq!(scene.get("/eng/x", &none).await.status, 403);
}

/// S-65: tokens of one issuer are of several kinds, and each is good for its own place alone.
#[tokio::test]
async fn s65_each_kind_of_token_is_good_for_its_own_place() {
    let Some(scene) = scene().await else { return };
    let with = |more: Value| {
        let mut all = json!({"aud": "api", "sub": "00u9", "groups": ["eng"]});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    for (header, claims, expected) in [
        (json!({}), with(json!({"nonce": "n"})), "it is the ID token of a sign-in"),
        (json!({}), with(json!({"at_hash": "h"})), "the ID token of a sign-in"),
        (json!({"typ": "logout+jwt"}), with(json!({})), "its 'typ' is 'logout+jwt'"),
        (json!({"typ": "dpop+jwt"}), with(json!({})), "its 'typ' is 'dpop+jwt'"),
        (
            json!({}),
            with(json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}})),
            "it has 'events'",
        ),
        (json!({}), with(json!({"typ": "ID"})), "its claim 'typ' is 'ID'"),
        (json!({}), with(json!({"typ": "Refresh"})), "its claim 'typ' is 'Refresh'"),
        (json!({}), with(json!({"job_id": "1", "pipeline_id": "2"})), "takes an issuer of kind 'gitlab_ci'"),
        (json!({}), with(json!({"cnf": {"jkt": "x"}})), "it is bound to a key"),
        (json!({}), with(json!({"client_id": "00u9"})), "it is a machine's"),
        (json!({}), with(json!({"idtyp": "app"})), "it is a machine's"),
        (json!({}), with(json!({"preferred_username": "service-account-x"})), "it is a machine's"),
        (json!({}), with(json!({"sub": ""})), "its 'sub' is not 1 to 255"),
        (json!({}), with(json!({"sub": 7})), "its 'sub' is not 1 to 255"),
        (json!({}), with(json!({"aud": "other"})), "it is for 'other'"),
        (json!({}), with(json!({"aud": "jobs"})), "its 'typ' is 'JWT', expected 'at+jwt'"),
        (json!({}), with(json!({"iat": null})), "it has no 'iat'"),
        (json!({}), with(json!({"exp": null})), "it has no 'exp'"),
        (json!({}), with(json!({"iat": seconds() - 7200})), "'max_age' is 3600 s"),
    ] {
        let token = scene.token(header, claims.clone()).await;
        scene.refused(&token, expected).await;
    }
    // an access token by RFC 9068, and Keycloak's, whose nonce is the sign-in's
    for (header, more) in [
        (json!({"typ": "at+jwt"}), json!({"client_id": "portal", "nonce": "n"})),
        (json!({"typ": "application/at+jwt"}), json!({})),
        (json!({}), json!({"typ": "Bearer", "nonce": "n", "aud": ["account", "api"]})),
    ] {
        let token = scene.token(header.clone(), with(more)).await;
        assert_eq!(scene.get("/eng/x", &token).await.status, 200, "{header}");
    }
    let stranger =
        json!({"iss": scene.provider.issuer, "aud": "api", "sub": "00u9", "iat": seconds(), "exp": seconds() + 60});
    let stranger = scene.provider.mint(json!({"stranger_key": true, "claims": stranger})).await;
    scene.refused(&stranger, "error=\"invalid_token\"").await;
}

/// A machine is a `Service` with scopes and groups; a person's token of the same issuer is none.
#[tokio::test]
async fn a_service_comes_with_a_token() {
    let Some(scene) = scene().await else { return };
    let claims = json!({"aud": ["jobs"], "sub": "deployer", "client_id": "deployer", "scope": "read write", "groups": ["batch"]});
    let token = scene.token(json!({"typ": "at+jwt"}), claims.clone()).await;
    for target in ["/write/x", "/batch/x", "/robot/x"] {
        assert_eq!(scene.get(target, &token).await.status, 200, "{target}");
    }
    assert_eq!(scene.get("/mine/x", &token).await.status, 403);
    let seen = scene.upstream.take();
    assert!(seen.iter().all(|seen| seen.one("x-forwarded-user").is_none()));
    let record = scene.gateway.audited("it is recorded", |record| record["unmapped"]["principal"] == "service").await;
    assert_eq!(
        (&record["actor"]["user"]["uid_alt"], &record["actor"]["user"]["type_id"]),
        (&json!("robots:deployer"), &json!(3))
    );
    let mut listed = claims.clone();
    listed["scope"] = Value::Null;
    listed["scp"] = json!(["write"]);
    listed["sub"] = json!("other");
    let token = scene.token(json!({"typ": "at+jwt"}), listed).await;
    assert_eq!(scene.get("/write/x", &token).await.status, 200);
    assert_eq!(scene.get("/robot/x", &token).await.status, 403);
    let pod =
        json!({"iss": "https://kubernetes.default.svc", "aud": ["hall"], "sub": "system:serviceaccount:shop:api"});
    let pod = scene.token(json!({}), pod).await;
    assert_eq!(scene.get("/cluster/x", &pod).await.status, 200);
    assert_eq!(scene.get("/write/x", &pod).await.status, 403);
}

/// Somebody else vouches for a person of ours: the groups are GitLab's, read now, and whoever is blocked there is out.
#[tokio::test]
async fn a_token_of_a_person_of_a_provider_has_the_groups_of_now() {
    let Some(scene) = scene().await else { return };
    let user =
        scene.provider.admin("/admin/user", json!({"user": "alice", "memberships": {"platform": "owner"}})).await;
    let number = user["id"].as_u64().unwrap_or(1);
    let claims = json!({"iss": "https://sso.test", "aud": "portal", "sub": number.to_string(), "preferred_username": "alice", "groups": ["security"]});
    let token = scene.token(json!({}), claims).await;
    let first = scene.get("/platform/x", &token).await;
    assert_eq!(first.status, 200, "{}", first.text());
    assert_eq!(
        scene.upstream.only().one("x-forwarded-user"),
        Some(&*number.to_string()),
        "a person of the route's headers"
    );
    scene.provider.admin("/admin/user", json!({"user": "alice", "memberships": {}})).await;
    scene.gateway.until("they left", async || scene.get("/platform/x", &token).await.status == 403).await;
    let named = json!({"iss": "https://sso.test", "aud": "portal", "sub": "alice", "groups": ["platform"]});
    let named = scene.token(json!({}), named).await;
    scene.refused(&named, "is not the number of a GitLab user").await;
    scene.provider.admin("/admin/block", json!({"user": "alice"})).await;
    scene
        .gateway
        .until("they are blocked", async || scene.get("/platform/x", &token).await.json()["code"] == "person_inactive")
        .await;
}

/// What another Vestibule says of a person counts where that is configured, and nothing else that its key signed.
#[tokio::test]
async fn an_assertion_of_another_vestibule_is_a_person() {
    let Some(scene) = scene().await else { return };
    scene.provider.admin("/admin/user", json!({"user": "who", "memberships": {}})).await;
    let said = |more: Value| {
        let mut all = json!({"iss": "https://hall.test", "aud": "app", "sub": "user:gitlab:1", "principal_type": "user",
                             "provider": "gitlab", "login": "alice"});
        all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        all
    };
    let typed = json!({"typ": "vestibule+jwt"});
    let good = scene.token(typed.clone(), said(json!({}))).await;
    assert_eq!(scene.get("/sibling/x", &good).await.status, 403, "known, and not who the policy names");
    for (header, claims, expected) in [
        (json!({}), said(json!({})), "expected 'vestibule+jwt'"),
        (typed.clone(), said(json!({"principal_type": "job", "sub": "job:ci:1"})), "it is of 'job:ci:1'"),
        (typed.clone(), said(json!({"sub": "1"})), "expected a 'user'"),
        (typed.clone(), said(json!({"provider": "okta"})), "expected a 'user'"),
        (typed, said(json!({"sub": "user:gitlab:alice"})), "expected a 'user'"),
    ] {
        let token = scene.token(header, claims).await;
        scene.refused(&token, expected).await;
    }
}

/// RFC 7662: the issuer of opaque tokens is asked about each, its word is kept for a while, and nothing it leaves open is taken
/// for granted.
#[tokio::test]
async fn an_opaque_token_is_asked_about() {
    let Some(scene) = scene().await else { return };
    let path = "/oauth/introspect";
    let answers = |body: Value| json!({"status": 200, "body": body});
    let good = json!({"active": true, "sub": "svc-7", "aud": "api", "client_id": "svc", "scope": "write", "exp": seconds() + 600});
    scene.provider.fault(path, answers(good.clone())).await;
    let before = scene.provider.seen(path).await;
    for _ in 0..5 {
        assert_eq!(scene.get("/opaque/x", "opq_abc").await.status, 200);
    }
    assert_eq!(scene.provider.seen(path).await - before, 1);
    assert_eq!(scene.upstream.take()[0].one("authorization"), None);
    for (token, body, expected) in [
        ("opq_1", json!({"active": false}), "is not active"),
        ("opq_2", json!({}), "is not active"),
        ("opq_3", json!({"active": "true", "sub": "svc-7", "aud": "api"}), "is not active"),
        ("opq_4", json!({"active": true, "sub": "svc-7"}), "it is for nobody"),
        ("opq_5", json!({"active": true, "sub": "svc-7", "aud": "other"}), "it is for 'other'"),
        ("opq_6", json!({"active": true, "sub": "svc-7", "aud": "api", "exp": seconds() - 100}), "it ended"),
        ("opq_7", json!({"active": true, "aud": "api"}), "its 'sub' is not"),
    ] {
        scene.provider.fault(path, answers(body)).await;
        scene.refused(token, expected).await;
    }
    scene.provider.fault(path, json!({"status": 500})).await;
    assert_eq!(scene.get("/opaque/x", "opq_8").await.status, 503);
    scene.provider.fault(path, answers(good)).await;
    assert_eq!(scene.get("/opaque/x", "opq_8").await.status, 200, "that it did not answer is not kept");
    scene.provider.fault(path, json!({"status": 302, "headers": {"location": "http://127.0.0.1:9/"}})).await;
    assert_eq!(scene.get("/opaque/x", "opq_9").await.status, 503);
    // the provider itself: it knows no such token
    scene.refused("opq_real", "is not active").await;
    assert!(!scene.gateway.log().contains("opq_"), "no token in the log");
}

/// Anybody can make up opaque tokens, and each is a question to the issuer: one network may cause so many and no more.
#[tokio::test]
async fn made_up_opaque_tokens_do_not_flood_the_issuer() {
    let Some(scene) = scene().await else { return };
    let before = scene.provider.seen("/oauth/introspect").await;
    let mut statuses = std::collections::BTreeMap::<u16, u64>::new();
    let mut wire = Wire::connect(scene.gateway.port).await;
    for number in 0..400 {
        let lines = format!("Host: 127.0.0.1:{}\r\nAuthorization: Bearer opq_made_up_{number}", scene.gateway.port);
        wire.send(format!("GET /opaque/x HTTP/1.1\r\n{lines}\r\n\r\n")).await;
        *statuses.entry(wire.answer().await.expect("an answer").status).or_default() += 1;
    }
    let asked = scene.provider.seen("/oauth/introspect").await - before;
    assert!(statuses.contains_key(&429) && asked < 400, "{statuses:?} {asked}");
    assert_eq!(statuses[&401], asked, "{statuses:?}");
    let claims = json!({"aud": "api", "sub": "00u9", "groups": ["eng"]});
    let token = scene.token(json!({}), claims).await;
    assert_eq!(scene.get("/eng/x", &token).await.status, 200, "others are served");
}

/// A token of an issuer that is not there is nobody's, and what cannot be found out is not taken for good.
#[tokio::test]
async fn s80_an_issuer_that_is_down_lets_nobody_in() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let issuers = "token_issuers:\n\x20 - { name: gone, kind: jwt, issuer: \"http://127.0.0.1:9\", audiences: [api], principal: service }\n";
    let configuration = configuration(&provider.issuer, &upstream, "", "\x20   token_issuers: [gone]\n", issuers);
    let policies = "@id(\"all\") permit (principal is Service, action, resource);";
    let gateway = Gateway::start(&configuration, policies).await;
    let claims =
        json!({"iss": "http://127.0.0.1:9", "aud": "api", "sub": "x", "iat": seconds(), "exp": seconds() + 60});
    let token = provider.mint(json!({"claims": claims})).await;
    let answer = gateway.get("/", &[&format!("Authorization: Bearer {token}")]).await;
    assert_eq!((answer.status, upstream.seen()), (503, 0), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
}

/// S-59 to S-63: forged headers are refused before a key is looked for, and no address in a token is ever called.
#[tokio::test]
async fn s59_s60_s61_s62_s63_forged_tokens_are_refused() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let Some(scene) = scene().await else { return };
    let canary = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let place = format!("http://{}/keys", canary.local_addr().expect("an address"));
    let claims = json!({"iss": scene.provider.issuer, "aud": "api", "sub": "00u9", "groups": ["eng"], "iat": seconds(), "exp": seconds() + 60});
    let forged = |header: &str, claims: &str| {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(header), part(claims), part("signature"))
    };
    let text = claims.to_string();
    let headers = [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":""}"#,
        r#"{}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["RS256"]}"#,
        r#"{"alg":"HS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"RS256","crit":["x"],"x":1}"#,
        r#"{"alg":"RS256","b64":false}"#,
        r#"{"alg":"RS256","enc":"A128GCM"}"#,
        r#"{"alg":"RS256","kid":7}"#,
        r#"{"alg":"RS256","alg":"RS256"}"#,
        r#"{"alg":"RS256","kid":"../../../dev/null"}"#,
        r#"{"alg":"RS256","jwk":{"kty":"oct","k":"c2VjcmV0"}}"#,
    ];
    for header in headers {
        let answer = scene.get("/eng/x", &forged(header, &text)).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    let called = format!(r#"{{"alg":"RS256","jku":"{place}","x5u":"{place}"}}"#);
    assert_eq!(scene.get("/eng/x", &forged(&called, &text)).await.status, 401);
    assert!(tokio::time::timeout(Duration::from_millis(300), canary.accept()).await.is_err(), "nobody called");
    let twice = text.replacen("\"sub\"", "\"sub\":\"a\",\"sub\"", 1);
    assert_eq!(scene.get("/eng/x", &forged(r#"{"alg":"RS256"}"#, &twice)).await.status, 401);
    assert_eq!(scene.upstream.seen(), 0);
}

/// A client with a certificate is a service where the route takes it, known by its SPIFFE id or its subject; a session or a
/// token says more and wins.
#[tokio::test]
async fn a_client_with_a_certificate_is_a_service() {
    let policies = r#"
        @id("spiffe") permit (principal == Service::"mesh:spiffe://acme/runner", action, resource);
        @id("subject") permit (principal == Service::"mesh:CN=old", action, resource) when { principal.issuer like "CN=*" };
    "#;
    let people = "name: people, host: portal.test, path: /people";
    let (upstream, authority, gateway) = with_certificates("", people, policies).await;
    let status = async |pair: Option<&Pair>, target: &str| {
        let stream = authority.connect(gateway.port, "portal.test", pair, &[]).await.expect("TLS");
        let mut wire = Wire::over(stream);
        wire.send(format!("GET {target} HTTP/1.1\r\nHost: portal.test\r\n\r\n")).await;
        wire.answer().await.expect("an answer").status
    };
    let runner = authority.client("runner-7", Some("spiffe://acme/runner"));
    assert_eq!(status(Some(&runner), "/").await, 200);
    let seen = upstream.only();
    assert!(seen.one("x-forwarded-user").is_none() && seen.one("vestibule-assertion").is_some());
    assert_eq!(status(Some(&authority.client("old", None)), "/").await, 200);
    assert_eq!(status(Some(&authority.client("other", None)), "/").await, 403);
    assert_eq!(status(None, "/").await, 401);
    assert_eq!(status(Some(&runner), "/people").await, 401, "a route that takes no certificates");
    let record = gateway.audited("it is recorded", |record| record["unmapped"]["credential"]["name"] == "mesh").await;
    assert_eq!(record["actor"]["user"]["uid_alt"], "mesh:spiffe://acme/runner");
}

/// P33 for machines: a gRPC client with a bad token reads its status, never a page and never a redirect.
#[tokio::test]
async fn a_grpc_client_with_a_bad_token_reads_its_status() {
    let Some(scene) = scene().await else { return };
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", scene.gateway.port)).await.expect("a connection");
    let mut client = Http2::over(stream).await;
    let token = scene.token(json!({}), json!({"aud": "other", "sub": "x"})).await;
    let bearer = format!("Bearer {token}");
    let url = format!("http://127.0.0.1:{}/eng.Service/Do", scene.gateway.port);
    let headers = [("content-type", "application/grpc"), ("te", "trailers"), ("authorization", &*bearer)];
    let answer = client.ask("POST", &url, &headers).await.expect("an answer");
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("16")));
    assert!(answer.header("grpc-message").is_some_and(|message| message.contains("it is for")), "{answer:?}");
    assert_eq!(scene.upstream.seen(), 0);
}
