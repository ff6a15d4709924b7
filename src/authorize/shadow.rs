//! What a second set of policies would decide otherwise. It is asked beside the one in force, and never obeyed.

use super::Decision;

/// How a second set of policies would have decided otherwise.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Difference {
    /// What was refused would be permitted.
    WouldPermit,
    /// What was permitted would be refused.
    WouldRefuse,
}

impl Difference {
    /// Both.
    pub const ALL: [Self; 2] = [Self::WouldPermit, Self::WouldRefuse];

    /// The word for it in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WouldPermit => "would_permit",
            Self::WouldRefuse => "would_refuse",
        }
    }
}

impl Decision {
    /// How `shadow`, about the same request, differs from this decision; refusals for different reasons do not.
    pub fn otherwise(&self, shadow: &Self) -> Option<Difference> {
        match (self.permits(), shadow.permits()) {
            (false, true) => Some(Difference::WouldPermit),
            (true, false) => Some(Difference::WouldRefuse),
            (true, true) | (false, false) => None,
        }
    }
}
