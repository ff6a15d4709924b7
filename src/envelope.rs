//! What every answer carries, whether an upstream, an endpoint of ours or a refusal made it.

use crate::{body::Body, cors::Allowed, pages};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{CONTENT_SECURITY_POLICY, STRICT_TRANSPORT_SECURITY, X_FRAME_OPTIONS},
};

/// What the answer to one request carries.
#[derive(Default)]
pub struct Envelope {
    /// `Strict-Transport-Security`, for a client that came by https (RFC 6797, section 7.2).
    pub hsts: Option<HeaderValue>,
    /// Which page of another origin may read it.
    pub cors: Allowed,
    /// Which pages may show it in a frame: a `frame-ancestors` directive (Content Security Policy Level 3, section 6.4.2).
    pub frame: Option<String>,
}

impl Envelope {
    /// Writes it on an answer. An upstream that promises https by itself keeps its word.
    pub fn close(self, response: &mut Response<Body>) {
        let headers = response.headers_mut();
        if let Some(hsts) = self.hsts {
            headers.entry(STRICT_TRANSPORT_SECURITY).or_insert(hsts);
        }
        if let Some(ancestors) = self.frame {
            frame(headers, &ancestors);
        }
        self.cors.write(headers);
    }
}

/// `frame-ancestors` for pages of the origins `ancestors`.
pub fn ancestors(origins: &[String]) -> Option<String> {
    (!origins.is_empty()).then(|| format!("frame-ancestors 'self' {}", origins.join(" ")))
}

/// A page of ours takes the directive in the place of its own; an upstream's answer gets it as one policy more, which
/// browsers enforce beside the upstream's, and in the place of `X-Frame-Options`.
fn frame(headers: &mut HeaderMap, ancestors: &str) {
    let ours = headers.get(CONTENT_SECURITY_POLICY).is_some_and(|policy| policy == pages::CSP);
    if ours {
        headers.remove(X_FRAME_OPTIONS);
        let policy = pages::CSP.replace("frame-ancestors 'none'", ancestors);
        if let Ok(policy) = HeaderValue::try_from(policy) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
    } else if let Ok(policy) = HeaderValue::try_from(ancestors) {
        headers.append(CONTENT_SECURITY_POLICY, policy);
    }
}
