//! The upstream that `quickstart` comes with: says what it was sent, so that a
//! newcomer sees the `X-Edge-*` fields arrive. A path that ends in `/sse`
//! streams a few events, one at a time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

const EVENTS: u32 = 5;
const BETWEEN_EVENTS: Duration = Duration::from_millis(500);

/// How long accepting rests after an error.
const PAUSE: Duration = Duration::from_millis(100);

/// The sample upstream, listening on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Sample(TcpListener);

impl Sample {
    pub async fn bind() -> io::Result<Self> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Self)
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves until it is dropped.
    pub async fn serve(self) {
        loop {
            let Ok((stream, _)) = self.0.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            tokio::spawn(async move {
                let service = service_fn(async |request| Ok::<_, Infallible>(answer(&request)));
                // A client that went away is no concern of a sample.
                let _ = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    }
}

/// What was received.
#[derive(Serialize)]
struct Received<'a> {
    method: &'a str,
    path: &'a str,
    headers: BTreeMap<&'a str, String>,
}

fn answer(request: &Request<Incoming>) -> Response<Answer> {
    if request.uri().path().ends_with("/sse") {
        let mut ticks = interval(BETWEEN_EVENTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        return with_type("text/event-stream", Answer::Events { ticks, sent: 0 });
    }
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let received = Received {
        method: request.method().as_str(),
        path: request.uri().path(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect(),
    };
    // why: text always serializes.
    let mut json = serde_json::to_vec_pretty(&received).unwrap_or_default();
    json.push(b'\n');
    with_type("application/json", Answer::Text(Some(json.into())))
}

fn with_type(media_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let media_type = HeaderValue::from_static(media_type);
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response
}

enum Answer {
    Text(Option<Bytes>),
    Events { ticks: Interval, sent: u32 },
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Events { sent: EVENTS, .. } => Poll::Ready(None),
            Self::Events { ticks, sent } => {
                ready!(ticks.poll_tick(cx));
                *sent += 1;
                let event = format!("data: event {sent} of {EVENTS}\n\n");
                Poll::Ready(Some(Ok(Frame::data(event.into()))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Events { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(request: &str) -> String {
        let sample = Sample::bind().await.unwrap();
        let address = sample.address().unwrap();
        tokio::spawn(sample.serve());
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_says_what_it_was_sent() {
        let answer = ask("PUT /a?b HTTP/1.0\r\nX-Edge-Route: r\r\n\r\n").await;
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["method"], "PUT");
        assert_eq!(json["path"], "/a");
        assert_eq!(json["headers"]["x-edge-route"], "r");
    }

    #[tokio::test(start_paused = true)]
    async fn it_streams_events() {
        let answer = ask("GET /x/sse HTTP/1.0\r\n\r\n").await;
        assert!(answer.contains("content-type: text/event-stream"));
        assert_eq!(answer.matches("data: event").count(), 5);
    }
}
