//! Connections to upstreams that are used again, or no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, eventually, field};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[tokio::test]
async fn clients_share_a_connection_one_after_the_other() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    for _ in 0..5 {
        assert!(edge.ask(GET).await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_is_not_used_again() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send(OK).await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    for _ in 0..20 {
        let answer = edge.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(upstream.connections(), 20);
}

#[tokio::test]
async fn an_answer_that_says_close_is_the_connections_last() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")
            .await;
        wire.rest().await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    for _ in 0..3 {
        wire.send(GET).await;
        assert!(wire.message().await.ends_with("ok"));
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let closed = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&closed);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let count = Arc::clone(&count);
        async move {
            wire.head().await;
            wire.send(OK).await;
            assert_eq!(wire.rest().await, "");
            count.fetch_add(1, Ordering::SeqCst);
        }
    })
    .await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'",
        to(upstream.address, "idle_timeout = '50ms'")
    ));
    assert!(edge.ask(GET).await.ends_with("ok"));
    eventually("it is closed", || closed.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn no_more_connections_are_kept_than_are_wanted() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'",
        to(upstream.address, "max_idle = 0")
    ));
    for _ in 0..3 {
        edge.ask(GET).await;
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn a_request_that_meets_a_closing_connection_unsent_is_sent_on_a_new_one() {
    let close = Arc::new(Notify::new());
    let closing = Arc::clone(&close);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let closing = Arc::clone(&closing);
        async move {
            wire.head().await;
            wire.send(OK).await;
            closing.notified().await;
        }
    })
    .await;
    let edge = Edge::with(&format!(
        "{}[upstreams.down]\ntarget = 'http://127.0.0.1:9'\n[[routes]]\nname = 'all'\nupstream = 'u'\n[[routes]]\nname = 'down'\npath = '/down'\nupstream = 'down'",
        to(upstream.address, "idle_timeout = '1min'")
    ));
    let mut wire = edge.connect().await;
    wire.send(GET).await;
    wire.message().await;
    // While the worker sleeps, a request comes and then the end of the kept
    // connection: it sees both at once, the request first.
    let mut sleeper = edge.connect().await;
    sleeper
        .send("GET /down HTTP/1.1\r\nhost: h\r\ntest-sleep: 1\r\n\r\n")
        .await;
    sleep(Duration::from_millis(50)).await;
    wire.send(GET).await;
    sleep(Duration::from_millis(20)).await;
    close.notify_one();
    let answer = wire.message().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn what_follows_an_unread_body_is_no_request() {
    // The upstream answers before the upload ends: what is still to come of it
    // must not be taken for the next request, on either side.
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        loop {
            let head = wire.head().await;
            let target = head.split(' ').nth(1).unwrap();
            wire.send(&format!(
                "HTTP/1.1 200 OK\r\nx-target: {target}\r\ncontent-length: 0\r\n\r\n"
            ))
            .await;
            if let Some(length) = field(&head, "content-length") {
                wire.bytes(length.parse().unwrap()).await;
            }
        }
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send("POST /upload HTTP/1.1\r\nhost: h\r\ncontent-length: 37\r\n\r\n")
        .await;
    assert_eq!(field(&wire.message().await, "x-target"), Some("/upload"));
    wire.send("GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\nxx")
        .await;
    wire.send("GET /next HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(field(&wire.message().await, "x-target"), Some("/next"));
    assert_eq!(field(&edge.ask(GET).await, "x-target"), Some("/"));
}
