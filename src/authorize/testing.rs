//! Values that the tests of this step share.

use super::{
    PolicyError,
    policies::{self, Checked},
    schema,
    sources::Source,
};
use crate::{
    canonical::{Canonical, Class, OwnCookie, RequestId, Target},
    config::{MembershipApi, ProviderKind, ProviderSettings},
    group::{GroupPath, Role},
    principal::{Groups, Membership, MembershipSource, Person, Principal, Strength, UserId},
    route::Route,
};
use http::HeaderMap;
use std::{sync::Arc, time::UNIX_EPOCH};

pub(super) use crate::route::testing::route;

/// The same route as requests meet it.
pub(super) fn placed(index: usize, route: &Route) -> Route {
    Route { index, ..route.clone() }
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
    let api = MembershipApi { token: "t".to_owned().into(), url: format!("https://{name}.test/api/v4"), rotate: false };
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
    let schema = schema::schema(routes).expect("the schema parses");
    let (policies, errors) = policies::check(&[source(text)], routes, providers, &schema);
    if errors.is_empty() { Ok(Checked { policies, schema }) } else { Err(errors) }
}

/// A file `test.cedar`.
pub(super) fn source(text: &str) -> Source {
    Source { name: "test.cedar".into(), text: text.into(), expanded: false }
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
        }),
        strength: Arc::new(Strength::default()),
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
