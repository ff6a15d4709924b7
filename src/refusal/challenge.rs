//! How callers of a route prove who they are, as the answer to those who do not says it.

use super::{Asked, Reason, Refusal};
use crate::{
    canonical::{Canonical, Class},
    principal::{Bearer, StepUp},
    route::Route,
};
use http::HeaderValue;

/// The ways into a route that takes tokens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// `realm`.
    realm: String,
    /// Where the route describes itself (RFC 9728).
    metadata: String,
    /// A client that may speak HTTP Basic, and is asked for a token as password.
    basic: bool,
    /// People may sign in here too.
    pub(super) people: bool,
    /// The request had a credential in `Authorization`.
    presented: bool,
}

impl Challenge {
    /// What to tell callers of `route`; nothing, if it takes no tokens.
    pub fn of(route: &Route, asked: &Canonical) -> Option<Self> {
        if route.token_issuers.is_empty() {
            return None;
        }
        let scheme = if asked.https { "https" } else { "http" };
        Some(Self {
            realm: route.name.to_string(),
            metadata: format!("{scheme}://{}{}", asked.authority, route.metadata_path()),
            basic: route.tokens.basic && asked.class == Class::Machine && !came_with_bearer(asked),
            people: !route.providers.is_empty(),
            presented: asked.headers.contains_key(http::header::AUTHORIZATION),
        })
    }

    /// The ways into some route that takes tokens, and perhaps people.
    #[cfg(test)]
    pub(super) fn testing(people: bool) -> Self {
        Self { realm: "a".into(), metadata: "https://a.test/m".into(), basic: false, people, presented: false }
    }

    /// What to tell whoever came with nothing: nobody knows yet whether that is a person or a program.
    pub(super) fn unmet(&self, refusal: &Refusal, machine: bool) -> Option<String> {
        let how = || {
            format!("a token, as `Authorization: Bearer TOKEN`; {} says whose, and for which audience.", self.metadata)
        };
        match refusal.reason {
            Reason::NoSession if !self.people => Some(format!("This needs {}", how())),
            Reason::NoSession if machine => Some(format!("{} Or it takes {}", refusal.detail, how())),
            _ => None,
        }
    }

    /// `Bearer`, with what is wrong, if something was presented. Or `Basic`, to machines only: a browser would ask its user for
    /// a password, and send it with whatever another site makes it ask for. Never both: `docker`, and whatever else pulls
    /// images, takes the realm of a `Bearer` for the address of a token server, and asks there first.
    ///
    /// Source: RFC 6750, section 3; RFC 7617, section 2; RFC 9728, section 5.1; CNCF Distribution, "Token Authentication".
    fn header(&self, refusal: &Refusal) -> String {
        if self.basic {
            return format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        }
        let mut bearer = format!("Bearer realm=\"{}\", resource_metadata=\"{}\"", self.realm, self.metadata);
        let error = match refusal.reason {
            Reason::InvalidToken => Some("invalid_token"),
            Reason::TwoTokens => Some("invalid_request"),
            _ => None,
        };
        if let Some(error) = error {
            bearer.push_str(&format!(", error=\"{error}\", error_description=\"{}\"", described(&refusal.detail)));
        }
        bearer
    }
}

/// Whoever does that knows what is asked for.
fn came_with_bearer(asked: &Canonical) -> bool {
    asked.auth_scheme().is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer"))
}

/// Printable ASCII without `"` and `\` (RFC 6750, section 3).
fn described(text: &str) -> String {
    let kept = |character: char| match character {
        '"' | '`' => '\'',
        '\\' => '/',
        ' '..='~' => character,
        _ => '?',
    };
    text.chars().take(300).map(kept).collect()
}

/// What a client has to do to get further: the values of `WWW-Authenticate`.
///
/// Source: RFC 9110, section 11.6.1.
pub(super) fn challenges(refusal: &Refusal, asked: &Asked) -> Vec<HeaderValue> {
    let session = || session(refusal.step_up.as_deref(), asked.bearer.as_deref());
    let texts = match &asked.challenge {
        None => vec![session()],
        Some(_) if refusal.step_up.is_some() => vec![session()],
        Some(tokens) => {
            let sign_in = tokens.people && !tokens.presented && refusal.reason == Reason::NoSession;
            [tokens.header(refusal)].into_iter().chain(sign_in.then(session)).collect()
        }
    };
    texts.into_iter().filter_map(|text| HeaderValue::try_from(text).ok()).collect()
}

/// For people with a browser; where the sign-in has to be of some kind, of which.
///
/// Source: RFC 9470, section 3.
fn session(step_up: Option<&StepUp>, bearer: Option<&Bearer>) -> String {
    let scheme = if bearer.is_some() { "Bearer" } else { "Vestibule" };
    let mut text = format!("{scheme} realm=\"sign-in\"");
    let Some(asked) = step_up else { return text };
    text.push_str(
        ", error=\"insufficient_user_authentication\", error_description=\"A stronger or more recent sign-in is required\"",
    );
    if let Some(acr) = &asked.acr {
        text.push_str(&format!(", acr_values=\"{acr}\""));
    }
    if let Some(age) = asked.max_age {
        text.push_str(&format!(", max_age=\"{}\"", age.as_secs()));
    }
    text
}
