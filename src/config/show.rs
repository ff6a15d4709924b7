//! The effective configuration, in the shape in which it is written.

use super::{
    Allow, AuditMode, ProviderKind, ProviderSettings, Settings,
    file::{
        AuditFile, BodyFile, ConfigFile, DurationText, KindFile, ListenFile, ListenerFile, MembershipFile, ModeFile,
        OperationsFile, PathsFile, ProviderFile, RouteFile, SecretFile, SessionsFile, SizeText, TimeoutsFile,
        UpstreamFile,
    },
    value::{write_duration, write_size},
};
use crate::route::{ErrorBody, GroupPattern, Route};
use std::{path::Path, time::Duration};

/// All settings as a file would have them. A secret is shown by its source, which only `written` knows.
pub(super) fn effective(settings: &Settings, written: &ConfigFile) -> ConfigFile {
    let base = settings.file.parent().unwrap_or(Path::new(""));
    let sources = written.providers.iter().flatten().map(|it| it.client_secret.as_ref());
    let listeners = settings.listen.iter().map(|it| ListenerFile { address: Some(it.address.to_string()) });
    ConfigFile {
        public_url: Some(settings.public_url.origin().ascii_serialization()),
        listen: Some(ListenFile::Many(listeners.collect())),
        operations: settings.operations.map(|it| OperationsFile { address: Some(it.to_string()) }),
        trusted_proxies: Some(settings.trusted_proxies.iter().map(ToString::to_string).collect()),
        state: path(&settings.state),
        keys: path(&settings.keys),
        providers: Some(
            settings.providers.iter().zip(sources).map(|(it, source)| provider(it, source, base)).collect(),
        ),
        routes: Some(settings.routes.iter().map(route).collect()),
        policies: settings.policies.as_ref().and_then(|it| path(it)),
        sessions: Some(SessionsFile {
            idle: duration(settings.sessions.idle),
            absolute: duration(settings.sessions.absolute),
        }),
        audit: Some(AuditFile {
            mode: Some(match settings.audit.mode {
                AuditMode::BestEffort => ModeFile::BestEffort,
                AuditMode::Required => ModeFile::Required,
            }),
            segment: Some(SizeText(write_size(settings.audit.segment))),
        }),
        workers: u64::try_from(settings.workers).ok(),
        drain: duration(settings.drain),
    }
}

fn provider(settings: &ProviderSettings, source: Option<&SecretFile>, base: &Path) -> ProviderFile {
    let absolute = |file: &String| base.join(file.strip_prefix("./").unwrap_or(file)).display().to_string();
    ProviderFile {
        name: Some(settings.name.to_string()),
        kind: Some(match settings.kind {
            ProviderKind::Gitlab => KindFile::Gitlab,
            ProviderKind::Okta => KindFile::Okta,
            ProviderKind::Keycloak => KindFile::Keycloak,
            ProviderKind::Oidc => KindFile::Oidc,
        }),
        title: Some(settings.title.clone()),
        issuer: Some(settings.issuer.clone()),
        client_id: Some(settings.client_id.clone()),
        client_secret: source.map(|it| SecretFile { file: it.file.as_ref().map(absolute), env: it.env.clone() }),
        scopes: Some(settings.scopes.clone()),
        membership: Some(MembershipFile {
            refresh: duration(settings.membership_refresh),
            outage: duration(settings.membership_outage),
            claim: Some(settings.groups_claim.clone()),
            without_refresh: duration(settings.without_refresh),
        }),
    }
}

fn route(settings: &Route) -> RouteFile {
    RouteFile {
        name: Some(settings.name.to_string()),
        host: Some(settings.host.to_string()),
        path: Some(settings.path.to_string()),
        paths: Some(if settings.exact { PathsFile::Exact } else { PathsFile::Folded }),
        upstream: Some(UpstreamFile::One(format!("http://{}", settings.upstream.authority))),
        providers: Some(settings.providers.iter().map(ToString::to_string).collect()),
        header_provider: settings.header_provider.as_ref().map(ToString::to_string),
        audience: Some(settings.audience.to_string()),
        labels: Some(settings.labels.clone()),
        groups_header: Some(settings.groups_header.iter().map(pattern).collect()),
        origins: Some(settings.origins.to_vec()),
        encoded_slash: Some(settings.encoded_slash),
        body: Some(match settings.errors {
            ErrorBody::Problem => BodyFile::Problem,
            ErrorBody::Backstage => BodyFile::Backstage,
        }),
        timeouts: Some(TimeoutsFile {
            connect: duration(settings.timeouts.connect),
            first_byte: duration(settings.timeouts.first_byte),
            request_idle: duration(settings.timeouts.request_idle),
            stream_idle: duration(settings.timeouts.stream_idle),
        }),
        allow: Some(settings.allow.iter().map(allow).collect()),
    }
}

fn allow(allow: &Allow) -> String {
    match allow {
        Allow::Public => "public".to_owned(),
        Allow::SignedIn => "signed-in".to_owned(),
        Allow::Groups(groups) => pattern(groups),
    }
}

fn pattern(pattern: &GroupPattern) -> String {
    match pattern {
        GroupPattern::Group(provider, path) => format!("{provider}:{path}"),
        GroupPattern::Tree(provider, path) => format!("{provider}:{path}/**"),
    }
}

fn path(path: &Path) -> Option<String> {
    Some(path.display().to_string())
}

fn duration(duration: Duration) -> Option<DurationText> {
    Some(DurationText(write_duration(duration)))
}
