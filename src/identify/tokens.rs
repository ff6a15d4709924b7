//! From a token to the caller: whose it claims to be, then whether it is.

use super::credential::{Presented, presented};
use crate::{
    canonical::Canonical,
    control::{Control, Issuers},
    oidc::{Issuer, TokenFault, Way, hash, issuer_of},
    principal::{Bearer, Name},
    refusal::{Reason, Refusal},
    route::Route,
};
use secrecy::SecretString;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

/// A core keeps at most this many verified tokens at hand; then it starts anew.
const AT_HAND: usize = 8_192;

/// Finds out whose tokens are, with one core's verified ones at hand.
pub(super) struct Tokens {
    control: Arc<Control>,
    at_hand: Mutex<HashMap<[u8; 32], Arc<Bearer>>>,
}

/// What a request's credentials come to.
pub(super) enum Found {
    /// There is none that could be ours.
    Nothing,
    /// There is one, and it is somebody else's: perhaps the upstream's.
    Foreign,
    /// A token of one of the route's issuers, verified; it stood in this field.
    Ours(Arc<Bearer>, http::HeaderName),
}

impl Tokens {
    pub(super) fn new(control: Arc<Control>) -> Self {
        Self { control, at_hand: Mutex::default() }
    }

    /// Whose credentials a request came with. One that is ours has to verify.
    ///
    /// # Errors
    /// `InvalidToken`, never anonymity; `RateLimited` for a network that comes with too many opaque ones; `ProviderUnavailable` where nobody can say; `TwoTokens` where there are two.
    pub(super) async fn find(
        &self,
        asked: &Canonical,
        route: &Route,
        issuers: &Issuers,
        now: SystemTime,
    ) -> Result<Found, Refusal> {
        let mut found = Found::Nothing;
        for Presented { field, token } in presented(asked, route)? {
            let bearer = self.bearer(&token, asked, (route, issuers), now).await?;
            found = match (bearer, found) {
                (Some(_), Found::Ours(..)) => {
                    return Err(Refusal::new(Reason::TwoTokens, "There are two tokens in this request.").closing());
                }
                (Some(bearer), Found::Nothing | Found::Foreign) => Found::Ours(bearer, field),
                (None, _) if route.tokens.header.as_ref() == Some(&field) => {
                    return Err(invalid(format!(
                        "What stands in `{field}` is no token of an issuer that is known here."
                    )));
                }
                (None, Found::Nothing | Found::Foreign) => Found::Foreign,
                (None, ours @ Found::Ours(..)) => ours,
            };
        }
        Ok(found)
    }

    async fn bearer(
        &self,
        token: &str,
        asked: &Canonical,
        (route, issuers): (&Route, &Issuers),
        now: SystemTime,
    ) -> Result<Option<Arc<Bearer>>, Refusal> {
        let hash = hash(token);
        if let Some(kept) = self.look(&hash, &route.token_issuers, issuers, now) {
            return Ok(Some(kept));
        }
        let here: Vec<_> = route.token_issuers.iter().filter_map(|name| issuers.get(name).cloned()).collect();
        let Some(issuer) = issuer_of(token, &here) else { return Ok(None) };
        if issuer.way(token) != Way::Signed {
            drop(self.control.questions.address(asked.client, Instant::now)?);
        }
        let bearer = Box::pin(self.verified(issuer, token, now)).await.map_err(|fault| refused(&fault))?;
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        if at_hand.len() >= AT_HAND {
            at_hand.clear();
        }
        at_hand.insert(hash, bearer.clone());
        Ok(Some(bearer))
    }

    /// By the keys at hand if they fit; else on the control plane, where keys can be read and issuers asked.
    async fn verified(&self, issuer: &Arc<Issuer>, token: &str, now: SystemTime) -> Result<Arc<Bearer>, TokenFault> {
        if issuer.way(token) == Way::Signed {
            match issuer.verify_at_hand(token, now) {
                Err(fault) if fault.may_be_mended() => {}
                other => return other.map(Arc::new),
            }
        }
        let (issuer, token) = (issuer.clone(), SecretString::from(token));
        let name = issuer.settings.name.clone();
        let stopped = TokenFault::Unavailable { issuer: name, cause: "the control plane stops".into() };
        self.control.run(async move { issuer.resolve(&token, now).await }).await.unwrap_or(Err(stopped))
    }

    /// A token that was verified here, if it would be verified by the same now.
    fn look(&self, hash: &[u8; 32], names: &[Name], issuers: &Issuers, now: SystemTime) -> Option<Arc<Bearer>> {
        let mut at_hand = self.at_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let bearer = at_hand.get(hash)?;
        let by = issuers.get(&bearer.issuer).and_then(|issuer| issuer.verifies_by(bearer, now));
        if by == Some(bearer.by) && bearer.ends.is_some_and(|ends| now < ends) {
            return Some(bearer.clone()).filter(|bearer| names.contains(&bearer.issuer));
        }
        at_hand.remove(hash);
        None
    }
}

/// The answer to a token that does not pass.
fn refused(fault: &TokenFault) -> Refusal {
    match fault {
        TokenFault::Bad { cause, .. } => invalid(format!("The token is not accepted: {cause}.")).because(fault),
        TokenFault::Unavailable { .. } => Refusal::new(
            Reason::ProviderUnavailable,
            "Whether this token is good cannot be found out right now: its issuer does not answer.",
        )
        .because(fault),
    }
}

pub(super) fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(Reason::InvalidToken, detail)
}
