//! Answers that can be read in two ways, and the next person's, which must be unharmed (S-22, S-23).

use super::*;

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// What the client gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gets {
    /// A refusal.
    Refusal,
    /// A head, and a body that breaks off.
    Part,
    /// The whole answer; what comes after it harms nobody.
    All,
}
use Gets::{All, Part, Refusal as Refused};

/// Every answer is followed by another one that nobody asked for.
const TABLE: &[(Gets, &str)] = &[
    // line ends
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok"),
    (Refused, "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nX: y\rContent-Length: 9\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nX: y\r\n folded: z\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\n X: y\r\nContent-Length: 2\r\n\r\nok"),
    // two ways to say how long it is
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 3\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (
        Refused,
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: \"chunked\"\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\nok"),
    // names and values
    (Refused, "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length: 2\0\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nContent-Length\0: 9\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nX(y): z\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\n: z\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 OK\r\nnothing\r\nContent-Length: 2\r\n\r\nok"),
    // status lines
    (Refused, "nonsense\r\n\r\n"),
    (Refused, "\r\n\r\n"),
    (Refused, "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\nok"),
    // interim answers, and bodies where there can be none
    (Refused, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (Refused, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n"),
    (Refused, "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (Refused, "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok"),
    (Refused, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    // chunks
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\rok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000002\r\nok\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\n0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok0\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nnothing\r\n\r\n"),
    (Part, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: a\0b\r\n\r\n"),
    // nothing wrong but what follows
    (All, OK),
    (All, "HTTP/1.1 204 No Content\r\n\r\n"),
    (All, "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n"),
    (All, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    (All, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    (All, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
];

/// All that a client gets on a connection of its own, as far as it comes.
async fn all(front: &Front, method: &str) -> String {
    let mut client = front.connect().await;
    client
        .write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .expect("written");
    let mut all = Vec::new();
    let _ = within(client.read_to_end(&mut all)).await; // what breaks off may end with an error
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn s22_s23_hostile_answers_poison_no_connection() {
    assert!(TABLE.len() >= 40);
    for (gets, sent) in TABLE {
        let upstream = Scripted::start(move |nth, mut stream| async move {
            while read_message(&mut stream).await.is_some() {
                let answer = if nth == 0 { format!("{sent}{EVIL}") } else { OK.to_owned() };
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let front = Front::start(&upstream).await;
        let first = all(&front, "GET").await;
        let found = match first.get(9..12) {
            None => Part, // it broke off before the head was out
            Some("502") => Refused,
            _ if field(&first, "transfer-encoding").is_some() && !first.ends_with("0\r\n\r\n") => Part,
            _ => All,
        };
        assert_eq!(found, *gets, "{sent:?} gave {first:?}");
        assert!(!first.contains("evil"), "{sent:?}");
        for _ in 0..2 {
            assert!(within(front.get()).await.ends_with("\r\n\r\nok"), "{sent:?}");
        }
        assert_eq!(upstream.connections(), 2, "{sent:?}");
    }
}

/// However an answer is cut into packets, and whatever is legal in it, it passes and its connection is used again.
#[tokio::test]
async fn s22_what_has_one_reading_passes() {
    for (sent, body) in [
        (OK, "ok"),
        ("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 \r\ncontent-length:2\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: \t002 \r\nX:\r\nY: \u{e9}\r\n\r\nok", "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\n01\r\nk\r\n000\r\n\r\n", "ok"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\nZ: \r\n\r\n", "ok"),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "ok",
        ),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        for step in [1, 7, 1000] {
            let upstream = Scripted::start(move |_, mut stream| async move {
                stream.set_nodelay(true).expect("set");
                while read_message(&mut stream).await.is_some() {
                    for piece in sent.as_bytes().chunks(step) {
                        stream.write_all(piece).await.expect("written");
                        tokio::task::yield_now().await;
                    }
                }
            })
            .await;
            let front = Front::start(&upstream).await;
            for _ in 0..2 {
                let answer = all(&front, "GET").await;
                let plain = answer.split_once("\r\n\r\n").expect("a head").1.replace("\r\n", "");
                let letters: String = plain.chars().filter(|letter| letter.is_alphabetic()).collect();
                assert_eq!(letters, body, "{sent:?} by {step}");
            }
            assert_eq!(upstream.connections(), 1, "{sent:?} by {step}");
        }
    }
}

/// A body after the answer to HEAD is the next person's answer to hyper; here the connection is gone before.
#[tokio::test]
async fn s22_a_body_after_head_is_nobodys() {
    let upstream = Scripted::start(move |nth, mut stream| async move {
        while read_message(&mut stream).await.is_some() {
            let answer = if nth == 0 {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{EVIL}", EVIL.len())
            } else {
                OK.to_owned()
            };
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await;
    let front = Front::start(&upstream).await;
    assert_eq!(status(&all(&front, "HEAD").await), "200");
    assert!(front.get().await.ends_with("ok"));
    assert_eq!(upstream.connections(), 2);
}

/// What comes later, while a connection is at rest, ends it before anybody is given it.
#[tokio::test]
async fn s23_bytes_on_a_connection_at_rest_end_it() {
    let late = Arc::new(tokio::sync::Notify::new());
    let told = late.clone();
    let upstream = Scripted::start(move |nth, mut stream| {
        let told = told.clone();
        async move {
            while read_message(&mut stream).await.is_some() {
                stream.write_all(OK.as_bytes()).await.expect("written");
                if nth == 0 {
                    told.notified().await;
                    stream.write_all(EVIL.as_bytes()).await.expect("written");
                }
            }
        }
    })
    .await;
    let front = Front::start(&upstream).await;
    assert!(front.get().await.ends_with("ok"));
    assert_eq!(front.kept(), 1);
    late.notify_one();
    within(async {
        while front.kept() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(front.get().await.ends_with("ok"));
    assert_eq!(upstream.connections(), 2);
}
