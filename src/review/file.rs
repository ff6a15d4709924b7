//! Principals and cases as a file has them. The comments are the descriptions in messages about what is missing.

use crate::group::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Principals, and perhaps cases that they are in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CastFile {
    /// People, by the names that cases give them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub people: BTreeMap<String, PersonFile>,
    /// CI jobs, by the names that cases give them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<String, JobFile>,
    /// Services, by the names that cases give them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, ServiceFile>,
    /// Requests, and how they are decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cases: Vec<CaseFile>,
    /// Changes of policies that no case has to notice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<AcceptedFile>,
}

/// A change of a policy that no case has to notice, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedFile {
    /// The policy's `@id`.
    #[schemars(required)]
    pub policy: Option<String>,
    /// The change, in the words of `policy test --mutate`.
    #[schemars(required)]
    pub change: Option<String>,
    /// Why nobody needs to notice.
    #[schemars(required)]
    pub because: Option<String>,
}

/// A person, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PersonFile {
    /// The name of a provider. Default: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What the provider calls the person for ever. Default: the name in this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Default: the name in this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The verified e-mail address. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The full name. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Every group that the person is effectively a member of, those below a group among them; or `unknown`. Default: `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupsFile>,
    /// The role in each group where it matters; who has one is a member. Default: `{}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub roles: BTreeMap<String, RoleFile>,
    /// Groups of which nobody can say whether the person is a member. Default: `[]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
    /// When the session began: a point in time, or how long before the request. Default: `1m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_in: Option<String>,
    /// When the person proved who they are, written in the same way. Default: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<String>,
    /// Authentication methods. Default: `[]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
    /// The authentication context class. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
}

/// Groups, as written.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(untagged)]
pub enum GroupsFile {
    /// `unknown`.
    Word(String),
    /// All of them.
    List(Vec<String>),
}

/// A role, as written.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleFile {
    /// 10.
    Guest,
    /// 20.
    Reporter,
    /// 30.
    Developer,
    /// 40.
    Maintainer,
    /// 50.
    Owner,
}

impl From<RoleFile> for Role {
    fn from(role: RoleFile) -> Self {
        match role {
            RoleFile::Guest => Self::Guest,
            RoleFile::Reporter => Self::Reporter,
            RoleFile::Developer => Self::Developer,
            RoleFile::Maintainer => Self::Maintainer,
            RoleFile::Owner => Self::Owner,
        }
    }
}

impl From<Role> for RoleFile {
    fn from(role: Role) -> Self {
        match role {
            Role::Guest => Self::Guest,
            Role::Reporter => Self::Reporter,
            Role::Developer => Self::Developer,
            Role::Maintainer => Self::Maintainer,
            Role::Owner => Self::Owner,
        }
    }
}

/// A CI job, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct JobFile {
    /// The name of a token issuer of kind `gitlab_ci`. Default: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Who started it: a name of `people`.
    #[schemars(required)]
    pub user: Option<String>,
    /// What GitLab says of it.
    #[schemars(required)]
    pub claims: Option<ClaimsFile>,
}

/// The claims of a CI job under GitLab's own names, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimsFile {
    /// The path of the project that the source is from.
    #[schemars(required)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_path: Option<String>,
    /// Its number. Default: the one that the configuration has for the path, or 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<u64>,
    /// The number of the project that runs the job. Default: the same, which is no fork.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_project_id: Option<u64>,
    /// Default: `main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// `branch` or `tag`. Default: `branch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_type: Option<String>,
    /// Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_protected: Option<bool>,
    /// What made the pipeline. Default: `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_source: Option<String>,
    /// Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline_id: Option<u64>,
    /// Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<u64>,
    /// Default: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<u64>,
    /// `gitlab-hosted` or `self-hosted`. Default: `self-hosted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_environment: Option<String>,
    /// The commit. Default: forty zeros.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha: Option<String>,
    /// The environment that it deploys to. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_protected: Option<bool>,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_tier: Option<String>,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment_action: Option<String>,
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ci_config_ref_uri: Option<String>,
}

/// A service, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceFile {
    /// The name of a token issuer whose tokens speak for services. Default: the only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the issuer calls it for ever. Default: the name in this file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Default: the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Default: `[]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The groups that its token lists, or `unknown`. Default: `[]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<GroupsFile>,
}

/// A request, and how it is decided, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// What it shows. Default: the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Who asks: a name of `people`, `jobs` or `services`, or `anonymous`.
    #[serde(rename = "as")]
    #[schemars(required)]
    pub who: Option<String>,
    /// Method and URL, such as `GET https://portal.example.com/docs/`; a path alone is below `public_url`.
    #[schemars(required)]
    pub request: Option<String>,
    /// `permit`, `deny` (no policy permits), `forbid`, `unknown` (hinges on groups that nobody knows) or `error`.
    #[schemars(required)]
    pub expect: Option<ExpectFile>,
    /// The ids of exactly the policies that decide it. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Vec<String>>,
    /// Where it comes from. Default: `127.0.0.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// When. Default: `2026-01-01T12:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// It opens a WebSocket. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<bool>,
    /// Its body, in JSON, where a rule of `body_fields` names the request. Default: nobody has read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What kind of request it is, such as `navigation`. Default: `machine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// The certificate that the client shows. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFile>,
}

/// How a request is decided, as written.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpectFile {
    /// A policy permits, none forbids.
    Permit,
    /// No policy permits.
    Deny,
    /// A policy forbids.
    Forbid,
    /// It hinges on groups, and nobody can say which.
    Unknown,
    /// A policy cannot be evaluated.
    Error,
}

/// A client's certificate, as written.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateFile {
    /// The distinguished name of its subject, such as `CN=portal,O=acme`. Default: empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The distinguished name of its issuer. Default: empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Its SPIFFE id. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spiffe_id: Option<String>,
}
