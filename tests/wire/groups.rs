//! A person in very many groups is served like anybody else.

use crate::support::{
    gateway::{Gateway, configuration},
    provider::{CLIENT_ID, CLIENT_SECRET, Provider},
    upstream::{Seen, Upstream},
};
use serde_json::{Map, Value, json};

const MANY: usize = 5000;

/// Group number `number`, whose path has 120 characters.
fn path(number: usize) -> String {
    format!("tower/{number:0>114}")
}

/// One of the person's groups, one that is not, and all of them; and one that shuts out, where that may hinge on a group.
fn policies(forbids: bool) -> String {
    let (one, other, out) = (path(4321), path(MANY), path(17));
    let rule = |id: &str, effect: &str, who: &str, is_at: &str| {
        format!("@id(\"{id}\") {effect} (principal is User in {who}, action, resource) when {{ context.{is_at} }};\n")
    };
    let mut rules = vec![
        rule("one", "permit", &format!("Group::\"gitlab:{one}\""), "path like \"/one*\""),
        rule("other", "permit", &format!("Group::\"gitlab:{other}\""), "path like \"/other*\""),
        rule("all", "permit", "Namespace::\"gitlab:tower\"", "path like \"/all*\""),
    ];
    if forbids {
        rules.push(rule("out", "forbid", &format!("Group::\"gitlab:{out}\""), "path_folded like \"/all/out*\""));
    }
    rules.concat()
}

async fn member(provider: &Provider, user: &str, role: &str, numbers: impl Iterator<Item = usize>) {
    let memberships: Map<String, Value> = numbers.map(|number| (path(number), role.into())).collect();
    provider.admin("/admin/user", json!({"user": user, "memberships": memberships})).await;
}

/// The bytes of all names and values.
fn size<'h>(headers: impl IntoIterator<Item = &'h (String, String)>) -> usize {
    headers.into_iter().map(|(name, value)| name.len() + value.len() + 4).sum()
}

/// What a sign-in as `user` costs in bytes, and what the upstream is sent.
async fn comes(gateway: &Gateway, provider: &Provider, upstream: &Upstream, user: &str, expected: [u16; 4]) -> Seen {
    let (url, binding) = gateway.begin("/", None).await;
    let callback = provider.authorize(&url, user).await;
    let back = gateway.come_back(&callback.url, &binding).await;
    assert_eq!(back.status, 303, "{}", back.text());
    assert!(size(&back.headers) < 4096, "{:#?}", back.headers);
    let cookie = back.headers("set-cookie").into_iter().find(|cookie| cookie.starts_with(&gateway.session_cookie()));
    assert!(cookie.is_some_and(|cookie| cookie.len() < 256), "{cookie:?}");
    let session = back.cookie(&gateway.session_cookie()).expect("a session");
    let cookies = format!("Cookie: {}={session}", gateway.session_cookie());
    upstream.take();
    let mut statuses = Vec::new();
    for target in ["/one", "/other", "/all", "/all/out"] {
        statuses.push(gateway.get(target, &[&cookies]).await.status);
    }
    assert_eq!(statuses, expected, "{user}");
    upstream.take().remove(0)
}

/// P13: 5,000 groups of 120 characters fit into no cookie and no header, and need not: decisions are right, by userinfo, by ID
/// token, and where no refresh token can bring them again; and after a kill.
#[tokio::test]
async fn p13_a_person_in_five_thousand_groups_is_served_like_anybody() {
    for (kind, role, env, refreshes) in [
        ("gitlab", "developer", ("PROFILE", "gitlab"), true),
        ("oidc", "guest", ("ID_TOKEN_CLAIMS", "all"), true),
        ("oidc", "guest", ("ID_TOKEN_CLAIMS", "all"), false),
    ] {
        let Some(provider) = Gateway::provider(&[env]) else { return };
        if !refreshes {
            let back = "http://127.0.0.1/.vestibule/callback/gitlab";
            let client = json!({"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "redirect_uris": [back]});
            let mut client = client.as_object().expect("an object").clone();
            client.insert("grant_types".to_owned(), json!(["authorization_code"]));
            provider.admin("/admin/client", client.into()).await;
        }
        member(&provider, "few", role, 4319..4324).await;
        member(&provider, "many", role, 0..MANY).await;
        let upstream = Upstream::start().await;
        for route in ["", "    groups_header: [\"gitlab:tower/**\"]\n"] {
            let configuration = configuration(&provider.issuer, &upstream, "", route, "");
            let configuration = configuration.replace("kind: gitlab", &format!("kind: {kind}"));
            let forbids = kind != "gitlab"; // which needs its API for that
            let mut gateway = Gateway::start(&configuration, &policies(forbids)).await;
            let few = comes(&gateway, &provider, &upstream, "few", [200, 403, 200, 200]).await;
            let many =
                comes(&gateway, &provider, &upstream, "many", [200, 403, 200, if forbids { 403 } else { 200 }]).await;
            let bound = if route.is_empty() { 64 } else { 6 * 1024 }; // 2 KiB of groups, in a header and in the assertion
            let grown = size(&many.headers).saturating_sub(size(&few.headers));
            assert!(grown <= bound, "{kind} {route}: {grown}");
            let browser = gateway.sign_in(&provider, "many").await;
            gateway.kill().await;
            gateway.run().await;
            assert_eq!(gateway.get_as(&browser, "/one").await.status, 200, "{kind}, refreshes: {refreshes}");
            assert_eq!(gateway.get_as(&browser, "/other").await.status, 403);
        }
    }
}
