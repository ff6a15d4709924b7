//! JSON in printable ASCII on one line, whatever a client or a provider sent (S-100).

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};
use std::{borrow::Cow, fmt::Write as _, io};

/// Appends `value` as JSON in printable ASCII, without a line feed.
///
/// Everything outside of `0x20..=0x7E` is written as `\uXXXX`: controls of C0 and C1, DEL, line separators, bidi controls,
/// and every letter that could look like another.
pub(super) fn write(value: &impl Serialize, out: &mut Vec<u8>) {
    value
        .serialize(&mut Serializer::with_formatter(out, Ascii))
        .expect("keys are strings and a vector takes every byte: serialising cannot fail");
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        // every byte is looked at, so that many can be at once
        if fragment.bytes().fold(true, |plain, byte| plain & (0x20..0x7F).contains(&byte)) {
            return writer.write_all(fragment.as_bytes());
        }
        for letter in fragment.chars() {
            match letter {
                ' '..='~' => writer.write_all(&[letter as u8])?,
                _ => {
                    for unit in letter.encode_utf16(&mut [0; 2]) {
                        write!(writer, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// `text` as a terminal may show it: controls, bidi controls and letters of no width become `\u{202e}`.
pub(super) fn visible(text: &str) -> Cow<'_, str> {
    if !text.chars().any(hides) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len() + 8), |mut shown, letter| {
        if hides(letter) {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(letter));
        } else {
            shown.push(letter);
        }
        shown
    }))
}

fn hides(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// At most `bytes` bytes of `text`, cut between letters.
pub(super) fn clip(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the text, the JSON is printable ASCII and means the same text.
        #[test]
        fn every_text_becomes_printable_ascii_and_comes_back(text in any::<String>()) {
            let mut json = Vec::new();
            write(&text, &mut json);
            prop_assert!(json.iter().all(|byte| (0x20..0x7F).contains(byte)));
            prop_assert_eq!(serde_json::from_slice::<String>(&json).expect("is JSON"), text);
        }

        /// What a terminal gets has no control in it.
        #[test]
        fn what_is_shown_has_no_controls(text in any::<String>()) {
            prop_assert!(!visible(&text).chars().any(hides));
        }
    }

    #[test]
    fn escapes_controls_bidi_and_line_separators() {
        let hostile = "a\u{1b}[2J\n\u{7f}\u{9b}\u{202e}\u{2066}\u{200f}\u{61c}\u{2028}\u{1f600}\"\\";
        let mut json = Vec::new();
        write(&hostile, &mut json);
        assert_eq!(
            String::from_utf8(json).expect("is ASCII"),
            "\"a\\u001b[2J\\n\\u007f\\u009b\\u202e\\u2066\\u200f\\u061c\\u2028\\ud83d\\ude00\\\"\\\\\""
        );
        assert_eq!(visible("a\u{202e}b\u{1b}"), "a\\u{202e}b\\u{1b}");
    }

    #[test]
    fn clips_between_letters() {
        assert_eq!((clip("aé", 2), clip("aé", 3), clip("abc", 9)), ("a", "aé", "abc"));
    }
}
