//! What kind of request it is.

/// What kind of request it is; decides how a refusal looks. Only a navigation is ever redirected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Class {
    /// A browser goes to a page, at top level, by GET or HEAD.
    Navigation,
    /// A browser sends a form at top level (a navigation by another method).
    Submission,
    /// A script, style, image, frame or call from a page.
    Fetch,
    /// An event stream (`Accept: text/event-stream`).
    Stream,
    /// A WebSocket handshake.
    WebSocket,
    /// A CORS preflight.
    Preflight,
    /// gRPC.
    Grpc,
    /// Any other client: `curl`, a CI job, a service.
    Machine,
}

impl Class {
    /// The word that policies, audit events and metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Navigation => "navigation",
            Self::Submission => "submission",
            Self::Fetch => "fetch",
            Self::Stream => "stream",
            Self::WebSocket => "websocket",
            Self::Preflight => "preflight",
            Self::Grpc => "grpc",
            Self::Machine => "machine",
        }
    }
}
