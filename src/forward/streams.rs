//! Long-lived connections, registered under session and route, so that they end with the right.

/// A stream's place in the register. Dropping it takes it out.
pub struct Registered {}
