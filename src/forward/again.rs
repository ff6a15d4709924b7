//! What happens to a request whose connection could not be had or died: whether it may be sent again, and where.
//!
//! It is sent again if the upstream cannot have acted on it, or if acting twice is as good as once: GET, HEAD and OPTIONS
//! without a body, before a byte of the answer. Never to the same endpoint twice, save to the only one, after a connection
//! that was kept too long; never to more others than the configuration says; and never beyond the upstream's budget.
//!
//! Source: RFC 9110, section 9.2.2; RFC 9113, section 8.7.

use super::{
    Forward, Passage, blame,
    connect::ConnectError,
    exchange::{Dead, Exchange},
    failed,
    pool::Line,
    unreachable,
    upload::Upload,
};
use crate::{
    refusal::Refusal,
    route::Route,
    upstream::{self, Flight},
};
use http::Response;
use hyper::body::Incoming;

/// One request, on its way to one endpoint after the other.
pub(super) struct Attempts {
    upload: Option<Upload>,
    /// Sending it twice is as good as once.
    replayable: bool,
    /// Endpoints that had their chance.
    tried: Vec<u64>,
    /// Chosen, and not tried yet.
    next: Option<Flight>,
    /// How the last attempt ended.
    last: Option<Ended>,
}

/// How an attempt ended that may be followed by another.
struct Ended {
    refusal: Refusal,
    /// It was on a kept connection, which says nothing about its endpoint.
    warm: bool,
    /// No byte of it was sent.
    unsent: bool,
}

impl Attempts {
    pub(super) fn new(upload: Upload, replayable: bool) -> Self {
        Self { upload: Some(upload), replayable, tried: Vec::new(), next: None, last: None }
    }

    /// Goes there first, over a new connection.
    pub(super) fn begin(&mut self, flight: Flight) {
        self.next = Some(flight);
    }

    /// The body, which is not sent yet.
    pub(super) fn upload(&mut self) -> Upload {
        self.upload.take().unwrap_or_else(Upload::none)
    }

    /// The connection died. Goes on if the request may be sent again.
    ///
    /// # Errors
    /// The refusal, if it may not.
    pub(super) fn died(&mut self, flight: &Flight, dead: Dead, warm: bool) -> Result<(), Refusal> {
        if !warm || !dead.silent {
            flight.failed();
        }
        let (refusal, unsent) = (failed(dead.cause), dead.unsent.is_some());
        match dead.unsent {
            Some(upload) => self.upload = Some(upload),
            None if self.replayable && dead.silent => self.upload = Some(Upload::none()),
            None => return Err(refusal),
        }
        self.tried.push(flight.endpoint().id);
        self.last = Some(Ended { refusal, warm, unsent });
        Ok(())
    }

    /// There was no connection, so nothing was sent.
    pub(super) fn unconnected(&mut self, flight: &Flight, route: &Route, error: &ConnectError) -> Result<(), Refusal> {
        let refusal = unreachable(error);
        if let ConnectError::Full { .. } = error {
            return Err(refusal); // the endpoint is well: more connections would not make it faster
        }
        flight.failed();
        route.upstream.stale.notify_one();
        self.tried.push(flight.endpoint().id);
        self.last = Some(Ended { refusal, warm: false, unsent: true });
        Ok(())
    }
}

impl Forward {
    /// Tries until an answer comes or nothing is left to try.
    pub(super) async fn again(
        &self,
        passage: &Passage<'_>,
        exchange: &mut Exchange<'_>,
        mut attempts: Attempts,
    ) -> Result<(Response<Incoming>, Line, Flight), Refusal> {
        let route = passage.route;
        loop {
            let (flight, fresh) = exchange.unless_cut(self.next(route, &mut attempts)).await??;
            let kept = if fresh { None } else { self.pool.take(flight.endpoint()) };
            let line = match kept {
                Some(line) => line,
                None => match exchange.unless_cut(self.connect(route, &flight)).await? {
                    Ok(line) => line,
                    Err(error) => {
                        attempts.unconnected(&flight, route, &error)?;
                        continue;
                    }
                },
            };
            let warm = line.is_warm();
            let request = passage.request(attempts.upload(), flight.endpoint(), line.is_http2())?;
            match exchange.run(line, request).await {
                Ok(Ok((answer, line))) => return Ok((answer, line, flight)),
                Ok(Err(dead)) => attempts.died(&flight, dead, warm)?,
                Err(refusal) => return Err(blame(&flight, refusal)),
            }
        }
    }

    async fn connect(&self, route: &Route, flight: &Flight) -> Result<Line, ConnectError> {
        let pools = &self.shared.connections.0;
        self.pool.connect(flight.endpoint(), &route.upstream, pools, route.timeouts.connect).await
    }

    /// Where to try now, and whether that has to be over a new connection.
    pub(super) async fn next(&self, route: &Route, attempts: &mut Attempts) -> Result<(Flight, bool), Refusal> {
        if let Some(flight) = attempts.next.take() {
            return Ok((flight, false));
        }
        let Some(last) = attempts.last.take() else {
            return self.first(route).await.map(|flight| (flight, false)).map_err(|error| unreachable(&error));
        };
        let (upstream, now) = (&route.upstream, upstream::now());
        let others = u32::try_from(attempts.tried.len()).unwrap_or(u32::MAX) <= upstream.settings.retries;
        if others && upstream.has_other(&attempts.tried) {
            let may = upstream.may_retry(now);
            let other = if may { upstream.choose(&attempts.tried, self.pool.turn(), now) } else { None };
            return other.map(|flight| (flight, false)).ok_or(last.refusal);
        }
        let only = attempts.tried.len() == 1 && last.warm;
        if only
            && (last.unsent || upstream.may_retry(now))
            && let Some(flight) = upstream.choose(&[], self.pool.turn(), now)
        {
            return Ok((flight, true));
        }
        Err(last.refusal)
    }

    /// An endpoint of an upstream whose names may not be resolved yet.
    pub(super) async fn first(&self, route: &Route) -> Result<Flight, ConnectError> {
        let (upstream, limit) = (&route.upstream, route.timeouts.connect);
        let choose = || upstream.choose(&[], self.pool.turn(), upstream::now());
        if let Some(flight) = choose() {
            return Ok(flight);
        }
        let place = || upstream.settings.places[0].clone();
        let resolved = tokio::time::timeout(limit, upstream.resolve()).await;
        choose().ok_or_else(|| match resolved {
            Err(_) => ConnectError::Unresolved { place: place(), limit },
            Ok(Err((place, source))) => ConnectError::Resolve { place, source },
            Ok(Ok(())) => ConnectError::Nowhere { place: place() },
        })
    }
}
