//! Restarts under TLS: with HTTP/2, whose connections are told to go, and with a
//! tunnel, which nobody can tell.

use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::certificate::Certificate;
use crate::client::Connection;
use crate::load::{Client, Load, Task};
use crate::process::{Deployment, eventually};
use crate::restart::{RESTARTS, everything_is_stored_once, flushes, taken_over};
use crate::upstream::Upstream;

/// Requests at a time on one connection.
const STREAMS: usize = 8;

/// A connection of HTTP/2 over TLS.
struct Http2 {
    sender: SendRequest<Empty<Bytes>>,
    /// How it ends.
    connection: JoinHandle<hyper::Result<()>>,
}

/// What became of a request: it was not sent where the connection had ended.
type Asked = Option<StatusCode>;

impl Http2 {
    async fn open(edge: std::net::SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let stream = TcpStream::connect(edge).await.expect("it is not refused");
        let stream = TlsConnector::from(Arc::clone(config))
            .connect(Certificate::name(), stream)
            .await
            .expect("hands are shaken");
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(connection);
        Self { sender, connection }
    }

    /// Reads the answer to its end.
    async fn get(&self, path: &str, token: &str) -> Asked {
        let request = Request::get(format!("https://edge.test{path}"))
            .header("x-api-key", token)
            .body(Empty::new())
            .unwrap();
        match self.sender.clone().try_send_request(request).await {
            Ok(answer) => {
                let status = answer.status();
                let body = answer.into_body().collect().await;
                assert!(!body.expect("it is not cut").to_bytes().is_empty());
                Some(status)
            }
            Err(mut refused) => {
                assert!(refused.take_message().is_some(), "cut: {}", refused.error());
                None
            }
        }
    }
}

fn of_http2(certificate: &Certificate) -> Arc<ClientConfig> {
    let mut config = certificate.client();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// Asks by [`STREAMS`] requests at a time, on one connection until it is told to
/// go.
#[tokio::main(flavor = "current_thread")]
async fn ask(config: &Arc<ClientConfig>, task: &Task) {
    let mut connections = 0;
    while task.goes_on() {
        let http2 = Http2::open(task.edge, config).await;
        connections += 1;
        let mut told_to_go = false;
        while task.goes_on() && !told_to_go {
            let asked = join_all((0..STREAMS).map(|_| http2.get("/", &task.token))).await;
            for status in asked.iter().flatten() {
                assert_eq!(*status, 200);
                task.count();
            }
            told_to_go = asked.contains(&None);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        drop(http2.sender);
        http2.connection.await.unwrap().expect("it ends in order");
    }
    assert!(connections > RESTARTS, "only {connections} connections");
}

#[test]
fn over_tls_and_http2_processes_that_take_over_refuse_cut_and_lose_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(directory.path(), "edge");
    let upstream = Upstream::start();
    let edge = Deployment::in_environment(upstream.address, &certificate.settings(), flushes());
    let mut running = edge.serve();
    let config = of_http2(&certificate);
    let clients = (0..2).map(|_| -> Client {
        let config = Arc::clone(&config);
        Box::new(move |task| ask(&config, task))
    });
    let load = Load::begin(&edge, clients);
    for _ in 0..RESTARTS {
        load.goes_on();
        running = taken_over(&edge, running);
    }
    load.goes_on();
    let seen = load.end();
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    everything_is_stored_once(&edge, &seen);
}

/// Waits until another process has told the one that runs to go.
fn is_taken_over(edge: &Deployment) {
    eventually("another process has taken over", || {
        edge.log_text().contains("another process has taken over")
    });
}

#[tokio::test]
async fn a_stream_that_is_open_when_another_process_takes_over_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(directory.path(), "edge");
    let upstream = Upstream::start();
    // Longer than any machine takes for what comes in between.
    let patience = [("CYPHERON_EDGE__SERVER__DRAIN_TIMEOUT", "2m".to_owned())];
    let edge = Deployment::in_environment(upstream.address, &certificate.settings(), patience);
    let token = edge.key("patient", &[]);
    let mut before = edge.serve();
    let config = of_http2(&certificate);
    let http2 = Arc::new(Http2::open(edge.traffic, &config).await);
    let (asking, key) = (Arc::clone(&http2), token.clone());
    let slow = tokio::spawn(async move { asking.get("/slow", &key).await });
    while upstream.requests() == 0 {
        tokio::task::yield_now().await;
    }

    let next = edge.command(&["serve", "--take-over"]);
    let next = edge.started(next, edge.health);
    is_taken_over(&edge);
    // The old connection takes no more, and what it has goes on.
    while let Some(status) = http2.get("/", &token).await {
        assert_eq!(status, 200);
    }
    let other = Http2::open(edge.traffic, &config).await;
    assert_eq!(other.get("/", &token).await, Some(StatusCode::OK));
    assert!(before.ended().is_none(), "{}", edge.log_text());
    upstream.release();
    assert_eq!(slow.await.unwrap(), Some(StatusCode::OK));
    assert_eq!(before.wait(), Some(0), "{}", edge.log_text());
    drop(other);
    assert_eq!(next.stop(), Some(0), "{}", edge.log_text());
}

/// What a tunnel has from the moment when another process took over.
const BOUND: Duration = Duration::from_secs(8);

#[test]
fn a_tunnel_goes_on_beside_the_next_process_until_the_drain_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = Certificate::make(directory.path(), "edge");
    let upstream = Upstream::start();
    let bound = format!("{}s", BOUND.as_secs());
    let bound = [("CYPHERON_EDGE__SERVER__DRAIN_TIMEOUT", bound)];
    let edge = Deployment::in_environment(upstream.address, &certificate.settings(), bound);
    let token = edge.key("talker", &[]);
    let mut before = edge.serve();
    let mut tunnel = certificate.connect(edge.traffic).unwrap();
    let ask = format!(
        "GET /chat HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    tunnel.write_all(ask.as_bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tunnel.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let mut says = |what: &[u8]| {
        tunnel.write_all(what).unwrap();
        let mut echo = vec![0; what.len()];
        tunnel.read_exact(&mut echo).unwrap();
        assert_eq!(echo, what);
    };
    says(b"before");

    let begun = Instant::now();
    let next = edge.command(&["serve", "--take-over"]);
    let next = edge.started(next, edge.health);
    is_taken_over(&edge);
    for _ in 0..5 {
        says(b"still here");
        thread::sleep(Duration::from_millis(20));
    }
    let mut asking = Connection::over(certificate.connect(edge.traffic).unwrap());
    let answer = asking.get("/", &[("X-API-Key", &token)]).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(before.wait(), Some(0), "{}", edge.log_text());
    assert!(begun.elapsed() >= BOUND, "{:?}", begun.elapsed());
    let rest = tunnel.read(&mut [0]);
    assert!(matches!(rest, Ok(0) | Err(_)), "{rest:?}");
    drop(asking);
    assert_eq!(next.stop(), Some(0), "{}", edge.log_text());
}
