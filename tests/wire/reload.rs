//! Policies and configuration change while requests pass: whole or not at all.

use crate::support::{
    gateway::{Gateway, configuration, program},
    http1::Wire,
    upstream::Upstream,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

fn policy(id: &str, path: &str) -> String {
    format!(
        "@id(\"{id}\")\n@reason(\"Open.\")\npermit (principal, action, resource == Route::\"app\")\n\
         when {{ context.path like \"{path}*\" }};\n"
    )
}

async fn until(what: &str, limit: u64, mut fits: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !fits().await {
        assert!(start.elapsed() < Duration::from_secs(limit), "not within {limit} s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// S-74: a changed policy acts on the next request; ids that came and went are audited.
#[tokio::test]
async fn s74_a_changed_policy_acts_and_is_audited() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy("first", "/a")).await;
    assert_eq!((gateway.get("/a", &[]).await.status, gateway.get("/b", &[]).await.status), (200, 401));
    gateway.write("policies/app.cedar", &policy("second", "/b"));
    until("the new policy acts", 6, async || gateway.get("/b", &[]).await.status == 200).await;
    assert_eq!(gateway.get("/a", &[]).await.status, 401);
    let reload = gateway.audited("the reload", |record| record.to_string().contains("second")).await.to_string();
    assert!(reload.contains("first"), "{reload}");
}

/// S-74: a broken or empty policy set never replaces a good one, and the operator reads why, with file and line.
#[tokio::test]
async fn s74_a_broken_policy_leaves_the_old_one_in_force() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy("first", "/a")).await;
    for (broken, said) in [
        ("permit (principal, action, resource) when { context.pth == \"/\" };", "attribute `pth` in context not found"),
        ("permit (", "app.cedar:1"),
        ("", "policies"),
        ("@id(\"a\") permit (principal, action, resource == Route::\"ap\");", "= help: did you mean `app`?"),
    ] {
        let before = gateway.log().matches("is not taken").count();
        gateway.write("policies/app.cedar", broken);
        until("the refusal is logged", 6, async || gateway.log().matches("is not taken").count() > before).await;
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("is not taken")).expect("logged");
        assert!(line.contains(said), "{line}");
        assert_eq!((gateway.get("/a", &[]).await.status, gateway.get("/b", &[]).await.status), (200, 401));
    }
    let record = gateway.audited("the refused reload", |record| record.to_string().contains("app.cedar")).await;
    let detail = record["status_detail"].as_str().unwrap_or_default();
    assert!(detail.contains("app.cedar:1:") && !detail.contains('\n') && !detail.contains("|"), "one line: {detail}");
    let status = |gateway: &Gateway| {
        let out = program().arg("-c").arg(gateway.path("vestibule.yaml")).arg("status").output().expect("it runs");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    let said = status(&gateway);
    assert!(said.contains("\nlast reload: refused at 2") && said.contains("no route is named `ap`"), "{said}");
    assert!(said.contains("\n    = help: did you mean `app`?"), "{said}");
    gateway.write("policies/app.cedar", &policy("second", "/b"));
    until("a good policy is taken again", 6, async || gateway.get("/b", &[]).await.status == 200).await;
    assert!(status(&gateway).contains("\nlast reload: taken at 2"), "{}", status(&gateway));
}

/// P46: a policy that says something else under the same `@id` is named.
#[tokio::test]
async fn p46_a_reload_names_the_policies_that_changed() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy("one", "/a")).await;
    gateway.write("policies/app.cedar", &policy("one", "/b"));
    let reload = gateway.audited("the reload", |record| record.to_string().contains("policies[one]")).await;
    assert_eq!(reload["unmapped"]["changed"]["items"], serde_json::json!(["policies[one]"]), "{reload}");
    let log = gateway.log();
    assert!(log.lines().any(|line| line.contains("policies reloaded") && line.contains("policies[one]")), "{log}");
}

/// P46: a reload names the keys that mean something else now, a secret behind the same name among them, and no value.
#[tokio::test]
async fn p46_a_reload_names_the_keys_that_changed() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "    timeouts: { connect: 4s }\n", "");
    let gateway = Gateway::start(&text, &policy("first", "/a")).await;
    let written = std::fs::read_to_string(gateway.path("vestibule.yaml")).expect("read");
    gateway.write_secret("secret", "another-secret");
    gateway.write("vestibule.yaml", &written.replace("connect: 4s", "connect: 3s").replace("drain: 0s", "drain: 1s"));
    let changed = "routes[app].timeouts.connect";
    let reload = gateway.audited("the reload", |record| record.to_string().contains(changed)).await;
    let expected = ["drain", "providers[gitlab].client_secret", changed];
    assert_eq!(reload["unmapped"]["changed"]["items"], serde_json::json!(expected), "{reload}");
    let log = gateway.log();
    let line = log.lines().rfind(|line| line.contains("policies reloaded")).expect("logged");
    for key in expected {
        assert!(line.contains(key), "{line}");
    }
    assert!(!log.contains("another-secret") && !reload.to_string().contains("another-secret"));
}

/// S-74: under load every request is judged by exactly one generation, which its record names.
#[tokio::test]
async fn s74_every_request_is_judged_by_one_generation() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy("even", "/")).await;
    let (stop, port) = (Arc::new(AtomicBool::new(false)), gateway.port);
    let mut load = Vec::new();
    for _ in 0..4 {
        let stop = stop.clone();
        load.push(tokio::spawn(async move {
            let mut wire = Wire::connect(port).await;
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                wire.send(format!("GET /x HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n")).await;
                assert_eq!(wire.answer().await.expect("an answer").status, 200);
                count += 1;
            }
            count
        }));
    }
    for turn in 0..4 {
        let id = if turn % 2 == 0 { "odd" } else { "even" };
        gateway.write("policies/app.cedar", &policy(id, "/"));
        let reloads = || gateway.log().matches("configuration and policies reloaded").count();
        until("the reload", 6, async || reloads() > turn).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    for task in load {
        sent += task.await.expect("no refusal");
    }
    until("all records", 10, async || decisions(&gateway).len() == sent).await;
    let pairs: BTreeSet<_> = decisions(&gateway).into_iter().collect();
    assert_eq!(pairs.len(), 2, "one digest per set of policies: {pairs:?}");
}

/// Policy and digest of every request's record.
fn decisions(gateway: &Gateway) -> Vec<(String, String)> {
    gateway
        .audit()
        .into_iter()
        .filter(|event| event["class_uid"] == 4002)
        .map(|event| {
            (event["authorizations"][0]["policy"]["uid"].to_string(), event["unmapped"]["policy_digest"].to_string())
        })
        .collect()
}

/// A changed configuration is taken whole: a route appears, and what cannot change while running says so.
#[tokio::test]
async fn a_changed_configuration_is_taken() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", "");
    let gateway = Gateway::start(&text, &policy("open", "/")).await;
    let more = format!(
        "  - name: extra\n    host: 127.0.0.1\n    path: /extra/\n    upstream: http://127.0.0.1:{}\n    allow: [public]\n",
        upstream.port
    );
    let next = text
        .replace("policies: ./policies\n", &format!("{more}policies: ./policies\nworkers: 1\n"))
        .replace("workers: 2\n", "")
        .replace("  - name: app\n", "  - name: app\n    host: 127.0.0.1\n")
        .replace("PORT", &gateway.port.to_string());
    gateway.write("vestibule.yaml", &next);
    until("the route appears", 6, async || gateway.log().contains("configuration and policies reloaded")).await;
    assert_eq!(gateway.get("/extra/x", &[]).await.status, 200);
    assert!(gateway.log().contains("takes effect at the next start"), "{}", gateway.log());
    gateway.write("vestibule.yaml", &next.replace("allow: [public]", "alow: [public]"));
    until("the mistake is named", 6, async || gateway.log().contains("alow")).await;
    assert_eq!(gateway.get("/extra/x", &[]).await.status, 200);
}

/// Half of what `public_url` decides is fixed at start, such as the cookies that no upstream can set: another one is refused.
#[tokio::test]
async fn another_public_url_is_not_taken_while_running() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", "");
    let gateway = Gateway::start(&text, &policy("open", "/")).await;
    let here = text.replace("PORT", &gateway.port.to_string());
    let there = here.replace("public_url: http://127.0.0.1:", "public_url: http://localhost:");
    gateway.write("vestibule.yaml", &there);
    until("the refusal", 6, async || gateway.log().contains("restart for that, or change it back")).await;
    assert_eq!(gateway.get("/x", &[]).await.status, 200);
}

/// A configuration that names a file which is not there yet is taken once it comes, without another change.
#[tokio::test]
async fn a_file_that_comes_later_mends_a_refused_configuration() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", "");
    let gateway = Gateway::start(&text, &policy("first", "/a")).await;
    let text = text.replace("PORT", &gateway.port.to_string()).replace("{ file: secret }", "{ file: later }");
    gateway.write("vestibule.yaml", &format!("{text}hsts: 1d\n"));
    until("the mistake is told", 8, async || gateway.log().contains("there is no file")).await;
    gateway.write_secret("later", "x");
    until("it is taken", 12, async || gateway.log().contains("configuration and policies reloaded")).await;
}

/// S-74: a policy that fails while it is evaluated refuses what it is about and nothing else; the operator reads its id and place,
/// once a minute, and each record has them.
#[tokio::test]
async fn s74_a_policy_that_cannot_be_evaluated_refuses_and_is_told_once() {
    let upstream = Upstream::start().await;
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", "");
    let broken = "@id(\"broken\")\nforbid (principal, action, resource == Route::\"app\")\nwhen { context.path_folded like \"/b*\" \
                  && context.now.offset(duration(\"9223372036854775807ms\")) < context.now };\n";
    let gateway = Gateway::start(&text, &(policy("open", "/") + broken)).await;
    assert_eq!(gateway.get("/a", &[]).await.status, 200);
    assert_eq!(upstream.take().len(), 1);
    for _ in 0..3 {
        assert_eq!(gateway.get("/b", &[]).await.status, 403);
    }
    assert!(upstream.take().is_empty());
    let failed = |record: &serde_json::Value| record["unmapped"]["outcome"] == "failed";
    until("three records", 10, async || gateway.audit().iter().filter(|record| failed(record)).count() == 3).await;
    let record = gateway.audited("a refusal", failed).await;
    assert_eq!((&record["status_code"], &record["disposition"]), (&"policy_error".into(), &"Error".into()), "{record}");
    assert_eq!(record["authorizations"][0]["policy"]["uid"], "broken");
    let cause = record["unmapped"]["cause"].as_str().expect("a cause");
    assert!(
        cause.starts_with("policy `broken` at ") && cause.contains("app.cedar:5:1 cannot be evaluated: "),
        "{cause}"
    );
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("a policy cannot be evaluated")).collect();
    assert!(
        told.len() == 1 && told[0].contains("\"policy\":\"broken\"") && told[0].contains("app.cedar:5:1"),
        "{told:?}"
    );
}

/// A permit that a forbid always wins over is told as an error, and the set is taken: a forbid that shuts a route must not wait.
#[tokio::test]
async fn a_forbid_that_shuts_a_route_is_taken_and_told() {
    let upstream = Upstream::start().await;
    let gateway =
        Gateway::start(&configuration("http://127.0.0.1:9", &upstream, "", "", ""), &policy("open", "/")).await;
    assert_eq!(gateway.get("/a", &[]).await.status, 200);
    let shut = "@id(\"shut\")\nforbid (principal, action, resource == Route::\"app\");\n";
    gateway.write("policies/app.cedar", &(policy("open", "/") + shut));
    until("the route is shut", 6, async || gateway.get("/a", &[]).await.status != 200).await;
    let told = "the permit `open` never applies: `shut` forbids all of it";
    assert!(gateway.log().lines().any(|line| line.contains("ERROR") && line.contains(told)), "{}", gateway.log());
    let check = program()
        .arg("-c")
        .arg(gateway.path("vestibule.yaml"))
        .args(["policy", "check", "--json"])
        .output()
        .expect("it runs");
    let said: serde_json::Value = serde_json::from_slice(&check.stdout).expect("JSON");
    assert_eq!(
        (check.status.code(), &said["ok"], &said["errors"][0]["line"]),
        (Some(1), &false.into(), &1.into()),
        "{said}"
    );
}

/// After a push, contents are compared although the file system says that nothing changed. Whoever proves nothing causes nothing.
#[tokio::test]
async fn a_push_makes_contents_be_looked_at() {
    let upstream = Upstream::start().await;
    let hook = "    membership: { hook: { token: { file: hook } } }\n";
    let text = configuration("http://127.0.0.1:9", &upstream, hook, "", "");
    let prepare = |gateway: &Gateway| gateway.write_secret("hook", "hook-token");
    let gateway = Gateway::start_with(&text, &policy("first", "/a"), prepare).await;
    gateway.write("policies/app.cedar", &policy("other", "/b"));
    until("a change is taken", 6, async || gateway.get("/b", &[]).await.status == 200).await;
    let file = gateway.path("policies/app.cedar");
    let before = std::fs::metadata(&file).and_then(|about| about.modified()).expect("a time");
    gateway.write("policies/app.cedar", &policy("third", "/c"));
    std::fs::File::options().write(true).open(&file).and_then(|file| file.set_modified(before)).expect("set back");
    let push = async |token: &str| {
        let body = r#"{"object_kind":"push","event_name":"push"}"#;
        let (port, length) = (gateway.port, body.len());
        let head = format!(
            "POST /.vestibule/hooks/gitlab HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Gitlab-Event: Push Hook\r\n"
        );
        gateway.raw(format!("{head}X-Gitlab-Token: {token}\r\nContent-Length: {length}\r\n\r\n{body}")).await.status
    };
    assert_eq!((push("another").await, push("hook-token").await), (401, 200));
    until("the push acts", 6, async || gateway.get("/c", &[]).await.status == 200).await;
}
