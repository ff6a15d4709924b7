//! What benchmarks share: somebody who asks, what they ask.

pub(crate) mod figures;

use http::HeaderMap;
use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use vestibule::{
    canonical::{Canonical, Class, Judged, OwnCookie, RequestId, Target},
    group::GroupPath,
    principal::{Groups, Membership, MembershipSource, Person, Principal, Strength, UserId, next_version},
};

/// A person in five of the groups that policies name, and in twenty that none names.
pub(crate) fn person(number: u32) -> Principal {
    let group = |path: String| -> GroupPath { path.parse().expect("a path") };
    let mut paths: Vec<_> = (0..5).map(|number| group(format!("team/{number}"))).collect();
    paths.extend((0..20).map(|number| group(format!("other/{number}"))));
    paths.sort();
    let groups = Groups {
        paths: paths.into(),
        roles: Arc::default(),
        unread: Arc::default(),
        source: MembershipSource::Token,
        read: UNIX_EPOCH,
        version: next_version(),
        stale: false,
        aside: None,
    };
    let person = Person {
        id: UserId { provider: "sso".parse().expect("a name"), subject: number.to_string().into() },
        issuer: "https://sso.example.com".into(),
        login: "ada".into(),
        email: None,
        name: None,
    };
    Principal::User {
        person: Arc::new(person),
        membership: Membership::Known(groups),
        strength: Arc::new(Strength::default()),
    }
}

/// A request for a path of the portal.
pub(crate) fn judged(path: &str) -> Judged {
    let asked = Canonical {
        id: RequestId(1),
        traceparent: String::new(),
        method: http::Method::GET,
        host: "localhost".parse().expect("a host"),
        authority: "localhost:8080".into(),
        target: Target::parse(path).expect("a target"),
        class: Class::Machine,
        client: [127, 0, 0, 1].into(),
        https: false,
        certificate: None,
        headers: HeaderMap::new(),
        session: OwnCookie::Absent,
        binding: OwnCookie::Absent,
        websocket: false,
    };
    Judged::from(asked)
}

/// The median, in microseconds.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64() * 1e6
}
