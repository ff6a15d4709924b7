//! Lines on standard output.

use super::{batch::Record, sink::Trouble};
use std::{
    io::{self, Write},
    sync::mpsc::{Sender, channel},
    thread,
};
use tokio::sync::oneshot;

/// A thread of its own writes, so that a slow reader holds up nothing else, not even the end of the process.
pub(super) struct Stdout(Option<Sender<Job>>);

type Job = (Vec<u8>, oneshot::Sender<io::Result<()>>);

impl Stdout {
    pub(super) fn new() -> Self {
        let (sender, jobs) = channel::<Job>();
        let work = move || {
            for (bytes, answer) in jobs {
                let mut out = io::stdout().lock();
                // whoever no longer waits sends the same again
                let _ = answer.send(out.write_all(&bytes).and_then(|()| out.flush()));
            }
        };
        let started = thread::Builder::new().name("audit-stdout".to_owned()).spawn(work);
        Self(started.is_ok().then_some(sender))
    }

    pub(super) async fn send(&self, records: &[Record]) -> Result<(), Trouble> {
        let lost = || Trouble::Failed("the thread that writes to standard output could not be started".to_owned());
        let (answer, written) = oneshot::channel();
        let sender = self.0.as_ref().ok_or_else(lost)?;
        sender.send((lines(records), answer)).map_err(|_| lost())?;
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(Trouble::Failed("whoever read standard output has closed it".to_owned()))
            }
            Ok(Err(error)) => Err(Trouble::Failed(format!("standard output cannot be written: {error}"))),
            Err(_) => Err(lost()),
        }
    }
}

fn lines(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| record.line.len() + 1).sum());
    for record in records {
        bytes.extend_from_slice(record.line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
