//! The case table in `tests/corpus/framing.tsv`, and the cases that are too long for it.

use super::harness::{Played, alone, guarded, splits};
use crate::canonical::corpus;
use crate::listener::guard::{
    Control, Fault, Limits,
    limits::{HEAD_BYTES, TARGET_BYTES, TRAILER_BYTES},
    walk::Walk,
};

/// What has to come of a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Expected {
    fault: Option<&'static str>,
    in_body: bool,
    /// How many requests are well.
    well: usize,
}

pub(super) fn rows() -> impl Iterator<Item = (Vec<u8>, Expected)> {
    corpus::rows(corpus::FRAMING).map(|(sent, expected)| (sent, expectation(expected)))
}

fn expectation(text: &'static str) -> Expected {
    let (text, in_body) = text.strip_prefix("body ").map_or((text, false), |text| (text, true));
    let (name, well) = text.split_once(' ').map_or((text, 0), |(name, well)| (name, well.parse().expect("a number")));
    Expected { fault: (name != "ok").then_some(name), in_body, well }
}

fn fault(name: &'static str, in_body: bool) -> Expected {
    Expected { fault: Some(name), in_body, well: 0 }
}

fn ok(well: usize) -> Expected {
    Expected { fault: None, in_body: false, well }
}

/// Cases at the bounds (S-85 and S-16).
fn long_rows() -> Vec<(Vec<u8>, Expected)> {
    let get = |target: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(target - 1));
    let head = |length: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let trailers = |length: usize| {
        let start = "0\r\nX: ";
        format!("{chunked}{start}{}\r\n\r\n", "x".repeat(length - start.len() - 4))
    };
    let fields = |count: usize| format!("{chunked}0\r\n{}\r\n", "a:\r\n".repeat(count));
    let small = |chunks: usize, data: &str| {
        format!("{chunked}{}0\r\n\r\n", format!("{:x}\r\n{data}\r\n", data.len()).repeat(chunks))
    };
    let rows = [
        (get(TARGET_BYTES), ok(1)),
        (get(TARGET_BYTES + 1), fault("TargetTooLong", false)),
        (get(TARGET_BYTES + 100), fault("TargetTooLong", false)),
        (get(2 * HEAD_BYTES), fault("TargetTooLong", false)),
        (format!("GET /{}", "a".repeat(2 * TARGET_BYTES)), fault("TargetTooLong", false)),
        (head(HEAD_BYTES), ok(1)),
        (head(HEAD_BYTES) + &head(HEAD_BYTES), ok(2)),
        (head(HEAD_BYTES + 1), fault("HeadTooLarge", false)),
        (head(40_000), fault("HeadTooLarge", false)),
        (head(500_000), fault("HeadTooLarge", false)),
        (head(2 * HEAD_BYTES)[..HEAD_BYTES + 9].to_owned(), fault("HeadTooLarge", false)),
        (trailers(TRAILER_BYTES), ok(1)),
        (trailers(TRAILER_BYTES + 1), fault("TrailerTooLarge", true)),
        (fields(100), ok(1)),
        (fields(101), fault("TrailerTooLarge", true)),
        (small(8_000, "x"), ok(1)),
        (small(100_000, "0123456789"), ok(1)),
        (small(100_000, "x"), fault("ChunkOverhead", true)),
    ];
    rows.into_iter().map(|(sent, expected)| (sent.into_bytes(), expected)).collect()
}

/// What the guard alone makes of a client's bytes: what passes, how many requests, the fault.
fn walked(pieces: &[&[u8]]) -> (Vec<u8>, usize, Option<Fault>) {
    let control = Control::default();
    let mut walk = Walk::new(Limits::default(), control.clone());
    let (mut side, mut passed, mut requests) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        side.extend_from_slice(piece);
        loop {
            let clear = walk.walk(&mut side).unwrap_or_else(|stop| stop.after);
            passed.extend(side.drain(..clear));
            while let Some(seen) = control.take() {
                requests += usize::from(seen.fault.is_none());
            }
            if clear == 0 && !walk.holds() {
                break;
            }
            walk.resume();
        }
        if walk.dead() {
            break;
        }
    }
    (passed, requests, control.fault())
}

/// S-13 to S-17, S-21, S-33, S-85: the table, byte for byte, without hyper.
#[test]
fn s13_s14_s15_s16_s17_s21_s33_s85_every_row_is_judged_as_the_table_says() {
    let mut rows_read = 0;
    for (sent, expected) in rows().chain(long_rows()) {
        let (_, requests, found) = walked(&[&sent]);
        let context = || format!("{:?}", String::from_utf8_lossy(&sent[..sent.len().min(300)]));
        assert_eq!(found.map(|fault| format!("{fault:?}")).as_deref(), expected.fault, "{}", context());
        assert_eq!(requests, expected.well + usize::from(expected.in_body), "{}", context());
        assert_eq!(found.is_some_and(Fault::in_body), expected.in_body, "{}", context());
        rows_read += 1;
    }
    assert!(rows_read > 300, "{rows_read} rows");
}

/// Wherever the client's bytes are cut, the same passes and the same fault is found.
#[test]
fn s13_s14_s15_s16_s17_s85_no_split_changes_what_is_read() {
    for (sent, _) in rows().chain(long_rows()) {
        let whole = walked(&[&sent]);
        for pieces in splits(&sent) {
            assert_eq!(walked(&pieces), whole, "{:?}", String::from_utf8_lossy(&sent[..sent.len().min(300)]));
        }
    }
}

/// Below hyper a bad message reaches the service only up to its fault, and good ones as without a guard.
fn check(guarded: &Played, alone: &Played, expected: &Expected, context: &str) {
    let well = &guarded.got[..expected.well.min(guarded.got.len())];
    let alike = well.iter().zip(&alone.got).all(|(guarded, alone)| guarded == alone);
    assert!(alike && well.len() == expected.well, "{:?} for {context}, alone {:?}", guarded.got, alone.got);
    assert_eq!(guarded.fault.map(|fault| format!("{fault:?}")).as_deref(), expected.fault, "{context}");
    assert_eq!(guarded.trailers, 0, "{context}");
    assert!(guarded.disagreements.is_empty(), "{:?} for {context}", guarded.disagreements);
    let more = &guarded.got[expected.well..];
    let answers = memchr::memmem::find_iter(&guarded.written, b"HTTP/1.1 ").count()
        + memchr::memmem::find_iter(&guarded.written, b"HTTP/1.0 ").count()
        - memchr::memmem::find_iter(&guarded.written, b"HTTP/1.1 100 ").count();
    match (expected.fault, expected.in_body) {
        (None, _) => {
            assert_eq!(guarded.got.len(), alone.got.len(), "{context}");
            assert_eq!(String::from_utf8_lossy(&guarded.written), String::from_utf8_lossy(&alone.written), "{context}");
        }
        (Some(_), false) => {
            assert!(matches!(more, [refused] if refused.method.as_str() == "REFUSED"), "{more:?} for {context}");
            assert_eq!(answers, guarded.got.len(), "{context}");
        }
        (Some(_), true) => {
            assert!(matches!(more, [broken] if !broken.whole), "{more:?} for {context}");
            assert_eq!(answers, guarded.got.len(), "{context}");
        }
    }
    if let Some(last) = memchr::memmem::rfind(&guarded.written, b"HTTP/1.1 ").filter(|_| expected.fault.is_some()) {
        let last = String::from_utf8_lossy(&guarded.written[last..]).into_owned();
        assert!(last.starts_with("HTTP/1.1 400"), "{last} for {context}");
        assert!(expected.in_body || last.contains("connection: close"), "{last} for {context}");
    }
}

/// S-13 to S-17, S-21, S-33, S-85: every row, cut at every place, through hyper.
#[test]
fn s13_s14_s15_s16_s17_s21_s33_s85_a_bad_message_reaches_the_service_up_to_its_fault() {
    for (sent, expected) in rows() {
        let alone = alone([&*sent]);
        let context = format!("{:?}", String::from_utf8_lossy(&sent));
        check(&guarded([&*sent], false), &alone, &expected, &context);
        for pieces in splits(&sent) {
            check(&guarded(pieces.iter().copied(), true), &alone, &expected, &format!("{context} in {pieces:?}"));
        }
        for size in [1, 2, 3, 7, 100] {
            check(&guarded(sent.chunks(size), false), &alone, &expected, &format!("{context} by {size}"));
        }
    }
}

/// S-85, S-16: the long cases, through hyper.
#[test]
fn s16_s85_bounds_hold_below_hyper() {
    for (sent, expected) in long_rows() {
        let alone = alone([&*sent]);
        let context = format!("{:?}…, {} bytes", String::from_utf8_lossy(&sent[..80]), sent.len());
        check(&guarded([&*sent], false), &alone, &expected, &context);
        for size in [997, 8_192] {
            check(&guarded(sent.chunks(size), true), &alone, &expected, &format!("{context} by {size}"));
        }
    }
}

/// Every fault is found by some row.
#[test]
fn s17_the_table_has_every_fault() {
    use Fault::*;
    let all = [
        RequestLine,
        Target,
        Version,
        Connect,
        BareLineFeed,
        ControlCharacter,
        Folded,
        FieldName,
        NoHost,
        HostTwice,
        ContentLength,
        ContentLengthTwice,
        TransferEncoding,
        TransferEncodingTwice,
        TransferEncodingInHttp10,
        LengthAndEncoding,
        ExpectTwice,
        TargetTooLong,
        HeadTooLarge,
        TooManyFields,
        ChunkSize,
        ChunkEnd,
        ChunkOverhead,
        Trailer,
        TrailerTooLarge,
    ];
    let found: Vec<_> = rows().chain(long_rows()).filter_map(|(_, expected)| expected.fault).collect();
    for fault in all {
        assert!(found.contains(&&*format!("{fault:?}")), "{fault:?}");
    }
}
