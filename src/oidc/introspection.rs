//! Tokens that say nothing by themselves: the issuer is asked about each, and its answer is good for a short while.

use super::{
    checks::{Check, TokenFault, Trial, Way},
    claims::Claims,
    flow::basic,
    http::READ,
    issuer::Issuer,
    jws::strict_object,
    token,
};
use crate::{
    config::{GitlabCi, Introspection, TokenKind},
    principal::{Bearer, Verified},
};
use http::{Request, StatusCode, header};
use moka::future::Cache;
use openidconnect::HttpRequest;
use secrecy::{ExposeSecret, SecretString};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::Semaphore;
use url::form_urlencoded;

/// How long an answer is good: whoever loses a token, or whose job ends, is out after that.
pub const GOOD: Duration = Duration::from_secs(30);
/// Answers that are kept.
const KEPT: u64 = 20_000;
/// So many questions are under way at once.
const AT_ONCE: usize = 64;
/// So many wait for their turn or are under way; one more is told at once that nobody can say.
const WAITING: usize = 256;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the issuer was asked lately.
pub(super) struct Asked {
    answers: Cache<[u8; 32], Result<Arc<Bearer>, TokenFault>>,
    turns: Semaphore,
    /// Those that are under way, and those that wait for their turn.
    waiting: Semaphore,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            answers: Cache::builder().max_capacity(KEPT).time_to_live(GOOD).build(),
            turns: Semaphore::new(AT_ONCE),
            waiting: Semaphore::new(WAITING),
        }
    }
}

impl Issuer {
    /// Asks the issuer about an opaque token, or takes its answer of at most 30 s ago. Those who ask about the same token at
    /// once share one question.
    ///
    /// # Errors
    /// Any [`TokenFault`].
    ///
    /// Source: RFC 7662, section 2; GitLab's `GET /job` for old-style job tokens.
    pub async fn ask(&self, token: &SecretString) -> Result<Arc<Bearer>, TokenFault> {
        let hash = token::hash(token.expose_secret());
        let over = |bearer: &Bearer| bearer.ends.is_some_and(|ends| ends <= SystemTime::now());
        if matches!(self.asked.answers.get(&hash).await, Some(Ok(bearer)) if over(&bearer)) {
            self.asked.answers.invalidate(&hash).await;
        }
        let answer = self.asked.answers.get_with(hash, async { self.question(token).await.map(Arc::new) }).await;
        if matches!(answer, Err(TokenFault::Unavailable { .. })) {
            self.asked.answers.invalidate(&hash).await; // it may answer the next
        }
        answer
    }

    async fn question(&self, token: &SecretString) -> Result<Bearer, TokenFault> {
        let (text, way) = (token.expose_secret(), self.way(token.expose_secret()));
        let trial = Trial::begin(way, &self.settings, text, SystemTime::now());
        let mut trial = trial.map_err(|failed| self.bad(failed))?;
        let Ok(_waits) = self.asked.waiting.try_acquire() else {
            return Err(self.unavailable("too many questions wait for its answers"));
        };
        let turn = tokio::time::timeout(PATIENCE, self.asked.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(self.unavailable("it does not answer the questions before")) };
        let answer = self.answered(way, token).await?;
        let bearer = trial.by_answer(answer, SystemTime::now()).map_err(|failed| self.bad(failed))?;
        Ok(Bearer { token: Some(token.clone()), by: Verified { issuer: self.number, keys: 0 }, ..bearer })
    }

    /// What the issuer answers when it is asked about a credential; nothing if it knows no such.
    pub(super) async fn answered(&self, way: Way, token: &SecretString) -> Result<Claims, TokenFault> {
        match (&self.settings.kind, way) {
            (TokenKind::Introspection(asked), Way::Introspected) => self.introspected(asked, token).await,
            (TokenKind::GitlabCi(ci), Way::JobToken) => self.job_of(ci, token).await,
            _ => Err(self.bad((Check::Class, "it is none that is asked about".to_owned()))),
        }
    }

    async fn introspected(&self, asked: &Introspection, token: &SecretString) -> Result<Claims, TokenFault> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token.expose_secret())
            .append_pair("token_type_hint", "access_token")
            .finish();
        let request = Request::post(asked.endpoint.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::AUTHORIZATION, basic(&asked.client_id, asked.client_secret.expose_secret()))
            .body(form.into_bytes());
        let (_, body) = self.answer(request, &[]).await?;
        strict_object(&body).map_err(|cause| self.unavailable(cause))
    }

    /// The job that an old-style job token is of. It says less than an ID token: nothing of protection and environment, and
    /// of its project only the number.
    async fn job_of(&self, ci: &GitlabCi, token: &SecretString) -> Result<Claims, TokenFault> {
        let request = Request::get(format!("{}/job", ci.api))
            .header(header::ACCEPT, "application/json")
            .header("job-token", token.expose_secret())
            .body(Vec::new());
        match self.answer(request, &[StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND]).await? {
            (StatusCode::OK, body) => strict_object(&body).map_err(|cause| self.unavailable(cause)),
            _ => Ok(Claims::new()),
        }
    }

    /// The answer's status and body, where the status is 200 or one of `others`.
    async fn answer(
        &self,
        request: Result<HttpRequest, http::Error>,
        others: &[StatusCode],
    ) -> Result<(StatusCode, Vec<u8>), TokenFault> {
        let request = request.map_err(|_| self.bad((Check::Form, "it cannot be sent in a header".to_owned())))?;
        let answer = self.http.send(request, READ).await.map_err(|cause| self.unavailable(cause.to_string()))?;
        match answer.status() {
            status if status == StatusCode::OK || others.contains(&status) => Ok((status, answer.into_body())),
            status => Err(self.unavailable(format!("it answered {status}, expected 200"))),
        }
    }
}
