//! A WebSocket of a client that speaks HTTP/2 (RFC 8441).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, eventually, field};

fn before(upstream: &Upstream, server: &str, route: &str) -> Edge {
    Edge::with(&format!(
        "[server]\n{server}\n{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n{route}\n",
        to(upstream.address, "")
    ))
}

/// A connection that was told that a WebSocket may be asked for.
async fn connect(edge: &Edge) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    let sender = sender.ready().await.unwrap();
    let offered = || sender.is_extended_connect_protocol_enabled();
    eventually("it is offered", offered).await;
    sender
}

fn wish(protocol: &'static str) -> Request<()> {
    let mut request = Request::connect("http://h/chat?x")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "chat")
        .header("sec-websocket-key", "the client's")
        .body(())
        .unwrap();
    let protocol = Protocol::from_static(protocol);
    request.extensions_mut().insert(protocol);
    request
}

fn ask(sender: &mut SendRequest<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
    sender.send_request(wish("websocket"), false).unwrap()
}

/// A tunnel that is open.
async fn open(edge: &Edge) -> (SendStream<Bytes>, RecvStream, SendRequest<Bytes>) {
    let mut sender = connect(edge).await;
    let (answer, saying) = ask(&mut sender);
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    (saying, answer.into_body(), sender)
}

/// What comes next; `None` at the end, or when it breaks off.
async fn hear(hearing: &mut RecvStream) -> Option<Bytes> {
    loop {
        let data = hearing.data().await?.ok()?;
        let flow = hearing.flow_control();
        flow.release_capacity(data.len()).unwrap();
        if !data.is_empty() {
            return Some(data);
        }
    }
}

async fn hear_whole(hearing: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut heard = Vec::new();
    while heard.len() < length {
        heard.extend(hear(hearing).await.unwrap());
    }
    heard
}

async fn text(answer: Response<RecvStream>) -> String {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while let Some(data) = hear(&mut body).await {
        text.extend(data);
    }
    String::from_utf8(text).unwrap()
}

/// What a WebSocket server answers to `head`.
fn agreement(head: &str) -> String {
    let key = field(head, "sec-websocket-key").unwrap();
    let asked = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let proof = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, asked.as_bytes()));
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
         sec-websocket-protocol: chat\r\nsec-websocket-accept: {proof}\r\n\r\n"
    )
}

/// Agrees, and sends back what it is told.
async fn echoing() -> Upstream {
    Upstream::playing(|mut wire: Wire| async move {
        let agreed = agreement(&wire.head().await);
        wire.send(&agreed).await;
        while let Some(said) = wire.some().await {
            if wire.try_send(&said).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn to_its_upstream_it_is_an_upgrade_and_nothing_that_is_said_is_lost() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let head = wire.head().await;
        assert!(head.starts_with("GET /chat?x HTTP/1.1\r\n"), "{head}");
        for (name, value) in [
            ("host", "h"),
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
        ] {
            assert_eq!(field(&head, name), Some(value), "{head}");
        }
        assert!(!head.contains("the client's"), "{head}");
        wire.send(&format!("{}hello", agreement(&head))).await;
        assert_eq!(wire.bytes(9).await, b"earlymore");
        wire.send("last words").await;
        wire.end().await;
        assert_eq!(wire.rest().await, "after the end");
    })
    .await;
    let edge = before(&upstream, "", "");
    let mut sender = connect(&edge).await;
    let (answer, mut saying) = ask(&mut sender);
    saying.send_data("early".into(), false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat");
    for none in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!answer.headers().contains_key(none), "{answer:?}");
    }
    let mut hearing = answer.into_body();
    assert_eq!(hear_whole(&mut hearing, 5).await, b"hello");
    saying.send_data("more".into(), false).unwrap();
    assert_eq!(hear_whole(&mut hearing, 10).await, b"last words");
    assert_eq!(hear(&mut hearing).await, None);
    // The upstream has said all, and still listens.
    saying.send_data("after the end".into(), true).unwrap();
    drop((hearing, saying, sender));
    eventually("the connection ends", || edge.running.connections() == 0).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_hears_and_its_connection_goes_on() {
    let upstream = Upstream::playing(|mut wire: Wire| async move {
        let agreed = agreement(&wire.head().await);
        wire.send(&agreed).await;
        assert_eq!(wire.rest().await, "a question");
        wire.send("an answer").await;
    })
    .await;
    let edge = before(&upstream, "", "");
    let (mut saying, mut hearing, mut sender) = open(&edge).await;
    saying.send_data("a question".into(), true).unwrap();
    assert_eq!(hear_whole(&mut hearing, 9).await, b"an answer");
    assert_eq!(hear(&mut hearing).await, None);
    let (answer, _) = ask(&mut sender);
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test]
async fn what_is_more_than_either_side_takes_at_once_arrives_whole() {
    let upstream = echoing().await;
    let edge = before(&upstream, "", "");
    let (mut saying, mut hearing, _sender) = open(&edge).await;
    let said: Vec<u8> = (0_u32..1_000_000).flat_map(u32::to_le_bytes).collect();
    let (length, all) = (said.len(), Bytes::from(said.clone()));
    // h2 keeps what the edge takes no more of.
    saying.send_data(all, false).unwrap();
    let heard = hear_whole(&mut hearing, length).await;
    assert!(heard == said, "{} of {length} bytes", heard.len());
}

#[tokio::test]
async fn what_cannot_become_a_tunnel_is_refused_before_anybody_is_asked() {
    let upstream = echoing().await;
    let http2 = format!(
        "{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        to(upstream.address, "http2 = true")
    );
    for (edge, protocol) in [
        (before(&upstream, "", ""), "connect-udp"),
        (
            before(&upstream, "", "upgrades = ['connect-udp']"),
            "connect-udp",
        ),
        (before(&upstream, "", "upgrades = []"), "websocket"),
        (before(&upstream, "", "upgrades = ['x-own']"), "websocket"),
        (Edge::with(&http2), "websocket"),
    ] {
        let mut sender = connect(&edge).await;
        let (answer, _) = sender.send_request(wish(protocol), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 501, "{protocol}");
        let problem = text(answer).await;
        assert!(problem.contains(":unsupported-protocol\""), "{problem}");
    }
    let edge = before(&upstream, "", "");
    let plain = Request::connect("h:80").body(()).unwrap();
    let (answer, _) = connect(&edge).await.send_request(plain, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(text(answer).await.contains(":unsupported-target\""));
    assert_eq!(upstream.connections(), 0);
}

#[tokio::test]
async fn an_upstream_that_does_not_open_it_is_passed_on_or_is_a_502() {
    let of_another = agreement("sec-websocket-key: another\r\n");
    let unproven = of_another.replace("sec-websocket-accept", "x");
    let another_protocol = unproven.replace("websocket", "h2c");
    for (answer, status) in [
        (&*of_another, 502),
        (&*unproven, 502),
        (&*another_protocol, 502),
        // Which over HTTP/2 would mean that it is open.
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", 502),
        ("HTTP/1.1 204 No Content\r\n\r\n", 502),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 403),
        (
            "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 2\r\n\r\nno",
            302,
        ),
    ] {
        let said = answer.to_owned();
        let upstream = Upstream::playing(move |mut wire: Wire| {
            let said = said.clone();
            async move {
                wire.head().await;
                wire.send(&said).await;
                wire.rest().await;
            }
        })
        .await;
        let edge = before(&upstream, "", "");
        let mut sender = connect(&edge).await;
        let (told, _saying) = ask(&mut sender);
        let told = told.await.unwrap();
        assert_eq!(told.status(), status, "{answer}");
        if status != 502 {
            assert_eq!(text(told).await, "no");
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_tunnel_with_it_and_no_other() {
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let seen = Arc::clone(&seen);
        async move {
            let agreed = agreement(&wire.head().await);
            wire.send(&agreed).await;
            if wire.some().await.is_some_and(|said| said == b"stay") {
                wire.send("here").await;
                wire.rest().await;
            } else {
                seen.store(true, Ordering::SeqCst);
            }
        }
    })
    .await;
    let edge = before(&upstream, "", "");
    let (mut leaving, _, mut sender) = open(&edge).await;
    let (answer, mut staying) = ask(&mut sender);
    let mut hearing = answer.await.unwrap().into_body();
    leaving.send_reset(h2::Reason::CANCEL);
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
    staying.send_data("stay".into(), false).unwrap();
    assert_eq!(hear_whole(&mut hearing, 4).await, b"here");
}

#[tokio::test]
async fn a_tunnel_ends_when_nothing_moves_or_it_is_too_old() {
    let upstream = echoing().await;
    for route in ["tunnel_idle_timeout = '100ms'", "tunnel_lifetime = '100ms'"] {
        let edge = before(&upstream, "", route);
        let (_saying, mut hearing, _sender) = open(&edge).await;
        assert_eq!(hear(&mut hearing).await, None);
    }
}

#[tokio::test]
async fn a_connection_with_a_tunnel_is_not_idle() {
    let upstream = echoing().await;
    let edge = before(&upstream, "idle_timeout = '100ms'", "");
    let (mut saying, mut hearing, _sender) = open(&edge).await;
    sleep(Duration::from_millis(300)).await;
    saying.send_data("ping".into(), false).unwrap();
    assert_eq!(hear_whole(&mut hearing, 4).await, b"ping");
}

#[tokio::test]
async fn a_tunnel_may_end_while_the_server_drains_and_is_cut_after_that() {
    let upstream = echoing().await;
    let edge = before(&upstream, "drain_timeout = '2s'", "");
    let (mut saying, mut ends, _ends) = open(&edge).await;
    let (_saying, mut stays, _stays) = open(&edge).await;
    edge.running.stop().stop();
    saying.send_data("ping".into(), true).unwrap();
    assert_eq!(hear_whole(&mut ends, 4).await, b"ping");
    assert_eq!(edge.running.ended().await.unwrap().unfinished, 1);
    assert_eq!(hear(&mut stays).await, None);
}

#[tokio::test]
async fn where_they_are_turned_off_none_are_offered() {
    let upstream = echoing().await;
    let edge = before(&upstream, "http2.websockets = false", "");
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    let mut sender = sender.ready().await.unwrap();
    let plain = Request::get("http://h/").body(()).unwrap();
    let (answer, _) = sender.send_request(plain, true).unwrap();
    answer.await.ok();
    assert!(!sender.is_extended_connect_protocol_enabled());
}
