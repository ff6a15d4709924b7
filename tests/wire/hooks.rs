//! GitLab's API and hooks: roles, invited groups, what a change does at once, and who is believed.

use crate::{
    revocation::sessions,
    streams::{lasts, open_events},
    support::{
        gateway::{Browser, Gateway, configuration, program},
        provider::Provider,
        upstream::Upstream,
    },
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const POLICIES: &str = r#"
@id("read") permit (principal is User in Group::"gitlab:platform", action in Action::"read", resource == Route::"app");
@id("write") @reason("Maintainers of platform may write.")
permit (principal is User in Role::"gitlab:platform#maintainer", action in Action::"write", resource == Route::"app");
@id("out") forbid (principal is User in Group::"gitlab:contractors", action, resource);
"#;

const SIGNING_KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A gateway whose membership is read every `refresh`, with `hook` as its proof.
async fn scene(refresh: &str, hook: &str) -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(&[])?;
    let upstream = Upstream::start().await;
    let membership =
        format!("\x20   membership: {{ refresh: {refresh}, api: {{ token: {{ file: api }} }}, hook: {{ {hook} }} }}\n");
    let configuration = configuration(&provider.issuer, &upstream, &membership, "", "");
    let prepare = |gateway: &Gateway| {
        gateway.write_secret("api", "glpat-test-token-0123456789");
        gateway.write_secret("hook", "hook-token");
        gateway.write_secret("key", SIGNING_KEY);
        gateway.write_secret("audit", "audit-token");
    };
    provider.admin("/admin/user", json!({"user": "none", "memberships": {"contractors": "guest"}})).await;
    let gateway = Gateway::start_with(&configuration, POLICIES, prepare).await;
    Some((provider, upstream, gateway))
}

async fn hooks(provider: &Provider, gateway: &Gateway, proof: Value) {
    let mut to = json!({"url": format!("http://127.0.0.1:{}/.vestibule/hooks/gitlab", gateway.port)});
    to.as_object_mut().expect("an object").extend(proof.as_object().expect("an object").clone());
    provider.admin("/admin/hooks", to).await;
}

async fn status(gateway: &Gateway, browser: &Browser) -> u16 {
    gateway.get_as(browser, "/").await.status
}

async fn writes(gateway: &Gateway, browser: &Browser) -> u16 {
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    gateway.request("POST", "/", &[&gateway.cookies(browser), &own]).await.status
}

async fn member(provider: &Provider, user: &str, memberships: Value) {
    provider.admin("/admin/user", json!({"user": user, "memberships": memberships})).await;
}

/// The hooks that GitLab sent, once there are so many.
async fn sent(provider: &Provider, gateway: &Gateway, number: usize) -> Vec<Value> {
    let mut sent = Vec::new();
    gateway
        .until("hooks are sent", async || {
            sent = provider.get("/admin/hooks").await.as_array().expect("a list").clone();
            sent.len() >= number
        })
        .await;
    sent
}

const TOKEN: &str = "token: { file: hook }, audit_token: { file: audit }";

fn token() -> Value {
    json!({"token": "hook-token", "audit_token": "audit-token"})
}

/// P19: direct, inherited and invited membership count, a role includes those below it, and whoever's membership is over has none.
#[tokio::test]
async fn p19_effective_membership_and_roles_are_read_by_the_api() {
    let Some((provider, _upstream, gateway)) = scene("60s", TOKEN).await else { return };
    member(&provider, "direct", json!({"platform": "maintainer"})).await;
    member(&provider, "reader", json!({"platform": "developer"})).await;
    member(&provider, "guest", json!({"guests": "owner"})).await;
    member(&provider, "over", json!({"platform": "owner"})).await;
    provider.admin("/admin/api", json!({"group": "platform", "expires": {"over": "2020-01-01"}})).await;
    member(&provider, "both", json!({"platform": "owner", "contractors": "guest"})).await;
    provider.admin("/admin/invite", json!({"group": "platform", "invited": "guests", "level": "maintainer"})).await;
    let mut told = Vec::new();
    for user in ["direct", "reader", "guest", "over", "both", "none"] {
        let browser = gateway.sign_in(&provider, user).await;
        told.push((user, status(&gateway, &browser).await, writes(&gateway, &browser).await));
    }
    assert_eq!(
        told,
        [
            ("direct", 200, 200),
            ("reader", 200, 403),
            ("guest", 200, 200),
            ("over", 403, 403),
            ("both", 403, 403),
            ("none", 403, 403)
        ]
    );
}

/// P24: groups are read once for all people, not once for each.
#[tokio::test]
async fn p24_a_group_is_read_once_for_all_people() {
    let Some((provider, _upstream, gateway)) = scene("60s", TOKEN).await else { return };
    let people: Vec<_> = (0..12).map(|number| format!("person{number}")).collect();
    for user in &people {
        member(&provider, user, json!({"platform": "developer"})).await;
    }
    for user in &people {
        let browser = gateway.sign_in(&provider, user).await;
        for _ in 0..5 {
            assert_eq!(status(&gateway, &browser).await, 200);
        }
    }
    assert_eq!(provider.seen("/api/v4/groups/platform/members/all").await, 1);
    assert_eq!(provider.seen("/api/v4/groups/contractors/members/all").await, 1);
}

/// DESIGN, section 4: with a hook, the next request is refused, and what is open ends within a second. A change that is no
/// removal acts at once too.
#[tokio::test]
async fn p16_a_hook_acts_on_the_next_request_and_on_open_streams() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!((status(&gateway, &browser).await, writes(&gateway, &browser).await), (200, 200));
    member(&provider, "ines", json!({"platform": "developer"})).await;
    sent(&provider, &gateway, 1).await;
    assert_eq!((status(&gateway, &browser).await, writes(&gateway, &browser).await), (200, 403), "downgraded");

    let mut stream = open_events(&gateway, &browser).await;
    member(&provider, "ines", json!({})).await;
    let answers = sent(&provider, &gateway, 2).await;
    let told = Instant::now();
    assert_eq!(status(&gateway, &browser).await, 403);
    lasts(&mut stream, Duration::from_secs(5)).await.expect("the stream ends");
    assert!(told.elapsed() < Duration::from_secs(1), "the stream went on for {:?}", told.elapsed());
    assert!(answers.iter().all(|hook| hook["status"] == 200 && hook["ms"].as_f64() < Some(1000.0)), "{answers:?}");
    let changed = |record: &Value| record["unmapped"]["removed"]["items"].to_string().contains("platform#developer");
    gateway.audited("groups changed", changed).await;
    gateway.audited("a hook was taken", |record| record["unmapped"]["why"] == "user_remove_from_group").await;
    assert_eq!(provider.seen("/oauth/token").await, 1, "nobody signed in again");

    member(&provider, "ines", json!({"platform": "guest"})).await;
    sent(&provider, &gateway, 3).await;
    assert_eq!(status(&gateway, &browser).await, 200, "and back");
}

/// DESIGN, section 4: unknown while a hook has named the person and no later read has succeeded; the answer is 503, never the old
/// right and never the forbid's absence.
#[tokio::test]
async fn s76_who_was_named_and_cannot_be_read_is_unknown() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    member(&provider, "other", json!({"platform": "maintainer"})).await;
    let (ines, other) = (gateway.sign_in(&provider, "ines").await, gateway.sign_in(&provider, "other").await);
    assert_eq!((status(&gateway, &ines).await, status(&gateway, &other).await), (200, 200));
    let id = provider.admin("/admin/user", json!({"user": "ines"})).await["id"].clone();
    for group in ["platform", "contractors"] {
        let path = format!("/api/v4/groups/{group}/members/all/{id}");
        provider.fault(&path, json!({"status": 502, "times": 1000})).await;
    }
    member(&provider, "ines", json!({})).await;
    sent(&provider, &gateway, 1).await;
    let answer = gateway.get_as(&ines, "/").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("membership_unknown")));
    assert_eq!(status(&gateway, &other).await, 200, "the others are known");
    let path = format!("/api/v4/groups/platform/members/all/{id}");
    let before = provider.seen(&path).await;
    for _ in 0..20 {
        assert_eq!(status(&gateway, &ines).await, 503);
    }
    assert!(provider.seen(&path).await <= before + 2, "who cannot be read is not asked for by every request");
    let (_, out, _) = sessions(&gateway, &["revoke", "--group", "gitlab:contractors", "--reason", "x"]).await;
    assert!(out.contains("the groups of 1 person are not known now"), "{out}");
    provider.admin("/admin/fault/clear", json!({})).await;
    gateway.until("ines is read", async || status(&gateway, &ines).await == 403).await;
}

/// The signed form alone opens where a signing key is configured; what is forged, old, oversized or malformed changes nothing.
#[tokio::test]
async fn hooks_that_prove_nothing_have_no_effect_and_are_recorded() {
    let Some((provider, _upstream, gateway)) = scene("5m", "signing_key: { file: key }").await else { return };
    hooks(&provider, &gateway, json!({"signing_key": SIGNING_KEY, "token": "hook-token"})).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let id = provider.admin("/admin/user", json!({"user": "ines"})).await["id"].clone();
    let reads = provider.seen("/oauth/userinfo").await;
    let body = json!({"event_name": "user_remove_from_group", "group_id": 1, "user_id": id});
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
    for (what, more, expected) in [
        ("forged", json!({"signature": "v1,4WD8Dp88kfOoGZjGB/rH6claz7MMOE2NKRYGI55bKp0="}), 401),
        ("no signature", json!({"headers": {"webhook-signature": ""}, "signature": ""}), 401),
        ("old", json!({"timestamp": now - 400}), 401),
        ("ahead", json!({"timestamp": now + 400}), 401),
        ("no JSON", json!({"body": "{"}), 400),
        ("no object", json!({"body": "[]"}), 400),
        ("nobody", json!({"body": {"event_name": "user_remove_from_group"}}), 400),
        ("oversized", json!({"body": " ".repeat(2 << 20)}), 413),
        ("of no concern", json!({"body": {"object_kind": "push"}}), 200),
    ] {
        let mut hook = json!({"body": body, "event": what});
        hook.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let told = provider.admin("/admin/hook", hook).await;
        assert_eq!(told["status"], expected, "{what}: {told}");
    }
    let bare = gateway.request("POST", "/.vestibule/hooks/gitlab", &["X-Gitlab-Token: hook-token"]).await;
    assert_eq!(bare.status, 401, "a token opens nothing here");
    assert_eq!(gateway.get("/.vestibule/hooks/gitlab", &[]).await.status, 405);
    assert_eq!(gateway.get("/.vestibule/hooks/nobody", &[]).await.status, 404);
    assert_eq!(status(&gateway, &browser).await, 200);
    assert_eq!(provider.seen("/oauth/userinfo").await, reads, "nothing was read");
    let refused = |record: &Value| record["status_code"] == "hook_refused";
    let recorded = || gateway.audit().iter().filter(|record| refused(record)).count();
    gateway.until("nine refusals are written", async || recorded() >= 9).await; // the trail is written a moment later
    assert_eq!(recorded(), 9);

    let good = json!({"body": body, "id": "delivery-1"});
    assert_eq!(provider.admin("/admin/hook", good.clone()).await["status"], 200);
    gateway.until("ines is read", async || provider.seen("/oauth/userinfo").await > reads).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (reads, taken) = (provider.seen("/oauth/userinfo").await, |record: &Value| {
        record["unmapped"]["why"] == "user_remove_from_group"
            && record["unmapped"]["changed"]["items"] == json!(["group 1"])
    });
    assert_eq!(provider.admin("/admin/hook", good).await["status"], 200, "GitLab sends again what it had no answer to");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(provider.seen("/oauth/userinfo").await, reads, "which does nothing");
    gateway.audited("a hook was taken", taken).await;
    assert_eq!(gateway.audit().iter().filter(|record| taken(record)).count(), 1);
}

/// The reads that follow a hook, up to 30 s later, are nothing that a stop waits for.
#[tokio::test]
async fn a_stop_does_not_wait_for_the_reads_that_follow_a_hook() {
    let Some((provider, _upstream, mut gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    member(&provider, "ines", json!({})).await;
    sent(&provider, &gateway, 1).await;
    assert_eq!(status(&gateway, &browser).await, 403);
    provider.admin("/admin/hook", json!({"body": {"event_name": "group_rename"}})).await;
    gateway.audited("a hook about everybody", |record| record["unmapped"]["why"] == "group_rename").await;
    gateway.terminate();
    let told = Instant::now();
    gateway.ended().await;
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert!(!gateway.log().contains("was not finished in time"), "{}", gateway.log());
}

/// Anybody may make groups at GitLab, and rename and delete them: that keeps nobody from what other groups give.
#[tokio::test]
async fn what_happens_to_foreign_groups_takes_nothing_away() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let id = provider.admin("/admin/user", json!({"user": "ines"})).await["id"].clone();
    for path in ["members/all".to_owned(), format!("members/all/{id}")] {
        provider.fault(&format!("/api/v4/groups/platform/{path}"), json!({"status": 502, "times": 1000})).await;
    }
    for body in [
        json!({"event_name": "group_destroy", "full_path": "mallory/one"}),
        json!({"event_name": "subgroup_destroy", "full_path": "mallory/one/two"}),
        json!({"event_name": "group_rename", "full_path": "mallory/b", "old_full_path": "mallory/a"}),
    ] {
        assert_eq!(provider.admin("/admin/hook", json!({"body": body})).await["status"], 200);
        assert_eq!(status(&gateway, &browser).await, 200, "{body}");
    }
    let body = json!({"event_name": "group_destroy", "full_path": "Platform/old"});
    provider.admin("/admin/hook", json!({"body": body})).await;
    assert_eq!(status(&gateway, &browser).await, 503, "of a named tree nothing is known until it is read again");
}

/// GitLab turns a hook off that fails: one that is proved by its token is taken, however long, and everybody is read anew.
#[tokio::test]
async fn a_hook_that_is_too_long_is_about_everybody() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let reads = provider.seen("/api/v4/groups/platform/members/all").await;
    let body = json!({"event_name": "user_remove_from_group", "user_id": 1, "more": "x".repeat(2 << 20)});
    let told = provider.admin("/admin/hook", json!({"body": body, "event": "too long"})).await;
    assert_eq!(told["status"], 200, "{told}");
    gateway
        .until("the group is read", async || provider.seen("/api/v4/groups/platform/members/all").await > reads)
        .await;
    let taken = |record: &Value| record["unmapped"]["why"] == "System Hook, too long to be read";
    gateway.audited("a hook was taken", taken).await;
    assert_eq!(status(&gateway, &browser).await, 200);
}

/// Anybody can send what is refused: it fills neither trail nor log, and none of it goes uncounted.
#[tokio::test]
async fn refusals_without_end_are_recorded_together() {
    let Some((_provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    for (path, code) in [("hooks", "hook_refused"), ("backchannel-logout", "sign_out_refused")] {
        let target = format!("/.vestibule/{path}/gitlab");
        let all = (0..200).map(|_| gateway.request("POST", &target, &[]));
        let answers = futures_util::future::join_all(all).await;
        assert!(answers.iter().all(|answer| [400, 401].contains(&answer.status)));
        let told = || {
            let records = gateway.audit().into_iter().filter(|record| record["status_code"] == code);
            records.map(|record| record["count"].as_u64().unwrap_or(1)).collect::<Vec<_>>()
        };
        gateway.until("all are told", async || told().iter().sum::<u64>() == 200).await;
        assert!(told().len() < 150, "{:?}", told());
    }
}

/// P27, S-57: GitLab sends no hook when somebody is blocked, but streams it: all their sessions end.
#[tokio::test]
async fn p27_a_streamed_audit_event_ends_the_sessions_of_who_is_blocked() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let (one, two) = (gateway.sign_in(&provider, "ines").await, gateway.sign_in(&provider, "ines").await);
    assert_eq!((status(&gateway, &one).await, status(&gateway, &two).await), (200, 200));
    let mut stream = open_events(&gateway, &one).await;
    provider.admin("/admin/block", json!({"user": "ines"})).await;
    let blocked = Instant::now();
    gateway
        .until("both are out", async || status(&gateway, &one).await == 401 && status(&gateway, &two).await == 401)
        .await;
    lasts(&mut stream, Duration::from_secs(5)).await.expect("the stream ends");
    assert!(blocked.elapsed() < Duration::from_secs(2), "{:?}", blocked.elapsed());
    gateway.audited("a session ended", |record| record["unmapped"]["why"] == "user_blocked").await;
}

/// Whoever may be blocked is looked up until that is answered, whatever else is told of them meanwhile.
#[tokio::test]
async fn p27_another_hook_does_not_hide_that_a_person_is_blocked() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let id = provider.admin("/admin/user", json!({"user": "ines"})).await["id"].clone();
    for path in ["/oauth/userinfo", "/oauth/token"] {
        provider.fault(path, json!({"status": 503, "times": 1000})).await; // so that only the API can tell
    }
    provider.fault(&format!("/api/v4/users/{id}"), json!({"status": 503, "times": 1})).await;
    provider.admin("/admin/block", json!({"user": "ines"})).await;
    for event in ["user_update_for_group", "user_remove_from_group"] {
        let body = json!({"event_name": event, "user_id": id, "group_id": 1});
        assert_eq!(provider.admin("/admin/hook", json!({"body": body})).await["status"], 200);
    }
    gateway.until("the session is over", async || status(&gateway, &browser).await == 401).await;
}

/// That somebody is blocked is no change of their memberships: who is let in again has what they had, and what keeps them out does.
#[tokio::test]
async fn p27_who_is_unblocked_is_as_before() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    for (name, groups, expected) in [
        ("ines", json!({"platform": "maintainer"}), 200),
        ("rosa", json!({"platform": "maintainer", "contractors": "guest"}), 403),
    ] {
        member(&provider, name, groups).await;
        let browser = gateway.sign_in(&provider, name).await;
        assert_eq!(status(&gateway, &browser).await, expected, "{name}");
        provider.admin("/admin/block", json!({"user": name})).await;
        gateway.until("the session is over", async || status(&gateway, &browser).await == 401).await;
        provider.admin("/admin/block", json!({"user": name, "blocked": false})).await;
        let browser = gateway.sign_in(&provider, name).await;
        for _ in 0..3 {
            assert_eq!(status(&gateway, &browser).await, expected, "{name} is let in again");
        }
    }
}

/// A lock on a group that is not there refuses everybody, for nobody can say who is in it: whoever made it is told so, and so is
/// whoever looks at the process.
#[tokio::test]
async fn p27_a_lock_on_a_group_that_is_not_there_is_told() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let lock = async |group: &str| sessions(&gateway, &["lock", "--group", group, "--reason", "x"]).await.1;
    let there = lock("gitlab:contractors").await;
    assert!(
        there.contains("0 sessions in use are refused, 0 streams are cut") && !there.contains("no such"),
        "{there}"
    );
    assert_eq!(status(&gateway, &browser).await, 200);
    let missing = lock("gitlab:platfrom").await;
    assert!(missing.contains("there is no such group, or none that the token"), "{missing}");
    assert_eq!(status(&gateway, &browser).await, 503);
    let mut command = program();
    command.arg("-c").arg(gateway.path("vestibule.yaml")).arg("status");
    let told = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("it runs");
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for line in ["group gitlab:platfrom: ALARM", "locked: group gitlab:platfrom", "locked: group gitlab:contractors"] {
        assert!(told.contains(line), "{line}: {told}");
    }
}

/// A group that was shared, renamed or deleted concerns everybody.
#[tokio::test]
async fn p19_a_group_that_is_not_invited_any_more_is_out_at_once() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    hooks(&provider, &gateway, token()).await;
    member(&provider, "guest", json!({"guests": "owner"})).await;
    let invite = json!({"group": "platform", "invited": "guests", "level": "maintainer"});
    provider.admin("/admin/invite", invite.clone()).await;
    let browser = gateway.sign_in(&provider, "guest").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let mut back = invite.clone();
    back["remove"] = true.into();
    provider.admin("/admin/invite", back).await;
    let told = Instant::now();
    gateway.until("guest is out", async || status(&gateway, &browser).await == 403).await;
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
}

/// Hooks get lost: the clock finds it all the same. P17: who was added comes in on the next click, clock or not.
#[tokio::test]
async fn p16_without_hooks_the_clock_finds_it_and_p17_additions_act_on_the_next_click() {
    let Some((provider, _upstream, gateway)) = scene("2s", TOKEN).await else { return };
    hooks(&provider, &gateway, json!({"token": "hook-token", "lose": true})).await;
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    member(&provider, "ines", json!({})).await;
    let removed = Instant::now();
    gateway.until("ines is out", async || status(&gateway, &browser).await == 403).await;
    assert!(removed.elapsed() < Duration::from_secs(5), "{:?}", removed.elapsed());
    tokio::time::sleep(Duration::from_secs(6)).await; // a refused person is looked up again at most every 5 s
    member(&provider, "ines", json!({"platform": "guest"})).await;
    assert_eq!(status(&gateway, &browser).await, 200, "the next click");
}

/// P17: a table of a moment ago does not know who was added since; the first click looks again.
#[tokio::test]
async fn p17_who_was_added_since_the_last_read_signs_in_and_is_in() {
    let Some((provider, _upstream, gateway)) = scene("5m", TOKEN).await else { return };
    member(&provider, "first", json!({"platform": "developer"})).await;
    let first = gateway.sign_in(&provider, "first").await;
    assert_eq!(status(&gateway, &first).await, 200);
    tokio::time::sleep(Duration::from_secs(5)).await;
    member(&provider, "second", json!({"platform": "maintainer"})).await;
    let second = gateway.sign_in(&provider, "second").await;
    assert_eq!((status(&gateway, &second).await, writes(&gateway, &second).await), (200, 200));
}

/// P24: what says that it is asked too often is left alone, and nobody is told that they are not signed in.
#[tokio::test]
async fn p24_a_rate_limit_is_obeyed_and_no_member_is_shut_out() {
    let Some((provider, _upstream, gateway)) = scene("1s", TOKEN).await else { return };
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    assert_eq!(status(&gateway, &browser).await, 200);
    let path = "/api/v4/groups/platform/members/all";
    provider.fault(path, json!({"status": 429, "headers": {"retry-after": "3"}, "times": 1000})).await;
    gateway
        .until("it is told", async || {
            assert_eq!(status(&gateway, &browser).await, 200);
            gateway.log().contains("asked too often")
        })
        .await;
    let asked = async || provider.seen(path).await + provider.seen("/api/v4/groups/contractors/members/all").await;
    let before = asked().await;
    let until = Instant::now() + Duration::from_millis(2000);
    while Instant::now() < until {
        assert_eq!(status(&gateway, &browser).await, 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(asked().await, before, "nobody asks");
}

/// A service token that GitLab does not take is the operator's affair: loud, and nothing opens.
#[tokio::test]
async fn s76_a_service_token_that_is_refused_opens_nothing() {
    let Some((provider, _upstream, gateway)) = scene("1s", TOKEN).await else { return };
    member(&provider, "ines", json!({"platform": "maintainer"})).await;
    gateway.write_secret("api", "glpat-wrong");
    gateway.until("it is reloaded", async || gateway.log().contains("configuration and policies reloaded")).await;
    let browser = gateway.sign_in(&provider, "ines").await;
    let answer = gateway.get_as(&browser, "/").await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("membership_unknown")));
    assert!(gateway.log().contains("GitLab's API does not accept the token"), "{}", gateway.log());
    gateway.write_secret("api", "glpat-test-token-0123456789");
    gateway.until("ines is in", async || status(&gateway, &browser).await == 200).await;
}
