//! A sample portal behind the proxy. It has no sign-in of its own: it shows who it was told you are, and what proves it.

use super::{
    assertion::Verifier,
    server::{Asked, answer, page, text},
};
use crate::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use serde_json::json;
use std::{
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Interval;

mod pages;
mod websocket;

/// The portal.
pub(super) struct Portal {
    verifier: Verifier,
}

impl Portal {
    /// A portal that trusts the assertions of the proxy at `front`, which calls itself `public_url`.
    pub(super) fn new(front: SocketAddr, public_url: &str) -> Self {
        Self { verifier: Verifier::new(front, public_url, "portal") }
    }

    /// Answers one request.
    pub(super) async fn answer(&self, mut asked: Asked) -> Response<Body> {
        match asked.what() {
            (&Method::GET | &Method::HEAD, "/") => {
                let proof = self.verifier.verify(asked.header("vestibule-assertion"), SystemTime::now()).await;
                page(StatusCode::OK, pages::home(&Told::read(&asked), &proof))
            }
            (&Method::GET | &Method::HEAD, "/public/") => page(StatusCode::OK, pages::public(&Told::read(&asked))),
            (&Method::GET | &Method::HEAD, "/docs/") => page(StatusCode::OK, pages::documentation(&Told::read(&asked))),
            (&Method::GET, "/events") => events(),
            (&Method::GET, "/ws") => websocket::accept(&mut asked),
            (&Method::GET | &Method::HEAD, "/app.js") => {
                answer(StatusCode::OK, "text/javascript", include_str!("../../assets/demo/portal.js"))
            }
            (&Method::GET | &Method::HEAD, "/public/style.css") => {
                answer(StatusCode::OK, "text/css", include_str!("../../assets/demo/portal.css"))
            }
            (&Method::GET, _) => page(StatusCode::NOT_FOUND, pages::missing(&Told::read(&asked))),
            _ => text(StatusCode::METHOD_NOT_ALLOWED, "the portal is only to be read\n"),
        }
    }
}

/// What the proxy says in plain headers. Good enough where nobody but the proxy can reach the portal.
struct Told {
    subject: Option<String>,
    login: Option<String>,
    email: Option<String>,
    groups: Vec<String>,
    request: Option<String>,
}

impl Told {
    fn read(asked: &Asked) -> Self {
        let text = |name| asked.header(name).filter(|value| !value.is_empty()).map(str::to_owned);
        let groups = text("x-forwarded-groups").unwrap_or_default();
        Self {
            subject: text("x-forwarded-user"),
            login: text("x-forwarded-preferred-username"),
            email: text("x-forwarded-email"),
            groups: groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned).collect(),
            request: text("x-request-id"),
        }
    }

    /// What to call the person, if it is one.
    fn name(&self) -> Option<&str> {
        self.login.as_deref().or(self.subject.as_deref())
    }
}

/// Server-sent events: one each second, for as long as the right lasts.
fn events() -> Response<Body> {
    let mut response = answer(StatusCode::OK, "text/event-stream", "");
    *response.body_mut() = Body::streamed(Ticks { clock: tokio::time::interval(Duration::from_secs(1)), count: 0 });
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
    response
}

struct Ticks {
    clock: Interval,
    count: u64,
}

impl http_body::Body for Ticks {
    type Data = Bytes;
    type Error = crate::body::BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, crate::body::BodyError>>> {
        ready!(self.clock.poll_tick(cx));
        self.count += 1;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let event = format!("event: tick\ndata: {}\n\n", json!({ "tick": self.count, "time": time }));
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

#[cfg(test)]
mod tests;
