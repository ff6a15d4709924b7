//! The keys that sign what we tell upstreams about a caller, and the document that publishes them.

use super::identity::Shown;
use crate::{
    principal::{Asker, Job},
    route::Route,
};
use arc_swap::ArcSwap;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde::Serialize;
use serde_json::json;
use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an assertion is good.
pub const LIFE: Duration = Duration::from_secs(60);
/// How long a key is published before it signs: those who verify may keep the document that long.
pub const NOTICE: Duration = Duration::from_secs(600);

/// How long after a key has signed for the last time its document may still be asked for: the life of what it signed, and as
/// long as those who verify may keep the document.
pub const AFTERLIFE: Duration = Duration::from_secs(LIFE.as_secs() + NOTICE.as_secs());

/// The ES256 keys that sign assertions. One signs, all are published.
pub struct AssertionKeys {
    directory: PathBuf,
    set: ArcSwap<Set>,
}

struct Set {
    keys: Vec<Key>, // the oldest first
    jwks: Bytes,
}

/// What may be told of an assertion key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct About {
    /// `kid`.
    pub id: String,
    /// When it was made.
    pub created: SystemTime,
    /// It is the one that signs.
    pub signs: bool,
}

struct Key {
    id: String,
    created: SystemTime,
    signer: EncodingKey,
}

/// What an assertion says.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: u64,
    exp: u64,
    jti: String,
    aud: &'a str,
    sub: String,
    principal_type: &'static str,
    provider: &'a str,
    login: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [&'a str]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    groups_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backstage_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobClaims<'a>>,
}

/// What an assertion says of a CI job, in GitLab's own names.
#[derive(Serialize)]
struct JobClaims<'a> {
    /// Who started it.
    user: String,
    project_id: u64,
    project_path: &'a str,
    /// The project that runs it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_project_id: Option<u64>,
    pipeline_id: u64,
    job_id: u64,
    #[serde(rename = "ref")]
    git_ref: &'a str,
    ref_protected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<&'a str>,
    sha: &'a str,
}

impl<'a> JobClaims<'a> {
    fn of(job: &'a Job) -> Self {
        Self {
            user: job.person.id.to_string(),
            project_id: job.project_id,
            project_path: &job.project_path,
            job_project_id: job.job_project_id,
            pipeline_id: job.pipeline_id,
            job_id: job.job_id,
            git_ref: &job.git_ref,
            ref_protected: job.ref_protected,
            environment: job.environment.as_deref(),
            sha: &job.sha,
        }
    }
}

/// What an assertion says beside who it is.
#[derive(Default)]
pub(super) struct Says<'a> {
    /// The groups that the upstream is told of.
    pub(super) shown: Option<&'a Shown<'a>>,
    /// Hash of the session's handle.
    pub(super) session: Option<&'a str>,
    /// The entity of Backstage's catalog.
    pub(super) backstage_user: Option<&'a str>,
}

impl AssertionKeys {
    /// Reads `<kid>.pem` files (PKCS #8, P-256) in `directory`; where there is none yet, makes the first.
    ///
    /// A name such as `1790000000-5f2c9a` tells when the key was made; of other names the file's time is taken.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn load(directory: &Path, now: SystemTime) -> Result<Self, String> {
        let mut found = read_all(directory)?;
        if found.is_empty() {
            add(directory, now)?;
            found = read_all(directory)?;
        }
        Ok(Self { directory: directory.to_owned(), set: ArcSwap::from_pointee(Set::of(found)) })
    }

    /// Reads the files anew. True if there are others. What is wrong leaves all as it is.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub fn refresh(&self) -> Result<bool, String> {
        let found = read_all(&self.directory)?;
        if found.is_empty() {
            return Err(format!("no `*.pem` is left in `{}`", self.directory.display()));
        }
        let set = Set::of(found);
        let changed = set.jwks != self.set.load().jwks;
        if changed {
            self.set.store(Arc::new(set));
        }
        Ok(changed)
    }

    /// What may be told of its keys at `now`, the oldest first.
    pub fn about(&self, now: SystemTime) -> Vec<About> {
        self.set.load().about(now)
    }

    /// The public keys, as `application/jwk-set+json` (RFC 7517, section 5).
    pub fn jwks(&self) -> Bytes {
        self.set.load().jwks.clone()
    }

    /// Signs what `person` is for `route`: a JWT of type `vestibule+jwt`, good for [`LIFE`] from `now`.
    ///
    /// # Errors
    /// One line, if the key cannot sign.
    pub(super) fn sign(
        &self,
        issuer: &str,
        asker: &Asker,
        says: &Says<'_>,
        route: &Route,
        now: SystemTime,
    ) -> Result<String, String> {
        let set = self.set.load();
        let key = set.signing(now).ok_or("there is no assertion key")?;
        let id = asker.id().ok_or("nobody is told of nobody")?;
        let (kind, login, email, job) = match asker {
            Asker::Nobody => return Err("nobody is told of nobody".to_owned()),
            Asker::Person(person) => ("user", &*person.login, person.email.as_deref(), None),
            Asker::Job(job) => ("job", &*job.person.login, None, Some(JobClaims::of(job))),
            Asker::Service(service) => ("service", &*service.client_id, None, None),
        };
        let provider = asker.provider().unwrap_or_default();
        let iat = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let claims = Claims {
            iss: issuer,
            iat,
            exp: iat + LIFE.as_secs(),
            jti: crate::text::hex(&random::<16>()?),
            aud: &route.audience,
            sub: format!("{kind}:{id}"),
            principal_type: kind,
            provider,
            login,
            email,
            groups: says.shown.map(|shown| &*shown.groups),
            groups_truncated: says.shown.is_some_and(|shown| shown.truncated),
            sid: says.session,
            backstage_user: says.backstage_user,
            job,
        };
        let header =
            Header { typ: Some("vestibule+jwt".into()), kid: Some(key.id.clone()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &key.signer)
            .map_err(|error| format!("cannot sign an assertion: {error}"))
    }
}

impl Set {
    fn of(mut found: Vec<(Key, serde_json::Value)>) -> Self {
        found.sort_by(|(one, _), (other, _)| (one.created, &one.id).cmp(&(other.created, &other.id)));
        let published: Vec<_> = found.iter().map(|(_, public)| public).collect();
        let jwks = Bytes::from(json!({ "keys": published }).to_string());
        Self { keys: found.into_iter().map(|(key, _)| key).collect(), jwks }
    }

    fn about(&self, now: SystemTime) -> Vec<About> {
        let signing = self.signing(now).map(|key| &key.id);
        let about = self.keys.iter().map(|key| About {
            id: key.id.clone(),
            created: key.created,
            signs: signing == Some(&key.id),
        });
        about.collect()
    }

    /// The newest key that has been published for [`NOTICE`], else the oldest.
    fn signing(&self, now: SystemTime) -> Option<&Key> {
        let announced = |key: &&Key| now.duration_since(key.created).is_ok_and(|age| age >= NOTICE);
        self.keys.iter().rev().find(announced).or(self.keys.first())
    }
}

/// What may be told of the keys in a directory, as [`AssertionKeys::about`] has it. Makes none: there may be none.
///
/// # Errors
/// One line that names the file and what is wrong with it.
pub fn look(directory: &Path, now: SystemTime) -> Result<Vec<About>, String> {
    Ok(Set::of(read_all(directory)?).about(now))
}

/// Every key in the directory, with its public half as a JWK.
fn read_all(directory: &Path) -> Result<Vec<(Key, serde_json::Value)>, String> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => {
            let advice = crate::text::advice(error.kind(), "keys");
            return Err(format!("cannot read assertion keys in `{}`: {error}: {advice}", directory.display()));
        }
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("cannot read `{}`: {error}", directory.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "pem") {
            keys.push(read(&path).map_err(|error| format!("assertion key `{}` {error}", path.display()))?);
        }
    }
    Ok(keys)
}

fn read(path: &Path) -> Result<(Key, serde_json::Value), String> {
    let id = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
    if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        return Err("has a name that is no key id: expected letters, digits, `-` and `_`, at most 64".into());
    }
    let metadata = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err("is open to everybody on this machine: make it mode 0600".into());
    }
    let created = match id.split_once('-').and_then(|(seconds, _)| seconds.parse::<u32>().ok()) {
        Some(seconds) => UNIX_EPOCH + Duration::from_secs(seconds.into()),
        None => metadata.modified().map_err(|error| format!("has no time: {error}"))?,
    };
    let der = PrivatePkcs8KeyDer::from_pem_file(path).map_err(|error| format!("is not PKCS #8 in PEM: {error}"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
        .map_err(|_| "is not a P-256 key in PKCS #8")?;
    let signer = EncodingKey::from_ec_der(der.secret_pkcs8_der());
    let [_, x, y] = coordinates(pair.public_key().as_ref()).ok_or("has no uncompressed public key")?;
    let jwk = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y });
    Ok((Key { id, created, signer }, jwk))
}

/// Form, x and y of an uncompressed point (SEC 1, section 2.3.3), each in base64url.
fn coordinates(point: &[u8]) -> Option<[String; 3]> {
    let (form, rest) = point.split_first_chunk::<1>().filter(|(form, rest)| **form == [4] && rest.len() == 64)?;
    let (x, y) = rest.split_at(32);
    Some([form, x, y].map(|bytes| general_purpose::URL_SAFE_NO_PAD.encode(bytes)))
}

/// Makes a key and leaves it in the directory, whole or not at all; its `kid`. It signs once it has been published for
/// [`NOTICE`].
///
/// # Errors
/// One line that names the directory.
pub fn add(directory: &Path, now: SystemTime) -> Result<String, String> {
    let fail =
        |error: &dyn std::fmt::Display| format!("cannot make an assertion key in `{}`: {error}", directory.display());
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .map_err(|error| fail(&error))?;
    let pair =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).map_err(|error| fail(&error))?;
    let thumb = digest(&SHA256, pair.public_key().as_ref());
    let taken: Vec<_> = read_all(directory)?.into_iter().map(|(key, _)| key.created).collect();
    let mut seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    while taken.contains(&(UNIX_EPOCH + Duration::from_secs(seconds))) {
        seconds += 1; // of two keys of one second nobody could tell which is the new one
    }
    let name = format!("{seconds}-{}", crate::text::hex(&thumb.as_ref()[..8]));
    let write = || -> std::io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let draft = directory.join(format!("{name}.new"));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(pem(document.as_ref()).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, directory.join(format!("{name}.pem")))?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(|error| format!("{}: {}", fail(&error), crate::text::advice(error.kind(), "keys")))?;
    Ok(name)
}

/// Deletes a key: what it signed is not believed any more.
///
/// # Errors
/// One line that names the file.
pub fn remove(directory: &Path, id: &str) -> Result<(), String> {
    let path = directory.join(format!("{id}.pem"));
    fs::remove_file(&path).map_err(|error| format!("cannot delete `{}`: {error}", path.display()))
}

fn pem(der: &[u8]) -> String {
    let text = general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + "-----END PRIVATE KEY-----\n"
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::tests::{person, route};
    use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn kid(keys: &AssertionKeys, now: SystemTime) -> String {
        keys.set.load().signing(now).expect("a key").id.clone()
    }

    #[test]
    fn verifies_with_the_published_keys() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys/assertion");
        let now = SystemTime::now();
        let keys = AssertionKeys::load(&path, now).expect("made");
        let shown = Shown { groups: vec!["acme/größe", "acme/a,b"], truncated: false };
        let says = Says { shown: Some(&shown), session: Some("s1"), backstage_user: Some("user:default/x") };
        let token =
            keys.sign("https://p.test", &Asker::Person(person().into()), &says, &route("u:1"), now).expect("signed");
        let header = jsonwebtoken::decode_header(&token).expect("a header");
        assert_eq!(header.typ.as_deref(), Some("vestibule+jwt"));
        let set: JwkSet = serde_json::from_slice(&keys.jwks()).expect("a key set");
        let jwk = set.find(header.kid.as_deref().expect("a kid")).expect("published");
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_audience(&["portal"]);
        rules.set_issuer(&["https://p.test"]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_jwk(jwk).expect("a key");
        let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).expect("valid").claims;
        assert_eq!(claims["sub"], "user:gitlab:907");
        assert_eq!(claims["groups"], json!(["acme/größe", "acme/a,b"]));
        assert_eq!(claims["exp"].as_u64().expect("exp") - claims["iat"].as_u64().expect("iat"), 60);
        assert_eq!((&claims["principal_type"], &claims["sid"]), (&json!("user"), &json!("s1")));
        assert_eq!(claims["backstage_user"], "user:default/x");
        rules.set_audience(&["another"]);
        assert!(jsonwebtoken::decode::<serde_json::Value>(&token, &key, &rules).is_err());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        let file = path.join(format!("{}.pem", header.kid.expect("a kid")));
        assert_eq!((mode(&path), mode(&file)), (0o700, 0o600));
    }

    #[test]
    fn publishes_a_key_ten_minutes_before_it_signs() {
        let directory = tempfile::tempdir().expect("a directory");
        add(directory.path(), at(1_000)).expect("made");
        let first = AssertionKeys::load(directory.path(), at(1_000)).expect("loads");
        let old = kid(&first, at(1_000));
        add(directory.path(), at(5_000)).expect("made");
        let both = AssertionKeys::load(directory.path(), at(5_000)).expect("loads");
        assert_eq!(kid(&both, at(5_000)), old);
        assert_eq!(kid(&both, at(5_599)), old);
        assert_ne!(kid(&both, at(5_600)), old);
        let set: JwkSet = serde_json::from_slice(&both.jwks()).expect("a key set");
        assert_eq!(set.keys.len(), 2);
    }

    /// Keys that are made in one second have an order all the same: the first signs on, however the names sort.
    #[test]
    fn s11_keys_of_one_second_are_in_the_order_of_their_making() {
        for _ in 0..8 {
            let directory = tempfile::tempdir().expect("a directory");
            let made: Vec<_> = (0..3).map(|_| add(directory.path(), at(1_000)).expect("made")).collect();
            let keys = AssertionKeys::load(directory.path(), at(1_000)).expect("loads");
            assert_eq!(keys.about(at(1_000)).into_iter().map(|key| key.id).collect::<Vec<_>>(), made);
            assert_eq!(kid(&keys, at(1_000)), made[0]);
        }
    }

    /// A running process takes a new key up, and a bad one leaves all as it is.
    #[test]
    fn new_keys_are_taken_up_and_bad_ones_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = AssertionKeys::load(directory.path(), at(1_000)).expect("made");
        assert!(!keys.refresh().expect("read"));
        let id = add(directory.path(), at(5_000)).expect("made");
        assert!(keys.refresh().expect("read"));
        assert_eq!(keys.about(at(5_599)).iter().map(|key| key.signs).collect::<Vec<_>>(), [true, false]);
        assert_eq!(keys.about(at(5_600)).iter().map(|key| key.signs).collect::<Vec<_>>(), [false, true]);
        fs::write(directory.path().join("bad.pem"), "nothing").expect("written");
        assert!(keys.refresh().is_err());
        assert_eq!(keys.about(at(5_600)).len(), 2);
        fs::remove_file(directory.path().join("bad.pem")).expect("removed");
        let first = keys.about(at(5_600))[0].id.clone();
        remove(directory.path(), &first).expect("removed");
        assert!(keys.refresh().expect("read"));
        assert_eq!(keys.about(at(5_600)).iter().map(|key| key.id.clone()).collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn refuses_a_file_that_is_no_key_or_open_to_all() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("k1.pem");
        fs::write(&file, "nothing").expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
        let error = AssertionKeys::load(directory.path(), at(0)).err().expect("refused");
        assert!(error.contains("k1.pem` is not PKCS #8 in PEM"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("set");
        let error = AssertionKeys::load(directory.path(), at(0)).err().expect("refused");
        assert!(error.ends_with("is open to everybody on this machine: make it mode 0600"), "{error}");
    }
}
