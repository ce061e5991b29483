//! The server, over real sockets, with services of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(feature = "tls")]
#[path = "../authority/mod.rs"]
mod authority;
mod balancers;
mod http2;
#[cfg(feature = "tls")]
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is there"
)]
#[path = "../python/interpreter.rs"]
mod python;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_strangers;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::server::{Config, Connection, Running, Server};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower::service_fn;

const PATIENCE: Duration = Duration::from_secs(30);

fn config() -> Config {
    toml::from_str("listen = '127.0.0.1:0'\nworkers = 2\ndrain_timeout = '5s'").unwrap()
}

/// More than the kernel holds for a client that does not read.
const LARGE: usize = 32 << 20;

/// Answers `/slow` after a second, everything else at once, with the peer's
/// address; `/bare` with 400 and nothing more, `/large` with [`LARGE`] bytes,
/// `/pieces` with the address three times, each by itself.
fn start(config: &Config) -> (SocketAddr, Running) {
    let server = Server::bind(config).unwrap();
    let address = server.address();
    let running = server
        .start(|_worker| {
            |connection: Connection| {
                let peer = connection.peer;
                service_fn(move |request: Request<Incoming>| async move {
                    if request.uri().path() == "/slow" {
                        sleep(Duration::from_secs(1)).await;
                    }
                    let bare = request.uri().path() == "/bare";
                    let body = if bare {
                        String::new()
                    } else if request.uri().path() == "/large" {
                        "x".repeat(LARGE)
                    } else {
                        peer.to_string()
                    };
                    let pieces = if request.uri().path() == "/pieces" {
                        3
                    } else {
                        1
                    };
                    let mut response = Response::new(Pieces {
                        piece: Bytes::from(body),
                        left: pieces,
                    });
                    if bare {
                        *response.status_mut() = StatusCode::BAD_REQUEST;
                    }
                    Ok::<_, Infallible>(response)
                })
            }
        })
        .unwrap();
    (address, running)
}

/// A body of so many frames, all alike.
struct Pieces {
    piece: Bytes,
    left: usize,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_end_stream() {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 || self.piece.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.piece.len() * self.left) as u64)
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

async fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Everything until the server closes. A reset counts as closing.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes))
        .await
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

/// One answer whose body is the peer's address.
async fn read_answer(stream: &mut TcpStream) -> String {
    let end = stream.local_addr().unwrap().to_string();
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).ends_with(&end) {
        let read = timeout(PATIENCE, stream.read_buf(&mut bytes))
            .await
            .unwrap();
        assert_ne!(read.unwrap(), 0, "{bytes:?}");
    }
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let (address, _running) = start(&config());
    let mut stream = connect(address).await;
    for _ in 0..3 {
        send(&mut stream, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }
    send(&mut stream, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(read_to_end(&mut stream).await.starts_with("HTTP/1.0 200"));
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_its_status() {
    let (address, _running) = start(&config());
    let many = "h: v\r\n".repeat(101);
    let large = format!("h: {}\r\n", "v".repeat(40_000));
    for (request, status) in [
        ("GET\r\n\r\n".to_owned(), "400"),
        ("G@T / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/9.9\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nbad header\r\n\r\n".to_owned(), "400"),
        (
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n".to_owned(),
            "400",
        ),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), "431"),
        (format!("GET / HTTP/1.1\r\n{large}\r\n"), "431"),
    ] {
        let mut stream = connect(address).await;
        send(&mut stream, &request).await;
        let answer = read_to_end(&mut stream).await;
        let start = format!("HTTP/1.1 {status}");
        assert!(
            answer.starts_with(&start),
            "{answer} to {}",
            &request[..20.min(request.len())]
        );
        let (head, document) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("application/problem+json"), "{head}");
        let length = format!("content-length: {}", document.len());
        assert!(head.contains(&length), "{head}");
        assert!(
            document.contains("urn:cypheron-edge:problem:"),
            "{document}"
        );
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_so_on_a_connection_that_served_others() {
    let (address, _running) = start(&config());
    let mut stream = connect(address).await;
    // The service's own bare 400 is left as it is.
    send(&mut stream, "GET /bare HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut bare = vec![0; 1024];
    let length = stream.read(&mut bare).await.unwrap();
    let bare = String::from_utf8_lossy(&bare[..length]).into_owned();
    assert!(bare.starts_with("HTTP/1.1 400"), "{bare}");
    assert!(bare.ends_with("\r\n\r\n"), "{bare}");
    send(&mut stream, "G@T / HTTP/1.1\r\n\r\n").await;
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.contains("urn:cypheron-edge:problem:bad-request"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_and_an_idle_connection_closed() {
    let config = Config {
        header_timeout: Duration::from_millis(150),
        idle_timeout: Duration::from_millis(300),
        ..config()
    };
    let (address, _running) = start(&config);
    let mut slow_head = connect(address).await;
    send(&mut slow_head, "GET / HTTP/1.1\r\nhost").await;
    let mut silent = connect(address).await;
    let mut used = connect(address).await;
    send(&mut used, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = read_to_end(&mut slow_head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(
        answer.contains("urn:cypheron-edge:problem:request-timeout"),
        "{answer}"
    );
    assert_eq!(read_to_end(&mut silent).await, "");
    // A request may take longer than a head or an idle connection may.
    assert!(read_to_end(&mut used).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_beyond_the_bound_are_closed_and_room_is_made_again() {
    let config = Config {
        max_connections: 1,
        ..config()
    };
    let (address, running) = start(&config);
    let mut first = connect(address).await;
    send(&mut first, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(&mut first).await;
    assert_eq!(read_to_end(&mut connect(address).await).await, "");
    drop(first);
    timeout(PATIENCE, async {
        while running.connections() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let mut second = connect(address).await;
    send(&mut second, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(&mut second).await;
}

#[tokio::test]
async fn draining_ends_what_is_in_flight_and_closes_what_is_idle() {
    let (address, running) = start(&config());
    let mut idle = connect(address).await;
    send(&mut idle, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(!read_answer(&mut idle).await.contains("connection: close"));
    let mut busy = connect(address).await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    running.stop().stop();
    assert_eq!(read_to_end(&mut idle).await, "");
    let answer = read_to_end(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    let drained = timeout(PATIENCE, running.ended()).await.unwrap().unwrap();
    assert_eq!(drained.unfinished, 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_that_crosses_the_drain_is_answered_and_told_that_it_is_the_last() {
    let config = Config {
        drain_idle: Duration::from_hours(1),
        drain_timeout: Duration::from_hours(3),
        ..config()
    };
    let (address, running) = start(&config);
    let mut used = connect(address).await;
    send(&mut used, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(&mut used).await;
    let mut silent = connect(address).await;
    running.stop().stop();
    timeout(PATIENCE, async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    for connection in [&mut used, &mut silent] {
        send(connection, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = read_to_end(connection).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    let drained = timeout(PATIENCE, running.ended()).await.unwrap().unwrap();
    assert_eq!(drained.unfinished, 0);
}

#[tokio::test]
async fn accepting_goes_on_while_the_drain_is_delayed() {
    let config = Config {
        drain_delay: Duration::from_secs(2),
        ..config()
    };
    let (address, running) = start(&config);
    running.stop().stop();
    let mut late = connect(address).await;
    send(&mut late, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert!(read_answer(&mut late).await.starts_with("HTTP/1.1 200"));
    timeout(PATIENCE, running.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_in_time_is_cut_and_counted() {
    let config = Config {
        drain_timeout: Duration::from_millis(20),
        ..config()
    };
    let (address, running) = start(&config);
    let mut busy = connect(address).await;
    send(&mut busy, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await;
    sleep(Duration::from_millis(50)).await;
    running.stop().stop();
    let drained = timeout(PATIENCE, running.ended()).await.unwrap().unwrap();
    assert_eq!(drained.unfinished, 1);
    assert_eq!(read_to_end(&mut busy).await, "");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_before_an_idle_one() {
    let config = Config {
        first_byte_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_hours(1),
        ..config()
    };
    let (address, _running) = start(&config);
    let mut used = connect(address).await;
    send(&mut used, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(&mut used).await;
    assert_eq!(read_to_end(&mut connect(address).await).await, "");
    send(&mut used, "GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    read_answer(&mut used).await;
}

#[tokio::test]
async fn a_client_that_takes_its_answer_too_slowly_is_cut_though_it_never_stops() {
    let config: Config = toml::from_str(
        "listen = '127.0.0.1:0'\nworkers = 1\nidle_timeout = '1s'\nmin_rate = '8MB'",
    )
    .unwrap();
    let (address, running) = start(&config);
    let ask = "GET /large HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut quick = connect(address).await;
    send(&mut quick, ask).await;
    assert!(read_to_end(&mut quick).await.len() > LARGE);
    let mut slow = connect(address).await;
    send(&mut slow, ask).await;
    let (mut some, mut taken) = (vec![0; 16 << 10], 0);
    timeout(4 * PATIENCE, async {
        while let Ok(read @ 1..) = slow.read(&mut some).await {
            taken += read;
            sleep(Duration::from_millis(5)).await;
            if running.connections() == 0 {
                break;
            }
        }
    })
    .await
    .unwrap();
    assert!(taken < LARGE, "it was left to take all");
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (address, _running) = start(&config());
    let config = Config {
        listen: address,
        ..config()
    };
    let error = Server::bind(&config).unwrap_err();
    assert!(error.is_taken());
    assert!(
        error
            .to_string()
            .contains(&format!("server.listen: cannot listen on {address}"))
    );
}
