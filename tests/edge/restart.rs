//! Restarts under load: nobody is refused, no answer is cut, no usage is lost.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::client::Connection;
use crate::crash::complete_rows_by_key_name;
use crate::process::{Deployment, Edge, eventually};
use crate::serving::rows;
use crate::upstream::Upstream;

const RESTARTS: usize = 3;

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

/// Clients that bear neither a refused connection nor a cut answer.
struct Load {
    stop: Arc<AtomicBool>,
    seen: Vec<Arc<AtomicU64>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn begin(edge: &Deployment) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen: Vec<Arc<AtomicU64>> = CLIENTS.iter().map(|_| Arc::default()).collect();
        let clients = CLIENTS.iter().zip(&seen).enumerate();
        let clients = clients.map(|(number, (&habit, seen))| {
            let token = edge.key(&name(number), &["--rate-limit", "100000000"]);
            let (stop, seen, address) = (Arc::clone(&stop), Arc::clone(seen), edge.traffic);
            thread::spawn(move || ask(address, habit, &token, &stop, &seen))
        });
        let clients = clients.collect();
        Self {
            stop,
            seen,
            clients,
        }
    }

    fn seen(&self) -> Vec<u64> {
        let seen = self.seen.iter();
        seen.map(|seen| seen.load(Ordering::SeqCst)).collect()
    }

    /// Waits until every client had some more answers.
    fn goes_on(&self) {
        let before = self.seen();
        eventually("every client goes on", || {
            assert!(
                !self.clients.iter().any(JoinHandle::is_finished),
                "a client was disappointed"
            );
            let now = self.seen();
            now.iter()
                .zip(&before)
                .all(|(now, before)| *now > before + 100)
        });
    }

    /// How many answers each client had.
    fn end(self) -> Vec<u64> {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().unwrap();
        }
        self.seen
            .iter()
            .map(|seen| seen.load(Ordering::SeqCst))
            .collect()
    }
}

fn name(number: usize) -> String {
    format!("client-{number}")
}

fn ask(address: SocketAddr, habit: Habit, token: &str, stop: &AtomicBool, seen: &AtomicU64) {
    let mut kept: Option<Connection> = None;
    while !stop.load(Ordering::SeqCst) {
        let mut connection = kept.take().unwrap_or_else(|| {
            Connection::open(address).unwrap_or_else(|error| panic!("{habit:?}: refused: {error}"))
        });
        let answer = connection
            .get("/", &[("X-API-Key", token)])
            .unwrap_or_else(|error| panic!("{habit:?}: cut: {error}"));
        assert_eq!(answer.status, 200);
        seen.fetch_add(1, Ordering::SeqCst);
        if habit == Habit::KeepsAlive && answer.header("connection") != Some("close") {
            kept = Some(connection);
        }
        // Enough to see, and little for a machine that does other work.
        thread::sleep(Duration::from_millis(1));
    }
}

/// Every answer that a client saw has one row, and there are no others.
#[expect(clippy::print_stdout, reason = "the counts are to be seen")]
fn everything_is_stored_once(edge: &Deployment, seen: &[u64]) {
    let total: u64 = seen.iter().sum();
    eventually("everything is stored", || {
        rows(edge) >= i64::try_from(total).unwrap()
    });
    let stored = complete_rows_by_key_name(edge);
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
    let plain = edge.command(&["serve"]);
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(
            "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_PID=$$; \
             export LISTEN_FDS=2 LISTEN_FDNAMES=traffic:health; exec \"$0\" serve",
        )
        .arg(plain.get_program())
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(copy(traffic))
        .stdout(copy(health));
    edge.started(command, edge.health)
}

fn copy(socket: &impl AsFd) -> Stdio {
    let copy: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
    copy.into()
}

#[test]
fn on_sockets_that_systemd_keeps_restarts_refuse_cut_and_lose_nothing() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
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
    let load = Load::begin(&edge);
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
    let plain = edge.command(&["serve"]);
    let refused = |names: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut command = Command::new("sh");
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve";
        command
            .args(["-c", script])
            .arg(plain.get_program())
            .env_clear()
            .envs(
                plain
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            )
            .env("LISTEN_FDNAMES", names)
            .stdin(copy(&listener));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let error = refused("cypheron-edge.socket");
    assert!(
        error.contains("`cypheron-edge.socket`") && error.contains("FileDescriptorName"),
        "{error}"
    );
    let error = refused("decisions.nginx");
    assert!(error.contains("`decisions.nginx`"), "{error}");
    let error = refused("traffic:health");
    assert!(error.contains("2 names for 1"), "{error}");
}
