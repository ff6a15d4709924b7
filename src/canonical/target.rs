//! Path and query in canonical form.

use bytes::Bytes;
use http::uri::PathAndQuery;
use std::{borrow::Cow, sync::Arc};

/// The longest target that is read, in bytes.
const LONGEST: usize = 8 * 1024;

/// Path and query, parsed once. Parsing the text of a target again gives the same target.
///
/// In the path, percent-encoded letters that need no encoding are decoded, and every other `%XX` has upper-case digits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The path: unreserved letters decoded, nothing ambiguous left.
    pub path: Arc<str>,
    /// The path in ASCII lower case, without one trailing slash: many upstreams do not tell these apart.
    pub folded: Arc<str>,
    /// The query without `?`, byte for byte as sent; `None` if there was no `?`.
    pub query: Option<Arc<str>>,
    /// The path has a `%2F`, a `;` or a `%3B`: for routes that ask for it only.
    pub reserved: bool,
    whole: PathAndQuery,
}

/// Why a target cannot be read in one way only.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TargetError {
    /// Over 8 KiB.
    #[error("target has {0} bytes, 8192 are allowed")]
    Long(usize),
    /// `*`, an authority, or anything else that does not begin with `/`.
    #[error("target is not a path that begins with `/`")]
    Form,
    /// A `%` without two hexadecimal digits behind it.
    #[error("path has a `%` without two hexadecimal digits")]
    Percent,
    /// A control character, encoded or not.
    #[error("target has a control character")]
    Control,
    /// A blank, a quotation mark, an angle bracket or a letter outside ASCII, not encoded.
    #[error("target has a character that must be percent-encoded")]
    Character,
    /// `\` or `%5C`.
    #[error("path has a backslash")]
    Backslash,
    /// `#`, which belongs to the user agent.
    #[error("target has a fragment")]
    Fragment,
    /// `.` or `..` as a segment, in any encoding.
    #[error("path has a dot segment")]
    DotSegment,
    /// `//`, in any encoding.
    #[error("path has an empty segment")]
    EmptySegment,
    /// `%25` followed by the code of a control character or of one of `% . / \ ;`.
    #[error("path is percent-encoded twice")]
    EncodedTwice,
    /// Percent-encoded bytes that are not UTF-8, or longer than they need to be.
    #[error("path is not UTF-8")]
    Utf8,
}

impl Target {
    /// Parses path and query as they stand in a request line.
    ///
    /// # Errors
    /// A [`TargetError`] if an upstream might read them as something else than a policy does.
    ///
    /// Source: RFC 3986, section 6.2.2; RFC 9112, section 3.2.1.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let (path, query) = match text.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (text, None),
        };
        Self::build(path, query, None)
    }

    /// The same from what hyper has read; shares its memory where nothing changes.
    pub(super) fn of(sent: &PathAndQuery) -> Result<Self, TargetError> {
        Self::build(sent.path(), sent.query(), Some(sent))
    }

    /// What the upstream gets.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.whole
    }

    fn build(path: &str, query: Option<&str>, sent: Option<&PathAndQuery>) -> Result<Self, TargetError> {
        let length = path.len() + query.map_or(0, |query| query.len() + 1);
        if length > LONGEST {
            return Err(TargetError::Long(length));
        }
        let decoded = decode(path)?;
        let reserved = check_segments(&decoded)?;
        query.map_or(Ok(()), |query| query.bytes().try_for_each(check_byte))?;
        let whole = match (&decoded, sent) {
            (Cow::Borrowed(_), Some(sent)) if sent.as_str().len() == length => sent.clone(),
            _ => join(&decoded, query)?,
        };
        let path: Arc<str> = decoded.into();
        Ok(Self { folded: fold(&path), path, query: query.map(Arc::from), reserved, whole })
    }
}

fn join(path: &str, query: Option<&str>) -> Result<PathAndQuery, TargetError> {
    let text = match query {
        Some(query) => [path, "?", query].concat(),
        None => path.to_owned(),
    };
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| TargetError::Character)
}

fn fold(path: &Arc<str>) -> Arc<str> {
    let shorter = match path.strip_suffix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => path,
    };
    if shorter.bytes().any(|b| b.is_ascii_uppercase()) {
        shorter.to_ascii_lowercase().into()
    } else if shorter.len() == path.len() {
        Arc::clone(path)
    } else {
        shorter.into()
    }
}

/// Decodes what needs no encoding and refuses what no two programs read alike.
fn decode(path: &str) -> Result<Cow<'_, str>, TargetError> {
    if !path.contains('%') {
        path.bytes().try_for_each(check_path_byte)?;
        return Ok(Cow::Borrowed(path));
    }
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    let mut wide = false;
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            check_path_byte(byte)?;
            out.push(char::from(byte));
            continue;
        }
        let code = pair(bytes.next(), bytes.next()).ok_or(TargetError::Percent)?;
        match code {
            0..=0x1f | 0x7f => return Err(TargetError::Control),
            b'\\' => return Err(TargetError::Backslash),
            _ if unreserved(code) => out.push(char::from(code)),
            _ => push_encoded(&mut out, code),
        }
        wide |= code >= 0x80;
    }
    check_once_encoded(&out)?;
    if wide {
        check_utf8(&out)?;
    }
    Ok(if out == path { Cow::Borrowed(path) } else { Cow::Owned(out) })
}

fn check_path_byte(byte: u8) -> Result<(), TargetError> {
    if byte == b'\\' { Err(TargetError::Backslash) } else { check_byte(byte) }
}

/// Passes the bytes that stand in a target unencoded, by the letter of RFC 3986 or by custom.
fn check_byte(byte: u8) -> Result<(), TargetError> {
    match byte {
        b'#' => Err(TargetError::Fragment),
        b' ' | b'"' | b'<' | b'>' | b'`' | 0x80.. => Err(TargetError::Character),
        0..=0x1f | 0x7f => Err(TargetError::Control),
        _ => Ok(()),
    }
}

fn unreserved(code: u8) -> bool {
    code.is_ascii_alphanumeric() || matches!(code, b'-' | b'.' | b'_' | b'~')
}

fn push_encoded(out: &mut String, code: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(code >> 4)]));
    out.push(char::from(DIGITS[usize::from(code & 15)]));
}

/// The byte that two hexadecimal digits stand for.
fn pair(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high?)? << 4 | digit(low?)?)
}

/// Looks at the decoded text, so that `%25%32%65` is found as well as `%252e`.
fn check_once_encoded(decoded: &str) -> Result<(), TargetError> {
    for (start, _) in decoded.match_indices("%25") {
        let mut behind = decoded.bytes().skip(start + 3);
        let twice = pair(behind.next(), behind.next());
        if matches!(twice, Some(0..=0x1f | 0x7f | b'%' | b'.' | b'/' | b'\\' | b';')) {
            return Err(TargetError::EncodedTwice);
        }
    }
    Ok(())
}

fn check_utf8(encoded: &str) -> Result<(), TargetError> {
    let mut raw = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        raw.push(if byte == b'%' { pair(bytes.next(), bytes.next()).ok_or(TargetError::Percent)? } else { byte });
    }
    let text = std::str::from_utf8(&raw).map_err(|_| TargetError::Utf8)?;
    if text.chars().any(char::is_control) { Err(TargetError::Control) } else { Ok(()) }
}

/// Refuses dot segments and empty segments, also those that appear where `%2F` is taken for a slash or where what
/// follows a `;` is cut off. True if there is such a letter at all.
fn check_segments(path: &str) -> Result<bool, TargetError> {
    let mut rest = path.strip_prefix('/').ok_or(TargetError::Form)?;
    if !path.contains(['%', ';']) {
        while let Some((segment, behind)) = rest.split_once('/') {
            check_name(segment, false)?;
            rest = behind;
        }
        return check_name(rest, true).map(|()| false);
    }
    let reserved = path.contains(';') || path.contains("%2F") || path.contains("%3B");
    loop {
        let border = [rest.find('/').map(|at| (at, 1)), rest.find("%2F").map(|at| (at, 3))].into_iter().flatten().min();
        let (segment, behind) = match border {
            Some((at, width)) => (&rest[..at], Some(&rest[at + width..])),
            None => (rest, None),
        };
        check_name(without_parameters(segment), behind.is_none())?;
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(reserved),
        }
    }
}

fn without_parameters(segment: &str) -> &str {
    let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
    &segment[..end.unwrap_or(segment.len())]
}

fn check_name(name: &str, last: bool) -> Result<(), TargetError> {
    match name {
        "." | ".." => Err(TargetError::DotSegment),
        "" if !last => Err(TargetError::EmptySegment),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::corpus;
    use proptest::prelude::*;

    fn outcome(sent: &[u8]) -> String {
        match std::str::from_utf8(sent).map(Target::parse) {
            Ok(Ok(target)) if target.reserved => format!("reserved {}", target.path_and_query()),
            Ok(Ok(target)) => target.path_and_query().to_string(),
            _ => "refused".to_owned(),
        }
    }

    /// What could be read in two ways is refused; what is passed on is what was judged.
    #[test]
    fn s26_s27_s28_a_target_has_one_reading() {
        for (sent, expected) in corpus::rows(corpus::PATHS) {
            assert_eq!(outcome(&sent), expected, "{}", sent.escape_ascii());
        }
    }

    #[test]
    fn s85_a_target_over_8_kib_is_too_long() {
        assert_eq!(Target::parse(&format!("/{}", "a".repeat(8191))).map(|target| target.path.len()), Ok(8192));
        assert_eq!(Target::parse(&format!("/{}", "a".repeat(8192))), Err(TargetError::Long(8193)));
        assert_eq!(Target::parse(&format!("/?{}", "a".repeat(8191))), Err(TargetError::Long(8193)));
    }

    #[test]
    fn the_folded_path_drops_case_and_one_slash() {
        for (sent, folded) in [("/", "/"), ("/A/", "/a"), ("/a", "/a"), ("/A%2fB/", "/a%2fb"), ("/%41", "/a")] {
            assert_eq!(&*Target::parse(sent).expect("a target").folded, folded);
        }
    }

    #[test]
    fn s30_the_query_is_no_part_of_the_path() {
        let target = Target::parse("/admin?/public/%2e%2E").expect("a target");
        assert_eq!((&*target.path, target.query.as_deref()), ("/admin", Some("/public/%2e%2E")));
        let empty = Target::parse("/admin?").expect("a target");
        assert_eq!((empty.query.as_deref(), empty.path_and_query().as_str()), (Some(""), "/admin?"));
    }

    #[test]
    fn an_unchanged_target_is_shared_with_hyper() {
        let sent = PathAndQuery::from_static("/a?b");
        let target = Target::of(&sent).expect("a target");
        assert_eq!(target.path_and_query().as_str().as_ptr(), sent.as_str().as_ptr());
    }

    /// Targets that are likely to be hostile.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%2F", "%5c", "\\", ";", "%3b", "%25", "%", "2e", "2f", "25",
            "%00", "%c3%a9", "%c0%ae", "a", "A", "%61", "?", "#", "%32", "%65", "~", "é", " ", "b/c", "%7e", "\u{7f}",
        ]);
        prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    /// A path as a careless upstream reads it: decoded twice, `\` and `;` taken in their worst sense.
    fn careless(path: &str) -> String {
        let mut text = path.as_bytes().to_vec();
        for _ in 0..2 {
            let mut out = Vec::new();
            let mut at = 0;
            while at < text.len() {
                let code = (text[at] == b'%').then(|| pair(text.get(at + 1).copied(), text.get(at + 2).copied()));
                let (byte, width) = code.flatten().map_or((text[at], 1), |code| (code, 3));
                out.push(byte);
                at += width;
            }
            text = out;
        }
        String::from_utf8_lossy(&text).replace('\\', "/")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Nothing that a client can send makes the parser panic, and a canonical target is its own canonical form.
        #[test]
        fn s25_parsing_twice_changes_nothing(text in prop_oneof![hostile(), "\\PC{0,40}", "/[ -~]{0,40}"]) {
            if let Ok(target) = Target::parse(&text) {
                prop_assert_eq!(Target::parse(target.path_and_query().as_str()), Ok(target.clone()));
                let query = target.query.as_deref().map(|query| format!("?{query}")).unwrap_or_default();
                prop_assert_eq!(target.path_and_query().as_str(), format!("{}{query}", target.path));
            }
        }

        /// An upstream that decodes an accepted path, and decodes it again, finds no segment to climb.
        #[test]
        fn s26_accepted_paths_do_not_climb(text in hostile()) {
            if let Ok(target) = Target::parse(&text) {
                let read = careless(&target.path);
                let climbs = read.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | "..")));
                prop_assert!(!climbs && !read.contains("//") && !read.contains('\0'), "{} reads as {}", text, read);
            }
        }

        /// What hyper has read and the text of it give the same target.
        #[test]
        fn both_ways_to_parse_agree(text in prop_oneof![hostile(), "/[!-~]{0,40}"]) {
            if !text.contains('#') && let Ok(sent) = text.parse::<PathAndQuery>() {
                prop_assert_eq!(Target::of(&sent), Target::parse(&text));
            }
        }
    }
}
