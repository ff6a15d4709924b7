//! Counters for operators. Labels come from closed sets only: never a path, a user or a header (S-103).

use crate::refusal::Reason;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    answered: Counter,
    refused: Family<ReasonLabel, Counter>,
    reloads: Family<OutcomeLabel, Counter>,
    streams: Gauge,
    audit_written: Gauge,
    audit_lost: Gauge,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What is read when somebody asks for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Open streams.
    pub streams: usize,
    /// Audit records written since the start.
    pub audit_written: u64,
    /// Audit records lost since the start.
    pub audit_lost: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vestibule");
        let (answered, refused, reloads) = (Counter::default(), Family::default(), Family::default());
        let (streams, audit_written, audit_lost) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "requests_answered",
            "Requests answered by an upstream or an endpoint of ours",
            answered.clone(),
        );
        registry.register("requests_refused", "Requests refused, by reason", refused.clone());
        registry.register("reloads", "Reloads of policies or configuration, by outcome", reloads.clone());
        registry.register("streams_open", "Long-lived connections open now", streams.clone());
        registry.register("audit_records_written", "Audit records written since the start", audit_written.clone());
        registry.register("audit_records_lost", "Audit records lost since the start", audit_lost.clone());
        for reason in Reason::ALL {
            drop(refused.get_or_create(&ReasonLabel { reason: reason.code() }));
        }
        Self { registry, answered, refused, reloads, streams, audit_written, audit_lost }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self) {
        self.answered.inc();
    }

    /// A request was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&ReasonLabel { reason: reason.code() }).inc();
    }

    /// A reload succeeded or was refused.
    pub fn reloaded(&self, succeeded: bool) {
        let outcome = if succeeded { "loaded" } else { "refused" };
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Everything in the OpenMetrics text format.
    pub fn text(&self, gauges: Gauges) -> String {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.streams.set(number(gauges.streams as u64));
        self.audit_written.set(number(gauges.audit_written));
        self.audit_lost.set(number(gauges.audit_lost));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-103: every series exists from the start, and there are as many as reasons.
    #[test]
    fn s103_series_are_bounded() {
        let metrics = Metrics::default();
        for _ in 0..1000 {
            metrics.refused(Reason::NoSession);
        }
        let text = metrics.text(Gauges::default());
        let series = text.lines().filter(|line| line.starts_with("vestibule_requests_refused_total{")).count();
        assert_eq!(series, Reason::ALL.len());
        assert!(text.contains("vestibule_requests_refused_total{reason=\"no_session\"} 1000"), "{text}");
    }
}
