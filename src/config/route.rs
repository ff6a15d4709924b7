//! `routes`: from as written to as meant.

use super::{
    Allow, ProviderKind, ProviderSettings, bodies, credential,
    file::{BodyFile, ConfigFile, PathsFile, ProviderFile, RouteFile, TimeoutsFile},
    limits,
    meaning::{MONTH, Meaning, entry},
    mistake::{Mistake, either, nearest, quote},
    provider::{kind, name, unique},
    route_tokens::Issuers,
    step_up, upstream,
    value::{self, Expected},
};
use crate::{
    canonical::Host,
    group::Role,
    principal::Name,
    route::{ErrorBody, GroupPattern, HostHeader, Route, Timeouts, UserTemplate},
    upstream::{Resolver, Upstream},
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use url::Url;

/// All routes that are free of mistakes.
pub(super) fn all(
    meaning: &mut Meaning<'_, '_>,
    written: &ConfigFile,
    public_url: Option<&Url>,
    listen: &[(String, SocketAddr)],
    settings: &[Arc<ProviderSettings>],
) -> Vec<Route> {
    let routes = written.routes.as_deref().unwrap_or_default();
    if routes.is_empty() {
        meaning.report.add(Mistake::new("routes", "`routes` is empty").expected("expected at least one route"));
    }
    unique(meaning, "routes", routes.iter().map(|it| it.name.as_deref()));
    let named = |it: &ProviderFile| Some((it.name.as_deref()?.parse().ok()?, kind(it.kind.unwrap_or_default())));
    let kinds: Vec<(Name, ProviderKind)> = written.providers.iter().flatten().filter_map(named).collect();
    let without = |it: &&ProviderFile| {
        let claim = it.membership.as_ref().and_then(|it| it.claim.as_ref());
        claim.is_none() && kind(it.kind.unwrap_or_default()).groups_claim().is_none()
    };
    let groupless = written.providers.iter().flatten().filter(without).filter_map(|it| it.name.clone());
    let context = Context {
        groupless: groupless.collect(),
        providers: kinds.iter().map(|(name, _)| name.clone()).collect(),
        kinds,
        issuers: Issuers::of(written),
        public_host: public_url.and_then(|url| url.host_str()?.parse().ok()),
        single: routes.len() == 1,
        https: public_url.is_none_or(|url| url.scheme() == "https"),
        listen,
        settings: (written.providers.as_deref().unwrap_or_default(), settings),
    };
    let mut others = Others::default();
    let read: Vec<_> =
        routes.iter().enumerate().map(|(index, it)| context.one(meaning, index, it, &mut others)).collect();
    read.into_iter().flatten().collect()
}

/// What every route has to know of the rest.
struct Context<'a> {
    providers: Vec<Name>,
    kinds: Vec<(Name, ProviderKind)>,
    issuers: Issuers<'a>,
    /// Providers that say nobody's groups.
    groupless: Vec<String>,
    public_host: Option<Host>,
    single: bool,
    https: bool,
    listen: &'a [(String, SocketAddr)],
    /// The providers as written, and those without mistakes as meant.
    settings: (&'a [ProviderFile], &'a [Arc<ProviderSettings>]),
}

/// Which route answers to a host and a folded path.
type Taken = BTreeMap<(Host, String), usize>;

/// What the routes above have.
#[derive(Default)]
struct Others {
    taken: Taken,
    fields: bodies::Named,
}

impl Context<'_> {
    fn one(
        &self,
        meaning: &mut Meaning<'_, '_>,
        index: usize,
        written: &RouteFile,
        others: &mut Others,
    ) -> Option<Route> {
        let key = |key| entry("routes", index, key);
        let name = meaning.read(&key("name"), written.name.as_deref(), name);
        let host = self.host(meaning, index, written.host.as_deref());
        let path = meaning.read(&key("path"), written.path.as_deref().or(Some("/")), value::path);
        if let (Some(host), Some(path)) = (&host, &path) {
            overlap(meaning, index, host, path, &mut others.taken);
        }
        let host_header = meaning.read(&key("host_header"), written.host_header.as_deref(), host_header);
        let host_header = host_header.unwrap_or_default();
        let upstream = written
            .upstream
            .as_ref()
            .and_then(|it| upstream::one(meaning, &key("upstream"), it, &host_header, self.listen));
        let providers = self.providers(meaning, &key("providers"), written.providers.as_deref());
        let issuers = self.issuers.named(meaning, &key("token_issuers"), written.token_issuers.as_deref());
        let tokens = self.issuers.tokens(meaning, index, written, &issuers);
        let header_provider =
            header_provider(meaning, &key("header_provider"), written.header_provider.as_deref(), &providers);
        let audience = meaning.text(&key("audience"), written.audience.as_deref());
        labels(meaning, &key("labels"), written.labels.as_ref());
        let groups_header = self.groups(meaning, &key("groups_header"), written.groups_header.as_deref(), &providers);
        let origins = origins(meaning, &key("origins"), written.origins.as_deref().unwrap_or_default());
        let timeouts = timeouts(meaning, &key("timeouts"), written.timeouts.clone().unwrap_or_default());
        let people = !providers.is_empty() || written.providers.as_ref().is_some_and(|it| !it.is_empty());
        let unsure = written.token_issuers.as_ref().is_some_and(|it| it.len() > issuers.len());
        let come = |whom| unsure || self.issuers.bring(&issuers, people, whom);
        let limits = written.limits.as_ref().map(|it| limits::read(meaning, &key("limits"), it, come));
        let allow = self.allow(meaning, &key("allow"), written.allow.as_deref().unwrap_or_default(), &providers);
        let cors = written.cors.as_ref().map(|it| super::cors::read(meaning, &key("cors"), it));
        let frame = written.frame.as_ref().map(|it| super::frame::read(meaning, &key("frame"), it, self.https));
        let backstage_user = meaning.read(&key("backstage_user"), written.backstage_user.as_deref(), |text| {
            UserTemplate::parse(text)
                .map_err(|help| Expected::new("a template, such as `user:default/{login}`").help(help))
        });
        let rules = written.body_fields.as_deref().unwrap_or_default();
        let body_fields = bodies::read(meaning, &key("body_fields"), rules, path.as_deref(), &mut others.fields);
        let idle = super::expiry::idle(meaning, &key("idle"), written.idle.as_ref());
        let grace = written.grace.as_ref().map(|it| super::expiry::grace(meaning, &key("grace"), it));
        let redact_paths = written.redact_paths.as_deref().unwrap_or_default();
        let redact = super::expiry::redact(meaning, &key("redact_paths"), redact_paths, path.as_deref());
        let here = self.kinds.iter().filter(|(name, _)| providers.contains(name));
        let step_up = written.step_up.as_ref();
        let step_up = step_up.map(|it| step_up::read(meaning, &key("step_up"), it, &Vec::from_iter(here), &allow));
        let around = credential::Around { providers: self.settings, upstream: upstream.as_ref() };
        let credential = written.credential.as_ref().map(|it| credential::read(meaning, index, written, it, &around));
        let name = name?;
        Some(Route {
            index,
            audience: audience.map_or_else(|| name.as_str().into(), Into::into),
            name,
            host: host?,
            path: path?.into(),
            exact: matches!(written.paths, Some(PathsFile::Exact)),
            upstream: Upstream::new(upstream?, Resolver::System),
            strip_path: written.strip_path.unwrap_or(false),
            host_header,
            providers: providers.into(),
            token_issuers: issuers.into(),
            tokens,
            header_provider,
            labels: written.labels.clone().unwrap_or_default(),
            groups_header: groups_header.into(),
            origins: origins.into(),
            cors: match cors {
                Some(cors) => Some(cors?),
                None => None,
            },
            frame: frame.unwrap_or_default().into(),
            backstage_user,
            idle,
            grace,
            step_up: match step_up {
                Some(step_up) => Some(step_up?.into()),
                None => None,
            },
            credential: match credential {
                Some(credential) => Some(credential?),
                None => None,
            },
            body_fields,
            redact,
            encoded_slash: written.encoded_slash.unwrap_or(false),
            errors: match written.body.unwrap_or_default() {
                BodyFile::Problem => ErrorBody::Problem,
                BodyFile::Backstage => ErrorBody::Backstage,
            },
            timeouts,
            limits: limits.unwrap_or_default(),
            allow,
        })
    }

    fn host(&self, meaning: &mut Meaning<'_, '_>, index: usize, written: Option<&str>) -> Option<Host> {
        let key = entry("routes", index, "host");
        let Some(text) = written else {
            if !self.single {
                meaning.report.add(
                    Mistake::new(&key, format!("`{key}` is missing"))
                        .expected("expected a key `host` here")
                        .help("with several routes each says its host, such as `host: portal.example.com`".to_owned()),
                );
                return None;
            }
            return self.public_host.clone();
        };
        meaning.read(&key, Some(text), host)
    }

    fn providers(&self, meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&[String]>) -> Vec<Name> {
        let Some(written) = written else { return self.providers.clone() };
        if written.is_empty() {
            meaning.report.add(
                Mistake::new(key, format!("`{key}` is empty"))
                    .expected("expected at least one provider")
                    .help("remove the key for all of them".to_owned()),
            );
        }
        let each = written.iter().enumerate().filter_map(|(index, text)| {
            let key = format!("{key}[{index}]");
            if written[..index].contains(text) {
                meaning.refuse(&key, text, Expected::new("every provider once"));
            }
            meaning.read(&key, Some(text), |text| known(text, &self.providers))
        });
        each.collect()
    }

    fn groups(
        &self,
        meaning: &mut Meaning<'_, '_>,
        key: &str,
        written: Option<&[String]>,
        providers: &[Name],
    ) -> Vec<GroupPattern> {
        let each = written.unwrap_or_default().iter().enumerate().filter_map(|(index, text)| {
            meaning.read(&format!("{key}[{index}]"), Some(text), |text| self.pattern(text, providers))
        });
        each.collect()
    }

    fn allow(&self, meaning: &mut Meaning<'_, '_>, key: &str, written: &[String], providers: &[Name]) -> Vec<Allow> {
        let each = written.iter().enumerate().filter_map(|(index, text)| {
            meaning.read(&format!("{key}[{index}]"), Some(text), |text| match text {
                "public" => Ok(Allow::Public),
                "signed-in" => Ok(Allow::SignedIn),
                _ if text.contains(':') && text.contains('#') => self.role(text, providers),
                _ if text.contains(':') => self.pattern(text, providers).map(Allow::Groups),
                _ => {
                    let expected = Expected::new("`public`, `signed-in`, `PROVIDER:group` or `PROVIDER:group/**`");
                    Err(match (nearest(text, ["public", "signed-in"]), self.providers.first()) {
                        (Some(near), _) => expected.help(format!("did you mean `{near}`?")),
                        (None, Some(provider)) => {
                            expected.help(format!("a group is written with its provider: `{provider}:{text}`"))
                        }
                        (None, None) => expected,
                    })
                }
            })
        });
        each.collect()
    }

    /// `gitlab:acme/platform#maintainer`.
    fn role(&self, text: &str, providers: &[Name]) -> Result<Allow, Expected> {
        let roles = Role::ALL.map(Role::as_str);
        let expected = || Expected::new(format!("`PROVIDER:group#ROLE`, with a role of `{}`", roles.join("`, `")));
        let (group, role) = text.split_once('#').ok_or_else(expected)?;
        let role = role.parse().map_err(|()| match nearest(role, roles) {
            Some(near) => expected().help(format!("did you mean `{group}#{near}`?")),
            None => expected(),
        })?;
        match self.pattern(group, providers)? {
            GroupPattern::Group(provider, path) => Ok(Allow::Role(provider, path, role)),
            GroupPattern::Tree(provider, path) => {
                Err(expected().help(format!("a role is one group's: write `{provider}:{path}#{}`", role.as_str())))
            }
        }
    }

    /// `gitlab:acme` or `gitlab:acme/**`, of a provider whose people may come here.
    fn pattern(&self, text: &str, providers: &[Name]) -> Result<GroupPattern, Expected> {
        let expected = || Expected::new("`PROVIDER:group` or `PROVIDER:group/**`");
        let (provider, path) = text.split_once(':').ok_or_else(expected)?;
        let provider = known(provider, &self.providers)?;
        if !providers.contains(&provider) {
            let help = format!("this route's `providers` leaves out `{provider}`, so nobody of it comes here");
            return Err(Expected::new(format!("a group of {}", either_names(providers))).help(help));
        }
        if self.groupless.iter().any(|name| name == provider.as_str()) {
            let help = "write the claim that lists them in `membership.claim`, if there is one";
            return Err(Expected::new(format!("no group of `{provider}`, which says nobody's groups")).help(help));
        }
        if let Some((group, _)) = path.split_once('#') {
            let help = format!("a role stands in `allow` only: write the group, `{provider}:{group}`");
            return Err(expected().help(help));
        }
        let (path, tree) = path.strip_suffix("/**").map_or((path, false), |path| (path, true));
        if path.contains('*') {
            return Err(expected().help("`*` stands only in `/**` at the end: the group and all below it"));
        }
        let group = path.parse().map_err(|error: crate::group::GroupPathError| {
            expected().help(if path.starts_with('/') {
                "leave out the first `/`".to_owned()
            } else {
                error.to_string()
            })
        })?;
        Ok(if tree { GroupPattern::Tree(provider, group) } else { GroupPattern::Group(provider, group) })
    }
}

fn host(text: &str) -> Result<Host, Expected> {
    let expected = || Expected::new("a host without scheme and port, such as `portal.example.com`");
    if text.contains("://") {
        return Err(match Url::parse(text).ok().and_then(|url| url.host_str().map(str::to_owned)) {
            Some(host) => expected().help(format!("write `{host}`")),
            None => expected(),
        });
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && !host.contains(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(expected().help(format!("hosts match whatever the port: write `{host}`")));
    }
    if text.contains('*') {
        return Err(expected().help("a route has one host: `*` is not known here"));
    }
    text.parse().map_err(|_| expected())
}

/// `preserve`, `upstream`, or a host and perhaps a port.
fn host_header(text: &str) -> Result<HostHeader, Expected> {
    let expected =
        || Expected::new("`preserve`, `upstream` or a host, such as `portal.internal` or `portal.internal:8080`");
    match text {
        "preserve" => return Ok(HostHeader::Preserve),
        "upstream" => return Ok(HostHeader::Upstream),
        _ => {}
    }
    if text.contains("://") {
        return Err(expected().help("leave out the scheme"));
    }
    if let Some(near) = nearest(text, ["preserve", "upstream"]) {
        return Err(expected().help(format!("did you mean `{near}`?")));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let fits = host.parse::<Host>().is_ok()
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port));
    fits.then(|| HostHeader::Literal(text.into())).ok_or_else(expected)
}

/// Two routes for one host and path would leave it to chance which one decides.
fn overlap(meaning: &mut Meaning<'_, '_>, index: usize, host: &Host, path: &str, taken: &mut Taken) {
    let place = (host.clone(), path.to_ascii_lowercase());
    let Some(first) = taken.get(&place) else {
        taken.insert(place, index);
        return;
    };
    let line = meaning.report.line(&format!("routes[{first}]"));
    meaning.report.add(
        Mistake::new(
            entry("routes", index, "path"),
            format!("`routes[{index}]` and `routes[{first}]` both answer to `{host}{}`", place.1),
        )
        .expected("overlaps")
        .help(format!(
            "give it another `path` or `host` than the route on line {line} has; upper and lower case are the same here"
        )),
    );
}

fn known(text: &str, providers: &[Name]) -> Result<Name, Expected> {
    providers.iter().find(|name| name.as_str() == text).cloned().ok_or_else(|| {
        let names = providers.iter().map(Name::as_str);
        let expected = Expected::new(format!("the provider {}", either_names(providers)));
        match nearest(text, names) {
            Some(near) => expected.help(format!("did you mean `{near}`?")),
            None => expected.help(format!("no provider is named {}", quote(text))),
        }
    })
}

fn either_names(names: &[Name]) -> String {
    either(&names.iter().map(Name::as_str).collect::<Vec<_>>())
}

fn header_provider(
    meaning: &mut Meaning<'_, '_>,
    key: &str,
    written: Option<&str>,
    providers: &[Name],
) -> Option<Name> {
    match (written, providers) {
        (Some(text), _) => meaning.read(key, Some(text), |text| known(text, providers)),
        (None, [one]) => Some(one.clone()),
        (None, []) => None,
        (None, [first, ..]) => {
            let help = format!(
                "identity headers such as `X-Forwarded-User` are sent for people of one provider only: write `header_provider: {first}` or another"
            );
            meaning.report.add(
                Mistake::new(key, format!("`{key}` is missing, and this route takes people of several providers"))
                    .expected("expected a key `header_provider` here")
                    .help(help),
            );
            None
        }
    }
}

fn labels(meaning: &mut Meaning<'_, '_>, key: &str, written: Option<&BTreeMap<String, String>>) {
    for label in written.into_iter().flat_map(BTreeMap::keys) {
        let fits = label.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !fits {
            let full = format!("{key}.{label}");
            meaning.report.add(
                Mistake::new(&full, format!("`{key}` has the label {}", quote(label)))
                    .at_key()
                    .expected("expected a letter or `_`, then letters, digits and `_`")
                    .help("policies name it as an attribute of the route".to_owned()),
            );
        }
    }
}

pub(super) fn origins(meaning: &mut Meaning<'_, '_>, key: &str, written: &[String]) -> Vec<String> {
    let each = written.iter().enumerate().filter_map(|(index, text)| {
        let url = meaning.read(&format!("{key}[{index}]"), Some(text), value::origin)?;
        Some(url.origin().ascii_serialization())
    });
    each.collect()
}

fn timeouts(meaning: &mut Meaning<'_, '_>, key: &str, written: TimeoutsFile) -> Timeouts {
    let mut read = |name: &str, written: Option<_>, default| {
        let allowed = Duration::from_millis(1)..=MONTH;
        meaning.duration(&format!("{key}.{name}"), written, Duration::from_secs(default), allowed)
    };
    Timeouts {
        connect: read("connect", written.connect.as_ref(), 5),
        first_byte: read("first_byte", written.first_byte.as_ref(), 60),
        request_idle: read("request_idle", written.request_idle.as_ref(), 30),
        stream_idle: read("stream_idle", written.stream_idle.as_ref(), 600),
    }
}
