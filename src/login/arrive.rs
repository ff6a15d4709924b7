//! From the host where people sign in to another: the code that goes, and the handle that is given for it.

use super::{
    Login, Visit,
    binding::Binding,
    hand::{Code, Grant, Hand},
    sign_in::{only_get, parameter},
    to::Return,
};
use crate::{
    answer,
    audit::Event,
    body::Body,
    canonical::Host,
    control::Handle,
    identify,
    refusal::{Reason, Refusal},
    session::{Live, SessionId, StoreError},
};
use http::{Response, StatusCode};
use std::sync::Arc;

/// What somebody's code is worth.
enum Shown {
    /// Nothing: there is no such code, or it was used.
    Nothing,
    /// Somebody else's, or too old.
    NotOurs,
    /// One that was asked for under another binding cookie: by another tab of this browser, or in another browser.
    Unbound(Return),
    /// This browser's, and the sign-in that it stands for.
    Ours(Grant, SessionId),
}

impl Login {
    /// Answers another host's hand: on to it with a code that stands for this sign-in.
    pub(super) async fn hand_over(
        &self,
        hand: &Hand,
        live: &Arc<Live>,
        visit: &Visit<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if !live.claims_code(visit.now) {
            let sentence = "You go to other sites of this place too often. Try again in a moment.";
            return Err(Refusal::new(Reason::Overloaded, sentence));
        }
        let code = hand.answer(self.control.ring(), live.handle(), visit.now);
        self.control.put_code(code.hash, code.sealed, visit.now).await.map_err(unstored)?;
        let gone = || Refusal::new(Reason::NotFound, "The site that you come from is not served here any more.");
        let path = match hand.frame {
            true => format!("/.vestibule/signed-in#code={}", code.code), // to the page that opened this one, by its script
            false => format!("/.vestibule/arrive?code={}", code.code),
        };
        let to = other_host(hand, &path, visit).ok_or_else(gone)?;
        Ok(answer::redirect(StatusCode::SEE_OTHER, &to))
    }

    /// Takes a code, once, from the browser that asked for it, and gives it a handle for this host.
    pub(super) async fn arrive(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        let before = self.holder(visit).await?;
        let binding = Binding::of(self.control.ring(), &visit.asked.binding);
        let shown = self.take(binding.as_ref(), visit).await?;
        if let (Shown::Unbound(to), Some(binding)) = (&shown, &binding) {
            // tabs that were opened at once take each other's cookie: its page begins anew, with what the browser has by now
            self.not_arrived(true, visit);
            let mut on = answer::redirect(StatusCode::SEE_OTHER, to.as_str());
            if before.is_none() {
                self.count(&mut on, binding, visit);
            }
            return Ok(on);
        }
        let (Shown::Ours(grant, sign_in), Some(binding)) = (&shown, &binding) else {
            if before.is_some() && matches!(shown, Shown::Nothing) {
                return Ok(answer::redirect(StatusCode::SEE_OTHER, "/")); // an old link, and signed in by now
            }
            let refusal = self.not_arrived(binding.is_some(), visit);
            return before.map_or(Err(refusal), |_| Ok(answer::redirect(StatusCode::SEE_OTHER, "/")));
        };
        let mut on = answer::redirect(StatusCode::SEE_OTHER, grant.to.as_str());
        match self.control.sign_in_of(sign_in.clone()).await.map_err(unstored)? {
            None => self.count(&mut on, binding, visit), // it ended meanwhile: sign in again
            Some(live) if before.as_ref().is_some_and(|before| before.key == live.key()) => {} // a frame, and not apart
            Some(live) => self.receive(&mut on, &live, binding, before, visit).await?,
        }
        Ok(on)
    }

    /// What stands behind the code that somebody shows. It is burnt, whoever comes with it.
    async fn take(&self, binding: Option<&Binding>, visit: &Visit<'_>) -> Result<Shown, Refusal> {
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let Some((secret, hash)) = parameter(query, "code").and_then(|code| Code::parse(&code)) else {
            return Ok(Shown::Nothing);
        };
        let Some(sealed) = self.control.take_code(hash).await.map_err(unstored)? else { return Ok(Shown::Nothing) };
        let Some(binding) = binding else { return Ok(Shown::NotOurs) };
        let place = (visit.asked.host.as_str(), binding.hash());
        Ok(match Grant::open(self.control.ring(), (&secret, &hash), &sealed, place, visit.now) {
            Ok((grant, sign_in)) => Shown::Ours(grant, sign_in),
            Err(Some(to)) => Shown::Unbound(to),
            Err(None) => Shown::NotOurs,
        })
    }

    /// Gives the browser that goes `on` a handle of its own for this host.
    async fn receive(
        &self,
        on: &mut Response<Body>,
        live: &Arc<Live>,
        binding: &Binding,
        before: Option<Handle>,
        visit: &Visit<'_>,
    ) -> Result<(), Refusal> {
        identify::introduce(live, visit.crossing);
        let (person, session) = (live.session.person.clone(), live.hash.to_string());
        let host = visit.asked.host.to_string();
        let event = Event::Arrived { person, session, host, client: visit.asked.client };
        self.audit.record_first(event, visit.now).await?;
        let led_nowhere = before.as_ref().is_none_or(|before| before.live.is_lapsed());
        let host = visit.asked.host.as_str().into();
        let id = self.control.further(live, host, before, visit.now).await.map_err(unstored)?;
        answer::set_cookie(on, &visit.session_cookie(&id.to_cookie()));
        if led_nowhere {
            self.count(on, binding, visit);
        }
        Ok(())
    }

    /// Counts a round that this browser made.
    pub(super) fn count(&self, on: &mut Response<Body>, binding: &Binding, visit: &Visit<'_>) {
        let counted = binding.after_a_round(visit.now).cookie(self.control.ring());
        answer::set_cookie(on, &visit.binding_cookie(&counted));
    }

    fn not_arrived(&self, bound: bool, visit: &Visit<'_>) -> Refusal {
        let (cause, sentence) = match bound {
            true => (
                "the code is unknown, used, too old, or another browser's",
                "This link was used before, or is too old.",
            ),
            false => (
                "the browser sent no binding cookie",
                "Your browser came back without the cookie that it was given a moment ago: it does not keep cookies of this \
                 site, or something takes them away.",
            ),
        };
        let event = Event::SignInFailed {
            provider: "public_url".to_owned(),
            reason: Reason::SignInState,
            detail: cause.to_owned(),
            client: visit.asked.client,
        };
        self.audit.record(event, visit.now);
        Refusal::new(Reason::SignInState, sentence).because(cause)
    }
}

/// An address on the host that a hand comes from, if that is still a route's. Scheme and port are those of `public_url`,
/// whatever the client said: nobody else gets a code (S-47).
pub(super) fn other_host(hand: &Hand, path: &str, visit: &Visit<'_>) -> Option<String> {
    let host: Host = hand.host.parse().ok()?;
    if !visit.routes.serves(&host) || visit.routes.is_public(&host) && !hand.frame {
        return None;
    }
    let mut origin = visit.settings.public_url.clone();
    origin.set_host(Some(host.as_str())).ok()?;
    Some(origin.origin().ascii_serialization() + path)
}

fn unstored(error: StoreError) -> Refusal {
    Refusal::new(Reason::StoreUnavailable, "Your session cannot be stored right now.").because(error)
}
