//! Messages of syslog (RFC 5424) with their length in front (RFC 6587, section 3.4.1), over TLS (RFC 5425).
//!
//! There is no acknowledgement in this protocol: records count as taken once more could be sent behind them, or the server has
//! ended the connection after we did. What was sent last is kept, and sent again where the connection turns out to be broken; a
//! process that begins anew sends it again, too.

use super::{super::record::Kind, batch::Record, dial, dial::Stream, row::Row, sink::Trouble};
use crate::{config::SyslogSink, moment::rfc3339};
use futures_util::FutureExt;
use std::{fs, io, io::Write as _, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::either::Either;

/// Our structured data. 32473 is the number for those who have none of their own (RFC 5612).
const DATA: &str = "vestibule@32473";

type Connection = Either<TlsStream<Stream>, Stream>;

/// A syslog server, connected when it is needed.
pub(super) struct Syslog {
    settings: SyslogSink,
    host: String,
    connection: Option<Connection>,
    /// What was sent last, in case that it was lost with the connection.
    last: Vec<u8>,
}

impl Syslog {
    pub(super) fn new(settings: SyslogSink) -> Self {
        Self { settings, host: host(), connection: None, last: Vec::new() }
    }

    pub(super) async fn send(&mut self, records: &[Record]) -> Result<(), Trouble> {
        let bytes = frames(records, self.settings.facility, &self.host);
        let failed = |error: io::Error| Trouble::Failed(error.to_string());
        let before = self.connection.take().and_then(|mut it| is_open(&mut it).then_some(it));
        let mut connection = match before {
            Some(connection) => connection,
            None => {
                let mut connection = self.connect().await.map_err(failed)?;
                connection.write_all(&self.last).await.map_err(failed)?;
                connection
            }
        };
        connection.write_all(&bytes).await.map_err(failed)?;
        connection.flush().await.map_err(failed)?;
        self.connection = Some(connection);
        self.last = bytes;
        Ok(())
    }

    /// Connects; nothing is sent.
    pub(super) async fn probe(&self) -> Result<String, String> {
        let mut connection = self.connect().await.map_err(|error| error.to_string())?;
        let _ = connection.shutdown().await; // whoever answered is there
        Ok(format!("connected{}", if self.settings.tls.is_some() { " over TLS" } else { "" }))
    }

    /// Ends the connection in order, and waits until the other side has read everything and does the same. False if it did not,
    /// or had done so before: then it may lack what was sent last.
    pub(super) async fn close(self) -> bool {
        let Some(mut connection) = self.connection else { return false };
        if !is_open(&mut connection) || connection.shutdown().await.is_err() {
            return false;
        }
        let mut rest = [0; 512];
        loop {
            match connection.read(&mut rest).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let SyslogSink { place, tls, .. } = &self.settings;
        let stream = dial::plain(place).await?;
        let Some(tls) = tls else { return Ok(Either::Right(stream)) };
        let connector = TlsConnector::from(Arc::new(tls.plain()));
        Ok(Either::Left(connector.connect(dial::name(tls, place)?, stream).await?))
    }
}

/// True if the other side has not ended the connection yet, as far as is known here.
fn is_open(connection: &mut Connection) -> bool {
    // servers of syslog say nothing: whatever comes is the end, or an alert
    matches!(connection.read(&mut [0; 64]).now_or_never(), None | Some(Ok(1..)))
}

/// This machine's name as a message may carry it; `-` if there is none.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

fn frames(records: &[Record], facility: u8, host: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.iter().map(|record| record.line.len() + 256).sum());
    for record in records {
        let message = message(record, facility, host);
        write!(bytes, "{} {message}", message.len()).expect("a vector takes every byte");
    }
    bytes
}

/// Source: RFC 5424, section 6.
fn message(record: &Record, facility: u8, host: &str) -> String {
    let Record { node, epoch, seq, line, kind, time, .. } = record;
    let priority = facility * 8 + severity(record);
    let (time, process, kind) = (rfc3339(*time), std::process::id(), kind.as_str());
    format!(
        "<{priority}>1 {time} {host} vestibule {process} {kind} [{DATA} node=\"{node}\" epoch=\"{epoch}\" seq=\"{seq}\"] {line}"
    )
}

/// Source: RFC 5424, section 6.2.1, table 2; OCSF, `severity_id`.
fn severity(record: &Record) -> u8 {
    match record.kind {
        Kind::Gap => 3,
        Kind::Recovery => 4,
        Kind::Removal => 5,
        Kind::Segment | Kind::Head | Kind::Close => 6,
        Kind::Event => match Row::of(record).severity() {
            2 => 5,
            3 => 4,
            4 => 3,
            5 => 2,
            6 => 1,
            _ => 6,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind, line: &str) -> Record {
        let (node, segment) = ("n1".into(), "s".into());
        Record { line: line.to_owned(), node, epoch: 2, seq: 7, kind, time: 1_700_000_000_123, segment, offset: 0 }
    }

    #[test]
    fn messages_have_their_length_in_front() {
        let records = [record(Kind::Event, r#"{"event":{"severity_id":2}}"#), record(Kind::Head, "{}")];
        let text = String::from_utf8(frames(&records, 13, "gate")).expect("ASCII");
        let (length, rest) = text.split_once(' ').expect("a length");
        let (first, second) = rest.split_at(length.parse().expect("a number"));
        let process = std::process::id();
        assert_eq!(
            first,
            format!(
                "<109>1 2023-11-14T22:13:20.123Z gate vestibule {process} event [vestibule@32473 node=\"n1\" epoch=\"2\" seq=\"7\"] {}",
                records[0].line
            )
        );
        assert!(second.contains(" <110>1 ") && second.contains(" head [") && second.ends_with("] {}"), "{second}");
    }

    #[test]
    fn what_is_lost_is_louder_than_what_is_refused() {
        let of = |kind, line| severity(&record(kind, line));
        assert_eq!([of(Kind::Gap, "{}"), of(Kind::Recovery, "{}"), of(Kind::Head, "{}")], [3, 4, 6]);
        assert_eq!(of(Kind::Event, r#"{"event":{"severity_id":1}}"#), 6);
    }
}
