//! What passes between the host of `public_url`, where people sign in, and the other hosts.
//!
//! A host seals a [`Hand`] and sends the browser with it to `public_url`; from there it comes back with a code, behind which
//! a [`Grant`] waits in the store, and is given a handle for that host (DESIGN, section 3).

use super::to::Return;
use crate::session::{
    KeyRing, SessionId,
    live::CODE_LIFE,
    random,
    record::{seconds, time},
    ring::Purpose,
};
use crate::text::sha256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// How long somebody may take to sign in for another host.
const HAND_LIFE: Duration = Duration::from_secs(600);

/// What one host asks of `public_url`'s: somebody who is signed in, for one browser.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hand {
    /// The host.
    #[serde(rename = "h")]
    pub(super) host: String,
    /// SHA-256 of what binds the browser there.
    #[serde(rename = "b")]
    binding: [u8; 32],
    /// Where the browser goes there.
    #[serde(rename = "t")]
    pub(super) to: Return,
    /// The page there that it is for, where that is another one.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(super) page: Option<Return>,
    /// It is for a page in a frame: the code goes to the page that opened this one.
    #[serde(rename = "f", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) frame: bool,
    #[serde(rename = "a")]
    at: u64,
}

/// What stands behind a code.
#[derive(Serialize, Deserialize)]
pub(super) struct Grant {
    #[serde(rename = "h")]
    host: String,
    #[serde(rename = "b")]
    binding: [u8; 32],
    /// Where the browser goes.
    #[serde(rename = "t")]
    pub(super) to: Return,
    #[serde(rename = "a")]
    at: u64,
    #[serde(rename = "s")]
    sign_in: String,
}

/// A code with what is to be filed under it.
pub(super) struct Code {
    /// The code, as it travels.
    pub(super) code: String,
    /// What it is filed under.
    pub(super) hash: [u8; 32],
    /// What is filed.
    pub(super) sealed: Vec<u8>,
}

impl Hand {
    /// Of the browser that `binding` (its hash) binds on `host`.
    pub(super) fn new(host: &str, binding: [u8; 32], to: Return, now: SystemTime) -> Self {
        Self { host: host.to_owned(), binding, to, page: None, frame: false, at: seconds(now) }
    }

    /// The same, for another page than the one that it leads to.
    pub(super) fn about(self, page: Option<Return>) -> Self {
        Self { page, ..self }
    }

    /// The same, for a page in a frame.
    pub(super) fn framed(self) -> Self {
        Self { frame: true, ..self }
    }

    /// The same, asked for once more.
    pub(super) fn again(self, now: SystemTime) -> Self {
        Self { at: seconds(now), ..self }
    }

    /// As it travels in an address.
    pub(super) fn seal(&self, ring: &KeyRing) -> String {
        URL_SAFE_NO_PAD.encode(ring.seal(Purpose::Hand, b"", b"", &text(self)))
    }

    /// Opens what [`Hand::seal`] gave, if it is not too old.
    pub(super) fn open(ring: &KeyRing, sealed: &str, now: SystemTime) -> Option<Self> {
        let sealed = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let hand: Self = read(&ring.open_sealed(Purpose::Hand, b"", b"", &sealed).ok()?)?;
        is_fresh(hand.at, HAND_LIFE, now).then_some(hand)
    }

    /// A new code that answers it with the sign-in of this handle.
    pub(super) fn answer(&self, ring: &KeyRing, sign_in: &SessionId, now: SystemTime) -> Code {
        let grant = Grant {
            host: self.host.clone(),
            binding: self.binding,
            to: self.to.clone(),
            at: seconds(now),
            sign_in: sign_in.to_cookie(),
        };
        let secret = random();
        let hash = sha256(&secret);
        let sealed = ring.seal(Purpose::Code, &hash, &secret, &text(&grant));
        Code { code: URL_SAFE_NO_PAD.encode(secret), hash, sealed }
    }
}

impl Code {
    /// The secret of a code and what it is filed under. `None`: it is no code.
    pub(super) fn parse(code: &str) -> Option<(Zeroizing<[u8; 32]>, [u8; 32])> {
        let secret = URL_SAFE_NO_PAD.decode(code).ok()?.try_into().ok()?;
        Some((Zeroizing::new(secret), sha256(&secret)))
    }
}

impl Grant {
    /// Opens what was filed under `hash`, for the browser that `binding` (its hash) binds on `host`. Its sign-in comes with it.
    ///
    /// # Errors
    /// Where it leads on this host, if only the binding is another one; nothing if there is more amiss.
    pub(super) fn open(
        ring: &KeyRing,
        (secret, hash): (&[u8; 32], &[u8; 32]),
        sealed: &[u8],
        (host, binding): (&str, [u8; 32]),
        now: SystemTime,
    ) -> Result<(Self, SessionId), Option<Return>> {
        let text = ring.open_sealed(Purpose::Code, hash, secret, sealed).map_err(|_| None)?;
        let grant = read::<Self>(&text).filter(|grant| grant.host == host && is_fresh(grant.at, CODE_LIFE, now));
        let grant = grant.ok_or(None)?;
        let sign_in = SessionId::from_cookie(&grant.sign_in).ok_or(None)?;
        match aws_lc_rs::constant_time::verify_slices_are_equal(&grant.binding, &binding) {
            Ok(()) => Ok((grant, sign_in)),
            Err(_) => Err(Some(grant.to)),
        }
    }
}

fn is_fresh(at: u64, life: Duration, now: SystemTime) -> bool {
    now.duration_since(time(at)).is_ok_and(|age| age <= life)
}

fn text(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(serde_json::to_vec(value).expect("bytes and strings are JSON"))
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "api.example.com";

    fn scene() -> (KeyRing, Hand, SystemTime) {
        let now = time(1_789_000_000);
        let to = Return::parse(Some("/a?b=%2F"), Some("tab"));
        (KeyRing::of(&[[3; 32]]), Hand::new(HOST, [7; 32], to, now), now)
    }

    #[test]
    fn a_hand_opens_for_ten_minutes() {
        let (ring, hand, now) = scene();
        let sealed = hand.seal(&ring);
        assert_eq!(Hand::open(&ring, &sealed, now + HAND_LIFE).expect("ours").host, HOST);
        assert!(Hand::open(&ring, &sealed, now + HAND_LIFE + Duration::from_secs(1)).is_none());
        assert!(Hand::open(&KeyRing::of(&[[4; 32]]), &sealed, now).is_none());
        assert!(Hand::open(&ring, &sealed[1..], now).is_none() && Hand::open(&ring, "", now).is_none());
    }

    /// S-38, S-44 on every host: a code is for one host, one browser and 30 s.
    #[test]
    fn s38_a_code_is_for_one_host_one_browser_and_half_a_minute() {
        let (ring, hand, now) = scene();
        let sign_in = SessionId::new();
        let code = hand.answer(&ring, &sign_in, now);
        let (secret, hash) = Code::parse(&code.code).expect("a code");
        assert_eq!(hash, code.hash);
        let open = |place, now| Grant::open(&ring, (&secret, &hash), &code.sealed, place, now);
        let (grant, found) = open((HOST, [7; 32]), now + CODE_LIFE).expect("good");
        assert_eq!((grant.to.as_str(), found), ("/a?b=%2F#tab", sign_in));
        let elsewhere = open((HOST, [8; 32]), now).err().flatten().expect("another browser");
        assert_eq!(elsewhere.as_str(), "/a?b=%2F#tab");
        let late = now + CODE_LIFE + Duration::from_secs(1);
        for (place, now) in [(("portal.example.com", [7; 32]), now), ((HOST, [7; 32]), late)] {
            assert!(open(place, now).is_err_and(|to| to.is_none()), "another host, or too late");
        }
        let other = hand.answer(&ring, &SessionId::new(), now);
        assert!(Grant::open(&ring, (&secret, &hash), &other.sealed, (HOST, [7; 32]), now).is_err(), "another code's");
        assert!(!String::from_utf8_lossy(&code.sealed).contains(HOST), "sealed");
    }
}
