//! What is done for upstreams beside the requests, on the control plane: names are resolved again, endpoints are asked
//! whether they are well.

use super::connect::{self, ConnectError};
use crate::{
    route::Route,
    upstream::{self, Endpoint, Health, Upstream},
};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// How often names are resolved.
const RESOLVE: Duration = Duration::from_secs(10);
/// How often at most, whatever fails.
const PAUSE: Duration = Duration::from_secs(1);

/// The tasks that look after upstreams, by the upstream's id. Dropping it ends them.
#[derive(Default)]
pub struct Upkeep(HashMap<u64, JoinHandle<()>>);

impl Upkeep {
    /// Looks after the upstreams of these routes, and of no others from now on. Must be called on the control plane.
    pub fn follow(&mut self, routes: &[Arc<Route>]) {
        for upstream in routes.iter().map(|route| &route.upstream) {
            self.0.entry(upstream.id).or_insert_with(|| tokio::spawn(tend(upstream.clone())));
        }
        self.0.retain(|id, task| {
            let stays = routes.iter().any(|route| route.upstream.id == *id);
            if !stays {
                task.abort();
            }
            stays
        });
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

async fn tend(upstream: Arc<Upstream>) {
    let resolving = async {
        if upstream.has_names() {
            keep_resolved(&upstream).await;
        }
    };
    let asking = async {
        if let Some(health) = &upstream.settings.health {
            keep_asking(&upstream, health).await;
        }
    };
    tokio::join!(resolving, asking);
}

async fn keep_resolved(upstream: &Upstream) {
    let mut known = true;
    loop {
        let resolved = upstream.resolve().await;
        match &resolved {
            Err((place, error)) if known => {
                tracing::warn!(%place, %error, "a name of an upstream cannot be resolved: its last addresses are used on");
            }
            Ok(()) if !known => tracing::info!(upstream = %upstream.settings.places[0], "its names are resolved again"),
            Err(_) | Ok(()) => {}
        }
        known = resolved.is_ok();
        tokio::select! {
            () = sleep(jittered(RESOLVE)) => {}
            () = async { sleep(PAUSE).await; upstream.stale.notified().await } => {}
        }
    }
}

async fn keep_asking(upstream: &Arc<Upstream>, health: &Health) {
    loop {
        let mut asked = JoinSet::new();
        for endpoint in upstream.endpoints().iter() {
            let (upstream, endpoint, health) = (upstream.clone(), endpoint.clone(), health.clone());
            asked.spawn(async move { ask(&upstream, &endpoint, &health).await });
        }
        while asked.join_next().await.is_some() {}
        sleep(jittered(health.interval)).await;
    }
}

async fn ask(upstream: &Upstream, endpoint: &Endpoint, health: &Health) {
    let well = match timeout(health.timeout, answer(upstream, endpoint, health)).await {
        Ok(Ok(status)) => status.is_success() || status.is_redirection(),
        Ok(Err(cause)) => {
            tracing::debug!(endpoint = %endpoint.address, cause, "a health check failed");
            false
        }
        Err(_) => false,
    };
    let enough = if well { health.healthy } else { health.unhealthy };
    endpoint.probed(well, enough, upstream::now());
}

/// The status that an endpoint answers with, on a connection of its own: one that is kept would say less.
pub(super) async fn answer(upstream: &Upstream, endpoint: &Endpoint, health: &Health) -> Result<StatusCode, String> {
    let host = health.host.as_deref().unwrap_or_else(|| endpoint.place.authority());
    let failed = |error: hyper::Error| crate::text::chain(&error);
    let no_connection = |error: ConnectError| crate::text::chain(&error);
    let settings = &upstream.settings;
    let (wire, http2) = connect::dial(endpoint, settings, settings.http2).await.map_err(no_connection)?;
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::GET;
    let agent = HeaderValue::from_static(concat!("vestibule/", env!("CARGO_PKG_VERSION"), " health-check"));
    request.headers_mut().insert(header::USER_AGENT, agent);
    let answered: Response<Incoming> = if http2 {
        let uri = Uri::builder().scheme(settings.scheme()).authority(host).path_and_query(health.path.clone());
        *request.uri_mut() = uri.build().map_err(|error| error.to_string())?;
        *request.version_mut() = Version::HTTP_2;
        let (mut sender, connection) = connect::http2(endpoint, wire).await.map_err(no_connection)?;
        tokio::select! {
            answered = sender.send_request(request) => answered.map_err(failed)?,
            ended = connection => return Err(ended.map_or_else(failed, |()| "the connection ended".to_owned())),
        }
    } else {
        *request.uri_mut() = Uri::from(health.path.clone());
        let host = HeaderValue::from_str(host).map_err(|error| error.to_string())?;
        request.headers_mut().insert(header::HOST, host);
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(wire)).await;
        let (mut sender, connection) = handshake.map_err(failed)?;
        tokio::select! {
            answered = sender.send_request(request) => answered.map_err(failed)?,
            ended = connection => return Err(ended.map_or_else(failed, |()| "the connection ended".to_owned())),
        }
    };
    Ok(answered.status())
}

/// Up to a tenth more or less, so that not all of many ask at once.
fn jittered(interval: Duration) -> Duration {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    interval.mul_f64(0.9 + 0.2 * f64::from(nanoseconds / 7 % 1000) / 1000.0)
}
