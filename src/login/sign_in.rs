//! The way to a provider: the page that keeps the fragment, the chooser, and the authorization request.

use super::{
    Login, Visit,
    binding::Binding,
    hand::Hand,
    state::{State, Wish},
    to::Return,
};
use crate::{
    answer,
    body::Body,
    canonical::{Host, OwnCookie, Target},
    config::{ProviderKind, ProviderSettings},
    oidc::{AuthorizationRequest, Provider, ProviderError},
    pages,
    principal::{Name, StepUp},
    refusal::{Reason, Refusal},
    session::{KeyRing, Live, record::seconds},
};
use http::{Method, Response, StatusCode};
use std::{borrow::Cow, sync::Arc};
use url::{
    Url,
    form_urlencoded::{self, Serializer},
};

/// What the sign-in endpoints may be asked. Nothing of it reaches the provider as it was sent (S-48).
pub(super) struct Query {
    wish: Wish,
    /// As somebody else.
    switch: bool,
    /// The fragment was kept; on to where people sign in.
    go: bool,
    /// The person was told that they go round in circles, and tries again.
    again: bool,
    /// Whom the provider should sign in; never as a client said it.
    hint: Option<Arc<str>>,
}

impl Query {
    fn of(visit: &Visit<'_>, ring: &KeyRing) -> Self {
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let first = |name: &str| parameter(query, name);
        let is = |name: &str| first(name).as_deref() == Some("1");
        let to = match is("popup") {
            true => Return::signed_in(),
            false => Return::parse(first("to").as_deref(), first("fragment").as_deref()),
        };
        let hand = first("hand").and_then(|sealed| Hand::open(ring, &sealed, visit.now));
        let page = is("popup").then(|| Some(Return::parse(Some(&*first("to")?), None))).flatten();
        let wish = Wish { to, hand, anew: is("anew"), page, consented: false };
        Self { wish, switch: is("switch"), go: is("go"), again: is("again"), hint: None }
    }

    /// The same sign-in once more, with the consent of whoever it was.
    pub(super) fn with_consent(wish: Wish, person: Arc<str>) -> Self {
        let wish = Wish { consented: true, ..wish };
        Self { wish, switch: false, go: false, again: false, hint: Some(person) }
    }

    /// The address at which this goes on, on the same host or another.
    fn at(&self, place: &str, ring: &KeyRing) -> String {
        address(place, &self.wish, ring, &[("switch", self.switch), ("again", self.again)])
    }
}

fn is_about_locks(reason: Reason) -> bool {
    matches!(reason, Reason::Locked | Reason::MembershipUnknown)
}

/// `place` with what a wish says.
pub(super) fn address(place: &str, wish: &Wish, ring: &KeyRing, marks: &[(&str, bool)]) -> String {
    let mut query = Serializer::for_suffix(format!("{place}?"), place.len() + 1);
    match &wish.hand {
        Some(hand) => query.append_pair("hand", &hand.seal(ring)),
        None if wish.to == Return::signed_in() => {
            if let Some(page) = &wish.page {
                query.append_pair("to", page.as_str());
            }
            query.append_pair("popup", "1")
        }
        None => query.append_pair("to", wish.to.as_str()),
    };
    for (name, _) in marks.iter().chain(&[("anew", wish.anew)]).filter(|(_, set)| *set) {
        query.append_pair(name, "1");
    }
    query.finish()
}

/// The first value of a query parameter.
pub(super) fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

impl Login {
    /// Where somebody without a session is sent: on `public_url`'s host to a provider, on another to `public_url`'s.
    pub(super) async fn sign_in(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        self.on_from_here(visit).await.map(|response| without_former_cookies(response, visit))
    }

    async fn on_from_here(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let ring = self.control.ring();
        let query = Query::of(visit, ring);
        let here = match self.visitor(visit).await {
            Err(refusal) if refusal.reason == Reason::ProviderUnavailable => None, // another provider may well answer
            Err(refusal) if query.switch && is_about_locks(refusal.reason) => None, // somebody else may well be let in
            other => other?,
        };
        let enough = |live: &&Arc<Live>| is_enough(needed(&query.wish, visit), live, visit);
        if let Some(live) = here.as_ref().filter(|_| !query.switch).filter(enough) {
            return match &query.wish.hand {
                Some(hand) if visit.is_public() => self.hand_over(hand, live, visit).await,
                _ => Ok(answer::redirect(StatusCode::FOUND, query.wish.to.as_str())),
            };
        }
        let binding = Binding::of(ring, &visit.asked.binding);
        if let Some(binding) = binding.as_ref().filter(|binding| binding.loops(visit.now) && !query.again) {
            return Err(self.going_round(binding, visit));
        }
        match visit.is_public() {
            true => self.choose(&query, here.filter(|_| !query.switch), visit).await,
            false => Ok(self.leave(&query, binding, visit)),
        }
    }

    /// The one provider, or the choice among several. Whoever is signed in, and not as a page asks for, does so where they did
    /// before.
    async fn choose(
        &self,
        query: &Query,
        here: Option<Arc<Live>>,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let ring = self.control.ring();
        let start = |name: &Name| query.at(&format!("/.vestibule/sign-in/{name}"), ring);
        let mut fitting = fitting(query, visit);
        let before = here.as_ref().map(|live| &live.session.person.id.provider);
        if fitting.iter().any(|one| Some(&one.name) == before) {
            fitting.retain(|one| Some(&one.name) == before);
        }
        let page = match &fitting[..] {
            [only] if query.wish.hand.is_some() => return self.begin(&only.name, query, visit), // it has its fragment
            [only] => pages::keep_fragment(&start(&only.name)),
            several => {
                let links: Vec<_> = several.iter().map(|one| (&*one.title, start(&one.name))).collect();
                let links: Vec<_> = links.iter().map(|(title, href)| (*title, &**href)).collect();
                let host = query.wish.hand.as_ref().map_or(&*visit.asked.authority, |hand| &hand.host);
                pages::chooser(&links, &format!("Choose how to sign in to {host}."))
            }
        };
        Ok(answer::page(StatusCode::OK, page))
    }

    /// From another host to `public_url`'s, after the page that keeps the fragment.
    fn leave(&self, query: &Query, binding: Option<Binding>, visit: &Visit<'_>) -> Response<Body> {
        let ring = self.control.ring();
        if !query.go {
            let marks = [("switch", query.switch), ("again", query.again), ("go", true)];
            let wish = Wish { hand: None, ..query.wish.clone() };
            let page = pages::keep_fragment(&address("/.vestibule/sign-in", &wish, ring, &marks));
            return answer::page(StatusCode::OK, page);
        }
        let (binding, changed) = bound(binding, query.again);
        let hand = Hand::new(visit.asked.host.as_str(), binding.hash(), query.wish.to.clone(), visit.now);
        let hand = hand.about(query.wish.page.clone());
        let wish = Wish { hand: Some(hand), ..query.wish.clone() };
        let place = visit.settings.public_url.join("/.vestibule/sign-in").expect("a valid path");
        let marks = [("switch", query.switch), ("again", query.again)];
        let mut response = answer::redirect(StatusCode::FOUND, &address(place.as_str(), &wish, ring, &marks));
        if changed {
            answer::set_cookie(&mut response, &visit.binding_cookie(&binding.cookie(ring)));
        }
        response
    }

    /// Sends the browser to the provider.
    pub(super) fn start(&self, name: &Name, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        if !visit.is_public() {
            let origin = visit.settings.public_url.origin().ascii_serialization();
            return Err(Refusal::new(Reason::NotFound, format!("People sign in at {origin}, not on this host.")));
        }
        let begun = self.begin(name, &Query::of(visit, self.control.ring()), visit);
        begun.map(|response| without_former_cookies(response, visit))
    }

    pub(super) fn begin(&self, name: &Name, query: &Query, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        let (provider, ring) = (self.provider(name)?, self.control.ring());
        let (binding, changed) = bound(Binding::of(ring, &visit.asked.binding), query.again);
        let step_up = needed(&query.wish, visit);
        let sealed = State::seal(ring, name, &visit.asked.host, binding.id(), &query.wish, step_up, visit.now);
        let redirect_uri = redirect_uri(visit, name);
        let request = AuthorizationRequest {
            redirect_uri: &redirect_uri,
            state: &sealed.state,
            nonce: &sealed.nonce,
            verifier: &sealed.verifier,
            prompt: match query.wish.consented {
                true => Some("consent"),
                false => query.switch.then(|| prompt(&provider)),
            },
            login_hint: query.hint.as_deref(),
            step_up,
        };
        let to = provider.authorization_url(&request).map_err(|error| unavailable(&provider, error))?;
        let mut response = answer::redirect(StatusCode::FOUND, to.as_str());
        if changed {
            answer::set_cookie(&mut response, &visit.binding_cookie(&binding.cookie(ring)));
        }
        tracing::debug!(provider = %name, at = seconds(visit.now), "a sign-in begins");
        Ok(response)
    }

    /// Says why a browser goes round in circles, as far as can be proved from here (P04).
    fn going_round(&self, binding: &Binding, visit: &Visit<'_>) -> Refusal {
        let rounds = binding.rounds(visit.now);
        let cookie = &visit.cookies.session;
        let (cause, sentence) = match &visit.asked.session {
            OwnCookie::Absent => (
                "the session cookie was set and never came back",
                format!(
                    "You signed in {rounds} times within a minute, and each time your browser came back without the cookie \
                     `{cookie}` that it was given. Either it does not keep cookies of this site, or something between it \
                     and this site takes them away."
                ),
            ),
            OwnCookie::Several => (
                "the session cookie comes more than once",
                format!(
                    "You signed in {rounds} times within a minute, and your browser sends the cookie `{cookie}` more than \
                     once, so that none of them counts. Delete the cookies of this site, then start again."
                ),
            ),
            OwnCookie::One(_) => (
                "the session was over as soon as it began",
                format!(
                    "You signed in {rounds} times within a minute, and each time the session was over as soon as it began. \
                     Tell whoever runs this site: how long sessions live is theirs to set."
                ),
            ),
        };
        Refusal::new(Reason::SignInLoop, sentence).because(cause)
    }
}

/// The providers whose people the wanted page is for; all, where that is not known.
fn fitting<'a>(query: &Query, visit: &Visit<'a>) -> Vec<&'a ProviderSettings> {
    let all = || visit.settings.providers.iter().map(|provider| &**provider);
    let place = place(&query.wish, visit);
    let names = place.map_or(&[][..], |(host, target)| visit.routes.providers_at(&host, &target));
    let some: Vec<_> = all().filter(|provider| names.contains(&provider.name)).collect();
    if some.is_empty() { all().collect() } else { some }
}

/// The page that somebody wants to sign in for.
fn place(wish: &Wish, visit: &Visit<'_>) -> Option<(Host, Target)> {
    let (host, page) = match &wish.hand {
        Some(hand) => (hand.host.parse().ok()?, hand.page.as_ref().unwrap_or(&hand.to)),
        None => (visit.asked.host.clone(), wish.page.as_ref().unwrap_or(&wish.to)),
    };
    Some((host, page.target()?))
}

/// What the sign-in for that page has to be. It is the route's to say, never the client's.
pub(super) fn needed<'a>(wish: &Wish, visit: &Visit<'a>) -> Option<&'a StepUp> {
    let (host, target) = place(wish, visit)?;
    visit.routes.step_up_at(&host, &target).map(|step_up| &**step_up)
}

/// The sign-in of this session is what is needed.
pub(super) fn is_enough(needed: Option<&StepUp>, live: &Live, visit: &Visit<'_>) -> bool {
    needed.is_none_or(|needed| needed.lacking(&live.session.strength, visit.now).is_none())
}

/// One cookie binds all sign-ins of a browser, however many tabs; a damaged one is replaced. True if it has to be set.
fn bound(sent: Option<Binding>, again: bool) -> (Binding, bool) {
    match sent {
        Some(binding) if again => (binding.anew(), true),
        Some(binding) => (binding, false),
        None => (Binding::new(), true),
    }
}

/// Of two cookies of one name, which count as none, a browser forgets the one that was set otherwise than today.
fn without_former_cookies(mut response: Response<Body>, visit: &Visit<'_>) -> Response<Body> {
    let sent = [(&visit.asked.session, &visit.cookies.session), (&visit.asked.binding, &visit.cookies.binding)];
    for (_, name) in sent.into_iter().filter(|(sent, _)| **sent == OwnCookie::Several) {
        if let Some(former) = visit.cookies.clear_former(&visit.asked.host, name) {
            answer::set_cookie(&mut response, &former);
        }
    }
    response
}

/// GitLab has no account chooser of its own to ask for; it can only be told to ask for the password again.
fn prompt(provider: &Provider) -> &'static str {
    match provider.settings.kind {
        ProviderKind::Gitlab => "login",
        ProviderKind::Okta
        | ProviderKind::Entra
        | ProviderKind::Keycloak
        | ProviderKind::Google
        | ProviderKind::Oidc => "select_account",
    }
}

pub(super) fn redirect_uri(visit: &Visit<'_>, provider: &Name) -> Url {
    let path = format!("/.vestibule/callback/{provider}");
    visit.settings.public_url.join(&path).expect("a name makes a valid path")
}

pub(super) fn only_get(visit: &Visit<'_>) -> Result<(), Refusal> {
    match visit.asked.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::new(Reason::Method, "This address is for GET only.").closing()),
    }
}

pub(super) fn unavailable(provider: &Arc<Provider>, error: ProviderError) -> Refusal {
    let sentence = format!("{} cannot be reached right now. Try again in a moment.", provider.settings.title);
    Refusal::new(Reason::ProviderUnavailable, sentence).because(error)
}
