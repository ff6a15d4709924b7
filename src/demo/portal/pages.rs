//! The portal's pages.

use super::Told;
use crate::demo::assertion::{Claims, Unproved};
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

/// The front page: who you are, what proves it, and what to try.
pub(super) fn home(told: &Told, proof: &Result<Claims, Unproved>) -> Markup {
    let login = told.name();
    framed(
        "Home",
        login,
        html! {
            section.hero {
                h1 { "Hello" @if let Some(login) = login { ", " (login) } }
                p { "This portal has no sign-in, no user table and no sessions. Everything it knows about you came with the request, \
                     from " strong { "Vestibule" } "." }
            }
            div.columns {
                section.card {
                    h2 { "What the portal was told" }
                    p.hint { "Plain headers, for software that reads such." }
                    dl {
                        (fact("X-Forwarded-User", told.subject.as_deref()))
                        (fact("X-Forwarded-Preferred-Username", told.login.as_deref()))
                        (fact("X-Forwarded-Email", told.email.as_deref()))
                        (fact("X-Request-Id", told.request.as_deref()))
                    }
                    h3 { "Your groups here" }
                    (groups(&told.groups))
                }
                section.card {
                    @match proof {
                        Ok(claims) => {
                            h2 { "What proves it " span.badge.good { "Verified" } }
                            p.hint { code { "Vestibule-Assertion" } ", checked against the proxy's published keys: signature, issuer, audience, time." }
                            dl { @for (name, value) in claims { (fact(name, Some(&plain(value)))) } }
                        }
                        Err(unproved) => {
                            h2 { "What proves it " span.badge.bad { "Not proved" } }
                            p { "There is no assertion that can be believed: " (unproved.to_string()) "." }
                        }
                    }
                }
                section.card {
                    h2 { "Try what you may do" }
                    ul.links {
                        li { a href="/api/services" { "Read the services" } span { "GET /api/services" } }
                        li { a href="/api/whoami" { "What the API sees of you" } span { "GET /api/whoami" } }
                        li { a href="/docs/" { "The documentation" } span { "open to contractors too" } }
                        li { a href="/public/" { "The public page" } span { "open to anybody" } }
                        li { a href="/.vestibule/session" { "Your session" } span { "kept by Vestibule" } }
                    }
                    form method="post" action="/api/services/billing/restart" {
                        button type="submit" { "Restart billing" }
                        span { "a write: POST /api/services/billing/restart" }
                    }
                }
                section.card {
                    h2 { "Live connections" }
                    p.hint { "Both end by themselves within a second of your right to be here ending." }
                    dl {
                        dt { "Server-sent events" } dd id="ticks" { "needs JavaScript" }
                        dt { "WebSocket echo" } dd id="echo" { "needs JavaScript" }
                    }
                    button type="button" id="send" hidden { "Send a message" }
                }
            }
            script src="/app.js" defer {}
        },
    )
}

/// A page that contractors may read, and nothing else of the portal.
pub(super) fn documentation(told: &Told) -> Markup {
    framed(
        "Documentation",
        told.name(),
        html! {
            section.hero {
                h1 { "Documentation" }
                p { "Contractors may read what is below " code { "/docs/" } ", and nothing else here. One policy says so." }
                p { a href="/" { "Go to the portal" } }
            }
        },
    )
}

/// A page that anybody may read.
pub(super) fn public(told: &Told) -> Markup {
    framed(
        "Public",
        told.name(),
        html! {
            section.hero {
                h1 { "Anybody may read this" }
                p { "A policy permits " code { "/public/" } " to people who have not signed in. It is decided and recorded like any other request." }
                p { a href="/" { "Go to the portal" } }
            }
        },
    )
}

/// There is no such page.
pub(super) fn missing(told: &Told) -> Markup {
    framed(
        "Not found",
        told.name(),
        html! {
            section.hero {
                h1 { "The portal has no such page" }
                p { "You were let in; it is only that there is nothing here." }
                p { a href="/" { "Go to the portal" } }
            }
        },
    )
}

fn fact(name: &str, value: Option<&str>) -> Markup {
    html! { dt { (name) } dd { @match value { Some(value) => (value), None => span.none { "not sent" } } } }
}

fn groups(groups: &[String]) -> Markup {
    html! {
        @if groups.is_empty() { p.none { "none that this portal is told of" } }
        @else { ul.groups { @for group in groups { li { (group) } } } }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn framed(title: &str, login: Option<&str>, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Acme portal" }
                link rel="stylesheet" href="/public/style.css";
            }
            body {
                header {
                    a.brand href="/" { "Acme portal" span { "demo" } }
                    @if let Some(login) = login {
                        nav aria-label="Account" { span { (login) } a href="/.vestibule/sign-in?to=%2F&switch=1" { "Be somebody else" } a href="/.vestibule/sign-out" { "Sign out" } }
                    } @else {
                        nav aria-label="Account" { a href="/" { "Sign in" } }
                    }
                }
                main { (body) }
            }
        }
    }
}
