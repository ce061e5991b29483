//! What recording one admitted request costs its worker: opened and closed.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed, and one prints what it measured"
)]

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::Ended;
use cypheron_edge::usage::journal::{Config, Journal, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use http::Method;
use uuid::Uuid;

const PAIRS: usize = 5000;
/// So many times that many are timed one by one.
const TIMED: usize = 100;

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 0,
    response_bytes: 200,
    duration_us: 900,
    upstream_us: 700,
};

fn record(writer: &Writer, pairs: usize) {
    let decision = Decision {
        occurred_at: Timestamp::from_micros(1_800_000_000_000_000),
        key_id: Uuid::from_u128(7),
        route: "orders",
        method: &Method::GET,
        client: Some([192, 0, 2, 1].into()),
    };
    for _ in 0..pairs {
        writer.admit(&decision).unwrap().complete(&DONE);
    }
}

/// Ships in between, so that there is always room, and a segment ready.
fn drain(journal: &mut Journal) {
    while !journal.next_batch(PAIRS).events.is_empty() {}
    journal.acknowledge().unwrap();
    thread::sleep(Duration::from_millis(5));
}

fn pairs(criterion: &mut Criterion, name: &str, directory: &Path) {
    let clock = Clock::system();
    let config = Config::default();
    let (mut journal, writers) =
        Journal::open(&config, ClientIp::Full, directory, &clock, 1).unwrap();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(criterion::Throughput::Elements(PAIRS as u64));
    group.sample_size(20);
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || drain(&mut journal),
            |()| record(&writers[0], PAIRS),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    tail(&mut journal, &writers[0], &clock, name);
    let dropped = journal.next_batch(1).writers[0].dropped;
    assert_eq!(dropped, 0, "what was measured is not what is recorded");
}

/// A mean hides the one request in a hundred that waits for the disk.
fn tail(journal: &mut Journal, writer: &Writer, clock: &Clock, name: &str) {
    let mut took = Vec::with_capacity(TIMED * PAIRS);
    for _ in 0..TIMED {
        drain(journal);
        for _ in 0..PAIRS {
            let began = clock.tick();
            record(writer, 1);
            took.push(clock.tick().since(began).as_nanos());
        }
    }
    took.sort_unstable();
    let [half, most, nearly_all] = [500, 990, 999].map(|of| took[took.len() * of / 1000]);
    println!("journal/{name}, each: p50 {half} ns, p99 {most} ns, p99.9 {nearly_all} ns");
}

fn idle(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    pairs(criterion, "admit and complete", directory.path());
}

/// Another writer on the same disk, which syncs each of its 8 MiB.
fn saturated(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut file = File::create(directory.path().join("other")).unwrap();
    let stopped = Arc::clone(&stop);
    let other = thread::spawn(move || {
        let block = vec![1_u8; 8 << 20];
        while !stopped.load(Ordering::Relaxed) {
            file.rewind().unwrap();
            for _ in 0..8 {
                file.write_all(&block).unwrap();
                file.sync_data().unwrap();
            }
        }
    });
    pairs(
        criterion,
        "admit and complete, disk saturated",
        directory.path(),
    );
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
}

criterion_group!(benches, idle, saturated);
criterion_main!(benches);
