//! What clients notice of a PostgreSQL that is down: the whole binary, asked
//! the same with its database up and down, in turn.
//!
//! A latency counts from the moment that a request was to be sent; it is sent
//! then, unless the one before on its connection is still under way.
//!
//! `cargo bench --profile quick --bench outage [-- SECONDS ROUNDS RATE]`

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a benchmark that cannot go on has failed; it measures real time, and tells it"
)]

#[expect(dead_code, reason = "one kind of request will do")]
#[path = "../tests/edge/client.rs"]
mod client;
#[expect(dead_code, reason = "one server will do")]
#[path = "../tests/postgres/server.rs"]
mod postgres_server;
#[expect(dead_code, reason = "one deployment will do")]
#[path = "../tests/edge/process.rs"]
mod process;
#[expect(dead_code, reason = "one kind of request will do")]
#[path = "../tests/edge/upstream.rs"]
mod upstream;

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use client::Connection;
use postgres_server::TestServer;
use process::{Deployment, eventually};
use upstream::Upstream;

const CONNECTIONS: u32 = 8;

struct Load {
    length: Duration,
    /// Requests a second, on all connections together.
    rate: u32,
}

impl Load {
    /// The latencies, in ascending order.
    fn run(&self, address: SocketAddr, token: &str) -> Vec<Duration> {
        let every = Duration::from_secs(1) * CONNECTIONS / self.rate;
        let mut latencies: Vec<_> = thread::scope(|scope| {
            let clients: Vec<_> = (0..CONNECTIONS)
                .map(|number| {
                    let offset = every * number / CONNECTIONS;
                    scope.spawn(move || ask(address, token, offset, every, self.length))
                })
                .collect();
            let clients = clients.into_iter();
            clients.flat_map(|client| client.join().unwrap()).collect()
        });
        latencies.sort_unstable();
        latencies
    }
}

fn ask(
    address: SocketAddr,
    token: &str,
    offset: Duration,
    every: Duration,
    length: Duration,
) -> Vec<Duration> {
    let mut connection = Connection::open(address).unwrap();
    let mut latencies = Vec::new();
    let begin = Instant::now();
    let mut due = offset;
    while due < length {
        let wait = due.saturating_sub(begin.elapsed());
        let mut since = due;
        if !wait.is_zero() {
            thread::sleep(wait);
            // That this thread woke up late is nothing that the edge did.
            since = begin.elapsed();
        }
        let response = connection.get("/", &[("X-API-Key", token)]).unwrap();
        assert_eq!(response.status, 200);
        latencies.push(begin.elapsed().saturating_sub(since));
        due += every;
    }
    latencies
}

fn at(latencies: &[Duration], percent: usize) -> f64 {
    latencies[latencies.len() * percent / 100].as_secs_f64() * 1e6
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut numbers = std::env::args().filter_map(|argument| argument.parse().ok());
    let length = Duration::from_secs(numbers.next().unwrap_or(5).into());
    let rounds: u32 = numbers.next().unwrap_or(5);
    let rate = numbers.next().unwrap_or(1000);
    let load = Load { length, rate };
    let Some(mut server) = TestServer::start(&[]) else {
        return;
    };
    let upstream = Upstream::start();
    let environment = [
        ("DATABASE_URL", server.url("postgres")),
        (
            "CYPHERON_EDGE__DATABASE__MIGRATE_AT_START",
            "true".to_owned(),
        ),
    ];
    let settings = "[usage]\nsink = \"postgres\"";
    let deployment = Deployment::in_environment(upstream.address, settings, environment);
    let token = deployment.key("client", &["--rate-limit", "100000000"]);
    let edge = deployment.serve();
    let degraded = |state: &str| {
        let ready = client::get(deployment.health, "/readyz", &[]).text();
        ready.contains(state)
    };

    println!("{rate} requests/s for {length:?} a round, µs");
    println!("{:8} {:>8} {:>8}", "", "p50", "p99");
    let told = |state: &str| {
        let latencies = load.run(deployment.traffic, &token);
        let (half, most) = (at(&latencies, 50), at(&latencies, 99));
        println!("{state:8} {half:8.0} {most:8.0}");
        (half, most)
    };
    let (mut up, mut down) = (Vec::new(), Vec::new());
    load.run(deployment.traffic, &token);
    for _ in 0..rounds {
        up.push(told("up"));
        server.stop();
        client::get(deployment.traffic, "/", &[("X-API-Key", &token)]);
        eventually("the sink is away", || {
            degraded(r#""degraded":["usage_sink"]"#)
        });
        down.push(told("down"));
        server.restart();
        eventually("the sink is back", || degraded(r#""degraded":[]"#));
    }
    let ratio = |of: fn(&(f64, f64)) -> f64| {
        median(down.iter().map(of).collect()) / median(up.iter().map(of).collect())
    };
    println!(
        "down / up, of the medians: p50 {:.2}, p99 {:.2}",
        ratio(|round| round.0),
        ratio(|round| round.1)
    );
    assert_eq!(edge.stop(), Some(0), "{}", deployment.log_text());
}
