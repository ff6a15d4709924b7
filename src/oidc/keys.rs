//! A provider's signing keys: ours to fetch, to keep and to give up.

use super::jws::LONGEST_KID;
use crate::{config::ALGORITHMS, principal::Name};
use arc_swap::ArcSwapOption;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, jwk::Jwk};
use serde_json::{Map, Value};
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::Mutex;

/// How often keys are read unasked. With the time of one read this is below 10 min, so that a key which the provider
/// has removed stops working within 10 min.
pub(super) const REFRESH: Duration = Duration::from_secs(9 * 60);
/// How long the last good keys and discovery document serve while the provider is down.
pub(super) const LAST_GOOD: Duration = Duration::from_secs(24 * 3600);
/// Between two reads that tokens cause.
const FORCED: Duration = Duration::from_secs(30);

const MOST_KEYS: usize = 100;
const SHORTEST_RSA: usize = 2048 / 8;

/// The usable keys of one answer.
#[derive(Debug)]
pub(super) struct KeySet {
    /// The answer itself, to be kept on disk.
    pub(super) published: Map<String, Value>,
    /// When it was read.
    pub(super) read: SystemTime,
    /// Counts how often other keys came, so that what was verified by those of before is verified anew.
    pub(super) generation: u64,
}

impl KeySet {
    /// Takes the usable keys out of a JWKS document: asymmetric, for signatures, of a type and algorithm we know.
    /// Others are skipped with a warning.
    ///
    /// # Errors
    /// What is wrong, if not one key is usable.
    ///
    /// Source: RFC 7517, section 5.
    pub(super) fn parse(published: Map<String, Value>, read: SystemTime, provider: &Name) -> Result<Self, String> {
        let Some(Value::Array(keys)) = published.get("keys") else {
            return Err("its key set has no array `keys`".to_owned());
        };
        if keys.len() > MOST_KEYS {
            return Err(format!("its key set has {} keys, {MOST_KEYS} are allowed", keys.len()));
        }
        let mut usable = 0;
        for (position, key) in keys.iter().enumerate() {
            match check(key) {
                Ok(()) => usable += 1,
                // to be expected: many publish keys for encryption beside those that sign
                Err(NOT_SIGNING) => tracing::debug!(%provider, position, "key skipped: {NOT_SIGNING}"),
                Err(cause) => tracing::warn!(%provider, position, "key skipped: {cause}"),
            }
        }
        if usable == 0 {
            return Err("its key set has no usable key".to_owned());
        }
        Ok(Self { published, read, generation: 0 })
    }

    /// The usable keys, as they were published.
    pub(super) fn signing(&self) -> impl Iterator<Item = &Value> {
        let keys = self.published.get("keys").and_then(Value::as_array);
        keys.into_iter().flatten().filter(|key| check(key).is_ok())
    }

    /// Young enough to be believed at `now`.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        now.duration_since(self.read).map_or(true, |age| age <= LAST_GOOD)
    }
}

const NOT_SIGNING: &str = "`use` is not `sig`";

fn check(key: &Value) -> Result<(), &'static str> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let absent_or = |name: &str, fits: &dyn Fn(&str) -> bool| match key.get(name) {
        None | Some(Value::Null) => true,
        Some(value) => value.as_str().is_some_and(fits),
    };
    match text("kty") {
        Some("RSA") if text("n").map_or(0, modulus_length) < SHORTEST_RSA => return Err("RSA below 2048 bits"),
        Some("RSA" | "EC" | "OKP") => {}
        Some("oct") => return Err("`kty` is `oct`, a shared secret"),
        _ => return Err("unknown `kty`"),
    }
    if !absent_or("use", &|word| word == "sig") {
        return Err(NOT_SIGNING);
    }
    if !absent_or("alg", &|name| ALGORITHMS.contains(&name)) {
        return Err("`alg` is none that we accept");
    }
    if !absent_or("kid", &|kid| kid.len() <= LONGEST_KID) {
        return Err("`kid` is no string of at most 256 bytes");
    }
    // The error would repeat the key.
    let key: Jwk = serde_json::from_value(key.clone()).map_err(|_| "malformed")?;
    DecodingKey::from_jwk(&key).map(drop).map_err(|_| "malformed")
}

fn modulus_length(n: &str) -> usize {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(n).unwrap_or_default();
    bytes.iter().skip_while(|byte| **byte == 0).count()
}

/// The keys in use, and who may fetch others.
#[derive(Default)]
pub(super) struct Keys {
    current: ArcSwapOption<KeySet>,
    /// When a token last caused a read. Whoever holds it is reading, and the others wait for the result.
    forced: Mutex<Option<Instant>>,
    /// When a token last caused the first read.
    first: Mutex<Option<Instant>>,
}

impl Keys {
    /// The keys in use, however old.
    pub(super) fn current(&self) -> Option<Arc<KeySet>> {
        self.current.load_full()
    }

    /// Takes a newer set into use.
    pub(super) fn replace(&self, set: KeySet) -> Arc<KeySet> {
        let generation = match self.current() {
            Some(before) if before.published == set.published => before.generation,
            before => before.map_or(0, |before| before.generation) + 1,
        };
        let set = Arc::new(KeySet { generation, ..set });
        self.current.store(Some(Arc::clone(&set)));
        set
    }

    /// The first keys, where there are none yet: those that somebody has read meanwhile, or else what `read` brings. `None` if a
    /// token caused a read, good or bad, in the last 30 s.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn first<E>(
        &self,
        read: impl Future<Output = Result<Arc<KeySet>, E>>,
    ) -> Result<Option<Arc<KeySet>>, E> {
        let mut first = self.first.lock().await;
        if let Some(current) = self.current() {
            return Ok(Some(current));
        }
        if first.is_some_and(|last| last.elapsed() < FORCED) {
            return Ok(None);
        }
        *first = Some(Instant::now());
        read.await.map(Some)
    }

    /// Newer keys than `seen`, which do not fit a token: those that somebody has read meanwhile, or else what `read`
    /// brings. `None` if a token caused a read, good or bad, in the last 30 s.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn newer<E>(
        &self,
        seen: &Arc<KeySet>,
        read: impl Future<Output = Result<Arc<KeySet>, E>>,
    ) -> Result<Option<Arc<KeySet>>, E> {
        let mut forced = self.forced.lock().await;
        if let Some(current) = self.current().filter(|current| !Arc::ptr_eq(current, seen)) {
            return Ok(Some(current));
        }
        if forced.is_some_and(|last| last.elapsed() < FORCED) {
            return Ok(None);
        }
        *forced = Some(Instant::now());
        read.await.map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn name() -> Name {
        "gitlab".parse().expect("a name")
    }

    fn rsa(bytes: usize) -> Value {
        json!({"kty": "RSA", "kid": "a", "use": "sig", "alg": "RS256", "e": "AQAB", "n": BASE64_URL_SAFE_NO_PAD.encode(vec![0xab; bytes])})
    }

    fn set(keys: Vec<Value>) -> Result<KeySet, String> {
        let Value::Object(published) = json!({ "keys": keys }) else { unreachable!("an object") };
        KeySet::parse(published, SystemTime::now(), &name())
    }

    fn with(member: &str, value: Value) -> Value {
        let mut key = rsa(256);
        key[member] = value;
        key
    }

    #[test]
    fn only_asymmetric_signing_keys_are_used() {
        let bad = vec![
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "XYZ"}),
            json!({"n": "AQAB"}),
            json!("key"),
            rsa(128),
            with("use", json!("enc")),
            with("alg", json!("HS256")),
            with("alg", json!(["RS256"])),
            with("kid", json!(7)),
            with("e", Value::Null),
        ];
        for key in &bad[..9] {
            assert!(set(vec![key.clone()]).is_err(), "{key}");
        }
        let mixed = set([bad, vec![rsa(256)]].concat()).expect("one is good");
        assert_eq!(mixed.signing().count(), 1);
    }

    #[test]
    fn keys_serve_for_a_day_and_then_fail_closed() {
        let keys = set(vec![rsa(256)]).expect("good");
        assert!(keys.is_fresh(keys.read + LAST_GOOD));
        assert!(!keys.is_fresh(keys.read + LAST_GOOD + Duration::from_secs(1)));
    }

    /// However many tokens name unknown keys, one read serves them all, and the next is 30 s later.
    #[tokio::test]
    async fn a_thousand_waiters_share_one_read() {
        let keys = Arc::new(Keys::default());
        let seen = keys.replace(set(vec![rsa(256)]).expect("good"));
        let reads = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let (keys, seen, reads) = (Arc::clone(&keys), Arc::clone(&seen), Arc::clone(&reads));
                tokio::spawn(async move {
                    let read = async {
                        reads.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        Ok::<_, &str>(keys.replace(set(vec![rsa(256)]).expect("good")))
                    };
                    keys.newer(&seen, read).await.expect("read").is_some()
                })
            })
            .collect();
        for task in tasks {
            assert!(task.await.expect("no panic"));
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        let current = keys.current().expect("present");
        let none = keys.newer(&current, async { Err("within 30 s") }).await;
        assert!(none.expect("no error").is_none());
    }

    /// An attempt that failed counts too, or a provider in trouble would be asked for each token.
    #[tokio::test]
    async fn failed_reads_count() {
        let keys = Keys::default();
        let seen = keys.replace(set(vec![rsa(256)]).expect("good"));
        assert!(keys.newer(&seen, async { Err("down") }).await.is_err());
        assert!(keys.newer(&seen, async { Err("down") }).await.expect("not asked").is_none());
    }
}
