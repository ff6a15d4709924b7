//! Tokens that say nothing by themselves: the issuer is asked about each, and its answer is good for a short while.

use super::{
    ci::{Place, Read},
    claims::Claims,
    flow::basic,
    http::READ,
    issuer::Issuer,
    jws::strict_object,
    token::{self, Check, Proof, TokenFault},
};
use crate::{
    config::{GitlabCi, Introspection, TokenKind},
    principal::{Bearer, Holder, Job, Membership, Person, Unknown, UserId, Verified},
};
use http::{Request, StatusCode, header};
use moka::future::Cache;
use openidconnect::HttpRequest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
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
        let answer = self.asked.answers.get_with(hash, async { self.question(token, hash).await.map(Arc::new) }).await;
        if matches!(answer, Err(TokenFault::Unavailable { .. })) {
            self.asked.answers.invalidate(&hash).await; // it may answer the next
        }
        answer
    }

    async fn question(&self, token: &SecretString, hash: [u8; 32]) -> Result<Bearer, TokenFault> {
        let text = token.expose_secret();
        if text.len() > super::jws::LONGEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.bad(Check::Form, "it is too long, or not of printable ASCII characters"));
        }
        let Ok(_waits) = self.asked.waiting.try_acquire() else {
            return Err(self.unavailable("too many questions wait for its answers"));
        };
        let turn = tokio::time::timeout(PATIENCE, self.asked.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(self.unavailable("it does not answer the questions before")) };
        match &self.settings.kind {
            TokenKind::Introspection(asked) => self.introspected(asked, token).await,
            TokenKind::GitlabCi(ci) => self.job_of(ci, token, hash).await,
            TokenKind::Jwt(_) | TokenKind::Certificate => Err(self.bad(Check::Class, "it is none that is asked about")),
        }
    }

    async fn introspected(&self, asked: &Introspection, token: &SecretString) -> Result<Bearer, TokenFault> {
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
        let claims = strict_object(&body).map_err(|cause| self.unavailable(cause))?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(self.bad(Check::Active, "the issuer says that it is not active"));
        }
        let kind = claims.get("token_type").and_then(Value::as_str);
        let is_access =
            ["Bearer", "access_token"].into_iter().any(|it| kind.is_none_or(|kind| kind.eq_ignore_ascii_case(it)));
        if !is_access {
            return Err(self.bad(Check::Class, "the issuer says that it is of another `token_type` than `Bearer`"));
        }
        token::check_kind(&claims, false).map_err(|cause| self.bad(Check::Class, cause))?;
        let now = SystemTime::now();
        let ends = self.judged(&claims, now).map_err(|(check, cause)| self.bad(check, cause))?;
        let by = Verified { issuer: self.number, keys: 0 };
        let proof = Proof { settings: &self.settings, claims: &claims, token, by, ends, now };
        proof.bearer().map_err(|cause| self.bad(Check::Claims, cause))
    }

    /// An answer is judged like a token, but that its times may be missing: then it is good for as long as answers are.
    ///
    /// Source: RFC 7662, section 2.2.
    fn judged(&self, claims: &Claims, now: SystemTime) -> Result<SystemTime, (Check, String)> {
        let issuer = claims.get("iss").and_then(Value::as_str);
        if let (Some(expected), Some(found)) = (&self.settings.issuer, issuer)
            && found != expected
        {
            return Err((Check::Issuer, format!("its `iss` is another than `{expected}`")));
        }
        token::check_audience(&self.settings, claims).map_err(|cause| (Check::Audience, cause))?;
        let mut timed = claims.clone();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        timed.entry("iat").or_insert_with(|| seconds.into());
        timed.entry("exp").or_insert_with(|| (seconds + GOOD.as_secs()).into());
        token::check_times(&self.settings, &timed, now).map(|ends| ends.min(now + GOOD))
    }

    /// The job that an old-style job token is of. It says less than an ID token: nothing of protection and environment, and
    /// of its project only the number.
    async fn job_of(&self, ci: &GitlabCi, token: &SecretString, hash: [u8; 32]) -> Result<Bearer, TokenFault> {
        let request = Request::get(format!("{}/job", ci.api))
            .header(header::ACCEPT, "application/json")
            .header("job-token", token.expose_secret())
            .body(Vec::new());
        let (status, body) = self.answer(request, &[StatusCode::UNAUTHORIZED, StatusCode::NOT_FOUND]).await?;
        if status != StatusCode::OK {
            return Err(self.bad(Check::Active, "GitLab knows no running job with this token"));
        }
        let job = strict_object(&body).map_err(|cause| self.unavailable(cause))?;
        let job = self.old_job(ci, &job).map_err(|cause| self.bad(Check::Claims, cause))?;
        Ok(Bearer {
            issuer: self.settings.name.clone(),
            holder: Holder::Job(Arc::new(job)),
            membership: Membership::Unknown(Unknown::NeverRead),
            hash,
            name: crate::text::hex(&hash[..8]).into(),
            ends: Some(SystemTime::now() + GOOD),
            jti: None,
            token: Some(token.clone()),
            by: Verified { issuer: self.number, keys: 0 },
        })
    }

    fn old_job(&self, ci: &GitlabCi, claims: &Claims) -> Result<Job, String> {
        let part = |name: &str| match claims.get(name) {
            Some(Value::Object(part)) => Ok(part),
            _ => Err(format!("GitLab's answer has no `{name}`")),
        };
        let (job, user, pipeline) =
            (Read { claims }, Read { claims: part("user")? }, Read { claims: part("pipeline")? });
        if &*job.text("status")? != "running" || user.given("state").and_then(Value::as_str) != Some("active") {
            return Err("the job does not run, or its person is not active".to_owned());
        }
        let (project_id, source, subject) =
            (pipeline.number("project_id")?, pipeline.text("source")?, user.number("id")?);
        let named = ci.projects.iter().find(|(_, id)| **id == project_id).map(|(path, _)| path.to_string());
        let path = named.unwrap_or_default();
        // what runs for a merge request may be a stranger's, and GitLab does not say whose here
        let ours = GitlabCi { legacy_project: true, ..ci.clone() };
        let place = Place { id: project_id, path: &path, runs_in: None, source: &source };
        let subject = subject.to_string();
        let job_id = job.number("id")?;
        Ok(Job {
            id: UserId { provider: self.settings.name.clone(), subject: job_id.to_string().into() },
            namespace: self.settings.namespace().clone(),
            person: Arc::new(Person {
                id: self.settings.user(&subject),
                issuer: self.settings.issuer.as_deref().unwrap_or_default().into(),
                login: user.text("username")?,
                email: None,
                name: None,
            }),
            job_id,
            pipeline_id: pipeline.number("id")?,
            project_id,
            project: place.project(&ours),
            renamed: false,
            project_path: if path.is_empty() { project_id.to_string().into() } else { path.as_str().into() },
            job_project_id: place.project(&ours).map(|_| project_id),
            git_ref: job.text("ref")?,
            ref_type: if job.given("tag") == Some(&Value::Bool(true)) { "tag".into() } else { "branch".into() },
            ref_protected: false,
            pipeline_source: source.clone(),
            runner_id: match claims.get("runner") {
                Some(Value::Object(runner)) => Read { claims: runner }.number("id")?,
                _ => 0,
            },
            runner_environment: "unknown".into(),
            sha: pipeline.text("sha")?,
            environment: None,
            environment_protected: None,
            deployment_tier: None,
            environment_action: None,
            ci_config_ref_uri: None,
        })
    }

    /// The answer's status and body, where the status is 200 or one of `others`.
    async fn answer(
        &self,
        request: Result<HttpRequest, http::Error>,
        others: &[StatusCode],
    ) -> Result<(StatusCode, Vec<u8>), TokenFault> {
        let request = request.map_err(|_| self.bad(Check::Form, "it cannot be sent in a header"))?;
        let answer = self.http.send(request, READ).await.map_err(|cause| self.unavailable(cause.to_string()))?;
        match answer.status() {
            status if status == StatusCode::OK || others.contains(&status) => Ok((status, answer.into_body())),
            status => Err(self.unavailable(format!("it answered {status}, expected 200"))),
        }
    }
}
