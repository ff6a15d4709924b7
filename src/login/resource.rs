//! What a route that takes tokens says about itself, so that clients find out where to get one.

use super::Visit;
use crate::{
    answer,
    body::Body,
    refusal::{Reason, Refusal},
};
use http::{Method, Response, StatusCode, header};
use serde_json::json;

/// The metadata of the route at this position.
///
/// # Errors
/// `Method`, `NotFound`.
///
/// Source: RFC 9728, sections 2 and 3.
pub(super) fn metadata(index: usize, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
    if ![Method::GET, Method::HEAD].contains(&visit.asked.method) {
        return Err(Refusal::new(Reason::Method, "This is to be read by GET."));
    }
    let Some(route) = visit.routes.all().get(index) else {
        return Err(Refusal::new(Reason::NotFound, "Nothing is served at this path."));
    };
    let scheme = if visit.asked.https { "https" } else { "http" };
    let issuers = visit.settings.token_issuers.iter().filter(|issuer| route.token_issuers.contains(&issuer.name));
    let mut servers: Vec<&str> = issuers.filter_map(|issuer| issuer.issuer.as_deref()).collect();
    servers.dedup();
    let mut response = answer::json(
        StatusCode::OK,
        "application/json",
        &json!({
            "resource": format!("{scheme}://{}{}", visit.asked.authority, route.path.trim_end_matches('/')),
            "resource_name": route.name.as_str(),
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        }),
    );
    response.headers_mut().insert(header::CACHE_CONTROL, http::HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}
