//! Values that the tests of this step share.

use super::{
    PolicyError,
    lint::Known,
    policies::{self, Checked},
    schema,
    sources::Source,
};
use crate::{
    canonical::{Canonical, Class, OwnCookie, RequestId, Target},
    config::{
        GitlabCi, JwtTokens, KeySource, MembershipApi, ProviderKind, ProviderSettings, TokenClaims,
        TokenIssuerSettings, TokenKind, TokenPrincipal,
    },
    credential::ApiToken,
    group::{GroupPath, Role},
    principal::{Groups, Job, Membership, MembershipSource, Person, Principal, Strength, UserId},
    route::{BodyField, BodyRule, Pointer, Reading, Route},
};
use http::{HeaderMap, Method};
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

pub(super) use crate::route::testing::route;

/// The same route as requests meet it.
pub(super) fn placed(index: usize, route: &Route) -> Route {
    Route { index, ..route.clone() }
}

/// A route that reads these fields of what is posted to `/a/b`, each where its name says.
pub(super) fn with_body(route: Route, fields: &[&str]) -> Route {
    let field = |name: &&str| BodyField {
        name: (*name).into(),
        pointer: Pointer::parse(&format!("/{name}")).expect("a pointer"),
        reading: Reading::String,
        optional: true,
    };
    let fields = fields.iter().map(field).collect();
    let rule = BodyRule { method: Method::POST, path: "/a/b".into(), max: 1024, fields };
    Route { body_fields: [Arc::new(rule)].into(), ..route }
}

/// A provider of kind `gitlab`.
pub(super) fn gitlab(name: &str) -> Arc<ProviderSettings> {
    provider(name, ProviderKind::Gitlab)
}

/// A provider of kind `oidc`.
pub(super) fn oidc(name: &str) -> Arc<ProviderSettings> {
    provider(name, ProviderKind::Oidc)
}

/// A provider of kind `gitlab` whose API is read.
pub(super) fn gitlab_with_api(name: &str) -> Arc<ProviderSettings> {
    let (token, url) = ("t".to_owned().into(), format!("https://{name}.test/api/v4"));
    let api = MembershipApi { lent: ApiToken::new(&token), token, url, rotate: false };
    Arc::new(ProviderSettings { api: Some(api), ..(*gitlab(name)).clone() })
}

/// A provider of any kind.
pub(super) fn provider(name: &str, kind: ProviderKind) -> Arc<ProviderSettings> {
    let issuer = format!("https://{name}.test");
    let secret = "secret".to_owned().into();
    Arc::new(ProviderSettings::new(name.parse().expect("a name"), kind, &issuer, "vestibule", secret))
}

/// Checks policies that stand in a file `test.cedar`.
pub(super) fn load(
    text: &str,
    routes: &[Route],
    providers: &[Arc<ProviderSettings>],
) -> Result<Checked, Vec<PolicyError>> {
    load_with(text, routes, providers, &[])
}

/// The same where there are token issuers too.
pub(super) fn load_with(
    text: &str,
    routes: &[Route],
    providers: &[Arc<ProviderSettings>],
    issuers: &[Arc<TokenIssuerSettings>],
) -> Result<Checked, Vec<PolicyError>> {
    let schema = schema::schema(routes).expect("the schema parses");
    let (policies, errors) = policies::check(&[source(text)], Known { routes, providers, issuers }, &schema);
    if errors.is_empty() { Ok(Checked { policies, schema }) } else { Err(errors) }
}

/// What is wrong with a policy where these issuers are known, each with its place.
pub(super) fn mistakes_with(
    text: &str,
    providers: &[Arc<ProviderSettings>],
    issuers: &[Arc<TokenIssuerSettings>],
) -> Vec<String> {
    let errors = load_with(text, &[route("r")], providers, issuers).err().unwrap_or_default();
    errors.iter().map(ToString::to_string).collect()
}

/// A file `test.cedar`.
pub(super) fn source(text: &str) -> Source {
    Source::file("test.cedar", text)
}

/// A request to `app.test`.
pub(super) fn asked(method: &str, target: &str) -> Canonical {
    Canonical {
        id: RequestId(1),
        traceparent: String::new(),
        method: method.parse().expect("a method"),
        host: "app.test".parse().expect("a host"),
        authority: "app.test".into(),
        target: Target::parse(target).expect("a target"),
        class: Class::Machine,
        client: [127, 0, 0, 1].into(),
        https: false,
        certificate: None,
        headers: HeaderMap::new(),
        session: OwnCookie::Absent,
        binding: OwnCookie::Absent,
        websocket: false,
    }
}

/// Group paths, sorted.
pub(super) fn paths(paths: &[&str]) -> Vec<GroupPath> {
    let mut paths: Vec<GroupPath> = paths.iter().map(|path| path.parse().expect("a path")).collect();
    paths.sort();
    paths
}

/// A person whose login is the subject.
pub(super) fn person(provider: &str, subject: &str) -> Arc<Person> {
    Arc::new(Person {
        id: UserId { provider: provider.parse().expect("a name"), subject: subject.into() },
        issuer: format!("https://{provider}.test").into(),
        login: subject.into(),
        email: None,
        name: None,
    })
}

/// A person of `gitlab` who is effectively a member of `groups`; the version stands for the groups.
pub(super) fn user(subject: &str, groups: &[&str], version: u64) -> Principal {
    Principal::User {
        person: person("gitlab", subject),
        membership: Membership::Known(Groups {
            paths: paths(groups).into(),
            roles: Arc::default(),
            unread: Arc::default(),
            source: MembershipSource::Userinfo,
            read: UNIX_EPOCH,
            version,
            stale: false,
            aside: None,
        }),
        strength: Arc::new(Strength::default()),
    }
}

/// An issuer of CI jobs at `provider`.
pub(super) fn jobs(name: &str, provider: &str) -> Arc<TokenIssuerSettings> {
    issuer(name, Some(provider), TokenKind::GitlabCi(GitlabCi::default()))
}

/// An issuer of services.
pub(super) fn services(name: &str) -> Arc<TokenIssuerSettings> {
    let (principal, claims) = (TokenPrincipal::Service, TokenClaims::default());
    issuer(name, None, TokenKind::Jwt(JwtTokens { principal, media_type: None, claims }))
}

fn issuer(name: &str, provider: Option<&str>, kind: TokenKind) -> Arc<TokenIssuerSettings> {
    Arc::new(TokenIssuerSettings {
        name: name.parse().expect("a name"),
        kind,
        issuer: Some(format!("https://{name}.test")),
        provider: provider.map(|provider| provider.parse().expect("a name")),
        provider_kind: None,
        audiences: vec!["https://api.test".into()],
        algorithms: vec!["RS256".into()],
        max_age: Duration::from_secs(3600),
        keys: KeySource::Discovery,
    })
}

/// A job with the number `id` at provider `a`, in a project if there is one.
pub(super) fn job(id: u64, project: Option<&str>, person: Arc<Person>, protected: bool) -> Job {
    let word = |text: &str| -> Arc<str> { text.into() };
    Job {
        id: UserId { provider: "ci".parse().expect("a name"), subject: id.to_string().into() },
        namespace: person.id.provider.clone(),
        person,
        job_id: id,
        pipeline_id: 5,
        project_id: 7,
        project_path: word(project.unwrap_or("x/y")),
        job_project_id: project.map(|_| 7),
        project: project.map(|path| path.parse().expect("a path")),
        renamed: false,
        git_ref: word("main"),
        ref_type: word("branch"),
        ref_protected: protected,
        pipeline_source: word("push"),
        runner_id: 3,
        runner_environment: word("self-hosted"),
        sha: word("abc"),
        environment: protected.then(|| word("x")),
        environment_protected: protected.then_some(true),
        deployment_tier: None,
        environment_action: None,
        ci_config_ref_uri: None,
    }
}

/// A person of `gitlab` with roles in groups, and with groups of which nobody knows.
pub(super) fn member(subject: &str, roles: &[(&str, Role)], unread: &[&str], version: u64) -> Principal {
    let paths: Vec<_> = roles.iter().map(|(path, _)| *path).collect();
    let mut principal = user(subject, &paths, version);
    if let Principal::User { membership: Membership::Known(groups), .. } = &mut principal {
        groups.roles = roles.iter().map(|(path, role)| (path.parse().expect("a path"), *role)).collect();
        groups.unread = self::paths(unread).into();
    }
    principal
}
