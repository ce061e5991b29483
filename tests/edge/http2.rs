//! Other people's clients of HTTP/2, through the edge.

use std::fs;
use std::io::Write;
use std::process::Command;

use crate::certificate::Certificate;
use crate::process::{Deployment, Edge, eventually};
use crate::script::Script;
use crate::upstream::Upstream;

#[test]
fn another_library_keeps_its_windows_and_is_kept_to_them() {
    let Some(mut peers) = Script::start("http2_client.py", "h2") else {
        return;
    };
    let edge = Deployment::new(peers.address, "");
    let token = edge.key("reader", &[]);
    let running = edge.serve();
    peers.go_through(edge.traffic, &[&token]);
    for said in ["flow control", "upload", "ping and settings", "refused"] {
        peers.says(said);
    }
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

/// A fraction of what clients ask for that take nothing.
const BOUNDED: u64 = 100 << 20;

/// The memory that it has, in bytes.
fn resident(edge: &Edge) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", edge.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() << 10
}

#[test]
fn who_takes_nothing_costs_little_and_is_cut_when_it_was_idle_for_long() {
    let Some(mut peers) = Script::start("http2_hostile.py", "h2") else {
        return;
    };
    let idle = "CYPHERON_EDGE__SERVER__IDLE_TIMEOUT";
    let edge = Deployment::in_environment(peers.address, "", [(idle, "1s".to_owned())]);
    let token = edge.key("taker", &[]);
    let running = edge.serve();
    let before = resident(&running);
    peers.go_through(edge.traffic, &[&token]);
    peers.says("fields 431 431 200");
    for flood in ["pings", "settings"] {
        peers.says(&format!("{flood} held up"));
        peers.says("others 200");
    }
    peers.says("stalled");
    let grown = resident(&running).saturating_sub(before);
    assert!(grown < BOUNDED, "{grown} bytes more");
    peers.says("closed");
    eventually("nobody is left", || {
        edge.count("cypheron_edge_connections", "") == 0
    });
    assert_eq!(running.stop(), Some(0), "{}", edge.log_text());
}

/// Whether they are installed; says so if not.
fn are_there() -> bool {
    if Command::new("h2load").arg("--version").output().is_ok() {
        return true;
    }
    let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    let line = "sudo apt-get install -y nghttp2-client";
    let skipped = format!("SKIPPED: nghttp2 is not installed; get it with: {line}\n");
    assert!(!all, "{skipped}");
    std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    false
}

#[track_caller]
fn printed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text
}

#[test]
fn nghttp_and_h2load_are_served_in_plain_and_over_tls() {
    if !are_there() {
        return;
    }
    let upstream = Upstream::start();
    let directory = tempfile::tempdir().unwrap();
    let tls = Certificate::make(directory.path(), "edge").settings();
    for (scheme, settings) in [("http", String::new()), ("https", tls)] {
        let edge = Deployment::new(upstream.address, &settings);
        let token = edge.key("loader", &["--rate-limit", "1000000"]);
        let _running = edge.serve();
        let url = format!("{scheme}://{}/", edge.traffic);
        let key = format!("x-api-key: {token}");
        let seen = printed("nghttp", &["-v", "-H", &key, &url]);
        assert!(seen.contains(":status: 200"), "{seen}");
        let refused = printed("nghttp", &["-v", &url]);
        assert!(refused.contains(":status: 401"), "{refused}");
        let loaded = printed("h2load", &["-n2000", "-c8", "-m20", "-H", &key, &url]);
        assert!(loaded.contains("status codes: 2000 2xx"), "{loaded}");
    }
}
