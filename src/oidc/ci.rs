//! The ID tokens of GitLab's CI jobs: what tells them from those of people, and what they say.
//!
//! GitLab signs both with the same keys under one issuer, and a job's author chooses the audience.

use super::{
    claims::{self, Claims, printable},
    jws::Unverified,
};
use crate::{
    config::{GitlabCi, TokenIssuerSettings, TokenKind},
    group::GroupPath,
    principal::{Job, Person, UserId},
};
use serde_json::Value;
use std::sync::Arc;

/// Claims that every job's token has, and no person's.
const OF_JOBS: [&str; 5] = ["job_id", "pipeline_id", "project_id", "ref_path", "runner_id"];
/// Claims that a person's token may have, and no job's.
const OF_PEOPLE: [&str; 3] = ["nonce", "auth_time", "sub_legacy"];
/// Sources of pipelines that run in the project that their source is from, whatever GitLab's version.
const OWN_SOURCES: [&str; 5] = ["push", "schedule", "web", "api", "trigger"];

const LONGEST: usize = 1024;

/// Tells a job's token from a person's.
pub(super) fn check_class(token: &Unverified) -> Result<(), String> {
    match token.header.get("typ").map(Value::as_str) {
        None => {}
        Some(Some(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
        Some(typ) => {
            return Err(format!("its `typ` is `{}`, expected `JWT`", printable(typ.unwrap_or("(no text)"), 64)));
        }
    }
    if let Some(claim) = OF_JOBS.into_iter().find(|claim| !token.claims.contains_key(*claim)) {
        return Err(format!("it has no `{claim}`, so it is no CI job's"));
    }
    if let Some(claim) = OF_PEOPLE.into_iter().find(|claim| token.claims.contains_key(*claim)) {
        return Err(format!("it has `{claim}`, so it is of a person's sign-in and no CI job's"));
    }
    let subject = token.claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.contains(':') { Ok(()) } else { Err("its `sub` is none of a CI job".to_owned()) }
}

/// The job that a token speaks for.
///
/// # Errors
/// The claim that is not as GitLab writes it.
pub(super) fn job(settings: &TokenIssuerSettings, ci: &GitlabCi, claims: &Claims) -> Result<Job, String> {
    let read = Read { claims };
    let (project_id, project_path) = (read.number("project_id")?, read.text("project_path")?);
    let job_project_id = read.given("job_project_id").map(|_| read.number("job_project_id")).transpose()?;
    let pipeline_source = read.text("pipeline_source")?;
    let place = Place { id: project_id, path: &project_path, runs_in: job_project_id, source: &pipeline_source };
    let job_id = read.number("job_id")?;
    Ok(Job {
        id: UserId { provider: settings.name.clone(), subject: job_id.to_string().into() },
        namespace: settings.namespace().clone(),
        person: Arc::new(read.person(settings)?),
        job_id,
        pipeline_id: read.number("pipeline_id")?,
        project: place.project(ci),
        renamed: place.is_another(ci),
        project_id,
        project_path,
        job_project_id,
        git_ref: read.text("ref")?,
        ref_type: read.text("ref_type")?,
        ref_protected: read.truth("ref_protected")?,
        pipeline_source,
        runner_id: read.number("runner_id")?,
        runner_environment: read.text("runner_environment")?,
        sha: read.text("sha")?,
        environment: read.optional("environment")?,
        environment_protected: read
            .given("environment_protected")
            .map(|_| read.truth("environment_protected"))
            .transpose()?,
        deployment_tier: read.optional("deployment_tier")?,
        environment_action: read.optional("environment_action")?,
        ci_config_ref_uri: read.optional("ci_config_ref_uri")?,
    })
}

/// The job that a token with these claims would speak for. There is no token and nothing is verified; the person behind it is
/// left open.
///
/// # Errors
/// The claim that is not as GitLab writes it, or that the issuer does not vouch for jobs.
pub fn described(settings: &TokenIssuerSettings, claims: &Claims) -> Result<Job, String> {
    let TokenKind::GitlabCi(ci) = &settings.kind else { return Err("its issuer does not vouch for jobs".to_owned()) };
    let mut claims = claims.clone();
    claims.insert("user_id".to_owned(), "0".into());
    job(settings, ci, &claims)
}

/// The job that GitLab names when it is asked whose an old-style job token is. Nobody says whether its ref is protected.
///
/// # Errors
/// What the answer lacks, or that it is of nobody who may act.
pub(super) fn answered(settings: &TokenIssuerSettings, ci: &GitlabCi, claims: &Claims) -> Result<Job, String> {
    let part = |name: &str| match claims.get(name) {
        Some(Value::Object(part)) => Ok(part),
        _ => Err(format!("GitLab's answer has no `{name}`")),
    };
    let (job, user, pipeline) = (Read { claims }, Read { claims: part("user")? }, Read { claims: part("pipeline")? });
    if &*job.text("status")? != "running" || user.given("state").and_then(Value::as_str) != Some("active") {
        return Err("the job does not run, or its person is not active".to_owned());
    }
    let (project_id, source, subject) = (pipeline.number("project_id")?, pipeline.text("source")?, user.number("id")?);
    let named = ci.projects.iter().find(|(_, id)| **id == project_id).map(|(path, _)| path.to_string());
    let path = named.unwrap_or_default();
    // what runs for a merge request may be a stranger's, and GitLab does not say whose here
    let ours = GitlabCi { legacy_project: true, ..ci.clone() };
    let place = Place { id: project_id, path: &path, runs_in: None, source: &source };
    let subject = subject.to_string();
    let job_id = job.number("id")?;
    Ok(Job {
        id: UserId { provider: settings.name.clone(), subject: job_id.to_string().into() },
        namespace: settings.namespace().clone(),
        person: Arc::new(Person {
            id: settings.user(&subject),
            issuer: settings.issuer.as_deref().unwrap_or_default().into(),
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

/// Where a job's source is from, and where it runs.
struct Place<'a> {
    id: u64,
    path: &'a str,
    runs_in: Option<u64>,
    source: &'a str,
}

impl Place<'_> {
    /// The project that the job is in. In the pipeline of a merge request from a fork that is nowhere: the fork's own job would
    /// be where it is written, and the target's would run what a stranger wrote. Where GitLab does not say where the job runs,
    /// absence is no equality.
    fn project(&self, ci: &GitlabCi) -> Option<GroupPath> {
        let at_home = match self.runs_in {
            Some(runs_in) => runs_in == self.id,
            None => ci.legacy_project && OWN_SOURCES.contains(&self.source),
        };
        let path = self.path.parse().ok().filter(|_| at_home)?;
        (!self.is_another(ci)).then_some(path)
    }

    /// The path is configured with the id of another project: this one took the path over, or it was deleted and made anew.
    fn is_another(&self, ci: &GitlabCi) -> bool {
        let known = self.path.parse::<GroupPath>().ok().and_then(|path| ci.projects.get(&path).copied());
        known.is_some_and(|known| known != self.id)
    }
}

/// Reads claims as GitLab writes them: numbers and truth values as texts, most of the time.
struct Read<'a> {
    claims: &'a Claims,
}

impl Read<'_> {
    fn given(&self, claim: &str) -> Option<&Value> {
        self.claims.get(claim).filter(|value| !value.is_null())
    }

    fn number(&self, claim: &str) -> Result<u64, String> {
        let found = match self.given(claim) {
            Some(Value::String(text)) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok()
            }
            Some(Value::Number(number)) => number.as_u64(),
            _ => None,
        };
        // Cedar's numbers have a sign
        found.filter(|number| i64::try_from(*number).is_ok()).ok_or_else(|| format!("its `{claim}` is no number"))
    }

    fn truth(&self, claim: &str) -> Result<bool, String> {
        match self.given(claim) {
            Some(Value::Bool(is)) => Ok(*is),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            _ => Err(format!("its `{claim}` is neither `true` nor `false`")),
        }
    }

    fn text(&self, claim: &str) -> Result<Arc<str>, String> {
        self.optional(claim)?.ok_or_else(|| format!("it has no `{claim}`"))
    }

    fn optional(&self, claim: &str) -> Result<Option<Arc<str>>, String> {
        match self.given(claim) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= LONGEST && !text.chars().any(char::is_control) => {
                Ok(Some(text.as_str().into()))
            }
            Some(_) => Err(format!("its `{claim}` is no text of one line with at most {LONGEST} bytes")),
        }
    }

    /// Who started the job. The e-mail address is as the person wrote it, so it proves nothing.
    fn person(&self, settings: &TokenIssuerSettings) -> Result<Person, String> {
        let number = self.number("user_id")?.to_string();
        Ok(Person {
            login: claims::text(self.claims, "user_login").unwrap_or_else(|| number.as_str().into()),
            id: settings.user(&number),
            issuer: settings.issuer.as_deref().unwrap_or_default().into(),
            email: None,
            name: None,
        })
    }
}
