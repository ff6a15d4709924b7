//! Parts of paths that are not recorded.
//!
//! A pattern is about the path it names and all below it: `*` stands for one segment, `**` at the end for all that follow. What
//! stands there is recorded as `*` and `**`. Policies and the upstream see the path as it is.

use std::{borrow::Cow, fmt, sync::Arc};

/// What is left out of paths, by patterns; where several fit, all of them count.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redaction(Vec<PathMask>);

/// One pattern, such as `/users/*/records/*` or `/files/**`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PathMask {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    /// This segment, in lower case.
    Literal(Box<str>),
    /// Any one, which is kept out.
    One,
    /// All that follow, of which there is at least one.
    Rest,
}

/// A segment of a path as it stands there, and the letters that part it from the next one.
struct Segment<'a> {
    text: &'a str,
    parted: &'a str,
}

impl PathMask {
    /// Reads a pattern. `None`: it does not begin with `/`, has no star, has `**` before its end, a star beside other letters,
    /// or a segment that no path has.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('/')?;
        let mut parts = Vec::new();
        for segment in inner.strip_suffix('/').unwrap_or(inner).split('/') {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()+,=:@".contains(&byte);
            parts.push(match segment {
                _ if parts.last() == Some(&Part::Rest) => return None,
                "*" => Part::One,
                "**" => Part::Rest,
                "" | "." | ".." => return None,
                literal if literal.bytes().all(plain) => Part::Literal(literal.to_ascii_lowercase().into()),
                _ => return None,
            });
        }
        parts.iter().any(|part| !matches!(part, Part::Literal(_))).then_some(Self { parts })
    }

    /// Whether any path below `path` can fit, or `path` itself.
    pub fn reaches(&self, path: &str) -> bool {
        let segments = segments(path);
        let mut names = segments.iter().map(|segment| folded(segment.text)).filter(|name| !name.is_empty());
        let mut parts = self.parts.iter();
        loop {
            match (parts.next(), names.next()) {
                (Some(Part::Literal(literal)), Some(name)) if **literal != *name => return false,
                (Some(Part::Rest) | None, _) | (_, None) => return true,
                (Some(_), Some(_)) => {}
            }
        }
    }

    /// Marks the segments that are kept out; those of no letters do not count.
    fn mark(&self, segments: &[Segment<'_>], marks: &mut [Option<Part>]) {
        let places: Vec<usize> = (0..segments.len()).filter(|at| !segments[*at].text.is_empty()).collect();
        if places.len() < self.parts.len() {
            return;
        }
        let fits = self.parts.iter().zip(&places).all(|(part, at)| match part {
            Part::Literal(literal) => **literal == *folded(segments[*at].text),
            Part::One | Part::Rest => true,
        });
        for (part, at) in self.parts.iter().zip(places).filter(|(part, _)| fits && !matches!(part, Part::Literal(_))) {
            if marks[at] != Some(Part::Rest) {
                marks[at] = Some(part.clone());
            }
        }
    }
}

impl fmt::Display for PathMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Literal(literal) => write!(f, "/{literal}"),
            Part::One => f.write_str("/*"),
            Part::Rest => f.write_str("/**"),
        })
    }
}

impl Redaction {
    /// These patterns; `None` if there are none.
    pub fn of(masks: Vec<PathMask>) -> Option<Arc<Self>> {
        (!masks.is_empty()).then(|| Arc::new(Self(masks)))
    }

    /// All patterns of all of them.
    pub fn all<'a>(redactions: impl Iterator<Item = &'a Arc<Self>>) -> Option<Arc<Self>> {
        Self::of(redactions.flat_map(|redaction| redaction.0.iter().cloned()).collect())
    }

    /// The patterns, as they are written.
    pub fn patterns(&self) -> impl Iterator<Item = &PathMask> {
        self.0.iter()
    }

    /// `path` as it is recorded.
    pub fn path<'a>(&self, path: &'a str) -> Cow<'a, str> {
        let segments = segments(path);
        let marks = self.marks(&segments);
        if marks.iter().all(Option::is_none) {
            return Cow::Borrowed(path);
        }
        let mut shown = String::with_capacity(path.len());
        for (segment, mark) in segments.iter().zip(&marks) {
            match mark {
                None => shown.push_str(segment.text),
                Some(Part::Rest) => return Cow::Owned(shown + "**"),
                Some(_) => shown.push('*'),
            }
            shown.push_str(segment.parted);
        }
        Cow::Owned(shown)
    }

    /// `text`, which was said of a request for `path`, without what is kept out of the path: neither the path as a whole nor a
    /// word that stands in its place.
    pub fn in_text<'a>(&self, text: &'a str, path: &str) -> Cow<'a, str> {
        let masked = match self.path(path) {
            Cow::Borrowed(_) => return Cow::Borrowed(text),
            Cow::Owned(masked) => masked,
        };
        let segments = segments(path);
        let marks = self.marks(&segments);
        let rest = marks.iter().position(|mark| *mark == Some(Part::Rest)).unwrap_or(marks.len());
        let hidden: Vec<_> =
            segments.iter().enumerate().filter(|(at, _)| *at >= rest || marks[*at].is_some()).collect();
        if hidden.len() > WORDS {
            return Cow::Borrowed("what is to say of it is kept out with its path");
        }
        let mut said = text.to_owned();
        for whole in [path.to_owned(), path.to_ascii_lowercase(), decoded(path.as_bytes())] {
            said = said.replace(&whole, &masked);
        }
        for (_, Segment { text: word, .. }) in hidden {
            for word in [(*word).to_owned(), word.to_ascii_lowercase(), decoded(word.as_bytes()), folded(word)] {
                said = without_word(&said, &word);
            }
        }
        Cow::Owned(said)
    }

    fn marks(&self, segments: &[Segment<'_>]) -> Vec<Option<Part>> {
        let mut marks = vec![None; segments.len()];
        self.0.iter().for_each(|mask| mask.mark(segments, &mut marks));
        marks
    }
}

/// Of a path of which more segments are kept out, nothing is told but that: whoever sends it shall not keep us busy.
const WORDS: usize = 32;

/// `text` with a star for each `word` that stands there by itself.
fn without_word(text: &str, word: &str) -> String {
    if word.is_empty() || word == "*" {
        return text.to_owned();
    }
    let (mut out, mut done) = (String::with_capacity(text.len()), 0);
    for (at, _) in text.match_indices(word) {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let alone = [before, after].into_iter().flatten().all(|letter| !letter.is_alphanumeric());
        if alone && at >= done {
            out.push_str(&text[done..at]);
            out.push('*');
            done = at + word.len();
        }
    }
    out + &text[done..]
}

/// The segments of a path. What an upstream may take for a slash parts them too.
fn segments(path: &str) -> Vec<Segment<'_>> {
    let bytes = path.as_bytes();
    let (mut segments, mut from, mut at) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let length = match bytes[at] {
            b'/' | b'\\' => 1,
            b'%' if bytes.get(at + 1..at + 3).is_some_and(is_slash) => 3,
            _ => {
                at += 1;
                continue;
            }
        };
        segments.push(Segment { text: &path[from..at], parted: &path[at..at + length] });
        at += length;
        from = at;
    }
    segments.push(Segment { text: &path[from..], parted: "" });
    segments
}

fn is_slash(code: &[u8]) -> bool {
    code.eq_ignore_ascii_case(b"2f") || code.eq_ignore_ascii_case(b"5c")
}

/// A segment as the laxest upstream reads it: without encoding, without parameters, in lower case.
fn folded(segment: &str) -> String {
    let decoded = decoded(segment.as_bytes());
    decoded.split(';').next().unwrap_or_default().to_lowercase()
}

/// Without percent-encoding; what is no UTF-8 becomes a sign for that.
pub fn decoded(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let code = digit(text.get(at + 1)).zip(digit(text.get(at + 2))).map(|(high, low)| high << 4 | low);
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) if text[at] == b'%' => {
                out.push(code);
                at += 3;
            }
            _ => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn redaction(patterns: &[&str]) -> Arc<Redaction> {
        let masks = patterns.iter().map(|text| PathMask::parse(text).expect("a pattern")).collect();
        Redaction::of(masks).expect("some")
    }

    #[test]
    fn stars_stand_for_what_is_kept_out() {
        for (patterns, path, expected) in [
            (&["/users/*/records/*"][..], "/users/7/records/9", "/users/*/records/*"),
            (&["/users/*/records/*"], "/users/7/records/9/pages/1", "/users/*/records/*/pages/1"),
            (&["/users/*/records/*"], "/users/7/records", "/users/7/records"),
            (&["/users/*/records/*"], "/users/7/notes/9", "/users/7/notes/9"),
            (&["/files/**"], "/files/a/b.txt", "/files/**"),
            (&["/files/**"], "/files", "/files"),
            (&["/files/**"], "/files/", "/files/"),
            (&["/**"], "/a/b", "/**"),
            (&["/*/b"], "/secret/b", "/*/b"),
            // what an upstream may read as the same path is the same
            (&["/users/*"], "/USERS/7", "/USERS/*"),
            (&["/users/*"], "/%55sers/7", "/%55sers/*"),
            (&["/users/*"], "/users;v=1/7", "/users;v=1/*"),
            (&["/users/*"], "/users%2F7%2Fx", "/users%2F*%2Fx"),
            (&["/users/*"], "/users%2f7", "/users%2f*"),
            (&["/users/*"], "/users/7/", "/users/*/"),
            (&["/users/*"], "//users//7", "//users//*"),
            // all that fit count
            (&["/users/*", "/users/7/*", "/users/**"], "/users/7/records/9", "/users/**"),
            (&["/users/**", "/users/*"], "/users/7/records/9", "/users/**"),
            (&["/a/*/c/d", "/a/b/*/d"], "/a/b/c/d", "/a/*/*/d"),
        ] {
            assert_eq!(redaction(patterns).path(path), expected, "{patterns:?} {path}");
        }
    }

    #[test]
    fn what_is_said_of_a_path_tells_no_more_than_its_record() {
        let redaction = redaction(&["/users/*/records/*", "/files/**"]);
        let path = "/users/Ada/records/9";
        for (text, expected) in [
            ("`/users/Ada/records/9` is not there", "`/users/*/records/*` is not there"),
            ("`/users/ada/records/9` is not there", "`/users/*/records/*` is not there"),
            ("no record 9 of Ada, 99 of ada", "no record * of *, 99 of *"),
            ("adamant", "adamant"),
        ] {
            assert_eq!(redaction.in_text(text, path), expected);
        }
        assert_eq!(redaction.in_text("no b%20c in a: b c", "/files/a/b%20c"), "no * in *: *");
        assert_eq!(redaction.in_text("no Ada", "/other/Ada"), "no Ada");
    }

    #[test]
    fn a_pattern_has_stars_for_whole_segments() {
        for bad in ["", "/", "users/*", "/users", "/users/a*", "/**/a", "/**/*", "/a//*", "/../*", "/%61/*", "/a?b/*"] {
            assert_eq!(PathMask::parse(bad), None, "{bad}");
        }
        assert_eq!(PathMask::parse("/Users/*/").expect("read").to_string(), "/users/*");
        let reaches = |pattern: &str, path: &str| PathMask::parse(pattern).expect("read").reaches(path);
        assert!(reaches("/v1/users/*", "/v1/") && reaches("/*/users/*", "/v1/") && reaches("/**", "/v1/x/"));
        assert!(reaches("/v1/*", "/v1/users/x/") && reaches("/V1/*", "/v1/") && reaches("/users/*", "/"));
        assert!(!reaches("/users/*", "/v1/"));
    }

    proptest! {
        /// Whatever the path, what is kept out of it is not in its record, and no path makes it fail.
        #[test]
        fn nothing_that_is_kept_out_is_recorded(path in "(/[a-z%0-9;]{0,5}){0,6}") {
            let redaction = redaction(&["/a/**", "/*/b/*"]);
            let shown = redaction.path(&path).into_owned();
            prop_assert_eq!(&*redaction.path(&shown), &*shown);
            let _ = redaction.in_text(&path, &path);
            let marked = format!("/x/b/canary{path}");
            prop_assert!(!redaction.path(&marked).contains("canary"));
        }
    }
}
