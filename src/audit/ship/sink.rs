//! One sink: what takes records and says so.

use super::{batch::Record, otlp::Otlp, postgres::Postgres, stdout::Stdout, syslog::Syslog};
use crate::{
    config::{SinkKind, SinkSettings},
    finding::{Finding, Level},
};
use std::time::Duration;

/// Nothing is waited for longer, from the first byte to the acknowledgement.
const LATEST: Duration = Duration::from_secs(60);
/// How long a sink may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a probe may take.
const PROBE: Duration = Duration::from_secs(5);

/// Where records go. A new kind is one variant, one line per method.
pub(super) enum Sink {
    Postgres(Box<Postgres>),
    Otlp(Box<Otlp>),
    Stdout(Stdout),
    Syslog(Box<Syslog>),
}

/// Why a sink has not taken records. Nothing in it is secret.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It could not be reached, or cannot take anything at the moment.
    Failed(String),
    /// The same, and it says how long to wait.
    Later(String, Duration),
    /// It refuses these records for what they are.
    Refused(String),
}

/// Records that a sink took and threw away, by its own word.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) count: u64,
    pub(super) said: String,
}

impl Sink {
    /// A sink that is connected when it is first used.
    pub(super) fn new(settings: &SinkSettings) -> Self {
        match &settings.kind {
            SinkKind::Postgres(it) => Self::Postgres(Box::new(Postgres::new(it.clone()))),
            SinkKind::Otlp(it) => Self::Otlp(Box::new(Otlp::new(it.clone()))),
            SinkKind::Stdout => Self::Stdout(Stdout::new()),
            SinkKind::Syslog(it) => Self::Syslog(Box::new(Syslog::new(it.clone()))),
        }
    }

    /// Sends records; returns once they are acknowledged, as far as the sink can do that.
    ///
    /// # Errors
    /// Why they are not; whoever asked sends them again, and the sink may have taken some of them nonetheless.
    pub(super) async fn send(&mut self, records: &[Record]) -> Result<Option<Rejected>, Trouble> {
        match self {
            Self::Postgres(sink) => in_time(sink.send(records)).await.map(|()| None),
            Self::Otlp(sink) => in_time(sink.send(records)).await,
            Self::Syslog(sink) => in_time(sink.send(records)).await.map(|()| None),
            Self::Stdout(sink) => sink.send(records).await.map(|()| None), // whoever reads may take all the time in the world
        }
    }

    /// True if what it has taken is there for good. Otherwise the cursor stays behind what was sent last.
    pub(super) fn says_what_it_has(&self) -> bool {
        !matches!(self, Self::Syslog(_))
    }

    /// Says goodbye. True if the sink has read all that it was sent.
    pub(super) async fn close(self) -> bool {
        let goodbye = async {
            match self {
                Self::Postgres(sink) => sink.close().await,
                Self::Syslog(sink) => return sink.close().await,
                Self::Otlp(_) | Self::Stdout(_) => {}
            }
            true // everything was acknowledged before
        };
        tokio::time::timeout(GOODBYE, goodbye).await.unwrap_or(false)
    }
}

/// What went wrong, with where the sink is.
pub(super) fn at(settings: &SinkSettings, error: &str) -> String {
    match settings.kind {
        SinkKind::Stdout => error.to_owned(),
        SinkKind::Postgres(_) | SinkKind::Otlp(_) | SinkKind::Syslog(_) => {
            format!("{}: {error}", settings.kind.place())
        }
    }
}

async fn in_time<T>(sent: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    let late = |_| Err(Trouble::Failed(format!("no acknowledgement in {} s", LATEST.as_secs())));
    tokio::time::timeout(LATEST, sent).await.unwrap_or_else(late)
}

/// Tries whether the sink at `index` of `audit.sinks` can be reached and would take records. Nothing is written.
pub async fn probe(settings: &SinkSettings, index: usize) -> Finding {
    let what = format!("sink `{}`, {}", settings.name, settings.kind.as_str());
    let probe = async {
        match &settings.kind {
            SinkKind::Postgres(it) => Postgres::new(it.clone()).probe().await,
            SinkKind::Otlp(it) => Otlp::new(it.clone()).probe().await,
            SinkKind::Stdout => Ok("records go to standard output".to_owned()),
            SinkKind::Syslog(it) => Syslog::new(it.clone()).probe().await,
        }
    };
    let late = Err(format!("no answer in {} s", PROBE.as_secs()));
    let key = format!("audit.sinks[{index}].url");
    match tokio::time::timeout(PROBE, probe).await.unwrap_or(late) {
        Ok(said) => Finding::new(Level::Good, what, key, said),
        Err(said) => Finding::new(Level::Fault, what, key, at(settings, &said))
            .help("records wait in the journal until it takes them".to_owned()),
    }
}
