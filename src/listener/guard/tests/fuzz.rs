//! Mutated streams: whatever passes the guard is what hyper alone would have got.

use super::{
    harness::{alone, guarded},
    table::rows,
};

/// How many streams; `TESTS_FUZZ` says otherwise.
const STREAMS: usize = 20_000;

/// A stream of numbers that is the same in every run (xorshift, Marsaglia 2003).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end.max(1) as u64).expect("below a usize")
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// What matters to framing.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b";",
    b",",
    b"#",
    b"0",
    b"1",
    b"5",
    b"a",
    b"f",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"content-length:\t7 \r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding:CHUNKED\r\n",
    b"Host: b\r\n",
    b"Connection: close\r\n",
    b"Connection: keep-alive\r\n",
    b"Upgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: y\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/1.1",
];

/// One to three messages without a fault, with bodies and chunks of any small size.
fn ordinary(numbers: &mut Numbers) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..=numbers.below(3) {
        let data = "abcdefghij".repeat(4);
        let length = numbers.below(40);
        let message = match numbers.below(3) {
            0 => "GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            1 => format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", &data[..length]),
            _ => {
                let chunk = |size: usize| format!("{size:x}\r\n{}\r\n", &data[..size]);
                let chunks: String = (0..numbers.below(4)).map(|_| chunk(1 + numbers.below(39))).collect();
                let trailers = ["", "X: y\r\n", "X: y\r\nA-Longer-Name:\r\n"][numbers.below(3)];
                format!("PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n{trailers}\r\n")
            }
        };
        stream.extend_from_slice(message.as_bytes());
    }
    stream
}

fn mutate(stream: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(stream.len() + 1);
    let end = (at + numbers.below(12)).min(stream.len());
    match numbers.below(7) {
        0 if at < stream.len() => stream[at] = u8::try_from(numbers.below(256)).expect("a byte"),
        1 if at < stream.len() => stream[at] ^= 1 << numbers.below(8),
        2 => drop(stream.drain(at..end)),
        4 => {
            let digits: Vec<_> = (0..stream.len()).filter(|at| stream[*at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                stream[digits[numbers.below(digits.len())]] = b'0' + u8::try_from(numbers.below(10)).expect("a digit");
            }
        }
        3 => {
            let again = stream[at..end].to_vec();
            stream.splice(at..at, again);
        }
        _ => drop(stream.splice(at..at, numbers.one(PIECES).iter().copied())),
    }
}

/// Pieces of a stream, of one size or of many.
fn cut<'a>(stream: &'a [u8], numbers: &mut Numbers) -> Vec<&'a [u8]> {
    let most = numbers.one(&[&1_000, &1, &9, &60]).to_owned();
    let (mut pieces, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, others) = rest.split_at((1 + numbers.below(most)).min(rest.len()));
        pieces.push(piece);
        rest = others;
    }
    pieces
}

/// S-13 to S-17: no mutation of ordinary or hostile streams makes guard and hyper read different requests.
#[test]
fn s13_s14_s15_s16_s17_what_passes_is_what_hyper_alone_reads() {
    let streams = std::env::var("TESTS_FUZZ").ok().and_then(|count| count.parse().ok()).unwrap_or(STREAMS);
    let seeds: Vec<_> = rows().map(|(sent, _)| sent).filter(|sent| sent.len() < 400).collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut passed = 0;
    for _ in 0..streams {
        let generated = numbers.below(3) == 0;
        let mut stream = if generated { ordinary(&mut numbers) } else { seeds[numbers.below(seeds.len())].clone() };
        if numbers.below(3) == 0 && !generated {
            stream.extend_from_slice(&seeds[numbers.below(seeds.len())]);
        }
        let mutations = numbers.below(4);
        for _ in 0..mutations {
            mutate(&mut stream, &mut numbers);
        }
        let pieces = cut(&stream, &mut numbers);
        let pause = numbers.below(2) == 0;
        let guarded = guarded(pieces.iter().copied(), pause);
        let alone = alone([&*stream]);
        let context = || format!("{:?} in {pieces:?}, fault {:?}", String::from_utf8_lossy(&stream), guarded.fault);
        assert!(guarded.disagreements.is_empty(), "{:?} for {}", guarded.disagreements, context());
        assert_eq!(guarded.trailers, 0, "{}", context());
        assert!(!generated || mutations > 0 || guarded.fault.is_none(), "{}", context());
        let compared = match guarded.fault {
            None => {
                passed += 1;
                assert_eq!(guarded.got.len(), alone.got.len(), "{}", context());
                &guarded.got[..]
            }
            Some(_) => &guarded.got[..guarded.got.len().saturating_sub(1)], // the last is the refused one
        };
        for (guarded, alone) in compared.iter().zip(&alone.got) {
            assert_eq!(guarded, alone, "{}", context());
        }
        assert!(compared.len() <= alone.got.len(), "{}", context());
    }
    assert!(passed * 20 > streams, "{passed} of {streams} passed: the seeds are not ordinary any more");
}
