//! Which version of HTTP a clear-text connection begins with.

/// What a client sends first in HTTP/2 (RFC 9113, section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection tell.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preface {
    /// The whole preface of HTTP/2.
    Http2,
    /// Not HTTP/2.
    Http1,
    /// As far as they go, the bytes are the preface of HTTP/2: read more.
    Unclear,
}

/// Tells HTTP/2 with prior knowledge from HTTP/1 (RFC 9113, section 3.3).
pub fn preface(bytes: &[u8]) -> Preface {
    let seen = bytes.len().min(PREFACE.len());
    match bytes[..seen] == PREFACE[..seen] {
        false => Preface::Http1,
        true if seen == PREFACE.len() => Preface::Http2,
        true => Preface::Unclear,
    }
}
