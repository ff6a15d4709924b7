//! The `state` of a sign-in: everything about it, sealed, so that nothing is written before the callback.

use crate::{
    canonical::{Host, Target},
    principal::Name,
    session::{
        KeyRing, random,
        record::{seconds, time},
        ring::Purpose,
        sha256,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// A sign-in has to be finished within this time (S-38).
pub(super) const LIFE: Duration = Duration::from_secs(600);

/// A target with fragment longer than this is not carried through a sign-in.
const LONGEST: usize = 4096;

/// What a sign-in remembers.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    #[serde(rename = "i")]
    id: [u8; 16],
    #[serde(rename = "b")]
    binding: [u8; 32],
    #[serde(rename = "a")]
    at: u64,
    #[serde(rename = "t")]
    pub(super) to: String,
}

/// A `state` with what is derived from it.
pub(super) struct Sealed {
    /// The parameter.
    pub(super) state: String,
    /// `nonce`.
    pub(super) nonce: String,
    /// `code_verifier`.
    pub(super) verifier: SecretString,
}

/// Where somebody wanted to go: a path of this host, with query and fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Return(String);

impl Return {
    /// Accepts only what stays on this host (S-46): one canonical path-absolute target, and a fragment without control
    /// characters. Everything else is `/`.
    pub(super) fn parse(to: Option<&str>, fragment: Option<&str>) -> Self {
        let target = to.and_then(|to| Target::parse(to).ok()).filter(|target| !target.path.starts_with("/.vestibule/"));
        let mut text = target.map_or_else(|| "/".to_owned(), |target| target.path_and_query().as_str().to_owned());
        let fragment = fragment.map(|fragment| fragment.strip_prefix('#').unwrap_or(fragment));
        if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty() && fragment.bytes().all(is_fragment)) {
            text.push('#');
            text.push_str(fragment);
        }
        if text.len() > LONGEST { Self("/".to_owned()) } else { Self(text) }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What may stand in a fragment (RFC 3986, section 3.5), and what browsers leave in it besides.
fn is_fragment(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'\\' | b'#')
}

impl State {
    /// Seals a new sign-in at `provider` on `host` for the browser that holds `binding`.
    pub(super) fn seal(
        ring: &KeyRing,
        provider: &Name,
        host: &Host,
        binding: &str,
        to: &Return,
        now: SystemTime,
    ) -> Sealed {
        let id = random()[..16].try_into().expect("16 of 32 bytes");
        let state = Self { id, binding: sha256(binding.as_bytes()), at: seconds(now), to: to.0.clone() };
        let text = serde_json::to_vec(&state).expect("bytes and strings are JSON");
        let sealed = ring.seal(Purpose::State, context(provider, host).as_bytes(), b"", &text);
        state.derived(ring, &sealed, binding).expect("the ring sealed it just now")
    }

    /// Opens the `state` of a callback. `None`: not one of ours for this provider and host.
    pub(super) fn open(ring: &KeyRing, provider: &Name, host: &Host, state: &str) -> Option<(Self, Vec<u8>)> {
        let sealed = URL_SAFE_NO_PAD.decode(state).ok()?;
        let text = ring.open_sealed(Purpose::State, context(provider, host).as_bytes(), b"", &sealed).ok()?;
        Some((serde_json::from_slice(&text).ok()?, sealed))
    }

    /// It began in the browser that holds `binding`, and is not too old.
    pub(super) fn is_for(&self, binding: &str, now: SystemTime) -> bool {
        let fresh = now.duration_since(time(self.at)).is_ok_and(|age| age <= LIFE);
        let binding = sha256(binding.as_bytes());
        fresh && aws_lc_rs::constant_time::verify_slices_are_equal(&self.binding, &binding).is_ok()
    }

    /// Nonce and verifier, which only this browser's cookie and our key together give.
    pub(super) fn derived(&self, ring: &KeyRing, sealed: &[u8], binding: &str) -> Option<Sealed> {
        let derive = |label| {
            let bytes = ring.derive_beside(sealed, label, &[&self.id, binding.as_bytes()]).ok()?;
            Some(URL_SAFE_NO_PAD.encode(bytes))
        };
        Some(Sealed {
            state: URL_SAFE_NO_PAD.encode(sealed),
            nonce: derive("nonce")?,
            verifier: SecretString::from(derive("verifier")?),
        })
    }
}

fn context(provider: &Name, host: &Host) -> String {
    format!("{provider} {host}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn fixture() -> (KeyRing, Name, Host, SystemTime) {
        let host = "portal.example.com".parse().expect("a host");
        (KeyRing::of(&[[3; 32]]), "gitlab".parse().expect("a name"), host, time(1_789_000_000))
    }

    #[test]
    fn a_state_opens_with_the_same_nonce_and_verifier() {
        let (ring, provider, host, now) = fixture();
        let to = Return::parse(Some("/a?b=%2F"), Some("tab"));
        let sealed = State::seal(&ring, &provider, &host, "binding", &to, now);
        let (state, bytes) = State::open(&ring, &provider, &host, &sealed.state).expect("ours");
        assert_eq!(state.to, "/a?b=%2F#tab");
        assert!(state.is_for("binding", now + LIFE));
        let again = state.derived(&ring, &bytes, "binding").expect("our key");
        assert_eq!(again.nonce, sealed.nonce);
        assert_eq!(again.verifier.expose_secret(), sealed.verifier.expose_secret());
        assert_eq!(sealed.verifier.expose_secret().len(), 43);
    }

    /// S-38, S-41: a state is for one browser, one provider, one host, and ten minutes.
    #[test]
    fn s38_a_state_is_for_one_browser_provider_and_host() {
        let (ring, provider, host, now) = fixture();
        let sealed = State::seal(&ring, &provider, &host, "binding", &Return::parse(None, None), now);
        let other: Name = "okta".parse().expect("a name");
        assert!(State::open(&ring, &other, &host, &sealed.state).is_none());
        assert!(State::open(&ring, &provider, &"evil.example".parse().expect("a host"), &sealed.state).is_none());
        let (state, bytes) = State::open(&ring, &provider, &host, &sealed.state).expect("ours");
        assert!(!state.is_for("another", now));
        assert!(!state.is_for("binding", now + LIFE + Duration::from_secs(1)));
        assert_ne!(state.derived(&ring, &bytes, "another").expect("our key").nonce, sealed.nonce);
    }

    /// S-46: nobody is sent to another host.
    #[test]
    fn s46_return_addresses_stay_on_this_host() {
        for evil in include_str!("../../tests/corpus/returns.txt").lines().filter(|line| !line.is_empty()) {
            let to = Return::parse(Some(&evil.replace("\\0", "\0").replace("\\t", "\t")), None);
            let place = url::Url::parse("https://portal.example.com/").expect("a URL").join(to.as_str());
            assert_eq!(place.expect("a URL").host_str(), Some("portal.example.com"), "{evil}");
        }
        assert_eq!(Return::parse(Some("/a/b?x=1&y=%2F"), Some("tab")).as_str(), "/a/b?x=1&y=%2F#tab");
        assert_eq!(Return::parse(Some("/.vestibule/sign-out"), None).as_str(), "/");
        assert_eq!(Return::parse(Some("/a"), Some("b\nc")).as_str(), "/a");
    }
}
