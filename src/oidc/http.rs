//! Calls to a provider: bounded in time, size and destination, and never redirected.

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::{TokioExecutor, TokioTimer},
};
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls_platform_verifier::BuilderVerifierExt;
use std::{
    collections::BTreeSet,
    error::Error,
    future::Future,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tower::Service;
use url::{Host, Url};

/// How long discovery, keys and userinfo may take in all.
pub(crate) const READ: Duration = Duration::from_secs(5);
/// How long the token endpoint may take in all: a grant that was redeemed unseen is lost.
pub(crate) const REDEEM: Duration = Duration::from_secs(10);
/// The same for a refresh, which nobody has to wait for: where refresh tokens rotate, an answer that nobody heard was the
/// session.
pub(crate) const REFRESH: Duration = Duration::from_secs(60);

const CONNECT: Duration = Duration::from_secs(3);
/// Some ten thousand groups, listed as often as GitLab lists them.
const LARGEST_ANSWER: usize = 4 << 20;

type Connection = HttpsConnector<HttpConnector<Guarded>>;

/// The client for one provider. It follows no redirect, asks for no compression and honours no proxy variable.
pub(crate) struct Http {
    client: OnceLock<Client<Connection, Full<Bytes>>>,
    origins: ArcSwap<BTreeSet<String>>,
    /// The issuer is on loopback, so plain http and loopback addresses are fine.
    loopback: bool,
    /// When a whole answer came last, in seconds since 1970; 0 before the first.
    answered: AtomicU64,
}

/// Why a provider gave no usable answer. No variant carries a query, a header or a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("`{0}` is no origin of this provider")]
    Origin(String),
    #[error("`{origin}` gave no answer in {seconds} s")]
    Late { origin: String, seconds: u64 },
    #[error("`{origin}`: {cause}")]
    Connection { origin: String, cause: String },
    #[error("`{origin}` answered {status}")]
    Busy { origin: String, status: StatusCode },
    #[error("`{origin}` gave more than {LARGEST_ANSWER} bytes")]
    Long { origin: String },
    #[error("`{origin}` compressed its answer, which was not asked for")]
    Encoding { origin: String },
    #[error("cannot load the system's certificate authorities: {0}")]
    Authorities(String),
}

impl HttpError {
    /// The provider may well answer later: nobody was reached, or it said 429 or 5xx.
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Connection { .. } | Self::Busy { .. } | Self::Authorities(_) => true,
            Self::Origin(_) | Self::Long { .. } | Self::Encoding { .. } => false,
        }
    }
}

impl Http {
    /// A client that may call `issuer`'s origin, and no other until [`Self::allow`].
    pub(crate) fn new(issuer: &str) -> Self {
        let issuer = Url::parse(issuer).ok();
        Self {
            client: OnceLock::new(),
            loopback: issuer.as_ref().is_some_and(is_loopback),
            origins: ArcSwap::from_pointee(issuer.iter().map(origin).collect()),
            answered: AtomicU64::new(0),
        }
    }

    /// Replaces the set of origins by those of `urls`, which a checked discovery document names.
    pub(crate) fn allow<'a>(&self, urls: impl Iterator<Item = &'a Url>) {
        self.origins.store(Arc::new(urls.map(origin).collect()));
    }

    /// Sends a request and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Any [`HttpError`] but `Busy`.
    pub(crate) async fn send(&self, request: HttpRequest, limit: Duration) -> Result<HttpResponse, HttpError> {
        let url = request.uri().to_string();
        let origin = self.permitted(&url)?;
        match tokio::time::timeout(limit, self.exchange(request, &origin)).await {
            Ok(answer) => answer.inspect(|_| self.answers()),
            Err(_) => Err(HttpError::Late { origin, seconds: limit.as_secs() }),
        }
    }

    fn answers(&self) {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.answered.store(seconds, Ordering::Relaxed);
    }

    /// When a whole answer came last, whatever its status.
    pub(super) fn answered(&self) -> Option<SystemTime> {
        let seconds = self.answered.load(Ordering::Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }

    /// The same client, which gives the token endpoint so long.
    pub(crate) fn patient(&self, limit: Duration) -> Patient<'_> {
        Patient { http: self, limit }
    }

    /// Reads JSON from `url`, with an access token if there is one.
    ///
    /// # Errors
    /// Any [`HttpError`]; other statuses than 429 and 5xx are for the caller to judge.
    pub(crate) async fn get(&self, url: &Url, bearer: Option<&str>) -> Result<HttpResponse, HttpError> {
        let mut request = Request::get(url.as_str()).header(header::ACCEPT, "application/json");
        if let Some(token) = bearer {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Vec::new()).map_err(|_| HttpError::Origin(origin(url)))?;
        self.send(request, READ).await.and_then(|answer| refuse_outage(url.as_str(), answer))
    }

    fn permitted(&self, url: &str) -> Result<String, HttpError> {
        let parsed = Url::parse(url).map_err(|_| HttpError::Origin("(no URL)".to_owned()))?;
        let origin = origin(&parsed);
        let forbidden = match parsed.host() {
            Some(Host::Ipv4(address)) => !self.loopback && is_forbidden(address.into()),
            Some(Host::Ipv6(address)) => !self.loopback && is_forbidden(address.into()),
            Some(Host::Domain(_)) => false,
            None => true,
        };
        if forbidden || !self.origins.load().contains(&origin) {
            return Err(HttpError::Origin(origin));
        }
        Ok(origin)
    }

    async fn exchange(&self, request: HttpRequest, origin: &str) -> Result<HttpResponse, HttpError> {
        let client = self.client()?;
        let mut request = request.map(|body| Full::new(Bytes::from(body)));
        request.headers_mut().insert(
            header::USER_AGENT,
            http::HeaderValue::from_static(concat!("vestibule/", env!("CARGO_PKG_VERSION"))),
        );
        let lost =
            |cause: &dyn Error| HttpError::Connection { origin: origin.to_owned(), cause: crate::text::chain(cause) };
        let (head, body) = client.request(request).await.map_err(|cause| lost(&cause))?.into_parts();
        if head.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
            return Err(HttpError::Encoding { origin: origin.to_owned() });
        }
        match Limited::new(body, LARGEST_ANSWER).collect().await {
            Ok(body) => Ok(Response::from_parts(head, body.to_bytes().into())),
            Err(cause) if cause.is::<LengthLimitError>() => Err(HttpError::Long { origin: origin.to_owned() }),
            Err(cause) => Err(lost(&*cause)),
        }
    }

    /// Made at the first call, on the control plane, because it reads the system's certificate authorities.
    fn client(&self) -> Result<&Client<Connection, Full<Bytes>>, HttpError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let made = connector(self.loopback)?;
        Ok(self.client.get_or_init(|| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(15))
                .pool_max_idle_per_host(4)
                .build(made)
        }))
    }
}

/// The client as the token endpoint needs it: more patient, and 429 and 5xx are outages whatever their body says.
pub(crate) struct Patient<'h> {
    http: &'h Http,
    limit: Duration,
}

impl<'c> AsyncHttpClient<'c> for Patient<'_> {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let url = request.uri().to_string();
            refuse_outage(&url, self.http.send(request, self.limit).await?)
        })
    }
}

fn refuse_outage(url: &str, answer: HttpResponse) -> Result<HttpResponse, HttpError> {
    let status = answer.status();
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        let origin = Url::parse(url).map(|url| origin(&url)).unwrap_or_default();
        return Err(HttpError::Busy { origin, status });
    }
    Ok(answer)
}

fn connector(loopback: bool) -> Result<Connection, HttpError> {
    let mut tcp = HttpConnector::new_with_resolver(Guarded { names: GaiResolver::new(), loopback });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT));
    let failed = |cause: rustls::Error| HttpError::Authorities(cause.to_string());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    // An issuer on loopback speaks plain http, and must work on a machine without any certificate authority.
    let tls = match tls.clone().with_platform_verifier() {
        Ok(tls) => tls.with_no_client_auth(),
        Err(_) if loopback => tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth(),
        Err(cause) => return Err(failed(cause)),
    };
    Ok(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp))
}

/// The system's resolver, which refuses names that lead to link-local or metadata addresses.
#[derive(Clone)]
struct Guarded {
    names: GaiResolver,
    loopback: bool,
}

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.names.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let loopback = self.loopback;
        let found = self.names.call(name);
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = found.await?.collect();
            match addresses.iter().find(|address| !loopback && is_forbidden(address.ip())) {
                None => Ok(addresses.into_iter()),
                Some(bad) => Err(io::Error::other(format!("its name leads to {}, a link-local address", bad.ip()))),
            }
        })
    }
}

/// Link-local addresses, where clouds serve instance credentials: 169.254.0.0/16, fe80::/10 and fd00:ec2::254.
fn is_forbidden(address: IpAddr) -> bool {
    const METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA,
    }
}

/// The URL's host is `localhost`, below it, or a loopback address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_and_metadata_addresses_are_refused() {
        for bad in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254"] {
            assert!(is_forbidden(bad.parse().expect("an address")), "{bad}");
        }
        for good in ["10.0.0.7", "192.0.2.1", "fd00:ec2::1", "2001:db8::1"] {
            assert!(!is_forbidden(good.parse().expect("an address")), "{good}");
        }
    }

    #[test]
    fn only_the_providers_own_origins_may_be_called() {
        let http = Http::new("https://gitlab.example.com");
        assert!(http.permitted("https://gitlab.example.com/oauth/token").is_ok());
        for other in ["http://gitlab.example.com/", "https://gitlab.example.com:8443/", "https://evil.example.com/"] {
            assert!(http.permitted(other).is_err(), "{other}");
        }
        let keys = Url::parse("https://keys.example.com/jwks").expect("a URL");
        http.allow([&keys].into_iter());
        assert!(http.permitted("https://keys.example.com/other").is_ok());
    }

    #[test]
    fn a_public_issuer_leads_to_no_link_local_literal() {
        let http = Http::new("https://169.254.169.254");
        assert!(http.permitted("https://169.254.169.254/latest").is_err());
    }

    /// A name that resolves to a link-local address is refused before a connection is made.
    #[tokio::test]
    async fn resolver_refuses_link_local_answers() {
        let mut guarded = Guarded { names: GaiResolver::new(), loopback: false };
        let refused = guarded.call("169.254.169.254".parse().expect("a name")).await;
        assert!(refused.is_err_and(|cause| cause.to_string().contains("link-local")));
    }
}
