//! The upstream's credential: what the client sent goes, and what the route says stands in its place.

use super::{
    headers::{drop_fields, put},
    identity::Identity,
};
use crate::{
    canonical::same_spelling,
    credential::{Credential, Secret},
    route::Route,
};
use http::{
    HeaderMap, HeaderName,
    header::{AUTHORIZATION, SET_COOKIE},
};

/// What GitLab's API reads beside our field and `Authorization`: who asks, and for whom.
static GITLABS: [HeaderName; 3] =
    [HeaderName::from_static("job-token"), HeaderName::from_static("deploy-token"), HeaderName::from_static("sudo")];

/// Puts the route's credential in place of whatever the client sent. `Anonymous` never comes here for a secret:
/// [`Route::lend`].
pub(super) fn replace(headers: &mut HeaderMap, route: &Route, identity: Option<&Identity>) {
    let Some(credential) = &route.credential else { return };
    drop_fields(headers, |name| {
        same_spelling(name, &AUTHORIZATION) || credential.secret().is_some_and(|secret| displaces(secret, name))
    });
    let value = match credential {
        Credential::Assertion => identity.and_then(|identity| identity.bearer.clone()),
        Credential::Secret(secret) => secret.now(),
    };
    put(headers, credential.name().clone(), value.as_ref());
}

/// True for a client's field that an upstream may take for the secret.
fn displaces(secret: &Secret, name: &HeaderName) -> bool {
    same_spelling(name, &secret.name) || (secret.is_gitlabs() && GITLABS.iter().any(|one| same_spelling(name, one)))
}

/// Cookies that an upstream sets to whoever has our secret are no client's.
pub(super) fn clean_answer(headers: &mut HeaderMap, route: &Route) {
    if route.secret().is_some_and(|secret| !secret.keep_cookies) {
        headers.remove(SET_COOKIE);
    }
}
