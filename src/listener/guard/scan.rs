//! Reads a request's head in one way only, or says what is wrong with it.

use super::{Fault, Framing, Limits, chunk};
use http::Uri;
use memchr::memchr;

/// A head that has one reading.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Head {
    /// Its bytes, the empty line included.
    pub(super) length: usize,
    /// What follows it.
    pub(super) framing: Framing,
    /// The bytes of the request target.
    pub(super) target: usize,
    /// It asks to go on with another protocol.
    pub(super) upgrade: bool,
}

/// How far a head has been read. Each call of [`Scan::scan`] goes on where the last one stopped.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Where the line begins that is not yet complete.
    line: usize,
    /// Up to where that line has been searched for its end.
    searched: usize,
    lines: usize,
    target: usize,
    length: Option<u64>,
    http10: bool,
    host: bool,
    chunked: bool,
    expect: bool,
    upgrade: bool,
}

/// What a request line has besides its target: more than any method and version need.
const AROUND_TARGET: usize = 64;

/// Bytes of an origin-form target that every reading of a URI accepts: unreserved, sub-delims and `: @ / ? %`.
const PLAIN: [bool; 256] = table(b"-._~!$&'()*+,;=:@/?%");

/// Bytes of a token (RFC 9110, section 5.6.2).
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");

impl Scan {
    /// Reads on in `bytes`, which begin with the head. `None`: it is not complete yet.
    ///
    /// # Errors
    /// The first [`Fault`] in the order of the bytes, the same whatever pieces they come in.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &Limits) -> Result<Option<Head>, Fault> {
        let window = &bytes[..bytes.len().min(limits.head)];
        if window.first().is_some_and(|first| !first.is_ascii_uppercase()) {
            return Err(Fault::RequestLine);
        }
        while let Some(found) = memchr(b'\n', &window[self.searched..]) {
            let end = self.searched + found;
            let line = &window[self.line..end];
            let first = self.lines == 0;
            if first && line.len() > limits.target + AROUND_TARGET {
                return Err(Fault::TargetTooLong);
            }
            let line = line.strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
            (self.line, self.searched) = (end + 1, end + 1);
            self.lines += 1;
            match line {
                _ if first => self.request_line(line, limits)?,
                [] => return self.finish(&window[..end + 1]).map(Some),
                _ => self.field(line, limits)?,
            }
        }
        self.searched = window.len();
        if self.lines == 0 && window.len() > limits.target + AROUND_TARGET {
            return Err(Fault::TargetTooLong);
        }
        if window.len() == limits.head {
            return Err(Fault::HeadTooLarge);
        }
        Ok(None)
    }

    /// RFC 9112, section 3.
    fn request_line(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        let space = memchr(b' ', line).ok_or(Fault::RequestLine)?;
        let (method, rest) = (&line[..space], &line[space + 1..]);
        if !method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-') {
            return Err(Fault::RequestLine);
        }
        let target = match rest.strip_suffix(b" HTTP/1.1") {
            Some(target) => target,
            None => {
                self.http10 = true;
                rest.strip_suffix(b" HTTP/1.0").ok_or(Fault::Version)?
            }
        };
        self.target = target.len();
        match target {
            [] => Err(Fault::RequestLine),
            _ if target.len() > limits.target => Err(Fault::TargetTooLong),
            _ if !is_target(target) => Err(Fault::Target),
            _ if method == b"CONNECT" => Err(Fault::Connect),
            _ => Ok(()),
        }
    }

    /// RFC 9112, section 5.
    fn field(&mut self, line: &[u8], limits: &Limits) -> Result<(), Fault> {
        if self.lines - 1 > limits.fields {
            return Err(Fault::TooManyFields);
        }
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => once(&mut self.host, Fault::HostTwice),
            6 if name.eq_ignore_ascii_case(b"expect") => once(&mut self.expect, Fault::ExpectTwice),
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    /// RFC 9110, section 8.6. Leading zeros are digits: 18 of them fit 64 bits, and the length that goes on is our own.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Fault> {
        if self.length.is_some() {
            return Err(Fault::ContentLengthTwice);
        }
        let digits = trim(value);
        if !(1..=18).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Fault::ContentLength);
        }
        self.length = Some(digits.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')));
        Ok(())
    }

    /// RFC 9112, section 6.1.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Fault> {
        match (self.http10, trim(value).eq_ignore_ascii_case(b"chunked")) {
            (true, _) => Err(Fault::TransferEncodingInHttp10),
            (false, false) => Err(Fault::TransferEncoding),
            (false, true) => once(&mut self.chunked, Fault::TransferEncodingTwice),
        }
    }

    /// What only the whole head can tell.
    fn finish(&self, head: &[u8]) -> Result<Head, Fault> {
        // every line has one CR and one LF; any more of them, or another control character, is one too many
        if chunk::controls(head) != 2 * self.lines {
            return Err(Fault::ControlCharacter);
        }
        if !self.host && !self.http10 {
            return Err(Fault::NoHost);
        }
        let framing = match (self.length, self.chunked) {
            (None, false) => Framing::None,
            (Some(length), false) => Framing::Length(length),
            (None, true) => Framing::Chunked,
            (Some(_), true) => return Err(Fault::LengthAndEncoding),
        };
        Ok(Head { length: head.len(), framing, target: self.target, upgrade: self.upgrade && !self.http10 })
    }
}

/// A field's name and value, without its line end (RFC 9112, section 5).
///
/// # Errors
/// [`Fault::Folded`] and [`Fault::FieldName`].
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Err(Fault::Folded);
    }
    let colon = line.iter().position(|byte| !TOKEN[usize::from(*byte)]).ok_or(Fault::FieldName)?;
    match line[colon] == b':' && colon > 0 {
        true => Ok((&line[..colon], &line[colon + 1..])),
        false => Err(Fault::FieldName),
    }
}

/// Visible ASCII without fragment; what is not plain must be a URI for `http` as well, or hyper would refuse it later.
fn is_target(target: &[u8]) -> bool {
    let plain = target[0] == b'/' && target.iter().all(|byte| PLAIN[usize::from(*byte)]);
    plain || target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') && Uri::try_from(target).is_ok()
}

fn once(seen: &mut bool, twice: Fault) -> Result<(), Fault> {
    match std::mem::replace(seen, true) {
        true => Err(twice),
        false => Ok(()),
    }
}

/// Without the optional white space around it (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Letters, digits and `others`.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}
