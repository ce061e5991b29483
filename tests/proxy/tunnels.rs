//! Connections that go on as tunnels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::edge::{Edge, to};
use super::failures::assert_problem;
use super::wire::{Upstream, Wire, eventually, field};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: h\r\nconnection: keep-alive, Upgrade\r\n\
                   upgrade: websocket\r\nsec-websocket-key: k\r\n\r\n";

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
                      connection: upgrade\r\nsec-websocket-accept: a\r\n\r\n";

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

fn before(upstream: &Upstream, server: &str, route: &str) -> Edge {
    Edge::with(&format!(
        "[server]\n{server}\n{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n{route}\n",
        to(upstream.address, "")
    ))
}

/// Agrees, and sends back what it is told.
async fn echoing() -> Upstream {
    Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send(AGREED).await;
        while let Some(said) = wire.some().await {
            if wire.try_send(&said).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn bytes_flow_both_ways_and_none_that_came_with_a_head_is_lost() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let head = wire.head().await.to_lowercase();
        assert_eq!(field(&head, "upgrade"), Some("websocket"));
        assert_eq!(field(&head, "connection"), Some("upgrade"));
        assert_eq!(field(&head, "sec-websocket-key"), Some("k"));
        wire.send(&format!("{AGREED}hello")).await;
        assert_eq!(wire.bytes(5).await, b"early");
        assert_eq!(wire.bytes(4).await, b"more");
        wire.send("last words").await;
        wire.end().await;
        assert_eq!(wire.rest().await, "after the end");
    })
    .await;
    let edge = before(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(&format!("{ASK}early")).await;
    let head = wire.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(field(&head, "connection"), Some("upgrade"));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("a"));
    assert_eq!(wire.bytes(5).await, b"hello");
    wire.send("more").await;
    assert_eq!(wire.bytes(10).await, b"last words");
    wire.is_ended().await;
    // The upstream has said all, and still listens.
    wire.send("after the end").await;
    drop(wire);
    eventually("the connection ends", || edge.running.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        wire.head().await;
        wire.send(AGREED).await;
        assert_eq!(wire.rest().await, "a question");
        wire.send("an answer").await;
    })
    .await;
    let edge = before(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(ASK).await;
    wire.head().await;
    wire.send("a question").await;
    wire.end().await;
    assert_eq!(wire.rest().await, "an answer");
}

#[tokio::test]
async fn what_is_more_than_either_side_takes_at_once_arrives_whole() {
    let upstream = echoing().await;
    let edge = before(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(ASK).await;
    wire.head().await;
    let said: Vec<u8> = (0_u32..2_000_000).flat_map(u32::to_le_bytes).collect();
    let heard = wire.send_and_hear(said.clone()).await;
    assert!(heard == said, "{} of {} bytes", heard.len(), said.len());
}

#[tokio::test]
async fn only_what_the_route_lists_is_asked_for() {
    let upstream = Upstream::echoing().await;
    let rows = [
        ("upgrades = []", "websocket", None),
        ("", "h2c", None),
        ("", "TLS/1.0", None),
        ("", "h2c, websocket", Some("websocket")),
        ("upgrades = ['x-own']", "websocket, X-Own", Some("x-own")),
    ];
    for (route, wish, asked) in rows {
        let edge = before(&upstream, "", route);
        let request = ASK.replace("upgrade: websocket", &format!("upgrade: {wish}"));
        let seen = edge.ask(&request).await.to_lowercase();
        let seen = seen.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(field(seen, "upgrade"), asked, "{wish}");
        assert_eq!(
            field(seen, "connection"),
            asked.map(|_| "upgrade"),
            "{wish}"
        );
    }
}

#[tokio::test]
async fn what_could_not_be_a_websocket_asks_for_nothing() {
    let upstream = Upstream::echoing().await;
    let edge = before(&upstream, "", "");
    for request in [
        ASK.replace("GET", "POST"),
        ASK.replace("HTTP/1.1", "HTTP/1.0"),
        ASK.replace("connection: keep-alive, Upgrade", "connection: keep-alive"),
        ASK.replace(
            "upgrade: websocket",
            "upgrade: websocket\r\nupgrade: websocket",
        ),
        ASK.replace(
            "upgrade: websocket",
            "upgrade: websocket\r\ncontent-length: 1",
        ) + "x",
    ] {
        let seen = edge.ask(&request).await.to_lowercase();
        let seen = seen.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(field(seen, "upgrade"), None, "{request}");
    }
}

#[tokio::test]
async fn an_upstream_that_agrees_to_something_else_is_a_502() {
    for agreed in [
        AGREED.replace("WebSocket", "h2c"),
        AGREED.replace("upgrade: WebSocket\r\n", ""),
        AGREED.replace("WebSocket\r\n", "websocket\r\nupgrade: h2c\r\n"),
    ] {
        let upstream = Upstream::playing(move |mut wire: Wire| {
            let agreed = agreed.clone();
            async move {
                wire.head().await;
                wire.send(&agreed).await;
                wire.rest().await;
            }
        })
        .await;
        let answer = before(&upstream, "", "").ask(ASK).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_answers_as_ever() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        loop {
            wire.head().await;
            wire.send(OK).await;
        }
    })
    .await;
    let edge = before(&upstream, "", "");
    let mut wire = edge.connect().await;
    for _ in 0..2 {
        wire.send(ASK).await;
        assert!(wire.message().await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_tunnel_ends_when_nothing_moves_or_it_is_too_old() {
    let upstream = echoing().await;
    for route in ["tunnel_idle_timeout = '100ms'", "tunnel_lifetime = '100ms'"] {
        let edge = before(&upstream, "", route);
        let mut wire = edge.connect().await;
        wire.send(ASK).await;
        wire.head().await;
        wire.send("ping").await;
        assert_eq!(wire.bytes(4).await, b"ping");
        assert_eq!(wire.rest().await, "");
    }
}

#[tokio::test]
async fn the_routes_time_is_not_for_tunnels() {
    let upstream = echoing().await;
    let edge = before(&upstream, "", "timeout = '1s'");
    let mut wire = edge.connect().await;
    wire.send(ASK).await;
    wire.head().await;
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    wire.send("ping").await;
    assert_eq!(wire.bytes(4).await, b"ping");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_tunnel_with_it() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let seen = Arc::clone(&seen);
        async move {
            wire.head().await;
            wire.send(AGREED).await;
            while wire.try_send(&[0; 4096]).await.is_ok() {}
            seen.store(true, Ordering::SeqCst);
        }
    })
    .await;
    let edge = before(&upstream, "", "");
    let mut wire = edge.connect().await;
    wire.send(ASK).await;
    wire.head().await;
    wire.reset();
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
    eventually("the connection ends", || edge.running.connections() == 0).await;
}

#[tokio::test]
async fn a_tunnel_may_end_while_the_server_drains_and_is_cut_after_that() {
    let upstream = echoing().await;
    let edge = before(&upstream, "drain_timeout = '2s'", "");
    let mut ends = edge.connect().await;
    let mut stays = edge.connect().await;
    for wire in [&mut ends, &mut stays] {
        wire.send(ASK).await;
        wire.head().await;
    }
    edge.running.stop().stop();
    ends.send("ping").await;
    assert_eq!(ends.bytes(4).await, b"ping");
    drop(ends);
    assert_eq!(edge.running.ended().await.unwrap().unfinished, 1);
    assert_eq!(stays.rest().await, "");
}

#[tokio::test]
async fn an_upstream_has_as_many_tunnels_as_it_may_have_and_other_requests_beside_them() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        loop {
            let head = wire.head().await;
            if field(&head, "upgrade").is_none() || head.contains("/declined") {
                wire.send(OK).await;
                continue;
            }
            wire.send(AGREED).await;
            wire.rest().await;
            return;
        }
    })
    .await;
    let edge = Edge::with(&format!(
        "{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        to(upstream.address, "max_tunnels = 1")
    ));
    // What does not become a tunnel takes no place.
    for _ in 0..3 {
        let declined = edge.ask(&ASK.replace("/chat", "/declined")).await;
        assert!(declined.starts_with("HTTP/1.1 200 "), "{declined}");
    }
    let mut open = edge.connect().await;
    open.send(ASK).await;
    assert!(open.head().await.starts_with("HTTP/1.1 101 "));
    let refused = edge.ask(ASK).await;
    assert_problem(&refused, 503, "tunnels-full");
    assert_eq!(field(&refused, "retry-after"), Some("1"), "{refused}");
    let other = edge.ask("GET / HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(other.starts_with("HTTP/1.1 200 "), "{other}");
    drop(open);
    eventually("it ends", || edge.running.connections() == 0).await;
    let mut next = edge.connect().await;
    next.send(ASK).await;
    assert!(next.head().await.starts_with("HTTP/1.1 101 "));
}
