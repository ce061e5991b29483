//! The generator against servers that misbehave.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use clap::Parser;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Options, Report, measured};

/// A server that answers each request with `answer`, which is told its number.
fn serve(answer: impl Fn(usize) -> &'static [u8] + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served: &'static AtomicUsize = Box::leak(Box::default());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer_all(stream, served, answer));
        }
    });
    address
}

fn answer_all(
    mut stream: TcpStream,
    served: &AtomicUsize,
    answer: impl Fn(usize) -> &'static [u8],
) {
    let mut read = [0; 4096];
    // One request a read: the generator sends the next after the answer.
    while let Ok(1..) = stream.read(&mut read) {
        let answer = answer(served.fetch_add(1, Ordering::Relaxed));
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    options: Options,
}

fn load(address: SocketAddr, arguments: &str) -> Report {
    let url = format!("http://{address}/");
    let words = ["load", &url].into_iter().chain(arguments.split(' '));
    measured(&Command::parse_from(words).options).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_stall_is_in_every_request_that_was_due_meanwhile() {
    // One connection, so that the stall holds up all of them: 400 ms of 800.
    let address = serve(|number| {
        if number == 100 {
            thread::sleep(Duration::from_millis(400));
        }
        OK
    });
    let report = load(
        address,
        "--rate 500 --connections 1 --warm-up 0 --seconds 0.8",
    );
    // Some 200 of 400 were due during the stall. A generator that waited with
    // them would have seen a single slow one.
    assert!(report.latency_us.p90 > 200_000.0, "{report:?}");
    assert!(report.lateness_us.p90 > 100_000.0, "{report:?}");
}

#[test]
fn chunks_trailers_and_interim_answers_are_read_as_they_are_meant() {
    let address = serve(|number| match number % 3 {
        0 => {
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
               3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nsum: 1\r\n\r\n"
        }
        1 => b"HTTP/1.1 204 No Content\r\n\r\n",
        _ => OK,
    });
    let report = load(address, "--connections 2 --warm-up 0 --seconds 0.2");
    assert!(report.failures.is_empty(), "{report:?}");
    assert!(report.completed > 3, "{report:?}");
    assert_eq!(
        report.statuses.keys().copied().collect::<Vec<_>>(),
        [200, 204]
    );
    assert!(report.unexpected > 0);
}

#[test]
fn what_breaks_off_is_a_failure_and_not_an_answer() {
    let address = serve(|_| b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nmore than two");
    let report = load(address, "--connections 1 --warm-up 0 --seconds 0.1");
    assert_eq!(report.completed, 0, "{report:?}");
    assert!(!report.failures.is_empty(), "{report:?}");
}

/// Accepts two connections, and answers every request on them.
async fn serve_http2(listener: tokio::net::TcpListener) {
    for _ in 0..2 {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: hyper::Request<_>| async move {
            assert_eq!(request.version(), hyper::Version::HTTP_2);
            assert_eq!(request.uri().path(), "/");
            Ok::<_, std::convert::Infallible>(hyper::Response::new("ok".to_owned()))
        });
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

#[test]
fn streams_of_http2_share_their_connection() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(serve_http2(listener));
    let report = load(
        address,
        "--streams 4 --connections 2 --warm-up 0 --seconds 0.2",
    );
    assert!(report.failures.is_empty(), "{report:?}");
    assert!(report.completed > 8, "{report:?}");
    assert_eq!(report.statuses.keys().copied().collect::<Vec<_>>(), [200]);
}
