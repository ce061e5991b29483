//! Requests that an upstream says it did nothing with.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::edge::Edge;
use super::failures::assert_problem;
use super::wire::eventually;

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\n";

/// An upstream of HTTP/2, told what to do with each of its connections.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    /// The number of a connection begins at one.
    async fn with<F>(
        converse: impl Fn(usize, TcpStream, Arc<AtomicUsize>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = Self {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let connections = Arc::clone(&upstream.connections);
        let requests = Arc::clone(&upstream.requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                tokio::spawn(converse(number, stream, Arc::clone(&requests)));
            }
        });
        upstream
    }

    /// Refuses requests on its first connections, for a reason, as soon as it has
    /// so many bytes of their bodies; then answers.
    async fn refusing(connections: usize, reason: Reason, after: usize) -> Self {
        Self::with(move |number, stream, requests| async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    if number > connections {
                        return answer(request, respond).await;
                    }
                    let mut read = 0;
                    while read < after {
                        read += request.body_mut().data().await.unwrap().unwrap().len();
                    }
                    respond.send_reset(reason);
                });
            }
        })
        .await
    }

    /// Goes away on its first connection, with a request there: `last` is the
    /// last stream that it may have done something with.
    async fn going_away(last: u8) -> Self {
        Self::with(move |number, stream, requests| async move {
            if number == 1 {
                requests.fetch_add(1, Ordering::SeqCst);
                return go_away(stream, last).await;
            }
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((request, respond))) = connection.accept().await {
                requests.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(answer(request, respond));
            }
        })
        .await
    }

    fn behind(&self, settings: &str) -> Edge {
        Edge::with(&format!(
            "[upstreams.u]\ntarget = 'http://{}'\nhttp2 = true\n{settings}\n\
             [[routes]]\nname = 'all'\nupstream = 'u'\n",
            self.address
        ))
    }

    /// Connections, and requests on them.
    fn seen(&self) -> (usize, usize) {
        let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
        (count(&self.connections), count(&self.requests))
    }
}

/// Says how it was asked, and what came with it.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (head, mut body) = request.into_parts();
    let mut said = format!(
        "{} {} ",
        head.method,
        head.headers["x-edge-route"].to_str().unwrap()
    );
    while let Some(Ok(data)) = body.data().await {
        said += std::str::from_utf8(&data).unwrap();
    }
    let head = Response::builder().header("content-length", said.len());
    let head = head.body(()).unwrap();
    let mut sending = respond.send_response(head, false).unwrap();
    sending.send_data(said.into(), true).unwrap();
}

const HEADERS: u8 = 1;
const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Frame by frame, for no library goes away without what it has read.
async fn go_away(mut stream: TcpStream, last: u8) {
    stream.write_all(&SETTINGS).await.unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await.unwrap();
    let mut head = [0; 9];
    loop {
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    let goodbye = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0];
    stream.write_all(&goodbye).await.unwrap();
    stream.shutdown().await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.ok();
}

#[tokio::test]
async fn what_was_refused_goes_over_another_connection() {
    let upstream = Upstream::refusing(1, Reason::REFUSED_STREAM, 0).await;
    let edge = upstream.behind("");
    let answer = edge.ask(GET).await;
    assert!(answer.ends_with("GET all "), "{answer}");
    assert_eq!(upstream.seen(), (2, 2));
    // And so does what comes next.
    assert!(edge.ask(GET).await.ends_with("GET all "));
    assert_eq!(upstream.seen(), (2, 3));
}

#[tokio::test]
async fn a_body_that_had_not_come_goes_with_it() {
    let upstream = Upstream::refusing(1, Reason::REFUSED_STREAM, 0).await;
    let edge = upstream.behind("");
    let mut wire = edge.connect().await;
    wire.send(POST).await;
    eventually("it was sent again", || upstream.seen() == (2, 2)).await;
    wire.send("hello").await;
    let answer = wire.message().await;
    assert!(answer.ends_with("POST all hello"), "{answer}");
}

#[tokio::test]
async fn what_lies_behind_a_goaway_goes_over_another_connection() {
    let upstream = Upstream::going_away(0).await;
    let answer = upstream.behind("").ask(GET).await;
    assert!(answer.ends_with("GET all "), "{answer}");
    assert_eq!(upstream.seen(), (2, 2));
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_not_sent_again() {
    let upstream = Upstream::going_away(1).await;
    assert_problem(&upstream.behind("").ask(GET).await, 502, "upstream-failed");
    assert_eq!(upstream.seen(), (1, 1));
    for reason in [Reason::CANCEL, Reason::INTERNAL_ERROR, Reason::NO_ERROR] {
        let upstream = Upstream::refusing(1, reason, 0).await;
        assert_problem(&upstream.behind("").ask(GET).await, 502, "upstream-failed");
        assert_eq!(upstream.seen(), (1, 1), "{reason}");
    }
}

#[tokio::test]
async fn a_body_of_which_something_was_sent_is_not_sent_again() {
    let upstream = Upstream::refusing(1, Reason::REFUSED_STREAM, 2).await;
    let edge = upstream.behind("");
    let mut wire = edge.connect().await;
    wire.send(&format!("{POST}he")).await;
    assert_problem(&wire.message().await, 502, "upstream-failed");
    assert_eq!(upstream.seen(), (1, 1));
}

#[tokio::test]
async fn a_request_is_sent_again_once_and_as_often_as_the_budget_has_it() {
    let upstream = Upstream::refusing(usize::MAX, Reason::REFUSED_STREAM, 0).await;
    assert_problem(&upstream.behind("").ask(GET).await, 502, "upstream-failed");
    assert_eq!(upstream.seen(), (2, 2));

    let upstream = Upstream::refusing(usize::MAX, Reason::REFUSED_STREAM, 0).await;
    let edge = upstream.behind("retry_percent = 0");
    assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
    assert_eq!(upstream.seen(), (1, 1));

    let upstream = Upstream::refusing(usize::MAX, Reason::REFUSED_STREAM, 0).await;
    let edge = upstream.behind("retry_percent = 1");
    for _ in 0..100 {
        assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
    }
    let (_, requests) = upstream.seen();
    assert!((110..200).contains(&requests), "{requests}");
}
