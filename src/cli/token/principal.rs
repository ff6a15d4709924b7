//! Who a good token is of, as policies see them, and what nobody knows before it comes.

use crate::{
    authorize::{Seen, seen},
    config::{ProviderSettings, Settings, TokenIssuerSettings},
    membership::is_read,
    oidc::Way,
    principal::{Bearer, Holder, Membership, Person, Unknown},
    route::Route,
};
use std::sync::Arc;

/// A principal, and all that goes with it.
pub(super) struct Described<'s> {
    /// Its entity, and behind that of a job the one of its person.
    pub(super) entities: Vec<Seen>,
    /// The routes that take its token.
    pub(super) routes: Vec<&'s Route>,
    /// What is not known of it, and when it is.
    pub(super) unknown: Vec<String>,
}

impl<'s> Described<'s> {
    pub(super) fn of(settings: &'s Settings, issuer: &TokenIssuerSettings, way: Way, bearer: &Bearer) -> Self {
        let routes: Vec<_> = settings.routes.iter().filter(|it| it.token_issuers.contains(&issuer.name)).collect();
        let person = bearer.holder.person();
        let read = person.and_then(|person| reader(settings, person).map(|provider| (person, provider)));
        let membership = match read {
            Some(_) => Membership::Unknown(Unknown::NeverRead), // whatever the token says of groups
            None => bearer.membership.clone(),
        };
        let mut unknown = Vec::new();
        unknown.extend(read.map(|(person, provider)| now_read(person, provider, way)));
        unknown.extend(read.is_none().then(|| groups(bearer, way)).flatten());
        unknown.extend(job(bearer, way, &routes));
        unknown.extend(once(&routes));
        unknown.push("whether a lock keeps them out: `vestibule sessions locks` says it".to_owned());
        Self { entities: seen(&bearer.principal(membership)), routes, unknown }
    }
}

/// The provider where somebody is read with a token of ours.
fn reader<'s>(settings: &'s Settings, person: &Person) -> Option<&'s Arc<ProviderSettings>> {
    let provider = settings.providers.iter().find(|provider| provider.name == person.id.provider);
    provider.filter(|provider| is_read(provider, &person.id))
}

fn now_read(person: &Person, provider: &ProviderSettings, way: Way) -> String {
    let (who, name) = (&person.id, &provider.name);
    format!("whether `{who}` {}which groups they are in: read at `{name}` when they come", active(way))
}

fn groups(bearer: &Bearer, way: Way) -> Option<String> {
    match (&bearer.holder, &bearer.membership) {
        (_, Membership::Known(_)) => None,
        (Holder::Job(job), Membership::Unknown(_)) => Some(format!(
            "whether `{}` {}which groups they are in: nothing reads that, as `{}` has no `membership.api`",
            job.person.id,
            active(way),
            job.namespace
        )),
        (Holder::Person(..) | Holder::Service(_), Membership::Unknown(_)) => Some(
            "which groups they are in: the token has no list of them that can be read; `claims.groups` names its claim"
                .to_owned(),
        ),
    }
}

/// Of the person behind an old-style job token GitLab has just said so.
fn active(way: Way) -> &'static str {
    match way {
        Way::Signed | Way::Introspected => "is active, and ",
        Way::JobToken => "",
    }
}

fn job(bearer: &Bearer, way: Way, routes: &[&Route]) -> Option<String> {
    if way != Way::Signed || !matches!(bearer.holder, Holder::Job(_)) {
        return None;
    }
    let asking = names(routes.iter().filter(|route| route.tokens.running_job));
    Some(match asking.is_empty() {
        true => "whether the job still runs: no route asks (`running_job`), and the token is good until it is over"
            .to_owned(),
        false => format!("whether the job still runs: asked when it comes to {asking}"),
    })
}

fn once(routes: &[&Route]) -> Option<String> {
    let once = names(routes.iter().filter(|route| route.tokens.one_time));
    (!once.is_empty()).then(|| format!("whether it was used before: it is good for one request to {once}"))
}

fn names<'r>(routes: impl Iterator<Item = &'r &'r Route>) -> String {
    routes.map(|route| format!("`{}`", route.name)).collect::<Vec<_>>().join(", ")
}
