//! What needs no identity, around the hallway: the record of every request, a bound on work in hand, the panic barrier.

use crate::{
    audit::{Audit, Crossing},
    body::{Body, RequestBody},
    canonical::{Peer, RequestId},
    gateway::{Gateway, Tidings, Told},
    metrics::Metrics,
    refusal::{self, Asked, Reason, Refusal},
};
use http::{Request, Response};
use http_body::Body as _;
use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    task::{Context, Poll},
    time::SystemTime,
};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceBuilder};

/// A request as it arrives from a connection.
pub struct Arrival {
    /// The request, or why there is none that can be read in one way.
    pub request: Result<Request<RequestBody>, Refusal>,
    /// The other end.
    pub peer: Arc<Peer>,
}

/// An arrival with its record.
pub struct Recorded {
    arrival: Arrival,
    crossing: Crossing,
    told: Arc<Told>,
}

/// The stack of one core.
pub type Stack = Recording<Bounded<Walk>>;

type Walking<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The whole stack around one core's hallway, outermost first: record, bound, barrier, hallway.
pub fn stack(gateway: Arc<Gateway>, audit: Audit, in_hand: Arc<Semaphore>, metrics: Arc<Metrics>) -> Stack {
    ServiceBuilder::new()
        .layer_fn(move |inner| Recording { inner, audit: audit.clone(), metrics: metrics.clone() })
        .layer(BoundLayer { in_hand })
        .service(Walk { gateway })
}

/// Starts and ends the record of every request, and answers refusals.
#[derive(Clone)]
pub struct Recording<S> {
    inner: S,
    audit: Audit,
    metrics: Arc<Metrics>,
}

impl<S> Service<Arrival> for Recording<S>
where
    S: Service<Recorded, Response = Response<Body>, Error = Refusal, Future = Walking<Result<Response<Body>, Refusal>>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Walking<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, arrival: Arrival) -> Self::Future {
        let crossing = self.audit.crossing(arrival.peer.address.ip(), SystemTime::now());
        let told = Arc::<Told>::default();
        let recorded = Recorded { arrival, crossing: crossing.clone(), told: told.clone() };
        let (walking, audit, metrics) = (self.inner.call(recorded), self.audit.clone(), self.metrics.clone());
        Box::pin(async move {
            let outcome = walking.await;
            let told = std::mem::take(&mut *told.lock().unwrap_or_else(PoisonError::into_inner));
            let outcome = recorded_first(outcome, &told, &audit, &crossing).await;
            let mut response = match outcome {
                Ok(response) => {
                    metrics.answered();
                    response
                }
                Err(refusal) => {
                    crossing.refused(&refusal);
                    metrics.refused(&refusal);
                    report(&refusal, &told.asked, &crossing);
                    refusal::answer(&refusal, &told.asked)
                }
            };
            told.envelope.close(&mut response);
            crossing.answered_by_us(response.body().size_hint().exact());
            crossing.status(response.status());
            Ok(response)
        })
    }
}

/// Nothing is answered without the record that `audit.mode` demands. What ended access has done so already, and says so.
async fn recorded_first(
    outcome: Result<Response<Body>, Refusal>,
    told: &Tidings,
    audit: &Audit,
    crossing: &Crossing,
) -> Result<Response<Body>, Refusal> {
    match audit.answer(outcome.as_ref().err(), crossing).await {
        Err(refusal) if outcome.is_err() || !told.ends_access => Err(refusal),
        Ok(()) | Err(_) => outcome,
    }
}

/// The operator hears of faults that are not the client's.
fn report(refusal: &Refusal, asked: &Asked, crossing: &Crossing) {
    let (cause, detail) =
        (refusal.cause.as_deref().map(|cause| crossing.masked(cause)), crossing.masked(&refusal.detail));
    let (cause, code, host) = (cause.as_deref(), refusal.reason.code(), asked.host.as_deref());
    let request_id = asked.id.map(|id| id.to_string());
    if refusal.reason.status().is_server_error() {
        tracing::warn!(request_id, code, host, %detail, cause, "a request was refused");
    } else {
        tracing::debug!(request_id, code, host, %detail, cause, "a request was refused");
    }
}

/// Bounds the work in hand. A permit is held until the answer's body ends, which is when the work does.
#[derive(Clone)]
pub struct BoundLayer {
    in_hand: Arc<Semaphore>,
}

impl<S> Layer<S> for BoundLayer {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded { inner, in_hand: self.in_hand.clone() }
    }
}

/// See [`BoundLayer`].
#[derive(Clone)]
pub struct Bounded<S> {
    inner: S,
    in_hand: Arc<Semaphore>,
}

impl<S> Service<Recorded> for Bounded<S>
where
    S: Service<Recorded, Response = Response<Body>, Error = Refusal, Future = Walking<Result<Response<Body>, Refusal>>>,
{
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Walking<Result<Response<Body>, Refusal>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, recorded: Recorded) -> Self::Future {
        match self.in_hand.clone().try_acquire_owned() {
            Ok(permit) => {
                recorded.crossing.hold(permit);
                self.inner.call(recorded)
            }
            Err(_) => Box::pin(async move {
                let (id, peer) = (RequestId::new(), recorded.arrival.peer.address.ip());
                recorded.crossing.unread(id, peer);
                recorded.told.lock().unwrap_or_else(PoisonError::into_inner).asked.id = Some(id);
                Err(Refusal::new(Reason::Overloaded, "Too many requests are in hand. Try again in a moment.").closing())
            }),
        }
    }
}

/// The hallway as a service. A panic in it is this request's alone.
#[derive(Clone)]
pub struct Walk {
    gateway: Arc<Gateway>,
}

impl Service<Recorded> for Walk {
    type Response = Response<Body>;
    type Error = Refusal;
    type Future = Walking<Result<Response<Body>, Refusal>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refusal>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, recorded: Recorded) -> Self::Future {
        let gateway = self.gateway.clone();
        let Recorded { arrival, crossing, told } = recorded;
        Box::pin(async move {
            // made in place: this future is large, and every move of it a copy
            let walk = pin!(gateway.walk(arrival.request, &arrival.peer, &crossing, &told));
            Barrier(walk).await.unwrap_or_else(|()| {
                tracing::error!("a request's walk panicked");
                Err(Refusal::new(Reason::Internal, "Something went wrong here.").closing())
            })
        })
    }
}

/// Turns a panic of the future inside into an error.
struct Barrier<'a, F>(Pin<&'a mut F>);

impl<F: Future> Future for Barrier<'_, F> {
    type Output = Result<F::Output, ()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = AssertUnwindSafe(|| self.0.as_mut().poll(cx));
        match std::panic::catch_unwind(inner) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(_) => Poll::Ready(Err(())),
        }
    }
}
