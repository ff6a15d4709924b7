//! What mistakes in `token_issuers`, and in what routes say about tokens, look like.

use super::tests::{START, mistakes, settings_in_place};

/// The start, with an issuer and with keys on the route.
fn with(issuer: &str, route: &str) -> String {
    let start =
        START.replace("client_secret: { file: secrets/gitlab } }", "client_secret: { file: secrets/gitlab }, API }");
    let api = "membership: { api: { token: { file: secrets/gitlab_api } } }";
    let route = format!("{route}, allow:");
    start
        .replace("API", api)
        .replace("allow:", &route)
        .replace("routes:\n", &format!("token_issuers:\n  - {{ {issuer} }}\nroutes:\n"))
}

const CI: &str = "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [\"https://d.test\"]";

#[test]
fn an_issuer_of_ci_jobs_needs_little() {
    let settings = settings_in_place(&with(CI, "token_issuers: [ci]"));
    let issuer = &settings.token_issuers[0];
    assert_eq!(issuer.issuer.as_deref(), Some("https://gitlab.example.com"), "its provider's");
    assert_eq!((issuer.max_age.as_secs(), &*issuer.algorithms), (3600, &["RS256".to_owned()][..]));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
    let without = with(CI, "token_issuers: [ci]")
        .replace("membership: { api: { token: { file: secrets/gitlab_api } } }", "title: G");
    let warned = settings_in_place(&without).warnings;
    assert!(
        warned[0].contains("jobs of people who were blocked go on until their token is `max_age` old"),
        "{warned:?}"
    );
}

/// What is wrong with a provider, or with its name, is said once, and not again of an issuer that rests on it.
#[test]
fn a_mistake_in_a_provider_is_none_of_its_issuers() {
    let good = with(CI, "token_issuers: [ci]");
    for (text, expected) in [
        (good.replace("secrets/gitlab }", "secrets/nowhere }"), "secrets/nowhere"),
        (good.replace("provider: gitlab,", "provider: gitlap,"), "did you mean `gitlab`?"),
    ] {
        let found = mistakes(&text);
        assert!(found.contains(expected) && found.matches("error: ").count() == 1, "{found}");
    }
}

/// Nobody has to sign in where all callers have tokens.
#[test]
fn a_configuration_may_have_no_provider() {
    let text = "public_url: https://deploy.example.com\nlisten: 0.0.0.0:8080\ntrusted_proxies: [10.0.0.0/8]\n\
                token_issuers:\n  - { name: ci, kind: gitlab_ci, issuer: https://gitlab.example.com, audiences: [\"https://d.test\"] }\n\
                routes:\n  - { name: deploy, upstream: \"http://127.0.0.1:7007\", token_issuers: [ci] }\npolicies: ./policies\n";
    let settings = settings_in_place(text);
    assert!(settings.providers.is_empty() && settings.routes[0].providers.is_empty());
    assert_eq!(settings.token_issuers[0].namespace().as_str(), "ci");
}

#[test]
fn every_mistake_about_an_issuer_says_what_where_and_what_to_do() {
    let jwt = "name: api, kind: jwt, issuer: https://id.test";
    for (issuer, expected) in [
        ("name: gitlab, kind: gitlab_ci, provider: gitlab, audiences: [a]", "expected a name that no provider has"),
        ("name: ci, kind: gitlab_ci, provider: gitlab", "`token_issuers[0].audiences` is missing or empty"),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: []",
            "`token_issuers[0].audiences` is missing or empty",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [0f2c6a]",
            "expected an audience that is no client id",
        ),
        ("name: ci, kind: gitlab_ci, provider: gitlap, audiences: [a]", "did you mean `gitlab`?"),
        ("name: ci, kind: gitlab_ci, audiences: [a]", "`token_issuers[0].issuer` is missing"),
        ("name: ci, kind: gitlab_ci, issuer: https://gitlab.example.com, audiences: [a]", "write `provider: gitlab`"),
        (
            "name: s, kind: jwt, issuer: https://hall.test, audiences: [a], principal: user, typ: vestibule+jwt",
            "expected a provider, as `typ` is",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], job_token_prefix: glcbt- }\n  - { name: o, kind: introspection, \
             audiences: [a], principal: service, prefix: glcbt-x, endpoint: \"https://i.test\", client_id: v, client_secret: { file: secrets/gitlab }",
            "tokens of `o` begin as those of `ci` do",
        ),
        (
            "name: ci, kind: gitlab_ci, issuer: http://gitlab.test, audiences: [a]",
            "write `https`; `http` is for loopback only",
        ),
        ("name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], algorithms: [HS256]", "expected one of `RS256`"),
        ("name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], algorithms: [none]", "expected one of `RS256`"),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], algorithms: []",
            "`token_issuers[0].algorithms` is empty",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], max_age: 60d",
            "expected a duration from `1m` to `30d`",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], projects: { api: 5 }",
            "expected the full path of a project",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], principal: user",
            "`token_issuers[0].principal` is for kind jwt and introspection only",
        ),
        (
            "name: ci, kind: gitlab_ci, provider: gitlab, audiences: [a], job_token_prefix: ey",
            "expected how the tokens begin",
        ),
        (&format!("{jwt}, audiences: [a]"), "`token_issuers[0].principal` is missing"),
        (&format!("{jwt}, audiences: [a], principal: user, projects: {{ a/b: 1 }}"), "is for kind gitlab_ci only"),
        (
            &format!("{jwt}, audiences: [a], principal: user, jwks_uri: http://id.test/keys"),
            "what comes from there is believed: write `https`",
        ),
        (&format!("{jwt}, audiences: [a], principal: user, jwks_file: secrets/gitlab"), "it is no JSON object"),
        (
            &format!(
                "{jwt}, audiences: [a], principal: user, jwks_file: tls/keys.json, jwks_uri: \"https://id.test/k\""
            ),
            "stands beside `jwks_uri`",
        ),
        (
            "name: o, kind: introspection, audiences: [a], principal: service, prefix: opq_",
            "`token_issuers[0].endpoint` is missing",
        ),
        (
            "name: m, kind: certificate, audiences: [a]",
            "`token_issuers[0].audiences` is for kind gitlab_ci, jwt and introspection only",
        ),
        (
            &format!(
                "{CI} }}\n  - {{ name: again, kind: jwt, issuer: https://gitlab.example.com, principal: service, audiences: [\"https://d.test\"]"
            ),
            "which `ci` of the same issuer has too",
        ),
        (&format!("{CI} }}\n  - {{ {CI}"), "expected a name of its own"),
    ] {
        let found = mistakes(&with(issuer, "idle: any"));
        assert!(found.contains(expected), "{issuer}: {found}");
    }
}

#[test]
fn every_mistake_about_tokens_of_a_route_says_what_where_and_what_to_do() {
    for (route, expected) in [
        ("token_issuers: [cl]", "did you mean `ci`?"),
        ("token_issuers: [ci, ci]", "expected every token issuer once"),
        ("one_time: true", "`routes[0].one_time` is about tokens, and this route takes none"),
        ("token_header: X-Job-Token", "is about tokens, and this route takes none"),
        ("token_issuers: [ci], token_header: Cookie", "this one means something else"),
        ("token_issuers: [ci], token_header: Authorization", "this one means something else"),
        ("token_issuers: [ci], token_header: X-Forwarded-User", "this one is taken away from every request"),
        ("token_issuers: [ci], token_header: \"a b\"", "expected the name of a header"),
        (
            "token_issuers: [ci], forward_credential: true, credential: assertion",
            "`routes[0].forward_credential` and `credential` both say what the upstream gets",
        ),
    ] {
        let found = mistakes(&with(CI, route));
        assert!(found.contains(expected), "{route}: {found}");
    }
    let opaque = with(&format!("{CI}, job_token_prefix: glcbt-"), "token_issuers: [ci], one_time: true");
    assert!(mistakes(&opaque).contains("cannot hold for the opaque tokens of `ci`"), "{}", mistakes(&opaque));
    let blind = with(
        "name: ci, kind: gitlab_ci, issuer: https://g.test, audiences: [a]",
        "token_issuers: [ci], running_job: true",
    );
    assert!(mistakes(&blind).contains("none of this route's issuers can"), "{}", mistakes(&blind));
}

/// The secret of an issuer is shown by its source alone, and a private key in a public set is told apart.
#[test]
fn s98_no_secret_of_an_issuer_is_shown() {
    let issuer = "name: o, kind: introspection, endpoint: \"https://id.test/i\", client_id: v, client_secret: { file: secrets/gitlab }, \
                  prefix: opq_, audiences: [a], principal: service";
    let settings = settings_in_place(&with(issuer, "token_issuers: [o]"));
    let shown = format!("{:?} {}", settings.token_issuers, settings.effective);
    assert!(!shown.contains("hunter2") && shown.contains("secrets/gitlab"), "{shown}");
}
