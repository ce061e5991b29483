//! Peers that take more than their share, and balancers that speak for others.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::client::{self, Connection};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::upstream::Upstream;

/// Enough to start, and few enough to run out of.
pub const DESCRIPTORS: usize = 160;

#[test]
fn an_edge_that_ran_out_of_file_descriptors_serves_whom_it_has_and_then_all() {
    let upstream = Upstream::start();
    let edge = Deployment::new(upstream.address, "");
    let token = edge.key("client", &[]);
    let mut limited = edge.serve_after(&format!("ulimit -n {DESCRIPTORS}"));
    limited.stdin(Stdio::null()).stdout(Stdio::null());
    let child = limited.stderr(edge.log_file()).spawn().unwrap();
    let _running = Edge::of(child);
    let ask = |connection: &mut Connection| connection.get("/", &[("X-API-Key", &token)]);
    let mut early = None;
    eventually("the edge is ready", || {
        early = Connection::open(edge.traffic).ok();
        let answer = early.as_mut().and_then(|early| ask(early).ok());
        answer.is_some_and(|answer| answer.status == 200)
    });
    let mut early = early.unwrap();
    // The kernel takes them, and the edge cannot have them all.
    let many: Vec<_> = (0..2 * DESCRIPTORS)
        .map(|_| TcpStream::connect(edge.traffic).unwrap())
        .collect();
    eventually("it is said that there are none left", || {
        edge.log_text().contains("cannot accept connections")
    });
    for _ in 0..10 {
        assert_eq!(ask(&mut early).unwrap().status, 200);
    }
    drop(many);
    eventually("others are served again", || {
        let late = Connection::open(edge.traffic);
        late.is_ok_and(|mut late| ask(&mut late).is_ok_and(|answer| answer.status == 200))
    });
    assert!(edge.count("cypheron_edge_accept_failures_total", "") > 0);
    let told = edge.log_text().matches("cannot accept connections").count();
    assert!(told < 20, "told {told} times");
}

/// A balancer of TCP, which says whose connections it relays.
struct Balancer {
    address: SocketAddr,
    _running: Edge,
    _directory: tempfile::TempDir,
}

const HAPROXY: &str = "/usr/sbin/haproxy";

impl Balancer {
    /// `clients` are what connects to it.
    fn start(edge: SocketAddr, speaks: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (config, address) = (directory.path().join("config"), free_address());
        let text = format!(
            "global\n  maxconn 100\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n\
             frontend front\n  bind {address}\n  default_backend back\n\
             backend back\n  source 127.0.0.9\n  server edge {edge} {speaks}\n"
        );
        fs::write(&config, text).unwrap();
        let child = Command::new(HAPROXY)
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Edge::of(child);
        eventually("the balancer listens", || {
            TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            _running: running,
            _directory: directory,
        }
    }
}

#[test]
fn the_address_that_a_balancer_tells_is_the_clients_in_policy_fields_and_usage() {
    if !is_installed(HAPROXY, "haproxy") {
        return;
    }
    let upstream = Upstream::start();
    let settings = "[server.proxy_protocol]\nfrom = [\"127.0.0.9/32\"]";
    let edge = Deployment::new(upstream.address, settings);
    let anywhere = edge.key("anywhere", &[]);
    let here = edge.key("here", &["--allow-ip", "127.0.0.1"]);
    let balancers_own = edge.key("balancers", &["--allow-ip", "127.0.0.9"]);
    let running = edge.serve();
    for speaks in ["send-proxy", "send-proxy-v2"] {
        let balancer = Balancer::start(edge.traffic, speaks);
        let ask = |token: &str| client::get(balancer.address, "/", &[("X-API-Key", token)]);
        let seen = ask(&anywhere).text().to_lowercase();
        assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n"), "{seen}");
        assert_eq!(ask(&here).status, 200, "{speaks}");
        assert_eq!(ask(&balancers_own).status, 403, "{speaks}");
    }
    // Without the header the balancer is not heard; whoever is none needs none.
    let mute = Balancer::start(edge.traffic, "");
    let mut answer = Vec::new();
    let mut stream = TcpStream::connect(mute.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .unwrap();
    // Closed, perhaps with a reset.
    stream.read_to_end(&mut answer).ok();
    assert_eq!(answer, b"");
    let direct = client::get(edge.traffic, "/", &[("X-API-Key", &here)]);
    assert_eq!(direct.status, 200);
    assert!(edge.count("cypheron_edge_proxy_headers_failed_total", "malformed") > 0);
    drop(mute);
    assert_eq!(running.stop(), Some(0));
    assert_eq!(stored_clients(&edge), ["127.0.0.1"]);
}

/// Every address that is in the usage.
fn stored_clients(edge: &Deployment) -> Vec<String> {
    let usage = rusqlite::Connection::open(edge.data().join("usage.db")).unwrap();
    let mut clients = usage
        .prepare("SELECT DISTINCT client_ip FROM usage_events")
        .unwrap();
    let clients = clients.query_map([], |row| row.get(0)).unwrap();
    clients.map(Result::unwrap).collect()
}

/// Whether `program` is there; where it has to be, it is a failure that it is not.
pub fn is_installed(program: &str, package: &str) -> bool {
    let found = Path::new(program).exists();
    if !found {
        let skipped = format!(
            "SKIPPED: {program} is not installed; get it with: sudo apt-get install -y {package}\n"
        );
        let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "{skipped}");
        // Written so that it is seen even where a test's output is captured.
        std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    }
    found
}

/// Reads what it is sent for as long as it comes, or answers a `GET` with more
/// than anybody takes.
fn patient_upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut begin = [0; 3];
                if stream.read_exact(&mut begin).is_ok() && &begin == b"GET" {
                    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
                    stream.write_all(head.as_bytes())?;
                    return std::io::copy(&mut std::io::repeat(b'x'), &mut stream);
                }
                std::io::copy(&mut stream, &mut std::io::sink())
            });
        }
    });
    address
}

const SLOWHTTPTEST: &str = "/usr/bin/slowhttptest";

/// What slowhttptest sends, and how.
const ATTACKS: [(&str, &[&str]); 3] = [
    ("heads that never end", &["-H", "-i", "1"]),
    ("bodies that never end", &["-B", "-i", "1", "-s", "100000"]),
    (
        "answers that nobody reads",
        &["-X", "-w", "10", "-y", "20", "-n", "1", "-z", "512"],
    ),
];

#[test]
fn slowhttptest_holds_no_connection_and_keeps_nobody_else_from_an_answer() {
    if !is_installed(SLOWHTTPTEST, "slowhttptest") {
        return;
    }
    let upstream = Upstream::start();
    let settings = format!(
        "[upstreams.patient]\ntarget = \"http://{}\"\n\
         [[routes]]\nname = \"patient\"\npath = \"/patient\"\nupstream = \"patient\"\n\
         public = true\nbody_timeout = \"1s\"",
        patient_upstream()
    );
    let environment = [
        ("CYPHERON_EDGE__SERVER__FIRST_BYTE_TIMEOUT", "1s"),
        ("CYPHERON_EDGE__SERVER__HEADER_TIMEOUT", "1s"),
        ("CYPHERON_EDGE__SERVER__IDLE_TIMEOUT", "1s"),
        ("CYPHERON_EDGE__SERVER__MIN_RATE", "1MB"),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let edge = Deployment::in_environment(upstream.address, &settings, environment);
    let token = edge.key("client", &["--rate-limit", "1000000"]);
    let _running = edge.serve();
    for (what, attack) in ATTACKS {
        let mut attacker = Command::new(SLOWHTTPTEST)
            .args(["-c", "150", "-r", "150", "-l", "60", "-p", "10"])
            .args(attack)
            .args(["-u", &format!("http://{}/patient", edge.traffic)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut answered = 0;
        while attacker.try_wait().unwrap().is_none() {
            let answer = client::get(edge.traffic, "/", &[("X-API-Key", &token)]);
            assert_eq!(answer.status, 200, "{what}");
            answered += 1;
            thread::sleep(Duration::from_millis(20));
        }
        let mut said = String::new();
        let mut output = attacker.stdout.take().unwrap();
        output.read_to_string(&mut said).unwrap();
        assert!(said.contains("No open connections left"), "{what}: {said}");
        assert!(answered > 0, "{what}");
    }
    for what in ["head", "answer"] {
        let cut = edge.count("cypheron_edge_connections_closed_slow_total", what);
        assert!(cut > 0, "{what}");
    }
}
