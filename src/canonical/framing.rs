//! What is left to see of a message's framing above hyper, checked once more.
//!
//! hyper hides a `Content-Length` beside `Transfer-Encoding` and equal doubles; the guard below it refuses those.

use crate::refusal::{Reason, Refusal};
use http::{HeaderMap, HeaderName, Method, Version, header, request::Parts};

/// Refuses what frames a message in more than one way, expects what we cannot do, or asks by a method we do not know.
///
/// # Errors
/// `Method`, `Expectation`, or `BadRequest`, after which the connection is of no use.
///
/// Source: RFC 9112, section 6; RFC 9110, sections 9.1 and 10.1.1.
pub(super) fn check(head: &Parts) -> Result<(), Refusal> {
    match head.version {
        Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2 => {}
        _ => return Err(unclear("protocol version is not supported")),
    }
    check_transfer_encoding(&head.headers, head.version)?;
    check_content_length(&head.headers)?;
    if !is_known(&head.method) {
        return Err(Refusal::new(Reason::Method, "This method is not served here.").closing());
    }
    if !expects_continue(&head.headers) {
        return Err(Refusal::new(Reason::Expectation, "`Expect` is something else than `100-continue`").closing());
    }
    if count(&head.headers, header::AUTHORIZATION) > 1 {
        return Err(Refusal::new(Reason::BadRequest, "The request has several `Authorization` fields, expected 1."));
    }
    Ok(())
}

/// The methods that may be asked for. Methods are case-sensitive.
fn is_known(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    )
}

fn check_transfer_encoding(headers: &HeaderMap, version: Version) -> Result<(), Refusal> {
    let Some(coding) = headers.get(header::TRANSFER_ENCODING) else {
        return Ok(());
    };
    if version != Version::HTTP_11 {
        return Err(unclear("`Transfer-Encoding` is allowed in HTTP/1.1 only"));
    }
    if count(headers, header::TRANSFER_ENCODING) > 1 || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(unclear("`Transfer-Encoding` is something else than one `chunked`"));
    }
    if headers.contains_key(header::CONTENT_LENGTH) {
        return Err(unclear("request has both `Content-Length` and `Transfer-Encoding`"));
    }
    Ok(())
}

fn check_content_length(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(length) = headers.get(header::CONTENT_LENGTH) else {
        return Ok(());
    };
    if count(headers, header::CONTENT_LENGTH) > 1 {
        return Err(unclear("request has several `Content-Length` fields, expected 1"));
    }
    // `parse` alone would take a sign.
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    match digits.and_then(|digits| digits.parse::<u64>().ok()) {
        Some(_) => Ok(()),
        None => Err(unclear("`Content-Length` is not a number")),
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    match (expectations.next(), expectations.next()) {
        (None, _) => true,
        (Some(one), None) => one.as_bytes().eq_ignore_ascii_case(b"100-continue"),
        (Some(_), Some(_)) => false,
    }
}

fn count(headers: &HeaderMap, name: HeaderName) -> usize {
    headers.get_all(name).iter().count()
}

fn unclear(detail: &'static str) -> Refusal {
    Refusal::new(Reason::BadRequest, detail).closing()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn reason(method: &str, version: Version, fields: &[(&str, &str)]) -> Option<Reason> {
        let mut request = Request::builder().method(method).version(version).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        check(&head).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn s13_s14_s15_framing_has_one_reading() {
        const TE: &str = "transfer-encoding";
        const CL: &str = "content-length";
        let refused = Some(Reason::BadRequest);
        for (fields, expected) in [
            (&[(TE, "chunked")][..], None),
            (&[(TE, "Chunked")], None),
            (&[(CL, "0")], None),
            (&[(CL, "18446744073709551615")], None),
            (&[(TE, "chunked"), (CL, "3")], refused),
            (&[(CL, "3"), (TE, "chunked")], refused),
            (&[(TE, "chunked"), (TE, "chunked")], refused),
            (&[(TE, "gzip, chunked")], refused),
            (&[(TE, "chunked, chunked")], refused),
            (&[(TE, "chunked,")], refused),
            (&[(TE, "chunked;q=1")], refused),
            (&[(TE, "identity")], refused),
            (&[(TE, "xchunked")], refused),
            (&[(TE, "\"chunked\"")], refused),
            (&[(TE, "")], refused),
            (&[(CL, "3"), (CL, "3")], refused),
            (&[(CL, "3, 3")], refused),
            (&[(CL, "+3")], refused),
            (&[(CL, "-1")], refused),
            (&[(CL, "0x3")], refused),
            (&[(CL, "3 3")], refused),
            (&[(CL, "3.0")], refused),
            (&[(CL, "")], refused),
            (&[(CL, "18446744073709551616")], refused),
        ] {
            assert_eq!(reason("POST", Version::HTTP_11, fields), expected, "{fields:?}");
        }
        assert_eq!(reason("POST", Version::HTTP_10, &[(TE, "chunked")]), refused);
        assert_eq!(reason("POST", Version::HTTP_2, &[(TE, "chunked")]), refused);
        assert_eq!(reason("GET", Version::HTTP_09, &[]), refused);
        assert_eq!(reason("GET", Version::HTTP_3, &[]), refused);
    }

    #[test]
    fn s21_only_one_expectation_is_met() {
        for (fields, expected) in [
            (&[("expect", "100-continue")][..], None),
            (&[("expect", "100-Continue")], None),
            (&[("expect", "200-ok")], Some(Reason::Expectation)),
            (&[("expect", "")], Some(Reason::Expectation)),
            (&[("expect", "100-continue, x")], Some(Reason::Expectation)),
            (&[("expect", "100-continue"), ("expect", "100-continue")], Some(Reason::Expectation)),
        ] {
            assert_eq!(reason("POST", Version::HTTP_11, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn s33_other_methods_are_refused() {
        for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
            assert_eq!(reason(method, Version::HTTP_11, &[]), None, "{method}");
        }
        for method in ["CONNECT", "TRACE", "TRACK", "get", "Post", "PURGE", "PROPFIND", "DEBUG", "QUERY", "GETX"] {
            assert_eq!(reason(method, Version::HTTP_11, &[]), Some(Reason::Method), "{method}");
        }
    }

    #[test]
    fn s70_one_authorization_only() {
        let one = ("authorization", "Bearer a");
        assert_eq!(reason("GET", Version::HTTP_11, &[one]), None);
        assert_eq!(reason("GET", Version::HTTP_11, &[one, one]), Some(Reason::BadRequest));
    }
}
