//! One token issuer: its keys, and what its tokens prove.

use super::{
    Status,
    cache::CacheFile,
    checks::{Check, Failed, TokenFault, Trial, Way},
    discovery::{Backoff, is_acceptable},
    fresh::random,
    http::{Http, HttpError},
    jws::strict_object,
    keys::{self, KeySet, Keys},
    token::claimed,
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
    pub(super) cache: Option<CacheFile>,
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
        let cache = CacheFile::new(cache, &settings.name);
        Self::with(settings, Some(cache))
    }

    /// The same, which keeps nothing on disk and takes nothing from there.
    pub fn passing(settings: Arc<TokenIssuerSettings>) -> Arc<Self> {
        Self::with(settings, None)
    }

    fn with(settings: Arc<TokenIssuerSettings>, cache: Option<CacheFile>) -> Arc<Self> {
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
            cache,
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
        let keys = if self.asks_about(bearer) || !self.has_keys() { 0 } else { self.usable_keys(now).ok()?.generation };
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
        let cache = self.cache.as_ref().filter(|_| self.has_keys());
        if let Some((document, read, keys)) = cache.and_then(|cache| cache.load(now, wanted)) {
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
        if !self.has_keys() || self.has_fixed_keys() {
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

    /// The same, and keeps them on disk. That they cannot be written spoils only the next start.
    async fn read_keys(&self) -> Result<Arc<KeySet>, String> {
        let set = self.fetched().await?;
        let (Some(document), Some(cache)) = (self.document.load_full(), self.cache.clone()) else { return Ok(set) };
        let (kept, name) = (set.clone(), &self.settings.name);
        let written = tokio::task::spawn_blocking(move || cache.store(&*document, kept.read, &kept)).await;
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
        match self.keys.current() {
            Some(keys) if self.has_fixed_keys() || keys.is_fresh(now) => Ok(keys),
            Some(_) => Err(self.unavailable("its keys were last read more than 24 h ago")),
            None => Err(self.unavailable(match self.status().last_error {
                Some(cause) => format!("its keys are not read yet: {cause}"),
                None => "its keys are not read yet".to_owned(),
            })),
        }
    }

    /// Whether `bearer` is known by an answer, and by no signature.
    pub fn asks_about(&self, bearer: &Bearer) -> bool {
        bearer.token.as_ref().is_some_and(|token| self.way(token.expose_secret()) != Way::Signed)
    }

    /// How it is found out whether a credential of this issuer is good.
    pub fn way(&self, token: &str) -> Way {
        let is_opaque = self.settings.prefix().is_some_and(|prefix| token.starts_with(prefix));
        match &self.settings.kind {
            TokenKind::GitlabCi(_) if is_opaque => Way::JobToken,
            TokenKind::GitlabCi(_) | TokenKind::Jwt(_) => Way::Signed,
            TokenKind::Introspection(_) | TokenKind::Certificate => Way::Introspected,
        }
    }

    /// Verifies a signed token with the keys at hand. Nobody is asked.
    ///
    /// # Errors
    /// Any [`TokenFault`]; one of [`Check::Signature`] may be mended by newer keys: see [`Self::verify`].
    pub fn verify_at_hand(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenFault> {
        let mut trial = self.trial(token, now)?;
        let keys = self.usable_keys(now)?;
        let bearer = trial.by_keys(&keys).map_err(|failed| self.bad(failed))?;
        Ok(self.marked(bearer, token, &keys))
    }

    /// Verifies a signed token, by newer keys where those at hand do not fit: they are read at most every 30 s for all tokens
    /// together.
    ///
    /// # Errors
    /// Any [`TokenFault`].
    pub async fn verify(&self, token: &str, now: SystemTime) -> Result<Bearer, TokenFault> {
        let mut trial = self.trial(token, now)?;
        let seen = match self.usable_keys(now) {
            Ok(seen) => seen,
            Err(fault) => {
                let first = self.first_keys(now, fault).await?;
                return trial
                    .by_keys(&first)
                    .map(|it| self.marked(it, token, &first))
                    .map_err(|failed| self.bad(failed));
            }
        };
        let failed = match trial.by_keys(&seen) {
            Err(failed) if failed.0 == Check::Signature => failed,
            other => return other.map(|it| self.marked(it, token, &seen)).map_err(|failed| self.bad(failed)),
        };
        let newer = if self.has_fixed_keys() { None } else { self.newer(&seen).await? };
        let Some(newer) = newer else { return Err(self.bad(failed)) };
        trial.by_keys(&newer).map(|it| self.marked(it, token, &newer)).map_err(|failed| self.bad(failed))
    }

    /// Finds out whether a credential is good, whatever has to be read or asked for that.
    ///
    /// # Errors
    /// Any [`TokenFault`].
    pub async fn resolve(&self, token: &SecretString, now: SystemTime) -> Result<Arc<Bearer>, TokenFault> {
        match self.way(token.expose_secret()) {
            Way::Signed => self.verify(token.expose_secret(), now).await.map(Arc::new),
            Way::Introspected | Way::JobToken => self.ask(token).await,
        }
    }

    /// A signed token, past every check that needs no key.
    fn trial<'t>(&'t self, token: &'t str, now: SystemTime) -> Result<Trial<'t>, TokenFault> {
        Trial::begin(Way::Signed, &self.settings, token, now).map_err(|failed| self.bad(failed))
    }

    async fn newer(&self, seen: &Arc<KeySet>) -> Result<Option<Arc<KeySet>>, TokenFault> {
        self.keys.newer(seen, self.read_keys()).await.map_err(|cause| self.unavailable(cause))
    }

    /// There were no keys yet, which is the `fault`: the first may come now.
    async fn first_keys(&self, now: SystemTime, fault: TokenFault) -> Result<Arc<KeySet>, TokenFault> {
        let first = self.keys.first(self.read_keys()).await.map_err(|cause| self.unavailable(cause))?;
        first.filter(|keys| keys.is_fresh(now)).ok_or(fault)
    }

    pub(super) fn has_fixed_keys(&self) -> bool {
        matches!(self.settings.keys, KeySource::Fixed(_))
    }

    /// By what it was verified.
    fn marked(&self, bearer: Bearer, token: &str, keys: &KeySet) -> Bearer {
        let by = Verified { issuer: self.number, keys: keys.generation };
        Bearer { token: Some(SecretString::from(token)), by, ..bearer }
    }

    pub(super) fn bad(&self, (check, cause): Failed) -> TokenFault {
        TokenFault::Bad { issuer: self.settings.name.clone(), check, cause }
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> TokenFault {
        TokenFault::Unavailable { issuer: self.settings.name.clone(), cause: cause.into() }
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Which of these issuers a token claims to be of: by how it begins, or by `iss`; of several with the same `iss`, the one that
/// it is for.
pub fn issuer_of<'i>(token: &str, issuers: &'i [Arc<Issuer>]) -> Option<&'i Arc<Issuer>> {
    let begins = |issuer: &&Arc<Issuer>| issuer.settings.prefix().is_some_and(|prefix| token.starts_with(prefix));
    if let Some(found) = issuers.iter().find(begins) {
        return Some(found);
    }
    let whose = claimed(token)?;
    let of = || issuers.iter().filter(|issuer| issuer.settings.issuer.as_deref() == Some(&*whose.issuer));
    let is_for = |issuer: &&Arc<Issuer>| issuer.settings.audiences.iter().any(|one| whose.audiences.contains(one));
    of().find(is_for).or_else(|| of().next())
}
