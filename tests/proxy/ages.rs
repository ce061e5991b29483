//! Connections that get old.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::edge::{Edge, to};
use super::wire::{Upstream, Wire, eventually, field};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";

fn before(upstream: &Upstream, server: &str) -> Edge {
    Edge::with(&format!(
        "[server]\n{server}\n{}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        to(upstream.address, "")
    ))
}

#[tokio::test]
async fn an_old_connection_has_one_answer_more_which_says_so() {
    let upstream = Upstream::echoing().await;
    let edge = before(&upstream, "max_connection_age = '1ms'");
    let mut wire = edge.connect().await;
    // Without a request it is not closed: one may be on its way.
    sleep(Duration::from_millis(50)).await;
    wire.send(GET).await;
    let answer = wire.message().await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(field(&answer, "connection"), Some("close"), "{answer}");
    assert_eq!(wire.rest().await, "");
}

#[tokio::test]
async fn a_connection_that_is_not_old_goes_on() {
    let upstream = Upstream::echoing().await;
    for server in ["", "max_connection_age = '1h'"] {
        let edge = before(&upstream, server);
        let mut wire = edge.connect().await;
        for _ in 0..3 {
            wire.send(GET).await;
            let answer = wire.message().await;
            let head = answer.split_once("\r\n\r\n").unwrap().0;
            assert_eq!(field(head, "connection"), None, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_old_connection_of_http2_answers_what_it_has_and_takes_no_more() {
    let may_answer = Arc::new(Notify::new());
    let waiting = Arc::clone(&may_answer);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let waiting = Arc::clone(&waiting);
        async move {
            wire.head().await;
            waiting.notified().await;
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
    })
    .await;
    let edge = before(&upstream, "max_connection_age = '1s'");
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = Request::get("http://h/").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    while sender.clone().ready().await.is_ok() {
        sleep(Duration::from_millis(5)).await;
    }
    may_answer.notify_one();
    assert_eq!(answer.await.unwrap().status(), 200);
    connection.await.unwrap().unwrap();
    eventually("it is closed", || edge.running.connections() == 0).await;
}
