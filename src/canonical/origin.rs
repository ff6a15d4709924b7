//! Which site a request was made from.

use super::{Canonical, Target, fields};
use http::{Method, header};

/// `Origin` of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin<'a> {
    /// Not sent.
    Absent,
    /// `null`: a page that is not to be named.
    Null,
    /// One, as sent.
    One(&'a str),
    /// Several fields, a list, or no text: not to be believed.
    Several,
}

/// `Sec-Fetch-Site` of a request.
///
/// Source: Fetch Metadata Request Headers, section 2.3.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FetchSite {
    /// Not sent.
    Absent,
    /// `none`: the person did it, by a bookmark or in the address bar.
    Person,
    /// `same-origin`.
    SameOrigin,
    /// `same-site`: a sibling host.
    SameSite,
    /// `cross-site`, several fields, or a word that does not exist.
    CrossSite,
}

impl Canonical {
    /// The origin that this request is for, as a browser writes it.
    pub fn own_origin(&self) -> String {
        [self.scheme(), "://", &self.authority].concat()
    }

    /// The origin that this request says it comes from.
    pub fn origin(&self) -> Origin<'_> {
        if !self.headers.contains_key(header::ORIGIN) {
            return Origin::Absent;
        }
        match fields::one(&self.headers, "origin") {
            Some("null") => Origin::Null,
            Some(one) if !one.contains([' ', ',', '\t']) => Origin::One(one),
            _ => Origin::Several,
        }
    }

    /// The page of this very origin that made the request, by `Referer` (RFC 9110, section 10.1.3). None of our own endpoints.
    pub fn referring_page(&self) -> Option<Target> {
        let rest = fields::one(&self.headers, "referer")?.strip_prefix(self.scheme())?.strip_prefix("://")?;
        let target = rest.strip_prefix(&*self.authority).filter(|rest| rest.starts_with('/'))?;
        Target::parse(target).ok().filter(|target| !target.folded.starts_with("/.vestibule/"))
    }

    /// What the browser says of the site that the request was made from.
    pub fn fetch_site(&self) -> FetchSite {
        if !self.headers.contains_key("sec-fetch-site") {
            return FetchSite::Absent;
        }
        match fields::one(&self.headers, "sec-fetch-site") {
            Some("none") => FetchSite::Person,
            Some("same-origin") => FetchSite::SameOrigin,
            Some("same-site") => FetchSite::SameSite,
            _ => FetchSite::CrossSite,
        }
    }

    /// True if another site may have made this request in the person's name, so that a cookie must not speak for them.
    ///
    /// To be asked for every request whose caller was identified by a cookie. A WebSocket handshake needs an `Origin` that is
    /// this request's own or one of `allowed`; a method that changes state needs that, or a browser that says
    /// `Sec-Fetch-Site: same-origin` or `none`. Nothing sent counts as another site. GET, HEAD and OPTIONS never cross.
    pub fn crosses_site(&self, allowed: &[String]) -> bool {
        if self.websocket {
            return !self.comes_from(allowed);
        }
        if matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return false;
        }
        match self.fetch_site() {
            FetchSite::Person | FetchSite::SameOrigin => self.origin() == Origin::Several,
            FetchSite::Absent | FetchSite::SameSite | FetchSite::CrossSite => !self.comes_from(allowed),
        }
    }

    /// The same for a credential that a browser may send by itself and others send too: a client's certificate, a password that
    /// was asked for once. Where nothing tells a browser, nobody is crossed; one that says where it is is believed.
    pub fn crosses_site_by_browser(&self, allowed: &[String]) -> bool {
        let told = !matches!(self.fetch_site(), FetchSite::Absent) || !matches!(self.origin(), Origin::Absent);
        told && self.crosses_site(allowed)
    }

    /// True if `Origin` is this request's own or one of `allowed`, letter by letter.
    fn comes_from(&self, allowed: &[String]) -> bool {
        match self.origin() {
            Origin::One(origin) => self.is_own(origin) || allowed.iter().any(|one| one == origin),
            Origin::Absent | Origin::Null | Origin::Several => false,
        }
    }

    fn is_own(&self, origin: &str) -> bool {
        let authority = origin.strip_prefix(self.scheme()).and_then(|rest| rest.strip_prefix("://"));
        authority == Some(&*self.authority)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }
}

#[cfg(test)]
mod tests {
    use crate::canonical::testing;

    fn crosses(method: &str, websocket: bool, fields: &[(&str, &str)]) -> bool {
        let mut request = testing::https(method, "app.example.com", "/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut asked = testing::parse(request);
        asked.websocket = websocket;
        asked.crosses_site(&["https://friend.example.com".to_owned()])
    }

    const OWN: (&str, &str) = ("origin", "https://app.example.com");
    const FRIEND: (&str, &str) = ("origin", "https://friend.example.com");
    const SIBLING: (&str, &str) = ("origin", "https://evil.example.com");
    const NULL: (&str, &str) = ("origin", "null");

    fn site(value: &'static str) -> (&'static str, &'static str) {
        ("sec-fetch-site", value)
    }

    #[test]
    fn s92_a_websocket_needs_its_own_origin_or_a_listed_one() {
        for (expected, fields) in [
            (false, &[OWN][..]),
            (false, &[FRIEND]),
            (false, &[FRIEND, site("same-site")]),
            (true, &[]),
            (true, &[site("same-origin")]),
            (true, &[NULL]),
            (true, &[SIBLING]),
            (true, &[SIBLING, site("same-origin")]),
            (true, &[OWN, OWN]),
            (true, &[OWN, SIBLING]),
            (true, &[("origin", "https://app.example.com https://evil.example.com")]),
            (true, &[("origin", "https://app.example.com, https://evil.example.com")]),
            (true, &[("origin", "http://app.example.com")]),
            (true, &[("origin", "https://app.example.com:8443")]),
            (true, &[("origin", "https://app.example.com/")]),
            (true, &[("origin", "https://app.example.com.evil.example")]),
            (true, &[("origin", "HTTPS://app.example.com")]),
            (true, &[("origin", "")]),
        ] {
            assert_eq!(crosses("GET", true, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn s93_a_change_of_state_comes_from_its_own_site() {
        for (expected, fields) in [
            (false, &[site("same-origin")][..]),
            (false, &[site("none")]),
            (false, &[site("same-origin"), OWN]),
            (false, &[site("none"), NULL]),
            (false, &[OWN]),
            (false, &[FRIEND]),
            (false, &[FRIEND, site("cross-site")]),
            (false, &[FRIEND, site("same-site")]),
            (true, &[]),
            (true, &[site("same-site")]),
            (true, &[site("same-site"), SIBLING]),
            (true, &[site("cross-site")]),
            (true, &[site("cross-site"), NULL]),
            (true, &[SIBLING]),
            (true, &[NULL]),
            (true, &[OWN, OWN]),
            (true, &[site("same-origin"), OWN, SIBLING]),
            (true, &[site("same-origin"), site("same-origin")]),
            (true, &[site("Same-Origin")]),
            (true, &[site("")]),
        ] {
            for method in ["POST", "PUT", "PATCH", "DELETE"] {
                assert_eq!(crosses(method, false, fields), expected, "{method} {fields:?}");
            }
            for method in ["GET", "HEAD", "OPTIONS"] {
                assert!(!crosses(method, false, fields), "{method} {fields:?}");
            }
        }
    }

    #[test]
    fn the_own_origin_is_what_a_browser_writes() {
        for (host, expected) in [
            ("App.Example.com:443", "https://app.example.com"),
            ("app.example.com:8443", "https://app.example.com:8443"),
            ("[::1]:443", "https://[::1]"),
        ] {
            assert_eq!(testing::parse(testing::https("GET", host, "/")).own_origin(), expected);
        }
        assert_eq!(testing::parse(testing::http("GET", "a.localhost:80", "/")).own_origin(), "http://a.localhost");
    }

    #[test]
    fn p11_a_referring_page_is_of_this_very_origin() {
        for (referer, expected) in [
            ("https://app.example.com/edit?id=7", Some("/edit?id=7")),
            ("https://app.example.com/", Some("/")),
            ("https://app.example.com", None),
            ("http://app.example.com/edit", None),
            ("https://app.example.com.evil.example/edit", None),
            ("https://app.example.com:444/edit", None),
            ("https://evil.example/https://app.example.com/edit", None),
            ("https://app.example.com//evil.example/", None),
            ("https://app.example.com/.vestibule/sign-out", None),
            ("/edit", None),
        ] {
            let asked = testing::parse(testing::https("POST", "app.example.com", "/save").header("referer", referer));
            let page = asked.referring_page();
            assert_eq!(page.as_ref().map(|page| page.path_and_query().as_str()), expected, "{referer}");
        }
    }
}
