//! What a client cannot say: identity, forwarding and hop-by-hop fields are removed before anything of ours is set.
//!
//! Names are compared in their canonical spelling: lower case, every run of other characters than letters and digits as
//! one `-`, none at the edges. Upstreams that fold `_` to `-` or drop odd characters thus never see another name than we do.

use http::{HeaderMap, HeaderName, header};
use std::cmp::Ordering;

/// The most fields of a head.
const MOST: usize = 100;
/// The largest head, in bytes as HTTP/1.1 writes it.
const LARGEST: usize = 32 * 1024;

/// A head that is larger than allowed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum HeadError {
    #[error("head has {0} fields, 100 are allowed")]
    Fields(usize),
    #[error("head has {0} bytes of fields, 32768 are allowed")]
    Bytes(usize),
}

/// Names that belong together.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    /// This name.
    One(&'static str),
    /// This name and all that go on with `-`.
    All(&'static str),
}
use Pattern::{All, One};

impl Pattern {
    const fn text(&self) -> &'static str {
        match self {
            One(text) | All(text) => text,
        }
    }

    fn covers(&self, name: &[u8]) -> bool {
        match self {
            One(text) => name == text.as_bytes(),
            All(text) => {
                name.strip_prefix(text.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"-"))
            }
        }
    }
}

/// Never believed and never passed on, in any spelling. Sorted, and no entry covers another.
const STRIPPED: &[Pattern] = &[
    All("ali-cdn-real-ip"),
    All("cf-access"),        // Cloudflare Access
    All("cf-connecting-ip"), // Cloudflare
    All("cf-connecting-ipv6"),
    All("cf-connecting-o2o"),
    All("cf-ipcountry"),
    All("cf-visitor"),
    All("client-cert"), // RFC 9440
    All("client-ip"),
    One("connection"),        // hop by hop (RFC 9110, section 7.6.1)
    All("fastly-client"),     // Fastly
    All("forwarded"),         // RFC 7239, and older forms
    All("gap-auth"),          // oauth2-proxy
    All("http2-settings"),    // hop by hop
    All("keep-alive"),        // hop by hop
    All("oidc-access-token"), // mod_auth_openidc
    All("oidc-claim"),
    All("oidc-id-token"),
    All("proxy"),       // hop by hop, and what CGI makes of `Proxy`
    All("remote-addr"), // CGI (RFC 3875), Authelia
    All("remote-email"),
    All("remote-group"),
    All("remote-groups"),
    All("remote-name"),
    All("remote-user"),
    All("ssl-client"),             // client certificates, as Apache and nginx name them
    All("tailscale-user"),         // Tailscale
    All("te"),                     // hop by hop
    All("teleport-jwt-assertion"), // Teleport
    All("trailer"),                // hop by hop
    All("transfer-encoding"),      // hop by hop
    All("true-client-ip"),         // Akamai, Cloudflare
    One("upgrade"),                // hop by hop
    All("vestibule"),              // ours
    All("x-amzn-mtls"),            // AWS load balancers
    All("x-amzn-oidc"),
    All("x-auth-email"),
    All("x-auth-groups"),
    All("x-auth-name"),
    All("x-auth-request"), // oauth2-proxy
    All("x-auth-roles"),
    All("x-auth-user"),
    All("x-auth-username"),
    All("x-authenticated"),
    All("x-authentik"), // authentik
    All("x-client-cert"),
    All("x-client-dn"),
    All("x-client-ip"),
    All("x-client-verify"),
    All("x-cluster-client-ip"),
    All("x-consumer"), // Kong
    All("x-credential-identifier"),
    All("x-endpoint-api-userinfo"), // Google Cloud Endpoints
    All("x-envoy"),                 // Envoy
    All("x-forwarded"),             // ours, and everybody's
    All("x-goog-authenticated"),    // Google IAP
    All("x-goog-iap"),
    All("x-host"),
    All("x-http-host-override"),
    All("x-http-method"), // method overrides
    All("x-id-token"),
    All("x-method-override"),
    All("x-ms-client-principal"), // Azure App Service
    All("x-ms-token"),
    All("x-oauth2-proxy"), // oauth2-proxy
    All("x-original"),
    All("x-originating-ip"),
    All("x-pomerium"), // Pomerium
    All("x-proxyuser-ip"),
    All("x-real-ip"),    // nginx
    All("x-remote"),     // Kubernetes' authenticating proxy
    One("x-request-id"), // ours is new for every request
    All("x-rewrite-uri"),
    All("x-rewrite-url"),
    All("x-ssl-client"),
    All("x-token-subject"),
    All("x-userinfo"),
    All("x-vestibule"), // ours
    All("x-webauth"),   // Grafana
];

/// What we read, or write ourselves: removed where it is not spelled plainly, so that nobody reads it but as we do.
const PLAIN_ONLY: &[Pattern] = &[
    One("accept"),
    All("access-control-request"),
    One("authorization"),
    One("content-encoding"),
    One("content-length"),
    One("content-type"),
    One("cookie"),
    One("expect"),
    One("host"),
    One("origin"),
    All("sec-fetch"),
    All("sec-websocket"),
    One("traceparent"),
    One("tracestate"),
    One("x-requested-with"),
];

/// Removes what a client cannot say, and what its `Connection` lists.
///
/// # Errors
/// A [`HeadError`] if there are more or larger fields than allowed.
pub(super) fn clean(headers: &mut HeaderMap) -> Result<(), HeadError> {
    if headers.len() > MOST {
        return Err(HeadError::Fields(headers.len()));
    }
    let mut bytes = 0;
    let mut removed: Vec<HeaderName> = Vec::new();
    for (name, value) in &*headers {
        bytes += name.as_str().len() + value.len() + 4;
        if is_stripped(name) {
            removed.push(name.clone());
        }
    }
    if bytes > LARGEST {
        return Err(HeadError::Bytes(bytes));
    }
    if headers.contains_key(header::CONNECTION) {
        removed.extend(listed(headers).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()));
    }
    for name in removed {
        headers.remove(name);
    }
    for ours in [header::HOST, header::EXPECT] {
        headers.remove(ours);
    }
    Ok(())
}

/// What `Connection` lists (RFC 9110, section 7.6.1).
pub(super) fn listed(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(header::CONNECTION).iter();
    let members = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b','));
    // a member that is no text is no name either, and says nothing about its neighbours
    members.filter_map(|member| std::str::from_utf8(member.trim_ascii()).ok()).filter(|name| !name.is_empty())
}

/// True for a field that never reaches an upstream as the client sent it.
fn is_stripped(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if is_plain(name) {
        return BEGINS_STRIPPED[usize::from(name[0])] && covered(STRIPPED, name);
    }
    let mut space = [0; 64];
    let name = canonical_spelling(name, &mut space);
    covered(STRIPPED, name) || covered(PLAIN_ONLY, name)
}

/// True for a field, in any spelling, that is about one hop, frames a message, or is read or written by us; but for
/// `Authorization`, which is the upstream's.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    let mut space = [0; 64];
    let name = canonical_spelling(name.as_str().as_bytes(), &mut space);
    covered(STRIPPED, name) || (covered(PLAIN_ONLY, name) && name != b"authorization")
}

/// True if both names have one canonical spelling, so that an upstream may take one for the other.
pub(crate) fn same_spelling(one: &HeaderName, other: &HeaderName) -> bool {
    fn words(name: &HeaderName) -> impl Iterator<Item = &str> {
        name.as_str().split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
    }
    words(one).eq(words(other))
}

/// Finds the one pattern that can cover `name`: the last that does not sort behind it.
fn covered(patterns: &[Pattern], name: &[u8]) -> bool {
    let behind = patterns.partition_point(|pattern| pattern.text().as_bytes().cmp(name) != Ordering::Greater);
    patterns[..behind].last().is_some_and(|pattern| pattern.covers(name))
}

/// The first bytes of all names in [`STRIPPED`]; most fields of a browser begin with another.
const BEGINS_STRIPPED: [bool; 256] = {
    let mut begins = [false; 256];
    let mut at = 0;
    while at < STRIPPED.len() {
        begins[STRIPPED[at].text().as_bytes()[0] as usize] = true;
        at += 1;
    }
    begins
};

/// True if `name` is its own canonical spelling. A name is never empty and has no upper case here.
fn is_plain(name: &[u8]) -> bool {
    let mut last = b'-';
    for &byte in name {
        if !byte.is_ascii_alphanumeric() && (byte != b'-' || last == b'-') {
            return false;
        }
        last = byte;
    }
    last != b'-'
}

/// Writes the canonical spelling of `name`, as far as it fits: no pattern is as long as `space`.
fn canonical_spelling<'a>(name: &[u8], space: &'a mut [u8; 64]) -> &'a [u8] {
    let mut length = 0;
    for word in name.split(|byte| !byte.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        let dash: &[u8] = if length == 0 { b"" } else { b"-" };
        for &byte in dash.iter().chain(word).take(space.len() - length) {
            space[length] = byte;
            length += 1;
        }
    }
    &space[..length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::corpus;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn s01_s06_s07_s34_no_spelling_of_a_forbidden_name_stays() {
        for (name, expected) in corpus::rows(corpus::HEADERS) {
            let name = String::from_utf8(name).expect("a name");
            let mut headers = map(&[(&name, "root"), ("accept-encoding", "br")]);
            clean(&mut headers).expect("small enough");
            let found = if headers.len() == 2 { "keep" } else { "strip" };
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn s03_all_copies_go() {
        let mut headers = map(&[("x-forwarded-user", "root"); 60]);
        clean(&mut headers).expect("small enough");
        assert!(headers.is_empty());
    }

    #[test]
    fn s05_what_connection_lists_goes_whatever_it_is() {
        let mut headers = map(&[
            ("connection", "close, X-Custom ,,private-token"),
            ("connection", "x-other, not a name"),
            ("x-custom", "1"),
            ("x-other", "1"),
            ("private-token", "1"),
            ("accept", "*/*"),
        ]);
        clean(&mut headers).expect("small enough");
        assert_eq!(headers, map(&[("accept", "*/*")]));
    }

    #[test]
    fn knows_what_is_ours_in_any_spelling() {
        let ours = |name: &str| is_ours(&HeaderName::from_bytes(name.as_bytes()).expect("a token"));
        for name in ["Host", "cookie", "Content_Length", "Transfer-Encoding", "TE", "X-Forwarded-User", "_vestibule-x"]
        {
            assert!(ours(name), "{name}");
        }
        for name in ["Authorization", "X-Api-Key", "Private-Token", "hostname"] {
            assert!(!ours(name), "{name}");
        }
    }

    #[test]
    fn s85_a_head_has_at_most_100_fields_and_32_kib() {
        assert_eq!(clean(&mut map(&[("a", "1"); 100])), Ok(()));
        assert_eq!(clean(&mut map(&[("a", "1"); 101])), Err(HeadError::Fields(101)));
        assert_eq!(clean(&mut map(&[("a", &"1".repeat(32 * 1024 - 5))])), Ok(()));
        assert_eq!(clean(&mut map(&[("a", &"1".repeat(32 * 1024 - 4))])), Err(HeadError::Bytes(32 * 1024 + 1)));
    }

    #[test]
    fn the_tables_are_sorted_and_no_entry_hides_another() {
        for table in [STRIPPED, PLAIN_ONLY] {
            for pair in table.windows(2) {
                assert!(pair[0].text() < pair[1].text(), "{pair:?}");
                assert!(!All(pair[0].text()).covers(pair[1].text().as_bytes()), "{pair:?}");
            }
            for pattern in table {
                assert!(is_plain(pattern.text().as_bytes()) && pattern.text().len() < 60, "{pattern:?}");
                assert!(covered(table, pattern.text().as_bytes()), "{pattern:?}");
            }
        }
    }

    /// What S-01 says, word by word.
    fn plainly_canonical(name: &str) -> String {
        let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.collect::<Vec<_>>().join("-").to_ascii_lowercase()
    }

    proptest! {
        /// However a name is spelled, it goes if its canonical spelling goes.
        #[test]
        fn s01_spelling_does_not_matter(
            at in 0..STRIPPED.len(),
            dashes in prop::collection::vec("[-_.~!'*+|^`$%&#]{1,80}", 8),
            edges in prop::array::uniform2("[-_.~]{0,80}"),
        ) {
            let mut name = edges[0].clone();
            for (word, dash) in STRIPPED[at].text().split('-').zip(&dashes) {
                name.push_str(word);
                name.push_str(dash);
            }
            let odd = HeaderName::from_bytes(name.as_bytes()).expect("a token");
            prop_assert!(is_stripped(&odd), "{}", name);
        }

        /// Two names are one if S-01 spells them so.
        #[test]
        fn s01_names_are_compared_as_they_are_spelled(one in "[aB_.-]{1,6}", other in "[aB_.-]{1,6}") {
            let name = |text: &str| HeaderName::from_bytes(text.as_bytes()).expect("a token");
            let same = plainly_canonical(&one) == plainly_canonical(&other);
            prop_assert_eq!(same_spelling(&name(&one), &name(&other)), same);
        }

        /// Both ways to spell canonically agree.
        #[test]
        fn the_canonical_spelling_is_that_of_s01(name in "[a-z0-9_.~-]{1,60}") {
            let mut space = [0; 64];
            let plain = plainly_canonical(&name);
            prop_assert_eq!(canonical_spelling(name.as_bytes(), &mut space), plain.as_bytes());
            prop_assert_eq!(is_plain(name.as_bytes()), plain == name);
        }
    }
}
