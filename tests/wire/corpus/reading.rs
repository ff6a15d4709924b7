//! Three ways in which an upstream may read what it is sent.

use super::table::{contains, find};

/// How an upstream reads the framing of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reading {
    /// Believes `Content-Length` before `Transfer-Encoding`, the first of several.
    LengthFirst,
    /// Believes `Transfer-Encoding` before `Content-Length`, the last of several.
    CodingFirst,
    /// Takes LF and CR alone for line ends, `_` for `-`, signs and `0x` in numbers, extensions of chunks, the first field of
    /// several, and skips empty lines before a request.
    Lenient,
}

impl Reading {
    pub(super) const ALL: [Self; 3] = [Self::LengthFirst, Self::CodingFirst, Self::Lenient];
}

/// How long the body of a request is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) method: Vec<u8>,
    pub(super) target: Vec<u8>,
    /// Names in lower case, with values.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) framing: Framing,
}

/// How far a body is.
pub(super) enum Body {
    /// More has to come.
    More,
    /// It takes this many bytes; `flaw` says what is not as we write it.
    Whole { used: usize, flaw: Option<String> },
    /// It cannot be read.
    Broken(String),
}

impl Reading {
    /// Where the head that begins `bytes` ends.
    pub(super) fn head_end(self, bytes: &[u8]) -> Option<usize> {
        if self != Self::Lenient {
            return find(bytes, b"\r\n\r\n").map(|at| at + 4);
        }
        let (mut at, mut begun) = (0, false);
        while let Some((line, end)) = self.line(bytes, at) {
            if line.is_empty() && begun {
                return Some(end);
            }
            begun |= !line.is_empty();
            at = end;
        }
        None
    }

    /// The line that begins at `at`, and where the next one does.
    fn line(self, bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
        let rest = &bytes[at..];
        if self != Self::Lenient {
            return find(rest, b"\r\n").map(|end| (&rest[..end], at + end + 2));
        }
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let width = match &rest[end..] {
            [b'\r', b'\n', ..] => 2,
            [b'\r'] => return None, // a LF may follow
            _ => 1,
        };
        Some((&rest[..end], at + end + width))
    }

    /// Reads a whole head. `None`: this is no request.
    pub(super) fn head(self, bytes: &[u8]) -> Option<Head> {
        let mut lines = Vec::new();
        let mut at = 0;
        while let Some((line, end)) = self.line(bytes, at) {
            lines.push(line);
            at = end;
        }
        let mut lines = lines.into_iter().skip_while(|line| line.is_empty());
        let mut words = lines.next()?.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        let (method, target) = (words.next()?.to_vec(), words.next()?.to_vec());
        let fields: Vec<_> = lines.filter_map(|line| self.field(line)).collect();
        let framing = self.framing(&fields);
        Some(Head { method, target, fields, framing })
    }

    fn field(self, line: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let border = line.iter().position(|byte| *byte == b':')?;
        let mut name = line[..border].to_ascii_lowercase();
        if self == Self::Lenient {
            name = name.trim_ascii().iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
        }
        Some((name, line[border + 1..].trim_ascii().to_vec()))
    }

    fn framing(self, fields: &[(Vec<u8>, Vec<u8>)]) -> Framing {
        let length = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (name == b"content-length").then(|| Framing::Length(self.number(value, 10).unwrap_or(0)))
        };
        let coding = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let chunked = contains(&value.to_ascii_lowercase(), b"chunked");
            (name == b"transfer-encoding" && chunked).then_some(Framing::Chunked)
        };
        let found = match self {
            Self::LengthFirst => fields.iter().find_map(length).or_else(|| fields.iter().find_map(coding)),
            Self::CodingFirst => fields.iter().find_map(coding).or_else(|| fields.iter().rev().find_map(length)),
            Self::Lenient => fields.iter().find_map(|field| length(field).or_else(|| coding(field))),
        };
        found.unwrap_or(Framing::Length(0))
    }

    /// A number; read leniently, it may have a sign, `0x`, and anything behind it.
    fn number(self, text: &[u8], radix: u32) -> Option<u64> {
        let text = std::str::from_utf8(text).ok()?;
        if self != Self::Lenient {
            return u64::from_str_radix(text, radix).ok();
        }
        let text = text.trim().trim_start_matches('+');
        let (text, radix) = text.strip_prefix("0x").map_or((text, radix), |text| (text, 16));
        let digits = text.find(|digit: char| !digit.is_digit(radix)).unwrap_or(text.len());
        u64::from_str_radix(&text[..digits], radix).ok()
    }

    /// Reads the body that begins `bytes`.
    pub(super) fn body(self, framing: Framing, bytes: &[u8]) -> Body {
        match framing {
            Framing::Length(length) => match usize::try_from(length) {
                Ok(used) if used <= bytes.len() => Body::Whole { used, flaw: None },
                _ => Body::More,
            },
            Framing::Chunked => self.chunks(bytes),
        }
    }

    fn chunks(self, bytes: &[u8]) -> Body {
        let (mut at, mut flaw) = (0, None);
        loop {
            let Some((line, data)) = self.line(bytes, at) else { return Body::More };
            let plain = !line.is_empty() && line.iter().all(u8::is_ascii_hexdigit) && bytes[..data].ends_with(b"\r\n");
            if !plain {
                flaw = Some(format!("the chunk size line is `{}`", line.escape_ascii()));
            }
            let Some(size) = self.number(line, 16).and_then(|size| usize::try_from(size).ok()) else {
                return Body::Broken(format!("`{}` is no chunk size", line.escape_ascii()));
            };
            if size == 0 {
                return self.trailers(bytes, data, flaw);
            }
            let Some(end) = data.checked_add(size).filter(|end| *end < bytes.len()) else { return Body::More };
            match self.line(bytes, end) {
                Some(([], next)) => at = next,
                Some(_) => return Body::Broken("a chunk is longer than its size".to_owned()),
                None => return Body::More,
            }
        }
    }

    fn trailers(self, bytes: &[u8], mut at: usize, mut flaw: Option<String>) -> Body {
        while let Some((line, end)) = self.line(bytes, at) {
            if line.is_empty() {
                return Body::Whole { used: end, flaw };
            }
            flaw = Some(format!("there is a trailer `{}`", line.escape_ascii()));
            at = end;
        }
        Body::More
    }
}
