//! The tricks of HTTP/1, made from the tables.

use super::{
    case::{Case, Family},
    table::{columns, rows, spelled},
};
use std::sync::Arc;

const SMUGGLING: &str = include_str!("../../corpus/smuggling.tsv");
const PATHS: &str = include_str!("../../corpus/paths.tsv");
const CLIMBS: &str = include_str!("../../corpus/climbs.txt");
const HOSTS: &str = include_str!("../../corpus/hosts.tsv");
const HEADERS: &str = include_str!("../../corpus/headers.tsv");
const NAMES: &str = include_str!("../../corpus/names.tsv");
const HOPS: &str = include_str!("../../corpus/hops.tsv");
const COOKIES: &str = include_str!("../../corpus/cookies.tsv");
const TOKENS: &str = include_str!("../../corpus/tokens.tsv");

/// The request line and the fields that most cases begin with.
const POST: &[u8] = b"POST {home}{case} HTTP/1.1\r\nHost: {host}\r\n{login}X-Case: {case}\r\n";
const GET: &[u8] = b"GET {home}{case} HTTP/1.1\r\nHost: {host}\r\n{login}X-Case: {case}\r\n";

/// All of them.
pub(super) fn all() -> Vec<Arc<Case>> {
    let families = [smuggling(), framing(), paths(), hosts(), names(), hops(), cookies(), tokens()];
    families.into_iter().flatten().map(Arc::new).collect()
}

/// A head of `start` and `fields`, each of which ends its line.
fn head(start: &[u8], fields: &[&[u8]]) -> Vec<u8> {
    let mut head = start.to_vec();
    for field in fields {
        head.extend_from_slice(field);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn smuggling() -> Vec<Case> {
    rows(SMUGGLING).flat_map(|row| smuggled(row, columns(row))).collect()
}

fn smuggled(row: &str, (part, text): (&str, &str)) -> Vec<Case> {
    let bytes = spelled(text);
    let case =
        |kind: &str, head: Vec<u8>, body: &[u8]| Case::new(Family::Smuggling, format!("{kind}{row}"), head, body);
    match part {
        "te" => {
            let (covering, within) = (b"Content-Length: {len}".as_slice(), b"Content-Length: {first}".as_slice());
            vec![
                case("length covers, ", head(POST, &[covering, &bytes]), b"0\r\n\r\n{hidden}"),
                case("length covers, cut off, ", head(POST, &[covering, &bytes]), b"0\r\n\r\n{prefix}"),
                case("length ends within, ", head(POST, &[&bytes, within]), b"{size}\r\n{hidden}\r\n0\r\n\r\n"),
                case("no length, ", head(POST, &[&bytes]), b"0\r\n\r\n{hidden}"),
            ]
        }
        "cl" => {
            let fields = text.replace("{n}", "5");
            vec![case("", head(POST, &[&spelled(&fields)]), b"aaaaa{hidden}")]
        }
        "chunks" => vec![case("", head(POST, &[b"Transfer-Encoding: chunked"]), &bytes)],
        "raw" => vec![case("", bytes, b"")],
        other => panic!("{other} is no part of a request"),
    }
}

/// The table that the guard below HTTP/1 is tested with, where it is there: whole streams, under our host and with our
/// fields behind their first line.
fn framing() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus/framing.tsv");
    let table = std::fs::read_to_string(path).unwrap_or_default();
    let cases = rows(&table).filter_map(|row| {
        let stream = spelled(columns(row).0);
        let line = stream.iter().position(|byte| *byte == b'\n')? + 1;
        let (first, rest) = stream.split_at(line);
        let message = [first, b"{login}X-Case: {case}\r\n", rest].concat();
        Some(Case::new(Family::Smuggling, row, rehosted(&message), b""))
    });
    cases.collect()
}

/// The same with our host in every `Host` line.
fn rehosted(message: &[u8]) -> Vec<u8> {
    let lines = message.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let end: &[u8] = if line.ends_with(b"\r\n") { b"\r\n" } else { b"\n" };
        let plain = line.len() > 6 && line[..6].eq_ignore_ascii_case(b"host: ") && line.ends_with(b"\n");
        if plain { [&line[..6], b"{host}", end].concat() } else { line.to_vec() }
    });
    lines.collect::<Vec<_>>().concat()
}

fn paths() -> Vec<Case> {
    let mut targets = Vec::new();
    for row in rows(PATHS) {
        let target = spelled(columns(row).0);
        if target.starts_with(b"/") {
            targets.push((row, [b"{folder}", target.as_slice()].concat()));
        }
        targets.push((row, target));
    }
    for row in rows(CLIMBS) {
        let climb = spelled(row);
        for (front, behind) in
            [(b"{home}".as_slice(), b"admin/x".as_slice()), (b"{home}x/", b"%2e%2e/admin"), (b"/admin/", b"{home}")]
        {
            targets.push((row, [front, &climb, behind].concat()));
        }
        targets.push((row, [b"{home}", climb.as_slice(), &climb, b".vestibule/session"].concat()));
    }
    let request = |target: &[u8]| [b"GET ", target, &GET[b"GET {home}{case}".len()..], b"\r\n"].concat();
    targets.into_iter().map(|(row, target)| Case::new(Family::Paths, row, request(&target), b"")).collect()
}

/// A host in every place where a request can name one; the host of the table is ours.
fn hosts() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in rows(HOSTS) {
        let host = spelled(&columns(row).0.replace("portal.example.com", "{host}"));
        let tail = b"{login}X-Case: {case}\r\n\r\n";
        let own = b"GET {home}{case} HTTP/1.1\r\nHost: {host}\r\n".as_slice();
        for (place, message) in [
            ("Host: ", [b"GET {home}{case} HTTP/1.1\r\nHost: ", host.as_slice(), b"\r\n", tail].concat()),
            ("second Host: ", [own, b"Host: ", &host, b"\r\n", tail].concat()),
            (
                "first Host: ",
                [b"GET {home}{case} HTTP/1.1\r\nHost: ", host.as_slice(), b"\r\nHost: {host}\r\n", tail].concat(),
            ),
            (
                "target: ",
                [b"GET http://", host.as_slice(), b"{home}{case} HTTP/1.1\r\nHost: {host}\r\n", tail].concat(),
            ),
            (
                "target and Host: ",
                [b"GET http://", host.as_slice(), b"{home}{case} HTTP/1.1\r\nHost: ", &host, b"\r\n", tail].concat(),
            ),
            ("HTTP/1.0 Host: ", [b"GET {home}{case} HTTP/1.0\r\nHost: ", host.as_slice(), b"\r\n", tail].concat()),
            ("X-Forwarded-Host: ", [own, b"X-Forwarded-Host: {plant}", &host, b"\r\n", tail].concat()),
        ] {
            cases.push(Case::new(Family::Hosts, format!("{place}{row}"), message, b""));
        }
    }
    cases
}

/// Every name of the table that is stripped, in every spelling of the other table; odd names as they are.
pub(super) fn names() -> Vec<Case> {
    let stripped = rows(HEADERS).map(columns).filter(|(_, fate)| *fate == "strip").map(|(name, _)| name);
    let (plain, odd): (Vec<_>, Vec<_>) = stripped.partition(|name| {
        name.split('-').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric()))
    });
    let spelled = plain.iter().flat_map(|name| rows(NAMES).map(|row| spell(name, row)));
    let spelled = spelled.chain(odd.iter().map(|name| (*name).to_owned())).filter(|name| !frames(name));
    let mut names: Vec<String> = spelled.collect();
    names.sort_unstable();
    names.dedup();
    let one = |name: &String| {
        let field = format!("{name}: {{plant}}");
        Case::new(Family::Names, name, head(GET, &[field.as_bytes(), field.as_bytes()]), b"")
    };
    names.iter().map(one).collect()
}

/// True for a plain field that says more than its value.
fn frames(name: &str) -> bool {
    ["transfer-encoding", "content-length", "host", "expect", "connection"]
        .contains(&name.to_ascii_lowercase().as_str())
}

fn spell(name: &str, row: &str) -> String {
    let [between, front, behind, letters] = row.split('\t').collect::<Vec<_>>()[..] else {
        panic!("four columns: {row}")
    };
    let words = name.split('-').map(|word| match letters {
        "lower" => word.to_ascii_lowercase(),
        "upper" => word.to_ascii_uppercase(),
        "title" => word[..1].to_ascii_uppercase() + &word[1..].to_ascii_lowercase(),
        "mixed" => word
            .char_indices()
            .map(|(at, c)| if at % 2 == 0 { c.to_ascii_lowercase() } else { c.to_ascii_uppercase() })
            .collect(),
        other => panic!("{other} is no way to write letters"),
    });
    format!("{front}{}{behind}", words.collect::<Vec<_>>().join(between))
}

fn hops() -> Vec<Case> {
    rows(HOPS).map(|row| Case::new(Family::Hops, row, head(GET, &[&spelled(row)]), b"")).collect()
}

fn cookies() -> Vec<Case> {
    let bare = b"GET {home}{case} HTTP/1.1\r\nHost: {host}\r\nX-Case: {case}\r\n";
    let bare_public = [b"GET /public/".as_slice(), &bare[b"GET {home}".len()..]].concat();
    let both = |row: &str| {
        let field = spelled(row);
        [
            Case::new(Family::Cookies, row, head(bare, &[&field]), b"").at_app(),
            Case::new(Family::Cookies, row, head(&bare_public, &[&field]), b""),
        ]
    };
    rows(COOKIES).flat_map(both).collect()
}

fn tokens() -> Vec<Case> {
    let one = |row: &str| {
        let (place, text) = columns(row);
        let text = spelled(text);
        let (head, body): (Vec<u8>, &[u8]) = match place {
            "fields" => (head(GET, &[&text]), b""),
            "query" => {
                ([b"GET {home}{case}?", text.as_slice(), &GET[b"GET {home}{case}".len()..], b"\r\n"].concat(), b"")
            }
            "form" => {
                let kind = b"Content-Type: application/x-www-form-urlencoded".as_slice();
                (head(POST, &[kind, b"Content-Length: {len}"]), &text)
            }
            other => panic!("{other} is no place for a token"),
        };
        Case::new(Family::Tokens, row, head, body).at_app()
    };
    rows(TOKENS).map(one).collect()
}
