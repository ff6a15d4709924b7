//! Where somebody wanted to go.

use crate::canonical::Target;
use serde::{Deserialize, Serialize};

/// A target with fragment longer than this is not carried through a sign-in.
const LONGEST: usize = 4096;

/// Where somebody wanted to go: a path of this host, with query and fragment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Return(String);

impl Default for Return {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl Return {
    /// Accepts only what stays on this host (S-46): one canonical path-absolute target, and a fragment without control
    /// characters. Everything else is `/`.
    pub(super) fn parse(to: Option<&str>, fragment: Option<&str>) -> Self {
        let target = to.and_then(|to| Target::parse(to).ok()).filter(|target| !target.path.starts_with("/.vestibule/"));
        let mut text = target.map_or_else(|| "/".to_owned(), |target| target.path_and_query().as_str().to_owned());
        let fragment = fragment.map(|fragment| fragment.strip_prefix('#').unwrap_or(fragment));
        if let Some(fragment) = fragment.filter(|fragment| !fragment.is_empty() && fragment.bytes().all(is_fragment)) {
            text.push('#');
            text.push_str(fragment);
        }
        if text.len() > LONGEST { Self("/".to_owned()) } else { Self(text) }
    }

    /// The page that tells the one that opened it, and closes.
    pub(super) fn signed_in() -> Self {
        Self("/.vestibule/signed-in".to_owned())
    }

    /// What of it a server is asked for.
    pub(super) fn target(&self) -> Option<Target> {
        Target::parse(self.0.split('#').next().unwrap_or_default()).ok()
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What may stand in a fragment (RFC 3986, section 3.5), and what browsers leave in it besides.
fn is_fragment(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'`' | b'\\' | b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-46: nobody is sent to another host.
    #[test]
    fn s46_return_addresses_stay_on_this_host() {
        for evil in include_str!("../../tests/corpus/returns.txt").lines().filter(|line| !line.is_empty()) {
            let to = Return::parse(Some(&evil.replace("\\0", "\0").replace("\\t", "\t")), None);
            let place = url::Url::parse("https://portal.example.com/").expect("a URL").join(to.as_str());
            assert_eq!(place.expect("a URL").host_str(), Some("portal.example.com"), "{evil}");
        }
        assert_eq!(Return::parse(Some("/a/b?x=1&y=%2F"), Some("tab")).as_str(), "/a/b?x=1&y=%2F#tab");
        assert_eq!(Return::parse(Some("/.vestibule/sign-out"), None).as_str(), "/");
        assert_eq!(Return::parse(Some("/a"), Some("b\nc")).as_str(), "/a");
    }
}
