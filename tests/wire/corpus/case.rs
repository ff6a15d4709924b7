//! One trick, and one run of it.

use super::table::{contains, fill};
use std::{fmt, sync::Arc};

/// What a client plants where its own word must not count.
pub(super) const PLANT: &str = "planted-";

/// What a trick is about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Family {
    /// Where a request ends.
    Smuggling,
    /// Which path it asks for.
    Paths,
    /// Which host it asks for.
    Hosts,
    /// Identity and forwarding fields under other spellings.
    Names,
    /// What is about one hop.
    Hops,
    /// Our cookies and others.
    Cookies,
    /// Credentials that are not ours to take.
    Tokens,
    /// Where a person is sent back to.
    Returns,
    /// HTTP/2, frame by frame.
    Frames,
    /// What an upstream answers.
    Answers,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Smuggling => "smuggling",
            Self::Paths => "paths",
            Self::Hosts => "hosts",
            Self::Names => "header spelling",
            Self::Hops => "hop by hop",
            Self::Cookies => "cookies",
            Self::Tokens => "tokens",
            Self::Returns => "redirects",
            Self::Frames => "HTTP/2 frames",
            Self::Answers => "hostile answers",
        })
    }
}

/// Which folder a case asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Home {
    /// One that the client may see: `/app/` as a person, else `/public/`.
    Permitted,
    /// `/app/`, which is for people.
    App,
}

/// One trick: bytes with spots.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) family: Family,
    /// The row that it was made from, for people.
    pub(super) name: String,
    head: Vec<u8>,
    body: Vec<u8>,
    home: Home,
}

impl Case {
    /// `{len}` in `head` is the length of `body`, `{first}` that of its first line.
    pub(super) fn new(family: Family, name: impl Into<String>, head: impl Into<Vec<u8>>, body: &[u8]) -> Self {
        Self { family, name: name.into(), head: head.into(), body: body.to_vec(), home: Home::Permitted }
    }

    /// The same for `/app/`, whoever asks.
    pub(super) fn at_app(self) -> Self {
        Self { home: Home::App, ..self }
    }
}

/// What a case has to know of the place that it is run at.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// `Host`.
    pub(super) host: String,
    /// The provider.
    pub(super) issuer: String,
    /// The names of our cookies.
    pub(super) session: String,
    pub(super) binding: String,
    /// The handle of a live session.
    pub(super) handle: String,
    /// A token that the provider signed for us.
    pub(super) token: String,
}

impl Place {
    /// A place where something else stands at `port`, which knows no people.
    pub(super) fn without_gateway(port: u16) -> Self {
        Self {
            host: format!("127.0.0.1:{port}"),
            issuer: String::new(),
            session: "session".to_owned(),
            binding: "binding".to_owned(),
            handle: "A".repeat(43),
            token: "token".to_owned(),
        }
    }
}

/// A case, once.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) case: Arc<Case>,
    /// Names this run in everything that it sends.
    pub(super) number: usize,
    /// It comes with the cookie of a live session.
    pub(super) person: bool,
    /// It is frames of HTTP/2.
    pub(super) http2: bool,
    /// The bytes.
    pub(super) sent: Vec<u8>,
}

impl Run {
    /// Fills the spots of `case` for `place`.
    pub(super) fn new(case: &Arc<Case>, number: usize, person: bool, place: &Place) -> Self {
        let sent = Spots::new(place, number, person, case.home).message(&case.head, &case.body);
        Self { case: case.clone(), number, person, http2: false, sent }
    }

    /// What stands in everything that this run sends.
    pub(super) fn marker(&self) -> String {
        marker(self.number)
    }
}

/// What names run `number` in everything that it sends.
pub(super) fn marker(number: usize) -> String {
    format!("case-{number}-")
}

/// The number of the run whose marker stands in `bytes`.
pub(super) fn run_in(bytes: &[u8]) -> Option<usize> {
    let start = super::table::find(bytes, b"case-")? + 5;
    let digits = bytes[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[start..start + digits]).ok()?.parse().ok()?;
    contains(bytes, marker(number).as_bytes()).then_some(number)
}

/// The values of all spots for one run.
pub(super) struct Spots {
    pairs: Vec<(&'static str, Vec<u8>)>,
}

impl Spots {
    pub(super) fn new(place: &Place, number: usize, person: bool, home: Home) -> Self {
        let case = marker(number);
        let plant = format!("{PLANT}{case}");
        let login = format!("Cookie: {}={}\r\nSec-Fetch-Site: same-origin\r\n", place.session, place.handle);
        let hidden = format!(
            "GET /admin/hidden-{case} HTTP/1.1\r\nHost: {}\r\nX-Case: {case}\r\nX-Forwarded-User: {plant}\r\n\r\n",
            place.host
        );
        let handle = if person { place.handle.clone() } else { "A".repeat(place.handle.len()) };
        let home = if person || home == Home::App { "/app/" } else { "/public/" };
        let many: String = (0..200).map(|count| format!("X-{count}: y\r\n")).collect();
        let texts = [
            ("{size}", format!("{:x}", hidden.len())),
            ("{prefix}", hidden.trim_end().to_owned()),
            ("{hidden}", hidden),
            ("{login}", if person { login } else { String::new() }),
            ("{host}", place.host.clone()),
            ("{session}", place.session.clone()),
            ("{binding}", place.binding.clone()),
            ("{handle}", handle),
            ("{token}", place.token.clone()),
            ("{case}", case),
            ("{plant}", plant),
            ("{home}", home.to_owned()),
            ("{folder}", home.trim_end_matches('/').to_owned()),
            ("{long}", "a".repeat(16 * 1024)),
            ("{many}", many),
        ];
        Self { pairs: texts.into_iter().map(|(spot, text)| (spot, text.into_bytes())).collect() }
    }

    /// Sets one more spot, or another value for one.
    pub(super) fn with(mut self, spot: &'static str, value: impl Into<Vec<u8>>) -> Self {
        self.pairs.insert(0, (spot, value.into()));
        self
    }

    pub(super) fn fill(&self, template: &[u8]) -> Vec<u8> {
        let pairs: Vec<_> = self.pairs.iter().map(|(spot, value)| (*spot, value.as_slice())).collect();
        fill(template, &pairs)
    }

    fn message(self, head: &[u8], body: &[u8]) -> Vec<u8> {
        let body = self.fill(body);
        let first = body.iter().position(|byte| *byte == b'\n').map_or(body.len(), |at| at + 1);
        let whole = self.with("{len}", body.len().to_string()).with("{first}", first.to_string());
        [whole.fill(head), body].concat()
    }
}
