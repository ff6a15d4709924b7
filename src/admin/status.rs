//! How the process is, in one look.

use super::{Admin, Kind};
use crate::session::record::seconds;
use serde_json::{Value, json};
use std::time::SystemTime;

impl Admin {
    pub(super) fn status(&self) -> Value {
        let (state, control) = (self.shared.snapshot.load(), &self.shared.control);
        let now = SystemTime::now();
        let age = |at: SystemTime| now.duration_since(at).unwrap_or_default().as_secs();
        let mut providers: Vec<_> = control.providers().values().cloned().collect();
        providers.sort_by(|one, other| one.settings.name.as_str().cmp(other.settings.name.as_str()));
        let provider = |provider: &std::sync::Arc<crate::oidc::Provider>| {
            let status = provider.status();
            json!({
                "name": provider.settings.name.as_str(),
                "issuer": provider.issuer(),
                "ready": provider.ready(),
                "discovered": status.discovered.map(seconds),
                "keys_age": status.keys_read.map(age),
                "clock_ahead": status.clock_ahead,
                "answered": provider.answered().map(seconds),
                "last_error": status.last_error,
            })
        };
        let mut issuers: Vec<_> = state.issuers.values().filter(|issuer| issuer.has_keys()).cloned().collect();
        issuers.sort_by(|one, other| one.settings.name.cmp(&other.settings.name));
        let issuer = |issuer: &std::sync::Arc<crate::oidc::Issuer>| {
            let status = issuer.status();
            json!({
                "name": issuer.settings.name.as_str(),
                "issuer": issuer.settings.issuer,
                "ready": issuer.ready(now),
                "keys_age": status.keys_read.map(age),
                "last_error": status.last_error,
            })
        };
        let tokens = self.shared.membership.tokens();
        let reload = self.shared.last_reload.load();
        let reload = reload.as_ref().map(|last| json!({ "at": seconds(last.at), "refused": last.refused }));
        let shadow = state.shadow.as_ref().map(|shadow| match shadow {
            Ok(policies) => json!({ "policies": policies.digest().to_string() }),
            Err(error) => json!({ "error": error.whole }),
        });
        let sinks = self.audit.shippers().status(now);
        let sink = |sink: &crate::audit::ship::Status| {
            json!({
                "name": sink.name.as_str(),
                "kind": sink.kind,
                "place": sink.place,
                "state": sink.state.as_str(),
                "epoch": sink.position.map(|it| it.0),
                "seq": sink.position.map(|it| it.1),
                "records_behind": sink.figures.records_behind,
                "bytes_behind": sink.figures.bytes_behind,
                "oldest_age": sink.oldest.as_secs(),
                "shipped": sink.shipped,
                "failures": sink.failures,
                "rejected": sink.rejected,
                "unreadable": sink.unreadable,
                "last_success": sink.last_success.map(seconds),
                "last_error": sink.last_error,
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "since": seconds(self.since),
            "configuration": state.settings.digest,
            "policies": state.authorize.digest().to_string(),
            "shadow": shadow,
            "last_reload": reload,
            "public_url": state.settings.public_url.origin().ascii_serialization(),
            "listen": state.settings.listen.iter().map(|listen| listen.at.to_string()).collect::<Vec<_>>(),
            "operations": state.settings.operations.map(|address| address.to_string()),
            "routes": state.routes.all().len(),
            "providers": providers.iter().map(provider).collect::<Vec<_>>(),
            "token_issuers": issuers.iter().map(issuer).collect::<Vec<_>>(),
            "tokens": tokens.iter().map(|(provider, token)| json!({
                "provider": provider.as_str(), "expires": token.expires, "alarm": token.alarm,
            })).collect::<Vec<_>>(),
            "unreadable_groups": self.shared.membership.unreadable().iter()
                .map(|(provider, group)| format!("{provider}:{group}")).collect::<Vec<_>>(),
            "locks": control.locks.all().iter()
                .map(|lock| format!("{} {}", lock.target.kind(), lock.target)).collect::<Vec<_>>(),
            "sessions_in_use": control.sessions_open(),
            "streams": control.streams.len(),
            "journal": {
                "mode": self.audit.mode().as_str(),
                "writable": self.audit.healthy(),
                "written": self.audit.written(),
                "lost": self.audit.lost(),
            },
            "sinks": sinks.iter().map(sink).collect::<Vec<_>>(),
            "ring_keys": control.ring().about().iter().map(|key| key.name.clone()).collect::<Vec<_>>(),
            "in_use": { "ring": self.in_use(Kind::Ring), "assertion": self.in_use(Kind::Assertion) },
            "assertion_keys": self.assertion.about(now).iter().map(|key| key.id.clone()).collect::<Vec<_>>(),
        })
    }
}
