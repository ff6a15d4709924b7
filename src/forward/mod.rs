//! To the upstream and back: identity headers, the signed assertion, a pool per core, streaming, upgrades.

use crate::{
    audit::{Crossing, Permit},
    body::{Body, RequestBody},
    canonical::{Class, Judged},
    principal::{Bearer, Principal},
    refusal::{Reason, Refusal},
    route::Route,
    upstream::{self, Endpoint, Flight},
};
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::{body::Incoming, upgrade::OnUpgrade};
use std::{pin::pin, sync::Arc};

mod again;
mod answer;
pub mod assertion;
mod connect;
mod credential;
mod exchange;
mod frames;
mod headers;
mod identity;
mod idle;
mod multi;
mod pool;
mod probe;
pub mod streams;
mod strict;
mod tunnel;
pub mod upgrade;
mod upkeep;
mod upload;

#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use probe::probe;
pub use upkeep::Upkeep;

use again::Attempts;
use answer::{Lease, Watch};
use assertion::AssertionKeys;
use connect::ConnectError;
use exchange::Exchange;
use identity::{Came, Identities, Identity};
use pool::{Pool, Pools};
use streams::{Registered, Stream, Streams};
use upload::Upload;

/// Bodies up to this many bytes are over before a decision could be made anew.
const SMALL: u64 = 64 * 1024;

/// Forwards from one core: its own connections to the upstreams.
pub struct Forward {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    identities: Identities,
}

/// What all cores share.
pub struct Shared {
    /// The register of long-lived connections.
    pub streams: Arc<Streams>,
    /// Who signs assertions.
    pub keys: Arc<AssertionKeys>,
    /// `iss` of assertions: the origin of `public_url`, without a trailing slash.
    pub issuer: Arc<str>,
    /// The names of our cookies, which no upstream can set: session and binding.
    pub cookies: [Arc<str>; 2],
    /// How to get at the client's stream after a 101.
    pub open: upgrade::Open,
    /// The connections of all cores.
    pub connections: Connections,
}

/// The connections to upstreams that all cores have. Each core adds its own.
#[derive(Default)]
pub struct Connections(Pools);

/// The session a request came with, as far as forwarding needs it.
#[derive(Clone, Debug)]
pub struct SessionRef {
    /// SHA-256 of the handle: the session's key in stores and registers.
    pub key: [u8; 32],
    /// What audit events and assertions (`sid`) call it; reveals nothing that could be used as the session.
    pub hash: Arc<str>,
}

/// One request on its way through here.
struct Passage<'a> {
    judged: Judged,
    route: &'a Arc<Route>,
    session: Option<&'a SessionRef>,
    bearer: Option<&'a Arc<Bearer>>,
    crossing: &'a Crossing,
    identity: Option<Arc<Identity>>,
    personal: bool,
}

impl Forward {
    /// Forwards for one core. Connections are opened as they are needed.
    pub fn new(shared: Arc<Shared>) -> Self {
        let pool = Arc::<Pool>::default();
        shared.connections.0.join(&pool);
        Self { shared, pool, identities: Identities::default() }
    }

    /// Sends a permitted request upstream and returns the answer, whose body streams.
    ///
    /// A WebSocket handshake (`judged.asked.websocket`) needs `upgrade`, taken from the request before it was parsed. A
    /// stream is registered in [`Shared::streams`] while it lasts: every WebSocket, every event stream, and every body of
    /// unknown length or of more than 64 KiB.
    ///
    /// # Errors
    /// `UpstreamFailed`, `UpstreamTimeout`, `ClientTimeout`; `Overloaded` where the upstream's connections are all in use;
    /// `BadRequest` where the client's body breaks off; the reason
    /// of the cut, where a long upload is cut; `Internal`, if no assertion can be signed; what [`Route::lend`] says.
    #[allow(clippy::too_many_arguments)]
    pub async fn send(
        &self,
        permit: Permit,
        principal: &Principal,
        judged: Judged,
        body: RequestBody,
        upgrade: Option<OnUpgrade>,
        route: &Arc<Route>,
        crossing: &Crossing,
        session: Option<&SessionRef>,
        bearer: Option<&Arc<Bearer>>,
    ) -> Result<Response<Body>, Refusal> {
        drop(permit); // spent: it lets one request through
        let came = Came::of(session, bearer);
        route.lend(principal, &judged.asked)?;
        let identity =
            self.identities.of(principal, came, route, &self.shared.keys, &self.shared.issuer).map_err(|cause| {
                Refusal::new(Reason::Internal, "The request cannot be signed.").because(cause).closing()
            })?;
        let personal = !principal.is_anonymous();
        let passage = Passage { judged, route, session, bearer, crossing, identity, personal };
        if passage.judged.asked.websocket {
            Box::pin(self.upgrade(passage, &body, upgrade)).await
        } else {
            let nothing_unread = http_body::Body::is_end_stream(&body);
            // made in place, as below: these futures are large, and every move of one is a copy
            let passing = pin!(self.pass(passage, body));
            passing.await.map_err(|refusal| Refusal { close: refusal.close && !nothing_unread, ..refusal })
        }
    }

    /// An ordinary request: on a warm connection if there is one, else as [`again`] says.
    async fn pass(&self, passage: Passage<'_>, body: RequestBody) -> Result<Response<Body>, Refusal> {
        let (route, large) = (passage.route, is_large(&body));
        let (upload, ended) = Upload::new(body, route.timeouts.request_idle, passage.crossing.clone());
        let watch = large.then(|| self.register(passage.stream()));
        let replayable = upload.is_empty() && is_safe(&passage.judged.asked.method);
        let mut exchange = Exchange::new(ended, watch, &route.timeouts, passage.crossing);
        let mut attempts = Attempts::new(upload, replayable);
        if let Some(flight) = route.upstream.choose(&[], self.pool.turn(), upstream::now()) {
            match self.pool.take(flight.endpoint()) {
                None => attempts.begin(flight),
                Some(line) => {
                    let request = passage.request(attempts.upload(), flight.endpoint(), line.is_http2())?;
                    let answered = {
                        let running = pin!(exchange.run(line, request));
                        running.await
                    };
                    match answered {
                        Ok(Ok((answer, line))) => return self.answered(passage, exchange, answer, line, flight),
                        Ok(Err(dead)) => attempts.died(&flight, dead, true)?,
                        Err(refusal) => return Err(blame(&flight, refusal)),
                    }
                }
            }
        }
        // boxed, as all that is rare, so that the future of an ordinary request stays small
        let (answer, line, flight) = Box::pin(self.again(&passage, &mut exchange, attempts)).await?;
        self.answered(passage, exchange, answer, line, flight)
    }

    fn answered(
        &self,
        passage: Passage<'_>,
        exchange: Exchange<'_>,
        answer: Response<Incoming>,
        line: pool::Line,
        flight: Flight,
    ) -> Result<Response<Body>, Refusal> {
        let (in_time, watch) = exchange.close();
        let home = in_time.then(|| self.pool.clone()); // an early answer leaves a connection in an unclear state
        self.answer(passage, answer, Lease { line, flight, home }, watch)
    }

    /// Turns the upstream's answer into ours.
    fn answer(
        &self,
        passage: Passage<'_>,
        answer: Response<Incoming>,
        lease: Lease,
        watch: Option<Watch>,
    ) -> Result<Response<Body>, Refusal> {
        let (mut head, body) = answer.into_parts();
        let flaw = match head.status {
            StatusCode::SWITCHING_PROTOCOLS => Some("upstream switched protocols unasked"),
            _ => headers::ambiguous(&head.headers),
        };
        if let Some(flaw) = flaw {
            lease.flight.failed();
            return Err(failed(flaw.into()));
        }
        lease.flight.succeeded();
        headers::clean_answer(&mut head.headers, &self.shared.cookies, passage.personal);
        credential::clean_answer(&mut head.headers, passage.route);
        let (limit, crossing) = (passage.route.timeouts.stream_idle, passage.crossing.clone());
        let grpc = passage.judged.asked.class == Class::Grpc;
        if head.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream")) {
            crossing.stream_opened();
        }
        let watch = match watch {
            None if is_large(&body) => Some(self.register(passage.into_stream())),
            watch => watch,
        };
        let mut response = Response::new(Body::upstream(Answer::new(body, limit, lease, crossing, watch, grpc)));
        *response.status_mut() = head.status;
        *response.headers_mut() = head.headers;
        Ok(response)
    }

    fn register(&self, stream: Stream) -> Watch {
        let registered: Registered = self.shared.streams.register(stream);
        Watch::new(registered)
    }
}

impl Passage<'_> {
    fn request(&self, upload: Upload, endpoint: &Endpoint, http2: bool) -> Result<Request<Upload>, Refusal> {
        let target = headers::Target { route: self.route, authority: endpoint.place.authority(), http2 };
        headers::request(&self.judged.asked, self.identity.as_deref(), upload, &target)
            .map_err(|error| Refusal::new(Reason::Internal, "The request cannot be written.").because(error).closing())
    }

    fn stream(&self) -> Stream {
        let (session, bearer) = (self.session.cloned(), self.bearer.cloned());
        Stream { judged: self.judged.clone(), route: self.route.clone(), session, bearer }
    }

    fn into_stream(self) -> Stream {
        let (session, bearer) = (self.session.cloned(), self.bearer.cloned());
        Stream { judged: self.judged, route: self.route.clone(), session, bearer }
    }
}

/// Not known to be over soon.
fn is_large(body: &impl http_body::Body) -> bool {
    !body.is_end_stream() && body.size_hint().exact().is_none_or(|length| length > SMALL)
}

/// Sending it twice is as good as once.
fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// The upstream broke the protocol or left. What the client has not sent yet is not read, so its connection ends.
fn failed(cause: String) -> Refusal {
    Refusal::new(Reason::UpstreamFailed, "The service behind this address did not give a usable answer.")
        .because(cause)
        .closing()
}

/// There is no connection to the upstream.
fn unreachable(error: &ConnectError) -> Refusal {
    let refusal = match error {
        ConnectError::Timeout { .. } | ConnectError::Unresolved { .. } => Refusal::new(
            Reason::UpstreamTimeout,
            "The service behind this address did not accept a connection in time.",
        ),
        ConnectError::Full { .. } => {
            Refusal::new(Reason::Overloaded, "The service behind this address has too many requests in hand.")
        }
        ConnectError::Resolve { .. }
        | ConnectError::Nowhere { .. }
        | ConnectError::Connect { .. }
        | ConnectError::Tls { .. }
        | ConnectError::Handshake { .. }
        | ConnectError::OnlyHttp2 { .. } => {
            Refusal::new(Reason::UpstreamFailed, "The service behind this address cannot be reached.")
        }
    };
    refusal.because(crate::text::chain(error)).closing()
}

/// An endpoint that did not answer in time has failed; what the client did is not its fault.
fn blame(flight: &Flight, refusal: Refusal) -> Refusal {
    if refusal.reason == Reason::UpstreamTimeout {
        flight.failed();
    }
    refusal
}
