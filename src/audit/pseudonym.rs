//! Pseudonyms: the same person is the same word, and only who has the key can tell who that is.
//!
//! A pseudonym is HMAC-SHA-256 under a key of this installation, of which 96 bits are written. Without the key nobody can try
//! out whose it is; when the key is destroyed, nobody can ever again.

use aws_lc_rs::{hmac, rand};
use std::{
    borrow::Cow,
    fs::{self, OpenOptions},
    io::Write,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};
use zeroize::Zeroizing;

/// The key's file in the directory of keys.
pub const FILE: &str = "audit.pseudonyms";
/// Bytes of the key.
const KEY: usize = 32;
/// Bytes of a pseudonym.
const SHOWN: usize = 12;

/// Makes pseudonyms. `Debug` is absent on purpose.
pub struct Pseudonyms(hmac::Key);

impl Pseudonyms {
    /// Reads the key in `keys`, or makes it (0600).
    ///
    /// # Errors
    /// One line that says what cannot be read or written.
    pub(super) fn open(keys: &Path) -> Result<Self, String> {
        let path = keys.join(FILE);
        if !fs::exists(&path).map_err(|error| format!("cannot look for `{}`: {error}", path.display()))? {
            make(keys, &path)?;
        }
        Self::read(keys)?.ok_or_else(|| format!("`{}` was removed while it was made", path.display()))
    }

    /// Reads the key in `keys`; `None` if there is none.
    ///
    /// # Errors
    /// One line that says why it cannot be read or used.
    pub fn read(keys: &Path) -> Result<Option<Self>, String> {
        let path = keys.join(FILE);
        let shown = path.display();
        let mode = match fs::metadata(&path) {
            Ok(about) => about.permissions().mode(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot read `{shown}`: {error}")),
        };
        if mode & 0o027 != 0 {
            return Err(format!("`{shown}` has mode {:o}: others may use it; run `chmod 600 {shown}`", mode & 0o777));
        }
        let bytes = Zeroizing::new(fs::read(&path).map_err(|error| format!("cannot read `{shown}`: {error}"))?);
        if bytes.len() != KEY {
            let length = bytes.len();
            return Err(format!("`{shown}` holds {length} bytes, expected {KEY}: restore it from a copy of `keys`"));
        }
        Ok(Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes))))
    }

    /// The pseudonym of an e-mail address, such as `email:9c1f…`. Case makes no other person.
    pub fn email(&self, address: &str) -> String {
        self.of("email", address.to_lowercase().replace(WIDE, "@").as_bytes())
    }

    /// The pseudonym of a login or a subject, if that has an `@` in it: then it is an address as a whole.
    pub(super) fn identity(&self, text: &str) -> Option<String> {
        at_sign(text, 0).map(|_| self.email(&decoded(text)))
    }

    /// The pseudonym of a client's address, such as `address:07d2…`.
    pub fn address(&self, address: IpAddr) -> String {
        self.of("address", address.to_canonical().to_string().as_bytes())
    }

    /// The pseudonym of a value as an operator writes it: of a client's address if it is one; else of an e-mail address, also
    /// with a provider's name before it. `None` if it is neither.
    pub fn value(&self, value: &str) -> Option<String> {
        match value.parse() {
            Ok(address) => Some(self.address(address)),
            // a provider's name has no `@` in it
            Err(_) => match value.split_once(':').filter(|(provider, _)| at_sign(provider, 0).is_none()) {
                Some((provider, subject)) => self.identity(subject).map(|shown| format!("{provider}:{shown}")),
                None => self.identity(value),
            },
        }
    }

    /// `text` with pseudonyms in place of e-mail addresses, also where the `@` is written `%40`.
    pub(super) fn emails<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let (mut out, mut done) = (String::new(), 0);
        while let Some((start, end)) = email(text, done) {
            out.push_str(&text[done..start]);
            out.push_str(&self.email(&decoded(&text[start..end])));
            done = end;
        }
        if done == 0 { Cow::Borrowed(text) } else { Cow::Owned(out + &text[done..]) }
    }

    /// `text` with pseudonyms in place of addresses of the Internet Protocol.
    pub(super) fn addresses<'a>(&self, text: Cow<'a, str>) -> Cow<'a, str> {
        let part = |letter: char| letter.is_ascii_hexdigit() || matches!(letter, '.' | ':');
        let (mut out, mut done) = (String::new(), 0);
        while let Some((start, end)) = run(&text, done, part) {
            let word = &text[start..end];
            let bare = word.trim_end_matches(['.', ':']);
            match bare.parse::<IpAddr>().ok().or_else(|| bare.rsplit_once(':')?.0.parse().ok()) {
                Some(address) => {
                    out.push_str(&text[done..start]);
                    out.push_str(&self.address(address));
                    out.push_str(&word[bare.len()..]);
                }
                None => out.push_str(&text[done..end]),
            }
            done = end;
        }
        if done == 0 { text } else { Cow::Owned(out + &text[done..]) }
    }

    fn of(&self, kind: &str, value: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(kind.as_bytes());
        context.update(&[0]);
        context.update(value);
        format!("{kind}:{}", crate::text::hex(&context.sign().as_ref()[..SHOWN]))
    }
}

/// The next run of letters that `fits`, from `from` on.
fn run(text: &str, from: usize, fits: impl Fn(char) -> bool) -> Option<(usize, usize)> {
    let start = from + text[from..].find(&fits)?;
    Some((start, text[start..].find(|letter| !fits(letter)).map_or(text.len(), |at| start + at)))
}

/// Where the next e-mail address begins and ends, from `from` on.
fn email(text: &str, from: usize) -> Option<(usize, usize)> {
    let local = |letter: char| letter.is_alphanumeric() || "._%+-!#$&*^~'".contains(letter);
    let host = |letter: char| letter.is_alphanumeric() || ".-%".contains(letter);
    let mut look = from;
    loop {
        let (at, behind) = at_sign(text, look)?;
        let before = &text[from..at];
        let start = from + before.rfind(|letter| !local(letter)).map_or(0, |last| last + letter_length(before, last));
        let start = at - text[start..at].trim_start_matches('\'').len(); // a quotation mark of whoever quotes it
        let end = text[behind..].find(|letter| !host(letter)).map_or(text.len(), |last| behind + last);
        let end = behind + text[behind..end].trim_end_matches(['.', '-']).len();
        let is_name = |part: &str| part.contains(char::is_alphanumeric);
        let last = text[behind..end].rsplit('.').next().unwrap_or_default();
        // `plugin@1.2.3` is a version
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        let is_host = is_name(last) && (!is_number || text[behind..end].parse::<Ipv4Addr>().is_ok());
        if is_host && is_name(&text[start..at]) {
            return Some((start, end));
        }
        // each further sign before `end` would lead to the same host: that it is looked at once keeps this linear
        look = if is_host { behind } else { behind.max(end) };
    }
}

/// The full-width sign, which mail programs take for an `@`.
const WIDE: &str = "\u{ff20}";

/// Where the next `@` begins and ends.
fn at_sign(text: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = text.as_bytes();
    memchr::memchr3_iter(b'@', b'%', WIDE.as_bytes()[0], &bytes[from..]).map(|at| from + at).find_map(|at| {
        let here = &bytes[at..];
        let length = match bytes[at] {
            b'@' => 1,
            b'%' if here.starts_with(b"%40") => 3,
            b'%' if here.get(..9).is_some_and(|it| it.eq_ignore_ascii_case(b"%EF%BC%A0")) => 9,
            _ if here.starts_with(WIDE.as_bytes()) => WIDE.len(),
            _ => return None,
        };
        Some((at, at + length))
    })
}

fn letter_length(text: &str, at: usize) -> usize {
    text[at..].chars().next().map_or(0, char::len_utf8)
}

/// Without percent-encoding, so that one address is one person however a client wrote it.
fn decoded(text: &str) -> String {
    super::lens::decoded(text.as_bytes())
}

fn make(keys: &Path, path: &Path) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("cannot make `{}`: {error}", path.display());
    let mut bytes = Zeroizing::new([0; KEY]);
    rand::fill(&mut *bytes).map_err(|error| fail(&error))?;
    fs::create_dir_all(keys).map_err(|error| fail(&error))?;
    // whole or not at all: a key that was cut off would make other pseudonyms than the one that is written again
    let making = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&making).map_err(|error| fail(&error))?;
    file.write_all(&*bytes).and_then(|()| file.sync_all()).map_err(|error| fail(&error))?;
    let linked = fs::hard_link(&making, path);
    fs::remove_file(&making).map_err(|error| fail(&error))?;
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(&error)),
        _ => Ok(()), // somebody else was faster, and theirs counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pseudonyms() -> Pseudonyms {
        Pseudonyms(hmac::Key::new(hmac::HMAC_SHA256, &[7; KEY]))
    }

    /// Whatever letters a person's address has, it is theirs as a whole, and is looked for as it is written.
    #[test]
    fn an_identity_with_an_at_sign_is_an_address_as_a_whole() {
        let names = pseudonyms();
        let odd = [
            "ada.o'lovelace@example.com",
            "x=y@example.com",
            "ada/lovelace@example.com",
            "ada@192.0.2.1",
            "ada\u{ff20}example.com",
        ];
        let shown: Vec<_> = odd.iter().map(|one| names.identity(one).expect("an address")).collect();
        for (one, shown) in odd.iter().zip(&shown) {
            assert!(shown.starts_with("email:") && shown.len() == "email:".len() + 2 * SHOWN, "{one}: {shown}");
            assert_eq!(names.value(one).as_ref(), Some(shown));
            assert_eq!(names.value(&format!("entra:{one}")), Some(format!("entra:{shown}")));
        }
        assert_eq!(shown.iter().collect::<std::collections::HashSet<_>>().len(), odd.len(), "no two are one person");
        assert_eq!(names.identity("ada"), None);
        for (text, left) in [
            ("/people/ada.o'lovelace@example.com/x", "/people/"),
            ("'ada@example.com'", "'"),
            ("mail ada@192.0.2.1.", "mail "),
            ("/ada%EF%BC%A0example.com", "/"),
            ("plugin@1.2.3", "plugin@1.2.3"),
        ] {
            let shown = names.emails(text);
            assert!(shown.starts_with(left) && !shown.contains("ada"), "{shown}");
        }
        assert_eq!(names.emails("'ada@example.com'"), format!("'{}'", names.email("ada@example.com")));
    }

    /// A client chooses its path: sixteen times as long takes about sixteen times as long, not 256 times.
    #[test]
    fn a_long_path_takes_no_more_than_its_length() {
        let names = pseudonyms();
        for unit in ["%40a", "a%40", "@", "%40.", "a@1.", "a@b.c/"] {
            let texts = [500, 8_000].map(|times| format!("/a{}.1", unit.repeat(times)));
            let mut best = [std::time::Duration::MAX; 2]; // of many, taken in turns: the machine has other work
            for _ in 0..15 {
                for (text, best) in texts.iter().zip(&mut best) {
                    let start = std::time::Instant::now();
                    drop(names.emails(text));
                    *best = start.elapsed().min(*best);
                }
            }
            let [short, long] = best;
            assert!(long < short * 96 + std::time::Duration::from_millis(1), "{unit}: {short:?}, {long:?}");
        }
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_and_one_that_others_may_read_is_refused() {
        let keys = tempfile::tempdir().expect("a directory");
        assert!(Pseudonyms::read(keys.path()).expect("read").is_none());
        let one = Pseudonyms::open(keys.path()).expect("made").email("ada@example.com");
        assert_eq!(Pseudonyms::open(keys.path()).expect("read").email("Ada@Example.com"), one);
        let file = keys.path().join(FILE);
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
        assert!(Pseudonyms::open(keys.path()).map(drop).expect_err("is refused").contains("has mode 644"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&file, "short").expect("written");
        assert!(Pseudonyms::open(keys.path()).map(drop).expect_err("is refused").contains("holds 5 bytes"));
        let other = tempfile::tempdir().expect("a directory");
        assert_ne!(Pseudonyms::open(other.path()).expect("made").email("ada@example.com"), one, "keys differ");
    }

    #[test]
    fn addresses_become_pseudonyms_wherever_they_stand() {
        let names = pseudonyms();
        let ada = names.email("ada@example.com");
        assert!(ada.starts_with("email:") && ada.len() == 6 + 2 * SHOWN, "{ada}");
        for (text, expected) in [
            ("ada@example.com", ada.clone()),
            ("google:ada@example.com", format!("google:{ada}")),
            ("/users/ada%40Example.com/x", format!("/users/{ada}/x")),
            ("said `ADA@example.com`.", format!("said `{ada}`.")),
            ("<ada@example.com>, ada@example.com.", format!("<{ada}>, {ada}.")),
            ("/@backstage/plugin@1.2.3", "/@backstage/plugin@1.2.3".to_owned()),
            ("a @ b, @, x@, @x", "a @ b, @, x@, @x".to_owned()),
            ("no address", "no address".to_owned()),
        ] {
            assert_eq!(names.emails(text), expected, "{text}");
        }
        assert_ne!(names.email("a@b.c"), names.email("b@b.c"));
    }

    #[test]
    fn addresses_of_the_internet_are_found_in_what_people_write() {
        let names = pseudonyms();
        let (four, six) = ([192, 0, 2, 1].into(), "2001:db8::1".parse::<IpAddr>().expect("an address"));
        let (four, six) = (names.address(four), names.address(six));
        for (text, expected) in [
            ("from 192.0.2.1.", format!("from {four}.")),
            ("192.0.2.1:8080 and 2001:db8::1", format!("{four} and {six}")),
            ("version 1.2.3 at 10:15", "version 1.2.3 at 10:15".to_owned()),
            ("dead beef", "dead beef".to_owned()),
        ] {
            assert_eq!(names.addresses(Cow::Borrowed(text)), expected, "{text}");
        }
        let mapped = "::ffff:192.0.2.1".parse().expect("an address");
        assert_eq!(names.address(mapped), four);
    }

    #[test]
    fn an_operator_can_ask_for_a_value_of_either_kind() {
        let names = pseudonyms();
        assert_eq!(names.value("192.0.2.1"), Some(names.address([192, 0, 2, 1].into())));
        assert_eq!(names.value("google:a@b.c"), Some(format!("google:{}", names.email("a@b.c"))));
        assert_eq!(names.value("ada"), None);
    }

    proptest! {
        /// No text makes it fail, and no address stays, whatever stands around it.
        #[test]
        fn no_address_stays(before in "\\PC{0,12}", after in "\\PC{0,12}") {
            let names = pseudonyms();
            let text = format!("{before} ada.lovelace@example.com {after}");
            prop_assert!(!names.emails(&text).contains("lovelace@"));
            let _ = names.addresses(Cow::Borrowed(&text));
        }
    }
}
