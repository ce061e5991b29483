//! nginx in front of an application, asking the edge as the sample has it, and
//! attacked.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::{self, Connection};
use crate::process::{Deployment, Edge, eventually, free_address};
use crate::proxies;
use crate::serving::rows;
use crate::upstream::Upstream;

const SAMPLE: &str = include_str!("../../config/decision/nginx.conf");

/// nginx with the sample's server, an edge that it asks, and an application.
struct Scene {
    deployment: Deployment,
    nginx: Option<Child>,
    address: SocketAddr,
    _upstream: Upstream,
    _directory: TempDir,
    edge: Option<Edge>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            // SIGTERM: its master takes the worker along.
            let id = i32::try_from(nginx.id()).unwrap();
            let process = rustix::process::Pid::from_raw(id).unwrap();
            rustix::process::kill_process(process, rustix::process::Signal::TERM).ok();
            nginx.wait().ok();
        }
    }
}

impl Scene {
    /// `None` where nginx is not installed.
    fn set() -> Option<Self> {
        let program = nginx()?;
        let directory = tempfile::tempdir().unwrap();
        let (upstream, address) = (Upstream::start(), free_address());
        let socket = directory.path().join("decision.sock");
        let listener = format!(
            "[decisions.nginx]\ndialect = \"nginx\"\nlisten = \"unix:{}\"\n",
            socket.display()
        );
        let deployment =
            Deployment::new(upstream.address, &[&listener, proxies::SETTINGS].concat());
        let server = SAMPLE
            .replace("/run/cypheron-edge/decision.sock", socket.to_str().unwrap())
            .replace("127.0.0.1:9000", &upstream.address.to_string())
            .replace("listen 8000", &format!("listen {address}"));
        let configuration = configuration(directory.path(), &server);
        let edge = deployment.serve();
        let nginx = Command::new(program)
            .args(["-e", "error.log", "-p"])
            .arg(directory.path())
            .arg("-c")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let scene = Self {
            deployment,
            nginx: Some(nginx),
            address,
            _upstream: upstream,
            _directory: directory,
            edge: Some(edge),
        };
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(scene)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> client::Response {
        client::get(self.address, path, headers)
    }
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
    let Some(scene) = Scene::set() else { return };
    let token = scene
        .deployment
        .key("reader", &["--permission", "orders:read"]);
    let bearer = format!("Bearer {token}");
    let admitted = scene.get(
        "/orders?a=b",
        &[("Authorization", &bearer), ("X-Request-Id", "r-1")],
    );
    assert_eq!(admitted.status, 200, "{}", admitted.text());
    let seen = admitted.text().to_lowercase();
    assert!(seen.starts_with("get /orders?a=b http/1.1\r\n"), "{seen}");
    for field in [
        "x-edge-key-name: reader\r\n",
        "x-edge-permissions: orders:read\r\n",
        "x-edge-route: all\r\n",
        "x-request-id: r-1\r\n",
        "x-forwarded-for: 127.0.0.1\r\n",
        "host: edge.test\r\n",
    ] {
        assert!(seen.contains(field), "no {field} in {seen}");
    }
    assert!(
        !seen.contains(&token.to_lowercase()),
        "the upstream saw the token"
    );
    assert!(admitted.header("ratelimit").is_some());

    let own = [
        ("X-API-Key", &*token),
        ("Authorization", "Bearer its.own.token"),
    ];
    let seen = scene.get("/orders", &own).text();
    assert!(
        seen.contains("Authorization: Bearer its.own.token\r\n"),
        "{seen}"
    );
    assert!(!seen.contains(&token), "the upstream saw the token");

    let open = scene.get("/open", &[]);
    assert_eq!(open.status, 200);
    assert!(open.text().contains("X-Edge-Route: open\r\n"));
}

#[test]
fn what_the_edge_refuses_nginx_refuses_with_the_edges_words() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let token = scene.deployment.key("twice", &["--rate-limit", "2"]);
    proxies::refusals_are_in_the_edges_words(scene.address, &token);
    assert_eq!(scene.edge.take().unwrap().stop(), Some(0));
    assert_eq!(rows(&scene.deployment), 4, "of the key's requests");
    let nobody = scene.get("/open", &[]);
    assert_eq!(
        nobody.status, 500,
        "nobody gets in where nobody can be asked"
    );
}

#[test]
fn what_a_client_forges_is_refused_or_not_believed() {
    let Some(scene) = Scene::set() else { return };
    proxies::forged_fields_are_not_believed(&scene.deployment, scene.address);
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
    let Some(scene) = Scene::set() else { return };
    proxies::odd_targets_are_what_was_decided_on(&scene.deployment, scene.address);
}

#[test]
fn connections_to_the_edge_are_kept_and_its_restart_is_survived() {
    let Some(mut scene) = Scene::set() else {
        return;
    };
    let token = scene.deployment.key("steady", &["--rate-limit", "100000"]);
    let mut connection = Connection::open(scene.address).unwrap();
    for _ in 0..100 {
        let answer = connection.get("/orders", &[("X-API-Key", &token)]).unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(scene.edge.take().unwrap().stop(), Some(0));
    scene.edge = Some(scene.deployment.serve());
    eventually("the new edge is asked", || {
        scene.get("/orders", &[("X-API-Key", &token)]).status == 200
    });
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
