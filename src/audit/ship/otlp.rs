//! Logs over OTLP/HTTP in Protocol Buffers.
//!
//! Source: OTLP specification 1.x, section OTLP/HTTP.

use super::{
    super::{json, record::Kind},
    batch::Record,
    row::Row,
    sink::{Rejected, Trouble},
};
use crate::config::OtlpSink;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Shorter words of a header are no secrets: `Bearer`, `Basic`.
const SECRET: usize = 8;
/// No answer is longer.
const LONGEST: usize = 64 << 10;
/// Of what a receiver says, so much is told.
const TOLD: usize = 300;
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(30);

/// A receiver of logs.
pub(super) struct Otlp {
    settings: OtlpSink,
    client: Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, String>,
}

/// What may be about the records that were sent. The Collector says 500 for what will never go well.
const REFUSALS: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::INTERNAL_SERVER_ERROR,
];

/// An error as receivers write it.
///
/// Source: `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(string, tag = "2")]
    message: String,
}

impl Otlp {
    pub(super) fn new(settings: OtlpSink) -> Self {
        let client = connector(&settings).map(|connector| {
            let mut builder = Client::builder(TokioExecutor::new());
            builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE).pool_max_idle_per_host(1).build(connector)
        });
        Self { settings, client }
    }

    pub(super) async fn send(&self, records: &[Record]) -> Result<Option<Rejected>, Trouble> {
        let sent = self.post(export(records, SystemTime::now())).await;
        let sent = sent.map(|rejected| rejected.map(|it| Rejected { said: self.hidden(&it.said), ..it }));
        sent.map_err(|trouble| match trouble {
            Trouble::Failed(said) => Trouble::Failed(self.hidden(&said)),
            Trouble::Refused(said) => Trouble::Refused(self.hidden(&said)),
            Trouble::Later(said, after) => Trouble::Later(self.hidden(&said), after),
        })
    }

    /// What a receiver says, without the credentials that it was sent and may say back.
    fn hidden(&self, said: &str) -> String {
        let values = self.settings.headers.iter().filter_map(|(_, value)| value.to_str().ok());
        let words = values.flat_map(|value| [value].into_iter().chain(value.split_whitespace()));
        words.filter(|word| word.len() >= SECRET).fold(said.to_owned(), |said, word| said.replace(word, "***"))
    }

    /// Posts no records, which every receiver takes.
    pub(super) async fn probe(&self) -> Result<String, String> {
        match self.send(&[]).await {
            Ok(_) => Ok("it takes logs".to_owned()),
            Err(Trouble::Failed(said) | Trouble::Later(said, _) | Trouble::Refused(said)) => Err(said),
        }
    }

    async fn post(&self, logs: ExportLogsServiceRequest) -> Result<Option<Rejected>, Trouble> {
        let client = self.client.as_ref().map_err(|error| Trouble::Failed(error.clone()))?;
        let failed = |error: &dyn std::error::Error| Trouble::Failed(crate::text::chain(error));
        let mut request = Request::post(self.settings.url.clone())
            .header(header::CONTENT_TYPE, "application/x-protobuf")
            .header(header::USER_AGENT, concat!("vestibule/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &self.settings.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(logs.encode_to_vec()))).map_err(|error| failed(&error))?;
        let (head, body) = client.request(request).await.map_err(|error| failed(&error))?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await;
        let body = body.map_err(|error| Trouble::Failed(format!("its answer cannot be read: {error}")))?.to_bytes();
        judged(head.status, head.headers.get(header::RETRY_AFTER), &body)
    }
}

/// What an answer means. A partial success must not be sent again; 429, 502, 503 and 504 are worth another try, and others
/// are not, but an audit trail has no record that may be left out.
fn judged(status: StatusCode, after: Option<&HeaderValue>, body: &[u8]) -> Result<Option<Rejected>, Trouble> {
    if status.is_success() {
        let answer = ExportLogsServiceResponse::decode(body);
        let answer =
            answer.map_err(|_| Trouble::Failed(format!("it answers {status}, but not in OTLP: is it one?")))?;
        return Ok(answer.partial_success.and_then(|partial| {
            let count = u64::try_from(partial.rejected_log_records).ok().filter(|count| *count > 0)?;
            Some(Rejected { count, said: told(&partial.error_message) })
        }));
    }
    let said = Said::decode(body).map(|said| told(&said.message)).unwrap_or_default();
    let said = format!("it answers {status}{}{said}", if said.is_empty() { "" } else { ": " });
    let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    Err(match (status, after) {
        (status, _) if REFUSALS.contains(&status) => Trouble::Refused(said),
        (_, Some(after)) => Trouble::Later(said, after),
        (_, None) => Trouble::Failed(said),
    })
}

/// What others wrote, fit for a log.
fn told(text: &str) -> String {
    json::clip(&json::visible(text), TOLD).to_owned()
}

fn connector(settings: &OtlpSink) -> Result<HttpsConnector<HttpConnector>, String> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let config = match &settings.tls {
        Some(tls) => tls.plain(),
        None => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth()
        }
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let builder = match settings.tls.as_ref().and_then(|tls| tls.source.name.clone()) {
        Some(name) => builder.with_server_name_resolver(FixedServerNameResolver::new(name)),
        None => builder,
    };
    Ok(builder.enable_http1().wrap_connector(tcp))
}

fn export(records: &[Record], now: SystemTime) -> ExportLogsServiceRequest {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    let scope = InstrumentationScope {
        name: "vestibule.audit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    };
    let node = records.first().map(|record| record.node.to_string()).unwrap_or_default();
    let resource = Resource {
        attributes: vec![
            text("service.name", "vestibule"),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &node),
        ],
        ..Resource::default()
    };
    let scope_logs = ScopeLogs {
        scope: Some(scope),
        log_records: records.iter().map(|record| log(record, now)).collect(),
        ..ScopeLogs::default()
    };
    let logs = ResourceLogs { resource: Some(resource), scope_logs: vec![scope_logs], ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

/// One record: the body is the journal's line, and the attributes are what to look for.
fn log(record: &Record, now: u64) -> LogRecord {
    let row = Row::of(record);
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let mut attributes = vec![
        text("vestibule.audit.node", &record.node),
        integer("vestibule.audit.epoch", record.epoch.into()),
        integer("vestibule.audit.seq", number(record.seq)),
        text("vestibule.audit.kind", record.kind.as_str()),
    ];
    for (name, value) in [
        ("ocsf.class_name", row.class_name()),
        ("ocsf.activity_name", row.activity()),
        ("enduser.id", row.user()),
        ("session.id", row.session()),
        ("http.request.method", row.method()),
        ("server.address", row.host()),
        ("url.path", row.path()),
        ("http.route", row.route()),
        ("vestibule.decision", row.decision()),
        ("vestibule.disposition", row.disposition()),
        ("vestibule.reason", row.reason()),
        ("vestibule.policy_digest", row.policy_digest()),
        ("vestibule.request_id", row.request()),
    ] {
        attributes.extend(value.map(|value| text(name, value)));
    }
    attributes.extend(row.client().map(|client| text("client.address", &client)));
    attributes.extend(row.class().map(|class| integer("ocsf.class_uid", class.into())));
    attributes.extend(row.status().map(|status| integer("http.response.status_code", status.into())));
    if !row.policies().is_empty() {
        attributes.push(text("vestibule.policies", &row.policies().join(",")));
    }
    let (severity_number, severity) = severity(record.kind, &row);
    LogRecord {
        time_unix_nano: record.time.saturating_mul(1_000_000),
        observed_time_unix_nano: now,
        severity_number,
        severity_text: severity.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(record.line.clone())) }),
        attributes,
        trace_id: row.trace().and_then(crate::text::unhex).filter(|id| id.len() == 16).unwrap_or_default(),
        event_name: format!("vestibule.audit.{}", record.kind.as_str()),
        ..LogRecord::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    pair(key, Value::StringValue(value.to_owned()))
}

fn integer(key: &str, value: i64) -> KeyValue {
    pair(key, Value::IntValue(value))
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
}

/// Source: OpenTelemetry, logs data model, `SeverityNumber`; OCSF, `severity_id`.
fn severity(kind: Kind, row: &Row) -> (i32, &'static str) {
    match (kind, row.severity()) {
        (Kind::Gap, _) => (17, "ERROR"),
        (Kind::Recovery, _) | (Kind::Event, 2) => (13, "WARN"),
        (Kind::Event, 3) => (14, "WARN2"),
        (Kind::Event, 4) => (17, "ERROR"),
        (Kind::Event, 5) => (18, "ERROR2"),
        (Kind::Event, 6) => (21, "FATAL"),
        (Kind::Event | Kind::Segment | Kind::Head | Kind::Removal | Kind::Close, _) => (9, "INFO"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    #[test]
    fn answers_are_judged_as_the_protocol_says() {
        let judge = |status: u16, after: Option<&'static str>| {
            judged(StatusCode::from_u16(status).expect("a status"), after.map(HeaderValue::from_static).as_ref(), &[])
        };
        assert!(matches!(judge(200, None), Ok(None)));
        for status in [400, 413, 422, 500] {
            assert!(matches!(judge(status, None), Err(Trouble::Refused(_))), "{status}");
        }
        for status in [301, 401, 403, 404, 429, 502, 503, 504] {
            assert!(matches!(judge(status, None), Err(Trouble::Failed(_))), "{status}");
        }
        let Err(Trouble::Later(said, after)) = judge(429, Some("7")) else { panic!("it names a time") };
        assert_eq!((after, said.contains("429")), (Duration::from_secs(7), true));
        assert!(matches!(judge(503, Some("soon")), Err(Trouble::Failed(_))));
    }

    #[test]
    fn what_was_thrown_away_is_told() {
        let partial = ExportLogsPartialSuccess { rejected_log_records: 3, error_message: "too\u{1b}old".to_owned() };
        let answer = ExportLogsServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let rejected = judged(StatusCode::OK, None, &answer).expect("taken").expect("some");
        assert_eq!((rejected.count, rejected.said.as_str()), (3, "too\\u{1b}old"));
    }

    /// A 200 of something else, such as a login page, is no acknowledgement.
    #[test]
    fn only_a_receiver_acknowledges() {
        let Err(Trouble::Failed(said)) = judged(StatusCode::OK, None, b"<html>sign in</html>") else {
            panic!("no receiver")
        };
        assert!(said.contains("not in OTLP"), "{said}");
    }

    /// S-99: what a receiver says back of its own credentials is in no log.
    #[test]
    fn a_credential_that_comes_back_is_not_told() {
        let value = HeaderValue::from_static("Bearer k-0123456789");
        let settings = OtlpSink {
            url: "http://127.0.0.1:1/v1/logs".parse().expect("a URL"),
            headers: vec![(header::AUTHORIZATION, value)],
            tls: None,
        };
        let sink = Otlp::new(settings);
        assert_eq!(sink.hidden("Bearer k-0123456789 is no key; k-0123456789"), "*** is no key; ***");
    }

    #[test]
    fn a_receivers_words_are_told() {
        let answer = Said { message: "bad record".to_owned() }.encode_to_vec();
        let Err(Trouble::Refused(said)) = judged(StatusCode::BAD_REQUEST, None, &answer) else { panic!("refused") };
        assert!(said.ends_with(": bad record"), "{said}");
    }
}
