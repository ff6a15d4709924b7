//! A session as it is stored: an index part under the key ring, a token part that also needs the handle.

use super::{
    KeyRing, SessionId, SessionKey,
    ring::{Purpose, RingError},
};
use crate::{
    group::GroupPath,
    oidc::{Access, Tokens},
    principal::{Person, Strength, UserId},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The format that this version writes; it reads the same.
const VERSION: u8 = 1;

/// What a session says: who, since when, until when.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its name.
    pub key: SessionKey,
    /// Who.
    pub person: Arc<Person>,
    /// The provider's session id (`sid`).
    pub sid: Option<String>,
    /// How and when they signed in.
    pub strength: Arc<Strength>,
    /// When it began.
    pub created: SystemTime,
    /// When it was last used, as far as written.
    pub seen: SystemTime,
    /// When it ends whatever happens.
    pub end: SystemTime,
    /// What the browser called itself at sign-in, cut to 200 characters.
    pub device: Option<String>,
    /// Names the browser that it began in, for as long as that is known: SHA-256 of what binds sign-ins there.
    pub browser: Option<[u8; 32]>,
    /// The host that its own handle is for; other hosts have handles of their own.
    pub host: Arc<str>,
    /// Its clocks ended it, which has been told; it is kept for `grace` only.
    pub lapsed: bool,
}

/// What a session may ask of the provider.
#[derive(Clone, Debug)]
pub struct Held {
    /// The tokens.
    pub tokens: Tokens,
    /// The groups of the ID token, kept where no refresh token can bring newer ones.
    pub groups: Option<Arc<[GroupPath]>>,
}

/// Why a stored session cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Written by a version that we do not know.
    #[error("session record has format {0}, expected {VERSION}")]
    Version(u8),
    /// Cut short.
    #[error("session record is cut short")]
    Short,
    /// Sealed by a key that is no longer in the ring, or damaged.
    #[error("session record does not open")]
    Sealed(#[from] RingError),
    /// Opened, and not what we wrote.
    #[error("session record cannot be read")]
    Content(#[from] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Index {
    provider: String,
    subject: String,
    issuer: String,
    login: String,
    email: Option<String>,
    name: Option<String>,
    sid: Option<String>,
    created: u64,
    seen: u64,
    end: u64,
    auth_time: Option<u64>,
    amr: Vec<String>,
    acr: Option<String>,
    device: Option<String>,
    #[serde(default)]
    browser: Option<[u8; 32]>,
    host: String,
    #[serde(default)]
    lapsed: bool,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    access: String,
    #[serde(default)]
    narrowed: bool,
    access_expires: u64,
    issued: u64,
    refresh: Option<String>,
    id: Option<String>,
    groups: Option<Vec<String>>,
}

/// Seals a session with its tokens.
pub fn seal(ring: &KeyRing, id: &SessionId, session: &Session, held: &Held) -> Vec<u8> {
    join(&seal_index(ring, session), &seal_tokens(ring, id, held))
}

/// Seals the index part anew and leaves the token part as it is.
///
/// # Errors
/// [`RecordError::Version`], [`RecordError::Short`].
pub fn reseal_index(ring: &KeyRing, session: &Session, record: &[u8]) -> Result<Vec<u8>, RecordError> {
    let (_, tokens) = split(record)?;
    Ok(join(&seal_index(ring, session), tokens))
}

/// Opens the index part.
///
/// # Errors
/// Any [`RecordError`].
pub fn open_index(ring: &KeyRing, key: &SessionKey, record: &[u8]) -> Result<Session, RecordError> {
    let (index, _) = split(record)?;
    let index: Index = serde_json::from_slice(&ring.open_sealed(Purpose::Index, &key.0, b"", index)?)?;
    index.session(*key)
}

/// Opens the token part, which only the holder of the handle can.
///
/// # Errors
/// Any [`RecordError`].
pub fn open_tokens(ring: &KeyRing, id: &SessionId, record: &[u8]) -> Result<Held, RecordError> {
    let (_, tokens) = split(record)?;
    let secrets: Secrets =
        serde_json::from_slice(&ring.open_sealed(Purpose::Tokens, &id.key().0, id.secret(), tokens)?)?;
    Ok(Held {
        tokens: Tokens {
            access: Access { token: SecretString::from(secrets.access), narrowed: secrets.narrowed },
            access_expires: time(secrets.access_expires),
            issued: time(secrets.issued),
            refresh: secrets.refresh.map(SecretString::from),
            id: secrets.id.map(SecretString::from),
        },
        groups: secrets.groups.map(|paths| paths.iter().filter_map(|path| path.parse().ok()).collect()),
    })
}

/// The ids of the ring's keys that a record needs.
pub fn keys(record: &[u8]) -> Vec<[u8; 4]> {
    let sealed = match split(record) {
        Ok((index, tokens)) => vec![index, tokens],
        Err(_) => record.get(1..).into_iter().collect(), // a further handle: one sealed part behind its kind
    };
    sealed.into_iter().filter_map(|sealed| sealed.first_chunk().copied()).collect()
}

/// Seconds since 1970; times before count as 0.
pub fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time that [`seconds`] gave.
pub fn time(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn seal_index(ring: &KeyRing, session: &Session) -> Vec<u8> {
    let text = serde_json::to_vec(&Index::from(session)).expect("strings and numbers are JSON");
    ring.seal(Purpose::Index, &session.key.0, b"", &text)
}

fn seal_tokens(ring: &KeyRing, id: &SessionId, held: &Held) -> Vec<u8> {
    let tokens = &held.tokens;
    let secret = |token: &SecretString| token.expose_secret().to_owned();
    let text = zeroize::Zeroizing::new(
        serde_json::to_vec(&Secrets {
            access: secret(&tokens.access.token),
            narrowed: tokens.access.narrowed,
            access_expires: seconds(tokens.access_expires),
            issued: seconds(tokens.issued),
            refresh: tokens.refresh.as_ref().map(secret),
            id: tokens.id.as_ref().map(secret),
            groups: held.groups.as_ref().map(|paths| paths.iter().map(ToString::to_string).collect()),
        })
        .expect("strings and numbers are JSON"),
    );
    ring.seal(Purpose::Tokens, &id.key().0, id.secret(), &text)
}

fn join(index: &[u8], tokens: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(5 + index.len() + tokens.len());
    record.push(VERSION);
    record.extend_from_slice(&u32::try_from(index.len()).expect("an index part is short").to_be_bytes());
    record.extend_from_slice(index);
    record.extend_from_slice(tokens);
    record
}

fn split(record: &[u8]) -> Result<(&[u8], &[u8]), RecordError> {
    let (version, rest) = record.split_first().ok_or(RecordError::Short)?;
    if *version != VERSION {
        return Err(RecordError::Version(*version));
    }
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(RecordError::Short)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(RecordError::Short)
}

impl From<&Session> for Index {
    fn from(session: &Session) -> Self {
        let person = &session.person;
        Self {
            provider: person.id.provider.to_string(),
            subject: person.id.subject.to_string(),
            issuer: person.issuer.to_string(),
            login: person.login.to_string(),
            email: person.email.as_deref().map(str::to_owned),
            name: person.name.as_deref().map(str::to_owned),
            sid: session.sid.clone(),
            created: seconds(session.created),
            seen: seconds(session.seen),
            end: seconds(session.end),
            auth_time: session.strength.auth_time.map(seconds),
            amr: session.strength.amr.to_vec(),
            acr: session.strength.acr.as_deref().map(str::to_owned),
            device: session.device.clone(),
            browser: session.browser,
            host: session.host.to_string(),
            lapsed: session.lapsed,
        }
    }
}

impl Index {
    fn session(self, key: SessionKey) -> Result<Session, RecordError> {
        let provider = self.provider.parse().map_err(|_| RecordError::Short)?;
        Ok(Session {
            key,
            person: Arc::new(Person {
                id: UserId { provider, subject: self.subject.into() },
                issuer: self.issuer.into(),
                login: self.login.into(),
                email: self.email.map(Into::into),
                name: self.name.map(Into::into),
            }),
            sid: self.sid,
            strength: Arc::new(Strength {
                created: Some(time(self.created)),
                auth_time: self.auth_time.map(time),
                amr: self.amr.into(),
                acr: self.acr.map(Into::into),
            }),
            created: time(self.created),
            seen: time(self.seen),
            end: time(self.end),
            device: self.device,
            browser: self.browser,
            host: self.host.into(),
            lapsed: self.lapsed,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample(id: &SessionId, now: SystemTime) -> (Session, Held) {
        let person = Person {
            id: UserId { provider: "gitlab".parse().expect("a name"), subject: "907".into() },
            issuer: "https://gitlab.example.com".into(),
            login: "iokafor".into(),
            email: None,
            name: Some("Inés".into()),
        };
        let session = Session {
            key: id.key(),
            person: Arc::new(person),
            sid: Some("sid-1".into()),
            strength: Arc::new(Strength { created: Some(now), ..Strength::default() }),
            created: now,
            seen: now,
            end: now + Duration::from_secs(3600),
            device: None,
            browser: None,
            host: "portal.example.com".into(),
            lapsed: false,
        };
        let tokens = Tokens {
            access: Access { token: "canary-access".to_owned().into(), narrowed: true },
            access_expires: now + Duration::from_secs(7200),
            issued: now,
            refresh: Some("canary-refresh".to_owned().into()),
            id: None,
        };
        (session, Held { tokens, groups: None })
    }

    #[test]
    fn a_record_opens_in_two_parts() {
        let (ring, id, now) = (KeyRing::of(&[[7; 32]]), SessionId::new(), time(1_789_000_000));
        let (session, held) = sample(&id, now);
        let record = seal(&ring, &id, &session, &held);
        let index = open_index(&ring, &id.key(), &record).expect("opens");
        assert_eq!(index.person, session.person);
        assert_eq!(index.end, session.end);
        let tokens = open_tokens(&ring, &id, &record).expect("opens").tokens;
        assert_eq!((tokens.access.token.expose_secret(), tokens.access.narrowed), ("canary-access", true));
    }

    /// S-56: the index part opens without the handle, the token part does not.
    #[test]
    fn s56_tokens_need_the_handle() {
        let (ring, id, now) = (KeyRing::of(&[[7; 32]]), SessionId::new(), time(1_789_000_000));
        let (session, held) = sample(&id, now);
        let record = seal(&ring, &id, &session, &held);
        assert!(open_index(&ring, &id.key(), &record).is_ok());
        assert!(open_tokens(&ring, &SessionId::new(), &record).is_err());
        let resealed = reseal_index(&ring, &session, &record).expect("whole");
        assert!(open_tokens(&ring, &id, &resealed).is_ok());
    }

    #[test]
    fn a_damaged_or_newer_record_is_an_error() {
        let (ring, id) = (KeyRing::of(&[[7; 32]]), SessionId::new());
        let (session, held) = sample(&id, time(1_789_000_000));
        let mut record = seal(&ring, &id, &session, &held);
        for cut in 0..record.len() {
            assert!(open_tokens(&ring, &id, &record[..cut]).is_err());
        }
        record[0] = 2;
        assert!(matches!(open_index(&ring, &id.key(), &record), Err(RecordError::Version(2))));
    }
}
