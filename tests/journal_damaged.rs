//! Journals that were damaged, and disks that are full.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytesize::ByteSize;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::Ended;
use cypheron_edge::usage::journal::{Config, Durability, Journal, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use http::Method;
use uuid::Uuid;

fn open(directory: &Path) -> (Journal, Vec<Writer>) {
    let config = Config {
        segment_bytes: ByteSize::kib(64),
        max_bytes: Some(ByteSize::mib(16)),
        sync_interval: Duration::from_hours(1),
        ..Config::default()
    };
    let clock = Clock::manual(Timestamp::EPOCH);
    Journal::open(&config, ClientIp::None, directory, &clock, 1).unwrap()
}

fn record(writer: &Writer, key: u128) {
    let decision = Decision {
        occurred_at: Timestamp::EPOCH,
        key_id: Uuid::from_u128(key),
        route: "orders",
        method: &Method::GET,
        client: None,
    };
    writer.admit(&decision).unwrap().complete(&Completion {
        status: 200,
        ended: Ended::Complete,
        request_bytes: 0,
        response_bytes: 0,
        duration_us: 0,
        upstream_us: 0,
    });
}

const RECORDED: u128 = 50;

/// What a dead process left: [`RECORDED`] requests that have ended.
fn left_behind() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let (journal, writers) = open(directory.path());
    for key in 0..RECORDED {
        record(&writers[0], key);
    }
    let left = format!("journal/{}/0", journal.instance());
    let left = directory.path().join(left);
    (directory, left)
}

fn segment(left: &Path) -> PathBuf {
    left.join("0000000000000001.segment")
}

#[derive(Debug, PartialEq, Eq)]
struct Found {
    complete: u128,
    interrupted: u128,
    damaged: u64,
}

fn found(directory: &Path) -> Found {
    let (journal, _writers) = open(directory);
    let mut remains = journal.remains().unwrap().pop().unwrap();
    let mut found = Found {
        complete: 0,
        interrupted: 0,
        damaged: 0,
    };
    while let Some(batch) = remains.next_batch(10).unwrap() {
        for event in batch.events {
            match event.ended {
                Ended::Complete => found.complete += 1,
                _ => found.interrupted += 1,
            }
        }
    }
    found.damaged = remains.damaged();
    remains.remove().unwrap();
    found
}

#[test]
fn a_torn_tail_costs_the_last_record_only() {
    let (directory, left) = left_behind();
    let mut bytes = fs::read(segment(&left)).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes.truncate(end - 20);
    fs::write(segment(&left), bytes).unwrap();
    let expected = Found {
        complete: RECORDED - 1,
        interrupted: 1,
        damaged: 1,
    };
    assert_eq!(found(directory.path()), expected);
}

#[test]
fn a_flipped_bit_costs_one_record_and_is_counted() {
    let (directory, left) = left_behind();
    let mut bytes = fs::read(segment(&left)).unwrap();
    bytes[5000] ^= 0x10;
    fs::write(segment(&left), bytes).unwrap();
    let found = found(directory.path());
    assert!(found.complete >= RECORDED - 1, "{found:?}");
    assert_eq!(found.complete + found.interrupted, RECORDED);
    assert_eq!(found.damaged, 1);
}

#[test]
fn an_empty_file_beside_the_others_does_no_harm() {
    let (directory, left) = left_behind();
    fs::write(left.join("0000000000000009.segment"), "").unwrap();
    fs::write(left.join("acknowledged"), "").unwrap();
    let expected = Found {
        complete: RECORDED,
        interrupted: 0,
        damaged: 0,
    };
    assert_eq!(found(directory.path()), expected);
}

#[test]
fn an_empty_directory_of_a_process_that_never_began_goes_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let empty = directory
        .path()
        .join("journal/01900000-0000-7000-8000-000000000000");
    fs::create_dir_all(&empty).unwrap();
    let (journal, _writers) = open(directory.path());
    assert!(journal.remains().unwrap().is_empty(), "it may yet begin");
    drop(journal);
    let clock = Clock::system();
    let config = Config::default();
    let (journal, _writers) =
        Journal::open(&config, ClientIp::None, directory.path(), &clock, 1).unwrap();
    for remains in journal.remains().unwrap() {
        remains.remove().unwrap();
    }
    assert!(!empty.exists());
}

#[test]
fn a_newer_format_is_left_untouched() {
    let (directory, left) = left_behind();
    let mut bytes = fs::read(segment(&left)).unwrap();
    bytes[12] += 1;
    fs::write(segment(&left), &bytes).unwrap();
    let (journal, _writers) = open(directory.path());
    assert!(journal.remains().unwrap().is_empty());
    assert_eq!(fs::read(segment(&left)).unwrap(), bytes);
}

/// A file system of its own, of 512 KiB, until it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let directory = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
            .arg(directory.path())
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if mount.status.success() {
            Ok(Self(directory))
        } else {
            Err(String::from_utf8_lossy(&mount.stderr).trim().to_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

/// Says so past what the test harness keeps to itself; a failure where
/// everything is required.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is required"
)]
fn skip(why: &str) {
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!all, "no file system can be mounted to be filled: {why}");
    let skipped = format!(
        "SKIPPED: no file system can be mounted to be filled: {why}; run as root: \
         sudo ./scripts/test\n"
    );
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
}

#[test]
fn a_full_disk_is_a_full_journal_and_nothing_worse() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            return skip(&why);
        }
    };
    let (mut journal, writers) = open(disk.0.path());
    assert_eq!(journal.durability(), Durability::Ephemeral("tmpfs"));
    for key in 0..5000 {
        record(&writers[0], key);
        if key % 100 == 0 {
            // So that segments are made until there is no room for one.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let full = journal.next_batch(usize::MAX);
    assert!(full.writers[0].dropped > 0);
    assert!(full.events.len() > 1000);

    journal.sync().unwrap();
    journal.acknowledge().unwrap();
    let deadline = 5000;
    let mut waited = 0;
    while journal.next_batch(usize::MAX).events.is_empty() && waited < deadline {
        record(&writers[0], 1);
        std::thread::sleep(Duration::from_millis(1));
        waited += 1;
    }
    assert!(waited < deadline, "there is no room again");
    drop((journal, writers));
}
