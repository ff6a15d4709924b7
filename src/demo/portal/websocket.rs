//! A WebSocket that echoes: just enough of RFC 6455 to see one pass the proxy and end with the right.

use crate::{
    body::Body,
    demo::server::{Asked, text},
};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const LONGEST_MESSAGE: u64 = 64 * 1024;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Answers the opening handshake and echoes from then on.
pub(super) fn accept(asked: &mut Asked) -> Response<Body> {
    let version = asked.header("sec-websocket-version") == Some("13");
    let Some(key) = asked.header("sec-websocket-key").filter(|_| version).map(str::to_owned) else {
        return text(StatusCode::UPGRADE_REQUIRED, "expected a WebSocket handshake of version 13\n");
    };
    let mut request = Request::new(());
    std::mem::swap(request.extensions_mut(), &mut asked.head.extensions);
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _ = echo(TokioIo::new(upgraded)).await; // either side may leave at any time
        }
    });
    let proof = STANDARD.encode(digest(
        &SHA1_FOR_LEGACY_USE_ONLY, // the handshake's own; nothing rests on it
        format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes(),
    ));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&proof).expect("base64 is visible ASCII"));
    response
}

/// Sends every frame back, unmasked: pings as pongs, a close as a close.
async fn echo(mut stream: TokioIo<Upgraded>) -> io::Result<()> {
    loop {
        let first = stream.read_u8().await?;
        let second = stream.read_u8().await?;
        let length = match second & 0x7F {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        if second & 0x80 == 0 || length > LONGEST_MESSAGE {
            return Ok(()); // a client masks every frame (section 5.1)
        }
        let mut mask = [0; 4];
        stream.read_exact(&mut mask).await?;
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut payload).await?;
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match first & 0x0F {
            PING => send(&mut stream, first & 0xF0 | PONG, &payload).await?,
            PONG => {}
            CLOSE => {
                send(&mut stream, first, &payload).await?;
                return stream.shutdown().await;
            }
            _ => send(&mut stream, first, &payload).await?,
        }
    }
}

async fn send(stream: &mut TokioIo<Upgraded>, first: u8, payload: &[u8]) -> io::Result<()> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        middle @ 126..=0xFFFF => {
            frame.push(126);
            frame.extend((middle as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend((long as u64).to_be_bytes());
        }
    }
    frame.extend(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}
