//! WebSocket handshakes.

use super::{fields, headers};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{Method, Version, header, request::Parts};

/// True for a whole opening handshake without a body. Any other wish to upgrade is dropped with the hop-by-hop fields.
///
/// Source: RFC 6455, section 4.1.
pub(super) fn is_handshake(head: &Parts) -> bool {
    let headers = &head.headers;
    if !headers.contains_key(header::UPGRADE) || head.method != Method::GET || head.version != Version::HTTP_11 {
        return false;
    }
    fields::one(headers, "upgrade").is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("websocket"))
        && headers::listed(headers).any(|option| option.eq_ignore_ascii_case("upgrade"))
        && fields::one(headers, "sec-websocket-version") == Some("13")
        && fields::one(headers, "sec-websocket-key").is_some_and(is_key)
        && !headers.contains_key(header::TRANSFER_ENCODING)
        && headers.get(header::CONTENT_LENGTH).is_none_or(|length| length == "0")
}

/// 16 bytes in base64.
fn is_key(text: &str) -> bool {
    let mut bytes = [0; 18];
    text.len() == 24 && STANDARD.decode_slice(text, &mut bytes) == Ok(16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    const WHOLE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn handshake(method: Method, version: Version, fields: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).version(version).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        is_handshake(&request.body(()).expect("a request").into_parts().0)
    }

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        WHOLE.into_iter().map(|field| if field.0 == name { (name, value) } else { field }).collect()
    }

    #[test]
    fn p29_only_a_whole_handshake_is_a_websocket() {
        let (get, http11) = (Method::GET, Version::HTTP_11);
        assert!(handshake(get.clone(), http11, &WHOLE));
        assert!(handshake(get.clone(), http11, &with("upgrade", "WebSocket")));
        assert!(!handshake(Method::POST, http11, &WHOLE));
        assert!(!handshake(get.clone(), Version::HTTP_10, &WHOLE));
        for (name, value) in [
            ("connection", "keep-alive"),
            ("connection", "upgraded"),
            ("upgrade", "h2c"),
            ("upgrade", "websocket, h2c"),
            ("sec-websocket-version", "12"),
            ("sec-websocket-version", "13, 8"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZSE="),
            ("sec-websocket-key", "not base64 not base64 =="),
        ] {
            assert!(!handshake(get.clone(), http11, &with(name, value)), "{name}: {value}");
        }
        for at in 0..WHOLE.len() {
            let mut fields = WHOLE.to_vec();
            let left_out = fields.remove(at);
            assert!(!handshake(get.clone(), http11, &fields), "without {left_out:?}");
        }
        for more in [("content-length", "1"), ("transfer-encoding", "chunked"), WHOLE[1], WHOLE[3]] {
            assert!(!handshake(get.clone(), http11, &[&WHOLE[..], &[more]].concat()), "with {more:?}");
        }
    }
}
