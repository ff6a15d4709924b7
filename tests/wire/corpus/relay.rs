//! A proxy as it should not be: it finds the end of a request in its own way, names the request, and copies it. What gets
//! past it shows that the cases are tricks, and that the rules find them.

use super::{
    answers::Script,
    case::{Case, Place, Run, run_in},
    client::converse,
    reading::{Body, Reading},
    upstream::Upstream,
};
use futures_util::{StreamExt, stream};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
};

/// How many of `cases` bring a request that a proxy reading by `front` has not seen to an upstream reading by `back`.
pub(super) async fn hidden(cases: &[Arc<Case>], front: Reading, back: Reading) -> usize {
    let upstream = Upstream::start(back, Script::default()).await;
    let port = start(front, upstream.port).await;
    let place = Place::without_gateway(port);
    let runs: Vec<Run> = cases.iter().enumerate().map(|(at, case)| Run::new(case, at, false, &place)).collect();
    stream::iter(&runs).map(|run| converse(port, &run.sent, b"")).buffer_unordered(16).collect::<Vec<_>>().await;
    let reads = upstream.take();
    let unseen = reads.iter().filter(|read| read.one("x-request-id").is_none());
    unseen.filter_map(|read| run_in(&read.bytes)).collect::<BTreeSet<_>>().len()
}

async fn start(front: Reading, upstream: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(relay(front, client, upstream));
        }
    });
    port
}

async fn relay(front: Reading, client: TcpStream, upstream: u16) -> Option<()> {
    let (mut from, mut to) = client.into_split();
    let (mut answers, mut requests) = TcpStream::connect(("127.0.0.1", upstream)).await.ok()?.into_split();
    tokio::spawn(async move { copy(&mut answers, &mut to).await });
    let (mut bytes, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        while let Some(used) = pass(front, &bytes, &mut requests).await? {
            bytes.drain(..used);
        }
        let count = from.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}

/// Copies one whole request, with a name in its second line, and says how long it was. `None` within: it is not whole;
/// without: it cannot be read.
async fn pass(front: Reading, bytes: &[u8], requests: &mut OwnedWriteHalf) -> Option<Option<usize>> {
    static NAME: AtomicUsize = AtomicUsize::new(1);
    let Some(end) = front.head_end(bytes) else { return Some(None) };
    let used = match front.body(front.head(&bytes[..end])?.framing, &bytes[end..]) {
        Body::More => return Some(None),
        Body::Whole { used, .. } => end + used,
        Body::Broken(_) => return None,
    };
    let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let line = bytes[blank..].iter().position(|byte| *byte == b'\n').map_or(end, |at| blank + at + 1);
    let name = format!("X-Request-Id: {}\r\n", NAME.fetch_add(1, Ordering::Relaxed));
    let named = [&bytes[..line], name.as_bytes(), &bytes[line..used]].concat();
    requests.write_all(&named).await.ok()?;
    Some(Some(used))
}
