//! Restarts under load: nobody is refused, no answer is cut, no usage is lost.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::client::{Connection, get};
use crate::crash::complete_rows_by_key_name;
use crate::load::{Client, Load, Task, name};
use crate::peers::{DESCRIPTORS, is_installed};
use crate::process::{Deployment, Edge, eventually};
use crate::serving::rows;
use crate::upstream::Upstream;

pub const RESTARTS: usize = 3;

/// How a client goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// On the same connection, unless it was told that it ends.
    KeepsAlive,
    /// On another one.
    ConnectsAnew,
}

const CLIENTS: [Habit; 4] = [
    Habit::KeepsAlive,
    Habit::ConnectsAnew,
    Habit::KeepsAlive,
    Habit::ConnectsAnew,
];

fn clients() -> impl Iterator<Item = Client> {
    CLIENTS
        .into_iter()
        .map(|habit| -> Client { Box::new(move |task| ask(habit, task)) })
}

fn ask(habit: Habit, task: &Task) {
    let mut kept: Option<Connection> = None;
    while task.goes_on() {
        let mut connection = kept.take().unwrap_or_else(|| {
            Connection::open(task.edge)
                .unwrap_or_else(|error| panic!("{habit:?}: refused: {error}"))
        });
        let answer = connection
            .get("/", &[("X-API-Key", &task.token)])
            .unwrap_or_else(|error| panic!("{habit:?}: cut: {error}"));
        assert_eq!(answer.status, 200);
        task.count();
        if habit == Habit::KeepsAlive && answer.header("connection") != Some("close") {
            kept = Some(connection);
        }
        // Enough to see, and little for a machine that does other work.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Nobody comes after the last edge: it has the time to store what it has, on a
/// busy machine too.
pub fn flushes() -> [(&'static str, String); 1] {
    [("CYPHERON_EDGE__USAGE__FLUSH_TIMEOUT", "1m".to_owned())]
}

/// Every answer that a client saw has one row, and there are no others.
#[expect(clippy::print_stdout, reason = "the counts are to be seen")]
pub fn everything_is_stored_once(edge: &Deployment, seen: &[u64]) {
    // Whoever stores anything has ended.
    let stored = complete_rows_by_key_name(edge);
    assert_eq!(
        rows(edge),
        i64::try_from(seen.iter().sum::<u64>()).unwrap(),
        "{seen:?}, {stored:?}, {}",
        edge.log_text()
    );
    for (number, seen) in seen.iter().enumerate() {
        assert_eq!(stored[&name(number)], *seen, "{}", name(number));
    }
    let verified = edge.run(&["usage", "verify", "--dead-after", "0s"]);
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    println!("answers: {seen:?}; rows: {stored:?}");
}

/// Starts an edge the way systemd does: it is handed what was opened for it.
fn serve_on(edge: &Deployment, traffic: &TcpListener, health: &TcpListener) -> Edge {
    let mut command = activated(edge, "exec 3<&0 4<&1 </dev/null >/dev/null", 2);
    command
        .env("LISTEN_FDNAMES", "traffic:health")
        .stdin(copy(traffic))
        .stdout(copy(health));
    edge.started(command, edge.health)
}

/// `serve`, after `moves` of what it has for standard input and output.
fn activated(edge: &Deployment, moves: &str, count: usize) -> Command {
    edge.serve_after(&format!("{moves}; export LISTEN_PID=$$ LISTEN_FDS={count}"))
}

fn copy(socket: &impl AsFd) -> Stdio {
    let copy: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
    copy.into()
}

#[test]
fn on_sockets_that_systemd_keeps_restarts_refuse_cut_and_lose_nothing() {
    let upstream = Upstream::start();
    let edge = Deployment::in_environment(upstream.address, "", flushes());
    let traffic = TcpListener::bind(edge.traffic).unwrap();
    let health = TcpListener::bind(edge.health).unwrap();
    // Where it would listen by itself, it is not to be found.
    let text = std::fs::read_to_string(edge.config()).unwrap();
    let elsewhere = text.replace(
        &format!("listen = \"{}\"", edge.traffic),
        "listen = \"127.0.0.1:1\"",
    );
    std::fs::write(edge.config(), elsewhere).unwrap();
    let mut running = serve_on(&edge, &traffic, &health);
    let load = Load::begin(&edge, clients());
    for _ in 0..RESTARTS {
        load.goes_on();
        assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
        running = serve_on(&edge, &traffic, &health);
    }
    load.goes_on();
    let seen = load.end();
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    everything_is_stored_once(&edge, &seen);
}

#[test]
fn a_socket_that_nothing_is_served_on_is_refused_by_name() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let refused = |names: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = activated(&edge, "exec 3<&0 </dev/null", 1);
        command.env("LISTEN_FDNAMES", names).stdin(copy(&listener));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    for (names, told) in [
        ("cypheron-edge.socket", "FileDescriptorName"),
        ("decisions.nginx", "`decisions.nginx`"),
        ("traffic:health", "2 names for 1"),
    ] {
        let error = refused(names);
        assert!(error.contains(told), "{names}: {error}");
    }
}

/// With a listener of each kind.
fn with_decisions(upstream: &Upstream) -> (Deployment, tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("decision.sock");
    let settings = format!(
        "[decisions.nginx]\ndialect = \"nginx\"\nlisten = \"unix:{}\"",
        socket.display()
    );
    (
        Deployment::in_environment(upstream.address, &settings, flushes()),
        directory,
        socket,
    )
}

/// Starts an edge that takes over from one that runs, and waits until that ended.
pub fn taken_over(edge: &Deployment, mut running: Edge) -> Edge {
    let next = edge.command(&["serve", "--take-over"]);
    let mut next = edge.started(next, edge.health);
    eventually("the process before has ended", || {
        assert!(next.ended().is_none(), "{}", edge.log_text());
        running.ended().is_some()
    });
    assert_eq!(running.wait(), Some(0), "{}", edge.log_text());
    next
}

#[test]
fn processes_that_take_over_from_each_other_refuse_cut_and_lose_nothing() {
    let upstream = Upstream::start();
    let (edge, _directory, socket) = with_decisions(&upstream);
    let mut running = edge.serve();
    let load = Load::begin(&edge, clients());
    for _ in 0..RESTARTS {
        load.goes_on();
        running = taken_over(&edge, running);
        assert_eq!(get(edge.health, "/readyz", &[]).status, 200);
        UnixStream::connect(&socket).expect("decisions are asked for where they were");
    }
    load.goes_on();
    let seen = load.end();
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    assert!(Connection::open(edge.traffic).is_err(), "a socket was left");
    everything_is_stored_once(&edge, &seen);
}

#[test]
fn a_process_that_cannot_take_over_changes_nothing() {
    let upstream = Upstream::start();
    let (edge, _directory, socket) = with_decisions(&upstream);
    let running = edge.serve();
    let load = Load::begin(&edge, clients());
    load.goes_on();
    for _ in 0..RESTARTS {
        let mut next = edge.command(&["serve", "--take-over"]);
        next.env(
            "PQ_ENCRYPTION_PASSWORD",
            "not the password of this keyring at all",
        );
        let output = next.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        load.goes_on();
    }
    assert_eq!(get(edge.health, "/readyz", &[]).status, 200);
    UnixStream::connect(&socket).unwrap();
    let seen = load.end();
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
    everything_is_stored_once(&edge, &seen);
}

#[test]
fn a_process_without_a_file_descriptor_hands_over_once_it_has_one() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let limited = edge.serve_after(&format!(
        "exec </dev/null >/dev/null; ulimit -n {DESCRIPTORS}"
    ));
    let running = edge.started(limited, edge.health);
    // The kernel takes them, and the edge cannot have them all.
    let many: Vec<_> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(edge.traffic).unwrap())
        .collect();
    let has_none_for = |listener: &str| {
        let log = edge.log_text();
        let mut lines = log.lines();
        lines.any(|line| line.contains("cannot accept connections") && line.contains(listener))
    };
    eventually("no file descriptor is left", || has_none_for("traffic"));
    let file = edge.data().join(format!("{}.sock", edge.traffic));
    let mut asking = Vec::new();
    eventually("nobody can take over", || {
        // One that was just given back may be left, and a few more.
        if asking.len() < DESCRIPTORS {
            asking.push(UnixStream::connect(&file).unwrap());
        }
        has_none_for("handover")
    });
    drop((asking, many));
    let running = taken_over(&edge, running);
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

const SYSTEMD: &str = "/usr/bin/systemd-socket-activate";

#[test]
fn systemd_s_own_tool_starts_an_edge_for_the_client_that_waits() {
    if !is_installed(SYSTEMD, "systemd") {
        return;
    }
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("first", &[]);
    let serve = edge.command(&["serve"]);
    let mut systemd = Command::new(SYSTEMD);
    for address in [edge.traffic, edge.health] {
        systemd.arg(format!("--listen={address}"));
    }
    systemd.arg("--fdname=traffic:health");
    for (name, value) in serve.get_envs() {
        let (name, value) = (name.to_str().unwrap(), value.unwrap().to_str().unwrap());
        systemd.arg(format!("--setenv={name}={value}"));
    }
    systemd.arg(serve.get_program()).arg("serve");
    systemd.stdin(Stdio::null()).stdout(Stdio::null());
    let child = systemd.stderr(edge.log_file()).spawn().unwrap();
    let running = Edge::of(child);
    let mut first = None;
    eventually("its sockets are there", || {
        first = Connection::open(edge.traffic).ok();
        first.is_some()
    });
    let answer = first.unwrap().get("/", &[("X-API-Key", &token)]).unwrap();
    assert_eq!(answer.status, 200, "{}", edge.log_text());
    assert_eq!(get(edge.health, "/readyz", &[]).status, 200);
    // It became the edge.
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}
