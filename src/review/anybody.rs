//! Principals of whom nothing is known but whose they are: what they gain, anybody gains.

use super::{asking::usual, cast::job_of, file::ClaimsFile};
use crate::{
    config::{Settings, TokenIssuerSettings},
    principal::{
        Groups, Job, Membership, MembershipSource, Name, Person, Principal, Service, Strength, UserId, next_version,
    },
};
use std::{collections::BTreeMap, sync::Arc};

/// What the subject of each is.
const SUBJECT: &str = "anybody";

/// Somebody signed in at each provider, in no group; a job of each issuer of these, in no known project; a service of each issuer
/// of services. By what they are called.
pub fn anybody<'a>(settings: impl IntoIterator<Item = &'a Settings>) -> BTreeMap<String, Principal> {
    let mut all = BTreeMap::new();
    for settings in settings {
        for provider in &settings.providers {
            let person = person(&provider.name, &provider.issuer);
            all.entry(format!("anybody of {}", provider.name)).or_insert_with(|| user(person));
        }
        for issuer in &settings.token_issuers {
            add(issuer, &mut all);
        }
    }
    all
}

fn add(issuer: &TokenIssuerSettings, all: &mut BTreeMap<String, Principal>) {
    let url = issuer.issuer.as_deref().unwrap_or_default();
    if issuer.has_people() {
        let person = person(issuer.namespace(), url);
        all.entry(format!("anybody of {}", issuer.namespace())).or_insert_with(|| user(person));
    }
    if let Some(job) = job(issuer, url).filter(|_| issuer.has_jobs()) {
        all.entry(format!("a job of {}", issuer.name)).or_insert(job);
    }
    if issuer.has_services() {
        let service = Service {
            id: UserId { provider: issuer.name.clone(), subject: SUBJECT.into() },
            issuer: url.into(),
            client_id: SUBJECT.into(),
            scopes: [].into(),
        };
        let service = Principal::Service { service: Arc::new(service), membership: none() };
        all.entry(format!("a service of {}", issuer.name)).or_insert(service);
    }
}

fn person(provider: &Name, issuer: &str) -> Arc<Person> {
    Arc::new(Person {
        id: UserId { provider: provider.clone(), subject: SUBJECT.into() },
        issuer: issuer.into(),
        login: SUBJECT.into(),
        email: None,
        name: None,
    })
}

fn user(person: Arc<Person>) -> Principal {
    Principal::User { person, membership: none(), strength: Arc::new(Strength::default()) }
}

/// A job whose project nobody knows: it runs in another than its source is from.
fn job(issuer: &TokenIssuerSettings, url: &str) -> Option<Principal> {
    let project = format!("{SUBJECT}/{SUBJECT}");
    let claims = ClaimsFile { project_path: Some(project), job_project_id: Some(0), ..ClaimsFile::default() };
    let job = Job { person: person(issuer.namespace(), url), ..job_of(issuer, &claims).ok()? };
    Some(Principal::Job { job: Arc::new(job), membership: none() })
}

fn none() -> Membership {
    Membership::Known(Groups {
        paths: [].into(),
        roles: [].into(),
        unread: [].into(),
        source: MembershipSource::Api,
        read: usual(),
        version: next_version(),
        stale: false,
        aside: None,
    })
}
