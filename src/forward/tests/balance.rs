//! Several endpoints: one that is killed, one that hangs, one that is slow; retries, caps, names that move.

use super::*;
use crate::upstream::{Address, Health, Resolver, UpstreamSettings};
use std::{
    collections::HashMap,
    sync::{Mutex, atomic::AtomicU8},
    time::Instant,
};
use tokio::{
    io::BufStream,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

const WELL: u8 = 0;
const HUNG: u8 = 1;
const SLOW: u8 = 2;

/// An endpoint that can be killed, hang or be slow, and counts what it answered.
struct Node {
    address: SocketAddr,
    mode: Arc<AtomicU8>,
    served: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Node {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (mode, served) = (Arc::<AtomicU8>::default(), Arc::<AtomicUsize>::default());
        let (how, count) = (mode.clone(), served.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                connections.spawn(Self::serve(stream, how.clone(), count.clone()));
            }
        });
        Self { address, mode, served, task }
    }

    async fn serve(stream: TcpStream, mode: Arc<AtomicU8>, served: Arc<AtomicUsize>) {
        let mut stream = BufStream::new(stream);
        while read_message(&mut stream).await.is_some() {
            match mode.load(Ordering::SeqCst) {
                HUNG => std::future::pending().await,
                SLOW => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => {}
            }
            served.fetch_add(1, Ordering::SeqCst);
            if stream.write_all(OK.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }

    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::SeqCst)
    }
}

async fn nodes() -> [Node; 3] {
    [Node::start().await, Node::start().await, Node::start().await]
}

fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> UpstreamSettings {
    let place = |address: SocketAddr| UpstreamSettings::plain(&address.to_string()).places.remove(0);
    UpstreamSettings { places: addresses.into_iter().map(place).collect(), ..UpstreamSettings::plain("a:1") }
}

async fn front(settings: UpstreamSettings) -> Front {
    Front::over(Upstream::new(settings, Resolver::System)).await
}

/// `clients` at once, `each` requests after one another; how many got another answer than 200.
async fn load(front: &Front, clients: usize, each: usize) -> usize {
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let mut stream = BufStream::new(front.connect().await);
        tasks.spawn(async move {
            let mut errors = 0;
            for _ in 0..each {
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("written");
                stream.flush().await.expect("written");
                let answer = within(read_message(&mut stream)).await.expect("an answer");
                if status(&answer) != "200" {
                    println!("{answer}");
                    errors += 1;
                }
            }
            errors
        });
    }
    tasks.join_all().await.into_iter().sum()
}

async fn until(what: impl Fn() -> bool) {
    within(async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_killed_endpoint_costs_nobody_an_answer() {
    let nodes = nodes().await;
    let front = front(of(nodes.iter().map(|node| node.address))).await;
    assert_eq!(load(&front, 16, 30).await, 0);
    let before: Vec<_> = nodes.iter().map(Node::served).collect();
    assert!(before.iter().all(|served| *served > 100), "all take part: {before:?}");
    let (killed, errors) = tokio::join!(
        async {
            until(|| nodes[0].served() > before[0] + 20).await;
            nodes[0].task.abort();
        },
        load(&front, 16, 60)
    );
    let () = killed;
    assert_eq!(errors, 0, "while it dies");
    assert_eq!(load(&front, 16, 30).await, 0, "after it died");
    assert!(front.upstream.figures().retries > 0);
    println!("killed: {:?}, {:?}", nodes.iter().map(Node::served).collect::<Vec<_>>(), front.upstream.figures());
}

#[tokio::test]
async fn a_hung_endpoint_is_ejected_by_first_byte_timeouts() {
    let nodes = nodes().await;
    let settings = of(nodes.iter().map(|node| node.address));
    let mut impatient = patient(Upstream::new(settings, Resolver::System));
    impatient.timeouts.first_byte = Duration::from_secs(1);
    let front = Front::with(impatient, Principal::Anonymous).await;
    assert_eq!(load(&front, 16, 10).await, 0);
    nodes[0].set(HUNG);
    let lost = load(&front, 16, 10).await;
    until(|| front.upstream.figures().available == 2).await;
    let begun = Instant::now();
    assert_eq!(load(&front, 16, 8).await, 0, "after the ejection");
    println!("hung: {lost} lost before, {:?} for 128 requests after, {:?}", begun.elapsed(), front.upstream.figures());
    assert!((3..=32).contains(&lost), "{lost}");
}

#[tokio::test]
async fn a_hung_endpoint_is_ejected_by_health_checks_and_comes_back() {
    let nodes = nodes().await;
    let milliseconds = Duration::from_millis;
    let health = Health {
        path: http::uri::PathAndQuery::from_static("/healthz"),
        host: None,
        interval: milliseconds(50),
        timeout: milliseconds(150),
        healthy: 2,
        unhealthy: 2,
    };
    let settings = UpstreamSettings { health: Some(health), ..of(nodes.iter().map(|node| node.address)) };
    let front = front(settings).await;
    let mut upkeep = Upkeep::default();
    upkeep.follow(&[Arc::new(Route { upstream: front.upstream.clone(), ..route("a:1") })]);
    nodes[0].set(HUNG);
    until(|| front.upstream.figures().available == 2).await;
    let before = nodes[0].served();
    assert_eq!(load(&front, 16, 30).await, 0, "nobody meets it");
    assert_eq!(nodes[0].served(), before);
    nodes[0].set(WELL);
    until(|| front.upstream.figures().available == 3).await;
    nodes.iter().for_each(|node| node.task.abort());
    until(|| front.upstream.figures().available == 0).await;
    upkeep.follow(&[]);
}

#[tokio::test]
async fn a_slow_endpoint_gets_less() {
    let nodes = nodes().await;
    let front = front(of(nodes.iter().map(|node| node.address))).await;
    nodes[0].set(SLOW);
    assert_eq!(load(&front, 12, 20).await, 0);
    let served: Vec<_> = nodes.iter().map(Node::served).collect();
    println!("slow: {served:?}");
    assert!(served[0] * 3 < served[1] && served[0] * 3 < served[2], "{served:?}");
}

/// A connection that cannot be had costs nothing but the time: the body goes whole to the next endpoint.
#[tokio::test]
async fn what_was_not_sent_goes_elsewhere_body_and_all() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let (up, mut heard) = Scripted::echo(OK).await;
    let front = front(of([closed, up.address])).await;
    for _ in 0..2 {
        let answer = within(front.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nwhole")).await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(heard.recv().await.expect("a request").ends_with("\r\n\r\nwhole"));
    }
    let nowhere = UpstreamSettings { retries: 0, ..of([closed, up.address]) };
    assert_eq!(status(&self::front(nowhere).await.get().await), "502", "not where it must not");
}

/// Endpoints that take a request and leave without an answer.
async fn leavers(count: usize) -> (Vec<Scripted>, Arc<AtomicUsize>) {
    let (mut all, hits) = (Vec::new(), Arc::<AtomicUsize>::default());
    for _ in 0..count {
        let hits = hits.clone();
        let script = move |_, mut stream| {
            let hits = hits.clone();
            async move {
                if read_message(&mut stream).await.is_some() {
                    hits.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        all.push(Scripted::start(script).await);
    }
    (all, hits)
}

#[tokio::test]
async fn a_post_that_was_taken_is_sent_to_nobody_else() {
    let (all, hits) = leavers(3).await;
    let front = front(of(all.iter().map(|up| up.address))).await;
    for (request, expected) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 1),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 1),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 1),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 3),
    ] {
        hits.store(0, Ordering::SeqCst);
        let answer = within(front.ask(request)).await;
        assert_eq!((status(&answer), hits.load(Ordering::SeqCst)), ("502", expected), "{request}");
    }
}

/// Where everything fails, retries do not make it three times as bad.
#[tokio::test]
async fn retries_make_no_storm() {
    let (all, hits) = leavers(3).await;
    let front = front(of(all.iter().map(|up| up.address))).await;
    let begun = Instant::now();
    for _ in 0..200 {
        assert_eq!(status(&within(front.get()).await), "502");
    }
    // a retry counts as a request of the endpoint that it goes to
    let most = (200.0 + 10.0 + 10.0 * begun.elapsed().as_secs_f64()) / 0.8 + 5.0;
    let hits = hits.load(Ordering::SeqCst);
    println!("storm: {hits} for 200 requests, {:?}", front.upstream.figures());
    assert!(hits as f64 <= most && hits > 200, "{hits} of at most {most}");
}

#[tokio::test]
async fn connections_are_capped_and_one_that_comes_free_is_taken() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (here, on) = (arrived.clone(), go.clone());
    let up = Scripted::start(move |_, mut stream| {
        let (here, on) = (here.clone(), on.clone());
        async move {
            while read_message(&mut stream).await.is_some() {
                here.notify_one();
                on.notified().await;
                stream.write_all(OK.as_bytes()).await.expect("written");
            }
        }
    })
    .await;
    let settings = UpstreamSettings { connections: 1, ..of([up.address]) };
    let mut impatient = patient(Upstream::new(settings, Resolver::System));
    impatient.timeouts.connect = Duration::from_millis(500);
    let front = Front::with(impatient, Principal::Anonymous).await;
    let refused = async {
        arrived.notified().await;
        let answer = within(front.get()).await;
        assert_eq!(status(&answer), "503", "{answer}");
        assert!(answer.contains("overloaded: all 1 connections to `127.0.0.1:"), "{answer}");
        go.notify_one();
    };
    assert_eq!(status(&tokio::join!(front.get(), refused).0), "200");
    let second = async {
        arrived.notified().await;
        go.notify_one(); // the one before, on whose connection this one then goes
        arrived.notified().await;
        go.notify_one();
    };
    let (a, b, ()) = tokio::join!(front.get(), front.get(), second);
    assert_eq!((status(&a), status(&b), up.connections()), ("200", "200", 1));
    assert_eq!(front.upstream.figures().connections, 1);
}

/// Where connections are scarce, a core gets the one that another does not use.
#[tokio::test]
async fn an_idle_connection_of_another_core_is_given_up() {
    let node = Node::start().await;
    let upstream = Upstream::new(UpstreamSettings { connections: 1, ..of([node.address]) }, Resolver::System);
    let endpoint = upstream.endpoints()[0].clone();
    let (pools, one, two) = (Pools::default(), Arc::<Pool>::default(), Arc::<Pool>::default());
    pools.join(&one);
    pools.join(&two);
    let limit = Duration::from_secs(10);
    let line = one.connect(&endpoint, &upstream, &pools, limit).await.expect("a connection");
    one.keep(&endpoint, line);
    until(|| one.kept(&endpoint) == 1).await;
    let line = two.connect(&endpoint, &upstream, &pools, limit).await.expect("a connection");
    assert_eq!(one.kept(&endpoint), 0);
    let third = one.connect(&endpoint, &upstream, &pools, Duration::from_millis(50)).await;
    assert!(matches!(third, Err(ConnectError::Full { .. })), "the other is in use");
    drop(line);
}

/// A name that leads elsewhere is followed: at once after a failure, without a restart.
#[tokio::test]
async fn a_name_that_moves_is_followed() {
    let (old, new) = (Node::start().await, Node::start().await);
    let table = Arc::new(Mutex::new(HashMap::from([("up.test".to_owned(), vec![old.address])])));
    let upstream = Upstream::new(UpstreamSettings::plain("up.test:80"), Resolver::Table(table.clone()));
    let front = Front::over(upstream).await;
    assert!(front.get().await.ends_with("ok"), "resolved by the first request");
    let mut upkeep = Upkeep::default();
    upkeep.follow(&[Arc::new(Route { upstream: front.upstream.clone(), ..route("a:1") })]);
    table.lock().expect("own lock").insert("up.test".to_owned(), vec![new.address]);
    old.task.abort();
    within(async {
        while status(&front.get().await) != "200" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let addresses: Vec<_> = front.upstream.endpoints().iter().map(|it| it.address.clone()).collect();
    assert_eq!((addresses, new.served()), (vec![Address::Tcp(new.address)], 1));
}

#[tokio::test]
async fn a_name_that_is_not_known_is_said() {
    let upstream = Upstream::new(UpstreamSettings::plain("up.test:80"), Resolver::Table(Arc::default()));
    let answer = Front::over(upstream).await.get().await;
    assert_eq!(status(&answer), "502");
    assert!(answer.contains("cannot resolve `up.test:80`: the name has no address"), "{answer}");
}

/// A handshake goes to another endpoint only where there is no connection.
#[tokio::test]
async fn a_websocket_handshake_is_asked_once() {
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let (all, hits) = leavers(2).await;
    let front = front(of([closed, all[0].address, all[1].address])).await;
    let handshake = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    assert_eq!((status(&within(front.ask(handshake)).await), hits.load(Ordering::SeqCst)), ("502", 1));
}
