//! Values that the tests of this step share.

use super::{
    PolicyError,
    policies::{self, Checked},
    schema,
    sources::Source,
};
use crate::{
    canonical::{Canonical, Class, OwnCookie, RequestId, Target},
    config::{ProviderKind, ProviderSettings},
    group::GroupPath,
    principal::{Groups, Membership, MembershipSource, Person, Principal, Strength, UserId},
    route::{ErrorBody, Route, Timeouts, Upstream},
};
use http::HeaderMap;
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

/// A route of the configuration, not exact.
pub(super) fn route(name: &str) -> Route {
    Route {
        index: 0,
        name: name.parse().expect("a name"),
        host: "app.test".parse().expect("a host"),
        path: "/".into(),
        exact: false,
        upstream: Upstream { authority: "127.0.0.1:1".into() },
        providers: Arc::new([]),
        header_provider: None,
        audience: name.into(),
        labels: Default::default(),
        groups_header: Arc::new([]),
        origins: Arc::new([]),
        encoded_slash: false,
        errors: ErrorBody::Problem,
        timeouts: Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            request_idle: Duration::from_secs(30),
            stream_idle: Duration::from_secs(600),
        },
        allow: Vec::new(),
    }
}

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

fn provider(name: &str, kind: ProviderKind) -> Arc<ProviderSettings> {
    Arc::new(ProviderSettings {
        name: name.parse().expect("a name"),
        kind,
        title: name.into(),
        issuer: format!("https://{name}.test"),
        client_id: "vestibule".into(),
        client_secret: "secret".to_owned().into(),
        scopes: Vec::new(),
        groups_claim: "groups".into(),
        membership_refresh: Duration::from_secs(60),
        membership_outage: Duration::from_secs(900),
        without_refresh: Duration::from_secs(3600),
    })
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
            source: MembershipSource::Userinfo,
            read: UNIX_EPOCH,
            version,
            stale: false,
        }),
        strength: Arc::new(Strength::default()),
    }
}
