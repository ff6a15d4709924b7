//! Choice, slow start, ejection, budget and endpoints that come and go, by a clock that the test turns.

use super::*;
use std::{collections::HashMap, net::SocketAddr, sync::Mutex, time::Duration};

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// An upstream of several addresses.
fn upstream(ports: &[u16]) -> Arc<Upstream> {
    let place = |port: &u16| UpstreamSettings::plain(&address(*port).to_string()).places.remove(0);
    let settings = UpstreamSettings { places: ports.iter().map(place).collect(), ..UpstreamSettings::plain("a:1") };
    Upstream::new(settings, Resolver::System)
}

fn port(flight: &Flight) -> u16 {
    match &flight.endpoint().address {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => 0,
    }
}

fn shares(upstream: &Upstream, requests: usize, now: u64) -> HashMap<u16, usize> {
    let mut flights = Vec::new();
    let mut shares = HashMap::new();
    for turn in 0..requests {
        let flight = upstream.choose(&[], turn, now).expect("an endpoint");
        *shares.entry(port(&flight)).or_default() += 1;
        flights.push(flight);
    }
    shares
}

#[test]
fn the_fewest_in_flight_win_and_equals_take_turns() {
    let upstream = upstream(&[1, 2, 3]);
    assert_eq!(shares(&upstream, 300, 1), [(1, 100), (2, 100), (3, 100)].into());
    let slow: Vec<_> = (0..3).map(|_| Flight::new(&upstream.endpoints()[0])).collect();
    let next = upstream.choose(&[], 0, 1).expect("an endpoint");
    assert_eq!(port(&next), 2);
    drop(slow);
    drop(next);
    assert_eq!(upstream.figures().in_flight, 0);
    let turns: Vec<_> = (0..3).map(|turn| port(&upstream.choose(&[], turn, 1).expect("an endpoint"))).collect();
    assert_eq!(turns, [1, 2, 3]);
}

#[test]
fn three_failures_in_a_row_eject_and_one_more_doubles() {
    let upstream = upstream(&[1, 2]);
    let one = upstream.endpoints()[0].clone();
    let mut now = 1_000;
    one.failed(now);
    one.failed(now);
    one.succeeded();
    one.failed(now);
    one.failed(now);
    assert!(one.is_available(now));
    for seconds in [5, 10, 20, 40, 60, 60] {
        one.failed(now);
        one.failed(now); // was under way: counts for nothing
        assert!(!one.is_available(now + seconds * 1000 - 1), "{seconds}");
        assert_eq!(port(&upstream.choose(&[], 0, now).expect("the other")), 2);
        now += seconds * 1000;
        assert!(one.is_available(now), "{seconds}");
    }
    one.succeeded();
    one.failed(now);
    one.failed(now);
    assert!(one.is_available(now));
    one.failed(now);
    assert!(one.is_available(now + 5_000), "from the beginning again");
}

#[test]
fn where_all_are_out_all_are_tried() {
    let upstream = upstream(&[1, 2]);
    for endpoint in upstream.endpoints().iter() {
        (0..3).for_each(|_| endpoint.failed(10));
    }
    assert_eq!((upstream.figures().panics, upstream.endpoints()[0].is_available(10)), (0, false));
    assert_eq!(shares(&upstream, 10, 10), [(1, 5), (2, 5)].into());
    assert_eq!(upstream.figures().panics, 10);
    assert!(upstream.choose(&[], 0, 6_000).is_some());
    assert_eq!(upstream.figures().panics, 10, "both are back");
}

#[test]
fn what_was_tried_is_not_chosen_again() {
    let upstream = upstream(&[1, 2]);
    let first = upstream.choose(&[], 0, 1).expect("an endpoint");
    let second = upstream.choose(&[first.endpoint().id], 0, 1).expect("the other");
    assert_ne!(port(&first), port(&second));
    assert!(upstream.choose(&[first.endpoint().id, second.endpoint().id], 0, 1).is_none());
}

#[test]
fn health_checks_eject_and_bring_back() {
    let upstream = upstream(&[1, 2]);
    let one = upstream.endpoints()[0].clone();
    one.probed(false, 2, 1);
    one.probed(true, 2, 1);
    one.probed(false, 2, 1);
    assert!(one.is_available(1), "not two in a row");
    one.probed(false, 2, 1);
    assert!(!one.is_available(1));
    one.probed(true, 2, 1);
    assert!(!one.is_available(1));
    one.probed(true, 2, 1);
    assert!(one.is_available(1));
    (0..3).for_each(|_| one.failed(1));
    assert!(!one.is_available(1));
    one.probed(true, 2, 2);
    assert!(one.is_available(2), "what answers is not ejected any more");
}

/// The share of an endpoint that joins grows with time, from almost none to a full one.
#[tokio::test]
async fn what_joins_starts_slowly() {
    let table = Arc::new(Mutex::new(HashMap::from([("up.test".to_owned(), vec![address(1)])])));
    let settings = UpstreamSettings { slow_start: Duration::from_secs(10), ..UpstreamSettings::plain("up.test:80") };
    let upstream = Upstream::new(settings, Resolver::Table(table.clone()));
    assert!(upstream.choose(&[], 0, 1).is_none());
    upstream.resolve().await.expect("an address");
    let first = upstream.endpoints()[0].clone();
    assert_eq!(first.weight(now(), Duration::from_secs(10)), 1.0, "what was there from the start has its share");
    table.lock().expect("own lock").insert("up.test".to_owned(), vec![address(1), address(2)]);
    upstream.resolve().await.expect("addresses");
    let joined = now();
    assert!(Arc::ptr_eq(&upstream.endpoints()[0], &first));
    for (after, least, most) in [(0, 5, 60), (5_000, 300, 360), (20_000, 500, 500)] {
        let share = shares(&upstream, 1000, joined + after)[&2];
        assert!((least..=most).contains(&share), "{share} of 1000 after {after} ms");
    }
    table.lock().expect("own lock").insert("up.test".to_owned(), vec![address(2)]);
    upstream.resolve().await.expect("an address");
    assert_eq!(shares(&upstream, 10, joined), [(2, 10)].into(), "what vanished gets nothing more");
    table.lock().expect("own lock").clear();
    let (place, _) = upstream.resolve().await.expect_err("no name");
    assert_eq!((place.to_string(), upstream.figures().endpoints), ("up.test:80".to_owned(), 1), "kept");
}

#[test]
fn retries_are_a_fifth_and_ten_in_a_second() {
    let budget = Budget::default();
    let taken = |requests, now| (0..10_000).take_while(|_| budget.take(requests, now)).count();
    assert_eq!(taken(0, 1_000), 10);
    assert_eq!(taken(0, 2_000), 10);
    assert_eq!(taken(1_000, 2_000), 200);
    assert_eq!(taken(1_000, 2_000), 0);
    assert_eq!(taken(11_000, 3_000), 2_010);
    assert_eq!(taken(1_000_000, 1_000_000), 2_083, "what was before the last ten seconds is forgotten");
}

#[test]
fn equal_settings_are_told_from_others() {
    let one = UpstreamSettings::plain("a:1");
    assert_eq!(one, UpstreamSettings::plain("a:1"));
    assert_ne!(one, UpstreamSettings { connections: 1, ..one.clone() });
    assert_eq!(one.url(&one.places[0]), "http://a:1");
    assert_eq!(UpstreamSettings::plain("[::1]:80").places[0].to_string(), "[::1]:80");
}

/// Whoever answers for a name cannot lead requests to where clouds serve credentials.
#[tokio::test]
async fn s68_a_name_leads_to_no_link_local_address() {
    let link_local =
        ["169.254.169.254:80", "[fe80::1]:80", "[fd00:ec2::254]:80"].map(|it| it.parse().expect("an address"));
    let table = HashMap::from([
        ("some.test".to_owned(), [&link_local[..], &[address(1)]].concat()),
        ("all.test".to_owned(), link_local.to_vec()),
    ]);
    let resolver = Resolver::Table(Arc::new(Mutex::new(table)));
    assert_eq!(resolver.look_up("some.test", 80).await.expect("an address"), [address(1)]);
    let refused = resolver.look_up("all.test", 80).await.expect_err("none");
    assert_eq!(refused.to_string(), "the name leads to link-local addresses only");
}
