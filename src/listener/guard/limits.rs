//! How much of a client's bytes is taken.

use std::time::Duration;

/// The largest head: request line, fields and the empty line, in bytes.
pub const HEAD_BYTES: usize = 32 * 1024;

/// The most fields in a head, and in a trailer section. hyper has the same default.
pub const HEAD_FIELDS: usize = 100;

/// The longest request target, in bytes.
pub const TARGET_BYTES: usize = 8 * 1024;

/// The largest trailer section, in bytes, the last chunk's line included.
pub const TRAILER_BYTES: usize = 8 * 1024;

/// How many bytes behind an upgrade request are kept until it is answered; then the socket is not read.
pub const HELD_BYTES: usize = 16 * 1024;

/// How long a head may take from its first byte on.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long a connection is kept without a request, and without an answer under way.
pub const IDLE: Duration = Duration::from_secs(75);

/// How long the client may take nothing of what we write.
pub const WRITE: Duration = Duration::from_secs(60);

/// How long unread bytes are discarded after our side is closed, so that the answer is not lost to a reset.
pub const LINGER: Duration = Duration::from_secs(1);

/// How many unread bytes are discarded then.
pub const LINGER_BYTES: usize = 256 * 1024;

/// The bounds of one HTTP/1 connection. [`Limits::default`] has the constants of this module.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`HEAD_BYTES`].
    pub head: usize,
    /// See [`HEAD_FIELDS`]. hyper must be told when it is to be more.
    pub fields: usize,
    /// See [`TARGET_BYTES`].
    pub target: usize,
    /// See [`TRAILER_BYTES`].
    pub trailer: usize,
    /// See [`HELD_BYTES`].
    pub held: usize,
    /// See [`HEAD_TIME`].
    pub head_time: Duration,
    /// See [`IDLE`].
    pub idle: Duration,
    /// See [`WRITE`].
    pub write: Duration,
    /// See [`LINGER`].
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head: HEAD_BYTES,
            fields: HEAD_FIELDS,
            target: TARGET_BYTES,
            trailer: TRAILER_BYTES,
            held: HELD_BYTES,
            head_time: HEAD_TIME,
            idle: IDLE,
            write: WRITE,
            linger: LINGER,
        }
    }
}
