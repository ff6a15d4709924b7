//! The case tables in `tests/corpus`, which unit tests and wire tests share.
//!
//! A row has the bytes that are sent, a tab, and what is expected. Empty lines and lines that begin with `#!` are left out;
//! `\xNN` stands for one byte.

pub(crate) const PATHS: &str = include_str!("../../tests/corpus/paths.tsv");
pub(crate) const HOSTS: &str = include_str!("../../tests/corpus/hosts.tsv");
pub(crate) const FRAMING: &str = include_str!("../../tests/corpus/framing.tsv");
pub(crate) const HEADERS: &str = include_str!("../../tests/corpus/headers.tsv");

/// The rows of a table.
pub(crate) fn rows(table: &'static str) -> impl Iterator<Item = (Vec<u8>, &'static str)> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with("#!")).map(|line| {
        let (sent, expected) = line.split_once('\t').expect("a row has a tab");
        (bytes(sent), expected)
    })
}

fn bytes(text: &str) -> Vec<u8> {
    let mut pieces = text.split("\\x");
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (code, rest) = piece.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).expect("two hex digits follow `\\x`"));
        bytes.extend_from_slice(rest.as_bytes());
    }
    bytes
}
