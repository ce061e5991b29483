//! A process that records is killed, and the next one finds everything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::client::ClientIp;
use cypheron_edge::usage::event::{Ended, UsageEvent};
use cypheron_edge::usage::journal::{Config, Journal, Writer};
use cypheron_edge::usage::recorder::{Completion, Decision, Recorder, Reservation};
use http::Method;
use uuid::Uuid;

const DONE: Completion = Completion {
    status: 200,
    ended: Ended::Complete,
    request_bytes: 0,
    response_bytes: 0,
    duration_us: 0,
    upstream_us: 0,
};

/// Requests that never end have keys from here on.
const STREAMS: u128 = 1 << 64;

/// So many answers a killed process has given at least.
const ANSWERS: usize = 20_000;

fn open(directory: &Path, writers: usize) -> (Journal, Vec<Writer>) {
    let config = Config::default();
    Journal::open(
        &config,
        ClientIp::None,
        directory,
        &Clock::system(),
        writers,
    )
    .unwrap()
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

/// Not a test: what the test below kills. It is told the directory on its
/// standard input, and tells the key of every request that has ended.
#[test]
#[ignore = "runs in a process of its own, which is killed"]
fn record_until_killed() {
    let mut directory = String::new();
    std::io::stdin().read_line(&mut directory).unwrap();
    if directory.is_empty() {
        return;
    }
    let (_journal, writers) = open(Path::new(directory.trim_end()), 2);
    let streams: Vec<_> = (STREAMS..STREAMS + 3)
        .map(|key| writers[0].admit(&decision(key)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for (worker, writer) in writers.iter().enumerate() {
            scope.spawn(move || {
                for number in 0.. {
                    let key = number * 2 + worker as u128;
                    writer.admit(&decision(key)).unwrap().complete(&DONE);
                    let _ = writeln!(std::io::stdout(), "answered {key}");
                }
            });
        }
    });
    drop(streams);
}

/// The keys that a process answered before it was killed.
fn answered_by_a_killed_process(directory: &Path) -> Vec<u128> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "record_until_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{}", directory.display()).unwrap();
    let mut answered = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).split(b'\n') {
        // The last line may be cut short.
        let line = String::from_utf8(line.unwrap()).unwrap();
        let key = line.split_once("answered ").map(|(_, key)| key.parse());
        if let Some(Ok(key)) = key {
            answered.push(key);
        }
        if answered.len() == ANSWERS {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(answered.len() >= ANSWERS);
    // What the pipe cut short could be read as another key.
    answered.truncate(answered.len() - 1);
    answered
}

fn recover(directory: &Path) -> Vec<UsageEvent> {
    let (journal, _writers) = open(directory, 1);
    let mut remains = journal.remains().unwrap().pop().unwrap();
    let mut events = Vec::new();
    while let Some(batch) = remains.next_batch(1000).unwrap() {
        events.extend(batch.events);
        remains.acknowledge().unwrap();
    }
    assert_eq!(remains.damaged(), 0);
    remains.remove().unwrap();
    events
}

#[test]
fn every_request_that_a_killed_process_answered_is_found_once() {
    let directory = tempfile::tempdir().unwrap();
    let answered = answered_by_a_killed_process(directory.path());
    let mut found: HashMap<u128, Vec<Ended>> = HashMap::new();
    for event in recover(directory.path()) {
        let key = event.key_id.as_u128();
        found.entry(key).or_default().push(event.ended);
    }
    for key in answered {
        assert_eq!(found.get(&key), Some(&vec![Ended::Complete]), "{key}");
    }
    for stream in STREAMS..STREAMS + 3 {
        let ended = found.get(&stream);
        assert_eq!(ended, Some(&vec![Ended::Interrupted]), "{stream}");
    }
    assert!(found.values().all(|ends| ends.len() == 1));
}
