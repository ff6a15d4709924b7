//! CI jobs, for the command line: `/demo/job?user=ben&ref=main&aud=…` is the ID token that such a job would have.
//!
//! GitLab makes it when the job begins, and puts it into the variable that `id_tokens` in `.gitlab-ci.yml` names. Nothing runs
//! jobs here, so whoever asks is given one.

use super::{Asked, Person, Provider, State, admin::nobody, hooks::uuid, members::group_id, seconds};
use crate::{
    body::Body,
    demo::{
        people::People,
        server::{Fields, text},
    },
    group::Role,
};
use http::{Response, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// The projects, with their ids, which are in this group.
const PROJECTS: [(&str, u32); 2] = [("acme/shop/api", 5120), ("acme/shop/web", 5121)];
const SHOP: &str = "acme/shop";
/// The groups that are invited to both, with the roles that their members have.
const INVITED: [&str; 2] = ["acme/payments", "acme/platform"];
/// The only branch that is protected, in every project but a fork.
const PROTECTED: &str = "main";
/// A project's timeout, unless it sets another: how long a job's token is good.
const LIFE: Duration = Duration::from_secs(60 * 60);

/// Where a job's source is from, and where it runs: two projects in the pipeline of a merge request from a fork.
struct Job<'a> {
    number: u32,
    source: Place,
    runs_in: Place,
    git_ref: &'a str,
    person: &'a Person,
    role: Role,
}

/// A project and what it is in.
#[derive(Clone)]
struct Place {
    id: u32,
    path: String,
    namespace_id: usize,
}

impl Provider {
    /// The ID token of a job that a person starts.
    pub(super) fn job(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let query = asked.query();
        let Some(audience) = query.get("aud") else {
            return text(StatusCode::BAD_REQUEST, "expected `aud`, which `id_tokens` in .gitlab-ci.yml would name\n");
        };
        match Job::start(&mut self.state(), &query).map(|job| self.key.sign(&self.job_claims(&job, audience, now))) {
            Ok(Ok(token)) => text(StatusCode::OK, format!("{token}\n")),
            Ok(Err(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, "the job's token cannot be signed\n"),
            Err(refused) => *refused,
        }
    }

    /// GitLab's claims: ids and truth values are texts.
    fn job_claims(&self, job: &Job<'_>, audience: &str, now: SystemTime) -> Value {
        let Job { number, source, runs_in, git_ref, person, role } = job;
        let fork = job.is_of_fork();
        let host = self.issuer.trim_start_matches("http://");
        let config = format!("{host}/{}//.gitlab-ci.yml@refs/heads/{git_ref}", source.path);
        let pipeline_source = if fork { "merge_request_event" } else { "push" };
        let sha = "5d1f0a4be0c4a7f3a9f1c3d1e2b6a7c8d9e0f1a2";
        json!({
            "namespace_id": source.namespace_id.to_string(), "namespace_path": source.namespace(),
            "project_id": source.id.to_string(), "project_path": source.path,
            "job_namespace_id": runs_in.namespace_id.to_string(), "job_namespace_path": runs_in.namespace(),
            "job_project_id": runs_in.id.to_string(), "job_project_path": runs_in.path,
            "user_id": person.id.to_string(), "user_login": person.login, "user_email": person.email(),
            "user_access_level": role.as_str(),
            "pipeline_id": (7000 + number).to_string(), "pipeline_source": pipeline_source, "job_id": number.to_string(),
            "ref": git_ref, "ref_type": "branch", "ref_path": format!("refs/heads/{git_ref}"),
            "ref_protected": (*git_ref == PROTECTED && !fork).to_string(),
            "runner_id": 31, "runner_environment": "self-hosted", "sha": sha, "project_visibility": "private",
            "ci_config_ref_uri": (!fork).then_some(config), "ci_config_sha": (!fork).then_some(sha),
            "jti": uuid(), "iss": self.issuer, "aud": audience,
            "iat": seconds(now), "nbf": seconds(now) - 5, "exp": seconds(now + LIFE),
            "sub": format!("project_path:{}:ref_type:branch:ref:{git_ref}", source.path),
        })
    }
}

impl<'a> Job<'a> {
    /// What the person `user` starts in `project`, on `ref`; with `fork`, in the pipeline of a merge request from that person's
    /// fork, which takes a member of the project to start.
    fn start(state: &'a mut State, query: &'a Fields) -> Result<Self, Box<Response<Body>>> {
        let State { people, jobs, .. } = state;
        let people: &People = people;
        *jobs += 1;
        let named = |field| people.named(query.get(field).unwrap_or_default()).ok_or_else(|| Box::new(nobody()));
        let (person, project) = (named("user")?, query.get("project").unwrap_or(PROJECTS[0].0));
        let Some((path, id)) = PROJECTS.into_iter().find(|(path, _)| *path == project) else {
            let known = "there is no such project: expected acme/shop/api or acme/shop/web\n";
            return Err(text(StatusCode::NOT_FOUND, known).into());
        };
        let Some(role) = role_of(person).filter(|role| *role >= Role::Developer) else {
            let why = "is blocked, or no developer of the project: GitLab runs no pipeline for them";
            return Err(text(StatusCode::FORBIDDEN, format!("{} {why}\n", person.login)).into());
        };
        let runs_in = Place { id, path: path.to_owned(), namespace_id: group_id(SHOP) };
        let source = match query.get("fork") {
            Some(_) => Place::fork(named("fork")?, path),
            None => runs_in.clone(),
        };
        let git_ref = query.get("ref").unwrap_or(PROTECTED);
        Ok(Self { number: 300 + *jobs, source, runs_in, git_ref, person, role })
    }

    fn is_of_fork(&self) -> bool {
        self.source.id != self.runs_in.id
    }
}

impl Place {
    /// A person's own copy of the project at `path`.
    fn fork(person: &Person, path: &str) -> Self {
        let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
        let namespace_id = 200 + usize::try_from(person.id).unwrap_or_default();
        Self { id: 9000 + person.id, path: format!("{}/{name}", person.login), namespace_id }
    }

    fn namespace(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(above, _)| above)
    }
}

/// The greatest role in the projects: inherited, or by an invited group.
fn role_of(person: &Person) -> Option<Role> {
    let groups = INVITED.into_iter().chain([SHOP]);
    groups.filter_map(|group| person.role_in(group)).max().filter(|_| !person.blocked)
}
