//! What names a request: its id, and the trace it belongs to.

use super::fields;
use aws_lc_rs::rand;
use http::{HeaderMap, HeaderName};
use std::{cell::RefCell, fmt};

/// Names one request in answers, logs, audit events and towards the upstream: 128 random bits.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct RequestId(pub u128);

impl RequestId {
    /// An id that nobody can foretell.
    #[allow(clippy::new_without_default, reason = "every call gives another value")]
    pub fn new() -> Self {
        Self(random())
    }

    /// 32 hexadecimal digits.
    pub fn hex(self) -> String {
        hex(self.0)
    }
}

/// Writes 32 hexadecimal digits.
impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");

const BLOCK: usize = 1024;

thread_local! {
    /// Random bytes, and how many of them are used up. One call of the generator serves many requests.
    static POOL: RefCell<([u8; BLOCK], usize)> = const { RefCell::new(([0; BLOCK], BLOCK)) };
}

fn random() -> u128 {
    POOL.with_borrow_mut(|(bytes, used)| {
        if *used == BLOCK {
            rand::fill(bytes).expect("AWS-LC ends the process where the system has no randomness");
            *used = 0;
        }
        let mut drawn = [0; 16];
        drawn.copy_from_slice(&bytes[*used..*used + 16]);
        bytes[*used..*used + 16].fill(0);
        *used += 16;
        u128::from_ne_bytes(drawn)
    })
}

/// Takes the trace context out of `headers`: the client's if it is valid, otherwise a new one without `tracestate`.
///
/// A new trace has the request's id and is marked as sampled, so that an upstream that follows its parent records it
/// as it would record a request without a parent.
///
/// Source: W3C Trace Context, sections 3.2 and 3.3.
pub(super) fn take(headers: &mut HeaderMap, id: RequestId) -> String {
    let parent = fields::one(headers, PARENT).and_then(continued);
    headers.remove(PARENT);
    parent.unwrap_or_else(|| {
        headers.remove(STATE);
        begun(id)
    })
}

/// Reads any version as version 00, which is all that we know.
fn continued(sent: &str) -> Option<String> {
    let known = sent.get(..55)?;
    let fits = match sent.get(..3)? {
        "00-" => sent.len() == 55,
        "ff-" => false,
        _ => sent.len() == 55 || sent.as_bytes()[55] == b'-',
    };
    let bytes = known.as_bytes();
    let dashes = [2, 35, 52];
    let digits = bytes.iter().enumerate().all(|(at, byte)| match dashes.contains(&at) {
        true => *byte == b'-',
        false => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let named = |part: &[u8]| part.iter().any(|byte| *byte != b'0');
    (fits && digits && named(&bytes[3..35]) && named(&bytes[36..52])).then(|| ["00", &known[2..]].concat())
}

fn begun(id: RequestId) -> String {
    let (trace, span) = (hex(id.0.max(1)), hex((random() >> 64).max(1)));
    ["00-", &trace, "-", &span[16..], "-01"].concat()
}

/// What `{:032x}` writes, at a tenth of its cost.
fn hex(bits: u128) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bits.to_be_bytes()) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    std::str::from_utf8(&text).expect("hexadecimal digits are ASCII").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::collections::HashSet;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    /// The trace context, and whether `tracestate` stays.
    fn taken(fields: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        headers.insert("tracestate", HeaderValue::from_static("a=1"));
        for field in fields {
            headers.append("traceparent", HeaderValue::from_str(field).expect("a value"));
        }
        let parent = take(&mut headers, RequestId(0xabc));
        assert!(!headers.contains_key("traceparent"));
        (parent, headers.contains_key("tracestate"))
    }

    proptest::proptest! {
        /// Our way of writing digits is the standard library's.
        #[test]
        fn writes_digits_as_everybody_does(bits in proptest::prelude::any::<u128>()) {
            proptest::prop_assert_eq!(RequestId(bits).to_string(), format!("{bits:032x}"));
        }
    }

    #[test]
    fn a_valid_trace_is_continued() {
        let later = VALID.replacen("00", "cc", 1);
        for sent in [VALID, &later, &format!("{later}-what-comes-later")] {
            assert_eq!(taken(&[sent]), (VALID.to_owned(), true));
        }
    }

    #[test]
    fn anything_else_begins_a_new_trace() {
        for sent in [
            "",
            "00",
            &VALID[..54],
            &format!("{VALID}-x"),
            &VALID.to_uppercase(),
            &VALID.replacen("00", "ff", 1),
            &VALID.replacen("00", "cc", 1).replace("b7-01", "b7-01x"),
            &VALID.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
        ] {
            let (begun, state) = taken(&[sent]);
            assert!(begun.starts_with("00-00000000000000000000000000000abc-") && begun.ends_with("-01"), "{begun}");
            assert!(!state && continued(&begun).is_some(), "{sent}");
        }
        assert!(!taken(&[VALID, VALID]).1);
        assert!(!taken(&[]).1);
    }

    #[test]
    fn ids_differ_and_have_32_digits() {
        let ids: HashSet<_> = (0..10_000).map(|_| RequestId::new()).collect();
        assert_eq!(ids.len(), 10_000);
        assert_eq!(RequestId(10).to_string(), "0000000000000000000000000000000a");
    }
}
