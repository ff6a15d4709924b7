//! Connects to an upstream once, as a request would, and says how that went.

use super::{
    connect::{self, ConnectError},
    upkeep::answer,
};
use crate::{
    finding::{Finding, Level},
    upstream::{Endpoint, Place, Upstream, UpstreamSettings},
};
use rustls::CertificateError;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// No endpoint is waited for longer.
const LATEST: Duration = Duration::from_secs(5);

/// Resolves and connects to every endpoint of an upstream, with TLS where that is spoken, and asks for its health where that
/// is configured. Keys of the findings are those of a route.
pub async fn probe(upstream: &Arc<Upstream>) -> Vec<Finding> {
    let resolved = match timeout(LATEST, upstream.resolve()).await {
        Ok(resolved) => resolved.map_err(|(place, error)| (Some(place), crate::text::chain(&error))),
        Err(_) => Err((None, "no answer in 5 s".to_owned())),
    };
    let places = upstream.settings.places.iter().enumerate();
    let endpoints = upstream.endpoints();
    let (mut found, mut asked) = (Vec::new(), Vec::new());
    for (index, place) in places {
        let key = format!("upstream.urls[{index}]");
        let own: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.place == *place).collect();
        if own.is_empty() {
            let cause = match &resolved {
                Err((of, cause)) if of.as_ref().is_none_or(|of| of == place) => cause.as_str(),
                _ => "the name has no address",
            };
            let said = format!("cannot be resolved: {cause}");
            let unresolved = finding(upstream, place, &key, Level::Fault, said);
            let unresolved = unresolved.help("correct the name, or the resolver of this machine");
            asked.push(tokio::spawn(std::future::ready(vec![unresolved])));
        }
        for endpoint in own {
            let (upstream, endpoint, key) = (upstream.clone(), endpoint.clone(), key.clone());
            asked.push(tokio::spawn(async move { one(&upstream, &endpoint, &key).await }));
        }
    }
    for one in asked {
        found.extend(one.await.unwrap_or_default());
    }
    found
}

fn finding(upstream: &Upstream, place: &Place, key: &str, level: Level, said: String) -> Finding {
    Finding::new(level, format!("upstream `{}`", upstream.settings.url(place)), key, said)
}

/// The connection, and the answer to a health check if there is one.
async fn one(upstream: &Upstream, endpoint: &Endpoint, key: &str) -> Vec<Finding> {
    let settings = &upstream.settings;
    let finding = |level, said| finding(upstream, &endpoint.place, key, level, said);
    let dialled = timeout(LATEST, connect::dial(endpoint, settings, settings.http2)).await;
    let http2 = match dialled {
        Err(_) => {
            let said = format!("no connection to {} in 5 s", endpoint.address);
            return vec![finding(Level::Fault, said).help("start the upstream, or let this machine reach it")];
        }
        Ok(Err(error)) => return vec![finding(Level::Fault, crate::text::chain(&error)).help(help(&error))],
        Ok(Ok((_, http2))) => http2,
    };
    let mut found = vec![connected(settings, endpoint, http2, &finding)];
    if let Some(health) = &settings.health {
        let asked = format!("`{}`", health.path);
        let finding = |level, said: String| Finding { key: "upstream.health".to_owned(), ..finding(level, said) };
        let help = "a request would find it out of service: correct the path, or mend the upstream";
        found.push(match timeout(LATEST, answer(upstream, endpoint, health)).await {
            Err(_) => finding(Level::Fault, format!("{asked} was not answered in 5 s")).help(help),
            Ok(Err(cause)) => finding(Level::Fault, format!("{asked} was not answered: {cause}")).help(help),
            Ok(Ok(status)) if status.is_success() || status.is_redirection() => {
                finding(Level::Good, format!("{asked} answered {status}"))
            }
            Ok(Ok(status)) => finding(Level::Fault, format!("{asked} answered {status}")).help(help),
        });
    }
    found
}

fn connected(
    settings: &UpstreamSettings,
    endpoint: &Endpoint,
    http2: bool,
    finding: &dyn Fn(Level, String) -> Finding,
) -> Finding {
    let address = &endpoint.address;
    match &settings.tls {
        Some(tls) if tls.source.insecure_skip_verify => {
            finding(Level::Warning, format!("connected to {address}, and nobody verified who that is"))
                .help("write `tls.ca` in place of `insecure_skip_verify`")
        }
        Some(_) if settings.http2 && !http2 => finding(
            Level::Warning,
            format!("connected to {address}; its certificate is good, and it does not speak HTTP/2"),
        )
        .help("remove `http2: true`, or switch HTTP/2 on there: gRPC needs it"),
        Some(_) => finding(Level::Good, format!("connected to {address}; its certificate is good")),
        None => finding(Level::Good, format!("connected to {address}")),
    }
}

fn help(error: &ConnectError) -> &'static str {
    let ConnectError::Tls { source, .. } = error else { return "start the upstream, or correct its URL" };
    match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "renew the upstream's certificate",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "write the name that its certificate is for in `upstream.tls.name`, if that name is to be trusted"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "name the authority that issued its certificate in `upstream.tls.ca`"
            }
            _ => "give the upstream a certificate that can be verified",
        },
        Some(rustls::Error::InvalidMessage(_)) => "does it speak TLS there? write `http` in its URL, if it does not",
        _ => "does it speak TLS there, and ask for a client certificate? compare `upstream.tls`",
    }
}
