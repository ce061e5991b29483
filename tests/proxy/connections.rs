//! What becomes of a connection to an upstream that does what it likes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::edge::{Edge, to};
use super::failures::assert_problem;
use super::wire::{Upstream, Wire, eventually, field};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The bodies of as many answers as requests, on one connection to the edge.
async fn asked(edge: &Edge, times: usize) -> Vec<String> {
    let mut wire = edge.connect().await;
    let mut bodies = Vec::new();
    for _ in 0..times {
        wire.send(GET).await;
        let answer = wire.message().await;
        bodies.push(answer.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    bodies
}

#[tokio::test]
async fn every_way_an_answer_ends_leaves_a_connection_that_is_used_again_or_not() {
    for (answer, connections) in [
        (OK, 1),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            1,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: y\r\n\r\n",
            1,
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            1,
        ),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            3,
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
            3,
        ),
        // Behind its end is the answer to what nobody asked.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad",
            3,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n\r\n",
            3,
        ),
    ] {
        let upstream = Upstream::playing(move |mut wire: Wire| async move {
            loop {
                wire.head().await;
                if wire.try_send(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await;
        let edge = Edge::before(upstream.address);
        for body in asked(&edge, 3).await {
            assert!(body.contains("ok") && !body.contains("bad"), "{body:?}");
        }
        assert_eq!(upstream.connections(), connections, "{answer:?}");
    }
}

#[tokio::test]
async fn what_comes_behind_a_large_answer_closes_the_connection_as_behind_a_small_one() {
    // As large as what is read at once, and larger; in one piece with what is behind it.
    const BEHIND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for size in [10, 8_000, 20_000, 60_000, 70_000, 200_000] {
        for (behind, connections) in [("", 1), (BEHIND, 4)] {
            let body = "o".repeat(size);
            let chunked = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n{behind}"
            );
            let counted =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n{body}{behind}");
            let answers = [chunked, counted];
            let turn = Arc::new(AtomicUsize::new(0));
            let upstream = Upstream::playing(move |mut wire: Wire| {
                let (answers, turn) = (answers.clone(), Arc::clone(&turn));
                async move {
                    loop {
                        wire.head().await;
                        let answer = &answers[turn.fetch_add(1, Ordering::SeqCst) % 2];
                        if wire.try_send(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            })
            .await;
            let edge = Edge::before(upstream.address);
            for body in asked(&edge, 4).await {
                assert!(!body.contains("evil"), "{size}");
                assert_eq!(body.matches('o').count(), size);
            }
            assert_eq!(upstream.connections(), connections, "{size} {behind:?}");
        }
    }
}

#[tokio::test]
async fn what_an_upstream_says_unasked_is_nobodys_answer() {
    // It is said after the answer has ended, and before the next request comes.
    let (told, said) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (tell, count) = (Arc::clone(&told), Arc::clone(&said));
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let (told, said) = (Arc::clone(&told), Arc::clone(&said));
        async move {
            wire.head().await;
            wire.send(OK).await;
            told.notified().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbad")
                .await;
            said.fetch_add(1, Ordering::SeqCst);
            // The edge hangs up on it, and asks it nothing.
            assert_eq!(wire.rest().await, "");
            said.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::before(upstream.address);
    for asked in 1..4 {
        assert!(edge.ask(GET).await.ends_with("\r\n\r\nok"));
        tell.notify_one();
        eventually("it is said, and closed", || {
            count.load(Ordering::SeqCst) == 2 * asked
        })
        .await;
        assert_eq!(upstream.connections(), asked);
    }
}

#[tokio::test]
async fn a_connection_that_its_upstream_closed_is_closed_here_too_without_a_request() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let closed = Arc::clone(&closed);
        async move {
            wire.head().await;
            wire.send(OK).await;
            wire.end().await;
            assert_eq!(wire.rest().await, "");
            closed.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'",
        to(upstream.address, "idle_timeout = '1h'")
    ));
    assert!(edge.ask(GET).await.ends_with("ok"));
    eventually("both ends are closed", || count.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn what_comes_before_an_answer_without_end_is_no_answer() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
        while wire.try_send(interim.as_bytes()).await.is_ok() {}
    })
    .await;
    let edge = Edge::before(upstream.address);
    assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
}

/// An upload that is answered when it has begun, and read to its end after that.
async fn answering_early(answer: String) -> (Upstream, Arc<AtomicUsize>) {
    let uploads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&uploads);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let (answer, uploads) = (answer.clone(), Arc::clone(&uploads));
        async move {
            loop {
                let head = wire.head().await;
                wire.send(&answer).await;
                if let Some(length) = field(&head, "content-length") {
                    let body = wire.bytes(length.parse().unwrap()).await;
                    assert!(body.iter().all(|byte| *byte == b'u'));
                    uploads.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    (upstream, count)
}

const UPLOAD: usize = 5_000_000;

#[tokio::test]
async fn an_upload_goes_on_while_nobody_reads_the_answer_that_came_before_its_end() {
    // More than all sockets on the way hold: it stands still.
    const ANSWER: usize = 24_000_000;
    let uploads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&uploads);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let uploads = Arc::clone(&count);
        async move {
            wire.head().await;
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {ANSWER}\r\n\r\n"
            ))
            .await;
            let is_uploaded = || _ = uploads.fetch_add(1, Ordering::SeqCst);
            wire.send_while(&vec![b'a'; ANSWER], UPLOAD, is_uploaded)
                .await;
        }
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send(&format!(
        "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {UPLOAD}\r\n\r\n"
    ))
    .await;
    let head = wire.head().await;
    assert_eq!(field(&head, "content-length"), Some("24000000"));
    wire.try_send(&vec![b'u'; UPLOAD]).await.unwrap();
    eventually("all is uploaded", || uploads.load(Ordering::SeqCst) == 1).await;
    assert!(wire.bytes(ANSWER).await.iter().all(|byte| *byte == b'a'));
}

#[tokio::test]
async fn a_connection_is_used_again_when_the_upload_has_followed_its_answer() {
    let (upstream, uploads) = answering_early(OK.to_owned()).await;
    let edge = Edge::before(upstream.address);
    for round in 1..4 {
        let mut wire = edge.connect().await;
        wire.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n")
            .await;
        assert!(wire.message().await.ends_with("ok"));
        wire.send("uuu").await;
        eventually("it is uploaded", || uploads.load(Ordering::SeqCst) == round).await;
        // On the client's own connection comes the next request, and on the
        // upstream's: it was given back when nothing of the last one was left.
        wire.send(GET).await;
        assert!(wire.message().await.ends_with("ok"));
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn an_upstream_that_answers_and_takes_no_more_is_heard() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")
            .await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    let head = format!("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: {UPLOAD}\r\n\r\n");
    wire.send(&head).await;
    let answer = wire.message().await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("\r\n\r\nno"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_upload_that_breaks_off_behind_its_answer_ends_its_connection() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let ended = Arc::clone(&ended);
        async move {
            wire.head().await;
            wire.send(OK).await;
            // No request of anybody else comes where the rest was to come.
            assert_eq!(wire.rest().await, "uu");
            ended.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nuu")
        .await;
    assert!(wire.message().await.ends_with("ok"));
    drop(wire);
    eventually("it is closed", || count.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_head_is_written_as_it_is_meant_and_says_its_length_once() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    for (request, begins, framing) in [
        ("GET /a?b=c HTTP/1.1\r\n", "GET /a?b=c HTTP/1.1\r\n", ""),
        ("GET http://h?q HTTP/1.1\r\n", "GET /?q HTTP/1.1\r\n", ""),
        ("DELETE / HTTP/1.0\r\n", "DELETE / HTTP/1.1\r\n", ""),
        (
            "POST / HTTP/1.1\r\ncontent-length: 0\r\n",
            "POST / HTTP/1.1\r\n",
            "content-length: 0",
        ),
        (
            "POST / HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n",
            "POST / HTTP/1.1\r\n",
            "content-length: 2",
        ),
    ] {
        let body = if framing.ends_with('2') { "ok" } else { "" };
        let answer = edge.ask(&format!("{request}host: h\r\n\r\n{body}")).await;
        let seen = answer.split_once("\r\n\r\n").unwrap().1;
        assert!(seen.starts_with(begins), "{seen}");
        let mut said = String::new();
        for line in seen
            .lines()
            .filter(|line| line.starts_with("content-length"))
        {
            write!(said, "{line}").unwrap();
        }
        assert_eq!(said, framing, "{seen}");
        assert!(!seen.contains("transfer-encoding"), "{seen}");
    }
}
