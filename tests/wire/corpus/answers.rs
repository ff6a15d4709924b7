//! What a hostile upstream answers, and what clients may hear of it.

use super::{
    case::{Case, Family, Home, PLANT, Place, Run, Spots},
    client::{self, Heard},
    judge::Breach,
    table::{columns, contains, rows, spelled},
};
use std::sync::{Arc, OnceLock};

const ANSWERS: &str = include_str!("../../corpus/answers.tsv");

/// The answers of an upstream, by row, once it is known where they are given.
#[derive(Clone, Default)]
pub(super) struct Script(Arc<OnceLock<Place>>);

/// What an upstream does next.
pub(super) struct Next {
    pub(super) bytes: Vec<u8>,
    /// Before the request's body is there.
    pub(super) early: bool,
    /// And then nothing, until the gateway leaves.
    pub(super) hangs: bool,
    /// It leaves the connection open.
    pub(super) goes_on: bool,
}

impl Script {
    /// From now on answers are given, with the names of our cookies at `place`.
    pub(super) fn at(&self, place: Place) {
        assert!(self.0.set(place).is_ok(), "a script is for one place");
    }

    /// What `target` is answered with, if it asks for a row.
    pub(super) fn next(&self, target: &[u8]) -> Option<Next> {
        let place = self.0.get()?;
        let text = std::str::from_utf8(target).ok()?.split_once("/answer-")?.1;
        let row = rows(ANSWERS).nth(text.split('-').next()?.parse().ok()?)?;
        let (then, text) = columns(row);
        let number = super::case::run_in(target)?;
        let plant = format!("{PLANT}{}", super::case::marker(number));
        let spots = Spots::new(place, number, false, Home::Permitted).with("{size}", format!("{:x}", plant.len()));
        let mut bytes = if text == "@" { Vec::new() } else { spots.fill(&spelled(text)) };
        if then == "ahead" {
            bytes = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".as_slice(), &bytes].concat();
        }
        Some(Next { bytes, early: then == "early", hangs: then == "hang", goes_on: matches!(then, "keep" | "ahead") })
    }
}

/// One case for every row: what asks for it.
pub(super) fn cases() -> Vec<Arc<Case>> {
    let case = |(number, row): (usize, &str)| {
        let (then, text) = columns(row);
        let start = format!("/public/answer-{number}-{{case}} HTTP/1.1\r\nHost: {{host}}\r\nX-Case: {{case}}\r\n");
        let (head, body) = match then {
            "early" => (format!("POST {start}Content-Length: 100000\r\n\r\n"), b"aaaaa".as_slice()),
            _ if text.starts_with("HTTP/1.1 304") => {
                (format!("GET {start}If-None-Match: \"x\"\r\n\r\n"), b"".as_slice())
            }
            _ => (format!("GET {start}\r\n"), b"".as_slice()),
        };
        Arc::new(Case::new(Family::Answers, row, head, body))
    };
    rows(ANSWERS).enumerate().map(case).collect()
}

/// Asks for the row, and for something else on the same connection.
pub(super) async fn talk(port: u16, run: &Run, probe: &[u8]) -> (Heard, Vec<Breach>) {
    let heard = client::ask_twice(port, &run.sent, probe).await;
    let mut breaches = Vec::new();
    let mut breach = |what: String| breaches.push(Breach { rule: "R8", run: Some(run.number), what });
    if contains(heard.bytes(), PLANT.as_bytes()) {
        breach(format!("a client heard `{}`", heard.bytes().escape_ascii()));
    }
    let first = heard.answers.first();
    let gave_up = first.is_none_or(|answer| matches!(answer.status, 502 | 504));
    if !gave_up && ["cut", "hang"].contains(&columns(&run.case.name).0) {
        breach(format!("half an answer was heard as a whole one: {first:?}"));
    }
    if let Some(odd) = heard.answers.iter().find(|answer| answer.status >= 500 && !matches!(answer.status, 502 | 504)) {
        breach(format!("the gateway answered {}", odd.status));
    }
    if heard.answers.len() > 2 {
        breach(format!("{} answers to two requests", heard.answers.len()));
    }
    (heard, breaches)
}
