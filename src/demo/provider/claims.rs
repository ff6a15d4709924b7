//! What the provider says about a person: little in the ID token, all of it at userinfo.

use super::{Asked, Person, Provider, seconds, token::Grant};
use crate::{body::Body, demo::server::json, group::Role};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const ID_TOKEN_LIFE: Duration = Duration::from_secs(120);

impl Provider {
    /// The claims of an ID token. It has `groups_direct` and never `groups`, as at GitLab.
    pub(super) fn id_claims(&self, person: &Person, grant: &Grant, nonce: Option<String>, now: SystemTime) -> Value {
        let mut claims = self.profile(person);
        claims["iss"] = json!(self.issuer);
        claims["aud"] = json!(self.client.id);
        claims["iat"] = json!(seconds(now));
        claims["exp"] = json!(seconds(now + ID_TOKEN_LIFE));
        claims["auth_time"] = json!(seconds(grant.auth_time));
        claims["groups_direct"] = json!(person.direct.keys().collect::<Vec<_>>());
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        claims
    }

    /// Who the bearer of an access token is, with effective groups.
    pub(super) fn userinfo(&self, asked: &Asked, now: SystemTime) -> Response<Body> {
        let state = self.state();
        let live = bearer(asked).and_then(|token| state.access.get(token)).filter(|access| access.expires > now);
        let Some(person) = live.and_then(|access| state.people.active(access.grant.person)) else {
            return unauthorized();
        };
        let mut claims = self.profile(person);
        claims["groups"] = json!(person.groups());
        for role in [Role::Owner, Role::Maintainer, Role::Developer] {
            let groups = person.direct_as(role);
            if !groups.is_empty() {
                claims[format!("https://gitlab.org/claims/groups/{}", role.as_str())] = json!(groups);
            }
        }
        json(StatusCode::OK, &claims)
    }

    fn profile(&self, person: &Person) -> Value {
        json!({
            "sub": person.id.to_string(), "name": person.name, "nickname": person.login, "preferred_username": person.login,
            "email": person.email(), "email_verified": true, "profile": format!("{}/{}", self.issuer, person.login),
        })
    }
}

/// The token of an `Authorization: Bearer` header.
pub(super) fn bearer(asked: &Asked) -> Option<&str> {
    let (scheme, token) = asked.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn unauthorized() -> Response<Body> {
    let description = "the access token is unknown, expired or revoked";
    let mut response =
        json(StatusCode::UNAUTHORIZED, &json!({ "error": "invalid_token", "error_description": description }));
    let challenge = HeaderValue::from_static("Bearer realm=\"demo GitLab\", error=\"invalid_token\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    response
}
