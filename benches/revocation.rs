//! From a revocation that the key store has acknowledged, in one process, to
//! the refusal of the key by a running edge in another, and to the end of a
//! stream that it had open: 200 keys in use, under load, over the Firestore
//! emulator.
//!
//!     cargo bench --bench revocation
//!
//! prints histograms, from the acknowledgement, which the refusal mostly
//! overtakes, and from the call, with the store's own work in it. Measured are the
//! store, its feed and the edge, and not the start of a command: this process
//! revokes as `keys revoke` does. A delay ends with the first answer that refuses,
//! so one request is in it, too.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement that cannot go on has failed, and it takes real time"
)]

#[path = "../tests/edge/client.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the tests of the edge use more of it"
)]
mod client;
#[path = "../tests/firestore/emulator.rs"]
#[expect(dead_code, reason = "the tests of the store use more of it")]
mod emulator;
#[path = "../tests/edge/process.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the tests of the edge use more of it"
)]
mod process;
#[path = "../tests/edge/upstream.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the tests of the edge use more of it"
)]
mod upstream;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cypheron_edge::admin::{
    AuditEntry, AuditLog, AuditUnavailable, Created, KeyRef, NewKey, Operations, Unlocked, keyring,
};
use cypheron_edge::clock::Clock;
use cypheron_edge::crypto::Password;
use cypheron_edge::key::Scope;
use cypheron_edge::repository::FirestoreConfig;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, TokenFormat};
use cypheron_edge::usage::report::AuditedKey;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Runtime;

use client::Connection;
use emulator::Emulator;
use process::{Deployment, PASSWORD};
use upstream::Upstream;
use uuid::Uuid;

const REVOCATIONS: usize = 200;

/// Keys that are used all along, each by a connection of its own.
const BYSTANDERS: usize = 4;

/// Between two requests of a bystander: 4,000 a second are asked for. Whoever
/// uses a key that is to be revoked does not pause.
const PAUSE: Duration = Duration::from_millis(1);

/// Upper bounds of the histogram's rows, in milliseconds.
const ROWS: [u64; 11] = [1, 2, 5, 10, 15, 20, 30, 50, 100, 1000, 60_000];

fn main() {
    let Some(emulator) = Emulator::start() else {
        return;
    };
    let upstream = Upstream::start();
    let config = emulator.project();
    let environment = [
        ("CYPHERON_EDGE__KEYS__STORE", "firestore".to_owned()),
        ("GOOGLE_CLOUD_PROJECT_ID", config.project.clone()),
        ("FIRESTORE_EMULATOR_HOST", emulator.address().to_owned()),
    ];
    let deployment = Deployment::in_environment(upstream.address, "", environment);
    let runtime = Runtime::new().unwrap();
    let operations = runtime.block_on(operations(&config));
    let create = |count: usize| -> Vec<Created> {
        let create = |number| runtime.block_on(operations.create(new_key(number)));
        (0..count).map(|number| create(number).unwrap()).collect()
    };
    let (doomed, bystanders) = (create(REVOCATIONS), create(BYSTANDERS));
    let _edge = deployment.serve();

    let (stop, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let began = Instant::now();
    let delays: Vec<_> = thread::scope(|threads| {
        for key in &bystanders {
            threads.spawn(|| {
                let mut connection = Connection::open(deployment.traffic).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(status(&mut connection, key), 200);
                    served.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(PAUSE);
                }
            });
        }
        let delays = doomed
            .iter()
            .map(|key| revoke(&runtime, &operations, key, deployment.traffic))
            .collect();
        stop.store(true, Ordering::Relaxed);
        delays
    });
    let rate = served.load(Ordering::Relaxed) / began.elapsed().as_secs().max(1);
    println!("{REVOCATIONS} revocations beside {rate} requests/s");
    let of = |delay: fn(&Delays) -> Duration| delays.iter().map(delay).collect();
    print(
        "refused, from the acknowledgement",
        of(|of| of.refused_after_it),
    );
    print("refused, from the call", of(|of| of.refused));
    print(
        "stream cut, from the acknowledgement",
        of(|of| of.cut_after_it),
    );
    print("stream cut, from the call", of(|of| of.cut));
}

/// How long after the call that revoked it, and after the acknowledgement of
/// that, a key was refused and its stream was cut.
struct Delays {
    refused: Duration,
    refused_after_it: Duration,
    cut: Duration,
    cut_after_it: Duration,
}

fn revoke(
    runtime: &Runtime,
    operations: &Operations,
    key: &Created,
    traffic: SocketAddr,
) -> Delays {
    thread::scope(|threads| {
        let (in_use, is_in_use) = mpsc::sync_channel(2);
        let begun = in_use.clone();
        let streaming = threads.spawn(move || {
            let mut stream = open_stream(traffic, key);
            begun.send(()).unwrap();
            // However it ends.
            let _ = stream.read_to_end(&mut Vec::new());
            Instant::now()
        });
        let user = threads.spawn(move || {
            let mut connection = Connection::open(traffic).unwrap();
            assert_eq!(status(&mut connection, key), 200);
            in_use.send(()).unwrap();
            while status(&mut connection, key) == 200 {}
            Instant::now()
        });
        is_in_use.recv().unwrap();
        is_in_use.recv().unwrap();
        let id = KeyRef::Id(key.key.id);
        let called = Instant::now();
        runtime.block_on(operations.revoke(&id)).unwrap();
        let acknowledged = Instant::now();
        let (refused, cut) = (user.join().unwrap(), streaming.join().unwrap());
        Delays {
            refused: refused - called,
            cut: cut - called,
            // Zero where it came before the acknowledgement was here.
            refused_after_it: refused.saturating_duration_since(acknowledged),
            cut_after_it: cut.saturating_duration_since(acknowledged),
        }
    })
}

/// A stream of which something has come.
fn open_stream(traffic: SocketAddr, key: &Created) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(traffic).unwrap();
    let token = key.token.expose();
    let request = format!("GET /stream HTTP/1.1\r\nHost: edge.test\r\nX-API-Key: {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while line != "begun\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0);
    }
    stream
}

fn status(connection: &mut Connection, key: &Created) -> u16 {
    let headers = [("X-API-Key", key.token.expose())];
    connection.get("/", &headers).unwrap().status
}

fn print(what: &str, mut delays: Vec<Duration>) {
    println!("\n| {what}, up to | revocations | |\n| ---: | ---: | :--- |");
    let mut below = Duration::ZERO;
    for row in ROWS.map(Duration::from_millis) {
        let within = |delay: &&Duration| (below..row).contains(*delay);
        let count = delays.iter().filter(within).count();
        println!("| {row:?} | {count} | {} |", "#".repeat(count.div_ceil(4)));
        below = row;
    }
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() * percent).div_ceil(100) - 1];
    println!(
        "\np50 {:.1?}, p99 {:.1?}, longest {:.1?}",
        at(50),
        at(99),
        at(100)
    );
}

async fn operations(config: &FirestoreConfig) -> Operations {
    let repository = Arc::new(emulator::open(config));
    let scope = Scope {
        project: config.project.clone(),
        database: config.database.clone(),
        collection: config.collection.clone(),
    };
    let password = Password::new(Secret::new(PASSWORD.to_owned())).unwrap();
    let keyring = keyring::load(&*repository, &scope.to_string(), password).await;
    Operations {
        unlocked: Unlocked::new(&keyring.unwrap()),
        repository,
        audit: Arc::new(Unheard),
        scope,
        format: TokenFormat::new("cyk", Environment::Live).unwrap(),
        actor: "benchmark".to_owned(),
        clock: Clock::system(),
    }
}

fn new_key(number: usize) -> NewKey {
    NewKey {
        name: format!("key {number}").parse().unwrap(),
        permissions: Vec::new(),
        rate_limit: NonZeroU32::new(10_000_000).unwrap(),
        expires_at: None,
        allowed_ips: Vec::new(),
        recoverable: false,
    }
}

struct Unheard;

impl AuditLog for Unheard {
    fn record(&self, _: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        std::future::ready(Ok(())).boxed()
    }

    fn known(&self, _: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        std::future::ready(Ok(None)).boxed()
    }
}
