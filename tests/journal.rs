//! The journal on a real disk, in one process after another.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::{Ended, Outcome, UsageEvent};
use cypheron_edge::usage::journal::{Config, DataDir, Journal, OpenError, WhenFull, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use http::Method;
use uuid::Uuid;

fn config() -> Config {
    Config {
        segment_bytes: ByteSize::kib(64),
        max_bytes: Some(ByteSize::mib(1)),
        // The tests sync when they mean to.
        sync_interval: Duration::from_hours(1),
        ..Config::default()
    }
}

fn open(directory: &Path, config: &Config, writers: usize) -> (Journal, Vec<Writer>) {
    let clock = Clock::manual(Timestamp::from_micros(1_800_000_000_000_000));
    Journal::open(config, ClientIp::Prefix, directory, &clock, writers).unwrap()
}

fn decision(key: u128) -> Decision<'static> {
    Decision {
        occurred_at: Timestamp::from_micros(1_800_000_000_000_000),
        key_id: Uuid::from_u128(key),
        route: "orders",
        method: &Method::GET,
        client: Some(IpAddr::from([192, 0, 2, 99])),
    }
}

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 1,
    response_bytes: 2,
    duration_us: 3,
    upstream_us: 4,
};

/// Keys of events, in order.
fn keys(events: &[UsageEvent]) -> Vec<u128> {
    events.iter().map(|event| event.key_id.as_u128()).collect()
}

/// Everything that dead processes left, and then it is gone.
fn recover(journal: &Journal) -> Vec<UsageEvent> {
    let mut events = Vec::new();
    for mut remains in journal.remains().unwrap() {
        while let Some(batch) = remains.next_batch(7).unwrap() {
            events.extend(batch.events);
            remains.acknowledge().unwrap();
        }
        remains.remove().unwrap();
    }
    assert!(journal.remains().unwrap().is_empty());
    events
}

/// Every file and directory below.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn nobody_else_can_read_who_called() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let _claimed = DataDir::claim(directory.path(), false).unwrap();
    let (mut journal, writers) = open(directory.path(), &config(), 1);
    writers[0].admit(&decision(1)).unwrap().complete(&DONE);
    journal.next_batch(10);
    journal.acknowledge().unwrap();
    let found = below(directory.path());
    for name in ["lock", "dropped", "acknowledged"] {
        assert!(found.iter().any(|path| path.ends_with(name)), "{name}");
    }
    for path in found {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
}

#[test]
fn what_counts_on_a_full_disk_has_its_room_from_the_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let (_journal, _writers) = open(directory.path(), &config(), 1);
    let mut found = below(directory.path());
    found.retain(|path| path.ends_with("dropped"));
    let [dropped] = &*found else {
        panic!("{found:?}")
    };
    assert!(fs::metadata(dropped).unwrap().blocks() > 0);
}

#[test]
fn a_request_is_handed_out_once_it_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, writers) = open(directory.path(), &config(), 1);
    let first = writers[0].admit(&decision(1)).unwrap();
    let second = writers[0].admit(&decision(2)).unwrap();
    assert_eq!(journal.next_batch(10).events, []);
    second.complete(&DONE);
    let mut refused = DONE;
    refused.status = 429;
    writers[0].refuse(&decision(3), Refusal::RateLimited, &refused);
    first.complete(&DONE);

    let batch = journal.next_batch(10);
    assert_eq!(keys(&batch.events), [2, 3, 1]);
    let event = &batch.events[0];
    assert_eq!(event.client_ip, Some(IpAddr::from([192, 0, 2, 0])));
    assert_eq!((&*event.route, &*event.method), ("orders", "GET"));
    assert_eq!((event.status, event.outcome), (200, Outcome::Admitted));
    assert_eq!((event.request_bytes, event.response_bytes), (1, 2));
    assert_eq!((event.duration_us, event.upstream_us), (3, 4));
    let refusal = Outcome::Refused(Refusal::RateLimited);
    assert_eq!(batch.events[1].outcome, refusal);
    assert_eq!(batch.events[1].status, 429);
    assert_eq!(batch.writers[0].decided, 3);
    assert_eq!(journal.next_batch(10).events, []);
}

#[test]
fn a_reservation_that_is_dropped_is_interrupted() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, writers) = open(directory.path(), &config(), 1);
    drop(writers[0].admit(&decision(1)).unwrap());
    let batch = journal.next_batch(10);
    assert_eq!(batch.events[0].ended, Ended::Interrupted);
}

#[test]
fn the_next_process_finds_what_was_open_and_what_was_not_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, writers) = open(directory.path(), &config(), 2);
    writers[0].admit(&decision(1)).unwrap().complete(&DONE);
    assert_eq!(keys(&journal.next_batch(10).events), [1]);
    journal.acknowledge().unwrap();
    let open_one = writers[0].admit(&decision(2)).unwrap();
    let open_two = writers[1].admit(&decision(3)).unwrap();
    writers[1].admit(&decision(4)).unwrap().complete(&DONE);
    // Dies: nothing of it runs to its end.
    std::mem::forget((open_one, open_two));
    drop((journal, writers));

    let (journal, _writers) = open(directory.path(), &config(), 1);
    let events = recover(&journal);
    let mut ended: Vec<_> = events
        .iter()
        .map(|event| (event.key_id.as_u128(), event.ended))
        .collect();
    ended.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(
        ended,
        [
            (2, Ended::Interrupted),
            (3, Ended::Interrupted),
            (4, Ended::Complete)
        ]
    );
}

#[test]
fn a_living_process_keeps_its_journal_to_itself() {
    let directory = tempfile::tempdir().unwrap();
    let (first, writers) = open(directory.path(), &config(), 1);
    writers[0].admit(&decision(1)).unwrap().complete(&DONE);
    let (second, _) = open(directory.path(), &config(), 1);
    assert!(second.remains().unwrap().is_empty());
    drop((first, writers));
    assert_eq!(keys(&recover(&second)), [1]);
}

/// Waits until a segment is there to go on in, or none is to be had.
fn admit_until_full(writer: &Writer) -> u64 {
    let mut admitted = 0;
    let mut failed = 0;
    while failed < 200 {
        if let Ok(reservation) = writer.admit(&decision(1)) {
            reservation.complete(&DONE);
            admitted += 1;
            failed = 0;
        } else {
            failed += 1;
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    admitted
}

#[test]
fn a_full_journal_refuses_and_has_room_again_once_the_sink_has_its_events() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        when_full: WhenFull::Refuse,
        max_bytes: Some(ByteSize::kib(256)),
        ..config()
    };
    let (mut journal, writers) = open(directory.path(), &config, 1);
    let before = writers[0].admit(&decision(1)).unwrap();
    let admitted = admit_until_full(&writers[0]);
    assert!(admitted > 100);
    // Even now, what was admitted can end.
    before.complete(&DONE);

    journal.sync().unwrap();
    let stored = journal.next_batch(usize::MAX);
    assert_eq!(stored.events.len() as u64, admitted + 1);
    assert_eq!(stored.writers[0].dropped, 0);
    journal.acknowledge().unwrap();
    assert!(admit_until_full(&writers[0]) > 100);
}

#[test]
fn a_full_journal_that_drops_counts_what_it_drops() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config {
        max_bytes: Some(ByteSize::kib(256)),
        ..config()
    };
    let (mut journal, writers) = open(directory.path(), &config, 1);
    for _ in 0..5000 {
        writers[0].admit(&decision(1)).unwrap().complete(&DONE);
    }
    let batch = journal.next_batch(usize::MAX);
    let counts = batch.writers[0];
    assert_eq!(counts.decided, 5000);
    assert!(counts.dropped > 0);
    assert_eq!(batch.events.len() as u64, counts.decided - counts.dropped);
    drop((journal, writers));

    let (journal, _writers) = open(directory.path(), &config, 1);
    let mut remains = journal.remains().unwrap().pop().unwrap();
    let batch = remains.next_batch(usize::MAX).unwrap().unwrap();
    assert_eq!(batch.writers[0], counts, "known also when it is dead");
}

#[test]
fn a_stream_that_stays_open_does_not_keep_old_segments() {
    let directory = tempfile::tempdir().unwrap();
    let (mut journal, writers) = open(directory.path(), &config(), 1);
    let stream = writers[0].admit(&decision(77)).unwrap();
    for _ in 0..40 {
        for _ in 0..100 {
            writers[0].admit(&decision(1)).unwrap().complete(&DONE);
        }
        journal.sync().unwrap();
        while !journal.next_batch(1000).events.is_empty() {}
        journal.acknowledge().unwrap();
        assert!(journal.backlog() == 0);
    }
    let kept = std::fs::read_dir(
        directory
            .path()
            .join(format!("journal/{}/0", journal.instance())),
    );
    let segments = kept
        .unwrap()
        .filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|is| is == "segment")
        })
        .count();
    assert!(segments <= 5, "{segments} segments");
    std::mem::forget(stream);
    drop((journal, writers));

    let (journal, _writers) = open(directory.path(), &config(), 1);
    let events = recover(&journal);
    assert_eq!(keys(&events), [77]);
    assert_eq!(events[0].ended, Ended::Interrupted);
}

#[test]
fn too_little_room_for_the_workers_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(Timestamp::EPOCH);
    let error =
        Journal::open(&config(), ClientIp::Full, directory.path(), &clock, 100).unwrap_err();
    assert!(matches!(error, OpenError::TooSmall { writers: 100, .. }));
    assert!(error.to_string().contains("usage.journal.max_bytes"));
}
