//! The demo's own little HTTP server: loopback only, whole requests in, any response out.

use crate::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Limited};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use maud::Markup;
use serde_json::Value;
use std::{borrow::Cow, convert::Infallible, future::Future, io, net::TcpListener, sync::Arc, time::Duration};

const LONGEST_BODY: usize = 64 * 1024;

/// One request, read whole.
pub(super) struct Asked {
    pub(super) head: Parts,
    pub(super) body: Bytes,
}

impl Asked {
    /// Method and path, to match on.
    pub(super) fn what(&self) -> (&Method, &str) {
        (&self.head.method, self.head.uri.path())
    }

    /// A header that occurs once and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    /// The value of a cookie.
    pub(super) fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.head.headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        pairs.flat_map(|line| line.split("; ")).find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// The query, decoded.
    pub(super) fn query(&self) -> Fields {
        Fields::parse(self.head.uri.query().unwrap_or_default().as_bytes())
    }

    /// The body, decoded as a form.
    pub(super) fn form(&self) -> Fields {
        Fields::parse(&self.body)
    }
}

/// Decoded `application/x-www-form-urlencoded` fields.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    /// Decodes a query or a form.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(bytes).into_owned().collect())
    }

    /// A field that is present and not empty; the first of several.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, value)| key == name && !value.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The name of a field that occurs more than once.
    pub(super) fn repeated(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }

    /// All of them but `name`, encoded again.
    pub(super) fn without(&self, name: &str) -> String {
        let kept = self.0.iter().filter(|(key, _)| key != name);
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(kept).finish()
    }
}

/// Binds a loopback port: `wanted` if it is free, else any.
///
/// # Errors
/// No loopback port can be bound at all.
pub(super) fn bind(wanted: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", wanted)).or_else(|_| TcpListener::bind("127.0.0.1:0"))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `answer` on `listener` until the runtime ends.
///
/// # Errors
/// The listener is not on loopback, or cannot be handed to the runtime.
pub(super) async fn serve<A, F>(listener: TcpListener, answer: A) -> io::Result<()>
where
    A: Fn(Asked) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send,
{
    if !listener.local_addr()?.ip().is_loopback() {
        return Err(io::Error::other("the demo serves loopback addresses only"));
    }
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let answer = Arc::new(answer);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await; // out of file descriptors: try again
            continue;
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| whole(request, &*answer));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new());
            // A client that breaks off is no news in a demo.
            let _ = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
    }
}

async fn whole<A, F>(request: Request<Incoming>, answer: &A) -> Result<Response<Body>, Infallible>
where
    A: Fn(Asked) -> F,
    F: Future<Output = Response<Body>>,
{
    let (head, body) = request.into_parts();
    let read = Limited::new(body, LONGEST_BODY).collect();
    Ok(match tokio::time::timeout(Duration::from_secs(10), read).await {
        Ok(Ok(body)) => answer(Asked { head, body: body.to_bytes() }).await,
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body cannot be read, or is longer than 64 KiB\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 10 s\n"),
    })
}

/// An answer of one content type. Nothing in the demo is ever cached.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A page that loads from its own origin only.
pub(super) fn page(status: StatusCode, page: Markup) -> Response<Body> {
    let mut response = answer(status, "text/html; charset=utf-8", page.into_string());
    response.headers_mut().insert(
        header::CONTENT_SECURITY_POLICY,
        // Browsers apply `form-action` to the redirects after a form too, and a sign-in leads back to the proxy.
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-ancestors 'none'; \
             base-uri 'none'; form-action 'self' http://127.0.0.1:* http://*.localhost:*",
        ),
    );
    response
}

/// JSON, indented for people who use curl.
pub(super) fn json(status: StatusCode, body: &Value) -> Response<Body> {
    answer(status, "application/json", format!("{body:#}\n"))
}

/// Plain text.
pub(super) fn text(status: StatusCode, body: impl Into<Cow<'static, str>>) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", body.into().into_owned())
}

/// 302 or 303 to another place.
pub(super) fn redirect(status: StatusCode, to: &str) -> Response<Body> {
    match HeaderValue::from_str(to) {
        Ok(to) => {
            let mut response = text(status, "");
            response.headers_mut().insert(header::LOCATION, to);
            response
        }
        Err(_) => text(StatusCode::BAD_REQUEST, "the address to go to is not a header value\n"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A request as the handlers see it; `form` is its body.
    pub(in crate::demo) fn asked(method: &str, target: &str, headers: &[(&str, &str)], form: &str) -> Asked {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a test's request is well formed").into_parts();
        Asked { head, body: Bytes::copy_from_slice(form.as_bytes()) }
    }

    /// The body of an answer, whole.
    pub(in crate::demo) async fn body(response: Response<Body>) -> String {
        let bytes = response.into_body().collect().await.expect("own bytes").to_bytes();
        String::from_utf8(bytes.to_vec()).expect("UTF-8")
    }

    #[test]
    fn finds_cookies_and_repeated_fields() {
        let asked = asked("GET", "/?a=1&b=2&a=3", &[("cookie", "x=1; demo=abc")], "");
        assert_eq!(asked.cookie("demo"), Some("abc"));
        assert_eq!(asked.cookie("dem"), None);
        assert_eq!(asked.query().repeated(), Some("a"));
        assert_eq!(asked.query().without("a"), "b=2");
    }

    #[tokio::test]
    async fn serves_loopback_only() {
        let open = TcpListener::bind("0.0.0.0:0").expect("a port is free");
        open.set_nonblocking(true).expect("a fresh socket");
        let refused = serve(open, |_| async { text(StatusCode::OK, "") }).await.expect_err("not loopback");
        assert_eq!(refused.to_string(), "the demo serves loopback addresses only");
    }
}
