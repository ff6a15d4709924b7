//! Why a client's bytes are not passed on.

use crate::refusal::Reason;

/// What is wrong with an HTTP/1 message. Nothing after it on the connection is read as HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// RFC 9112, section 3.
    #[error("request line is not method, target and version with one space between them")]
    RequestLine,
    /// RFC 9112, section 3.2, and RFC 3986.
    #[error("request target is not a URI in visible ASCII without fragment")]
    Target,
    /// RFC 9112, section 2.3.
    #[error("version is neither `HTTP/1.1` nor `HTTP/1.0`")]
    Version,
    /// RFC 9110, section 9.3.6.
    #[error("method `CONNECT` is not served here")]
    Connect,
    /// RFC 9112, section 2.2.
    #[error("line ends with LF alone, expected CRLF")]
    BareLineFeed,
    /// RFC 9110, section 5.5.
    #[error("head has a control character")]
    ControlCharacter,
    /// RFC 9112, section 5.2.
    #[error("field is folded over several lines")]
    Folded,
    /// RFC 9112, section 5.1.
    #[error("field name is not a token followed by `:`")]
    FieldName,
    /// RFC 9112, section 3.2.
    #[error("field `Host` is missing")]
    NoHost,
    /// RFC 9112, section 3.2.
    #[error("field `Host` comes more than once")]
    HostTwice,
    /// RFC 9110, section 8.6.
    #[error("field `Content-Length` is not a number of at most 18 digits")]
    ContentLength,
    /// RFC 9110, section 8.6.
    #[error("field `Content-Length` comes more than once")]
    ContentLengthTwice,
    /// RFC 9112, section 6.1.
    #[error("field `Transfer-Encoding` is not `chunked`")]
    TransferEncoding,
    /// RFC 9112, section 6.1.
    #[error("field `Transfer-Encoding` comes more than once")]
    TransferEncodingTwice,
    /// RFC 9112, section 6.1.
    #[error("field `Transfer-Encoding` in HTTP/1.0")]
    TransferEncodingInHttp10,
    /// RFC 9112, section 6.3.
    #[error("fields `Content-Length` and `Transfer-Encoding` in one message")]
    LengthAndEncoding,
    /// RFC 9110, section 10.1.1.
    #[error("field `Expect` comes more than once")]
    ExpectTwice,
    /// RFC 9110, section 4.1.
    #[error("request target is longer than allowed")]
    TargetTooLong,
    /// RFC 6585, section 5.
    #[error("head is larger than allowed")]
    HeadTooLarge,
    /// RFC 6585, section 5.
    #[error("head has more fields than allowed")]
    TooManyFields,
    /// RFC 9110, section 15.5.9.
    #[error("head took too long")]
    HeadTimeout,
    /// RFC 9112, section 7.1.
    #[error("chunk size is not one to eight hex digits and CRLF")]
    ChunkSize,
    /// RFC 9112, section 7.1.
    #[error("chunk data is not followed by CRLF")]
    ChunkEnd,
    /// RFC 9112, section 7.1.
    #[error("chunks are too small for the length of the body")]
    ChunkOverhead,
    /// RFC 9112, section 7.1.2.
    #[error("trailer section is malformed")]
    Trailer,
    /// RFC 9112, section 7.1.2.
    #[error("trailer section is larger than allowed")]
    TrailerTooLarge,
}

impl Fault {
    /// The refusal that this fault is answered with.
    pub fn reason(self) -> Reason {
        match self {
            Self::TargetTooLong => Reason::TargetTooLong,
            Self::HeadTooLarge | Self::TooManyFields => Reason::HeadTooLarge,
            Self::HeadTimeout => Reason::ClientTimeout,
            Self::RequestLine
            | Self::Target
            | Self::Version
            | Self::Connect
            | Self::BareLineFeed
            | Self::ControlCharacter
            | Self::Folded
            | Self::FieldName
            | Self::NoHost
            | Self::HostTwice
            | Self::ContentLength
            | Self::ContentLengthTwice
            | Self::TransferEncoding
            | Self::TransferEncodingTwice
            | Self::TransferEncodingInHttp10
            | Self::LengthAndEncoding
            | Self::ExpectTwice
            | Self::ChunkSize
            | Self::ChunkEnd
            | Self::ChunkOverhead
            | Self::Trailer
            | Self::TrailerTooLarge => Reason::BadRequest,
        }
    }

    /// True for faults inside a chunked body: the service has its request by then, and sees a body that fails.
    pub fn in_body(self) -> bool {
        matches!(self, Self::ChunkSize | Self::ChunkEnd | Self::ChunkOverhead | Self::Trailer | Self::TrailerTooLarge)
    }
}
