//! HTTP/2 from clients: hyper's, curl's, and frames by hand.

use std::time::Duration;

use bytes::Bytes;
use cypheron_edge::server::Config;
use http::{Request, Version};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::{PATIENCE, config, connect, start};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET http://a/`, of the static table but for the authority.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection on which frames are written by hand.
struct Frames<T = TcpStream>(T);

impl Frames {
    async fn open(config: &Config) -> (Self, super::Running) {
        let (address, running) = start(config);
        let mut stream = connect(address).await;
        stream.write_all(PREFACE).await.unwrap();
        let mut frames = Self(stream);
        frames.send(&frame(SETTINGS, 0, 0, &[])).await;
        (frames, running)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Frames<T> {
    /// Whether it could be sent: a server that is flooded stops listening.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.0.write_all(bytes))
            .await
            .is_ok_and(|sent| sent.is_ok())
    }

    /// `None` at the end, which a reset is too. A ping is answered.
    async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            self.0.read_exact(&mut payload).await.ok()?;
            if (head[3], head[4]) == (PING, 0) {
                self.send(&frame(PING, ACK, 0, &payload)).await;
            }
            Some(Frame {
                kind: head[3],
                stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
                payload,
            })
        };
        timeout(PATIENCE, read).await.unwrap()
    }

    /// The next frame of this kind.
    async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    async fn ends(&mut self) {
        while self.next().await.is_some() {}
    }
}

/// Everything that a client sends who asks for `/` once.
pub(super) fn asking() -> Vec<u8> {
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, GET);
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &get].concat()
}

/// The body of its answer, which is small; `None` when there is none.
pub(super) async fn answered(stream: impl AsyncRead + AsyncWrite + Unpin) -> Option<String> {
    let answer = Frames(stream).next_of(DATA).await?;
    Some(String::from_utf8(answer.payload).unwrap())
}

#[tokio::test]
async fn requests_share_a_connection_that_begins_with_http2_in_plain() {
    let (address, _running) = start(&config());
    let io = TokioIo::new(connect(address).await);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for path in ["/slow", "/", "/slow", "/"] {
        let request = Request::get(format!("http://a{path}")).body(Empty::<Bytes>::new());
        sender.ready().await.unwrap();
        answers.push(sender.send_request(request.unwrap()));
    }
    for answer in answers {
        let answer = timeout(PATIENCE, answer).await.unwrap().unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, Version::HTTP_2)
        );
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"127.0.0.1:"), "{body:?}");
    }
}

#[tokio::test]
async fn a_preface_may_come_in_pieces() {
    let (address, _running) = start(&config());
    let mut stream = connect(address).await;
    stream.set_nodelay(true).unwrap();
    for piece in PREFACE.chunks(5) {
        stream.write_all(piece).await.unwrap();
        // Long enough to be read by itself, most of the time.
        sleep(Duration::from_millis(5)).await;
    }
    let mut frames = Frames(stream);
    frames.send(&frame(SETTINGS, 0, 0, &[])).await;
    frames
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET))
        .await;
    let answer = frames.next_of(DATA).await.unwrap();
    assert_eq!(answer.stream, 1);
}

#[tokio::test]
async fn what_is_allowed_at_a_time_is_told() {
    let (mut frames, _running) = Frames::open(&config()).await;
    let settings = frames.next_of(SETTINGS).await.unwrap();
    let told: Vec<_> = settings.payload.chunks(6).map(<[u8]>::to_vec).collect();
    assert!(told.contains(&vec![0, 3, 0, 0, 0, 128]), "{told:?}");
    assert!(told.contains(&vec![0, 6, 0, 0, 128, 0]), "{told:?}");
}

#[tokio::test]
async fn a_field_that_is_for_one_hop_is_refused() {
    let (mut frames, _running) = Frames::open(&config()).await;
    let mut head = GET.to_vec();
    head.extend([0, 10]);
    head.extend(b"connection");
    head.push(5);
    head.extend(b"close");
    frames
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head))
        .await;
    assert_eq!(frames.next_of(RST_STREAM).await.unwrap().stream, 1);
    // Others on the connection go on.
    frames
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 3, GET))
        .await;
    assert_eq!(frames.next_of(DATA).await.unwrap().stream, 3);
}

#[tokio::test]
async fn who_gives_up_requests_as_fast_as_they_begin_is_cut() {
    let (mut frames, _running) = Frames::open(&config()).await;
    let mut flood = Vec::new();
    for stream in (1..8000).step_by(2) {
        flood.extend(frame(HEADERS, END_STREAM | END_HEADERS, stream, GET));
        flood.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    frames.send(&flood).await;
    frames.ends().await;
}

#[tokio::test]
async fn a_head_without_an_end_is_cut() {
    let (mut frames, _running) = Frames::open(&config()).await;
    frames.send(&frame(HEADERS, END_STREAM, 1, GET)).await;
    // A field of 16,000 bytes, never indexed.
    let mut field = vec![0x10, 1, b'x', 0x7f, 0x81, 0x7c];
    field.extend([b'v'; 16_000]);
    for _ in 0..64 {
        if !frames.send(&frame(CONTINUATION, 0, 1, &field)).await {
            break;
        }
    }
    frames.ends().await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_even_if_it_pings() {
    let config = Config {
        idle_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        ..config()
    };
    let (mut frames, _running) = Frames::open(&config).await;
    frames
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, GET))
        .await;
    frames.next_of(DATA).await.unwrap();
    let told = loop {
        frames.send(&frame(PING, 0, 0, &[7; 8])).await;
        match frames.next().await {
            Some(frame) if frame.kind == GOAWAY => break true,
            Some(_) => sleep(Duration::from_millis(10)).await,
            None => break false,
        }
    };
    assert!(told, "it was cut without a word");
    frames.ends().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_given_up_and_others_go_on() {
    let idle_timeout = Duration::from_secs(3);
    let config = Config {
        idle_timeout,
        ..config()
    };
    let (mut frames, _running) = Frames::open(&config).await;
    let no_window = [0, 4, 0, 0, 0, 0];
    let window = [0, 0, 255, 255];
    let get = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, GET);
    let take = |stream| frame(WINDOW_UPDATE, 0, stream, &window);
    let mut pieces = vec![0x82, 0x86, 0x41, 1, b'a', 0x04, 7];
    pieces.extend(b"/pieces");
    let pieces = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &pieces);
    frames.send(&frame(SETTINGS, 0, 0, &no_window)).await;
    frames.send(&pieces(1)).await;
    let begun = Instant::now();
    let mut stream = 3;
    while begun.elapsed() < idle_timeout * 2 {
        frames.send(&get(stream)).await;
        frames.send(&take(stream)).await;
        assert_eq!(frames.next_of(DATA).await.unwrap().stream, stream);
        stream += 2;
        sleep(Duration::from_millis(20)).await;
    }
    frames.send(&take(1)).await;
    assert_eq!(frames.next_of(RST_STREAM).await.unwrap().stream, 1);
    frames.send(&get(stream)).await;
    frames.send(&take(stream)).await;
    assert_eq!(frames.next_of(DATA).await.unwrap().stream, stream);
    // Who takes nothing at all has no use for the connection.
    frames.send(&pieces(stream + 2)).await;
    frames.ends().await;
}

#[tokio::test]
async fn a_drain_ends_what_is_in_flight_and_takes_no_more() {
    let (mut frames, running) = Frames::open(&config()).await;
    let mut slow = vec![0x82, 0x86, 0x41, 1, b'a', 0x04, 5];
    slow.extend(b"/slow");
    frames
        .send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &slow))
        .await;
    // The settings are acknowledged before the request is read.
    frames.next_of(SETTINGS).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    running.stop().stop();
    frames.next_of(GOAWAY).await.unwrap();
    assert_eq!(frames.next_of(DATA).await.unwrap().stream, 1);
    let drained = timeout(PATIENCE, running.ended()).await.unwrap().unwrap();
    assert_eq!(drained.unfinished, 0);
}

#[tokio::test]
async fn where_it_is_not_spoken_it_is_refused() {
    let mut config = config();
    config.http2.enabled = false;
    let (address, _running) = start(&config);
    let mut stream = connect(address).await;
    stream.write_all(PREFACE).await.unwrap();
    let answer = super::read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn curl_is_served_in_plain() {
    let (address, _running) = start(&config());
    let output = Command::new("curl")
        .args([
            "--silent",
            "--http2-prior-knowledge",
            "--write-out",
            " %{http_version}",
        ])
        .arg(format!("http://{address}/"))
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with(" 2"), "{output:?}");
}
