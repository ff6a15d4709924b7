//! One token issuer: its keys, and what its tokens prove.

use super::{
    Status,
    cache::CacheFile,
    claims::printable,
    discovery::{Backoff, is_acceptable},
    fresh::random,
    http::{Http, HttpError},
    id_token::TokenError,
    jws::strict_object,
    keys::{self, KeySet, Keys},
    signature,
    token::{self, Check, Proof, Sound, TokenFault},
};
use crate::{
    config::{KeySource, TokenIssuerSettings, TokenKind},
    principal::{Bearer, Verified},
};
use arc_swap::ArcSwapOption;
use http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use url::Url;

const DOCUMENT_REFRESH: Duration = Duration::from_secs(3600);

/// One token issuer: what it published about itself, and its keys.
pub struct Issuer {
    /// Another for each configuration of an issuer in this process.
    pub(super) number: u64,
    /// As configured.
    pub settings: Arc<TokenIssuerSettings>,
    pub(super) http: Http,
    document: ArcSwapOption<Document>,
    keys: Keys,
    cache: CacheFile,
    status: Mutex<Status>,
    pub(super) asked: super::introspection::Asked,
}

/// What a token issuer publishes about itself; of its many members those we use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Document {
    issuer: String,
    jwks_uri: Url,
}

impl Document {
    /// Itself, if it is for `issuer`, byte for byte, and its keys are where nobody can change them on the way.
    fn checked(self, issuer: &str) -> Result<Self, String> {
        if self.issuer != issuer {
            let found: String = self.issuer.chars().filter(|c| !c.is_control()).take(200).collect();
            return Err(format!("its discovery document is for issuer `{found}`, expected `{issuer}`"));
        }
        let loopback = Url::parse(issuer).is_ok_and(|url| super::http::is_loopback(&url));
        match is_acceptable(&self.jwks_uri, loopback) {
            true => Ok(self),
            false => Err(format!("its `jwks_uri` is `{}`, expected an https URL", self.jwks_uri)),
        }
    }
}

impl Issuer {
    /// An issuer whose keys are not read yet. The last good ones, at most 24 h old, are read from `cache` and written there.
    pub fn new(settings: Arc<TokenIssuerSettings>, cache: &Path) -> Arc<Self> {
        let first = match (&settings.kind, &settings.keys) {
            (TokenKind::Introspection(asked), _) => asked.endpoint.as_str(),
            (_, KeySource::Uri(uri)) => uri.as_str(),
            _ => settings.issuer.as_deref().unwrap_or_default(),
        };
        let first = first.to_owned();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let issuer = Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            http: Http::new(&first),
            document: ArcSwapOption::empty(),
            keys: Keys::default(),
            cache: CacheFile::new(cache, &settings.name),
            status: Mutex::default(),
            asked: super::introspection::Asked::default(),
            settings,
        };
        issuer.http.allow(issuer.places().iter().chain(Url::parse(first.as_str()).ok().iter()));
        issuer.recall(SystemTime::now());
        Arc::new(issuer)
    }

    /// The issuer signs its tokens, so that it has keys.
    pub fn has_keys(&self) -> bool {
        matches!(self.settings.kind, TokenKind::GitlabCi(_) | TokenKind::Jwt(_))
    }

    /// It has to be asked about this token, which says nothing by itself.
    pub fn asks_about(&self, token: &str) -> bool {
        self.settings.prefix().is_some_and(|prefix| token.starts_with(prefix)) || !self.has_keys()
    }

    /// It vouches for clients by certificates, which listeners verify.
    pub fn takes_certificates(&self) -> bool {
        matches!(self.settings.kind, TokenKind::Certificate)
    }

    /// How it stands with its keys.
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its keys can be used, or it needs none.
    pub fn ready(&self, now: SystemTime) -> bool {
        !self.has_keys() || self.usable_keys(now).is_ok()
    }

    /// By what `bearer` would be verified now; `None` while it has no keys that may be used.
    pub fn verifies_by(&self, bearer: &Bearer, now: SystemTime) -> Option<Verified> {
        let asked = bearer.token.as_ref().is_some_and(|token| self.asks_about(token.expose_secret()));
        let keys = if asked || !self.has_keys() { 0 } else { self.usable_keys(now).ok()?.generation };
        Some(Verified { issuer: self.number, keys })
    }

    /// What is there from an earlier process, or stands in the configuration.
    fn recall(&self, now: SystemTime) {
        if let KeySource::Fixed(published) = &self.settings.keys {
            match KeySet::parse(published.clone(), now, &self.settings.name) {
                Ok(keys) => drop(self.keys.replace(keys)),
                Err(cause) => self.note(|status| status.last_error = Some(cause)),
            }
            return;
        }
        let wanted = |it: Document| self.wanted(it).ok();
        if let Some((document, read, keys)) = self.cache.load(now, wanted).filter(|_| self.has_keys()) {
            self.note(|status| (status.discovered, status.keys_read) = (Some(read), Some(keys.read)));
            self.adopt(document);
            self.keys.replace(keys);
        }
    }

    /// A kept document, if it is the one that is configured.
    fn wanted(&self, document: Document) -> Result<Document, String> {
        match &self.settings.keys {
            KeySource::Uri(uri) if document.jwks_uri != *uri => Err("its keys are elsewhere now".to_owned()),
            KeySource::Uri(_) | KeySource::Fixed(_) => Ok(document),
            KeySource::Discovery => document.checked(self.settings.issuer.as_deref().unwrap_or_default()),
        }
    }

    /// Reads where its keys are every hour, and the keys every 9 min, with back-off. Never returns; runs on the control plane.
    pub async fn keep_fresh(self: Arc<Self>) {
        if !self.has_keys() || matches!(self.settings.keys, KeySource::Fixed(_)) {
            return std::future::pending().await;
        }
        let (mut backoff, mut discovered) = (Backoff::default(), None::<Instant>);
        loop {
            let due = discovered.is_none_or(|at| at.elapsed() >= DOCUMENT_REFRESH);
            let read = async {
                if due {
                    self.discover().await?;
                }
                self.read_keys().await
            };
            let result = read.await;
            self.note(|status| status.last_error = result.as_ref().err().cloned());
            match result {
                Ok(_) => {
                    if due {
                        discovered = Some(Instant::now());
                    }
                    backoff.reset();
                    tokio::time::sleep(keys::REFRESH).await;
                }
                Err(cause) => {
                    let pause = backoff.after_failure(random());
                    tracing::warn!(token_issuer = %self.settings.name, retry_ms = pause.as_millis(), "{cause}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Finds out where its keys are.
    async fn discover(&self) -> Result<(), String> {
        let issuer = self.settings.issuer.clone().unwrap_or_default();
        let document = match &self.settings.keys {
            KeySource::Uri(uri) => Document { issuer, jwks_uri: uri.clone() },
            KeySource::Fixed(_) => return Ok(()),
            KeySource::Discovery => {
                let url = super::discovery::Document::url(&issuer).map_err(|_| "its issuer is no URL".to_owned())?;
                let members = strict_object(&self.published(&url).await?)?;
                let document: Document = serde_json::from_value(members.into())
                    .map_err(|cause| format!("its discovery document is unacceptable: {cause}"))?;
                document.checked(&issuer)?
            }
        };
        self.note(|status| status.discovered = Some(SystemTime::now()));
        self.adopt(document);
        Ok(())
    }

    /// Where it is asked beside where its keys are.
    fn places(&self) -> Vec<Url> {
        let api = match &self.settings.kind {
            TokenKind::GitlabCi(ci) => Some(&*ci.api),
            TokenKind::Introspection(asked) => Some(asked.endpoint.as_str()),
            TokenKind::Jwt(_) | TokenKind::Certificate => None,
        };
        let all = self.settings.issuer.as_deref().into_iter().chain(api);
        all.filter_map(|place| Url::parse(place).ok()).collect()
    }

    fn adopt(&self, document: Document) {
        self.http.allow(self.places().iter().chain([&document.jwks_uri]));
        self.document.store(Some(Arc::new(document)));
    }

    /// Reads the keys and takes them into use.
    pub(super) async fn fetched(&self) -> Result<Arc<KeySet>, String> {
        if self.document.load().is_none() {
            self.discover().await?;
        }
        let document = self.document.load_full().ok_or("it is not discovered yet")?;
        let body = self.published(&document.jwks_uri).await?;
        let read = SystemTime::now();
        let set = strict_object(&body).and_then(|published| KeySet::parse(published, read, &self.settings.name));
        let set = self.keys.replace(set.map_err(|cause| format!("keys: {cause}"))?);
        self.note(|status| status.keys_read = Some(read));
        Ok(set)
    }

    /// The same, and keeps them on disk.
    async fn read_keys(&self) -> Result<Arc<KeySet>, String> {
        let set = self.fetched().await?;
        let (Some(document), read) = (self.document.load_full(), set.read) else { return Ok(set) };
        let (cache, kept, name) = (self.cache.clone(), set.clone(), self.settings.name.clone());
        let written = tokio::task::spawn_blocking(move || cache.store(&*document, read, &kept)).await;
        if let Ok(Err(cause)) = written {
            tracing::warn!(token_issuer = %name, "cannot keep the keys for the next start: {cause}");
        }
        Ok(set)
    }

    async fn published(&self, url: &Url) -> Result<Vec<u8>, String> {
        let answer = self.http.get(url, None).await.map_err(|cause: HttpError| cause.to_string())?;
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status if status.is_redirection() => Err(format!("`{url}` answered {status}; redirects are not followed")),
            status => Err(format!("`{url}` answered {status}, expected 200")),
        }
    }

    pub(super) fn usable_keys(&self, now: SystemTime) -> Result<Arc<KeySet>, TokenFault> {
        let fixed = matches!(self.settings.keys, KeySource::Fixed(_));
        match self.keys.current() {
            Some(keys) if fixed || keys.is_fresh(now) => Ok(keys),
            Some(_) => Err(self.unavailable("its keys were last read more than 24 h ago")),
            None => Err(self.unavailable(match self.status().last_error {
                Some(cause) => format!("its keys are not read yet: {cause}"),
                None => "its keys are not read yet".to_owned(),
            })),
        }
    }

    /// Verifies a token with the keys at hand. Nobody is asked.
    ///
    /// # Errors
    /// Any [`TokenFault`]; one of [`Check::Signature`] may be mended by newer keys: see [`Self::verify`].
    pub fn verify_at_hand(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenFault> {
        let sound = token::sound(&self.settings, token, now).map_err(|(check, cause)| self.bad(check, cause))?;
        let keys = self.usable_keys(now)?;
        self.signed(token, &sound, &keys).map_err(|cause| self.bad(Check::Signature, cause))?;
        self.proved(token, &sound, &keys, now)
    }

    /// Verifies a token, by newer keys where those at hand do not fit: they are read at most every 30 s for all tokens together.
    ///
    /// # Errors
    /// Any [`TokenFault`].
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenFault> {
        let sound = token::sound(&self.settings, token, now).map_err(|(check, cause)| self.bad(check, cause))?;
        let seen = match self.usable_keys(now) {
            Ok(seen) => seen,
            Err(fault) => return self.by_first_keys(token, &sound, now, fault).await,
        };
        let Err(cause) = self.signed(token, &sound, &seen) else { return self.proved(token, &sound, &seen, now) };
        let fixed = matches!(self.settings.keys, KeySource::Fixed(_));
        let newer = if fixed { None } else { self.newer(&seen).await? };
        let Some(newer) = newer else { return Err(self.bad(Check::Signature, cause)) };
        self.signed(token, &sound, &newer).map_err(|cause| self.bad(Check::Signature, cause))?;
        self.proved(token, &sound, &newer, now)
    }

    /// Finds out whether a token is good, whatever has to be read or asked for that.
    ///
    /// # Errors
    /// Any [`TokenFault`].
    pub async fn resolve(&self, token: &SecretString, asks: bool, now: SystemTime) -> Result<Arc<Bearer>, TokenFault> {
        if asks { self.ask(token).await } else { self.verify(token.expose_secret(), now).await.map(Arc::new) }
    }

    async fn newer(&self, seen: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, TokenFault> {
        self.keys.newer(seen, self.read_keys()).await.map_err(|cause| self.unavailable(cause))
    }

    /// There were no keys yet: the first may come now.
    async fn by_first_keys(
        &self,
        token: &str,
        sound: &Sound,
        now: SystemTime,
        fault: TokenFault,
    ) -> Result<Bearer, TokenFault> {
        let first = self.keys.first(self.read_keys()).await.map_err(|cause| self.unavailable(cause))?;
        let keys = first.filter(|keys| keys.is_fresh(now)).ok_or(fault)?;
        self.signed(token, sound, &keys).map_err(|cause| self.bad(Check::Signature, cause))?;
        self.proved(token, sound, &keys, now)
    }

    fn signed(&self, token: &str, sound: &Sound, keys: &KeySet) -> Result<(), String> {
        match signature::check(token, &sound.unverified, keys) {
            Ok(_) => Ok(()),
            Err(TokenError::Key(cause) | TokenError::Rule(cause) | TokenError::Outsider { cause, .. }) => {
                let kid = sound.unverified.header.get("kid").and_then(serde_json::Value::as_str);
                Err(kid.map_or_else(|| cause.clone(), |kid| format!("{cause} (`kid`: `{}`)", printable(kid, 64))))
            }
        }
    }

    fn proved(&self, token: &str, sound: &Sound, keys: &KeySet, now: SystemTime) -> Result<Bearer, TokenFault> {
        let (claims, ends, token) = (&sound.unverified.claims, sound.ends, &SecretString::from(token));
        let by = Verified { issuer: self.number, keys: keys.generation };
        let proof = Proof { settings: &self.settings, claims, token, by, ends, now };
        proof.bearer().map_err(|cause| self.bad(Check::Claims, cause))
    }

    pub(super) fn bad(&self, check: Check, cause: impl Into<String>) -> TokenFault {
        TokenFault::bad(&self.settings.name, check, cause)
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> TokenFault {
        TokenFault::unavailable(&self.settings.name, cause)
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
