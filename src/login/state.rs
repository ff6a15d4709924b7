//! The `state` of a sign-in: everything about it, sealed, so that nothing is written before the callback.

use super::{hand::Hand, to::Return};
use crate::{
    canonical::Host,
    principal::{Name, StepUp},
    session::{
        KeyRing, random,
        record::{seconds, time},
        ring::Purpose,
    },
    text::sha256,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// A sign-in has to be finished within this time (S-38).
pub(super) const LIFE: Duration = Duration::from_secs(600);

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
    pub(super) to: Return,
    /// The other host that is to be told.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub(super) hand: Option<Hand>,
    /// It was begun anew, because the one before could not be finished.
    #[serde(rename = "n", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) anew: bool,
    /// The page that it is for, where that is another one than where it leads.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<Return>,
    /// What the provider was asked that it be.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(super) step_up: Option<StepUp>,
    /// The provider was told to ask for consent.
    #[serde(rename = "c", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) consented: bool,
}

/// What a sign-in is for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// Where the browser goes afterwards.
    pub(super) to: Return,
    /// On which other host, if on another.
    pub(super) hand: Option<Hand>,
    /// It is begun anew, because the one before could not be finished.
    pub(super) anew: bool,
    /// The page that it is for, where that is another one than `to`.
    pub(super) page: Option<Return>,
    /// The provider is to ask for consent.
    pub(super) consented: bool,
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

impl State {
    /// Seals a new sign-in at `provider` on `host` for the browser that holds `binding`.
    pub(super) fn seal(
        ring: &KeyRing,
        provider: &Name,
        host: &Host,
        binding: &str,
        wish: &Wish,
        step_up: Option<&StepUp>,
        now: SystemTime,
    ) -> Sealed {
        let id = random()[..16].try_into().expect("16 of 32 bytes");
        let Wish { to, hand, anew, page, consented } = wish.clone();
        let (binding_hash, step_up) = (sha256(binding.as_bytes()), step_up.cloned());
        let state = Self { id, binding: binding_hash, at: seconds(now), to, hand, anew, page, step_up, consented };
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

    /// What it was for.
    pub(super) fn wish(&self) -> Wish {
        Wish {
            to: self.to.clone(),
            hand: self.hand.clone(),
            anew: self.anew,
            page: self.page.clone(),
            consented: self.consented,
        }
    }

    /// It is not too old to be finished.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(time(self.at)).is_ok_and(|age| age <= LIFE)
    }

    /// It began in the browser that holds `binding`.
    pub(super) fn is_for(&self, binding: &str) -> bool {
        let binding = sha256(binding.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.binding, &binding).is_ok()
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
        let wish = Wish { to: Return::parse(Some("/a?b=%2F"), Some("tab")), ..Wish::default() };
        let sealed = State::seal(&ring, &provider, &host, "binding", &wish, None, now);
        let (state, bytes) = State::open(&ring, &provider, &host, &sealed.state).expect("ours");
        assert_eq!(state.to.as_str(), "/a?b=%2F#tab");
        assert!(state.is_for("binding") && state.is_fresh(now + LIFE));
        let again = state.derived(&ring, &bytes, "binding").expect("our key");
        assert_eq!(again.nonce, sealed.nonce);
        assert_eq!(again.verifier.expose_secret(), sealed.verifier.expose_secret());
        assert_eq!(sealed.verifier.expose_secret().len(), 43);
    }

    /// S-38, S-41: a state is for one browser, one provider, one host, and ten minutes.
    #[test]
    fn s38_a_state_is_for_one_browser_provider_and_host() {
        let (ring, provider, host, now) = fixture();
        let sealed = State::seal(&ring, &provider, &host, "binding", &Wish::default(), None, now);
        let other: Name = "okta".parse().expect("a name");
        assert!(State::open(&ring, &other, &host, &sealed.state).is_none());
        assert!(State::open(&ring, &provider, &"evil.example".parse().expect("a host"), &sealed.state).is_none());
        let (state, bytes) = State::open(&ring, &provider, &host, &sealed.state).expect("ours");
        assert!(!state.is_for("another"));
        assert!(!state.is_fresh(now + LIFE + Duration::from_secs(1)) && !state.is_fresh(now - Duration::from_secs(1)));
        assert_ne!(state.derived(&ring, &bytes, "another").expect("our key").nonce, sealed.nonce);
    }
}
