//! A WebSocket between client and upstream, until one of them ends it or its right ends.

use super::{
    frames::{self, Frames},
    streams::Registered,
};
use crate::{audit::Crossing, refusal::Reason};
use std::{
    future::pending,
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::{Instant, sleep, sleep_until, timeout},
};

/// How long a cut waits for the end of the frame that is under way and for the close frame to be written.
const BOUNDARY: Duration = Duration::from_millis(600);
/// How long the client gets to read the close frame before the connection goes.
const LINGER: Duration = Duration::from_millis(300);
/// Bytes in flight per direction.
const BUFFER: usize = 8 * 1024;
/// Close codes: the endpoint goes away; its policy is violated (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;

/// How a tunnel ended.
enum End {
    Over,
    Cut(Reason),
}

/// When a byte last moved, in either direction.
struct Activity {
    start: Instant,
    last: AtomicU64,
}

/// Joins client and upstream. Ends with either of them, after `idle` without a byte, or when it is cut: then within one
/// second, after a close frame 1008 where one can be placed.
pub(super) async fn join<C, U>(client: C, upstream: U, registered: Registered, idle: Duration, crossing: Crossing)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = split(client);
    let (from_upstream, to_upstream) = split(upstream);
    let activity = Activity { start: Instant::now(), last: AtomicU64::new(0) };
    let end = tokio::select! {
        end = down(from_upstream, &mut to_client, &registered, &activity, &crossing) => end.unwrap_or(End::Over),
        () = up(&mut from_client, to_upstream, &registered, &activity, &crossing) => End::Over,
        () = activity.silent(idle) => End::Over,
    };
    // the upstream's halves are gone by now
    if let End::Cut(reason) = end {
        crossing.cut(reason);
    }
    let _ = timeout(LINGER, farewell(from_client, to_client)).await;
}

/// Client to upstream. Returns when the client breaks off; after an orderly end it lets the upstream finish.
async fn up<R, W>(mut from: R, mut to: W, registered: &Registered, activity: &Activity, crossing: &Crossing)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let copied = async {
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return to.shutdown().await;
            }
            activity.moved();
            crossing.received(read as u64);
            to.write_all(&buffer[..read]).await?;
            to.flush().await?;
        }
    };
    tokio::select! {
        biased;
        _ = registered.cut() => pending().await, // not one more byte; `down` says goodbye
        copied = copied => match copied {
            Ok(()) => pending().await,
            Err(error) => tracing::debug!(%error, "client broke off a WebSocket"),
        },
    }
}

/// Upstream to client, with an eye on frames, so that a cut can say why.
async fn down<R, W>(
    mut from: R,
    to: &mut W,
    registered: &Registered,
    activity: &Activity,
    crossing: &Crossing,
) -> io::Result<End>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let (mut frames, mut buffer) = (Frames::default(), vec![0; BUFFER]);
    let (mut at, mut end) = (0, 0);
    let reason = loop {
        let step = async {
            if at == end {
                (at, end) = (0, from.read(&mut buffer).await?);
                return Ok(end > 0);
            }
            let written = to.write(&buffer[at..end]).await?;
            frames.pass(&buffer[at..at + written]);
            at += written;
            crossing.sent(written as u64);
            if at == end {
                to.flush().await?;
            }
            Ok::<_, io::Error>(written > 0)
        };
        tokio::select! {
            biased;
            reason = registered.cut() => break reason,
            going = step => if !going? { return Ok(End::Over) },
        }
        activity.moved();
    };
    let deadline = Instant::now() + BOUNDARY;
    let goodbye = async {
        while !frames.between() {
            if at == end {
                (at, end) = (0, from.read(&mut buffer).await?);
                if end == 0 {
                    return Ok(());
                }
            }
            let open = frames.remainder(&buffer[at..end]);
            let written = to.write(&buffer[at..at + open]).await?;
            frames.pass(&buffer[at..at + written]);
            at += written;
            crossing.sent(written as u64);
        }
        if !frames.closing() {
            let code = if reason == Reason::ShuttingDown { GOING_AWAY } else { POLICY };
            to.write_all(&frames::close(code, reason.code())).await?;
            to.flush().await?;
        }
        Ok::<_, io::Error>(())
    };
    tokio::select! {
        said = goodbye => if let Err(error) = said { tracing::debug!(%error, "client left before its close frame") },
        () = sleep_until(deadline) => {}
    }
    Ok(End::Cut(reason))
}

/// Closes our side, and reads what the client still sends, lest the kernel take back what it has not read yet.
async fn farewell<R, W>(mut from: R, mut to: W) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    to.shutdown().await?;
    let mut rest = vec![0; 4096];
    while from.read(&mut rest).await? > 0 {}
    Ok(())
}

impl Activity {
    fn moved(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
    }

    /// Returns once nothing has moved for `limit`.
    async fn silent(&self, limit: Duration) {
        loop {
            let last = self.start + Duration::from_millis(self.last.load(Ordering::Relaxed));
            let quiet = last.elapsed();
            if quiet >= limit {
                return;
            }
            sleep(limit - quiet).await;
        }
    }
}
