//! What many places write.

use aws_lc_rs::digest::{SHA256, digest};
use std::{error::Error, io::ErrorKind};

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest(&SHA256, bytes).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// In lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)].into());
        text.push(DIGITS[usize::from(byte & 15)].into());
    }
    text
}

/// The bytes that [`hex`] wrote; `None` for anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let pair = |pair: &[u8]| match *pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect()
}

/// So many of something: `1 head`, `2 heads`.
pub fn counted(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

/// Why something is not taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistakes {
    /// Every mistake as people read it, with its lines.
    pub whole: String,
    /// The first one on one line, and how many more there are: for records.
    pub line: String,
}

impl Mistakes {
    /// The first of `count` mistakes is `first`; `whole` shows all.
    pub fn new(whole: String, first: &str, count: usize) -> Self {
        let mut line = first.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        if count > 1 {
            line += &format!(", and {}", counted(count as u64 - 1, "more mistake", "more mistakes"));
        }
        Self { whole, line }
    }
}

impl From<String> for Mistakes {
    fn from(whole: String) -> Self {
        let first = whole.clone();
        Self::new(whole, &first, 1)
    }
}

/// An error and what is behind it, on one line.
pub fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&dyn Error| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// How many characters must be put in, left out, changed or swapped with their neighbour to turn `a` into `b`; of long
/// texts the beginnings count.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
                    let swap = if swapped { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(swap)
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

/// What to do about a file or directory below the configuration's `key` that cannot be used, by what the system says.
pub fn advice(kind: ErrorKind, key: &str) -> String {
    match kind {
        ErrorKind::PermissionDenied => format!("let the user that runs this own it, or change `{key}`"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room where it is".to_owned(),
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            format!("move away what is in its way, or change `{key}`")
        }
        _ => format!("change `{key}` to a place where this can write"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
        assert_eq!(unhex("000fa0ff"), Some(vec![0, 0x0f, 0xa0, 0xff]));
        for wrong in ["0", "0F", "0g", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn causes_stand_in_order() {
        let inner = std::io::Error::other("inner");
        assert_eq!(chain(&std::io::Error::other(inner)), "inner");
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
