//! From the journal to a sink that fails, forgets to answer, or is away.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytesize::ByteSize;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::Database;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::Config;
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::{Ended, UsageEvent};
use cypheron_edge::usage::journal::{self, Batch, Journal, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use cypheron_edge::usage::refusals::{RefusalCount, RefusalCounter, Refusals};
use cypheron_edge::usage::report::{InstanceCheck, SqliteReports, Standing, verify};
use cypheron_edge::usage::shipper::Shipper;
use cypheron_edge::usage::sink::{AuditRow, SinkError, SqliteSink, Stored, UsageSink};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::Method;
use uuid::Uuid;

#[derive(Debug, Default)]
struct Memory {
    events: Mutex<HashMap<Uuid, UsageEvent>>,
    refusals: Mutex<u64>,
    /// So many calls fail before they do anything.
    fail: AtomicU32,
    /// After that, so many do it and then fail.
    forget: AtomicU32,
    /// So many calls to delete what is old fail; how many there were.
    fail_to_expire: AtomicU32,
    expiries: AtomicU32,
    /// The first batch is never answered for; whether it came.
    hangs: AtomicBool,
    hung: AtomicBool,
    /// It fails for good once it has stored one more batch.
    only_one: AtomicBool,
}

impl Memory {
    fn result<T>(&self, value: T) -> Result<T, SinkError> {
        let forgets = take_one(&self.forget);
        if forgets { Err(away()) } else { Ok(value) }
    }

    fn keys(&self) -> Vec<u128> {
        let events = self.events.lock().unwrap();
        let mut keys: Vec<_> = events.values().map(|e| e.key_id.as_u128()).collect();
        keys.sort_unstable();
        keys
    }
}

fn away() -> SinkError {
    SinkError("away".to_owned())
}

fn take_one(from: &AtomicU32) -> bool {
    let taken = from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    });
    taken.is_ok()
}

impl UsageSink for Memory {
    fn store(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Stored, SinkError>> {
        async move {
            if self.hangs.swap(false, Ordering::Relaxed) {
                self.hung.store(true, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            if take_one(&self.fail) {
                return Err(away());
            }
            if self.only_one.load(Ordering::Relaxed) {
                self.fail.store(u32::MAX, Ordering::Relaxed);
            }
            let mut new = 0;
            for event in &batch.events {
                let stored = self
                    .events
                    .lock()
                    .unwrap()
                    .insert(event.event_id, event.clone());
                new += u64::from(stored.is_none());
            }
            self.result(Stored {
                new,
                quarantined: 0,
            })
        }
        .boxed()
    }

    fn store_refusals(
        &self,
        _: Uuid,
        refusals: Arc<[RefusalCount]>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            *self.refusals.lock().unwrap() += refusals.iter().map(|row| row.count).sum::<u64>();
            Ok(())
        }
        .boxed()
    }

    fn expire(&self, _: Timestamp, _: usize) -> BoxFuture<'_, Result<usize, SinkError>> {
        async {
            self.expiries.fetch_add(1, Ordering::Relaxed);
            if take_one(&self.fail_to_expire) {
                return Err(away());
            }
            Ok(0)
        }
        .boxed()
    }

    fn audit(&self, _: AuditRow) -> BoxFuture<'_, Result<(), SinkError>> {
        async { Ok(()) }.boxed()
    }
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_800_000_000_000_000))
}

fn config() -> Config {
    Config {
        journal: journal::Config {
            segment_bytes: ByteSize::mib(1),
            max_bytes: Some(ByteSize::mib(16)),
            ..journal::Config::default()
        },
        ..Config::default()
    }
}

fn begin(directory: &Path, workers: usize) -> (Journal, Vec<Writer>) {
    let config = config().journal;
    Journal::open(&config, ClientIp::Full, directory, &clock(), workers).unwrap()
}

fn shipper(journal: Journal, refusals: &Refusals, sink: Arc<dyn UsageSink>) -> Shipper {
    shipper_by(clock(), journal, refusals, sink)
}

fn shipper_by(
    clock: Clock,
    journal: Journal,
    refusals: &Refusals,
    sink: Arc<dyn UsageSink>,
) -> Shipper {
    Shipper::new(journal, refusals.clone(), sink, clock, &config())
}

fn decision(key: u128) -> Decision<'static> {
    Decision {
        occurred_at: Timestamp::from_micros(1_800_000_000_000_000),
        key_id: Uuid::from_u128(key),
        route: "orders",
        method: &Method::GET,
        client: None,
    }
}

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 0,
    response_bytes: 0,
    duration_us: 0,
    upstream_us: 0,
};

fn record(writer: &Writer, keys: std::ops::Range<u128>) {
    for key in keys {
        writer.admit(&decision(key)).unwrap().complete(&DONE);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_stored_once_by_the_time_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 2);
    record(&writers[0], 0..1500);
    record(&writers[1], 1500..2500);
    let refusals = Refusals::new(1);
    refusals
        .tally(0)
        .count(Timestamp::EPOCH, None, Refusal::NoRoute, None);
    let sink = Arc::new(Memory::default());
    sink.fail.store(2, Ordering::Relaxed);
    sink.forget.store(2, Ordering::Relaxed);
    let shipper = shipper(journal, &refusals, sink.clone());
    assert!(shipper.run(std::future::ready(())).await);
    assert!(sink.keys().into_iter().eq(0..2500));
    assert_eq!(*sink.refusals.lock().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_recorded_while_a_batch_is_on_its_way_is_stored_by_the_end_too() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 0..10);
    let sink = Arc::new(Memory::default());
    sink.hangs.store(true, Ordering::Relaxed);
    let shipper = shipper(journal, &Refusals::new(1), sink.clone());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(shipper.run(async { drop(ended.await) }));
    while !sink.hung.load(Ordering::Relaxed) {
        tokio::task::yield_now().await;
    }
    record(&writers[0], 10..20);
    drop(end);
    assert!(running.await.unwrap());
    assert!(sink.keys().into_iter().eq(0..20));
}

#[tokio::test(start_paused = true)]
async fn a_failing_sink_is_told_of_and_gets_everything_once_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    let sink = Arc::new(Memory::default());
    sink.fail.store(3, Ordering::Relaxed);
    let shipper = shipper(journal, &Refusals::new(1), sink.clone());
    let state = shipper.sink_state();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(shipper.run(stopped.map(drop)));
    record(&writers[0], 0..10);
    let mut was_failing = false;
    while sink.keys().len() < 10 {
        was_failing |= state.is_failing();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(was_failing);
    stop.send(()).unwrap();
    assert!(running.await.unwrap());
    assert!(!state.is_failing());
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_cannot_delete_what_is_old_takes_events_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    let sink = Arc::new(Memory::default());
    sink.fail_to_expire.store(1, Ordering::Relaxed);
    let clock = clock();
    let shipper = shipper_by(clock.clone(), journal, &Refusals::new(1), sink.clone());
    let state = shipper.sink_state();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(shipper.run(stopped.map(drop)));
    for key in 0..10 {
        record(&writers[0], key..key + 1);
        while sink.keys().len() as u128 <= key {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(!state.is_failing());
        }
    }
    // Nor is it asked again with every batch, but when it is due.
    let expiries = || sink.expiries.load(Ordering::Relaxed);
    assert_eq!(expiries(), 1);
    clock.advance(Duration::from_mins(10));
    while expiries() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    assert!(running.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_stored_in_time_is_left_for_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 0..10);
    let sink = Arc::new(Memory::default());
    sink.fail.store(u32::MAX, Ordering::Relaxed);
    let first = shipper(journal, &Refusals::new(1), sink.clone());
    assert!(!first.run(std::future::ready(())).await);
    drop(writers);
    sink.fail.store(0, Ordering::Relaxed);

    let (journal, writers) = begin(directory.path(), 1);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let next = shipper(journal, &Refusals::new(1), sink.clone());
    let running = tokio::spawn(next.run(stopped.map(drop)));
    record(&writers[0], 10..20);
    let directories = || std::fs::read_dir(directory.path().join("journal")).unwrap();
    while directories().count() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.send(()).unwrap();
    assert!(running.await.unwrap());
    assert_eq!(sink.keys(), (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_a_killed_process_left_is_stored_by_one_that_ends_at_once() {
    let directory = tempfile::tempdir().unwrap();
    // Of two workers, so more than one batch.
    let (journal, writers) = begin(directory.path(), 2);
    record(&writers[0], 0..1500);
    record(&writers[1], 1500..2500);
    drop((journal, writers));

    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 2500..2510);
    let sink = Arc::new(Memory::default());
    sink.fail.store(2, Ordering::Relaxed);
    sink.forget.store(2, Ordering::Relaxed);
    let shipper = shipper(journal, &Refusals::new(1), sink.clone());
    assert!(shipper.run(std::future::ready(())).await);
    assert!(sink.keys().into_iter().eq(0..2510));
    let left = std::fs::read_dir(directory.path().join("journal")).unwrap();
    assert_eq!(left.count(), 1, "the dead one's directory is gone");
}

#[tokio::test(start_paused = true)]
async fn its_own_usage_comes_first_when_there_is_no_time_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 0..10);
    drop((journal, writers));

    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 10..20);
    let sink = Arc::new(Memory::default());
    sink.only_one.store(true, Ordering::Relaxed);
    let shipper = shipper(journal, &Refusals::new(1), sink.clone());
    assert!(shipper.run(std::future::ready(())).await);
    assert_eq!(sink.keys(), (10..20).collect::<Vec<_>>());
}

async fn check(directory: &Path, instance: Uuid) -> InstanceCheck {
    let database = Database::open_in(directory).unwrap();
    let reports = SqliteReports::new(&database);
    let mut checks = verify(&reports, directory, Timestamp::EPOCH).await.unwrap();
    checks.retain(|check| check.instance == instance);
    checks.remove(0)
}

#[tokio::test]
async fn every_decision_is_accounted_for_in_journal_and_sink() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, writers) = begin(directory.path(), 1);
    let instance = journal.instance();
    record(&writers[0], 0..10);
    let open = writers[0].admit(&decision(10)).unwrap();
    let check_one = check(directory.path(), instance).await;
    assert_eq!((check_one.decided, check_one.in_journal), (11, 11));
    assert_eq!(check_one.standing, Standing::Whole);

    let database = Database::open_in(directory.path()).unwrap();
    let sink = SqliteSink::new(&database, clock());
    sink.store(Arc::new(journal.next_batch(4))).await.unwrap();
    let check_two = check(directory.path(), instance).await;
    assert_eq!((check_two.stored, check_two.in_journal), (4, 7));
    assert_eq!(check_two.standing, Standing::Whole);

    // Dies, and the next one stores what it left.
    std::mem::forget(open);
    drop((journal, writers));
    let (journal, _writers) = begin(directory.path(), 1);
    let mut remains = journal.remains().unwrap().remove(0);
    while let Some(batch) = remains.next_batch(3).unwrap() {
        sink.store(Arc::new(batch)).await.unwrap();
        remains.acknowledge().unwrap();
    }
    remains.remove().unwrap();
    let check_three = check(directory.path(), instance).await;
    assert_eq!((check_three.stored, check_three.interrupted), (10, 1));
    assert_eq!((check_three.decided, check_three.in_journal), (11, 0));
    assert_eq!(check_three.standing, Standing::Whole);
}

#[tokio::test]
async fn a_gap_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = begin(directory.path(), 1);
    record(&writers[0], 0..10);
    let instance = journal.instance();
    drop((journal, writers));
    let segment = format!("journal/{instance}/0/0000000000000001.segment");
    let segment = directory.path().join(segment);
    let mut bytes = std::fs::read(&segment).unwrap();
    // The first three requests: both of their records.
    bytes[48..500].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    let check = check(directory.path(), instance).await;
    assert!(check.missing > 0, "{check:?}");
    assert_eq!(check.standing, Standing::Lost);
    assert_eq!(check.decided, 10);
}
