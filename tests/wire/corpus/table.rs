//! The tables in `tests/corpus`, and the bytes that their texts spell.

/// The rows of a table: lines that are not empty and do not begin with `#!`.
pub(super) fn rows(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter(|line| !line.is_empty() && !line.starts_with("#!"))
}

/// The columns of a row, before and behind its first tab.
pub(super) fn columns(row: &str) -> (&str, &str) {
    row.split_once('\t').unwrap_or_else(|| panic!("a row has a tab: {row}"))
}

/// The bytes of a text in which `\r`, `\n`, `\t`, `\0` and `\xNN` stand for one byte. Every other backslash is one.
pub(super) fn spelled(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [first, behind @ ..] = rest {
        let (byte, width) = match (first, behind) {
            (b'\\', [b'r', ..]) => (b'\r', 2),
            (b'\\', [b'n', ..]) => (b'\n', 2),
            (b'\\', [b't', ..]) => (b'\t', 2),
            (b'\\', [b'0', ..]) => (0, 2),
            (b'\\', [b'x', high, low, ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 4),
                _ => (b'\\', 1),
            },
            _ => (*first, 1),
        };
        bytes.push(byte);
        rest = &rest[width..];
    }
    bytes
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Puts bytes in the place of spots such as `{host}`.
pub(super) fn fill(template: &[u8], spots: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(template.len() + 64);
    let mut at = 0;
    while at < template.len() {
        match spots.iter().find(|(spot, _)| template[at..].starts_with(spot.as_bytes())) {
            Some((spot, value)) if template[at] == b'{' => {
                bytes.extend_from_slice(value);
                at += spot.len();
            }
            _ => {
                bytes.push(template[at]);
                at += 1;
            }
        }
    }
    bytes
}

/// True if `needle` stands somewhere in `bytes`.
pub(super) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    find(bytes, needle).is_some()
}

/// Where `needle` begins in `bytes`.
pub(super) fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
