//! Reads the bodies that policies are to know something of, before the request is decided about.

use crate::{
    audit::Crossing,
    body::{RequestBody, Room, Space, WholeError},
    canonical::{Canonical, Inspected, network, too_large},
    refusal::{Reason, Refusal},
    route::BodyRule,
};
use bytes::Bytes;
use hyper::body::Body;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// Bytes of such bodies that the process holds at once, from the first that is read to the last that has gone up.
const ROOM: u64 = 64 << 20;
/// Bytes of them that one client has there, of whom four leave room for nobody else.
const OF_ONE: u64 = 16 << 20;
/// How long one may take to come.
const LATEST: Duration = Duration::from_secs(10);
/// A longer one is taken apart beside the requests of its core.
const LONG: usize = 16 << 10;
/// So many of these at once: what is known of one meanwhile takes some times its length.
const AT_ONCE: usize = 2;

/// The room for bodies that are read before a decision, of the whole process.
#[derive(Clone)]
pub struct Bodies {
    space: Space,
    turns: Arc<Semaphore>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { space: Space::new(ROOM, OF_ONE), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Bodies {
    /// Reads a body whole, and the fields of it that `rule` declares. What comes back goes up in its place, byte for byte. It takes
    /// room as it comes: who only says that it will be long holds none.
    ///
    /// A client that waits for `100 Continue` gets it when the reading begins (RFC 9110, section 10.1.1).
    ///
    /// # Errors
    /// `UnsupportedBody`, `BodyTooLarge`, `InvalidBody`; `BodiesFull` where there is no room; `ClientTimeout` where it takes more than 10 s;
    /// `BadRequest` where it breaks off.
    pub async fn read(
        &self,
        asked: &Canonical,
        mut body: RequestBody,
        rule: &Arc<BodyRule>,
        crossing: &Crossing,
    ) -> Result<(Inspected, RequestBody), Refusal> {
        if body.is_end_stream() {
            return Ok((Inspected::read(rule, &[])?, body));
        }
        asked.may_be_read(rule, body.size_hint().exact())?;
        let mut room = self.space.room(network(asked.client));
        let takes = |bytes| {
            crossing.received(bytes);
            room.grow(bytes)
        };
        let bytes = body.read(rule.max, LATEST, takes).await.map_err(|error| unread(error, rule))?;
        let (inspected, room) = self.taken_apart(bytes.clone(), rule, room).await?;
        Ok((inspected, RequestBody::whole(bytes, room)))
    }

    /// The room stays taken until it is done, whether anybody waits for it or not.
    async fn taken_apart(&self, bytes: Bytes, rule: &Arc<BodyRule>, room: Room) -> Result<(Inspected, Room), Refusal> {
        if bytes.len() <= LONG {
            return Ok((Inspected::read(rule, &bytes)?, room));
        }
        let broken = || Refusal::new(Reason::Internal, "The body cannot be read.");
        let turn = self.turns.clone().acquire_owned().await.map_err(|error| broken().because(error))?;
        let rule = rule.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let inspected = Inspected::read(&rule, &bytes);
            drop(turn);
            (inspected, room)
        });
        let (inspected, room) = reading.await.map_err(|error| broken().because(error))?;
        Ok((inspected?, room))
    }
}

fn unread(error: WholeError, rule: &BodyRule) -> Refusal {
    match error {
        WholeError::Large(_) => too_large(rule),
        WholeError::Full => Refusal::new(Reason::BodiesFull, "Too many bodies are being read at the moment.").closing(),
        WholeError::Late(limit) => {
            let detail = format!("The request's body took longer than {} s.", limit.as_secs());
            Refusal::new(Reason::ClientTimeout, detail).closing()
        }
        WholeError::Broken(cause) => {
            Refusal::new(Reason::BadRequest, "The request's body broke off.").because(cause).closing()
        }
    }
}
