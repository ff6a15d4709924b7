//! The provider's pages. Each says, first of all, that this is a demo.

use super::Person;
use crate::{body::Body, demo::server::page};
use http::{Response, StatusCode};
use maud::{DOCTYPE, Markup, html};

/// The sign-in page: everybody who has an account is a button.
///
/// `query` is the authorization request, which goes on once a person is chosen.
pub(super) fn sign_in(people: &[Person], query: &str, blocked: bool) -> Response<Body> {
    framed(
        StatusCode::OK,
        "Sign in",
        html! {
            h1 { "Who do you want to be?" }
            @if blocked {
                p.notice role="alert" { "Your account has been blocked. Choose another person, or unblock this one." }
            } @else {
                p.lead { "No password: this GitLab exists for the demo only. " strong { "Vestibule" } " asked who you are." }
            }
            form method="post" action="/users/sign_in" {
                input type="hidden" name="authorize" value=(query);
                (choice(people))
            }
        },
    )
}

/// The front page: who is signed in here, and who else could be.
pub(super) fn home(people: &[Person], here: Option<&Person>) -> Response<Body> {
    framed(
        StatusCode::OK,
        "Demo GitLab",
        html! {
            h1 { "Demo GitLab" }
            @match here {
                Some(person) => {
                    p.lead { "This browser is signed in here as " strong { (person.name) } "." }
                    form.plain method="post" action="/users/sign_out" {
                        button.quiet type="submit" { "Sign out of the demo GitLab" }
                    }
                }
                None => { p.lead { "Nobody is signed in here in this browser." } }
            }
            h2 { "Sign in as" }
            form method="post" action="/users/sign_in" { (choice(people)) }
        },
    )
}

/// A request that cannot be answered by a redirect, because its address is not to be trusted.
pub(super) fn wrong_request(sentence: &str) -> Response<Body> {
    framed(
        StatusCode::BAD_REQUEST,
        "Bad request",
        html! {
            h1 { "This authorization request cannot be answered" }
            p.lead { "In the request " (sentence) "." }
        },
    )
}

fn choice(people: &[Person]) -> Markup {
    html! {
        ul.people {
            @for person in people {
                li {
                    button type="submit" name="person" value=(person.login) disabled[person.blocked] {
                        span.face aria-hidden="true" { (person.login.get(..1).unwrap_or_default()) }
                        span.who {
                            span.name { (person.name) }
                            span.role { (person.memberships()) @if person.blocked { " · blocked" } }
                            span.groups {
                                @for group in person.groups() { span.group { (group) } " " }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn framed(status: StatusCode, title: &str, body: Markup) -> Response<Body> {
    page(
        status,
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) " · demo GitLab" }
                    link rel="stylesheet" href="/style.css";
                }
                body {
                    header { p { strong { "Demo only." } " Not GitLab: anybody may sign in as anybody, on this machine alone." } }
                    main { (body) }
                    footer { p { a href="/" { "People and sign-out" } " · " a href="/demo/people" { "People as JSON" } } }
                }
            }
        },
    )
}
