//! The hallway: the whole life of a request, in order.

use crate::{
    audit::{Audit, Crossing},
    authorize::{Authorize, Decision},
    body::Body,
    canonical::{Canonical, Judged, Peer, RequestId, Rules},
    config::Settings,
    control::Control,
    cookie::Cookies,
    forward::{Forward, SessionRef, streams::Stream},
    identify::{self, Caller, Identify},
    login::{Login, Visit},
    membership::Memberships,
    principal::Principal,
    refusal::{Asked, Reason, Refusal},
    route::{Destination, Route, Routes},
};
use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// One generation of everything that a file decides. A request is judged by exactly one.
pub struct Snapshot {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// How a request is read.
    pub rules: Rules,
    /// The names of our cookies.
    pub cookies: Cookies,
    /// Where requests go.
    pub routes: Routes,
    /// Who may do what.
    pub authorize: Authorize,
}

/// What all cores share.
pub struct Shared {
    /// The generation in force; replaced whole.
    pub snapshot: ArcSwap<Snapshot>,
    /// Stores and providers.
    pub control: Arc<Control>,
    /// Who is in which groups.
    pub membership: Arc<Memberships>,
    /// The trail.
    pub audit: Audit,
    /// Our own endpoints.
    pub login: Login,
}

/// The hallway of one core.
pub struct Gateway {
    shared: Arc<Shared>,
    identify: Identify,
    forward: Forward,
}

/// What the answer to a refusal may say of the request; filled while the request is read.
pub type Told = Mutex<Asked>;

impl Shared {
    /// Decides anew about a stream that is open. `None`: it may go on.
    pub async fn rejudge(&self, stream: &Stream, caller: &Caller) -> Option<Reason> {
        let now = SystemTime::now();
        let state = self.snapshot.load_full();
        let route = match state.routes.find(&stream.judged.asked) {
            Ok(Destination::Upstream(route)) if route.name == stream.route.name => route,
            Ok(_) | Err(_) => return Some(Reason::NotFound),
        };
        let caller = Caller::at(&route.providers, caller.live().cloned()); // as the route has it now
        let principal = self.membership.principal(&caller, now).await;
        let decision = state.authorize.decide(&principal, &stream.judged, route, now);
        let reason = if principal.person().is_some() { Reason::NotPermitted } else { Reason::NoSession };
        (!decision.permits()).then_some(reason)
    }
}

impl Gateway {
    /// A hallway with its own first-level caches and connections.
    pub fn new(shared: Arc<Shared>, forward: Forward) -> Self {
        Self { identify: Identify::new(shared.control.clone()), shared, forward }
    }

    /// Walks one request from route to upstream. The order of these lines is the order of events.
    ///
    /// # Errors
    /// Every refusal; `told` then says what its answer may say.
    pub async fn walk(
        &self,
        mut request: Request<Incoming>,
        peer: &Peer,
        crossing: &Crossing,
        told: &Told,
    ) -> Result<Response<Body>, Refusal> {
        let now = SystemTime::now();
        let state = self.shared.snapshot.load_full(); // one generation of routes, policies and providers for the whole walk
        let upgrade = hyper::upgrade::on(&mut request);
        let (asked, body) = Canonical::parse(request, peer, &state.rules) // target, host, class, clean headers: once
            .inspect_err(|_| unread(peer, crossing, told))?;
        crossing.asked(&asked);
        tell(told, |told| *told = Asked { settings: Some(state.settings.clone()), ..Asked::of(&asked) });
        let route = match state.routes.find(&asked)? {
            Destination::Endpoint(endpoint) => {
                return Box::pin(self.shared.login.serve(endpoint, &self.visit(&state, &asked, crossing, now))).await;
            }
            Destination::Upstream(route) => route,
        };
        crossing.route(route);
        tell(told, |told| told.errors = route.errors);
        let caller = self.identify.caller(&asked, &route.providers, now).await?;
        self.introduce(&caller, crossing, told);
        same_site(&asked, &caller, route)?;
        let principal = self.shared.membership.principal(&caller, now).await; // groups: known, empty or unknown
        let judged = asked.inspect(route, &principal)?;
        let decision = state.authorize.decide(&principal, &judged, route, now);
        let worth_another_look = !decision.permits() && decision.hinges_on_groups;
        let (principal, decision) = match worth_another_look {
            true => Box::pin(self.look_again(principal, decision, &caller, &judged, route, &state)).await,
            false => (principal, decision),
        };
        crossing.principal(&principal);
        let permit =
            self.shared.audit.admit(decision, crossing).await.map_err(|refusal| explain(refusal, &caller, &state))?;
        let session = session_of(&caller);
        self.forward.send(permit, &principal, judged, body, Some(upgrade), route, crossing, session.as_ref()).await
    }

    /// A refusal that hinges on groups is worth one more look at them: who was just added need not sign in again.
    async fn look_again(
        &self,
        principal: Principal,
        decision: Decision,
        caller: &Caller,
        judged: &Judged,
        route: &Route,
        state: &Snapshot,
    ) -> (Principal, Decision) {
        let now = SystemTime::now();
        if !self.shared.membership.read_again(caller, now).await {
            return (principal, decision);
        }
        let principal = self.shared.membership.principal(caller, now).await;
        let decision = state.authorize.decide(&principal, judged, route, now);
        (principal, decision)
    }

    fn visit<'a>(
        &'a self,
        state: &'a Snapshot,
        asked: &'a Canonical,
        crossing: &'a Crossing,
        now: SystemTime,
    ) -> Visit<'a> {
        Visit {
            settings: &state.settings,
            cookies: &state.cookies,
            routes: &state.routes,
            identify: &self.identify,
            asked,
            crossing,
            now,
        }
    }

    fn introduce(&self, caller: &Caller, crossing: &Crossing, told: &Told) {
        if let Some(live) = caller.live() {
            identify::introduce(live, crossing);
            tell(told, |told| told.person = Some(live.session.person.clone()));
        }
    }
}

/// What cannot be read has a name all the same, and comes from somewhere.
fn unread(peer: &Peer, crossing: &Crossing, told: &Told) {
    let id = RequestId::new();
    crossing.unread(id, peer.address.ip().to_canonical());
    tell(told, |told| told.id = Some(id));
}

/// A cookie proves who acts, not that they meant to: another site's page must not act with it (S-92, S-93).
fn same_site(asked: &Canonical, caller: &Caller, route: &Route) -> Result<(), Refusal> {
    let acts = asked.websocket || ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&asked.method);
    if acts && caller.live().is_some() && asked.crosses_site(&route.origins) {
        let sentence = "Only a page of this site may act with your session. Browsers say where they are; other clients \
                        send an `Origin` header with this site's address.";
        return Err(Refusal::new(Reason::CrossSite, sentence).closing());
    }
    Ok(())
}

/// Who is signed in elsewhere is told so, not asked to sign in again.
fn explain(refusal: Refusal, caller: &Caller, state: &Snapshot) -> Refusal {
    match caller {
        Caller::Foreign(live) if refusal.reason == Reason::NoSession => {
            let provider = state.settings.provider_title(&live.session.person.id.provider);
            let sentence =
                format!("You are signed in with {provider}, and this place is for people of another provider.");
            Refusal { reason: Reason::WrongProvider, detail: sentence, ..refusal }
        }
        _ => refusal,
    }
}

fn session_of(caller: &Caller) -> Option<SessionRef> {
    match caller {
        Caller::Person(live) => Some(SessionRef { key: live.key().0, hash: live.hash.clone() }),
        Caller::Anonymous | Caller::Foreign(_) => None,
    }
}

fn tell(told: &Told, say: impl FnOnce(&mut Asked)) {
    say(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Snapshot {
    /// How requests are read under these settings.
    pub fn rules(settings: &Settings, cookies: &Cookies) -> Rules {
        Rules {
            trusted_proxies: settings.trusted_proxies.clone(),
            https: settings.public_url.scheme() == "https",
            session_cookie: cookies.session.clone(),
            binding_cookie: cookies.binding.clone(),
        }
    }
}
