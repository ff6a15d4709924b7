//! A corpus of hostile bytes, judged by rules that are the same for every case.
//!
//! The tricks are tables in `tests/corpus`. Each is sent as a person and as nobody, in HTTP/1 and in HTTP/2, past a gateway before each of three
//! upstreams that read framing in their own way ([`reading::Reading`]), and held against
//!
//! - R1: no upstream gets what a client planted, in any spelling of an identity or forwarding field, nor our cookies;
//!   what says who asks is ours, and there once;
//! - R2: an upstream finds no request that was not permitted and recorded under the id that it carries;
//! - R3: method, host, path and query are those that were judged;
//! - R4: nobody's requests reach only what is public, and nobody's anything outside of what is permitted;
//! - R5: the request upstream has one framing, plain line ends, no trailers, and stays within bounds;
//! - R6: no answer of ours leads to another host, as browsers read it, but to the provider;
//! - R7: a trick is never answered by 5xx, never hangs, and never reaches the next client;
//! - R8: of a hostile upstream's answer clients hear one reading, whole or not at all, and nothing behind it;
//! - R9: a malformed HTTP/2 request reaches no upstream.
//!
//! Spellings of headers and return addresses run always; all families, with `TESTS_CORPUS=all`. Then the families about
//! framing, paths and spellings also run against a plain nginx, held against R2, R3 and R5: for comparison only.

mod answers;
mod case;
mod client;
mod families;
mod frames;
mod hall;
mod judge;
mod nginx;
mod reading;
mod relay;
mod report;
mod returns;
mod table;
mod upstream;

use crate::support::gateway::Gateway;
use case::{Case, Family};
use futures_util::future::join_all;
use hall::Hall;
use reading::Reading;
use report::Row;
use std::sync::Arc;

/// S-01, S-02, S-03, S-07: an identity or forwarding header reaches no upstream, however it is spelled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_no_spelling_of_an_identity_header_crosses() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let hall = Hall::open(&provider, Reading::LengthFirst).await;
    let cases: Vec<_> = families::names().into_iter().map(Arc::new).collect();
    let row = family(Family::Names, &cases, &[hall], false).await; // its log is long, and of no use here
    report::conclude(&[row]);
}

/// S-46: a return address never leads to another host.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s46_no_return_address_leads_away() {
    let Some(provider) = Gateway::provider(&[]) else { return };
    let hall = Hall::open(&provider, Reading::LengthFirst).await;
    let row = returns::run(&hall, &provider).await;
    drop(hall); // its log is long, and of no use here
    report::conclude(&[row]);
}

/// The tricks are tricks: past a proxy that copies what it reads in one way, an upstream that reads in another finds hidden
/// requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s13_a_proxy_that_copies_is_found_out() {
    if !whole() {
        return;
    }
    let cases = families::all();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.family == Family::Smuggling).collect();
    for (front, back) in [
        (Reading::LengthFirst, Reading::CodingFirst),
        (Reading::CodingFirst, Reading::LengthFirst),
        (Reading::LengthFirst, Reading::Lenient),
        (Reading::CodingFirst, Reading::Lenient),
    ] {
        let hidden = relay::hidden(&cases, front, back).await;
        println!("{front:?} before {back:?}: {hidden} of {} cases hide a request", cases.len());
        assert!(hidden >= 10, "{front:?} before {back:?}: only {hidden} cases hide a request");
    }
}

/// S-01…S-09, S-11…S-37, S-46, S-52, S-70, S-71, S-85: the rules hold for the whole corpus.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s13_s24_the_whole_corpus_holds() {
    if !whole() {
        return;
    }
    let Some(provider) = Gateway::provider(&[]) else { return };
    let halls = join_all(Reading::ALL.map(|reading| Hall::open(&provider, reading))).await;
    let mut cases = families::all();
    cases.extend(answers::cases());
    let http2 = frames::spoken(halls[0].gateway.port).await;
    if http2 {
        cases.extend(frames::cases());
    } else {
        println!("skipped: {}, since the gateway does not speak it here", Family::Frames);
    }
    let mut rows = Vec::new();
    for about in [
        Family::Smuggling,
        Family::Paths,
        Family::Hosts,
        Family::Names,
        Family::Hops,
        Family::Cookies,
        Family::Tokens,
        Family::Frames,
        Family::Answers,
    ] {
        let cases: Vec<_> = cases.iter().filter(|case| case.family == about).cloned().collect();
        let mut row = family(about, &cases, &halls, http2).await;
        if matches!(about, Family::Smuggling | Family::Paths | Family::Names) {
            row.nginx = nginx::broken(&cases).await;
        }
        rows.push(row);
    }
    rows.push(returns::run(&halls[0], &provider).await);
    drop(halls);
    report::conclude(&rows);
}

/// True if all families are wanted; else says that they are not.
fn whole() -> bool {
    let wanted = std::env::var("TESTS_CORPUS").as_deref() == Ok("all");
    if !wanted {
        println!("skipped: all families run with TESTS_CORPUS=all");
    }
    wanted
}

/// Runs `cases` at all halls at once.
async fn family(about: Family, cases: &[Arc<Case>], halls: &[Hall], http2: bool) -> Row {
    let mut row = Row::new(about, cases.len());
    let sent = join_all(halls.iter().map(|hall| async move {
        let runs = hall.runs(cases, http2);
        let breaches = hall.send(&runs).await;
        (hall, runs, breaches)
    }));
    for (hall, runs, mut breaches) in sent.await {
        let (more, reached) = hall.judge(&runs).await;
        breaches.extend(more);
        row.add(&runs, breaches, reached);
    }
    row
}
