//! The look of our own pages. Pure: values in, markup out; who may see what is decided elsewhere.
//!
//! The pages work without scripts and carry no inline script or style, so that they can be sent with [`CSP`].

use maud::{DOCTYPE, Markup, html};

/// The style sheet, served as `/.vestibule/assets/pages.css`.
pub const PAGES_CSS: &str = include_str!("pages.css");

/// The script that keeps a link's fragment, served as `/.vestibule/assets/sign-in.js`.
pub const SIGN_IN_JS: &str = include_str!("pages.js");

/// The script that tells the page that opened a sign-in, served as `/.vestibule/assets/signed-in.js`.
pub const SIGNED_IN_JS: &str = include_str!("pages/signed-in.js");

/// The script of the page that keeps a form, served as `/.vestibule/assets/form.js`.
pub const FORM_JS: &str = include_str!("pages/form.js");

/// The script of a page in a frame, which opens a window to sign in, served as `/.vestibule/assets/frame.js`.
pub const FRAME_JS: &str = include_str!("pages/frame.js");

/// The `Content-Security-Policy` of every page here.
///
/// Browsers apply `form-action` to the redirects after a form as well, and to those of other people's pages: an answer to
/// `sign-out` that leads to another origin is therefore a page, [`signing_out`], and no redirect.
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
    /// What a provider says, word for word: who says it, and what.
    pub quote: Option<(&'a str, &'a str)>,
    /// Who is signed in: login and the provider's name.
    pub who: Option<(&'a str, &'a str)>,
    /// What was asked for: method, host and path, without the query.
    pub asked: Option<String>,
    /// When the groups were read that it was decided with.
    pub groups_read: Option<String>,
    /// What the authors of the policies say: the reason, and how to get there.
    pub reasons: &'a [(&'a str, Option<&'a str>)],
    /// The request id, for whoever is asked for help.
    pub request_id: &'a str,
    /// Links to go on with, the most likely one first.
    pub actions: &'a [(&'a str, &'a str)],
    /// Who helps: a name and an address.
    pub contact: Option<(&'a str, &'a str)>,
    /// Whoever is signed in may look at their sessions.
    pub sessions: bool,
}

/// The page of a refusal.
pub fn refusal(page: &RefusalPage<'_>) -> Markup {
    layout(
        page.title,
        html! {
            h1 { (page.title) }
            p.lead { (with_code(page.sentence)) }
            @if let Some((who, text)) = page.quote {
                figure.quote { figcaption { (who) " says:" } blockquote { (text) } }
            }
            @for (reason, remedy) in page.reasons {
                div.reason {
                    p { (reason) }
                    @if let Some(remedy) = remedy { p.remedy { (remedy) } }
                }
            }
            (actions(page.actions))
            @if let Some((name, href)) = page.contact { p.help { "Help: " a href=(href) { (name) } } }
            dl.facts {
                @if let Some((login, provider)) = page.who {
                    dt { "Signed in as" } dd {
                        (login) " · " (provider)
                        @if page.sessions { " · " a href="/.vestibule/sessions" { "your sessions" } }
                    }
                }
                @if let Some(at) = &page.groups_read { dt { "Groups read" } dd { (at) } }
                @if let Some(asked) = &page.asked { dt { "Asked for" } dd { code { (asked) } } }
                dt { "Request" } dd { code { (page.request_id) } }
            }
        },
    )
}

/// A sentence of ours, in which names stand between backticks.
fn with_code(sentence: &str) -> Markup {
    html! {
        @for (position, part) in sentence.split('`').enumerate() {
            @if position % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
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

/// In the place of a form's answer, where nobody is signed in any more: the browser still has the form, and sends it again when
/// this page is loaded anew. `back` leads away without it; `contact` is who helps: a name and an address.
pub fn keep_form(
    lead: &str,
    sign_in_href: &str,
    back: &str,
    request_id: &str,
    contact: Option<(&str, &str)>,
) -> Markup {
    with_head(
        "Sign in to send your form",
        html! { script src="/.vestibule/assets/form.js" defer {} },
        html! {
            h1 { "Sign in to send your form" }
            p.lead { (lead) " What you typed is not lost: your browser keeps it with this page." }
            p { "Sign in, in the window that opens. This page then loads anew, and your browser asks whether to send the form: say yes." }
            p.actions {
                a.primary data-window href=(sign_in_href) target="_blank" rel="opener" { "Sign in" } " "
                a href=(back) { "Leave without sending" }
            }
            noscript { p { "Sign in in the tab that opens, come back here, and reload this page." } }
            @if let Some((name, href)) = contact { p.help { "Help: " a href=(href) { (name) } } }
            dl.facts { dt { "Request" } dd { code { (request_id) } } }
        },
    )
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

/// The end of a sign-in in a window of its own: tells the page that opened it, and closes.
pub fn signed_in() -> Markup {
    with_head(
        "Signed in",
        html! { script src="/.vestibule/assets/signed-in.js" defer {} },
        html! {
            h1 { "You are signed in" }
            p.lead { "You can close this window and go on where you were." }
            (actions(&[("Go to the start page", "/")]))
        },
    )
}

/// For a page in a frame of another one: signing in opens a window, at `href`.
pub fn frame(href: &str) -> Markup {
    with_head(
        "Sign in",
        html! { script src="/.vestibule/assets/frame.js" defer {} },
        html! {
            h1 { "Sign in to go on" }
            p.lead { "This page is shown inside another one. Signing in opens a window of its own." }
            p.actions { a.primary data-window href=(href) target="_blank" rel="opener" { "Sign in" } }
        },
    )
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
            p.help { "Signed in somewhere else too? " a href="/.vestibule/sessions" { "See all your sessions" } }
        },
    )
}

/// A session of somebody, as they see it.
#[derive(Clone, Debug)]
pub struct SessionLine {
    /// Its hash.
    pub id: std::sync::Arc<str>,
    /// What it was begun with.
    pub device: String,
    /// When it began: for machines, for people.
    pub began: (String, String),
    /// When it was last used.
    pub seen: (String, String),
    /// It is the one that this page is shown in.
    pub this: bool,
}

/// Where somebody is signed in, this session first, with a way to end each and all others. `more` are not shown.
pub fn sessions(login: &str, provider_title: &str, lines: &[SessionLine], more: usize) -> Markup {
    let others = more + lines.iter().filter(|line| !line.this).count();
    layout(
        "Your sessions",
        html! {
            h1 { "Where you are signed in" }
            p.lead { "You are signed in as " strong { (login) } " with " (provider_title) ". Signing out somewhere acts at once, on every page that is open there." }
            ul.sessions {
                @for line in lines { li { (session(line)) } }
            }
            @if more > 0 { p.help { "And " (more) " more, used longer ago." } }
            @if others > 0 {
                div.actions {
                    form method="post" action="/.vestibule/sessions?others=1" {
                        button.primary type="submit" { "Sign out everywhere else" }
                    }
                    a href="/.vestibule/sign-out" { "Sign out here" }
                }
            } @else {
                (actions(&[("Sign out here", "/.vestibule/sign-out"), ("Go to the start page", "/")]))
            }
        },
    )
}

fn session(line: &SessionLine) -> Markup {
    let time = |(machine, person): &(String, String)| html! { time datetime=(machine) { (person) } };
    html! {
        div {
            strong { (line.device) }
            @if line.this { " " span.here { "this session" } }
            p { "Last seen " (time(&line.seen)) ", since " (time(&line.began)) }
        }
        @if !line.this {
            form method="post" action={ "/.vestibule/sessions?end=" (line.id) } {
                button type="submit" aria-label={ "Sign out " (line.device) ", last seen " (line.seen.1) } { "Sign out" }
            }
        }
    }
}

/// Leads on to the provider at `href`, whose own session is still to end.
///
/// Not by a redirect, which browsers would hold to the policy of whatever page had the form, all the way to the last hop.
pub fn signing_out(provider_title: &str, href: &str) -> Markup {
    with_head(
        "Signing out",
        html! { meta http-equiv="refresh" content={ "0;url=" (href) }; },
        html! {
            h1 { "You are signed out here" }
            p.lead { "You are taken to " (provider_title) ", to sign out there too." }
            p.actions { a.primary href=(href) { "Continue" } }
        },
    )
}

/// The page after sign-out, or, where no session `ended`, for whoever is not signed in. `still_signed_in_at` are the title and
/// address of each provider that may have a session still.
pub fn signed_out(ended: bool, still_signed_in_at: &[(&str, &str)], sign_in_href: &str) -> Markup {
    let place = match still_signed_in_at {
        [(title, _)] => title,
        _ => "the provider that you came from",
    };
    layout(
        "Signed out",
        html! {
            h1 { "You are signed out" }
            p.lead { @if ended { "Your session here has ended." } @else { "Nobody is signed in here with this browser." } }
            @if !still_signed_in_at.is_empty() {
                div.reason {
                    p { "You may still be signed in at " (place) ": then whoever uses this browser next can come back in without a password." }
                    p.remedy {
                        @for (title, address) in still_signed_in_at { a href=(address) { "Sign out at " (title) } " " }
                        "too if you share this computer."
                    }
                }
            }
            (actions(&[("Sign in again", sign_in_href)]))
        },
    )
}

/// After a sign-out that the provider has taken part in.
pub fn signed_out_everywhere(provider_title: &str, sign_in_href: &str) -> Markup {
    layout(
        "Signed out",
        html! {
            h1 { "You are signed out" }
            p.lead { "Your session here has ended, and " (provider_title) " was told to end its own." }
            (actions(&[("Sign in again", sign_in_href)]))
        },
    )
}

/// For a person whom Backstage's catalog does not know, which only Backstage can say. `entity` is what they are taken for.
pub fn no_backstage_user(login: &str, provider: &str, entity: Option<&str>, contact: Option<(&str, &str)>) -> Markup {
    let name = entity.and_then(|entity| entity.rsplit_once('/')).map_or(login, |(_, name)| name);
    layout(
        "Not in the catalog",
        html! {
            h1 { "Backstage takes you for " (name) }
            p.lead {
                "You are signed in as " strong { (login) } " at " (provider) ". If the portal led you here, its catalog has no User \
                 entity for you, so it does not know what is yours."
            }
            @match entity {
                Some(entity) => {
                    div.reason {
                        p { "It looks for " code { (entity) } "." }
                        p.remedy { "Ask whoever runs the portal to add it, or to have the catalog read people from " (provider) "." }
                    }
                    pre { "apiVersion: backstage.io/v1alpha1\nkind: User\nmetadata:\n  name: " (name) "\nspec:\n  memberOf: []\n" }
                }
                None => div.reason {
                    p { "What you are called there makes no name of an entity: letters, digits, dots, dashes and underscores, at most 63." }
                    p.remedy { "Ask whoever runs the portal to choose another `backstage_user`." }
                }
            }
            (actions(&[("Back to the portal", "/"), ("Switch account", "/.vestibule/sign-in?to=%2F&switch=1")]))
            @if let Some((label, href)) = contact { p.help { "Help: " a href=(href) { (label) } } }
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
            quote: Some((HOSTILE, HOSTILE)),
            contact: Some((HOSTILE, HOSTILE)),
            who: Some((HOSTILE, HOSTILE)),
            asked: Some(HOSTILE.to_owned()),
            groups_read: Some(HOSTILE.to_owned()),
            reasons: &[(HOSTILE, Some(HOSTILE))],
            request_id: HOSTILE,
            actions: &[(HOSTILE, HOSTILE)],
            sessions: true,
        })
        .into_string()
    }

    fn line(this: bool) -> SessionLine {
        let text = || HOSTILE.to_owned();
        SessionLine { id: HOSTILE.into(), device: text(), began: (text(), text()), seen: (text(), text()), this }
    }

    fn every_page() -> [String; 12] {
        [
            refused(),
            chooser(&[(HOSTILE, HOSTILE)], HOSTILE).into_string(),
            keep_fragment(HOSTILE).into_string(),
            sign_out(HOSTILE, HOSTILE, HOSTILE).into_string(),
            signed_in().into_string(),
            no_backstage_user(HOSTILE, HOSTILE, Some(HOSTILE), Some((HOSTILE, HOSTILE))).into_string(),
            signed_out_everywhere(HOSTILE, HOSTILE).into_string(),
            frame(HOSTILE).into_string(),
            keep_form(HOSTILE, HOSTILE, HOSTILE, HOSTILE, Some((HOSTILE, HOSTILE))).into_string(),
            signed_out(true, &[(HOSTILE, HOSTILE), (HOSTILE, HOSTILE)], HOSTILE).into_string(),
            signing_out(HOSTILE, HOSTILE).into_string(),
            sessions(HOSTILE, HOSTILE, &[line(true), line(false)], 3).into_string(),
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
