//! Who asks when it is no person with a browser: CI jobs and services.

use super::{Membership, Name, Person, Principal, Strength, UserId};
use crate::group::GroupPath;
use secrecy::SecretString;
use std::{fmt, sync::Arc, time::SystemTime};

/// A CI job of GitLab. The claims have GitLab's own names.
///
/// Source: GitLab documentation, "OpenID Connect (OIDC) authentication using ID tokens".
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// The token issuer's name in the configuration, and the job's number: `ci:9900231`. Also the id of the Cedar entity `Job`.
    pub id: UserId,
    /// What the ids of its project and person begin with.
    pub namespace: Name,
    /// Who started it, or owns its schedule.
    pub person: Arc<Person>,
    /// The job's number.
    pub job_id: u64,
    /// The pipeline's number.
    pub pipeline_id: u64,
    /// The number of the project that the source is from: in the pipeline of a merge request from a fork that is the fork.
    pub project_id: u64,
    /// The path of that project; it may change, and pass to another project.
    pub project_path: Arc<str>,
    /// The number of the project that runs the job, where GitLab says it.
    pub job_project_id: Option<u64>,
    /// The project that the job is in: there, where it runs in the project that its source is from, and the path is that of
    /// the id which is configured, if one is.
    pub project: Option<GroupPath>,
    /// Its path is configured with the id of another project.
    pub renamed: bool,
    /// The branch or tag.
    pub git_ref: Arc<str>,
    /// `branch` or `tag`.
    pub ref_type: Arc<str>,
    /// The ref is protected.
    pub ref_protected: bool,
    /// What made the pipeline, such as `push` or `merge_request_event`.
    pub pipeline_source: Arc<str>,
    /// The runner's number.
    pub runner_id: u64,
    /// `gitlab-hosted` or `self-hosted`.
    pub runner_environment: Arc<str>,
    /// The commit.
    pub sha: Arc<str>,
    /// The environment that it deploys to.
    pub environment: Option<Arc<str>>,
    /// That environment is protected.
    pub environment_protected: Option<bool>,
    /// Its tier, such as `production`.
    pub deployment_tier: Option<Arc<str>>,
    /// What is done to it, such as `start`.
    pub environment_action: Option<Arc<str>>,
    /// Where the pipeline's configuration is from, where it is from the same project.
    pub ci_config_ref_uri: Option<Arc<str>>,
}

impl Job {
    /// The path of the source project, where it is another than the one that runs the job, or nobody says which that is.
    pub fn source_project(&self) -> Option<&str> {
        (self.job_project_id != Some(self.project_id) && self.project.is_none()).then_some(&*self.project_path)
    }

    /// The number of the project that runs it, as far as is known.
    pub fn runs_in(&self) -> u64 {
        self.job_project_id.unwrap_or(self.project_id)
    }
}

/// A machine with a token or a certificate of its own.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// The token issuer's name, and what it calls the service for ever. Also the id of the Cedar entity `Service`.
    pub id: UserId,
    /// `iss` of its token, or the issuer of its certificate.
    pub issuer: Arc<str>,
    /// The client that it is, as an OAuth server knows it; its subject where there is none.
    pub client_id: Arc<str>,
    /// The scopes of its token.
    pub scopes: Arc<[String]>,
}

/// What a token or a certificate proves that was verified.
#[derive(Clone, Debug)]
pub struct Bearer {
    /// Whose token it is: the issuer's name in the configuration.
    pub issuer: Name,
    /// Who has it.
    pub holder: Holder,
    /// What the token itself says of groups: those of the holder.
    pub membership: Membership,
    /// SHA-256 of the credential.
    pub hash: [u8; 32],
    /// What audit events and assertions call it; of no use as the credential.
    pub name: Arc<str>,
    /// When it is over: its `exp`, or the greatest age that it may have; none for a certificate, which ends with its connection.
    pub ends: Option<SystemTime>,
    /// The token itself, to be verified again while a stream lasts that it opened; none for a certificate.
    pub token: Option<SecretString>,
    /// By what it was verified: which issuer of this process, and which of its keys.
    pub by: Verified,
    /// `jti`, for routes where it is good for one request.
    pub jti: Option<Arc<str>>,
}

/// By what a token was verified. Another value now is a reason to verify it again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Verified {
    /// The issuer, as it was configured: each configuration of one has a number of its own.
    pub issuer: u64,
    /// How often its keys had changed.
    pub keys: u64,
}

impl Bearer {
    /// Who the holder is, with this `membership`: what the token says of groups, or what is known better.
    pub fn principal(&self, membership: Membership) -> Principal {
        match &self.holder {
            Holder::Person(person, strength) => {
                Principal::User { person: person.clone(), membership, strength: strength.clone() }
            }
            Holder::Job(job) => Principal::Job { job: job.clone(), membership },
            Holder::Service(service) => Principal::Service { service: service.clone(), membership },
        }
    }

    /// By what id a lock on the credential's own issuer, or on the one job, keeps it out.
    pub fn own_id(&self) -> UserId {
        let subject = match &self.holder {
            Holder::Person(person, _) => person.id.subject.clone(),
            Holder::Job(job) => job.id.subject.clone(),
            Holder::Service(service) => service.id.subject.clone(),
        };
        UserId { provider: self.issuer.clone(), subject }
    }
}

/// Who has a token.
#[derive(Clone, Debug)]
pub enum Holder {
    /// A person.
    Person(Arc<Person>, Arc<Strength>),
    /// A CI job.
    Job(Arc<Job>),
    /// A machine.
    Service(Arc<Service>),
}

/// Writes `job:ci:9900231`, `service:okta-api:0oa4f2` or `user:gitlab:907`.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(person, _) => write!(f, "user:{}", person.id),
            Self::Job(job) => write!(f, "job:{}", job.id),
            Self::Service(service) => write!(f, "service:{}", service.id),
        }
    }
}

impl Holder {
    /// The person whom locks and changes of membership are about: the one who has it, or the one behind the job.
    pub fn person(&self) -> Option<&Arc<Person>> {
        match self {
            Self::Person(person, _) => Some(person),
            Self::Job(job) => Some(&job.person),
            Self::Service(_) => None,
        }
    }

    /// By what name a lock keeps them out.
    pub fn user(&self) -> &UserId {
        match self {
            Self::Person(person, _) => &person.id,
            Self::Job(job) => &job.person.id,
            Self::Service(service) => &service.id,
        }
    }
}
