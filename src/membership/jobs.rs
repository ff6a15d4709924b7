//! Whether the job of a CI token still runs, for routes that ask.

use super::Memberships;
use crate::{
    gitlab::ApiError,
    identify::Caller,
    principal::{Holder, Job, UserId},
    refusal::{Reason, Refusal},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// How long an answer is good. With the time of one question this is below 30 s.
const GOOD: Duration = Duration::from_secs(20);

/// What GitLab said about one job.
#[derive(Default)]
pub(super) struct Run {
    said: Mutex<Option<(bool, SystemTime)>>,
    reading: super::flight::Flight,
}

impl Run {
    fn said(&self, now: SystemTime) -> Option<bool> {
        let said = *self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said? {
            (false, _) => Some(false), // a job that is over never runs again
            (true, at) => now.duration_since(at).is_ok_and(|age| age < GOOD).then_some(true),
        }
    }

    fn take(&self, runs: bool, asked: SystemTime) {
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some((runs, asked));
    }
}

impl Memberships {
    /// Refuses the token of a job that is over, where the route `asks` for jobs that run. GitLab is asked at most every 20 s for
    /// each job.
    ///
    /// # Errors
    /// `InvalidToken`; `ProviderUnavailable` where nobody can say.
    pub async fn still_runs(self: &Arc<Self>, caller: &Caller, asks: bool, now: SystemTime) -> Result<(), Refusal> {
        match caller {
            Caller::Token(bearer) if asks => match &bearer.holder {
                Holder::Job(job) => Box::pin(self.runs(job, now)).await,
                Holder::Person(..) | Holder::Service(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn runs(self: &Arc<Self>, job: &Arc<Job>, now: SystemTime) -> Result<(), Refusal> {
        let run = self.runs.get_with(job.id.clone(), Arc::default);
        let said = match run.said(now) {
            Some(said) => Ok(said),
            None => {
                let (this, job, run) = (self.clone(), job.clone(), run.clone());
                let asked = self.control.run(async move { this.ask_about(&job, &run).await });
                asked.await.unwrap_or_else(|| Err("the control plane stops".to_owned()))
            }
        };
        match said {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::new(Reason::InvalidToken, "The job of this token does not run any more.")
                .because(format!("job {} is over", job.id))),
            Err(cause) => Err(Refusal::new(
                Reason::ProviderUnavailable,
                "Whether the job of this token still runs cannot be looked up right now.",
            )
            .because(cause)),
        }
    }

    async fn ask_about(&self, job: &Job, run: &Run) -> Result<bool, String> {
        let provider = UserId { provider: job.namespace.clone(), subject: "".into() };
        let directory = self.directory(&provider).ok_or("there is no `membership.api` to ask GitLab by")?;
        let turn = run.reading.turn().await;
        let asked = SystemTime::now();
        let Some(turn) = turn else {
            return run.said(asked).ok_or_else(|| "the question before had no answer".to_owned());
        };
        turn.begin();
        match directory.api.job_runs(job.runs_in(), job.job_id).await {
            Ok(runs) => {
                run.take(runs, asked);
                Ok(runs)
            }
            Err(error @ (ApiError::Missing | ApiError::Token(_))) => {
                Err(format!("{error}: the token of `membership.api` has to see the project"))
            }
            Err(error) => Err(error.to_string()),
        }
    }
}
