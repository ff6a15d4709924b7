//! `vestibule token explain`: the same checks as those of a request, told to an operator.

use crate::support::{
    gateway::{Gateway, configuration, program},
    provider::{CLIENT_ID, Provider},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::{
    fs::File,
    io::Write,
    process::Stdio,
    time::{SystemTime, UNIX_EPOCH},
};

const AUDIENCE: &str = "https://deploy.example.test";
const POLICIES: &str = "@id(\"jobs\") permit (principal is Job, action, resource == Route::\"app\");";
/// The checks of a signed token, in order.
const CHECKS: [&str; 9] = ["form", "algorithm", "issuer", "class", "audience", "time", "age", "signature", "claims"];

struct Scene {
    provider: Provider,
    _upstream: Upstream,
    gateway: Gateway,
}

async fn scene() -> Option<Scene> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let issuer = &provider.issuer;
    let issuers = format!(
        "token_issuers:\n\
         \x20 - {{ name: ci, kind: gitlab_ci, provider: gitlab, audiences: [\"{AUDIENCE}\"], job_token_prefix: glcbt- }}\n\
         \x20 - {{ name: people, kind: jwt, issuer: {issuer}, audiences: [api], principal: user }}\n\
         \x20 - {{ name: opaque, kind: introspection, endpoint: \"{issuer}/oauth/introspect\", client_id: {CLIENT_ID}, client_secret: {{ file: secret }}, prefix: opq_, audiences: [api], principal: service }}\n"
    );
    let membership = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let route = "\x20   token_issuers: [ci, people, opaque]\n\x20   running_job: true\n";
    let configuration = configuration(issuer, &upstream, membership, route, &issuers);
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {"acme/release": "developer"}})).await;
    let prepare = |gateway: &Gateway| gateway.write_secret("api", "glpat-test-token-0123456789");
    let gateway = Gateway::start_with(&configuration, POLICIES, prepare).await;
    let scene = Scene { provider, _upstream: upstream, gateway };
    scene.gateway.until("the keys are kept", async || scene.kept().exists()).await;
    Some(scene)
}

/// What the program said, and how it ended.
#[derive(Debug)]
struct Told {
    code: i32,
    out: String,
    err: String,
}

impl Told {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The checks with their results.
    fn results(&self) -> Vec<(String, String)> {
        let checks = self.json()["checks"].as_array().cloned().expect("a list");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        checks.iter().map(|check| (text(&check["check"]), text(&check["result"]))).collect()
    }

    /// What is wrong with the check that failed.
    fn cause(&self) -> String {
        let checks = self.json()["checks"].as_array().cloned().expect("a list");
        checks.iter().find_map(|check| check["cause"].as_str()).unwrap_or_default().to_owned()
    }
}

impl Scene {
    /// The file in which the gateway keeps the keys of `ci`.
    fn kept(&self) -> std::path::PathBuf {
        self.gateway.path("state/token_issuers/ci.json")
    }

    /// The ID token of a job of acme/shop/api, started by ines, but for `differs`.
    async fn token(&self, differs: Value) -> String {
        let mut asked = json!({"aud": AUDIENCE, "project_path": "acme/shop/api", "project_id": 5120, "user": "ines"});
        asked.as_object_mut().expect("an object").extend(differs.as_object().expect("an object").clone());
        self.provider.admin("/admin/ci-token", asked).await["token"].as_str().expect("a token").to_owned()
    }

    fn explain(&self, token: &str, arguments: &[&str]) -> Told {
        explain(&self.gateway, token, arguments)
    }

    /// What a request with this token is told.
    async fn description(&self, token: &str) -> String {
        let answer = self.gateway.get("/", &[&format!("Authorization: Bearer {token}")]).await;
        answer.header("www-authenticate").unwrap_or_default().to_owned()
    }
}

/// Gives the program this token by standard input. No part of it comes back, wherever it is said (S-104).
fn explain(gateway: &Gateway, token: &str, arguments: &[&str]) -> Told {
    let mut child = program()
        .args(["token", "explain", "-c"])
        .arg(gateway.path("vestibule.yaml"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(token.as_bytes()); // it need not read what it refuses
    drop(stdin);
    let done = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let told = Told { code: done.status.code().expect("a code"), out: text(done.stdout), err: text(done.stderr) };
    without_token(&told, token);
    told
}

fn without_token(told: &Told, token: &str) {
    let token = token.rsplit(' ').next().unwrap_or_default().trim();
    for part in token.split('.').flat_map(|segment| segment.as_bytes().chunks(12)).filter(|part| part.len() == 12) {
        let part = std::str::from_utf8(part).expect("ASCII");
        assert!(!told.out.contains(part) && !told.err.contains(part), "{part} {told:?}");
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// P51, S-64, S-65: one wrong thing at a time. The check that fails is named, in the words that the request was refused with; those
/// before are passed, those after are not reached; online and offline alike.
#[tokio::test]
async fn p51_the_check_that_a_token_fails_is_named() {
    let Some(scene) = scene().await else { return };
    let now = seconds();
    for (differs, check) in [
        (json!({"aud": "https://other.example.test"}), "audience"),
        (json!({"aud": CLIENT_ID}), "audience"),
        (json!({"claims": {"aud": []}}), "audience"),
        (json!({"claims": {"iat": now - 3700, "exp": now + 600}}), "age"),
        (json!({"claims": {"exp": now - 61}}), "time"),
        (json!({"claims": {"nbf": now + 600}}), "time"),
        (json!({"claims": {"iat": now + 600}}), "time"),
        (json!({"claims": {"nonce": "n"}}), "class"),
        (json!({"claims": {"auth_time": now}}), "class"),
        (json!({"claims": {"sub_legacy": "x"}}), "class"),
        (json!({"claims": {"sub": "907"}}), "class"),
        (json!({"header": {"typ": "at+jwt"}}), "class"),
        (json!({"header": {"kid": "another"}}), "signature"),
        (json!({"claims": {"job_id": null}}), "claims"),
        (json!({"claims": {"project_id": "5120x"}}), "claims"),
        (json!({"claims": {"ref": {"a": 1}}}), "claims"),
        (json!({"claims": {"ref_protected": "yes"}}), "claims"),
    ] {
        let token = scene.token(differs.clone()).await;
        let description = scene.description(&token).await;
        for arguments in [&["--json"][..], &["--json", "--offline"]] {
            let told = scene.explain(&token, arguments);
            assert_eq!((told.code, &*told.err), (1, ""), "{differs}: {told:?}");
            let at = CHECKS.iter().position(|one| *one == check).expect("a check");
            let result = |one: usize| match one.cmp(&at) {
                std::cmp::Ordering::Less => "passed",
                std::cmp::Ordering::Equal => "failed",
                std::cmp::Ordering::Greater => "not_reached",
            };
            let expected: Vec<_> =
                CHECKS.iter().enumerate().map(|(one, name)| ((*name).to_owned(), result(one).to_owned())).collect();
            assert_eq!(told.results(), expected, "{differs}");
            let cause = told.cause().replace('`', "'").replace(|letter: char| letter.is_ascii_digit(), "");
            let said = description.replace(|letter: char| letter.is_ascii_digit(), "");
            assert!(said.contains(&cause), "{differs}: {cause}\n{description}");
        }
        let text = scene.explain(&token, &[]).out;
        assert!(text.contains(&format!("FAILED       {check} ")), "{text}");
        assert_eq!(text.contains("not reached"), check != "claims", "{text}");
    }
    let mut flipped = scene.token(json!({})).await.into_bytes();
    let last = flipped.len() - 10;
    flipped[last] = if flipped[last] == b'A' { b'B' } else { b'A' };
    let told = scene.explain(&String::from_utf8(flipped).expect("ASCII"), &["--json"]);
    assert!(told.code == 1 && told.cause().starts_with("its signature is wrong"), "{told:?}");
    let cut = scene.token(json!({})).await;
    let told = scene.explain(&cut[..cut.len() - 1], &[]);
    assert!(told.code == 1 && told.out.contains("FAILED       form       its signature is not base64url"), "{told:?}");
}

/// What a sign-in, a sign-out or an upstream is given opens nothing here, and is told as what it is.
#[tokio::test]
async fn s65_tokens_of_other_kinds_are_told_as_what_they_are() {
    let Some(scene) = scene().await else { return };
    let mint = async |header: Value, claims: Value| {
        let mut all = json!({"sub": "907"});
        all.as_object_mut().expect("an object").extend(claims.as_object().expect("an object").clone());
        scene.provider.mint(json!({"header": header, "claims": all})).await
    };
    let ours = format!("http://127.0.0.1:{}", scene.gateway.port);
    for (header, claims, expected) in [
        (json!({}), json!({"aud": CLIENT_ID, "nonce": "n"}), "it is the ID token of a person's sign-in"),
        (json!({}), json!({"aud": "api", "nonce": "n"}), "send the access token, asked for with the audience `api`"),
        (json!({"typ": "logout+jwt"}), json!({"aud": CLIENT_ID, "events": {}}), "it is a logout token"),
        (json!({"typ": "vestibule+jwt"}), json!({"iss": ours, "aud": "app"}), "it is an assertion of this Vestibule"),
        (json!({}), json!({"iss": format!("{}/", scene.provider.issuer), "aud": "api"}), "is almost the same"),
        (
            json!({}),
            json!({"iss": "https://gitlab.example.com", "aud": "a"}),
            "its `iss` is `https://gitlab.example.com`, and it is for `a`",
        ),
    ] {
        let token = mint(header, claims.clone()).await;
        let told = scene.explain(&token, &[]);
        assert!(told.code == 1 && told.out.contains(expected), "{claims}: {told:?}");
    }
    let other = scene.token(json!({"aud": "https://other.example.test"})).await;
    let told = scene.explain(&other, &[]);
    let asked = format!("id_tokens:\n      VESTIBULE_TOKEN:\n        aud: {AUDIENCE}");
    assert!(told.out.contains(&asked) && told.out.contains("`people`, of the same issuer, takes `api`"), "{told:?}");
    let job = scene.token(json!({"aud": "api"})).await;
    let told = scene.explain(&job, &[]);
    assert!(told.out.contains("`ci` takes those, for another audience") && told.out.contains(&asked), "{told:?}");
    let named = scene.explain(&other, &["--issuer", "people", "--json"]).json();
    assert_eq!((&named["issuer"]["name"], &named["checks"][3]["result"]), (&json!("people"), &json!("failed")));
}

/// A good token is told as the principal that it is. Keys are read once, and nothing is written where the gateway keeps them.
#[tokio::test]
async fn a_good_token_is_told_as_a_principal() {
    let Some(scene) = scene().await else { return };
    let token = scene.token(json!({"environment": "production"})).await;
    let seen = async || {
        let read = |path| scene.provider.seen(path);
        (read("/.well-known/openid-configuration").await, read("/oauth/discovery/keys").await)
    };
    let kept = || std::fs::read(scene.kept()).expect("kept");
    let (before, file) = (seen().await, kept());
    let told = scene.explain(&format!("Bearer {token}\n"), &["--json"]);
    assert_eq!((told.code, &*told.err), (0, ""), "{told:?}");
    assert_eq!(seen().await, (before.0 + 1, before.1 + 1));
    assert_eq!(kept(), file);
    let json = told.json();
    assert!(told.results().iter().all(|(_, result)| result == "passed"));
    let principal = &json["principal"];
    assert_eq!((&json["ok"], &principal["id"]), (&json!(true), &json!("Job::\"ci:302\"")));
    assert_eq!(
        principal["parents"],
        json!(["Project::\"gitlab:acme/shop/api\"", "Namespace::\"gitlab:acme/shop\"", "Namespace::\"gitlab:acme\""])
    );
    assert_eq!((&principal["attributes"]["environment"], &json["over"]["by"]), (&json!("production"), &json!("exp")));
    assert_eq!(json["person"]["attributes"]["login"], "ines");
    assert_eq!(json["keys"]["from"], "issuer");
    let unknown = json["unknown"].to_string();
    assert!(unknown.contains("is active, and which groups they are in: read at `gitlab`"), "{unknown}");
    assert!(unknown.contains("whether the job still runs: asked when it comes to `app`"), "{unknown}");
    assert!(!told.out.contains("ines@example.test"), "what proves nothing is not shown");
    let later = scene.explain(&token, &["--at", "2100-01-01T00:00:00Z"]);
    assert!(later.code == 1 && later.out.contains("FAILED       time       it ended"), "{later:?}");
    // a person's token with groups of its own, of people whom nobody else is asked about
    let person = json!({"sub": "00u9", "aud": "api", "groups": ["eng"], "preferred_username": "ines"});
    let person = scene.provider.mint(json!({"claims": person})).await;
    let json = scene.explain(&person, &["--json"]).json();
    assert_eq!(json["principal"]["id"], "User::\"people:00u9\"");
    assert_eq!(json["principal"]["parents"], json!(["Group::\"people:eng\"", "Namespace::\"people:eng\""]));
}

/// With the provider down, tokens are explained by the keys that a gateway has kept, and it is told how old they are; without these
/// nobody can say, which is neither good nor refused.
#[tokio::test]
async fn p51_tokens_are_explained_offline() {
    let Some(scene) = scene().await else { return };
    let token = scene.token(json!({})).await;
    let bad = scene.token(json!({"header": {"kid": "another"}})).await;
    let kept = scene.kept();
    let Scene { provider, _upstream, gateway } = scene;
    drop(provider);
    let told = explain(&gateway, &token, &["--offline"]);
    assert_eq!((told.code, &*told.err), (0, ""), "{told:?}");
    assert!(told.out.contains(&format!("keys: from `{}`, read ", kept.display())), "{told:?}");
    let json = explain(&gateway, &token, &["--offline", "--json"]).json();
    assert_eq!((&json["keys"]["from"], &json["ok"]), (&json!("cache"), &json!(true)));
    assert!(json["keys"]["age"].as_u64().is_some_and(|age| age < 120), "{json}");
    let told = explain(&gateway, &bad, &["--offline"]);
    assert!(told.code == 1 && told.out.contains("try it without `--offline`"), "{told:?}");
    let online = explain(&gateway, &token, &[]);
    assert_eq!((online.code, online.err.lines().count()), (2, 1), "{online:?}");
    assert!(online.err.starts_with("error: whether the token is good cannot be said: "), "{online:?}");
    assert!(
        online.out.contains("not made     signature  ") && online.out.contains("not reached  claims"),
        "{online:?}"
    );
    assert_eq!(explain(&gateway, &token, &["--json"]).json()["ok"], Value::Null);
    for opaque in ["opq_0123456789", "glcbt-0123456789"] {
        let told = explain(&gateway, opaque, &["--offline"]);
        assert!(told.code == 2 && told.err.contains("its issuer has to be asked, and nobody is"), "{told:?}");
    }
    std::fs::remove_file(&kept).expect("removed");
    let told = explain(&gateway, &token, &["--offline"]);
    assert!(told.code == 2 && told.err.contains("there are no kept keys"), "{told:?}");
}

/// An opaque token is asked about once, and told by the answer.
#[tokio::test]
async fn an_opaque_token_is_asked_about_once() {
    let Some(scene) = scene().await else { return };
    let path = "/oauth/introspect";
    let answers = |body: Value| json!({"status": 200, "body": body});
    let good = json!({"active": true, "sub": "svc-7", "aud": "api", "scope": "write", "groups": ["batch"]});
    scene.provider.fault(path, answers(good.clone())).await;
    let told = scene.explain("opq_0123456789", &["--json"]);
    assert_eq!((told.code, scene.provider.seen(path).await), (0, 1), "{told:?}");
    let json = told.json();
    assert_eq!(
        (&json["principal"]["id"], &json["over"]["by"]),
        (&json!("Service::\"opaque:svc-7\""), &json!("asked_again"))
    );
    assert_eq!(json["principal"]["parents"], json!(["Group::\"opaque:batch\""]));
    for (body, check) in [
        (json!({"active": false}), "active"),
        (json!({"active": true, "sub": "svc-7", "aud": "other"}), "audience"),
        (json!({"active": true, "sub": "svc-7", "aud": "api", "exp": seconds() - 100}), "time"),
        (json!({"active": true, "aud": "api"}), "claims"),
    ] {
        scene.provider.fault(path, answers(body)).await;
        let told = scene.explain("opq_0123456789", &["--json"]);
        let failed: Vec<_> = told.results().into_iter().filter(|(_, result)| result == "failed").collect();
        assert_eq!((told.code, failed), (1, vec![(check.to_owned(), "failed".to_owned())]), "{told:?}");
    }
    scene.provider.fault(path, json!({"status": 500})).await;
    assert_eq!(scene.explain("opq_0123456789", &[]).code, 2);
    assert_eq!(scene.explain("opq_0123456789", &["--at", "1h"]).code, 2, "an issuer speaks of now");
    let job = json!({"project_id": 5120, "id": 302, "user": "ines", "token": "glcbt-64_abcdef0123"});
    scene.provider.admin("/admin/job", job).await;
    let told = scene.explain("glcbt-64_abcdef0123", &["--json"]);
    assert_eq!((told.code, &told.json()["principal"]["id"]), (0, &json!("Job::\"ci:302\"")), "{told:?}");
    let told = scene.explain("glcbt-64_unknown0123", &[]);
    assert!(told.code == 1 && told.out.contains("FAILED       active     GitLab knows no running job"), "{told:?}");
}

/// S-104: a token comes by standard input or in a file. Elsewhere it is refused, and not repeated.
#[tokio::test]
async fn s104_a_token_comes_by_standard_input_or_in_a_file() {
    let Some(scene) = scene().await else { return };
    let token = scene.token(json!({})).await;
    scene.gateway.write_secret("token", &format!("{token}\n"));
    let file = scene.gateway.path("token");
    let told = scene.explain("", &["--file", file.to_str().expect("UTF-8"), "--offline"]);
    without_token(&told, &token);
    assert_eq!(told.code, 0, "{told:?}");
    for (input, arguments, expected) in [
        ("", &[][..], "standard input is empty"),
        ("Bearer \n", &[], "standard input is empty"),
        ("", &["--file", "/nowhere/token"], "cannot read `/nowhere/token`: No such file"),
        ("", &[&*token], "a token stands on the command line"),
        ("", &["--token", &token], "a token stands on the command line"),
        ("", &["--file", &token], "a token stands on the command line"),
        ("", &["--issuer", &token], "a token stands on the command line"),
        (&token, &["--issuer", "cj"], "there is `ci`"),
        (&token, &["--at", "noon"], "is no point in time"),
    ] {
        let told = scene.explain(input, arguments);
        without_token(&told, &token);
        assert_eq!((told.code, &*told.out, told.err.lines().count()), (2, "", 1), "{told:?}");
        assert!(told.err.contains(expected), "{expected}: {told:?}");
    }
    let terminal = File::options().read(true).write(true).open("/dev/ptmx").expect("a terminal");
    let asked =
        program().args(["token", "explain", "-c"]).arg(scene.gateway.path("vestibule.yaml")).stdin(terminal).output();
    let asked = asked.expect("it runs");
    let said = String::from_utf8_lossy(&asked.stderr);
    assert_eq!(asked.status.code(), Some(2));
    assert!(said.contains("a terminal would show it and cut it off: write `vestibule token explain < FILE`"), "{said}");
    assert!(!scene.gateway.log().contains(&token));
}
