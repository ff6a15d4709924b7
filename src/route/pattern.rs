//! Paths of a route by what they are: one path, or all below one.

use std::fmt;

/// One path (`/api/activity`), or all below one (`/static/*`). Tells neither upper from lower case nor a slash at the end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathPattern {
    path: Box<str>,
    below: bool,
}

impl PathPattern {
    /// Reads a pattern. `None`: it does not begin with `/`, has a `*` that is no last segment, or a segment that is empty or
    /// of dots.
    pub fn parse(text: &str) -> Option<Self> {
        let folded = text.to_ascii_lowercase();
        let (path, below) = match folded.strip_suffix("/*") {
            Some(path) => (path, true),
            None => (folded.strip_suffix('/').unwrap_or(&folded), false),
        };
        let mut segments = path.split('/').skip(1);
        let fits = text.starts_with('/')
            && segments.all(|segment| !matches!(segment, "" | "." | "..") && !segment.contains('*'));
        fits.then(|| Self { path: path.into(), below })
    }

    /// It is meant by this path, which is folded.
    pub fn matches(&self, folded: &str) -> bool {
        match folded.strip_prefix(&*self.path) {
            Some("") => !self.below || self.path.is_empty(),
            Some(rest) => self.below && rest.starts_with('/'),
            None => false,
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}{}",
            self.path,
            if self.below {
                "/*"
            } else if self.path.is_empty() {
                "/"
            } else {
                ""
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_one_path_or_all_below_one() {
        for (pattern, path, expected) in [
            ("/static/*", "/static/a.js", true),
            ("/static/*", "/static/a/b.js", true),
            ("/static/*", "/static", false),
            ("/static/*", "/staticx/a.js", false),
            ("/Static/*", "/static/a.js", true),
            ("/api/activity", "/api/activity", true),
            ("/api/activity/", "/api/activity", true),
            ("/api/activity", "/api/activity/x", false),
            ("/*", "/a", true),
            ("/*", "/", true),
            ("/", "/", false),
        ] {
            let read = PathPattern::parse(pattern).expect(pattern);
            assert_eq!(read.matches(path), expected, "{pattern} {path}");
        }
        for bad in ["", "static/*", "*", "/a*", "/*/b", "/a//b", "/../b", "/a/./*"] {
            assert_eq!(PathPattern::parse(bad), None, "{bad}");
        }
        assert_eq!(PathPattern::parse("/Static/*").expect("read").to_string(), "/static/*");
    }
}
