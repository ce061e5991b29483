//! What is taken of an upstream, what is refused, and that it makes no
//! difference in which pieces it comes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::fuzzing::{Read, read};

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// With this body; another request may follow.
    GoesOn(&'static str),
    /// With this body; the connection is closed.
    Last(&'static str),
    /// After this much of its body, it breaks off.
    Cut(&'static str),
    Refused,
}

use Outcome::{Cut, GoesOn, Last, Refused};

fn outcome(read: Option<&Read>) -> Outcome {
    let Some(read) = read else {
        return Refused;
    };
    let body = String::from_utf8(read.body.clone()).unwrap().leak();
    match (read.whole, read.goes_on) {
        (true, true) => GoesOn(body),
        (true, false) => Last(body),
        (false, _) => Cut(body),
    }
}

/// The fields and the body of an answer to a `GET`.
const ANSWERS: &[(&str, Outcome)] = &[
    // Where it ends.
    ("Content-Length: 5\r\n\r\nhello", GoesOn("hello")),
    ("Content-Length: 0\r\n\r\n", GoesOn("")),
    ("Content-Length: 00005\r\n\r\nhello", GoesOn("hello")),
    ("Content-Length: 5\r\n\r\nhell", Cut("hell")),
    ("Content-Length: 5\r\n\r\nhello!", Last("hello")),
    ("\r\nhello", Last("hello")),
    ("\r\n", Last("")),
    // One length, however often it is said.
    (
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        GoesOn("hello"),
    ),
    ("Content-Length: 5, 5\r\n\r\nhello", GoesOn("hello")),
    (
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        Refused,
    ),
    ("Content-Length: 5, 6\r\n\r\nhello", Refused),
    (
        "Content-Length: 6\r\nX: y\r\nContent-Length: 5, 5\r\n\r\nhello",
        Refused,
    ),
    // A number, and nothing else.
    ("Content-Length: +5\r\n\r\nhello", Refused),
    ("Content-Length: -5\r\n\r\nhello", Refused),
    ("Content-Length: 0x5\r\n\r\nhello", Refused),
    ("Content-Length: 5 5\r\n\r\nhello", Refused),
    ("Content-Length: \r\n\r\nhello", Refused),
    ("Content-Length: 5,\r\n\r\nhello", Refused),
    ("Content-Length: 18446744073709551616\r\n\r\nhello", Refused),
    // Chunks.
    (
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        GoesOn("hello"),
    ),
    (
        "Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        GoesOn("hello"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n005\r\nhello\r\n000\r\n\r\n",
        GoesOn("hello"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5 \t\r\nhello\r\n0\r\n\r\n",
        GoesOn("hello"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nhello\r\n0;c\r\n\r\n",
        GoesOn("hello"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n\r\n",
        GoesOn("hello"),
    ),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", GoesOn("")),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore", Last("")),
    (
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        Cut("hello"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        Cut("hello"),
    ),
    ("Transfer-Encoding: chunked\r\n\r\n5\r\nhel", Cut("hel")),
    (
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
        Cut("hell"),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
        Cut("hello"),
    ),
    ("Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n", Cut("")),
    (
        "Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n5;a\0\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n0\r\n x: y\r\n\r\n",
        Cut(""),
    ),
    (
        "Transfer-Encoding: chunked\r\n\r\n0\r\nx: y\nz: y\r\n\r\n",
        Cut(""),
    ),
    // Two ends, or a coding that nobody is told of.
    (
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", Refused),
    ("Transfer-Encoding: gzip\r\n\r\nhello", Refused),
    ("Transfer-Encoding: identity\r\n\r\nhello", Refused),
    ("Transfer-Encoding: \r\n\r\nhello", Refused),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    // Whether it is the last one.
    (
        "Connection: close\r\nContent-Length: 2\r\n\r\nok",
        Last("ok"),
    ),
    (
        "Connection: keep-alive, Close\r\nContent-Length: 2\r\n\r\nok",
        Last("ok"),
    ),
    (
        "Connection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        Last("ok"),
    ),
    (
        "Connection: x-close\r\nContent-Length: 2\r\n\r\nok",
        GoesOn("ok"),
    ),
    // Fields that are none.
    ("X : y\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("X\r\nContent-Length: 2\r\n\r\nok", Refused),
    (": y\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("X: a\rb\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("X: a\0b\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", Refused),
    ("X: a\nContent-Length: 2\n\nok", GoesOn("ok")),
];

#[test]
fn an_answer_ends_at_one_place_or_is_refused() {
    for (rest, expected) in ANSWERS {
        let answer = format!("HTTP/1.1 200 OK\r\n{rest}");
        let read = read(false, [answer.as_bytes()]);
        assert_eq!(outcome(read.as_ref()), *expected, "{rest:?}");
    }
}

#[test]
fn what_has_no_body_has_none_whatever_it_says() {
    for (to_head, answer, expected) in [
        (
            true,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            GoesOn(""),
        ),
        (
            true,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            GoesOn(""),
        ),
        (true, "HTTP/1.1 200 OK\r\n\r\n", GoesOn("")),
        (
            true,
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            Last(""),
        ),
        (false, "HTTP/1.1 204 No Content\r\n\r\n", GoesOn("")),
        (
            false,
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
            Last(""),
        ),
        (
            false,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            GoesOn(""),
        ),
        (
            false,
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: gzip\r\n\r\n",
            Refused,
        ),
        // What comes before an answer is none.
        (
            false,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            GoesOn(""),
        ),
        (false, "HTTP/1.1 100 Continue\r\n\r\n", Refused),
        (
            false,
            "HTTP/1.1 199 Odd\r\nContent-Length: 5\r\n\r\nhello",
            Refused,
        ),
        (
            false,
            "HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\nhello",
            Last(""),
        ),
        // Old ones are the last on their connection.
        (
            false,
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Last("ok"),
        ),
        (
            false,
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            Last("ok"),
        ),
        (
            false,
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Refused,
        ),
        // And what is none at all.
        (false, "HTTP/2.0 200 OK\r\n\r\n", Refused),
        (false, "HTTP/1.1 20 OK\r\n\r\n", Refused),
        (false, "HTTP/1.1 099 OK\r\n\r\n", Refused),
        (false, "HTTP/1.1  200 OK\r\n\r\n", Refused),
        (false, "hello", Refused),
        (false, "HTTP/1.1 200 OK\r\nContent-Le", Refused),
        (false, "", Refused),
    ] {
        let read = read(to_head, [answer.as_bytes()]);
        assert_eq!(outcome(read.as_ref()), expected, "{answer:?}");
    }
}

#[test]
fn nothing_is_without_end() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let interim = "HTTP/1.1 102 Processing\r\n\r\n";
    let large = |size| {
        format!(
            "HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n",
            "a".repeat(size)
        )
    };
    let fields = |count| "X-A: b\r\n".repeat(count);
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (answer, expected) in [
        (interim.repeat(128) + ok, GoesOn("ok")),
        (interim.repeat(129) + ok, Refused),
        (large(60_000) + ok, GoesOn("ok")),
        (large(60_000) + &large(10_000) + ok, Refused),
        (
            format!("HTTP/1.1 204 OK\r\n{}\r\n", fields(100)),
            GoesOn(""),
        ),
        (format!("HTTP/1.1 204 OK\r\n{}\r\n", fields(101)), Refused),
        (
            format!("HTTP/1.1 204 OK\r\nX: {}\r\n\r\n", "a".repeat(65_520)),
            Refused,
        ),
        (
            format!("HTTP/1.1 204 OK\r\nX: {}\r\n\r\n", "a".repeat(65_500)),
            GoesOn(""),
        ),
        (
            format!("{chunked}2;{}\r\nok\r\n0\r\n\r\n", "a".repeat(15_000)),
            GoesOn("ok"),
        ),
        (
            format!("{chunked}2;{}\r\nok\r\n0\r\n\r\n", "a".repeat(17_000)),
            Cut(""),
        ),
        (
            format!("{chunked}2\r\nok\r\n0\r\n{}\r\n", fields(100)),
            GoesOn("ok"),
        ),
        (
            format!("{chunked}2\r\nok\r\n0\r\n{}\r\n", fields(101)),
            Cut("ok"),
        ),
        (
            format!("{chunked}0\r\nX: {}\r\n\r\n", "a".repeat(17_000)),
            Cut(""),
        ),
    ] {
        for size in [1000, answer.len()] {
            let read = read(false, answer.as_bytes().chunks(size));
            let begins = &answer[..answer.len().min(60)];
            assert_eq!(outcome(read.as_ref()), expected, "{begins:?}");
        }
    }
}

#[test]
fn fields_and_trailers_come_as_they_were_sent() {
    let answer = b"HTTP/1.1 299 Odd\r\nX-A:  b \r\nx-a: \xfcc\r\nEmpty:\r\nTransfer-Encoding: chunked\r\n\r\n\
                   0\r\nX-Sum:\t1 \r\nX-Sum: 2\r\n\r\n";
    let read = read(false, [&answer[..]]).unwrap();
    assert_eq!(read.head.status(), 299);
    let values = |name| -> Vec<&[u8]> {
        let fields = read.head.headers().get_all(name).iter();
        fields.map(http::HeaderValue::as_bytes).collect()
    };
    assert_eq!(values("x-a"), [b"b", &b"\xfcc"[..]]);
    assert_eq!(values("empty"), [b""]);
    let trailers = read.trailers.unwrap();
    let sums: Vec<_> = trailers.get_all("x-sum").iter().collect();
    assert_eq!(sums, ["1", "2"]);
    let reason = read.head.extensions().get::<hyper::ext::ReasonPhrase>();
    assert_eq!(reason.unwrap().as_bytes(), b"Odd");
}

const HEADS: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 103 X\r\n\r\nHTTP/1.1 200 OK\r\n",
];

/// Answers, and what is like them.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let head = prop::sample::select(HEADS);
    let answer = prop::sample::select(ANSWERS);
    (head, answer, any::<u8>(), any::<prop::sample::Index>()).prop_map(
        |(head, (rest, _), noise, at)| {
            let mut bytes = format!("{head}{rest}").into_bytes();
            // In every other one, a byte is another.
            if noise < 128 {
                let at = at.index(bytes.len());
                bytes[at] = noise;
            }
            bytes
        },
    )
}

proptest! {
    #[test]
    fn whatever_the_pieces_the_answer_is_the_same(
        bytes in bytes(),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
        to_head in any::<bool>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        let whole = format!("{:?}", read(to_head, [&bytes[..]]));
        prop_assert_eq!(format!("{:?}", read(to_head, pieces)), whole);
    }
}
