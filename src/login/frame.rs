//! Sign-in for a page that another page shows in a frame.
//!
//! Browsers keep a frame's cookies apart from those of the same site at top level. So the frame asks for a handle of its own:
//! it opens a window, in which the person signs in, and that window gives the code to the frame, and to nobody else.

use super::{
    Login, Visit,
    binding::Binding,
    hand::Hand,
    sign_in::{address, is_enough, needed, only_get, parameter},
    state::Wish,
    to::Return,
};
use crate::{
    answer,
    body::Body,
    canonical::Class,
    pages,
    refusal::{Reason, Refusal},
};
use http::{Response, StatusCode};

impl Login {
    /// The page that opens the window.
    pub(super) async fn frame(&self, visit: &Visit<'_>) -> Result<Response<Body>, Refusal> {
        only_get(visit)?;
        if visit.routes.frame(&visit.asked.host).is_empty() {
            return Err(Refusal::new(Reason::NotFound, "Pages of this host are not shown in frames."));
        }
        let query = visit.asked.target.query.as_deref().unwrap_or_default();
        let to = Return::parse(parameter(query, "to").as_deref(), parameter(query, "fragment").as_deref());
        let wish = Wish { to: to.clone(), ..Wish::default() };
        let here = self.visitor(visit).await?.filter(|live| is_enough(needed(&wish, visit), live, visit));
        if visit.asked.class != Class::Frame || here.is_some() {
            return Ok(answer::redirect(StatusCode::SEE_OTHER, to.as_str()));
        }
        let ring = self.control.ring();
        let sent = Binding::of(ring, &visit.asked.binding);
        let binding = sent.clone().unwrap_or_else(Binding::new);
        let hand = Hand::new(visit.asked.host.as_str(), binding.hash(), to, visit.now).framed();
        let wish = Wish { hand: Some(hand), ..Wish::default() };
        let place = visit.settings.public_url.join("/.vestibule/sign-in").expect("a valid path");
        let mut response = answer::page(StatusCode::OK, pages::frame(&address(place.as_str(), &wish, ring, &[])));
        if sent.is_none() {
            answer::set_cookie(&mut response, &visit.binding_cookie(&binding.cookie(ring)));
        }
        Ok(response)
    }
}
