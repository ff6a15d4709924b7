//! An upstream that tells what it saw.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::net::TcpListener;

/// One request as the upstream saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Seen {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} stands there {} times", all.len());
        all.first().copied()
    }
}

/// A running upstream.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Upstream {
    /// Starts one. `/public/cors` says `Access-Control-Allow-Origin: *`; `/sse` and `/public/sse` stream an event every 50 ms without end; `/status/N` answers N; `/hostile-cookie` tries to set
    /// our cookies; `/compressed` sends the body back as gzip; `/slow/N` and `/public/slow/N` answer after N ms; `/public/cors` says `Access-Control-Allow-Origin: *`; `/public-cache` says `Cache-Control: public`; all else answers 200 and the target.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::<Mutex<Vec<Seen>>>::default();
        let record = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = record.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, record.clone()));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { port, seen }
    }

    /// How many requests it has seen since they were taken last.
    pub(crate) fn seen(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    /// What it has seen since the last call.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no panic"))
    }

    /// The one request that it has seen since the last call.
    pub(crate) fn only(&self) -> Seen {
        let mut seen = self.take();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }
}

async fn answer(
    request: Request<Incoming>,
    record: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let target = head.uri.to_string();
    record.lock().expect("no panic").push(Seen { target: target.clone(), headers, body: body.clone() });
    let full = |text: String| Full::from(text).boxed();
    let slow = head.uri.path().strip_prefix("/public").unwrap_or(head.uri.path()).strip_prefix("/slow/");
    if let Some(time) = slow.and_then(|time| time.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(time)).await;
    }
    let builder = Response::builder();
    let response = match head.uri.path() {
        "/sse" | "/public/sse" => builder.header("content-type", "text/event-stream").body(events()),
        "/hostile-cookie" => builder
            .header("set-cookie", format!("{}=stolen; Path=/", head.headers["x-cookie-name"].to_str().expect("ASCII")))
            .header("set-cookie", "theirs=kept; Path=/")
            .body(full("cookies".into())),
        "/compressed" => builder.header("content-encoding", "gzip").body(Full::from(body).boxed()),
        "/public/cors" => builder.header("access-control-allow-origin", "*").body(full("open".into())),
        "/public-cache" => builder.header("cache-control", "public, max-age=60").body(full("cached".into())),
        path => {
            let status = path.strip_prefix("/status/").and_then(|status| status.parse().ok()).unwrap_or(200);
            builder.status(status).header("content-type", "text/plain").body(full(target))
        }
    };
    Ok(response.expect("a response"))
}

fn events() -> BoxBody<Bytes, Infallible> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        for count in 0.. {
            let event = Frame::data(Bytes::from(format!("data: {count}\n\n")));
            if sender.send(Ok::<_, Infallible>(event)).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    StreamBody::new(stream).boxed()
}
