//! Upstreams that are spoken to in HTTP/2.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};

use super::edge::Edge;
use super::failures::assert_problem;
use super::wire::{Upstream as Scripted, Wire, eventually};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// An upstream that speaks nothing but HTTP/2, and does not ask.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// Tells open connections to take no more requests.
    go_away: Arc<Notify>,
}

impl Upstream {
    async fn answering<F>(
        most_streams: u32,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Self
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            go_away: Arc::default(),
        };
        let (connections, go_away) = (
            Arc::clone(&upstream.connections),
            Arc::clone(&upstream.go_away),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (answer, go_away) = (answer.clone(), Arc::clone(&go_away));
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let answer = answer(request);
                        async move { Ok::<_, Infallible>(answer.await) }
                    });
                    let mut builder = http2::Builder::new(TokioExecutor::new());
                    builder.max_concurrent_streams(most_streams);
                    let mut serving =
                        std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                    tokio::select! {
                        _ = &mut serving => return,
                        () = go_away.notified() => serving.as_mut().graceful_shutdown(),
                    }
                    serving.await.ok();
                });
            }
        });
        upstream
    }

    fn behind(&self, settings: &str) -> Edge {
        Edge::with(&format!(
            "[upstreams.u]\ntarget = 'http://{}'\nhttp2 = true\n{settings}\n\
             [[routes]]\nname = 'all'\nupstream = 'u'\n",
            self.address
        ))
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn text(text: String) -> Answer {
    Response::new(Full::from(text).boxed())
}

#[tokio::test]
async fn a_request_is_what_http2_has_for_it() {
    let upstream = Upstream::answering(10, |request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let head = format!("{} {:?}", request.uri(), request.headers());
        text(head)
    })
    .await;
    let edge = upstream.behind("");
    let answer = edge
        .ask("GET /a?b HTTP/1.1\r\nhost: h:1\r\nte: trailers\r\nconnection: x, keep-alive\r\nx: 1\r\nkeep-alive: 1\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("http://h:1/a?b "), "{answer}");
    for (field, there) in [
        ("\"te\": \"trailers\"", true),
        ("\"x-edge-route\": \"all\"", true),
        ("\"x-forwarded-host\": \"h:1\"", true),
        ("\"host\"", false),
        ("\"connection\"", false),
        ("\"keep-alive\"", false),
        ("\"transfer-encoding\"", false),
        ("\"x\"", false),
    ] {
        assert_eq!(answer.contains(field), there, "{field}: {answer}");
    }
}

/// How many requests are at an upstream, and were at most.
#[derive(Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Crowd {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sends so many requests at once, and lets them be answered one by one.
async fn crowded(
    most_streams: u32,
    settings: &str,
    requests: usize,
    at_once: usize,
) -> (usize, usize) {
    let (crowd, permits) = (Crowd::default(), Arc::new(Semaphore::new(0)));
    let (seen, allowed) = (crowd.clone(), Arc::clone(&permits));
    let upstream = Upstream::answering(most_streams, move |_| {
        let (seen, allowed) = (seen.clone(), Arc::clone(&allowed));
        async move {
            seen.enter();
            allowed.acquire().await.unwrap().forget();
            seen.leave();
            text("ok".into())
        }
    })
    .await;
    let edge = upstream.behind(settings);
    // So that the peer's settings are known.
    permits.add_permits(1);
    assert!(edge.ask(GET).await.ends_with("ok"));
    let mut wires = Vec::new();
    for _ in 0..requests {
        let mut wire = edge.connect().await;
        wire.send(GET).await;
        wires.push(wire);
    }
    eventually("they arrive", || {
        crowd.now.load(Ordering::SeqCst) == at_once
    })
    .await;
    permits.add_permits(requests);
    for wire in &mut wires {
        let answer = wire.message().await;
        assert!(answer.ends_with("ok"), "{answer}");
    }
    (upstream.connections(), crowd.most.load(Ordering::SeqCst))
}

#[tokio::test]
async fn requests_share_a_connection_at_the_same_time() {
    assert_eq!(crowded(50, "", 20, 20).await, (1, 20));
}

#[tokio::test]
async fn a_connection_has_no_more_streams_than_the_peer_allows() {
    let (connections, most) = crowded(2, "http2_connections = 1\nmax_wait = '1min'", 6, 2).await;
    assert_eq!((connections, most), (1, 2));
    let (connections, most) = crowded(2, "http2_connections = 2\nmax_wait = '1min'", 9, 4).await;
    assert_eq!((connections, most), (2, 4));
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let upstream = Upstream::answering(10, |request: Request<Incoming>| async move {
        let whole = request.into_body().collect().await.unwrap();
        let sum = whole.trailers().unwrap()["x-sum"].clone();
        let data = whole.to_bytes();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        trailers.insert("x-sum", sum);
        let frames = [Frame::data(data), Frame::trailers(trailers)];
        let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
        let mut answer = Response::new(BodyExt::boxed(body));
        let named = "grpc-status, x-sum".parse().unwrap();
        answer.headers_mut().insert("trailer", named);
        answer
    })
    .await;
    let edge = upstream.behind("");
    let mut wire = edge.connect().await;
    wire.send("POST / HTTP/1.1\r\nhost: h\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n")
        .await;
    wire.head().await;
    let body = wire.until("\r\n\r\n").await;
    assert!(body.starts_with("3\r\nabc\r\n0\r\n"), "{body}");
    for trailer in ["grpc-status: 0\r\n", "x-sum: 7\r\n"] {
        assert!(body.contains(trailer), "{body}");
    }
}

/// Sets a flag when it is dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_stream_with_it_and_no_other() {
    let (gone, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (flag, here) = (Arc::clone(&gone), Arc::clone(&arrived));
    let upstream = Upstream::answering(10, move |request: Request<Incoming>| {
        let (gone, here) = (Gone(Arc::clone(&flag)), Arc::clone(&here));
        async move {
            if request.uri().path() == "/hangs" {
                here.notify_one();
                pending::<()>().await;
            }
            std::mem::forget(gone);
            text("ok".into())
        }
    })
    .await;
    let edge = upstream.behind("");
    // So that the peer's settings are known, and a second stream needs no connection.
    assert!(edge.ask(GET).await.ends_with("ok"));
    let mut wire = edge.connect().await;
    wire.send("GET /hangs HTTP/1.1\r\nhost: h\r\n\r\n").await;
    arrived.notified().await;
    assert!(edge.ask(GET).await.ends_with("ok"));
    assert!(!gone.load(Ordering::SeqCst));
    drop(wire);
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
    assert!(edge.ask(GET).await.ends_with("ok"));
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_stalls_its_own_stream_only() {
    const LARGE: usize = 16 * 1024 * 1024;
    let upstream = Upstream::answering(10, |request: Request<Incoming>| async move {
        let length = if request.uri().path() == "/large" {
            LARGE
        } else {
            LARGE / 16
        };
        Response::new(Full::from(vec![b'x'; length]).boxed())
    })
    .await;
    let edge = upstream.behind("http2_connections = 1");
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut wire = edge.connect().await;
        wire.send("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await;
        wire.head().await;
        stalled.push(wire);
    }
    let answer = edge.ask(GET).await;
    assert!(answer.ends_with("xxx"));
    assert_eq!(upstream.connections(), 1);
    // And whoever stood still can go on.
    assert_eq!(stalled[0].bytes(LARGE).await.len(), LARGE);
}

#[tokio::test]
async fn a_connection_that_goes_away_is_followed_by_another() {
    let upstream = Upstream::answering(10, |_| async { text("ok".into()) }).await;
    let edge = upstream.behind("");
    for connections in 1..4 {
        assert!(edge.ask(GET).await.ends_with("ok"));
        assert_eq!(upstream.connections(), connections);
        upstream.go_away.notify_waiters();
        // What is told in a frame takes effect when it is read.
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn who_does_not_speak_http2_is_a_502() {
    let plain = Scripted::playing(|mut wire: Wire| async move {
        wire.try_send(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
            .await
            .ok();
    })
    .await;
    let edge = Edge::with(&format!(
        "[upstreams.u]\ntarget = 'http://{}'\nhttp2 = true\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        plain.address
    ));
    assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
}

#[tokio::test]
async fn a_call_that_its_client_no_longer_waits_for_is_ended() {
    let gone = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&gone);
    let upstream = Upstream::answering(10, move |_| {
        let gone = Gone(Arc::clone(&flag));
        async move {
            let _gone = gone;
            pending::<Answer>().await
        }
    })
    .await;
    let edge = upstream.behind("");
    let answer = edge
        .ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/grpc\r\ngrpc-timeout: 50m\r\ncontent-length: 0\r\n\r\n")
        .await;
    assert_problem(&answer, 504, "upstream-timeout");
    eventually("the upstream notices", || gone.load(Ordering::SeqCst)).await;
}

#[tokio::test]
async fn a_target_is_asked_in_http2_how_it_is() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let upstream = Upstream::answering(10, move |request: Request<Incoming>| {
        let well = request.uri().path() != "/healthz";
        count.fetch_add(usize::from(!well), Ordering::SeqCst);
        async move {
            let mut answer = text("ok".into());
            *answer.status_mut() = if well {
                StatusCode::OK
            } else {
                StatusCode::NO_CONTENT
            };
            answer
        }
    })
    .await;
    let edge = upstream.behind("health = { path = '/healthz', interval = '10ms' }");
    eventually("it was asked", || asked.load(Ordering::SeqCst) > 2).await;
    assert!(edge.ask(GET).await.ends_with("ok"));
}
