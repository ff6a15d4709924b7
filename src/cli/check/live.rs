//! `check --live`: asks everything that the configuration names, opens no listener and writes nothing.

use super::places;
use crate::{
    admin::{Command, client},
    audit,
    config::{Certificate, ListenAt, ProviderSettings, Settings, TokenIssuerSettings},
    finding::{Finding, Level},
    forward, listener,
    moment::day,
    oidc,
    route::{GroupPattern, Route},
    session,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::timeout,
};

/// Nothing is waited for longer.
const LATEST: Duration = Duration::from_secs(5);
/// A certificate that ends sooner is warned of.
const SOON: Duration = Duration::from_secs(14 * 86_400);

/// Asks everything at once. `groups` are the ids that policies name.
///
/// # Errors
/// One line: this machine cannot ask.
pub(super) fn look(settings: &Settings, groups: &BTreeSet<String>) -> Result<Vec<Finding>, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("cannot ask anything: {error}"))?;
    let found = runtime.block_on(all(settings, groups));
    runtime.shutdown_background(); // a name that is still being resolved is not waited for
    Ok(found)
}

async fn all(settings: &Settings, groups: &BTreeSet<String>) -> Vec<Finding> {
    let mut asked: Vec<JoinHandle<Vec<Finding>>> = Vec::new();
    for (index, provider) in settings.providers.iter().enumerate() {
        asked.push(tokio::spawn(provider_found(settings, index, provider, groups)));
    }
    for (index, issuer) in settings.token_issuers.iter().enumerate() {
        asked.push(tokio::spawn(issuer_found(index, issuer.clone())));
    }
    for (index, sink) in settings.sinks.iter().enumerate() {
        let sink = sink.clone();
        asked.push(tokio::spawn(async move { vec![audit::ship::probe(&sink, index).await] }));
    }
    let here = here(settings).await;
    let upstreams: Vec<_> = upstreams(&settings.routes).map(upstream_found).map(tokio::spawn).collect();
    let mut found = Vec::new();
    for one in asked {
        found.extend(one.await.unwrap_or_default());
    }
    found.extend(here);
    found.extend(certificates(settings));
    for one in upstreams {
        found.extend(one.await.unwrap_or_default());
    }
    found.extend(super::groups::found(settings, groups).await);
    found
}

fn provider_found(
    settings: &Settings,
    index: usize,
    provider: &Arc<ProviderSettings>,
    groups: &BTreeSet<String>,
) -> impl Future<Output = Vec<Finding>> + use<> {
    let name = &provider.name;
    let redirect_uri = super::redirect_uri(settings, provider);
    let prefix = format!("{name}:");
    let told = |route: &Route| {
        route.groups_header.iter().any(|it| match it {
            GroupPattern::Group(of, _) | GroupPattern::Tree(of, _) => of == name,
        })
    };
    let asks = groups.iter().any(|id| id.starts_with(&prefix)) || settings.routes.iter().any(told);
    let here = settings.routes.iter().filter(|route| route.providers.contains(name));
    let step_ups = here.filter_map(|route| route.step_up.clone()).collect();
    let wanted = oidc::Wanted { groups: asks, step_ups };
    let provider = provider.clone();
    async move {
        let Ok(redirect_uri) = redirect_uri.parse() else { return Vec::new() };
        let mut found = oidc::probe(&provider, &redirect_uri, &wanted).await;
        for one in &mut found {
            one.what = format!("provider `{}`, {}", provider.name, one.what);
            one.key = format!("providers[{index}].{}", one.key);
        }
        found
    }
}

async fn issuer_found(index: usize, issuer: Arc<TokenIssuerSettings>) -> Vec<Finding> {
    let mut found = oidc::probe_issuer(&issuer).await;
    for one in &mut found {
        one.what = format!("token issuer `{}`, {}", issuer.name, one.what);
        one.key = format!("token_issuers[{index}].{}", one.key);
    }
    found
}

/// What concerns this machine: the store, and the places where we listen.
async fn here(settings: &Settings) -> Vec<Finding> {
    let state = settings.state.clone();
    let asked = timeout(LATEST, spawn_blocking(move || client::ask(&state, &Command::Status {}))).await;
    let (running, mut found) = match asked {
        Ok(Ok(Ok(running))) => (running, Vec::new()),
        Ok(Ok(Err(error))) => (None, vec![Finding::new(Level::Warning, "running process", "state", error)]),
        Ok(Err(_)) | Err(_) => {
            let said = "it does not answer its operators' socket within 5 s";
            (None, vec![Finding::new(Level::Warning, "running process", "state", said)])
        }
    };
    found.push(match places::state(&settings.state) {
        Some(fault) => fault,
        None => session::probe::probe(&settings.state, running.is_some()),
    });
    found.push(places::keys(&settings.keys));
    let texts = |key: &str| match running.as_ref().map(|status| &status[key]) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(one)) => vec![one.clone()],
        _ => Vec::new(),
    };
    let ours = texts("listen");
    for (index, listen) in settings.listen.iter().enumerate() {
        found.push(listener::probe::probe(&listen.at, &format!("listen[{index}].address"), &ours));
    }
    let operations = settings.operations.map(ListenAt::Tcp);
    found.extend(operations.map(|at| listener::probe::probe(&at, "operations.address", &texts("operations"))));
    found
}

fn certificates(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, listen) in settings.listen.iter().enumerate() {
        for certificate in listen.tls.iter().flat_map(|tls| &tls.certificates) {
            found.push(certificate_found(certificate, &format!("listen[{index}].tls"), SystemTime::now()));
        }
    }
    found
}

/// That the key fits was seen when both were read.
fn certificate_found(certificate: &Certificate, key: &str, now: SystemTime) -> Finding {
    let names = if certificate.names.is_empty() { "nobody".to_owned() } else { certificate.names.join(", ") };
    let (begins, ends) = (day(certificate.begins), day(certificate.ends));
    let what = format!("certificate `{}`", certificate.file.display());
    let finding = |level, when: String| Finding::new(level, &*what, key, format!("for {names}; {when}"));
    if certificate.ends < now {
        finding(Level::Fault, format!("it ended on {ends}")).help("renew it")
    } else if certificate.begins > now {
        finding(Level::Fault, format!("it begins on {begins}")).help("look at this machine's clock")
    } else if certificate.ends < now + SOON {
        finding(Level::Warning, format!("it ends on {ends}")).help("renew it")
    } else {
        finding(Level::Good, format!("its key fits, and it is good until {ends}"))
    }
}

/// The routes that lead to upstreams of their own.
fn upstreams(routes: &[Route]) -> impl Iterator<Item = &Route> {
    let first = |route: &&Route| {
        let same = |it: &Route| it.upstream.settings == route.upstream.settings;
        routes.iter().find(|it| same(it)).is_some_and(|it| it.index == route.index)
    };
    routes.iter().filter(first)
}

fn upstream_found(route: &Route) -> impl Future<Output = Vec<Finding>> + use<> {
    let (upstream, name, index) = (route.upstream.clone(), route.name.clone(), route.index);
    async move {
        let mut found = forward::probe(&upstream).await;
        for one in &mut found {
            one.what = format!("route `{name}`, {}", one.what);
            one.key = format!("routes[{index}].{}", one.key);
        }
        found
    }
}
