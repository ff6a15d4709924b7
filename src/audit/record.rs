//! One line of the journal: an envelope that chains it to the line before, and its body.
//!
//! `{"seq":7,"prev":"<SHA-256 of the line before, without its line feed>","node":"…","epoch":1,"kind":"event","event":{…}}`

use super::{
    json,
    key::{PublicKey, Signer},
    memory::Last,
};
use crate::{moment::millis, text::counted};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use std::{io::Write as _, time::SystemTime};

/// The journal's format; the first line of every segment names it.
pub(super) const FORMAT: u32 = 1;

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// What a line is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The first line of a segment.
    Segment,
    /// An OCSF event.
    Event,
    /// A signature over all lines so far.
    Head,
    /// Events were lost.
    Gap,
    /// The end of the journal was not whole when it was opened.
    Recovery,
    /// A segment is about to be removed by retention.
    Removal,
    /// The process closed the journal.
    Close,
}

impl Kind {
    /// The word in `kind`, and the name of the body.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Event => "event",
            Self::Head => "head",
            Self::Gap => "gap",
            Self::Recovery => "recovery",
            Self::Removal => "removal",
            Self::Close => "close",
        }
    }
}

/// The first line of a segment.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Opening {
    /// [`FORMAT`].
    pub(super) format: u32,
    /// When it was begun, in milliseconds since 1970.
    pub(super) time: u64,
    /// The version that began it.
    pub(super) version: String,
}

/// Events were lost between the line before and this one.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Gap {
    /// How many.
    pub(super) count: u64,
    /// When the first was lost, in milliseconds since 1970.
    pub(super) first: u64,
    /// When the last was lost.
    pub(super) last: u64,
}

/// What was found when the journal was opened.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Recovery {
    /// When, in milliseconds since 1970.
    pub(super) time: u64,
    /// The segment's file name.
    pub(super) segment: String,
    /// How many bytes of a torn last record were cut off.
    pub(super) bytes: u64,
    /// SHA-256 of those bytes.
    pub(super) sha256: String,
    /// Nobody had closed the journal: what the process before had in hand, if it had anything, is lost.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) unclosed: bool,
    /// What had been signed last before an epoch was begun because of damage: whoever verifies must find it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) last: Option<Last>,
    /// Damage that could not be mended: this epoch was begun because of it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) damage: Option<String>,
    /// Records that stood behind the last head that was known: nobody had signed them, and the next head does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) unsigned: Option<Stretch>,
    /// How far the journal had been signed was not remembered.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub(super) forgotten: bool,
    /// Where nobody knows which journal was here, if any: those that the key has signed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) others: Vec<Other>,
}

/// Records that follow each other.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Stretch {
    /// The first of them.
    pub(super) first: u64,
    /// The last of them.
    pub(super) last: u64,
}

/// Another journal, and how far it was signed.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Other {
    pub(super) node: String,
    pub(super) epoch: u32,
    /// The head that was signed last.
    pub(super) seq: u64,
}

impl Recovery {
    /// What was found of a segment: bytes that were cut off, if any, and their SHA-256.
    pub(super) fn of(segment: String, torn: Option<(u64, String)>, now: SystemTime) -> Self {
        let (bytes, sha256) = torn.unwrap_or_default();
        Self {
            time: millis(now),
            segment,
            bytes,
            sha256,
            unclosed: false,
            last: None,
            damage: None,
            unsigned: None,
            forgotten: false,
            others: Vec::new(),
        }
    }

    /// What was found, in words.
    pub(super) fn said(&self) -> String {
        let unclosed = "nobody had closed it: if the process before had something in hand, that is lost, and nobody knows how much it was".to_owned();
        let torn =
            format!("{} cut off", counted(self.bytes, "byte of a torn record was", "bytes of a torn record were"));
        let damage = self.damage.as_ref().map(|damage| format!("it was damaged: {}", json::visible(damage)));
        let unsigned = self.unsigned.as_ref().map(|Stretch { first, last }| {
            let (which, they) = if first == last { (format!("record {first}"), "it") } else { (format!("records {first} to {last}"), "they") };
            format!("{which} stood behind the last head that was known: no signature says that {they} came from the process before")
        });
        let forgotten =
            "how far it had been signed was not remembered, so an end that was cut off before was not missed"
                .to_owned();
        let others: Vec<_> = self
            .others
            .iter()
            .map(|Other { node, epoch, seq }| {
                format!("that of node {} up to record {seq} of epoch {epoch}", json::visible(node))
            })
            .collect();
        let others = (!others.is_empty())
            .then(|| format!("the key has signed {}: if one of them was here, it is gone", others.join(", ")));
        let found = [
            self.unclosed.then_some(unclosed),
            (self.bytes > 0).then_some(torn),
            damage,
            unsigned,
            self.forgotten.then_some(forgotten),
            others,
        ];
        found.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The process closed the journal. The last record before the last head, unless the process died, or the disk took no more.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Close {
    /// When, in milliseconds since 1970.
    pub(super) time: u64,
    /// Events that were lost since it was opened.
    pub(super) lost: u64,
}

/// What is left of a segment that retention removed. It is signed before the file goes, so that a journal that begins later
/// than at record 1 can prove that nobody else cut its beginning off.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Removal {
    /// When, in milliseconds since 1970.
    pub(super) time: u64,
    /// The segment's file name.
    pub(super) segment: String,
    /// Its size in bytes.
    pub(super) bytes: u64,
    /// The number of its first record.
    pub(super) first: u64,
    /// The number of its last record.
    pub(super) last: u64,
    /// SHA-256 of that record, in hex: what the first record of `next` continues, unless that begins an epoch.
    pub(super) hash: String,
    /// When it was begun, in milliseconds since 1970.
    pub(super) from: u64,
    /// When the next one was begun: nothing in it is younger.
    pub(super) until: u64,
    /// The file name of the segment that followed, with which the journal begins now.
    pub(super) next: String,
    /// Why: `age` or `size`.
    pub(super) why: String,
}

/// A signature over the line before, and by the chain over all lines of the epoch.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Head {
    /// The number of the last record that is covered.
    pub(super) seq: u64,
    /// SHA-256 of that record, in hex.
    pub(super) hash: String,
    /// When it was signed, in milliseconds since 1970.
    pub(super) time: u64,
    /// Name of the key.
    pub(super) key: String,
    /// Ed25519 over [`statement`], in Base64.
    pub(super) signature: String,
}

/// A place in the chain: what the next line continues.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// Names the journal's writer for as long as the journal lives.
    pub(super) node: String,
    /// Begins at 1, and again at each damage that cannot be mended.
    pub(super) epoch: u32,
    /// Number of the next record; begins at 1 in each epoch.
    pub(super) next: u64,
    /// Hash of the record before it; zeros at the beginning of an epoch.
    pub(super) prev: Hash,
}

impl Chain {
    /// Appends one line to `out`, and moves on. Returns the line's number.
    pub(super) fn append(&mut self, kind: Kind, body: &impl Serialize, out: &mut Vec<u8>) -> u64 {
        let (start, seq) = (out.len(), self.next);
        let Self { node, epoch, .. } = self;
        let (prev, kind) = (crate::text::hex(&self.prev), kind.as_str());
        write!(out, r#"{{"seq":{seq},"prev":"{prev}","node":"{node}","epoch":{epoch},"kind":"{kind}","{kind}":"#)
            .expect("a vector takes every byte");
        json::write(body, out);
        out.push(b'}');
        self.prev = hash(&out[start..]);
        self.next += 1;
        out.push(b'\n');
        seq
    }

    /// Appends a signature over all lines so far.
    pub(super) fn append_head(&mut self, signer: &Signer, time: u64, out: &mut Vec<u8>) -> u64 {
        let (seq, hash) = (self.next - 1, crate::text::hex(&self.prev));
        let signature = signer.sign(&statement(&self.node, self.epoch, seq, &hash, time));
        self.append(Kind::Head, &Head { seq, hash, time, key: signer.name().to_owned(), signature }, out)
    }
}

/// What a head's signature is over.
fn statement(node: &str, epoch: u32, seq: u64, hash: &str, time: u64) -> String {
    format!("vestibule audit head v1\nnode {node}\nepoch {epoch}\nseq {seq}\nsha256 {hash}\ntime {time}\n")
}

/// A line as read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    #[serde(borrow)]
    pub(super) prev: &'a str,
    pub(super) node: &'a str,
    pub(super) epoch: u32,
    pub(super) kind: Kind,
    pub(super) segment: Option<Opening>,
    event: Option<IgnoredAny>,
    pub(super) head: Option<Head>,
    pub(super) gap: Option<Gap>,
    pub(super) recovery: Option<Recovery>,
    pub(super) removal: Option<Removal>,
    pub(super) close: Option<Close>,
}

impl<'a> Line<'a> {
    /// Reads one line, without its line feed. `None` if it is none of ours: its kind and its body must agree.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let line: Self = serde_json::from_slice(bytes).ok()?;
        let bodies = [
            (Kind::Segment, line.segment.is_some()),
            (Kind::Event, line.event.is_some()),
            (Kind::Head, line.head.is_some()),
            (Kind::Gap, line.gap.is_some()),
            (Kind::Recovery, line.recovery.is_some()),
            (Kind::Removal, line.removal.is_some()),
            (Kind::Close, line.close.is_some()),
        ];
        bodies.iter().all(|(kind, present)| *present == (*kind == line.kind)).then_some(line)
    }

    /// True if it continues a line with this hash.
    pub(super) fn follows(&self, hash: &Hash) -> bool {
        self.prev == crate::text::hex(hash)
    }

    /// True if it continues a line with this hash, in hex.
    pub(super) fn continues(&self, hash: &str) -> bool {
        self.prev == hash
    }

    /// The head that it is, if that holds against the key. `bytes` are the line.
    pub(super) fn signed(&self, bytes: &[u8], key: &PublicKey) -> Option<&Head> {
        self.head.as_ref().filter(|head| self.check_head(head, bytes, key).is_ok())
    }

    /// Checks a head against the key, and that `bytes` are the one way to write it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check_head(&self, head: &Head, bytes: &[u8], key: &PublicKey) -> Result<(), String> {
        if head.key != key.name() {
            let (theirs, ours) = (json::visible(&head.key), key.name());
            return Err(format!(
                "is a head signed with key `{theirs}`, not with `{ours}`: is this the right public key?"
            ));
        }
        if head.seq + 1 != self.seq || head.hash != self.prev {
            return Err("is a head that covers another record than the one before it".to_owned());
        }
        if !key.signed(&statement(self.node, self.epoch, head.seq, &head.hash, head.time), &head.signature) {
            return Err("is a head whose signature does not verify".to_owned());
        }
        let mut again = Vec::with_capacity(bytes.len() + 1);
        let prev = unhex(self.prev).ok_or("is a head with a malformed hash")?;
        Chain { node: self.node.to_owned(), epoch: self.epoch, next: self.seq, prev }.append(
            Kind::Head,
            head,
            &mut again,
        );
        again.pop();
        if again == bytes { Ok(()) } else { Err("is a head that was written anew".to_owned()) }
    }
}

/// SHA-256 of `bytes`.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    crate::text::sha256(bytes)
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_chain_and_read_back() {
        let mut chain = Chain { node: "n1".into(), epoch: 3, next: 1, prev: [0; 32] };
        let mut out = Vec::new();
        chain.append(Kind::Gap, &Gap { count: 2, first: 1, last: 2 }, &mut out);
        chain.append(Kind::Event, &serde_json::json!({ "path": "/\u{202e}" }), &mut out);
        let lines: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
        let (one, two) = (Line::parse(lines[0]).expect("a line"), Line::parse(lines[1]).expect("a line"));
        assert_eq!((one.seq, two.seq, two.epoch, two.kind), (1, 2, 3, Kind::Event));
        assert!(one.follows(&[0; 32]) && two.follows(&hash(lines[0])));
        assert_eq!(chain.prev, hash(lines[1]));
    }

    #[test]
    fn a_line_whose_kind_and_body_differ_is_none_of_ours() {
        let line = |kind: &str, body: &str| {
            format!(
                r#"{{"seq":1,"prev":"00","node":"n","epoch":1,"kind":"{kind}","{body}":{{"count":1,"first":1,"last":1}}}}"#
            )
        };
        assert!(Line::parse(line("gap", "gap").as_bytes()).is_some());
        for (kind, body) in [("event", "gap"), ("gap", "event"), ("gap", "other"), ("other", "gap")] {
            assert!(Line::parse(line(kind, body).as_bytes()).is_none(), "{kind} {body}");
        }
    }
}
