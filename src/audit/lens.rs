//! What is about persons is looked at before it is recorded: pseudonyms in place of addresses, stars in place of parts of paths.
//!
//! The writer's thread does this, so that a request waits for none of it.

use super::{
    crossing::Draft,
    field::{Personal, Public},
    json::clip,
    ocsf::Source,
    pseudonym::Pseudonyms,
};
use crate::config::Pseudonym;
use std::{borrow::Cow, net::IpAddr, path::Path};

/// Longer texts than this are cut: a record stays one line of a sensible length.
pub(super) const TEXT: usize = 1024;

/// How what is about persons is recorded.
#[derive(Default)]
pub(super) struct Lens {
    names: Option<Pseudonyms>,
    email: bool,
    address: bool,
}

impl Lens {
    /// What `audit.pseudonyms` asks for. The key is made in `keys` if it is needed and absent.
    ///
    /// # Errors
    /// One line that says what is wrong with the key.
    pub(super) fn open(keys: &Path, wanted: &[Pseudonym]) -> Result<Self, String> {
        let names = if wanted.is_empty() { None } else { Some(Pseudonyms::open(keys)?) };
        let [email, address] = [Pseudonym::Email, Pseudonym::Address].map(|one| wanted.contains(&one));
        Ok(Self { names, email, address })
    }

    /// A text that may have a person's e-mail address in it.
    pub(super) fn text<'a>(&self, text: &'a str) -> Personal<Cow<'a, str>> {
        Personal::seen(self.shown(text))
    }

    /// A login or a subject. One that has an `@` in it is an address as a whole, whatever letters that may have.
    pub(super) fn identity<'a>(&self, text: &'a str) -> Personal<Cow<'a, str>> {
        Personal::seen(self.known(text))
    }

    fn known<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let names = self.names.as_ref().filter(|_| self.email);
        names.and_then(|names| names.identity(text)).map_or_else(|| self.shown(text), Cow::Owned)
    }

    /// The same with the provider's name before it.
    pub(super) fn identity_at(&self, provider: &str, subject: &str) -> Personal<Cow<'static, str>> {
        Personal::seen(Cow::Owned(format!("{provider}:{}", self.known(subject))))
    }

    /// The words of an operator, who may name addresses of both kinds.
    pub(super) fn words<'a>(&self, text: &'a str) -> Personal<Cow<'a, str>> {
        let shown = self.shown(text);
        Personal::seen(match &self.names {
            Some(names) if self.address => names.addresses(shown),
            Some(_) | None => shown,
        })
    }

    /// The client's end.
    pub(super) fn source(&self, client: IpAddr) -> Source {
        match &self.names {
            Some(names) if self.address => {
                Source { ip: None, uid: Some(Personal::seen(Cow::Owned(names.address(client)))) }
            }
            Some(_) | None => Source { ip: Some(Personal::seen(client)), uid: None },
        }
    }

    /// What was said of a request: without what its route keeps out of paths, and without the client's address.
    pub(super) fn said<'a>(&self, text: &'a str, draft: &Draft) -> Personal<Cow<'a, str>> {
        let masked = self.without(draft.masked(text), client(draft));
        Personal::seen(match masked {
            Cow::Borrowed(text) => self.shown(text),
            Cow::Owned(text) => Cow::Owned(self.shown(&text).into_owned()),
        })
    }

    /// What was said of a client's act.
    pub(super) fn told<'a>(&self, text: &'a str, client: IpAddr) -> Personal<Cow<'a, str>> {
        Personal::seen(match self.without(Cow::Borrowed(text), Some(client)) {
            Cow::Borrowed(text) => self.shown(text),
            Cow::Owned(text) => Cow::Owned(self.shown(&text).into_owned()),
        })
    }

    /// The path of a request, as far as its route lets it be told.
    pub(super) fn path<'a>(&self, path: &'a str, draft: &Draft) -> Personal<Cow<'a, str>> {
        Personal::seen(match draft.redact.as_ref().map(|redact| redact.path(path)) {
            Some(Cow::Owned(masked)) => Cow::Owned(self.whole(&masked).into_owned()),
            Some(Cow::Borrowed(_)) | None => self.whole(path),
        })
    }

    fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.whole(text) {
            Cow::Borrowed(text) => Cow::Borrowed(clip(text, TEXT)),
            Cow::Owned(text) => Cow::Owned(clip(&text, TEXT).to_owned()),
        }
    }

    fn whole<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.names {
            Some(names) if self.email => names.emails(text),
            Some(_) | None => Cow::Borrowed(text),
        }
    }

    fn without<'a>(&self, text: Cow<'a, str>, client: Option<IpAddr>) -> Cow<'a, str> {
        let (Some(names), true, Some(client)) = (&self.names, self.address, client) else { return text };
        let written = client.to_string();
        if text.contains(&written) { Cow::Owned(text.replace(&written, &names.address(client))) } else { text }
    }
}

fn client(draft: &Draft) -> Option<IpAddr> {
    draft.asked.as_ref().map(|asked| asked.client).or_else(|| draft.unread.map(|(_, peer)| peer))
}

/// A text that is about nobody, cut where it is too long.
pub(super) fn public(text: &str) -> Public<&str> {
    Public(clip(text, TEXT))
}

/// Without percent-encoding; what is no UTF-8 becomes a sign for that.
pub(super) fn decoded(text: &[u8]) -> String {
    crate::route::decoded(text)
}
