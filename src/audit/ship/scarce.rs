//! A stream whose peer may say so much and no more until it is written to again.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a peer may say without having been asked anything more. A client that buffers whole messages reads what their length says,
/// and that is the peer's to write.
pub(super) const MOST: usize = 4 << 20;

/// See the module.
pub(super) struct Scarce<S> {
    inner: S,
    left: usize,
}

impl<S> Scarce<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, left: MOST }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Scarce<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, out))?;
        match self.left.checked_sub(out.filled().len() - before) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(io::Error::other(format!("its answer is longer than {} MiB", MOST >> 20)))),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Scarce<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.left = MOST;
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    #[tokio::test]
    async fn a_peer_that_says_too_much_is_heard_no_more() {
        let (ours, mut theirs) = duplex(1 << 16);
        let mut ours = Scarce::new(ours);
        let talking = tokio::spawn(async move {
            let (part, mut asked) = ([7; 4096], [0; 1]);
            for _ in 0..MOST / part.len() {
                theirs.write_all(&part).await.expect("read");
            }
            theirs.read_exact(&mut asked).await.expect("asked");
            while theirs.write_all(&part).await.is_ok() {}
        });
        let mut heard = vec![0; MOST];
        ours.read_exact(&mut heard).await.expect("so much it may say");
        ours.write_all(b"?").await.expect("asked again");
        let error = async {
            loop {
                if let Err(error) = ours.read(&mut heard).await {
                    return error;
                }
            }
        }
        .await;
        assert!(error.to_string().contains("longer than 4 MiB"), "{error}");
        drop(ours);
        talking.await.expect("ended");
    }
}
