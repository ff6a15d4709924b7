//! Health and metrics, on a listener of their own (S-37, S-102).

use crate::{
    audit::ship::Status,
    body::Body,
    config::AuditMode,
    listener::{Hall, Phase},
    metrics::{Gauges, SinkFigures},
};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    time::{Duration, SystemTime},
};
use tokio::net::TcpListener;

/// Serves `/healthz`, `/readyz` and `/metrics` until the process ends.
pub async fn serve(listener: TcpListener, hall: Hall) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let hall = hall.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&hall, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(10));
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn answer(hall: &Hall, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".into());
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "alive\n".into()),
        "/readyz" => match *hall.phase.borrow() {
            Phase::Serving if hall.audit.mode() == AuditMode::Required && !hall.audit.healthy() => {
                let why = "the audit journal cannot be written, and `audit.mode` is `required`\n";
                text(StatusCode::SERVICE_UNAVAILABLE, why.into())
            }
            Phase::Serving => text(StatusCode::OK, "ready\n".into()),
            Phase::Draining | Phase::Closing | Phase::Over => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n".into())
            }
        },
        "/metrics" => metrics(hall),
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics\n".into()),
    }
}

fn metrics(hall: &Hall) -> Response<Body> {
    let gauges = Gauges {
        connections: hall.limiter.len(),
        streams: hall.shared.control.streams.len(),
        audit_written: hall.audit.written(),
        audit_lost: hall.audit.lost(),
        audit_writable: hall.audit.healthy(),
    };
    let snapshot = hall.shared.snapshot.load();
    let sinks: Vec<_> = hall.audit.shippers().status(SystemTime::now()).iter().map(figures).collect();
    let mut response = text(StatusCode::OK, hall.metrics.text(gauges, snapshot.routes.all(), &sinks));
    let media_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

fn figures(sink: &Status) -> SinkFigures {
    let since = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SinkFigures {
        sink: sink.name.to_string(),
        records_behind: sink.figures.records_behind,
        bytes_behind: sink.figures.bytes_behind,
        oldest_age: sink.oldest.as_secs(),
        shipped: sink.shipped,
        failures: sink.failures,
        rejected: sink.rejected,
        last_success: sink.last_success.map_or(0, since),
    }
}

fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
