//! Counters for operators. Labels come from closed sets only: never a path, a user or a header (S-103).

use crate::{
    authorize::Difference,
    fairness::{Measure, Whom},
    refusal::{Reason, Refusal},
    route::Route,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::sync::{Arc, atomic::Ordering::Relaxed};

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Whose limit, and of what.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct LimitLabel {
    whom: &'static str,
    measure: &'static str,
}

impl From<(Whom, Measure)> for LimitLabel {
    fn from((whom, measure): (Whom, Measure)) -> Self {
        Self { whom: whom.as_str(), measure: measure.as_str() }
    }
}

/// Why a connection ended before HTTP began on it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, EncodeLabelValue)]
pub enum Connection {
    /// There were as many as `limits.connections` allows.
    TooMany,
    /// There were as many of this address as `limits.connections_per_address` allows.
    TooManyOfAddress,
    /// No header of the PROXY protocol could be read, or its sender is not trusted.
    ProxyProtocol,
    /// TLS could not be agreed on; a certificate was asked for and not shown, for example.
    Tls,
    /// The client was too slow.
    Late,
    /// The client left.
    Left,
}

impl Connection {
    const ALL: [Self; 6] =
        [Self::TooMany, Self::TooManyOfAddress, Self::ProxyProtocol, Self::Tls, Self::Late, Self::Left];
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct WhyLabel {
    why: Connection,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    answered: Counter,
    turned_away: Family<WhyLabel, Counter>,
    connections: Gauge,
    refused: Family<ReasonLabel, Counter>,
    limited: Family<LimitLabel, Counter>,
    reloads: Family<OutcomeLabel, Counter>,
    shadow: Family<ShadowLabel, Counter>,
    policies: Family<PoliciesLabel, Gauge>,
    streams: Gauge,
    audit_written: Counter,
    audit_lost: Counter,
    audit_writable: Gauge,
    upstreams: Upstreams,
    sinks: Sinks,
}

/// The routes are those of the configuration.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct ShadowLabel {
    route: String,
    kind: &'static str,
}

/// Which set, and which of all that it has been: there is one series for each set.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct PoliciesLabel {
    set: &'static str,
    digest: String,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

/// The sinks are those of the configuration.
#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct SinkLabel {
    sink: String,
}

/// How a sink of the audit trail is when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct SinkFigures {
    /// Its name in the configuration.
    pub sink: String,
    /// Records that are on disk and that it has not acknowledged.
    pub records_behind: u64,
    /// Their bytes.
    pub bytes_behind: u64,
    /// Age of the oldest of them, in seconds.
    pub oldest_age: u64,
    /// Records that it has acknowledged since the start.
    pub shipped: u64,
    /// Tries that failed since the start.
    pub failures: u64,
    /// Records that it took and threw away since the start.
    pub rejected: u64,
    /// When it acknowledged something last, in seconds since 1970; 0 for never.
    pub last_success: u64,
}

/// One series per sink and figure: the sinks are those of the configuration.
#[derive(Default)]
struct Sinks {
    records_behind: Family<SinkLabel, Gauge>,
    bytes_behind: Family<SinkLabel, Gauge>,
    oldest_age: Family<SinkLabel, Gauge>,
    shipped: Family<SinkLabel, Counter>,
    failures: Family<SinkLabel, Counter>,
    rejected: Family<SinkLabel, Counter>,
    last_success: Family<SinkLabel, Gauge>,
}

impl Sinks {
    fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            ("audit_sink_records_behind", "Records on disk that a sink has not acknowledged", &self.records_behind),
            ("audit_sink_bytes_behind", "Bytes of those records", &self.bytes_behind),
            ("audit_sink_oldest_unshipped_seconds", "Age of the oldest of those records", &self.oldest_age),
            ("audit_sink_last_success_timestamp_seconds", "When a sink acknowledged records last", &self.last_success),
        ] {
            registry.register(name, help, family.clone());
        }
        for (name, help, family) in [
            ("audit_sink_records_shipped", "Records that a sink has acknowledged since the start", &self.shipped),
            ("audit_sink_failures", "Tries that failed since the start", &self.failures),
            ("audit_sink_records_rejected", "Records that a sink took and threw away since the start", &self.rejected),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    /// Sinks that are gone have no series any more.
    fn read(&self, sinks: &[SinkFigures]) {
        let all = [&self.records_behind, &self.bytes_behind, &self.oldest_age, &self.last_success];
        all.iter().for_each(|family| family.clear());
        let counts = [&self.shipped, &self.failures, &self.rejected];
        counts.iter().for_each(|family| family.clear());
        for it in sinks {
            let label = SinkLabel { sink: it.sink.clone() };
            for (family, value) in all.iter().zip([it.records_behind, it.bytes_behind, it.oldest_age, it.last_success])
            {
                family.get_or_create(&label).set(number(value));
            }
            for (family, value) in counts.iter().zip([it.shipped, it.failures, it.rejected]) {
                family.get_or_create(&label).inner().store(value, Relaxed);
            }
        }
    }
}

/// One series per route and figure: the routes are those of the configuration.
#[derive(Default)]
struct Upstreams {
    endpoints: Family<RouteLabel, Gauge>,
    available: Family<RouteLabel, Gauge>,
    in_flight: Family<RouteLabel, Gauge>,
    connections: Family<RouteLabel, Gauge>,
    retries: Family<RouteLabel, Gauge>,
    panics: Family<RouteLabel, Gauge>,
}

impl Upstreams {
    fn register(&self, registry: &mut Registry) {
        for (name, help, family) in [
            ("upstream_endpoints", "Endpoints of a route's upstream", &self.endpoints),
            ("upstream_endpoints_available", "Endpoints that are neither ejected nor unhealthy", &self.available),
            ("upstream_requests_in_flight", "Requests in flight to a route's upstream", &self.in_flight),
            ("upstream_connections_open", "Connections to a route's upstream", &self.connections),
            ("upstream_retries", "Requests that were sent to another endpoint since the start", &self.retries),
            ("upstream_panics", "Requests sent while all endpoints were out since the start", &self.panics),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    /// Routes that are gone have no series any more.
    fn read(&self, routes: &[Arc<Route>]) {
        let all = [&self.endpoints, &self.available, &self.in_flight, &self.connections, &self.retries, &self.panics];
        all.iter().for_each(|family| family.clear());
        for route in routes {
            let (label, figures) = (RouteLabel { route: route.name.to_string() }, route.upstream.figures());
            let counts =
                [figures.endpoints, figures.available, figures.in_flight, figures.connections].map(|it| it as u64);
            let [endpoints, available, in_flight, connections] = counts;
            let values = [endpoints, available, in_flight, connections, figures.retries, figures.panics];
            for (family, value) in all.iter().zip(values) {
                family.get_or_create(&label).set(number(value));
            }
        }
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[derive(Clone, Debug, Eq, Hash, PartialEq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// What is read when somebody asks for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Connections of clients.
    pub connections: usize,
    /// Open streams.
    pub streams: usize,
    /// Audit records written since the start.
    pub audit_written: u64,
    /// Audit records lost since the start.
    pub audit_lost: u64,
    /// Whether the audit journal can be written.
    pub audit_writable: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vestibule");
        let (answered, refused, reloads) = (Counter::default(), Family::default(), Family::default());
        let (streams, audit_written, audit_lost) = (Gauge::default(), Counter::default(), Counter::default());
        let audit_writable = Gauge::default();
        registry.register(
            "requests_answered",
            "Requests answered by an upstream or an endpoint of ours",
            answered.clone(),
        );
        registry.register("requests_refused", "Requests refused, by reason", refused.clone());
        let limited = Family::<LimitLabel, Counter>::default();
        registry.register("requests_limited", "Requests refused by a limit, by whose and of what", limited.clone());
        for limit in Whom::ALL.into_iter().flat_map(|whom| Measure::ALL.map(|measure| (whom, measure))) {
            drop(limited.get_or_create(&limit.into()));
        }
        let (turned_away, connections) = (Family::<WhyLabel, Counter>::default(), Gauge::default());
        registry.register(
            "connections_turned_away",
            "Connections that ended before HTTP began on them, by why",
            turned_away.clone(),
        );
        registry.register("connections_open", "Connections of clients open now", connections.clone());
        for why in Connection::ALL {
            drop(turned_away.get_or_create(&WhyLabel { why }));
        }
        registry.register("reloads", "Reloads of policies or configuration, by outcome", reloads.clone());
        let (shadow, policies) = (Family::default(), Family::default());
        registry.register(
            "shadow_differences",
            "Requests that the shadow policies would have decided otherwise, by route and kind",
            shadow.clone(),
        );
        registry.register("policies", "Policies in each set, whose digest is the label", policies.clone());
        registry.register("streams_open", "Long-lived connections open now", streams.clone());
        registry.register("audit_records_written", "Audit records written since the start", audit_written.clone());
        registry.register("audit_records_lost", "Audit records lost since the start", audit_lost.clone());
        registry.register("audit_journal_writable", "1 while the audit journal can be written", audit_writable.clone());
        let upstreams = Upstreams::default();
        upstreams.register(&mut registry);
        let sinks = Sinks::default();
        sinks.register(&mut registry);
        for reason in Reason::all() {
            drop(refused.get_or_create(&ReasonLabel { reason: reason.code() }));
        }
        Self {
            registry,
            answered,
            turned_away,
            connections,
            refused,
            limited,
            reloads,
            shadow,
            policies,
            streams,
            audit_written,
            audit_lost,
            audit_writable,
            upstreams,
            sinks,
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub fn answered(&self) {
        self.answered.inc();
    }

    /// A request was refused.
    pub fn refused(&self, refusal: &Refusal) {
        self.refused.get_or_create(&ReasonLabel { reason: refusal.reason.code() }).inc();
        if let Some(limit) = refusal.limit {
            self.limited.get_or_create(&limit.into()).inc();
        }
    }

    /// A connection ended before HTTP began on it.
    pub fn turned_away(&self, why: Connection) {
        self.turned_away.get_or_create(&WhyLabel { why }).inc();
    }

    /// A reload succeeded or was refused.
    pub fn reloaded(&self, succeeded: bool) {
        let outcome = if succeeded { "loaded" } else { "refused" };
        self.reloads.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The shadow policies would have decided a request otherwise.
    pub fn shadowed(&self, route: &Route, difference: Difference) {
        let label = ShadowLabel { route: route.name.to_string(), kind: difference.as_str() };
        self.shadow.get_or_create(&label).inc();
    }

    /// These sets are in force: name, digest and number of policies of each.
    pub fn policies(&self, sets: impl IntoIterator<Item = (&'static str, String, usize)>) {
        self.policies.clear();
        for (set, digest, count) in sets {
            self.policies.get_or_create(&PoliciesLabel { set, digest }).set(number(count as u64));
        }
    }

    /// Everything in the OpenMetrics text format, with the upstreams of the routes and the sinks in force.
    pub fn text(&self, gauges: Gauges, routes: &[Arc<Route>], sinks: &[SinkFigures]) -> String {
        self.upstreams.read(routes);
        self.sinks.read(sinks);
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.connections.set(number(gauges.connections as u64));
        self.streams.set(number(gauges.streams as u64));
        self.audit_written.inner().store(gauges.audit_written, Relaxed);
        self.audit_lost.inner().store(gauges.audit_lost, Relaxed);
        self.audit_writable.set(i64::from(gauges.audit_writable));
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is counted since the start is a counter, and stays what it is however often it is asked for.
    #[test]
    fn what_is_counted_since_the_start_is_a_counter() {
        let metrics = Metrics::default();
        let sinks = [SinkFigures { sink: "db".to_owned(), shipped: 7, failures: 2, rejected: 1, ..Default::default() }];
        let mut text = String::new();
        for _ in 0..2 {
            let gauges = Gauges { audit_written: 9, audit_lost: 3, ..Default::default() };
            text = metrics.text(gauges, &[], &sinks);
        }
        for (name, label, value) in [
            ("records_written", "", 9),
            ("records_lost", "", 3),
            ("sink_records_shipped", "{sink=\"db\"}", 7),
            ("sink_failures", "{sink=\"db\"}", 2),
            ("sink_records_rejected", "{sink=\"db\"}", 1),
        ] {
            assert!(text.contains(&format!("# TYPE vestibule_audit_{name} counter\n")), "{name}: {text}");
            assert!(text.contains(&format!("\nvestibule_audit_{name}_total{label} {value}\n")), "{name}: {text}");
        }
    }

    /// One series for each set, however often it changes; and two for each route at most.
    #[test]
    fn s103_series_of_policies_are_bounded() {
        let (metrics, route) = (Metrics::default(), crate::route::testing::route("portal"));
        for turn in 0..10 {
            metrics.policies([("live", format!("d{turn}"), 3), ("shadow", format!("s{turn}"), 4)]);
            metrics.shadowed(&route, Difference::WouldRefuse);
        }
        let text = metrics.text(Gauges::default(), &[], &[]);
        let series =
            |name: &str| text.lines().filter(|line| line.starts_with(name)).map(str::to_owned).collect::<Vec<_>>();
        let mut policies = series("vestibule_policies{");
        policies.sort();
        assert_eq!(
            policies,
            [r#"vestibule_policies{set="live",digest="d9"} 3"#, r#"vestibule_policies{set="shadow",digest="s9"} 4"#]
        );
        assert_eq!(
            series("vestibule_shadow_differences_total{"),
            [r#"vestibule_shadow_differences_total{route="portal",kind="would_refuse"} 10"#]
        );
    }

    /// S-103: every series exists from the start, and there are as many as reasons.
    #[test]
    fn s103_series_are_bounded() {
        let metrics = Metrics::default();
        for _ in 0..1000 {
            metrics.refused(&Refusal::new(Reason::NoSession, ""));
        }
        let text = metrics.text(Gauges::default(), &[], &[]);
        let series = text.lines().filter(|line| line.starts_with("vestibule_requests_refused_total{")).count();
        assert_eq!(series, Reason::all().len());
        assert!(text.contains("vestibule_requests_refused_total{reason=\"no_session\"} 1000"), "{text}");
        let limits = text.lines().filter(|line| line.starts_with("vestibule_requests_limited_total{")).count();
        assert_eq!(limits, Whom::ALL.len() * Measure::ALL.len());
    }
}
