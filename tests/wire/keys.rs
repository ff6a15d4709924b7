//! Keys change while people are signed in, here and at the provider, and nobody notices.

use crate::support::{
    gateway::{Browser, Gateway, POLICIES, configuration, program},
    provider::Provider,
    upstream::Upstream,
};
use serde_json::{Value, json};
use std::{os::unix::fs::PermissionsExt, time::Duration};

async fn scene(env: &[(&str, &str)], more: &str) -> Option<(Provider, Upstream, Gateway)> {
    let provider = Gateway::provider(env)?;
    let upstream = Upstream::start().await;
    let gateway = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", more), POLICIES).await;
    Some((provider, upstream, gateway))
}

/// Runs a command beside the process, or without it: exit code, output, errors.
fn command(gateway: &Gateway, arguments: &[&str]) -> (i32, String, String) {
    let output = program().arg("-c").arg(gateway.path("vestibule.yaml")).args(arguments).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

fn keys(gateway: &Gateway, kind: &str) -> Vec<Value> {
    let (code, out, err) = command(gateway, &["keys", "list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let all: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    all.into_iter().filter(|key| key["kind"] == kind).collect()
}

/// Lets a key of the ring look as old as it has to be to seal: its age stands in its name.
fn age(gateway: &Gateway, name: &str, seconds: u64) -> String {
    let (rest, random) = name.rsplit_once('-').expect("a name of ours");
    let made: u64 = rest.parse().expect("seconds");
    let older = format!("{}-{random}", made - seconds);
    let at = |name: &str| gateway.path(&format!("keys/ring/{name}.key"));
    std::fs::rename(at(name), at(&older)).expect("renamed");
    older
}

async fn sealed_by(gateway: &Gateway, name: &str) {
    gateway
        .until("the key seals", async || {
            keys(gateway, "ring").iter().any(|key| key["name"] == name && key["state"] == "seals")
        })
        .await;
}

/// S-53: the ring's keys change, three times, without signing anybody out; a sign-in that was begun before is finished after; the
/// first goes when nothing needs it any more.
#[tokio::test]
async fn s53_the_ring_changes_without_sign_outs() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let first = keys(&gateway, "ring")[0]["name"].as_str().expect("a name").to_owned();
    let (url, binding) = gateway.begin("/begun/before", None).await;
    for _ in 0..3 {
        let (code, out, err) = command(&gateway, &["keys", "rotate", "--kind", "ring", "--json"]);
        assert_eq!(code, 0, "{err}");
        let made: Vec<Value> = serde_json::from_str(&out).expect("JSON");
        let name = made[0]["name"].as_str().expect("a name");
        assert!(keys(&gateway, "ring").iter().any(|key| key["name"] == name && key["state"] == "announced"), "not yet");
        let name = age(&gateway, name, 70);
        sealed_by(&gateway, &name).await;
        assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "alice is still signed in");
        tokio::time::sleep(Duration::from_millis(1100)).await; // names have seconds
    }
    let callback = provider.authorize(&url, "alice").await;
    let back = gateway.come_back(&callback.url, &binding).await;
    assert_eq!((back.status, back.header("location")), (303, Some("/begun/before")), "{}", back.text());
    let (code, _, err) = command(&gateway, &["keys", "retire", &first]);
    assert_eq!(code, 2);
    assert!(err.contains("is needed by 1 stored sessions"), "{err}");
    let used = keys(&gateway, "ring").into_iter().find(|key| key["name"] == *first).expect("there");
    assert_eq!((used["needed_by"].as_u64(), used["may_go"].as_bool()), (Some(1), Some(false)));
    let own = format!("Origin: http://127.0.0.1:{}", gateway.port);
    gateway.request("POST", "/.vestibule/sign-out", &[&gateway.cookies(&browser), &own]).await;
    gateway.until("nothing needs it", async || command(&gateway, &["keys", "retire", &first, "--force"]).0 == 0).await;
    let gone = |event: &Value| event["unmapped"]["why"] == "keys.retire" && event.to_string().contains(&first);
    gateway.audited("the act", gone).await;
    let newer = Browser { session: back.cookie(&gateway.session_cookie()).expect("a session"), binding };
    assert_eq!(gateway.get_as(&newer, "/").await.status, 200, "the one that the newest key sealed is still there");
}

/// What the ring's keys seal survives a restart after a rotation, and a bad key file changes nothing.
#[tokio::test]
async fn a_bad_key_is_refused_loudly_and_the_old_ones_stay() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    gateway.write_secret("keys/ring/zz.key", "too short");
    gateway.until("it is said", async || gateway.log().contains("expected 32")).await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    std::fs::remove_file(gateway.path("keys/ring/zz.key")).expect("removed");
    assert_eq!(command(&gateway, &["keys", "rotate"]).0, 0);
    gateway.stop().await;
    gateway.run().await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
}

/// Keys are listed, made and deleted where no process runs, too; the trail has it.
#[tokio::test]
async fn keys_are_changed_without_a_process() {
    let Some((_provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    gateway.stop().await;
    let (code, out, err) = command(&gateway, &["keys", "rotate"]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("seals in a minute") && out.contains("signs in ten minutes"), "{out}");
    assert_eq!((keys(&gateway, "ring").len(), keys(&gateway, "assertion").len()), (2, 2));
    let (_, table, _) = command(&gateway, &["keys", "list"]);
    assert!(table.starts_with("kind") && table.contains("announced"), "{table}");
    let (code, out, _) = command(&gateway, &["status"]);
    assert_eq!((code, out.trim()), (1, "no process runs with this configuration"));
    gateway.audited("the act", |event| event["unmapped"]["why"] == "keys.rotate").await;
}

/// Looking at keys makes none and writes nothing; what changes them leaves the store as a stop does.
#[tokio::test]
async fn keys_are_listed_without_a_trace() {
    let Some((_provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    gateway.stop().await;
    for place in ["keys", "state"] {
        std::fs::remove_dir_all(gateway.path(place)).expect("removed");
    }
    let (code, out, err) = command(&gateway, &["keys", "list"]);
    assert_eq!((code, &*out), (0, "no keys yet: they are made at the first start\n"), "{err}");
    assert_eq!(command(&gateway, &["keys", "list", "--json"]).1.trim(), "[]");
    assert!(!gateway.path("keys").exists() && !gateway.path("state").exists(), "nothing was made");
    let (code, _, err) = command(&gateway, &["keys", "retire", "nope"]);
    assert_eq!((code, &*err), (2, "error: there is no key `nope`: `vestibule keys list` has their names\n"));
    let (_, out, _) = command(&gateway, &["check", "--live"]);
    assert!(out.contains("sessions.redb` can be opened\n"), "{out}");
    assert!(keys(&gateway, "ring").iter().all(|key| key["needed_by"] == 0), "the store is read");
}

/// A key that leaked goes at once: the one that was made in its place takes over.
#[tokio::test]
async fn a_leaked_ring_key_goes_at_once() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    assert_eq!(command(&gateway, &["keys", "rotate", "--kind", "ring"]).0, 0);
    let named = |state: &str| keys(&gateway, "ring").into_iter().find(|key| key["state"] == state);
    let (used, new) = (named("seals").expect("one"), named("announced").expect("one"));
    let [used, new] = [&used, &new].map(|key| key["name"].as_str().expect("a name"));
    let (code, _, err) = command(&gateway, &["keys", "retire", used]);
    assert!(code == 2 && err.contains(&format!("`{new}` takes over in ")), "{err}");
    let (code, out, err) = command(&gateway, &["keys", "retire", used, "--force"]);
    assert_eq!((code, &*out), (0, &*format!("ring key {used} is deleted; `{new}` is in use now\n")), "{err}");
    assert_eq!(keys(&gateway, "ring").iter().map(|key| &key["state"]).collect::<Vec<_>>(), ["seals"]);
    gateway.sign_in(&provider, "bob").await;
}

/// The socket is its owner's alone, and says how the process is.
#[tokio::test]
async fn the_operators_socket_is_for_its_owner() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    gateway.sign_in(&provider, "alice").await;
    let about = std::fs::metadata(gateway.path("state/admin.sock")).expect("a socket");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let (code, out, err) = command(&gateway, &["status", "--json"]);
    assert_eq!(code, 0, "{err}");
    let status: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((status["sessions_in_use"].as_u64(), status["providers"][0]["ready"].as_bool()), (Some(1), Some(true)));
    let (_, text, _) = command(&gateway, &["status"]);
    assert!(text.contains("provider gitlab: ready, last answered 2") && text.contains("1 session in use"), "{text}");
    assert!(
        text.contains(" (seals)\n")
            && text.contains(" (signs)\n")
            && text.contains("s from ours") | text.contains("as ours"),
        "{text}"
    );
    for line in ["", "nothing", "{\"do\":\"everything\"}", "{\"do\":\"status\",\"more\":1}"] {
        let answer = asked(&gateway, line).await;
        assert!(answer["error"].as_str().is_some_and(|error| error.starts_with("not understood")), "{line}: {answer}");
    }
}

async fn asked(gateway: &Gateway, line: &str) -> Value {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::UnixStream::connect(gateway.path("state/admin.sock")).await.expect("open");
    stream.write_all(format!("{line}\n").as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    serde_json::from_str(&answer).expect("JSON")
}

/// S-11: a new assertion key is published at once and signs ten minutes later; what upstreams get verifies by what is published.
#[tokio::test]
async fn s11_a_new_assertion_key_is_published_before_it_signs() {
    let Some((provider, upstream, gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    let before = keys(&gateway, "assertion")[0]["name"].as_str().expect("a name").to_owned();
    assert_eq!(command(&gateway, &["keys", "rotate", "--kind", "assertion"]).0, 0);
    let published = gateway.get("/.well-known/vestibule/jwks.json", &[]).await.json();
    assert_eq!(published["keys"].as_array().map(Vec::len), Some(2), "{published}");
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    let seen = upstream.take().pop().expect("a request");
    let token = seen.one("vestibule-assertion").expect("an assertion").to_owned();
    let header = jsonwebtoken::decode_header(&token).expect("a header");
    assert_eq!(header.kid.as_deref(), Some(&*before), "the old one signs on");
    let (code, _, err) = command(&gateway, &["keys", "retire", &before]);
    assert_eq!(code, 2);
    assert!(err.contains("is the assertion key in use, and `") && err.contains("` takes over in "), "{err}");
}

/// P42: keys rotate at the provider in all their forms, and nobody notices: with overlap, without, under the same name, just
/// before a token is signed.
#[tokio::test]
async fn p42_a_providers_keys_rotate_in_every_form() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    let browser = gateway.sign_in(&provider, "alice").await;
    // each form but the first costs a read that a token forces, of which there is one in 30 s: a gateway for each
    for form in [json!({}), json!({ "keep_old": false }), json!({ "keep_old": false, "same_kid": true })] {
        let upstream = Upstream::start().await;
        let fresh = Gateway::start(&configuration(&provider.issuer, &upstream, "", "", ""), POLICIES).await;
        fresh.sign_in(&provider, "alice").await;
        provider.admin("/admin/rotate", form.clone()).await;
        fresh.sign_in(&provider, "bob").await;
        assert_eq!(gateway.get_as(&browser, "/").await.status, 200, "{form}");
    }
}

/// P42: a key set that cannot be read, or is rubbish, does not replace a good one; after a restart with the provider down the
/// last good one serves.
#[tokio::test]
async fn p42_a_bad_key_set_replaces_no_good_one() {
    let Some((provider, _upstream, mut gateway)) = scene(&[], "").await else { return };
    gateway.sign_in(&provider, "alice").await;
    let keys = "/oauth/discovery/keys";
    for fault in [
        json!({ "status": 500 }),
        json!({ "status": 200, "body": {} }),
        json!({ "status": 200, "body": { "keys": [] } }),
        json!({ "status": 200, "body": "<html>" }),
        json!({ "reset": true }),
    ] {
        provider.fault(keys, fault.clone()).await;
        gateway.sign_in(&provider, "alice").await;
        provider.admin("/admin/fault/clear", json!({})).await;
    }
    let browser = gateway.sign_in(&provider, "alice").await;
    gateway.stop().await;
    provider.fault(keys, json!({ "status": 503, "times": 1000 })).await;
    provider.fault("/.well-known/openid-configuration", json!({ "status": 503, "times": 1000 })).await;
    gateway.run().await;
    assert_eq!(gateway.get_as(&browser, "/").await.status, 200);
    gateway.sign_in(&provider, "bob").await;
}

/// P43: the provider's clock is measured, and said where it is more than five seconds from ours.
#[tokio::test]
async fn p43_the_providers_clock_is_measured() {
    let Some((provider, _upstream, gateway)) = scene(&[], "").await else { return };
    gateway.sign_in(&provider, "alice").await;
    let (_, out, _) = command(&gateway, &["status", "--json"]);
    let status: Value = serde_json::from_str(&out).expect("JSON");
    let ahead = status["providers"][0]["clock_ahead"].as_i64().expect("measured");
    assert!((-2..=2).contains(&ahead), "{ahead}");
}
