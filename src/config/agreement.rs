//! The schema, the page, the example and what the program does with keys that are left out agree.

use super::{
    describe::{EXAMPLE, resolve, schema},
    tests::settings_in_place,
    tokens::TokenKind,
    tree::{self, below},
    unsupported, value, variables,
};
use serde_json::Value as Json;
use std::{collections::BTreeSet, fs};

/// Stands for a key that people name themselves.
const NAME: &str = "NAME";

/// The least that has every group of keys, so that the defaults of all their keys are in force.
const LEAST: &str = r#"public_url: https://portal.example.com
listen: [{ address: 0.0.0.0:8443, tls: { certificate: tls/portal.pem, key: tls/portal.key }, client_certificates: { ca: tls/portal.pem } }]
providers:
  - name: sso
    kind: gitlab
    issuer: https://sso.example.com
    client_id: a
    client_secret: { file: secrets/gitlab }
    membership: { api: { token: { file: secrets/gitlab } } }
  - name: entra
    kind: entra
    issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0
    client_id: a
    client_secret: { file: secrets/gitlab }
    membership: { graph: {} }
token_issuers:
  - { name: ci, kind: gitlab_ci, provider: sso, audiences: ["https://portal.example.com"] }
  - { name: api, kind: jwt, issuer: "https://api.example.com", audiences: [api], principal: user, claims: {} }
routes:
  - name: portal
    providers: [sso]
    upstream: { urls: ["https://10.0.0.7"], health: { path: / }, tls: { ca: tls/ca.pem } }
    cors: { origins: ["https://app.example.com"] }
    grace: { paths: [/static/*] }
    credential: { bearer: { file: secrets/gitlab } }
    body_fields: [{ method: POST, path: /a, fields: { NAME: { pointer: /a } } }]
policies: ./policies
audit: { sinks: [{ name: db, kind: postgres, url: "postgres://a@db.example.com/a" }, { name: logs, kind: syslog, url: "tls://logs.example.com" }] }
"#;

/// The rows of the page: key and default.
fn documented() -> Vec<(String, String)> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).expect("the page");
    let row = |line: &str| {
        let (key, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        let default = rest.split_once('|')?.0.trim();
        (!key.starts_with("VESTIBULE_")).then(|| (key.to_owned(), default.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

/// What a description says of a key that is left out.
fn described(property: &Json) -> Option<&str> {
    let text = property["description"].as_str().expect("every key is described");
    Some(text.rsplit_once("Default: ")?.1.trim_end_matches('.'))
}

/// Every key is described where editors look, and says whether it is required or what holds without it.
#[test]
fn the_schema_describes_every_key_and_says_its_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["title"], "Vestibule configuration");
    let text = schema.to_string();
    assert!(!text.contains("\"null\"") && !text.contains("\"default\":null"), "{schema:#}");
    for (key, property, _) in keys(&schema) {
        let text = property["description"].as_str().unwrap_or_else(|| panic!("`{key}` is not described"));
        assert!(text.ends_with('.'), "`{key}`: {text}");
    }
}

/// The page has every key and no other, and tells the same default as the schema does.
#[test]
fn the_page_and_the_schema_say_the_same() {
    let (schema, page) = (schema(), documented());
    let known = keys(&schema);
    let names = |list: &[String]| list.iter().cloned().collect::<BTreeSet<_>>();
    let (in_schema, on_page): (Vec<_>, Vec<_>) =
        (known.iter().map(|it| it.0.clone()).collect(), page.iter().map(|it| it.0.clone()).collect());
    assert_eq!(names(&in_schema), names(&on_page), "left: schema, right: docs/configuration.md");
    assert_eq!(on_page.len(), names(&on_page).len(), "a key stands there twice");
    for (key, default) in page {
        let (_, property, required) = known.iter().find(|it| it.0 == key).expect("compared above");
        let says = described(property);
        let agrees = match default.as_str() {
            "required" => *required,
            "" => !required && says.is_none(),
            part if part.starts_with("required") => {
                !required && property["description"].to_string().contains("Required")
            }
            other => !required && says == Some(other),
        };
        assert!(
            agrees,
            "`{key}`: the page says `{default}`, the schema {says:?}{}",
            if *required { ", required" } else { "" }
        );
    }
}

/// The example has every key, so that every key has an example, and its values are of this version.
#[test]
fn the_example_has_every_key() {
    let root = tree::parse(EXAMPLE).unwrap_or_else(|broken| panic!("{}", broken.message));
    let general = |key: String| unsupported::general(&key).replace(".fields.template_ref", &format!(".fields.{NAME}"));
    let general: BTreeSet<String> = tree::places(&root).into_keys().map(general).collect();
    let known = keys(&schema());
    let missing: Vec<_> = known.iter().map(|it| &it.0).filter(|key| !general.contains(*key)).collect();
    assert!(missing.is_empty(), "src/config/example.yaml lacks {missing:?}");
    for (key, property, _) in known {
        let container = property.to_string().contains("$ref") || property["type"] == "array";
        assert!(container || property["examples"][0] != Json::Null, "`{key}` has no example: {property:#}");
    }
    settings_in_place(EXAMPLE);
}

/// Whoever copies an entry of a provider from the page has one that loads.
#[test]
fn the_page_of_providers_has_an_entry_of_every_kind_that_loads() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md")).expect("the page");
    let mut kinds = BTreeSet::new();
    for block in page.split("```yaml\n").skip(1) {
        let entry = block.split("```").next().unwrap_or_default();
        let name = entry.split("name: ").nth(1).and_then(|rest| rest.lines().next()).expect("a name");
        let text = format!(
            "public_url: https://portal.example.com\nlisten: 0.0.0.0:8080\ntrusted_proxies: [10.0.0.0/8]\nproviders:\n{}\
             routes:\n  - {{ name: portal, upstream: \"http://10.0.0.7\", allow: [signed-in] }}\n",
            entry.replace(&format!("secrets/{name}"), "secrets/gitlab"),
        );
        let settings = settings_in_place(&text);
        assert!(settings.warnings.is_empty(), "{name}: {:?}", settings.warnings);
        assert_eq!(settings.providers[0].name.as_str(), name);
        kinds.insert(format!("{:?}", settings.providers[0].kind));
    }
    assert_eq!(Vec::from_iter(kinds), ["Entra", "Gitlab", "Google", "Keycloak", "Oidc", "Okta"]);
}

/// What stands around a block of the page of tokens that is not a whole file.
fn around(block: &str, issuers: &[&str]) -> String {
    let known = [
        ("gitlab", "issuer: https://gitlab.example.com, membership: { api: { token: { file: secrets/gitlab_api } } }"),
        ("okta", "issuer: https://acme.okta.com"),
        ("entra", "issuer: https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0"),
        ("keycloak", "issuer: https://keycloak.example.com/realms/acme"),
    ];
    let named = |name: &str| name == "gitlab" || block.contains(&format!("provider: {name}"));
    let providers = known.iter().filter(|(name, _)| named(name)).map(|(name, more)| {
        format!(
            "\n  - {{ name: {name}, kind: {name}, client_id: a, client_secret: {{ file: secrets/gitlab }}, {more} }}"
        )
    });
    let lines = [
        "public_url: https://deploy.example.com".to_owned(),
        "listen: 0.0.0.0:8080".to_owned(),
        "trusted_proxies: [10.0.0.0/8]".to_owned(),
        format!("providers:{}", providers.collect::<String>()),
        "token_issuers:\n  - { name: ci, kind: gitlab_ci, provider: gitlab, audiences: [\"https://deploy.example.com\"] }".to_owned(),
        format!("routes:\n  - {{ name: app, upstream: \"http://127.0.0.1:8081\", token_issuers: [{}], header_provider: gitlab }}", issuers.join(", ")),
        "policies: ./policies".to_owned(),
    ];
    let lacks = |line: &&String| !block.lines().any(|one| one.split(':').next() == line.split(':').next());
    lines.iter().filter(lacks).map(|line| format!("{line}\n")).collect()
}

/// Whoever copies from the page of tokens, or takes the files of its examples, has what loads, without a warning.
#[test]
fn the_page_of_tokens_has_entries_of_every_kind_that_load() {
    let page = include_str!("../../docs/tokens.md");
    let blocks = page.split("```yaml\n").skip(1).filter_map(|block| block.split("```").next());
    let mut kinds = BTreeSet::new();
    for block in blocks.filter(|block| !block.starts_with("# .gitlab-ci.yml")).chain([EXAMPLES]) {
        let names =
            block.split_once("token_issuers:\n").map_or("name: ci", |(_, issuers)| issuers).split("name: ").skip(1);
        let names: Vec<_> = names.filter_map(|rest| rest.split([',', ' ', '\n']).next()).collect();
        let text = format!("{block}{}", around(block, &names));
        let text = ["secrets/introspection", "secrets/registry"]
            .iter()
            .fold(text, |text, at| text.replace(at, "secrets/gitlab"));
        let settings = settings_in_place(&text.replace("tls/cluster", "tls/keys").replace("tls/gateway", "tls/portal"));
        assert!(settings.warnings.is_empty(), "{:?}\n{block}", settings.warnings);
        assert!(settings.routes.iter().all(|route| !route.token_issuers.is_empty()), "{block}");
        kinds.extend(settings.token_issuers.iter().map(|issuer| match &issuer.kind {
            TokenKind::GitlabCi(_) => "gitlab_ci",
            TokenKind::Jwt(_) => "jwt",
            TokenKind::Introspection(_) => "introspection",
            TokenKind::Certificate => "certificate",
        }));
    }
    assert_eq!(Vec::from_iter(kinds), ["certificate", "gitlab_ci", "introspection", "jwt"]);
}

/// The gateway that the jobs of the examples are run against.
const EXAMPLES: &str = include_str!("../../docs/examples/vestibule.yaml");

/// What the schema calls a default is what holds when the key is left out.
#[test]
fn defaults_are_what_holds() {
    let effective = settings_in_place(LEAST).effective;
    let at = |path: &str, place| {
        let steps = path.split('.').flat_map(|step| match step.strip_suffix("[]") {
            Some(list) => vec![list, place],
            None => vec![step],
        });
        effective.pointer(&steps.map(|step| format!("/{step}")).collect::<String>()).cloned()
    };
    let mut compared = 0;
    for (key, property, _) in keys(&schema()) {
        let Some(default) = property.get("default") else { continue };
        let found = at(&key, "0").or_else(|| at(&key, "1")); // what only Entra has stands there
        let found = found.unwrap_or_else(|| panic!("`{key}` is not shown: {effective:#}"));
        let holds = match (key.as_str(), &found) {
            ("state" | "keys", Json::String(path)) => path.ends_with(&default.as_str().expect("a path")[1..]),
            ("listen[].tls.certificates", _) => true, // all of them are shown here
            ("routes[].body_fields" | "audit.sinks", _) => true, // there is one, for the defaults of its keys
            _ => found == *default || same_time(&found, default),
        };
        assert!(holds, "`{key}`: {default} is said, {found} holds");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

/// `60s` and `1m` are the same.
fn same_time(one: &Json, other: &Json) -> bool {
    let read = |text: &Json| value::duration(text.as_str()?).ok();
    read(one).is_some() && read(one) == read(other)
}

/// A key that this version has is not refused as one of a later version.
#[test]
fn what_is_not_supported_is_not_in_the_schema() {
    for (key, _, _) in keys(&schema()) {
        assert_eq!(unsupported::key(&key), None, "`{key}` is built: take it out of src/config/unsupported.rs");
    }
}

#[test]
fn p61_the_page_has_every_variable() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).expect("the page");
    for name in variables::VARIABLES.into_iter().chain(["VESTIBULE_PORT", "VESTIBULE_PORT_*", "VESTIBULE_SERVICE_*"]) {
        assert!(page.contains(&format!("`{name}`")), "{name}");
    }
}

/// Every key of a schema by its path, such as `routes[].timeouts.connect`, with what is said of it and whether it must be there.
fn keys(root: &Json) -> Vec<(String, Json, bool)> {
    let mut found = Vec::new();
    collect(root, root, "", &mut found);
    found.retain(|(key, ..)| !is_source(key) && !is_of_a_further_limit(key));
    found
}

/// Where a secret comes from is described once, at the first.
fn is_source(key: &str) -> bool {
    let secret = key.strip_suffix(".file").or_else(|| key.strip_suffix(".env"));
    secret.is_some_and(|secret| secret != "providers[].client_secret")
}

/// How much one may ask is described once, at the first of those who are limited.
fn is_of_a_further_limit(key: &str) -> bool {
    let measure = key.strip_prefix("routes[].limits.").and_then(|rest| rest.split_once('.'));
    measure.is_some_and(|(whom, _)| whom != "address")
}

fn collect(root: &Json, schema: &Json, path: &str, found: &mut Vec<(String, Json, bool)>) {
    let schema = resolve(root, schema);
    for branch in schema.get("anyOf").and_then(Json::as_array).into_iter().flatten() {
        collect(root, branch, path, found);
    }
    if let Some(items) = schema.get("items") {
        collect(root, items, &format!("{path}[]"), found);
    }
    if let Some(named) = schema.get("additionalProperties") {
        collect(root, named, &below(path, NAME), found);
    }
    let required = |key: &str| {
        schema.get("required").and_then(Json::as_array).into_iter().flatten().any(|one| one.as_str() == Some(key))
    };
    for (key, property) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let path = below(path, key);
        found.push((path.clone(), property.clone(), required(key)));
        collect(root, property, &path, found);
    }
}
