//! The health port, over its socket.

#![cfg(feature = "edge")]
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but does not know a test's own helpers for such"
)]

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use cypheron_edge::admin::{Health, serve_health};
use cypheron_edge::telemetry::{Metrics, install_metrics, metric};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A process has one recorder.
static METRICS: LazyLock<Metrics> = LazyLock::new(|| install_metrics().unwrap());

struct Port {
    address: SocketAddr,
    health: Arc<Health>,
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn port() -> Port {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::new().with_part("sink", || false));
    let (shutdown, stopped) = oneshot::channel();
    let stopped = async move {
        let _ = stopped.await;
    };
    let served = serve_health(listener, Arc::clone(&health), METRICS.clone(), stopped);
    let served = tokio::spawn(served);
    Port {
        address,
        health,
        shutdown,
        served,
    }
}

impl Port {
    async fn ask(&self, request_line: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }
}

fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn a_process_is_alive_before_it_is_ready_and_while_it_drains() {
    let port = port().await;
    let states = [
        ("503", "starting", None),
        (
            "200",
            "degraded",
            Some(Health::keyring_opened as fn(&Health)),
        ),
        ("503", "draining", Some(Health::draining)),
    ];
    for (expected, state, step) in states {
        if let Some(step) = step {
            step(&port.health);
        }
        let ready = port.ask("GET /readyz").await;
        assert_eq!(status(&ready), expected, "{state}");
        assert!(ready.contains(state), "{ready}");
        assert!(ready.contains(r#""degraded":["sink"]"#), "{ready}");
        assert_eq!(status(&port.ask("GET /healthz").await), "200", "{state}");
    }
}

#[tokio::test]
async fn metrics_are_in_the_text_format_of_prometheus() {
    let port = port().await;
    metrics::counter!(metric::STORE_FEED_CUTS).increment(3);
    let response = port.ask("GET /metrics").await;
    assert_eq!(status(&response), "200");
    assert!(response.contains("content-type: text/plain; version=0.0.4"));
    assert!(response.contains("# TYPE cypheron_edge_store_feed_cuts_total counter"));
    assert!(response.contains("cypheron_edge_store_feed_cuts_total 3"));
    assert!(response.contains("cypheron_edge_build_info{version="));
}

#[tokio::test]
async fn nothing_else_is_answered() {
    let port = port().await;
    for (request, expected) in [
        ("HEAD /healthz", "200"),
        ("GET /", "404"),
        ("GET /healthz/", "404"),
        ("POST /healthz", "405"),
        ("DELETE /metrics", "405"),
    ] {
        let response = port.ask(request).await;
        assert_eq!(status(&response), expected, "{request}");
    }
    let head = port.ask("HEAD /healthz").await;
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
}

#[tokio::test]
async fn a_silent_client_keeps_nobody_waiting() {
    let port = port().await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(port.address).await.unwrap());
    }
    assert_eq!(status(&port.ask("GET /healthz").await), "200");
}

#[tokio::test]
async fn the_port_closes_when_it_is_told_to() {
    let port = port().await;
    port.shutdown.send(()).unwrap();
    port.served.await.unwrap();
    assert!(TcpStream::connect(port.address).await.is_err());
}
