//! Many first requests at once, and what they do to somebody else's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cypheron_edge::clock::Clock;
use cypheron_edge::key::Scope;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;

use crate::client::Connection;
use crate::issue::issue;
use crate::process::{Deployment, eventually};
use crate::upstream::Upstream;

const KEYS: usize = 400;
const CLIENTS: usize = 8;

/// So many keys beside the first.
fn issued(deployment: &Deployment) -> Vec<String> {
    let file = deployment.data().join("keys.db");
    let repository = EmbeddedApiKeyRepository::open(&file, Clock::system()).unwrap();
    let scope = Scope {
        project: String::new(),
        database: "embedded".to_owned(),
        collection: "api_keys".to_owned(),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(issue(Arc::new(repository), "api_keys", scope, KEYS + 1))
}

#[test]
fn first_requests_for_many_keys_are_admitted_and_keep_nobody_else_waiting() {
    let upstream = Upstream::start();
    let deployment = Deployment::new(upstream.address, "");
    let tokens = issued(&deployment);
    let edge = deployment.serve();
    let (known, firsts) = tokens.split_first().unwrap();
    let traffic = deployment.traffic;
    ask(&mut Connection::open(traffic).unwrap(), known);

    let over = AtomicBool::new(false);
    let (alone, beside) = thread::scope(|scope| {
        let alone = latencies(traffic, known, |asked| asked == 300);
        let beside = scope.spawn(|| latencies(traffic, known, |_| over.load(Ordering::SeqCst)));
        let clients: Vec<_> = firsts
            .chunks(firsts.len() / CLIENTS)
            .map(|tokens| {
                scope.spawn(move || {
                    let mut connection = Connection::open(traffic).unwrap();
                    for token in tokens {
                        ask(&mut connection, token);
                        ask(&mut connection, token);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        over.store(true, Ordering::SeqCst);
        (alone, beside.join().unwrap())
    });
    println!(
        "a known key alone: median {:?}, of {KEYS} first requests beside it: median {:?}, longest {:?}",
        median(&alone),
        median(&beside),
        beside.last(),
    );
    assert!(median(&beside) < Duration::from_millis(100), "{beside:?}");
    assert_eq!(reads(&deployment), KEYS as u64 + 1, "one for each");
    assert_eq!(edge.stop(), Some(0));
}

#[test]
fn keys_that_are_read_ahead_are_served_without_a_read() {
    let upstream = Upstream::start();
    let settings = "[directory]\nwarm_up = \"before_ready\"";
    let deployment = Deployment::new(upstream.address, settings);
    let tokens = issued(&deployment);
    let edge = deployment.serve();
    let mut connection = Connection::open(deployment.traffic).unwrap();
    for token in &tokens {
        ask(&mut connection, token);
    }
    let warmed = deployment.count("cypheron_edge_directory_warmed_total", "");
    assert_eq!((warmed, reads(&deployment)), (KEYS as u64 + 1, 0));
    // One of them is revoked like any other.
    deployment.ok(&["keys", "revoke", "key 7"]);
    eventually("it is refused", || {
        let headers = [("X-API-Key", tokens[7].as_str())];
        connection.get("/", &headers).unwrap().status == 401
    });
    assert_eq!(edge.stop(), Some(0));
}

fn ask(connection: &mut Connection, token: &str) {
    let response = connection.get("/", &[("X-API-Key", token)]).unwrap();
    assert_eq!(response.status, 200);
}

/// Sorted.
fn latencies(traffic: SocketAddr, token: &str, over: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut connection = Connection::open(traffic).unwrap();
    let mut latencies = Vec::new();
    while !over(latencies.len()) {
        let began = Instant::now();
        ask(&mut connection, token);
        latencies.push(began.elapsed());
    }
    latencies.sort_unstable();
    latencies
}

fn median(latencies: &[Duration]) -> Duration {
    latencies[latencies.len() / 2]
}

fn reads(deployment: &Deployment) -> u64 {
    deployment.count("cypheron_edge_directory_reads_total", "found")
}
