//! Small readers of header fields.

use http::{HeaderMap, HeaderName, header::AsHeaderName};

/// The value of a field that was sent exactly once and is visible ASCII.
pub(super) fn one(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    }
}

/// True if a list of media types has this one, whatever its parameters.
pub(super) fn lists_type(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    let fields = headers.get_all(name);
    let texts = fields.iter().filter_map(|field| field.to_str().ok());
    texts.flat_map(|text| text.split(',')).any(|entry| media_type(entry).eq_ignore_ascii_case(wanted))
}

/// A media type without its parameters.
pub(super) fn media_type(entry: &str) -> &str {
    entry.split(';').next().unwrap_or_default().trim()
}
