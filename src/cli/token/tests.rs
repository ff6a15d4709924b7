//! What is said of tokens, without anybody who would be asked.

use super::*;
use crate::oidc::testing::{AUDIENCE, ISSUER, Signer, job, with};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A configuration with the key of `signer`, and its directory.
fn scene(signer: &Signer) -> (TempDir, Settings) {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).expect("written");
    write("secret", "hunter2".into());
    write("keys.json", Value::Object(signer.published()).to_string());
    let config = directory.path().join("vestibule.yaml");
    write(
        "vestibule.yaml",
        format!(
            "public_url: https://portal.test\n\
             listen: 127.0.0.1:8080\n\
             trusted_proxies: [127.0.0.1]\n\
             providers:\n\
             \x20 - {{ name: gitlab, kind: gitlab, issuer: {ISSUER}, client_id: portal, client_secret: {{ file: secret }} }}\n\
             token_issuers:\n\
             \x20 - {{ name: robots, kind: jwt, issuer: \"https://other.test\", audiences: [api], jwks_file: keys.json, algorithms: [ES256], principal: service }}\n\
             \x20 - {{ name: ci, kind: gitlab_ci, provider: gitlab, audiences: [\"{AUDIENCE}\"], jwks_file: keys.json, algorithms: [ES256] }}\n\
             \x20 - {{ name: clients, kind: certificate }}\n\
             routes:\n\
             \x20 - {{ name: app, upstream: \"http://127.0.0.1:9\", token_issuers: [ci], one_time: true, allow: [signed-in] }}\n"
        ),
    );
    let settings = crate::config::load(&config).unwrap_or_else(|errors| panic!("{errors}"));
    (directory, settings)
}

fn asked(issuer: Option<&str>) -> ExplainArguments {
    let issuer = issuer.map(str::to_owned);
    ExplainArguments { file: None, issuer, offline: true, at: None, written: Vec::new() }
}

/// The text, and the JSON.
fn told(settings: &Settings, token: &str, issuer: Option<&str>) -> (String, Value) {
    let report = asked(issuer).report(&SecretString::from(token), settings).expect("a report");
    (report.text(), report.json())
}

#[test]
fn a_good_token_is_a_principal_as_policies_see_it() {
    let (signer, now) = (Signer::new(), SystemTime::now());
    let (_directory, settings) = scene(&signer);
    let (text, json) = told(&settings, &signer.token(json!({}), job(), now), None);
    for line in [
        "token of `ci`, gitlab_ci `https://sso.test`, for `https://deploy.test`, key `k1`",
        "passed       form       it can be read in one way only",
        "passed       signature  a key of the issuer made it",
        "keys: from `jwks_file`",
        "principal                     Job::\"ci:302\"",
        "principal in                  Project::\"gitlab:acme/shop/api\"",
        "                              Namespace::\"gitlab:acme\"",
        "principal.ref_protected       true",
        "principal.user                User::\"gitlab:907\"",
        "principal.user.login          ines",
        "routes                        `app`, once",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(text.contains("by `exp`, with a minute of clock difference"), "{text}");
    assert!(text.contains("nothing reads that, as `gitlab` has no `membership.api`"), "{text}");
    assert!(text.contains("whether the job still runs: no route asks"), "{text}");
    assert!(text.contains("whether it was used before: it is good for one request to `app`"), "{text}");
    assert_eq!((&json["ok"], &json["principal"]["id"]), (&json!(true), &json!("Job::\"ci:302\"")));
    assert_eq!(json["principal"]["attributes"]["user"], "User::\"gitlab:907\"");
    assert_eq!((&json["person"]["attributes"]["login"], &json["over"]["by"]), (&json!("ines"), &json!("exp")));
    assert_eq!(json["routes"], json!([{"name": "app", "one_time": true, "running_job": false}]));
}

/// The mistakes that people make are named as such, with what to do.
#[test]
fn p51_what_is_wrong_is_told_with_what_to_do() {
    let (signer, now) = (Signer::new(), SystemTime::now());
    let (_directory, settings) = scene(&signer);
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    for (header, claims, expected) in [
        (json!({}), with(job(), json!({"aud": "https://other.test"})), "aud: https://deploy.test"),
        (json!({}), with(job(), json!({"aud": "portal"})), "the client by which people sign in with `gitlab`"),
        (json!({}), json!({"aud": "portal", "sub": "907", "nonce": "n"}), "it is the ID token of a person's sign-in"),
        (json!({}), json!({"aud": "portal", "events": {}}), "it is a logout token"),
        (json!({"typ": "logout+jwt"}), json!({"iss": "https://other.test"}), "it is a logout token"),
        (
            json!({"typ": "vestibule+jwt"}),
            json!({"iss": "https://portal.test"}),
            "it is an assertion of this Vestibule",
        ),
        (json!({"typ": "vestibule+jwt"}), json!({"iss": "https://hall.test"}), "with `typ: vestibule+jwt`"),
        (
            json!({}),
            with(job(), json!({"iss": "https://other.test", "aud": "api"})),
            "add an issuer of kind `gitlab_ci`",
        ),
        (
            json!({}),
            json!({"iss": "https://other.test", "nonce": "n"}),
            "send the access token, asked for with the audience `api`",
        ),
        (json!({}), json!({"iss": "https://other.test"}), "ask its issuer for one with the audience `api`"),
        (json!({}), json!({"iss": "https://Other.test/", "aud": "api"}), "write `issuer: https://Other.test/` there"),
        (json!({}), json!({"iss": null}), "it has no `iss`"),
        (json!({"alg": "ES384"}), job(), "if `ci` signs by `ES384`, write that into its `algorithms`"),
        (json!({"alg": "none"}), job(), "its algorithm is `none`"),
        (json!({}), with(job(), json!({"exp": seconds - 100})), "ask for a new one"),
        (json!({}), with(job(), json!({"iat": seconds - 9000})), "raise `max_age` of `ci`"),
        (json!({"kid": "k2"}), job(), "try it without `--offline`"),
        (json!({}), with(job(), json!({"user_id": "x"})), "its `user_id` is no number"),
    ] {
        let (text, json) = told(&settings, &signer.token(header.clone(), claims.clone(), now), None);
        assert!(text.contains(expected), "{header} {claims}: {expected}\n{text}");
        assert!(text.contains("refused"), "{text}");
        assert_eq!(json["ok"], false, "{json:#}");
    }
}

#[test]
fn what_claims_to_be_of_nobody_is_told_who_there_is_the_nearest_first() {
    let signer = Signer::new();
    let (_directory, settings) = scene(&signer);
    let token = signer.token(json!({}), json!({"iss": "https://sso.test:8443", "aud": ["a"]}), SystemTime::now());
    let (text, json) = told(&settings, &token, None);
    assert!(
        text.starts_with(
            "it is of no issuer that is known here: its `iss` is `https://sso.test:8443`, and it is for `a`\n"
        ),
        "{text}"
    );
    assert!(text.find("`ci`: gitlab_ci") < text.find("`robots`: jwt"), "{text}");
    assert!(!text.contains("clients"), "certificates are no tokens\n{text}");
    assert_eq!(
        (&json["issuer"], &json["issuers"][0]["name"], &json["checks"]),
        (&Value::Null, &json!("ci"), &json!([]))
    );
    let (text, json) = told(&settings, "glpat-0123456789", None);
    assert!(text.starts_with("it is no JWT (it has 1 segments, expected 3), and begins like"), "{text}");
    assert_eq!(json["token"]["looks_like"], "opaque");
    let (text, _) = told(&settings, "eyJhbGciOi\nJSUzI1NiJ9.e30.c2ln", None);
    assert!(text.contains("there is white space in it"), "{text}");
}

#[test]
fn an_issuer_can_be_named() {
    let signer = Signer::new();
    let (_directory, settings) = scene(&signer);
    let token = signer.token(json!({}), job(), SystemTime::now());
    let (text, json) = told(&settings, &token, Some("robots"));
    assert!(
        text.contains("FAILED       issuer     its `iss` is `https://sso.test`, expected `https://other.test`"),
        "{text}"
    );
    assert!(text.contains("it is of `ci`: leave out `--issuer`"), "{text}");
    assert_eq!(json["checks"][3], json!({"check": "class", "result": "not_reached", "cause": null}));
    for (name, expected) in [("c", "there is `ci`, `robots`"), ("clients", "none with tokens is named `clients`")] {
        let refused = asked(Some(name)).report(&SecretString::from(token.as_str()), &settings);
        assert!(refused.err().is_some_and(|error| error.contains(expected)), "{name}");
    }
}

/// A token of before is judged as of then.
#[test]
fn the_time_can_be_said() {
    let signer = Signer::new();
    let (_directory, settings) = scene(&signer);
    let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_416_594);
    let token = SecretString::from(signer.token(json!({}), job(), then));
    let at = |at: Option<&str>| {
        let arguments = ExplainArguments { at: at.map(str::to_owned), ..asked(None) };
        arguments.report(&token, &settings).map(|report| report.good())
    };
    assert_eq!((at(None), at(Some("2026-11-23T06:50:00Z"))), (Ok(false), Ok(true)));
    assert!(at(Some("noon")).is_err_and(|error| error.starts_with("`--at`: `noon` is no point in time")));
}

/// S-104: no part of a token is in what is told of it.
#[test]
fn s104_no_part_of_a_token_is_told() {
    let (signer, now) = (Signer::new(), SystemTime::now());
    let (_directory, settings) = scene(&signer);
    for claims in [json!({}), json!({"aud": "x"}), json!({"iss": "x"}), json!({"user_id": "x"}), json!({"exp": 1})] {
        let token = signer.token(json!({}), with(job(), claims), now);
        let (text, json) = told(&settings, &token, None);
        let told = format!("{text}{json}");
        for part in token.split('.').flat_map(|segment| segment.as_bytes().chunks(16)).filter(|part| part.len() == 16) {
            let part = std::str::from_utf8(part).expect("ASCII");
            assert!(!told.contains(part), "{part}\n{told}");
        }
        assert!(!told.contains("ines@"), "no claim that is no attribute");
    }
}

#[test]
fn a_token_is_known_where_it_stands() {
    let is = |text: &str| is_token(OsStr::new(text));
    for token in ["eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", "eyJhbGciOiJub25lIn0.eyJpc3MiOiJhIn0."] {
        assert!(is(token) && is(&format!("--token={token}")) && is(&format!("Bearer {token}")), "{token}");
    }
    for other in ["--offline", "/home/dan/key.of.the.other.gitlab.pem", "eyeing.the.sky", "2026-11-23T06:38:14.000Z"] {
        assert!(!is(other), "{other}");
    }
}
