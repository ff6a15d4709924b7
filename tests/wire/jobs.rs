//! CI jobs of GitLab as callers: what their tokens prove, and what they do not.

use crate::support::{
    gateway::{Gateway, configuration},
    http1::Answer,
    provider::{CLIENT_ID, Provider},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const AUDIENCE: &str = "https://deploy.example.test";

const POLICIES: &str = r#"
@id("main-of-api")
@reason("The API is deployed by jobs on protected refs of acme/shop/api.")
permit (principal is Job in Project::"gitlab:acme/shop/api", action, resource == Route::"app")
when { principal.ref_protected && context.path like "/deploy/*" };

@id("released-by-release")
permit (principal is Job in Project::"gitlab:acme/shop/api", action, resource == Route::"app")
when { principal.user in Group::"gitlab:acme/release" && context.path like "/release/*" };

@id("anywhere-in-acme")
permit (principal is Job in Namespace::"gitlab:acme", action in Action::"read", resource == Route::"app")
when { context.path like "/read/*" };

@id("production")
permit (principal is Job, action, resource == Route::"app")
when { principal has environment && principal.environment == "production" && context.path like "/production/*" };

@id("tags")
permit (principal is Job, action, resource == Route::"app")
when { principal.ref_type == "tag" && principal.ref like "v*" && context.path like "/tag/*" };

@id("people")
permit (principal is User in Namespace::"gitlab:platform", action, resource == Route::"app");
"#;

/// What a scene may differ in.
#[derive(Default)]
struct Way {
    /// More of the issuer.
    issuer: &'static str,
    /// More of the route.
    route: &'static str,
    /// More of the end.
    more: &'static str,
}

struct Scene {
    provider: Provider,
    upstream: Upstream,
    gateway: Gateway,
}

async fn scene(way: Way) -> Option<Scene> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let issuers = format!(
        "token_issuers:\n\x20 - name: ci\n\x20   kind: gitlab_ci\n\x20   provider: gitlab\n\x20   audiences: [{AUDIENCE}]\n{}",
        way.issuer
    );
    let route = format!("\x20   token_issuers: [ci]\n{}", way.route);
    let more = format!("{issuers}{}", way.more);
    let configuration = configuration(&provider.issuer, &upstream, membership, &route, &more);
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {"acme/release": "developer"}})).await;
    provider.admin("/admin/user", json!({"user": "alice", "memberships": {"platform": "owner"}})).await;
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&configuration, POLICIES, prepare).await;
    Some(Scene { provider, upstream, gateway })
}

impl Scene {
    /// The ID token of a job of acme/shop/api on its protected branch main, started by ines, but for `differs`.
    async fn token(&self, differs: Value) -> String {
        let mut asked = json!({"aud": AUDIENCE, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"});
        asked.as_object_mut().expect("an object").extend(differs.as_object().expect("an object").clone());
        self.provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("a token").to_owned()
    }

    async fn get(&self, target: &str, token: &str) -> Answer {
        self.gateway.get(target, &[&format!("Authorization: Bearer {token}")]).await
    }

    /// Which of the paths are open to a job: those of the policies.
    async fn open(&self, differs: Value) -> Vec<&'static str> {
        let token = self.token(differs).await;
        let mut open = Vec::new();
        for target in ["/deploy/x", "/release/x", "/read/x", "/production/x", "/tag/x"] {
            let answer = self.get(target, &token).await;
            match answer.status {
                200 => open.push(target),
                403 => {}
                other => panic!("{target}: {other} {}", answer.text()),
            }
        }
        open
    }

    /// A token that is refused as such; nothing of it comes through. Returns the `error_description`.
    async fn refused(&self, token: &str) -> String {
        self.upstream.take();
        let answer = self.get("/deploy/x", token).await;
        assert_eq!(answer.status, 401, "{}", answer.text());
        assert_eq!(answer.json()["code"], "invalid_token");
        assert_eq!(self.upstream.seen(), 0);
        assert!(answer.headers("set-cookie").is_empty() && answer.header("location").is_none(), "{answer:?}");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.starts_with("Bearer realm=\"app\", resource_metadata=\"http://127.0.0.1:"), "{challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        let (_, rest) = challenge.split_once("error_description=\"").expect("a description");
        rest.trim_end_matches('"').to_owned()
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// S-66: what a job may do follows from its claims: the project that runs it, its ref, its environment, and who started it.
#[tokio::test]
async fn s66_a_job_may_do_what_its_claims_allow() {
    let Some(scene) = scene(Way { issuer: "\x20   projects: { acme/shop/pinned: 77 }\n", ..Way::default() }).await
    else {
        return;
    };
    let fork = json!({"project_path": "mallory/api", "project_id": 666, "job_project_path": "acme/shop/api",
                      "job_project_id": 5120, "pipeline_source": "merge_request_event", "ref_protected": false});
    let home = json!({"project_path": "acme/shop/api", "job_project_path": "mallory/api", "job_project_id": 666});
    for (differs, expected) in [
        (json!({}), vec!["/deploy/x", "/release/x", "/read/x"]),
        (json!({"ref_protected": false}), vec!["/release/x", "/read/x"]),
        (json!({"user": "alice"}), vec!["/deploy/x", "/read/x"]),
        (json!({"environment": "production"}), vec!["/deploy/x", "/release/x", "/read/x", "/production/x"]),
        (json!({"environment": "staging"}), vec!["/deploy/x", "/release/x", "/read/x"]),
        (json!({"ref": "v1.2", "ref_type": "tag"}), vec!["/deploy/x", "/release/x", "/read/x", "/tag/x"]),
        (json!({"ref": "v1.2"}), vec!["/deploy/x", "/release/x", "/read/x"]),
        (json!({"project_path": "acme/shop/web"}), vec!["/read/x"]),
        (json!({"project_path": "acme/shop/apix"}), vec!["/read/x"]),
        (json!({"project_path": "acmex/shop/api"}), vec![]),
        // the pipeline of a merge request from a fork runs in the project what a stranger wrote
        (fork, vec![]),
        (home, vec![]),
        // before GitLab 18.4 nobody says where a job runs, and absence is no equality
        (json!({"old_gitlab": true}), vec![]),
        // truth values that are none of GitLab's texts, or are truth values
        (json!({"claims": {"ref_protected": true}}), vec!["/deploy/x", "/release/x", "/read/x"]),
        (json!({"claims": {"ref_protected": "false"}}), vec!["/release/x", "/read/x"]),
        // a path that is pinned to an id is that of another project now
        (json!({"project_path": "acme/shop/pinned", "project_id": 77}), vec!["/read/x"]),
        (json!({"project_path": "acme/shop/pinned", "project_id": 78}), vec![]),
    ] {
        assert_eq!(scene.open(differs.clone()).await, expected, "{differs}");
    }
    let moved =
        scene.gateway.audited("the mismatch is told", |record| record["unmapped"]["job"]["renamed"] == true).await;
    assert_eq!(moved["unmapped"]["job"]["project_id"], 78);
    let truth = scene.token(json!({"claims": {"ref_protected": "yes"}})).await;
    assert!(scene.refused(&truth).await.contains("'ref_protected' is neither 'true' nor 'false'"));
}

/// With `legacy_project` an old GitLab's jobs are in their project, but for those of merge requests.
#[tokio::test]
async fn s66_an_old_gitlab_has_projects_where_that_is_configured() {
    let Some(scene) = scene(Way { issuer: "\x20   legacy_project: true\n", ..Way::default() }).await else { return };
    for source in ["push", "schedule", "web", "api", "trigger"] {
        let open = scene.open(json!({"old_gitlab": true, "pipeline_source": source})).await;
        assert_eq!(open, ["/deploy/x", "/release/x", "/read/x"], "{source}");
    }
    for source in ["merge_request_event", "pipeline", "parent_pipeline", "external_pull_request_event", "chat"] {
        assert_eq!(scene.open(json!({"old_gitlab": true, "pipeline_source": source})).await, [""; 0], "{source}");
    }
}

/// S-64, S-65, S-59: one wrong thing at a time, and each answer says which.
#[tokio::test]
async fn s64_s65_a_token_that_is_wrong_in_one_thing_is_refused_for_that() {
    let Some(scene) = scene(Way::default()).await else { return };
    let now = seconds();
    let good = scene.token(json!({})).await;
    assert_eq!(scene.get("/deploy/x", &good).await.status, 200);
    for (differs, expected) in [
        (json!({"aud": "https://other.example.test"}), "it is for 'https://other.example.test'"),
        (json!({"aud": CLIENT_ID}), "it is for"),
        (json!({"claims": {"aud": []}}), "it is for nobody"),
        (json!({"claims": {"iat": now - 3700, "exp": now + 600}}), "'max_age' is 3600 s"),
        (json!({"claims": {"exp": now - 61}}), "it ended 6"),
        (json!({"claims": {"nbf": now + 600}}), "'nbf' is in the future"),
        (json!({"claims": {"iat": now + 600}}), "'iat' is in the future"),
        (json!({"claims": {"nonce": "n"}}), "of a person's sign-in"),
        (json!({"claims": {"auth_time": now}}), "of a person's sign-in"),
        (json!({"claims": {"sub_legacy": "x"}}), "of a person's sign-in"),
        (json!({"claims": {"sub": "907"}}), "its 'sub' is none of a CI job"),
        (json!({"claims": {"job_id": null}}), "its 'job_id' is no number"),
        (json!({"claims": {"project_id": "5120x"}}), "its 'project_id' is no number"),
        (json!({"claims": {"ref": {"a": 1}}}), "its 'ref' is no text"),
        (json!({"header": {"typ": "at+jwt"}}), "its 'typ' is 'at+jwt'"),
        (
            json!({"claims": {"iss": "https://gitlab.example.com"}}),
            "of nobody who is known here: it names no token issuer",
        ),
    ] {
        let token = scene.token(differs.clone()).await;
        let found = scene.refused(&token).await;
        assert!(found.contains(expected), "{differs}: {found}");
    }
    let stranger = scene
        .provider
        .mint(json!({"stranger_key": true, "claims": {"iss": scene.provider.issuer, "aud": AUDIENCE}}))
        .await;
    assert!(scene.refused(&stranger).await.contains("so it is no CI job's"));
    let mut flipped = good.clone().into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let flipped = String::from_utf8(flipped).expect("ASCII");
    assert!(scene.refused(&flipped).await.contains("signature is wrong"));
    let record = scene.gateway.audited("the check is told", |record| {
        record["unmapped"]["cause"].as_str().is_some_and(|cause| cause.contains("token of `ci`, check `signature`"))
    });
    assert_eq!(record.await["status_code"], "invalid_token");
}

/// S-65: a login's ID token is no job's, a job's is no login's, although one issuer signs both with one key.
#[tokio::test]
async fn s65_tokens_of_logins_and_of_jobs_are_two_kinds() {
    let Some(scene) = scene(Way::default()).await else { return };
    let (now, issuer) = (seconds(), scene.provider.issuer.clone());
    let login = json!({"iss": issuer, "sub": "907", "aud": AUDIENCE, "iat": now, "exp": now + 120, "auth_time": now, "nonce": "n"});
    let login = scene.provider.mint(json!({"claims": login})).await;
    assert!(scene.refused(&login).await.contains("so it is no CI job's"));
    // a job that asks for our client id as audience, in place of the ID token of a sign-in
    let claims = json!({"nonce": "n"});
    let job = scene.token(json!({"aud": CLIENT_ID, "claims": claims})).await;
    let (url, binding) = scene.gateway.begin("/", None).await;
    let callback = scene.provider.authorize(&url, "alice").await;
    let body = json!({"access_token": "a", "token_type": "Bearer", "id_token": job});
    scene.provider.fault("/oauth/token", json!({"status": 200, "body": body})).await;
    let back = scene.gateway.come_back(&callback.url, &binding).await;
    assert_eq!(back.status, 400, "{}", back.text());
    assert!(back.cookie(&scene.gateway.session_cookie()).is_none());
}

/// A scheduled pipeline goes on for ever under the name of who left: not here. Whoever is blocked is out within `refresh`, and
/// whoever leaves the group that a policy names too; a job whose person cannot be looked up is not let in.
#[tokio::test]
async fn the_person_behind_a_job_is_read_now() {
    let Some(scene) = scene(Way::default()).await else { return };
    let token = scene.token(json!({"pipeline_source": "schedule"})).await;
    let first = scene.get("/release/x", &token).await;
    assert_eq!(first.status, 200, "{} {:#?}", first.text(), scene.gateway.audit());
    scene.provider.admin("/admin/user", json!({"user": "ines", "memberships": {}})).await;
    scene.gateway.until("they left", async || scene.get("/release/x", &token).await.status == 403).await;
    assert_eq!(scene.get("/deploy/x", &token).await.status, 200, "this does not ask who started it");
    scene.provider.admin("/admin/block", json!({"user": "ines"})).await;
    scene.gateway.until("they are blocked", async || scene.get("/deploy/x", &token).await.status == 403).await;
    scene.upstream.take();
    let refused = scene.get("/deploy/x", &token).await;
    assert_eq!((refused.status, &refused.json()["code"]), (403, &json!("person_inactive")));
    assert_eq!(scene.upstream.seen(), 0);
    let record = scene.gateway.audited("it is recorded", |record| record["status_code"] == "person_inactive").await;
    assert_eq!(record["unmapped"]["principal"], "job");
    assert_eq!(record["unmapped"]["job"]["project"], "acme/shop/api");
    assert_eq!(record["unmapped"]["job"]["source"], "schedule");
    assert_eq!(record["actor"]["user"]["name"], "ines");
    assert_eq!(record["unmapped"]["credential"]["name"], "ci");
    scene.provider.admin("/admin/user", json!({"user": "new", "memberships": {}})).await;
    let unknown = scene.token(json!({"user": "new"})).await;
    let number = claims(&unknown)["user_id"].as_str().expect("a number").to_owned();
    scene.provider.fault(&format!("/api/v4/users/{number}"), json!({"status": 500, "times": 1000})).await;
    let answer = scene.get("/deploy/x", &unknown).await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("membership_unknown")), "{}", answer.text());
}

/// S-11: the credential is ours to read and not the upstream's; what tells it who asks is the assertion.
#[tokio::test]
async fn s11_the_token_stays_here_and_the_upstream_gets_the_assertion() {
    let Some(scene) = scene(Way { route: "\x20   token_header: X-Job-Token\n", ..Way::default() }).await else {
        return;
    };
    let token = scene.token(json!({"environment": "production"})).await;
    let basic = |user: &str, password: &str| {
        use base64::{Engine, prelude::BASE64_STANDARD};
        format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
    };
    for line in [
        format!("Authorization: Bearer {token}"),
        format!("authorization: bearer {token}"),
        basic("gitlab-ci-token", &token),
        basic(&token, ""),
        format!("X-Job-Token: {token}"),
        format!("x-job-token: Bearer {token}"),
    ] {
        scene.upstream.take();
        assert_eq!(scene.gateway.get("/deploy/x", &[&line]).await.status, 200, "{line}");
        let seen = scene.upstream.only();
        assert_eq!((seen.one("authorization"), seen.one("x-job-token")), (None, None), "{line}");
        assert!(seen.headers.iter().all(|(_, value)| !value.contains(&token)), "{line}");
        assert_eq!(
            (seen.one("x-forwarded-user"), seen.one("x-forwarded-groups")),
            (None, None),
            "no headers of people"
        );
        let claims = claims(seen.one("vestibule-assertion").expect("an assertion"));
        assert_eq!((&claims["sub"], &claims["principal_type"]), (&json!("job:ci:302"), &json!("job")));
        assert_eq!((&claims["provider"], &claims["login"]), (&json!("gitlab"), &json!("ines")));
        assert_eq!(
            (&claims["job"]["project_path"], &claims["job"]["environment"]),
            (&json!("acme/shop/api"), &json!("production"))
        );
        assert!(claims.get("sid").is_none());
    }
    let with = |lines: Vec<String>| {
        let scene = &scene;
        async move {
            scene.upstream.take();
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            scene.gateway.get("/deploy/x", &lines).await
        }
    };
    let twice = with(vec![format!("Authorization: Bearer {token}"), format!("X-Job-Token: {token}")]).await;
    assert_eq!((twice.status, scene.upstream.seen()), (400, 0));
    assert!(twice.header("www-authenticate").is_some_and(|it| it.contains("error=\"invalid_request\"")), "{twice:?}");
    let doubled = with(vec![format!("X-Job-Token: {token}"), format!("X-Job-Token: {token}")]).await;
    assert_eq!((doubled.status, scene.upstream.seen()), (400, 0));
    let strange = with(vec!["X-Job-Token: glpat-something-else".to_owned()]).await;
    assert_eq!((strange.status, scene.upstream.seen()), (401, 0));
    // S-71: nowhere else
    let asked = scene.gateway.get(&format!("/deploy/x?access_token={token}"), &[]).await;
    assert_eq!(asked.status, 401);
}

/// The claims of a JWT, unverified.
fn claims(token: &str) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).expect("a payload");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
}

/// P53, S-70: people and jobs on one route. A token wins over the cookie, and the record has both; one that is bad is refused,
/// cookie or not; a credential of somebody else's passes untouched with a session, and is nobody's without one.
#[tokio::test]
async fn p53_s70_people_and_jobs_share_a_route() {
    let Some(scene) = scene(Way::default()).await else { return };
    let browser = scene.gateway.sign_in(&scene.provider, "alice").await;
    let cookies = scene.gateway.cookies(&browser);
    let token = scene.token(json!({})).await;
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    assert_eq!(scene.gateway.get("/deploy/x", &[&cookies]).await.status, 200);
    scene.upstream.take();
    assert_eq!(scene.gateway.get("/deploy/both", &[&cookies, &bearer(&token)]).await.status, 200);
    assert!(scene.upstream.only().one("x-forwarded-user").is_none(), "the job, not the person");
    let both = scene.gateway.audited("both are recorded", |record| {
        record["http_request"]["url"]["path"] == "/deploy/both" && record["unmapped"]["principal"] == "job"
    });
    assert!(both.await["actor"]["session"]["uid"].is_string());
    let expired = scene.token(json!({"claims": {"exp": seconds() - 100}})).await;
    assert_eq!(scene.gateway.get("/deploy/x", &[&cookies, &bearer(&expired)]).await.status, 401);
    assert_eq!(scene.gateway.get("/deploy/x", &[&bearer(&expired), &cookies]).await.status, 401);
    scene.upstream.take();
    let backstage = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJiYWNrc3RhZ2UifQ.c2ln";
    assert_eq!(scene.gateway.get("/deploy/x", &[&cookies, &bearer(backstage)]).await.status, 200);
    assert_eq!(scene.upstream.only().one("authorization"), Some(&*format!("Bearer {backstage}")));
    assert_eq!(scene.gateway.get("/deploy/x", &[&bearer(backstage)]).await.status, 401);
    // the rules against other sites' pages are for cookies
    let post = |lines: Vec<String>| {
        let gateway = &scene.gateway;
        async move {
            let lines: Vec<_> = lines
                .iter()
                .map(String::as_str)
                .chain(["Sec-Fetch-Site: cross-site", "Origin: https://evil.test"])
                .collect();
            gateway.request("POST", "/deploy/x", &lines).await.status
        }
    };
    assert_eq!(post(vec![cookies.clone()]).await, 403);
    assert_eq!(post(vec![bearer(&token)]).await, 200);
    // no credential at all
    let none = scene.gateway.get("/deploy/x", &[]).await;
    assert_eq!(none.status, 401);
    let challenges = none.headers("www-authenticate");
    assert!(challenges[0].starts_with("Bearer realm=\"app\"") && !challenges[0].contains("error"), "{challenges:?}");
    assert_eq!(challenges[1], "Vestibule realm=\"sign-in\"");
    let page = scene.gateway.get("/deploy/x", &["Accept: text/html"]).await;
    assert_eq!(page.status, 302);
    let machine = scene.gateway.get("/deploy/x", &["Accept: text/html", &bearer(&expired)]).await;
    assert_eq!((machine.status, machine.header("location")), (401, None));
}

/// Clients such as `git` say nothing before they are asked; a browser must not be, or it would ask its user for a password.
/// `docker` would take a `Bearer` beside it for the address of a token server.
#[tokio::test]
async fn basic_is_asked_for_where_the_route_says_so_and_of_machines_only() {
    let Some(scene) = scene(Way { route: "\x20   basic: true\n", ..Way::default() }).await else { return };
    let asked = |lines: &'static [&'static str]| async { scene.gateway.get("/deploy/x", lines).await };
    let challenged =
        |answer: &Answer| answer.headers("www-authenticate").iter().any(|it| it.starts_with("Basic realm=\"app\""));
    let schemes = |answer: &Answer| -> Vec<String> {
        let challenges = answer.headers("www-authenticate");
        challenges.iter().map(|it| it.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert!(challenged(&asked(&["User-Agent: git/2.39"]).await));
    assert_eq!(schemes(&asked(&["User-Agent: docker/28"]).await), ["Basic", "Vestibule"]);
    assert_eq!(schemes(&asked(&["Authorization: Basic am9iOnRva2Vu"]).await), ["Basic"]);
    assert_eq!(schemes(&asked(&["Authorization: bearer token"]).await), ["Bearer"]);
    for browser in [
        &["Sec-Fetch-Mode: cors", "Sec-Fetch-Dest: empty"][..],
        &["X-Requested-With: XMLHttpRequest"],
        &["Origin: https://other.test"],
    ] {
        assert!(!challenged(&asked(browser).await), "{browser:?}");
    }
}

/// RFC 9728: a route that takes tokens says of whom; others do not, and their path goes to the upstream.
#[tokio::test]
async fn a_route_that_takes_tokens_describes_itself() {
    let Some(scene) = scene(Way { route: "\x20   path: /deploy\n", ..Way::default() }).await else { return };
    let answer = scene.gateway.get("/.well-known/oauth-protected-resource/deploy", &[]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said = answer.json();
    assert_eq!(said["resource"], format!("http://127.0.0.1:{}/deploy", scene.gateway.port));
    assert_eq!(said["authorization_servers"], json!([scene.provider.issuer]));
    assert_eq!(said["bearer_methods_supported"], json!(["header"]));
    let refused = scene.gateway.get("/deploy/x", &[]).await;
    let named = format!(
        "resource_metadata=\"http://127.0.0.1:{}/.well-known/oauth-protected-resource/deploy\"",
        scene.gateway.port
    );
    assert!(refused.header("www-authenticate").is_some_and(|it| it.contains(&named)), "{refused:?}");
    let told = refused.json();
    assert!(
        told["detail"].as_str().is_some_and(|it| it.contains("a token, as `Authorization: Bearer TOKEN`")),
        "{told}"
    );
    assert_eq!(scene.gateway.get("/.well-known/oauth-protected-resource", &[]).await.status, 404);
    assert_eq!(scene.gateway.request("POST", "/.well-known/oauth-protected-resource/deploy", &[]).await.status, 405);
}

/// A token is good for one request where the route says so, whatever else comes with it, and after a restart too.
#[tokio::test]
async fn a_token_is_used_once_where_the_route_says_so() {
    let Some(mut scene) = scene(Way { route: "\x20   one_time: true\n", ..Way::default() }).await else { return };
    let token = scene.token(json!({})).await;
    assert_eq!(scene.get("/deploy/x", &token).await.status, 200);
    assert!(scene.refused(&token).await.contains("was used before"));
    scene.gateway.stop().await;
    scene.gateway.run().await;
    assert!(scene.refused(&token).await.contains("was used before"));
    let other = scene.token(json!({})).await;
    let (one, two) = tokio::join!(scene.get("/deploy/x", &other), scene.get("/deploy/x", &other));
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401], "of two at once one");
    let unnamed = scene.token(json!({"claims": {"jti": null}})).await;
    assert!(scene.refused(&unnamed).await.contains("no 'jti'"));
}

/// A finished job's token verifies until its `exp`; where the route asks, GitLab says whether the job still runs.
#[tokio::test]
async fn a_finished_job_is_out_where_the_route_asks() {
    let Some(scene) = scene(Way { route: "\x20   running_job: true\n", ..Way::default() }).await else { return };
    let job = |status: &str| json!({"project_id": 5120, "id": 302, "user": "ines", "status": status});
    scene.provider.admin("/admin/job", job("running")).await;
    let token = scene.token(json!({})).await;
    for _ in 0..5 {
        assert_eq!(scene.get("/deploy/x", &token).await.status, 200);
    }
    assert_eq!(scene.provider.seen("/api/v4/projects/5120/jobs/302").await, 1, "asked once in a while");
    let other = scene.token(json!({"claims": {"job_id": "303"}})).await;
    let unseen = scene.get("/deploy/x", &other).await;
    assert_eq!(unseen.status, 503, "{}", unseen.text());
    scene
        .provider
        .admin("/admin/job", json!({"project_id": 5120, "id": 304, "user": "ines", "status": "success"}))
        .await;
    let over = scene.token(json!({"claims": {"job_id": "304"}})).await;
    assert!(scene.refused(&over).await.contains("does not run any more"));
}

/// Old-style job tokens are taken where that is configured, as long as GitLab knows a running job by them.
#[tokio::test]
async fn an_old_style_job_token_is_taken_where_that_is_configured() {
    let way =
        Way { issuer: "\x20   job_token_prefix: glcbt-\n\x20   projects: { acme/shop/api: 5120 }\n", ..Way::default() };
    let Some(scene) = scene(way).await else { return };
    let job = |differs: Value| {
        let mut job = json!({"project_id": 5120, "id": 302, "user": "ines", "token": "glcbt-64_abcdef"});
        job.as_object_mut().expect("an object").extend(differs.as_object().expect("an object").clone());
        job
    };
    scene.provider.admin("/admin/job", job(json!({}))).await;
    assert_eq!(scene.get("/release/x", "glcbt-64_abcdef").await.status, 200);
    assert_eq!(scene.get("/deploy/x", "glcbt-64_abcdef").await.status, 403, "nobody says that its ref is protected");
    assert_eq!(scene.provider.seen("/api/v4/job").await, 1, "the answer is kept for a while");
    assert!(scene.refused("glcbt-64_unknown").await.contains("no running job"));
    scene
        .provider
        .admin("/admin/job", job(json!({"id": 303, "token": "glcbt-64_mr", "source": "merge_request_event"})))
        .await;
    assert_eq!(scene.get("/release/x", "glcbt-64_mr").await.status, 403, "a stranger may have written what it runs");
    scene.provider.admin("/admin/job", job(json!({"id": 304, "project_id": 9, "token": "glcbt-64_other"}))).await;
    assert_eq!(scene.get("/release/x", "glcbt-64_other").await.status, 403);
    scene.provider.fault("/api/v4/job", json!({"status": 500})).await;
    assert_eq!(scene.get("/release/x", "glcbt-64_down").await.status, 503);
    assert!(!scene.gateway.log().contains("glcbt-64_"), "no token in the log");
}

/// S-67, S-90: whoever makes up tokens makes nobody fetch keys: at most one fetch in 30 s for all of them, and a good token is
/// served meanwhile.
#[tokio::test]
async fn s67_made_up_tokens_cause_one_fetch_of_keys() {
    let Some(scene) = scene(Way::default()).await else { return };
    let good = scene.token(json!({})).await;
    assert_eq!(scene.get("/deploy/x", &good).await.status, 200);
    let before = scene.provider.seen("/oauth/discovery/keys").await;
    let bad = scene.token(json!({"header": {"kid": "nobody-knows"}})).await;
    let mut wire = crate::support::http1::Wire::connect(scene.gateway.port).await;
    let (unsigned, signature) = bad.rsplit_once('.').expect("a signature");
    for number in 0..500 {
        let bad = format!("{unsigned}.{number:04}{}", &signature[4..]);
        let head = format!(
            "GET /deploy/x HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {bad}\r\n\r\n",
            scene.gateway.port
        );
        wire.send(head).await;
        assert_eq!(wire.answer().await.expect("an answer").status, 401);
    }
    let caused = scene.provider.seen("/oauth/discovery/keys").await - before;
    assert_eq!(caused, 1, "one for all of them");
    assert_eq!(scene.get("/deploy/x", &good).await.status, 200);
}

/// S-67: a key that the issuer gives up stops its tokens, and new ones are found by their `kid`.
#[tokio::test]
async fn s67_a_new_key_is_found_and_its_tokens_are_served() {
    let Some(scene) = scene(Way::default()).await else { return };
    let old = scene.token(json!({})).await;
    assert_eq!(scene.get("/deploy/x", &old).await.status, 200);
    scene.provider.admin("/admin/rotate", json!({"keep_old": false})).await;
    let new = scene.token(json!({})).await;
    assert_eq!(scene.get("/deploy/x", &new).await.status, 200);
    assert!(
        scene.refused(&old).await.contains("no key of the provider"),
        "what verified by a key that is gone verifies no more"
    );
}

/// S-54 for those without a session: a lock on the person behind a job, on the job's issuer, or on a group keeps the job out at once.
#[tokio::test]
async fn s54_locks_keep_jobs_out() {
    let Some(scene) = scene(Way::default()).await else { return };
    let token = scene.token(json!({})).await;
    let run = |arguments: &[&str]| {
        let mut command = crate::support::gateway::program();
        let done =
            command.args(arguments).arg("-c").arg(scene.gateway.path("vestibule.yaml")).output().expect("it runs");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    assert_eq!(scene.get("/deploy/x", &token).await.status, 200);
    let subject = claims(&token)["user_id"].as_str().expect("a number").to_owned();
    for whom in [
        ["--user".to_owned(), format!("gitlab:{subject}")],
        ["--provider".to_owned(), "gitlab".to_owned()],
        ["--provider".to_owned(), "ci".to_owned()],
        ["--group".to_owned(), "gitlab:acme/release".to_owned()],
    ] {
        run(&["sessions", "lock", &whom[0], &whom[1], "--reason", "an incident"]);
        let locked = scene.get("/deploy/x", &token).await;
        assert_eq!((locked.status, &locked.json()["code"]), (403, &json!("locked")), "{whom:?}");
        run(&["sessions", "unlock", &whom[0], &whom[1]]);
        assert_eq!(scene.get("/deploy/x", &token).await.status, 200, "{whom:?}");
    }
}

/// A stream that a token opened ends when the token is as old as it may be, and when its person is out.
#[tokio::test]
async fn a_stream_of_a_job_ends_with_its_token_and_with_its_person() {
    let way = Way {
        issuer: "\x20   max_age: 1m\n",
        route: "\x20   strip_path: true\n\x20   path: /read\n",
        ..Way::default()
    };
    let Some(scene) = scene(way).await else { return };
    let open = async |token: &str| {
        let port = scene.gateway.port;
        let mut wire = crate::support::http1::Wire::connect(port).await;
        wire.send(format!("GET /read/sse HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n"))
            .await;
        let begun = String::from_utf8_lossy(&wire.some().await).into_owned();
        assert!(begun.starts_with("HTTP/1.1 200"), "{begun}");
        wire
    };
    let old = scene.token(json!({"claims": {"iat": seconds() - 115}})).await; // 5 s are left of 60 s and the clock difference
    let long = scene.token(json!({})).await;
    let (mut ends, mut lasts) = (open(&old).await, open(&long).await);
    tokio::time::timeout(Duration::from_secs(8), ends.rest()).await.expect("the token is too old");
    assert_eq!(scene.get("/read/x", &old).await.status, 401);
    assert!(!lasts.some().await.is_empty(), "the other goes on");
    scene.provider.admin("/admin/block", json!({"user": "ines"})).await;
    tokio::time::timeout(Duration::from_secs(8), lasts.rest()).await.expect("its person is out");
}

/// Where only a person's sign-in is strong enough, a job hears so, and not that it should send the token that it sent.
#[tokio::test]
async fn a_job_where_people_sign_in_anew_is_not_told_to_send_a_token() {
    let Some(scene) = scene(Way { route: "    step_up: { max_age: 1h }\n", ..Way::default() }).await else { return };
    let answer = scene.get("/deploy/x", &scene.token(json!({})).await).await;
    assert_eq!((answer.status, &answer.json()["detail"]), (401, &json!("This needs the sign-in of a person.")));
    assert!(!answer.text().contains("oken is needed"), "{}", answer.text());
    assert_eq!(scene.upstream.seen(), 0);
}

/// The page of tokens explains codes and checks that there are, and every check.
#[test]
fn the_page_of_tokens_explains_every_check() {
    use vestibule::{oidc::Check, refusal::Reason};
    let page = include_str!("../../docs/tokens.md");
    let (_, why) = page.split_once("## It is refused: why").expect("the section");
    let (_, why) = why.split_once("| `code` |").expect("the table of codes");
    let (codes, checks) = why.split_once("| Check |").expect("two tables");
    let first = |table: &'static str| table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let known: Vec<_> = Reason::all().map(Reason::code).collect();
    for code in first(codes) {
        assert!(known.contains(&code), "`{code}`");
    }
    use Check::{Active, Age, Algorithm, Audience, Claims, Class, Form, Issuer, Signature, Time};
    let all = [Form, Algorithm, Issuer, Class, Audience, Time, Age, Signature, Active, Claims].map(Check::as_str);
    let (checks, _) = checks.split_once("\n## ").expect("more sections");
    assert_eq!(Vec::from_iter(first(checks)), all);
}
