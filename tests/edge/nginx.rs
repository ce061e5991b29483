//! nginx in front of an application, asking the edge as the sample has it, and
//! attacked.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::client::Connection;
use crate::proxies::{self, Scene};

const SAMPLE: &str = include_str!("../../config/decision/nginx.conf");

/// nginx with the sample's server, an edge that it asks, and an application;
/// `None` where nginx is not installed.
fn scene() -> Option<Scene> {
    let program = nginx()?;
    let socket = |directory: &Path| directory.join("decision.sock").display().to_string();
    Some(Scene::set(
        |place| {
            let socket = socket(place.directory);
            let listener =
                format!("[decisions.nginx]\ndialect = \"nginx\"\nlisten = \"unix:{socket}\"\n");
            (listener, Vec::new())
        },
        |place| {
            let server = SAMPLE
                .replace("/run/cypheron-edge/decision.sock", &socket(place.directory))
                .replace("127.0.0.1:9000", &place.application.to_string())
                .replace("listen 8000", &format!("listen {}", place.address));
            let mut nginx = Command::new(program);
            nginx.args(["-e", "error.log", "-p"]).arg(place.directory);
            nginx.arg("-c").arg(configuration(place.directory, &server));
            nginx
        },
    ))
}

fn configuration(directory: &Path, server: &str) -> std::path::PathBuf {
    let path = directory.join("nginx.conf");
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", directory.display()))
        .concat();
    let user = if rustix::process::getuid().is_root() {
        "user root;\n"
    } else {
        ""
    };
    let text = format!(
        "{user}daemon off;\nworker_processes 1;\npid nginx.pid;\nevents {{}}\nhttp {{\n\
         access_log off;\n{temporary}{server}\n}}\n"
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn what_the_edge_admits_nginx_forwards_with_its_word_for_it() {
    let Some(scene) = scene() else { return };
    proxies::what_is_admitted_is_vouched_for(&scene);
    let named = scene.get("/open", &[("X-Request-Id", "r-1")]).text();
    assert!(
        named.to_lowercase().contains("x-request-id: r-1\r\n"),
        "{named}"
    );
}

#[test]
fn what_the_edge_refuses_nginx_refuses_with_the_edges_words() {
    let Some(scene) = scene() else { return };
    proxies::what_is_refused_is_refused_in_the_edges_words(scene, 500);
}

#[test]
fn what_a_client_forges_is_refused_or_not_believed() {
    let Some(scene) = scene() else { return };
    proxies::forged_fields_are_not_believed(&scene);
    for path in ["/_edge_decision", "/_edge_decision?x", "/@edge_refused"] {
        let inner = scene.get(path, &[("X-Original-URI", "/open")]);
        assert!(
            matches!(inner.status, 401 | 404),
            "{path}: {}",
            inner.status
        );
    }
}

#[test]
fn an_odd_target_is_refused_or_forwarded_as_it_was_decided_on() {
    let Some(scene) = scene() else { return };
    proxies::odd_targets_are_what_was_decided_on(&scene);
}

#[test]
fn connections_to_the_edge_are_kept_and_its_restart_is_survived() {
    let Some(mut scene) = scene() else { return };
    let token = scene.deployment.key("steady", &["--rate-limit", "100000"]);
    let mut connection = Connection::open(scene.address).unwrap();
    for _ in 0..100 {
        let answer = connection.get("/orders", &[("X-API-Key", &token)]).unwrap();
        assert_eq!(answer.status, 200);
    }
    scene.stop_the_edge();
    scene.start_the_edge();
}

/// The program; `None` where the tests may be skipped.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is told by the environment what is there"
)]
fn nginx() -> Option<&'static str> {
    let runs = |program: &&str| Command::new(program).arg("-v").output().is_ok();
    let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(runs);
    if found.is_none() {
        let line = "sudo apt-get install -y nginx-light";
        let all = std::env::var("CYPHERON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!all, "nginx is not installed: {line}");
        let skipped = format!("SKIPPED: nginx is not installed; get it with: {line}\n");
        // Past what the test harness keeps to itself.
        std::io::stdout().write_all(skipped.as_bytes()).unwrap();
    }
    found
}
