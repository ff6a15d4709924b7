//! Reads the bodies that policies are to know something of, before the request is decided about.

use crate::{
    audit::Crossing,
    body::{RequestBody, WholeError},
    canonical::{Canonical, Inspected, too_large},
    refusal::{Reason, Refusal},
    route::BodyRule,
};
use bytes::Bytes;
use hyper::body::Body;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of such bodies that the process holds at once, from the first that is read to the last that has gone up.
const ROOM: u32 = 64 << 20;
/// How long one may take to come.
const LATEST: Duration = Duration::from_secs(10);
/// A longer one is taken apart beside the requests of its core.
const LONG: usize = 64 << 10;

/// The room for bodies that are read before a decision, of the whole process.
#[derive(Clone)]
pub struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM as usize)))
    }
}

impl Bodies {
    /// Reads a body whole, and the fields of it that `rule` declares. What comes back goes up in its place, byte for byte.
    ///
    /// A client that waits for `100 Continue` gets it when the reading begins (RFC 9110, section 10.1.1).
    ///
    /// # Errors
    /// `UnsupportedBody`, `BodyTooLarge`, `InvalidBody`; `BodiesFull` where there is no room; `ClientTimeout` where it takes more than 10 s;
    /// `BadRequest` where it breaks off.
    pub async fn read(
        &self,
        asked: &Canonical,
        body: RequestBody,
        rule: &Arc<BodyRule>,
        crossing: &Crossing,
    ) -> Result<(Inspected, RequestBody), Refusal> {
        if body.is_end_stream() {
            return Ok((Inspected::read(rule, &[])?, body));
        }
        let declared = body.size_hint().exact();
        asked.may_be_read(rule, declared)?;
        let mut room = self.room(declared.unwrap_or(rule.max))?;
        let mut body = body;
        let read = body.read(rule.max, LATEST, |bytes| crossing.received(bytes)).await;
        let bytes = read.map_err(|error| unread(error, rule))?;
        drop(room.split(room.num_permits().saturating_sub(bytes.len()))); // of one whose length nobody knew before
        let inspected = taken_apart(bytes.clone(), rule).await?;
        Ok((inspected, RequestBody::whole(bytes, room)))
    }

    /// Nobody waits for it: whoever holds some may hold it for long.
    fn room(&self, bytes: u64) -> Result<OwnedSemaphorePermit, Refusal> {
        let wanted = u32::try_from(bytes).ok();
        wanted
            .and_then(|wanted| self.0.clone().try_acquire_many_owned(wanted).ok())
            .ok_or_else(|| Refusal::new(Reason::BodiesFull, "Too many bodies are being read at the moment.").closing())
    }
}

async fn taken_apart(bytes: Bytes, rule: &Arc<BodyRule>) -> Result<Inspected, Refusal> {
    if bytes.len() <= LONG {
        return Inspected::read(rule, &bytes);
    }
    let rule = rule.clone();
    let reading = tokio::task::spawn_blocking(move || Inspected::read(&rule, &bytes));
    reading.await.map_err(|error| Refusal::new(Reason::Internal, "The body cannot be read.").because(error))?
}

fn unread(error: WholeError, rule: &BodyRule) -> Refusal {
    match error {
        WholeError::Large(_) => too_large(rule),
        WholeError::Late(limit) => {
            let detail = format!("The request's body took longer than {} s.", limit.as_secs());
            Refusal::new(Reason::ClientTimeout, detail).closing()
        }
        WholeError::Broken(cause) => {
            Refusal::new(Reason::BadRequest, "The request's body broke off.").because(cause).closing()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-84: where there is no room, new work is refused, and none that is in hand is given up.
    #[test]
    fn s84_what_there_is_no_room_for_is_refused() {
        let bodies = Bodies::default();
        let most = u64::from(ROOM);
        let first = bodies.room(most - 10).expect("room");
        let refused = bodies.room(11).expect_err("no room");
        assert_eq!((refused.reason, refused.close), (Reason::BodiesFull, true));
        let rest = bodies.room(10).expect("room");
        assert!(bodies.room(1).is_err() && bodies.room(u64::MAX).is_err());
        drop(first);
        assert_eq!(bodies.room(most).err().map(|refusal| refusal.reason), Some(Reason::BodiesFull));
        drop(rest);
        assert!(bodies.room(most).is_ok());
    }
}
