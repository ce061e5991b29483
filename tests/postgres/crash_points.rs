//! The connection, the server or the process ends at each step of a batch in
//! turn: afterwards the tables hold exactly the set of events.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cypheron_edge::clock::Clock;
use cypheron_edge::database::{Config, DatabaseManager, Server};
use tempfile::TempDir;

use crate::recording::{Edge, eventually};
use crate::relay::{Fate, Message, Relay};
use crate::server::{TestDatabase, TestServer, database};

/// Events in each batch that is disturbed.
const EVENTS: u64 = 5;

fn any(_: &Message) -> bool {
    true
}

/// A server that holds still this long is not waited for.
fn impatient() -> Config {
    Config {
        statement_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_message_loses_and_repeats_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::to(database.server().port);
    let manager = database.manager_through(relay.port(), &Config::default());
    let edge = Edge::start(directory.path(), &manager, &Clock::system());
    edge.record(1);
    eventually("the first is stored", async || edge.acknowledged() == 1).await;
    let mut recorded = 1;
    let mut cut = 0;
    for nth in 1.. {
        relay.arm(nth, any, Fate::Lost);
        edge.record(EVENTS);
        recorded += EVENTS;
        let acknowledged = async || edge.acknowledged() >= recorded;
        eventually("everything is stored", acknowledged).await;
        assert_eq!(database.stored().await, recorded, "cut at message {nth}");
        if !relay.reached() {
            break;
        }
        cut += 1;
    }
    relay.disarm();
    edge.end().await;
    let what = format!("connection cut at each of {cut} messages");
    database
        .has_exactly(recorded, directory.path(), &what)
        .await;
    assert!(cut > 30, "{cut}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_at_any_step_loses_and_repeats_nothing() {
    let Some(mut server) = TestServer::start(&[]) else {
        return;
    };
    let database = server.migrated_database().await;
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::to(server.port());
    let manager = database.manager_through(relay.port(), &Config::default());
    let edge = Edge::start(directory.path(), &manager, &Clock::system());
    edge.record(1);
    eventually("the first is stored", async || edge.acknowledged() == 1).await;
    let mut recorded = 1;
    let mut killed = 0;
    for nth in 1.. {
        relay.arm(nth, Message::ends_a_turn, Fate::Held);
        edge.record(EVENTS);
        recorded += EVENTS;
        let over = async || relay.reached() || edge.acknowledged() >= recorded;
        eventually("it comes so far", over).await;
        if !relay.reached() {
            break;
        }
        server.stop();
        relay.release();
        server.restart();
        killed += 1;
        let acknowledged = async || edge.acknowledged() >= recorded;
        eventually("everything is stored", acknowledged).await;
        assert_eq!(database.stored().await, recorded, "killed at step {nth}");
    }
    relay.disarm();
    edge.end().await;
    let what = format!("server killed at each of {killed} steps");
    database
        .has_exactly(recorded, directory.path(), &what)
        .await;
    assert!(killed > 10, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_connections_and_never_answers_is_not_waited_for() {
    let Some(database) = database().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::to(database.server().port);
    let manager = database.manager_through(relay.port(), &impatient());
    let edge = Edge::start(directory.path(), &manager, &Clock::system());
    edge.record(1);
    eventually("the first is stored", async || edge.acknowledged() == 1).await;
    let mut recorded = 1;
    // At the beginning, in the middle, at COMMIT, and when its answer is due.
    for nth in [1, 4, 13, 14] {
        relay.arm(nth, Message::ends_a_turn, Fate::Held);
        edge.record(EVENTS);
        recorded += EVENTS;
        eventually("it comes so far", async || relay.reached()).await;
        // What is connected to now is as silent.
        relay.be_deaf(true);
        eventually("the edge gives up", async || edge.is_failing()).await;
        let error = manager.ready_ingest().await.err().unwrap().to_string();
        assert!(error.contains("does not answer"), "{error}");
        relay.be_deaf(false);
        // Now what was said arrives, late.
        relay.release();
        let acknowledged = async || edge.acknowledged() >= recorded;
        eventually("everything is stored", acknowledged).await;
    }
    edge.end().await;
    let what = "server that does not answer";
    database.has_exactly(recorded, directory.path(), what).await;
}

/// Not a test: what the tests below kill. It is told the directory, the port
/// and the number of events on its standard input, tells when these are
/// recorded, and ships until its input ends.
#[tokio::test]
#[ignore = "runs in a process of its own, which is killed"]
async fn ship_until_killed() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    let [directory, url, events] = words[..] else {
        return;
    };
    let server = Server::from_url(url).unwrap();
    let manager = DatabaseManager::postgres(&server, &Config::default()).unwrap();
    let (edge, ship) = Edge::prepare(Path::new(directory), &manager, &Clock::system());
    edge.record(events.parse().unwrap());
    println!("recorded");
    ship();
    let wait = || std::io::stdin().read_line(&mut String::new());
    tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
    edge.end().await;
}

/// A process that has recorded so many events and ships them.
fn shipping(directory: &TempDir, url: &str, events: u64) -> Child {
    let name = "crash_points::ship_until_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.as_mut().unwrap();
    writeln!(input, "{} {url} {events}", directory.path().display()).unwrap();
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let recorded = lines
        .map(Result::unwrap)
        .any(|line| line.ends_with("recorded"));
    assert!(recorded, "{:?}", child.wait());
    child
}

fn through(database: &TestDatabase, relay: &Relay) -> String {
    let direct = format!(":{}/", database.server().port);
    database
        .url
        .replace(&direct, &format!(":{}/", relay.port()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_at_any_step_loses_and_repeats_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let relay = Relay::to(database.server().port);
    let url = through(&database, &relay);
    let mut recorded = 0;
    let mut killed = 0;
    for nth in 1.. {
        relay.arm(nth, Message::ends_a_turn, Fate::Held);
        let mut child = shipping(&directory, &url, EVENTS);
        recorded += EVENTS;
        let over = async || relay.reached() || database.stored().await == recorded;
        eventually("it comes so far", over).await;
        if !relay.reached() {
            // It has nothing to do any more but to end: at some step of that?
            drop(child.stdin.take());
            let over = async || relay.reached() || child.try_wait().unwrap().is_some();
            eventually("it ends", over).await;
            if !relay.reached() {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        relay.release();
        killed += 1;
    }
    relay.disarm();
    let what = format!("process killed at each of {killed} steps");
    database
        .has_exactly(recorded, directory.path(), &what)
        .await;
    assert!(killed > 30, "{killed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_while_segments_are_deleted_loses_and_repeats_nothing() {
    // Some twenty segments.
    const MANY: u64 = 10_000;
    let Some(database) = database().await else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let mut recorded = 0;
    for deleted in [1, 2, 5] {
        let relay = Relay::to(database.server().port);
        // Nothing is shipped before the segments are counted.
        relay.be_deaf(true);
        let mut child = shipping(&directory, &through(&database, &relay), MANY);
        recorded += MANY;
        let all = segments(directory.path());
        relay.be_deaf(false);
        relay.release();
        let gone = async || segments(directory.path()) + deleted <= all;
        eventually("segments are deleted", gone).await;
        child.kill().unwrap();
        child.wait().unwrap();
        println!("killed at {} of {all} segments", segments(directory.path()));
    }
    let edge = Edge::start(directory.path(), &database.manager(), &Clock::system());
    eventually("everything is stored", async || {
        database.stored().await >= recorded
    })
    .await;
    edge.end().await;
    let what = "process killed while segments are deleted";
    database.has_exactly(recorded, directory.path(), what).await;
}

/// How many there are, of all processes.
fn segments(data: &Path) -> usize {
    fn count(directory: &Path) -> usize {
        let Ok(entries) = fs::read_dir(directory) else {
            return 0;
        };
        let counts = entries.flatten().map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                count(&path)
            } else {
                usize::from(path.extension().is_some_and(|name| name == "segment"))
            }
        });
        counts.sum()
    }
    count(&data.join("journal"))
}
