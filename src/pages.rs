//! The look of our own pages. Pure: values in, markup out; who may see what is decided elsewhere.
//!
//! The pages work without scripts and carry no inline script or style, so that they can be sent with [`CSP`].

use maud::{DOCTYPE, Markup, html};

/// The style sheet, served as `/.vestibule/assets/pages.css`.
pub const PAGES_CSS: &str = include_str!("pages.css");

/// The script that keeps a link's fragment, served as `/.vestibule/assets/sign-in.js`.
pub const SIGN_IN_JS: &str = include_str!("pages.js");

/// The `Content-Security-Policy` of every page here.
///
/// Browsers apply `form-action` to the redirects after a form as well: an answer to `sign-out` that leads to another
/// origin needs that origin in the policy of the page with the form.
pub const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; form-action 'self'; \
                       frame-ancestors 'none'; base-uri 'none'";

/// One whole page. `title` is the title of the tab; `body` has the page's one `h1`.
pub fn layout(title: &str, body: Markup) -> Markup {
    with_head(title, html! {}, body)
}

fn with_head(title: &str, head: Markup, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (title) " · Vestibule" }
                link rel="stylesheet" href="/.vestibule/assets/pages.css";
                (head)
            }
            body {
                header { (mark()) span { "Vestibule" } }
                main { (body) }
            }
        }
    }
}

/// A door that stands ajar.
fn mark() -> Markup {
    html! {
        svg viewBox="0 0 24 24" width="24" height="24" aria-hidden="true" focusable="false" {
            path class="frame" d="M5 21V4.5A1.5 1.5 0 0 1 6.5 3h11A1.5 1.5 0 0 1 19 4.5V21" {}
            path class="leaf" d="M8.5 21V6l6 2v13z" {}
            path class="frame" d="M3 21h18" {}
        }
    }
}

/// An answer in place of the upstream's, for people: 401, 403, 404, 502, 503 and the like.
#[derive(Clone, Debug, Default)]
pub struct RefusalPage<'a> {
    /// The heading, such as `You may not open this page`.
    pub title: &'a str,
    /// One sentence that says what happened.
    pub sentence: &'a str,
    /// Who is signed in: login and the provider's name.
    pub who: Option<(&'a str, &'a str)>,
    /// What was asked for: method, host and path, without the query.
    pub asked: Option<String>,
    /// What the authors of the policies say: the reason, and how to get there.
    pub reasons: &'a [(&'a str, Option<&'a str>)],
    /// The request id, for whoever is asked for help.
    pub request_id: &'a str,
    /// Links to go on with, the most likely one first.
    pub actions: &'a [(&'a str, &'a str)],
}

/// The page of a refusal.
pub fn refusal(page: &RefusalPage<'_>) -> Markup {
    layout(
        page.title,
        html! {
            h1 { (page.title) }
            p.lead { (page.sentence) }
            @for (reason, remedy) in page.reasons {
                div.reason {
                    p { (reason) }
                    @if let Some(remedy) = remedy { p.remedy { (remedy) } }
                }
            }
            (actions(page.actions))
            dl.facts {
                @if let Some((login, provider)) = page.who {
                    dt { "Signed in as" } dd { (login) " · " (provider) }
                }
                @if let Some(asked) = &page.asked { dt { "Asked for" } dd { code { (asked) } } }
                dt { "Request" } dd { code { (page.request_id) } }
            }
        },
    )
}

fn actions(actions: &[(&str, &str)]) -> Markup {
    html! {
        @if !actions.is_empty() {
            p.actions {
                @for (position, (label, href)) in actions.iter().enumerate() {
                    a.primary[position == 0] href=(href) { (label) } " "
                }
            }
        }
    }
}

/// Which provider to sign in with: title and link of each. `line` says for what, such as the host's name.
///
/// The script adds the fragment of this page's address to every link.
pub fn chooser(providers: &[(&str, &str)], line: &str) -> Markup {
    with_head(
        "Sign in",
        script(),
        html! {
            h1 { "Sign in" }
            p.lead { (line) }
            ul.providers {
                @for (title, href) in providers {
                    li { a data-keep-fragment href=(href) { "Continue with " strong { (title) } } }
                }
            }
        },
    )
}

/// Leads on to `href` at once, with the fragment of the address in the query field `fragment`.
///
/// A server never sees a fragment, so only a page can keep it (DESIGN, section 3). Without scripts the page leads on
/// without it.
pub fn keep_fragment(href: &str) -> Markup {
    let head = html! {
        (script())
        noscript { meta http-equiv="refresh" content={ "0;url=" (href) }; }
    };
    with_head(
        "Signing in",
        head,
        html! {
            h1 { "Signing you in" }
            p.lead { "You are taken to the sign-in page." }
            p.actions { a.primary data-keep-fragment data-go href=(href) { "Continue" } }
        },
    )
}

fn script() -> Markup {
    html! { script src="/.vestibule/assets/sign-in.js" defer {} }
}

/// The form that signs out: a POST, since a link on another site must not end a session.
pub fn sign_out_form(label: &str) -> Markup {
    html! {
        form method="post" action="/.vestibule/sign-out" { button.primary type="submit" { (label) } }
    }
}

/// Asks before it signs out. `back` leads back to where the person came from.
pub fn sign_out(login: &str, provider_title: &str, back: &str) -> Markup {
    layout(
        "Sign out",
        html! {
            h1 { "Sign out?" }
            p.lead { "You are signed in as " strong { (login) } " with " (provider_title) ". Signing out ends this on every page behind this door." }
            div.actions { (sign_out_form("Sign out")) a href=(back) { "Stay signed in" } }
        },
    )
}

/// The page after sign-out. `still_signed_in_at` is the address of a provider that has no sign-out of its own to offer.
pub fn signed_out(provider_title: &str, still_signed_in_at: Option<&str>, sign_in_href: &str) -> Markup {
    layout(
        "Signed out",
        html! {
            h1 { "You are signed out" }
            p.lead { "Your session here has ended." }
            @if let Some(address) = still_signed_in_at {
                div.reason {
                    p { "You may still be signed in at " (provider_title) ": then whoever uses this browser next can come back in without a password." }
                    p.remedy { a href=(address) { "Sign out at " (provider_title) } " too if you share this computer." }
                }
            }
            (actions(&[("Sign in again", sign_in_href)]))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "\"><script>alert(1)</script>";

    fn refused() -> String {
        refusal(&RefusalPage {
            title: HOSTILE,
            sentence: HOSTILE,
            who: Some((HOSTILE, HOSTILE)),
            asked: Some(HOSTILE.to_owned()),
            reasons: &[(HOSTILE, Some(HOSTILE))],
            request_id: HOSTILE,
            actions: &[(HOSTILE, HOSTILE)],
        })
        .into_string()
    }

    fn every_page() -> [String; 5] {
        [
            refused(),
            chooser(&[(HOSTILE, HOSTILE)], HOSTILE).into_string(),
            keep_fragment(HOSTILE).into_string(),
            sign_out(HOSTILE, HOSTILE, HOSTILE).into_string(),
            signed_out(HOSTILE, Some(HOSTILE), HOSTILE).into_string(),
        ]
    }

    #[test]
    fn writes_nothing_unescaped() {
        for page in every_page() {
            assert!(!page.contains("<script>"), "{page}");
            assert!(!page.contains("\"\">"), "{page}");
        }
    }

    #[test]
    fn has_one_heading_a_language_and_nothing_inline() {
        for page in every_page() {
            assert_eq!(page.matches("<h1").count(), 1, "{page}");
            assert!(page.contains("<html lang=\"en\">"), "{page}");
            assert!(!page.contains(" style=") && !page.contains("<style") && !page.contains(" onclick"), "{page}");
        }
    }

    #[test]
    fn says_what_is_missing_and_how_to_get_it() {
        let page = refusal(&RefusalPage {
            title: "You may not open this page",
            reasons: &[("The portal is open to everyone in acme.", Some("Ask an owner of acme."))],
            request_id: "7f3a",
            ..RefusalPage::default()
        })
        .into_string();
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("`{text}` is not in {page}"));
        assert!(at("open to everyone in acme") < at("Ask an owner of acme") && at("Ask an owner") < at("7f3a"));
    }
}
