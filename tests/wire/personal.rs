//! What is recorded of persons: pseudonyms for addresses, stars for parts of paths, and nothing of either in logs.

use crate::support::{
    gateway::{Gateway, POLICIES, configuration, program},
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::fs;

fn told(gateway: &Gateway, words: &[&str]) -> (Option<i32>, String) {
    let config = gateway.path("vestibule.yaml");
    let out = program().arg("audit").args(words).arg("-c").arg(config).output().expect("it runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// The journal and the log, as they stand on disk.
fn left(gateway: &Gateway) -> String {
    let files = fs::read_dir(gateway.path("state/journal")).expect("a journal").flatten();
    files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect::<String>() + &gateway.log()
}

/// Parts of paths that a route keeps out are in no record and no log line, however a client spells the path, and whether or not its
/// route is found. Policies and the upstream see the path as it is.
#[tokio::test]
async fn what_a_route_keeps_out_of_paths_is_written_nowhere() {
    let upstream = Upstream::start().await;
    let route = "    redact_paths: [\"/public/users/*/records/*\", \"/public/files/**\"]\n    paths: exact\n";
    let text = configuration("http://127.0.0.1:9", &upstream, "", route, "");
    let gateway = Gateway::start(&text, POLICIES).await;
    for (path, status, shown) in [
        ("/public/users/canary7/records/canary9", 200, "/public/users/*/records/*"),
        ("/public/users/canary%207/records/canary9/x", 200, "/public/users/*/records/*/x"),
        ("/public/USERS/canary7/records/canary9", 200, "/public/USERS/*/records/*"),
        ("/public/files/canary/canary", 200, "/public/files/**"),
        ("/public/users%2Fcanary7/records/canary9", 400, "/public/users%2F*/records/*"),
    ] {
        assert_eq!(gateway.get(path, &[]).await.status, status, "{path}");
        let seen = upstream.take();
        assert_eq!(
            seen.iter().map(|seen| &*seen.target).collect::<Vec<_>>(),
            if status == 200 { vec![path] } else { vec![] }
        );
        gateway.audited(shown, |event| event["http_request"]["url"]["path"] == shown).await;
    }
    assert!(!left(&gateway).contains("canary"), "{}", left(&gateway));
    let (code, found) = told(&gateway, &["search", "--path", "/public/users/*/records"]);
    assert_eq!((code, found.lines().count()), (Some(0), 2), "{found}");
}

/// An e-mail address and a client's address are recorded as pseudonyms, one person under one, and who has the key finds them.
#[tokio::test]
async fn a_person_is_found_under_their_pseudonym() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let memberships = json!({ "platform": "developer" });
    provider.admin("/admin/user", json!({ "user": "ada@example.com", "memberships": memberships })).await;
    let text = configuration(&provider.issuer, &upstream, "", "", "audit: { pseudonyms: [email, address] }\n");
    let mut gateway = Gateway::start(&text, POLICIES).await;
    let browser = gateway.sign_in(&provider, "ada@example.com").await;
    assert_eq!(gateway.get_as(&browser, "/people/Ada%40Example.com").await.status, 200);
    assert_eq!(upstream.only().target, "/people/Ada%40Example.com");
    let event = gateway.audited("the request", |event| event["http_request"]["url"]["path"].is_string()).await;
    let (code, email) = told(&gateway, &["pseudonym", "ada@example.com"]);
    assert!(code == Some(0) && email.starts_with("email:"), "{email}");
    let (_, address) = told(&gateway, &["pseudonym", "127.0.0.1"]);
    let is_hers = |event: &Value| event["http_request"]["url"]["path"] == format!("/people/{email}");
    let hers = gateway.audited("her request", is_hers).await;
    assert_eq!(hers["actor"]["user"]["name"], *email);
    assert_eq!((&hers["src_endpoint"]["uid"], &event["src_endpoint"]["ip"]), (&json!(address), &Value::Null));
    let (code, found) = told(&gateway, &["search", "--user", "ada@example.com"]);
    assert!(code == Some(0) && found.lines().count() >= 2, "{found}");
    for client in ["127.0.0.1", "::ffff:127.0.0.1", &*address] {
        assert_eq!(told(&gateway, &["search", "--client", client, "--path", "/people/"]).0, Some(0), "{client}");
    }
    let (_, exported) = told(&gateway, &["export", "--format", "csv", "--path", "/people/"]);
    assert!(exported.contains(&*address), "{exported}");
    assert_eq!(told(&gateway, &["search", "--client", "somebody"]).0, Some(2));
    let journal = || -> String {
        let files = fs::read_dir(gateway.path("state/journal")).expect("a journal").flatten();
        files.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    };
    assert!(!journal().to_lowercase().contains("example.com") && !journal().contains("\"ip\""), "{}", journal());
    assert_eq!(told(&gateway, &["pseudonym", "ada"]).0, Some(2));

    // without the key nobody finds anybody, and the trail is proved all the same
    gateway.stop().await;
    fs::remove_file(gateway.path("keys/audit.pseudonyms")).expect("removed");
    assert_eq!(told(&gateway, &["search", "--user", "ada@example.com"]).0, Some(1));
    assert_eq!(told(&gateway, &["pseudonym", "ada@example.com"]).0, Some(2));
    assert_eq!(told(&gateway, &["verify"]).0, Some(0));
}
