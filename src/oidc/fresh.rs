//! Reading what a provider publishes, again and again.

use super::{
    Provider, ProviderError, Status, clock,
    discovery::{Backoff, Document},
    http::HttpError,
    jws::strict_object,
    keys::{self, KeySet},
};
use http::StatusCode;
use openidconnect::HttpResponse;
use std::{
    sync::{Arc, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;
use url::Url;

const DOCUMENT_REFRESH: Duration = Duration::from_secs(3600);
/// Seconds of clock difference that are not worth a word.
pub(super) const TOLERABLE_CLOCK: i64 = 5;

/// When to read what again.
struct Due {
    document: Instant,
    keys: Instant,
}

impl Provider {
    /// Uses what an earlier process left in the cache.
    pub(super) fn recall(&self, now: SystemTime) {
        let issuer = self.settings.published_issuer();
        if let Some((document, read, keys)) = self.cache.load(now, |it: Document| it.checked(&issuer).ok()) {
            self.note(|status| (status.discovered, status.keys_read) = (Some(read), Some(keys.read)));
            self.adopt(document);
            self.keys.replace(keys);
        }
    }

    pub(super) async fn run(&self) {
        let mut due = Due { document: Instant::now(), keys: Instant::now() };
        let mut backoff = Backoff::default();
        loop {
            match self.read_due(&mut due).await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep_until(due.document.min(due.keys)).await;
                }
                Err(cause) => {
                    let pause = backoff.after_failure(random());
                    tracing::warn!(provider = %self.settings.name, retry_ms = pause.as_millis(), "{cause}");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Reads what is due. A document that cannot be read does not keep the keys from being read.
    async fn read_due(&self, due: &mut Due) -> Result<(), ProviderError> {
        let now = Instant::now();
        let document = if due.document <= now { self.read_document(due).await } else { Ok(()) };
        let keys = if due.keys <= now && self.document.load().is_some() {
            self.read_keys().await.map(|_| due.keys = Instant::now() + keys::REFRESH)
        } else {
            Ok(())
        };
        let result = document.and(keys);
        self.note(|status| status.last_error = result.as_ref().err().map(ToString::to_string));
        result
    }

    async fn read_document(&self, due: &mut Due) -> Result<(), ProviderError> {
        let url = Document::url(self.issuer()).map_err(|_| self.invalid("its issuer is no URL"))?;
        let body = self.published(&url).await?;
        let issuer = self.settings.published_issuer();
        let document = Document::parse(&body, &issuer).map_err(|cause| self.invalid(cause.to_string()))?;
        if self.document.load().as_ref().is_none_or(|before| before.jwks_uri != document.jwks_uri) {
            due.keys = Instant::now();
        }
        self.note(|status| status.discovered = Some(SystemTime::now()));
        self.adopt(document);
        due.document = Instant::now() + DOCUMENT_REFRESH;
        Ok(())
    }

    pub(super) fn adopt(&self, document: Document) {
        let issuer = Url::parse(self.issuer()).ok();
        let known = issuer.iter().chain(&self.settings.graph);
        self.http.allow(document.endpoints().map(|(_, url)| url).chain(known));
        self.document.store(Some(Arc::new(document)));
    }

    /// Reads the keys, takes them into use and keeps them on disk.
    pub(super) async fn read_keys(&self) -> Result<Arc<KeySet>, ProviderError> {
        let document = self.document()?;
        let body = self.published(&document.jwks_uri).await?;
        let read = SystemTime::now();
        let set = strict_object(&body)
            .and_then(|published| KeySet::parse(published, read, &self.settings.name))
            .map_err(|cause| self.invalid(format!("keys: {cause}")))?;
        let set = self.keys.replace(set);
        self.note(|status| status.keys_read = Some(read));
        self.changed.notify_waiters();
        self.keep(document, Arc::clone(&set)).await;
        Ok(set)
    }

    /// Writes the cache. That it cannot be written spoils only the next start.
    async fn keep(&self, document: Arc<Document>, keys: Arc<KeySet>) {
        let (cache, provider) = (self.cache.clone(), self.settings.name.clone());
        let read = self.status().discovered.unwrap_or(keys.read);
        let written = tokio::task::spawn_blocking(move || cache.store(&*document, read, &keys)).await;
        if let Ok(Err(cause)) = written {
            tracing::warn!(%provider, "cannot keep discovery document and keys for the next start: {cause}");
        }
    }

    pub(super) async fn published(&self, url: &Url) -> Result<Vec<u8>, ProviderError> {
        let answer = self.asked(url).await?;
        self.whole(url, answer)
    }

    /// What stands at `url`, whatever its status.
    pub(super) async fn asked(&self, url: &Url) -> Result<HttpResponse, ProviderError> {
        let answer = self.http.get(url, None).await.map_err(|cause| self.http_error(&cause))?;
        self.compare_clocks(clock::ahead(answer.headers(), SystemTime::now()));
        Ok(answer)
    }

    /// The body of what was published at `url`.
    pub(super) fn whole(&self, url: &Url, answer: HttpResponse) -> Result<Vec<u8>, ProviderError> {
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status if status.is_redirection() => {
                Err(self.invalid(format!("`{url}` answered {status}; redirects are not followed")))
            }
            status => Err(self.unavailable(format!("`{url}` answered {status}, expected 200"))),
        }
    }

    fn compare_clocks(&self, ahead: Option<i64>) {
        if let Some(seconds) = ahead.filter(|seconds| seconds.abs() > TOLERABLE_CLOCK) {
            tracing::warn!(provider = %self.settings.name, "the provider's clock is {seconds} s ahead of ours");
        }
        self.note(|status| status.clock_ahead = ahead);
    }

    /// The discovery document.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`] before discovery, with the cause of the last attempt.
    pub(super) fn document(&self) -> Result<Arc<Document>, ProviderError> {
        self.document.load_full().ok_or_else(|| match self.status().last_error {
            Some(cause) => self.unavailable(format!("it is not discovered yet: {cause}")),
            None => self.unavailable("it is not discovered yet"),
        })
    }

    /// The keys, unless they are too old to be believed.
    ///
    /// # Errors
    /// [`ProviderError::Unavailable`].
    pub(super) fn usable_keys(&self, now: SystemTime) -> Result<Arc<KeySet>, ProviderError> {
        match self.keys.current() {
            Some(keys) if keys.is_fresh(now) => Ok(keys),
            Some(_) => Err(self.unavailable("its keys were last read more than 24 h ago")),
            None => Err(self.unavailable("its keys are not read yet")),
        }
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(super) fn name(&self) -> String {
        self.settings.name.to_string()
    }

    pub(super) fn unavailable(&self, cause: impl Into<String>) -> ProviderError {
        ProviderError::Unavailable { provider: self.name(), cause: cause.into() }
    }

    pub(super) fn invalid(&self, cause: impl Into<String>) -> ProviderError {
        ProviderError::Invalid { provider: self.name(), cause: cause.into() }
    }

    pub(super) fn http_error(&self, cause: &HttpError) -> ProviderError {
        if cause.is_outage() { self.unavailable(cause.to_string()) } else { self.invalid(cause.to_string()) }
    }
}

/// Spreads the attempts of replicas that started together.
pub(super) fn random() -> u16 {
    let mut bytes = [0; 2];
    // Without randomness the pause is the shortest, which is harmless.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u16::from_le_bytes(bytes)
}
