//! The effective configuration, in the shape in which it is written.

use super::{
    Allow, AuditMode, Certificate, Listen, ProviderKind, ProviderSettings, Pseudonym, Retention, Settings, TlsVersion,
    TokenIssuerSettings, TokenKind, credential,
    file::{
        AuditFile, BodyFieldFile, BodyFile, BodyRuleFile, CertificateFile, ClaimsFile, ClientCertificatesFile,
        ConfigFile, ContactFile, CorsFile, DurationText, FrameFile, GraceFile, GraphFile, HealthFile, HealthKeysFile,
        IdleFile, KindFile, LimitFile, LimitsFile, ListenFile, ListenerFile, MembershipApiFile, MembershipFile,
        MembershipHookFile, ModeFile, OperationsFile, PathsFile, ProviderFile, PseudonymFile, RateText, ReadingFile,
        RetentionFile, RouteFile, RouteLimitsFile, SecretFile, SessionsFile, SizeText, StepUpFile, TimeoutsFile,
        TlsFile, TlsVersionFile, TokenClaimsFile, TokenIssuerFile, UpstreamFile, UpstreamTlsFile, UpstreamsFile,
    },
    sinks,
    value::{write_duration, write_size},
};
use crate::{
    fairness::{Limit, Whom},
    route::{Activity, BodyField, BodyRule, Cors, ErrorBody, GroupPattern, HostHeader, Reading, Route},
    upstream::UpstreamSettings,
};
use std::{path::Path, time::Duration};

/// All settings as a file would have them. A secret is shown by its source, which only `written` knows.
pub(super) fn effective(settings: &Settings, written: &ConfigFile) -> ConfigFile {
    let base = settings.file.parent().unwrap_or(Path::new(""));
    let sources = written.providers.iter().flatten();
    let routes = settings.routes.iter().zip(written.routes.iter().flatten());
    let listeners = settings.listen.iter().map(listener);
    ConfigFile {
        public_url: Some(settings.public_url.origin().ascii_serialization()),
        listen: Some(ListenFile::Many(listeners.collect())),
        operations: settings.operations.map(|it| OperationsFile { address: Some(it.to_string()) }),
        trusted_proxies: Some(settings.trusted_proxies.iter().map(ToString::to_string).collect()),
        state: path(&settings.state),
        keys: path(&settings.keys),
        providers: written
            .providers
            .is_some()
            .then(|| settings.providers.iter().zip(sources).map(|(it, source)| provider(it, source, base)).collect()),
        token_issuers: token_issuers(settings, written, base),
        routes: Some(routes.map(|(it, source)| route(it, source, base)).collect()),
        policies: settings.policies.as_ref().and_then(|it| path(it)),
        shadow_policies: settings.shadow_policies.as_ref().and_then(|it| path(it)),
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
            retention: (settings.audit.retention != Retention::default()).then(|| RetentionFile {
                age: settings.audit.retention.age.and_then(duration),
                size: settings.audit.retention.size.map(|size| SizeText(write_size(size))),
            }),
            sinks: Some(sinks::shown(settings, written, |it| secret(it, base))),
            pseudonyms: Some(settings.audit.pseudonyms.iter().map(pseudonym).collect()),
        }),
        workers: u64::try_from(settings.workers).ok(),
        drain: duration(settings.drain),
        limits: Some(LimitsFile {
            connections: u64::try_from(settings.limits.connections).ok(),
            connections_per_address: u64::try_from(settings.limits.connections_per_address).ok(),
        }),
        contact: settings
            .contact
            .as_ref()
            .map(|contact| ContactFile { name: Some(contact.name.clone()), url: Some(contact.url.to_string()) }),
        hsts: duration(settings.hsts),
    }
}

fn pseudonym(settings: &Pseudonym) -> PseudonymFile {
    match settings {
        Pseudonym::Email => PseudonymFile::Email,
        Pseudonym::Address => PseudonymFile::Address,
    }
}

fn listener(settings: &Listen) -> ListenerFile {
    ListenerFile {
        address: Some(settings.at.to_string()),
        tls: settings.tls.as_ref().map(|tls| TlsFile {
            certificate: None,
            key: None,
            certificates: Some(tls.certificates.iter().map(|it| certificate(it)).collect()),
            minimum: Some(match tls.minimum {
                TlsVersion::Tls12 => TlsVersionFile::Tls12,
                TlsVersion::Tls13 => TlsVersionFile::Tls13,
            }),
        }),
        client_certificates: settings
            .tls
            .as_ref()
            .and_then(|tls| tls.clients.as_ref())
            .map(|it| ClientCertificatesFile { ca: path(&it.file), required: Some(it.required) }),
        proxy_protocol: Some(settings.proxy_protocol),
    }
}

fn certificate(settings: &Certificate) -> CertificateFile {
    CertificateFile { certificate: path(&settings.file), key: path(&settings.key_file) }
}

fn cors(settings: &Cors) -> CorsFile {
    let names = |names: &[http::HeaderName]| Some(names.iter().map(ToString::to_string).collect());
    CorsFile {
        origins: Some(settings.origins.to_vec()),
        methods: Some(settings.methods.iter().map(ToString::to_string).collect()),
        headers: names(&settings.headers),
        expose: names(&settings.expose),
        credentials: Some(settings.credentials),
        max_age: duration(settings.max_age),
    }
}

fn provider(settings: &ProviderSettings, source: &ProviderFile, base: &Path) -> ProviderFile {
    let secret = |it: &Option<SecretFile>| secret(it, base);
    let membership = source.membership.as_ref();
    ProviderFile {
        name: Some(settings.name.to_string()),
        kind: Some(match settings.kind {
            ProviderKind::Gitlab => KindFile::Gitlab,
            ProviderKind::Okta => KindFile::Okta,
            ProviderKind::Entra => KindFile::Entra,
            ProviderKind::Keycloak => KindFile::Keycloak,
            ProviderKind::Google => KindFile::Google,
            ProviderKind::Oidc => KindFile::Oidc,
        }),
        title: Some(settings.title.clone()),
        issuer: Some(settings.issuer.clone()),
        client_id: Some(settings.client_id.clone()),
        client_secret: secret(&source.client_secret),
        scopes: Some(settings.scopes.clone()),
        tenants: (!settings.tenants.is_empty()).then(|| settings.tenants.iter().map(ToString::to_string).collect()),
        hosted_domains: (!settings.hosted_domains.is_empty()).then(|| settings.hosted_domains.clone()),
        claims: Some(ClaimsFile {
            login: settings.claims.login.clone(),
            email: Some(settings.claims.email.clone()),
            name: Some(settings.claims.name.clone()),
        }),
        membership: Some(MembershipFile {
            refresh: duration(settings.membership_refresh),
            outage: duration(settings.membership_outage),
            claim: settings.groups_claim.clone(),
            graph: settings.graph.as_ref().map(|url| GraphFile { url: Some(url.origin().ascii_serialization()) }),
            without_refresh: duration(settings.without_refresh),
            api: settings.api.as_ref().map(|it| MembershipApiFile {
                token: membership.and_then(|it| it.api.as_ref()).and_then(|it| secret(&it.token)),
                url: Some(it.url.clone()),
                rotate: Some(it.rotate),
            }),
            hook: membership.and_then(|it| it.hook.as_ref()).map(|it| MembershipHookFile {
                token: secret(&it.token),
                signing_key: secret(&it.signing_key),
                audit_token: secret(&it.audit_token),
            }),
        }),
    }
}

/// Where a secret is; a file by its whole path.
fn secret(source: &Option<SecretFile>, base: &Path) -> Option<SecretFile> {
    source
        .as_ref()
        .map(|it| SecretFile { file: it.file.as_deref().map(|file| absolute(file, base)), env: it.env.clone() })
}

fn absolute(file: &str, base: &Path) -> String {
    base.join(file.strip_prefix("./").unwrap_or(file)).display().to_string()
}

fn token_issuers(settings: &Settings, written: &ConfigFile, base: &Path) -> Option<Vec<TokenIssuerFile>> {
    let sources = written.token_issuers.as_ref()?;
    Some(settings.token_issuers.iter().zip(sources).map(|(it, source)| token_issuer(it, source, base)).collect())
}

/// What is written, with the defaults of its kind.
fn token_issuer(settings: &TokenIssuerSettings, source: &TokenIssuerFile, base: &Path) -> TokenIssuerFile {
    let verified = matches!(settings.kind, TokenKind::GitlabCi(_) | TokenKind::Jwt(_));
    let ci = match &settings.kind {
        TokenKind::GitlabCi(ci) => Some(ci),
        TokenKind::Jwt(_) | TokenKind::Introspection(_) | TokenKind::Certificate => None,
    };
    let names = match &settings.kind {
        TokenKind::Jwt(tokens) => Some(&tokens.claims),
        TokenKind::Introspection(asked) => Some(&asked.claims),
        TokenKind::GitlabCi(_) | TokenKind::Certificate => None,
    };
    let has_tokens = !matches!(settings.kind, TokenKind::Certificate);
    TokenIssuerFile {
        issuer: settings.issuer.clone(),
        algorithms: verified.then(|| settings.algorithms.clone()),
        max_age: duration(settings.max_age).filter(|_| has_tokens),
        jwks_file: source.jwks_file.as_deref().map(|file| absolute(file, base)),
        claims: names.map(|names| TokenClaimsFile {
            subject: Some(names.subject.clone()),
            login: names.login.clone(),
            groups: Some(names.groups.clone()),
            client_id: names.client_id.clone(),
            scopes: names.scopes.clone(),
        }),
        projects: ci.map(|ci| ci.projects.iter().map(|(path, id)| (path.to_string(), *id)).collect()),
        legacy_project: ci.map(|ci| ci.legacy_project),
        client_secret: secret(&source.client_secret, base),
        ..source.clone()
    }
}

fn route(settings: &Route, source: &RouteFile, base: &Path) -> RouteFile {
    RouteFile {
        name: Some(settings.name.to_string()),
        host: Some(settings.host.to_string()),
        path: Some(settings.path.to_string()),
        paths: Some(if settings.exact { PathsFile::Exact } else { PathsFile::Folded }),
        upstream: Some(UpstreamFile::Many(Box::new(upstream(&settings.upstream.settings)))),
        strip_path: Some(settings.strip_path),
        host_header: Some(match &settings.host_header {
            HostHeader::Preserve => "preserve".to_owned(),
            HostHeader::Upstream => "upstream".to_owned(),
            HostHeader::Literal(host) => host.to_string(),
        }),
        providers: Some(settings.providers.iter().map(ToString::to_string).collect()),
        token_issuers: Some(settings.token_issuers.iter().map(ToString::to_string).collect()),
        basic: Some(settings.tokens.basic),
        token_header: settings.tokens.header.as_ref().map(ToString::to_string),
        forward_credential: Some(settings.tokens.forward),
        one_time: Some(settings.tokens.one_time),
        running_job: Some(settings.tokens.running_job),
        header_provider: settings.header_provider.as_ref().map(ToString::to_string),
        audience: Some(settings.audience.to_string()),
        labels: Some(settings.labels.clone()),
        groups_header: Some(settings.groups_header.iter().map(pattern).collect()),
        backstage_user: settings.backstage_user.as_ref().map(ToString::to_string),
        origins: Some(settings.origins.to_vec()),
        cors: settings.cors.as_ref().map(cors),
        frame: (!settings.frame.is_empty()).then(|| FrameFile { ancestors: Some(settings.frame.to_vec()) }),
        idle: Some(match &settings.idle {
            Activity::Navigations => IdleFile::One("navigations".to_owned()),
            Activity::Any => IdleFile::One("any".to_owned()),
            Activity::Paths(paths) => IdleFile::Many(paths.iter().map(ToString::to_string).collect()),
        }),
        grace: settings.grace.as_ref().map(|grace| GraceFile {
            paths: Some(grace.paths.iter().map(ToString::to_string).collect()),
            life: duration(grace.life),
        }),
        redact_paths: Some(
            settings.redact.iter().flat_map(|redact| redact.patterns()).map(ToString::to_string).collect(),
        ),
        step_up: settings
            .step_up
            .as_ref()
            .map(|it| StepUpFile { acr: it.acr.as_deref().map(str::to_owned), max_age: it.max_age.and_then(duration) }),
        credential: settings
            .credential
            .as_ref()
            .zip(source.credential.as_ref())
            .map(|(it, source)| credential::shown(it, source, |it| secret(it, base))),
        body_fields: Some(settings.body_fields.iter().map(|rule| body_rule(rule)).collect()),
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
        limits: (!settings.limits.is_empty()).then(|| RouteLimitsFile {
            address: settings.limits.of(Whom::Address).map(limit),
            user: settings.limits.of(Whom::User).map(limit),
            job: settings.limits.of(Whom::Job).map(limit),
            project: settings.limits.of(Whom::Project).map(limit),
            service: settings.limits.of(Whom::Service).map(limit),
        }),
        allow: Some(settings.allow.iter().map(allow).collect()),
    }
}

fn body_rule(rule: &BodyRule) -> BodyRuleFile {
    let field = |field: &BodyField| BodyFieldFile {
        pointer: Some(field.pointer.to_string()),
        reading: Some(match field.reading {
            Reading::String => ReadingFile::String,
            Reading::BackstageRef => ReadingFile::BackstageRef,
        }),
        optional: Some(field.optional),
    };
    BodyRuleFile {
        method: Some(rule.method.to_string()),
        path: Some(rule.path.to_string()),
        max: Some(SizeText(write_size(rule.max))),
        fields: Some(rule.fields.iter().map(|it| (it.name.to_string(), field(it))).collect()),
    }
}

fn limit(settings: &Limit) -> LimitFile {
    LimitFile {
        requests: settings.rate.as_ref().map(|rate| RateText(rate.to_string())),
        burst: settings.rate.as_ref().map(|rate| rate.burst.into()),
        concurrent: settings.concurrent.map(Into::into),
    }
}

fn upstream(settings: &UpstreamSettings) -> UpstreamsFile {
    UpstreamsFile {
        urls: Some(settings.places.iter().map(|place| settings.url(place)).collect()),
        health: settings.health.as_ref().map(|it| {
            HealthFile::Many(HealthKeysFile {
                path: Some(it.path.to_string()),
                interval: duration(it.interval),
                timeout: duration(it.timeout),
                healthy: Some(it.healthy.into()),
                unhealthy: Some(it.unhealthy.into()),
            })
        }),
        tls: settings.tls.as_ref().map(|it| UpstreamTlsFile {
            ca: it.source.ca.as_deref().and_then(path),
            name: it.source.name.as_ref().map(|name| name.to_str().into_owned()),
            certificate: it.source.certificate.as_deref().and_then(path),
            key: it.source.key.as_deref().and_then(path),
            insecure_skip_verify: Some(it.source.insecure_skip_verify),
        }),
        http2: Some(settings.http2),
        connections: u64::try_from(settings.connections).ok(),
        slow_start: duration(settings.slow_start),
        retries: Some(settings.retries.into()),
    }
}

fn allow(allow: &Allow) -> String {
    match allow {
        Allow::Public => "public".to_owned(),
        Allow::SignedIn => "signed-in".to_owned(),
        Allow::Groups(groups) => pattern(groups),
        Allow::Role(provider, path, role) => format!("{provider}:{path}#{}", role.as_str()),
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
