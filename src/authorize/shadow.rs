//! What a second set of policies would decide otherwise. It is asked beside the one in force, and never obeyed.

use super::{Authorize, Decision, Inquiry, Outcome};
use crate::{canonical::Judged, principal::Principal, route::Route};
use std::time::SystemTime;

/// How a second set of policies would have decided otherwise.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Difference {
    /// What was refused would be permitted.
    WouldPermit,
    /// What was permitted would be refused.
    WouldRefuse,
    /// What was refused with its body unread would be permitted for some bodies.
    MayPermit,
}

impl Difference {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::WouldPermit, Self::WouldRefuse, Self::MayPermit];

    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WouldPermit => "would_permit",
            Self::WouldRefuse => "would_refuse",
            Self::MayPermit => "may_permit",
        }
    }
}

/// What a second set of policies says of a request.
#[derive(Clone, Debug)]
pub struct Aside {
    /// Its decision; where that waits for the body, one that rests on the permits that read it.
    pub decision: Decision,
    /// It would have the body read, which nobody did, as the policies in force refuse the request whatever it is.
    pub unread: bool,
}

impl Authorize {
    /// What these policies say of a request that others decide.
    pub fn aside(&self, principal: &Principal, judged: &Judged, route: &Route, now: SystemTime) -> Aside {
        let decided = |decision| Aside { decision, unread: false };
        let principal = principal.aside();
        let Some(inquiry) = Inquiry::of(&principal, judged, route, now) else {
            return decided(self.book.without_policy(Outcome::NotPermitted));
        };
        let slice = self.slice(&principal, route);
        if !judged.is_unread() {
            return decided(self.recalled(&slice, &inquiry));
        }
        let waits = || Aside { decision: self.book.may_permit(&slice, inquiry.action), unread: true };
        self.refused(&slice, &inquiry).map_or_else(waits, decided)
    }
}

impl Decision {
    /// How what others say of the same request differs from this decision; refusals for different reasons do not.
    pub fn otherwise(&self, aside: &Aside) -> Option<Difference> {
        match (self.permits(), aside.decision.permits()) {
            (false, true) if aside.unread => Some(Difference::MayPermit),
            (false, true) => Some(Difference::WouldPermit),
            (true, false) => Some(Difference::WouldRefuse),
            (true, true) | (false, false) => None,
        }
    }
}
