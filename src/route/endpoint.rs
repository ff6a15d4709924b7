//! Our own endpoints, under one prefix that is never forwarded.

use crate::principal::Name;
use std::borrow::Borrow;

/// Our own endpoints.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// `sign-in`: the chooser, or straight on to the one provider.
    SignIn,
    /// `sign-in/<provider>`: on to this provider.
    Start(Name),
    /// `callback/<provider>`.
    Callback(Name),
    /// `backchannel-logout/<provider>`.
    BackChannelLogout(Name),
    /// `hooks/<provider>`.
    Hook(Name),
    /// `sign-out`.
    SignOut,
    /// `arrive`: from where people sign in.
    Arrive,
    /// `frame`: the way to sign in from a page that another page shows.
    Frame,
    /// `signed-in`: tells the page that opened it.
    SignedIn,
    /// `denied`: why what is behind us says no.
    Denied,
    /// `check-again`: reads the groups of whoever was refused anew.
    CheckAgain,
    /// `sessions`: where I am signed in.
    Sessions,
    /// `session`: who am I, until when.
    Session,
    /// `session/renew`.
    Renew,
    /// `assets/<name>`.
    Asset(String),
    /// `/.well-known/vestibule/jwks.json`.
    Jwks,
    /// `/.well-known/oauth-protected-resource`, and the path of the route at this position.
    Resource(usize),
}

impl Endpoint {
    /// True for those by which access ends.
    pub fn ends_access(&self) -> bool {
        matches!(self, Self::SignOut | Self::BackChannelLogout(_) | Self::Hook(_) | Self::Sessions)
    }
}

/// Where a route that takes tokens describes itself (RFC 9728, section 3).
pub(super) const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Nothing at or below these is forwarded, in any case of letters.
const RESERVED: [&str; 2] = ["/.vestibule", "/.well-known/vestibule"];

/// True for our own prefixes and all that an upstream might take for them.
pub fn is_reserved(folded: &str) -> bool {
    RESERVED
        .iter()
        .filter_map(|prefix| folded.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || ["/", ";", "%2f", "%3b"].iter().any(|border| rest.starts_with(border)))
}

impl Endpoint {
    /// The endpoint at `path`, letter by letter. `public` is true on the host of `public_url`.
    pub(super) fn at(path: &str, public: bool, providers: &[Name]) -> Option<Self> {
        if path == "/.well-known/vestibule/jwks.json" {
            return Some(Self::Jwks);
        }
        let (word, rest) = match path.strip_prefix("/.vestibule/")?.split_once('/') {
            Some((word, rest)) => (word, Some(rest)),
            None => (path.strip_prefix("/.vestibule/")?, None),
        };
        match (word, rest) {
            ("sign-in", None) => Some(Self::SignIn),
            ("sign-in", Some(name)) => provider(name, providers).map(Self::Start),
            ("callback", Some(name)) if public => provider(name, providers).map(Self::Callback),
            ("backchannel-logout", Some(name)) if public => provider(name, providers).map(Self::BackChannelLogout),
            ("hooks", Some(name)) if public => provider(name, providers).map(Self::Hook),
            ("sign-out", None) => Some(Self::SignOut),
            ("arrive", None) => Some(Self::Arrive),
            ("frame", None) => Some(Self::Frame),
            ("signed-in", None) => Some(Self::SignedIn),
            ("denied", None) => Some(Self::Denied),
            ("check-again", None) => Some(Self::CheckAgain),
            ("sessions", None) => Some(Self::Sessions),
            ("session", None) => Some(Self::Session),
            ("session", Some("renew")) => Some(Self::Renew),
            ("assets", Some(name)) if is_asset(name) => Some(Self::Asset(name.to_owned())),
            _ => None,
        }
    }
}

fn provider(name: &str, providers: &[Name]) -> Option<Name> {
    providers.iter().find(|provider| Borrow::<str>::borrow(*provider) == name).cloned()
}

fn is_asset(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    #[test]
    fn s36_endpoints_are_matched_exactly() {
        let providers = [name("gitlab"), name("okta")];
        for (path, expected) in [
            ("/.vestibule/sign-in", Some(Endpoint::SignIn)),
            ("/.vestibule/sign-in/okta", Some(Endpoint::Start(name("okta")))),
            ("/.vestibule/callback/gitlab", Some(Endpoint::Callback(name("gitlab")))),
            ("/.vestibule/sign-out", Some(Endpoint::SignOut)),
            ("/.vestibule/signed-in", Some(Endpoint::SignedIn)),
            ("/.vestibule/arrive", Some(Endpoint::Arrive)),
            ("/.vestibule/frame", Some(Endpoint::Frame)),
            ("/.vestibule/session", Some(Endpoint::Session)),
            ("/.vestibule/session/renew", Some(Endpoint::Renew)),
            ("/.vestibule/denied", Some(Endpoint::Denied)),
            ("/.vestibule/check-again", Some(Endpoint::CheckAgain)),
            ("/.vestibule/sessions", Some(Endpoint::Sessions)),
            ("/.vestibule/sessions/x", None),
            ("/.vestibule/check-again/x", None),
            ("/.vestibule/portal", None),
            ("/.vestibule/assets/page.css", Some(Endpoint::Asset("page.css".to_owned()))),
            ("/.well-known/vestibule/jwks.json", Some(Endpoint::Jwks)),
            ("/.vestibule", None),
            ("/.vestibule/", None),
            ("/.vestibule/sign-in/", None),
            ("/.vestibule/Sign-In", None),
            ("/.Vestibule/sign-in", None),
            ("/.vestibule/sign-in/gitea", None),
            ("/.vestibule/sign-in/okta/", None),
            ("/.vestibule/sign-in/Okta", None),
            ("/.vestibule/backchannel-logout/okta", Some(Endpoint::BackChannelLogout(name("okta")))),
            ("/.vestibule/backchannel-logout", None),
            ("/.vestibule/callback", None),
            ("/.vestibule/callback/gitea", None),
            ("/.vestibule/session/x", None),
            ("/.vestibule/assets/", None),
            ("/.vestibule/assets/.hidden", None),
            ("/.vestibule/assets/a%2Fb", None),
            ("/.vestibule/assets/a/b", None),
            ("/.well-known/vestibule/jwks.json/", None),
            ("/.well-known/vestibule/JWKS.json", None),
            ("/.well-known/vestibule", None),
        ] {
            assert_eq!(Endpoint::at(path, true, &providers), expected, "{path}");
        }
        for path in ["/.vestibule/callback/gitlab", "/.vestibule/backchannel-logout/gitlab"] {
            assert_eq!(Endpoint::at(path, false, &providers), None);
        }
    }

    #[test]
    fn s36_look_alikes_of_our_prefix_are_reserved() {
        for path in ["/.vestibule", "/.vestibule/x", "/.vestibule;x", "/.vestibule%2fx", "/.vestibule%3bx/y"] {
            assert!(is_reserved(path), "{path}");
        }
        for path in ["/", "/.vestibules", "/vestibule/x", "/a/.vestibule/x", "/.well-known/openid-configuration"] {
            assert!(!is_reserved(path), "{path}");
        }
        assert!(is_reserved("/.well-known/vestibule/jwks.json"));
    }
}
