//! Upstreams with several targets: who is asked, who is left alone, who waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::edge::Edge;
use super::failures::assert_problem;
use super::wire::{Upstream, Wire, eventually, field};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// Nobody listens there.
const DOWN: &str = "127.0.0.1:9";

fn pool(targets: &[SocketAddr], settings: &str) -> Edge {
    let targets: Vec<String> = targets.iter().map(|at| format!("'http://{at}'")).collect();
    Edge::with(&format!(
        "[upstreams.u]\ntargets = [{}]\n{settings}\n[[routes]]\nname = 'all'\nupstream = 'u'\n",
        targets.join(", ")
    ))
}

fn down() -> SocketAddr {
    DOWN.parse().unwrap()
}

/// Answers each request on a connection of its own.
async fn counted() -> Upstream {
    Upstream::playing(|mut wire: Wire| async move {
        wire.message().await;
        wire.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            .await;
    })
    .await
}

/// Reads a request and hangs up, while it is told to; then it answers.
async fn flapping() -> (Upstream, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let failing = Arc::clone(&fails);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let fails = failing.load(Ordering::SeqCst);
        async move {
            wire.message().await;
            if !fails {
                wire.send(OK).await;
            }
        }
    })
    .await;
    (upstream, fails)
}

/// Answers a request when it is given a permit.
async fn slow() -> (Upstream, Arc<Semaphore>) {
    let answers = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&answers);
    let upstream = Upstream::playing(move |mut wire: Wire| {
        let permits = Arc::clone(&permits);
        async move {
            loop {
                wire.head().await;
                permits.acquire().await.unwrap().forget();
                wire.send(OK).await;
            }
        }
    })
    .await;
    (upstream, answers)
}

async fn assert_answered(edge: &Edge, request: &str) {
    let answer = edge.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn targets_take_turns() {
    let targets = [counted().await, counted().await, counted().await];
    let edge = pool(&targets.each_ref().map(|target| target.address), "");
    for _ in 0..12 {
        assert_answered(&edge, GET).await;
    }
    assert_eq!(targets.map(|target| target.connections()), [4, 4, 4]);
}

#[tokio::test]
async fn the_target_with_less_to_do_is_asked() {
    let (busy, answers) = slow().await;
    let idle = counted().await;
    let edge = pool(&[busy.address, idle.address], "balance = 'least_pending'");
    // Sooner or later one meets the slow target, and stays there.
    let mut held = Vec::new();
    while busy.connections() == 0 {
        let mut wire = edge.connect().await;
        wire.send(GET).await;
        held.push(wire);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    for _ in 0..20 {
        assert_answered(&edge, GET).await;
    }
    assert_eq!(busy.connections(), 1);
    answers.add_permits(1);
}

#[tokio::test]
async fn a_target_that_is_down_costs_nobody_an_answer() {
    let up = Upstream::echoing().await;
    let edge = pool(
        &[down(), up.address, "127.0.0.1:11".parse().unwrap()],
        "host = 'target'\nretry_percent = 100",
    );
    for _ in 0..20 {
        let answer = edge.ask(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        // The name it is called by is that of the target that answered.
        assert!(
            answer.contains(&format!("host: {}\r\n", up.address)),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_target_that_does_not_even_refuse_costs_nobody_an_answer() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _filling = TcpStream::connect(address).await.unwrap();
    let up = counted().await;
    let edge = pool(&[address, up.address], "connect_timeout = '50ms'");
    for _ in 0..4 {
        assert_answered(&edge, GET).await;
    }
    assert_eq!(up.connections(), 4);
}

#[tokio::test]
async fn what_was_not_sent_is_sent_elsewhere_whatever_it_is() {
    let up = Upstream::echoing().await;
    let edge = pool(&[down(), up.address], "");
    for _ in 0..4 {
        let answer = edge
            .ask("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\nonce")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(answer.matches("once").count(), 1, "{answer}");
    }
}

#[tokio::test]
async fn what_was_sent_is_never_sent_again() {
    let ((failing, _), up) = (flapping().await, counted().await);
    let edge = pool(&[failing.address, up.address], "ejection.failures = 0");
    let mut failed = 0;
    for _ in 0..10 {
        let answer = edge.ask(GET).await;
        if answer.starts_with("HTTP/1.1 502 ") {
            failed += 1;
        }
    }
    assert_eq!((failed, failing.connections(), up.connections()), (5, 5, 5));
}

#[tokio::test]
async fn without_a_budget_nothing_is_sent_elsewhere() {
    let up = counted().await;
    let edge = pool(
        &[down(), up.address],
        "retry_percent = 0\nejection.failures = 0",
    );
    let mut failed = 0;
    for _ in 0..10 {
        if edge.ask(GET).await.starts_with("HTTP/1.1 502 ") {
            failed += 1;
        }
    }
    assert_eq!((failed, up.connections()), (5, 5));
}

#[tokio::test]
async fn a_pool_that_is_down_is_a_502_after_each_was_tried_once() {
    let edge = pool(&[down(), "127.0.0.1:11".parse().unwrap()], "");
    assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
}

#[tokio::test]
async fn a_target_that_fails_again_and_again_is_left_alone() {
    let ((failing, _), up) = (flapping().await, counted().await);
    let edge = pool(
        &[failing.address, up.address],
        "ejection = { failures = 2, first = '10min', longest = '10min' }",
    );
    for _ in 0..20 {
        edge.ask(GET).await;
    }
    assert_eq!((failing.connections(), up.connections()), (2, 18));
}

#[tokio::test]
async fn when_all_are_out_all_are_asked() {
    let (first, fails_first) = flapping().await;
    let (second, fails_second) = flapping().await;
    let edge = pool(
        &[first.address, second.address],
        "ejection = { failures = 1, first = '10min', longest = '10min', max_percent = 100 }",
    );
    for _ in 0..4 {
        assert_problem(&edge.ask(GET).await, 502, "upstream-failed");
    }
    fails_first.store(false, Ordering::SeqCst);
    fails_second.store(false, Ordering::SeqCst);
    for _ in 0..4 {
        assert_answered(&edge, GET).await;
    }
    assert_eq!((first.connections(), second.connections()), (4, 4));
}

#[tokio::test]
async fn a_target_whose_check_fails_is_asked_only_how_it_is() {
    let healthy = Arc::new(AtomicBool::new(false));
    let state = Arc::clone(&healthy);
    let checked = Upstream::playing(move |mut wire: Wire| {
        let healthy = state.load(Ordering::SeqCst);
        async move {
            let head = wire.message().await;
            let status = match (head.starts_with("GET /healthz "), healthy) {
                (true, false) => "503 Unwell",
                (true, true) => "204 Well",
                (false, _) => "200 OK",
            };
            wire.send(&format!(
                "HTTP/1.1 {status}\r\nx-checked: 1\r\nconnection: close\r\n\r\n"
            ))
            .await;
        }
    })
    .await;
    let other = counted().await;
    let edge = pool(
        &[checked.address, other.address],
        "health = { path = '/healthz', interval = '10ms', unhealthy = 2, healthy = 1 }",
    );
    eventually("it was found sick", || checked.connections() >= 3).await;
    for _ in 0..10 {
        assert_eq!(field(&edge.ask(GET).await, "x-checked"), None);
    }
    healthy.store(true, Ordering::SeqCst);
    let before = checked.connections();
    eventually("it was found well", || checked.connections() >= before + 3).await;
    let mut answers = 0;
    for _ in 0..10 {
        answers += usize::from(field(&edge.ask(GET).await, "x-checked").is_some());
    }
    assert_eq!(answers, 5);
}

#[tokio::test]
async fn more_requests_than_an_upstream_may_have_are_refused_at_once() {
    let (upstream, answers) = slow().await;
    let edge = pool(&[upstream.address], "max_requests = 1");
    let mut first = edge.connect().await;
    first.send(GET).await;
    eventually("it arrives", || upstream.connections() == 1).await;
    let refused = edge.ask(GET).await;
    assert_problem(&refused, 503, "upstream-busy");
    assert_eq!(field(&refused, "retry-after"), Some("1"));
    answers.add_permits(2);
    assert!(first.message().await.starts_with("HTTP/1.1 200 "));
    assert_answered(&edge, GET).await;
}

#[tokio::test]
async fn a_request_waits_for_a_connection_and_takes_the_one_that_is_left() {
    let (upstream, answers) = slow().await;
    let edge = pool(
        &[upstream.address],
        "max_connections = 1\nmax_wait = '1min'",
    );
    let mut wires = Vec::new();
    for _ in 0..5 {
        let mut wire = edge.connect().await;
        wire.send(GET).await;
        wires.push(wire);
    }
    answers.add_permits(5);
    for wire in &mut wires {
        assert!(wire.message().await.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn who_waits_too_long_or_behind_too_many_is_told_when_to_come_again() {
    for settings in ["max_wait = '50ms'", "max_wait = '1min'\nmax_waiting = 0"] {
        let (upstream, answers) = slow().await;
        let edge = pool(
            &[upstream.address],
            &format!("max_connections = 1\n{settings}"),
        );
        let mut first = edge.connect().await;
        first.send(GET).await;
        eventually("it arrives", || upstream.connections() == 1).await;
        let refused = edge.ask(GET).await;
        assert_problem(&refused, 503, "upstream-busy");
        assert_eq!(field(&refused, "retry-after"), Some("1"));
        answers.add_permits(2);
        assert!(first.message().await.starts_with("HTTP/1.1 200 "));
        assert_answered(&edge, GET).await;
    }
}

#[tokio::test]
async fn who_goes_away_while_it_waits_takes_no_connection_with_it() {
    let (upstream, answers) = slow().await;
    let edge = pool(
        &[upstream.address],
        "max_connections = 1\nmax_wait = '1min'",
    );
    let mut first = edge.connect().await;
    first.send(GET).await;
    eventually("it arrives", || upstream.connections() == 1).await;
    let mut waiting = edge.connect().await;
    waiting.send(GET).await;
    drop(waiting);
    eventually("it is gone", || edge.running.connections() == 1).await;
    // And the one that is served goes away too.
    drop(first);
    answers.add_permits(2);
    assert_answered(&edge, GET).await;
}

#[tokio::test]
async fn a_target_may_be_a_name_with_an_address_that_does_not_answer() {
    // `localhost` has an address of each family on most machines.
    let upstream = counted().await;
    let edge = Edge::with(&format!(
        "[upstreams.u]\ntarget = 'http://localhost:{}'\n[[routes]]\nname = 'all'\nupstream = 'u'",
        upstream.address.port()
    ));
    for _ in 0..4 {
        assert_answered(&edge, GET).await;
    }
}
