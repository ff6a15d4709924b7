//! A request as a reviewer writes it, read and found as the gateway would.

use crate::{
    canonical::{Canonical, Class, ClientCertificate, Inspected, Judged, Peer, Rules, TlsClient, Transport},
    config::{Settings, TokenIssuerSettings},
    principal::{Name, Principal},
    route::{Destination, Route, Routes},
};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version, header, uri::PathAndQuery};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};
use url::Url;

/// `2026-01-01T12:00:00Z`: when a request is asked if nobody says when.
pub fn usual() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_268_800)
}

/// A request as a reviewer writes it: `GET https://portal.example.com/docs/x`.
pub struct Asking {
    /// Where it goes.
    pub route: Arc<Route>,
    /// What policies look at.
    pub judged: Judged,
    /// When it is asked.
    pub now: SystemTime,
    /// The token issuers that the route takes, and whose people they vouch for.
    people_of: Vec<Name>,
}

/// What is known of a request beside its method and URL.
#[derive(Clone, Debug, Default)]
pub struct More {
    /// Where it comes from. Default: `127.0.0.1`.
    pub client_ip: Option<IpAddr>,
    /// When it is asked. Default: [`usual`].
    pub at: Option<SystemTime>,
    /// It opens a WebSocket.
    pub websocket: bool,
    /// What kind of request it is. Default: [`Class::Machine`].
    pub class: Option<Class>,
    /// The certificate that the client shows.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// The body, in JSON, where a rule of `body_fields` names the request. Default: nobody has read it.
    pub body: Option<String>,
}

/// One configuration, ready for many requests.
pub struct Site {
    routes: Routes,
    public_url: Url,
    issuers: Vec<Arc<TokenIssuerSettings>>,
}

impl Asking {
    /// Reads a request. A URL that is only a path is below `public_url`.
    ///
    /// # Errors
    /// A sentence: it cannot be read, nothing is served there, or no policy is asked about it.
    pub fn of(method: &str, url: &str, more: More, settings: &Settings) -> Result<Self, String> {
        Site::of(settings).ask(method, url, more)
    }

    /// A body as the rule of `body_fields` wants it that names this request, where nobody has read one.
    pub fn missing_body(&self) -> Option<String> {
        let rule = self.route.body_rule(&self.judged.asked).filter(|_| self.judged.is_unread())?;
        Some(rule.example())
    }

    /// Who asks as the gateway sees them here: nobody, where the route takes no people of their provider or no tokens of their
    /// issuer.
    pub fn seen(&self, principal: &Principal) -> Principal {
        let taken = takes(&self.route, &self.people_of, principal);
        if taken { principal.clone() } else { Principal::Anonymous }
    }
}

impl Site {
    /// What these settings serve.
    pub fn of(settings: &Settings) -> Self {
        let public = settings.public_url.host_str().and_then(|host| host.parse().ok());
        let routes = settings.routes.iter().cloned().map(Arc::new).collect();
        let names = settings.providers.iter().map(|provider| provider.name.clone()).collect();
        Self {
            routes: Routes::new(public.expect("the configuration has a public host"), routes, names),
            public_url: settings.public_url.clone(),
            issuers: settings.token_issuers.clone(),
        }
    }

    /// The routes.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Who asks as the gateway sees them on this route: see [`Asking::seen`].
    pub fn seen(&self, route: &Route, principal: &Principal) -> Principal {
        let taken = takes(route, &people_of(&self.issuers, route), principal);
        if taken { principal.clone() } else { Principal::Anonymous }
    }

    /// The scheme and host of a route, with the port that people see.
    pub fn origin(&self, route: &Route) -> String {
        let port = self.public_url.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", self.public_url.scheme(), route.host)
    }

    /// Reads a request.
    ///
    /// # Errors
    /// See [`Asking::of`].
    pub fn ask(&self, method: &str, url: &str, more: More) -> Result<Asking, String> {
        let class = more.class.unwrap_or(if more.websocket { Class::WebSocket } else { Class::Machine });
        let now = more.at.unwrap_or_else(usual);
        let body = more.body.clone();
        let asked = self.read(method, url, class, more)?;
        if asked.class != class {
            return Err(format!(
                "a `{method}` request is never of class `{}`; this one is `{}`",
                class.as_str(),
                asked.class.as_str()
            ));
        }
        match self.routes.find(&asked).map_err(|refusal| refusal.detail)? {
            Destination::Upstream(route) => {
                let people_of = people_of(&self.issuers, route);
                let judged = sent(asked.inspect(route), route, body.as_deref())?;
                Ok(Asking { route: route.clone(), judged, now, people_of })
            }
            Destination::Endpoint(_) => {
                Err(format!("`{}` is answered by the gateway itself, and no policy is asked", asked.target.path))
            }
        }
    }

    fn read(&self, method: &str, url: &str, class: Class, more: More) -> Result<Canonical, String> {
        let method: Method =
            method.parse().map_err(|_| format!("`{method}` is no method, expected one such as `GET`"))?;
        let (authority, target) = self.split(url)?;
        let https = self.public_url.scheme() == "https";
        let mut request = Request::builder().method(method).uri(target).header(header::HOST, authority);
        if class == Class::Grpc {
            request = request.version(Version::HTTP_2);
        }
        let fields = if more.websocket { signs(Class::WebSocket) } else { signs(class) };
        let request = fields.iter().fold(request, |request, (name, value)| {
            request.header(HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        let request = request.body(()).map_err(|error| format!("`{url}` cannot be asked for: {error}"))?;
        let transport = match https {
            true => Transport::Tls(TlsClient { certificate: more.certificate, ..TlsClient::default() }),
            false => Transport::Plain,
        };
        let client = more.client_ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let rules = Rules {
            trusted_proxies: [].into(), // it comes from the client itself
            https,
            session_cookie: "".into(),
            binding_cookie: "".into(),
        };
        let peer = Peer { address: (client, 40_000).into(), transport };
        let asked = Canonical::parse(request, &peer, &rules);
        asked.map(|(asked, ())| asked).map_err(|unread| unread.refusal.detail)
    }

    /// Authority and target of a URL, the target byte for byte.
    fn split<'a>(&'a self, url: &'a str) -> Result<(String, Uri), String> {
        let public = || self.public_url.origin().ascii_serialization();
        let whole = if url.starts_with('/') { format!("{}{url}", public()) } else { url.to_owned() };
        let expected = || format!("`{url}` is no URL, expected one such as `{}/docs/`, or a path", public());
        let (scheme, rest) = whole.split_once("://").ok_or_else(expected)?;
        if !scheme.eq_ignore_ascii_case(self.public_url.scheme()) {
            return Err(format!("`{url}` is not by `{}`, as `{}` is", self.public_url.scheme(), public()));
        }
        if whole.contains('#') {
            return Err(format!("`{url}` has a fragment, which no client sends: leave out what begins with `#`"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let target = PathAndQuery::try_from(target).map_err(|error| format!("`{url}` cannot be asked for: {error}"))?;
        if authority.is_empty() { Err(expected()) } else { Ok((authority.to_owned(), target.into())) }
    }
}

/// Whether a route takes people of this principal's provider, or tokens of its issuer.
pub(super) fn takes(route: &Route, people_of: &[Name], principal: &Principal) -> bool {
    match principal {
        Principal::Anonymous => true,
        Principal::User { person, .. } => {
            let provider = &person.id.provider;
            route.providers.contains(provider) || people_of.contains(provider)
        }
        Principal::Job { job, .. } => route.token_issuers.contains(&job.id.provider),
        Principal::Service { service, .. } => route.token_issuers.contains(&service.id.provider),
    }
}

/// Whose people the tokens are of that a route takes.
pub(super) fn people_of(issuers: &[Arc<TokenIssuerSettings>], route: &Route) -> Vec<Name> {
    let taken = issuers.iter().filter(|issuer| route.token_issuers.contains(&issuer.name));
    taken.filter(|issuer| issuer.has_people()).map(|issuer| issuer.namespace().clone()).collect()
}

/// The request with its body, read as the gateway would.
fn sent(judged: Judged, route: &Route, body: Option<&str>) -> Result<Judged, String> {
    let Some(body) = body else { return Ok(judged) };
    let rule = route.body_rule(&judged.asked).ok_or_else(|| {
        format!("no rule of `body_fields` of route `{}` names this request, so nobody reads its `body`", route.name)
    })?;
    let body = Inspected::read(rule, body.as_bytes()).map_err(|refusal| refusal.detail)?;
    Ok(Judged { body, ..judged })
}

/// The fields by which a request of this class is known.
fn signs(class: Class) -> &'static [(&'static str, &'static str)] {
    match class {
        Class::Navigation | Class::Submission => &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")],
        Class::Frame => &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")],
        Class::Fetch => &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")],
        Class::Stream => &[("accept", "text/event-stream")],
        Class::WebSocket => &[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ],
        Class::Preflight => &[("origin", "null"), ("access-control-request-method", "GET")],
        Class::Grpc => &[("content-type", "application/grpc")],
        Class::Machine => &[],
    }
}

/// The class that has this name.
pub fn class(word: &str) -> Option<Class> {
    Class::ALL.into_iter().find(|class| class.as_str() == word)
}
