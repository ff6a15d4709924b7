//! A clock that runs while nothing moves.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// A clock that runs while nothing moves. It goes with a pooled connection, so that a request on a
/// warm connection neither allocates a timer nor enters one in the runtime's wheel.
#[derive(Default)]
pub(super) struct Idle {
    sleep: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Idle {
    /// Something moved.
    pub(super) fn moved(&mut self) {
        self.running = false;
    }

    /// Called while nothing moves: ready once that has lasted for `limit`.
    pub(super) fn poll_over(&mut self, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let running = std::mem::replace(&mut self.running, true);
        match &mut self.sleep {
            Some(sleep) => {
                if !running {
                    sleep.as_mut().reset(Instant::now() + limit);
                }
                sleep.as_mut().poll(cx)
            }
            None => self.sleep.insert(Box::pin(tokio::time::sleep(limit))).as_mut().poll(cx),
        }
    }
}
