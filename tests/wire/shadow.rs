//! A second set of policies is asked beside the one in force: recorded, counted, never obeyed.

use crate::support::{
    gateway::{Gateway, configuration, free_port, program},
    http1::Wire,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::fs;

/// Everybody may go below a path.
fn open(id: &str, path: &str) -> String {
    format!(
        "@id(\"{id}\")\npermit (principal, action, resource == Route::\"app\")\nwhen {{ context.path like \"{path}*\" }};\n"
    )
}

/// A gateway that obeys `live` and asks `shadow`, and where its metrics are.
async fn scene(live: &str, shadow: &str) -> (Upstream, Gateway, u16) {
    let (upstream, operations) = (Upstream::start().await, free_port());
    let more = format!("shadow_policies: ./next\noperations: {{ address: 127.0.0.1:{operations} }}\n");
    let text = configuration("http://127.0.0.1:9", &upstream, "", "", &more);
    let gateway = Gateway::start_with(&text, live, |gateway| {
        fs::create_dir(gateway.path("next")).expect("a directory");
        gateway.write("next/app.cedar", shadow);
    });
    (upstream, gateway.await, operations)
}

async fn metrics(operations: u16) -> String {
    let mut wire = Wire::connect(operations).await;
    wire.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    wire.answer().await.expect("an answer").text()
}

fn told(gateway: &Gateway, command: &str) -> (Option<i32>, String) {
    let out = program().arg(command).arg("-c").arg(gateway.path("vestibule.yaml")).output().expect("it runs");
    (out.status.code(), String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

fn of(path: &'static str) -> impl Fn(&Value) -> bool {
    move |record| record["class_uid"] == 4002 && record["http_request"]["url"]["path"] == path
}

/// What the shadow policies would decide otherwise is in the record and in the metrics, and changes no answer.
#[tokio::test]
async fn shadow_policies_are_recorded_and_counted_and_never_obeyed() {
    let next = open("next", "/b") + &open("both", "/both");
    let (upstream, gateway, operations) = scene(&(open("first", "/a") + &open("both", "/both")), &next).await;
    let statuses = [
        gateway.get("/a", &[]).await.status,
        gateway.get("/b", &[]).await.status,
        gateway.get("/both", &[]).await.status,
    ];
    assert_eq!(statuses, [200, 401, 200]);
    assert_eq!(upstream.take().len(), 2, "what would be permitted is not forwarded");
    let a = gateway.audited("what would be refused", of("/a")).await;
    let shadow = &a["unmapped"]["shadow"];
    assert_eq!(
        (&shadow["outcome"], &shadow["policies"], &shadow["differs"]),
        (&json!("not_permitted"), &json!([]), &json!("would_refuse"))
    );
    assert_eq!((&a["disposition"], &a["unmapped"]["outcome"]), (&json!("Allowed"), &json!("permitted")));
    let b = gateway.audited("what would be permitted", of("/b")).await;
    let shadow = &b["unmapped"]["shadow"];
    assert_eq!(
        (&shadow["outcome"], &shadow["policies"], &shadow["differs"]),
        (&json!("permitted"), &json!(["next"]), &json!("would_permit"))
    );
    assert_eq!((&b["action"], &b["unmapped"]["outcome"]), (&json!("Denied"), &json!("not_permitted")));
    let both = gateway.audited("what is decided alike", of("/both")).await;
    assert_eq!(
        (&both["unmapped"]["shadow"]["outcome"], both["unmapped"]["shadow"].get("differs")),
        (&json!("permitted"), None)
    );
    let metrics = metrics(operations).await;
    let search = program().args(["audit", "search", "--differs", "-c"]).arg(gateway.path("vestibule.yaml")).output();
    let found = String::from_utf8_lossy(&search.expect("it runs").stdout).into_owned();
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("  shadow=would_refuse()") && found.contains("  shadow=would_permit(next)"), "{found}");
    for kind in ["would_permit", "would_refuse"] {
        let line = format!("vestibule_shadow_differences_total{{route=\"app\",kind=\"{kind}\"}} 1");
        assert!(metrics.lines().any(|there| there == line), "{line} in {metrics}");
    }
    let digest = a["unmapped"]["shadow"]["policy_digest"].as_str().expect("a digest").to_owned();
    assert!(metrics.contains(&format!("vestibule_policies{{set=\"shadow\",digest=\"{digest}\"}} 2")), "{metrics}");
    let (_, status) = told(&gateway, "status");
    assert!(status.contains(&format!("\nshadow policies {digest}, not obeyed")), "{status}");
}

/// S-74: shadow policies that cannot be loaded stop nothing, neither the start nor a reload, and are told until they are mended.
#[tokio::test]
async fn s74_broken_shadow_policies_stop_nothing_and_are_told() {
    let (_upstream, gateway, operations) = scene(&open("first", "/a"), "permit (").await;
    assert_eq!((gateway.get("/a", &[]).await.status, gateway.get("/b", &[]).await.status), (200, 401));
    let log = gateway.log();
    let line =
        log.lines().find(|line| line.contains("the shadow policies are not asked")).expect("it is told at the start");
    assert!(line.contains("next/app.cedar:1:"), "{line}");
    let (_, status) = told(&gateway, "status");
    assert!(status.contains("\nshadow policies: NOT ASKED: error: "), "{status}");
    let (code, check) = told(&gateway, "check");
    assert!(code == Some(1) && check.contains("next/app.cedar:1:"), "{check}");
    gateway.write("policies/app.cedar", &open("second", "/b"));
    gateway.until("the live set is taken", async || gateway.get("/b", &[]).await.status == 200).await;
    let a = gateway.audited("a request", of("/a")).await;
    assert_eq!(a["unmapped"].get("shadow"), None);
    gateway.write("next/app.cedar", &open("next", "/c"));
    let is_taken = |record: &Value| record["entity"]["name"] == "shadow_policies" && record["status"] == "Success";
    let taken = gateway.audited("the shadow policies are taken", is_taken).await;
    assert_eq!(taken["unmapped"]["added"]["items"], json!(["next"]));
    assert_eq!((gateway.get("/b", &[]).await.status, gateway.get("/c", &[]).await.status), (200, 401));
    let metrics = metrics(operations).await;
    assert_eq!(metrics.matches("vestibule_policies{").count(), 2, "{metrics}");
}

/// The groups that only shadow policies name are read too, else what they decide would be wrong.
#[tokio::test]
async fn groups_of_shadow_policies_are_carried() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let upstream = Upstream::start().await;
    let live = "@id(\"all\") permit (principal is User, action, resource == Route::\"app\");";
    let shadow = |group: &str| {
        format!(
            "@id(\"some\") permit (principal is User in Group::\"gitlab:{group}\", action, resource == Route::\"app\");"
        )
    };
    let text = configuration(&provider.issuer, &upstream, "", "", "shadow_policies: ./next\n");
    let gateway = Gateway::start_with(&text, live, |gateway| {
        fs::create_dir(gateway.path("next")).expect("a directory");
        gateway.write("next/app.cedar", &shadow("platform"));
    })
    .await;
    let alice = gateway.sign_in(&provider, "alice").await;
    assert_eq!(gateway.get_as(&alice, "/x").await.status, 200);
    let record = gateway.audited("a request of alice", of("/x")).await;
    assert_eq!(record["unmapped"]["shadow"]["policies"], json!(["some"]), "{record}");
}

/// What is read for the shadow policies alone changes no decision of those in force, however it comes out.
#[tokio::test]
async fn groups_of_shadow_policies_change_no_decision() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    provider.admin("/admin/user", json!({"user": "ines", "memberships": {"guests": "guest"}})).await;
    provider.admin("/admin/invite", json!({"group": "platform/infra", "invited": "guests"})).await;
    let upstream = Upstream::start().await;
    let live = "@id(\"all\") permit (principal is User in Namespace::\"gitlab:platform\", action, resource == Route::\"app\");";
    let shadow = |id: &str, group: &str| {
        format!(
            "@id(\"{id}\") permit (principal is User in Group::\"gitlab:{group}\", action, resource == Route::\"app\");\n"
        )
    };
    let api = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let text = configuration(&provider.issuer, &upstream, api, "", "shadow_policies: ./next\n");
    let gateway = Gateway::start_with(&text, live, |gateway| {
        gateway.write_secret("api", "glpat-test-token-0123456789");
        fs::create_dir(gateway.path("next")).expect("a directory");
        // the invited are told by the API alone, and a group that is not there can be read by nobody
        gateway.write("next/app.cedar", &(shadow("infra", "platform/infra") + &shadow("gone", "platform/gone")));
    })
    .await;
    let ines = gateway.sign_in(&provider, "ines").await;
    let mut asked = 0;
    let seen = async || {
        asked += 1;
        let path = format!("/{asked}");
        assert_eq!(gateway.get_as(&ines, &path).await.status, 403, "no policy in force permits it");
        let here =
            |record: &Value| record["class_uid"] == 4002 && record["http_request"]["url"]["path"] == path.as_str();
        let record = gateway.audited("a request of ines", here).await;
        assert_eq!(record["unmapped"]["outcome"], "not_permitted", "{record}");
        record["unmapped"]["shadow"]["policies"] == json!(["infra"])
    };
    gateway.until("the shadow policies know who was invited", seen).await;
    assert_eq!(upstream.seen(), 0);
    provider.admin("/admin/user", json!({"user": "alice", "memberships": {"platform": "owner"}})).await;
    let alice = gateway.sign_in(&provider, "alice").await;
    for _ in 0..10 {
        assert_eq!(gateway.get_as(&alice, "/x").await.status, 200, "whatever cannot be read for the shadow policies");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

/// Neither a file of the shadow policies that is written all the time, nor one that nobody can read to its end, keeps a policy in force
/// from being taken.
#[tokio::test]
async fn shadow_policies_hold_up_no_reload() {
    let (_upstream, gateway, _) = scene(&open("first", "/"), &open("next", "/")).await;
    assert_eq!(gateway.get("/a", &[]).await.status, 200);
    let pipe = gateway.path("next/pipe.cedar");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let file = gateway.path("next/app.cedar");
    let writing = tokio::spawn(async move {
        for turn in 0..200 {
            fs::write(&file, open(&format!("next-{turn}"), "/")).expect("written");
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
    });
    gateway.write("policies/app.cedar", &open("first", "/other"));
    gateway.until("the policy is in force", async || gateway.get("/a", &[]).await.status == 401).await;
    writing.abort();
    let (code, told) = told(&gateway, "check");
    assert!(code == Some(1) && told.contains("pipe.cedar: is no file"), "{told}");
}

/// A group that only the shadow policies name may hang: who is taken out of a group in force is out all the same, and who is put
/// into one is in.
#[tokio::test]
async fn groups_of_shadow_policies_keep_nobody_waiting() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let member = async |role: Option<&str>| {
        let memberships = role.map_or_else(|| json!({}), |role| json!({ "platform": role }));
        provider.admin("/admin/user", json!({"user": "ines", "memberships": memberships})).await;
    };
    member(Some("developer")).await;
    let id = provider.admin("/admin/user", json!({"user": "ines"})).await["id"].clone();
    for path in ["members/all".to_owned(), format!("members/all/{id}")] {
        provider.fault(&format!("/api/v4/groups/security/{path}"), json!({"delay_ms": 20000, "times": 1000})).await;
    }
    let upstream = Upstream::start().await;
    let live = "@id(\"all\") permit (principal is User in Role::\"gitlab:platform#developer\", action, resource == Route::\"app\");";
    let shadow =
        "@id(\"next\") permit (principal is User in Group::\"gitlab:security\", action, resource == Route::\"app\");";
    let api = "\x20   membership: { refresh: 1s, api: { token: { file: api } } }\n";
    let text = configuration(&provider.issuer, &upstream, api, "", "shadow_policies: ./next\n");
    let gateway = Gateway::start_with(&text, live, |gateway| {
        gateway.write_secret("api", "glpat-test-token-0123456789");
        fs::create_dir(gateway.path("next")).expect("a directory");
        gateway.write("next/app.cedar", shadow);
    })
    .await;
    let ines = gateway.sign_in(&provider, "ines").await;
    assert_eq!(gateway.get_as(&ines, "/x").await.status, 200);
    for (role, status) in [(None, 403), (Some("developer"), 200), (Some("guest"), 403)] {
        member(role).await;
        let begun = std::time::Instant::now();
        gateway.until("it acts", async || gateway.get_as(&ines, "/x").await.status == status).await;
        assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{role:?}: {:?}", begun.elapsed());
    }
}
