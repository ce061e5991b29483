//! Upstreams that are down, slow or break off, and clients that go away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, eventually};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn with(upstream: &Upstream, upstream_settings: &str, route_settings: &str) -> Edge {
    Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'\n{route_settings}",
        to(upstream.address, upstream_settings)
    ))
}

pub(crate) fn assert_problem(answer: &str, status: u16, slug: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(
        answer.contains(&format!("urn:cypheron-edge:problem:{slug}\"")),
        "{answer}"
    );
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502() {
    let edge = Edge::before("127.0.0.1:9".parse().unwrap());
    assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
}

#[tokio::test]
async fn an_upstream_that_hangs_up_without_an_answer_is_a_502() {
    let closing = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
    })
    .await;
    assert_problem(
        &with(&closing, "", "").ask(GET).await,
        502,
        "upstream-failed",
    );
    let resetting = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.reset();
    })
    .await;
    assert_problem(
        &with(&resetting, "", "").ask(GET).await,
        502,
        "upstream-failed",
    );
    // A request that was written is not sent again: it may have been carried out.
    assert_eq!((closing.connections(), resetting.connections()), (1, 1));
}

#[tokio::test]
async fn an_answer_that_is_none_is_a_502() {
    for answer in [
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    ] {
        let upstream = Upstream::playing(move |mut wire: Wire| async move {
            wire.head().await;
            wire.send(answer).await;
        })
        .await;
        assert_problem(
            &with(&upstream, "", "").ask(GET).await,
            502,
            "upstream-failed",
        );
    }
}

#[tokio::test]
async fn an_upstream_that_takes_too_long_is_a_504() {
    let silent = Upstream::playing(|mut wire: Wire| async move {
        wire.rest().await;
    })
    .await;
    let edge = with(&silent, "response_timeout = '50ms'", "");
    assert_problem(&edge.ask(GET).await, 504, "upstream-timeout");
    let edge = with(&silent, "", "timeout = '50ms'");
    assert_problem(&edge.ask(GET).await, 504, "upstream-timeout");
}

#[tokio::test]
async fn an_upload_that_moves_is_no_silence() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.until("0\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    })
    .await;
    let edge = with(&upstream, "response_timeout = '1500ms'", "");
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    for _ in 0..5 {
        sleep(Duration::from_millis(400)).await;
        wire.send("1\r\nx\r\n").await;
    }
    wire.send("0\r\n\r\n").await;
    assert!(wire.message().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_the_clients_connection_too() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
    })
    .await;
    let edge = with(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(GET).await;
    let answer = wire.rest().await;
    assert!(answer.ends_with("3\r\nabc\r\n"), "{answer}");
}

#[tokio::test]
async fn the_routes_time_bounds_the_body_too() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
            .await;
        wire.rest().await;
    })
    .await;
    let edge = with(&upstream, "", "timeout = '1s'");
    let mut wire = edge.connect().await;
    wire.send(GET).await;
    let answer = wire.rest().await;
    assert!(answer.ends_with("3\r\nabc\r\n"), "{answer}");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_with_it() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let seen = Arc::clone(&seen);
        async move {
            wire.head().await;
            wire.rest().await;
            seen.store(true, Ordering::SeqCst);
        }
    })
    .await;
    let edge = with(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(GET).await;
    eventually("the request arrives", || upstream.connections() == 1).await;
    drop(wire);
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
    eventually("the connection ends", || edge.running.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_goes_away_inside_an_answer_ends_it() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let seen = Arc::clone(&seen);
        async move {
            wire.head().await;
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while wire.try_send(chunk.as_bytes()).await.is_ok() {}
            seen.store(true, Ordering::SeqCst);
        }
    })
    .await;
    let edge = with(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(GET).await;
    wire.head().await;
    drop(wire);
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
}
