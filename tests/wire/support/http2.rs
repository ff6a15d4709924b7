//! A client that speaks HTTP/2.

use super::http1::{Answer, Duplex};
use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// A connection of HTTP/2.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
}

impl Http2 {
    /// Begins HTTP/2 on a connection that is open already.
    pub(crate) async fn over(stream: impl Duplex + 'static) -> Self {
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 begins");
        tokio::spawn(connection);
        Self { sender }
    }

    /// Asks for `url`, with these header fields and no body.
    pub(crate) async fn ask(&mut self, method: &str, url: &str, fields: &[(&str, &str)]) -> hyper::Result<Answer> {
        let mut request = Request::builder().method(method).uri(url).version(Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.send(request.body(Full::default()).expect("a request")).await
    }

    /// Sends a request.
    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let answer = tokio::time::timeout(Duration::from_secs(20), self.sender.send_request(request));
        let answer = answer.await.expect("an answer within 20 s")?;
        let (head, body) = answer.into_parts();
        let fields = head.headers.iter();
        let headers =
            fields.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        let headers = headers.collect();
        let body = body.collect().await?.to_bytes().to_vec();
        Ok(Answer { status: head.status.as_u16(), headers, body })
    }
}
