//! The PROXY protocol, and how many connections an address may have.

use std::net::SocketAddr;
use std::time::Duration;

use cypheron_edge::server::{Config, proxy_protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{PATIENCE, config, connect, http2, read_answer, read_to_end, send, start};
#[cfg(feature = "tls")]
use super::{authority::Authority, tls};

/// Whom the service of [`start`] saw.
async fn ask(stream: &mut TcpStream) -> String {
    send(
        stream,
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    let answer = read_to_end(stream).await;
    let (head, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    seen.to_owned()
}

fn balanced(from: &str) -> Config {
    let from = vec![from.parse().unwrap()];
    Config {
        proxy_protocol: proxy_protocol::Config {
            from,
            header_timeout: PATIENCE,
        },
        ..config()
    }
}

const TCP4: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
const TCP6: &str = "PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n";

/// Of version 2, from 192.0.2.8:56324.
fn binary() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f".to_vec();
    header.extend([192, 0, 2, 8, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb, 4, 0, 0]);
    header
}

/// One of each kind, and whose connection it says it is.
fn headers() -> [(Vec<u8>, &'static str); 3] {
    [
        (TCP4.into(), "192.0.2.7:56324"),
        (TCP6.into(), "[2001:db8::7]:56324"),
        (binary(), "192.0.2.8:56324"),
    ]
}

#[tokio::test]
async fn a_balancer_says_whose_each_connection_is() {
    let (address, _running) = start(&balanced("127.0.0.0/8"));
    for (header, seen) in headers() {
        let mut stream = connect(address).await;
        stream.write_all(&header).await.unwrap();
        assert_eq!(ask(&mut stream).await, seen);
        // In pieces too.
        let mut stream = connect(address).await;
        stream.set_nodelay(true).unwrap();
        for byte in header {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&mut stream).await, seen);
    }
    // A health check is nobody else's.
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
    ] {
        let mut stream = connect(address).await;
        let own = stream.local_addr().unwrap().to_string();
        stream.write_all(header).await.unwrap();
        assert_eq!(ask(&mut stream).await, own);
    }
}

#[tokio::test]
async fn a_balancers_connection_without_a_header_is_closed_and_never_served() {
    let mut config = balanced("127.0.0.0/8");
    config.proxy_protocol.header_timeout = Duration::from_millis(200);
    let (address, _running) = start(&config);
    for begin in [
        "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
        "",
        "PROXY TCP4 ",
    ] {
        let mut stream = connect(address).await;
        send(&mut stream, begin).await;
        assert_eq!(read_to_end(&mut stream).await, "", "{begin}");
    }
}

#[tokio::test]
async fn what_follows_a_header_may_be_http2() {
    let (address, _running) = start(&balanced("127.0.0.0/8"));
    for (header, seen) in headers() {
        let sent = [&*header, &http2::asking()].concat();
        // In one piece, with the header apart, and byte by byte.
        for length in [sent.len(), header.len(), 1] {
            let mut stream = connect(address).await;
            stream.set_nodelay(true).unwrap();
            for piece in sent.chunks(length) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            let answered = http2::answered(stream).await;
            assert_eq!(answered.as_deref(), Some(seen), "pieces of {length}");
        }
    }
    // Who is to send a header is not served without, and nobody has two.
    for begin in ["", &[TCP4, TCP4].concat()] {
        let mut stream = connect(address).await;
        let sent = [begin.as_bytes(), &http2::asking()].concat();
        // It may be closed before all is written.
        let _ = stream.write_all(&sent).await;
        assert_eq!(http2::answered(stream).await, None, "{begin}");
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn a_header_comes_before_tls_and_what_is_agreed_on_in_it_is_spoken() {
    let ca = Authority::new();
    let config = Config {
        proxy_protocol: balanced("127.0.0.0/8").proxy_protocol,
        ..tls::config(&[&ca.line("a", &["a.test"])], "")
    };
    let (address, _running) = start(&config);
    let mut client = ca.client();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(client));
    for (header, seen) in headers() {
        let mut stream = connect(address).await;
        stream.write_all(&header).await.unwrap();
        let name = "a.test".try_into().unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        stream.write_all(&http2::asking()).await.unwrap();
        let answered = http2::answered(stream).await;
        assert_eq!(answered.as_deref(), Some(seen));
    }
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let (address, _running) = start(&balanced("192.0.2.0/24"));
    let mut stream = connect(address).await;
    let own = stream.local_addr().unwrap().to_string();
    assert_eq!(ask(&mut stream).await, own);
    for header in [TCP4.as_bytes(), &binary()] {
        let mut stream = connect(address).await;
        stream.write_all(header).await.unwrap();
        send(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = read_to_end(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}

/// One that is served and stays open; `None` when it is closed instead.
async fn kept(address: SocketAddr, header: &str) -> Option<TcpStream> {
    let mut stream = connect(address).await;
    let ask = format!("{header}GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // It may be closed before all is written.
    let _ = stream.write_all(ask.as_bytes()).await;
    let mut first = [0];
    let read = timeout(PATIENCE, stream.read(&mut first)).await.unwrap();
    read.is_ok_and(|read| read == 1).then_some(stream)
}

#[tokio::test]
async fn an_address_has_only_so_many_connections_and_others_have_theirs() {
    let config = Config {
        max_connections_per_address: 2,
        ..balanced("127.0.0.0/8")
    };
    let (address, running) = start(&config);
    let of = |client: &str| format!("PROXY TCP6 {client} ::1 1 2\r\n");
    let first = kept(address, &of("2001:db8::1")).await.unwrap();
    let _second = kept(address, &of("2001:db8::2")).await.unwrap();
    assert!(kept(address, &of("2001:db8::3")).await.is_none());
    let _other = kept(address, &of("2001:db8:0:1::3")).await.unwrap();
    drop(first);
    timeout(PATIENCE, async {
        while running.connections() > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(kept(address, &of("2001:db8::3")).await.is_some());
}

#[tokio::test]
async fn a_proxy_has_the_connections_of_many() {
    for (trusted, admitted) in [("192.0.2.0/24", false), ("127.0.0.0/8", true)] {
        let config = Config {
            max_connections_per_address: 1,
            trusted_proxies: vec![trusted.parse().unwrap()],
            ..config()
        };
        let (address, _running) = start(&config);
        let mut first = connect(address).await;
        send(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        read_answer(&mut first).await;
        assert_eq!(kept(address, "").await.is_some(), admitted, "{trusted}");
    }
}
