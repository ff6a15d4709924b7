//! The hallway: the whole life of a request, in order.

use crate::{
    audit::{Audit, Crossing},
    authorize::{Aside, Authorize, Decision},
    body::{Body, RequestBody},
    canonical::{Canonical, Judged, Peer, RequestId, Rules, Unread},
    config::Settings,
    control::{Control, Issuers},
    cookie::Cookies,
    cors::{self, Allowed},
    envelope::{self, Envelope},
    forward::{Forward, SessionRef, streams::Stream},
    identify::{self, Caller, Identified, Identify},
    inspect::Bodies,
    login::{Login, Visit},
    membership::Memberships,
    metrics::Metrics,
    principal::{Holder, Lack, Principal},
    refusal::{Asked, Challenge, Reason, Refusal},
    route::{Destination, Endpoint, Route, Routes},
    text::Mistakes,
};
use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Method, Request, Response};
use hyper::upgrade::OnUpgrade;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
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
    /// Who vouches for callers with tokens.
    pub issuers: Issuers,
    /// Who may do what.
    pub authorize: Authorize,
    /// What is asked beside that and never obeyed, or why it cannot be.
    pub shadow: Option<Result<Authorize, Mistakes>>,
    /// `Strict-Transport-Security` of answers by https; none if browsers are told nothing.
    pub hsts: Option<HeaderValue>,
}

/// How the last reload went.
#[derive(Clone, Debug)]
pub struct LastReload {
    /// When it was.
    pub at: SystemTime,
    /// Why it was refused, if it was: the generation of before is in force.
    pub refused: Option<String>,
}

/// What all cores share.
pub struct Shared {
    /// The generation in force; replaced whole.
    pub snapshot: ArcSwap<Snapshot>,
    /// How the last reload went; empty before the first.
    pub last_reload: ArcSwapOption<LastReload>,
    /// Stores and providers.
    pub control: Arc<Control>,
    /// Who is in which groups.
    pub membership: Arc<Memberships>,
    /// The room for bodies that are read before a decision.
    pub bodies: Bodies,
    /// The trail.
    pub audit: Audit,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Our own endpoints.
    pub login: Login,
}

/// The hallway of one core.
pub struct Gateway {
    shared: Arc<Shared>,
    identify: Identify,
    forward: Forward,
}

/// What is told of a request to whoever answers it; filled while the request is read.
pub type Told = Mutex<Tidings>;

/// What is told of a request.
#[derive(Default)]
pub struct Tidings {
    /// What the answer to a refusal may say.
    pub asked: Asked,
    /// What every answer carries.
    pub envelope: Envelope,
    /// It is asked of an endpoint that ends access, or tells that it should: that never waits for a record.
    pub ends_access: bool,
}

impl Tidings {
    /// Of our endpoints only those on the way into a frame may be shown in one, and who is signed in may be read by the pages
    /// that may act as that person on a route of this host.
    fn of_endpoint(&mut self, asked: &Canonical, endpoint: &Endpoint, routes: &Routes) {
        if matches!(endpoint, Endpoint::Frame | Endpoint::Arrive) {
            let origins = routes.frame(&asked.host);
            self.asked.framed = !origins.is_empty();
            self.envelope.frame = envelope::ancestors(origins);
        }
        if matches!(endpoint, Endpoint::Session) {
            let route = routes.of(&asked.host).find(|route| cors::acts_as_the_person(asked, route));
            self.envelope.cors = route.map_or(Allowed::Nobody, |route| Allowed::of(asked, route));
        }
        self.ends_access = endpoint.ends_access();
    }

    fn of_route(&mut self, asked: &Canonical, route: &Arc<Route>) {
        self.asked.errors = route.errors;
        self.asked.challenge = Challenge::of(route, asked);
        self.asked.framed = !route.frame.is_empty();
        self.envelope.cors = Allowed::of(asked, route);
        self.envelope.frame = envelope::ancestors(&route.frame);
    }
}

impl Shared {
    /// Decides anew about a stream that is open. `None`: it may go on.
    pub async fn rejudge(&self, stream: &Stream, caller: &Caller) -> Option<Reason> {
        let now = SystemTime::now();
        let state = self.snapshot.load_full();
        let route = match state.routes.find(&stream.judged.asked) {
            Ok(Destination::Upstream(route)) if route.name == stream.route.name => route,
            Ok(_) | Err(_) => return Some(Reason::NotFound),
        };
        match self.rejudged(caller, stream, route, &state, now).await {
            Ok(true) => None,
            Ok(false) => Some(Reason::NotPermitted),
            Err(refusal) => Some(refusal.reason),
        }
    }

    /// What stands above policies: locks, the strength of the sign-in, that the job still runs.
    async fn admitted(&self, caller: &Caller, route: &Route, now: SystemTime) -> Result<(), Refusal> {
        self.membership.unlocked(caller, now).await?;
        strong_enough(caller, route, now)?;
        self.membership.still_runs(caller, route.tokens.running_job, now).await
    }

    /// Who it is after a body was waited for: whose session ended meanwhile, or who was locked, comes no further.
    async fn still(&self, caller: &Caller, route: &Route) -> Result<Principal, Refusal> {
        if caller.live().is_some_and(|live| live.is_ended()) {
            return Err(Refusal::new(Reason::NoSession, "The session has ended."));
        }
        let now = SystemTime::now();
        self.admitted(caller, route, now).await?;
        self.membership.principal(caller, now).await
    }

    async fn rejudged(
        &self,
        caller: &Caller,
        stream: &Stream,
        route: &Arc<Route>,
        state: &Snapshot,
        now: SystemTime,
    ) -> Result<bool, Refusal> {
        let caller = caller.clone().at_route(route); // as the route has it now
        self.admitted(&caller, route, now).await?;
        let principal = self.membership.principal(&caller, now).await?;
        let judged = stream.judged.at(route); // with the fields of its body that were read when it was opened
        route.lend(&principal, &judged.asked)?;
        let permits = state.authorize.decide(&principal, &judged, route, now).permits();
        if !permits && principal.is_anonymous() {
            return Err(Refusal::new(Reason::NoSession, "The session has ended."));
        }
        Ok(permits)
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
        request: Result<Request<RequestBody>, Refusal>,
        peer: &Peer,
        crossing: &Crossing,
        told: &Told,
    ) -> Result<Response<Body>, Refusal> {
        let now = SystemTime::now();
        let state = self.shared.snapshot.load_full(); // one generation of routes, policies and providers for the whole walk
        let (asked, body, upgrade) = read(request, peer, &state)
            .map_err(|Unread { refusal, client }| unread(refusal, client, crossing, told))?;
        crossing.asked(&asked, state.routes.redact());
        announce(&asked, &state, told);
        let route = match state.routes.find(&asked)? {
            Destination::Endpoint(endpoint) => {
                return self.ours(endpoint, body, &self.visit(&state, &asked, crossing, now), told).await;
            }
            Destination::Upstream(route) => route,
        };
        enter(&asked, route, crossing, told);
        crossing.keep(route.limits.address(asked.client, Instant::now)?);
        if let Some(answer) = cors::preflight(&asked, route)? {
            return Ok(answer);
        }
        let Identified { caller, ambient, beside, asked } =
            self.identify.caller(asked, route, &state.issuers, now).await?;
        self.introduce(&caller, beside.as_deref(), crossing, told);
        same_site(&asked, &caller, ambient, route)?;
        self.shared.admitted(&caller, route, now).await.map_err(|refusal| explain(refusal, &caller, &state))?;
        let principal = self.shared.membership.principal(&caller, now).await?; // groups: known, empty or unknown
        crossing.keep(route.limits.principal(&principal, Instant::now)?);
        let judged = judged(asked, route, &principal).map_err(|refusal| explain(refusal, &caller, &state))?;
        let (principal, judged, body, now) =
            self.inspect(principal, judged, body, &caller, route, &state, crossing, now).await?;
        let decision = state.authorize.decide(&principal, &judged, route, now);
        let (principal, decision) = self.look_again(principal, decision, &caller, &judged, route, &state).await;
        decided(&principal, &decision, crossing, told);
        self.compare(state.aside(&principal, &judged, route, now), &decision, route, crossing);
        let permit =
            self.shared.audit.admit(decision, crossing).await.map_err(|refusal| explain(refusal, &caller, &state))?;
        let (session, bearer) = (session_of(&caller), caller.bearer());
        let session = session.as_ref();
        let sent = self.forward.send(permit, &principal, judged, body, Some(upgrade), route, crossing, session, bearer);
        pin!(sent).await // not moved: it is large
    }

    /// An endpoint of ours. In a box: it is large, and most requests go elsewhere.
    async fn ours(
        &self,
        endpoint: Endpoint,
        body: RequestBody,
        visit: &Visit<'_>,
        told: &Told,
    ) -> Result<Response<Body>, Refusal> {
        tell(told, |told| told.of_endpoint(visit.asked, &endpoint, visit.routes));
        Box::pin(self.shared.login.serve(endpoint, body, visit)).await
    }

    /// Reads the declared fields of the body, where a rule of the route names the request, and says when that was done. Whom no
    /// policy permits it with any body is refused with the body unread.
    #[allow(clippy::too_many_arguments)]
    async fn inspect(
        &self,
        principal: Principal,
        judged: Judged,
        body: RequestBody,
        caller: &Caller,
        route: &Route,
        state: &Snapshot,
        crossing: &Crossing,
        now: SystemTime,
    ) -> Result<(Principal, Judged, RequestBody, SystemTime), Refusal> {
        let Some(rule) = judged.is_unread().then(|| route.body_rule(&judged.asked)).flatten() else {
            return Ok((principal, judged, body, now));
        };
        let refused = |principal: &Principal| state.authorize.refusal(principal, &judged, route, now);
        let principal = match refused(&principal) {
            Some(decision) => self.look_again(principal, decision, caller, &judged, route, state).await.0,
            None => principal,
        };
        if refused(&principal).is_some() {
            return Ok((principal, judged, body, now)); // as it will be decided
        }
        let (inspected, body) = Box::pin(self.shared.bodies.read(&judged.asked, body, rule, crossing)).await?;
        let principal = Box::pin(self.shared.still(caller, route)).await?;
        Ok((principal, Judged { body: inspected, ..judged }, body, SystemTime::now()))
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
        if decision.permits() || !decision.hinges_on_groups {
            return (principal, decision);
        }
        match Box::pin(self.read_again(caller)).await {
            Some(principal) => {
                let decision = state.authorize.decide(&principal, judged, route, SystemTime::now());
                (principal, decision)
            }
            None => (principal, decision), // refused it is in any case
        }
    }

    async fn read_again(&self, caller: &Caller) -> Option<Principal> {
        let now = SystemTime::now();
        if !self.shared.membership.read_again(caller, now).await {
            return None;
        }
        self.shared.membership.principal(caller, now).await.ok()
    }

    /// How the shadow policies differ is recorded and counted, and nothing more.
    fn compare(&self, shadow: Option<Aside>, decision: &Decision, route: &Route, crossing: &Crossing) {
        let Some(shadow) = shadow else { return };
        if let Some(difference) = decision.otherwise(&shadow) {
            self.shared.metrics.shadowed(route, difference);
        }
        crossing.shadowed(shadow);
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

    /// Says in the record who it is as far as a credential tells, and with what session beside a token.
    fn introduce(&self, caller: &Caller, beside: Option<&str>, crossing: &Crossing, told: &Told) {
        match caller {
            Caller::Anonymous => {}
            Caller::Person(live) | Caller::Foreign(live) => {
                identify::introduce(live, crossing);
                tell(told, |told| told.asked.person = Some(live.session.person.clone()));
            }
            Caller::Token(bearer) => {
                identify::introduce_bearer(bearer, crossing);
                beside.into_iter().for_each(|session| crossing.session(session));
                tell(told, |told| told.asked.bearer = Some(bearer.clone()));
            }
        }
    }
}

/// Target, host, class, clean headers: once. What hyper needs to go on with another protocol is taken out before.
fn read(
    request: Result<Request<RequestBody>, Refusal>,
    peer: &Peer,
    state: &Snapshot,
) -> Result<(Canonical, RequestBody, OnUpgrade), Unread> {
    let nobody = |refusal| Unread { refusal, client: peer.address.ip().to_canonical() };
    let mut request = request.map_err(nobody)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let (asked, body) = Canonical::parse(request, peer, &state.rules)?;
    Ok((asked, body, upgrade))
}

fn announce(asked: &Canonical, state: &Snapshot, told: &Told) {
    tell(told, |told| {
        told.asked = Asked { settings: Some(state.settings.clone()), ..Asked::of(asked) };
        told.envelope.hsts = state.hsts.clone().filter(|_| asked.https);
    });
}

fn enter(asked: &Canonical, route: &Arc<Route>, crossing: &Crossing, told: &Told) {
    crossing.route(route);
    tell(told, |told| told.of_route(asked, route));
}

/// What cannot be read has a name all the same, and comes from somewhere.
fn unread(refusal: Refusal, client: IpAddr, crossing: &Crossing, told: &Told) -> Refusal {
    let id = RequestId::new();
    crossing.unread(id, client);
    tell(told, |told| told.asked.id = Some(id));
    refusal
}

/// A cookie proves who acts, not that they meant to: another site's page must not act with it (S-92, S-93), nor with a certificate
/// or a password that a browser sends by itself.
fn same_site(asked: &Canonical, caller: &Caller, ambient: bool, route: &Route) -> Result<(), Refusal> {
    let acts = asked.websocket || ![Method::GET, Method::HEAD, Method::OPTIONS].contains(&asked.method);
    let crosses = |allowed: &[String]| match ambient {
        true => asked.crosses_site_by_browser(allowed),
        false => asked.crosses_site(allowed),
    };
    let ours = ambient || caller.live().is_some();
    if acts && ours && crosses(&route.origins) && crosses(cors::may_act(asked, route)) {
        let sentence = "Only a page of this site may act with your session. Browsers say where they are; other clients \
                        send an `Origin` header with this site's address.";
        return Err(Refusal::new(Reason::CrossSite, sentence).closing());
    }
    Ok(())
}

/// What is judged: the request as the upstream would get it, if the route lends this principal its credential. Its body is unread
/// where policies are to know something of it.
fn judged(asked: Canonical, route: &Route, principal: &Principal) -> Result<Judged, Refusal> {
    route.lend(principal, &asked)?;
    Ok(asked.inspect(route))
}

/// Who it was decided about, for the record, and for the page of a refusal.
fn decided(principal: &Principal, decision: &Decision, crossing: &Crossing, told: &Told) {
    crossing.principal(principal);
    if !decision.permits() {
        tell(told, |told| told.asked.groups_read = principal.groups_read());
    }
}

/// A route may ask for more than that somebody is signed in. Then nobody comes further with less, or with nothing, whatever
/// policies say.
fn strong_enough(caller: &Caller, route: &Route, now: SystemTime) -> Result<(), Refusal> {
    let Some(step_up) = &route.step_up else { return Ok(()) };
    let strength = match caller {
        Caller::Person(live) => Some(&live.session.strength),
        Caller::Token(bearer) => match &bearer.holder {
            Holder::Person(_, strength) => Some(strength),
            Holder::Job(_) | Holder::Service(_) => None,
        },
        Caller::Anonymous | Caller::Foreign(_) => None,
    };
    let Some(strength) = strength else {
        return Err(Refusal::new(Reason::NoSession, "This needs the sign-in of a person."));
    };
    let sentence = match step_up.lacking(strength, now) {
        None => return Ok(()),
        Some(Lack::Acr) => "This asks for a stronger sign-in than yours.",
        Some(Lack::Untimed | Lack::Old) => "This asks for a more recent sign-in than yours.",
    };
    Err(Refusal::new(Reason::InsufficientAuthentication, sentence).asking_for(step_up.clone()))
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
        Caller::Anonymous | Caller::Foreign(_) | Caller::Token(_) => None,
    }
}

fn tell(told: &Told, say: impl FnOnce(&mut Tidings)) {
    say(&mut told.lock().unwrap_or_else(PoisonError::into_inner));
}

impl Snapshot {
    /// What the shadow policies say of a request, if they can be asked.
    fn aside(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Option<Aside> {
        let policies = self.shadow.as_ref()?.as_ref().ok()?;
        Some(policies.aside(principal, judged, route, now))
    }

    /// The groups that the shadow policies name.
    pub fn shadow_groups(&self) -> BTreeSet<String> {
        self.shadow.iter().flatten().flat_map(Authorize::groups).collect()
    }

    /// What browsers are told about coming by https (RFC 6797, section 6.1).
    pub fn hsts(settings: &Settings) -> Option<HeaderValue> {
        let seconds = settings.hsts.as_secs();
        (seconds > 0).then(|| HeaderValue::try_from(format!("max-age={seconds}")).ok()).flatten()
    }

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
