//! Bodies: streamed both ways, bounded, with trailers.

use std::time::Duration;

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, field};

#[tokio::test]
async fn both_bodies_stream_at_the_same_time() {
    // Each piece is answered before the next one is sent: nothing waits for an end.
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for piece in ["one", "two", "six"] {
            wire.until(piece).await;
            wire.send(&format!("3\r\n{piece}\r\n")).await;
        }
        wire.until("0\r\n\r\n").await;
        wire.send("0\r\n\r\n").await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    wire.head().await;
    for piece in ["one", "two", "six"] {
        wire.send(&format!("3\r\n{piece}\r\n")).await;
        wire.until(piece).await;
    }
    wire.send("0\r\n\r\n").await;
    wire.until("0\r\n\r\n").await;
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    const LENGTH: usize = 3_000_000;
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert_eq!(field(&head, "content-length"), Some("3000000"));
        let body = wire.bytes(LENGTH).await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n")
            .await;
        wire.try_send(&body).await.unwrap();
    })
    .await;
    let edge = Edge::before(upstream.address);
    let body: Vec<u8> = (b'a'..=b'w').cycle().take(LENGTH).collect();
    let mut wire = edge.connect().await;
    wire.send("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 3000000\r\n\r\n")
        .await;
    wire.try_send(&body).await.unwrap();
    let head = wire.head().await;
    assert_eq!(field(&head, "content-length"), Some("3000000"));
    assert!(wire.bytes(LENGTH).await == body);
}

#[tokio::test]
async fn trailers_go_both_ways_without_what_is_ours() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert_eq!(field(&head, "te"), Some("trailers"));
        assert_eq!(field(&head, "trailer"), Some("x-sum, x-edge-key-id"));
        let trailers = wire.until("\r\n\r\n").await;
        assert!(trailers.contains("x-sum: 1"), "{trailers}");
        assert!(!trailers.contains("spoof"), "{trailers}");
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n").await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\nte: trailers\r\ntrailer: x-sum, x-edge-key-id\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\nx-edge-key-id: spoof\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!(field(&head, "trailer"), Some("x-sum"));
    let body = wire.until("\r\n\r\n").await;
    assert!(body.contains("x-sum: 2"), "{body}");
}

#[tokio::test]
async fn a_body_of_a_method_that_seldom_has_one_is_not_lost() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
        wire.until("5\r\nquery\r\n0\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send(
        "GET / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\r\nquery\r\n0\r\n\r\n",
    )
    .await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        ] {
            wire.head().await;
            wire.send(answer).await;
        }
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    for (method, status) in [("HEAD", 200), ("DELETE", 204), ("GET", 304), ("GET", 200)] {
        wire.send(&format!("{method} / HTTP/1.1\r\nhost: h\r\n\r\n"))
            .await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        if method == "HEAD" {
            assert_eq!(field(&head, "content-length"), Some("1234"));
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_for_its_body_is_asked_once_it_is_wanted() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'\nbody_limit = '5B'",
        to(upstream.address, "")
    ));
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("hello").await;
    let answer = wire.message().await;
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
    assert!(!answer.contains("expect"), "{answer}");

    let mut refused = edge.connect().await;
    refused
        .send("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n")
        .await;
    assert!(refused.message().await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_client_of_an_upstream_that_is_down_is_not_asked_for_its_body() {
    let edge = Edge::before("127.0.0.1:9".parse().unwrap());
    let answer = edge
        .ask("POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused_on_its_way() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.rest().await;
    })
    .await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'\nbody_limit = '5B'",
        to(upstream.address, "")
    ));
    let answer = edge
        .ask("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n2\r\nef\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("body-too-large"), "{answer}");
}

#[tokio::test]
async fn a_malformed_chunk_is_the_clients_fault() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.rest().await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let answer = edge
        .ask("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[tokio::test]
async fn an_old_client_gets_a_body_that_ends_with_the_connection() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            .await;
    })
    .await;
    let edge = Edge::before(upstream.address);
    let mut wire = edge.connect().await;
    wire.send("GET / HTTP/1.0\r\nhost: h\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[tokio::test]
async fn large_heads_pass_both_ways() {
    let upstream = Upstream::echoing().await;
    let edge = Edge::before(upstream.address);
    let large = "v".repeat(20_000);
    let answer = edge
        .ask(&format!(
            "GET / HTTP/1.1\r\nhost: h\r\nx-large: {large}\r\n\r\n"
        ))
        .await;
    assert!(answer.contains(&large));
    let answering = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        let large = "v".repeat(50_000);
        wire.send(&format!(
            "HTTP/1.1 200 OK\r\nx-large: {large}\r\ncontent-length: 0\r\n\r\n"
        ))
        .await;
    })
    .await;
    let edge = Edge::before(answering.address);
    let answer = edge.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert_eq!(field(&answer, "x-large").unwrap().len(), 50_000);
}

/// To an upstream that reads all it is sent, and answers nothing.
async fn edge_of_a_reader(route: &str) -> Edge {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.rest().await;
    })
    .await;
    Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'\n{route}",
        to(upstream.address, "")
    ))
}

const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n";

#[tokio::test]
async fn a_body_that_stops_coming_is_its_clients_fault() {
    let edge = edge_of_a_reader("body_timeout = '100ms'").await;
    let answer = edge.ask(&format!("{POST}abc")).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("body-too-slow"), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_is_cut_though_it_never_stops() {
    let edge = edge_of_a_reader("body_timeout = '300ms'\nbody_min_rate = '1MB'").await;
    let mut wire = edge.connect().await;
    wire.send(POST).await;
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if wire.try_send(b"x").await.is_err() {
                break;
            }
        }
    };
    // An endless trickle would end the test by its own patience.
    tokio::time::timeout(Duration::from_secs(20), trickle)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_upstream_that_answers_first_may_be_told_the_rest_as_slowly_as_it_comes() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        wire.until("abc").await;
        wire.send("3\r\ndef\r\n0\r\n\r\n").await;
    })
    .await;
    let edge = Edge::with(&format!(
        "{}[[routes]]\nname = 'all'\nupstream = 'u'\nbody_timeout = '1s'",
        to(upstream.address, "")
    ));
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n")
        .await;
    wire.head().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    wire.send("abc").await;
    wire.until("def").await;
}
