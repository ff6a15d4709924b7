//! The rules, which are the same for every case.

use super::{
    case::{Family, PLANT, Place, Run, run_in},
    client::Heard,
    reading::Head,
    returns,
    table::{contains, find},
    upstream::Read,
};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// A rule that did not hold.
#[derive(Debug)]
pub(super) struct Breach {
    pub(super) rule: &'static str,
    /// The run that did it, if one can be named.
    pub(super) run: Option<usize>,
    pub(super) what: String,
}

/// What the gateway has recorded, by request id.
pub(super) type Records = HashMap<String, Value>;

/// What an upstream found, held against what was judged.
pub(super) struct Trial<'a> {
    pub(super) place: &'a Place,
    pub(super) runs: &'a HashMap<usize, &'a Run>,
    pub(super) records: &'a Records,
}

impl Trial<'_> {
    /// R1 to R5 for everything that an upstream found.
    pub(super) fn judge(&self, reads: &[Read]) -> Vec<Breach> {
        let mut breaches = Vec::new();
        let mut times = HashMap::<&str, Vec<&Read>>::new();
        for read in reads {
            let run = run_in(&read.bytes);
            let mut broken =
                |rule, what: String| breaches.push(Breach { rule, run, what: format!("{what} in {}", show(read)) });
            framed(read).into_iter().for_each(|what| broken("R5", what));
            let Some(head) = &read.head else {
                broken("R2", "an upstream found what is no request".to_owned());
                continue;
            };
            let record = read.one("x-request-id").and_then(|id| self.records.get(id));
            let Some(record) = record.filter(|record| record["action_id"] == 1) else {
                broken("R2", "an upstream found a request that nobody permitted".to_owned());
                continue;
            };
            times.entry(read.one("x-request-id").unwrap_or_default()).or_default().push(read);
            let run = run.and_then(|run| self.runs.get(&run).copied());
            self.anonymous(read, record, &mut broken);
            self.same(read, head, record, run, &mut broken);
            within(head, record, run, &mut broken);
        }
        for again in times.values().filter(|reads| reads.len() > 1) {
            let safe = again.iter().all(|read| read.head.as_ref().is_some_and(|head| head.method == b"GET"));
            if !safe || again.windows(2).any(|two| two[0].connection == two[1].connection) {
                let run = run_in(&again[0].bytes);
                breaches.push(Breach {
                    rule: "R2",
                    run,
                    what: format!("one request was found twice: {}", show(again[1])),
                });
            }
        }
        breaches
    }

    /// R1: nothing that a client planted, nor our cookies; what says who asks is ours, and there once.
    fn anonymous(&self, read: &Read, record: &Value, broken: &mut impl FnMut(&'static str, String)) {
        if contains(&read.bytes, PLANT.as_bytes()) {
            broken("R1", "an upstream got what a client planted".to_owned());
        }
        let fields = read.bytes.iter().position(|byte| *byte == b'\n').unwrap_or(0);
        if contains(&read.bytes[fields..], self.place.handle.as_bytes()) {
            broken("R1", "an upstream got the handle of a session".to_owned());
        }
        let person = record["actor"]["user"]["uid_alt"] == "gitlab:1";
        let user: &[&[u8]] = if person { &[b"1"] } else { &[] };
        let host = read.all("host");
        for (name, expected) in [
            ("x-forwarded-user", user),
            ("x-forwarded-for", &[b"127.0.0.1"]),
            ("x-forwarded-proto", &[b"http"]),
            ("x-forwarded-host", &host),
        ] {
            if read.all(name) != expected {
                broken("R1", format!("`{name}` is not once ours"));
            }
        }
        if read.all("traceparent").len() != 1 || read.all("vestibule-assertion").len() > 1 {
            broken("R1", "`traceparent` or the assertion is not there once".to_owned());
        }
    }

    /// R3: what is sent is what was judged.
    fn same(
        &self,
        read: &Read,
        head: &Head,
        record: &Value,
        run: Option<&Run>,
        broken: &mut impl FnMut(&'static str, String),
    ) {
        let (path, query) = split(&head.target);
        let asked = &record["http_request"];
        let same = |value: &Value, bytes: &[u8]| value.as_str().is_some_and(|text| text.as_bytes() == bytes);
        if !same(&asked["http_method"], &head.method) || !same(&asked["url"]["path"], path) {
            broken("R3", format!("method and path were judged as {} {}", asked["http_method"], asked["url"]["path"]));
        }
        let port = asked["url"]["port"].as_u64().map(|port| format!(":{port}")).unwrap_or_default();
        let host = format!("{}{port}", asked["url"]["hostname"].as_str().unwrap_or_default());
        if read.all("host") != [host.as_bytes()]
            || asked["url"]["hostname"] != self.place.host.split(':').next().unwrap_or_default()
        {
            broken("R3", format!("host was judged as {host}"));
        }
        if let (Some(run), Some(query)) = (run, query)
            && !contains(&run.sent, &[b"?", query].concat())
        {
            broken("R3", "the query is not what was sent".to_owned());
        }
    }
}

/// R5: one framing, plain bytes, within bounds. Says what is not so.
pub(super) fn framed(read: &Read) -> Vec<String> {
    let (lengths, codings) = (read.all("content-length"), read.all("transfer-encoding"));
    let one = match (&lengths[..], &codings[..]) {
        ([], []) => true,
        ([length], []) => length.iter().all(u8::is_ascii_digit) && !length.is_empty(),
        ([], [coding]) => *coding == b"chunked",
        _ => false,
    };
    let fields = read.head.as_ref().map_or(0, |head| head.fields.len());
    let bounded = fields <= 120 && read.bytes.len() <= 48 * 1024;
    [
        (!one).then(|| "framing has not one reading".to_owned()),
        read.flaw.clone(),
        odd_byte(&read.bytes).map(|at| format!("byte {at} is not one that we write")),
        (!bounded).then(|| format!("{fields} fields and {} bytes are beyond bounds", read.bytes.len())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Where a byte stands that ends something elsewhere: a control byte, or a line end that is not CRLF.
fn odd_byte(bytes: &[u8]) -> Option<usize> {
    (0..bytes.len()).find(|&at| match bytes[at] {
        b'\r' => bytes.get(at + 1) != Some(&b'\n'),
        b'\n' => at == 0 || bytes[at - 1] != b'\r',
        b'\t' => false,
        byte => byte.is_ascii_control(),
    })
}

/// R4: without a person only what is public, and with one nothing but what they may see, however the upstream reads it.
fn within(head: &Head, record: &Value, run: Option<&Run>, broken: &mut impl FnMut(&'static str, String)) {
    let (path, _) = split(&head.target);
    let person = record["actor"]["user"]["uid_alt"] == "gitlab:1";
    if person && !run.is_some_and(|run| run.person) {
        broken("R4", "somebody was taken for a person".to_owned());
    }
    let folder = ["/public/", "/app/"].into_iter().find(|folder| path.starts_with(folder.as_bytes()));
    match folder {
        Some("/app/") if !person => broken("R4", "an upstream got a request of nobody's for people only".to_owned()),
        Some(folder) if (1..=2).all(|times| careless(path, times).starts_with(folder)) => {}
        _ => broken("R4", "an upstream got a request outside of what is permitted".to_owned()),
    }
}

/// A path as a careless upstream reads it: decoded, `\` and `;` taken in their worst sense, dots resolved.
fn careless(path: &[u8], times: usize) -> String {
    let mut text = path.to_vec();
    for _ in 0..times {
        text = percent(&text);
    }
    let text = String::from_utf8_lossy(&text).replace('\\', "/").to_lowercase();
    let mut segments = Vec::new();
    for segment in text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("/{}/", segments.join("/"))
}

fn percent(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let code =
            text.get(at + 1..at + 3).filter(|_| text[at] == b'%').and_then(|code| std::str::from_utf8(code).ok());
        let byte = code.and_then(|code| u8::from_str_radix(code, 16).ok());
        decoded.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    decoded
}

/// The runs of which more than probes and victims reached an upstream.
pub(super) fn reached(reads: &[Read]) -> BTreeSet<usize> {
    let own = |read: &&Read| !contains(&read.bytes, b"/victim-case-") && !contains(&read.bytes, b"/probe-case-");
    reads.iter().filter(own).filter_map(|read| run_in(&read.bytes)).collect()
}

/// Path and query of a target.
pub(super) fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// R6 and R7 for what a client heard: answers that lead nowhere else, none of them 5xx, none of somebody else's, and an end.
pub(super) fn heard(place: &Place, run: &Run, heard: &Heard) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut broken = |what: String| breaches.push(Breach { rule: "R7", run: Some(run.number), what });
    if heard.hung {
        broken("the gateway hung".to_owned());
    }
    let hostile = run.case.family == Family::Answers;
    for answer in &heard.answers {
        if answer.status >= 500 && !hostile {
            broken(format!("a trick was answered by {}: {}", answer.status, answer.text()));
        }
        if let Some(location) =
            answer.header("location").filter(|location| !hostile && !returns::stays(place, location))
        {
            broken(format!("an answer leads to {location}"));
        }
        if answer.body.starts_with(b"seen ") && !contains(&answer.body, run.marker().as_bytes()) {
            broken(format!("a client heard another's answer: {}", answer.text()));
        }
    }
    if !hostile && find(&heard.rest, b"\r\n\r\n").is_some() {
        broken(format!("bytes behind the answers: {}", heard.rest.escape_ascii()));
    }
    breaches
}

fn show(read: &Read) -> String {
    format!("{:?} connection {}: `{}`", read.reading, read.connection, read.bytes.escape_ascii())
}
